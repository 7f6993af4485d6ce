"""SEANet: published sizes, shapes of any length."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mne_labram.nn.seanet import SEANetDecoder, SEANetEncoder, reflect_pad

_TINY = {"n_filters": 2, "max_filters": 4, "dim": 3}


def _n_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("n_strides", "encoder", "decoder"), [(6, 1_055_432, 1_055_369), (5, 661_576, 661_513), (4, 267_720, 267_657)]
)
def test_published_sizes(n_strides: int, encoder: int, decoder: int) -> None:
    with torch.device("meta"):
        ratios = [2] * n_strides
        assert _n_parameters(SEANetEncoder(ratios)) == encoder
        assert _n_parameters(SEANetDecoder(ratios)) == decoder


@pytest.mark.parametrize("n_times", [1, 2, 3, 7, 63, 64, 65, 800, 1000, 2000, 2048])
@pytest.mark.parametrize("ratios", [[2] * 6, [4, 2, 3], [5], [1, 2]])
def test_any_length(ratios: list[int], n_times: int) -> None:
    encoder, decoder = SEANetEncoder(ratios, **_TINY), SEANetDecoder(ratios, **_TINY)
    stride = encoder.stride
    with torch.no_grad():
        latents = encoder(torch.randn(2, 1, n_times))
        assert latents.shape == (2, 3, -(-n_times // stride))
        out = decoder(latents)
    assert out.shape == (2, 1, latents.shape[-1] * stride)
    assert bool(torch.isfinite(out).all())


def test_the_published_decoder_gives_more_than_went_in() -> None:
    """The shapes of the study: 800 samples and a stride of 64 are 13 frames, which give 832."""
    with torch.device("meta"):
        assert SEANetEncoder()(torch.empty(1, 1, 800)).shape == (1, 64, 13)
        assert SEANetDecoder()(torch.empty(1, 64, 13)).shape == (1, 1, 832)


def test_receptive_field() -> None:
    """446 samples with six strides of two, as derived from the published sizes."""
    torch.manual_seed(0)
    encoder = SEANetEncoder([2] * 6, n_filters=4, max_filters=8, dim=2).double()
    x = torch.zeros(1, 1, 2048, dtype=torch.float64, requires_grad=True)
    encoder(x)[0, :, 16].sum().backward()
    reached = x.grad[0, 0].nonzero().flatten()
    assert int(reached.max() - reached.min()) + 1 == 446


def test_first_strides_are_the_decoders_last() -> None:
    encoder, decoder = SEANetEncoder([2, 3, 5], **_TINY), SEANetDecoder([2, 3, 5], **_TINY)
    assert [layer.stride[0] for layer in encoder.modules() if isinstance(layer, nn.Conv1d) and layer.stride[0] > 1] == [
        5,
        3,
        2,
    ]
    assert [layer.stride[0] for layer in decoder.modules() if isinstance(layer, nn.ConvTranspose1d)] == [2, 3, 5]


def test_reflection() -> None:
    x = torch.tensor([[1.0, 2.0, 3.0]])
    assert reflect_pad(x, 2, 1).tolist() == [[3, 2, 1, 2, 3, 2]]
    # What cannot be mirrored is continued by zeros first.
    assert reflect_pad(x[:, :1], 1, 2).tolist() == [[0, 1, 0, 0]]
    assert reflect_pad(x, 0, 0) is not None
    assert reflect_pad(x, 0, 0).tolist() == x.tolist()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ratios": []}, "ratios must hold at least one stride"),
        ({"ratios": [2, 0]}, "ratios must hold at least one stride"),
        ({"dim": 0}, "dim must be positive, got 0"),
        ({"n_residual_layers": -1}, "n_residual_layers must be positive"),
    ],
)
def test_sizes_that_make_no_network(change: dict, words: str) -> None:
    for cls in (SEANetEncoder, SEANetDecoder):
        with pytest.raises(ValueError, match=words):
            cls(**change)


def test_dropout_and_activation() -> None:
    torch.manual_seed(0)
    encoder = SEANetEncoder([2], **_TINY, activation=nn.GELU, drop_prob=0.5)
    assert any(isinstance(layer, nn.GELU) for layer in encoder.modules())
    assert not any(isinstance(layer, nn.ELU) for layer in encoder.modules())
    x = torch.randn(1, 1, 32)
    assert not torch.equal(encoder(x), encoder(x))
    encoder.eval()
    assert torch.equal(encoder(x), encoder(x))
