"""The body that the three LaBraM models share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mne_labram.models.labram.sizes import Size
from mne_labram.nn.attention import LAYER_NORM_EPS, TransformerBlock
from mne_labram.nn.initialization import INIT_STD, initialize_spread, initialize_weights, rescale_blocks
from mne_labram.nn.spatial import CoordinateEmbedding, NameEmbedding

__all__ = ["LabramTransformer"]


class LabramTransformer(nn.Module):
    """CLS token, spatial and temporal embedding, transformer blocks, final norm.

    Parameters
    ----------
    patch_embed : torch.nn.Module
        Makes tokens, shape (batch, n_tokens, embed_dim), of the input.
    spatial_embed : NameEmbedding | CoordinateEmbedding
        Bound to the channels of the input.
    size : Size
        Width, depth, heads, layer scale.
    max_patches : int
        Rows of the temporal embedding.
    qkv_bias, qk_norm : bool
        See :class:`mne_labram.nn.attention.SelfAttention`.
    layer_scale : float | None
        Initial residual gains; ``None`` leaves them out.
    drop_prob, attn_drop_prob, drop_path_prob : float
        Dropout of tokens and branches, of attention weights, and of whole branches in the last block (growing
        linearly from 0 in the first).
    activation : type of nn.Module
        Class of the activation.
    pretraining : bool
        Initialise as the official pre-training code does (:func:`mne_labram.nn.initialization.initialize_weights`).

    Notes
    -----
    Tokens are in channel-major order: all patches of the first channel, then of the second (LaBraM,
    modeling_finetune.py, ``B N A T -> B (N A) T``).
    """

    def __init__(
        self,
        patch_embed: nn.Module,
        spatial_embed: NameEmbedding | CoordinateEmbedding,
        *,
        size: Size,
        max_patches: int = 16,
        qkv_bias: bool = False,
        qk_norm: bool = True,
        layer_scale: float | None = None,
        drop_prob: float = 0.0,
        attn_drop_prob: float = 0.0,
        drop_path_prob: float = 0.0,
        activation: type[nn.Module] = nn.GELU,
        pretraining: bool = False,
    ) -> None:
        super().__init__()
        width, depth = size.embed_dim, size.num_layers
        self.patch_embed = patch_embed
        self.spatial_embed = spatial_embed
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.time_embed = nn.Parameter(torch.zeros(1, max_patches, width))
        self.pos_drop = nn.Dropout(drop_prob)
        self.blocks = nn.ModuleList(
            TransformerBlock(
                width,
                size.num_heads,
                qkv_bias=qkv_bias,
                qk_norm=qk_norm,
                layer_scale=layer_scale,
                drop_prob=drop_prob,
                attn_drop_prob=attn_drop_prob,
                drop_path_prob=drop_path_prob * i / max(depth - 1, 1),
                activation=activation,
            )
            for i in range(depth)
        )
        self.norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        initialize_weights(self, pretraining=pretraining)
        if getattr(patch_embed, "spectrum", None) is not None:
            initialize_spread(patch_embed.spectrum_proj)
        rescale_blocks(self.blocks)
        cut = INIT_STD if pretraining else 2.0
        for table in (self.cls_token, self.time_embed, getattr(spatial_embed, "table", None)):
            if table is not None:
                nn.init.trunc_normal_(table, std=INIT_STD, a=-cut, b=cut)

    def positions(self, n_patches: int, *, cls_position: str = "cls_row") -> Tensor:
        """Add up the spatial and the temporal embedding.

        Parameters
        ----------
        n_patches : int
            Patches per channel.
        cls_position : {"cls_row", "first_channel"}
            What the CLS token gets: its own row of the table (nothing if channels are known by coordinates), or the
            first channel's embedding, as in the official pre-training code.

        Returns
        -------
        positions : Tensor, shape (1, 1 + n_chans * n_patches, embed_dim)
            CLS first.
        """
        cls, channels = self.spatial_embed()
        tokens = (channels.unsqueeze(1) + self.time_embed[:, :n_patches]).flatten(0, 1)
        if cls_position == "first_channel":
            cls = channels[0]
        elif cls is None:
            cls = torch.zeros_like(channels[0])
        return torch.cat((cls.unsqueeze(0), tokens)).unsqueeze(0)

    def forward(self, patches: Tensor, n_patches: int, *, cls_position: str = "cls_row") -> Tensor:
        """Run embedded patches through the blocks.

        Parameters
        ----------
        patches : Tensor, shape (batch, n_chans * n_patches, embed_dim)
            Output of ``patch_embed``.
        n_patches : int
            Patches per channel.
        cls_position : {"cls_row", "first_channel"}
            See :meth:`positions`.

        Returns
        -------
        tokens : Tensor, shape (batch, 1 + n_chans * n_patches, embed_dim)
            CLS first; the final norm is not applied.
        """
        cls = self.cls_token.expand(len(patches), -1, -1)
        x = torch.cat((cls, patches.to(cls.dtype)), dim=1) + self.positions(n_patches, cls_position=cls_position)
        x = self.pos_drop(x)
        for block in self.blocks:
            x = block(x)
        return x
