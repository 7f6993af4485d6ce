"""A model bound to a recording's channels and run batch by batch at a chosen precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mne.utils import logger
from torch import nn

from mne_labram.nn.fused import fuse_blocks
from mne_labram.nn.precision import autocast, native_bf16, resolve_precision

__all__ = ["ModelRunner", "resolve_model"]


def resolve_model(model: Any) -> tuple[nn.Module, list[str] | None]:
    """Return the torch module behind whatever a user calls a model, and its class names where it knows them.

    Parameters
    ----------
    model : torch.nn.Module | EEGClassifier | str | Path
        A module, a fitted skorch net (``EEGClassifier``), the path of a checkpoint written by
        :func:`mne_labram.save_checkpoint`, or the name of weights that come with the package
        (:func:`mne_labram.list_pretrained`).

    Returns
    -------
    module : torch.nn.Module
        The module itself, not a copy.
    class_names : list of str | None
        Names of the outputs.

    Raises
    ------
    TypeError
        If it is none of these.
    FileNotFoundError
        If there is no such file and no such name.
    ValueError
        If a skorch net has not been fitted.
    """
    class_names = None
    if isinstance(model, (str, Path)):
        from mne_labram.weights import load_model

        model = load_model(model)
    if hasattr(model, "module") and hasattr(model, "initialize") and not isinstance(model, nn.Module):
        if not getattr(model, "initialized_", False):
            raise ValueError("The classifier has no weights yet; call fit (or initialize and load_params) first.")
        # Text labels only: integer labels are event codes, which would make poor descriptions.
        classes = getattr(model, "classes_", ())
        if len(classes) and all(isinstance(name, str) for name in classes):
            class_names = [str(name) for name in classes]
        model = model.module_
    if not isinstance(model, nn.Module) or not hasattr(model, "bind_channels"):
        raise TypeError(
            "model must be one of mne_labram's models, a fitted EEGClassifier around one, the path of a "
            f"checkpoint or the name of pretrained weights; got {type(model).__name__}."
        )
    names = getattr(model, "class_names", None)
    return model, list(names) if names else class_names


@dataclass
class ModelRunner:
    """A module in evaluation mode, bound to the channels at hand, fed in batches.

    Parameters
    ----------
    module : torch.nn.Module
        One of mne_labram's models.
    ch_names : list of str
        Channels of the data, in order.
    positions : ndarray, shape (n_chans, 6) | None
        Electrode positions in metres for channels that are not known by name.
    precision : {"auto", "float32", "bf16"}
        Number format of the forward pass.
    batch_size : int
        Windows per forward pass.
    device : str | None
        ``None``: where the module is.

    Notes
    -----
    While :meth:`running`, transformer blocks are computed from weights that are rearranged for speed
    (:mod:`mne_labram.nn.fused`), made anew each time. A tokenizer runs exactly as it is: where two codes fit almost
    equally well, rounding decides between them.
    """

    module: nn.Module
    ch_names: list[str]
    positions: np.ndarray | None = None
    precision: str = "auto"
    batch_size: int = 32
    device: str | None = None
    bound: nn.Module = field(init=False, repr=False)
    _fused: nn.Module | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        if not isinstance(self.batch_size, (int, np.integer)):
            raise TypeError(f"batch_size must be a whole number, got {type(self.batch_size).__name__}.")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}.")
        here = _device_of(self.module)
        self._device = here if self.device is None else _usable_device(self.device)
        self._precision = resolve_precision(self.precision, self._device)
        if self.precision == "auto":
            unit = native_bf16(self._device) or "no fast bfloat16"
            _say_once(f"Running in {self._precision} on {self._device}, which has {unit} (precision='auto').")
        if list(self.module.ch_names) == list(self.ch_names) and self.positions is None:
            self.bound = self.module
        else:
            self.bound = self.module.bind_channels(self.ch_names, positions=self.positions)

    @contextmanager
    def running(self) -> Iterator[ModelRunner]:
        """Hold the model in evaluation mode on the right device; afterwards everything is as it was."""
        training = {module: module.training for module in self.bound.modules()}
        here = _device_of(self.module)
        self.bound.eval()
        self.bound.to(self._device)
        try:
            if not hasattr(self.bound, "encode"):
                dtype = torch.bfloat16 if self._precision == "bf16" else torch.float32
                fused = fuse_blocks(self.bound, dtype)
                self._fused = None if fused is self.bound else fused
            yield self
        finally:
            self._fused = None
            self.bound.to(here)
            for module, mode in training.items():
                module.training = mode

    def __call__(self, windows: np.ndarray, function: Callable[[nn.Module, torch.Tensor], torch.Tensor]) -> np.ndarray:
        """Apply ``function(module, x)`` to windows.

        Parameters
        ----------
        windows : ndarray, shape (n_windows, n_chans, n_times)
            Microvolts.
        function : callable
            Returns a tensor whose first axis is the window.

        Returns
        -------
        out : ndarray, shape (n_windows, ...)
            On the CPU; floating-point results are float32.
        """
        parts = []
        # Fused blocks look after their precision themselves; what is left beside them is small, and stays float32.
        module = self.bound if self._fused is None else self._fused
        context = autocast(self._precision, self._device) if self._fused is None else nullcontext()
        with torch.inference_mode(), context:
            for i in range(0, len(windows), self.batch_size):
                x = torch.from_numpy(np.ascontiguousarray(windows[i : i + self.batch_size], dtype=np.float32))
                out = function(module, x.to(self._device))
                parts.append((out.float() if out.is_floating_point() else out).cpu().numpy())
        return np.concatenate(parts)


def _device_of(module: nn.Module) -> torch.device:
    """Tell where a module is; one without parameters, as a tokenizer of amplitudes, is where its input is."""
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


def _usable_device(device: str | torch.device) -> torch.device:
    """Return a device that can be used here; torch says otherwise by RuntimeError and AssertionError."""
    try:
        device = torch.device(device)
        torch.empty(0, device=device)
    except (AssertionError, NotImplementedError, RuntimeError):
        raise ValueError(f"device={str(device)!r} cannot be used with this torch on this machine.") from None
    return device


@cache
def _say_once(message: str) -> None:
    """Log a message the first time: a cross-validation makes a runner per fold."""
    logger.info(message)
