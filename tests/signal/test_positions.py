"""Positions by name, from a recording, and nearest to a point."""

from __future__ import annotations

import mne
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mne_labram.signal.positions import electrode_positions, nearest_electrodes, positions_from_chs
from mne_labram.signal.template import template_positions
from mne_labram.signal.vocabulary import DOUBLE_BANANA, LABRAM_CHANNELS


def test_all_136_names_have_both_ends():
    positions = electrode_positions(LABRAM_CHANNELS)
    assert positions.shape == (136, 6)
    assert np.isfinite(positions).all()
    referential = np.array(["-" not in name for name in LABRAM_CHANNELS])
    np.testing.assert_array_equal(positions[referential, :3], positions[referential, 3:])
    lengths = np.linalg.norm(positions[:, :3] - positions[:, 3:], axis=1)
    # Neighbours of a chain of the 10-20 system are 5 to 9 cm apart in a straight line.
    assert 0.045 < lengths[~referential].min()
    assert lengths[~referential].max() < 0.09


def test_the_double_banana_has_18_different_channels():
    positions = electrode_positions(DOUBLE_BANANA)
    assert len(np.unique(positions, axis=0)) == 18
    np.testing.assert_array_equal(positions[0], np.r_[template_positions()["FP1"], template_positions()["F7"]])


def test_a_reversed_derivation_has_its_ends_exchanged():
    forward, backward = electrode_positions(["T7-P7", "P7-T7"])
    np.testing.assert_array_equal(forward, np.roll(backward, 3))


def test_distances_are_those_of_a_head():
    fp1, o1, t7, t8, cz, fz, oz, iz = electrode_positions(["FP1", "O1", "T7", "T8", "CZ", "FZ", "OZ", "IZ"])[:, :3]
    assert 0.17 < np.linalg.norm(fp1 - o1) < 0.21
    assert 0.15 < np.linalg.norm(t7 - t8) < 0.18
    assert cz[2] > max(fz[2], oz[2]) > iz[2]
    assert fp1[1] > 0.1 > -0.05 > o1[1]
    assert t7[0] < 0 < t8[0]


def test_labels_of_a_recording_will_do():
    np.testing.assert_array_equal(
        electrode_positions(["EEG Fp1-REF", "T8-P8-0", "F7-T3"]), electrode_positions(["FP1", "T8-P8", "F7-T7"])
    )
    assert electrode_positions([]).shape == (0, 6)


def test_unknown_names_are_named():
    with pytest.raises(ValueError, match="'E12', 'ECG'"):
        electrode_positions(["FP1", "E12", "ECG"])
    with pytest.raises(TypeError, match="one string"):
        electrode_positions("FP1")


def test_positions_that_a_recording_carries():
    info = mne.create_info(["Fp1", "Cz", "ear", "odd", "far"], 100.0, "eeg")
    info["chs"][0]["loc"][:3] = [0.01, 0.02, 0.03]
    info["chs"][1]["loc"][:] = 0.0
    info["chs"][3]["loc"][:3] = [0.01, np.inf, 0.0]
    info["chs"][4]["loc"][:3] = [0.01, 0.02, 0.03]
    info["chs"][4]["coord_frame"] = mne.io.constants.FIFF.FIFFV_COORD_MRI
    before = [ch["loc"].copy() for ch in info["chs"]]
    positions = positions_from_chs(info["chs"])
    np.testing.assert_array_equal(positions[0], [0.01, 0.02, 0.03])
    assert np.isnan(positions[1:]).all()
    for ch, loc in zip(info["chs"], before, strict=True):
        np.testing.assert_array_equal(ch["loc"], loc)


def test_positions_of_braindecode_channel_infos():
    chs = [{"ch_name": "C3", "loc": [0.05, 0, 0.1]}, {"ch_name": "C4"}, {"ch_name": "C5", "loc": None}]
    positions = positions_from_chs([*chs, {"ch_name": "C6", "loc": np.zeros(2)}])
    np.testing.assert_array_equal(positions[0], [0.05, 0, 0.1])
    assert np.isnan(positions[1:]).all()
    assert positions_from_chs([]).shape == (0, 3)


def test_positions_of_real_recordings(shared_data):
    raw = mne.io.read_raw(shared_data / "mi_openbci" / "S02_S1R0_raw.fif", verbose="ERROR")
    # This recording was given MNE's template by name.
    np.testing.assert_allclose(positions_from_chs(raw.info["chs"]), electrode_positions(raw.ch_names)[:, :3], atol=1e-6)
    raw = mne.io.read_raw(shared_data / "eegmat" / "Subject00_1.edf", verbose="ERROR")
    assert np.isnan(positions_from_chs(raw.info["chs"])).all()


@given(st.permutations(sorted(template_positions())[::9]), st.floats(0, 0.002), st.integers(0, 2**32 - 1))
def test_the_nearest_electrode_is_found(names: list[str], noise: float, seed: int):
    sites = electrode_positions(names)[:, :3]
    direction = np.random.default_rng(seed).standard_normal(sites.shape)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    index, distance = nearest_electrodes(sites + noise * direction, names)
    np.testing.assert_allclose(distance, noise, atol=1e-9)
    np.testing.assert_array_equal(sites[index], sites)


def test_only_finite_points_have_a_nearest_electrode():
    with pytest.raises(ValueError, match="finite"):
        nearest_electrodes(np.full((1, 3), np.nan), ["CZ"])
    with pytest.raises(ValueError, match="'XX'"):
        nearest_electrodes(np.zeros((1, 3)), ["XX"])
