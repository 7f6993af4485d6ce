"""Which patches a restoration model does not see."""

from __future__ import annotations

import torch
from torch import Tensor

from mne_labram.nn.masking import MASKINGS, block_mask, random_mask

__all__ = ["check_mask", "draw_equal_mask", "rows_by_count"]

# How far the masked share of a batch strays from the one asked for, with "mixed".
_SPREAD = 0.2


def draw_equal_mask(
    masking: str,
    n_samples: int,
    n_chans: int,
    n_patches: int,
    ratio: float,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Hide as many patches in each window of a batch, so that the visible ones make one tensor.

    Parameters
    ----------
    masking : {"random", "mixed"}
        ``"random"``: single patches, as officially. ``"mixed"`` (ours): single patches in some batches, whole channels
        or all channels at some times in others.
    n_samples, n_chans, n_patches : int
        Shape of the tokens.
    ratio : float
        Share of hidden patches; with ``"mixed"`` on average, in each batch up to 0.2 more or less, and for whole
        channels anything up to twice as much, since one missing channel is as common as many.
    generator : torch.Generator | None
        Source of randomness, on the CPU; ``None`` is torch's global one.
    device : torch.device | str | None
        Where the mask is needed.

    Returns
    -------
    mask : Tensor of bool, shape (n_samples, n_chans * n_patches)
        True where a patch is hidden, in channel-major order. At least one patch of every window is hidden and, if there
        are two or more, one is not.

    Raises
    ------
    ValueError
        If ``masking`` is neither, or ``ratio`` is not between 0 and 1.
    """
    if masking not in MASKINGS:
        raise ValueError(f"masking must be one of {', '.join(map(repr, MASKINGS))}, got {masking!r}.")
    if not 0.0 < ratio < 1.0:
        raise ValueError(f"The masked share must lie between 0 and 1, got {ratio}.")
    common = {"generator": generator, "device": device}
    if masking == "random":
        return random_mask(n_samples, n_chans * n_patches, _possible(ratio, n_chans * n_patches), **common)
    kind = int(torch.randint(3, (1,), generator=generator, device="cpu"))
    draw = float(torch.rand(1, generator=generator, device="cpu"))
    share = ratio + _SPREAD * (2.0 * draw - 1.0)
    if kind == 1 and n_chans > 1:
        share = _possible(2.0 * ratio * draw, n_chans)
        return block_mask(n_samples, n_chans, n_patches, share, axis="channels", **common)
    if kind == 2 and n_patches > 1:
        return block_mask(n_samples, n_chans, n_patches, _possible(share, n_patches), axis="time", **common)
    return random_mask(n_samples, n_chans * n_patches, _possible(share, n_chans * n_patches), **common)


def _possible(share: float, n: int) -> float:
    """Bring a share to between one and all but one of ``n``, where it may be rounded to either."""
    if n < 2:
        return 0.5
    # A little less than all but one: 1 - share times n is rounded down, and must not be rounded below 1 by a float.
    return min(max(share, 0.5 / n), (n - 1.001) / n)


def check_mask(mask: Tensor, x: Tensor, n_patches: int) -> Tensor:
    """Bring a mask into the shape (batch, n_tokens).

    Parameters
    ----------
    mask : Tensor of bool, shape (batch, n_chans * n_patches) or (batch, n_chans, n_patches)
        True where a patch is hidden.
    x : Tensor, shape (batch, n_chans, n_times)
        The signal.
    n_patches : int
        Patches per channel.

    Returns
    -------
    mask : Tensor of bool, shape (batch, n_chans * n_patches)
        On the device of the signal.

    Raises
    ------
    ValueError
        If the shape does not fit, it is not boolean, or a window has no visible patch.
    """
    shape = (len(x), x.shape[1] * n_patches)
    if mask.ndim == 3 and tuple(mask.shape[1:]) == (x.shape[1], n_patches):
        mask = mask.flatten(1)
    if mask.dtype != torch.bool or tuple(mask.shape) != shape:
        raise ValueError(
            f"A mask must be boolean, of the shape {shape} or {(len(x), x.shape[1], n_patches)}, "
            f"got {tuple(mask.shape)} of {mask.dtype}."
        )
    if bool(mask.all(dim=1).any()):
        raise ValueError(
            f"The mask hides all {shape[1]} patches of a window, and from nothing nothing can be restored; leave at "
            "least one visible."
        )
    return mask.to(x.device)


def rows_by_count(mask: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Put windows together that have as many visible patches.

    Parameters
    ----------
    mask : Tensor of bool, shape (batch, n_tokens)
        True where a patch is hidden.

    Returns
    -------
    groups : list of (rows, kept)
        Windows of a group, shape (n,), and their visible patches in rising order, shape (n, n_visible).
    """
    counts = (~mask).sum(dim=1)
    groups = []
    for count in counts.unique().tolist():
        rows = torch.nonzero(counts == count).flatten()
        groups.append((rows, torch.nonzero(~mask[rows])[:, 1].view(len(rows), count)))
    return groups
