"""Signs, and zeros, from channels decoded before."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mne_labram.codec.parents import Family, decode_signs, encode_signs, plan_family, sign_bits


def _alike(seed: int = 0, n_channels: int = 5, scale: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Make channels that have most of their signal in common."""
    generator = np.random.default_rng(seed)
    common = generator.standard_normal((1, 40, 30))
    values = scale * (common + 0.4 * generator.standard_normal((n_channels, 40, 30)))
    return values, np.round(values).astype(np.int64)


def test_signs_of_channels_alike_take_less_than_a_bit() -> None:
    values, coefficients = _alike()
    family = plan_family(values, coefficients)
    bits = sign_bits(family, coefficients)
    count = np.count_nonzero(coefficients, axis=(1, 2))
    assert not family.parents[0]
    assert all(1 <= len(parents) <= 3 for parents in family.parents[1:])
    np.testing.assert_allclose(bits[0].sum(), count[0], rtol=0.02)
    assert (bits[1:].sum(axis=(1, 2)) < 0.6 * count[1:]).all()
    payload = encode_signs(family, coefficients)
    assert 8 * len(payload) == pytest.approx(bits.sum(), abs=64)


def test_values_are_nearer_than_plain_integers() -> None:
    values, coefficients = _alike(scale=0.5)
    family = plan_family(values, coefficients)
    _, found = decode_signs(family, encode_signs(family, coefficients), np.abs(coefficients))
    assert np.square(found - values).sum() < 0.8 * np.square(coefficients - values).sum()


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 6),
    st.integers(0, 5),
    st.integers(0, 7),
    st.sampled_from([0.3, 2.0, 1e6]),
    st.integers(0, 3),
)
def test_what_is_coded_comes_back(
    seed: int, n_channels: int, n_frames: int, n_bins: int, scale: float, parents: int
) -> None:
    generator = np.random.default_rng(seed)
    values = scale * generator.standard_normal((n_channels, n_frames, n_bins))
    coefficients = np.round(values).astype(np.int64)
    family = plan_family(values, coefficients, max_parents=parents)
    again, rest = Family.from_bytes(family.to_bytes() + b"rest", n_channels)
    assert rest == b"rest"
    found, where = decode_signs(again, encode_signs(family, coefficients), np.abs(coefficients))
    np.testing.assert_array_equal(found, coefficients)
    assert np.abs(where - coefficients).max(initial=0) <= 2


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 255), st.booleans())
def test_damage_is_refused_or_gives_numbers(place: int, byte: int, shorter: bool) -> None:
    values, coefficients = _alike(n_channels=3)
    family = plan_family(values, coefficients)
    data = bytearray(family.to_bytes())
    if shorter:
        del data[place % len(data) :]
    else:
        data[place % len(data)] = byte
    signs = encode_signs(family, coefficients)
    try:
        damaged, _ = Family.from_bytes(bytes(data), 3)
        found, _ = decode_signs(damaged, signs, np.abs(coefficients))
    except ValueError:
        return
    np.testing.assert_array_equal(np.abs(found), np.abs(coefficients))


@pytest.mark.parametrize("numbers", [[(0, 16)], [(-1, 16)], [(5, 16)], [(0, 10_000)]])
def test_a_channel_is_not_predicted_from_itself_or_from_later_ones(numbers: list[tuple[int, int]]) -> None:
    data = Family.plain([numbers, []]).to_bytes()
    with pytest.raises(ValueError, match="not before it"):
        Family.from_bytes(data, 2)
