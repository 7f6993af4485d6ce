"""Weights that a training begins with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from mne_labram import load_checkpoint, save_checkpoint
from mne_labram.benchmark.synthetic import simulate_recording
from mne_labram.commands.main import app
from mne_labram.models.eegfoundation import EEGFoundationForMaskedModeling
from mne_labram.models.gram import GramForRestoration
from mne_labram.training.recipes import Recipe, load_recipe
from mne_labram.training.start import load_weights
from mne_labram.weights import describe_checkpoint

from .recordings import small_tokenizer

_BODY = {"embed_dim": 16, "num_layers": 1, "num_heads": 2}
_RECIPE = """
kind = "spatial-filter"
start = "{start}"
[losses]
decay = 0.5
[signal]
l_freq = 1.0
h_freq = 30.0
[windows]
lengths = [2.0]
batch_size = 6
[training]
lr = 1e-3
max_steps = 3
log_every = 1
[augment]
artefact = 0.5
"""


def _gram(**options) -> GramForRestoration:
    torch.manual_seed(0)
    decoder = {"decoder_dim": 16, "decoder_layers": 1, "decoder_heads": 2}
    contract = {"h_freq": 45.0}
    return GramForRestoration(
        ch_names=["FP1", "CZ"], n_codes=8, spatial="coordinates", contract=contract, **{**_BODY, **decoder, **options}
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    for i, name in enumerate(("anna", "bert")):
        simulate_recording(14.0, [], seed=i).save(tmp_path / "data" / f"{name}_raw.fif", verbose="error")
    small = {"rank": 4, "embed_dim": 8, "num_layers": 1, "num_heads": 2}
    save_checkpoint(_gram(spatial_filter=small), tmp_path / "start.safetensors")
    return tmp_path


def test_a_part_of_a_model_is_trained_on(folder: Path) -> None:
    """By the command: the filter has moved, the rest is what it was, and the card says what it began with."""
    (folder / "mine.toml").write_text(_RECIPE.format(start=folder / "start.safetensors"))
    arguments = ["pretrain", "spatial-filter", folder / "mine.toml", "--data", folder / "data", "--out", folder / "out"]
    result = CliRunner().invoke(app, [*map(str, arguments), "--device", "cpu", "-q"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    old, new = (load_checkpoint(folder / name).state_dict() for name in ("start.safetensors", "out/final.safetensors"))
    moved = {name.split(".")[0] for name in old if not torch.equal(old[name], new[name])}
    assert moved == {"spatial_filter"}
    # It was trained on another band than the rest of the model is shown, and the model is what it was.
    contract = load_checkpoint(folder / "out" / "final.safetensors").contract
    assert contract == load_checkpoint(folder / "start.safetensors").contract
    assert len(list((folder / "out" / "cache").iterdir())) > 0
    description = describe_checkpoint(folder / "out" / "final.safetensors")
    assert description["card"]["start"]["name"] == "start.safetensors"
    assert description["card"]["start"]["sha256"] == load_weights(folder / "start.safetensors")[1]["sha256"]
    # With other weights to begin with it is another training, and cannot be gone on with.
    (folder / "out" / "final.safetensors").unlink()
    save_checkpoint(load_checkpoint(folder / "start.safetensors"), folder / "other.safetensors", card={"a": 1})
    result = CliRunner().invoke(
        app, [*map(str, arguments), "--device", "cpu", "-q", "--resume", "--start", str(folder / "other.safetensors")]
    )
    assert isinstance(result.exception, ValueError)
    assert "is of another training" in str(result.exception)


def test_any_kind_may_start_with_weights() -> None:
    """A model for masked modelling goes on where it was, and its tokenizer is the one that is given."""
    tokenizer = small_tokenizer()
    recipe = load_recipe("tiny", "masked")
    fields = {"model": {"size": "base", **_BODY, "n_codes": tokenizer.n_codes}, "signal": {}, "losses": {}}
    recipe = replace(recipe, **fields)
    torch.manual_seed(1)
    start = recipe.build_model(tokenizer)
    assert recipe.build_model(tokenizer, start) is start
    assert start._tokenizer[0] is tokenizer


def test_other_weights_than_the_recipe_describes_are_refused() -> None:
    recipe = Recipe("mine", "spatial-filter", model={"embed_dim": 32})
    with pytest.raises(ValueError, match="The recipe mine needs weights to start with"):
        recipe.build_model()
    with pytest.raises(ValueError, match=r"embed_dim is 32 in \[model\] of the recipe mine and 16 in the weights"):
        recipe.build_model(None, _gram())
    with pytest.raises(ValueError, match="has no spatial filter to train"):
        replace(recipe, model={}).build_model(None, _gram())
    other = EEGFoundationForMaskedModeling(ch_names=["FP1", "CZ"], size="tiny")
    with pytest.raises(ValueError, match=r"trains a GramForRestoration.*those of a EEGFoundationForMaskedModeling"):
        recipe.build_model(None, other)
    tokenizer = small_tokenizer()
    masked = replace(load_recipe("tiny", "masked"), name="mine", model={**_BODY, "n_codes": tokenizer.n_codes})
    start = replace(masked, signal={}).build_model(tokenizer)
    with pytest.raises(ValueError, match=r"h_freq is 45.0 in \[signal\] of the recipe mine and 75.0 in the weights"):
        replace(masked, signal={"h_freq": 45.0}).build_model(tokenizer, start)


def test_the_shipped_one_starts_with_what_ships() -> None:
    recipe = load_recipe("tiny", "spatial-filter")
    start, _ = load_weights(recipe.start)
    training = recipe.build_model(None, start)
    assert training.exported is start


def test_artefacts_are_for_those_who_learn_from_them(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'kind = "tokenizer"\n[model]\nspatial = "coordinates"\n[augment]\nartefact = 0.2'
    )
    with pytest.raises(ValueError, match="simulates artefacts, which only gram and spatial-filter learn from"):
        load_recipe(tmp_path / "mine.toml")
    (tmp_path / "mine.toml").write_text('kind = "gram"\nstart = 3')
    with pytest.raises(ValueError, match="start in the recipe mine must be a text, got 3"):
        load_recipe(tmp_path / "mine.toml")
