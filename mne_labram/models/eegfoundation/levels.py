"""Samples as levels of amplitude, and back: EEGFoundation's vocabulary."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["AMPLITUDES", "CLS", "MASK", "N_CODES", "N_LEVELS", "PAD", "SEP", "UNK", "AmplitudeQuantizer"]

#: Levels that a sample may have: codes 0 to 1999 (EEGFoundation, Pretrain/pretrain.py). The published vocabulary has a
#: code 2000 that nothing is ever given.
N_LEVELS = 2000
#: Codes that are no amplitude (EEGFoundation, tokenizer_config.json).
MASK, PAD, CLS, SEP, UNK = 2001, 2002, 2003, 2004, 2005
#: Size of the vocabulary.
N_CODES = 2006
#: Accepted by ``amplitude=``.
AMPLITUDES = ("minmax", "robust", "mulaw", "absolute")
# Of those, the ones whose range is that of the window and has to be kept beside the codes.
_RELATIVE = ("minmax", "robust")
# Percentiles that "robust" looks at, and how much farther than they its range goes: 1.5 times their distance from the
# middle is 3.9 standard deviations of a normal distribution.
_PERCENTILES = (0.5, 99.5)
_MARGIN = 1.5
# Companding of "mulaw" (ITU-T G.711: mu = 255).
_MU = 255.0


class AmplitudeQuantizer(nn.Module):
    """Levels of amplitude; without parameters.

    Parameters
    ----------
    amplitude : {"minmax", "robust", "mulaw", "absolute"}
        See :class:`AmplitudeTokenizer`.
    limit : float
        Largest amplitude of ``"mulaw"`` and ``"absolute"`` in microvolts.

    Raises
    ------
    ValueError
        If ``amplitude`` is none of these or ``limit`` is not positive.
    """

    #: There is nothing to learn.
    initialized: bool = True

    def __init__(self, amplitude: str = "minmax", *, limit: float = 500.0) -> None:
        super().__init__()
        if amplitude not in AMPLITUDES:
            raise ValueError(f"amplitude must be one of {', '.join(map(repr, AMPLITUDES))}, got {amplitude!r}.")
        if not 0.0 < limit < math.inf:
            raise ValueError(f"limit must be a positive number of microvolts, got {limit}.")
        self.amplitude, self.limit = amplitude, float(limit)

    @property
    def relative(self) -> bool:
        """Whether the range is that of each channel of a window, so that codes alone do not tell the amplitude."""
        return self.amplitude in _RELATIVE

    def ranges(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Find the range of every channel.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts.

        Returns
        -------
        scale, offset : Tensor, shape (batch, n_chans)
            Width and lower end of the range in microvolts. The width of a flat channel is 0.
        """
        if not self.relative:
            ends = x.new_full(x.shape[:2], self.limit)
            return 2.0 * ends, -ends
        low, high = torch.aminmax(x, dim=2)
        if self.amplitude == "robust":
            inner_low, inner_high = _percentiles(x)
            middle, half = (inner_low + inner_high) / 2, _MARGIN * (inner_high - inner_low) / 2
            # A channel that is flat but for a few samples keeps those.
            is_flat = half <= 0
            low = torch.where(is_flat, low, torch.maximum(low, middle - half))
            high = torch.where(is_flat, high, torch.minimum(high, middle + half))
        return high - low, low

    def quantize(self, x: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
        """Give every sample the code of its level.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts.
        scale, offset : Tensor, shape (batch, n_chans)
            From :meth:`ranges`.

        Returns
        -------
        codes : Tensor of int64, shape (batch, n_chans, n_times)
            0 to 1999. What lies beyond the range is given its end; a flat channel has code 0.
        """
        scale, offset = scale.unsqueeze(2), offset.unsqueeze(2)
        # Not a division by (scale + eps): that of a channel at 1e5 µV would vanish beside rounding.
        part = (x - offset) / torch.where(scale > 0, scale, torch.ones_like(scale))
        if self.amplitude == "mulaw":
            centred = (2.0 * part - 1.0).clamp(-1.0, 1.0)
            part = 0.5 + 0.5 * centred.sign() * (_MU * centred.abs()).log1p() / math.log1p(_MU)
        # NaN, which is refused where it can be looked at, must not become an index.
        return (part.nan_to_num(nan=0.5).clamp(0.0, 1.0) * (N_LEVELS - 1)).round().long()

    def encode(self, x: Tensor) -> Tensor:
        """Turn samples into codes, each channel with its own range.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts.

        Returns
        -------
        codes : Tensor of int64, shape (batch, n_chans, n_times)
            0 to 1999.
        """
        return self.quantize(x, *self.ranges(x))

    def decode(self, codes: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
        """Turn codes into samples: the middle of each level.

        Parameters
        ----------
        codes : Tensor of int, shape (batch, n_chans, n_times)
            0 to 1999.
        scale, offset : Tensor, shape (batch, n_chans)
            From :meth:`ranges`.

        Returns
        -------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts.
        """
        part = codes.to(scale.dtype) / (N_LEVELS - 1)
        if self.amplitude == "mulaw":
            centred = 2.0 * part - 1.0
            part = 0.5 + 0.5 * centred.sign() * torch.expm1(centred.abs() * math.log1p(_MU)) / _MU
        return part * scale.unsqueeze(2) + offset.unsqueeze(2)

    def extra_repr(self) -> str:
        """Show the range."""
        return f"amplitude={self.amplitude!r}" + ("" if self.relative else f", limit={self.limit:g}")


def _percentiles(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return two percentiles of the last axis; torch.quantile takes no more than 2^24 numbers."""
    ordered = x.sort(dim=2).values
    last = x.shape[2] - 1
    out = []
    for percentile in _PERCENTILES:
        at = percentile / 100.0 * last
        below = int(at)
        out.append(torch.lerp(ordered[:, :, below], ordered[:, :, min(below + 1, last)], at - below))
    return out[0], out[1]
