"""A codec and all that it is trained by, step by step and through the training loop."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mne_labram.models.braincodec import BrainCodec
from mne_labram.models.braincodec.training import BrainCodecForPretraining
from mne_labram.nn.codec_losses import line_length_loss
from mne_labram.training.batches import WindowBatches
from mne_labram.training.logbook import Table
from mne_labram.training.optimization import parameter_groups, parameter_parts
from mne_labram.training.pretrain import pretrain
from mne_labram.training.settings import TrainingSettings
from mne_labram.weights import load_checkpoint
from tests.training.recordings import small_store

ALL = {"l1": 1.0, "l2": 1.0, "line_length": 0.5, "spectral": 0.5, "adversarial": 0.5, "features": 0.5}
FROM_THE_SIGNAL = {"l1": 1.0, "spectral": 1.0}


def _codec(**options: object) -> BrainCodec:
    torch.manual_seed(0)
    sizes = {"n_filters": 4, "max_filters": 8, "dim": 8, "ratios": (2, 2, 2), "codebook_size": 8, "n_codebooks": 2}
    return BrainCodec(**{**sizes, "gain": True, "quantizer_dropout": 0.5, **options})


def _model(weights: dict[str, float] = ALL, codec: BrainCodec | None = None, **options: object):
    codec = _codec() if codec is None else codec
    return BrainCodecForPretraining(codec, weights=weights, n_times=400, discriminator_width=4, **options)


@pytest.fixture
def eeg(make_eeg: Callable[..., np.ndarray]) -> Callable[[int], torch.Tensor]:
    """Return batches of two windows of three channels, in µV."""

    def batch(seed: int) -> torch.Tensor:
        return torch.from_numpy(make_eeg(6, 400, 200.0, seed=seed)).float().view(2, 3, 400)

    return batch


def _gradients(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])


def _train(model: BrainCodecForPretraining, optimizer: torch.optim.Optimizer, steps: range, eeg) -> list[float]:
    losses = []
    for step in steps:
        out = model.training_step({"x": eeg(step)})
        optimizer.zero_grad()
        out["loss"].backward()
        assert torch.isfinite(_gradients(model.codec)).all()
        optimizer.step()
        losses.append(float(out["prd"]))
    return losses


def test_everything_moves_and_comes_back(eeg: Callable[[int], torch.Tensor]) -> None:
    model = _model()
    optimizer = torch.optim.AdamW(parameter_groups(model), lr=1e-3)
    before = copy.deepcopy(model.state_dict())
    _train(model, optimizer, range(4), eeg)
    for name, value in model.state_dict().items():
        moves = name.startswith(("codec.encoder", "codec.decoder", "discriminator", "balancer", "n_steps"))
        # True and false may pull at a bias with the same force while the discriminator has no opinion.
        if moves and not (name.startswith("discriminator") and name.endswith("bias")):
            assert not torch.equal(value, before[name]), name
    kept, state = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    latents = model.quantizer.training_state()
    expected = _train(model, optimizer, range(4, 8), eeg)
    other = _model(codec=_codec(seed=0))
    optimizer = torch.optim.AdamW(parameter_groups(other), lr=1e-3)
    other.load_state_dict(kept)
    optimizer.load_state_dict(state)
    other.quantizer.load_training_state(latents)
    assert _train(other, optimizer, range(4, 8), eeg) == expected
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_the_codec_learns(eeg: Callable[[int], torch.Tensor]) -> None:
    model = _model({"l1": 1.0, "l2": 1.0, "spectral": 0.3}, _codec(quantizer_dropout=0.0))
    optimizer = torch.optim.AdamW(parameter_groups(model, weight_decay=0.0), lr=5e-3)
    found = _train(model, optimizer, range(100), eeg)
    assert np.mean(found[-10:]) < 0.75 * np.mean(found[:5])


@pytest.mark.parametrize("balance", [True, False])
def test_what_the_codec_learns_from(balance: bool, eeg: Callable[[int], torch.Tensor]) -> None:
    """The gradient is that of the losses, written out; and the discriminator has its own."""
    model = _model({"l1": 1.0, "line_length": 3.0}, _codec(kmeans_init=False), balance=balance, commitment=0.7)
    twin = copy.deepcopy(model)
    out = model.training_step(eeg(0))
    out["loss"].backward()
    done = twin.codec._run(eeg(0))
    given, wanted = done.given.flatten(0, 1), done.wanted.flatten(0, 1)
    l1, line = F.l1_loss(given, wanted), line_length_loss(given, wanted)
    gradients = [torch.autograd.grad(loss, given, retain_graph=True)[0] for loss in (l1, line)]
    if balance:
        # Every item's gradient is a mean over 6 items; the norms, on average over them, become 1/4 and 3/4.
        norms = [float((6 * gradient).norm(dim=1).mean()) for gradient in gradients]
        # Together they pull as hard as a mean absolute error over 400 samples, whose gradient has the norm 1 / 20.
        mixed = (0.25 * gradients[0] / norms[0] + 0.75 * gradients[1] / norms[1]) / 20
    else:
        mixed = gradients[0] + 3 * gradients[1]
    ((given * mixed).sum() + 0.7 * done.quantized.loss).backward()
    torch.testing.assert_close(_gradients(model.codec), _gradients(twin.codec), rtol=1e-4, atol=1e-5)
    assert float(out["l1_loss"]) == pytest.approx(float(l1.detach()))
    assert float(out["line_length_loss"]) == pytest.approx(float(line.detach()))
    error = (given - wanted).detach().norm(dim=1) / wanted.norm(dim=1)
    assert float(out["prd"]) == pytest.approx(100 * float(error.mean()), rel=1e-5)
    assert float(out["loss"].detach()) == pytest.approx(float(out["prd"]) / 100)
    assert {name for name, value in out.items() if value.requires_grad} == {"loss"}


def test_codec_and_discriminator_do_not_learn_from_each_others_losses(eeg: Callable[[int], torch.Tensor]) -> None:
    """The discriminator's gradient is that of its hinge loss on a detached signal, whatever the codec is told."""
    model = _model({**FROM_THE_SIGNAL, "adversarial": 3.0, "features": 2.0}, _codec(kmeans_init=False))
    twin = copy.deepcopy(model)
    model.training_step(eeg(0))["loss"].backward()
    with torch.no_grad():
        done = twin.codec._run(eeg(0))
    true, false = (twin.discriminator(signal.flatten(0, 1)) for signal in (done.wanted, done.given))
    loss = sum(F.relu(1 - yes).mean() + F.relu(1 + no).mean() for (yes, _), (no, _) in zip(true, false, strict=True))
    loss.backward()
    torch.testing.assert_close(_gradients(model.discriminator), _gradients(twin.discriminator))
    # And the codec hears of it: without, its gradient is another.
    deaf = _model({**FROM_THE_SIGNAL, "adversarial": 3.0}, _codec(kmeans_init=False), discriminator_start=1)
    alone = _model(FROM_THE_SIGNAL, _codec(kmeans_init=False))
    for each in (deaf, alone):
        each.training_step(eeg(0))["loss"].backward()
    torch.testing.assert_close(_gradients(deaf.codec), _gradients(alone.codec))
    assert float(_gradients(deaf.discriminator).norm()) > 0
    assert float((_gradients(model.codec) - _gradients(alone.codec)).norm()) > 0.1 * float(
        _gradients(alone.codec).norm()
    )


def test_evaluation_changes_nothing(eeg: Callable[[int], torch.Tensor]) -> None:
    model = _model().eval()
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        out = model.training_step(eeg(0))
        assert torch.equal(out["loss"], model.training_step(eeg(0))["loss"])
    model.training_step(eeg(0))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert {f"{name}_loss" for name in ALL} | {"discriminator_loss", "commitment_loss", "prd"} < set(out)


def test_parts_of_the_parameters() -> None:
    model = _model(discriminator_lr=0.1)
    parts = parameter_parts(model)
    assert list(parts) == ["", "discriminator."]
    assert {id(p) for p in parts["discriminator."]} == {id(p) for p in model.discriminator.parameters()}
    assert {id(p) for p in parts[""]} == {id(p) for p in model.codec.parameters()}
    for group in parameter_groups(model):
        judges = {name.startswith("discriminator.") for name in group["names"]}
        assert group["lr_scale"] == (0.1 if judges == {True} else 1.0)
        assert len(judges) == 1
    assert list(parameter_parts(_model(FROM_THE_SIGNAL))) == [""]


def test_bad_arguments(eeg: Callable[[int], torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="There is no loss 'mel'; losses are l1, l2"):
        _model({"mel": 1.0})
    for weights in ({}, {"adversarial": 1.0}, {"l1": 0.0}):
        with pytest.raises(ValueError, match="At least one loss of the signal must count"):
            _model(weights)
    with pytest.raises(ValueError, match="must not be negative"):
        _model({"l1": 1.0, "features": -1.0})
    with pytest.raises(ValueError, match="discriminator_lr must be positive"):
        _model(discriminator_lr=0.0)
    with pytest.raises(ValueError, match="give n_times"):
        BrainCodecForPretraining(_codec(), weights=ALL)
    with pytest.raises(ValueError, match="200 samples are shorter than the longest window"):
        _model().training_step(eeg(0)[..., :200])
    with pytest.raises(ValueError, match="NaN"):
        _model().training_step(eeg(0) * torch.nan)


SETTINGS = TrainingSettings(epochs=2, lr=1e-3, warmup_steps=2, log_every=1, checkpoint_minutes=None, clip_grad=1.0)


def _pretrain(folder: Path, *, seed: int = 0, **settings: object):
    torch.manual_seed(seed)
    model = _model(discriminator_lr=0.5, discriminator_start=3)
    batches = WindowBatches(small_store(), lengths=(2,), batch_size=8)
    held_out = WindowBatches(small_store(1), lengths=(2,), batch_size=9, shuffle=False)
    resume = bool(settings.pop("resume", False))
    settings = replace(SETTINGS, **settings)
    return model, pretrain(model, batches, folder, settings=settings, validation=held_out, device="cpu", resume=resume)


def test_training_through_the_loop_and_going_on(tmp_path: Path) -> None:
    model, done = _pretrain(tmp_path / "whole")
    assert done.finished
    rows = Table(tmp_path / "whole" / "log.csv").rows()
    assert {"prd", "l1_loss", "adversarial_loss", "discriminator_loss", "discriminator_grad_norm"} < set(rows[0])
    assert all(float(row["grad_norm"]) > 0 and float(row["discriminator_grad_norm"]) > 0 for row in rows)
    epochs = Table(tmp_path / "whole" / "epochs.csv").rows()
    assert float(epochs[-1]["validation_loss"]) == pytest.approx(float(epochs[-1]["validation_prd"]) / 100)
    assert 0 < float(epochs[-1]["epoch_codebook_usage"]) <= 1
    # The weights are those of the codec alone, and give the same codes.
    codec = load_checkpoint(tmp_path / "whole" / "final.safetensors")
    assert isinstance(codec, BrainCodec)
    x = torch.from_numpy(small_store().read(0, 0, 400))[None]
    assert torch.equal(codec.encode(x), model.codec.encode(x))
    # Broken off in the first epoch and in the second, by time; what it began with elsewhere does not matter.
    for max_minutes in (1e-9, 1e-9, None):
        settings = {"max_minutes": max_minutes, "resume": True}
        if max_minutes is not None:
            settings["checkpoint_every"] = 1
        other, again = _pretrain(tmp_path / "parts", seed=3, **settings)
    assert again.finished
    assert again.step == done.step
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    wanted, got = (Table(tmp_path / name / "log.csv").rows() for name in ("whole", "parts"))
    assert [row["loss"] for row in wanted] == [row["loss"] for row in got]


def test_another_objective_is_another_training(tmp_path: Path) -> None:
    _pretrain(tmp_path, max_minutes=1e-9)
    model = _model(discriminator_lr=0.5, discriminator_start=3, decay=0.9)
    batches = WindowBatches(small_store(), lengths=(2,), batch_size=8)
    with pytest.raises(ValueError, match=r"another training: objective\.decay was 0\.999 and is now 0\.9"):
        pretrain(model, batches, tmp_path, settings=SETTINGS, device="cpu", resume=True)


def test_a_codec_alone_can_be_trained(tmp_path: Path) -> None:
    batches = WindowBatches(small_store(), lengths=(2,), batch_size=8)
    held_out = WindowBatches(small_store(1), lengths=(2,), batch_size=9, shuffle=False)
    done = pretrain(_codec(), batches, tmp_path, settings=SETTINGS, validation=held_out, device="cpu")
    assert 0 < done.metrics["validation_codebook_usage"] <= 1
    assert 1 <= done.metrics["validation_codebook_perplexity"] <= 8
    assert 0 < done.metrics["epoch_codebook_usage"] <= 1


def test_latents_learn_to_be_worth_rounding(eeg: Callable[[int], torch.Tensor]) -> None:
    """With the bits of rounding among the losses, the same latents take fewer bits for the same error."""
    model = _model({"l2": 1.0}, _codec(linear_path=True), refinement=1.0, refinement_octaves=(-1.0, 0.0)).train()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    seen = []
    for step in range(60):
        torch.manual_seed(step)
        losses = model.training_step(eeg(step % 4))
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        seen.append(float(losses["rounding_loss"]))
    assert model.objective["refinement"] == 1.0
    assert np.isfinite(seen).all()
    assert np.mean(seen[-10:]) < 0.97 * np.mean(seen[:10])


@pytest.mark.parametrize(
    "options",
    [
        {"refinement": -1.0},
        {"refinement": float("nan")},
        {"refinement": 1.0, "refinement_octaves": (1.0, 0.0)},
        {"refinement": 1.0, "refinement_octaves": (1.0,)},
    ],
)
def test_rounding_that_makes_no_sense_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must not be negative and its octaves must be an ascending pair"):
        _model({"l2": 1.0}, **options)
