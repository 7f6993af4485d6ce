"""What a restoration did."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["RestorationReport", "RestoredSegment", "note_in_most"]

# Stretches that a note lists.
_PLACES = 8


@dataclass(frozen=True)
class RestoredSegment:
    """One interval of one channel.

    Attributes
    ----------
    ch_name : str
        The channel.
    onset, duration : float
        Seconds after the first sample (of the epoch).
    epoch : int | None
        Index of the epoch.
    gain, offset : float
        What predictions were multiplied by, and what was added to them on average (V), so that they fit what is visible
        of the channel around the interval; 1 and 0 where nothing is.
    visible : float
        Seconds of it that were looked at.
    """

    ch_name: str
    onset: float
    duration: float
    epoch: int | None
    gain: float
    offset: float
    visible: float


@dataclass(frozen=True)
class RestorationReport:
    """What :func:`mne_labram.gram_restore` did.

    Attributes
    ----------
    method : str
        How hidden channels were predicted.
    ch_names : list of str
        Channels that were changed.
    used : list of str
        Channels that they were predicted from, where visible.
    segments : list of RestoredSegment
        Every interval, by channel.
    uncertainty : ndarray, shape (n_channels, n_seconds) or (n_epochs, n_channels, n_seconds)
        Expected standard deviation of the error in volts, over each second (of an epoch) of ``ch_names``; NaN where
        nothing was restored or the deviation is not known.
    calibrated : float
        Seconds of the recording itself that the method was calibrated on.
    notes : list of str
        What else is worth knowing.
    """

    method: str
    ch_names: list[str]
    used: list[str]
    segments: list[RestoredSegment]
    uncertainty: np.ndarray
    calibrated: float
    notes: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Seconds restored, summed over channels."""
        return sum(segment.duration for segment in self.segments)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; what is not known is None."""
        return {
            "method": self.method,
            "ch_names": list(self.ch_names),
            "used": list(self.used),
            "segments": [dict(vars(segment)) for segment in self.segments],
            "uncertainty": _plain(self.uncertainty),
            "calibrated": self.calibrated,
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        lines = [
            f"{', '.join(self.ch_names)}: restored by {self.method} from what is good of {len(self.used)} channels, "
            f"calibrated on {self.calibrated:.4g} s of the recording"
        ]
        for name in self.ch_names:
            each = [segment for segment in self.segments if segment.ch_name == name]
            row = self.uncertainty[..., self.ch_names.index(name), :]
            known = row[np.isfinite(row)]
            error = f", expected error {1e6 * np.sqrt(np.mean(known**2)):.3g} µV" if known.size else ""
            gains = [segment.gain for segment in each if segment.visible]
            gain = f", gain {np.median(gains):.2f}" if gains else ""
            lines.append(f"  {name}: {len(each)} x, {sum(s.duration for s in each):.6g} s{error}{gain}")
        lines += [f"  Note: {note}" for note in self.notes]
        return "\n".join(lines)


def note_in_most(spans: Iterable[tuple[int, int, int]], sfreq: float, in_epochs: bool, calibrated: bool) -> str:
    """Say where most channels hold an artefact.

    Parameters
    ----------
    spans : iterable of (int, int, int)
        Number of the epoch, first sample, and the one after the last.
    sfreq : float
        Samples per second.
    in_epochs : bool
        Whether there are epochs.
    calibrated : bool
        Whether good stretches of the recording were seen.

    Returns
    -------
    note : str
        One sentence.
    """
    joined: list[list[int]] = []
    for number, start, stop in sorted(spans):
        # A second of good signal between two bursts is no end.
        if joined and joined[-1][0] == number and start - joined[-1][2] <= sfreq:
            joined[-1][2] = max(joined[-1][2], stop)
        else:
            joined.append([number, start, stop])
    places = []
    for number, start, stop in joined[:_PLACES]:
        epoch = f" of epoch {number}" if in_epochs else ""
        places.append(f"between {start / sfreq:.4g} and {stop / sfreq:.4g} s{epoch}")
    more = f", and {len(joined) - _PLACES} more times" if len(joined) > _PLACES else ""
    known = "what was good of the recording" if calibrated else "what EEG usually looks like"
    return (
        f"Artefact in most channels {', '.join(places)}{more}: the others are no measure there, and what is "
        f"kept goes by {known}; better leave these parts out."
    )


def _plain(array: np.ndarray) -> Any:
    if array.ndim > 1:
        return [_plain(each) for each in array]
    return [float(value) if np.isfinite(value) else None for value in array]
