"""Codes, and the signal back from them."""

from __future__ import annotations

import pytest
import torch

from mne_labram.models.gram import GramTokenizer
from mne_labram.models.gram.waveform import PatchTarget

NAMES = ["FP1", "CZ", "O2"]
SMALL = {
    "ch_names": NAMES,
    "embed_dim": 16,
    "num_layers": 2,
    "num_heads": 2,
    "decoder_layers": 1,
    "n_codes": 8,
    "code_dim": 4,
}


def _x(n: int = 2, n_times: int = 600) -> torch.Tensor:
    return 30 * torch.randn(n, 3, n_times, generator=torch.Generator().manual_seed(1))


def _model(**options) -> GramTokenizer:
    torch.manual_seed(0)
    return GramTokenizer(**{**SMALL, **options}).eval()


def test_codes() -> None:
    model = _model()
    codes = model.encode(_x())
    assert codes.shape == (2, 3, 3)
    assert codes.dtype == torch.int64
    assert set(codes.unique().tolist()) <= set(range(8))
    assert model.codebook_usage(codes)["n_used"] == len(codes.unique())
    before = model.quantizer.codebook.clone()
    model.train()
    assert torch.equal(model.encode(_x()), codes)
    assert torch.equal(model.quantizer.codebook, before)


def test_official_codes_hold_no_amplitude_and_gain_gives_one() -> None:
    model = _model()
    codes = model.encode(_x())
    plain = model.decode(codes)
    assert plain.shape == (2, 3, 600)
    gain = torch.tensor([[10.0, 20.0, 5.0], [1.0, 2.0, 3.0]])
    rms = model.decode(codes, gain=gain).unflatten(2, (3, 200)).square().mean(dim=3).sqrt()
    torch.testing.assert_close(rms, gain.unsqueeze(2).expand(-1, -1, 3))
    by_patch = torch.arange(1.0, 19.0).view(2, 3, 3)
    scaled = model.decode(codes, gain=by_patch).unflatten(2, (3, 200))
    torch.testing.assert_close(scaled.square().mean(dim=3).sqrt(), by_patch)
    # Only the amplitude is another.
    shape = plain.unflatten(2, (3, 200))
    torch.testing.assert_close(torch.cosine_similarity(scaled, shape, dim=3), torch.ones(2, 3, 3))
    assert model.decode(codes, 450).shape == (2, 3, 450)


def test_level_of_our_target_is_that_of_the_signal() -> None:
    """A perfect reconstruction of waveform and spectrum is the signal within its band, in microvolts."""
    target = PatchTarget("signal+spectrum", 200, band=(1.0, 45.0))
    time = torch.arange(200) / 200
    patches = torch.stack([level * torch.sin(2 * torch.pi * 10 * time + level) for level in (5.0, 20.0, 80.0)])
    patches = patches.view(1, 1, 3, 200)
    parts = {"signal": patches / 17, "log_amplitude": target.spectrum(patches)["log_amplitude"]}
    error = (target.invert(parts) - patches).square().mean(dim=3).sqrt() / patches.square().mean(dim=3).sqrt()
    assert float(error.max()) < 0.05
    losses = target.losses(parts, patches)
    assert set(losses) == {"signal_loss", "log_amplitude_loss"}
    assert all(abs(float(loss)) < 1e-6 for loss in losses.values())
    opposite = target.losses({**parts, "signal": -parts["signal"]}, patches)["signal_loss"]
    assert float(opposite) == pytest.approx(2.0, abs=1e-5)


def test_training_learns_the_waveform() -> None:
    torch.manual_seed(0)
    phase = torch.tensor([0.0, 1.5, 3.0, 4.5])[torch.randint(4, (16, 3, 2, 1))]
    x = 20 * torch.sin(2 * torch.pi * 5 * torch.arange(200) / 200 + phase).flatten(2)
    model = _model(kmeans_init=False, target="signal+spectrum", drop_prob=0.0, attn_drop_prob=0.0).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        losses = model.training_step(x)
        losses["loss"].backward()
        optimizer.step()
    assert set(losses) == {
        *("loss", "signal_loss", "log_amplitude_loss", "commitment_loss"),
        *("codebook_perplexity", "codebook_used", "codebook_initialized"),
    }
    assert losses["signal_loss"].item() < 0.5


def test_log_amplitude_holds_no_signal() -> None:
    model = _model(target="log_amplitude")
    assert model(_x()).shape == (2, 3, 3, 45)
    with pytest.raises(ValueError, match="hold no waveform, so no signal can be computed from them; train with"):
        model.decode(model.encode(_x()))


def test_mapping_with_other_channels() -> None:
    model = _model().train()
    losses = model.training_step({"x": _x(), "ch_names": ["F3", "F4", "T7-P7"]})
    assert torch.isfinite(losses["loss"])
    assert model.ch_names == NAMES


def test_bad_input() -> None:
    model = _model()
    codes = torch.zeros(2, 3, 3, dtype=torch.int64)
    for call, words in (
        (lambda: model.decode(codes[:, :2]), r"Codes must have the shape \(batch, 3 channels, 1 to 16 patches\)"),
        (lambda: model.decode(codes + 8), "Codes must lie between 0 and 7"),
        (lambda: model.decode(codes, 700), "3 patches hold 600 samples, not n_times=700"),
        (lambda: model.decode(codes, gain=torch.ones(2, 2)), "A gain is one per channel or per patch"),
        (lambda: model.encode(_x()[..., :450]), "whole number of patches of 200 samples, got 450 samples; crop it"),
        (lambda: _model(target="waveform"), "target must be one of 'signal', 'signal\\+spectrum', 'log_amplitude'"),
        (lambda: _model(decoder_layers=-1), "decoder_layers must be at least 0"),
        (lambda: _model(n_codes=0), "at least 2 codes of 1 number, got 0 of 4"),
        (lambda: _model(code_dim=0), "code_dim must be at least 1, got 0"),
        (lambda: _model(size="large"), "size must be one of 'small', 'base', got 'large'"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            call()
        assert "\n" not in str(error.value)
    with pytest.raises(TypeError, match="int"):
        model.decode(codes.float())
