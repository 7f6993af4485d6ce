"""Windows of recordings as recordings of their own, and what a detector makes of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mne_labram.seizure.events import EventTable, SeizureEvent
from mne_labram.seizure.scoring import union
from mne_labram.seizure.store import SeizureStore

__all__ = [
    "UNIT",
    "covered_seconds",
    "fold_folder",
    "preictal_of",
    "record_of",
    "window_metrics",
    "window_scores",
    "window_store",
    "window_table",
]

#: Windows that are scaled have this root mean square in microvolts: one is as good as another, but a model that divides
#: by 100 microvolts should not be asked about 1.
UNIT = 30.0


def record_of(path: str | os.PathLike[str]) -> str:
    """Name the record that an excerpt of CHB-MIT is from.

    Parameters
    ----------
    path : path-like
        ``chb01_03_ictal.edf`` ...

    Returns
    -------
    record : str
        ``"chb01_03"``.
    """
    return "_".join(Path(path).name.split("_")[:2])


def preictal_of(store: SeizureStore, file: int) -> list[int] | None:
    """Find the pre-ictal excerpt of an excerpt's record: the baseline of excerpts that begin with a seizure.

    Parameters
    ----------
    store : SeizureStore
        Recordings, or windows of them.
    file : int
        Which one.

    Returns
    -------
    files : list of int | None
        Pre-ictal recordings of the same record; ``None``: this is no excerpt of CHB-MIT.
    """
    paths = [each.path for each in store.recordings]
    if not paths[file].name.startswith("chb"):
        return None
    wanted = f"{record_of(paths[file])}_preictal"
    return [other for other, path in enumerate(paths) if path.stem == wanted]


def covered_seconds(table: EventTable, begins: ArrayLike, ends: ArrayLike) -> np.ndarray:
    """Count the seconds of windows that lie within seizures.

    Parameters
    ----------
    table : EventTable
        The seizures; where they overlap, once.
    begins, ends : array-like, shape (n_windows,)
        Of the windows, in seconds.

    Returns
    -------
    seconds : ndarray, shape (n_windows,)
        From 0 to the length of the window.
    """
    begins, ends = np.asarray(begins, dtype=float), np.asarray(ends, dtype=float)
    covered = np.zeros(begins.shape)
    for first, stop in union(table.intervals):
        covered += np.maximum(0.0, np.minimum(stop, ends) - np.maximum(first, begins))
    return covered


def window_store(
    store: SeizureStore, *, window: float = 4.0, stride: float = 1.0, unit_rms: bool = False
) -> SeizureStore:
    """Make every window of some recordings a recording of its own.

    Parameters
    ----------
    store : SeizureStore
        Recordings.
    window, stride : float
        Length of windows and step between them, in seconds.
    unit_rms : bool
        Scale each window, all channels together, to a root mean square of :data:`UNIT`: how large it was is gone.

    Returns
    -------
    windows : SeizureStore
        Usable windows; a seizure covers all of a window of which it covers more than half, or nothing. Samples are
        read when they are asked for.
    """
    contract = store.contract
    table = store.conformed.windows(window, stride=stride)
    recordings, tables = [], []
    for file, start in zip(table.file.tolist(), table.start.tolist(), strict=True):
        gain = 1.0
        if unit_rms:
            x = store.conformed.read(file, start, table.n_times)
            level = float(np.sqrt(np.mean(x.astype(float) ** 2)))
            gain = UNIT / level if level > 0.0 else 1.0
        own = store.recordings[file]
        seconds = table.n_times / contract.sfreq
        begins = start / contract.sfreq
        covered = float(covered_seconds(store.tables[file], begins, begins + seconds))
        recordings.append(
            replace(
                own,
                n_times=table.n_times,
                segments=[(0, table.n_times)],
                unusable=np.zeros(int(np.ceil(seconds)), dtype=bool),
                unusable_segments=np.zeros(1, dtype=bool),
                samples=_Piece(own.samples, start, gain),
            )
        )
        events = (SeizureEvent(0.0, seconds),) if covered > 0.5 * seconds else ()
        tables.append(EventTable(events, seconds))
    conformed = store.conformed.select(files=range(len(store)))
    conformed.recordings = recordings
    return SeizureStore(conformed, tables)


class _Piece:
    """A stretch of a recording's samples, scaled, in place of :class:`mne_labram.signal.window_cache.CachedSamples`."""

    def __init__(self, samples: Any, first: int, gain: float) -> None:
        self.samples, self.first, self.gain = samples, first, np.float32(gain)

    def read(self, files: Any, start: int, n_times: int) -> np.ndarray:
        """Read microvolts; see CachedSamples."""
        return self.gain * self.samples.read(files, self.first + start, n_times)


def window_table(
    factory: Callable[[], Any],
    store: SeizureStore,
    *,
    window: float = 4.0,
    stride: float = 1.0,
    unit_rms: bool = False,
    folder: Path | None = None,
) -> dict[str, float]:
    """Score windows of each record by a detector that was fitted to the windows of all others.

    Parameters
    ----------
    factory : callable
        Returns a new detector (:class:`mne_labram.seizure.detector.SeizureDetector`).
    store : SeizureStore
        Excerpts whose file names begin with their record, see :func:`record_of`; made for the detector's contract.
    window, stride, unit_rms
        See :func:`window_store`; scaled or not, training and test are alike.
    folder : Path | None
        Where detectors may keep files; each fold has a folder of its own.

    Returns
    -------
    scores : dict of str to float
        ``"auroc"``, ``"auc_pr"``, ``"balanced_accuracy"`` (at 0.5), over all windows together; ``"n_windows"``.
    """
    windows = window_store(store, window=window, stride=stride, unit_rms=unit_rms)
    records = np.array([record_of(each.path) for each in windows.recordings])
    scores = np.full(len(windows), np.nan)
    for record in np.unique(records).tolist():
        test = np.flatnonzero(records == record)
        train = windows.select(files=np.flatnonzero(records != record))
        detector = factory().fit(train, folder=fold_folder(folder, f"windows{'-unit' * unit_rms}-{record}"))
        scores[test] = window_scores(detector, windows.select(files=test))
    return window_metrics(np.array([len(table) > 0 for table in windows.tables]), scores)


def window_scores(detector: Any, windows: SeizureStore) -> np.ndarray:
    """Score windows by a detector.

    Parameters
    ----------
    detector : SeizureDetector
        Fitted.
    windows : SeizureStore
        From :func:`window_store`.

    Returns
    -------
    scores : ndarray, shape (n_windows,)
        Means over the seconds of each; 0 where none is analysed, since that is not called a seizure.
    """
    seconds = [detector.probabilities(windows, file) for file in range(len(windows))]
    return np.array([np.nanmean(each) if np.isfinite(each).any() else 0.0 for each in seconds])


def window_metrics(y: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Compare scores of windows with what they are.

    Parameters
    ----------
    y : ndarray of bool, shape (n_windows,)
        Whether each is a seizure; some are, and some are not.
    scores : ndarray, shape (n_windows,)
        From :func:`window_scores`.

    Returns
    -------
    metrics : dict of str to float
        ``"auroc"``, ``"auc_pr"``, ``"balanced_accuracy"`` (at 0.5) and ``"n_windows"``.
    """
    from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score

    return {
        "auroc": float(roc_auc_score(y, scores)),
        "auc_pr": float(average_precision_score(y, scores)),
        "balanced_accuracy": float(balanced_accuracy_score(y, scores > 0.5)),
        "n_windows": float(len(y)),
    }


def fold_folder(folder: Path | None, name: str) -> Path | None:
    """Make the folder of a fit.

    Parameters
    ----------
    folder : Path | None
        Of all fits of a detector; ``None``: nothing is kept.
    name : str
        Of this fit.

    Returns
    -------
    folder : Path | None
        It exists.
    """
    if folder is None:
        return None
    (folder / name).mkdir(parents=True, exist_ok=True)
    return folder / name
