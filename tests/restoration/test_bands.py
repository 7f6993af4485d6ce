"""Bands that add up, and covariances of what was visible together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from mne_labram.restoration.bands import BAND_EDGES, BandCovariances, band_edges, constant_runs, split_bands


@given(n_times=st.integers(1, 500), sfreq=st.sampled_from([1.0, 16.0, 100.0, 256.0, 1000.0]), seed=st.integers(0, 100))
def test_bands_add_up(n_times: int, sfreq: float, seed: int) -> None:
    x = 100.0 * np.random.default_rng(seed).normal(size=(3, n_times))
    bands = split_bands(x, sfreq)
    assert bands.shape == (len(band_edges(sfreq)), 3, n_times)
    assert_allclose(bands.sum(axis=0), x, atol=1e-10)


def test_a_sine_is_in_its_band() -> None:
    times = np.arange(2000) / 200.0
    for band, frequency in enumerate([2.0, 6.0, 10.0, 16.0, 25.0, 50.0]):
        power = split_bands(np.sin(2 * np.pi * frequency * times)[None], 200.0).var(axis=-1)[:, 0]
        assert power[band] > 0.97 * power.sum()
    assert_array_equal(band_edges(200.0), BAND_EDGES)
    assert_array_equal(band_edges(20.0), [0.0, 4.0, 8.0])


def test_runs() -> None:
    hidden = np.zeros((2, 10), dtype=bool)
    hidden[0, 3:5] = hidden[1, 4:10] = True
    assert constant_runs(hidden) == [(0, 3), (3, 4), (4, 5), (5, 10)]
    assert constant_runs(hidden[:, :1]) == [(0, 1)]


def test_covariances_are_those_of_the_signal() -> None:
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(4, 4))
    x = mixing @ rng.normal(size=(4, 60000)) + 1000.0
    measured = BandCovariances(4, 200.0)
    measured.add(x, np.zeros(x.shape, dtype=bool))
    seconds, covariances = measured.of(np.ones(4, dtype=bool))
    assert seconds == pytest.approx(300.0)
    assert_allclose(covariances.sum(axis=0), np.cov(x), rtol=0.05, atol=0.1)
    # White noise has as much power in a band as it is wide.
    widths = np.diff([*BAND_EDGES, 100.0]) / 100.0
    assert_allclose(np.trace(covariances, axis1=1, axis2=2) / np.trace(np.cov(x)), widths, atol=0.015)


def test_hidden_samples_are_not_looked_at() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 4000))
    hidden = np.zeros(x.shape, dtype=bool)
    hidden[2, 1000:3000] = True
    one, other = BandCovariances(3, 200.0), BandCovariances(3, 200.0)
    one.add(x, hidden)
    other.add(np.where(hidden, np.nan, x), hidden)
    everything, pair = np.ones(3, dtype=bool), np.array([True, True, False])
    assert one.of(everything)[0] == pytest.approx(10.0)
    assert one.of(pair)[0] == pytest.approx(20.0)
    assert_array_equal(one.of(everything)[1], other.of(everything)[1])
    assert np.isfinite(other.of(pair)[1]).all()
    assert one.seconds_of(2) == pytest.approx(10.0)
    # Too short to tell anything, and nothing to compare with.
    one.add(x[:, :100], np.zeros((3, 100), dtype=bool))
    one.add(x, np.array([[False], [True], [True]]).repeat(4000, axis=1))
    assert one.of(pair)[0] == pytest.approx(20.0)


def test_the_best_company_is_chosen() -> None:
    x = np.random.default_rng(0).normal(size=(4, 8000))
    measured = BandCovariances(4, 200.0)
    everything = np.ones(4, dtype=bool)
    assert not measured.together_with(0, everything, 20.0).any()
    hidden = np.zeros(x.shape, dtype=bool)
    hidden[3] = True
    measured.add(x, hidden)
    measured.add(x[:, :1000], np.zeros((4, 1000), dtype=bool))
    visible = np.array([False, True, True, True])
    assert_array_equal(measured.together_with(0, visible, 20.0), [False, True, True, False])
    assert_array_equal(measured.together_with(0, visible, 4.0), visible)


def test_the_number_of_patterns_is_bounded() -> None:
    measured = BandCovariances(12, 100.0)
    x = np.random.default_rng(0).normal(size=(12, 100))
    for number in range(400):
        hidden = np.array([[bool(number >> row & 1)] for row in range(12)]).repeat(100, axis=1)
        measured.add(x, hidden)
    assert len(measured._sums) <= 128
