"""A lapped transform that starts as the MDCT and may be trained from there."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mne_labram.nn.seanet import reflect_pad

__all__ = ["LappedAnalysis", "LappedSynthesis", "mdct_basis"]


def mdct_basis(n_bands: int) -> Tensor:
    """Return the basis of the modified discrete cosine transform with the sine window.

    Parameters
    ----------
    n_bands : int
        Bands, and samples from one frame to the next; even.

    Returns
    -------
    basis : Tensor of float32, shape (n_bands, 2 * n_bands)
        One row per band, from low to high. Frames that overlap by half are orthonormal to one another.

    Notes
    -----
    ``sqrt(2 / N) w(n) cos(pi / N (n + 1/2 + N/2) (k + 1/2))`` with ``w(n) = sin(pi / (2 N) (n + 1/2))``: Princen,
    Johnson & Bradley (1987), *Subband/transform coding using filter bank designs based on time domain aliasing
    cancellation*, ICASSP; Malvar (1990), *Lapped transforms for efficient transform/subband coding*, IEEE TASSP 38(6).
    The phase is Malvar's with the sign of the block's own cosine, so that frame ``f`` is the DCT-IV of samples
    ``f N`` to ``(f + 1) N`` folded at both ends.
    """
    n = torch.arange(2 * n_bands, dtype=torch.float64)
    k = torch.arange(n_bands, dtype=torch.float64)
    window = torch.sin(math.pi / (2 * n_bands) * (n + 0.5))
    # Time counted from the beginning of the block, which is a quarter of the window in.
    time = n + 0.5 - n_bands / 2
    basis = math.sqrt(2 / n_bands) * window * torch.cos(math.pi / n_bands * (k[:, None] + 0.5) * time)
    return basis.float()


def _edge(n_bands: int) -> Tensor:
    """Return what the mirrored signal is multiplied by at the outer ends, from the end outwards.

    There, nothing overlaps. With ``x(-1 - t) = tan(a / 2) x(t)``, where cosine and sine of ``a`` are the window on
    either side of the end, folding gives ``cos(a) x + sin(a) tan(a / 2) x = x``: the DCT-IV of the signal as it is.
    """
    t = torch.arange(n_bands // 2, dtype=torch.float64)
    angle = math.pi / 4 - math.pi / (2 * n_bands) * (t + 0.5)
    return torch.tan(angle / 2).float()


class LappedAnalysis(nn.Module):
    """Turn signals into ``dim`` numbers for every ``stride`` samples, by windows that overlap by half.

    Parameters
    ----------
    dim : int
        Numbers per frame. The lowest bands of the MDCT with ``stride`` bands, and zeros where there are more.
    stride : int
        Samples per frame; even.

    Raises
    ------
    ValueError
        If ``stride`` is odd.

    Notes
    -----
    The kernel is a parameter. As it starts, with ``dim == stride``, the transform is orthonormal for any whole number
    of frames, the outer ends included, and :class:`LappedSynthesis` is its inverse.
    """

    edge: Tensor

    def __init__(self, dim: int, stride: int) -> None:
        super().__init__()
        if stride < 2 or stride % 2:
            raise ValueError(f"A lapped transform needs an even stride, got {stride}; change ratios.")
        self.dim, self.stride = dim, stride
        self.conv = nn.Conv1d(1, dim, 2 * stride, stride=stride, bias=False)
        self.register_buffer("edge", _edge(stride), persistent=False)
        _start_as_mdct(self.conv, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Analyse.

        Parameters
        ----------
        x : Tensor, shape (batch, 1, n_times)
            Signals of at least one sample.

        Returns
        -------
        latents : Tensor, shape (batch, dim, ceil(n_times / stride))
            One per frame.
        """
        x = reflect_pad(x, 0, -x.shape[-1] % self.stride)
        half = self.stride // 2
        edge = self.edge.to(x.dtype)
        # A cosine of a DCT-IV is even about the beginning of its block and odd about its end.
        before = (x[..., :half] * edge).flip(-1)
        after = -x[..., -half:].flip(-1) * edge
        return self.conv(torch.cat((before, x, after), dim=-1))


class LappedSynthesis(nn.Module):
    """Turn the numbers of :class:`LappedAnalysis` back into signals.

    Parameters
    ----------
    dim : int
        Numbers per frame.
    stride : int
        Samples per frame; even.

    Raises
    ------
    ValueError
        If ``stride`` is odd.
    """

    edge: Tensor

    def __init__(self, dim: int, stride: int) -> None:
        super().__init__()
        if stride < 2 or stride % 2:
            raise ValueError(f"A lapped transform needs an even stride, got {stride}; change ratios.")
        self.dim, self.stride = dim, stride
        self.convtr = nn.ConvTranspose1d(dim, 1, 2 * stride, stride=stride, bias=False)
        self.register_buffer("edge", _edge(stride), persistent=False)
        _start_as_mdct(self.convtr, stride)

    def forward(self, latents: Tensor) -> Tensor:
        """Synthesise.

        Parameters
        ----------
        latents : Tensor, shape (batch, dim, n_frames)
            One per frame.

        Returns
        -------
        x : Tensor, shape (batch, 1, n_frames * stride)
            The signals.
        """
        out = self.convtr(latents)
        half = self.stride // 2
        edge = self.edge.to(out.dtype)
        # The transpose of what the analysis does at the outer ends.
        before = out[..., :half].flip(-1) * edge
        after = -(out[..., -half:] * edge).flip(-1)
        inside = out[..., half:-half]
        n = inside.shape[-1] - half
        return inside + F.pad(before, (0, n)) + F.pad(after, (n, 0))


@torch.no_grad()
def _start_as_mdct(layer: nn.Conv1d | nn.ConvTranspose1d, stride: int) -> None:
    """Put the MDCT's basis into a kernel of shape (dim, 1, 2 * stride)."""
    kernel = layer.weight
    kernel.zero_()
    n = min(len(kernel), stride)
    kernel[:n, 0] = mdct_basis(stride)[:n].to(kernel)
