"""Losses of the codec, against their formulas written out in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mne_labram.nn.codec_losses import N_FFTS, line_length_loss, magnitudes, spectral_loss


def _randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_line_length() -> None:
    x, y = _randn(2, 3, 1000), _randn(2, 3, 1000, seed=1)
    x[0, 1] = 7.0
    x[1, 2, :300] = -1.0
    terms = []
    for one, two in zip(x.reshape(-1, 1000).numpy(), y.reshape(-1, 1000).numpy(), strict=True):
        for start in range(0, 1000 - 128 + 1, 64):
            lengths = [np.abs(np.diff(signal[start : start + 128])).sum() for signal in (one, two)]
            if lengths[0] > 0:
                terms.append(abs(lengths[0] - lengths[1]))
    # 14 windows in each of 6 signals; one is flat throughout, another in 3 windows.
    assert len(terms) == 14 * 5 - 3
    assert float(line_length_loss(y, x)) == pytest.approx(np.mean(terms), rel=1e-5)
    assert float(line_length_loss(x, x)) == 0.0
    # 127 steps of a normal variable of variance 2, as the loss of silence (the study found 141 on noise like this).
    assert float(line_length_loss(torch.zeros(20, 2048), _randn(20, 2048))) == pytest.approx(143, rel=0.02)


def test_line_length_of_short_and_flat_signals() -> None:
    x, y = _randn(4, 50), _randn(4, 50, seed=1)
    lengths = [signal.diff(dim=-1).abs().sum(-1) for signal in (x, y)]
    torch.testing.assert_close(line_length_loss(y, x), (lengths[0] - lengths[1]).abs().mean())
    flat = y.clone().requires_grad_()
    loss = line_length_loss(flat, torch.ones(4, 50))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert float(flat.grad.abs().max()) == 0.0
    with pytest.raises(ValueError, match="at least 2 samples"):
        line_length_loss(x[:, :1], x[:, :1])


def _spectrogram(x: np.ndarray, n_fft: int) -> np.ndarray:
    """Compute the complex spectrogram of (n_times,) frame by frame."""
    padded = np.pad(x, n_fft // 2, mode="reflect")
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    starts = range(0, len(padded) - n_fft + 1, n_fft // 4)
    return np.stack([np.fft.rfft(taper * padded[start : start + n_fft]) for start in starts], axis=1)


def test_spectra() -> None:
    x, y = _randn(3, 600), _randn(3, 600, seed=1)
    wanted = np.stack([_spectrogram(row, 128) for row in x.double().numpy()])
    np.testing.assert_allclose(magnitudes(x, 128).numpy(), np.abs(wanted), atol=2e-4)
    expected = 0.0
    for n_fft in (32, 64, 128, 256, 512):
        energy = 3 / 8 * n_fft  # of a Hann window
        powers = [
            np.stack([np.abs(_spectrogram(row, n_fft)) ** 2 / energy for row in z.double().numpy()]) for z in (x, y)
        ]
        d = powers[0] - powers[1]
        expected += (np.abs(d).sum() + np.sqrt((d**2).sum())) / d.size
    # Windows of 1024 and 2048 samples are longer than the signal.
    assert float(spectral_loss(y, x)) == pytest.approx(expected, rel=1e-4)
    assert float(spectral_loss(y, x, n_ffts=(32, 64, 128, 256, 512))) == float(spectral_loss(y, x))
    assert float(spectral_loss(x, x)) == 0.0
    assert N_FFTS == tuple(2**i for i in range(5, 12))


@pytest.mark.parametrize("n_times", [32, 33, 200, 800, 2048])
def test_any_length(n_times: int) -> None:
    x, y = _randn(2, n_times), _randn(2, n_times, seed=1).requires_grad_()
    loss = spectral_loss(y, x)
    loss.backward()
    # White noise has a power of 1 everywhere.
    n_used = sum(n_fft <= n_times for n_fft in N_FFTS)
    assert 0.4 * n_used < float(loss.detach()) < 2.5 * n_used
    assert torch.isfinite(y.grad).all()
    with pytest.raises(ValueError, match="A signal of 31 samples is shorter"):
        spectral_loss(x[..., :31], x[..., :31])


def test_silence_has_finite_gradients() -> None:
    for target in (torch.zeros(2, 256), _randn(2, 256)):
        y = torch.zeros(2, 256, requires_grad=True)
        (spectral_loss(y, target) + magnitudes(y, 64).mean()).backward()
        assert torch.isfinite(y.grad).all()


def test_float32_under_autocast() -> None:
    x, y = _randn(2, 512), _randn(2, 512, seed=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = spectral_loss(y.bfloat16(), x)
        assert magnitudes(x.bfloat16(), 64).dtype == torch.float32
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, spectral_loss(y.bfloat16().float(), x))
