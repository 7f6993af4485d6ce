"""Weights to and from Braindecode's own Labram."""

from __future__ import annotations

import pytest
import torch
from braindecode.models import Labram
from torch import nn

from mne_labram.models.labram import LabramForClassification, LabramTokenizer

CH_NAMES = ["FP1", "CZ", "T8-P8", "FTT9h"]

VARIANTS = {
    "base": {},
    "cls": {"pooling": "cls"},
    "wide": {"size": "large"},
    "no-norms": {"qkv_bias": True, "qk_norm": False, "layer_scale": 0.0},
    "elu": {"activation": nn.ELU, "num_heads": 5},
}


def _build(**changes) -> LabramForClassification:
    torch.manual_seed(0)
    options = {"n_outputs": 3, "ch_names": CH_NAMES, "n_times": 600, "num_layers": 2, **changes}
    model = LabramForClassification(**options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def _x() -> torch.Tensor:
    return 50 * torch.randn(2, 4, 600, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
@torch.no_grad()
def test_round_trip(variant: dict) -> None:
    model = _build(**variant)
    expected = model(_x())
    labram = model.to_braindecode()
    assert isinstance(labram, Labram)
    assert not labram.training
    scale = float(expected.abs().max())
    out = labram(_x() / 100, ch_names=model.ch_names)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-6 * scale)
    folded = model.to_braindecode(fold_input_scale=True)
    torch.testing.assert_close(folded(_x(), ch_names=model.ch_names), expected, rtol=0, atol=2e-6 * scale)
    again = LabramForClassification.from_braindecode(labram, ch_names=CH_NAMES).eval()
    assert again.pooling == model.pooling
    assert again.n_times == 600
    assert torch.equal(again(_x()), expected)


@torch.no_grad()
def test_state_dict_alone() -> None:
    model = _build()
    state = model.to_braindecode(n_times=400).state_dict()
    again = LabramForClassification.from_braindecode(state, ch_names=CH_NAMES, n_times=200).eval()
    assert torch.equal(again(_x()[..., :400]), model(_x()[..., :400]))
    # Braindecode's weights know as many patches as they were trained on.
    with pytest.raises(ValueError, match="at most 2 patches"):
        again(_x())


@torch.no_grad()
def test_from_upstream_s_own_model() -> None:
    torch.manual_seed(0)
    labram = Labram(n_times=600, n_outputs=2, n_chans=4, num_layers=2, use_mean_pooling=True).eval()
    model = LabramForClassification.from_braindecode(labram, ch_names=CH_NAMES).eval()
    torch.testing.assert_close(model(_x()), labram(_x() / 100, ch_names=CH_NAMES), rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    "change", [{"spatial": "coordinates"}, {"patch_embed": "conv+spectrum"}, {"embed_dim": 120, "num_heads": 10}]
)
def test_what_braindecode_has_not(change: dict) -> None:
    with pytest.raises(ValueError, match="Braindecode's Labram has no (spatial|patch_embed|embed_dim)"):
        _build(**change).to_braindecode()


def test_refuses() -> None:
    state = _build().to_braindecode().state_dict()
    del state["position_embedding"]
    with pytest.raises(ValueError, match="encoder.spatial_embed.table"):
        LabramForClassification.from_braindecode(state, ch_names=CH_NAMES)
    learned = Labram(n_times=600, n_outputs=2, n_chans=4, num_layers=1, learned_patcher=True)
    with pytest.raises(ValueError, match="segment_patch"):
        LabramForClassification.from_braindecode(learned, ch_names=CH_NAMES)
    with pytest.raises(TypeError, match="Expected Braindecode's Labram"):
        LabramForClassification.from_braindecode(nn.Linear(1, 1), ch_names=CH_NAMES)
    with pytest.raises(ValueError, match="n_times could not be inferred"):
        _build(n_times=None).to_braindecode()
    assert not hasattr(LabramTokenizer, "to_braindecode")


def test_mapping_renames_on_load() -> None:
    model = _build()
    official = {
        key.removeprefix("encoder.")
        .replace("spatial_embed.table", "pos_embed")
        .replace("final_layer.", "head.")
        .replace("norm.", "fc_norm.", 1 if key in ("encoder.norm.weight", "encoder.norm.bias") else 0): value
        for key, value in model.state_dict().items()
    }
    assert {"pos_embed", "fc_norm.weight", "head.bias", "blocks.0.attn.q_norm.weight"} <= set(official)
    other = LabramForClassification(n_outputs=3, ch_names=CH_NAMES, num_layers=2).eval()
    other.load_state_dict(official)
    assert torch.equal(other(_x()), model(_x()))
    assert model.mapping["position_embedding"] == "encoder.spatial_embed.table"
    assert model.mapping["blocks.0.mlp.2.bias"] == "encoder.blocks.0.mlp.fc2.bias"
