"""``mne-labram restore``, as it is typed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import mne
import numpy as np
import pytest
from typer.testing import CliRunner

from mne_labram.commands.main import app, run
from mne_labram.commands.restore import parse_segments

LABELS = [f"EEG {name}-REF" for name in ("Fp1", "Fp2", "F3", "F4", "C3", "C4", "O1", "O2")]


def _run(*arguments) -> str:
    """Run a command in this process; returns what was printed."""
    result = CliRunner().invoke(app, ["restore", *map(str, arguments)])
    if result.exception is not None:
        raise result.exception
    return result.output


def _fail(capsys, monkeypatch, *arguments) -> str:
    """Run the entry point; returns the one sentence of an error."""
    monkeypatch.setattr(sys, "argv", ["mne-labram", "restore", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        run()
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


@pytest.fixture
def recording(write_edf) -> Path:
    """Write 20 s of eight channels."""
    return write_edf("night.edf", n_chans=8, labels=LABELS, physical=(-3276.8, 3276.7))


def test_an_edf_file_stays_one_and_keeps_its_integers(recording, tmp_path):
    text = _run(recording, tmp_path / "out.edf", "--picks", LABELS[4], "--segments", "5+2", "--method", "ridge")
    assert "EEG C3-REF: restored by ridge" in text
    assert "EEG C3-REF: 1 x, 2 s" in text
    before = mne.io.read_raw(recording, verbose="error")
    after = mne.io.read_raw(tmp_path / "out.edf", verbose="error")
    changed = before.get_data() != after.get_data()
    assert changed[4, 500:700].mean() > 0.9
    assert changed.sum() == changed[4, 500:700].sum()
    assert list(after.annotations.description) == ["restored"]


def test_fif_report_and_figure(recording, tmp_path):
    arguments = ("--segments", f"3+1:{LABELS[0]},{LABELS[1]}; 8.5+0.5:{LABELS[7]}", "--method", "ridge")
    outputs = ("--report", tmp_path / "a.json", "--figure", tmp_path / "a.png")
    assert _run(recording, tmp_path / "out_raw.fif", *arguments, *outputs, "--quiet") == ""
    report = json.loads((tmp_path / "a.json").read_text(encoding="utf8"))
    assert report["ch_names"] == [LABELS[0], LABELS[1], LABELS[7]]
    assert len(report["uncertainty"]) == 3
    assert report["uncertainty"][0][3] > 0
    assert report["uncertainty"][0][4] is None
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    after = mne.io.read_raw(tmp_path / "out_raw.fif", verbose="error")
    assert {name for names in after.annotations.ch_names for name in names} == {LABELS[0], LABELS[1], LABELS[7]}


def test_epochs_and_bads(make_raw, tmp_path):
    epochs = mne.make_fixed_length_epochs(make_raw(), 4.0, preload=True, verbose="error")
    epochs.info["bads"] = ["F3"]
    epochs.save(tmp_path / "in-epo.fif", verbose="error")
    _run(tmp_path / "in-epo.fif", tmp_path / "out-epo.fif", "--method", "spline", "--no-calibrate", "--reset-bads")
    after = mne.read_epochs(tmp_path / "out-epo.fif", verbose="error")
    assert after.info["bads"] == []
    changed = np.abs(after.get_data() - epochs.get_data()).max(axis=(0, 2)) > 1e-9
    assert changed.tolist() == [name == "F3" for name in epochs.ch_names]


def test_bad_input_is_one_sentence(recording, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out_raw.fif"
    assert "let the name end in" in _fail(capsys, monkeypatch, recording, tmp_path / "out.txt")
    assert "No channel is marked bad" in _fail(capsys, monkeypatch, recording, out, "--method", "spline")
    assert "is no segment" in _fail(capsys, monkeypatch, recording, out, "--segments", "5-7")
    assert "outside the recording" in _fail(
        capsys, monkeypatch, recording, out, "--picks", LABELS[0], "--segments", "19+7", "--method", "spline"
    )
    assert "There is no method" in _fail(capsys, monkeypatch, recording, out, "--method", "magic")
    assert "is for the other" in _fail(capsys, monkeypatch, recording, tmp_path / "out-epo.fif", "--method", "spline")
    assert "--overwrite" in _fail(capsys, monkeypatch, recording, recording)
    assert not out.exists()


def test_segments_as_they_are_typed():
    assert parse_segments(None) is None
    assert parse_segments("bad annotations") == "bad annotations"
    assert parse_segments("12.5+2; 40+1.5:Fp1, F3") == [(12.5, 2.0), (40.0, 1.5, ["Fp1", "F3"])]
