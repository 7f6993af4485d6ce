"""Flat, clipped and missing seconds, however the signal is cut into pieces."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mne_labram.signal.quality import QualityThresholds, SecondQuality, n_seconds, second_edges, unusable_seconds


def judge(x, sfreq, limits=None, cuts=(), overlap=0, thresholds=None):
    quality = SecondQuality(x.shape[0], sfreq, x.shape[1], limits, thresholds)
    for a, b in zip([0, *cuts], [*cuts, x.shape[1]], strict=True):
        quality.feed(max(0, a - overlap), x[:, max(0, a - overlap) : b])
    assert quality.n_done == quality.n_seconds == int(np.ceil(x.shape[1] / sfreq))
    return quality


def noise(n_chans, n_times, seed=0):
    return np.round(np.random.default_rng(seed).standard_normal((n_chans, n_times)) * 20, 1)


def seconds(mask, channel=0):
    return np.flatnonzero(mask[:, channel]).tolist()


@pytest.mark.parametrize("sfreq", [100.0, 128.0, 249.75, 500.0])
def test_clean_noise_is_clean(sfreq):
    quality = judge(noise(3, int(30.4 * sfreq)), sfreq)
    assert not (quality.missing | quality.flat | quality.clipped).any()


@pytest.mark.parametrize("sfreq", [100.0, 249.75])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_missing(sfreq, value):
    x = noise(2, int(20 * sfreq))
    x[1, int(7.5 * sfreq)] = value
    quality = judge(x, sfreq)
    assert seconds(quality.missing, 0) == []
    assert seconds(quality.missing, 1) == [7]
    assert not quality.flat.any()


@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [
        (5.0, 8.0, [5, 6, 7]),
        (5.6, 7.2, [5, 6]),  # no whole second of it is flat
        (5.3, 6.7, [5, 6]),
        (5.5, 6.0, []),  # half a second of rest is allowed
        (0.0, 2.0, [0, 1]),
        (18.5, 20.0, [18, 19]),
    ],
)
@pytest.mark.parametrize("level", [0.0, 180.0])
def test_flat(start, stop, expected, level):
    x = noise(2, 20 * 200)
    a, b = int(start * 200), int(stop * 200)
    x[0, a:b] = level
    # amplifier noise of a channel that is not connected
    x[0, a:b] += np.random.default_rng(1).uniform(-0.2, 0.2, b - a)
    quality = judge(x, 200.0)
    assert seconds(quality.flat) == expected
    assert seconds(quality.flat, 1) == []


def test_small_eeg_is_not_flat():
    x = noise(1, 4000) * 0.02  # about 1.5 µV peak to peak
    assert not judge(x, 200.0).flat.any()
    assert judge(x, 200.0, thresholds=QualityThresholds(flat_uv=5.0)).flat.all()
    # coarse steps of 4 µV: values repeat, and sometimes for a quarter of a second
    steps = np.round(noise(1, 4000) / 20) * 4
    assert not judge(steps, 200.0).flat.any()


@pytest.mark.parametrize("sign", [-1, 1])
def test_clipped_at_known_limits(sign):
    x = noise(2, 4000)
    x[0, 1000:1004] = 500 * sign
    x[1, 2000] = 500 * sign  # once: a file whose limits were fitted to its extreme value
    limits = np.array([[-499.99, 499.99]] * 2)
    quality = judge(x, 200.0, limits)
    assert seconds(quality.clipped, 0) == [5]
    assert seconds(quality.clipped, 1) == []


@pytest.mark.parametrize("sign", [-1, 1])
def test_clipped_at_unknown_limits(sign):
    sfreq = 500.0
    times = np.arange(int(20 * sfreq)) / sfreq
    wave = np.round(400 * np.sin(2 * np.pi * times))  # slow waves, digitised in steps of 1 µV, rest on their crests
    assert not judge(np.array([wave]), sfreq).clipped.any()
    cut = np.clip(wave, -350, 350) if sign > 0 else np.clip(wave, -350, 1000)
    assert judge(np.array([cut]), sfreq).clipped.all()
    small = np.clip(wave / 4, -87, 87)
    assert not judge(np.array([small]), sfreq).clipped.any()


def test_an_amplifier_that_saturates_before_the_file_does():
    x = noise(1, 4000)
    x[0, 1000:1050] = 800.0
    assert seconds(judge(x, 200.0, np.array([[-3000.0, 3000.0]])).clipped) == [5]


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [({"flat_seconds": 0.1}, "flat_seconds"), ({"plateau_seconds": 2.0}, "plateau"), ({"bad_share": 1.5}, "bad_share")],
)
def test_thresholds_that_make_no_sense(kwargs, words):
    with pytest.raises(ValueError, match=words):
        QualityThresholds(**kwargs)


@pytest.mark.parametrize("flat_seconds", [0.5, 2.0, 5.0])
def test_longer_and_shorter_stretches(flat_seconds):
    x = noise(1, 6000)
    x[0, 1000:1600] = 0  # three seconds
    thresholds = QualityThresholds(flat_seconds=flat_seconds)
    expected = [] if flat_seconds > 3 else [5, 6, 7]
    assert seconds(judge(x, 200.0, thresholds=thresholds).flat) == expected
    assert seconds(judge(x, 200.0, cuts=range(100, 6000, 100), thresholds=thresholds).flat) == expected


def test_a_clipped_run_across_a_second():
    x = noise(1, 4000)
    x[0, 1198:1202] = 900.0
    limits = np.array([[-900.0, 900.0]])
    assert seconds(judge(x, 200.0, limits).clipped) == [5, 6]


@given(
    cuts=st.lists(st.integers(1, 2999), unique=True, max_size=8).map(sorted),
    overlap=st.integers(0, 400),
    sfreq=st.sampled_from([100.0, 101.3, 128.0, 249.75]),
    seed=st.integers(0, 5),
)
def test_pieces_do_not_matter(cuts, overlap, sfreq, seed):
    rng = np.random.default_rng(seed)
    x = noise(3, 3000, seed)
    for _ in range(6):
        a, n = int(rng.integers(0, 2900)), int(rng.integers(1, 400))
        x[rng.integers(3), a : a + n] = rng.choice([np.nan, 0.0, 600.0, -999.0])
    limits = np.array([[-999.0, 999.0], [np.nan, np.nan], [np.nan, np.nan]])
    whole = judge(x, sfreq, limits)
    pieces = judge(x, sfreq, limits, cuts, overlap)
    for name in ("missing", "flat", "clipped"):
        np.testing.assert_array_equal(getattr(pieces, name), getattr(whole, name), err_msg=name)


def test_samples_left_out_are_noticed():
    quality = SecondQuality(1, 100.0, 1000)
    quality.feed(0, np.zeros((1, 100)))
    with pytest.raises(ValueError, match="100 to 150 were left out"):
        quality.feed(150, np.zeros((1, 10)))


@given(n_times=st.integers(1, 5000), sfreq=st.floats(3.0, 600.0))
def test_seconds_tile_the_recording(n_times, sfreq):
    edges = second_edges(0, n_seconds(n_times, sfreq), sfreq, n_times)
    assert edges[0] == 0
    assert edges[-1] == n_times
    assert (np.diff(edges) > 0).all()
    assert np.abs(np.diff(edges)[:-1] - sfreq).max(initial=0) <= 1


def test_share():
    flat = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]], dtype=bool)
    missing = np.array([[0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 1, 0]], dtype=bool)
    assert unusable_seconds([flat, missing], 0.5).tolist() == [False, False, True]
    assert unusable_seconds([flat, missing], 0.0).tolist() == [True, True, True]
    assert unusable_seconds([np.zeros((2, 0), dtype=bool)], 0.5).all()
