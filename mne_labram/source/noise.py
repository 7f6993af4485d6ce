"""What electrodes pick up besides the sources: white, coloured as the brain's own activity is, or recorded."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import mne
import numpy as np
from scipy.signal import resample_poly

from mne_labram.signal.channels import CHANNEL_ALIASES
from mne_labram.signal.contract import ContractError

if TYPE_CHECKING:
    from mne_labram.source.head import SourceModel

__all__ = ["ColouredNoise", "NoiseBank", "RecordedNoise", "resampled", "white_noise"]


#: Below this (Hz) the spectrum of coloured noise is flat: recordings are high-passed.
_FLAT_BELOW = 1.0


def white_noise(n: int, n_channels: int, n_times: int, rng: np.random.Generator) -> np.ndarray:
    """Draw noise that no two electrodes and no two samples share.

    Parameters
    ----------
    n : int
        Windows.
    n_channels, n_times : int
        Size of a window.
    rng : numpy.random.Generator
        Where it is drawn from.

    Returns
    -------
    noise : ndarray of float32, shape (n, n_channels, n_times)
        Standard deviation 1.
    """
    return rng.standard_normal((n, n_channels, n_times), dtype=np.float32)


def resampled(x: np.ndarray, stored: float, wanted: float) -> np.ndarray:
    """Take signals (..., n_times) to another rate, low-passed where that is lower."""
    ratio = Fraction(wanted / stored).limit_denominator(1000)
    return x if ratio == 1 else resample_poly(x, ratio.numerator, ratio.denominator, axis=-1).astype(x.dtype)


class ColouredNoise:
    """Noise with a spectrum of 1/f and an alpha rhythm, as strong sources all over the cortex cause it.

    Parameters
    ----------
    model : SourceModel
        Whose leadfield says which electrodes see the same.
    n_states : int
        How many distributions of activity over the cortex there are to choose from.
    exponent : tuple of float
        Range of the exponent of power, 1/f**exponent.
    alpha : float
        Largest power of the alpha rhythm, in units of 1/f at its frequency (8 to 12 Hz).
    sensor : float
        Part of the power that is white noise of the electrodes.
    seed : int
        Of the distributions.

    Attributes
    ----------
    covariances : ndarray, shape (n_states, n_channels, n_channels)
        Of the recorded reference, trace 1 after taking the average off.

    Raises
    ------
    ValueError
        If a number makes no sense.

    Notes
    -----
    Covariance over channels is G W Gᵀ, independent sources of variance W (de Munck, Vijn & Lopes da Silva 1992, IEEE
    Trans Biomed Eng 39:791-804); W is a smooth random field, a factor of about e around its median, so that windows
    differ in where the brain is busy. Exponents of 0.5 to 2 are what resting EEG shows (Donoghue et al. 2020, Nat
    Neurosci 23:1655-1665); below 1 Hz the spectrum is flat, since recordings are high-passed.
    """

    def __init__(
        self,
        model: SourceModel,
        *,
        n_states: int = 16,
        exponent: tuple[float, float] = (0.5, 2.0),
        alpha: float = 4.0,
        sensor: float = 0.05,
        seed: int = 0,
    ) -> None:
        if not 0.0 < sensor <= 1.0 or n_states < 1 or alpha < 0.0 or exponent[0] > exponent[1]:
            raise ValueError(
                "Coloured noise needs one state or more, 0 < sensor <= 1, alpha of 0 or more and a range of exponents, "
                f"got {n_states}, {sensor}, {alpha} and {exponent}."
            )
        rng = np.random.default_rng(seed)
        leadfield = np.asarray(model.leadfield, dtype=float)
        n_channels = len(leadfield)
        positions = np.asarray(model.positions, dtype=float)
        covariances = []
        for _ in range(n_states):
            # A smooth random field: some plane waves of wavelengths from 6 to 20 cm.
            wave = rng.standard_normal((6, 3))
            wave *= (2.0 * math.pi / rng.uniform(0.06, 0.20, (6, 1))) / np.linalg.norm(wave, axis=1, keepdims=True)
            field = np.cos(positions @ wave.T + rng.uniform(0.0, 2.0 * math.pi, 6)).sum(axis=1) * math.sqrt(2.0 / 6.0)
            cov = (leadfield * np.exp(field)) @ leadfield.T
            power = _power(cov)
            cov = cov / power if power > 0.0 else np.zeros_like(cov)
            covariances.append((1.0 - sensor) * cov + sensor * np.eye(n_channels) / max(1, n_channels - 1))
        self.covariances = np.array(covariances)
        values, vectors = np.linalg.eigh(self.covariances)
        self._factors = (vectors * np.sqrt(np.maximum(values, 0.0))[:, np.newaxis]).astype(np.float32)
        self.exponent, self.alpha = exponent, alpha

    def draw(self, n: int, n_times: int, sfreq: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw windows of noise.

        Parameters
        ----------
        n : int
            Windows.
        n_times : int
            Samples of a window.
        sfreq : float
            Samples per second.
        rng : numpy.random.Generator
            Where everything is drawn from.

        Returns
        -------
        noise : ndarray of float32, shape (n, n_channels, n_times)
            Noise of the recorded reference.
        covariance : ndarray, shape (n, n_channels, n_channels)
            What it is drawn from, up to a factor.
        """
        # Twice as long and cut, so that the ends of a window have nothing to do with each other.
        n_long = 2 * n_times
        frequency = np.fft.rfftfreq(n_long, 1.0 / sfreq)
        frequency = np.maximum(frequency, _FLAT_BELOW)
        exponent = rng.uniform(*self.exponent, (n, 1))
        peak, height = rng.uniform(8.0, 12.0, (n, 1)), self.alpha * rng.random((n, 1)) ** 2
        power = frequency**-exponent * (1.0 + height * np.exp(-0.5 * ((frequency - peak) / 1.5) ** 2))
        power[:, 0] = 0.0
        white = rng.standard_normal((n, self.covariances.shape[1], n_long), dtype=np.float32)
        shaped = np.fft.rfft(white, axis=2)
        shaped *= np.sqrt(power / np.maximum(power.mean(axis=1, keepdims=True), 1e-300))[:, np.newaxis]
        drawn = np.fft.irfft(shaped, n=n_long, axis=2)[:, :, :n_times].astype(np.float32)
        state = rng.integers(len(self.covariances), size=n)
        return self._factors[state] @ drawn, self.covariances[state]


@dataclass(frozen=True, eq=False)
class NoiseBank:
    """Recordings in which nothing is sought, to be heard behind simulated sources.

    Parameters
    ----------
    segments : ndarray, shape (n_segments, n_channels, n_times)
        Any unit and reference; only its shape in space and time counts.
    sfreq : float
        Samples per second.
    ch_names : sequence of str
        Names of the channels.

    Raises
    ------
    ContractError
        If shapes do not fit, there is no segment of two samples, or a value is not finite.
    """

    segments: np.ndarray
    sfreq: float
    ch_names: Sequence[str]

    def __post_init__(self) -> None:
        shape = np.shape(self.segments)
        if len(shape) != 3 or shape[1] != len(self.ch_names) or shape[0] < 1 or shape[2] < 2:
            raise ContractError(
                f"Recorded noise is (n_segments, n_channels, n_times) with a name for each channel, got {shape} and "
                f"{len(self.ch_names)} names."
            )
        if not np.isfinite(self.segments).all():
            raise ContractError("Recorded noise must be finite; leave out segments with NaN.")

    @classmethod
    def from_inst(cls, inst: mne.io.BaseRaw | mne.BaseEpochs, *, seconds: float = 4.0) -> NoiseBank:
        """Take the EEG channels of a recording.

        Parameters
        ----------
        inst : Raw | Epochs
            A recording, filtered as the data to be localised will be. Bad channels and, in Raw, stretches annotated as
            bad are left out.
        seconds : float
            Length of the segments that Raw is cut into.

        Returns
        -------
        bank : NoiseBank
            In the order of the recording.

        Raises
        ------
        TypeError
            If it is neither Raw nor Epochs.
        ContractError
            If nothing is left.
        """
        if isinstance(inst, mne.BaseEpochs):
            names = [inst.ch_names[i] for i in mne.pick_types(inst.info, eeg=True)]
            segments = inst.get_data(picks=names) if names else np.zeros((0, 0, 0))
        elif isinstance(inst, mne.io.BaseRaw):
            names = [inst.ch_names[i] for i in mne.pick_types(inst.info, eeg=True)]
            if names and inst.times[-1] + 1.0 / inst.info["sfreq"] >= seconds:
                epochs = mne.make_fixed_length_epochs(
                    inst, duration=seconds, reject_by_annotation=True, preload=True, verbose="error"
                )
                segments = epochs.get_data(picks=names)
            else:
                segments = np.zeros((0, 0, 0))
        else:
            raise TypeError(f"Noise is taken from Raw or Epochs, got {type(inst).__name__}.")
        if not names or not len(segments):
            raise ContractError(
                f"No EEG is left to take noise from in segments of {seconds:g} s; look at the bad channels and "
                "annotations, or give shorter segments."
            )
        return cls(np.asarray(segments, dtype=np.float32), float(inst.info["sfreq"]), list(names))

    @classmethod
    def from_deepsif(cls, folder: str | os.PathLike[str]) -> NoiseBank:
        """Read DeepSIF's four seconds of resting EEG.

        Parameters
        ----------
        folder : path-like
            Their folder ``anatomy``, with ``realistic_noise.mat`` (500 Hz) and ``electrode_75.mat``.

        Returns
        -------
        bank : NoiseBank
            Four segments of a second, 75 channels.

        Raises
        ------
        OSError
            If a file is missing.
        ContractError
            If there is something else in it.
        """
        from scipy.io import loadmat

        try:
            data = loadmat(os.path.join(folder, "realistic_noise.mat"))["data"]
            names = [str(e["labels"].item()) for e in loadmat(os.path.join(folder, "electrode_75.mat"))["eloc75"][0]]
        except (KeyError, ValueError, TypeError) as error:
            raise ContractError(f"{os.fspath(folder)} does not hold DeepSIF's realistic_noise.mat.") from error
        return cls(np.asarray(data, dtype=np.float32).transpose(0, 2, 1), 500.0, names)

    def on(self, model: SourceModel) -> RecordedNoise:
        """Take the noise to a montage, channels by name.

        Parameters
        ----------
        model : SourceModel
            Names and positions of its electrodes.

        Returns
        -------
        noise : RecordedNoise
            Noise in the channels of the model.

        Raises
        ------
        ContractError
            If fewer than half of the electrodes were recorded.

        Notes
        -----
        Names are compared without regard to case, old ones (T3) with new ones (T7). An electrode that was not recorded
        gets the mean of its three nearest neighbours by inverse distance, with other electrodes' white noise added as
        strong as those differ from each other: a mean alone would be a dead channel to a method that whitens.
        """
        known = {name.upper(): i for i, name in enumerate(self.ch_names)}
        found = []
        for name in model.ch_names:
            upper = name.upper()
            found.append(known.get(upper, known.get(CHANNEL_ALIASES.get(upper, upper))))
        have = np.array([i is not None for i in found])
        if 2 * have.sum() < len(have) or have.sum() < 2:
            missing = [name for name, ok in zip(model.ch_names, have, strict=True) if not ok]
            raise ContractError(
                f"Of {len(have)} electrodes only {int(have.sum())} are in the recorded noise and "
                f"{', '.join(missing[:4])} are not; give a NoiseBank of the same montage, or leave 'real' out of noise."
            )
        mixing = np.zeros((len(have), int(have.sum())))
        mixing[have, np.arange(have.sum())] = 1.0
        positions = np.asarray(model.electrodes, dtype=float)
        for row in np.flatnonzero(~have):
            distance = np.linalg.norm(positions[have] - positions[row], axis=1)
            near = np.argsort(distance)[:3]
            weight = 1.0 / np.maximum(distance[near], 1e-3)
            mixing[row, near] = weight / weight.sum()
        picked = np.asarray(self.segments)[:, [i for i in found if i is not None]]
        return RecordedNoise(picked, self.sfreq, mixing, ~have)


class RecordedNoise:
    """Noise as it was recorded, in the channels of a montage, never twice the same.

    Parameters
    ----------
    segments : ndarray, shape (n_segments, n_recorded, n_times)
        Recordings.
    sfreq : float
        Samples per second.
    mixing : ndarray, shape (n_channels, n_recorded)
        Channels out of recorded ones.
    guessed : ndarray of bool, shape (n_channels,)
        Channels that were not recorded.

    Attributes
    ----------
    covariances : ndarray, shape (n_segments, n_channels, n_channels)
        Of each segment, trace 1 after taking the average off.

    Raises
    ------
    ContractError
        If a segment is flat.

    Notes
    -----
    Every window is another surrogate of a segment: the phases of all frequencies are random, but the same for all
    channels, which keeps the spectra and all correlations between channels (Prichard & Theiler 1994, Phys Rev Lett
    73:951-954). Transients become noise of the same spectrum.
    """

    def __init__(self, segments: np.ndarray, sfreq: float, mixing: np.ndarray, guessed: np.ndarray) -> None:
        segments = np.asarray(segments, dtype=float)
        segments = segments - segments.mean(axis=2, keepdims=True)
        segments = segments - segments.mean(axis=1, keepdims=True)
        scale = np.sqrt((segments**2).mean(axis=(1, 2), keepdims=True))
        if not (scale > 0.0).all():
            raise ContractError("A segment of the recorded noise is flat in all channels; leave it out.")
        self.segments, self.sfreq, self.mixing = segments / scale, float(sfreq), mixing
        mixed = np.einsum("cr,srt->sct", mixing, self.segments)
        neighbours = np.einsum("cr,srt->sct", mixing**2, self.segments**2).mean(axis=2)
        # Where channels were guessed: what is lost of the variance by averaging, as noise of their own.
        self._own = np.where(guessed, np.sqrt(neighbours), 0.0)
        covariances = np.einsum("sct,sdt->scd", mixed, mixed) / mixed.shape[2]
        covariances[:, range(len(mixing)), range(len(mixing))] += self._own**2
        power = np.array([_power(cov) for cov in covariances])
        self._scale = 1.0 / np.sqrt(power)
        self.covariances = covariances / power[:, np.newaxis, np.newaxis]
        self._at: tuple[float, np.ndarray] = (self.sfreq, self.segments)

    def draw(self, n: int, n_times: int, sfreq: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw windows of noise; see :meth:`ColouredNoise.draw`."""
        segments = self._resampled(sfreq)
        which = rng.integers(len(segments), size=n)
        n_stored = segments.shape[2]
        n_fade = min(n_stored // 2, max(1, n_stored // 4))
        step = n_stored - n_fade
        n_pieces = max(1, math.ceil((n_times - n_fade) / step)) if n_times > n_stored else 1
        spectra = np.fft.rfft(segments, axis=2)
        noise = np.zeros((n, segments.shape[1], step * n_pieces + n_fade), np.float32)
        fade = np.sin(0.5 * np.pi * (np.arange(n_fade) + 0.5) / n_fade)
        for piece in range(n_pieces):
            phase = np.exp(2j * math.pi * rng.random((n, 1, spectra.shape[2]))).astype(np.complex64)
            surrogate = np.fft.irfft(spectra[which] * phase, n=n_stored, axis=2).astype(np.float32)
            # Windows longer than a segment: one surrogate fades into the next, at the same power.
            if piece > 0:
                surrogate[:, :, :n_fade] *= fade.astype(np.float32)
            if piece < n_pieces - 1:
                surrogate[:, :, -n_fade:] *= fade[::-1].astype(np.float32)
            noise[:, :, piece * step : piece * step + n_stored] += surrogate
        start = int(rng.integers(noise.shape[2] - n_times + 1))
        mixed = self.mixing.astype(np.float32) @ noise[:, :, start : start + n_times]
        guessed = np.flatnonzero(self._own.any(axis=0))
        if len(guessed):
            own = rng.standard_normal((n, len(guessed), n_times), dtype=np.float32)
            mixed[:, guessed] += own * self._own[which][:, guessed, np.newaxis].astype(np.float32)
        return mixed * self._scale[which, np.newaxis, np.newaxis].astype(np.float32), self.covariances[which]

    def _resampled(self, sfreq: float) -> np.ndarray:
        if self._at[0] != sfreq:
            self._at = (sfreq, resampled(self.segments, self.sfreq, sfreq))
        return self._at[1]


def _power(covariance: np.ndarray) -> float:
    """Sum of variances over channels once their mean is taken off."""
    return float(np.trace(covariance) - covariance.sum() / len(covariance))
