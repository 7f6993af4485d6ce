"""Detections against a reference by SzCORE's rules, counted by the package ``timescoring``."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mne_labram.seizure.events import EventTable
from mne_labram.seizure.scores import Counts, Scores, SubjectScores
from mne_labram.seizure.szcore import read_szcore_tsv
from mne_labram.signal.contract import ContractError

__all__ = ["score", "score_tables", "union"]

_MASKS = ("timescoring", "szcore")


def score(
    ref_dir: str | os.PathLike,
    hyp_dir: str | os.PathLike,
    *,
    errors: str = "report",
    masks: str = "timescoring",
) -> Scores:
    """Score a folder of detections against a folder of references, as the SzCORE benchmark does.

    Parameters
    ----------
    ref_dir : path-like
        A BIDS data set with references, ``sub-*/**/*_events.tsv`` in SzCORE's format; other files are not looked at.
        Or one such file.
    hyp_dir : path-like
        A folder with the same tree of detections. Or one file.
    errors : {"report", "raise"}
        What to do with a detection file that is missing, cannot be read, or is of a recording of another length
        (compared in whole seconds). ``"report"``: name it in ``problems`` and score it as "nothing detected", as SzCORE
        does without a word.
    masks : {"timescoring", "szcore"}
        How events whose times are no whole seconds become seconds: rounded, with tenths of a second kept for the
        events (timescoring, given events); or cut off (szcore-evaluation, the program of the leaderboard). Both give
        the same for whole seconds.

    Returns
    -------
    scores : Scores
        Per subject, mean and spread over subjects, and pooled; by events and second by second.

    Raises
    ------
    ValueError
        If there is no reference, a reference cannot be read, no detection has the name of a reference, or an argument
        is none of those above.
    ContractError
        With ``errors="raise"``, if a detection file cannot be scored.

    Notes
    -----
    Events closer than 90 s are one, events longer than 300 s are split, and a seizure is found if a detection touches
    the time from 30 s before to 60 s after it (Dan et al., 2025, Epilepsia; the parameters are timescoring's
    defaults). A detection that touches no seizure that was found is a false alarm. Counts of a subject are pooled
    before its metrics are computed, and the mean is over the subjects for whom a metric is defined.
    """
    if errors not in ("report", "raise"):
        raise ValueError(f"errors must be 'report' or 'raise', got {errors!r}.")
    _check_masks(masks)
    ref_dir, hyp_dir = Path(ref_dir).expanduser(), Path(hyp_dir).expanduser()
    pairs = _pairs(ref_dir, hyp_dir)
    subjects: dict[str, SubjectScores] = {}
    problems = []
    for subject, name, ref_file, hyp_file in pairs:
        reference = _read_reference(ref_file)
        hypothesis, problem = _read_hypothesis(hyp_file, name, reference)
        if problem is not None:
            if errors == "raise":
                raise ContractError(problem)
            problems.append(f"{problem[:-1]}; scored as nothing detected.")
        _add(subjects, score_recording(reference, hypothesis, subject, masks=masks))
    problems += _not_asked_for(hyp_dir, {hyp_file for *_, hyp_file in pairs})
    return Scores(tuple(subjects.values()), _version(), masks, tuple(problems))


def score_tables(
    reference: Sequence[EventTable],
    hypothesis: Sequence[EventTable],
    subjects: Sequence[str],
    *,
    masks: str = "timescoring",
) -> Scores:
    """Score tables in memory by SzCORE's rules.

    Parameters
    ----------
    reference, hypothesis : sequence of EventTable
        What is true and what was detected, one for each recording.
    subjects : sequence of str
        Whose recording each is.
    masks : {"timescoring", "szcore"}
        As in :func:`mne_labram.score`.

    Returns
    -------
    scores : Scores
        Subjects are in the order in which they come first.

    Raises
    ------
    ValueError
        If the three are not equally many, or the two tables of a recording are of another length.
    """
    _check_masks(masks)
    if not len(reference) == len(hypothesis) == len(subjects):
        raise ValueError(
            f"There are {len(reference)} reference tables, {len(hypothesis)} detected ones and {len(subjects)} "
            "subjects; give one of each for every recording."
        )
    out: dict[str, SubjectScores] = {}
    for number, (true, found, subject) in enumerate(zip(reference, hypothesis, subjects, strict=True)):
        if int(true.duration) != int(found.duration):
            raise ValueError(
                f"Recording {number} lasts {true.duration:g} s by the reference and {found.duration:g} s by the "
                "detections; these are tables of two recordings."
            )
        _add(out, score_recording(true, found, subject, masks=masks))
    return Scores(tuple(out.values()), _version(), masks)


def score_recording(
    reference: EventTable, hypothesis: EventTable, subject: str, *, masks: str = "timescoring"
) -> SubjectScores:
    """Count hits and false alarms in one recording.

    Parameters
    ----------
    reference, hypothesis : EventTable
        What is true and what was detected. The length is the reference's, in whole seconds (cut off, as
        szcore-evaluation does).
    subject : str
        Whose recording it is.
    masks : {"timescoring", "szcore"}
        As in :func:`mne_labram.score`.

    Returns
    -------
    scores : SubjectScores
        Of this recording alone.
    """
    from timescoring.annotations import Annotation
    from timescoring.scoring import EventScoring, SampleScoring

    # A recording shorter than a second counts as one: no time would give rates of infinity.
    n_seconds = max(int(reference.duration), 1)

    def annotation(table: EventTable) -> Annotation:
        # EventScoring shortens an event that another one lies within (0.0.7, _mergeNeighbouringEvents), hence the
        # union; and its tenths of a second must not reach behind the last whole second.
        events = [(start, min(stop, n_seconds)) for start, stop in union(table.intervals) if start < n_seconds]
        if masks == "timescoring":
            return Annotation(events, 1, n_seconds)
        mask = np.zeros(n_seconds, dtype=bool)
        for start, stop in events:
            mask[int(start) : int(stop)] = True
        return Annotation(mask, 1)

    true, found = annotation(reference), annotation(hypothesis)
    event = EventScoring(true, found, EventScoring.Parameters(30, 60, 0, 300, 90))
    sample = SampleScoring(true, found, fs=1)
    counts = [
        Counts(int(each.refTrue), int(each.tp), int(each.fp), each.numSamples / each.fs) for each in (event, sample)
    ]
    return SubjectScores(subject, 1, len(reference), *counts)


def union(intervals: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Join intervals that overlap or touch.

    Parameters
    ----------
    intervals : sequence of (float, float)
        Start and end, in any order.

    Returns
    -------
    joined : list of (float, float)
        In order of time.
    """
    out: list[tuple[float, float]] = []
    for start, stop in sorted(intervals):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], stop))
        else:
            out.append((start, stop))
    return out


def _pairs(ref_dir: Path, hyp_dir: Path) -> list[tuple[str, str, Path, Path]]:
    """List subject, name in the tree, reference and detections, in order of name."""
    for name, path in (("reference", ref_dir), ("detections", hyp_dir)):
        if not path.exists():
            raise FileNotFoundError(f"There is no {str(path)!r} to take the {name} from.")
    if ref_dir.is_file():
        if not hyp_dir.is_file():
            raise ValueError(f"{str(ref_dir)!r} is one file and {str(hyp_dir)!r} a folder; give two files or folders.")
        subject = next((part for part in ref_dir.name.split("_") if part.startswith("sub-")), ref_dir.stem)
        return [(subject, hyp_dir.name, ref_dir, hyp_dir)]
    if not hyp_dir.is_dir():
        raise ValueError(f"{str(ref_dir)!r} is a folder and {str(hyp_dir)!r} is not; give two files or folders.")
    found = sorted(path for path in ref_dir.glob("sub-*/**/*_events.tsv") if path.is_file())
    if not found:
        raise ValueError(
            f"There is no file sub-*/**/*_events.tsv in {str(ref_dir)!r}; give the folder that holds the folders of "
            "the subjects."
        )
    names = [path.relative_to(ref_dir) for path in found]
    if not any((hyp_dir / name).is_file() for name in names):
        raise ValueError(
            f"None of the {len(found)} references has detections in {str(hyp_dir)!r}; they are looked for under the "
            f"same names, like {names[0].as_posix()}."
        )
    return [(name.parts[0], name.as_posix(), path, hyp_dir / name) for name, path in zip(names, found, strict=True)]


def _read_reference(fname: Path) -> EventTable:
    try:
        return read_szcore_tsv(fname)
    except ValueError as error:
        raise ValueError(_sentence(f"The reference {str(fname)!r} cannot be read", error)) from error


def _read_hypothesis(fname: Path, name: str, reference: EventTable) -> tuple[EventTable, str | None]:
    """Return what was detected, and one sentence if that cannot be told."""
    nothing = reference.with_events(())
    if not fname.is_file():
        return nothing, f"{name} is missing among the detections."
    try:
        table = read_szcore_tsv(fname)
    except (ValueError, OSError) as error:
        return nothing, _sentence(f"The detections {name} cannot be read", error)
    if int(table.duration) != int(reference.duration):
        return nothing, (
            f"The detections {name} are of a recording of {table.duration:g} s, the reference of one of "
            f"{reference.duration:g} s."
        )
    return table, None


def _not_asked_for(hyp_dir: Path, used: set[Path]) -> list[str]:
    """Name what was detected in recordings that have no reference."""
    if not hyp_dir.is_dir():
        return []
    others = sorted(path for path in hyp_dir.glob("sub-*/**/*_events.tsv") if path not in used)
    return [f"{path.relative_to(hyp_dir).as_posix()} has no reference; it was not scored." for path in others]


def _sentence(start: str, error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{start}: {text if text.endswith('.') else text + '.'}"


def _add(subjects: dict[str, SubjectScores], one: SubjectScores) -> None:
    subjects[one.subject] = subjects[one.subject] + one if one.subject in subjects else one


def _check_masks(masks: str) -> None:
    if masks not in _MASKS:
        raise ValueError(f"masks must be 'timescoring' or 'szcore', got {masks!r}.")


def _version() -> str:
    return importlib.metadata.version("timescoring")
