"""Where a step must not be rounded to bf16."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

__all__ = ["without_autocast"]


def without_autocast(device: torch.device) -> AbstractContextManager:
    """Return a context in which operations keep the number format of their inputs.

    Parameters
    ----------
    device : torch.device
        Where the inputs are.

    Returns
    -------
    context : context manager
        ``torch.autocast(..., enabled=False)``; nothing on the meta device, which has no autocast.
    """
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)
