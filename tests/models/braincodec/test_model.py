"""BrainCodec: lengths, levels, bitrates, training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mne_labram.models import BrainCodec
from mne_labram.models.braincodec import encoding
from mne_labram.signal.contract import SignalContract

_TINY = {"ratios": [2, 4], "n_filters": 2, "max_filters": 4, "dim": 8, "n_codebooks": 3, "codebook_size": 8}


def _codec(**changes: Any) -> BrainCodec:
    torch.manual_seed(0)
    return BrainCodec(**{**_TINY, "kmeans_init": False, **changes}).eval()


def _x(*shape: int, seed: int = 0) -> torch.Tensor:
    return 30 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_published_configuration() -> None:
    with torch.device("meta"):
        model = BrainCodec(sfreq=512, n_times=2048, n_chans=1).eval()
        assert sum(p.numel() for p in model.encoder.parameters()) == 1_055_432
        assert sum(p.numel() for p in model.decoder.parameters()) == 1_055_369
        assert model(torch.empty(2, 1, 2048)).shape == (2, 1, 2048)
        assert model.latents(torch.empty(2, 1, 2048)).shape == (2, 1, 32, 64)
    assert (model.stride, model.n_codebooks, model.n_codes) == (64, 4, 256)
    assert model.quantizer.codebooks.shape == (4, 256, 64)
    # 4 codes of 8 bits, 8 times a second.
    assert model.bits_per_second == model.bitrate(4) == 256.0
    assert model.bitrate(1) == 64.0
    contract = model.contract
    assert (contract.sfreq, contract.l_freq, contract.h_freq, contract.notch) == (512, None, None, False)


@settings(max_examples=40)
@given(
    n_times=st.integers(1, 60),
    n_chans=st.integers(1, 5),
    n_used=st.integers(1, 3),
    gain=st.booleans(),
    linear_path=st.booleans(),
)
def test_any_length_and_number_of_channels(
    n_times: int, n_chans: int, n_used: int, gain: bool, linear_path: bool
) -> None:
    model = _codec(gain=gain, linear_path=linear_path)
    x = _x(2, n_chans, n_times)
    codes, gains = model.codes(x, n_used)
    n_frames = -(-n_times // 8)
    assert codes.shape == (2, n_chans, n_frames, n_used)
    assert codes.dtype == torch.int64
    assert (gains is None) != gain
    out = model.decode(codes, n_times, gains)
    assert out.shape == x.shape
    assert bool(torch.isfinite(out).all())
    whole = model.decode(codes, gains=gains)
    assert whole.shape == (2, n_chans, 8 * n_frames)
    assert torch.equal(whole[..., :n_times], out)
    if n_used == 3:
        torch.testing.assert_close(model(x), out)


@pytest.mark.parametrize("gain", [False, True])
@pytest.mark.parametrize("n_times", [1, 8, 100, 801])
def test_the_linear_path_loses_nothing_at_first(n_times: int, gain: bool) -> None:
    model = _codec(linear_path=True, gain=gain, kmeans_init=True)
    x = _x(2, 3, n_times)
    latents = model.latents(x)
    out = model._signal(latents, n_times) * model._normalized(x)[1].unsqueeze(2)
    torch.testing.assert_close(out, x, rtol=0, atol=1e-4)
    # In training, latents pass unquantised until there are enough of them for k-means.
    losses = model.train().training_step(x[:, :, :1])
    assert float(losses["prd"]) < 1e-3
    assert not bool(losses["codebook_initialized"])


def test_every_channel_is_coded_by_itself() -> None:
    model = _codec(linear_path=True, gain=True)
    x = _x(2, 3, 77)
    codes = model.encode(x)
    changed = x.clone()
    changed[0, 1] *= -2
    other = model.encode(changed)
    assert not torch.equal(other[0, 1], codes[0, 1])
    other[0, 1] = codes[0, 1]
    assert torch.equal(other, codes)
    torch.testing.assert_close(model.latents(x)[:, 2:], model.latents(x[:, 2:]), rtol=0, atol=1e-5)


def test_fewer_codebooks_are_a_prefix() -> None:
    model = _codec()
    x = _x(1, 2, 64)
    assert torch.equal(model.encode(x, 2), model.encode(x)[..., :2])
    features = model(x, return_features=True)
    assert torch.equal(features["codes"], model.encode(x))
    assert features["quantized"].shape == (1, 2, 8, 8)
    assert torch.equal(features["features"], model.latents(x).flatten(1, 2))
    assert torch.equal(features["reconstruction"], model(x))
    for n in (0, 4):
        with pytest.raises(ValueError, match="There are 3 codebooks"):
            model.encode(x, n)


@pytest.mark.parametrize("gain", [False, True])
def test_constant_and_extreme_channels(gain: bool) -> None:
    model = _codec(gain=gain, linear_path=True)
    x = _x(1, 7, 100)
    x[0, 0], x[0, 1], x[0, 2] = 0.0, 5.0, -3e5
    x[0, 3] *= 1e-7
    x[0, 4] *= 1e7
    x[0, 5, 50:] = 0.0
    codes, gains = model.codes(x)
    out = model.decode(codes, 100, gains)
    assert bool(torch.isfinite(out).all())
    if gain:
        rms = x[0].double().square().mean(dim=1).sqrt()
        np.testing.assert_allclose(gains[0].numpy(), rms.clamp_min(1e-3).numpy(), rtol=1e-5)


def test_levels_are_taken_out() -> None:
    """With gain, a signal ten times as large has the same codes, and its error is ten times as large."""
    model = _codec(gain=True, linear_path=True)
    x = _x(1, 2, 96)
    small, large = model.codes(x), model.codes(10 * x)
    assert torch.equal(small.codes, large.codes)
    torch.testing.assert_close(large.gains, 10 * small.gains)
    torch.testing.assert_close(model.decode(large.codes, 96, large.gains), 10 * model.decode(*small[:1], 96, small[1]))


def test_input_scale_is_inside() -> None:
    """Microvolts go in and come out, whatever the unit inside."""
    one, ten = _codec(), _codec(input_scale=10.0)
    x = _x(1, 2, 50)
    assert torch.equal(ten.encode(10 * x), one.encode(x))
    torch.testing.assert_close(ten(10 * x), 10 * one(x))
    assert ten.contract.scale == 10.0


def test_pieces_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _codec(linear_path=True, gain=True)
    x = _x(2, 9, 40)
    with torch.no_grad():
        whole = model(x)
        codes = model.codes(x)
        rows = []
        run = model._encode_rows
        monkeypatch.setattr(encoding, "_SAMPLES_AT_ONCE", 100)
        monkeypatch.setattr(model, "_encode_rows", lambda x: (rows.append(len(x)), run(x))[1])
        torch.testing.assert_close(model(x), whole, rtol=0, atol=1e-4)
        assert rows == [2] * 9
        assert torch.equal(model.codes(x).codes, codes.codes)
    # A gradient needs all of it anyway.
    rows.clear()
    assert model(x).requires_grad
    assert rows == [18]


def test_decode_refuses_what_does_not_fit() -> None:
    model, levelled = _codec(), _codec(gain=True)
    x = _x(1, 2, 20)
    codes = model.encode(x)
    for bad, words in (
        (codes[0], "Codes must have the shape"),
        (codes[:, :, :0], "Codes must have the shape"),
        (torch.zeros(1, 2, 3, 4, dtype=torch.long), "Codes must have the shape .* 1 to 3 codebooks"),
        (codes + 8, "Codes must lie between 0 and 7"),
        (codes - 8, "Codes must lie between 0 and 7"),
    ):
        with pytest.raises(ValueError, match=words):
            model.decode(bad)
    with pytest.raises(TypeError, match="Codes must be integers"):
        model.decode(codes.float())
    for n_times in (16, 25):
        with pytest.raises(ValueError, match=f"3 frames hold 24 samples, not n_times={n_times}"):
            model.decode(codes, n_times)
    with pytest.raises(ValueError, match="decode without gains"):
        model.decode(codes, 20, torch.ones(1, 2))
    for gains, words in (
        (None, "pass the gains that codes"),
        (torch.ones(2, 1), r"gains must have the shape \(1, 2\), got \(2, 1\)"),
        (torch.tensor([[1.0, torch.nan]]), "gains must be positive and finite"),
        (torch.tensor([[1.0, 0.0]]), "gains must be positive and finite"),
    ):
        with pytest.raises(ValueError, match=words):
            levelled.decode(codes, 20, gains)


def test_input_that_is_no_window() -> None:
    model = _codec()
    for bad in (_x(2, 10), _x(1, 0, 10), _x(1, 2, 0)):
        with pytest.raises(ValueError, match="Input must have the shape|at least one channel of one sample"):
            model(bad)
    assert model(_x(0, 2, 10)).shape == (0, 2, 10)


def test_arguments_that_contradict() -> None:
    for change, words in (
        ({"ch_names": ["Fp1"], "n_chans": 2}, "1 channel names for 2 channels"),
        ({"input_scale": 0.0}, "input_scale must be positive"),
        ({"linear_path": True, "ratios": [3]}, "needs an even stride, got 3"),
        ({"ratios": []}, "at least one stride"),
        ({"sfreq": 200, "contract": {"sfreq": 256}}, "The contract says 256 Hz and sfreq 200 Hz"),
        ({"contract": {"h_freq": 120.0}}, "below half of sfreq"),
        ({"contract": {"low": 1}}, "Unknown fields in a signal contract: low"),
        ({"codebook_size": 1}, "at least 1 codebook of 2 codes"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            _codec(**change)
        assert "\n" not in str(error.value)
    for call in (lambda: _codec(ch_names="Fp1"), lambda: _codec().bind_channels("Fp1")):
        with pytest.raises(TypeError, match="got one string"):
            call()


def test_rate_and_contract() -> None:
    assert _codec().sfreq == _codec().contract.sfreq == 200.0
    prepared = SignalContract(name="ours", sfreq=256.0, l_freq=0.5, h_freq=100.0, montages=("referential",))
    model = _codec(contract=prepared)
    assert model.sfreq == 256.0
    assert model.contract == SignalContract(
        name="ours",
        sfreq=256.0,
        l_freq=0.5,
        h_freq=100.0,
        scale=1.0,
        patch_samples=1,
        max_patches=1_000_000,
        vocabulary=None,
        montages=("referential",),
    )
    again = BrainCodec.from_config(model.get_config())
    assert again.contract == model.contract


def test_names_are_kept_whatever_they_are() -> None:
    model = _codec(ch_names=["EEG Fp1-REF", "LA1", "F7-T7", "a b", "LA1"])
    assert model.ch_names == ["FP1", "LA1", "F7-T7", "a b", "LA1"]
    assert model.bind_channels(["A1", "A2"]).ch_names == ["A1", "A2"]
    assert _codec().ch_names == []
    assert _codec(n_chans=3).get_output_shape is not None
    assert _codec(n_chans=3, n_times=17).get_output_shape() == (1, 3, 17)


def test_embeddings() -> None:
    model = _codec()
    x = _x(2, 3, 40)
    torch.testing.assert_close(model.embed(x), model.latents(x).mean(dim=(1, 2)))
    assert torch.equal(model.embed(x, "tokens"), model.latents(x))
    with pytest.raises(ValueError, match="there is no CLS token"):
        model.embed(x, "cls")


def test_coding_changes_nothing() -> None:
    model = _codec(drop_prob=0.5).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = _x(2, 3, 40)
    assert torch.equal(model.encode(x), model.encode(x))
    assert torch.equal(model.decode(model.encode(x)), model.decode(model.encode(x)))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert model.encoder.training


def test_training_makes_a_codec() -> None:
    """A sine with noise: after some steps, its codes say more about it than zeros would."""
    torch.manual_seed(0)
    model = BrainCodec(**_TINY, gain=True, linear_path=True).train()
    time = torch.arange(160) / 200
    generator = torch.Generator().manual_seed(0)

    def batch() -> torch.Tensor:
        phase = 6.3 * torch.rand(8, 2, 1, generator=generator)
        return 50 * torch.sin(2 * torch.pi * 10 * time + phase)

    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        losses = model.training_step({"x": batch(), "ch_names": ["Fp1", "Fp2"]})
        losses["loss"].backward()
        optimizer.step()
    assert bool(losses["codebook_initialized"])
    x = batch()
    codes, gains = model.eval().codes(x)
    error = model.decode(codes, 160, gains) - x
    assert float(error.square().sum() / x.square().sum()) < 0.05
    usage = model.codebook_usage(codes)
    assert len(usage) == 3
    assert usage[0]["n_used"] > 4
    assert model.bits_per_second == 3 * 3 * 200 / 8
