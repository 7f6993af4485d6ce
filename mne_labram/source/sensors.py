"""What is at the electrodes besides the signal, which of them there are, and their average reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

from mne_labram.signal.contract import ContractError
from mne_labram.source.noise import ColouredNoise, RecordedNoise, resampled, white_noise

if TYPE_CHECKING:
    from mne_labram.source.bank import WaveformBank
    from mne_labram.source.head import SourceModel

__all__ = ["BackgroundActivity", "SensorNoise", "average_reference", "draw_visible", "subset_masks"]

#: Fewer channels are not left over by dropping out.
_FEWEST = 8


def average_reference(x: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Subtract the mean over visible channels, and set the others to zero.

    Parameters
    ----------
    x : ndarray, shape (n, n_channels, n_times)
        Potentials; not modified.
    visible : ndarray of bool, shape (n, n_channels)
        Channels that count; one at least in every window.

    Returns
    -------
    x : ndarray, shape (n, n_channels, n_times)
        Of the same type.
    """
    mask = visible[:, :, np.newaxis]
    mean = np.where(mask, x, 0).sum(axis=1, keepdims=True) / visible.sum(axis=1)[:, np.newaxis, np.newaxis]
    return np.where(mask, x - mean.astype(x.dtype), 0).astype(x.dtype)


def draw_visible(n: int, subsets: np.ndarray, dropout: float, rng: np.random.Generator) -> np.ndarray:
    """Draw which channels windows have.

    Parameters
    ----------
    n : int
        Windows.
    subsets : ndarray of bool, shape (n_subsets, n_channels)
        Montages, of which each window has one.
    dropout : float
        Largest share of it that is missing.
    rng : numpy.random.Generator
        Where everything is drawn from.

    Returns
    -------
    visible : ndarray of bool, shape (n, n_channels)
        Eight channels at least, or all of a montage that has no more.
    """
    montage = subsets[rng.integers(len(subsets), size=n)]
    share = rng.uniform(0.0, dropout, (n, 1))
    luck = np.where(montage, rng.random(montage.shape), -1.0)
    kept = np.sort(luck, axis=1)[:, ::-1][:, min(_FEWEST, luck.shape[1]) - 1 :][:, :1]
    return montage & ((luck >= share) | (luck >= kept))


def subset_masks(ch_names: Sequence[str], subsets: Sequence[Sequence[str]]) -> np.ndarray:
    """Find the channels of montages.

    Parameters
    ----------
    ch_names : sequence of str
        The whole montage.
    subsets : sequence of sequence of str
        Parts of it.

    Returns
    -------
    masks : ndarray of bool, shape (1 + n_subsets, n_channels)
        The whole montage first.

    Raises
    ------
    ContractError
        If a channel is not there, or a part has fewer than two.
    """
    masks = [np.ones(len(ch_names), dtype=bool)]
    for subset in subsets:
        missing = [name for name in subset if name not in ch_names]
        if isinstance(subset, str) or missing or len(set(subset)) < 2:
            raise ContractError(
                f"A subset must be two channels or more of the {len(ch_names)} of the head, got {list(subset)[:8]}"
                + (f" without {missing[0]!r} among them." if missing else ".")
            )
        masks.append(np.isin(ch_names, list(subset)))
    return np.array(masks)


class BackgroundActivity:
    """The bank's background, as electrodes see it.

    Parameters
    ----------
    model : SourceModel
        The head.
    bank : WaveformBank
        With a background.
    sfreq : float
        Samples per second.

    Attributes
    ----------
    covariances : ndarray, shape (n_clips, n_channels, n_channels)
        Of every clip, in the recorded reference.

    Notes
    -----
    Every source does what its region does: the nearest one once both clouds of points have the same middle and spread;
    where the bank has no positions, sources in their order are dealt out to regions in theirs. Its dipoles are divided
    by their number, so that a region counts the same in any source space.
    """

    def __init__(self, model: SourceModel, bank: WaveformBank, sfreq: float) -> None:
        positions = np.asarray(model.positions, dtype=float)
        n_sources, n_regions = len(positions), bank.n_regions
        if len(bank.positions):
            nearest = cKDTree(_standard(bank.positions)).query(_standard(positions))[1]
        else:
            nearest = np.arange(n_sources) * n_regions // n_sources
        share = np.zeros((n_sources, n_regions))
        share[np.arange(n_sources), nearest] = 1.0
        share /= np.maximum(share.sum(axis=0), 1.0)
        leadfield = np.asarray(model.leadfield @ share, dtype=np.float32)
        # First to the electrodes, which are few, then to the rate.
        seen = np.stack([leadfield @ clip.astype(np.float32) for clip in bank.background])
        self.clips = resampled(seen, bank.sfreq, sfreq)
        self.covariances = np.einsum("ict,idt->icd", self.clips, self.clips) / self.clips.shape[2]

    def draw(self, n: int, n_times: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw windows: two clips each, from anywhere, of either sign and direction; see ``ColouredNoise.draw``."""
        n_clips, n_channels, n_stored = self.clips.shape
        out = np.zeros((n, n_channels, n_times), np.float32)
        covariance = np.zeros((n, n_channels, n_channels))
        for _ in range(2):
            which = rng.integers(n_clips, size=n)
            factor = rng.standard_normal(n)
            start, backwards = rng.integers(n_stored, size=n), rng.random(n) < 0.5
            for window in range(n):
                # There and back again, where a window is longer than what is left of the clip.
                at = (start[window] + np.arange(n_times)) % max(1, 2 * n_stored - 2)
                at = np.where(at < n_stored, at, 2 * n_stored - 2 - at)
                piece = self.clips[which[window]][:, at[::-1] if backwards[window] else at]
                out[window] += np.float32(factor[window]) * piece
            covariance += (factor**2)[:, np.newaxis, np.newaxis] * self.covariances[which]
        return out, covariance


def _standard(points: np.ndarray) -> np.ndarray:
    points = np.asarray(points, dtype=float)
    points = points - points.mean(axis=0)
    return points / np.maximum(points.std(axis=0), 1e-12)


class SensorNoise:
    """All noise together.

    Parameters
    ----------
    n_channels : int
        Channels.
    coloured : ColouredNoise | None
        For ``"coloured"``.
    real : RecordedNoise | None
        For ``"real"``.
    background : BackgroundActivity | None
        What goes on in the brain besides.
    """

    def __init__(
        self,
        n_channels: int,
        coloured: ColouredNoise | None,
        real: RecordedNoise | None,
        background: BackgroundActivity | None,
    ) -> None:
        self.n_channels, self.coloured, self.real, self.background = n_channels, coloured, real, background

    def draw(
        self,
        kinds: Sequence[str],
        share: np.ndarray,
        level: np.ndarray,
        visible: np.ndarray,
        n_times: int,
        sfreq: float,
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw windows of noise.

        Parameters
        ----------
        kinds : sequence of str
            ``"white"``, ``"coloured"`` or ``"real"``, for each window.
        share : ndarray, shape (n,)
            Part of the power that is background activity.
        level : ndarray, shape (n,)
            Root mean square over visible channels and samples, in the average reference.
        visible : ndarray of bool, shape (n, n_channels)
            Channels that there are.
        n_times : int
            Samples of a window.
        sfreq : float
            Samples per second.
        rng : numpy.random.Generator
            Where everything is drawn from.

        Returns
        -------
        noise : ndarray of float32, shape (n, n_channels, n_times)
            In the average reference of the visible channels, zeros in the others.
        covariance : ndarray of float32, shape (n, n_channels, n_channels)
            What it was drawn from, scaled to its power.
        """
        n = len(kinds)
        noise = np.empty((n, self.n_channels, n_times), np.float32)
        covariance = np.empty((n, self.n_channels, self.n_channels))
        for kind, source in (("white", None), ("coloured", self.coloured), ("real", self.real)):
            rows = np.flatnonzero([each == kind for each in kinds])
            if not len(rows):
                continue
            if source is None:
                noise[rows] = white_noise(len(rows), self.n_channels, n_times, rng)
                covariance[rows] = np.eye(self.n_channels)
            else:
                noise[rows], covariance[rows] = source.draw(len(rows), n_times, sfreq, rng)
        noise, covariance = _of_power(average_reference(noise, visible), _referenced(covariance, visible), 1.0 - share)
        if self.background is not None:
            activity, behind = self.background.draw(n, n_times, rng)
            activity, behind = _of_power(average_reference(activity, visible), _referenced(behind, visible), share)
            noise += activity
            covariance += behind
        # The two parts are not quite uncorrelated in a short window.
        return _scaled(noise, covariance, level**2 * visible.sum(axis=1))


def _referenced(covariance: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Take covariances (n, n_channels, n_channels) to the average reference of visible channels."""
    half = average_reference(covariance, visible)
    return average_reference(half.transpose(0, 2, 1), visible)


def _of_power(x: np.ndarray, covariance: np.ndarray, power: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale noise, and what it was drawn from, to a power: the sum of mean squares over channels."""
    found = np.einsum("nct,nct->n", x, x, dtype=np.float64) / x.shape[2]
    expected = np.trace(covariance, axis1=1, axis2=2)
    factor = np.sqrt(power / np.where(found > 0.0, found, np.inf))
    x *= factor[:, np.newaxis, np.newaxis].astype(np.float32)
    covariance *= (power / np.where(expected > 0.0, expected, np.inf))[:, np.newaxis, np.newaxis]
    return x, covariance


def _scaled(x: np.ndarray, covariance: np.ndarray, power: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, covariance = _of_power(x, covariance, power)
    return x, covariance.astype(np.float32)
