"""Pooling over channels of which only some may hold what is looked for."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["AttentionPooling"]


class AttentionPooling(nn.Module):
    """Weighted mean over one axis, with weights that each vector gives itself.

    Parameters
    ----------
    embed_dim : int
        Width of a vector.
    hidden_dim : int | None
        Width inside; ``None``: half of ``embed_dim``.

    Notes
    -----
    Ilse, Tomczak & Welling (2018), *Attention-based deep multiple instance learning*, equation 8:
    ``a = softmax(w . tanh(V h))``. A focal seizure is seen in a few channels only, and a plain mean would dilute it by
    all others. It starts as the plain mean.
    """

    def __init__(self, embed_dim: int, hidden_dim: int | None = None) -> None:
        super().__init__()
        self.hidden = nn.Linear(embed_dim, hidden_dim or max(1, embed_dim // 2))
        self.score = nn.Linear(self.hidden.out_features, 1, bias=False)
        nn.init.zeros_(self.score.weight)

    def weights(self, x: Tensor) -> Tensor:
        """Return the weights.

        Parameters
        ----------
        x : Tensor, shape (..., n, embed_dim)
            The vectors.

        Returns
        -------
        weights : Tensor, shape (..., n)
            They sum to 1.
        """
        return torch.softmax(self.score(torch.tanh(self.hidden(x))).squeeze(-1), dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        """Pool.

        Parameters
        ----------
        x : Tensor, shape (..., n, embed_dim)
            The vectors.

        Returns
        -------
        pooled : Tensor, shape (..., embed_dim)
            Their weighted mean.
        """
        return (self.weights(x).unsqueeze(-1) * x).sum(dim=-2)
