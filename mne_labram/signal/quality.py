"""Which seconds of which channels are unusable: missing samples, flat, clipped.

The masks are made second by second while a recording streams by, and do not depend on how it is cut into pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["QualityThresholds", "SecondQuality", "n_seconds", "second_edges", "unusable_seconds"]

#: Flat stretches are looked for in pieces of this many seconds.
_BIN_SECONDS = 0.25
_PROBLEMS = ("missing", "flat", "clipped")


@dataclass(frozen=True)
class QualityThresholds:
    """What counts as unusable.

    Parameters
    ----------
    flat_uv : float
        A channel whose peak-to-peak amplitude stays below this for one second is flat. The input noise of EEG
        amplifiers alone is 1-3 µV peak to peak between 0.1 and 70 Hz, so half a microvolt means that nothing is
        connected, whatever the digital step: with steps above 0.5 µV it means identical samples.
    flat_seconds : float
        Length of that stretch in seconds.
    clip_samples : int
        Identical samples in a row at the physical limit that count as clipping (a file whose limits were fitted to its
        extreme values touches them once).
    clip_seconds : float
        The same as a time; the longer of the two holds.
    plateau_uv, plateau_seconds : float
        An amplifier can saturate before the file's limits, and often no limits are known: a run of identical samples
        above or below all that surrounds it, this far from the channel's typical value and this long. A smooth 1-Hz
        wave of 400 µV, digitised in steps of 1 µV, rests on its crest for 16 ms; 50 ms do not happen.
    bad_share : float
        A second is unusable when more than this share of the kept channels is bad in it.
    """

    flat_uv: float = 0.5
    flat_seconds: float = 1.0
    clip_samples: int = 3
    clip_seconds: float = 0.010
    plateau_uv: float = 300.0
    plateau_seconds: float = 0.050
    bad_share: float = 0.5

    def __post_init__(self) -> None:
        if not self.flat_seconds >= _BIN_SECONDS:
            raise ValueError(f"flat_seconds must be at least {_BIN_SECONDS:g}, got {self.flat_seconds}.")
        if not 0 < self.plateau_seconds <= 1:
            raise ValueError(f"plateau_seconds must lie between 0 and 1, got {self.plateau_seconds}.")
        if not 0 <= self.bad_share <= 1:
            raise ValueError(f"bad_share must lie between 0 and 1, got {self.bad_share}.")

    @property
    def context_seconds(self) -> float:
        """Signal on either side of a second that its verdict may depend on."""
        return max(1.0, self.flat_seconds) + _BIN_SECONDS


def n_seconds(n_times: int, sfreq: float) -> int:
    """Return the number of seconds that hold at least one sample, the last perhaps a part of one."""
    return int((n_times - 1) / sfreq + 1e-9) + 1 if n_times else 0


def second_edges(first: int, last: int, sfreq: float, n_times: int) -> np.ndarray:
    """Return the samples at which seconds ``first..last`` begin; the last entry is where second ``last - 1`` ends."""
    edges = np.ceil(np.arange(first, last + 1) * sfreq - 1e-9).astype(np.int64)
    return np.minimum(edges, n_times)


def _runs(same: np.ndarray, length: int) -> np.ndarray:
    """Mark, along the last axis, members of runs of at least ``length`` True values."""
    padded = np.zeros((*same.shape[:-1], same.shape[-1] + 2), dtype=np.int8)
    padded[..., 1:-1] = same
    step = np.diff(padded, axis=-1).reshape(-1, padded.shape[-1] - 1)
    out = np.zeros(same.shape, dtype=bool).reshape(-1, same.shape[-1])
    starts, ends = np.argwhere(step == 1), np.argwhere(step == -1)
    for (row, start), (_, end) in zip(starts, ends, strict=True):
        if end - start >= length:
            out[row, start:end] = True
    return out.reshape(same.shape)


class SecondQuality:
    """Per-second verdicts on a stream of samples.

    Parameters
    ----------
    n_chans : int
        Number of channels.
    sfreq : float
        Sampling rate in Hz.
    n_times : int
        Samples in the whole recording.
    limits : ndarray, shape (n_chans, 2) | None
        Lowest and highest value that can be recorded, in µV, NaN where not known.
    thresholds : QualityThresholds
        What counts as unusable.

    Attributes
    ----------
    missing, flat, clipped : ndarray of bool, shape (n_seconds, n_chans)
        Verdicts so far.
    n_done : int
        Seconds decided so far.
    """

    def __init__(
        self,
        n_chans: int,
        sfreq: float,
        n_times: int,
        limits: np.ndarray | None = None,
        thresholds: QualityThresholds | None = None,
    ) -> None:
        self.sfreq, self.n_times = float(sfreq), int(n_times)
        self.thresholds = QualityThresholds() if thresholds is None else thresholds
        self.limits = np.full((n_chans, 2), np.nan) if limits is None else np.asarray(limits, dtype=float)
        self.n_seconds = n_seconds(self.n_times, self.sfreq)
        self.missing, self.flat, self.clipped = (np.zeros((self.n_seconds, n_chans), dtype=bool) for _ in _PROBLEMS)
        self.n_done = 0
        self._buffer = np.zeros((n_chans, 0))
        self._start = 0

    @property
    def end(self) -> int:
        """Samples taken so far."""
        return self._start + self._buffer.shape[-1]

    def feed(self, start: int, x: np.ndarray) -> None:
        """Take samples ``start..`` in µV (offset removed, NaN left in); those already seen are skipped."""
        end = self.end
        if start > end:
            raise ValueError(f"Samples {end} to {start} were left out.")
        if start + x.shape[-1] > end:
            self._buffer = np.concatenate([self._buffer, x[:, end - start :]], axis=-1)
        self._decide()

    def _decide(self) -> None:
        end = self.end
        context = int(np.ceil(self.thresholds.context_seconds * self.sfreq))
        last = self.n_seconds if end >= self.n_times else int((end - context) / self.sfreq)
        if last <= self.n_done:
            return
        edges = second_edges(self.n_done, last, self.sfreq, self.n_times)
        self._judge(edges, self.n_done, last)
        self.n_done = last
        keep = max(0, edges[-1] - context - self._start)
        self._buffer = self._buffer[:, keep:].copy()
        self._start += keep

    def _judge(self, edges: np.ndarray, first: int, last: int) -> None:
        x, offset = self._buffer, self._start
        starts = edges[:-1] - offset
        stop = edges[-1] - offset
        absent = ~np.isfinite(x)
        filled = np.where(absent, 0.0, x) if absent.any() else x
        self.missing[first:last] = np.logical_or.reduceat(absent[:, :stop], starts, axis=1).T
        self.clipped[first:last] = np.logical_or.reduceat(self._clipped(filled)[:, :stop], starts, axis=1).T
        self.flat[first:last] = self._flat(filled, first, last).T
        self.flat[first:last] &= ~self.missing[first:last]

    def _flat(self, x: np.ndarray, first: int, last: int) -> np.ndarray:
        # Quarter seconds on the recording's own grid; any stretch of 1.25 s holds four whole ones.
        per_second = int(round(1 / _BIN_SECONDS))
        n_bins = max(1, int(round(self.thresholds.flat_seconds * per_second)))
        low = max(0, first * per_second - n_bins)
        high = last * per_second + n_bins
        grid = np.ceil(np.arange(low, high + 1) / per_second * self.sfreq - 1e-9).astype(np.int64)
        grid = grid[(grid >= self._start) & (grid <= self._start + x.shape[-1])]
        low = int(round((grid[0] / self.sfreq) * per_second))
        if self._start + x.shape[-1] == self.n_times and grid[-1] < self.n_times:
            grid = np.append(grid, self.n_times)
        out = np.zeros((x.shape[0], last - first), dtype=bool)
        if len(grid) <= n_bins or np.any(np.diff(grid) == 0):
            return out
        at = grid[:-1] - self._start
        piece = x[:, : grid[-1] - self._start]
        highest, lowest = np.maximum.reduceat(piece, at, axis=1), np.minimum.reduceat(piece, at, axis=1)
        windows = np.lib.stride_tricks.sliding_window_view
        span = windows(highest, n_bins, axis=1).max(-1) - windows(lowest, n_bins, axis=1).min(-1)
        quiet = span < self.thresholds.flat_uv
        bins = np.zeros(highest.shape, dtype=bool)
        for shift in range(n_bins):
            bins[:, shift : shift + quiet.shape[1]] |= quiet
        for index in np.flatnonzero(bins.any(axis=0)):
            second = (low + int(index)) // per_second
            if first <= second < last:
                out[:, second - first] |= bins[:, index]
        return out

    def _clipped(self, x: np.ndarray) -> np.ndarray:
        settings = self.thresholds
        out = np.zeros(x.shape, dtype=bool)
        # Comparisons with NaN, where limits are not known, are False.
        at_limit = (x >= self.limits[:, 1:]) | (x <= self.limits[:, :1])
        if at_limit.any():
            out = _runs(at_limit, max(settings.clip_samples, int(np.ceil(settings.clip_seconds * self.sfreq))))
        length = max(settings.clip_samples, int(np.ceil(settings.plateau_seconds * self.sfreq)))
        for channel in np.flatnonzero(np.abs(x).max(axis=1, initial=0.0) >= settings.plateau_uv):
            out[channel] |= self._plateaus(x[channel], length)
        return out

    def _plateaus(self, x: np.ndarray, length: int) -> np.ndarray:
        """Mark runs of identical, large values above (or below) what surrounds them within a quarter of a second."""
        out = np.zeros(x.shape, dtype=bool)
        change = np.flatnonzero(np.diff(x) != 0) + 1
        starts, ends = np.concatenate([[0], change]), np.concatenate([change, [len(x)]])
        lengths = ends - starts
        # Longer runs are flat; with a quarter of a second around it, a shorter one lies within the context.
        long_enough = (lengths >= length) & (lengths <= self.sfreq)
        large = np.abs(x[starts]) >= self.thresholds.plateau_uv
        reach = int(self.sfreq * _BIN_SECONDS)
        for run in np.flatnonzero(long_enough & large):
            start, end = starts[run], ends[run]
            around = x[max(0, start - reach) : end + reach]
            if x[start] >= around.max() or x[start] <= around.min():
                out[start:end] = True
        return out


def unusable_seconds(bad: Sequence[np.ndarray], share: float) -> np.ndarray:
    """Return seconds in which more than ``share`` of the channels is bad by any mask ``(n_seconds, n_chans)``."""
    table = np.logical_or.reduce(list(bad))
    return table.mean(axis=1) > share if table.shape[1] else np.ones(table.shape[0], dtype=bool)
