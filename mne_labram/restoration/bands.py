"""How the channels of a recording go together in each frequency band: measured around what is hidden."""

from __future__ import annotations

import numpy as np

__all__ = ["BAND_EDGES", "BandCovariances", "band_edges", "constant_runs", "split_bands"]

#: Band edges in Hz, as in ``../shared/reference/baselines.md``; the last band ends at half of the sampling rate.
BAND_EDGES = (0.0, 4.0, 8.0, 13.0, 20.0, 30.0)
# Seconds of the windows whose spectra are averaged: two cycles of what is slow in EEG, and short beside a minute.
_WINDOW = 4.0
# Less than this between two changes of what is hidden says nothing about slow bands.
_SHORTEST = 1.0
# Hz over which one band fades into the next, and seconds of mirror image at either end: the filters' tails.
_TRANSITION = 1.0
_PADDING = 2.0
# Sets of visible channels that are kept apart; of more, those seen for the shortest time are forgotten.
_MAX_PATTERNS = 128


def band_edges(sfreq: float) -> np.ndarray:
    """Return the lower edges of the bands that a sampling rate leaves room for.

    Parameters
    ----------
    sfreq : float
        Samples per second.

    Returns
    -------
    edges : ndarray, shape (n_bands,)
        In Hz; the last band ends at ``sfreq / 2``.
    """
    edges = np.array(BAND_EDGES)
    return edges[edges < max(sfreq / 2 - _TRANSITION, 1e-9)]


def constant_runs(hidden: np.ndarray) -> list[tuple[int, int]]:
    """Cut a mask into runs in which the same channels are hidden.

    Parameters
    ----------
    hidden : ndarray of bool, shape (n_channels, n_times)
        The mask.

    Returns
    -------
    runs : list of (int, int)
        First sample, and the one after the last, of each run.
    """
    changes = np.flatnonzero((hidden[:, 1:] != hidden[:, :-1]).any(axis=0)) + 1
    bounds = [0, *changes.tolist(), hidden.shape[1]]
    return list(zip(bounds[:-1], bounds[1:], strict=True))


def split_bands(x: np.ndarray, sfreq: float) -> np.ndarray:
    """Split signals into bands that add up to them again.

    The filters are without phase shift; gains of neighbouring bands cross over within 1 Hz, as raised cosines, and add
    up to 1 everywhere. A signal is continued beyond its ends by its point reflection.

    Parameters
    ----------
    x : ndarray, shape (n_channels, n_times)
        Finite signals.
    sfreq : float
        Samples per second.

    Returns
    -------
    bands : ndarray, shape (n_bands, n_channels, n_times)
        Bands from low to high.
    """
    edges = band_edges(sfreq)
    n_times = x.shape[1]
    pad = min(int(_PADDING * sfreq), n_times - 1)
    if len(edges) == 1 or n_times < 2:
        out = np.zeros((len(edges), *x.shape))
        out[0] = x
        return out
    left = 2 * x[:, :1] - x[:, pad:0:-1]
    right = 2 * x[:, -1:] - x[:, -2 : -pad - 2 : -1]
    padded = np.concatenate([left, x, right], axis=1)
    spectrum = np.fft.rfft(padded)
    frequencies = np.fft.rfftfreq(padded.shape[1], 1 / sfreq)
    # Gain of everything above an edge: 0 below it, 1 above it, in between half a wave of a cosine.
    phase = np.clip((frequencies - edges[1:, None]) / _TRANSITION + 0.5, 0.0, 1.0)
    above = np.vstack([np.ones(len(frequencies)), 0.5 - 0.5 * np.cos(np.pi * phase), np.zeros(len(frequencies))])
    out = np.empty((len(edges), *x.shape))
    for band, gain in enumerate(above[:-1] - above[1:]):
        out[band] = np.fft.irfft(spectrum * gain, padded.shape[1])[:, pad : pad + n_times]
    # Rounding of the transforms must not become a difference between the bands' sum and the signal.
    out[0] += x - out.sum(axis=0)
    return out


class BandCovariances:
    """Covariances of channels in each band, with the sets of channels that were visible together kept apart.

    Cross-spectra are averaged over windows of 4 s with half overlap (Welch's method), straight lines removed, within
    stretches in which the same channels are visible: no filter carries anything from a hidden sample to a visible one.

    Parameters
    ----------
    n_channels : int
        Channels.
    sfreq : float
        Samples per second.
    """

    def __init__(self, n_channels: int, sfreq: float) -> None:
        self.n_channels = n_channels
        self.sfreq = float(sfreq)
        self.edges = band_edges(sfreq)
        self._sums: dict[bytes, tuple[float, np.ndarray]] = {}

    def add(self, x: np.ndarray, hidden: np.ndarray) -> None:
        """Accumulate a stretch.

        Parameters
        ----------
        x : ndarray, shape (n_channels, n_times)
            Microvolts; anything where hidden.
        hidden : ndarray of bool, shape (n_channels, n_times)
            Samples that must not be believed.
        """
        for start, stop in constant_runs(hidden):
            visible = ~hidden[:, start]
            seconds = (stop - start) / self.sfreq
            if seconds < _SHORTEST or visible.sum() < 2:
                continue
            key = visible.tobytes()
            n = int(visible.sum())
            before, total = self._sums.get(key, (0.0, np.zeros((len(self.edges), n, n))))
            total = total + seconds * self._spectra(x[visible, start:stop])
            self._sums[key] = (before + seconds, total)
        while len(self._sums) > _MAX_PATTERNS:
            del self._sums[min(self._sums, key=lambda key: self._sums[key][0])]

    def of(self, channels: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the covariances of some channels, from all stretches that show every one of them.

        Parameters
        ----------
        channels : ndarray of bool, shape (n_channels,)
            Which ones.

        Returns
        -------
        seconds : float
            How long they were visible together.
        covariances : ndarray, shape (n_bands, n, n)
            µV², in the recording's own reference; zeros where they never were.
        """
        n = int(channels.sum())
        seconds, total = 0.0, np.zeros((len(self.edges), n, n))
        for visible, (duration, sums) in self._seen():
            if (visible | ~channels).all():
                rows = np.flatnonzero(channels[visible])
                seconds += duration
                total += sums[:, rows[:, None], rows]
        return seconds, total / seconds if seconds else total

    def seconds_of(self, channel: int) -> float:
        """Return how long a channel was visible, and one other at least."""
        return sum(duration for visible, (duration, _) in self._seen() if visible[channel])

    def together_with(self, target: int, visible: np.ndarray, enough: float) -> np.ndarray:
        """Choose the channels that a target is best predicted from.

        Parameters
        ----------
        target : int
            The channel to predict.
        visible : ndarray of bool, shape (n_channels,)
            Channels that are there to predict it from.
        enough : float
            Seconds of target and channels together that will do.

        Returns
        -------
        channels : ndarray of bool, shape (n_channels,)
            The largest set of visible channels seen together with the target for that long; where none was, the set
            seen with it for the longest.
        """
        best, score = np.zeros(self.n_channels, dtype=bool), (False, 0, 0.0)
        for seen, _ in self._seen():
            if not seen[target]:
                continue
            channels = seen & visible
            both = channels.copy()
            both[target] = True
            seconds = sum(duration for other, (duration, _) in self._seen() if (other | ~both).all())
            count = int(channels.sum())
            this = (True, count, seconds) if seconds >= enough else (False, 0, seconds)
            if count >= 2 and this > score:
                best, score = channels, this
        return best

    def patterns(self) -> list[tuple[np.ndarray, float, np.ndarray]]:
        """Return what was accumulated, by the channels that were visible together.

        Returns
        -------
        patterns : list of (ndarray of bool, float, ndarray)
            Channels, shape (n_channels,); seconds; covariances in µV², shape (n_bands, n_visible, n_visible).
        """
        return [(visible, seconds, sums / seconds) for visible, (seconds, sums) in self._seen()]

    def _seen(self) -> list[tuple[np.ndarray, tuple[float, np.ndarray]]]:
        return [(np.frombuffer(key, dtype=bool), value) for key, value in self._sums.items()]

    def _spectra(self, x: np.ndarray) -> np.ndarray:
        """Mean covariance in each band over windows of one stretch."""
        length = min(int(_WINDOW * self.sfreq), x.shape[1])
        step = max(length // 2, 1)
        taper = np.hanning(length + 2)[1:-1]
        # Of a taper's window, sum(taper^2) samples remain, and each frequency but 0 and the last stands for two.
        frequencies = np.fft.rfftfreq(length, 1 / self.sfreq)
        twice = np.where((frequencies > 0) & (frequencies < self.sfreq / 2), 2.0, 1.0)
        band = np.searchsorted(self.edges, frequencies, side="right") - 1
        line = np.linspace(-1.0, 1.0, length)
        total, count = np.zeros((len(self.edges), len(x), len(x))), 0
        for start in range(0, x.shape[1] - length + 1, step):
            window = x[:, start : start + length]
            window = window - window.mean(axis=1, keepdims=True)
            window = window - (window @ line / (line @ line))[:, None] * line
            spectrum = np.fft.rfft(window * taper)
            spectrum *= np.sqrt(twice / (length * (taper @ taper)))
            for index in range(len(self.edges)):
                part = spectrum[:, band == index]
                total[index] += (part @ part.conj().T).real
            count += 1
        return total / count
