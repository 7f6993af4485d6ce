"""The authors' own checkpoints: what is in the file, and which of our models it is for."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from mne_labram.weights.files import file_sha256, readable_file, shown
from mne_labram.weights.pickle_reader import read_torch_file

__all__ = ["OFFICIAL_KINDS", "official_kind", "official_sizes", "read_official_checkpoint"]

#: What an official file may be for.
OFFICIAL_KINDS = (
    *("classification", "masked", "tokenizer", "codec"),
    *("gram-classification", "gram", "gram-tokenizer"),
    *("amplitude", "amplitude-classification"),
)

# Where a training script puts the weights: LaBraM's save_model says "model" (utils.py).
_WEIGHT_KEYS = ("model", "module", "state_dict", "model_state_dict")
# Wrappers of torch that put a word before every name: DistributedDataParallel and torch.compile.
_WRAPPERS = ("module.", "_orig_mod.")
# In the files but in no model: `logit_scale` has no counterpart in the released code, and the official loader of the
# tokenizer (modeling_vqnsp.py) leaves out what starts with the other words.
_NOT_WEIGHTS = ("logit_scale", "student.logit_scale")
_NOT_WEIGHTS_PREFIXES = ("loss", "teacher", "scaling")
_LONGEST_NAME = 200
# BrainCodec's first convolutions (EnCodec, modules/seanet.py).
_CODEC_NAMES = ("encoder.model.0.conv.conv.weight", "decoder.model.0.conv.conv.weight")
# What makes transformers' RoFormer, with anything of the three words before (EEGFoundation writes several).
_AMPLITUDE_NAMES = {"embeddings.word_embeddings.weight", "encoder.layer.0.attention.self.query.weight"}
_AMPLITUDE_PREFIXES = re.compile(r"^((module|model|roformer)\.)*")
# EEGFoundation's classifier (downstream_EEGFoundation.py).
_DOWNSTREAM_NAMES = {"in_layer.weight", "basic_attn.w_qs.weight", "projection_embedding.weight"}
# Heads per width in the three published sizes (modeling_finetune.py).
_PUBLISHED_HEADS = {200: 10, 400: 16, 800: 16}


def read_official_checkpoint(fname: str | os.PathLike) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read the weights of an official checkpoint without running anything in the file.

    Parameters
    ----------
    fname : path-like
        A file of ``torch.save`` (``.pth`` or ``.pt``, of any torch version) or a ``.safetensors`` file. It may hold
        the weights themselves or the training dict around them: ``model``, ``optimizer``, ``epoch``, ``args`` (an
        ``argparse.Namespace``) and ``scaler``.

    Returns
    -------
    state_dict : dict of str to Tensor
        The weights on the CPU, under the authors' own names (``student.`` is kept: it tells the pre-trained backbone
        from the heads beside it). The prefixes of torch's wrappers are taken off.
    info : dict
        ``file``, ``sha256``, ``format`` (``"torch"`` or ``"safetensors"``), ``kind`` (see :func:`official_kind`, or
        ``None`` for foreign weights), ``key`` (where in the file the weights were), ``epoch``, ``args`` (the training
        arguments that are plain values) and ``dropped`` (tensors that belong to no model). All plain JSON values.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is empty, damaged, no checkpoint, or asks for any name outside the closed list of
        :mod:`mne_labram.weights.pickle_reader`, such as ``os.system``. One sentence, which names it.
    """
    path = readable_file(fname)
    label = repr(path.name)
    info: dict[str, Any] = {"file": path.name, "sha256": file_sha256(path), "key": None, "epoch": None, "args": {}}
    if path.suffix.lower() == ".safetensors":
        info["format"] = "safetensors"
        try:
            weights: Any = load_file(path)
        except (SafetensorError, KeyError, OSError) as error:
            raise ValueError(f"{label} is no safetensors file, or it is damaged ({error}); get it again.") from None
    else:
        info["format"] = "torch"
        content = weights = read_torch_file(path)
        if isinstance(content, Mapping):
            info["key"] = next((key for key in _WEIGHT_KEYS if isinstance(content.get(key), Mapping)), None)
            if info["key"] is not None:
                weights = content[info["key"]]
                info["epoch"] = content["epoch"] if isinstance(content.get("epoch"), int) else None
                # Gram keeps its configuration, a dictionary, as "cf".
                info["args"] = _plain_arguments(content.get("args", content.get("cf")))
    state_dict = _tensors(weights, label)
    info["dropped"] = [name for name in state_dict if name in _NOT_WEIGHTS or name.startswith(_NOT_WEIGHTS_PREFIXES)]
    for name in info["dropped"]:
        del state_dict[name]
    try:
        info["kind"] = official_kind(state_dict)
    except ValueError:
        info["kind"] = None
    return state_dict, info


def _plain_arguments(arguments: Any) -> dict[str, Any]:
    """Keep the training arguments that are plain values."""
    if isinstance(arguments, argparse.Namespace):
        arguments = vars(arguments)
    if not isinstance(arguments, Mapping):
        return {}
    return {
        name: value
        for name, value in arguments.items()
        if isinstance(name, str) and (value is None or type(value) in (bool, int, float, str))
    }


def _tensors(weights: Any, label: str) -> dict[str, torch.Tensor]:
    """Check that this is a mapping of names to ordinary tensors, and take the wrappers' prefixes off."""
    if not isinstance(weights, Mapping) or not weights:
        raise ValueError(
            f"{label} holds no weights: neither a state dict nor a dict with one under "
            f"{', '.join(map(repr, _WEIGHT_KEYS))}."
        )
    for name, value in weights.items():
        if not isinstance(name, str) or name != shown(name, _LONGEST_NAME):
            raise ValueError(f"{label} holds no weights: {shown(str(name), 60)!r} is no name of a tensor.")
        if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
            raise ValueError(
                f"{label} holds no weights: {name!r} is of type {type(value).__name__}, not a dense tensor."
            )
        # A tensor of stride 0 can claim any size over a few bytes and fill the memory when it is copied.
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise ValueError(f"{label} is damaged: {name!r} claims more values than the file holds.")
    return {name: value.detach() for name, value in zip(_unwrapped(weights), weights.values(), strict=True)}


def _unwrapped(names: Iterable[str]) -> list[str]:
    """Take off the prefixes that torch's wrappers put before every name."""
    names = list(names)
    for prefix in _WRAPPERS:
        if all(name.startswith(prefix) for name in names):
            names = [name.removeprefix(prefix) for name in names]
    return names


def official_kind(names: Iterable[str]) -> str:
    """Tell from the names of its tensors what an official checkpoint is for.

    Parameters
    ----------
    names : iterable of str
        Names, or a state dict.

    Returns
    -------
    kind : str
        One of :data:`OFFICIAL_KINDS`: ``"tokenizer"`` for VQNSP, ``"masked"`` for the pre-trained backbone with its
        mask token, ``"classification"`` for a fine-tuned or bare backbone; ``"codec"`` for BrainCodec;
        ``"gram-tokenizer"`` for Gram's first stage, ``"gram"`` for its second, ``"gram-classification"`` for the
        fine-tuned; ``"amplitude"`` for EEGFoundation, which is transformers' RoFormer with or without its head. Nothing
        is ``"amplitude-classification"``: that can only be made of the former.

    Raises
    ------
    ValueError
        If these are no official weights of LaBraM, BrainCodec, Gram or EEGFoundation; where it is known whose they are,
        the message says so.
    """
    names = set(_unwrapped(names))
    if {name.removeprefix("model.") for name in names} >= set(_CODEC_NAMES):
        return "codec"
    backbone = {name.removeprefix("student.") for name in names}
    if {"quantize.embedding.weight", "encoder.patch_embed.conv1.weight"} <= names:
        return "tokenizer"
    if "patch_embed.conv1.weight" in backbone:
        return "masked" if "mask_token" in backbone else "classification"
    if "patch_embed.temporal_conv.conv1.weight" in names:
        raise ValueError("These are the weights of Braindecode's Labram; use from_braindecode() of our model classes.")
    if {"quantize.embedding.weight", "encoder.tconv.conv1.weight"} <= names:
        return "gram-tokenizer"
    if "tconv.conv1.weight" in names:
        return "gram" if "decoder_pred.weight" in names else "gram-classification"
    if {_AMPLITUDE_PREFIXES.sub("", name) for name in names} >= _AMPLITUDE_NAMES:
        return "amplitude"
    if {name.removeprefix("model.") for name in names} >= _DOWNSTREAM_NAMES:
        raise ValueError("These are the weights of EEGFoundation's published classifier; use load_downstream_model().")
    there = ", ".join(repr(shown(name, 60)) for name in sorted(names)[:2]) or "nothing"
    raise ValueError(
        "These are no official weights of LaBraM ('patch_embed.conv1.weight'), BrainCodec "
        "('encoder.model.0.conv.conv.weight'), Gram ('tconv.conv1.weight') or EEGFoundation "
        f"('embeddings.word_embeddings.weight'): there is {there}{', ...' if len(names) > 2 else ''}."
    )


def official_sizes(
    state_dict: Mapping[str, torch.Tensor], kind: str | None = None, *, num_heads: int | None = None
) -> dict[str, int]:
    """Read the sizes of the model off the shapes of its weights.

    Parameters
    ----------
    state_dict : mapping of str to Tensor
        Official weights, as :func:`read_official_checkpoint` gives them.
    kind : {"classification", "masked", "tokenizer"} | None
        What they are for; ``None`` finds out.
    num_heads : int | None
        Attention heads. ``None`` reads them off the query norm, whose length is ``embed_dim / num_heads``; the
        tokenizer has none, and then the published sizes decide: 10 heads at width 200, 16 at 400 and 800.

    Returns
    -------
    sizes : dict of str to int
        ``embed_dim``, ``num_layers``, ``num_heads``; for a tokenizer also ``decoder_layers``, ``n_codes``,
        ``code_dim``; for the others ``n_outputs`` where there is a head.

    Raises
    ------
    ValueError
        If the weights are not of this kind, or the number of heads can neither be read nor is given, or contradicts
        the weights.
    """
    kind = official_kind(state_dict) if kind is None else kind
    prefix = "encoder." if kind == "tokenizer" else "student." if "student.cls_token" in state_dict else ""
    shapes = {name: tuple(value.shape) for name, value in state_dict.items()}
    width = shapes.get(f"{prefix}cls_token", ())
    if len(width) != 3:
        raise ValueError(f"These weights hold no {prefix}cls_token of shape 1 x 1 x width, so their size is unknown.")
    sizes = {"embed_dim": width[2], "num_layers": _depth(shapes, f"{prefix}blocks.")}
    norm = shapes.get(f"{prefix}blocks.0.attn.q_norm.weight")
    read = sizes["embed_dim"] // norm[0] if norm and norm[0] else None
    if num_heads is not None and read is not None and num_heads != read:
        raise ValueError(f"num_heads={num_heads} contradicts the weights, which have {read} heads; leave it out.")
    heads = num_heads or read or _PUBLISHED_HEADS.get(sizes["embed_dim"])
    if heads is None:
        raise ValueError(
            f"The number of attention heads cannot be read off these weights (width {sizes['embed_dim']}, no query "
            "norm); pass num_heads."
        )
    sizes["num_heads"] = int(heads)
    if kind == "tokenizer":
        sizes["decoder_layers"] = _depth(shapes, "decoder.blocks.")
        sizes["n_codes"], sizes["code_dim"] = shapes["quantize.embedding.weight"]
    elif f"{prefix}head.weight" in shapes:
        sizes["n_outputs"] = shapes[f"{prefix}head.weight"][0]
    return sizes


def _depth(shapes: Mapping[str, Any], prefix: str) -> int:
    """Count blocks: one more than the highest number after the prefix."""
    numbers = {name.removeprefix(prefix).split(".")[0] for name in shapes if name.startswith(prefix)}
    return max((int(number) + 1 for number in numbers if number.isdecimal()), default=0)
