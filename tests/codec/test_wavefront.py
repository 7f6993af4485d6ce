"""Integers come back from their bytes; other bytes are refused or give integers of the right shape."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mne_labram.codec.context import MAX_EXPONENT, N_LEVELS
from mne_labram.codec.context_files import load_context_model
from mne_labram.codec.wavefront import (
    CoefficientLayout,
    choose_distributions,
    decode_coefficients,
    encode_coefficients,
    magnitude_bits,
)

MODEL = load_context_model("hybrid")
LARGEST = 2**30 - 1


def _block(shape, seed: int, octaves: float = 6.0) -> tuple[np.ndarray, CoefficientLayout]:
    """Draw integers of all scales, many of them zero, and what is known of them."""
    rng = np.random.default_rng(seed)
    scale = 2.0 ** rng.uniform(-2, octaves, shape)
    size = np.minimum(np.floor(rng.exponential(scale)), LARGEST)
    q = (size * rng.choice([-1, 1], shape) * (rng.random(shape) < rng.random())).astype(np.int64)
    exponents = rng.integers(0, MAX_EXPONENT + 1, shape[:2]) * int(rng.integers(2))
    return q, CoefficientLayout(exponents, rng.integers(0, N_LEVELS, shape[:2]), shape[2], (1000, 2 + seed))


def _round_trip(q: np.ndarray, layout: CoefficientLayout) -> bytes:
    kept = q.copy()
    payload = encode_coefficients(MODEL, q, layout)
    np.testing.assert_array_equal(q, kept)
    decoded = decode_coefficients(MODEL, payload, layout)
    assert decoded.dtype == np.int64
    np.testing.assert_array_equal(decoded, q)
    return payload


@given(
    shape=st.tuples(st.integers(1, 70), st.integers(1, 8), st.integers(0, 90)).filter(lambda s: np.prod(s) < 6000),
    seed=st.integers(0, 10_000),
    octaves=st.sampled_from([-1.0, 2.0, 8.0, 30.0]),
)
@settings(max_examples=60)
def test_integers_come_back(shape, seed, octaves) -> None:
    """The decoder's walk meets the encoder's contexts, in frames shorter than contexts reach too."""
    _round_trip(*_block(shape, seed, octaves))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 200), (1, 60, 5), (70, 1, 33), (3, 4, 0), (256, 1, 4)])
def test_extremes_come_back(shape) -> None:
    q, layout = _block(shape, 3)
    for value in (0, 1, -1, LARGEST, -LARGEST):
        _round_trip(np.full_like(q, value), layout)
    alternating = np.where(np.arange(q.size).reshape(shape) % 2, LARGEST, 0)
    _round_trip(alternating, layout)
    _round_trip(np.zeros_like(q), layout)


def test_no_bins() -> None:
    """What is known to be zero takes a byte and no more."""
    layout = CoefficientLayout(np.zeros((2, 3), int), np.zeros((2, 3), int), 0, (1000, 2))
    assert encode_coefficients(MODEL, np.zeros((2, 3, 0), int), layout) == b"\0"


def test_threads_do_not_matter() -> None:
    """The matrix products of the network add whole numbers."""
    from threadpoolctl import threadpool_limits

    q, layout = _block((19, 20, 60), 0)
    payloads, before = set(), torch.get_num_threads()
    for threads in (1, 2):
        with threadpool_limits(threads):
            payloads.add(encode_coefficients(MODEL, q, layout))
            np.testing.assert_array_equal(decode_coefficients(MODEL, payloads.copy().pop(), layout), q)
    assert len(payloads) == 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("octaves", [0.0, 3.0, 9.0])
def test_the_estimate_of_bits(octaves) -> None:
    """Within a hundredth of what is written."""
    q, layout = _block((19, 30, 100), 5, octaves)
    bits = magnitude_bits(MODEL, np.abs(q), choose_distributions(MODEL, np.abs(q), layout))
    assert bits.shape == q.shape
    assert bits.min() > 0
    assert bits.sum(dtype=np.float64) == pytest.approx(8 * len(encode_coefficients(MODEL, q, layout)), rel=0.01)


def test_known_distributions_give_the_same_bytes() -> None:
    q, layout = _block((4, 6, 50), 1)
    chosen = choose_distributions(MODEL, np.abs(q), layout)
    assert encode_coefficients(MODEL, q, layout, chosen=chosen) == encode_coefficients(MODEL, q, layout)


def _decode_whatever(payload: bytes, layout: CoefficientLayout) -> bool:
    """Return whether something was decoded; nothing but ValueError may be raised."""
    try:
        decoded = decode_coefficients(MODEL, payload, layout)
    except ValueError:
        return False
    assert decoded.shape == (*layout.exponents.shape, layout.n_bins)
    return True


@pytest.mark.parametrize("octaves", [2.0, 20.0])
def test_other_bytes(octaves) -> None:
    """Truncated, too long, flipped, made up: refused, or integers."""
    q, layout = _block((3, 4, 20), 2, octaves)
    payload = encode_coefficients(MODEL, q, layout)
    assert not any(_decode_whatever(payload[:stop], layout) for stop in range(2))
    for stop in range(2, len(payload), 3):
        _decode_whatever(payload[:stop], layout)
    assert not _decode_whatever(payload + b"\0", layout)
    rng = np.random.default_rng(0)
    for place in range(len(payload)):
        damaged = bytearray(payload)
        damaged[place] ^= 1 << int(rng.integers(8))
        _decode_whatever(bytes(damaged), layout)
    for size in range(0, 400, 7):
        _decode_whatever(rng.integers(0, 256, size, dtype=np.uint8).tobytes(), layout)
        _decode_whatever(b"\xff" * size, layout)
        _decode_whatever(bytes(size), layout)


def test_other_bytes_take_no_memory() -> None:
    q, layout = _block((3, 4, 20), 2)
    payload = encode_coefficients(MODEL, q, layout)
    # 2 ** 60 words are announced.
    huge = b"\xff" * 8 + b"\x1f" + payload
    tracemalloc.start()
    try:
        assert not _decode_whatever(huge, layout)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


@given(data=st.binary(max_size=60))
@settings(max_examples=100)
def test_any_bytes(data) -> None:
    _, layout = _block((2, 3, 12), 0)
    _decode_whatever(data, layout)
