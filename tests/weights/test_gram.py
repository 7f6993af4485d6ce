"""Gram's checkpoints: a configuration of a foreign class beside the weights, which nothing of ours ever runs."""

from __future__ import annotations

import pathlib
import sys
import types
from collections.abc import Callable
from pathlib import Path

import mne
import numpy as np
import pytest
import torch

from mne_labram.models.gram import GramForClassification, GramForRestoration, GramTokenizer
from mne_labram.weights import convert_official, load_checkpoint, read_official_checkpoint
from mne_labram.weights.official import official_kind

NAMES = ["FP1", "CZ", "O2"]
_TCONV = {
    "conv1.weight": (8, 1, 1, 15),
    "conv2.weight": (8, 8, 1, 3),
    "conv3.weight": (8, 8, 1, 3),
    **{f"{name}.{part}": (8,) for name in ("norm1", "norm2", "norm3") for part in ("weight", "bias")},
    **{f"conv{i}.bias": (8,) for i in (1, 2, 3)},
}
_NORM = {"weight": (200,), "bias": (200,)}
_SQUARE = {"weight": (200, 200), "bias": (200,)}


def _under(prefix: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}.{name}": shape for name, shape in shapes.items()}


def _block(prefix: str, *, gamma: bool) -> dict[str, tuple[int, ...]]:
    return {
        **_under(f"{prefix}.ln1", _NORM),
        **_under(f"{prefix}.ln2", _NORM),
        **{
            key: s
            for name in ("key", "query", "value", "proj")
            for key, s in _under(f"{prefix}.attn.{name}", _SQUARE).items()
        },
        **_under(f"{prefix}.mlp.fc1", {"weight": (800, 200), "bias": (800,)}),
        **_under(f"{prefix}.mlp.fc2", {"weight": (200, 800), "bias": (200,)}),
        **({f"{prefix}.gamma_1": (200,), f"{prefix}.gamma_2": (200,)} if gamma else {}),
    }


def _tokenizer_shapes() -> dict[str, tuple[int, ...]]:
    out = {"quantize.embedding.weight": (16, 8), "quantize.cluster_size": (16,), "quantize.embedding.initted": (1,)}
    out |= _under("encode_task_layer", {"0.weight": (200, 200), "0.bias": (200,), "2.weight": (8, 200), "2.bias": (8,)})
    for part in ("encoder", "decoder"):
        out |= {f"{part}.time_emb": (1, 16, 200), f"{part}.cls_token": (1, 1, 200)}
        out |= {**_under(f"{part}.tconv", _TCONV), **_under(f"{part}.ln_f", _NORM)}
        out |= _block(f"{part}.blocks.0", gamma=False)
    return out | _under("decoder.conv_emb.proj", {"weight": (200, 8, 1, 1), "bias": (200,)})


def _backbone_shapes() -> dict[str, tuple[int, ...]]:
    out = {"cls_token": (1, 1, 200), "proj_weights": (2, 1, 1, 1), **_under("tconv", _TCONV), **_under("norm", _NORM)}
    return out | _block("blocks.0", gamma=True) | _block("blocks.1", gamma=True) | _under("proj_layers.0", _SQUARE)


def _pretrained_shapes() -> dict[str, tuple[int, ...]]:
    out = _backbone_shapes() | _block("decoder_blocks.0", gamma=True)
    for name, shapes in {"mimic_head": _SQUARE, "decoder_embed": _SQUARE, "decoder_norm": _NORM}.items():
        out |= _under(name, shapes)
    return out | {"decoder_pred.weight": (16, 200)} | _under("vqgan", _tokenizer_shapes())


SHAPES: dict[str, Callable[[], dict[str, tuple[int, ...]]]] = {
    "gram-tokenizer": _tokenizer_shapes,
    "gram": _pretrained_shapes,
    "gram-classification": lambda: _backbone_shapes() | _under("cls_head", {"weight": (5, 200), "bias": (5,)}),
}


def _state(kind: str) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: 0.05 * torch.randn(shape, generator=generator) for name, shape in SHAPES[kind]().items()}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return a function that writes a checkpoint as Gram's training does, whether addict is installed or not."""

    def save(content: object, name: str = "gram.pth") -> Path:
        with monkeypatch.context() as patch:
            package, module = types.ModuleType("addict"), types.ModuleType("addict.addict")

            class Dict(dict):  # what addict's class gives a pickle
                __module__, __qualname__ = "addict.addict", "Dict"

                def __getstate__(self) -> dict:
                    return self

                def __setstate__(self, state: dict) -> None:
                    raise AssertionError("something of the file was run")

            module.Dict = Dict
            patch.setitem(sys.modules, "addict", package)
            patch.setitem(sys.modules, "addict.addict", module)
            inner = Dict(path=pathlib.PurePosixPath("/data/authors/vq.pth"), n=2)
            cf = Dict(model="gram_base", lr=1e-4, model_path=Path("/data/x.pth"), nested=inner, empty=Dict())
            torch.save(content(cf) if callable(content) else content, tmp_path / name)
        assert "addict.addict" not in sys.modules
        return tmp_path / name

    return save


def _training_dict(kind: str) -> Callable[[dict], dict]:
    return lambda cf: {
        "model": {f"module.{name}": value for name, value in _state(kind).items()},
        "optimizer": {"state": {}, "param_groups": [{"lr": np.float64(1e-4)}]},
        "epoch": 7,
        "scaler": {"scale": 65536.0},
        "cf": cf,
    }


@pytest.mark.parametrize(
    ("kind", "cls"),
    [("gram-tokenizer", GramTokenizer), ("gram", GramForRestoration), ("gram-classification", GramForClassification)],
)
def test_training_dict_is_converted(write, tmp_path: Path, kind: str, cls: type) -> None:
    path = write(_training_dict(kind))
    state, info = read_official_checkpoint(path)
    assert set(state) == set(_state(kind))
    assert (info["kind"], info["key"], info["epoch"]) == (kind, "model", 7)
    assert info["args"] == {"model": "gram_base", "lr": 1e-4}
    out = convert_official(path, tmp_path / "ours.safetensors", ch_names=NAMES, window=2.0)
    model = load_checkpoint(out)
    assert type(model) is cls
    expected = cls.from_official(_state(kind), ch_names=NAMES, n_times=400).eval()
    x = 30 * torch.randn(2, 3, 400, generator=torch.Generator().manual_seed(1))
    assert torch.equal(model(x), expected(x))


def test_other_models_of_a_pre_trained_file(write, tmp_path: Path) -> None:
    path = write(_training_dict("gram"))
    classifier = load_checkpoint(
        convert_official(path, tmp_path / "a.safetensors", kind="gram-classification", n_outputs=3)
    )
    assert classifier.n_outputs == 3
    tokenizer = load_checkpoint(convert_official(path, tmp_path / "b.safetensors", kind="gram-tokenizer"))
    assert tokenizer.n_codes == 16
    with pytest.raises(ValueError, match="kind='gram' and cannot be made kind='tokenizer'"):
        convert_official(path, tmp_path / "c.safetensors", kind="tokenizer")


def test_nothing_else_gets_in(write) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return pathlib.Path.touch, (Path("never"),)

    path = write(lambda cf: {**_training_dict("gram")(cf), "more": Evil()})
    with pytest.raises(ValueError, match="which is no part of a checkpoint; nothing of the file was executed"):
        read_official_checkpoint(path)
    with pytest.raises(ValueError, match="holds no weights"):
        read_official_checkpoint(write(lambda cf: cf))


def test_kinds() -> None:
    for kind in SHAPES:
        assert official_kind(_state(kind)) == kind


def test_the_tokenizer_inside_is_left_out_aloud(write, tmp_path: Path) -> None:
    path = write(_training_dict("gram"))
    with mne.utils.catch_logging(verbose="info") as log:
        convert_official(path, tmp_path / "a.safetensors", ch_names=NAMES, verbose="info")
    assert "The tokenizer inside is left out; convert it by itself, with kind='gram-tokenizer'." in log.getvalue()
    with mne.utils.catch_logging(verbose="info") as log:
        convert_official(path, tmp_path / "b.safetensors", ch_names=NAMES, kind="gram-tokenizer", verbose="info")
    assert "is left out" not in log.getvalue()
