"""What only masked modelling does."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from mne_labram.models.labram import LabramForMaskedModeling, LabramTokenizer

CH_NAMES = ["FP1", "CZ", "T7"]
TINY = {"embed_dim": 16, "num_layers": 2, "num_heads": 2}


def _tokenizer(**changes) -> LabramTokenizer:
    torch.manual_seed(5)
    codes = {"n_codes": 8, "code_dim": 4, "decoder_layers": 1}
    return LabramTokenizer(**{"ch_names": CH_NAMES, **codes, **TINY, **changes})


def _build(**changes) -> LabramForMaskedModeling:
    torch.manual_seed(0)
    return LabramForMaskedModeling(**{"ch_names": CH_NAMES, "tokenizer": _tokenizer(), **TINY, **changes})


def _x(n: int = 4) -> torch.Tensor:
    return 30 * torch.randn(n, 3, 800, generator=torch.Generator().manual_seed(1))


def _mask(n: int = 4) -> torch.Tensor:
    return torch.rand(n, 12, generator=torch.Generator().manual_seed(2)) < 0.4


def test_step_is_two_passes() -> None:
    model = _build().eval()
    x, mask = _x(), _mask()
    labels = _tokenizer().eval().encode(x).flatten(1)
    losses = model.training_step(x, mask=mask)
    masked = F.cross_entropy(model(x, mask=mask)[mask], labels[mask])
    symmetric = F.cross_entropy(model(x, mask=~mask)[~mask], labels[~mask])
    torch.testing.assert_close(losses["masked_loss"], masked)
    torch.testing.assert_close(losses["symmetric_loss"], symmetric)
    torch.testing.assert_close(losses["loss"], masked + symmetric)
    right = (model(x, mask=mask)[mask].argmax(-1) == labels[mask]).sum()
    right = right + (model(x, mask=~mask)[~mask].argmax(-1) == labels[~mask]).sum()
    assert float(losses["accuracy"]) == pytest.approx(int(right) / 48)


def test_one_pass_without_symmetry() -> None:
    losses = _build(symmetric=False).eval().training_step(_x(), mask=_mask())
    assert set(losses) == {"loss", "masked_loss", "accuracy"}
    assert torch.equal(losses["loss"], losses["masked_loss"])


@pytest.mark.parametrize(("n_chans", "ratio", "hidden"), [(1, 0.5, "1 of 1"), (3, 0.9, "3 of 3")])
def test_a_pass_without_hidden_patches_is_refused(n_chans: int, ratio: float, hidden: str) -> None:
    """The mean over nothing is NaN, and would go into the weights."""
    model = _build(ch_names=CH_NAMES[:n_chans], mask_ratio=ratio)
    with pytest.raises(ValueError, match=f"hides {hidden} patches"):
        model.training_step(_x(1)[:, :n_chans, :200])
    model = _build(ch_names=CH_NAMES[:n_chans], mask_ratio=ratio, symmetric=False)
    assert torch.isfinite(model.training_step(_x(1)[:, :n_chans, :200])["loss"])
    with pytest.raises(ValueError, match="hides 0 of"):
        model.training_step(_x(1)[:, :n_chans, :200], mask=torch.zeros(1, n_chans, dtype=torch.bool))


def test_hidden_patches_are_not_seen() -> None:
    """What stands in a hidden patch matters through GroupNorm's statistics only; here they are kept."""
    model = _build().eval()
    x = _x(1)
    swapped = x.clone()
    swapped[:, 0, :200], swapped[:, 1, 200:400] = x[:, 1, 200:400], x[:, 0, :200]
    mask = torch.zeros(1, 12, dtype=torch.bool)
    mask[0, [0, 5]] = True
    torch.testing.assert_close(model(swapped, mask=mask), model(x, mask=mask), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(model(swapped), model(x), rtol=1e-4, atol=1e-5)
    assert torch.equal(model(x, mask=mask.unflatten(1, (3, 4))), model(x, mask=mask))


def test_masks_come_from_the_generator() -> None:
    model = _build().eval()
    losses = [
        model.training_step(_x(), generator=torch.Generator().manual_seed(seed))["masked_loss"].item()
        for seed in (0, 0, 1)
    ]
    assert losses[0] == losses[1] != losses[2]


def test_share_of_hidden_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _build(mask_ratio=0.75)
    seen = []
    hide = model._hide
    monkeypatch.setattr(model, "_hide", lambda patches, mask: seen.append(mask) or hide(patches, mask))
    model.training_step(_x())
    assert [int(mask.sum()) for mask in seen] == [4 * 9, 4 * 3]
    assert torch.equal(seen[0], ~seen[1])


@pytest.mark.parametrize("cls_position", ["first_channel", "cls_row"])
def test_the_official_slip_and_its_repair(cls_position: str) -> None:
    """Officially row 0 of the table gets no gradient: the CLS token is given the first channel's row."""
    model = _build(cls_position=cls_position)
    model.training_step(_x())["loss"].backward()
    rows = model.encoder.spatial_embed.table.grad[0].abs().sum(1)
    trained = set(torch.nonzero(rows).flatten().tolist())
    channels = set(model.encoder.spatial_embed.rows.tolist())
    assert trained == (channels if cls_position == "first_channel" else channels | {0})
    with pytest.raises(ValueError, match="cls_position must be one of 'first_channel', 'cls_row', got 'none'"):
        _build(cls_position="none")


def test_the_tokenizer_stays_outside() -> None:
    tokenizer = _tokenizer().train()
    state = copy.deepcopy(tokenizer.state_dict())
    model = _build(tokenizer=tokenizer)
    assert not tokenizer.training
    assert not any("tokenizer" in name or "quantizer" in name for name in model.state_dict())
    assert model.get_config()["tokenizer"] is None
    assert model.get_config()["n_codes"] == model.n_codes == 8
    model.train()
    assert not tokenizer.training
    model.training_step(_x())["loss"].backward()
    assert all(parameter.grad is None for parameter in tokenizer.parameters())
    assert all(torch.equal(state[name], value) for name, value in tokenizer.state_dict().items())


def test_tokenizer_given_later() -> None:
    with pytest.raises(ValueError, match="needs a tokenizer: give it at construction or to training_step"):
        _build(tokenizer=None, n_codes=8).training_step(_x())
    model = _build(tokenizer=None, n_codes=8).eval()
    torch.testing.assert_close(
        model.training_step(_x(), _tokenizer(), mask=_mask())["loss"],
        _build().eval().training_step(_x(), mask=_mask())["loss"],
    )
    assert LabramForMaskedModeling(ch_names=CH_NAMES, **TINY).n_codes == 8192
    for change, words in (({"n_codes": 9}, "n_codes=8, the model n_codes=9"), ({"patch_size": 100}, "patch_size=200")):
        with pytest.raises(ValueError, match=words):
            _build(**change)


def test_labels_of_the_batch_s_own_channels() -> None:
    model = _build().eval()
    x, mask = _x()[:, :2], _mask()[:, :8]
    losses = model.training_step({"x": x, "ch_names": ["O1", "O2"]}, mask=mask)
    labels = _tokenizer(ch_names=["O1", "O2"]).eval().encode(x).flatten(1)
    logits = model.bind_channels(["O1", "O2"])(x, mask=mask)
    torch.testing.assert_close(losses["masked_loss"], F.cross_entropy(logits[mask], labels[mask]))


def test_initial_weights_are_those_of_pretraining() -> None:
    model = _build(embed_dim=200, num_heads=10)
    for name in ("encoder.blocks.0.attn.qkv.weight", "final_layer.weight", "mask_token", "encoder.cls_token"):
        assert float(model.get_parameter(name).detach().abs().max()) <= 0.02


def test_bad_masks() -> None:
    model = _build()
    for mask in (torch.zeros(4, 11, dtype=torch.bool), torch.zeros(4, 12), torch.zeros(4, 4, 3, dtype=torch.bool)):
        with pytest.raises(ValueError, match="A mask must be boolean, of the shape"):
            model(_x(), mask=mask)
    with pytest.raises(ValueError, match="mask_ratio must lie between 0 and 1"):
        _build(mask_ratio=1.0)


def test_the_spectrum_is_read_off_every_token() -> None:
    model = _build(spectral_weight=0.5).eval()
    x, mask = _x(), _mask()
    losses = model.training_step(x, mask=mask)
    plain = _build().eval().training_step(x, mask=mask)
    patches = x.unflatten(2, (-1, 200))
    wanted = model.spectral_target(patches)["log_amplitude"].flatten(1, 2)
    errors = [
        (model.spectral_head(model(x, return_features=True, mask=m)["features"]) - wanted).square().mean(-1)
        for m in (mask, ~mask)
    ]
    hidden = torch.cat([errors[0][mask], errors[1][~mask]]).mean()
    visible = torch.cat([errors[0][~mask], errors[1][mask]]).mean()
    torch.testing.assert_close(losses["hidden_spectrum_loss"], 0.5 * hidden)
    torch.testing.assert_close(losses["visible_spectrum_loss"], 0.5 * visible)
    torch.testing.assert_close(losses["loss"], plain["loss"] + 0.5 * (hidden + visible))
    assert int(model.spectral_target.n_updates) == 0
    model.train().training_step(x, mask=mask)["loss"].backward()
    assert int(model.spectral_target.n_updates) == 1
    assert model.spectral_head.weight.grad.abs().sum() > 0


def test_a_window_of_one_patch_has_a_spectral_loss_without_anything_visible() -> None:
    model = _build(ch_names=CH_NAMES[:1], spectral_weight=1.0, symmetric=False)
    losses = model.training_step(_x()[:, :1, :200], mask=torch.ones(4, 1, dtype=torch.bool))
    assert losses["visible_spectrum_loss"].item() == 0.0
    assert torch.isfinite(losses["loss"])


def test_positions_of_a_batch_reach_the_tokenizer() -> None:
    """Channels without a name of the 10-05 system are known by where they are."""
    options = {"spatial": "coordinates"}
    tokenizer = _tokenizer(**options)
    model = _build(tokenizer=tokenizer, **options).eval()
    places = torch.tensor([[0.08, 0.0, 0.03], [0.0, 0.08, 0.03], [0.0, 0.0, 0.12]]).numpy()
    batch = {"x": _x(), "ch_names": ["E1", "E2", "E3"], "positions": places}
    moved = {**batch, "positions": places[::-1].copy()}
    one, other = (model.training_step(each, mask=_mask()) for each in (batch, moved))
    assert one["loss"].item() != other["loss"].item()
    assert model.ch_names == CH_NAMES
    assert tokenizer.ch_names == CH_NAMES


def test_a_model_that_knows_positions_says_which_montages_it_was_trained_on() -> None:
    contract = {"montages": ["referential", "bipolar"]}
    assert _build(spatial="coordinates", contract=contract, tokenizer=None).contract.montages == tuple(
        contract["montages"]
    )
    assert _build(contract=contract, tokenizer=None).contract.montages == ("referential",)
