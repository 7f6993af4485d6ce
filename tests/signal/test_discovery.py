"""Which files are recordings, whose they are, and what a BIDS data set or Braindecode adds."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from types import SimpleNamespace

import mne
import pytest

from mne_labram.signal.contract import ContractError, SignalContract
from mne_labram.signal.discovery import find_recordings, open_found, subject_of_path
from mne_labram.signal.store import RecordingStore


@pytest.mark.parametrize(
    ("path", "subject"),
    [
        ("eegmat/Subject00_1.edf", "Subject00"),
        ("eegmmidb/S001R03.edf", "S001"),
        ("eegmmidb/S109/S109R14.edf", "S109"),
        ("chbmit/chb01_03_preictal.edf", "chb01"),
        ("chbmit/chb01/chb01_16_seizure_full.edf", "chb01"),
        ("uci_eeg/co2a0000369-epo.fif", "co2a0000369"),
        ("mi_openbci/S03_S1R0_raw.fif", "S03"),
        ("siena/PN00/PN00-1.edf", "PN00"),
        ("train/aaaaaaac/s001_2002/02_tcp_le/aaaaaaac_s001_t000.edf", "aaaaaaac"),
        ("ds/sub-07/ses-1/eeg/sub-07_ses-1_task-rest_eeg.edf", "07"),
        ("ds/sub-07/recording.edf", "07"),
        ("patients/p12/eeg_2.edf", "p12"),
        ("patients/p12/night1.edf", "p12"),
        ("patients/p12/01.edf", "p12"),
        ("patients/p12/raw.fif", "p12"),
        ("chbmit/chb24_R2.edf", "chb24"),
        ("x/R2.edf", "R2"),
    ],
)
def test_whose_recording_it_is(path: str, subject: str) -> None:
    assert subject_of_path(path) == subject
    assert subject_of_path(Path("/data") / path) == subject


def test_the_real_recordings(shared_data) -> None:
    found = [each for each in find_recordings(shared_data) if each.dataset != "clinical_formats"]
    subjects: dict[str, set[str]] = {}
    for each in found:
        subjects.setdefault(each.dataset, set()).add(each.subject)
    assert subjects["eegmat"] == {f"Subject{i:02d}" for i in range(24)}
    assert subjects["eegmmidb"] == {"S001"}
    assert subjects["chbmit"] == {"chb01"}
    assert subjects["mi_openbci"] == {f"S{i:02d}" for i in range(2, 7)}
    assert len(subjects["uci_eeg"]) == 14
    # Averages, covariances, head models, events and matrices are no recordings.
    assert set(subjects) == {"eegmat", "eegmmidb", "chbmit", "mi_openbci", "uci_eeg"}
    assert len(found) == len({each.path for each in found}) == 48 + 7 + 18 + 5 + 14


def _touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_a_folder_is_looked_through_in_order(tmp_path) -> None:
    _touch(tmp_path, "b/x_1.EDF", "a/y.bdf", "a/.hidden.edf", ".git/z.edf", "c.txt", "a/v.vhdr", "a/v.eeg", "a/w.eeg")
    _touch(tmp_path, "a/k-cov.fif", "a/k_raw.fif", "a/k_raw-1.fif", "a/k-epo.fif.gz", "a/k-ave.fif", "q/n.mff/info.xml")
    names = [each.path.relative_to(tmp_path).as_posix() for each in find_recordings(tmp_path)]
    assert names == ["a/k-epo.fif.gz", "a/k_raw.fif", "a/v.vhdr", "a/w.eeg", "a/y.bdf", "b/x_1.EDF", "q/n.mff"]


def test_data_sets_are_told_from_subjects(tmp_path) -> None:
    _touch(tmp_path, "one/S001R01.edf", "p07/eeg.edf", "chb02/chb02_1.edf", "here.edf")
    found = {each.path.name: (each.dataset, each.subject) for each in find_recordings(str(tmp_path))}
    root = tmp_path.name
    assert found["S001R01.edf"] == ("one", "S001")
    assert found["eeg.edf"] == (root, "p07")
    assert found["chb02_1.edf"] == (root, "chb02")
    assert found["here.edf"] == (root, "here")


def test_lists_hold_files_and_folders_once(tmp_path) -> None:
    _touch(tmp_path, "d/a_1.edf", "d/a_2.edf", "strange.xyz")
    source = [tmp_path / "d" / "a_2.edf", str(tmp_path / "d"), tmp_path / "strange.xyz", tmp_path / "gone.edf"]
    names = [each.path.name for each in find_recordings(source, subject_of=lambda path: path.parent.name)]
    assert names == ["a_2.edf", "a_1.edf", "strange.xyz", "gone.edf"]


def test_links_are_followed_once(tmp_path) -> None:
    """A link to a folder above or beside gives no recording twice; links to files are how git-annex keeps them."""
    _touch(tmp_path, "a/x_1.edf", "store/y_1.edf")
    (tmp_path / "a" / "back").symlink_to("..")
    (tmp_path / "latest").symlink_to("a")
    (tmp_path / "a" / "y_2.edf").symlink_to(tmp_path / "store" / "y_1.edf")
    names = [each.path.relative_to(tmp_path).as_posix() for each in find_recordings(tmp_path)]
    assert names == ["a/x_1.edf", "a/y_2.edf", "store/y_1.edf"]


def test_a_folder_that_must_not_be_looked_into(tmp_path, monkeypatch) -> None:
    """It is reported like a file that cannot be read, and the others are found."""
    _touch(tmp_path, "a/x_1.edf", "b/y_1.edf", "c/z_1.edf")
    iterdir = Path.iterdir

    def refuse(self):
        if self.name == "b":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return iterdir(self)

    monkeypatch.setattr(Path, "iterdir", refuse)
    found = list(find_recordings(tmp_path))
    assert [each.path.name for each in found] == ["x_1.edf", "b", "z_1.edf"]
    assert [each.problem is None for each in found] == [True, False, True]
    store = RecordingStore(tmp_path)
    (sentence,) = [sentence for path, sentence in store.skipped if path == str(tmp_path / "b")]
    assert (
        sentence == f"The folder {tmp_path / 'b'} cannot be looked into (Permission denied); get permission to read it."
    )
    with pytest.raises(ContractError, match="cannot be looked into"):
        RecordingStore(tmp_path / "b", errors="raise")


def test_paths_are_absolute(tmp_path, monkeypatch) -> None:
    _touch(tmp_path, "d/a_1.edf")
    monkeypatch.chdir(tmp_path)
    for source in ("d", Path("d/a_1.edf"), ["d/../d"]):
        (found,) = find_recordings(source)
        assert (found.path, found.dataset) == (tmp_path / "d" / "a_1.edf", "d")


def test_subjects_are_names(tmp_path) -> None:
    _touch(tmp_path, "1/a.edf")
    (found,) = find_recordings(tmp_path, subject_of=lambda path: int(path.parent.name))
    assert (found.subject, found.dataset) == ("1", tmp_path.name)
    with pytest.raises(TypeError, match=r"subject_of must return whose recording .*a\.edf is, got None"):
        list(find_recordings(tmp_path, subject_of=lambda path: None))


def test_split_recordings_are_one(tmp_path) -> None:
    _touch(tmp_path, "x_split-01_eeg.fif", "x_split-02_eeg.fif", "x_split-12_eeg.fif", "y_eeg.fif", "y_eeg-1.fif")
    assert [each.path.name for each in find_recordings(tmp_path)] == ["x_split-01_eeg.fif", "y_eeg.fif"]


def test_what_is_no_source(tmp_path, make_raw) -> None:
    for source in (tmp_path / "gone", "", "a\0b"):
        with pytest.raises(ContractError, match="There is no file or folder"):
            list(find_recordings(source))
    with pytest.raises(TypeError, match="got int"):
        list(find_recordings(3))
    with pytest.raises(TypeError, match="Paths are needed, got int"):
        list(find_recordings([3]))
    with pytest.raises(TypeError, match="call conform"):
        list(find_recordings(make_raw(1.0)))


def test_braindecode(make_raw, tmp_path) -> None:
    raw = make_raw(2.0)
    raw.save(tmp_path / "S05_raw.fif", verbose="ERROR")
    lazy = mne.io.read_raw_fif(tmp_path / "S05_raw.fif", verbose="ERROR")
    epochs = mne.make_fixed_length_epochs(raw, 1.0, preload=True, verbose="ERROR")
    source = SimpleNamespace(
        datasets=[
            SimpleNamespace(raw=raw, description={"subject": 3}),
            SimpleNamespace(raw=lazy, description=None),
            SimpleNamespace(windows=epochs, description={"subject": "k", "dataset": "D"}),
        ]
    )
    found = list(find_recordings(source))
    assert [(each.subject, each.dataset) for each in found] == [
        ("3", "braindecode"),
        ("S05", "braindecode"),
        ("k", "D"),
    ]
    assert found[0].instance is raw
    assert open_found(found[2]) is epochs
    unread = mne.make_fixed_length_epochs(raw, 1.0, preload=False, verbose="ERROR")
    (each,) = find_recordings(SimpleNamespace(datasets=[SimpleNamespace(windows=unread)]))
    assert len(each.instance) == 2
    assert not each.instance.preload
    assert not unread._bad_dropped
    by_path = list(find_recordings(source, subject_of=lambda path: path.name))
    assert by_path[1].subject == "S05_raw.fif"
    with pytest.raises(TypeError, match="neither a Raw nor Epochs"):
        list(find_recordings(SimpleNamespace(datasets=[SimpleNamespace(raw=None)])))


@pytest.fixture
def bids_root(tmp_path, make_raw) -> Path:
    """Write a small BIDS data set by hand, with a bad channel that only channels.tsv knows of."""
    root = tmp_path / "study"
    for subject in ("01", "02"):
        folder = root / f"sub-{subject}" / "eeg"
        folder.mkdir(parents=True)
        stem = folder / f"sub-{subject}_task-rest"
        mne.export.export_raw(f"{stem}_eeg.edf", make_raw(4.0, seed=int(subject)), verbose="ERROR")
        rows = [f"{name}\tEEG\tuV\t{'bad' if name == 'C3' else 'good'}" for name in make_raw(1.0).ch_names]
        Path(f"{stem}_channels.tsv").write_text("\n".join(["name\ttype\tunits\tstatus", *rows]) + "\n")
        about = {"TaskName": "rest", "SamplingFrequency": 250, "PowerLineFrequency": 60, "EEGReference": "n/a"}
        Path(f"{stem}_eeg.json").write_text(json.dumps(about))
    (root / "dataset_description.json").write_text(json.dumps({"Name": "study", "BIDSVersion": "1.9.0"}))
    _touch(root, "derivatives/sub-01/eeg/sub-01_task-rest_desc-clean_eeg.edf")
    return root


def test_bids(bids_root) -> None:
    for source in (bids_root, bids_root.parent):
        found = list(find_recordings(source))
        assert [(each.subject, each.dataset, each.bids) for each in found] == [
            ("01", "study", True),
            ("02", "study", True),
        ]
    notes: list[str] = []
    raw = open_found(found[0], notes)
    assert raw.info["bads"] == ["C3"]
    assert raw.info["line_freq"] == 60
    assert not raw.preload


def test_bids_in_a_store(bids_root, tmp_path) -> None:
    """Samples are read from the file; what is conformed knows of channels.tsv and of *_eeg.json."""
    store = RecordingStore(bids_root, errors="raise")
    assert [(each.subject, each.reader) for each in store.recordings] == [("01", "pread"), ("02", "pread")]
    assert store.read(1, 0, 250).shape == (8, 250)
    contract = SignalContract(sfreq=100.0, l_freq=1.0, h_freq=40.0, patch_samples=100)
    conformed = store.conform(contract, cache=tmp_path / "cache")
    assert all("C3" not in each.ch_names and len(each.ch_names) == 7 for each in conformed.recordings)
    assert conformed.report(0)["line_freq"] == 60
    # A channel that turns out to be good is another recording.
    table = next(bids_root.rglob("sub-01*_channels.tsv"))
    table.write_text(table.read_text().replace("bad", "good"))
    again = RecordingStore(bids_root).conform(contract, cache=tmp_path / "cache")
    assert [len(each.ch_names) for each in again.recordings] == [8, 7]


def test_a_broken_bids_data_set_is_one_sentence(bids_root) -> None:
    found = next(find_recordings(bids_root))
    found.path.write_bytes(b"0" * 300)
    with pytest.raises(ContractError, match="cannot be read as part of a BIDS data set"):
        open_found(found)
