"""The codecs to beat: their bits are those of a stream that can be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mne_labram.benchmark.coefficient_coding import CONTEXT_EDGES, CoefficientCoder
from mne_labram.benchmark.rate_distortion import CodecRecording, read_for_codec
from mne_labram.benchmark.transform_codecs import DCT, KLTandDCT, TransformCodec, Wavelet, dct_codec, klt_codec

SFREQ, LENGTH = 200.0, 800


@pytest.fixture(scope="module")
def recordings(shared_data: Path) -> list[CodecRecording]:
    """Two subjects to train on and one to measure, 16 of 182 s of each."""
    paths = [shared_data / "eegmat" / f"Subject{number}_1.edf" for number in ("00", "01", "20")]
    whole = read_for_codec(paths, dataset="eegmat")
    return [
        CodecRecording(r.name, r.subject, r.dataset, r.x[:, 6000:9200], r.sfreq, r.ch_names, np.ones(4, dtype=bool))
        for r in whole
    ]


@pytest.fixture(scope="module")
def dct(recordings: list[CodecRecording]) -> TransformCodec:
    """Fit the codec with a hard budget."""
    return dct_codec().fit(recordings[:2])


def _laplace(n_rows: int = 40, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.laplace(size=(n_rows, 50)) * np.linspace(3.0, 0.1, 50)).astype(np.float32)


@pytest.fixture(scope="module")
def coder() -> CoefficientCoder:
    """Two kinds of rows, the second ten times as large."""
    x = _laplace(400)
    x[1::2] *= 10.0
    return CoefficientCoder(np.arange(50) // 10, row_groups=2).fit(x, np.arange(400) % 2)


@pytest.mark.parametrize("step", [6.0, 1.0, 0.1, 0.003, 1e-4])
def test_streams_are_read_as_they_were_written(coder: CoefficientCoder, step: float) -> None:
    x, kinds = _laplace(seed=1), np.arange(40) % 2
    steps = np.full(40, step) * np.linspace(1.0, 1.3, 40)
    q = coder.quantize(x, steps)
    words = coder.encode(q, steps, kinds)
    assert_array_equal(coder.decode(words, steps, kinds), q)
    ideal = coder.bits(q, steps, kinds).sum()
    # A word of the range coder has 32 bits; the model's probabilities are rounded to 24.
    assert abs(32 * len(words) - ideal) < 96 + 0.005 * ideal
    assert np.abs(q).max() < 2**15


def test_quantiser(coder: CoefficientCoder) -> None:
    """Zero below 0.6, whole steps wide above; the centroids of a density that falls lie below the middle."""
    q = coder.quantize(np.array([[0.59, -0.59, 0.61, -1.59, 1.61, 1e9]]), np.ones(1))
    assert_array_equal(q, [[0, 0, 1, -1, 2, 2**15 - 1]])
    row = np.zeros((1, 50), dtype=np.int32)
    row[0, :3] = 1, -1, 200
    values = coder.dequantize(row, np.full(1, 0.5))[0]
    assert 0.6 * 0.5 < values[0] < 1.1 * 0.5
    assert values[1] == -values[0]
    assert values[2] == pytest.approx(200.1 * 0.5)
    assert_array_equal(values[3:], 0)
    assert len(CONTEXT_EDGES) == 12


def test_histograms_fit_what_they_were_counted_on(coder: CoefficientCoder) -> None:
    """Rows of the right kind are cheaper than the same rows said to be of the other."""
    x = _laplace(seed=2)
    steps = np.ones(40)
    q = coder.quantize(x, steps)
    assert (
        coder.bits(q, steps, np.zeros(40, dtype=int)).sum() < 0.95 * coder.bits(q, steps, np.ones(40, dtype=int)).sum()
    )


@pytest.mark.parametrize("kind", ["dct", "wavelet", "klt", "klt tuned"])
def test_transforms_lose_nothing(recordings: list[CodecRecording], kind: str) -> None:
    windows = recordings[0].x.reshape(19, -1, LENGTH).swapaxes(0, 1)
    transform = {
        "dct": lambda: DCT(SFREQ),
        "wavelet": lambda: Wavelet(SFREQ),
        "klt": lambda: KLTandDCT(SFREQ, 19),
        "klt tuned": lambda: KLTandDCT(SFREQ, 19, tuned=True),
    }[kind]()
    transform.fit([windows])
    coefficients, aside = transform.forward(windows)
    assert coefficients.shape == (len(windows), 19, len(transform.groups))
    assert np.all(np.diff(transform.groups) >= 0)
    assert_allclose(transform.inverse(coefficients, aside), windows, atol=1e-6)
    assert transform.aside_bits(aside) == (19 * 8 if kind == "klt tuned" else 0)
    if kind == "klt":
        power = (coefficients**2).sum(axis=(0, 2))
        assert np.all(np.diff(power) <= 1e-6 * power[0])


def test_no_window_takes_more_than_its_budget(recordings: list[CodecRecording], dct: TransformCodec) -> None:
    """At a hard rate: bits of each row with its 13 side bits; and the steps are as fine as the grid allows."""
    relative, _, _ = dct._relative(dct._windows(recordings[2].x))
    for bitrate in (64, 256):
        steps = dct._hard_steps(relative, bitrate)
        bits = dct.coder.bits(dct.coder.quantize(relative, steps), steps) + 13
        assert bits.max() <= 4 * bitrate
        finer = steps * 2 ** (-1 / 8)
        assert (dct.coder.bits(dct.coder.quantize(relative, finer), finer) + 13 > 4 * bitrate).mean() > 0.9


def test_real_bits_are_those_of_the_model(recordings: list[CodecRecording], dct: TransformCodec) -> None:
    (decoded,) = dct.code(recordings[2:], 128)
    n_rows = 4 * 19
    assert decoded.bits <= 4 * 128 * n_rows + 64
    assert abs(decoded.bits / decoded.ideal_bits - 1.0) < 0.005
    assert decoded.x.shape == recordings[2].x.shape
    error = decoded.x - recordings[2].x
    assert 0.05 < np.sqrt((error**2).sum() / (recordings[2].x ** 2).sum()) < 0.4


def test_variable_rate_meets_its_target(recordings: list[CodecRecording]) -> None:
    """Per recording or over all; an odd length is padded and cropped."""
    own = klt_codec().fit(recordings[:2])
    for bitrate in (64, 256):
        (decoded,) = own.code(recordings[2:], bitrate)
        assert decoded.bits / (16 * 19) == pytest.approx(bitrate, rel=0.005)
    own.over = "data set"
    both = own.code(recordings[1:], 128)
    rates = [each.bits / (16 * 19) for each in both]
    assert np.mean(rates) == pytest.approx(128, rel=0.005)
    assert abs(rates[0] - rates[1]) > 1.0
    r = recordings[2]
    odd = CodecRecording(r.name, r.subject, r.dataset, r.x[:, :1001], r.sfreq, r.ch_names, np.ones(1, dtype=bool))
    (decoded,) = own.code([odd], 256)
    assert decoded.x.shape == (19, 1001)


def test_flat_channels_and_silence(recordings: list[CodecRecording], dct: TransformCodec) -> None:
    r = recordings[2]
    x = r.x.copy()
    x[3] = 0.0
    x[4] *= 1e-4
    (decoded,) = dct.code([CodecRecording("flat", "flat", "eegmat", x, r.sfreq, r.ch_names, r.usable)], 256)
    assert_array_equal(decoded.x[3], 0)
    assert np.abs(decoded.x[4] - x[4]).max() < 0.02


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="'recording' or 'data set'"):
        dct_codec(over="window")
    with pytest.raises(ValueError, match="leaves channels apart"):
        TransformCodec("KLT", KLTandDCT(SFREQ, 19), hard=True)
