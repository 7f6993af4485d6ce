"""NeuroStorm: LaBraM's encoder with a head that says, second by second, whether there is a seizure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from braindecode.models.base import EEGModuleMixin
from torch import Tensor, nn

from mne_labram.models.labram.base import LabramMixin
from mne_labram.models.labram.classification import LabramForClassification
from mne_labram.models.labram.inputs import batch_signal, with_arrays
from mne_labram.models.labram.sizes import resolve_size
from mne_labram.models.labram.transfer import around_encoder
from mne_labram.models.labram.transformer import LabramTransformer
from mne_labram.nn.initialization import fresh_head
from mne_labram.nn.pooling import AttentionPooling

__all__ = ["AMPLITUDES", "UNKNOWN", "UNKNOWN_TYPE", "NeuroStorm"]

#: What ``amplitude`` may be.
AMPLITUDES = ("absolute", "relative")
# Microvolts to which amplitude="relative" brings the typical channel of a window: what EEG at rest has between 0.5 and
# 45 Hz (10.5 µV, the median over the 48 recordings of EEGMAT of the standard deviation of the median channel), so that
# an encoder trained on microvolts gets what it knows.
_TYPICAL_RMS = 10.0
#: What the class of a patch is written as where nothing is known of it, and where it is a seizure of unknown type.
UNKNOWN, UNKNOWN_TYPE = -1, -2


class NeuroStorm(LabramMixin, EEGModuleMixin, nn.Module):
    r"""LaBraM's encoder with a seizure head.

    :bdg-danger:`Foundation Model` :bdg-info:`Attention/Transformer`

    Tokens of one-second patches of every channel, as in
    :class:`~mne_labram.models.labram.LabramForClassification`, are pooled over the channels by attention
    [pooling]_, so that every second has one vector, which is classified. The logits of a window are the mean of those
    of its seconds. Channels are known by where their electrodes are, both ends of a bipolar channel, so that
    referential and bipolar recordings are each read as they are.

    Nothing of the system that NeuroStorm is named after was published but a tokenizer: classifier and weights are
    missing from its repository. This architecture and its training are ours, and compatible with nothing else.

    Parameters
    ----------
    n_outputs : int | None
        Number of classes; ``None`` takes the number of ``class_names``, or 2. The first is the background.
    n_chans : int | None
        Number of channels; only checked against the names.
    chs_info : list of dict | None
        ``info["chs"]``: the channels, if ``ch_names`` is None.
    n_times : int | None
        Samples in a window. The model takes any number of whole patches up to ``max_patches``, whatever this is.
    input_window_seconds : float | None
        Length of a window in seconds.
    sfreq : float | None
        Sampling rate in Hz; must be 200 if given.
    ch_names : list of str | None
        Channels, in the order of the input, parsed as labels of a recording are. With ``EEGClassifier`` on plain
        arrays: ``module__ch_names=[...]``.
    size : {"base", "large", "huge", "small"}
        Configuration of the encoder, see :class:`~mne_labram.models.labram.LabramForClassification`.
    embed_dim, num_layers, num_heads : int | None
        Replace a number of the configuration.
    amplitude : {"absolute", "relative"}
        ``"relative"`` divides every window by the root mean square of its typical channel first, so that neither the
        unit nor the amplifier matters, and amplitude cannot stand in for shape.
    spatial : {"coordinates", "names"}
        A function of electrode positions, or a learned row for each name (referential only), as official weights have.
    ch_positions : list of list of float | None
        Positions in metres, (n_chans, 3) or (n_chans, 6), instead of those of the names; ``"coordinates"`` only.
    input_scale : float
        Microvolts per unit inside.
    patch_embed : {"conv", "conv+spectrum", "conv+periodogram"}
        How a patch becomes a token.
    patch_size : int
        Samples in a patch: one second.
    max_patches : int
        Longest window in patches.
    qk_norm, qkv_bias : bool
        Normalise queries and keys; learn a bias of queries and values.
    layer_scale : float | None
        Initial residual gain; ``None`` takes the configuration's, 0 has none.
    drop_prob, attn_drop_prob, drop_path_prob : float
        Dropout of tokens and branch outputs, of attention weights, and of whole branches (in the last block).
    activation : type of nn.Module
        Class of the activation in convolutions and feed-forward layers.
    class_names : list of str | None
        Names of the outputs, the background first: ``["bckg", "sz"]`` (which two outputs are called otherwise), or with
        types of seizures as SzCORE names them, ``["bckg", "sz_foc", "sz_gen"]``.
    detection : dict | None
        How its probabilities become events, as :func:`mne_labram.detect_seizures` reads it: ``"parameters"``,
        ``"operating_points"``, and on how much data they were found.
    contract : SignalContract | dict | None
        How the signal was prepared, where it differs from the official preparation.

    Raises
    ------
    ValueError
        If no channel names are known, a position is not, the window is not made of whole patches, the sampling rate is
        not 200 Hz, or an option has a value that is not listed.

    Notes
    -----
    ``forward`` warns once when a batch looks like volts, and raises ValueError on NaN.

    References
    ----------
    .. [pooling] Ilse, M., Tomczak, J., & Welling, M. (2018). Attention-based Deep Multiple Instance Learning.
       Proceedings of the 35th International Conference on Machine Learning, PMLR 80:2127-2136.

    Examples
    --------
    >>> import torch
    >>> from mne_labram.models import NeuroStorm
    >>> model = NeuroStorm(ch_names=["Fp1-F3", "F3-C3", "C3-P3"], n_times=1600)
    >>> model(torch.randn(1, 3, 1600)).shape, model.second_probabilities(torch.randn(1, 3, 1600)).shape
    (torch.Size([1, 2]), torch.Size([1, 8, 2]))
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
        size: str = "small",
        embed_dim: int | None = None,
        num_layers: int | None = None,
        num_heads: int | None = None,
        amplitude: str = "absolute",
        spatial: str = "coordinates",
        ch_positions: list[list[float]] | None = None,
        input_scale: float = 10.0,
        patch_embed: str = "conv+spectrum",
        patch_size: int = 200,
        max_patches: int = 16,
        qk_norm: bool = True,
        qkv_bias: bool = False,
        layer_scale: float | None = None,
        drop_prob: float = 0.0,
        attn_drop_prob: float = 0.0,
        drop_path_prob: float = 0.0,
        activation: type[nn.Module] = nn.GELU,
        class_names: list[str] | None = None,
        detection: dict[str, Any] | None = None,
        contract: dict[str, Any] | None = None,
    ) -> None:
        if n_outputs is None:
            n_outputs = 2 if class_names is None else len(class_names)
        super().__init__(
            n_outputs=n_outputs,
            n_chans=n_chans,
            chs_info=with_arrays(chs_info),
            n_times=n_times,
            input_window_seconds=input_window_seconds,
            sfreq=sfreq,
        )
        binding = self._prepare(
            n_chans=n_chans,
            chs_info=chs_info,
            ch_names=ch_names,
            ch_positions=ch_positions,
            spatial=spatial,
            patch_size=patch_size,
            max_patches=max_patches,
            input_scale=input_scale,
            contract=contract,
        )
        self._record(n_outputs=n_outputs)
        if amplitude not in AMPLITUDES:
            raise ValueError(f"amplitude must be one of {', '.join(map(repr, AMPLITUDES))}, got {amplitude!r}.")
        if n_outputs < 2:
            raise ValueError(f"A seizure head has two outputs or more, the background first; got {n_outputs}.")
        if class_names is not None and len(class_names) != n_outputs:
            raise ValueError(f"There are {len(class_names)} class names for n_outputs={n_outputs}.")
        self.class_names = ["bckg", "sz"] if n_outputs == 2 else None
        if class_names is not None:
            self.class_names = list(class_names)
        self.amplitude, self.detection = amplitude, detection
        numbers = resolve_size(size, embed_dim=embed_dim, num_layers=num_layers, num_heads=num_heads)
        self.encoder = self._build_encoder(
            binding,
            numbers,
            patch_embed=patch_embed,
            layer_scale=numbers.layer_scale if layer_scale is None else layer_scale,
            qkv_bias=qkv_bias,
            qk_norm=qk_norm,
            drop_prob=drop_prob,
            attn_drop_prob=attn_drop_prob,
            drop_path_prob=drop_path_prob,
            activation=activation,
        )
        self.pool = AttentionPooling(numbers.embed_dim)
        self.drop = nn.Dropout(drop_prob)
        self.final_layer = fresh_head(numbers.embed_dim, self.n_outputs)

    @property
    def detection(self) -> dict[str, Any] | None:
        """How probabilities become events; may be given to a model that exists, and goes with it into a checkpoint."""
        return self._detection

    @detection.setter
    def detection(self, detection: Mapping[str, Any] | None) -> None:
        self._detection = None if detection is None else dict(detection)
        self._record(detection=self._detection)

    def _checked(self, x: Tensor) -> Tensor:
        """Check a batch, and take its amplitude out where it is not to be used."""
        x = super()._checked(x)
        if self.amplitude == "absolute":
            return x
        # The median over channels: one bad electrode must not decide on the scale of all others.
        rms = x.square().mean(dim=2).sqrt().median(dim=1).values
        return x * (_TYPICAL_RMS / rms.clamp_min(1e-6))[:, None, None]

    def forward(self, x: Tensor, return_features: bool = False) -> Tensor | dict[str, Tensor]:
        """Classify windows.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts at 200 Hz; 1 to ``max_patches`` whole patches.
        return_features : bool
            Return tokens instead of logits.

        Returns
        -------
        logits : Tensor, shape (batch, n_outputs)
            Means over the seconds of the window; no softmax is applied.
        features : dict
            If ``return_features``: ``"features"``, normalised patch tokens in channel-major order, shape
            (batch, n_chans * n_patches, embed_dim), and ``"cls_token"``, shape (batch, embed_dim).

        Raises
        ------
        ValueError
            If the shape is not that of the bound channels and whole patches, or values are not finite.
        """
        x = self._checked(x)
        tokens = self.encoder.norm(self._encode(x))
        if return_features:
            return {"features": tokens[:, 1:], "cls_token": tokens[:, 0]}
        return self._classify(tokens, x.shape[1]).mean(dim=1)

    def second_logits(self, x: Tensor) -> Tensor:
        """Classify every second of windows.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts.

        Returns
        -------
        logits : Tensor, shape (batch, n_patches, n_outputs)
            One row per patch, that is per second at the usual ``patch_size``.

        Raises
        ------
        ValueError
            As :meth:`forward`.
        """
        x = self._checked(x)
        return self._classify(self.encoder.norm(self._encode(x)), x.shape[1])

    def second_probabilities(self, x: Tensor) -> Tensor:
        """Return the probability of each class in every second of windows.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts.

        Returns
        -------
        probabilities : Tensor, shape (batch, n_patches, n_outputs)
            They sum to 1; the first is that of the background.

        Raises
        ------
        ValueError
            As :meth:`forward`.
        """
        return torch.softmax(self.second_logits(x).float(), dim=-1)

    def _classify(self, tokens: Tensor, n_chans: int) -> Tensor:
        """Turn normalised tokens, CLS first, into logits of every patch."""
        by_second = tokens[:, 1:].unflatten(1, (n_chans, -1)).transpose(1, 2)
        return self.final_layer(self.drop(self.pool(by_second)))

    def training_step(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Compute the loss of a batch.

        Parameters
        ----------
        batch : mapping
            ``"x"``, shape (batch, n_chans, n_times) in microvolts; ``"y"``, shape (batch, n_patches), the class of
            every patch, -1 where it is not known, -2 for a seizure of unknown type; and, if the batch has other
            channels than the model, ``"ch_names"`` and, where the names do not tell where they are, ``"positions"``.

        Returns
        -------
        losses : dict of str to Tensor
            ``"loss"``, the mean over patches of which something is known: the cross-entropy, or for a seizure of
            unknown type minus the logarithm of the probability of any seizure; and, without gradient,
            ``"sensitivity"`` and ``"specificity"``, the shares of seizure and background patches that are taken for
            what they are; 0 where the batch has none.

        Raises
        ------
        ValueError
            If the batch does not fit the model, or no class is known.
        """
        x, ch_names, positions = batch_signal(batch)
        model = self if ch_names is None else self.bind_channels(ch_names, positions=positions)
        y = batch["y"].to(x.device)
        logits = model.second_logits(x)
        if y.shape != logits.shape[:2]:
            raise ValueError(
                f"Classes have the shape {tuple(y.shape)}; one for each patch is {tuple(logits.shape[:2])}."
            )
        known = y != UNKNOWN
        if not bool(known.any()):
            raise ValueError("The batch says of no patch what it is.")
        logarithms = F.log_softmax(logits.float(), dim=-1)
        # Of a seizure of unknown type: the sum over all types.
        any_type = torch.logsumexp(logarithms[..., 1:], dim=-1)
        own = logarithms.gather(-1, y.clamp_min(0).unsqueeze(-1)).squeeze(-1)
        loss = -torch.where(y == UNKNOWN_TYPE, any_type, own)[known].mean()
        found = logits.detach().argmax(dim=-1) > 0
        seizure, background = (y > 0) | (y == UNKNOWN_TYPE), y == 0
        return {
            "loss": loss,
            "sensitivity": (found & seizure).sum() / seizure.sum().clamp_min(1),
            "specificity": (~found & background).sum() / background.sum().clamp_min(1),
        }

    def reset_head(self, n_outputs: int) -> None:
        """Replace the head by a fresh one.

        Parameters
        ----------
        n_outputs : int
            New number of classes, 2 or more. Class names are kept if there are as many; ``detection`` is not, since it
            was measured with the old head.

        Raises
        ------
        ValueError
            If there are fewer than two.
        """
        if n_outputs == 1:
            raise ValueError("A seizure head has two outputs or more, the background first; got 1.")
        self._set_n_outputs(n_outputs)
        if self.class_names is None or len(self.class_names) != n_outputs:
            self.class_names = ["bckg", "sz"] if n_outputs == 2 else None
            self._record(class_names=None)
        self.detection = None
        old = self.final_layer.weight
        self.final_layer = fresh_head(old.shape[1], n_outputs).to(old)

    @classmethod
    def from_encoder(cls, model: nn.Module, *, n_outputs: int | None = None, **options: Any) -> Self:
        """Put a fresh head onto the encoder of one of our LaBraM models.

        Parameters
        ----------
        model : LabramForMaskedModeling | LabramTokenizer | LabramForClassification | NeuroStorm
            The pre-trained model; its weights are copied.
        n_outputs : int | None
            Number of classes.
        **options : Any
            Further arguments of the class; those that shape the encoder are the model's.

        Returns
        -------
        model : NeuroStorm
            In training mode, on the device of the other.

        Raises
        ------
        TypeError
            If the model is none of these.
        ValueError
            If an option makes another encoder of it.
        """
        if not isinstance(getattr(model, "encoder", None), LabramTransformer):
            raise TypeError(f"NeuroStorm takes the encoder of one of our LaBraM models, got a {type(model).__name__}.")
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
        num_heads: int = 10,
        **options: Any,
    ) -> Self:
        """Put a fresh seizure head onto LaBraM's official weights.

        Parameters
        ----------
        state_dict : mapping of str to Tensor
            As for :meth:`LabramForClassification.from_official`; a head in it is left out.
        ch_names : sequence of str
            Channels of the signal: referential ones, since the weights know channels by name.
        n_times : int
            Samples in a window.
        sfreq : float
            Sampling rate in Hz.
        n_outputs : int | None
            Number of classes.
        num_heads : int
            Number of attention heads; used only if the file has no query norm, whose shape tells it.
        **options : Any
            Further arguments of the class.

        Returns
        -------
        model : NeuroStorm
            In training mode.

        Raises
        ------
        ValueError
            If a tensor is missing, unknown, of a wrong shape or not finite.
        """
        body = LabramForClassification.from_official(
            state_dict, ch_names=ch_names, n_times=n_times, sfreq=sfreq, n_outputs=2, num_heads=num_heads
        )
        return cls.from_encoder(body, n_outputs=n_outputs, **options)
