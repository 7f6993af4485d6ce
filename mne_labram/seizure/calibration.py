"""The threshold of a detector, chosen on recordings of other subjects than it will be tested on."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import gammaincinv

from mne_labram.seizure.event_counts import ManyRecordings
from mne_labram.seizure.events import EventTable
from mne_labram.seizure.operating_points import with_threshold
from mne_labram.seizure.scores import Counts, WrittenAsJson
from mne_labram.signal.events import EventParameters

__all__ = ["Calibration", "CalibrationWarning", "calibrate", "default_thresholds", "fp_per_day_bound", "threshold_for"]

#: Thresholds that are tried at most, unless they are given.
_N_THRESHOLDS = 80
#: Seconds by which scores may be more or fewer than a table says, which rounds as headers of files do.
TOLERANCE = 2.5


class CalibrationWarning(UserWarning):
    """The data cannot show what was asked for."""


@dataclass(frozen=True)
class Calibration(WrittenAsJson):
    """How scores become events, and what to expect of it.

    Parameters
    ----------
    parameters : EventParameters
        What was chosen.
    operating_points : list of dict
        With rising threshold: ``threshold``, ``fp_per_day`` (false alarms in 24 analysed hours; the highest at this
        threshold or a higher one, so that it falls), ``fp_per_day_upper`` (its upper 95 % bound), ``sensitivity``
        (part of the seizures found; ``None`` without seizures), ``n_tp``, ``n_fp``, ``n_seizures``, ``hours``, ``f1``.
    target_fp_per_day : float | None
        What was asked for; ``None``: the best F1 of events.
    hours : float
        Hours that were analysed.
    n_seizures : int
        Seizures as SzCORE counts them: those closer than 90 s are one, those longer than 300 s are several.
    n_recordings : int
        Recordings it was chosen on.
    """

    parameters: EventParameters
    operating_points: list[dict[str, Any]]
    target_fp_per_day: float | None
    hours: float
    n_seizures: int
    n_recordings: int

    @property
    def chosen(self) -> dict[str, Any]:
        """The operating point of the threshold that was chosen."""
        return min(self.operating_points, key=lambda point: abs(point["threshold"] - self.parameters.threshold))

    @property
    def detection(self) -> dict[str, Any]:
        """What a model keeps of it: ``parameters``, ``operating_points``, ``hours`` and ``n_seizures``."""
        names = ("threshold", "fp_per_day", "sensitivity")
        points = [{name: point[name] for name in names} for point in self.operating_points]
        parameters = asdict(self.parameters)
        return {
            "parameters": parameters,
            "operating_points": points,
            "hours": self.hours,
            "n_seizures": self.n_seizures,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON.

        Returns
        -------
        values : dict
            The parameters of this class.
        """
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """Return what :meth:`to_dict` made.

        Parameters
        ----------
        values : mapping
            The parameters of this class.

        Returns
        -------
        calibration : Calibration
            The same.

        Raises
        ------
        ValueError
            If one is missing or unknown.
        """
        try:
            parameters = EventParameters(**values["parameters"])
            return cls(**{**values, "parameters": parameters})
        except (TypeError, KeyError) as error:
            raise ValueError(f"This is not a calibration of mne_labram: {error}.") from error

    @classmethod
    def from_json(cls, fname: str | os.PathLike) -> Calibration:
        """Read what :meth:`to_json` wrote.

        Parameters
        ----------
        fname : path-like
            The file.

        Returns
        -------
        calibration : Calibration
            The same.

        Raises
        ------
        OSError
            If there is no such file.
        ValueError
            If it holds something else.
        """
        try:
            values = json.loads(Path(fname).read_text(encoding="utf8"))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"{str(fname)!r} is not JSON; give a file that Calibration.to_json wrote.") from error
        if not isinstance(values, dict):
            raise ValueError(f"{str(fname)!r} does not hold a calibration.")
        return cls.from_dict(values)

    def __str__(self) -> str:
        point = self.chosen
        aim = "best F1" if self.target_fp_per_day is None else f"at most {self.target_fp_per_day:g} false alarms a day"
        found = (
            "no seizure to find"
            if not self.n_seizures
            else f"{point['n_tp']} of {self.n_seizures} seizure(s) found (F1 {point['f1']:.2f})"
        )
        return (
            f"Threshold {self.parameters.threshold:.3g} ({aim}), chosen on {self.n_recordings} recording(s), "
            f"{self.hours:.3g} h: {found}, {point['n_fp']} false alarm(s) or {point['fp_per_day']:.3g} a day, "
            f"with 95 % confidence below {point['fp_per_day_upper']:.3g} a day."
        )


def calibrate(
    probabilities: Sequence[np.ndarray],
    tables: Sequence[EventTable],
    *,
    parameters: EventParameters | Sequence[EventParameters] | None = None,
    target_fp_per_day: float | None = None,
    thresholds: Sequence[float] | None = None,
) -> Calibration:
    """Choose the threshold of a detector.

    Parameters
    ----------
    probabilities : sequence of ndarray, shape (n_seconds,)
        Scores at 1 Hz between 0 and 1 for each recording, NaN where not analysed. Of training or validation subjects:
        a threshold chosen on those it is tested on tells nothing.
    tables : sequence of EventTable
        What is true of each recording.
    parameters : EventParameters | sequence of EventParameters | None
        Smoothing, release, merging and minimum duration; of several, the best is taken, of equal ones the first.
        ``None``: the defaults. A release that is given keeps its ratio to the threshold.
    target_fp_per_day : float | None
        False alarms in 24 hours that are accepted: the lowest threshold is taken at which, and above which, there are
        no more, see :func:`threshold_for`. ``None``: the threshold with the best F1 of events; of a stretch of equally
        good ones the middle.
    thresholds : sequence of float | None
        What to try; ``None``: :func:`default_thresholds`.

    Returns
    -------
    calibration : Calibration
        What was chosen, and all operating points.

    Raises
    ------
    ValueError
        If there is nothing to choose on, lengths disagree, or there is no seizure and no ``target_fp_per_day``.

    Warns
    -----
    CalibrationWarning
        If the data are too few to show so low a rate, in one sentence.

    Notes
    -----
    Hits and false alarms are pooled over recordings and counted by SzCORE's rules. Rates are in analysed time, so that
    seconds which were not analysed do not make a detector look quiet.
    """
    calibration, problem = calibration_and_problem(
        probabilities, tables, parameters=parameters, target_fp_per_day=target_fp_per_day, thresholds=thresholds
    )
    if problem is not None:
        warnings.warn(problem, CalibrationWarning, stacklevel=2)
    return calibration


def calibration_and_problem(
    probabilities: Sequence[np.ndarray],
    tables: Sequence[EventTable],
    *,
    parameters: EventParameters | Sequence[EventParameters] | None = None,
    target_fp_per_day: float | None = None,
    thresholds: Sequence[float] | None = None,
) -> tuple[Calibration, str | None]:
    """Do what :func:`calibrate` does, and return what it would warn of: catching warnings is not for threads."""
    candidates = checked_choice(parameters, target_fp_per_day)
    _check(probabilities, tables)
    recordings = ManyRecordings(probabilities, tables)
    if not recordings.seconds:
        raise ValueError("No second of these recordings was analysed; there is nothing to choose a threshold on.")
    if target_fp_per_day is None and not recordings.n_true:
        raise ValueError(
            "There is no seizure in these recordings, so that no threshold is the best; add recordings with seizures, "
            "or give target_fp_per_day."
        )
    best: tuple[float, ...] | None = None
    for candidate in candidates:
        some = default_thresholds(recordings.smoothed(candidate.smoothing)) if thresholds is None else thresholds
        points = _operating_points(recordings, candidate, some)
        if target_fp_per_day is None:
            chosen, problem = _best_f1(points), None
            merit = (chosen["f1"], -chosen["fp_per_day"])
        else:
            threshold, problem = threshold_and_problem(points, target_fp_per_day)
            chosen = next(point for point in points if point["threshold"] == threshold)
            # One whose scores go up to 1 may have no threshold that is quiet enough, whatever it finds.
            excess = max(0.0, chosen["fp_per_day"] - target_fp_per_day)
            merit = (-excess, chosen["sensitivity"] or 0.0, -chosen["fp_per_day"])
        if best is None or merit > best:
            best, out = merit, (candidate, points, chosen, problem)
    candidate, points, chosen, problem = out
    calibration = Calibration(
        with_threshold(candidate, chosen["threshold"]),
        points,
        None if target_fp_per_day is None else float(target_fp_per_day),
        recordings.seconds / 3600,
        recordings.n_true,
        len(probabilities),
    )
    return calibration, problem


def threshold_for(
    operating_points: Sequence[Mapping[str, Any]],
    target_fp_per_day: float,
    *,
    hours: float | None = None,
    errors: str = "warn",
) -> float:
    """Choose a threshold from operating points that were measured before.

    Parameters
    ----------
    operating_points : sequence of mapping
        Each with ``threshold``, ``fp_per_day`` and, if known, ``sensitivity`` and ``hours``; in any order.
    target_fp_per_day : float
        False alarms in 24 hours that are accepted.
    hours : float | None
        Hours they were measured on; ``None``: as the first of them says, if it does.
    errors : {"warn", "raise"}
        What to do where the data cannot show so low a rate.

    Returns
    -------
    threshold : float
        The lowest at which, and above which, there were no more false alarms. Where the data cannot show so low a
        rate, the middle of those from there on that find as many seizures: just above the scores of the few false
        alarms that were seen is too low. Where even the highest has more false alarms, the highest.

    Raises
    ------
    ValueError
        If there are no operating points, the target is negative, or, with ``errors="raise"``, it is lower than the
        data can show.

    Warns
    -----
    CalibrationWarning
        With ``errors="warn"``, if it is lower than the data can show.

    Notes
    -----
    Without a single false alarm in ``h`` hours the rate may still be 3 in ``h`` hours (rule of three, upper 95 % bound;
    Hanley and Lippman-Hand, 1983, JAMA 249:1743): to show 1 a day takes 72 hours of recordings.
    """
    if errors not in ("warn", "raise"):
        raise ValueError(f"errors must be 'warn' or 'raise', got {errors!r}.")
    threshold, problem = threshold_and_problem(operating_points, target_fp_per_day, hours)
    if problem is not None:
        if errors == "raise":
            raise ValueError(problem)
        warnings.warn(problem, CalibrationWarning, stacklevel=2)
    return threshold


def threshold_and_problem(
    operating_points: Sequence[Mapping[str, Any]], target_fp_per_day: float, hours: float | None = None
) -> tuple[float, str | None]:
    """Do what :func:`threshold_for` does, and return what it would warn of."""
    _check_target(target_fp_per_day)
    points = sorted(operating_points, key=lambda point: -point["threshold"])
    if not points:
        raise ValueError("There are no operating points to choose from; calibrate the detector first.")
    highest = points[0]
    allowed = []
    for point in points:
        if point["fp_per_day"] > target_fp_per_day:
            break
        allowed.append(point)
    hours = highest.get("hours") if hours is None else hours
    out, problem = (allowed or [highest])[-1]["threshold"], None
    if not allowed:
        problem = (
            f"Even at the highest threshold there were {highest['fp_per_day']:.3g} false alarms a day, more than "
            f"{target_fp_per_day:g}; that threshold, {out:.3g}, is taken."
        )
    elif hours is not None and fp_per_day_bound(0, hours) > target_fp_per_day:
        found = allowed[-1].get("sensitivity")
        equal = [point["threshold"] for point in allowed if found is None or point["sensitivity"] >= found]
        out = min(equal, key=lambda threshold: abs(threshold - (equal[0] + equal[-1]) / 2))
        problem = (
            f"The threshold was measured on {hours:.3g} h, in which not one false alarm would still allow "
            f"{fp_per_day_bound(0, hours):.3g} a day (95 %); whether {out:.3g} keeps to {target_fp_per_day:g} a day "
            "cannot be told from so little data."
        )
    return float(out), problem


def fp_per_day_bound(n_fp: int, hours: float, confidence: float = 0.95) -> float:
    """Return the highest rate of false alarms that goes with what was seen.

    Parameters
    ----------
    n_fp : int
        False alarms that were seen.
    hours : float
        In so many hours.
    confidence : float
        Of the one-sided bound.

    Returns
    -------
    bound : float
        False alarms in 24 hours: the exact bound of a Poisson rate (Garwood, 1936, Biometrika 28:437), which without
        any false alarm is 3 in the time that was seen.
    """
    return float(gammaincinv(n_fp + 1, confidence)) * 24 / hours if hours > 0 else math.inf


def default_thresholds(smoothed: np.ndarray) -> np.ndarray:
    """Return thresholds that are worth trying.

    Parameters
    ----------
    smoothed : ndarray, shape (n_seconds,)
        Smoothed scores; NaN where not analysed.

    Returns
    -------
    thresholds : ndarray, shape (n_thresholds,)
        Rising, between 0 and 1: steps of 0.05, and scores that one second in 2, 3, 5 ... up to a single one exceeds,
        since the scores of many detectors crowd at one end.
    """
    finite = smoothed[np.isfinite(smoothed)]
    steps = np.round(np.linspace(0.05, 0.95, 19), 2)
    if not finite.size:
        return steps
    ranks = np.unique(np.geomspace(1, max(finite.size // 2, 1), _N_THRESHOLDS - steps.size).astype(np.int64))
    # A little above a score excludes it: the highest one among them is a threshold without any event.
    tail = np.nextafter(np.sort(finite)[finite.size - ranks], 2.0)
    out = np.unique(np.concatenate([steps, tail]))
    return out[(out > 0.0) & (out <= 1.0)]


def _operating_points(
    recordings: ManyRecordings, parameters: EventParameters, thresholds: Sequence[float] | np.ndarray
) -> list[dict[str, Any]]:
    """Count at every threshold, from the highest on."""
    some = sorted({float(each) for each in thresholds})
    if not some:
        raise ValueError("thresholds is an empty list; give at least one.")
    hours, highest, out = recordings.seconds / 3600, 0, []
    for threshold in reversed(some):
        n_tp, n_fp = recordings.count(with_threshold(parameters, threshold))
        counts = Counts(recordings.n_true, n_tp, n_fp, recordings.seconds)
        # Events that grow together are fewer: a lower threshold must not pass for a quieter one by that.
        highest = max(highest, n_fp)
        out.append(
            {
                "threshold": threshold,
                "fp_per_day": highest * 24 / hours,
                "fp_per_day_upper": fp_per_day_bound(highest, hours),
                "sensitivity": counts.sensitivity if recordings.n_true else None,
                "n_tp": n_tp,
                "n_fp": n_fp,
                "n_seizures": recordings.n_true,
                "hours": hours,
                "f1": counts.f1 if recordings.n_true else None,
            }
        )
    return out[::-1]


def _best_f1(points: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the middle of the longest stretch of thresholds with the best F1: the farthest from doing worse."""
    best = max(point["f1"] for point in points)
    stretches: list[list[dict[str, Any]]] = [[]]
    for point in points:
        if point["f1"] == best:
            stretches[-1].append(point)
        elif stretches[-1]:
            stretches.append([])
    longest = max((s for s in stretches if s), key=lambda s: s[-1]["threshold"] - s[0]["threshold"])
    middle = (longest[0]["threshold"] + longest[-1]["threshold"]) / 2
    return min(longest, key=lambda point: abs(point["threshold"] - middle))


def _check_target(target: float) -> None:
    if isinstance(target, bool) or not isinstance(target, (int, float, np.integer, np.floating)):
        raise TypeError(f"target_fp_per_day must be a number, got {type(target).__name__}.")
    if not (math.isfinite(target) and target >= 0):
        raise ValueError(f"target_fp_per_day must be a number of false alarms in 24 hours, 0 or more, got {target}.")


def checked_choice(
    parameters: EventParameters | Sequence[EventParameters] | None, target_fp_per_day: float | None
) -> list[EventParameters]:
    """Return what there is to choose from, or raise where a choice is none."""
    if target_fp_per_day is not None:
        _check_target(target_fp_per_day)
    candidates = [EventParameters()] if parameters is None else parameters
    candidates = [candidates] if isinstance(candidates, EventParameters) else list(candidates)
    if not candidates:
        raise ValueError("parameters is an empty list; give at least one EventParameters.")
    for each in candidates:
        if not isinstance(each, EventParameters):
            raise TypeError(f"parameters must be EventParameters, got {type(each).__name__}.")
    return candidates


def _check(probabilities: Sequence[np.ndarray], tables: Sequence[EventTable]) -> None:
    if len(probabilities) != len(tables):
        raise ValueError(f"There are scores of {len(probabilities)} recordings and tables of {len(tables)}.")
    if not len(probabilities):
        raise ValueError("There is no recording to choose a threshold on.")
    for number, (scores, table) in enumerate(zip(probabilities, tables, strict=True)):
        scores = np.asarray(scores)
        if scores.ndim != 1 or scores.dtype.kind != "f":
            raise ValueError(f"The scores of recording {number} must be a row of floats, one for each second.")
        if abs(scores.size - table.duration) > TOLERANCE:
            raise ValueError(
                f"Recording {number} has scores for {scores.size} s and lasts {table.duration:g} s by its table."
            )
        with np.errstate(invalid="ignore"):
            if ((scores < 0) | (scores > 1)).any():
                raise ValueError(f"The scores of recording {number} do not lie between 0 and 1.")
