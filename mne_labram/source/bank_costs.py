"""What a ``WaveformBank`` takes: core-hours and bytes, measured on one of its pieces."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from mne_labram.source.bank_pieces import (
    FULL_RECIPE,
    LANES,
    BankRecipe,
    background_clips,
    checked_regions,
    make_piece,
    pieces_of,
    places_of,
    seconds_of,
)
from mne_labram.source.connectome import Connectome, synthetic_connectome

__all__ = ["BankCost", "bank_cost"]


@dataclass(frozen=True)
class BankCost:
    """What a recipe takes, measured on a part of it.

    Parameters
    ----------
    recipe : BankRecipe
        The whole.
    share : float
        Part of the spikes that were sought for this.
    piece_core_seconds, piece_seconds : float
        Core-seconds of the piece that was made, and trajectory-seconds that were simulated for it.
    found : float
        Share of the spikes that were sought which it found.
    background_core_seconds : float
        Core-seconds for each clip of background.
    """

    recipe: BankRecipe
    share: float
    piece_core_seconds: float
    piece_seconds: float
    found: float
    background_core_seconds: float

    @property
    def core_hours(self) -> float:
        """Core-hours that the whole recipe takes."""
        background = self.recipe.background_clips * self.background_core_seconds
        return (self.piece_core_seconds / self.share + background) / 3600.0

    @property
    def n_bytes(self) -> float:
        """Bytes of the whole bank."""
        without = replace(self.recipe, background_clips=0).n_bytes()
        return self.found * without + self.recipe.n_bytes() - without

    def __str__(self) -> str:
        recipe, each = self.recipe, 1e3 * self.piece_core_seconds / self.piece_seconds
        return (
            f"Recipe: {recipe.n_regions} regions x {recipe.clips_per_region} spikes, {recipe.background_clips} s of "
            "background.\n"
            f"Measured on {100 * self.share:.2g} % of it: {self.piece_seconds:.0f} s of simulation in "
            f"{self.piece_core_seconds:.3g} core-s ({each:.3g} core-ms each), {100 * self.found:.0f} % of the spikes "
            f"found; a clip of background: {self.background_core_seconds:.2g} core-s.\n"
            f"Extrapolated to the whole: {self.core_hours:.2g} core-hours, {self.n_bytes / 1e6:.3g} MB."
        )


def bank_cost(recipe: BankRecipe = FULL_RECIPE, *, connectome: Connectome | None = None, seed: int = 0) -> BankCost:
    """Measure what a recipe takes, by making one of its pieces.

    Parameters
    ----------
    recipe : BankRecipe
        The whole.
    connectome : Connectome | None
        See :func:`~mne_labram.source.bank_making.make_bank`.
    seed : int
        See :func:`~mne_labram.source.bank_making.make_bank`.

    Returns
    -------
    cost : BankCost
        Measured and extrapolated; ``str(cost)`` says so in three lines. Compiling is not in it.
    """
    if connectome is None:
        connectome = synthetic_connectome(places_of(recipe.n_regions))
    pieces = [piece for piece in pieces_of(recipe, checked_regions(connectome, recipe)) if piece.regions]
    nobody = np.full(LANES, -1)
    next(seconds_of(connectome, nobody, 2.0, (seed, 0)))  # compiles
    start = time.process_time()
    part = make_piece(0, pieces[0], recipe, connectome, seed)
    taken = time.process_time() - start
    background = 0.0
    if recipe.background_clips:
        start = time.process_time()
        n_clips = min(LANES, recipe.background_clips)
        background_clips(len(pieces), n_clips, recipe, connectome, seed)
        background = (time.process_time() - start) / n_clips
    found = len(part["spikes"]) / (len(pieces[0].regions) * pieces[0].n_clips)
    share = len(pieces[0].regions) * pieces[0].n_clips / (recipe.n_regions * recipe.clips_per_region)
    return BankCost(recipe, share, taken, float(part["simulated"]), found, background)
