"""A recording is known again by what it holds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import mne
import pytest

from mne_labram.signal.content import ContentIndex, content_of, files_of


def _recording(path: Path, *, bids: bool = False, instance=None) -> SimpleNamespace:
    return SimpleNamespace(path=path, bids=bids, instance=instance)


def _touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("a.edf", []),
        ("a.vhdr", ["a.eeg", "a.vmrk"]),
        ("a.set", ["a.fdt"]),
        ("a.EEG", ["a.21E", "a.PNT"]),
    ],
)
def test_files_that_belong_together(tmp_path, name: str, others: list[str]) -> None:
    _touch(tmp_path, name, *others, "a.txt", "b.eeg", "b.fdt")
    assert sorted(path.name for path in files_of(_recording(tmp_path / name))) == sorted([name, *others])


def test_a_recording_that_is_a_folder(tmp_path) -> None:
    _touch(tmp_path, "a.mff/info.xml", "a.mff/deep/signal.bin", "b.xml")
    assert [path.name for path in files_of(_recording(tmp_path / "a.mff"))] == ["signal.bin", "info.xml"]


def test_side_cars_of_bids(tmp_path) -> None:
    stem = "ds/sub-1/ses-2/eeg/sub-1_ses-2_task-rest"
    _touch(tmp_path, "ds/dataset_description.json", f"{stem}_eeg.edf", f"{stem}_channels.tsv", f"{stem}_eeg.json")
    _touch(tmp_path, "ds/task-rest_eeg.json", "ds/sub-1/ses-2/eeg/sub-1_ses-2_space-CapTrak_electrodes.tsv")
    _touch(
        tmp_path, f"{stem}_run-1_channels.tsv", "ds/task-other_eeg.json", "ds/participants.tsv", "task-rest_eeg.json"
    )
    found = files_of(_recording(tmp_path / f"{stem}_eeg.edf", bids=True))
    assert [path.relative_to(tmp_path).as_posix() for path in found] == [
        f"{stem}_eeg.edf",
        "ds/sub-1/ses-2/eeg/sub-1_ses-2_space-CapTrak_electrodes.tsv",
        f"{stem}_channels.tsv",
        f"{stem}_eeg.json",
        "ds/task-rest_eeg.json",
    ]


def test_the_index_trusts_size_and_time_only(tmp_path) -> None:
    path = tmp_path / "a.edf"
    path.write_text("one")
    recording = _recording(path)
    index = ContentIndex(tmp_path)
    assert index.lookup(recording) is None
    hashes = content_of(recording)
    index.remember(hashes)
    index.save()
    again = ContentIndex(tmp_path)
    assert again.lookup(recording) == hashes == {str(path): hashes[str(path)]}
    path.write_text("three")
    assert again.lookup(recording) is None
    assert content_of(recording) != hashes
    path.unlink()
    assert again.lookup(recording) is None
    again.remember({str(path): "x"})  # it vanished meanwhile
    with pytest.raises(FileNotFoundError):
        content_of(recording)


def test_what_changes_an_object(make_raw) -> None:
    def of(inst) -> str:
        return content_of(_recording(Path("a"), instance=inst))[""]

    raw = make_raw(2.0)
    values = [of(raw), of(make_raw(2.0, seed=1)), of(make_raw(2.0, sfreq=200.0)), of(raw.copy().crop(0, 1.5))]
    values.append(of(raw.copy().rename_channels({"C3": "C5"})))
    values.append(of(raw.copy().set_annotations(mne.Annotations([1], [0.5], ["BAD"]))))
    marked = raw.copy()
    marked.info["bads"] = ["C3"]
    values += [of(marked), of(mne.make_fixed_length_epochs(raw, 1.0, preload=True, verbose="ERROR"))]
    assert len(set(values)) == len(values)
    assert of(raw.copy()) == values[0]
