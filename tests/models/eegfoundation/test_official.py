from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mne_labram._compat import repair_torchaudio
from mne_labram.models.eegfoundation import EEGFoundationForClassification, EEGFoundationForMaskedModeling
from mne_labram.models.eegfoundation.levels import CLS, N_CODES

repair_torchaudio()  # transformers imports it

from transformers import RoFormerConfig, RoFormerForMaskedLM, RoFormerModel  # noqa: E402

CH_NAMES = ["Fp1", "Cz", "O2"]


def _config(**changes: Any) -> RoFormerConfig:
    numbers = {"vocab_size": N_CODES, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes = {"intermediate_size": 48, "max_position_embeddings": 300, "pad_token_id": 2002}
    return RoFormerConfig(**{**numbers, **sizes, **changes})


def _spread(model: torch.nn.Module) -> torch.nn.Module:
    """Give every parameter a value of its own, so that none can be left out unseen."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embed_positions" not in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture(scope="module")
def roformer() -> RoFormerForMaskedLM:
    torch.manual_seed(0)
    return _spread(RoFormerForMaskedLM(_config()))


def _ours(state: dict[str, torch.Tensor], **options: Any) -> EEGFoundationForMaskedModeling:
    return EEGFoundationForMaskedModeling.from_official(state, ch_names=CH_NAMES, n_times=200, **options).eval()


def _x() -> torch.Tensor:
    return 30 * torch.randn(2, 3, 200, generator=torch.Generator().manual_seed(2))


def test_hidden_states_and_logits_are_those_of_hugging_face(roformer: RoFormerForMaskedLM) -> None:
    model = _ours(roformer.state_dict())
    codes = model.quantizer.encode(_x())
    with torch.inference_mode():
        theirs = roformer(codes.flatten(0, 1), output_hidden_states=True)
        ours = model.embed(_x(), "tokens").flatten(0, 1)
        torch.testing.assert_close(ours, theirs.hidden_states[-1], rtol=0, atol=1e-5)
        torch.testing.assert_close(model(_x()).flatten(0, 1), theirs.logits, rtol=1e-5, atol=1e-5)
        # Before every channel, as for the published embeddings.
        with_cls = torch.nn.functional.pad(codes.flatten(0, 1), (1, 0), value=CLS)
        wanted = roformer.roformer(with_cls).last_hidden_state[:, 0].unflatten(0, (2, 3)).mean(1)
        torch.testing.assert_close(model.embed(_x(), "cls"), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("prefix", ["", "roformer.", "model.roformer.", "module."])
def test_encoder_alone(prefix: str) -> None:
    torch.manual_seed(0)
    theirs = _spread(RoFormerModel(_config()))
    model = _ours({prefix + name: value for name, value in theirs.state_dict().items()})
    codes = model.quantizer.encode(_x()).flatten(0, 1)
    with torch.inference_mode():
        wanted = theirs(codes).last_hidden_state
        torch.testing.assert_close(model.embed(_x(), "tokens").flatten(0, 1), wanted, rtol=0, atol=1e-5)


def test_one_matrix_as_head() -> None:
    torch.manual_seed(0)
    theirs = _spread(RoFormerModel(_config()))
    head = torch.randn(N_CODES, 32)
    state = {f"roformer.{name}": value for name, value in theirs.state_dict().items()}
    model = _ours({**state, "lm_head.weight": head})
    with torch.inference_mode():
        wanted = model.embed(_x(), "tokens") @ head.T
        torch.testing.assert_close(model(_x()), wanted, rtol=1e-4, atol=1e-4)


def test_heads_without_the_table_of_positions(roformer: RoFormerForMaskedLM) -> None:
    state = {name: value for name, value in roformer.state_dict().items() if "embed_positions" not in name}
    model = _ours(state, num_heads=4)
    torch.testing.assert_close(model(_x()), _ours(roformer.state_dict())(_x()))
    # Heads of 64 in every published configuration.
    assert _ours(state).encoder.head_dim == 32


def test_files_of_transformers_hold_tied_tensors_once(roformer: RoFormerForMaskedLM, tmp_path: Path) -> None:
    roformer.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    assert "cls.predictions.decoder.weight" not in state
    with torch.inference_mode():
        expected = _ours(roformer.state_dict())(_x())
        assert torch.equal(_ours(state)(_x()), expected)
        # Whichever of the two names the bias has.
        state["cls.predictions.decoder.bias"] = roformer.cls.predictions.bias
        state.pop("cls.predictions.bias", None)
        assert torch.equal(_ours(state)(_x()), expected)


def test_ours_beside_theirs(roformer: RoFormerForMaskedLM) -> None:
    model = _ours(roformer.state_dict(), fusion_layers=1, spectral_weight=1.0)
    assert torch.isfinite(model.training_step(_x())["loss"])
    assert torch.equal(model.encoder.blocks[1].mlp.fc2.bias, roformer.roformer.encoder.layer[1].output.dense.bias)


def test_what_does_not_fit(roformer: RoFormerForMaskedLM) -> None:
    state = dict(roformer.state_dict())
    layer = "roformer.encoder.layer.0."

    def without(name: str) -> dict[str, torch.Tensor]:
        return {key: value for key, value in state.items() if key != name}

    cases = [
        (without(f"{layer}output.dense.bias"), "1 tensor is missing"),
        (without(f"{layer}attention.self.key.bias"), "missing"),
        ({**state, "roformer.pooler.dense.weight": torch.ones(2)}, "1 tensor is unknown to the model"),
        ({**state, f"{layer}output.dense.bias": torch.ones(3)}, "another shape"),
        ({**state, f"{layer}output.dense.bias": torch.full((32,), torch.nan)}, "holds NaN"),
        (without("roformer.embeddings.word_embeddings.weight"), "no weights of a RoFormer"),
        ({**state, "roformer.embeddings.word_embeddings.weight": torch.ones(7)}, "must have 2 axes"),
        ({**state, "roformer.embeddings.word_embeddings.weight": torch.ones(50000, 32)}, "vocabulary of 50000 codes"),
        ({**state, "roformer.embeddings_project.weight": torch.ones(2, 2)}, "is not supported"),
        ({key.replace("layer.0", "layer.7"): value for key, value in state.items()}, "numbered from 0 without a gap"),
        ({**state, "step": 3}, "are no tensors: step"),
    ]
    for given, words in cases:
        with pytest.raises(ValueError, match=words) as error:
            _ours(given)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="have 4 attention heads, not num_heads=2"):
        _ours(state, num_heads=2)
    with pytest.raises(ValueError, match="have embed_dim=32, not 64"):
        _ours(state, embed_dim=64)
    with pytest.raises(TypeError, match="maps names to tensors"):
        _ours([1, 2])


def test_classifier(roformer: RoFormerForMaskedLM) -> None:
    options = {"ch_names": CH_NAMES, "n_times": 200, "amplitude": "mulaw", "pooling": "attention", "head_dim": 16}
    model = EEGFoundationForClassification.from_official(
        roformer.state_dict(), class_names=["a", "b", "c"], drop_prob=0.2, **options
    ).eval()
    assert model(_x()).shape == (2, 3)
    assert (model.pooling, model.quantizer.amplitude, model.encoder.embed_drop.p) == ("attention", "mulaw", 0.2)
    with torch.inference_mode():
        assert torch.equal(model.embed(_x()), _ours(roformer.state_dict(), amplitude="mulaw").embed(_x()))
    with pytest.raises(ValueError, match="have no classes; give n_outputs"):
        EEGFoundationForClassification.from_official(roformer.state_dict(), **options)
    with pytest.raises(ValueError, match="have embed_dim=32, not 64"):
        EEGFoundationForClassification.from_official(roformer.state_dict(), n_outputs=2, embed_dim=64, **options)


def test_published_sizes() -> None:
    with torch.device("meta"):
        base = EEGFoundationForMaskedModeling(ch_names=["Cz"])
        student = EEGFoundationForMaskedModeling(ch_names=["Cz"], size="student")
    counts = {
        name: sum(p.numel() for p in model.encoder.parameters()) for name, model in {"b": base, "s": student}.items()
    }
    # Those of transformers' RoFormerModel, less the second row of its token types and its table of 2000 positions.
    assert counts == {"b": 86_726_144 - 768 - 2000 * 64, "s": 38_985_728 - 512 - 2000 * 64}
