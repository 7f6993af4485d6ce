"""Smaller steps for layers that lie deeper, and no weight decay where it does harm."""

from __future__ import annotations

import re
from typing import Any

from torch import nn

__all__ = ["layer_decay_groups", "layer_decay_patterns", "layer_index"]

_BLOCK = re.compile(r"^encoder\.blocks\.(\d+)\.")
# What comes before the first block; the names are those of LabramTransformer and of the masked model.
_FIRST = re.compile(r"^(encoder\.(cls_token|time_embed|spatial_embed\.|patch_embed\.)|mask_token)")
# Learned vectors that are looked up rather than multiplied (LaBraM, modeling_finetune.py: no_weight_decay). The maps of
# a CoordinateEmbedding are ordinary weights.
_LOOKED_UP = re.compile(r"^(encoder\.(cls_token|time_embed|spatial_embed\.table)|mask_token)$")


def layer_index(name: str, n_blocks: int) -> int:
    """Tell how deep a parameter lies.

    Parameters
    ----------
    name : str
        Of a parameter of one of our LaBraM models.
    n_blocks : int
        Blocks of its encoder, L.

    Returns
    -------
    layer : int
        0 for everything before the first block, k + 1 for block k (from 0), L + 1 for the final norm and the head.

    Notes
    -----
    LaBraM, optim_factory.py, get_num_layer_for_vit, but for one thing: there ``time_embed`` is not listed and falls into
    the last layer, at the full learning rate, while the spatial embedding that it is added to lies in the first. Here
    both lie in the first.
    """
    if match := _BLOCK.match(name):
        return int(match[1]) + 1
    return 0 if _FIRST.match(name) else n_blocks + 1


def layer_decay_groups(model: nn.Module, *, layer_decay: float = 1.0, weight_decay: float = 0.0) -> list[dict[str, Any]]:
    """Sort the trainable parameters of a model into groups for an optimiser of torch.

    Parameters
    ----------
    model : LabramForClassification | LabramForMaskedModeling | LabramTokenizer
        The model; parameters that do not require a gradient are left out.
    layer_decay : float
        Factor d in (0, 1] between the learning rates of neighbouring layers: d ** (L + 1 - i) for layer i of
        :func:`layer_index` (LaBraM, optim_factory.py, LayerDecayValueAssigner; 0.65 for base, Jiang et al. 2024,
        table 5). 1: all alike.
    weight_decay : float
        For matrices; biases, norms, gains and embeddings that are looked up get none.

    Returns
    -------
    groups : list of dict
        ``"params"``, ``"names"``, ``"lr_scale"`` (by which the learning rate is to be multiplied) and
        ``"weight_decay"``, from the first layer to the last.

    Raises
    ------
    ValueError
        If ``layer_decay`` does not lie in (0, 1] or ``weight_decay`` is negative.
    """
    if not 0.0 < layer_decay <= 1.0:
        raise ValueError(f"layer_decay must lie in (0, 1], got {layer_decay}.")
    if not weight_decay >= 0.0:
        raise ValueError(f"weight_decay must not be negative, got {weight_decay}.")
    n_blocks = len(model.encoder.blocks)
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for layer, name, parameter in sorted(
        ((layer_index(name, n_blocks), name, parameter) for name, parameter in model.named_parameters()),
        key=lambda row: row[:2],
    ):
        if not parameter.requires_grad:
            continue
        scale = layer_decay ** (n_blocks + 1 - layer)
        decay = 0.0 if parameter.ndim <= 1 or _LOOKED_UP.match(name) else weight_decay
        group = groups.setdefault(
            (scale, decay), {"params": [], "names": [], "lr_scale": scale, "weight_decay": decay}
        )
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


def layer_decay_patterns(
    model: nn.Module, lr: float, *, layer_decay: float = 0.65, weight_decay: float = 0.05
) -> list[tuple[str, dict[str, float]]]:
    """Write the groups as skorch's ``optimizer__param_groups``, for an ``EEGClassifier`` of one's own.

    Parameters
    ----------
    model : LabramForClassification | LabramForMaskedModeling | LabramTokenizer
        A model of the same depth as the one that will be trained.
    lr : float
        Learning rate of the head.
    layer_decay, weight_decay : float
        See :func:`layer_decay_groups`.

    Returns
    -------
    patterns : list of (str, dict)
        A parameter's name, and its ``lr`` and ``weight_decay``.

    Raises
    ------
    ValueError
        As :func:`layer_decay_groups`.
    """
    return [
        (name, {"lr": lr * group["lr_scale"], "weight_decay": group["weight_decay"]})
        for group in layer_decay_groups(model, layer_decay=layer_decay, weight_decay=weight_decay)
        for name in group["names"]
    ]
