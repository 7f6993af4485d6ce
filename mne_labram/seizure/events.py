"""What is known, or was found, about the seizures of one recording."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

__all__ = ["EventTable", "SeizureEvent"]


@dataclass(frozen=True, order=True)
class SeizureEvent:
    """One seizure.

    Parameters
    ----------
    onset : float
        Seconds after the recording's first sample.
    duration : float
        Seconds, more than 0.
    event_type : str
        One of SzCORE's types in their underscore form (``"sz"``, ``"sz_foc_ia"`` ...), see
        :mod:`mne_labram.seizure.event_types`.
    confidence : float | None
        Between 0 and 1; ``None``: not given.
    channels : tuple of str
        Channels it is seen in; empty: not given. ``("all",)`` says all.

    Raises
    ------
    ValueError
        If a time is not finite, the onset is negative, the duration is not positive, or the confidence lies outside
        0 to 1.
    """

    onset: float
    duration: float
    event_type: str = "sz"
    confidence: float | None = None
    channels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (math.isfinite(self.onset) and self.onset >= 0.0):
            raise ValueError(f"The onset of a seizure must be a number of seconds, 0 or more, got {self.onset}.")
        if not (math.isfinite(self.duration) and self.duration > 0.0):
            raise ValueError(f"The duration of a seizure must be a positive number of seconds, got {self.duration}.")
        if self.confidence is not None and not 0.0 <= self.confidence <= 1.0:
            raise ValueError(f"The confidence of a seizure lies between 0 and 1, got {self.confidence}.")

    @property
    def stop(self) -> float:
        """Where it ends, in seconds after the first sample."""
        return self.onset + self.duration


@dataclass(frozen=True)
class EventTable:
    """The seizures of a recording, and how long the recording is: a table without events says "none".

    Parameters
    ----------
    events : tuple of SeizureEvent
        In any order; kept in order of onset.
    duration : float
        Length of the recording in seconds.
    date_time : datetime | None
        When the recording began.

    Raises
    ------
    ValueError
        If the duration is not a positive number, or an event begins after the recording's end.
    """

    events: tuple[SeizureEvent, ...]
    duration: float
    date_time: datetime | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.duration) and self.duration > 0.0):
            raise ValueError(f"A recording lasts a positive number of seconds, got {self.duration}.")
        object.__setattr__(self, "events", tuple(sorted(self.events, key=lambda event: (event.onset, event.duration))))
        late = [event for event in self.events if event.onset >= self.duration]
        if late:
            raise ValueError(
                f"A seizure begins at {late[0].onset:g} s and the recording ends at {self.duration:g} s; this is "
                "another recording's table."
            )

    def __len__(self) -> int:
        return len(self.events)

    @property
    def intervals(self) -> list[tuple[float, float]]:
        """Start and end of every seizure in seconds, the end not after the recording's."""
        return [(event.onset, min(event.stop, self.duration)) for event in self.events]

    def with_events(self, events: Iterable[SeizureEvent]) -> EventTable:
        """Return the same recording with other events.

        Parameters
        ----------
        events : iterable of SeizureEvent
            The events.

        Returns
        -------
        table : EventTable
            The same duration and date.
        """
        return replace(self, events=tuple(events))
