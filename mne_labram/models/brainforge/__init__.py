"""BrainForge: source imaging with a network that knows the head."""

from mne_labram.models.brainforge.model import BrainForge, SourcePosterior

__all__ = ["BrainForge", "SourcePosterior"]
