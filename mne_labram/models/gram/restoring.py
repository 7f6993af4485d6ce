"""Codes of hidden patches, and the signal that they stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mne_labram.models.gram.masks import check_mask
from mne_labram.models.gram.tokenizer import GramTokenizer
from mne_labram.nn.modules import evaluating

__all__ = ["RestoringMixin", "check_tokenizer"]


def check_tokenizer(tokenizer: Any) -> None:
    """Refuse what cannot give Gram its labels.

    Parameters
    ----------
    tokenizer : object
        What was given.

    Raises
    ------
    TypeError
        If it is no GramTokenizer, such as the name of one, or LaBraM's.
    """
    if not isinstance(tokenizer, GramTokenizer):
        raise TypeError(
            f"The tokenizer of a GramForRestoration is a GramTokenizer, got {type(tokenizer).__name__}; "
            "read one with load_checkpoint first."
        )


class RestoringMixin:
    """The tokenizer beside a restoration model, and what the two do together."""

    # In a list, so that torch does not make it a part of the model.
    _tokenizer: list[GramTokenizer]

    @property
    def tokenizer(self) -> GramTokenizer | None:
        """What gives the labels, and makes signals of codes."""
        return self._tokenizer[0] if self._tokenizer else None

    def set_tokenizer(self, tokenizer: GramTokenizer) -> None:
        """Choose the tokenizer that gives the labels.

        Parameters
        ----------
        tokenizer : GramTokenizer
            Is put into evaluation mode.

        Raises
        ------
        ValueError
            If its number of codes or the length of its patches is not the model's.
        TypeError
            If it is no GramTokenizer.
        """
        check_tokenizer(tokenizer)
        for name in ("n_codes", "patch_size"):
            if getattr(tokenizer, name) != getattr(self, name):
                raise ValueError(
                    f"The tokenizer has {name}={getattr(tokenizer, name)}, the model {name}={getattr(self, name)}; "
                    "take the tokenizer that the model was trained with."
                )
        tokenizer.eval()
        # In a list, so that torch does not make it a part of this model.
        self._tokenizer = [tokenizer]

    def _bound_tokenizer(self, device: torch.device) -> GramTokenizer:
        """Return the tokenizer for the channels of this model."""
        if not self._tokenizer:
            raise ValueError("Codes need a tokenizer: give it at construction, to training_step or to set_tokenizer.")
        tokenizer, positions = self._tokenizer[0], self._positions()
        if tokenizer.ch_names != self.ch_names or not _same(positions, tokenizer._positions()):
            tokenizer = tokenizer.bind_channels(self.ch_names, positions=positions)
        return tokenizer.to(device)

    @torch.no_grad()
    def restore_codes(self, x: Tensor, mask: Tensor) -> Tensor:
        """Predict the most probable code of each patch from the visible ones.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts at 200 Hz; what hidden patches hold changes nothing, but it must be finite.
        mask : Tensor of bool, shape (batch, n_chans * n_patches) or (batch, n_chans, n_patches)
            True where a patch is hidden.

        Returns
        -------
        codes : Tensor of int64, shape (batch, n_chans, n_patches)
            For :meth:`GramTokenizer.decode`. Dropout is off, in training mode too.

        Raises
        ------
        ValueError
            As :meth:`forward`.
        """
        with evaluating(self):
            logits = self(x, mask=mask)
        return logits.argmax(dim=2).unflatten(1, (x.shape[1], -1))

    @torch.no_grad()
    def restore(self, x: Tensor, mask: Tensor) -> Tensor:
        """Put decoded codes in the place of hidden patches.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts at 200 Hz; what hidden patches hold changes nothing, but it must be finite.
        mask : Tensor of bool, shape (batch, n_chans * n_patches) or (batch, n_chans, n_patches)
            True where a patch is hidden.

        Returns
        -------
        x : Tensor, shape (batch, n_chans, n_times)
            A copy; visible patches are as they were. Where codes hold no level, hidden patches get the root mean square
            of the visible ones of the same channel, or of the whole window if it has none.

        Raises
        ------
        ValueError
            As :meth:`forward`, or if there is no tokenizer, or its codes hold no waveform.
        """
        checked = self._checked(x)
        tokenizer = self._bound_tokenizer(x.device)
        tokenizer.target.must_hold_signal()
        n_patches = x.shape[2] // self.patch_size
        hidden = check_mask(mask, checked, n_patches).unflatten(1, (x.shape[1], -1))
        patches = checked.unflatten(2, (-1, self.patch_size))
        gain = None
        if tokenizer.target.spectrum is None:
            power = patches.square().mean(dim=3).masked_fill(hidden, 0.0)
            n_visible = (~hidden).sum(dim=2)
            whole = power.sum(dim=(1, 2)) / n_visible.sum(dim=1)
            own = power.sum(dim=2) / n_visible.clamp_min(1)
            gain = torch.where(n_visible > 0, own, whole.unsqueeze(1)).sqrt()
        decoded = tokenizer.decode(self.restore_codes(checked, hidden), gain=gain).unflatten(2, (-1, self.patch_size))
        return torch.where(hidden.unsqueeze(3), decoded.to(patches.dtype), patches).flatten(2)


def _same(one: Any, two: Any) -> bool:
    """Tell whether the same positions, or none, were given twice."""
    if one is None or two is None:
        return one is two
    return np.array_equal(np.asarray(one), np.asarray(two))
