"""Rounding of latents, and what it is said to take."""

from __future__ import annotations

import pytest
import torch

from mne_labram.nn.rounding import gaussian_bits, round_with_dead_zone


def test_a_dead_zone_and_whole_steps_above_it() -> None:
    values = torch.tensor([0.0, 0.61, 0.63, 1.61, 1.63, -0.61, -0.7, -2.7])
    assert round_with_dead_zone(values).tolist() == [0, 0, 1, 1, 2, 0, -1, -3]


def test_half_is_plain_rounding() -> None:
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0)) * 5
    assert torch.equal(round_with_dead_zone(values, 0.5), torch.sign(values) * (values.abs() + 0.5).floor())


def test_silence_takes_nothing_and_each_octave_one_bit() -> None:
    latents = torch.randn(2, 3, 60, 40, generator=torch.Generator().manual_seed(0))
    assert gaussian_bits(torch.zeros_like(latents)).abs().max() == 0
    fine, finer = (gaussian_bits(scale * latents) / (60 * 40) for scale in (64.0, 128.0))
    torch.testing.assert_close(finer - fine, torch.ones(2, 3), atol=1e-3, rtol=0)


def test_bits_agree_with_the_entropy_of_a_gaussian() -> None:
    # At fine steps a rounded Gaussian of deviation s takes log2(s sqrt(2 pi e)) bits.
    scale = 20.0
    latents = scale * torch.randn(1, 1, 400, 400, generator=torch.Generator().manual_seed(1))
    entropy = torch.log2(torch.tensor(scale * (2 * torch.pi * torch.e) ** 0.5))
    assert float(gaussian_bits(latents)) / 160_000 == pytest.approx(float(entropy), abs=0.35)


def test_there_is_a_gradient_towards_fewer_bits() -> None:
    latents = torch.randn(1, 1, 8, 20, generator=torch.Generator().manual_seed(0)).requires_grad_()
    gaussian_bits(latents).sum().backward()
    assert bool(((latents.grad * latents.detach()).sum() > 0) & torch.isfinite(latents.grad).all())
