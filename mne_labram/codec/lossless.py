"""Integer samples of any channels to bytes and back, exactly or within so many steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from mne_labram.codec.prediction import MAX_COEFFICIENT, MAX_GROUP, plan_prediction, regressor_lags, run_predictors
from mne_labram.codec.residuals import decode_residuals, encode_residuals

__all__ = ["LosslessCoder"]

#: First byte of a payload: samples as they are, or coded.
_PLAIN, _CODED = 0, 1
#: How a channel is kept.
_CONSTANT, _CHANGES, _PREDICTED = 0, 1, 2
_MAX_CHANNELS = 4096
_MAX_ERROR = 2**24
_INT32 = np.iinfo(np.int32)


class LosslessCoder:
    """Integers in, the same integers out, in fewer bits than FLAC needs because channels predict each other.

    Parameters
    ----------
    max_error : int
        Largest difference of a decoded sample, in steps; 0: none.
    n_channels : int | None
        Number of channels, where it is known: payloads that hold another are refused before anything is decoded.

    Raises
    ------
    ValueError
        If one of these is no such integer.

    Notes
    -----
    A channel that never changes takes a few bytes, one that changes seldom (triggers) a few bytes per change. All
    others are divided by the largest number that divides all their differences, and predicted by
    :mod:`mne_labram.codec.prediction`; :mod:`mne_labram.codec.residuals` codes what is left. Everything the decoder
    computes is integer arithmetic. Blocks of half a minute or more are best: what is learned about the channels begins
    anew with every block.
    """

    name = "lossless"

    def __init__(self, *, max_error: int = 0, n_channels: int | None = None) -> None:
        if not _is_integer(max_error) or not 0 <= max_error <= _MAX_ERROR:
            raise ValueError(f"max_error must be an integer from 0 to {_MAX_ERROR}, in steps, got {max_error!r}.")
        if n_channels is not None and (not _is_integer(n_channels) or not 1 <= n_channels <= _MAX_CHANNELS):
            raise ValueError(f"n_channels must be an integer from 1 to {_MAX_CHANNELS} or None, got {n_channels!r}.")
        self.max_error = int(max_error)
        self.n_channels = None if n_channels is None else int(n_channels)

    @classmethod
    def make(
        cls, *, sfreq: float, ch_names: list[str], block_samples: int, max_error: int = 0, **options: Any
    ) -> LosslessCoder:
        """Make the coder for a recording.

        Parameters
        ----------
        sfreq : float
            Sampling rate in Hz; of no importance here, as is ``block_samples``.
        ch_names : list of str
            Channels.
        block_samples : int
            Samples of a block.
        max_error : int
            Largest difference of a decoded sample, in steps.
        **options : object
            What other coders know; not looked at.

        Returns
        -------
        coder : LosslessCoder
            The coder.
        """
        return cls(max_error=max_error, n_channels=len(ch_names))

    def parameters(self) -> dict[str, Any]:
        """Return what another process needs to decode."""
        return {"max_error": self.max_error, "n_channels": self.n_channels}

    def encode(self, digital: np.ndarray, *, bits: int | None = None) -> bytes:
        """Return the bytes of a block.

        Parameters
        ----------
        digital : ndarray of int, shape (n_channels, n_samples)
            Samples; any values of 32 bits. Not modified.
        bits : int | None
            Not looked at: what is exact takes what it takes.

        Returns
        -------
        payload : bytes
            For :meth:`decode`.

        Raises
        ------
        TypeError
            If the samples are no integers.
        ValueError
            If they are of another shape, or beyond 32 bits.
        """
        digital = np.asarray(digital)
        if digital.dtype.kind not in "iu":
            raise TypeError(f"Samples must be integers, got {digital.dtype}; divide them by the step of their grid.")
        if (
            digital.ndim != 2
            or not 1 <= len(digital) <= _MAX_CHANNELS
            or len(digital) != (self.n_channels or len(digital))
        ):
            wanted = self.n_channels or f"1 to {_MAX_CHANNELS}"
            raise ValueError(f"Samples must be of shape ({wanted}, n_samples), got {digital.shape}.")
        if digital.size and not (_INT32.min <= digital.min() and digital.max() <= _INT32.max):
            raise ValueError("Samples must fit into 32 bits; keep them on a coarser grid.")
        n_channels, n_samples = digital.shape
        head = bytearray([_CODED])
        _put(head, n_channels)
        predicted, steps = [], []
        x = digital.astype(np.int64)
        for channel in range(n_channels if n_samples else 0):
            divisor = self._put_channel(head, x[channel])
            if divisor:
                predicted.append(channel)
                steps.append(divisor)
        parts = [bytes(head)]
        for first, last in _groups(len(predicted)):
            rows, divisors = predicted[first:last], np.array(steps[first:last])
            parts.append(self._encode_group(x[rows], divisors))
        payload = b"".join(parts)
        plain = bytearray([_PLAIN])
        _put(plain, n_channels)
        if len(plain) + 4 * digital.size < len(payload):
            return bytes(plain) + digital.astype("<i4").tobytes()
        return payload

    def _put_channel(self, head: bytearray, x: np.ndarray) -> int:
        """Write how a channel is kept; return by what it is divided, or 0 if nothing more is to be said of it."""
        low, high = int(x.min()), int(x.max())
        if high - low <= 2 * self.max_error:
            head.append(_CONSTANT)
            _put_signed(head, (low + high) // 2)
            return 0
        differences = np.diff(x)
        changes = np.flatnonzero(differences)
        if len(changes) * 64 <= len(x):
            head.append(_CHANGES)
            _put_signed(head, int(x[0]))
            _put(head, len(changes))
            for gap, change in zip(np.diff(changes, prepend=-1).tolist(), differences[changes].tolist(), strict=True):
                _put(head, gap)
                _put_signed(head, change)
            return 0
        divisor = int(np.gcd.reduce(differences))
        head.append(_PREDICTED)
        _put_signed(head, int(x[0]))
        _put(head, divisor)
        return divisor

    def _encode_group(self, x: np.ndarray, divisors: np.ndarray) -> bytes:
        samples = np.ascontiguousarray(((x - x[:, :1]) // divisors[:, None]).T)
        low, high = _bounds(x[:, 0], divisors)
        allowed = self.max_error // divisors
        plan = plan_prediction(samples, allowed)
        residuals = np.empty_like(samples)
        run_predictors(False, samples, residuals, *plan, allowed, low, high)
        coefficients, warm_up, start_order, n_lags, down = plan
        out = bytearray()
        _put(out, len(coefficients))
        for coefficient in coefficients.tolist():
            _put_signed(out, coefficient)
        out += bytes([warm_up, start_order, n_lags, down])
        content = encode_residuals(residuals)
        _put(out, len(content))
        return bytes(out) + content

    def decode(self, payload: bytes, n_samples: int) -> np.ndarray:
        """Return the samples of a block.

        Parameters
        ----------
        payload : bytes
            From :meth:`encode`, by a coder with the same parameters.
        n_samples : int
            Samples per channel.

        Returns
        -------
        digital : ndarray of int32, shape (n_channels, n_samples)
            Samples, each within ``max_error`` of what it was.

        Raises
        ------
        ValueError
            If this cannot be a payload of this coder. Whether it is the one that was written is for a checksum to say.
        """
        payload = bytes(payload)
        if not payload or payload[0] not in (_PLAIN, _CODED):
            raise ValueError("A block of integers begins with an unknown mark; the file is damaged.")
        n_channels, place = _take(payload, 1)
        if not 1 <= n_channels <= _MAX_CHANNELS or n_channels != (self.n_channels or n_channels):
            raise ValueError(f"A block of integers speaks of {n_channels} channels; the file is damaged.")
        if payload[0] == _PLAIN:
            if len(payload) - place != 4 * n_channels * n_samples:
                raise ValueError("A block of integers is of another length than it should be; the file is damaged.")
            return np.frombuffer(payload, "<i4", offset=place).astype(np.int32).reshape(n_channels, n_samples)
        if n_samples and len(payload) - place < 2 * n_channels:
            raise ValueError("A block of integers ends too early; the file is damaged.")
        out = np.zeros((n_channels, n_samples), dtype=np.int32)
        predicted, first, divisors = [], [], []
        for channel in range(n_channels if n_samples else 0):
            mode, place = _take(payload, place)
            value, place = _take_signed(payload, place)
            if not _INT32.min <= value <= _INT32.max:
                raise ValueError("A channel begins beyond 32 bits; the file is damaged.")
            if mode == _CONSTANT:
                out[channel] = value
            elif mode == _CHANGES:
                place = _take_changes(payload, place, value, out[channel])
            elif mode == _PREDICTED:
                divisor, place = _take(payload, place)
                if not 1 <= divisor < 2**32:
                    raise ValueError("A channel is divided by what cannot be; the file is damaged.")
                predicted.append(channel)
                first.append(value)
                divisors.append(divisor)
            else:
                raise ValueError("A channel is kept in an unknown way; the file is damaged.")
        for start, stop in _groups(len(predicted)):
            begin, divisor = np.array(first[start:stop]), np.array(divisors[start:stop])
            samples, place = self._decode_group(payload, place, n_samples, begin, divisor)
            out[predicted[start:stop]] = (samples * divisor + begin).T
        if place != len(payload):
            raise ValueError("A block of integers goes on after its end; the file is damaged.")
        return out

    def _decode_group(
        self, payload: bytes, place: int, n_samples: int, begin: np.ndarray, divisors: np.ndarray
    ) -> tuple[np.ndarray, int]:
        n_channels = len(begin)
        order, place = _take(payload, place)
        if order > 32:
            raise ValueError("A predictor is longer than any; the file is damaged.")
        coefficients = np.zeros(order, dtype=np.int64)
        for k in range(order):
            coefficient, place = _take_signed(payload, place)
            coefficients[k] = max(min(coefficient, MAX_COEFFICIENT), -MAX_COEFFICIENT)
        numbers = payload[place : place + 4]
        place += 4
        length, place = _take(payload, place)
        if len(numbers) < 4 or length > len(payload) - place:
            raise ValueError("A block of integers ends too early; the file is damaged.")
        warm_up, start_order, n_lags, down = numbers
        if start_order > 3 or not 1 <= n_lags <= max(regressor_lags(n_channels), 1) or down > 34:
            raise ValueError("A predictor is like none; the file is damaged.")
        residuals = decode_residuals(payload[place : place + length], n_samples, n_channels)
        samples = np.zeros_like(residuals)
        low, high = _bounds(begin, divisors)
        steps = self.max_error // divisors
        run_predictors(True, samples, residuals, coefficients, warm_up, start_order, n_lags, down, steps, low, high)
        return samples, place + length


def _bounds(begin: np.ndarray, divisors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest and largest sample there may be, as differences to the first one, divided."""
    return -((begin - _INT32.min) // divisors), (_INT32.max - begin) // divisors


def _groups(n_channels: int) -> list[tuple[int, int]]:
    """Cut channels into groups of about the same size, none too large."""
    n_groups = -(-n_channels // MAX_GROUP)
    edges = [n_channels * k // n_groups for k in range(n_groups + 1)] if n_groups else []
    return list(zip(edges[:-1], edges[1:], strict=True))


def _is_integer(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _put(out: bytearray, value: int) -> None:
    """Write a non-negative integer, seven bits a byte."""
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)


def _put_signed(out: bytearray, value: int) -> None:
    _put(out, 2 * value if value >= 0 else -2 * value - 1)


def _take(payload: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 63, 7):
        if place >= len(payload):
            raise ValueError("A block of integers ends too early; the file is damaged.")
        byte = payload[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise ValueError("A number in a block of integers has no end; the file is damaged.")


def _take_signed(payload: bytes, place: int) -> tuple[int, int]:
    value, place = _take(payload, place)
    return (-(value + 1) >> 1 if value & 1 else value >> 1), place


def _take_changes(payload: bytes, place: int, value: int, out: np.ndarray) -> int:
    """Fill a channel that changes seldom."""
    count, place = _take(payload, place)
    begin = 0
    for _ in range(count):
        gap, place = _take(payload, place)
        change, place = _take_signed(payload, place)
        # A gap leads to the last sample before a change; the first one counts from before the beginning.
        stop = begin + gap
        if not (1 <= gap and stop < len(out)):
            raise ValueError("A channel changes after its end; the file is damaged.")
        out[begin:stop] = value
        value, begin = value + change, stop
        if not _INT32.min <= value <= _INT32.max:
            raise ValueError("A channel goes beyond 32 bits; the file is damaged.")
    out[begin:] = value
    return place
