"""What a restoration has to beat: splines, neighbours, and linear prediction from covariances.

Every one of them is linear in the visible channels, referred to their mean, so that nothing of a hidden channel leaks
into its own prediction by the reference. See :mod:`mne_labram.benchmark.restoration` for what they are asked.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mne_labram.restoration import bands
from mne_labram.restoration.bands import constant_runs
from mne_labram.restoration.predictors import spline_weights

__all__ = [
    "BAND_EDGES",
    "CovariancePredictor",
    "NearestPredictor",
    "SplineBaseline",
    "band_covariances",
    "ridge_weights",
]

#: Edges of the bands in Hz within which one set of weights holds; the last one ends at half the sampling rate.
BAND_EDGES: tuple[float, ...] = (*bands.BAND_EDGES, np.inf)
# Length in seconds of the pieces of which covariances are taken.
_SECONDS = 8.0


class _LinearPredictor:
    """A predictor whose weights depend on what is hidden only.

    Parameters
    ----------
    ch_names : sequence of str
        Channels.
    positions : ndarray, shape (n_channels, 3)
        Electrodes in metres, in the head frame.
    sfreq : float
        Sampling rate in Hz.
    """

    edges: tuple[float, ...] = (0.0, np.inf)

    def __init__(self, ch_names: Sequence[str], positions: np.ndarray, sfreq: float) -> None:
        self.ch_names = list(ch_names)
        self.positions = np.asarray(positions, dtype=float)
        self.sfreq = float(sfreq)

    def observe(self, x: np.ndarray, hidden: np.ndarray) -> None:
        """Learn nothing from the recording itself."""

    def predict(self, x: np.ndarray, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Predict what is hidden.

        Parameters
        ----------
        x : ndarray, shape (n_channels, n_times)
            Microvolts.
        hidden : ndarray of bool, shape (n_channels, n_times)
            What must not be looked at.

        Returns
        -------
        restored : ndarray, shape (n_channels, n_times)
            ``x`` where it is visible, the prediction elsewhere, in the reference of ``x``.
        deviation : ndarray, shape (n_channels, n_times)
            NaN where it was predicted, 0 elsewhere: no error is foretold.
        """
        restored = np.array(x, dtype=float)
        for start, stop in constant_runs(hidden):
            piece, gone = slice(start, stop), hidden[:, start]
            if not gone.any() or gone.all():
                continue
            visible = restored[~gone, piece]
            mean = visible.mean(axis=0)
            restored[gone, piece] = self._predicted(visible - mean, gone) + mean
        return restored, np.where(hidden, np.nan, 0.0)

    def _predicted(self, visible: np.ndarray, gone: np.ndarray) -> np.ndarray:
        """Apply the weights of each band to a piece in which the same channels are hidden throughout."""
        weights = self._weights(gone)
        if len(weights) == 1:
            return weights[0] @ visible
        spectrum = np.fft.rfft(visible, axis=1)
        out = np.zeros((int(gone.sum()), spectrum.shape[1]), dtype=complex)
        for rows, own in zip(_bins(self.edges, visible.shape[1], self.sfreq), weights, strict=True):
            out[:, rows] = own @ spectrum[:, rows]
        return np.fft.irfft(out, visible.shape[1], axis=1)

    def _weights(self, gone: np.ndarray) -> np.ndarray:
        """Return weights, shape (n_bands, n_hidden, n_visible)."""
        raise NotImplementedError


class SplineBaseline(_LinearPredictor):
    """MNE's ``interpolate_bads``: spherical splines (Perrin et al. 1989)."""

    def _weights(self, gone: np.ndarray) -> np.ndarray:
        """Return the weights that MNE's method gives visible channels."""
        return spline_weights(self.positions, gone)[None]


class NearestPredictor(_LinearPredictor):
    """The mean of the nearest visible channels, 3 of them."""

    n_nearest = 3

    def _weights(self, gone: np.ndarray) -> np.ndarray:
        """Return equal weights for the nearest ones."""
        distances = np.linalg.norm(self.positions[gone][:, None] - self.positions[~gone], axis=2)
        n_nearest = min(self.n_nearest, distances.shape[1])
        weights = np.zeros_like(distances)
        np.put_along_axis(weights, np.argsort(distances, axis=1)[:, :n_nearest], 1.0 / n_nearest, axis=1)
        return weights[None]


class CovariancePredictor(_LinearPredictor):
    """Ridge regression of hidden on visible channels, from covariances: one for all frequencies, or one per band.

    Parameters
    ----------
    ch_names : sequence of str
        Channels.
    positions : ndarray, shape (n_channels, 3)
        Electrodes; not looked at.
    sfreq : float
        Sampling rate in Hz.
    prior : ndarray, shape (n_bands, n_channels, n_channels) | None
        Covariances of other subjects, by band (:func:`band_covariances`), of any scale; ``None``: what is observed of
        the recording alone.
    regularization : float
        Added to the variances of visible channels, in units of their mean.
    by_band : bool
        One set of weights for every band of :data:`BAND_EDGES`, or one for all frequencies.
    calibrated : bool
        Whether :meth:`observe` counts.
    prior_weight : float
        Share of the prior in the covariances, once something was observed.
    """

    def __init__(
        self,
        ch_names: Sequence[str],
        positions: np.ndarray,
        sfreq: float,
        *,
        prior: np.ndarray | None,
        regularization: float = 0.1,
        by_band: bool = True,
        calibrated: bool = False,
        prior_weight: float = 0.0,
    ) -> None:
        super().__init__(ch_names, positions, sfreq)
        self.prior, self.regularization, self.calibrated = prior, regularization, calibrated
        self.prior_weight, self.by_band = prior_weight, by_band
        self.edges = BAND_EDGES if by_band else (0.0, np.inf)
        self._observed: np.ndarray | None = None

    def observe(self, x: np.ndarray, hidden: np.ndarray) -> None:
        """Add what a stretch of the recording shows, where all of its channels are visible.

        Parameters
        ----------
        x : ndarray, shape (n_channels, n_times)
            Microvolts.
        hidden : ndarray of bool, shape (n_channels, n_times)
            Samples at which any channel is hidden are left out.
        """
        if not self.calibrated:
            return
        for start, stop in constant_runs(hidden):
            if not hidden[:, start].any():
                found = band_covariances(np.asarray(x, dtype=float)[:, start:stop], self.sfreq)
                self._observed = found if self._observed is None else self._observed + found

    def _weights(self, gone: np.ndarray) -> np.ndarray:
        covariances = mixed(self._observed, self.prior, self.prior_weight)
        if not self.by_band:
            covariances = covariances.sum(axis=0, keepdims=True)
        return ridge_weights(covariances, gone, self.regularization)


def mixed(observed: np.ndarray | None, prior: np.ndarray | None, prior_weight: float) -> np.ndarray:
    """Mix covariances of a recording with those of other subjects, each divided by its trace.

    Parameters
    ----------
    observed, prior : ndarray, shape (n_bands, n_channels, n_channels) | None
        Of the recording, and of others; at least one of them.
    prior_weight : float
        Share of the prior where there are both.

    Returns
    -------
    covariances : ndarray, shape (n_bands, n_channels, n_channels)
        The mixture.

    Raises
    ------
    ValueError
        If there is neither.
    """
    if observed is None and prior is None:
        raise ValueError("Nothing is known of the channels; call observe first, or give covariances.")
    parts = [
        (weight, each / np.trace(each.sum(axis=0)))
        for weight, each in ((1.0 - prior_weight, observed), (prior_weight if observed is not None else 1.0, prior))
        if each is not None
    ]
    return sum(weight * each for weight, each in parts)


def band_covariances(x: np.ndarray, sfreq: float, edges: Sequence[float] = BAND_EDGES) -> np.ndarray:
    """Covariances of the channels within bands; their sum over bands is the covariance of the signal.

    Parameters
    ----------
    x : ndarray, shape (n_channels, n_times)
        The signal.
    sfreq : float
        Sampling rate in Hz.
    edges : sequence of float
        Edges of the bands in Hz.

    Returns
    -------
    covariances : ndarray, shape (n_bands, n_channels, n_channels)
        Sums over samples of 8-s pieces (of the whole where it is shorter), each without its mean.
    """
    length = min(int(_SECONDS * sfreq), x.shape[1])
    out = np.zeros((len(edges) - 1, len(x), len(x)))
    for start in range(0, x.shape[1] - length + 1, length):
        piece = x[:, start : start + length]
        spectrum = np.fft.rfft(piece - piece.mean(axis=1, keepdims=True), axis=1)
        # Parseval: all but the first and the last of an even number stand for two.
        spectrum *= np.sqrt(np.where((np.arange(spectrum.shape[1]) * 2) % length == 0, 1.0, 2.0) / length)
        for i, rows in enumerate(_bins(edges, length, sfreq)):
            out[i] += (spectrum[:, rows] @ spectrum[:, rows].conj().T).real
    return out


def ridge_weights(covariances: np.ndarray, gone: np.ndarray, regularization: float) -> np.ndarray:
    """Weights of ridge regression of hidden on visible channels, both referred to the mean of the visible ones.

    Parameters
    ----------
    covariances : ndarray, shape (n_bands, n_channels, n_channels)
        In any reference.
    gone : ndarray of bool, shape (n_channels,)
        Which are hidden.
    regularization : float
        In units of the mean variance of the visible channels in that band.

    Returns
    -------
    weights : ndarray, shape (n_bands, n_hidden, n_visible)
        For channels referred to the mean of the visible ones.
    """
    reference = np.eye(len(gone)) - ~gone / (~gone).sum()
    referred = reference @ covariances @ reference.T
    visible, n_visible = referred[:, ~gone][:, :, ~gone], int((~gone).sum())
    level = np.trace(visible, axis1=1, axis2=2)[:, None, None] / n_visible
    # Where nothing is in a band, its weights are of no account, but must exist.
    level = np.where(level > 0, level, 1.0)
    across = referred[:, ~gone][:, :, gone]
    return np.linalg.solve(visible + (regularization * level + 1e-12 * level) * np.eye(n_visible), across).swapaxes(
        1, 2
    )


def _bins(edges: Sequence[float], n_times: int, sfreq: float) -> list[np.ndarray]:
    frequencies = np.fft.rfftfreq(n_times, 1.0 / sfreq)
    return [(frequencies >= low) & (frequencies < high) for low, high in zip(edges[:-1], edges[1:], strict=True)]
