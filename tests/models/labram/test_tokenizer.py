"""What only the tokenizer does."""

from __future__ import annotations

import pytest
import torch

from mne_labram.models.labram import LabramTokenizer

CH_NAMES = ["FP1", "CZ", "T7"]
TINY = {"embed_dim": 16, "num_layers": 1, "num_heads": 2, "decoder_layers": 1, "n_codes": 8, "code_dim": 4}


def _build(**changes) -> LabramTokenizer:
    torch.manual_seed(0)
    return LabramTokenizer(**{"ch_names": CH_NAMES, "n_times": 800, **TINY, **changes})


def _rhythms(n: int = 6, seed: int = 1) -> torch.Tensor:
    """Windows whose patches are one of four rhythms: something that codes can tell apart."""
    generator = torch.Generator().manual_seed(seed)
    kind = torch.randint(4, (n, 3, 4), generator=generator)
    time = torch.arange(200) / 200
    phase = 6.28 * torch.rand(n, 3, 4, 1, generator=generator)
    waves = 40 * torch.sin(6.2832 * torch.tensor([3.0, 8.0, 17.0, 35.0])[kind][..., None] * time + phase)
    return (waves + 2 * torch.randn(n, 3, 4, 200, generator=generator)).flatten(2), kind


def test_encode_leaves_the_mode_and_the_codebook_alone() -> None:
    model = _build(drop_prob=0.5).train()
    model.decoder.eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    x, _ = _rhythms()
    assert torch.equal(model.encode(x), model.encode(x))
    model.decode(model.encode(x))
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert model.training
    assert model.encoder.training
    assert not model.decoder.training
    assert not model.encode(x).requires_grad


def test_learns_to_tell_rhythms_apart() -> None:
    model = _build(target="log_amplitude", patch_embed="conv+spectrum", spatial="coordinates", warmup_steps=10)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    started, first, last = [], None, None
    for step in range(80):
        losses = model.training_step(_rhythms(12, seed=step)[0])
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        started.append(bool(losses["codebook_initialized"]))
        first, last = first or losses, losses
    assert not any(started[:10])
    assert all(started[11:])
    assert last["log_amplitude_loss"] < first["log_amplitude_loss"] - 0.03  # most of it is noise between the rhythms
    x, kind = _rhythms(40, seed=999)
    codes = model.eval().encode(x)
    # A code says which of the four rhythms it is, much better than chance.
    right = 0
    for code in codes.unique():
        right += int(kind[codes == code].bincount().max())
    assert right > 0.6 * kind.numel()
    usage = model.codebook_usage(codes)
    assert usage["n_used"] >= 4
    assert 1 < usage["perplexity"] <= usage["n_used"]
    assert model.codebook_usage()["n_codes"] == model.n_codes == 8


def test_reconstruction_is_what_the_codes_say() -> None:
    model = _build().eval()
    x, _ = _rhythms()
    parts = model.decode_spectra(model.encode(x))
    torch.testing.assert_close(torch.cat(list(parts.values()), dim=-1), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("target", ["amplitude+phase", "amplitude+sincos"])
def test_decode_to_a_signal(target: str) -> None:
    model = _build(target=target).eval()
    codes = model.encode(_rhythms()[0])
    x = model.decode(codes)
    assert x.shape == (6, 3, 800)
    assert torch.isfinite(x).all()
    assert torch.equal(model.decode(codes, 750), x[..., :750])
    for n_times in (600, 801):
        with pytest.raises(ValueError, match=f"4 patches hold 800 samples, not n_times={n_times}"):
            model.decode(codes, n_times)


def test_codes_without_phase_are_no_signal() -> None:
    model = _build(target="log_amplitude")
    with pytest.raises(ValueError, match="hold no phases"):
        model.decode(torch.zeros(1, 3, 4, dtype=torch.long))


def test_bad_codes() -> None:
    model = _build()
    for shape in ((1, 4), (1, 2, 4), (1, 3, 17), (1, 3, 0)):
        with pytest.raises(ValueError, match="Codes must have the shape"):
            model.decode_spectra(torch.zeros(shape, dtype=torch.long))
    with pytest.raises(ValueError, match="between 0 and 7"):
        model.decode_spectra(torch.full((1, 3, 4), 8))
    with pytest.raises(TypeError, match="must be integers"):
        model.decode_spectra(torch.zeros(1, 3, 4))


@pytest.mark.parametrize("target", ["amplitude+phase", "amplitude+sincos", "log_amplitude"])
def test_one_patch_of_one_channel(target: str) -> None:
    model = _build(target=target).bind_channels(["CZ"])
    x = _rhythms()[0][:, :1, :200]
    losses = model.training_step(x)
    assert torch.isfinite(losses["loss"])
    assert model.encode(x).shape == (6, 1, 1)
    assert model(x).shape == (6, 1, 1, sum(model.target.parts.values()))


def test_flat_windows_do_not_poison_the_loss() -> None:
    x, _ = _rhythms()
    x[0] = 0.0
    x[1, 1] = 5.0
    for target in ("amplitude+phase", "log_amplitude"):
        losses = _build(target=target).training_step(x)
        losses["loss"].backward()
        assert torch.isfinite(losses["loss"])


def test_loss_is_the_sum_of_its_parts() -> None:
    losses = _build(target="amplitude+sincos", kmeans_init=False).training_step(_rhythms()[0])
    parts = ("amplitude_loss", "sine_loss", "cosine_loss", "commitment_loss")
    torch.testing.assert_close(losses["loss"], sum(losses[name] for name in parts))
    assert losses["commitment_loss"].item() > 0
    assert 0 < float(losses["codebook_used"]) <= 1
    assert 1 <= float(losses["codebook_perplexity"]) <= 8


def test_evaluation_step_changes_nothing() -> None:
    model = _build(kmeans_init=False).eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    model.training_step(_rhythms()[0])
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    model.train().training_step(_rhythms()[0])
    changed = {name for name, value in model.state_dict().items() if not torch.equal(state[name], value)}
    assert {"quantizer.codebook", "quantizer.cluster_size", "target.mean", "target.n_updates"} <= changed


def test_batches_of_any_kind() -> None:
    model = _build(kmeans_init=False).eval()
    x, _ = _rhythms()
    expected = model.training_step(x)["loss"]
    for batch in ((x, torch.zeros(6)), [x], {"x": x}, {"x": x, "ch_names": CH_NAMES}):
        torch.testing.assert_close(model.training_step(batch)["loss"], expected)
    other = model.training_step({"x": x[:, :2], "ch_names": ["O1", "O2"]})["loss"]
    torch.testing.assert_close(other, model.bind_channels(["O1", "O2"]).training_step(x[:, :2])["loss"])
    for bad in ({"eeg": x}, [], "x", None):
        with pytest.raises(TypeError, match="A batch must be or hold a tensor"):
            model.training_step(bad)


def test_quantizer_is_exact_under_autocast() -> None:
    model = _build(kmeans_init=False).eval()
    x, _ = _rhythms()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(x, return_features=True)
    assert out["quantized"].dtype == torch.float32
    torch.testing.assert_close(out["quantized"], model.quantizer.codebook[out["codes"]], rtol=0, atol=1e-6)


def test_seed_of_the_codebook() -> None:
    assert torch.equal(_build(seed=3).quantizer.codebook, _build(seed=3).quantizer.codebook)
    assert not torch.equal(_build(seed=3).quantizer.codebook, _build(seed=4).quantizer.codebook)


def test_bad_sizes() -> None:
    with pytest.raises(ValueError, match="size must be one of 'small', 'base', 'large', got 'huge'"):
        _build(size="huge")
    with pytest.raises(ValueError, match="target must be one of"):
        _build(target="wavelet")
    with pytest.raises(ValueError, match="No Fourier bin"):
        _build(target="log_amplitude", target_band=(60.0, 40.0))
