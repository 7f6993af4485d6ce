"""EEGFoundation: amplitudes as codes, a RoFormer over time, attention between channels."""

from mne_labram.models.eegfoundation.classification import EEGFoundationForClassification
from mne_labram.models.eegfoundation.masked import EEGFoundationForMaskedModeling
from mne_labram.models.eegfoundation.tokenizer import AmplitudeTokenizer, round_trip_prd

__all__ = [
    "AmplitudeTokenizer",
    "EEGFoundationForClassification",
    "EEGFoundationForMaskedModeling",
    "round_trip_prd",
]
