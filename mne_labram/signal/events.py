"""From scores of overlapping windows to events: overlap averaging, smoothing, hysteresis, merging.

Everything here is plain NumPy on a one-second grid, so that a threshold can be moved without running a model.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

__all__ = ["EventParameters", "SecondAccumulator", "events_from_scores", "smooth_scores"]


@dataclass(frozen=True)
class EventParameters:
    """How scores at 1 Hz become events.

    Parameters
    ----------
    threshold : float
        An event begins where the smoothed score reaches this value (0 to 1).
    release : float | None
        It ends where the score falls below this value; ``None`` takes 0.625 of the threshold, the ratio of the
        on/off pair 0.8/0.5.
    smoothing : float
        Length of the centred moving average in seconds; 1 or less leaves the scores as they are.
    merge_gap : float
        Events separated by less than this many seconds become one.
    min_duration : float
        Events shorter than this many seconds are dropped.

    Notes
    -----
    The order (smooth, hysteresis, merge, drop) is the one used by SzCORE entries with post-processing. Merging
    across a stretch that was not analysed is never done: silence there does not mean anything.
    """

    threshold: float = 0.5
    release: float | None = None
    smoothing: float = 5.0
    merge_gap: float = 10.0
    min_duration: float = 5.0

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
                if each.name == "release" and value is None:
                    continue
                raise TypeError(f"{each.name} must be a number, got {type(value).__name__}.")
        if not 0.0 < self.threshold <= 1.0:
            raise ValueError(f"threshold must lie in (0, 1], got {self.threshold}.")
        if self.release is not None and not 0.0 < self.release <= self.threshold:
            raise ValueError(f"release must lie in (0, threshold={self.threshold}], got {self.release}.")
        for name in ("smoothing", "merge_gap", "min_duration"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be a finite number of seconds, 0 or more, got {value}.")

    @property
    def release_level(self) -> float:
        """The level below which a running event ends."""
        return 0.625 * self.threshold if self.release is None else self.release


class SecondAccumulator:
    """Average the scores of overlapping windows on a one-second grid.

    Memory is one float64 per class and second: 24 hours of a binary model take 0.7 MB.

    Parameters
    ----------
    n_seconds : int
        Seconds in the recording; a last part of a second counts as one.
    n_classes : int
        Scores per window.
    """

    def __init__(self, n_seconds: int, n_classes: int) -> None:
        self._sums = np.zeros((n_classes, n_seconds))
        self._weights = np.zeros(n_seconds)

    def add(self, starts: np.ndarray, duration: float, scores: np.ndarray) -> None:
        """Add windows.

        Parameters
        ----------
        starts : ndarray, shape (n_windows,)
            Window starts in seconds from the beginning of the recording.
        duration : float
            Window length in seconds.
        scores : ndarray, shape (n_windows, n_classes)
            One score per window and class. A row with a NaN is left out.

        Notes
        -----
        A window counts for a second in proportion to the part of that second it covers.
        """
        n_seconds = self._weights.size
        finite = np.isfinite(scores).all(axis=1)
        starts, scores = np.asarray(starts, dtype=float)[finite], np.asarray(scores, dtype=float)[finite]
        first = np.floor(starts).astype(int)
        for offset in range(int(np.ceil(duration)) + 1):
            second = first + offset
            cover = np.minimum(second + 1, starts + duration) - np.maximum(second, starts)
            # Round-off at window edges must not count as coverage.
            inside = (cover > 1e-9) & (second >= 0) & (second < n_seconds)
            np.add.at(self._weights, second[inside], cover[inside])
            for sums, column in zip(self._sums, scores.T, strict=True):
                np.add.at(sums, second[inside], cover[inside] * column[inside])

    def average(self) -> np.ndarray:
        """Return the mean score of every second, NaN where no window was added.

        Returns
        -------
        scores : ndarray, shape (n_classes, n_seconds)
            Averages of what was added.
        """
        out = np.full(self._sums.shape, np.nan)
        covered = self._weights > 0
        out[:, covered] = self._sums[:, covered] / self._weights[covered]
        return out


def smooth_scores(scores: np.ndarray, length: float) -> np.ndarray:
    """Centred moving average that neither uses nor fills NaN.

    Parameters
    ----------
    scores : ndarray, shape (n_seconds,)
        Scores at 1 Hz; NaN where not analysed.
    length : float
        Length in seconds; rounded to the next odd number of samples so that the average is centred.

    Returns
    -------
    smoothed : ndarray, shape (n_seconds,)
        Same shape, NaN where ``scores`` is NaN. The two sides of a NaN stretch do not mix.
    """
    scores = np.asarray(scores, dtype=float)
    half = int(length) // 2
    if half < 1:
        return scores.copy()
    out = np.full(scores.shape, np.nan)
    for start, stop in _runs(np.isfinite(scores)):
        part = scores[start:stop]
        cumulative = np.concatenate([[0.0], np.cumsum(part)])
        index = np.arange(part.size)
        low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, part.size)
        out[start:stop] = (cumulative[high] - cumulative[low]) / (high - low)
    return out


def events_from_scores(scores: np.ndarray, parameters: EventParameters) -> list[tuple[int, int, float]]:
    """Turn scores at 1 Hz into events.

    Parameters
    ----------
    scores : ndarray, shape (n_seconds,)
        Scores at 1 Hz between 0 and 1, NaN where not analysed.
    parameters : EventParameters
        Threshold, release, smoothing, merging and minimum duration.

    Returns
    -------
    events : list of tuple (start, stop, confidence)
        Whole seconds, ``stop`` exclusive; confidence is the mean of the unsmoothed scores within the event. An event
        never reaches into a stretch that was not analysed.
    """
    scores = np.asarray(scores, dtype=float)
    smoothed = smooth_scores(scores, parameters.smoothing)
    with np.errstate(invalid="ignore"):
        above_release = smoothed >= parameters.release_level
        above_threshold = smoothed >= parameters.threshold
    found = [(a, b) for a, b in _runs(above_release) if above_threshold[a:b].any()]
    merged: list[tuple[int, int]] = []
    for start, stop in found:
        if merged and start - merged[-1][1] < parameters.merge_gap and np.isfinite(scores[merged[-1][1] : start]).all():
            # Adjacent runs are separated by at least one analysed second below the release level.
            merged[-1] = (merged[-1][0], stop)
        else:
            merged.append((start, stop))
    return [(a, b, float(np.mean(scores[a:b]))) for a, b in merged if b - a >= parameters.min_duration]


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """Return (start, stop) of every run of True."""
    padded = np.concatenate([[False], np.asarray(mask, dtype=bool), [False]]).astype(np.int8)
    edges = np.diff(padded)
    return list(zip(np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist(), strict=True))
