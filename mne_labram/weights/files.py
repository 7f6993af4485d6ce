"""Files that are read whole or not at all."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

__all__ = ["check_sha256", "file_sha256", "readable_file", "shown"]


def readable_file(fname: str | os.PathLike) -> Path:
    """Return the path of an existing regular file that is not empty.

    Parameters
    ----------
    fname : path-like
        The file.

    Returns
    -------
    path : Path
        The same, with ``~`` expanded.

    Raises
    ------
    FileNotFoundError
        If there is nothing of this name.
    PermissionError
        If it may not be read.
    ValueError
        If it is a folder, a pipe or a device (which could block for ever), or is empty.
    """
    path = Path(fname).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    if not path.is_file():
        raise ValueError(f"{str(path)!r} is not a regular file; give the checkpoint itself.")
    if not os.access(path, os.R_OK):
        raise PermissionError(f"{str(path)!r} may not be read by this user.")
    if path.stat().st_size == 0:
        raise ValueError(f"{path.name!r} is empty; copy or download it again.")
    return path


def file_sha256(fname: str | os.PathLike) -> str:
    """Return the SHA-256 of a file as 64 lower-case hexadecimal digits, in bounded memory."""
    with open(fname, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sha256(path: Path, sha256: str) -> None:
    """Compare a file with the SHA-256 it should have.

    Parameters
    ----------
    path : Path
        The file.
    sha256 : str
        64 hexadecimal digits, in either case.

    Raises
    ------
    ValueError
        If ``sha256`` is not a SHA-256, or not this file's.
    """
    if not isinstance(sha256, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise ValueError(f"sha256 must be 64 hexadecimal digits, got {sha256!r}.")
    found = file_sha256(path)
    if found != sha256.lower():
        raise ValueError(
            f"{path.name!r} is not the expected file: its SHA-256 is {found[:16]}..., not {sha256[:16].lower()}...; "
            "it was changed or damaged on the way, get it again."
        )


def shown(text: str, longest: int = 120) -> str:
    """Make text from a file fit for a message.

    Parameters
    ----------
    text : str
        Anything, also what was made to confuse a terminal.
    longest : int
        Characters to keep.

    Returns
    -------
    text : str
        One line without control characters.
    """
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
