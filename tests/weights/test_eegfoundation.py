"""RoFormer weights of EEGFoundation: recognised, converted, and refused in words that name every system."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mne_labram._compat import repair_torchaudio
from mne_labram.commands.main import convert
from mne_labram.models import EEGFoundationForClassification, EEGFoundationForMaskedModeling
from mne_labram.models.eegfoundation.levels import N_CODES
from mne_labram.models.eegfoundation.published import PublishedConfig, PublishedDownstream
from mne_labram.weights import convert_official, describe_checkpoint, load_checkpoint, read_official_checkpoint
from mne_labram.weights.official import OFFICIAL_KINDS, official_kind

from .hostile import ATTACKS

repair_torchaudio()  # transformers imports it

from transformers import RoFormerConfig, RoFormerForMaskedLM, RoFormerModel  # noqa: E402

NAMES = ["FP1", "CZ", "O2"]


def _config(**changes: int) -> RoFormerConfig:
    numbers = {"vocab_size": N_CODES, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes = {"intermediate_size": 48, "max_position_embeddings": 500, "pad_token_id": 2002}
    return RoFormerConfig(**{**numbers, **sizes, **changes})


@pytest.fixture(scope="module")
def roformer() -> RoFormerForMaskedLM:
    torch.manual_seed(0)
    return RoFormerForMaskedLM(_config()).eval()


def _x() -> torch.Tensor:
    return 30 * torch.randn(2, 3, 400, generator=torch.Generator().manual_seed(2))


def _expected(state: dict[str, torch.Tensor]) -> torch.Tensor:
    return EEGFoundationForMaskedModeling.from_official(state, ch_names=NAMES, n_times=400).eval()(_x())


@pytest.mark.parametrize("prefix", ["", "model.", "module.model.", "module._orig_mod."])
@pytest.mark.parametrize("layout", ["bare", "model", "state_dict", "model_state_dict"])
def test_training_files_are_converted(roformer, tmp_path: Path, prefix: str, layout: str) -> None:
    state = {prefix + name: value for name, value in roformer.state_dict().items()}
    torch.save(state if layout == "bare" else {layout: state, "epoch": 3}, tmp_path / "pytorch_model.bin")
    assert read_official_checkpoint(tmp_path / "pytorch_model.bin")[1]["kind"] == "amplitude"
    out = convert_official(tmp_path / "pytorch_model.bin", tmp_path / "a.safetensors", ch_names=NAMES, window=2.0)
    model = load_checkpoint(out)
    assert type(model) is EEGFoundationForMaskedModeling
    assert (model.ch_names, model.n_times, model.encoder.head_dim) == (NAMES, 400, 8)
    with torch.inference_mode():
        assert torch.equal(model(_x()), _expected(roformer.state_dict()))
    assert describe_checkpoint(out)["card"]["converted_from"]["kind"] == "amplitude"


def test_files_of_transformers_are_converted(roformer, tmp_path: Path) -> None:
    roformer.save_pretrained(tmp_path / "theirs")
    out = convert_official(tmp_path / "theirs" / "model.safetensors", tmp_path / "a.safetensors", ch_names=NAMES)
    with torch.inference_mode():
        assert torch.equal(load_checkpoint(out)(_x()), _expected(roformer.state_dict()))
    # Without a head, the encoder is theirs.
    bare = RoFormerModel(_config()).eval()
    bare.save_pretrained(tmp_path / "bare")
    out = convert_official(tmp_path / "bare" / "model.safetensors", tmp_path / "b.safetensors", ch_names=NAMES)
    model = load_checkpoint(out)
    with torch.inference_mode():
        wanted = bare(model.quantizer.encode(_x()).flatten(0, 1)).last_hidden_state
        torch.testing.assert_close(model.embed(_x(), "tokens").flatten(0, 1), wanted, rtol=0, atol=1e-5)


def test_heads_are_asked_for_where_nothing_tells_them(roformer, tmp_path: Path) -> None:
    state = {name: value for name, value in roformer.state_dict().items() if "embed_positions" not in name}
    torch.save(state, tmp_path / "a.pth")
    out = convert_official(tmp_path / "a.pth", tmp_path / "a.safetensors", ch_names=NAMES, num_heads=4)
    with torch.inference_mode():
        assert torch.equal(load_checkpoint(out)(_x()), _expected(roformer.state_dict()))
    torch.save(dict(roformer.state_dict()), tmp_path / "b.pth")
    with pytest.raises(ValueError, match="'b.pth' was not converted: .*have 4 attention heads, not num_heads=2"):
        convert_official(tmp_path / "b.pth", tmp_path / "b.safetensors", num_heads=2)


def test_classifier_of_a_roformer(roformer, tmp_path: Path) -> None:
    torch.save(roformer.state_dict(), tmp_path / "a.pth")
    arguments = {"kind": "amplitude-classification", "ch_names": NAMES}
    with pytest.raises(ValueError, match=r"'a.pth' was not converted: .*give n_outputs"):
        convert_official(tmp_path / "a.pth", tmp_path / "a.safetensors", **arguments)
    model = load_checkpoint(convert_official(tmp_path / "a.pth", tmp_path / "a.safetensors", n_outputs=3, **arguments))
    assert type(model) is EEGFoundationForClassification
    assert model(_x()).shape == (2, 3)
    masked = EEGFoundationForMaskedModeling.from_official(roformer.state_dict(), ch_names=NAMES, n_times=400).eval()
    with torch.inference_mode():
        assert torch.equal(model.embed(_x()), masked.embed(_x()))
    with pytest.raises(ValueError, match="n_outputs is for kind='classification'"):
        convert_official(tmp_path / "a.pth", tmp_path / "b.safetensors", n_outputs=3)
    for kind in set(OFFICIAL_KINDS) - {"amplitude", "amplitude-classification"}:
        with pytest.raises(ValueError, match=f"for kind='amplitude' and cannot be made kind='{kind}'"):
            convert_official(tmp_path / "a.pth", tmp_path / "b.safetensors", kind=kind)


def test_command(roformer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(roformer.state_dict(), tmp_path / "a.pth")
    convert(tmp_path / "a.pth", tmp_path / "a.safetensors", "amplitude-classification", "Fp1, Cz,O2", n_outputs=2)
    assert capsys.readouterr().out.strip().endswith("a.safetensors")
    model = load_checkpoint(tmp_path / "a.safetensors")
    assert (model.ch_names, model.n_outputs, model.n_times) == (NAMES, 2, 800)


def test_another_vocabulary_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    state = RoFormerForMaskedLM(_config()).state_dict()
    state["roformer.embeddings.word_embeddings.weight"] = torch.zeros(50000, 32)
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="'a.pth' was not converted: These weights know a vocabulary of 50000 codes"):
        convert_official(tmp_path / "a.pth", tmp_path / "a.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]


@pytest.mark.parametrize("attack", ATTACKS, ids=ATTACKS.values())
def test_nothing_in_the_file_is_executed(roformer, tmp_path: Path, attack: type) -> None:
    mark = tmp_path / "mark"
    torch.save({"model": dict(roformer.state_dict()), "more": attack(mark)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=f"'a.pth' asks for {ATTACKS[attack]}, "):
        convert_official(tmp_path / "a.pth", tmp_path / "a.safetensors")
    assert not mark.exists()


def test_every_system_is_recognised() -> None:
    known = {
        "classification": ["patch_embed.conv1.weight"],
        "masked": ["student.patch_embed.conv1.weight", "student.mask_token"],
        "tokenizer": ["quantize.embedding.weight", "encoder.patch_embed.conv1.weight"],
        "codec": ["encoder.model.0.conv.conv.weight", "decoder.model.0.conv.conv.weight"],
        "gram-classification": ["tconv.conv1.weight"],
        "gram": ["tconv.conv1.weight", "decoder_pred.weight"],
        "gram-tokenizer": ["quantize.embedding.weight", "encoder.tconv.conv1.weight"],
        "amplitude": [
            "roformer.embeddings.word_embeddings.weight",
            "roformer.encoder.layer.0.attention.self.query.weight",
        ],
    }
    assert {*known, "amplitude-classification"} == set(OFFICIAL_KINDS)
    for kind, names in known.items():
        for prefix in ("", "module.", "module._orig_mod."):
            assert official_kind([prefix + name for name in names]) == kind


def test_the_refusal_names_every_system(tmp_path: Path) -> None:
    save_file({"fc.weight": torch.zeros(2, 2), "fc.bias": torch.zeros(2)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"no official weights of LaBraM") as error:
        convert_official(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    message = str(error.value)
    assert all(name in message for name in ("LaBraM", "BrainCodec", "Gram", "EEGFoundation", "'fc.bias', 'fc.weight'"))
    assert len(re.findall(r"\. |\n", message)) == 0
    with pytest.raises(ValueError, match="there is nothing"):
        official_kind([])
    with torch.device("meta"):
        classifier = PublishedDownstream(PublishedConfig())
    with pytest.raises(ValueError, match="EEGFoundation's published classifier; use load_downstream_model"):
        official_kind(classifier.state_dict())
    assert load_file(tmp_path / "a.safetensors").keys() == {"fc.weight", "fc.bias"}
