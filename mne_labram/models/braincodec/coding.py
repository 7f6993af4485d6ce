"""Signal to codes and back: what a codec does, whatever it is trained by."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mne_labram.models.braincodec.encoding import EncodingMixin, in_pieces
from mne_labram.nn.lapped_transform import LappedAnalysis, LappedSynthesis
from mne_labram.nn.modules import evaluating
from mne_labram.nn.quantize import ResidualQuantized, ResidualVectorQuantizer
from mne_labram.nn.seanet import SEANetDecoder, SEANetEncoder

__all__ = ["BrainCodes", "CodecPass", "CodingMixin"]


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


class CodingMixin(EncodingMixin):
    """Rates, levels, and the way through encoder, quantiser and decoder; used beside Braindecode's mixin."""

    encoder: SEANetEncoder
    decoder: SEANetDecoder
    quantizer: ResidualVectorQuantizer
    linear_encoder: LappedAnalysis | None
    linear_decoder: LappedSynthesis | None
    gain: bool
    ch_names: list[str]

    # -- what it is ---------------------------------------------------------------------------------------------------
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

    # -- what it does -------------------------------------------------------------------------------------------------
    def _decode_rows(self, rows: Tensor) -> Tensor:
        """Decode latents, shape (n, n_frames, dim), into signals, shape (n, 1, n_frames * stride)."""
        latents = rows.transpose(1, 2)
        out = self.decoder(latents)
        return out if self.linear_decoder is None else out + self.linear_decoder(latents)

    def _signal(self, vectors: Tensor, n_times: int) -> Tensor:
        """Decode vectors, shape (batch, n_chans, n_frames, dim), in the unit inside."""
        rows = vectors.flatten(0, 1).to(self.encoder.last.weight.dtype)
        out = in_pieces(self._decode_rows, rows, rows.shape[1] * self.stride)
        return out[:, 0, :n_times].unflatten(0, vectors.shape[:2])

    def _run(self, x: Tensor, n_codebooks: int | None = None) -> CodecPass:
        """Encode, quantise and decode checked input."""
        normal, scale = self._normalized(x)
        latents = self._latents(normal)
        # Every channel is a sample of its own to the quantiser: drop-out chooses codebooks for each.
        quantized = self.quantizer(latents.flatten(0, 1), n_codebooks)
        vectors = quantized.vectors.unflatten(0, latents.shape[:2])
        return CodecPass(normal, self._signal(vectors, x.shape[2]), scale, latents, quantized)

    @torch.no_grad()
    def codes(self, x: Tensor, n_codebooks: int | None = None, *, n_candidates: int = 1) -> BrainCodes:
        """Turn a signal into codes and levels: all that :meth:`decode` needs.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts.
        n_codebooks : int | None
            Codebooks to use, the first ones; ``None``: all.
        n_candidates : int
            Partial sums that are kept from one codebook to the next; 1 takes the nearest code of each. More leave a
            smaller error, take longer, and make the first codes depend on how many follow.

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
            codes = self.quantizer.encode(self._latents(normal), n_codebooks, n_candidates=n_candidates)
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
