"""The transformer block of LaBraM: pre-norm attention and feed-forward, each behind an optional layer scale."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["DropPath", "FeedForward", "SelfAttention", "TransformerBlock"]

#: LayerNorm's epsilon in every official LaBraM model (LaBraM, modeling_finetune.py: partial(nn.LayerNorm, eps=1e-6)).
LAYER_NORM_EPS = 1e-6


class DropPath(nn.Module):
    """Drop a residual branch for whole samples (stochastic depth, Huang et al. 2016, arXiv:1603.09382).

    Parameters
    ----------
    drop_prob : float
        Probability that a sample skips the branch while training; surviving branches are scaled by
        ``1 / (1 - drop_prob)``.
    """

    def __init__(self, drop_prob: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= drop_prob < 1.0:
            raise ValueError(f"drop_prob must lie in [0, 1), got {drop_prob}.")
        self.drop_prob = float(drop_prob)

    def forward(self, x: Tensor) -> Tensor:
        """Return the branch, with some samples set to zero while training.

        Parameters
        ----------
        x : Tensor, shape (batch, ...)
            Output of a residual branch.

        Returns
        -------
        x : Tensor, shape (batch, ...)
            The same, dropped and scaled.
        """
        if self.drop_prob == 0.0 or not self.training:
            return x
        keep = 1.0 - self.drop_prob
        kept = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
        return x * kept.div_(keep)

    def extra_repr(self) -> str:
        """Show the probability."""
        return f"drop_prob={self.drop_prob}"


class SelfAttention(nn.Module):
    """Multi-head self-attention with the official parameter names.

    Parameters
    ----------
    embed_dim : int
        Width of a token.
    num_heads : int
        Number of heads; must divide ``embed_dim``.
    qkv_bias : bool
        Learn a bias for queries and values. Keys have none: it would cancel in the softmax.
    qk_norm : bool
        Normalise queries and keys over the head dimension before their product.
    drop_prob, attn_drop_prob : float
        Dropout of the output and of the attention weights.

    Notes
    -----
    LaBraM, modeling_finetune.py, class Attention (after BEiT v2, Peng et al. 2022, arXiv:2208.06366). The product is
    scaled by ``head_dim ** -0.5``, which is the default of :func:`torch.nn.functional.scaled_dot_product_attention`.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        qkv_bias: bool = False,
        qk_norm: bool = True,
        drop_prob: float = 0.0,
        attn_drop_prob: float = 0.0,
    ) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise ValueError(f"num_heads ({num_heads}) must divide embed_dim ({embed_dim}).")
        self.num_heads = num_heads
        self.head_dim = embed_dim // num_heads
        self.attn_drop_prob = float(attn_drop_prob)
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(embed_dim)) if qkv_bias else None
        self.v_bias = nn.Parameter(torch.zeros(embed_dim)) if qkv_bias else None
        self.q_norm = nn.LayerNorm(self.head_dim, eps=LAYER_NORM_EPS) if qk_norm else None
        self.k_norm = nn.LayerNorm(self.head_dim, eps=LAYER_NORM_EPS) if qk_norm else None
        self.proj = nn.Linear(embed_dim, embed_dim)
        self.proj_drop = nn.Dropout(drop_prob)

    def forward(self, x: Tensor) -> Tensor:
        """Attend from every token to every token.

        Parameters
        ----------
        x : Tensor, shape (batch, n_tokens, embed_dim)
            Tokens.

        Returns
        -------
        x : Tensor, shape (batch, n_tokens, embed_dim)
            Tokens.
        """
        batch, n_tokens, _ = x.shape
        if self.q_bias is None:
            # The module is called, and not its weight taken, so that an adapter around it (LoRA) takes part.
            qkv = self.qkv(x)
        else:
            qkv = F.linear(x, self.qkv.weight, torch.cat((self.q_bias, torch.zeros_like(self.v_bias), self.v_bias)))
        q, k, v = qkv.view(batch, n_tokens, 3, self.num_heads, self.head_dim).unbind(2)
        if self.q_norm is not None:
            # Under autocast a LayerNorm returns float32, but the three must be of one type.
            q, k = self.q_norm(q).to(v.dtype), self.k_norm(k).to(v.dtype)
        out = F.scaled_dot_product_attention(
            q.transpose(1, 2),
            k.transpose(1, 2),
            v.transpose(1, 2),
            dropout_p=self.attn_drop_prob if self.training else 0.0,
        )
        return self.proj_drop(self.proj(out.transpose(1, 2).reshape(batch, n_tokens, -1)))


class FeedForward(nn.Module):
    """Two linear maps with an activation between them.

    Parameters
    ----------
    embed_dim, hidden_dim : int
        Widths outside and inside.
    activation : type of nn.Module
        Class of the activation; officially the exact GELU.
    drop_prob : float
        Dropout of the output. There is none inside (LaBraM, modeling_finetune.py, class Mlp).
    """

    def __init__(
        self, embed_dim: int, hidden_dim: int, *, activation: type[nn.Module] = nn.GELU, drop_prob: float = 0.0
    ) -> None:
        super().__init__()
        self.fc1 = nn.Linear(embed_dim, hidden_dim)
        self.act = activation()
        self.fc2 = nn.Linear(hidden_dim, embed_dim)
        self.drop = nn.Dropout(drop_prob)

    def forward(self, x: Tensor) -> Tensor:
        """Map every token by itself.

        Parameters
        ----------
        x : Tensor, shape (..., embed_dim)
            Tokens.

        Returns
        -------
        x : Tensor, shape (..., embed_dim)
            Tokens.
        """
        return self.drop(self.fc2(self.act(self.fc1(x))))


class TransformerBlock(nn.Module):
    """``x + g1 * attn(norm1(x))``, then ``x + g2 * mlp(norm2(x))``.

    Parameters
    ----------
    embed_dim, num_heads : int
        Width of a token, number of heads.
    mlp_ratio : float
        Hidden width of the feed-forward part, in units of ``embed_dim``.
    qkv_bias, qk_norm : bool
        See :class:`SelfAttention`.
    layer_scale : float | None
        Initial value of the learned gains g1 and g2 (LayerScale, Touvron et al. 2021, arXiv:2103.17239); ``None``
        or 0 leaves them out.
    drop_prob, attn_drop_prob, drop_path_prob : float
        Dropout of outputs, of attention weights, and of whole branches.
    activation : type of nn.Module
        Class of the activation.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = False,
        qk_norm: bool = True,
        layer_scale: float | None = 0.1,
        drop_prob: float = 0.0,
        attn_drop_prob: float = 0.0,
        drop_path_prob: float = 0.0,
        activation: type[nn.Module] = nn.GELU,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dim, eps=LAYER_NORM_EPS)
        self.attn = SelfAttention(
            embed_dim,
            num_heads,
            qkv_bias=qkv_bias,
            qk_norm=qk_norm,
            drop_prob=drop_prob,
            attn_drop_prob=attn_drop_prob,
        )
        self.norm2 = nn.LayerNorm(embed_dim, eps=LAYER_NORM_EPS)
        self.mlp = FeedForward(embed_dim, int(embed_dim * mlp_ratio), activation=activation, drop_prob=drop_prob)
        self.drop_path = DropPath(drop_path_prob)
        self.gamma_1 = nn.Parameter(torch.full((embed_dim,), float(layer_scale))) if layer_scale else None
        self.gamma_2 = nn.Parameter(torch.full((embed_dim,), float(layer_scale))) if layer_scale else None

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block.

        Parameters
        ----------
        x : Tensor, shape (batch, n_tokens, embed_dim)
            Tokens.

        Returns
        -------
        x : Tensor, shape (batch, n_tokens, embed_dim)
            Tokens.
        """
        branch = self.attn(self.norm1(x))
        x = x + self.drop_path(branch if self.gamma_1 is None else self.gamma_1 * branch)
        branch = self.mlp(self.norm2(x))
        return x + self.drop_path(branch if self.gamma_2 is None else self.gamma_2 * branch)
