"""Recordings together with what is known about their seizures."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from mne.utils import logger, verbose

from mne_labram.models.neurostorm import UNKNOWN_TYPE
from mne_labram.seizure.event_types import is_a
from mne_labram.seizure.events import EventTable
from mne_labram.seizure.labels import labels_of_windows, second_labels
from mne_labram.seizure.readers import find_events
from mne_labram.signal.contract import LABRAM_CONTRACT, SignalContract
from mne_labram.signal.store import ConformedStore, RecordingStore
from mne_labram.signal.window_table import select_files

__all__ = ["SeizureStore"]

#: What becomes of a recording of which nothing is known.
UNLABELLED = ("skip", "background", "raise")


class SeizureStore:
    """Conformed recordings, each with the table of its seizures.

    Parameters
    ----------
    conformed : ConformedStore
        The recordings.
    tables : sequence of EventTable
        One for each of them; a table without events says that there is no seizure.
    skipped : sequence of (str, str)
        Path and one sentence for every recording that is left out.

    Attributes
    ----------
    conformed, tables, skipped
        As above.

    Raises
    ------
    ValueError
        If there are not as many tables as recordings, or a table is of a recording of another length.

    Notes
    -----
    Nothing but tables and masks is in memory, however many subjects there are; signal is read when it is asked for.
    """

    def __init__(
        self, conformed: ConformedStore, tables: Sequence[EventTable], skipped: Sequence[tuple[str, str]] = ()
    ) -> None:
        if len(tables) != len(conformed.recordings):
            raise ValueError(f"There are {len(conformed.recordings)} recordings and {len(tables)} tables of events.")
        for recording, table in zip(conformed.recordings, tables, strict=True):
            if (problem := _other_length(recording.n_times / conformed.sfreq, table)) is not None:
                raise ValueError(f"{recording.path.name} {problem}")
        self.conformed, self.tables, self.skipped = conformed, list(tables), list(skipped)
        # A plain name where it says who it is, with the data set where two of these share names.
        pairs = [(str(each.dataset), str(each.subject)) for each in conformed.recordings]
        shared = {subject for subject in {s for _, s in pairs} if len({d for d, s in pairs if s == subject}) > 1}
        self._subjects = [f"{dataset}/{subject}" if subject in shared else subject for dataset, subject in pairs]

    @classmethod
    @verbose
    def open(
        cls,
        source: Any,
        contract: SignalContract = LABRAM_CONTRACT,
        *,
        events_of: Callable[[Path], EventTable | None] = find_events,
        unlabelled: str = "skip",
        subject_of: Callable[[Path], str] | None = None,
        cache: str | os.PathLike[str] | None = None,
        n_jobs: int | None = None,
        errors: str = "skip",
        verbose: bool | str | int | None = None,
    ) -> Self:
        """Open recordings and look for what is known about them.

        Parameters
        ----------
        source : path-like | list of path-like | BaseConcatDataset
            What :class:`~mne_labram.RecordingStore` takes: folders, a BIDS root, files.
        contract : SignalContract
            What the recordings are made into: a model's ``contract``.
        events_of : callable
            ``events_of(path)`` returns the table of a recording, or ``None`` where nothing is known.
        unlabelled : {"skip", "background", "raise"}
            What becomes of a recording of which nothing is known: it is left out, taken to hold no seizure, or refused.
        subject_of : callable | None
            ``subject_of(path)`` names the subject; see :class:`~mne_labram.RecordingStore`.
        cache : path-like | None
            Where conformed recordings are kept, see :meth:`~mne_labram.RecordingStore.conform`.
        n_jobs : int | None
            Recordings conformed in parallel.
        errors : {"skip", "raise"}
            What to do with a recording that cannot be read, or whose labels cannot be understood.
        verbose : bool | str | int | None
            Control verbosity of the logging output.

        Returns
        -------
        store : SeizureStore
            In the order of the recordings.

        Raises
        ------
        ValueError
            If ``unlabelled`` is none of the three, nothing can be used, or a recording is refused.
        """
        if unlabelled not in UNLABELLED:
            raise ValueError(f"unlabelled must be one of {', '.join(map(repr, UNLABELLED))}, got {unlabelled!r}.")
        recordings = RecordingStore(source, subject_of=subject_of, errors=errors)
        known: dict[Path, EventTable | None] = {}
        kept, skipped = [], list(recordings.skipped)
        damaged: list[str] = []
        unknown: list[str] = []
        for i, recording in enumerate(recordings.recordings):
            path = recording.path
            try:
                known[path] = events_of(path)
            except ValueError as error:
                if errors == "raise":
                    raise
                skipped.append((str(path), str(error)))
                damaged.append(str(error))
                logger.warning(f"Skipped {path.name}: {error}")
                continue
            if known[path] is None and unlabelled != "background":
                sentence = "Nothing is known about its seizures: no file of labels lies beside it."
                if unlabelled == "raise":
                    raise ValueError(f"{path}: {sentence[0].lower()}{sentence[1:]}")
                skipped.append((str(path), sentence))
                unknown.append(path.name)
                continue
            kept.append(i)
        if not kept and damaged:
            raise ValueError(f"No recording has labels that can be understood: {damaged[0]}")
        if unknown and kept:
            logger.info(f"No labels lie beside {len(unknown)} recording(s), {unknown[0]} the first; left out.")
        if not kept:
            raise ValueError(
                f"None of the {len(recordings.recordings)} recordings has labels; put *_events.tsv files beside them, "
                "or take those without as background with unlabelled='background'."
            )
        conformed = recordings.select(files=kept).conform(contract, cache=cache, n_jobs=n_jobs, errors=errors)
        tables, matching = [], []
        for i, each in enumerate(conformed.recordings):
            seconds = each.n_times / conformed.sfreq
            table = EventTable((), seconds) if known[each.path] is None else known[each.path]
            problem = _other_length(seconds, table)
            if problem is not None and errors == "skip":
                skipped.append((str(each.path), f"{each.path.name} {problem}"))
                logger.warning(f"Skipped: {each.path.name} {problem}")
                continue
            matching.append(i)
            tables.append(table)
        skipped += [entry for entry in conformed.skipped if entry not in skipped]
        if not tables:
            raise ValueError(f"No recording has labels of its own length: {skipped[-1][1]}")
        if len(tables) < len(conformed.recordings):
            conformed = conformed.select(files=matching)
        store = cls(conformed, tables, skipped)
        logger.info(
            f"{len(store)} recordings of {len(store.subjects)} subject(s), {store.n_hours:.3g} h, "
            f"{store.n_seizures} seizures; {len(skipped)} left out."
        )
        return store

    def __len__(self) -> int:
        return len(self.tables)

    def __repr__(self) -> str:
        return (
            f"<SeizureStore | {len(self)} recordings, {len(self.subjects)} subjects, {self.n_hours:.3g} h, "
            f"{self.n_seizures} seizures, for {self.conformed.contract.name}>"
        )

    @property
    def contract(self) -> SignalContract:
        """What the recordings were made into."""
        return self.conformed.contract

    @property
    def recordings(self) -> list[Any]:
        """The conformed recordings: path, subject, channels, length."""
        return self.conformed.recordings

    @property
    def subjects(self) -> list[str]:
        """Everybody, in order of names."""
        return sorted(set(self._subjects))

    @property
    def n_hours(self) -> float:
        """Hours of signal, unusable seconds too."""
        return self.conformed.n_hours

    @property
    def n_seizures(self) -> int:
        """Seizures in all tables."""
        return sum(len(table) for table in self.tables)

    def subject_of(self, file: int) -> str:
        """Name the subject of a recording.

        Parameters
        ----------
        file : int
            Number of the recording.

        Returns
        -------
        subject : str
            One of :attr:`subjects`.
        """
        return self._subjects[file]

    def n_seconds(self, file: int) -> int:
        """Count the seconds of a recording, a last part of one as one.

        Parameters
        ----------
        file : int
            Number of the recording.

        Returns
        -------
        n : int
            Length of what :meth:`labels` and :meth:`unusable` return.
        """
        return len(self.recordings[file].unusable)

    def labels(self, file: int) -> np.ndarray:
        """Label the seconds of a recording.

        Parameters
        ----------
        file : int
            Number of the recording.

        Returns
        -------
        labels : ndarray of bool, shape (n_seconds,)
            True where more than half of a second lies within a seizure.
        """
        return second_labels(self.tables[file], self.n_seconds(file))

    def unusable(self, file: int) -> np.ndarray:
        """Return which seconds of a recording must not be analysed.

        Parameters
        ----------
        file : int
            Number of the recording.

        Returns
        -------
        unusable : ndarray of bool, shape (n_seconds,)
            A copy.
        """
        return self.recordings[file].unusable.copy()

    def window_labels(
        self, file: int, start: int, n_times: int, class_names: Sequence[str] = ("bckg", "sz")
    ) -> np.ndarray:
        """Label the seconds of a window that may begin anywhere.

        Parameters
        ----------
        file : int
            Number of the recording.
        start, n_times : int
            First sample and number of samples at the contract's rate.
        class_names : sequence of str
            The background and one or more types of seizures, as SzCORE names them.

        Returns
        -------
        labels : ndarray of int64, shape (n_times // patch_samples,)
            The class of which more than half of a second is covered: the most special one that an event's type belongs
            to. -2 where it belongs to none, or to several that exclude each other: a seizure of unknown type.
        """
        n = n_times // self.contract.patch_samples
        begin, table = [start / self.conformed.sfreq], self.tables[file]
        labels = np.where(labels_of_windows(table, begin, n)[0], UNKNOWN_TYPE, 0).astype(np.int64)
        classes = [_class_of(event.event_type, class_names) for event in table.events]
        for number in sorted(set(classes) - {None}):
            own = [event for event, each in zip(table.events, classes, strict=True) if each == number]
            covered = labels_of_windows(own, begin, n)[0]
            labels[covered] = np.where(labels[covered] > 0, UNKNOWN_TYPE, number)
        return labels

    def has_seizure(self, file: np.ndarray, start: np.ndarray, n_times: int) -> np.ndarray:
        """Say which windows hold a part of a seizure.

        Parameters
        ----------
        file, start : ndarray, shape (n_windows,)
            Recordings and first samples.
        n_times : int
            Samples in a window.

        Returns
        -------
        seizure : ndarray of bool, shape (n_windows,)
            True where at least a sample lies within a seizure.
        """
        out = np.zeros(len(file), dtype=bool)
        sfreq = self.conformed.sfreq
        for number in np.unique(file).tolist():
            own = file == number
            for first, last in self.tables[number].intervals:
                begins = start[own] / sfreq
                # Sums of decimal fractions are not exact: less than a microsecond is no overlap.
                out[own] |= (begins < last - 1e-6) & (begins + n_times / sfreq > first + 1e-6)
        return out

    def select(
        self,
        *,
        subjects: Iterable[str] | None = None,
        exclude_subjects: Iterable[str] | None = None,
        files: Iterable[int] | None = None,
    ) -> Self:
        """Return some of the recordings, which share open files with these.

        Parameters
        ----------
        subjects, exclude_subjects : iterable of str | None
            Subjects wanted and not wanted; ``"S001"``, or ``"eegmmidb/S001"`` where two data sets share a name.
        files : iterable of int | None
            Numbers of recordings wanted.

        Returns
        -------
        store : SeizureStore
            Recordings are numbered anew.

        Raises
        ------
        TypeError
            If subjects are one string.
        ValueError
            If there is no such subject or number.
        """
        chosen = select_files(self.recordings, subjects, exclude_subjects, files)
        out = object.__new__(type(self))
        out.__dict__.update(self.__dict__)
        out.conformed = self.conformed.select(files=chosen)
        out.tables = [self.tables[i] for i in chosen]
        # Names stay what they are in the whole.
        out._subjects = [self._subjects[i] for i in chosen]
        return out


def _class_of(event_type: str, class_names: Sequence[str]) -> int | None:
    """Return the most special class that a type belongs to."""
    fitting = [i for i, name in enumerate(class_names) if i > 0 and is_a(event_type, name)]
    # Of a type and its special case the longer name is the special one.
    return max(fitting, key=lambda i: len(class_names[i])) if fitting else None


def _other_length(seconds: float, table: EventTable) -> str | None:
    """Say in what a table does not fit a recording."""
    # A header may say a last second that holds a part of one.
    if abs(table.duration - seconds) <= 1.5:
        return None
    return f"lasts {seconds:g} s and its table of events says {table.duration:g} s; this is another recording's table."
