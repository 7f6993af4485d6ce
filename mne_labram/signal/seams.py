"""Where a recording was interrupted: gaps of EDF+D files, joins of other formats; and what that does to annotations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mne
import numpy as np

from mne_labram.signal.edf import Gap, find_gaps, read_edf_annotations
from mne_labram.signal.source import EdfPart

__all__ = ["FileGap", "annotation_seams", "annotations_in_data_time", "bad_annotations", "file_gaps"]


@dataclass(frozen=True)
class FileGap:
    """A gap of an EDF+D or BDF+D file inside a Raw.

    Attributes
    ----------
    onset : float
        Seconds of the Raw's data before the gap.
    missing : float
        Seconds that are missing (negative: the clock jumps back).
    gap : Gap
        The same, counted from the beginning of the file.
    name : str
        The file.
    """

    onset: float
    missing: float
    gap: Gap
    name: str


def file_gaps(raw: mne.io.BaseRaw, parts: Sequence[EdfPart]) -> list[FileGap]:
    """Return the gaps inside a Raw; raise ContractError where the file's time stamps cannot be read."""
    sfreq = raw.info["sfreq"]
    found = []
    for part in parts:
        for gap in find_gaps(part.header):
            sample = gap.onset * sfreq - part.first + part.start
            if part.start < sample < part.stop:
                found.append(FileGap(sample / sfreq, gap.missing, gap, part.header.path.name))
    return found


def gap_sentence(gaps: Sequence[FileGap]) -> str:
    """Say where the first gap is and what to do."""
    first = gaps[0]
    more = f" (the first of {len(gaps)} gaps)" if len(gaps) > 1 else ""
    what = (
        f"{first.missing:g} s are missing after {first.gap.onset:g} s of data"
        if first.missing > 0
        else f"its clock jumps back by {-first.missing:g} s after {first.gap.onset:g} s of data"
    )
    return f"{first.name} is discontinuous: {what}{more}; pass gaps='split' to treat the parts separately."


def annotation_seams(raw: mne.io.BaseRaw) -> list[float]:
    """Find where annotations say that pieces were joined.

    Parameters
    ----------
    raw : mne.io.BaseRaw
        The recording.

    Returns
    -------
    seams : list of float
        Seconds of the Raw's data.

    Notes
    -----
    ``EDGE...`` (MNE, where recordings were concatenated), ``BAD_ACQ_SKIP`` (MNE, skips of FIF files: both ends),
    ``boundary`` (EEGLAB) and ``New Segment`` (BrainVision) after the first sample.
    """
    seams = set()
    start = raw.first_time
    for onset, duration, description in zip(
        raw.annotations.onset, raw.annotations.duration, raw.annotations.description, strict=True
    ):
        text = description.upper()
        if text.startswith(("EDGE", "NEW SEGMENT")) or text == "BOUNDARY":
            seams.add(float(onset - start))
        elif text.startswith("BAD_ACQ_SKIP"):
            seams |= {float(onset - start), float(onset - start + duration)}
    return sorted(seam for seam in seams if 0 < seam < raw.n_times / raw.info["sfreq"])


def bad_annotations(
    raw: mne.io.BaseRaw, table: mne.Annotations, picks: Sequence[int]
) -> list[tuple[float, float, np.ndarray]]:
    """Return start and end, in seconds of data, of annotations that begin with BAD or EDGE, and the picks they name."""
    start, out = raw.first_time, []
    for onset, duration, description, names in zip(
        table.onset, table.duration, table.description, table.ch_names, strict=True
    ):
        if description.upper().startswith(("BAD", "EDGE")):
            channels = np.array([not names or raw.ch_names[pick] in names for pick in picks])
            if channels.any():
                out.append((float(onset - start), float(onset - start + duration), channels))
    return out


def annotations_in_data_time(
    raw: mne.io.BaseRaw, parts: Sequence[EdfPart], gaps: Sequence[FileGap]
) -> tuple[mne.Annotations, str]:
    """Move a discontinuous file's own annotations to where their signal is.

    MNE leaves the annotations of an EDF+D file at the time of the clock while the signal after a gap follows at once,
    and drops those that lie beyond the end of the data.

    Parameters
    ----------
    raw : mne.io.BaseRaw
        The recording.
    parts : sequence of EdfPart
        The files behind it.
    gaps : sequence of FileGap
        Its gaps.

    Returns
    -------
    annotations : mne.Annotations
        The file's own annotations moved, those within a gap dropped, those MNE had dropped added; others unchanged.
    note : str
        What to tell the user.
    """
    annotations = raw.annotations.copy()
    if len(parts) != 1 or raw.first_samp != 0 or any(gap.missing < 0 for gap in gaps):
        return annotations, (
            "The file's annotations after a gap are left at the time of the clock, because the recording was cropped, "
            "joined or has records out of order."
        )
    start, end = raw.first_time, raw.n_times / raw.info["sfreq"]
    onset, duration = annotations.onset.astype(float), annotations.duration.astype(float)
    keep = np.ones(len(onset), dtype=bool)
    added = []
    for clock, length, text in read_edf_annotations(parts[0].header):
        place = _data_interval(clock, length, gaps)
        here = np.flatnonzero((np.abs(onset - start - clock) < 1e-3) & (annotations.description == text) & keep)
        if len(here) and place is None:
            keep[here[0]] = False
        elif len(here):
            onset[here[0]], duration[here[0]] = place[0] + start, place[1]
        elif clock >= end and place is not None:
            # MNE drops what lies beyond the data; what else is missing was taken away by the user, and what is at its
            # place already was added before.
            if not np.any((np.abs(onset - start - place[0]) < 1e-3) & (annotations.description == text)):
                added.append((place[0] + start, place[1], text))
    kept = annotations[keep]
    moved = mne.Annotations(
        onset[keep], duration[keep], kept.description, kept.orig_time, ch_names=kept.ch_names, extras=kept.extras
    )
    for each in added:
        moved.append(*each)
    return moved, "The file's annotations after a gap were moved to where their signal is."


def _data_interval(onset: float, duration: float, gaps: Sequence[FileGap]) -> tuple[float, float] | None:
    """Return onset and duration in seconds of data; ``None`` for what lies wholly within a gap."""
    first, first_missing = _to_data_time(onset, gaps)
    last, last_missing = _to_data_time(onset + duration, gaps)
    return None if first_missing and last_missing and first == last else (first, last - first)


def _to_data_time(clock: float, gaps: Sequence[FileGap]) -> tuple[float, bool]:
    """Return seconds of data before a time of the clock, and whether that time lies in a gap."""
    shift = 0.0
    for gap in gaps:
        if clock < gap.onset + shift:
            break
        if clock < gap.onset + shift + gap.missing:
            return gap.onset, True
        shift += gap.missing
    return clock - shift, False
