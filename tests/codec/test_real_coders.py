"""The coders that ship, inside the file."""

from __future__ import annotations

import warnings

import mne
import numpy as np
import pytest

from mne_labram.codec.compression import braincodec_compress, braincodec_decompress
from mne_labram.codec.container import ContainerReader, ContainerWriter
from mne_labram.signal.contract import ContractError


@pytest.fixture
def raw(make_raw):
    """Make 12 s of eight channels on a grid of 0.1 µV, and respiration on none."""

    def edit(x: np.ndarray) -> None:
        x[:8] = np.rint(x[:8] * 10) / 10

    names = ["Fp1", "Fp2", "F3", "F4", "C3", "C4", "O1", "O2", "resp"]
    return make_raw(names=names, types=["eeg"] * 8 + ["misc"], seconds=12, edit=edit)


@pytest.mark.parametrize("bitrate", [64, 256, 1024])
def test_the_budget_is_kept(raw, tmp_path, bitrate):
    """Of every block, and more bits are less error."""
    report = braincodec_compress(raw, tmp_path / "a.bcz", bitrate=bitrate, block_seconds=4)
    assert report.bits_per_second <= bitrate
    assert report.bits_per_second > 0.8 * bitrate
    back = braincodec_decompress(tmp_path / "a.bcz")
    error = 1e6 * (back.get_data() - raw.get_data())
    assert np.abs(error[:8]).max() == pytest.approx(report.quality["largest_error"], rel=1e-6)
    np.testing.assert_array_equal(error[8], 0)
    assert report.quality["prd"] < {64: 100, 256: 70, 1024: 20}[bitrate]


def test_exact(raw, tmp_path):
    report = braincodec_compress(raw, tmp_path / "a.bcz", mode="lossless", block_seconds=4)
    y = braincodec_decompress(tmp_path / "a.bcz").get_data()
    np.testing.assert_array_equal(np.rint(y[:8] * 1e7), np.rint(raw.get_data()[:8] * 1e7))
    np.testing.assert_array_equal(y[8], raw.get_data()[8])
    assert report.ratio > 1


@pytest.mark.parametrize("mode", ["hybrid", "lossless"])
def test_holes_constants_and_lengths(make_raw, tmp_path, mode):
    def edit(x: np.ndarray) -> None:
        np.rint(x, out=x)
        x[1, 300:700] = np.nan
        x[2] = 40.0
        x[3] = np.nan

    for seconds in (0.5, 0.004, 7.3):
        raw = make_raw(names=["F3", "F4", "C3", "C4"], seconds=seconds, edit=edit)
        braincodec_compress(raw, tmp_path / "a.bcz", mode=mode, overwrite=True)
        x, y = raw.get_data(), braincodec_decompress(tmp_path / "a.bcz").get_data()
        np.testing.assert_array_equal(np.isnan(x), np.isnan(y))
        if mode == "lossless":
            np.testing.assert_allclose(x, y, rtol=1e-12)


def test_other_weights_are_refused(raw, tmp_path):
    """Name and both checksums, before anything is decoded."""
    braincodec_compress(raw, tmp_path / "a.bcz", report=False)
    reader = ContainerReader(tmp_path / "a.bcz")
    weights = reader.header["storage"]["main"]["parameters"]["weights"]
    installed, weights["sha256"] = weights["sha256"], "f" * 64
    with ContainerWriter(tmp_path / "b.bcz", reader.header) as writer:
        writer.add(reader.read(0))
    with pytest.raises(ContractError, match=f"'{weights['name']}'.*{'f' * 64}.*{installed}"):
        braincodec_decompress(tmp_path / "b.bcz")


@pytest.mark.parametrize("mode", ["hybrid", "lossless"])
def test_payloads_of_other_blocks(raw, tmp_path, mode):
    """A body with a fitting checksum that is no body: one sentence, and no crash."""
    braincodec_compress(raw, tmp_path / "a.bcz", mode=mode, report=False, block_seconds=4)
    reader = ContainerReader(tmp_path / "a.bcz")
    rng = np.random.default_rng(0)
    whole = reader.read(1)
    x = 1e6 * raw.get_data()[:, 1000:2000]
    refused = 0
    for _ in range(60):
        body = bytearray(whole)
        for at in rng.integers(0, len(body), 3):
            body[at] ^= 1 << int(rng.integers(8))
        if rng.random() < 0.3:
            del body[int(rng.integers(len(body))) :]
        with ContainerWriter(tmp_path / "b.bcz", reader.header) as writer:
            for each in (reader.read(0), bytes(body), reader.read(2)):
                writer.add(each)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                y = braincodec_decompress(tmp_path / "b.bcz").get_data(start=1000, stop=2000)
            except ContractError:
                refused += 1
            else:
                # No checksum was wrong, so that anything may come, but not nothing.
                assert y.shape == x.shape
        (tmp_path / "b.bcz").unlink()
    assert refused > 0


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["hybrid", "lossless"])
def test_real_processes_change_nothing(raw, tmp_path, mode):
    for n_jobs in (1, 2):
        path = tmp_path / f"{n_jobs}.bcz"
        braincodec_compress(raw, path, mode=mode, block_seconds=3, n_jobs=n_jobs, report=False)
    assert (tmp_path / "1.bcz").read_bytes() == (tmp_path / "2.bcz").read_bytes()
    one, other = (braincodec_decompress(tmp_path / "1.bcz", n_jobs=n_jobs).get_data() for n_jobs in (1, 2))
    np.testing.assert_array_equal(one, other)


def test_a_compressed_recording_in_a_pipeline(raw, tmp_path):
    """Filtered, cut into epochs and saved as any other."""
    braincodec_compress(raw, tmp_path / "a.bcz", bitrate=512)
    back = braincodec_decompress(tmp_path / "a.bcz")
    back.load_data(verbose="error").filter(1, 40, verbose="error")
    epochs = mne.make_fixed_length_epochs(back, 2.0, preload=True, verbose="error")
    assert len(epochs) == 6
    assert np.isfinite(epochs.get_data()).all()


@pytest.mark.parametrize(
    ("mode", "sfreq", "said"), [("neural", 500.0, True), ("neural", 200.0, False), ("hybrid", 500.0, False)]
)
def test_lost_rate_is_said(make_raw, tmp_path, mode, sfreq, said):
    """The neural codec has 200 Hz: whoever gives it more is told, in the report and in the log."""
    raw = make_raw(names=["F3", "F4"], sfreq=sfreq, seconds=2)
    with mne.utils.catch_logging("info") as log:
        report = braincodec_compress(raw, tmp_path / "a.bcz", mode=mode, report=False, verbose="info")
    sentence = "what lies above about 90 Hz is lost"
    assert any(sentence in note for note in report.notes) is said
    assert (sentence in str(report)) is said
    assert (sentence in log.getvalue()) is said
    power = np.abs(np.fft.rfft(braincodec_decompress(tmp_path / "a.bcz").get_data())) ** 2
    beyond = np.fft.rfftfreq(len(raw.times), 1 / sfreq) > 110
    assert not said or power[:, beyond].sum() < 1e-3 * power.sum()
