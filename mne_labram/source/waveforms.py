"""What simulated sources do over time: spikes (from neural masses, or made up), oscillations, evoked-like waves."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.signal import find_peaks

__all__ = [
    "SPIKE_HEIGHT_MV",
    "Spikes",
    "cut_spikes",
    "evoked_like",
    "extract_spikes",
    "made_up_spikes",
    "oscillations",
    "others_spike",
]

#: What makes a local maximum of a Jansen-Rit population a spike (DeepSIF, ``process_raw_nmm.m``).
SPIKE_HEIGHT_MV = 8.0
#: Two maxima closer than this are one spike: 100 samples of 500 Hz there.
_APART_SECONDS = 0.2
#: How long before and after a clip all other regions must be quiet: 200 samples of 500 Hz there.
_QUIET_SECONDS = 0.4


class Spikes(NamedTuple):
    """Spikes cut out of trajectories.

    Parameters
    ----------
    clips : ndarray of float32, shape (n_spikes, n_times)
        The excited region's potential minus its ends, its peak scaled to 1.
    trajectory : ndarray of int, shape (n_spikes,)
        Where each was found.
    onset : ndarray of int, shape (n_spikes,)
        First sample of each clip in its trajectory.
    height : ndarray of float32, shape (n_spikes,)
        Height of each peak in the trajectory, in millivolts.
    """

    clips: np.ndarray
    trajectory: np.ndarray
    onset: np.ndarray
    height: np.ndarray


def extract_spikes(
    potential: np.ndarray,
    excited: np.ndarray,
    sfreq: float,
    *,
    seconds: float = 1.0,
    before: float = 0.4,
    height: float = SPIKE_HEIGHT_MV,
    alone: bool = True,
) -> Spikes:
    """Cut the spikes of excited regions out of Jansen-Rit trajectories.

    Parameters
    ----------
    potential : ndarray, shape (n_trajectories, n_regions, n_times)
        y1 - y2 of every population, in millivolts.
    excited : ndarray of int, shape (n_trajectories,)
        Which region of each trajectory is the source.
    sfreq : float
        Samples per second.
    seconds : float
        Length of a clip.
    before : float
        Seconds of it that lie before the peak.
    height : float
        Millivolts from which a local maximum is a spike.
    alone : bool
        Leave out clips during which, or 0.4 s before or after which, any other region spikes: what is left starts and
        ends in its region.

    Returns
    -------
    spikes : Spikes
        All clips that lie in a trajectory as a whole.

    Raises
    ------
    ValueError
        If the shapes do not fit, or a number makes no sense.

    Notes
    -----
    DeepSIF's rule (maxima above 8 mV that are 0.2 s apart; no spike of another region from 0.4 s before the clip to
    0.4 s after it), with two differences: a clip lies around its peak rather than on a grid of whole seconds, and no
    other region may be above 8 mV at all, whether it has a maximum there or not, so that a few clips more are left out.
    """
    potential = np.asarray(potential)
    excited = np.asarray(excited)
    if potential.ndim != 3 or excited.shape != potential.shape[:1]:
        raise ValueError(
            "Spikes are taken from (n_trajectories, n_regions, n_times) and one excited region for each trajectory, "
            f"got {potential.shape} and {excited.shape}."
        )
    if not (math.isfinite(sfreq) and sfreq > 0.0 and 0.0 <= before < seconds):
        raise ValueError(f"A clip needs a positive rate and its peak inside, got {sfreq} Hz, {before} of {seconds} s.")
    own = np.take_along_axis(potential, excited[:, np.newaxis, np.newaxis], axis=1)[:, 0]
    busy = others_spike(potential, excited, height) if alone else np.zeros(own.shape, dtype=bool)
    return cut_spikes(own, busy, sfreq, seconds=seconds, before=before, height=height)


def others_spike(potential: np.ndarray, excited: np.ndarray, height: float = SPIKE_HEIGHT_MV) -> np.ndarray:
    """Say when any region but the excited one is above a height.

    Parameters
    ----------
    potential : ndarray, shape (n_trajectories, n_regions, n_times)
        Millivolts.
    excited : ndarray of int, shape (n_trajectories,)
        Which region of each trajectory does not count; -1: all do.
    height : float
        Millivolts.

    Returns
    -------
    busy : ndarray of bool, shape (n_trajectories, n_times)
        In pieces of a trajectory it is the same as in the whole.
    """
    busy = np.empty((len(potential), potential.shape[2]), dtype=bool)
    for number, region in enumerate(excited):
        above = potential[number] > height
        if region >= 0:
            above[region] = False
        busy[number] = above.any(axis=0)
    return busy


def cut_spikes(
    own: np.ndarray,
    busy: np.ndarray,
    sfreq: float,
    *,
    seconds: float = 1.0,
    before: float = 0.4,
    height: float = SPIKE_HEIGHT_MV,
) -> Spikes:
    """Do what :func:`extract_spikes` does, with what excited regions do and whether others are quiet.

    Parameters
    ----------
    own : ndarray, shape (n_trajectories, n_times)
        Potential of the excited regions, in millivolts.
    busy : ndarray of bool, shape (n_trajectories, n_times)
        See :func:`others_spike`.
    sfreq, seconds, before, height : float
        See :func:`extract_spikes`.

    Returns
    -------
    spikes : Spikes
        All clips that lie in a trajectory as a whole.
    """
    n_times, lead, quiet = round(seconds * sfreq), round(before * sfreq), round(_QUIET_SECONDS * sfreq)
    found: list[tuple[int, int, float]] = []
    clips: list[np.ndarray] = []
    for number, potential in enumerate(np.asarray(own, dtype=float)):
        peaks, _ = find_peaks(potential, height=height, distance=max(1, round(_APART_SECONDS * sfreq)))
        for start in peaks - lead:
            whole = start >= 0 and start + n_times <= len(potential)
            if whole and not busy[number, max(0, start - quiet) : start + n_times + quiet].any():
                clips.append(_from_zero_to_zero(potential[start : start + n_times], lead))
                found.append((number, start, potential[start + lead]))
    if not found:
        empty = np.zeros(0, dtype=int)
        return Spikes(np.zeros((0, n_times), np.float32), empty, empty, np.zeros(0, np.float32))
    trajectory, onset, heights = zip(*found, strict=True)
    return Spikes(
        np.array(clips, dtype=np.float32),
        np.array(trajectory, dtype=int),
        np.array(onset, dtype=int),
        np.array(heights, dtype=np.float32),
    )


def _from_zero_to_zero(clip: np.ndarray, peak: int) -> np.ndarray:
    """Take the level of the ongoing activity off, fade the ends out and scale the peak to 1."""
    clip = clip - np.median(clip)
    n_fade = max(1, len(clip) // 10)
    fade = np.ones(len(clip))
    fade[:n_fade] = 0.5 - 0.5 * np.cos(np.pi * np.arange(n_fade) / n_fade)
    fade[-n_fade:] = fade[:n_fade][::-1]
    clip = clip * fade
    return clip / max(abs(clip[peak]), np.abs(clip).max(), np.finfo(float).tiny)


def made_up_spikes(n: int, n_times: int, sfreq: float, rng: np.random.Generator) -> np.ndarray:
    """Make spikes up: a sharp wave, a slower one of the other sign after it, now and then several of them.

    Parameters
    ----------
    n : int
        How many.
    n_times : int
        Samples of each.
    sfreq : float
        Samples per second.
    rng : numpy.random.Generator
        Where everything is drawn from.

    Returns
    -------
    waveforms : ndarray of float32, shape (n, n_times)
        Largest absolute value 1.

    Notes
    -----
    Durations as in the IFCN's glossary (Kane et al. 2017, Clin Neurophysiol Pract 2:170-185): a spike lasts 20 to
    70 ms, a sharp wave 70 to 200 ms, the slow wave after it is longer. Here the standard deviation of the sharp wave is
    8 to 35 ms and that of the slow one 2 to 4 times as long.
    """
    duration = n_times / sfreq
    # All 1 to 3 complexes of all waveforms at once; those that are too many have no height.
    count = rng.integers(1, 4, (n, 1))
    height = rng.uniform(0.6, 1.0, (n, 3)) * (np.arange(3) < count)
    centre = rng.uniform(0.1, 0.9, (n, 3)) * duration
    width = rng.uniform(0.008, 0.035, (n, 1))
    ratio, slow = rng.uniform(2.0, 4.0, (n, 1)), rng.uniform(0.2, 0.7, (n, 1))
    out = _waves(height, centre, width, n_times, sfreq)
    out -= _waves(slow * height, centre + ratio * width * 1.2, ratio * width, n_times, sfreq)
    return _peak_one(out)


def evoked_like(n: int, n_times: int, sfreq: float, rng: np.random.Generator) -> np.ndarray:
    """Make waves as they are seen in evoked responses: a few components that follow each other and get wider.

    Parameters
    ----------
    n : int
        How many.
    n_times : int
        Samples of each.
    sfreq : float
        Samples per second.
    rng : numpy.random.Generator
        Where everything is drawn from.

    Returns
    -------
    waveforms : ndarray of float32, shape (n, n_times)
        Largest absolute value 1.

    Notes
    -----
    Two to five Gaussian components of alternating sign after an onset; their standard deviations grow from 8-25 ms by a
    factor of 1.2 to 1.8 from each to the next, as P50, N100, P200 and P300 do.
    """
    duration = n_times / sfreq
    count = rng.integers(2, 6, (n, 1))
    sign = np.where(rng.random((n, 1)) < 0.5, 1.0, -1.0) * np.where(np.arange(5) % 2, -1.0, 1.0)
    height = rng.uniform(0.3, 1.0, (n, 5)) * sign * (np.arange(5) < count)
    growth = rng.uniform(1.2, 1.8, (n, 1)) ** np.arange(5)
    width = rng.uniform(0.008, 0.025, (n, 1)) * growth
    latency = np.cumsum(width * rng.uniform(1.5, 3.0, (n, 5)), axis=1)
    centre = rng.uniform(0.0, 0.5, (n, 1)) * duration + latency
    # In a short window the whole response must fit in, so that no window is empty.
    last = np.max(np.where(height != 0.0, centre + width, 0.0), axis=1, keepdims=True)
    squeeze = np.minimum(1.0, duration / np.maximum(last, 1e-9))
    return _peak_one(_waves(height, centre * squeeze, width * squeeze, n_times, sfreq))


def oscillations(
    n: int,
    n_times: int,
    sfreq: float,
    rng: np.random.Generator,
    *,
    band: tuple[float, float] = (2.0, 40.0),
) -> np.ndarray:
    """Make bursts and stretches of rhythms.

    Parameters
    ----------
    n : int
        How many.
    n_times : int
        Samples of each.
    sfreq : float
        Samples per second.
    rng : numpy.random.Generator
        Where everything is drawn from.
    band : tuple of float
        Hz between which frequencies are drawn, all octaves alike; 0.4 of the sampling rate at most.

    Returns
    -------
    waveforms : ndarray of float32, shape (n, n_times)
        Largest absolute value 1.

    Notes
    -----
    A sine whose frequency drifts by up to 15 % over the window, as ictal rhythms do, under a Gaussian envelope of 0.08
    to 1 s, with a harmonic of up to 0.3.
    """
    t = np.arange(n_times) / sfreq
    duration = n_times / sfreq
    high = min(band[1], 0.4 * sfreq)
    low = min(band[0], high)
    frequency = np.exp(rng.uniform(math.log(low), math.log(high), (n, 1)))
    drift = rng.uniform(-0.15, 0.15, (n, 1)) / duration
    phase = 2.0 * math.pi * (frequency * (t + 0.5 * drift * t**2) + rng.random((n, 1)))
    second = rng.uniform(0.0, 0.3, (n, 1))
    centre, width = rng.uniform(0.2, 0.8, (n, 1)) * duration, np.exp(rng.uniform(np.log(0.08), 0.0, (n, 1)))
    envelope = np.exp(-0.5 * ((t - centre) / width) ** 2)
    second = np.where(2.0 * frequency < 0.45 * sfreq, second, 0.0)  # nothing above the Nyquist frequency
    phase = phase.astype(np.float32)  # sines are most of the time
    wave = np.sin(phase) + second.astype(np.float32) * np.sin(2.0 * phase)
    return _peak_one(envelope * wave)


def _waves(height: np.ndarray, centre: np.ndarray, width: np.ndarray, n_times: int, sfreq: float) -> np.ndarray:
    """Sum Gaussians: (n, n_waves) each, to (n, n_times)."""
    t = (np.arange(n_times) / sfreq).astype(np.float32)
    width = np.broadcast_to(width, centre.shape).astype(np.float32)
    each = np.exp(-0.5 * ((t - centre.astype(np.float32)[:, :, np.newaxis]) / width[:, :, np.newaxis]) ** 2)
    return np.einsum("nk,nkt->nt", height.astype(np.float32), each)


def _peak_one(waveforms: np.ndarray) -> np.ndarray:
    largest = np.abs(waveforms).max(axis=1, keepdims=True)
    return (waveforms / np.maximum(largest, np.finfo(np.float32).tiny)).astype(np.float32)
