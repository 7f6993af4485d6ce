"""Signal to latents: what is common to a codec and to what stands on its encoder."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor

from mne_labram.models.inputs import SignalMixin, contract_fields
from mne_labram.nn.lapped_transform import LappedAnalysis
from mne_labram.nn.modules import share_parameters
from mne_labram.nn.seanet import SEANetEncoder
from mne_labram.signal.contract import SignalContract
from mne_labram.signal.interpret import interpret_labels

__all__ = ["EncodingMixin", "in_pieces"]

# Rate of a model that is not told any: the one that recordings are brought to elsewhere in this package.
_SFREQ = 200.0
# Longest window that a contract allows, in samples; the network itself has no limit.
_LONGEST = 1_000_000
# Microvolts that a window's level is taken to be at least. A thousandth of what EEG is digitised in.
_SMALLEST_GAIN = 1e-3
# Samples that go through the network at once where no gradient is needed: about 100 MB.
_SAMPLES_AT_ONCE = 2**18


_ENCODER_ARGUMENTS = (
    "ratios",
    "n_filters",
    "max_filters",
    "dim",
    "n_residual_layers",
    "dilation_base",
    "compress",
    "kernel_size",
    "last_kernel_size",
    "residual_kernel_size",
    "linear_path",
    "gain",
    "input_scale",
    "activation",
)


class EncodingMixin(SignalMixin):
    """Rates, names, levels and the way through the encoder; used beside Braindecode's mixin."""

    encoder: SEANetEncoder
    linear_encoder: LappedAnalysis | None
    gain: bool
    ch_names: list[str]

    def _settle_signal(
        self,
        chs_info: Any,
        ch_names: Sequence[str] | None,
        input_scale: float,
        contract: SignalContract | Mapping[str, Any] | None,
    ) -> None:
        """Check the signal arguments and keep them in a form that JSON knows."""
        if isinstance(ch_names, str):
            raise TypeError("ch_names must be a sequence of channel names, got one string.")
        if not input_scale > 0:
            raise ValueError(f"input_scale must be positive, got {input_scale}.")
        if ch_names is None and chs_info is not None:
            ch_names = [str(ch["ch_name"]) for ch in chs_info]
        self.ch_names = [] if ch_names is None else _canonical(ch_names)
        if ch_names is not None:
            if self._n_chans is not None and self._n_chans != len(self.ch_names):
                model = type(self).__name__
                raise ValueError(f"{model} got {len(self.ch_names)} channel names for {self._n_chans} channels.")
            self._n_chans = len(self.ch_names)
            self._record(ch_names=list(self.ch_names))
        self.input_scale = float(input_scale)
        self._contract_fields = contract_fields(contract)
        if contract is not None:
            given = contract.sfreq if isinstance(contract, SignalContract) else contract.get("sfreq")
            self._settle_rate(given)
            self._record(contract=dict(self._contract_fields))
        else:
            self._settle_rate(None)
        self.contract  # noqa: B018  (a band beyond the Nyquist frequency is refused now, not when it is asked for)

    def _settle_rate(self, given: float | None) -> None:
        """Find the sampling rate: that of the arguments, of the contract, or ours."""
        try:
            sfreq = self.sfreq
        except ValueError:
            self._sfreq = _SFREQ if given is None else float(given)
            self._record(sfreq=self._sfreq)
            return
        if given is not None and abs(given - sfreq) > 1e-6:
            raise ValueError(f"The contract says {given:g} Hz and sfreq {sfreq:g} Hz; give one of the two.")

    @property
    def stride(self) -> int:
        """Samples in a frame."""
        return self.encoder.stride

    @property
    def embed_dim(self) -> int:
        """Width of a latent."""
        return self.encoder.dim

    def _encoder_arguments(self) -> dict[str, Any]:
        """Return the arguments with which a model of another kind gets the same encoder."""
        return {name: self._braindecode_init_kwargs[name] for name in _ENCODER_ARGUMENTS}

    @property
    def contract(self) -> SignalContract:
        """The signal this model may be fed: any electrical channels at its rate, prepared as it was trained."""
        defaults = SignalContract(
            name="BrainCodec",
            sfreq=self.sfreq,
            l_freq=None,
            h_freq=None,
            notch=False,
            scale=self.input_scale,
            patch_samples=1,
            max_patches=_LONGEST,
            vocabulary=None,
        )
        return replace(defaults, **self._contract_fields)

    def bind_channels(self, ch_names: Sequence[str], positions: Any = None) -> Self:
        """Return this model under other channel names.

        Parameters
        ----------
        ch_names : sequence of str
            Channel names, in the order of the input.
        positions : array-like | None
            Not used: every channel is encoded by itself.

        Returns
        -------
        model : same type
            Shares every parameter and every layer with this one. This model is not changed.

        Raises
        ------
        TypeError
            If ``ch_names`` is a single string.
        """
        if isinstance(ch_names, str):
            raise TypeError("ch_names must be a sequence of channel names, got one string.")
        new = share_parameters(self)
        new.ch_names = _canonical(ch_names)
        new._n_chans, new._chs_info, new._n_chans_for_jit = len(new.ch_names), None, len(new.ch_names)
        new._record(ch_names=list(new.ch_names), n_chans=len(new.ch_names), chs_info=None)
        return new

    def _checked(self, x: Tensor) -> Tensor:
        """Check a batch and return it in the model's number format."""
        if x.ndim != 3:
            raise ValueError(f"Input must have the shape (batch, n_chans, n_times), got {tuple(x.shape)}.")
        if not x.shape[1] or not x.shape[2]:
            raise ValueError(f"A window must hold at least one channel of one sample, got {tuple(x.shape)}.")
        self._look_at(x)
        return x.to(self.encoder.last.weight.dtype)

    def _normalized(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Bring checked input to the unit inside; return it and microvolts per unit, shape (batch, n_chans)."""
        if not self.gain:
            return x / self.input_scale, x.new_full(x.shape[:2], self.input_scale)
        # The mean of squares in float64: squares of 10 V, in microvolts, add up to more than float32 counts exactly.
        rms = torch.linalg.vector_norm(x, dim=2, dtype=torch.float64) / math.sqrt(x.shape[2])
        scale = rms.clamp_min(_SMALLEST_GAIN).to(x.dtype)
        return x / scale.unsqueeze(2), scale

    def _encode_rows(self, rows: Tensor) -> Tensor:
        """Encode signals, shape (n, 1, n_times), into latents, shape (n, n_frames, dim)."""
        latents = self.encoder(rows)
        if self.linear_encoder is not None:
            latents = latents + self.linear_encoder(rows)
        return latents.transpose(1, 2)

    def _latents(self, normal: Tensor) -> Tensor:
        """Encode signals in the unit inside, shape (batch, n_chans, n_times)."""
        rows = normal.reshape(-1, 1, normal.shape[2])
        return in_pieces(self._encode_rows, rows, normal.shape[2]).unflatten(0, normal.shape[:2])

    def latents(self, x: Tensor) -> Tensor:
        """Encode a signal without quantising it.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts.

        Returns
        -------
        latents : Tensor, shape (batch, n_chans, n_frames, dim)
            One per frame of ``stride`` samples; the last frame may be continued beyond the end.

        Raises
        ------
        ValueError
            As :meth:`forward`.
        """
        return self._latents(self._normalized(self._checked(x))[0])

    def embed(self, x: Tensor, pooling: str = "mean") -> Tensor:
        """Compute embeddings.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts.
        pooling : {"mean", "tokens"}
            The mean of all latents, or every latent.

        Returns
        -------
        embedding : Tensor, shape (batch, dim) or (batch, n_chans, n_frames, dim)
            The latter for ``"tokens"``.

        Raises
        ------
        ValueError
            If ``pooling`` is neither, or the input is refused as in :meth:`forward`.
        """
        if pooling not in ("mean", "tokens"):
            raise ValueError(f"pooling must be one of 'mean', 'tokens', got {pooling!r}; there is no CLS token.")
        latents = self.latents(x)
        return latents if pooling == "tokens" else latents.mean(dim=(1, 2))


def _canonical(labels: Sequence[str]) -> list[str]:
    """Name electrodes and derivations as everywhere else, and leave all other names as they are."""
    _, parsed = interpret_labels([str(label) for label in labels])
    return [channel.name if channel.kind in ("electrode", "bipolar") else channel.label for channel in parsed]


def in_pieces(function: Callable[[Tensor], Tensor], rows: Tensor, n_times: int) -> Tensor:
    """Apply a function to some rows at a time, where no gradient is needed, so that memory stays bounded."""
    at_once = max(1, _SAMPLES_AT_ONCE // n_times)
    if torch.is_grad_enabled() or len(rows) <= at_once:
        return function(rows)
    return torch.cat([function(piece) for piece in rows.split(at_once)])
