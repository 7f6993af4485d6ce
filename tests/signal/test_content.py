"""A recording is known again by what it holds."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace

import mne
import pytest

from mne_labram.signal.content import ContentIndex, content_of, files_of, is_unchanged
from mne_labram.signal.contract import ContractError
from mne_labram.signal.store import RecordingStore


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
    assert again.lookup(recording) == hashes
    assert list(hashes) == [str(path)]
    path.write_text("three")
    assert again.lookup(recording) is None
    assert content_of(recording) != hashes
    path.unlink()
    assert again.lookup(recording) is None
    with pytest.raises(FileNotFoundError):
        content_of(recording)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("x-epo.fif", ["x-epo-1.fif", "x-epo-2.fif"]),
        ("x_split-01_epo.fif", ["x_split-02_epo.fif", "x_split-03_epo.fif"]),
    ],
)
def test_split_epochs(tmp_path, name: str, parts: list[str]) -> None:
    _touch(tmp_path, name, *parts, "y-epo-1.fif", "x-epo-4.fif")
    assert [path.name for path in files_of(_recording(tmp_path / name))] == [name, *parts]


def test_split_recordings(make_raw, tmp_path) -> None:
    """MNE says which files it reads; another second part is another recording."""
    make_raw(600.0).save(tmp_path / "x_raw.fif", split_size="2MB", verbose="ERROR")
    (recording,) = RecordingStore(tmp_path).recordings
    names = [path.name for path in files_of(recording)]
    assert names[:2] == ["x_raw.fif", "x_raw-1.fif"]
    assert sorted(names) == sorted(path.name for path in tmp_path.iterdir())
    assert recording.n_times == 150_000


def test_what_changes_while_it_is_hashed(tmp_path, monkeypatch) -> None:
    path = tmp_path / "a.edf"
    path.write_text("one")
    digest = hashlib.file_digest

    def slow(file, kind):
        out = digest(file, kind)
        path.write_text("three")
        return out

    monkeypatch.setattr(hashlib, "file_digest", slow)
    with pytest.raises(ContractError, match=r"a\.edf changed while it was read; wait until"):
        content_of(_recording(path))
    monkeypatch.undo()
    content = content_of(_recording(path))
    assert is_unchanged(content)
    path.write_text("four")
    assert not is_unchanged(content)


@pytest.mark.parametrize("text", ["[1, 2]", '{"a": 5}', '{"a": [1, 2]}', "3", "{"])
def test_an_index_of_something_else_is_made_again(tmp_path, text: str) -> None:
    (tmp_path / "mne-labram-index.json").write_text(text)
    (tmp_path / "index.json").write_text("the user's own")
    index = ContentIndex(tmp_path)
    assert index.known == {}
    index.remember({str(tmp_path / "a"): (1, 2, "x")})
    index.save()
    assert ContentIndex(tmp_path).known == index.known
    assert (tmp_path / "index.json").read_text() == "the user's own"


def test_an_index_that_cannot_be_written_is_no_matter(tmp_path) -> None:
    index = ContentIndex(tmp_path / "gone")
    with mne.utils.catch_logging("INFO") as log:
        index.save()
    assert "cannot be written" in log.getvalue()


def test_what_changes_an_object(make_raw) -> None:
    def of(inst) -> str:
        return content_of(_recording(Path("a"), instance=inst))[""][2]

    raw = make_raw(2.0)
    values = [of(raw), of(make_raw(2.0, seed=1)), of(make_raw(2.0, sfreq=200.0)), of(raw.copy().crop(0, 1.5))]
    values.append(of(raw.copy().rename_channels({"C3": "C5"})))
    values.append(of(raw.copy().set_annotations(mne.Annotations([1], [0.5], ["BAD"]))))
    marked = raw.copy()
    marked.info["bads"] = ["C3"]
    values += [of(marked), of(mne.make_fixed_length_epochs(raw, 1.0, preload=True, verbose="ERROR"))]
    assert len(set(values)) == len(values)
    assert of(raw.copy()) == values[0]
