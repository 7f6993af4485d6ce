"""LaBraM (Jiang et al. 2024): tokenizer, masked modelling, classification."""

from mne_labram.models.labram.classification import LabramForClassification
from mne_labram.models.labram.masked import LabramForMaskedModeling
from mne_labram.models.labram.tokenizer import LabramTokenizer

__all__ = ["LabramForClassification", "LabramForMaskedModeling", "LabramTokenizer"]
