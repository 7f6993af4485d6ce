"""Electrodes with foreign names get the rows of their nearest sites."""

from __future__ import annotations

from pathlib import Path

import mne
import numpy as np
import pytest

from mne_labram.signal.channels import map_channels
from mne_labram.signal.contract import ContractError
from mne_labram.signal.matching import MATCHED_BY_POSITION, match_nearest
from mne_labram.signal.positions import electrode_positions, positions_from_chs
from mne_labram.signal.template import canonical_electrode, montage_in_head_frame, template_positions
from mne_labram.signal.vocabulary import LABRAM_CHANNELS


def cap(name: str) -> tuple[list[str], np.ndarray]:
    montage = montage_in_head_frame(name)
    return list(montage), np.array(list(montage.values()))


@pytest.mark.parametrize("name", ["biosemi32", "biosemi64", "easycap-M1"])
def test_a_cap_whose_names_are_hidden_gets_them_back(name: str):
    truth, positions = cap(name)
    found = map_channels([f"EEG {i:03d}" for i in range(len(truth))], match="position", positions=positions)
    modern = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}
    expected = {i: modern.get(canonical_electrode(t), canonical_electrode(t)) for i, t in enumerate(truth)}
    kept = {row.index: row for row in found.rows}
    right = [kept[i].name == expected[i] for i in kept if expected[i] in LABRAM_CHANNELS]
    assert len(right) >= len(truth) - 10
    assert all(right)
    assert all(row.how == "position" and row.distance_mm <= 16 for row in found.rows)


# The 10-20 equivalents of the 128-channel HydroCel net (Luu & Ferree 2005, EGI).
HYDROCEL = {
    "E22": "FP1", "E9": "FP2", "E24": "F3", "E124": "F4", "E33": "F7", "E122": "F8", "E36": "C3", "E104": "C4",
    "E52": "P3", "E92": "P4", "E58": "P7", "E96": "P8", "E62": "PZ", "E70": "O1", "E83": "O2",
}  # fmt: skip


def test_an_egi_net_gets_the_rows_of_its_equivalents():
    info = mne.create_info([f"E{i}" for i in range(1, 129)], 100.0, "eeg").set_montage("GSN-HydroCel-128")
    positions = positions_from_chs(info["chs"])
    found = map_channels(info["ch_names"], match="position", positions=positions)
    names = {row.label: row.name for row in found.rows}
    nearby = [
        np.linalg.norm(np.subtract(*electrode_positions([names.get(e, t), t])[:, :3])) for e, t in HYDROCEL.items()
    ]
    # Each of the equivalents is kept or has lost its row to a neighbour, and none is more than one site off.
    assert max(nearby) < 0.04
    assert np.mean([names.get(e) == t for e, t in HYDROCEL.items()]) > 0.7
    assert 70 < found.n < 90
    assert max(row.distance_mm for row in found.rows) <= 25
    # Sensors on the cheeks.
    far = dict(found.dropped)
    assert "mm from" in far["E127"]
    assert "mm from" in far["E126"]
    assert any("is already taken by 'E" in reason for reason in far.values())


def test_a_biosemi_abc_cap_is_placed_by_position_not_by_name():
    labels, positions = cap("biosemi128")
    assert labels[:3] == ["A1", "A2", "A3"]
    found = map_channels(labels, match="position", positions=positions)
    assert found.rows[0].label == "A1"
    assert found.rows[0].name == "CZ"
    assert all(row.how == "position" for row in found.rows)
    assert not {"A1", "A2"} & set(found.names)
    assert found.n > 60
    # Without a vocabulary all have their own coordinates, under names that no electrode has.
    free = map_channels(labels, None, positions=positions)
    assert free.n == 128
    assert free.names[0] == "cap A1"
    with pytest.raises(ValueError, match="cap A1"):
        electrode_positions(free.names)
    # On the template's head, and both ends the same.
    np.testing.assert_array_equal(free.positions[:, :3], free.positions[:, 3:])
    assert np.linalg.norm(free.positions[0, :3] - template_positions()["CZ"]) < 0.012


def test_names_go_before_positions_and_a_site_is_used_once():
    sites = template_positions()
    labels = ["E1", "T3", "E2", "E3", "Cz"]
    near_t7, near_c3 = sites["T7"] + [0, 0.004, 0], sites["C3"] + [0, 0.003, 0]
    positions = np.array([near_t7, sites["T7"], near_c3, sites["C3"] + [0, 0.008, 0], [0, 0, 0]])
    found = map_channels(labels, match="position", positions=positions)
    assert [(row.label, row.name, row.how) for row in found.rows] == [
        ("T3", "T3", "exact"),
        ("E2", "C3", "position"),
        ("Cz", "CZ", "exact"),
    ]
    assert "already taken by 'T3'" in dict(found.dropped)["E1"]
    assert "already taken by 'E2'" in dict(found.dropped)["E3"]


def test_of_several_electrodes_the_nearest_gets_the_row():
    site = template_positions()["C3"]
    positions = np.array([site + [0, offset, 0] for offset in (0.009, -0.001, 0.005)])
    found = map_channels(["E1", "E2", "E3"], match="position", positions=positions)
    assert [(row.label, row.name) for row in found.rows] == [("E2", "C3")]


def test_rows_are_given_by_position_once_per_site():
    assert len(MATCHED_BY_POSITION) == 86
    assert len(np.unique(electrode_positions(MATCHED_BY_POSITION), axis=0)) == 86
    assert {"T7", "P8", "FT9", "PO9", "IZ"} < set(MATCHED_BY_POSITION) < set(LABRAM_CHANNELS[:114])
    assert not {"T3", "T6", "T1", "A1", "M2", "CB1", "CFC3"} & set(MATCHED_BY_POSITION)


def test_matching_alone():
    sites = template_positions()
    points = {4: sites["C3"], 7: sites["T7"], 9: sites["C3"] + [0.001, 0, 0], 2: sites["CZ"] + [0, 0, 0.04]}
    matched, refused = match_nearest(points, [f"E{i}" for i in range(10)], {"T3": "EEG T3"}, 0.025)
    assert matched == {4: ("C3", 0.0)}
    assert refused[7] == "T7, the nearest row (0 mm), is already taken by 'EEG T3'"
    assert refused[9] == "C3, the nearest row (1 mm), is already taken by 'E4'"
    assert refused[2] == "40 mm from CZ, the nearest row"
    assert match_nearest({}, [], {}, 0.025) == ({}, {})


def test_auxiliary_channels_get_no_row_by_position():
    sites = template_positions()
    found = map_channels(["EOG1", "E1"], match="position", positions=np.array([sites["FPZ"], sites["OZ"]]))
    assert [row.label for row in found.rows] == ["E1"]


def test_the_farthest_distance_is_an_argument():
    labels, positions = cap("easycap-M10")
    found = map_channels(labels, match="position", positions=positions)
    strict = map_channels(labels, match="position", positions=positions, max_distance=0.01)
    assert {row.label for row in strict.rows} < {row.label for row in found.rows}
    assert max(row.distance_mm for row in strict.rows) <= 10
    assert np.median([row.distance_mm for row in found.rows]) < 13


def test_a_ten_five_electrode_without_a_row_has_the_templates_position():
    assert [label for label, _ in map_channels(["Cz", "FFC3h", "AFp1"]).dropped] == ["FFC3h", "AFp1"]
    found = map_channels(["Cz", "FFC3h"], match="position")
    assert found.rows[1].name in ("F3", "FC3", "F1", "FC1")
    assert 5 < found.rows[1].distance_mm < 25


def test_positions_are_offered_where_they_would_help():
    sites = template_positions()
    positions = np.array([sites["CZ"], sites["OZ"], [np.nan] * 3])
    reasons = dict(map_channels(["Cz", "E1", "E2"], positions=positions).dropped)
    assert "match='position'" in reasons["E1"]
    assert "match='position'" not in reasons["E2"]


def test_a_foreign_name_is_no_derivation():
    positions = np.tile(template_positions()["OZ"], (3, 1))
    for vocabulary in ("labram", None):
        found = map_channels(["FP1-F7", "F7-T7", "E1"], vocabulary, match="position", positions=positions)
        assert found.names == ["FP1-F7", "F7-T7"]
    with pytest.raises(ContractError):
        map_channels(["E1", "E2", "E3"], None, positions=positions, montages=("bipolar",))


def test_a_real_biosemi_recording_with_a_montage_is_placed(shared_data: Path):
    raw = mne.io.read_raw(shared_data / "clinical_formats" / "biosemi_bdf" / "eeglab_test.bdf", verbose="ERROR")
    raw.pick("eeg").set_montage("biosemi128")
    found = map_channels(raw.ch_names, match="position", positions=positions_from_chs(raw.info["chs"]))
    assert found.names[0] == "CZ"
    assert all(row.how == "position" for row in found.rows)
    assert found.n + len(found.dropped) == 16
