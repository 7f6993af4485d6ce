"""The template's electrodes, and those of the LaBraM list that are derived from them."""

from __future__ import annotations

import re

import mne
import numpy as np
import pytest

from mne_labram.signal.template import SAME_SITE, canonical_electrode, montage_in_head_frame, template_positions
from mne_labram.signal.vocabulary import LABRAM_CHANNELS

ELECTRODES = [name for name in LABRAM_CHANNELS if "-" not in name]


def mirror(name: str) -> str:
    """Name of the electrode on the other side: odd numbers are left, even right, z in the middle."""
    letters, number, half = re.fullmatch(r"([A-Z]+?)(\d+|Z)(h?)", name).groups()
    return name if number == "Z" else f"{letters}{int(number) + (1 if int(number) % 2 else -1)}{half}"


def test_every_labram_electrode_has_a_position():
    table = template_positions()
    assert len(ELECTRODES) == 120
    assert set(ELECTRODES) <= set(table)
    assert len(table) == 343 + 16
    positions = np.array(list(table.values()))
    assert np.isfinite(positions).all()
    # Head-sized, and above the line through the ears but for the lowest ring.
    assert 0.06 < np.linalg.norm(positions - [0, 0.015, 0.039], axis=1).min()
    assert np.linalg.norm(positions - [0, 0.015, 0.039], axis=1).max() < 0.12
    assert positions[:, 2].min() > -0.03


def test_positions_are_those_that_set_montage_gives():
    name = "colin27_1005" if "colin27_1005" in mne.channels.get_builtin_montages() else "standard_1005"
    labels = ["Fp1", "Cz", "T3", "FTT9h", "O2"]
    info = mne.create_info(labels, 100.0, "eeg").set_montage(name)
    for ch, label in zip(info["chs"], labels, strict=True):
        np.testing.assert_allclose(ch["loc"][:3], template_positions()[canonical_electrode(label)], atol=1e-7)


def test_coordinates_are_pinned():
    # Our own weights depend on them: a template that moved must not pass unnoticed.
    table = template_positions()
    np.testing.assert_allclose(1e3 * table["CZ"], [-1.37, 27.62, 140.20], atol=0.01)
    np.testing.assert_allclose(1e3 * table["FP1"], [-30.90, 114.59, 27.87], atol=0.01)
    np.testing.assert_allclose(1e3 * table["O2"], [27.68, -80.49, 54.73], atol=0.01)
    np.testing.assert_allclose(1e3 * table["T7"], [-85.98, 14.87, 31.17], atol=0.01)


@pytest.mark.parametrize("name", ELECTRODES)
def test_left_and_right_are_mirror_images(name: str):
    position, other = template_positions()[name], template_positions()[mirror(name)]
    # The template is one man's head: equal names are up to 5.6 mm from each other's mirror image.
    assert np.linalg.norm(position * [-1, 1, 1] - other) < 0.006
    side = re.fullmatch(r"[A-Z]+?(\d+|Z)h?", name)[1]
    assert np.sign(position[0]) == (-1 if side == "Z" or int(side) % 2 else 1)


def test_old_and_new_names_are_one_site():
    table = template_positions()
    for old, new in (("T3", "T7"), ("T4", "T8"), ("T5", "P7"), ("T6", "P8")):
        np.testing.assert_array_equal(table[old], table[new])


@pytest.mark.parametrize(
    ("name", "corners"),
    [
        ("CFC1", "FC1 FCZ C1 CZ"),
        ("CFC2", "FC2 FCZ C2 CZ"),
        ("CFC3", "FC3 FC1 C3 C1"),
        ("CFC6", "FC6 FC4 C6 C4"),
        ("CFC7", "FT7 FC5 T7 C5"),
        ("CFC8", "FT8 FC6 T8 C6"),
        ("CCP7", "TP7 CP5 T7 C5"),
        ("CCP8", "TP8 CP6 T8 C6"),
    ],
)
def test_berlin_names_lie_in_the_middle_of_a_mesh(name: str, corners: str):
    table = template_positions()
    middle = np.mean([table[corner] for corner in corners.split()], axis=0)
    # The mean of four points of a sphere lies below its surface.
    assert np.linalg.norm(table[name] - middle) < 0.006


@pytest.mark.parametrize(
    ("sibling", "names"), [("postfixed", ["T1", "T2", "Cb1", "Cb2"]), ("1020", ["O9", "O10", "T3", "A1"])]
)
def test_added_names_are_where_the_sibling_templates_have_them(sibling: str, names: list[str]):
    available = mne.channels.get_builtin_montages()
    montage = f"colin27_{sibling}" if f"colin27_{sibling}" in available else f"standard_{sibling}"
    # In the sibling's own frame, where both hold the same numbers.
    ten_five = mne.channels.make_standard_montage(
        "colin27_1005" if "colin27_1005" in available else "standard_1005"
    ).get_positions()["ch_pos"]
    ten_five = {name.upper(): position for name, position in ten_five.items()}
    theirs = mne.channels.make_standard_montage(montage).get_positions()["ch_pos"]
    for name in names:
        np.testing.assert_allclose(theirs[name], ten_five[SAME_SITE.get(name.upper(), name.upper())], atol=1e-9)


def test_the_table_cannot_be_changed():
    with pytest.raises(TypeError):
        template_positions()["CZ"] = np.zeros(3)
    with pytest.raises(ValueError, match="read-only"):
        template_positions()["CZ"][0] = 0.0


def test_names_are_whole_and_in_any_case():
    assert canonical_electrode("fp1") == "FP1"
    assert canonical_electrode("FTT9H") == "FTT9h"
    assert canonical_electrode("Fp") is None
    assert canonical_electrode("") is None


def test_a_montage_in_the_head_frame_keeps_its_names():
    positions = montage_in_head_frame("biosemi64")
    assert len(positions) == 64
    assert positions["Fp1"][1] > 0.05
