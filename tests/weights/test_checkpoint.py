"""Our own checkpoints: what is saved comes back to the bit, and what does not fit does not load."""

from __future__ import annotations

import errno
import hashlib
import inspect
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from mne_labram.models import BrainCodec, LabramForClassification, LabramForMaskedModeling, LabramTokenizer
from mne_labram.weights import checkpoint as checkpoint_module
from mne_labram.weights import describe_checkpoint, load_checkpoint, save_checkpoint

NAMES = ["FP1", "C3", "CZ", "O2"]
TINY = {"ch_names": NAMES, "n_times": 400, "embed_dim": 32, "num_layers": 2, "num_heads": 4}
CODEC = {"ratios": [2, 4], "n_filters": 2, "max_filters": 4, "dim": 8, "n_codebooks": 2, "codebook_size": 4}
MODELS: dict[str, Callable[[], nn.Module]] = {
    "classification": lambda: LabramForClassification(n_outputs=3, class_names=["a", "b", "c"], **TINY),
    "coordinates": lambda: LabramForClassification(
        n_outputs=2,
        spatial="coordinates",
        patch_embed="conv+spectrum",
        input_scale=10.0,
        activation=nn.SiLU,
        contract={"name": "ours", "l_freq": 0.5, "h_freq": 45.0, "reference": "average"},
        **{**TINY, "ch_names": ["FP1-F7", "F7-T7", "CZ", "F3-C3"]},
    ),
    "tokenizer": lambda: LabramTokenizer(n_codes=16, **TINY),
    "masked": lambda: LabramForMaskedModeling(n_codes=16, **TINY),
    "codec": lambda: BrainCodec(ch_names=NAMES, gain=True, linear_path=True, contract={"h_freq": 80.0}, **CODEC),
    "codec without names": lambda: BrainCodec(sfreq=512, n_outputs=None, codebook_dim=2, cosine=True, **CODEC),
}


def _build(name: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model = MODELS[name]()
    with torch.no_grad():  # gains and biases start at 0 and 1, where an error could hide
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def _input(model: nn.Module) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return 30 * torch.randn(2, len(model.ch_names) or 3, 400, generator=generator)


def _outputs(model: nn.Module) -> list[torch.Tensor]:
    with torch.inference_mode():
        x = _input(model)
        outputs = [model.embed(x)]
        if isinstance(model, LabramTokenizer | BrainCodec):
            return [*outputs, model.encode(x)]
        return outputs if isinstance(model, LabramForMaskedModeling) else [*outputs, model(x)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a checkpoint that tests copy and damage."""
    return save_checkpoint(_build("classification"), tmp_path_factory.mktemp("saved") / "model.safetensors")


def _rewrite(source: Path, target: Path, header: Callable[[dict], Any] = dict, state: Callable = dict) -> Path:
    """Copy a checkpoint with another header or other tensors."""
    fields = json.loads(_metadata(source)["mne_labram"])
    changed = header(fields)
    text = changed if isinstance(changed, str) else json.dumps(fields if changed is None else changed)
    tensors = load_file(source)
    save_file(state(tensors) or tensors, target, metadata={"mne_labram": text})
    return target


def _metadata(path: Path) -> dict[str, str]:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length])["__metadata__"]


@pytest.mark.parametrize("name", MODELS)
def test_round_trip_to_the_bit(tmp_path: Path, name: str) -> None:
    model = _build(name)
    path = save_checkpoint(model, tmp_path / "a.safetensors", card={"licence": "BSD-3-Clause"})
    loaded = load_checkpoint(path)
    assert type(loaded) is type(model)
    assert not any(module.training for module in loaded.modules())
    assert loaded.ch_names == model.ch_names
    assert loaded.contract == model.contract
    assert getattr(loaded, "class_names", None) == getattr(model, "class_names", None)
    for given, expected in zip(_outputs(loaded), _outputs(model), strict=True):
        assert torch.equal(given, expected)
    assert os.listdir(tmp_path) == ["a.safetensors"]


@pytest.mark.parametrize("name", MODELS)
def test_same_model_same_bytes(tmp_path: Path, name: str) -> None:
    card = {"z": 1, "a": {"d": [1, 2], "b": None}}
    contents = {save_checkpoint(_build(name), tmp_path / f"{i}.safetensors", card=card).read_bytes() for i in range(3)}
    loaded = load_checkpoint(tmp_path / "0.safetensors")
    contents.add(save_checkpoint(loaded, tmp_path / "again.safetensors", card=card).read_bytes())
    assert len(contents) == 1


def test_saving_and_loading_leave_the_random_state_alone(tmp_path: Path) -> None:
    model = _build("classification")
    before = torch.random.get_rng_state()
    load_checkpoint(save_checkpoint(model, tmp_path / "a.safetensors"))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_saving_does_not_change_the_model(tmp_path: Path) -> None:
    model = _build("classification").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    save_checkpoint(model, tmp_path / "a.safetensors")
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_other_channels(tmp_path: Path, saved: Path) -> None:
    model = load_checkpoint(saved)
    bound = model.bind_channels(["PZ", "OZ"])
    path = save_checkpoint(bound, tmp_path / "bound.safetensors")
    x = _input(bound)
    with torch.inference_mode():
        for other in (load_checkpoint(path), load_checkpoint(saved, ch_names=["Pz", "EEG Oz-REF"])):
            assert other.ch_names == ["PZ", "OZ"]
            assert torch.equal(other(x), bound(x))
    with pytest.raises(ValueError, match="XYZ"):
        load_checkpoint(saved, ch_names=["PZ", "XYZ"])


def test_a_new_head_is_saved_as_it_is(tmp_path: Path) -> None:
    model = _build("classification")
    model.reset_head(5)
    model.class_names = list("vwxyz")
    loaded = load_checkpoint(save_checkpoint(model, tmp_path / "a.safetensors"))
    assert (loaded.n_outputs, loaded.class_names) == (5, list("vwxyz"))
    assert torch.equal(loaded(_input(model)), model(_input(model)))


def test_positions_that_no_template_knows(tmp_path: Path) -> None:
    """An electrode cap with its own names; one position in MNE's chs is unknown, that is NaN."""
    import mne

    info = mne.create_info(["FP1", "CZ", "E7"], 200.0, "eeg")
    for name, loc in {"E7": (0.03, 0.05, 0.06), "FP1": (np.nan,) * 3}.items():
        info["chs"][info.ch_names.index(name)]["loc"][:3] = loc
    info["chs"][1]["loc"][:3] = (0.0, 0.0, 0.09)
    model = LabramForClassification(
        n_outputs=2, chs_info=info["chs"], spatial="coordinates", **{**TINY, "ch_names": None}
    ).eval()
    loaded = load_checkpoint(save_checkpoint(model, tmp_path / "a.safetensors"))
    with torch.inference_mode():
        assert torch.equal(loaded(_input(model)), model(_input(model)))


def test_tied_weights_are_written_twice(tmp_path: Path) -> None:
    model = _build("classification")
    first, second = model.encoder.blocks
    second.mlp.fc1.weight = first.mlp.fc1.weight
    loaded = load_checkpoint(save_checkpoint(model, tmp_path / "a.safetensors"))
    assert torch.equal(loaded.encoder.blocks[1].mlp.fc1.weight, first.mlp.fc1.weight)
    assert torch.equal(loaded(_input(model)), model(_input(model)))


def test_describes_without_building(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(checkpoint_module, "build_model")
    description = describe_checkpoint(saved)
    model = _build("classification")
    assert description["class"] == "LabramForClassification"
    assert description["ch_names"] == NAMES
    assert description["n_parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert description["sha256"] == hashlib.sha256(saved.read_bytes()).hexdigest()
    assert description["contract"] == model.contract.to_dict()
    assert description["card"] == {}
    assert json.loads(json.dumps(description)) == description


# --- what must not be saved -------------------------------------------------------------------------------------------


def test_refuses_to_save(tmp_path: Path) -> None:
    model = _build("classification")
    path = tmp_path / "a.safetensors"
    with pytest.raises(TypeError, match="Only models of mne_labram can be saved .* not Linear"):
        save_checkpoint(nn.Linear(2, 2), path)
    with pytest.raises(ValueError, match=r"ends in \.safetensors, got 'a\.pth'"):
        save_checkpoint(model, tmp_path / "a.pth")
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        save_checkpoint(model, tmp_path / "nowhere" / "a.safetensors")
    for card in ({"score": float("nan")}, {"score": {1, 2}}):
        with pytest.raises(ValueError, match="The card must hold plain, finite JSON values"):
            save_checkpoint(model, path, card=card)
    with torch.no_grad():
        model.final_layer.bias[0] = torch.nan
    with pytest.raises(ValueError, match="final_layer.bias holds NaN"):
        save_checkpoint(model, path)
    assert not os.listdir(tmp_path)


def test_refuses_a_model_that_was_changed_under_its_arguments(tmp_path: Path) -> None:
    model = _build("classification")
    model.final_layer = nn.Linear(32, 7)
    with pytest.raises(ValueError, match="final_layer.weight is 7 x 32, not 3 x 32"):
        save_checkpoint(model, tmp_path / "a.safetensors")
    assert not os.listdir(tmp_path)


def test_does_not_overwrite_unless_told(tmp_path: Path) -> None:
    path = save_checkpoint(_build("classification"), tmp_path / "a.safetensors")
    first = path.read_bytes()
    with pytest.raises(FileExistsError, match="pass overwrite=True"):
        save_checkpoint(_build("classification", seed=1), path)
    assert path.read_bytes() == first
    save_checkpoint(_build("classification", seed=1), path, overwrite=True)
    assert path.read_bytes() != first
    assert os.listdir(tmp_path) == ["a.safetensors"]


@pytest.mark.parametrize("where", ["write", "write, half", "fsync", "replace"])
def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_checkpoint(_build("classification"), tmp_path / "a.safetensors")
    first = path.read_bytes()

    def full_disk(*args: Any, **kwargs: Any) -> None:
        if where == "write, half":
            Path(args[1]).write_bytes(b"half")
            raise SafetensorError("I/O error: No space left on device (os error 28)")
        raise OSError(errno.ENOSPC, "No space left on device")

    target = {"fsync": (os, "fsync"), "replace": (os, "replace")}.get(where, (checkpoint_module, "save_file"))
    monkeypatch.setattr(*target, full_disk)
    with pytest.raises(OSError, match="No space left on device"):
        save_checkpoint(_build("classification", seed=1), path, overwrite=True)
    assert path.read_bytes() == first
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_an_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(_build("classification"), tmp_path / "a.safetensors")
    assert not os.listdir(tmp_path)


# --- what must not be loaded ------------------------------------------------------------------------------------------


def _refused(path: Path, words: str, **kwargs: Any) -> str:
    with pytest.raises(ValueError, match=words) as error:
        load_checkpoint(path, **kwargs)
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 600
    assert path.name in message
    return message


def test_sha256(saved: Path) -> None:
    right = hashlib.sha256(saved.read_bytes()).hexdigest()
    load_checkpoint(saved, sha256=right)
    load_checkpoint(saved, sha256=right.upper())
    _refused(saved, "is not the expected file: its SHA-256 is", sha256="0" * 64)
    for wrong in (right[:-1], "g" * 64, ""):
        with pytest.raises(ValueError, match="sha256 must be 64 hexadecimal digits"):
            load_checkpoint(saved, sha256=wrong)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="There is no file"):
        load_checkpoint(tmp_path / "a.safetensors")
    _refused(tmp_path, "is not a regular file")


def test_every_truncation_is_refused(tmp_path: Path, saved: Path) -> None:
    content, path = saved.read_bytes(), tmp_path / "cut.safetensors"
    for length in [0, 1, 7, 8, 9, 100, 2000, len(content) // 2, len(content) - 4, len(content) - 1]:
        path.write_bytes(content[:length])
        _refused(path, "is empty" if length == 0 else "is no safetensors file, or it is damaged")
    path.write_bytes(content + b"\0")
    _refused(path, "is no safetensors file, or it is damaged")


def test_a_pickle_is_never_opened_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.pth"
    torch.save(_build("classification").state_dict(), path)
    monkeypatch.delattr(torch, "load")
    _refused(path, "is no safetensors file.*an official checkpoint is first converted")


def test_safetensors_of_somebody_else(tmp_path: Path, saved: Path) -> None:
    save_file(load_file(saved), tmp_path / "theirs.safetensors")
    _refused(tmp_path / "theirs.safetensors", "not written by mne_labram")


def _set(**values: Any) -> Callable[[dict], None]:
    return lambda header: header.update(values)


def _set_config(**values: Any) -> Callable[[dict], None]:
    return lambda header: header["config"].update(values)


HEADERS: dict[str, tuple[Callable[[dict], Any], str]] = {
    "no json": (lambda header: "{", "its header is no JSON"),
    "deep json": (lambda header: "[" * 100_000, "its header is no JSON"),
    "a list": (lambda header: "[]", "no format version"),
    "no version": (_set(format_version=None), "no format version"),
    "version true": (_set(format_version=True), "no format version"),
    "newer": (_set(format_version=2), "has format version 2, newer than 1; install a newer"),
    "no class": (lambda header: header.pop("class") and header, "its header lacks class"),
    "card is a list": (_set(card=[]), "its header lacks card"),
    "unknown class": (_set(**{"class": "NeuralTransformer"}), "holds a 'NeuralTransformer', which this version"),
    "class not ours": (_set(**{"class": "Linear"}), "holds a 'Linear', which this version"),
    "dotted class": (_set(**{"class": "os.system"}), "holds a 'os.system', which this version"),
    "other class": (_set(**{"class": "LabramTokenizer"}), "was written by another version: LabramTokenizer has no"),
    "unknown argument": (_set_config(n_wings=2), "has no argument n_wings"),
    "many layers": (_set_config(num_layers=1_000_000), r"claims num_layers=1000000 but holds \d+ tensors"),
    "absurd layers": (_set_config(num_layers=10**9), r"argument num_layers is 1e\+09, beyond every sane size"),
    "enormous": (_set_config(n_times=10**400), "argument n_times is enormous"),
    "long patch": (_set_config(patch_size=20_000), r"argument patch_size is 2e\+04"),
    "infinite": (_set_config(input_scale=float("inf")), "argument input_scale is inf"),
    "wide": (_set_config(embed_dim=400_000), r"encoder.cls_token is 1 x 1 x 32, not 1 x 1 x 400000"),
    "negative": (_set_config(embed_dim=-32), "cannot be built"),
    "a word for a number": (_set_config(num_heads="four"), "cannot be built"),
    "indivisible heads": (_set_config(num_heads=5), "cannot be built"),
    "hostile activation": (_set_config(activation="os.system"), "must be an activation of torch.nn"),
    "imported activation": (_set_config(activation="antigravity.GELU"), "must be an activation of torch.nn"),
    "no activation": (_set_config(activation="torch.nn.modules.activation.Linear"), "must be an activation"),
    "many names": (_set_config(ch_names=["FP1"] * 10_000), "argument ch_names has 10000 entries"),
    "long name": (_set_config(ch_names=["F" * 10_000] * 4), "argument ch_names has 10000 entries"),
    "nested": (_set_config(ch_names=[[[[[[1]]]]]]), "argument ch_names is nested too deeply"),
    "config a list": (_set(config=[]), "its header lacks config"),
    "unknown channel": (_set_config(ch_names=["FP1", "C3", "CZ", "XX"]), "cannot be built: .*XX"),
    "channels differ": (_set(ch_names=["FP1", "C3", "CZ", "O1"]), "contradicts itself.*the channel names differ"),
    "contract differs": (lambda header: header["contract"].update(l_freq=1.0), "the signal contracts differ"),
    "contract nonsense": (lambda header: header["contract"].update(sfreq=-1), "its signal contract is wrong"),
    "contract text": (lambda header: header["contract"].update(sfreq="x"), "its signal contract is wrong"),
    "contract unknown": (lambda header: header["contract"].update(colour=1), "its signal contract is wrong"),
}


def test_a_codebook_larger_than_the_file(tmp_path: Path) -> None:
    path = save_checkpoint(_build("tokenizer"), tmp_path / "a.safetensors")
    for size in ({"n_codes": 1_000_000}, {"n_codes": 10_000, "code_dim": 10_000}):
        liar = _rewrite(path, tmp_path / "liar.safetensors", header=_set_config(**size))
        _refused(liar, r"it claims \d+ x \d+ codes but holds \d+ values")


def test_a_codec_larger_than_the_file(tmp_path: Path) -> None:
    path = save_checkpoint(_build("codec"), tmp_path / "a.safetensors")
    for change, words in (
        ({"codebook_size": 1_000_000}, r"it claims 2000000 x 8 codes but holds \d+ values"),
        ({"n_codebooks": 1_000_000}, r"it claims 4000000 x 8 codes"),
        ({"codebook_dim": 1, "n_codebooks": 500}, "it claims n_codebooks=500 but holds"),
        ({"ratios": [1] * 4000}, r"it claims ratios=4000 but holds \d+ tensors"),
        ({"ratios": [1_000_000, 1_000_000]}, "cannot be built|tensors have another shape"),
        ({"ratios": "many"}, "cannot be built"),
        ({"max_filters": 1_000_000, "n_filters": 500_000}, "tensors have another shape"),
        ({"n_residual_layers": 1000}, "it claims n_residual_layers=1000"),
    ):
        _refused(_rewrite(path, tmp_path / "liar.safetensors", header=_set_config(**change)), words)


def test_a_seed_may_be_large(tmp_path: Path) -> None:
    model = LabramTokenizer(n_codes=16, seed=2**32 - 1, **TINY)
    path = save_checkpoint(model, tmp_path / "a.safetensors")
    assert describe_checkpoint(path)["config"]["seed"] == 2**32 - 1
    load_checkpoint(path)


@pytest.mark.parametrize(("change", "words"), HEADERS.values(), ids=HEADERS)
def test_headers_that_lie(tmp_path: Path, saved: Path, change: Callable, words: str) -> None:
    _refused(_rewrite(saved, tmp_path / "liar.safetensors", header=change), words)


def test_an_absurd_size_takes_no_memory(tmp_path: Path, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    devices = []
    build = checkpoint_module.build_model

    def watched(*args: Any, device: str = "cpu", **kwargs: Any) -> nn.Module:
        devices.append(device)
        return build(*args, device=device, **kwargs)

    monkeypatch.setattr(checkpoint_module, "build_model", watched)
    _refused(
        _rewrite(saved, tmp_path / "wide.safetensors", header=_set_config(embed_dim=400_000)), "contradicts itself"
    )
    assert devices == ["meta"]
    load_checkpoint(saved)
    assert devices == ["meta", "meta", "cpu"]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=5), values, max_size=3),
    max_leaves=5,
)


@hypothesis.settings(max_examples=60)
@hypothesis.given(name=st.sampled_from(sorted(inspect.signature(LabramForClassification).parameters)), value=_JSON)
def test_whatever_the_header_says(saved: Path, tmp_path_factory: pytest.TempPathFactory, name: str, value: Any) -> None:
    path = _rewrite(saved, tmp_path_factory.getbasetemp() / "fuzzed.safetensors", header=_set_config(**{name: value}))
    message = ""
    try:
        model = load_checkpoint(path)
    except ValueError as error:
        message = str(error)
    else:
        assert model.ch_names == NAMES
    assert "\n" not in message


def _without(name: str) -> Callable[[dict], dict]:
    return lambda state: {key: value for key, value in state.items() if key != name}


def _renamed(state: dict) -> dict:
    return {key.replace("cls_token", "class_token"): value for key, value in state.items()}


def _changed(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict], dict]:
    return lambda state: {**state, name: change(state[name])}


def _with_nan(value: torch.Tensor) -> torch.Tensor:
    value = value.clone()
    value.view(-1)[3] = torch.nan
    return value


HEAD = "final_layer.weight"
STATES: dict[str, tuple[Callable[[dict], dict], str]] = {
    "missing": (_without(HEAD), rf"1 tensor is missing \({HEAD}\)"),
    "unknown": (lambda s: {**s, "w": torch.ones(1)}, r"1 tensor is unknown to the model \(w\)"),
    "no name": (lambda s: {**s, "a\x1b[2J": torch.ones(1)}, "it holds a tensor whose name is no name"),
    "long name": (lambda s: {**s, "a" * 1000: torch.ones(1)}, "it holds a tensor whose name is no name"),
    "renamed": (_renamed, r"1 tensor is missing \(encoder.cls_token\); 1 tensor is unknown .*encoder.class_token"),
    "shape": (_changed(HEAD, lambda w: w[:2].clone()), f"{HEAD} is 2 x 32, not 3 x 32"),
    "transposed": (_changed(HEAD, lambda w: w.T.contiguous()), f"{HEAD} is 32 x 3, not 3 x 32"),
    "integers": (_changed(HEAD, lambda w: w.long()), f"{HEAD} is integer, not floating point"),
    "NaN": (_changed(HEAD, _with_nan), rf"1 tensor holds NaN or infinity \({HEAD}\)"),
}


@pytest.mark.parametrize(("change", "words"), STATES.values(), ids=STATES)
def test_tensors_that_do_not_fit(tmp_path: Path, saved: Path, change: Callable, words: str) -> None:
    _refused(_rewrite(saved, tmp_path / "misfit.safetensors", state=change), words)


def test_weights_of_another_size_under_the_same_header(tmp_path: Path, saved: Path) -> None:
    other = LabramForClassification(n_outputs=3, **{**TINY, "embed_dim": 64, "num_layers": 3})
    path = _rewrite(saved, tmp_path / "b.safetensors", state=lambda _: dict(other.state_dict()))
    message = _refused(path, "contradicts itself, the LabramForClassification it describes is not the one it holds")
    assert "are unknown to the model (encoder.blocks.2." in message
    assert "have another shape (encoder." in message
