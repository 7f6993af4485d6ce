"""Signal to codes and back: what a codec does, whatever it is trained by."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from mne_labram.models.inputs import SignalMixin, contract_fields
from mne_labram.nn.lapped_transform import LappedAnalysis, LappedSynthesis
from mne_labram.nn.modules import evaluating, share_parameters
from mne_labram.nn.quantize import ResidualQuantized, ResidualVectorQuantizer
from mne_labram.nn.seanet import SEANetDecoder, SEANetEncoder
from mne_labram.signal.contract import SignalContract
from mne_labram.signal.interpret import interpret_labels

__all__ = ["BrainCodes", "CodecPass", "CodingMixin"]

# Rate of a model that is not told any: the one that recordings are brought to elsewhere in this package.
_SFREQ = 200.0
# Longest window that a contract allows, in samples; the network itself has no limit.
_LONGEST = 1_000_000
# Microvolts that a window's level is taken to be at least. A thousandth of what EEG is digitised in.
_SMALLEST_GAIN = 1e-3
# Samples that go through the network at once where no gradient is needed: about 100 MB.
_SAMPLES_AT_ONCE = 2**18


class BrainCodes(NamedTuple):
    """A signal as codes.

    Parameters
    ----------
    codes : Tensor of int64, shape (batch, n_chans, n_frames, n_codebooks)
        One code per frame and codebook.
    gains : Tensor, shape (batch, n_chans) | None
        Level of every channel in microvolts; ``None`` for a model that codes levels too (``gain=False``).
    """

    codes: Tensor
    gains: Tensor | None


class CodecPass(NamedTuple):
    """Everything that one pass through a codec computes.

    Parameters
    ----------
    wanted, given : Tensor, shape (batch, n_chans, n_times)
        The signal and what is left of it, in the unit inside the model.
    scale : Tensor, shape (batch, n_chans)
        Microvolts in that unit.
    latents : Tensor, shape (batch, n_chans, n_frames, dim)
        Before quantisation.
    quantized : ResidualQuantized
        With one row per channel: ``vectors`` are of shape (batch * n_chans, n_frames, dim).
    """

    wanted: Tensor
    given: Tensor
    scale: Tensor
    latents: Tensor
    quantized: ResidualQuantized


class CodingMixin(SignalMixin):
    """Rates, levels, and the way through encoder, quantiser and decoder; used beside Braindecode's mixin."""

    encoder: SEANetEncoder
    decoder: SEANetDecoder
    quantizer: ResidualVectorQuantizer
    linear_encoder: LappedAnalysis | None
    linear_decoder: LappedSynthesis | None
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
                raise ValueError(f"BrainCodec got {len(self.ch_names)} channel names for {self._n_chans} channels.")
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

    # -- what it is ---------------------------------------------------------------------------------------------------
    @property
    def stride(self) -> int:
        """Samples in a frame."""
        return self.encoder.stride

    @property
    def embed_dim(self) -> int:
        """Width of a latent."""
        return self.encoder.dim

    @property
    def n_codebooks(self) -> int:
        """Codes per frame."""
        return self.quantizer.n_codebooks

    @property
    def n_codes(self) -> int:
        """Number of codes in a codebook."""
        return self.quantizer.codebook_size

    @property
    def bits_per_second(self) -> float:
        """Bits per second and channel with all codebooks, every code taken to be as likely; gains not counted."""
        return self.bitrate()

    def bitrate(self, n_codebooks: int | None = None) -> float:
        """Return the bitrate of codes that are stored as they are.

        Parameters
        ----------
        n_codebooks : int | None
            Codebooks that are used; ``None``: all.

        Returns
        -------
        bits : float
            Bits per second and channel.
        """
        n = self.n_codebooks if n_codebooks is None else n_codebooks
        return n * math.log2(self.n_codes) * self.sfreq / self.stride

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
            Not used: every channel is coded by itself.

        Returns
        -------
        model : BrainCodec
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

    # -- what it does -------------------------------------------------------------------------------------------------
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

    def _decode_rows(self, rows: Tensor) -> Tensor:
        """Decode latents, shape (n, n_frames, dim), into signals, shape (n, 1, n_frames * stride)."""
        latents = rows.transpose(1, 2)
        out = self.decoder(latents)
        return out if self.linear_decoder is None else out + self.linear_decoder(latents)

    def _latents(self, normal: Tensor) -> Tensor:
        """Encode signals in the unit inside, shape (batch, n_chans, n_times)."""
        rows = normal.reshape(-1, 1, normal.shape[2])
        return _in_pieces(self._encode_rows, rows, normal.shape[2]).unflatten(0, normal.shape[:2])

    def _signal(self, vectors: Tensor, n_times: int) -> Tensor:
        """Decode vectors, shape (batch, n_chans, n_frames, dim), in the unit inside."""
        rows = vectors.flatten(0, 1).to(self.encoder.last.weight.dtype)
        out = _in_pieces(self._decode_rows, rows, rows.shape[1] * self.stride)
        return out[:, 0, :n_times].unflatten(0, vectors.shape[:2])

    def _run(self, x: Tensor, n_codebooks: int | None = None) -> CodecPass:
        """Encode, quantise and decode checked input."""
        normal, scale = self._normalized(x)
        latents = self._latents(normal)
        # Every channel is a sample of its own to the quantiser: drop-out chooses codebooks for each.
        quantized = self.quantizer(latents.flatten(0, 1), n_codebooks)
        vectors = quantized.vectors.unflatten(0, latents.shape[:2])
        return CodecPass(normal, self._signal(vectors, x.shape[2]), scale, latents, quantized)

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
            raise ValueError(f"pooling must be one of 'mean', 'tokens', got {pooling!r}; a codec has no CLS token.")
        latents = self.latents(x)
        return latents if pooling == "tokens" else latents.mean(dim=(1, 2))

    @torch.no_grad()
    def codes(self, x: Tensor, n_codebooks: int | None = None) -> BrainCodes:
        """Turn a signal into codes and levels: all that :meth:`decode` needs.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts.
        n_codebooks : int | None
            Codebooks to use, the first ones; ``None``: all.

        Returns
        -------
        codes : BrainCodes
            ``codec.decode(codes.codes, x.shape[2], codes.gains)`` gives the signal back.

        Raises
        ------
        ValueError
            As :meth:`forward`, or if there are not so many codebooks.

        Notes
        -----
        Dropout is off and the codebooks stay as they are, in training mode too.
        """
        normal, scale = self._normalized(self._checked(x))
        with evaluating(self):
            codes = self.quantizer.encode(self._latents(normal), n_codebooks)
        return BrainCodes(codes, scale if self.gain else None)

    def encode(self, x: Tensor, n_codebooks: int | None = None) -> Tensor:
        """Turn a signal into codes.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts.
        n_codebooks : int | None
            Codebooks to use, the first ones; ``None``: all.

        Returns
        -------
        codes : Tensor of int64, shape (batch, n_chans, n_frames, n_codebooks)
            Between 0 and ``n_codes - 1``; ``ceil(n_times / stride)`` frames.

        Raises
        ------
        ValueError
            As :meth:`codes`.
        """
        return self.codes(x, n_codebooks).codes

    @torch.no_grad()
    def decode(self, codes: Tensor, n_times: int | None = None, gains: Tensor | None = None) -> Tensor:
        """Turn codes into a signal.

        Parameters
        ----------
        codes : Tensor of int, shape (batch, n_chans, n_frames, n_codebooks)
            Codes of the first ``n_codebooks`` codebooks, as many as there are or fewer.
        n_times : int | None
            Samples to return, at most a frame less than there are; ``None`` returns whole frames.
        gains : Tensor, shape (batch, n_chans) | None
            Levels in microvolts, for a model with ``gain=True``.

        Returns
        -------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts.

        Raises
        ------
        ValueError
            If shapes do not fit, a code is not in its codebook, or gains are missing, too many or not positive.
        TypeError
            If the codes are not integers.
        """
        if codes.ndim != 4 or not codes.shape[2] or not 1 <= codes.shape[3] <= self.n_codebooks:
            raise ValueError(
                f"Codes must have the shape (batch, n_chans, n_frames, 1 to {self.n_codebooks} codebooks), "
                f"got {tuple(codes.shape)}."
            )
        longest = codes.shape[2] * self.stride
        n_times = longest if n_times is None else n_times
        if not longest - self.stride < n_times <= longest:
            raise ValueError(f"{codes.shape[2]} frames hold {longest} samples, not n_times={n_times}.")
        scale = self._scale_of(codes, gains)
        with evaluating(self):
            return self._signal(self.quantizer.lookup(codes), n_times) * scale

    def _scale_of(self, codes: Tensor, gains: Tensor | None) -> Tensor | float:
        """Return microvolts per unit, to multiply a signal by."""
        if not self.gain:
            if gains is not None:
                raise ValueError("This model codes levels too (gain=False); decode without gains.")
            return self.input_scale
        if gains is None:
            raise ValueError("The levels of the channels are not in the codes; pass the gains that codes() returned.")
        if gains.shape != codes.shape[:2]:
            raise ValueError(f"gains must have the shape {tuple(codes.shape[:2])}, got {tuple(gains.shape)}.")
        if not gains.is_meta and not bool((torch.isfinite(gains) & (gains > 0)).all()):
            raise ValueError("gains must be positive and finite; they are levels in microvolts.")
        return gains.to(self.encoder.last.weight).unsqueeze(2)


def _canonical(labels: Sequence[str]) -> list[str]:
    """Name electrodes and derivations as everywhere else, and leave all other names as they are."""
    _, parsed = interpret_labels([str(label) for label in labels])
    return [channel.name if channel.kind in ("electrode", "bipolar") else channel.label for channel in parsed]


def _in_pieces(function: Callable[[Tensor], Tensor], rows: Tensor, n_times: int) -> Tensor:
    """Apply a function to some rows at a time, where no gradient is needed, so that memory stays bounded."""
    at_once = max(1, _SAMPLES_AT_ONCE // n_times)
    if torch.is_grad_enabled() or len(rows) <= at_once:
        return function(rows)
    return torch.cat([function(piece) for piece in rows.split(at_once)])
