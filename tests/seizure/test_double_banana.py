"""Whatever was recorded, as a double banana."""

from __future__ import annotations

import pytest

from mne_labram.seizure.double_banana import double_banana, is_involved
from mne_labram.signal.vocabulary import DOUBLE_BANANA

OLD = "Fp1 Fp2 F7 F3 Fz F4 F8 T3 C3 Cz C4 T4 T5 P3 Pz P4 T6 O1 O2".split()


def test_referential_channels_become_the_montage():
    labels = [f"EEG {name}-REF" for name in OLD]
    montage, found = double_banana([*labels, "ECG", "A1-REF"])
    assert montage == "double banana, computed from the referential channels"
    assert ["-".join(each.electrodes) for each in found] == list(DOUBLE_BANANA)
    # The recording's own names: T3 is not called T7.
    assert [each.name for each in found][:4] == ["Fp1-F7", "F7-T3", "T3-T5", "T5-O1"]
    assert [(labels[each.anode], labels[each.cathode]) for each in found][1] == ("EEG F7-REF", "EEG T3-REF")
    assert [each.side for each in found] == ["left"] * 4 + ["right"] * 4 + ["left"] * 4 + ["right"] * 4 + [
        "midline"
    ] * 2


def test_bipolar_channels_are_shown_as_recorded():
    labels = ["FZ-CZ", "T8-P8-0", "FP1-F7", "F7-T3", "P7-T7", "T8-P8-1", "ECG"]
    montage, found = double_banana(labels)
    assert montage.startswith("bipolar as recorded")
    assert [each.name for each in found] == ["Fp1-F7", "F7-T3", "T8-P8", "Fz-Cz", "P7-T7"]
    assert [each.anode for each in found] == [2, 3, 1, 0, 4]
    assert {each.cathode for each in found} == {None}


def test_neighbours_are_joined_where_an_electrode_is_missing():
    montage, found = double_banana([name for name in OLD if name not in ("C3", "T3", "F7", "T5")])
    names = [each.name for each in found]
    assert "F3-P3" in names
    # Of the left temporal chain nothing but its ends is there, which the parasagittal chain has as well.
    assert "Fp1-O1" not in names
    assert "joined" in montage


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["C3"], ["C3"]),
        (["C3", "C4", "ECG"], ["C3", "C4"]),
        (["left", "right"], ["left", "right"]),
        (["ECG"], []),
        ([], []),
        ([f"E{k}" for k in range(1, 129)], [f"E{k}" for k in range(1, 33)]),
        (["FP1-F7", "F7-T7", "C3-REF", "C4-REF"], ["Fp1-F7", "F7-T7", "C3", "C4"]),
    ],
)
def test_what_cannot_be_a_double_banana_is_shown_as_it_is(labels, names):
    assert [each.name for each in double_banana(labels)[1]] == names


def test_involved_traces():
    _, found = double_banana(OLD)

    def involved(*channels):
        return [each.name for each in found if is_involved(each, channels)]

    assert involved() == []
    assert involved("EEG T7-REF") == ["F7-T3", "T3-T5"]
    assert involved("T3-T5") == ["T3-T5"]
    assert involved("nonsense") == []
    assert len(involved("all")) == 18
    _, unnamed = double_banana(["left", "right"])
    assert [is_involved(each, ["right"]) for each in unnamed] == [False, True]
