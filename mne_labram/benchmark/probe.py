"""What a frozen embedding holds: a linear probe across subjects, beside band power.

Rest against mental arithmetic on EEGMAT (Zyma et al. 2019). Rest and task of a subject are separate files, separately
cleaned, so within a subject they can be told apart by what is no brain activity at all; only subjects that the probe
has not seen are scored.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mne_labram.decoding.inference import ModelRunner
from mne_labram.decoding.windows import window_function
from mne_labram.signal.conform import plan_conform
from mne_labram.signal.contract import SignalContract
from mne_labram.signal.opening import open_recording
from mne_labram.signal.windows import iter_windows, n_samples

__all__ = [
    "BANDS",
    "LabelledWindows",
    "ProbeScores",
    "band_power",
    "channel_embedding",
    "eegmat_windows",
    "fitted_decision",
    "paired_difference",
    "probe",
    "standardized_by_subject",
    "subject_folds",
    "table_row",
]

#: Edges of the bands in Hz: delta, theta, alpha, low beta, high beta, low gamma.
BANDS = ((1.0, 4.0), (4.0, 8.0), (8.0, 13.0), (13.0, 20.0), (20.0, 30.0), (30.0, 45.0))
# Square microvolts per Hz that count as nothing.
_POWER_FLOOR = 1e-3
# What C is chosen from, and principal components kept where there are more features than windows can bear.
_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
_N_COMPONENTS = 256
_INNER_FOLDS = 4
_WEIGHTS = (0.03, 0.1, 0.3, 1.0)

Features = np.ndarray | tuple[np.ndarray, ...]


@dataclass(frozen=True)
class LabelledWindows:
    """Windows of several subjects.

    Attributes
    ----------
    x : ndarray of float32, shape (n_windows, n_chans, n_times)
        Microvolts.
    y : ndarray of int, shape (n_windows,)
        Classes.
    subjects : ndarray of str, shape (n_windows,)
        Whose they are.
    ch_names : list of str
        Channels.
    sfreq : float
        Sampling rate in Hz.
    """

    x: np.ndarray
    y: np.ndarray
    subjects: np.ndarray
    ch_names: list[str]
    sfreq: float


@dataclass(frozen=True)
class ProbeScores:
    """Scores of subjects that the probe had not seen.

    Attributes
    ----------
    subjects : list of str
        Test subjects, in order.
    balanced_accuracy, auroc : ndarray, shape (n_subjects,)
        One value per subject.
    """

    subjects: list[str]
    balanced_accuracy: np.ndarray
    auroc: np.ndarray

    def of(self, subjects: Sequence[str]) -> ProbeScores:
        """Return the scores of some of the subjects."""
        rows = [self.subjects.index(subject) for subject in subjects]
        return ProbeScores([self.subjects[i] for i in rows], self.balanced_accuracy[rows], self.auroc[rows])


def eegmat_windows(
    folder: str | Path,
    contract: SignalContract,
    *,
    seconds: float = 4.0,
    average: bool = False,
    subjects: Container[str] | None = None,
) -> LabelledWindows:
    """Cut the EEGMAT recordings into windows: class 0 is rest (``_1``), class 1 mental arithmetic (``_2``).

    Parameters
    ----------
    folder : path-like
        Folder with ``Subject00_1.edf`` and so on.
    contract : SignalContract
        How the signal is prepared.
    seconds : float
        Length of a window; windows do not overlap.
    average : bool
        Refer to the average of all channels.
    subjects : container of str | None
        Only these; ``None``: all.

    Returns
    -------
    windows : LabelledWindows
        Usable windows of all subjects.

    Raises
    ------
    FileNotFoundError
        If the folder holds no such recordings.
    """
    files = sorted(Path(folder).glob("Subject*_[12].edf"))
    files = [file for file in files if subjects is None or file.stem.split("_")[0] in subjects]
    if not files:
        raise FileNotFoundError(f"There are no EEGMAT recordings (Subject00_1.edf ...) in {str(folder)!r}.")
    length = n_samples(seconds, contract.sfreq, "seconds")
    x, y, owners, names = [], [], [], None
    for file in files:
        plan = plan_conform(open_recording(file), contract, ch_names=names)
        names = list(plan.ch_names)
        for batch in iter_windows(plan, length, length, batch_size=64):
            data = batch.data[batch.usable]
            x.append(data - data.mean(axis=1, keepdims=True) if average else data)
            y += [int(file.stem.endswith("_2"))] * len(data)
            owners += [file.stem.split("_")[0]] * len(data)
    return LabelledWindows(np.concatenate(x), np.array(y), np.array(owners), names or [], contract.sfreq)


def band_power(windows: LabelledWindows, bands: Sequence[tuple[float, float]] = BANDS) -> np.ndarray:
    """Compute the logarithm of band power: the baseline.

    Parameters
    ----------
    windows : LabelledWindows
        The signal.
    bands : sequence of (float, float)
        Edges in Hz.

    Returns
    -------
    features : ndarray, shape (n_windows, n_chans * n_bands)
        Natural logarithm of the mean power density (Welch's method, 2-s segments) in every band and channel.
    """
    from scipy.signal import welch

    n_times = windows.x.shape[-1]
    frequencies, power = welch(windows.x, windows.sfreq, nperseg=min(n_times, int(2 * windows.sfreq)), axis=-1)
    parts = [power[..., (frequencies >= low) & (frequencies < high)].mean(axis=-1) for low, high in bands]
    return np.log(np.stack(parts, axis=-1) + _POWER_FLOOR).reshape(len(windows.x), -1).astype(np.float64)


def channel_embedding(model: Any, windows: LabelledWindows) -> np.ndarray:
    """Embed windows, one vector per channel: the mean over time of its tokens.

    Parameters
    ----------
    model : torch.nn.Module
        One of our models.
    windows : LabelledWindows
        The signal, prepared as the model's contract says.

    Returns
    -------
    features : ndarray, shape (n_windows, n_chans * embed_dim)
        float32.
    """
    runner = ModelRunner(model, windows.ch_names, precision="float32", batch_size=32)
    with runner.running():
        return runner(windows.x, window_function(model, "embed", "channels")).reshape(len(windows.x), -1)


def standardized_by_subject(features: np.ndarray, subjects: np.ndarray) -> np.ndarray:
    """Z-score every feature within each subject, which needs that subject's windows but none of its labels.

    Parameters
    ----------
    features : ndarray, shape (n_windows, n_features)
        Features.
    subjects : ndarray, shape (n_windows,)
        Whose the windows are.

    Returns
    -------
    features : ndarray, shape (n_windows, n_features)
        A new array.
    """
    out = np.empty(features.shape, dtype=np.float64)
    for subject in np.unique(subjects):
        rows = subjects == subject
        centred = features[rows] - features[rows].mean(axis=0)
        out[rows] = centred / (centred.std(axis=0) + 1e-9)
    return out


def subject_folds(subjects: Sequence[str] | np.ndarray, n_folds: int) -> list[list[str]]:
    """Split subjects into groups of neighbours in alphabetical order.

    Parameters
    ----------
    subjects : sequence of str
        One per window, or one per subject.
    n_folds : int
        Number of groups.

    Returns
    -------
    folds : list of list of str
        Test subjects of each fold; every subject is in one.

    Raises
    ------
    ValueError
        If there are fewer subjects than folds.
    """
    names = sorted(set(map(str, subjects)))
    if not 2 <= n_folds <= len(names):
        raise ValueError(f"{len(names)} subjects cannot be split into {n_folds} folds; there must be 2 or more.")
    return [list(map(str, part)) for part in np.array_split(names, n_folds)]


def probe(
    features: Features | Callable[[int], Features],
    windows: LabelledWindows,
    folds: Sequence[Sequence[str]],
    *,
    standardize: bool = False,
    seed: int = 0,
) -> ProbeScores:
    """Fit a logistic regression on some subjects and score it on the others, fold by fold.

    Parameters
    ----------
    features : ndarray, shape (n_windows, n_features) | tuple of ndarray | callable
        Features; two kinds of them to be used together; or a function of the fold's number that returns either, where
        an encoder must not have seen the fold's test subjects.
    windows : LabelledWindows
        Gives classes and subjects.
    folds : sequence of sequence of str
        Test subjects of each fold.
    standardize : bool
        Z-score features within every subject (:func:`standardized_by_subject`).
    seed : int
        Of the principal components.

    Returns
    -------
    scores : ProbeScores
        Of every test subject, in the order of the folds.

    Notes
    -----
    Features are z-scored with the mean and deviation of the training subjects, reduced to 256 principal components
    where there are more, and divided by their overall deviation. The penalty, and for two kinds of features the weight
    of the second beside the first (0.03, 0.1, 0.3 or 1), is chosen among training subjects (4 folds of them) by the
    mean AUROC of a subject. Classes are weighted by their inverse frequency.
    """
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score

    names: list[str] = []
    accuracies, aurocs = [], []
    for number, fold in enumerate(folds):
        values = features(number) if callable(features) else features
        blocks = values if isinstance(values, tuple) else (values,)
        if standardize:
            blocks = tuple(standardized_by_subject(block, windows.subjects) for block in blocks)
        test = np.isin(windows.subjects, list(fold))
        prepared = [_prepared(block[~test], block[test], seed) for block in blocks]
        decision = _decision(prepared, windows.y[~test], windows.subjects[~test])
        for subject in fold:
            rows = windows.subjects[test] == subject
            names.append(subject)
            accuracies.append(balanced_accuracy_score(windows.y[test][rows], decision[rows] > 0))
            aurocs.append(roc_auc_score(windows.y[test][rows], decision[rows]))
    return ProbeScores(names, np.array(accuracies), np.array(aurocs))


def fitted_decision(
    features: np.ndarray, y: np.ndarray, groups: np.ndarray, others: np.ndarray, *, seed: int = 0
) -> np.ndarray:
    """Fit a logistic regression as :func:`probe` does, and apply it to other windows.

    Parameters
    ----------
    features : ndarray, shape (n_windows, n_features)
        Of training windows.
    y, groups : ndarray, shape (n_windows,)
        Their classes, and what is left out together where the penalty is chosen: subjects.
    others : ndarray, shape (n_others, n_features)
        Features of other windows.
    seed : int
        Of the principal components.

    Returns
    -------
    decision : ndarray, shape (n_others,)
        Above 0 for class 1.
    """
    return _decision([_prepared(features, others, seed)], y, groups)


def _prepared(x: np.ndarray, x_test: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Z-score and reduce one kind of features by what the training subjects say."""
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(x)
    x, x_test = scaler.transform(x), scaler.transform(x_test)
    if x.shape[1] > _N_COMPONENTS:
        reduction = PCA(min(_N_COMPONENTS, len(x) - 1), svd_solver="randomized", random_state=seed).fit(x)
        x, x_test = reduction.transform(x), reduction.transform(x_test)
        # One factor for all components: their relative sizes are kept, and one range of penalties does for all.
        spread = np.sqrt((x**2).mean())
        x, x_test = x / spread, x_test / spread
    return x, x_test


def _decision(blocks: Sequence[tuple[np.ndarray, np.ndarray]], y: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Fit with what is best among the training subjects; return the decision function of the others."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import GroupKFold

    n_folds = min(_INNER_FOLDS, len(np.unique(groups)))
    weights = (1.0,) if len(blocks) == 1 else _WEIGHTS
    best_score, best = -np.inf, (weights[0], _PENALTIES[0])
    for weight in weights:
        x = _beside([block[0] for block in blocks], weight)
        for penalty in _PENALTIES:
            scores = []
            for train, held_out in GroupKFold(n_folds).split(x, y, groups):
                values = _regression(LogisticRegression, penalty).fit(x[train], y[train]).decision_function(x[held_out])
                for subject in np.unique(groups[held_out]):
                    rows = groups[held_out] == subject
                    scores.append(roc_auc_score(y[held_out][rows], values[rows]))
            if np.mean(scores) > best_score:
                best_score, best = float(np.mean(scores)), (weight, penalty)
    weight, penalty = best
    fitted = _regression(LogisticRegression, penalty).fit(_beside([block[0] for block in blocks], weight), y)
    return fitted.decision_function(_beside([block[1] for block in blocks], weight))


def _beside(blocks: Sequence[np.ndarray], weight: float) -> np.ndarray:
    """Put kinds of features side by side, the second and later ones with less weight."""
    return np.hstack([blocks[0], *(weight * block for block in blocks[1:])])


def _regression(kind: Any, penalty: float) -> Any:
    return kind(C=penalty, class_weight="balanced", max_iter=500)


def paired_difference(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Mean difference between two rows of scores of the same subjects, and its standard error.

    Parameters
    ----------
    a, b : ndarray, shape (n_subjects,)
        Scores.

    Returns
    -------
    difference, standard_error : float
        Of ``a - b``.
    """
    difference = np.asarray(a) - np.asarray(b)
    return float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(len(difference)))


def table_row(scores: Mapping[bool, ProbeScores], reference: Mapping[bool, ProbeScores] | None = None) -> list[str]:
    """Write one row of a table: inductive and with per-subject standardisation.

    Parameters
    ----------
    scores : mapping of bool to ProbeScores
        Key: whether features were standardised by subject.
    reference : mapping of bool to ProbeScores | None
        What AUROC is compared with.

    Returns
    -------
    cells : list of str
        Balanced accuracy, AUROC and, with a reference, the paired difference of AUROC, for each of the two.
    """
    cells = []
    for key in (False, True):
        row = scores[key]
        cells += [f"{values.mean():.3f} ± {values.std():.3f}" for values in (row.balanced_accuracy, row.auroc)]
        if reference is not None:
            difference, error = paired_difference(row.auroc, reference[key].auroc)
            cells.append(f"{difference:+.3f} ± {error:.3f}")
    return cells
