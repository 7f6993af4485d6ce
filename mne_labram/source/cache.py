"""What takes long to compute is kept in a folder of the user's, under a name that says what it was computed from."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from mne.utils import logger

from mne_labram._files import written_whole

__all__ = ["cache_folder", "content_key", "kept", "open_cache"]

Kept = TypeVar("Kept")
# What MNE's reader says of a file that is damaged.
_UNREADABLE = (OSError, ValueError, KeyError, IndexError, RuntimeError, EOFError, struct.error, TypeError)


def cache_folder() -> Path:
    """Return where things are kept unless told otherwise.

    Returns
    -------
    folder : Path
        ``$MNE_LABRAM_CACHE`` if that is set, else ``mne_labram`` in the platform's folder for caches: that of
        ``$XDG_CACHE_HOME`` or ``~/.cache``, ``~/Library/Caches``, or ``%LOCALAPPDATA%``. It need not exist.
    """
    if told := os.environ.get("MNE_LABRAM_CACHE"):
        return Path(told).expanduser()
    home = Path.home()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local")) / "mne_labram"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "mne_labram"
    return Path(os.environ.get("XDG_CACHE_HOME", home / ".cache")) / "mne_labram"


@contextmanager
def open_cache(cache: str | os.PathLike[str] | bool | None = None) -> Iterator[Path]:
    """Give a folder to keep things in, if only for now.

    Parameters
    ----------
    cache : path-like | bool | None
        A folder, made if it is not there; ``None`` or true for :func:`cache_folder`; false for a temporary one.

    Yields
    ------
    folder : Path
        May be written to. Where the folder wanted may not, it is a temporary one, and the log says so.
    """
    if cache is not False:
        folder = cache_folder() if cache is None or cache is True else Path(cache).expanduser()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            logger.info(f"Nothing can be kept in {folder} ({error.strerror}); set MNE_LABRAM_CACHE to another folder.")
        else:
            yield folder
            return
    with tempfile.TemporaryDirectory(prefix="mne-labram-") as temporary:
        yield Path(temporary)


def content_key(**content: Any) -> str:
    """Return a short name for some content.

    Parameters
    ----------
    **content : dict
        Numbers, texts, bytes and lists of them.

    Returns
    -------
    key : str
        20 hexadecimal digits, the same wherever it is computed.
    """
    text = json.dumps(content, sort_keys=True, default=lambda value: hashlib.sha256(value).hexdigest())
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def kept(path: Path, make: Callable[[], Any], write: Callable[[Path, Any], Any], read: Callable[[Path], Kept]) -> Kept:
    """Read what was kept, or make and keep it.

    Parameters
    ----------
    path : Path
        Where it is kept; the name says from what it was made.
    make : callable
        Makes it.
    write : callable
        Writes it to a path.
    read : callable
        Reads it from there.

    Returns
    -------
    value : object
        As it was read, also when it was made just now, so that the first answer is the same as all later ones.

    Notes
    -----
    Files appear whole. Two processes that need the same at once both make it, and the second replaces the file of the
    first by an equal one. A file that cannot be read is made anew, and where the disk is full nothing is kept.
    """
    if path.is_file():
        try:
            return read(path)
        except _UNREADABLE as error:
            logger.info(f"{path.name} is damaged ({type(error).__name__}) and is computed anew.")
    made = make()
    try:
        with written_whole(path, overwrite=True) as temporary:
            write(temporary, made)
        return read(path)
    except OSError as error:
        logger.info(f"{path.name} cannot be kept ({error.strerror or error}); it will be computed again next time.")
    with tempfile.TemporaryDirectory(prefix="mne-labram-") as folder:
        write(Path(folder) / path.name, made)
        return read(Path(folder) / path.name)
