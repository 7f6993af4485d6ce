"""What scoring counted, per subject, over subjects and over all; nothing here looks at an event."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from mne_labram._files import written_whole

__all__ = ["METRICS", "Counts", "Scores", "SubjectScores"]

#: What is computed from counts, in the order in which it is shown.
METRICS = ("sensitivity", "precision", "f1", "fp_per_day")
_SECONDS_PER_DAY = 86400.0
#: Problems that are shown; all are in ``Scores.problems``.
_N_SHOWN = 10


@dataclass(frozen=True)
class Counts:
    """Hits and false alarms over some time; the four metrics follow from them.

    Parameters
    ----------
    n_true : int
        Reference events, or seconds of seizure, after SzCORE's merging and splitting.
    n_tp : int
        Those that were found.
    n_fp : int
        Detected events, or seconds, that belong to none.
    seconds : float
        Time that was scored.

    Notes
    -----
    The formulas, and when a metric is not defined (NaN), are those of timescoring 0.0.7 (``_Scoring.computeScores``):
    precision and F1 count *reference* events as hits, and F1 is 0, not NaN, where nothing was found.
    """

    n_true: int = 0
    n_tp: int = 0
    n_fp: int = 0
    seconds: float = 0.0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    @property
    def sensitivity(self) -> float:
        """Part of the reference that was found; NaN without any."""
        return self.n_tp / self.n_true if self.n_true else math.nan

    @property
    def precision(self) -> float:
        """Hits among hits and false alarms; NaN without either."""
        return self.n_tp / (self.n_tp + self.n_fp) if self.n_tp + self.n_fp else math.nan

    @property
    def f1(self) -> float:
        """Harmonic mean of sensitivity and precision; NaN without reference and without false alarm."""
        return 2 * self.n_tp / (self.n_tp + self.n_fp + self.n_true) if self.n_true + self.n_fp else math.nan

    @property
    def fp_per_day(self) -> float:
        """False alarms, or seconds of them, in 24 hours; NaN without any time."""
        return self.n_fp / (self.seconds / _SECONDS_PER_DAY) if self.seconds else math.nan

    def metrics(self) -> dict[str, float]:
        """Return the four metrics by name.

        Returns
        -------
        metrics : dict of float
            ``sensitivity``, ``precision``, ``f1`` and ``fp_per_day``.
        """
        return {name: getattr(self, name) for name in METRICS}


@dataclass(frozen=True)
class SubjectScores:
    """Counts of all recordings of one subject together.

    Parameters
    ----------
    subject : str
        Name.
    n_recordings : int
        Recordings.
    n_seizures : int
        Seizures in the reference as written, before SzCORE merges and splits them.
    event, sample : Counts
        By events, and second by second.
    """

    subject: str
    n_recordings: int
    n_seizures: int
    event: Counts
    sample: Counts

    def __add__(self, other: SubjectScores) -> SubjectScores:
        return SubjectScores(
            self.subject,
            self.n_recordings + other.n_recordings,
            self.n_seizures + other.n_seizures,
            self.event + other.event,
            self.sample + other.sample,
        )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SubjectScores:
        """Return what :func:`dataclasses.asdict` made.

        Parameters
        ----------
        values : dict
            The fields.

        Returns
        -------
        scores : SubjectScores
            The same.
        """
        return cls(**{**values, "event": Counts(**values["event"]), "sample": Counts(**values["sample"])})


class WrittenAsJson:
    """What has ``to_dict`` goes into a file."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""
        raise NotImplementedError

    def to_json(self, fname: str | os.PathLike, *, overwrite: bool = False) -> Path:
        """Write :meth:`to_dict`; the file appears whole or not at all.

        Parameters
        ----------
        fname : path-like
            The file.
        overwrite : bool
            Replace an existing file.

        Returns
        -------
        fname : Path
            The file.

        Raises
        ------
        OSError
            If the file exists and ``overwrite`` is false, or its folder does not.
        """
        return write_json(self.to_dict(), fname, overwrite=overwrite)


@dataclass(frozen=True)
class Scores(WrittenAsJson):
    """Scores of a data set; ``print`` shows them as a table.

    Parameters
    ----------
    subjects : tuple of SubjectScores
        One for each subject.
    timescoring : str
        Version of the package that counted: F1 differs between 0.0.6 and 0.0.7.
    masks : {"timescoring", "szcore"}
        How events became seconds, see :func:`mne_labram.score`.
    problems : tuple of str
        One sentence for every file that was not scored as it stands.
    """

    subjects: tuple[SubjectScores, ...]
    timescoring: str
    masks: str = "timescoring"
    problems: tuple[str, ...] = ()

    def __add__(self, other: Scores) -> Scores:
        """Both together; recordings of a subject that is in both are pooled."""
        if (self.timescoring, self.masks) != (other.timescoring, other.masks):
            raise ValueError(
                f"Scores of timescoring {self.timescoring} ({self.masks} masks) and of {other.timescoring} "
                f"({other.masks} masks) cannot be put together; score both anew."
            )
        subjects = {each.subject: each for each in self.subjects}
        for each in other.subjects:
            subjects[each.subject] = subjects[each.subject] + each if each.subject in subjects else each
        return Scores(tuple(subjects.values()), self.timescoring, self.masks, self.problems + other.problems)

    @property
    def n_subjects(self) -> int:
        """Number of subjects."""
        return len(self.subjects)

    @property
    def n_recordings(self) -> int:
        """Number of recordings."""
        return sum(each.n_recordings for each in self.subjects)

    @property
    def n_hours(self) -> float:
        """Hours that were scored."""
        return sum(each.sample.seconds for each in self.subjects) / 3600

    @property
    def n_seizures(self) -> int:
        """Seizures in the reference as written."""
        return sum(each.n_seizures for each in self.subjects)

    def pooled(self, kind: str = "event") -> Counts:
        """Return the counts over the data set, as if all were one subject.

        Parameters
        ----------
        kind : {"event", "sample"}
            By events, or second by second.

        Returns
        -------
        counts : Counts
            Their sum.
        """
        return sum((getattr(each, _checked(kind)) for each in self.subjects), Counts())

    def mean(self, kind: str = "event") -> dict[str, float]:
        """Return the mean of each metric over the subjects for whom it is defined.

        Parameters
        ----------
        kind : {"event", "sample"}
            By events, or second by second.

        Returns
        -------
        mean : dict of float
            As on SzCORE's leaderboard. The mean F1 is no function of the mean sensitivity and precision: each is over
            other subjects.
        """
        return self._over_subjects(kind, np.mean)

    def std(self, kind: str = "event") -> dict[str, float]:
        """Return the standard deviation (of the population) over the subjects for whom a metric is defined.

        Parameters
        ----------
        kind : {"event", "sample"}
            By events, or second by second.

        Returns
        -------
        std : dict of float
            As szcore-evaluation computes it.
        """
        return self._over_subjects(kind, np.std)

    def _over_subjects(self, kind: str, function: Any) -> dict[str, float]:
        rows = np.array([list(getattr(each, _checked(kind)).metrics().values()) for each in self.subjects])
        columns = [] if not self.subjects else [column[np.isfinite(column)] for column in rows.T]
        out = [float(function(column)) if column.size else math.nan for column in columns]
        return dict(zip(METRICS, out or [math.nan] * len(METRICS), strict=True))

    def to_frame(self) -> Any:
        """Return one row per subject.

        Returns
        -------
        frame : pandas.DataFrame
            Indexed by subject: ``n_recordings``, ``hours``, ``n_seizures``, and by events (``event_...``) and by
            seconds (``sample_...``) the four metrics, ``n_true``, ``n_tp`` and ``n_fp``.
        """
        import pandas as pd

        rows = [row_of(each) for each in self.subjects]
        frame = pd.DataFrame(rows, index=pd.Index([each.subject for each in self.subjects], name="subject"))
        return frame

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON.

        Returns
        -------
        values : dict
            ``None`` where a metric is not defined.
        """
        out: dict[str, Any] = {
            "timescoring": self.timescoring,
            "masks": self.masks,
            "n_subjects": self.n_subjects,
            "n_recordings": self.n_recordings,
            "n_hours": self.n_hours,
            "n_seizures": self.n_seizures,
        }
        for kind in ("event", "sample"):
            pooled = self.pooled(kind)
            out[kind] = {
                "mean": self.mean(kind),
                "std": self.std(kind),
                "pooled": {**pooled.metrics(), **asdict(pooled)},
            }
        out["subjects"] = {
            each.subject: {
                **asdict(each),
                "event": {**each.event.metrics(), **asdict(each.event)},
                "sample": {**each.sample.metrics(), **asdict(each.sample)},
            }
            for each in self.subjects
        }
        out["problems"] = list(self.problems)
        return without_nan(out)

    def __str__(self) -> str:
        width = max([len("subject"), *(len(each.subject) for each in self.subjects)])
        head = f"{'subject':<{width}} {'files':>5} {'hours':>8} {'seizures':>8} | {'events':^31} | {'seconds':^23}"
        names = f"{'':<{width}} {'':>5} {'':>8} {'':>8} | {'Se':>6} {'Pr':>6} {'F1':>6} {'FP/day':>10} | "
        lines = [
            f"{self.n_subjects} subject(s), {self.n_recordings} recording(s), {self.n_hours:.3g} h, "
            f"{self.n_seizures} seizure(s); SzCORE's rules by timescoring {self.timescoring}, {self.masks} masks",
            head,
            names + f"{'Se':>7} {'Pr':>7} {'F1':>7}",
        ]
        for each in self.subjects:
            row = f"{each.subject:<{width}} {each.n_recordings:>5} {each.sample.seconds / 3600:>8.2f} "
            lines.append(row + f"{each.n_seizures:>8} | " + _cells(each.event.metrics(), each.sample.metrics()))
        for name, event, sample in (
            ("mean", self.mean("event"), self.mean("sample")),
            ("std", self.std("event"), self.std("sample")),
            ("pooled", self.pooled("event").metrics(), self.pooled("sample").metrics()),
        ):
            lines.append(f"{name:<{width + 24}} | " + _cells(event, sample))
        lines += self.problems[:_N_SHOWN]
        if len(self.problems) > _N_SHOWN:
            lines.append(f"... and {len(self.problems) - _N_SHOWN} more, see Scores.problems.")
        return "\n".join(lines)


def row_of(each: SubjectScores) -> dict[str, float]:
    """Return counts and metrics of a subject as one flat row."""
    row: dict[str, float] = {
        "n_recordings": each.n_recordings,
        "hours": each.sample.seconds / 3600,
        "n_seizures": each.n_seizures,
    }
    for kind in ("event", "sample"):
        counts = getattr(each, kind)
        values = {**counts.metrics(), "n_true": counts.n_true, "n_tp": counts.n_tp, "n_fp": counts.n_fp}
        row |= {f"{kind}_{name}": value for name, value in values.items()}
    return row


def without_nan(value: Any) -> Any:
    """Return the same for strict JSON: ``None`` for what is not finite, and Python's numbers for NumPy's."""
    if isinstance(value, dict):
        return {str(key): without_nan(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(values: dict[str, Any], fname: str | os.PathLike, *, overwrite: bool = False) -> Path:
    """Write JSON whole or not at all."""
    text = json.dumps(without_nan(values), indent=1, allow_nan=False)
    with written_whole(fname, overwrite=overwrite) as temporary:
        temporary.write_text(text + "\n", encoding="utf8")
    return Path(fname)


def merged(scores: Iterable[Scores]) -> Scores:
    """Return the sum of scores, of which there is at least one."""
    first, *others = scores
    for each in others:
        first = first + each
    return first


def _checked(kind: str) -> str:
    if kind not in ("event", "sample"):
        raise ValueError(f"kind must be 'event' or 'sample', got {kind!r}.")
    return kind


def _cells(event: dict[str, float], sample: dict[str, float]) -> str:
    """Write the metrics of a row, a dash where one is not defined."""

    def cell(value: float, width: int, digits: int) -> str:
        return f"{'-' if math.isnan(value) else f'{value:.{digits}f}':>{width}}"

    left = [cell(event[name], 6, 3) for name in METRICS[:3]] + [cell(event["fp_per_day"], 10, 2)]
    return " ".join(left) + " | " + " ".join(cell(sample[name], 7, 3) for name in METRICS[:3])
