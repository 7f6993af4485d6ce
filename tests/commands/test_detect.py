"""``mne-labram detect`` as SzCORE runs it, and on what hospitals send."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from mne_labram import save_checkpoint
from mne_labram.commands.main import app, run
from mne_labram.models import NeuroStorm
from mne_labram.seizure.szcore import read_szcore_tsv
from mne_labram.signal.vocabulary import TEN_TWENTY

LABELS = [f"EEG {name}-REF" for name in TEN_TWENTY]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Write a small detector to which everything is a seizure."""
    torch.manual_seed(0)
    arguments = {"ch_names": list(TEN_TWENTY), "n_times": 800, "sfreq": 200, "contract": {"montages": ["referential"]}}
    model = NeuroStorm(
        embed_dim=40, num_layers=1, num_heads=2, detection={"parameters": {"threshold": 0.2}}, **arguments
    )
    path = tmp_path_factory.mktemp("model") / "detector.safetensors"
    save_checkpoint(model.eval(), path)
    return path


@pytest.fixture
def recording(write_edf, make_eeg):
    """Write a short EDF file with SzCORE's channels."""
    return write_edf("in.edf", signals=list(make_eeg(19, 256 * 12, 256)), labels=LABELS, sfreq=256)


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
    text = capsys.readouterr().err.strip().splitlines()[-1]
    assert text.startswith("mne-labram: ")
    return text


def test_the_table_is_written_into_new_folders(recording, checkpoint, tmp_path):
    """SzCORE's output tree need not exist; options reach the detector."""
    output = tmp_path / "out" / "sub-01" / "eeg" / "x_events.tsv"
    text = _run("detect", recording, output, "-m", checkpoint, "--no-involvement")
    assert "1 seizure(s) in 12 s, 0 s not analysed" in text
    table = read_szcore_tsv(output)
    assert table.intervals == [(0.0, 12.0)]
    assert table.duration == 12.0
    assert [each.name for each in output.parent.iterdir()] == [output.name]
    assert _run("detect", recording, output, "-m", checkpoint, "--threshold", 1, "--overwrite", "-q") == ""
    assert len(read_szcore_tsv(output)) == 0


def test_the_page(recording, checkpoint, tmp_path):
    """The page lies where it was asked for."""
    page = tmp_path / "pages" / "x.html"
    _run("detect", recording, tmp_path / "x.tsv", "-m", checkpoint, "--report", page, "-q")
    assert "research" in page.read_text(encoding="utf8").lower()


@pytest.mark.parametrize(
    ("kwargs", "options", "match"),
    [
        ({"kind": "EDF+D", "onsets": [*range(6), *range(40, 46)]}, (), "discontinuous"),
        ({"units": "", "physical": (-500, 500)}, (), "unit"),
        ({"labels": [f"X{i}" for i in range(19)]}, (), "None of the 19 channels"),
        ({"few": 7}, (), "7 of the 19 channels"),
        ({"flat": True}, (), "constant channels"),
        ({"seconds": 0.5, "record_seconds": 0.5}, (), "0.5 s"),
        ({"labels": [f"{name}-A1-F{k}" for k, name in enumerate(TEN_TWENTY)]}, (), "channels"),
        ({"content": b"0" + 255 * b" "}, (), "cannot be read"),
        ({}, ("--threshold", 2), "threshold must lie"),
        ({}, ("--threshold", 0.5, "--target-fp-per-day", 1), "pass one of them"),
        ({}, ("--target-fp-per-day", 1), "never measured"),
        ({}, ("--assume-unit", "uV"), "assume_unit is wrong"),
    ],
)
def test_hostile_recordings(write_edf, make_eeg, checkpoint, tmp_path, capsys, monkeypatch, kwargs, options, match):
    """One sentence, exit code 2, and nothing is written: neither the table nor its folder."""
    kwargs = dict(kwargs)
    signals = make_eeg(19, int(256 * kwargs.pop("seconds", 12)), 256)
    labels = kwargs.pop("labels", LABELS)
    if kwargs.pop("flat", False):
        signals = np.zeros_like(signals)
    if few := kwargs.pop("few", None):
        signals, labels = signals[:few], labels[:few]
    content = kwargs.pop("content", None)
    recording = write_edf("bad.edf", signals=list(signals), labels=labels, sfreq=256, **kwargs)
    if content is not None:
        recording.write_bytes(content)
    output = tmp_path / "out" / "x.tsv"
    text = _fail(capsys, monkeypatch, "detect", recording, output, "-m", checkpoint, "-q", *options)
    assert match in text
    assert not output.parent.exists()


def test_discontinuous_files_on_request(write_edf, make_eeg, checkpoint, tmp_path):
    """The parts are treated separately; times count seconds of data."""
    onsets = [*range(10), *range(40, 50)]
    signals = list(make_eeg(19, 256 * 20, 256))
    recording = write_edf(signals=signals, labels=LABELS, sfreq=256, kind="EDF+D", onsets=onsets)
    output = tmp_path / "x.tsv"
    text = _run("detect", recording, output, "-m", checkpoint, "--gaps", "split", "--no-involvement")
    # Of windows of 4 s that begin every 2 s, none with a second from 8 to 12 stays clear of the seam at 10 s.
    assert "20 s, 4 s not analysed" in text
    assert read_szcore_tsv(output).intervals == [(0.0, 8.0), (12.0, 20.0)]


def test_places_that_cannot_be_written_to(recording, checkpoint, tmp_path, capsys, monkeypatch):
    """Refused before any work: what exists, a folder, the recording itself, one file for both."""
    taken = tmp_path / "taken.tsv"
    taken.write_text("mine")
    before = recording.read_bytes()
    for output, options, match in (
        (taken, (), "--overwrite"),
        (tmp_path, (), "is a folder"),
        (recording, ("--overwrite",), "the recording itself"),
        (taken / "x.tsv", (), "is no folder"),
        (tmp_path / "x", ("--report", tmp_path / "x"), "cannot be both"),
        (tmp_path / "x.edf", (), "let the name end in .tsv"),
        (tmp_path / "x.tsv", ("--report", tmp_path / "x.pdf"), "let the name end in .html"),
    ):
        assert match in _fail(capsys, monkeypatch, "detect", recording, output, "-m", checkpoint, *options)
    assert taken.read_text() == "mine"
    assert recording.read_bytes() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["in.edf", "taken.tsv"]


def test_sentences_name_options_as_they_are_typed(write_edf, make_eeg, checkpoint, tmp_path, capsys, monkeypatch):
    """The library recommends arguments of functions; a shell has options."""
    signals = list(make_eeg(19, 256 * 12, 256))
    few = write_edf("few.edf", signals=signals[:7], labels=LABELS[:7], sfreq=256)
    gap = write_edf(
        "gap.edf", signals=signals, labels=LABELS, sfreq=256, kind="EDF+D", onsets=[*range(6), *range(9, 15)]
    )
    for recording, option in ((few, "--channels recording"), (gap, "--gaps split")):
        text = _fail(capsys, monkeypatch, "detect", recording, tmp_path / "x.tsv", "-m", checkpoint)
        assert f"pass {option}" in text
        assert "=" not in text


@pytest.mark.parametrize("home", [None, "/proc/nowhere"])
def test_in_a_container_without_a_home(recording, checkpoint, tmp_path, home):
    """As SzCORE runs it: a user without a name, and no home or one that cannot be made."""
    folder, output = tmp_path / "data", tmp_path / "output"
    folder.mkdir()
    moved = recording.rename(folder / "in.edf")
    folder.chmod(0o555)
    # A user who is in no list is asked for by no other way than this one.
    code = """
import pwd
def unknown(uid):
    raise KeyError(uid)
pwd.getpwuid = unknown
from mne_labram.commands.main import run
run()
"""
    command = [sys.executable, "-c", code, "detect", moved, output / "sub-01" / "x.tsv", "-m", checkpoint]
    try:
        done = subprocess.run(
            [*command, "--no-involvement", "--report", output / "x.html"],
            env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", **({} if home is None else {"HOME": home})},
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=500,
        )
    finally:
        folder.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert read_szcore_tsv(output / "sub-01" / "x.tsv").duration == 12.0
    assert (output / "x.html").stat().st_size > 10_000
    assert [each.name for each in folder.iterdir()] == ["in.edf"]
    assert "Traceback" not in done.stderr


def test_the_documented_image_runs_this_command():
    """What is written for SzCORE says what is there."""
    folder = Path(__file__).resolve().parents[2] / "doc" / "szcore"
    text = (folder / "Dockerfile").read_text()
    assert 'mne-labram detect "/data/$INPUT" "/output/$OUTPUT"' in text
    assert "USER" in text
    keys = [line.split(":")[0] for line in (folder / "algorithm.yaml").read_text().splitlines() if line[:1].isalpha()]
    assert {"title", "short_title", "image", "authors", "license"} <= set(keys)
