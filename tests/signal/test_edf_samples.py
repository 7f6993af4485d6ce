"""Pieces of EDF and BDF files, against MNE's reader and an independent writer."""

from __future__ import annotations

import os
import pickle
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import edfio
import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mne_labram.signal import open_files
from mne_labram.signal.contract import ContractError
from mne_labram.signal.edf import read_edf_header
from mne_labram.signal.edf_samples import EdfSamples, edf_samples
from mne_labram.signal.open_files import OpenFiles

POSIX = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def _mne_microvolts(path: Path, names: tuple[str, ...], start: int, n_times: int) -> np.ndarray:
    with mne.utils.use_log_level("ERROR"):
        raw = mne.io.read_raw(path, preload=False)
        return 1e6 * raw.get_data(picks=list(names), start=start, stop=start + n_times)


@st.composite
def _files(draw):
    """Draw an EDF or BDF file and a window that may begin and end anywhere in it."""
    sfreq = draw(st.sampled_from([16, 25, 64, 100]))
    record_seconds = draw(st.sampled_from([0.5, 1, 2, 7])) if sfreq % 2 == 0 else draw(st.sampled_from([1, 3]))
    n_records = draw(st.integers(1, 6))
    n_chans = draw(st.integers(1, 5))
    n_times = round(sfreq * record_seconds * n_records)
    unit = draw(st.sampled_from(["uV", "mV", "V"]))
    same = draw(st.booleans())
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    limits = [(-1000.0 * (1 if same else c + 1), 800.0 + (0 if same else c)) for c in range(n_chans)]
    data = [rng.uniform(low, high, n_times) for low, high in limits]
    start = draw(st.integers(0, n_times - 1))
    length = draw(st.integers(1, n_times - start))
    rows = draw(st.none() | st.lists(st.integers(0, n_chans - 1), min_size=1, max_size=n_chans, unique=True))
    annotated = draw(st.booleans())
    bdf = draw(st.booleans())
    make, signal = (edfio.Bdf, edfio.BdfSignal) if bdf else (edfio.Edf, edfio.EdfSignal)
    signals = [
        signal(x, sfreq, label=f"C{c}", physical_dimension=unit, physical_range=limits[c]) for c, x in enumerate(data)
    ]
    notes = [edfio.EdfAnnotation(0.5, None, "a")] if annotated else None
    file = make(signals, data_record_duration=record_seconds, annotations=notes)
    return file, "made.bdf" if bdf else "made.edf", start, length, rows


@settings(max_examples=120)
@given(made=_files())
def test_any_piece_is_what_mne_reads(made, tmp_path_factory) -> None:
    file, name, start, length, rows = made
    path = tmp_path_factory.mktemp("edf") / name
    file.write(path)
    samples = edf_samples(read_edf_header(path))
    got = samples.read(OpenFiles(), start, length, rows)
    names = samples.ch_names if rows is None else tuple(samples.ch_names[row] for row in rows)
    expected = _mne_microvolts(path, names, start, length)
    assert got.dtype == np.float32
    assert got.shape == expected.shape
    tolerance = samples.rounding[slice(None) if rows is None else rows, None]
    assert (np.abs(got - expected) <= tolerance).all()
    # The tolerance is rounding, not a quantum of the amplifier.
    gain = np.broadcast_to(samples.gain, (len(samples.ch_names), 1))
    assert (samples.rounding < (1e-1 if name.endswith("edf") else 8) * np.abs(gain[:, 0])).all()


def test_real_recordings(shared_data) -> None:
    paths = [
        shared_data / "eegmat" / "Subject03_2.edf",
        shared_data / "eegmmidb" / "S001R03.edf",
        shared_data / "chbmit" / "chb01_03_preictal.edf",
        shared_data / "clinical_formats" / "biosemi_bdf" / "eeglab_test.bdf",
    ]
    for path in paths:
        samples = edf_samples(read_edf_header(path))
        start = samples.n_times // 2 + 7
        got = samples.read(OpenFiles(), start, 301)
        assert (np.abs(got - _mne_microvolts(path, samples.ch_names, start, 301)) <= samples.rounding[:, None]).all()


def test_numbered_names_are_mnes(shared_data) -> None:
    path = shared_data / "chbmit" / "chb01_03_preictal.edf"
    raw = mne.io.read_raw_edf(path, verbose="ERROR")
    assert "T8-P8-1" in raw.ch_names
    assert list(edf_samples(read_edf_header(path)).ch_names) == raw.ch_names


def test_the_rate_of_most_channels_is_read(write_edf) -> None:
    rng = np.random.default_rng(0)
    signals = [rng.uniform(-100, 100, rate * 10) for rate in (100, 20, 100, 400)]
    path = write_edf(signals=signals, labels=["A1", "resp", "C3", "ECG"], rates=[100, 20, 100, 400])
    samples = edf_samples(read_edf_header(path))
    assert samples.ch_names == ("A1", "C3")
    assert samples.left_out == ("resp", "ECG")
    assert samples.sfreq == 100
    got = samples.read(OpenFiles(), 130, 500)
    assert np.abs(got - np.array([signals[0], signals[2]])[:, 130:630]).max() <= 1000 / 65535


def test_truncation_leaves_whole_records(write_edf) -> None:
    samples = edf_samples(read_edf_header(write_edf(seconds=10, cut_bytes=1)))
    assert samples.n_times == 900
    assert samples.read(OpenFiles(), 0, 900).shape == (3, 900)


def test_a_file_without_samples_is_refused(write_edf) -> None:
    whole = write_edf(seconds=1)
    path = whole.with_name("empty.edf")
    path.write_bytes(whole.read_bytes()[: 256 * 4])
    with pytest.raises(ContractError, match=r"empty\.edf holds no samples"):
        edf_samples(read_edf_header(path))


def test_no_calibration_is_refused(write_edf) -> None:
    header = read_edf_header(write_edf(seconds=1))
    with pytest.raises(ContractError, match="no calibration"):
        edf_samples(replace(header, digital_min=header.digital_max))
    with pytest.raises(ContractError, match="how long its data records are"):
        edf_samples(replace(header, record_seconds=0.0))


# -- open files ------------------------------------------------------------------------------------------------------
def _numbered(folder: Path, n: int) -> list[str]:
    paths = [folder / f"{i}.bin" for i in range(n)]
    for i, path in enumerate(paths):
        path.write_bytes(bytes([i]) * 100)
    return [str(path) for path in paths]


def _count_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts descriptors in /proc")
def test_few_files_are_open_and_all_are_closed(tmp_path) -> None:
    before = _count_descriptors()
    files = OpenFiles(limit=3)
    for path in _numbered(tmp_path, 10) * 2:
        files.read(path, 0, 10)
        assert _count_descriptors() <= before + 3
    assert len(files) == 3
    del files
    assert _count_descriptors() == before


def test_threads_read_what_they_ask_for(tmp_path) -> None:
    """With fewer files open than threads need, descriptors are closed and numbers used again all the time."""
    paths, files = _numbered(tmp_path, 12), OpenFiles(limit=2)
    barrier = threading.Barrier(6)

    def read(seed: int) -> int:
        rng = np.random.default_rng(seed)
        barrier.wait()
        wrong = 0
        for _ in range(1500):
            which = int(rng.integers(len(paths)))
            wrong += files.read(paths[which], int(rng.integers(90)), 10) != bytes([which]) * 10
        return wrong

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(read, range(6))) == 0
    assert len(files) <= 2


@POSIX
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12 warns where other tests left threads
def test_a_fork_does_not_wait_for_the_parents_lock(tmp_path) -> None:
    (path,), files = _numbered(tmp_path, 1), OpenFiles()
    files.read(path, 0, 1)
    read_end, write_end = os.pipe()
    with files._lock:  # another thread of the parent may be opening a file while it forks
        child = os.fork()
        if child == 0:
            code = 1
            try:
                files.limit = 1  # takes the lock for every read
                os.write(write_end, files.read(path, 5, 3))
                code = 0
            finally:
                os._exit(code)
    os.close(write_end)
    assert os.waitpid(child, 0)[1] == 0
    assert os.read(read_end, 10) == b"\x00\x00\x00"
    os.close(read_end)
    assert files.read(path, 0, 2) == b"\x00\x00"


def test_a_pickled_copy_opens_its_own(tmp_path) -> None:
    (path,), files = _numbered(tmp_path, 1), OpenFiles(limit=7)
    files.read(path, 0, 1)
    copy = pickle.loads(pickle.dumps(files))
    assert (len(copy), copy.limit) == (0, 7)
    assert copy.read(path, 1, 4) == bytes(4)


def test_without_pread(tmp_path, monkeypatch) -> None:
    monkeypatch.delattr(os, "pread", raising=False)
    monkeypatch.setattr(open_files, "_POSITIONAL", False)
    path = _numbered(tmp_path, 2)[1]
    assert OpenFiles().read(path, 3, 4) == b"\x01" * 4


def test_files_that_changed(tmp_path) -> None:
    (path,), files = _numbered(tmp_path, 1), OpenFiles()
    with pytest.raises(ContractError, match="shorter than it was"):
        files.read(path, 95, 10)
    with pytest.raises(ContractError, match="cannot be read any more"):
        files.read(path + "x", 0, 1)
    with pytest.raises(ValueError, match="at least 1"):
        OpenFiles(limit=0)


def test_samples_can_be_pickled(write_edf) -> None:
    samples = edf_samples(read_edf_header(write_edf(seconds=2)))
    copy = pickle.loads(pickle.dumps(samples))
    assert isinstance(copy, EdfSamples)
    np.testing.assert_array_equal(copy.read(OpenFiles(), 3, 50), samples.read(OpenFiles(), 3, 50))
