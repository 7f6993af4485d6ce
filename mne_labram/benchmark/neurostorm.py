"""What the shipped seizure detector is worth, measured on recordings that the detector in question has not seen.

Detectors are trained in folds: each leaves out one record of the patient with seizures and a part of the subjects
without. A recording is scored by the detector of its own fold only; a threshold that is applied to a fold is chosen on
the scores of all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mne_labram.benchmark.seizure_windows import record_of, window_metrics, window_scores, window_store
from mne_labram.benchmark.seizures import SeizureRow
from mne_labram.seizure.calibration import Calibration, calibration_and_problem
from mne_labram.seizure.simulation import add_seizure
from mne_labram.seizure.store import SeizureStore
from mne_labram.signal.events import EventParameters, events_from_scores

__all__ = ["fold_of", "measure_folds", "nested_parameters", "out_of_fold", "simulated_sensitivity"]


def fold_of(store: SeizureStore, *, patient: str = "chb01") -> np.ndarray:
    """Divide recordings into folds.

    Parameters
    ----------
    store : SeizureStore
        Excerpts of one patient with seizures, and subjects without.
    patient : str
        How names of the patient's files begin.

    Returns
    -------
    fold : ndarray of int, shape (n_recordings,)
        One fold per record of the patient; subjects without seizures are dealt out to the same folds in turn, all
        recordings of a subject to one.

    Raises
    ------
    ValueError
        If there is no recording of the patient.
    """
    paths = [each.path for each in store.recordings]
    own = [path.name.startswith(patient) for path in paths]
    records = sorted({record_of(path) for path, is_own in zip(paths, own, strict=True) if is_own})
    if not records:
        raise ValueError(f"There is no recording of {patient} to divide by.")
    others = sorted({store.subject_of(i) for i in range(len(store)) if not own[i]})
    return np.array(
        [
            records.index(record_of(path)) if is_own else others.index(store.subject_of(i)) % len(records)
            for i, (path, is_own) in enumerate(zip(paths, own, strict=True))
        ]
    )


def out_of_fold(detectors: Sequence[Any], store: SeizureStore, folds: np.ndarray) -> list[np.ndarray]:
    """Score every recording by the detector that has not seen it.

    Parameters
    ----------
    detectors : sequence of SeizureDetector
        One per fold.
    store : SeizureStore
        The recordings.
    folds : ndarray of int, shape (n_recordings,)
        From :func:`fold_of`.

    Returns
    -------
    scores : list of ndarray
        One probability per second, NaN where not analysed.
    """
    return [detectors[fold].probabilities(store, file) for file, fold in enumerate(folds.tolist())]


def _calibrated(
    scores: Sequence[np.ndarray], store: SeizureStore, parameters: EventParameters, target: float | None
) -> Calibration:
    # That two hours are too little to choose a threshold by is said on the card.
    calibration, _ = calibration_and_problem(scores, store.tables, parameters=parameters, target_fp_per_day=target)
    return calibration


def nested_parameters(
    scores: Sequence[np.ndarray],
    store: SeizureStore,
    folds: np.ndarray,
    parameters: EventParameters,
    *,
    target_fp_per_day: float,
) -> list[EventParameters]:
    """Choose the threshold of each fold on all others.

    Parameters
    ----------
    scores : list of ndarray
        From :func:`out_of_fold`.
    store : SeizureStore
        The recordings.
    folds : ndarray of int, shape (n_recordings,)
        From :func:`fold_of`.
    parameters : EventParameters
        All but the threshold.
    target_fp_per_day : float
        False alarms a day that are accepted.

    Returns
    -------
    parameters : list of EventParameters
        One per fold.

    Raises
    ------
    ValueError
        If there are not as many scores and folds as recordings, or there is one fold only.

    Notes
    -----
    No score of a fold has a say in its own threshold. The detectors of the other folds were trained on its recordings,
    as in any cross-validation; leaving these out too would take a detector for every pair of folds.
    """
    if not len(scores) == len(folds) == len(store):
        raise ValueError(f"There are {len(scores)} scores, {len(folds)} folds and {len(store)} recordings.")
    if len(np.unique(folds)) < 2:
        raise ValueError("There is one fold; there are no others to choose its threshold on.")
    chosen = []
    for fold in range(int(folds.max()) + 1):
        others = np.flatnonzero(folds != fold)
        calibration = _calibrated(
            [scores[i] for i in others], store.select(files=others), parameters, target_fp_per_day
        )
        chosen.append(calibration.parameters)
    return chosen


def measure_folds(
    name: str,
    detectors: Sequence[Any],
    store: SeizureStore,
    folds: np.ndarray,
    parameters: EventParameters,
    *,
    target_fp_per_day: float | None = None,
    window: float = 4.0,
    scores: list[np.ndarray] | None = None,
) -> tuple[SeizureRow, list[np.ndarray], Calibration]:
    """Measure a detector that was trained once for each fold.

    Parameters
    ----------
    name : str
        What it is called.
    detectors : sequence of SeizureDetector
        One per fold.
    store : SeizureStore
        The recordings.
    folds : ndarray of int, shape (n_recordings,)
        From :func:`fold_of`.
    parameters : EventParameters
        How scores become events.
    target_fp_per_day : float | None
        Choose the threshold of each fold for so many false alarms a day, on all other folds; ``None``: the threshold
        in ``parameters``; only one that was settled before anything was measured makes a fair measurement.
    window : float
        Seconds of a window, for the scores of windows.
    scores : list of ndarray | None
        From an earlier call, so that no recording is scored again for another threshold.

    Returns
    -------
    row : SeizureRow
        As :func:`mne_labram.benchmark.seizures.benchmark_seizures` gives for other detectors; windows that are scaled
        are scored by the same detectors as the others.
    scores : list of ndarray
        From :func:`out_of_fold`.
    calibration : Calibration
        Of all scores together: what a detector trained on everything is shipped with.
    """
    if scores is None:
        scores = out_of_fold(detectors, store, folds)
    rules = [parameters] * len(detectors)
    if target_fp_per_day is not None:
        rules = nested_parameters(scores, store, folds, parameters, target_fp_per_day=target_fp_per_day)
    own = [file for file, each in enumerate(store.recordings) if each.path.name.startswith("chb")]
    counts: dict[str, list[bool]] = {"seizure_full": [], "preictal": []}
    n_alarms, seconds = 0, 0
    for file, score in enumerate(scores):
        events = events_from_scores(score, rules[int(folds[file])])
        stem = store.recordings[file].path.stem
        if file not in own:
            n_alarms += len(events)
            seconds += int(np.isfinite(score).sum())
        for kind, found in counts.items():
            if file in own and stem.endswith(kind):
                found.append(len(events) > 0)
    windows = [_windows(detectors, store.select(files=own), folds[own], window, unit) for unit in (False, True)]
    full, preictal = counts["seizure_full"], counts["preictal"]
    row = SeizureRow(name, *windows, sum(full), len(full), sum(preictal), len(preictal), n_alarms, seconds / 3600.0)
    return row, scores, _calibrated(scores, store, parameters, target_fp_per_day)


def _windows(
    detectors: Sequence[Any], store: SeizureStore, folds: np.ndarray, window: float, unit_rms: bool
) -> dict[str, float]:
    """Score the windows of each record by the detector that has not seen it."""
    truth, scores, by_fold = [], [], []
    for fold in np.unique(folds).tolist():
        pieces = window_store(store.select(files=np.flatnonzero(folds == fold)), window=window, unit_rms=unit_rms)
        truth.append(np.array([len(table) > 0 for table in pieces.tables]))
        scores.append(window_scores(detectors[fold], pieces))
        if truth[-1].any() and not truth[-1].all():
            by_fold.append(window_metrics(truth[-1], scores[-1])["auroc"])
    return {
        **window_metrics(np.concatenate(truth), np.concatenate(scores)),
        "auroc_by_record": float(np.mean(by_fold)) if by_fold else float("nan"),
        "auroc_by_record_sd": float(np.std(by_fold, ddof=1)) if len(by_fold) > 1 else float("nan"),
    }


class _Mixed:
    """Samples of a recording with a simulated seizure in it, in place of what is on the disk."""

    # They are no longer those of the file: a detector must not remember it by them.
    memorable = False

    def __init__(self, x: np.ndarray) -> None:
        self.x = x

    def read(self, files: Any, start: int, n_times: int) -> np.ndarray:
        """Read microvolts."""
        return self.x[:, start : start + n_times]


def simulated_sensitivity(
    detectors: Sequence[Any],
    store: SeizureStore,
    folds: np.ndarray,
    parameters: EventParameters | Sequence[EventParameters],
    *,
    snr_db: Sequence[float] = (-6.0, -3.0, 0.0, 3.0, 6.0, 9.0, 12.0),
    duration: float = 30.0,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Measure which simulated seizures are found, by how large they are.

    Parameters
    ----------
    detectors : sequence of SeizureDetector
        One per fold.
    store : SeizureStore
        Recordings without seizures are taken as background.
    folds : ndarray of int, shape (n_recordings,)
        From :func:`fold_of`.
    parameters : EventParameters | sequence of EventParameters
        How scores become events; one for each fold, if several.
    snr_db : sequence of float
        Power of the seizure over that of the background in decibels, see
        :func:`mne_labram.seizure.simulation.add_seizure`.
    duration : float
        Seconds of a seizure; it lies in the middle of the recording.
    seed : int
        Of the patterns, which are the same at every ratio.

    Returns
    -------
    rows : list of dict
        One per ratio: ``"snr_db"``, ``"sensitivity"``, ``"n"``.

    Raises
    ------
    ValueError
        If no recording is long enough, without a seizure and without a gap.
    """
    rules = [parameters] * len(detectors) if isinstance(parameters, EventParameters) else list(parameters)
    sfreq = store.conformed.sfreq
    rows = []
    for ratio in snr_db:
        found = []
        for file, (recording, table) in enumerate(zip(store.recordings, store.tables, strict=True)):
            onset = recording.n_times / sfreq / 2.0 - duration / 2.0
            if len(table) or onset < 5.0 or len(recording.segments) > 1:
                continue
            fold = int(folds[file])
            x = store.conformed.read(file, 0, recording.n_times)
            channels = recording.ch_names if recording.positions is None else recording.positions
            mixed, _ = add_seizure(
                x,
                channels,
                sfreq,
                np.random.default_rng([seed, file]),
                snr_db=float(ratio),
                onset=onset,
                duration=duration,
            )
            one = store.select(files=[file])
            one.conformed.recordings = [replace(recording, samples=_Mixed(mixed))]
            events = events_from_scores(detectors[fold].probabilities(one, 0), rules[fold])
            found.append(any(stop > onset and start < onset + duration for start, stop, _ in events))
        if not found:
            raise ValueError(
                f"No recording without a seizure and without a gap is 10 s longer than a seizure of {duration:g} s."
            )
        rows.append({"snr_db": float(ratio), "sensitivity": float(np.mean(found)), "n": len(found)})
    return rows
