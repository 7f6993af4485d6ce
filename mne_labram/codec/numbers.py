"""Whole numbers of variable length."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["pack_numbers", "unpack_numbers"]


def pack_numbers(numbers: Iterable[int]) -> bytes:
    """Write whole numbers, small ones in one byte.

    Parameters
    ----------
    numbers : iterable of int
        Any, within 63 bits.

    Returns
    -------
    data : bytes
        Seven bits per byte, the lowest first; the eighth says that more follow. Signs alternate: 0, -1, 1, -2, ...
    """
    out = bytearray()
    for number in numbers:
        value = 2 * number if number >= 0 else -2 * number - 1
        while value > 127:
            out.append(value & 127 | 128)
            value >>= 7
        out.append(value)
    return bytes(out)


def unpack_numbers(data: bytes, count: int) -> tuple[list[int], bytes]:
    """Undo :func:`pack_numbers`.

    Parameters
    ----------
    data : bytes
        Begins with the numbers.
    count : int
        How many there are.

    Returns
    -------
    numbers : list of int
        The numbers.
    rest : bytes
        What follows.

    Raises
    ------
    ValueError
        If there are fewer, or one is too long.
    """
    numbers, place = [], 0
    for _ in range(count):
        value, shift = 0, 0
        while True:
            if place >= len(data) or shift > 63:
                raise ValueError("Numbers in this payload are incomplete or too long.")
            byte = data[place]
            place += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        if value >> 64:
            raise ValueError("Numbers in this payload are incomplete or too long.")
        numbers.append(-((value + 1) >> 1) if value & 1 else value >> 1)
    return numbers, data[place:]
