"""Layers whose weights have a direction and a length of their own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["WeightNormConv2d", "WeightNormLinear", "normalized_weight"]


def normalized_weight(direction: Tensor, gain: Tensor) -> Tensor:
    """Give every output's weights the length ``gain``.

    Parameters
    ----------
    direction : Tensor, shape (n_outputs, ...)
        Any weights.
    gain : Tensor, shape (n_outputs,)
        Lengths.

    Returns
    -------
    weight : Tensor, shape of ``direction``
        ``gain * direction / |direction|`` (Salimans and Kingma 2016, arXiv:1602.07868, equation 2).
    """
    flat = direction.flatten(1)
    return (flat * (gain / flat.norm(dim=1)).unsqueeze(1)).view_as(direction)


class WeightNormLinear(nn.Linear):
    """A linear layer; :func:`torch.nn.utils.parametrizations.weight_norm` makes layers that cannot be pickled.

    Parameters
    ----------
    *args, **kwargs
        Of :class:`torch.nn.Linear`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gain = nn.Parameter(self.weight.detach().flatten(1).norm(dim=1))

    def normalized(self) -> Tensor:
        """Return the weights that are multiplied with, shape (out_features, in_features)."""
        return normalized_weight(self.weight, self.gain)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply and add."""
        return torch.nn.functional.linear(x, self.normalized(), self.bias)


class WeightNormConv2d(nn.Conv2d):
    """A convolution over two dimensions, likewise.

    Parameters
    ----------
    *args, **kwargs
        Of :class:`torch.nn.Conv2d`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gain = nn.Parameter(self.weight.detach().flatten(1).norm(dim=1))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        return self._conv_forward(x, normalized_weight(self.weight, self.gain), self.bias)
