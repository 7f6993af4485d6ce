"""An inverse in one file: weights, head and noise as tensors, the rest as one JSON text in the header."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mne
import numpy as np
import scipy
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from mne_labram._files import checked_ending, written_whole
from mne_labram.models.brainforge import BrainForge
from mne_labram.nn.state import load_strict
from mne_labram.source.estimates import SourceLayout
from mne_labram.source.head import SourceModel
from mne_labram.weights.config import build_model, model_config
from mne_labram.weights.files import readable_file

__all__ = ["is_inverse", "read_inverse", "write_inverse"]

_VERSION = 1
_KEY, _KIND = "mne_labram", "BrainForgeInverse"
_ARRAYS = ("electrodes", "leadfield", "positions", "normals", "depth", "nodes")
_SPARSE = ("neighbours", "graph")


def write_inverse(
    fname: str | os.PathLike[str],
    head: SourceModel,
    layout: SourceLayout,
    base: BrainForge,
    noise_cov: mne.Covariance | None,
    state: Mapping[str, Any],
    *,
    overwrite: bool = False,
) -> Path:
    """Write an inverse.

    Parameters
    ----------
    fname : path-like
        A name that ends in ``.safetensors``.
    head : SourceModel
        The head.
    layout : SourceLayout
        Which source space is which.
    base : BrainForge
        The network without its head.
    noise_cov : mne.Covariance | None
        The noise.
    state : mapping
        What else is to be known, as plain JSON values.
    overwrite : bool
        Replace an existing file.

    Returns
    -------
    path : Path
        The file.

    Raises
    ------
    ValueError
        If the name ends in something else, or a weight is not finite.
    FileExistsError
        If the file exists and ``overwrite`` is false.
    """
    path = checked_ending(Path(fname).expanduser(), "An inverse", ".safetensors")
    tensors = {}
    for name, value in base.state_dict().items():
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"The inverse cannot be saved: {name} of the network holds NaN or infinity.")
        tensors[f"model.{name}"] = value.detach().cpu().clone().contiguous()
    for name in _ARRAYS:
        tensors[f"head.{name}"] = _tensor(getattr(head, name))
    for name in _SPARSE:
        matrix = getattr(head, name)
        for part in ("data", "indices", "indptr"):
            tensors[f"head.{name}.{part}"] = _tensor(getattr(matrix, part))
    for number, vertices in enumerate(layout.vertices):
        tensors[f"head.vertices.{number}"] = _tensor(vertices)
    header = {
        "format_version": _VERSION,
        "kind": _KIND,
        "config": model_config(base),
        "ch_names": head.ch_names,
        "subject": head.subject,
        "spaces": list(layout.spaces),
        "noise": None,
        "state": dict(state),
    }
    if noise_cov is not None:
        tensors["noise"] = _tensor(np.asarray(noise_cov["data"], float))
        header["noise"] = {"names": list(noise_cov["names"]), "nfree": int(noise_cov["nfree"])}
    text = json.dumps(header, sort_keys=True, allow_nan=False)
    with written_whole(path, overwrite=overwrite) as temporary:
        try:
            save_file(tensors, temporary, metadata={_KEY: text})
        except SafetensorError as error:
            raise OSError(f"{path.name!r} could not be written ({error}).") from error
    return path


def is_inverse(fname: str | os.PathLike[str]) -> bool:
    """Say whether a file holds an inverse rather than weights alone.

    Parameters
    ----------
    fname : path-like
        A file.

    Returns
    -------
    is_one : bool
        False of a file that cannot be read.
    """
    try:
        with safe_open(fname, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(_KEY, "null"))
    except (SafetensorError, OSError, ValueError):
        return False
    return isinstance(header, dict) and header.get("kind") == _KIND


def read_inverse(
    fname: str | os.PathLike[str],
) -> tuple[SourceModel, SourceLayout, BrainForge, mne.Covariance | None, dict[str, Any]]:
    """Read what :func:`write_inverse` wrote.

    Parameters
    ----------
    fname : path-like
        The file.

    Returns
    -------
    head, layout, base, noise_cov, state : tuple
        What was given to it.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged or of another kind.
    """
    path = readable_file(fname)
    label = repr(path.name)
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(_KEY, "null"))
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise ValueError(
            f"{label} is no safetensors file, or it is damaged ({reason}); give a file of BrainForgeInverse.save."
        ) from None
    if not isinstance(header, dict) or header.get("kind") != _KIND:
        raise ValueError(f"{label} holds no inverse; give a file of BrainForgeInverse.save.")
    if header.get("format_version") != _VERSION:
        raise ValueError(f"{label} has another format version than {_VERSION}; install the mne_labram that wrote it.")
    try:
        return _rebuilt(header, tensors, label)
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{label} is damaged: it lacks or mistakes {error}.") from None


def _rebuilt(header: dict[str, Any], tensors: dict[str, torch.Tensor], label: str) -> tuple:
    weights = {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    base = build_model(BrainForge, header["config"], label=label, shapes=shapes)
    load_strict(base, weights, source=label)
    spaces = tuple(str(each) for each in header["spaces"])
    arrays = {name: tensors[f"head.{name}"].numpy() for name in _ARRAYS}
    vertices = [tensors[f"head.vertices.{number}"].numpy() for number in range(len(spaces))]
    n_sources, n_chans = arrays["leadfield"].shape[1], len(header["ch_names"])
    for name, shape in (
        ("leadfield", (n_chans, n_sources)),
        ("electrodes", (n_chans, 3)),
        ("positions", (n_sources, 3)),
        ("normals", (n_sources, 3)),
        ("depth", (n_sources,)),
        ("nodes", (n_sources,)),
    ):
        if arrays[name].shape != shape or not np.isfinite(arrays[name]).all():
            raise ValueError(f"{label} is damaged: {name} is not finite or has the shape {arrays[name].shape}.")
    if sum(map(len, vertices)) != n_sources:
        raise ValueError(f"{label} is damaged: there are {sum(map(len, vertices))} vertices for {n_sources} sources.")
    n_nodes = len(tensors["head.graph.indptr"]) - 1
    sparse = {}
    for name, size in (("neighbours", n_sources), ("graph", n_nodes)):
        parts = [tensors[f"head.{name}.{part}"].numpy() for part in ("data", "indices", "indptr")]
        try:
            sparse[name] = scipy.sparse.csr_array(tuple(parts), shape=(size, size))
            sparse[name].check_format(full_check=True)
        except ValueError as error:
            raise ValueError(f"{label} is damaged: {name} is no matrix ({error}).") from None
    head = SourceModel(
        ch_names=[str(name) for name in header["ch_names"]],
        vertices=vertices,
        subject=header["subject"],
        **arrays,
        **sparse,
    )
    noise_cov = None
    if header["noise"] is not None:
        about = header["noise"]
        noise_cov = mne.Covariance(tensors["noise"].numpy(), about["names"], [], [], about["nfree"], verbose="ERROR")
    state = {"ready": bool(header["state"]["ready"]), "trained": dict(header["state"]["trained"])}
    return head, SourceLayout(spaces, vertices, head.subject), base, noise_cov, state


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(array))
