"""Features brought to mean 0 and deviation 1 by what has been seen of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mne_labram.nn.distributed import sum_over_processes

__all__ = ["RunningStandardization"]

# Batches over which statistics are averaged in the end; until then, over all there were.
_MEMORY = 1000
# Deviations are taken to be at least this, so that a feature that never changes does not become noise.
_SMALLEST_DEVIATION = 1e-3


class RunningStandardization(nn.Module):
    """Subtract the mean of each feature and divide by its standard deviation.

    Parameters
    ----------
    n_features : int
        Size of the last dimension.

    Attributes
    ----------
    mean, variance : Tensor, shape (n_features,)
        Averages over the batches of training so far.
    n_batches : Tensor of int64, shape ()
        How many there were.

    Notes
    -----
    Unlike batch normalisation (Ioffe & Szegedy 2015, arXiv:1502.03167), what is divided by is the average over all
    batches in training too, the present one included, so that a window is treated in training as it is afterwards,
    whatever else is in its batch, and a batch may be a single window. Under torch.distributed, statistics are those of
    the batches of all processes together.
    """

    mean: Tensor
    variance: Tensor
    n_batches: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("variance", torch.ones(n_features))
        self.register_buffer("n_batches", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def _update(self, x: Tensor) -> None:
        rows = x.detach().float().flatten(0, -2)
        count = torch.full((1,), float(len(rows)), device=x.device)
        total, squares = rows.sum(dim=0), rows.square().sum(dim=0)
        sum_over_processes(count, total, squares)
        if not float(count):
            return
        mean = total / count
        within = (squares / count - mean.square()).clamp_min(0.0)
        self.n_batches += 1
        # The first batch replaces what was there.
        share = 1.0 / self.n_batches.clamp_max(_MEMORY)
        difference = mean - self.mean
        self.mean += share * difference
        # Features vary within batches, and batches differ from one another.
        self.variance.lerp_(within + (1.0 - share) * difference.square(), share)

    def forward(self, x: Tensor) -> Tensor:
        """Standardise; in training mode, take the batch into account first.

        Parameters
        ----------
        x : Tensor, shape (..., n_features)
            Features.

        Returns
        -------
        standardized : Tensor, shape of ``x``
            In the number format of ``x``.
        """
        if self.training:
            self._update(x)
        deviation = self.variance.sqrt().clamp_min(_SMALLEST_DEVIATION)
        return ((x - self.mean) / deviation).to(x.dtype)
