"""Windows of a recording through a model, and scikit-learn transformers."""

from .embedding import EEGEmbedding
from .scores import EventScores
from .tokenizer import EEGTokenizer

__all__ = ["EEGEmbedding", "EEGTokenizer", "EventScores"]
