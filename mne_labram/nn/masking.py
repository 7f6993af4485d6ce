"""Which tokens a model does not see."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["MASKINGS", "block_mask", "draw_mask", "mixed_mask", "random_mask"]

#: Accepted by ``masking=``.
MASKINGS = ("random", "mixed")
# How far the masked share of a sample strays from the one asked for.
_SPREAD = 0.2


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


def mixed_mask(
    n_samples: int,
    n_chans: int,
    n_patches: int,
    ratio: float = 0.5,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Hide single tokens in some samples, whole channels in others, all channels at some times in the rest.

    Parameters
    ----------
    n_samples, n_chans, n_patches : int
        Shape of the tokens.
    ratio : float
        Share of hidden tokens on average; in each sample up to 0.2 more or less.
    generator : torch.Generator | None
        Source of randomness, on the CPU; ``None`` is torch's global one.
    device : torch.device | str | None
        Where the mask is needed.

    Returns
    -------
    mask : Tensor of bool, shape (n_samples, n_chans * n_patches)
        True where a token is hidden, in channel-major order. In every sample at least one token is hidden and, if it
        has two or more, at least one is not.

    Raises
    ------
    ValueError
        If ``ratio`` is not between 0 and 1.

    Notes
    -----
    Ours. A single hidden token is mostly told by its neighbours on the head; a hidden channel has to be told from
    other channels, a hidden second from other times.
    """
    _check_ratio(ratio)
    shares = ratio + _SPREAD * (2.0 * torch.rand(n_samples, generator=generator, device="cpu") - 1.0)
    kinds = torch.randint(3, (n_samples,), generator=generator, device="cpu")
    rank = {
        0: torch.rand(n_samples, n_chans, n_patches, generator=generator, device="cpu"),
        1: torch.rand(n_samples, n_chans, 1, generator=generator, device="cpu").expand(-1, -1, n_patches),
        2: torch.rand(n_samples, 1, n_patches, generator=generator, device="cpu").expand(-1, n_chans, -1),
    }
    mask = torch.empty(n_samples, n_chans * n_patches, dtype=torch.bool)
    for i, (kind, share) in enumerate(zip(kinds.tolist(), shares.tolist(), strict=True)):
        # What cannot be hidden without hiding all is hidden token by token.
        if (kind == 1 and n_chans < 2) or (kind == 2 and n_patches < 2):
            kind = 0
        noise = rank[kind][i]
        n = (n_chans * n_patches, n_chans, n_patches)[kind]
        n_hidden = min(max(round(n * share), 1), max(n - 1, 1))
        levels = noise.unique()
        mask[i] = (noise >= levels[-min(n_hidden, len(levels))]).flatten()
    return mask.to(device)


def draw_mask(
    masking: str,
    n_samples: int,
    n_chans: int,
    n_patches: int,
    ratio: float,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Draw a mask of a kind given by name.

    Parameters
    ----------
    masking : {"random", "mixed"}
        :func:`random_mask` or :func:`mixed_mask`.
    n_samples, n_chans, n_patches : int
        Shape of the tokens.
    ratio : float
        Share of hidden tokens.
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
        If ``masking`` is neither, or ``ratio`` is not between 0 and 1.
    """
    if masking not in MASKINGS:
        raise ValueError(f"masking must be one of {', '.join(map(repr, MASKINGS))}, got {masking!r}.")
    if masking == "random":
        return random_mask(n_samples, n_chans * n_patches, ratio, generator=generator, device=device)
    return mixed_mask(n_samples, n_chans, n_patches, ratio, generator=generator, device=device)
