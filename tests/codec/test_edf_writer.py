"""EDF+ and BDF+ files, written piece by piece and read by MNE and by edfio."""

from __future__ import annotations

import datetime

import edfio
import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mne_labram.codec import edf_writer
from mne_labram.codec.edf_writer import Calibration, _eight, _limit, write_edf
from mne_labram.signal.contract import ContractError
from mne_labram.signal.edf import read_edf_annotations, read_edf_header


@pytest.fixture
def raw(make_raw):
    """Make EEG, triggers and a temperature, with annotations, a date and a patient."""

    def edit(x: np.ndarray) -> None:
        x[2] = 1e6 * (np.arange(x.shape[1]) % 40 == 0) * 255
        x[3] = 1e6 * (36.6 + 0.01 * x[3] / 50)

    made = make_raw(names=["F3", "F4", "STI", "temp"], types=["eeg", "eeg", "stim", "misc"], edit=edit, seconds=10)
    made.set_meas_date(datetime.datetime(2024, 2, 29, 13, 14, 15, tzinfo=datetime.UTC))
    made.info["subject_info"] = {"his_id": "P 7", "sex": 2, "birthday": datetime.date(1990, 5, 6), "last_name": "A B"}
    made.crop(2.0, 8.996)
    made.set_annotations(
        mne.Annotations([2.5, 3.0, 8.5], [0.25, 0, 1 / 3], ["sz", "é", "z" * 200], orig_time=made.info["meas_date"])
    )
    return made


@pytest.mark.parametrize("ending", [".edf", ".bdf"])
def test_mne_reads_it(raw, tmp_path, ending):
    assert write_edf(raw, tmp_path / f"a{ending}") == []
    back = mne.io.read_raw(tmp_path / f"a{ending}", stim_channel="STI", preload=True, verbose="error")
    assert back.ch_names == raw.ch_names
    assert (back.n_times, back.info["sfreq"]) == (raw.n_times, 250.0)
    levels = 2**24 if ending == ".bdf" else 2**16
    x, y = raw.get_data(), back.get_data()
    steps = np.ptp(np.concatenate([x, 0 * x], axis=1), axis=1, keepdims=True) / (levels - 2)
    np.testing.assert_array_equal(np.rint(y[2]), x[2])
    assert (np.abs(x - y) <= 0.51 * steps + 1e-15)[[0, 1, 3]].all()
    assert back.info["meas_date"] == raw.info["meas_date"] + datetime.timedelta(seconds=2)
    assert back.info["subject_info"]["his_id"] == "P_7"
    assert back.info["subject_info"]["birthday"] == datetime.date(1990, 5, 6)
    np.testing.assert_allclose(back.annotations.onset, raw.annotations.onset - 2.0, atol=1e-6)
    np.testing.assert_allclose(back.annotations.duration[:2], [0.25, 0])
    assert list(back.annotations.description) == ["sz", "é", "z" * 200]
    assert back.info["highpass"] == raw.info["highpass"]


@pytest.mark.parametrize("ending", [".edf", ".bdf"])
def test_others_read_it(raw, tmp_path, ending):
    """A stricter reader than MNE's."""
    write_edf(raw, tmp_path / f"a{ending}")
    read = edfio.read_edf if ending == ".edf" else edfio.read_bdf
    back = read(tmp_path / f"a{ending}")
    assert [signal.label for signal in back.signals] == raw.ch_names
    np.testing.assert_allclose(back.signals[0].data, 1e6 * raw.get_data()[0], atol=0.01)
    assert [each.text for each in back.annotations] == ["sz", "é", "z" * 200]
    assert back.patient.name == "A_B"
    assert back.startdate == datetime.date(2024, 2, 29)
    assert read_edf_header(tmp_path / f"a{ending}").truncation is None


def test_what_does_not_fill_a_record(make_raw, tmp_path):
    raw = make_raw(seconds=4999 / 250, sfreq=250.0)
    assert raw.n_times == 4999
    assert write_edf(raw, tmp_path / "a.edf") == [
        "The last data record was filled up with 1 samples, which repeat the last one."
    ]
    back = mne.io.read_raw(tmp_path / "a.edf", verbose="error").get_data()
    np.testing.assert_array_equal(back[:, 4999], back[:, 4998])
    assert back.shape == (8, 5000)


@settings(max_examples=30)
@given(st.integers(1, 3000), st.sampled_from([1.0, 99.9, 128.0, 173.61, 200.0, 512.5, 1000.0, 2048.0, 976.5625]))
def test_any_rate_and_length(tmp_path_factory, n_times, sfreq):
    x = 1e-6 * np.random.default_rng(n_times).standard_normal((2, n_times))
    raw = mne.io.RawArray(x, mne.create_info(2, sfreq, "eeg"), verbose="error")
    path = tmp_path_factory.mktemp("a") / "a.edf"
    notes = write_edf(raw, path)
    header = read_edf_header(path)
    assert header.n_samples[0] / header.record_seconds == pytest.approx(sfreq, rel=1e-6)
    extra = header.n_records * header.n_samples[0] - n_times
    assert 0 <= extra < header.n_samples[0]
    assert bool(extra) == bool(notes)


def test_many_annotations_spread_over_records(make_raw, tmp_path):
    """A thousand in the first second do not make every record a thousand annotations wide."""
    raw = make_raw(seconds=600, sfreq=100.0, names=["F3"])
    raw.annotations.append(np.linspace(0, 0.9, 1000), 0.0, [f"spike {i}" for i in range(1000)])
    write_edf(raw, tmp_path / "a.edf")
    header = read_edf_header(tmp_path / "a.edf")
    assert [text for *_, text in read_edf_annotations(header)] == [f"spike {i}" for i in range(1000)]
    assert (tmp_path / "a.edf").stat().st_size < 600 * 100 * 2 + 300_000


def test_nan_and_coarse_ranges_are_told(make_raw, tmp_path):
    def edit(x: np.ndarray) -> None:
        x[0, 100:105] = np.nan
        x[1, 0] = 1e6

    raw = make_raw(seconds=4, edit=edit)
    notes = write_edf(raw, tmp_path / "a.edf")
    assert notes == [
        "5 samples are NaN, which .edf cannot say; they were written as 0.",
        "16 bits resolve no more than 15.3 µV in channel 'Fp2'; .bdf has 24, and .fif floats.",
    ]
    assert len(write_edf(raw, tmp_path / "a.bdf")) == 1
    back = mne.io.read_raw(tmp_path / "a.bdf", preload=True, verbose="error").get_data()
    np.testing.assert_allclose(back[0, 100:105], 0, atol=1e-9)


def test_a_wanted_range_is_kept_if_it_covers(make_raw, tmp_path):
    raw = make_raw(seconds=4, names=["F3", "F4"])
    wide, narrow = Calibration(-3276.8, 3276.7, -32768, 32767), Calibration(-1, 1, -32768, 32767)
    write_edf(raw, tmp_path / "a.edf", calibrations={"F3": wide, "F4": narrow})
    header = read_edf_header(tmp_path / "a.edf")
    assert (header.physical_min[0], header.physical_max[0]) == (-3276.8, 3276.7)
    assert header.physical_max[1] > 20


def test_names_and_rates_that_cannot_be_written(make_raw, tmp_path):
    with pytest.raises(ContractError, match=r"'Elektrode über F3' cannot be named"):
        write_edf(make_raw(names=["Elektrode über F3"]), tmp_path / "a.edf")
    odd = mne.io.RawArray(np.zeros((1, 10)), mne.create_info(1, 1e-9, "eeg"), verbose="error")
    with pytest.raises(ContractError, match="A rate of 1e-09 Hz cannot be written"):
        write_edf(odd, tmp_path / "a.edf")
    assert not (tmp_path / "a.edf").exists()


@given(st.floats(1e-3, 9e6), st.booleans())
def test_limits_hold_in_eight_characters(value, upwards):
    for each in (value, -value):
        limit = _limit(each, upwards)
        assert len(_eight(limit)) <= 8
        assert limit >= each if upwards else limit <= each
        assert limit == pytest.approx(each, rel=6e-3)


def test_recordings_are_read_in_pieces(make_raw, tmp_path, monkeypatch):
    raw = make_raw(seconds=120, sfreq=100.0)
    sizes = []
    original = mne.io.RawArray.get_data

    def spy(self, *args, **kwargs):
        out = original(self, *args, **kwargs)
        sizes.append(out.shape[1])
        return out

    monkeypatch.setattr(mne.io.RawArray, "get_data", spy)
    write_edf(raw, tmp_path / "a.edf")
    assert max(sizes) <= edf_writer._CHUNK * 100
    assert sum(sizes) == 2 * 12_000
