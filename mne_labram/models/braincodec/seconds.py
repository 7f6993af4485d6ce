"""A class for every second: names and weights of classes, probabilities, the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mne_labram.models.inputs import SignalMixin
from mne_labram.models.labram.inputs import batch_signal
from mne_labram.models.neurostorm import UNKNOWN, UNKNOWN_TYPE

__all__ = ["SecondsMixin"]


class SecondsMixin(SignalMixin):
    """What a model that classifies every second has beside ``second_logits``; used beside Braindecode's mixin."""

    class_names: list[str] | None

    def _settle_classes(
        self, n_outputs: int, class_names: Sequence[str] | None, class_weights: Sequence[float] | None
    ) -> None:
        """Check names and weights of classes."""
        if n_outputs < 1:
            raise ValueError(f"n_outputs must be at least 1, got {n_outputs}.")
        n_classes = max(2, n_outputs)
        for name, given in (("class_names", class_names), ("class_weights", class_weights)):
            if given is not None and len(given) != n_classes:
                raise ValueError(f"{name} must be of {n_classes} classes for n_outputs={n_outputs}, got {len(given)}.")
        self.class_names = ["bckg", "sz"] if n_classes == 2 else None
        if class_names is not None:
            self.class_names = list(class_names)
        self.class_weights = class_weights

    def _readable(self, ch_names: Sequence[str]) -> list[int]:
        """Say which channels can be read: all, unless the model says otherwise."""
        return list(range(len(ch_names)))

    @property
    def class_weights(self) -> list[float] | None:
        """Weights of the classes in the loss; may be given to a model that exists."""
        return self._class_weights

    @class_weights.setter
    def class_weights(self, weights: Sequence[float] | None) -> None:
        if weights is not None and not all(0.0 < weight < float("inf") for weight in weights):
            raise ValueError(f"class_weights must be positive, got {list(weights)}.")
        self._class_weights = None if weights is None else [float(weight) for weight in weights]
        self._record(class_weights=self._class_weights)

    @property
    def detection(self) -> dict[str, Any] | None:
        """How probabilities become events; may be given to a model that exists, and goes with it into a checkpoint."""
        return self._detection

    @detection.setter
    def detection(self, detection: Mapping[str, Any] | None) -> None:
        self._detection = None if detection is None else dict(detection)
        self._record(detection=self._detection)

    def second_probabilities(self, x: Tensor) -> Tensor:
        """Return the probability of each class in every second of windows.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts, whole seconds.

        Returns
        -------
        probabilities : Tensor, shape (batch, n_seconds, n_classes)
            They sum to 1; the first is that of the background, the second that of a seizure if there are two.

        Raises
        ------
        ValueError
            As :meth:`forward`.
        """
        return torch.exp(_log_probabilities(self.second_logits(x)))

    def training_step(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Compute the loss of a batch.

        Parameters
        ----------
        batch : mapping
            ``"x"``, shape (batch, n_chans, n_times) in microvolts; ``"y"``, shape (batch, n_seconds), the class of
            every second, -1 where it is not known, -2 for a seizure of unknown type; and, if the batch has other
            channels than the model, ``"ch_names"``. Of these, a convolution over channels reads those that it knows.

        Returns
        -------
        losses : dict of str to Tensor
            ``"loss"``, the cross-entropy, averaged with ``class_weights`` over the seconds of which something is known;
            and, without gradient, ``"sensitivity"`` and ``"specificity"``, the shares of seizure and background seconds
            that are taken for what they are; 0 where the batch has none.

        Raises
        ------
        ValueError
            If the batch does not fit the model, or no class is known.
        """
        x, ch_names, _ = batch_signal(batch)
        model = self
        if ch_names is not None:
            kept = self._readable(ch_names)
            model, x = self.bind_channels([ch_names[i] for i in kept]), x[:, kept] if len(kept) < x.shape[1] else x
        y = batch["y"].to(x.device)
        logits = model.second_logits(x)
        if y.shape != logits.shape[:2]:
            raise ValueError(
                f"Classes have the shape {tuple(y.shape)}; one for each second is {tuple(logits.shape[:2])}."
            )
        known = y != UNKNOWN
        if not bool(known.any()):
            raise ValueError("The batch says of no second what it is.")
        logarithms = _log_probabilities(logits)
        any_type = torch.logsumexp(logarithms[..., 1:], dim=-1)
        own = logarithms.gather(-1, y.clamp_min(0).unsqueeze(-1)).squeeze(-1)
        seizure, background = (y > 0) | (y == UNKNOWN_TYPE), y == 0
        weights = torch.ones_like(own)
        if self.class_weights is not None:
            by_class = own.new_tensor(self.class_weights)
            weights = torch.where(y == UNKNOWN_TYPE, by_class[1:].mean(), by_class[y.clamp_min(0)])
        errors = -torch.where(y == UNKNOWN_TYPE, any_type, own) * weights
        found = logarithms.detach().argmax(dim=-1) > 0
        return {
            "loss": errors[known].sum() / weights[known].sum(),
            "sensitivity": (found & seizure).sum() / seizure.sum().clamp_min(1),
            "specificity": (~found & background).sum() / background.sum().clamp_min(1),
        }


def _log_probabilities(logits: Tensor) -> Tensor:
    """Turn logits into logarithms of the probabilities of two classes or more."""
    logits = logits.float()
    if logits.shape[-1] == 1:
        return torch.cat((F.logsigmoid(-logits), F.logsigmoid(logits)), dim=-1)
    return F.log_softmax(logits, dim=-1)
