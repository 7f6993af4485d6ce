"""RecordingStore: recordings as they are, read like MNE reads them, from anywhere, whatever is wrong with some."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mne
import numpy as np
import pytest
import torch

from mne_labram.signal.contract import ContractError
from mne_labram.signal.recording import look_at
from mne_labram.signal.store import RecordingStore, WindowTable


def _microvolts(path: Path, start: int, n_times: int, names: list[str]) -> np.ndarray:
    raw = mne.io.read_raw(path, preload=False, verbose="ERROR")
    return 1e6 * raw.get_data(picks=names, start=start, stop=start + n_times, verbose="ERROR")


def test_every_format_is_read_as_mne_reads_it(shared_data) -> None:
    store = RecordingStore([shared_data / name for name in ("clinical_formats", "eegmmidb", "mi_openbci")])
    assert store.skipped == []
    assert {each.path.suffix.lower() for each in store.recordings} == {
        ".bdf", ".edf", ".eeg", ".fif", ".set", ".vhdr"
    }  # fmt: skip
    for file, each in enumerate(store.recordings):
        start, length = each.n_times // 3, min(each.n_times // 2, 1000)
        got = store.read(file, start, length)
        assert (got.dtype, got.shape) == (np.float32, (len(each.ch_names), length))
        expected = _microvolts(each.path, start, length, each.ch_names)
        assert np.abs(got - expected).max() <= 1e-6 * max(1.0, np.abs(expected).max()) + 1e-2 * (each.reader == "pread")
        assert each.reader == ("pread" if each.path.suffix.lower() in (".edf", ".bdf") else "mne")


def test_epochs_are_segments(shared_data) -> None:
    path = shared_data / "uci_eeg" / "co2a0000364-epo.fif"
    store = RecordingStore(path)
    epochs = mne.read_epochs(path, verbose="ERROR")
    (each,) = store.recordings
    assert each.n_times == len(epochs) * 256
    assert each.segments[3] == (768, 1024)
    assert "nd" not in each.ch_names or epochs.get_channel_types(["nd"]) != ["misc"]
    data = 1e6 * epochs.get_data(picks=each.ch_names)
    np.testing.assert_allclose(store.read(0, 768, 256), data[3], rtol=1e-6)
    np.testing.assert_allclose(store.read(0, 700, 200), np.concatenate(list(data), axis=1)[:, 700:900], rtol=1e-6)
    assert store.windows(0.5, stride=0.25).start.tolist()[:4] == [0, 64, 128, 256]


def test_only_headers_are_read(shared_data, monkeypatch) -> None:
    def refuse(*args, **kwargs):
        raise AssertionError("Samples were read.")

    monkeypatch.setattr(mne.io.BaseRaw, "get_data", refuse)
    monkeypatch.setattr("mne.io.edf.edf._read_segment_file", refuse)
    monkeypatch.setattr("os.pread", refuse, raising=False)
    store = RecordingStore([shared_data / "eegmat", shared_data / "chbmit"])
    assert (len(store), store.skipped) == (48 + 18, [])
    assert len({each.subject for each in store.recordings}) == 25


def test_windows(write_edf) -> None:
    paths = [write_edf(f"p{i}_1.edf", seconds=3 + i, sfreq=100) for i in range(3)]
    store = RecordingStore(paths)
    table = store.windows(2.0)
    assert isinstance(table, WindowTable)
    assert (table.file.dtype, table.start.dtype, table.n_times) == (np.int32, np.int64, 200)
    assert list(zip(table.file.tolist(), table.start.tolist(), strict=True)) == [
        (0, 0),
        (1, 0),
        (1, 200),
        (2, 0),
        (2, 200),
    ]
    assert len(store.windows(2.0, stride=0.5)) == 3 + 5 + 7
    assert len(store.windows(30.0)) == 0
    assert table != store.windows(2.0)  # arrays have no one answer
    some = table.take([4, 0])
    assert (some.file.tolist(), some.start.tolist(), len(some)) == ([2, 0], [200, 0], 2)
    assert len(table.take(table.file == 1)) == 2
    for seconds in (0, -1, np.nan):
        with pytest.raises(ValueError, match="seconds must be a positive number"):
            store.windows(seconds)
    with pytest.raises(TypeError, match="seconds must be a number"):
        store.windows("4")


def test_different_rates_have_no_common_window(write_edf) -> None:
    store = RecordingStore([write_edf("a_1.edf", sfreq=100), write_edf("b_1.edf", sfreq=50)])
    with pytest.raises(ContractError, match=r"different sampling rates \(50, 100 Hz\); conform"):
        store.windows(1.0)
    assert store.select(subjects=["b"]).windows(1.0).n_times == 50


def test_gaps_are_not_crossed(write_edf) -> None:
    onsets = [0, 1, 2, 3, 10, 11, 12, 13, 14, 15]
    store = RecordingStore(write_edf("g.edf", seconds=10, sfreq=100, kind="EDF+D", onsets=onsets))
    assert store.recordings[0].segments == [(0, 400), (400, 1000)]
    assert store.windows(3.0).start.tolist() == [0, 400, 700]
    assert store.recordings[0].reader == "pread"


def test_seams_of_other_formats_are_not_crossed(make_raw, tmp_path) -> None:
    raw = mne.concatenate_raws([make_raw(4.0, seed=1), make_raw(6.0, seed=2)], verbose="ERROR")
    raw.save(tmp_path / "x_raw.fif", verbose="ERROR")
    assert RecordingStore(tmp_path).recordings[0].segments == [(0, 1000), (1000, 2500)]


def test_picks(write_edf) -> None:
    store = RecordingStore(write_edf(seconds=4))
    whole = store.read(0, 50, 100)
    first, second, third = store.recordings[0].ch_names
    np.testing.assert_array_equal(store.read(0, 50, 100, [2, 0]), whole[[2, 0]])
    np.testing.assert_array_equal(store.read(0, 50, 100, [second]), whole[[1]])
    for picks in ([3], [-1], ["C9"]):
        with pytest.raises(ValueError, match="has no channel"):
            store.read(0, 0, 10, picks)
    with pytest.raises(TypeError, match="one string"):
        store.read(0, 0, 10, first)


@pytest.mark.parametrize(("start", "n_times"), [(-1, 5), (0, 0), (0, 401), (400, 1)])
def test_pieces_lie_within_the_recording(write_edf, start: int, n_times: int) -> None:
    with pytest.raises(ValueError, match="do not lie within the 400 samples"):
        RecordingStore(write_edf(seconds=4)).read(0, start, n_times)


def _edit(path: Path, at: int, text: str) -> None:
    content = bytearray(path.read_bytes())
    content[at : at + len(text)] = text.encode()
    path.write_bytes(content)


def test_what_mne_scales_otherwise_is_read_by_mne(write_edf, caplog) -> None:
    """Equal physical limits: MNE takes a range of 1, this package one of 0."""
    path = write_edf(seconds=4, n_chans=3)
    _edit(path, 256 + 3 * (16 + 80 + 8) + 8, f"{500:<8}")  # physical minimum of the second channel
    store = RecordingStore(path)
    assert store.recordings[0].reader == "pread"
    with mne.utils.catch_logging("INFO") as log:
        got = store.read(0, 10, 50)
        store.read(0, 10, 50)
    assert log.getvalue().count("is read by MNE, because") == 1
    assert store.recordings[0].reader == "mne"
    np.testing.assert_allclose(got, _microvolts(path, 10, 50, store.recordings[0].ch_names), rtol=1e-6)
    assert np.ptp(got[1]) > 0


@pytest.mark.parametrize("unit", ["uV", "mV", "V", "nV", "", "\u00b5V"])
def test_units_are_mnes(write_edf, unit: str) -> None:
    path = write_edf(seconds=3, units=unit)
    store = RecordingStore(path)
    got = store.read(0, 0, 100)
    assert store.recordings[0].reader == "pread"
    np.testing.assert_allclose(got, _microvolts(path, 0, 100, store.recordings[0].ch_names), rtol=1e-5, atol=1e-4)


def test_channels_at_other_rates_are_left_out_and_named(write_edf) -> None:
    rng = np.random.default_rng(0)
    signals = [rng.uniform(-100, 100, rate * 10) for rate in (100, 100, 400)]
    path = write_edf(signals=signals, labels=["C3", "C4", "ECG"], rates=[100, 100, 400])
    with mne.utils.catch_logging("WARNING") as log:
        store = RecordingStore(path)
    assert "left out: ECG" in log.getvalue()
    assert "left out: ECG" in store.recordings[0].notes[0]
    got = store.read(0, 130, 500)
    assert store.recordings[0].reader == "pread"  # MNE agrees when it is asked for these channels alone
    assert np.abs(got - np.array(signals[:2])[:, 130:630]).max() < 0.02


@pytest.mark.parametrize("labels", [["C3", "C3", "ECG", "C4"], ["C3", "ECG", "C3", "C4"], ["T3", "T3", "T3", "T3"]])
def test_labels_that_occur_twice_beside_another_rate(write_edf, labels) -> None:
    """MNE chooses channels by the label in the file, not by the number that it adds."""
    rng = np.random.default_rng(0)
    signals = [rng.uniform(-100, 100, rate * 10) for rate in (100, 100, 400, 100)]
    store = RecordingStore(write_edf(signals=signals, labels=labels, rates=[100, 100, 400, 100]))
    if len(set(labels)) > 1:
        got = store.read(0, 130, 500)
        assert store.recordings[0].reader == "pread"
        assert np.abs(got - np.array([signals[i] for i in (0, 1, 3)])[:, 130:630]).max() < 0.02
    else:  # nothing that could be compared, and MNE resamples to 400 Hz
        with pytest.raises(ContractError, match="has 4000 samples at 400 Hz when MNE reads it, and 1000 at 100 Hz"):
            store.read(0, 130, 500)


def _spoil(folder: Path, write_edf) -> dict[str, str]:
    """Write files that cannot be read, and what should be said of each."""
    whole = write_edf("good_1.edf", seconds=5)
    content = whole.read_bytes()
    (folder / "empty_1.edf").write_bytes(b"")
    (folder / "text_1.edf").write_text("This is no recording. " * 50)
    (folder / "header_1.edf").write_bytes(content[:400])
    (folder / "nothing_1.edf").write_bytes(content[: 256 * 4])
    (folder / "noise_raw.fif").write_bytes(np.random.default_rng(0).bytes(5000))
    (folder / "lonely.vhdr").write_text("Brain Vision Data Exchange Header File Version 1.0\n")
    return {
        "empty_1.edf": "is not an EDF or BDF file|is empty",
        "text_1.edf": "is not an EDF or BDF file|cannot be read",
        "header_1.edf": "is damaged|cannot be read",
        "nothing_1.edf": "holds no samples",
        "noise_raw.fif": "cannot be read",
        "lonely.vhdr": "cannot be read",
    }


def test_bad_files_are_skipped_and_said_once(write_edf, tmp_path) -> None:
    expected = _spoil(tmp_path, write_edf)
    with mne.utils.catch_logging("WARNING") as log:
        store = RecordingStore(tmp_path)
        store.read(0, 0, 10)
    said = log.getvalue()
    assert [each.path.name for each in store.recordings] == ["good_1.edf"]
    skipped = {Path(path).name: sentence for path, sentence in store.skipped}
    assert set(skipped) == set(expected)
    for name, sentence in skipped.items():
        assert any(part in sentence for part in expected[name].split("|")), (name, sentence)
        assert "\n" not in sentence
        assert sentence.endswith(".")
        assert said.count(f"Skipped: {sentence}") + said.count(f"Skipped: {name}: {sentence}") == 1


def test_bad_files_are_raised(write_edf, tmp_path) -> None:
    _spoil(tmp_path, write_edf)
    with pytest.raises(ContractError, match=r"empty_1\.edf"):
        RecordingStore(tmp_path, errors="raise")


def test_a_list_with_a_missing_file(write_edf, tmp_path) -> None:
    source = [tmp_path / "gone.edf", write_edf("a_1.edf")]
    store = RecordingStore(source)
    assert len(store) == 1
    assert "There is no file" in store.skipped[0][1]
    with pytest.raises(ContractError, match="There is no file"):
        RecordingStore(source, errors="raise")


def test_a_truncated_file_is_used_as_far_as_it_goes(write_edf) -> None:
    path = write_edf(seconds=10, cut_bytes=3 * 2 * 250)
    with mne.utils.catch_logging("WARNING") as log:
        store = RecordingStore(path)
    assert store.recordings[0].n_times == 700
    assert "declares 10 data records and 7 are there" in log.getvalue()
    np.testing.assert_allclose(
        store.read(0, 600, 100), _microvolts(path, 600, 100, store.recordings[0].ch_names), rtol=1e-5, atol=1e-4
    )


def test_a_file_that_vanishes_is_one_sentence(write_edf) -> None:
    path = write_edf(seconds=4)
    store = RecordingStore(path)
    path.unlink()
    with pytest.raises(ContractError, match=r"made\.edf"):
        store.read(0, 0, 10)


def test_a_file_that_is_cut_meanwhile_is_one_sentence(write_edf) -> None:
    path = write_edf(seconds=4)
    store = RecordingStore(path)
    os.truncate(path, path.stat().st_size - 100)
    with mne.utils.catch_logging("INFO") as log, pytest.raises(ContractError, match="shorter than it was"):
        store.read(0, 0, 10)
    assert "is read by MNE" not in log.getvalue()
    assert store.recordings[0].reader == "pread"  # a disk that was away for a minute does not make it slow for ever


def test_a_file_that_is_another_one_meanwhile(make_raw, tmp_path) -> None:
    """Of a shorter file MNE returns fewer samples than were asked for, without a word."""
    path = tmp_path / "a_raw.fif"
    make_raw(4.0).save(path, verbose="ERROR")
    store = RecordingStore(path)
    make_raw(3.0).save(path, overwrite=True, verbose="ERROR")
    with pytest.raises(ContractError, match="has 750 samples at 250 Hz when MNE reads it, and 1000"):
        store.read(0, 700, 200)


def test_a_file_that_must_not_be_read(write_edf, monkeypatch) -> None:
    path = write_edf(seconds=4)

    def refuse(fname):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(fname))

    monkeypatch.setattr("mne_labram.signal.recording.read_edf_header", refuse)
    ((_, sentence),) = RecordingStore(path).skipped
    assert sentence == "made.edf cannot be read (Permission denied); get permission to read it."


@pytest.mark.parametrize("content", [bytes(3000), b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + bytes(500)])
def test_a_damaged_set_file(tmp_path, content: bytes) -> None:
    """SciPy's own exception for it is none of Python's."""
    (tmp_path / "a.set").write_bytes(content)
    ((_, sentence),) = RecordingStore(tmp_path).skipped
    assert sentence.startswith("a.set cannot be read as an EEG recording")
    assert sentence.isprintable()


def test_another_working_directory(write_edf, tmp_path, monkeypatch) -> None:
    write_edf("a_1.edf", seconds=4)
    monkeypatch.chdir(tmp_path)
    store = RecordingStore("a_1.edf")
    monkeypatch.chdir("/")
    assert store.read(0, 0, 10).shape == (3, 10)


def test_parallel_config_holds_for_headers_too(write_edf, monkeypatch) -> None:
    import threading

    import joblib

    paths = [write_edf(f"p{i}_1.edf", seconds=2) for i in range(3)]
    where = set()

    def look(found):
        where.add(threading.current_thread() is threading.main_thread())
        return look_at(found)

    monkeypatch.setattr("mne_labram.signal.store.look_at", look)
    with joblib.parallel_config(backend="threading", n_jobs=2):
        assert len(RecordingStore(paths)) == 3
    assert where == {False}


def test_arguments_that_make_no_sense(tmp_path, write_edf) -> None:
    with pytest.raises(ContractError, match="There is no recording in"):
        RecordingStore(tmp_path)
    path = write_edf("a_1.edf")
    with pytest.raises(ValueError, match="errors must be"):
        RecordingStore(path, errors="ignore")
    store = RecordingStore(path)
    with pytest.raises(ValueError, match="There is no recording of b"):
        store.select(subjects=["b"])
    for wrong in ("a", 3):
        with pytest.raises(TypeError, match="list of names"):
            store.select(exclude_subjects=wrong)
    for wrong in (1, -1):
        with pytest.raises(ValueError, match=f"from 0 to 0, got {wrong}"):
            store.select(files=[0, wrong])


def test_select(write_edf, tmp_path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for subject in "ab":
            write_edf(f"{name}/{subject}_1.edf", seconds=3)
    store = RecordingStore([tmp_path / "one", tmp_path / "two"])
    store.read(3, 0, 10)
    whole = [(each.dataset, each.subject) for each in store.recordings]
    assert whole == [("one", "a"), ("one", "b"), ("two", "a"), ("two", "b")]
    assert len(store.select(subjects=["a"])) == 2
    assert [each.dataset for each in store.select(exclude_subjects=["two/a", "b"]).recordings] == ["one"]
    some = store.select(files=[3, 1])
    assert [each.path for each in some.recordings] == [store.recordings[1].path, store.recordings[3].path]
    np.testing.assert_array_equal(some.read(1, 5, 20), store.read(3, 5, 20))


def test_braindecode(make_raw, write_edf) -> None:
    from braindecode.datasets import BaseConcatDataset, RawDataset

    raw = make_raw(5.0)
    lazy = mne.io.read_raw_edf(write_edf("S07R01.edf", seconds=5, sfreq=250), verbose="ERROR")
    source = BaseConcatDataset([RawDataset(raw, {"subject": 3}), RawDataset(lazy, {"subject": "k"})])
    store = RecordingStore(source)
    assert [each.subject for each in store.recordings] == ["3", "k"]
    assert len(store.select(subjects=[3])) == 1
    assert RecordingStore(source, n_jobs=2).recordings[0].instance is raw
    np.testing.assert_allclose(store.read(0, 10, 100), 1e6 * raw.get_data(start=10, stop=110), rtol=1e-6)
    np.testing.assert_allclose(store.read(1, 10, 100), 1e6 * lazy.get_data(start=10, stop=110), rtol=1e-6)
    assert len(store.windows(1.0)) == 10


def _sums(store: RecordingStore) -> list[float]:
    return [float(store.read(file, 20, 200).sum()) for file in range(len(store))]


@pytest.fixture
def mixed(write_edf, make_raw, tmp_path) -> RecordingStore:
    """Return a store of EDF files, which are read here, and of FIF files, which MNE reads."""
    for i in range(3):
        write_edf(f"e{i}_1.edf", seconds=4)
        make_raw(4.0, seed=i).save(tmp_path / f"f{i}_raw.fif", verbose="ERROR")
    return RecordingStore(tmp_path)


def test_pickle(mixed) -> None:
    expected = _sums(mixed)
    assert _sums(pickle.loads(pickle.dumps(mixed))) == expected


def test_another_process(mixed, tmp_path) -> None:
    (tmp_path / "store.pkl").write_bytes(pickle.dumps(mixed))
    code = (
        "import pickle, sys; s = pickle.load(open(sys.argv[1], 'rb')); "
        "print([float(s.read(f, 20, 200).sum()) for f in range(len(s))])"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "store.pkl"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(_sums(mixed))


def test_threads(mixed) -> None:
    expected = _sums(mixed)
    fresh = pickle.loads(pickle.dumps(mixed))  # so that files are verified and opened by several threads at once
    with ThreadPoolExecutor(6) as pool:
        for sums in pool.map(lambda _: _sums(fresh), range(24)):
            assert sums == expected


class _Windows(torch.utils.data.Dataset):
    def __init__(self, store: RecordingStore) -> None:
        self.store = store

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, file: int) -> torch.Tensor:
        return torch.from_numpy(self.store.read(file, 20, 200)).sum()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_data_loader_workers(mixed) -> None:
    expected = _sums(mixed)  # opens files before the workers are forked
    loader = torch.utils.data.DataLoader(
        _Windows(mixed), batch_size=None, num_workers=2, multiprocessing_context="fork"
    )
    np.testing.assert_allclose([float(each) for each in loader], expected, rtol=1e-4)


def test_reading_needs_neither_torch_nor_filters(write_edf) -> None:
    """A hundred megabytes would be spent on them."""
    for name in ("a_1.edf", "b_1.edf"):
        path = write_edf(name, seconds=3)
    code = (
        "import sys, mne_labram.signal.store as s; "
        "store = s.RecordingStore(sys.argv[1]); [store.read(i, 0, 100) for i in range(len(store))]; "
        "print(len(store), [n for n in ('torch', 'scipy.signal', 'joblib', 'mne_bids', 'pandas') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, path.parent], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "2 []", done.stderr
