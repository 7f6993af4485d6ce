"""The training loop, in one process."""

from __future__ import annotations

import errno
import json
import math
import os
import random
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mne_labram.models.labram import LabramForMaskedModeling
from mne_labram.training import resume, trainer
from mne_labram.training.augment import Augmentation
from mne_labram.training.batches import WindowBatches
from mne_labram.training.logbook import Table
from mne_labram.training.pretrain import CollapsedCodebookError, DivergedError, pretrain
from mne_labram.training.settings import TrainingSettings
from mne_labram.training.trainer import Trainer
from mne_labram.weights import describe_checkpoint, load_checkpoint

from .recordings import THREE, small_store, small_tokenizer

SETTINGS = TrainingSettings(epochs=2, lr=2e-3, warmup_steps=3, log_every=1, checkpoint_minutes=None)
# What depends on the clock.
_CLOCK = ("windows_per_second", "peak_memory_mb")


def _tokenizer(**options) -> nn.Module:
    torch.manual_seed(0)
    # Knows every montage that augmentation makes.
    return small_tokenizer(spatial="coordinates", **options)


def _batches(**options) -> WindowBatches:
    return WindowBatches(small_store(), **{"lengths": (2,), "batch_size": 8, "augment": Augmentation(), **options})


def _log(folder: Path, name: str = "log.csv") -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if k not in _CLOCK} for row in Table(folder / name).rows()]


def _assert_same_log(one: Path, two: Path) -> None:
    """Compare all that does not depend on the clock; sums of parts are rounded in another order."""
    for name in ("log.csv", "epochs.csv"):
        rows, others = _log(one, name), _log(two, name)
        assert len(rows) == len(others) > 0
        for row, other in zip(rows, others, strict=True):
            assert {key for key in row if row[key]} == {key for key in other if other[key]}
            assert {key: float(row[key]) for key in row if row[key]} == pytest.approx(
                {key: float(other[key]) for key in other if other[key]}, rel=1e-9
            )


class Line(nn.Module):
    """Somebody else's model: one number for the mean square of the signal."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.zeros(()))
        self.register_buffer("n_seen", torch.zeros((), dtype=torch.long))
        self.seen: list[tuple] = []
        self.poison_from: int | None = None

    def training_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        x = batch["x"]
        self.seen.append((self.training, float(torch.rand(())), random.random(), float(np.random.rand())))  # noqa: NPY002
        if self.training:
            self.n_seen += len(x)
        loss = ((x / 30).square().mean(dim=(1, 2)) - self.level).square().mean()
        if self.poison_from is not None and int(self.n_seen) > self.poison_from:
            loss = loss * torch.nan
        return {"loss": loss, "level": float(self.level.detach()), "names": batch["ch_names"]}


def test_a_tokenizer_learns_and_is_written_down(tmp_path: Path) -> None:
    model = _tokenizer(warmup_steps=2)
    settings = replace(SETTINGS, epochs=8)
    held_out = WindowBatches(small_store(1), lengths=(2,), batch_size=9, shuffle=False)
    done = pretrain(
        model, _batches(), tmp_path, settings=settings, validation=held_out, device="cpu", card={"licence": "none"}
    )
    assert done.finished
    assert not model.training
    assert done.step == 8 * 7
    rows = _log(tmp_path)
    assert [int(row["step"]) for row in rows] == list(range(1, 57))
    assert [int(row["epoch"]) for row in rows] == [1 + i // 7 for i in range(56)]
    assert float(rows[2]["lr"]) == pytest.approx(2e-3)
    assert float(rows[0]["lr"]) == pytest.approx(2e-3 / 3)
    assert float(rows[-1]["lr"]) < 1e-4
    assert all(float(row["grad_norm"]) > 0 for row in rows)
    epochs = _log(tmp_path, "epochs.csv")
    assert [int(row["step"]) for row in epochs] == list(range(7, 57, 7))
    losses = [float(row["log_amplitude_loss"]) for row in epochs]
    assert losses[-1] < 0.9 * losses[0]
    # The codes were found in the second epoch, so the first to be judged is the third.
    assert [row["epoch_codebook_usage"] for row in epochs[:2]] == ["", ""]
    assert all(0.05 < float(row["epoch_codebook_usage"]) <= 1 for row in epochs[2:])
    assert 1 < float(epochs[-1]["validation_codebook_perplexity"]) <= 32
    # A row of epochs.csv holds the means over its steps.
    mean = sum(float(row["loss"]) for row in rows[7:14]) / 7
    assert float(epochs[1]["loss"]) == pytest.approx(mean, rel=1e-9)
    assert {"windows_per_second", "peak_memory_mb"} < set(Table(tmp_path / "log.csv").rows()[0])
    best = min(epochs, key=lambda row: float(row["validation_loss"]))
    assert int(describe_checkpoint(tmp_path / "best.safetensors")["card"]["steps"]) == int(best["step"])
    card = describe_checkpoint(tmp_path / "final.safetensors")["card"]
    assert (card["steps"], card["finished"], card["licence"], card["n_subjects"]) == (56, True, "none", 5)
    assert card["data"] == ["one", "two"]
    assert card["config"]["training"]["lr"] == 2e-3
    assert card["metrics"]["loss"] == pytest.approx(float(epochs[-1]["loss"]))
    again = load_checkpoint(tmp_path / "final.safetensors")
    x = torch.from_numpy(small_store().read(0, 0, 400))[None]
    assert torch.equal(again.encode(x), model.encode(x))


def test_masked_modelling_and_its_validation(tmp_path: Path) -> None:
    teacher = _tokenizer(kmeans_init=False)
    model = LabramForMaskedModeling(
        ch_names=list(THREE), size="small", embed_dim=32, num_layers=2, num_heads=2, tokenizer=teacher
    )
    held_out = WindowBatches(small_store(1), lengths=(2,), batch_size=9, shuffle=False)
    settings = replace(SETTINGS, epochs=2, lr=1e-9, min_lr=0.0)
    pretrain(model, _batches(augment=None), tmp_path, settings=settings, validation=held_out, device="cpu")
    rows = _log(tmp_path, "epochs.csv")
    assert {"accuracy", "masked_loss", "validation_accuracy", "validation_symmetric_loss"} < set(rows[0])
    # With weights that hardly move: the same masks every time, but others in every step of training.
    assert float(rows[0]["validation_loss"]) == pytest.approx(float(rows[1]["validation_loss"]), rel=1e-6)
    assert len({row["loss"] for row in _log(tmp_path)}) == len(_log(tmp_path))


def test_stopping_and_going_on_changes_nothing(tmp_path: Path) -> None:
    """A checkpoint in the middle of an epoch, of a logging interval and of the collection of latents."""

    def train(folder: Path, **options) -> Any:
        model = _tokenizer(warmup_steps=3, n_codes=32, drop_prob=0.1)
        settings = replace(SETTINGS, log_every=4, accumulate=2, clip_grad=1.0, epochs=3, **options.pop("settings", {}))
        return model, pretrain(model, _batches(batch_size=4), folder, settings=settings, device="cpu", **options)

    whole, _ = train(tmp_path / "whole", settings={"checkpoint_every": 5})
    parts = tmp_path / "parts"
    steps = []
    with pytest.MonkeyPatch.context() as patch:
        # As if the time was up; 7 is the last step of an epoch.
        patch.setattr(Trainer, "_decide", lambda self: 2 * (self.step in (1, 2, 6, 7, 12)))
        while not steps or steps[-1] < 21:
            model, done = train(parts, resume=True, settings={"checkpoint_minutes": 1.0})
            steps.append(done.step)
    assert steps == [1, 2, 6, 7, 12, 21]
    _assert_same_log(parts, tmp_path / "whole")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name
    assert bool(model.quantizer.initialized)
    assert len(list((parts / "checkpoints").iterdir())) == 2
    # Once more: nothing to do.
    before = _log(parts)
    again = train(parts, resume=True)[1]
    assert again.finished
    assert _log(parts) == before


def test_another_training_is_refused(tmp_path: Path) -> None:
    pretrain(Line(), _batches(), tmp_path, settings=replace(SETTINGS, max_steps=2), device="cpu")
    with pytest.raises(FileExistsError, match="holds a training of 2 steps; go on with it with resume=True"):
        pretrain(Line(), _batches(), tmp_path, settings=replace(SETTINGS, max_steps=2), device="cpu")
    for options, named in (
        ({"settings": replace(SETTINGS, max_steps=2, lr=1e-3)}, r"training\.lr was 0\.002 and is now 0\.001"),
        ({"seed": 1}, "seed was 0 and is now 1"),
        ({"batches": _batches(batch_size=5)}, r"data\.digest"),
        ({"batches": _batches(seed=4)}, r"data\.seed was 0 and is now 4"),
        ({"config": {"tokenizer": "x"}}, "tokenizer was 'absent' and is now 'x'"),
        ({"model": nn.Module()}, "has no training_step"),
    ):
        arguments = {"model": Line(), "batches": _batches(), "settings": replace(SETTINGS, max_steps=2), **options}
        with pytest.raises((ValueError, TypeError), match=named):
            pretrain(**arguments, folder=tmp_path, resume=True, device="cpu")
    # How often it is logged is nobody's business.
    free = replace(SETTINGS, max_steps=2, log_every=7, workers=0, checkpoint_every=1, keep=1)
    assert pretrain(Line(), _batches(), tmp_path, settings=free, resume=True, device="cpu").finished


def test_any_model_and_nothing_is_left_behind(tmp_path: Path) -> None:
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1]  # noqa: NPY002
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    found = []

    def judge(model: nn.Module) -> dict[str, float]:
        found.append(model.training)
        return {"loss": 1.0, "score": 0.5}

    model = Line()
    settings = replace(SETTINGS, epochs=3, lr=0.5, min_lr=0.1, weight_decay=0.0)
    done = pretrain(model, _batches(), tmp_path, settings=settings, validation=judge, device="cpu")
    assert done.weights is None
    assert not list(tmp_path.glob("*.safetensors"))
    assert done.metrics["validation_score"] == 0.5
    assert found == [False] * 3
    assert float(model.level.detach()) > 0.1
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.array_equal(np.random.get_state()[1], states[2])  # noqa: NPY002
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    # Everything random follows from the seed.
    again, other = Line(), Line()
    for each, seed in ((again, 0), (other, 1)):
        pretrain(each, _batches(), tmp_path / str(seed), settings=settings, seed=seed, device="cpu")
    assert [each for each in model.seen if each[0]] == again.seen
    assert len(set(again.seen)) == 21
    assert not set(again.seen) & set(other.seen)


def test_accumulation_is_one_large_batch(tmp_path: Path) -> None:
    def train(name: str, batches: WindowBatches, **options) -> list[float]:
        model = Line()
        pretrain(model, batches, tmp_path / name, settings=replace(SETTINGS, lr=0.1, **options), device="cpu")
        return [float(row["level"]) for row in _log(tmp_path / name)]

    store = small_store()
    store.recordings = store.recordings[:2]  # 17 windows of three channels
    large = WindowBatches(store, lengths=(2,), batch_size=17, shuffle=False)
    small = WindowBatches(store, lengths=(2,), batch_size=17, shuffle=False)
    # Two batches of 9 and 8 windows, of which each counts half.
    halves = WindowBatches(store, lengths=(2,), batch_size=9, shuffle=False)
    one, same, two = train("one", large), train("same", small), train("two", halves, accumulate=2)
    assert one == same
    assert len(one) == len(two) == 2
    np.testing.assert_allclose(one, two, rtol=0.05)
    assert _log(tmp_path / "two")[-1]["step"] == "2"


def test_the_last_step_of_an_epoch_may_have_fewer_batches(tmp_path: Path) -> None:
    settings = replace(SETTINGS, accumulate=5, epochs=2)
    done = pretrain(Line(), _batches(), tmp_path, settings=settings, device="cpu")  # 7 batches per epoch
    assert done.step == 4


@pytest.mark.parametrize("at", [0, 20])
def test_nan_stops_with_advice_and_keeps_the_checkpoint_before(tmp_path: Path, at: int) -> None:
    model = Line()
    model.poison_from = at
    settings = replace(SETTINGS, checkpoint_every=1, log_every=4)
    with pytest.raises(DivergedError, match=r"diverged by step \d: loss .*is NaN or infinite; lower lr") as error:
        pretrain(model, _batches(), tmp_path, settings=settings, device="cpu")
    assert "\n" not in str(error.value)
    steps = resume.checkpoint_steps(tmp_path / "checkpoints")
    assert steps == ([] if at == 0 else [2, 1])
    if at:
        assert all(value.isfinite().all() for value in resume.latest_checkpoint(tmp_path / "checkpoints")[1].values())


def test_infinite_weights_are_not_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of the last step was fine; what it made of the weights is not."""
    model = Line()

    def spoil(values: dict, share: float, count: float) -> None:
        with torch.no_grad():
            model.level.fill_(math.inf)

    monkeypatch.setattr(trainer.Pending, "add", lambda self, *arguments: spoil(*arguments))
    with pytest.raises(DivergedError, match="level is NaN or infinite"):
        pretrain(model, _batches(), tmp_path, settings=replace(SETTINGS, max_steps=1), device="cpu")
    assert resume.checkpoint_steps(tmp_path / "checkpoints") == []


def test_a_collapsed_codebook_stops_with_advice(tmp_path: Path) -> None:
    model = _tokenizer(kmeans_init=False, n_codes=64, revive_dead_codes=False)
    with torch.no_grad():
        model.to_latent[2].weight.zero_()  # all latents are one
        model.to_latent[2].bias.fill_(1.0)
    with pytest.raises(CollapsedCodebookError, match=r"collapsed: [12] of 64 codes were used in epoch 1; train with"):
        pretrain(model, _batches(), tmp_path, settings=replace(SETTINGS, lr=1e-9, min_lr=0.0), device="cpu")


def test_few_tokens_are_no_collapse(tmp_path: Path) -> None:
    """An epoch of 384 tokens cannot use more than 384 of 100 000 codes."""
    model = _tokenizer(kmeans_init=False, n_codes=100_000, revive_dead_codes=False)
    settings = replace(SETTINGS, epochs=1, smallest_usage=0.02)
    done = pretrain(model, _batches(), tmp_path, settings=settings, device="cpu")
    assert done.metrics["epoch_codebook_usage"] < 0.004


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_step_and_saves(tmp_path: Path, number: int) -> None:
    class Signalled(Line):
        def training_step(self, batch: dict[str, Any]) -> dict[str, Any]:
            if len(self.seen) == 3:
                os.kill(os.getpid(), number)
            return super().training_step(batch)

    with pytest.raises(KeyboardInterrupt, match="Stopped after step 4 of 14; go on with resume=True"):
        pretrain(Signalled(), _batches(), tmp_path, settings=SETTINGS, device="cpu")
    assert resume.checkpoint_steps(tmp_path / "checkpoints") == [4]
    assert len(_log(tmp_path)) == 4


def test_the_second_signal_stops_at_once(tmp_path: Path) -> None:
    class Stubborn(Line):
        def training_step(self, batch: dict[str, Any]) -> dict[str, Any]:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            raise AssertionError("This is never reached.")

    with pytest.raises(KeyboardInterrupt):
        pretrain(Stubborn(), _batches(), tmp_path, settings=SETTINGS, device="cpu")
    assert resume.checkpoint_steps(tmp_path / "checkpoints") == []


def test_the_time_is_up(tmp_path: Path) -> None:
    settings = replace(SETTINGS, max_minutes=1e-9)
    model = _tokenizer()
    done = pretrain(model, _batches(), tmp_path, settings=settings, device="cpu")
    assert (done.step, done.finished) == (1, False)
    assert (done.metrics["epoch"], done.metrics["step"]) == (1, 1)
    assert describe_checkpoint(done.weights)["card"]["finished"] is False
    # The learning rate does not know of it, so it can be gone on with.
    done = pretrain(_tokenizer(), _batches(), tmp_path, settings=SETTINGS, resume=True, device="cpu")
    assert (done.step, done.finished) == (14, True)


def _half(model: nn.Module) -> dict[str, float]:
    return {"loss": 0.5}


def test_numbers_of_an_earlier_epoch_are_not_those_of_a_later_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of time in the second epoch, the card does not give the validation after the first as that of now."""
    decide = trainer.Trainer._decide
    monkeypatch.setattr(trainer.Trainer, "_decide", lambda self: 2 if self.step == 9 else decide(self))
    done = pretrain(Line(), _batches(), tmp_path, settings=SETTINGS, validation=_half, device="cpu")
    assert (done.step, done.finished, done.metrics["epoch"]) == (9, False, 2)
    assert _log(tmp_path, "epochs.csv")[0]["validation_loss"] == "0.5"
    assert "validation_loss" not in done.metrics


def test_what_is_done_keeps_its_epochs(tmp_path: Path) -> None:
    """Going on with a training that max_steps ended within an epoch takes none of its rows away."""
    settings = replace(SETTINGS, max_steps=10)
    for resumed in (False, True, True):
        done = pretrain(Line(), _batches(), tmp_path, settings=settings, validation=_half, resume=resumed, device="cpu")
        assert done.metrics["validation_loss"] == 0.5
        rows = _log(tmp_path, "epochs.csv")
        assert [(row["epoch"], row["step"], row["validation_loss"]) for row in rows] == [
            ("1", "7", "0.5"),
            ("2", "10", "0.5"),
        ]


def test_weights_without_checkpoints_are_not_written_over(tmp_path: Path) -> None:
    settings = replace(SETTINGS, max_steps=2)
    pretrain(_tokenizer(), _batches(), tmp_path, settings=settings, device="cpu")
    shutil.rmtree(tmp_path / "checkpoints")
    before = (tmp_path / "final.safetensors").read_bytes()
    for resumed in (False, True):
        with pytest.raises(FileExistsError, match="holds the weights of a training .* choose another folder"):
            pretrain(_tokenizer(), _batches(), tmp_path, settings=settings, resume=resumed, device="cpu")
    assert (tmp_path / "final.safetensors").read_bytes() == before


def test_how_long_it_will_be_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Also that a warm-up is longer than the training."""
    settings = replace(SETTINGS, max_steps=10, warmup_steps=20, warmup_epochs=0)
    pretrain(Line(), _batches(), tmp_path, settings=settings, device="cpu")
    assert "10 step(s), which are 1.43 epoch(s); 20 of warm-up." in capsys.readouterr().out
    pretrain(Line(), _batches(), tmp_path, settings=settings, resume=True, device="cpu")
    assert "warm-up" not in capsys.readouterr().out


def test_a_codebook_that_has_not_begun_is_told_of(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for steps, told in ((1, True), (14, False)):
        pretrain(
            _tokenizer(), _batches(), tmp_path / str(steps), settings=replace(SETTINGS, max_steps=steps), device="cpu"
        )
        assert ("The codebook has not begun" in capsys.readouterr().out) == told


@pytest.mark.parametrize("what", ["checkpoint", "log"])
def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    written, save, add = [], resume.save_file, Table.add

    def save_twice(*arguments, **options) -> None:
        written.append(1)
        if what == "checkpoint" and len(written) > 2:
            raise full
        save(*arguments, **options)

    def add_five(self: Table, row: dict) -> None:
        if what == "log" and row["step"] > 5:
            raise full
        add(self, row)

    monkeypatch.setattr(resume, "save_file", save_twice)
    monkeypatch.setattr(Table, "add", add_five)
    settings = replace(SETTINGS, checkpoint_every=2)
    with pytest.raises(OSError, match=r"\(No space left on device.*go on from there with resume=True") as error:
        pretrain(Line(), _batches(), tmp_path, settings=settings, device="cpu")
    assert "\n" not in str(error.value)
    assert resume.checkpoint_steps(tmp_path / "checkpoints") == [4, 2]
    monkeypatch.undo()
    assert pretrain(Line(), _batches(), tmp_path, settings=settings, resume=True, device="cpu").finished
    assert [int(row["step"]) for row in _log(tmp_path)] == list(range(1, 15))


def test_mixed_precision_keeps_the_codebook_in_float32(tmp_path: Path) -> None:
    model = _tokenizer(warmup_steps=1)
    seen = []
    model.encoder.blocks[0].attn.proj.register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    settings = replace(SETTINGS, precision="bf16")
    done = pretrain(model, _batches(), tmp_path, settings=settings, device="cpu")
    assert set(seen) == {torch.bfloat16}
    assert bool(model.quantizer.initialized)
    assert {value.dtype for value in model.state_dict().values() if value.is_floating_point()} == {torch.float32}
    torch.testing.assert_close(model.quantizer.codebook.norm(dim=1), torch.ones(32))
    assert describe_checkpoint(done.weights)["card"]["config"]["training"]["precision"] == "bf16"
    # The next training in this process may have another one.
    model = _tokenizer()
    seen = []
    model.encoder.blocks[0].attn.proj.register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    pretrain(model, _batches(), tmp_path / "no", settings=replace(SETTINGS, max_steps=1), device="cpu")
    assert set(seen) == {torch.float32}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_what_needs_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="precision='fp16' needs a GPU"):
        pretrain(Line(), _batches(), tmp_path, settings=replace(SETTINGS, precision="fp16"))
    with pytest.raises(ValueError, match="There is no GPU that torch can use"):
        pretrain(Line(), _batches(), tmp_path, settings=SETTINGS, device="cuda")
    with pytest.raises(ValueError, match="device must be 'cpu', 'cuda' or None, got 'tpu'"):
        pretrain(Line(), _batches(), tmp_path, settings=SETTINGS, device="tpu")
    assert list(tmp_path.iterdir()) == []


# Dynamo hides this warning; as an error it ends the compilation.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
def test_compiled_blocks_do_the_same(tmp_path: Path) -> None:
    logs = []
    for compiled in (False, "eager"):
        model = _tokenizer()
        settings = replace(SETTINGS, compile=compiled, max_steps=3)
        pretrain(model, _batches(augment=None), tmp_path / str(compiled), settings=settings, device="cpu")
        logs.append([float(row["loss"]) for row in _log(tmp_path / str(compiled))])
        assert model.encoder.blocks[0]._compiled_call_impl is None
    np.testing.assert_allclose(*logs, rtol=1e-5)
    with pytest.raises(ValueError, match="compile must be true, false or one of .*, got 'fast'"):
        pretrain(Line(), _batches(), tmp_path / "x", settings=replace(SETTINGS, compile="fast"), device="cpu")


def test_leftovers_of_a_killed_training_are_removed(tmp_path: Path) -> None:
    for name in (".log.csv-a1b2c3_4", "checkpoints/.step-000000007.safetensors-abcdefgh"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / ".mine-abcdefgh").mkdir()
    pretrain(Line(), _batches(), tmp_path, settings=replace(SETTINGS, max_steps=1), device="cpu")
    assert {path.name for path in tmp_path.iterdir()} == {".mine-abcdefgh", "checkpoints", "log.csv", "epochs.csv"}
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000000001.safetensors"]


def test_what_a_checkpoint_says_is_plain(tmp_path: Path) -> None:
    pretrain(_tokenizer(), _batches(), tmp_path, settings=replace(SETTINGS, max_steps=2), device="cpu")
    record, tensors = resume.latest_checkpoint(tmp_path / "checkpoints")
    assert json.loads(json.dumps(record)) == record
    assert (record["epoch"], record["position"], record["step"]) == (0, 2, 2)
    assert {name.split("/")[0] for name in tensors} == {"model", "optimizer", "training"}


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"epochs": 0}, "epochs must be a whole number of at least 1, got 0"),
        ({"epochs": 1.5}, "epochs must be a whole number"),
        ({"lr": 0}, "lr must be a number above 0, got 0"),
        ({"lr": math.nan}, "lr must be a number above 0"),
        ({"lr": "1e-4"}, "lr must be a number"),
        ({"clip_grad": -1.0}, "clip_grad must be a number above 0"),
        ({"min_lr": 1.0}, r"min_lr \(1\) must not be above lr"),
        ({"betas": [0.9]}, r"betas must be two numbers in \[0, 1\)"),
        ({"precision": "int8"}, "precision must be one of 'auto', 'no', 'bf16', 'fp16', got 'int8'"),
        ({"tensorboard": 1}, "tensorboard must be true or false"),
        ({"warmup_epoch": 3}, r"There is no 'warmup_epoch' in \[training\]; did you mean 'warmup_epochs'\?"),
    ],
)
def test_senseless_settings(tmp_path: Path, options: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        pretrain(Line(), _batches(), tmp_path, settings=options, device="cpu")
    assert list(tmp_path.iterdir()) == []
