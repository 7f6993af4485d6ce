"""From what was measured of a detector to the threshold it is used at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from mne.utils import logger

from mne_labram.signal.events import EventParameters

__all__ = ["choose_parameters", "describe_point", "measured_points", "parameters_of", "with_threshold"]

_NUMBERS = ("threshold", "fp_per_day")


def parameters_of(calibration: Mapping[str, Any] | None) -> EventParameters | None:
    """Return the parameters that a detector was calibrated with.

    Parameters
    ----------
    calibration : mapping | None
        The detector's ``detection``.

    Returns
    -------
    parameters : EventParameters | None
        ``None`` where there are none.

    Raises
    ------
    ValueError
        If what stands there are no parameters.
    """
    found = (calibration or {}).get("parameters")
    if found is None:
        return None
    names = {each.name for each in fields(EventParameters)}
    if not isinstance(found, Mapping) or not set(found) <= names:
        raise ValueError(f"The model's detection parameters are damaged: they are {', '.join(sorted(names))}.")
    try:
        return EventParameters(**found)
    except (TypeError, ValueError) as error:
        raise ValueError(f"The model's detection parameters are damaged: {error}") from None


def _points(calibration: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return what was measured, by rising threshold."""
    points = (calibration or {}).get("operating_points") or ()
    if not isinstance(points, Sequence) or not all(
        isinstance(point, Mapping) and all(_is_number(point.get(name)) for name in _NUMBERS) for point in points
    ):
        raise ValueError(f"The model's operating points are damaged: each needs {' and '.join(_NUMBERS)}.")
    return sorted((dict(point) for point in points), key=lambda point: point["threshold"])


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def measured_points(calibration: Mapping[str, Any] | None, parameters: EventParameters) -> list[dict[str, Any]]:
    """Return what was measured of a detector, if it was measured as it is used.

    Parameters
    ----------
    calibration : mapping | None
        The detector's ``detection``.
    parameters : EventParameters
        The parameters in use.

    Returns
    -------
    points : list of dict
        ``threshold``, ``fp_per_day``, ``sensitivity`` and whatever else is known, by rising threshold; empty where
        nothing was measured, or with other smoothing, release, merging or shortest duration.

    Raises
    ------
    ValueError
        If the calibration is damaged.
    """
    points, measured = _points(calibration), parameters_of(calibration)
    return points if measured is None or _processing(measured) == _processing(parameters) else []


def with_threshold(parameters: EventParameters, threshold: float) -> EventParameters:
    """Move the threshold.

    Parameters
    ----------
    parameters : EventParameters
        What it is moved in.
    threshold : float
        The new one.

    Returns
    -------
    parameters : EventParameters
        A release that was set keeps its ratio to the threshold, as the one that was not set does: events at two
        thresholds are those of one rule.

    Raises
    ------
    TypeError, ValueError
        If this is no threshold.
    """
    moved = replace(parameters, threshold=threshold, release=None)
    if parameters.release is None:
        return moved
    # Rounding must not lift a release that is the threshold above it.
    return replace(moved, release=min(parameters.release / parameters.threshold * threshold, moved.threshold))


def _processing(parameters: EventParameters) -> tuple[float, ...]:
    """Return all but the threshold: what must be the same for two thresholds to be compared."""
    ratio = parameters.release_level / parameters.threshold
    return (round(ratio, 6), *(float(getattr(parameters, name)) for name in ("smoothing", "merge_gap", "min_duration")))


def describe_point(calibration: Mapping[str, Any], point: Mapping[str, float]) -> str:
    """Say in one sentence what was measured.

    Parameters
    ----------
    calibration : mapping
        The detector's ``detection``.
    point : mapping
        One of its operating points.

    Returns
    -------
    sentence : str
        For users.
    """
    n, hours = (calibration.get(name, point.get(name)) for name in ("n_seizures", "hours"))
    where = f" on {hours:.3g} h of recordings it was calibrated on" if _is_number(hours) else " when it was calibrated"
    said = f"{point['fp_per_day']:.3g} false alarms a day"
    if _is_number(point.get("sensitivity")):
        of = f"{n:g} seizures" if _is_number(n) else "seizures"
        said = f"{100 * point['sensitivity']:.0f} % of {of} and {said}"
    return f"At the threshold {point['threshold']:.3g} there were {said}{where}."


def choose_parameters(
    calibration: Mapping[str, Any] | None,
    *,
    threshold: float | None = None,
    target_fp_per_day: float | None = None,
    parameters: EventParameters | None = None,
) -> EventParameters:
    """Settle threshold and post-processing.

    Parameters
    ----------
    calibration : mapping | None
        The detector's ``detection``.
    threshold : float | None
        Probability that a seizure must reach.
    target_fp_per_day : float | None
        False alarms a day that are accepted: the lowest threshold at which there were no more.
    parameters : EventParameters | None
        ``None``: the detector's; where it has none, the defaults.

    Returns
    -------
    parameters : EventParameters
        With another threshold, a release level that was set moves with it, see :func:`with_threshold`.

    Raises
    ------
    TypeError
        If ``parameters`` are none, or a number is none.
    ValueError
        If threshold and target are both given, a number makes no sense, or nothing was measured that could say
        which threshold the target needs.
    """
    if threshold is not None and target_fp_per_day is not None:
        raise ValueError("threshold and target_fp_per_day both set the threshold; pass one of them.")
    if parameters is not None and not isinstance(parameters, EventParameters):
        raise TypeError(f"parameters must be EventParameters, got {type(parameters).__name__}.")
    chosen = parameters or parameters_of(calibration) or EventParameters()
    if target_fp_per_day is not None:
        threshold = _threshold_for(calibration, chosen, target_fp_per_day)
    return chosen if threshold is None else with_threshold(chosen, threshold)


def _threshold_for(calibration: Mapping[str, Any] | None, parameters: EventParameters, target: float) -> float:
    """Return the lowest measured threshold with no more false alarms than the target."""
    # What counts false alarms needs the package timescoring, which nothing else here does.
    from mne_labram.seizure.calibration import threshold_and_problem

    if not _points(calibration):
        raise ValueError(
            "It was never measured how many false alarms this model gives at which threshold; pass threshold, or "
            "calibrate it with mne_labram.seizure.calibration.calibrate()."
        )
    points = measured_points(calibration, parameters)
    if not points:
        raise ValueError(
            "False alarms were measured with the model's own smoothing, release, merging and shortest duration; pass a "
            "threshold with parameters of your own."
        )
    hours = calibration.get("hours")
    threshold, problem = threshold_and_problem(points, target, hours if _is_number(hours) else None)
    if problem is not None:
        logger.warning(problem)
    return threshold
