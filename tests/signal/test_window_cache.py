"""Conformed recordings on the disk: precision, whole folders, and what a killed process leaves."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mne_labram.signal import window_cache
from mne_labram.signal.contract import ContractError
from mne_labram.signal.open_files import OpenFiles
from mne_labram.signal.window_cache import (
    BLOCK,
    CachedSamples,
    CacheWriteError,
    estimated_bytes,
    is_whole,
    remove_unfinished,
    write_recording,
)


def _written(target: Path, x: np.ndarray, cuts: list[int] | None = None, *, centred: bool = True) -> CachedSamples:
    write_recording(target, np.split(x, cuts or [], axis=1), *x.shape, lambda: {"a": 1}, centred=centred)
    return CachedSamples(target, *x.shape, centred)


@given(
    n_times=st.sampled_from([1, 3, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 17]),
    n_chans=st.integers(1, 4),
    cuts=st.lists(st.integers(0, 3 * BLOCK), max_size=4),
    scale=st.sampled_from([1e-3, 30.0, 1e5]),
    shift=st.sampled_from([0.0, 1e4, -3e5]),
    place=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    seed=st.integers(0, 99),
)
def test_the_error_is_what_is_promised(n_times, n_chans, cuts, scale, shift, place, seed, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("cache")
    x = (np.random.default_rng(seed).normal(0, scale, (n_chans, n_times)) + shift).astype(np.float32)
    cuts = sorted(min(cut, n_times) for cut in cuts)
    for centred in (True, False):
        samples = _written(folder / str(centred), x, cuts, centred=centred)
        start = int(place[0] * (n_times - 1))
        length = 1 + int(place[1] * (n_times - start - 1))
        got = samples.read(OpenFiles(), start, length)
        assert (got.dtype, got.shape) == (np.float32, (n_chans, length))
        for first in range(0, n_times, BLOCK):
            block = x[:, first : first + BLOCK].astype(float)
            spread = np.ptp(block, axis=1) / 2 if not centred else np.abs(block).max(axis=1)
            rounding = 3e-7 * np.abs(block).max(axis=1)
            low, high = max(first, start), min(first + BLOCK, start + length)
            if low < high:
                error = np.abs(got[:, low - start : high - start] - x[:, low:high]).max(axis=1)
                assert (error <= spread / 65534 * (1 + 1e-6) + rounding).all()


def test_an_artefact_costs_its_own_channel_ten_seconds(tmp_path) -> None:
    x = np.random.default_rng(0).normal(0, 10, (2, 3 * BLOCK)).astype(np.float32)
    x[0, BLOCK + 5] = 50_000
    samples = _written(tmp_path / "a", x)
    error = np.abs(samples.read(OpenFiles(), 0, 3 * BLOCK) - x)
    assert error[0, BLOCK : 2 * BLOCK].max() > 0.1
    assert error[0, :BLOCK].max() < 1e-3
    assert error[1].max() < 1e-3


def test_constant_signals_are_exact(tmp_path) -> None:
    x = np.zeros((2, 50), dtype=np.float32)
    np.testing.assert_array_equal(_written(tmp_path / "zero", x).read(OpenFiles(), 0, 50), x)
    x += np.float32(1234.567)
    np.testing.assert_array_equal(_written(tmp_path / "one", x, centred=False).read(OpenFiles(), 0, 50), x)


def test_the_files_are_npy(tmp_path) -> None:
    x = np.random.default_rng(0).normal(0, 10, (3, BLOCK + 1)).astype(np.float32)
    samples = _written(tmp_path / "a", x)
    digital = np.load(tmp_path / "a" / "samples.npy", mmap_mode="r")
    scales = np.load(tmp_path / "a" / "scales.npy")
    assert (digital.dtype, digital.shape) == (np.int16, (2, 3, BLOCK))
    assert (scales.dtype, scales.shape) == (np.float32, (2, 2, 3))
    whole = (digital * scales[:, 0, :, None] + scales[:, 1, :, None]).transpose(1, 0, 2).reshape(3, -1)
    np.testing.assert_array_equal(whole[:, : BLOCK + 1], samples.read(OpenFiles(), 0, BLOCK + 1))
    about = json.loads((tmp_path / "a" / "recording.json").read_text())
    assert about == {"format": window_cache.FORMAT, "n_chans": 3, "n_times": BLOCK + 1, "centred": True, "a": 1}
    size = sum(path.stat().st_size for path in (tmp_path / "a").iterdir())
    assert size <= estimated_bytes(3, BLOCK + 1) <= size + 20_000


def test_the_same_signal_gives_the_same_bytes(tmp_path) -> None:
    x = np.random.default_rng(0).normal(0, 10, (3, 2 * BLOCK + 5)).astype(np.float32)
    _written(tmp_path / "a", x)
    _written(tmp_path / "b", x, [7, BLOCK, BLOCK + 3])
    for name in ("samples.npy", "scales.npy", "recording.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_an_error_leaves_nothing(tmp_path) -> None:
    def pieces():
        yield np.zeros((1, 3 * BLOCK), dtype=np.float32)
        raise ContractError("The file ends here.")

    with pytest.raises(ContractError, match="ends here"):
        write_recording(tmp_path / "a", pieces(), 1, 10 * BLOCK, dict)
    with pytest.raises(ValueError, match="10 samples were announced and 4 came"):
        write_recording(tmp_path / "a", [np.zeros((1, 4), dtype=np.float32)], 1, 10, dict)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch) -> None:
    def full(self, block):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(window_cache._BlockWriter, "_write", full)
    with pytest.raises(CacheWriteError, match=r"cannot be written \(No space left on device\); make room") as caught:
        _written(tmp_path / "a", np.zeros((1, BLOCK), dtype=np.float32))
    assert str(caught.value).count(". ") == 0
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(CacheWriteError, match="cannot be written"):
        _written(tmp_path / "gone" / "a", np.zeros((1, BLOCK), dtype=np.float32))


_FILL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from mne_labram.signal.window_cache import BLOCK, CacheWriteError, write_recording
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
pieces = (np.ones((1, 700), dtype=np.float32) for _ in range(100))
try:
    write_recording(Path(sys.argv[1]) / "a", pieces, 1, 70_000, dict)
except CacheWriteError as error:
    print(error)
print([path.name for path in Path(sys.argv[1]).iterdir()])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the size of files")
@pytest.mark.parametrize("limit", [100, 300, 9000, 12_000])
def test_a_disk_that_is_full_when_files_are_closed(tmp_path, limit: int) -> None:
    """What is in Python's buffers is written on closing, which fails once more."""
    done = subprocess.run([sys.executable, "-c", _FILL_DISK, str(tmp_path), str(limit)], capture_output=True, text=True)
    said, left = done.stdout.splitlines()
    assert "cannot be written (File too large); make room" in said
    assert left == "[]"
    assert done.stderr == ""


def test_what_is_damaged_is_replaced(tmp_path) -> None:
    x = np.ones((1, 5), dtype=np.float32)
    _written(tmp_path / "a", x)
    (tmp_path / "a" / "samples.npy").write_bytes(b"short")
    _written(tmp_path / "a", x)
    assert is_whole(tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_several_mend_what_is_damaged(tmp_path) -> None:
    """Each may find what another one is about to move away, or has put there."""
    x = np.ones((1, 5), dtype=np.float32)
    for _ in range(30):
        _written(tmp_path / "a", x)
        (tmp_path / "a" / "samples.npy").write_bytes(b"short")
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: _written(tmp_path / "a", x), range(4)))
        assert is_whole(tmp_path / "a")
        assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_who_comes_second_keeps_what_is_there(tmp_path) -> None:
    x = np.ones((1, 5), dtype=np.float32)
    _written(tmp_path / "a", x)
    before = (tmp_path / "a").stat().st_ino
    _written(tmp_path / "a", x)
    assert (tmp_path / "a").stat().st_ino == before
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_is_not_whole_is_seen(tmp_path) -> None:
    _written(tmp_path / "a", np.ones((2, BLOCK + 3), dtype=np.float32))
    assert is_whole(tmp_path / "a")
    assert not is_whole(tmp_path / "b")
    with open(tmp_path / "a" / "scales.npy", "ab") as file:
        file.write(b"x")
    assert not is_whole(tmp_path / "a")
    _written(tmp_path / "c", np.ones((2, 5), dtype=np.float32))
    for text in ("{", "[]", '{"n_times": 5}', '{"n_chans": 2}', '{"n_chans": "2", "n_times": []}'):
        (tmp_path / "c" / "recording.json").write_text(text)
        assert not is_whole(tmp_path / "c")


_WRITE_SLOWLY = """
import sys, time
from pathlib import Path
import numpy as np
from mne_labram.signal.window_cache import BLOCK, write_recording
def pieces():
    for _ in range(1000):
        yield np.ones((2, BLOCK), dtype=np.float32)
        print("wrote", flush=True)
        time.sleep(0.01)
write_recording(Path(sys.argv[1]), pieces(), 2, 1000 * BLOCK, dict)
"""


def test_a_killed_writer_leaves_no_recording(tmp_path) -> None:
    target = tmp_path / "a"
    with subprocess.Popen([sys.executable, "-c", _WRITE_SLOWLY, str(target)], stdout=subprocess.PIPE) as child:
        for _ in range(5):
            assert child.stdout.readline() == b"wrote\n"
        assert not target.exists()
        remove_unfinished(tmp_path)
        left = [path.name for path in tmp_path.iterdir()]
        assert len(left) == 1  # the writer is alive, and so is its folder
        child.kill()
    assert not target.exists()
    assert [path.name for path in tmp_path.iterdir()] == left
    remove_unfinished(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_folders_of_other_machines_stay_a_day(tmp_path) -> None:
    new, old = tmp_path / ".unfinished-else-where-1-ab", tmp_path / ".unfinished-elsewhere-1-cd"
    mine = tmp_path / f".unfinished-{socket.gethostname()}-{os.getpid()}-ef"
    for folder in (new, old, mine):
        folder.mkdir()
    os.utime(old, (time.time() - 90_000,) * 2)
    remove_unfinished(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([new, mine])
