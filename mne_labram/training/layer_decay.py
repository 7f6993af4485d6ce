"""The learning rate of each layer as skorch writes it."""

from __future__ import annotations

from torch import nn

from mne_labram.training.optimization import parameter_groups

__all__ = ["layer_decay_patterns"]


def layer_decay_patterns(
    model: nn.Module, lr: float, *, layer_decay: float = 0.65, weight_decay: float = 0.05
) -> list[tuple[str, dict[str, float]]]:
    """Write layer-wise learning rates as skorch's ``optimizer__param_groups``, for an ``EEGClassifier`` of one's own.

    Parameters
    ----------
    model : LabramForClassification | LabramForMaskedModeling | LabramTokenizer
        A model of the same depth as the one that will be trained.
    lr : float
        Learning rate of the head.
    layer_decay : float
        Ratio of the learning rates of neighbouring layers (Jiang et al. 2024, table 5: 0.65 for base, 0.8 for large and
        huge).
    weight_decay : float
        Of matrices; vectors and embeddings have none.

    Returns
    -------
    patterns : list of (str, dict)
        A parameter's name, and its ``lr`` and ``weight_decay``; see
        :func:`mne_labram.training.optimization.parameter_groups`.

    Raises
    ------
    ValueError
        If ``layer_decay`` does not lie in (0, 1] or ``weight_decay`` is negative.
    """
    return [
        (name, {"lr": lr * group["lr_scale"], "weight_decay": group["weight_decay"]})
        for group in parameter_groups(model, layer_decay=layer_decay, weight_decay=weight_decay)
        for name in group["names"]
    ]
