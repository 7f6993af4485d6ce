"""LaBraM (Jiang et al. 2024): classification, and later its tokenizer and masked modelling."""

from mne_labram.models.labram.classification import LabramForClassification

__all__ = ["LabramForClassification"]
