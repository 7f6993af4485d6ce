"""The call that EEGFoundation's page shows: ``load_downstream_model(model_path, config_path)``."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import torch
from mne.utils import logger

from mne_labram.models.eegfoundation.published import PublishedConfig, PublishedDownstream
from mne_labram.nn.state import load_strict

__all__ = ["load_downstream_model"]

# What published files say beside what the model is made of.
_NOT_OF_THE_MODEL = {"learning_rate", "weight_decay", "model_type", "pretrained_model_path", "config_path"}
_LONGEST_CONFIG = 1_000_000


def load_downstream_model(
    model_path: str | os.PathLike | None = None, config_path: str | os.PathLike | None = None
) -> PublishedDownstream:
    """Build EEGFoundation's published classifier and load its weights.

    Parameters
    ----------
    model_path : path-like | None
        A state dict written by ``torch.save``; ``None``: random weights, and the log says so. No weights were ever
        published.
    config_path : path-like
        A configuration file in JSON, as published.

    Returns
    -------
    model : PublishedDownstream
        In evaluation mode: ``model(input_ids=signal, embedding_data=embeddings)["logits"]``. The embeddings come from
        :class:`mne_labram.EEGEmbedding`, as wide as ``embedding_dim`` of the configuration says (128 for
        eegfoundation-tiny); ``make_pipeline(EEGEmbedding("eegfoundation-tiny"), "passthrough", memory=folder)`` of
        scikit-learn computes them once and keeps them on the disk.

    Raises
    ------
    ValueError
        If there is no ``config_path``, it is no configuration, or the weights are no plain tensors or belong to a model
        of another size.
    FileNotFoundError
        If a file is missing.

    Notes
    -----
    The published function goes on with random weights where names do not fit, and runs whatever code the file holds;
    this one does neither (``torch.load(weights_only=True)``).

    For new work, :class:`EEGFoundationForClassification` takes any montage and length.

    Examples
    --------
    >>> model = load_downstream_model("BCIC-2a_model.pth", "BCIC_IV_2a_config.json")  # doctest: +SKIP
    >>> embeddings = torch.from_numpy(EEGEmbedding("eegfoundation-tiny").fit_transform(epochs))  # doctest: +SKIP
    >>> model(input_ids=signal, embedding_data=embeddings)["logits"].softmax(dim=-1)  # doctest: +SKIP
    """
    if config_path is None:
        raise ValueError("The sizes of the model are in its configuration; pass config_path.")
    model = PublishedDownstream(_read_config(_existing(config_path)))
    if model_path is None:
        logger.info("No model_path was given: the model has random weights.")
        return model.eval()
    path = _existing(model_path)
    load_strict(model, _read_state(path), source=repr(path.name))
    return model.eval()


def _existing(fname: str | os.PathLike) -> Path:
    """Find a file, or say that it is not there."""
    path = Path(fname).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    return path


def _read_config(path: Path) -> PublishedConfig:
    """Read a configuration, whose every entry must be known."""
    if path.stat().st_size > _LONGEST_CONFIG:
        raise ValueError(f"{path.name!r} is no configuration of EEGFoundation: it is too large.")
    try:
        given = json.loads(path.read_text(encoding="utf8"))
    except (ValueError, RecursionError):
        raise ValueError(f"{path.name!r} is no configuration of EEGFoundation: it is not JSON.") from None
    if not isinstance(given, dict):
        raise ValueError(f"{path.name!r} is no configuration of EEGFoundation: it holds no table.")
    known = {field.name for field in fields(PublishedConfig)}
    unknown = sorted(set(given) - known - _NOT_OF_THE_MODEL)
    if unknown:
        raise ValueError(f"{path.name!r} is no configuration of EEGFoundation's classifier: it has {unknown[0]!r}.")
    return PublishedConfig(**{name: value for name, value in given.items() if name in known})


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    """Read plain tensors, without the prefixes that wrappers add."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120].rstrip(".:")
        raise ValueError(f"{path.name!r} holds no plain state dict ({reason}).") from None
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"{path.name!r} holds no plain state dict; save model.state_dict() and nothing else.")
    return {str(name).removeprefix("module.").removeprefix("model."): value for name, value in state.items()}
