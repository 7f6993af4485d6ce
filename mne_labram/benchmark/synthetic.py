"""A made-up scalp recording with seizure-like events, for demonstrations and tests that need no file.

It looks like EEG where a detector looks (spectrum, topography, eye blinks, chewing, line noise); it is not a model of
epilepsy, and nothing measured on it says anything about patients.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mne import Annotations, create_info
from mne.io import RawArray

from mne_labram.signal.positions import electrode_positions

__all__ = ["TEN_TWENTY", "simulate_recording"]

#: The 19 scalp electrodes of the 10-20 system.
TEN_TWENTY: tuple[str, ...] = tuple("Fp1 Fp2 F7 F3 Fz F4 F8 T7 C3 Cz C4 T8 P7 P3 Pz P4 P8 O1 O2".split())


def simulate_recording(
    duration: float = 600.0,
    seizures: Sequence[tuple[float, float]] = ((90.0, 35.0), (210.0, 30.0), (420.0, 40.0)),
    *,
    sfreq: float = 256.0,
    line_freq: float = 50.0,
    seed: int = 0,
) -> RawArray:
    """Simulate a 19-channel recording with seizure-like events.

    Parameters
    ----------
    duration : float
        Length in seconds.
    seizures : sequence of tuple (onset, duration)
        In seconds.
    sfreq : float
        Sampling rate in Hz.
    line_freq : float
        Line noise in Hz.
    seed : int
        Seed of the random numbers.

    Returns
    -------
    raw : mne.io.RawArray
        19 referential channels in volts, annotated "seizure" where the events are.

    Raises
    ------
    ValueError
        If an event does not lie within the recording.

    Notes
    -----
    The background is 1/f noise of smooth topography and an occipital rhythm of waxing amplitude; blinks and bursts of
    chewing are there so that amplitude alone does not tell the events. An event is a spike-and-wave rhythm that slows
    from 6 to 2.5 Hz while it grows and spreads from the left temporal electrodes.
    """
    for onset, length in seizures:
        if not (0 <= onset and length > 0 and onset + length <= duration):
            raise ValueError(f"An event of {length:g} s at {onset:g} s does not lie within {duration:g} s.")
    rng = np.random.default_rng(seed)
    positions = electrode_positions([name.upper() for name in TEN_TWENTY])[:, :3]
    n_times = round(duration * sfreq)
    times = np.arange(n_times) / sfreq
    data = _background(positions, n_times, sfreq, rng) + _alpha(positions, times, sfreq, rng)
    for onset in np.cumsum(rng.exponential(6.0, size=int(duration / 3))):
        _add_bump(data, times, onset, 0.3, 90.0 * _spread(positions, "Fp1", "Fp2", width=0.05))
    for onset in np.cumsum(rng.uniform(40.0, 90.0, size=int(duration / 40))):
        _add_chewing(data, times, onset, positions, rng)
    for onset, length in seizures:
        _add_seizure(data, times, onset, length, positions, rng)
    data += rng.normal(scale=2.0, size=data.shape)
    data += 4.0 * np.sin(2 * np.pi * line_freq * times) * rng.uniform(0.5, 1.5, size=(len(data), 1))
    info = create_info(list(TEN_TWENTY), sfreq, "eeg")
    with info._unlock():
        info["line_freq"] = line_freq
    raw = RawArray(1e-6 * data, info, verbose="error")
    raw.set_annotations(Annotations([s[0] for s in seizures], [s[1] for s in seizures], ["seizure"] * len(seizures)))
    return raw


def _spread(positions: np.ndarray, *names: str, width: float) -> np.ndarray:
    """Gaussian fall-off with the distance (m) from the named electrodes, shape (n_chans, 1)."""
    out = np.zeros(len(positions))
    for name in names:
        distance = np.linalg.norm(positions - positions[TEN_TWENTY.index(name)], axis=1)
        out = np.maximum(out, np.exp(-0.5 * (distance / width) ** 2))
    return out[:, np.newaxis]


def _background(positions: np.ndarray, n_times: int, sfreq: float, rng: np.random.Generator) -> np.ndarray:
    """1/f noise with neighbouring electrodes alike, about 12 µV in each channel."""
    frequency = np.fft.rfftfreq(n_times, 1 / sfreq)
    slope = 1 / np.maximum(frequency, 0.5)
    slope[0] = 0
    spectrum = rng.normal(size=(len(positions), frequency.size, 2)) @ np.array([1, 1j])
    noise = np.fft.irfft(spectrum * slope, n=n_times)
    distance = np.linalg.norm(positions[:, np.newaxis] - positions, axis=-1)
    mixed = np.exp(-0.5 * (distance / 0.05) ** 2) @ noise
    return 12.0 * mixed / mixed.std(axis=1, keepdims=True)


def _alpha(positions: np.ndarray, times: np.ndarray, sfreq: float, rng: np.random.Generator) -> np.ndarray:
    """Occipital rhythm near 10 Hz that waxes and wanes, up to about 20 µV."""
    knots = np.arange(0, times[-1] + 2, 2.0)
    envelope = np.interp(times, knots, rng.uniform(0, 20.0, size=knots.size))
    frequency = 10 + 0.5 * np.interp(times, knots, rng.normal(size=knots.size))
    return envelope * np.sin(2 * np.pi * np.cumsum(frequency) / sfreq) * _spread(positions, "O1", "O2", width=0.06)


def _add_bump(data: np.ndarray, times: np.ndarray, onset: float, length: float, amplitude: np.ndarray) -> None:
    """Add half a sine wave in place: a blink."""
    first, last = np.searchsorted(times, [onset, onset + length])
    data[:, first:last] += amplitude * np.sin(np.pi * (times[first:last] - onset) / length)


def _add_chewing(
    data: np.ndarray, times: np.ndarray, onset: float, positions: np.ndarray, rng: np.random.Generator
) -> None:
    """Add 6 s of temporal muscle bursts at about 1.5 Hz in place."""
    first, last = np.searchsorted(times, [onset, onset + 6.0])
    t = times[first:last] - onset
    gate = np.clip(np.sin(2 * np.pi * 1.5 * t), 0, None)
    muscle = np.diff(rng.normal(size=(len(positions), t.size + 1)))
    data[:, first:last] += 50.0 * gate * muscle * _spread(positions, "T7", "T8", width=0.05)


def _add_seizure(
    data: np.ndarray,
    times: np.ndarray,
    onset: float,
    length: float,
    positions: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """Add a slowing, growing, spreading spike-and-wave rhythm in place."""
    first, last = np.searchsorted(times, [onset, onset + length])
    part = (times[first:last] - onset) / length
    frequency = (6.0 - 3.5 * part) * (1 + 0.05 * rng.normal())
    phase = 2 * np.pi * np.cumsum(frequency) * length / max(1, part.size)
    wave = np.sin(phase) + 1.2 * np.exp(12 * (np.cos(phase - 0.5) - 1))
    grow = np.minimum(1.0, 0.25 + 1.5 * part) * np.minimum(1.0, 8 * (1 - part))
    for width, weight in ((0.03, 1 - part), (0.12, part)):
        data[:, first:last] += 70.0 * weight * grow * wave * _spread(positions, "T7", "F7", width=width)
