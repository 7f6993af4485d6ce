"""The threshold that is chosen, and how honest it is about little data."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from mne_labram.seizure.calibration import (
    Calibration,
    calibrate,
    default_thresholds,
    fp_per_day_bound,
    threshold_for,
)
from mne_labram.seizure.event_counts import ManyRecordings
from mne_labram.seizure.events import EventTable, SeizureEvent
from mne_labram.seizure.scoring import score_tables
from mne_labram.signal.events import EventParameters, events_from_scores

PLAIN = EventParameters(smoothing=1.0)


def detected(scores: np.ndarray, parameters: EventParameters) -> EventTable:
    events = [SeizureEvent(start, stop - start) for start, stop, _ in events_from_scores(scores, parameters)]
    return EventTable(tuple(events), scores.size)


@st.composite
def recordings(draw):
    """Draw slowly changing scores with stretches that were not analysed, and seizures at hundredths of a second."""
    scores, tables = [], []
    for _ in range(draw(st.integers(1, 3))):
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        n = draw(st.integers(1, 2500))
        walk = np.cumsum(rng.standard_normal(n)) * draw(st.sampled_from([0.02, 0.1, 0.4]))
        each = 1 / (1 + np.exp(-walk))
        if draw(st.booleans()):
            start = rng.integers(0, n)
            each[start : start + rng.integers(1, 60)] = np.nan
        events = [
            SeizureEvent(round(float(rng.uniform(0, n * 0.999)), 2), round(float(rng.uniform(0.1, 800)), 2))
            for _ in range(draw(st.integers(0, 4)))
        ]
        scores.append(each)
        tables.append(EventTable(tuple(event for event in events if event.onset < n), float(n)))
    return scores, tables


@given(
    both=recordings(),
    threshold=st.floats(0.05, 1.0),
    release=st.sampled_from([None, 0.2, 1.0]),
    smoothing=st.sampled_from([0.0, 3.0, 9.0]),
    merge_gap=st.sampled_from([0.0, 10.0, 45.0]),
    min_duration=st.sampled_from([0.0, 5.0, 20.0]),
)
def test_counts_are_those_of_events_from_scores_and_timescoring(
    both, threshold, release, smoothing, merge_gap, min_duration
) -> None:
    scores, tables = both
    parameters = EventParameters(threshold, release and release * threshold, smoothing, merge_gap, min_duration)
    together = ManyRecordings(scores, tables)
    found = [detected(each, parameters) for each in scores]
    starts, stops = together.events(parameters)
    assert (stops - starts).tolist() == [event.duration for table in found for event in table.events]
    theirs = score_tables(tables, found, ["a"] * len(scores)).pooled("event")
    assert (together.n_true, *together.count(parameters)) == (theirs.n_true, theirs.n_tp, theirs.n_fp)
    assert together.seconds == sum(np.isfinite(each).sum() for each in scores)


def background(hours: float, bumps: dict[float, float], n_missing: int = 0) -> np.ndarray:
    """Return quiet scores with 20-s bumps at some times, of some heights."""
    scores = np.full(int(3600 * hours), 0.01)
    for start, height in bumps.items():
        scores[int(start) : int(start) + 20] = height
    scores[scores.size - n_missing :] = np.nan
    return scores


def seizures(hours: float, *onsets: float) -> EventTable:
    return EventTable(tuple(SeizureEvent(onset, 20.0) for onset in onsets), 3600 * hours)


@pytest.fixture
def night() -> tuple[list[np.ndarray], list[EventTable]]:
    """Return 120 hours with four seizures (0.9, 0.8, 0.7, 0.3) and false alarms at 0.75, 0.4 and ten at 0.2."""
    hours = 60
    first = background(hours, {1000: 0.9, 5000: 0.8, 9000: 0.75, 20000: 0.4})
    second = background(hours, {1000: 0.7, 5000: 0.3, **{10000.0 + 500 * i: 0.2 for i in range(10)}})
    return [first, second], [seizures(hours, 1000, 5000), seizures(hours, 1000, 5000)]


def test_the_best_f1_and_the_middle_of_it(night) -> None:
    chosen = calibrate(*night, parameters=PLAIN, thresholds=np.arange(5, 100) / 100)
    # Three of four with one false alarm from 0.41 to 0.70: F1 = 6 / 8. All four with two: 8 / 10, from 0.21 to 0.30.
    assert chosen.parameters.threshold == pytest.approx(0.255, abs=0.006)
    assert chosen.parameters.smoothing == 1.0
    point = chosen.chosen
    assert (point["n_tp"], point["n_fp"], point["n_seizures"]) == (4, 2, 4)
    assert point["f1"] == pytest.approx(0.8)
    assert point["fp_per_day"] == pytest.approx(2 / 5)
    assert chosen.target_fp_per_day is None
    assert "4 of 4 seizure(s)" in str(chosen)
    assert "best F1" in str(chosen)


@pytest.mark.parametrize(("target", "threshold", "n_tp"), [(0.7, 0.21, 4), (0.25, 0.41, 3), (3.0, 0.05, 4)])
def test_a_target(night, target, threshold, n_tp) -> None:
    with warnings.catch_warnings():
        # 120 hours can show 0.6 a day.
        warnings.simplefilter("ignore" if target < 0.6 else "error")
        chosen = calibrate(
            *night, parameters=PLAIN, thresholds=np.arange(5, 100) / 100, target_fp_per_day=max(target, 0.6)
        )
    if target >= 0.6:
        assert chosen.parameters.threshold == pytest.approx(threshold)
        assert chosen.chosen["n_tp"] == n_tp
        assert chosen.chosen["fp_per_day"] <= target
    fewer = threshold_for(chosen.operating_points, target, hours=1e6)
    assert fewer == pytest.approx(threshold)


def test_operating_points(night) -> None:
    points = calibrate(*night, parameters=PLAIN).operating_points
    thresholds, rates = ([point[name] for point in points] for name in ("threshold", "fp_per_day"))
    assert thresholds == sorted(thresholds)
    assert rates == sorted(rates, reverse=True)
    assert points[-1]["n_fp"] == points[-1]["n_tp"] == 0
    assert {point["hours"] for point in points} == {120.0}
    for point in points:
        direct = score_tables(
            night[1], [detected(each, EventParameters(point["threshold"], smoothing=1.0)) for each in night[0]], "ab"
        ).pooled()
        assert (point["n_tp"], point["n_fp"], point["n_seizures"]) == (direct.n_tp, direct.n_fp, direct.n_true)
        assert point["sensitivity"] == direct.sensitivity
        assert point["f1"] == direct.f1


def test_all_positive_does_not_pass_for_quiet() -> None:
    """An hour that is one event has 12 false alarms; two hundred short ones have more."""
    scores = np.full(7200, 0.1)
    scores[::91][:] = 0.6
    parameters = EventParameters(0.5, smoothing=1.0, merge_gap=0.0, min_duration=0.0)
    chosen = calibrate(
        [scores],
        [seizures(2)],
        parameters=parameters,
        thresholds=[0.05, 0.5, 0.7],
        target_fp_per_day=500.0,
    )
    counts = [point["n_fp"] for point in chosen.operating_points]
    assert counts == [24, 80, 0]
    assert chosen.parameters.threshold == 0.7


def test_little_data_are_said_to_be_little() -> None:
    scores, tables = [background(2, {1000: 0.9, 4000: 0.2})], [seizures(2, 1000)]
    options = {"parameters": PLAIN, "thresholds": np.arange(1, 20) / 20}
    with pytest.warns(UserWarning, match=r"measured on 2 h, .* 35.9 a day .* keeps to 5 a day cannot be told"):
        chosen = calibrate(scores, tables, target_fp_per_day=5.0, **options)
    # The middle between the false alarm at 0.2 and the seizure at 0.9.
    assert chosen.parameters.threshold == pytest.approx(0.55, abs=0.051)
    assert chosen.chosen["fp_per_day"] == 0.0
    assert chosen.chosen["fp_per_day_upper"] == pytest.approx(3 / 2 * 24, rel=2e-3)
    assert "below 35.9 a day" in str(chosen)
    with pytest.raises(ValueError, match="from so little data"):
        threshold_for(chosen.operating_points, 5.0, errors="raise")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert threshold_for(chosen.operating_points, 40.0) == pytest.approx(0.05)
    with pytest.warns(UserWarning, match="Even at the highest threshold"):
        assert threshold_for([{"threshold": 0.5, "fp_per_day": 10.0}], 1.0) == 0.5
    with pytest.warns(UserWarning, match="cannot be told"):
        assert threshold_for([{"threshold": t, "fp_per_day": 0.0, "hours": 1.0} for t in (0.2, 0.4, 0.6)], 1.0) == 0.4


def test_seconds_that_were_not_analysed_are_no_quiet_ones() -> None:
    scores = [background(10, {1000: 0.6}, n_missing=5 * 3600)]
    chosen = calibrate(scores, [seizures(10)], parameters=PLAIN, thresholds=[0.5], target_fp_per_day=20.0)
    assert chosen.hours == 5.0
    assert chosen.chosen["fp_per_day"] == pytest.approx(24 / 5)
    assert chosen.chosen["sensitivity"] is None
    assert "no seizure to find" in str(chosen)


def test_of_several_parameters_the_best() -> None:
    """A false alarm of six seconds goes if ten are asked for."""
    scores = background(100, {1000: 0.9})
    scores[9000:9006] = 0.9
    some = [EventParameters(0.5, 0.4, 1.0, min_duration=each) for each in (5.0, 10.0, 30.0)]
    for options in ({}, {"target_fp_per_day": 2.0}):
        chosen = calibrate([scores], [seizures(100, 1000)], parameters=some, thresholds=[0.25, 0.5], **options)
        assert chosen.parameters.min_duration == 10.0
        # The ratio of the release is kept.
        assert chosen.parameters.release_level == pytest.approx(0.8 * chosen.parameters.threshold)


def test_of_several_parameters_one_that_keeps_to_the_target() -> None:
    """Scores that go up to 1 leave no threshold above them; what finds more with more false alarms is not the best."""
    scores = np.full(200 * 3600, 0.01)
    for onset in range(5000, 700000, 20000):
        scores[onset : onset + 6] = 1.0
    scores[100:200] = scores[3000:3006] = 1.0
    table = EventTable((SeizureEvent(100.0, 100.0), SeizureEvent(3000.0, 6.0)), float(scores.size))
    loose, strict = (EventParameters(smoothing=1.0, min_duration=each) for each in (5.0, 20.0))
    for candidates in ([loose, strict], [strict, loose]):
        chosen = calibrate([scores], [table], parameters=candidates, target_fp_per_day=1.0)
        assert chosen.parameters.min_duration == 20.0
        assert (chosen.chosen["fp_per_day"], chosen.chosen["sensitivity"]) == (0.0, 0.5)


@given(n_fp=st.integers(0, 1000), hours=st.floats(0.1, 1e5))
def test_the_bound(n_fp, hours) -> None:
    bound = fp_per_day_bound(n_fp, hours)
    assert bound == pytest.approx(chi2.ppf(0.95, 2 * (n_fp + 1)) / 2 * 24 / hours)
    assert bound > n_fp * 24 / hours


def test_default_thresholds() -> None:
    """They are dense where few seconds are, at either end."""
    rng = np.random.default_rng(0)
    for crowded in (rng.beta(0.4, 20, 20000), 1 - rng.beta(0.4, 20, 20000)):
        some = default_thresholds(crowded)
        assert ((some > 0) & (some <= 1)).all()
        assert (np.diff(some) > 0).all()
        assert 30 < some.size <= 80
        passed = [(crowded >= each).sum() for each in some]
        assert passed[-1] <= 2
        assert {0, 1} & set(passed) or crowded.max() == 1.0
    assert default_thresholds(np.full(5, np.nan)).size == 19


def test_json(night, tmp_path) -> None:
    chosen = calibrate(*night, target_fp_per_day=2.0)
    assert Calibration.from_json(chosen.to_json(tmp_path / "c.json")) == chosen
    assert Calibration.from_dict(json.loads(json.dumps(chosen.to_dict()))) == chosen
    detection = json.loads(json.dumps(chosen.detection))
    assert EventParameters(**detection["parameters"]) == chosen.parameters
    assert set(detection["operating_points"][0]) == {"threshold", "fp_per_day", "sensitivity"}
    assert (detection["hours"], detection["n_seizures"]) == (120.0, 4)
    assert threshold_for(detection["operating_points"], 2.0, hours=detection["hours"]) == chosen.parameters.threshold
    for text in ("{", "[1]", '{"parameters": {}}', '{"parameters": {"threshold": 7}}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(ValueError, match=r"not JSON|calibration|threshold"):
            Calibration.from_json(tmp_path / "bad.json")


@pytest.mark.parametrize(
    ("scores", "tables", "options", "words"),
    [
        ([], [], {}, "no recording"),
        ([np.zeros(60)], [], {}, "1 recordings and tables of 0"),
        ([np.zeros(60)], [EventTable((), 60.0)], {}, "no seizure"),
        ([np.full(60, np.nan)], [EventTable((), 60.0)], {"target_fp_per_day": 1.0}, "No second"),
        ([np.zeros(60)], [EventTable((), 90.0)], {"target_fp_per_day": 1.0}, "60 s and lasts 90 s"),
        ([np.full(60, 2.0)], [EventTable((), 60.0)], {"target_fp_per_day": 1.0}, "between 0 and 1"),
        ([np.zeros(60, dtype=int)], [EventTable((), 60.0)], {"target_fp_per_day": 1.0}, "floats"),
        ([np.zeros(60)], [EventTable((), 60.0)], {"target_fp_per_day": -1.0}, "0 or more"),
        ([np.zeros(60)], [EventTable((), 60.0)], {"target_fp_per_day": 1.0, "parameters": []}, "empty"),
        ([np.zeros(60)], [EventTable((), 60.0)], {"target_fp_per_day": 1.0, "thresholds": []}, "empty"),
    ],
)
def test_what_is_refused(scores, tables, options, words) -> None:
    with pytest.raises(ValueError, match=words):
        calibrate(scores, tables, **options)


def test_other_things_that_are_refused() -> None:
    with pytest.raises(TypeError, match="number"):
        threshold_for([{"threshold": 0.5, "fp_per_day": 1.0}], "5")
    with pytest.raises(ValueError, match="calibrate the detector"):
        threshold_for([], 5.0)
    with pytest.raises(ValueError, match="errors must"):
        threshold_for([{"threshold": 0.5, "fp_per_day": 1.0}], 5.0, errors="no")
