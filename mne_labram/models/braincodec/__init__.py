"""BrainCodec (Carzaniga et al. 2025): a neural codec, and seizures from its encoder."""

from mne_labram.models.braincodec.coding import BrainCodes
from mne_labram.models.braincodec.model import BrainCodec
from mne_labram.models.braincodec.seizure import BrainCodecForSeizure

__all__ = ["BrainCodec", "BrainCodecForSeizure", "BrainCodes"]
