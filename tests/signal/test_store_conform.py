"""ConformedStore: recordings conformed once, kept whole, and read window by window."""

from __future__ import annotations

import gc
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import mne
import numpy as np
import pytest
import torch

from mne_labram.signal import conform_many
from mne_labram.signal.conform import conform
from mne_labram.signal.contract import LABRAM_CONTRACT, ContractError
from mne_labram.signal.positions import electrode_positions
from mne_labram.signal.source import RawSource
from mne_labram.signal.store import RecordingStore

CONTRACT = replace(LABRAM_CONTRACT, name="test", l_freq=1.0, h_freq=40.0, sfreq=100.0, notch=False, patch_samples=100)


def _tree(folder: Path) -> dict[str, bytes]:
    """Return all recordings in a cache, by key and file."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "mne-labram-index.json")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(files)}


@pytest.fixture
def recordings(write_edf, make_eeg, tmp_path) -> Path:
    """Return a folder with three short recordings of two subjects."""
    (tmp_path / "data").mkdir()
    for number, name in enumerate(("a_1", "a_2", "b_1")):
        write_edf(f"data/{name}.edf", signals=list(make_eeg(3, 100 * (12 + number), 100, seed=number)))
    return tmp_path / "data"


def _expected(path: Path, contract=CONTRACT, **options) -> np.ndarray:
    out, _ = conform(path, contract, verbose="ERROR", **options)
    data = out.get_data(copy=False) if isinstance(out, mne.BaseEpochs) else out.get_data()[None]
    return 1e6 * np.concatenate(list(data), axis=1)


def _close(got: np.ndarray, expected: np.ndarray) -> bool:
    """Tell whether the difference is 16-bit rounding."""
    return bool((np.abs(got - expected).max(axis=1) <= np.abs(expected).max(axis=1) / 60_000 + 1e-4).all())


def test_it_holds_what_conform_returns(shared_data, tmp_path) -> None:
    paths = [
        shared_data / "eegmat" / "Subject03_2.edf",
        shared_data / "chbmit" / "chb01_03_preictal.edf",
        shared_data / "mi_openbci" / "S03_S1R0_raw.fif",
        shared_data / "uci_eeg" / "co2a0000364-epo.fif",
        shared_data / "clinical_formats" / "eeglab_set" / "eeglab_data.set",
    ]
    store = RecordingStore(paths, errors="raise").conform(cache=tmp_path / "cache")
    assert store.contract is LABRAM_CONTRACT
    assert [each.path for each in store.recordings] == paths
    assert [each.montage for each in store.recordings][:2] == ["referential", "bipolar"]
    for file, (path, each) in enumerate(zip(paths, store.recordings, strict=True)):
        expected = _expected(path, LABRAM_CONTRACT)
        assert (len(each.ch_names), each.n_times) == expected.shape
        assert _close(store.read(file, 0, each.n_times), expected)
        start = each.n_times // 2 + 3
        np.testing.assert_array_equal(
            store.read(file, start, 150), store.read(file, 0, each.n_times)[:, start : start + 150]
        )
        assert store.report(file)["source"] == path.name
        assert each.positions is None
        assert each.unusable.shape == (-(-each.n_times // 200),)
    assert store.n_seconds == sum(each.n_times for each in store.recordings) / 200 == 3600 * store.n_hours
    epochs = store.recordings[3]
    assert epochs.segments == [(i * 200, (i + 1) * 200) for i in range(30)]
    assert (store.windows(1.0).file == 3).sum() == 30
    assert (store.windows(2.0).file == 3).sum() == 0


def test_positions_are_kept_where_they_say_something(make_raw, tmp_path) -> None:
    raw = make_raw(10.0)
    places = electrode_positions(raw.ch_names)[:, :3]
    raw.set_montage(mne.channels.make_dig_montage(dict(zip(raw.ch_names, places, strict=True)), coord_frame="head"))
    raw.rename_channels({name: f"X{i:02d}" for i, name in enumerate(raw.ch_names)})
    raw.save(tmp_path / "a_raw.fif", verbose="ERROR")
    store = RecordingStore(tmp_path).conform(CONTRACT, match="position")
    assert store.recordings[0].positions.shape == (8, 6)
    assert np.isfinite(store.recordings[0].positions).all()


def test_gaps_are_segments(write_edf, tmp_path) -> None:
    onsets = [*range(10), *range(100, 112)]
    path = write_edf("g.edf", seconds=22, kind="EDF+D", onsets=onsets)
    found = RecordingStore(path)
    with pytest.raises(ContractError, match=r"Of 1 recording none can be conformed; the first: g\.edf is discont"):
        found.conform(CONTRACT, gaps="raise")
    store = found.conform(CONTRACT, cache=tmp_path / "cache")
    (each,) = store.recordings
    assert each.segments == [(0, 1000), (1000, 2200)]
    assert np.flatnonzero(each.unusable).tolist() == [9, 10]
    assert store.windows(3.0, usable_only=False).start.tolist() == [0, 300, 600, 1000, 1300, 1600, 1900]
    assert store.windows(3.0).start.tolist() == [0, 300, 600, 1300, 1600, 1900]
    assert _close(store.read(0, 0, 2200), _expected(path, gaps="split"))


def test_unusable_seconds_are_left_out(make_raw, tmp_path) -> None:
    raw = make_raw(20.0)
    raw.set_annotations(mne.Annotations([7.3], [1.5], ["BAD_move"]))
    raw.save(tmp_path / "a_raw.fif", verbose="ERROR")
    store = RecordingStore(tmp_path).conform(CONTRACT)
    assert np.flatnonzero(store.recordings[0].unusable).tolist() == [7, 8]
    assert store.windows(1.0).start.tolist() == [100 * i for i in range(20) if i not in (7, 8)]
    half = store.windows(2.0, stride=0.5).start
    assert half.tolist() == [50 * i for i in range(37) if not (i + 4 > 14 and i < 18)]
    assert len(store.windows(1.0, usable_only=False)) == 20


def test_unusable_epochs_are_left_out(make_raw, tmp_path) -> None:
    def spoil(x):
        x[:, 3 * 250 : 4 * 250] = np.nan  # the fourth epoch

    epochs = mne.make_fixed_length_epochs(make_raw(8.0, edit=spoil), 1.0, verbose="ERROR").load_data()
    epochs.save(tmp_path / "a-epo.fif", verbose="ERROR")
    store = RecordingStore(tmp_path).conform(CONTRACT)
    assert np.flatnonzero(store.recordings[0].unusable_segments).tolist() == [3]
    assert store.windows(1.0).start.tolist() == [0, 100, 200, 400, 500, 600, 700]
    assert len(store.windows(1.0, usable_only=False)) == 8


def test_what_mne_warns_of_is_in_the_report(make_raw, tmp_path, monkeypatch) -> None:
    epochs = mne.make_fixed_length_epochs(make_raw(8.0), 1.0, verbose="ERROR").load_data()
    epochs.save(tmp_path / "a-epo.fif", verbose="ERROR")
    make_raw(8.0).save(tmp_path / "b_raw.fif", verbose="ERROR")
    readers = {"mne.read_epochs": mne.read_epochs, "mne.io.read_raw": mne.io.read_raw}
    for name, reader in readers.items():

        def warn(*args, reader=reader, **kwargs):
            mne.utils.warn("The amplifier was hot.")
            return reader(*args, **kwargs)

        monkeypatch.setattr(name, warn)
    store = RecordingStore(tmp_path).conform(CONTRACT)
    assert [store.report(file)["source"] for file in (0, 1)] == ["a-epo.fif", "b_raw.fif"]
    for file in (0, 1):
        assert "While reading: The amplifier was hot." in store.report(file)["notes"]


def test_without_a_high_pass_offsets_cost_no_resolution(make_raw, tmp_path) -> None:
    raw = make_raw(12.0, edit=lambda x: np.add(x, 30_000, out=x))
    raw.save(tmp_path / "a_raw.fif", verbose="ERROR")
    contract = replace(CONTRACT, l_freq=None)
    expected = _expected(tmp_path / "a_raw.fif", contract)
    got = RecordingStore(tmp_path).conform(contract).read(0, 0, 1200)
    assert expected.mean() == pytest.approx(30_000, abs=100)
    assert np.abs(got - expected).max() < 0.01


# -- the cache -------------------------------------------------------------------------------------------------------
def test_what_is_there_is_not_made_again(recordings, tmp_path, monkeypatch) -> None:
    cache = tmp_path / "deep" / "cache"
    first = RecordingStore(recordings).conform(CONTRACT, cache=cache)
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}

    def refuse(*args, **kwargs):
        raise AssertionError("This was done before.")

    monkeypatch.setattr(conform_many, "plan_conform", refuse)
    with monkeypatch.context() as context:
        context.setattr(conform_many, "content_of", refuse)
        again = RecordingStore(recordings).conform(CONTRACT, cache=cache)
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*")} == before
    np.testing.assert_array_equal(again.read(1, 5, 700), first.read(1, 5, 700))
    # Under another name, or merely touched, it is the same recording.
    shutil.move(recordings / "a_1.edf", recordings / "c_9.edf")
    os.utime(recordings / "a_2.edf", (1, 1))
    (tmp_path / "deep" / "cache" / "mne-labram-index.json").write_text("not JSON")
    moved = RecordingStore(recordings).conform(CONTRACT, cache=cache)
    assert [each.subject for each in moved.recordings] == ["a", "b", "c"]
    np.testing.assert_array_equal(moved.read(2, 5, 700), first.read(0, 5, 700))


def test_another_content_contract_or_option_is_another_recording(recordings, tmp_path) -> None:
    cache = tmp_path / "cache"

    def n_kept() -> int:
        return len(list(cache.glob("*/recording.json")))

    store = RecordingStore(recordings)
    old = store.conform(CONTRACT, cache=cache).read(0, 0, 500)
    assert n_kept() == 3
    store.conform(replace(CONTRACT, h_freq=30.0), cache=cache)
    assert n_kept() == 6
    store.conform(CONTRACT, cache=cache, line_freq=50)
    store.conform(CONTRACT, cache=cache, line_freq=np.float32(50.0))
    store.conform(CONTRACT, cache=cache, line_freq=np.int64(50))
    assert n_kept() == 9
    path = recordings / "a_1.edf"
    content = bytearray(path.read_bytes())
    content[-100:] = bytes(100)
    path.write_bytes(content)
    assert np.abs(RecordingStore(recordings).conform(CONTRACT, cache=cache).read(0, 0, 500) - old).max() < 1
    assert n_kept() == 10


def test_copies_share_a_place(recordings, tmp_path) -> None:
    shutil.copy(recordings / "a_1.edf", recordings / "z_1.edf")
    store = RecordingStore(recordings).conform(CONTRACT, cache=tmp_path / "cache")
    assert len(store) == 4
    assert len(list((tmp_path / "cache").glob("*/recording.json"))) == 3
    np.testing.assert_array_equal(store.read(0, 0, 500), store.read(3, 0, 500))


def test_a_damaged_cache_is_mended(recordings, tmp_path) -> None:
    cache = tmp_path / "cache"
    RecordingStore(recordings).conform(CONTRACT, cache=cache)
    before = _tree(cache)
    victim = next(cache.glob("*/samples.npy"))
    victim.write_bytes(victim.read_bytes()[:-10])
    assert _tree(cache) != before
    RecordingStore(recordings).conform(CONTRACT, cache=cache)
    assert _tree(cache) == before


def test_a_cache_that_is_gone_is_one_sentence(recordings, tmp_path) -> None:
    store = RecordingStore(recordings).conform(CONTRACT, cache=tmp_path / "cache")
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(ContractError, match="make the store again"):
        store.read(0, 0, 100)
    with pytest.raises(ContractError, match="is gone"):
        store.report(0)


def test_the_size_is_said_before_anything_is_written(recordings, tmp_path, monkeypatch) -> None:
    cache = tmp_path / "cache"
    said = []

    def look(text: str) -> None:
        said.append((text, len(list(cache.glob("*/*")))))

    monkeypatch.setattr(conform_many.logger, "info", look)
    RecordingStore(recordings).conform(CONTRACT, cache=cache)
    (text,) = [text for text, n_files in said if "at most" in text and n_files == 0]
    assert "Conforming 3 recordings" in text
    assert str(cache) in text
    estimate = float(text.split("at most ")[1].split(" kB")[0]) * 1000
    size = sum(len(content) for content in _tree(cache).values())
    assert size <= estimate <= size + 3 * 20_000


def test_a_disk_too_small_is_refused(recordings, tmp_path, monkeypatch) -> None:
    usage = namedtuple("usage", "total used free")(10**9, 10**9 - 5000, 5000)
    monkeypatch.setattr(conform_many.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=r"3 recordings may take .* kB in .* and 5 kB are free; make room"):
        RecordingStore(recordings).conform(CONTRACT, cache=tmp_path / "cache")
    assert list((tmp_path / "cache").glob("*/*")) == []


def test_a_cache_that_cannot_be_made(recordings, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot be made"):
        RecordingStore(recordings).conform(CONTRACT, cache=tmp_path / "file" / "cache")


def test_a_temporary_cache_is_removed_when_nobody_needs_it(recordings) -> None:
    store = RecordingStore(recordings).conform(CONTRACT)
    folder = store.recordings[0].samples.folder.parent
    assert folder.is_dir()
    copy = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(copy.read(2, 0, 300), store.read(2, 0, 300))
    del copy
    some = store.select(subjects=["b"])
    del store
    gc.collect()
    assert folder.is_dir()
    assert some.read(0, 0, 100).shape == (3, 100)
    del some
    gc.collect()
    assert not folder.exists()


# -- what goes wrong -------------------------------------------------------------------------------------------------
def test_what_cannot_be_conformed_is_skipped_and_said_once(recordings, write_edf, tmp_path) -> None:
    (recordings / "empty_1.edf").write_bytes(b"")
    flat = [np.zeros(1200)] * 3
    write_edf("data/flat_1.edf", signals=flat)
    cache = tmp_path / "cache"
    with mne.utils.catch_logging("WARNING") as log:
        store = RecordingStore(recordings).conform(CONTRACT, cache=cache)
    said = log.getvalue()
    assert len(store) == 3
    assert [Path(path).name for path, _ in store.skipped] == ["empty_1.edf", "flat_1.edf"]
    assert "constant channels" in store.skipped[1][1]
    assert said.count("Skipped:") == 2
    assert said.count("Skipped: flat_1.edf: ") == 1
    with pytest.raises(ContractError, match=r"flat_1\.edf: "):
        RecordingStore(recordings).conform(CONTRACT, cache=cache, errors="raise")


def test_a_file_that_breaks_off_while_it_is_read(recordings, tmp_path, monkeypatch) -> None:
    read = RawSource.__call__
    pieces = []

    def break_off(self, start, stop):
        if Path(self.raw.filenames[0]).name == "a_2.edf":
            pieces.append(start)
            if len(pieces) > 4:
                raise ContractError("a_2.edf cannot be read after 3 s (cable), get it again.")
        return read(self, start, stop)

    monkeypatch.setattr(RawSource, "__call__", break_off)
    cache = tmp_path / "cache"
    store = RecordingStore(recordings).conform(CONTRACT, cache=cache)
    assert [each.path.name for each in store.recordings] == ["a_1.edf", "b_1.edf"]
    assert store.skipped == [(str(recordings / "a_2.edf"), "a_2.edf cannot be read after 3 s (cable), get it again.")]
    assert len(list(cache.iterdir())) == 3  # two recordings and the index
    monkeypatch.undo()
    assert len(RecordingStore(recordings).conform(CONTRACT, cache=cache)) == 3


def test_a_file_that_changes_while_it_is_read(recordings, tmp_path, monkeypatch) -> None:
    """It must not be kept under the name of what it was."""
    read = RawSource.__call__
    victim = recordings / "a_2.edf"

    def change(self, start, stop):
        if Path(self.raw.filenames[0]).name == victim.name:
            content = bytearray(victim.read_bytes())
            content[-50:] = bytes(50)
            victim.write_bytes(content)
        return read(self, start, stop)

    found = RecordingStore(recordings)
    cache = tmp_path / "cache"
    monkeypatch.setattr(RawSource, "__call__", change)
    store = found.conform(CONTRACT, cache=cache)
    monkeypatch.undo()
    assert store.skipped == [
        (str(victim), "a_2.edf changed while it was read; wait until it is finished and run this again.")
    ]
    assert len(list(cache.glob("*/recording.json"))) == 2
    again = RecordingStore(recordings).conform(CONTRACT, cache=cache)
    assert _close(again.read(1, 0, 1300), _expected(victim))


def test_nothing_to_conform_is_said(tmp_path) -> None:
    (tmp_path / "a_1.edf").write_bytes(b"")
    with pytest.raises(ContractError, match=r"There is no recording that can be read; the first: .*a_1\.edf"):
        RecordingStore(tmp_path).conform(CONTRACT)


def test_a_cache_that_must_not_be_written_to_can_be_read(recordings, tmp_path, monkeypatch) -> None:
    cache = tmp_path / "cache"
    first = RecordingStore(recordings).conform(CONTRACT, cache=cache)
    os.utime(recordings / "a_1.edf", (1, 1))  # so that the index is out of date

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("mne_labram.signal.content.written_whole", refuse)
    monkeypatch.setattr("mne_labram.signal.window_cache.Path.mkdir", lambda *args, **kwargs: None)
    again = RecordingStore(recordings).conform(CONTRACT, cache=cache)
    np.testing.assert_array_equal(again.read(0, 5, 700), first.read(0, 5, 700))


def test_a_cache_can_be_moved_and_lie_among_the_recordings(recordings, tmp_path, monkeypatch) -> None:
    (recordings / "index.json").write_text("the user's own")
    first = RecordingStore(recordings).conform(CONTRACT, cache=recordings)
    assert (recordings / "index.json").read_text() == "the user's own"
    again = RecordingStore(recordings)
    assert (len(again), again.skipped) == (3, [])
    expected = first.read(2, 0, 500)
    shutil.copytree(recordings, tmp_path / "elsewhere")
    monkeypatch.setattr(conform_many, "plan_conform", None)
    moved = RecordingStore(tmp_path / "elsewhere").conform(CONTRACT, cache=tmp_path / "elsewhere")
    np.testing.assert_array_equal(moved.read(2, 0, 500), expected)
    assert first.recordings[0] not in moved.recordings  # and no question of arrays


def test_a_file_that_vanishes_meanwhile_is_skipped(recordings) -> None:
    found = RecordingStore(recordings)
    (recordings / "a_2.edf").unlink()
    store = found.conform(CONTRACT)
    assert len(store) == 2
    assert "cannot be read" in store.skipped[0][1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"match": "names"}, "match must be"),
        ({"gaps": "ignore"}, "gaps must be"),
        ({"assume_unit": "volts"}, "unit"),
        ({"line_freq": -50}, "line_freq"),
        ({"errors": "ignore"}, "errors must be"),
    ],
)
def test_arguments_are_nobody_elses_fault(recordings, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        RecordingStore(recordings).conform(CONTRACT, **options)


def test_a_contract_is_not_a_name(recordings) -> None:
    with pytest.raises(TypeError, match="contract must be a SignalContract, got str"):
        RecordingStore(recordings).conform("labram")


def test_pieces_lie_within_the_recording(recordings) -> None:
    store = RecordingStore(recordings).conform(CONTRACT)
    for start, n_times in ((-1, 5), (0, 0), (1150, 51)):
        with pytest.raises(ValueError, match="do not lie within the 1200 samples"):
            store.read(0, start, n_times)


_BUILD = """
import sys
from pathlib import Path
from mne_labram.signal.store import RecordingStore
from tests_contract import CONTRACT
RecordingStore(Path(sys.argv[1])).conform(CONTRACT, cache=sys.argv[2])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_while_it_builds(recordings, make_eeg, write_edf, tmp_path) -> None:
    """Nothing half-done is ever listed, and the next build gives what an undisturbed one gives."""
    write_edf("data/long_1.edf", signals=list(make_eeg(3, 100 * 400, 100, seed=9)))
    about = (
        f"from mne_labram.signal.contract import SignalContract as S\nCONTRACT = S.from_dict({CONTRACT.to_dict()!r})\n"
    )
    (tmp_path / "tests_contract.py").write_text(about)
    undisturbed, cache = tmp_path / "undisturbed", tmp_path / "cache"
    RecordingStore(recordings).conform(CONTRACT, cache=undisturbed)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    for wanted in (1, 3):
        with subprocess.Popen(
            [sys.executable, "-c", _BUILD, str(recordings), str(cache)], env=environment, stdout=subprocess.DEVNULL
        ) as child:
            # Until so many are done and the next has begun.
            deadline = time.monotonic() + 60
            while child.poll() is None and time.monotonic() < deadline:
                if len(list(cache.glob("[!.]*/recording.json"))) >= wanted and list(cache.glob(".unfinished-*")):
                    break
                time.sleep(0.001)
            child.kill()
        whole = _tree(undisturbed)
        for name, content in _tree(cache).items():
            if not name.startswith("."):
                assert content == whole[name]
    RecordingStore(recordings).conform(CONTRACT, cache=cache)
    assert _tree(cache) == _tree(undisturbed)


class _Windows(torch.utils.data.Dataset):
    def __init__(self, store) -> None:
        self.store, self.table = store, store.windows(2.0)

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, i: int) -> torch.Tensor:
        return torch.from_numpy(self.store.read(self.table.file[i], self.table.start[i], self.table.n_times))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_data_loader_workers(recordings) -> None:
    data = _Windows(RecordingStore(recordings).conform(CONTRACT))
    expected = torch.stack([data[i] for i in range(len(data))])
    loader = torch.utils.data.DataLoader(data, batch_size=5, num_workers=2, multiprocessing_context="fork")
    torch.testing.assert_close(torch.cat(list(loader)), expected, rtol=0, atol=0)
    assert data[0].shape == (3, 200)  # the workers' end did not remove the temporary cache


def test_objects_in_memory(make_raw, tmp_path) -> None:
    from types import SimpleNamespace

    raws = [make_raw(12.0, seed=seed) for seed in (0, 1)]
    source = SimpleNamespace(
        datasets=[SimpleNamespace(raw=raw, description={"subject": i}) for i, raw in enumerate(raws)]
    )
    cache = tmp_path / "cache"
    store = RecordingStore(source).conform(CONTRACT, cache=cache)
    assert [each.subject for each in store.recordings] == ["0", "1"]
    expected = 1e6 * conform(raws[1], CONTRACT)[0].get_data()
    assert _close(store.read(1, 0, 1200), expected)
    n_kept = len(list(cache.glob("*/recording.json")))
    RecordingStore(source).conform(CONTRACT, cache=cache)
    assert len(list(cache.glob("*/recording.json"))) == n_kept == 2
    raws[0].set_annotations(mne.Annotations([2.0], [3.0], ["BAD_"]))
    store = RecordingStore(source).conform(CONTRACT, cache=cache)
    assert store.recordings[0].unusable.sum() == 3


def test_the_report_is_json(recordings, tmp_path) -> None:
    store = RecordingStore(recordings).conform(CONTRACT, cache=tmp_path / "cache")
    assert store.report(0)["contract"] == "test"
    about = json.loads((store.recordings[0].samples.folder / "recording.json").read_text())
    assert about["ch_names"] == store.recordings[0].ch_names == ["FP1", "FP2", "F3"]
