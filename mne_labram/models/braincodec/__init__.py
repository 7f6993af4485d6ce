"""BrainCodec (Carzaniga et al. 2025): a neural codec."""

from mne_labram.models.braincodec.coding import BrainCodes
from mne_labram.models.braincodec.model import BrainCodec

__all__ = ["BrainCodec", "BrainCodes"]
