"""Labels at 1 Hz: which seconds a seizure covers.

Covered is counted exactly, in fractions. Times are taken as the decimals they were written with (10.1, not the nearest
binary number), so that half a second is half a second wherever it lies.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import numpy as np

from mne_labram.seizure.events import EventTable, SeizureEvent

__all__ = ["labels_of_windows", "second_coverage", "second_labels", "window_labels"]


def second_coverage(events: EventTable | Iterable[Any], n_seconds: int) -> np.ndarray:
    """Return which part of every second is covered by at least one event.

    Parameters
    ----------
    events : EventTable | iterable
        A table, or its events, or pairs of start and end in seconds after the first sample.
    n_seconds : int
        Seconds to look at, the first one beginning with the first sample.

    Returns
    -------
    coverage : ndarray of float64, shape (n_seconds,)
        Between 0 and 1. Overlapping events are counted once.

    Raises
    ------
    TypeError
        If the events are none of these, or ``n_seconds`` is not a whole number.
    ValueError
        If a time is not finite, an interval ends before it begins, or ``n_seconds`` is negative.
    """
    coverage = np.zeros(_whole("n_seconds", n_seconds, 0))
    full, parts = _covered(_intervals(events), coverage.size)
    for start, stop in full:
        coverage[start:stop] = 1.0
    for second, part in parts.items():
        coverage[second] = float(part)
    return coverage


def second_labels(
    events: EventTable | Iterable[Any], n_seconds: int, *, fraction: float = 0.5, ties: bool = False
) -> np.ndarray:
    """Label every second that seizures cover for more than half of it.

    Parameters
    ----------
    events : EventTable | iterable
        A table, or its events, or pairs of start and end in seconds after the first sample.
    n_seconds : int
        Seconds to label, the first one beginning with the first sample. A last part of a second counts as a second of
        which the rest is not covered.
    fraction : float
        Part of a second (0 to 1) that must be covered.
    ties : bool
        Also label seconds of which exactly ``fraction`` is covered.

    Returns
    -------
    labels : ndarray of bool, shape (n_seconds,)
        True: seizure.

    Raises
    ------
    TypeError
        If the events are none of these, or ``n_seconds`` is not a whole number.
    ValueError
        If a time is not finite, an interval ends before it begins, ``n_seconds`` is negative, or no second, or every
        second, could be labelled at this ``fraction``.

    Notes
    -----
    Covered is what the *union* of the events covers. "More than 50 %" is the rule of BrainCodec's training labels, and
    "at least 50 %" (``ties=True``) the one in SzCORE's text; SzCORE's own tools round times (``timescoring``) or cut
    them off (``epilepsy2bids``) instead, and scores are computed with these.
    """
    threshold = _threshold(fraction, ties)
    labels = np.zeros(_whole("n_seconds", n_seconds, 0), dtype=bool)
    full, parts = _covered(_intervals(events), labels.size)
    for start, stop in full:
        labels[start:stop] = True
    for second, part in parts.items():
        labels[second] = part > threshold or (ties and part == threshold)
    return labels


def window_labels(labels: np.ndarray, n_seconds_per_window: int = 4, stride_seconds: int | None = None) -> np.ndarray:
    """Give every window the labels of its seconds.

    Parameters
    ----------
    labels : ndarray, shape (n_seconds,)
        One label per second, such as :func:`second_labels` returns.
    n_seconds_per_window : int
        Length of a window: four labels for 4 s.
    stride_seconds : int | None
        From the start of a window to that of the next; ``None``: windows follow each other without overlap.

    Returns
    -------
    windows : ndarray, shape (n_windows, n_seconds_per_window)
        A copy, of the type of ``labels``. Window ``i`` begins at second ``i * stride_seconds``; windows that would
        reach over the end are left out.

    Raises
    ------
    TypeError
        If a length is not a whole number of seconds; for windows at other places see :func:`labels_of_windows`.
    ValueError
        If ``labels`` is not one-dimensional, or a length is below 1.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise ValueError(f"Labels have one dimension, seconds; got an array of shape {labels.shape}.")
    length = _whole("n_seconds_per_window", n_seconds_per_window, 1)
    stride = length if stride_seconds is None else _whole("stride_seconds", stride_seconds, 1)
    if labels.size < length:
        return np.empty((0, length), dtype=labels.dtype)
    return np.lib.stride_tricks.sliding_window_view(labels, length)[::stride].copy()


def labels_of_windows(
    events: EventTable | Iterable[Any],
    starts: Iterable[float],
    n_seconds_per_window: int = 4,
    *,
    fraction: float = 0.5,
    ties: bool = False,
) -> np.ndarray:
    """Label the seconds of windows that begin anywhere.

    Parameters
    ----------
    events : EventTable | iterable
        A table, or its events, or pairs of start and end in seconds after the first sample.
    starts : iterable of float
        Starts of the windows in seconds after the first sample, 0 or more.
    n_seconds_per_window : int
        Length of a window.
    fraction, ties
        See :func:`second_labels`.

    Returns
    -------
    windows : ndarray of bool, shape (n_windows, n_seconds_per_window)
        Label ``j`` of a window is that of the second which begins ``j`` seconds after the window's own start.

    Raises
    ------
    TypeError
        If the events are none of these, or the length is not a whole number.
    ValueError
        If a time is not finite or negative, an interval ends before it begins, or see :func:`second_labels`.
    """
    length = _whole("n_seconds_per_window", n_seconds_per_window, 1)
    _threshold(fraction, ties)
    intervals = _intervals(events)
    exact = [_exact(start) for start in starts]
    if any(start < 0 for start in exact):
        raise ValueError(f"Windows begin 0 seconds or more after the first sample, got {float(min(exact)):g}.")
    out = np.zeros((len(exact), length), dtype=bool)
    # Windows that begin at the same part of a second share one grid of seconds.
    grids: dict[Fraction, list[int]] = {}
    for row, start in enumerate(exact):
        grids.setdefault(start % 1, []).append(row)
    for offset, rows in grids.items():
        first = np.array([int(exact[row]) for row in rows])
        shifted = [(start - offset, stop - offset) for start, stop in intervals]
        labels = second_labels(shifted, int(first.max()) + length, fraction=fraction, ties=ties)
        out[rows] = labels[first[:, None] + np.arange(length)]
    return out


def _whole(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be a whole number of seconds, got {value!r}.")
    if value < least:
        raise ValueError(f"{name} must be {least} or more, got {value}.")
    return int(value)


def _threshold(fraction: float, ties: bool) -> Fraction:
    if not (0.0 <= fraction <= 1.0):
        raise ValueError(f"fraction must lie between 0 and 1, got {fraction}.")
    if fraction == 1.0 and not ties:
        raise ValueError("No second is covered for more than all of it; pass ties=True with fraction=1.")
    if fraction == 0.0 and ties:
        raise ValueError("Every second is covered for at least nothing; pass ties=False with fraction=0.")
    return _exact(fraction)


def _exact(seconds: float | Fraction) -> Fraction:
    """Return the decimal number that a float was written as."""
    if isinstance(seconds, Fraction):
        return seconds
    value = float(seconds)
    if not math.isfinite(value):
        raise ValueError(f"Times must be finite numbers of seconds, got {value}.")
    return Fraction(repr(value))


def _intervals(events: EventTable | Iterable[Any]) -> list[tuple[Fraction, Fraction]]:
    """Return the union of the events: disjoint intervals in their order."""
    end = None
    if isinstance(events, EventTable):
        end = _exact(events.duration)
        events = events.events
    pairs = []
    for event in events:
        if isinstance(event, SeizureEvent):
            start = _exact(event.onset)
            stop = start + _exact(event.duration)
        else:
            try:
                first, last = event
            except (TypeError, ValueError):
                raise TypeError(f"Events are SeizureEvent or pairs of start and end, got {event!r}.") from None
            start, stop = _exact(first), _exact(last)
            if stop < start:
                raise ValueError(f"An event cannot end at {float(stop):g} s and begin at {float(start):g} s.")
        pairs.append((start, stop if end is None else min(stop, end)))
    union: list[tuple[Fraction, Fraction]] = []
    for start, stop in sorted(pairs):
        if union and start <= union[-1][1]:
            union[-1] = (union[-1][0], max(stop, union[-1][1]))
        else:
            union.append((start, stop))
    return union


def _covered(
    intervals: list[tuple[Fraction, Fraction]], n_seconds: int
) -> tuple[list[tuple[int, int]], dict[int, Fraction]]:
    """Return the runs of seconds that are covered whole, and the part of each that is covered in part."""
    full, parts = [], {}
    for start, stop in intervals:
        start, stop = max(start, Fraction(0)), min(stop, Fraction(n_seconds))
        if stop <= start:
            continue
        first, last = math.ceil(start), math.floor(stop)
        if first > last:  # Within one second.
            parts[last] = parts.get(last, Fraction(0)) + stop - start
            continue
        full.append((first, last))
        if start < first:
            parts[first - 1] = parts.get(first - 1, Fraction(0)) + first - start
        if stop > last:
            parts[last] = parts.get(last, Fraction(0)) + stop - last
    return full, parts
