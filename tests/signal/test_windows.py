"""Windows are those of the whole recording, however it streams by."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mne_labram.signal.blocks import Block
from mne_labram.signal.contract import LABRAM_CONTRACT, ContractError
from mne_labram.signal.windows import iter_windows, n_samples, window_length

SFREQ = 10


def _plan(n_times: int, block_seconds: int, bad: set[int]) -> SimpleNamespace:
    """Stand in for a plan: channel 0 holds the sample numbers, and some seconds are unusable."""
    x = np.stack([np.arange(n_times), -np.arange(n_times)]).astype(np.float32)
    unusable = np.array([second in bad for second in range(-(-n_times // SFREQ))])

    def iter_blocks():
        for first in range(0, len(unusable), block_seconds):
            start, stop = first * SFREQ, min((first + block_seconds) * SFREQ, n_times)
            yield Block(start, x[:, start:stop], unusable[first : first + block_seconds])

    return SimpleNamespace(sfreq=float(SFREQ), n_times=n_times, ch_names=["A", "B"], iter_blocks=iter_blocks)


@given(
    n_times=st.integers(1, 300),
    length=st.integers(1, 80),
    stride=st.integers(1, 120),
    block_seconds=st.integers(1, 9),
    batch_size=st.integers(1, 7),
    bad=st.sets(st.integers(0, 29), max_size=4),
    cover_end=st.booleans(),
)
def test_windows_do_not_depend_on_blocks(n_times, length, stride, block_seconds, batch_size, bad, cover_end):
    """Starts, samples and verdicts are what slicing the whole recording gives."""
    length = min(length, n_times)
    expected = list(range(0, n_times - length + 1, stride))
    if cover_end and expected[-1] < n_times - length:
        expected.append(n_times - length)
    plan = _plan(n_times, block_seconds, bad)
    batches = list(iter_windows(plan, length, stride, batch_size=batch_size, cover_end=cover_end))
    assert all(1 <= len(batch.starts) <= batch_size for batch in batches)
    assert np.concatenate([batch.starts for batch in batches]).tolist() == expected
    for batch in batches:
        for start, window, usable in zip(batch.starts, batch.data, batch.usable, strict=True):
            assert window.shape == (2, length)
            np.testing.assert_array_equal(window[0], np.arange(start, start + length))
            touched = range(start // SFREQ, (start + length - 1) // SFREQ + 1)
            assert usable == (not bad & set(touched))


def test_window_length():
    """Whole patches, as many as were asked for and are there."""
    assert window_length(LABRAM_CONTRACT, 10_000, 800) == 800
    assert window_length(LABRAM_CONTRACT, 10_000, 900) == 800
    assert window_length(LABRAM_CONTRACT, 500, 800) == 400
    with pytest.raises(ContractError, match="16"):
        window_length(LABRAM_CONTRACT, 10_000, 3400)
    for n_times, wanted in ((199, 800), (10_000, 199)):
        with pytest.raises(ContractError, match="one patch of the model is 1 s"):
            window_length(LABRAM_CONTRACT, n_times, wanted)


def test_n_samples():
    """Seconds are a positive number, and come to at least one sample."""
    assert n_samples(1.5, 200.0, "window") == 300
    assert n_samples(np.float32(0.005), 200.0, "window") == 1
    for seconds in (0, -1, np.nan, np.inf, 0.001):
        with pytest.raises(ValueError, match="stride must be a positive number of seconds"):
            n_samples(seconds, 200.0, "stride")
    for seconds in ("1", None, True, [1]):
        with pytest.raises(TypeError, match="stride must be a number of seconds"):
            n_samples(seconds, 200.0, "stride")
