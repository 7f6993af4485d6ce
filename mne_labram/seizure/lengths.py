"""How long a recording is, from its header."""

from __future__ import annotations

import os
from pathlib import Path

from mne_labram.signal.edf import read_edf_header
from mne_labram.signal.opening import open_recording

__all__ = ["recording_duration"]


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
