"""What must not be called a seizure: artefacts, and normal rhythms that look like one at first sight.

The clinical pictures are those of Tatum, Dworetzky & Schomer 2011 (J Clin Neurophysiol 28:252-263, artifact) and of
the IFCN's glossary (Kane et al. 2017, Clin Neurophysiol Pract 2:170-185); the ranges of amplitude and timing are ours,
wide on purpose.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mne_labram.signal.head_field import Montage, direction_of, montage_of, nearness

__all__ = ["ARTEFACT_KINDS", "add_artefact", "background_level", "has_average_reference", "simulate_artefact"]

#: The kinds that :func:`simulate_artefact` knows.
ARTEFACT_KINDS: tuple[str, ...] = (
    "chewing",
    "muscle",
    "blinks",
    "eye_movement",
    "electrode_pop",
    "electrode_rhythm",
    "movement",
    "tremor",
    "pulse",
    "alpha",
    "mu",
    "spindles",
    "vertex_waves",
    "photic",
    "mains",
    "sweat",
)
# Hz; the surface electromyogram goes on above, where EEG filters end.
_MUSCLE_BAND = (20.0, 90.0)


def simulate_artefact(
    channels: Sequence[str] | np.ndarray,
    n_times: int,
    sfreq: float,
    rng: np.random.Generator,
    *,
    kind: str | None = None,
    average_reference: bool = False,
) -> np.ndarray:
    """Simulate a window of something that is not a seizure.

    Parameters
    ----------
    channels : sequence of str | ndarray, shape (n_chans, 3) or (n_chans, 6)
        Channel names, referential or bipolar, or positions, see :func:`~mne_labram.signal.head_field.montage_of`.
    n_times : int
        Samples of the window.
    sfreq : float
        Samples per second.
    rng : numpy.random.Generator
        Where everything is drawn from.
    kind : str | None
        One of :data:`ARTEFACT_KINDS`; ``None`` draws one.

        - ``"chewing"``: bursts of temporal muscle, one to two in a second; ``"muscle"``: contractions of seconds.
        - ``"blinks"``: frontopolar deflections of 0.2-0.4 s, sparse or as a flutter at 2-4 Hz; ``"eye_movement"``:
          saccades or slow rolling, opposite at F7 and F8.
        - ``"electrode_pop"``: steps with exponential decay at one electrode; ``"electrode_rhythm"``: one electrode
          that oscillates; ``"movement"``: large slow waves; ``"sweat"``: below 0.5 Hz.
        - ``"tremor"``: 4-6 Hz, regular, at a side or at the back of the head; ``"pulse"``: the heart's beat as a
          field across the head, or at one electrode.
        - ``"alpha"``: 8-13 Hz over the back of the head, waxing and waning; ``"mu"``: arches at 7-11 Hz, central.
        - ``"spindles"``: 11-16 Hz for 0.5-2 s, central; ``"vertex_waves"``: sharp waves and K-complexes at the
          vertex, single or in trains.
        - ``"photic"``: responses at the rate of a flashing lamp and its multiples, occipital.
        - ``"mains"``: 50 or 60 Hz (or the highest rate there is) at some electrodes.
    average_reference : bool
        Subtract the mean over channels.

    Returns
    -------
    signal : ndarray of float32, shape (n_chans, n_times)
        The artefact alone. Its root mean square over time, in the channel where it is largest, is 1; all zeros where
        no channel sees it.

    Raises
    ------
    TypeError
        If ``channels`` is one string.
    ValueError
        If a channel has no position, there is no such kind, or a number makes no sense.
    """
    montage = montage_of(channels)
    if n_times < 1 or not (math.isfinite(sfreq) and sfreq > 0.0):
        raise ValueError(f"A window has at least one sample and a positive rate, got {n_times} at {sfreq} Hz.")
    if kind is None:
        kind = ARTEFACT_KINDS[int(rng.integers(len(ARTEFACT_KINDS)))]
    if kind not in ARTEFACT_KINDS:
        raise ValueError(f"There is no artefact of kind {kind!r}; the kinds are {', '.join(ARTEFACT_KINDS)}.")
    signal = montage.channels(_MAKE[kind](montage.electrodes, np.arange(n_times) / sfreq, sfreq, rng))
    if average_reference:
        signal -= signal.mean(axis=0)
    largest = math.sqrt((signal**2).mean(axis=1).max())
    return (signal / largest if largest > 0.0 else signal).astype(np.float32)


def add_artefact(
    x: np.ndarray,
    channels: Sequence[str] | np.ndarray,
    sfreq: float,
    rng: np.random.Generator,
    *,
    snr_db: float | Sequence[float] = (-3.0, 20.0),
    kind: str | None = None,
    average_reference: bool | None = None,
) -> np.ndarray:
    """Mix an artefact, or a normal rhythm, into background.

    Parameters
    ----------
    x : ndarray, shape (n_chans, n_times)
        Background, in microvolts (any unit does); not modified.
    channels : sequence of str | ndarray, shape (n_chans, 3) or (n_chans, 6)
        See :func:`simulate_artefact`.
    sfreq : float
        Samples per second.
    rng : numpy.random.Generator
        Where everything is drawn from.
    snr_db : float | sequence of float
        Power of the artefact, in the channel where it is largest, over the background's median power over channels,
        in decibels; two numbers are the range that it is drawn from.
    kind : str | None
        See :func:`simulate_artefact`.
    average_reference : bool | None
        Whether ``x`` has the average reference; ``None`` looks whether its channels sum to nothing.

    Returns
    -------
    mixed : ndarray of float32, shape (n_chans, n_times)
        Background and artefact.

    Raises
    ------
    TypeError
        If ``channels`` is one string.
    ValueError
        If the shapes do not fit or there is no such kind.
    """
    x = np.asarray(x)
    montage = montage_of(channels)
    if x.ndim != 2 or len(x) != len(montage.derivation):
        raise ValueError(f"x must have one row for each of the {len(montage.derivation)} channels, got {x.shape}.")
    ratio = rng.uniform(*snr_db) if np.ndim(snr_db) else snr_db
    if average_reference is None:
        average_reference = has_average_reference(x, montage)
    signal = simulate_artefact(channels, x.shape[1], sfreq, rng, kind=kind, average_reference=average_reference)
    return x.astype(np.float32) + np.float32(background_level(x) * 10.0 ** (ratio / 20.0)) * signal


def background_level(x: np.ndarray) -> float:
    """Amplitude of a background: the median over channels of the root mean square.

    Parameters
    ----------
    x : ndarray, shape (n_chans, n_times)
        Background.

    Returns
    -------
    level : float
        In the unit of ``x``; 1 if ``x`` is flat.
    """
    level = float(np.median(x.std(axis=1)))
    return level if level > 0.0 else 1.0


def has_average_reference(x: np.ndarray, montage: Montage) -> bool:
    """Look whether referential channels sum to nothing.

    Parameters
    ----------
    x : ndarray, shape (n_chans, n_times)
        Background.
    montage : Montage
        Of its channels.

    Returns
    -------
    average : bool
        True if there are several referential channels, no bipolar ones, and the mean of the channels has less than a
        hundredth of their amplitude.
    """
    if len(x) < 2 or montage.bipolar.any():
        return False
    return bool(x.mean(axis=0).std() < 0.01 * background_level(x))


# Each of the following gives signals of electrodes, shape (n_electrodes, n_times), in any scale.


def _noise(n: int, n_times: int, sfreq: float, band: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """White noise within a band; the band is cut to what the rate can hold."""
    frequencies = np.fft.rfftfreq(n_times, 1.0 / sfreq)
    low = min(band[0], 0.3 * sfreq)
    keep = (frequencies >= low) & (frequencies <= band[1])
    spectrum = np.zeros((n, len(frequencies)), complex)
    size = (n, int(keep.sum()))
    spectrum[:, keep] = rng.normal(size=size) + 1j * rng.normal(size=size)
    noise = np.fft.irfft(spectrum, n_times, axis=1)
    scale = noise.std()
    return noise / scale if scale > 0.0 else noise


def _starts(seconds: float, interval: float, jitter: float, rng: np.random.Generator) -> np.ndarray:
    """Draw times of events that repeat, from before the window on."""
    n = int(math.ceil(seconds / interval)) + 3
    gaps = interval * np.clip(1.0 + jitter * rng.normal(size=n), 0.3, 3.0)
    return np.cumsum(gaps) - gaps[0] * rng.uniform(1.0, 2.0)


def _bumps(times: np.ndarray, starts: np.ndarray, width: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth bumps of one polarity and varying size, ``width`` seconds long."""
    total = np.zeros_like(times)
    for start in starts:
        part = (times - start) / width
        total += rng.uniform(0.6, 1.0) * np.where((part > 0.0) & (part < 1.0), np.sin(np.pi * part) ** 2, 0.0)
    return total


def _trains(times: np.ndarray, shortest: float, longest: float, rng: np.random.Generator) -> np.ndarray:
    """Envelope that comes and goes, at least once in the window."""
    span = times[-1] - times[0]
    total = np.zeros_like(times)
    for _ in range(1 + int(rng.integers(1 + int(span / 5.0)))):
        length = rng.uniform(shortest, longest)
        middle = times[0] + rng.uniform(0.0, 1.0) * span
        total = np.maximum(total, np.clip(1.2 * np.cos(np.clip((times - middle) / length, -0.5, 0.5) * np.pi), 0, 1))
    return total


def _phase(times: np.ndarray, frequency: float, wander: float, rng: np.random.Generator) -> np.ndarray:
    """Phase of a rhythm whose rate varies slowly by ``wander`` of itself."""
    slow, start = rng.uniform(0.1, 0.5), rng.uniform(0.0, 2.0 * np.pi)
    drift = wander / slow * np.sin(slow * 2.0 * np.pi * times + start) / (2.0 * np.pi)
    return 2.0 * np.pi * frequency * (times + drift) + rng.uniform(0.0, 2.0 * np.pi)


def _at(names: Sequence[str]) -> np.ndarray:
    return np.array([direction_of(name) for name in names])


def _side(rng: np.random.Generator, left: str, right: str) -> np.ndarray:
    """One side, the other, or both."""
    return _at([[left], [right], [left, right]][int(rng.integers(3))])


def _one_electrode(electrodes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    weights = np.zeros(len(electrodes))
    weights[int(rng.integers(len(electrodes)))] = 1.0
    return weights


def _muscle_field(electrodes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    where = _side(rng, "T7", "T8") if rng.random() < 0.6 else _at([["FP1", "FP2"], ["P9", "P10"]][int(rng.integers(2))])
    return nearness(electrodes, where, rng.uniform(0.3, 0.8))


def _muscle(electrodes: np.ndarray, times: np.ndarray, sfreq: float, rng: np.random.Generator) -> np.ndarray:
    noise = _noise(len(electrodes), len(times), sfreq, (_MUSCLE_BAND[0], rng.uniform(40.0, 90.0)), rng)
    return _muscle_field(electrodes, rng)[:, None] * noise * (0.05 + _trains(times, 1.0, 12.0, rng))


def _chewing(electrodes: np.ndarray, times: np.ndarray, sfreq: float, rng: np.random.Generator) -> np.ndarray:
    noise = _noise(len(electrodes), len(times), sfreq, _MUSCLE_BAND, rng)
    starts = _starts(np.ptp(times), 1.0 / rng.uniform(0.8, 2.2), 0.1, rng)
    bursts = _bumps(times, starts, rng.uniform(0.2, 0.45), rng)
    field = nearness(electrodes, _at(["T7", "T8", "F7", "F8"]), rng.uniform(0.3, 0.7))
    # The tongue moves with the jaw: a slow potential that is in step with the bursts.
    tongue = rng.uniform(0.0, 0.8) * nearness(electrodes, _at(["FPZ"]), 0.8)
    return field[:, None] * noise * bursts + tongue[:, None] * (bursts - bursts.mean())


def _blinks(electrodes: np.ndarray, times: np.ndarray, sfreq: float, rng: np.random.Generator) -> np.ndarray:
    flutter = rng.random() < 0.4
    interval = 1.0 / rng.uniform(2.0, 4.0) if flutter else rng.uniform(1.5, 6.0)
    width = min(rng.uniform(0.2, 0.4), 0.9 * interval)
    wave = _bumps(times, _starts(np.ptp(times), interval, 0.08 if flutter else 0.5, rng), width, rng)
    if flutter:
        wave *= _trains(times, 2.0, 8.0, rng)
    field = nearness(electrodes, _at(["FP1", "FP2"]), rng.uniform(0.25, 0.5))
    return field[:, None] * (wave - wave.mean())


def _eye_movement(electrodes: np.ndarray, times: np.ndarray, sfreq: float, rng: np.random.Generator) -> np.ndarray:
    width = rng.uniform(0.3, 0.6)
    field = nearness(electrodes, _at(["F8"]), width) - nearness(electrodes, _at(["F7"]), width)
    if rng.random() < 0.4:
        wave = np.sin(_phase(times, rng.uniform(0.2, 0.6), 0.3, rng))
    else:
        # Gaze jumps; amplifiers let the step fade away.
        wave = np.zeros_like(times)
        for start in _starts(np.ptp(times), rng.uniform(0.3, 1.5), 0.5, rng):
            since = times - start
            step = np.where(since > 0.0, np.clip(since / 0.05, 0.0, 1.0) * np.exp(-np.maximum(since, 0.0) / 0.6), 0.0)
            wave += rng.normal() * step
    return field[:, None] * wave


def _electrode_pop(electrodes: np.ndarray, times: np.ndarray, sfreq: float, rng: np.random.Generator) -> np.ndarray:
    wave = np.zeros_like(times)
    decay = rng.uniform(0.1, 0.8)
    for start in _starts(np.ptp(times), rng.uniform(0.5, 5.0), 0.6, rng):
        since = times - start
        wave += rng.choice([-1.0, 1.0]) * rng.uniform(0.3, 1.0) * (since > 0) * np.exp(-np.maximum(since, 0.0) / decay)
    return _one_electrode(electrodes, rng)[:, None] * (wave - wave.mean())


def _electrode_rhythm(electrodes: np.ndarray, times: np.ndarray, sfreq: float, rng: np.random.Generator) -> np.ndarray:
    phase = _phase(times, rng.uniform(1.0, 8.0), 0.1, rng)
    wave = np.sin(phase + rng.uniform(0.0, 0.8) * np.sin(phase)) * _trains(times, 3.0, 20.0, rng)
    return _one_electrode(electrodes, rng)[:, None] * wave


def _movement(electrodes: np.ndarray, times: np.ndarray, sfreq: float, rng: np.random.Generator) -> np.ndarray:
    common = _noise(3, len(times), sfreq, (0.3, rng.uniform(2.0, 5.0)), rng)
    own = _noise(len(electrodes), len(times), sfreq, (0.3, rng.uniform(2.0, 8.0)), rng)
    own *= rng.gamma(1.0, 0.5, (len(electrodes), 1))
    return (electrodes @ common + own) * _trains(times, 1.0, 6.0, rng)


def _tremor(electrodes: np.ndarray, times: np.ndarray, sfreq: float, rng: np.random.Generator) -> np.ndarray:
    phase = _phase(times, rng.uniform(3.5, 6.5), 0.02, rng)
    wave = np.sin(phase) + rng.uniform(0.0, 0.5) * np.sin(2.0 * phase + rng.uniform(0.0, 2.0 * np.pi))
    where = _at([["O1", "O2", "P9", "P10"], ["T7", "P7"], ["T8", "P8"], ["CZ"]][int(rng.integers(4))])
    # Wires and electrodes that rub differ from each other: no smooth field.
    field = nearness(electrodes, where, rng.uniform(0.4, 1.2)) * rng.uniform(-0.5, 1.0, len(electrodes))
    return field[:, None] * wave * _trains(times, 3.0, 30.0, rng)


def _pulse(electrodes: np.ndarray, times: np.ndarray, sfreq: float, rng: np.random.Generator) -> np.ndarray:
    beats = _starts(np.ptp(times), 1.0 / rng.uniform(0.8, 2.2), 0.03, rng)
    if rng.random() < 0.6:
        # Electrocardiogram: R peak and T wave, as a field from the left below.
        wave = np.zeros_like(times)
        for beat in beats:
            wave += np.exp(-0.5 * ((times - beat) / 0.015) ** 2) - 0.2 * np.exp(
                -0.5 * ((times - beat - 0.04) / 0.02) ** 2
            )
            wave += 0.2 * np.exp(-0.5 * ((times - beat - 0.28) / 0.05) ** 2)
        axis = np.array([-1.0, 0.3, -0.8]) + 0.3 * rng.normal(size=3)
        field = electrodes @ axis
    else:
        wave = _bumps(times, beats, rng.uniform(0.3, 0.45), rng)
        field = _one_electrode(electrodes, rng)
    return field[:, None] * (wave - wave.mean())


def _alpha(electrodes: np.ndarray, times: np.ndarray, sfreq: float, rng: np.random.Generator) -> np.ndarray:
    wave = np.sin(_phase(times, rng.uniform(7.5, 13.0), 0.05, rng)) * _trains(times, 1.0, 8.0, rng)
    field = nearness(electrodes, _at(["O1", "O2"]), rng.uniform(0.4, 0.9))
    return field[:, None] * wave


def _mu(electrodes: np.ndarray, times: np.ndarray, sfreq: float, rng: np.random.Generator) -> np.ndarray:
    phase = _phase(times, rng.uniform(7.0, 11.0), 0.05, rng)
    wave = (np.abs(np.sin(0.5 * phase)) - 2.0 / np.pi) * _trains(times, 0.8, 6.0, rng)
    return nearness(electrodes, _side(rng, "C3", "C4"), rng.uniform(0.25, 0.5))[:, None] * wave


def _spindles(electrodes: np.ndarray, times: np.ndarray, sfreq: float, rng: np.random.Generator) -> np.ndarray:
    starts = _starts(np.ptp(times), rng.uniform(2.0, 8.0), 0.5, rng)
    envelope = _bumps(times, starts, rng.uniform(0.5, 2.0), rng)
    wave = np.sin(_phase(times, rng.uniform(11.0, 16.0), 0.05, rng)) * envelope
    field = nearness(electrodes, _at([["CZ"], ["FZ"], ["C3", "C4"]][int(rng.integers(3))]), rng.uniform(0.5, 1.0))
    return field[:, None] * wave


def _vertex_waves(electrodes: np.ndarray, times: np.ndarray, sfreq: float, rng: np.random.Generator) -> np.ndarray:
    wave = np.zeros_like(times)
    train = rng.random() < 0.4
    width = rng.uniform(0.06, 0.12)
    complexes = not train and rng.random() < 0.5
    for start in _starts(np.ptp(times), rng.uniform(0.7, 1.5) if train else rng.uniform(2.0, 8.0), 0.3, rng):
        size = rng.uniform(0.5, 1.0)
        wave -= size * np.exp(-0.5 * ((times - start) / width) ** 2)
        # A K-complex has a slow positive wave behind it and lasts half a second or more.
        later = 0.7 if complexes else 0.3
        wave += later * size * np.exp(-0.5 * ((times - start - 0.35) / (0.15 if complexes else 0.1)) ** 2)
    where = "FZ" if complexes else "CZ"
    return nearness(electrodes, _at([where]), rng.uniform(0.4, 0.9))[:, None] * (wave - wave.mean())


def _photic(electrodes: np.ndarray, times: np.ndarray, sfreq: float, rng: np.random.Generator) -> np.ndarray:
    rate = min(float(rng.integers(3, 25)), 0.4 * sfreq)
    phase = 2.0 * np.pi * rate * times
    wave = np.sin(phase + rng.uniform(0.0, 2.0 * np.pi))
    for multiple in (2, 3):
        if multiple * rate < 0.45 * sfreq:
            wave += rng.uniform(0.0, 0.8) / (multiple - 1) * np.sin(multiple * phase + rng.uniform(0.0, 2.0 * np.pi))
    gate = np.clip(_trains(times, 5.0, 15.0, rng) * 10.0, 0.0, 1.0)
    return nearness(electrodes, _at(["O1", "O2"]), rng.uniform(0.4, 0.8))[:, None] * wave * gate


def _mains(electrodes: np.ndarray, times: np.ndarray, sfreq: float, rng: np.random.Generator) -> np.ndarray:
    frequency = min(float(rng.choice([50.0, 60.0])), 0.45 * sfreq)
    field = rng.gamma(0.5, 1.0, len(electrodes)) * rng.choice([-1.0, 1.0], len(electrodes))
    return field[:, None] * np.sin(2.0 * np.pi * frequency * times + rng.uniform(0.0, 2.0 * np.pi))


def _sweat(electrodes: np.ndarray, times: np.ndarray, sfreq: float, rng: np.random.Generator) -> np.ndarray:
    # In a window that is shorter than a wave, half a wave is left.
    low = 1.0 / max(np.ptp(times), 1.0 / sfreq)
    noise = _noise(len(electrodes), len(times), sfreq, (min(0.1, low), max(0.5, 1.5 * low)), rng)
    return noise * rng.gamma(1.0, 0.5, (len(electrodes), 1))


_MAKE = {kind: globals()[f"_{kind}"] for kind in ARTEFACT_KINDS}
