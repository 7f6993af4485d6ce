"""The discriminator: its size, and that it learns to tell and to be fooled."""

from __future__ import annotations

import pytest
import torch

from mne_labram.nn.spectrogram_discriminator import (
    SpectrogramDiscriminator,
    adversarial_loss,
    discriminator_loss,
    feature_matching_loss,
)


def _randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_published_one_has_1000330_parameters() -> None:
    discriminator = SpectrogramDiscriminator()
    assert discriminator.n_ffts == (2048, 1024, 512, 256, 128)
    assert sum(p.numel() for p in discriminator.parameters()) == 1_000_330
    verdict = discriminator(_randn(1, 2048))
    assert len(verdict) == 5
    for n_fft, (scores, maps) in zip(discriminator.n_ffts, verdict, strict=True):
        n_bands, n_frames = n_fft // 2 + 1, 2048 // (n_fft // 4) + 1
        for i, of_layer in enumerate(maps[:-1]):
            n_bands, n_frames = (n_bands + 1) // 2, (n_frames + 1) // 2 if i % 2 == 0 else n_frames
            assert of_layer.shape == (1, 64, n_bands, n_frames)
        assert scores.shape == (1, n_bands, n_frames)
        assert torch.equal(maps[-1][:, 0], scores)


def test_resolutions_are_capped_by_the_window() -> None:
    discriminator = SpectrogramDiscriminator(n_times=800, width=4)
    assert discriminator.n_ffts == (512, 256, 128)
    assert len(discriminator(_randn(2, 800))) == 3
    with pytest.raises(ValueError, match="400 samples are shorter than the longest window"):
        discriminator(_randn(2, 400))
    with pytest.raises(ValueError, match="for signals of 100 samples"):
        SpectrogramDiscriminator(n_times=100)
    with pytest.raises(ValueError, match="at least 16 samples"):
        SpectrogramDiscriminator((64, 8))


def test_losses() -> None:
    scores = [torch.tensor([[[0.5, 3.0]]]), torch.tensor([[[-2.0]]])]
    others = [torch.tensor([[[-3.0, 0.0]]]), torch.tensor([[[1.5]]])]
    maps = [[torch.tensor([2.0, -2.0])], [torch.tensor([1.0, 1.0, 1.0])]]
    other_maps = [[torch.tensor([1.0, -2.0])], [torch.tensor([1.0, 1.0, 4.0])]]
    true, false = list(zip(scores, maps, strict=True)), list(zip(others, other_maps, strict=True))
    # relu(1 - D(x)): 0.5 and 0, then 3; relu(1 + D(x_hat)): 0 and 1, then 2.5.
    assert float(discriminator_loss(true, false)) == pytest.approx(0.25 + 3.0 + 0.5 + 2.5)
    assert float(adversarial_loss(false)) == pytest.approx((4.0 + 1.0) / 2 + 0.0)
    # Half a unit of two, and one of one.
    assert float(feature_matching_loss(true, false)) == pytest.approx((0.25 + 1.0) / 2)
    assert float(feature_matching_loss(true, true)) == 0.0


def test_it_learns_to_tell() -> None:
    torch.manual_seed(0)
    discriminator = SpectrogramDiscriminator((64, 128), width=8)
    optimizer = torch.optim.AdamW(discriminator.parameters(), lr=5e-3)
    for step in range(30):
        true, false = _randn(16, 256, seed=step), _randn(16, 256, seed=1000 + step).cumsum(1) * 0.1
        loss = discriminator_loss(discriminator(true), discriminator(false))
        if step == 0:
            assert float(loss.detach()) == pytest.approx(4.0, abs=0.2)  # it has no opinion yet
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 1.0
    # What it finds false would gain by looking more like the true ones.
    with torch.no_grad():
        assert float(adversarial_loss(discriminator(false))) > float(adversarial_loss(discriminator(true))) + 1.0


def test_gradients_of_features_go_to_the_reconstruction_only() -> None:
    discriminator = SpectrogramDiscriminator((64,), width=4)
    true, false = _randn(2, 128).requires_grad_(), _randn(2, 128, seed=1).requires_grad_()
    feature_matching_loss(discriminator(true), discriminator(false)).backward()
    assert true.grad is None
    assert float(false.grad.abs().max()) > 0
    silence = torch.zeros(2, 128, requires_grad=True)
    adversarial_loss(discriminator(silence)).backward()
    assert torch.isfinite(silence.grad).all()
