"""EEG foundation models and tokenizers for MNE-Python, Braindecode and MOABB."""

__version__ = "0.1.0.dev0"
