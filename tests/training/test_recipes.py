"""Recipes: the numbers of the paper, and nothing that is not understood."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mne_labram.training import recipes
from mne_labram.training.recipe_kinds import KINDS, kind_of_name
from mne_labram.training.recipes import load_recipe, recipe_names, with_training

from .recordings import small_tokenizer

SIZES = ("base", "large", "huge", "tiny")


def test_what_ships() -> None:
    labram = [f"{size}-{kind}" for size in SIZES for kind in ("tokenizer", "masked")]
    assert {*labram, "tiny-codec"} <= set(recipe_names())
    assert recipe_names("masked") == [f"{size}-masked" for size in sorted(SIZES)]
    assert recipe_names("tokenizer") == [f"{size}-tokenizer" for size in sorted(SIZES)]
    for name in recipe_names():
        recipe = load_recipe(name)
        assert recipe.kind == kind_of_name(name)
        assert recipe == load_recipe(name.removesuffix(f"-{recipe.kind}"), recipe.kind)
        assert recipe.name == name
        assert recipe.description


def test_the_tokenizer_of_the_paper() -> None:
    """Jiang et al. (2024), table 3."""
    recipe = load_recipe("base", "tokenizer")
    training = recipe.training
    assert (training.lr, training.min_lr, training.betas) == (5e-5, 1e-5, (0.9, 0.99))
    assert (training.weight_decay, training.epochs, training.warmup_epochs) == (1e-4, 100, 10)
    assert training.clip_grad is None
    assert recipe.windows == {"tokens_per_window": 256, "stride": 1.0, "batch_size": 1024, "shift": False}
    assert recipe.contract_fields() == {"l_freq": 0.1, "h_freq": 75.0, "notch": True, "reference": "recorded"}
    assert recipe.augment is None
    model = recipe.build_model()
    assert (model.n_codes, model.quantizer.dim, len(model.encoder.blocks), len(model.decoder.blocks)) == (
        8192,
        64,
        12,
        3,
    )
    assert model.target.kind == "amplitude+phase"
    # The count of the authors' own code.
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(7_522_640, rel=0.01)
    for size in ("large", "huge"):
        other = load_recipe(size, "tokenizer")
        assert (other.training, other.windows, other.signal) == (training, recipe.windows, recipe.signal)
    assert load_recipe("large", "tokenizer").model["size"] == "large"
    assert load_recipe("huge", "tokenizer").model["size"] == "base"


@pytest.mark.parametrize(
    ("size", "layer_scale", "n_parameters"), [("base", 0.1, 5.8e6), ("large", 1e-5, 46e6), ("huge", 1e-6, 369e6)]
)
def test_the_models_of_the_paper(size: str, layer_scale: float, n_parameters: float) -> None:
    """Jiang et al. (2024), tables 1 and 4."""
    recipe = load_recipe(size, "masked")
    training = recipe.training
    assert (training.lr, training.min_lr, training.betas) == (5e-4, 1e-5, (0.9, 0.98))
    assert (training.weight_decay, training.epochs, training.warmup_epochs) == (0.05, 50, 5)
    assert (training.clip_grad, training.layer_decay) == (3.0, None)
    assert recipe.windows == {"tokens_per_window": 256, "stride": 4.0, "batch_size": 512, "shift": False}
    # On no device: huge would take 1.5 GB.
    with torch.device("meta"):
        model = recipe.build_model(small_tokenizer())
    assert (model.mask_ratio, model.symmetric, model.cls_position) == (0.5, True, "cls_row")
    assert recipe.model["layer_scale"] == layer_scale
    assert recipe.model["drop_path_prob"] == 0.0
    assert sum(p.numel() for p in model.encoder.parameters()) == pytest.approx(n_parameters, rel=0.02)


@pytest.mark.parametrize("kind", ["tokenizer", "masked", "codec"])
def test_tiny_is_small_and_knows_every_montage(kind: str) -> None:
    recipe = load_recipe("tiny", kind)
    model = recipe.build_model(load_recipe("tiny", "tokenizer").build_model() if kind == "masked" else None)
    model = getattr(model, "exported", model)
    # Codebooks are buffers.
    assert 5e5 < sum(each.numel() for each in (*model.parameters(), *model.buffers())) < 4e6
    assert model.bind_channels(["Fp1-F3", "C4-P4"]).ch_names == ["FP1-F3", "C4-P4"]
    assert model.contract.vocabulary is None
    # Subjects that judge the weights are not trained on.
    validation = recipe.data.get("validation_subjects", [])
    for number in (20, 21, 22, 23):
        assert any(f"Subject{number}" in name for name in validation)
    assert {"lr", "epochs"} <= set(recipe.training.numbers())


def _write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


_GOOD = """
kind = "tokenizer"
seed = 3
[model]
size = "small"
[signal]
h_freq = 45.0
line_freq = 50.0
[data]
folders = ["a"]
weights = {a = 2.0}
[windows]
lengths = [2.0]
[training]
lr = 1e-3
betas = [0.8, 0.9]
"""


def test_a_recipe_of_ones_own(tmp_path: Path) -> None:
    recipe = load_recipe(_write(tmp_path, _GOOD), "tokenizer")
    assert (recipe.name, recipe.seed, recipe.training.betas) == ("mine", 3, (0.8, 0.9))
    assert recipe.contract_fields() == {"h_freq": 45.0}
    assert recipe.conform_options() == {"line_freq": 50.0}
    model = recipe.build_model()
    assert model.contract.h_freq == 45.0
    assert model.quantizer.seed == 3
    assert load_recipe(tmp_path / "mine.toml", seed=9).seed == 9
    changed = with_training(recipe, max_steps=5, epochs=None)
    assert (changed.training.max_steps, changed.training.epochs) == (5, recipe.training.epochs)
    assert recipe.training.max_steps is None


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("lr = 1e-3", "learning_rate = 1", r"There is no 'learning_rate' in \[training\]; did you mean '\w+'\?"),
        ("lr = 1e-3", "warmup_epoch = 1", r"did you mean 'warmup_epochs'\?"),
        ("lr = 1e-3", "lr = 0", "lr must be a number above 0, got 0"),
        ("[model]", "[model_]", "no 'model_' in the recipe mine; did you mean 'model'"),
        ('size = "small"', "n_code = 5", r"no 'n_code' in \[model\]; did you mean 'n_codes'"),
        ('size = "small"', "contract = 5", r"no 'contract' in \[model\]"),
        ("h_freq = 45.0", "hfreq = 45.0", r"no 'hfreq' in \[signal\]; did you mean 'h_freq'"),
        ("h_freq = 45.0", "sfreq = 100.0", r"no 'sfreq' in \[signal\]"),
        ("lengths = [2.0]", "length = [2.0]", r"no 'length' in \[windows\]; did you mean 'lengths'"),
        ('folders = ["a"]', 'folder = ["a"]', r"no 'folder' in \[data\]; did you mean 'folders'"),
        ("seed = 3", "seed = -3", "seed must be a whole number of at least 0, got -3"),
        ("seed = 3", 'tokenizer = "x"', "mine is for tokenizer, which learns from no tokenizer; leave tokenizer out"),
        ("seed = 3", "seed = ", "mine is no TOML: "),
        ('kind = "tokenizer"', 'kind = "masked"', "is for masked, not for tokenizer"),
        (
            'kind = "tokenizer"',
            'kind = "both"',
            "must have kind = 'tokenizer' or .* or 'amplitude', got 'both'",
        ),
        ("[windows]\nlengths = [2.0]", "[augment]\ngains = 1", r"no 'gains' in \[augment\]; did you mean 'gain_sd'"),
        ("[windows]\nlengths = [2.0]", "[augment]\nflip = 2", "flip is a probability"),
        ("[windows]\nlengths = [2.0]", "[augment]\nflip = 'a'", "flip must be a number, got 'a'"),
        ("[windows]\nlengths = [2.0]", "[augment]\nmin_chans = 2.5", r"min_chans must be a whole number, got 2\.5"),
        # A text where a list belongs would be taken apart: the first letter of a path is the root folder.
        ('folders = ["a"]', 'folders = "/a"', r"folders in \[data\] must be a list of texts, got '/a'"),
        ('folders = ["a"]', 'validation_files = "*x*"', r"validation_files in \[data\] must be a list of texts"),
        ('folders = ["a"]', "exclude_subjects = [3]", r"exclude_subjects in \[data\] must be a list of texts"),
        ("weights = {a = 2.0}", "weights = [2.0]", r"weights in \[data\] must be numbers by data set"),
        ("lengths = [2.0]", "lengths = 2.0", r"lengths in \[windows\] must be a list of numbers, got 2\.0"),
        ("lengths = [2.0]", "shift = 1", r"shift in \[windows\] must be true or false, got 1"),
        ("lengths = [2.0]", "stride = '4'", r"stride in \[windows\] must be a number, got '4'"),
        ("lengths = [2.0]", "batch_size = 4.5", r"batch_size in \[windows\] must be a whole number, got 4\.5"),
        ("betas = [0.8, 0.9]", "betas = 0.9", r"betas must be two numbers in \[0, 1\), got 0\.9"),
        ("betas = [0.8, 0.9]", "betas = ['a', 1]", r"betas must be two numbers in \[0, 1\)"),
        ('size = "small"', "n_codes = '512'", r"n_codes in \[model\] must be a whole number, got '512'"),
        ('size = "small"', "num_layers = 2.5", r"num_layers in \[model\] must be a whole number, got 2\.5"),
        (
            'size = "small"',
            "revive_dead_codes = 'no'",
            "revive_dead_codes in .* must be true or false, got 'no'",
        ),
        ('size = "small"', "decay = true", r"decay in \[model\] must be a number, got True"),
        ('size = "small"', "size = 3", r"size in \[model\] must be a text, got 3"),
        ("h_freq = 45.0", "h_freq = '45'", r"h_freq in \[signal\] must be a number, got '45'"),
        ("h_freq = 45.0", "notch = 'no'", r"notch in \[signal\] must be true or false, got 'no'"),
        ('size = "small"', 'activation = "GELU"', r"no 'activation' in \[model\]"),
        ("[windows]\nlengths = [2.0]", "[augment]\nflip = 0.5", "bipolar channels, most of which have no name"),
        ("[windows]\nlengths = [2.0]", "", None),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path: Path, old: str, new: str, match: str | None) -> None:
    text = _GOOD.replace(old, new)
    assert text != _GOOD
    if match is None:
        assert load_recipe(_write(tmp_path, text), "tokenizer").windows == {}
        return
    with pytest.raises(ValueError, match=match) as error:
        load_recipe(_write(tmp_path, text), "tokenizer")
    assert "\n" not in str(error.value)


def test_a_table_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model in the recipe mine must be a table, \[model\]"):
        load_recipe(_write(tmp_path, 'kind = "tokenizer"\nmodel = 3'))


def test_the_tokenizer_of_a_recipe_is_a_text(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tokenizer in the recipe mine must be a text, got 3"):
        load_recipe(_write(tmp_path, 'kind = "masked"\ntokenizer = 3'))


def test_which_recipe() -> None:
    with pytest.raises(FileNotFoundError, match="no file 'medium'; the recipes that ship are base, huge, large, tiny"):
        load_recipe("medium", "masked")
    with pytest.raises(ValueError, match="one of tokenizer, masked, codec, .*, amplitude, got 'classifier'"):
        load_recipe("base", "classifier")


def test_a_codec_comes_with_its_losses(tmp_path: Path) -> None:
    text = 'kind = "codec"\n[model]\nratios = [2, 2]\ndim = 4\n[losses]\n'
    model = load_recipe(_write(tmp_path, text + "weights = { l1 = 2.0 }\nrefinement = 0.5")).build_model()
    assert model.codec.stride == 4
    assert (model.weights, model.refinement) == ({"l1": 2.0}, 0.5)
    for line, message in {
        "refinemen = 1.0": "refinement",
        'refinement = "much"': "must be a number",
        "weights = { l3 = 1.0 }": "no loss 'l3'",
        "refinement = -1.0": "must not be negative",
    }.items():
        with pytest.raises(ValueError, match=message):
            load_recipe(_write(tmp_path, text + line)).build_model()
    with pytest.raises(ValueError, match="losses"):
        load_recipe(_write(tmp_path, _GOOD + "[losses]\nrefinement = 1.0"))


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("weights = 3", "numbers by name"),
        ('weights = { l2 = "a" }', "numbers by name"),
        ("n_ffts = 5", "list of whole numbers"),
        ("n_ffts = [64.5]", "list of whole numbers"),
        ('refinement_octaves = ["a", "b"]', "list of numbers"),
        ("refinement = true", "a number"),
        ("n_times = 1.5", "a whole number"),
    ],
)
def test_losses_of_another_type_are_refused(tmp_path: Path, line: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        load_recipe(_write(tmp_path, f'kind = "codec"\n[model]\nratios = [2, 2]\n[losses]\n{line}\n'))


def test_a_tokenizer_of_another_signal_is_refused() -> None:
    recipe = load_recipe("tiny", "masked")
    with pytest.raises(ValueError, match="needs a tokenizer: set tokenizer"):
        recipe.build_model()
    own = {name: recipe.signal[name] for name in ("l_freq", "h_freq", "notch", "reference")}
    other = small_tokenizer(contract={**own, "h_freq": 30.0, "notch": not own["notch"]})
    with pytest.raises(ValueError, match=r"trained on another signal: h_freq, notch of its contract differ"):
        recipe.build_model(other)


def test_a_kind_is_the_whole_end_of_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``tiny-gram-tokenizer`` ends in ``tokenizer`` too, and is no recipe ``tiny-gram`` for one."""
    assert kind_of_name("tiny-gram-tokenizer") == "gram-tokenizer"
    assert kind_of_name("tiny-tokenizer") == "tokenizer"
    assert kind_of_name("tiny-gram") == "gram"
    assert kind_of_name("tokenizer") is None
    assert kind_of_name("mine") is None
    for kind in ("tokenizer", "gram-tokenizer"):
        (tmp_path / f"tiny-{kind}.toml").write_text('kind = "tokenizer"')
    monkeypatch.setattr(recipes, "_folder", lambda: tmp_path)
    assert recipe_names("tokenizer") == ["tiny-tokenizer"]
    assert recipe_names("gram-tokenizer") == ["tiny-gram-tokenizer"]
    assert load_recipe("tiny", "tokenizer").name == "tiny-tokenizer"
    with pytest.raises(FileNotFoundError, match="no file 'tiny-gram'; the recipes that ship are tiny"):
        load_recipe("tiny-gram", "tokenizer")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_trained(kind: str) -> None:
    known = KINDS[kind]
    assert callable(known.model_class().training_step)
    assert {"ch_names", "contract"} <= set(known.arguments())
    # A part of a model that learns from codes may be trained without them.
    assert ("tokenizer" in known.arguments()) == (known.needs_tokenizer or known.needs_start)
    assert bool(known.loss_arguments()) == (kind in ("codec", "spatial-filter"))
