"""Recordings to files and back, around coders that are as simple as can be."""

from __future__ import annotations

import json
import os

import joblib
import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mne_labram.codec import compression
from mne_labram.codec.compression import braincodec_compress, braincodec_decompress
from mne_labram.codec.container import ContainerReader
from mne_labram.signal.contract import ContractError

pytestmark = pytest.mark.usefixtures("stub_coders")
TYPES = ["eeg"] * 4 + ["eog", "ecg", "stim", "misc"]
NAMES = ["F3", "F4", "C3", "C4", "EOG", "ECG", "STI", "resp"]


def on_grid(x: np.ndarray, step: float = 0.25) -> None:
    """Round µV in place, as a converter does."""
    np.rint(x / step, out=x)
    x *= step


@pytest.fixture
def mixed_raw(make_raw):
    """Make channels of every kind; respiration on no grid, triggers among them."""

    def edit(x: np.ndarray) -> None:
        on_grid(x[:6])
        x[6] = 1e6 * (np.arange(x.shape[1]) % 100 == 0)

    raw = make_raw(names=NAMES, types=TYPES, edit=edit, seconds=10)
    raw.set_annotations(mne.Annotations([1.0], [2.0], ["sz"]))
    return raw


def test_lossy(mixed_raw, tmp_path):
    report = braincodec_compress(mixed_raw, tmp_path / "a.bcz", block_seconds=3)
    back = braincodec_decompress(tmp_path / "a.bcz")
    x, y = mixed_raw.get_data(), back.get_data()
    np.testing.assert_allclose(y[:5], x[:5], rtol=2e-7)
    assert (x[:5] != y[:5]).any()
    # Grids are found to the last bit or two; what has none is kept bit by bit.
    np.testing.assert_allclose(y[5], x[5], rtol=1e-14, atol=1e-20)
    np.testing.assert_array_equal(y[6:], x[6:])
    assert mne.utils.object_diff(back.info, mixed_raw.info) == ""
    assert back.annotations == mixed_raw.annotations
    assert (report.n_channels, report.n_coded) == (8, 5)
    assert report.n_bytes == (tmp_path / "a.bcz").stat().st_size
    assert 0 < report.quality["prd"] < 1e-4
    assert back.filenames == (tmp_path / "a.bcz",)


def test_lossless(mixed_raw, tmp_path):
    report = braincodec_compress(mixed_raw, tmp_path / "a.bcz", mode="lossless", block_seconds=3)
    back = braincodec_decompress(tmp_path / "a.bcz", preload=True)
    x, y = mixed_raw.get_data(), back.get_data()
    np.testing.assert_allclose(y, x, rtol=1e-14, atol=1e-20)
    np.testing.assert_array_equal(np.rint(y[:6] / 0.25e-6), np.rint(x[:6] / 0.25e-6))
    assert report.quality["largest_error"] == 0
    assert "every sample is as it was" in str(report)


@pytest.mark.parametrize("kind", ["EDF", "EDF+C", "BDF"])
def test_integers_of_edf_files(write_edf, tmp_path, make_eeg, kind):
    """Every integer of the converter is found again, and the floats are MNE's to within their rounding."""
    path = write_edf(kind=kind, physical=(-3276.7, 3276.8), seconds=12, n_chans=4)
    report = braincodec_compress(path, tmp_path / "a.bcz", mode="lossless", block_seconds=5)
    x = mne.io.read_raw(path, preload=True, verbose="error").get_data()
    y = braincodec_decompress(tmp_path / "a.bcz").get_data()
    levels = 2**24 if kind == "BDF" else 2**16
    step = (3276.8 + 3276.7) * 1e-6 / (levels - 1)
    np.testing.assert_array_equal(np.rint(y / step), np.rint(x / step))
    np.testing.assert_allclose(y, x, rtol=0, atol=np.finfo(float).eps * 3276.8e-6)
    assert report.source_bits == (24 if kind == "BDF" else 16)


def test_upside_down_converters(write_edf, tmp_path):
    path = write_edf(physical=(500, -400))
    braincodec_compress(path, tmp_path / "a.bcz", mode="lossless")
    x = mne.io.read_raw(path, preload=True, verbose="error").get_data()
    np.testing.assert_allclose(braincodec_decompress(tmp_path / "a.bcz").get_data(), x, rtol=0, atol=1e-18)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    "name",
    [
        "eegmat/Subject20_2.edf",
        "chbmit/chb01_03_ictal.edf",
        "clinical_formats/edf/eeglab_test.edf",
        "clinical_formats/biosemi_bdf/eeglab_test.bdf",
        "clinical_formats/nihon_kohden/MB0400FU.EEG",
        "clinical_formats/brainvision/test.vhdr",
    ],
)
def test_real_converters(shared_data, tmp_path, name):
    """Recordings of six recorders: no sample differs by more than the rounding of float64."""
    raw = mne.io.read_raw(shared_data / name, verbose="error")
    braincodec_compress(raw, tmp_path / "a.bcz", mode="lossless", report=False)
    x, y = raw.get_data(), braincodec_decompress(tmp_path / "a.bcz").get_data()
    # Of EDF and BDF files, what MNE computes with is as large as the range of the converter: 0.26 V here at most.
    largest = np.maximum(np.abs(x).max(1, keepdims=True), 0.26 if name.endswith(("edf", "bdf")) else 0)
    assert (np.abs(x - y) <= 2 * np.finfo(float).eps * largest).all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_float_files_have_no_integers(shared_data, tmp_path):
    raw = mne.io.read_raw(shared_data / "mi_openbci" / "S02_S1R0_raw.fif", verbose="error")
    with pytest.raises(ContractError, match=r"does not lie on a digital grid.*pass max_error=0.1 \(µV\)"):
        braincodec_compress(raw, tmp_path / "a.bcz", mode="lossless")
    assert os.listdir(tmp_path) == []
    report = braincodec_compress(raw, tmp_path / "a.bcz", mode="lossless", max_error=0.5)
    error = np.abs(raw.get_data() - braincodec_decompress(tmp_path / "a.bcz").get_data()).max() * 1e6
    assert 0.4 < error <= 0.5 * (1 + 1e-6)
    assert report.quality["largest_error"] == pytest.approx(error)


@pytest.mark.parametrize("max_error", [0.1, 0.25, 0.6, 3.0])
def test_bounded_error(mixed_raw, tmp_path, max_error):
    """Only the coded channels may differ, and by no more than was allowed."""
    exact = braincodec_compress(mixed_raw, tmp_path / "a.bcz", mode="lossless", block_seconds=3)
    report = braincodec_compress(mixed_raw, tmp_path / "b.bcz", mode="lossless", block_seconds=3, max_error=max_error)
    x, y = mixed_raw.get_data(), braincodec_decompress(tmp_path / "b.bcz").get_data()
    error = np.abs(x - y) * 1e6
    # On a grid of 0.25 µV, errors are whole steps, unless so many are allowed that the grid is of no use.
    expected = 0.25 * np.floor(max_error / 0.25)
    assert error[:5].max() == pytest.approx(expected, rel=0.05, abs=1e-9)
    assert error[:5].max() <= max_error * (1 + 1e-9)
    assert error[5:].max() < 1e-12 * 1e6
    assert report.n_bytes < exact.n_bytes or expected == 0


def test_bounded_error_of_epochs(shared_data, tmp_path):
    """Float32 that nearly lie on a grid."""
    epochs = mne.read_epochs(shared_data / "uci_eeg" / "co2a0000364-epo.fif", verbose="error")
    raw = mne.io.RawArray(np.concatenate(list(epochs.get_data()), axis=1), epochs.info, verbose="error")
    braincodec_compress(raw, tmp_path / "a.bcz", mode="lossless", max_error=0.5)
    error = np.abs(raw.get_data() - braincodec_decompress(tmp_path / "a.bcz").get_data()).max()
    assert 0.2e-6 < error <= 0.5e-6 * (1 + 1e-9)


def test_too_large_for_a_bounded_error(make_raw, tmp_path):
    raw = make_raw(edit=lambda x: x[2].__imul__(1e9))
    with pytest.raises(ContractError, match="Channel 'F3' is too large between 0 and 20 s to be kept to within 0.5 µV"):
        braincodec_compress(raw, tmp_path / "a.bcz", mode="lossless", max_error=0.5)


def test_a_grid_that_ends_in_the_middle(make_raw, tmp_path):
    """Excerpts all lie on a grid and one block does not: an error names channel and time, and no file is left."""

    def edit(x: np.ndarray) -> None:
        on_grid(x)
        x[2, 3000:3200] += 0.01 * np.sin(np.arange(200))

    raw = make_raw(seconds=60, edit=edit)
    with pytest.raises(ContractError, match=r"Channel 'F3' does not lie on a digital grid between 10 and 15 s"):
        braincodec_compress(raw, tmp_path / "a.bcz", mode="lossless", block_seconds=5)
    assert os.listdir(tmp_path) == []


def test_a_grid_that_changes(make_raw, tmp_path):
    """Two recordings of different gain in one: each block has its own grid."""

    def edit(x: np.ndarray) -> None:
        on_grid(x[:, :7500], 0.25)
        on_grid(x[:, 7500:], 0.13)

    raw = make_raw(seconds=60, edit=edit)
    braincodec_compress(raw, tmp_path / "a.bcz", mode="lossless", block_seconds=5)
    np.testing.assert_allclose(
        braincodec_decompress(tmp_path / "a.bcz").get_data(), raw.get_data(), rtol=1e-13, atol=1e-19
    )


@pytest.mark.parametrize("mode", ["hybrid", "lossless"])
def test_nan_stays_nan(mixed_raw, tmp_path, mode):
    raw = mixed_raw
    raw._data[1, 500:700] = np.nan
    raw._data[3] = np.nan
    raw._data[7, 0] = np.nan
    report = braincodec_compress(raw, tmp_path / "a.bcz", mode=mode, block_seconds=3)
    x, y = raw.get_data(), braincodec_decompress(tmp_path / "a.bcz").get_data()
    np.testing.assert_array_equal(np.isnan(x), np.isnan(y))
    np.testing.assert_allclose(x, y, rtol=2e-7)
    assert report.n_missing == 200 + 2500 + 1
    assert report.notes == ["Samples are NaN, first in channel 'F4' at 2 s."] or "'C4' at 0 s" in report.notes[0]
    assert np.isfinite(report.quality["prd"])


def test_infinity_is_refused(make_raw, tmp_path):
    raw = make_raw(edit=lambda x: x.__setitem__((2, 1000), np.inf))
    with pytest.raises(ContractError, match="Channel 'F3' is infinite at 4 s"):
        braincodec_compress(raw, tmp_path / "a.bcz")
    misc = make_raw(types="misc", edit=lambda x: x.__setitem__((2, 1000), np.inf))
    braincodec_compress(misc, tmp_path / "a.bcz")
    np.testing.assert_array_equal(braincodec_decompress(tmp_path / "a.bcz").get_data(), misc.get_data())


@pytest.mark.parametrize("mode", ["hybrid", "lossless"])
@pytest.mark.parametrize(
    ("n_channels", "seconds", "edit"),
    [
        (1, 0.5, None),
        (1, 0.004, None),
        (256, 1.0, None),
        (3, 5.0, lambda x: x.__setitem__(1, 12.0)),
        (3, 5.0, lambda x: x.__setitem__(slice(None), 0.0)),
        (2, 5.0, lambda x: x.__imul__(1e9)),
        (2, 5.0, lambda x: x.__imul__(1e-9)),
    ],
)
def test_odd_recordings(make_raw, tmp_path, mode, n_channels, seconds, edit):
    """One channel, many, half a second, one sample, constant, zero, kilovolts and femtovolts."""
    names = [f"E{i}" for i in range(n_channels)]

    def both(x: np.ndarray) -> None:
        on_grid(x)
        if edit is not None:
            edit(x)

    raw = make_raw(names=names, seconds=seconds, edit=both)
    report = braincodec_compress(raw, tmp_path / "a.bcz", mode=mode)
    np.testing.assert_allclose(
        braincodec_decompress(tmp_path / "a.bcz").get_data(), raw.get_data(), rtol=2e-7, atol=1e-20
    )
    assert str(report)
    json.dumps(report.to_dict(), allow_nan=False)


def test_other_channels_alone(make_raw, tmp_path):
    raw = make_raw(types="ecg")
    report = braincodec_compress(raw, tmp_path / "a.bcz")
    np.testing.assert_array_equal(braincodec_decompress(tmp_path / "a.bcz").get_data(), raw.get_data())
    assert report.n_coded == 0
    assert np.isnan(report.bits_per_second)
    assert report.to_dict()["bits_per_second"] is None


def test_channels_kept_exactly_on_request(mixed_raw, tmp_path):
    report = braincodec_compress(mixed_raw, tmp_path / "a.bcz", lossless_channels=["C3"])
    y = braincodec_decompress(tmp_path / "a.bcz").get_data()
    np.testing.assert_allclose(y[2], mixed_raw.get_data()[2], rtol=1e-14, atol=1e-20)
    assert report.n_coded == 4
    for wrong in ("C3", ["C7"]):
        with pytest.raises(ValueError, match="lossless_channels must be a list of channels"):
            braincodec_compress(mixed_raw, tmp_path / "b.bcz", lossless_channels=wrong)


@pytest.mark.parametrize("mode", ["hybrid", "lossless"])
def test_processes_change_nothing(mixed_raw, tmp_path, mode):
    """The same bytes, the same samples and the same report, whatever n_jobs."""
    one = braincodec_compress(mixed_raw, tmp_path / "a.bcz", mode=mode, block_seconds=1)
    # Threads: the stubs are registered in this process only.
    with joblib.parallel_config("threading"):
        two = braincodec_compress(mixed_raw, tmp_path / "b.bcz", mode=mode, block_seconds=1, n_jobs=2)
        y = braincodec_decompress(tmp_path / "b.bcz", n_jobs=2).get_data()
    assert (tmp_path / "a.bcz").read_bytes() == (tmp_path / "b.bcz").read_bytes()
    assert one.to_dict() | {"fname": ""} == two.to_dict() | {"fname": ""}
    np.testing.assert_array_equal(y, braincodec_decompress(tmp_path / "a.bcz").get_data())


def test_a_file_is_compressed_piece_by_piece(make_raw, tmp_path, monkeypatch):
    """Of a recording on disk, no more than a block is read at a time, in order and once, but for short excerpts."""
    make_raw(seconds=300).save(tmp_path / "a_raw.fif", verbose="error")
    raw = mne.io.read_raw(tmp_path / "a_raw.fif", verbose="error")
    read = []
    original = compression.RawSource.__call__

    def spy(self, start, stop):
        read.append((start, stop))
        return original(self, start, stop)

    monkeypatch.setattr(compression.RawSource, "__call__", spy)
    braincodec_compress(raw, tmp_path / "a.bcz", block_seconds=20)
    assert not raw.preload
    blocks = [(start, stop) for start, stop in read if stop - start == 5000]
    assert max(stop - start for start, stop in read) == 5000
    assert blocks == [(start, start + 5000) for start in range(0, 75_000, 5000)]


def test_mixed_rates(write_edf, tmp_path, make_eeg):
    """What MNE gives when it reads everything at once: piece by piece, its resampling leaves edges."""
    signals = [make_eeg(1, 2000, 100)[0], make_eeg(1, 1000, 50)[0]]
    path = write_edf(signals=signals, rates=[100, 50])
    report = braincodec_compress(path, tmp_path / "a.bcz", block_seconds=4)
    x = mne.io.read_raw(path, preload=True, verbose="error").get_data()
    np.testing.assert_allclose(braincodec_decompress(tmp_path / "a.bcz").get_data(), x, rtol=2e-7, atol=1e-15)
    assert report.notes == ["Channels have different sampling rates; all were read into memory at the highest of them."]


def test_annotations_outside_are_kept_and_told(make_raw, tmp_path):
    raw = make_raw()
    raw.annotations.append([1000.0, 1.0], [1.0, 2.0], ["late", "sz"])
    report = braincodec_compress(raw, tmp_path / "a.bcz")
    assert report.notes == ["1 annotation(s) lie outside the recording and were kept as they are."]
    assert braincodec_decompress(tmp_path / "a.bcz").annotations == raw.annotations


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"mode": "best"}, "mode must be one of 'hybrid', 'lossless', 'neural', got 'best'"),
        ({"mode": None}, "mode must be one of"),
        ({"bitrate": 0}, "bitrate must lie above 0"),
        ({"bitrate": "256"}, "bitrate must lie above 0"),
        ({"bitrate": float("nan")}, "bitrate must lie above 0"),
        ({"max_error": 1.0}, "max_error bounds the error of mode='lossless' alone"),
        ({"max_error": -1, "mode": "lossless"}, "max_error must be 0 or more"),
        ({"max_error": float("inf"), "mode": "lossless"}, "max_error must be 0 or more"),
        ({"block_seconds": 0}, "block_seconds must lie between 1 and 3600"),
        ({"block_seconds": True}, "block_seconds must lie between 1 and 3600"),
        ({"n_jobs": 0}, "n_jobs must be a whole number other than 0"),
        ({"n_jobs": 1.5}, "n_jobs must be a whole number other than 0"),
    ],
)
def test_arguments(make_raw, tmp_path, kwargs, match):
    with pytest.raises(ValueError, match=match):
        braincodec_compress(make_raw(), tmp_path / "a.bcz", **kwargs)
    assert os.listdir(tmp_path) == []


def test_places(make_raw, tmp_path):
    raw = make_raw()
    with pytest.raises(ValueError, match=r"A compressed recording is written as .bcz and not to 'a.zip'"):
        braincodec_compress(raw, tmp_path / "a.zip")
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        braincodec_compress(raw, tmp_path / "no" / "a.bcz")
    (tmp_path / "d.bcz").mkdir()
    with pytest.raises(IsADirectoryError, match="is a folder"):
        braincodec_compress(raw, tmp_path / "d.bcz")
    braincodec_compress(raw, tmp_path / "a.bcz")
    before = (tmp_path / "a.bcz").read_bytes()
    with pytest.raises(FileExistsError, match="exists already; pass overwrite=True"):
        braincodec_compress(raw.copy().pick(["F3"]), tmp_path / "a.bcz")
    assert (tmp_path / "a.bcz").read_bytes() == before
    braincodec_compress(raw.copy().pick(["F3"]), tmp_path / "a.bcz", overwrite=True)
    assert braincodec_decompress(tmp_path / "a.bcz").ch_names == ["F3"]
    assert sorted(os.listdir(tmp_path)) == ["a.bcz", "d.bcz"]


def test_not_onto_itself(make_raw, tmp_path):
    braincodec_compress(make_raw(), tmp_path / "a.bcz")
    for source in (tmp_path / "a.bcz", braincodec_decompress(tmp_path / "a.bcz")):
        with pytest.raises(ValueError, match="is the recording itself"):
            braincodec_compress(source, tmp_path / "a.bcz", overwrite=True)
    braincodec_compress(tmp_path / "a.bcz", tmp_path / "b.bcz")
    np.testing.assert_allclose(
        braincodec_decompress(tmp_path / "b.bcz").get_data(), braincodec_decompress(tmp_path / "a.bcz").get_data()
    )


def test_not_a_recording(make_raw, tmp_path):
    epochs = mne.make_fixed_length_epochs(make_raw(), preload=True, verbose="error")
    with pytest.raises(TypeError, match="A continuous recording is needed and this is Epochs"):
        braincodec_compress(epochs, tmp_path / "a.bcz")
    with pytest.raises(TypeError, match="fname must be the path to write to, got RawArray; the recording comes first"):
        braincodec_compress("some.edf", make_raw())
    with pytest.raises(TypeError, match="A Raw, Epochs, Evoked or a path is needed"):
        braincodec_compress(np.zeros((2, 100)), tmp_path / "a.bcz")
    with pytest.raises(ContractError, match="There is no file"):
        braincodec_compress(tmp_path / "no.edf", tmp_path / "a.bcz")


def test_a_source_that_ends_early(make_raw, tmp_path):
    """MNE opens a FIF file whose end is gone; the error comes while reading, and no file is left."""
    make_raw(seconds=60).save(tmp_path / "a_raw.fif", verbose="error")
    raw = mne.io.read_raw(tmp_path / "a_raw.fif", verbose="error")
    with open(tmp_path / "a_raw.fif", "r+b") as file:
        file.truncate(200_000)
    with pytest.raises(ContractError, match="damaged or was cut short"):
        braincodec_compress(raw, tmp_path / "a.bcz", block_seconds=10)
    assert os.listdir(tmp_path) == ["a_raw.fif"]


def test_missing_weights_are_named(make_raw, tmp_path):
    with pytest.raises(ContractError, match=rf"'braincodec-of-yesterday' \(SHA-256 {'ab' * 32}\), which are not"):
        braincodec_compress(make_raw(), tmp_path / "a.bcz", mode="neural")


def test_the_header_says_what_the_file_is(mixed_raw, tmp_path):
    braincodec_compress(mixed_raw, tmp_path / "a.bcz", mode="lossless")
    header = ContainerReader(tmp_path / "a.bcz").header
    assert header["mode"] == "lossless"
    assert header["n_times"] == 2500
    assert header["sfreq"] == 250.0
    assert header["writer"].startswith("mne_labram ")
    grid, bits, limits = header["storage"]["source"][0]
    assert grid == pytest.approx([0, 0.25e-6], rel=1e-9)
    assert bits == 16
    assert limits is None


@settings(max_examples=25)
@given(
    st.integers(1, 4),
    st.integers(1, 700),
    st.floats(20, 1000),
    st.integers(-50, 5000),
    st.floats(1, 5),
    st.sampled_from(["hybrid", "lossless"]),
)
def test_any_length_and_rate(tmp_path_factory, n_channels, n_times, sfreq, first, block_seconds, mode):
    x = np.rint(30 * np.random.default_rng(n_times).standard_normal((n_channels, n_times))) * 1e-7
    raw = mne.io.RawArray(x, mne.create_info(n_channels, sfreq, "eeg"), first_samp=first, verbose="error")
    path = tmp_path_factory.mktemp("a") / "a.bcz"
    braincodec_compress(raw, path, mode=mode, block_seconds=block_seconds)
    back = braincodec_decompress(path)
    assert (back.n_times, back.first_samp, back.info["sfreq"]) == (n_times, first, sfreq)
    np.testing.assert_allclose(back.get_data(), x, rtol=2e-7, atol=1e-20)
    np.testing.assert_array_equal(back.times, raw.times)
