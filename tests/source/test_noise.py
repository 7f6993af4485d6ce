"""Noise has the spectrum and the covariance that it says, and recorded noise finds its electrodes."""

from __future__ import annotations

import mne
import numpy as np
import pytest

from mne_labram.signal.contract import ContractError
from mne_labram.source.noise import ColouredNoise, NoiseBank, resampled, white_noise


@pytest.fixture(scope="module")
def head(sphere_head):
    return sphere_head(300)


def _slope(x: np.ndarray, sfreq: float, low: float, high: float) -> float:
    """Exponent of the power spectrum between two frequencies."""
    frequency = np.fft.rfftfreq(x.shape[-1], 1.0 / sfreq)
    power = (np.abs(np.fft.rfft(x, axis=-1)) ** 2).reshape(-1, len(frequency)).mean(axis=0)
    band = (frequency > low) & (frequency < high)
    return -np.polyfit(np.log(frequency[band]), np.log(power[band]), 1)[0]


def test_white_noise_is_white() -> None:
    x = white_noise(20, 8, 500, np.random.default_rng(0))
    assert x.dtype == np.float32
    assert abs(_slope(x, 100.0, 2.0, 40.0)) < 0.1
    np.testing.assert_allclose(np.cov(x.transpose(1, 0, 2).reshape(8, -1)), np.eye(8), atol=0.05)


def test_coloured_noise_has_its_exponent(head) -> None:
    for exponent in (0.5, 1.5):
        noise = ColouredNoise(head, exponent=(exponent, exponent), alpha=0.0)
        x, _ = noise.draw(30, 400, 100.0, np.random.default_rng(0))
        assert _slope(x, 100.0, 2.0, 40.0) == pytest.approx(exponent, abs=0.2)
    x, _ = ColouredNoise(head, exponent=(1.0, 1.0), alpha=50.0).draw(30, 400, 100.0, np.random.default_rng(0))
    power = (np.abs(np.fft.rfft(x, axis=2)) ** 2).mean(axis=(0, 1))
    frequency = np.fft.rfftfreq(400, 0.01)
    assert power[(frequency > 8) & (frequency < 12)].mean() > 5 * power[(frequency > 14) & (frequency < 20)].mean()


def test_coloured_noise_is_seen_as_sources_are(head) -> None:
    noise = ColouredNoise(head, seed=1)
    x, covariance = noise.draw(3, 20_000, 100.0, np.random.default_rng(0))
    for window, expected in zip(x, covariance, strict=True):
        found = np.cov(window)
        found *= np.trace(expected) / np.trace(found)
        assert np.linalg.norm(found - expected) < 0.2 * np.linalg.norm(expected)
    # Neighbours see the same, opposite electrodes do not.
    correlation = covariance[0] / np.sqrt(np.outer(*[np.diag(covariance[0])] * 2))
    names = list(head.ch_names)
    assert correlation[names.index("O1"), names.index("Oz")] > 0.5
    with pytest.raises(ValueError, match="sensor"):
        ColouredNoise(head, sensor=0.0)


def test_recorded_noise_keeps_spectra_and_correlations(head) -> None:
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((32, 4))
    white = rng.standard_normal((5, 4, 1000))
    segments = mixing @ np.cumsum(white, axis=2) + 0.1 * rng.standard_normal((5, 32, 1000))
    noise = NoiseBank(segments, 250.0, head.ch_names).on(head)
    x, covariance = noise.draw(40, 1000, 250.0, rng)
    np.testing.assert_allclose(np.mean(covariance, axis=0), np.mean(noise.covariances, axis=0), rtol=0.5, atol=0.01)
    for window, expected in zip(x, covariance, strict=True):
        found = window @ window.T / 1000
        np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())
    assert _slope(x, 250.0, 2.0, 20.0) == pytest.approx(_slope(segments, 250.0, 2.0, 20.0), abs=0.2)
    # No window is a segment, and no two are alike.
    first, second = (noise.draw(1, 1000, 250.0, np.random.default_rng(seed))[0][0] for seed in (1, 2))
    assert abs(np.corrcoef(first[0], second[0])[0, 1]) < 0.95


def test_windows_longer_than_the_segments_have_no_seams(head) -> None:
    rng = np.random.default_rng(0)
    noise = NoiseBank(rng.standard_normal((2, 32, 100)), 100.0, head.ch_names).on(head)
    x, _ = noise.draw(200, 450, 100.0, rng)
    assert x.shape == (200, 32, 450)
    level = np.sqrt((x**2).mean(axis=(0, 1)))
    assert level.max() < 1.1 * level.min()


def test_channels_are_found_by_name(head, sphere_head) -> None:
    rng = np.random.default_rng(0)
    old = {"T7": "T3", "T8": "T4", "P7": "T5", "P8": "T6"}
    names = [old.get(name, name).upper() for name in head.ch_names][::-1]
    segments = rng.standard_normal((1, 32, 200))
    noise = NoiseBank(segments, 100.0, names).on(head)
    assert noise.mixing.shape == (32, 32)
    np.testing.assert_array_equal(noise.mixing, np.eye(32))
    np.testing.assert_allclose(
        np.corrcoef(noise.segments[0]), np.corrcoef((segments - segments.mean(axis=1, keepdims=True))[0][::-1])
    )
    with pytest.raises(ContractError, match="only 3 are in the recorded noise"):
        NoiseBank(segments[:, :3], 100.0, ["Fp1", "Fp2", "Cz"]).on(head)


def test_a_channel_that_was_not_recorded_is_like_its_neighbours(head) -> None:
    rng = np.random.default_rng(0)
    names = [name for name in head.ch_names if name != "Cz"]
    common = rng.standard_normal((1, 1, 2000))
    noise = NoiseBank(common + rng.standard_normal((1, 31, 2000)), 100.0, names).on(head)
    x, covariance = noise.draw(1, 2000, 100.0, rng)
    row = head.ch_names.index("Cz")
    others = np.delete(np.diag(covariance[0]), row)
    assert 0.5 * others.mean() < covariance[0, row, row] < 2.0 * others.mean()
    found = np.cov(x[0])
    np.testing.assert_allclose(found[row, row], covariance[0, row, row], rtol=0.2)


def test_noise_of_a_users_recording(make_raw) -> None:
    raw = make_raw(seconds=20.0)
    raw.info["bads"] = [raw.ch_names[0]]
    raw.set_annotations(mne.Annotations([5.0], [2.0], ["BAD_movement"]))
    bank = NoiseBank.from_inst(raw, seconds=4.0)
    assert bank.ch_names == raw.ch_names[1:]
    assert bank.segments.shape[0] == 4
    epochs = mne.make_fixed_length_epochs(raw, 1.0, preload=True, verbose="error")
    assert NoiseBank.from_inst(epochs).segments.shape[1] == len(raw.ch_names) - 1
    with pytest.raises(ContractError, match="No EEG is left"):
        NoiseBank.from_inst(raw, seconds=100.0)
    with pytest.raises(TypeError, match="Raw or Epochs"):
        NoiseBank.from_inst(np.zeros((3, 100)))


def test_the_recorded_noise_of_deepsif(shared_data, head, tmp_path) -> None:
    bank = NoiseBank.from_deepsif(shared_data / "deepsif_ictal" / "anatomy")
    assert bank.segments.shape == (4, 75, 500)
    x, covariance = bank.on(head).draw(6, 150, 100.0, np.random.default_rng(0))
    assert x.shape == (6, 32, 150)
    assert np.isfinite(x).all()
    # Real noise is in few dimensions: the strongest third of them has nearly all of it.
    power = np.linalg.eigvalsh(covariance[0])
    assert power[-11:].sum() > 0.9 * power.sum()
    with pytest.raises(OSError, match="realistic_noise"):
        NoiseBank.from_deepsif(tmp_path)


def test_what_is_no_noise_is_refused(head) -> None:
    with pytest.raises(ContractError, match="a name for each channel"):
        NoiseBank(np.zeros((1, 3, 100)), 100.0, ["Fz"])
    with pytest.raises(ContractError, match="finite"):
        NoiseBank(np.full((1, 1, 100), np.nan), 100.0, ["Fz"])
    with pytest.raises(ContractError, match="flat"):
        NoiseBank(np.zeros((1, 32, 100)), 100.0, head.ch_names).on(head)


def test_another_rate_keeps_low_frequencies() -> None:
    times = np.arange(1000) / 500.0
    wave = np.sin(2 * np.pi * 7.0 * times)[np.newaxis]
    found = resampled(wave, 500.0, 125.0)
    assert found.shape == (1, 250)
    np.testing.assert_allclose(found[0, 20:-20], wave[0, ::4][20:-20], atol=0.01)
    assert resampled(wave, 500.0, 500.0) is wave
    assert np.abs(resampled(np.sin(2 * np.pi * 90.0 * times)[np.newaxis], 500.0, 125.0))[0, 20:-20].max() < 0.01
