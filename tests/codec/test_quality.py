"""Measures of the error, and their sums over blocks."""

from __future__ import annotations

import numpy as np
import pytest

from mne_labram.codec.quality import Quality, pearson, prd, prdn


def test_formulas():
    x = np.array([[3.0, 4.0, 5.0, 4.0]])
    y = x + [[1.0, -1.0, 0.0, 0.0]]
    assert prd(x, y) == pytest.approx(100 * np.sqrt(2 / 66))
    assert prdn(x, y) == pytest.approx(100 * np.sqrt(2 / 2))
    assert pearson(x, y) == pytest.approx(np.corrcoef(x[0], y[0])[0, 1])
    assert pearson(x, np.ones((1, 4))) == 0


def test_an_offset_flatters_prd_alone(make_eeg):
    x = make_eeg(3, 1000, 250.0)
    y = x + np.random.default_rng(0).standard_normal(x.shape)
    assert prd(x + 5000, y + 5000).max() < 0.1 * prd(x, y).min()
    np.testing.assert_allclose(prdn(x + 5000, y + 5000), prdn(x, y), rtol=1e-6)


def test_blocks_add_up(make_eeg):
    """Sums over blocks are the numbers of the whole."""
    x = make_eeg(3, 8000, 250.0)
    y = x + np.random.default_rng(1).standard_normal(x.shape)
    whole, sum_ = Quality(250.0), None
    whole.add(x, y)
    for start in range(0, 8000, 2000):
        part = Quality(250.0)
        part.add(x[:, start : start + 2000], y[:, start : start + 2000])
        if sum_ is None:
            sum_ = part
        else:
            sum_.merge(part)
    for name in ("prd", "prdn", "pearson", "prd_overall", "prdn_overall", "largest"):
        assert getattr(sum_, name) == pytest.approx(getattr(whole, name), rel=1e-9)
    assert sum_.band_errors == pytest.approx(whole.band_errors)
    pieces = x.reshape(3, 8, 1000), y.reshape(3, 8, 1000)
    assert whole.n_windows == 24
    assert whole.prd == pytest.approx(prd(*pieces).mean())
    assert whole.prdn == pytest.approx(prdn(*pieces).mean())
    assert whole.pearson == pytest.approx(pearson(*pieces).mean())
    assert whole.prd_overall == pytest.approx(100 * np.sqrt(np.square(x - y).sum() / np.square(x).sum()))
    assert whole.largest == pytest.approx(np.abs(x - y).max())


def test_bands_are_told_apart():
    times = np.arange(1000) / 250
    x = np.sin(2 * np.pi * 2 * times) + np.sin(2 * np.pi * 10 * times)
    y = np.sin(2 * np.pi * 2 * times) + 0.5 * np.sin(2 * np.pi * 10 * times)
    q = Quality(250.0)
    q.add(x[None], y[None])
    assert q.band_errors["alpha"] == pytest.approx(50, abs=0.5)
    assert q.band_errors["delta"] < 1
    slow = Quality(50.0)
    slow.add(x[None], y[None])
    assert list(slow.band_errors) == ["delta", "theta", "alpha", "beta"]


def test_what_says_nothing_is_left_out(make_eeg):
    x = make_eeg(4, 1000, 250.0)
    y = x + 0.5
    x[1] = y[1] = 7.0
    x[2, 30] = y[2, 30] = np.nan
    q = Quality(250.0)
    q.add(x, y)
    assert (q.n_windows, q.n_left_out) == (2, 2)
    assert q.largest == pytest.approx(0.5)
    empty = Quality(250.0)
    empty.add(np.full((2, 100), np.nan), np.full((2, 100), np.nan))
    assert np.isnan(empty.prd)
    assert empty.largest == 0


def test_very_short_blocks():
    q = Quality(100.0)
    q.add(np.array([[1.0]]), np.array([[2.0]]))
    q.add(np.array([[1.0, 2.0]]), np.array([[1.0, 2.5]]))
    assert (q.n_windows, q.n_left_out, q.largest) == (1, 1, 1.0)
