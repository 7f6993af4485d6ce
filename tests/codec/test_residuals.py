"""Residuals come back, cost what their spread says they must, and damage is noticed or harmless."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mne_labram.codec.residuals import _log2, decode_residuals, encode_residuals, token_distributions


def _bits(residuals: np.ndarray) -> float:
    residuals = residuals.astype(np.int64)
    content = encode_residuals(residuals)
    assert np.array_equal(decode_residuals(content, *residuals.shape), residuals)
    return 8 * len(content) / residuals.size


def test_distributions_add_up_without_rounding() -> None:
    rows = token_distributions()
    assert rows.dtype == np.float32
    whole = rows.astype(np.float64) * 2**24
    assert np.array_equal(whole, np.rint(whole))
    assert (whole >= 1).all()
    assert np.array_equal(whole.sum(axis=1), np.full(len(rows), 2**24))
    # Sums in single precision are exact as well, in whatever order.
    assert (np.cumsum(rows, axis=1)[:, -1] == 1).all()
    assert (np.cumsum(rows[:, ::-1], axis=1)[:, -1] == 1).all()
    with pytest.raises(ValueError, match="read-only"):
        rows[0, 0] = 1


def test_every_distribution_has_the_mean_it_stands_for() -> None:
    direct = token_distributions()[:, :40].astype(np.float64)
    means = direct @ np.arange(40)
    expected = 2.0 ** (np.arange(44) / 4 - 8 + 1 / 8)
    # Up to where the heavy tail, or what is beyond the direct tokens, has a say.
    np.testing.assert_allclose(means[12:36], expected[12:36], rtol=0.12)
    assert (np.diff(means) > 0).all()


@given(
    arrays(
        np.int64,
        st.tuples(st.integers(0, 40), st.integers(1, 5)),
        elements=st.one_of(st.integers(-3, 3), st.integers(-(2**34), 2**34)),
    )
)
@settings(max_examples=150)
def test_any_residuals_come_back(residuals: np.ndarray) -> None:
    content = encode_residuals(residuals)
    assert np.array_equal(decode_residuals(content, *residuals.shape), residuals)


@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0, 20.0, 100.0, 5000.0, 1e8])
def test_bits_are_near_the_entropy(spread: float) -> None:
    rng = np.random.default_rng(0)
    values = np.rint(rng.logistic(scale=spread, size=(6000, 4)))
    # The entropy of a logistic variable is 2 nats and the logarithm of its scale; of few integers, counted.
    if spread > 2:
        entropy = 2 / np.log(2) + np.log2(spread)
    else:
        counts = np.unique(values, return_counts=True)[1] / values.size
        entropy = -(counts * np.log2(counts)).sum()
    assert entropy - 0.05 < _bits(values) < entropy + 0.03 + 0.015 * entropy


def test_the_spread_is_followed() -> None:
    rng = np.random.default_rng(1)
    loud = np.where(np.arange(8000) // 1000 % 2, 50.0, 1.0)[:, None]
    mixed = np.rint(rng.logistic(scale=np.repeat(loud, 3, axis=1)))
    halves = [_bits(np.rint(rng.logistic(scale=scale, size=(8000, 3)))) for scale in (1.0, 50.0)]
    assert _bits(mixed) < np.mean(halves) + 0.3


def test_long_runs_of_zero_are_nearly_free() -> None:
    assert _bits(np.zeros((40_000, 3))) < 0.02


def test_logarithm() -> None:
    for value in (1, 2, 3, 7, 100, 32767, 32768, 40_000, 123_456_789, 2**48 + 2**47):
        assert abs(_log2(value) / 16 - np.log2(value)) <= 1 / 16


def test_damage() -> None:
    rng = np.random.default_rng(0)
    residuals = np.rint(rng.logistic(scale=30, size=(90, 2))).astype(np.int64)
    content = encode_residuals(residuals)
    sentence = "the file is damaged"
    for length in range(len(content)):
        with pytest.raises(ValueError, match=sentence):
            decode_residuals(content[:length], 90, 2)
    with pytest.raises(ValueError, match=sentence):
        decode_residuals(content + b"\0", 90, 2)
    noticed = 0
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 0x55
        try:
            decoded = decode_residuals(bytes(damaged), 90, 2)
        except ValueError:
            noticed += 1
        else:
            assert decoded.shape == (90, 2)
            assert not np.array_equal(decoded, residuals)
    assert noticed > 0
