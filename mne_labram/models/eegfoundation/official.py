"""EEGFoundation's weights under the names of transformers' RoFormer."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from mne.utils import logger
from torch import Tensor, nn

from mne_labram.models.eegfoundation.levels import N_CODES
from mne_labram.nn.state import load_strict

__all__ = ["build_classification", "build_masked"]

_Model = TypeVar("_Model", bound=nn.Module)

_LABEL = "The official state dict"
# Inside a layer (transformers, modeling_roformer.py): theirs and ours.
_LAYER = {
    "attention.output.dense": "attn.proj",
    "attention.output.LayerNorm": "norm1",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
    "output.LayerNorm": "norm2",
}
_HEAD = {
    "cls.predictions.transform.dense.weight": "dense.weight",
    "cls.predictions.transform.dense.bias": "dense.bias",
    "cls.predictions.transform.LayerNorm.weight": "norm.weight",
    "cls.predictions.transform.LayerNorm.bias": "norm.bias",
    "cls.predictions.decoder.weight": "decoder.weight",
    "cls.predictions.bias": "decoder.bias",
}
# The width of a head in every published configuration, where the table of positions is not in the file.
_HEAD_DIM = 64


def build_masked(cls: type[_Model], state_dict: Mapping[str, Any], *, num_heads: int | None, **options: Any) -> _Model:
    """Build a masked model; see :meth:`EEGFoundationForMaskedModeling.from_official`.

    Parameters
    ----------
    cls : type
        Class of the model.
    state_dict : mapping of str to Tensor
        The authors' weights.
    num_heads : int | None
        Number of attention heads.
    **options : Any
        Further arguments of the class.

    Returns
    -------
    model : EEGFoundationForMaskedModeling
        With these weights.

    Raises
    ------
    ValueError
        If a tensor does not fit.
    TypeError
        If ``state_dict`` does not map names to tensors.
    """
    state = _tensors(state_dict)
    sizes = _sizes(state, num_heads)
    for name, value in sizes.items():
        if options.get(name) not in (None, value):
            raise ValueError(f"These weights have {name}={value}, not {options[name]}.")
    has_head = any(key.startswith(("cls.", "lm_head.")) for key in state)
    linear = has_head and "lm_head.weight" in state
    model = cls(**{**options, **sizes, "transform": not linear})
    renamed = _renamed(state, sizes["num_layers"], linear)
    if not has_head:
        logger.info("These weights have no head for masked modelling; it starts fresh.")
        renamed |= {key: value for key, value in model.state_dict().items() if key.startswith("final_layer.")}
    # What transformers does not have.
    ours = {
        key: value
        for key, value in model.state_dict().items()
        if key.startswith(("spectral_", "encoder.fusion.", "encoder.norm."))
    }
    load_strict(model, {**ours, **renamed}, source=_LABEL)
    return model


def build_classification(
    cls: type[_Model], state_dict: Mapping[str, Any], *, n_outputs: int | None, **options: Any
) -> _Model:
    """Build a classifier; see :meth:`EEGFoundationForClassification.from_official`.

    Parameters
    ----------
    cls : type
        Class of the model.
    state_dict : mapping of str to Tensor
        The authors' weights.
    n_outputs : int | None
        Number of classes; ``None`` takes the number of ``class_names``.
    **options : Any
        Further arguments of the class.

    Returns
    -------
    model : EEGFoundationForClassification
        With this encoder and a fresh head.

    Raises
    ------
    ValueError
        If a tensor does not fit, or there is no number of classes.
    TypeError
        If ``state_dict`` does not map names to tensors.
    """
    from mne_labram.models.eegfoundation.masked import EEGFoundationForMaskedModeling

    if n_outputs is None and options.get("class_names") is None:
        raise ValueError("RoFormer weights have no classes; give n_outputs to get a fresh head.")
    shared = set(inspect.signature(EEGFoundationForMaskedModeling).parameters) | {"num_heads"}
    masked = EEGFoundationForMaskedModeling.from_official(
        state_dict, **{name: value for name, value in options.items() if name in shared}
    )
    # Sizes are the weights' own: those that were asked for have been compared with them.
    own = {name: value for name, value in options.items() if name not in masked._encoder_arguments()}
    return cls.from_encoder(masked, n_outputs=n_outputs, **own)


def _tensors(state_dict: Mapping[str, Any]) -> dict[str, Tensor]:
    """Take the tensors out of a checkpoint, without the prefixes that wrappers add."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"A state dict maps names to tensors, got a {type(state_dict).__name__}.")
    if isinstance(state_dict.get("state_dict"), Mapping):
        state_dict = state_dict["state_dict"]
    strangers = [str(key) for key, value in state_dict.items() if not isinstance(value, Tensor)]
    if strangers:
        raise ValueError(f"These entries of the state dict are no tensors: {', '.join(strangers[:3])}.")
    state = {re.sub(r"^((module|model|roformer)\.)*", "", str(key)): value for key, value in state_dict.items()}
    # Some versions of transformers keep the numbers 0, 1, 2, ...
    state.pop("embeddings.position_ids", None)
    return state


def _shape(state: Mapping[str, Tensor], key: str) -> torch.Size:
    """Shape of a matrix that tells the size of the model."""
    if key not in state:
        raise ValueError(f"These are no weights of a RoFormer: {key!r} is missing.")
    if state[key].ndim != 2:
        raise ValueError(f"{key!r} must have 2 axes in weights of a RoFormer, got {tuple(state[key].shape)}.")
    return state[key].shape


def _sizes(state: Mapping[str, Tensor], num_heads: int | None) -> dict[str, int]:
    """Read the arguments of the encoder off its shapes."""
    n_codes, embed_dim = _shape(state, "embeddings.word_embeddings.weight")
    if n_codes != N_CODES:
        raise ValueError(
            f"These weights know a vocabulary of {n_codes} codes, but amplitude codes are one of {N_CODES}; they "
            "belong to another tokenizer."
        )
    depths = {int(match[1]) for key in state if (match := re.match(r"encoder\.layer\.(\d+)\.", key))}
    if not depths or depths != set(range(len(depths))):
        raise ValueError("The layers of a RoFormer must be numbered from 0 without a gap.")
    if "embeddings_project.weight" in state:
        raise ValueError("A RoFormer whose embeddings are narrower than its layers is not supported.")
    table = state.get("encoder.embed_positions.weight")
    head_dim = _HEAD_DIM if table is None or table.ndim != 2 else table.shape[1]
    if num_heads is None:
        num_heads = max(1, embed_dim // head_dim)
    elif table is not None and num_heads * head_dim != embed_dim:
        raise ValueError(f"These weights have {embed_dim // head_dim} attention heads, not num_heads={num_heads}.")
    return {
        "embed_dim": embed_dim,
        "num_layers": len(depths),
        "num_heads": num_heads,
        "hidden_dim": _shape(state, "encoder.layer.0.intermediate.dense.weight")[0],
    }


def _renamed(state: Mapping[str, Tensor], num_layers: int, linear: bool) -> dict[str, Tensor]:
    """Rename all tensors; those that are unknown keep their name, and are refused by it."""
    left = dict(state)
    left.pop("encoder.embed_positions.weight", None)
    out = {}

    def move(theirs: str, ours: str) -> None:
        if theirs in left:
            out[ours] = left.pop(theirs)

    move("embeddings.word_embeddings.weight", "encoder.patch_embed.table")
    # Every token is of the first type.
    types = left.pop("embeddings.token_type_embeddings.weight", None)
    if types is not None:
        out["encoder.patch_embed.offset"] = types[0]
    for kind in ("weight", "bias"):
        move(f"embeddings.LayerNorm.{kind}", f"encoder.patch_embed.norm.{kind}")
        for i in range(num_layers):
            theirs, ours = f"encoder.layer.{i}.", f"encoder.blocks.{i}."
            parts = [f"{theirs}attention.self.{name}.{kind}" for name in ("query", "key", "value")]
            if all(part in left for part in parts):
                out[f"{ours}attn.qkv.{kind}"] = torch.cat([left.pop(part) for part in parts])
            for inside, own in _LAYER.items():
                move(f"{theirs}{inside}.{kind}", f"{ours}{own}.{kind}")
    if linear:
        move("lm_head.weight", "final_layer.decoder.weight")
    for theirs, own in _HEAD.items():
        move(theirs, f"final_layer.{own}")
    # The same bias under a second name, of which a file may hold only one.
    bias = left.pop("cls.predictions.decoder.bias", None)
    if bias is not None:
        out.setdefault("final_layer.decoder.bias", bias)
    # transformers ties this matrix to the embedding, and leaves out of a file what is there already.
    if "final_layer.dense.weight" in out and "final_layer.decoder.weight" not in out:
        logger.info("The last matrix is not in these weights: it is that of the embedding, as transformers ties them.")
        out["final_layer.decoder.weight"] = state["embeddings.word_embeddings.weight"].clone()
    return {**out, **left}
