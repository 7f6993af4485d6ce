"""Banks follow from the seed, whoever makes the pieces and however often that is interrupted."""

from __future__ import annotations

from dataclasses import replace

import joblib
import numpy as np
import pytest

from mne_labram.signal.contract import ContractError
from mne_labram.source import bank_making, bank_pieces
from mne_labram.source.bank import WaveformBank
from mne_labram.source.bank_costs import bank_cost
from mne_labram.source.bank_pieces import (
    FULL_RECIPE,
    SMALL_RECIPE,
    BankRecipe,
    background_clips,
    make_piece,
    pieces_of,
    places_of,
    seconds_of,
)
from mne_labram.source.connectome import Connectome, synthetic_connectome

TINY = BankRecipe(n_regions=20, clips_per_region=2, background_clips=3, run_seconds=6.0, most_runs=4)


@pytest.fixture(scope="module")
def connectome() -> Connectome:
    return synthetic_connectome(places_of(20))


def _same(first: WaveformBank, second: WaveformBank) -> None:
    for name in ("spikes", "spike_regions", "background", "positions"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert first.about == second.about


def test_a_bank_is_what_its_recipe_says(tmp_path) -> None:
    path = tmp_path / "bank.npz"
    bank = bank_making.make_bank(path, TINY)
    assert bank.n_spikes > 20
    assert bank.spikes.shape[1] == 500
    assert bank.background.shape == (3, 20, 500)
    assert bank.positions.shape == (20, 3)
    assert bank.about["simulated_seconds"] > 0
    assert (np.bincount(bank.spike_regions) <= 2).all()
    # Spikes: up and down again around the same sample.
    clips = bank.spikes.astype(float)
    np.testing.assert_allclose(np.abs(clips).max(axis=1), 1.0, atol=1e-3)
    assert (clips.argmax(axis=1) == 200).mean() > 0.9
    assert clips[:, 200].min() > 0.5
    assert np.abs(clips[:, [0, -1]]).max() < 1e-3
    # Background: nothing stands out.
    background = bank.background.astype(float)
    np.testing.assert_allclose(background.mean(axis=2), 0.0, atol=1e-2)
    np.testing.assert_allclose((background**2).mean(axis=(1, 2)), 1.0, rtol=1e-2)
    _same(WaveformBank.load(path), bank)
    assert [each.name for each in tmp_path.iterdir()] == ["bank.npz"]
    with pytest.raises(FileExistsError, match="overwrite"):
        bank_making.make_bank(path, TINY)


def test_processes_and_interruptions_change_nothing(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bank_pieces, "LANES", 8)  # pieces of so many regions
    recipe = replace(TINY, n_regions=12, clips_per_region=1, background_clips=2)
    alone = bank_making.make_bank(tmp_path / "alone.npz", recipe)
    with joblib.parallel_config(backend="threading"):
        _same(bank_making.make_bank(tmp_path / "threads.npz", recipe, n_jobs=2), alone)
    made = []

    def stops(number: int, *args):
        if number == 1:
            raise KeyboardInterrupt
        made.append(number)
        return make_piece(number, *args)

    monkeypatch.setattr(bank_making, "make_piece", stops)
    with pytest.raises(KeyboardInterrupt):
        bank_making.make_bank(tmp_path / "again.npz", recipe)
    assert made == [0]
    assert not (tmp_path / "again.npz").exists()
    (part,) = (tmp_path / "again.npz.parts").glob("*.npz")

    def goes_on(number: int, *args):
        made.append(number)
        return make_piece(number, *args)

    monkeypatch.setattr(bank_making, "make_piece", goes_on)
    _same(bank_making.make_bank(tmp_path / "again.npz", recipe), alone)
    assert made == [0, 1, 2]
    assert not part.parent.exists()
    # A damaged piece, and one of another seed, are not used.
    part.parent.mkdir()
    part.write_bytes(b"PK")
    (part.parent / "of another recipe").touch()
    _same(bank_making.make_bank(tmp_path / "again.npz", recipe, overwrite=True), alone)
    assert [each.name for each in part.parent.iterdir()] == ["of another recipe"]
    assert made == [0, 1, 2, 0, 1, 2]
    other = bank_making.make_bank(tmp_path / "other.npz", recipe, seed=1)
    assert other.spikes.shape != alone.spikes.shape or (other.spikes != alone.spikes).any()


def test_pieces_hold_every_region_and_clip_once() -> None:
    for recipe in (SMALL_RECIPE, FULL_RECIPE, TINY, replace(FULL_RECIPE, clips_per_region=25)):
        pieces = pieces_of(recipe, recipe.n_regions)
        wanted = np.zeros(recipe.n_regions, dtype=int)
        for piece in pieces:
            wanted[list(piece.regions)] += piece.n_clips
            assert len(piece.regions) <= 64
        assert (wanted == recipe.clips_per_region).all()
        assert sum(piece.n_clips for piece in pieces if not piece.regions) == recipe.background_clips


def test_the_full_recipe_is_small_enough() -> None:
    assert FULL_RECIPE.n_bytes() < 0.5e9
    assert FULL_RECIPE.n_regions * FULL_RECIPE.clips_per_region > 99_000


def test_runs_are_in_one_piece(connectome) -> None:
    """A second is what it would be in a run of all seconds, or a spike across its edge would be two."""
    from mne_labram.source.jansen_rit import simulate_jansen_rit

    excited = np.resize(np.arange(20), 64)
    pieces = np.concatenate(list(seconds_of(connectome, excited, 3.0, (0, 1))), axis=2)
    seed = int(np.random.SeedSequence((0, 1)).generate_state(1, np.uint64)[0])
    whole = simulate_jansen_rit(connectome, 64, 2.0, excited=excited, seed=seed, discard=1.0, decimate=4)
    np.testing.assert_array_equal(pieces, whole)


def test_excited_regions_spike_and_background_is_quiet(connectome) -> None:
    excited = np.resize(np.arange(20), 64)
    potential = np.concatenate(list(seconds_of(connectome, excited, 5.0, (0,))), axis=2)
    own = np.take_along_axis(potential, excited[:, None, None], axis=1)[:, 0]
    assert (own.max(axis=1) > 8.0).mean() > 0.5
    clips = background_clips(0, 5, TINY, connectome, 0)
    assert clips.shape == (5, 20, 500)
    assert np.abs(clips).max() < 12.0


def test_what_cannot_be_made_is_said(tmp_path, connectome, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"\.npz"):
        bank_making.make_bank(tmp_path / "bank.fif", TINY)
    with pytest.raises(FileNotFoundError, match="no folder"):
        bank_making.make_bank(tmp_path / "none" / "bank.npz", TINY)
    with pytest.raises(ValueError, match="20 regions and the recipe 21"):
        bank_making.make_bank(tmp_path / "bank.npz", replace(TINY, n_regions=21), connectome=connectome)
    with pytest.raises(ValueError, match="one place for each"):
        bank_making.make_bank(tmp_path / "bank.npz", TINY, connectome=connectome, positions=np.zeros((3, 3)))
    for name in ("n_regions", "clips_per_region", "most_runs", "background_clips", "run_seconds"):
        with pytest.raises(ValueError, match=name):
            BankRecipe(**{name: -1})
    # Nobody spikes; then everybody does, all the time.
    monkeypatch.setattr(bank_pieces, "simulate_jansen_rit", lambda c, n, *_, **__: (np.zeros((n, 20, 500)), None))
    with pytest.raises(ContractError, match="No region spiked alone"):
        bank_making.make_bank(tmp_path / "bank.npz", TINY, connectome=connectome)
    monkeypatch.setattr(bank_pieces, "simulate_jansen_rit", lambda c, n, *_, **__: (np.full((n, 20, 500), 9.0), None))
    with pytest.raises(ContractError, match="0 quiet seconds"):
        background_clips(0, 2, TINY, connectome, 0)


def test_the_default_bank_is_made_once(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bank_making, "SMALL_RECIPE", TINY)
    first = bank_making.default_bank(tmp_path)
    (file,) = tmp_path.iterdir()
    written = file.stat().st_mtime_ns
    _same(bank_making.default_bank(tmp_path), first)
    assert file.stat().st_mtime_ns == written
    _same(bank_making.make_bank(tmp_path / "own.npz", TINY), first)
    other = bank_making.default_bank(tmp_path, seed=1)
    assert other.spikes.shape != first.spikes.shape or not np.array_equal(other.spikes, first.spikes)
    _same(bank_making.default_bank(tmp_path), first)
    _same(bank_making.default_bank(tmp_path, seed=1), other)


def test_costs_are_extrapolated_from_a_piece() -> None:
    whole = bank_cost(replace(TINY, clips_per_region=30))
    assert whole.share == pytest.approx(1 / 3)
    assert 0.5 < whole.found <= 1.0
    assert whole.core_hours == pytest.approx(
        (3 * whole.piece_core_seconds + 3 * whole.background_core_seconds) / 3600.0
    )
    assert whole.n_bytes <= whole.recipe.n_bytes()
    assert "core-hours" in str(whole)
    assert len(str(whole).splitlines()) == 3
