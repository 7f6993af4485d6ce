"""``SourceSimulator``: recordings of which one knows where they come from, drawn as they are needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from mne.utils import logger

from mne_labram.signal.contract import ContractError
from mne_labram.source.bank import WAVEFORM_KINDS, WaveformBank, check_kinds
from mne_labram.source.carried import carried_over
from mne_labram.source.head import SourceModel
from mne_labram.source.noise import ColouredNoise, NoiseBank
from mne_labram.source.patches import LARGEST_EXTENT_MM, PatchGrower
from mne_labram.source.perturbation import ElectrodeJitter, LeadfieldSpread
from mne_labram.source.sensors import BackgroundActivity, SensorNoise, average_reference, draw_visible, subset_masks

__all__ = ["ActivePatch", "SimulatedBatch", "SourceSimulator"]

Range = float | tuple[float, float]


class ActivePatch(NamedTuple):
    """One source of a window.

    Parameters
    ----------
    indices : ndarray of int, shape (n_members,)
        Its members.
    weights : ndarray, shape (n_members,)
        Their amplitudes, 1 at the largest of those that were simulated.
    waveform : ndarray of float32, shape (n_times,)
        What a member of weight 1 does, in nAm.
    """

    indices: np.ndarray
    weights: np.ndarray
    waveform: np.ndarray


@dataclass(frozen=True, eq=False)
class SimulatedBatch:
    """Windows, and what is behind them.

    Parameters
    ----------
    x : ndarray of float32, shape (n, n_channels, n_times)
        µV in the average reference of the visible channels, 0 in the others.
    visible : ndarray of bool, shape (n, n_channels)
        Channels that were recorded.
    sources : ndarray of float32, shape (n, n_sources, n_times)
        Dipole moments in nAm.
    active : ndarray of bool, shape (n, n_sources)
        Sources that have half of their patch's peak amplitude, or more, or stand for one that has.
    patches : list of list of ActivePatch
        The sources of every window.
    snr_db : ndarray, shape (n,)
        Decibels over the whole array of visible channels, in the average reference; -inf where there is no source.
    noise_covariance : ndarray of float32, shape (n, n_channels, n_channels) | None
        What the noise was drawn from, µV², in the same reference, with zeros for channels that are not visible. Its
        trace is the power of the noise that was drawn.
    noise_kinds : list of str
        ``"white"``, ``"coloured"`` or ``"real"``, one for each window.
    """

    x: np.ndarray
    visible: np.ndarray
    sources: np.ndarray
    active: np.ndarray
    patches: list[list[ActivePatch]]
    snr_db: np.ndarray
    noise_covariance: np.ndarray | None
    noise_kinds: list[str]

    def __len__(self) -> int:
        return len(self.x)


class SourceSimulator:
    """Draw recordings of simulated sources through a head.

    Parameters
    ----------
    model : SourceModel
        The head: leadfield, electrodes, surface.
    bank : WaveformBank | None
        What sources do, see :func:`~mne_labram.source.bank_making.make_bank`; ``None``: spikes are made up, and there
        is no background.
    sfreq : float
        Samples per second.
    seconds : float
        Length of a window.
    n_sources : int | tuple of int
        Sources that are active at the same time; two numbers are a range, both included.
    extent_mm : float | tuple of float
        Diameter of the active part of a patch along the cortex, see :func:`~mne_labram.source.patches.grow_patch`. Of a
        range all octaves are alike.
    snr_db : float | tuple of float
        10 log10 of the sum of squares of the signal over that of everything else, over all visible channels and
        samples, both in the average reference. Of a range all decibels are alike.
    noise : sequence of str
        ``"white"``, ``"coloured"`` (:class:`~mne_labram.source.noise.ColouredNoise`), ``"real"`` (``real_noise``, and
        left out of several where there is none); each window has one of them.
    none : float
        Share of windows without any source.
    real_noise : NoiseBank | None
        Recordings for ``"real"``.
    background : float | tuple of float | None
        Share of the noise's power that is ongoing activity of the bank's neural masses; ``None`` is 0 to 0.5 where the
        bank has any, and 0 otherwise.
    noise_uv : float | tuple of float
        Root mean square of the noise in the average reference, over visible channels and samples. Of a range all
        octaves are alike. The sources have the amplitude that gives the SNR.
    kinds : sequence of str
        Of :data:`~mne_labram.source.bank.WAVEFORM_KINDS`.
    relative_db : float
        How much weaker at most a source is at the sensors than the strongest of the window.
    coherent : float
        Probability that a source does what the first one does, 5 to 40 ms (and a sample, at least) later: activity that
        propagates.
    channel_dropout : float
        Each window misses a share of its channels, drawn between 0 and this.
    subsets : sequence of sequence of str
        Montages, besides the whole one, of which each window has one, all alike; channels drop out of it.
    jitter_mm : float
        See :class:`~mne_labram.source.perturbation.ElectrodeJitter`.
    forwards : sequence of SourceModel
        The same head with other conductivities, see :class:`~mne_labram.source.perturbation.LeadfieldSpread`.
    conductivity_spread : float
        How far windows go from ``model`` to ``forwards``: 0 to 1; nothing without ``forwards``.
    gap_mm : float
        Between two sources of a window at least.
    estimated : SourceModel | None
        Where sources are to be found, and ``sources``, ``active`` and ``patches`` are told: other sources of the same
        channels, fewer as a rule, see :func:`~mne_labram.source.carried.carried_over`; ``None``: those of ``model``.
    seed : int
        Of what is drawn once (distributions of coloured noise), and of :meth:`draw` without a generator.

    Raises
    ------
    ContractError
        If heads or noise do not fit the model.
    TypeError
        If ``model`` is no SourceModel or ``bank`` no WaveformBank.
    ValueError
        If a number or a name makes no sense.

    Notes
    -----
    Unlike DeepSIF's, which scales the noise of every channel to the signal's power in it and so gives 3 dB more than
    stated, the SNR is that of the whole array and is met exactly in every window. Electrodes and conductivities that
    are off change ``x`` and not ``sources``: what a method that trusts its leadfield cannot know.
    """

    def __init__(
        self,
        model: SourceModel,
        bank: WaveformBank | None = None,
        *,
        sfreq: float = 100.0,
        seconds: float = 1.0,
        n_sources: int | tuple[int, int] = (1, 3),
        extent_mm: Range = (5.0, 60.0),
        snr_db: Range = (0.0, 20.0),
        noise: Sequence[str] = ("white", "real", "coloured"),
        none: float = 0.05,
        real_noise: NoiseBank | None = None,
        background: Range | None = None,
        noise_uv: Range = (0.5, 15.0),
        kinds: Sequence[str] = WAVEFORM_KINDS,
        relative_db: float = 6.0,
        coherent: float = 0.2,
        channel_dropout: float = 0.2,
        subsets: Sequence[Sequence[str]] = (),
        jitter_mm: float = 3.0,
        forwards: Sequence[SourceModel] = (),
        conductivity_spread: float = 1.0,
        gap_mm: float = 10.0,
        estimated: SourceModel | None = None,
        seed: int = 0,
    ) -> None:
        if not isinstance(model, SourceModel):
            raise TypeError(f"model must be a SourceModel, got {type(model).__name__}; make it with source_model(fwd).")
        bank = WaveformBank() if bank is None else bank
        if not isinstance(bank, WaveformBank):
            raise TypeError(f"bank must be a WaveformBank, got {type(bank).__name__}; read it with WaveformBank.load.")
        check_kinds(kinds)
        for name, value in (("sfreq", sfreq), ("seconds", seconds)):
            if not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"{name} must be positive, got {value}.")
        self.n_times = round(seconds * sfreq)
        if self.n_times < 2:
            raise ValueError(f"A window of {seconds} s at {sfreq} Hz has fewer than two samples; make it longer.")
        for name, value in (("none", none), ("coherent", coherent)):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} must be between 0 and 1, got {value}.")
        if not 0.0 <= channel_dropout < 1.0:
            raise ValueError(f"channel_dropout must be 0 or more and less than 1, got {channel_dropout}.")
        for name, value in (("relative_db", relative_db), ("gap_mm", gap_mm)):
            if not (math.isfinite(value) and value >= 0.0):
                raise ValueError(f"{name} must be 0 or more, got {value}.")
        self.model, self.bank, self.sfreq, self.seconds = model, bank, float(sfreq), float(seconds)
        self.estimated, self._carried = model if estimated is None else estimated, None
        if self.estimated is not model:
            if not isinstance(estimated, SourceModel) or estimated.ch_names != model.ch_names:
                raise ContractError("estimated must be a SourceModel of the same channels; pick them from both heads.")
            self._carried = carried_over(model, estimated)
        self.n_sources = _count_range(n_sources)
        self.extent_mm = _range("extent_mm", extent_mm, 0.0, LARGEST_EXTENT_MM)
        self.snr_db = _range("snr_db", snr_db, -100.0, 200.0)
        self.noise_uv = _range("noise_uv", noise_uv, 1e-9, 1e9)
        if background is None:
            background = (0.0, 0.5) if bank.n_regions else 0.0
        self.background = _range("background", background, 0.0, 1.0)
        if self.background[1] > 0.0 and not bank.n_regions:
            raise ContractError("The waveform bank has no background activity; make one with it, or pass background=0.")
        self.none, self.kinds, self.relative_db, self.coherent = none, tuple(kinds), relative_db, coherent
        self.channel_dropout, self.gap_mm = channel_dropout, gap_mm
        self.noise = _noise_kinds(noise, real_noise)
        self.subsets = subset_masks(model.ch_names, subsets)
        self.seed = int(seed)
        self._rng = np.random.default_rng(self.seed)
        self._jitter = ElectrodeJitter(model.electrodes, jitter_mm)
        self._spread = LeadfieldSpread(model, forwards, conductivity_spread)
        self._grower = PatchGrower(model)
        self._noise = SensorNoise(
            len(model.ch_names),
            ColouredNoise(model, seed=self.seed) if "coloured" in self.noise else None,
            real_noise.on(model) if "real" in self.noise and real_noise is not None else None,
            BackgroundActivity(model, bank, self.sfreq) if self.background[1] > 0.0 else None,
        )

    def __repr__(self) -> str:
        return (
            f"<SourceSimulator | {len(self.model.ch_names)} channels, {len(self.model.positions)} sources, "
            f"{self.n_times} samples at {self.sfreq:g} Hz, noise {', '.join(self.noise)}>"
        )

    def draw(
        self,
        n: int,
        rng: np.random.Generator | int | None = None,
        *,
        n_sources: int | tuple[int, int] | None = None,
        snr_db: Range | None = None,
        extent_mm: Range | None = None,
        centres: Sequence[Sequence[int]] | None = None,
    ) -> SimulatedBatch:
        """Draw windows.

        Parameters
        ----------
        n : int
            How many.
        rng : numpy.random.Generator | int | None
            Where everything is drawn from; an integer is a seed, ``None`` the simulator's own generator, which goes on
            from draw to draw.
        n_sources : int | tuple of int | None
            Instead of the simulator's; every window then has sources, unless it is 0.
        snr_db, extent_mm : float | tuple of float | None
            Instead of the simulator's.
        centres : sequence of sequence of int | None
            Where the sources of every window are, instead of anywhere; their number follows from it.

        Returns
        -------
        batch : SimulatedBatch
            The windows.

        Raises
        ------
        ValueError
            If a number makes no sense.
        """
        if n < 1:
            raise ValueError(f"At least one window is drawn, got n={n}.")
        if centres is not None and len(centres) != n:
            raise ValueError(f"There are centres for {len(centres)} windows and n={n}; give them for each window.")
        rng = self._rng if rng is None else np.random.default_rng(rng)
        counts = self._counts(n, n_sources, centres, rng)
        extents = self.extent_mm if extent_mm is None else _range("extent_mm", extent_mm, 0.0, LARGEST_EXTENT_MM)
        snr = rng.uniform(*(self.snr_db if snr_db is None else _range("snr_db", snr_db, -100.0, 200.0)), n)
        snr[counts == 0] = -np.inf
        grown = []
        for window, count in enumerate(counts):
            wanted = _octaves(extents, count, rng)
            places = None if centres is None else centres[window]
            grown.append(self._grower.apart(wanted, rng, gap_mm=self.gap_mm, centres=places))
        n_most = int(counts.max())
        present = np.arange(n_most) < counts[:, np.newaxis]
        waveforms = self._waveforms(present, rng)
        topographies = np.zeros((n, len(self.model.ch_names), n_most))
        mixtures = self._spread.mixtures(n, rng)
        for window, patches in enumerate(grown):
            for number, patch in enumerate(patches):
                topographies[window, :, number] = self._spread.topography(*patch, mixtures[window])
        self._balance(topographies, waveforms, rng)
        if self._jitter.jitter_mm > 0.0:
            topographies = self._jitter.apply(topographies, self._jitter.displacements(n, rng))
        visible = draw_visible(n, self.subsets, self.channel_dropout, rng)
        level = _octaves(self.noise_uv, n, rng)
        share = rng.uniform(*self.background, n)
        kinds = rng.integers(len(self.noise), size=n)
        names = [self.noise[kind] for kind in kinds]
        noise, covariance = self._noise.draw(names, share, level, visible, self.n_times, self.sfreq, rng)
        signal = average_reference(topographies, visible).astype(np.float32) @ waveforms
        gain = _gain(signal, noise, snr)
        waveforms *= gain[:, np.newaxis, np.newaxis].astype(np.float32)
        signal *= gain[:, np.newaxis, np.newaxis].astype(np.float32)
        signal += noise
        sources, active, described = self._sources(grown, waveforms)
        return SimulatedBatch(signal, visible, sources, active, described, snr, covariance, names)

    def _counts(
        self,
        n: int,
        n_sources: int | tuple[int, int] | None,
        centres: Sequence[Sequence[int]] | None,
        rng: np.random.Generator,
    ) -> np.ndarray:
        if centres is not None:
            return np.array([len(each) for each in centres], dtype=int)
        low, high = self.n_sources if n_sources is None else _count_range(n_sources)
        counts = rng.integers(low, high + 1, n)
        if n_sources is None:
            counts[rng.random(n) < self.none] = 0
        return counts

    def _waveforms(self, present: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw what every source does: (n, n_most, n_times), peak 1, zeros where there is no source."""
        out = np.zeros((*present.shape, self.n_times), np.float32)
        out[present] = self.bank.draw(int(present.sum()), self.n_times, self.sfreq, rng, kinds=self.kinds)
        follows = present & (rng.random(present.shape) < self.coherent)
        lag = np.maximum(1, np.round(rng.uniform(0.005, 0.040, present.shape) * self.sfreq)).astype(int)
        for window, number in np.argwhere(follows[:, 1:]) + (0, 1):
            late = min(int(lag[window, number]), self.n_times - 1)
            copy = np.zeros(self.n_times, np.float32)
            copy[late:] = out[window, 0, : self.n_times - late]
            # What has its all in the last milliseconds has nothing left to follow with.
            if np.abs(copy).max() > 0.1:
                out[window, number] = copy
        return out

    def _balance(self, topographies: np.ndarray, waveforms: np.ndarray, rng: np.random.Generator) -> None:
        """Scale the waveforms so that sources are about equally strong at the sensors, in place."""
        n, n_channels, n_most = topographies.shape
        if not n_most:
            return
        everywhere = average_reference(topographies, np.ones((n, n_channels), dtype=bool))
        strength = np.sqrt((everywhere**2).sum(axis=1) * (waveforms.astype(float) ** 2).sum(axis=2))
        decibels = rng.uniform(-self.relative_db, 0.0, (n, n_most))
        decibels -= decibels.max(axis=1, keepdims=True)
        factor = np.where(strength > 0.0, 10.0 ** (decibels / 20.0) / np.maximum(strength, 1e-300), 0.0)
        waveforms *= factor[:, :, np.newaxis].astype(np.float32)

    def _sources(
        self, grown: list[list], waveforms: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, list[list[ActivePatch]]]:
        n, n_sources = len(grown), self.estimated.n_sources
        sources = np.zeros((n, n_sources, self.n_times), np.float32)
        active = np.zeros((n, n_sources), dtype=bool)
        described: list[list[ActivePatch]] = []
        for window, patches in enumerate(grown):
            described.append([])
            for number, (indices, weights) in enumerate(patches):
                waveform = waveforms[window, number].copy()
                half = indices[weights >= 0.5]
                if self._carried is not None:
                    half = np.unique(self._carried[:, half].nonzero()[0])
                    indices, weights = self._carry(indices, weights)
                sources[window, indices] += weights.astype(np.float32)[:, np.newaxis] * waveform
                active[window, half] = True
                described[-1].append(ActivePatch(indices, weights, waveform))
        return sources, active, described

    def _carry(self, indices: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find what stands for a patch: moments of sources that have the same one there add up."""
        total = self._carried[:, indices] @ weights
        indices = np.flatnonzero(total)
        return indices, total[indices]


def _gain(signal: np.ndarray, noise: np.ndarray, snr_db: np.ndarray) -> np.ndarray:
    """Find what to multiply the signal with, for the SNR over the whole array."""
    power = np.einsum("nct,nct->n", signal, signal, dtype=np.float64)
    wanted = np.einsum("nct,nct->n", noise, noise, dtype=np.float64) * 10.0 ** (snr_db / 10.0)
    return np.sqrt(wanted / np.where(power > 0.0, power, np.inf))


def _octaves(bounds: tuple[float, float], n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw from a range in which all octaves are alike; in one that begins at 0, all values."""
    low, high = bounds
    if low <= 0.0:
        return rng.uniform(low, high, n)
    return np.exp(rng.uniform(math.log(low), math.log(high), n))


def _range(name: str, value: Range, low: float, high: float) -> tuple[float, float]:
    bounds = tuple(float(each) for each in np.atleast_1d(value))
    if len(bounds) == 1:
        bounds = bounds * 2
    if len(bounds) != 2 or not low <= bounds[0] <= bounds[1] <= high:
        raise ValueError(f"{name} must be a number or a range between {low:g} and {high:g}, got {value}.")
    return bounds


def _count_range(value: int | tuple[int, int]) -> tuple[int, int]:
    low, high = _range("n_sources", value, 0.0, 1000.0)
    if low != int(low) or high != int(high):
        raise ValueError(f"n_sources must be whole numbers, got {value}.")
    return int(low), int(high)


def _noise_kinds(noise: Sequence[str], real_noise: NoiseBank | None) -> tuple[str, ...]:
    known = ("white", "coloured", "real")
    if isinstance(noise, str) or not len(noise) or any(kind not in known for kind in noise):
        raise ValueError(f"noise must be a sequence of {', '.join(known)}, got {noise!r}.")
    kinds = tuple(kind for kind in noise if kind != "real" or real_noise is not None)
    if not kinds:
        raise ContractError("There is no recorded noise for noise=('real',); give a NoiseBank as real_noise.")
    if len(kinds) < len(noise):
        logger.info("No recorded noise was given (real_noise): simulating with the other kinds of noise only.")
    return kinds
