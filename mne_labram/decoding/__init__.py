"""Windows of a recording through a model, and scikit-learn transformers."""

from mne_labram.decoding.embedding import EEGEmbedding
from mne_labram.decoding.scores import EventScores
from mne_labram.decoding.tokenizer import EEGTokenizer

__all__ = ["EEGEmbedding", "EEGTokenizer", "EventScores"]
