"""What MNE does not say of an EDF or BDF file: gaps, units as written, physical limits, missing records.

MNE reads a discontinuous file (EDF+D, BDF+D) as if it were continuous and takes any physical dimension it does not know
for volts. Both are plain in the header and in the records' time stamps, which are parsed here.

Source: Kemp B, Olivan J (2003), "European data format 'plus' (EDF+), an EDF alike standard format for the exchange of
physiological data", Clinical Neurophysiology 114:1755-1761, and the specification at https://www.edfplus.info/specs/.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mne_labram.signal.contract import ContractError

__all__ = ["EdfHeader", "Gap", "find_gaps", "read_edf_annotations", "read_edf_header", "record_onsets"]

#: Labels of the signals that carry time stamps and annotations.
_ANNOTATION_LABELS = ("EDF Annotations", "BDF Annotations")
#: Spellings MNE scales (``mne.io.edf.edf``); all others it takes for volts.
MNE_UNITS = {"\u03bcV": 1e-6, "\u00b5V": 1e-6, "\x83\xcaV": 1e-6, "uV": 1e-6, "mV": 1e-3, "V": 1.0}
#: A record that begins this many seconds later than expected leaves a gap (time stamps are often rounded to ms).
_MIN_GAP = 2e-3


@dataclass(frozen=True)
class EdfHeader:
    """The header of an EDF, EDF+, BDF or BDF+ file.

    Attributes
    ----------
    path : Path
        The file.
    kind : str
        ``"EDF"``, ``"EDF+C"``, ``"EDF+D"``, ``"BDF"``, ``"BDF+C"`` or ``"BDF+D"``.
    n_records_declared, n_records : int
        Data records as the header says, and whole records in the file.
    record_seconds : float
        Duration of one data record in seconds.
    labels, units : tuple of str
        Of every signal, annotation signals among them.
    physical_min, physical_max, digital_min, digital_max : tuple of float
        Calibration, in the units as written.
    n_samples : tuple of int
        Samples of each signal in one record.
    data_offset : int
        Bytes before the first record.
    trailing_bytes : int
        Bytes after the last whole record.
    """

    path: Path
    kind: str
    n_records_declared: int
    n_records: int
    record_seconds: float
    labels: tuple[str, ...]
    units: tuple[str, ...]
    physical_min: tuple[float, ...]
    physical_max: tuple[float, ...]
    digital_min: tuple[float, ...]
    digital_max: tuple[float, ...]
    n_samples: tuple[int, ...]
    data_offset: int
    trailing_bytes: int

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample."""
        return 3 if self.kind.startswith("BDF") else 2

    @property
    def record_bytes(self) -> int:
        """Bytes of one data record."""
        return sum(self.n_samples) * self.sample_bytes

    @property
    def discontinuous(self) -> bool:
        """Whether the file declares itself discontinuous."""
        return self.kind.endswith("+D")

    @property
    def annotation_signal(self) -> int | None:
        """Index of the signal that carries the records' time stamps."""
        return next((i for i, label in enumerate(self.labels) if label in _ANNOTATION_LABELS), None)

    @property
    def truncation(self) -> str | None:
        """A sentence where the file is shorter than its header says, else ``None``."""
        name = self.path.name
        if 0 <= self.n_records_declared and self.n_records < self.n_records_declared:
            return (
                f"{name} was cut short: its header declares {self.n_records_declared} data records and "
                f"{self.n_records} are there."
            )
        if self.n_records_declared < 0:
            return f"{name} was not closed by the recorder; the length is taken from the size of the file."
        if self.trailing_bytes:
            return f"{name} ends within a data record, which was left out."
        return None

    def signal_index(self, ch_name: str) -> int | None:
        """Return the signal that MNE calls ``ch_name`` (it numbers duplicates ``-0``, ``-1`` ...)."""
        if ch_name in self.labels:
            return self.labels.index(ch_name)
        base, _, number = ch_name.rpartition("-")
        same = [i for i, label in enumerate(self.labels) if label == base]
        return same[int(number)] if number.isdigit() and len(same) > 1 and int(number) < len(same) else None

    def limits_in_volts(self, signal: int) -> tuple[float, float, float]:
        """Return lowest value, highest value and quantum of a signal as MNE scales it."""
        factor = MNE_UNITS.get(self.units[signal], 1.0)
        low, high = self.physical_min[signal] * factor, self.physical_max[signal] * factor
        levels = self.digital_max[signal] - self.digital_min[signal]
        quantum = abs(high - low) / levels if levels > 0 else 0.0
        return min(low, high), max(low, high), quantum


@dataclass(frozen=True)
class Gap:
    """A stretch that is missing between two records.

    Attributes
    ----------
    onset : float
        Seconds of data in the file before the gap.
    missing : float
        Seconds that are missing.
    """

    onset: float
    missing: float


def _fields(block: bytes, width: int, n: int) -> list[str]:
    # Stripped as MNE does it: a unit padded with NUL is unknown to MNE, which then takes it for volts.
    return [block[i * width : (i + 1) * width].strip().decode("latin-1") for i in range(n)]


def _numbers(values: list[str]) -> tuple[float, ...]:
    return tuple(float(value.split("\x00")[0].replace(",", ".")) for value in values)


def read_edf_header(fname: str | os.PathLike[str]) -> EdfHeader:
    """Read the header of an EDF or BDF file.

    Parameters
    ----------
    fname : path-like
        The file.

    Returns
    -------
    header : EdfHeader
        What it says.

    Raises
    ------
    ContractError
        If the file is not EDF or BDF, or its header contradicts itself.
    """
    path = Path(fname)
    size = path.stat().st_size
    with path.open("rb") as file:
        fixed = file.read(256)
        is_bdf = fixed[:1] == b"\xff" and fixed[1:8] == b"BIOSEMI"
        if len(fixed) < 256 or not (is_bdf or fixed[:8].strip() == b"0"):
            raise ContractError(f"{path.name} is not an EDF or BDF file; check that the file is whole.")
        try:
            data_offset = int(fixed[184:192])
            declared = int(fixed[236:244])
            record_seconds = float(fixed[244:252].decode("latin-1").replace(",", "."))
            n_signals = int(fixed[252:256])
            if not 0 < n_signals <= 9999 or data_offset != 256 * (n_signals + 1) or size < data_offset:
                raise ValueError(n_signals)
            block = file.read(256 * n_signals)
            # Field widths of the signal headers, in the order of the specification.
            columns, at = [], 0
            for width in (16, 80, 8, 8, 8, 8, 8, 80, 8, 32):
                columns.append(_fields(block[at : at + width * n_signals], width, n_signals))
                at += width * n_signals
            n_samples = tuple(int(value) for value in columns[8])
            calibration = [_numbers(columns[i]) for i in (3, 4, 5, 6)]
            if min(n_samples) < 0 or sum(n_samples) < 1 or not 0 <= record_seconds < np.inf:
                raise ValueError(n_samples)
        except ValueError as error:
            raise ContractError(f"The EDF header of {path.name} is damaged; export the recording again.") from error
    reserved = fixed[192:197].decode("latin-1").strip()
    kind = ("BDF" if is_bdf else "EDF") + (reserved[3:5] if reserved[:4] in ("EDF+", "BDF+") else "")
    record_bytes = sum(n_samples) * (3 if is_bdf else 2)
    n_records, trailing = divmod(size - data_offset, record_bytes)
    return EdfHeader(
        path=path,
        kind=kind,
        n_records_declared=declared,
        n_records=n_records,
        record_seconds=record_seconds,
        labels=tuple(columns[0]),
        units=tuple(columns[2]),
        physical_min=calibration[0],
        physical_max=calibration[1],
        digital_min=calibration[2],
        digital_max=calibration[3],
        n_samples=n_samples,
        data_offset=data_offset,
        trailing_bytes=trailing,
    )


def record_onsets(header: EdfHeader) -> np.ndarray | None:
    """Read the time stamp of every data record.

    Parameters
    ----------
    header : EdfHeader
        Header of an EDF+ or BDF+ file.

    Returns
    -------
    onsets : ndarray, shape (n_records,) | None
        Seconds since the start of the recording; NaN where a record has no legible time stamp, ``None`` where the file
        has no annotation signal.

    Notes
    -----
    The first time-stamped annotation list of each record begins with ``+onset`` followed by two bytes 0x14 (EDF+
    specification, section 2.2.4).
    """
    if header.annotation_signal is None:
        return None
    onsets = np.full(header.n_records, np.nan)
    for record, content in _annotation_bytes(header):
        stamp = content.split(b"\x14", 1)[0].split(b"\x15", 1)[0]
        # Only the first annotation signal carries the time stamp (EDF+ specification, section 2.2.4).
        if np.isnan(onsets[record]):
            try:
                onsets[record] = float(stamp)
            except ValueError:
                continue
    return onsets


def _annotation_bytes(header: EdfHeader) -> Iterator[tuple[int, bytes]]:
    """Yield record number and content of the annotation signals, record by record."""
    signals = [i for i, label in enumerate(header.labels) if label in _ANNOTATION_LABELS]
    places = [
        (sum(header.n_samples[:i]) * header.sample_bytes, header.n_samples[i] * header.sample_bytes) for i in signals
    ]
    with header.path.open("rb") as file:
        for record in range(header.n_records if signals else 0):
            for before, width in places:
                file.seek(header.data_offset + record * header.record_bytes + before)
                yield record, file.read(width)


def read_edf_annotations(header: EdfHeader) -> list[tuple[float, float, str]]:
    """Read the annotations of an EDF+ or BDF+ file.

    Parameters
    ----------
    header : EdfHeader
        Header of the file.

    Returns
    -------
    annotations : list of (float, float, str)
        Onset in seconds since the first sample by the recorder's clock, duration in seconds, text (without the channel
        that may be attached by ``@@``).
    """
    out: list[tuple[float, float, str]] = []
    first: float | None = None
    for _, content in _annotation_bytes(header):
        for entry in content.split(b"\x14\x00"):
            stamp, *texts = entry.lstrip(b"\x00").split(b"\x14")
            onset, _, duration = stamp.partition(b"\x15")
            try:
                start, length = float(onset), float(duration or 0)
            except ValueError:
                continue
            first = start if first is None else first
            decoded = [text.decode("utf-8", errors="replace").split("@@")[0] for text in texts if text]
            out += [(start - first, length, text) for text in decoded]
    return out


def find_gaps(header: EdfHeader) -> list[Gap]:
    """Find the gaps of a discontinuous file.

    Parameters
    ----------
    header : EdfHeader
        Header of the file.

    Returns
    -------
    gaps : list of Gap
        Empty for a continuous file, and for an EDF+D whose records follow each other (a common way to write them).

    Raises
    ------
    ContractError
        If the file says it is discontinuous and its time stamps cannot be read.
    """
    if not header.discontinuous:
        return []
    onsets = record_onsets(header)
    if onsets is None or (len(onsets) and np.isnan(onsets).any()):
        raise ContractError(
            f"{header.path.name} is a discontinuous {header.kind} file whose records carry no legible time stamps; "
            f"export it again as a continuous file."
        )
    missing = np.diff(onsets) - header.record_seconds
    return [
        Gap(onset=(i + 1) * header.record_seconds, missing=float(missing[i]))
        for i in np.flatnonzero(np.abs(missing) > _MIN_GAP)
    ]
