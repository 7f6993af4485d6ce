from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mne_labram import (
    EEGFoundationForClassification,
    EEGFoundationForMaskedModeling,
    LabramForMaskedModeling,
    finetuned_model,
    finetuner,
    load_checkpoint,
    save_checkpoint,
)
from mne_labram.training.optimization import layer_of, parameter_groups

CH_NAMES = ["FP1", "CZ", "O2"]
_TINY = {"embed_dim": 16, "num_layers": 2, "num_heads": 2}
PATCHES = {**_TINY, "input": "patches", "amplitude": "mulaw", "ch_names": CH_NAMES}


def _model(**options: Any) -> EEGFoundationForClassification:
    torch.manual_seed(0)
    return EEGFoundationForClassification(**{"n_outputs": 3, "head_dim": 16, **PATCHES, **options}).eval()


def _x(n: int = 2, n_times: int = 400, n_chans: int = 3) -> torch.Tensor:
    return 30 * torch.randn(n, n_chans, n_times, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("spatial", ["coordinates", "names"])
@torch.inference_mode()
def test_a_channel_changes_what_another_one_contributes(spatial: str) -> None:
    model = _model(spatial=spatial)
    x = _x()
    changed = x.clone()
    changed[:, 0] = -2 * changed[:, 0]
    before, after = (model(each, return_features=True) for each in (x, changed))
    tokens = [each["features"].unflatten(1, (3, -1)) for each in (before, after)]
    # The encoder reads every channel by itself, as published ...
    assert torch.equal(tokens[0][:, 1:], tokens[1][:, 1:])
    # ... and in the head each of the others sees the one that changed, which it does not without attention.
    difference = (after["fused"] - before["fused"]).abs().amax(dim=(2, 3))
    assert bool((difference[:, 1:] > 1e-4).all())
    assert not torch.equal(model(x), model(changed))
    model.final_layer.fusion.layers = torch.nn.ModuleList()
    before, after = (model(each, return_features=True)["fused"] for each in (x, changed))
    assert torch.equal(before[:, 1:], after[:, 1:])


@torch.inference_mode()
def test_where_a_channel_is_matters() -> None:
    model = _model()
    assert not torch.allclose(model.bind_channels(["FP1", "CZ", "T7"])(_x()), model(_x()), rtol=1e-4, atol=1e-8)
    order = [2, 0, 1]
    permuted = model.bind_channels([CH_NAMES[i] for i in order])
    torch.testing.assert_close(permuted(_x()[:, order]), model(_x()), rtol=1e-4, atol=1e-7)


def test_the_head_is_compact() -> None:
    with torch.device("meta"):
        for size, options in (
            ("base", {}),
            ("base", {"head_dim": 256, "head_layers": 2}),
            ("base", {"head_dim": 256, "head_layers": 3, "pooling": "attention", "spatial": "names"}),
            ("student", {"input": "samples", "n_outputs": 9}),
        ):
            model = EEGFoundationForClassification(
                **{"n_outputs": 4, "ch_names": CH_NAMES, "size": size, "input": "patches", **options}
            )
            n = sum(p.numel() for p in model.final_layer.parameters())
            assert n < 3_000_000
            # Of any number of channels and any length.
            bound = model.bind_channels(["Fz", "Pz", "C3", "C4", "T7", "T8"])
            assert sum(p.numel() for p in bound.final_layer.parameters()) == n


@torch.inference_mode()
def test_segments_are_means_of_whole_seconds_and_a_rest() -> None:
    model = _model()
    tokens = torch.randn(2, 3, 10, 16)
    head = model.final_layer
    assert head.tokens_per_segment == 4
    assert head.fuse(tokens).shape == (2, 3, 3, 16)
    means = torch.stack((tokens[:, :, :4].mean(2), tokens[:, :, 4:8].mean(2), tokens[:, :, 8:].mean(2)), dim=2)
    torch.testing.assert_close(head.fuse(tokens), head.norm(head.fusion(head.proj(means))))


def test_from_encoder_copies_the_encoder() -> None:
    torch.manual_seed(0)
    masked = EEGFoundationForMaskedModeling(**PATCHES, fusion_layers=1, contract={"h_freq": 45.0}).eval()
    model = EEGFoundationForClassification.from_encoder(masked, class_names=["rest", "task"]).eval()
    assert (model.n_outputs, model.class_names) == (2, ["rest", "task"])
    assert model.contract == masked.contract
    assert torch.equal(model.embed(_x()), masked.embed(_x()))
    with torch.no_grad():
        next(model.encoder.parameters()).add_(1.0)
    assert not torch.equal(model.embed(_x()), masked.embed(_x()))
    again = EEGFoundationForClassification.from_encoder(_model(head_dim=32, pooling="attention"), n_outputs=5)
    assert again.final_layer.linear.weight.shape == (5, 32)
    assert again.pooling == "attention"
    for option, words in (
        ({"embed_dim": 32}, "embed_dim=32 makes another encoder"),
        ({"num_heads": 1}, "num_heads=1 makes another encoder"),
        ({"hidden_dim": 48}, r"another size; leave out those that shape it \(6 tensors have another shape"),
        ({"amplitude": "minmax"}, "amplitude='minmax' makes another encoder than .*, which has 'mulaw'"),
        ({"fusion_layers": 0}, "fusion_layers=0 makes another encoder"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            EEGFoundationForClassification.from_encoder(masked, n_outputs=2, **option)
        assert "\n" not in str(error.value)
    labram = LabramForMaskedModeling(ch_names=CH_NAMES, n_codes=8, **_TINY)
    with pytest.raises(TypeError, match="has no use for the encoder of LabramForMaskedModeling"):
        EEGFoundationForClassification.from_encoder(labram, n_outputs=2)


def test_bad_arguments() -> None:
    for options, words in (
        ({"pooling": "cls"}, "pooling must be one of 'mean', 'attention'"),
        ({"head_layers": 0}, "head_layers must be at least 1"),
        ({"class_names": ["a", "b"]}, "2 class names for n_outputs=3"),
        ({"head_dim": 18}, r"num_heads \(4\) must divide"),
        ({"head_dim": 0}, "head_dim must be at least 1"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            _model(**options)
        assert "\n" not in str(error.value)


def test_saved_and_read_again(tmp_path: Any) -> None:
    model = _model(class_names=["a", "b", "c"], pooling="attention", head_layers=2)
    again = load_checkpoint(save_checkpoint(model, tmp_path / "model.safetensors"))
    assert torch.equal(again(_x()), model(_x()))
    assert again.class_names == ["a", "b", "c"]


# -- fine-tuning ------------------------------------------------------------------------------------------------------
def test_layers_learn_at_rates_of_their_depth() -> None:
    model = _model(fusion_layers=1)
    depth = {name: layer_of(name, 2) for name, _ in model.named_parameters()}
    assert {layer for name, layer in depth.items() if name.startswith("encoder.patch_embed.")} == {0}
    assert {layer for name, layer in depth.items() if name.startswith("encoder.blocks.1.")} == {2}
    assert {layer for name, layer in depth.items() if name.startswith(("final_layer.", "encoder.fusion."))} == {3}
    names = {name: group for group in parameter_groups(model, layer_decay=0.5) for name in group["names"]}
    assert names["encoder.patch_embed.table"]["weight_decay"] == 0.0
    assert names["encoder.patch_embed.table"]["lr_scale"] == 0.125
    assert names["encoder.blocks.0.attn.qkv.weight"]["weight_decay"] > 0


def _windows() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x = 20 * np.random.default_rng(0).standard_normal((24, 3, 200)).astype(np.float32)
    y = np.arange(24) % 2
    x[y == 1] *= 4
    return x, y, np.repeat(np.arange(6), 4)


@pytest.mark.parametrize("preset", ["linear", "last-k", "full", "lora"])
def test_presets(preset: str) -> None:
    torch.manual_seed(0)
    masked = EEGFoundationForMaskedModeling(**PATCHES)
    before = {name: value.clone() for name, value in masked.encoder.state_dict().items()}
    x, y, subjects = _windows()
    net = finetuner(
        masked, 2, preset=preset, last_k=1, lora_rank=2, max_epochs=6, batch_size=8, lr=1e-2, verbose=0, patience=6
    )
    net.fit(x, y, groups=subjects)
    model = finetuned_model(net)
    assert isinstance(model, EEGFoundationForClassification)
    assert (net.predict(x) == y).mean() > 0.8
    changed = {name for name, value in model.encoder.state_dict().items() if not torch.equal(value, before[name])}
    if preset == "linear":
        assert not changed
    elif preset == "last-k":
        assert changed
        assert all(name.startswith("blocks.1.") for name in changed)
    else:
        assert any(name.startswith("blocks.0.") for name in changed)
    # And on, from the trained classifier with its own head.
    further = finetuner(model, preset="linear", max_epochs=1, verbose=0, validation=None).fit(x, y)
    assert isinstance(finetuned_model(further), EEGFoundationForClassification)
