"""Excerpts of a recording, and what can be told from them before it is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy

from mne_labram.signal.quality import QualityThresholds, SecondQuality
from mne_labram.signal.units import typical_amplitude

__all__ = ["Probe", "detect_line_freq", "probe_of", "take_probe"]

#: Length of an excerpt in seconds, and how many are taken from a recording that is longer than all of them.
EXCERPT_SECONDS, N_EXCERPTS = 4.0, 24
_LARGE_BYTES = 64 * 2**20
#: Power at the mains frequency over its surroundings that counts as a clear peak (10 dB), in half of the channels.
_CLEAR_PEAK = 10.0


@dataclass
class Probe:
    """Excerpts spread over a recording.

    Attributes
    ----------
    segments : list of ndarray, shape (n_chans, n_times)
        Excerpts in µV, NaN where no number is recorded.
    sfreq : float
        Sampling rate in Hz.
    whole : bool
        Whether the excerpts cover the whole recording.
    constants : ndarray, shape (n_chans,)
        Median of each channel in µV, 0 for a channel without a number.
    amplitude : ndarray, shape (n_chans,)
        Typical amplitude in µV, see :func:`~mne_labram.signal.units.typical_amplitude`.
    """

    segments: list[np.ndarray]
    sfreq: float
    whole: bool
    constants: np.ndarray
    amplitude: np.ndarray

    def quiet(self, thresholds: QualityThresholds) -> np.ndarray:
        """Return which channels are flat or missing in every second of every excerpt."""
        out = np.ones(len(self.constants), dtype=bool)
        for segment in [np.concatenate(self.segments, axis=1)] if self.whole else self.segments:
            quality = SecondQuality(*segment.shape[:1], self.sfreq, segment.shape[1], None, thresholds)
            quality.feed(0, segment - self.constants[:, None])
            out &= (quality.flat | quality.missing).all(axis=0)
        return out


def take_probe(read: Callable[[int, int], np.ndarray], n_chans: int, n_times: int, sfreq: float) -> Probe:
    """Take excerpts spread evenly over a recording.

    Parameters
    ----------
    read : callable
        ``read(a, b)`` returns samples ``a..b-1`` in µV, shape ``(n_chans, b - a)``.
    n_chans, n_times : int
        Channels and samples in the recording.
    sfreq : float
        Sampling rate in Hz.

    Returns
    -------
    probe : Probe
        The excerpts and what can be told from them.
    """
    # Half as long where four seconds of all channels would be large.
    small = n_chans * sfreq * EXCERPT_SECONDS * N_EXCERPTS * 8 < _LARGE_BYTES
    length = max(1, int(round((EXCERPT_SECONDS if small else EXCERPT_SECONDS / 2) * sfreq)))
    whole = n_times <= N_EXCERPTS * length
    starts = np.arange(0, n_times, length) if whole else np.linspace(0, n_times - length, N_EXCERPTS).astype(int)
    segments = [np.asarray(read(int(a), int(min(a + length, n_times))), dtype=np.float64) for a in starts]
    return probe_of(segments, sfreq, whole)


def probe_of(segments: list[np.ndarray], sfreq: float, whole: bool) -> Probe:
    """Return the :class:`Probe` of excerpts that are at hand, each of shape (n_chans, n_times) in µV."""
    segments = [np.where(np.isfinite(segment), segment, np.nan) for segment in segments]
    constants = np.zeros(segments[0].shape[0])
    for channel in range(len(constants)):
        values = np.concatenate([segment[channel] for segment in segments])
        values = values[np.isfinite(values)]
        constants[channel] = np.median(values) if values.size else 0.0
    return Probe(segments, float(sfreq), whole, constants, typical_amplitude(segments))


def detect_line_freq(segments: list[np.ndarray], sfreq: float) -> float | None:
    """Find the mains frequency in excerpts.

    Parameters
    ----------
    segments : list of ndarray, shape (n_chans, n_times)
        Excerpts in µV.
    sfreq : float
        Sampling rate in Hz.

    Returns
    -------
    line_freq : float | None
        50 or 60, or ``None`` where neither stands out: its power (1 Hz wide) is 10 dB above the median of the
        surrounding 2-5 Hz in at least half of the channels.
    """
    usable = [segment for segment in segments if segment.shape[1] >= sfreq and np.isfinite(segment).all()]
    if not usable:
        return None
    length = int(min(min(segment.shape[1] for segment in usable), round(2 * sfreq)))
    power = 0.0
    for segment in usable:
        freqs, density = scipy.signal.welch(segment, sfreq, nperseg=length, detrend="linear", axis=-1)
        power = power + density
    best = None, 0.0
    for line in (50.0, 60.0):
        if line + 1 >= sfreq / 2:
            continue
        near = np.abs(freqs - line)
        peak = power[:, near <= 0.75].max(axis=1)
        around = np.median(power[:, (near >= 2) & (near <= 5)], axis=1)
        ratio = float(np.median(peak / np.maximum(around, np.finfo(float).tiny)))
        if ratio > max(_CLEAR_PEAK, best[1]):
            best = line, ratio
    return best[0]
