"""Better codes for the same codebooks: beam search through the stages of a residual quantiser."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["search_codes"]

# Distances held in memory at once: 4 MiB of float32, which stay in the cache of a processor.
_MAX_DISTANCES = 2**20


@torch.no_grad()
def search_codes(latents: Tensor, tables: Tensor, greedy: Tensor, *, n_candidates: int) -> Tensor:
    """Find codes whose sum is nearer to the latents than what one stage after the other finds.

    Parameters
    ----------
    latents : Tensor, shape (n, dim)
        What is to be coded.
    tables : Tensor, shape (n_stages, n_codes, dim)
        What each code of each stage adds.
    greedy : Tensor of int64, shape (n, n_stages)
        Codes found stage by stage; kept wherever nothing better is found.
    n_candidates : int
        Partial sums kept from stage to stage.

    Returns
    -------
    codes : Tensor of int64, shape (n, n_stages)
        Squared error of the sum, row by row, at most that of ``greedy``.

    Notes
    -----
    The M-L search of tree-structured and multi-stage vector quantisation (Gersho and Gray, Vector Quantization and
    Signal Compression, 1992, chapter 12): of all extensions of ``n_candidates`` partial sums by one more code, as many
    of the smallest squared error are kept.
    """
    step = max(1, _MAX_DISTANCES // (n_candidates * tables.shape[1]))
    pieces = zip(latents.split(step), greedy.split(step), strict=True)
    found = [_search(piece, tables, codes, n_candidates) for piece, codes in pieces]
    return torch.cat(found) if found else greedy


def _search(latents: Tensor, tables: Tensor, greedy: Tensor, n_candidates: int) -> Tensor:
    n, n_codes = len(latents), tables.shape[1]
    residual = latents.unsqueeze(1)
    codes = greedy.new_empty(n, 1, 0)
    for table in tables:
        # -|r - c|^2 / 2 = r.c - |c|^2 / 2 - |r|^2 / 2
        rows = residual.flatten(0, 1)
        nearness = torch.addmm(-0.5 * table.square().sum(dim=1), rows, table.T)
        nearness = nearness.sub_(0.5 * rows.square().sum(dim=1, keepdim=True)).view(n, residual.shape[1] * n_codes)
        best = nearness.topk(min(n_candidates, nearness.shape[1]), dim=1).indices
        parent, code = best // n_codes, best % n_codes
        residual = residual.gather(1, parent.unsqueeze(-1).expand(-1, -1, residual.shape[-1]))
        residual = residual - F.embedding(code, table)
        codes = codes.gather(1, parent.unsqueeze(-1).expand(-1, -1, codes.shape[-1]))
        codes = torch.cat([codes, code.unsqueeze(-1)], dim=2)
    winner = residual.square().sum(-1).argmin(dim=1)
    codes = codes[torch.arange(n, device=codes.device), winner]
    better = _squared_error(latents, tables, codes) < _squared_error(latents, tables, greedy)
    return torch.where(better.unsqueeze(1), codes, greedy)


def _squared_error(latents: Tensor, tables: Tensor, codes: Tensor) -> Tensor:
    """Compute the squared error, shape (n,), of the sum as :meth:`lookup` makes it."""
    wide = torch.float32 if latents.device.type == "mps" else torch.float64
    total = sum(F.embedding(codes[:, i], table) for i, table in enumerate(tables))
    return (latents.to(wide) - total.to(wide)).square().sum(dim=1)
