"""Train a model on windows, without labels, so that it can be stopped and gone on with at any moment."""

from __future__ import annotations

import math
import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from mne.utils import logger, verbose
from torch import nn

from mne_labram.training.batches import WindowBatches
from mne_labram.training.devices import (
    agree,
    compiled_blocks,
    make_accelerator,
    on_device,
    own_random_state,
    peak_memory,
    seed_step,
    stop_signals,
)
from mne_labram.training.logbook import Logbook, check_tensorboard
from mne_labram.training.means import Means, Pending, scalars
from mne_labram.training.optimization import cosine_learning_rate, parameter_groups, set_learning_rate
from mne_labram.training.resume import (
    checkpoint_steps,
    clear_leftovers,
    differences,
    latest_checkpoint,
    restore_state,
    training_tensors,
    write_checkpoint,
)
from mne_labram.training.settings import TrainingSettings
from mne_labram.training.validation import validate
from mne_labram.weights.checkpoint import save_checkpoint
from mne_labram.weights.config import model_config

__all__ = ["CollapsedCodebookError", "DivergedError", "Pretraining", "pretrain", "refuse_other_training"]

# Why a training stops before its end; the larger number wins where processes have several reasons.
_GO_ON, _TIME_IS_UP, _SIGNAL = 0, 1, 2

Validation = WindowBatches | Callable[[nn.Module], Mapping[str, float]]


class DivergedError(ValueError):
    """A loss, a gradient or a weight is NaN or infinite."""


class CollapsedCodebookError(ValueError):
    """Hardly any code of a tokenizer is in use."""


@dataclass(frozen=True)
class Pretraining:
    """How a training ended.

    Attributes
    ----------
    folder : Path
        Its files.
    step : int
        Steps done.
    finished : bool
        False if the time was up before the last step.
    metrics : dict of str to float
        The last row of ``epochs.csv``.
    weights : Path | None
        ``final.safetensors``; ``None`` for a model that is none of ours.
    is_main : bool
        Whether this process wrote the files; one does.
    """

    folder: Path
    step: int
    finished: bool
    metrics: dict[str, float]
    weights: Path | None
    is_main: bool = True


class _Step(nn.Module):
    """Lets DistributedDataParallel, which watches ``forward``, see a training step."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        return self.model.training_step(batch)


@verbose
def pretrain(
    model: nn.Module,
    batches: WindowBatches,
    folder: str | os.PathLike[str],
    *,
    settings: TrainingSettings | Mapping[str, Any] | None = None,
    seed: int = 0,
    validation: Validation | None = None,
    resume: bool = False,
    device: str | None = None,
    config: Mapping[str, Any] | None = None,
    card: Mapping[str, Any] | None = None,
    verbose: bool | str | int | None = None,
) -> Pretraining:
    """Train a model that has ``training_step``.

    Parameters
    ----------
    model : torch.nn.Module
        ``model.training_step(batch)`` returns a mapping with ``"loss"``, a mean over the windows of the batch, and any
        other numbers, which are logged. The model is trained in place and left in evaluation mode.
    batches : WindowBatches
        What it is trained on.
    folder : path-like
        Gets ``log.csv``, ``epochs.csv``, ``checkpoints/``, ``best.safetensors`` (with ``validation``) and
        ``final.safetensors``.
    settings : TrainingSettings | mapping | None
        How; ``None`` takes the defaults.
    seed : int
        Of everything random in a step: masks, dropout. Order and augmentation follow ``batches.seed``.
    validation : WindowBatches | callable | None
        After every epoch: held-out batches, on which ``training_step`` is evaluated with the same masks every time, or
        a function of the model that returns numbers, among them perhaps ``"loss"``.
    resume : bool
        Go on from the newest checkpoint in ``folder``; begin if there is none.
    device : {"cpu", "cuda"} | None
        Where; ``None`` leaves it to Accelerate: a GPU if there is one.
    config : mapping | None
        What else must be the same when the training is gone on with, as plain JSON values.
    card : mapping | None
        What else the card of the weights shall say.
    verbose : bool | str | int | None
        Control verbosity of the logging output.

    Returns
    -------
    pretraining : Pretraining
        How it ended.

    Raises
    ------
    ValueError
        If a setting makes no sense, precision is not available, or the checkpoint is of another configuration.
    FileExistsError
        If there are checkpoints in ``folder`` and ``resume`` is false.
    DivergedError
        If a loss, a gradient or a weight is NaN or infinite. The checkpoint before that is kept.
    CollapsedCodebookError
        If less than ``settings.smallest_usage`` of the codebook (or of the tokens, if they are fewer) was used in a
        whole epoch.
    KeyboardInterrupt
        After SIGINT (Ctrl-C) or SIGTERM; the step is finished and a checkpoint written first.
    OSError
        If a file cannot be written, for example because the disk is full. The last good checkpoint is kept.
    ImportError
        If TensorBoard is asked for but not installed.

    Notes
    -----
    Runs in one process, or in several (``accelerate launch``, ``torchrun``) that divide every batch between them: with
    the same seed the same training, to rounding, however many there are. Everything random in a step follows from the
    seed, the number of the step and the process, so that no random state has to be kept, and the caller's is left as
    it was.

    The codebook of a tokenizer is float32 under mixed precision too.
    """
    if not hasattr(model, "training_step"):
        raise TypeError(f"{type(model).__name__} has no training_step, so it cannot be pre-trained.")
    if not isinstance(settings, TrainingSettings):
        settings = TrainingSettings.from_dict(settings or {})
    if settings.tensorboard:
        check_tensorboard()
    folder = Path(folder).expanduser()
    with own_random_state():
        trainer = _Trainer(model, batches, folder, settings, seed, validation, device, config or {}, card or {})
        trainer.prepare(resume)
        with stop_signals() as trainer.received, compiled_blocks(model, settings.compile):
            return trainer.run()


class _Trainer:
    """One training: what it is made of, and how far it is."""

    def __init__(
        self,
        model: nn.Module,
        batches: WindowBatches,
        folder: Path,
        settings: TrainingSettings,
        seed: int,
        validation: Validation | None,
        device: str | None,
        config: Mapping[str, Any],
        card: Mapping[str, Any],
    ) -> None:
        self.model, self.batches, self.folder, self.settings = model, batches, folder, settings
        self.seed, self.validation, self.card = seed, validation, card
        self.updates_per_epoch = math.ceil(len(batches) / settings.accumulate)
        self.total = settings.epochs * self.updates_per_epoch
        if settings.max_steps is not None:
            self.total = min(self.total, settings.max_steps)
        if settings.warmup_steps is None:
            self.warmup = round(settings.warmup_epochs * self.updates_per_epoch)
        else:
            self.warmup = settings.warmup_steps
        self.accelerator = make_accelerator(settings, device)
        self.config = {
            "model": _describe(model),
            "training": {**settings.numbers(), "precision": self.accelerator.mixed_precision},
            "data": {**batches.fingerprint(), **batches.options()},
            "seed": seed,
            **config,
        }
        self.step = self.epoch = self.position = 0
        self.best = math.inf
        self.metrics: dict[str, float] = {}
        self.pending, self.interval, self.epoch_means = Pending(), Means(), Means()
        self.received: list[int] = []
        # Whether codes were in use when the epoch began, and how many tokens it has had.
        self.codes_in_use, self.n_tokens = False, 0

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files."""
        return self.accelerator.is_main_process

    def prepare(self, resume: bool) -> None:
        """Read the newest checkpoint, and hand model and optimiser to Accelerate."""
        checkpoints = self.folder / "checkpoints"
        refuse_other_training(self.folder, resume)
        found = latest_checkpoint(checkpoints)
        if found is not None and (different := differences(found[0]["config"], self.config)):
            raise ValueError(f"The checkpoint in {self.folder} is of another training: {different}.")
        checkpoints.mkdir(parents=True, exist_ok=True)
        if self.is_main:
            clear_leftovers(self.folder)
        self.model.train()
        self.raw_step = _Step(self.model)
        groups = parameter_groups(
            self.model, weight_decay=self.settings.weight_decay, layer_decay=self.settings.layer_decay
        )
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        self.wrapped = self.accelerator.prepare_model(self.raw_step)
        self.plain_optimizer = torch.optim.AdamW(
            groups, lr=self.settings.lr, betas=self.settings.betas, eps=self.settings.eps
        )
        self.optimizer = self.accelerator.prepare_optimizer(self.plain_optimizer)
        if found is not None:
            self._restore(*found)

    def _restore(self, record: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        restore_state(self.model, self.plain_optimizer, tensors)
        self.step, self.epoch, self.position = record["step"], record["epoch"], record["position"]
        self.best = math.inf if record["best"] is None else record["best"]
        self.metrics = dict(record["metrics"])
        self.interval, self.epoch_means = Means(record["interval"]), Means(record["epoch_means"])
        self.codes_in_use, self.n_tokens = record["codes_in_use"], record["n_tokens"]
        if self.accelerator.scaler is not None and record["scaler"]:
            self.accelerator.scaler.load_state_dict(record["scaler"])
        logger.info(f"Going on after step {self.step} of {self.total}.")

    def run(self) -> Pretraining:
        """Train to the end, or until there is a reason to stop."""
        self.started = self.saved_at = self.logged_at = time.monotonic()
        self.windows_since = 0
        self.logbook = Logbook(
            self.folder,
            total=self.total,
            first=self.step,
            first_epoch=self.epoch,
            tensorboard=self.settings.tensorboard,
            active=self.is_main,
        )
        try:
            reason = _GO_ON
            while reason == _GO_ON and self.step < self.total:
                reason = self._run_epoch()
            self._save()
            if reason == _SIGNAL:
                raise KeyboardInterrupt(
                    f"Stopped after step {self.step} of {self.total}; go on with resume=True (--resume)."
                )
            return self._finish()
        except OSError as error:
            # What was already said in a sentence has no error number.
            if error.errno is None:
                raise
            raise OSError(
                f"A file could not be written or read ({os.strerror(error.errno)}: {error.filename or self.folder}); "
                "the last checkpoint is kept: go on from there with resume=True (--resume)."
            ) from error
        finally:
            self.logbook.close()
            self.model.eval()

    def _run_epoch(self) -> int:
        """Train to the end of the epoch; return why to stop."""
        quantizer = getattr(self.model, "quantizer", None)
        if self.position == 0:
            self.epoch_means, self.n_tokens = Means(), 0
            self.codes_in_use = quantizer is not None and bool(getattr(quantizer, "initialized", True))
            if hasattr(quantizer, "reset_usage"):
                quantizer.reset_usage()
        batches = self.batches.iterate(
            self.epoch,
            self.position * self.settings.accumulate,
            process=self.accelerator.process_index,
            n_processes=self.accelerator.num_processes,
        )
        try:
            while self.position < self.updates_per_epoch and self.step < self.total:
                self._update(list(islice(batches, self.settings.accumulate)))
                if self.step % self.settings.log_every == 0 or self.step == self.total:
                    self._log()
                if self.step == self.total:
                    break
                reason = self._reason_to_stop()
                if reason != _GO_ON:
                    return reason
                if self._is_due():
                    self._save()
        finally:
            batches.close()
        self._end_epoch()
        return _GO_ON

    def _update(self, batches: list[dict[str, Any]]) -> None:
        """Do one step: forward and backward for each batch, then the optimiser."""
        self.model.train()
        rate = cosine_learning_rate(
            self.step, total=self.total, warmup=self.warmup, peak=self.settings.lr, minimum=self.settings.min_lr
        )
        set_learning_rate(self.plain_optimizer, rate)
        n_processes, part = self.accelerator.num_processes, 1.0 / len(batches)
        for i, batch in enumerate(batches):
            seed_step(self.seed, self.step, i, self.accelerator.process_index)
            share, n_windows = batch["share"], batch["n_windows"]
            last = i == len(batches) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.wrapped):
                out = self.wrapped(on_device(batch, self.accelerator.device))
                # Gradients are averaged over processes: the sum of the shares is the mean over the whole batch.
                self.accelerator.backward(out["loss"] * (share * n_processes * part))
            self.pending.add(scalars(out), share, part)
            self.windows_since += n_windows
            n_chans, n_times = batch["x"].shape[1:]
            self.n_tokens += n_windows * n_chans * max(1, n_times // getattr(self.model, "patch_size", n_times))
        norm = self.accelerator.clip_grad_norm_(self.parameters, self.settings.clip_grad or math.inf)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.accelerator.scaler is not None:
            # An overflow in float16 is not a divergence: the step was left out, and the scale goes down.
            norm = torch.nan_to_num(norm, nan=0.0, posinf=0.0)
        self.pending.add(scalars({"grad_norm": norm, "lr": rate}), 1.0 / n_processes, 1.0)
        self.step, self.position = self.step + 1, self.position + 1
        self.logbook.advance()

    def _drain(self) -> None:
        """Fetch what steps returned, and refuse to go on from NaN."""
        sums = self.pending.drain(self.accelerator.device)
        bad = [name for name in ("loss", "grad_norm") if name in sums and not math.isfinite(sums[name][0])]
        if bad:
            raise DivergedError(self._divergence(" and ".join(bad).replace("grad_norm", "norm of the gradient")))
        self.interval.add(sums)
        self.epoch_means.add(sums)

    def _divergence(self, what: str) -> str:
        clip = "" if self.settings.clip_grad else ", clip the gradient (clip_grad = 3.0)"
        precision = " or train in float32" if self.accelerator.mixed_precision != "no" else ""
        return (
            f"The training has diverged by step {self.step}: {what} is NaN or infinite; lower lr "
            f"({self.settings.lr:g}), lengthen the warm-up{clip}{precision}; the last checkpoint before it is kept."
        )

    def _log(self) -> None:
        self._drain()
        now = time.monotonic()
        self.logbook.log(
            {
                "step": self.step,
                "epoch": self.epoch + 1,
                **self.interval.values(),
                "windows_per_second": round(self.windows_since / max(now - self.logged_at, 1e-9), 2),
                "peak_memory_mb": peak_memory(self.accelerator.device),
            }
        )
        self.interval, self.logged_at, self.windows_since = Means(), now, 0

    def _reason_to_stop(self) -> int:
        """Ask all processes whether to stop after this step."""
        reason = _SIGNAL if self.received else _GO_ON
        limit = self.settings.max_minutes
        if limit is not None and self.is_main and time.monotonic() - self.started > 60 * limit:
            reason = max(reason, _TIME_IS_UP)
        return agree(reason, self.accelerator.device)

    def _is_due(self) -> bool:
        """Tell whether it is time for a checkpoint, in the opinion of the first process."""
        every, minutes = self.settings.checkpoint_every, self.settings.checkpoint_minutes
        due = every is not None and self.step % every == 0
        if minutes is not None and self.is_main:
            due = due or time.monotonic() - self.saved_at > 60 * minutes
        return bool(agree(int(due), self.accelerator.device))

    def _save(self) -> None:
        """Write a checkpoint."""
        self._drain()
        self.saved_at = time.monotonic()
        if not self.is_main:
            return
        try:
            tensors = training_tensors(self.model, self.plain_optimizer)
        except FloatingPointError as error:
            raise DivergedError(self._divergence(str(error).split()[0])) from None
        self.logbook.sync()
        scaler = self.accelerator.scaler
        record = {
            "config": self.config,
            "epoch": self.epoch,
            "position": self.position,
            "best": None if math.isinf(self.best) else self.best,
            "metrics": self.metrics,
            "interval": self.interval.kept,
            "epoch_means": self.epoch_means.kept,
            "codes_in_use": self.codes_in_use,
            "n_tokens": self.n_tokens,
            "scaler": None if scaler is None else scaler.state_dict(),
        }
        write_checkpoint(self.folder / "checkpoints", self.step, tensors, record, keep=self.settings.keep)

    def _end_epoch(self) -> None:
        """Look at the whole epoch: codebook, validation."""
        self._drain()
        whole = self.position == self.updates_per_epoch
        row = {"epoch": self.epoch + 1, "step": self.step, **self.epoch_means.values()}
        usage = self.model.codebook_usage() if self.codes_in_use and hasattr(self.model, "codebook_usage") else None
        if usage is not None:
            row |= {"epoch_codebook_usage": usage["fraction"], "epoch_codebook_perplexity": usage["perplexity"]}
        if self.validation is not None:
            found = validate(self.raw_step, self.validation, accelerator=self.accelerator, seed=self.seed)
            row |= {f"validation_{name}": value for name, value in found.items()}
            loss = row.get("validation_loss", math.inf)
            if loss < self.best:
                self.best = loss
                self._write_weights("best.safetensors", row)
        self.metrics = row
        self.logbook.log_epoch(row)
        self.epoch, self.position = (self.epoch + 1, 0) if whole else (self.epoch, self.position)
        if whole and usage is not None:
            self._check_usage(usage)

    def _check_usage(self, usage: Mapping[str, float]) -> None:
        possible = min(usage["n_codes"], self.n_tokens)
        if usage["n_used"] < self.settings.smallest_usage * possible:
            raise CollapsedCodebookError(
                f"The codebook has collapsed: {usage['n_used']:g} of {usage['n_codes']:g} codes were used in epoch "
                f"{self.epoch}; train with kmeans_init, warmup_steps and revive_dead_codes, on more data or with fewer "
                "codes, or lower lr."
            )

    def _finish(self) -> Pretraining:
        finished = self.step >= self.total
        if self.position:
            # The time was up, or max_steps reached, within an epoch.
            self.metrics = {**self.metrics, **self.epoch_means.values(), "epoch": self.epoch + 1, "step": self.step}
        weights = self._write_weights("final.safetensors", self.metrics)
        logger.info(f"{'Done' if finished else 'The time is up'} after step {self.step} of {self.total}.")
        return Pretraining(self.folder, self.step, finished, dict(self.metrics), weights, self.is_main)

    def _write_weights(self, name: str, metrics: Mapping[str, float]) -> Path | None:
        """Write the weights alone, for use."""
        path = self.folder / name
        if self.config["model"].get("arguments") is None:
            return None
        if self.is_main:
            store = self.batches.store
            card = {
                "data": sorted({str(recording.dataset) for recording in store.recordings}),
                "n_recordings": len(store.recordings),
                "n_subjects": len({(each.dataset, each.subject) for each in store.recordings}),
                "hours": round(getattr(store, "n_hours", math.nan), 3),
                "steps": self.step,
                "finished": self.step >= self.total,
                "n_processes": self.accelerator.num_processes,
                "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
                "config": self.config,
                "metrics": {key: value for key, value in metrics.items() if math.isfinite(value)},
                **self.card,
            }
            if not math.isfinite(card["hours"]):
                del card["hours"]
            save_checkpoint(self.model, path, card=card, overwrite=True)
        return path


def refuse_other_training(folder: Path, resume: bool) -> None:
    """Refuse to train into a folder that holds checkpoints, unless they are to be gone on with."""
    steps = checkpoint_steps(folder / "checkpoints")
    if steps and not resume:
        raise FileExistsError(
            f"{folder} holds a training of {steps[0]} steps; go on with it with resume=True (--resume), or choose "
            "another folder."
        )


def _describe(model: nn.Module) -> dict[str, Any]:
    """Say which model it is: with its arguments if it is one of ours, else with the shapes of its weights."""
    try:
        return {"class": type(model).__name__, "arguments": model_config(model)}
    except TypeError:
        shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
        return {"class": type(model).__name__, "shapes": shapes}
