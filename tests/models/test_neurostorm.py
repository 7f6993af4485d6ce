"""NeuroStorm: seconds, channels, amplitude, and where its encoder comes from. The rest: tests/models/common/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mne_labram import load_checkpoint, load_pretrained, save_checkpoint
from mne_labram.models import NeuroStorm
from mne_labram.nn.pooling import AttentionPooling

BANANA = ["FP1-F7", "F7-T7", "T7-P7", "P7-O1"]
TINY = {"embed_dim": 16, "num_layers": 2, "num_heads": 2}


def _model(**options: Any) -> NeuroStorm:
    torch.manual_seed(0)
    model = NeuroStorm(**{"ch_names": BANANA, "n_times": 800, **TINY, **options})
    # A fresh head says next to nothing.
    torch.nn.init.normal_(model.final_layer.weight)
    torch.nn.init.normal_(model.pool.score.weight)
    return model.eval()


def _x(n_chans: int = 4, n_times: int = 800) -> torch.Tensor:
    return 30 * torch.randn(2, n_chans, n_times, generator=torch.Generator().manual_seed(1))


def test_seconds_and_windows() -> None:
    model, x = _model(n_outputs=3), _x()
    logits = model.second_logits(x)
    assert logits.shape == (2, 4, 3)
    torch.testing.assert_close(model(x), logits.mean(dim=1))
    probabilities = model.second_probabilities(x)
    torch.testing.assert_close(probabilities.sum(dim=-1), torch.ones(2, 4))
    torch.testing.assert_close(probabilities, logits.softmax(dim=-1))
    # What happens in the last second is seen there first of all.
    changed = x.clone()
    changed[:, :, 600:] *= 5
    difference = (model.second_logits(changed) - logits).abs().mean(dim=(0, 2))
    assert difference.argmax() == 3
    with pytest.raises(ValueError, match="two outputs or more"):
        _model(n_outputs=1)
    with pytest.raises(ValueError, match="two outputs or more"):
        model.reset_head(1)
    with pytest.raises(ValueError, match="2 class names for n_outputs=3"):
        _model(n_outputs=3, class_names=["bckg", "sz"])


def test_class_names() -> None:
    assert _model().class_names == ["bckg", "sz"]
    assert _model(n_outputs=3).class_names is None
    typed = _model(class_names=["bckg", "sz_foc", "sz_gen"])
    assert typed.n_outputs == 3
    typed.reset_head(2)
    assert typed.class_names == ["bckg", "sz"]
    assert typed.get_config()["class_names"] is None
    unnamed = _model(n_outputs=3, detection={"parameters": {"threshold": 0.7}})
    unnamed.reset_head(2)
    assert unnamed.class_names == ["bckg", "sz"]
    # What was measured with the old head says nothing of a new one.
    assert unnamed.detection is unnamed.get_config()["detection"] is None


def test_relative_amplitude() -> None:
    """Neither the amplifier nor the unit matters; a bad electrode does not hide all others; silence is no error."""
    x = _x()
    relative, absolute = _model(amplitude="relative"), _model()
    torch.testing.assert_close(relative(7.3 * x), relative(x), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(absolute(7.3 * x), absolute(x), rtol=1e-2, atol=1e-2)
    bad = x.clone()
    bad[:, 0] *= 1000
    scaled, alone = relative._checked(bad), relative._checked(x)
    assert scaled[:, 1:].std() > alone[:, 1:].std() / 2
    assert torch.isfinite(relative(torch.zeros_like(x))).all()
    with pytest.raises(ValueError, match="amplitude must be one of"):
        _model(amplitude="microvolts")


def test_pooling_by_attention() -> None:
    torch.manual_seed(0)
    pool, x = AttentionPooling(6), torch.randn(2, 5, 6)
    torch.testing.assert_close(pool(x), x.mean(dim=1))
    torch.nn.init.normal_(pool.score.weight, std=3.0)
    weights = pool.weights(x)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2))
    torch.testing.assert_close(pool(x), torch.einsum("bn,bnd->bd", weights, x))
    assert not torch.allclose(pool(x), x.mean(dim=1), atol=1e-2)


def test_training_step() -> None:
    model, x = _model(n_outputs=3).train(), _x()
    y = torch.tensor([[0, 0, 1, 2], [-1, -1, -1, 0]])
    out = model.training_step({"x": x, "y": y})
    logits = model.second_logits(x)
    known = y >= 0
    expected = torch.nn.functional.cross_entropy(logits[known], y[known])
    torch.testing.assert_close(out["loss"], expected)
    found = logits.argmax(dim=-1) > 0
    assert float(out["sensitivity"]) == pytest.approx(float(found[y > 0].float().mean()))
    assert float(out["specificity"]) == pytest.approx(float((~found)[y == 0].float().mean()))
    out["loss"].backward()
    assert model.final_layer.weight.grad.abs().sum() > 0
    # A seizure of unknown type counts for any of them, and for none in particular.
    untyped = model.training_step({"x": x, "y": torch.full((2, 4), -2)})
    expected = -(1 - logits.softmax(dim=-1)[..., 0]).log().mean()
    torch.testing.assert_close(untyped["loss"], expected)
    assert float(untyped["sensitivity"]) == pytest.approx(float(found.float().mean()))
    two = _model().train()
    same = [two.training_step({"x": x, "y": torch.full((2, 4), label)})["loss"] for label in (1, -2)]
    torch.testing.assert_close(same[0], same[1])
    # Another montage, of the same parameters.
    other = model.training_step({"x": _x(3), "y": y, "ch_names": ["Fp1", "Cz", "T3"], "positions": None})
    assert torch.isfinite(other["loss"])
    with pytest.raises(ValueError, match=r"Classes have the shape \(2, 3\); one for each patch is \(2, 4\)"):
        model.training_step({"x": x, "y": y[:, :3]})
    with pytest.raises(ValueError, match="no patch"):
        model.training_step({"x": x, "y": torch.full((2, 4), -1)})


def test_encoders_that_it_can_have(tmp_path: Path) -> None:
    torch.manual_seed(0)
    body = load_pretrained("labram-tiny")
    model = NeuroStorm.from_encoder(body, detection={"parameters": {"threshold": 0.7}})
    assert model.ch_names == body.ch_names
    assert model.contract.montages == ("referential", "bipolar")
    x = _x(len(body.ch_names))
    torch.testing.assert_close(model.eval().embed(x), body.embed(x))
    save_checkpoint(model, tmp_path / "m.safetensors")
    again = load_checkpoint(tmp_path / "m.safetensors", ch_names=BANANA)
    assert again.detection == {"parameters": {"threshold": 0.7}}
    again.detection = {"parameters": {"threshold": 0.9}}
    assert again.bind_channels(["Fp1-F3"]).detection == again.get_config()["detection"] == again.detection
    save_checkpoint(again, tmp_path / "other.safetensors")
    assert load_checkpoint(tmp_path / "other.safetensors").detection == {"parameters": {"threshold": 0.9}}
    assert torch.equal(again.second_logits(_x()), model.bind_channels(BANANA).second_logits(_x()))
