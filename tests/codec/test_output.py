"""Decompressed recordings as files."""

from __future__ import annotations

import os
from pathlib import Path

import mne
import numpy as np
import pytest

from mne_labram.codec.compression import braincodec_compress, braincodec_decompress
from mne_labram.codec.output import write_recording
from mne_labram.signal.edf import read_edf_header
from mne_labram.signal.edf_samples import edf_samples
from mne_labram.signal.open_files import OpenFiles

pytestmark = pytest.mark.usefixtures("stub_coders")


def integers(path: Path) -> np.ndarray:
    """Read the integers of an EDF or BDF file that has one rate."""
    samples = edf_samples(read_edf_header(path))
    x = samples.read(OpenFiles(), 0, samples.n_times).astype(float)
    return np.rint((x - samples.offset) / samples.gain).astype(int)


@pytest.mark.parametrize(
    ("kind", "physical", "name"),
    [
        ("EDF", (-3276.8, 3276.7), "in.edf"),
        ("EDF+C", (-187.5, 187.41), "in.edf"),
        ("EDF", (500, -500), "in.edf"),
        ("BDF", (-262144, 262143), "in.bdf"),
    ],
)
def test_integers_go_all_the_way(write_edf, tmp_path, kind, physical, name):
    """From an EDF file to an EDF file: the same integers under the same calibration."""
    source = write_edf(name, kind=kind, physical=physical, seconds=10)
    braincodec_compress(source, tmp_path / "a.bcz", mode="lossless", block_seconds=3)
    out = tmp_path / f"out{source.suffix}"
    assert write_recording(braincodec_decompress(tmp_path / "a.bcz"), out) == []
    one, other = read_edf_header(source), read_edf_header(out)
    for field in ("labels", "physical_min", "physical_max", "digital_min", "digital_max"):
        assert getattr(other, field)[:3] == getattr(one, field)[:3]
    np.testing.assert_array_equal(integers(out), integers(source))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", ["eegmat/Subject20_2.edf", "chbmit/chb01_03_ictal.edf"])
def test_real_integers_go_all_the_way(shared_data, tmp_path, name):
    braincodec_compress(shared_data / name, tmp_path / "a.bcz", mode="lossless", report=False)
    write_recording(braincodec_decompress(tmp_path / "a.bcz"), tmp_path / "out.edf")
    raws = [mne.io.read_raw(path, preload=True, verbose="error") for path in (shared_data / name, tmp_path / "out.edf")]
    # The limits of the ECG are in mV there and in µV here, which rounds differently.
    np.testing.assert_allclose(raws[0].get_data(), raws[1].get_data(), rtol=0, atol=1e-18)
    assert raws[0].info["meas_date"] == raws[1].info["meas_date"]
    np.testing.assert_allclose(raws[0].annotations.onset, raws[1].annotations.onset)
    assert list(raws[0].annotations.description) == list(raws[1].annotations.description)


def test_steps_of_other_formats(make_raw, tmp_path):
    """Half microvolts of a BrainVision file become the integers of the EDF file."""
    raw = make_raw(edit=lambda x: np.rint(2 * x, out=x), unit=0.5e-6)
    braincodec_compress(raw, tmp_path / "a.bcz", mode="lossless")
    write_recording(braincodec_decompress(tmp_path / "a.bcz"), tmp_path / "a.edf")
    header = read_edf_header(tmp_path / "a.edf")
    assert (header.physical_min[0], header.physical_max[0]) == (-16384.0, 16383.5)
    np.testing.assert_allclose(mne.io.read_raw(tmp_path / "a.edf").get_data(), raw.get_data(), rtol=0, atol=1e-15)


def test_fif_keeps_everything(make_raw, tmp_path):
    raw = make_raw(edit=lambda x: np.rint(x, out=x))
    raw.set_meas_date(1e9)
    raw.info["bads"] = ["C3"]
    raw.set_annotations(mne.Annotations([1.0], [2.0], ["sz"], orig_time=raw.info["meas_date"], extras=[{"c": 0.5}]))
    braincodec_compress(raw, tmp_path / "a.bcz", mode="lossless")
    assert write_recording(braincodec_decompress(tmp_path / "a.bcz"), tmp_path / "a_raw.fif") == []
    back = mne.io.read_raw(tmp_path / "a_raw.fif", verbose="error")
    np.testing.assert_array_equal(np.rint(1e6 * back.get_data()), np.rint(1e6 * raw.get_data()))
    assert back.annotations == raw.annotations
    assert back.info["bads"] == ["C3"]
    assert sorted(os.listdir(tmp_path)) == ["a.bcz", "a_raw.fif"]


def test_what_edf_does_not_keep_is_told(make_raw, tmp_path):
    raw = make_raw()
    raw.info["bads"] = ["C3"]
    raw.set_eeg_reference(projection=True, verbose="error")
    braincodec_compress(raw, tmp_path / "a.bcz")
    notes = write_recording(braincodec_decompress(tmp_path / "a.bcz"), tmp_path / "a.edf")
    assert notes == [".edf does not keep bad channels, projectors; _raw.fif does."]
    with pytest.raises(FileExistsError, match="exists already"):
        write_recording(braincodec_decompress(tmp_path / "a.bcz"), tmp_path / "a.edf")
