"""The lapped transform: an MDCT that loses nothing, at the ends neither."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.fft import dct

from mne_labram.nn.lapped_transform import LappedAnalysis, LappedSynthesis, mdct_basis


@given(stride=st.sampled_from([2, 4, 6, 16, 64]), n_times=st.integers(1, 300), seed=st.integers(0, 99))
def test_perfect_reconstruction(stride: int, n_times: int, seed: int) -> None:
    x = torch.randn(2, 1, n_times, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        latents = LappedAnalysis(stride, stride)(x)
        out = LappedSynthesis(stride, stride)(latents)
    assert latents.shape == (2, stride, -(-n_times // stride))
    assert out.shape == (2, 1, latents.shape[2] * stride)
    torch.testing.assert_close(out[..., :n_times], x, rtol=0, atol=1e-5)
    if n_times % stride == 0:
        torch.testing.assert_close(latents.square().sum(), x.square().sum(), rtol=1e-5, atol=0)


def test_orthonormal() -> None:
    """As a matrix: what is lost of latents by quantisation is lost of the signal, no more and no less."""
    n, frames = 8, 4
    with torch.no_grad():
        matrix = LappedAnalysis(n, n)(torch.eye(n * frames)[:, None]).flatten(1)
        back = LappedSynthesis(n, n)(torch.eye(n * frames).reshape(n * frames, n, frames))[:, 0]
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(n * frames), rtol=0, atol=1e-5)
    torch.testing.assert_close(back, matrix.T, rtol=0, atol=1e-6)


def test_one_frame_is_a_dct() -> None:
    """Nothing overlaps with a single frame: the DCT-IV of the samples, by another library."""
    x = np.random.default_rng(0).standard_normal(32)
    with torch.no_grad():
        latents = LappedAnalysis(32, 32)(torch.from_numpy(x).float()[None, None])[0, :, 0]
    np.testing.assert_allclose(latents.numpy(), dct(x, type=4, norm="ortho"), atol=1e-5)


def test_bands_are_frequencies() -> None:
    n = 64
    time = np.arange(16 * n)
    for band in (3, 20, 60):
        x = np.cos(np.pi / n * (band + 0.5) * time)
        with torch.no_grad():
            power = LappedAnalysis(n, n)(torch.from_numpy(x).float()[None, None])[0].square().mean(dim=1)
        assert int(power.argmax()) == band
        assert float(power[band - 1 : band + 2].sum() / power.sum()) > 0.98


def test_fewer_and_more_numbers_than_bands() -> None:
    x = torch.sin(torch.arange(256) / 12.0)[None, None]
    with torch.no_grad():
        low = LappedSynthesis(4, 16)(LappedAnalysis(4, 16)(x))
        all_of_it = LappedSynthesis(20, 16)(LappedAnalysis(20, 16)(x))
        assert float(LappedAnalysis(20, 16)(x)[:, 16:].abs().max()) == 0.0
    torch.testing.assert_close(all_of_it, x, rtol=0, atol=1e-5)
    # A slow wave is in the lowest bands, but for the leakage of the sine window.
    assert 1e-4 < float((low - x).square().mean() / x.square().mean()) < 0.02


def test_basis_in_float64_precision() -> None:
    basis = mdct_basis(200)
    torch.testing.assert_close(basis.square().sum(dim=1), torch.ones(200), rtol=0, atol=1e-5)
    assert basis.dtype == torch.float32


@pytest.mark.parametrize("stride", [0, 1, 15])
def test_odd_strides(stride: int) -> None:
    for cls in (LappedAnalysis, LappedSynthesis):
        with pytest.raises(ValueError, match=f"needs an even stride, got {stride}"):
            cls(8, stride)


def test_it_can_be_trained() -> None:
    analysis, synthesis = LappedAnalysis(4, 4), LappedSynthesis(4, 4)
    synthesis(analysis(torch.randn(1, 1, 19))).square().sum().backward()
    assert float(analysis.conv.weight.grad.abs().min(dim=0).values.max()) > 0
    assert float(synthesis.convtr.weight.grad.abs().max()) > 0
