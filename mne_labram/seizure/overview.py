"""The numbers of a detection that a reader wants first: how many, how long, when, and what was not looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from mne_labram.signal.clock import Clock
from mne_labram.signal.events import smooth_scores

if TYPE_CHECKING:
    from mne_labram.decoding.scores import EventScores
    from mne_labram.seizure.detected import SeizureDetection
    from mne_labram.seizure.events import SeizureEvent

__all__ = ["LONG_SEIZURE", "Hour", "Overview"]

#: Seconds after which SzCORE's scoring splits an event (timescoring 0.0.7, ``maxEventDuration``), and after which a
#: tonic-clonic seizure is status epilepticus (ILAE, Trinka et al. 2015, time point t1).
LONG_SEIZURE = 300.0
#: Less than this many analysed seconds of an hour give no rate.
_MIN_ANALYSED = 300.0


@dataclass(frozen=True)
class Hour:
    """One hour of the clock, or of the recording.

    Attributes
    ----------
    start, stop : float
        Seconds after the first sample.
    analysed, seizure : float
        Seconds that were analysed, and seconds of seizure.
    """

    start: float
    stop: float
    analysed: float
    seizure: float

    @property
    def per_hour(self) -> float | None:
        """Seconds of seizure in an hour of analysed time; ``None`` where too little was analysed."""
        if self.analysed < min(_MIN_ANALYSED, 0.5 * (self.stop - self.start)):
            return None
        return 3600.0 * self.seizure / self.analysed


@dataclass(frozen=True)
class Overview:
    """A detection as a reader sees it.

    Parameters
    ----------
    scores : EventScores
        The scores.
    probability : ndarray, shape (n_seconds,)
        Of a seizure of any type, NaN where not analysed.
    events : tuple of SeizureEvent
        In order of onset; none ends after the recording.
    clock : Clock
        Time of day.
    """

    scores: EventScores
    probability: np.ndarray
    events: tuple[SeizureEvent, ...]
    clock: Clock

    @classmethod
    def of(cls, detection: SeizureDetection) -> Overview:
        """Return the overview of a detection.

        Parameters
        ----------
        detection : SeizureDetection
            From :func:`mne_labram.detect_seizures`.

        Returns
        -------
        overview : Overview
            Of it.
        """
        scores = detection.scores
        gaps = () if scores.report is None else scores.report.gaps
        clock = Clock.of(scores.meas_date, scores.first_time, gaps)
        return cls(scores, detection.probability, tuple(detection.table.events), clock)

    @property
    def duration(self) -> float:
        """Length of the recording in seconds of data."""
        return float(self.scores.duration)

    @property
    def threshold(self) -> float:
        """Smoothed score at which an event begins."""
        return float(self.scores.parameters.threshold)

    @cached_property
    def smoothed(self) -> np.ndarray:
        """The probability as it is compared with the threshold, shape (n_seconds,)."""
        return smooth_scores(self.probability, self.scores.parameters.smoothing)

    @cached_property
    def not_analysed(self) -> list[tuple[float, float]]:
        """Start and end in seconds of every stretch without a score."""
        edges = np.flatnonzero(np.diff(np.concatenate([[0], (~self.scores.analysed).astype(int), [0]])))
        pairs = zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
        return [(float(a), min(float(b), self.duration)) for a, b in pairs if a < self.duration]

    @property
    def seconds_analysed(self) -> float:
        """Seconds that have a score."""
        return self.duration - sum(b - a for a, b in self.not_analysed)

    @cached_property
    def covered(self) -> list[tuple[float, float]]:
        """Start and end of what is covered by events, each second once."""
        union: list[tuple[float, float]] = []
        for event in self.events:
            stop = min(event.stop, self.duration)
            if union and event.onset <= union[-1][1]:
                union[-1] = union[-1][0], max(union[-1][1], stop)
            else:
                union.append((event.onset, stop))
        return union

    @property
    def seizure_seconds(self) -> float:
        """Seconds within events."""
        return sum(b - a for a, b in self.covered)

    @property
    def longest(self) -> SeizureEvent | None:
        """The longest event."""
        return max(self.events, key=lambda event: event.duration, default=None)

    @cached_property
    def ranks(self) -> list[int]:
        """Place of every event when sorted by falling confidence, from 1; without a confidence last, in order."""
        confidences = [-1.0 if event.confidence is None else event.confidence for event in self.events]
        order = np.argsort([-each for each in confidences], kind="stable")
        ranks = np.empty(len(order), dtype=int)
        ranks[order] = np.arange(1, len(order) + 1)
        return ranks.tolist()

    def hours(self) -> list[Hour]:
        """Return the hours of the recording.

        Returns
        -------
        hours : list of Hour
            From full hour to full hour of the clock where the time of day is known; the first and the last may be
            parts of one. An hour in which the file has a gap is shorter by it.
        """
        marks = [place for place, _ in self.clock.marks(0.0, self.duration, 3600.0)]
        edges = [0.0, *(mark for mark in marks if 1.0 <= mark <= self.duration - 1.0), self.duration]
        return [
            Hour(a, b, b - a - _within(self.not_analysed, a, b), _within(self.covered, a, b))
            for a, b in zip(edges[:-1], edges[1:], strict=True)
        ]


def _within(intervals: Sequence[tuple[float, float]], start: float, stop: float) -> float:
    """Return how many seconds of some intervals lie in a stretch."""
    return sum(max(0.0, min(b, stop) - max(a, start)) for a, b in intervals)
