"""Scores to annotations, at the right time."""

from datetime import UTC, datetime

import mne
import numpy as np
import pytest

from mne_labram.decoding.scores import NOT_ANALYSED, EventScores, add_annotations
from mne_labram.signal.events import EventParameters


@pytest.fixture
def scores():
    """30 s of a binary model: an event from 10 to 20 s, nothing known after 25 s."""
    event = np.full(30, 0.1)
    event[10:20] = 0.9
    event[25:] = np.nan
    parameters = EventParameters(threshold=0.5, smoothing=1, merge_gap=0, min_duration=3)
    return EventScores(np.stack([1 - event, event]), ["background", "seizure"], 0, 29.5, parameters)


def _raw(first_samp: int, meas_date: datetime | None) -> mne.io.RawArray:
    info = mne.create_info(["Cz"], 100.0, "eeg")
    raw = mne.io.RawArray(np.zeros((1, 2950)), info, first_samp=first_samp, verbose="error")
    return raw.set_meas_date(meas_date)


def test_annotations_and_another_threshold(scores):
    """Events carry their confidence; a threshold above them finds none; the end is that of the recording."""
    found = scores.annotations()
    assert list(found.description) == ["seizure", NOT_ANALYSED]
    np.testing.assert_allclose(found.onset, [10, 25])
    np.testing.assert_allclose(found.duration, [10, 4.5])
    assert found.extras[0] == {"confidence": pytest.approx(0.9)}
    assert len(scores.annotations(0.95, mark_not_analysed=False)) == 0
    assert len(scores.annotations(min_duration=11, mark_not_analysed=False)) == 0
    with pytest.raises(TypeError, match="minimum"):
        scores.annotations(minimum=3)
    assert len(scores.annotations(mark_not_analysed=False)) == 1


def test_the_background_class_is_not_annotated(scores):
    """With the classes swapped the background is what was the event."""
    scores.background = 1
    found = scores.annotations(mark_not_analysed=False)
    assert set(found.description) == {"background"}


def test_what_a_notebook_prints_is_one_line(scores):
    assert repr(scores) == "<EventScores | 29.5 s, background, seizure, threshold 0.5, 5 s not analysed>"


def test_array_and_frame(scores):
    """The scores are an array and a table."""
    assert np.asarray(scores).shape == (2, 30)
    frame = scores.to_data_frame()
    assert list(frame.columns) == ["time", "background", "seizure", "analysed"]
    assert frame.analysed.sum() == 25


@pytest.mark.parametrize("first_samp", [0, 700])
@pytest.mark.parametrize("meas_date", [None, datetime(2020, 1, 1, tzinfo=UTC)])
def test_added_annotations_are_where_they_belong(scores, first_samp, meas_date):
    """With and without a measurement date and a first sample; the ones that were there do not move."""
    raw = _raw(first_samp, meas_date)
    raw.set_annotations(mne.Annotations([2.0], [1.0], ["before"]))
    before = raw.annotations.onset[0] - raw.first_time
    scores.first_time, scores.meas_date = raw.first_time, raw.info["meas_date"]
    add_annotations(raw, scores.annotations())
    onsets = dict(zip(raw.annotations.description, raw.annotations.onset - raw.first_time, strict=True))
    assert before == pytest.approx(2.0)
    assert onsets == pytest.approx({"before": 2.0, "seizure": 10.0, NOT_ANALYSED: 25.0})
    assert raw.annotations.orig_time == meas_date
    # What MNE does with them agrees.
    events, ids = mne.events_from_annotations(raw, regexp=None, verbose="error")
    samples = {name: events[events[:, 2] == code][0, 0] - raw.first_samp for name, code in ids.items()}
    assert samples == {"before": 200, "seizure": 1000, NOT_ANALYSED: 2500}
