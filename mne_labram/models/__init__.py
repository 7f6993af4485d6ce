"""EEG foundation models, registered in Braindecode's tables."""

from mne_labram.models.braincodec import BrainCodec, BrainCodecForSeizure
from mne_labram.models.labram import LabramForClassification, LabramForMaskedModeling, LabramTokenizer
from mne_labram.models.neurostorm import NeuroStorm
from mne_labram.models.registry import register

__all__ = [
    "BrainCodec",
    "BrainCodecForSeizure",
    "LabramForClassification",
    "LabramForMaskedModeling",
    "LabramTokenizer",
    "NeuroStorm",
    "register",
]

register()
