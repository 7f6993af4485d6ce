"""Weights of all sets of hidden channels that a window has, found at once."""

from __future__ import annotations

import numpy as np
import torch

from mne_labram.nn.conditional import conditional_weights, visible_reference

__all__ = ["solve_patterns", "unit_trace"]

# Sets of hidden channels that are solved for at once: more would take memory and win nothing.
_AT_ONCE = 64


def unit_trace(covariances: torch.Tensor) -> torch.Tensor:
    """Scale covariances to a trace of 1.

    Parameters
    ----------
    covariances : Tensor, shape (..., n_channels, n_channels)
        In any unit.

    Returns
    -------
    covariances : Tensor, same shape
        Without one.
    """
    return covariances / covariances.diagonal(dim1=-2, dim2=-1).sum(-1).clamp_min(1e-12)[..., None, None]


def solve_patterns(
    model: torch.Tensor, hidden: list[np.ndarray], referential: np.ndarray
) -> dict[bytes, tuple[np.ndarray, np.ndarray]]:
    """Find weights, and the covariance of what remains unknown, of each set of hidden channels.

    Parameters
    ----------
    model : Tensor, shape (n_bands, n_channels, n_channels)
        How channels go together, in any unit.
    hidden : list of ndarray of bool, shape (n_channels,)
        Sets, which may come more than once.
    referential : ndarray of bool, shape (n_channels,)
        Channels that have a common reference; the others are differences of two electrodes.

    Returns
    -------
    solved : dict of bytes to (ndarray, ndarray)
        For ``off.tobytes()`` of each set: weights, shape (n_bands, n_channels, n_channels), as
        :func:`~mne_labram.nn.conditional.conditional_weights` has them, and the conditional covariance, same shape,
        as a multiple of the power of the visible channels, summed over them.
    """
    sets = {off.tobytes(): off for off in hidden}
    common = None if referential.all() else torch.from_numpy(referential).double()
    out: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}
    keys = list(sets)
    for first in range(0, len(keys), _AT_ONCE):
        some = keys[first : first + _AT_ONCE]
        seen = torch.from_numpy(~np.stack([sets[key] for key in some])).double()[:, None].expand(-1, len(model), -1)
        weights, unknown = conditional_weights(model.expand(len(some), -1, -1, -1), seen, referential=common)
        reference = visible_reference(seen, common)
        power = (reference @ model @ reference.transpose(-1, -2)).diagonal(dim1=-2, dim2=-1) * seen
        unknown = unknown / power.sum(dim=2)[..., None, None].clamp_min(1e-12)
        out |= {key: (w.numpy(), u.numpy()) for key, w, u in zip(some, weights, unknown, strict=True)}
    return out
