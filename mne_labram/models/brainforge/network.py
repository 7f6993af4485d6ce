"""The network: an image of the scalp at every moment, a transformer over time, and sources that look at both."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mne_labram.models.brainforge.geometry import SourceGeometry
from mne_labram.models.brainforge.statistics import N_GLOBAL, N_STATISTICS

__all__ = ["ScalpEncoder", "SourceMixer", "SourceStage"]

# Position, normal and gain of a source.
_PLACE = 7
# What the stage before tells of a source: power that its prior let through, prior variance, and share explained.
_FEEDBACK = 3


class ScalpEncoder(nn.Module):
    """Images of the scalp, one for every other sample, to tokens that know of each other.

    Parameters
    ----------
    image_size : int
        Pixels on a side.
    maps : tuple of int
        Channels of the two convolutions.
    embed_dim, num_layers, num_heads : int
        Of the transformer over time.
    drop_prob : float
        Dropout in it.
    activation : type of nn.Module
        Class of the activations.
    """

    def __init__(
        self,
        image_size: int = 16,
        maps: tuple[int, int] = (12, 24),
        embed_dim: int = 64,
        num_layers: int = 2,
        num_heads: int = 4,
        drop_prob: float = 0.0,
        activation: type[nn.Module] = nn.GELU,
    ) -> None:
        super().__init__()
        self.image_size, self.embed_dim = image_size, embed_dim
        self.convolutions = nn.Sequential(
            nn.Conv2d(2, maps[0], 3, padding=1),
            activation(),
            nn.Conv2d(maps[0], maps[1], 3, stride=2, padding=1),
            activation(),
            nn.Conv2d(maps[1], maps[1], 3, stride=2, padding=1),
            activation(),
        )
        # Each stride of 2 halves it, rounded up.
        side = ((image_size + 1) // 2 + 1) // 2
        self.embed = nn.Linear(maps[1] * side * side, embed_dim)
        self.blocks = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(
                embed_dim, num_heads, 2 * embed_dim, drop_prob, activation(), batch_first=True, norm_first=True
            ),
            num_layers,
            norm=nn.LayerNorm(embed_dim),
            enable_nested_tensor=False,
        )

    def forward(self, y: Tensor, visible: Tensor, image_weights: Tensor) -> Tensor:
        """Encode windows.

        Parameters
        ----------
        y : Tensor, shape (batch, n_chans, n_times)
            Signal, brought to unit power; 0 where a channel is not visible.
        visible : Tensor, shape (batch, n_chans)
            1 where a channel is visible.
        image_weights : Tensor, shape (n_pixels, n_chans)
            Of :func:`~mne_labram.models.brainforge.geometry.scalp_image_weights`.

        Returns
        -------
        tokens : Tensor, shape (batch, n_tokens, embed_dim)
            One for two samples.
        """
        batch, _, n_times = y.shape
        cover = visible @ image_weights.T
        # Means of two samples: what is faster than that is not in the bands of sources.
        y = F.avg_pool1d(y, 2, ceil_mode=True) if n_times > 1 else y
        image = torch.einsum("pc,bct->btp", image_weights, y) / cover.unsqueeze(1)
        n_tokens = image.shape[1]
        image = image.reshape(batch * n_tokens, 1, self.image_size, self.image_size)
        # How many electrodes there are around a pixel.
        density = torch.log1p(cover).repeat_interleave(n_tokens, dim=0).view_as(image)
        tokens = self.embed(self.convolutions(torch.cat((image, density), dim=1)).flatten(1))
        tokens = tokens.view(batch, n_tokens, self.embed_dim)
        return self.blocks(tokens + self._times(n_tokens, tokens))

    def _times(self, n_tokens: int, like: Tensor) -> Tensor:
        """Sines and cosines of the number of a token (Vaswani et al. 2017, arXiv:1706.03762, section 3.5)."""
        rows = torch.arange(n_tokens, dtype=like.dtype, device=like.device)
        exponents = torch.arange(0, self.embed_dim, 2, dtype=like.dtype, device=like.device) / self.embed_dim
        angles = rows.unsqueeze(1) * 10000.0**-exponents
        return torch.cat((angles.sin(), angles.cos()), dim=1)[:, : self.embed_dim]


class SourceMixer(nn.Module):
    """What every source, its neighbours, and all sources together say, mixed.

    Parameters
    ----------
    dim : int
        Width.
    activation : type of nn.Module
        Class of the activations.
    """

    def __init__(self, dim: int, activation: type[nn.Module] = nn.GELU) -> None:
        super().__init__()
        self.activation = activation()
        self.norm = nn.LayerNorm(5 * dim)
        self.expand, self.project = nn.Linear(5 * dim, 2 * dim), nn.Linear(2 * dim, dim)

    def forward(self, h: Tensor, geometry: SourceGeometry) -> Tensor:
        """Mix.

        Parameters
        ----------
        h : Tensor, shape (batch, n_sources, dim)
            Sources.
        geometry : SourceGeometry
            Who is whose neighbour.

        Returns
        -------
        h : Tensor, shape (batch, n_sources, dim)
            The same, changed.
        """
        g = self.activation(h)
        whole = (g.mean(dim=1, keepdim=True), g.amax(dim=1, keepdim=True))
        seen = (g, geometry.averaged(g, "near"), geometry.averaged(g, "far"), *(each.expand_as(g) for each in whole))
        return h + self.project(self.activation(self.expand(self.norm(torch.cat(seen, dim=2)))))


class SourceStage(nn.Module):
    """One judgement of all sources: whether each is active, and how large it would be.

    Parameters
    ----------
    dim : int
        Width.
    num_layers : int
        Mixers.
    time_dim : int
        Width of the tokens over time that sources look at.
    num_heads : int
        Heads of that attention.
    first : bool
        There is no stage before.
    activation : type of nn.Module
        Class of the activations.
    """

    def __init__(
        self,
        dim: int,
        num_layers: int,
        time_dim: int,
        num_heads: int,
        *,
        first: bool,
        activation: type[nn.Module] = nn.GELU,
    ) -> None:
        super().__init__()
        known = N_STATISTICS + N_GLOBAL + _PLACE
        self.first = first
        self.embed = nn.Linear(known if first else known + _FEEDBACK + dim, dim)
        self.look = None
        if first:
            self.query_norm = nn.LayerNorm(dim)
            self.look = nn.MultiheadAttention(dim, num_heads, kdim=time_dim, vdim=time_dim, batch_first=True)
        self.mixers = nn.ModuleList(SourceMixer(dim, activation) for _ in range(num_layers))
        self.judge = nn.Linear(dim, 2)
        # Near the beginning all sources are thought alike, whatever the window is.
        nn.init.normal_(self.judge.weight, std=0.01)
        nn.init.zeros_(self.judge.bias)

    def forward(
        self, known: Tensor, tokens: Tensor, geometry: SourceGeometry, before: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Judge sources.

        Parameters
        ----------
        known : Tensor, shape (batch, n_sources, n_known)
            Statistics and places.
        tokens : Tensor, shape (batch, n_tokens, time_dim)
            Of :class:`ScalpEncoder`.
        geometry : SourceGeometry
            Who is whose neighbour.
        before : tuple of Tensor | None
            Of the stage before: what came of its prior, shape (batch, n_sources, 3), and its last state.

        Returns
        -------
        active : Tensor, shape (batch, n_sources)
            Log odds that a source is active.
        amplitude : Tensor, shape (batch, n_sources)
            Logarithm of its amplitude, against what would explain the window alone.
        h : Tensor, shape (batch, n_sources, dim)
            State, for the next stage.
        """
        h = self.embed(known if before is None else torch.cat((known, *before), dim=2))
        if self.look is not None:
            h = h + self.look(self.query_norm(h), tokens, tokens, need_weights=False)[0]
        for mixer in self.mixers:
            h = mixer(h, geometry)
        judged = self.judge(h)
        return judged[..., 0], judged[..., 1], h
