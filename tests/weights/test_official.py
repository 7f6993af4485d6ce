"""Official files: where the weights are in them, what they are for, and how large the model is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mne_labram.weights.official import official_kind, official_sizes, read_official_checkpoint

from .official_files import golden_weights, write_official

KINDS = {"finetune": "classification", "mem": "masked", "vqnsp": "tokenizer"}


@pytest.fixture(scope="module")
def weights(golden: Path) -> Callable[[str], dict[str, torch.Tensor]]:
    """Weights of the authors' three models, drawn again."""

    def draw(name: str) -> dict[str, torch.Tensor]:
        with np.load(golden / f"labram_{name}.npz") as vectors:
            return golden_weights(vectors)

    return draw


def _assert_same(given: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert list(given) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(given[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("layout", ["training", "bare", "model", "module", "state_dict"])
@pytest.mark.parametrize("name", KINDS)
def test_finds_the_weights(tmp_path: Path, weights, name: str, layout: str, zipped: bool) -> None:
    state = weights(name)
    path = write_official(tmp_path / "official.pth", state, layout=layout, zipped=zipped)
    given, info = read_official_checkpoint(path)
    _assert_same(given, state)
    assert info["kind"] == KINDS[name]
    assert info["dropped"] == []
    assert info["key"] == {"training": "model", "bare": None}.get(layout, layout)
    if layout == "training":
        assert info["epoch"] == 49
        assert info["args"] == {"model": "labram_base_patch200_200", "lr": 5e-4, "resume": "", "gpu": None}
    else:
        assert (info["epoch"], info["args"]) == (None, {})


def test_reads_safetensors(tmp_path: Path, weights) -> None:
    state = weights("mem")
    save_file(state, tmp_path / "a.safetensors")
    given, info = read_official_checkpoint(tmp_path / "a.safetensors")
    _assert_same({name: given[name] for name in state}, state)
    assert (info["format"], info["kind"]) == ("safetensors", "masked")


def test_leaves_out_what_belongs_to_no_model(tmp_path: Path, weights) -> None:
    state = weights("mem")
    extra = {"logit_scale": torch.ones(()), "teacher.cls_token": torch.ones(2), "loss_fn.w": torch.ones(1)}
    given, info = read_official_checkpoint(write_official(tmp_path / "a.pth", {**extra, **state}))
    _assert_same(given, state)
    assert info["dropped"] == list(extra)


def test_takes_wrappers_off_and_keeps_student(tmp_path: Path, weights) -> None:
    state = weights("mem")
    wrapped = {f"module._orig_mod.{name}": value for name, value in state.items()}
    given, _ = read_official_checkpoint(write_official(tmp_path / "a.pth", wrapped))
    _assert_same(given, state)
    assert "student.mask_token" in given


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "holds no weights: neither a state dict"),
        ([torch.zeros(2)], "holds no weights: neither a state dict"),
        ({"model": {}}, "holds no weights"),
        ({"model": {"w": 1}}, "'w' is of type int, not a dense tensor"),
        ({"epoch": 3, "optimizer": {}}, "'epoch' is of type int, not a dense tensor"),
        ({"model": {3: torch.zeros(2)}}, "'3' is no name of a tensor"),
        ({"model": {"a\nb": torch.zeros(2)}}, "is no name of a tensor"),
        ({"model": {"w": torch.zeros(1).expand(10**12)}}, "'w' claims more values than the file holds"),
    ],
    ids=["empty", "list", "empty model", "number", "no model", "numbered", "unprintable", "expanded"],
)
def test_refuses_what_is_no_state_dict(tmp_path: Path, content: object, words: str) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=words) as error:
        read_official_checkpoint(tmp_path / "a.pth")
    assert str(error.value).startswith("'a.pth' ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"\x08\0\0\0\0\0\0\0{", b"abc" * 100], ids=["empty", "header", "text"])
def test_refuses_damaged_files(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = (tmp_path / "a").with_suffix(suffix)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^'a\.\w+' is ") as error:
        read_official_checkpoint(path)
    assert "\n" not in str(error.value)


def test_refuses_a_truncated_safetensors_file(tmp_path: Path, weights) -> None:
    save_file(weights("finetune"), tmp_path / "a.safetensors")
    content = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "a.safetensors").write_bytes(content[:-4])
    with pytest.raises(ValueError, match="is no safetensors file, or it is damaged"):
        read_official_checkpoint(tmp_path / "a.safetensors")


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="There is no file"):
        read_official_checkpoint(tmp_path / "a.pth")
    with pytest.raises(ValueError, match="is not a regular file"):
        read_official_checkpoint(tmp_path)


def test_kind_by_names(weights) -> None:
    for name, kind in KINDS.items():
        assert official_kind(weights(name)) == kind
    student = {f"student.{name}": value for name, value in weights("finetune").items()}
    assert official_kind(student) == "classification"
    with pytest.raises(ValueError, match="use from_braindecode"):
        official_kind(["patch_embed.temporal_conv.conv1.weight"])
    assert official_kind(["tconv.conv1.weight", "cls_token"]) == "gram-classification"
    assert official_kind(["tconv.conv1.weight", "decoder_pred.weight"]) == "gram"
    assert official_kind(["encoder.tconv.conv1.weight", "quantize.embedding.weight"]) == "gram-tokenizer"
    with pytest.raises(ValueError, match="no official weights of LaBraM"):
        official_kind(["fc.weight"])


def test_sizes_by_shapes(weights) -> None:
    base = {"embed_dim": 200, "num_layers": 2, "num_heads": 10}
    assert official_sizes(weights("finetune")) == {**base, "n_outputs": 5}
    assert official_sizes(weights("mem")) == base
    assert official_sizes(weights("vqnsp")) == {
        "embed_dim": 200,
        "num_layers": _depth(weights("vqnsp"), "encoder"),
        "num_heads": 10,
        "decoder_layers": _depth(weights("vqnsp"), "decoder"),
        "n_codes": 128,
        "code_dim": 32,
    }


def _depth(state: dict[str, torch.Tensor], part: str) -> int:
    return sum(name.startswith(f"{part}.blocks.") and name.endswith("norm1.weight") for name in state)


@pytest.mark.parametrize(
    ("width", "norm", "num_heads", "heads"),
    [(200, None, None, 10), (400, None, None, 16), (800, None, None, 16), (64, 16, None, 4), (64, None, 8, 8)],
)
def test_heads(width: int, norm: int | None, num_heads: int | None, heads: int) -> None:
    state = {"cls_token": torch.zeros(1, 1, width), "blocks.10.gamma_1": torch.zeros(width)}
    if norm:
        state["blocks.0.attn.q_norm.weight"] = torch.zeros(norm)
    sizes = official_sizes(state, "classification", num_heads=num_heads)
    assert sizes == {"embed_dim": width, "num_layers": 11, "num_heads": heads}


def test_heads_that_cannot_be_known() -> None:
    state = {"cls_token": torch.zeros(1, 1, 64)}
    with pytest.raises(ValueError, match="pass num_heads"):
        official_sizes(state, "classification")
    state["blocks.0.attn.q_norm.weight"] = torch.zeros(16)
    with pytest.raises(ValueError, match="num_heads=8 contradicts the weights, which have 4 heads"):
        official_sizes(state, "classification", num_heads=8)
    with pytest.raises(ValueError, match="hold no student.cls_token|hold no cls_token"):
        official_sizes({"patch_embed.conv1.weight": torch.zeros(1)})
