"""Weights that a training begins with, or learns from."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from mne_labram.weights.config import model_config
from mne_labram.weights.files import file_sha256
from mne_labram.weights.pretrained import SHIPPED, load_model

__all__ = ["check_start", "load_weights"]

# What windows are of is said by the recordings.
_OF_THE_DATA = ("ch_names", "n_times")


def load_weights(source: str | os.PathLike[str]) -> tuple[nn.Module, dict[str, str]]:
    """Load a model and say which one it is.

    Parameters
    ----------
    source : path-like
        A checkpoint, the folder of a pre-training, or a name of :func:`mne_labram.list_pretrained`.

    Returns
    -------
    model : torch.nn.Module
        In evaluation mode, on the CPU.
    description : dict of str to str
        ``"name"`` and ``"sha256"`` of the file.

    Raises
    ------
    FileNotFoundError, ValueError
        As :func:`mne_labram.weights.pretrained.load_model`.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        path = path / "final.safetensors"
        source = path
    model = load_model(source)
    file = path if path.is_file() else SHIPPED / f"{source}.safetensors"
    return model, {"name": path.name, "sha256": file_sha256(file)}


def check_start(
    model: nn.Module, wanted: type[nn.Module], arguments: Mapping[str, Any], contract: Mapping[str, Any], name: str
) -> None:
    """Refuse weights that are not of what a recipe describes.

    Parameters
    ----------
    model : torch.nn.Module
        What training shall begin with.
    wanted : type
        The class that the recipe trains.
    arguments, contract : mapping
        What the recipe says of the model, and of the signal.
    name : str
        Of the recipe.

    Raises
    ------
    ValueError
        If it is of another class, another size, or was trained on another kind of signal.
    """
    if not isinstance(model, wanted):
        raise ValueError(
            f"The recipe {name} trains a {wanted.__name__}, and the weights it shall start with are those of a "
            f"{type(model).__name__}; give others (start)."
        )
    has, prepared = model_config(model), model.contract
    for where, said, found in (
        ("[model]", arguments, has.get),
        ("[signal]", contract, lambda key: getattr(prepared, key)),
    ):
        for key, value in said.items():
            if key not in _OF_THE_DATA and _plain(found(key)) != _plain(value):
                raise ValueError(
                    f"{key} is {value!r} in {where} of the recipe {name} and {_plain(found(key))!r} in the weights it "
                    "shall start with; make them the same, or leave it out."
                )


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: tuples are lists."""
    return json.loads(json.dumps(value, default=str))
