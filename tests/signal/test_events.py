"""Window scores to events."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mne_labram.signal.events import EventParameters, SecondAccumulator, events_from_scores, smooth_scores

PLAIN = EventParameters(threshold=0.5, smoothing=0, merge_gap=0, min_duration=0)


def test_overlap_average_weights_by_coverage():
    """Two windows that share a second count half and half; a partly covered second counts in part."""
    acc = SecondAccumulator(6, 1)
    acc.add(np.array([0.0, 2.0]), 4.0, np.array([[1.0], [0.0]]))
    np.testing.assert_allclose(acc.average()[0], [1, 1, 0.5, 0.5, 0, 0])
    acc = SecondAccumulator(3, 1)
    acc.add(np.array([0.0, 0.5]), 1.0, np.array([[1.0], [0.0]]))
    np.testing.assert_allclose(acc.average()[0], [2 / 3, 0, np.nan])


def test_uncovered_and_nan_windows_stay_nan():
    """A window without a score is no score, not a zero."""
    acc = SecondAccumulator(4, 2)
    acc.add(np.array([0.0, 2.0]), 2.0, np.array([[0.2, 0.8], [np.nan, np.nan]]))
    scores = acc.average()
    np.testing.assert_allclose(scores[:, :2], [[0.2, 0.2], [0.8, 0.8]])
    assert np.isnan(scores[:, 2:]).all()


@given(
    st.lists(st.tuples(st.floats(0, 50), st.floats(0, 1)), min_size=1, max_size=30),
    st.floats(0.5, 8),
    st.integers(1, 60),
)
def test_average_lies_between_the_scores_and_does_not_depend_on_order(windows, duration, n_seconds):
    """Averages are bounded by what was added, in any order and any split into calls."""
    starts, values = (np.array(column) for column in zip(*windows, strict=True))
    one, many = SecondAccumulator(n_seconds, 1), SecondAccumulator(n_seconds, 1)
    one.add(starts, duration, values[:, np.newaxis])
    for i in reversed(range(len(starts))):
        many.add(starts[i : i + 1], duration, values[i : i + 1, np.newaxis])
    np.testing.assert_allclose(one.average(), many.average(), atol=1e-9)
    seen = one.average()[np.isfinite(one.average())]
    assert ((seen >= values.min() - 1e-9) & (seen <= values.max() + 1e-9)).all()


def test_hysteresis_keeps_what_rises_above_the_threshold():
    """A run above the release level counts only if it reaches the threshold."""
    scores = np.array([0, 0.4, 0.4, 0, 0.4, 0.9, 0.4, 0, 0])
    parameters = EventParameters(threshold=0.8, release=0.3, smoothing=0, merge_gap=0, min_duration=0)
    [(start, stop, confidence)] = events_from_scores(scores, parameters)
    assert (start, stop) == (4, 7)
    assert confidence == pytest.approx(np.mean([0.4, 0.9, 0.4]))


def test_merge_and_minimum_duration():
    """Close events merge before short ones are dropped; the gap is strict."""
    scores = np.zeros(40)
    scores[[5, 6, 9, 10, 30]] = 1.0
    strict = EventParameters(threshold=0.5, smoothing=0, merge_gap=2, min_duration=3)
    assert events_from_scores(scores, strict) == []
    merge = EventParameters(threshold=0.5, smoothing=0, merge_gap=2.5, min_duration=3)
    assert [e[:2] for e in events_from_scores(scores, merge)] == [(5, 11)]


def test_unanalysed_seconds_are_never_bridged():
    """Not analysed does not mean no event, nor event: nothing is merged or smoothed across."""
    scores = np.array([1, 1, 1, np.nan, 1, 1, 1], dtype=float)
    parameters = EventParameters(threshold=0.5, smoothing=3, merge_gap=10, min_duration=1)
    assert [e[:2] for e in events_from_scores(scores, parameters)] == [(0, 3), (4, 7)]
    scores[:3] = 0
    np.testing.assert_allclose(smooth_scores(scores, 3), [0, 0, 0, np.nan, 1, 1, 1])


@given(hnp.arrays(float, st.integers(0, 60), elements=st.floats(0, 1) | st.just(np.nan)), st.floats(0.05, 1))
def test_events_are_ordered_disjoint_and_within_bounds(scores, threshold):
    """Events tile nothing twice, never hold NaN, and lowering the threshold loses no flagged second."""
    events = events_from_scores(scores, EventParameters(threshold=threshold, smoothing=3, merge_gap=2, min_duration=2))
    edges = [edge for event in events for edge in event[:2]]
    assert edges == sorted(edges)
    assert all(0 <= a < b <= scores.size and b - a >= 2 and 0 <= c <= 1 + 1e-12 for a, b, c in events)
    assert all(np.isfinite(scores[a:b]).all() for a, b, _ in events)
    lower = EventParameters(threshold=threshold / 2, smoothing=3, merge_gap=2, min_duration=2)
    more = np.zeros(scores.size, dtype=bool)
    for a, b, _ in events_from_scores(scores, lower):
        more[a:b] = True
    assert all(more[a:b].all() for a, b, _ in events)


@given(hnp.arrays(float, st.integers(1, 40), elements=st.floats(0, 1)))
def test_plain_parameters_are_a_plain_threshold(scores):
    """With all post-processing off, an event is a run that touches the threshold."""
    flagged = np.zeros(scores.size, dtype=bool)
    for a, b, _ in events_from_scores(scores, PLAIN):
        flagged[a:b] = True
    assert flagged[scores >= 0.5].all()
    assert not flagged[scores < PLAIN.release_level].any()


@pytest.mark.parametrize(
    "bad", [{"threshold": 0}, {"threshold": 1.5}, {"release": 0.9}, {"smoothing": -1}, {"min_duration": np.nan}]
)
def test_bad_parameters(bad):
    """Impossible parameters are refused at once."""
    with pytest.raises(ValueError, match=next(iter(bad))):
        EventParameters(**bad)


@pytest.mark.parametrize("bad", [{"threshold": "0.5"}, {"threshold": None}, {"release": "0.3"}, {"merge_gap": None}])
def test_parameters_of_another_type(bad):
    with pytest.raises(TypeError, match=f"^{next(iter(bad))} must be a number, got "):
        EventParameters(**bad)
