"""Seizures from a codec's encoder: the published classifier with its axes in order, and ours."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mne_labram.models import BrainCodec, BrainCodecForSeizure
from mne_labram.nn.seanet import SEANetEncoder
from mne_labram.signal.vocabulary import DOUBLE_BANANA
from mne_labram.weights import load_checkpoint, save_checkpoint

_SIZES = {"ratios": [2, 4], "n_filters": 2, "max_filters": 4, "dim": 8}
_NAMES = ["FP1-F7", "F7-T7", "T7-P7", "P7-O1"]


def _model(**changes: Any) -> BrainCodecForSeizure:
    torch.manual_seed(0)
    return BrainCodecForSeizure(**{"ch_names": _NAMES, "hidden_dim": 16, **_SIZES, **changes}).eval()


def _codec(**changes: Any) -> BrainCodec:
    torch.manual_seed(1)
    return BrainCodec(**{**_SIZES, "n_codebooks": 2, "codebook_size": 4, **changes}).eval()


def _x(*shape: int, seed: int = 0) -> torch.Tensor:
    return 30 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _published(**changes: Any) -> BrainCodecForSeizure:
    return BrainCodecForSeizure(
        **{"ch_names": list(DOUBLE_BANANA), "sfreq": 512, "fusion": "conv", "head": "window", **changes}
    )


def test_published_sizes() -> None:
    with torch.device("meta"):
        model = _published()
        assert model.n_times == 2048
        assert model.second_logits(torch.empty(2, 18, 2048)).shape == (2, 4, 1)
    trained = [p.numel() for p in model.parameters() if p.requires_grad]
    frozen = [p.numel() for p in model.parameters() if not p.requires_grad]
    parts = [sum(p.numel() for p in part.parameters()) for part in (model.fusion, model.mlp, model.final_layer)]
    assert parts == [73_792, 540_928, 516]
    assert (sum(trained), sum(frozen)) == (615_236, 267_720)


def test_published_function() -> None:
    """The layers of the study, written down once more, with the axes where they belong."""
    torch.manual_seed(0)
    model = _published(n_filters=4, max_filters=8).eval()
    x = _x(2, 18, 2048)
    z = model.encoder(x.flatten(0, 1)[:, None])
    z = z.view(2, 18, 64, 128).permute(0, 2, 1, 3)
    z = model.fusion.conv(z).flatten(1)
    z = F.max_pool1d(z[:, None], 2, 2)[:, 0]
    assert z.shape == (2, 4096)
    wanted = model.final_layer(model.mlp(z))
    logits = model.second_logits(x)
    torch.testing.assert_close(logits[..., 0], wanted)
    torch.testing.assert_close(model(x)[:, 0], wanted.mean(dim=1))
    torch.testing.assert_close(model.second_probabilities(x)[..., 1], torch.sigmoid(wanted))
    # As it was published, latents are read in the wrong order, and almost none is in its place.
    latents = model.encoder(x.flatten(0, 1)[:, None])
    scrambled, right = latents.view(2, 64, 18, 128), latents.view(2, 18, 64, 128).permute(0, 2, 1, 3)
    assert float((scrambled == right).float().mean()) < 0.05


@pytest.mark.parametrize("fusion", ["attention", "conv"])
@pytest.mark.parametrize("gain", [False, True])
@pytest.mark.parametrize("sfreq", [200, 256])
@pytest.mark.parametrize("ratios", [[2, 4], [4, 4, 2, 2]])
def test_any_whole_number_of_seconds(fusion: str, gain: bool, sfreq: int, ratios: list[int]) -> None:
    """Also where a second has 3.1 frames."""
    model = _model(fusion=fusion, gain=gain, sfreq=sfreq, ratios=ratios, linear_path=True)
    for n_seconds in (1, 2, 4, 9):
        x = _x(2, 4, n_seconds * sfreq)
        probabilities = model.second_probabilities(x)
        assert probabilities.shape == (2, n_seconds, 2)
        torch.testing.assert_close(probabilities.sum(dim=2), torch.ones(2, n_seconds))
        assert model(x).shape == (2, 1)
    contract = model.contract
    assert (contract.patch_samples, contract.max_patches, contract.sfreq) == (sfreq, 60, sfreq)
    assert contract.montages == ("referential", "bipolar")
    for n_times in (0, sfreq - 1, sfreq + 1, 61 * sfreq):
        with pytest.raises(ValueError, match="A window must (be 1 to 60 whole seconds|hold at least one)"):
            model(_x(1, 4, n_times))


def test_seconds_are_where_they_are() -> None:
    """A change in one second changes its logit most, whatever pools around it."""
    for options in ({}, {"fusion": "conv"}, {"fusion": "conv", "head": "window", "n_times": 1200}):
        model = _model(**options)
        x = _x(1, 4, 1200)
        with torch.no_grad():
            before = model._encoded(model._checked(x))[0]
            bins = model.fusion.bins_per_second
            fused = model.fusion(before, None, 6)
            x[..., 640:760] *= 5
            changed = (model.fusion(model._encoded(x)[0], None, 6) - fused).abs().amax(dim=(0, 1))
        assert set((changed.view(6, bins).amax(dim=1) > 1e-6).nonzero().flatten().tolist()) == {3}


def test_attention_reads_any_montage() -> None:
    model = _model(gain=True)
    x = _x(2, 4, 400)
    logits = model.second_logits(x)
    order = [2, 0, 3, 1]
    permuted = model.bind_channels([_NAMES[i] for i in order]).second_logits(x[:, order])
    torch.testing.assert_close(permuted, logits)
    assert model.bind_channels(["Cz"]).second_logits(x[:, :1]).shape == (2, 2, 1)
    assert model.bind_channels(["EEG Fp1-REF", "C3", "LA1"]).ch_names == ["FP1", "C3", "LA1"]
    with pytest.raises(ValueError, match="Input has 3 channels, but BrainCodecForSeizure is bound to 4"):
        model(x[:, :3])
    # Without names, any number.
    assert _model(ch_names=None)(x[:, :3]).shape == (2, 1)


def test_convolution_knows_channels_by_name() -> None:
    model = _model(fusion="conv")
    x = _x(2, 4, 400)
    logits = model.second_logits(x)
    order = [2, 0, 3, 1]
    permuted = model.bind_channels([_NAMES[i] for i in order])
    torch.testing.assert_close(permuted.second_logits(x[:, order]), logits)
    assert permuted.fusion.conv.weight is model.fusion.conv.weight
    # What is missing adds nothing: as if its latents were 0.
    some = model.bind_channels([_NAMES[0], _NAMES[3]])
    latents, _ = model._encoded(x)
    latents = latents.clone()
    latents[:, 1:3] = 0.0
    torch.testing.assert_close(some.second_logits(x[:, [0, 3]]), model._classify(latents, None, 2))
    # It comes back from its configuration, and can be bound back.
    again = BrainCodecForSeizure.from_config(some.get_config())
    assert again.fusion.conv.kernel_size == (4, 1)
    again.load_state_dict(some.state_dict())
    torch.testing.assert_close(again.eval().second_logits(x[:, [0, 3]]), some.second_logits(x[:, [0, 3]]))
    torch.testing.assert_close(again.bind_channels(_NAMES).second_logits(x), logits)
    # In training, recordings have more channels.
    more = {"x": _x(2, 5, 400), "y": torch.zeros(2, 2, dtype=torch.long), "ch_names": ["CZ", *_NAMES]}
    ours = {"x": more["x"][:, 1:], "y": more["y"]}
    assert torch.equal(model.training_step(more)["loss"], model.training_step(ours)["loss"])
    for names in (["FP1-F7"], ["FP1-F7", "F7-T7", "CZ"], [_NAMES[0], _NAMES[0]]):
        with pytest.raises(ValueError, match="The convolution of this model is over FP1-F7.* and cannot read"):
            model.bind_channels(names)
    unnamed = _model(ch_names=None, n_chans=4, fusion="conv")
    torch.testing.assert_close(unnamed.bind_channels(list("abcd")).second_logits(x), logits)
    with pytest.raises(ValueError, match="over 4 channels without names, got 2"):
        unnamed.bind_channels(["a", "b"])
    with pytest.raises(ValueError, match="bound to 4"):
        unnamed(x[:, :2])


def test_a_window_of_fixed_length() -> None:
    model = _model(head="window", n_times=600)
    assert model.n_seconds == 3
    assert model.contract == _model().contract
    x = _x(2, 4, 1600)
    assert model.second_logits(x[..., :600]).shape == (2, 3, 1)
    latents, _ = model._encoded(x)
    logits = model._classify(latents, None, 8)
    assert logits.shape == (2, 8, 1)
    fused = model.fusion(latents, None, 8)
    for first in (0, 3):
        piece = fused[..., first : first + 3].flatten(1)
        torch.testing.assert_close(logits[:, first : first + 3, 0], model.final_layer(model.mlp(piece)))
    # What is shorter is followed by nothing.
    last = torch.cat((fused[..., 6:], torch.zeros_like(fused[..., :1])), dim=2).flatten(1)
    torch.testing.assert_close(logits[:, 6:, 0], model.final_layer(model.mlp(last))[:, :2])


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_or_not(frozen: bool) -> None:
    model = _model(freeze_encoder=frozen, linear_path=True, n_outputs=2).train()
    assert model(_x(2, 4, 400)).requires_grad
    y = torch.tensor([[0, 1], [1, -1]])
    model.training_step({"x": _x(2, 4, 400), "y": y})["loss"].backward()
    for name, parameter in model.named_parameters():
        encoder = name.startswith(("encoder.", "linear_encoder."))
        assert (parameter.grad is None) == (encoder and frozen), name
        assert parameter.requires_grad != (encoder and frozen)


def test_loss() -> None:
    """One logit and two say the same; weights count; what is unknown does not."""
    model = _model()
    x, y = _x(2, 4, 600), torch.tensor([[0, 1, -1], [-2, 0, 0]])
    logits = model.second_logits(x)[..., 0]
    target = torch.tensor([[0.0, 1, 0], [1, 0, 0]])
    each = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    losses = model.training_step({"x": x, "y": y, "ch_names": _NAMES})
    torch.testing.assert_close(losses["loss"], each[y != -1].mean())
    model.class_weights = [1.0, 7.0]
    weights = torch.tensor([[1.0, 7, 0], [7, 1, 1]])
    weighted = model.training_step({"x": x, "y": y})["loss"]
    torch.testing.assert_close(weighted, (each * weights).sum() / weights.sum())
    assert model.get_config()["class_weights"] == [1.0, 7.0]
    assert 0.0 <= float(losses["sensitivity"]) <= 1.0
    typed = _model(n_outputs=3, class_names=["bckg", "sz_foc", "sz_gen"], class_weights=[1.0, 2.0, 4.0])
    log = torch.log_softmax(typed.second_logits(x), dim=2)
    y = torch.tensor([[0, 2, -1], [-2, -1, -1]])
    terms = torch.stack((log[0, 0, 0], 4 * log[0, 1, 2], 3 * torch.logsumexp(log[1, 0, 1:], dim=0)))
    torch.testing.assert_close(typed.training_step({"x": x, "y": y})["loss"], -terms.sum() / 8)
    for bad, words in (
        (torch.zeros(2, 2, dtype=torch.long), r"one for each second is \(2, 3\)"),
        (torch.full((2, 3), -1), "says of no second"),
    ):
        with pytest.raises(ValueError, match=words):
            model.training_step({"x": x, "y": bad})
    with pytest.raises(ValueError, match="class_weights must be positive"):
        model.class_weights = [0.0, 1.0]


def test_it_learns_a_rhythm() -> None:
    torch.manual_seed(0)
    model = BrainCodecForSeizure.from_encoder(_codec(linear_path=True, gain=True), ch_names=_NAMES)
    generator = torch.Generator().manual_seed(2)
    rhythm = 60 * torch.sin(2 * torch.pi * 3 * torch.arange(800) / 200)

    def batch() -> dict[str, torch.Tensor]:
        x = 10 * torch.randn(8, 4, 800, generator=generator)
        y = torch.randint(0, 2, (8, 4), generator=generator)
        x[:, 1:3] += (rhythm * y.repeat_interleave(200, dim=1))[:, None]
        return {"x": x, "y": y}

    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        model.training_step(batch())["loss"].backward()
        optimizer.step()
    held_out = batch()
    said = model.eval().second_probabilities(held_out["x"])[..., 1] > 0.5
    assert float((said == (held_out["y"] == 1)).float().mean()) > 0.95


def test_the_codecs_encoder() -> None:
    codec = _codec(linear_path=True, gain=True, contract={"h_freq": 70.0}, ch_names=["Fp1", "Cz"], sfreq=256)
    model = BrainCodecForSeizure.from_encoder(codec, n_outputs=2, hidden_dim=8)
    x = _x(2, 2, 512)
    latents, levels = model._encoded(x)
    rms = x.square().mean(dim=2).sqrt()
    torch.testing.assert_close(levels[..., 0], torch.log10(rms))
    torch.testing.assert_close(latents, codec.latents(x) * rms[..., None, None] / 10.0)
    assert (model.sfreq, model.ch_names, model.contract.h_freq) == (256, ["FP1", "CZ"], 70.0)
    with torch.no_grad():
        next(model.encoder.parameters()).add_(1.0)
    assert not torch.equal(next(model.encoder.parameters()), next(codec.encoder.parameters()))
    again = BrainCodecForSeizure.from_encoder(model, ch_names=["O1"])
    assert torch.equal(next(again.encoder.parameters()), next(model.encoder.parameters()))
    with pytest.raises(ValueError, match="The codec has dim=8, not 16"):
        BrainCodecForSeizure.from_encoder(codec, dim=16)


def test_every_weight_of_the_encoder_is_found(golden_codec: SimpleNamespace) -> None:
    """In the public classifier 0 of 80 names matched, and nothing was said."""
    for prefix in ("", "model.", "module.model."):
        state = {prefix + key: value for key, value in golden_codec.state.items()}
        model = BrainCodecForSeizure.from_official(state, ch_names=_NAMES)
        assert model.get_config()["ratios"] == golden_codec.ratios
        for name, value in model.encoder.state_dict().items():
            assert torch.equal(value, golden_codec.state[f"encoder.{name}"]), name
        latents = model._encoded(golden_codec.x.expand(-1, 4, -1))[0]
        scale = np.abs(golden_codec.outputs["latent"]).max()
        np.testing.assert_allclose(
            latents[:, 0].transpose(1, 2).numpy(), golden_codec.outputs["latent"], rtol=0, atol=1e-5 * scale
        )
    alone = {key.removeprefix("encoder."): value for key, value in golden_codec.state.items() if "encoder" in key}
    assert torch.equal(
        BrainCodecForSeizure.from_official(alone, ch_names=_NAMES).encoder.last.bias, model.encoder.last.bias
    )
    wrong = {f"net.{key}": value for key, value in golden_codec.state.items()}
    with pytest.raises(ValueError, match=r"no encoder in these weights.*there is net\.decoder\.model\.0"):
        BrainCodecForSeizure.from_official(wrong, ch_names=_NAMES)
    name = "encoder.model.12.conv.conv.bias"
    for change, words in (
        ({name: None}, r"1 tensor is missing .model.12.conv.conv.bias."),
        ({"encoder.model.12.conv.conv.scale": torch.ones(1)}, r"unknown to the model .model.12.conv.conv.scale."),
        ({name: torch.ones(3)}, "model.12.conv.conv.bias is 3, not 64"),
    ):
        state = {key: value for key, value in {**golden_codec.state, **change}.items() if value is not None}
        with pytest.raises(ValueError, match=words):
            BrainCodecForSeizure.from_official(state, ch_names=_NAMES)


def test_published_checkpoint_of_a_codec() -> None:
    """80 names of a codec with six strides, 56 with four; all that an encoder has is in it."""
    with torch.device("meta"):
        assert len(BrainCodec().encoder.state_dict()) == 40
        state = SEANetEncoder([2] * 4).state_dict()
    assert len(state) == 28


@pytest.mark.parametrize("gain", [False, True])
def test_amplitude_may_be_left_out(gain: bool) -> None:
    x = _x(2, 4, 800)
    relative, absolute = (_model(amplitude=kind, gain=gain).second_logits for kind in ("relative", "absolute"))
    torch.testing.assert_close(relative(x), relative(x * torch.tensor([0.1, 7.0])[:, None, None]))
    assert not torch.allclose(absolute(x), absolute(7.0 * x), atol=1e-3)
    # How large one channel is beside the others still counts, and nothing at all is no division by zero.
    louder = x * torch.tensor([1.0, 1.0, 1.0, 5.0])[:, None]
    assert not torch.allclose(relative(x), relative(louder), atol=1e-4)
    assert relative(torch.zeros(1, 4, 800)).isfinite().all()


def test_arguments_that_make_no_model() -> None:
    for change, words in (
        ({"fusion": "mean"}, "fusion must be one of 'attention', 'conv', got 'mean'"),
        ({"head": "both"}, "head must be one of 'second', 'window'"),
        ({"n_times": 500}, "1 to 60 whole seconds of 200 samples, got 500"),
        ({"sfreq": 173.61}, "Seconds must be whole numbers of samples"),
        ({"n_outputs": 0}, "n_outputs must be at least 1"),
        ({"n_outputs": 3, "class_names": ["a", "b"]}, "class_names must be of 3 classes"),
        ({"class_weights": [1.0]}, "class_weights must be of 2 classes"),
        ({"fusion": "conv", "ch_names": None}, "A convolution over channels must know them"),
        ({"fusion": "conv", "bins_per_second": 0}, "bins_per_second must be at least 1"),
        ({"fusion": "conv", "conv_ch_names": ["Cz", "Pz"]}, "and cannot read FP1-F7"),
    ):
        with pytest.raises(ValueError, match=words):
            _model(**change)


def test_new_head() -> None:
    model = _model(detection={"hours": 1.0}, class_weights=[1.0, 2.0])
    model.reset_head(2)
    assert (model.n_outputs, model.class_names, model.detection) == (2, ["bckg", "sz"], None)
    assert model.class_weights == [1.0, 2.0]
    model.reset_head(3)
    assert model.second_probabilities(_x(1, 4, 400)).shape == (1, 2, 3)
    assert model.class_names is model.class_weights is None


def test_round_trip(tmp_path: Any) -> None:
    for i, options in enumerate(({}, {"fusion": "conv", "head": "window", "gain": True, "linear_path": True})):
        model = _model(detection={"parameters": {"threshold": 0.7}}, class_weights=[1.0, 3.0], **options)
        loaded = load_checkpoint(save_checkpoint(model, tmp_path / f"{i}.safetensors"))
        x = _x(1, 4, 800)
        assert torch.equal(loaded.second_logits(x), model.second_logits(x))
        assert (loaded.detection, loaded.class_names) == (model.detection, ["bckg", "sz"])
        assert loaded.class_weights == [1.0, 3.0]
        assert loaded.contract == model.contract
