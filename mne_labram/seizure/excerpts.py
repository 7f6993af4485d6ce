"""The stretch of a recording around an event, as it is looked at: bipolar, filtered, in microvolts."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import mne
import numpy as np
from mne.io import BaseRaw
from scipy.signal import butter, sosfiltfilt

from mne_labram.seizure.double_banana import Derivation, double_banana
from mne_labram.signal.labels import parse_channel_name
from mne_labram.signal.opening import describe_source, open_recording
from mne_labram.signal.source import RawSource, edf_parts, signals_of, single_rate
from mne_labram.signal.units import UNITS_IN_MICROVOLTS

if TYPE_CHECKING:
    from mne_labram.signal.report import ConformReport

__all__ = ["Excerpt", "ExcerptReader"]

#: Read on both sides of an excerpt, so that the filters have settled where it begins: three periods at 1 Hz.
_MARGIN = 3.0


@dataclass(frozen=True)
class Excerpt:
    """A stretch of a recording as traces.

    Attributes
    ----------
    start, stop : float
        Seconds after the first sample.
    traces : ndarray, shape (n_traces, n_times)
        Microvolts, NaN where samples are missing.
    derivations : list of Derivation
        One per trace.
    montage : str
        What the traces are.
    band : str
        How they were filtered.
    ecg : ndarray of float, shape (n_times_of_the_ecg,) | None
        The first electrocardiogram channel, as it was recorded.
    """

    start: float
    stop: float
    traces: np.ndarray
    derivations: list[Derivation]
    montage: str
    band: str
    ecg: np.ndarray | None = None

    def times(self, trace: np.ndarray) -> np.ndarray:
        """Return the times of the samples of a trace, in seconds after the first sample of the recording."""
        return self.start + np.arange(trace.shape[-1]) * (self.stop - self.start) / max(trace.shape[-1], 1)


@dataclass
class ExcerptReader:
    """Reads excerpts of one recording; of a file that is not loaded, nothing but these.

    Parameters
    ----------
    raw : mne.io.Raw | path-like
        The recording; a file is opened without loading it.
    report : ConformReport | None
        What was found in it, for the unit of its numbers.
    l_freq, h_freq : float
        Edges of the band in Hz.

    Raises
    ------
    ContractError
        If the file cannot be read, or has no EEG channel.
    TypeError
        If it is no continuous recording.
    """

    raw: BaseRaw | str | os.PathLike
    report: ConformReport | None = None
    l_freq: float = 1.0
    h_freq: float = 40.0
    _picks: list[int] = field(init=False, repr=False, default_factory=list)

    def __post_init__(self) -> None:
        self.raw = open_recording(self.raw, notes=[])
        if not isinstance(self.raw, BaseRaw):
            raise TypeError(f"The report shows a continuous recording, got {type(self.raw).__name__}.")
        self._picks = mne.pick_types(self.raw.info, meg=False, eeg=True, exclude="bads").tolist()

    @property
    def duration(self) -> float:
        """Length of the recording in seconds."""
        return self.raw.n_times / float(self.raw.info["sfreq"])

    @property
    def factor(self) -> float:
        """Microvolts per number: MNE's volts, unless the recording was analysed with ``assume_unit``."""
        unit = "" if self.report is None else self.report.unit.partition(",")[0]
        return UNITS_IN_MICROVOLTS.get(unit, UNITS_IN_MICROVOLTS["V"])

    @cached_property
    def _montage(self) -> tuple[str, list[Derivation]]:
        return double_banana([self.raw.ch_names[pick] for pick in self._picks])

    @cached_property
    def _eeg(self) -> tuple[RawSource, np.ndarray]:
        """Return the source of the channels that are drawn, and the matrix that makes traces of them."""
        _, derivations = self._montage
        rows = sorted({row for each in derivations for row in (each.anode, each.cathode) if row is not None})
        matrix = np.zeros((len(derivations), len(rows)))
        for line, each in zip(matrix, derivations, strict=True):
            line[rows.index(each.anode)] += 1
            if each.cathode is not None:
                line[rows.index(each.cathode)] -= 1
        return self._source([self._picks[row] for row in rows]), matrix

    @cached_property
    def _ecg(self) -> RawSource | None:
        kinds = self.raw.get_channel_types()
        for pick, (name, kind) in enumerate(zip(self.raw.ch_names, kinds, strict=True)):
            words = name.upper().replace("-", " ").split()
            auxiliary = parse_channel_name(name).kind == "auxiliary"
            if kind == "ecg" or (auxiliary and any(word.startswith(("ECG", "EKG")) for word in words)):
                return self._source([pick])
        return None

    def _source(self, picks: list[int]) -> RawSource:
        """Read channels at their own rate where that needs no loading of the whole file."""
        parts, _ = edf_parts(self.raw)
        if picks and len(parts) == 1 and not self.raw.preload and not self.raw.info["projs"]:
            header = parts[0].header
            signals = signals_of(self.raw, header)
            rates = {None if signals[pick] is None else header.n_samples[signals[pick]] for pick in picks}
            if len(rates) == 1 and None not in rates and not self.raw._init_kwargs.get("infer_types"):
                return single_rate(self.raw, picks, self.factor, parts)[0]
        return RawSource.of(self.raw, picks, self.factor)

    def read(self, start: float, stop: float) -> Excerpt:
        """Read a stretch.

        Parameters
        ----------
        start, stop : float
            Seconds after the first sample; what lies outside the recording is left out.

        Returns
        -------
        excerpt : Excerpt
            Traces of it.
        """
        start, stop = max(0.0, start), min(stop, self.duration)
        montage, derivations = self._montage
        source, matrix = self._eeg
        if not len(derivations):
            return Excerpt(start, stop, np.zeros((0, 0)), [], "no EEG channel", "")
        sfreq = source.sfreq
        first, last = int(round(start * sfreq)), min(int(round(stop * sfreq)), source.n_times)
        low, high = max(0, first - int(_MARGIN * sfreq)), min(source.n_times, last + int(_MARGIN * sfreq))
        # A missing sample of one electrode must not spread to traces that do not use it.
        data = source(low, high)
        missing = (np.abs(matrix) @ ~np.isfinite(data)) > 0
        traces = matrix @ np.where(np.isfinite(data), data, 0.0)
        traces, band = _filter(_bridge(traces, missing), sfreq, self.l_freq, self.h_freq)
        traces[missing] = np.nan
        ecg = None
        if self._ecg is not None:
            rate = self._ecg.sfreq
            ecg = self._ecg(int(round(start * rate)), min(int(round(stop * rate)), self._ecg.n_times))[0]
        return Excerpt(start, stop, traces[:, first - low : last - low], derivations, montage, band, ecg)

    @property
    def name(self) -> str:
        """File name, or what kind of object the recording is."""
        return describe_source(self.raw)


def _bridge(traces: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Draw straight lines across missing samples: a step there would ring through the filters."""
    index = np.arange(traces.shape[1])
    for trace, gone in zip(traces, missing, strict=True):
        if gone.all():
            trace[:] = 0.0
        elif gone.any():
            trace[gone] = np.interp(index[gone], index[~gone], trace[~gone])
    return traces


def _filter(traces: np.ndarray, sfreq: float, l_freq: float, h_freq: float) -> tuple[np.ndarray, str]:
    """Filter without a shift in time (Butterworth, forwards and backwards)."""
    traces = traces - np.median(traces, axis=1, keepdims=True)
    # Close to half the rate the low-pass would do nothing but ring.
    low_pass = h_freq < 0.45 * sfreq
    edges = [(l_freq, "highpass", 2)] + ([(h_freq, "lowpass", 4)] if low_pass else [])
    for edge, kind, order in edges:
        sections = butter(order, edge, kind, fs=sfreq, output="sos")
        pad = min(int(sfreq / l_freq), traces.shape[1] - 1)
        traces = sosfiltfilt(sections, traces, axis=1, padlen=max(pad, 0))
    return traces, f"{l_freq:g}-{h_freq:g} Hz" if low_pass else f"from {l_freq:g} Hz"
