from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from torch.utils._python_dispatch import TorchDispatchMode

from mne_labram import EEGEmbedding, EEGFoundationForMaskedModeling, load_checkpoint, save_checkpoint
from mne_labram.models.eegfoundation.encoder import resolve_size
from mne_labram.models.eegfoundation.levels import MASK, N_CODES, N_LEVELS
from mne_labram.models.eegfoundation.masking import hide_codes, span_mask, token_mask
from mne_labram.training.recipes import load_recipe

CH_NAMES = ["FP1", "CZ", "O2"]
_TINY = {"embed_dim": 16, "num_layers": 2, "num_heads": 2}
PATCHES = {"input": "patches", "amplitude": "mulaw", "masking": "span"}


def _model(**options: Any) -> EEGFoundationForMaskedModeling:
    torch.manual_seed(0)
    return EEGFoundationForMaskedModeling(**{"ch_names": CH_NAMES, **_TINY, **options})


def _x(n: int = 2, n_times: int = 400, n_chans: int = 3) -> torch.Tensor:
    return 30 * torch.randn(n, n_chans, n_times, generator=torch.Generator().manual_seed(1))


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# -- what is hidden ---------------------------------------------------------------------------------------------------
@given(n_tokens=st.integers(2, 200), ratio=st.floats(0.05, 0.7), span=st.integers(1, 60), seed=st.integers(0, 999))
def test_a_span_mask_hides_something_and_not_all(n_tokens: int, ratio: float, span: int, seed: int) -> None:
    mask = span_mask(5, n_tokens, ratio, span, generator=_generator(seed))
    assert mask.shape == (5, n_tokens)
    assert bool(mask.any(1).all())
    assert bool((~mask).any(1).all())


def test_a_span_mask_hides_stretches_and_the_share_asked_for() -> None:
    mask = span_mask(400, 500, 0.2, 10, generator=_generator())
    assert float(mask.float().mean()) == pytest.approx(0.2, abs=0.01)
    starts = mask & ~torch.nn.functional.pad(mask[:, :-1], (1, 0))
    assert float(mask.sum() / starts.sum()) > 9
    # Every sample is hidden as often as any other, but for the ends.
    often = mask.float().mean(0)
    assert float(often.std()) < 0.03


def test_single_tokens_as_published() -> None:
    mask = token_mask("random", 3, 4, 1000, 0.15, generator=_generator())
    assert mask.shape == (3, 4, 1000)
    assert bool((mask.sum(2) == 150).all())
    assert not torch.equal(mask[0, 0], mask[0, 1])


def test_shared_spans_hide_the_same_times_in_half_of_the_windows() -> None:
    mask = token_mask("span", 200, 4, 50, 0.3, span=5, shared=True, generator=_generator())
    same = (mask == mask[:, :1]).all(dim=(1, 2))
    assert 70 < int(same.sum()) < 130


def test_eighty_ten_ten() -> None:
    codes = torch.randint(N_LEVELS, (20, 3, 500, 4), generator=_generator())
    before = codes.clone()
    mask = token_mask("random", 20, 3, 500, 0.15, generator=_generator(1))
    out = hide_codes(codes, mask, generator=_generator(2))
    assert torch.equal(codes, before)
    assert torch.equal(out[~mask], codes[~mask])
    hidden = out[mask]
    masked, kept = (hidden == MASK).all(1), (hidden == codes[mask]).all(1)
    assert float(masked.float().mean()) == pytest.approx(0.8, abs=0.02)
    assert float(kept.float().mean()) == pytest.approx(0.1, abs=0.02)
    other = hidden[~masked & ~kept]
    assert len(other) / len(hidden) == pytest.approx(0.1, abs=0.02)
    assert int(other.max()) < N_LEVELS
    assert not bool(((hidden == MASK).any(1) & ~masked).any())


# -- what is learned --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("options", [{}, PATCHES, {**PATCHES, "smoothing": 5.0, "fusion_layers": 1}])
def test_only_hidden_samples_count(options: dict[str, Any]) -> None:
    model = _model(**options).eval()
    codes = model._codes(_x())
    mask = torch.zeros(codes.shape[:3], dtype=torch.bool)
    mask[1, 2, 3] = True
    first = model.training_step(_x(), mask=mask, generator=_generator())
    changed = _x()
    changed[0] *= 2
    assert torch.equal(model.training_step(changed, mask=mask, generator=_generator())["loss"], first["loss"])
    changed[1, 2, 3 * model.patch_size] += 40
    assert model.training_step(changed, mask=mask, generator=_generator())["loss"] != first["loss"]


def test_the_loss_is_the_cross_entropy_of_the_hidden_codes() -> None:
    model = _model().eval()
    codes = model._codes(_x())
    mask = token_mask("random", *codes.shape[:3], 0.15, generator=_generator())
    got = model.training_step(_x(), mask=mask, generator=_generator(1))
    tokens = model.encoder(hide_codes(codes, mask, generator=_generator(1)))
    logits = model.final_layer(tokens[mask]).squeeze(1)
    wanted = codes[mask].squeeze(1)
    assert logits.shape[1] == N_CODES
    torch.testing.assert_close(got["loss"], torch.nn.functional.cross_entropy(logits, wanted))
    guess = logits[:, :N_LEVELS].argmax(1)
    torch.testing.assert_close(got["level_error"], (guess - wanted).abs().float().mean())


@pytest.mark.parametrize("options", [{}, PATCHES])
def test_logits_of_some_tokens_are_those_of_all(options: dict[str, Any]) -> None:
    model = _model(**options).eval()
    shape = model._codes(_x()).shape[:3]
    mask = token_mask("random", *shape, 0.15, generator=_generator())
    for hidden in (None, mask):
        torch.manual_seed(3)
        everything = model(_x(), mask=hidden).unflatten(2, (-1, model.patch_size))
        torch.manual_seed(3)
        some = model(_x(), mask=hidden, positions=mask)
        assert some.shape == (int(mask.sum()), model.patch_size, N_CODES)
        torch.testing.assert_close(some, everything[mask])
    assert model(_x(), positions=torch.zeros(shape, dtype=torch.bool)).shape == (0, model.patch_size, N_CODES)
    for wrong in (mask.long(), mask[:, :, :-1], mask[0]):
        with pytest.raises(ValueError, match=r"^positions must be boolean, of the shape \(2, 3, \d+\), got"):
            model(_x(), positions=wrong)


class _Largest(TorchDispatchMode):
    """Remember how large the largest tensor was that an operation returned."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in out if isinstance(out, tuple | list) else [out]:
            if isinstance(leaf, torch.Tensor):
                self.numel = max(self.numel, leaf.numel())
        return out


def test_nothing_as_large_as_all_logits_is_made_unless_asked_for() -> None:
    model = _model(embed_dim=16, hidden_dim=32).eval()
    x = _x(2, 1600)
    everything = x.numel() * N_CODES
    mask = token_mask("random", 2, 3, 1600, 0.15, generator=_generator())
    largest = {}
    for name, run in {
        "all": lambda: model(x),
        "some": lambda: model(x, mask=mask, positions=mask),
        "features": lambda: model(x, return_features=True),
        "embedding": lambda: model.embed(x),
        "training": lambda: model.training_step(x, mask=mask)["loss"].backward(),
    }.items():
        with _Largest() as watch:
            run()
        largest[name] = watch.numel
    assert largest["all"] >= everything
    assert largest["some"] == int(mask.sum()) * N_CODES
    # 1440 hidden samples: fewer than the most that a step of training computes.
    assert largest["training"] <= int(mask.sum()) * N_CODES
    assert max(largest["features"], largest["embedding"]) < everything / 20


def test_smoothing_costs_less_the_closer() -> None:
    model = _model(smoothing=5.0)
    wanted = torch.tensor([1000])
    losses = []
    for level in (1000, 1004, 1400):
        logits = torch.zeros(1, N_CODES)
        logits[0, level] = 10.0
        losses.append(float(model._code_loss(logits, wanted)))
    assert losses[0] < losses[1] < losses[2]
    # Close to none, it is the plain cross-entropy.
    logits = torch.randn(4, N_CODES, generator=_generator())
    codes = torch.tensor([0, 5, 1000, 1999])
    torch.testing.assert_close(
        _model(smoothing=0.01)._code_loss(logits, codes), _model()._code_loss(logits, codes), rtol=1e-5, atol=1e-5
    )


def test_not_more_logits_than_there_is_room_for() -> None:
    model = _model(**PATCHES, mask_ratio=0.5)
    samples, wanted = model._targets(torch.randn(500, 16), torch.zeros(500, 50, dtype=torch.long), None)
    assert len(samples) == len(wanted) == 4096 // 50 * 50


def test_sines_are_learned() -> None:
    model = _model(**PATCHES, spectral_weight=1.0, smoothing=20.0, ch_names=["CZ"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    times = torch.arange(200) / 200
    errors = []
    for step in range(60):
        # Every window has an amplitude of its own.
        draw = _generator(step)
        sizes, phases = (torch.rand(6, 1, 1, generator=draw) for _ in range(2))
        x = torch.exp(1.5 + 3 * sizes) * torch.sin(2 * torch.pi * (2 * times + phases))
        losses = model.training_step(x, generator=draw)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        errors.append([float(losses[name].detach()) for name in ("masked_loss", "spectrum_loss")])
    # Not from the very first step: what a spectrum is compared with settles in the first few.
    (first, first_spectrum), (last, last_spectrum) = (np.mean(errors[i : i + 5], axis=0) for i in (5, 55))
    assert last < first - 0.3
    assert last_spectrum < 0.7 * first_spectrum


def test_the_spectrum_of_the_whole_seconds() -> None:
    model = _model(**PATCHES, spectral_weight=2.0).eval()
    tokens = torch.randn(2, 3, 11, 16)
    loss = model._spectrum_loss(_x(n_times=550), tokens)
    later = tokens.clone()
    later[:, :, 8:] += 5  # beyond the second second
    assert torch.equal(model._spectrum_loss(_x(n_times=550), later), loss)
    earlier = tokens.clone()
    earlier[:, :, 7] += 5
    with torch.no_grad():
        model.spectral_head.weight.normal_()
    assert model._spectrum_loss(_x(n_times=550), earlier) != model._spectrum_loss(_x(n_times=550), tokens)
    assert float(model._spectrum_loss(_x(n_times=150), tokens[:, :, :3])) == 0.0


def test_batches_of_a_loader() -> None:
    model = _model(**PATCHES, fusion_layers=1)
    x = _x(n_chans=2)
    with pytest.raises(ValueError, match="bound to 3"):
        model.training_step(x)
    for batch in (
        {"x": x, "ch_names": ["F3-C3", "O1"]},
        {"x": x, "ch_names": ["A1X", "B1X"], "positions": [[0.0, 0.05, 0.1], [0.0, -0.05, 0.1]]},
    ):
        assert torch.isfinite(model.training_step(batch)["loss"])
    assert torch.isfinite(model.training_step((_x(), torch.zeros(2)))["loss"])


# -- what it is -------------------------------------------------------------------------------------------------------
def test_channels_are_independent_without_fusion() -> None:
    x = _x()
    other = x.clone()
    other[:, 0] *= -1
    for options, same in (({}, True), (PATCHES, True), ({**PATCHES, "fusion_layers": 1}, False)):
        model = _model(**options).eval()
        assert torch.equal(model.embed(other, "tokens")[:, 1:], model.embed(x, "tokens")[:, 1:]) == same


def test_any_montage_and_length() -> None:
    model = _model(**PATCHES, fusion_layers=1, contract={"montages": ["referential", "bipolar"]}).eval()
    assert model.contract.montages == ("referential", "bipolar")
    assert (model.contract.name, model.contract.l_freq, model.contract.scale) == ("EEGFoundation", 0.3, 1.0)
    assert (model.contract.patch_samples, model.contract.max_patches) == (50, 64)
    assert _model().contract.max_patches == 2000
    bound = model.bind_channels(["Fp1-F7", "C3-P3", "Pz", "Oz", "T8"])
    assert bound.embed(_x(1, 50, 5), "tokens").shape == (1, 5, 1, 16)
    assert bound.embed(_x(1, 3200, 5)).shape == (1, 16)


def test_windows_that_do_not_fit() -> None:
    model = _model(**PATCHES)
    for n_times, words in (
        (425, "whole number of patches of 50 samples, got 425 samples; crop it to 400"),
        (30, "at least one patch of 50 samples"),
        (3250, "at most 64 patches"),
    ):
        for refused in (lambda n=n_times: model(_x(n_times=n)), lambda n=n_times: _model(**PATCHES, n_times=n)):
            with pytest.raises(ValueError, match=words) as error:
                refused()
            assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="at most 2000 patches"):
        _model()(_x(n_times=2001))


def test_bad_arguments() -> None:
    for options, words in (
        ({"input": "words"}, "input must be one of 'samples', 'patches'"),
        ({"patch_size": 50}, "With input='samples' a token is one sample"),
        ({"input": "patches", "patch_size": 1}, "patch_size must be at least 2"),
        ({"amplitude": "zscore"}, "amplitude must be one of"),
        ({"mask_ratio": 1.0}, "mask_ratio must lie between"),
        ({"masking": "mixed"}, "masking must be one of"),
        ({"span": 0.0}, "span must be positive"),
        ({"smoothing": -1.0}, "smoothing must not be negative"),
        (
            {"spectral_weight": 1.0, "input": "patches", "patch_size": 60},
            "200 samples are no multiple of patch_size=60",
        ),
        ({"fusion_layers": -1}, "fusion_layers must not be negative"),
        ({"size": "gigantic"}, "size must be one of"),
        ({"num_heads": 3}, r"num_heads \(3\) must divide"),
        ({"num_heads": 16}, "heads of an even width"),
        ({"hidden_dim": 0}, "hidden_dim must be at least 1"),
        ({"input": "patches", "transform": False}, "needs transform=True"),
        ({"sfreq": 256.0}, "works at 200 Hz, not 256 Hz"),
        ({"ch_names": None}, "must know its channels"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            _model(**options)
        assert "\n" not in str(error.value)
    model = _model()
    with pytest.raises(ValueError, match="A mask must be boolean, of the shape"):
        model(_x(), mask=torch.zeros(2, 3, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match="hides nothing"):
        model.training_step(_x(), mask=torch.zeros(2, 3, 400, dtype=torch.bool))
    with pytest.raises(ValueError, match="pooling must be one of"):
        model.embed(_x(), "max")
    with pytest.raises(TypeError, match="EEGFoundationForClassification.from_encoder"):
        model.reset_head(2)


def test_every_batch_is_looked_at_on_every_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere than on the CPU other models look at the first batch alone; here NaN would become an amplitude."""
    model, looked = _model().eval(), []
    monkeypatch.setattr(type(model), "_look_at", lambda self, x: looked.append(self._input_was_checked))
    for _ in range(2):
        model.embed(_x())
        model._input_was_checked = True
    assert looked == [False, False]


def test_number_formats() -> None:
    x = _x()
    for dtype in (torch.float32, torch.float64):
        model = _model(**PATCHES, fusion_layers=1, spectral_weight=1.0).to(dtype)
        out = model.training_step(x.to(dtype), generator=_generator())
        assert torch.isfinite(out["loss"])
        assert model.embed(x.to(dtype)).dtype == dtype
        with torch.autocast("cpu", torch.bfloat16):
            mixed = model.float().training_step(x, generator=_generator())
        assert mixed["loss"].dtype == torch.float32
        torch.testing.assert_close(mixed["loss"].double(), out["loss"].double(), rtol=0.02, atol=0.0)


def test_sizes() -> None:
    for size, numbers in {"base": (768, 12, 12, 3072), "student": (512, 12, 8, 2048)}.items():
        found = resolve_size(size)
        body = found.body
        assert (body.embed_dim, body.num_layers, body.num_heads, found.hidden_dim) == numbers
    assert resolve_size("base", hidden_dim=2048).hidden_dim == 2048
    assert resolve_size("tiny", embed_dim=64).hidden_dim == 256


def test_what_will_ship_is_small() -> None:
    recipe = load_recipe("tiny-amplitude")
    model = recipe.build_model()
    assert isinstance(model, EEGFoundationForMaskedModeling)
    assert sum(p.numel() for p in model.parameters()) < 2_000_000
    assert model.contract.name == "eegfoundation-tiny"
    assert {"eegmmidb/S001", "chbmit/chb01"} <= set(recipe.data["exclude_subjects"])


@pytest.mark.parametrize("options", [{}, {**PATCHES, "fusion_layers": 1, "spectral_weight": 1.0, "span": 0.3}])
def test_saved_and_read_again(options: dict[str, Any], tmp_path: Any) -> None:
    model = _model(**options).eval()
    again = load_checkpoint(save_checkpoint(model, tmp_path / "model.safetensors"))
    assert torch.equal(again.embed(_x()), model.embed(_x()))
    assert again.span == model.span
    other = save_checkpoint(_model(**options, hidden_dim=24), tmp_path / "other.safetensors")
    text = other.read_bytes().replace(b'\\"hidden_dim\\": 24', b'\\"hidden_dim\\": 48')
    other.write_bytes(text)
    with pytest.raises(ValueError, match="contradicts itself"):
        load_checkpoint(other)


@pytest.mark.parametrize(("pooling", "width"), [("mean", 16), ("cls", 16), ("channels", 48), ("tokens", 3 * 8 * 16)])
def test_as_a_transformer(pooling: str, width: int) -> None:
    model = _model(**PATCHES, contract={"l_freq": None, "h_freq": None, "notch": False}).eval()
    embedding = EEGEmbedding(model, pooling=pooling, ch_names=CH_NAMES, sfreq=200.0, precision="float32")
    out = embedding.fit_transform(_x().numpy())
    assert out.shape == (2, width)
    if pooling == "mean":
        np.testing.assert_allclose(out, model.embed(_x()).detach().numpy(), rtol=1e-4, atol=1e-5)
