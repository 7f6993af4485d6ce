"""The authors' weights: the same function, and every name accounted for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mne_labram.models import BrainCodec
from mne_labram.weights import convert_official, describe_checkpoint, load_checkpoint


def _close(ours: torch.Tensor, theirs: np.ndarray) -> None:
    scale = float(np.abs(theirs).max())
    np.testing.assert_allclose(ours.detach().numpy(), theirs, rtol=0, atol=1e-5 * scale)


def test_golden_vectors(golden_codec: SimpleNamespace) -> None:
    wanted = golden_codec.outputs
    model = BrainCodec.from_official({**golden_codec.state, **golden_codec.codebooks}, ratios=golden_codec.ratios)
    model.eval()
    latents = model.latents(golden_codec.x)
    assert latents.shape == (3, 1, 64, 32)
    _close(latents[:, 0].transpose(1, 2), wanted["latent"])
    # The authors' decoder was given latents, not codes.
    _close(model._signal(latents, 1024), wanted["reconstruction"])
    codes = model.encode(golden_codec.x)
    np.testing.assert_array_equal(codes[:, 0].transpose(1, 2).numpy(), wanted["codes"])
    _close(model.quantizer.lookup(codes)[:, 0].transpose(1, 2), wanted["quantized"])
    out = model(golden_codec.x)
    torch.testing.assert_close(out, model.decode(codes, 1024), rtol=0, atol=1e-5)


@pytest.mark.parametrize("prefix", ["", "model.", "module.", "module.model.", "_orig_mod.model."])
def test_prefixes(golden_codec: SimpleNamespace, prefix: str) -> None:
    state = {prefix + key: value for key, value in {**golden_codec.state, **golden_codec.codebooks}.items()}
    expected = BrainCodec.from_official({**golden_codec.state, **golden_codec.codebooks}, ratios=golden_codec.ratios)
    for given in (state, {"state_dict": state, "epoch": 3}):
        model = BrainCodec.from_official(given, ratios=golden_codec.ratios)
        assert all(torch.equal(ours, expected.state_dict()[name]) for name, ours in model.state_dict().items())


def test_sizes_are_read_off_the_weights(golden_codec: SimpleNamespace) -> None:
    model = BrainCodec.from_official(golden_codec.state, ch_names=["Cz"], n_codebooks=2, codebook_size=8)
    config = model.get_config()
    assert (config["n_filters"], config["max_filters"], config["dim"]) == (8, 64, 32)
    assert config["ratios"] == [2, 2, 2, 2]
    assert (model.sfreq, model.stride, model.ch_names) == (512, 16, ["CZ"])
    assert not bool(model.quantizer.initialized)
    other = BrainCodec(
        ratios=[4, 2],
        n_filters=6,
        max_filters=100,
        dim=5,
        n_residual_layers=2,
        compress=3,
        kernel_size=7,
        last_kernel_size=5,
        residual_kernel_size=1,
    )
    state = {key: value for key, value in other.state_dict().items() if not key.startswith("quantizer.")}
    again = BrainCodec.from_official(state)
    x = torch.randn(1, 2, 33)
    torch.testing.assert_close(again.latents(x), other.latents(x))


def test_what_does_not_fit(golden_codec: SimpleNamespace) -> None:
    state, ratios = golden_codec.state, golden_codec.ratios
    first = next(iter(state))
    for change, words in (
        ({first: None}, f"1 tensor is missing .{first}."),
        ({"encoder.model.99.conv.conv.scale": torch.ones(1)}, "1 tensor is unknown to the model .encoder.model.99"),
        ({first: torch.ones(3)}, f"{first} is 3, not 64"),
        ({first: torch.full((64,), torch.nan)}, "1 tensor holds NaN or infinity"),
        ({"quantizer.layers.0._codebook.embed": torch.ones(1, 4, 32)}, "embed_avg is not there for all"),
    ):
        bad = {key: value for key, value in {**state, **change}.items() if value is not None}
        with pytest.raises(ValueError, match=words):
            BrainCodec.from_official(bad, ratios=ratios)
    with pytest.raises(ValueError, match="has 6 convolutions beside residual blocks, not the 8 of 6 strides"):
        BrainCodec.from_official(state, ratios=[2] * 6)
    with pytest.raises(ValueError, match="tensors have another shape"):
        BrainCodec.from_official(state, ratios=[2, 2, 2, 4])
    with pytest.raises(ValueError, match="These weights have dim=32, not 16"):
        BrainCodec.from_official(state, ratios=ratios, dim=16)
    with pytest.raises(ValueError, match="linear_encoder"):
        BrainCodec.from_official(state, ratios=ratios, linear_path=True)
    with pytest.raises(ValueError, match=r"There is no encoder in these weights.*there is nonsense\.decoder"):
        BrainCodec.from_official({f"nonsense.{key}": value for key, value in state.items()}, ratios=ratios)
    with pytest.raises(TypeError, match="maps names to tensors"):
        BrainCodec.from_official([1], ratios=ratios)
    with pytest.raises(ValueError, match="are no tensors: hyper_parameters"):
        BrainCodec.from_official({**state, "hyper_parameters": 3}, ratios=ratios)


def test_conversion(golden_codec: SimpleNamespace, tmp_path: Path) -> None:
    """From the authors' pickle to our file and back, without running anything in it."""
    state = {f"model.{key}": value for key, value in {**golden_codec.state, **golden_codec.codebooks}.items()}
    source = tmp_path / "braincodec.pth"
    torch.save({"state_dict": state, "epoch": 3}, source)
    path = convert_official(source, tmp_path / "codec.safetensors")
    model = load_checkpoint(path)
    assert isinstance(model, BrainCodec)
    assert (model.sfreq, model.n_times, model.ch_names) == (512, 2048, [])
    np.testing.assert_array_equal(model.encode(golden_codec.x)[:, 0].transpose(1, 2), golden_codec.outputs["codes"])
    assert describe_checkpoint(path)["card"]["converted_from"]["kind"] == "codec"
    bound = load_checkpoint(convert_official(source, tmp_path / "other.safetensors", ch_names=["Cz"], window=2))
    assert (bound.n_times, bound.ch_names) == (1024, ["CZ"])
    for change, words in (
        ({"kind": "tokenizer"}, "weights are for kind='codec' and cannot be made kind='tokenizer'"),
        ({"n_outputs": 2}, "n_outputs is for kind='classification'"),
        ({"num_heads": 4}, "a codec has no attention"),
    ):
        with pytest.raises(ValueError, match=words):
            convert_official(source, tmp_path / "third.safetensors", **change)
    assert not (tmp_path / "third.safetensors").exists()


def test_discriminators_are_left_out(golden_codec: SimpleNamespace) -> None:
    extra = {"model.discriminator.0.conv.weight": torch.ones(2), "model.loss.window": torch.ones(2)}
    state = {f"model.{key}": value for key, value in golden_codec.state.items()}
    model = BrainCodec.from_official({**state, **extra}, ratios=golden_codec.ratios)
    assert torch.equal(model.encoder.last.bias, golden_codec.state["encoder.model.14.conv.conv.bias"])
