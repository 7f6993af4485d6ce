"""What only the classification model does."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from mne_labram.models import GramForClassification, NeuroStorm
from mne_labram.models.labram import LabramForClassification, LabramForMaskedModeling, LabramTokenizer

CH_NAMES = ["FP1", "CZ", "T7"]
TINY = {"embed_dim": 16, "num_layers": 2, "num_heads": 2}


def _build(**changes) -> LabramForClassification:
    torch.manual_seed(0)
    return LabramForClassification(**{"n_outputs": 3, "ch_names": CH_NAMES, "n_times": 400, **TINY, **changes})


def _x(n: int = 2) -> torch.Tensor:
    return 30 * torch.randn(n, 3, 400, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_head_sees_the_pooled_embedding(pooling: str) -> None:
    model = _build(pooling=pooling).eval()
    torch.testing.assert_close(model(_x()), model.final_layer(model.embed(_x(), pooling)))
    tokens = model.encoder(model.encoder.patch_embed(_x().reshape(2, 6, 200)), 2)
    expected = tokens[:, 1:].mean(1) if pooling == "mean" else tokens[:, 0]
    torch.testing.assert_close(model.embed(_x(), pooling), model.encoder.norm(expected))


def test_bad_pooling() -> None:
    with pytest.raises(ValueError, match="pooling must be 'mean' or 'cls', got 'max'"):
        _build(pooling="max")


def test_head_starts_near_zero() -> None:
    model = _build()
    assert float(model.final_layer.weight.detach().abs().max()) < 1e-4
    assert not model.final_layer.bias.any()
    assert float(model(_x()).detach().abs().max()) < 1e-2


def test_class_names() -> None:
    model = _build(n_outputs=None, class_names=["rest", "task"])
    assert model.n_outputs == 2
    assert LabramForClassification.from_config(model.get_config()).class_names == ["rest", "task"]
    model.reset_head(2)
    assert model.class_names == ["rest", "task"]
    model.reset_head(4)
    assert model.class_names is None
    assert model.get_config()["class_names"] is None
    with pytest.raises(ValueError, match="2 class names for n_outputs=3"):
        _build(class_names=["a", "b"])
    with pytest.raises(ValueError, match="n_outputs not specified"):
        _build(n_outputs=None)


def test_drop_path_grows_with_depth() -> None:
    model = _build(num_layers=5, drop_path_prob=0.2, drop_prob=0.1, attn_drop_prob=0.3)
    rates = [block.drop_path.drop_prob for block in model.encoder.blocks]
    assert rates == pytest.approx([0.0, 0.05, 0.1, 0.15, 0.2])
    assert model.encoder.pos_drop.p == model.encoder.blocks[0].mlp.drop.p == 0.1
    assert model.encoder.blocks[0].attn.attn_drop_prob == 0.3


def test_initial_weights_are_official() -> None:
    model = _build(embed_dim=200, num_heads=10, num_layers=3)
    for name in ("cls_token", "time_embed"):
        assert float(getattr(model.encoder, name).detach().std()) == pytest.approx(0.02, rel=0.25)
    assert float(model.encoder.spatial_embed.table.detach().std()) == pytest.approx(0.02, rel=0.05)
    for i, block in enumerate(model.encoder.blocks, start=1):
        assert float(block.attn.qkv.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
        assert float(block.attn.proj.weight.detach().std()) == pytest.approx(0.02 / (2 * i) ** 0.5, rel=0.05)
        assert float(block.mlp.fc2.weight.detach().std()) == pytest.approx(0.02 / (2 * i) ** 0.5, rel=0.05)
        assert (block.gamma_1 == 0.1).all()


def test_positions_add_up() -> None:
    model = _build()
    encoder = model.encoder
    positions = encoder.positions(2)
    table = encoder.spatial_embed.table[0, encoder.spatial_embed.rows]
    assert torch.equal(positions[0, 0], encoder.spatial_embed.table[0, 0])
    for channel in range(3):
        for patch in range(2):
            expected = table[channel] + encoder.time_embed[0, patch]
            torch.testing.assert_close(positions[0, 1 + 2 * channel + patch], expected)
    slip = encoder.positions(2, cls_position="first_channel")
    assert torch.equal(slip[:, 1:], positions[:, 1:])
    assert torch.equal(slip[0, 0], table[0])
    assert not _build(spatial="coordinates").encoder.positions(2)[0, 0].any()


def test_coordinates_know_the_montage() -> None:
    """The same signal is another thing as FP1, as FP1-F3 and as F3-FP1."""
    model = _build(spatial="coordinates").eval()
    out = [model.bind_channels([name])(_x()[:, :1]) for name in ("FP1", "FP1-F3", "F3-FP1", "FP1-F7")]
    for i in range(4):
        for j in range(i):
            assert not torch.equal(out[i], out[j])


def test_positions_for_unknown_names() -> None:
    model = _build(spatial="coordinates").eval()
    places = [[0.0, 0.1, 0.0], [0.05, 0.0, 0.08], [-0.05, 0.0, 0.08]]
    bound = model.bind_channels(["E1", "E2", "E3"], positions=places)
    again = LabramForClassification.from_config(bound.get_config()).eval()
    again.load_state_dict(model.state_dict())
    assert again.ch_names == bound.ch_names
    assert torch.equal(again(_x()), bound(_x()))
    with pytest.raises(ValueError, match="E1"):
        model.bind_channels(["E1"])
    with pytest.raises(ValueError, match="E1"):
        _build().bind_channels(["E1"], positions=places[:1])


def test_patches_of_another_length() -> None:
    model = _build(patch_size=100, max_patches=4)
    assert model.contract.patch_samples == 100
    assert model(_x(), return_features=True)["features"].shape == (2, 12, 16)
    with pytest.raises(ValueError, match="at most 4 patches"):
        model(torch.randn(2, 3, 500))


def test_warning_points_at_the_caller() -> None:
    model = _build().eval()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model(_x() * 1e-6)
    assert [str(w.message)[:30] for w in caught] == ["The largest value of the input"]


def test_from_encoder_refuses_what_makes_another_encoder() -> None:
    other = LabramForMaskedModeling(n_codes=8, ch_names=CH_NAMES, n_times=400, **TINY)
    for option, words in (
        ({"embed_dim": 32}, "embed_dim=32 makes another encoder than that of the LabramForMaskedModeling, which has"),
        ({"num_layers": 5}, "num_layers=5 makes another encoder"),
        ({"num_heads": 1}, "num_heads=1 makes another encoder"),
        ({"patch_size": 100}, "patch_size=100 makes another encoder"),
        ({"spatial": "coordinates"}, "spatial='coordinates' makes another encoder"),
        ({"layer_scale": 0.0}, r"an encoder of another size; leave out those that shape it \(\d tensors are unknown"),
        ({"max_patches": 8}, r"an encoder of another size; leave out those that shape it \(1 tensor has another shape"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            LabramForClassification.from_encoder(other, n_outputs=2, **option)
        assert "\n" not in str(error.value)
    for wrong in (nn.Linear(2, 2), GramForClassification(2, ch_names=CH_NAMES, size="small")):
        for cls in (LabramForClassification, NeuroStorm):
            with pytest.raises(TypeError, match="encoder of one of our LaBraM models, got a (Linear|GramFor)"):
                cls.from_encoder(wrong, n_outputs=2)
    with pytest.raises(ValueError, match="num_layers=5 makes another encoder"):
        NeuroStorm.from_encoder(other, num_layers=5)


@pytest.mark.parametrize("source", ["masked", "tokenizer", "classification", "spectrum"])
def test_from_encoder(source: str) -> None:
    torch.manual_seed(1)
    options = {"ch_names": CH_NAMES, "n_times": 400, **TINY}
    if source == "masked":
        other = LabramForMaskedModeling(n_codes=8, cls_position="cls_row", drop_prob=0.5, **options)
    elif source == "tokenizer":
        other = LabramTokenizer(n_codes=8, code_dim=4, decoder_layers=1, **options)
    elif source == "classification":
        other = _build(layer_scale=0.0, qk_norm=False)
    else:
        other = _build(spatial="coordinates", patch_embed="conv+spectrum", input_scale=10.0, contract={"h_freq": 45.0})
    model = LabramForClassification.from_encoder(other.eval(), n_outputs=5, drop_path_prob=0.1)
    assert model.training
    assert model.encoder.blocks[-1].drop_path.drop_prob == 0.1
    assert model(_x()).shape == (2, 5)
    assert torch.equal(model.eval().embed(_x(), "tokens"), other.embed(_x(), "tokens"))
    assert model.contract == other.contract
    # The weights are copies.
    with torch.no_grad():
        model.encoder.cls_token.normal_()
    assert not torch.equal(model.embed(_x()), other.embed(_x()))
    again = LabramForClassification.from_config(model.get_config()).eval()
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(_x()), model(_x()))


@pytest.mark.parametrize("patch_embed", ["conv", "conv+spectrum"])
def test_bf16_is_close(patch_embed: str) -> None:
    model = _build(size="base", embed_dim=200, num_heads=10, patch_embed=patch_embed).eval()
    with torch.no_grad():
        model.final_layer.weight.mul_(1000)
        exact = model(_x())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = model(_x())
        half = model.to(torch.bfloat16)(_x())
    scale = float(exact.abs().max())
    assert float((rough.float() - exact).abs().max()) < 2e-2 * scale
    assert half.dtype == torch.bfloat16
    assert float((half.float() - exact).abs().max()) < 1e-1 * scale
