"""Prediction uses what there is to be known, is undone exactly, and does not go astray."""

from __future__ import annotations

import numpy as np
import pytest

from mne_labram.codec.prediction import (
    COEFFICIENT_BITS,
    _add_frame,
    _integer_sqrt,
    _solve,
    plan_prediction,
    regressor_lags,
    run_predictors,
    shared_predictor,
)


def _residuals(x: np.ndarray, max_error: int = 0, **changes: int) -> np.ndarray:
    """Predict, undo, compare, and return what was left."""
    samples = np.ascontiguousarray(x.astype(np.int64))
    n_channels = samples.shape[1]
    plan = dict(
        zip(("coefficients", "warm_up", "start_order", "n_lags", "down"), plan_prediction(samples), strict=True)
    )
    plan |= changes
    steps = np.full(n_channels, max_error)
    low, high = np.full(n_channels, -(2**31)), np.full(n_channels, 2**31 - 1)
    coded, residuals, decoded = samples.copy(), np.empty_like(samples), np.zeros_like(samples)
    run_predictors(False, coded, residuals, *plan.values(), steps, low, high)
    run_predictors(True, decoded, residuals.copy(), *plan.values(), steps, low, high)
    assert np.array_equal(coded, decoded)
    assert np.abs(decoded - samples).max() <= max_error
    return residuals


def _autoregressive(
    n_samples: int, n_channels: int, seed: int = 0, scale: float = 40.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return a resonance near a fifth of the sampling rate in all channels, and the noise it was made of."""
    from scipy.signal import lfilter

    noise = scale * np.random.default_rng(seed).standard_normal((n_samples, n_channels))
    return np.rint(lfilter([1.0], [1.0, -1.5, 0.95], noise, axis=0)), noise


def test_shared_predictor_finds_a_recursion() -> None:
    x, _ = _autoregressive(20_000, 3)
    coefficients = shared_predictor(x.astype(np.int64), 8) / 2**COEFFICIENT_BITS
    np.testing.assert_allclose(coefficients, [1.5, -0.95, 0, 0, 0, 0, 0, 0], atol=0.03)
    assert shared_predictor(x.astype(np.int64), 0).size == 0
    assert shared_predictor(x.astype(np.int64), 2).tolist() == [2 << 16, -1 << 16]


def test_shared_predictor_is_not_spoiled_by_jumps_or_silence() -> None:
    x, _ = _autoregressive(20_000, 3)
    clean = shared_predictor(x.astype(np.int64), 8)
    x[17_000:] = 0
    x[17_000:17_600] += 30_000
    np.testing.assert_allclose(shared_predictor(x.astype(np.int64), 8), clean, atol=0.05 * 2**COEFFICIENT_BITS)


def test_one_channel_comes_down_to_the_noise_it_is_made_of() -> None:
    x, noise = _autoregressive(20_000, 1)
    residuals = _residuals(x)
    assert np.abs(residuals[2000:]).mean() < 1.02 * np.abs(noise).mean()


def test_channels_predict_each_other() -> None:
    rng = np.random.default_rng(0)
    sources = 100 * rng.standard_normal((8000, 2))
    mixed = np.rint(sources @ [[1.0, 0.3, -0.7, 0.6, 2.0], [0.2, 1.0, 0.5, -0.4, 1.0]])
    # Two sources in five channels: the last three follow from the first two, but for rounding.
    residuals = np.abs(_residuals(mixed)[1000:]).mean(axis=0)
    assert (residuals[:2] > 20).all()
    assert (residuals[2:] < 3).all()
    # The past of another channel helps as well.
    delayed = np.stack([sources[1:, 0], sources[:-1, 0]], axis=1)
    residuals = np.abs(_residuals(np.rint(delayed))[1000:]).mean(axis=0)
    assert residuals[0] > 60
    assert residuals[1] < 3


def test_it_follows_changes_and_survives_jumps() -> None:
    x, _ = _autoregressive(40_000, 4)
    calm = np.abs(_residuals(x)[4000:]).mean()
    mixed = x.copy()
    mixed[8000:, 3] = np.rint(x[8000:, 0] - x[8000:, 1])
    # Statistics remember some 8000 samples.
    assert np.abs(_residuals(mixed)[32_000:, 3]).mean() < 0.15 * calm
    for place, height in ((6000, 25_000), (10_000, -30_000)):
        x[place : place + 3] += height
    x[12_000:, 2] += 20_000
    assert np.abs(_residuals(x)[12_200:]).mean() < 1.1 * calm


def test_large_and_small_numbers() -> None:
    x, noise = _autoregressive(6000, 2)
    small = np.abs(_residuals(x)[3000:]).mean()
    large = np.abs(_residuals(np.rint(x * 100_000))[3000:]).mean()
    assert large < 1.03e5 * small
    assert plan_prediction(np.rint(x * 100_000).astype(np.int64))[4] > 0
    assert not _residuals(np.zeros((300, 3))).any()


def test_near_lossless_quantises_the_error() -> None:
    x, noise = _autoregressive(8000, 3)
    exact, near = _residuals(x), _residuals(x, 10)
    ratio = np.abs(near[2000:]).mean() / np.abs(exact[2000:]).mean()
    assert 1 / 21 < ratio < 1.25 / 21


def test_wrong_plans_are_undone_too() -> None:
    """A decoder follows whatever it is told: the result may be poor, never another one than the encoder's."""
    x, _ = _autoregressive(700, 3)
    for start_order in range(4):
        _residuals(x, warm_up=200, start_order=start_order)
    _residuals(x, down=34)
    _residuals(x, coefficients=np.full(32, 2**22))
    _residuals(np.where(np.arange(2100).reshape(700, 3) % 2, 2**31 - 1, -(2**31)), down=0)


@pytest.mark.parametrize(("n_channels", "n_lags"), [(1, 5), (3, 2), (4, 1)])
def test_products_and_solution_are_those_of_least_squares(n_channels: int, n_lags: int) -> None:
    rng = np.random.default_rng(n_channels)
    n_samples = 400
    values = (300 * rng.standard_normal((n_samples, n_channels))).astype(np.int32)
    values[:, -1] += values[:, 0] // 2
    values[1:] += values[:-1] // 3
    flat = np.concatenate([np.zeros(n_lags * n_channels, np.int32), values.ravel()])
    size = (n_lags + 1) * n_channels
    gram = np.zeros((size, size), dtype=np.int64)
    for start, stop in ((0, 16), (16, 144), (144, 400)):
        _add_frame(gram, flat, start, stop, n_channels, n_lags, 0)
    rows = np.stack([flat[t * n_channels : t * n_channels + size] for t in range(n_samples)]).astype(np.int64)
    assert np.array_equal(np.tril(gram), np.tril(rows.T @ rows))
    factor, shifts = np.zeros((size, size), np.int32), np.zeros(size, np.int64)
    weights = np.zeros((n_channels, size), np.int32)
    # As if very much had been seen, so that little draws the weights to zero.
    _solve(gram, factor, shifts, weights, n_channels, n_lags, 10**9)
    for channel in range(n_channels):
        known = n_lags * n_channels + channel
        expected = np.linalg.lstsq(rows[:, :known], rows[:, known], rcond=None)[0]
        np.testing.assert_allclose(weights[channel, :known] / 2**22, expected, atol=2e-4)


def test_lags_and_roots() -> None:
    assert [regressor_lags(n) for n in (1, 4, 19, 23, 64)] == [32, 32, 6, 5, 2]
    for value in (0, 1, 3, 4, 2**52 - 1, 10**12, 10**12 - 1, 2**60 - 1):
        root = _integer_sqrt(value)
        assert root**2 <= value < (root + 1) ** 2
