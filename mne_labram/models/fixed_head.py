"""One head that a model is for, electrodes and sources: given, kept with the weights, and compared with others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from mne_labram.signal.contract import ContractError
from mne_labram.signal.interpret import interpret_labels

__all__ = ["FixedHeadMixin", "canonical_names"]

# Leadfields that differ by more than this share are of other heads; MNE's files hold single precision.
_ALIKE = 1e-3
_OTHERWISE = "image with the head that it was trained for, or train it for this one"


class FixedHeadMixin:
    """A model whose weights know one head; a plain class, see :class:`mne_labram.models.inputs.SignalMixin`.

    It has a buffer ``leadfield`` of the shape (n_chans, n_sources) in µV per nAm, zeros where it is not known.
    """

    leadfield: Tensor
    ch_names: list[str]
    n_sources: int

    @property
    def has_scale(self) -> bool:
        """Whether a leadfield was given, so that sources are in nAm."""
        return bool((self.leadfield != 0).any())

    def set_leadfield(self, leadfield: np.ndarray | Tensor) -> Self:
        """Give the head's leadfield, from which the scale of the sources follows; it goes into checkpoints.

        Parameters
        ----------
        leadfield : array-like, shape (n_chans, n_sources)
            µV per nAm, in any reference.

        Returns
        -------
        self : torch.nn.Module
            This model.

        Raises
        ------
        ValueError
            If its shape is another, or it is not finite, or zero everywhere.
        """
        if not isinstance(leadfield, Tensor):
            # A copy: arrays of a head cannot be written to.
            leadfield = torch.from_numpy(np.array(leadfield, dtype=float))
        matrix = leadfield.to(self.leadfield)
        if matrix.shape != self.leadfield.shape or not bool(torch.isfinite(matrix).all()) or not bool(matrix.any()):
            raise ValueError(
                f"The leadfield must have the shape {tuple(self.leadfield.shape)} and finite values that are not all "
                f"zero, got {tuple(matrix.shape)}."
            )
        self.leadfield.copy_(matrix)
        return self

    def check_head(self, leadfield: np.ndarray, ch_names: Sequence[str]) -> None:
        """Refuse a head that the weights are not for.

        Parameters
        ----------
        leadfield : ndarray, shape (n_chans, n_sources)
            µV per nAm, in any reference.
        ch_names : sequence of str
            Channels.

        Raises
        ------
        ContractError
            If channels, their order, the number of sources, or the leadfield differ.
        """
        self.bind_channels(ch_names)
        if np.shape(leadfield) != tuple(self.leadfield.shape):
            raise ContractError(
                f"This {type(self).__name__} is for {self.n_sources} sources and the head has "
                f"{np.shape(leadfield)[-1]}; {_OTHERWISE}."
            )
        if self.has_scale:
            own, other = (each - each.mean(axis=0) for each in (self.leadfield.cpu().numpy(), np.asarray(leadfield)))
            if np.linalg.norm(own - other) > _ALIKE * np.linalg.norm(own):
                raise ContractError(
                    f"This {type(self).__name__} was trained with another leadfield than the head has; {_OTHERWISE}."
                )

    def bind_channels(self, ch_names: Sequence[str], positions: Any = None) -> Self:
        """Return this model for its own channels, and refuse others: what electrodes see is in the weights.

        Parameters
        ----------
        ch_names : sequence of str
            Channels of the input.
        positions : array-like | None
            Not used.

        Returns
        -------
        model : torch.nn.Module
            This one.

        Raises
        ------
        ContractError
            If the channels, or their order, are others.
        """
        names = canonical_names(list(ch_names), None, type(self).__name__)
        if names != self.ch_names:
            raise ContractError(
                f"This {type(self).__name__} is for {len(self.ch_names)} channels ({_some(self.ch_names)}) in their "
                f"order, and got {len(names)} ({_some(names)}); {_OTHERWISE}."
            )
        return self

    def _scale(self, sources: Tensor, x: Tensor, visible: Tensor) -> Tensor:
        """Find what to multiply sources with to explain windows best, (batch,); 1 without a leadfield."""
        gain = self.leadfield.unsqueeze(0)
        mean = (gain * visible.unsqueeze(2)).sum(dim=1, keepdim=True) / visible.sum(dim=1).clamp_min(1.0)[:, None, None]
        shown = ((gain - mean) * visible.unsqueeze(2)) @ (sources - sources.mean(dim=2, keepdim=True))
        power = shown.square().sum(dim=(1, 2))
        scale = (shown * x).sum(dim=(1, 2)) / power.clamp_min(torch.finfo(power.dtype).tiny)
        # Chosen without asking for the values, so that the whole is one graph.
        return torch.where((self.leadfield != 0).any(), scale, torch.ones_like(scale))


def canonical_names(ch_names: Sequence[str] | None, chs_info: Any, model: str) -> list[str]:
    """Return names as all our models have them, and those that are no electrode's as they are.

    Parameters
    ----------
    ch_names : sequence of str | None
        Labels of channels.
    chs_info : list of dict | None
        ``info["chs"]``: the names if there are none.
    model : str
        Name for error messages.

    Returns
    -------
    names : list of str
        One for each channel.

    Raises
    ------
    TypeError
        If ``ch_names`` is one string.
    ValueError
        If there are no names, or one of them twice.
    """
    if isinstance(ch_names, str):
        raise TypeError("ch_names must be a sequence of channel names, got one string.")
    if ch_names is None and chs_info is None:
        raise ValueError(f"{model} must know its channels: pass ch_names=[...] or chs_info=info['chs'].")
    labels = [str(ch["ch_name"]) for ch in chs_info] if ch_names is None else [str(name) for name in ch_names]
    if not labels:
        raise ValueError(f"{model} needs at least one channel.")
    if chs_info is not None and len(chs_info) != len(labels):
        raise ValueError(f"There are {len(labels)} channel names, but chs_info is of {len(chs_info)} channels.")
    names = [
        each.name if each.kind == "electrode" else label
        for label, each in zip(labels, interpret_labels(labels)[1], strict=True)
    ]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} occurs more than once among the channels; keep one of each.")
    return names


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
