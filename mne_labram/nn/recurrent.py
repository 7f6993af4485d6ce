"""A long short-term memory that the compiler can look into, which torch's own module does not let it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["LongShortTermMemory"]


class LongShortTermMemory(nn.Module):
    """Layers of LSTM in one direction, with the names, the initial weights and the results of ``torch.nn.LSTM``.

    Parameters
    ----------
    input_dim : int
        Width of the input.
    dim : int
        Width of the output, and of every state.
    num_layers : int
        Layers.
    drop_prob : float
        Dropout between layers.

    Notes
    -----
    Hochreiter & Schmidhuber 1997, Neural Comput 9:1735-1780, with forget gates (Gers et al. 2000, Neural Comput
    12:2451-2471).
    """

    def __init__(self, input_dim: int, dim: int, num_layers: int = 1, drop_prob: float = 0.0) -> None:
        super().__init__()
        self.dim, self.num_layers, self.drop_prob = dim, num_layers, drop_prob
        bound = 1.0 / math.sqrt(dim)
        self.names = []
        for layer in range(num_layers):
            shapes = {
                f"weight_ih_l{layer}": (4 * dim, dim if layer else input_dim),
                f"weight_hh_l{layer}": (4 * dim, dim),
                f"bias_ih_l{layer}": (4 * dim,),
                f"bias_hh_l{layer}": (4 * dim,),
            }
            for name, shape in shapes.items():
                self.register_parameter(name, nn.Parameter(torch.empty(shape).uniform_(-bound, bound)))
            self.names += shapes

    def forward(self, x: Tensor) -> Tensor:
        """Go through time.

        Parameters
        ----------
        x : Tensor, shape (batch, n_times, input_dim)
            Input.

        Returns
        -------
        h : Tensor, shape (batch, n_times, dim)
            Output of the last layer, within (-1, 1).
        """
        if x.is_meta:
            # torch would go through all of time to find the shape.
            return x.new_empty(*x.shape[:2], self.dim)
        start = x.new_zeros(self.num_layers, x.shape[0], self.dim)
        weights = [getattr(self, name) for name in self.names]
        # Biases, layers, dropout, training, both directions, batch first.
        return torch.lstm(
            x, (start, start), weights, True, self.num_layers, self.drop_prob, self.training, False, True
        )[0]
