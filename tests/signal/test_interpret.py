"""Labels are read in the light of each other."""

from __future__ import annotations

import pytest

from mne_labram.signal.interpret import detect_montage, interpret_labels
from mne_labram.signal.vocabulary import DOUBLE_BANANA

TEN_TWENTY = "Fp1 Fp2 F7 F3 Fz F4 F8 T3 C3 Cz C4 T4 T5 P3 Pz P4 T6 O1 O2".split()


@pytest.mark.parametrize("suffix", ["", "-REF", "-LE", "-Avg", "-A2", "-M1", "-CS2", "-(A1+A2)/2"])
def test_one_reference_is_referential(suffix: str):
    labels = [f"EEG {name}{suffix}" for name in TEN_TWENTY]
    assert detect_montage([*labels, "ECG", "Photic"]) == "referential"


def test_references_on_either_side_are_referential():
    labels = ["Fp1-A1", "Fp2-A2", "C3-A2", "C4-A1", "O1-A2", "O2-A1", "LOC-A2", "EMG1"]
    assert detect_montage(labels) == "referential"


def test_a_common_scalp_electrode_is_a_reference():
    labels = [f"{name}-Cz" for name in TEN_TWENTY if name != "Cz"]
    montage, parsed = interpret_labels(labels)
    assert montage == "referential"
    assert [channel.name for channel in parsed] == [name.upper() for name in TEN_TWENTY if name != "Cz"]
    assert {channel.reference for channel in parsed} == {"CZ"}
    assert detect_montage([*labels, "Cz"]) == "referential"
    assert detect_montage([*labels, "Pz-Oz"]) == "bipolar"


def test_two_neighbours_of_a_chain_are_bipolar():
    assert detect_montage(["P3-O1", "P7-O1"]) == "bipolar"
    assert detect_montage(["EEG Fpz-Cz", "EEG Pz-Oz"]) == "bipolar"
    assert detect_montage(["FP1-F7"]) == "bipolar"


def test_the_double_banana_is_bipolar():
    assert detect_montage(DOUBLE_BANANA) == "bipolar"
    assert detect_montage([*DOUBLE_BANANA, "ECG", "-", "--0", ".", "A2-A1", "VNS"]) == "bipolar"


def test_an_ear_ends_a_transverse_chain():
    labels = ["A1-T3", "T3-C3", "C3-Cz", "Cz-C4", "C4-T4", "T4-A2", "F7-F3", "F3-Fz", "Fz-F4", "F4-F8"]
    montage, parsed = interpret_labels(labels)
    assert montage == "bipolar"
    assert [channel.name for channel in parsed] == [label.upper() for label in labels]
    assert all(channel.reference is None for channel in parsed)


def test_both_kinds_are_mixed():
    assert detect_montage(["Fp1-REF", "F7-REF", "Fp1-F7"]) == "mixed"
    assert detect_montage(["Fp1", "F7", "Fp1-F7"]) == "mixed"
    assert detect_montage(["Fp1-A2", "F7-A2", "C3-A2", "Fp1-F7", "F7-T3"]) == "mixed"
    assert detect_montage(["F3-Cz", "C3-Cz", "P3-Cz", "Fp1", "Fp2"]) == "mixed"
    assert detect_montage(["Fp1", "F7", "A2-A1"]) == "referential"


def test_no_electrode_at_all():
    assert detect_montage([]) == "referential"
    assert detect_montage(["E1", "E2", "ECG"]) == "referential"


def kinds(labels: list[str]) -> dict[str, str]:
    return {channel.label: channel.kind for channel in interpret_labels(labels)[1]}


def test_a_biosemi_cap_has_no_ears():
    cap = [f"{bank}{number}" for bank in "ABCD" for number in range(1, 33)]
    assert set(kinds(cap).values()) == {"unknown"}
    assert set(kinds([f"A{number}" for number in range(1, 17)]).values()) == {"unknown"}
    # A selection of it, too: C3 is the third electrode of the third bank.
    assert set(kinds(["A1", "A2", "B5", "B7", "C3", "F4"]).values()) == {"unknown"}
    _, parsed = interpret_labels(cap)
    assert parsed[0].name == "cap A1"
    assert interpret_labels([channel.name for channel in parsed])[1][0].kind == "unknown"


def test_ears_beside_a_ten_twenty_montage_are_ears():
    found = kinds([*TEN_TWENTY, "A1", "A2", "T1", "T2", "E", "X1", "B1"])
    assert found["A1"] == found["A2"] == found["T1"] == "electrode"
    ten_ten = [
        f"{row}{number}" for row, last in (("F", 8), ("C", 6), ("P", 8), ("O", 2)) for number in range(1, last + 1)
    ]
    assert set(kinds(ten_ten).values()) == {"electrode"}


def test_a_series_beside_scalp_electrodes_is_doubted_alone():
    found = kinds(["Fp1", "Cz", "C3", "C4", "F3", "A1", "A2", "A3", "A4", "A5", "POL B1", "POL B2"])
    assert found["A1"] == found["A2"] == found["POL B1"] == "unknown"
    assert found["C3"] == found["F3"] == found["Fp1"] == "electrode"


def test_numbered_channels_are_not_occipital():
    assert set(kinds(["01", "02", "03", "04"]).values()) == {"unknown"}
    assert set(kinds(["EEG 01", "EEG 02", "EEG 03", "EEG 04"]).values()) == {"unknown"}
    assert kinds(["Fp1", "P3", "01", "02"])["01"] == "electrode"


def test_labels_must_be_a_list():
    with pytest.raises(TypeError, match="sequence"):
        interpret_labels("Fp1")
