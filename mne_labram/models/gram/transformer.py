"""The body that the three Gram models share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mne_labram.models.gram.channels import SINUSOID_BASE
from mne_labram.models.labram.sizes import Size
from mne_labram.nn.attention import SelfAttention, TransformerBlock
from mne_labram.nn.initialization import INIT_STD, initialize_spread, initialize_weights
from mne_labram.nn.sinusoidal import sinusoidal_table
from mne_labram.nn.spatial import CoordinateEmbedding, NameEmbedding

__all__ = ["FeatureFusion", "GramTransformer"]

# LayerNorm's epsilon in Gram (model/transformer.py: torch's default; LaBraM has 1e-6).
_LAYER_NORM_EPS = 1e-5


class _GramAttention(SelfAttention):
    """Attention with a bias of queries, keys and values (Gram, model/transformer.py), and no norm of either.

    The key's bias cancels in the softmax; it is kept so that the official weights have a place for it. Officially the
    softmax is computed in a form that is safe in half precision; in exact arithmetic it is the same.
    """

    def __init__(self, embed_dim: int, num_heads: int, *, drop_prob: float, attn_drop_prob: float) -> None:
        super().__init__(
            embed_dim, num_heads, qkv_bias=False, qk_norm=False, drop_prob=drop_prob, attn_drop_prob=attn_drop_prob
        )
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim)


class GramBlock(TransformerBlock):
    """LaBraM's block with Gram's attention.

    Parameters
    ----------
    embed_dim, num_heads : int
        Width of a token, number of heads.
    drop_prob, attn_drop_prob : float
        Dropout of outputs and of attention weights.
    **options : Any
        See :class:`mne_labram.nn.attention.TransformerBlock`.
    """

    def __init__(
        self, embed_dim: int, num_heads: int, *, drop_prob: float = 0.0, attn_drop_prob: float = 0.0, **options: Any
    ) -> None:
        super().__init__(embed_dim, num_heads, qk_norm=False, drop_prob=drop_prob, **options)
        self.attn = _GramAttention(embed_dim, num_heads, drop_prob=drop_prob, attn_drop_prob=attn_drop_prob)


class FeatureFusion(nn.Module):
    """Weighted sum of what several blocks put out (multi-level feature fusion).

    Parameters
    ----------
    embed_dim : int
        Width of a token.
    out_indices : sequence of int
        Blocks, in rising order; all but the last pass through a linear map of their own first.

    Notes
    -----
    Gram, model/modeling_Gram.py; the weights are the softmax of learned numbers.
    """

    def __init__(self, embed_dim: int, out_indices: Sequence[int]) -> None:
        super().__init__()
        self.out_indices = list(out_indices)
        self.proj_layers = nn.ModuleList(nn.Linear(embed_dim, embed_dim) for _ in self.out_indices[:-1])
        self.proj_weights = nn.Parameter(torch.zeros(len(self.out_indices)))

    def forward(self, outputs: Sequence[Tensor]) -> Tensor:
        """Fuse.

        Parameters
        ----------
        outputs : sequence of Tensor, shape (batch, n_tokens, embed_dim)
            Of the chosen blocks, in order.

        Returns
        -------
        tokens : Tensor, shape (batch, n_tokens, embed_dim)
            Their weighted sum.
        """
        weights = self.proj_weights.softmax(dim=0)
        fused = weights[-1] * outputs[-1]
        for weight, project, output in zip(weights, self.proj_layers, outputs, strict=False):
            fused = fused + weight * project(output)
        return fused


class GramTransformer(nn.Module):
    """Spatial and temporal embedding, transformer blocks, fusion of their outputs, final norm.

    Parameters
    ----------
    patch_embed : torch.nn.Module
        Makes tokens, shape (batch, n_tokens, embed_dim), of the input.
    spatial_embed : NameEmbedding | CoordinateEmbedding
        Bound to the channels of the input.
    size : Size
        Width, depth, heads.
    max_patches : int
        Rows of the temporal embedding.
    learn_time : bool
        Learn the temporal embedding; otherwise it is sines and cosines.
    cls_token : bool
        Put a learned token before all others. It has no position.
    out_indices : sequence of int | None
        Blocks whose outputs are fused; ``None``: the last one's is the output.
    layer_scale : float | None
        Initial residual gains; ``None`` or 0 leaves them out.
    embed_drop_prob, drop_prob, attn_drop_prob, drop_path_prob : float
        Dropout of embedded tokens, of branches, of attention weights, and of whole branches in the last block (growing
        linearly from 0 in the first).
    activation : type of nn.Module
        Class of the activation.

    Raises
    ------
    ValueError
        If ``out_indices`` are not rising numbers of blocks that end with the last.

    Notes
    -----
    Tokens are in channel-major order, as everywhere in this package; the official code has all channels of the first
    second first. Nothing in the model depends on the order but through the embeddings, so it gives the same.
    """

    def __init__(
        self,
        patch_embed: nn.Module,
        spatial_embed: NameEmbedding | CoordinateEmbedding,
        *,
        size: Size,
        max_patches: int = 16,
        learn_time: bool = False,
        cls_token: bool = True,
        out_indices: Sequence[int] | None = None,
        layer_scale: float | None = None,
        embed_drop_prob: float = 0.0,
        drop_prob: float = 0.0,
        attn_drop_prob: float = 0.0,
        drop_path_prob: float = 0.0,
        activation: type[nn.Module] = nn.GELU,
    ) -> None:
        super().__init__()
        width, depth = size.embed_dim, size.num_layers
        if out_indices is not None:
            indices = list(out_indices)
            if not indices or indices != sorted({*indices}) or indices[0] < 0 or indices[-1] != depth - 1:
                raise ValueError(
                    f"out_indices must be rising numbers of blocks that end with the last, {depth - 1}, got {indices}."
                )
        self.patch_embed = patch_embed
        self.spatial_embed = spatial_embed
        self.embed_dim = width
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width)) if cls_token else None
        table = sinusoidal_table(max_patches, width, SINUSOID_BASE).unsqueeze(0)
        if learn_time:
            self.time_embed = nn.Parameter(torch.zeros_like(table))
        else:
            self.register_buffer("time_embed", table, persistent=False)
        self.embed_drop = nn.Dropout(embed_drop_prob)
        self.blocks = nn.ModuleList(
            GramBlock(
                width,
                size.num_heads,
                layer_scale=layer_scale,
                drop_prob=drop_prob,
                attn_drop_prob=attn_drop_prob,
                drop_path_prob=drop_path_prob * i / max(depth - 1, 1),
                activation=activation,
            )
            for i in range(depth)
        )
        self.fusion = None if out_indices is None else FeatureFusion(width, out_indices)
        self.norm = nn.LayerNorm(width)
        initialize_weights(self)
        if getattr(patch_embed, "spectrum", None) is not None:
            initialize_spread(patch_embed.spectrum_proj)
        for table in (self.cls_token, self.time_embed if learn_time else None):
            if table is not None:
                nn.init.trunc_normal_(table, std=INIT_STD)
        for module in (self.blocks, self.norm):
            for layer in module.modules():
                if isinstance(layer, nn.LayerNorm):
                    layer.eps = _LAYER_NORM_EPS

    def positions(self, n_patches: int) -> Tensor:
        """Add up the spatial and the temporal embedding.

        Parameters
        ----------
        n_patches : int
            Patches per channel.

        Returns
        -------
        positions : Tensor, shape (n_chans * n_patches, embed_dim)
            Of patch tokens, in channel-major order.
        """
        _, channels = self.spatial_embed()
        return (channels.unsqueeze(1) + self.time_embed[:, :n_patches]).flatten(0, 1)

    def forward(
        self, patches: Tensor, n_patches: int, *, kept: Tensor | None = None, cls: Tensor | None = None
    ) -> Tensor:
        """Run embedded patches through the blocks.

        Parameters
        ----------
        patches : Tensor, shape (batch, n_tokens, embed_dim)
            Output of ``patch_embed``.
        n_patches : int
            Patches per channel.
        kept : Tensor of int64, shape (batch, n_tokens) | None
            Which of the ``n_chans * n_patches`` patches these are; ``None``: all.
        cls : Tensor, shape (batch, 1, embed_dim) | None
            First token instead of the learned one.

        Returns
        -------
        tokens : Tensor, shape (batch, 1 + n_tokens, embed_dim)
            The first token first (if there is one); the final norm is not applied.
        """
        positions = self.positions(n_patches)
        x = patches + (positions if kept is None else positions[kept])
        if cls is None and self.cls_token is not None:
            cls = self.cls_token.expand(len(patches), -1, -1)
        if cls is not None:
            x = torch.cat((cls.to(x.dtype), x), dim=1)
        x = self.embed_drop(x)
        chosen = () if self.fusion is None else self.fusion.out_indices
        outputs = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in chosen:
                outputs.append(x)
        return self.fusion(outputs) if outputs else x
