"""Channels are found once, by name or by position."""

from __future__ import annotations

import mne
import numpy as np
import pytest
import torch
from torch import nn

from mne_labram.models.labram.channels import bind_module, resolve_channels
from mne_labram.nn.spatial import NameEmbedding, position_features
from mne_labram.signal.positions import electrode_positions
from mne_labram.signal.vocabulary import DOUBLE_BANANA, LABRAM_CHANNELS, LABRAM_N_ROWS


def test_rows_of_the_official_table() -> None:
    binding = resolve_channels(LABRAM_CHANNELS[:LABRAM_N_ROWS])
    assert binding.rows == list(range(1, 129))
    assert binding.montages == ("referential", "bipolar")
    assert resolve_channels(["EEG O2-LE", "t3"]).names == ["O2", "T3"]


def test_parasagittal_pairs_have_no_row() -> None:
    with pytest.raises(ValueError, match="FP1-F3"):
        resolve_channels(DOUBLE_BANANA)
    binding = resolve_channels(DOUBLE_BANANA, spatial="coordinates")
    assert binding.positions.shape == (18, 6)
    assert binding.montages == ("bipolar",)
    # All 18 derivations, and their 18 reverses, are at different places.
    features = position_features(torch.cat((binding.positions, binding.positions.roll(3, dims=1))))
    assert float(torch.pdist(features).min()) > 0.1


def test_positions_are_the_template_s() -> None:
    binding = resolve_channels(["CZ", "FP1-F3"], spatial="coordinates")
    np.testing.assert_array_equal(binding.positions.numpy(), electrode_positions(["CZ", "FP1-F3"]))


def _measured() -> tuple[list[str], list[dict]]:
    """Make an EGI-like cap: names that nobody knows, positions that are measured."""
    known = ["FP1", "FP2", "F7", "F8", "C3", "C4", "T7", "T8", "O1", "O2", "CZ"]
    names = [f"E{i + 1}" for i in range(len(known))]
    info = mne.create_info(names, 200.0, "eeg")
    for ch, position in zip(info["chs"], electrode_positions(known), strict=True):
        ch["loc"][:3] = position[:3]
    return known, info["chs"]


def test_unknown_names_with_measured_positions() -> None:
    known, chs_info = _measured()
    binding = resolve_channels(None, chs_info, spatial="coordinates")
    assert [name.split()[-1] for name in binding.names] == [f"E{i + 1}" for i in range(len(known))]
    assert resolve_channels(binding.names, chs_info, spatial="coordinates").names == binding.names
    # The head is brought onto the template's, where these positions come from.
    np.testing.assert_allclose(binding.positions.numpy(), electrode_positions(known), atol=5e-3)
    with pytest.raises(ValueError, match="E1"):
        resolve_channels(None, chs_info)
    with pytest.raises(ValueError, match="E1"):
        resolve_channels([f"E{i}" for i in range(1, 12)], spatial="coordinates")


def test_a_name_is_worth_more_than_a_position() -> None:
    _, chs_info = _measured()
    names = ["CZ", *(f"E{i}" for i in range(2, 12))]
    binding = resolve_channels(names, chs_info, spatial="coordinates")
    np.testing.assert_array_equal(binding.positions[0].numpy(), electrode_positions(["CZ"])[0])


def test_given_positions() -> None:
    three = np.random.default_rng(0).normal(size=(2, 3))
    binding = resolve_channels(["A", "B"], spatial="coordinates", positions=three.tolist())
    np.testing.assert_array_equal(binding.positions.numpy(), np.hstack([three, three]))
    six = np.random.default_rng(0).normal(size=(2, 6))
    binding = resolve_channels(["CZ", "PZ"], spatial="coordinates", positions=six)
    np.testing.assert_array_equal(binding.positions.numpy(), six)
    for bad in (six[:, :4], np.full((2, 3), np.nan)):
        with pytest.raises(ValueError, match="positions must be finite, of shape"):
            resolve_channels(["A", "B"], spatial="coordinates", positions=bad)
    with pytest.raises(ValueError, match="2 channel names, but positions is of 1"):
        resolve_channels(["A", "B"], spatial="coordinates", positions=six[:1])


def test_a_common_cathode_is_a_reference() -> None:
    binding = resolve_channels(["Fp1-Cz", "F3-Cz", "O1-Cz"])
    assert binding.names == ["FP1", "F3", "O1"]
    assert binding.montages == ("referential",)


def test_bind_module_copies_only_the_way_down() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(NameEmbedding(4, [1]), nn.ReLU()))
    bound = bind_module(model, resolve_channels(["CZ", "PZ"]))
    assert bound is not model
    assert bound[0] is model[0]
    assert bound[1] is not model[1]
    assert bound[1][1] is model[1][1]
    assert bound[1][0].table is model[1][0].table
    assert len(bound[1][0].rows) == 2
    assert len(model[1][0].rows) == 1
