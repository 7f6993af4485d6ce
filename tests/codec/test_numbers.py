"""Whole numbers of variable length come back as they were, and nothing longer than they can be is taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mne_labram.codec.numbers import pack_numbers, unpack_numbers


@given(numbers=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20), rest=st.binary(max_size=5))
def test_there_and_back(numbers: list[int], rest: bytes) -> None:
    assert unpack_numbers(pack_numbers(numbers) + rest, len(numbers)) == (numbers, rest)


def test_small_numbers_take_one_byte() -> None:
    assert len(pack_numbers(range(-64, 64))) == 128
    assert len(pack_numbers([64])) == 2


@pytest.mark.parametrize(
    "data", [b"", b"\x80", b"\xff" * 9, b"\xff" * 9 + b"\x02", b"\xff" * 9 + b"\x7f", b"\xff" * 20]
)
def test_damage_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="incomplete or too long"):
        unpack_numbers(data, 1)
