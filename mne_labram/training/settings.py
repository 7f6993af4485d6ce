"""The numbers of a pre-training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from typing import Any

__all__ = ["PRECISIONS", "TrainingSettings", "unknown_key"]

#: Accepted by ``precision``.
PRECISIONS = ("auto", "no", "bf16", "fp16")

# What may change between a training and its continuation, because no number depends on it.
_FREE = ("log_every", "checkpoint_every", "checkpoint_minutes", "keep", "tensorboard", "max_minutes", "workers")


def unknown_key(name: str, known: Any, where: str) -> str:
    """Say that a key is unknown and which one was probably meant.

    Parameters
    ----------
    name : str
        What was given.
    known : iterable of str
        What there is.
    where : str
        What the key was given to.

    Returns
    -------
    sentence : str
        One sentence.
    """
    near = get_close_matches(name, list(known), n=1, cutoff=0.0)
    return f"There is no {name!r} in {where}; did you mean {near[0]!r}?" if near else f"{where} takes no {name!r}."


@dataclass(frozen=True)
class TrainingSettings:
    """How a model is trained.

    Parameters
    ----------
    epochs : int
        Passes over the windows.
    max_steps : int | None
        Fewer steps (updates of the weights) than the epochs have; the learning rate comes down within them.
    lr, min_lr : float
        Largest and smallest learning rate.
    warmup_epochs : float
        Epochs until the largest learning rate.
    warmup_steps : int | None
        The same in steps, instead.
    betas : tuple of float
        Of AdamW.
    eps : float
        Of AdamW.
    weight_decay : float
        Of AdamW, on matrices and kernels.
    layer_decay : float | None
        See :func:`mne_labram.training.optimization.parameter_groups`.
    clip_grad : float | None
        Largest norm of the gradient; ``None`` does not clip.
    accumulate : int
        Batches per step.
    precision : {"auto", "no", "bf16", "fp16"}
        Mixed precision. ``"auto"``: bf16 on a GPU that has it, float32 (``"no"``) elsewhere.
    compile : bool | str
        Compile the blocks with ``torch.compile``; a string names its backend.
    find_unused_parameters : bool
        For models of which a step does not use every parameter, with several processes.
    log_every : int
        Steps per line of the log.
    checkpoint_every : int | None
        Steps between checkpoints.
    checkpoint_minutes : float | None
        Minutes between checkpoints.
    keep : int
        Checkpoints that are kept.
    max_minutes : float | None
        Stop in good order after so many minutes. The learning rate does not know of it.
    workers : int
        Threads that read ahead.
    tensorboard : bool
        Write logs for TensorBoard too.
    smallest_usage : float
        Stop if less than this share of the codebook was used in a whole epoch.

    Raises
    ------
    ValueError
        If a number makes no sense.
    """

    epochs: int = 1
    max_steps: int | None = None
    lr: float = 5e-4
    min_lr: float = 1e-5
    warmup_epochs: float = 0.0
    warmup_steps: int | None = None
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.05
    layer_decay: float | None = None
    clip_grad: float | None = None
    accumulate: int = 1
    precision: str = "auto"
    compile: bool | str = False
    find_unused_parameters: bool = False
    log_every: int = 10
    checkpoint_every: int | None = None
    checkpoint_minutes: float | None = 10.0
    keep: int = 2
    max_minutes: float | None = None
    workers: int = 1
    tensorboard: bool = False
    smallest_usage: float = 0.05

    def __post_init__(self) -> None:
        betas = self.betas if isinstance(self.betas, (list, tuple)) else ()
        if len(betas) != 2 or not all(isinstance(beta, (int, float)) and 0.0 <= beta < 1.0 for beta in betas):
            raise ValueError(f"betas must be two numbers in [0, 1), got {self.betas!r}.")
        object.__setattr__(self, "betas", tuple(float(beta) for beta in betas))
        for name in ("epochs", "accumulate", "log_every", "keep"):
            self._check_number(name, whole=True, least=1)
        for name in ("max_steps", "checkpoint_every"):
            self._check_number(name, whole=True, least=1, optional=True)
        self._check_number("workers", whole=True, least=0)
        self._check_number("warmup_steps", whole=True, least=0, optional=True)
        for name in ("lr", "eps"):
            self._check_number(name, above=0.0)
        for name in ("min_lr", "warmup_epochs", "weight_decay", "smallest_usage"):
            self._check_number(name, least=0.0)
        for name in ("layer_decay", "clip_grad", "checkpoint_minutes", "max_minutes"):
            self._check_number(name, above=0.0, optional=True)
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr ({self.min_lr:g}) must not be above lr ({self.lr:g}).")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(map(repr, PRECISIONS))}, got {self.precision!r}.")
        if not isinstance(self.compile, bool | str):
            raise ValueError(f"compile must be true, false or the name of a backend, got {self.compile!r}.")
        for name in ("find_unused_parameters", "tensorboard"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be true or false, got {getattr(self, name)!r}.")

    def _check_number(
        self,
        name: str,
        *,
        whole: bool = False,
        least: float | None = None,
        above: float | None = None,
        optional: bool = False,
    ) -> None:
        """Refuse what is no number, or too small a one."""
        value = getattr(self, name)
        if value is None and optional:
            return
        kinds = int if whole else (int, float)
        bound = f"of at least {least:g}" if above is None else f"above {above:g}"
        fine = isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
        if not fine or (least is not None and value < least) or (above is not None and value <= above):
            raise ValueError(f"{name} must be a {'whole ' * whole}number {bound}, got {value!r}.")

    @classmethod
    def from_dict(cls, options: Mapping[str, Any]) -> TrainingSettings:
        """Build from the table of a recipe.

        Parameters
        ----------
        options : mapping
            Settings by name.

        Returns
        -------
        settings : TrainingSettings
            The same.

        Raises
        ------
        ValueError
            If a name is unknown or a value makes no sense.
        """
        known = [field.name for field in fields(cls)]
        for name in options:
            if name not in known:
                raise ValueError(unknown_key(name, known, "[training]"))
        return cls(**options)

    def numbers(self) -> dict[str, Any]:
        """Return what the trained weights depend on, as plain JSON values.

        Returns
        -------
        numbers : dict
            All settings but those on logs, checkpoints and reading.
        """
        out = {name: value for name, value in asdict(self).items() if name not in _FREE}
        out["betas"] = list(self.betas)
        return out
