"""What is left of a fold when its detector is gone, and of all folds together."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mne_labram.seizure.calibration import Calibration
from mne_labram.seizure.scores import METRICS, Scores, SubjectScores, WrittenAsJson, merged

__all__ = ["Evaluation", "FoldResult"]

#: Notes of folds that are shown; all are in ``FoldResult.notes``.
_N_NOTES = 3


@dataclass(frozen=True)
class FoldResult:
    """One fold.

    Parameters
    ----------
    name : str
        Of the fold.
    train, validation, test : tuple of str
        Names of the recordings.
    calibration : Calibration
        The threshold, and what it was chosen on.
    calibrated_on : {"validation", "training"}
        Where there was nobody with a seizure to validate on, the threshold comes from the training recordings.
    scores : Scores
        Of the recordings tested.
    auroc, average_precision : float
        Second by second over the tested recordings, whatever the threshold; NaN where they have no seizure.
    n_not_analysed : int
        Tested seconds without a score.
    detections : list of dict
        For each tested recording: ``recording``, ``subject``, ``duration``, ``detected`` as onset, duration and
        confidence of each event, and ``true`` as onset and duration of each seizure.
    minutes : float
        The fold took.
    notes : tuple of str
        What is to be said of the calibration, each in one sentence.
    """

    name: str
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    calibration: Calibration
    calibrated_on: str
    scores: Scores
    auroc: float
    average_precision: float
    n_not_analysed: int
    detections: list[dict[str, Any]]
    minutes: float
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON.

        Returns
        -------
        values : dict
            What :meth:`from_dict` takes, and the metrics for who reads it.
        """
        values = {**vars(self), "calibration": self.calibration.to_dict(), "scores": asdict(self.scores)}
        return {**values, "metrics": {kind: self.scores.mean(kind) for kind in ("event", "sample")}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FoldResult:
        """Return what :meth:`to_dict` made.

        Parameters
        ----------
        values : mapping
            As read from JSON.

        Returns
        -------
        result : FoldResult
            The same.

        Raises
        ------
        KeyError, TypeError, ValueError
            If they are something else.
        """
        scores = dict(values["scores"])
        scores["subjects"] = tuple(SubjectScores.from_dict(each) for each in scores["subjects"])
        scores["problems"] = tuple(scores["problems"])
        changed = {
            "calibration": Calibration.from_dict(values["calibration"]),
            "scores": Scores(**scores),
            **{part: tuple(values[part]) for part in ("train", "validation", "test", "notes")},
            **{name: math.nan if values[name] is None else values[name] for name in ("auroc", "average_precision")},
        }
        return cls(**{name: changed.get(name, values[name]) for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Evaluation(WrittenAsJson):
    """All folds; ``print`` shows them and the scores over subjects.

    Parameters
    ----------
    folds : tuple of FoldResult
        In order.
    settings : dict
        What they were made with.
    """

    folds: tuple[FoldResult, ...]
    settings: dict[str, Any]

    @property
    def scores(self) -> Scores:
        """Of all tested recordings, per subject, mean over subjects and pooled."""
        return merged(fold.scores for fold in self.folds)

    def to_frame(self) -> Any:
        """Return one row per fold.

        Returns
        -------
        frame : pandas.DataFrame
            Indexed by fold: recordings trained on, validated on and tested, ``hours`` and ``n_seizures`` tested,
            ``threshold``, what validation promised (``validation_sensitivity``, ``validation_fp_per_day``), the four
            metrics by events and by seconds pooled over the fold, ``auroc``, ``average_precision`` and
            ``n_not_analysed``.
        """
        import pandas as pd

        return pd.DataFrame(
            [self._row(fold) for fold in self.folds], index=pd.Index([fold.name for fold in self.folds], name="fold")
        )

    @staticmethod
    def _row(fold: FoldResult) -> dict[str, Any]:
        chosen = fold.calibration.chosen
        sensitivity = chosen["sensitivity"]
        row = {
            "n_train": len(fold.train),
            "n_validation": len(fold.validation),
            "n_test": len(fold.test),
            "hours": fold.scores.n_hours,
            "n_seizures": fold.scores.n_seizures,
            "threshold": fold.calibration.parameters.threshold,
            "validation_sensitivity": math.nan if sensitivity is None else sensitivity,
            "validation_fp_per_day": chosen["fp_per_day"],
        }
        for kind in ("event", "sample"):
            row |= {f"{kind}_{name}": value for name, value in fold.scores.pooled(kind).metrics().items()}
        names = ("auroc", "average_precision", "n_not_analysed", "minutes")
        return {**row, **{name: getattr(fold, name) for name in names}}

    def to_dict(self) -> dict[str, Any]:
        """Return settings, folds and scores for JSON.

        Returns
        -------
        values : dict
            ``None`` where a metric is not defined.
        """
        rows = {fold.name: self._row(fold) for fold in self.folds}
        return {"settings": self.settings, "folds": rows, "scores": self.scores.to_dict()}

    def __str__(self) -> str:
        width = max([len("fold"), *(len(fold.name) for fold in self.folds)])
        names = ("Se", "Pr", "F1", "FP/day")
        lines = [
            f"{'fold':<{width}} {'threshold':>9} | " + " ".join(f"{name:>7}" for name in names) + f" | {'AUROC':>6}"
            f" {'AUC-PR':>6}"
        ]
        for fold in self.folds:
            metrics = fold.scores.pooled().metrics()
            cells = " ".join(_cell(metrics[name], 7) for name in METRICS)
            threshold = f"{fold.calibration.parameters.threshold:>9.3g}"
            curves = f"{_cell(fold.auroc, 6)} {_cell(fold.average_precision, 6)}"
            lines.append(f"{fold.name:<{width}} {threshold} | {cells} | {curves}")
        notes = {note: None for fold in self.folds for note in fold.notes}
        return "\n".join([*lines, *list(notes)[:_N_NOTES], "", str(self.scores)])


def _cell(value: float, width: int) -> str:
    return f"{'-' if math.isnan(value) else f'{value:.3f}':>{width}}"


def read_result(fname: Path) -> FoldResult | None:
    """Return the fold of a file; ``None`` where there is none, or it was damaged."""
    if not fname.is_file():
        return None
    try:
        return FoldResult.from_dict(json.loads(fname.read_text(encoding="utf8")))
    except (KeyError, TypeError, ValueError):
        return None
