"""The command line as a user types it."""

import json
import subprocess
import sys

import mne
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from mne_labram import LabramForClassification, LabramTokenizer, save_checkpoint
from mne_labram.benchmark.synthetic import simulate_recording
from mne_labram.commands.main import app, run

SMALL = {"embed_dim": 40, "num_layers": 1, "num_heads": 2}
CHANNELS = "FP1 FP2 F7 F3 FZ F4 F8 T7 C3 CZ C4 T8 P7 P3 PZ P4 P8 O1 O2".split()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Write a recording, a classifier and a tokenizer."""
    folder = tmp_path_factory.mktemp("files")
    simulate_recording(60.0, [(20.0, 20.0)]).save(folder / "x_raw.fif", verbose="error")
    torch.manual_seed(0)
    arguments = {"ch_names": CHANNELS, "n_times": 800, "sfreq": 200}
    model = LabramForClassification(n_outputs=2, class_names=["background", "seizure"], **arguments, **SMALL)
    save_checkpoint(model.eval(), folder / "classifier.safetensors")
    tokenizer = LabramTokenizer(n_codes=32, code_dim=8, **arguments, **SMALL)
    save_checkpoint(tokenizer.eval(), folder / "tokenizer.safetensors")
    return folder


def _run(*arguments) -> tuple[int, str]:
    """Run a command in this process; returns the exit code and what was printed."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def _fail(capsys, monkeypatch, *arguments) -> str:
    """Run the entry point; returns the one sentence of an error."""
    monkeypatch.setattr(sys, "argv", ["mne-labram", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        run()
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_check(files):
    """The table names the channels; the exit code says whether the recording would be taken."""
    code, text = _run("check", files / "x_raw.fif")
    assert code == 0
    assert "19 kept" in text
    code, text = _run("check", files / "x_raw.fif", "--assume-unit", "uV")
    assert code == 2
    assert "uV" in text


@pytest.mark.parametrize("ending", ["-annot.fif", "_events.tsv", ".csv", ".txt", "_raw.fif"])
def test_annotate(files, tmp_path, ending):
    """Every format can be read again and holds what was there before and what was found."""
    output = tmp_path / f"out{ending}"
    threshold = ["--threshold", 0.01, "--min-duration", 1]
    code, text = _run("annotate", files / "x_raw.fif", output, "-m", files / "classifier.safetensors", *threshold)
    assert code == 0, text
    if ending.endswith((".tsv", ".csv")):
        rows = [line.split("\t" if ending.endswith("tsv") else ",") for line in output.read_text().splitlines()]
        assert rows[0] == ["onset", "duration", "description", "confidence"]
        assert ["20.000", "20.000", "seizure", "n/a"] in rows[1:]
        assert 0 <= min(float(row[3]) for row in rows[1:] if row[3] != "n/a") <= 1
    else:
        raw_out = ending == "_raw.fif"
        found = mne.io.read_raw_fif(output).annotations if raw_out else mne.read_annotations(output)
        assert "seizure" in found.description
        assert len(found) > 1
    assert [path.name for path in tmp_path.iterdir()] == [output.name]


def test_annotate_takes_names_and_release(files, tmp_path):
    """Classes may be renamed and swapped, and the end of events moved."""
    output = tmp_path / "x_events.tsv"
    options = ["--class-names", "quiet, loud", "--background", "loud", "--threshold", 0.3, "--release", 0.2]
    model = files / "classifier.safetensors"
    code, text = _run("annotate", files / "x_raw.fif", output, "-m", model, *options, "--stride", 2, "--device", "cpu")
    assert code == 0, text
    found = {line.split("\t")[2] for line in output.read_text().splitlines()[1:]}
    assert found == {"seizure", "quiet"}


def test_annotate_writes_a_page(files, tmp_path):
    """The page holds the scores, the events and the versions."""
    page = tmp_path / "page.html"
    code, text = _run(
        "annotate",
        files / "x_raw.fif",
        tmp_path / "x_events.tsv",
        "-m",
        files / "classifier.safetensors",
        "--report",
        page,
        "--threshold",
        "0.01",
    )
    assert code == 0, text
    html = page.read_text()
    for piece in ("Scores over time", "not a medical device", "braindecode", "confidence", "19 kept"):
        assert piece.lower() in html.lower()


def test_quiet_with_missing_samples(files, tmp_path):
    """Nothing is printed, and the signal is drawn where a part of it is missing."""
    raw = mne.io.read_raw(files / "x_raw.fif", preload=True, verbose="error")
    raw._data[:, 6000:7000] = np.nan
    raw.save(tmp_path / "gap_raw.fif", verbose="error")
    command = ["annotate", tmp_path / "gap_raw.fif", tmp_path / "x.tsv", "-m", files / "classifier.safetensors", "-q"]
    code, text = _run(*command, "--report", tmp_path / "x.html", "--threshold", 0.01)
    assert (code, text) == (0, "")
    assert "not analysed" in (tmp_path / "x.tsv").read_text()


def test_the_recording_is_not_overwritten(files, tmp_path, capsys, monkeypatch):
    raw = tmp_path / "x_raw.fif"
    raw.write_bytes((files / "x_raw.fif").read_bytes())
    before = raw.read_bytes()
    arguments = ("annotate", raw, raw, "-m", files / "classifier.safetensors", "--overwrite")
    assert "is the recording itself" in _fail(capsys, monkeypatch, *arguments)
    assert raw.read_bytes() == before


def test_embed_and_tokenize(files, tmp_path):
    """Arrays come with channel names and the report."""
    code, _ = _run("embed", files / "x_raw.fif", tmp_path / "e.npz", "-m", files / "classifier.safetensors", "-q")
    assert code == 0
    code, _ = _run("tokenize", files / "x_raw.fif", tmp_path / "t.npz", "-m", files / "tokenizer.safetensors", "-q")
    assert code == 0
    with np.load(tmp_path / "e.npz") as embedded, np.load(tmp_path / "t.npz") as tokens:
        assert embedded["embedding"].shape == (15, 40)
        assert tokens["codes"].shape == (15, 19, 4)
        assert tokens["ch_names"].tolist() == CHANNELS
        assert json.loads(str(tokens["report"]))["sfreq_in"] == 256.0


def test_info(files):
    """A checkpoint is described; without one, versions are."""
    code, text = _run("info", files / "classifier.safetensors")
    assert code == 0
    assert "LabramForClassification" in text
    code, text = _run("info")
    assert code == 0
    assert "torch" in text
    assert "precision='auto' is" in text


def test_errors_are_one_sentence(files, tmp_path, capsys, monkeypatch):
    """No traceback, exit code 2, before anything is written."""
    model = files / "classifier.safetensors"
    raw = files / "x_raw.fif"
    out = tmp_path / "x-annot.fif"
    (tmp_path / "broken.edf").write_bytes(b"0       " + b"x" * 50)
    existing = tmp_path / "there.npz"
    existing.write_bytes(b"keep me")
    for arguments, words in (
        (("embed", tmp_path / "none.edf", tmp_path / "x.npz", "-m", model), "none.edf"),
        (("embed", tmp_path / "broken.edf", tmp_path / "x.npz", "-m", model), "broken.edf"),
        (("embed", raw, tmp_path / "x.npz", "-m", tmp_path / "none.safetensors"), "none.safetensors"),
        (("embed", raw, tmp_path / "x.npz", "-m", raw), "x_raw.fif"),
        (("embed", raw, tmp_path / "x.mat", "-m", model), ".npz"),
        (("embed", raw, existing, "-m", model), "--overwrite"),
        (("embed", raw, tmp_path / "no" / "x.npz", "-m", model), "folder"),
        (("embed", raw, tmp_path / "x.npz", "-m", model, "--pooling", "max"), "pooling"),
        (("embed", raw, tmp_path / "x.npz", "-m", model, "--line-freq", "55"), "50 or 60"),
        (("embed", raw, tmp_path / "x.npz", "-m", model, "--precision", "fp16"), "precision"),
        (("embed", raw, tmp_path / "x.npz", "-m", model, "--device", "tpu9"), "tpu9"),
        (("annotate", raw, tmp_path / "x.edf", "-m", model), "-annot.fif"),
        (("annotate", raw, out, "-m", model, "--threshold", "2"), "threshold"),
        (("annotate", raw, out, "-m", files / "tokenizer.safetensors"), "no classes"),
        (("tokenize", raw, tmp_path / "x.npz", "-m", model), "LabramTokenizer"),
        (("convert", raw, tmp_path / "x.safetensors"), "x_raw.fif"),
        (("info", raw), "x_raw.fif"),
        (("info", "labram-base"), "those that ship are braincodec-tiny, brainforge-tiny, eegfoundation-tiny"),
    ):
        error = _fail(capsys, monkeypatch, *arguments)
        assert words in error, error
        assert error.strip().count("\n") == 0, error
        assert error.startswith("mne-labram: ")
    assert existing.read_bytes() == b"keep me"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.edf", "there.npz"]
    assert "Usage" in _fail(capsys, monkeypatch, "embed")
    assert "No such command" in _fail(capsys, monkeypatch, "tokenise")


def test_help_is_quick_to_import():
    """``--help`` and ``check`` need no torch."""
    code = (
        "import sys; from mne_labram.commands.main import app; from mne_labram.signal import check; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_demo(tmp_path):
    """The demonstration finds the event it trained for and writes its files."""
    from mne_labram.commands.demo import run_demo

    page = run_demo(tmp_path / "demo")
    assert page.is_file()
    found = mne.read_annotations(tmp_path / "demo" / "demo-annot.fif")
    seizures = found[found.description == "seizure"]
    assert len(seizures) == 1
    # The event lasts from 420 to 460 s of the whole recording.
    assert seizures.onset[0] == pytest.approx(420, abs=8)
