"""The authors' weights give the authors' outputs; anything else is refused."""

from __future__ import annotations

import pytest
import torch

from mne_labram.models.gram import GramForClassification, GramForRestoration, GramTokenizer


def _build(given, cls: type, **options):
    return cls.from_official(given.state, ch_names=given.ch_names, n_times=given.n_times, **options).eval()


def _assert_close(value: torch.Tensor, expected: torch.Tensor) -> None:
    """Agree within 1e-5 of the output's own scale; the golden vectors ask for 1e-4."""
    assert value.shape == expected.shape
    assert float((value - expected).abs().max()) < 1e-5 * float(expected.abs().max())


@torch.no_grad()
def test_tokenizer(golden_gram) -> None:
    given = golden_gram(1)
    model = _build(given, GramTokenizer)
    codes = model.encode(given.x)
    assert codes.dtype == torch.int64
    assert torch.equal(codes, given.ours(given.outputs["codes"]))
    out = model(given.x, return_features=True)
    assert torch.equal(out["codes"], codes)
    _assert_close(out["quantized"], given.ours(given.outputs["quantized"]))
    _assert_close(out["signal"], given.ours(given.outputs["reconstruction"]))
    assert torch.equal(model(given.x), out["signal"])
    _assert_close(model.decode(codes), given.ours(given.outputs["reconstruction"]).flatten(2))


def _golden_mask(given) -> torch.Tensor:
    return given.ours(given.outputs["mask"]).bool()


@torch.no_grad()
def test_restoration(golden_gram) -> None:
    given = golden_gram(2)
    model = _build(given, GramForRestoration)
    assert model.encoder.fusion.out_indices == [0, 1, 2]
    mask = _golden_mask(given)
    tokens = model.encode_visible(given.x, mask)
    # The authors' latents are in the order of the noise that chose them.
    kept = given.outputs["noise"].argsort(dim=1)[:, : given.outputs["latent"].shape[1] - 1]
    ours = kept % 19 * 4 + kept // 19
    patches = tokens[:, 1:].gather(1, ours.unsqueeze(2).expand(-1, -1, 200))
    _assert_close(torch.cat((tokens[:, :1], patches), dim=1), given.outputs["latent"])
    logits = model(given.x, mask=mask).unflatten(1, (19, 4))
    _assert_close(logits, given.ours(given.outputs["logits"]))
    assert torch.equal(model.restore_codes(given.x, mask), logits.argmax(dim=3))


def test_wrong_weights_are_refused(golden_gram) -> None:
    given = golden_gram(2)

    def drop(key: str) -> None:
        del given.state[key]

    def put(key: str, value: torch.Tensor) -> None:
        given.state[key] = value

    for cls, stage, spoil, words in (
        (GramForRestoration, 2, lambda: drop("norm.bias"), "encoder.norm.bias"),
        (GramForRestoration, 2, lambda: drop("cls_token"), "'cls_token' is missing"),
        (GramForRestoration, 2, lambda: drop("decoder_pred.weight"), "'decoder_pred.weight' is missing"),
        (GramForRestoration, 2, lambda: drop("blocks.1.attn.key.bias"), "there is no key for '1.attn.qkv.bias'"),
        (GramForRestoration, 2, lambda: put("blocks.5.gamma_1", torch.ones(200)), "without a gap"),
        (GramForRestoration, 2, lambda: put("rel_pos", torch.ones(3)), "rel_pos"),
        (GramForRestoration, 2, lambda: put("ch_emb", torch.ones(1, 130, 200)), "does not hold the sines and cosines"),
        (GramForRestoration, 2, lambda: put("ch_emb", torch.ones(1, 136, 200)), "136 channel names, not of the 130"),
        (
            GramForRestoration,
            2,
            lambda: put("proj_weights", torch.ones(4, 1, 1, 1)),
            "pass their numbers as out_indices",
        ),
        (GramForRestoration, 2, lambda: put("norm.weight", torch.full((200,), torch.nan)), "NaN"),
        (
            GramForRestoration,
            2,
            lambda: put("mimic_head.weight", torch.ones(100, 200)),
            "mimic_head.weight is 100 x 200",
        ),
        (GramForClassification, 2, lambda: None, "give n_outputs to get a fresh one"),
        (GramForClassification, 2, lambda: put("cls_head.bias", torch.ones(3)), "only 'cls_head.bias' is there"),
        (GramForRestoration, 1, lambda: None, "'decoder_pred.weight' is missing"),
        (GramTokenizer, 2, lambda: None, "'quantize.embedding.weight' is missing"),
        (GramTokenizer, 1, lambda: drop("encoder.ln_f.bias"), "encoder.norm.bias"),
        (GramTokenizer, 1, lambda: put("decoder.conv_emb.proj.weight", torch.ones(200, 16, 3, 1)), "1 x 1 convolution"),
    ):
        given = golden_gram(stage)
        spoil()
        with pytest.raises(ValueError, match=r".") as error:
            _build(given, cls)
        assert words in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(TypeError, match="maps names to tensors"):
        GramTokenizer.from_official([1], ch_names=["CZ"], n_times=200)


@torch.no_grad()
def test_classification_from_both_kinds(golden_gram) -> None:
    given = golden_gram(2)
    base = _build(given, GramForRestoration)
    fresh = _build(given, GramForClassification, n_outputs=3, drop_path_prob=0.1)
    assert torch.equal(fresh.embed(given.x, "tokens"), base.embed(given.x, "tokens"))
    assert fresh.encoder.blocks[-1].drop_path.drop_prob == 0.1
    head = {"cls_head.weight": torch.randn(5, 200), "cls_head.bias": torch.randn(5)}
    encoder = {key: value for key, value in given.state.items() if not key.startswith(("decoder_", "mimic_head"))}
    given.state = {"model": {**encoder, **head}, "epoch": 3}
    tuned = _build(given, GramForClassification)
    assert (tuned.n_outputs, tuned.pooling) == (5, "cls")
    cls = base.embed(given.x, "cls")
    torch.testing.assert_close(tuned(given.x), cls @ head["cls_head.weight"].T + head["cls_head.bias"])
    assert _build(given, GramForClassification, n_outputs=2)(given.x).shape == (2, 2)


def test_restoration_comes_with_its_tokenizer(golden_gram) -> None:
    stage1, stage2 = golden_gram(1), golden_gram(2)
    stage2.state |= {f"vqgan.{key}": value for key, value in stage1.state.items()}
    model = _build(stage2, GramForRestoration)
    assert isinstance(model.tokenizer, GramTokenizer)
    assert torch.equal(model.tokenizer.encode(stage1.x), _build(stage1, GramTokenizer).encode(stage1.x))
    assert torch.isfinite(model.training_step(stage2.x, mask=_golden_mask(stage2))["loss"])
    assert torch.equal(_build(stage2, GramTokenizer).encode(stage1.x), model.tokenizer.encode(stage1.x))


def test_heads_are_told_by_the_width(golden_gram) -> None:
    given = golden_gram(2)
    assert _build(given, GramForRestoration).encoder.blocks[0].attn.num_heads == 10
    assert _build(given, GramForRestoration, num_heads=5).encoder.blocks[0].attn.num_heads == 5
