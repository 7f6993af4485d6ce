"""From what was measured of a detector to the threshold it is used at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from mne.utils import logger

from mne_labram.signal.events import EventParameters

__all__ = ["choose_parameters", "describe_point", "parameters_of", "point_below"]

_NUMBERS = ("threshold", "fp_per_day", "sensitivity")


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
    except TypeError as error:
        raise ValueError(f"The model's detection parameters are damaged: {error}") from None


def _points(calibration: Mapping[str, Any] | None) -> list[dict[str, float]]:
    """Return what was measured, by rising threshold."""
    points = (calibration or {}).get("operating_points") or ()
    if not isinstance(points, Sequence) or not all(
        isinstance(point, Mapping) and all(_is_number(point.get(name)) for name in _NUMBERS[:2]) for point in points
    ):
        raise ValueError(f"The model's operating points are damaged: each needs {' and '.join(_NUMBERS[:2])}.")
    return sorted((dict(point) for point in points), key=lambda point: point["threshold"])


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _same_processing(one: EventParameters, other: EventParameters) -> bool:
    """Whether two sets of parameters differ in their threshold at most."""
    names = ("smoothing", "merge_gap", "min_duration")
    ratios = [each.release_level / each.threshold for each in (one, other)]
    return all(getattr(one, name) == getattr(other, name) for name in names) and math.isclose(*ratios, rel_tol=1e-6)


def point_below(calibration: Mapping[str, Any] | None, parameters: EventParameters) -> dict[str, float] | None:
    """Return what was measured at a threshold, or at the next lower one that was measured.

    Parameters
    ----------
    calibration : mapping | None
        The detector's ``detection``.
    parameters : EventParameters
        The parameters in use.

    Returns
    -------
    point : dict | None
        ``threshold``, ``fp_per_day``, ``sensitivity``; ``None`` where nothing was measured at or below the threshold,
        or with other smoothing, release, merging or shortest duration.
    """
    measured = parameters_of(calibration)
    if measured is not None and not _same_processing(measured, parameters):
        return None
    below = [point for point in _points(calibration) if point["threshold"] <= parameters.threshold + 1e-9]
    return below[-1] if below else None


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
    n, hours = calibration.get("n_seizures"), calibration.get("hours")
    where = f" on {hours:g} h" if _is_number(hours) else ""
    said = f"{point['fp_per_day']:.3g} false alarms a day"
    if _is_number(point.get("sensitivity")):
        of = f" of {n:g}" if _is_number(n) else ""
        said = f"{100 * point['sensitivity']:.0f} %{of} seizures and {said}"
    return f"At the threshold {point['threshold']:.3g} there were {said}{where} of recordings it was calibrated on."


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
        Probability at which a seizure begins.
    target_fp_per_day : float | None
        False alarms a day that are accepted: the lowest threshold at which there were no more.
    parameters : EventParameters | None
        ``None``: the detector's; where it has none, the defaults.

    Returns
    -------
    parameters : EventParameters
        A release level that was set keeps its ratio to the threshold.

    Raises
    ------
    TypeError
        If ``parameters`` are none, or a number is none.
    ValueError
        If threshold and target are both given, a number makes no sense, or nothing was measured that could say
        which threshold the target needs.
    """
    if threshold is not None and target_fp_per_day is not None:
        raise ValueError("threshold and target_fp_per_day both say where a seizure begins; pass one of them.")
    if parameters is not None and not isinstance(parameters, EventParameters):
        raise TypeError(f"parameters must be EventParameters, got {type(parameters).__name__}.")
    measured = parameters_of(calibration)
    chosen = parameters or measured or EventParameters()
    if target_fp_per_day is not None:
        if measured is not None and not _same_processing(measured, chosen):
            raise ValueError(
                "False alarms were measured with the model's own smoothing, merging and shortest duration; pass a "
                "threshold with parameters of your own."
            )
        threshold = _threshold_for(calibration, target_fp_per_day)
    if threshold is None:
        return chosen
    # Checks the threshold before anything is divided by it.
    checked = replace(chosen, threshold=threshold, release=None)
    if chosen.release is None:
        return checked
    return replace(checked, release=chosen.release / chosen.threshold * threshold)


def _threshold_for(calibration: Mapping[str, Any] | None, target: float) -> float:
    """Return the lowest measured threshold with no more false alarms than the target."""
    if not _is_number(target) or target < 0:
        raise ValueError(f"target_fp_per_day must be a number of false alarms a day, 0 or more, got {target!r}.")
    points = _points(calibration)
    if not points:
        raise ValueError(
            "It was never measured how many false alarms this model gives at which threshold; pass threshold, or "
            "calibrate it with mne_labram.seizure.calibration.calibrate()."
        )
    good = [point for point in points if point["fp_per_day"] <= target]
    if good:
        return float(good[0]["threshold"])
    best = min(points, key=lambda point: (point["fp_per_day"], point["threshold"]))
    logger.warning(
        f"At no threshold that was measured were there {target:g} false alarms a day or fewer; the fewest were "
        f"{best['fp_per_day']:.3g}, and their threshold is taken."
    )
    return float(best["threshold"])
