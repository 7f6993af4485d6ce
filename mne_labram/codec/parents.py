"""What channels decoded before tell of a channel's signs, and of what was rounded to zero."""

from __future__ import annotations

from typing import NamedTuple, Self

import constriction
import numpy as np

from mne_labram._compiled import compiled
from mne_labram.codec.numbers import pack_numbers, unpack_numbers

__all__ = ["Family", "decode_signs", "encode_signs", "plan_family", "sign_bits"]

#: Values are whole numbers of this part of a step, so that every machine predicts the same.
UNIT = 128
# A channel is predicted from so many before it, with weights in sixteenths.
_MAX_PARENTS, _WEIGHT = 3, 16
# Predictions fall into classes: nothing predicted, then quarters of a step; the last takes all above.
_N_CLASSES, _CLASS = 8, UNIT // 4
# A sign agrees with the prediction with a probability told in 256ths.
_SHARES = 256


class Family(NamedTuple):
    """Who is predicted from whom, and what a prediction says.

    Parameters
    ----------
    parents : list of list of (int, int)
        For each channel, channels before it and their weights in sixteenths.
    agree : array of int64, shape (8,)
        By class of the prediction's size, the probability in 256ths that a sign is that of the prediction.
    zero : array of int64, shape (8,)
        Where a value that was rounded to zero lies on average, towards the prediction, in 128ths of a step.
    one, more : array of int64, shape (8, 2)
        Where values of 1, and above, lie farther out on average: those against the prediction, those with it.
    """

    parents: list[list[tuple[int, int]]]
    agree: np.ndarray
    zero: np.ndarray
    one: np.ndarray
    more: np.ndarray

    @classmethod
    def plain(cls, parents: list[list[tuple[int, int]]]) -> Self:
        """Return a family of whose predictions nothing is known."""
        zeros = np.zeros((_N_CLASSES, 2), np.int64)
        return cls(parents, np.full(_N_CLASSES, _SHARES // 2), zeros[:, 0], zeros, zeros)

    def predict(self, channel: int, known: np.ndarray) -> np.ndarray:
        """Predict a channel.

        Parameters
        ----------
        channel : int
            Index.
        known : array of int64, shape (n_channels, n_frames, n_bins)
            Values of the channels before it, in 128ths of a step.

        Returns
        -------
        predicted : array of int64, shape (n_frames, n_bins)
            In 128ths of a step.
        """
        pairs = np.array(self.parents[channel], np.int64).reshape(-1, 2)
        predicted = np.empty(known.shape[1:], np.int64)
        _predict(known, pairs, predicted)
        return predicted

    def values(self, coefficients: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Tell where the values of a channel lie that became these integers.

        Parameters
        ----------
        coefficients, predicted : array of int64, shape (n_frames, n_bins)
            Integers, and the prediction.

        Returns
        -------
        values : array of int64, shape (n_frames, n_bins)
            In 128ths of a step.
        """
        values = np.empty(coefficients.shape, np.int64)
        _values(coefficients, predicted, self.zero, self.one, self.more, values)
        return values

    def to_bytes(self) -> bytes:
        """Write it down."""
        numbers = []
        for parents in self.parents:
            numbers += [len(parents), *(each for pair in parents for each in pair)]
        if any(self.parents):
            numbers += [*(self.agree - _SHARES // 2).tolist(), *self.zero.tolist()]
            numbers += [*self.one.reshape(-1).tolist(), *self.more.reshape(-1).tolist()]
        else:
            numbers += [int(self.one[0, 0]), int(self.more[0, 0])]
        return pack_numbers(numbers)

    @classmethod
    def from_bytes(cls, data: bytes, n_channels: int) -> tuple[Self, bytes]:
        """Undo :meth:`to_bytes`; return what follows too.

        Parameters
        ----------
        data : bytes
            Begins with a family.
        n_channels : int
            Of the block.

        Returns
        -------
        family : Family
            The same.
        rest : bytes
            What follows.

        Raises
        ------
        ValueError
            If this is no family of so many channels.
        """
        parents: list[list[tuple[int, int]]] = []
        for channel in range(n_channels):
            (count,), data = unpack_numbers(data, 1)
            if not 0 <= count <= _MAX_PARENTS:
                raise ValueError("This is no payload of the neural coder: a channel has too many parents.")
            numbers, data = unpack_numbers(data, 2 * count)
            pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
            if any(not 0 <= parent < channel or abs(weight) > 8 * _WEIGHT for parent, weight in pairs):
                raise ValueError(
                    "This is no payload of the neural coder: a channel has parents that are not before it."
                )
            parents.append(pairs)
        n = _N_CLASSES
        if not any(parents):
            numbers, rest = unpack_numbers(data, 2)
            out = cls.plain(parents)
            one, more = (np.full((n, 2), number) for number in numbers)
            family = out._replace(one=one, more=more)
        else:
            numbers, rest = unpack_numbers(data, 6 * n)
            table = np.array(numbers, np.int64)
            family = cls(
                parents,
                table[:n] + _SHARES // 2,
                table[n : 2 * n],
                table[2 * n : 4 * n].reshape(n, 2),
                table[4 * n :].reshape(n, 2),
            )
        limits = [family.agree.min() < 1, family.agree.max() >= _SHARES]
        limits += [np.abs(each).max() > 4 * UNIT for each in (family.zero, family.one, family.more)]
        if any(limits):
            raise ValueError("This is no payload of the neural coder: its tables are beyond all limits.")
        return family, rest


def _classes(predicted: np.ndarray) -> np.ndarray:
    return np.where(predicted == 0, 0, np.minimum(np.abs(predicted) // _CLASS + 1, _N_CLASSES - 1))


@compiled
def _class(guess):
    """Do what :func:`_classes` does with one number."""
    return min(abs(guess) // _CLASS + 1, _N_CLASSES - 1) if guess else 0


@compiled
def _predict(known, pairs, predicted):
    """Add up parents with their weights, of which sixteenths are whole numbers."""
    for frame in range(predicted.shape[0]):
        for place in range(predicted.shape[1]):
            total = 0
            for pair in range(pairs.shape[0]):
                total += pairs[pair, 1] * known[pairs[pair, 0], frame, place]
            predicted[frame, place] = total // _WEIGHT


@compiled
def _values(coefficients, predicted, zero, one, more, values):
    """Tell where integers lie, given predictions."""
    for frame in range(predicted.shape[0]):
        for place in range(predicted.shape[1]):
            number, side = coefficients[frame, place], np.sign(predicted[frame, place])
            group = _class(predicted[frame, place])
            if number == 0:
                values[frame, place] = side * zero[group]
                continue
            sign, size = np.sign(number), abs(number)
            agrees = 1 if sign == side else 0
            outer = one[group, agrees] if size == 1 else more[group, agrees]
            values[frame, place] = sign * (UNIT * size + outer)


@compiled
def _tally(values, coefficients, predicted, counts, sums):
    """Count and add up how far values lie outside of their integers, in one channel.

    ``counts`` and ``sums`` are by class of the prediction, by whether the sign agrees (of zeros: whether there is a
    prediction), and by size: 0, 1, more.
    """
    for frame in range(predicted.shape[0]):
        for place in range(predicted.shape[1]):
            number, side = coefficients[frame, place], np.sign(predicted[frame, place])
            group = _class(predicted[frame, place])
            if number == 0:
                counts[group, abs(side), 0] += 1
                sums[group, abs(side), 0] += side * values[frame, place]
            else:
                sign, size = np.sign(number), abs(number)
                agrees = 1 if sign == side else 0
                counts[group, agrees, min(size, 2)] += 1
                sums[group, agrees, min(size, 2)] += sign * values[frame, place] - size


def plan_family(
    values: np.ndarray, coefficients: np.ndarray, *, max_parents: int = _MAX_PARENTS, n_rounds: int = 2
) -> Family:
    """Choose parents for each channel, and see what their predictions are worth.

    Parameters
    ----------
    values : array of float, shape (n_channels, n_frames, n_bins)
        Latents in steps.
    coefficients : array of int, shape (n_channels, n_frames, n_bins)
        What they became.
    max_parents : int
        Parents of a channel, 0 to 3.
    n_rounds : int
        How often tables are learned; the last is nearer to what comes of itself.

    Returns
    -------
    family : Family
        For :func:`encode_signs`.
    """
    n_channels = len(values)
    flat = values.reshape(n_channels, -1)
    # Of what is far above the others, no more than a little is learnt.
    rough = np.clip(coefficients.reshape(n_channels, -1), -30, 30).astype(np.float64)
    wanted = np.clip(flat, -30.0, 30.0)
    inner, outer = rough @ rough.T, rough @ wanted.T
    # A parent costs two bytes and must take off more error than these are worth.
    parents = [_choose_parents(inner, outer, channel, max_parents) for channel in range(n_channels)]
    family = Family.plain(parents)
    # What predictions are worth depends on the values predicted from, and these on that: twice is enough.
    for _ in range(n_rounds):
        family = _learned(family, values, coefficients)
    return family


def _choose_parents(inner: np.ndarray, outer: np.ndarray, channel: int, count: int) -> list[tuple[int, int]]:
    """Take the channels before this one that predict it best, one after the other (orthogonal matching pursuit)."""
    chosen: list[int] = []
    weights = np.zeros(0)
    for _ in range(min(count, channel)):
        residual = outer[:channel, channel] - inner[:channel][:, chosen] @ weights
        gain = residual**2 / (np.diag(inner)[:channel] + 1e-9)
        gain[chosen] = 0
        best = int(gain.argmax())
        if gain[best] < 40:
            break
        chosen.append(best)
        system = inner[np.ix_(chosen, chosen)] + 0.5 * np.eye(len(chosen))
        weights = np.linalg.solve(system, outer[chosen, channel])
    rounded = np.clip(np.round(weights * _WEIGHT), -8 * _WEIGHT, 8 * _WEIGHT).astype(int).tolist()
    return [(parent, weight) for parent, weight in zip(chosen, rounded, strict=True) if weight]


def _learned(family: Family, values: np.ndarray, coefficients: np.ndarray) -> Family:
    """Average what lies behind each integer, by class of the prediction."""
    known, counts = np.zeros(coefficients.shape, np.int64), np.zeros((_N_CLASSES, 2, 3), np.int64)
    sums = np.zeros(counts.shape)
    for channel, integers in enumerate(coefficients):
        predicted = family.predict(channel, known)
        known[channel] = family.values(integers, predicted)
        _tally(values[channel], integers, predicted, counts, sums)

    def means(counts: np.ndarray, sums: np.ndarray) -> np.ndarray:
        # A few values tell little: they are drawn towards nothing.
        return np.clip(np.round(UNIT * sums / (counts + 5)), -UNIT, UNIT).astype(np.int64)

    signed = counts[..., 1:].sum(axis=2)
    agree = np.clip(np.round(_SHARES * (signed[:, 1] + 2) / (signed.sum(axis=1) + 4)), 1, _SHARES - 1).astype(np.int64)
    # Where nothing is predicted, nothing can agree.
    agree[0] = _SHARES // 2
    zero, one, more = (
        means(counts[:, 1, 0], sums[:, 1, 0]),
        means(counts[..., 1], sums[..., 1]),
        means(counts[..., 2], sums[..., 2]),
    )
    if not any(family.parents):
        one[:], more[:] = (means(counts[..., size].sum(), sums[..., size].sum()) for size in (1, 2))
    return Family(family.parents, agree, zero, one, more)


def _tables(family: Family) -> np.ndarray:
    agree = family.agree.astype(np.float32) / _SHARES
    return np.stack([1 - agree, agree], axis=1)


@compiled
def _sign_bits(coefficients, predicted, lengths, bits):
    """Look up what each sign of a channel takes."""
    for frame in range(predicted.shape[0]):
        for place in range(predicted.shape[1]):
            number, guess = coefficients[frame, place], predicted[frame, place]
            if number == 0:
                continue
            bits[frame, place] = lengths[_class(guess), 1 if (number < 0) == (guess < 0) else 0]


def sign_bits(family: Family, coefficients: np.ndarray) -> np.ndarray:
    """Compute what the sign of each coefficient takes.

    Parameters
    ----------
    family : Family
        From :func:`plan_family`.
    coefficients : array of int64, shape (n_channels, n_frames, n_bins)
        Integers.

    Returns
    -------
    bits : array of float64
        Of the same shape; 0 for zeros.
    """
    known, bits = np.zeros(coefficients.shape, np.int64), np.zeros(coefficients.shape)
    lengths = -np.log2(_tables(family).astype(np.float64))
    for channel, integers in enumerate(coefficients):
        predicted = family.predict(channel, known)
        known[channel] = family.values(integers, predicted)
        _sign_bits(integers, predicted, lengths, bits[channel])
    return bits


def encode_signs(family: Family, coefficients: np.ndarray) -> bytes:
    """Code the signs of coefficients.

    Parameters
    ----------
    family : Family
        From :func:`plan_family`.
    coefficients : array of int64, shape (n_channels, n_frames, n_bins)
        Integers.

    Returns
    -------
    payload : bytes
        For :func:`decode_signs`.
    """
    encoder = constriction.stream.queue.RangeEncoder()
    model, tables = constriction.stream.model.Categorical(lazy=True, perfect=False), _tables(family)
    known = np.zeros(coefficients.shape, np.int64)
    for channel, integers in enumerate(coefficients):
        predicted = family.predict(channel, known)
        known[channel] = family.values(integers, predicted)
        here = integers != 0
        agrees = (np.sign(integers) == np.where(predicted < 0, -1, 1))[here]
        if len(agrees):
            encoder.encode(agrees.astype(np.int32), model, tables[_classes(predicted)[here]])
    return np.asarray(encoder.get_compressed(), "<u4").tobytes()


def decode_signs(family: Family, payload: bytes, magnitudes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Undo :func:`encode_signs`.

    Parameters
    ----------
    family : Family
        The one that was used.
    payload : bytes
        What :func:`encode_signs` gave.
    magnitudes : array of int64, shape (n_channels, n_frames, n_bins)
        Absolute values.

    Returns
    -------
    coefficients : array of int64, shape (n_channels, n_frames, n_bins)
        With their signs.
    values : array of float64, shape (n_channels, n_frames, n_bins)
        Where what became these integers lies on average, in steps.

    Raises
    ------
    ValueError
        If this cannot be such a payload.
    """
    if len(payload) % 4:
        raise ValueError("This is no payload of the neural coder: its signs are incomplete.")
    model, tables = constriction.stream.model.Categorical(lazy=True, perfect=False), _tables(family)
    known, out = np.zeros(magnitudes.shape, np.int64), magnitudes.copy()
    try:
        decoder = constriction.stream.queue.RangeDecoder(np.frombuffer(payload, "<u4").astype(np.uint32))
        for channel, integers in enumerate(out):
            predicted = family.predict(channel, known)
            here = integers != 0
            rows = tables[_classes(predicted)[here]]
            if len(rows):
                agrees = np.asarray(decoder.decode(model, rows), bool)
                integers[here] *= np.where(agrees == (predicted[here] >= 0), 1, -1)
            known[channel] = family.values(integers, predicted)
    except AssertionError as error:
        raise ValueError("This is no payload of the neural coder: the range coder finds no sign.") from error
    return out, known / UNIT
