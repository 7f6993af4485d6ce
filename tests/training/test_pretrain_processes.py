"""The training loop in processes that are killed, and in two at once."""

from __future__ import annotations

import importlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mne_labram.training.logbook import Table
from mne_labram.training.resume import latest_checkpoint

SCRIPTS = Path(__file__).parent
# What depends on the clock.
_CLOCK = ("windows_per_second", "peak_memory_mb")


def _start(*command: str | Path, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MNE_LOGGING_LEVEL": "error", **environment},
    )


def _output(process: subprocess.Popen) -> str:
    out, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    return out


def _curves(folder: Path) -> dict[str, list[dict[str, float]]]:
    return {
        name: [
            {key: float(value) for key, value in row.items() if value and key not in _CLOCK}
            for row in Table(folder / name).rows()
        ]
        for name in ("log.csv", "epochs.csv")
    }


def _assert_same_curves(one: Path, two: Path, tolerance: float) -> None:
    for name, rows in _curves(one).items():
        others = _curves(two)[name]
        assert len(rows) == len(others) > 2
        for row, other in zip(rows, others, strict=True):
            assert row == pytest.approx(other, rel=tolerance, abs=tolerance)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_killed_at_any_moment_it_ends_with_the_same_curve(tmp_path: Path) -> None:
    out = _output(_start(SCRIPTS / "killed.py", tmp_path, 0))
    assert int(out.split()[0]) >= 1
    _assert_same_curves(tmp_path / "killed", tmp_path / "whole", 1e-4)
    (record, tensors), (other, others) = (
        latest_checkpoint(tmp_path / name / "checkpoints") for name in ("whole", "killed")
    )
    assert record["step"] == other["step"] == 33
    assert {*tensors} == {*others}
    for name, value in tensors.items():
        torch.testing.assert_close(value, others[name], rtol=1e-4, atol=1e-5, msg=name)


def _start_two(folder: Path, what: str) -> subprocess.Popen:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launch = ("-m", "accelerate.commands.launch", "--num_machines", 1, "--mixed_precision", "no")
    launch = (*launch, "--dynamo_backend", "no", "--main_process_port", port)
    script = SCRIPTS / "two_processes.py"
    # With --cpu, accelerate launch starts one process however many it is asked for.
    launch = (*launch, "--multi_gpu", "--num_processes", 2)
    return _start(*launch, script, folder, what, ACCELERATE_USE_CPU="true")


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no distributed package")
def test_two_processes_train_as_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = _start_two(tmp_path / "two", "tokenizer")
    monkeypatch.syspath_prepend(SCRIPTS)
    importlib.import_module("two_processes").train(tmp_path / "one")
    assert sorted(_output(both).split()) == ["12", "12", "main", "other"]
    one = torch.load(tmp_path / "one" / "0.pt", weights_only=True)
    first, second = (torch.load(tmp_path / "two" / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert bool(one["quantizer.initialized"])
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    for name in ("quantizer.codebook", "quantizer.cluster_size", "quantizer.steps_unused", "target.mean", "target.std"):
        torch.testing.assert_close(first[name], one[name], rtol=1e-5, atol=1e-5, msg=name)
    # Not every weight: AdamW moves one whose gradient is 0 but for rounding (a bias before a norm) anywhere.
    # Perplexity and usage of a batch are means over processes of what each had.
    rows, others = (_curves(tmp_path / name)["log.csv"] for name in ("one", "two"))
    for name in ("loss", "log_amplitude_loss", "commitment_loss", "grad_norm", "lr"):
        assert [row[name] for row in others] == pytest.approx([row[name] for row in rows], rel=1e-3, abs=1e-6)
    # Only the first process writes, and either number of processes can go on with it.
    assert len(rows) == 4
    record, _ = latest_checkpoint(tmp_path / "two" / "checkpoints")
    assert record["config"] == latest_checkpoint(tmp_path / "one" / "checkpoints")[0]["config"]


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no distributed package")
def test_two_processes_train_a_codec_and_its_discriminator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = _start_two(tmp_path / "two", "codec")
    monkeypatch.syspath_prepend(SCRIPTS)
    importlib.import_module("two_processes").train_codec(tmp_path / "one")
    assert sorted(_output(both).split())[-2:] == ["main", "other"]
    one = torch.load(tmp_path / "one" / "0.pt", weights_only=True)
    first, second = (torch.load(tmp_path / "two" / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert bool(one["codec.quantizer.initialized"])
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
        # Not every weight of the discriminator, of which some have a gradient of 0 but for rounding.
        if not name.startswith("discriminator"):
            torch.testing.assert_close(value, one[name], rtol=1e-3, atol=1e-3, msg=name)
    rows, others = (_curves(tmp_path / name)["log.csv"] for name in ("one", "two"))
    assert len(rows) > 5
    for name in ("prd", "l1_loss", "l2_loss", "discriminator_loss", "grad_norm", "discriminator_grad_norm"):
        assert [row[name] for row in others] == pytest.approx([row[name] for row in rows], rel=1e-3, abs=1e-5)
