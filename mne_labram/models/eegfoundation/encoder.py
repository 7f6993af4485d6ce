"""The body that EEGFoundation's models share: codes to tokens, RoFormer over time, and attention over channels."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mne_labram.models.eegfoundation.levels import CLS, N_CODES, N_LEVELS
from mne_labram.models.labram.channels import ChannelBinding
from mne_labram.models.labram.sizes import Size, replace_numbers
from mne_labram.nn.attention import TransformerBlock
from mne_labram.nn.initialization import INIT_STD, initialize_spread, initialize_weights
from mne_labram.nn.rotary import POST_NORM_EPS, RotaryBlock, rotary_angles

__all__ = ["SIZES", "AmplitudeEncoder", "AmplitudeHead", "ChannelFusion", "CodeEmbedding", "RotarySize", "resolve_size"]

# Numbers that describe the code of one sample where a token is made of many.
_CODE_DIM = 8
# Of the cosines that logits are first made of: with 32 of them, logits then have a standard deviation of 0.4.
_LOGIT_SCALE = 0.1


@dataclass(frozen=True)
class RotarySize:
    """Numbers behind a name.

    Parameters
    ----------
    body : Size
        Width, depth and heads.
    hidden_dim : int
        Width inside the feed-forward part.
    """

    body: Size
    hidden_dim: int


def _size(embed_dim: int, num_layers: int, num_heads: int, hidden_dim: int) -> RotarySize:
    return RotarySize(Size(embed_dim, num_layers, num_heads, layer_scale=0.0), hidden_dim)


#: ``base`` and ``student`` are official (EEGFoundation, configs/pretrain_config.json and
#: get_pretrained_embedding_model.py; an older file has ``hidden_dim=2048`` for ``base``). The others are ours.
SIZES: dict[str, RotarySize] = {
    "tiny": _size(128, 4, 4, 512),
    "small": _size(256, 6, 8, 1024),
    "student": _size(512, 12, 8, 2048),
    "base": _size(768, 12, 12, 3072),
}


def resolve_size(
    size: str,
    *,
    embed_dim: int | None = None,
    num_layers: int | None = None,
    num_heads: int | None = None,
    hidden_dim: int | None = None,
) -> RotarySize:
    """Take a named configuration, with some of its numbers replaced.

    Parameters
    ----------
    size : {"tiny", "small", "student", "base"}
        Name.
    embed_dim, num_layers, num_heads : int | None
        Replacements, as in :func:`mne_labram.models.labram.sizes.resolve_size`.
    hidden_dim : int | None
        Width inside the feed-forward part; ``None``: four times ``embed_dim``, as in all the named ones.

    Returns
    -------
    size : RotarySize
        The numbers.

    Raises
    ------
    ValueError
        If the name is unknown, a number is below 1, or the heads do not divide the width.
    """
    if size not in SIZES:
        raise ValueError(f"size must be one of {', '.join(map(repr, SIZES))}, got {size!r}.")
    body = replace_numbers(SIZES[size].body, embed_dim=embed_dim, num_layers=num_layers, num_heads=num_heads)
    if hidden_dim is not None and hidden_dim < 1:
        raise ValueError(f"hidden_dim must be at least 1, got {hidden_dim}.")
    return replace(SIZES[size], body=body, hidden_dim=4 * body.embed_dim if hidden_dim is None else hidden_dim)


class CodeEmbedding(nn.Module):
    """Tokens made of codes: of one each, as published, or of the codes of a stretch of samples.

    Parameters
    ----------
    embed_dim : int
        Width of a token.
    patch_size : int
        Codes in a token.

    Notes
    -----
    With one code, ``table`` is ``word_embeddings`` of transformers' RoFormer, and ``offset`` the row of its
    ``token_type_embeddings`` that is added to every token.

    With more (ours), a code is first described by 8 numbers, which start as cosines of its level, so that neighbouring
    levels are neighbours before anything is learned; those of a patch are mapped to a token together.
    """

    def __init__(self, embed_dim: int, patch_size: int = 1) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.table = nn.Parameter(torch.empty(N_CODES, embed_dim if patch_size == 1 else _CODE_DIM))
        self.offset = nn.Parameter(torch.zeros(embed_dim))
        self.proj = nn.Linear(patch_size * _CODE_DIM, embed_dim, bias=False) if patch_size > 1 else None
        self.norm = nn.LayerNorm(embed_dim, eps=POST_NORM_EPS)
        nn.init.normal_(self.table, std=INIT_STD if patch_size == 1 else 1.0)
        if self.proj is not None:
            levels = torch.arange(N_LEVELS, device=self.table.device).unsqueeze(1) / (N_LEVELS - 1)
            octaves = 2.0 ** torch.arange(_CODE_DIM - 1, device=self.table.device)
            with torch.no_grad():
                self.table[:N_LEVELS, :1] = 2.0 * levels - 1.0
                self.table[:N_LEVELS, 1:] = (math.pi * levels * octaves).cos()
            nn.init.normal_(self.proj.weight, std=self.proj.in_features**-0.5)

    def forward(self, codes: Tensor) -> Tensor:
        """Make tokens.

        Parameters
        ----------
        codes : Tensor of int64, shape (batch, n_tokens, patch_size)
            Codes.

        Returns
        -------
        tokens : Tensor, shape (batch, n_tokens, embed_dim)
            Normalised tokens, without positions.
        """
        words = F.embedding(codes, self.table).flatten(2)
        return self.norm((words if self.proj is None else self.proj(words)) + self.offset)


class ChannelFusion(nn.Module):
    """Attention between the channels at each time, each known by where it is.

    Parameters
    ----------
    embed_dim : int
        Width of a token.
    binding : ChannelBinding
        The channels.
    num_layers, num_heads : int
        Depth and heads.
    drop_prob, attn_drop_prob : float
        Dropout of outputs and of attention weights.
    activation : type of nn.Module
        Class of the activation.

    Notes
    -----
    Ours. What is called cross-channel attention in the published code is attention over time inside each channel:
    the axis that it is meant to run over is part of the batch there (EEGFoundation, downstream_EEGFoundation.py,
    ``b c m l -> (b c) m l``).
    """

    def __init__(
        self,
        embed_dim: int,
        binding: ChannelBinding,
        *,
        num_layers: int = 1,
        num_heads: int = 4,
        drop_prob: float = 0.0,
        attn_drop_prob: float = 0.0,
        activation: type[nn.Module] = nn.GELU,
    ) -> None:
        super().__init__()
        self.places = binding.embedding(embed_dim, activation)
        # Neither "blocks" nor "spatial_embed": all of this learns at the rate of what comes after an encoder.
        self.layers = nn.ModuleList(
            TransformerBlock(
                embed_dim,
                num_heads,
                qk_norm=False,
                layer_scale=None,
                drop_prob=drop_prob,
                attn_drop_prob=attn_drop_prob,
                activation=activation,
            )
            for _ in range(num_layers)
        )
        initialize_weights(self)
        table = getattr(self.places, "table", None)
        if table is not None:
            nn.init.trunc_normal_(table, std=INIT_STD)

    def forward(self, tokens: Tensor) -> Tensor:
        """Let channels look at one another.

        Parameters
        ----------
        tokens : Tensor, shape (batch, n_chans, n_tokens, embed_dim)
            Tokens of every channel.

        Returns
        -------
        tokens : Tensor, shape (batch, n_chans, n_tokens, embed_dim)
            Each with what it took from those of other channels at the same time.
        """
        _, channels = self.places()
        batch = len(tokens)
        x = (tokens + channels.unsqueeze(1)).transpose(1, 2).flatten(0, 1)
        for layer in self.layers:
            x = layer(x)
        return x.unflatten(0, (batch, -1)).transpose(1, 2)


class AmplitudeEncoder(nn.Module):
    """Codes to tokens, RoFormer over the time of each channel, and, if asked for, attention between channels.

    Parameters
    ----------
    size : RotarySize
        Width, depth, heads and inner width.
    patch_size : int
        Codes in a token.
    binding : ChannelBinding
        The channels, for ``fusion_layers``.
    fusion_layers : int
        Layers of attention between channels (ours); 0 has none, as published.
    drop_prob, attn_drop_prob, drop_path_prob : float
        Dropout of tokens and branches, of attention weights, and of whole branches in the last block (growing
        linearly from 0 in the first).
    activation : type of nn.Module
        Class of the activation.
    """

    def __init__(
        self,
        size: RotarySize,
        *,
        patch_size: int,
        binding: ChannelBinding,
        fusion_layers: int = 0,
        drop_prob: float = 0.0,
        attn_drop_prob: float = 0.0,
        drop_path_prob: float = 0.0,
        activation: type[nn.Module] = nn.GELU,
    ) -> None:
        super().__init__()
        body = size.body
        self.embed_dim, self.patch_size = body.embed_dim, patch_size
        self.head_dim = body.embed_dim // body.num_heads
        self.patch_embed = CodeEmbedding(body.embed_dim, patch_size)
        self.embed_drop = nn.Dropout(drop_prob)
        self.blocks = nn.ModuleList(
            RotaryBlock(
                body.embed_dim,
                body.num_heads,
                size.hidden_dim,
                drop_prob=drop_prob,
                attn_drop_prob=attn_drop_prob,
                drop_path_prob=drop_path_prob * i / max(body.num_layers - 1, 1),
                activation=activation,
            )
            for i in range(body.num_layers)
        )
        for block in self.blocks:
            initialize_weights(block)
        self.fusion = None
        if fusion_layers:
            self.fusion = ChannelFusion(
                body.embed_dim,
                binding,
                num_layers=fusion_layers,
                num_heads=body.num_heads,
                drop_prob=drop_prob,
                attn_drop_prob=attn_drop_prob,
                activation=activation,
            )
        # RoFormer's blocks end in a norm; those of the fusion do not.
        self.norm = nn.LayerNorm(body.embed_dim) if fusion_layers else nn.Identity()

    def forward(self, codes: Tensor, *, cls: bool = False) -> Tensor:
        """Encode codes.

        Parameters
        ----------
        codes : Tensor of int64, shape (batch, n_chans, n_tokens, patch_size)
            Codes.
        cls : bool
            Put a token of ``[CLS]`` codes before those of every channel. Published pre-training never sees it.

        Returns
        -------
        tokens : Tensor, shape (batch, n_chans, n_tokens, embed_dim)
            One more with ``cls``, the first.
        """
        batch, n_chans = codes.shape[:2]
        if cls:
            codes = F.pad(codes, (0, 0, 1, 0), value=CLS)
        x = self.embed_drop(self.patch_embed(codes.flatten(0, 1)))
        cosine, sine = rotary_angles(x.shape[1], self.head_dim, device=x.device)
        for block in self.blocks:
            x = block(x, cosine, sine)
        x = x.unflatten(0, (batch, n_chans))
        return self.norm(x if self.fusion is None else self.fusion(x))


class AmplitudeHead(nn.Module):
    """Tokens to a logit for every code, of every sample of a token.

    Parameters
    ----------
    embed_dim : int
        Width of a token.
    patch_size : int
        Samples in a token.
    transform : bool
        Map and normalise tokens first, as transformers' ``RoFormerLMPredictionHead`` does; otherwise there is one
        matrix without bias, as in one of the published files (``lm_head`` of backbone_model.py). More than one sample
        per token needs it.
    activation : type of nn.Module
        Class of the activation.

    Notes
    -----
    The last matrix is not tied to the embedding, in which it differs from transformers' class. A token of several
    samples is mapped to 32 numbers for each of them, and these to the logits (ours): one matrix for all would have
    ``patch_size`` times as many rows.
    """

    def __init__(
        self,
        embed_dim: int,
        patch_size: int = 1,
        *,
        transform: bool = True,
        activation: type[nn.Module] = nn.GELU,
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        width = embed_dim if patch_size == 1 else 32
        self.dense = nn.Linear(embed_dim, patch_size * width) if transform else None
        self.act = activation() if transform else None
        self.norm = nn.LayerNorm(width, eps=POST_NORM_EPS) if transform else None
        self.decoder = nn.Linear(width, N_CODES, bias=transform)
        initialize_weights(self)
        if patch_size > 1:
            initialize_spread(self.dense)
            # Logits that are a smooth function of the level, from the first step on: 2000 rows that know nothing of
            # one another take hundreds of steps only to learn how often each occurs.
            waves = torch.arange(width, device=self.decoder.weight.device)
            levels = torch.arange(N_LEVELS, device=waves.device).unsqueeze(1) / (N_LEVELS - 1)
            with torch.no_grad():
                self.decoder.weight[:N_LEVELS] = _LOGIT_SCALE * (math.pi * levels * waves).cos()

    def samples(self, tokens: Tensor) -> Tensor:
        """Describe every sample of a token.

        Parameters
        ----------
        tokens : Tensor, shape (..., embed_dim)
            Tokens.

        Returns
        -------
        samples : Tensor, shape (..., patch_size, width)
            What :meth:`logits` takes.
        """
        if self.dense is None:
            return tokens.unsqueeze(-2)
        return self.norm(self.act(self.dense(tokens).unflatten(-1, (self.patch_size, -1))))

    def logits(self, samples: Tensor) -> Tensor:
        """Give a logit to every code.

        Parameters
        ----------
        samples : Tensor, shape (..., width)
            From :meth:`samples`.

        Returns
        -------
        logits : Tensor, shape (..., 2006)
            Special codes included.
        """
        return self.decoder(samples)

    def forward(self, tokens: Tensor) -> Tensor:
        """Give a logit to every code of every sample.

        Parameters
        ----------
        tokens : Tensor, shape (..., embed_dim)
            Tokens.

        Returns
        -------
        logits : Tensor, shape (..., patch_size, 2006)
            No softmax is applied.
        """
        return self.logits(self.samples(tokens))
