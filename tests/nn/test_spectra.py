"""Spectra: the feature and the targets."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mne_labram.nn.spectra import SPECTRAL_TARGETS, LogSpectrum, SpectralTarget, band_bins, typical_log_power

_TIME = torch.arange(200, dtype=torch.float64) / 200


def _eeg(*shape: int, seed: int = 0) -> torch.Tensor:
    """Noise with a falling spectrum, tens of microvolts."""
    white = torch.randn(*shape, 200, generator=torch.Generator().manual_seed(seed))
    spectrum = torch.fft.rfft(white) / torch.arange(1, 102).float().sqrt()
    return 40 * torch.fft.irfft(spectrum, n=200)


def test_bins_of_a_band() -> None:
    assert band_bins(200, 200.0, (1.0, 45.0)) == (1, 46)
    assert band_bins(400, 200.0, (1.0, 45.0)) == (2, 91)
    assert band_bins(100, 200.0, (0.0, 100.0)) == (0, 51)
    for band in ((45.0, 1.0), (0.2, 0.8), (1.0, 101.0), (-1.0, 5.0)):
        with pytest.raises(ValueError, match="No Fourier bin"):
            band_bins(200, 200.0, band)


@given(frequency=st.integers(3, 43), amplitude=st.floats(1, 200), phase=st.floats(0, 6.3), offset=st.floats(-500, 500))
def test_log_spectrum_measures_a_sinusoid(frequency: int, amplitude: float, phase: float, offset: float) -> None:
    spectrum = LogSpectrum(200)
    x = amplitude * torch.sin(2 * math.pi * frequency * _TIME + phase) + offset
    bins = torch.arange(1, 46)
    log_power = spectrum(x.float()) * 1.5 + typical_log_power(bins.double())
    peak = log_power[frequency - 1]
    assert float(peak) == pytest.approx(math.log(amplitude**2 / 2 + 1e-3), abs=0.01)
    # Hann: 6 dB down in the neighbouring bins, next to nothing beyond.
    assert float(log_power[frequency]) == pytest.approx(float(peak) - math.log(4), abs=0.02)
    far = (bins - frequency).abs() > 1
    assert float(log_power[far].max()) < float(peak) - 6


def test_log_spectrum_is_of_order_one_and_float32() -> None:
    spectrum = LogSpectrum(200)
    features = spectrum(_eeg(500))
    assert features.shape == (500, 45)
    assert abs(float(features.mean())) < 1.5
    assert 0.4 < float(features.std()) < 2.0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = spectrum(_eeg(500))
    assert again.dtype == torch.float32
    assert torch.equal(again, features)
    assert torch.isfinite(spectrum(torch.zeros(3, 200))).all()
    assert "basis" not in spectrum.state_dict()


def test_official_target_is_numpy() -> None:
    x = _eeg(2, 3, 4)
    target = SpectralTarget()(x)
    spectrum = np.fft.fft(x.double().numpy() / 100, axis=-1)
    for name, values in (("amplitude", np.abs(spectrum)), ("phase", np.angle(spectrum))):
        flat = values.reshape(2, -1)
        mean = flat.mean(axis=1)[:, None, None, None]
        std = flat.std(axis=1, ddof=1)[:, None, None, None]
        expected = (values - mean) / std
        # The angle of a negative bin without imaginary part is +pi or -pi by chance, which also moves the mean a bit.
        np.testing.assert_allclose(target[name].numpy()[..., 1:100], expected[..., 1:100], rtol=0, atol=0.02)


@pytest.mark.parametrize("kind", SPECTRAL_TARGETS)
def test_flat_samples_are_finite(kind: str) -> None:
    x = _eeg(3, 2, 4)
    x[1] = 0.0
    x[2, 1] = 7.0
    target = SpectralTarget(kind)
    target.update(x)
    parts = target(x)
    assert list(parts) == list(target.parts)
    for name, n_bins in target.parts.items():
        assert parts[name].shape == (3, 2, 4, n_bins)
        assert torch.isfinite(parts[name]).all()


@pytest.mark.parametrize("kind", ["amplitude+phase", "amplitude+sincos"])
def test_invert_gives_the_signal_back(kind: str) -> None:
    x = _eeg(1, 3, 4)
    target = SpectralTarget(kind)
    target.update(x)  # statistics of this very sample, so its level is known
    parts = target(x)
    if kind == "amplitude+phase":
        # A sample's own angles are only about uniform; put them back exactly.
        angle = torch.fft.fft(x).angle()
        parts["phase"] = angle / (math.pi / math.sqrt(3))
    torch.testing.assert_close(target.invert(parts), x, rtol=1e-3, atol=1e-2)


def test_log_amplitude_has_no_phase() -> None:
    target = SpectralTarget("log_amplitude")
    assert not target.invertible
    with pytest.raises(ValueError, match="hold no phases"):
        target.invert(target(_eeg(1, 1, 1)))


def test_log_amplitude_keeps_the_level() -> None:
    target = SpectralTarget("log_amplitude", band=(1.0, 45.0))
    x = 100 * _eeg(4, 2, 4)
    for _ in range(3):
        target.update(x)
    parts = target(x)["log_amplitude"]
    assert parts.shape[-1] == 45
    torch.testing.assert_close(parts.mean(dim=(0, 1, 2)), torch.zeros(45), rtol=0, atol=1e-4)
    torch.testing.assert_close(parts.flatten(0, 2).std(dim=0), torch.ones(45), rtol=0, atol=1e-3)
    louder = target(3 * x)["log_amplitude"]
    expected = parts + math.log(3) / target.std
    torch.testing.assert_close(louder, expected, rtol=0, atol=0.05)  # up to the floor under the logarithm


def test_running_statistics_average_batches() -> None:
    target = SpectralTarget("log_amplitude")
    batches = [_eeg(4, 2, 4, seed=seed) for seed in range(3)]
    for batch in batches:
        target.update(batch)
    logs = [torch.log(torch.fft.rfft(batch)[..., 1:46].abs() + 1.0).flatten(0, 2) for batch in batches]
    torch.testing.assert_close(target.mean, torch.stack([log.mean(0) for log in logs]).mean(0))
    # Moments are averaged, so that the spread between batches counts too.
    square = torch.stack([log.var(0) + log.mean(0) ** 2 for log in logs]).mean(0)
    torch.testing.assert_close(target.std, (square - target.mean**2).sqrt())
    assert int(target.n_updates) == 3
    assert {"mean", "std", "n_updates"} == set(target.state_dict())


def test_typical_values_are_near_real_recordings(shared_data) -> None:
    import mne

    raw = mne.io.read_raw_edf(sorted((shared_data / "eegmmidb").glob("*.edf"))[0], preload=True, verbose="error")
    raw.pick("eeg").crop(0, 60).resample(200, verbose="error")
    x = torch.tensor(raw.get_data()[:, :12000] * 1e6, dtype=torch.float32).unflatten(1, (-1, 200))
    features = LogSpectrum(200)(x)
    assert abs(float(features.mean())) < 1.5
    assert 0.5 < float(features.std()) < 2.0
    target = SpectralTarget("log_amplitude")(x[None])["log_amplitude"]
    assert abs(float(target.mean())) < 1.5


def test_unknown_target() -> None:
    with pytest.raises(ValueError, match="target must be one of 'amplitude.phase'"):
        SpectralTarget("phase")


def test_without_a_taper_bins_are_those_of_the_plain_transform() -> None:
    x = _eeg(2, 3, 4)
    found = LogSpectrum(200, taper=False)(x)
    power = (torch.fft.rfft(x - x.mean(-1, keepdim=True))[..., 1:46].abs() / 200).square() * 2
    target = SpectralTarget("log_amplitude")(x)["log_amplitude"]
    # The same up to scale and shift per bin: a linear map of the input is the target.
    for feature in (found, torch.log(power)):
        for b in (0, 9, 44):
            pair = torch.stack([feature[..., b].flatten(), target[..., b].flatten()])
            assert float(torch.corrcoef(pair)[0, 1]) > 0.99
    tapered = LogSpectrum(200)(x)
    assert float(torch.corrcoef(torch.stack([tapered[..., 9].flatten(), target[..., 9].flatten()]))[0, 1]) < 0.95
