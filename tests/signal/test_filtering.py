"""The filter chain: the same in blocks as in one piece, and what MNE's filters do."""

import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import freqz, welch

from mne_labram.signal.filtering import design_chain

RATES = [100, 125, 128, 160, 200, 249.75, 250, 256, 499.907, 500, 512, 1000, 1024, 2048]
LABRAM = {"l_freq": 0.1, "h_freq": 75.0, "notch_freqs": (50.0,)}


def _noise(n_chans, n_times, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n_chans, n_times)) * 20 + rng.standard_normal((n_chans, n_times)).cumsum(axis=1)


@settings(max_examples=30)
@given(
    rate=st.sampled_from(RATES),
    seconds=st.floats(0.01, 60),
    block=st.integers(50, 3000),
    l_freq=st.sampled_from([None, 0.1, 0.5, 4.0]),
    h_freq=st.sampled_from([None, 30.0, 75.0]),
    notch=st.sampled_from([(), (50.0,), (60.0,), (16.7, 50.0)]),
    sfreq_out=st.sampled_from([200.0, 100.0, 256.0]),
)
def test_blocks_equal_the_whole(rate, seconds, block, l_freq, h_freq, notch, sfreq_out):
    """However a recording is cut, the result is the same, at its ends too."""
    if h_freq is not None and h_freq >= sfreq_out / 2:
        h_freq = 40.0
    chain = design_chain(rate, sfreq_out, l_freq=l_freq, h_freq=h_freq, notch_freqs=notch)
    n_in = max(1, int(seconds * rate))
    x = _noise(2, n_in)
    whole = chain.apply(x, block=10**7)
    assert whole.shape == (2, chain.n_out(n_in))
    reads = []

    def read(a, b):
        assert 0 <= a < b <= n_in
        reads.append((a, b))
        return x[:, a:b]

    pieces = list(chain.stream(read, n_in, block=block))
    assert [first for first, _ in pieces] == list(range(0, whole.shape[1], block))
    streamed = np.concatenate([piece for _, piece in pieces], axis=1)
    np.testing.assert_allclose(streamed, whole, atol=1e-10 * max(whole.std(), x.std()), rtol=0)
    # Whoever judges the samples as they are read, passing over reads of the mirror image, sees all of them in order.
    seen = 0
    for a, b in reads:
        if a <= seen:
            seen = max(seen, b)
    assert seen == n_in


@pytest.mark.parametrize("rate", [200.0, 256.0, 499.907])
def test_segments_keep_the_grid_of_the_recording(rate):
    """Samples of a segment lie at the recording's sampling instants, wherever the segment begins."""
    chain = design_chain(rate, 200.0, l_freq=0.5, h_freq=75.0)
    x = _noise(1, int(60 * rate), seed=3)
    whole = chain.apply(x)
    cut = int(23.456 * rate)
    first, stop = chain.first_out(cut), chain.n_out(x.shape[1])
    pieces = chain.stream(lambda a, b: x[:, cut + a : cut + b], x.shape[1] - cut, start=first, stop=stop, grid=cut)
    part = np.concatenate([piece for _, piece in pieces], axis=1)
    inside = slice(int(8 * 200), -int(8 * 200))
    np.testing.assert_allclose(part[:, inside], whole[:, first:][:, inside], atol=1e-9 * whole.std())


@pytest.mark.parametrize("rate", [rate for rate in RATES if rate != 499.907])
def test_like_mne(rate):
    """Away from the ends, MNE's filter, notch and resample agree to 0.5 % in every band between 1 and 70 Hz.

    Within 1 Hz of the notch they are not compared: two windowed designs of the same width ripple differently there.
    """
    seconds = 80
    x = _noise(2, int(rate * seconds))
    ours = design_chain(rate, 200.0, **LABRAM).apply(x)
    raw = mne.io.RawArray(x, mne.create_info(2, rate, "eeg"), verbose="ERROR")
    raw.filter(0.1, 75.0 if rate > 160 else None, verbose="ERROR")
    if rate > 102:
        raw.notch_filter(50.0, verbose="ERROR")
    # MNE's default pads to a power of two, which shifts the samples by 0.2 ms where the padded length does not divide.
    theirs = raw.resample(200.0, method="polyphase", verbose="ERROR").get_data()
    assert ours.shape == theirs.shape
    # 20 s at either end, where MNE continues a recording differently (see test_even_reflection_is_better)
    inside = slice(4000, -4000)
    freqs, error = welch((ours - theirs)[:, inside], 200.0, nperseg=1000)
    _, power = welch(theirs[:, inside], 200.0, nperseg=1000)
    for low, high in [(1, 5), (5, 20), (20, 40), (40, 48.5), (51.5, 60), (60, 70)]:
        if high > 0.42 * rate:
            break
        band = (freqs >= low) & (freqs <= high)
        assert error[:, band].sum() < 0.005**2 * power[:, band].sum(), (low, high)


@pytest.mark.parametrize("rate", [200.0, 250.0, 512.0, 1000.0])
def test_frequency_response(rate):
    """Sines come out with the gain the design states."""
    chain = design_chain(rate, 200.0, **LABRAM)
    times = np.arange(int(rate * 120)) / rate
    out_times = np.arange(chain.n_out(len(times))) / 200.0
    inside = slice(25 * 200, -25 * 200)
    for freq, gain, tolerance in [
        (0.1, 1, 0.01),
        (0.5, 1, 0.005),
        (10, 1, 1e-3),
        (49, 1, 0.01),
        (50, 0, 2e-3),
        (51, 1, 0.01),
        (70, 1, 1e-3),
        (75, 1, 1e-3),
        (94, 0, 2e-4),
    ]:
        y = chain.apply(np.sin(2 * np.pi * freq * times)[None])[0]
        expected = gain * np.sin(2 * np.pi * freq * out_times)
        assert np.abs(y - expected)[inside].max() < tolerance, freq
    if rate > 250:
        # What lies above the new Nyquist frequency must not fold back: 130 Hz would appear at 70 Hz.
        folded = chain.apply(np.sin(2 * np.pi * 130 * times)[None])[0]
        assert np.abs(folded[inside]).max() < 2e-4


@pytest.mark.parametrize("rate", [125.0, 200.0, 512.0])
def test_offsets_vanish(rate):
    """100 mV of electrode offset, and a drift of 1 mV/s, leave nothing."""
    chain = design_chain(rate, 200.0, **LABRAM)
    n_times = int(rate * 60)
    constant = chain.apply(np.full((1, n_times), 1e5))
    assert np.abs(constant).max() < 1e-6
    drift = chain.apply(1e3 * np.arange(n_times)[None] / rate)
    assert np.abs(drift[:, 21 * 200 : -21 * 200]).max() < 0.01


def test_symmetric_and_exact_at_zero():
    chain = design_chain(256.0, 200.0, **LABRAM)
    for taps in (chain.low_pass, chain.fir):
        assert len(taps) % 2 == 1
        np.testing.assert_allclose(taps, taps[::-1], atol=1e-12 * np.abs(taps).max())
    assert abs(chain.fir.sum()) < 1e-13
    _, high = freqz(design_chain(200.0, 200.0, l_freq=0.1).fir, worN=[0.02, 0.1, 0.2], fs=200)
    assert np.abs(high)[0] < 0.1
    np.testing.assert_allclose(np.abs(high)[1:], 1, atol=5e-3)
    assert chain.half_seconds == pytest.approx(19.8 + 0.13, abs=0.1)


@pytest.mark.parametrize(
    ("rate", "up", "down"),
    [(200, 1, 1), (100, 2, 1), (249.75, 800, 999), (256, 25, 32), (2048, 25, 256), (200.0000001, 1, 1)],
)
def test_ratio(rate, up, down):
    chain = design_chain(rate, 200.0, h_freq=75.0 if rate > 160 else None)
    assert (chain.up, chain.down) == (up, down)
    assert abs(chain.ratio_ppm) < 1e-2


@settings(max_examples=200)
@given(rate=st.floats(20.0, 20_000.0))
def test_any_rate_keeps_time(rate):
    """Whatever the rate, a day drifts by less than half a second, and what is off is said."""
    from mne_labram.signal.filtering import _ratio

    ratio, ppm = _ratio(rate, 200.0)
    assert abs(ppm) < 5.5
    assert (float(ratio) * rate / 200.0 - 1) * 1e6 == pytest.approx(ppm, abs=1e-6)


def test_not_resampled_and_not_filtered():
    """At the contract's own rate with nothing asked for, the samples are the samples."""
    chain = design_chain(200.0, 200.0)
    assert chain.low_pass is None
    assert chain.fir is None
    x = _noise(3, 1001)
    np.testing.assert_array_equal(chain.apply(x, block=77), x)


def test_upsampled_recordings_hold_nothing_new():
    """Above the source's Nyquist frequency there is nothing after upsampling."""
    y = design_chain(100.0, 200.0, h_freq=75.0).apply(np.random.default_rng(0).standard_normal((1, 6000)))
    spectrum = np.abs(np.fft.rfft(y[0] * np.hanning(y.shape[1]))) ** 2
    freqs = np.fft.rfftfreq(y.shape[1], 1 / 200)
    assert spectrum[freqs > 51].mean() < 1e-7 * spectrum[freqs < 45].mean()


def test_even_reflection_is_better(shared_data):
    """Close to the ends of an excerpt, the chain comes nearer to the long recording than MNE's odd reflection does."""
    raw = mne.io.read_raw(shared_data / "eegmmidb" / "S001R03.edf", preload=True, verbose="ERROR").pick(range(10))
    x = raw.get_data(units="uV")
    chain = design_chain(160.0, 200.0, l_freq=0.1, h_freq=75.0)
    whole = chain.apply(x)
    a, b = 40, 70
    ours = chain.apply(x[:, a * 160 : b * 160])
    theirs = raw.copy().crop(a, b, include_tmax=False).filter(0.1, None, verbose="ERROR").resample(200).get_data("all")
    theirs = theirs * 1e6
    first = slice(0, 200)
    truth = whole[:, a * 200 : b * 200]
    error = np.sqrt(np.mean((ours - truth)[:, first] ** 2))
    assert error < 0.25 * np.sqrt(np.mean((theirs - truth)[:, first] ** 2))
    assert error < 0.25 * truth.std()


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ((0.0, 200.0), {}, "sfreq_in must be positive"),
        ((np.nan, 200.0), {}, "sfreq_in must be positive"),
        ((200.0, -1.0), {}, "sfreq_out must be positive"),
        ((200.0, 200.0), {"l_freq": 100.0}, "l_freq must lie between"),
        ((200.0, 200.0), {"l_freq": 0.0}, "l_freq must lie between"),
    ],
)
def test_bad_arguments(args, kwargs, words):
    with pytest.raises(ValueError, match=words):
        design_chain(*args, **kwargs)
