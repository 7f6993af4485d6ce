"""The learning rate over a training run."""

from __future__ import annotations

from typing import Any

from skorch.callbacks import Callback

from mne_labram.training.optimization import cosine_learning_rate

__all__ = ["WarmupCosine"]


class WarmupCosine(Callback):
    """Let every group's learning rate rise linearly, then fall along a cosine; a callback of skorch.

    Parameters
    ----------
    warmup : float
        Part of ``max_epochs`` in which it rises (Jiang et al. 2024, table 5: 5 of 50).
    """

    def __init__(self, warmup: float = 0.1) -> None:
        self.warmup = warmup

    def factor(self, epoch: int, n_epochs: int) -> float:
        """Return what the learning rate is multiplied by.

        Parameters
        ----------
        epoch : int
            From 0.
        n_epochs : int
            How many there are at most.

        Returns
        -------
        factor : float
            In (0, 1].
        """
        return cosine_learning_rate(epoch, total=n_epochs, warmup=round(self.warmup * n_epochs))

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Note the peak rates."""
        self.peaks_ = [group["lr"] for group in net.optimizer_.param_groups]
        self.epoch_ = 0

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        """Set the rates of this pass."""
        factor = self.factor(self.epoch_, net.max_epochs)
        for group, peak in zip(net.optimizer_.param_groups, self.peaks_, strict=True):
            group["lr"] = peak * factor
        self.epoch_ += 1

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Give the peak rates back, so that another call of partial_fit begins as this one did."""
        for group, peak in zip(net.optimizer_.param_groups, self.peaks_, strict=True):
            group["lr"] = peak
