"""The state of a training in one file."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mne_labram.training import resume
from mne_labram.training.optimization import parameter_groups
from mne_labram.training.resume import (
    checkpoint_steps,
    differences,
    latest_checkpoint,
    restore_state,
    training_tensors,
    write_checkpoint,
)

from .recordings import small_tokenizer


def _tensors(value: float = 1.0) -> dict[str, torch.Tensor]:
    return {"model/weight": torch.full((3, 2), value)}


def _optimizer(model: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameter_groups(model), lr=1e-3)


def _train(model: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> list[float]:
    losses = []
    for step in steps:
        x = 20 * torch.randn(2, 3, 400, generator=torch.Generator().manual_seed(step))
        loss = model.training_step(x)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("first", [1, 2, 30])
def test_everything_comes_back(first: int, tmp_path: Path) -> None:
    """Before k-means, between the collection of latents and k-means, and long after it."""
    torch.manual_seed(0)
    model = small_tokenizer(warmup_steps=1, n_codes=4)
    optimizer = _optimizer(model)
    _train(model, optimizer, range(first))
    write_checkpoint(tmp_path, first, training_tensors(model, optimizer), {"config": {}})
    expected = _train(model, optimizer, range(first, first + 12))
    torch.manual_seed(1)
    other = small_tokenizer(warmup_steps=1, n_codes=4)
    optimizer = _optimizer(other)
    record, tensors = latest_checkpoint(tmp_path)
    assert record["step"] == first
    assert ("training/quantizer/latents.0" in tensors) == (first == 2)
    restore_state(other, optimizer, tensors)
    assert _train(other, optimizer, range(first, first + 12)) == expected
    assert bool(other.quantizer.initialized)
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_tensors_are_copies_and_finite() -> None:
    model = small_tokenizer()
    optimizer = _optimizer(model)
    tensors = training_tensors(model, optimizer)
    with torch.no_grad():
        model.encoder.cls_token.fill_(7.0)
    assert not (tensors["model/encoder.cls_token"] == 7).any()
    with torch.no_grad():
        model.encoder.cls_token[0, 0, 0] = torch.nan
    with pytest.raises(FloatingPointError, match=r"encoder\.cls_token holds NaN"):
        training_tensors(model, optimizer)


def test_another_model_is_refused() -> None:
    model = small_tokenizer()
    tensors = training_tensors(model, _optimizer(model))
    other = small_tokenizer(n_codes=16)
    with pytest.raises(ValueError, match=r"codebook is 32 x 8, not 16 x 8"):
        restore_state(other, _optimizer(other), tensors)


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path / "nowhere") is None
    for step in (5, 12, 100):
        write_checkpoint(tmp_path, step, _tensors(step), {"config": {"lr": 0.1}, "best": None})
    assert checkpoint_steps(tmp_path) == [100, 12]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "step-000000012.safetensors",
        "step-000000100.safetensors",
    ]
    record, tensors = latest_checkpoint(tmp_path)
    assert record == {"format_version": 1, "step": 100, "config": {"lr": 0.1}, "best": None}
    assert torch.equal(tensors["model/weight"], _tensors(100)["model/weight"])
    write_checkpoint(tmp_path, 101, _tensors(), {}, keep=1)
    assert checkpoint_steps(tmp_path) == [101]


def test_a_damaged_one_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_checkpoint(tmp_path, 5, _tensors(5), {})
    newest = write_checkpoint(tmp_path, 6, _tensors(6), {})
    newest.write_bytes(newest.read_bytes()[:-4])
    record, tensors = latest_checkpoint(tmp_path)
    assert record["step"] == 5
    assert float(tensors["model/weight"][0, 0]) == 5
    save_file(_tensors(), newest)  # somebody else's
    assert latest_checkpoint(tmp_path)[0]["step"] == 5
    for path in tmp_path.iterdir():
        path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="No checkpoint in .* can be read"):
        latest_checkpoint(tmp_path)


def test_a_newer_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "FORMAT_VERSION", 2)
    write_checkpoint(tmp_path, 5, _tensors(), {})
    monkeypatch.undo()
    with pytest.raises(ValueError, match="newer mne_labram"):
        latest_checkpoint(tmp_path)


@pytest.mark.parametrize("before", [True, False])
def test_full_disk_at_any_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool) -> None:
    if before:
        write_checkpoint(tmp_path, 5, _tensors(5), {})

    def full(tensors: dict, path: Path, metadata: dict) -> None:
        path.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(resume, "save_file", full)
    kept = "that of step 5 is kept" if before else "there is none before it"
    with pytest.raises(
        OSError, match=rf"checkpoint of step 6 .*\(No space left on device\); {kept}: make room"
    ) as error:
        write_checkpoint(tmp_path, 6, _tensors(6), {})
    assert "\n" not in str(error.value)
    monkeypatch.undo()
    assert checkpoint_steps(tmp_path) == [5] * before
    assert len(list(tmp_path.iterdir())) == before  # nothing half-done beside it


_FULL = """
import resource, sys, torch
from pathlib import Path
from mne_labram.training.resume import checkpoint_steps, latest_checkpoint, write_checkpoint
folder = Path(sys.argv[1])
write_checkpoint(folder, 5, {"model/weight": torch.ones(1000)}, {})
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    write_checkpoint(folder, 6, {"model/weight": torch.ones(100_000)}, {})
except OSError as error:
    print(error)
print(checkpoint_steps(folder), latest_checkpoint(folder)[0]["step"], len(list(folder.iterdir())))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file sizes are POSIX")
def test_a_limit_of_the_system(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _FULL, tmp_path], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    sentence, state = done.stdout.splitlines()
    assert "The checkpoint of step 6 could not be written" in sentence
    assert "(File too large)" in sentence
    assert "that of step 5 is kept" in sentence
    assert state == "[5] 5 1"


def test_differences_are_named() -> None:
    old = {"training": {"lr": 0.1, "betas": (0.9, 0.99)}, "seed": 0, "model": {}}
    assert differences(old, {"training": {"lr": 0.1, "betas": [0.9, 0.99]}, "seed": 0, "model": {}}) == ""
    found = differences(old, {"training": {"lr": 0.2, "betas": [0.9, 0.99], "clip": 1}, "model": {}})
    assert found == (
        "seed was 0 and is now 'absent', training.clip was 'absent' and is now 1, training.lr was 0.1 and is now 0.2"
    )
    assert differences({}, {letter: 1 for letter in "abcde"}).endswith("and is now 1, and 2 more")
