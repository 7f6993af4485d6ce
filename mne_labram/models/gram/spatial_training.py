"""The spatial filter of a restoration model trained by itself, in large batches, and averaged over its steps."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from mne_labram.models.gram.restoration import GramForRestoration
from mne_labram.models.gram.spatial_filter import SpatialFilter
from mne_labram.models.labram.inputs import batch_artefact, batch_signal

__all__ = ["SpatialFilterTraining"]

# The average begins as the mean of few steps: 1 / 10 of each, then less.
_FIRST = 10.0


class SpatialFilterTraining(nn.Module):
    """What trains the spatial filter of a :class:`GramForRestoration`, and nothing else of it.

    Parameters
    ----------
    model : GramForRestoration
        Has a spatial filter, which becomes the average of the one that is trained.
    decay : float
        Share of the average that stays in it at every step.
    n_draws : int
        Masks of each window, see :meth:`~mne_labram.models.gram.spatial_filter.SpatialFilter.training_loss`.
    fresh : bool
        Begin with fresh weights instead of those of the model's filter.

    Attributes
    ----------
    exported : GramForRestoration
        The model: what weights are written of.
    objective : dict
        The arguments above, as plain values.

    Raises
    ------
    ValueError
        If the model has no spatial filter, ``decay`` is outside 0 to 1, or ``n_draws`` is below 1.

    Notes
    -----
    Ours. A filter needs many windows of many heads in each step, and costs little; the transformer beside it, which
    is fed few at a time, costs a hundred times as much. Its parameters are averaged as they move (Polyak & Juditsky
    1992, SIAM J Control Optim 30:838-855; with exponential weights, as Tarvainen & Valpola 2017, arXiv:1703.01780):
    where subjects are few, the average is better than the last step.
    """

    n_steps: Tensor

    def __init__(
        self, model: GramForRestoration, *, decay: float = 0.998, n_draws: int = 1, fresh: bool = False
    ) -> None:
        super().__init__()
        if model.spatial_filter is None:
            raise ValueError(
                f"This {type(model).__name__} has no spatial filter to train; start with one that was built with "
                "spatial_filter={}."
            )
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay must lie in [0, 1), got {decay}.")
        if n_draws < 1:
            raise ValueError(f"n_draws must be at least 1, got {n_draws}.")
        if fresh:
            doubt = model.spatial_filter.doubt
            model.spatial_filter = SpatialFilter(**model.spatial_filter.arguments).to(doubt)
            # Not trained here: how much is kept of channels with artefacts.
            model.spatial_filter.doubt.copy_(doubt)
        self.model = model.requires_grad_(False)
        self.learner = deepcopy(model.spatial_filter).requires_grad_(True)
        self.decay, self.n_draws = float(decay), int(n_draws)
        self.register_buffer("n_steps", torch.zeros((), dtype=torch.long))
        self.objective = {"decay": self.decay, "n_draws": self.n_draws, "fresh": bool(fresh)}

    @property
    def exported(self) -> GramForRestoration:
        """The model."""
        return self.model

    def training_step(self, batch: Any) -> dict[str, Tensor]:
        """Compute what the filter misses in a batch; in training mode, move the average to where the last step went.

        Parameters
        ----------
        batch : Tensor | sequence | mapping
            As :meth:`GramForRestoration.training_step`.

        Returns
        -------
        losses : dict of str to Tensor
            ``"loss"``: squared errors by squared signal in what is hidden; of the average in evaluation mode.

        Raises
        ------
        ValueError
            If the batch does not fit the model.
        """
        x, ch_names, positions = batch_signal(batch)
        model = self.model if ch_names is None else self.model.bind_channels(ch_names, positions=positions)
        x = model._checked(x)
        if self.training:
            self._average()
        spatial_filter = self.learner if self.training else self.model.spatial_filter
        loss = model.restoration_loss(
            x, artefact=batch_artefact(batch, x), spatial_filter=spatial_filter, n_draws=self.n_draws
        )
        return {"loss": loss}

    @torch.no_grad()
    def _average(self) -> None:
        """Move the average towards what is trained, as the last step has left it."""
        self.n_steps += 1
        stays = min(self.decay, float(self.n_steps) / (float(self.n_steps) + _FIRST))
        for mean, value in zip(self.model.spatial_filter.parameters(), self.learner.parameters(), strict=True):
            mean.lerp_(value, 1.0 - stays)
