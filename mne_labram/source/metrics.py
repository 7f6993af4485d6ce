"""How far an estimate of sources is from what was there.

All take an *amplitude*, one number for each source (:func:`source_amplitude`), and the truth by positions, so that
sources may be simulated in another source space than they are estimated in. An estimate of zeros says as much as a flat
one and is scored as one: whoever finds nothing where something is gets no better mean by it. Where nothing is, there is
nothing to be near to, and all are NaN.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy
from scipy.stats import rankdata

from mne_labram.signal.contract import ContractError

__all__ = [
    "Detection",
    "LocalizationError",
    "area_under_curve",
    "bootstrap_interval",
    "center_of_mass_error",
    "find_peaks",
    "localization_error",
    "otsu_threshold",
    "precision_recall",
    "source_amplitude",
    "spatial_dispersion",
]

_MM = 1000.0
#: Bins of the histogram that Otsu's threshold is taken from, as in DeepSIF's ``get_otsu_regions``.
_BINS = 100
#: Share of all sources, those nearest to active ones, that esinet's ``eval_auc`` calls close.
_CLOSE = 0.2


class LocalizationError(NamedTuple):
    """Distances between true sources and peaks of an estimate.

    Attributes
    ----------
    missed_mm : float
        Mean distance from a true source to the nearest peak. Many peaks make it small.
    ghost_mm : float
        Mean distance from a peak to the nearest true source. One peak makes it small.
    symmetric_mm : float
        The mean of both, which neither many peaks nor few make small.
    n_peaks : int
        How many peaks there are.
    """

    missed_mm: float
    ghost_mm: float
    symmetric_mm: float
    n_peaks: int


class Detection(NamedTuple):
    """What is above a threshold.

    Attributes
    ----------
    precision : float
        Share of what is above it that is active.
    recall : float
        Share of what is active that is above it.
    f1 : float
        Harmonic mean of both.
    """

    precision: float
    recall: float
    f1: float


def source_amplitude(estimate: np.ndarray) -> np.ndarray:
    """Take the root mean square over time.

    Parameters
    ----------
    estimate : ndarray, shape (n_sources, n_times) or (n_sources,)
        In any unit; without time, absolute values are taken.

    Returns
    -------
    amplitude : ndarray of float64, shape (n_sources,)
        Not negative.

    Raises
    ------
    ContractError
        If the shape is another one, or values are not finite.
    """
    estimate = np.asarray(estimate)
    if estimate.ndim not in (1, 2) or not estimate.size:
        raise ContractError(f"An estimate has the shape (n_sources, n_times), got {estimate.shape}; score one window.")
    if not np.isfinite(estimate).all():
        raise ContractError("The estimate holds NaN or infinity; score what the method returns for finite signals.")
    estimate = np.abs(estimate.astype(np.float64))
    if estimate.ndim == 1:
        return estimate
    # Relative to the largest: squares of very small and very large numbers are no numbers any more.
    largest = estimate.max()
    return largest * np.sqrt(np.mean((estimate / largest) ** 2, axis=1)) if largest > 0 else estimate[:, 0]


def find_peaks(amplitude: np.ndarray, neighbours: Any, share: float = 0.5) -> np.ndarray:
    """Find local maxima on the surface.

    Parameters
    ----------
    amplitude : ndarray, shape (n_sources,)
        Not negative.
    neighbours : scipy.sparse matrix of shape (n_sources, n_sources)
        Which sources lie next to each other; one without neighbours (a deep point) is its own neighbourhood.
    share : float
        Of the largest amplitude: what is lower is no peak.

    Returns
    -------
    peaks : ndarray of int
        Sources of which no neighbour is larger; never none: of a flat estimate all.

    Raises
    ------
    ContractError
        If the shapes do not fit, or values are negative or not finite.
    ValueError
        If ``share`` is not between 0 and 1.
    """
    amplitude = _amplitude(amplitude)
    if neighbours.shape != (len(amplitude),) * 2:
        raise ContractError(
            f"neighbours is of the shape {neighbours.shape} and there are {len(amplitude)} sources; "
            "take both from one source model."
        )
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share must be between 0 and 1, got {share}.")
    edges = scipy.sparse.coo_array(neighbours)
    around = np.zeros(len(amplitude))
    np.maximum.at(around, edges.coords[0], amplitude[edges.coords[1]])
    return np.flatnonzero((amplitude >= around) & (amplitude >= share * amplitude.max()))


def localization_error(
    amplitude: np.ndarray, positions: np.ndarray, neighbours: Any, true_positions: np.ndarray, *, share: float = 0.5
) -> LocalizationError:
    """Measure how far peaks are from true sources, and true sources from peaks.

    Parameters
    ----------
    amplitude : ndarray, shape (n_sources,)
        Of the estimate.
    positions : ndarray, shape (n_sources, 3)
        Metres.
    neighbours : scipy.sparse matrix of shape (n_sources, n_sources)
        See :func:`find_peaks`.
    true_positions : ndarray, shape (n_true, 3)
        Metres; the middle of each source.
    share : float
        See :func:`find_peaks`.

    Returns
    -------
    error : LocalizationError
        Millimetres; NaN where there is no true source.

    Raises
    ------
    ContractError
        If the shapes do not fit, or values are negative or not finite.

    Notes
    -----
    The mean over both sets of the distance to the other one (the modified Hausdorff distance takes their maximum:
    Dubuisson & Jain 1994, *A modified Hausdorff distance for object matching*, ICPR). esinet's
    ``eval_mean_localization_error`` and DeepSIF's ``get_otsu_regions`` take one direction each.
    """
    positions, true_positions = _places(positions, amplitude), _places(true_positions)
    peaks = find_peaks(amplitude, neighbours, share)
    if not len(true_positions):
        return LocalizationError(np.nan, np.nan, np.nan, len(peaks))
    between = scipy.spatial.distance.cdist(true_positions, positions[peaks]) * _MM
    missed, ghost = float(between.min(axis=1).mean()), float(between.min(axis=0).mean())
    return LocalizationError(missed, ghost, (missed + ghost) / 2, len(peaks))


def center_of_mass_error(
    amplitude: np.ndarray, positions: np.ndarray, true_amplitude: np.ndarray, true_positions: np.ndarray
) -> float:
    """Measure how far the centres of mass are from each other.

    Parameters
    ----------
    amplitude : ndarray, shape (n_sources,)
        Of the estimate.
    positions : ndarray, shape (n_sources, 3)
        Metres.
    true_amplitude : ndarray, shape (n_true,)
        What is true; in another source space, perhaps.
    true_positions : ndarray, shape (n_true, 3)
        Metres.

    Returns
    -------
    error : float
        Millimetres; NaN where there is no true source.

    Raises
    ------
    ContractError
        If the shapes do not fit, or values are negative or not finite.

    Notes
    -----
    Weights are energies, squares of amplitudes. Of several sources the middle lies between them, where none is: of them
    it says only whether their balance is right. For one source, see ``mne.simulation.metrics`` (peak position error).
    """
    true_amplitude = _amplitude(true_amplitude)
    positions, true_positions = _places(positions, amplitude), _places(true_positions, true_amplitude)
    if not true_amplitude.any():
        return float("nan")
    middles = _energy(amplitude) @ positions - _energy(true_amplitude) @ true_positions
    return float(np.linalg.norm(middles)) * _MM


def spatial_dispersion(amplitude: np.ndarray, positions: np.ndarray, active_positions: np.ndarray) -> float:
    """Measure how far the energy of an estimate is from what is active.

    Parameters
    ----------
    amplitude : ndarray, shape (n_sources,)
        Of the estimate.
    positions : ndarray, shape (n_sources, 3)
        Metres.
    active_positions : ndarray, shape (n_active, 3)
        Metres; all members of all patches.

    Returns
    -------
    dispersion : float
        Millimetres: root of the mean square of the distance to the nearest active source, weighted with energy. NaN
        where nothing is active.

    Raises
    ------
    ContractError
        If the shapes do not fit, or values are negative or not finite.

    Notes
    -----
    Molins et al. 2008, NeuroImage 42:1069-1077 (spatial dispersion), about the nearest member of the true patches
    instead of a point: an estimate that is the patch has none.
    """
    positions, active_positions = _places(positions, amplitude), _places(active_positions)
    weights = _energy(amplitude)
    if not len(active_positions):
        return float("nan")
    distance = scipy.spatial.cKDTree(active_positions).query(positions)[0]
    return float(np.sqrt(weights @ distance**2)) * _MM


def area_under_curve(amplitude: np.ndarray, active: np.ndarray, positions: np.ndarray | None = None) -> float:
    """Tell whether active sources have larger amplitudes than others.

    Parameters
    ----------
    amplitude : ndarray, shape (n_sources,)
        Of the estimate.
    active : ndarray of bool, shape (n_sources,)
        Which are active.
    positions : ndarray, shape (n_sources, 3) | None
        Metres. Compare with close sources only: those of the fifth of all that is nearest to the active ones; ``None``:
        with all.

    Returns
    -------
    area : float
        Probability that an active source is larger than another one; half where all are alike, NaN where all or none
        are active.

    Raises
    ------
    ContractError
        If the shapes do not fit, or values are negative or not finite.

    Notes
    -----
    The area under the receiver operating characteristic is Mann and Whitney's statistic (Hanley & McNeil 1982,
    Radiology 143:29-36). The close ones are those of esinet's ``eval_auc`` (after Grova et al. 2006, NeuroImage
    29:734-753), all of them, where it draws as many as are active, again and again.
    """
    amplitude, active = _amplitude(amplitude), _which(active, amplitude)
    others = ~active
    if positions is not None and active.any() and others.any():
        positions = _places(positions, amplitude)
        distance = scipy.spatial.cKDTree(positions[active]).query(positions)[0]
        distance[active] = np.inf
        n_close = min(max(round(_CLOSE * len(amplitude)), 1), int(others.sum()))
        others = np.zeros(len(amplitude), dtype=bool)
        others[np.argsort(distance, kind="stable")[:n_close]] = True
    n_active, n_others = int(active.sum()), int(others.sum())
    if not (n_active and n_others):
        return float("nan")
    ranks = rankdata(np.concatenate([amplitude[active], amplitude[others]]))[:n_active]
    return float((ranks.sum() - n_active * (n_active + 1) / 2) / (n_active * n_others))


def otsu_threshold(amplitude: np.ndarray) -> float:
    """Find the threshold that parts large amplitudes from small ones.

    Parameters
    ----------
    amplitude : ndarray, shape (n_sources,)
        Not negative.

    Returns
    -------
    threshold : float
        What is above it is large; of a flat estimate minus infinity, since nothing parts it.

    Raises
    ------
    ContractError
        If values are negative or not finite.

    Notes
    -----
    Otsu 1979, IEEE Trans Syst Man Cybern 9:62-66, eq. 18: the largest variance between both parts of a histogram, of
    100 bins between smallest and largest as in DeepSIF.
    """
    amplitude = _amplitude(amplitude)
    low, high = float(amplitude.min()), float(amplitude.max())
    if not high > low:
        return -np.inf
    unit = (amplitude - low) / (high - low)
    counts, edges = np.histogram(unit, bins=_BINS, range=(0.0, 1.0))
    middles = (edges[:-1] + edges[1:]) / 2
    below, moment = np.cumsum(counts)[:-1], np.cumsum(counts * middles)[:-1]
    above = counts.sum() - below
    total = float(counts @ middles)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (total * below / counts.sum() - moment) ** 2 / (below * above)
    best = int(np.nanargmax(between))
    # Just below the first of the upper part: edges of bins are not exact.
    upper = unit[np.minimum((unit * _BINS).astype(int), _BINS - 1) > best]
    return low + (high - low) * (edges[best + 1] if not len(upper) else np.nextafter(upper.min(), -np.inf))


def precision_recall(amplitude: np.ndarray, active: np.ndarray, threshold: float | str = 0.5) -> Detection:
    """Compare what is above a threshold with what is active.

    Parameters
    ----------
    amplitude : ndarray, shape (n_sources,)
        Of the estimate.
    active : ndarray of bool, shape (n_sources,)
        Which are active.
    threshold : float | "otsu"
        Share of the largest amplitude; ``"otsu"``: :func:`otsu_threshold`.

    Returns
    -------
    detection : Detection
        NaN where nothing is active.

    Raises
    ------
    ContractError
        If the shapes do not fit, or values are negative or not finite.
    ValueError
        If the threshold is neither.
    """
    amplitude, active = _amplitude(amplitude), _which(active, amplitude)
    if threshold == "otsu":
        found = amplitude > otsu_threshold(amplitude)
    elif isinstance(threshold, (int, float)) and 0.0 <= threshold <= 1.0:
        found = amplitude >= threshold * amplitude.max()
    else:
        raise ValueError(f"threshold must be between 0 and 1 or 'otsu', got {threshold!r}.")
    if not active.any():
        return Detection(np.nan, np.nan, np.nan)
    both = float((found & active).sum())
    precision, recall = both / max(int(found.sum()), 1), both / int(active.sum())
    return Detection(precision, recall, 2 * both / (int(found.sum()) + int(active.sum())))


def bootstrap_interval(
    values: np.ndarray, *, level: float = 0.95, n_draws: int = 2000, seed: int = 0, median: bool = False
) -> tuple[float, float, float]:
    """Take a mean, and say how sure it is.

    Parameters
    ----------
    values : array-like, shape (n_windows,)
        One for each window, NaN where there is none.
    level : float
        Probability of the interval.
    n_draws : int
        How often windows are drawn with replacement.
    seed : int
        Of the draws.
    median : bool
        Take the median instead.

    Returns
    -------
    mean, low, high : float
        NaN without values, and the interval NaN with fewer than two.

    Raises
    ------
    ValueError
        If ``level`` is not between 0 and 1, or ``n_draws`` is below 1.

    Notes
    -----
    Percentiles of the bootstrap (Efron & Tibshirani 1993, *An Introduction to the Bootstrap*, ch. 13).
    """
    if not 0.0 < level < 1.0 or n_draws < 1:
        raise ValueError(f"level must be between 0 and 1 and n_draws at least 1, got {level} and {n_draws}.")
    values = np.asarray(values, float).ravel()
    values = values[np.isfinite(values)]
    take = np.median if median else np.mean
    if not len(values):
        return float("nan"), float("nan"), float("nan")
    if len(values) == 1:
        return float(values[0]), float("nan"), float("nan")
    drawn = values[np.random.default_rng(seed).integers(len(values), size=(n_draws, len(values)))]
    low, high = np.percentile(take(drawn, axis=1), [50 - 50 * level, 50 + 50 * level])
    return float(take(values)), float(low), float(high)


def _amplitude(amplitude: np.ndarray) -> np.ndarray:
    amplitude = np.asarray(amplitude, float)
    if amplitude.ndim != 1 or not amplitude.size:
        raise ContractError(f"An amplitude has the shape (n_sources,), got {amplitude.shape}; use source_amplitude.")
    if not (np.isfinite(amplitude).all() and (amplitude >= 0).all()):
        raise ContractError("Amplitudes must be finite and not negative; use source_amplitude.")
    return amplitude


def _energy(amplitude: np.ndarray) -> np.ndarray:
    """Squares that add up to one; all alike where there is none."""
    amplitude = _amplitude(amplitude)
    largest = amplitude.max()
    energy = (amplitude / largest) ** 2 if largest > 0 else np.ones(len(amplitude))
    return energy / energy.sum()


def _places(positions: np.ndarray, amplitude: np.ndarray | None = None) -> np.ndarray:
    positions = np.asarray(positions, float)
    if positions.size == 0 and amplitude is None:
        return positions.reshape(0, 3)
    if positions.ndim != 2 or positions.shape[1] != 3 or (amplitude is not None and len(positions) != len(amplitude)):
        raise ContractError(f"Positions must be one row of x, y, z for each source, got the shape {positions.shape}.")
    if not np.isfinite(positions).all():
        raise ContractError("A source has no position; take positions from a source model.")
    return positions


def _which(active: np.ndarray, amplitude: np.ndarray) -> np.ndarray:
    active = np.asarray(active)
    if active.shape != amplitude.shape or active.dtype != bool:
        raise ContractError(
            f"active must be True or False for each of {len(amplitude)} sources, got {active.dtype} of the shape "
            f"{active.shape}."
        )
    return active
