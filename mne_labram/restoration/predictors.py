"""Predict hidden channels from visible ones: splines over the head, and ridge regression by frequency band."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import mne
import numpy as np
from scipy.ndimage import uniform_filter1d

from mne_labram.restoration.bands import BandCovariances, band_edges, constant_runs, split_bands
from mne_labram.signal.contract import ContractError

__all__ = [
    "ChannelPredictor",
    "RidgePredictor",
    "SplinePredictor",
    "check_two_visible",
    "checked_signal",
    "spline_weights",
]

# Seconds: windows of bands need at least one, the error is rated over one, and covariances of that many will do.
_SHORTEST, _RATED_OVER, _ENOUGH = 1.0, 1.0, 20.0
# How far the expected error follows the power of the visible channels away from what was observed.
_SCALES = (0.05, 20.0)
# Patterns of hidden channels whose weights are kept.
_MAX_CACHED = 512


@runtime_checkable
class ChannelPredictor(Protocol):
    """What predicts hidden samples; made for the channels of one recording.

    ``Class(ch_names, positions, sfreq, ...)`` takes names, ``(n_channels, 3)`` head coordinates in metres, and Hz.
    """

    def observe(self, x: np.ndarray, hidden: np.ndarray) -> None:
        """Learn from a stretch of the recording.

        Parameters
        ----------
        x : ndarray, shape (n_channels, n_times)
            Microvolts at the recording's own rate, unfiltered, in its own reference.
        hidden : ndarray of bool, shape (n_channels, n_times)
            Samples that must not be believed.
        """

    def predict(self, x: np.ndarray, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fill in what is hidden.

        Parameters
        ----------
        x : ndarray, shape (n_channels, n_times)
            Microvolts; anything where hidden.
        hidden : ndarray of bool, shape (n_channels, n_times)
            What to predict.

        Returns
        -------
        restored : ndarray, shape (n_channels, n_times)
            ``x`` where visible, predictions where hidden, in the reference of ``x``.
        deviation : ndarray, shape (n_channels, n_times)
            Expected standard deviation of the error in microvolts, NaN where not known, 0 where visible.
        """


class _LinearPredictor:
    """Hidden channels as weighted sums of visible ones; covariances observed say how large the error is.

    Weights act on the differences from the mean of the visible channels, which is added back: the reference of the
    recording cancels out. Each frequency band may have weights of its own. Then all that is hidden is first filled with
    the weights of the broad band, so that the bands of a visible channel are not bent where it is hidden soon after.
    """

    def __init__(self, ch_names: Sequence[str], positions: np.ndarray, sfreq: float) -> None:
        self.ch_names = list(ch_names)
        self.positions = np.array(positions, dtype=float)
        self.sfreq = float(sfreq)
        if len(set(self.ch_names)) < len(self.ch_names):
            raise ContractError("Two channels have the same name; rename one of them.")
        if self.positions.shape != (len(self.ch_names), 3) or not np.isfinite(self.positions).all():
            raise ContractError(
                f"Every one of the {len(self.ch_names)} channels needs a position (x, y, z) in metres, got an array of "
                f"shape {self.positions.shape} with {np.isfinite(self.positions).all(axis=-1).sum()} of them; "
                "set a montage."
            )
        if not self.sfreq > 0:
            raise ContractError(f"The sampling rate must be positive, got {sfreq:g} Hz.")
        self._observed = BandCovariances(len(self.ch_names), self.sfreq)
        self._cache: dict[bytes, Any] = {}

    def observe(self, x: np.ndarray, hidden: np.ndarray) -> None:
        """Accumulate the covariances of a stretch of the recording.

        Parameters
        ----------
        x : ndarray, shape (n_channels, n_times)
            Microvolts.
        hidden : ndarray of bool, shape (n_channels, n_times)
            Samples that must not be believed.

        Raises
        ------
        ContractError
            If the shapes do not fit, or a visible sample is not finite.
        """
        self._observed.add(*checked_signal(x, hidden, len(self.ch_names)))
        self._cache.clear()

    def predict(self, x: np.ndarray, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fill in what is hidden.

        Parameters
        ----------
        x : ndarray, shape (n_channels, n_times)
            Microvolts; anything where hidden.
        hidden : ndarray of bool, shape (n_channels, n_times)
            What to predict.

        Returns
        -------
        restored : ndarray, shape (n_channels, n_times)
            ``x`` where visible.
        deviation : ndarray, shape (n_channels, n_times)
            Expected standard deviation of the error in microvolts, NaN where not known, 0 where visible.

        Raises
        ------
        ContractError
            If the shapes do not fit, a visible sample is not finite, or fewer than two channels are visible.
        """
        x, hidden = checked_signal(x, hidden, len(self.ch_names))
        runs = [run for run in constant_runs(hidden) if hidden[:, run[0]].any()] if hidden.size else []
        check_two_visible(hidden, runs)
        for start, stop in runs:
            off = hidden[:, start]
            x[off, start:stop] = self._weights(off)[0][0] @ x[~off, start:stop]
        deviation = np.zeros_like(x)
        if not runs:
            return x, deviation
        bands = split_bands(x, self.sfreq) if x.shape[1] >= _SHORTEST * self.sfreq else None
        for start, stop in runs:
            off = hidden[:, start]
            part = None if bands is None else bands[:, ~off, start:stop]
            if part is not None and self._has_bands:
                x[off, start:stop] = np.einsum("bhv,bvt->ht", self._weights(off)[1], part, optimize=True)
            deviation[off, start:stop] = self._deviation(off, part, stop - start)
        return x, deviation

    # -- what the methods differ in -----------------------------------------------------------------------------------
    _has_bands = False

    def _solve(self, off: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return weights for the broad band, shape (1, n_hidden, n_visible), and for each band."""
        raise NotImplementedError

    # -- shared -------------------------------------------------------------------------------------------------------
    def _weights(self, off: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        key = off.tobytes()
        if key not in self._cache:
            if len(self._cache) >= _MAX_CACHED:
                self._cache.clear()
            self._cache[key] = self._solve(off)
        return self._cache[key]

    def _statistics(self, off: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Error variance (n_bands, n_hidden) and visible power (n_bands,) as observed; NaN for what was never seen."""
        key = b"error" + off.tobytes()
        if key not in self._cache:
            weights = self._weights(off)[1]
            errors = np.full((len(self._observed.edges), int(off.sum())), np.nan)
            power = np.full_like(errors, np.nan)
            for row, target in enumerate(np.flatnonzero(off)):
                both = ~off
                both[target] = True
                covariances = self._covariances(both)
                if covariances is None:
                    continue
                place = int(np.flatnonzero(both).searchsorted(target))
                # Rows that add up to zero: the reference cancels out of the error.
                for band, covariance in enumerate(covariances):
                    contrast = np.insert(-weights[min(band, len(weights) - 1), row], place, 1.0)
                    errors[band, row] = max(contrast @ covariance @ contrast, 0.0)
                    visible = np.delete(np.delete(covariance, place, 0), place, 1)
                    power[band, row] = max(np.trace(visible) / len(visible) - visible.mean(), 0.0)
            self._cache[key] = errors, power
        return self._cache[key]

    def _covariances(self, both: np.ndarray) -> np.ndarray | None:
        seconds, covariances = self._observed.of(both)
        return covariances if seconds > 0 else None

    def _deviation(self, off: np.ndarray, bands: np.ndarray | None, n_times: int) -> np.ndarray:
        errors, power = self._statistics(off)
        if bands is None:
            return np.sqrt(errors.sum(axis=0))[:, None].repeat(n_times, axis=1)
        local = ((bands - bands.mean(axis=1, keepdims=True)) ** 2).mean(axis=1)
        local = uniform_filter1d(local, max(1, int(_RATED_OVER * self.sfreq)), axis=1, mode="nearest")
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = np.where(power[..., None] > 0, local[:, None] / power[..., None], 1.0)
        return np.sqrt((errors[..., None] * np.clip(scale, *_SCALES)).sum(axis=0))


class SplinePredictor(_LinearPredictor):
    """Spherical splines, as :meth:`mne.io.Raw.interpolate_bads` has them (Perrin et al. 1989).

    Parameters
    ----------
    ch_names : sequence of str
        Channel names.
    positions : ndarray, shape (n_channels, 3)
        Head coordinates in metres.
    sfreq : float
        Samples per second.

    Raises
    ------
    ContractError
        If a position is missing or a name comes twice.

    Notes
    -----
    Nothing is learned from what is observed but how large the error is.
    """

    def _solve(self, off: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        weights = _referenced(spline_weights(self.positions, off))[None]
        return weights, weights


class RidgePredictor(_LinearPredictor):
    """Ridge regression on the visible channels, in each of the bands 0-4-8-13-20-30 Hz and above.

    Parameters
    ----------
    ch_names : sequence of str
        Channel names.
    positions : ndarray, shape (n_channels, 3)
        Head coordinates in metres; splines over them fill channels that no covariance is known of.
    sfreq : float
        Samples per second.
    covariances : ndarray, shape (n_bands, n_channels, n_channels) | None
        Covariances of other recordings in each band, in any reference and unit (see
        :class:`~mne_labram.restoration.bands.BandCovariances`); ``None``: only what is observed counts.
    covariance_seconds : float
        As much of this recording would outweigh them.
    ridge : float
        Added to the diagonal, as a share of its mean.

    Raises
    ------
    ContractError
        If a position is missing, a name comes twice, or the covariances have another shape.
    """

    _has_bands = True

    def __init__(
        self,
        ch_names: Sequence[str],
        positions: np.ndarray,
        sfreq: float,
        *,
        covariances: np.ndarray | None = None,
        covariance_seconds: float = 10.0,
        ridge: float = 0.02,
    ) -> None:
        super().__init__(ch_names, positions, sfreq)
        n = len(self.ch_names)
        shape = (len(band_edges(self.sfreq)), n, n)
        self.covariances = None if covariances is None else np.array(covariances, dtype=float)
        if self.covariances is not None and self.covariances.shape != shape:
            raise ContractError(
                f"The covariances have the shape {self.covariances.shape}, and {n} channels at {self.sfreq:g} Hz need "
                f"{shape}."
            )
        self.covariance_seconds = float(covariance_seconds)
        self.ridge = float(ridge)
        if not (self.ridge > 0 and self.covariance_seconds > 0):
            raise ContractError("ridge and covariance_seconds must be positive.")

    @property
    def unseen(self) -> list[str]:
        """Channels that nothing is known of but where they are."""
        if self.covariances is not None:
            return []
        return [name for row, name in enumerate(self.ch_names) if self._observed.seconds_of(row) < _SHORTEST]

    def _covariances(self, both: np.ndarray) -> np.ndarray | None:
        seconds, observed = self._observed.of(both)
        if self.covariances is None:
            return observed if seconds > 0 else None
        rows = np.flatnonzero(both)
        given = self.covariances[:, rows[:, None], rows]
        if seconds == 0:
            return given
        share = seconds / (seconds + self.covariance_seconds)
        sizes = [np.trace(each, axis1=1, axis2=2) - each.mean(axis=(1, 2)) * len(rows) for each in (observed, given)]
        scale = np.divide(sizes[0], sizes[1], out=np.zeros(len(given)), where=sizes[1] > 0)
        return share * observed + (1 - share) * scale[:, None, None] * given

    def _solve(self, off: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        visible = ~off
        n_bands = len(self._observed.edges)
        weights = np.empty((n_bands + 1, int(off.sum()), int(visible.sum())))
        fallback = None
        for row, target in enumerate(np.flatnonzero(off)):
            known = visible if self.covariances is not None else self._observed.together_with(target, visible, _ENOUGH)
            both = known.copy()
            both[target] = True
            covariances = self._covariances(both) if known.sum() >= 2 else None
            if covariances is None:
                fallback = spline_weights(self.positions, off) if fallback is None else fallback
                weights[:, row] = _referenced(fallback)[row]
                continue
            place = int(np.flatnonzero(both).searchsorted(target))
            weights[:, row] = 0.0
            for band, covariance in enumerate([*covariances, covariances.sum(axis=0)]):
                weights[band, row, known[visible]] = self._regress(covariance, place)
        return weights[-1:], weights[:-1]

    def _regress(self, covariance: np.ndarray, place: int) -> np.ndarray:
        """Weights of the other channels for one of them, in the reference of their mean."""
        n = len(covariance)
        mean = np.full(n, 1.0 / (n - 1))
        mean[place] = 0.0
        centred = np.eye(n) - mean
        covariance = centred @ covariance @ centred.T
        others = np.delete(np.arange(n), place)
        inner = covariance[others[:, None], others]
        level = np.trace(inner) / (n - 1)
        if not level > 0:
            return np.full(n - 1, 1.0 / (n - 1))
        weights = np.linalg.solve(inner + self.ridge * level * np.eye(n - 1), covariance[others, place])
        return _referenced(weights[None])[0]


def checked_signal(x: np.ndarray, hidden: np.ndarray, n_channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Look at what a predictor is given.

    Parameters
    ----------
    x : ndarray, shape (n_channels, n_times)
        Microvolts; anything where hidden.
    hidden : ndarray of bool, shape (n_channels, n_times)
        Samples that must not be believed.
    n_channels : int
        Channels that the predictor was made for.

    Returns
    -------
    x, hidden : ndarray, shape (n_channels, n_times)
        Copies that may be written to; ``x`` is zero where hidden.

    Raises
    ------
    ContractError
        If the shapes do not fit, or a visible sample is not finite.
    """
    x, hidden = np.array(x, dtype=float), np.array(hidden, dtype=bool)
    if x.ndim != 2 or len(x) != n_channels or hidden.shape != x.shape:
        raise ContractError(
            f"Signal and mask must both have the shape (n_channels, n_times) with {n_channels} channels, got {x.shape} "
            f"and {hidden.shape}."
        )
    x[hidden] = 0.0
    if not np.isfinite(x).all():
        raise ContractError("A visible sample is not finite; mark such samples as hidden.")
    return x, hidden


def check_two_visible(hidden: np.ndarray, runs: Sequence[tuple[int, int]]) -> None:
    """Refuse runs in which nothing is left to predict from.

    Parameters
    ----------
    hidden : ndarray of bool, shape (n_channels, n_times)
        What is to be predicted.
    runs : sequence of (int, int)
        Where the same channels are hidden.

    Raises
    ------
    ContractError
        If fewer than two channels are visible in one.
    """
    for start, _ in runs:
        visible = int((~hidden[:, start]).sum())
        if visible < 2:
            raise ContractError(
                f"{visible} of {len(hidden)} channels are visible at sample {start}, and at least two are needed to "
                "predict the others from."
            )


def spline_weights(positions: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Weights that MNE's spherical splines give to visible channels.

    Parameters
    ----------
    positions : ndarray, shape (n_channels, 3)
        Head coordinates in metres.
    hidden : ndarray of bool, shape (n_channels,)
        Channels to interpolate.

    Returns
    -------
    weights : ndarray, shape (n_hidden, n_visible)
        Found by giving each visible channel in turn a signal of 1 to :meth:`mne.Evoked.interpolate_bads`.
    """
    names = [str(row) for row in range(len(positions))]
    info = mne.create_info(names, 1.0, "eeg")
    montage = mne.channels.make_dig_montage(dict(zip(names, positions, strict=True)), coord_frame="head")
    with mne.utils.use_log_level("ERROR"), warnings.catch_warnings():
        # MNE remarks on heads of unusual size; recordings of infants, and drawings of caps, have such.
        warnings.simplefilter("ignore", RuntimeWarning)
        unit = mne.EvokedArray(np.eye(len(names)), info)
        unit.set_montage(montage)
        unit.info["bads"] = [name for name, off in zip(names, hidden, strict=True) if off]
        # Too few electrodes for a sphere of their own get MNE's usual centre.
        origin = "auto" if len(names) >= 5 else (0.0, 0.0, 0.04)
        unit.interpolate_bads(reset_bads=False, method={"eeg": "spline"}, origin=origin)
    return unit.data[np.ix_(hidden, ~hidden)]


def _referenced(weights: np.ndarray) -> np.ndarray:
    """Let weights act on differences from the mean of their channels, and add that mean to what they give."""
    return weights + (1.0 - weights.sum(axis=1, keepdims=True)) / weights.shape[1]
