"""What stores of recordings have in common: how many, how long, and some of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Self

from mne_labram.signal.window_table import select_files

__all__ = ["RecordingCollection"]


class RecordingCollection(ABC):
    """A list of recordings from which some can be chosen by subject.

    Attributes
    ----------
    recordings : list
        Each has ``subject`` and ``dataset``.
    """

    recordings: list[Any]

    def __len__(self) -> int:
        return len(self.recordings)

    @property
    @abstractmethod
    def n_seconds(self) -> float:
        """Seconds of signal in all recordings, unusable ones too."""

    @property
    def n_hours(self) -> float:
        """Hours of signal in all recordings, unusable ones too."""
        return self.n_seconds / 3600

    def select(
        self,
        *,
        subjects: Iterable[str] | None = None,
        exclude_subjects: Iterable[str] | None = None,
        files: Iterable[int] | None = None,
    ) -> Self:
        """Return a store of some of the recordings, which shares open files with this one.

        Parameters
        ----------
        subjects, exclude_subjects : iterable of str | None
            Subjects wanted and not wanted; ``"S001"``, or ``"eegmmidb/S001"`` where two data sets share a name.
        files : iterable of int | None
            Numbers of recordings wanted.

        Returns
        -------
        store : same type
            Files are numbered anew.

        Raises
        ------
        TypeError
            If subjects are one string.
        ValueError
            If there is no such subject or number.
        """
        return self._of(select_files(self.recordings, subjects, exclude_subjects, files))

    def _of(self, chosen: list[int]) -> Self:
        """Copy, but for the recordings that were not chosen."""
        out = object.__new__(type(self))
        out.__dict__.update(self.__dict__)
        out.recordings = [self.recordings[i] for i in chosen]
        return out
