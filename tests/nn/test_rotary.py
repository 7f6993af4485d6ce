from __future__ import annotations

import pytest
import torch
from torch.overrides import TorchFunctionMode

from mne_labram._compat import repair_torchaudio
from mne_labram.nn.rotary import POST_NORM_EPS, RotaryBlock, RotarySelfAttention, rotary_angles, rotate

repair_torchaudio()  # transformers imports it

from transformers import RoFormerConfig  # noqa: E402
from transformers.models.roformer.modeling_roformer import RoFormerLayer, RoFormerModel  # noqa: E402


def _roformer_layer() -> tuple[RoFormerLayer, RoFormerConfig]:
    config = RoFormerConfig(
        hidden_size=24, num_attention_heads=2, intermediate_size=40, num_hidden_layers=1, hidden_dropout_prob=0.0
    )
    torch.manual_seed(0)
    return RoFormerLayer(config).eval(), config


def test_angles_are_the_table_of_hugging_face() -> None:
    config = RoFormerConfig(
        vocab_size=9,
        hidden_size=24,
        num_attention_heads=2,
        intermediate_size=8,
        num_hidden_layers=1,
        max_position_embeddings=50,
    )
    table = RoFormerModel(config).encoder.embed_positions
    cosine, sine = rotary_angles(50, 12)
    torch.testing.assert_close(torch.cat((sine, cosine), dim=1), table.weight.detach(), rtol=0, atol=1e-6)


def test_a_block_is_a_layer_of_hugging_face() -> None:
    theirs, config = _roformer_layer()
    assert config.layer_norm_eps == POST_NORM_EPS
    ours = RotaryBlock(24, 2, 40).eval()
    attention = theirs.attention.self
    pairs = [
        (ours.attn.proj, theirs.attention.output.dense),
        (ours.norm1, theirs.attention.output.LayerNorm),
        (ours.mlp.fc1, theirs.intermediate.dense),
        (ours.mlp.fc2, theirs.output.dense),
        (ours.norm2, theirs.output.LayerNorm),
    ]
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for mine, other in pairs:
            mine.load_state_dict(other.state_dict())
        for name in ("weight", "bias"):
            parts = [getattr(layer, name) for layer in (attention.query, attention.key, attention.value)]
            getattr(ours.attn.qkv, name).copy_(torch.cat(parts))
        x = torch.randn(3, 17, 24)
        cosine, sine = rotary_angles(17, 12)
        expected = theirs(x, sinusoidal_pos=torch.cat((sine, cosine), dim=1)[None, None])[0]
        torch.testing.assert_close(ours(x, cosine, sine), expected, rtol=1e-5, atol=1e-5)


def test_only_distances_matter() -> None:
    cosine, sine = rotary_angles(40, 8)
    q, k = torch.randn(2, 8)
    products = [
        float((rotate(q, cosine[i], sine[i]) * rotate(k, cosine[i + 5], sine[i + 5])).sum()) for i in (0, 3, 30)
    ]
    assert products == pytest.approx([products[0]] * 3, abs=1e-5)
    other = float((rotate(q, cosine[0], sine[0]) * rotate(k, cosine[9], sine[9])).sum())
    assert abs(other - products[0]) > 1e-2


def test_turning_keeps_lengths() -> None:
    x = torch.randn(2, 3, 11, 6)
    torch.testing.assert_close(rotate(x, *rotary_angles(11, 6)).norm(dim=-1), x.norm(dim=-1))
    torch.testing.assert_close(rotate(x, *rotary_angles(11, 6))[..., 0, :], x[..., 0, :])


def test_one_type_under_autocast() -> None:
    attention = RotarySelfAttention(16, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert attention(torch.randn(1, 5, 16), *rotary_angles(5, 8)).dtype == torch.bfloat16


class _WithoutDoubles(TorchFunctionMode):
    """A device without float64, as Apple's."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.is_meta:
            assert out.dtype != torch.float64
        return out


def test_devices_without_float64() -> None:
    with _WithoutDoubles():
        for cosine, sine in (rotary_angles(5, 8, device="meta"), rotary_angles(5, 8)):
            assert cosine.shape == sine.shape == (5, 4)
    with torch.device("meta"):
        assert rotary_angles(5, 8)[0].is_meta


def test_bad_sizes() -> None:
    with pytest.raises(ValueError, match="must divide embed_dim"):
        RotarySelfAttention(16, 3)
    with pytest.raises(ValueError, match="even width, got 6 / 2 = 3"):
        RotarySelfAttention(6, 2)
    with pytest.raises(ValueError, match="even width, got 7"):
        rotary_angles(3, 7)


def test_dropout_is_of_training_only() -> None:
    torch.manual_seed(0)
    block = RotaryBlock(16, 2, 32, drop_prob=0.2, attn_drop_prob=0.2, drop_path_prob=0.2)
    x, angles = torch.randn(4, 6, 16), rotary_angles(6, 8)
    assert not torch.equal(block.train()(x, *angles), block(x, *angles))
    assert torch.equal(block.eval()(x, *angles), block(x, *angles))
