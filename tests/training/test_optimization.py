"""Groups of parameters and the learning rate."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mne_labram.models.labram import LabramForClassification, LabramForMaskedModeling
from mne_labram.training.optimization import (
    cosine_learning_rate,
    layer_of,
    parameter_groups,
    set_learning_rate,
)

from .recordings import THREE, small_tokenizer


def _by_name(groups: list[dict]) -> dict[str, dict]:
    return {name: group for group in groups for name in group["names"]}


@pytest.mark.parametrize("spatial", ["names", "coordinates"])
def test_what_decays(spatial: str) -> None:
    model = LabramForMaskedModeling(ch_names=list(THREE), size="small", spatial=spatial, qkv_bias=True)
    groups = parameter_groups(model, weight_decay=0.05)
    of = _by_name(groups)
    parameters = dict(model.named_parameters())
    assert set(of) == set(parameters)
    assert sum(len(group["params"]) for group in groups) == len(parameters)
    for group in groups:
        assert [id(p) for p in group["params"]] == [id(parameters[name]) for name in group["names"]]
        assert group["lr_scale"] == 1.0
    for name, parameter in parameters.items():
        if parameter.ndim == 1:
            assert of[name]["weight_decay"] == 0, name
    without = ["encoder.cls_token", "encoder.time_embed", "mask_token", "encoder.blocks.0.gamma_1"]
    without += ["encoder.spatial_embed.table"] if spatial == "names" else ["encoder.spatial_embed.fc1.bias"]
    assert {of[name]["weight_decay"] for name in without} == {0.0}
    decaying = ["encoder.blocks.0.attn.qkv.weight", "final_layer.weight", "encoder.patch_embed.conv1.weight"]
    decaying += ["encoder.spatial_embed.fc1.weight"] if spatial == "coordinates" else []
    assert {of[name]["weight_decay"] for name in decaying} == {0.05}


def test_layer_decay_is_the_official_one() -> None:
    """LaBraM, optim_factory.py: 0.65 ** (13 - i) for base; but time_embed, which that forgets, is where it belongs."""
    model = LabramForClassification(ch_names=list(THREE), n_outputs=2)
    of = _by_name(parameter_groups(model, layer_decay=0.65))
    assert of["encoder.patch_embed.conv1.weight"]["lr_scale"] == pytest.approx(0.65**13)
    assert of["encoder.cls_token"]["lr_scale"] == pytest.approx(0.65**13)
    for name in ("spatial_embed.table", "time_embed"):
        assert of[f"encoder.{name}"]["lr_scale"] == pytest.approx(0.65**13)
    for i in range(12):
        assert of[f"encoder.blocks.{i}.mlp.fc1.weight"]["lr_scale"] == pytest.approx(0.65 ** (12 - i))
    for name in ("encoder.norm.weight", "final_layer.weight"):
        assert of[name]["lr_scale"] == 1.0


def test_a_decoder_is_behind_the_encoder() -> None:
    of = _by_name(parameter_groups(small_tokenizer(num_layers=3), layer_decay=0.5))
    assert of["encoder.blocks.0.mlp.fc1.weight"]["lr_scale"] == 0.5**3
    for name in ("decoder.blocks.0.mlp.fc1.weight", "decoder.patch_embed.weight", "decoder.cls_token"):
        assert of[name]["lr_scale"] == 1.0
    assert layer_of("decoder.blocks.0.norm1.weight", 3) == 4


def test_frozen_parameters_are_left_out_and_nonsense_is_refused() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    assert set(_by_name(parameter_groups(model))) == {"1.weight", "1.bias"}
    with pytest.raises(ValueError, match="weight_decay must not be negative"):
        parameter_groups(model, weight_decay=-1)
    with pytest.raises(ValueError, match=r"layer_decay must lie in \(0, 1\]"):
        parameter_groups(model, layer_decay=1.5)
    with pytest.raises(ValueError, match="no parameter to train"):
        parameter_groups(model.requires_grad_(False))


@given(total=st.integers(2, 500), warmup=st.integers(0, 60), peak=st.floats(1e-5, 1), share=st.floats(0, 1))
def test_cosine(total: int, warmup: int, peak: float, share: float) -> None:
    rates = [
        cosine_learning_rate(step, total=total, warmup=warmup, peak=peak, minimum=share * peak) for step in range(total)
    ]
    assert min(rates) > 0 or share == 0
    assert max(rates) <= peak * (1 + 1e-9)
    up, down = rates[:warmup], rates[warmup:]
    assert up == sorted(up)
    assert down == sorted(down, reverse=True)
    if warmup and warmup <= total:
        assert up[-1] == pytest.approx(peak)
        assert up[0] == pytest.approx(peak / warmup)
    if len(down) > 1:
        assert down[0] == pytest.approx(peak)


def test_cosine_values() -> None:
    rates = [cosine_learning_rate(step, total=104, warmup=4, peak=2, minimum=1) for step in (29, 54, 79, 104, 200)]
    assert rates == pytest.approx([1.5 + 0.5 * math.cos(math.pi / 4), 1.5, 1.5 - 0.5 * math.cos(math.pi / 4), 1, 1])


def test_every_group_gets_its_rate() -> None:
    groups = parameter_groups(small_tokenizer(), layer_decay=0.5)
    optimizer = torch.optim.AdamW(groups, lr=1.0)
    set_learning_rate(optimizer, 0.2)
    assert {round(group["lr"], 6) for group in optimizer.param_groups} == {0.2, 0.1, 0.05, 0.025}
    assert all(group["lr"] == pytest.approx(0.2 * group["lr_scale"]) for group in optimizer.param_groups)
