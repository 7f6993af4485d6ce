"""Which electrodes there are, their reference, and what goes on behind the signal."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mne_labram.signal.contract import ContractError
from mne_labram.source.bank import WaveformBank
from mne_labram.source.sensors import BackgroundActivity, average_reference, draw_visible, subset_masks


@given(st.integers(1, 5), st.integers(2, 40), st.integers(0, 2**32 - 1))
def test_the_average_is_that_of_visible_channels(n: int, n_channels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, n_channels, 7))
    visible = rng.random((n, n_channels)) < 0.7
    visible[:, 0] = True
    kept = x.copy()
    found = average_reference(x, visible)
    np.testing.assert_array_equal(x, kept)
    assert not found[~visible].any()
    np.testing.assert_allclose(found.sum(axis=1), 0.0, atol=1e-10)
    for window in range(n):
        own = x[window, visible[window]]
        np.testing.assert_allclose(found[window, visible[window]], own - own.mean(axis=0))
    np.testing.assert_allclose(average_reference(found, visible), found, atol=1e-12)


@given(st.integers(8, 64), st.floats(0.0, 0.99), st.integers(0, 2**32 - 1))
def test_eight_channels_are_left(n_channels: int, dropout: float, seed: int) -> None:
    whole = np.ones((1, n_channels), dtype=bool)
    visible = draw_visible(50, whole, dropout, np.random.default_rng(seed))
    assert visible.shape == (50, n_channels)
    assert visible.sum(axis=1).min() >= 8
    if dropout == 0.0:
        assert visible.all()


def test_small_montages_are_left_alone() -> None:
    masks = subset_masks(["A", "B", "C", "D"], [["D", "A"]])
    assert masks.tolist() == [[True] * 4, [True, False, False, True]]
    visible = draw_visible(100, masks, 0.9, np.random.default_rng(0))
    assert {tuple(each) for each in visible.tolist()} == {tuple(each) for each in masks.tolist()}
    for subset in (["A", "E"], ["A"], "AB"):
        with pytest.raises(ContractError, match="two channels or more"):
            subset_masks(["A", "B", "C", "D"], [subset])


def test_regions_are_put_where_they_are(sphere_head) -> None:
    """A region on the left that is active alone is seen as sources on the left are."""
    head = sphere_head(300)
    directions = np.array([[-1.0, 0, 0], [1.0, 0, 0], [0, 1.0, 0], [0, -1.0, 0], [0, 0, 1.0], [0, 0, -1.0]])
    background = np.zeros((1, 6, 500), np.float16)
    background[0, 0] = np.sin(np.arange(500) / 10.0)
    bank = WaveformBank(background=background, positions=(1000.0 * directions).astype(np.float32))
    activity = BackgroundActivity(head, bank, 500.0)
    left = head.positions[:, 0] < -0.8 * np.abs(head.positions).max()
    expected = head.leadfield[:, left].mean(axis=1)
    seen = activity.clips[0][:, 15]
    assert np.corrcoef(seen - seen.mean(), expected - expected.mean())[0, 1] > 0.9
    # Without positions sources are dealt out in their order: the first sixth of them is active.
    activity = BackgroundActivity(head, WaveformBank(background=background), 500.0)
    np.testing.assert_allclose(
        activity.clips[0][:, 15], head.leadfield[:, :50].mean(axis=1) * np.sin(1.5), rtol=1e-2, atol=1e-6
    )


def test_windows_may_be_longer_than_the_clips(sphere_head) -> None:
    rng = np.random.default_rng(0)
    bank = WaveformBank(background=np.cumsum(rng.standard_normal((2, 5, 100)), axis=2).astype(np.float16))
    activity = BackgroundActivity(sphere_head(100), bank, 500.0)
    x, covariance = activity.draw(4, 1000, rng)
    assert x.shape == (4, 32, 1000)
    assert covariance.shape == (4, 32, 32)
    # No jumps where a clip ends.
    assert np.abs(np.diff(x, axis=2)).max() < 6.0 * np.abs(np.diff(activity.clips, axis=2)).max()
    found = np.einsum("nct,ndt->ncd", x, x) / 1000
    similarity = (found * covariance).sum() / np.linalg.norm(found) / np.linalg.norm(covariance)
    assert similarity > 0.8
