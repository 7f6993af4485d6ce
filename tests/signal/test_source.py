"""Reading EDF files whose channels have different rates, and telling which channel is which signal."""

import mne
import numpy as np
import pytest

from mne_labram import conform
from mne_labram.signal.conform import plan_conform
from mne_labram.signal.source import edf_parts, signals_of

LABELS = ["EEG Fp1-REF", "ECG", "EEG Fp2-REF", "SpO2"]


@pytest.fixture
def mixed(write_edf, make_eeg):
    """Return a file with EEG at 128 Hz, an ECG at 512 Hz and a slow channel, and the EEG in µV."""
    eeg = make_eeg(2, 128 * 60, 128)
    ecg = make_eeg(1, 512 * 60, 512, seed=5)[0]
    slow = np.linspace(90, 99, 60)
    fname = write_edf(signals=[eeg[0], ecg, eeg[1], slow], labels=LABELS, rates=[128, 512, 128, 1])
    return fname, eeg


def test_mixed_rates_are_read_at_their_own(mixed, make_raw):
    """The result is that of a file which holds nothing but the EEG."""
    fname, eeg = mixed
    truth, _ = conform(make_raw(60, 128.0, names=["Fp1", "Fp2"], edit=lambda x: x.__setitem__(slice(None), eeg)))
    out, report = conform(fname)
    assert report.sfreq_in == 128
    assert out.n_times == truth.n_times
    np.testing.assert_allclose(out.get_data(), truth.get_data(), atol=0.05e-6)  # one step of the file is 0.015 µV
    raw = mne.io.read_raw(fname, verbose="ERROR")
    assert raw.info["sfreq"] == 512
    from_raw, _ = conform(raw)
    np.testing.assert_array_equal(from_raw.get_data(), out.get_data())


def test_mixed_rates_of_a_changed_raw(mixed):
    """Renamed, reordered, cropped: still the same signals."""
    fname, _ = mixed
    whole, _ = conform(fname)
    raw = mne.io.read_raw(fname, verbose="ERROR")
    raw.drop_channels(["SpO2"]).reorder_channels(["EEG Fp2-REF", "ECG", "EEG Fp1-REF"])
    raw.rename_channels({"EEG Fp2-REF": "C3"}).crop(10, 50, include_tmax=False)
    out, report = conform(raw)
    assert out.ch_names == ["C3", "FP1"]
    assert out.first_time == 10
    assert out.n_times == 40 * 200
    inside = slice(200 * 18, 200 * 22)
    expected = whole.get_data(["FP2", "FP1"])[:, 2000:10_000][:, inside]
    np.testing.assert_allclose(out.get_data()[:, inside], expected, atol=8e-6)
    assert np.corrcoef(out.get_data()[0, inside], expected[0])[0, 1] > 0.99
    assert [row.index for row in report.channel_map.rows] == [0, 2]


def test_eeg_of_two_rates_is_read_into_memory(write_edf, make_eeg):
    eeg = [make_eeg(1, rate * 30, rate, seed=rate)[0] for rate in (128, 256)]
    fname = write_edf(signals=eeg, labels=["Fp1", "Fp2"], rates=[128, 256])
    out, report = conform(fname)
    assert any("read into memory" in text for text in report.warnings)
    assert out.ch_names == ["FP1", "FP2"]
    for name, x, rate in zip(out.ch_names, eeg, (128, 256), strict=True):
        raw = mne.io.RawArray(x[None] * 1e-6, mne.create_info([name], rate, "eeg"), verbose="ERROR")
        expected = conform(raw)[0].get_data()[0, 400:-400]
        assert np.corrcoef(out.get_data(name)[0, 400:-400], expected)[0, 1] > 0.98


def test_in_memory_nothing_is_opened_again(mixed):
    fname, _ = mixed
    raw = mne.io.read_raw(fname, preload=True, verbose="ERROR")
    plan = plan_conform(raw)
    assert plan.source.raw is raw
    assert plan.source.sfreq == 512


def test_signals(write_edf):
    raw = mne.io.read_raw(write_edf(labels=["Fp1", "Fp2", "F3"]), preload=False, verbose="ERROR")
    (part,), notes = edf_parts(raw)
    assert (part.start, part.stop, part.first, notes) == (0, 2000, 0, [])
    raw.rename_channels({"Fp1": "Cz"}).reorder_channels(["F3", "Cz", "Fp2"])
    assert signals_of(raw, part.header) == [2, 0, 1]
    raw.load_data(verbose="ERROR")
    assert signals_of(raw, part.header) == [2, None, 1]
    raw.crop(5, 10)
    assert edf_parts(raw)[0][0].first == 500


def test_a_header_we_cannot_read_is_told(write_edf):
    """MNE is more lenient with headers than we are: the recording is taken, and what was not checked is said."""
    fname = write_edf()
    fname.write_bytes(b"9" + fname.read_bytes()[1:])
    _, report = conform(fname)
    assert any("Gaps could not be looked for" in text for text in report.warnings)


@pytest.mark.parametrize("unit", ["", "uv", "\u00b5V", "mV", "xyz", "V"])
def test_units_as_written(write_edf, make_eeg, unit):
    """The same EEG under every unit: taken where MNE scales it, refused with the remedy where MNE takes volts."""
    scale = {"mV": 1e-3, "V": 1e-6}.get(unit, 1.0)
    eeg = make_eeg(3, 3000, 100) * scale
    fname = write_edf(signals=list(eeg), units=unit, physical=(-500 * scale, 500 * scale))
    if unit in ("\u00b5V", "mV", "V"):
        _, report = conform(fname)
        assert 5 < report.amplitude < 50
        assert not any("unit" in text for text in report.warnings)
        return
    with pytest.raises(ValueError, match="which MNE takes for volts") as caught:
        conform(fname)
    assert ("no unit" if not unit else repr(unit)) in str(caught.value)
    assert "assume_unit='uV'" in str(caught.value)
    _, report = conform(fname, assume_unit="uV")
    assert 5 < report.amplitude < 50


def test_physical_limits_come_from_the_file(write_edf, make_eeg):
    eeg = make_eeg(3, 6000, 100, amplitude=30)
    eeg[0, 1000:1010] = 600
    eeg[1, 2000] = -600
    _, report = conform(write_edf(signals=list(eeg), physical=(-200.0, 200.0)))
    assert report.channel_seconds["FP1"]["clipped"] == 1
    assert "FP2" not in report.channel_seconds or report.channel_seconds["FP2"]["clipped"] == 0


def test_truncated_file(write_edf):
    fname = write_edf(cut_bytes=700)
    _, report = conform(fname)
    assert report.n_seconds == 18
    assert sum("cut short" in text for text in report.warnings) == 1
    _, report = conform(mne.io.read_raw(fname, verbose="ERROR"))
    assert any("declares 20 data records and 18 are there" in text for text in report.warnings)
