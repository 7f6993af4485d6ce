"""Detectors on subjects they have never seen: train, choose a threshold on others, test, forget, next."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from mne.utils import logger, verbose

from mne_labram.seizure.calibration import TOLERANCE, Calibration, calibration_and_problem, checked_choice
from mne_labram.seizure.events import EventTable, SeizureEvent
from mne_labram.seizure.fold_results import Evaluation, FoldResult, read_result
from mne_labram.seizure.folds import Fold, persons_of, recording_names, subject_folds, time_series_folds
from mne_labram.seizure.scores import without_nan, write_json
from mne_labram.seizure.scoring import score_tables
from mne_labram.signal.events import EventParameters, events_from_scores

__all__ = ["leave_one_subject_out", "personalised_evaluation", "run_folds"]

_FORMAT = 1
#: What settings are called that are only a number to compare.
_SETTINGS = {"recordings": "recordings and their seizures", "folds": "who is trained on, validated on and tested"}


@verbose
def leave_one_subject_out(
    store: Any,
    model_factory: Callable[[], Any],
    *,
    folder: str | os.PathLike,
    subjects: Iterable[str] | None = None,
    groups: str | Sequence[str] = "subject",
    n_folds: int | None = None,
    n_validation_subjects: int | None = None,
    target_fp_per_day: float | None = None,
    parameters: EventParameters | Sequence[EventParameters] | None = None,
    same_subject: Mapping[str, str] | None = None,
    seed: int = 0,
    n_jobs: int | None = None,
    resume: bool = True,
    detector: str | None = None,
    verbose: bool | str | None = None,
) -> Evaluation:
    """Test a seizure detector on every subject, trained and calibrated on others.

    Parameters
    ----------
    store : SeizureStore
        Recordings and their seizures.
    model_factory : callable
        Returns an unfitted detector: ``fit(train, validation, folder=, seed=)``, which returns the detector to use (of
        its best weights, not its last), and ``probabilities(store, file)``, scores at 1 Hz between 0 and 1.
    folder : path-like
        Where every fold leaves its result, a JSON file, and its detector what it likes.
    subjects : iterable of str | None
        Who is tested; the others are trained on in every fold. ``None``: everybody in turn.
    groups : {"subject", "recording"} | sequence of str
        What is left out at a time; ``"recording"`` tells how a detector does on patients it knows. A sequence names the
        group of each recording, for excerpts of one record.
    n_folds : int | None
        K-fold over the groups; ``None``: one at a time.
    n_validation_subjects : int | None
        Subjects (or groups) held back from training for early stopping and the threshold; ``None``: a fifth.
    target_fp_per_day : float | None
        Choose the threshold for so many false alarms in 24 hours; ``None``: for the best F1 of events.
    parameters : EventParameters | sequence of EventParameters | None
        How scores become events, but for the threshold; of several, calibration chooses.
    same_subject : mapping of str to str | None
        Other names of a person and the name to use; ``None``: chb21 of CHB-MIT is chb01.
    seed : int
        Of the split and of training.
    n_jobs : int | None
        Folds at a time; ``None``: one, or what ``joblib.parallel_config`` says, of a Dask cluster too.
    resume : bool
        Do not run finished folds of the same settings again; false removes what is there of these folds.
    detector : str | None
        What to call the detector in the settings; ``None``: the name of the factory.
    verbose : bool | str | None
        See MNE.

    Returns
    -------
    evaluation : Evaluation
        Results by fold and over subjects; also written to ``evaluation.json``.

    Raises
    ------
    TypeError, ValueError
        If the subjects do not allow it, or the folder holds folds made with other settings.

    Notes
    -----
    The recordings tested are in neither of the stores that ``fit`` sees, nor is the threshold chosen on them.
    Validation recordings of somebody who is trained on (``groups="recording"``) choose the threshold and are not given
    to ``fit``. Of a fold stay its events and counts: memory does not grow with the number of subjects by more than
    these.
    """
    folds = subject_folds(
        store,
        subjects=subjects,
        groups=groups,
        n_folds=n_folds,
        n_validation=n_validation_subjects,
        same_subject=same_subject,
        seed=seed,
    )
    return run_folds(
        store,
        folds,
        model_factory,
        folder=folder,
        target_fp_per_day=target_fp_per_day,
        parameters=parameters,
        same_subject=same_subject,
        seed=seed,
        n_jobs=n_jobs,
        resume=resume,
        detector=detector,
    )


@verbose
def personalised_evaluation(
    store: Any,
    subject: str,
    model_factory: Callable[[], Any],
    *,
    folder: str | os.PathLike,
    n_folds: int = 5,
    window: str = "expanding",
    target_fp_per_day: float | None = None,
    parameters: EventParameters | Sequence[EventParameters] | None = None,
    same_subject: Mapping[str, str] | None = None,
    seed: int = 0,
    n_jobs: int | None = None,
    resume: bool = True,
    detector: str | None = None,
    verbose: bool | str | None = None,
) -> Evaluation:
    """Test a detector on the later recordings of a patient, trained on earlier ones.

    Parameters
    ----------
    store : SeizureStore
        Recordings, with the date of each.
    subject : str
        The patient.
    model_factory, folder
        As in :func:`leave_one_subject_out`.
    n_folds, window
        As in :func:`mne_labram.seizure.folds.time_series_folds`.
    target_fp_per_day, parameters, same_subject, seed, n_jobs, resume, detector, verbose
        As in :func:`leave_one_subject_out`.

    Returns
    -------
    evaluation : Evaluation
        Results by fold, and pooled.

    Raises
    ------
    ValueError
        If the recordings do not allow it, or the folder holds folds made with other settings.
    """
    folds = time_series_folds(store, subject, n_folds=n_folds, window=window, same_subject=same_subject)
    return run_folds(
        store,
        folds,
        model_factory,
        folder=folder,
        target_fp_per_day=target_fp_per_day,
        parameters=parameters,
        same_subject=same_subject,
        seed=seed,
        n_jobs=n_jobs,
        resume=resume,
        detector=detector,
    )


def run_folds(
    store: Any,
    folds: Sequence[Fold],
    model_factory: Callable[[], Any],
    *,
    folder: str | os.PathLike,
    target_fp_per_day: float | None = None,
    parameters: EventParameters | Sequence[EventParameters] | None = None,
    same_subject: Mapping[str, str] | None = None,
    seed: int = 0,
    n_jobs: int | None = None,
    resume: bool = True,
    detector: str | None = None,
) -> Evaluation:
    """Run folds of any kind.

    Parameters
    ----------
    store : SeizureStore
        Recordings and their seizures.
    folds : sequence of Fold
        Who is trained on and who is tested.
    model_factory, folder, target_fp_per_day, parameters, same_subject, seed, n_jobs, resume, detector
        As in :func:`leave_one_subject_out`.

    Returns
    -------
    evaluation : Evaluation
        Results in the order of the folds.

    Raises
    ------
    TypeError
        If ``model_factory`` cannot be called, or the target or the parameters are none.
    ValueError
        If there is no fold, two have one name, there are no parameters, or the folder holds folds made with other
        settings.
    """
    if not callable(model_factory):
        raise TypeError(f"model_factory must return a new detector when called, got a {type(model_factory).__name__}.")
    names = [_file_name(fold.name) for fold in folds]
    if not names or len(set(names)) < len(names):
        raise ValueError("Folds need names of their own, and there must be one at least.")
    # Now, not after the first detector was trained for hours.
    candidates = checked_choice(parameters, target_fp_per_day)
    folder = Path(folder).expanduser()
    settings = {
        "format": _FORMAT,
        "detector": _name_of(model_factory) if detector is None else detector,
        "target_fp_per_day": None if target_fp_per_day is None else float(target_fp_per_day),
        "parameters": [asdict(each) for each in candidates],
        "seed": int(seed),
        "recordings": _digest(store),
        "folds": hashlib.sha256(json.dumps([asdict(fold) for fold in folds]).encode()).hexdigest()[:16],
    }
    _settle(folder, settings, names, resume)
    done = {name: read_result(folder / f"{name}.json") for name in names}
    todo = [(fold, name) for fold, name in zip(folds, names, strict=True) if done[name] is None]
    if len(todo) < len(folds):
        logger.info(f"{len(folds) - len(todo)} of {len(folds)} fold(s) are finished already.")
    persons = persons_of(store, same_subject)
    if todo:
        from joblib import Parallel, delayed

        run = delayed(_run_fold)
        jobs = (
            run(store, persons, fold, model_factory, folder, name, candidates, target_fp_per_day, seed)
            for fold, name in todo
        )
        # Results come back by their files; what a worker returns stays small.
        for line in Parallel(n_jobs=n_jobs)(jobs):
            logger.info(line)
    results = []
    for name in names:
        result = done[name] or read_result(folder / f"{name}.json")
        if result is None:
            raise OSError(f"The result {folder / name}.json is gone or damaged; run the evaluation again.")
        results.append(result)
    evaluation = Evaluation(tuple(results), settings)
    evaluation.to_json(folder / "evaluation.json", overwrite=True)
    return evaluation


def _run_fold(
    store: Any,
    persons: list[str],
    fold: Fold,
    model_factory: Callable[[], Any],
    folder: Path,
    name: str,
    candidates: list[EventParameters],
    target_fp_per_day: float | None,
    seed: int,
) -> str:
    """Train, calibrate, test, write the result; return one line about it."""
    began = time.monotonic()
    train = store.select(files=fold.train)
    validation = store.select(files=fold.validation) if fold.validation else None
    # Early stopping looks at strangers only: on recordings of somebody it knows, a detector never seems to overfit.
    known = {persons[file] for file in fold.train}
    strangers = [file for file in fold.validation if persons[file] not in known]
    own = folder / name
    own.mkdir(parents=True, exist_ok=True)
    # Not the detector that was made but the one that fit returns: the best weights may live in another object.
    fitted = model_factory().fit(train, store.select(files=strangers) if strangers else None, folder=own, seed=seed)
    calibration, calibrated_on, problem = _calibrate(fitted, train, validation, candidates, target_fp_per_day)
    notes = [] if problem is None else [problem]
    if calibrated_on == "training":
        notes.append("The threshold was chosen on training recordings, which it knows.")
    del train, validation
    names = recording_names(store)
    test = store.select(files=fold.test)
    found, seconds, detections = [], [], []
    for number, file in enumerate(fold.test):
        scores = _probabilities(fitted, test, number)
        table = test.tables[number]
        events = events_from_scores(scores, calibration.parameters)
        seconds.append((scores, np.asarray(test.labels(number), dtype=bool)))
        found.append(table.with_events(_event(event, table) for event in events))
        detections.append(
            {
                "recording": names[file],
                "subject": persons[file],
                "duration": table.duration,
                "detected": [[start, stop - start, confidence] for start, stop, confidence in events],
                "true": [[event.onset, event.duration] for event in table.events],
            }
        )
    scores_of_fold = score_tables(test.tables, found, [persons[file] for file in fold.test])
    auroc, average_precision, n_missing = _curves(seconds)
    result = FoldResult(
        fold.name,
        *(tuple(names[file] for file in part) for part in (fold.train, fold.validation, fold.test)),
        calibration,
        calibrated_on,
        scores_of_fold,
        auroc,
        average_precision,
        n_missing,
        detections,
        (time.monotonic() - began) / 60,
        tuple(notes),
    )
    write_json(result.to_dict(), folder / f"{name}.json", overwrite=True)
    event = scores_of_fold.pooled()
    line = (
        f"Fold {fold.name}: {event.n_tp} of {event.n_true} seizure(s) found, {event.n_fp} false alarm(s) in "
        f"{scores_of_fold.n_hours:.3g} h, threshold {calibration.parameters.threshold:.3g}."
    )
    return " ".join([line, *notes])


def _calibrate(
    detector: Any, train: Any, validation: Any, candidates: list[EventParameters], target: float | None
) -> tuple[Calibration, str, str | None]:
    """Choose the threshold on validation recordings; without any that can tell, on those of training too."""

    def scored(store: Any) -> list[np.ndarray]:
        return [] if store is None else [_probabilities(detector, store, file) for file in range(len(store))]

    probabilities, tables = scored(validation), [] if validation is None else list(validation.tables)
    analysed = any(np.isfinite(each).any() for each in probabilities)
    source = "validation"
    if not analysed or (target is None and not any(len(table) for table in tables)):
        source = "training"
        probabilities, tables = scored(train) + probabilities, list(train.tables) + tables
    calibration, problem = calibration_and_problem(
        probabilities, tables, parameters=candidates, target_fp_per_day=target
    )
    return calibration, source, problem


def _probabilities(detector: Any, store: Any, file: int) -> np.ndarray:
    """Return scores at 1 Hz, or raise where they are none."""
    scores = np.asarray(detector.probabilities(store, file), dtype=float)
    duration = store.tables[file].duration
    if scores.ndim != 1 or abs(scores.size - duration) > TOLERANCE:
        raise ValueError(
            f"The detector gave scores of shape {scores.shape} for {duration:g} s; it must give one for each second."
        )
    return scores


def _event(event: tuple[int, int, float], table: EventTable) -> SeizureEvent:
    start, stop, confidence = event
    # A last part of a second has a score, and the recording ends within it.
    start = min(float(start), math.nextafter(table.duration, 0.0))
    return SeizureEvent(start, stop - start, confidence=float(np.clip(confidence, 0.0, 1.0)))


def _curves(seconds: list[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float, int]:
    """Return the areas under ROC and precision-recall curves over analysed seconds, and how many are not."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    scores = np.concatenate([each[: labels.size] for each, labels in seconds])
    labels = np.concatenate([labels[: each.size] for each, labels in seconds])
    analysed = np.isfinite(scores)
    scores, labels = scores[analysed], labels[analysed]
    if labels.all() or not labels.any():
        return np.nan, np.nan, int((~analysed).sum())
    return (
        float(roc_auc_score(labels, scores)),
        float(average_precision_score(labels, scores)),
        int((~analysed).sum()),
    )


def _settle(folder: Path, settings: dict[str, Any], names: list[str], resume: bool) -> None:
    """Write the settings down, or compare them with those of the folds that are there."""
    fname = folder / "settings.json"
    settings = without_nan(settings)
    folder.mkdir(parents=True, exist_ok=True)
    # What was refused before it began binds nobody.
    begun = any(each.is_file() or any(each.iterdir()) for each in folder.glob("fold-*"))
    if fname.is_file() and resume and begun:
        try:
            before = json.loads(fname.read_text(encoding="utf8"))
        except ValueError:
            before = {}
        before = before if isinstance(before, dict) else {}
        different = [
            key for key in {**settings, **before} if before.get(key, "nothing") != settings.get(key, "nothing")
        ]
        if different:
            key = different[0]
            raise ValueError(
                f"{str(folder)!r} holds folds made with other settings ({_SETTINGS.get(key, key)}: {before.get(key)} "
                f"there, {settings.get(key)} here); give another folder, or resume=False to begin anew."
            )
        return
    if not resume:
        for name in names:
            (folder / f"{name}.json").unlink(missing_ok=True)
            # A detector goes on from what it finds in its folder.
            if fname.is_file() and (folder / name).is_dir():
                shutil.rmtree(folder / name)
    elif any((folder / f"{name}.json").is_file() for name in names):
        raise ValueError(
            f"{str(folder)!r} holds folds and no settings.json that says how they were made; give another folder, or "
            "resume=False to begin anew."
        )
    write_json(settings, fname, overwrite=True)


def _digest(store: Any) -> str:
    """Return a number for the recordings and what is known of them."""
    rows = [
        [name, table.duration, [[event.onset, event.duration, event.event_type] for event in table.events]]
        for name, table in zip(recording_names(store), store.tables, strict=True)
    ]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def _file_name(name: str) -> str:
    """Return a name that any file system takes, and that two folds share only if they share theirs."""
    plain = re.sub(r"[^\w.-]+", "_", name)
    return f"fold-{plain}" if plain == name else f"fold-{plain}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def _name_of(factory: Any) -> str:
    """Name a function or class, and the arguments that were bound to it."""
    if isinstance(factory, functools.partial):
        bound = [_shown(each) for each in factory.args] + [
            f"{key}={_shown(each)}" for key, each in factory.keywords.items()
        ]
        return f"{_name_of(factory.func)}({', '.join(bound)})"
    return getattr(factory, "__qualname__", type(factory).__qualname__)


def _shown(value: Any) -> str:
    """Write an argument so that two that differ are written differently, and one is the same in every process."""
    if not isinstance(value, type) and callable(getattr(value, "state_dict", None)):
        # Two models of one architecture look alike.
        digest = hashlib.sha256()
        for name, each in value.state_dict().items():
            digest.update(f"{name}: ".encode())
            digest.update(
                each.detach().cpu().double().numpy().tobytes() if hasattr(each, "detach") else repr(each).encode()
            )
        return f"{type(value).__qualname__} of weights {digest.hexdigest()[:16]}"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
