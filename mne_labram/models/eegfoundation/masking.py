"""Which tokens EEGFoundation's masked model has to guess, and what it is shown instead."""

from __future__ import annotations

import torch
from torch import Tensor

from mne_labram.models.eegfoundation.levels import MASK, N_LEVELS
from mne_labram.nn.masking import random_mask

__all__ = ["MASKINGS", "hide_codes", "span_mask", "token_mask"]

#: Accepted by ``masking=``.
MASKINGS = ("random", "span")
# Of the hidden tokens, 80 % are replaced by [MASK] and 10 % by another code; the rest stays (Devlin et al. 2019,
# arXiv:1810.04805; EEGFoundation uses transformers' DataCollatorForLanguageModeling, whose defaults these are).
_SHARE_MASKED, _SHARE_REPLACED = 0.8, 0.1


def span_mask(
    n_samples: int, n_tokens: int, ratio: float, span: int, *, generator: torch.Generator | None = None
) -> Tensor:
    """Hide stretches of tokens.

    Parameters
    ----------
    n_samples, n_tokens : int
        Shape of the mask.
    ratio : float
        Share of hidden tokens, about; at least one stretch is hidden, and at least one token is not.
    span : int
        Tokens in a stretch. Those at the ends of the window may be shorter, and where two meet there is a longer one.
    generator : torch.Generator | None
        Source of randomness, on the CPU; ``None`` is torch's global one.

    Returns
    -------
    mask : Tensor of bool, shape (n_samples, n_tokens)
        True where a token is hidden.

    Notes
    -----
    Ours. The level of a single sample at 200 Hz is told by its neighbours (their mean is off by some 2 % of the range
    of a window), and what can be interpolated teaches nothing.
    """
    span = min(span, max(1, n_tokens - 1))
    # A grid with a phase of its own for each sample: stretches cannot overlap, so that the share is what was asked for.
    phase = torch.randint(span, (n_samples, 1), generator=generator, device="cpu")
    stretch = (torch.arange(n_tokens, device="cpu") + phase) // span
    n_stretches = int(stretch.max()) + 1 if n_samples else 1
    noise = torch.rand(n_samples, n_stretches, generator=generator, device="cpu").gather(1, stretch)
    n_hidden = min(max(1, round(n_tokens * ratio / span)), max(1, n_stretches - 1))
    # The largest values that occur, each counted once.
    firsts = torch.where(stretch == torch.nn.functional.pad(stretch[:, :-1], (1, 0), value=-1), -1.0, noise)
    level = firsts.topk(min(n_hidden, n_tokens), dim=1).values[:, -1:]
    mask = noise >= level
    # Two stretches may be all there is of a short window.
    mask[:, 0] &= ~mask.all(dim=1) | (n_tokens < 2)
    return mask


def token_mask(
    masking: str,
    n_samples: int,
    n_chans: int,
    n_tokens: int,
    ratio: float,
    *,
    span: int = 1,
    shared: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw a mask of a kind given by name.

    Parameters
    ----------
    masking : {"random", "span"}
        Single tokens, as published, or :func:`span_mask`.
    n_samples, n_chans, n_tokens : int
        Shape of the mask.
    ratio : float
        Share of hidden tokens.
    span : int
        Tokens in a stretch.
    shared : bool
        For ``"span"``: in half of the windows, hide the same times in all channels, so that neighbours on the head do
        not give the answer away.
    generator : torch.Generator | None
        Source of randomness, on the CPU; ``None`` is torch's global one.

    Returns
    -------
    mask : Tensor of bool, shape (n_samples, n_chans, n_tokens)
        True where a token is hidden.
    """
    rows = n_samples * n_chans
    if masking == "random":
        return random_mask(rows, n_tokens, ratio, generator=generator).unflatten(0, (n_samples, n_chans))
    mask = span_mask(rows, n_tokens, ratio, span, generator=generator).unflatten(0, (n_samples, n_chans))
    if shared:
        together = torch.rand(n_samples, 1, 1, generator=generator, device="cpu") < 0.5
        mask = torch.where(together, mask[:, :1], mask)
    return mask


def hide_codes(codes: Tensor, mask: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Replace the codes of hidden tokens: 80 % by ``[MASK]``, 10 % by those of random amplitudes, 10 % not at all.

    Parameters
    ----------
    codes : Tensor of int64, shape (..., n_tokens, patch_size)
        Codes; not changed.
    mask : Tensor of bool, shape (..., n_tokens)
        True where a token is hidden.
    generator : torch.Generator | None
        Source of randomness, on the CPU; ``None`` is torch's global one.

    Returns
    -------
    codes : Tensor of int64, shape (..., n_tokens, patch_size)
        What the model is shown.

    Notes
    -----
    The published code draws from the special codes too; these are no amplitudes.
    """
    choice = torch.rand(mask.shape, generator=generator, device="cpu").to(codes.device).unsqueeze(-1)
    other = torch.randint(N_LEVELS, codes.shape, generator=generator, device="cpu").to(codes.device)
    hidden = mask.unsqueeze(-1)
    out = torch.where(hidden & (choice < _SHARE_MASKED), MASK, codes)
    return torch.where(hidden & (choice >= _SHARE_MASKED) & (choice < _SHARE_MASKED + _SHARE_REPLACED), other, out)
