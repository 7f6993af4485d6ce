"""Fine-tuning."""

from .windows import annotated_windows

__all__ = ["annotated_windows"]
