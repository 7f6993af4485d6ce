"""The whole state of a training in one file, which is there whole or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mne.utils import logger
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mne_labram._files import written_whole
from mne_labram.nn.state import load_strict

__all__ = [
    "checkpoint_steps",
    "clear_leftovers",
    "differences",
    "latest_checkpoint",
    "restore_state",
    "training_tensors",
    "write_checkpoint",
]

_KEY = "mne_labram_training"
#: Goes up when an older version of the package cannot go on with what this one writes.
FORMAT_VERSION = 1
_NAME = re.compile(r"step-(\d+)\.safetensors")
# How many differences an error message spells out.
_N_NAMED = 3


def training_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Collect everything in tensors that a training needs to go on.

    Parameters
    ----------
    model : torch.nn.Module
        Its parameters and buffers, and what any of its modules gives as ``training_state()``.
    optimizer : torch.optim.Optimizer
        Its groups must have ``"names"``.

    Returns
    -------
    tensors : dict of str to Tensor
        Copies on the CPU under ``model/...``, ``training/<module>/...`` and ``optimizer/<parameter>/...``.

    Raises
    ------
    FloatingPointError
        If a weight is NaN or infinite.
    """
    out = {f"model/{name}": value for name, value in model.state_dict().items()}
    for name, value in out.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise FloatingPointError(f"{name.removeprefix('model/')} holds NaN or infinity.")
    for name, module in model.named_modules():
        if hasattr(module, "training_state"):
            out |= {f"training/{name}/{key}": value for key, value in module.training_state().items()}
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            state = optimizer.state.get(parameter, {})
            out |= {f"optimizer/{name}/{key}": torch.as_tensor(value) for key, value in state.items()}
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in out.items()}


def restore_state(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what :func:`training_tensors` collected.

    Parameters
    ----------
    model : torch.nn.Module
        A model of the same shape.
    optimizer : torch.optim.Optimizer
        Made for it, with the same groups.
    tensors : mapping of str to Tensor
        What was collected.

    Raises
    ------
    ValueError
        If the tensors do not fit the model.
    """
    load_strict(model, _below(tensors, "model"), source="The checkpoint")
    for name, module in model.named_modules():
        if hasattr(module, "load_training_state"):
            module.load_training_state(_below(tensors, f"training/{name}"))
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            state = _below(tensors, f"optimizer/{name}")
            if state:
                # AdamW keeps its count of steps on the CPU; everything else lies where the parameter does.
                optimizer.state[parameter] = {
                    key: value.clone() if not value.ndim else value.to(parameter.device, copy=True)
                    for key, value in state.items()
                }


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    prefix = f"{prefix}/"
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def write_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Tensor], record: Mapping[str, Any], *, keep: int = 2
) -> Path:
    """Write a checkpoint and remove old ones.

    Parameters
    ----------
    folder : Path
        Where checkpoints lie; must exist.
    step : int
        Steps done.
    tensors : mapping of str to Tensor
        From :func:`training_tensors`.
    record : mapping
        Everything else, as plain JSON values.
    keep : int
        How many checkpoints stay.

    Returns
    -------
    path : Path
        The file, ``step-000001234.safetensors``.

    Raises
    ------
    OSError
        If it cannot be written, for example because the disk is full; the checkpoints before it stay.
    """
    path = folder / f"step-{step:09d}.safetensors"
    text = json.dumps({"format_version": FORMAT_VERSION, "step": step, **record}, sort_keys=True)
    try:
        with written_whole(path, overwrite=True) as temporary:
            save_file(dict(tensors), temporary, metadata={_KEY: text})
    except (OSError, SafetensorError) as error:
        before = _checkpoints(folder)
        kept = f"that of step {before[0][0]} is kept" if before else "there is none before it"
        raise OSError(
            f"The checkpoint of step {step} could not be written to {folder} ({_reason(error)}); {kept}: make room and "
            "go on from there with resume=True (--resume)."
        ) from error
    for _, old in _checkpoints(folder)[keep:]:
        old.unlink()
    return path


def _reason(error: BaseException) -> str:
    """Say in a few words why a file could not be written."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    # safetensors writes by itself, and says: I/O error: No space left on device (os error 28)
    if found := re.search(r"\(os error (\d+)\)", str(error)):
        return os.strerror(int(found.group(1)))
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def clear_leftovers(folder: Path) -> None:
    """Remove what a training that was killed was writing.

    Parameters
    ----------
    folder : Path
        Of one training, which is not running.
    """
    for place in (folder, folder / "checkpoints"):
        for path in place.glob(".*-????????"):
            # written_whole() works in hidden folders named after the file: .log.csv-1a2b3c4d
            if path.is_dir() and re.match(r"\.(?:step-\d+|best|final|log|epochs)\.\w+-", path.name):
                shutil.rmtree(path, ignore_errors=True)


def _checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Find all checkpoints, the newest first."""
    if not folder.is_dir():
        return []
    found = [(int(match.group(1)), path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    return sorted(found, reverse=True)


def checkpoint_steps(folder: Path) -> list[int]:
    """List the steps of all checkpoints.

    Parameters
    ----------
    folder : Path
        Where checkpoints lie; need not exist.

    Returns
    -------
    steps : list of int
        The newest first; nothing is read.
    """
    return [step for step, _ in _checkpoints(folder)]


def latest_checkpoint(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Read the newest checkpoint that is whole.

    Parameters
    ----------
    folder : Path
        Where checkpoints lie; need not exist.

    Returns
    -------
    record : dict
        What was given to :func:`write_checkpoint`, and ``"step"``.
    tensors : dict of str to Tensor
        On the CPU. ``None`` instead of both if there is no checkpoint.

    Raises
    ------
    ValueError
        If there are checkpoints but none can be read, or the newest is of a newer format.
    """
    found = _checkpoints(folder)
    for _, path in found:
        try:
            with safe_open(path, framework="pt") as file:
                record = json.loads((file.metadata() or {})[_KEY])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, KeyError, OSError, ValueError) as error:
            logger.warning(f"{path.name} is damaged and is passed over ({_reason(error)}).")
            continue
        if record["format_version"] > FORMAT_VERSION:
            raise ValueError(f"{path.name} was written by a newer mne_labram; install that to go on.")
        return record, tensors
    if found:
        raise ValueError(f"No checkpoint in {folder} can be read; start anew in another folder.")
    return None


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Say where two configurations differ.

    Parameters
    ----------
    old, new : mapping
        Nested, of plain JSON values.

    Returns
    -------
    differences : str
        The first few, with both values; empty if there are none.
    """
    before, after = _flat(json.loads(json.dumps(old))), _flat(json.loads(json.dumps(new)))
    found = []
    for name in sorted({*before, *after}):
        if name not in before or name not in after or before[name] != after[name]:
            one, two = (repr(values.get(name, "absent")) for values in (before, after))
            found.append(f"{name} was {one[:60]} and is now {two[:60]}")
    return ", ".join(found[:_N_NAMED]) + (f", and {len(found) - _N_NAMED} more" if len(found) > _N_NAMED else "")


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            out |= _flat(value, f"{prefix}{name}.")
        else:
            out[f"{prefix}{name}"] = value
    return out
