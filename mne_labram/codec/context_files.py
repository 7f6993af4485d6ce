"""Context models that come with the package."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from mne_labram._files import written_whole
from mne_labram.codec.context import ContextModel
from mne_labram.signal.contract import ContractError

__all__ = ["context_model_path", "load_context_model", "save_context_model"]

_FOLDER = Path(__file__).parent / "models"


def context_model_path(name: str) -> Path:
    """Return where a model lies.

    Parameters
    ----------
    name : str
        Such as ``"hybrid"``.

    Returns
    -------
    path : Path
        In the package.
    """
    return _FOLDER / f"{name}.safetensors"


@lru_cache(maxsize=8)
def load_context_model(name: str, *, sha256: str | None = None) -> ContextModel:
    """Load a model.

    Parameters
    ----------
    name : str
        Such as ``"hybrid"``.
    sha256 : str | None
        What a file was written with.

    Returns
    -------
    model : ContextModel
        The model.

    Raises
    ------
    ContractError
        If there is none of this name, or it is another one.
    """
    path = context_model_path(name)
    if Path(name).name != name or not path.is_file():
        raise ContractError(
            f"The context model {name!r} (SHA-256 {sha256}) is not part of this version of mne_labram; "
            "install the one that wrote the file."
        )
    try:
        arrays = load_tensors(path.read_bytes())
        model = ContextModel(**arrays | {"output_bias": int(arrays["output_bias"].item())})
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ContractError(f"The context model {path} is damaged; install mne_labram again.") from error
    if sha256 is not None and model.sha256 != sha256:
        raise ContractError(
            f"The file was written with the context model {name!r} of SHA-256 {sha256}, but this version of mne_labram "
            f"has that of {model.sha256}; install the one that wrote the file."
        )
    return model


def save_context_model(model: ContextModel, path: Path) -> str:
    """Write a model.

    Parameters
    ----------
    model : ContextModel
        The model.
    path : Path
        Where to.

    Returns
    -------
    sha256 : str
        Of the file.
    """
    data = save_tensors({name: np.ascontiguousarray(values) for name, values in model.arrays().items()})
    with written_whole(path, overwrite=True) as temporary:
        temporary.write_bytes(data)
    return hashlib.sha256(data).hexdigest()
