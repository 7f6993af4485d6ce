"""The label files of CHB-MIT: ``.seizures``, ``chbXX-summary.txt``, and the list of a folder of excerpts.

``.seizures`` is an annotation file in the MIT format of WFDB (``annot(5)`` in the WFDB Applications Guide): words of 16
bits, the lowest byte first, of which the upper 6 bits are a code and the lower 10 the samples since the word before.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from mne_labram.seizure.events import EventTable, SeizureEvent
from mne_labram.seizure.lengths import recording_duration
from mne_labram.seizure.text_files import MAX_BYTES, MAX_SECONDS, excerpt, read_lines

__all__ = ["read_chbmit_seizures", "read_chbmit_summary", "read_excerpts", "summary_table"]

# Codes of WFDB's ecgcodes.h: ventricular flutter begins and ends, "[" and "]", which CHB-MIT uses for seizures.
_BEGIN, _END = 32, 33
_SKIP, _NUMBER, _SUBTYPE, _CHANNEL, _TEXT = 59, 60, 61, 62, 63
#: CHB-MIT's only sampling rate.
_SFREQ = 256.0


def read_chbmit_seizures(fname: str | os.PathLike[str], duration: float | None = None) -> EventTable:
    """Read a ``.seizures`` file of CHB-MIT.

    Parameters
    ----------
    fname : path-like
        Such as ``chb01_03.edf.seizures``.
    duration : float | None
        Length of the recording in seconds; ``None``: read from the recording beside it (``chb01_03.edf``).

    Returns
    -------
    table : EventTable
        Types are not known: all are ``sz``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, a seizure has no end, or the length of the recording is not known.
    """
    path = Path(fname).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    if not path.is_file() or path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{str(path)!r} is no .seizures file; give the file that lies beside the EDF file.")
    marks, sfreq = _marks(path.name, path.read_bytes())
    if [code for code, _ in marks] != [_BEGIN, _END] * (len(marks) // 2):
        raise ValueError(f"{path.name} does not have a beginning and an end for every seizure; get the file again.")
    times = [sample / sfreq for _, sample in marks]
    if any(later <= earlier for earlier, later in pairwise(times)) or (times and not 0 <= times[0]):
        raise ValueError(f"{path.name} has seizures that end before they begin; get the file again.")
    if duration is None:
        recording = path.with_name(path.name.removesuffix(".seizures"))
        if recording == path or not recording.is_file():
            raise ValueError(f"{path.name} does not say how long the recording is; pass duration.")
        duration = recording_duration(recording)
    return _table(path.name, zip(times[::2], times[1::2], strict=True), duration)


def _table(name: str, intervals: Iterable[tuple[float, float]], duration: float) -> EventTable:
    events = [SeizureEvent(start, stop - start) for start, stop in intervals]
    late = next((event for event in events if event.onset >= duration), None)
    if late is not None:
        raise ValueError(f"{name}: a seizure begins at {late.onset:g} s and the recording ends at {duration:g} s.")
    return EventTable(tuple(events), duration)


def _marks(name: str, content: bytes) -> tuple[list[tuple[int, int]], float]:
    """Return codes with their samples, and the sampling rate they count in."""
    damaged = ValueError(f"{name} is no annotation file of WFDB, or it was cut short; get the file again.")

    def word(position: int) -> int:
        if position + 2 > len(content):
            raise damaged
        return int.from_bytes(content[position : position + 2], "little")

    marks: list[tuple[int, int]] = []
    position, sample, sfreq = 0, 0, _SFREQ
    while True:
        code, interval = divmod(word(position), 1024)
        position += 2
        if code == interval == 0:
            return marks, sfreq
        if code == _SKIP:
            # 32 bits with a sign; of its two words the upper one comes first.
            value = word(position) << 16 | word(position + 2)
            sample += value - (1 << 32) * (value >> 31)
            position += 4
        elif code == _TEXT:
            text = content[position : position + interval].rstrip(b"\x00")
            position += interval + interval % 2
            if match := re.fullmatch(rb"## time resolution: ([0-9]{1,6}(?:\.[0-9]{1,6})?)", text):
                sfreq = float(match.group(1))
                if sfreq == 0:
                    raise damaged
        elif code not in (_NUMBER, _SUBTYPE, _CHANNEL):
            sample += interval
            if code in (_BEGIN, _END):
                marks.append((code, sample))


@dataclass(frozen=True)
class _Entry:
    # None: chb24's summary has no times.
    duration: float | None
    intervals: tuple[tuple[float, float], ...]


def _summary(fname: str | os.PathLike[str]) -> tuple[str, dict[str, _Entry]]:
    """Return the file's name, and what it says by name of the EDF file."""
    name, lines = read_lines(fname)
    entries: dict[str, _Entry] = {}
    recording: str | None = None
    clock: list[int] = []
    starts: list[float] = []
    intervals: list[tuple[float, float]] = []
    expected, begun = 0, 0

    def close() -> None:
        if recording is None:
            return
        if len(starts) > 0 or len(intervals) != expected:
            raise ValueError(
                f"{name}, line {begun}: {recording} should have {expected} seizures, and {len(intervals)} have a start "
                "and an end."
            )
        seconds = (clock[1] - clock[0]) % 86400 if len(clock) == 2 else 0
        entries[recording] = _Entry(float(seconds) or None, tuple(intervals))

    for line, text in enumerate(lines, 1):
        key, _, value = (part.strip() for part in text.partition(":"))
        where = f"{name}, line {line}"
        if key == "File Name":
            close()
            if value in entries:
                raise ValueError(f"{where}: {excerpt(value)} is there twice.")
            recording, clock, starts, intervals, expected, begun = value, [], [], [], 0, line
        elif recording is None:
            continue
        elif key in ("File Start Time", "File End Time"):
            match = re.fullmatch(r"([0-9]{1,2}):([0-9]{2}):([0-9]{2})", value)
            if match is None:
                raise ValueError(f"{where}: {excerpt(value)} is no time of day.")
            hours, minutes, seconds = map(int, match.groups())
            clock.append(hours * 3600 + minutes * 60 + seconds)
        elif key == "Number of Seizures in File":
            if not re.fullmatch(r"[0-9]{1,4}", value):
                raise ValueError(f"{where}: {excerpt(value)} is no number of seizures.")
            expected = int(value)
        elif match := re.fullmatch(r"Seizure(?: [0-9]+)? (Start|End) Time", key):
            seconds = re.fullmatch(r"([0-9]{1,7}) seconds", value)
            if seconds is None:
                raise ValueError(f"{where}: {excerpt(value)} is no number of seconds.")
            time = float(seconds.group(1))
            if match.group(1) == "Start":
                starts.append(time)
            elif len(starts) != 1 or time <= starts[0]:
                raise ValueError(f"{where}: a seizure ends at {time:g} s and did not begin before.")
            else:
                intervals.append((starts.pop(), time))
    close()
    if not entries:
        raise ValueError(f"{name} is no summary of CHB-MIT; it names no file (File Name: ...).")
    return name, entries


def read_chbmit_summary(
    fname: str | os.PathLike[str], durations: Mapping[str, float] | None = None
) -> dict[str, EventTable]:
    """Read a ``chbXX-summary.txt`` of CHB-MIT.

    Parameters
    ----------
    fname : path-like
        The file.
    durations : mapping of str to float | None
        Length of recordings in seconds by name of the EDF file; where it is not given, it is taken from the clock times
        in the summary, in whole seconds.

    Returns
    -------
    tables : dict of str to EventTable
        By name of the EDF file (``"chb01_03.edf"``); recordings without a seizure have a table without events.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        In one sentence with the line, if it is no such file, its numbers contradict each other, or the length of a
        recording is not known (chb24's summary has no times).
    """
    durations = {} if durations is None else durations
    name, entries = _summary(fname)
    return {each: _of_entry(name, each, entry, durations.get(each)) for each, entry in entries.items()}


def summary_table(fname: str | os.PathLike[str], recording: str, duration: float | None = None) -> EventTable | None:
    """Read what a ``chbXX-summary.txt`` says of one recording.

    Parameters
    ----------
    fname : path-like
        The summary.
    recording : str
        Name of the EDF file.
    duration : float | None
        Its length in seconds; ``None``: from the times in the summary.

    Returns
    -------
    table : EventTable | None
        ``None``: the summary does not list it.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        See :func:`read_chbmit_summary`.
    """
    name, entries = _summary(fname)
    return _of_entry(name, recording, entries[recording], duration) if recording in entries else None


def _of_entry(name: str, recording: str, entry: _Entry, duration: float | None) -> EventTable:
    duration = entry.duration if duration is None else duration
    if duration is None:
        raise ValueError(f"{name} does not say how long {recording} is; pass its duration.")
    return _table(f"{name}, {recording}", entry.intervals, duration)


def read_excerpts(fname: str | os.PathLike[str]) -> dict[str, EventTable]:
    """Read the list of a folder of excerpts from longer recordings.

    Parameters
    ----------
    fname : path-like
        A JSON list with one entry per excerpt: ``file``, its name; ``t0_s``, where it begins in the recording it was
        taken from; ``dur_s``, its length; ``seizure_s``, start and end of the seizure in the same recording, or null.
        All in seconds.

    Returns
    -------
    tables : dict of str to EventTable
        By name of the excerpt: the part of the seizure that lies in it, or no events.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        In one sentence with the number of the entry, if an entry is not like this.

    Examples
    --------
    >>> from pathlib import Path
    >>> tables = read_excerpts("segments.json")  # doctest: +SKIP
    >>> store = SeizureStore.open(".", contract, events_of=lambda path: tables.get(Path(path).name))  # doctest: +SKIP
    """
    name, lines = read_lines(fname)
    try:
        entries = json.loads("\n".join(lines))
    except (json.JSONDecodeError, RecursionError):
        raise ValueError(f"{name} is not JSON.") from None
    if not isinstance(entries, list):
        raise ValueError(f"{name} is no list of excerpts; see read_excerpts for what an entry says.")
    tables: dict[str, EventTable] = {}
    for index, entry in enumerate(entries, 1):
        try:
            file = entry["file"]
            begin, length = float(entry["t0_s"]), float(entry["dur_s"])
            seizure = [float(each) - begin for each in entry["seizure_s"] or ()]
        except (KeyError, TypeError, ValueError):
            file = None
        if (
            not isinstance(file, str)
            or not all(map(math.isfinite, (begin, *seizure)))
            or len(seizure) not in (0, 2)
            or not 0 < length <= MAX_SECONDS
            or file in tables
        ):
            raise ValueError(f"{name}, entry {index} is no excerpt, or there twice; see read_excerpts.")
        start, stop = (max(seizure[0], 0.0), min(seizure[1], length)) if seizure else (0.0, 0.0)
        events = (SeizureEvent(start, stop - start),) if start < stop else ()
        tables[file] = EventTable(events, length)
    return tables
