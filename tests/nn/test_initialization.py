"""Initial weights."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from mne_labram.nn.attention import TransformerBlock
from mne_labram.nn.initialization import initialize_weights, rescale_blocks


@pytest.mark.parametrize("pretraining", [True, False])
def test_draws(pretraining: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(300, 300), nn.LayerNorm(300), nn.Conv2d(8, 64, (1, 15)))
    conv = model[2].weight.clone()
    nn.init.constant_(model[1].weight, 3.0)
    initialize_weights(model, pretraining=pretraining)
    weight = model[0].weight.detach()
    largest, std = float(weight.abs().max()), float(weight.std())
    if pretraining:
        assert largest <= 0.02
        # A normal cut at one standard deviation has 0.54 of it.
        assert std == pytest.approx(0.0108, rel=0.03)
        assert float(model[2].weight.detach().abs().max()) <= 0.02
    else:
        assert largest > 0.06
        assert std == pytest.approx(0.02, rel=0.03)
        assert torch.equal(model[2].weight, conv)
    assert not model[0].bias.any()
    assert (model[1].weight == 1).all()


def test_outputs_shrink_with_depth() -> None:
    blocks = [TransformerBlock(8, 2) for _ in range(3)]
    before = [(b.attn.proj.weight.clone(), b.mlp.fc2.weight.clone(), b.mlp.fc1.weight.clone()) for b in blocks]
    rescale_blocks(blocks)
    for i, (block, (proj, fc2, fc1)) in enumerate(zip(blocks, before, strict=True), start=1):
        torch.testing.assert_close(block.attn.proj.weight, proj / math.sqrt(2 * i))
        torch.testing.assert_close(block.mlp.fc2.weight, fc2 / math.sqrt(2 * i))
        assert torch.equal(block.mlp.fc1.weight, fc1)
