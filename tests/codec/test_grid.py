"""Digital grids are found, and only where there are some."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mne_labram.codec.grid import Grid, bounded_grid, find_grid, steps_within


@given(
    st.floats(1e-10, 1e3),
    st.floats(-1e4, 1e4),
    st.integers(2, 20_000),
    st.integers(0, 2**32 - 1),
    st.sampled_from([np.float64, np.float32]),
)
def test_grids_are_found(step, shift, width, seed, kind):
    """Any step and offset: the integers are found again, up to a common shift."""
    rng = np.random.default_rng(seed)
    digital = np.rint(rng.standard_normal(1500) * width / 4).astype(int)
    if kind is np.float32:
        shift = np.rint(shift % 100)
    x = (shift * step + step * digital).astype(kind).astype(float)
    grid = find_grid(x)
    assert grid is not None
    found = grid.digital(x)
    assert found is not None
    assert found.dtype == np.int32
    if len(np.unique(digital)) > 300:
        np.testing.assert_array_equal(found - found[0], digital - digital[0])
    np.testing.assert_allclose(grid.physical(found), x, rtol=0, atol=2.5e-7 * np.abs(x).max())


@given(st.integers(0, 2**32 - 1), st.floats(1e-9, 1e3), st.sampled_from([np.float64, np.float32]))
def test_filtered_signals_have_none(seed, scale, kind):
    x = (np.random.default_rng(seed).standard_normal(2000) * scale).astype(kind).astype(float)
    grid = find_grid(x)
    assert grid is None or np.array_equal(grid.physical(grid.digital(x)), x)
    if kind is np.float64:
        assert grid is None


def test_a_step_is_tidied():
    x = 0.48828125e-6 * np.random.default_rng(0).integers(-3000, 3000, 4000)
    assert find_grid(x) == Grid(0.0, 0.48828125e-6) or find_grid(x).step == pytest.approx(0.48828125e-6, rel=1e-9)


def test_constant_and_empty():
    grid = find_grid(np.full(100, 3.3e-5))
    np.testing.assert_array_equal(grid.physical(grid.digital(np.full(100, 3.3e-5))), 3.3e-5)
    assert find_grid(np.zeros(0)) is None
    zero = find_grid(np.zeros(5))
    np.testing.assert_array_equal(zero.physical(zero.digital(np.zeros(5))), 0)


def test_samples_off_the_grid_are_refused():
    grid = Grid(0.0, 1e-6)
    x = 1e-6 * np.arange(100.0)
    np.testing.assert_array_equal(grid.digital(x), np.arange(100))
    x[50] += 1e-10
    assert grid.digital(x) is None
    assert grid.digital(np.array([1e6])) is None  # too large an integer


@given(st.floats(0.01, 20), st.integers(0, 30), st.integers(0, 2**32 - 1))
def test_rounding_leaves_the_coder_its_part(allowed, steps, seed):
    x = 50 * np.random.default_rng(seed).standard_normal(500)
    grid = bounded_grid(allowed, steps)
    error = np.abs(grid.physical(grid.nearest(x)) - x).max()
    assert error + steps * grid.step <= allowed * (1 + 1e-9)
    assert steps_within(grid, allowed) == steps


def test_steps_within():
    assert [steps_within(Grid(0.0, 0.1), allowed) for allowed in (0.05, 0.1, 0.3, 0.35)] == [0, 1, 3, 3]
