"""What visible channels tell of hidden ones, if all of them are jointly normal."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["conditional_weights", "expected_covariance", "visible_reference"]


def visible_reference(visible: Tensor, referential: Tensor | None = None) -> Tensor:
    """Return what brings channels to the reference of the mean of those that are visible.

    Parameters
    ----------
    visible : Tensor, shape (..., n_chans)
        1 where a channel is visible, 0 where it is hidden; at least one is visible.
    referential : Tensor, shape (n_chans,) | None
        1 where a channel has the common reference, 0 where it is the difference of two electrodes, from which a
        reference has gone already: it stays as it is, and has no part in the mean. ``None``: all have it.

    Returns
    -------
    operator : Tensor, shape (..., n_chans, n_chans)
        ``operator @ x``: all channels minus that mean.
    """
    n_chans = visible.shape[-1]
    unit = torch.eye(n_chans, dtype=visible.dtype, device=visible.device)
    if referential is None:
        return unit - (visible / visible.sum(dim=-1, keepdim=True)).unsqueeze(-2)
    mean = visible * referential
    mean = mean / mean.sum(dim=-1, keepdim=True).clamp_min(1.0)
    return unit - referential.unsqueeze(-1) * mean.unsqueeze(-2)


def conditional_weights(
    covariances: Tensor, visible: Tensor, ridge: float = 1e-4, referential: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Predict hidden channels from visible ones.

    Parameters
    ----------
    covariances : Tensor, shape (..., n_chans, n_chans)
        Of all channels, in any common reference.
    visible : Tensor, shape (..., n_chans)
        1 where a channel is visible, 0 where it is hidden.
    ridge : float
        Added to the diagonal of what is inverted, as a share of its mean.
    referential : Tensor, shape (n_chans,) | None
        As in :func:`visible_reference`.

    Returns
    -------
    weights : Tensor, shape (..., n_chans, n_chans)
        ``weights @ x`` are all channels in the reference of the mean of the visible ones: themselves where they are
        visible, their conditional mean where not. Columns of hidden channels are zero, and rows add up to zero, so that
        ``x`` may have any reference.
    conditional : Tensor, shape (..., n_chans, n_chans)
        Covariance of what remains unknown: that of hidden channels given the visible ones, zero elsewhere.

    Notes
    -----
    The conditional mean and covariance of a normal distribution (Bishop 2006, Pattern Recognition and Machine Learning,
    equations 2.81 and 2.82). In a reference over all channels a hidden one would be told by the others exactly.
    """
    reference = visible_reference(visible, referential)
    referenced = reference @ covariances @ reference.transpose(-1, -2)
    hidden = 1.0 - visible
    inner = referenced * (visible.unsqueeze(-1) * visible.unsqueeze(-2))
    level = inner.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True) / visible.sum(-1, keepdim=True)
    # A unit where a channel is hidden keeps the matrix regular and leaves the others alone.
    inner = inner + torch.diag_embed((ridge * level + torch.finfo(inner.dtype).tiny) * visible + hidden)
    across = referenced * visible.unsqueeze(-2)
    weights = torch.linalg.solve(inner, across.transpose(-1, -2)).transpose(-1, -2)
    weights = weights * visible.unsqueeze(-2) * hidden.unsqueeze(-1)
    conditional = (referenced - weights @ referenced.transpose(-1, -2)) * (hidden.unsqueeze(-1) * hidden.unsqueeze(-2))
    return (weights + torch.diag_embed(visible)) @ reference, conditional


def expected_covariance(
    observed: Tensor, visible: Tensor, model: Tensor, ridge: float = 1e-4, referential: Tensor | None = None
) -> Tensor:
    """Complete covariances of which some rows were not observed.

    Parameters
    ----------
    observed : Tensor, shape (..., n_chans, n_chans)
        Covariances in any reference; what stands in rows and columns of hidden channels changes nothing.
    visible : Tensor, shape (..., n_chans)
        1 where a channel is visible, 0 where it is hidden.
    model : Tensor, shape (..., n_chans, n_chans)
        How channels go together, in any unit and reference.
    ridge : float
        As in :func:`conditional_weights`.
    referential : Tensor, shape (n_chans,) | None
        As in :func:`visible_reference`.

    Returns
    -------
    covariances : Tensor, shape (..., n_chans, n_chans)
        What is expected of all channels, in the average reference.

    Notes
    -----
    The expectation step of the EM algorithm for normal data with missing values (Little & Rubin 2019, Statistical
    Analysis with Missing Data, section 11.2). What remains unknown is scaled to the power of the visible channels.
    """
    weights, conditional = conditional_weights(model, visible, ridge, referential)
    filled = weights @ observed @ weights.transpose(-1, -2)
    reference = visible_reference(visible, referential)
    power = (filled.diagonal(dim1=-2, dim2=-1) * visible).sum(-1)
    modelled = ((reference @ model @ reference.transpose(-1, -2)).diagonal(dim1=-2, dim2=-1) * visible).sum(-1)
    scale = power / modelled.clamp_min(torch.finfo(modelled.dtype).tiny)
    average = visible_reference(torch.ones_like(visible), referential)
    return average @ (filled + conditional * scale[..., None, None]) @ average.transpose(-1, -2)
