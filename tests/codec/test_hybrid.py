"""The default codec: within its budget on real EEG, the same everywhere, and ready for any input."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Sequence

import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mne_labram.codec.coders import BlockCoder, make_coder, restore_coder
from mne_labram.codec.hybrid import HybridCoder
from mne_labram.signal.contract import ContractError
from tests.conftest import eeg_like


@pytest.fixture(scope="module")
def eeg(shared_data):
    """Forty seconds of 19 channels at 500 Hz, in µV."""
    raw = mne.io.read_raw(shared_data / "eegmat" / "Subject20_1.edf", verbose="ERROR")
    return 1e6 * raw.get_data(picks=range(19), stop=40 * 500)


def _coder(x: np.ndarray, sfreq: float, *, bitrate: float = 256, excerpts: Sequence[np.ndarray] | None = None):
    return HybridCoder.make(
        sfreq=sfreq,
        ch_names=[f"EEG {number}" for number in range(len(x))],
        block_samples=max(1, x.shape[1]),
        bitrate=bitrate,
        excerpts=[x] if excerpts is None else excerpts,
        n_samples=x.shape[1],
    )


def _prdn(x: np.ndarray, y: np.ndarray) -> float:
    centred = x - x.mean(axis=1, keepdims=True)
    return 100 * float(np.linalg.norm(x - y) / np.linalg.norm(centred))


def _round_trip(x: np.ndarray, sfreq: float = 200.0, **options) -> np.ndarray:
    """Encode and decode in another coder, made from JSON; the input stays as it was."""
    coder = _coder(x, sfreq, **options)
    kept = x.copy()
    payload = coder.encode(x)
    np.testing.assert_array_equal(x, kept)
    other = restore_coder("hybrid", json.loads(json.dumps(coder.parameters())))
    decoded = other.decode(payload, x.shape[1])
    assert decoded.shape == x.shape
    assert decoded.dtype == np.float64
    assert np.isfinite(decoded).all()
    np.testing.assert_array_equal(coder.decode(payload, x.shape[1]), decoded)
    assert other.encode(x) == payload
    return decoded


def test_the_budget_is_kept_and_more_bits_are_less_error(eeg) -> None:
    coder = _coder(eeg, 500.0)
    assert isinstance(coder, BlockCoder)
    errors = []
    for bitrate in (64, 128, 256, 512, 1024):
        bits = bitrate * 19 * 40
        payload = coder.encode(eeg, bits=bits)
        assert 0.96 * bits < 8 * len(payload) <= bits
        errors.append(_prdn(eeg, coder.decode(payload, eeg.shape[1])))
    assert errors == sorted(errors, reverse=True)
    # Measured: 30, 18, 9, 4.0 and 1.6.
    assert all(error < limit for error, limit in zip(errors, (40, 26, 14, 7, 3), strict=True))
    assert coder.encode(eeg) == coder.encode(eeg, bits=256 * 19 * 40)


@pytest.mark.parametrize("bits", [0, 1, 100, 2000, 20_000, 200_000, 5_000_000])
def test_any_budget(eeg, bits) -> None:
    """As long as the least that can be said of 19 channels fits into it."""
    x = eeg[:, :2000]
    coder = _coder(x, 500.0)
    payload = coder.encode(x, bits=bits)
    assert 8 * len(payload) <= max(bits, 8 * (9 + 2 * 19))
    assert _prdn(x, coder.decode(payload, 2000)) < (101 if bits < 2000 else 90 if bits < 20_000 else 25)


def test_blocks_do_not_know_of_each_other(eeg) -> None:
    coder, other = _coder(eeg, 500.0), _coder(eeg, 500.0)
    parts = np.split(eeg, [3000, 9500, 9501], axis=1)
    first = [coder.encode(part) for part in parts]
    assert [other.encode(part) for part in reversed(parts)] == first[::-1]
    for part, payload in zip(parts, first, strict=True):
        np.testing.assert_array_equal(other.decode(payload, part.shape[1]), coder.decode(payload, part.shape[1]))


@given(
    n_channels=st.integers(1, 6),
    n_samples=st.integers(1, 300),
    sfreq=st.sampled_from([1.0, 100.0, 173.61, 256.0, 5000.0]),
    power=st.floats(-9, 9),
    offset=st.sampled_from([0.0, 1e6, -3e4]),
    seed=st.integers(0, 99),
)
@settings(max_examples=25)
def test_any_block(n_channels, n_samples, sfreq, power, offset, seed) -> None:
    x = 10.0**power * np.random.default_rng(seed).standard_normal((n_channels, n_samples)) + offset
    y = _round_trip(x, sfreq)
    # Of the signal, of silence, and of an offset that two bytes have to tell.
    assert np.square(y - x).mean() < 1.5 * max(np.square(x - x.mean()).mean(), 1e-6) + 1e-6 * np.square(x).mean()


@pytest.mark.parametrize(("n_channels", "n_samples"), [(1, 6000), (1, 100), (256, 100), (19, 3), (1, 2), (2, 199)])
def test_shapes(n_channels, n_samples) -> None:
    """One channel, 256; half a second, three samples, two."""
    x = eeg_like(n_channels, n_samples, 200.0)
    bound = 30 if n_samples == 6000 else 80 if n_samples >= 100 else 200
    assert _prdn(x, _round_trip(x, bitrate=512)) < bound


def test_constants_and_silence() -> None:
    """Offsets are kept as well as anything else."""
    zeros = np.zeros((3, 1000))
    np.testing.assert_array_equal(_round_trip(zeros), zeros)
    x = eeg_like(4, 4000, 200.0)
    x[1] = 40.0
    x[2] = 0.0
    y = _round_trip(x)
    np.testing.assert_allclose(y[1], 40, atol=1)
    np.testing.assert_allclose(y[2], 0, atol=1)
    assert _prdn(x[[0, 3]], y[[0, 3]]) < 45
    all_constant = np.repeat([[5.0], [-3000.0]], 500, axis=1)
    np.testing.assert_allclose(_round_trip(all_constant), all_constant, atol=1e-2)


def test_offsets_cost_next_to_nothing() -> None:
    """An amplifier without high-pass: a volt."""
    x = eeg_like(4, 12000, 200.0)
    plain = _prdn(x, _round_trip(x, bitrate=64))
    for offset in (300.0, 1e6):
        moved = x + offset * np.array([[1.0], [-1.0], [0.4], [-0.77]])
        assert _prdn(moved, _round_trip(moved, bitrate=64)) < 1.05 * plain


@pytest.mark.parametrize("scale", [1e-3, 1e3, 1e7])
def test_other_units(scale) -> None:
    """Levels are found: volts and nonsense are coded as well as microvolts."""
    x = eeg_like(3, 4000, 200.0)
    assert _prdn(scale * x, _round_trip(scale * x)) == pytest.approx(_prdn(x, _round_trip(x)), rel=0.1)


def test_louder_than_the_excerpts() -> None:
    """What the levels were taken from need not be like the block."""
    x = eeg_like(3, 4000, 200.0)
    quiet = 1e-9 * x
    for loud in (x, 1e9 * x):
        assert _prdn(loud, _round_trip(loud, excerpts=[quiet])) < 50
        assert _prdn(loud, _round_trip(loud, excerpts=[])) < 50
    broken = x.copy()
    broken[0, 5] = np.nan
    assert _prdn(x, _round_trip(x, excerpts=[broken, np.zeros((3, 0))])) < 45


def test_what_is_refused() -> None:
    x = eeg_like(3, 500, 200.0)
    coder = _coder(x, 200.0)
    for value in (np.nan, np.inf, -np.inf):
        broken = x.copy()
        broken[1, 7] = value
        with pytest.raises(ValueError, match="not finite"):
            coder.encode(broken)
    with pytest.raises(ContractError, match="beyond 1e"):
        coder.encode(x * 1e160)
    with pytest.raises(ContractError, match="beyond 1e"):
        _coder(x * 1e300, 200.0).encode(x * 1e300)
    for wrong in (x[:2], x[0], x[None]):
        with pytest.raises(ValueError, match=r"must have the shape \(3, n_samples\)"):
            coder.encode(wrong)
    assert coder.decode(coder.encode(x[:, :0]), 0).shape == (3, 0)


def test_parameters() -> None:
    coder = make_coder("hybrid", sfreq=173.61, ch_names=["a", "b"], block_samples=50, bitrate=100, something=1)
    fields = coder.parameters()
    assert restore_coder("hybrid", fields).parameters() == fields == json.loads(json.dumps(fields))
    assert fields["n_bins"] == 50
    for change in (
        {"n_channels": 3},
        {"n_channels": 0},
        {"n_bins": 0},
        {"n_bins": 2**40},
        {"sfreq": 0.0},
        {"sfreq": float("nan")},
        {"sfreq": float("inf")},
        {"scales": [0]},
        {"scales": [0, 10**9]},
        {"scales": ["loud", 0]},
        {"scales": None},
        {"basis": {}},
        {"basis": {"edges": [], "bits": 8, "entries": "AAAA"}},
        {"weights": {}},
        {"weights": {"name": "hybrid", "sha256": "0" * 64}},
        {"weights": {"name": "hybrid-of-tomorrow", "sha256": "0" * 64}},
        {"bitrate": "much"},
        {"colour": "blue"},
    ):
        with pytest.raises(ContractError):
            restore_coder("hybrid", fields | change)


def test_other_bytes() -> None:
    """Truncated, flipped, made up: refused, or numbers of the right shape in little memory."""
    x = eeg_like(3, 300, 200.0)
    coder = _coder(x, 200.0)
    payload, rng = coder.encode(x), np.random.default_rng(0)
    damaged = [payload[:stop] for stop in range(0, len(payload), 9)]
    for place in range(0, len(payload), 2):
        flipped = bytearray(payload)
        flipped[place] ^= 1 << int(rng.integers(8))
        damaged.append(bytes(flipped))
    damaged += [payload[:place] + b"\xff" * 9 + payload[place:] for place in range(0, 20, 3)]
    damaged += [rng.integers(0, 256, size, dtype=np.uint8).tobytes() for size in range(0, 200, 9)]
    n_refused = 0
    tracemalloc.start()
    try:
        for data in damaged:
            try:
                decoded = coder.decode(data, 300)
            except ValueError:
                n_refused += 1
                continue
            assert decoded.shape == (3, 300)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
    assert n_refused > 20
    with pytest.raises(ValueError, match="payload"):
        coder.decode(b"", 300)
