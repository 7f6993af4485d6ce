"""The lapped transform: orthonormal, invertible, and where a rhythm is one line."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mne_labram.codec.lapped import lapped_inverse, lapped_transform


@given(n_bins=st.integers(1, 41), n_frames=st.integers(0, 6), n_channels=st.integers(1, 3), seed=st.integers(0, 99))
def test_nothing_is_lost(n_bins, n_frames, n_channels, seed) -> None:
    """Of any length, in energy too."""
    x = np.random.default_rng(seed).standard_normal((n_channels, n_frames * n_bins))
    kept = x.copy()
    y = lapped_transform(x, n_bins)
    assert y.shape == (n_channels, n_frames, n_bins)
    np.testing.assert_array_equal(x, kept)
    np.testing.assert_allclose(np.square(y).sum(axis=(1, 2)), np.square(x).sum(axis=1), rtol=1e-10)
    coefficients = y.copy()
    np.testing.assert_allclose(lapped_inverse(y), x, atol=1e-12)
    np.testing.assert_array_equal(y, coefficients)


@pytest.mark.parametrize(("n_bins", "n_frames"), [(1, 5), (2, 3), (5, 4), (8, 1), (8, 3), (9, 3)])
def test_orthonormal(n_bins, n_frames) -> None:
    """As a matrix, rows and columns."""
    size = n_bins * n_frames
    matrix = lapped_transform(np.eye(size), n_bins).reshape(size, size)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(size), atol=1e-12)
    back = lapped_inverse(np.eye(size).reshape(size, n_frames, n_bins))
    np.testing.assert_allclose(back, matrix.T, atol=1e-12)


def test_it_is_the_mdct() -> None:
    """By its definition with a sine window, in a frame that has neighbours."""
    n = 16
    x = np.random.default_rng(0).standard_normal((1, 5 * n))
    t, k = np.arange(2 * n), np.arange(n)[:, None]
    window = np.sin(np.pi * (t + 0.5) / (2 * n))
    basis = np.sqrt(2 / n) * window * np.cos(np.pi / n * (t + 0.5 - n / 2) * (k + 0.5))
    # A frame and half of each neighbour.
    expected = basis @ x[0, 2 * n - n // 2 : 3 * n + n // 2]
    np.testing.assert_allclose(lapped_transform(x, n)[0, 2], expected, atol=1e-12)


def test_a_rhythm_is_few_coefficients() -> None:
    sfreq, n_bins = 200, 200
    times = np.arange(10 * sfreq) / sfreq
    energy = np.square(lapped_transform(np.sin(2 * np.pi * 10.25 * times)[None], n_bins))[0, 1:-1]
    # Bins are half a hertz wide.
    assert energy[:, 17:25].sum() > 0.999 * energy.sum()
