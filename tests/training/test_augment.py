"""Variations of a batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mne_labram.signal.positions import electrode_positions
from mne_labram.signal.vocabulary import DOUBLE_BANANA
from mne_labram.training.augment import Augmentation

NAMES = ["FP1", "FP2", "F7", "F3", "FZ", "F4", "F8", "T7", "C3", "CZ", "C4", "T8"]
NAMES += ["P7", "P3", "PZ", "P4", "P8", "O1", "O2"]
NONE = {"gain_sd": 0.0, "channel_gain_sd": 0.0, "flip": 0.0, "rereference": 0.0, "bipolar": 0.0, "subset": 0.0}


def _batch(names: list[str] = NAMES, seconds: int = 4, n: int = 3) -> dict:
    x = torch.randn(n, len(names), seconds * 200, generator=torch.Generator().manual_seed(0))
    return {"x": x, "ch_names": list(names), "positions": None}


def test_nothing_is_changed_when_nothing_is_asked_for() -> None:
    batch = _batch()
    out = Augmentation(**NONE)(batch, np.random.default_rng(0))
    assert torch.equal(out["x"], batch["x"])
    assert out["ch_names"] == NAMES


@given(seed=st.integers(0, 500), n_chans=st.integers(1, 19), seconds=st.sampled_from([1, 4, 16]))
def test_batches_stay_whole(seed: int, n_chans: int, seconds: int) -> None:
    batch = _batch(NAMES[:n_chans], seconds)
    before = batch["x"].clone()
    options = Augmentation(rereference=0.5, bipolar=0.5, subset=0.5, max_tokens=64)
    out = options(batch, np.random.default_rng(seed))
    again = options(batch, np.random.default_rng(seed))
    assert torch.equal(out["x"], again["x"])
    assert out["ch_names"] == again["ch_names"]
    assert torch.equal(batch["x"], before)
    assert batch["ch_names"] == NAMES[:n_chans]
    assert out["x"].shape == (3, len(out["ch_names"]), seconds * 200)
    assert out["x"].dtype == before.dtype
    assert 1 <= len(out["ch_names"]) <= max(1, 64 // seconds)
    assert len(set(out["ch_names"])) == len(out["ch_names"])
    electrode_positions(out["ch_names"])
    assert torch.isfinite(out["x"]).all()
    assert (out["x"].std(dim=2) > 0).all()


def test_derivations_are_what_their_names_say() -> None:
    batch = _batch()
    index = {name: i for i, name in enumerate(NAMES)}
    seen = set()
    for seed in range(20):
        out = Augmentation(**{**NONE, "bipolar": 1.0})(batch, np.random.default_rng(seed))
        for row, name in enumerate(out["ch_names"]):
            anode, cathode = name.split("-")
            torch.testing.assert_close(out["x"][:, row], batch["x"][:, index[anode]] - batch["x"][:, index[cathode]])
        seen.add(tuple(out["ch_names"]))
    assert DOUBLE_BANANA in seen
    assert len(seen) > 5


def test_references() -> None:
    batch = _batch()
    sizes = set()
    for seed in range(20):
        out = Augmentation(**{**NONE, "rereference": 1.0})(batch, np.random.default_rng(seed))
        sizes.add(len(out["ch_names"]))
        if len(out["ch_names"]) == len(NAMES):
            torch.testing.assert_close(out["x"], batch["x"] - batch["x"].mean(dim=1, keepdim=True))
        else:
            (left,) = set(NAMES) - set(out["ch_names"])
            rows = [NAMES.index(name) for name in out["ch_names"]]
            reference = batch["x"][:, [NAMES.index(left)]]
            torch.testing.assert_close(out["x"], batch["x"][:, rows] - reference)
    assert sizes == {len(NAMES), len(NAMES) - 1}


def test_bipolar_recordings_are_not_derived_again() -> None:
    batch = _batch(list(DOUBLE_BANANA))
    out = Augmentation(**{**NONE, "bipolar": 1.0, "rereference": 1.0})(batch, np.random.default_rng(0))
    assert out["ch_names"] == list(DOUBLE_BANANA)
    assert torch.equal(out["x"], batch["x"])


def test_gains_differ_between_windows_and_channels() -> None:
    batch = _batch(n=200)
    options = {**NONE, "gain_sd": 0.3, "channel_gain_sd": 0.1, "flip": 0.5}
    ratio = (Augmentation(**options)(batch, np.random.default_rng(0))["x"] / batch["x"])[..., 0]
    logs = ratio.abs().log()
    assert 0.25 < float(logs.mean(dim=1).std()) < 0.36
    assert 0.08 < float((logs - logs.mean(dim=1, keepdim=True)).std()) < 0.12
    assert 0.35 < float((ratio[:, 0] < 0).float().mean()) < 0.65
    assert ((ratio < 0) == (ratio[:, :1] < 0)).all()


def test_positions_follow_channels_without_names() -> None:
    places = electrode_positions(NAMES)
    batch = {**_batch([f"E{i}" for i in range(19)]), "positions": places}
    out = Augmentation(**{**NONE, "bipolar": 1.0})(batch, np.random.default_rng(1))
    for name, row in zip(out["ch_names"], out["positions"], strict=True):
        anode, cathode = (int(end[1:]) for end in name.split("-"))
        np.testing.assert_array_equal(row, np.hstack((places[anode, :3], places[cathode, :3])))


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="Unknown option of the augmentation: gain"):
        Augmentation.from_dict({"gain": 1})
    with pytest.raises(ValueError, match="flip is a probability"):
        Augmentation(flip=1.5)
    with pytest.raises(ValueError, match="gain_sd must not be negative"):
        Augmentation(gain_sd=-1.0)
    with pytest.raises(ValueError, match="min_chans must be at least 1"):
        Augmentation(min_chans=0)
    assert Augmentation.from_dict({"max_tokens": 64}).max_tokens == 64


def test_artefacts_lie_beside_the_signal() -> None:
    """As large as the EEG makes them, in some windows, and nothing else is drawn differently."""
    batch = _batch(n=40)
    batch["x"] *= torch.linspace(1.0, 30.0, 40)[:, None, None]
    without = Augmentation()(batch, np.random.default_rng(3))
    out = Augmentation(artefact=0.5)(batch, np.random.default_rng(3))
    assert "artefact" not in without
    assert torch.equal(out["x"], without["x"])
    assert out["artefact"].shape == out["x"].shape
    ratio = out["artefact"].square().mean(dim=2).amax(dim=1).sqrt() / out["x"].std(dim=2).mean(dim=1)
    some = ratio > 0
    assert 8 <= int(some.sum()) <= 32
    # One to twenty times, in the channel where it is largest.
    assert float(ratio[some].min()) > 0.7
    assert float(ratio[some].max()) < 30.0
    again = Augmentation(artefact=0.5)(batch, np.random.default_rng(3))
    assert torch.equal(out["artefact"], again["artefact"])


def test_artefacts_of_bipolar_channels_are_differences() -> None:
    """What both ends see alike is not there: movement of the whole head is smaller between neighbours."""
    for seed in range(5):
        out = Augmentation(**{**NONE, "bipolar": 1.0}, artefact=1.0)(_batch(), np.random.default_rng(seed))
        assert out["artefact"].shape == out["x"].shape
        assert bool((out["artefact"].square().mean(dim=(1, 2)) > 0).all())


def test_a_share_of_artefacts_is_a_probability() -> None:
    with pytest.raises(ValueError, match="artefact is a probability"):
        Augmentation(artefact=1.5)
