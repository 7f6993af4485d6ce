"""The rows of ``mne-labram benchmark restoration``: baselines, fitted and tuned on training subjects, and ours."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from mne.utils import logger

from mne_labram.benchmark.restoration import RestorationData, RestorationMethod, RestorationTask, hidden_samples
from mne_labram.benchmark.restoration_baselines import (
    CovariancePredictor,
    NearestPredictor,
    SplineBaseline,
    band_covariances,
    mixed,
    ridge_weights,
)
from mne_labram.benchmark.weights import random_twin
from mne_labram.restoration.gram_predictor import GramPredictor
from mne_labram.restoration.predictors import RidgePredictor
from mne_labram.weights.pretrained import load_model

__all__ = [
    "BAND_RIDGE",
    "CALIBRATED",
    "CALIBRATED_RIDGE",
    "GRAM",
    "GRAM_CALIBRATED",
    "baseline_methods",
    "gram_methods",
    "tune",
]

#: Names of the rows that others are compared with.
BAND_RIDGE, CALIBRATED_RIDGE, CALIBRATED = "band ridge", "ridge, calibrated", "band ridge, calibrated, tuned"
#: Names of our rows.
GRAM, GRAM_CALIBRATED = "gram", "gram, calibrated"
#: As in shared/reference/baselines.md: in units of the mean variance of a visible channel.
REGULARIZATION = 0.1
# What is tried on training subjects.
_REGULARIZATIONS = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
_PRIOR_WEIGHTS = (0.05, 0.1, 0.2, 0.4)
_N_SETS = 12
_N_FOLDS = 6


def baseline_methods(data: RestorationData, tasks: Sequence[RestorationTask]) -> list[RestorationMethod]:
    """Fit what has to be beaten to the training subjects.

    Parameters
    ----------
    data : RestorationData
        The recordings; those that are scored are not looked at.
    tasks : sequence of RestorationTask
        For which the tuned ones are tuned.

    Returns
    -------
    methods : list of RestorationMethod
        Splines, neighbours, ridge and band ridge as in ``shared/reference/baselines.md``; the same with the
        regularization that is best on training subjects; both calibrated on the recording; and calibrated, with
        training subjects as a prior; and what ``gram_restore`` offers as ``"ridge"``, which is calibrated too.
    """
    halves = [_halves(recording.x.astype(float), data.sfreq) for recording in data.training]
    subjects = np.array([_scaled(first + second) for first, second in halves])
    prior = subjects.mean(axis=0)
    rows = [
        RestorationMethod("MNE spherical splines", _untold(SplineBaseline)),
        RestorationMethod("mean of 3 nearest", _untold(NearestPredictor)),
    ]
    for by_band, name in ((False, "ridge"), (True, BAND_RIDGE)):
        fixed = dict.fromkeys((task.name for task in tasks), {"regularization": REGULARIZATION})
        tuned = {task.name: tune(subjects, halves, task, by_band=by_band) for task in tasks}
        for label, settings in {name: fixed, f"{name}, tuned": tuned}.items():
            # The usual number may be the best one.
            if settings is fixed or settings != fixed:
                rows.append(RestorationMethod(label, partial(_make, settings, {"prior": prior, "by_band": by_band})))
    for by_band, name in ((False, "ridge"), (True, "band ridge")):
        own = {"prior": None, "by_band": by_band, "calibrated": True}
        fixed = dict.fromkeys((task.name for task in tasks), {"regularization": REGULARIZATION})
        tuned = {task.name: tune(subjects, halves, task, by_band=by_band, calibrated=True) for task in tasks}
        for label, settings in ((f"{name}, calibrated", fixed), (f"{name}, calibrated, tuned", tuned)):
            rows.append(RestorationMethod(label, partial(_make, settings, own), calibrated=True))
    own = {"prior": prior, "by_band": True, "calibrated": True}
    tuned = {
        task.name: tune(subjects, halves, task, by_band=True, calibrated=True, prior_weights=_PRIOR_WEIGHTS)
        for task in tasks
    }
    label = "band ridge, calibrated, with training subjects, tuned"
    rows.append(RestorationMethod(label, partial(_make, tuned, own), calibrated=True))
    rows.append(RestorationMethod("gram_restore with method='ridge'", _untold(RidgePredictor), calibrated=True))
    return rows


def _untold(kind: Any) -> Any:
    """Make a predictor that needs not know the task."""
    return lambda task, *recording: kind(*recording)


def _make(
    settings: dict[str, dict[str, float]], common: dict[str, Any], task: RestorationTask, *recording: Any
) -> CovariancePredictor:
    return CovariancePredictor(*recording, **common, **settings[task.name])


def _halves(x: np.ndarray, sfreq: float) -> tuple[np.ndarray, np.ndarray]:
    """Covariances of the first and the second half of a recording."""
    half = x.shape[1] // 2
    return band_covariances(x[:, :half], sfreq), band_covariances(x[:, half:], sfreq)


def _scaled(covariances: np.ndarray) -> np.ndarray:
    return covariances / np.trace(covariances.sum(axis=0))


def tune(
    subjects: np.ndarray,
    halves: Sequence[tuple[np.ndarray, np.ndarray]],
    task: RestorationTask,
    *,
    by_band: bool,
    calibrated: bool = False,
    prior_weights: Sequence[float] = (0.0,),
    seed: int = 0,
) -> dict[str, float]:
    """Choose the regularization that is best among training subjects.

    Parameters
    ----------
    subjects : ndarray, shape (n_subjects, n_bands, n_channels, n_channels)
        Covariances of training subjects, each divided by its trace.
    halves : sequence of (ndarray, ndarray)
        Those of the first and of the second half of their recordings.
    task : RestorationTask
        What will be hidden.
    by_band : bool
        One set of weights per band, or one for all frequencies.
    calibrated : bool
        Weights from the first half of a recording for its second half, instead of from other subjects (6 folds).
    prior_weights : sequence of float
        Shares of other subjects in calibrated covariances that are tried.
    seed : int
        Of what is hidden: 12 sets of channels for each subject.

    Returns
    -------
    settings : dict of str to float
        ``"regularization"`` and, where there is a choice, ``"prior_weight"``.

    Notes
    -----
    The mean over subjects of the normalised squared error, which follows from covariances alone.
    """
    n_channels = subjects.shape[-1]
    folds = np.arange(len(subjects)) % min(_N_FOLDS, len(subjects))
    errors: dict[tuple[float, float], list[float]] = {}
    for i, (first, second) in enumerate(halves):
        others = subjects[folds != folds[i]].mean(axis=0) if len(subjects) > 1 else subjects[i]
        seen, asked = (first, second) if calibrated else (None, first + second)
        rng = np.random.default_rng((seed, i))
        gone = [hidden_samples(task, n_channels, 8, 1.0, rng)[:, 0] for _ in range(_N_SETS)]
        gone = [each for each in gone if each.any()]
        for weight in prior_weights:
            covariances = mixed(seen, others if weight or not calibrated else None, weight)
            for regularization in _REGULARIZATIONS:
                found = _expected_error(covariances, asked, gone, regularization, by_band)
                errors.setdefault((regularization, weight), []).append(found)
    regularization, weight = min(errors, key=lambda each: np.mean(errors[each]))
    return {"regularization": regularization, **({"prior_weight": weight} if len(prior_weights) > 1 else {})}


def _expected_error(
    known: np.ndarray, asked: np.ndarray, sets: Sequence[np.ndarray], regularization: float, by_band: bool
) -> float:
    """Normalised squared error of weights from some covariances, on a signal that has others."""
    if not by_band:
        known, asked = (each.sum(axis=0, keepdims=True) for each in (known, asked))
    error = target = 0.0
    for gone in sets:
        reference = np.eye(len(gone)) - ~gone / (~gone).sum()
        rows = np.repeat(reference[gone][None], len(known), axis=0)
        residual = rows - ridge_weights(known, gone, regularization) @ reference[~gone]
        error += float(np.einsum("bij,bjk,bik->", residual, asked, residual))
        target += float(np.einsum("bij,bjk,bik->", rows, asked, rows))
    return error / target


def gram_methods(model: str = "gram-tiny", *, seed: int = 0) -> list[RestorationMethod]:
    """Return our rows: without and with calibration, and the same network with fresh weights.

    Parameters
    ----------
    model : str
        A checkpoint, or the name of one that ships.
    seed : int
        Of the fresh weights.

    Returns
    -------
    methods : list of RestorationMethod
        None, with a line in the log, while there is no such model.
    """
    try:
        trained = load_model(model)
    except (ValueError, OSError) as error:
        logger.info(f"Without {model}: {error}")
        return []
    fresh = random_twin(trained, seed)

    def make(network: Any) -> Any:
        return lambda task, *recording: GramPredictor(*recording, model=network)

    return [
        RestorationMethod(GRAM, make(trained)),
        RestorationMethod("gram, fresh weights", make(fresh)),
        RestorationMethod(GRAM_CALIBRATED, make(trained), calibrated=True),
        RestorationMethod("gram, fresh weights, calibrated", make(fresh), calibrated=True),
    ]
