"""Coefficients to bytes and back, many at a time."""

from __future__ import annotations

import struct
from typing import NamedTuple

import constriction
import numpy as np

from mne_labram.codec.context import (
    FEATURES,
    LARGEST,
    MEMORY,
    SHIFT,
    ContextModel,
    Neighbours,
    component_classes,
)

__all__ = ["CoefficientLayout", "choose_distributions", "decode_coefficients", "encode_coefficients", "magnitude_bits"]

# A channel runs so many bins behind the one before, and a frame behind the last: what FEATURES look at is then known.
_CHANNEL_LAG, _FRAME_LAG = 3, 5
_LENGTHS = struct.Struct("<III")


class CoefficientLayout(NamedTuple):
    """What the decoder knows of a block of coefficients.

    Parameters
    ----------
    exponents : array of int, shape (n_channels, n_frames)
        Quantisation steps, in eighths of an octave above the smallest of the block.
    levels : array of int, shape (n_channels, n_frames)
        Level of the signal above the step, a class.
    n_bins : int
        Coefficients of a frame; those above are zero.
    bin_millihertz : tuple of int
        Width of a bin in mHz, a fraction of whole numbers.
    """

    exponents: np.ndarray
    levels: np.ndarray
    n_bins: int
    bin_millihertz: tuple[int, int]


class _Order(NamedTuple):
    """Which coefficients are coded together: ``lane = channel * n_frames + frame``, its bin is ``step - lag``."""

    channels: np.ndarray
    frames: np.ndarray
    lags: np.ndarray
    n_steps: int

    @classmethod
    def of(cls, n_channels: int, n_frames: int, n_bins: int) -> _Order:
        channels, frames = np.divmod(np.arange(n_channels * n_frames), n_frames)
        lags = _CHANNEL_LAG * channels + _FRAME_LAG * frames
        order = np.argsort(lags, kind="stable")
        last = int(lags.max(initial=0))
        return cls(channels[order], frames[order], lags[order], last + n_bins if n_bins else 0)

    def active(self, n_bins: int) -> list[slice]:
        """Return the lanes of each step."""
        steps = np.arange(self.n_steps)
        first = np.searchsorted(self.lags, steps - n_bins, side="right")
        stop = np.searchsorted(self.lags, steps, side="right")
        return [slice(a, b) for a, b in zip(first.tolist(), stop.tolist(), strict=True)]


def choose_distributions(model: ContextModel, magnitudes: np.ndarray, layout: CoefficientLayout) -> np.ndarray:
    """Choose the distribution of every coefficient of a block, all of which are known.

    Parameters
    ----------
    model : ContextModel
        Of the coder.
    magnitudes : array of int, shape (n_channels, n_frames, n_bins)
        Absolute values.
    layout : CoefficientLayout
        What the decoder knows.

    Returns
    -------
    chosen : array of uint8, shape (n_channels, n_frames, n_bins)
        Rows of ``model.distributions``.
    """
    n_channels = len(layout.exponents)
    neighbours = Neighbours(layout.exponents, layout.n_bins)
    neighbours.fill(magnitudes)
    frequency = model.frequency_classes(layout.n_bins, layout.bin_millihertz)
    chosen = np.empty(magnitudes.shape, np.uint8)
    for channel, component in enumerate(component_classes(n_channels)):
        bias = model.bias(frequency, component, layout.levels[channel][:, None])
        chosen[channel] = model.choose(neighbours.features(channel, model.table), bias)
    return chosen


def magnitude_bits(model: ContextModel, magnitudes: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Compute what each coefficient costs, sign included.

    Parameters
    ----------
    model : ContextModel
        Of the coder.
    magnitudes : array of int
        Absolute values.
    chosen : array of uint8
        Their distributions, of the same shape.

    Returns
    -------
    bits : array of float32
        Of the same shape.
    """
    shifts = model.shifts[chosen]
    rest = magnitudes >> shifts
    escape = model.n_symbols - 1
    bits = model.code_lengths[chosen, np.minimum(rest, escape)] + shifts + (magnitudes > 0)
    above = np.flatnonzero(rest.reshape(-1) >= escape)
    if len(above):
        bits = bits.astype(np.float32)
        bits.reshape(-1)[above] += 2 * np.floor(np.log2(rest.reshape(-1)[above] - (escape - 1))) + 1
    return bits


def encode_coefficients(model: ContextModel, coefficients: np.ndarray, layout: CoefficientLayout) -> bytes:
    """Code quantised coefficients.

    Parameters
    ----------
    model : ContextModel
        Of the coder.
    coefficients : array of int, shape (n_channels, n_frames, n_bins)
        Below 2 ** 30 in absolute value.
    layout : CoefficientLayout
        What the decoder knows.

    Returns
    -------
    payload : bytes
        Three streams: magnitudes, by the range coder of ``constriction`` (Bamler 2022, arXiv:2201.01741); signs; and
        Exp-Golomb codes of what exceeds the table, with the lowest bits of large magnitudes.
    """
    magnitudes = np.abs(coefficients).astype(np.int64)
    chosen = choose_distributions(model, magnitudes, layout)
    n_channels, n_frames, n_bins = coefficients.shape
    order = _Order.of(n_channels, n_frames, n_bins)
    lanes = order.channels * n_frames + order.frames
    flat = np.concatenate(
        [lanes[part] * n_bins + (step - order.lags[part]) for step, part in enumerate(order.active(n_bins))]
        or [np.zeros(0, np.int64)]
    )
    ordered, rows = magnitudes.reshape(-1)[flat], chosen.reshape(-1)[flat]
    shifts = model.shifts[rows]
    rest, escape = ordered >> shifts, model.n_symbols - 1
    encoder = constriction.stream.queue.RangeEncoder()
    if len(flat):
        family = constriction.stream.model.Categorical(lazy=True, perfect=False)
        # In pieces: one row of the table per symbol takes memory.
        for start in range(0, len(flat), 2**16):
            piece = slice(start, start + 2**16)
            symbols = np.minimum(rest[piece], escape).astype(np.int32)
            encoder.encode(symbols, family, model.distributions[rows[piece]])
    words = np.asarray(encoder.get_compressed(), "<u4").tobytes()
    signs = np.packbits(coefficients.reshape(-1)[flat][ordered > 0] < 0).tobytes()
    more = np.flatnonzero((shifts > 0) | (rest >= escape))
    extra = "".join(
        (_exp_golomb(left - escape + 1) if left >= escape else "") + (f"{value & (1 << shift) - 1:0{shift}b}" if shift else "")
        for value, left, shift in zip(ordered[more].tolist(), rest[more].tolist(), shifts[more].tolist(), strict=True)
    )
    extra_bytes = np.packbits(np.frombuffer(extra.encode(), np.uint8) - ord("0")).tobytes()
    return _LENGTHS.pack(len(words), len(signs), len(extra_bytes)) + words + signs + extra_bytes


def _exp_golomb(value: int) -> str:
    """Write a whole number from 1: zeros for the length, then its binary digits."""
    digits = f"{value:b}"
    return "0" * (len(digits) - 1) + digits


class _Bits:
    """Read single bits and Exp-Golomb codes."""

    def __init__(self, data: bytes) -> None:
        self.bits = np.unpackbits(np.frombuffer(data, np.uint8))
        self.place = 0

    def take(self, count: int) -> np.ndarray:
        if self.place + count > len(self.bits):
            raise ValueError("These are not coefficients: a stream of bits ends too early.")
        self.place += count
        return self.bits[self.place - count : self.place]

    def exp_golomb(self) -> int:
        length = 1
        while not self.take(1)[0]:
            length += 1
            if length > 31:
                raise ValueError("These are not coefficients: a number is too long.")
        return self.binary(length - 1, 1)

    def binary(self, length: int, value: int) -> int:
        """Append so many bits to a number."""
        for bit in self.take(length).tolist():
            value = 2 * value + bit
        return value


def _streams(payload: bytes) -> tuple[bytes, bytes, bytes]:
    """Split a payload."""
    if len(payload) < _LENGTHS.size:
        raise ValueError("These are not coefficients: the payload ends too early.")
    lengths = _LENGTHS.unpack_from(payload)
    if _LENGTHS.size + sum(lengths) != len(payload) or lengths[0] % 4:
        raise ValueError("These are not coefficients: lengths of streams do not add up.")
    stops = _LENGTHS.size + np.cumsum([0, *lengths])
    words, signs, extra = (payload[a:b] for a, b in zip(stops[:-1], stops[1:], strict=True))
    return words, signs, extra


def decode_coefficients(model: ContextModel, payload: bytes, layout: CoefficientLayout) -> np.ndarray:
    """Undo :func:`encode_coefficients`.

    Parameters
    ----------
    model : ContextModel
        The one that was used.
    payload : bytes
        What :func:`encode_coefficients` gave.
    layout : CoefficientLayout
        What it was given.

    Returns
    -------
    coefficients : array of int64, shape (n_channels, n_frames, n_bins)
        Quantised coefficients.

    Raises
    ------
    ValueError
        If this cannot be such a payload.
    """
    words, signs, extra = _streams(payload)
    n_channels, n_frames = layout.exponents.shape
    n_bins = layout.n_bins
    order = _Order.of(n_channels, n_frames, n_bins)
    walk = _Walk(model, layout, order)
    try:
        decoder = constriction.stream.queue.RangeDecoder(np.frombuffer(words, "<u4").astype(np.uint32))
        family = constriction.stream.model.Categorical(lazy=True, perfect=False)
        numbers = _Bits(extra)
        escape = model.n_symbols - 1
        parts = []
        for step, part in enumerate(order.active(n_bins)):
            bins = step - order.lags[part]
            rows = walk.choose(part, bins)
            values = np.asarray(decoder.decode(family, model.distributions[rows]), np.int64)
            shifts = model.shifts[rows]
            for index in np.flatnonzero((values == escape) | (shifts > 0)).tolist():
                if values[index] == escape:
                    values[index] += numbers.exp_golomb() - 1
                values[index] = numbers.binary(int(shifts[index]), int(values[index]))
            walk.note(part, bins, values)
            parts.append(values)
    except AssertionError as error:
        raise ValueError("These are not coefficients: the range coder finds no symbol.") from error
    magnitudes = np.concatenate(parts) if parts else np.zeros(0, np.int64)
    negative = np.zeros(len(magnitudes), bool)
    negative[magnitudes > 0] = _Bits(signs).take(int(np.count_nonzero(magnitudes)))
    lanes = order.channels * n_frames + order.frames
    flat = np.concatenate(
        [lanes[part] * n_bins + (step - order.lags[part]) for step, part in enumerate(order.active(n_bins))]
        or [np.zeros(0, np.int64)]
    )
    out = np.empty(n_channels * n_frames * n_bins, np.int64)
    out[flat] = np.where(negative, -magnitudes, magnitudes)
    return out.reshape(n_channels, n_frames, n_bins)


class _Walk:
    """Keep the sums of what is decoded, and choose distributions from them."""

    def __init__(self, model: ContextModel, layout: CoefficientLayout, order: _Order) -> None:
        self.model, self.n_bins = model, layout.n_bins
        self.neighbours = Neighbours(layout.exponents, layout.n_bins)
        self.flat = self.neighbours.sums.reshape(-1)
        _, n_channels, n_frames, n_sums = self.neighbours.sums.shape
        channels, frames = order.channels, order.frames
        self.frequency = model.frequency_classes(layout.n_bins, layout.bin_millihertz)
        self.fixed = model.component[component_classes(len(layout.exponents))[channels]] + model.level[layout.levels[channels, frames]]
        self.unit = self.neighbours.unit[channels, frames]
        self.per_step = self.neighbours.per_step[channels, frames][:, None]

        def row(kind: int, channel: np.ndarray, frame: np.ndarray) -> np.ndarray:
            return ((kind * n_channels + channel) * n_frames + frame) * n_sums

        starts = {
            "self": row(0, channels + 1, frames + 2),
            "frame": row(0, channels + 1, frames + 1),
            "older": row(0, channels + 1, frames),
            "mean": row(1, channels + 1, frames + 1),
            "channel": row(0, channels, frames + 2),
            "channels": row(2, channels, frames + 2),
        }
        self.starts = np.stack([starts[feature.source] for feature in FEATURES], axis=1)
        self.low = np.array([feature.low for feature in FEATURES])
        self.high = np.array([feature.high + 1 for feature in FEATURES])
        self.count = self.high - self.low
        self.own = starts["self"]
        self.frame_mean = row(1, channels + 1, frames + 2), starts["mean"], np.minimum(frames + 1, MEMORY)
        self.channel_mean = row(2, channels + 1, frames + 2), starts["channels"], np.minimum(channels + 1, MEMORY)

    def choose(self, part: slice, bins: np.ndarray) -> np.ndarray:
        """Choose the distributions of one step."""
        starts = self.starts[part]
        upper = self.flat.take(starts + np.minimum(bins[:, None] + self.high, self.n_bins))
        lower = self.flat.take(starts + np.maximum(bins[:, None] + self.low, 0))
        mean = ((upper - lower) // self.count * self.per_step[part]) >> SHIFT
        features = self.model.table.take(np.minimum(mean, len(self.model.table) - 1)).astype(np.float32)
        bias = (self.model.frequency[self.frequency[bins]] + self.fixed[part]).astype(np.float32)
        return self.model.choose(features, bias)

    def note(self, part: slice, bins: np.ndarray, magnitudes: np.ndarray) -> None:
        """Add what was decoded in one step."""
        flat = self.flat
        values = np.minimum(magnitudes, LARGEST) * self.unit[part]
        place = self.own[part] + bins
        flat[place + 1] = flat[place] + values
        for own, before, memory in (self.frame_mean, self.channel_mean):
            place, old = own[part] + bins, before[part] + bins
            mean = flat[old + 1] - flat[old]
            flat[place + 1] = flat[place] + mean + (values - mean) // memory[part]
