"""What is left of artefacts that were simulated onto clean EEG, and of the EEG under them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mne_labram.benchmark.rate_distortion import CodecRecording
from mne_labram.benchmark.restoration import SECONDS
from mne_labram.signal.artefacts import simulate_artefact

__all__ = ["KINDS", "DenoisingRow", "corrupted_windows", "denoising_table", "score_denoising"]

#: Artefacts of eyes, muscles and electrodes.
KINDS = ("blinks", "eye_movement", "muscle", "chewing", "electrode_pop", "movement")
# Root mean square of the artefact, over that of the EEG, in the channel where it is largest; drawn evenly in decibels.
_SMALLEST, _LARGEST = 1.0, 20.0
# A channel is doubtful in which the artefact has at least this share of the EEG's root mean square; at most half are.
_NOTICED, _MOST = 0.3, 0.5


@dataclass(frozen=True)
class DenoisingRow:
    """What was measured of one way to treat doubtful channels.

    Attributes
    ----------
    name : str
        The way.
    kind : str
        Of artefact.
    error : list of float
        For each subject, squared errors over squared signal of the doubtful channels, in the reference of the mean of
        the others.
    """

    name: str
    kind: str
    error: list[float]


def corrupted_windows(
    recording: CodecRecording, kind: str, *, seed: int, n_windows: int = 6
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Put artefacts onto windows of a recording.

    Parameters
    ----------
    recording : CodecRecording
        Clean EEG in µV.
    kind : str
        One of :data:`KINDS`.
    seed : int
        Of everything random.
    n_windows : int
        How many windows, spread over the recording.

    Returns
    -------
    windows : list of (clean, corrupted, doubtful)
        Each of shape (n_channels, n_times); ``doubtful`` is True for all samples of the channels that see much of the
        artefact, as a reader would mark them, at most half of all.
    """
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    length = round(SECONDS * recording.sfreq)
    starts = np.linspace(0, recording.x.shape[1] - length, n_windows).astype(int)
    windows = []
    while len(windows) < n_windows:
        clean = recording.x[:, starts[len(windows)] :][:, :length].astype(float)
        artefact = simulate_artefact(recording.ch_names, length, recording.sfreq, rng, kind=kind).astype(float)
        size = np.sqrt(np.square(artefact).mean(axis=1))
        level = np.sqrt(np.square(clean - clean.mean(axis=1, keepdims=True)).mean(axis=1))
        if not size.max() > 0:
            continue
        largest = int(size.argmax())
        artefact *= level[largest] * np.exp(rng.uniform(np.log(_SMALLEST), np.log(_LARGEST))) / size[largest]
        share = np.sqrt(np.square(artefact).mean(axis=1)) / level
        noticed = share >= _NOTICED
        # Others that see it count as visible, artefact and all.
        most = int(_MOST * len(share))
        if noticed.sum() > most:
            noticed = share >= np.sort(share)[-most]
        windows.append((clean, clean + artefact, np.repeat(noticed[:, None], length, axis=1)))
    return windows


def score_denoising(
    recordings: Sequence[CodecRecording],
    ways: dict[str, Callable[[CodecRecording], Callable[[np.ndarray, np.ndarray], np.ndarray]]],
    *,
    kinds: Sequence[str] = KINDS,
    seed: int = 0,
    n_windows: int = 6,
) -> list[DenoisingRow]:
    """Score ways to treat doubtful channels.

    Parameters
    ----------
    recordings : sequence of CodecRecording
        Clean EEG, one recording per subject.
    ways : dict
        By name, ``way(recording)`` makes a function that takes a corrupted window and what of it is doubtful, and
        returns what was there before.
    kinds : sequence of str
        Of artefacts.
    seed : int
        Of the artefacts.
    n_windows : int
        Windows of each recording.

    Returns
    -------
    rows : list of DenoisingRow
        One for each way and kind; ``"left as it is"`` first.
    """
    sums: dict[tuple[str, str], dict[int, list[float]]] = {}

    def count(name: str, kind: str, subject: int, error: np.ndarray, power: float) -> None:
        entry = sums.setdefault((name, kind), {}).setdefault(subject, [0.0, 0.0])
        entry[0] += float(np.square(error).sum())
        entry[1] += power

    for subject, recording in enumerate(recordings):
        made = {name: way(recording) for name, way in ways.items()}
        for kind in kinds:
            for clean, corrupted, doubtful in corrupted_windows(recording, kind, seed=seed, n_windows=n_windows):
                rows = doubtful[:, 0]
                power = float(np.square(clean[rows] - clean[~rows].mean(axis=0)).sum())
                # Relative to the channels that are believed: what these share is not the matter.
                wanted = clean[rows] - clean[~rows].mean(axis=0)
                shift = corrupted[~rows].mean(axis=0)
                count("left as it is", kind, subject, corrupted[rows] - shift - wanted, power)
                for name, treat in made.items():
                    count(name, kind, subject, treat(corrupted, doubtful)[rows] - shift - wanted, power)
    return [
        DenoisingRow(name, kind, [error / power for error, power in by_subject.values()])
        for (name, kind), by_subject in sums.items()
    ]


def denoising_table(rows: Sequence[DenoisingRow]) -> list[dict[str, Any]]:
    """Put errors into a table, mean and spread over subjects.

    Parameters
    ----------
    rows : sequence of DenoisingRow
        From :func:`score_denoising`.

    Returns
    -------
    table : list of dict
        One row per way.
    """
    table: dict[str, dict[str, Any]] = {}
    for row in rows:
        cells = table.setdefault(row.name, {"doubtful channels": row.name})
        cells[row.kind.replace("_", " ")] = f"{np.mean(row.error):.2f} ± {np.std(row.error):.2f}"
    return list(table.values())
