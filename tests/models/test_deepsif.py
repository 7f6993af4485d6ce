"""DeepSIF as published, but for the scale; of one head and no other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mne_labram.models import DeepSIF
from mne_labram.signal.contract import ContractError
from mne_labram.weights import load_checkpoint, save_checkpoint

NAMES = ["Fp1", "Fp2", "C3", "C4", "Pz", "O1", "O2", "EEG 064"]
SMALL = {"n_sources": 12, "hidden_dim": 16, "num_layers": 2, "sfreq": 100.0}


def _model(**changes: object) -> DeepSIF:
    torch.manual_seed(0)
    return DeepSIF(ch_names=NAMES, **{**SMALL, **changes}).eval()


@pytest.fixture
def leadfield() -> Tensor:
    return torch.randn(8, 12, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


@pytest.fixture
def x() -> Tensor:
    return 20 * torch.randn(3, 8, 50, generator=torch.Generator().manual_seed(1))


def _published(x: Tensor, state: dict[str, Tensor], n_sources: int, num_layers: int) -> Tensor:
    """Do what the authors' files do with a window, from the reference notes: (batch, n_sources, n_times), no scale."""
    x = x - x.mean(dim=2, keepdim=True)
    x = x - x.mean(dim=1, keepdim=True)
    x = (x / x.abs().amax(dim=(1, 2), keepdim=True)).transpose(1, 2)

    def linear(name: str, h: Tensor) -> Tensor:
        return h @ state[f"spatial.{name}.weight"].T + state[f"spatial.{name}.bias"]

    f = nn.functional.elu
    x = f(linear("fc12", f(linear("fc11", x))) + x)
    x = f(linear("fc22", f(linear("fc21", x))) + linear("fc23", x))
    x = f(linear("value", x))
    lstm = nn.LSTM(x.shape[2], n_sources, num_layers=num_layers, batch_first=True)
    lstm.load_state_dict(
        {name.removeprefix("temporal.rnns.0."): value for name, value in state.items() if "rnns" in name}
    )
    return lstm(x)[0].transpose(1, 2)


def _official(n_chans: int = 8, hidden: int = 16, n_sources: int = 12, num_layers: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    shapes = {"fc11": (n_chans, n_chans), "fc12": (n_chans, n_chans), "fc21": (hidden, n_chans)}
    shapes |= {"fc22": (hidden, hidden), "fc23": (hidden, n_chans), "value": (hidden, hidden)}
    state = {}
    for name, shape in shapes.items():
        state[f"spatial.{name}.weight"] = 0.3 * torch.randn(shape, generator=generator)
        state[f"spatial.{name}.bias"] = 0.1 * torch.randn(shape[0], generator=generator)
    for layer in range(num_layers):
        width = n_sources if layer else hidden
        for kind, size in (("ih", width), ("hh", n_sources)):
            key = f"temporal.rnns.0.{{}}_{kind}_l{layer}"
            state[key.format("weight")] = 0.3 * torch.randn(4 * n_sources, size, generator=generator)
            state[key.format("bias")] = 0.1 * torch.randn(4 * n_sources, generator=generator)
    return state


def test_the_default_is_the_published_size() -> None:
    with torch.device("meta"):
        model = DeepSIF(ch_names=[f"E{i}" for i in range(75)])
    # As measured of the authors' network (reference notes, 1.5).
    assert round(sum(each.numel() for each in model.parameters()) / 1e6, 2) == 22.36
    assert isinstance(model.final_layer, nn.Identity)
    assert model.contract.sfreq == 500
    assert model(torch.empty(1, 75, 9, device="meta")).shape == (1, 994, 9)


def test_official_weights_do_what_they_do_there(x: Tensor, leadfield: Tensor) -> None:
    state = _official()
    model = DeepSIF.from_official(state, ch_names=NAMES).eval()
    assert (model.n_sources, model.temporal.num_layers, model.spatial.fc21.out_features) == (12, 2, 16)
    expected = _published(x, state, 12, 2)
    torch.testing.assert_close(model(x), expected)
    # From DataParallel, and with a head.
    again = DeepSIF.from_official({f"module.{name}": value for name, value in state.items()}, ch_names=NAMES)
    torch.testing.assert_close(again.eval()(x), expected)
    scaled = DeepSIF.from_official(state, ch_names=NAMES, leadfield=leadfield).eval()(x)
    ratio = scaled / expected
    torch.testing.assert_close(ratio, ratio[:, :1, :1].expand_as(ratio), rtol=1e-3, atol=0)


def test_official_weights_fit_or_are_refused() -> None:
    state = _official()
    for change, words in (
        ({"spatial.fc22.weight": None}, "spatial.fc22.weight"),
        ({"spatial.fc21.weight": None}, "no weights of DeepSIF"),
        ({"spatial.fc99.weight": torch.zeros(2, 2)}, "spatial.fc99.weight"),
        ({"spatial.value.bias": torch.full((16,), torch.nan)}, "spatial.value.bias"),
    ):
        other = {name: value for name, value in {**state, **change}.items() if value is not None}
        with pytest.raises(ValueError, match=words) as error:
            DeepSIF.from_official(other, ch_names=NAMES)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="shape"):
        DeepSIF.from_official(state, ch_names=NAMES[:5])
    with pytest.raises(TypeError, match="must map names to tensors"):
        DeepSIF.from_official([1], ch_names=NAMES)


@pytest.mark.parametrize("lstm_dim", [None, 6])
def test_what_the_window_is_in_does_not_matter(x: Tensor, leadfield: Tensor, lstm_dim: int | None) -> None:
    model = _model(lstm_dim=lstm_dim)
    plain = model(x)
    assert plain.shape == (3, 12, 50)
    assert not model.has_scale
    # Reference, offsets of single channels, and size: all lost.
    torch.testing.assert_close(model(x + torch.randn(3, 1, 50)), plain, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model(x + torch.randn(3, 8, 1)), plain, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model(7 * x), plain, atol=1e-5, rtol=1e-4)
    # With a leadfield the size is back.
    model.set_leadfield(leadfield)
    assert model.has_scale
    torch.testing.assert_close(model(7 * x), 7 * model(x), rtol=1e-4, atol=1e-5)


def test_sources_get_the_scale_that_explains_the_window(x: Tensor, leadfield: Tensor) -> None:
    model = _model().set_leadfield(leadfield)
    gain = (leadfield - leadfield.mean(dim=0)).float()
    found = model(x)
    shown = gain @ (found - found.mean(dim=2, keepdim=True))
    window = x - x.mean(dim=2, keepdim=True)
    window = window - window.mean(dim=1, keepdim=True)
    # No other factor leaves less: what is left is orthogonal to what is explained.
    left = (window - shown).flatten(1)
    cosine = (left * shown.flatten(1)).sum(dim=1) / (left.norm(dim=1) * shown.flatten(1).norm(dim=1))
    assert cosine.abs().max() < 1e-4
    # The reference of the leadfield is none of it.
    other = _model().set_leadfield(leadfield + torch.randn(1, 12, dtype=torch.float64))
    torch.testing.assert_close(other(x), found, rtol=1e-3, atol=1e-4)
    # Nothing is nothing, and no division by it.
    assert torch.equal(model(torch.zeros(1, 8, 50)), torch.zeros(1, 12, 50))


def test_a_network_that_is_right_gives_moments(leadfield: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the shape of the sources right, so would be their size in nAm."""
    model = _model().set_leadfield(leadfield)
    true = torch.zeros(2, 12, 50)
    true[:, 3] = 80 * torch.sin(torch.arange(50) / 4)
    true[1] *= -0.5
    monkeypatch.setattr(model, "_sources", lambda hidden: true / 80)
    found = model(leadfield.float() @ true)
    torch.testing.assert_close(found, true, rtol=1e-3, atol=1e-3)


def test_absent_channels(x: Tensor, leadfield: Tensor) -> None:
    model = _model().set_leadfield(leadfield)
    visible = torch.ones(3, 8)
    visible[:, 2] = 0.0
    spoilt = x.clone()
    spoilt[:, 2] = 1e4
    torch.testing.assert_close(model(spoilt, visible=visible), model(x, visible=visible), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(model(x, visible=visible), model(x), rtol=1e-2)
    with pytest.raises(ValueError, match="visible must have the shape"):
        model(x, visible=visible[:, :4])


def test_the_loss_is_the_published_one(x: Tensor) -> None:
    model = _model()
    sources = torch.zeros(3, 12, 50)
    # Negative where the largest value is: the published scaling would make 20 of it.
    sources[0, 4], sources[1, 7, 10:20] = -40.0, 3.0
    sources[0, 5, 0] = 2.0
    out = model.training_step({"x": x, "sources": sources, "active": sources.any(dim=2), "noise_covariance": None})
    wanted = sources.clone()
    wanted[0] /= 40.0
    wanted[1] /= 3.0
    expected = (model(x) - wanted).square().sum(dim=(1, 2))
    torch.testing.assert_close(out["loss"], expected.mean())
    torch.testing.assert_close(out["error"], (expected.sum() / wanted.square().sum()).detach())
    assert out["loss"].requires_grad
    assert not out["error"].requires_grad
    for batch, words in ((x, "whose sources are known"), ({"x": x, "sources": sources[:, :4]}, "must have the shape")):
        with pytest.raises(ValueError, match=words):
            model.training_step(batch)


def test_files_hold_the_head(tmp_path: Path, x: Tensor, leadfield: Tensor) -> None:
    model = _model(lstm_dim=5).set_leadfield(leadfield)
    path = save_checkpoint(model, tmp_path / "deepsif.safetensors")
    again = load_checkpoint(path)
    assert isinstance(again, DeepSIF)
    assert torch.equal(again(x), model(x))
    assert again.ch_names == ["FP1", "FP2", "C3", "C4", "PZ", "O1", "O2", "EEG 064"]
    assert again.contract.sfreq == 100
    again.check_head(leadfield.numpy(), NAMES)
    assert load_checkpoint(path, ch_names=NAMES).n_sources == 12
    with pytest.raises(ContractError, match="for 8 channels"):
        load_checkpoint(path, ch_names=NAMES[:4])
    with pytest.raises(ValueError, match="shape"):
        again.set_leadfield(leadfield[:, :4])


def test_other_heads_are_refused_in_a_sentence(leadfield: Tensor) -> None:
    model = _model().set_leadfield(leadfield)
    head = leadfield.numpy()
    model.check_head(head, NAMES)
    model.check_head(head + 3.0, NAMES)
    assert model.bind_channels([name.upper() for name in NAMES]) is model
    for array, names, words in (
        (head, NAMES[::-1], "in their order"),
        (head, [*NAMES[:7], "T7"], "for 8 channels"),
        (head[:7], NAMES[:7], "got 7"),
        (head[:, :9], NAMES, "for 12 sources and the head has 9"),
        (1.01 * head, NAMES, "another leadfield"),
    ):
        with pytest.raises(ContractError, match=words) as error:
            model.check_head(array, names)
        assert str(error.value).endswith("train it for this one.")
        assert "\n" not in str(error.value)
    # Where none was given, none is compared.
    _model().check_head(1.01 * head, NAMES)


def test_what_makes_no_model(x: Tensor, leadfield: Tensor) -> None:
    for change, words in (
        ({"ch_names": None}, "must know its channels"),
        ({"ch_names": []}, "at least one channel"),
        ({"ch_names": ["Fp1", "FP1"]}, "FP1 occurs more than once"),
        ({"n_chans": 3}, "8 channel names for n_chans=3"),
        ({"n_sources": 0}, "n_sources must be at least 1"),
        ({"lstm_dim": 0}, "lstm_dim must be at least 1"),
        ({"chs_info": [{"ch_name": "Fp1"}]}, "chs_info is of 1"),
    ):
        with pytest.raises(ValueError, match=words):
            DeepSIF(**{"ch_names": NAMES, **SMALL, **change})
    with pytest.raises(TypeError, match="got one string"):
        DeepSIF(ch_names="Fp1", **SMALL)
    model = _model()
    for other in (leadfield.T, torch.full((8, 12), torch.nan), torch.zeros(8, 12)):
        with pytest.raises(ValueError, match="The leadfield must have the shape"):
            model.set_leadfield(other)
    assert not model.has_scale
    with pytest.raises(ValueError, match="Input must have the shape"):
        model(x[:, :5])
    with pytest.raises(ValueError, match="pooling must be"):
        model.embed(x, "max")
    assert model.embed(x).shape == (3, 16)
    torch.testing.assert_close(model.embed(x, "tokens").mean(dim=1), model.embed(x))
