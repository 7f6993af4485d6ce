"""What a doubtful channel keeps: multichannel Wiener filters, and artefacts that the believed channels see as well."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.ndimage import uniform_filter1d

__all__ = ["TYPICAL_LEVELS", "TYPICAL_SPREAD", "expected_level", "running_power", "typical_levels", "wiener"]

#: Mean logarithm of the power (µV²) in the bands 0-4-8-13-20-30 Hz and above, over channels in their average reference:
#: 18 subjects of EEGMAT at rest (00 to 17), windows of 8 s. Only its shape counts, not its level.
TYPICAL_LEVELS = np.array([3.28, 1.73, 2.46, 1.13, 0.66, -0.25])
# Of the bands that stand out least, the second says how large the EEG is; the others are then this much above it on
# average, as a logarithm, in the same windows.
_STANDS_OUT_LEAST, _ABOVE_IT = 1, 0.25
#: Standard deviation of what the logarithm of each band's power then differs by: alpha rhythm comes and goes.
TYPICAL_SPREAD = np.array([0.37, 0.35, 0.65, 0.32, 0.33, 0.46])
# Seconds that the amplitude of an artefact is measured over, and the share of the mean variance added to what is
# inverted.
_AMPLITUDE_OVER, _RIDGE = 0.5, 1e-4
# What keeps a covariance of nothing at all regular.
_SMALLEST = 1e-12


def running_power(signal: np.ndarray, sfreq: float, seconds: float) -> np.ndarray:
    """Average squares over a time around every sample.

    Parameters
    ----------
    signal : ndarray, shape (..., n_times)
        Signals.
    sfreq : float
        Samples per second.
    seconds : float
        Length of the average.

    Returns
    -------
    power : ndarray, shape (..., n_times)
        In squares of the signal's unit.
    """
    return uniform_filter1d(np.square(signal), max(1, int(seconds * sfreq)), axis=-1, mode="nearest")


def wiener(
    expected: np.ndarray, signal: np.ndarray, sfreq: float, kept: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""Keep of signals what they were expected to hold.

    Parameters
    ----------
    expected : ndarray, shape (n, n)
        Covariance of what is wanted.
    signal : ndarray, shape (n, n_times)
        What is wanted and an artefact, whose covariances add up.
    sfreq : float
        Samples per second.
    kept : callable
        Says which share is kept where the power is so many times what was expected; ``min(1, 1 / excess)`` is Wiener's.

    Returns
    -------
    mixing : ndarray, shape (n, n)
        What each direction is in the signals.
    amplitudes : ndarray, shape (n, n_times)
        What is kept of each direction: ``mixing @ amplitudes`` is the estimate.
    variance : ndarray, shape (n, n_times)
        Expected squared error of the amplitudes; ``mixing ** 2 @ variance`` is that of the estimate.

    Notes
    -----
    The multichannel Wiener filter :math:`P (P + A)^{-1}` with the artefact's covariance :math:`A = (D - P)_+`, where
    :math:`D` is that of the signal, and the positive part is that in the basis that whitens :math:`P` and makes
    :math:`D` diagonal (Somers, Francart & Bertrand 2018, J Neural Eng 15:036007). There it keeps :math:`1 / e` of a
    direction of power :math:`e > 1`, and all of the others. The directions, which are the artefact's topographies, are
    those of the whole stretch, and powers are those of half a second, since blinks come and go.
    """
    n, n_times = signal.shape
    level = np.trace(expected) / n
    root = np.linalg.cholesky(expected + (_RIDGE * level + _SMALLEST) * np.eye(n))
    white = np.linalg.solve(root, signal)
    directions = np.linalg.eigh(white @ white.T / n_times)[1]
    white = directions.T @ white
    excess = running_power(white, sfreq, _AMPLITUDE_OVER)
    share = kept(excess)
    # Of the direction 1 is wanted and excess - 1 is not.
    variance = np.square(1 - share) + np.square(share) * np.maximum(excess - 1, 0.0)
    return root @ directions, share * white, variance


def typical_levels(power: np.ndarray) -> np.ndarray:
    """Say how large EEG would be in each band from the bands that stand out least.

    Parameters
    ----------
    power : ndarray, shape (n_bands,)
        Mean power of channels, in the reference of their mean; bands of
        :data:`~mne_labram.restoration.bands.BAND_EDGES`.

    Returns
    -------
    power : ndarray, shape (n_bands,)
        Of a typical spectrum at that level.

    Notes
    -----
    Artefacts add power, muscle at high frequencies and movement at low ones, so that bands of little power tell.
    """
    typical = TYPICAL_LEVELS[: len(power)]
    above = np.sort(np.log(np.maximum(power, np.finfo(float).tiny)) - typical)
    return np.exp(typical + above[min(_STANDS_OUT_LEAST, len(above) - 1)] + _ABOVE_IT)


def expected_level(
    model: np.ndarray,
    observed: list[np.ndarray],
    visible: list[np.ndarray],
    seconds: list[float],
    referential: np.ndarray | None = None,
) -> np.ndarray:
    """Scale a model of covariances to what was observed.

    Parameters
    ----------
    model : ndarray, shape (n_bands, n_channels, n_channels)
        How channels go together, in any unit.
    observed : list of ndarray, shape (n_bands, n_channels, n_channels)
        Covariances; zero where not visible.
    visible : list of ndarray of bool, shape (n_channels,)
        Channels that each of them shows.
    seconds : list of float
        Length of each.
    referential : ndarray of bool, shape (n_channels,) | None
        As in :func:`visible_power`.

    Returns
    -------
    scale : ndarray, shape (n_bands,)
        What to multiply the model by.
    """
    found, modelled = np.zeros(len(model)), np.zeros(len(model))
    for covariance, seen, duration in zip(observed, visible, seconds, strict=True):
        found += duration * visible_power(covariance, seen, referential)
        modelled += duration * visible_power(model, seen, referential)
    return found / np.maximum(modelled, np.finfo(float).tiny)


def visible_power(covariance: np.ndarray, visible: np.ndarray, referential: np.ndarray | None = None) -> np.ndarray:
    """Return the power of some channels in the reference of their mean, summed over them.

    Parameters
    ----------
    covariance : ndarray, shape (..., n_channels, n_channels)
        Of all channels.
    visible : ndarray of bool, shape (n_channels,)
        Which ones.
    referential : ndarray of bool, shape (n_channels,) | None
        Channels that have a common reference; the others, which are differences of two electrodes, are taken as they
        are. ``None``: all.

    Returns
    -------
    power : ndarray, shape (...)
        In the unit of the covariance.
    """
    common = visible if referential is None else visible & referential
    total = covariance[..., visible, visible].sum(axis=-1)
    return total - covariance[..., common, :][..., common].sum(axis=(-2, -1)) / max(common.sum(), 1)
