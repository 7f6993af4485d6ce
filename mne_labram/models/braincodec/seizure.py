"""Seizures, second by second, from the latents of a codec's encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import torch
import torch.nn.functional as F
from braindecode.models.base import EEGModuleMixin
from torch import Tensor, nn

from mne_labram.models.braincodec.encoding import EncodingMixin
from mne_labram.models.braincodec.fusion import AttentionFusion, ConvolutionFusion
from mne_labram.models.braincodec.official import encoder_sizes, encoder_state
from mne_labram.models.braincodec.seconds import SecondsMixin
from mne_labram.models.labram.inputs import with_arrays
from mne_labram.models.neurostorm import AMPLITUDES
from mne_labram.nn.lapped_transform import LappedAnalysis
from mne_labram.nn.seanet import SEANetEncoder
from mne_labram.nn.state import load_strict
from mne_labram.signal.contract import SignalContract

__all__ = ["FUSIONS", "HEADS", "BrainCodecForSeizure"]

#: What ``fusion`` and ``head`` may be.
FUSIONS, HEADS = ("attention", "conv"), ("second", "window")
# Microvolts that latents have about unit variance at, where the encoder knows no levels (see NeuroStorm).
_TYPICAL_RMS = 10.0
# The published window in seconds, and the longest that a contract allows.
_SECONDS, _LONGEST = 4, 60


class BrainCodecForSeizure(SecondsMixin, EncodingMixin, EEGModuleMixin, nn.Module):
    r"""A codec's encoder with a head that says, second by second, whether there is a seizure.

    :bdg-danger:`Foundation Model` :bdg-success:`Convolution`

    The encoder of :class:`~mne_labram.BrainCodec`, trained to code EEG and frozen or not, turns every channel into
    latents. What all channels show together is fused, pooled in time, and classified. No weights were ever published.

    ``fusion="conv", head="window", sfreq=512, n_times=2048`` and 18 channels are the published classifier
    [classifier]_, with its axes in order (:class:`mne_labram.models.braincodec.fusion.ConvolutionFusion`). The defaults
    take any number of channels and seconds.

    Parameters
    ----------
    n_outputs : int | None
        1: the logit of a seizure, as published; 2 or more: one logit per class, the background first. ``None`` takes
        the number of ``class_names`` if there are more than two, or 1.
    n_chans : int | None
        Number of channels; needed with ``fusion="conv"`` if there are no names, otherwise only checked.
    chs_info : list of dict | None
        ``info["chs"]``: the channels, if ``ch_names`` is None.
    n_times : int | None
        Samples in a window; ``None`` with ``head="window"``: those of 4 s, which are the seconds that are classified at
        once. The model takes any whole number of seconds up to 60, whatever this is.
    input_window_seconds : float | None
        Length of a window in seconds.
    sfreq : float | None
        Sampling rate, a whole number of Hz; ``None``: the contract's, or 200.
    ch_names : list of str | None
        Channels, in the order of the input; referential or bipolar. The head of ``fusion="conv"`` knows them by name.
    ratios, n_filters, max_filters, dim, n_residual_layers, dilation_base, compress
        Sizes of the encoder, see :class:`~mne_labram.BrainCodec`; the published classifier's has four strides of 2.
    kernel_size, last_kernel_size, residual_kernel_size, linear_path, gain, input_scale, activation
        As of the codec that the encoder comes from. With ``gain``, latents get the level of
        the signal back before they are classified, since how large a wave is tells a seizure.
    amplitude : {"absolute", "relative"}
        Microvolts as they are, as published; or relative to the median root mean square of all channels of the window,
        so that neither the unit nor the amplifier matters, and amplitude cannot stand in for shape.
    freeze_encoder : bool
        Leave the encoder's weights as they are.
    fusion : {"attention", "conv"}
        How channels come together: by attention, for any number of them in any order; or by a convolution over a fixed
        number, as published.
    head : {"second", "window"}
        Classify each second by itself, beside the mean over the window; or, as published, the seconds of a window of
        fixed length at once, of which longer windows are made.
    bins_per_second : int | None
        Largest values that ``fusion="conv"`` keeps per second; ``None``: one for every two frames, as published.
    hidden_dim : int
        Width of the head.
    drop_prob : float
        Dropout in the head.
    class_weights : list of float | None
        Weight in the loss of a second of each class, the background first; ``None``: 1 each.
    conv_ch_names : list of str | None
        Channels of the convolution, where the model is bound to some of them only.
    class_names : list of str | None
        Names of the classes, the background first; ``None``: ``["bckg", "sz"]`` if there are two.
    detection : dict | None
        How its probabilities become events, as :func:`mne_labram.detect_seizures` reads it.
    contract : SignalContract | dict | None
        How the signal was prepared, as for the codec.

    Raises
    ------
    ValueError
        If an option has a value that is not listed, sizes make no network, the rate is no whole number, the window is
        not made of whole seconds, or the convolution's channels are not known.

    Notes
    -----
    ``forward`` warns once when a batch looks like volts, and raises ValueError on NaN.

    References
    ----------
    .. [classifier] https://github.com/SteKron/encoder-based-seizure-classifier

    Examples
    --------
    >>> import torch
    >>> from mne_labram.models import BrainCodecForSeizure
    >>> model = BrainCodecForSeizure(ch_names=["Fp1-F3", "F3-C3", "C3-P3"], n_times=800)
    >>> model(torch.randn(1, 3, 800)).shape, model.second_probabilities(torch.randn(1, 3, 800)).shape
    (torch.Size([1, 1]), torch.Size([1, 4, 2]))
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
        ratios: Sequence[int] = (2, 2, 2, 2),
        n_filters: int = 16,
        max_filters: int = 256,
        dim: int = 64,
        n_residual_layers: int = 1,
        dilation_base: int = 2,
        compress: int = 2,
        kernel_size: int = 3,
        last_kernel_size: int = 3,
        residual_kernel_size: int = 3,
        linear_path: bool = False,
        gain: bool = False,
        input_scale: float = 1.0,
        activation: type[nn.Module] = nn.ELU,
        amplitude: str = "absolute",
        freeze_encoder: bool = True,
        fusion: str = "attention",
        head: str = "second",
        bins_per_second: int | None = None,
        hidden_dim: int = 128,
        drop_prob: float = 0.0,
        class_weights: list[float] | None = None,
        conv_ch_names: list[str] | None = None,
        class_names: list[str] | None = None,
        detection: dict[str, Any] | None = None,
        contract: dict[str, Any] | None = None,
    ) -> None:
        if n_outputs is None:
            n_outputs = 1 if class_names is None or len(class_names) == 2 else len(class_names)
        super().__init__(
            n_outputs=n_outputs,
            n_chans=n_chans,
            chs_info=with_arrays(chs_info),
            n_times=n_times,
            input_window_seconds=input_window_seconds,
            sfreq=sfreq,
        )
        for name, value, known in (
            ("fusion", fusion, FUSIONS),
            ("head", head, HEADS),
            ("amplitude", amplitude, AMPLITUDES),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}.")
        self.head_kind, self.n_seconds, self.amplitude = head, None, amplitude
        self._settle_signal(chs_info, ch_names, input_scale, contract)
        self._settle_window()
        self._settle_classes(n_outputs, class_names, class_weights)
        self.detection, self.gain, self.freeze_encoder = detection, bool(gain), bool(freeze_encoder)
        self.encoder = SEANetEncoder(
            ratios,
            n_filters=n_filters,
            max_filters=max_filters,
            dim=dim,
            n_residual_layers=n_residual_layers,
            dilation_base=dilation_base,
            compress=compress,
            kernel_size=kernel_size,
            last_kernel_size=last_kernel_size,
            residual_kernel_size=residual_kernel_size,
            activation=activation,
        )
        self.linear_encoder = LappedAnalysis(dim, self.encoder.stride) if linear_path else None
        for part in (self.encoder, self.linear_encoder):
            if part is not None and freeze_encoder:
                part.requires_grad_(False)
        self.fusion = self._build_fusion(fusion, dim, bins_per_second, hidden_dim, conv_ch_names)
        n_in = self.fusion.width * self.fusion.bins_per_second * (2 if self.n_seconds is None else self.n_seconds)
        self.mlp = nn.Sequential(
            nn.Linear(n_in, hidden_dim),
            nn.ReLU(),
            nn.Dropout(drop_prob),
            nn.Linear(hidden_dim, hidden_dim),
            nn.ReLU(),
            nn.Dropout(drop_prob),
        )
        self.final_layer = self._fresh_head(hidden_dim)
        self._record(ratios=[int(ratio) for ratio in ratios], n_outputs=n_outputs)

    def _settle_window(self) -> None:
        """Find how many seconds a window of fixed length has."""
        try:
            n_times = self.n_times
        except ValueError:
            n_times = None if self.head_kind == "second" else _SECONDS * round(self.sfreq)
            self._n_times = n_times
            self._record(n_times=n_times)
        if n_times is None:
            return
        n_seconds = self._whole_seconds(n_times)
        if self.head_kind == "window":
            self.n_seconds = n_seconds

    def _build_fusion(
        self, fusion: str, dim: int, bins: int | None, width: int, conv_ch_names: Sequence[str] | None
    ) -> AttentionFusion | ConvolutionFusion:
        """Build what sees the channels together."""
        if fusion == "attention":
            return AttentionFusion(dim, width, int(self.gain))
        if bins is None:
            bins = max(1, round(self.sfreq / self.stride) // 2)
        names = list(self.ch_names if conv_ch_names is None else conv_ch_names)
        if not (names or self._n_chans):
            raise ValueError(
                "A convolution over channels must know them: pass ch_names=[...] or chs_info=info['chs'], or take "
                "fusion='attention', which reads any channels."
            )
        layer = ConvolutionFusion(dim, names or self._n_chans, bins, int(self.gain))
        if names:
            self._record(conv_ch_names=names)
        return layer.bound(self.ch_names) if self.ch_names else layer

    def _fresh_head(self, hidden_dim: int) -> nn.Linear:
        """Make the last layer."""
        return nn.Linear(hidden_dim, self.n_outputs * (1 if self.n_seconds is None else self.n_seconds))

    @property
    def contract(self) -> SignalContract:
        """The signal this model may be fed: the codec's, in windows of whole seconds."""
        if self.sfreq % 1:
            raise ValueError(f"Seconds must be whole numbers of samples, and sfreq is {self.sfreq:g} Hz; resample.")
        return replace(super().contract, patch_samples=round(self.sfreq), max_patches=_LONGEST)

    def bind_channels(self, ch_names: Sequence[str], positions: Any = None) -> Self:
        """Return this model for other channels.

        Parameters
        ----------
        ch_names : sequence of str
            Channel names, in the order of the input. With ``fusion="conv"``, at least half of the convolution's, in any
            order; what is missing adds nothing.
        positions : array-like | None
            Not used.

        Returns
        -------
        model : BrainCodecForSeizure
            Shares every parameter with this one. This model is not changed.

        Raises
        ------
        ValueError
            If the convolution cannot read these channels.
        TypeError
            If ``ch_names`` is a single string.
        """
        new = super().bind_channels(ch_names, positions)
        if isinstance(self.fusion, ConvolutionFusion):
            new.fusion = self.fusion.bound(new.ch_names)
        return new

    def _readable(self, ch_names: Sequence[str]) -> list[int]:
        """Say which channels the convolution knows."""
        own = getattr(self.fusion, "ch_names", None)
        return [i for i, name in enumerate(ch_names) if own is None or name in own]

    def _whole_seconds(self, n_times: int) -> int:
        """Count the seconds in a window, or refuse it."""
        sfreq = round(self.sfreq)
        n_seconds, rest = divmod(n_times, sfreq)
        if rest or not 1 <= n_seconds <= _LONGEST:
            raise ValueError(
                f"A window must be 1 to {_LONGEST} whole seconds of {sfreq} samples, got {n_times} samples."
            )
        return n_seconds

    def _checked(self, x: Tensor) -> Tensor:
        """Check a batch and return it in the model's number format."""
        x = super()._checked(x)
        n_chans = len(self.ch_names) or (self._n_chans if isinstance(self.fusion, ConvolutionFusion) else None)
        if n_chans is not None and x.shape[1] != n_chans:
            raise ValueError(
                f"Input has {x.shape[1]} channels, but {type(self).__name__} is bound to {n_chans}; "
                "use bind_channels for another montage."
            )
        self._whole_seconds(x.shape[2])
        if self.amplitude == "absolute":
            return x
        # The median over channels, as in NeuroStorm: one bad electrode must not decide on the scale of all others.
        rms = x.square().mean(dim=2).sqrt().median(dim=1).values
        return x * (_TYPICAL_RMS / rms.clamp_min(1e-6))[:, None, None]

    def _encoded(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Compute latents of checked input, at the level of the signal, and levels where the encoder does without."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze_encoder):
            normal, scale = self._normalized(x)
            # In float32 under autocast too: what follows squares them and takes the logarithm.
            latents = self._latents(normal).float()
            if not self.gain:
                return latents, None
            return latents * (scale / _TYPICAL_RMS)[..., None, None], torch.log10(scale).unsqueeze(2)

    def _classify(self, latents: Tensor, levels: Tensor | None, n_seconds: int) -> Tensor:
        """Turn latents into logits, shape (batch, n_seconds, n_outputs)."""
        fused = self.fusion(latents, levels, n_seconds)
        if self.n_seconds is None:
            seconds = fused.unflatten(2, (n_seconds, -1)).transpose(1, 2).flatten(2)
            around = seconds.mean(dim=1, keepdim=True).expand_as(seconds)
            return self.final_layer(self.mlp(torch.cat((seconds, around), dim=2)))
        # Windows of another length are cut into those of the head; after the end follows nothing.
        missing = -n_seconds % self.n_seconds
        fused = F.pad(fused, (0, missing * self.fusion.bins_per_second))
        pieces = fused.unflatten(2, (-1, self.n_seconds * self.fusion.bins_per_second)).transpose(1, 2)
        logits = self.final_layer(self.mlp(pieces.flatten(2)))
        return logits.unflatten(2, (self.n_seconds, -1)).flatten(1, 2)[:, :n_seconds]

    def forward(self, x: Tensor, return_features: bool = False) -> Tensor | dict[str, Tensor | None]:
        """Classify windows.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts, whole seconds.
        return_features : bool
            Return latents instead of logits.

        Returns
        -------
        logits : Tensor, shape (batch, n_outputs)
            Means over the seconds of the window; neither sigmoid nor softmax is applied.
        features : dict
            If ``return_features``: ``"features"``, latents, shape (batch, n_chans * n_frames, dim), and
            ``"cls_token"``, None.

        Raises
        ------
        ValueError
            If the shape is not that of the bound channels and whole seconds, or values are not finite.
        """
        x = self._checked(x)
        latents, levels = self._encoded(x)
        if return_features:
            return {"features": latents.flatten(1, 2), "cls_token": None}
        return self._classify(latents, levels, self._whole_seconds(x.shape[2])).mean(dim=1)

    def second_logits(self, x: Tensor) -> Tensor:
        """Classify every second of windows.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts, whole seconds.

        Returns
        -------
        logits : Tensor, shape (batch, n_seconds, n_outputs)
            The logit of a seizure, or one per class.

        Raises
        ------
        ValueError
            As :meth:`forward`.
        """
        x = self._checked(x)
        return self._classify(*self._encoded(x), self._whole_seconds(x.shape[2]))

    def reset_head(self, n_outputs: int) -> None:
        """Replace the last layer by a fresh one.

        Parameters
        ----------
        n_outputs : int
            New number of outputs. Class names and weights are kept if there are as many classes; ``detection`` is not,
            since it was measured with the old head.

        Raises
        ------
        ValueError
            If there is none.
        """
        self._set_n_outputs(n_outputs)
        if self.class_names is None or len(self.class_names) != max(2, n_outputs):
            self.class_names = ["bckg", "sz"] if n_outputs <= 2 else None
            self.class_weights = None
            self._record(class_names=None)
        self.detection = None
        old = self.final_layer.weight
        self.final_layer = self._fresh_head(old.shape[1]).to(old)

    @classmethod
    def from_encoder(cls, codec: nn.Module, **options: Any) -> Self:
        """Put a fresh head onto the encoder of a codec.

        Parameters
        ----------
        codec : BrainCodec | BrainCodecForSeizure
            The trained model; its encoder's weights are copied.
        **options : Any
            Further arguments of the class; those that shape the encoder are the codec's.

        Returns
        -------
        model : BrainCodecForSeizure
            In training mode, on the device of the codec.

        Raises
        ------
        ValueError
            If an option contradicts the codec.
        """
        own = codec._encoder_arguments()
        for name, value in own.items():
            if options.get(name, value) != value:
                raise ValueError(f"The codec has {name}={value!r}, not {options[name]!r}.")
        signal = {"sfreq": codec.sfreq, "ch_names": list(codec.ch_names) or None}
        contract = dict(codec._contract_fields) or None
        new = cls(**{**signal, "contract": contract, **own, **options})
        new.to(codec.encoder.last.weight)
        load_strict(new.encoder, codec.encoder.state_dict(), source="The codec's encoder")
        if new.linear_encoder is not None:
            load_strict(new.linear_encoder, codec.linear_encoder.state_dict(), source="The codec's linear encoder")
        return new

    @classmethod
    def from_official(
        cls,
        state_dict: Mapping[str, Tensor],
        *,
        ratios: Sequence[int] | None = None,
        sfreq: float = 512,
        **options: Any,
    ) -> Self:
        """Put a fresh head onto the encoder in a checkpoint of BrainCodec's authors.

        Parameters
        ----------
        state_dict : mapping of str to Tensor
            Weights of a codec, of which all but the encoder's are left out, or of an encoder alone (``model.*``); see
            :meth:`BrainCodec.from_official`.
        ratios : sequence of int | None
            Strides of the codec's decoder, in order; ``None`` reads them off the kernels.
        sfreq : float
            Sampling rate in Hz.
        **options : Any
            Further arguments of the class.

        Returns
        -------
        model : BrainCodecForSeizure
            In training mode. Every weight of its encoder is one of ``state_dict``.

        Raises
        ------
        ValueError
            If there is no encoder, or a tensor is missing, unknown, of a wrong shape or not finite; the message names
            the first few. (The public classifier goes on with random weights then: none of the 80 names of a codec's
            checkpoint is the one that it looks for.)
        TypeError
            If ``state_dict`` does not map names to tensors.
        """
        state = encoder_state(state_dict)
        new = cls(sfreq=sfreq, **{**encoder_sizes(state, ratios), **options})
        load_strict(new.encoder, state, source="The official state dict")
        return new
