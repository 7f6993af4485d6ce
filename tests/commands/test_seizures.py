"""``mne-labram score`` and ``mne-labram loso`` as a user types them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mne_labram.commands.main import app, run
from mne_labram.seizure.events import EventTable, SeizureEvent
from mne_labram.seizure.scoring import score
from mne_labram.seizure.szcore import write_szcore_tsv
from tests.conftest import eeg_like, write_edf_file

TEN_TWENTY = "Fp1 F3 C3 P3 O1 F7 T3 T5 Fz Cz Pz Fp2 F4 C4 P4 O2 F8 T4 T6".split()


def _run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def _fail(capsys, monkeypatch, *arguments: object) -> str:
    monkeypatch.setattr(sys, "argv", ["mne-labram", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        run()
    assert stop.value.code == 2
    return capsys.readouterr().err


def _tables(folder: Path, tables: dict[str, EventTable]) -> Path:
    for subject, table in tables.items():
        place = folder / f"sub-{subject}" / "eeg" / f"sub-{subject}_task-szMonitoring_run-00_events.tsv"
        place.parent.mkdir(parents=True)
        write_szcore_tsv(table, place)
    return folder


def _table(*onsets: float, duration: float = 3600.0) -> EventTable:
    return EventTable(tuple(SeizureEvent(onset, 30.0) for onset in onsets), duration)


def test_score(tmp_path, capsys, monkeypatch) -> None:
    ref = _tables(tmp_path / "ref", {"01": _table(100, 1000), "02": _table(50), "03": _table()})
    hyp = _tables(tmp_path / "hyp", {"01": _table(110, 2000), "02": _table(60)})
    text = _run("score", ref, hyp, "--json", tmp_path / "out.json")
    scores = score(ref, hyp)
    assert text == f"{scores}\n"
    assert f"timescoring {scores.timescoring}" in text
    assert "sub-03/eeg/sub-03_task-szMonitoring_run-00_events.tsv is missing" in text
    assert json.loads((tmp_path / "out.json").read_text()) == json.loads(json.dumps(scores.to_dict()))
    assert scores.pooled("event").metrics() == pytest.approx(
        {"sensitivity": 2 / 3, "precision": 2 / 3, "f1": 2 / 3, "fp_per_day": 8.0}
    )
    before = (tmp_path / "out.json").read_bytes()
    assert "--overwrite" in _fail(capsys, monkeypatch, "score", ref, hyp, "--json", tmp_path / "out.json")
    assert "is missing" in _fail(capsys, monkeypatch, "score", ref, hyp, "--errors", "raise")
    assert "no file sub-" in _fail(capsys, monkeypatch, "score", tmp_path, hyp)
    junk = next(ref.rglob("sub-02*_events.tsv"))
    junk.write_bytes(np.random.default_rng(0).bytes(71_000))
    message = _fail(capsys, monkeypatch, "score", ref, hyp, "--json", tmp_path / "new.json")
    assert junk.name in message
    assert message.count("\n") == 1
    assert not (tmp_path / "new.json").exists()
    assert (tmp_path / "out.json").read_bytes() == before


@pytest.mark.filterwarnings("default")
def test_score_of_two_files(tmp_path, capsys, monkeypatch) -> None:
    for name, onset in (("ref", 100), ("found", 110)):
        write_szcore_tsv(_table(onset), tmp_path / f"{name}.tsv")
    (tmp_path / "old.tsv").write_text((tmp_path / "found.tsv").read_text().replace("\tsz\t", "\tsz-foc\t"))
    (tmp_path / "bad.tsv").write_text("junk")
    # It is the detections that cannot be read, and they have a name of their own.
    message = _fail(capsys, monkeypatch, "score", tmp_path / "ref.tsv", tmp_path / "bad.tsv", "--errors", "raise")
    assert "The detections bad.tsv cannot be read" in message
    assert "ref.tsv" not in message
    before = (tmp_path / "ref.tsv").read_bytes()
    options = ("--json", tmp_path / "ref.tsv", "--overwrite")
    assert "end in .json" in _fail(capsys, monkeypatch, "score", tmp_path / "ref.tsv", tmp_path / "found.tsv", *options)
    assert (tmp_path / "ref.tsv").read_bytes() == before
    # A warning is one line that says nothing of where in the package it comes from.
    monkeypatch.setattr(sys, "argv", ["mne-labram", "score", str(tmp_path / "ref.tsv"), str(tmp_path / "old.tsv")])
    with pytest.raises(SystemExit) as stop:
        run()
    assert not stop.value.code
    printed = capsys.readouterr()
    assert "pooled" in printed.out
    assert printed.err == (
        "mne-labram: warning: old.tsv, line 2: 'sz-foc' is none of SzCORE's event types; it was read as sz_foc.\n"
    )


def test_score_of_the_wrong_folder(tmp_path, capsys, monkeypatch) -> None:
    ref = _tables(tmp_path / "ref", {"01": _table(100), "02": _table()})
    assert "is a folder; give the name" in _fail(capsys, monkeypatch, "score", ref, ref, "--json", _folder(tmp_path))
    message = _fail(capsys, monkeypatch, "score", ref, tmp_path)
    assert "None of the 2 references has detections" in message
    assert "sub-01/eeg/sub-01_task-szMonitoring_run-00_events.tsv" in message


def _folder(parent: Path) -> Path:
    (parent / "made.json").mkdir()
    return parent / "made.json"


@pytest.fixture
def data_set(tmp_path) -> Path:
    """Write a BIDS data set in SzCORE's layout: three subjects of 40 s, each with a seizure of 8 s."""
    root = tmp_path / "bids"
    root.mkdir()
    (root / "dataset_description.json").write_text('{"Name": "made", "BIDSVersion": "1.7.0"}')
    for number in range(3):
        name = f"sub-{number:02d}_ses-01_task-szMonitoring_run-00"
        folder = root / f"sub-{number:02d}" / "ses-01" / "eeg"
        folder.mkdir(parents=True)
        x = eeg_like(19, 256 * 40, 256, seed=number)
        x[:, 256 * 20 : 256 * 28] += 150 * np.sign(np.sin(2 * np.pi * 3 * np.arange(256 * 8) / 256))
        write_edf_file(folder / f"{name}_eeg.edf", list(x), labels=[f"{each}-Avg" for each in TEN_TWENTY], rates=256)
        write_szcore_tsv(EventTable((SeizureEvent(20.0, 8.0, "sz_foc_ia"),), 40.0), folder / f"{name}_events.tsv")
    return root


def test_loso(data_set, tmp_path, capsys, monkeypatch) -> None:
    options = (data_set, "--out", tmp_path / "out", "--max-steps", 2, "--device", "cpu", "--validation-subjects", 1)
    text = _run("loso", *options, "--subjects", "00,02")
    assert "2 subject(s), 2 recording(s)" in text
    written = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert list(written["folds"]) == ["00", "02"]
    assert "NeuroStormDetector('labram-tiny', settings={'max_steps': 2}" in written["settings"]["detector"]
    for name in ("00", "02"):
        fold = json.loads((tmp_path / "out" / f"fold-{name}.json").read_text())
        assert [each.split("_")[0] for each in fold["test"]] == [f"sub-{name}"]
        assert fold["calibrated_on"] == "validation"
        assert fold["detections"][0]["true"] == [[20.0, 8.0]]
        assert (tmp_path / "out" / f"fold-{name}" / "best.safetensors").is_file()
        assert 0.0 <= fold["auroc"] <= 1.0
    # Nothing is done twice, and nothing is mixed.
    before = (tmp_path / "out" / "fold-00.json").read_bytes()
    again = _run("loso", *options, "--subjects", "00,02")
    assert "2 of 2 fold(s) are finished already" in again
    shown = [each[each.index("threshold |") :].strip() for each in (again, text)]
    assert shown[0] == shown[1]
    assert (tmp_path / "out" / "fold-00.json").read_bytes() == before
    message = _fail(capsys, monkeypatch, "loso", *options, "--subjects", "00,02", "--seed", 1)
    assert "seed: 0 there, 1 here" in message
    again = _run("loso", *options, "--subjects", "sub-00,sub-02")
    assert "2 of 2 fold(s) are finished already" in again
    assert "no recording of 17" in _fail(capsys, monkeypatch, "loso", *options, "--subjects", "17")


@pytest.mark.parametrize(
    ("option", "value", "match"),
    [
        ("--jobs", 0, "--jobs must be"),
        ("--seed", -1, "--seed must be 0 or more"),
        ("--folds", 1, "--folds must be 2 or more"),
        ("--validation-subjects", -1, "--validation-subjects must be 0 or more"),
        ("--max-steps", 0, "--max-steps must be 1 or more"),
        ("--target-fp-per-day", "nan", "--target-fp-per-day must be 0 or more"),
        ("--groups", "person", "--groups must be"),
    ],
)
def test_loso_is_refused_before_work_starts(data_set, tmp_path, capsys, monkeypatch, option, value, match) -> None:
    message = _fail(capsys, monkeypatch, "loso", data_set, "--out", tmp_path / "out", option, value)
    assert match in message
    assert message.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_loso_names_labels_that_make_no_sense(data_set, tmp_path, capsys, monkeypatch) -> None:
    options = ("loso", data_set, "--out", tmp_path / "out", "--max-steps", 1, "--device", "cpu", "--subjects", "02")
    tables = sorted(data_set.rglob("*_events.tsv"))
    tables[0].write_text(tables[0].read_text().replace("20\t8", "-20\t8"))
    text = _run(*options)
    assert f"Skipped sub-00_ses-01_task-szMonitoring_run-00_eeg.edf: {tables[0].name}, line 2: the onset '-20'" in text
    for table in tables:
        table.write_bytes(bytes(71_000))
    message = _fail(capsys, monkeypatch, *options, "--no-resume")
    assert f"No recording has labels that can be understood: {tables[0].name}, line 1: there is a NUL byte" in message


def test_a_refused_loso_does_not_bind_the_folder(data_set, tmp_path, capsys, monkeypatch) -> None:
    """Settings that no fold was begun with are no settings of folds."""
    options = ("loso", data_set, "--out", tmp_path / "out", "--max-steps", 1, "--subjects", "00")
    message = _fail(capsys, monkeypatch, *options, "--device", "cuda:99")
    assert "device must be 'cpu', 'cuda' or None" in message
    assert (tmp_path / "out" / "settings.json").is_file()
    assert "1 subject(s), 1 recording(s)" in _run(*options, "--device", "cpu")
