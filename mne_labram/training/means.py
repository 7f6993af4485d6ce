"""Averages of what steps return, over steps and processes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mne_labram.nn.distributed import sum_over_processes

__all__ = ["Means", "Pending", "scalars"]


def scalars(values: Mapping[str, Any]) -> dict[str, Tensor]:
    """Take the numbers of what a training step returned.

    Parameters
    ----------
    values : mapping
        Tensors, numbers and other things by name.

    Returns
    -------
    scalars : dict of str to Tensor
        Those that are one number, without gradient.
    """
    out = {}
    for name, value in values.items():
        if isinstance(value, Tensor) and value.ndim == 0:
            out[name] = value.detach().double() if value.device.type != "mps" else value.detach().float()
        elif isinstance(value, int | float) and not isinstance(value, bool):
            out[name] = torch.tensor(float(value), dtype=torch.float64)
    return out


class Pending:
    """Sums that are still on the device, so that a step need not wait for it."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, float] = {}

    def add(self, values: Mapping[str, Tensor], share: float, count: float) -> None:
        """Add this process's share of the numbers of a batch, which counts as so much of a step."""
        for name, value in values.items():
            term = value * (share * count)
            self._sums[name] = self._sums[name] + term.to(self._sums[name].device) if name in self._sums else term
            self._counts[name] = self._counts.get(name, 0.0) + count

    def drain(self, device: torch.device) -> dict[str, tuple[float, float]]:
        """Return sum over processes and count by name, and begin anew; all processes must call it together."""
        names = sorted(self._sums)
        if not names:
            return {}
        wide = torch.float32 if device.type == "mps" else torch.float64
        sums = torch.stack([self._sums[name].to(device, wide) for name in names])
        sum_over_processes(sums)
        out = {name: (value, self._counts[name]) for name, value in zip(names, sums.tolist(), strict=True)}
        self._sums, self._counts = {}, {}
        return out


class Means:
    """Sums and counts by name, as plain numbers that can be kept in a checkpoint."""

    def __init__(self, kept: Mapping[str, tuple[float, float]] | None = None) -> None:
        self.kept = {name: (float(total), float(count)) for name, (total, count) in (kept or {}).items()}

    def add(self, sums: Mapping[str, tuple[float, float]]) -> None:
        """Add sums with their counts."""
        for name, (total, count) in sums.items():
            before = self.kept.get(name, (0.0, 0.0))
            self.kept[name] = before[0] + total, before[1] + count

    def values(self) -> dict[str, float]:
        """Return the averages."""
        return {name: total / count if count else math.nan for name, (total, count) in self.kept.items()}
