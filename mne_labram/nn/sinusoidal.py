"""Embeddings that are computed, not learned: sines and cosines of a number."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mne_labram.nn.spatial import NameEmbedding

__all__ = ["FixedNameEmbedding", "sinusoidal_table"]


def sinusoidal_table(n_rows: int, embed_dim: int, base: float = 10000.0) -> Tensor:
    """Compute the embedding of the numbers 0, 1, ...

    Parameters
    ----------
    n_rows, embed_dim : int
        Shape of the table.
    base : float
        The wavelengths grow from ``2 pi`` to almost ``2 pi base``.

    Returns
    -------
    table : Tensor of float32, shape (n_rows, embed_dim)
        Column ``2 i`` is ``sin(row / base ** (2 i / embed_dim))``, the one after it the cosine of the same.

    Notes
    -----
    Vaswani et al. (2017), arXiv:1706.03762, section 3.5.
    """
    # On the CPU whatever the default device is, and in float64: angles of a hundred turns are rounded otherwise.
    rows = torch.arange(n_rows, dtype=torch.float64, device="cpu")
    exponents = torch.arange(0, embed_dim, 2, dtype=torch.float64, device="cpu") / embed_dim
    angles = torch.outer(rows, float(base) ** -exponents)
    table = torch.stack((angles.sin(), angles.cos()), dim=2).flatten(1)[:, :embed_dim]
    return table.float().to(torch.get_default_device())


class FixedNameEmbedding(NameEmbedding):
    """A computed row per channel name.

    Parameters
    ----------
    embed_dim : int
        Width of a token.
    rows : sequence of int
        Row of each channel, 1 to ``n_rows``.
    n_rows : int
        Number of names that have a row.
    base : float
        See :func:`sinusoidal_table`.

    Notes
    -----
    Row 0, of the CLS token, is zero: it is at no place. The table is no part of a checkpoint.
    """

    def __init__(self, embed_dim: int, rows: Sequence[int], n_rows: int, *, base: float = 10000.0) -> None:
        super().__init__(embed_dim, rows, n_rows)
        del self.table
        table = sinusoidal_table(n_rows, embed_dim, base)
        table = torch.cat((torch.zeros_like(table[:1]), table)).unsqueeze(0)
        self.register_buffer("table", table, persistent=False)
