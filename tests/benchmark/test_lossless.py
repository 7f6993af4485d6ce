"""The table of exact coding is made, in small, and its yardsticks count what they should."""

from __future__ import annotations

import mne
import numpy as np
import pytest

from mne_labram.benchmark import lossless
from mne_labram.benchmark.lossless import (
    lossless_table,
    measure_hour,
    measure_lossless,
    predictive_rice_bits,
    read_digital,
)


@pytest.fixture(scope="module")
def chbmit(shared_data):
    """Return a short real recording."""
    return shared_data / "chbmit" / "chb01_03_preictal.edf"


def test_integers_are_those_of_the_file(chbmit, shared_data, write_edf) -> None:
    digital, sfreq, sample_bits = read_digital(chbmit)
    raw = mne.io.read_raw_edf(chbmit, verbose="ERROR")
    assert (sfreq, sample_bits, digital.shape) == (256.0, 16, (len(raw.ch_names), raw.n_times))
    x = raw.get_data() * 1e6
    gain = 1600 / 4095
    np.testing.assert_allclose(digital * gain, x - (x[0, 0] - digital[0, 0] * gain), atol=1e-6)
    assert read_digital(chbmit, 3.0)[0].shape == (len(digital), 3 * 256)
    path = write_edf("made.bdf", kind="BDF", signals=[np.array([-500.0, 500.0] * 50)], physical=(-500.0, 500.0))
    digital, _, sample_bits = read_digital(path)
    assert sample_bits == 24
    assert digital[0, :3].tolist() == [-(2**23), 2**23 - 1, -(2**23)]


def test_rice_codes_are_counted() -> None:
    rng = np.random.default_rng(0)
    noise = np.rint(100 * rng.laplace(size=(2, 8192))).astype(np.int32)
    # Laplacian noise of scale b has an entropy of log2(2 e b) bits; Rice codes need a few hundredths more.
    entropy = np.log2(2 * np.e * 100)
    assert entropy < predictive_rice_bits(noise) / noise.size < entropy + 0.1
    steady = np.cumsum(np.cumsum(noise[:, :4096] // 50, axis=1), axis=1)
    white = predictive_rice_bits(noise[:, :4096] // 50)
    assert white < predictive_rice_bits(steady) < white + 2 * 4096 * 0.1
    assert predictive_rice_bits(np.full((1, 5000), 7)) < 300
    assert predictive_rice_bits(np.array([[5, -3, 100]])) < 200


def test_rice_is_near_flac(chbmit) -> None:
    pytest.importorskip("soundfile")
    rows = {row.method: row for row in measure_lossless([chbmit])}
    assert list(rows) == ["raw", "zlib", "rice", "flac", "flac8", "ours"]
    assert rows["raw"].bits == 16
    assert all(row.ratio == pytest.approx(16 / row.bits) for row in rows.values())
    # Short files: FLAC's own headers are 1 % of them, and it does not try as much.
    assert 0.9 < rows["rice"].bits / rows["flac"].bits < 1.02
    assert rows["ours"].bits < 0.85 * rows["rice"].bits
    assert rows["ours"].bits < 0.85 * rows["flac8"].bits


def test_blocks_share_what_is_left() -> None:
    x = np.arange(2 * 25).reshape(2, 25)
    assert [block.shape[1] for block in lossless._blocks(x, 10)] == [10, 15]
    assert [block.shape[1] for block in lossless._blocks(x[:, :24], 10)] == [10, 14]
    assert [block.shape[1] for block in lossless._blocks(x[:, :3], 10)] == [3]
    assert np.array_equal(np.concatenate(lossless._blocks(x, 4), axis=1), x)


def test_time_and_memory_of_a_long_recording(chbmit) -> None:
    measured = measure_hour(chbmit, n_channels=4, hours=1 / 20)
    assert measured["compress"] > 0
    assert measured["decompress"] > 0
    assert measured["peak"] > measured["growth"] >= 0
    with pytest.raises(OSError, match="process that was measured"):
        measure_hour(chbmit.parent / "missing.edf", hours=1 / 60)


def test_the_table_says_all_of_it(chbmit, monkeypatch) -> None:
    measured = {"compress": 5.0, "decompress": 4.0, "peak": 300.0, "growth": 6.0}
    monkeypatch.setattr(lossless, "measure_hour", lambda fname, **arguments: measured)
    text = lossless_table([chbmit], seconds=4.0)
    assert all(len(line) <= 120 for line in text.splitlines())
    assert "400 x real time" in text
    assert "+6.0 MB" in text
    assert lossless._TITLES["ours"] in text
    assert "real time" not in lossless_table([chbmit], seconds=2.0, hours=0)


def test_arguments_that_make_no_sense(tmp_path) -> None:
    with pytest.raises(ValueError, match="no EDF or BDF files"):
        measure_lossless([tmp_path])
