"""Samples of an EDF or BDF file, read with one system call and scaled as MNE scales them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mne_labram.signal.contract import ContractError
from mne_labram.signal.edf import MNE_UNITS, EdfHeader
from mne_labram.signal.open_files import OpenFiles

__all__ = ["EdfSamples", "edf_samples"]

_ANNOTATIONS = ("EDF Annotations", "BDF Annotations")
#: What MNE takes for stimulus channels (``stim_channel="auto"`` of :func:`mne.io.read_raw_edf`), in lower case.
_STIMULUS = ("status", "trigger")


@dataclass(frozen=True, eq=False)
class EdfSamples:
    """The signals of an EDF or BDF file that share one sampling rate. Made by :func:`edf_samples`.

    Attributes
    ----------
    path : str
        The file.
    ch_names : tuple of str
        Names as MNE gives them.
    sfreq : float
        Sampling rate in Hz.
    n_times : int
        Samples in whole data records.
    left_out : tuple of str
        Labels of signals with another sampling rate.
    data_offset, record_bytes, sample_bytes, per_record : int
        Bytes before the first data record, of one record, of one sample; samples of one signal in a record.
    columns : ndarray of int, shape (n_chans,)
        Where in a record each signal begins, in samples.
    runs : list of (int, int, int)
        Signals that follow each other: rows from and to, first signal.
    gain, offset : ndarray of float32 or (24 bits) float64, shape (n_chans, 1) or ()
        Microvolts are ``gain * digital + offset``; one number where all signals have the same, which is faster.
    rounding : ndarray of float64, shape (n_chans,)
        Largest error of the samples in microvolts: three roundings of float32 at the largest value there can be.
    """

    path: str
    ch_names: tuple[str, ...]
    sfreq: float
    n_times: int
    left_out: tuple[str, ...]
    data_offset: int
    record_bytes: int
    sample_bytes: int
    per_record: int
    columns: np.ndarray
    runs: list[tuple[int, int, int]]
    gain: np.ndarray
    offset: np.ndarray
    rounding: np.ndarray

    def read(self, files: OpenFiles, start: int, n_times: int, rows: Sequence[int] | None = None) -> np.ndarray:
        """Read a piece.

        Parameters
        ----------
        files : OpenFiles
            Reads the bytes.
        start, n_times : int
            First sample and number of samples; they must lie within the file.
        rows : sequence of int | None
            Channels wanted, in that order; ``None``: all.

        Returns
        -------
        x : ndarray of float32, shape (n_chans, n_times)
            Microvolts.

        Raises
        ------
        ContractError
            If the file has changed or is gone.
        """
        n = self.per_record
        first = start // n
        n_records = -(-(start + n_times) // n) - first
        skip = start - first * n
        content: bytes | np.ndarray = files.read(
            self.path, self.data_offset + first * self.record_bytes, n_records * self.record_bytes
        )
        if self.sample_bytes == 2:
            kind, size = "<i2", 2
        else:
            content, kind, size = _as_int32(content), "<i4", 4
        # Samples of one record and one signal are neighbours: seen as (n_chans, n_records, per_record) and copied as
        # they are, they become (n_chans, n_times). To convert on the way would take longer.
        strides = (n * size, self.record_bytes // self.sample_bytes * size, size)
        runs = self.runs if rows is None else _runs(self.columns, rows, n)
        n_chans = len(self.columns) if rows is None else len(rows)
        if n_records == 1:
            n, before, skip = n_times, skip, 0
        else:
            before = 0
        if len(runs) == 1:
            at = (int(self.columns[runs[0][2]]) + before) * size
            digital = np.ndarray((n_chans, n_records, n), kind, content, at, strides).copy()
        else:
            digital = np.empty((n_chans, n_records, n), kind)
            for low, high, channel in runs:
                at = (int(self.columns[channel]) + before) * size
                digital[low:high] = np.ndarray((high - low, n_records, n), kind, content, at, strides)
        digital = digital.reshape(n_chans, n_records * n)[:, skip : skip + n_times]
        gain, offset = self.gain, self.offset
        if rows is not None and gain.ndim:
            gain, offset = gain[rows], offset[rows]
        if size == 2:
            out = digital.astype(np.float32)  # exact
            out *= gain
            out += offset
            return out
        # 24 bits times a gain are rounded once, not three times.
        return (digital * gain + offset).astype(np.float32)


def _as_int32(content: bytes) -> np.ndarray:
    padded = np.zeros((len(content) // 3, 4), dtype=np.uint8)
    # In the three high bytes, so that shifting right extends the sign.
    padded[:, 1:] = np.frombuffer(content, dtype=np.uint8).reshape(-1, 3)
    return padded.view("<i4")[:, 0] >> 8


def _runs(columns: np.ndarray, wanted: Sequence[int], n: int) -> list[tuple[int, int, int]]:
    """Group channels that follow each other in a record: rows of the output from and to, first channel."""
    runs, low = [], 0
    for high in range(1, len(wanted) + 1):
        joined = (
            high < len(wanted)
            and wanted[high] == wanted[high - 1] + 1
            and columns[wanted[high]] == columns[wanted[high - 1]] + n
        )
        if not joined:
            runs.append((low, high, int(wanted[low])))
            low = high
    return runs


def edf_samples(header: EdfHeader) -> EdfSamples:
    """Work out where the samples of an EDF or BDF file are, from its header alone.

    Parameters
    ----------
    header : EdfHeader
        Header of the file.

    Returns
    -------
    samples : EdfSamples
        The signals at the rate that most of them have (of two such rates the higher one), without annotations and
        stimulus channels.

    Raises
    ------
    ContractError
        If there are no samples, or their calibration makes no sense.

    Notes
    -----
    Scaling follows :mod:`mne.io.edf.edf`: ``gain = (physical_max - physical_min) / (digital_max - digital_min)``,
    ``offset = physical_min - digital_min * gain``, times 1, 1e-3 or 1e-6 for V, mV or µV, and 1 for any dimension that
    MNE does not know. MNE numbers labels that occur twice ``-0``, ``-1`` ...
    """
    path = header.path
    signals = [
        i
        for i, label in enumerate(header.labels)
        if label not in _ANNOTATIONS and label.lower() not in _STIMULUS and header.n_samples[i]
    ]
    if not (signals and header.n_records):
        raise ContractError(f"{path.name} holds no samples; get it again.")
    if not header.record_seconds:
        raise ContractError(f"{path.name} does not say how long its data records are; export it again.")
    counts = Counter(header.n_samples[i] for i in signals)
    per_record = max(counts, key=lambda rate: (counts[rate], rate))
    kept = [i for i in signals if header.n_samples[i] == per_record]
    low, high = (np.array([values[i] for i in kept]) for values in (header.digital_min, header.digital_max))
    physical_low = np.array([header.physical_min[i] for i in kept])
    physical_high = np.array([header.physical_max[i] for i in kept])
    if (high == low).any() or not np.isfinite([low, high, physical_low, physical_high]).all():
        raise ContractError(f"{path.name} gives no calibration for some of its signals; export it again.")
    gain = (physical_high - physical_low) / (high - low)
    unit = np.array([MNE_UNITS.get(header.units[i], 1.0) for i in kept]) * 1e6
    kind = np.float32 if header.sample_bytes == 2 else np.float64
    largest = np.abs(gain) * np.maximum(np.abs(low), np.abs(high)) + np.abs(physical_low - low * gain)
    rounding = 3 * np.finfo(np.float32).eps * largest * unit
    offset = ((physical_low - low * gain) * unit)[:, None].astype(kind)
    gain = (gain * unit)[:, None].astype(kind)
    same = (gain == gain[0]).all() and (offset == offset[0]).all()
    starts = np.concatenate([[0], np.cumsum(header.n_samples)])
    return EdfSamples(
        path=str(path),
        ch_names=tuple(_names(header, kept)),
        sfreq=per_record / header.record_seconds,
        n_times=header.n_records * per_record,
        left_out=tuple(header.labels[i] for i in signals if i not in kept),
        data_offset=header.data_offset,
        record_bytes=header.record_bytes,
        sample_bytes=header.sample_bytes,
        per_record=per_record,
        columns=starts[kept],
        runs=_runs(starts[kept], range(len(kept)), per_record),
        # An array of no dimension, not a NumPy scalar, with which an operation in place takes a third longer.
        gain=gain[0].reshape(()) if same else gain,
        offset=offset[0].reshape(()) if same else offset,
        rounding=rounding,
    )


def _names(header: EdfHeader, kept: Sequence[int]) -> list[str]:
    counts = Counter(header.labels)
    seen: Counter[str] = Counter()
    names = []
    for i, label in enumerate(header.labels):
        if i in kept:
            # Interned: thousands of files have the same names.
            names.append(sys.intern(f"{label}-{seen[label]}" if counts[label] > 1 else label))
        seen[label] += 1
    return names
