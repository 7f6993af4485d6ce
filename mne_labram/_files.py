"""Files appear whole or not at all."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["checked_ending", "written_whole"]


@contextmanager
def written_whole(fname: str | os.PathLike, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary place to write to, and move what was written to its own only if all went well.

    Parameters
    ----------
    fname : path-like
        The file that shall exist afterwards.
    overwrite : bool
        Replace an existing file.

    Yields
    ------
    temporary : Path
        Write here: the same file name, since many writers choose the format by it, in a hidden folder beside the
        target, since a move between file systems is not atomic. Files that a writer puts beside it (the parts into
        which MNE splits a large recording) are moved too. After an error nothing is left of them, and older files are
        untouched.

    Raises
    ------
    FileExistsError
        If a file exists and ``overwrite`` is false.
    FileNotFoundError
        If the folder does not exist.
    IsADirectoryError
        If ``fname`` is a folder.
    """
    path = Path(fname).expanduser()
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {str(path.parent)!r} to write {path.name!r} into; make it first.")
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder; give the name of a file.")
    _refuse_existing(path, overwrite)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        mode = _mode_of_new_files(folder)
        yield temporary
        others = sorted(set(Path(folder).iterdir()) - {temporary})
        for other in others:
            _refuse_existing(path.with_name(other.name), overwrite)
        # The file itself is moved last: where it is, its parts are.
        for written in (*others, temporary):
            os.chmod(written, mode)
            with open(written, "rb+") as file:
                os.fsync(file.fileno())
        for written in (*others, temporary):
            os.replace(written, path.with_name(written.name))


def checked_ending(path: Path, what: str, *endings: str) -> Path:
    """Return a path whose ending says what will be in the file.

    Parameters
    ----------
    path : Path
        Where to write.
    what : str
        What will be written, as the subject of a sentence.
    *endings : str
        What its name may end in, in small letters; the first is the one to recommend.

    Returns
    -------
    path : Path
        The same.

    Raises
    ------
    ValueError
        If it ends in something else.
    """
    if path.suffix.lower() not in endings:
        raise ValueError(
            f"{what} is written as {endings[0]} and not to {path.name!r}; let the name end in {endings[0]}."
        )
    return path


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise FileExistsError(f"{str(path)!r} exists already; pass overwrite=True (--overwrite) to replace it.")


def _mode_of_new_files(folder: str) -> int:
    """Return the permissions that a new file gets: some writers (safetensors) make theirs private to the owner."""
    probe = Path(folder) / ".mode"
    with open(probe, "xb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    probe.unlink()
    return mode
