"""What all quantisers have in common: codes in float32 that start from latents and follow them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from mne_labram.nn.distributed import gather_rows
from mne_labram.nn.kmeans import perplexity

__all__ = ["Codebook", "check_codes", "code_usage", "least_used"]

# k-means sees at least this many latents per code.
_LATENTS_PER_CODE = 10


def check_codes(codes: Tensor, n_codes: int) -> None:
    """Refuse what cannot be indices of codes.

    Parameters
    ----------
    codes : Tensor
        Any shape.
    n_codes : int
        Size of the codebook.

    Raises
    ------
    TypeError
        If the codes are not integers.
    ValueError
        If one is not in the codebook.
    """
    if codes.is_floating_point() or codes.is_complex() or codes.dtype == torch.bool:
        raise TypeError(f"Codes must be integers, got {codes.dtype}.")
    if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < n_codes:
        raise ValueError(f"Codes must lie between 0 and {n_codes - 1}.")


def code_usage(counts: Tensor) -> dict[str, float]:
    """Summarise how much of a codebook is used.

    Parameters
    ----------
    counts : Tensor, shape (n_codes,)
        How often each code occurs.

    Returns
    -------
    usage : dict of str to float
        ``"n_codes"``, ``"n_used"`` (codes that occur), ``"fraction"`` (of the codebook) and ``"perplexity"``.
    """
    n_codes, n_used = len(counts), int((counts > 0).sum())
    return {
        "n_codes": n_codes,
        "n_used": n_used,
        "fraction": n_used / n_codes,
        "perplexity": float(perplexity(counts)),
    }


def least_used(usage: Mapping[str, float] | Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    """Choose, where a model has several codebooks, the one that is used least.

    Parameters
    ----------
    usage : mapping | sequence of mapping
        From :func:`code_usage`, of one codebook or of each.

    Returns
    -------
    usage : mapping
        Of one codebook.
    """
    return usage if isinstance(usage, Mapping) else min(usage, key=lambda each: each["fraction"])


class Codebook(nn.Module):
    """The base of quantisers: numbers that stay in float32, and latents collected for k-means.

    Parameters
    ----------
    n_codes : int
        Codes that k-means will find; 10 latents are collected for each.
    seed : int
        Of everything that is drawn.

    Notes
    -----
    Under torch.distributed, latents of all processes are collected, in the order of the processes.
    """

    initialized: Tensor

    def __init__(self, n_codes: int, *, seed: int = 0) -> None:
        super().__init__()
        self.n_codes, self.seed = n_codes, seed
        self._latents: list[Tensor] = []

    def _generator(self, step: int) -> torch.Generator:
        """Make a generator that depends on the seed and the step only, so that training can be resumed."""
        return torch.Generator("cpu").manual_seed(self.seed * 1_000_003 + step)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move to a device like any module, but stay in float32: half precision would merge codes."""

        def moved(tensor: Tensor) -> Tensor:
            new = fn(tensor)
            unwanted = tensor.is_floating_point() and new.dtype != tensor.dtype and not tensor.is_meta
            return tensor.to(new.device) if unwanted else new

        return super()._apply(moved, recurse)

    def _collect(self, latents: Tensor) -> Tensor | None:
        """Keep latents of this step, shape (n, dim); return all that were kept once they are enough for k-means."""
        needed = _LATENTS_PER_CODE * self.n_codes
        self._latents.append(gather_rows(latents).clone())
        # Old latents come from an encoder that has changed since: keep no more than are needed.
        while sum(map(len, self._latents[1:])) >= needed:
            del self._latents[0]
        if sum(map(len, self._latents)) < needed:
            return None
        collected, self._latents = torch.cat(self._latents), []
        return collected

    def training_state(self) -> dict[str, Tensor]:
        """Return what a resumed training needs beside the state dict: the latents collected for k-means so far.

        Returns
        -------
        state : dict of str to Tensor
            ``"latents.0"``, ``"latents.1"``, ..., in the order in which they came.
        """
        return {f"latents.{i}": latents for i, latents in enumerate(self._latents)}

    def load_training_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what :meth:`training_state` gave.

        Parameters
        ----------
        state : mapping of str to Tensor
            Of a quantiser of the same size.
        """
        self._latents = [state[f"latents.{i}"].to(self.initialized.device).clone() for i in range(len(state))]
