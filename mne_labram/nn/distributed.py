"""Values that all processes of a distributed training must agree on."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["broadcast", "gather_rows", "rows_before", "several_processes", "sum_over_processes"]


def several_processes() -> bool:
    """Tell whether several processes train together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def sum_over_processes(*values: Tensor) -> None:
    """Add tensors up over processes, in place.

    Parameters
    ----------
    *values : Tensor
        Of the same shapes everywhere.
    """
    if several_processes():
        for value in values:
            dist.all_reduce(value)


def broadcast(*values: Tensor) -> None:
    """Replace tensors by those of process 0, in place.

    Parameters
    ----------
    *values : Tensor
        Of the same shapes everywhere.
    """
    if several_processes():
        for value in values:
            # Gloo knows no booleans.
            dist.broadcast(value.view(torch.uint8) if value.dtype == torch.bool else value, src=0)


def gather_rows(rows: Tensor) -> Tensor:
    """Collect the rows of all processes, of which each may have another number.

    Parameters
    ----------
    rows : Tensor, shape (n, ...)
        Rows of this process.

    Returns
    -------
    rows : Tensor, shape (n_total, ...)
        Rows of process 0, then of process 1, and so on; the same everywhere. With one process, ``rows`` itself.
    """
    if not several_processes():
        return rows
    sizes = _row_counts(len(rows), rows.device)
    padded = rows.new_zeros((max(sizes), *rows.shape[1:]))
    padded[: len(rows)] = rows
    gathered = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(gathered, padded)
    return torch.cat([part[:size] for part, size in zip(gathered, sizes, strict=True)])


def rows_before(n_rows: int, device: torch.device) -> tuple[int, int]:
    """Tell which rows of all processes' batch those of this process are.

    Parameters
    ----------
    n_rows : int
        Rows of this process.
    device : torch.device
        Where they are.

    Returns
    -------
    first, n_total : int
        Rows of the processes before this one, and of all.
    """
    if not several_processes():
        return 0, n_rows
    sizes = _row_counts(n_rows, device)
    return sum(sizes[: dist.get_rank()]), sum(sizes)


def _row_counts(n_rows: int, device: torch.device) -> list[int]:
    counts = torch.zeros(dist.get_world_size(), dtype=torch.long, device=device)
    counts[dist.get_rank()] = n_rows
    dist.all_reduce(counts)
    return counts.tolist()
