"""Integers that cost little for the error that they leave, and the step that a budget allows."""

from __future__ import annotations

import math

import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mne_labram.codec.context import N_LEVELS
from mne_labram.codec.context_files import load_context_model
from mne_labram.codec.lapped import lapped_transform
from mne_labram.codec.quantization import (
    LARGEST_COEFFICIENT,
    PROXY,
    centroids,
    dequantize,
    level_class,
    search_step,
    trade_off,
)
from mne_labram.codec.wavefront import CoefficientLayout, choose_distributions, magnitude_bits

MODEL = load_context_model("hybrid")


@pytest.fixture(scope="module")
def coefficients(shared_data):
    """Of twenty seconds of EEG, channels of equal power."""
    raw = mne.io.read_raw(shared_data / "eegmat" / "Subject21_1.edf", verbose="ERROR")
    x = raw.get_data(picks=range(19), stop=20 * 500)
    x = x - x.mean(axis=1, keepdims=True)
    return lapped_transform(x / x.std(axis=1, keepdims=True), 500)[..., :120]


def _layout(scaled: np.ndarray) -> CoefficientLayout:
    shape = scaled.shape[:2]
    return CoefficientLayout(np.zeros(shape, int), np.full(shape, level_class(scaled)), scaled.shape[2], (500, 1))


def _bits(q: np.ndarray, layout: CoefficientLayout) -> float:
    return float(magnitude_bits(MODEL, np.abs(q), choose_distributions(MODEL, np.abs(q), layout)).sum(dtype=float))


@pytest.mark.parametrize("step", [0.05, 0.3, 1.0, 3.0])
@pytest.mark.parametrize("bit_worth", [0.02, 0.1])
def test_better_than_rounding(coefficients, step, bit_worth) -> None:
    scaled = coefficients / step
    layout = _layout(scaled)
    taken = trade_off(MODEL, scaled, layout, bit_worth=bit_worth)
    rounded = np.round(scaled).astype(np.int64)

    def price(q: np.ndarray) -> float:
        return float(np.square(scaled - q).sum()) + bit_worth * _bits(q, layout)

    assert price(taken) < price(rounded)
    assert _bits(taken, layout) < _bits(rounded, layout)
    # The nearest integer, the next smaller one, or zero; never another sign.
    assert (np.abs(taken) <= np.abs(rounded)).all()
    assert ((taken == 0) | (np.abs(rounded) - np.abs(taken) <= 1)).all()
    assert (taken * scaled >= 0).all()


def test_bits_for_nothing_are_rounding(coefficients) -> None:
    scaled = coefficients / 0.4 + 1e-9
    taken = trade_off(MODEL, scaled, _layout(scaled), bit_worth=0.0)
    np.testing.assert_array_equal(taken, np.round(scaled))


@pytest.mark.parametrize("value", [0.0, 0.49, 1e9, 2.0**40, -(2.0**50)])
def test_any_value_can_be_quantised(value) -> None:
    scaled = np.full((2, 3, 4), value)
    taken = trade_off(MODEL, scaled, _layout(scaled))
    assert np.abs(taken).max() <= LARGEST_COEFFICIENT
    if abs(value) < LARGEST_COEFFICIENT:
        assert np.abs(taken - scaled).max() < 2


def test_centroids_lower_the_error(coefficients) -> None:
    scaled = coefficients / 0.8
    q = trade_off(MODEL, scaled, _layout(scaled))
    offsets = centroids(scaled, q)
    assert all(isinstance(offset, int) and -127 <= offset <= 127 for offset in offsets)
    moved = dequantize(q, offsets)
    assert np.square(scaled - moved).sum() < np.square(scaled - q).sum()
    np.testing.assert_array_equal(dequantize(q, (0, 0)), q)
    np.testing.assert_array_equal(moved == 0, q == 0)
    np.testing.assert_allclose(np.abs(moved)[np.abs(q) == 1], 1 + offsets[0] / 128)
    np.testing.assert_allclose(np.abs(moved)[np.abs(q) == 5], 5 + offsets[1] / 128)
    assert centroids(np.zeros(3), np.zeros(3, int)) == (0, 0)
    assert centroids(np.array([100.0]), np.array([1])) == (127, 0)


def test_levels() -> None:
    assert level_class(np.ones((3, 4))) == 16
    assert level_class(np.full(5, 2.0)) == 18
    np.testing.assert_array_equal(level_class(np.array([[0.0, 0.0], [1e30, 1e30]]), axis=1), [0, N_LEVELS - 1])


@given(
    drops=st.lists(st.floats(0, 0.5), min_size=1, max_size=300),
    budget=st.floats(-3, 13).map(lambda power: 10.0**power),
    first=st.floats(0, 12).map(lambda power: 10.0**power),
    wrong=st.floats(0.01, 100),
    low=st.integers(-50, 50),
)
@settings(max_examples=200)
def test_the_step_for_any_cost_that_falls(drops, budget, first, wrong, low) -> None:
    """Within the budget; and either near it, or the next smaller step is not within it."""
    costs = first * np.exp(-np.cumsum([0, *drops]))
    high = low + len(costs)
    n_asked = 0

    def cost(index: int) -> float:
        nonlocal n_asked
        n_asked += 1
        assert low <= index < high
        return float(costs[index - low])

    found = search_step(cost, lambda index: wrong * costs[index - low] / PROXY, budget, low, high)
    asked = n_asked
    assert low <= found <= high
    if found < high:
        assert max(cost(found), 1) <= max(budget, 1)
    if found > low and (found == high or max(cost(found), 1) < 0.99 * max(budget, 1)):
        assert max(cost(found - 1), 1) > max(budget, 1)
    assert asked <= 6 + math.ceil(math.log2(len(costs) + 1)) + 1


def test_few_trials_for_a_smooth_cost() -> None:
    asked = []

    def cost(index: int) -> float:
        asked.append(index)
        return 1e5 * 2.0 ** (-index / 32)

    found = search_step(cost, lambda index: cost.__call__(index) / PROXY / 1.3, 3000.0, -1280, 1280)
    assert 0.95 * 3000 < 1e5 * 2.0 ** (-found / 32) <= 3000


def test_costs_that_rise_a_little_do_no_harm() -> None:
    """Costs of real blocks are not quite monotone."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        noise = rng.uniform(0.98, 1.02, 2561)
        found = search_step(
            lambda index, noise=noise: 1e6 * 2.0 ** (-index / 40) * noise[index + 1280],
            lambda index: 4e5 * 2.0 ** (-index / 40),
            5000.0,
            -1280,
            1280,
        )
        assert 0.9 * 5000 < 1e6 * 2.0 ** (-found / 40) * noise[found + 1280] <= 5000
