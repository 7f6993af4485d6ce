"""Modules that share their parameters with others, or their mode for a while."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["evaluating", "share_parameters"]


def share_parameters(module: nn.Module) -> nn.Module:
    """Copy a module without copying what it holds.

    Parameters
    ----------
    module : torch.nn.Module
        Any module.

    Returns
    -------
    module : torch.nn.Module
        Holds the very same parameters, buffers and children, in dictionaries of its own: giving the copy another
        buffer or child leaves the original alone.
    """
    new = object.__new__(type(module))
    new.__dict__.update(
        {name: copy.copy(value) if isinstance(value, dict | set) else value for name, value in module.__dict__.items()}
    )
    return new


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode for a while.

    Parameters
    ----------
    model : torch.nn.Module
        Every sub-module is afterwards in the mode that it was in before.

    Yields
    ------
    None
    """
    trained = [module for module in model.modules() if module.training]
    for module in trained:
        module.training = False
    try:
        yield
    finally:
        for module in trained:
            module.training = True
