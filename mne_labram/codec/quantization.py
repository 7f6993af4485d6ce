"""Choose integers for coefficients: those that cost little for the error that they leave."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from mne_labram.codec.context import N_LEVELS, ContextModel
from mne_labram.codec.wavefront import CoefficientLayout, choose_distributions, magnitude_bits

__all__ = ["LARGEST_COEFFICIENT", "PROXY", "centroids", "dequantize", "level_class", "search_step", "trade_off"]

#: Larger integers are not coded.
LARGEST_COEFFICIENT = 2**30
#: Error, in squared steps, that one bit is worth. For a fine uniform quantiser one bit less per coefficient multiplies
#: its error of 1 / 12 by four, so that the slope is 2 ln(2) / 12 = 0.116 (Sullivan & Wiegand 1998, IEEE Signal
#: Processing Magazine 15(6), for the same of video); 0.1 was best at 64 bit/s on training recordings.
BIT_WORTH = 0.1
#: Coding takes about so many bits for each bit of ``log2(1 + |value in steps|)``, added up: 1.8 to 2.1 at 64 to 512
#: bit/s/channel on EEGMAT, 1.7 to 2.3 on 64 channels of EEGMMIDB.
PROXY = 2.0
# By what the logarithm of the bits falls from one step to the next, 2 ** (1 / 32) as large, at 64 to 512 bit/s.
_SLOPE = 0.02
# Nearer to the budget than this, as a logarithm, there is little to gain by another trial.
_CLOSE = 0.008
# So many trials before the search halves what is left.
_SECANTS = 6
# Before anything is known of costs, values below this are zero.
_DEAD_ZONE = 0.6
# Where a value of 1 or 2 lies on average is told in 128ths.
_PRECISION = 128


def level_class(values: np.ndarray, axis: int | tuple[int, ...] | None = None) -> np.ndarray:
    """Tell how far a signal lies above the quantisation step, in classes of half an octave.

    Parameters
    ----------
    values : array of float
        Coefficients, in steps.
    axis : int | tuple of int | None
        What is averaged over.

    Returns
    -------
    level : array of int64
        From 0 to ``N_LEVELS - 1``; a root mean square of one step is class 16.
    """
    power = np.mean(np.square(values), axis=axis)
    octaves = 0.5 * np.log2(np.maximum(power, 1e-12))
    return np.clip(np.round(2 * octaves) + 16, 0, N_LEVELS - 1).astype(np.int64)


def trade_off(
    model: ContextModel,
    values: np.ndarray,
    layout: CoefficientLayout,
    *,
    bit_worth: float = BIT_WORTH,
    n_passes: int = 2,
) -> np.ndarray:
    """Quantise so that error plus ``bit_worth`` times bits is small.

    Parameters
    ----------
    model : ContextModel
        Tells what integers cost, given their neighbours.
    values : array of float, shape (n_channels, n_frames, n_bins)
        Coefficients in steps.
    layout : CoefficientLayout
        What the decoder knows.
    bit_worth : float
        Error in squared steps that is accepted to save one bit.
    n_passes : int
        Each takes the result of the last as the neighbours.

    Returns
    -------
    coefficients : array of int64, shape (n_channels, n_frames, n_bins)
        Signed integers.

    Notes
    -----
    Each coefficient chooses between the nearest integer, the next smaller one and zero, given its neighbours; what it
    does to the costs of others is not seen.
    """
    # In C order: what follows writes through flat views.
    values = np.ascontiguousarray(values)
    size = np.minimum(np.abs(values), LARGEST_COEFFICIENT)
    magnitudes = np.where(size < _DEAD_ZONE, 0, np.floor(size + (1 - _DEAD_ZONE))).astype(np.int64)
    nearest = np.floor(size + 0.5).astype(np.int64)
    # Where even the nearest integer is zero there is nothing to choose.
    places = np.flatnonzero(nearest)
    at, top = size.reshape(-1)[places], nearest.reshape(-1)[places]
    for _ in range(n_passes):
        rows = choose_distributions(model, magnitudes, layout, places=places)
        best, taken = np.full(len(at), np.inf), np.zeros(len(at), np.int64)
        for candidate in (top, top - 1, np.zeros_like(top)):
            cost = (at - candidate) ** 2 + bit_worth * magnitude_bits(model, candidate, rows)
            better = cost < best
            best[better], taken[better] = cost[better], candidate[better]
        magnitudes = np.zeros_like(nearest)
        magnitudes.reshape(-1)[places] = taken
    return np.where(values < 0, -magnitudes, magnitudes)


def centroids(values: np.ndarray, coefficients: np.ndarray) -> tuple[int, int]:
    """Find where values lie on average that became 1 or 2.

    Parameters
    ----------
    values : array of float
        Coefficients in steps.
    coefficients : array of int
        What they became.

    Returns
    -------
    offsets : tuple of int
        Of 1 and of 2 and above, in 128ths of a step, from -127 to 127.
    """
    size, magnitudes = np.abs(values), np.abs(coefficients)
    out = []
    for here in (magnitudes == 1, magnitudes >= 2):
        mean = float((size[here] - magnitudes[here]).mean()) if here.any() else 0.0
        out.append(int(np.clip(round(mean * _PRECISION), -127, 127)))
    return out[0], out[1]


def dequantize(coefficients: np.ndarray, offsets: tuple[int, int]) -> np.ndarray:
    """Undo quantisation.

    Parameters
    ----------
    coefficients : array of int
        Signed integers.
    offsets : tuple of int
        From :func:`centroids`.

    Returns
    -------
    values : array of float64
        In steps.
    """
    magnitudes = np.abs(coefficients)
    moved = np.array([0, *offsets])[np.minimum(magnitudes, 2)] / _PRECISION
    return np.sign(coefficients) * (magnitudes + moved)


def search_step(cost: Callable[[int], float], proxy: Callable[[int], float], budget: float, low: int, high: int) -> int:
    """Find the smallest step whose cost is within a budget.

    Parameters
    ----------
    cost : callable
        Bits at the step of an index; falls with the index, nearly.
    proxy : callable
        Something cheap that is about proportional to it.
    budget : float
        Bits.
    low, high : int
        Smallest and largest index; the largest is taken to be within the budget.

    Returns
    -------
    index : int
        A step within the budget, where the next smaller one that was tried is not.

    Notes
    -----
    Above a quantiser's dead zone the logarithm of the bits is nearly linear in the index, which a few secants make use
    of; where they do not lead there, what is left is halved. The search ends early with what takes at most 0.8 % less
    than the budget.
    """
    below, above = low - 1, high
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (below, middle) if proxy(middle) <= budget / PROXY else (middle, above)
    fits, over, index = high, low - 1, above
    known: list[tuple[float, int]] = []
    while fits - over > 1:
        index = min(max(index, over + 1), fits - 1)
        excess = math.log(max(cost(index), 1.0) / max(budget, 1.0))
        if excess <= 0:
            fits = index
            if excess > -_CLOSE:
                break
        else:
            over = index
        known.append((excess, index))
        if len(known) == 1:
            index += _offset(excess / _SLOPE)
        elif len(known) < _SECANTS:
            (excess_a, a), (excess_b, b) = sorted(known, key=lambda item: abs(item[0]))[:2]
            slope = (excess_a - excess_b) / (b - a)
            index = a + _offset(excess_a / (slope if slope > _SLOPE / 8 else _SLOPE))
        else:
            index = (over + fits) // 2
    return fits


def _offset(steps: float) -> int:
    """Round up: a step too large is within the budget."""
    return math.ceil(max(-200.0, min(200.0, steps)))
