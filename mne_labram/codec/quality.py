"""How far a decoded signal is from its original, added up block by block.

The measures of the literature on EEG compression: PRD, the percent root-mean-square difference, as BrainCodec's authors
compute it (https://github.com/IBM/eeg-ieeg-brain-compressor, per channel and window of 4 s,
``100 * sqrt(sum (x - y)**2 / max(sum x**2, 1e-6))``, averaged), and PRDN, the same after the mean of ``x`` has been
taken off it in the denominator, without which an electrode's offset makes any codec look good.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

__all__ = ["BANDS", "WINDOW", "Quality", "pearson", "prd", "prdn"]

#: Seconds over which PRD, PRDN and the correlation are computed, before they are averaged.
WINDOW = 4.0
#: Edges in Hz of the bands in which the error is told.
BANDS: dict[str, tuple[float, float]] = {
    "delta": (1.0, 4.0),
    "theta": (4.0, 8.0),
    "alpha": (8.0, 13.0),
    "beta": (13.0, 30.0),
    "gamma": (30.0, 45.0),
}
# Energies below this count as this (µV² times samples), as in the authors' code.
_FLOOR = 1e-6


def prd(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the percent root-mean-square difference along the last axis.

    Parameters
    ----------
    x, y : ndarray, shape (..., n_samples)
        Original and decoded, in µV.

    Returns
    -------
    prd : ndarray, shape (...)
        ``100 * sqrt(sum (x - y)**2 / sum x**2)``.
    """
    return 100 * np.sqrt(np.square(x - y).sum(-1) / np.maximum(np.square(x).sum(-1), _FLOOR))


def prdn(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the same, without the mean of ``x`` in the denominator.

    Parameters
    ----------
    x, y : ndarray, shape (..., n_samples)
        Original and decoded, in µV.

    Returns
    -------
    prdn : ndarray, shape (...)
        ``100 * sqrt(sum (x - y)**2 / sum (x - mean(x))**2)``.
    """
    centred = x - x.mean(-1, keepdims=True)
    return 100 * np.sqrt(np.square(x - y).sum(-1) / np.maximum(np.square(centred).sum(-1), _FLOOR))


def pearson(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation along the last axis, 0 where either is constant.

    Parameters
    ----------
    x, y : ndarray, shape (..., n_samples)
        Original and decoded.

    Returns
    -------
    r : ndarray, shape (...)
        Between -1 and 1.
    """
    x, y = x - x.mean(-1, keepdims=True), y - y.mean(-1, keepdims=True)
    norm = np.sqrt(np.square(x).sum(-1) * np.square(y).sum(-1))
    return np.clip((x * y).sum(-1) / np.where(norm > 0, norm, 1.0), -1.0, 1.0)


@dataclass
class Quality:
    """Sums from which the quality of a whole recording follows.

    Blocks are added with :meth:`add`, sums of others with :meth:`merge`; the order does not matter but for rounding.

    Attributes
    ----------
    sfreq : float
        Sampling rate in Hz.
    n_windows : int
        Windows of one channel that counted.
    n_left_out : int
        Windows of one channel that did not: constant, or with a missing sample in it.
    largest : float
        Largest error of any sample in µV.
    """

    sfreq: float
    n_windows: int = 0
    n_left_out: int = 0
    largest: float = 0.0
    _means: np.ndarray = field(default_factory=lambda: np.zeros(3))
    _energies: np.ndarray = field(default_factory=lambda: np.zeros(3))  # of x, of x without its means, of the error
    _bands: np.ndarray = field(default_factory=lambda: np.zeros((2, len(BANDS))))

    def add(self, x: np.ndarray, y: np.ndarray) -> None:
        """Add a block.

        Parameters
        ----------
        x, y : ndarray, shape (n_channels, n_samples)
            Original and decoded, in µV; NaN where there was no sample.
        """
        # As near to 4 s as the length of the block allows, so that every sample counts.
        n_pieces = max(1, round(x.shape[1] / (WINDOW * self.sfreq)))
        pieces = zip(np.array_split(x, n_pieces, axis=1), np.array_split(y, n_pieces, axis=1), strict=True)
        for one, other in pieces:
            error = np.abs(one - other)
            if np.isfinite(error).any():
                self.largest = max(self.largest, float(np.nanmax(error)))
            used = np.isfinite(error).all(axis=1) & (np.ptp(one, axis=1) > 0)
            self.n_left_out += int((~used).sum())
            if used.any():
                self._add(one[used], other[used])

    def _add(self, x: np.ndarray, y: np.ndarray) -> None:
        self.n_windows += len(x)
        self._means += (prd(x, y).sum(), prdn(x, y).sum(), pearson(x, y).sum())
        centred = x - x.mean(axis=1, keepdims=True)
        self._energies += (np.square(x).sum(), np.square(centred).sum(), np.square(x - y).sum())
        frequencies = np.fft.rfftfreq(x.shape[1], 1 / self.sfreq)
        taper = np.hanning(x.shape[1] + 2)[1:-1]
        powers = [np.square(np.abs(np.fft.rfft(each * taper, axis=1))).sum(axis=0) for each in (centred, x - y)]
        for i, (low, high) in enumerate(BANDS.values()):
            within = (frequencies >= low) & (frequencies < high)
            self._bands[:, i] += [power[within].sum() for power in powers]

    def merge(self, other: Quality) -> None:
        """Add the sums of another part of the same recording."""
        self.n_windows += other.n_windows
        self.n_left_out += other.n_left_out
        self.largest = max(self.largest, other.largest)
        self._means = self._means + other._means
        self._energies = self._energies + other._energies
        self._bands = self._bands + other._bands

    @property
    def prd(self) -> float:
        """PRD in percent, mean over channels and windows; NaN if there are none."""
        return self._mean(0)

    @property
    def prdn(self) -> float:
        """PRDN in percent, mean over channels and windows."""
        return self._mean(1)

    @property
    def pearson(self) -> float:
        """Pearson's r, mean over channels and windows."""
        return self._mean(2)

    @property
    def prd_overall(self) -> float:
        """PRD in percent of all samples together: loud windows count for more."""
        return self._ratio(self._energies[2], self._energies[0])

    @property
    def prdn_overall(self) -> float:
        """PRDN in percent of all samples together; the means taken off are those of the windows."""
        return self._ratio(self._energies[2], self._energies[1])

    @property
    def band_errors(self) -> dict[str, float]:
        """PRDN in percent within each band: of the spectra of all windows (Hann taper) together."""
        highest = self.sfreq / 2
        return {
            name: self._ratio(error, signal)
            for (name, (low, _)), signal, error in zip(BANDS.items(), *self._bands, strict=True)
            if low < highest
        }

    def _mean(self, which: int) -> float:
        return float(self._means[which] / self.n_windows) if self.n_windows else float("nan")

    def _ratio(self, error: float, signal: float) -> float:
        return float(100 * np.sqrt(error / max(signal, _FLOOR))) if self.n_windows else float("nan")
