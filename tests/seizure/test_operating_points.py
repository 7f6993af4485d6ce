"""From what was measured of a detector to its threshold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mne_labram.seizure.calibration import calibrate
from mne_labram.seizure.events import EventTable
from mne_labram.seizure.operating_points import (
    choose_parameters,
    describe_point,
    measured_points,
    parameters_of,
    with_threshold,
)
from mne_labram.signal.events import EventParameters

POINTS = [
    {"threshold": 0.7, "fp_per_day": 2.0, "sensitivity": 0.6},
    {"threshold": 0.3, "fp_per_day": 20.0, "sensitivity": 1.0},
    {"threshold": 0.5, "fp_per_day": 5.0, "sensitivity": None},
]
CALIBRATION = {"parameters": {"threshold": 0.5, "release": 0.4}, "operating_points": POINTS, "hours": 500.0}


def test_the_lowest_threshold_that_keeps_to_the_target():
    """Points come in any order; between two rates the stricter one is taken."""
    for target, threshold in ((100.0, 0.3), (20.0, 0.3), (19.0, 0.5), (4.9, 0.7)):
        assert choose_parameters(CALIBRATION, target_fp_per_day=target).threshold == threshold


def test_a_target_that_was_never_reached_is_said(capsys):
    """The strictest threshold is taken, with a warning."""
    assert choose_parameters(CALIBRATION, target_fp_per_day=1.0).threshold == 0.7
    assert "highest threshold" in capsys.readouterr().out


def test_whose_parameters():
    """Those given, else the detector's, else the defaults; a release moves with the threshold."""
    assert choose_parameters(None) == EventParameters()
    assert choose_parameters(CALIBRATION) == EventParameters(threshold=0.5, release=0.4)
    for threshold in (0.9, 0.2):
        moved = choose_parameters(CALIBRATION, threshold=threshold)
        assert (moved.threshold, moved.release) == (threshold, pytest.approx(0.8 * threshold))
    given = EventParameters(smoothing=9.0)
    assert choose_parameters(CALIBRATION, parameters=given) is given
    assert choose_parameters(CALIBRATION, parameters=given, threshold=0.2).smoothing == 9.0


def test_what_was_measured_holds_for_its_processing_only():
    """Another threshold changes nothing, another smoothing everything."""
    used = choose_parameters(CALIBRATION, threshold=0.9)
    assert [point["threshold"] for point in measured_points(CALIBRATION, used)] == [0.3, 0.5, 0.7]
    # The release is a part of the rule: 0.4 at 0.5 is another rule than 0.4 at 0.9.
    assert measured_points(CALIBRATION, EventParameters(threshold=0.9, release=0.4)) == []
    assert measured_points({**CALIBRATION, "parameters": {}}, EventParameters(0.8, release=0.5)) != []
    other = EventParameters(smoothing=9.0)
    assert measured_points(CALIBRATION, other) == []
    with pytest.raises(ValueError, match="own smoothing"):
        choose_parameters(CALIBRATION, parameters=other, target_fp_per_day=5.0)
    assert measured_points(None, other) == []


@given(st.floats(0.01, 1.0), st.floats(0.01, 1.0), st.floats(0.01, 1.0))
def test_a_release_keeps_its_ratio(threshold, ratio, other):
    """Also where rounding would lift it above the threshold."""
    moved = with_threshold(EventParameters(threshold, release=ratio * threshold), other)
    assert moved.threshold == other
    assert moved.release / other == pytest.approx(ratio)
    assert with_threshold(EventParameters(threshold), other) == EventParameters(other)


def test_the_threshold_of_a_model_is_the_one_that_its_calibration_chooses(capsys):
    """A model keeps its hours once, not at each point; what they cannot show is said, and chosen for, all the same."""
    scores = np.full(7200, 0.01)
    scores[1000:1020], scores[4000:4020] = 0.9, 0.3
    table = EventTable((), 7200.0)
    with pytest.warns(UserWarning, match="from so little data") as warned:
        calibration = calibrate([scores], [table], target_fp_per_day=24.0)
    chosen = choose_parameters(calibration.detection, target_fp_per_day=24.0)
    assert chosen == calibration.parameters
    assert str(warned[0].message) in " ".join(capsys.readouterr().out.split())


def test_the_sentence():
    """What is not known is not said."""
    assert describe_point(CALIBRATION, POINTS[0]) == (
        "At the threshold 0.7 there were 60 % of seizures and 2 false alarms a day on 500 h of recordings it was "
        "calibrated on."
    )
    assert (
        describe_point({}, POINTS[2]) == "At the threshold 0.5 there were 5 false alarms a day when it was calibrated."
    )


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"threshold": 0.5, "target_fp_per_day": 5.0}, ValueError, "pass one of them"),
        ({"target_fp_per_day": -1.0}, ValueError, "target_fp_per_day"),
        ({"target_fp_per_day": "5"}, TypeError, "must be a number"),
        ({"threshold": "0.5"}, TypeError, "threshold must be a number"),
        ({"threshold": 0.0}, ValueError, "threshold must lie"),
        ({"parameters": {}}, TypeError, "must be EventParameters"),
    ],
)
def test_wrong_arguments(arguments, error, match):
    """One sentence each."""
    with pytest.raises(error, match=match):
        choose_parameters(CALIBRATION, **arguments)


@pytest.mark.parametrize(
    "calibration",
    [
        {"parameters": []},
        {"parameters": {"threshold": None}},
        {"parameters": {"unknown": 1}},
        {"parameters": {"threshold": 7.0}},
        {"operating_points": [{"threshold": 0.5}]},
        {"operating_points": [{"threshold": 0.5, "fp_per_day": "1"}]},
        {"operating_points": "x"},
    ],
)
def test_a_damaged_calibration_is_said_to_be_one(calibration):
    """What a checkpoint holds may be anything."""
    with pytest.raises(ValueError, match="damaged"):
        measured_points(calibration, parameters_of(calibration) or EventParameters())
