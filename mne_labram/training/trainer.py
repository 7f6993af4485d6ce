"""The loop of a training: step by step, epoch by epoch, with everything that has to be kept in between."""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from mne.utils import logger
from torch import nn

from mne_labram.nn.codebook import least_used
from mne_labram.nn.distributed import broadcast
from mne_labram.training.batches import WindowBatches
from mne_labram.training.devices import agree, make_accelerator, on_device, peak_memory, seed_step
from mne_labram.training.logbook import Logbook
from mne_labram.training.means import Means, Pending, scalars
from mne_labram.training.optimization import (
    cosine_learning_rate,
    parameter_groups,
    parameter_parts,
    set_learning_rate,
)
from mne_labram.training.outcome import (
    CollapsedCodebookError,
    DivergedError,
    Pretraining,
    describe_model,
    write_weights,
)
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
from mne_labram.training.validation import Validation, validate

__all__ = ["Step", "Trainer", "refuse_other_training"]

# What to do after a step; where processes disagree, the largest number wins.
_GO_ON, _SAVE, _TIME_IS_UP, _SIGNAL = range(4)


class Step(nn.Module):
    """Lets DistributedDataParallel, which watches ``forward``, see a training step."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Do a training step."""
        return self.model.training_step(batch)


class Trainer:
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
        # What weights are written of; the rest, a discriminator for example, is of use in training only.
        self.exported = getattr(model, "exported", model)
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
            "model": describe_model(self.exported),
            **({"objective": dict(model.objective)} if hasattr(model, "objective") else {}),
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

    def _say(self, text: str) -> None:
        """Log something once, not once per process."""
        if self.is_main:
            logger.info(text)

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
        self.raw_step = Step(self.model)
        groups = parameter_groups(
            self.model, weight_decay=self.settings.weight_decay, layer_decay=self.settings.layer_decay
        )
        self.parts = parameter_parts(self.model)
        # All begin with what the first process has; DistributedDataParallel does it for parameters only.
        self.model.to(self.accelerator.device)
        broadcast(*self.model.buffers())
        with warnings.catch_warnings():
            # torch 2.13 has another name for it, which Accelerate does not know yet.
            warnings.filterwarnings("ignore", message=".*broadcast_buffers", category=FutureWarning)
            self.wrapped = self.accelerator.prepare_model(self.raw_step)
        self.plain_optimizer = torch.optim.AdamW(
            groups, lr=self.settings.lr, betas=self.settings.betas, eps=self.settings.eps
        )
        self.optimizer = self.accelerator.prepare_optimizer(self.plain_optimizer)
        if found is not None:
            self._restore(*found)
        else:
            n_epochs = self.total / self.updates_per_epoch
            self._say(f"{self.total} step(s), which are {n_epochs:.3g} epoch(s); {self.warmup} of warm-up.")

    def _restore(self, record: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        restore_state(self.model, self.plain_optimizer, tensors)
        self.step, self.epoch, self.position = record["step"], record["epoch"], record["position"]
        self.best = math.inf if record["best"] is None else record["best"]
        self.metrics = dict(record["metrics"])
        self.interval, self.epoch_means = Means(record["interval"]), Means(record["epoch_means"])
        self.codes_in_use, self.n_tokens = record["codes_in_use"], record["n_tokens"]
        if self.accelerator.scaler is not None and record["scaler"]:
            self.accelerator.scaler.load_state_dict(record["scaler"])
        self._say(f"Going on after step {self.step} of {self.total}.")

    def run(self) -> Pretraining:
        """Train to the end, or until there is a reason to stop."""
        self.started = self.saved_at = self.logged_at = time.monotonic()
        self.windows_since = 0
        self.logbook = Logbook(
            self.folder,
            total=self.total,
            first=self.step,
            # The epoch within which max_steps was reached has been looked at; any other is when it ends.
            first_epoch=self.epoch + (self.step >= self.total and self.position > 0),
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
                decision = self._decide()
                if decision > _SAVE:
                    return decision
                if decision == _SAVE:
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
        norms, limit = {}, self.settings.clip_grad or math.inf
        for beginning, parameters in self.parts.items():
            # Accelerate undoes the scaling of float16, of all gradients at once, and only once.
            clip = nn.utils.clip_grad_norm_ if norms else self.accelerator.clip_grad_norm_
            norms[f"{beginning}grad_norm".replace(".", "_")] = clip(parameters, limit)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.accelerator.scaler is not None:
            # An overflow in float16 is not a divergence: the step was left out, and the scale goes down.
            norms = {name: torch.nan_to_num(norm, nan=0.0, posinf=0.0) for name, norm in norms.items()}
        self.pending.add(scalars({**norms, "lr": rate}), 1.0 / n_processes, 1.0)
        self.step, self.position = self.step + 1, self.position + 1
        self.logbook.advance()

    def _drain(self) -> None:
        """Fetch what steps returned, and refuse to go on from NaN."""
        sums = self.pending.drain(self.accelerator.device)
        watched = ["loss", *(name for name in sums if name.endswith("grad_norm"))]
        bad = [name for name in watched if name in sums and not math.isfinite(sums[name][0])]
        if bad:
            what = " and ".join(bad).replace("discriminator_grad_norm", "norm of the discriminator's gradient")
            raise DivergedError(self._divergence(what.replace("grad_norm", "norm of the gradient")))
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

    def _decide(self) -> int:
        """Decide with all processes whether to write a checkpoint, or to stop, after this step."""
        decision, now, settings = _GO_ON, time.monotonic(), self.settings
        # The clock is that of the first process.
        minutes = settings.checkpoint_minutes if self.is_main else None
        limit = settings.max_minutes if self.is_main else None
        if settings.checkpoint_every is not None and self.step % settings.checkpoint_every == 0:
            decision = _SAVE
        if minutes is not None and now - self.saved_at > 60 * minutes:
            decision = _SAVE
        if limit is not None and now - self.started > 60 * limit:
            decision = _TIME_IS_UP
        if self.received:
            decision = _SIGNAL
        return agree(decision, self.accelerator.device)

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
            usage = least_used(usage)
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
        if self.position and not finished:
            # The time was up within an epoch, and validation and codebook were last looked at before it.
            self.metrics = {"epoch": self.epoch + 1, "step": self.step, **self.epoch_means.values()}
        quantizer = getattr(self.model, "quantizer", None)
        if self.is_main and not bool(getattr(quantizer, "initialized", True)):
            logger.warning(
                "The codebook has not begun, so that its codes mean nothing yet: k-means waits for warmup_steps steps "
                f"and for ten tokens per code, and there were {self.step} steps; train longer."
            )
        weights = self._write_weights("final.safetensors", self.metrics)
        self._say(f"{'Done' if finished else 'The time is up'} after step {self.step} of {self.total}.")
        return Pretraining(self.folder, self.step, finished, dict(self.metrics), weights, self.is_main)

    def _write_weights(self, name: str, metrics: Mapping[str, float]) -> Path | None:
        """Write the weights alone, for use."""
        if "arguments" not in self.config["model"]:
            return None
        if self.is_main:
            write_weights(
                self.exported,
                self.folder / name,
                self.batches,
                steps=self.step,
                finished=self.step >= self.total,
                n_processes=self.accelerator.num_processes,
                config=self.config,
                metrics=metrics,
                card=self.card,
            )
        return self.folder / name


def refuse_other_training(folder: Path, resume: bool) -> None:
    """Refuse to train into a folder that holds a training, unless it is to be gone on with and can be."""
    steps = checkpoint_steps(folder / "checkpoints")
    if steps and not resume:
        raise FileExistsError(
            f"{folder} holds a training of {steps[0]} steps; go on with it with resume=True (--resume), or choose "
            "another folder."
        )
    if not steps and (folder / "final.safetensors").exists():
        raise FileExistsError(
            f"{folder} holds the weights of a training (final.safetensors) but no checkpoint to go on from; choose "
            "another folder."
        )
