"""What the covariance of a window tells of every source: the statistics that a network judges sources by."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["N_GLOBAL", "N_STATISTICS", "WindowStatistics", "white_noise_level", "whitener", "window_statistics"]

#: Ranks of the signal subspace that topographies are compared with.
_RANKS = (1, 2, 3, 4, 6, 9)
#: Regularisation of the minimum-norm maps, as a share of the mean gain.
_REGULARIZATIONS = (0.05, 0.5)
# Noise has unit variance; what is added to eigenvalues and logarithms, and what of an eigenvalue counts as signal.
_FLOOR, _TINY, _SIGNAL = 0.3, 1e-3, 1.3
# No window is taken for better than 30 dB when nobody says what its noise is.
_LEAST_NOISE = 1e-3
#: Numbers of each source, and of the whole window.
N_STATISTICS, N_GLOBAL = len(_RANKS) + 1 + 2 + 2 * (1 + len(_REGULARIZATIONS)), 6


class WindowStatistics(NamedTuple):
    """What a window tells.

    Attributes
    ----------
    covariance : Tensor, shape (batch, n_chans, n_chans)
        Of the whitened signal.
    sources : Tensor, shape (batch, n_sources, N_STATISTICS)
        Of every source.
    window : Tensor, shape (batch, N_GLOBAL)
        Logarithms of the largest eigenvalues.
    """

    covariance: Tensor
    sources: Tensor
    window: Tensor


def whitener(noise: Tensor, visible: Tensor, regularization: float = 0.05) -> Tensor:
    """Return what makes noise white, of unit variance, in the average reference of the visible channels.

    Parameters
    ----------
    noise : Tensor, shape (batch, n_chans, n_chans)
        Covariance of the noise in µV², in any reference.
    visible : Tensor, shape (batch, n_chans)
        1 where a channel is visible, 0 where not.
    regularization : float
        Added to the diagonal, as a share of the mean variance.

    Returns
    -------
    whitener : Tensor, shape (batch, n_chans, n_chans)
        Symmetric; zero for channels that are not visible, and for their mean.

    Notes
    -----
    As mne.cov.compute_whitener does, with the average reference as a projection; and regularised, as
    mne.cov.regularize does, whose default is a tenth where this is a twentieth.
    """
    dtype = noise.dtype
    # In double precision: in single, a direction that there is not may look like one of little noise.
    noise, visible = noise.double(), visible.double()
    n_visible = visible.sum(dim=1).clamp_min(1.0)
    reference = torch.diag_embed(visible) - visible.unsqueeze(2) * visible.unsqueeze(1) / n_visible[:, None, None]
    noise = reference @ noise @ reference
    level = noise.diagonal(dim1=1, dim2=2).sum(1) / n_visible
    noise = noise + regularization * level[:, None, None] * reference
    values, vectors = torch.linalg.eigh(noise)
    there = values > 1e-9 * values.amax(dim=1, keepdim=True)
    scale = torch.where(there, values.clamp_min(torch.finfo(values.dtype).tiny).rsqrt(), torch.zeros_like(values))
    return ((vectors * scale.unsqueeze(1)) @ vectors.transpose(1, 2)).to(dtype)


def white_noise_level(x: Tensor, visible: Tensor) -> Tensor:
    """Estimate the variance of white noise from a window itself.

    Parameters
    ----------
    x : Tensor, shape (batch, n_chans, n_times)
        Signal in the average reference, 0 where a channel is not visible.
    visible : Tensor, shape (batch, n_chans)
        1 where a channel is visible.

    Returns
    -------
    variance : Tensor, shape (batch,)
        In squares of the signal's unit; at least a thousandth of the mean power of a channel.

    Notes
    -----
    The quarter quantile of the eigenvalues, over what it is for white noise of as many channels and samples: a few
    sources leave the lower half alone. With ``c`` the smaller over the larger of the two numbers, that is
    ``(1 - (0.41 + 0.17 sqrt(c)) sqrt(c)) ** 2``, or ``1 / c`` times this where samples are fewer than channels; read
    off 20 simulations each of 18 to 127 channels and 50 to 1000 samples, within 6 %. It lies between the edges that
    Marchenko & Pastur (1967, Math USSR Sb 1:457-483) found.
    """
    n_times = x.shape[2]
    rank = (visible.sum(dim=1) - 1).clamp_min(1.0)
    # In double precision: LAPACK's single one does not always converge on matrices with many zeros among their
    # eigenvalues, as those of channels that are not visible.
    values = torch.linalg.eigvalsh((x @ x.transpose(1, 2) / n_times).double()).to(x.dtype)
    # In rising order; the first are zero: channels that are not visible, their mean, and, of short windows, the rest.
    able = torch.minimum(rank, torch.full_like(rank, float(n_times)))
    index = (x.shape[1] - able + 0.25 * able).floor().long().clamp(max=x.shape[1] - 1)
    quarter = values.gather(1, index.unsqueeze(1)).squeeze(1)
    ratio = rank / n_times
    smaller = torch.minimum(ratio, 1.0 / ratio).sqrt()
    expected = (1.0 - (0.41 + 0.17 * smaller) * smaller).square() * ratio.clamp_min(1.0)
    # Filtered, interpolated or published recordings may have no noise at all in most directions.
    least = _LEAST_NOISE * x.square().sum(dim=(1, 2)) / (rank * n_times)
    return torch.maximum(quarter / expected, least).clamp_min(torch.finfo(x.dtype).tiny)


def window_statistics(y: Tensor, gain: Tensor) -> WindowStatistics:
    """Compare the covariance of windows with the topography of every source.

    Parameters
    ----------
    y : Tensor, shape (batch, n_chans, n_times)
        Whitened signal.
    gain : Tensor, shape (batch, n_chans, n_sources)
        Whitened leadfield.

    Returns
    -------
    statistics : WindowStatistics
        See there.

    Notes
    -----
    How much of a topography lies in the subspace of the leading components (MUSIC: Mosher, Lewis & Leahy 1992, IEEE
    Trans Biomed Eng 39:541-557), for several ranks and weighted by their excess over noise; the power that a beamformer
    lets through (Van Veen et al. 1997, IEEE Trans Biomed Eng 44:867-880); and standardised minimum-norm power (sLORETA:
    Pascual-Marqui 2002, Methods Find Exp Clin Pharmacol 24 Suppl D:5-12) at two regularisations: each of these as a
    logarithm, from its mean over sources and from its maximum. None depends on which electrodes there are.
    """
    batch, n_chans, n_times = y.shape
    covariance = y @ y.transpose(1, 2) / n_times
    # In double precision, see white_noise_level.
    values, vectors = (each.to(y.dtype) for each in torch.linalg.eigh(covariance.double()))
    values, vectors = values.flip(1), vectors.flip(2)
    norm = gain.square().sum(dim=1, keepdim=True).clamp_min(1e-12)
    share = (vectors.transpose(1, 2) @ gain).square() / norm
    ranks = [min(rank, n_chans) - 1 for rank in _RANKS]
    inside = share.cumsum(dim=1)[:, ranks]
    excess = (values - _SIGNAL).clamp_min(0.0)
    weighted = (share * excess.unsqueeze(2)).sum(dim=1, keepdim=True) / (excess.sum(dim=1)[:, None, None] + _FLOOR)
    outside = torch.log(1.0 - inside[:, :2].clamp_max(1.0) + 10 * _TINY)
    power = [1.0 / (share / (values + _FLOOR).unsqueeze(2)).sum(dim=1)]
    gram = gain @ gain.transpose(1, 2)
    gram = gram / (gram.diagonal(dim1=1, dim2=2).mean(dim=1)[:, None, None]).clamp_min(1e-12)
    eye = torch.eye(n_chans, dtype=y.dtype, device=y.device)
    for regularization in _REGULARIZATIONS:
        weights = torch.linalg.solve(gram + regularization * eye, gain)
        resolution = (weights * gain).sum(dim=1).clamp_min(1e-12)
        power.append(((covariance @ weights) * weights).sum(dim=1) / resolution)
    levels = torch.log(torch.stack(power, dim=1) + _TINY)
    relative = torch.cat((levels - levels.mean(dim=2, keepdim=True), levels - levels.amax(dim=2, keepdim=True)), dim=1)
    found = torch.cat((inside, weighted, outside, relative), dim=1).transpose(1, 2)
    leading = values[:, :N_GLOBAL]
    if n_chans < N_GLOBAL:
        leading = torch.cat((leading, leading.new_zeros(batch, N_GLOBAL - n_chans)), dim=1)
    return WindowStatistics(covariance, found, torch.log(leading.clamp_min(0.0) + 10 * _TINY) / 3.0)
