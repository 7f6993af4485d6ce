"""The page of what was found."""

from datetime import UTC, datetime

import mne
import numpy as np
import pytest

from mne_labram.decoding.page import annotation_report
from mne_labram.decoding.scores import NOT_ANALYSED, EventScores
from mne_labram.signal.events import EventParameters


@pytest.mark.parametrize("meas_date", [None, datetime(2020, 1, 1, tzinfo=UTC)])
def test_the_signal_is_drawn_with_what_was_found_only(meas_date, monkeypatch):
    """Annotations of every trial would cover the event; the recording is as it was afterwards."""
    info = mne.create_info(["Fz", "Cz"], 100.0, "eeg")
    noise = 2e-5 * np.random.default_rng(0).normal(size=(2, 4000))
    raw = mne.io.RawArray(noise, info, first_samp=700, verbose="error").set_meas_date(meas_date)
    offset = 0.0 if meas_date is None else raw.first_time
    raw.set_annotations(mne.Annotations([offset + 12.0], [3.0], ["trial"], orig_time=meas_date))
    raw._data[:, 2500:] = np.nan
    before = raw.get_data(), raw.annotations.copy()
    event = np.full(40, 0.1)
    event[10:20] = 0.9
    event[25:] = np.nan
    parameters = EventParameters(threshold=0.5, smoothing=1, merge_gap=0, min_duration=3)
    probabilities = np.stack([1 - event, event])
    scores = EventScores(probabilities, ["rest", "seizure"], 0, 40.0, parameters, raw.first_time, meas_date)
    drawn = []
    plot = mne.io.BaseRaw.plot

    def spy(inst, **kwargs):
        onsets = inst.annotations.onset - inst.first_time
        drawn.append((dict(zip(inst.annotations.description, onsets, strict=True)), inst.get_data()))
        return plot(inst, **kwargs)

    monkeypatch.setattr(mne.io.BaseRaw, "plot", spy)
    annotation_report(raw, scores)
    ((annotations, signal),) = drawn
    # The excerpt begins 5 s before the event, and the last 15 s were not analysed.
    assert annotations == {"seizure": pytest.approx(5, abs=0.02), NOT_ANALYSED: pytest.approx(20, abs=0.02)}
    assert np.isfinite(signal).all()
    np.testing.assert_array_equal(raw.get_data(), before[0])
    assert raw.annotations == before[1]
