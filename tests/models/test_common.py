"""What every model of this package promises; a new model adds a row."""

from __future__ import annotations

import copy
import inspect
import itertools
import json
import pickle
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import mne
import numpy as np
import pytest
import torch
from braindecode import EEGClassifier
from braindecode.datasets import BaseConcatDataset, RawDataset
from braindecode.models.util import models_dict, non_classification_models
from braindecode.preprocessing import create_fixed_length_windows
from sklearn.base import clone
from torch import nn

from mne_labram.models import (
    BrainCodec,
    BrainCodecForSeizure,
    EEGFoundationForClassification,
    EEGFoundationForMaskedModeling,
    GramForClassification,
    GramForRestoration,
    GramTokenizer,
    LabramForClassification,
    LabramForMaskedModeling,
    LabramTokenizer,
    NeuroStorm,
)
from mne_labram.signal.contract import SignalContract
from mne_labram.signal.positions import electrode_positions

CH_NAMES = ["FP1", "CZ", "T7", "O2"]
SFREQ, N_TIMES = 200.0, 600


class Row(NamedTuple):
    """A model to test."""

    cls: type[nn.Module]
    kwargs: dict[str, Any]  # small sizes
    output_shape: tuple[int, ...]  # for a batch of 2 windows of N_TIMES samples of CH_NAMES
    n_outputs: int | None = None  # None: not a classifier
    ch_names: list[str] = CH_NAMES
    # Parameters whose gradient is zero by construction: a constant added to every key cancels in the softmax, and at
    # this width every filter is a group of its own, whose mean GroupNorm takes away.
    no_gradient: tuple[str, ...] = ("k_norm.bias", "conv1.bias", "conv2.bias", "conv3.bias")


_TINY = {"embed_dim": 16, "num_layers": 2, "num_heads": 2}
_CODES = {"n_codes": 8, "code_dim": 4, "decoder_layers": 1}
_ENCODER_BIASES = tuple(f"encoder.patch_embed.conv{i}.bias" for i in (1, 2, 3))
_DECODER = {"decoder_dim": 16, "decoder_layers": 1, "decoder_heads": 2}
ROWS: dict[str, Row] = {
    "classification": Row(LabramForClassification, _TINY, (2, 3), 3),
    "classification-cls": Row(LabramForClassification, {**_TINY, "pooling": "cls"}, (2, 3), 3),
    "classification-coordinates": Row(
        LabramForClassification,
        {**_TINY, "spatial": "coordinates", "patch_embed": "conv+spectrum", "input_scale": 10.0},
        (2, 3),
        3,
        ch_names=["FP1-F3", "F3-C3", "FZ", "FZ-CZ"],
    ),
    "neurostorm": Row(
        NeuroStorm,
        {**_TINY, "spatial": "coordinates", "input_scale": 10.0},
        (2, 3),
        3,
        ch_names=["FP1-F3", "F3-C3", "FZ", "FZ-CZ"],
    ),
    "neurostorm-relative": Row(
        NeuroStorm,
        {**_TINY, "amplitude": "relative", "spatial": "names", "patch_embed": "conv", "input_scale": 100.0},
        (2, 3),
        3,
    ),
    "masked": Row(LabramForMaskedModeling, {**_TINY, "n_codes": 8}, (2, 12, 8)),
    "masked-repaired": Row(
        LabramForMaskedModeling, {**_TINY, "n_codes": 8, "cls_position": "cls_row", "symmetric": False}, (2, 12, 8)
    ),
    "tokenizer": Row(LabramTokenizer, {**_TINY, **_CODES}, (2, 4, 3, 400)),
    "tokenizer-log": Row(
        LabramTokenizer, {**_TINY, **_CODES, "target": "log_amplitude", "kmeans_init": False}, (2, 4, 3, 45)
    ),
    "tokenizer-sincos": Row(LabramTokenizer, {**_TINY, **_CODES, "target": "amplitude+sincos"}, (2, 4, 3, 303)),
    "gram-classification": Row(GramForClassification, _TINY, (2, 3), 3),
    "gram-classification-coordinates": Row(
        GramForClassification,
        {**_TINY, "spatial": "coordinates", "patch_embed": "conv+spectrum", "input_scale": 10.0, "pooling": "mean"},
        (2, 3),
        3,
        ch_names=["FP1-F3", "F3-C3", "FZ", "FZ-CZ"],
    ),
    "gram-tokenizer": Row(GramTokenizer, {**_TINY, **_CODES}, (2, 4, 3, 200), no_gradient=_ENCODER_BIASES),
    "gram-tokenizer-spectrum": Row(
        GramTokenizer,
        {**_TINY, **_CODES, "target": "signal+spectrum", "kmeans_init": False},
        (2, 4, 3, 245),
        no_gradient=_ENCODER_BIASES,
    ),
    "gram-restoration": Row(GramForRestoration, {**_TINY, **_DECODER, "n_codes": 8}, (2, 12, 8)),
    "gram-restoration-log": Row(
        GramForRestoration,
        {**_TINY, **_DECODER, "n_codes": 8, "mimic": "log_amplitude", "masking": "mixed", "spatial": "coordinates"},
        (2, 12, 8),
        ch_names=["FP1-F3", "F3-C3", "FZ", "FZ-CZ"],
    ),
}
_CODEC = {"ratios": [2, 4], "n_filters": 2, "max_filters": 4, "dim": 8, "n_codebooks": 2, "codebook_size": 8}
# Those that have not LaBraM's tokens of one second; they promise less.
CODECS: dict[str, Row] = {
    "braincodec": Row(BrainCodec, {**_CODEC, "input_scale": 20.0, "dead_code_threshold": 0.0}, (2, 4, N_TIMES)),
    "braincodec-linear": Row(
        BrainCodec,
        {**_CODEC, "linear_path": True, "gain": True, "codebook_dim": 4, "cosine": True, "quantizer_dropout": 0.5},
        (2, 4, N_TIMES),
    ),
}
CODECS["braincodec-seizure"] = Row(
    BrainCodecForSeizure,
    {**{name: _CODEC[name] for name in ("ratios", "n_filters", "max_filters", "dim")}, "freeze_encoder": False},
    (2, 3),
    3,
)
CODECS |= {
    "eegfoundation-masked": Row(EEGFoundationForMaskedModeling, _TINY, (2, 4, N_TIMES, 2006)),
    "eegfoundation-masked-patches": Row(
        EEGFoundationForMaskedModeling,
        {**_TINY, "input": "patches", "amplitude": "mulaw", "masking": "span", "smoothing": 5.0, "fusion_layers": 1}
        | {"spectral_weight": 1.0},
        (2, 4, N_TIMES, 2006),
    ),
    "eegfoundation": Row(EEGFoundationForClassification, {**_TINY, "head_dim": 16}, (2, 3), 3),
    "eegfoundation-names": Row(
        EEGFoundationForClassification,
        {
            **_TINY,
            "head_dim": 16,
            "input": "patches",
            "amplitude": "robust",
            "spatial": "names",
            "pooling": "attention",
        },
        (2, 3),
        3,
    ),
}
CLASSIFIERS = {name: row for name, row in {**ROWS, **CODECS}.items() if row.n_outputs is not None}

every_model = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
all_models = pytest.mark.parametrize("row", [*ROWS.values(), *CODECS.values()], ids=[*ROWS, *CODECS])
every_classifier = pytest.mark.parametrize("row", CLASSIFIERS.values(), ids=CLASSIFIERS)


def _build(row: Row, **changes: Any) -> nn.Module:
    torch.manual_seed(0)
    arguments = {"n_outputs": row.n_outputs, "ch_names": row.ch_names, "n_times": N_TIMES, **row.kwargs, **changes}
    return row.cls(**arguments)


def _x(n: int = 2, n_times: int = N_TIMES, n_chans: int = 4) -> torch.Tensor:
    return 30 * torch.randn(n, n_chans, n_times, generator=torch.Generator().manual_seed(1))


def _loss(row: Row, model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Compute what training minimises."""
    if row.n_outputs is not None:
        return nn.functional.cross_entropy(model(x), torch.arange(len(x)) % row.n_outputs)
    if isinstance(model, LabramForMaskedModeling | GramForRestoration):
        torch.manual_seed(0)
        cls = LabramTokenizer if isinstance(model, LabramForMaskedModeling) else GramTokenizer
        return model.training_step(x, _tokenizer(row.ch_names, cls))["loss"]
    torch.manual_seed(0)
    return model.training_step(x)["loss"]


def _tokenizer(ch_names: list[str], cls: type[nn.Module] = LabramTokenizer) -> nn.Module:
    torch.manual_seed(3)
    return cls(ch_names=ch_names, spatial="coordinates", **_TINY, **_CODES)


def _chs_info(ch_names: list[str]) -> list[dict]:
    info = mne.create_info([name.replace("CZ", "Cz") for name in ch_names], SFREQ, "eeg")
    for ch, position in zip(info["chs"], electrode_positions(ch_names), strict=True):
        ch["loc"][:3] = position[:3]
    return info["chs"]


def _signal_arguments(row: Row) -> Iterator[dict[str, Any]]:
    """Give every permitted combination of the six signal arguments and the names."""
    channels = [
        {"chs_info": _chs_info(row.ch_names)},
        {"ch_names": row.ch_names},
        {"ch_names": row.ch_names, "n_chans": 4},
        {"ch_names": row.ch_names, "chs_info": _chs_info(row.ch_names), "n_chans": 4},
    ]
    seconds = N_TIMES / SFREQ
    times = [
        {},
        {"n_times": N_TIMES},
        {"n_times": N_TIMES, "sfreq": SFREQ},
        {"sfreq": SFREQ, "input_window_seconds": seconds},
        {"n_times": N_TIMES, "input_window_seconds": seconds},
        {"n_times": N_TIMES, "sfreq": SFREQ, "input_window_seconds": seconds},
    ]
    for channel, time in itertools.product(channels, times):
        yield {**channel, **time}


@all_models
def test_every_combination_of_signal_arguments(row: Row) -> None:
    shapes = set()
    for arguments in _signal_arguments(row):
        model = row.cls(n_outputs=row.n_outputs, **arguments, **row.kwargs).eval()
        assert model.ch_names == row.ch_names
        assert model.n_chans == 4
        with torch.inference_mode():
            shapes.add(tuple(model(_x()).shape))
        if "n_times" in arguments or "input_window_seconds" in arguments:
            assert model.get_output_shape() == (1, *row.output_shape[1:])
    assert shapes == {row.output_shape}


@all_models
def test_signature(row: Row) -> None:
    parameters = inspect.signature(row.cls.__init__).parameters
    six = ["n_outputs", "n_chans", "chs_info", "n_times", "input_window_seconds", "sfreq"]
    assert list(parameters)[1:8] == [*six, "ch_names"]
    assert all(parameters[name].default is None for name in six)
    assert issubclass(parameters["activation"].default, nn.Module)
    assert "drop_prob" in parameters
    assert not any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in parameters.values())
    assert list(inspect.signature(row.cls.forward).parameters)[1:3] == ["x", "return_features"]
    # The last layer of a codec has the name that its authors gave it.
    assert row.cls is BrainCodec or "final_layer" in [name for name, _ in _build(row).named_children()][-2:]


@every_model
def test_shorter_windows_than_at_construction(row: Row) -> None:
    model = _build(row).eval()
    for n_patches in (1, 2, 3, 16):
        out = model(_x(n_times=200 * n_patches))
        assert torch.isfinite(out).all()
        if row.n_outputs is None:
            assert out[0].numel() == 4 * n_patches * row.output_shape[-1]
    for n_times, words in (
        (100, "at least one patch of 200 samples, got 100"),
        (0, "at least one patch"),
        (601, "crop it to 600"),
        (3400, "at most 16 patches"),
    ):
        with pytest.raises(ValueError, match=words):
            model(_x(n_times=n_times))
        with pytest.raises(ValueError, match=words):
            _build(row, n_times=n_times)


@every_model
def test_other_channels_at_forward(row: Row) -> None:
    model = _build(row)
    with pytest.raises(ValueError, match=f"Input has 3 channels, but {row.cls.__name__} is bound to 4"):
        model(_x(n_chans=3))
    with pytest.raises(ValueError, match="Input must have the shape"):
        model(_x()[0])


@every_model
def test_batch_of_one_in_training(row: Row) -> None:
    model = _build(row, drop_prob=0.1, attn_drop_prob=0.1, drop_path_prob=0.1).train()
    assert torch.isfinite(_loss(row, model, _x(1)))
    assert model(_x(1)).shape == (1, *row.output_shape[1:])


@every_model
def test_width_of_128(row: Row) -> None:
    model = _build(row, embed_dim=128, num_heads=None).eval()
    assert model.embed_dim == 128
    assert model(_x(), return_features=True)["features"].shape == (2, 12, 128)


@every_model
def test_features(row: Row) -> None:
    model = _build(row).eval()
    out = model(_x(), return_features=True)
    assert {"features", "cls_token"} <= set(out)
    assert out["features"].shape == (2, 12, 16)
    assert out["cls_token"].shape == (2, 16)
    assert isinstance(model(_x()), torch.Tensor)
    tokens = model.embed(_x(), "tokens")
    assert tokens.shape == (2, 4, 3, 16)
    torch.testing.assert_close(tokens.flatten(1, 2), out["features"])
    torch.testing.assert_close(model.embed(_x(), "cls"), out["cls_token"])
    assert model.embed(_x()).shape == (2, 16)
    with pytest.raises(ValueError, match="pooling must be one of"):
        model.embed(_x(), "max")


@every_model
def test_tokens_are_channel_major(row: Row) -> None:
    """Without position embeddings and blocks, a token is a function of its own patch and the sample's statistics."""
    model = _build(row, drop_prob=0.0).eval()
    model.encoder.blocks = nn.ModuleList()
    x = _x(1)
    # Statistics of the sample do not change when two patches are exchanged.
    swapped = x.clone()
    swapped[:, 1, 400:600], swapped[:, 2, 0:200] = x[:, 2, 0:200], x[:, 1, 400:600]
    with torch.no_grad():
        model.encoder.time_embed.zero_()
        for table in itertools.chain(model.encoder.spatial_embed.parameters(), model.encoder.spatial_embed.buffers()):
            table.zero_()
        before, after = model.embed(x, "tokens"), model.embed(swapped, "tokens")
    torch.testing.assert_close(after[:, 1, 2], before[:, 2, 0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(after[:, 2, 0], before[:, 1, 2], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(after[:, 3], before[:, 3], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(before[:, 1, 2], before[:, 2, 0], atol=1e-2)


@all_models
def test_reset_head(row: Row) -> None:
    model = _build(row)
    if row.n_outputs is None:
        with pytest.raises(TypeError, match="no classification head"):
            model.reset_head(5)
        return
    features = model.embed(_x())
    model.reset_head(10)
    assert model.n_outputs == model.get_config()["n_outputs"] == 10
    assert model(_x()).shape == (2, 10)
    assert torch.equal(model.embed(_x()), features)
    with pytest.raises(ValueError, match="n_outputs must be positive"):
        model.reset_head(0)


@all_models
def test_config_survives_json(row: Row) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for channels in ({}, {"ch_names": None, "chs_info": _chs_info(row.ch_names)}):
            model = _build(row, activation=nn.ELU, contract={"h_freq": 45.0}, **channels).eval()
            again = row.cls.from_config(json.loads(json.dumps(model.get_config()))).eval()
            assert json.dumps(again.get_config()) == json.dumps(model.get_config())
            assert again.ch_names == row.ch_names
            again.load_state_dict(model.state_dict())
            assert torch.equal(again(_x()), model(_x()))
            assert again.contract == model.contract
    assert model.contract.h_freq == 45.0


@all_models
def test_copies(row: Row) -> None:
    model = _build(row).eval()
    expected = model(_x())
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(again(_x()), expected)
        assert again.get_config() == model.get_config()
        with torch.no_grad():
            next(again.parameters()).add_(1.0)
    assert torch.equal(model(_x()), expected)


@all_models
def test_activation_is_a_class(row: Row) -> None:
    names = {type(layer).__name__ for layer in _build(row, activation=nn.ELU).modules()}
    assert "ELU" in names
    assert "GELU" not in names


@every_model
def test_contract(row: Row) -> None:
    model = _build(row)
    contract = model.contract
    assert isinstance(contract, SignalContract)
    assert (contract.sfreq, contract.patch_samples, contract.max_patches) == (200.0, 200, 16)
    assert contract.scale == row.kwargs.get("input_scale", 100.0)
    coordinates = row.kwargs.get("spatial") == "coordinates"
    gram = issubclass(row.cls, GramTokenizer | GramForRestoration | GramForClassification)
    assert contract.vocabulary == (None if coordinates else "gram" if gram else "labram")
    assert contract.montages == (("referential", "bipolar") if coordinates else ("referential",))
    assert model.bind_channels(["T7-P7"]).contract.montages == ("bipolar",)
    assert _build(row, contract=SignalContract(reference="average")).contract.reference == "average"
    with pytest.raises(ValueError, match="Unknown fields in a signal contract: lowpass"):
        _build(row, contract={"lowpass": 1})


@all_models
def test_binding_shares_every_parameter(row: Row) -> None:
    model = _build(row).eval()
    expected, config = model(_x()), model.get_config()
    bound = model.bind_channels(["Fp2", "EEG T7-REF"])
    assert bound.ch_names == ["FP2", "T7"]
    assert bound.n_chans == 2
    for (name, ours), (_, theirs) in zip(model.named_parameters(), bound.named_parameters(), strict=True):
        assert ours is theirs, name
    assert bound(_x(n_chans=2)).shape[0] == 2
    # The original is what it was; the copy says what it is, can be copied itself, and can be bound back.
    assert torch.equal(model(_x()), expected)
    assert model.get_config() == config
    assert model.ch_names == row.ch_names
    assert row.cls.from_config(bound.get_config()).ch_names == ["FP2", "T7"]
    assert pickle.loads(pickle.dumps(bound)).ch_names == ["FP2", "T7"]
    assert torch.equal(bound.bind_channels(row.ch_names)(_x()), expected)
    # Training the one trains the other.
    with torch.no_grad():
        for parameter in bound.encoder.parameters():
            nn.init.normal_(parameter)
    assert not torch.equal(model(_x()), expected)


@every_model
def test_order_of_channels_does_not_matter(row: Row) -> None:
    model = _build(row).eval()
    order = [2, 0, 3, 1]
    permuted = model.bind_channels([row.ch_names[i] for i in order])
    if isinstance(model, LabramForMaskedModeling) and model.cls_position == "first_channel":
        # The official slip makes the CLS token, and through it everything, depend on which channel comes first.
        assert not torch.allclose(permuted.embed(_x()[:, order]), model.embed(_x()), rtol=1e-4, atol=1e-5)
        return
    torch.testing.assert_close(permuted.embed(_x()[:, order]), model.embed(_x()), rtol=1e-4, atol=1e-5)


@every_model
def test_bad_channels(row: Row) -> None:
    for change, words in (
        ({"ch_names": None}, "must know its channels: pass ch_names"),
        ({"ch_names": ["FP1", "NOWHERE"]}, "NOWHERE"),
        ({"ch_names": ["FP1", "Fp1"]}, "FP1 occurs more than once"),
        ({"ch_names": []}, "at least one channel"),
        ({"n_chans": 5}, "4 channel names for n_chans=5"),
        ({"chs_info": _chs_info(["CZ"])}, "4 channel names, but chs_info is of 1"),
        ({"sfreq": 256.0}, "works at 200 Hz, not 256 Hz"),
        ({"spatial": "topography"}, "spatial must be one of"),
        ({"size": "gigantic"}, "size must be one of"),
        ({"num_heads": 3}, r"num_heads \(3\) must divide"),
        ({"patch_embed": "fft"}, "patch_embed must be one of"),
        ({"patch_size": 4}, "patch_size must be at least 8"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            _build(row, **change)
        assert "\n" not in str(error.value)
    with pytest.raises(TypeError, match="got one string"):
        _build(row, ch_names="FP1")


@all_models
def test_gradient_reaches_every_parameter(row: Row) -> None:
    model = _build(row).train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    _loss(row, model, _x()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        largest = float(parameter.grad.abs().max())
        if name.endswith(row.no_gradient):
            assert largest < 1e-5, name
        else:
            assert largest > 1e-9, name


@all_models
def test_training_lowers_the_loss(row: Row) -> None:
    model = _build(row).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = _loss(row, model, _x(4))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) - 1e-3


@all_models
def test_input_is_not_modified(row: Row) -> None:
    model = _build(row)
    x = _x()
    before = x.clone()
    model.train()(x)
    _loss(row, model, x).backward()
    model.eval().embed(x)
    assert torch.equal(x, before)
    assert x.grad is None


@all_models
def test_float64_input(row: Row) -> None:
    model = _build(row).eval()
    assert torch.equal(model(_x().double()), model(_x()))
    assert model(_x()).dtype == torch.float32


@all_models
def test_units(row: Row) -> None:
    model = _build(row).eval()
    with pytest.warns(UserWarning, match="looks like volts, but .* takes microvolts; multiply by 1e6"):
        model(_x() * 1e-6)
    model(_x() * 1e-6)  # a second warning would be an error
    fresh = _build(row).eval()
    assert torch.isfinite(fresh(torch.zeros(2, 4, N_TIMES))).all()  # nothing is said about zeros
    for value in (torch.nan, torch.inf):
        x = _x()
        x[1, 2, 3] = value
        with pytest.raises(ValueError, match="Input holds NaN or infinite values"):
            fresh(x)


@all_models
def test_same_result_on_one_and_two_threads(row: Row) -> None:
    n_threads = torch.get_num_threads()
    outputs = []
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            model = _build(row).train()
            loss = _loss(row, model, _x(4))
            loss.backward()
            model.eval()
            codes = model.encode(_x(4)) if hasattr(model, "encode") else None
            outputs.append((model(_x(4)).detach(), loss.detach(), codes))
    finally:
        torch.set_num_threads(n_threads)
    (one, loss_one, codes_one), (two, loss_two, codes_two) = outputs
    torch.testing.assert_close(one, two, rtol=0, atol=1e-6)
    torch.testing.assert_close(loss_one, loss_two, rtol=1e-6, atol=0)
    if codes_one is not None:
        assert torch.equal(codes_one, codes_two)


@pytest.mark.parametrize("name", ["classification-coordinates", "masked", "tokenizer", *CODECS])
def test_one_graph_for_the_compiler(name: str) -> None:
    model = _build({**ROWS, **CODECS}[name]).eval()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(_x()), model(_x()), rtol=0, atol=1e-5)


@all_models
def test_meta_device(row: Row) -> None:
    with torch.device("meta"):
        model = _build(row).eval()
    assert all(parameter.is_meta for parameter in model.parameters())
    assert model(torch.empty(2, 4, N_TIMES, device="meta")).shape == row.output_shape


@all_models
def test_summary(row: Row) -> None:
    assert row.cls.__name__ in str(_build(row))


@all_models
def test_docstring_names_every_argument(row: Row) -> None:
    for name in inspect.signature(row.cls.__init__).parameters:
        assert name == "self" or name in (row.cls.__doc__ or ""), name
    assert ":bdg-" in row.cls.__doc__


@all_models
def test_registered(row: Row) -> None:
    name = row.cls.__name__
    assert models_dict[name] is row.cls
    assert (name in non_classification_models) == (row.n_outputs is None)


def _epochs(n: int = 8) -> mne.EpochsArray:
    """Epochs in volts, with a difference between the classes that one pass over the data shows."""
    x = 20e-6 * np.random.default_rng(0).standard_normal((n, 4, N_TIMES))
    x[n // 2 :] *= 8
    events = np.column_stack([np.arange(n), np.zeros(n, int), np.repeat([1, 2], n // 2)])
    info = mne.create_info(["Fp1", "Cz", "T7", "O2"], SFREQ, "eeg")
    return mne.EpochsArray(x, info, events, event_id={"rest": 1, "task": 2}, verbose="error")


def _classifier(row: Row, **changes: Any) -> EEGClassifier:
    arguments = {f"module__{name}": value for name, value in row.kwargs.items()}
    return EEGClassifier(
        row.cls.__name__,
        **{**arguments, "max_epochs": 2, "batch_size": 4, "train_split": None, "verbose": 0, "lr": 1e-3, **changes},
    )


@every_classifier
def test_trains_on_epochs(row: Row) -> None:
    torch.manual_seed(0)
    epochs = _epochs()
    net = _classifier(row).fit(epochs, y=epochs.events[:, 2] - 1)
    assert net.module_.ch_names == CH_NAMES
    assert net.module_.n_outputs == 2
    assert net.predict(epochs).shape == (8,)
    again = pickle.loads(pickle.dumps(net))
    np.testing.assert_array_equal(again.predict_proba(epochs), net.predict_proba(epochs))
    fresh = clone(net)
    assert not hasattr(fresh, "module_")
    fresh.fit(epochs, y=epochs.events[:, 2] - 1)
    assert np.isfinite(fresh.predict_proba(epochs)).all()


@every_classifier
def test_trains_on_arrays(row: Row) -> None:
    torch.manual_seed(0)
    epochs = _epochs()
    x = epochs.get_data(units="uV").astype(np.float32)
    y = epochs.events[:, 2] - 1
    net = _classifier(row, module__ch_names=CH_NAMES, classes=[0, 1]).fit(x, y)
    assert net.predict(x).shape == (8,)
    if row.cls is BrainCodecForSeizure:
        return  # reads any channels, and needs no names
    with pytest.raises(ValueError, match=r"module__ch_names=\[...\] for an EEGClassifier"):
        _classifier(row).fit(x, y)


# Braindecode 1.8.1 uses what pandas 3.1 deprecated.
@pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame:DeprecationWarning")
@every_classifier
def test_trains_on_windows(row: Row) -> None:
    torch.manual_seed(0)
    datasets = []
    for target in (0, 1):
        # Braindecode's datasets hand over what MNE holds, so a preprocessor has to make microvolts of it.
        raw = mne.io.RawArray(
            (8 if target else 1) * 20 * np.random.default_rng(target).standard_normal((4, 5 * N_TIMES)),
            mne.create_info(CH_NAMES, SFREQ, "eeg"),
            verbose="error",
        )
        datasets.append(RawDataset(raw, description={"subject": 0, "target": target}, target_name="target"))
    windows = create_fixed_length_windows(
        BaseConcatDataset(datasets), 0, None, N_TIMES, N_TIMES, on_last_window="drop", verbose="error"
    )
    net = _classifier(row, module__ch_names=CH_NAMES, module__n_outputs=2, classes=[0, 1]).fit(windows, y=None)
    assert net.predict(windows).shape == (10,)
