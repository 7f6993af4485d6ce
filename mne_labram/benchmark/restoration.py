"""``mne-labram benchmark restoration``: hidden channels of EEG at rest, restored by us, by splines and by regression.

eegmat at rest (``_1``): what is fitted knows subjects 00 to 17, what is scored are subjects 18 to 23. Errors are taken
in the reference to the mean of the visible channels: in that to the mean of all, a missing channel is minus the sum of
the others, and every linear method recovers it exactly (``shared/reference/baselines.md``, trap 1).

These recordings were cleaned by taking independent components out, so that in most of them a channel is nearly a sum of
others, with weights that hold for the whole recording. Calibrated methods find them where they regularize little; rows
that are tuned do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from mne.utils import logger, verbose

from mne_labram.benchmark.rate_distortion import WINDOW, CodecRecording, read_for_codec
from mne_labram.signal.positions import electrode_positions

__all__ = [
    "SCORED",
    "TASKS",
    "TRAINING",
    "RestorationData",
    "RestorationMethod",
    "RestorationRow",
    "RestorationTask",
    "benchmark_restoration",
    "hidden_samples",
    "read_restoration",
    "score_method",
]

#: Subjects that baselines are fitted on, and subjects that are scored.
TRAINING, SCORED = tuple(range(18)), tuple(range(18, 24))
#: Seconds of a window.
SECONDS = 8.0
# What is added up over the hidden samples of a window: number, target, prediction, their squares and product, squared
# error, squared error that was foretold.
_SUMS = ("n", "t", "p", "tt", "pp", "tp", "ee", "dd")


@dataclass(frozen=True)
class RestorationTask:
    """What is hidden of every window.

    Attributes
    ----------
    name : str
        What it is called in tables.
    n_hidden : int | None
        Channels that are hidden throughout the window; ``None``: half of all 1-s pieces of channels.
    goal : float | None
        Normalised squared error that issue 6 asks for without calibration.
    calibrated : float | None
        What ridge regression reached that was calibrated on the same recording (``shared/reference/baselines.md``).
    """

    name: str
    n_hidden: int | None
    goal: float | None = None
    calibrated: float | None = None


#: One, three and five channels, and half of all patches.
TASKS = (
    RestorationTask("1 channel", 1, 0.42, 0.30),
    RestorationTask("3 channels", 3, 0.40, 0.30),
    RestorationTask("5 channels", 5, 0.43, 0.35),
    RestorationTask("50 % of 1-s patches", None, 0.50, 0.45),
)


class Predictor(Protocol):
    """What predicts hidden samples of one recording."""

    def observe(self, x: np.ndarray, hidden: np.ndarray) -> None:
        """Take in what another stretch of the recording shows."""

    def predict(self, x: np.ndarray, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the restored signal, and the standard deviation of its error that is expected."""


@dataclass(frozen=True)
class RestorationMethod:
    """A row of the table.

    Attributes
    ----------
    name : str
        What it is called.
    make : callable
        ``make(task, ch_names, positions, sfreq)`` makes a :class:`Predictor` for a recording.
    calibrated : bool
        Whether it is shown the first half of the recording, in which nothing is hidden.
    """

    name: str
    make: Callable[[RestorationTask, Sequence[str], np.ndarray, float], Predictor]
    calibrated: bool = False


@dataclass(frozen=True)
class RestorationData:
    """The recordings.

    Attributes
    ----------
    training, scored : list of CodecRecording
        What baselines are fitted on, and what is scored.
    positions : ndarray, shape (n_channels, 3)
        Where the electrodes are, in metres, in the head frame.
    """

    training: list[CodecRecording]
    scored: list[CodecRecording]
    positions: np.ndarray

    @property
    def ch_names(self) -> list[str]:
        """Channels of all recordings."""
        return self.scored[0].ch_names

    @property
    def sfreq(self) -> float:
        """Sampling rate in Hz."""
        return self.scored[0].sfreq


@dataclass(frozen=True)
class RestorationRow:
    """What was measured of one method in one task.

    Attributes
    ----------
    method, task : str
        Which.
    part : {"all", "second half"}
        Which windows of every recording.
    subjects : list of str
        Who was scored; every value below has one number for each.
    error : list of float
        Sum of squared errors over sum of squared targets, over all hidden samples.
    window_error : list of float
        Mean over windows of the same ratio within a window.
    correlation : list of float
        Pearson's, over all hidden samples.
    amplitude : list of float
        Root mean square of what was restored, over that of what was there.
    foretold : list of float
        Root mean square of the deviation that the method expects of itself, over that of its error; NaN where it
        expects nothing.
    milliseconds : float
        Mean time of a window.
    """

    method: str
    task: str
    part: str
    subjects: list[str]
    error: list[float]
    window_error: list[float]
    correlation: list[float]
    amplitude: list[float]
    foretold: list[float]
    milliseconds: float


def read_restoration(
    data: str | os.PathLike[str], training: Iterable[int] = TRAINING, scored: Iterable[int] = SCORED
) -> RestorationData:
    """Read EEG at rest: 0.1 to 75 Hz, 200 Hz, in the reference of the recording.

    Parameters
    ----------
    data : path-like
        ``../shared/data``.
    training, scored : iterable of int
        Numbers of subjects.

    Returns
    -------
    data : RestorationData
        The recordings.

    Raises
    ------
    FileNotFoundError
        If a recording is absent.
    ValueError
        If a subject is both in training and scored.
    """
    numbers = [list(training), list(scored)]
    both = set(numbers[0]) & set(numbers[1])
    if both:
        raise ValueError(f"Subject {min(both)} is in training and scored; nobody can be both.")
    paths = [[Path(data) / "eegmat" / f"Subject{number:02d}_1.edf" for number in some] for some in numbers]
    missing = [path for some in paths for path in some if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"{missing[0]} is absent; give the folder that holds eegmat.")
    found = read_for_codec(paths[0] + paths[1], dataset="eegmat")
    # Names of a recording are those of the template's sites; the head frame is the template's too.
    positions = electrode_positions(found[0].ch_names)[:, :3]
    return RestorationData(found[: len(paths[0])], found[len(paths[0]) :], positions)


def hidden_samples(
    task: RestorationTask, n_channels: int, n_times: int, sfreq: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw what is hidden of a window.

    Parameters
    ----------
    task : RestorationTask
        What is hidden.
    n_channels, n_times : int
        Shape of the window.
    sfreq : float
        Sampling rate in Hz.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    hidden : ndarray of bool, shape (n_channels, n_times)
        True where it is hidden; of patches at every moment at least two channels are visible, one of three or fewer.

    Raises
    ------
    ValueError
        If no channel would be left.
    """
    if task.n_hidden is not None:
        if not 0 < task.n_hidden < n_channels:
            raise ValueError(f"{task.n_hidden} of {n_channels} channels cannot be hidden; leave some of both.")
        gone = np.zeros(n_channels, dtype=bool)
        gone[rng.permutation(n_channels)[: task.n_hidden]] = True
        return np.repeat(gone[:, None], n_times, axis=1)
    length = int(sfreq)
    n_seconds = -(-n_times // length)
    # Two are needed for anything to be left in the reference to their mean.
    n_visible = 2 if n_channels > 3 else 1
    while True:
        patches = np.zeros(n_channels * n_seconds, dtype=bool)
        patches[rng.permutation(patches.size)[: patches.size // 2]] = True
        patches = patches.reshape(n_channels, n_seconds)
        if (~patches).sum(axis=0).min() >= n_visible:
            return np.repeat(patches, length, axis=1)[:, :n_times]


def score_method(
    method: RestorationMethod,
    task: RestorationTask,
    data: RestorationData,
    *,
    draws: int = 4,
    seed: int = 0,
) -> list[RestorationRow]:
    """Measure one method in one task.

    Parameters
    ----------
    method : RestorationMethod
        What is measured.
    task : RestorationTask
        What is hidden.
    data : RestorationData
        The recordings.
    draws : int
        How often every window is shown with something else hidden.
    seed : int
        Of what is hidden, which is the same for every method.

    Returns
    -------
    rows : list of RestorationRow
        Over all windows, unless the method is calibrated, and over those of the second half of each recording.
    """
    sums: list[np.ndarray] = []
    halves, spent = [], []
    for recording in data.scored:
        predictor = method.make(task, data.ch_names, data.positions, data.sfreq)
        starts, n_times = _window_starts(recording)
        half = recording.x.shape[1] // 2
        late = np.array([start >= half for start in starts])
        if method.calibrated:
            first = recording.x[:, :half].astype(float)
            predictor.observe(first, np.zeros(first.shape, dtype=bool))
        found = np.full((len(starts), draws, len(_SUMS)), np.nan)
        for i, start in enumerate(starts):
            if method.calibrated and not late[i]:
                continue
            x = recording.x[:, start : start + n_times].astype(float)
            for draw in range(draws):
                # One stream for each window and draw: whatever is scored, the same is hidden.
                key = (seed, int(recording.subject[-2:]), task.n_hidden or 0, i, draw)
                hidden = hidden_samples(task, len(x), n_times, data.sfreq, np.random.default_rng(key))
                shown = np.where(hidden, 0.0, x)
                began = perf_counter()
                restored, deviation = predictor.predict(shown, hidden)
                spent.append(perf_counter() - began)
                found[i, draw] = _sums(x, restored, deviation, hidden)
        sums.append(found)
        halves.append(late)
    rows = []
    for part in ("second half",) if method.calibrated else ("all", "second half"):
        picked = [each[late] if part == "second half" else each for each, late in zip(sums, halves, strict=True)]
        subjects = [recording.subject for recording in data.scored]
        rows.append(
            RestorationRow(method.name, task.name, part, subjects, *_measures(picked), 1e3 * float(np.mean(spent)))
        )
    return rows


def _window_starts(recording: CodecRecording) -> tuple[list[int], int]:
    """Return where windows begin that hold nothing unusable, and their length in samples."""
    n_pieces = int(SECONDS / WINDOW)
    length = round(SECONDS * recording.sfreq)
    n_windows = recording.x.shape[1] // length
    whole = recording.usable[: n_windows * n_pieces].reshape(n_windows, n_pieces).all(axis=1)
    return (np.flatnonzero(whole) * length).tolist(), length


def _sums(x: np.ndarray, restored: np.ndarray, deviation: np.ndarray, hidden: np.ndarray) -> list[float]:
    """Add up what the measures of one window take, in the reference to the mean of the visible channels."""
    mean = np.where(hidden, 0.0, x).sum(axis=0) / (~hidden).sum(axis=0)
    target, prediction = (x - mean)[hidden], (restored - mean)[hidden]
    error, foretold = prediction - target, deviation[hidden]
    squares = [float(a @ b) for a, b in ((target, target), (prediction, prediction), (target, prediction))]
    return [target.size, target.sum(), prediction.sum(), *squares, float(error @ error), float(foretold @ foretold)]


def _measures(sums: Sequence[np.ndarray]) -> tuple[list[float], ...]:
    """Turn sums of windows into the measures of every subject."""
    out: list[tuple[float, ...]] = []
    for found in sums:
        windows = dict(zip(_SUMS, np.moveaxis(found, -1, 0), strict=True))
        total = {name: float(values.sum()) for name, values in windows.items()}
        n, covariance = total["n"], total["tp"] - total["t"] * total["p"] / total["n"]
        spreads = [total[two] - total[one] ** 2 / n for one, two in (("t", "tt"), ("p", "pp"))]
        out.append(
            (
                total["ee"] / total["tt"],
                float((windows["ee"] / windows["tt"]).mean()),
                covariance / float(np.sqrt(max(spreads[0] * spreads[1], 1e-30))),
                float(np.sqrt(total["pp"] / total["tt"])),
                float(np.sqrt(total["dd"] / max(total["ee"], 1e-30))),
            )
        )
    return tuple(map(list, zip(*out, strict=True)))


@verbose
def benchmark_restoration(
    data: RestorationData,
    methods: Sequence[RestorationMethod],
    tasks: Sequence[RestorationTask] = TASKS,
    *,
    draws: int = 4,
    seed: int = 0,
    verbose: bool | str | int | None = None,
) -> list[RestorationRow]:
    """Measure methods in all tasks.

    Parameters
    ----------
    data : RestorationData
        From :func:`read_restoration`.
    methods : sequence of RestorationMethod
        What is compared.
    tasks : sequence of RestorationTask
        What is hidden.
    draws, seed : int
        See :func:`score_method`.
    verbose : bool | str | int | None
        Control verbosity of the logging output.

    Returns
    -------
    rows : list of RestorationRow
        Method by method.

    Raises
    ------
    ValueError
        If ``draws`` is below 1, or there is nothing to compare.
    """
    if draws < 1 or not methods or not tasks:
        raise ValueError("There is nothing to measure; give draws of at least 1, a method and a task.")
    rows: list[RestorationRow] = []
    for method in methods:
        for task in tasks:
            rows += score_method(method, task, data, draws=draws, seed=seed)
            values: Any = np.array(rows[-1].error)
            logger.info(f"{task.name}, {method.name}: {values.mean():.3f} ± {values.std():.3f} ({rows[-1].part}).")
    return rows
