"""The neural codec alone: BrainCodec's latents of every channel, rounded, with learned contexts."""

from __future__ import annotations

import math
import struct
from fractions import Fraction
from typing import Any, Self

import numpy as np
import torch
from scipy.signal import resample_poly

from mne_labram.codec.coders import check_weights, checked_block
from mne_labram.codec.context import MAX_EXPONENT, N_LEVELS
from mne_labram.codec.context_files import load_context_model
from mne_labram.codec.numbers import pack_numbers, unpack_numbers
from mne_labram.codec.parents import Family, decode_signs, encode_signs, plan_family, sign_bits
from mne_labram.codec.quantization import PROXY, trade_off
from mne_labram.codec.wavefront import (
    CoefficientLayout,
    choose_distributions,
    decode_coefficients,
    encode_coefficients,
    magnitude_bits,
)
from mne_labram.weights.pretrained import load_pretrained, pretrained_card

__all__ = ["NeuralCoder"]

#: The codec that is used unless another is named.
DEFAULT_CODEC = "braincodec-tiny"
# A budget holds for every window of so many seconds.
_WINDOW = 4.0
# Steps are powers of 2 ** (1 / 32) of a channel's level; contexts know them to an eighth of an octave.
_OCTAVE, _FINER = 32, 4
_SMALLEST, _LARGEST = -32 * 20, 32 * 8
_SPAN = MAX_EXPONENT * _FINER
# Levels of channels are powers of 2 ** (1 / 2048) µV.
_GAIN = 2048
_SILENT = 1e-3
# Smallest step, latents that are not all zero, windows.
_HEAD = struct.Struct("<hHI")
_PASSES = 6
# A parent, which takes two bytes, is worth it if a block has so many frames.
_FRAMES_PER_PARENT = 16
# By what the logarithm of the bits falls from one step to the next, 2 ** (1 / 32) as large, at 64 to 512 bit/s.
_LOG_BITS = 0.02


class NeuralCoder:
    """Code every channel by itself with a neural codec.

    Parameters
    ----------
    n_channels : int
        Channels of a block.
    sfreq : float
        Sampling rate in Hz; another one than the codec's is resampled there and back.
    bitrate : float
        Bits per second and channel where no budget is given.
    weights : dict
        Name and SHA-256 of the codec that the file was written with.
    context : dict
        Name and SHA-256 of the context model.

    Raises
    ------
    ValueError
        If the parameters contradict one another, or weights are not there or not the same.

    Notes
    -----
    Latents of :class:`mne_labram.models.BrainCodec` are rounded to multiples of a step, which is the same for all
    channels relative to their levels, and another in every window of four seconds, so that each keeps the budget. A
    small network tells how they are distributed from those coded before, of the same channel and of others
    (:mod:`mne_labram.codec.context`). Signs, and where values lie inside their steps, are told from channels decoded
    before, too (:mod:`mne_labram.codec.parents`).
    """

    name = "neural"

    def __init__(
        self, *, n_channels: int, sfreq: float, bitrate: float, weights: dict[str, str], context: dict[str, str]
    ) -> None:
        if n_channels < 1 or not sfreq > 0 or not bitrate > 0:
            raise ValueError("The parameters of the neural coder contradict one another.")
        check_weights(weights)
        self.n_channels, self.sfreq, self.bitrate = n_channels, float(sfreq), float(bitrate)
        self.weights, self.context = dict(weights), dict(context)
        self.codec = load_pretrained(weights["name"]).eval()
        self.model = load_context_model(context["name"], sha256=context["sha256"])
        ratio = Fraction(self.codec.sfreq / self.sfreq).limit_denominator(2000)
        self._up, self._down = ratio.numerator, ratio.denominator
        if not self._up:
            raise ValueError(f"A rate of {sfreq:g} Hz is too high for the neural coder; use mode='hybrid'.")
        self._per_window = max(1, round(_WINDOW * self.codec.sfreq / self.codec.stride))
        width = Fraction(self.codec.sfreq).limit_denominator(1000) * 1000 / (2 * self.codec.stride)
        self._bin = width.numerator, width.denominator

    @classmethod
    def make(
        cls,
        *,
        sfreq: float,
        ch_names: list[str],
        block_samples: int,
        bitrate: float = 256,
        model: str = DEFAULT_CODEC,
        **options: Any,
    ) -> Self:
        """Make the coder for a recording.

        Parameters
        ----------
        sfreq : float
            Sampling rate in Hz.
        ch_names : list of str
            Channels.
        block_samples : int
            Not used.
        bitrate : float
            Bits per second and channel.
        model : str
            Name of the codec's weights.
        **options : object
            Of other coders, not used here.

        Returns
        -------
        coder : NeuralCoder
            The coder.
        """
        del block_samples, options
        context = load_context_model("neural")
        return cls(
            n_channels=len(ch_names),
            sfreq=sfreq,
            bitrate=bitrate,
            weights={"name": model, "sha256": pretrained_card(model)["sha256"]},
            context={"name": "neural", "sha256": context.sha256},
        )

    @property
    def coded_sfreq(self) -> float:
        """Sampling rate at which samples are coded, in Hz; what a recording of a higher one has beyond it is lost."""
        return float(self.codec.sfreq)

    def parameters(self) -> dict[str, Any]:
        """Return what a decoder needs.

        Returns
        -------
        parameters : dict
            Arguments of the class, plain JSON.
        """
        return {
            "n_channels": self.n_channels,
            "sfreq": self.sfreq,
            "bitrate": self.bitrate,
            "weights": self.weights,
            "context": self.context,
        }

    def encode(self, samples: np.ndarray, *, bits: int | None = None) -> bytes:
        """Code a block.

        Parameters
        ----------
        samples : ndarray, shape (n_channels, n_samples)
            Finite, in µV.
        bits : int | None
            Budget for the block, of which every window of four seconds gets its share; ``None``: that of ``bitrate``.

        Returns
        -------
        payload : bytes
            For :meth:`decode`.

        Raises
        ------
        ValueError
            If the shape is another, or a value is not finite or beyond a million volts.
        """
        samples = checked_block(samples, self.n_channels)
        if not samples.shape[1]:
            return b""
        if bits is None:
            bits = int(self.bitrate * samples.size / self.sfreq)
        means = np.round(samples.mean(axis=1))
        gains, latents = self._latents(samples - means[:, None])
        head = pack_numbers([*means.astype(np.int64).tolist(), *gains.tolist()])
        # Parents and their tables take some five bytes per channel in long blocks, and a hundred in all.
        tables = (5 * self.n_channels + 60) * min(1, latents.shape[1] // _FRAMES_PER_PARENT)
        shares = self._shares(latents.shape[1], bits - 8 * (len(head) + _HEAD.size + 12 + tables) - 64)
        payload = b""
        for _ in range(8):
            payload = self._payload(latents, shares, head)
            if 8 * len(payload) <= bits:
                break
            # What the estimate missed, and a little more.
            shares = shares * min(0.995, 0.999 * bits / (8 * len(payload)))
        return payload

    def _shares(self, n_frames: int, bits: float) -> np.ndarray:
        """Give every window its part of the bits; each tells its own step in two bytes."""
        lengths = np.diff([*range(0, n_frames, self._per_window), n_frames])
        return np.maximum(bits * lengths / n_frames - 16, 1.0)

    def _latents(self, centred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return levels, and latents in multiples of them, shape (n_channels, n_frames, dim)."""
        if self._up != self._down:
            centred = resample_poly(centred, self._up, self._down, axis=1)
        level = np.sqrt(np.mean(np.square(centred), axis=1))
        gains = np.round(_GAIN * np.log2(np.maximum(level, _SILENT))).astype(np.int64)
        scale = 2.0 ** (gains / _GAIN)
        # Noise of floats around a constant is silence, and nothing that the codec should wonder at.
        centred = np.where(level[:, None] < _SILENT, 0.0, centred)
        with torch.inference_mode():
            latents = self.codec.latents(torch.from_numpy((centred / scale[:, None])[None]).float())[0]
        # The codec divides by the level too, which is one here but for rounding, and for silence.
        own = np.maximum(level / scale, _SILENT)
        return gains, latents.double().numpy() * own[:, None, None]

    def _layout(self, indices: np.ndarray, n_frames: int, n_bins: int) -> CoefficientLayout:
        """Tell what follows from the steps of the windows."""
        frames = np.repeat(indices, self._per_window)[:n_frames]
        exponents = np.broadcast_to((frames - indices.min()) // _FINER, (self.n_channels, n_frames))
        levels = np.clip(16 - np.round(2 * frames / _OCTAVE).astype(np.int64), 0, N_LEVELS - 1)
        return CoefficientLayout(exponents, np.broadcast_to(levels, exponents.shape), n_bins, self._bin)

    def _quantize(
        self, latents: np.ndarray, indices: np.ndarray, n_passes: int = 2
    ) -> tuple[CoefficientLayout, np.ndarray, np.ndarray]:
        """Choose integers; return them with the latents in steps."""
        n_frames = latents.shape[1]
        steps = np.repeat(2.0 ** (indices / _OCTAVE), self._per_window)[:n_frames]
        scaled = np.ascontiguousarray(latents / steps[None, :, None])
        used = np.flatnonzero((np.abs(scaled) >= 0.5).any(axis=(0, 1)))
        layout = self._layout(indices, n_frames, int(used[-1]) + 1 if len(used) else 0)
        scaled = scaled[..., : layout.n_bins]
        return layout, trade_off(self.model, scaled, layout, n_passes=n_passes), scaled

    def _window_bits(self, latents: np.ndarray, indices: np.ndarray, n_rounds: int = 2) -> np.ndarray:
        """Compute what every window takes; with one round of everything, nearly."""
        layout, coefficients, scaled = self._quantize(latents, indices, n_rounds)
        magnitudes = np.abs(coefficients)
        chosen = choose_distributions(self.model, magnitudes, layout)
        # That signs take less than a bit each lets a window have more of them.
        signs = sign_bits(self._family(scaled, coefficients, n_rounds), coefficients) - (magnitudes > 0)
        bits = magnitude_bits(self.model, magnitudes, chosen) + signs
        frames = bits.sum(axis=(0, 2), dtype=np.float64)
        return np.add.reduceat(frames, np.arange(0, len(frames), self._per_window))

    def _fit(self, latents: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """Find the step of every window: the smallest one with which it keeps its share, nearly."""
        starts = np.arange(0, latents.shape[1], self._per_window)
        size = np.abs(latents)
        low, high = np.full(len(starts), _SMALLEST), np.full(len(starts), _LARGEST)
        while (high - low > 1).any():
            middle = (low + high) // 2
            steps = np.repeat(2.0 ** (middle / _OCTAVE), self._per_window)[: latents.shape[1]]
            frames = PROXY * np.log2(1 + size / steps[None, :, None]).sum(axis=(0, 2))
            fits = np.add.reduceat(frames, starts) <= shares
            high, low = np.where(fits, middle, high), np.where(fits, low, middle)
        # Windows far apart in level share one block: what is finer than the contexts can tell is given up.
        indices = np.maximum(high, high.max() - _SPAN)
        for _ in range(_PASSES):
            octaves = np.log(np.maximum(self._window_bits(latents, indices, 1), 1.0) / shares)
            # Within one step, a window goes up if it must, and down if its bits would still do.
            change = np.where(octaves > 0, np.ceil(octaves / _LOG_BITS), np.ceil(octaves / _LOG_BITS + 0.3))
            change = np.clip(change, -64, 64).astype(int)
            if not change.any():
                break
            indices = np.clip(indices + change, _SMALLEST, _LARGEST)
            indices = np.maximum(indices, indices.max() - _SPAN)
        for _ in range(4 * _PASSES):
            over = self._window_bits(latents, indices) > shares
            if not over.any() or (indices[over] >= _LARGEST).all():
                break
            indices = np.where(over, np.minimum(indices + 1, _LARGEST), indices)
        return np.maximum(indices, indices.max() - _SPAN)

    @staticmethod
    def _family(scaled: np.ndarray, coefficients: np.ndarray, n_rounds: int = 2) -> Family:
        """Choose who is predicted from whom."""
        return plan_family(
            scaled, coefficients, max_parents=min(3, scaled.shape[1] // _FRAMES_PER_PARENT), n_rounds=n_rounds
        )

    def _payload(self, latents: np.ndarray, shares: np.ndarray, head: bytes) -> bytes:
        indices = self._fit(latents, shares)
        layout, coefficients, scaled = self._quantize(latents, indices)
        smallest = int(indices.min())
        family = self._family(scaled, coefficients)
        steps = (indices - smallest).astype("<u2").tobytes()
        start = _HEAD.pack(smallest, layout.n_bins, len(indices))
        signs = encode_signs(family, coefficients)
        magnitudes = encode_coefficients(self.model, coefficients, layout, signs=False)
        return start + steps + head + family.to_bytes() + pack_numbers([len(signs)]) + signs + magnitudes

    def decode(self, payload: bytes, n_samples: int) -> np.ndarray:
        """Undo :meth:`encode`.

        Parameters
        ----------
        payload : bytes
            What :meth:`encode` gave.
        n_samples : int
            Samples of the block.

        Returns
        -------
        samples : ndarray of float64, shape (n_channels, n_samples)
            In µV.

        Raises
        ------
        ValueError
            If this cannot be a payload of this coder.
        """
        if not n_samples:
            return np.zeros((self.n_channels, 0))
        if len(payload) < _HEAD.size:
            raise ValueError("This is no payload of the neural coder: it ends too early.")
        smallest, n_bins, n_windows = _HEAD.unpack_from(payload)
        inside = math.ceil(n_samples * self._up / self._down)
        n_frames = -(-inside // self.codec.stride)
        dim = self.codec.latents(torch.zeros(1, 1, self.codec.stride)).shape[-1]
        if n_windows != -(-n_frames // self._per_window) or n_bins > dim or not _SMALLEST <= smallest <= _LARGEST:
            raise ValueError("This is no payload of the neural coder: its header does not fit the block.")
        rest = payload[_HEAD.size + 2 * n_windows :]
        steps = np.frombuffer(payload[_HEAD.size : len(payload) - len(rest)][: 2 * n_windows], np.uint8)
        if len(steps) != 2 * n_windows:
            raise ValueError("This is no payload of the neural coder: it ends too early.")
        steps = steps.view("<u2").astype(np.int64)
        if steps.max(initial=0) > _SPAN:
            raise ValueError("This is no payload of the neural coder: its steps are beyond all limits.")
        numbers, rest = unpack_numbers(rest, 2 * self.n_channels)
        means, gains = np.array(numbers[: self.n_channels], np.float64), np.array(numbers[self.n_channels :])
        if np.abs(gains).max() > 400 * _GAIN:
            raise ValueError("This is no payload of the neural coder: the level of a channel is beyond all limits.")
        family, rest = Family.from_bytes(rest, self.n_channels)
        (n_signs,), rest = unpack_numbers(rest, 1)
        if not 0 <= n_signs <= len(rest):
            raise ValueError("This is no payload of the neural coder: it ends too early.")
        indices = steps + smallest
        layout = self._layout(indices, n_frames, n_bins)
        magnitudes = decode_coefficients(self.model, rest[n_signs:], layout, signs=False)
        _, values = decode_signs(family, rest[:n_signs], magnitudes)
        frames = np.repeat(2.0 ** (indices / _OCTAVE), self._per_window)[:n_frames]
        latents = np.zeros((self.n_channels, n_frames, dim))
        latents[..., :n_bins] = values * frames[None, :, None]
        with torch.inference_mode():
            signal = self.codec._signal(torch.from_numpy(latents[None]).float(), inside)[0].double().numpy()
        if self._up != self._down:
            signal = resample_poly(signal, self._down, self._up, axis=1)
        out = np.zeros((self.n_channels, n_samples))
        length = min(n_samples, signal.shape[1])
        out[:, :length] = signal[:, :length]
        return out * 2.0 ** (gains / _GAIN)[:, None] + means[:, None]
