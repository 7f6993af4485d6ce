"""The transformer block of RoFormer: rotary positions, and a norm behind every branch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mne_labram.nn.attention import DropPath, FeedForward

__all__ = ["POST_NORM_EPS", "RotaryBlock", "RotarySelfAttention", "rotary_angles", "rotate"]

#: LayerNorm's epsilon in RoFormer (transformers, RoFormerConfig: layer_norm_eps=1e-12).
POST_NORM_EPS = 1e-12
# Ratio of the longest to the shortest wavelength of the angles (Su et al. 2021, section 3.3; there is no option).
_BASE = 10000.0


def rotary_angles(n_tokens: int, head_dim: int, *, device: torch.device | str | None = None) -> tuple[Tensor, Tensor]:
    """Compute by how much queries and keys are turned at each position.

    Parameters
    ----------
    n_tokens : int
        Number of positions, from 0.
    head_dim : int
        Width of a head; even.
    device : torch.device | str | None
        Where the angles are needed.

    Returns
    -------
    cosine, sine : Tensor, shape (n_tokens, head_dim / 2)
        Of the angle ``position * 10000 ** (-2 i / head_dim)`` of pair ``i`` (Su et al. 2021, arXiv:2104.09864,
        equation 15).

    Raises
    ------
    ValueError
        If ``head_dim`` is odd.
    """
    if head_dim % 2:
        raise ValueError(f"Rotary positions need heads of an even width, got {head_dim}.")
    # On the CPU: there are devices without float64.
    pairs = torch.arange(0, head_dim, 2, dtype=torch.float64, device="cpu")
    positions = torch.arange(n_tokens, dtype=torch.float64, device="cpu")
    angles = positions.unsqueeze(1) * _BASE ** (-pairs / head_dim)
    device = torch.get_default_device() if device is None else device
    return angles.cos().float().to(device), angles.sin().float().to(device)


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn every pair of neighbouring numbers by the angle of its position.

    Parameters
    ----------
    x : Tensor, shape (..., n_tokens, head_dim)
        Queries or keys.
    cosine, sine : Tensor, shape (n_tokens, head_dim / 2)
        From :func:`rotary_angles`.

    Returns
    -------
    x : Tensor, shape (..., n_tokens, head_dim)
        Turned: numbers 2i and 2i + 1 are a pair, as in the authors' code (Su et al. 2021, equation 34).
    """
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((even * cosine - odd * sine, odd * cosine + even * sine), dim=-1).flatten(-2)


class RotarySelfAttention(nn.Module):
    """Multi-head self-attention that knows how far tokens are apart.

    Parameters
    ----------
    embed_dim : int
        Width of a token.
    num_heads : int
        Number of heads, each of an even width.
    drop_prob, attn_drop_prob : float
        Dropout of the output and of the attention weights.

    Notes
    -----
    RoFormer (Su et al. 2021, arXiv:2104.09864) with ``rotary_value=False``: values are not turned. The maps to
    queries, keys and values have biases and lie in one matrix, in this order.
    """

    # What adapters look for: the bias is inside the map, so that they may stand beside it.
    q_bias: None = None

    def __init__(self, embed_dim: int, num_heads: int, *, drop_prob: float = 0.0, attn_drop_prob: float = 0.0) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise ValueError(f"num_heads ({num_heads}) must divide embed_dim ({embed_dim}).")
        self.num_heads, self.head_dim = num_heads, embed_dim // num_heads
        if self.head_dim % 2:
            raise ValueError(
                f"Rotary positions need heads of an even width, got {embed_dim} / {num_heads} = {self.head_dim}."
            )
        self.attn_drop_prob = float(attn_drop_prob)
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim)
        self.proj = nn.Linear(embed_dim, embed_dim)
        self.proj_drop = nn.Dropout(drop_prob)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """Attend from every token to every token.

        Parameters
        ----------
        x : Tensor, shape (batch, n_tokens, embed_dim)
            Tokens.
        cosine, sine : Tensor, shape (n_tokens, head_dim / 2)
            From :func:`rotary_angles`.

        Returns
        -------
        x : Tensor, shape (batch, n_tokens, embed_dim)
            Tokens.
        """
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, self.head_dim)).unbind(2)
        v = v.transpose(1, 2)
        # The angles are float32; under autocast the three must be of one type again.
        q, k = (rotate(part.transpose(1, 2), cosine, sine).to(v.dtype) for part in (q, k))
        out = F.scaled_dot_product_attention(q, k, v, dropout_p=self.attn_drop_prob if self.training else 0.0)
        return self.proj_drop(self.proj(out.transpose(1, 2).flatten(2)))


class RotaryBlock(nn.Module):
    """``x = norm1(x + attn(x))``, then ``x = norm2(x + mlp(x))``.

    Parameters
    ----------
    embed_dim, num_heads : int
        Width of a token, number of heads.
    hidden_dim : int
        Width inside the feed-forward part.
    drop_prob, attn_drop_prob, drop_path_prob : float
        Dropout of outputs, of attention weights, and of whole branches.
    activation : type of nn.Module
        Class of the activation.

    Notes
    -----
    With ``drop_path_prob=0`` it is ``RoFormerLayer`` of transformers; stochastic depth is ours.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        hidden_dim: int,
        *,
        drop_prob: float = 0.0,
        attn_drop_prob: float = 0.0,
        drop_path_prob: float = 0.0,
        activation: type[nn.Module] = nn.GELU,
    ) -> None:
        super().__init__()
        self.attn = RotarySelfAttention(embed_dim, num_heads, drop_prob=drop_prob, attn_drop_prob=attn_drop_prob)
        self.norm1 = nn.LayerNorm(embed_dim, eps=POST_NORM_EPS)
        self.mlp = FeedForward(embed_dim, hidden_dim, activation=activation, drop_prob=drop_prob)
        self.norm2 = nn.LayerNorm(embed_dim, eps=POST_NORM_EPS)
        self.drop_path = DropPath(drop_path_prob)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """Apply the block.

        Parameters
        ----------
        x : Tensor, shape (batch, n_tokens, embed_dim)
            Tokens.
        cosine, sine : Tensor, shape (n_tokens, head_dim / 2)
            From :func:`rotary_angles`.

        Returns
        -------
        x : Tensor, shape (batch, n_tokens, embed_dim)
            Tokens, normalised.
        """
        x = self.norm1(x + self.drop_path(self.attn(x, cosine, sine)))
        return self.norm2(x + self.drop_path(self.mlp(x)))
