"""Files appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["atomic_path"]


@contextmanager
def atomic_path(fname: str | Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Give a temporary name to write to, and move it to its place when all went well.

    The temporary file lies in the folder of the target (a move between file systems is not atomic) and keeps its name
    as an ending, since many writers choose the format by it.

    Parameters
    ----------
    fname : str | Path
        Where the file shall be.
    overwrite : bool
        Whether a file that is there may be replaced.

    Yields
    ------
    temporary : Path
        Where to write.

    Raises
    ------
    FileExistsError
        If the file exists and ``overwrite`` is false.
    FileNotFoundError
        If the folder does not exist.
    """
    fname = Path(fname)
    if not fname.parent.is_dir():
        raise FileNotFoundError(f"The folder {fname.parent} does not exist; make it first.")
    if fname.is_dir():
        raise IsADirectoryError(f"{fname} is a folder; give the name of a file.")
    if not overwrite and fname.exists():
        raise FileExistsError(f"{fname} exists; pass overwrite=True (--overwrite) to replace it.")
    with tempfile.TemporaryDirectory(prefix=".mne_labram-", dir=fname.parent) as folder:
        temporary = Path(folder) / fname.name
        yield temporary
        os.replace(temporary, fname)
