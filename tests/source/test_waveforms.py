"""Spikes are found by the rule; made-up waveforms are what they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mne_labram.source.waveforms import evoked_like, extract_spikes, made_up_spikes, oscillations

SFREQ = 500.0


def _potential(peaks: list[tuple[int, int, float, float]], n_trajectories: int = 1, seconds: float = 6.0) -> np.ndarray:
    """Make three regions at 2 mV with spikes: (trajectory, region, seconds, height)."""
    times = np.arange(round(seconds * SFREQ)) / SFREQ
    out = np.full((n_trajectories, 3, len(times)), 2.0)
    for trajectory, region, at, height in peaks:
        out[trajectory, region] += (height - 2.0) * np.exp(-0.5 * ((times - at) / 0.02) ** 2)
    return out


def test_a_spike_of_the_excited_region_is_found() -> None:
    found = extract_spikes(_potential([(0, 1, 3.0, 12.0)]), np.array([1]), SFREQ)
    assert found.clips.shape == (1, 500)
    assert found.clips.dtype == np.float32
    assert found.trajectory.tolist() == [0]
    assert found.onset.tolist() == [1500 - 200]
    assert found.height[0] == pytest.approx(12.0, rel=1e-4)
    clip = found.clips[0]
    assert clip.argmax() == 200
    assert clip[200] == pytest.approx(1.0)
    assert clip[0] == clip[-1] == 0.0
    # The level before it is gone, its width is not.
    np.testing.assert_allclose(clip[215], np.exp(-0.5 * (0.03 / 0.02) ** 2), atol=0.01)


@pytest.mark.parametrize(
    ("other", "kept"),
    [
        ((0, 0, 3.2, 10.0), False),  # in the clip
        ((0, 0, 2.25, 10.0), False),  # 0.35 s before it
        ((0, 0, 2.15, 10.0), True),  # 0.45 s before it
        ((0, 0, 3.95, 10.0), False),  # 0.35 s after it
        ((0, 0, 4.05, 10.0), True),
        ((0, 0, 3.2, 7.5), True),  # too low to be a spike
        ((1, 0, 3.2, 10.0), True),  # in another trajectory
    ],
)
def test_a_spike_counts_where_no_other_region_spikes(other: tuple, kept: bool) -> None:
    potential = _potential([(0, 1, 3.0, 12.0), other], n_trajectories=2)
    found = extract_spikes(potential, np.array([1, 1]), SFREQ)
    assert len(found.clips) == int(kept)
    assert len(extract_spikes(potential, np.array([1, 1]), SFREQ, alone=False).clips) == 1


def test_what_is_not_whole_too_low_or_too_close_is_no_spike() -> None:
    excited = np.array([0])
    for peak in ((0, 0, 0.3, 12.0), (0, 0, 5.7, 12.0), (0, 0, 3.0, 7.9), (0, 1, 3.0, 12.0)):
        found = extract_spikes(_potential([peak]), excited, SFREQ)
        assert found.clips.shape == (0, 500)
        assert found.onset.shape == (0,)
    twice = _potential([(0, 0, 2.0, 12.0), (0, 0, 2.15, 14.0), (0, 0, 4.0, 9.0)])
    found = extract_spikes(twice, excited, SFREQ)
    assert found.onset.tolist() == [875, 1800]


def test_shapes_and_rates_are_checked() -> None:
    with pytest.raises(ValueError, match="one excited region"):
        extract_spikes(np.zeros((2, 3, 100)), np.array([1]), SFREQ)
    with pytest.raises(ValueError, match="peak inside"):
        extract_spikes(np.zeros((1, 3, 100)), np.array([1]), SFREQ, before=1.0)


@pytest.mark.parametrize("make", [made_up_spikes, evoked_like, oscillations])
@given(
    n=st.integers(1, 20),
    n_times=st.integers(10, 400),
    sfreq=st.sampled_from([50.0, 100.0, 256.0, 1000.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_made_up_waveforms_are_finite_and_of_size_one(make, n: int, n_times: int, sfreq: float, seed: int) -> None:
    found = make(n, n_times, sfreq, np.random.default_rng(seed))
    assert found.shape == (n, n_times)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.abs(found).max(axis=1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(found, make(n, n_times, sfreq, np.random.default_rng(seed)))


def test_rhythms_are_in_their_band_and_below_the_nyquist_frequency() -> None:
    found = oscillations(300, 400, 100.0, np.random.default_rng(0), band=(8.0, 60.0))
    power = np.abs(np.fft.rfft(found, axis=1)) ** 2
    frequency = np.fft.rfftfreq(400, 0.01)
    peak = frequency[power.argmax(axis=1)]
    assert peak.min() > 5.0
    assert 35.0 < peak.max() < 47.0  # 0.4 of the rate, and a drift


def test_evoked_waves_alternate() -> None:
    found = evoked_like(200, 1000, 1000.0, np.random.default_rng(0))
    assert (found.min(axis=1) < -0.05).all()
    assert (found.max(axis=1) > 0.05).all()
