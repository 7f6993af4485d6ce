"""Weights of the authors' code, under their own key names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from mne.utils import logger
from torch import Tensor

from mne_labram.models.gram.channels import GRAM_CHANNELS, SINUSOID_BASE
from mne_labram.models.gram.sizes import default_out_indices
from mne_labram.nn.sinusoidal import sinusoidal_table
from mne_labram.nn.state import load_strict

__all__ = ["official_classification", "official_restoration", "official_tokenizer"]

_Model = TypeVar("_Model", bound=torch.nn.Module)

# Heads per width in the three published sizes (Gram, config/*.yaml).
_PUBLISHED_HEADS = {200: 10, 400: 16, 800: 16}
# The tables are computed; a file may hold them rounded to half precision.
_TABLE_TOLERANCE = 2e-3
# What restoration alone has, beside a copy of the tokenizer (Gram, model/modeling_Gram.py).
_PRETRAINING = r"(decoder_|mimic_head\.|vqgan\.).*"
_BLOCK_NAMES = {"ln1": "norm1", "ln2": "norm2"}


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


def _take(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Move the entries of a prefix, without it, into a dict of their own."""
    names = [key for key in state if key.startswith(prefix)]
    return {key.removeprefix(prefix): state.pop(key) for key in names}


def _leave_out(state: dict[str, Tensor], pattern: str, why: str) -> None:
    """Drop entries that are known and not needed, and say so."""
    names = [key for key in state if re.fullmatch(pattern, key)]
    for name in names:
        del state[name]
    if names:
        some = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
        logger.info(f"Left out of the official weights, {why}: {some}.")


def _shape(state: Mapping[str, Tensor], key: str, ndim: int) -> torch.Size:
    """Return the shape of a tensor that tells the size of the model."""
    if key not in state:
        raise ValueError(f"These are no official Gram weights of the expected kind: {key!r} is missing.")
    if state[key].ndim != ndim:
        raise ValueError(f"{key!r} must have {ndim} axes in official Gram weights, got {tuple(state[key].shape)}.")
    return state[key].shape


def _drop_tables(state: dict[str, Tensor], names: tuple[str, ...]) -> None:
    """Leave out the tables of sines and cosines, which we compute, if they are what we compute."""
    for name in names:
        if name not in state:
            continue
        table = state.pop(name)
        n_rows, width = _shape({name: table}, name, 3)[1:]
        expected = sinusoidal_table(n_rows, width, SINUSOID_BASE).to(table.device)
        if name.endswith("ch_emb") and n_rows != len(GRAM_CHANNELS):
            raise ValueError(f"{name!r} is of {n_rows} channel names, not of the {len(GRAM_CHANNELS)} that Gram has.")
        if not bool(((table[0].float() - expected).abs() <= _TABLE_TOLERANCE).all()):
            raise ValueError(f"{name!r} does not hold the sines and cosines that official Gram weights have there.")


def _depth(state: Mapping[str, Tensor], prefix: str) -> int:
    """Count the blocks."""
    depths = {int(match[1]) for key in state if (match := re.match(re.escape(prefix) + r"(\d+)\.", key))}
    if depths != set(range(len(depths))) or not depths:
        raise ValueError("The blocks of official Gram weights must be numbered from 0 without a gap.")
    return len(depths)


def _heads(width: int, num_heads: int | None) -> int:
    """Find the number of heads, which no tensor tells."""
    heads = num_heads or _PUBLISHED_HEADS.get(width)
    if heads is None:
        raise ValueError(f"The number of attention heads cannot be read off weights of width {width}; pass num_heads.")
    return heads


def _our_block(stack: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a stack of blocks, and join queries, keys and values."""
    out: dict[str, Tensor] = {}
    joined: dict[str, dict[str, Tensor]] = {}
    for key, value in stack.items():
        number, rest = key.split(".", 1)
        parts = rest.split(".")
        if parts[:1] == ["attn"] and parts[1] in ("query", "key", "value"):
            joined.setdefault(f"{number}.attn.qkv.{parts[2]}", {})[parts[1]] = value
            continue
        parts[0] = _BLOCK_NAMES.get(parts[0], parts[0])
        out[f"{number}.{'.'.join(parts)}"] = value
    for key, parts in joined.items():
        missing = [name for name in ("query", "key", "value") if name not in parts]
        if missing:
            raise ValueError(f"These official Gram weights are incomplete: there is no {missing[0]} for {key!r}.")
        out[key] = torch.cat([parts["query"], parts["key"], parts["value"]])
    return out


def _our_encoder(state: dict[str, Tensor], norm: str) -> dict[str, Tensor]:
    """Rename the tensors of an encoder, which are taken out of the state."""
    out = {f"encoder.blocks.{key}": value for key, value in _our_block(_take(state, "blocks.")).items()}
    out |= {f"encoder.patch_embed.{key}": value for key, value in _take(state, "tconv.").items()}
    out |= {f"encoder.norm.{key}": value for key, value in _take(state, f"{norm}.").items()}
    if "cls_token" in state:
        out["encoder.cls_token"] = state.pop("cls_token")
    out |= {f"encoder.fusion.proj_layers.{key}": value for key, value in _take(state, "proj_layers.").items()}
    if "proj_weights" in state:
        out["encoder.fusion.proj_weights"] = state.pop("proj_weights").flatten()
    return out


def _load(model: _Model, state: dict[str, Tensor]) -> _Model:
    """Load strictly; buffers that the authors' code does not have keep their values."""
    ours = ("target.", "mimic_target.", "quantizer.cluster_size", "quantizer.steps_unused", "quantizer.n_steps")
    own = {name: value for name, value in model.state_dict().items() if name.startswith(ours)}
    load_strict(model, {**own, **state}, source="The official state dict")
    return model


def official_tokenizer(
    cls: type[_Model], state_dict: Mapping[str, Tensor], *, num_heads: int | None, n_outputs: Any = None, **options: Any
) -> _Model:
    """Build a tokenizer; see :meth:`GramMixin.from_official`.

    Parameters
    ----------
    cls : type
        Class of the model.
    state_dict : mapping of str to Tensor
        The authors' weights.
    num_heads : int | None
        Number of attention heads.
    n_outputs : None
        Not used.
    **options : Any
        Further arguments of the class.

    Returns
    -------
    model : GramTokenizer
        With these weights.
    """
    state = _tensors(state_dict)
    # A pre-trained Gram holds the whole tokenizer.
    state = _take(state, "vqgan.") or state
    _leave_out(state, r"(loss|teacher|scaling).*", "as by the authors' loader")
    _leave_out(state, r"quantize\.embedding\.(cluster_size|embed_avg)", "never used")
    n_codes, code_dim = _shape(state, "quantize.embedding.weight", 2)
    n_rows, width = _shape(state, "encoder.time_emb", 3)[1:]
    encoder, decoder = _take(state, "encoder."), _take(state, "decoder.")
    for part in (encoder, decoder):
        _drop_tables(part, ("ch_emb",))
        _leave_out(part, "cls_token", "cut off before it is used")
    numbers = {
        "embed_dim": width,
        "num_layers": _depth(encoder, "blocks."),
        "num_heads": _heads(width, num_heads),
        "decoder_layers": _depth(decoder, "blocks."),
        "max_patches": n_rows,
        "n_codes": n_codes,
        "code_dim": code_dim,
    }
    renamed = {"encoder.time_embed": encoder.pop("time_emb"), **_our_encoder(encoder, "ln_f")}
    # A convolution over single samples is a linear map.
    if _shape(decoder, "conv_emb.proj.weight", 4)[2:] != (1, 1):
        raise ValueError("'decoder.conv_emb.proj.weight' must be of a 1 x 1 convolution.")
    renamed["decoder.patch_embed.weight"] = decoder.pop("conv_emb.proj.weight").flatten(1)
    renamed |= {f"decoder.patch_embed.{key}": value for key, value in _take(decoder, "conv_emb.proj.").items()}
    renamed |= {f"decoder.blocks.{key}": value for key, value in _our_block(_take(decoder, "blocks.")).items()}
    renamed |= {f"final_layer.signal.0.{key}": value for key, value in _take(decoder, "tconv.").items()}
    renamed |= {f"final_layer.signal.1.{key}": value for key, value in _take(decoder, "ln_f.").items()}
    if "time_emb" in decoder:
        renamed["decoder.time_embed"] = decoder.pop("time_emb")
    renamed |= {f"to_latent.{key}": value for key, value in _take(state, "encode_task_layer.").items()}
    renamed["quantizer.codebook"] = state.pop("quantize.embedding.weight")
    if "quantize.cluster_size" in state:
        renamed["quantizer.cluster_size"] = state.pop("quantize.cluster_size")
    started = state.pop("quantize.embedding.initted", None)
    renamed["quantizer.initialized"] = torch.tensor(started is None or bool(started.reshape(-1).any()))
    rest = {f"encoder.{key}": value for key, value in encoder.items()}
    rest |= {f"decoder.{key}": value for key, value in decoder.items()}
    return _load(cls(target="signal", **numbers, **options), {**renamed, **state, **rest})


def _encoder_numbers(state: Mapping[str, Tensor], num_heads: int | None, options: dict[str, Any]) -> dict[str, Any]:
    """Read the arguments of a restoration model's encoder off its shapes."""
    width = _shape(state, "cls_token", 3)[2]
    numbers = {
        "embed_dim": width,
        "num_layers": _depth(state, "blocks."),
        "num_heads": _heads(width, num_heads),
        # The value does not matter, it is overwritten; that there is one does.
        "layer_scale": 0.1 if "blocks.0.gamma_1" in state else 0.0,
    }
    n_fused = _shape(state, "proj_weights", 4)[0]
    indices = options.pop("out_indices", None)
    if indices is None and n_fused == numbers["num_layers"]:
        indices = range(n_fused)
    elif indices is None:
        indices = default_out_indices(numbers["num_layers"])
    numbers["out_indices"] = list(indices)
    if n_fused != len(numbers["out_indices"]):
        raise ValueError(
            f"These weights fuse the outputs of {n_fused} of {numbers['num_layers']} blocks, and do not say of which; "
            "pass their numbers as out_indices."
        )
    if "time_emb" in state:
        numbers["max_patches"] = _shape(state, "time_emb", 3)[1]
    return numbers


def official_restoration(
    cls: type[_Model], state_dict: Mapping[str, Tensor], *, num_heads: int | None, n_outputs: Any = None, **options: Any
) -> _Model:
    """Build a restoration model; see :meth:`GramMixin.from_official`.

    Parameters
    ----------
    cls : type
        Class of the model.
    state_dict : mapping of str to Tensor
        The authors' weights.
    num_heads : int | None
        Number of attention heads.
    n_outputs : None
        Not used.
    **options : Any
        Further arguments of the class.

    Returns
    -------
    model : GramForRestoration
        With these weights, and with the tokenizer that the file holds.
    """
    state = _tensors(state_dict)
    inside = _take(state, "vqgan.")
    n_codes, decoder_dim = _shape(state, "decoder_pred.weight", 2)
    numbers = _encoder_numbers(state, num_heads, options)
    _drop_tables(state, ("ch_emb", "time_emb", "decoder_ch_emb", "decoder_time_emb"))
    renamed = _our_encoder(state, "norm")
    stack = _take(state, "decoder_blocks.")
    depth = len({key.split(".")[0] for key in stack})
    renamed |= {f"decoder.blocks.{key}": value for key, value in _our_block(stack).items()}
    for theirs, ours in (("decoder_embed.", "decoder.patch_embed."), ("decoder_norm.", "decoder.norm.")):
        renamed |= {f"{ours}{key}": value for key, value in _take(state, theirs).items()}
    renamed["final_layer.weight"] = state.pop("decoder_pred.weight")
    heads = _heads(decoder_dim, options.pop("decoder_heads", None))
    decoder = {"decoder_dim": decoder_dim, "decoder_layers": depth, "decoder_heads": heads}
    model = _load(cls(n_codes=n_codes, **numbers, **decoder, **options), {**renamed, **state})
    if inside:
        from mne_labram.models.gram.tokenizer import GramTokenizer

        names = ("ch_names", "n_times", "sfreq")
        signal = {name: options[name] for name in names if name in options}
        model.set_tokenizer(official_tokenizer(GramTokenizer, inside, num_heads=None, **signal))
    return model


def official_classification(
    cls: type[_Model],
    state_dict: Mapping[str, Tensor],
    *,
    n_outputs: int | None,
    num_heads: int | None,
    **options: Any,
) -> _Model:
    """Build a classification model; see :meth:`GramMixin.from_official`.

    Parameters
    ----------
    cls : type
        Class of the model.
    state_dict : mapping of str to Tensor
        The authors' weights.
    n_outputs : int | None
        Number of classes.
    num_heads : int | None
        Number of attention heads.
    **options : Any
        Further arguments of the class.

    Returns
    -------
    model : GramForClassification
        With these weights.
    """
    state = _tensors(state_dict)
    _leave_out(state, _PRETRAINING, "pre-training's")
    numbers = _encoder_numbers(state, num_heads, options)
    _drop_tables(state, ("ch_emb", "time_emb"))
    head = _take(state, "cls_head.")
    if len(head) == 1:
        raise ValueError(
            f"The head of the official weights is incomplete: only 'cls_head.{next(iter(head))}' is there."
        )
    n_saved = _shape(head, "weight", 2)[0] if head else None
    if n_outputs is None:
        n_outputs = n_saved
    if n_outputs is None:
        raise ValueError("These official weights have no head; give n_outputs to get a fresh one.")
    model = cls(n_outputs=n_outputs, **numbers, **options)
    renamed = _our_encoder(state, "norm")
    if n_saved == n_outputs:
        renamed |= {f"final_layer.{key}": value for key, value in head.items()}
    else:
        if head:
            logger.info(f"The official head is for {n_saved} classes and was left out.")
        logger.info(f"A fresh head for {n_outputs} classes was made.")
        renamed |= {f"final_layer.{key}": value for key, value in model.final_layer.state_dict().items()}
    return _load(model, {**renamed, **state})
