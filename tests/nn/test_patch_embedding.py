"""Patches to tokens."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mne_labram.nn.patch_embedding import PatchEmbedding, TemporalConv


def _by_hand(conv: TemporalConv, patches: Tensor) -> Tensor:
    """Take the official steps, one convolution over the scaled signal after the other."""
    x = (patches / conv.input_scale)[:, None]
    for i, (stride, padding) in enumerate([(8, 7), (1, 1), (1, 1)], start=1):
        layer, norm = getattr(conv, f"conv{i}"), getattr(conv, f"norm{i}")
        x = F.conv2d(x, layer.weight, layer.bias, stride=(1, stride), padding=(0, padding))
        x = F.gelu(F.group_norm(x, 4, norm.weight, norm.bias))
    tokens = torch.stack([x[:, :, :, t] for t in range(x.shape[3])], dim=3)  # batch, filters, tokens, times
    return torch.stack([tokens[:, :, i].transpose(1, 2).flatten(1) for i in range(x.shape[2])], dim=1)


@pytest.mark.parametrize(("width", "filters"), [(200, 8), (400, 16), (800, 32)])
def test_official_widths(width: int, filters: int) -> None:
    torch.manual_seed(0)
    conv = TemporalConv(width)
    assert conv.conv1.weight.shape == (filters, 1, 1, 15)
    assert conv.proj is None
    patches = 60 * torch.randn(2, 6, 200)
    torch.testing.assert_close(conv(patches), _by_hand(conv, patches), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("width", "patch_size"), [(128, 200), (24, 100), (201, 200), (8, 8)])
def test_any_width_and_patch(width: int, patch_size: int) -> None:
    out = TemporalConv(width, patch_size)(torch.randn(3, 4, patch_size))
    assert out.shape == (3, 4, width)


def test_statistics_are_those_of_the_sample() -> None:
    torch.manual_seed(0)
    conv = TemporalConv(200)
    patches = 50 * torch.randn(3, 5, 200)
    torch.testing.assert_close(conv(patches)[1:2], conv(patches[1:2]), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(conv(patches)[:, :4], conv(patches[:, :4]), atol=1e-3)


def test_scale_is_a_change_of_unit() -> None:
    torch.manual_seed(0)
    fine, coarse = TemporalConv(200, input_scale=10.0), TemporalConv(200, input_scale=100.0)
    coarse.load_state_dict(fine.state_dict())
    patches = torch.randn(1, 3, 200)
    torch.testing.assert_close(fine(10 * patches), coarse(100 * patches))
    with pytest.raises(ValueError, match="input_scale must be positive"):
        TemporalConv(200, input_scale=0.0)


@pytest.mark.parametrize("kind", ["conv+spectrum", "conv+periodogram"])
def test_spectrum_adds_a_linear_map(kind: str) -> None:
    torch.manual_seed(0)
    both, plain = PatchEmbedding(200, kind=kind), PatchEmbedding(200)
    plain.load_state_dict(both.state_dict(), strict=False)
    assert {name for name, _ in both.named_parameters()} - {name for name, _ in plain.named_parameters()} == {
        "spectrum_proj.weight",
        "spectrum_proj.bias",
    }
    assert both.spectrum_proj.weight.shape == (200, 45)
    patches = 30 * torch.randn(2, 3, 200)
    expected = plain(patches) + both.spectrum(patches) @ both.spectrum_proj.weight.T + both.spectrum_proj.bias
    torch.testing.assert_close(both(patches), expected)
    with pytest.raises(ValueError, match="patch_embed must be one of 'conv', 'conv.spectrum', .*, got 'spectrum'"):
        PatchEmbedding(200, kind="spectrum")


def test_activation_class() -> None:
    conv = TemporalConv(200, activation=nn.ReLU)
    assert float(conv(torch.randn(1, 2, 200)).detach().min()) == 0.0
