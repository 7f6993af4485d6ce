"""``mne-labram benchmark decoding``: what our models can tell apart, beside band power, covariance and EEGNet.

Rest against mental arithmetic (eegmat) in subjects that nothing with labels has seen, and imagined movements of one
subject (eegmmidb, S001) in runs that nothing with labels has seen. Every signal is low-passed at 45 Hz: eegmat was cut
there, and what is left above tells its files apart (``shared/reference/baselines.md``, trap 2).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Protocol

import numpy as np
from mne.utils import logger, verbose

from mne_labram.benchmark.probe import LabelledWindows, ProbeScores, eegmat_windows, subject_folds
from mne_labram.signal.conform import plan_conform
from mne_labram.signal.contract import SignalContract
from mne_labram.signal.opening import open_recording

__all__ = [
    "H_FREQ",
    "UNSEEN",
    "Decoder",
    "DecodingRow",
    "DecodingTask",
    "arithmetic_task",
    "benchmark_decoding",
    "imagery_task",
    "imagery_windows",
]

#: What every signal is low-passed at, in Hz.
H_FREQ = 45.0
#: Subjects of eegmat that no model of this issue has seen, with or without labels.
UNSEEN = tuple(f"Subject{number:02d}" for number in range(18, 24))
#: Runs of eegmmidb in which movements are imagined, by what is told apart (Schalk et al. 2004).
IMAGERY = {"left or right fist": ("S001R04", "S001R08"), "fists or feet": ("S001R06", "S001R10")}
_SECONDS = 4.0
_N_PARTS = 3


@dataclass
class DecodingTask:
    """Windows to be told apart, and who is left out together.

    Attributes
    ----------
    name : str
        What is told apart.
    read : callable
        ``read(contract)`` gives the windows as a contract asks for them; ``subjects`` are those who are left out
        together, or runs.
    folds : list of list of str
        Test subjects of each fold.
    subsets : dict of str to list of str
        Subjects of further columns.
    by_subject : bool
        Whether penalties are chosen by leaving subjects out; otherwise, thirds of the trials.
    band_channels : tuple of str | None
        Channels of covariances; ``None``: all.
    bands : tuple of (float, float)
        Bands in Hz in which covariances are taken.
    note : str
        What a reader has to know.
    """

    name: str
    read: Callable[[SignalContract], LabelledWindows]
    folds: list[list[str]]
    subsets: dict[str, list[str]] = field(default_factory=dict)
    by_subject: bool = True
    band_channels: tuple[str, ...] | None = None
    bands: tuple[tuple[float, float], ...] = ((4.0, 8.0), (8.0, 13.0), (13.0, 30.0))
    note: str = ""
    _read: dict[SignalContract, LabelledWindows] = field(default_factory=dict, repr=False)

    def windows(self, contract: SignalContract) -> LabelledWindows:
        """Return the windows as a contract asks for them, low-passed at 45 Hz.

        Parameters
        ----------
        contract : SignalContract
            A model's.

        Returns
        -------
        windows : LabelledWindows
            The same ones for every contract.
        """
        contract = low_passed(contract)
        if contract not in self._read:
            self._read[contract] = self.read(contract)
        return self._read[contract]

    def groups(self, windows: LabelledWindows) -> np.ndarray:
        """Return what is left out together where something is chosen among training windows.

        Parameters
        ----------
        windows : LabelledWindows
            From :meth:`windows`.

        Returns
        -------
        groups : ndarray, shape (n_windows,)
            Subjects; or, where one run is all that there is to learn from, thirds with every class in each.
        """
        if self.by_subject:
            return windows.subjects
        groups = np.zeros(len(windows.y), dtype=int)
        for run in np.unique(windows.subjects):
            for label in np.unique(windows.y):
                rows = np.flatnonzero((windows.subjects == run) & (windows.y == label))
                groups[rows] = np.arange(len(rows)) % _N_PARTS
        return groups


class Decoder(Protocol):
    """What learns from some windows and judges others."""

    name: str

    def decide(self, task: DecodingTask, test: Sequence[str]) -> Mapping[bool, np.ndarray]:
        """Learn from all subjects but some, and judge these.

        Parameters
        ----------
        task : DecodingTask
            The windows.
        test : sequence of str
            Who is judged.

        Returns
        -------
        decisions : mapping of bool to ndarray, shape (n_windows_of_test,)
            Above 0 for class 1. Key: whether what the windows of a subject have in common, without their labels, was
            used (transductive).
        """


@dataclass(frozen=True)
class DecodingRow:
    """Scores of one decoder in one task.

    Attributes
    ----------
    task, decoder : str
        Which.
    transductive : bool
        Whether unlabelled windows of the test subject set mean and scale.
    subjects : list of str
        Test subjects, or runs.
    balanced_accuracy, auroc : list of float
        One for each.
    seconds : float
        How long it took, with the other column.
    """

    task: str
    decoder: str
    transductive: bool
    subjects: list[str]
    balanced_accuracy: list[float]
    auroc: list[float]
    seconds: float

    def scores(self, subjects: Sequence[str] | None = None) -> ProbeScores:
        """Return the scores of some subjects, or of all."""
        all_of_them = ProbeScores(self.subjects, np.array(self.balanced_accuracy), np.array(self.auroc))
        return all_of_them if subjects is None else all_of_them.of(subjects)


def low_passed(contract: SignalContract) -> SignalContract:
    """Lower the upper edge of a contract to 45 Hz.

    Parameters
    ----------
    contract : SignalContract
        A model's.

    Returns
    -------
    contract : SignalContract
        The same one where it reaches no higher.
    """
    h_freq = H_FREQ if contract.h_freq is None else min(contract.h_freq, H_FREQ)
    # Of two models with the same signal, it is read once.
    return replace(contract, name="decoding benchmark", h_freq=h_freq)


def arithmetic_task(
    data: str | os.PathLike[str], *, n_folds: int = 6, subjects: Iterable[int] | None = None
) -> DecodingTask:
    """Rest against mental arithmetic, across subjects.

    Parameters
    ----------
    data : path-like
        ``../shared/data``.
    n_folds : int
        Groups of neighbouring subjects.
    subjects : iterable of int | None
        Numbers of those who are looked at; ``None``: all 24.

    Returns
    -------
    task : DecodingTask
        With the six subjects whom no training has seen as a column of their own, if all of them are there.

    Raises
    ------
    FileNotFoundError
        If eegmat is not there.
    ValueError
        If there are fewer subjects than folds.
    """
    folder = Path(data) / "eegmat"
    wanted = None if subjects is None else {f"Subject{number:02d}" for number in subjects}
    names = sorted({path.stem.split("_")[0] for path in folder.glob("Subject*_[12].edf")})
    names = [name for name in names if wanted is None or name in wanted]
    if not names:
        raise FileNotFoundError(f"There are no EEGMAT recordings (Subject00_1.edf ...) in {str(folder)!r}.")

    def read(contract: SignalContract) -> LabelledWindows:
        return eegmat_windows(folder, contract, subjects=wanted)

    return DecodingTask(
        "rest or arithmetic (eegmat)",
        read,
        subject_folds(names, n_folds),
        {f"{UNSEEN[0]} to {UNSEEN[-1][-2:]}": list(UNSEEN)} if set(UNSEEN) <= set(names) else {},
        note=(
            f"{len(names)} subjects in {n_folds} folds, 4-s windows; nobody is on both sides with labels. Without "
            "labels, models were trained on subjects 00 to 17 (labram-tiny on 00 to 19), and not on the others."
        ),
    )


def imagery_task(data: str | os.PathLike[str], what: str = "left or right fist") -> DecodingTask:
    """Imagined movements of one subject: learnt from one run, judged in the other, both ways.

    Parameters
    ----------
    data : path-like
        ``../shared/data``.
    what : {"left or right fist", "fists or feet"}
        What is told apart.

    Returns
    -------
    task : DecodingTask
        Its two folds are runs.

    Raises
    ------
    FileNotFoundError
        If a run is not there.
    ValueError
        If there is no such task.
    """
    if what not in IMAGERY:
        raise ValueError(f"There is no task {what!r}; there are {', '.join(map(repr, IMAGERY))}.")
    files = [Path(data) / "eegmmidb" / f"{run}.edf" for run in IMAGERY[what]]
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise FileNotFoundError(f"{missing[0]} is absent; give the folder that holds eegmmidb.")
    low, high = wilson_interval(0.7, 15)
    return DecodingTask(
        f"imagined: {what} (eegmmidb S001)",
        lambda contract: imagery_windows(files, contract),
        [[file.stem] for file in files],
        by_subject=False,
        band_channels=tuple("FC5 FC3 FC1 FCZ FC2 FC4 FC6 C5 C3 C1 CZ C2 C4 C6 CP3 CPZ CP4".split()),
        bands=((8.0, 13.0), (13.0, 30.0)),
        note=(
            "One subject: learnt from one run of 15 trials, judged in the other, both ways; the spread is that of two "
            f"runs, and the 95 % interval of an accuracy of 0.70 in 15 trials is {low:.2f} to {high:.2f}. Without "
            "labels, labram-tiny was trained on this subject; later models were not."
        ),
    )


def wilson_interval(rate: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """Interval of a rate of so many trials (Wilson 1927, J Am Stat Assoc 22:209-212).

    Parameters
    ----------
    rate : float
        What was found.
    n : int
        Number of trials.
    z : float
        Quantile of the normal distribution.

    Returns
    -------
    low, high : float
        95 % for the default quantile.
    """
    centre = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * float(np.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2)))
    return centre - half, centre + half


def imagery_windows(files: Sequence[Path], contract: SignalContract) -> LabelledWindows:
    """Cut runs of eegmmidb into trials: class 0 is T1 (left fist, or both), class 1 is T2 (right fist, or both feet).

    Parameters
    ----------
    files : sequence of Path
        Runs.
    contract : SignalContract
        How the signal is prepared.

    Returns
    -------
    windows : LabelledWindows
        The first 4 s of each trial; ``subjects`` are the runs.

    Raises
    ------
    ValueError
        If a run has not both kinds of trials.
    """
    x, y, runs, names = [], [], [], None
    length = round(_SECONDS * contract.sfreq)
    for file in files:
        raw = open_recording(file)
        plan = plan_conform(raw, contract, ch_names=names)
        names = list(plan.ch_names)
        signal = np.concatenate([block.data for block in plan.iter_blocks(60)], axis=1)
        kinds = []
        for onset, kind in zip(raw.annotations.onset, raw.annotations.description, strict=True):
            start = round(float(onset) * contract.sfreq)
            if kind in ("T1", "T2") and start + length <= signal.shape[1]:
                x.append(signal[:, start : start + length])
                kinds.append(int(kind == "T2"))
        if len(set(kinds)) != 2:
            raise ValueError(f"{file.name} must hold trials of both kinds (T1 and T2).")
        y += kinds
        runs += [file.stem] * len(kinds)
    return LabelledWindows(np.array(x, dtype=np.float32), np.array(y), np.array(runs), names or [], contract.sfreq)


@verbose
def benchmark_decoding(
    tasks: Sequence[DecodingTask],
    decoders: Sequence[Decoder],
    *,
    verbose: bool | str | int | None = None,
) -> list[DecodingRow]:
    """Score decoders in all tasks, fold by fold.

    Parameters
    ----------
    tasks : sequence of DecodingTask
        What is told apart.
    decoders : sequence of Decoder
        Who does it.
    verbose : bool | str | int | None
        Control verbosity of the logging output.

    Returns
    -------
    rows : list of DecodingRow
        Two for each task and decoder: inductive and transductive, where it has that.

    Raises
    ------
    ValueError
        If a task holds a subject with one class only.
    """
    rows: list[DecodingRow] = []
    for task in tasks:
        for decoder in decoders:
            found = _scored(task, decoder)
            rows += found
            texts = [
                f"{'transductive' if row.transductive else 'inductive'} {np.mean(row.balanced_accuracy):.3f} / "
                f"{np.mean(row.auroc):.3f}"
                for row in found
            ]
            logger.info(f"{task.name}, {decoder.name}: {', '.join(texts)}; {found[0].seconds:.0f} s.")
    return rows


def _scored(task: DecodingTask, decoder: Decoder) -> list[DecodingRow]:
    """Score one decoder in one task."""
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score

    began = perf_counter()
    names: list[str] = []
    scores: dict[bool, list[tuple[float, float]]] = {}
    for number, fold in enumerate(task.folds):
        decisions = decoder.decide(task, fold)
        windows = task.windows(decoder.contract)
        rows = np.isin(windows.subjects, fold)
        for subject in fold:
            own = windows.subjects[rows] == subject
            y = windows.y[rows][own]
            if len(np.unique(y)) < 2:
                raise ValueError(f"{subject} has windows of one class only; leave it out.")
            names.append(subject)
            for kind, values in decisions.items():
                accuracy = balanced_accuracy_score(y, values[own] > 0)
                scores.setdefault(kind, []).append((float(accuracy), float(roc_auc_score(y, values[own]))))
        logger.debug(f"{decoder.name}: fold {number + 1} of {len(task.folds)}.")
    spent = perf_counter() - began
    return [
        DecodingRow(task.name, decoder.name, kind, names, *map(list, zip(*values, strict=True)), seconds=spent)
        for kind, values in sorted(scores.items())
    ]
