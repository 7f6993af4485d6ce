"""Epochs, averages and arrays made into what a contract asks."""

import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mne_labram import conform
from mne_labram.signal.conform import conform_array, conform_epochs_array
from mne_labram.signal.contract import ContractError, SignalContract
from mne_labram.signal.filtering import design_chain
from mne_labram.signal.short_signals import subtract_sinusoids

NAMES = ("Fp1", "Fp2", "F3", "F4", "C3", "C4", "O1", "O2")


@pytest.fixture
def make_epochs(make_raw):
    """Return a function that cuts a made recording into epochs."""

    def make(seconds=2.0, sfreq=250.0, n_epochs=10, hum=0.0, tmin=0.0, **kwargs):
        def edit(x):
            x += hum * np.sin(2 * np.pi * 50 * np.arange(x.shape[1]) / sfreq)
            x += np.arange(len(x))[:, None] * 300.0
            if "edit" in kwargs:
                kwargs["edit"](x)

        raw = make_raw(seconds * n_epochs + 1, sfreq, edit=edit, **{k: v for k, v in kwargs.items() if k != "edit"})
        events = mne.make_fixed_length_events(raw, start=0, duration=seconds, first_samp=False)[:n_epochs]
        events[:, 0] -= int(round(tmin * sfreq))
        tmax = tmin + seconds - 1 / sfreq
        return mne.Epochs(raw, events, tmin=tmin, tmax=tmax, baseline=None, preload=True, verbose="ERROR")

    return make


def hash_of(epochs):
    return hash((epochs.get_data(copy=True).tobytes(), mne.utils.object_hash(dict(epochs.info)), repr(epochs.events)))


@pytest.mark.parametrize("sfreq", [100.0, 200.0, 256.0, 1000.0])
def test_what_comes_out(make_epochs, sfreq):
    epochs = make_epochs(sfreq=sfreq, tmin=-0.5)
    epochs.metadata = None
    before = hash_of(epochs)
    data, report = conform_epochs_array(epochs)
    assert hash_of(epochs) == before
    assert data.shape == (10, 8, 400)
    assert data.dtype == np.float32
    assert np.abs(data.mean(axis=-1)).max() < 1e-3
    assert "mean of each epoch removed" in report.high_pass
    assert report.usable_epochs.all()
    assert (report.n_epochs, report.n_seconds, report.kind) == (10, 2.0, "epochs")
    out, _ = conform(epochs)
    assert isinstance(out, mne.EpochsArray)
    np.testing.assert_allclose(out.get_data(copy=False), data * 1e-6, rtol=1e-6)
    assert out.tmin == epochs.tmin
    assert out.ch_names == report.ch_names
    np.testing.assert_array_equal(out.events, epochs.events)
    assert out.event_id == epochs.event_id
    assert out.drop_log == epochs.drop_log
    np.testing.assert_array_equal(out.selection, epochs.selection)


def test_epochs_are_the_recording(make_raw):
    """Away from their ends, epochs of the filtered band hold what the recording holds."""
    raw = make_raw(60, 256.0)
    whole, _ = conform(raw, line_freq=0)
    events = mne.make_fixed_length_events(raw, duration=8, first_samp=False)[1:6]
    epochs = mne.Epochs(raw, events, tmin=0, tmax=8 - 1 / 256, baseline=None, preload=True, verbose="ERROR")
    data, _ = conform_epochs_array(epochs, line_freq=0)
    for epoch, event in zip(data, events, strict=True):
        start = int(event[0] / 256 * 200)
        truth = whole.get_data()[:, start : start + 1600] * 1e6
        difference = (epoch - truth)[:, 40:-40]
        # what differs is slow: the high-pass sees eight seconds instead of thirty
        difference -= difference.mean(axis=1, keepdims=True)
        assert difference.std() < 0.1 * truth.std()


def test_recordings_that_were_high_passed_keep_the_mean_of_their_epochs(make_raw):
    raw = make_raw(40)
    raw.filter(0.5, None, verbose="ERROR")
    events = mne.make_fixed_length_events(raw, duration=1, first_samp=False)
    epochs = mne.Epochs(raw, events, tmin=0, tmax=0.996, baseline=None, preload=True, verbose="ERROR")
    data, report = conform_epochs_array(epochs)
    assert "was high-passed at 0.5 Hz before" in report.high_pass
    means = epochs.get_data(copy=True).mean(axis=-1) * 1e6
    assert means.std() > 1
    np.testing.assert_allclose(data.mean(axis=-1), means, atol=0.3)


def test_long_epochs_are_high_passed(make_epochs):
    epochs = make_epochs(seconds=12.0, n_epochs=3)
    data, report = conform_epochs_array(epochs, line_freq=50)
    assert report.high_pass == "0.1 Hz"
    assert report.notch == "50 Hz, given by line_freq"
    chain = design_chain(250.0, 200.0, l_freq=0.1, h_freq=75.0, notch_freqs=[50.0])
    np.testing.assert_allclose(data, chain.apply(epochs.get_data(copy=True) * 1e6), atol=1e-2)


@pytest.mark.parametrize("seconds", [1.0, 3.0, 8.0])
@pytest.mark.parametrize("sfreq", [128.0, 250.0])
def test_hum_is_removed_from_epochs_of_any_length(make_epochs, seconds, sfreq):
    loud, report = conform_epochs_array(make_epochs(seconds, sfreq, hum=80.0), line_freq=50)
    still, _ = conform_epochs_array(make_epochs(seconds, sfreq), line_freq=50)
    assert ("sinusoid" in report.notch) == (seconds < 6.6)
    # At the ends of a longer epoch the notch filter rings on.
    inside = slice(None) if seconds < 6.6 else slice(700, -700)
    assert np.abs(loud - still)[..., inside].max() < 2.5
    kept, _ = conform_epochs_array(make_epochs(seconds, sfreq, hum=80.0), line_freq=0)
    assert np.abs(kept - still).max() > 40
    found, report = conform_epochs_array(make_epochs(seconds, sfreq, hum=80.0))
    assert report.line_freq == 50
    np.testing.assert_allclose(found, loud, atol=1e-3)


@settings(max_examples=50)
@given(
    n_times=st.integers(120, 900),
    freq=st.floats(45, 62),
    phase=st.floats(0, 6.3),
    offset=st.floats(-1e4, 1e4),
    slope=st.floats(-1e3, 1e3),
)
def test_subtract_sinusoids(n_times, freq, phase, offset, slope):
    """A sinusoid on a slope goes, and the slope stays."""
    times = np.arange(n_times) / 250.0
    rest = offset + slope * times
    x = np.stack([rest + 100 * np.sin(2 * np.pi * freq * times + phase), rest])
    kept = x.copy()
    out = subtract_sinusoids(x, 250.0, [freq])
    np.testing.assert_array_equal(x, kept)
    np.testing.assert_allclose(out, np.stack([rest, rest]), atol=1e-6)


def test_hum_above_the_low_pass(make_epochs):
    _, report = conform_epochs_array(make_epochs(), SignalContract(h_freq=35.0), line_freq=50)
    assert report.notch == "none needed: 50 Hz lies above the low-pass"


def test_evoked(make_epochs):
    average = make_epochs(n_epochs=20).average()
    average.comment = "standard"
    data, report = conform_epochs_array(average)
    assert data.shape == (1, 8, 400)
    assert (report.kind, report.n_epochs) == ("evoked", 1)
    out, _ = conform(average)
    assert isinstance(out, mne.EvokedArray)
    assert (out.comment, out.nave, out.tmin) == ("standard", 20, average.tmin)
    np.testing.assert_allclose(out.data, data[0] * 1e-6, rtol=1e-6)


def test_array(make_epochs):
    epochs = make_epochs(sfreq=256.0)
    x = epochs.get_data(copy=True) * 1e6
    before = x.copy()
    data, report = conform_array(x, epochs.ch_names, 256.0)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_allclose(data, conform_epochs_array(epochs)[0], atol=1e-3)
    assert report.kind == "array"
    assert report.unit == "µV"
    in_float32, _ = conform_array(x.astype(np.float32), epochs.ch_names, 256.0)
    np.testing.assert_allclose(in_float32, data, atol=1e-2)
    in_integers, _ = conform_array(np.round(x).astype(np.int16), epochs.ch_names, 256.0)
    assert np.abs(in_integers - data).max() < 2
    fewer, report = conform_array(x, epochs.ch_names, 256.0, ch_names=["O1", "T7", "C3"])
    assert report.ch_names == ["O1", "C3"]
    np.testing.assert_array_equal(fewer, data[:, [6, 4]])
    assert [row.index for row in report.channel_map.rows] == [6, 4]


def test_order_of_rows_with_other_channels_between(make_epochs):
    names = ["ECG", "Fp1", "junk", "Fp2", "EOG", "F3"]
    epochs = make_epochs(names=names, types=["eeg", "eeg", "eeg", "eeg", "eog", "eeg"])
    epochs.info["bads"] = ["Fp1"]
    data, report = conform_epochs_array(epochs, ch_names=["F3", "FP2"])
    assert report.ch_names == ["F3", "FP2"]
    assert [row.index for row in report.channel_map.rows] == [5, 3]
    alone, _ = conform_epochs_array(epochs.copy().pick(["F3"]))
    np.testing.assert_allclose(data[:, :1], alone, atol=1e-4)
    everything, report = conform_epochs_array(epochs, keep_bads=True)
    assert report.ch_names == ["FP1", "FP2", "F3"]


def test_epochs_that_were_not_read_stay_so(make_raw):
    """MNE rejects epochs in place when it reads them; the object that was given is not the place."""
    raw = make_raw(20, edit=lambda x: x.__setitem__((0, slice(1000, 1010)), 1e4))
    events = mne.make_fixed_length_events(raw, duration=2.0)
    epochs = mne.Epochs(
        raw, events, tmin=0, tmax=2 - 1 / 250, baseline=None, reject={"eeg": 1e-3}, preload=False, verbose="ERROR"
    )
    before = (epochs.events.copy(), epochs.selection.copy(), epochs.drop_log)
    out, _ = conform(epochs)
    assert len(out) == len(events) - 1
    np.testing.assert_array_equal(out.events, np.delete(events, 2, axis=0))
    data, _ = conform_epochs_array(epochs)
    np.testing.assert_allclose(out.get_data(units="uV"), data, rtol=1e-5)
    assert not epochs.preload
    np.testing.assert_array_equal(epochs.events, before[0])
    np.testing.assert_array_equal(epochs.selection, before[1])
    assert epochs.drop_log == before[2]


def test_volts_as_microvolts_are_refused(make_epochs):
    volts = make_epochs().get_data(copy=True)
    with pytest.raises(ContractError, match=r"The array has a median amplitude of .* pass assume_unit='V'"):
        conform_array(volts, NAMES, 250.0)
    data, _ = conform_array(volts, NAMES, 250.0, assume_unit="V")
    np.testing.assert_allclose(data, conform_array(volts * 1e6, NAMES, 250.0)[0], atol=1e-3)
    microvolts = mne.EpochsArray(volts * 1e6, mne.create_info(list(NAMES), 250.0, "eeg"), verbose="ERROR")
    with pytest.raises(ContractError, match="pass assume_unit='uV'"):
        conform(microvolts)


def test_unusable_epochs(make_epochs):
    def edit(x):
        x[:5, 500 * 2 + 7] = np.nan
        x[:, 500 * 4 : 500 * 5] = 3.0
        x[:3, 500 * 6 : 500 * 7] = np.nan
        x[2] = 0

    data, report = conform_epochs_array(make_epochs(edit=edit))
    assert np.isfinite(data).all()
    assert report.ch_names == ["FP1", "FP2", "F4", "C3", "C4", "O1", "O2"]
    assert np.flatnonzero(~report.usable_epochs).tolist() == [2, 4]
    assert report.reasons == {"epochs missing": 1, "epochs flat": 1}
    assert report.channel_seconds["FP1"]["missing"] == 3
    assert report.channel_seconds["FP1"]["flat"] == 2
    assert report.seconds_usable == 16.0


def test_average_reference(make_epochs):
    data, report = conform_epochs_array(make_epochs(), SignalContract(reference="average"))
    np.testing.assert_allclose(data.mean(axis=1), 0, atol=1e-4)
    assert "average of the 8" in report.reference


@pytest.mark.parametrize(
    ("x", "labels", "sfreq", "error", "words"),
    [
        (np.ones((2, 3)), NAMES[:3], 250.0, ValueError, "shape"),
        (np.ones((2, 3, 500)), NAMES[:2], 250.0, ValueError, "3 channels and 2 channel names"),
        (np.ones((2, 3, 500)), "Fp1", 250.0, ValueError, "channel names"),
        (np.ones((2, 3, 500), dtype=complex), NAMES[:3], 250.0, TypeError, "real numbers"),
        (np.array([[["a"]]]), NAMES[:1], 250.0, TypeError, "real numbers"),
        (np.ones((2, 0, 500)), (), 250.0, ContractError, "no channels"),
        (np.ones((0, 3, 500)), NAMES[:3], 250.0, ContractError, "no epochs"),
        (np.ones((2, 3, 0)), NAMES[:3], 250.0, ContractError, "lasts 0 s"),
        (np.ones((2, 3, 240)), NAMES[:3], 250.0, ContractError, r"An epoch lasts 0\.96 s and one patch"),
        (np.ones((2, 3, 500)), NAMES[:3], 250.0, ContractError, "constant"),
        (np.full((2, 3, 500), np.nan), NAMES[:3], 250.0, ContractError, "constant"),
        (np.random.default_rng(0).normal(0, 10, (2, 3, 500)), ("x", "y", "z"), 250.0, ContractError, "can be used"),
        (np.random.default_rng(0).normal(0, 10, (2, 3, 500)), NAMES[:3], 0.15, ContractError, "sampling rate is 0.15"),
        (
            np.random.default_rng(0).normal(0, 10, (2, 3, 500)),
            NAMES[:3],
            0,
            ValueError,
            "sfreq must be the sampling rate",
        ),
        (
            np.random.default_rng(0).normal(0, 10, (2, 3, 500)),
            NAMES[:3],
            -1,
            ValueError,
            "sfreq must be the sampling rate",
        ),
        (
            np.random.default_rng(0).normal(0, 10, (2, 3, 500)),
            NAMES[:3],
            np.nan,
            ValueError,
            "sfreq must be the sampling rate",
        ),
    ],
)
def test_bad_arrays(x, labels, sfreq, error, words):
    with pytest.raises(error, match=words) as caught:
        conform_array(x, labels, sfreq)
    assert "\n" not in str(caught.value)


def test_raw_is_not_for_epochs(make_raw):
    with pytest.raises(TypeError, match="Epochs or an Evoked are needed, got RawArray"):
        conform_epochs_array(make_raw(2))


def test_real_epochs(shared_data):
    """UCI EEG: one-second epochs at 256 Hz, one patch each."""
    files = sorted((shared_data / "uci_eeg").glob("*-epo.fif"))
    assert len(files) == 14
    for fname in files[:3]:
        data, report = conform_epochs_array(fname)
        assert data.shape == (30, 61, 200)
        assert report.source == fname.name
        assert {label for label, _ in report.dropped} == {"X", "Y", "nd"}
        epochs = mne.read_epochs(fname, verbose="ERROR")
        x = epochs.get_data(picks="eeg", copy=False)[:, :, ::16] * 1e6
        x -= x.mean(axis=-1, keepdims=True)
        assert data.std() == pytest.approx(x.std(), rel=0.2)
