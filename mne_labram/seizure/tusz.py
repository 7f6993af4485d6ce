"""The label files of the Temple University Hospital Seizure Corpus (TUSZ), ``.csv`` and ``.csv_bi``."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace

from mne.utils import warn

from mne_labram.seizure.event_types import BACKGROUND, TUSZ_TYPES
from mne_labram.seizure.events import EventTable, SeizureEvent
from mne_labram.seizure.text_files import MAX_SECONDS, excerpt, number, read_lines, table_cells

__all__ = ["is_tusz_csv", "parse_tusz_csv", "read_tusz_csv"]

_COLUMNS = ["channel", "start_time", "stop_time", "label", "confidence"]
_DURATION = re.compile(r"# ?duration ?= ?(\S+)(?: (?:secs?\.?|seconds?|s))?", re.IGNORECASE)
#: The channel of rows that are about all channels ("terminal" labels).
_ALL_CHANNELS = "TERM"
#: What the corpus's guidelines list beside seizures: background, patterns, artefacts, and NESZ, the non-epileptic one.
_NO_SEIZURE = frozenset(
    "BCKG NULL SPSW GPED PLED EYBL ARTF EYEM CHEW SHIV MUSC ELPP ELST ELEC CALB HPHS TRIP SLOW INTR NESZ TRIA".split()
)
#: Times have four decimals: what begins within this many seconds of another's end touches it.
_TOUCHING = 1e-3
#: The duration in the header has two decimals.
_ROUNDING = 0.01


def read_tusz_csv(fname: str | os.PathLike[str], *, duration: float | None = None) -> EventTable:
    """Read a label file of TUSZ 1.5.3 or later.

    Parameters
    ----------
    fname : path-like
        A ``.csv`` (types, channel by channel) or a ``.csv_bi`` (seizure or not, for all channels at once). Types are
        only in the first: read it where there are both.
    duration : float | None
        Length of the recording in seconds; ``None``: as the file's header says.

    Returns
    -------
    table : EventTable
        Rows of one type that overlap or touch, on whatever channels, are one event: from the first start to the last
        end, with all their channels and the mean of their confidences. Types stay apart, also where they overlap.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        In one sentence with the line, if this is no label file of TUSZ, a time or a label makes no sense, or the length
        of the recording is not known.

    Notes
    -----
    Types become SzCORE's by :data:`~mne_labram.seizure.event_types.TUSZ_TYPES`. Labels of patterns and artefacts, and
    NESZ, the non-epileptic seizure, are no seizures and are passed over.
    """
    return parse_tusz_csv(*read_lines(fname), duration=duration)


def is_tusz_csv(lines: list[str]) -> bool:
    """Tell a label file of TUSZ from other tables.

    Parameters
    ----------
    lines : list of str
        Lines of the file.

    Returns
    -------
    answer : bool
        Whether the first line that is no comment is TUSZ's header.
    """
    first = next((line for line in lines if not line.startswith("#")), "")
    return [cell.strip() for cell in first.split(",")] == _COLUMNS


def parse_tusz_csv(name: str, lines: list[str], *, duration: float | None = None) -> EventTable:
    """Read the lines of a label file of TUSZ.

    Parameters
    ----------
    name : str
        Name of the file, for messages.
    lines : list of str
        Its lines.
    duration : float | None
        See :func:`read_tusz_csv`.

    Returns
    -------
    table : EventTable
        See :func:`read_tusz_csv`.

    Raises
    ------
    ValueError
        See :func:`read_tusz_csv`.
    """
    if not is_tusz_csv(lines):
        raise ValueError(f"{name} is no label file of TUSZ; after its comments the columns are {','.join(_COLUMNS)}.")
    header = next(index for index, line in enumerate(lines) if not line.startswith("#"))
    if duration is None:
        duration = _duration(name, lines[:header])
    _, rows = table_cells(name, lines[header:], ",", first_line=header + 1)
    by_type: dict[str, list[_Row]] = {}
    warned = False
    for line, cells in rows:
        where = f"{name}, line {line}"
        event_type = _event_type(where, cells["label"])
        row = _row(where, cells)
        if event_type == BACKGROUND:
            continue
        if row.start >= duration:
            raise ValueError(
                f"{where}: the seizure begins at {row.start:g} s and the recording ends at {duration:g} s."
            )
        if row.stop > duration + _ROUNDING and not warned:
            warned = True
            warn(f"{where}: the seizure ends at {row.stop:g} s; it was cut at the recording's {duration:g} s.")
        by_type.setdefault(event_type, []).append(replace(row, stop=min(row.stop, duration)))
    events = [event for event_type, found in by_type.items() for event in _merged(event_type, found)]
    return EventTable(tuple(events), duration)


@dataclass(frozen=True, order=True)
class _Row:
    start: float
    stop: float
    channel: str
    confidence: float


def _duration(name: str, comments: list[str]) -> float:
    for line, comment in enumerate(comments, 1):
        if match := _DURATION.fullmatch(" ".join(comment.split())):
            value = number(match.group(1))
            if value is None or not 0 < value <= MAX_SECONDS:
                raise ValueError(f"{name}, line {line}: {excerpt(match.group(1))} is no duration of a recording.")
            return value
    raise ValueError(f"{name} does not say how long the recording is (# duration = ... secs); pass duration.")


def _event_type(where: str, label: str) -> str:
    upper = label.upper()
    if upper == "SEIZ":
        return "sz"
    if upper in TUSZ_TYPES:
        return TUSZ_TYPES[upper]
    if upper in _NO_SEIZURE or set(upper.split("_")) <= _NO_SEIZURE:
        return BACKGROUND
    raise ValueError(f"{where}: {excerpt(label)} is no label of TUSZ; a seizure of unknown type is seiz.")


def _row(where: str, cells: dict[str, str]) -> _Row:
    start, stop, confidence = (number(cells[column]) for column in ("start_time", "stop_time", "confidence"))
    if start is None or stop is None or not 0 <= start < stop:
        times = f"{excerpt(cells['start_time'])} to {excerpt(cells['stop_time'])}"
        raise ValueError(f"{where}: {times} is no stretch of time, in seconds after the recording's first sample.")
    if confidence is None or not 0 <= confidence <= 1:
        raise ValueError(f"{where}: confidence must lie between 0 and 1, got {excerpt(cells['confidence'])}.")
    return _Row(start, stop, cells["channel"], confidence)


def _merged(event_type: str, rows: list[_Row]) -> list[SeizureEvent]:
    groups: list[list[_Row]] = []
    end = 0.0
    for row in sorted(rows):
        if not groups or row.start > end + _TOUCHING:
            groups.append([])
            end = row.stop
        groups[-1].append(row)
        end = max(end, row.stop)
    return [
        SeizureEvent(
            group[0].start,
            max(row.stop for row in group) - group[0].start,
            event_type,
            sum(row.confidence for row in group) / len(group),
            tuple(dict.fromkeys(row.channel for row in group if row.channel != _ALL_CHANNELS)),
        )
        for group in groups
    ]
