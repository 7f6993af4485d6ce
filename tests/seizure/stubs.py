"""A store and detectors that remember who was looked at, for evaluation without signals or models."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from mne_labram.seizure.events import EventTable, SeizureEvent
from mne_labram.seizure.labels import second_labels


@dataclass
class Recording:
    """One made-up recording."""

    subject: str
    name: str
    duration: float = 1200.0
    onsets: tuple[float, ...] = ()
    date_time: datetime | None = None
    dataset: str = "made"

    @property
    def path(self) -> Path:
        return Path("/data") / self.dataset / self.subject / self.name

    @property
    def table(self) -> EventTable:
        return EventTable(tuple(SeizureEvent(onset, 40.0) for onset in self.onsets), self.duration, self.date_time)


@dataclass
class StubStore:
    """What evaluation asks of a SeizureStore."""

    made: list[Recording] = field(default_factory=list)

    @property
    def conformed(self) -> Any:
        return SimpleNamespace(recordings=self.made)

    @property
    def tables(self) -> list[EventTable]:
        return [each.table for each in self.made]

    @property
    def subjects(self) -> list[str]:
        return sorted({each.subject for each in self.made})

    def __len__(self) -> int:
        return len(self.made)

    def subject_of(self, file: int) -> str:
        return self.made[file].subject

    def labels(self, file: int) -> np.ndarray:
        return second_labels(self.tables[file], int(np.ceil(self.made[file].duration)))

    def select(self, *, files: Any) -> StubStore:
        return StubStore([self.made[file] for file in sorted(files)])


class OracleDetector:
    """Knows where seizures are, with noise; writes down what it was shown and by which of its methods."""

    def __init__(self, noise: float = 0.2, false_alarms: float = 0.3) -> None:
        self.noise, self.false_alarms, self.fitted = noise, false_alarms, False

    def fit(self, train: StubStore, validation: StubStore | None = None, *, folder: Path, seed: int = 0) -> Any:
        self._note(folder, "fit", [*train.made, *(validation.made if validation is not None else [])])
        # The best weights are another object's, as where a training gives back a checkpoint.
        best = OracleDetector(self.noise, self.false_alarms)
        best.fitted, best.folder, best.seed = True, folder, seed
        return best

    def probabilities(self, store: StubStore, file: int) -> np.ndarray:
        if not self.fitted:
            raise AssertionError("The detector that fit() was called on was used, not the one that it returned.")
        each = store.made[file]
        self._note(self.folder, "probabilities", [each])
        rng = np.random.default_rng([self.seed, *each.name.encode()])
        scores = rng.uniform(0.0, self.noise, int(np.ceil(each.duration)))
        if rng.random() < self.false_alarms:
            scores[-60:-30] = 0.6
        for onset in each.onsets:
            scores[int(onset) + 5 : int(onset) + 40] = rng.uniform(0.4, 1.0)
        return scores

    def _note(self, folder: Path, what: str, made: list[Recording]) -> None:
        with open(folder / "calls.txt", "a") as file:
            file.writelines(json.dumps([what, each.subject, each.name]) + "\n" for each in made)


def clinic(n: int = 6, n_files: int = 2) -> StubStore:
    """Return ``n`` patients, each with one file with a seizure and others without."""
    return StubStore(
        [
            Recording(f"p{i:02d}", f"p{i:02d}_{j}.edf", 1200.0 + 7 * i + 0.5 * j, (300.0 + 20 * i,) if j == 0 else ())
            for i in range(n)
            for j in range(n_files)
        ]
    )
