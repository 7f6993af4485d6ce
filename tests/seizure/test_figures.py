"""The figures of a detection, and the excerpts they show."""

from __future__ import annotations

from datetime import UTC, datetime

import matplotlib.pyplot as plt
import mne
import numpy as np
import pytest

from mne_labram.decoding.scores import EventScores
from mne_labram.seizure.detected import SeizureDetection
from mne_labram.seizure.draw_event import natural_scale
from mne_labram.seizure.draw_scores import highest_of_each
from mne_labram.seizure.excerpts import ExcerptReader
from mne_labram.seizure.figures import plot_detection, plot_event, window_of
from mne_labram.seizure.overview import Overview
from mne_labram.signal.events import EventParameters
from mne_labram.signal.report import ConformReport


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def detection_of(p, raw=None, meas_date=None, report=None):
    parameters = EventParameters(threshold=0.5, smoothing=1, merge_gap=0, min_duration=1)
    p = np.asarray(p, dtype=float)
    scores = EventScores(np.stack([1 - p, p]), ["bckg", "sz"], 0, float(len(p)), parameters, 0.0, meas_date, report)
    return SeizureDetection(scores, "made-up", raw=raw)


def texts_of(figure):
    found = figure.findobj(plt.Text)
    return [text.get_text() for text in found if text.get_text()]


# -- the whole recording ------------------------------------------------------------------------------------------
def test_a_short_peak_is_seen_in_a_long_night():
    values = np.full(86400, 0.1)
    values[40000] = 0.9
    values[50000:60000] = np.nan
    edges, columns = highest_of_each(values, 1200)
    assert len(columns) == 1200
    assert (edges[0], edges[-1]) == (0, 86400)
    assert np.nanmax(columns) == 0.9
    assert np.isnan(columns).sum() == pytest.approx(10000 / 72, abs=2)


@pytest.mark.parametrize("hours", [0.01, 1.5, 3, 24, 24 * 7, 24 * 60])
@pytest.mark.parametrize("meas_date", [None, datetime(2024, 3, 11, 21, 42, 13, tzinfo=UTC)])
def test_a_recording_of_any_length_has_few_rows(hours, meas_date):
    p = np.full(int(hours * 3600), 0.05)
    p[-20:] = 0.9
    figure = plot_detection(detection_of(p, meas_date=meas_date), title="A night", show=False)
    assert 1 <= len(figure.axes) <= 13
    assert figure.get_size_inches()[1] < 16
    # The rows hold all of it, and the event is numbered in the last.
    assert figure.axes[-1].get_xlim()[0] < len(p) <= figure.axes[-1].get_xlim()[1]
    assert "1" in [text.get_text() for text in figure.axes[-1].texts]
    assert "A night" in texts_of(figure)
    assert all(len(ax.get_xticks()) <= 15 for ax in figure.axes)


def test_crowded_numbers_become_one():
    p = np.full(86400, 0.05)
    for onset in (1000, 1100, 1200, 40000):
        p[onset : onset + 20] = 0.9
    figure = plot_detection(detection_of(p), show=False)
    assert [text.get_text() for ax in figure.axes for text in ax.texts] == ["1-3", "4"]


# -- one event ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("onset", "duration", "window"),
    [(100, 200.0, (90, 120)), (2, 200.0, (0, 30)), (195, 200.0, (170, 200)), (3, 8.0, (0, 8))],
)
def test_the_picture_stays_within_the_recording(onset, duration, window):
    event = detection_of(np.eye(1, int(duration), onset)[0]).table.events[0]
    assert window_of(event, duration) == window


def test_an_event_is_drawn_where_it_is(make_raw):
    raw = make_raw(60.0, names=["Fp1", "F3", "C3", "P3", "O1", "Fz", "Cz", "Pz", "ECG"])
    p = np.full(60, 0.05)
    p[20:26] = 0.9
    figure = plot_event(detection_of(p, raw), 0, scale=70, title="The first", show=False)
    traces, score = figure.axes
    assert traces.get_xlim() == (10.0, 40.0)
    assert {"Fp1-F3", "F3-C3", "C3-P3", "P3-O1", "Fz-Cz", "Cz-Pz", "ECG", "70 µV", "The first"} <= set(texts_of(figure))
    labels = dict(zip(score.get_xticks(), [each.get_text() for each in score.get_xticklabels()], strict=True))
    assert labels[20.0] == "onset\n0:00:20"
    assert labels[15.0] == "-5 s\n0:00:15"


def test_wrong_events_are_refused(make_raw):
    detection = detection_of(np.full(40, 0.05), make_raw(40.0))
    with pytest.raises(IndexError, match="There is no event 0"):
        plot_event(detection, 0, show=False)
    found = detection_of(np.full(40, 0.9))
    with pytest.raises(ValueError, match="pass the recording as raw"):
        plot_event(found, 0, show=False)


@pytest.mark.parametrize(("amplitude", "scale"), [(0.0, 100.0), (1.0, 50.0), (60.0, 100.0), (1e9, 2000.0)])
def test_the_scale_is_a_round_number(amplitude, scale):
    assert natural_scale(np.full((3, 100), amplitude)) == scale
    assert natural_scale(np.zeros((0, 0))) == 100.0


# -- excerpts -----------------------------------------------------------------------------------------------------
def sine_raw(names, frequencies, sfreq=256.0, seconds=60.0, unit=1e-6):
    times = np.arange(int(seconds * sfreq)) / sfreq
    data = np.array([50 * np.sin(2 * np.pi * f * times) for f in frequencies]) * unit
    return mne.io.RawArray(data, mne.create_info(names, sfreq, "eeg"), verbose="error")


def test_an_excerpt_is_the_difference_in_microvolts():
    names = ["Fp1", "F3", "C3", "P3", "O1"]
    raw = sine_raw(names, [5, 5, 9, 9, 5])
    excerpt = ExcerptReader(raw).read(10.0, 40.0)
    assert excerpt.traces.shape == (4, 30 * 256)
    by_name = dict(zip([each.name for each in excerpt.derivations], excerpt.traces, strict=True))
    assert np.abs(by_name["Fp1-F3"]).max() < 0.1
    np.testing.assert_allclose(by_name["F3-C3"], 1e6 * (raw.get_data()[1] - raw.get_data()[2])[2560:10240], atol=1.5)
    times = excerpt.times(excerpt.traces[0])
    np.testing.assert_allclose(times[[0, -1]], [10.0, 40.0 - 1 / 256])


def test_the_band_leaves_out_drift_and_hum():
    drift = ExcerptReader(sine_raw(["C3"], [0.1])).read(20.0, 50.0).traces
    hum = ExcerptReader(sine_raw(["C3"], [60.0])).read(20.0, 50.0).traces
    assert np.abs(drift).max() < 2.0
    assert np.abs(hum).max() < 5.0
    assert ExcerptReader(sine_raw(["C3"], [5.0], sfreq=64.0)).read(0.0, 5.0).band == "from 1 Hz"


def test_numbers_in_another_unit():
    report = ConformReport(unit="uV, as assume_unit says")
    excerpt = ExcerptReader(sine_raw(["C3"], [5.0], unit=1.0), report).read(10.0, 20.0)
    assert np.abs(excerpt.traces).max() == pytest.approx(50.0, rel=0.05)


def test_missing_samples_stay_missing_and_do_not_spread():
    raw = sine_raw(["Fp1", "F3", "C3", "P3", "O1"], [5, 6, 7, 8, 9])
    raw._data[1, 3000:4000] = np.nan
    excerpt = ExcerptReader(raw).read(5.0, 35.0)
    gone = np.isnan(excerpt.traces)
    assert gone.sum(axis=1).tolist() == [1000, 1000, 0, 0]
    assert np.nanmax(np.abs(excerpt.traces)) < 150


def test_channels_of_their_own_rate_are_read_at_it(write_edf):
    signals = [50 * np.sin(2 * np.pi * 5 * np.arange(40 * rate) / rate) for rate in (128, 128, 256)]
    labels = ["EEG C3", "EEG C4", "ECG"]
    raw = mne.io.read_raw_edf(write_edf(signals=signals, labels=labels, rates=[128, 128, 256]), verbose="error")
    excerpt = ExcerptReader(raw).read(5.0, 35.0)
    assert excerpt.traces.shape == (2, 30 * 128)
    assert excerpt.ecg.shape == (30 * 256,)
    np.testing.assert_allclose(excerpt.traces[0], signals[0][5 * 128 : 35 * 128], atol=2.0)
    assert not raw.preload


# -- numbers ------------------------------------------------------------------------------------------------------
def test_the_hours_of_the_clock():
    start = datetime(2024, 3, 11, 21, 30, tzinfo=UTC)
    p = np.full(2 * 3600, 0.05)
    p[1795:1805] = 0.9
    p[5400:] = np.nan
    overview = Overview.of(detection_of(p, meas_date=start))
    hours = overview.hours()
    assert [(hour.start, hour.stop) for hour in hours] == [(0, 1800), (1800, 5400), (5400, 7200)]
    assert [hour.seizure for hour in hours] == [5, 5, 0]
    assert [hour.analysed for hour in hours] == [1800, 3600, 0]
    assert [hour.per_hour for hour in hours] == [10, 5, None]
    assert overview.not_analysed == [(5400.0, 7200.0)]
    assert overview.seizure_seconds == 10


def test_ranks_fall_with_confidence():
    p = np.full(100, 0.05)
    for onset, height in ((10, 0.7), (30, 0.9), (50, 0.8)):
        p[onset : onset + 5] = height
    assert Overview.of(detection_of(p)).ranks == [3, 1, 2]
