"""Weights of BrainCodec's authors, under their own key names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from mne.utils import logger
from torch import Tensor

from mne_labram.nn.state import load_strict

__all__ = ["build_official", "codec_state", "encoder_sizes", "encoder_state"]

_Model = TypeVar("_Model", bound=torch.nn.Module)

# Wrappers: DistributedDataParallel, torch.compile, and the authors' training module, whose attribute is `model`.
_WRAPPERS = ("module.", "_orig_mod.")
_OUTER = "model."
# What else their training module may hold; no codec needs it.
_NOT_CODEC = re.compile(r"(^|\.)(\w*(discriminator|disc|loss|balancer)\w*)\.")
# The quantiser's buffers in vector-quantize-pytorch (residual_vq.py, vector_quantize_pytorch.py).
_CODEBOOK = re.compile(r"^(?:\w+\.)*layers\.(\d+)\._codebook\.(embed|embed_avg|cluster_size|initted)$")


def _tensors(state_dict: Any) -> dict[str, Tensor]:
    """Take the tensors out of a checkpoint, without the prefixes of wrappers."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"A state dict maps names to tensors, got a {type(state_dict).__name__}.")
    for key in ("state_dict", "model"):
        if isinstance(state_dict.get(key), Mapping):
            state_dict = state_dict[key]
    strangers = [str(key) for key, value in state_dict.items() if not isinstance(value, Tensor)]
    if strangers:
        raise ValueError(f"These entries of the state dict are no tensors: {', '.join(strangers[:3])}.")
    state = {str(key): value for key, value in state_dict.items()}
    for prefix in _WRAPPERS:
        if state and all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def codec_state(state_dict: Mapping[str, Any]) -> dict[str, Tensor]:
    """Find the tensors of a codec in a checkpoint.

    Parameters
    ----------
    state_dict : mapping
        Weights under the authors' names, or ours, perhaps inside ``"state_dict"``.

    Returns
    -------
    state : dict of str to Tensor
        Names begin with ``encoder.``, ``decoder.``, or something else. Discriminators and losses are left out.

    Raises
    ------
    TypeError, ValueError
        If it does not map names to tensors.
    """
    state = _tensors(state_dict)
    dropped = [key for key in state if _NOT_CODEC.search(key)]
    if dropped:
        logger.info(
            f"Left out of the official weights, not needed to code: {len(dropped)} tensors ({dropped[0]}, ...)."
        )
        state = {key: value for key, value in state.items() if key not in set(dropped)}
    # `model.encoder.model.0...`: only the first word is that of the training module.
    if any(key.startswith((_OUTER + "encoder.", _OUTER + "decoder.")) for key in state):
        state = {key.removeprefix(_OUTER): value for key, value in state.items()}
    return state


def encoder_state(state_dict: Mapping[str, Any]) -> dict[str, Tensor]:
    """Find the tensors of a codec's encoder in a checkpoint.

    Parameters
    ----------
    state_dict : mapping
        Weights of a codec under the authors' names or ours, or of an encoder alone (``model.*``).

    Returns
    -------
    state : dict of str to Tensor
        Under the names that :class:`mne_labram.nn.seanet.SEANetEncoder` has.

    Raises
    ------
    ValueError
        If there is no encoder; the message says what there is instead.
    TypeError
        If it does not map names to tensors.
    """
    state = codec_state(state_dict)
    found = {key.removeprefix("encoder."): value for key, value in state.items() if key.startswith("encoder.")}
    if not found and state and all(re.match(r"model\.\d+\.", key) for key in state):
        found = state
    if not found:
        there = ", ".join(list(state)[:3]) or "nothing"
        raise ValueError(
            "There is no encoder in these weights: names must begin with encoder.model., model.encoder.model. or, for "
            f"an encoder alone, model.0.; there is {there}."
        )
    return found


def encoder_sizes(state: Mapping[str, Tensor], ratios: Sequence[int] | None = None) -> dict[str, Any]:
    """Read the arguments of a SEANet encoder off its shapes.

    Parameters
    ----------
    state : mapping of str to Tensor
        From :func:`encoder_state`.
    ratios : sequence of int | None
        Strides in the decoder's order; ``None``: half the taps of the convolutions that have one.

    Returns
    -------
    sizes : dict
        ``"ratios"`` and all other sizes, for :class:`mne_labram.nn.seanet.SEANetEncoder`.

    Raises
    ------
    ValueError
        If the first or last convolution, or the first residual block, is not where it should be.
    """
    shapes = {key: tuple(value.shape) for key, value in state.items() if key.endswith("weight") and value.ndim == 3}
    numbered = {int(match[1]): key for key in shapes if (match := re.match(r"model\.(\d+)\.conv\.conv\.", key))}
    blocks = {int(match[1]) for key in shapes if (match := re.match(r"model\.(\d+)\.block\.", key))}
    if ratios is None:
        ratios = [shapes[numbered[i]][2] // 2 for i in sorted(numbered, reverse=True)[1:-1]]
    if 0 not in numbered or not len(ratios) or len(numbered) != len(ratios) + 2:
        raise ValueError(
            f"The encoder of these weights has {len(numbered)} convolutions beside residual blocks, not the "
            f"{len(ratios) + 2} of {len(ratios)} strides; give the ratios that it was trained with."
        )
    first, last = shapes[numbered[0]], shapes[numbered[max(numbered)]]
    sizes: dict[str, Any] = {
        "ratios": [int(ratio) for ratio in ratios],
        "n_filters": first[0],
        "max_filters": max(shapes[key][0] for i, key in numbered.items() if i != max(numbered)),
        "dim": last[0],
        "kernel_size": first[2],
        "last_kernel_size": last[2],
        "n_residual_layers": len(blocks) // len(ratios),
    }
    inside = shapes.get(f"model.{min(blocks, default=0)}.block.1.conv.conv.weight")
    if inside is not None:
        sizes |= {"compress": max(1, inside[1] // max(1, inside[0])), "residual_kernel_size": inside[2]}
    return sizes


def _codebooks(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take codebooks out of a state dict and give them our names."""
    found: dict[str, dict[int, Tensor]] = {}
    for key in list(state):
        if match := _CODEBOOK.match(key):
            found.setdefault(match[2], {})[int(match[1])] = state.pop(key)
    if not found:
        return {}
    n = len(found.get("embed", ()))
    for name in ("embed", "embed_avg", "cluster_size"):
        if sorted(found.get(name, ())) != list(range(n)) or not n:
            raise ValueError(f"The codebooks of the official weights are incomplete: {name} is not there for all.")

    def stacked(name: str) -> Tensor:
        # The first axis is one of heads, of which there is one.
        return torch.stack([found[name][i].squeeze(0) for i in range(n)])

    started = [bool(value.reshape(-1).any()) for value in found.get("initted", {}).values()]
    return {
        "quantizer.codebooks": stacked("embed"),
        "quantizer.code_totals": stacked("embed_avg"),
        "quantizer.cluster_size": stacked("cluster_size"),
        "quantizer.initialized": torch.tensor(all(started)),
    }


def build_official(
    cls: type[_Model], state_dict: Mapping[str, Any], *, ratios: Sequence[int] | None, sfreq: float, **options: Any
) -> _Model:
    """Build a codec; see :meth:`BrainCodec.from_official`.

    Parameters
    ----------
    cls : type
        Class of the model.
    state_dict : mapping of str to Tensor
        The authors' weights.
    ratios : sequence of int | None
        Strides of the decoder; ``None`` reads them off the kernels.
    sfreq : float
        Sampling rate in Hz.
    **options : Any
        Further arguments of the class.

    Returns
    -------
    model : BrainCodec
        With these weights.
    """
    state = codec_state(state_dict)
    sizes = encoder_sizes(encoder_state(state), ratios)
    codebooks = _codebooks(state)
    if codebooks:
        n_codebooks, codebook_size = codebooks["quantizer.codebooks"].shape[:2]
        sizes |= {"n_codebooks": n_codebooks, "codebook_size": codebook_size}
    for name, value in sizes.items():
        if options.get(name, value) != value:
            raise ValueError(f"These weights have {name}={value}, not {options[name]}.")
    model = cls(sfreq=sfreq, **{**sizes, **options})
    own = {key: value for key, value in model.state_dict().items() if key.startswith("quantizer.")}
    if not codebooks and not any(key.startswith("quantizer.") for key in state):
        logger.warning("These official weights hold no codebooks: those of the model are fresh, and must be trained.")
    load_strict(model, {**own, **state, **codebooks}, source="The official state dict")
    return model
