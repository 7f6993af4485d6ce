"""Rounding of latents to whole steps, and about how many bits that takes."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["BIT_WORTH", "gaussian_bits", "round_with_dead_zone"]

#: Error in squared steps that one bit is worth: a fine uniform quantiser's error of 1 / 12 is divided by four for one
#: bit more, which is a slope of 2 ln(2) / 12 = 0.116; dead zone and cheap zeros at coarse steps ask for a little more.
BIT_WORTH = 0.16
# Neighbours in time and in latent dimension that tell how large a latent is likely to be.
_FRAMES, _BANDS = 3, 7


def round_with_dead_zone(values: Tensor, dead_zone: float = 0.62) -> Tensor:
    """Round to whole numbers; values below ``dead_zone`` become zero, and the others follow.

    Parameters
    ----------
    values : Tensor
        In steps.
    dead_zone : float
        Between 0.5, where this is plain rounding, and 1.

    Returns
    -------
    rounded : Tensor
        Whole numbers.
    """
    size = values.abs()
    return values.sign() * torch.where(size < dead_zone, 0.0, (size + 1.0 - dead_zone).floor())


def gaussian_bits(latents: Tensor) -> Tensor:
    """Estimate what rounding latents to whole steps takes, if neighbours tell how large they are.

    Parameters
    ----------
    latents : Tensor, shape (batch, n_chans, n_frames, dim)
        In steps; not rounded, so that there is a gradient.

    Returns
    -------
    bits : Tensor, shape (batch, n_chans)
        At least 0, and 0 for zeros.

    Notes
    -----
    The information of a Gaussian variable whose variance v is the mean over 3 frames and 7 bands, to which rounding
    adds 1 / 12: ``log2(12 v) / 2 + (y ** 2 + 1 / 12 - v) / (2 v ln 2)``.
    """
    energy = latents.square().flatten(0, 1).unsqueeze(1)
    padding = (_FRAMES // 2, _BANDS // 2)
    mean = F.avg_pool2d(energy, (_FRAMES, _BANDS), stride=1, padding=padding, count_include_pad=False)
    variance = mean + 1 / 12
    bits = 0.5 * torch.log2(12 * variance) + (energy - mean) / (2 * math.log(2) * variance)
    return bits.squeeze(1).sum(dim=(1, 2)).unflatten(0, latents.shape[:2])
