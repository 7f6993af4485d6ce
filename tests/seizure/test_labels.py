"""Labels at 1 Hz."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mne_labram.seizure.events import EventTable, SeizureEvent
from mne_labram.seizure.labels import labels_of_windows, second_coverage, second_labels, window_labels

N_SECONDS = 8
#: Cells of the grid per second; times lie on it, and are written as decimals (0.05 is no binary number).
CELLS = 20

cells = st.integers(0, (N_SECONDS + 1) * CELLS)
intervals_in_cells = st.lists(st.tuples(cells, cells).map(sorted).map(tuple), max_size=6)


def _seconds(cell: int) -> float:
    return float(f"{cell // CELLS}.{cell % CELLS * 5:02d}")


def _by_hand(in_cells: list[tuple[int, int]], offset: int = 0) -> list[Fraction]:
    """Count the covered cells of every second that begins ``offset`` cells after a whole one."""
    covered = {cell for start, stop in in_cells for cell in range(start, stop)}
    return [
        Fraction(len(covered & set(range(second * CELLS + offset, (second + 1) * CELLS + offset))), CELLS)
        for second in range(N_SECONDS)
    ]


@pytest.mark.parametrize(
    ("event", "seconds"),
    [((10.9, 14.9), [11, 12, 13, 14]), ((10.2, 10.8), [10]), ((10.5, 11.5), []), ((10.49, 11.51), [10, 11])],
)
def test_table_of_the_reference(event: tuple[float, float], seconds: list[int]) -> None:
    labels = second_labels([event], 20)
    assert labels.dtype == bool
    assert labels.shape == (20,)
    assert np.flatnonzero(labels).tolist() == seconds


@given(intervals_in_cells, st.integers(0, CELLS), st.booleans())
def test_equals_counting_cells(in_cells, fraction_in_cells, ties) -> None:
    """Against a grid of rationals, ties included."""
    fraction = Fraction(fraction_in_cells, CELLS)
    if fraction == (0 if ties else 1):
        return
    events = [(_seconds(start), _seconds(stop)) for start, stop in in_cells]
    expected = _by_hand(in_cells)
    labels = second_labels(events, N_SECONDS, fraction=float(fraction), ties=ties)
    assert labels.tolist() == [part > fraction or (ties and part == fraction) for part in expected]
    np.testing.assert_array_equal(second_coverage(events, N_SECONDS), [float(part) for part in expected])


@given(intervals_in_cells, st.lists(cells, min_size=1, max_size=5))
def test_windows_that_begin_anywhere(in_cells, starts) -> None:
    events = [(_seconds(start), _seconds(stop)) for start, stop in in_cells]
    labels = labels_of_windows(events, [_seconds(start) for start in starts], 1)
    covered = {cell for start, stop in in_cells for cell in range(start, stop)}
    expected = [2 * len(covered & set(range(start, start + CELLS))) > CELLS for start in starts]
    assert labels[:, 0].tolist() == expected


@given(intervals_in_cells, st.integers(1, 5), st.integers(1, 3))
def test_windows_on_the_grid_are_the_seconds_labels(in_cells, length, stride) -> None:
    events = [(_seconds(start), _seconds(stop)) for start, stop in in_cells]
    labels = second_labels(events, N_SECONDS)
    windows = window_labels(labels, length, stride)
    starts = range(0, N_SECONDS - length + 1, stride)
    assert windows.shape == (len(starts), length)
    for window, start in zip(windows, starts, strict=True):
        np.testing.assert_array_equal(window, labels[start : start + length])
    np.testing.assert_array_equal(windows, labels_of_windows(events, starts, length))


def test_ties_are_exact_where_binary_numbers_are_not() -> None:
    # Half of second 3 is covered; the sum of the differences is less than a half in binary numbers.
    events = [(3.1, 3.3), (3.6, 3.9)]
    assert sum(stop - start for start, stop in events) < 0.5
    assert second_coverage(events, 4)[3] == 0.5
    assert not second_labels(events, 4)[3]
    assert second_labels(events, 4, ties=True)[3]
    # 0.1 + 0.2 s is not 0.3 in binary; onset and duration are added as decimals.
    table = EventTable((SeizureEvent(0.1, 0.2), SeizureEvent(0.5, 0.2)), 10)
    assert table.events[0].stop != 0.3
    assert second_coverage(table, 1)[0] == 0.4
    assert second_labels(table, 1, fraction=0.4, ties=True)[0]
    assert not second_labels(table, 1, fraction=0.4)[0]


def test_union_not_sum() -> None:
    events = [(3.0, 3.4), (3.1, 3.45), (3.2, 3.3)]
    assert second_coverage(events, 5).tolist() == [0, 0, 0, 0.45, 0]
    assert not second_labels(events, 5).any()
    assert not second_labels([*events, (3.95, 4.0)], 5).any()
    assert second_labels([*events, (3.94, 4.0)], 5).tolist() == [False, False, False, True, False]


def test_what_lies_outside_the_recording_does_not_count() -> None:
    assert second_labels([(-5, 1.6), (7.2, 1e9)], 8).tolist() == [True, True, *[False] * 5, True]
    table = EventTable((SeizureEvent(2, 100),), 3.5)
    assert second_labels(table, 5).tolist() == [False, False, True, False, False]
    assert second_labels(table, 5, ties=True).tolist() == [False, False, True, True, False]


def test_four_labels_for_four_seconds() -> None:
    table = EventTable((SeizureEvent(2996, 40),), 3600)
    labels = second_labels(table, 3600)
    assert labels.sum() == 40
    windows = window_labels(labels)
    assert windows.shape == (900, 4)
    assert windows.any(axis=1).sum() == 10
    assert window_labels(labels, 4, 2).shape == (1799, 4)
    assert window_labels(labels[:2]).shape == (0, 4)
    assert window_labels(labels[:2]).dtype == bool
    windows[:] = True
    assert labels.sum() == 40


def test_nothing_gives_nothing() -> None:
    assert second_labels([], 0).shape == (0,)
    assert not second_labels(EventTable((), 10), 10).any()
    assert not second_labels([(3.0, 3.0)], 5, fraction=0).any()
    assert labels_of_windows([], [], 4).shape == (0, 4)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: second_labels([(0, 1)], 4.5), TypeError, "n_seconds must be a whole number"),
        (lambda: second_labels([(0, 1)], True), TypeError, "n_seconds must be a whole number"),
        (lambda: second_labels([(0, 1)], -1), ValueError, "n_seconds must be 0 or more"),
        (lambda: second_labels([(0, float("nan"))], 4), ValueError, "finite"),
        (lambda: second_labels([(0, float("inf"))], 4), ValueError, "finite"),
        (lambda: second_labels([(2, 1)], 4), ValueError, "cannot end at 1 s and begin at 2 s"),
        (lambda: second_labels([3.0], 4), TypeError, "pairs of start and end"),
        (lambda: second_labels([(0, 1, 2)], 4), TypeError, "pairs of start and end"),
        (lambda: second_labels([], 4, fraction=1.1), ValueError, "between 0 and 1"),
        (lambda: second_labels([], 4, fraction=1), ValueError, "ties=True"),
        (lambda: second_labels([], 4, fraction=0, ties=True), ValueError, "ties=False"),
        (lambda: window_labels(np.zeros((2, 3))), ValueError, "one dimension"),
        (lambda: window_labels(np.zeros(3), 0), ValueError, "n_seconds_per_window must be 1 or more"),
        (lambda: window_labels(np.zeros(3), 4, 0.5), TypeError, "stride_seconds must be a whole number"),
        (lambda: labels_of_windows([], [-1.0]), ValueError, "0 seconds or more"),
    ],
)
def test_wrong_arguments(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
