"""The neural codec, with the weights that ship."""

from __future__ import annotations

import json
from pathlib import Path

import mne
import numpy as np
import pytest

from mne_labram.codec.coders import make_coder, restore_coder
from mne_labram.codec.neural import NeuralCoder
from mne_labram.signal.contract import ContractError


def _make(n_channels: int = 4, sfreq: float = 200.0, bitrate: float = 128) -> NeuralCoder:
    names = [f"EEG {i}" for i in range(n_channels)]
    return NeuralCoder.make(sfreq=sfreq, ch_names=names, block_samples=4000, bitrate=bitrate)


def _noise(n_channels: int = 4, n_samples: int = 4000, seed: int = 0) -> np.ndarray:
    """Make noise that falls off with frequency, in µV."""
    generator = np.random.default_rng(seed)
    white = generator.standard_normal((n_channels, n_samples + 200)) + generator.standard_normal(n_samples + 200)
    return 10 * np.apply_along_axis(np.convolve, 1, white, np.hanning(9), "same")[:, 100:-100]


def _prd(x: np.ndarray, y: np.ndarray) -> float:
    return float(100 * np.sqrt(np.square(x - y).sum() / np.square(x).sum()))


def test_budgets_are_kept_and_more_bits_leave_less_error(shared_data: Path) -> None:
    raw = mne.io.read_raw(shared_data / "eegmat" / "Subject20_1.edf", verbose="error").pick(range(19)).crop(60, 90)
    x = raw.load_data().filter(0.1, 75.0, verbose="error").resample(200, verbose="error").get_data() * 1e6
    errors = []
    for bitrate in (64, 128, 256, 512, 1024):
        coder = _make(19, bitrate=bitrate)
        budget = int(bitrate * x.size / 200)
        payload = coder.encode(x, bits=budget)
        assert 0.85 * budget < 8 * len(payload) <= budget
        errors.append(_prd(x, coder.decode(payload, x.shape[1])))
    assert all(low < 0.75 * high for high, low in zip(errors, errors[1:], strict=False))
    assert errors[0] < 50
    assert errors[2] < 13


def test_every_window_keeps_its_share() -> None:
    coder, x = _make(6), _noise(6)
    # One loud window among quiet ones.
    x[:, 1600:2400] *= 5
    gains, latents = coder._latents(x)
    shares = coder._shares(latents.shape[1], 128 * 6 * 20)
    indices = coder._fit(latents, shares)
    assert len(gains) == 6
    assert len(indices) == 5
    bits = coder._window_bits(latents, indices)
    assert (bits <= shares).all()
    assert (bits > 0.7 * shares).all()
    assert indices[2] == indices.max()


def test_a_file_decodes_with_its_parameters_alone() -> None:
    coder, x = _make(), _noise()
    again = restore_coder("neural", json.loads(json.dumps(coder.parameters())))
    payload = coder.encode(x, bits=None)
    assert payload == coder.encode(x, bits=None)
    np.testing.assert_array_equal(again.decode(payload, 4000), coder.decode(payload, 4000))


def test_channels_do_not_need_one_another() -> None:
    coder, x = _make(1), _noise(1)
    assert _prd(x, coder.decode(coder.encode(x, bits=256 * 20), 4000)) < 60


@pytest.mark.parametrize(
    ("sfreq", "n_samples"),
    [(200.0, 100), (200.0, 1), (200.0, 0), (256.0, 1000), (173.61, 900), (1000.0, 2001), (64.0, 333)],
)
def test_any_rate_and_length(sfreq: float, n_samples: int) -> None:
    coder = _make(3, sfreq)
    x = _noise(3, max(n_samples, 1))[:, :n_samples]
    y = coder.decode(coder.encode(x, bits=100_000), n_samples)
    assert y.shape == x.shape
    assert np.isfinite(y).all()


def test_slow_signals_survive_another_rate() -> None:
    time = np.arange(2560) / 256
    x = np.stack([50 * np.sin(2 * np.pi * 6 * time), 30 * np.cos(2 * np.pi * 11 * time)])
    coder = _make(2, 256.0)
    inside = np.s_[:, 128:-128]
    assert _prd(x[inside], coder.decode(coder.encode(x, bits=20_000), 2560)[inside]) < 6


@pytest.mark.parametrize("value", [0.0, 5.0, -1e6, 3e8])
def test_constant_channels(value: float) -> None:
    coder, x = _make(2), np.full((2, 1000), value)
    x[1] = _noise(1, 1000)[0]
    y = coder.decode(coder.encode(x, bits=100_000), 1000)
    np.testing.assert_allclose(y[0], value, atol=1.0, rtol=1e-6)
    assert _prd(x[1:], y[1:]) < 30


def test_very_loud_and_very_quiet_channels() -> None:
    coder, x = _make(2), _noise(2, 1000)
    x[0] *= 1e7
    x[1] *= 1e-2
    y = coder.decode(coder.encode(x, bits=50_000), 1000)
    assert _prd(x[:1], y[:1]) < 30
    assert _prd(x[1:], y[1:]) < 60


def test_wrong_input_is_refused() -> None:
    coder = _make(2)
    with pytest.raises(ValueError, match="shape"):
        coder.encode(np.zeros((3, 100)), bits=None)
    with pytest.raises(ValueError, match="not finite"):
        coder.encode(np.array([[0.0, np.nan], [0.0, 0.0]]), bits=None)
    with pytest.raises(ContractError, match="beyond 1e"):
        coder.encode(_noise(2, 100) + 1e19, bits=None)


def test_noise_of_floats_is_silence() -> None:
    coder, x = _make(2), 3 + 1e-9 * _noise(2, 400)
    assert np.abs(coder.decode(coder.encode(x, bits=2000), 400) - x).max() < 1e-2


def test_other_weights_are_refused_by_name_and_checksum() -> None:
    parameters = _make(2).parameters()
    with pytest.raises(ContractError, match=r"nothing-of-ours.*abc|abc.*nothing-of-ours"):
        restore_coder("neural", parameters | {"weights": {"name": "nothing-of-ours", "sha256": "abc"}})
    with pytest.raises(ContractError, match=r"braincodec-tiny"):
        restore_coder("neural", parameters | {"weights": parameters["weights"] | {"sha256": "abc"}})
    with pytest.raises(ContractError, match=r"context model"):
        restore_coder("neural", parameters | {"context": {"name": "neural", "sha256": "abc"}})


def test_damaged_payloads_give_an_error_or_numbers() -> None:
    coder, x = _make(3), _noise(3, 800)
    payload = coder.encode(x, bits=128 * 3 * 4)
    generator = np.random.default_rng(0)
    for place in generator.integers(0, len(payload), 150).tolist():
        damaged = bytearray(payload)
        damaged[place] ^= int(generator.integers(1, 256))
        try:
            assert coder.decode(bytes(damaged), 800).shape == (3, 800)
        except ValueError:
            continue
    for stop in (0, 3, 8, 20, len(payload) // 2):
        with pytest.raises(ValueError, match=r"payload|incomplete|early"):
            coder.decode(payload[:stop], 800)


def test_it_is_found_by_its_mode() -> None:
    coder = make_coder("neural", sfreq=200.0, ch_names=["A", "B"], block_samples=800, bitrate=64)
    assert coder.name == "neural"
    assert coder.parameters()["weights"]["name"] == "braincodec-tiny"
