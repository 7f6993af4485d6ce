"""From the authors' file to ours: the converted model is the authors' function."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mne_labram.models import LabramForClassification, LabramForMaskedModeling, LabramTokenizer
from mne_labram.weights import convert_official, describe_checkpoint, load_checkpoint, read_official_checkpoint
from mne_labram.weights.convert import DEFAULT_CHANNELS

from .hostile import ATTACKS, PLACES
from .official_files import golden_weights, write_official

Vectors = Callable[[str], dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def vectors(golden: Path) -> Vectors:
    """Golden vectors and their weights."""

    def read(name: str) -> dict:
        with np.load(golden / f"labram_{name}.npz") as stored:
            return {**{key: stored[key] for key in stored.files}, "weights": golden_weights(stored)}

    return read


def _signal(stored: dict) -> torch.Tensor:
    """Golden input in microvolts: (batch, n_chans, n_times)."""
    return torch.from_numpy(100 * stored["x"]).flatten(2)


def _assert_close(given: torch.Tensor, expected: np.ndarray) -> None:
    scale = float(np.abs(expected).max())
    np.testing.assert_allclose(given.numpy() / scale, expected / scale, rtol=0, atol=1e-4)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("prefix", ["", "student.", "module."])
def test_classification(tmp_path: Path, vectors: Vectors, prefix: str, zipped: bool) -> None:
    stored = vectors("finetune")
    weights = {prefix + name: value for name, value in stored["weights"].items()}
    source = write_official(tmp_path / "labram.pth", weights, zipped=zipped)
    path = convert_official(source, tmp_path / "labram.safetensors", ch_names=list(stored["ch_names"]), n_times=800)
    model = load_checkpoint(path)
    assert isinstance(model, LabramForClassification)
    assert (model.n_outputs, model.n_times) == (5, 800)
    with torch.inference_mode():
        _assert_close(model(_signal(stored)), stored["logits"])


def test_tokenizer(tmp_path: Path, vectors: Vectors) -> None:
    stored = vectors("vqnsp")
    source = write_official(tmp_path / "vqnsp.pth", stored["weights"])
    path = convert_official(source, tmp_path / "vqnsp.safetensors", ch_names=list(stored["ch_names"]))
    model = load_checkpoint(path)
    assert isinstance(model, LabramTokenizer)
    with torch.inference_mode():
        codes = model.encode(_signal(stored))
    np.testing.assert_array_equal(codes.flatten(1).numpy(), stored["codes"])


def test_masked_with_logit_scale(tmp_path: Path, vectors: Vectors) -> None:
    stored = vectors("mem")
    source = write_official(tmp_path / "base.pth", {**stored["weights"], "logit_scale": torch.ones(())})
    path = convert_official(source, tmp_path / "base.safetensors", ch_names=list(stored["ch_names"]))
    model = load_checkpoint(path)
    assert isinstance(model, LabramForMaskedModeling)
    direct = LabramForMaskedModeling.from_official(
        stored["weights"], ch_names=list(stored["ch_names"]), n_times=800
    ).eval()
    with torch.inference_mode():
        assert torch.equal(model.embed(_signal(stored)), direct.embed(_signal(stored)))
    card = describe_checkpoint(path)["card"]
    assert card["converted_from"]["dropped"] == ["logit_scale"]
    assert card["converted_from"]["file"] == "base.pth"
    assert card["converted_from"]["epoch"] == 49
    assert card["official_model"] == "labram_base_patch200_200"


def test_pretrained_backbone_for_classification(tmp_path: Path, vectors: Vectors) -> None:
    stored = vectors("mem")
    source = write_official(tmp_path / "base.pth", stored["weights"])
    arguments = {"kind": "classification", "ch_names": list(stored["ch_names"])}
    with pytest.raises(ValueError, match=r"'base.pth' was not converted: .*n_outputs"):
        convert_official(source, tmp_path / "a.safetensors", **arguments)
    path = convert_official(source, tmp_path / "a.safetensors", n_outputs=2, **arguments)
    model = load_checkpoint(path)
    direct = LabramForClassification.from_official(
        stored["weights"], n_outputs=2, n_times=800, ch_names=list(stored["ch_names"])
    ).eval()
    assert model.n_outputs == 2
    with torch.inference_mode():
        assert torch.equal(model.embed(_signal(stored)), direct.embed(_signal(stored)))


def test_default_channels_and_rebinding(tmp_path: Path, vectors: Vectors) -> None:
    stored = vectors("finetune")
    source = write_official(tmp_path / "a.pth", stored["weights"])
    path = convert_official(source, tmp_path / "a.safetensors")
    assert tuple(load_checkpoint(path).ch_names) == DEFAULT_CHANNELS
    model = load_checkpoint(path, ch_names=list(stored["ch_names"]))
    with torch.inference_mode():
        _assert_close(model(_signal(stored)), stored["logits"])


def test_same_file_same_bytes(tmp_path: Path, vectors: Vectors) -> None:
    source = write_official(tmp_path / "a.pth", vectors("finetune")["weights"])
    contents = {convert_official(source, tmp_path / f"{i}.safetensors").read_bytes() for i in range(2)}
    assert len(contents) == 1


def test_converts_official_safetensors(tmp_path: Path, vectors: Vectors) -> None:
    from safetensors.torch import save_file

    stored = vectors("finetune")
    save_file(stored["weights"], tmp_path / "official.safetensors")
    path = convert_official(tmp_path / "official.safetensors", tmp_path / "ours.safetensors")
    model = load_checkpoint(path, ch_names=list(stored["ch_names"]))
    with torch.inference_mode():
        _assert_close(model(_signal(stored)), stored["logits"])


# --- refusals ---------------------------------------------------------------------------------------------------------


def _half(weights: dict) -> dict:
    return {name: value for name, value in weights.items() if name != "blocks.1.mlp.fc1.weight"}


def _renamed(weights: dict) -> dict:
    return {name.replace("blocks.1.mlp.fc1", "blocks.1.mlp.fc_one"): value for name, value in weights.items()}


def _wide(weights: dict) -> dict:
    return {**weights, "blocks.1.mlp.fc1.weight": torch.zeros(1600, 400)}


def _nan(weights: dict) -> dict:
    value = weights["cls_token"].clone()
    value[0, 0, 0] = torch.nan
    return {**weights, "cls_token": value}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_half, r"1 tensor is missing \(.*blocks.1.mlp.fc1.weight\)"),
        (_renamed, r"2 tensors are missing \(.*\); 2 tensors are unknown to the model \(.*blocks.1.mlp.fc_one"),
        (_wide, "blocks.1.mlp.fc1.weight is 1600 x 400, not 800 x 200"),
        (_nan, r"1 tensor holds NaN or infinity \(.*cls_token\)"),
    ],
    ids=["half", "renamed", "wide", "nan"],
)
def test_half_matching_weights(tmp_path: Path, vectors: Vectors, change: Callable, words: str) -> None:
    source = write_official(tmp_path / "a.pth", change(vectors("finetune")["weights"]))
    with pytest.raises(ValueError, match=words) as error:
        convert_official(source, tmp_path / "a.safetensors")
    assert str(error.value).startswith("'a.pth' was not converted: ")
    assert "\n" not in str(error.value)
    assert os.listdir(tmp_path) == ["a.pth"]


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("attack", ATTACKS, ids=ATTACKS.values())
def test_hostile_pickles(tmp_path: Path, attack: type, zipped: bool) -> None:
    for place in PLACES.values():
        mark = tmp_path / "mark"
        torch.save(place(attack(mark)), tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
        with pytest.raises(ValueError, match=f"'a.pth' asks for {ATTACKS[attack]}, "):
            convert_official(tmp_path / "a.pth", tmp_path / "a.safetensors")
        assert os.listdir(tmp_path) == ["a.pth"]


def test_what_cannot_be_asked_for(tmp_path: Path, vectors: Vectors) -> None:
    weights = vectors("finetune")["weights"]
    source = write_official(tmp_path / "a.pth", weights)
    target = tmp_path / "a.safetensors"
    for arguments, words in {
        ("kind", "segmentation"): "kind must be one of 'classification', 'masked', 'tokenizer', 'codec', .* or None",
        ("kind", "tokenizer"): "weights are for kind='classification' and cannot be made kind='tokenizer'",
        ("num_heads", 8): "num_heads=8 contradicts the weights, which have 10 heads",
        ("ch_names", ("FP1", "QQ")): "QQ",
        ("n_times", 801): "whole",
    }.items():
        with pytest.raises(ValueError, match=words):
            convert_official(source, target, **dict([arguments]))
    with pytest.raises(ValueError, match=r"ends in \.safetensors"):
        convert_official(source, tmp_path / "b.pth")
    with pytest.raises(FileNotFoundError, match="There is no file"):
        convert_official(tmp_path / "b.pth", target)
    tokenizer = write_official(tmp_path / "t.pth", vectors("vqnsp")["weights"])
    with pytest.raises(ValueError, match="n_outputs is for kind='classification'"):
        convert_official(tokenizer, target, n_outputs=2)
    foreign = write_official(tmp_path / "f.pth", {"fc.weight": torch.zeros(2, 2)})
    with pytest.raises(ValueError, match="'f.pth' was not converted: These are no official weights of LaBraM"):
        convert_official(foreign, target)
    assert not target.exists()


def test_does_not_overwrite_unless_told(tmp_path: Path, vectors: Vectors) -> None:
    source = write_official(tmp_path / "a.pth", vectors("finetune")["weights"])
    target = convert_official(source, tmp_path / "a.safetensors")
    before = target.read_bytes()
    with pytest.raises(FileExistsError, match="pass overwrite=True"):
        convert_official(source, target)
    with pytest.raises(ValueError, match="would be replaced by its own conversion"):
        convert_official(target, target, overwrite=True)
    assert target.read_bytes() == before
    convert_official(source, target, ch_names=["CZ"], overwrite=True)
    assert load_checkpoint(target).ch_names == ["CZ"]


def test_from_official_takes_what_the_reader_gives(tmp_path: Path, vectors: Vectors) -> None:
    """The two steps of a conversion can also be taken one by one."""
    stored = vectors("finetune")
    state_dict, info = read_official_checkpoint(write_official(tmp_path / "a.pth", stored["weights"]))
    assert info["kind"] == "classification"
    model = LabramForClassification.from_official(state_dict, ch_names=list(stored["ch_names"]), n_times=800).eval()
    with torch.inference_mode():
        _assert_close(model(_signal(stored)), stored["logits"])
