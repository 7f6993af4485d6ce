"""Write a Raw as EDF+ or BDF+, record by record.

Source: Kemp B, Olivan J (2003), "European data format 'plus' (EDF+)", Clinical Neurophysiology 114:1755-1761, and
https://www.edfplus.info/specs/edfplus.html; for BDF, https://www.biosemi.com/faq/file_format.htm and
https://www.teuniz.net/edfbrowser/bdfplus%20format%20description.html. MNE writes EDF too, through edfio, which holds
the whole recording in memory.
"""

from __future__ import annotations

import datetime
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mne
import numpy as np
from mne.io import BaseRaw

from mne_labram.signal.contract import ContractError
from mne_labram.signal.open_recordings import electrical_picks

__all__ = ["Calibration", "edf_calibrations", "not_in_edf", "write_edf"]

# Bytes of one data record at most, as the specification recommends (61440), unless one second takes more.
_MAX_RECORD = 61440
_SEXES = {1: "M", 2: "F"}
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
# Samples read at a time.
_CHUNK = 10.0


@dataclass(frozen=True)
class Calibration:
    """How the integers of one signal become physical values.

    Attributes
    ----------
    low, high : float
        Physical minimum and maximum.
    digital_low, digital_high : int
        Integers that stand for them.
    """

    low: float
    high: float
    digital_low: int
    digital_high: int

    @property
    def step(self) -> float:
        """Physical units per integer; below 0 for a converter that is wired upside down."""
        return (self.high - self.low) / (self.digital_high - self.digital_low)

    def digital(self, samples: np.ndarray) -> np.ndarray:
        """Return the nearest integers, int32."""
        integers = np.rint((samples - self.low) / self.step) + self.digital_low
        return np.clip(integers, self.digital_low, self.digital_high).astype("<i4")

    def covers(self, least: float, most: float) -> bool:
        """Tell whether such samples, or half a step more, lie in the range."""
        room = 0.5 * abs(self.step)
        return min(self.low, self.high) - room <= least and most <= max(self.low, self.high) + room


def write_edf(
    raw: BaseRaw,
    fname: str | os.PathLike[str],
    *,
    calibrations: Mapping[str, Calibration] | None = None,
) -> list[str]:
    """Write a recording as EDF+ (``.edf``, 16 bits) or BDF+ (``.bdf``, 24 bits).

    Parameters
    ----------
    raw : mne.io.BaseRaw
        The recording; it is read in pieces.
    fname : path-like
        The file, which must not exist; the ending chooses the format.
    calibrations : mapping of str to Calibration | None
        Ranges of signals, in µV for electrodes, by the name of the channel. A signal that has none, or goes
        beyond it, gets its own range; it is read twice for that.

    Returns
    -------
    notes : list of str
        What the format cannot say.

    Raises
    ------
    ContractError
        If a name, or the rate, does not fit into the format.
    """
    path = Path(fname)
    bdf = path.suffix.lower() == ".bdf"
    names = raw.ch_names
    _check_names(names)
    per_record, duration = _record(raw.info["sfreq"], raw.n_times, len(names), bdf)
    n_records = -(-raw.n_times // per_record)
    factors = _factors(raw.info)
    table = _calibrations(raw, factors, calibrations or {}, bdf)
    texts = _annotation_texts(raw, n_records, duration)
    width = max(map(len, texts))
    size = 3 if bdf else 2
    width += -width % size
    units = ["uV" if factor == 1e6 else "" for factor in factors]
    n_missing = 0
    with path.open("xb") as file:
        file.write(_header(raw, n_records, duration, per_record, table, units, width // size, bdf))
        at_once = max(1, int(_CHUNK * raw.info["sfreq"]) // per_record)
        for first in range(0, n_records, at_once):
            last = min(first + at_once, n_records)
            x = raw.get_data(start=first * per_record, stop=min(last * per_record, raw.n_times), verbose="ERROR")
            x *= factors[:, None]
            n_missing += int(np.isnan(x).sum())
            integers = np.zeros((len(names), (last - first) * per_record), dtype="<i4")
            for row, (calibration, each) in enumerate(zip(table, np.nan_to_num(x), strict=True)):
                integers[row, : x.shape[1]] = calibration.digital(each)
                # The last record is filled with the last value, which makes no step.
                integers[row, x.shape[1] :] = integers[row, x.shape[1] - 1]
            records = integers.reshape(len(names), last - first, per_record)
            for record in range(first, last):
                content = np.ascontiguousarray(records[:, record - first])
                file.write(content.view(np.uint8).reshape(-1, 4)[:, :size].tobytes())
                file.write(texts[record].ljust(width, b"\x00"))
    notes = []
    if extra := n_records * per_record - raw.n_times:
        notes.append(f"The last data record was filled up with {extra} samples, which repeat the last one.")
    if n_missing:
        notes.append(f"{n_missing} samples are NaN, which {path.suffix} cannot say; they were written as 0.")
    coarse = [(each.step, name) for name, each, unit in zip(names, table, units, strict=True) if unit and each.step > 1]
    if coarse and not bdf:
        step, name = max(coarse)
        notes.append(f"16 bits resolve no more than {step:.3g} µV in channel {name!r}; .bdf has 24, and .fif floats.")
    return notes


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if len(name) > 16 or not (name.isascii() and name.isprintable()):
            raise ContractError(
                f"Channel {name!r} cannot be named in an EDF file (16 characters of ASCII); write .fif, or rename it."
            )


def _record(sfreq: float, n_times: int, n_channels: int, bdf: bool) -> tuple[int, str]:
    """Return samples and duration of a data record: about a second, into which the recording can be cut evenly."""
    candidates = []
    for n in range(1, max(2, int(10 * sfreq) + 1)):
        text = f"{n / sfreq:.7f}"[:8].rstrip("0").rstrip(".") if _eight(n / sfreq) is None else _eight(n / sfreq)
        if float(text) > 0:
            candidates.append((abs(n / float(text) / sfreq - 1), n, text))
    # 8 characters must say the duration. Where none is right to the last digit, a second a week may be wrong.
    best = min(candidates, default=(1.0, 0, ""))[0]
    if best > 1e-6:
        raise ContractError(f"A rate of {sfreq!r} Hz cannot be written in an EDF file; write .fif.")
    fitting = [(n, text) for error, n, text in candidates if error <= max(best, 1e-9)]
    room = _MAX_RECORD // ((3 if bdf else 2) * n_channels)
    small = [pair for pair in fitting if pair[0] <= max(room, sfreq)] or fitting[:1]
    even = [pair for pair in small if n_times % pair[0] == 0 and pair[0] >= 0.25 * sfreq]
    return min(even or small, key=lambda pair: abs(math.log(pair[0] / sfreq)))


def _eight(value: float) -> str | None:
    """Return a number in 8 characters that is read back as the same number, None if there is none."""
    for digits in range(1, 9):
        text = f"{value:.{digits}g}"
        if "e" in text:
            text = np.format_float_positional(value, trim="-")
        if len(text) <= 8 and float(text) == value:
            return text
    return None


def _limit(value: float, upwards: bool) -> float:
    """Return a number of at most 8 characters that is not on the wrong side of a value."""
    for digits in range(7, 0, -1):
        rounded = float(f"{value:.{digits}g}")
        if (rounded < value) if upwards else (rounded > value):
            rounded += (1 if upwards else -1) * 10.0 ** (math.floor(math.log10(abs(value))) - digits + 1)
            rounded = float(f"{rounded:.{digits}g}")
        if _eight(rounded) is not None:
            return rounded
    raise ContractError(f"Samples of the size of {value:.3g} cannot be written in an EDF file; write .fif.")


def _calibrations(raw: BaseRaw, factors: np.ndarray, wanted: Mapping[str, Calibration], bdf: bool) -> list[Calibration]:
    """Return the range of every signal: what is wanted, if it covers the signal, else the signal's own."""
    room = 2 ** (23 if bdf else 15)
    out = []
    for name, factor, least, most in zip(raw.ch_names, factors, *_limits(raw, factors), strict=True):
        if name in wanted and wanted[name].covers(least, most):
            out.append(wanted[name])
        elif factor == 1.0 and least == int(least) and most == int(most) and max(-least, most) < room:
            # Triggers and counters are whole numbers: one step is one.
            out.append(Calibration(-room, room - 1, -room, room - 1))
        else:
            least, most = min(least, 0.0), max(most, 0.0)
            if most - least < 1e-3:
                least, most = least - 1.0, most + 1.0
            bounds = [0.0 if each == 0 else _limit(each, each > 0) for each in (least, most)]
            out.append(Calibration(*bounds, -room, room - 1))
    return out


def _factors(info: mne.Info) -> np.ndarray:
    """Return what every channel is multiplied by: electrodes are written in µV, all others as they are."""
    factors = np.ones(len(info["chs"]))
    factors[electrical_picks(info)] = 1e6
    return factors


def _limits(raw: BaseRaw, factors: np.ndarray) -> tuple[list[float], list[float]]:
    """Return the smallest and the largest sample of every channel, 0 where there is none."""
    low, high = np.full(len(factors), np.inf), np.full(len(factors), -np.inf)
    step = max(1, int(_CHUNK * raw.info["sfreq"]))
    for start in range(0, raw.n_times, step):
        x = raw.get_data(start=start, stop=min(start + step, raw.n_times), verbose="ERROR")
        if np.isinf(x).any():
            raise ContractError("Infinite samples cannot be written in an EDF file; write .fif.")
        low, high = np.fmin(low, np.fmin.reduce(x, axis=1)), np.fmax(high, np.fmax.reduce(x, axis=1))
    low, high = (np.where(np.isfinite(each), each * factors, 0.0).tolist() for each in (low, high))
    return low, high


def _annotation_texts(raw: BaseRaw, n_records: int, duration: str) -> list[bytes]:
    """Return what stands in the annotation signal of each record: its time stamp, then annotations."""
    stamps = [f"{_seconds(record * float(duration), True)}\x14\x14\x00".encode() for record in range(n_records)]
    waiting = []
    for onset, length, description in zip(
        raw.annotations.onset, raw.annotations.duration, raw.annotations.description, strict=True
    ):
        begin = onset - raw.first_time
        length = f"\x15{_seconds(length)}" if length > 0 else ""
        text = str(description).replace("\x14", " ").replace("\x15", " ").replace("\x00", " ")
        waiting.append((begin, f"{_seconds(begin, True)}{length}\x14{text}\x14\x00".encode()))
    waiting.sort(key=lambda pair: pair[0])
    # As wide as it takes: annotations that do not fit into their record go into the next ones, which EDF+ allows.
    room = max([len(text) for _, text in waiting], default=0)
    while True:
        contents, left = _distributed(waiting, n_records, float(duration), room)
        if not left:
            return [stamp + content for stamp, content in zip(stamps, contents, strict=True)]
        room *= 2


def _distributed(
    waiting: list[tuple[float, bytes]], n_records: int, duration: float, room: int
) -> tuple[list[bytes], list[tuple[float, bytes]]]:
    contents, queue = [], list(reversed(waiting))
    for record in range(n_records):
        content = b""
        while queue and (queue[-1][0] < (record + 1) * duration or record == n_records - 1):
            if len(content) + len(queue[-1][1]) > room:
                break
            content += queue.pop()[1]
        contents.append(content)
    return contents, queue


def _seconds(value: float, signed: bool = False) -> str:
    text = np.format_float_positional(round(float(value), 7), trim="-")
    return f"+{text}" if signed and not text.startswith("-") else text


def _field(text: Any, width: int) -> bytes:
    encoded = str(text).encode("ascii", errors="replace")[:width]
    return encoded.ljust(width)


def _header(
    raw: BaseRaw,
    n_records: int,
    duration: str,
    per_record: int,
    table: Sequence[Calibration],
    units: Sequence[str],
    n_annotation: int,
    bdf: bool,
) -> bytes:
    kind = "BDF" if bdf else "EDF"
    start = raw.info["meas_date"]
    start = None if start is None else start + datetime.timedelta(seconds=raw.first_time)
    # Two digits of a year stand for 1985 to 2084 (specification, section 2.1.3).
    known = start is not None and 1985 <= start.year <= 2084
    day = f"{start.day:02d}-{_MONTHS[start.month - 1]}-{start.year}" if known else "X"
    out = [b"\xffBIOSEMI" if bdf else _field("0", 8), _field(_patient(raw.info["subject_info"]), 80)]
    out.append(_field(f"Startdate {day} X X X", 80))
    out.append(_field(start.strftime("%d.%m.%y") if known else "01.01.85", 8))
    out.append(_field(start.strftime("%H.%M.%S") if known else "00.00.00", 8))
    n_signals = len(table) + 1
    out += [_field(256 * (n_signals + 1), 8), _field(f"{kind}+C", 44), _field(n_records, 8), _field(duration, 8)]
    out.append(_field(n_signals, 4))
    low, high = (-(2**23), 2**23 - 1) if bdf else (-(2**15), 2**15 - 1)
    bands = f"HP:{raw.info['highpass']:g}Hz LP:{raw.info['lowpass']:g}Hz"
    rows = [
        (name, "", unit, _eight(each.low), _eight(each.high), each.digital_low, each.digital_high, bands, per_record)
        for name, unit, each in zip(raw.ch_names, units, table, strict=True)
    ]
    rows.append((f"{kind} Annotations", "", "", "-1", "1", low, high, "", n_annotation))
    for column, width in enumerate((16, 80, 8, 8, 8, 8, 8, 80, 8)):
        out += [_field(row[column], width) for row in rows]
    out.append(_field("", 32 * n_signals))
    return b"".join(out)


def _patient(subject: Mapping[str, Any] | None) -> str:
    """Return the patient field: code, sex, birthday, name; X for what is not known."""
    subject = subject or {}
    birthday = subject.get("birthday")
    if birthday is not None:
        birthday = f"{birthday.day:02d}-{_MONTHS[birthday.month - 1]}-{birthday.year}"
    names = [subject.get(key) for key in ("first_name", "middle_name", "last_name")]
    name = " ".join(str(each) for each in names if each)
    fields = (subject.get("his_id"), _SEXES.get(subject.get("sex")), birthday, name)
    return " ".join(str(field).replace(" ", "_") if field else "X" for field in fields)


def edf_calibrations(storage: Mapping[str, Any], info: mne.Info, bdf: bool) -> dict[str, Calibration]:
    """Return calibrations by which the integers of the source are written again.

    Parameters
    ----------
    storage : mapping
        From the header of a compressed file.
    info : mne.Info
        Its channels.
    bdf : bool
        Whether a BDF file is to be written.

    Returns
    -------
    calibrations : dict of str to Calibration
        By name, for the channels that lie on a grid that the format can write: of an EDF file, its own limits.
    """
    room = 2 ** (23 if bdf else 15)
    out = {}
    for name, factor, (grid, _, limits) in zip(info["ch_names"], _factors(info), storage["source"], strict=True):
        if factor == 1.0:
            limits = None
        if limits is None and grid is not None:
            # The rounding takes off what the factor put on.
            limits = [float(f"{factor * (grid[0] + each * grid[1]):.10g}") for each in (-room, room - 1)]
            limits += [-room, room - 1]
        if limits is None or not (-room <= limits[2] < limits[3] < room):
            continue
        if all(_eight(float(each)) is not None for each in limits[:2]):
            out[name] = Calibration(float(limits[0]), float(limits[1]), int(limits[2]), int(limits[3]))
    return out


def not_in_edf(info: mne.Info) -> list[str]:
    """Return what of a measurement info an EDF file does not keep."""
    kinds = {"dig": "electrode positions", "bads": "bad channels", "projs": "projectors"}
    return [text for key, text in kinds.items() if info[key]]
