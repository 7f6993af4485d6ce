"""The pieces that a ``WaveformBank`` is made of: each follows from its number and the seed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mne_labram.signal.contract import ContractError
from mne_labram.source.connectome import Connectome
from mne_labram.source.jansen_rit import simulate_jansen_rit
from mne_labram.source.waveforms import SPIKE_HEIGHT_MV, cut_spikes, others_spike

__all__ = [
    "CLIP_SECONDS",
    "FULL_RECIPE",
    "LANES",
    "SFREQ",
    "SMALL_RECIPE",
    "BankRecipe",
    "Piece",
    "background_clips",
    "checked_regions",
    "make_piece",
    "pieces_of",
    "places_of",
    "seconds_of",
]

#: What is stored, in Hz and seconds: as DeepSIF's clips.
SFREQ, CLIP_SECONDS = 500.0, 1.0
#: Time step in milliseconds, DeepSIF's.
_DT = 0.5
#: Seconds until the populations have forgotten their initial state.
_SETTLING = 1.0
#: Trajectories that are simulated side by side: as many as the compiled code takes at once, whatever is asked for.
LANES = 64
#: Clips of each of its regions that a piece is made of: a minute's work at 1000 regions.
CLIPS = 10


class Piece(NamedTuple):
    """Spikes of some regions, so many of each; or, of no region, so many seconds of background."""

    regions: tuple[int, ...]
    n_clips: int


@dataclass(frozen=True)
class BankRecipe:
    """How much of what.

    Parameters
    ----------
    n_regions : int
        Regions of the connectome.
    clips_per_region : int
        Spikes that are sought in every region.
    background_clips : int
        Seconds without any spike, of all regions.
    run_seconds : float
        Length of a run; its first second is thrown away.
    most_runs : int
        After so many runs a piece gives up: some regions hardly ever spike alone.

    Raises
    ------
    ValueError
        If a number makes no sense.
    """

    n_regions: int = 76
    clips_per_region: int = 8
    background_clips: int = 48
    run_seconds: float = 11.0
    most_runs: int = 8

    def __post_init__(self) -> None:
        for name in ("n_regions", "clips_per_region", "most_runs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}.")
        if self.background_clips < 0:
            raise ValueError(f"background_clips must be 0 or more, got {self.background_clips}.")
        if not 3.0 <= self.run_seconds < math.inf or self.run_seconds % 1.0:
            raise ValueError(f"run_seconds must be a whole number, 3 or more, got {self.run_seconds}.")

    def n_bytes(self) -> int:
        """Bytes of the bank if every region gives all its clips."""
        n_times = round(CLIP_SECONDS * SFREQ)
        spikes = self.n_regions * self.clips_per_region * (2 * n_times + 2)
        return spikes + self.background_clips * self.n_regions * 2 * n_times + self.n_regions * 12


#: Made in well under a minute: what :func:`default_bank` gives.
SMALL_RECIPE = BankRecipe()
#: As much as DeepSIF's: 100 clips of each of about 1000 regions.
FULL_RECIPE = BankRecipe(n_regions=998, clips_per_region=100, background_clips=200)


def places_of(n_regions: int) -> np.ndarray:
    """Spread regions evenly over a sphere of 70 mm: a Fibonacci lattice."""
    height = 1.0 - (2.0 * np.arange(n_regions) + 1.0) / n_regions
    angle = np.pi * (3.0 - np.sqrt(5.0)) * np.arange(n_regions)
    around = np.sqrt(1.0 - height**2)
    return 0.07 * np.column_stack([around * np.cos(angle), around * np.sin(angle), height])


def checked_regions(connectome: Connectome, recipe: BankRecipe) -> int:
    """Return the number of regions; raise ValueError if connectome and recipe do not agree on it."""
    n_regions = connectome.n_regions
    if n_regions != recipe.n_regions:
        raise ValueError(
            f"The connectome has {n_regions} regions and the recipe {recipe.n_regions}; pass a recipe with "
            f"n_regions={n_regions}."
        )
    return n_regions


def pieces_of(recipe: BankRecipe, n_regions: int) -> list[Piece]:
    """List the pieces: so many clips of some regions, then background."""
    # Every so many-th region, so that one piece is like another.
    n_groups = math.ceil(n_regions / LANES)
    groups = [np.arange(first, n_regions, n_groups) for first in range(n_groups)]
    blocks = [min(CLIPS, recipe.clips_per_region - done) for done in range(0, recipe.clips_per_region, CLIPS)]
    clips = [min(LANES, recipe.background_clips - done) for done in range(0, recipe.background_clips, LANES)]
    spikes = [Piece(tuple(group.tolist()), n_clips) for group in groups for n_clips in blocks]
    return spikes + [Piece((), n_clips) for n_clips in clips]


def make_piece(
    number: int, piece: Piece, recipe: BankRecipe, connectome: Connectome, seed: int
) -> dict[str, np.ndarray]:
    """Make one piece; it follows from its number and the seed."""
    if not piece.regions:
        return {"background": background_clips(number, piece.n_clips, recipe, connectome, seed)}
    clips: dict[int, list[np.ndarray]] = {region: [] for region in piece.regions}
    simulated = 0.0
    for run in range(recipe.most_runs):
        missing = np.array([region for region, found in clips.items() if len(found) < piece.n_clips])
        if not len(missing):
            break
        # As many trajectories in every run: those of regions that are done are given to the others.
        excited = np.resize(missing, LANES)
        found, region = _own_spikes(connectome, excited, recipe.run_seconds, (seed, number, run))
        simulated += recipe.run_seconds * len(excited)
        before = sum(map(len, clips.values()))
        for clip, where in zip(found, region, strict=True):
            if len(clips[int(where)]) < piece.n_clips:
                clips[int(where)].append(clip.astype(np.float16))
        if sum(map(len, clips.values())) == before:
            break  # those that are left do not spike, or never alone
    every = [clip for found in clips.values() for clip in found]
    return {
        "spikes": np.array(every, dtype=np.float16).reshape(-1, round(CLIP_SECONDS * SFREQ)),
        "regions": np.repeat(list(clips), [len(found) for found in clips.values()]).astype(np.int16),
        "simulated": np.float64(simulated),
    }


def _own_spikes(
    connectome: Connectome, excited: np.ndarray, seconds: float, seed: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Simulate, and return the clips (n_spikes, n_times) and whose they are (n_spikes,)."""
    own, busy = [], []
    for potential in seconds_of(connectome, excited, seconds, seed):
        own.append(np.take_along_axis(potential, excited[:, np.newaxis, np.newaxis], axis=1)[:, 0])
        busy.append(others_spike(potential, excited))
    joined = np.concatenate(own, axis=1), np.concatenate(busy, axis=1)
    spikes = cut_spikes(*joined, SFREQ, seconds=CLIP_SECONDS)
    return spikes.clips, excited[spikes.trajectory]


def background_clips(number: int, n_clips: int, recipe: BankRecipe, connectome: Connectome, seed: int) -> np.ndarray:
    """Find seconds in which no region spikes, of all regions, RMS 1."""
    n_times = round(CLIP_SECONDS * SFREQ)
    nobody = np.full(LANES, -1)
    out: list[np.ndarray] = []
    for run in range(recipe.most_runs):
        before = np.ones(LANES, dtype=bool)
        for potential in seconds_of(connectome, nobody, recipe.run_seconds, (seed, number, run)):
            busy = (potential > SPIKE_HEIGHT_MV).any(axis=(1, 2))
            # Nor in the second before: no spike that is fading.
            for trajectory in np.flatnonzero(~busy & ~before):
                clip = potential[trajectory, :, :n_times].astype(np.float64)
                clip -= clip.mean(axis=1, keepdims=True)
                out.append((clip / max(np.sqrt((clip**2).mean()), 1e-12)).astype(np.float16))
                if len(out) == n_clips:
                    return np.array(out)
            before = busy
    raise ContractError(
        f"In {recipe.most_runs * recipe.run_seconds * LANES:.0f} s of simulation there were {len(out)} quiet seconds "
        f"rather than {n_clips}; couple the regions less (the connectome's weights), or ask for no background_clips."
    )


def seconds_of(
    connectome: Connectome, excited: np.ndarray, seconds: float, seed: tuple[int, ...]
) -> Iterator[np.ndarray]:
    """Simulate one second after the other: all at once would take gigabytes.

    Parameters
    ----------
    connectome : Connectome
        The regions.
    excited : ndarray of int, shape (n_trajectories,)
        Which region of each trajectory is excited; -1: none.
    seconds : float
        Length of the run; of the first second, in which populations forget their initial state, nothing is yielded.
    seed : tuple of int
        Names the run.

    Yields
    ------
    potential : ndarray of float32, shape (n_trajectories, n_regions, 500)
        Millivolts, at 500 Hz.
    """
    state, discard = None, _SETTLING
    number = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
    for _ in range(round(seconds - _SETTLING)):
        potential, state = simulate_jansen_rit(
            connectome,
            len(excited),
            1.0,
            dt=_DT,
            excited=excited,
            seed=number,
            initial=state,
            discard=discard,
            decimate=round(1e3 / SFREQ / _DT),
            return_state=True,
            verbose="warning",
        )
        discard = 0.0
        yield potential
