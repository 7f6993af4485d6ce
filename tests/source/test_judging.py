"""Windows overlap, and every sample comes out once, whatever they are put together from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mne_labram.source.judging import at_judged_rate, faded_windows, window_starts


@given(n_times=st.integers(1, 60), length=st.integers(1, 25))
def test_windows_cover_everything(n_times: int, length: int) -> None:
    starts = window_starts(n_times, length)
    covered = np.zeros(n_times, int)
    for start in starts:
        covered[start : start + length] += 1
    assert covered.min() >= 1
    assert starts[0] == 0
    assert starts[-1] + min(length, n_times) == n_times
    assert (np.diff(starts) <= max(1, length // 2)).all()


@given(n_times=st.integers(1, 60), length=st.integers(1, 25), batch_size=st.integers(1, 5), seed=st.integers(0, 99))
def test_an_operator_that_is_always_the_same_needs_no_windows(
    n_times: int, length: int, batch_size: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x, operator = rng.standard_normal((3, n_times)), rng.standard_normal((4, 3))
    pieces = list(
        faded_windows(
            lambda a, b: x[:, a:b],
            lambda windows: np.broadcast_to(operator, (len(windows), 4, 3)),
            n_times,
            length,
            batch_size,
        )
    )
    assert [at for at, _ in pieces] == np.cumsum([0, *(piece.shape[1] for _, piece in pieces[:-1])]).tolist()
    found = np.concatenate([piece for _, piece in pieces], axis=1)
    np.testing.assert_allclose(found, operator @ x, atol=1e-5)


def test_operators_fade_into_one_another() -> None:
    """The first window says 1 and the last one 0: in between it falls, whatever is judged together."""
    seen = []

    def judged(windows: np.ndarray) -> np.ndarray:
        seen.extend(windows[:, 0, 0])
        return (windows[:, :1, :1] == 1.0).astype(float)

    x = np.arange(1.0, 31.0)[np.newaxis]
    for batch_size in (1, 2):
        seen.clear()
        pieces = faded_windows(lambda a, b: x[:, a:b], judged, 30, 20, batch_size)
        found = np.concatenate([piece for _, piece in pieces], axis=1)[0] / x[0]
        assert seen == [1.0, 11.0]
        np.testing.assert_allclose(found[:10], 1.0, rtol=1e-6)
        assert (np.diff(found[9:21]) < 0.0).all()
        np.testing.assert_allclose(found[20:], 0.0)


@pytest.mark.parametrize(
    ("n_times", "sfreq", "n_judged"),
    [(100, 100.0, 100), (5000, 5000.0, 100), (50, 50.0, 100), (10, 1000.0, 10), (100, 1000.0, 16), (300, 128.0, 234)],
)
def test_the_rate_that_is_judged_at(n_times: int, sfreq: float, n_judged: int) -> None:
    time = np.arange(n_times) / sfreq
    x = np.sin(2 * np.pi * 7.0 * time)[np.newaxis]
    found = at_judged_rate(x, sfreq)
    assert found.shape == (1, n_judged)
    if n_judged >= 100:
        there = np.arange(n_judged) * (n_times / sfreq) / n_judged
        # MNE pads by whole samples of both rates, so that odd ones come half a sample late.
        assert np.corrcoef(found[0], np.sin(2 * np.pi * 7.0 * there))[0, 1] > (0.99 if sfreq % 50 == 0 else 0.97)
