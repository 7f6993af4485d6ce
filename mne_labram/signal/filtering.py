"""One linear, zero-phase chain: low-pass and resample, notch, high-pass; whole or in blocks with the same result.

The chain has two stages, both finite and symmetric (no phase shift):

1. at the source rate, an anti-alias low-pass and rational resampling in one polyphase filter;
2. at the target rate, one filter that is the notch convolved with the high-pass.

A recording is thought of as continued beyond its ends by its mirror image. Even reflection is used, not the odd one of
MNE: a high-pass at 0.1 Hz settles over ten seconds, and odd reflection pins its output to zero at the very last sample,
whatever that sample holds. Measured on excerpts of PhysioNet EEGMMIDB against the same seconds of the longer recording:
rms error in the first second 5-12 µV (even) against 40-88 µV (odd), at a standard deviation of 53-62 µV.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import scipy  # its modules are loaded when they are used: they are half of what this package imports

__all__ = ["FilterChain", "design_chain"]

#: Stop-band attenuation of the anti-alias low-pass in dB.
STOP_BAND_DB = 80.0
#: Largest terms of the resampling ratio; the first with which it is met to 0.001 ppm is used.
MAX_TERMS = (4096, 32768, 100_000)
#: Length of the notch in seconds: 3.3 / 0.5 Hz, MNE's rule for a Hamming window.
NOTCH_SECONDS = 6.6
#: Bytes of source signal read at a time.
READ_BYTES = 6 * 2**20

Reader = Callable[[int, int], np.ndarray]


def _ratio(sfreq_in: float, sfreq_out: float) -> tuple[Fraction, float]:
    """Return the ratio out/in that is used, and its deviation from the wanted one in parts per million."""
    # A rate such as 499.907 is a decimal fraction; 249.75 and 2048 are exact.
    exact = Fraction(sfreq_out).limit_denominator(10**6) / Fraction(sfreq_in).limit_denominator(10**6)
    for largest in MAX_TERMS:
        used = exact.limit_denominator(largest) if exact <= 1 else 1 / (1 / exact).limit_denominator(largest)
        ppm = (float(used) * sfreq_in / sfreq_out - 1) * 1e6
        if abs(ppm) < 1e-3:
            break
    return used, ppm


def _high_pass(l_freq: float, sfreq: float) -> np.ndarray:
    """Return ``delta - low-pass``: the low-pass sums to one, so nothing constant gets through.

    Transition band and length follow MNE's defaults for ``l_freq`` (``mne.filter.create_filter``: transition
    ``min(max(l_freq / 4, 2), l_freq)``, Hamming window, length 3.3 / transition), 33 s for 0.1 Hz.
    """
    transition = min(max(0.25 * l_freq, 2.0), l_freq)
    n_taps = int(np.ceil(3.3 / transition * sfreq / 2)) * 2 + 1
    low = scipy.signal.firwin(n_taps, l_freq - transition / 2, window="hamming", fs=sfreq)
    taps = -low / low.sum()
    taps[n_taps // 2] += 1.0
    # What rounding leaves of the sum goes to the middle tap: 10-100 mV offsets must vanish.
    taps[n_taps // 2] -= taps.sum()
    return taps


def _notch(freqs: Sequence[float], sfreq: float) -> np.ndarray:
    """Return a band-stop at ``freqs`` with MNE's notch widths (f / 200, 0.5 Hz transition on each side)."""
    n_taps = int(np.ceil(NOTCH_SECONDS * sfreq / 2)) * 2 + 1
    edges = []
    for freq in freqs:
        half = freq / 400 + 0.25
        edges += [freq - half, min(freq + half, sfreq / 2 * (1 - 1e-9))]
    return scipy.signal.firwin(n_taps, edges, window="hamming", pass_zero=True, fs=sfreq)


def _low_pass(pass_edge: float, stop_edge: float, sfreq_in: float, up: int) -> np.ndarray:
    """Return the polyphase low-pass at ``up * sfreq_in`` (Kaiser window; every branch sums to one)."""
    rate = up * sfreq_in
    n_taps, beta = scipy.signal.kaiserord(STOP_BAND_DB, (stop_edge - pass_edge) / (rate / 2))
    n_taps = n_taps // 2 * 2 + 1
    taps = scipy.signal.firwin(n_taps, (pass_edge + stop_edge) / 2, window=("kaiser", beta), fs=rate) * up
    # Branches that differ in their sum turn a slow drift into images at multiples of the source rate, which fold back
    # into the band. Mirrored branches have equal sums, so the filter stays symmetric.
    phase = (np.arange(n_taps) - n_taps // 2) % up
    sums = np.bincount(phase, weights=taps, minlength=up)
    return taps / sums[phase]


def _mirror(start: int, stop: int, n_times: int) -> np.ndarray:
    """Return the sample indices that stand at positions ``start..stop-1`` of the mirrored signal."""
    if n_times == 1:
        return np.zeros(stop - start, dtype=np.int64)
    index = np.arange(start, stop) % (2 * (n_times - 1))
    return np.where(index < n_times, index, 2 * (n_times - 1) - index)


@dataclass(frozen=True)
class FilterChain:
    """A designed chain. Made by :func:`design_chain`.

    Attributes
    ----------
    sfreq_in, sfreq_out : float
        Sampling rates in Hz before and after.
    up, down : int
        Resampling ratio ``up / down``.
    ratio_ppm : float
        Deviation of ``up / down`` from the exact ratio, parts per million.
    l_freq : float | None
        Edge of the high-pass in Hz, ``None`` when there is none.
    pass_edge, stop_edge : float | None
        Edges of the low-pass in Hz, ``None`` when there is none.
    notch_freqs : tuple of float
        Frequencies that are notched.
    """

    sfreq_in: float
    sfreq_out: float
    up: int
    down: int
    ratio_ppm: float
    l_freq: float | None
    pass_edge: float | None
    stop_edge: float | None
    notch_freqs: tuple[float, ...]
    low_pass: np.ndarray | None = field(repr=False, compare=False)
    fir: np.ndarray | None = field(repr=False, compare=False)

    @property
    def half_length(self) -> int:
        """Half length of the second stage in samples at the target rate."""
        return 0 if self.fir is None else len(self.fir) // 2

    @property
    def half_seconds(self) -> float:
        """Seconds of signal on either side that one output sample depends on."""
        first = 0.0 if self.low_pass is None else len(self.low_pass) // 2 / (self.up * self.sfreq_in)
        return first + self.half_length / self.sfreq_out

    def n_out(self, n_in: int) -> int:
        """Return the number of output samples for ``n_in`` source samples (rounded, as MNE does)."""
        return max(1, int(Fraction(n_in * self.up, self.down) + Fraction(1, 2)))

    def first_out(self, sample: int) -> int:
        """Return the first output sample at or after source sample ``sample``."""
        return -(-sample * self.up // self.down)

    # -- first stage ---------------------------------------------------------------------------------------------
    def _source_range(self, start: int, stop: int) -> tuple[int, int]:
        """Return the source samples that output samples ``start..stop-1`` of the first stage need."""
        if self.low_pass is None:
            return start, stop
        half = len(self.low_pass) // 2
        return -((half - start * self.down) // self.up), ((stop - 1) * self.down + half) // self.up + 1

    def _resample(self, x: np.ndarray, offset: int, start: int, stop: int) -> np.ndarray:
        """Return first-stage samples ``start..stop-1`` from ``x``, which begins at source sample ``offset``."""
        if self.low_pass is None:
            return x[..., start - offset : stop - offset]
        half = len(self.low_pass) // 2
        # upfirdn's n-th output is centred on up-sampled position n * down - half; leading zeros in the filter shift
        # that grid onto the recording's own, so blocks may begin anywhere.
        zeros = (offset * self.up - half) % self.down
        taps = np.concatenate([np.zeros(zeros), self.low_pass])
        first = start + (half + zeros - offset * self.up) // self.down
        return scipy.signal.upfirdn(taps, x, self.up, self.down, axis=-1)[..., first : first + stop - start]

    # -- both stages ---------------------------------------------------------------------------------------------
    def stream(
        self, read: Reader, n_in: int, *, start: int = 0, stop: int | None = None, grid: int = 0, block: int = 60_000
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yield ``(first output sample, data)`` for output samples ``start..stop-1``.

        Parameters
        ----------
        read : callable
            ``read(a, b)`` returns source samples ``a..b-1``, shape ``(n_chans, b - a)``, ``0 <= a < b <= n_in``.
        n_in : int
            Number of source samples; beyond them the signal is mirrored.
        start, stop : int
            Output samples wanted; counted on the grid whose sample 0 lies on source sample ``-grid``.
        grid : int
            Source samples of the recording before ``read``'s sample 0 (a segment of a longer recording keeps the
            recording's sampling instants).
        block : int
            Output samples per block; the last may be shorter. The result does not depend on it.

        Yields
        ------
        first : int
            Output sample at which the block begins.
        data : ndarray of float64, shape (n_chans, n)
        """
        if n_in < 1:
            return
        stop = self.n_out(n_in) if stop is None else stop
        half = self.half_length
        tail: np.ndarray | None = None
        for first in range(start, stop, block):
            last = min(first + block, stop)
            new_first = first - half if tail is None else first + half
            fresh = self._first_stage(read, n_in, grid, new_first, last + half)
            signal = fresh if tail is None else np.concatenate([tail, fresh], axis=-1)
            tail = signal[..., signal.shape[-1] - 2 * half :].copy() if last < stop else None
            yield (
                first,
                signal if self.fir is None else scipy.signal.oaconvolve(signal, self.fir[None], mode="valid", axes=-1),
            )

    def _first_stage(self, read: Reader, n_in: int, grid: int, start: int, stop: int) -> np.ndarray:
        pieces = []
        while start < stop:
            # The number of channels is learned from the first piece.
            width = pieces[0].shape[0] if pieces else 64
            step = max(1, int(READ_BYTES / 8 / width * self.up / self.down))
            last = min(start + step, stop)
            a, b = self._source_range(start, last)
            pieces.append(self._resample(_read_mirrored(read, a - grid, b - grid, n_in), a, start, last))
            start = last
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=-1)

    def apply(self, x: np.ndarray, block: int = 60_000) -> np.ndarray:
        """Filter and resample a whole array.

        Parameters
        ----------
        x : ndarray, shape (..., n_in)
            Signal without NaN.
        block : int
            Output samples made at a time; the result does not depend on it.

        Returns
        -------
        y : ndarray of float64, shape (..., n_out)
            In the unit of ``x``.
        """
        x = np.asarray(x, dtype=np.float64)
        rows = x.reshape(-1, x.shape[-1])
        parts = [part for _, part in self.stream(lambda a, b: rows[:, a:b], x.shape[-1], block=block)]
        return np.concatenate(parts, axis=-1).reshape(*x.shape[:-1], -1)


def _read_mirrored(read: Reader, start: int, stop: int, n_times: int) -> np.ndarray:
    if start >= 0 and stop <= n_times:
        return read(start, stop)
    index = _mirror(start, stop, n_times)
    lowest = int(index.min())
    return read(lowest, int(index.max()) + 1)[..., index - lowest]


def design_chain(
    sfreq_in: float,
    sfreq_out: float,
    *,
    l_freq: float | None = None,
    h_freq: float | None = None,
    notch_freqs: Sequence[float] = (),
) -> FilterChain:
    """Design the chain that takes a signal from one rate to another within a band.

    Parameters
    ----------
    sfreq_in, sfreq_out : float
        Sampling rates in Hz.
    l_freq, h_freq : float | None
        Pass band in Hz. ``None`` leaves that side open; a low-pass is then still there when the rate goes down or up.
    notch_freqs : sequence of float
        Frequencies to notch in Hz. Those at or above the low-pass's stop edge are left out: nothing is there.

    Returns
    -------
    chain : FilterChain
        Its filters and what they do.

    Raises
    ------
    ValueError
        If a rate is not positive and finite, or the band is empty.

    Notes
    -----
    The low-pass's transition is MNE's (``min(max(h_freq / 4, 2), nyquist - h_freq)`` above ``h_freq``), with the
    smaller of the two Nyquist frequencies, and at least 5 % of it wide.
    """
    for name, rate in (("sfreq_in", sfreq_in), ("sfreq_out", sfreq_out)):
        if not (np.isfinite(rate) and rate > 0):
            raise ValueError(f"{name} must be positive and finite, got {rate}.")
    ratio, ppm = _ratio(sfreq_in, sfreq_out)
    nyquist = min(sfreq_in, sfreq_out) / 2
    pass_edge = stop_edge = low_pass = None
    if ratio != 1 or (h_freq is not None and h_freq < 0.95 * nyquist):
        pass_edge = 0.95 * nyquist if h_freq is None else min(h_freq, 0.95 * nyquist)
        stop_edge = min(pass_edge + max(0.25 * pass_edge, 2.0), nyquist)
        low_pass = _low_pass(pass_edge, stop_edge, sfreq_in, ratio.numerator)
    if l_freq is not None and not 0 < l_freq < nyquist:
        raise ValueError(f"l_freq must lie between 0 and {nyquist:g} Hz, got {l_freq}.")
    limit = nyquist if stop_edge is None else stop_edge
    notch_freqs = tuple(float(freq) for freq in notch_freqs if freq < limit)
    fir = _notch(notch_freqs, sfreq_out) if notch_freqs else None
    if l_freq is not None:
        high_pass = _high_pass(l_freq, sfreq_out)
        fir = high_pass if fir is None else np.convolve(fir, high_pass)
    return FilterChain(
        float(sfreq_in),
        float(sfreq_out),
        ratio.numerator,
        ratio.denominator,
        ppm,
        l_freq,
        pass_edge,
        stop_edge,
        notch_freqs,
        low_pass,
        fir,
    )
