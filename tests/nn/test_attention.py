"""The transformer block, against the formulas written out."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mne_labram.nn.attention import DropPath, FeedForward, SelfAttention, TransformerBlock


def _randomized(module: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return module


def _attention_by_hand(attention: SelfAttention, x: Tensor) -> Tensor:
    width = x.shape[-1]
    wq, wk, wv = attention.qkv.weight.split(width)
    q, k, v = x @ wq.T, x @ wk.T, x @ wv.T
    if attention.q_bias is not None:
        q, v = q + attention.q_bias, v + attention.v_bias
    heads = []
    for i in range(attention.num_heads):
        part = slice(i * attention.head_dim, (i + 1) * attention.head_dim)
        qi, ki, vi = q[..., part], k[..., part], v[..., part]
        if attention.q_norm is not None:
            qi, ki = attention.q_norm(qi), attention.k_norm(ki)
        weights = torch.softmax(qi @ ki.transpose(1, 2) / math.sqrt(attention.head_dim), dim=-1)
        heads.append(weights @ vi)
    return torch.cat(heads, dim=-1) @ attention.proj.weight.T + attention.proj.bias


@pytest.mark.parametrize("qk_norm", [True, False])
@pytest.mark.parametrize("qkv_bias", [True, False])
def test_attention_is_the_formula(qkv_bias: bool, qk_norm: bool) -> None:
    attention = _randomized(SelfAttention(24, 3, qkv_bias=qkv_bias, qk_norm=qk_norm)).double()
    x = torch.randn(2, 7, 24, dtype=torch.float64)
    torch.testing.assert_close(attention(x), _attention_by_hand(attention, x), rtol=1e-10, atol=1e-10)


def test_block_is_the_formula() -> None:
    block = _randomized(TransformerBlock(16, 2, layer_scale=0.1)).double()
    x = torch.randn(2, 5, 16, dtype=torch.float64)
    a = x + block.gamma_1 * block.attn(F.layer_norm(x, (16,), block.norm1.weight, block.norm1.bias, 1e-6))
    normed = F.layer_norm(a, (16,), block.norm2.weight, block.norm2.bias, 1e-6)
    hidden = normed @ block.mlp.fc1.weight.T + block.mlp.fc1.bias
    gelu = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    expected = a + block.gamma_2 * (gelu @ block.mlp.fc2.weight.T + block.mlp.fc2.bias)
    torch.testing.assert_close(block(x), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("layer_scale", [None, 0.0])
def test_no_layer_scale(layer_scale: float | None) -> None:
    block = TransformerBlock(16, 2, layer_scale=layer_scale)
    assert block.gamma_1 is None
    assert not any("gamma" in name for name, _ in block.named_parameters())
    x = torch.randn(1, 3, 16)
    first = x + block.attn(block.norm1(x))
    torch.testing.assert_close(block(x), first + block.mlp(block.norm2(first)))


def test_official_parameter_names() -> None:
    names = {name for name, _ in TransformerBlock(20, 2, qkv_bias=True).named_parameters()}
    assert names == {
        *("gamma_1", "gamma_2", "attn.q_bias", "attn.v_bias", "attn.qkv.weight"),
        *(
            f"{layer}.{part}"
            for layer in ("norm1", "norm2", "mlp.fc1", "mlp.fc2", "attn.proj")
            for part in ("weight", "bias")
        ),
        *(f"attn.{layer}.{part}" for layer in ("q_norm", "k_norm") for part in ("weight", "bias")),
    }


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match=r"num_heads \(3\) must divide embed_dim \(20\)"):
        SelfAttention(20, 3)


def test_bf16_autocast_stays_close() -> None:
    torch.manual_seed(0)
    block = TransformerBlock(32, 4)
    x = torch.randn(2, 9, 32)
    exact = block(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = block(x)
    assert rough.dtype == torch.float32  # the residual stream is not rounded
    assert not torch.equal(rough, exact)
    torch.testing.assert_close(rough, exact, rtol=0, atol=2e-2)


def test_drop_path_drops_whole_samples() -> None:
    torch.manual_seed(0)
    drop = DropPath(0.25)
    x = torch.ones(4000, 2, 3)
    out = drop(x)
    per_sample = out.flatten(1)
    assert torch.equal(per_sample.amin(1), per_sample.amax(1))
    assert sorted(per_sample[:, 0].unique().tolist()) == [0.0, pytest.approx(1 / 0.75)]
    assert abs(float((out == 0).float().mean()) - 0.25) < 0.03
    assert drop.eval()(x) is x
    with pytest.raises(ValueError, match="drop_prob must lie in"):
        DropPath(1.0)


def test_attention_dropout_is_for_training_only() -> None:
    torch.manual_seed(0)
    attention = SelfAttention(16, 2, attn_drop_prob=0.5)
    x = torch.randn(1, 6, 16)
    assert not torch.equal(attention(x), attention(x))
    attention.eval()
    torch.testing.assert_close(attention(x), _attention_by_hand(attention, x))


def test_feed_forward_drops_only_its_output() -> None:
    torch.manual_seed(0)
    layer = FeedForward(8, 64, activation=nn.ReLU, drop_prob=0.5)
    x = torch.randn(50, 8)
    exact = layer.fc2(torch.relu(layer.fc1(x)))
    out = layer(x)
    kept = out != 0
    assert 0.4 < float(kept.float().mean()) < 0.6
    torch.testing.assert_close(out[kept], 2 * exact[kept])
