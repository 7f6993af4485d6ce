"""EEG foundation models, registered in Braindecode's tables."""

from mne_labram.models.braincodec import BrainCodec, BrainCodecForSeizure
from mne_labram.models.brainforge import BrainForge
from mne_labram.models.deepsif import DeepSIF
from mne_labram.models.eegfoundation import (
    AmplitudeTokenizer,
    EEGFoundationForClassification,
    EEGFoundationForMaskedModeling,
)
from mne_labram.models.gram import GramForClassification, GramForRestoration, GramTokenizer
from mne_labram.models.labram import LabramForClassification, LabramForMaskedModeling, LabramTokenizer
from mne_labram.models.neurostorm import NeuroStorm
from mne_labram.models.registry import register

__all__ = [
    "AmplitudeTokenizer",
    "BrainCodec",
    "BrainCodecForSeizure",
    "BrainForge",
    "DeepSIF",
    "EEGFoundationForClassification",
    "EEGFoundationForMaskedModeling",
    "GramForClassification",
    "GramForRestoration",
    "GramTokenizer",
    "LabramForClassification",
    "LabramForMaskedModeling",
    "LabramTokenizer",
    "NeuroStorm",
    "register",
]

register()
