"""Residuals of prediction to bytes and back: a range coder that knows how large the last residuals were.

Residuals are small integers about zero whose spread changes over time, in all channels together when a patient moves.
The spread of the next eight of a channel is told from the last ones of that channel and of all, in integers; it chooses
one of some 160 fixed distributions. What a distribution cannot tell (signs, low bits of large numbers) is stored as it
is, bit by bit.
"""

from __future__ import annotations

from decimal import Context, Decimal, localcontext
from functools import lru_cache

import numpy as np

from mne_labram._compiled import compiled

__all__ = ["decode_residuals", "encode_residuals", "token_distributions"]

#: Samples for which the spread is told at once.
_FRAME = 8
#: Magnitudes up to this are tokens; beyond, every token stands for twice as many as the one before.
_DIRECT, _N_TOKENS = 40, 40 + 36
#: Distributions per octave, octave of the narrowest and of the widest (of the mean magnitude).
_PER_OCTAVE, _NARROWEST, _WIDEST = 4, -8, 2
_N_DISTRIBUTIONS = (_WIDEST - _NARROWEST + 1) * _PER_OCTAVE
_N_SCALES = _N_DISTRIBUTIONS + 33 * _PER_OCTAVE
#: Fractional bits of mean magnitudes; fractional bits of their logarithms to base 2.
_MEAN_BITS, _LOG_BITS = 12, 4
#: 2 ** (k / 16) with 15 fractional bits.
_SIXTEENTHS = np.array(
    [32768, 34219, 35734, 37316, 38968, 40693, 42495, 44376, 46341, 48393, 50535, 52773, 55109, 57549, 60097, 62757],
    dtype=np.int64,
)
#: Symbols per call of the coder, which bounds the memory for their distributions.
_CHUNK = 1 << 12


@lru_cache(maxsize=1)
def token_distributions() -> np.ndarray:
    """Return the distributions of the tokens.

    Returns
    -------
    probabilities : ndarray of float32, shape (44, 76)
        One row per spread. Multiples of 2**-24 that sum to one, so that no sum of them is ever rounded.

    Notes
    -----
    Logistic distributions, integrated over each integer, with one in a thousand given to a heavy tail: near the learned
    histograms of what prediction leaves of EEG (within 0.2 % of the bits on eegmat, CHB-MIT and eegmmidb). The mean
    magnitude of the integers is that of the row. Computed in decimal arithmetic, which is the same on every machine.
    """
    rows = np.zeros((_N_DISTRIBUTIONS, _N_TOKENS), dtype=np.int64)
    # The last token is open to the right.
    edges = [*range(_DIRECT + 1), *(_DIRECT - 1 + (1 << k) for k in range(1, _N_TOKENS - _DIRECT))]
    with localcontext(Context(prec=20)):
        half, tail = Decimal("0.5"), Decimal("0.001")
        for row in range(_N_DISTRIBUTIONS):
            # In the middle of what is rounded to this row.
            mean = Decimal(2) ** (Decimal(row) / _PER_OCTAVE + _NARROWEST + half / _PER_OCTAVE)
            spread = _spread(mean)
            beyond = []
            for edge in edges:
                exponent = (edge - half) / spread
                body = Decimal(1) if edge == 0 else 2 / (1 + exponent.exp()) if exponent < 200 else Decimal(0)
                # Sums to one: 1, 1/2, 1/4 ... beyond 0, 1, 3 ...
                beyond.append(body * (1 - tail) + tail / (1 + edge))
            beyond.append(Decimal(0))
            for token in range(_N_TOKENS):
                rows[row, token] = max(1, int((beyond[token] - beyond[token + 1]) * 2**24))
    rows[np.arange(len(rows)), rows.argmax(axis=1)] += 2**24 - rows.sum(axis=1)
    probabilities = (rows / 2**24).astype(np.float32)
    probabilities.setflags(write=False)
    return probabilities


def _spread(mean: Decimal) -> Decimal:
    """Return the parameter of a logistic variable that, rounded to integers, has this mean magnitude."""
    if mean > 4:
        return mean / (2 * Decimal(2).ln())
    low, high = Decimal("0.01"), Decimal(4)
    for _ in range(24):
        spread = (low + high) / 2
        total = Decimal(0)
        for k in range(1, 200):
            term = 2 / (1 + ((k - Decimal("0.5")) / spread).exp())
            total += term
            if term < Decimal("1e-6"):
                break
        low, high = (spread, high) if total < mean else (low, spread)
    return spread


@compiled
def _log2(value):
    """Return the logarithm to base 2 of a positive integer, with four fractional bits."""
    length = 0
    while value >> length > 1:
        length += 1
    mantissa = value << (15 - length) if length < 15 else value >> (length - 15)
    part = 0
    for k in range(1, 16):
        if mantissa >= _SIXTEENTHS[k]:
            part = k
    return (length << _LOG_BITS) + part


@compiled
def _next_scales(magnitudes, n_new, states, scales):
    """Take in the last ``n_new`` magnitudes of every channel, and tell the scale of the next ones.

    ``states`` holds two moving averages per channel, over some 32 and 128 samples.
    """
    n_channels = states.shape[0]
    surprise = 0
    for c in range(n_channels):
        if n_new > 0:
            total = np.int64(0)
            for t in range(n_new):
                total += magnitudes[t, c]
            last = (total << _MEAN_BITS) // n_new
            surprise += _log2(last + 256) - _log2(states[c, 1] + 256)
            states[c, 0] += (last - states[c, 0]) >> 2
            states[c, 1] += (last - states[c, 1]) >> 4
            scales[c] = _log2((last + states[c, 0] * 7 + states[c, 1] * 8 >> 4) + 1)
        else:
            scales[c] = _log2(states[c, 1] + 1)
    # When all channels are louder than they were, the next samples will be too, and more so than one channel can tell.
    surprise = surprise * 4 // (16 * n_channels)
    for c in range(n_channels):
        scale = scales[c] + 2 + surprise - ((_MEAN_BITS + _NARROWEST) << _LOG_BITS)
        scales[c] = min(max(scale // (16 // _PER_OCTAVE), 0), _N_SCALES - 1)


@compiled
def _tokens(residuals, states, tokens, rows, raw, raw_bits):
    """Tell tokens, distributions and raw bits of all residuals."""
    n_samples, n_channels = residuals.shape
    scales = np.zeros(n_channels, dtype=np.int64)
    magnitudes = np.zeros((_FRAME, n_channels), dtype=np.int64)
    n_new = 0
    for start in range(0, n_samples, _FRAME):
        _next_scales(magnitudes, n_new, states, scales)
        n_new = min(_FRAME, n_samples - start)
        for t in range(n_new):
            for c in range(n_channels):
                shift = _shift_of(scales[c])
                residual = residuals[start + t, c]
                value = (residual + ((1 << shift) >> 1)) >> shift
                low = residual + ((1 << shift) >> 1) - (value << shift)
                magnitude = abs(value)
                token, extra = magnitude, 0
                if magnitude >= _DIRECT:
                    rest = magnitude - _DIRECT + 1
                    while rest >> (extra + 1) > 0:
                        extra += 1
                    token = _DIRECT + extra
                    low += (rest - (1 << extra)) << shift
                bits = shift + extra
                if token > 0:
                    low += np.int64(value < 0) << bits
                    bits += 1
                tokens[start + t, c] = token
                rows[start + t, c] = min(scales[c], _N_DISTRIBUTIONS - _PER_OCTAVE + scales[c] % _PER_OCTAVE)
                raw[start + t, c] = low
                raw_bits[start + t, c] = bits
                magnitudes[t, c] = _magnitude_of(token) << shift


@compiled
def _shift_of(scale):
    return max(0, scale // _PER_OCTAVE - (_WIDEST - _NARROWEST))


@compiled
def _magnitude_of(token):
    """Return the magnitude that a token stands for, or one in the middle of those."""
    if token < _DIRECT:
        return np.int64(token)
    middle = np.int64(1) << (token - _DIRECT)
    return _DIRECT - 1 + middle + (middle >> 1)


@compiled
def _pack(values, n_bits, out):
    held, n_held, place = np.uint64(0), 0, 0
    for i in range(values.size):
        left = n_bits[i]
        while left > 0:
            taken = min(left, 8 - n_held)
            left -= taken
            part = (values[i] >> left) & ((1 << taken) - 1)
            held = (held << np.uint64(taken)) | np.uint64(part)
            n_held += taken
            if n_held == 8:
                out[place] = np.uint8(held)
                place += 1
                held, n_held = np.uint64(0), 0
    if n_held > 0:
        out[place] = np.uint8(held << np.uint64(8 - n_held))


@compiled
def _unpack(content, tokens, scales, residuals):
    """Put residuals together from tokens, scales and raw bits; return whether there were as many bits as needed."""
    place = np.int64(0)
    end = np.int64(content.size) * 8
    n_samples, n_channels = tokens.shape
    for t in range(n_samples):
        for c in range(n_channels):
            token = np.int64(tokens[t, c])
            shift = _shift_of(np.int64(scales[t // _FRAME, c]))
            extra = max(token - _DIRECT, 0)
            left = shift + extra + (1 if token > 0 else 0)
            if place + left > end or left > 48:
                return False
            raw = np.int64(0)
            while left > 0:
                taken = min(left, 8 - (place & 7))
                byte = np.int64(content[place >> 3])
                raw = (raw << taken) | ((byte >> (8 - (place & 7) - taken)) & ((1 << taken) - 1))
                place += taken
                left -= taken
            value = token
            if token >= _DIRECT:
                value = _DIRECT - 1 + (np.int64(1) << extra) + ((raw >> shift) & ((np.int64(1) << extra) - 1))
            if token > 0 and (raw >> (shift + extra)) & 1:
                value = -value
            residuals[t, c] = (value << shift) + (raw & ((np.int64(1) << shift) - 1)) - ((np.int64(1) << shift) >> 1)
    return end - place < 8


@compiled
def _prepare(tokens, n_new, states, scales, probabilities, chosen):
    """Take in the tokens of a frame, given its scales; tell the next frame's scales and lay out its distributions."""
    n_channels = states.shape[0]
    magnitudes = np.zeros((_FRAME, n_channels), dtype=np.int64)
    for t in range(n_new):
        for c in range(n_channels):
            magnitudes[t, c] = _magnitude_of(tokens[t * n_channels + c]) << _shift_of(scales[c])
    _next_scales(magnitudes, n_new, states, scales)
    for t in range(_FRAME):
        for c in range(n_channels):
            row = min(scales[c], _N_DISTRIBUTIONS - _PER_OCTAVE + scales[c] % _PER_OCTAVE)
            chosen[t * n_channels + c] = probabilities[row]


def _first_states(start: np.ndarray) -> np.ndarray:
    octave = start // _PER_OCTAVE + _MEAN_BITS + _NARROWEST
    means = (_SIXTEENTHS[start % _PER_OCTAVE * (16 // _PER_OCTAVE)] << octave) >> 15
    return np.repeat(means[:, None], 2, axis=1)


def encode_residuals(residuals: np.ndarray) -> bytes:
    """Write residuals.

    Parameters
    ----------
    residuals : ndarray of int64, shape (n_samples, n_channels)
        Not above 2**34 in magnitude; at least one channel.

    Returns
    -------
    content : bytes
        One byte per channel (where its spread begins), the number of words of the range coder, these words (32 bits),
        and the bits that are stored as they are.
    """
    import constriction

    n_samples, n_channels = residuals.shape
    first = np.abs(residuals[: 8 * _FRAME]).mean(axis=0) if n_samples else np.zeros(n_channels)
    start = np.floor(_PER_OCTAVE * (np.log2(np.maximum(first, 2.0**_NARROWEST)) - _NARROWEST)).astype(np.int64)
    start = np.minimum(start, 255)
    tokens = np.empty((n_samples, n_channels), dtype=np.int32)
    rows, raw, raw_bits = (np.empty((n_samples, n_channels), dtype=np.int64) for _ in range(3))
    _tokens(residuals, _first_states(start), tokens, rows, raw, raw_bits)
    probabilities = token_distributions()
    family = constriction.stream.model.Categorical(perfect=False)
    encoder = constriction.stream.queue.RangeEncoder()
    tokens, rows = tokens.ravel(), rows.ravel()
    for begin in range(0, tokens.size, _CHUNK):
        part = slice(begin, begin + _CHUNK)
        encoder.encode(tokens[part], family, probabilities[rows[part]])
    words = encoder.get_compressed().astype("<u4").tobytes()
    packed = np.zeros((int(raw_bits.sum()) + 7) // 8, dtype=np.uint8)
    _pack(raw.ravel(), raw_bits.ravel(), packed)
    return start.astype(np.uint8).tobytes() + (len(words) // 4).to_bytes(4, "little") + words + packed.tobytes()


def decode_residuals(content: bytes, n_samples: int, n_channels: int) -> np.ndarray:
    """Read residuals.

    Parameters
    ----------
    content : bytes
        What :func:`encode_residuals` has written.
    n_samples, n_channels : int
        Shape of the residuals.

    Returns
    -------
    residuals : ndarray of int64, shape (n_samples, n_channels)
        As they were.

    Raises
    ------
    ValueError
        If ``content`` cannot be residuals of this shape.
    """
    import constriction

    head = n_channels + 4
    if len(content) < head:
        raise ValueError("The residuals of a block end too early; the file is damaged.")
    start = np.frombuffer(content, dtype=np.uint8, count=n_channels).astype(np.int64)
    n_bytes = 4 * int.from_bytes(content[n_channels:head], "little")
    if len(content) < head + n_bytes or start.max(initial=0) >= _N_SCALES:
        raise ValueError("The residuals of a block make no sense; the file is damaged.")
    words = np.frombuffer(content, dtype="<u4", count=n_bytes // 4, offset=head).astype(np.uint32)
    packed = np.frombuffer(content, dtype=np.uint8, offset=head + n_bytes)
    probabilities = token_distributions()
    family = constriction.stream.model.Categorical(perfect=False)
    decoder = constriction.stream.queue.RangeDecoder(words)
    n_frames = -(-n_samples // _FRAME)
    scales = np.zeros((n_frames, n_channels), dtype=np.int64)
    tokens = np.zeros(n_samples * n_channels, dtype=np.int32)
    states = _first_states(start)
    current = np.zeros(n_channels, dtype=np.int64)
    chosen = np.empty((_FRAME * n_channels, _N_TOKENS), dtype=np.float32)
    last = tokens[:0]
    for frame in range(n_frames):
        begin = frame * _FRAME * n_channels
        _prepare(last, len(last) // n_channels, states, current, probabilities, chosen)
        scales[frame] = current
        try:
            last = decoder.decode(family, chosen[: tokens.size - begin])
        except AssertionError as error:  # what constriction raises where no symbol fits
            raise ValueError("The residuals of a block cannot be decoded; the file is damaged.") from error
        tokens[begin : begin + last.size] = last
    residuals = np.empty((n_samples, n_channels), dtype=np.int64)
    if not (decoder.maybe_exhausted() and _unpack(packed, tokens.reshape(n_samples, n_channels), scales, residuals)):
        raise ValueError("The residuals of a block are too many or too few; the file is damaged.")
    return residuals
