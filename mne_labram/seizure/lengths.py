"""How long a recording is and when it began, from its header."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path

from mne_labram.signal.edf import read_edf_header
from mne_labram.signal.opening import open_recording

__all__ = ["recording_date", "recording_duration"]


def recording_duration(path: str | os.PathLike[str]) -> float:
    """Return how long a recording is, from its header.

    Parameters
    ----------
    path : path-like
        The recording.

    Returns
    -------
    duration : float
        Seconds of data in the file.

    Raises
    ------
    ContractError
        If the file is missing or cannot be read.
    """
    path = Path(path)
    if path.is_file() and path.suffix.lower() in (".edf", ".bdf"):
        header = read_edf_header(path)
        return header.n_records * header.record_seconds
    recording = open_recording(path)
    return len(recording.times) / recording.info["sfreq"]


def recording_date(path: str | os.PathLike[str]) -> datetime | None:
    """Return when a recording began, from its header.

    Parameters
    ----------
    path : path-like
        The recording.

    Returns
    -------
    date : datetime | None
        Of the first sample; ``None`` where the header does not say, or there is no such file.

    Raises
    ------
    ContractError
        If the file cannot be read.
    """
    path = Path(path)
    if not path.exists():
        return None
    recording = open_recording(path)
    date = recording.info["meas_date"]
    return None if date is None else date + timedelta(seconds=float(getattr(recording, "first_time", 0.0)))
