"""``mne-labram compress`` and ``mne-labram decompress``, as they are typed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import mne
import numpy as np
import pytest
from typer.testing import CliRunner

from mne_labram.commands.main import app, run


def _run(*arguments) -> str:
    """Run a command in this process; returns what was printed."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None:
        raise result.exception
    return result.output


def _fail(capsys, monkeypatch, *arguments) -> str:
    """Run the entry point; returns the one sentence of an error."""
    monkeypatch.setattr(sys, "argv", ["mne-labram", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        run()
    assert stop.value.code == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.fixture
def recording(write_edf):
    """Write 20 s of three channels."""
    return write_edf("night.edf", physical=(-3276.8, 3276.7))


def test_there_and_back(recording, tmp_path):
    """Without names of outputs: beside the input."""
    text = _run("compress", recording, "--mode", "lossless")
    assert "every sample is as it was" in text
    assert (tmp_path / "night.bcz").stat().st_size < recording.stat().st_size
    assert "3 channels, 20 s at 100 Hz" in _run("decompress", tmp_path / "night.bcz")
    one = mne.io.read_raw(recording, verbose="error").get_data()
    other = mne.io.read_raw(tmp_path / "night_raw.fif", verbose="error").get_data()
    np.testing.assert_array_equal(np.rint(one * 1e7), np.rint(other * 1e7))
    assert sorted(os.listdir(tmp_path)) == ["night.bcz", "night.edf", "night_raw.fif"]


def test_options_arrive(recording, tmp_path):
    (tmp_path / "out").mkdir()
    arguments = ("--max-error", 2, "--lossless-channels", "EEG Fp2-REF", "--block-seconds", 5, "--jobs", 1)
    text = _run("compress", recording, tmp_path / "out", *arguments, "--json", tmp_path / "a.json")
    assert "error at most 2 µV" in text
    report = json.loads((tmp_path / "a.json").read_text(encoding="utf8"))
    assert report["mode"] == "lossless"
    assert report["n_coded"] == 2
    assert 1 < report["quality"]["largest_error"] <= 2 + 1e-6
    assert _run("decompress", tmp_path / "out" / "night.bcz", tmp_path / "b.edf", "-q") == ""
    error = 1e6 * np.abs(
        mne.io.read_raw(tmp_path / "b.edf", verbose="error").get_data()
        - mne.io.read_raw(recording, verbose="error").get_data()
    ).max(1)
    assert (error[[0, 2]] > 1).all()
    assert (error <= [2 + 1e-6, 1e-6, 2 + 1e-6]).all()
    quiet = _run("compress", recording, tmp_path / "c.bcz", "--mode", "lossless", "--no-report", "-q")
    assert quiet == ""


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("night.edf", "a.zip"), "written as .bcz and not to 'a.zip'"),
        (("night.edf", "no/a.bcz"), "does not exist; make it first"),
        (("night.edf", "there.bcz"), "there.bcz exists; pass --overwrite"),
        (("gone.edf", "a.bcz"), "There is no file gone.edf"),
        (("night.edf", "a.bcz", "--mode", "best"), "mode must be one of"),
        (("night.edf", "a.bcz", "--mode", "lossless", "-b", "64"), "leave --bitrate out"),
        (("night.edf", "a.bcz", "--mode", "hybrid", "--max-error", "1"), "max_error bounds the error"),
        (("night.edf", "a.bcz", "--max-error", "-1"), "max_error must be 0 or more"),
        (("night.edf", "a.bcz", "--bitrate", "-5"), "bitrate must lie above 0"),
        (("night.edf", "a.bcz", "--block-seconds", "0"), "block_seconds must lie between"),
        (("night.edf", "a.bcz", "--jobs", "0"), "n_jobs must be a whole number other than 0"),
        (("night.edf", "a.bcz", "--lossless-channels", "ECG"), "'ECG' is none"),
        (("night.edf", "a.bcz", "--json", "a.txt"), "The report is written as .json"),
        (("text.edf", "a.bcz"), "cannot be read as an EEG recording"),
    ],
)
def test_mistakes_in_compress(recording, tmp_path, capsys, monkeypatch, arguments, match):
    monkeypatch.chdir(tmp_path)
    Path("there.bcz").write_bytes(b"old")
    Path("text.edf").write_text("dear diary")
    text = _fail(capsys, monkeypatch, "compress", *arguments)
    assert text.startswith("mne-labram: ")
    assert match in text
    assert sorted(os.listdir(tmp_path)) == ["night.edf", "text.edf", "there.bcz"]
    assert Path("there.bcz").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("night.edf",), "night.edf is not a file of braincodec_compress"),
        (("a.bcz", "a.mat"), "cannot be written to 'a.mat'; let the name end in _raw.fif"),
        (("a.bcz", "a.fif"), "cannot be written to 'a.fif'; let the name end in _raw.fif"),
        (("a.bcz", "night.edf"), "night.edf exists; pass --overwrite"),
        (("gone.bcz",), "There is no file gone.bcz"),
        (("damaged.bcz", "--strict"), "block 0 (0 to 20 s): the checksum does not fit"),
    ],
)
def test_mistakes_in_decompress(recording, tmp_path, capsys, monkeypatch, arguments, match):
    monkeypatch.chdir(tmp_path)
    _run("compress", "night.edf", "a.bcz", "--mode", "lossless", "-q")
    content = bytearray(Path("a.bcz").read_bytes())
    content[content.index(b"BCZb") + 50] ^= 1
    Path("damaged.bcz").write_bytes(content)
    text = _fail(capsys, monkeypatch, "decompress", *arguments)
    assert text.startswith("mne-labram: ")
    assert match in text
    assert sorted(os.listdir(tmp_path)) == ["a.bcz", "damaged.bcz", "night.edf"]


@pytest.mark.filterwarnings("always::RuntimeWarning")
def test_damage_is_a_warning(recording, tmp_path, capsys, monkeypatch):
    _run("compress", recording, tmp_path / "a.bcz", "--mode", "lossless", "--block-seconds", 5, "-q")
    content = bytearray((tmp_path / "a.bcz").read_bytes())
    content[content.rindex(b"BCZb") + 50] ^= 1
    (tmp_path / "a.bcz").write_bytes(content)
    monkeypatch.setattr(sys, "argv", ["mne-labram", "decompress", str(tmp_path / "a.bcz")])
    with pytest.raises(SystemExit) as stop:
        run()
    assert stop.value.code in (0, None)
    printed = capsys.readouterr()
    assert "mne-labram: warning: a.bcz is damaged: block 3 (15 to 20 s)" in printed.err
    back = mne.io.read_raw(tmp_path / "a_raw.fif", verbose="error")
    assert list(back.annotations.description) == ["BAD_damaged"]
    assert np.isnan(back.get_data()[:, 1500:]).all()
