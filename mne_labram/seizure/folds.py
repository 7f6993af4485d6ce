"""Who is trained on, who chooses the threshold, and who is tested: never the same person twice."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from mne.utils import logger

from mne_labram.seizure.lengths import recording_date

__all__ = ["Fold", "persons_of", "subject_folds", "time_series_folds"]


#: Subjects that a sentence lists.
_N_NAMES = 8


@dataclass(frozen=True)
class Fold:
    """Recordings of one fold, by their number in a store.

    Parameters
    ----------
    name : str
        Of the fold, unique.
    train, validation, test : tuple of int
        Rising numbers; none is in two of them.

    Raises
    ------
    ValueError
        If a recording is in two parts, or nothing is to be trained on or tested.
    """

    name: str
    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]

    def __post_init__(self) -> None:
        for part in ("train", "validation", "test"):
            object.__setattr__(self, part, tuple(sorted(int(each) for each in getattr(self, part))))
        together = [*self.train, *self.validation, *self.test]
        if len(set(together)) < len(together):
            raise ValueError(f"A recording is in two parts of the fold {self.name!r}.")
        if not (self.train and self.test):
            raise ValueError(f"The fold {self.name!r} needs recordings to train on and recordings to test.")


def persons_of(store: Any, same_subject: Mapping[str, str] | None = None) -> list[str]:
    """Return the person of every recording.

    Parameters
    ----------
    store : SeizureStore
        The recordings.
    same_subject : mapping of str to str | None
        Other names of a person and the name to use. ``None``: of CHB-MIT it is known that chb21 is chb01, recorded 1.5
        years later (physionet.org/content/chbmit); ``{}``: all are different.

    Returns
    -------
    persons : list of str
        Names of subjects; ``"dataset/subject"`` where two data sets have a subject of the same name.

    Raises
    ------
    ValueError
        If a name in ``same_subject`` is no subject of the store.
    """
    subjects = [str(store.subject_of(file)) for file in range(len(store))]
    sets = [str(each.dataset) for each in store.conformed.recordings]
    where = defaultdict(set)
    for subject, dataset in zip(subjects, sets, strict=True):
        where[subject].add(dataset)
    names = [
        subject if len(where[subject]) == 1 else f"{dataset}/{subject}"
        for subject, dataset in zip(subjects, sets, strict=True)
    ]
    if same_subject is None:
        same_subject = _known_pairs(names, sets)
    else:
        missing = sorted(set(same_subject) - set(names))
        if missing:
            raise ValueError(f"same_subject names {missing[0]!r}, and there is no recording of that subject.")
    return [same_subject.get(name, name) for name in names]


def _known_pairs(names: list[str], sets: list[str]) -> dict[str, str]:
    """Find the two names of one CHB-MIT patient, as written by PhysioNet or by a conversion to BIDS."""
    known = set(names)
    pairs = {}
    for name, dataset in zip(names, sets, strict=True):
        found = re.fullmatch(r"(.*?)(chb[-_]?)?21", name, flags=re.IGNORECASE)
        if found is None:
            continue
        # A conversion that has already joined the two has no subject 21, or has 23 subjects numbered anew.
        in_chbmit = re.search(r"chb[-_ ]?mit", dataset, flags=re.IGNORECASE) and f"{name[:-2]}24" in known
        if (found.group(2) or in_chbmit) and f"{name[:-2]}01" in known:
            pairs[name] = f"{name[:-2]}01"
    return pairs


def _say_shared_names(store: Any) -> None:
    """Say that two data sets have a subject of one name, which may be one person."""
    sets = defaultdict(set)
    for each in store.conformed.recordings:
        sets[str(each.subject)].add(str(each.dataset))
    shared = sorted(name for name, where in sets.items() if len(where) > 1)
    if shared:
        more = f", and so are {len(shared) - 1} more" if len(shared) > 1 else ""
        logger.warning(
            f"The subject {shared[0]} is in several data sets ({', '.join(sorted(sets[shared[0]]))}){more}; they are "
            "taken for different persons: pass same_subject if they are one."
        )


def subject_folds(
    store: Any,
    *,
    subjects: Iterable[str] | None = None,
    groups: str | Sequence[str] = "subject",
    n_folds: int | None = None,
    n_validation: int | None = None,
    same_subject: Mapping[str, str] | None = None,
    seed: int = 0,
) -> list[Fold]:
    """Split recordings so that whoever is tested was neither trained on nor asked for the threshold.

    Parameters
    ----------
    store : SeizureStore
        The recordings.
    subjects : iterable of str | None
        Who is tested (``"01"`` or ``"sub-01"``); the others are trained on in every fold. ``None``: everybody in turn.
    groups : {"subject", "recording"} | sequence of str
        What is left out at a time. Recordings of one person in training and test say how a detector does on patients it
        knows. A sequence names the group of each recording, for excerpts of one record.
    n_folds : int | None
        So many folds of several groups each; ``None``: one group at a time.
    n_validation : int | None
        Groups held back from training to choose the threshold; ``None``: a fifth of them, 0 where there is only one.
    same_subject : mapping of str to str | None
        See :func:`persons_of`.
    seed : int
        Draws the folds and the groups for validation.

    Returns
    -------
    folds : list of Fold
        In order of name.

    Raises
    ------
    TypeError, ValueError
        If there are too few groups, a subject is not there, or nothing with a seizure is left to train on.

    Notes
    -----
    Of the groups for validation at least one has seizures if training keeps another one that has.
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f"seed must be a whole number of 0 or more, got {seed!r}.")
    persons = persons_of(store, same_subject)
    if same_subject is None:
        _say_shared_names(store)
    labels = _groups(store, persons, groups)
    files: dict[str, list[int]] = defaultdict(list)
    for number, label in enumerate(labels):
        files[label].append(number)
    tested = sorted({labels[number] for number in _tested(store, persons, subjects)})
    if len(files) < 2:
        raise ValueError(
            "There is one subject (or group), without whom there is nobody to train on; pass groups='recording' to "
            "leave out one recording at a time."
        )
    if n_folds is None:
        parts = [[name] for name in tested]
    else:
        if not 2 <= n_folds <= len(tested):
            raise ValueError(f"n_folds must lie between 2 and the {len(tested)} groups that are tested, got {n_folds}.")
        order = np.random.default_rng([seed, 0]).permutation(tested).tolist()
        parts = [sorted(order[i::n_folds]) for i in range(n_folds)]
    has_seizure = {name: any(len(store.tables[i]) for i in numbers) for name, numbers in files.items()}
    folds = []
    for number, part in enumerate(parts):
        others = sorted(set(files) - set(part))
        rng = np.random.default_rng([seed, 1, number])
        name = part[0] if n_folds is None else f"part-{number + 1}-of-{n_folds}"
        if not any(has_seizure[each] for each in others):
            raise ValueError(
                f"Without {', '.join(part)} there is no seizure left to train on; test others only (subjects), or pass "
                "groups='recording'."
            )
        chosen = _validation(others, has_seizure, n_validation, rng)
        folds.append(
            Fold(
                name,
                tuple(i for each in others if each not in chosen for i in files[each]),
                tuple(i for each in chosen for i in files[each]),
                tuple(i for each in part for i in files[each]),
            )
        )
    return folds


def _groups(store: Any, persons: list[str], groups: str | Sequence[str]) -> list[str]:
    if isinstance(groups, str):
        if groups == "subject":
            return persons
        if groups == "recording":
            return recording_names(store)
        raise ValueError(f"groups must be 'subject', 'recording' or a name for each recording, got {groups!r}.")
    labels = [str(each) for each in groups]
    if len(labels) != len(persons):
        raise ValueError(f"groups names {len(labels)} recordings and there are {len(persons)}.")
    return labels


def recording_names(store: Any) -> list[str]:
    """Return one name for each recording: that of its file, with so many of its folders as tell it from others."""
    paths = [each.path for each in store.conformed.recordings]
    for depth in range(1, max((len(path.parts) for path in paths), default=0) + 1):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [f"{number}-{path.name}" for number, path in enumerate(paths)]


def _tested(store: Any, persons: list[str], subjects: Iterable[str] | None) -> list[int]:
    if subjects is None:
        return list(range(len(persons)))
    if isinstance(subjects, str):
        raise TypeError("Subjects must be a list of names, got one string.")
    # Who has two names may be asked for by either, and is tested whole.
    other_names = {str(store.subject_of(number)): person for number, person in enumerate(persons)}
    known = set(persons) | set(other_names)
    # BIDS names the folder "sub-01" and the subject "01".
    wanted = {name if name in known else name.removeprefix("sub-") for name in map(str, subjects)}
    missing = sorted(wanted - known)
    if missing:
        there = sorted(known)
        listed = ", ".join(there[:_N_NAMES]) + (f" and {len(there) - _N_NAMES} others" if len(there) > _N_NAMES else "")
        raise ValueError(f"There is no recording of {', '.join(missing)} in the store; there are those of {listed}.")
    wanted = {other_names.get(each, each) for each in wanted}
    return [number for number, person in enumerate(persons) if person in wanted]


def _validation(
    others: list[str], has_seizure: Mapping[str, bool], n_validation: int | None, rng: np.random.Generator
) -> list[str]:
    """Draw the groups that choose the threshold."""
    if n_validation is None:
        n_validation = max(1, round(0.2 * len(others))) if len(others) > 1 else 0
    if isinstance(n_validation, bool) or not isinstance(n_validation, (int, np.integer)) or n_validation < 0:
        raise ValueError(f"The number of subjects for validation must be 0 or more, got {n_validation!r}.")
    if n_validation >= len(others):
        raise ValueError(
            f"{n_validation} of {len(others)} subjects for validation leave nobody to train on; take fewer."
        )
    order = rng.permutation(others).tolist()
    ill = [name for name in order if has_seizure[name]]
    # The first is kept for training, the second is the first to be drawn; then come all others as they are.
    first = ill[1:2]
    rest = [name for name in order if name not in ill[:2]]
    return sorted([*first, *rest][:n_validation])


def time_series_folds(
    store: Any,
    subject: str,
    *,
    n_folds: int = 5,
    window: str = "expanding",
    validate: bool = True,
    same_subject: Mapping[str, str] | None = None,
) -> list[Fold]:
    """Split the recordings of one patient by time: training ends before what is tested begins.

    Parameters
    ----------
    store : SeizureStore
        The recordings; those of others are not used. Dates are those of the tables of events, or of the headers of the
        recordings where no table has one.
    subject : str
        The patient.
    n_folds : int
        Tests, one after the other; the recordings are cut into one more stretch than that.
    window : {"expanding", "fixed"}
        Train on everything before the test, or on as many recordings as the first stretch has.
    validate : bool
        Take the latest recordings before the test, as far back as the latest one with a seizure, to choose the
        threshold, if earlier ones have a seizure too.
    same_subject : mapping of str to str | None
        See :func:`persons_of`.

    Returns
    -------
    folds : list of Fold
        In order of time. Those with no seizure to train on are left out, which is logged.

    Raises
    ------
    ValueError
        If the patient is not there, a recording has no date, there are too few recordings, or no fold has a seizure to
        train on.

    Notes
    -----
    This is how SzCORE asks for personal detectors to be evaluated (time-series cross-validation). A recording that had
    not ended when the first of the test began is left out of training.
    """
    if window not in ("expanding", "fixed"):
        raise ValueError(f"window must be 'expanding' or 'fixed', got {window!r}.")
    files = _tested(store, persons_of(store, same_subject), [subject])
    times = _begins(store, files)
    files = sorted(files, key=lambda file: times[file])
    if isinstance(n_folds, bool) or not isinstance(n_folds, (int, np.integer)) or not 1 <= n_folds < len(files):
        raise ValueError(
            f"n_folds must lie between 1 and {len(files) - 1}, as {subject} has {len(files)} recording(s), got "
            f"{n_folds!r}."
        )
    stretches = [each.tolist() for each in np.array_split(files, n_folds + 1)]
    folds, left_out = [], 0
    for number, test in enumerate(stretches[1:], start=1):
        before = [file for stretch in stretches[:number] for file in stretch]
        limit = min(times[file] for file in test)
        before = [file for file in before if times[file] + store.tables[file].duration <= limit]
        if window == "fixed":
            before = before[-len(stretches[0]) :]
        if not any(len(store.tables[file]) for file in before):
            left_out += 1
            continue
        train, validation = _latest(store, before) if validate else (before, [])
        folds.append(Fold(f"{subject}-{number}", tuple(train), tuple(validation), tuple(test)))
    if not folds:
        raise ValueError(f"No recording of {subject} with a seizure ends before the ones that would be tested begin.")
    if left_out:
        logger.info(f"Left out {left_out} fold(s) of {subject} with no seizure to train on.")
    return folds


def _latest(store: Any, files: list[int]) -> tuple[list[int], list[int]]:
    """Cut off the end of a training, with one recording that has a seizure, if the rest keeps one."""
    ill = [number for number, file in enumerate(files) if len(store.tables[file])]
    return (files[: ill[-1]], files[ill[-1] :]) if len(ill) > 1 else (files, [])


def _begins(store: Any, files: list[int]) -> dict[int, float]:
    """Return when recordings began, in seconds; times without a zone are taken as one zone's."""
    dates: dict[int, datetime | None] = {file: store.tables[file].date_time for file in files}
    # Most labels have no dates and most recordings have. Of both together nobody knows whether they count alike.
    if all(date is None for date in dates.values()):
        dates = {file: recording_date(store.conformed.recordings[file].path) for file in files}
    begins = {}
    for file, date in dates.items():
        if date is None:
            raise ValueError(
                f"{store.conformed.recordings[file].path.name} does not say when it was recorded; without that nobody "
                "can tell what was before what."
            )
        begins[file] = (date if date.tzinfo is not None else date.replace(tzinfo=UTC)).timestamp()
    return begins
