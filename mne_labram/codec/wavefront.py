"""Coefficients to bytes and back, many at a time."""

from __future__ import annotations

from collections.abc import Iterator

import constriction
import numpy as np

from mne_labram.codec.context import ContextModel
from mne_labram.codec.lanes import CoefficientLayout, Lanes
from mne_labram.codec.numbers import pack_numbers, unpack_numbers

__all__ = [
    "CoefficientLayout",
    "choose_distributions",
    "decode_coefficients",
    "encode_coefficients",
    "magnitude_bits",
]

# A channel runs so many bins behind the one before, and a frame behind the last: what FEATURES look at is then known.
_CHANNEL_LAG, _FRAME_LAG = 3, 5


class _Order:
    """Which coefficients are coded together: those whose bin is the step less the lag of their lane."""

    def __init__(self, n_channels: int, n_frames: int, n_bins: int) -> None:
        channels, frames = np.divmod(np.arange(n_channels * n_frames), n_frames)
        lags = _CHANNEL_LAG * channels + _FRAME_LAG * frames
        self.lanes = np.argsort(lags, kind="stable")
        self.lags, self.n_bins = lags[self.lanes], n_bins

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the lanes and bins of each step."""
        steps = np.arange(int(self.lags.max(initial=0)) + self.n_bins if self.n_bins else 0)
        first = np.searchsorted(self.lags, steps - self.n_bins, side="right")
        stop = np.searchsorted(self.lags, steps, side="right")
        for step, (a, b) in enumerate(zip(first.tolist(), stop.tolist(), strict=True)):
            yield self.lanes[a:b], step - self.lags[a:b]

    def places(self) -> np.ndarray:
        """Return where the coefficients stand in a flat array, in the order in which they are coded."""
        return np.concatenate([lanes * self.n_bins + bins for lanes, bins in self] or [np.zeros(0, np.int64)])


def choose_distributions(
    model: ContextModel, magnitudes: np.ndarray, layout: CoefficientLayout, *, places: np.ndarray | None = None
) -> np.ndarray:
    """Choose the distributions of coefficients of a block, all of which are known.

    Parameters
    ----------
    model : ContextModel
        Of the coder.
    magnitudes : array of int, shape (n_channels, n_frames, n_bins)
        Absolute values.
    layout : CoefficientLayout
        What the decoder knows.
    places : array of int64, shape (n,) | None
        Where the coefficients stand, in the flat array, whose distributions are asked for; ``None``: all.

    Returns
    -------
    chosen : array of uint8, shape (n_channels, n_frames, n_bins) or (n,)
        Rows of ``model.distributions``.
    """
    contexts = Lanes(model, layout)
    contexts.neighbours.fill(magnitudes)
    wanted = np.arange(magnitudes.size) if places is None else places
    lanes, bins = np.divmod(wanted, max(layout.n_bins, 1))
    return contexts.choose(lanes, bins).reshape(magnitudes.shape if places is None else places.shape)


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


def encode_coefficients(
    model: ContextModel,
    coefficients: np.ndarray,
    layout: CoefficientLayout,
    *,
    chosen: np.ndarray | None = None,
    signs: bool = True,
) -> bytes:
    """Code quantised coefficients.

    Parameters
    ----------
    model : ContextModel
        Of the coder.
    coefficients : array of int, shape (n_channels, n_frames, n_bins)
        Below 2 ** 30 in absolute value.
    layout : CoefficientLayout
        What the decoder knows.
    chosen : array of uint8, shape (n_channels, n_frames, n_bins) | None
        From :func:`choose_distributions`, where it is known.
    signs : bool
        Code signs, too.

    Returns
    -------
    payload : bytes
        How many words of 32 bits follow; magnitudes, by the range coder of ``constriction`` (Bamler 2022,
        arXiv:2201.01741); then single bits: Exp-Golomb codes of what exceeds the table, with the lowest bits of large
        magnitudes, and at the end the signs of all that are not zero.
    """
    magnitudes = np.abs(coefficients).astype(np.int64)
    if chosen is None:
        chosen = choose_distributions(model, magnitudes, layout)
    flat = _Order(*coefficients.shape).places()
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
    words = np.asarray(encoder.get_compressed(), "<u4")
    more = np.flatnonzero((shifts > 0) | (rest >= escape))
    extra = "".join(
        (_exp_golomb(left - escape + 1) if left >= escape else "")
        + (f"{value & (1 << shift) - 1:0{shift}b}" if shift else "")
        for value, left, shift in zip(ordered[more].tolist(), rest[more].tolist(), shifts[more].tolist(), strict=True)
    )
    negative = coefficients.reshape(-1)[flat][ordered > 0] < 0
    bits = np.concatenate([np.frombuffer(extra.encode(), np.uint8) == ord("1"), negative if signs else negative[:0]])
    return pack_numbers([len(words)]) + words.tobytes() + np.packbits(bits).tobytes()


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


def decode_coefficients(
    model: ContextModel, payload: bytes, layout: CoefficientLayout, *, signs: bool = True
) -> np.ndarray:
    """Undo :func:`encode_coefficients`.

    Parameters
    ----------
    model : ContextModel
        The one that was used.
    payload : bytes
        What :func:`encode_coefficients` gave.
    layout : CoefficientLayout
        What it was given.
    signs : bool
        Whether signs were coded; otherwise, absolute values are returned.

    Returns
    -------
    coefficients : array of int64, shape (n_channels, n_frames, n_bins)
        Quantised coefficients.

    Raises
    ------
    ValueError
        If this cannot be such a payload.
    """
    (n_words,), rest = unpack_numbers(payload, 1)
    if not 0 <= 4 * n_words <= len(rest):
        raise ValueError("These are not coefficients: the payload ends too early.")
    shape = *layout.exponents.shape, layout.n_bins
    order, contexts = _Order(*shape), Lanes(model, layout)
    try:
        decoder = constriction.stream.queue.RangeDecoder(np.frombuffer(rest, "<u4", n_words).astype(np.uint32))
        family = constriction.stream.model.Categorical(lazy=True, perfect=False)
        numbers = _Bits(rest[4 * n_words :])
        escape = model.n_symbols - 1
        parts = []
        for lanes, bins in order:
            rows = contexts.choose(lanes, bins)
            values = np.asarray(decoder.decode(family, model.distributions[rows]), np.int64)
            shifts = model.shifts[rows]
            for index in np.flatnonzero((values == escape) | (shifts > 0)).tolist():
                if values[index] == escape:
                    values[index] += numbers.exp_golomb() - 1
                values[index] = numbers.binary(int(shifts[index]), int(values[index]))
            contexts.note(lanes, bins, values)
            parts.append(values)
    except AssertionError as error:
        raise ValueError("These are not coefficients: the range coder finds no symbol.") from error
    magnitudes = np.concatenate(parts) if parts else np.zeros(0, np.int64)
    negative = np.zeros(len(magnitudes), bool)
    if signs:
        negative[magnitudes > 0] = numbers.take(int(np.count_nonzero(magnitudes)))
    if len(numbers.bits) - numbers.place > 7:
        raise ValueError("These are not coefficients: the payload ends too late.")
    out = np.empty(len(magnitudes), np.int64)
    out[order.places()] = np.where(negative, -magnitudes, magnitudes)
    return out.reshape(shape)
