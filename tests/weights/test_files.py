"""Files are read whole or not at all, and written whole or not at all."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mne_labram.weights.files import check_sha256, file_sha256, readable_file, shown, written_whole

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="pipes and modes are POSIX's")


def test_readable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.bin"
    with pytest.raises(FileNotFoundError, match="There is no file"):
        readable_file(path)
    path.touch()
    with pytest.raises(ValueError, match="'a.bin' is empty"):
        readable_file(path)
    path.write_bytes(b"1")
    assert readable_file(str(path)) == path
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert readable_file("~/a.bin") == path
    monkeypatch.setattr(os, "access", lambda *args: False)
    with pytest.raises(PermissionError, match="may not be read"):
        readable_file(path)


@POSIX
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="is not a regular file"):
        readable_file(tmp_path / "pipe")


def test_sha256(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"abc" * 1000)
    digest = hashlib.sha256(b"abc" * 1000).hexdigest()
    assert file_sha256(path) == digest
    check_sha256(path, digest)
    with pytest.raises(ValueError, match="'a.bin' is not the expected file"):
        check_sha256(path, digest[::-1])
    with pytest.raises(ValueError, match="must be 64 hexadecimal digits, got None"):
        check_sha256(path, None)


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
        assert temporary.parent == tmp_path
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


def test_shown() -> None:
    assert shown("pos_embed") == "pos_embed"
    assert shown("a\x1b[2J\nb") == "a?[2J?b"
    assert shown("x" * 200, 10) == "xxxxxxx..."
