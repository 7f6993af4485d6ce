"""Files are written whole or not at all."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import mne
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mne_labram._files import written_whole

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX's")


@POSIX
def test_the_user_decides_who_may_read(tmp_path: Path) -> None:
    """Safetensors makes its file private to the owner; a laboratory shares its checkpoints."""
    old = os.umask(0o027)
    try:
        with written_whole(tmp_path / "a.safetensors") as temporary:
            save_file({"w": torch.zeros(2)}, temporary)
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a.safetensors").stat().st_mode) == 0o640


def test_nothing_is_seen_before_it_is_whole(tmp_path: Path) -> None:
    with written_whole(tmp_path / "a.bin") as temporary:
        temporary.write_bytes(b"new")
        assert temporary.name == "a.bin"
        assert not (tmp_path / "a.bin").exists()
    assert (tmp_path / "a.bin").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("error", [OSError, ValueError, KeyboardInterrupt])
def test_an_error_leaves_everything_as_it_was(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "a.bin").write_bytes(b"old")

    def fail(temporary: Path) -> None:
        temporary.write_bytes(b"half")
        raise error

    with pytest.raises(error), written_whole(tmp_path / "a.bin", overwrite=True) as temporary:
        fail(temporary)
    assert (tmp_path / "a.bin").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_existing_file_and_missing_folder(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"old")
    with pytest.raises(FileExistsError, match="pass overwrite=True"), written_whole(tmp_path / "a.bin"):
        pytest.fail("the block must not run")
    with pytest.raises(FileNotFoundError, match="There is no folder"), written_whole(tmp_path / "b" / "a.bin"):
        pytest.fail("the block must not run")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="give the name of a file"), written_whole(tmp_path, overwrite=True):
        pytest.fail("the block must not run")


def test_all_parts_of_a_large_recording_arrive(tmp_path: Path) -> None:
    """MNE splits files beyond a size; moving only the first would lose the rest of the recording."""
    data = np.random.default_rng(0).normal(0, 1e-5, (20, 60_000))
    raw = mne.io.RawArray(data, mne.create_info(20, 200.0, "eeg"), verbose="error")
    fname = tmp_path / "a_raw.fif"
    with written_whole(fname) as temporary:
        raw.save(temporary, split_size="3MB", verbose="error")
    parts = {"a_raw.fif", "a_raw-1.fif", "a_raw-2.fif"}
    assert set(os.listdir(tmp_path)) == parts
    assert mne.io.read_raw(fname, verbose="error").n_times == raw.n_times
    before = fname.read_bytes()
    fname.unlink()
    with pytest.raises(FileExistsError, match="a_raw-1.fif"), written_whole(fname) as temporary:
        raw.save(temporary, split_size="3MB", verbose="error")
    assert set(os.listdir(tmp_path)) == parts - {"a_raw.fif"}
    with written_whole(fname, overwrite=True) as temporary:
        raw.save(temporary, split_size="3MB", verbose="error")
    assert len(fname.read_bytes()) == len(before)
