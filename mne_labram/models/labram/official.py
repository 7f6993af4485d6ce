"""Weights of the authors' code, under their own key names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from mne.utils import logger
from torch import Tensor

from mne_labram.nn.state import load_strict

__all__ = ["official_classification", "official_masked", "official_tokenizer", "official_to_ours"]

_Model = TypeVar("_Model", bound=torch.nn.Module)

# The same tensors under the authors' names and ours, inside an encoder (LaBraM, modeling_finetune.py).
_RENAMED = {"pos_embed": "spatial_embed.table", "fc_norm.weight": "norm.weight", "fc_norm.bias": "norm.bias"}

# Names outside encoder and decoder (LaBraM, modeling_vqnsp.py).
_TOKENIZER_NAMES = {
    "encode_task_layer": "to_latent",
    "decode_task_layer": "final_layer.amplitude",
    "decode_task_layer_angle": "final_layer.phase",
}
_TOKENIZER_HEADS = re.compile(r"^(encode_task_layer|decode_task_layer|decode_task_layer_angle)\.")


def official_to_ours(key: str) -> str:
    """Translate the name of a tensor inside an encoder.

    Parameters
    ----------
    key : str
        Name in the authors' ``NeuralTransformer``, e.g. ``"pos_embed"`` or ``"blocks.0.attn.qkv.weight"``.

    Returns
    -------
    key : str
        Name in :class:`mne_labram.models.labram.transformer.LabramTransformer`.
    """
    return _RENAMED.get(key, key)


def _tensors(state_dict: Mapping[str, Any]) -> dict[str, Tensor]:
    """Take the tensors out of a checkpoint, without the prefix that DistributedDataParallel adds."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"A state dict maps names to tensors, got a {type(state_dict).__name__}.")
    if isinstance(state_dict.get("model"), Mapping):
        state_dict = state_dict["model"]
    state = {str(key).removeprefix("module."): value for key, value in state_dict.items()}
    strangers = [key for key, value in state.items() if not isinstance(value, Tensor)]
    if strangers:
        raise ValueError(f"These entries of the state dict are no tensors: {', '.join(strangers[:3])}.")
    return state


def _leave_out(state: dict[str, Tensor], pattern: str, why: str) -> None:
    """Drop entries that are known and not needed, and say so."""
    names = [key for key in state if re.fullmatch(pattern, key)]
    for name in names:
        del state[name]
    if names:
        logger.info(f"Left out of the official weights, {why}: {', '.join(sorted(names))}.")


def _shape(state: Mapping[str, Tensor], key: str, ndim: int) -> torch.Size:
    """Shape of a tensor that tells the size of the model."""
    if key not in state:
        raise ValueError(f"These are no official LaBraM weights of the expected kind: {key!r} is missing.")
    if state[key].ndim != ndim:
        raise ValueError(f"{key!r} must have {ndim} axes in official LaBraM weights, got {tuple(state[key].shape)}.")
    return state[key].shape


def _numbers(state: Mapping[str, Tensor], num_heads: int, prefix: str = "") -> dict[str, Any]:
    """Read the arguments of an encoder off its shapes."""
    embed_dim = _shape(state, prefix + "cls_token", 3)[2]
    depths = {int(match[1]) for key in state if (match := re.match(re.escape(prefix) + r"blocks\.(\d+)\.", key))}
    if depths != set(range(len(depths))) or not depths:
        raise ValueError("The blocks of official LaBraM weights must be numbered from 0 without a gap.")
    q_norm = prefix + "blocks.0.attn.q_norm.weight"
    if q_norm in state:
        from_shape = embed_dim // max(_shape(state, q_norm, 1)[0], 1)
        if num_heads not in (10, from_shape):
            raise ValueError(f"These weights have {from_shape} attention heads, not num_heads={num_heads}.")
        num_heads = from_shape
    return {
        "embed_dim": embed_dim,
        "num_layers": len(depths),
        "num_heads": num_heads,
        "max_patches": _shape(state, prefix + "time_embed", 3)[1],
        "qk_norm": q_norm in state,
        "qkv_bias": prefix + "blocks.0.attn.q_bias" in state,
        # The value does not matter, it is overwritten; that there is one does.
        "layer_scale": 0.1 if prefix + "blocks.0.gamma_1" in state else 0.0,
    }


def _load(model: _Model, state: dict[str, Tensor]) -> _Model:
    """Load strictly; buffers that the authors' code does not have keep their values."""
    ours = ("target.", "quantizer.cluster_size", "quantizer.steps_unused", "quantizer.n_steps")
    own = {name: value for name, value in model.state_dict().items() if name.startswith(ours)}
    load_strict(model, {**own, **state}, source="The official state dict")
    return model


def _encoder_keys(state: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """Rename the tensors of an encoder."""
    return {
        "encoder." + official_to_ours(key.removeprefix(prefix)): value
        for key, value in state.items()
        if key.startswith(prefix)
    }


def official_classification(
    cls: type[_Model],
    state_dict: Mapping[str, Tensor],
    *,
    n_outputs: int | None,
    num_heads: int,
    **options: Any,
) -> _Model:
    """Build a classification model; see :meth:`LabramMixin.from_official`.

    Parameters
    ----------
    cls : type
        Class of the model.
    state_dict : mapping of str to Tensor
        The authors' weights.
    n_outputs : int | None
        Number of classes.
    num_heads : int
        Number of attention heads.
    **options : Any
        Further arguments of the class.

    Returns
    -------
    model : LabramForClassification
        With these weights.
    """
    state = _tensors(state_dict)
    pretrained = any(key.startswith("student.") for key in state) or "mask_token" in state
    _leave_out(state, r"(student\.)?(lm_head|projection_head)\..*|logit_scale|(student\.)?mask_token", "pre-training's")
    state = {key.removeprefix("student."): value for key, value in state.items()}
    numbers = _numbers(state, num_heads)
    head = {key: state.pop(key) for key in ("head.weight", "head.bias") if key in state}
    if len(head) == 1:
        raise ValueError(f"The head of the official weights is incomplete: only {next(iter(head))!r} is there.")
    n_saved = _shape(head, "head.weight", 2)[0] if head else None
    if n_outputs is None:
        n_outputs = n_saved
    if n_outputs is None:
        raise ValueError("These official weights have no head; give n_outputs to get a fresh one.")
    if "norm.weight" in state and not pretrained:
        options.setdefault("pooling", "cls")  # fine-tuned with use_mean_pooling=False
    model = cls(n_outputs=n_outputs, **numbers, **options)
    renamed = _encoder_keys(state)
    if n_saved == n_outputs:
        renamed |= {key.replace("head.", "final_layer."): value for key, value in head.items()}
    else:
        if head:
            logger.info(f"The official head is for {n_saved} classes and was left out.")
        logger.info(f"A fresh head for {n_outputs} classes was made.")
        renamed |= {f"final_layer.{key}": value for key, value in model.final_layer.state_dict().items()}
    return _load(model, renamed)


def official_tokenizer(
    cls: type[_Model], state_dict: Mapping[str, Tensor], *, num_heads: int, **options: Any
) -> _Model:
    """Build a tokenizer; see :meth:`LabramMixin.from_official`.

    Parameters
    ----------
    cls : type
        Class of the model.
    state_dict : mapping of str to Tensor
        The authors' weights.
    num_heads : int
        Number of attention heads.
    **options : Any
        Further arguments of the class.

    Returns
    -------
    model : LabramTokenizer
        With these weights.
    """
    state = _tensors(state_dict)
    _leave_out(state, r"(loss|teacher|scaling).*", "as by the authors' loader")
    # Copies that the update of the codebook does not read (LaBraM, norm_ema_quantizer.py).
    _leave_out(state, r"quantize\.embedding\.(cluster_size|embed_avg)", "never used")
    n_codes, code_dim = _shape(state, "quantize.embedding.weight", 2)
    numbers = _numbers(state, num_heads, "encoder.")
    decoder = _numbers(state, numbers["num_heads"], "decoder.")
    renamed = _encoder_keys(state, "encoder.")
    for key, value in state.items():
        if key.startswith("decoder.") and key != "decoder.patch_embed.proj.weight":
            inside = key.removeprefix("decoder.").replace("patch_embed.proj.", "patch_embed.")
            renamed["decoder." + official_to_ours(inside)] = value
        elif not key.startswith(("encoder.", "decoder.")):
            renamed[_TOKENIZER_HEADS.sub(lambda match: _TOKENIZER_NAMES[match[1]] + ".", key)] = value
    # A convolution over single samples is a linear map.
    if _shape(state, "decoder.patch_embed.proj.weight", 4)[2:] != (1, 1):
        raise ValueError("'decoder.patch_embed.proj.weight' must be of a 1 x 1 convolution.")
    renamed["decoder.patch_embed.weight"] = state["decoder.patch_embed.proj.weight"].flatten(1)
    renamed["quantizer.codebook"] = renamed.pop("quantize.embedding.weight")
    if "quantize.cluster_size" in renamed:
        renamed["quantizer.cluster_size"] = renamed.pop("quantize.cluster_size")
    started = renamed.pop("quantize.embedding.initted", None)
    renamed["quantizer.initialized"] = torch.tensor(started is None or bool(started.reshape(-1).any()))
    model = cls(
        n_codes=n_codes,
        code_dim=code_dim,
        decoder_layers=decoder["num_layers"],
        target="amplitude+phase",
        **numbers,
        **options,
    )
    return _load(model, renamed)


def official_masked(cls: type[_Model], state_dict: Mapping[str, Tensor], *, num_heads: int, **options: Any) -> _Model:
    """Build a masked model; see :meth:`LabramMixin.from_official`.

    Parameters
    ----------
    cls : type
        Class of the model.
    state_dict : mapping of str to Tensor
        The authors' weights.
    num_heads : int
        Number of attention heads.
    **options : Any
        Further arguments of the class.

    Returns
    -------
    model : LabramForMaskedModeling
        With these weights.
    """
    state = _tensors(state_dict)
    _leave_out(state, r"(student\.)?projection_head\..*|logit_scale", "never used")
    if "lm_head.weight" in state:
        _leave_out(state, r"student\.lm_head\..*", "never used beside the outer head")
    state = {key.removeprefix("student."): value for key, value in state.items()}
    n_codes = _shape(state, "lm_head.weight", 2)[0]
    outside = {"mask_token": "mask_token", "lm_head.weight": "final_layer.weight", "lm_head.bias": "final_layer.bias"}
    renamed = {outside[key]: state.pop(key) for key in outside if key in state}
    model = cls(n_codes=n_codes, **_numbers(state, num_heads), **options)
    return _load(model, {**renamed, **_encoder_keys(state)})
