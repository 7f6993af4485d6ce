"""The report: readable, and plain JSON."""

import json

import mne
import numpy as np
import pytest

from mne_labram import conform
from mne_labram.signal.channels import vocabulary_rows
from mne_labram.signal.conform import conform_epochs_array
from mne_labram.signal.report import ConformReport


@pytest.fixture
def eventful(make_raw):
    """Return the report of a recording in which much is to be told."""

    def edit(x):
        x[3] = 0
        x[:, 250 * 8 : 250 * 10] = 1.0
        x[:5, 250 * 12] = np.nan

    names = ["EEG Fp1-REF", "EEG T3-REF", "ECG", "EEG F3-REF", "EEG C3-REF", "EEG O1-REF", "Foo", "EEG Cz-REF"]
    raw = make_raw(20, 100.0, names=names)
    raw.info["bads"] = ["EEG Cz-REF"]
    raw = make_raw(20.5, names=names, edit=edit)
    raw.info["bads"] = ["EEG Cz-REF"]
    with raw.info._unlock():
        raw.info["lowpass"] = 40.0
    return conform(raw, ch_names=["FP1", "T7", "C3", "O1", "PZ"], line_freq=50)[1]


def test_everything_is_told(eventful):
    text = str(eventful)
    for words in (
        "RawArray, 20.5 s, for LaBraM",
        "250 Hz resampled to 200 Hz (4/5)",
        "4 kept, 4 dropped, referential montage",
        "EEG Fp1-REF→FP1",
        "EEG T3-REF→T7",
        "EEG Cz-REF: marked bad in the recording",
        "ECG: ",
        "EEG F3-REF: flat or missing throughout",
        "not there     PZ",
        "as recorded (REF)",
        "high-pass     0.1 Hz",
        "notch         50 Hz, given by line_freq",
        "17.5 of 20.5 s; not usable: 1 s missing, 2 s flat",
        "FP1: 1 s missing, 2 s flat",
        "content above 40 Hz is missing",
    ):
        assert words in text, words
    assert all(len(line) <= 100 for line in text.splitlines())
    labels = [line[:14].strip() for line in text.splitlines()]
    assert labels[:4] == ["recording", "rate", "unit", "channels"]


def test_json(eventful):
    stored = json.loads(json.dumps(eventful.to_dict()))
    assert stored["channels"][0]["name"] == "FP1"
    assert stored["channels"][1] == {
        "label": "EEG T3-REF",
        "name": "T7",
        "row": vocabulary_rows(["T7"])[0],
        "how": "alias",
        "distance_mm": None,
    }
    assert stored["seconds_usable"] == 17.5
    assert stored["unusable"] == [8, 9, 12]
    assert stored["missing_channels"] == ["PZ"]
    assert {"label": "EEG Cz-REF", "reason": "marked bad in the recording"} in stored["dropped"]
    json.dumps(ConformReport().to_dict())


def test_names_say_it_all_unless_matched_by_position(eventful):
    assert eventful.model_positions is None
    assert ConformReport().model_positions is None
    names = ["E1", "E2", "E3", "E4"] + [f"E{i}" for i in range(5, 33)]
    montage = mne.channels.make_standard_montage("GSN-HydroCel-32")
    info = mne.create_info(names, 200.0, "eeg")
    x = np.random.default_rng(0).normal(0, 2e-5, (32, 2000))
    raw = mne.io.RawArray(x, info, verbose="ERROR").set_montage(montage, on_missing="ignore")
    _, report = conform(raw, match="position")
    assert report.model_positions.shape == (len(report.ch_names), 6)
    assert np.isfinite(report.model_positions).all()
    assert " mm)" in str(report)


def test_many_channels_fit_on_a_screen(make_raw):
    """64 channels, all of them renamed and all of them with a bad second."""
    names = mne.channels.make_standard_montage("biosemi64").ch_names
    raw = make_raw(
        10, names=[f"EEG {n}-REF" for n in names], edit=lambda x: x.__setitem__((slice(None), slice(0, 600)), 1.0)
    )
    text = str(conform(raw)[1])
    assert len(text.splitlines()) <= 30
    assert "and 58 more channels" in text


def test_epochs(make_raw):
    raw = make_raw(20)
    events = mne.make_fixed_length_events(raw, duration=2)
    epochs = mne.Epochs(raw, events, tmin=0, tmax=1.996, baseline=None, preload=True, verbose="ERROR")
    _, report = conform_epochs_array(epochs)
    assert "10 epochs of 2 s" in str(report)
    assert "10 of 10 epochs" in str(report)
    with pytest.raises(ValueError, match="no epochs"):
        _ = conform(raw)[1].usable_epochs


def test_an_empty_report_can_be_printed():
    assert "recording" in str(ConformReport())
    assert ConformReport().seconds_usable == 0
