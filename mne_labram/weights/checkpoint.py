"""One safetensors file per checkpoint: the weights, and in its header all that is needed to use them.

The header holds one JSON text: which class, its constructor arguments, the signal contract, the channels, the versions
and the card. One text and not several: safetensors writes several in random order, and the same model shall give the
same bytes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from mne_labram._files import written_whole
from mne_labram.nn.state import load_strict, state_differences
from mne_labram.signal.contract import SignalContract
from mne_labram.weights.config import build_model, model_class, model_config
from mne_labram.weights.files import check_sha256, file_sha256, readable_file, shown

__all__ = ["FORMAT_VERSION", "describe_checkpoint", "load_checkpoint", "save_checkpoint"]

#: Goes up when an older version of the package cannot read what this one writes.
FORMAT_VERSION = 1
_KEY = "mne_labram"
# 128 channels with positions take 50 kB.
_LONGEST_HEADER = 4 * 2**20
_LONGEST_NAME = 200


def save_checkpoint(
    model: nn.Module, fname: str | os.PathLike, *, card: Mapping[str, Any] | None = None, overwrite: bool = False
) -> Path:
    """Write a model to one safetensors file.

    Parameters
    ----------
    model : LabramForClassification | LabramTokenizer | LabramForMaskedModeling
        The model, on any device. It is not changed.
    fname : path-like
        File to write; its name must end in ``.safetensors``.
    card : dict | None
        What a user should know: training data, licence, threshold, scores. Plain JSON values.
    overwrite : bool
        Replace an existing file.

    Returns
    -------
    path : Path
        The file. The same model and card give the same bytes.

    Raises
    ------
    TypeError
        If the model is none of ours.
    ValueError
        If the name does not end in ``.safetensors``, a weight is not finite, an argument of the model or the card
        cannot be written as JSON, or the model could not be built again from what would be written.
    FileExistsError
        If the file exists and ``overwrite`` is false.
    OSError
        If the file cannot be written; nothing is left behind then.
    """
    path = Path(fname).expanduser()
    if path.suffix.lower() != ".safetensors":
        raise ValueError(f"The name of a checkpoint ends in .safetensors, got {path.name!r}.")
    config = model_config(model)
    state = _detached_state(model)
    header = {
        "format_version": FORMAT_VERSION,
        "class": type(model).__name__,
        "config": config,
        "contract": model.contract.to_dict(),
        "ch_names": list(model.ch_names),
        "n_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "versions": {"mne_labram": version("mne-labram"), "torch": str(torch.__version__)},
        "card": dict(card or {}),
    }
    try:
        text = json.dumps(header, sort_keys=True, allow_nan=False, ensure_ascii=True)
    except (TypeError, ValueError) as error:
        raise ValueError(f"The card must hold plain, finite JSON values ({error}).") from None
    label = "The checkpoint"
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    _check_twin(build_model(type(model), config, label=label, shapes=shapes, device="meta"), header, shapes, label)
    with written_whole(path, overwrite=overwrite) as temporary:
        try:
            save_file(state, temporary, metadata={_KEY: text})
        except SafetensorError as error:
            raise OSError(f"{path.name!r} could not be written ({error}).") from error
    return path


def _detached_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the state as safetensors wants it: on the CPU, contiguous, no two names in one memory."""
    state: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, value in model.state_dict().items():
        value = value.detach().cpu().contiguous()
        place = value.untyped_storage().data_ptr()
        state[name] = value.clone() if place in seen else value
        seen.add(place)
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"{type(model).__name__} cannot be saved: {name} holds NaN or infinity.")
    return state


def _check_twin(twin: nn.Module, header: Mapping[str, Any], shapes: Mapping[str, Any], label: str) -> None:
    """Compare a model built from a header with what the rest of the file says."""
    expected = {name: value.shape for name, value in twin.state_dict().items()}
    problems = state_differences(expected, shapes)
    if list(twin.ch_names) != header["ch_names"]:
        problems.append("the channel names differ")
    if twin.contract != SignalContract.from_dict(header["contract"]):
        problems.append("the signal contracts differ")
    if problems:
        raise ValueError(
            f"{label} contradicts itself, the {type(twin).__name__} it describes is not the one it holds: "
            f"{'; '.join(problems)}."
        )


def _read_header(path: Path) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """Read and check the header: what the file says of itself, and the shapes of its tensors."""
    label = repr(path.name)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, OSError, ValueError) as error:
        hint = "; give a checkpoint written by mne_labram.save_checkpoint or mne-labram convert"
        if path.suffix.lower() in (".pth", ".pt", ".ckpt"):
            hint = "; an official checkpoint is first converted: mne-labram convert IN.pth OUT.safetensors"
        raise ValueError(f"{label} is no safetensors file, or it is damaged ({_first_line(error)}){hint}.") from None
    if any(name != shown(name, _LONGEST_NAME) for name in shapes):
        raise ValueError(f"{label} is damaged: it holds a tensor whose name is no name.")
    text = metadata.get(_KEY)
    if text is None:
        raise ValueError(
            f"{label} holds weights but not what they are for: it was not written by mne_labram; official weights are "
            "first converted with mne_labram.weights.convert_official()."
        )
    if len(text) > _LONGEST_HEADER:
        raise ValueError(f"{label} is not usable: its header has {len(text)} characters, beyond every sane size.")
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"{label} is damaged: its header is no JSON.") from None
    number = header.get("format_version") if isinstance(header, dict) else None
    if type(number) is not int or number < 1:
        raise ValueError(f"{label} is damaged: its header has no format version.")
    if number > FORMAT_VERSION:
        raise ValueError(
            f"{label} has format version {number}, newer than {FORMAT_VERSION}; install a newer mne_labram."
        )
    kinds = {"class": str, "config": dict, "contract": dict, "ch_names": list, "card": dict, "n_parameters": int}
    wrong = [name for name, kind in kinds.items() if not isinstance(header.get(name), kind)]
    if wrong:
        raise ValueError(f"{label} is damaged: its header lacks {', '.join(wrong)}.")
    try:
        SignalContract.from_dict(header["contract"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{label} is not usable: its signal contract is wrong ({_first_line(error)}).") from None
    return header, shapes


def _first_line(error: BaseException) -> str:
    """Give the first line of another library's message, without its full stop."""
    return shown((str(error).splitlines() or [type(error).__name__])[0], 160).rstrip(".")


def load_checkpoint(
    fname: str | os.PathLike, *, sha256: str | None = None, ch_names: Sequence[str] | None = None
) -> nn.Module:
    """Read a model from a file of :func:`save_checkpoint`; all of it fits, or nothing is loaded.

    Parameters
    ----------
    fname : path-like
        The file.
    sha256 : str | None
        What the SHA-256 of the file must be, 64 hexadecimal digits; ``None`` does not check.
    ch_names : sequence of str | None
        Bind the model to these channels instead of those it was saved with.

    Returns
    -------
    model : LabramForClassification | LabramTokenizer | LabramForMaskedModeling
        On the CPU, in evaluation mode.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, not ours, of a newer format, not the one of this SHA-256, describes a class that is
        not ours or of an absurd size, holds tensors that do not fit that class in name, shape or kind, or values that
        are not finite; or if a name in ``ch_names`` is unknown. One sentence, with the first few names.

    Notes
    -----
    Nothing is unpickled and nothing is fetched. The class, the sizes and the shapes are checked in the header before
    any memory is taken for the model.
    """
    path = readable_file(fname)
    label = repr(path.name)
    if sha256 is not None:
        check_sha256(path, sha256)
    header, shapes = _read_header(path)
    cls = model_class(header["class"], label)
    config = header["config"]
    _check_twin(build_model(cls, config, label=label, shapes=shapes, device="meta"), header, shapes, label)
    model = build_model(cls, config, label=label, shapes=shapes)
    load_strict(model, load_file(path), source=label)
    model.eval()
    return model if ch_names is None else model.bind_channels(list(ch_names))


def describe_checkpoint(fname: str | os.PathLike) -> dict[str, Any]:
    """Say what a checkpoint is, without building the model.

    Parameters
    ----------
    fname : path-like
        A file of :func:`save_checkpoint`.

    Returns
    -------
    description : dict
        ``file``, ``sha256``, ``n_bytes``, ``format_version``, ``class``, ``n_parameters``, ``n_tensors``,
        ``ch_names``, ``config``, ``contract``, ``versions``, ``card``. Plain JSON values.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged or not ours.
    """
    path = readable_file(fname)
    header, shapes = _read_header(path)
    return {
        "file": path.name,
        "sha256": file_sha256(path),
        "n_bytes": path.stat().st_size,
        "n_tensors": len(shapes),
        **{name: header.get(name) for name in ("format_version", "class", "n_parameters", "ch_names", "config")},
        **{name: header.get(name) for name in ("contract", "versions", "card")},
    }
