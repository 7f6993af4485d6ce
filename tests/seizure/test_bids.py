"""SzCORE's BIDS through mne-bids."""

from __future__ import annotations

import shutil
from pathlib import Path

import mne_bids
import pytest

from mne_labram import read_raw_szcore_bids
from mne_labram.seizure.events import SeizureEvent
from mne_labram.seizure.readers import events_from_annotations, find_events
from mne_labram.seizure.szcore import COLUMNS
from mne_labram.signal.contract import ContractError

HEADER = "\t".join(COLUMNS)
DATE = "1985-01-01 00:00:00"
ROWS = (
    f"0.5\t20.25\tsz_foc_ia\t0.9\tFP1-F7,F7-T7\t{DATE}\t40.0",
    f"25\t4\tsz_gen\tn/a\tall\t{DATE}\t40.0",
    f"30\t2\tbckg\tn/a\tn/a\t{DATE}\t40.0",
)


@pytest.fixture
def tree(tmp_path: Path, shared_data: Path):
    """Return a function that makes a SzCORE data set of one real recording."""

    def make(*rows: str, header: str = HEADER) -> Path:
        folder = tmp_path / "BIDS" / "sub-01" / "ses-01" / "eeg"
        folder.mkdir(parents=True, exist_ok=True)
        base = "sub-01_ses-01_task-szMonitoring_run-00"
        shutil.copy(shared_data / "chbmit" / "chb01_03_seizure_full.edf", folder / f"{base}_eeg.edf")
        (folder / f"{base}_events.tsv").write_text("\n".join((header, *rows, "")))
        (tmp_path / "BIDS" / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.7.0"}')
        return folder / f"{base}_eeg.edf"

    return make


def test_descriptions_are_types(tree) -> None:
    path = tree(*ROWS)
    raw = read_raw_szcore_bids(path)
    assert raw.annotations.description.tolist() == ["sz_foc_ia", "sz_gen"]
    assert raw.annotations.onset.tolist() == [0.5, 25]
    assert raw.annotations.duration.tolist() == [20.25, 4]
    first, second = (annotation["extras"] for annotation in raw.annotations)
    assert first["confidence"] == 0.9
    assert first["channels"] == "FP1-F7,F7-T7"
    assert second["confidence"] is None
    assert not raw.preload
    assert events_from_annotations(raw) == find_events(path)
    assert events_from_annotations(raw).events[0] == SeizureEvent(0.5, 20.25, "sz_foc_ia", 0.9, ("FP1-F7", "F7-T7"))
    with_background = read_raw_szcore_bids(path, background=True)
    assert with_background.annotations.description.tolist() == ["sz_foc_ia", "sz_gen", "bckg"]


def test_bids_path_and_other_spellings(tree) -> None:
    path = tree(f"1\t2\tsz-foc\tn/a\tn/a\t{DATE}\t40", f"3\t2\tsz_what\tn/a\tn/a\t{DATE}\t40")
    root = path.parents[3]
    for suffix in ("eeg", None):
        bids_path = mne_bids.BIDSPath(
            subject="01", session="01", task="szMonitoring", run="00", suffix=suffix, root=root, check=False
        )
        with pytest.warns(RuntimeWarning, match="read as sz"):
            raw = read_raw_szcore_bids(bids_path)
        assert raw.annotations.description.tolist() == ["sz_foc", "sz"]


def test_other_annotations_stay(tree) -> None:
    raw = read_raw_szcore_bids(tree("1\t2\trest", "5\t1\tseizure", header="onset\tduration\ttrial_type"))
    assert raw.annotations.description.tolist() == ["rest", "seizure"]
    header = f"{HEADER}\tlateralization"
    raw = read_raw_szcore_bids(tree(f"1\t2\timpd\tn/a\tn/a\t{DATE}\t40\tleft", header=header))
    assert raw.annotations.description.tolist() == ["impd"]
    assert raw.annotations[0]["extras"]["lateralization"] == "left"


def test_a_recording_without_seizures_or_without_events(tree) -> None:
    path = tree(f"0\t40\tbckg\tn/a\tn/a\t{DATE}\t40")
    assert len(read_raw_szcore_bids(path).annotations) == 0
    path.with_name(path.name.replace("_eeg.edf", "_events.tsv")).unlink()
    # Then the file's own annotations stay.
    assert read_raw_szcore_bids(path).annotations.description.tolist() == ["seizure"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (f"-1\t2\tsz\tn/a\tn/a\t{DATE}\t40", "line 2: the onset '-1' lies before"),
        (f"=cmd|x\t2\tsz\tn/a\tn/a\t{DATE}\t40", "line 2: onset must be a number"),
        ("1\t2\tsz", "line 2: there are 3 cells"),
    ],
)
def test_wrong_events_are_named_with_their_line(tree, row: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^sub-01_ses-01_task-szMonitoring_run-00_events\.tsv, {message}"):
        read_raw_szcore_bids(tree(row))


def test_wrong_paths(tree, tmp_path: Path) -> None:
    path = tree(*ROWS)
    with pytest.raises(FileNotFoundError, match="There is no recording"):
        read_raw_szcore_bids(tmp_path / "absent_eeg.edf")
    with pytest.raises(FileNotFoundError, match="There is no recording"):
        read_raw_szcore_bids(mne_bids.BIDSPath(subject="99", task="x", root=path.parents[3]))
    with pytest.raises(TypeError, match="BIDSPath or a path"):
        read_raw_szcore_bids(7)
    for wrong in (path.parents[3], path.with_name(path.name.replace("_eeg.edf", "_events.tsv"))):
        with pytest.raises(ValueError, match="is no recording; pass the path of one"):
            read_raw_szcore_bids(wrong)
    other = tmp_path / "recording.edf"
    shutil.copy(path, other)
    with pytest.raises(ValueError, match=r"recording\.edf is no recording named by BIDS"):
        read_raw_szcore_bids(other)
    path.write_bytes(b"junk")
    with pytest.raises(ContractError, match="cannot be read as part of a BIDS data set"):
        read_raw_szcore_bids(path)
