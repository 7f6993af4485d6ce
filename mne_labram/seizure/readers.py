"""What is known about the seizures of a recording, from whatever lies beside it or in it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from mne.io import BaseRaw
from mne.utils import warn

from mne_labram.seizure.chbmit import read_chbmit_seizures, read_chbmit_summary, read_excerpts, summary_table
from mne_labram.seizure.event_types import BACKGROUND, is_seizure, known_type
from mne_labram.seizure.events import EventTable, SeizureEvent
from mne_labram.seizure.lengths import recording_duration
from mne_labram.seizure.szcore import COLUMNS, parse_szcore
from mne_labram.seizure.text_files import excerpt, number, read_lines, table_cells
from mne_labram.seizure.tusz import is_tusz_csv, parse_tusz_csv, read_tusz_csv
from mne_labram.signal.edf import read_edf_annotations, read_edf_header

__all__ = [
    "events_from_annotations",
    "find_events",
    "read_chbmit_seizures",
    "read_chbmit_summary",
    "read_events_tsv",
    "read_excerpts",
    "read_tusz_csv",
    "recording_duration",
]

#: Columns of an ``events.tsv`` that may name a seizure, the first one there is.
_TYPE_COLUMNS = ("eventType", "trial_type", "event_type", "description")
#: What BIDS and MNE put behind the name of a recording.
_SUFFIX = re.compile(r"[_-](?:eeg|ieeg|meg|raw)$")
#: A type of SzCORE's kind that is none of its 71.
_SEIZURE = re.compile(r"sz[_-][\w-]+", re.IGNORECASE)
#: MNE keeps the times of annotations in microseconds.
_DECIMALS = 6
#: A number, or "p=0.93", behind the name of a seizure counts it or says how sure it is.
_COMPANION = re.compile(r"[\s,;:#(\[]{1,3}(p ?= ?)?([0-9]{0,9}(?:\.[0-9]{1,9})?)[)\]]?$", re.IGNORECASE)


def read_events_tsv(fname: str | os.PathLike[str], *, duration: float | None = None) -> EventTable:
    """Read the seizures in an ``events.tsv`` of any BIDS data set.

    Parameters
    ----------
    fname : path-like
        A tab-separated table. With SzCORE's seven columns it is read like a HED-SCORE TSV, but with more columns and
        rows of other things (SeizeIT2's ``impd``) allowed. Any other needs ``onset``, ``duration`` and one of
        ``eventType``, ``trial_type``, ``event_type`` or ``description``.
    duration : float | None
        Length of the recording in seconds; ``None``: from the column ``recordingDuration``.

    Returns
    -------
    table : EventTable
        The rows that name a seizure (:func:`~mne_labram.seizure.event_types.known_type`).

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        In one sentence with the line, if a row of a seizure makes no sense, if the length of the recording is not
        known, or if no row is about seizures (neither one nor ``bckg``): then the file does not say whether there are
        any.
    """
    name, lines = read_lines(fname)
    table = _parse_events(name, lines, None if duration is None else lambda: duration)
    if table is None:
        raise ValueError(
            f"{name} names neither a seizure nor {BACKGROUND}; it does not say whether the recording has seizures."
        )
    return table


def _parse_events(name: str, lines: list[str], length_of: Callable[[], float] | None) -> EventTable | None:
    """Return the seizures, or None where no row is about seizures."""
    columns, rows = table_cells(name, lines, "\t")
    if set(COLUMNS) <= set(columns):
        return parse_szcore(name, lines, other_rows=True)
    column = next((each for each in _TYPE_COLUMNS if each in columns), None)
    if column is None or not {"onset", "duration"} <= set(columns):
        return None
    named = [(line, cells, _seizure_type(cells[column])) for line, cells in rows]
    if all(event_type is None for _, _, event_type in named):
        return None
    if length_of is not None:
        duration = length_of()
    else:
        lengths = {cells.get("recordingDuration", "") for _, cells in rows}
        duration = number(lengths.pop()) if len(lengths) == 1 else None
        if duration is None or duration <= 0:
            raise ValueError(f"{name} does not say how long the recording is; pass duration.")
    events = []
    for line, cells, event_type in named:
        if event_type is None or event_type == BACKGROUND:
            continue
        onset, length = number(cells["onset"]), number(cells["duration"])
        if onset is None or length is None or not 0 <= onset < duration or length <= 0:
            raise ValueError(
                f"{name}, line {line}: onset {excerpt(cells['onset'])} and duration {excerpt(cells['duration'])} are "
                f"no stretch of a recording of {duration:g} s."
            )
        confidence = number(cells.get("confidence", ""))
        if confidence is not None and not 0 <= confidence <= 1:
            raise ValueError(f"{name}, line {line}: confidence must lie between 0 and 1, got {confidence:g}.")
        events.append(SeizureEvent(onset, min(length, duration - onset), event_type, confidence))
    return EventTable(tuple(events), duration)


def _seizure_type(text: str) -> str | None:
    """Return SzCORE's name of what a row or an annotation names, None for what is not about seizures."""
    level = known_type(text)
    return "sz" if level is None and _SEIZURE.fullmatch(text.strip()) else level


def find_events(path: str | os.PathLike[str], *, duration: float | None = None) -> EventTable | None:
    """Find what is known about the seizures of a recording.

    Parameters
    ----------
    path : path-like
        The recording.
    duration : float | None
        Its length in seconds; ``None``: read from its header.

    Returns
    -------
    table : EventTable | None
        ``None``: nothing is known, which is not the same as a table without events.

    Raises
    ------
    ValueError
        If a file of labels is there and cannot be understood: in one sentence, with the line.
    ContractError
        If the recording's length is needed and it cannot be read.

    Notes
    -----
    Labels that give another length than the recording has get a warning. The first of these that says something
    counts, for a recording ``x.edf`` or ``x_eeg.edf``:

    1. ``x_events.tsv``, SzCORE's or another data set's, if a row names a seizure or ``bckg``;
    2. ``x.csv``, then ``x.csv_bi``, if it is one of TUSZ;
    3. ``x.edf.seizures`` of CHB-MIT;
    4. ``chbXX-summary.txt`` of CHB-MIT in the same folder, if it lists the recording: the only one that knows of
       recordings without seizures;
    5. the annotations in an EDF+ or BDF+ file without gaps, if one names a seizure
       (:func:`events_from_annotations`).
    """
    path = Path(path).expanduser()
    stem = path.name.removesuffix(path.suffix)
    bare = _SUFFIX.sub("", stem)
    length = cache(lambda: recording_duration(path) if duration is None else duration)
    # Names are made, not looked for: a folder of 10 000 recordings is not listed for each of them.
    for name in dict.fromkeys((f"{stem}_events.tsv", f"{bare}_events.tsv")):
        if (file := path.with_name(name)).is_file():
            table = _parse_events(*read_lines(file), length)
            if table is not None:
                return _compared(table, file, length())
    for name in (f"{stem}.csv", f"{stem}.csv_bi"):
        if (file := path.with_name(name)).is_file():
            label, lines = read_lines(file)
            if is_tusz_csv(lines):
                return _compared(parse_tusz_csv(label, lines), file, length())
    if (file := path.with_name(f"{path.name}.seizures")).is_file():
        return read_chbmit_seizures(file, length())
    if match := re.match(r"chb[0-9]{2}", stem):
        file = path.with_name(f"{match.group()}-summary.txt")
        table = summary_table(file, path.name, length()) if file.is_file() else None
        if table is not None:
            return table
    if path.suffix.lower() in (".edf", ".bdf") and path.is_file():
        header = read_edf_header(path)
        # Onsets count by the recorder's clock, which leaves the data behind at a gap.
        annotations = [] if header.discontinuous else read_edf_annotations(header)
        type_of = _type_of(None)
        found = [(onset, lasting, *_named(text, type_of)) for onset, lasting, text in annotations]
        events = _inside(path.name, (each for each in found if each[2] is not None), length())
        if events:
            return EventTable(events, length())
    return None


def _compared(table: EventTable, file: Path, length: float) -> EventTable:
    if abs(table.duration - length) > 1.0:
        warn(
            f"{file.name} is about a recording of {table.duration:g} s and the one beside it has {length:g} s; see "
            "whether they belong together."
        )
    return table


def events_from_annotations(raw: BaseRaw, descriptions: Mapping[str, str] | Iterable[str] | None = None) -> EventTable:
    """Read the seizures among a recording's annotations.

    Parameters
    ----------
    raw : mne.io.Raw
        The recording.
    descriptions : mapping of str to str | iterable of str | None
        What annotations of seizures are called, whole; the case does not matter. A mapping also says which of SzCORE's
        types each is. ``None``: SzCORE's types, TUSZ's labels, ``sz``, ``seiz`` and ``seizure``.

    Returns
    -------
    table : EventTable
        Onsets in seconds after the first sample, whatever ``raw.first_time`` and ``raw.info["meas_date"]`` are, within
        the recording. Without a matching annotation there are no events: whether that means no seizures, only who
        annotated knows.

    Raises
    ------
    TypeError
        If ``raw`` is no Raw.
    ValueError
        If a type is none of SzCORE's seizure types, or there are no descriptions.

    Notes
    -----
    A description is compared whole, but for a number or ``p=0.93`` behind it (``Seizure 2``): ``pre-seizure``, ``no
    seizure`` or ``seizure end`` are none. Confidence and channels are taken from ``extras`` where they are
    (:func:`mne_labram.read_raw_szcore_bids`), a confidence else from ``p=0.93``. Annotations without
    duration are left out with a warning. MNE misplaces the annotations of EDF+D files with gaps.
    """
    if not isinstance(raw, BaseRaw):
        raise TypeError(f"Annotations are read from an mne.io.Raw, got {type(raw).__name__}.")
    type_of = _type_of(descriptions)
    found = []
    for each in raw.annotations:
        event_type, confidence = _named(str(each["description"]), type_of)
        if event_type is not None:
            extras = each.get("extras") or {}
            # With or without a measurement date, the onsets of a Raw's annotations hold first_time.
            onset = round(float(each["onset"]) - float(raw.first_time), _DECIMALS)
            channels = _channels(extras.get("channels")) or tuple(each.get("ch_names") or ())
            # EDF keeps nothing of an annotation but its description.
            confidence = confidence if extras.get("confidence") is None else _confidence(extras["confidence"])
            found.append((onset, float(each["duration"]), event_type, confidence, channels))
    duration = len(raw.times) / raw.info["sfreq"]
    events = _inside("The recording", found, duration)
    date = raw.info["meas_date"]
    if date is not None:
        date = (date + timedelta(seconds=raw.first_time)).replace(tzinfo=None)
    return EventTable(events, duration, date)


def _type_of(descriptions: Mapping[str, str] | Iterable[str] | None) -> Callable[[str], str | None]:
    """Return a function that names the type of a seizure, None for what is none."""
    if descriptions is None:
        return lambda text: None if (level := _seizure_type(text)) == BACKGROUND else level
    if isinstance(descriptions, str):
        descriptions = [descriptions]
    if not isinstance(descriptions, Mapping):
        descriptions = {each: known_type(each) or "sz" for each in descriptions}
    if not descriptions:
        raise ValueError("There are no descriptions; name what annotations of seizures are called, or pass None.")
    if not all(is_seizure(level) for level in descriptions.values()):
        raise ValueError("A description of background names no seizure; leave it out.")
    types = {text.strip().casefold(): level for text, level in descriptions.items()}
    return lambda text: types.get(text.strip().casefold())


def _named(text: str, type_of: Callable[[str], str | None]) -> tuple[str | None, float | None]:
    """Return the type that a description names, and the confidence that stands behind it as "p=0.93"."""
    event_type, companion = type_of(text), _COMPANION.search(text)
    if event_type is not None or companion is None:
        return event_type, None
    return type_of(text[: companion.start()]), _confidence(companion[2]) if companion[1] else None


def _inside(name: str, found: Iterable[tuple], duration: float) -> tuple[SeizureEvent, ...]:
    """Return the events that lie in the recording, from their arguments."""
    events, empty = [], 0
    for onset, length, *rest in found:
        stop = min(round(onset + length, _DECIMALS), duration)
        empty += length <= 0
        if length > 0 and stop > max(onset, 0.0):
            # The same duration wherever nothing is cut.
            whole = onset >= 0 and onset + length <= duration
            start = max(onset, 0.0)
            events.append(SeizureEvent(start, length if whole else stop - start, *rest))
    if empty:
        warn(f"{name} has {empty} annotations of seizures without duration, which were left out.")
    return tuple(events)


def _confidence(value: Any) -> float | None:
    value = number(str(value))
    return value if value is not None and 0 <= value <= 1 else None


def _channels(value: Any) -> tuple[str, ...]:
    names = value.split(",") if isinstance(value, str) else ()
    return tuple(name.strip() for name in names if name.strip() not in ("", "n/a"))
