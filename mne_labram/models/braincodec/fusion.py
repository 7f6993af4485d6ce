"""Latents of all channels of a window to vectors in time: what sees the channels together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mne_labram.nn.modules import share_parameters
from mne_labram.nn.pooling import AttentionPooling
from mne_labram.nn.standardization import RunningStandardization

__all__ = ["AttentionFusion", "ConvolutionFusion"]

# Added to mean squares of latents before the logarithm. Latents of EEG have squares of about 1.
_SMALLEST_POWER = 1e-6


class ConvolutionFusion(nn.Module):
    """A convolution over channels, and the largest value in each bin of time.

    Parameters
    ----------
    dim : int
        Width of a latent.
    channels : list of str | int
        Names of the channels, in the order of the kernel; or how many there are, in an order that is always the same.
    bins_per_second : int
        Bins of time.
    n_levels : int
        Further numbers per channel, the same at all times.

    Notes
    -----
    ``SpatialFusionBlock`` of the seizure classifier on BrainCodec's encoder
    (https://github.com/SteKron/encoder-based-seizure-classifier). Two things differ. There the latents,
    ``(batch * n_chans, dim, n_frames)``, are read as if they were ``(batch, dim, n_chans, n_frames)``, so that the
    convolution sees slices of unrelated channels and features. And there the largest of every two neighbours in the
    flattened output is taken, which are of two different features where the number of frames is odd; here bins lie in
    time. With an even number of frames and half as many bins they are the same.
    """

    def __init__(self, dim: int, channels: Sequence[str] | int, bins_per_second: int, n_levels: int = 0) -> None:
        super().__init__()
        if bins_per_second < 1:
            raise ValueError(f"bins_per_second must be at least 1, got {bins_per_second}.")
        self.ch_names = None if isinstance(channels, int) else list(channels)
        self.n_chans = channels if isinstance(channels, int) else len(channels)
        self.width, self.bins_per_second = dim, bins_per_second
        self.conv = nn.Conv2d(dim + n_levels, dim, (self.n_chans, 1))
        # Which rows of the kernel the channels of the input have; None: all, as they are.
        self.rows: list[int] | None = None

    def bound(self, ch_names: Sequence[str]) -> Self:
        """Return this layer for some of its channels, or another order of them.

        Parameters
        ----------
        ch_names : sequence of str
            Channels of the input; those that are missing add nothing.

        Returns
        -------
        fusion : ConvolutionFusion
            With the same parameters.

        Raises
        ------
        ValueError
            If there is another channel, or less than half of its own; without names, if there is another number.
        """
        new = share_parameters(self)
        own, names = self.ch_names, list(ch_names)
        if own is None:
            if len(names) != self.n_chans:
                raise ValueError(
                    f"The convolution of this model is over {self.n_chans} channels without names, got {len(names)}."
                )
            return new
        if not set(names) <= set(own) or 2 * len(names) < len(own) or len(set(names)) < len(names):
            raise ValueError(
                f"The convolution of this model is over {', '.join(own)}, and cannot read {', '.join(names)}; give it "
                "at least half of its channels and no others, or take fusion='attention', which reads any."
            )
        new.rows = None if names == own else [own.index(name) for name in names]
        return new

    def forward(self, latents: Tensor, levels: Tensor | None, n_seconds: int) -> Tensor:
        """Fuse.

        Parameters
        ----------
        latents : Tensor, shape (batch, n_chans, n_frames, dim)
            Of every channel.
        levels : Tensor, shape (batch, n_chans, n_levels) | None
            Further numbers.
        n_seconds : int
            Seconds in the window.

        Returns
        -------
        fused : Tensor, shape (batch, dim, n_seconds * bins_per_second)
            Features in time.
        """
        if levels is not None:
            latents = torch.cat((latents, levels.unsqueeze(2).expand(-1, -1, latents.shape[2], -1)), dim=3)
        weight = self.conv.weight if self.rows is None else self.conv.weight[:, :, self.rows]
        fused = F.conv2d(latents.permute(0, 3, 1, 2), weight, self.conv.bias).squeeze(2)
        return F.adaptive_max_pool1d(fused, n_seconds * self.bins_per_second)


class AttentionFusion(nn.Module):
    """What every channel does in every second, averaged over channels with weights that it gives itself.

    Parameters
    ----------
    dim : int
        Width of a latent.
    width : int
        Width of what comes out.
    n_levels : int
        Further numbers per channel, the same at all times.

    Notes
    -----
    Ours. Of every channel and second, the mean latent and the logarithm of the mean squares, standardised, are mapped
    to a vector, and the vectors of all channels are pooled by :class:`mne_labram.nn.pooling.AttentionPooling`, so that
    any number of channels in any order will do, and a seizure that is seen in a few of them is not diluted by all
    others. Latents have signs: what tells a seizure is how large they are, which a mean of them does not show.
    """

    bins_per_second = 1

    def __init__(self, dim: int, width: int, n_levels: int = 0) -> None:
        super().__init__()
        self.width = width
        self.standardize = RunningStandardization(2 * dim + n_levels)
        self.project = nn.Sequential(nn.Linear(2 * dim + n_levels, width), nn.ReLU())
        self.pool = AttentionPooling(width)

    def forward(self, latents: Tensor, levels: Tensor | None, n_seconds: int) -> Tensor:
        """Fuse.

        Parameters
        ----------
        latents : Tensor, shape (batch, n_chans, n_frames, dim)
            Of every channel.
        levels : Tensor, shape (batch, n_chans, n_levels) | None
            Further numbers.
        n_seconds : int
            Seconds in the window.

        Returns
        -------
        fused : Tensor, shape (batch, width, n_seconds)
            Features in time.
        """
        batch, n_chans = latents.shape[:2]
        in_time = latents.flatten(0, 1).transpose(1, 2)
        means = F.adaptive_avg_pool1d(in_time, n_seconds)
        powers = F.adaptive_avg_pool1d(in_time.square(), n_seconds)
        seen = torch.cat((means, torch.log(powers + _SMALLEST_POWER)), dim=1).transpose(1, 2)
        seen = seen.unflatten(0, (batch, n_chans))
        if levels is not None:
            seen = torch.cat((seen, levels.unsqueeze(2).expand(-1, -1, n_seconds, -1)), dim=3)
        # (batch, n_seconds, n_chans, width): attention is over the channels of one second.
        return self.pool(self.project(self.standardize(seen)).transpose(1, 2)).transpose(1, 2)
