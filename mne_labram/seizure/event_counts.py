"""Events and their SzCORE counts for many recordings and thresholds at once.

The same events as :func:`mne_labram.signal.events.events_from_scores` and the same counts as timescoring 0.0.7, on
whole arrays: a threshold is tried on thousands of hours in a fraction of a second. Only calibration counts by this;
scores that are shown are timescoring's own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mne_labram.seizure.events import EventTable
from mne_labram.seizure.scoring import union
from mne_labram.signal.events import EventParameters, smooth_scores

__all__ = ["ManyRecordings"]

# SzCORE's parameters (timescoring.scoring.EventScoring.Parameters), in seconds.
_BEFORE, _AFTER, _LONGEST, _GAP = 30.0, 60.0, 300.0, 90.0
#: Between recordings on the common axis of time: nothing that is extended or merged reaches across.
_APART = 1000


class ManyRecordings:
    """Scores of many recordings end to end, and where the seizures are.

    Parameters
    ----------
    scores : sequence of ndarray, shape (n_seconds,)
        Scores at 1 Hz between 0 and 1 for each recording, NaN where not analysed.
    tables : sequence of EventTable
        The seizures of each.

    Attributes
    ----------
    n_true : int
        Seizures as SzCORE counts them: those closer than 90 s are one, those longer than 300 s are several.
    seconds : int
        Seconds that were analysed.
    """

    def __init__(self, scores: Sequence[np.ndarray], tables: Sequence[EventTable]) -> None:
        self._scores = [np.asarray(each, dtype=float) for each in scores]
        lengths = np.array([each.size for each in self._scores], dtype=np.int64)
        # One NaN after each recording keeps neighbours apart in every array operation.
        self._starts = np.cumsum(lengths + 1) - (lengths + 1)
        self.seconds = int(sum(np.isfinite(each).sum() for each in self._scores))
        starts, stops = [], []
        for number, table in enumerate(tables):
            for start, stop in _split(_merge(union(table.intervals))):
                # Tenths of a second, as timescoring counts events.
                shift = 10 * (self._starts[number] + _APART * number)
                # The end of the recording is an end of the extension too; there is nothing behind it.
                starts.append(round(max(0.0, start - _BEFORE) * 10) + shift)
                stops.append(round((stop + _AFTER) * 10) + shift)
        self._true = np.array([starts, stops], dtype=np.int64).reshape(2, -1)
        self.n_true = self._true.shape[1]
        self._smoothed: tuple[float, np.ndarray, np.ndarray] | None = None

    def smoothed(self, length: float) -> np.ndarray:
        """Return the smoothed scores of all recordings, one NaN after each.

        Parameters
        ----------
        length : float
            As :attr:`EventParameters.smoothing`.

        Returns
        -------
        smoothed : ndarray, shape (n_seconds + n_recordings,)
            NaN where not analysed.
        """
        if self._smoothed is None or self._smoothed[0] != length:
            joined = np.full(sum(each.size + 1 for each in self._scores), np.nan)
            for start, each in zip(self._starts, self._scores, strict=True):
                joined[start : start + each.size] = smooth_scores(each, length)
            self._smoothed = (length, joined, np.concatenate([[0], np.cumsum(np.isnan(joined))]))
        return self._smoothed[1]

    def events(self, parameters: EventParameters) -> tuple[np.ndarray, np.ndarray]:
        """Return first second and the one after the last of every event, in the array of :meth:`smoothed`.

        Parameters
        ----------
        parameters : EventParameters
            Threshold, release, smoothing, merging and minimum duration.

        Returns
        -------
        starts, stops : ndarray of int, shape (n_events,)
            Whole seconds.
        """
        smoothed = self.smoothed(parameters.smoothing)
        missing = self._smoothed[2]
        with np.errstate(invalid="ignore"):
            running = np.concatenate([[False], smoothed >= parameters.release_level, [False]])
            triggers = np.flatnonzero(smoothed >= parameters.threshold)
        edges = np.flatnonzero(running[1:] != running[:-1])
        starts, stops = edges[::2], edges[1::2]
        hit = np.zeros(starts.size, dtype=bool)
        hit[np.searchsorted(starts, triggers, side="right") - 1] = True
        starts, stops = starts[hit], stops[hit]
        joined = (starts[1:] - stops[:-1] < parameters.merge_gap) & (missing[starts[1:]] == missing[stops[:-1]])
        starts, stops = _join(starts, stops, joined)
        long = stops - starts >= parameters.min_duration
        return starts[long], stops[long]

    def count(self, parameters: EventParameters) -> tuple[int, int]:
        """Return hits and false alarms by SzCORE's rules.

        Parameters
        ----------
        parameters : EventParameters
            What makes scores events.

        Returns
        -------
        n_tp : int
            Seizures that were found.
        n_fp : int
            False alarms.
        """
        starts, stops = self.events(parameters)
        shift = _APART * (np.searchsorted(self._starts, starts, side="right") - 1)
        starts, stops = starts + shift, stops + shift
        starts, stops = _join(starts, stops, starts[1:] - stops[:-1] < _GAP)
        # Pieces of 300 s, the last one shorter.
        pieces = np.maximum(-(-(stops - starts) // int(_LONGEST)), 1)
        within = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        first = np.repeat(starts, pieces) + within * int(_LONGEST)
        last = np.minimum(first + int(_LONGEST), np.repeat(stops, pieces))
        first, last = 10 * first, 10 * last
        true_first, true_last = self._true
        found = _touches(true_first, true_last, first, last)
        hits = _touches(first, last, true_first[found], true_last[found])
        return int(found.sum()), int((~hits).sum())


def _touches(first: np.ndarray, last: np.ndarray, other_first: np.ndarray, other_last: np.ndarray) -> np.ndarray:
    """Tell which intervals share time with any of the others; the others are in order of both ends."""
    # Others that began before this one ends, less those that had ended when it began.
    return np.searchsorted(other_first, last, side="left") > np.searchsorted(other_last, first, side="right")


def _join(starts: np.ndarray, stops: np.ndarray, joined: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Make one event of each chain of neighbours."""
    if not starts.size:
        return starts, stops
    return starts[np.concatenate([[True], ~joined])], stops[np.concatenate([~joined, [True]])]


def _merge(intervals: list[tuple[float, float]]) -> list[tuple[float, float]]:
    out: list[tuple[float, float]] = []
    for start, stop in intervals:
        if out and start - out[-1][1] < _GAP:
            out[-1] = (out[-1][0], stop)
        else:
            out.append((start, stop))
    return out


def _split(intervals: list[tuple[float, float]]) -> list[tuple[float, float]]:
    out = []
    for start, stop in intervals:
        while stop - start > _LONGEST:
            out.append((start, start + _LONGEST))
            start += _LONGEST
        out.append((start, stop))
    return out
