"""Gram (Li et al. 2025): tokenizer, restoration, classification."""

from mne_labram.models.gram.classification import GramForClassification
from mne_labram.models.gram.restoration import GramForRestoration
from mne_labram.models.gram.tokenizer import GramTokenizer

__all__ = ["GramForClassification", "GramForRestoration", "GramTokenizer"]
