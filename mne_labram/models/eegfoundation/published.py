"""EEGFoundation's classifier as published: one montage, one length, and embeddings that were computed before."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mne_labram.models.inputs import SignalMixin

__all__ = ["PublishedConfig", "PublishedDownstream"]

# EEGFoundation, src/models/utils.py: heads, dropout and epsilon of MultiHeadAttention; downstream_EEGFoundation.py:
# that of the normalisation.
_N_HEADS, _DROP_PROB, _NORM_EPS, _INPUT_EPS = 8, 0.1, 1e-6, 1e-5


@dataclass(frozen=True)
class PublishedConfig:
    """What a published configuration file says of the model.

    Parameters
    ----------
    seq_len : int
        Samples in a window.
    patch_size, stride : int
        Samples in a patch, and from one to the next.
    d_model : int
        Width of a token.
    num_classes, num_channel : int
        Classes and channels.
    rms_norm : bool
        Divide every channel by its root mean square; otherwise subtract its mean and divide by its standard deviation.
    embedding_dim, projection_embedding_dim : int
        Width of the embeddings that come in, and of what is added to the tokens, which must be ``d_model``.
    classification_dropout : float
        Dropout before the first matrix of the head.
    classification_hidden_dim : int
        Width inside the head.

    Raises
    ------
    ValueError
        If a number makes no model.

    Notes
    -----
    The defaults are those of the published class (EEGFoundation, downstream_EEGFoundation.py).
    """

    seq_len: int = 2000
    patch_size: int = 150
    stride: int = 1
    d_model: int = 512
    num_classes: int = 2
    num_channel: int = 20
    rms_norm: bool = False
    embedding_dim: int = 512
    projection_embedding_dim: int = 512
    classification_dropout: float = 0.5
    classification_hidden_dim: int = 512

    def __post_init__(self) -> None:
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            if name in ("rms_norm", "classification_dropout"):
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1_000_000:
                raise ValueError(f"{name} must be a whole number from 1, got {value!r}.")
        if not isinstance(self.rms_norm, bool):
            raise ValueError(f"rms_norm must be true or false, got {self.rms_norm!r}.")
        if self.seq_len < self.patch_size:
            raise ValueError(f"A window of {self.seq_len} samples holds no patch of {self.patch_size}.")
        if self.d_model % _N_HEADS:
            raise ValueError(f"d_model must be a multiple of {_N_HEADS}, got {self.d_model}.")
        if self.projection_embedding_dim != self.d_model:
            raise ValueError(
                f"projection_embedding_dim ({self.projection_embedding_dim}) must be d_model ({self.d_model}): one is "
                "added to the other."
            )
        drop_prob = self.classification_dropout
        if not isinstance(drop_prob, int | float) or not 0.0 <= drop_prob < 1.0:
            raise ValueError(f"classification_dropout must lie in [0, 1), got {drop_prob!r}.")

    @property
    def n_patches(self) -> int:
        """Patches of a channel; its last sample is repeated ``stride`` times first."""
        return (self.seq_len - self.patch_size) // self.stride + 2


class _Attention(nn.Module):
    """Attention over the patches of a channel, with the published names."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.w_qs = nn.Linear(width, width, bias=False)
        self.w_ks = nn.Linear(width, width, bias=False)
        self.w_vs = nn.Linear(width, width, bias=False)
        self.fc = nn.Linear(width, width, bias=False)
        self.layer_norm = nn.LayerNorm(width, eps=_NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            layer(x).unflatten(-1, (_N_HEADS, -1)).transpose(1, 2) for layer in (self.w_qs, self.w_ks, self.w_vs)
        )
        drop_prob = _DROP_PROB if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, v, dropout_p=drop_prob).transpose(1, 2).flatten(2)
        return self.layer_norm(F.dropout(self.fc(out), drop_prob) + x)


class PublishedDownstream(SignalMixin, nn.Module):
    """The published classifier, function and names of its tensors.

    Parameters
    ----------
    config : PublishedConfig
        Its sizes.

    Notes
    -----
    EEGFoundation, src/models/downstream_EEGFoundation.py. Channels meet in one matrix only, whose rows belong to the
    channels and patches of ``config``; :class:`EEGFoundationForClassification` is free of both.
    """

    def __init__(self, config: PublishedConfig) -> None:
        super().__init__()
        self.config = config
        self.in_layer = nn.Linear(config.patch_size, config.d_model)
        self.basic_attn = _Attention(config.d_model)
        self.projection_embedding = nn.Linear(config.embedding_dim, config.projection_embedding_dim)
        hidden = config.classification_hidden_dim
        self.classification_head = nn.Sequential(
            nn.Dropout(config.classification_dropout),
            nn.Linear(config.d_model * config.n_patches * config.num_channel, hidden),
            nn.BatchNorm1d(hidden),
            nn.GELU(),
            nn.Linear(hidden, config.num_classes),
        )

    def forward(self, input_ids: Tensor, embedding_data: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Classify windows.

        Parameters
        ----------
        input_ids : Tensor, shape (batch, num_channel, seq_len)
            The signal in microvolts, whatever the name says. Every channel is normalised, but 1e-5 is added to its
            variance, beside which a signal in volts is nothing; a warning says so.
        embedding_data : Tensor, shape (batch, embedding_dim) or (batch, num_channel, embedding_dim)
            Embeddings of the windows, as :class:`mne_labram.EEGEmbedding` gives them (``pooling="mean"`` or
            ``"cls"``), or of their channels.
        labels : Tensor of int64, shape (batch,) | None
            Classes.

        Returns
        -------
        outputs : dict
            ``"logits"``, shape (batch, num_classes), and ``"loss"``, the cross-entropy, if there are labels, else None.

        Raises
        ------
        ValueError
            If a shape does not fit, or values are not finite.
        """
        config = self.config
        if input_ids.ndim != 3 or tuple(input_ids.shape[1:]) != (config.num_channel, config.seq_len):
            raise ValueError(
                f"input_ids must have the shape (batch, {config.num_channel}, {config.seq_len}), as the configuration "
                f"says, got {tuple(input_ids.shape)}."
            )
        shapes = {(len(input_ids), config.embedding_dim), (len(input_ids), config.num_channel, config.embedding_dim)}
        if tuple(embedding_data.shape) not in shapes:
            raise ValueError(
                f"embedding_data must have the shape {(len(input_ids), config.embedding_dim)} or one vector per "
                f"channel, got {tuple(embedding_data.shape)}."
            )
        for name, value in {"input_ids": input_ids, "embedding_data": embedding_data}.items():
            if not bool(torch.isfinite(value).all()):
                raise ValueError(f"{name} holds NaN or infinite values.")
        self._look_at(input_ids)
        x = input_ids.float()
        if not config.rms_norm:
            x = x - x.mean(dim=2, keepdim=True)
        x = x / (x.square().mean(dim=2, keepdim=True) + _INPUT_EPS).sqrt()
        x = F.pad(x, (0, config.stride), mode="replicate").unfold(2, config.patch_size, config.stride)
        embedding = self.projection_embedding(embedding_data.float())
        embedding = embedding[:, None, None] if embedding.ndim == 2 else embedding[:, :, None]
        tokens = self.in_layer(x) + embedding
        tokens = self.basic_attn(tokens.flatten(0, 1)).unflatten(0, (len(x), config.num_channel))
        logits = self.classification_head(tokens.flatten(1))
        return {"logits": logits, "loss": None if labels is None else F.cross_entropy(logits, labels)}
