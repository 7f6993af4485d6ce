"""What the clock on the wall showed at a sample, and how times are written for a reader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

__all__ = ["Clock", "elapsed"]


def elapsed(seconds: float) -> str:
    """Write a time after the first sample.

    Parameters
    ----------
    seconds : float
        Seconds, 0 or more.

    Returns
    -------
    text : str
        ``h:mm:ss``, rounded to whole seconds.
    """
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


@dataclass(frozen=True)
class Clock:
    """The time of day of the samples of a recording.

    Parameters
    ----------
    start : datetime | None
        Time of the first sample; ``None``: not known.
    gaps : tuple of (float, float)
        Seconds of data before a gap, and seconds that are missing there (EDF+D), in order: the samples behind it are
        later by the clock than their number says.
    """

    start: datetime | None
    gaps: tuple[tuple[float, float], ...] = ()

    @classmethod
    def of(cls, meas_date: datetime | None, first_time: float = 0.0, gaps: Sequence[dict[str, Any]] = ()) -> Clock:
        """Return the clock of a recording.

        Parameters
        ----------
        meas_date : datetime | None
            ``raw.info["meas_date"]``. Most formats state local time without saying where, and MNE calls it UTC: it is
            shown as it is.
        first_time : float
            ``raw.first_time``: the first sample lies this many seconds after ``meas_date``.
        gaps : sequence of dict
            :attr:`mne_labram.signal.ConformReport.gaps`.

        Returns
        -------
        clock : Clock
            Without a start where there is no ``meas_date``.
        """
        start = None if meas_date is None else meas_date + timedelta(seconds=float(first_time))
        return cls(start, tuple(sorted((float(gap["onset"]), float(gap["missing"])) for gap in gaps)))

    def at(self, seconds: float) -> datetime | None:
        """Return the time of day of a sample, ``None`` where it is not known.

        Parameters
        ----------
        seconds : float
            Seconds of data after the first sample.

        Returns
        -------
        time : datetime | None
            The time.
        """
        if self.start is None:
            return None
        missing = sum(gap for onset, gap in self.gaps if onset <= seconds)
        return self.start + timedelta(seconds=float(seconds) + missing)

    def text(self, seconds: float) -> str:
        """Write the time of day as ``hh:mm:ss``, or the time after the first sample where it is not known.

        Parameters
        ----------
        seconds : float
            Seconds of data after the first sample.

        Returns
        -------
        text : str
            Rounded to whole seconds.
        """
        time = self.at(seconds)
        return elapsed(seconds) if time is None else f"{time + timedelta(seconds=0.5):%H:%M:%S}"

    def marks(self, start: float, stop: float, step: float) -> list[tuple[float, datetime | float]]:
        """Find the round times within a stretch, for the ticks of an axis.

        Parameters
        ----------
        start, stop : float
            Seconds of data after the first sample.
        step : float
            Seconds between two of them; counted from midnight where the time of day is known, otherwise from the first
            sample.

        Returns
        -------
        marks : list of (float, datetime | float)
            Seconds after the first sample, and the time to write there. Times that fall into a gap are left out.
        """
        if self.start is None:
            first = -int(-start // step)
            return [(float(k * step), float(k * step)) for k in range(first, int(stop // step) + 1)]
        midnight = self.start.replace(hour=0, minute=0, second=0, microsecond=0)
        ahead = (self.start - midnight).total_seconds()
        edges = [float("-inf"), *(onset for onset, _ in self.gaps), float("inf")]
        missing, found = 0.0, []
        for k, (low, high) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
            missing += self.gaps[k - 1][1] if k else 0.0
            shift = ahead + missing
            low, high = max(low, start), min(high, stop)
            for mark in range(-int(-(low + shift) // step), int((high + shift) // step) + 1) if low < high else ():
                found.append((mark * step - shift, midnight + timedelta(seconds=mark * step)))
        return found
