"""What took long is kept."""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path

import pytest

from mne_labram._files import written_whole
from mne_labram.source.cache import cache_folder, content_key, kept, open_cache


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf8")


def _read(path: Path) -> str:
    text = path.read_text(encoding="utf8")
    if not text.endswith("end"):
        raise ValueError("cut off")
    return text


def test_folder_is_chosen_by_the_variable_then_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MNE_LABRAM_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("MNE_LABRAM_CACHE")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "mne_labram"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == tmp_path / ".cache" / "mne_labram"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == tmp_path / "Library" / "Caches" / "mne_labram"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert cache_folder() == tmp_path / "local" / "mne_labram"


def test_open_cache_makes_the_folder_or_a_temporary_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_cache(tmp_path / "a" / "b") as folder:
        assert folder == tmp_path / "a" / "b"
    assert (tmp_path / "a" / "b").is_dir()
    assert not list((tmp_path / "a" / "b").iterdir())
    monkeypatch.setenv("MNE_LABRAM_CACHE", str(tmp_path / "told"))
    for cache in (None, True):
        with open_cache(cache) as folder:
            assert folder == tmp_path / "told"
    with open_cache(False) as folder:
        assert folder.is_dir()
        assert folder != tmp_path / "told"
    assert not folder.exists()
    _write(tmp_path / "file", "")
    with open_cache(tmp_path / "file" / "below") as folder:
        assert folder.is_dir()
    assert not folder.exists()


def test_keys_depend_on_everything() -> None:
    key = content_key(a=1, b=[b"x", "y"])
    assert key == content_key(b=[b"x", "y"], a=1)
    assert len({key, content_key(a=2, b=[b"x", "y"]), content_key(a=1, b=[b"z", "y"]), content_key(a=1)}) == 4


def test_made_once_read_afterwards_and_made_anew_when_damaged(tmp_path: Path) -> None:
    path = tmp_path / "kept.txt"
    made: list[int] = []

    def make() -> str:
        made.append(1)
        return "what took long, end"

    assert kept(path, make, _write, _read) == "what took long, end"
    assert kept(path, make, _write, _read) == "what took long, end"
    assert len(made) == 1
    path.write_text("what to", encoding="utf8")
    assert kept(path, make, _write, _read) == "what took long, end"
    assert len(made) == 2
    assert [each.name for each in tmp_path.iterdir()] == ["kept.txt"]


def test_nothing_is_left_of_what_failed(tmp_path: Path) -> None:
    def fail() -> str:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        kept(tmp_path / "kept.txt", fail, _write, _read)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_keeps_nothing_but_gives_the_answer(tmp_path: Path) -> None:
    def write(path: Path, text: str) -> None:
        _write(path, text)
        if tmp_path in path.parents:
            raise OSError("No space left on device")

    assert kept(tmp_path / "kept.txt", lambda: "the answer, end", write, _read) == "the answer, end"
    assert not list(tmp_path.iterdir())


def test_processes_do_not_spoil_each_others_files(tmp_path: Path) -> None:
    path = str(tmp_path / "kept.txt")
    text = f"{'x' * 200_000} end"
    with multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn").Pool(2) as pool:
        results = pool.map(_rewrite, [path, path])
    assert results == [0, 0]
    assert _read(Path(path)) == text


def _rewrite(path: str) -> int:
    """Write the file again and again, as many processes would that all find none, and read it in between."""
    text = f"{'x' * 200_000} end"
    wrong = 0
    for _ in range(30):
        wrong += kept(Path(path), lambda: text, _write, _read) != text
        with written_whole(path, overwrite=True) as temporary:
            _write(temporary, text)
        wrong += _read(Path(path)) != text
    return wrong
