"""The default codec: spatial decorrelation, a lapped transform, and a learned model of what follows what."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple, Self

import numpy as np

from mne_labram.codec.coders import LARGEST_VALUE, checked_block
from mne_labram.codec.context_files import load_context_model
from mne_labram.codec.lapped import lapped_inverse, lapped_transform
from mne_labram.codec.numbers import pack_numbers, unpack_numbers
from mne_labram.codec.quantization import (
    LARGEST_COEFFICIENT,
    centroids,
    dequantize,
    level_class,
    search_step,
    trade_off,
)
from mne_labram.codec.spatial import SpatialBasis, fit_spatial_basis
from mne_labram.codec.wavefront import (
    CoefficientLayout,
    choose_distributions,
    decode_coefficients,
    encode_coefficients,
    magnitude_bits,
)

__all__ = ["HybridCoder"]

# Steps are powers of 2 ** (1 / 32).
_STEPS_PER_OCTAVE = 32
_SMALLEST, _LARGEST = -32 * 40, 32 * 40
# Step, level, two centroids. The number of bins that are not all zero and the means follow.
_HEAD = struct.Struct("<hBbb")
# What the range coder needs to end, and how many words it has written, in bits.
_END = 32 + 8 * 3
# Scales of channels are powers of 2 ** (1 / 4) µV; a channel more silent than this counts as this loud.
_SILENT = 1e-3
_MAX_SCALE = 400
# Means may be so many times as large as coefficients: 2 ** 52 steps are written exactly.
_LARGEST_MEAN = 2**23
# Frames of more samples are not made.
_LONGEST = 2**20


class _Quantized(NamedTuple):
    """A block as integers."""

    layout: CoefficientLayout
    coefficients: np.ndarray
    chosen: np.ndarray


class HybridCoder:
    """Code channels together, by a transform over channels and time.

    Parameters
    ----------
    n_channels : int
        Channels of a block.
    sfreq : float
        Sampling rate in Hz.
    n_bins : int
        Samples in a frame of the lapped transform.
    scales : sequence of int
        Typical level of each channel, as a power of ``2 ** (1 / 4)`` µV. Errors count relative to it.
    basis : dict
        See :meth:`mne_labram.codec.spatial.SpatialBasis.to_dict`.
    bitrate : float
        Bits per second and channel where no budget is given.
    weights : dict
        Name and SHA-256 of the context model that the file was written with.

    Raises
    ------
    ValueError
        If parameters from a file contradict one another.

    Notes
    -----
    A block becomes: means of channels; an orthonormal lapped transform with frames of one second; principal components
    of each band of frequency, found in the recording as a whole; one quantisation step for all, which leaves the least
    error; integers chosen with regard to what they cost; and a range coder, whose distributions a small network tells
    from coefficients coded before (:mod:`mne_labram.codec.context`).
    """

    name = "hybrid"

    def __init__(
        self,
        *,
        n_channels: int,
        sfreq: float,
        n_bins: int,
        scales: Sequence[int],
        basis: dict[str, Any],
        bitrate: float,
        weights: dict[str, str],
    ) -> None:
        if len(scales) != n_channels or n_channels < 1 or not 1 <= n_bins <= _LONGEST or not 0 < sfreq < math.inf:
            raise ValueError("The parameters of the hybrid coder contradict one another.")
        if any(abs(int(scale)) > _MAX_SCALE for scale in scales):
            raise ValueError("A channel's level in the parameters of the hybrid coder is beyond all limits.")
        self.n_channels, self.sfreq, self.n_bins = n_channels, float(sfreq), int(n_bins)
        self.scales, self.bitrate, self.weights = [int(scale) for scale in scales], float(bitrate), dict(weights)
        self.basis = SpatialBasis.from_dict(basis, n_channels)
        self.model = load_context_model(weights["name"], sha256=weights["sha256"])
        self._unit = 2.0 ** (np.asarray(self.scales, np.float64) / 4)[:, None]
        # In whole numbers, so that a bin falls into the same class on every machine.
        width = Fraction(self.sfreq).limit_denominator(1000) * 1000 / (2 * self.n_bins)
        self._bin = width.numerator, width.denominator

    @classmethod
    def make(
        cls,
        *,
        sfreq: float,
        ch_names: list[str],
        block_samples: int,
        bitrate: float = 256,
        excerpts: Sequence[np.ndarray] = (),
        n_samples: int | None = None,
        frame_seconds: float = 1.0,
        **options: Any,
    ) -> Self:
        """Fit the coder to a recording.

        Parameters
        ----------
        sfreq : float
            Sampling rate in Hz.
        ch_names : list of str
            Channels.
        block_samples : int
            Samples of a block.
        bitrate : float
            Bits per second and channel.
        excerpts : sequence of ndarray, shape (n_channels, n)
            Pieces of the recording in µV, which levels and spatial components are taken from. Without any, channels are
            coded one by one.
        n_samples : int | None
            Samples of the whole recording; ``None``: those of the excerpts.
        frame_seconds : float
            Length of a frame of the lapped transform.
        **options : object
            Of other coders, not used here.

        Returns
        -------
        coder : HybridCoder
            The coder.
        """
        del options
        n_channels = len(ch_names)
        n_bins = max(1, min(round(frame_seconds * sfreq), block_samples, _LONGEST))
        pieces = [np.nan_to_num(np.asarray(piece, np.float64)) for piece in excerpts if piece.shape[1] > 0]
        # What is larger is refused when it is coded.
        pieces = [np.clip(piece, -LARGEST_VALUE, LARGEST_VALUE) for piece in pieces]
        pieces = [piece - piece.mean(axis=1, keepdims=True) for piece in pieces]
        count = sum(piece.shape[1] for piece in pieces)
        if pieces:
            power = sum(np.square(piece).sum(axis=1) for piece in pieces) / count
            scales = np.round(4 * np.log2(np.maximum(np.sqrt(power), _SILENT))).astype(int)
            scales = np.clip(scales, -_MAX_SCALE, _MAX_SCALE)
            unit = 2.0 ** (scales / 4)[:, None]
            basis = fit_spatial_basis(
                [lapped_transform(_whole_frames(piece / unit, n_bins), n_bins) for piece in pieces],
                sfreq / 2 / n_bins,
                bits=bitrate * n_channels * count / sfreq,
                weight=max(1.0, (n_samples or count) / count),
            ).to_dict()
        else:
            scales = np.zeros(n_channels, int)
            basis = {"edges": [], "bits": 8, "entries": ""}
        model = load_context_model("hybrid")
        return cls(
            n_channels=n_channels,
            sfreq=sfreq,
            n_bins=n_bins,
            scales=scales.tolist(),
            basis=basis,
            bitrate=bitrate,
            weights={"name": "hybrid", "sha256": model.sha256},
        )

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
            "n_bins": self.n_bins,
            "scales": self.scales,
            "basis": self.basis.to_dict(),
            "bitrate": self.bitrate,
            "weights": self.weights,
        }

    def encode(self, samples: np.ndarray, *, bits: int | None = None) -> bytes:
        """Code a block.

        Parameters
        ----------
        samples : ndarray, shape (n_channels, n_samples)
            Finite, in µV.
        bits : int | None
            Budget for the block; ``None``: that of ``bitrate``. Nine bytes and two per channel may always be spent.

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
        bits = max(bits, 8 * (_HEAD.size + 4 + 2 * self.n_channels))
        means = samples.mean(axis=1, keepdims=True)
        values = self._analyse(samples - means)
        # As exact as a coefficient that holds nothing but the mean would be.
        offsets = (means / self._unit)[:, 0] * math.sqrt(samples.shape[1])
        # No step is so small that a number becomes too large to be written.
        largest = max(float(np.abs(values).max(initial=0)), float(np.abs(offsets).max()) / _LARGEST_MEAN)
        lowest = _SMALLEST
        if largest > 0:
            lowest = max(lowest, math.ceil(_STEPS_PER_OCTAVE * math.log2(2 * largest / LARGEST_COEFFICIENT)))

        def step_of(index: int) -> float:
            return 2.0 ** (index / _STEPS_PER_OCTAVE)

        best: dict[int, _Quantized] = {}

        def cost(index: int) -> float:
            quantized = self._quantize(values / step_of(index))
            head = self._head(quantized, index, (0, 0), offsets / step_of(index))
            spent = magnitude_bits(self.model, np.abs(quantized.coefficients), quantized.chosen).sum(dtype=np.float64)
            spent = float(spent) + 8 * len(head) + (_END if quantized.layout.n_bins else 8)
            # The search ends with the smallest step within the budget, or with none that it tried.
            if spent <= bits and index < min(best, default=_LARGEST):
                best.clear()
                best[index] = quantized
            return spent

        sizes = np.abs(values)

        def proxy(index: int) -> float:
            return float(np.log2(1 + sizes * (1 / step_of(index))).sum())

        index = search_step(cost, proxy, bits, min(lowest, _LARGEST - 1), _LARGEST)
        for _ in range(8):
            scaled = values / step_of(index)
            quantized = best[index] if index in best else self._quantize(scaled)
            payload = self._payload(scaled, quantized, index, offsets / step_of(index))
            if 8 * len(payload) <= bits or index >= _LARGEST:
                break
            index = min(index + max(1, round(_STEPS_PER_OCTAVE * 0.5 * (8 * len(payload) / bits - 1))), _LARGEST)
        return payload

    def _analyse(self, centred: np.ndarray) -> np.ndarray:
        """Return coefficients of components, shape (n_channels, n_frames, n_bins)."""
        frames = lapped_transform(_whole_frames(centred / self._unit, self.n_bins), self.n_bins)
        return self.basis.to_components(frames, self.sfreq / 2 / self.n_bins)

    def _layout(self, n_frames: int, n_bins: int, level: int) -> CoefficientLayout:
        shape = self.n_channels, n_frames
        return CoefficientLayout(np.zeros(shape, np.int64), np.full(shape, level), n_bins, self._bin)

    def _quantize(self, scaled: np.ndarray) -> _Quantized:
        """Choose integers, and tell how they are distributed."""
        level = int(level_class(scaled))
        used = np.flatnonzero((np.abs(scaled) >= 0.5).any(axis=(0, 1)))
        n_bins = int(used[-1]) + 1 if len(used) else 0
        layout = self._layout(scaled.shape[1], n_bins, level)
        coefficients = trade_off(self.model, scaled[..., :n_bins], layout)
        used = np.flatnonzero(coefficients.any(axis=(0, 1)))
        layout = self._layout(scaled.shape[1], int(used[-1]) + 1 if len(used) else 0, level)
        coefficients = coefficients[..., : layout.n_bins]
        return _Quantized(layout, coefficients, choose_distributions(self.model, np.abs(coefficients), layout))

    def _head(self, quantized: _Quantized, index: int, offsets: tuple[int, int], means: np.ndarray) -> bytes:
        """Write what stands before the coefficients."""
        layout = quantized.layout
        head = _HEAD.pack(index, int(layout.levels[0, 0]), *offsets)
        return head + pack_numbers([layout.n_bins, *_whole(means)])

    def _payload(self, scaled: np.ndarray, quantized: _Quantized, index: int, means: np.ndarray) -> bytes:
        layout, coefficients, chosen = quantized
        head = self._head(quantized, index, centroids(scaled[..., : layout.n_bins], coefficients), means)
        return head + encode_coefficients(self.model, coefficients, layout, chosen=chosen)

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
            raise ValueError("This is no payload of the hybrid coder: it ends too early.")
        index, level, first, second = _HEAD.unpack_from(payload)
        (n_bins, *numbers), rest = unpack_numbers(payload[_HEAD.size :], 1 + self.n_channels)
        n_frames = -(-n_samples // self.n_bins)
        if not 0 <= n_bins <= self.n_bins or not _SMALLEST <= index <= _LARGEST or level >= len(self.model.level):
            raise ValueError("This is no payload of the hybrid coder: its header holds numbers beyond all limits.")
        means = np.array(numbers, np.float64) / math.sqrt(n_samples)
        layout = self._layout(n_frames, n_bins, level)
        coefficients = decode_coefficients(self.model, rest, layout)
        values = np.zeros((self.n_channels, n_frames, self.n_bins))
        values[..., :n_bins] = dequantize(coefficients, (first, second))
        frames = self.basis.to_channels(values, self.sfreq / 2 / self.n_bins)
        step = 2.0 ** (index / _STEPS_PER_OCTAVE)
        return (lapped_inverse(frames)[:, :n_samples] + means[:, None]) * step * self._unit


def _whole_frames(signals: np.ndarray, n_bins: int) -> np.ndarray:
    """Continue signals by their mirror image to whole frames."""
    missing = -signals.shape[1] % n_bins
    return np.pad(signals, ((0, 0), (0, missing)), mode="symmetric") if missing else signals


def _whole(values: np.ndarray) -> list[int]:
    """Round to whole numbers that can be written."""
    return np.round(np.clip(values, -(2.0**62), 2.0**62)).astype(np.int64).tolist()
