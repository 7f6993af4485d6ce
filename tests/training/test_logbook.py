"""What is written while a training runs."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import mne
import pytest

from mne_labram.training import logbook
from mne_labram.training.logbook import Logbook, Table
from mne_labram.training.means import Means, Pending, scalars


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path / "log.csv")


def test_rows_are_on_the_disk_at_once_with_all_digits(table: Table) -> None:
    table.add({"step": 1, "loss": 1 / 3})
    assert table.path.read_text() == "step,loss\n1,0.3333333333333333\n"
    table.add({"step": 2, "loss": 0.25})
    assert table.path.read_text().splitlines()[1:] == ["1,0.3333333333333333", "2,0.25"]
    assert [float(row["loss"]) for row in table.rows()] == [1 / 3, 0.25]


def test_a_new_column(table: Table) -> None:
    table.add({"step": 1, "loss": 2.0})
    table.add({"step": 2, "loss": 1.0, "validation_loss": 3.0})
    table.add({"step": 3, "loss": 0.5})
    assert table.path.read_text() == "step,loss,validation_loss\n1,2.0,\n2,1.0,3.0\n3,0.5,\n"


@pytest.mark.parametrize("tail", ["", "11,0.", "11", "11,0.5,extra"])
def test_cutting_back_to_a_checkpoint(table: Table, tail: str) -> None:
    for step in range(1, 11):
        table.add({"step": step, "loss": 1 / step})
    whole = table.path.read_text().splitlines()
    with open(table.path, "a") as file:
        file.write(tail)  # killed in the middle of a line
    again = Table(table.path)
    again.cut("step", 7)
    assert table.path.read_text().splitlines() == whole[:8]
    again.add({"step": 8, "loss": 1 / 8})
    assert table.path.read_text().splitlines() == whole[:9]
    again.cut("step", 0)
    again.add({"step": 1, "other": 5})
    assert table.path.read_text() == "step,other\n1,5\n"


def test_cutting_what_is_not_there(table: Table) -> None:
    table.cut("step", 3)
    assert not table.path.exists()
    table.sync()


def test_only_the_first_process_writes(tmp_path: Path) -> None:
    book = Logbook(tmp_path, total=3, active=False)
    book.log({"step": 1, "loss": 1.0})
    book.log_epoch({"epoch": 1, "step": 1})
    book.advance()
    book.sync()
    book.close()
    assert list(tmp_path.iterdir()) == []


def test_going_on(tmp_path: Path) -> None:
    book = Logbook(tmp_path, total=10)
    for step in range(1, 8):
        book.log({"step": step, "loss": 1.0})
    for epoch in (1, 2, 3):
        book.log_epoch({"epoch": epoch, "step": 2 * epoch})
    book.close()
    Logbook(tmp_path, total=10, first=6, first_epoch=2).close()
    assert [row["step"] for row in Table(tmp_path / "log.csv").rows()] == list("123456")
    # The third epoch ended with step 6 too, but the checkpoint was written before its end was looked at.
    assert [row["epoch"] for row in Table(tmp_path / "epochs.csv").rows()] == ["1", "2"]


def test_a_log_file_gets_lines_not_bars(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where stderr is no terminal: a line a minute, and not a thousand bars one over the other."""
    mne.set_log_level("info")
    clock = iter(range(0, 10_000, 25))
    monkeypatch.setattr(logbook, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    book = Logbook(tmp_path, total=9)
    book._bar.delay = 0
    for step in range(1, 10):
        book.advance()
        book.log({"step": step, "loss": 1.0 / step, "other": 3.0})
    book.close()
    said = capsys.readouterr()
    assert said.err == ""
    lines = said.out.splitlines()
    assert 1 < len(lines) < 9
    assert lines[0] == "Step 3 of 9, loss 0.3333."
    mne.set_log_level("error")
    book = Logbook(tmp_path, total=9)
    for step in range(1, 10):
        book.log({"step": step, "loss": 1.0})
    book.close()
    assert capsys.readouterr() == ("", "")


def test_the_bar_is_silent_with_mne(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    for level, shown in (("info", True), ("error", False)):
        mne.set_log_level(level)
        book = Logbook(tmp_path / level, total=2, active=True)
        book._bar.delay = 0
        book.advance()
        book._bar.refresh()
        book.close()
        assert ("Training" in capsys.readouterr().err) == shown


def test_tensorboard_is_asked_for_in_vain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        Logbook(tmp_path, total=1, tensorboard=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    book = Logbook(tmp_path, total=3, tensorboard=True)
    book.log({"step": 1, "loss": 0.5})
    book.log({"step": 2, "loss": 0.25})
    book.log_epoch({"epoch": 1, "step": 2, "validation_loss": 2.0})
    book.close()
    found = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(found.Tags()["scalars"]) == {"loss", "epoch/epoch", "epoch/validation_loss"}
    assert [(event.step, event.value) for event in found.Scalars("loss")] == [(1, 0.5), (2, 0.25)]


def test_means_of_what_steps_return() -> None:
    import torch

    pending, means = Pending(), Means()
    parameter = torch.nn.Parameter(torch.tensor(2.0))
    pending.add(scalars({"loss": parameter * 2, "n": 3, "flag": True, "many": torch.ones(2)}), 0.5, 1.0)
    pending.add(scalars({"loss": torch.tensor(1.0, dtype=torch.bfloat16)}), 1.0, 0.25)
    sums = pending.drain(torch.device("cpu"))
    assert sums == {"loss": (2.25, 1.25), "n": (1.5, 1.0)}
    assert pending.drain(torch.device("cpu")) == {}
    means.add(sums)
    means.add({"loss": (1.0, 0.75)})
    assert means.values() == {"loss": 1.625, "n": 1.5}
    assert Means(means.kept).values() == means.values()
