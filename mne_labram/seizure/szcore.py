"""HED-SCORE TSV: the files in which SzCORE exchanges seizures.

One row per event, tab-separated, of exactly seven columns; one ``bckg`` row for a recording without seizures
(epilepsybenchmarks.com/framework; ``annotations.py`` of github.com/esl-epfl/epilepsy2bids).
"""

from __future__ import annotations

import math
import os
from datetime import datetime
from pathlib import Path

from mne.utils import logger, verbose, warn

from mne_labram._files import written_whole
from mne_labram.seizure.event_types import BACKGROUND, EVENT_TYPES, is_seizure, known_type
from mne_labram.seizure.events import EventTable, SeizureEvent
from mne_labram.seizure.text_files import MAX_SECONDS, excerpt, number, read_lines, table_cells

__all__ = ["COLUMNS", "parse_szcore", "read_szcore_tsv", "szcore_rows", "write_szcore_tsv"]

#: The header of a HED-SCORE TSV.
COLUMNS = ("onset", "duration", "eventType", "confidence", "channels", "dateTime", "recordingDuration")
_DATE = "%Y-%m-%d %H:%M:%S"
_NOT_GIVEN = "n/a"
#: What epilepsy2bids 0.0.7 makes of a confidence that is not given, once it has read and written it.
_NAN = "nan"
#: What spreadsheets take for the beginning of a formula, in full width too (OWASP, "CSV injection").
_FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")
#: Two decimals are what SzCORE's own writer keeps: the end of an event may lie behind the recording's by rounding.
_ROUNDING = 0.02
# Below what anyone writes, above what adding binary numbers costs.
_TOLERANCE = 1e-6


@verbose
def read_szcore_tsv(fname: str | os.PathLike[str], *, verbose: bool | str | None = None) -> EventTable:
    """Read a HED-SCORE TSV.

    Parameters
    ----------
    fname : path-like
        The file, at most 10 MB of UTF-8; a byte order mark and Windows line ends are fine.
    verbose : bool | str | None
        See MNE.

    Returns
    -------
    table : EventTable
        The seizures; none for a file of ``bckg`` rows. ``date_time`` has no time zone, as the file has none.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        In one sentence with the line, if the columns are not exactly :data:`COLUMNS`, there is no row, a number is
        missing, not finite or outside its range, a type is neither ``bckg`` nor a seizure, an event begins after the
        recording's end, or two rows disagree on when the recording began or how long it is.

    See Also
    --------
    write_szcore_tsv : The other way.
    mne_labram.seizure.readers.read_events_tsv : For the ``events.tsv`` of other BIDS data sets.

    Notes
    -----
    With a warning, a seizure of a type that SzCORE does not have (``sz_...``) becomes ``sz``, one spelled with hyphens
    gets its underscores, and one that ends after the recording ends with it.
    """
    name, lines = read_lines(fname)
    return parse_szcore(name, lines)


def parse_szcore(name: str, lines: list[str], *, other_rows: bool = False) -> EventTable:
    """Read the lines of a HED-SCORE TSV.

    Parameters
    ----------
    name : str
        Name of the file, for messages.
    lines : list of str
        Header and rows.
    other_rows : bool
        Also take files with more columns, in any order, and pass over rows that are no seizures (SeizeIT2's ``impd``).

    Returns
    -------
    table : EventTable
        See :func:`read_szcore_tsv`.

    Raises
    ------
    ValueError
        See :func:`read_szcore_tsv`.
    """
    header = tuple(cell.strip(" ") for cell in lines[0].split("\t")) if lines else ()
    if header != COLUMNS and not (other_rows and set(COLUMNS) <= set(header)):
        raise ValueError(
            f"{name}, line 1: the columns must be {' '.join(COLUMNS)}, separated by tabs, and the line says "
            f"{excerpt(lines[0] if lines else '')}."
        )
    _, rows = table_cells(name, lines, "\t")
    if not rows:
        raise ValueError(f"{name} has a header and no row; a recording without seizures has one of type bckg.")
    recording: tuple[datetime | None, float] | None = None
    read: tuple[str, str] | None = None
    events: list[SeizureEvent] = []
    warned: set[str] = set()
    for line, cells in rows:
        where = f"{name}, line {line}"
        event_type = _event_type(where, cells["eventType"], other_rows, warned)
        texts = cells["dateTime"], cells["recordingDuration"]
        # The same in every row, and slow to read.
        this = recording if texts == read else _recording(where, *texts)
        read = texts
        if recording is not None and this != recording:
            column = "recordingDuration" if this[0] == recording[0] else "dateTime"
            raise ValueError(
                f"{where}: {column} {excerpt(cells[column])} is not that of the rows above; one file is about one "
                "recording."
            )
        recording = this
        onset = _seconds(where, "onset", cells["onset"])
        if onset < 0:
            raise ValueError(f"{where}: the onset {excerpt(cells['onset'])} lies before the recording's first sample.")
        if event_type is None:
            continue
        duration = _positive(where, "duration", cells["duration"])
        confidence = _confidence(where, cells["confidence"])
        if event_type == BACKGROUND:
            continue
        if onset >= this[1]:
            raise ValueError(f"{where}: the seizure begins at {onset:g} s and the recording ends at {this[1]:g} s.")
        if onset + duration > this[1]:
            if onset + duration > this[1] + _ROUNDING and "end" not in warned:
                warned.add("end")
                warn(
                    f"{where}: the seizure ends at {onset + duration:g} s; it was cut at the recording's {this[1]:g} s."
                )
            duration = this[1] - onset
        events.append(SeizureEvent(onset, duration, event_type, confidence, _channels(cells["channels"])))
    return EventTable(tuple(events), recording[1], recording[0])


def _recording(where: str, date: str, duration: str) -> tuple[datetime | None, float]:
    this = _date(where, date), _positive(where, "recordingDuration", duration)
    if this[1] > MAX_SECONDS:
        raise ValueError(f"{where}: no recording lasts {this[1]:g} s, more than a year.")
    return this


def _event_type(where: str, text: str, other_rows: bool, warned: set[str]) -> str | None:
    """Return the level, None for a row to pass over."""
    if text in EVENT_TYPES:
        return text
    if not text.casefold().startswith("sz"):
        if other_rows:
            return None
        raise ValueError(
            f"{where}: {excerpt(text)} is none of SzCORE's event types; a seizure of unknown type is sz, and no "
            "seizure is bckg."
        )
    level = known_type(text) or "sz"
    if text not in warned:
        warned.add(text)
        warn(f"{where}: {excerpt(text)} is none of SzCORE's event types; it was read as {level}.")
    return level


def _seconds(where: str, column: str, text: str) -> float:
    value = number(text)
    if value is None:
        raise ValueError(f"{where}: {column} must be a number of seconds, got {excerpt(text)}.")
    return value


def _positive(where: str, column: str, text: str) -> float:
    value = _seconds(where, column, text)
    if value <= 0:
        raise ValueError(f"{where}: {column} must be more than 0 seconds, got {excerpt(text)}.")
    return value


def _confidence(where: str, text: str) -> float | None:
    if text in (_NOT_GIVEN, _NAN):
        return None
    value = number(text)
    if value is None or not 0.0 <= value <= 1.0:
        raise ValueError(f"{where}: confidence must be n/a or a number between 0 and 1, got {excerpt(text)}.")
    return value


def _date(where: str, text: str) -> datetime | None:
    if text == _NOT_GIVEN:
        return None
    try:
        return datetime.strptime(text, _DATE)
    except ValueError:
        raise ValueError(f"{where}: dateTime must be n/a or like 2024-12-31 23:59:59, got {excerpt(text)}.") from None


def _channels(text: str) -> tuple[str, ...]:
    names = (name.strip() for name in text.split(",")) if text not in (_NOT_GIVEN, _NAN) else ()
    # The apostrophe that _safe put before what looks like a formula.
    return tuple(name[1:] if name[:1] == "'" and name[1:].startswith(_FORMULA) else name for name in names if name)


@verbose
def write_szcore_tsv(
    table: EventTable,
    fname: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    verbose: bool | str | None = None,
) -> Path:
    """Write a HED-SCORE TSV.

    Parameters
    ----------
    table : EventTable
        The seizures of one recording; without any, the file gets the one ``bckg`` row that says so.
    fname : path-like
        The file, which appears whole or not at all.
    overwrite : bool
        Replace an existing file.
    verbose : bool | str | None
        See MNE.

    Returns
    -------
    path : Path
        The file.

    Raises
    ------
    TypeError
        If ``table`` is no :class:`~mne_labram.seizure.events.EventTable`.
    ValueError
        If a type is none of SzCORE's seizure types.
    FileExistsError
        If the file exists and ``overwrite`` is false.
    FileNotFoundError
        If the folder does not exist.

    See Also
    --------
    read_szcore_tsv : The other way.

    Notes
    -----
    Events are written from the whole second in which they begin to the end of the one in which they end, or the end of
    the recording: SzCORE's scorer cuts fractions off (``Annotations.getMask`` of epilepsy2bids), and an event within
    one second would be lost. Events of one type that overlap then become one, with the highest confidence and all
    channels. Names of channels are the only free text; an apostrophe is put before one that a spreadsheet would take
    for a formula, and control characters, commas and quotation marks become ``_``, with a warning.
    """
    rows = szcore_rows(table)
    path = Path(fname).expanduser()
    with written_whole(path, overwrite=overwrite) as temporary:
        content = "".join("\t".join(row) + "\n" for row in (COLUMNS, *rows))
        temporary.write_text(content, encoding="utf8", newline="\n")
    logger.info(f"Wrote {len(table)} seizure{'' if len(table) == 1 else 's'} to {path}.")
    return path


def szcore_rows(table: EventTable) -> list[tuple[str, ...]]:
    """Return the cells that :func:`write_szcore_tsv` writes.

    Parameters
    ----------
    table : EventTable
        The seizures of one recording.

    Returns
    -------
    rows : list of tuple of str
        One cell for each of :data:`COLUMNS`.

    Raises
    ------
    TypeError
        If ``table`` is no :class:`~mne_labram.seizure.events.EventTable`.
    ValueError
        If a type is none of SzCORE's seizure types.
    """
    if not isinstance(table, EventTable):
        raise TypeError(f"An EventTable is written, got {type(table).__name__}.")
    if not all(is_seizure(event.event_type) for event in table.events):
        raise ValueError("A table lists seizures only; leave events of type bckg out of it.")
    duration = round(table.duration, 6)
    date = _NOT_GIVEN
    if table.date_time is not None:
        # The clock's own digits: the format knows no time zone, and MNE's dates are local times called UTC.
        date = table.date_time.replace(tzinfo=None, microsecond=0).isoformat(sep=" ")
    replaced: set[str] = set()
    rows = []
    for event in _whole_seconds(table.events, duration):
        confidence = _NOT_GIVEN if event.confidence is None else _decimal(round(event.confidence, 4))
        channels = ",".join(filter(None, (_safe(name, replaced) for name in event.channels))) or _NOT_GIVEN
        rows.append((_decimal(event.onset), _decimal(event.duration), event.event_type, confidence, channels))
    if not rows:
        rows = [("0", _decimal(duration), BACKGROUND, _NOT_GIVEN, _NOT_GIVEN)]
    if replaced:
        warn(f"Characters that a TSV cannot hold became _ in channel {', '.join(map(excerpt, sorted(replaced)))}.")
    return [(*row, date, _decimal(duration)) for row in rows]


def _whole_seconds(events: tuple[SeizureEvent, ...], end: float) -> list[SeizureEvent]:
    """Widen events to whole seconds and merge those of a type that then overlap."""
    out: list[SeizureEvent] = []
    last: dict[str, int] = {}
    for event in events:
        start = math.floor(event.onset + _TOLERANCE)
        stop = min(max(math.ceil(event.stop - _TOLERANCE), start + 1), end)
        if stop - start < 2 * _TOLERANCE:  # It begins a rounding error before the recording's end.
            start = max(math.ceil(end - 2 * _TOLERANCE) - 1, 0)
        index = last.get(event.event_type)
        if index is not None and start < out[index].stop:
            before = out[index]
            given = [each for each in (before.confidence, event.confidence) if each is not None]
            channels = tuple(dict.fromkeys((*before.channels, *event.channels)))
            out[index] = SeizureEvent(
                before.onset,
                max(stop, before.stop) - before.onset,
                event.event_type,
                max(given, default=None),
                ("all",) if "all" in channels else channels,
            )
        else:
            last[event.event_type] = len(out)
            out.append(SeizureEvent(start, stop - start, event.event_type, event.confidence, event.channels))
    return sorted(out, key=lambda event: (event.onset, event.duration))


def _decimal(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _safe(name: str, replaced: set[str]) -> str:
    """Return the name of a channel as a cell may hold it."""
    clean = "".join("_" if not character.isprintable() or character in ',"' else character for character in name)
    if clean != name:
        replaced.add(name)
    clean = clean.strip()
    if clean == _NOT_GIVEN:
        return ""
    return f"'{clean}" if clean.startswith(_FORMULA) else clean
