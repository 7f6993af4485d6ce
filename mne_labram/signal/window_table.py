"""Windows of many recordings as arrays: twelve bytes each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["WindowTable", "select_files", "tile_segments"]


@dataclass(frozen=True, eq=False)
class WindowTable:
    """Windows of one length.

    Attributes
    ----------
    file : ndarray of int32, shape (n,)
        Which recording of the store.
    start : ndarray of int64, shape (n,)
        First sample of the window in it.
    n_times : int
        Samples in a window.
    """

    file: np.ndarray
    start: np.ndarray
    n_times: int

    def __post_init__(self) -> None:
        if self.file.shape != self.start.shape or self.file.ndim != 1:
            raise ValueError(f"file and start must be two rows of one length, got {self.file.shape, self.start.shape}.")

    def __len__(self) -> int:
        return len(self.file)

    def take(self, rows: np.ndarray | Sequence[int] | slice) -> WindowTable:
        """Return some of the windows.

        Parameters
        ----------
        rows : ndarray of int or bool | sequence of int | slice
            Which ones, in which order.

        Returns
        -------
        table : WindowTable
            Those.
        """
        rows = rows if isinstance(rows, slice) else np.asarray(rows)
        return WindowTable(self.file[rows], self.start[rows], self.n_times)

    @classmethod
    def of_files(cls, starts: Sequence[np.ndarray], n_times: int) -> WindowTable:
        """Join the starts of every file, in the order of the files."""
        file = np.repeat(np.arange(len(starts), dtype=np.int32), [len(each) for each in starts])
        start = np.concatenate([np.zeros(0, dtype=np.int64), *starts])
        return cls(file, start.astype(np.int64), int(n_times))


def tile_segments(segments: Iterable[tuple[int, int]], n_times: int, stride: int) -> np.ndarray:
    """Return the starts of windows of ``n_times`` samples, every ``stride`` from the beginning of each segment."""
    starts = [np.arange(first, stop - n_times + 1, stride, dtype=np.int64) for first, stop in segments]
    return np.concatenate([np.zeros(0, dtype=np.int64), *starts])


def select_files(
    recordings: Sequence,
    subjects: Iterable[str] | None = None,
    exclude_subjects: Iterable[str] | None = None,
    files: Iterable[int] | None = None,
) -> list[int]:
    """Choose recordings by subject or number.

    Parameters
    ----------
    recordings : sequence
        Each has ``subject`` and ``dataset``.
    subjects, exclude_subjects : iterable of str | None
        Subjects wanted and not wanted; ``"S001"``, or ``"eegmmidb/S001"`` where two data sets have one of that name.
    files : iterable of int | None
        Numbers of recordings wanted.

    Returns
    -------
    chosen : list of int
        Numbers of the recordings that fulfil all of it, in order.

    Raises
    ------
    TypeError
        If subjects are one string.
    ValueError
        If a subject or a number is not there: a split by a name that is spelt otherwise would hold everybody.
    """
    names = [{each.subject, f"{each.dataset}/{each.subject}"} for each in recordings]
    known = set().union(*names)
    chosen = set(range(len(recordings)))
    for wanted, keep in ((subjects, True), (exclude_subjects, False)):
        if wanted is None:
            continue
        if isinstance(wanted, str):
            raise TypeError("Subjects must be a list of names, got one string.")
        if not isinstance(wanted, Iterable):
            raise TypeError(f"Subjects must be a list of names, got {type(wanted).__name__}.")
        wanted = {str(each) for each in wanted}  # Braindecode's subjects are numbers
        if wanted - known:
            raise ValueError(f"There is no recording of {', '.join(sorted(wanted - known))} in the store.")
        chosen &= {i for i, each in enumerate(names) if bool(each & wanted) == keep}
    if files is not None:
        files = {int(each) for each in files}
        wrong = sorted(files - set(range(len(recordings))))
        if wrong:
            raise ValueError(f"Files are numbered from 0 to {len(recordings) - 1}, got {wrong[0]}.")
        chosen &= files
    return sorted(chosen)
