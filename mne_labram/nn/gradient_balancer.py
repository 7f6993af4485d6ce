"""Losses of any magnitude, each with the say that its weight gives it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mne_labram.nn.distributed import sum_over_processes

__all__ = ["GradientBalancer"]


class GradientBalancer(nn.Module):
    """Mix the gradients of several losses by weight, not by magnitude.

    Parameters
    ----------
    weights : mapping of str to float
        Share of each loss, not negative; divided by their sum.
    total_norm : float
        Norm of the mixed gradient of an item, were all gradients of one direction.
    decay : float
        Of the moving averages of norms.
    per_item : bool
        Average the norms of the items of a batch, so that a single one of large gradient counts once. Otherwise, take
        the root of their mean square, which is the norm of the whole batch's gradient.

    Attributes
    ----------
    totals, terms : Tensor, shape (n_losses,)
        Decaying sums of norms, and of ones.

    Raises
    ------
    ValueError
        If a weight is negative or none is positive, or ``decay`` does not lie in [0, 1).

    Notes
    -----
    The balancer of EnCodec (Défossez et al. 2022, arXiv:2210.13438, equation 4; balancer.py), with its decay of 0.999:
    the gradient ``g_i`` of loss ``i`` with respect to the output becomes ``w_i / sum(w) * total_norm * g_i / n_i``,
    where ``n_i`` is a moving average of its norm. Only the scale differs: losses are means over a batch, and the mixed
    gradient here is that of a mean over a batch again (there of a sum), so that parts of a batch may be added up by
    share. Averages are over the items of all processes.
    """

    totals: Tensor
    terms: Tensor

    def __init__(
        self,
        weights: Mapping[str, float],
        *,
        total_norm: float = 1.0,
        decay: float = 0.999,
        per_item: bool = True,
    ) -> None:
        super().__init__()
        if not weights or any(not math.isfinite(w) or w < 0 for w in weights.values()) or not sum(weights.values()):
            raise ValueError(f"Weights must not be negative and at least one must be positive, got {dict(weights)}.")
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay must lie in [0, 1), got {decay}.")
        self.weights = {name: float(weight) for name, weight in weights.items()}
        self.total_norm, self.decay, self.per_item = total_norm, decay, per_item
        self.register_buffer("totals", torch.zeros(len(self.weights)))
        self.register_buffer("terms", torch.zeros(len(self.weights)))

    def forward(self, losses: Mapping[str, Tensor], output: Tensor) -> Tensor:
        """Mix gradients; in training mode, update the averages of their norms.

        Parameters
        ----------
        losses : mapping of str to Tensor
            Means over the batch, computed from ``output``; those of weight 0 are passed over.
        output : Tensor, shape (batch, ...)
            Where gradients are taken; must require them. Graphs of the losses are kept.

        Returns
        -------
        gradient : Tensor, shape of ``output``
            To be propagated further, as by ``(output_of_the_model * gradient).sum()``.

        Raises
        ------
        ValueError
            If a loss has no weight, or none has one above 0.
        """
        if unknown := sorted(set(losses) - set(self.weights)):
            raise ValueError(f"No weight was given for {', '.join(unknown)}; weights are {self.weights}.")
        used = [i for i, name in enumerate(self.weights) if name in losses and self.weights[name]]
        if not used:
            raise ValueError(f"None of the losses has a weight above 0: {', '.join(losses)}.")
        names = list(self.weights)
        n_items = len(output)
        gradients = [
            torch.autograd.grad(losses[names[i]], output, retain_graph=True)[0] * max(1, n_items) for i in used
        ]
        if self.training:
            self._follow(used, gradients, n_items)
        share_of_all = sum(self.weights[names[i]] for i in used)
        mixed = torch.zeros_like(output)
        for i, gradient in zip(used, gradients, strict=True):
            norm = self.totals[i] / self.terms[i].clamp_min(torch.finfo(torch.float32).tiny)
            share = self.weights[names[i]] / share_of_all
            mixed = mixed + gradient * (self.total_norm * share / norm.clamp_min(1e-12)).to(gradient)
        return mixed / max(1, n_items)

    @torch.no_grad()
    def _follow(self, used: list[int], gradients: list[Tensor], n_items: int) -> None:
        """Update the averages by this batch."""
        lengths = torch.stack([gradient.float().flatten(1).norm(dim=1) for gradient in gradients])
        sums = (lengths if self.per_item else lengths.square()).sum(dim=1)
        count = sums.new_tensor(float(n_items))
        sum_over_processes(sums, count)
        norms = sums / count.clamp_min(1.0)
        norms = norms if self.per_item else norms.sqrt()
        index = torch.tensor(used, device=self.totals.device)
        self.totals[index] = self.decay * self.totals[index] + norms
        self.terms[index] = self.decay * self.terms[index] + 1.0

    def shares(self) -> dict[str, float]:
        """Return the weights, divided by their sum.

        Returns
        -------
        shares : dict of str to float
            By name of the loss.
        """
        total = sum(self.weights.values())
        return {name: weight / total for name, weight in self.weights.items()}

    def extra_repr(self) -> str:
        """Show the shares."""
        return ", ".join(f"{name}={share:.3g}" for name, share in self.shares().items())
