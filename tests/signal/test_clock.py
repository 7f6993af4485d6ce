"""Times for a reader."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mne_labram.signal.clock import Clock, elapsed

START = datetime(2024, 3, 11, 21, 42, 13, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00:00"), (59.6, "0:01:00"), (3661, "1:01:01"), (90000, "25:00:00")]
)
def test_elapsed(seconds, text):
    assert elapsed(seconds) == text


def test_gaps_move_the_clock():
    clock = Clock.of(START, 10.0, [{"onset": 100.0, "missing": 60.0}, {"onset": 50.0, "missing": 5.0}])
    assert [clock.text(t) for t in (0, 49.9, 50, 100)] == ["21:42:23", "21:43:13", "21:43:18", "21:45:08"]
    assert Clock.of(None, 10.0).at(5) is None
    assert Clock.of(None, 10.0).text(5) == "0:00:05"


def test_marks_are_round_times():
    marks = Clock(START).marks(0.0, 3600.0, 1200.0)
    assert [f"{time:%H:%M:%S}" for _, time in marks] == ["22:00:00", "22:20:00", "22:40:00"]
    assert [place for place, _ in marks] == [1067.0, 2267.0, 3467.0]
    assert Clock(None).marks(100.0, 700.0, 300.0) == [(300.0, 300.0), (600.0, 600.0)]


@given(
    gaps=st.lists(st.tuples(st.floats(1, 5000), st.floats(0.5, 5000)), max_size=4),
    start=st.floats(0, 4000),
    length=st.floats(1, 4000),
    step=st.sampled_from([60.0, 300.0, 3600.0]),
)
def test_marks_stand_where_the_clock_shows_them(gaps, start, length, step):
    clock = Clock.of(START, 0.0, [{"onset": onset, "missing": missing} for onset, missing in gaps])
    for place, time in clock.marks(start, start + length, step):
        assert start - 1e-6 <= place <= start + length + 1e-6
        # At the sample before a gap and the one behind it the clock shows different times: one of them is meant.
        shown = [clock.at(place + shift) for shift in (-1e-3, 0.0, 1e-3)]
        assert min(abs((each - time).total_seconds()) for each in shown) < 0.01
        assert time.timestamp() % step == 0
