"""What every model is built with, and what it remembers of it."""

from __future__ import annotations

import copy
import inspect
import itertools
import json
import pickle
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from braindecode.models.util import models_dict, non_classification_models
from torch import nn

from mne_labram.models import (
    BrainCodec,
)

from .rows import N_TIMES, SFREQ, Row, all_models, build, channel_info, every_model, signal


def _signal_arguments(row: Row) -> Iterator[dict[str, Any]]:
    """Give every permitted combination of the six signal arguments and the names."""
    channels = [
        {"chs_info": channel_info(row.ch_names)},
        {"ch_names": row.ch_names},
        {"ch_names": row.ch_names, "n_chans": 4},
        {"ch_names": row.ch_names, "chs_info": channel_info(row.ch_names), "n_chans": 4},
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
            shapes.add(tuple(model(signal()).shape))
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
    assert row.cls is BrainCodec or "final_layer" in [name for name, _ in build(row).named_children()][-2:]


@every_model
def test_bad_channels(row: Row) -> None:
    for change, words in (
        ({"ch_names": None}, "must know its channels: pass ch_names"),
        ({"ch_names": ["FP1", "NOWHERE"]}, "NOWHERE"),
        ({"ch_names": ["FP1", "Fp1"]}, "FP1 occurs more than once"),
        ({"ch_names": []}, "at least one channel"),
        ({"n_chans": 5}, "4 channel names for n_chans=5"),
        ({"chs_info": channel_info(["CZ"])}, "4 channel names, but chs_info is of 1"),
        ({"sfreq": 256.0}, "works at 200 Hz, not 256 Hz"),
        ({"spatial": "topography"}, "spatial must be one of"),
        ({"size": "gigantic"}, "size must be one of"),
        ({"num_heads": 3}, r"num_heads \(3\) must divide"),
        ({"patch_embed": "fft"}, "patch_embed must be one of"),
        ({"patch_size": 4}, "patch_size must be at least 8"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            build(row, **change)
        assert "\n" not in str(error.value)
    with pytest.raises(TypeError, match="got one string"):
        build(row, ch_names="FP1")


@all_models
def test_activation_is_a_class(row: Row) -> None:
    names = {type(layer).__name__ for layer in build(row, activation=nn.ELU).modules()}
    assert "ELU" in names
    assert "GELU" not in names


@all_models
def test_config_survives_json(row: Row) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for channels in ({}, {"ch_names": None, "chs_info": channel_info(row.ch_names)}):
            model = build(row, activation=nn.ELU, contract={"h_freq": 45.0}, **channels).eval()
            again = row.cls.from_config(json.loads(json.dumps(model.get_config()))).eval()
            assert json.dumps(again.get_config()) == json.dumps(model.get_config())
            assert again.ch_names == row.ch_names
            again.load_state_dict(model.state_dict())
            assert torch.equal(again(signal()), model(signal()))
            assert again.contract == model.contract
    assert model.contract.h_freq == 45.0


@all_models
def test_copies(row: Row) -> None:
    model = build(row).eval()
    expected = model(signal())
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(again(signal()), expected)
        assert again.get_config() == model.get_config()
        with torch.no_grad():
            next(again.parameters()).add_(1.0)
    assert torch.equal(model(signal()), expected)


@all_models
def test_reset_head(row: Row) -> None:
    model = build(row)
    if row.n_outputs is None:
        with pytest.raises(TypeError, match="no classification head"):
            model.reset_head(5)
        return
    features = model.embed(signal())
    model.reset_head(10)
    assert model.n_outputs == model.get_config()["n_outputs"] == 10
    assert model(signal()).shape == (2, 10)
    assert torch.equal(model.embed(signal()), features)
    with pytest.raises(ValueError, match="n_outputs must be positive"):
        model.reset_head(0)


@all_models
def test_summary(row: Row) -> None:
    assert row.cls.__name__ in str(build(row))


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
