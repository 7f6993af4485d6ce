"""EEGFoundation's classifier: RoFormer over the time of each channel, then attention between channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch.nn.functional as F
from braindecode.models.base import EEGModuleMixin
from torch import Tensor, nn

from mne_labram.models.eegfoundation.base import EEGFoundationMixin
from mne_labram.models.eegfoundation.encoder import ChannelFusion
from mne_labram.models.eegfoundation.official import build_classification
from mne_labram.models.labram.channels import ChannelBinding
from mne_labram.models.labram.inputs import with_arrays
from mne_labram.models.labram.transfer import around_encoder
from mne_labram.nn.initialization import fresh_head, initialize_spread
from mne_labram.nn.pooling import AttentionPooling

__all__ = ["EEGFoundationForClassification", "FusionHead"]

# Samples in the segments that tokens are averaged over before channels look at one another: one second.
_SEGMENT = 200
#: What ``pooling`` may be.
HEAD_POOLINGS = ("mean", "attention")


class FusionHead(nn.Module):
    """Tokens of all channels to one logit per class.

    Parameters
    ----------
    embed_dim : int
        Width of the encoder's tokens.
    n_outputs : int
        Number of classes.
    binding : ChannelBinding
        The channels.
    tokens_per_segment : int
        Tokens that are averaged before channels look at one another.
    head_dim, num_layers, num_heads : int
        Width, depth and heads of the attention between channels.
    pooling : {"mean", "attention"}
        How channels and segments become one vector.
    drop_prob, attn_drop_prob : float
        Dropout of outputs and of attention weights.
    activation : type of nn.Module
        Class of the activation.
    """

    def __init__(
        self,
        embed_dim: int,
        n_outputs: int,
        binding: ChannelBinding,
        *,
        tokens_per_segment: int,
        head_dim: int = 128,
        num_layers: int = 1,
        num_heads: int = 4,
        pooling: str = "mean",
        drop_prob: float = 0.0,
        attn_drop_prob: float = 0.0,
        activation: type[nn.Module] = nn.GELU,
    ) -> None:
        super().__init__()
        self.tokens_per_segment = tokens_per_segment
        self.proj = nn.Linear(embed_dim, head_dim)
        initialize_spread(self.proj)
        self.fusion = ChannelFusion(
            head_dim,
            binding,
            num_layers=num_layers,
            num_heads=num_heads,
            drop_prob=drop_prob,
            attn_drop_prob=attn_drop_prob,
            activation=activation,
        )
        self.norm = nn.LayerNorm(head_dim)
        self.pool = AttentionPooling(head_dim) if pooling == "attention" else None
        self.drop = nn.Dropout(drop_prob)
        self.linear = fresh_head(head_dim, n_outputs)

    def fuse(self, tokens: Tensor) -> Tensor:
        """Average tokens over segments, and let channels look at one another.

        Parameters
        ----------
        tokens : Tensor, shape (batch, n_chans, n_tokens, embed_dim)
            Of the encoder.

        Returns
        -------
        fused : Tensor, shape (batch, n_chans, n_segments, head_dim)
            Normalised. The last segment may be shorter.
        """
        rest = -tokens.shape[2] % self.tokens_per_segment
        counts = F.pad(tokens.new_ones(tokens.shape[2]), (0, rest)).unflatten(0, (-1, self.tokens_per_segment))
        sums = F.pad(tokens, (0, 0, 0, rest)).unflatten(2, (-1, self.tokens_per_segment)).sum(dim=3)
        return self.norm(self.fusion(self.proj(sums / counts.sum(dim=1).unsqueeze(1))))

    def forward(self, tokens: Tensor) -> Tensor:
        """Classify.

        Parameters
        ----------
        tokens : Tensor, shape (batch, n_chans, n_tokens, embed_dim)
            Of the encoder.

        Returns
        -------
        logits : Tensor, shape (batch, n_outputs)
            No softmax is applied.
        """
        fused = self.fuse(tokens).flatten(1, 2)
        return self.linear(self.drop(fused.mean(dim=1) if self.pool is None else self.pool(fused)))


class EEGFoundationForClassification(EEGFoundationMixin, EEGModuleMixin, nn.Module):
    r"""EEGFoundation for classification [eegfoundation]_.

    :bdg-danger:`Foundation Model` :bdg-info:`Attention/Transformer`

    A RoFormer reads the amplitude codes of every channel by itself, as in :class:`EEGFoundationForMaskedModeling`; the
    head averages its tokens over seconds, lets channels look at one another, each known by where it is, and classifies
    the mean. The published head attends over time only and mixes channels in one matrix of 52 million numbers that
    belongs to one montage and one length (:class:`mne_labram.models.eegfoundation.published.PublishedDownstream`);
    this one has 0.1 to 2 million and takes any montage.

    Parameters
    ----------
    n_outputs : int | None
        Number of classes; ``None`` takes the number of ``class_names``.
    n_chans : int | None
        Number of channels; only checked against the names.
    chs_info : list of dict | None
        ``info["chs"]``: the channels, if ``ch_names`` is None.
    n_times : int | None
        Samples in a window. The model takes any number of whole tokens up to ``max_patches``, whatever this is.
    input_window_seconds : float | None
        Length of a window in seconds.
    sfreq : float | None
        Sampling rate in Hz; must be 200 if given.
    ch_names : list of str | None
        Channels, in the order of the input. With ``EEGClassifier`` on plain arrays: ``module__ch_names=[...]``.
    size, embed_dim, num_layers, num_heads, hidden_dim
        Of the encoder; see :class:`EEGFoundationForMaskedModeling`.
    input, patch_size, max_patches, amplitude, limit, fusion_layers
        What goes into the encoder, and its own attention between channels; see
        :class:`EEGFoundationForMaskedModeling`.
    head_dim, head_layers, head_heads : int
        Width, depth and heads of the head's attention between channels; the heads must divide the width.
    pooling : {"mean", "attention"}
        How channels and seconds become one vector.
    spatial : {"coordinates", "names"}
        How channels are known: by where they are, both ends of a bipolar channel, or by their row in LaBraM's table.
    ch_positions : list of list of float | None
        Positions in metres, (n_chans, 3) or (n_chans, 6), instead of those of the names; ``"coordinates"`` only.
    drop_prob, attn_drop_prob, drop_path_prob : float
        Dropout of tokens and branch outputs, of attention weights, and of whole branches (in the encoder's last block).
    activation : type of nn.Module
        Class of the activation.
    class_names : list of str | None
        Names of the outputs; kept for those who write annotations.
    contract : SignalContract | dict | None
        How the signal was prepared, where it differs from the published preparation (0.3-75 Hz, notch, 200 Hz).

    Raises
    ------
    ValueError
        If no channel names are known, the window is not made of whole tokens, the sampling rate is not 200 Hz, or an
        option has a value that is not listed.

    References
    ----------
    .. [eegfoundation] EEGFoundation: A foundation model for tokenized spatial-temporal representation learning of
       electroencephalography signal data. https://github.com/DELTA-TJ-submission/EEGFoundation

    Examples
    --------
    >>> import torch
    >>> from mne_labram.models.eegfoundation import EEGFoundationForClassification
    >>> model = EEGFoundationForClassification(2, ch_names=["Fp1", "Cz"], size="tiny", input="patches")
    >>> model(20 * torch.randn(1, 2, 800)).shape
    torch.Size([1, 2])
    """

    def __init__(
        self,
        n_outputs: int | None = None,
        n_chans: int | None = None,
        chs_info: list[dict] | None = None,
        n_times: int | None = None,
        input_window_seconds: float | None = None,
        sfreq: float | None = None,
        ch_names: list[str] | None = None,
        size: str = "base",
        embed_dim: int | None = None,
        num_layers: int | None = None,
        num_heads: int | None = None,
        hidden_dim: int | None = None,
        input: str = "samples",  # noqa: A002
        patch_size: int | None = None,
        max_patches: int | None = None,
        amplitude: str = "minmax",
        limit: float = 500.0,
        fusion_layers: int = 0,
        head_dim: int = 128,
        head_layers: int = 1,
        head_heads: int = 4,
        pooling: str = "mean",
        spatial: str = "coordinates",
        ch_positions: list[list[float]] | None = None,
        drop_prob: float = 0.0,
        attn_drop_prob: float = 0.0,
        drop_path_prob: float = 0.0,
        activation: type[nn.Module] = nn.GELU,
        class_names: list[str] | None = None,
        contract: dict[str, Any] | None = None,
    ) -> None:
        if n_outputs is None and class_names is not None:
            n_outputs = len(class_names)
        super().__init__(
            n_outputs=n_outputs,
            n_chans=n_chans,
            chs_info=with_arrays(chs_info),
            n_times=n_times,
            input_window_seconds=input_window_seconds,
            sfreq=sfreq,
        )
        if pooling not in HEAD_POOLINGS:
            raise ValueError(f"pooling must be one of {', '.join(map(repr, HEAD_POOLINGS))}, got {pooling!r}.")
        if class_names is not None and len(class_names) != self.n_outputs:
            raise ValueError(f"There are {len(class_names)} class names for n_outputs={self.n_outputs}.")
        for name, value in {"head_dim": head_dim, "head_layers": head_layers, "head_heads": head_heads}.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        self.class_names = None if class_names is None else list(class_names)
        self.pooling = pooling
        binding = self._build_body(
            input=input,
            patch_size=patch_size,
            max_patches=max_patches,
            amplitude=amplitude,
            limit=limit,
            size=size,
            numbers={
                "embed_dim": embed_dim,
                "num_layers": num_layers,
                "num_heads": num_heads,
                "hidden_dim": hidden_dim,
            },
            fusion_layers=fusion_layers,
            activation=activation,
            signal={
                "n_chans": n_chans,
                "chs_info": chs_info,
                "ch_names": ch_names,
                "ch_positions": ch_positions,
                "spatial": spatial,
                "contract": contract,
            },
            dropout={"drop_prob": drop_prob, "attn_drop_prob": attn_drop_prob, "drop_path_prob": drop_path_prob},
        )
        self.final_layer = FusionHead(
            self.embed_dim,
            self.n_outputs,
            binding,
            tokens_per_segment=max(1, _SEGMENT // self.patch_size),
            head_dim=head_dim,
            num_layers=head_layers,
            num_heads=head_heads,
            pooling=pooling,
            drop_prob=drop_prob,
            attn_drop_prob=attn_drop_prob,
            activation=activation,
        )

    def forward(self, x: Tensor, return_features: bool = False) -> Tensor | dict[str, Tensor | None]:
        """Classify windows.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts at 200 Hz; 1 to ``max_patches`` whole tokens.
        return_features : bool
            Return tokens instead of logits.

        Returns
        -------
        logits : Tensor, shape (batch, n_outputs)
            No softmax is applied.
        features : dict
            If ``return_features``: ``"features"``, tokens of the encoder in channel-major order, shape
            (batch, n_chans * n_tokens, embed_dim); ``"cls_token"``, None; ``"fused"``, what the head makes of them,
            shape (batch, n_chans, n_seconds, head_dim).

        Raises
        ------
        ValueError
            If the shape is not that of the bound channels and whole tokens, or values are not finite.
        """
        tokens = self.encoder(self._codes(self._checked(x)))
        if return_features:
            return {"features": tokens.flatten(1, 2), "cls_token": None, "fused": self.final_layer.fuse(tokens)}
        return self.final_layer(tokens)

    def reset_head(self, n_outputs: int) -> None:
        """Replace the last matrix of the head by a fresh one; the attention between channels stays.

        Parameters
        ----------
        n_outputs : int
            New number of classes. Class names are kept if there are as many.
        """
        self._set_n_outputs(n_outputs)
        if self.class_names is not None and len(self.class_names) != n_outputs:
            self.class_names = None
            self._record(class_names=None)
        old = self.final_layer.linear.weight
        self.final_layer.linear = fresh_head(old.shape[1], n_outputs).to(old)

    @classmethod
    def from_encoder(cls, model: nn.Module, *, n_outputs: int | None = None, **options: Any) -> Self:
        """Put a fresh head onto the encoder of another EEGFoundation model.

        Parameters
        ----------
        model : EEGFoundationForMaskedModeling | EEGFoundationForClassification
            The pre-trained model; its weights are copied.
        n_outputs : int | None
            Number of classes.
        **options : Any
            Further arguments of the class; those that shape the encoder are the model's.

        Returns
        -------
        model : EEGFoundationForClassification
            In training mode, on the device of the other.

        Raises
        ------
        TypeError
            If the model is no EEGFoundation model.
        ValueError
            If an option makes another encoder of it.
        """
        if not isinstance(model, EEGFoundationMixin):
            raise TypeError(f"EEGFoundationForClassification has no use for the encoder of {type(model).__name__}.")
        if isinstance(model, cls):
            own = ("head_dim", "head_layers", "head_heads", "pooling")
            options = {**{name: model._braindecode_init_kwargs[name] for name in own}, **options}
        return around_encoder(cls, model, n_outputs=n_outputs, **options)

    @classmethod
    def from_official(
        cls,
        state_dict: Mapping[str, Tensor],
        *,
        ch_names: Sequence[str],
        n_times: int,
        sfreq: float = 200,
        n_outputs: int | None = None,
        num_heads: int | None = None,
        **options: Any,
    ) -> Self:
        """Put a fresh head onto weights of transformers' ``RoFormerForMaskedLM`` or ``RoFormerModel``.

        Parameters
        ----------
        state_dict : mapping of str to Tensor
            As for :meth:`EEGFoundationForMaskedModeling.from_official`; a head for masked modelling is left out.
        ch_names : sequence of str
            Channels of the signal.
        n_times : int
            Samples in a window.
        sfreq : float
            Sampling rate in Hz.
        n_outputs : int | None
            Number of classes; ``None`` takes the number of ``class_names``.
        num_heads : int | None
            Number of attention heads; ``None``: heads of the width of the table of positions, or of 64.
        **options : Any
            Further arguments of the class, e.g. ``amplitude`` or ``pooling``.

        Returns
        -------
        model : EEGFoundationForClassification
            In training mode, as a fresh one.

        Raises
        ------
        ValueError
            If a tensor is missing, unknown, of a wrong shape or not finite, the vocabulary is not the published one, or
            there is no number of classes.
        TypeError
            If ``state_dict`` does not map names to tensors.
        """
        options |= {"ch_names": list(ch_names), "n_times": n_times, "sfreq": sfreq, "num_heads": num_heads}
        return build_classification(cls, state_dict, n_outputs=n_outputs, **options)
