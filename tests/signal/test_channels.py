"""Labels become the channels that a model knows, and what is left out is said."""

from __future__ import annotations

import json
from pathlib import Path

import mne
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mne_labram.signal.channels import map_channels, vocabulary_rows
from mne_labram.signal.contract import ContractError
from mne_labram.signal.positions import electrode_positions, positions_from_chs
from mne_labram.signal.vocabulary import DOUBLE_BANANA, GRAM_CHANNELS, LABRAM_CHANNELS, VOCABULARIES

PARASAGITTAL = LABRAM_CHANNELS[128:]
TEN_TWENTY = "Fp1 Fp2 F7 F3 Fz F4 F8 T3 C3 Cz C4 T4 T5 P3 Pz P4 T6 O1 O2".split()
UPPER_TEN_TWENTY = [name.upper() for name in TEN_TWENTY]


# ---------------------------------------------------------------------------------------------------------------------
# rows of the table


def test_the_table_is_the_official_one():
    assert vocabulary_rows(LABRAM_CHANNELS[:128]) == list(range(1, 129))


@pytest.mark.parametrize("name", PARASAGITTAL)
def test_parasagittal_pairs_have_no_row(name: str):
    with pytest.raises(ValueError, match=f"'{name}': no row in the official table; use spatial='coordinates'"):
        vocabulary_rows(["FP1", name])


def test_old_names_have_rows_of_their_own():
    assert vocabulary_rows(["T3", "T7"]) == [LABRAM_CHANNELS.index("T3") + 1, LABRAM_CHANNELS.index("T7") + 1]


def test_old_names_of_a_pair_give_the_row_of_the_new_ones():
    new = ["F7-T7", "T7-P7", "P7-O1", "F8-T8", "T8-P8", "P8-O2"]
    assert vocabulary_rows(["F7-T3", "T3-T5", "T5-O1", "F8-T4", "T4-T6", "T6-O2"]) == vocabulary_rows(new)
    assert vocabulary_rows(["T3-P7"]) == vocabulary_rows(["T7-P7"])


def test_bad_names_are_named():
    with pytest.raises(ValueError, match=r"'E12', 'ECG': no name"):
        vocabulary_rows(["FP1", "E12", "ECG"])
    with pytest.raises(ValueError, match="'FCC3h': no row"):
        vocabulary_rows(["FP1", "FCC3h"])
    with pytest.raises(ValueError, match="'T8-P8-0', 'T8-P8-1': the same channel"):
        vocabulary_rows(["T8-P8-0", "FP1-F7", "T8-P8-1"])
    with pytest.raises(ValueError, match="vocabulary"):
        vocabulary_rows(["FP1"], vocabulary="biot")
    with pytest.raises(TypeError, match="one string"):
        vocabulary_rows("FP1")
    assert vocabulary_rows([]) == []


@given(st.lists(st.sampled_from(LABRAM_CHANNELS), min_size=1, max_size=20, unique=True))
def test_no_row_is_ever_out_of_range(names: list[str]):
    try:
        rows = vocabulary_rows(names)
    except ValueError:
        assert set(names) & set(PARASAGITTAL)
    else:
        assert rows == [LABRAM_CHANNELS.index(name) + 1 for name in names]
        assert max(rows) <= 128


@pytest.mark.parametrize(("vocabulary", "n"), [("labram", 128), ("gram", 130)])
def test_every_name_of_a_vocabulary_has_its_row_and_is_kept(vocabulary: str, n: int):
    names = VOCABULARIES[vocabulary]
    assert vocabulary_rows(names, vocabulary) == list(range(1, n + 1))
    for row, name in enumerate(names, start=1):
        found = map_channels([name], vocabulary)
        assert (found.names, found.rows[0].row, found.rows[0].how) == ([name], row, "exact")
        assert found.vocabulary == vocabulary
    for together in ([name for name in names if "-" not in name], [name for name in names if "-" in name]):
        found = map_channels(together, vocabulary)
        assert (found.names, found.dropped) == (together, ())


def test_where_the_two_vocabularies_differ():
    assert set(LABRAM_CHANNELS) - set(GRAM_CHANNELS) == {name for name in LABRAM_CHANNELS if "h" in name}
    assert set(GRAM_CHANNELS) - set(VOCABULARIES["labram"]) == set(PARASAGITTAL)
    found = map_channels(["FTT9h", "CZ"], "gram")
    assert (found.names, found.dropped[0][0]) == (["CZ"], "FTT9h")
    assert "no row in the official table" in found.dropped[0][1]
    # By position the half step gets the row of the nearest site, as FFC3h does with LaBraM.
    found = map_channels(["FTT9h", "CZ"], "gram", match="position", positions=np.full((2, 3), np.nan))
    assert found.rows[0].how == "position"
    assert GRAM_CHANNELS[found.rows[0].row - 1] == found.rows[0].name
    # The other name of an electrode, and the other sign.
    assert map_channels(["F7-T3", "P3-O1"], "gram").names == ["F7-T7", "P3-O1"]
    found = map_channels(["C3-F3", "P3-O1"], "gram")
    assert "it is F3-C3 with the opposite sign" in found.dropped[0][1]


# ---------------------------------------------------------------------------------------------------------------------
# by name


@pytest.mark.parametrize("decoration", ["{}", "EEG {}-REF", "EEG {}-LE", "{}-Avg", "{}-A2", "POL {}", "{}."])
@pytest.mark.parametrize("vocabulary", ["labram", None])
def test_a_ten_twenty_montage_is_kept_whole(decoration: str, vocabulary: str | None):
    labels = [decoration.format(name) for name in TEN_TWENTY]
    found = map_channels([*labels, "ECG", "Photic"], vocabulary)
    assert found.names == UPPER_TEN_TWENTY
    assert found.kept == list(range(19))
    assert found.n == 19
    assert found.montage == "referential"
    assert {row.how for row in found.rows} == {"exact"}
    assert [label for label, _ in found.dropped] == ["ECG", "Photic"]
    np.testing.assert_array_equal(found.positions, electrode_positions(TEN_TWENTY))
    if vocabulary:
        assert [row.row for row in found.rows] == vocabulary_rows(UPPER_TEN_TWENTY)


def test_the_reference_is_reported():
    assert map_channels(["Fp1-REF", "Cz-REF"]).reference == "REF"
    assert map_channels(["Fp1-A2", "Fp2-A1", "C3-A2"]).reference == "A2/A1"
    assert map_channels(["Fp1", "Cz"]).reference is None
    vertex = map_channels(["Fp1-Cz", "F3-Cz", "P3-Cz"])
    assert (vertex.montage, vertex.reference, vertex.names) == ("referential", "CZ", ["FP1", "F3", "P3"])


def test_the_double_banana_by_rows_and_by_coordinates():
    by_row = map_channels(DOUBLE_BANANA)
    assert by_row.names == list(DOUBLE_BANANA[:8])
    assert [row.row for row in by_row.rows] == list(range(121, 129))
    reasons = dict(by_row.dropped)
    assert set(reasons) == set(DOUBLE_BANANA[8:])
    assert all("no row in the official table; use spatial='coordinates'" in reason for reason in reasons.values())

    by_coordinates = map_channels(DOUBLE_BANANA, None)
    assert by_coordinates.names == list(DOUBLE_BANANA)
    assert by_coordinates.dropped == ()
    assert all(row.row is None for row in by_coordinates.rows)
    np.testing.assert_array_equal(by_coordinates.positions, electrode_positions(DOUBLE_BANANA))


def test_an_old_double_banana_gets_the_new_names_of_the_rows():
    found = map_channels(["Fp1-F7", "F7-T3", "T3-T5", "T5-O1", "Fp1-F3"])
    assert found.names == ["FP1-F7", "F7-T7", "T7-P7", "P7-O1"]
    assert [row.how for row in found.rows] == ["exact", "alias", "alias", "alias"]
    assert [label for label, _ in found.dropped] == ["Fp1-F3"]


def test_a_reversed_derivation_is_another_channel():
    found = map_channels(["F7-FP1", "F7-T7"])
    assert found.names == ["F7-T7"]
    assert "FP1-F7 with the opposite sign" in dict(found.dropped)["F7-FP1"]
    assert map_channels(["F7-FP1", "FP1-F7"], None).names == ["F7-FP1", "FP1-F7"]


def test_of_equal_names_the_first_is_kept():
    found = map_channels(["T8-P8-0", "F8-T8", "T8-P8-1", "EEG T8-P8"])
    assert found.kept == [0, 1]
    assert dict(found.dropped) == dict.fromkeys(["T8-P8-1", "EEG T8-P8"], "T8-P8 is already taken by 'T8-P8-0'")


def test_ear_against_ear_is_dropped():
    for vocabulary in ("labram", None):
        found = map_channels(["Fp1", "A1", "EEG A2-A1"], vocabulary)
        assert found.names == ["FP1", "A1"]
        assert "reference" in dict(found.dropped)["EEG A2-A1"]


def test_a_transverse_chain_loses_the_ear_that_is_a_cathode():
    labels = ["A1-T3", "T3-C3", "C3-Cz", "Cz-C4", "C4-T4", "T4-A2"]
    found = map_channels(labels, None)
    assert found.names == ["A1-T3", "T3-C3", "C3-CZ", "CZ-C4", "C4-T4"]
    assert "ear" in dict(found.dropped)["T4-A2"]
    np.testing.assert_array_equal(found.positions, electrode_positions(found.names))


def test_both_names_of_one_electrode_keep_their_rows():
    assert map_channels(["T3", "T7"]).names == ["T3", "T7"]


def test_montages_that_a_model_does_not_take_are_refused():
    with pytest.raises(ContractError, match="bipolar .FP1-F7, F7-T7"):
        map_channels(DOUBLE_BANANA, montages=("referential",))
    with pytest.raises(ContractError, match="referential .Fp1"):
        map_channels(TEN_TWENTY, montages=("bipolar",))
    with pytest.raises(ContractError, match=r"mixes 19 referential channels .* and 1 bipolar derivations \(Fp1-F7\)"):
        map_channels([*TEN_TWENTY, "Fp1-F7"])
    assert map_channels([*TEN_TWENTY, "A2-A1", "ECG1-ECG2", "LOC-A2"]).n == 19


def test_nothing_usable_is_refused():
    with pytest.raises(ContractError, match="no EEG channels"):
        map_channels([])
    with pytest.raises(ContractError, match=r"None of the 3 channels can be used \(E1, E2, E3\).*match='position'"):
        map_channels(["E1", "E2", "E3"])
    with pytest.raises(ContractError, match=r"no row in the official table.*rows\)\.$"):
        map_channels(PARASAGITTAL)
    with pytest.raises(ContractError, match="position is unknown"):
        map_channels(["E1", "E2"], match="position", positions=np.full((2, 3), np.nan))
    with pytest.raises(ContractError, match="numbered by the recorder"):
        map_channels([f"A{i}" for i in range(1, 33)], None)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="match"):
        map_channels(["Fp1"], match="nearest")
    with pytest.raises(ValueError, match="vocabulary"):
        map_channels(["Fp1"], "biot")
    with pytest.raises(ValueError, match=r"shape \(1, 3\)"):
        map_channels(["Fp1"], match="position", positions=np.zeros((2, 3)))
    with pytest.raises(TypeError, match="string"):
        map_channels("Fp1")


def test_a_map_is_plain_json():
    found = map_channels(["EEG Fp1-REF", "EEG T8-REF", "ECG"])
    fields = json.loads(json.dumps(found.to_dict()))
    assert fields["reference"] == "REF"
    assert fields["kept"][0] == {"label": "EEG Fp1-REF", "name": "FP1", "row": 1, "how": "exact", "distance_mm": None}
    assert fields["dropped"] == [{"label": "ECG", "reason": "an auxiliary channel, not EEG"}]


LABELS = st.one_of(
    st.sampled_from(LABRAM_CHANNELS),
    st.sampled_from(["EEG Fp1-REF", "A3", "B7", "ECG", "E12", "-", "--0", "F7-FP1", "FCC3h", "T8-P8-0", "P3-A2", "01"]),
    st.text(max_size=6),
)


@given(st.lists(LABELS, max_size=25), st.sampled_from(["labram", None]), st.booleans())
def test_every_label_is_kept_or_dropped_once(labels: list[str], vocabulary: str | None, by_position: bool):
    points = np.random.default_rng(len(labels)).normal(size=(len(labels), 3))
    points *= 0.1 / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-9)
    points[::3] = np.nan
    arguments = {"match": "position" if by_position else "name", "positions": points if by_position else None}
    before = points.copy()
    try:
        found = map_channels(labels, vocabulary, **arguments)
    except ContractError:
        return
    np.testing.assert_array_equal(points, before)
    assert found.kept == sorted(set(found.kept))
    assert sorted([row.label for row in found.rows] + [label for label, _ in found.dropped]) == sorted(labels)
    assert len(set(found.names)) == found.n > 0
    assert all(labels[row.index] == row.label for row in found.rows)
    assert all(reason for _, reason in found.dropped)
    assert found.positions.shape == (found.n, 6)
    assert np.isfinite(found.positions).all()
    if vocabulary:
        rows = [row.row for row in found.rows]
        assert len(set(rows)) == len(rows)
        assert [LABRAM_CHANNELS[row - 1] for row in rows] == found.names
        assert max(rows) <= 128
        assert vocabulary_rows(found.names) == rows
    else:
        assert all(row.row is None for row in found.rows)
    for row in found.rows:
        assert (row.distance_mm is not None) == (row.how == "position" and vocabulary is not None)


# ---------------------------------------------------------------------------------------------------------------------
# real recordings


def read(path: Path) -> tuple[list[str], np.ndarray]:
    """EEG labels and positions of a recording."""
    with mne.utils.use_log_level("ERROR"):
        if path.name.endswith("-epo.fif"):
            info = mne.read_epochs(path).info
        else:
            info = mne.io.read_raw(path).info
    picks = mne.pick_types(info, eeg=True, exclude=())
    chs = [info["chs"][pick] for pick in picks]
    return [ch["ch_name"] for ch in chs], positions_from_chs(chs)


def uppers(text: str) -> list[str]:
    return text.upper().split()


NIHON_KOHDEN = uppers("Fp2 Fp1 F4 F3 C4 C3 P4 P3 O2 O1 F8 F7 T4 T3 T6 T5 Fz Cz Pz A2 A1")
REFERENTIAL = {
    "clinical_formats/brainvision/test.vhdr": (
        uppers("FP1 FP2 F3 F4 C3 C4 P3 P4 O1 O2 F7 F8 P7 P8 Fz FCz Cz CPz Pz POz FC1 FC2 CP1 CP2 FC5 FC6"),
        set(),
        None,
    ),
    "clinical_formats/edf/eeglab_test.edf": (
        uppers("Fp1 Fp2 T3 T4 T5 T6 F7 F8 F3 F4 C3 C4 P3 P4 O1 O2"),
        set(),
        None,
    ),
    "clinical_formats/eeglab_set/eeglab_data.set": (
        uppers(
            "FPz F3 Fz F4 FC5 FC1 FC2 FC6 T7 C3 C4 Cz T8 CP5 CP1 CP2 CP6 P7 P3 Pz P4 P8 PO7 PO3 POz PO4 PO8 O1 Oz O2"
        ),
        {"EOG1", "EOG2"},
        None,
    ),
    "clinical_formats/nihon_kohden/MB0400FU.EEG": (NIHON_KOHDEN, {"E"}, None),
    "clinical_formats/nihon_kohden/MB0400FU.EDF": (NIHON_KOHDEN, {"POL E", "POL X1", "POL $A2", "POL $A1"}, "REF"),
    "eegmat/Subject00_1.edf": (
        uppers("Fp1 Fp2 F3 F4 F7 F8 T3 T4 C3 C4 T5 T6 P3 P4 O1 O2 Fz Cz Pz"),
        {"EEG A2-A1", "ECG ECG"},
        None,
    ),
    "eegmmidb/S001R01.edf": (
        uppers(
            "FC5 FC3 FC1 FCz FC2 FC4 FC6 C5 C3 C1 Cz C2 C4 C6 CP5 CP3 CP1 CPz CP2 CP4 CP6 FP1 FPz FP2 AF7 AF3 AFz AF4 "
            "AF8 F7 F5 F3 F1 Fz F2 F4 F6 F8 FT7 FT8 T7 T8 T9 T10 TP7 TP8 P7 P5 P3 P1 Pz P2 P4 P6 P8 PO7 PO3 POz PO4 "
            "PO8 O1 Oz O2 Iz"
        ),
        set(),
        None,
    ),
    "mi_openbci/S02_S1R0_raw.fif": (uppers("Pz Cz T6 T4 F8 P4 C4 F4 Fz T5 T3 F7 P3 C3 F3"), set(), None),
    "uci_eeg/co2a0000364-epo.fif": (
        uppers(
            "Fp1 Fp2 F7 F8 AF1 AF2 Fz F4 F3 FC6 FC5 FC2 FC1 T8 T7 Cz C3 C4 CP5 CP6 CP1 CP2 P3 P4 Pz P8 P7 PO2 PO1 O2 "
            "O1 AF7 AF8 F5 F6 FT7 FT8 Fpz FC4 FC3 C6 C5 F2 F1 TP8 TP7 AFz CP3 CP4 P5 P6 C1 C2 PO7 PO8 FCz POz Oz P2 "
            "P1 CPz"
        ),
        set(),
        None,
    ),
}


@pytest.mark.parametrize("fname", REFERENTIAL)
def test_real_referential_recordings(shared_data: Path, fname: str):
    names, dropped, reference = REFERENTIAL[fname]
    labels, positions = read(shared_data / fname)
    for vocabulary, match in (("labram", "name"), ("labram", "position"), (None, "name")):
        found = map_channels(labels, vocabulary, match=match, positions=positions)
        assert found.names == names
        assert {label for label, _ in found.dropped} == dropped
        assert found.montage == "referential"
        assert found.reference == reference
        assert {row.how for row in found.rows} == {"exact"}


def test_real_bipolar_recording(shared_data: Path):
    labels, positions = read(shared_data / "chbmit" / "chb01_03_ictal.edf")
    assert len(labels) == 23
    found = map_channels(labels, positions=positions)
    assert found.montage == "bipolar"
    assert sorted(found.names) == sorted(LABRAM_CHANNELS[120:128])
    reasons = dict(found.dropped)
    assert set(PARASAGITTAL) < set(reasons)
    assert "T7-P7 with the opposite sign" in reasons["P7-T7"]
    assert "already taken by 'T8-P8-0'" in reasons["T8-P8-1"]
    assert {"FZ-CZ", "CZ-PZ", "T7-FT9", "FT9-FT10", "FT10-T8"} < set(reasons)
    assert sorted(map_channels(labels, "gram").names) == sorted(GRAM_CHANNELS[114:])
    free = map_channels(labels, None)
    assert free.n == 22
    assert set(DOUBLE_BANANA) < set(free.names)
    assert [label for label, _ in free.dropped] == ["T8-P8-1"]


@pytest.mark.parametrize(("fname", "n"), [("biosemi_bdf/eeglab_test.bdf", 16), ("edf/test.edf", 138)])
@pytest.mark.parametrize("vocabulary", ["labram", None])
def test_real_biosemi_recordings_are_refused_without_positions(
    shared_data: Path, fname: str, n: int, vocabulary: str | None
):
    labels, positions = read(shared_data / "clinical_formats" / fname)
    for match in ("name", "position"):
        with pytest.raises(ContractError, match=f"None of the {n} channels.*numbered by the recorder"):
            map_channels(labels, vocabulary, match=match, positions=positions)


@pytest.mark.parametrize("folder", ["eegmat", "eegmmidb", "mi_openbci", "uci_eeg", "chbmit"])
def test_all_files_of_a_real_data_set_agree(shared_data: Path, folder: str):
    files = sorted(path for path in (shared_data / folder).iterdir() if path.suffix in (".edf", ".fif"))
    assert len(files) >= 5
    names = {tuple(map_channels(read(path)[0]).names) for path in files}
    assert len(names) == 1
