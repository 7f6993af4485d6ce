"""The authors' weights give the authors' outputs; anything else is refused."""

from __future__ import annotations

import torch

from mne_labram.models.gram import GramForRestoration, GramTokenizer


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
