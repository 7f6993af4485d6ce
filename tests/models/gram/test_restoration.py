"""What is hidden is predicted from what is visible, and from nothing else."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from mne_labram.models.gram import GramForRestoration, GramTokenizer, base
from mne_labram.models.gram.masks import draw_equal_mask, rows_by_count
from mne_labram.models.labram import LabramTokenizer
from mne_labram.models.labram.channels import ChannelBinding, resolve_channels
from mne_labram.weights import load_checkpoint, save_checkpoint

NAMES = ["FP1", "CZ", "T7", "O2"]
_TINY = {"embed_dim": 16, "num_layers": 3, "num_heads": 2}
_DECODER = {"decoder_dim": 16, "decoder_layers": 1, "decoder_heads": 2}


def _x(n: int = 3, n_times: int = 600) -> torch.Tensor:
    return 30 * torch.randn(n, 4, n_times, generator=torch.Generator().manual_seed(1))


def _tokenizer(**options) -> GramTokenizer:
    torch.manual_seed(3)
    codes = {"n_codes": 8, "code_dim": 4, "decoder_layers": 1, "ch_names": NAMES}
    return GramTokenizer(**{**_TINY, **codes, **options})


def _model(**options) -> GramForRestoration:
    torch.manual_seed(0)
    return GramForRestoration(**{"ch_names": NAMES, "n_codes": 8, **_TINY, **_DECODER, **options}).eval()


def _mask() -> torch.Tensor:
    """Return masks of a channel, of single patches, and of all channels at a time: 3, 5 and 4 of 12 patches."""
    mask = torch.zeros(3, 4, 3, dtype=torch.bool)
    mask[0, 2] = True
    mask[1, [0, 0, 1, 3, 2], [0, 2, 1, 1, 0]] = True
    mask[2, :, 1] = True
    return mask


@torch.no_grad()
def test_hidden_patches_change_nothing() -> None:
    model, mask, x = _model(), _mask(), _x()
    spoiled = torch.where(mask.repeat_interleave(200, dim=2), 1e4 * torch.randn(3, 4, 600), x)
    assert torch.equal(model(spoiled, mask=mask), model(x, mask=mask))
    assert not torch.allclose(model(spoiled), model(x), rtol=0, atol=1e-5)
    # But for the visible ones, each of them counts.
    for row, channel, patch in ((0, 0, 0), (1, 2, 2), (2, 3, 0)):
        other = x.clone()
        other[row, channel, 200 * patch : 200 * patch + 200] *= -3
        assert not torch.allclose(model(other, mask=mask)[row], model(x, mask=mask)[row], rtol=0, atol=1e-5)


@torch.no_grad()
def test_windows_of_a_batch_do_not_depend_on_each_other() -> None:
    """Windows with other numbers of visible patches go through the encoder apart, and come back in order."""
    model, mask, x = _model(), _mask(), _x()
    together = model(x, mask=mask)
    for i in range(3):
        torch.testing.assert_close(model(x[i : i + 1], mask=mask[i : i + 1])[0], together[i], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model(x, mask=mask.flatten(1)), together)
    none = torch.zeros_like(mask)
    torch.testing.assert_close(model(x, mask=none), model(x), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_cls_token_stands_where_a_patch_is_hidden() -> None:
    model, mask = _model(), _mask()
    out = model(_x(), return_features=True, mask=mask)
    hidden = mask.flatten(1)
    expected = out["cls_token"].unsqueeze(1).expand_as(out["features"])
    assert torch.equal(out["features"][hidden], expected[hidden])
    assert torch.equal(model.encode_visible(_x(), mask)[:, 1:], out["features"])
    assert rows_by_count(hidden)[0][1].shape == (1, 7)


def test_training_step() -> None:
    model, tokenizer = _model(drop_prob=0.0, attn_drop_prob=0.0).train(), _tokenizer()
    out = model.training_step(_x(), tokenizer, mask=_mask())
    assert not tokenizer.training
    assert set(out) == {"loss", "code_loss", "mimic_loss", "accuracy"}
    torch.testing.assert_close(out["loss"], out["code_loss"] + out["mimic_loss"])
    labels = tokenizer.encode(_x()).flatten(1)
    hidden = _mask().flatten(1)
    logits = model(_x(), mask=_mask())
    expected = 0.5 * torch.nn.functional.cross_entropy(logits[hidden], labels[hidden])
    torch.testing.assert_close(out["code_loss"], expected)
    # Ours asks for the spectra of hidden patches too.
    ours = _model(mimic="log_amplitude", tokenizer=tokenizer, mimic_weight=0.7).train()
    losses = ours.training_step(_x(), generator=torch.Generator().manual_seed(0))
    assert set(losses) == {"loss", "code_loss", "mimic_loss", "hidden_mimic_loss", "accuracy"}
    again = ours.training_step({"x": _x(), "ch_names": ["F3", "F4", "C3", "C4"]}, mask=_mask())
    assert torch.isfinite(again["loss"])


def test_codes_of_clean_patches_are_told_from_corrupted_ones() -> None:
    """Labels are those of the clean signal; what is scored is what is hidden, and where an artefact is."""
    model, tokenizer, x, mask = _model(mimic_weight=0.0), _tokenizer(), _x(), _mask()
    artefact = torch.zeros_like(x)
    # Two visible patches of the first window; and one that is too small to be called corrupted.
    artefact[0, 0, :400] = 100 * torch.randn(400, generator=torch.Generator().manual_seed(5))
    artefact[1, 3, 400:] = torch.randn(200, generator=torch.Generator().manual_seed(6))
    batch = {"x": x, "artefact": artefact}
    with torch.no_grad():
        loss = model.training_step(batch, tokenizer, mask=mask)["code_loss"]
        labels = tokenizer.encode(x).flatten(1)
        logits = model(x + artefact, mask=mask)
    scored = mask.clone()
    scored[0, 0, :2] = True
    scored = scored.flatten(1)
    expected = torch.nn.functional.cross_entropy(logits[scored], labels[scored])
    torch.testing.assert_close(loss, expected)
    with pytest.raises(ValueError, match="An artefact must have the shape of the signal"):
        model.training_step({"x": x, "artefact": artefact[:, :2]}, tokenizer)


@torch.no_grad()
def test_restore() -> None:
    mask, x = _mask(), _x()
    before = x.clone()
    model = _model(tokenizer=_tokenizer())
    out = model.restore(x, mask)
    assert torch.equal(x, before)
    visible = ~mask.repeat_interleave(200, dim=2)
    assert torch.equal(out[visible], x[visible])
    assert bool((out != x)[~visible].any())
    rms = out.unflatten(2, (3, 200)).square().mean(dim=3).sqrt()
    # Single patches get the level of their channel; a channel of which nothing is visible that of the window.
    own = x[2, 0].view(3, 200)[[0, 2]].square().mean().sqrt()
    torch.testing.assert_close(rms[2, 0, 1], own)
    window = x[0, [0, 1, 3]].square().mean().sqrt()
    torch.testing.assert_close(rms[0, 2], window.expand(3))
    codes = model.restore_codes(x, mask)
    assert codes.shape == (3, 4, 3)
    ours = _model(tokenizer=_tokenizer(target="signal+spectrum"))
    assert torch.isfinite(ours.restore(x, mask)).all()
    with pytest.raises(ValueError, match="hold no waveform"):
        _model(tokenizer=_tokenizer(target="log_amplitude")).restore(x, mask)


@torch.no_grad()
def test_restored_is_not_random() -> None:
    """Dropout is off, in training mode too."""
    model = _model(tokenizer=_tokenizer(), drop_prob=0.5, attn_drop_prob=0.5)
    expected = model.restore(_x(), _mask())
    model.train()
    assert torch.equal(model.restore(_x(), _mask()), expected)
    assert model.training
    assert model.encoder.blocks[0].training


_FILTER = {"rank": 4, "embed_dim": 8, "num_layers": 1, "num_heads": 2, "drop_prob": 0.0}


def test_number_formats() -> None:
    losses = {}
    for dtype in (torch.float64, torch.float32):
        model = _model(mimic="log_amplitude", spatial_filter=_FILTER).to(dtype)
        generator = torch.Generator().manual_seed(0)
        losses[dtype] = model.training_step(_x().to(dtype), _tokenizer(), mask=_mask(), generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        generator = torch.Generator().manual_seed(0)
        mixed = model.training_step(_x(), _tokenizer(), mask=_mask(), generator=generator)
    for name in ("code_loss", "mimic_loss", "hidden_mimic_loss", "restoration_loss"):
        exact = losses[torch.float64][name].double()
        torch.testing.assert_close(losses[torch.float32][name].double(), exact, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(mixed[name].double(), exact, rtol=0.05, atol=0.01)


_PLACES = np.array([[0.0, 0.09, 0.05], [0.07, 0.02, 0.07], [-0.07, 0.02, 0.07], [0.0, -0.07, 0.06]])


def _info(where: np.ndarray) -> list[dict]:
    """Channels whose names say nothing."""
    return [
        {"ch_name": f"E{i + 1}", "loc": np.r_[place, np.zeros(9)], "kind": 2, "coord_frame": 4}
        for i, place in enumerate(where)
    ]


def test_channels_that_only_the_recording_knows() -> None:
    """Labels and spatial filter get the positions that the encoder got from ``chs_info``."""
    tokenizer = _tokenizer(spatial="coordinates")
    models = [
        _model(ch_names=None, chs_info=_info(where), spatial="coordinates", spatial_filter=_FILTER)
        for where in (_PLACES, _PLACES[::-1])
    ]
    for model in models:
        assert torch.isfinite(model.training_step(_x(), tokenizer, mask=_mask())["restoration_loss"])
    first, second = (model._bound_tokenizer(torch.device("cpu")).encoder.spatial_embed.features for model in models)
    assert torch.equal(first, models[0].encoder.spatial_embed.features)
    # Of the same names at other places, the tokenizer gets the other places.
    models[1].set_tokenizer(models[0]._bound_tokenizer(torch.device("cpu")))
    again = models[1]._bound_tokenizer(torch.device("cpu"))
    assert again.ch_names == models[0].ch_names
    assert torch.equal(again.encoder.spatial_embed.features, second)
    assert not torch.equal(first, second)


def test_where_channels_are_is_found_once_for_each_binding(monkeypatch: pytest.MonkeyPatch) -> None:
    by_name = _model(spatial_filter=_FILTER)
    by_place = _model(ch_names=None, chs_info=_info(_PLACES), spatial="coordinates", spatial_filter=_FILTER)
    montages = [["FP1", "CZ", "O2", "F3"], ["FP2", "T8", "O1", "CZ"], ["F3-C3", "C3-P3", "P3-O1", "F4-C4"]]
    calls = []

    def counted(*args, **kwargs) -> ChannelBinding:
        calls.append(args)
        return resolve_channels(*args, **kwargs)

    monkeypatch.setattr(base, "resolve_channels", counted)
    base._find_places.cache_clear()
    for _ in range(3):
        for model in (by_name, by_place):
            for names in montages:  # a bound model lives for one step
                bound = model.bind_channels(names)
                assert torch.isfinite(bound.restoration_loss(_x(), generator=torch.Generator().manual_seed(0)))
                assert torch.equal(bound._places(), resolve_channels(names, spatial="coordinates").positions)
        by_place.restoration_loss(_x())
        wanted = resolve_channels(None, _info(_PLACES), spatial="coordinates").positions
        assert torch.equal(by_place._places(), wanted)
    # Once for each list of names, and for the recording's positions when they are aligned and when they are read.
    assert len(calls) == len(montages) + 2
    # Positions that are given are others, under the same names.
    places = torch.from_numpy(np.hstack([_PLACES, _PLACES]))
    assert torch.equal(by_place.bind_channels(montages[0], positions=places)._places(), places)
    assert torch.equal(copy.deepcopy(by_place)._places(), wanted)


def test_mimic_is_the_published_one_in_units_of_a_tenth_of_a_millivolt() -> None:
    """What is all but flat is not blown up: officially 1e-5 is added to a variance of (0.1 mV)^2."""
    patches = (
        torch.randn(1, 1, 3, 200, generator=torch.Generator().manual_seed(0)) * torch.tensor([30, 1, 1e-3])[:, None]
    )
    magnitudes = torch.fft.fft(patches / 100, dim=-1).abs()
    centred = magnitudes - magnitudes.mean(dim=-1, keepdim=True)
    expected = centred / (magnitudes.var(dim=-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
    wanted = _model().mimic_target(patches)
    torch.testing.assert_close(wanted, expected)
    assert float(wanted[0, 0, 2].std()) < 0.1
    assert float(wanted[0, 0, 0].std()) == pytest.approx(1.0, abs=0.01)


def test_a_copy_is_a_model_of_its_own() -> None:
    model = _model(tokenizer=_tokenizer(), spatial_filter=_FILTER)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(_x(), mask=_mask()), model(_x(), mask=_mask()))
        assert torch.equal(twin.tokenizer.encode(_x()), model.tokenizer.encode(_x()))
        with torch.no_grad():
            twin.tokenizer.to_latent[0].weight.zero_()
            twin.spatial_filter.log_noise.zero_()
        assert bool(model.tokenizer.to_latent[0].weight.any())
        assert bool(model.spatial_filter.log_noise.all())
    # Bound to other channels it is the same model; a tokenizer that is set there stays there.
    bound = model.bind_channels(["F3", "F4"])
    bound.set_tokenizer(_tokenizer())
    assert bound.tokenizer is not model.tokenizer
    assert bound.spatial_filter is model.spatial_filter
    assert (model.ch_names, model.contract) == (NAMES, _model().contract)


def test_bad_input() -> None:
    model, x = _model(), _x()
    everything = torch.ones(3, 4, 3, dtype=torch.bool)
    for call, words in (
        (lambda: model(x, mask=everything), "hides all 12 patches of a window, and from nothing nothing can be"),
        (lambda: model(x, mask=_mask()[:, :3]), "A mask must be boolean, of the shape"),
        (lambda: model(x, mask=_mask().float()), "A mask must be boolean"),
        (lambda: model.training_step(x), "Codes need a tokenizer"),
        (lambda: model.training_step(x, _tokenizer(), mask=~everything), "hides no patch, so there is nothing"),
        (lambda: model.training_step(x, _tokenizer(n_codes=9)), "The tokenizer has n_codes=9, the model n_codes=8; "),
        (lambda: _model().restore(x, _mask()), "Codes need a tokenizer"),
        (lambda: model(x[..., :450]), "whole number of patches"),
        (lambda: model(torch.full_like(x, torch.nan), mask=_mask()), "NaN or infinite"),
        (lambda: _model(mask_ratio=1.0), "mask_ratio must lie between 0 and 1"),
        (lambda: _model(masking="half"), "masking must be one of 'random', 'mixed'"),
        (lambda: _model(mimic="phase"), "mimic must be one of 'amplitude', 'log_amplitude'"),
        (lambda: _model(mimic_weight=1.0), "mimic_weight must lie in"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            call()
        assert "\n" not in str(error.value)
    labram = LabramTokenizer(ch_names=NAMES, n_codes=8, embed_dim=16, num_layers=1, num_heads=2)
    for call in (lambda: _model(tokenizer="gram-tiny"), lambda: model.training_step(x, labram)):
        with pytest.raises(TypeError, match="The tokenizer of a GramForRestoration is a GramTokenizer, got "):
            call()
    one = model.bind_channels(["CZ"])
    assert one.restore_codes(x[:, :1], torch.tensor([[[True, False, False]]]).expand(3, 1, 3)).shape == (3, 1, 3)


@pytest.mark.parametrize("masking", ["random", "mixed"])
@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(("n_chans", "n_patches"), [(1, 2), (2, 1), (4, 3), (19, 8)])
def test_masks_hide_as_many_patches_everywhere(masking: str, n_chans: int, n_patches: int, ratio: float) -> None:
    generator = torch.Generator().manual_seed(0)
    kinds = set()
    for _ in range(40):
        mask = draw_equal_mask(masking, 5, n_chans, n_patches, ratio, generator=generator)
        assert mask.shape == (5, n_chans * n_patches)
        counts = mask.sum(dim=1)
        assert len(counts.unique()) == 1
        assert 0 < int(counts[0]) < n_chans * n_patches
        grid = mask.unflatten(1, (n_chans, n_patches))
        whole_channels = bool((grid.all(dim=2) | ~grid.any(dim=2)).all())
        whole_times = bool((grid.all(dim=1) | ~grid.any(dim=1)).all())
        kinds.add("channels" if whole_channels else "times" if whole_times else "patches")
    if (n_chans, n_patches) == (19, 8):
        assert kinds == ({"patches"} if masking == "random" else {"channels", "times", "patches"})


def test_checkpoints(tmp_path: Path) -> None:
    mask, x = _mask(), _x()
    for model in (_model(spatial="coordinates", mimic="log_amplitude", out_indices=[1, 2]), _tokenizer().eval()):
        path = save_checkpoint(model, tmp_path / "model.safetensors", overwrite=True)
        again = load_checkpoint(path)
        if isinstance(model, GramTokenizer):
            assert torch.equal(again.encode(x), model.encode(x))
            continue
        assert again.encoder.fusion.out_indices == [1, 2]
        assert torch.equal(again(x, mask=mask), model(x, mask=mask))
