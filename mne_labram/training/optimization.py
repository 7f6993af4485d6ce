"""Which parameters decay, which learn slower, and how the learning rate goes up and down."""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import nn

__all__ = ["cosine_learning_rate", "layer_of", "parameter_groups", "parameter_parts", "set_learning_rate"]

# Tables that are looked up or added, not multiplied with: LaBraM, modeling_pretrain.py, no_weight_decay(), which lacks
# the mask token.
_EMBEDDINGS = ("cls_token", "mask_token", "time_embed", "table", "pos_embed")
_BLOCK = re.compile(r"(?:^|\.)blocks\.(\d+)\.")
# LaBraM, optim_factory.py, get_num_layer_for_vit(), but for time_embed: it is not in that list and learns at the full
# rate there, while the spatial embedding that it is added to learns at the lowest.
_FIRST_LAYER = re.compile(r"(?:^|\.)(?:cls_token|mask_token|spatial_embed\..*|pos_embed|time_embed|patch_embed\..*)$")


def layer_of(name: str, n_layers: int) -> int:
    """Say how deep in an encoder a parameter is.

    Parameters
    ----------
    name : str
        Name of the parameter in the model.
    n_layers : int
        Blocks of the encoder.

    Returns
    -------
    layer : int
        0 for what makes tokens (CLS and mask token, spatial, temporal and patch embedding), ``i + 1`` for block ``i``,
        and ``n_layers + 1`` for all that follows and everything outside the encoder.
    """
    if name.startswith("decoder."):
        return n_layers + 1
    if block := _BLOCK.search(name):
        return int(block.group(1)) + 1
    return 0 if _FIRST_LAYER.search(name) else n_layers + 1


def _decays(name: str, parameter: nn.Parameter) -> bool:
    """Tell whether weight decay makes sense: for matrices and kernels, not for biases, norms and embeddings."""
    return parameter.ndim > 1 and not name.endswith(".bias") and name.split(".")[-1] not in _EMBEDDINGS


def _scale(model: nn.Module, name: str) -> float:
    """Find the factor of the learning rate that a model has for a parameter."""
    scales = getattr(model, "learning_rate_scales", {})
    return next((scale for beginning, scale in scales.items() if name.startswith(beginning)), 1.0)


def parameter_parts(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Divide the parameters to be trained into parts whose gradients are clipped each by itself.

    Parameters
    ----------
    model : torch.nn.Module
        It may have ``learning_rate_scales``, a mapping from the beginnings of names to factors; each beginning is a
        part, such as the discriminator of a codec.

    Returns
    -------
    parts : dict of str to list of Parameter
        By beginning of the name, ``""`` for all others; this one comes first.
    """
    parts: dict[str, list[nn.Parameter]] = {"": []}
    beginnings = list(getattr(model, "learning_rate_scales", {}))
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            beginning = next((each for each in beginnings if name.startswith(each)), "")
            parts.setdefault(beginning, []).append(parameter)
    return parts


def parameter_groups(
    model: nn.Module, *, weight_decay: float = 0.05, layer_decay: float | None = None
) -> list[dict[str, Any]]:
    """Sort parameters into groups for AdamW.

    Parameters
    ----------
    model : torch.nn.Module
        The model; parameters that need no gradient are left out. It may have ``learning_rate_scales``, a mapping from
        the beginnings of names to factors of the learning rate.
    weight_decay : float
        Weight decay of matrices and kernels. Vectors (biases, norms, residual gains) and embeddings have none.
    layer_decay : float | None
        A parameter of layer ``i`` of ``L`` blocks (:func:`layer_of`) learns at ``layer_decay ** (L + 1 - i)`` times
        the learning rate (LaBraM, optim_factory.py). ``None``: all learn at the same.

    Returns
    -------
    groups : list of dict
        ``"params"``, ``"names"``, ``"weight_decay"`` and ``"lr_scale"``.

    Raises
    ------
    ValueError
        If ``weight_decay`` is negative, ``layer_decay`` does not lie in (0, 1], or there is nothing to train.
    """
    if not weight_decay >= 0:
        raise ValueError(f"weight_decay must not be negative, got {weight_decay}.")
    if layer_decay is not None and not 0 < layer_decay <= 1:
        raise ValueError(f"layer_decay must lie in (0, 1], got {layer_decay}.")
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    if not named:
        raise ValueError(f"{type(model).__name__} has no parameter to train.")
    blocks = [int(found.group(1)) for name, _ in named if (found := _BLOCK.search(name)) and "decoder." not in name]
    n_layers = max(blocks, default=-1) + 1
    groups: dict[tuple[float, bool, int], dict[str, Any]] = {}
    for name, parameter in named:
        layer = n_layers + 1 if layer_decay is None else layer_of(name, n_layers)
        decays, scale = _decays(name, parameter), _scale(model, name)
        group = groups.setdefault(
            (scale, decays, layer),
            {
                "params": [],
                "names": [],
                "weight_decay": weight_decay if decays else 0.0,
                "lr_scale": scale * (1.0 if layer_decay is None else layer_decay ** (n_layers + 1 - layer)),
            },
        )
        group["params"].append(parameter)
        group["names"].append(name)
    return [groups[key] for key in sorted(groups)]


def cosine_learning_rate(step: int, *, total: int, warmup: int = 0, peak: float = 1.0, minimum: float = 0.0) -> float:
    """Compute the learning rate of a step: up in a straight line, down along half a cosine.

    Parameters
    ----------
    step : int
        Number of the step, from 0.
    total : int
        Steps of the whole training.
    warmup : int
        Steps until the peak.
    peak, minimum : float
        Largest rate, and the one that the end comes close to.

    Returns
    -------
    rate : float
        ``peak * (step + 1) / warmup`` during the warm-up, then ``minimum + (peak - minimum) * (1 + cos(pi * t)) / 2``
        with ``t`` from 0 to 1 (LaBraM, utils.py, cosine_scheduler(), whose first step has a rate of 0 and is lost).
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return minimum + 0.5 * (peak - minimum) * (1.0 + math.cos(math.pi * progress))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its rate.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Its groups may have an ``"lr_scale"``.
    rate : float
        Rate of the groups without.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)
