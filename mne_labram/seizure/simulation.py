"""Seizures that are made up, for mixing into real background: rhythmic discharges that evolve and spread.

One patient's seizures do not teach what a seizure is. What textbooks agree on (see
:func:`~mne_labram.seizure.patterns.draw_pattern`) can be drawn at random, seen through any montage, and mixed into
seizure-free recordings; so can what must not be taken for a seizure (:mod:`mne_labram.signal.artefacts`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mne_labram.seizure.patterns import SEIZURE_KINDS, SeizurePattern, draw_pattern
from mne_labram.signal.artefacts import background_level, has_average_reference, simulate_artefact
from mne_labram.signal.head_field import HEAD_RADIUS, Montage, dipole_potentials, montage_of

__all__ = ["SEIZURE_KINDS", "SeizurePattern", "add_seizure", "draw_pattern", "simulate_seizure"]

# Places of a territory that are simulated: each is one dipole with its own arrival, delay and strength.
_N_PLACES = 7
# What irregular means: sums of this many slow sinusoids, because those are known at any time without a history.
_N_SINUSOIDS = 4
_CYCLES = 512
# Seconds between two values of what is slow.
_GRID = 0.05
# Seconds over which the background comes back after it was attenuated.
_RECOVERY = 2.0
# Channels that see less than this part of what the best one sees do not count as taking part.
_TAKING_PART = 0.25


def simulate_seizure(
    channels: Sequence[str] | np.ndarray,
    n_times: int,
    sfreq: float,
    rng: np.random.Generator,
    *,
    pattern: SeizurePattern | None = None,
    onset: float | None = None,
    duration: float | None = None,
    min_overlap: float = 4.0,
    average_reference: bool = False,
    normalize: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Simulate a window that holds a seizure, or a part of one.

    Parameters
    ----------
    channels : sequence of str | ndarray, shape (n_chans, 3) or (n_chans, 6)
        Channel names, referential or bipolar, or positions, see :func:`~mne_labram.signal.head_field.montage_of`.
    n_times : int
        Samples of the window.
    sfreq : float
        Samples per second.
    rng : numpy.random.Generator
        For what is not given: pattern, then onset.
    pattern : SeizurePattern | None
        The seizure; ``None`` draws one.
    onset : float | None
        When the seizure begins, in seconds after the window's first sample; negative if it began before. ``None``
        draws it so that at least ``min_overlap`` seconds of seizure (or all of it, or the whole window) are inside.
    duration : float | None
        Seconds from its onset to its end, instead of the pattern's.
    min_overlap : float
        See ``onset``.
    average_reference : bool
        Subtract the mean over channels. Otherwise referential channels have their reference at infinity.
    normalize : bool
        Scale as described below; otherwise the strongest place of the seizure has a moment of 1, in every window.

    Returns
    -------
    signal : ndarray of float32, shape (n_chans, n_times)
        The seizure alone, 0 outside it. Its root mean square over the seizure's samples in the window and the
        channels that take part (those with a quarter or more of the largest root mean square) is 1.
    active : ndarray of bool, shape (n_times,)
        Samples within the seizure.

    Raises
    ------
    TypeError
        If ``channels`` is one string.
    ValueError
        If a channel has no position, or a number makes no sense.

    Notes
    -----
    The seizure is a sum of dipoles (:func:`~mne_labram.signal.head_field.dipole_potentials`) at the focus and around
    it that join in one after the other, each with the same waveform, later by the time that a wave takes to reach it.
    Everything is a function of the time since the onset, so two windows of one pattern are two windows of one
    seizure.
    """
    montage = montage_of(channels)
    _check(n_times, sfreq)
    pattern, onset = _settle(rng, n_times / sfreq, pattern, onset, duration, min_overlap)
    signal, active = _discharge(pattern, montage, n_times, sfreq, onset)
    if average_reference:
        signal -= signal.mean(axis=0)
    if normalize and active.any():
        power = np.einsum("ct,ct->c", signal, signal) / active.sum()
        taking_part = power >= _TAKING_PART**2 * power.max()
        scale = math.sqrt(power[taking_part].mean())
        if scale > 0.0:
            signal /= scale
    return signal.astype(np.float32), active


def add_seizure(
    x: np.ndarray,
    channels: Sequence[str] | np.ndarray,
    sfreq: float,
    rng: np.random.Generator,
    *,
    snr_db: float | Sequence[float] = (-3.0, 12.0),
    muscle: float = 0.3,
    average_reference: bool | None = None,
    pattern: SeizurePattern | None = None,
    onset: float | None = None,
    duration: float | None = None,
    min_overlap: float = 4.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Mix a simulated seizure into background.

    Parameters
    ----------
    x : ndarray, shape (n_chans, n_times)
        Background, in microvolts (any unit does); not modified.
    channels : sequence of str | ndarray, shape (n_chans, 3) or (n_chans, 6)
        See :func:`simulate_seizure`.
    sfreq : float
        Samples per second.
    rng : numpy.random.Generator
        For what is not given.
    snr_db : float | sequence of float
        Power of the seizure, in the channels that take part, over the background's median power over channels, in
        decibels; two numbers are the range that it is drawn from. Measured on this window's seizure samples.
    muscle : float
        Probability that muscle or movement (:mod:`mne_labram.signal.artefacts`) covers a part of the seizure, as
        in most convulsive ones; up to twice as large as the seizure.
    average_reference : bool | None
        Whether ``x`` has the average reference; ``None`` looks whether its channels sum to nothing.
    pattern, onset, duration, min_overlap
        See :func:`simulate_seizure`.

    Returns
    -------
    mixed : ndarray of float32, shape (n_chans, n_times)
        Background, attenuated where the pattern says so, and seizure.
    labels : ndarray of bool, shape (n_times,)
        Samples within the seizure.

    Raises
    ------
    TypeError
        If ``channels`` is one string.
    ValueError
        If the shapes do not fit or a number makes no sense.
    """
    x = np.asarray(x)
    montage = montage_of(channels)
    if x.ndim != 2 or len(x) != len(montage.derivation):
        raise ValueError(f"x must have one row for each of the {len(montage.derivation)} channels, got {x.shape}.")
    ratio = rng.uniform(*snr_db) if np.ndim(snr_db) else snr_db
    n_times = x.shape[1]
    _check(n_times, sfreq)
    pattern, onset = _settle(rng, n_times / sfreq, pattern, onset, duration, min_overlap)
    if average_reference is None:
        average_reference = has_average_reference(x, montage)
    signal, labels = simulate_seizure(
        channels, n_times, sfreq, rng, pattern=pattern, onset=onset, average_reference=average_reference
    )
    level = background_level(x)
    mixed = x.astype(np.float32)
    if pattern.attenuation > 0.0:
        since = np.arange(n_times) / sfreq - onset
        mixed *= (1.0 - pattern.attenuation * _attenuated(since, pattern)).astype(np.float32)
    signal *= np.float32(level * 10.0 ** (ratio / 20.0))
    mixed += signal
    if rng.random() < muscle:
        kind = ("muscle", "chewing", "movement")[int(rng.choice(3, p=(0.6, 0.25, 0.15)))]
        cover = simulate_artefact(channels, n_times, sfreq, rng, kind=kind, average_reference=average_reference)
        largest = math.sqrt(float((signal**2).sum(axis=1).max()) / max(int(labels.sum()), 1))
        mixed += np.float32(largest * rng.uniform(0.2, 2.0)) * cover * labels
    return mixed, labels


def _check(n_times: int, sfreq: float) -> None:
    if n_times < 1:
        raise ValueError(f"A window has at least one sample, got {n_times}.")
    if not (math.isfinite(sfreq) and sfreq > 0.0):
        raise ValueError(f"sfreq must be a positive number, got {sfreq}.")


def _settle(
    rng: np.random.Generator,
    length: float,
    pattern: SeizurePattern | None,
    onset: float | None,
    duration: float | None,
    min_overlap: float,
) -> tuple[SeizurePattern, float]:
    """Draw what was not given: the pattern, then the onset."""
    pattern = draw_pattern(rng) if pattern is None else pattern
    if duration is not None:
        pattern = replace(pattern, duration=float(duration))
    if onset is None:
        overlap = min(min_overlap, pattern.duration, length)
        onset = rng.uniform(overlap - pattern.duration, length - overlap)
    elif not math.isfinite(onset):
        raise ValueError(f"onset must be a number of seconds, got {onset}.")
    return pattern, float(onset)


def _attenuated(since: np.ndarray, pattern: SeizurePattern) -> np.ndarray:
    """How much of the attenuation there is, 0 to 1, at times since the onset."""
    falling = np.clip((pattern.attenuation_seconds + _RECOVERY - since) / _RECOVERY, 0.0, 1.0)
    return np.clip(since / 0.5, 0.0, 1.0) * falling


def _discharge(
    pattern: SeizurePattern, montage: Montage, n_times: int, sfreq: float, onset: float
) -> tuple[np.ndarray, np.ndarray]:
    since = np.arange(n_times) / sfreq - onset
    active = (since >= 0.0) & (since < pattern.duration)
    signal = np.zeros((len(montage.derivation), n_times))
    inside = np.flatnonzero(active)
    if not len(inside):
        return signal, active
    first, last = inside[0], inside[-1] + 1
    draw = np.random.default_rng(pattern.seed)
    directions, moments, arrivals, delays, other = _territory(pattern, draw)
    shifts = np.round(delays * sfreq).astype(int)
    # The waveform is computed once, from as far back as the latest place needs it.
    back = int(shifts.max())
    times = np.arange(first - back, last) / sfreq - onset
    sides = range(1 + int(other.any()))
    wave = [_waveform(times, pattern, np.random.default_rng((pattern.seed, side))) for side in sides]
    own = _own_waves(times, pattern)
    seconds = since[first:last]
    envelope = _envelope(seconds, pattern, draw)
    # A place fades in over two seconds from its arrival, or over the attack for the whole.
    places = np.clip((seconds - arrivals[:, None]) / 2.0, 0.0, 1.0)
    places[arrivals <= 0.0] = 1.0
    n = last - first
    for place, (shift, side) in enumerate(zip(shifts, other.astype(int), strict=True)):
        part = wave[side][back - shift : back - shift + n]
        if own:
            common = math.sqrt(1.0 - pattern.polymorphic)
            part = common * part + math.sqrt(pattern.polymorphic) * own[place % len(own)][back - shift :][:n]
        places[place] *= part
    places *= envelope
    weights = montage.channels(dipole_potentials(montage.electrodes, directions, moments, pattern.eccentricity))
    signal[:, first:last] = weights @ places
    return signal, active


def _own_waves(times: np.ndarray, pattern: SeizurePattern) -> list[np.ndarray]:
    """Rhythms near that of the discharge, and less regular, that places have for themselves."""
    if pattern.polymorphic == 0.0:
        return []
    draw = np.random.default_rng((pattern.seed, 2))
    waves = []
    for faster in draw.uniform(0.7, 1.4, 2):
        frequencies = tuple(float(faster) * frequency for frequency in pattern.frequencies)
        waves.append(_waveform(times, replace(pattern, frequencies=frequencies, rate_noise=0.2), draw))
    return waves


def _territory(pattern: SeizurePattern, draw: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Places of a seizure: directions, moments, arrivals and delays in seconds, and which are across the midline."""
    focus = np.array(pattern.focus) / np.linalg.norm(pattern.focus)
    sideways = np.cross(focus, draw.normal(size=3))
    sideways /= np.linalg.norm(sideways)
    forward = np.cross(sideways, focus)
    # Evenly around the focus, further and further away.
    angles = pattern.extent * np.sqrt(np.arange(_N_PLACES) / _N_PLACES)
    if pattern.generalised:
        angles = np.linspace(0.0, 0.6 * math.pi, _N_PLACES)
    turns = draw.uniform(0.0, 2.0 * math.pi) + 2.4 * np.arange(_N_PLACES)
    around = np.cos(turns)[:, None] * sideways + np.sin(turns)[:, None] * forward
    directions = np.cos(angles)[:, None] * focus + np.sin(angles)[:, None] * around
    distances = HEAD_RADIUS * angles
    arrivals = np.zeros(_N_PLACES) if pattern.generalised else distances / pattern.spread_speed
    delays = distances / pattern.wave_speed
    fall = 4.0 if pattern.generalised else 1.5
    strengths = np.exp(-angles / fall) * draw.uniform(0.6, 1.0, _N_PLACES)
    strengths[0] = 1.0
    other = np.zeros(_N_PLACES, bool)
    mirror = directions * [-1.0, 1.0, 1.0]
    if pattern.generalised:
        # Both hemispheres alike.
        directions, strengths = np.concatenate([directions, mirror]), np.tile(strengths, 2)
        arrivals, delays, other = np.tile(arrivals, 2), np.tile(delays, 2), np.tile(other, 2)
    elif pattern.crossing is not None:
        directions = np.concatenate([directions, mirror])
        arrivals = np.concatenate([arrivals, arrivals + pattern.crossing])
        strengths = np.concatenate([strengths, strengths * draw.uniform(0.3, 1.0)])
        delays = np.tile(delays, 2)
        # A hemisphere that was recruited late often has its own rhythm.
        other = np.repeat([False, draw.random() < 0.5], _N_PLACES)
    tangents = np.cross(directions, sideways + 0.3 * forward)
    norms = np.linalg.norm(tangents, axis=1, keepdims=True)
    tangents = np.divide(tangents, norms, out=np.zeros_like(tangents), where=norms > 1e-6)
    moments = math.cos(pattern.tilt) * directions + math.sin(pattern.tilt) * tangents
    # Waves have no memory of their past beyond this; slower ones would only cost time.
    delays = np.minimum(delays, 0.25)
    return directions, pattern.polarity * strengths[:, None] * moments, arrivals, delays, other


def _slow_noise(times: np.ndarray, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Irregularity of variance 1 between 0.1 and 1 Hz, and its integral: known at every time without a history."""
    rates = 2.0 * math.pi * np.exp(draw.uniform(math.log(0.1), 0.0, _N_SINUSOIDS))[:, None]
    phases = draw.uniform(0.0, 2.0 * math.pi, _N_SINUSOIDS)[:, None]
    # What is this slow need not be computed at every sample; the grid is the same in every window.
    grid = _GRID * np.arange(math.floor(times[0] / _GRID), math.ceil(times[-1] / _GRID) + 1)
    angles = rates * grid + phases
    scale = math.sqrt(2.0 / _N_SINUSOIDS)
    noise = scale * np.sin(angles).sum(axis=0)
    integral = scale * ((np.cos(phases) - np.cos(angles)) / rates).sum(axis=0)
    return np.interp(times, grid, noise), np.interp(times, grid, integral)


def _cycles(times: np.ndarray, pattern: SeizurePattern) -> tuple[np.ndarray, np.ndarray]:
    """Rate in Hz and cycles since the onset: geometric between knots, so that the integral is known."""
    knots = np.array(pattern.knots) * pattern.duration
    logs = np.log(pattern.frequencies)
    slopes = np.diff(logs) / np.diff(knots)
    starts = np.array(pattern.frequencies[:-1])
    flat = np.abs(slopes) < 1e-9
    safe = np.where(flat, 1.0, slopes)
    spans = np.diff(knots)
    whole = np.where(flat, starts * spans, starts * np.expm1(slopes * spans) / safe)
    before = np.concatenate([[0.0], np.cumsum(whole)[:-1]])
    index = np.clip(np.searchsorted(knots, times, side="right") - 1, 0, len(spans) - 1)
    # Before the onset and after the end the rate stays what it was there.
    inside = np.clip(times, 0.0, pattern.duration) - knots[index]
    grown = np.exp(slopes[index] * inside)
    rate = starts[index] * grown
    cycles = before[index] + np.where(flat[index], rate * inside, starts[index] * (grown - 1.0) / safe[index])
    return rate, cycles + rate * (times - np.clip(times, 0.0, pattern.duration))


def _waveform(times: np.ndarray, pattern: SeizurePattern, draw: np.random.Generator) -> np.ndarray:
    """Give the discharge at one place, without envelope, at times since the onset."""
    _, wander = _slow_noise(times, draw)
    rate, cycles = _cycles(times + pattern.rate_noise * wander, pattern)
    number = np.floor(cycles)
    phase = cycles - number
    gains = np.exp(pattern.amplitude_noise * draw.normal(size=_CYCLES))
    part = np.clip(times / pattern.duration, 0.0, 1.0)
    period = 1.0 / rate
    # A wave fills its cycle, unless cycles are longer than a wave can be.
    fill = np.minimum(1.0, pattern.wave_seconds / period)
    angle = 2.0 * math.pi * np.minimum(phase / fill, 1.0)
    sharpness = np.interp(part, pattern.knots, pattern.sharpness)
    # The sharp form is the von Mises function: narrow crests, flat troughs; the skew makes the rise steeper.
    cosine = np.cos(angle + 0.5 * sharpness * np.sin(angle))
    wave = (1.0 - sharpness) * 0.5 * (1.0 - cosine) + sharpness * np.exp(3.0 * (-cosine - 1.0))
    # The mean of a wave over its cycle would be a drift; 0.24 is that of the sharp form, exp(-3) I0(3).
    drift = fill * ((1.0 - sharpness) * 0.5 + sharpness * 0.243)
    if any(pattern.spikes):
        amplitude = np.interp(part, pattern.knots, pattern.spikes)
        spikes, area = _spikes(phase * period, pattern, draw)
        wave += amplitude * spikes
        drift += amplitude * area * rate
    wave *= gains[number.astype(int) % _CYCLES]
    wave -= drift
    if any(pattern.fast):
        amplitude = np.interp(part, pattern.knots, pattern.fast)
        riding = 0.5 - 0.5 * np.cos(angle)
        fast_phase = pattern.fast_frequency * (times + 0.5 * pattern.rate_noise * wander)
        wave += amplitude * riding * np.sin(2.0 * math.pi * fast_phase)
    return wave


def _spikes(seconds: np.ndarray, pattern: SeizurePattern, draw: np.random.Generator) -> tuple[np.ndarray, float]:
    """Spikes at the beginning of a cycle, and the area under them in one cycle.

    A spike lasts 20 to 70 ms (Kane et al. 2017, Clin Neurophysiol Pract 2:170-185).
    """
    width = draw.uniform(0.02, 0.07) / 4.0
    apart = draw.uniform(0.05, 0.09)
    total = np.zeros_like(seconds)
    for number in range(pattern.n_spikes):
        total += np.exp(-0.5 * ((seconds - 3.0 * width - number * apart) / width) ** 2)
    return total, pattern.n_spikes * width * math.sqrt(2.0 * math.pi)


def _envelope(seconds: np.ndarray, pattern: SeizurePattern, draw: np.random.Generator) -> np.ndarray:
    noise, _ = _slow_noise(seconds, draw)
    envelope = np.interp(seconds / pattern.duration, pattern.knots, pattern.amplitudes)
    envelope *= np.exp(0.5 * pattern.amplitude_noise * noise)
    attack = np.clip(seconds / max(pattern.attack, 1e-3), 0.0, 1.0)
    release = np.clip((pattern.duration - seconds) / max(pattern.release, 1e-3), 0.0, 1.0)
    return envelope * np.sqrt(attack) * release
