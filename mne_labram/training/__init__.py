"""Fine-tuning."""

from mne_labram.training.windows import annotated_windows

__all__ = ["annotated_windows"]
