"""Files are read whole or not at all."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import pytest

from mne_labram.weights.files import check_sha256, file_sha256, readable_file, shown

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


def test_shown() -> None:
    assert shown("pos_embed") == "pos_embed"
    assert shown("a\x1b[2J\nb") == "a?[2J?b"
    assert shown("x" * 200, 10) == "xxxxxxx..."
