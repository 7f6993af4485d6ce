"""Which tokens a model does not see."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["block_mask", "random_mask"]


def _check_ratio(ratio: float) -> None:
    if not 0.0 < ratio < 1.0:
        raise ValueError(f"The masked share must lie between 0 and 1, got {ratio}.")


def _hide_largest(noise: Tensor, n_hidden: int) -> Tensor:
    """Mark the ``n_hidden`` largest values of each row."""
    mask = torch.zeros_like(noise, dtype=torch.bool)
    return mask.scatter_(1, noise.topk(n_hidden, dim=1).indices, True)


def random_mask(
    n_samples: int,
    n_tokens: int,
    ratio: float = 0.5,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Hide tokens at random, independently in each sample.

    Parameters
    ----------
    n_samples, n_tokens : int
        Shape of the mask.
    ratio : float
        Share of hidden tokens; ``n_tokens - int(n_tokens * (1 - ratio))`` are hidden in every sample, as in LaBraM,
        engine_for_pretraining.py.
    generator : torch.Generator | None
        Source of randomness, on the CPU; ``None`` is torch's global one.
    device : torch.device | str | None
        Where the mask is needed.

    Returns
    -------
    mask : Tensor of bool, shape (n_samples, n_tokens)
        True where a token is hidden.

    Raises
    ------
    ValueError
        If ``ratio`` is not between 0 and 1.
    """
    _check_ratio(ratio)
    noise = torch.rand(n_samples, n_tokens, generator=generator, device="cpu")
    return _hide_largest(noise, n_tokens - int(n_tokens * (1.0 - ratio))).to(device)


def block_mask(
    n_samples: int,
    n_chans: int,
    n_patches: int,
    ratio: float = 0.5,
    *,
    axis: str = "time",
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Hide whole channels, or all channels at some times, so that neighbours do not give the answer away.

    Parameters
    ----------
    n_samples, n_chans, n_patches : int
        Shape of the tokens.
    ratio : float
        Share of hidden channels or times, rounded up.
    axis : {"time", "channels"}
        What is hidden as a whole.
    generator : torch.Generator | None
        Source of randomness, on the CPU; ``None`` is torch's global one.
    device : torch.device | str | None
        Where the mask is needed.

    Returns
    -------
    mask : Tensor of bool, shape (n_samples, n_chans * n_patches)
        True where a token is hidden, in channel-major order.

    Raises
    ------
    ValueError
        If ``ratio`` is not between 0 and 1, or ``axis`` is neither of the two.
    """
    _check_ratio(ratio)
    if axis not in ("time", "channels"):
        raise ValueError(f"axis must be 'time' or 'channels', got {axis!r}.")
    n = n_patches if axis == "time" else n_chans
    noise = torch.rand(n_samples, n, generator=generator, device="cpu")
    hidden = _hide_largest(noise, n - int(n * (1.0 - ratio)))
    hidden = hidden.unsqueeze(1) if axis == "time" else hidden.unsqueeze(2)
    return hidden.expand(n_samples, n_chans, n_patches).flatten(1).to(device)
