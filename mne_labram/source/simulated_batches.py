"""Simulated windows as the training engine takes them: batches that are a function of seed, epoch and place."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from mne_labram.models.brainforge import BrainForge
from mne_labram.signal.contract import ContractError
from mne_labram.source.simulate import SimulatedBatch, SourceSimulator
from mne_labram.training.settings import TrainingSettings

__all__ = ["EPOCH", "HeadTraining", "SimulatedBatches", "emphasis_of", "head_settings"]

#: Batches of an epoch of a training, after each of which there may be a checkpoint.
EPOCH = 100

# Active sources in a patch whose sources have an emphasis of 1.
_USUAL_SIZE = 10.0


@dataclass(frozen=True)
class _NoRecordings:
    """What weights trained on simulations say of the recordings that they were trained on."""

    recordings: tuple = ()


class SimulatedBatches:
    """Draw the batches of a training from a simulator.

    Takes the place of :class:`~mne_labram.training.batches.WindowBatches` in
    :func:`~mne_labram.training.pretrain.pretrain`.

    Parameters
    ----------
    simulator : SourceSimulator | sequence of SourceSimulator
        Where windows come from; of several, each batch has one, all alike: windows of other lengths, say.
    n_batches : int
        Batches of an epoch; those of the next one are other windows.
    batch_size : int
        Windows per batch, over all processes together.
    known_noise : float
        Share of batches that come with the covariance of their noise, so that a network learns to do with and without.
    seed : int
        Of all windows.

    Raises
    ------
    ContractError
        If simulators are of different heads.
    TypeError
        If ``simulator`` is none.
    ValueError
        If a number makes no sense.
    """

    store = _NoRecordings()

    def __init__(
        self,
        simulator: SourceSimulator | Sequence[SourceSimulator],
        *,
        n_batches: int,
        batch_size: int = 16,
        known_noise: float = 0.7,
        seed: int = 0,
    ) -> None:
        simulators = list(simulator) if isinstance(simulator, (list, tuple)) else [simulator]
        for each in simulators or [None]:
            if not isinstance(each, SourceSimulator):
                raise TypeError(f"simulator must be a SourceSimulator or several, got {type(each).__name__}.")
        if any(each.estimated.digest != simulators[0].estimated.digest for each in simulators):
            raise ContractError("Simulators are of different heads; give them the same head, as model or estimated.")
        for name, value in (("n_batches", n_batches), ("batch_size", batch_size)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}.")
        if not 0.0 <= known_noise <= 1.0:
            raise ValueError(f"known_noise must be between 0 and 1, got {known_noise}.")
        self.simulators, self.seed = simulators, int(seed)
        self.n_batches, self.batch_size, self.known_noise = n_batches, batch_size, float(known_noise)

    def __len__(self) -> int:
        """Count the batches of an epoch."""
        return self.n_batches

    @property
    def n_windows(self) -> int:
        """Windows of an epoch."""
        return self.n_batches * self.batch_size

    def fingerprint(self) -> dict[str, Any]:
        """Describe the windows in a few words, to tell whether a resumed training gets the same.

        Returns
        -------
        fingerprint : dict
            ``"head"``, ``"n_windows"``, ``"n_batches"`` and ``"digest"`` of some windows that the simulator draws.
        """
        # What is drawn depends on every option of the simulator; nothing else can list them without forgetting one.
        digest = hashlib.sha256()
        for each in self.simulators:
            probe = each.draw(4, np.random.default_rng([self.seed, 2**31]))
            digest.update(np.round(probe.x, 2).astype("<f4").tobytes())
        return {
            "head": self.simulators[0].estimated.digest,
            "n_windows": self.n_windows,
            "n_batches": self.n_batches,
            "digest": digest.hexdigest()[:16],
        }

    def options(self) -> dict[str, Any]:
        """Return what decides on the windows besides the simulator, as plain JSON values."""
        return {"seed": self.seed, "batch_size": self.batch_size, "known_noise": self.known_noise}

    def iterate(self, epoch: int = 0, first: int = 0, *, process: int = 0, n_processes: int = 1) -> Iterator[dict]:
        """Draw the batches of an epoch.

        Parameters
        ----------
        epoch : int
            Number of the epoch, from 0.
        first : int
            Batch to begin with.
        process, n_processes : int
            Which of how many processes asks; every batch is divided between all of them.

        Yields
        ------
        batch : dict
            ``"x"`` µV, ``"sources"`` nAm, ``"active"``, ``"emphasis"``, ``"visible"`` and ``"noise_covariance"`` (a
            tensor or None) as :meth:`mne_labram.BrainForge.training_step` takes them; ``"n_windows"`` of all processes
            together, and ``"share"``, the weight of this process's mean in that of the whole batch.
        """
        for index in range(first, self.n_batches):
            rng = np.random.default_rng([self.seed, epoch, index])
            known = rng.random() < self.known_noise
            simulator = self.simulators[rng.integers(len(self.simulators))]
            drawn = simulator.draw(self.batch_size, rng)
            if self.batch_size >= n_processes:
                own = np.array_split(np.arange(self.batch_size), n_processes)[process]
                share = len(own) / self.batch_size
            else:
                own = np.array([process % self.batch_size])
                share = 1.0 / (self.batch_size * len(range(process % self.batch_size, n_processes, self.batch_size)))
            covariance = drawn.noise_covariance if known else None
            yield {
                "x": _tensor(drawn.x[own]),
                "sources": _tensor(drawn.sources[own]),
                "active": _tensor(drawn.active[own]),
                "emphasis": _tensor(emphasis_of(drawn)[own]),
                "visible": _tensor(drawn.visible[own]),
                "noise_covariance": None if covariance is None else _tensor(covariance[own]),
                "n_windows": self.batch_size,
                "share": share,
            }

    def __iter__(self) -> Iterator[dict]:
        """Draw the batches of epoch 0."""
        return self.iterate()


def head_settings(steps: int, lr: float, *, weight_decay: float, clip_grad: float | None) -> TrainingSettings:
    """Choose how a network is trained on simulated windows, whose epochs have :data:`EPOCH` batches, or all there are.

    Parameters
    ----------
    steps : int
        Updates of the weights.
    lr : float
        Largest learning rate: it rises for a twentieth of the steps and falls as a cosine to at most 1e-5.
    weight_decay : float
        Of AdamW.
    clip_grad : float | None
        Largest norm of the gradient.

    Returns
    -------
    settings : TrainingSettings
        In single precision: eigenvalues and solutions of linear equations are not for 16 bits.
    """
    return TrainingSettings(
        epochs=math.ceil(steps / min(steps, EPOCH)),
        max_steps=steps,
        lr=lr,
        min_lr=min(1e-5, lr),
        warmup_steps=max(1, steps // 20),
        weight_decay=weight_decay,
        clip_grad=clip_grad,
        precision="no",
        log_every=min(25, steps),
    )


def emphasis_of(batch: SimulatedBatch) -> np.ndarray:
    """Weigh sources so that small patches are not forgotten beside large ones.

    Parameters
    ----------
    batch : SimulatedBatch
        Windows.

    Returns
    -------
    emphasis : ndarray, shape (n, n_sources)
        For an active source the square root of ten over the number of active sources in its patch (of the smallest, if
        it is in several), so that a patch weighs as the root of its size; 1 for others.
    """
    emphasis = np.zeros(batch.active.shape)
    for row, active, patches in zip(emphasis, batch.active, batch.patches, strict=True):
        for patch in patches:
            members = patch.indices[active[patch.indices]]
            row[members] = np.maximum(row[members], np.sqrt(_USUAL_SIZE / max(len(members), 1)))
    return np.where(emphasis > 0.0, emphasis, 1.0)


class HeadTraining(nn.Module):
    """A network on the head that it is trained for, and the same weights without a head, as they are written.

    Parameters
    ----------
    bound : BrainForge
        Bound to the head of the simulator.
    exported : BrainForge
        What it was bound from.
    digest : str
        Name of the head.
    """

    def __init__(self, bound: BrainForge, exported: BrainForge, digest: str) -> None:
        super().__init__()
        self.bound = bound
        # Not a part of this module: its weights are those of the bound model.
        object.__setattr__(self, "exported", exported)
        self.objective = {"head": digest}

    def training_step(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Compute the loss, see :meth:`mne_labram.BrainForge.training_step`."""
        return self.bound.training_step(batch)


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
