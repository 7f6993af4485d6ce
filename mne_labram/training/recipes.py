"""Recipes: all numbers of a pre-training in one TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

from torch import nn

from mne_labram.signal.contract import SignalContract
from mne_labram.training.augment import Augmentation
from mne_labram.training.recipe_kinds import KINDS, kind_of_name
from mne_labram.training.settings import TrainingSettings, unknown_key
from mne_labram.training.start import check_start

__all__ = ["KINDS", "Recipe", "load_recipe", "recipe_names", "with_training"]

# The channels that a fresh model is bound to: a checkpoint has to name some.
_CH_NAMES = "FP1 FP2 F7 F3 FZ F4 F8 T7 C3 CZ C4 T8 P7 P3 PZ P4 P8 O1 O2".split()
# Arguments of a model that a recipe does not give: the channels come from the recordings, the signal from [signal].
# What is a class in Python cannot be written in TOML.
_NOT_OF_A_RECIPE = {
    *("n_outputs", "n_chans", "chs_info", "sfreq", "contract", "tokenizer", "ch_positions", "activation"),
}
_TABLES = ("model", "losses", "signal", "data", "windows", "training", "augment")
_OPTIONS = ("kind", "description", "tokenizer", "start", "seed", *_TABLES)
_CONTRACT = ("name", "l_freq", "h_freq", "notch", "reference", "montages")
_CONFORM = ("match", "assume_unit", "line_freq", "gaps")
_DATA = ("folders", "exclude_subjects", "validation_subjects", "exclude_files", "validation_files", "weights")
_WINDOWS = ("lengths", "tokens_per_window", "batch_size", "tokens_per_batch", "stride", "shift")
# What a list holds: a text alone would be taken apart into its letters.
_LISTS = {
    **dict.fromkeys((name for name in _DATA if name != "weights"), (str, "texts")),
    "lengths": ((int, float), "numbers"),
}


@dataclass(frozen=True)
class Recipe:
    """What is trained, on what, and how.

    Attributes
    ----------
    name : str
        Of the file.
    kind : str
        What is trained, one of :data:`KINDS`.
    model : dict
        Arguments of the class.
    losses : dict
        For ``"codec"``: arguments of :class:`mne_labram.models.braincodec.training.BrainCodecForPretraining`; for
        ``"spatial-filter"``: those of :class:`mne_labram.models.gram.spatial_training.SpatialFilterTraining`; other
        kinds have none.
    signal : dict
        Fields of the contract (``name``, ``l_freq``, ``h_freq``, ``notch``, ``reference``) and arguments of
        :meth:`mne_labram.signal.store.RecordingStore.conform` (``match``, ``assume_unit``, ``line_freq``, ``gaps``).
    data : dict
        ``folders``; ``exclude_subjects``, ``validation_subjects`` (``"S001"`` or ``"dataset/S001"``),
        ``exclude_files``, ``validation_files`` (patterns such as ``"*R08.edf"``); ``weights`` of data sets.
    windows : dict
        Arguments of :class:`mne_labram.training.batches.WindowBatches`: ``lengths`` or ``tokens_per_window``,
        ``batch_size`` or ``tokens_per_batch``, ``stride``, ``shift``.
    training : TrainingSettings
        The numbers of the training.
    augment : Augmentation | None
        How batches are varied.
    tokenizer : str | None
        For ``"masked"`` and ``"gram"``: the checkpoint that gives the labels, a file or the name of one that ships.
    start : str | None
        The weights that training begins with, likewise; ``None``: fresh ones. ``"spatial-filter"`` needs them.
    seed : int
        Of everything.
    description : str
        What it is for.
    """

    name: str
    kind: str
    model: dict[str, Any] = field(default_factory=dict)
    signal: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    windows: dict[str, Any] = field(default_factory=dict)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    augment: Augmentation | None = None
    tokenizer: str | None = None
    start: str | None = None
    seed: int = 0
    description: str = ""
    losses: dict[str, Any] = field(default_factory=dict)

    def contract_fields(self) -> dict[str, Any]:
        """Return what the recipe says of the signal contract."""
        return {name: value for name, value in self.signal.items() if name in _CONTRACT}

    def conform_options(self) -> dict[str, Any]:
        """Return what the recipe says of how recordings are made into what the contract asks."""
        return {name: value for name, value in self.signal.items() if name in _CONFORM}

    def build_model(self, tokenizer: nn.Module | None = None, start: nn.Module | None = None) -> nn.Module:
        """Build the model; its fresh weights are drawn from torch's global generator.

        Parameters
        ----------
        tokenizer : LabramTokenizer | GramTokenizer | None
            For ``"masked"`` and ``"gram"``: what gives the labels.
        start : torch.nn.Module | None
            What training begins with, a model of the recipe's kind, which is trained in place; ``None``: fresh weights.

        Returns
        -------
        model : torch.nn.Module
            What is trained, with ``training_step``: a model of the recipe's kind, or what knows its losses
            (:class:`mne_labram.training.recipe_kinds.RecipeKind`). Bound to the 19 electrodes of the 10-20 system,
            unless ``[model]`` has ``ch_names`` or there is a ``start``.

        Raises
        ------
        ValueError
            If the arguments make no model, it is not the one that training shall start with, or the tokenizer was
            trained on another kind of signal.
        """
        kind = KINDS[self.kind]
        if kind.needs_tokenizer and tokenizer is None:
            raise ValueError(f"The recipe {self.name} needs a tokenizer: set tokenizer = 'FILE' (--tokenizer).")
        if kind.needs_start and start is None:
            raise ValueError(f"The recipe {self.name} needs weights to start with: set start = 'FILE' (--start).")
        if start is not None:
            contract = {} if kind.own_signal else self.contract_fields()
            check_start(start, kind.model_class(), self.model, contract, self.name)
            if tokenizer is not None:
                start.set_tokenizer(tokenizer)
        model = self._fresh(tokenizer) if start is None else start
        if tokenizer is not None:
            ours, theirs = model.contract, tokenizer.contract
            different = [name for name in ("l_freq", "h_freq", "notch", "reference") if _differ(ours, theirs, name)]
            if different:
                raise ValueError(
                    f"The tokenizer was trained on another signal: {', '.join(different)} of its contract differ from "
                    f"[signal] in the recipe {self.name}; make them the same."
                )
        return kind.with_losses(model, self.losses)

    def _fresh(self, tokenizer: nn.Module | None) -> nn.Module:
        """Build the model with fresh weights."""
        kind = KINDS[self.kind]
        arguments = {"ch_names": list(_CH_NAMES), **self.model}
        if self.contract_fields():
            arguments["contract"] = self.contract_fields()
        if "seed" in kind.arguments():
            # A seed of its own is for those who train one recipe with several codebooks.
            arguments = {"seed": self.seed, **arguments}
        return kind.model_class()(**arguments, **({} if tokenizer is None else {"tokenizer": tokenizer}))


def _differ(one: SignalContract, two: SignalContract, name: str) -> bool:
    return getattr(one, name) != getattr(two, name)


def recipe_names(kind: str | None = None) -> list[str]:
    """List the recipes that ship.

    Parameters
    ----------
    kind : str | None
        Only those of one kind, one of :data:`KINDS`.

    Returns
    -------
    names : list of str
        ``"base-tokenizer"``, ``"base-masked"``, ...
    """
    names = [path.name.removesuffix(".toml") for path in _folder().iterdir() if path.name.endswith(".toml")]
    return sorted(name for name in names if kind is None or kind == kind_of_name(name))


def _folder() -> Any:
    return resources.files("mne_labram.training") / "recipes"


def load_recipe(config: str | Path, kind: str | None = None, *, seed: int | None = None) -> Recipe:
    """Read a recipe.

    Parameters
    ----------
    config : path-like
        A TOML file, or the name of a recipe that ships: ``"base-tokenizer"``, or ``"base"`` with ``kind``.
    kind : str | None
        What it must be for, one of :data:`KINDS`.
    seed : int | None
        Instead of the recipe's.

    Returns
    -------
    recipe : Recipe
        The recipe.

    Raises
    ------
    FileNotFoundError
        If there is neither such a file nor such a recipe.
    ValueError
        If a table or key is unknown, a value makes no sense, or it is no TOML. One sentence, with the nearest key
        that there is.
    """
    if kind is not None and kind not in KINDS:
        raise ValueError(f"A recipe is for one of {', '.join(KINDS)}, got {kind!r}.")
    name, text = _read(config, kind)
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{name} is no TOML: {error}.") from None
    return _parse(name, found, kind, seed)


def _read(config: str | Path, kind: str | None) -> tuple[str, str]:
    """Return name and text of a recipe that ships, or of a file."""
    path = Path(config).expanduser()
    # With a kind, "tiny-gram" must not become the recipe of another, "tiny-gram-tokenizer".
    for name, names in ((str(config), recipe_names()), (f"{config}-{kind}", recipe_names(kind))):
        if name in names:
            return name, (_folder() / f"{name}.toml").read_text(encoding="utf8")
    if not path.is_file():
        short = [name.removesuffix(f"-{kind}") for name in recipe_names(kind)]
        raise FileNotFoundError(f"There is no file {str(config)!r}; the recipes that ship are {', '.join(short)}.")
    return path.stem, path.read_text(encoding="utf8")


def _parse(name: str, found: Mapping[str, Any], kind: str | None, seed: int | None) -> Recipe:
    """Check every key and build the recipe."""
    _check_keys(found, _OPTIONS, f"the recipe {name}")
    own = found.get("kind")
    if own not in KINDS:
        raise ValueError(f"The recipe {name} must have kind = {' or '.join(map(repr, KINDS))}, got {own!r}.")
    if kind not in (None, own):
        raise ValueError(f"The recipe {name} is for {own}, not for {kind}.")
    tables = {table: found.get(table, {}) for table in _TABLES}
    for table, values in tables.items():
        if not isinstance(values, Mapping):
            raise ValueError(f"{table} in the recipe {name} must be a table, [{table}].")
    arguments = KINDS[own].arguments()
    _check_keys(tables["model"], sorted({*arguments} - _NOT_OF_A_RECIPE), "[model]")
    for key, value in tables["model"].items():
        _check_argument(key, value, str(arguments[key].annotation).split(" | ")[0], "[model]")
    losses = KINDS[own].loss_arguments()
    _check_keys(tables["losses"], sorted(losses), "[losses]")
    for key, value in tables["losses"].items():
        _check_loss(key, value, str(losses[key].annotation).split(" | ")[0])
    _check_keys(tables["signal"], (*_CONTRACT, *_CONFORM), "[signal]")
    for key, kind in {"l_freq": "float", "h_freq": "float", "notch": "bool"}.items():
        if key in tables["signal"]:
            _check_argument(key, tables["signal"][key], kind, "[signal]")
    _check_keys(tables["data"], _DATA, "[data]")
    _check_keys(tables["windows"], _WINDOWS, "[windows]")
    for table in ("data", "windows"):
        _check_values(tables[table], f"[{table}]")
    augment = [each.name for each in fields(Augmentation)]
    _check_keys(tables["augment"], augment, "[augment]")
    if not KINDS[own].needs_tokenizer and "tokenizer" in found:
        raise ValueError(f"The recipe {name} is for {own}, which learns from no tokenizer; leave tokenizer out.")
    for key in ("tokenizer", "start"):
        if not isinstance(found.get(key, ""), str):
            raise ValueError(f"{key} in the recipe {name} must be a text, got {found[key]!r}.")
    number = found.get("seed", 0) if seed is None else seed
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise ValueError(f"seed must be a whole number of at least 0, got {number!r}.")
    augmentation = Augmentation.from_dict(tables["augment"]) if "augment" in found else None
    spatial = tables["model"].get("spatial", arguments["spatial"].default) if "spatial" in arguments else None
    if "start" in found and "spatial" not in tables["model"]:
        # As the weights say, which are not known yet.
        spatial = None
    if augmentation is not None and augmentation.bipolar > 0 and spatial == "names":
        raise ValueError(
            f"The recipe {name} makes bipolar channels, most of which have no name in the official table; set "
            "spatial = 'coordinates' in [model], or bipolar = 0 in [augment]."
        )
    if augmentation is not None and augmentation.artefact and not KINDS[own].knows_artefacts:
        knowing = " and ".join(kind for kind in KINDS if KINDS[kind].knows_artefacts)
        raise ValueError(
            f"The recipe {name} simulates artefacts, which only {knowing} learn from; set artefact = 0 in [augment]."
        )
    return Recipe(
        name=name,
        kind=own,
        model=dict(tables["model"]),
        losses=dict(tables["losses"]),
        signal=dict(tables["signal"]),
        data=dict(tables["data"]),
        windows=dict(tables["windows"]),
        training=TrainingSettings.from_dict(tables["training"]),
        augment=augmentation,
        tokenizer=found.get("tokenizer"),
        start=found.get("start"),
        seed=number,
        description=str(found.get("description", "")),
    )


def _check_loss(key: str, value: Any, kind: str) -> None:
    """Refuse an argument of what knows the losses that is of another type than it should be."""
    if kind.startswith("Mapping"):
        if not isinstance(value, Mapping) or not all(_is(each, (int, float)) for each in value.values()):
            raise ValueError(f"{key} in [losses] must be numbers by name, got {value!r}.")
    elif kind.startswith(("Sequence", "tuple")):
        number, what = (int, "whole numbers") if "int" in kind else ((int, float), "numbers")
        if not isinstance(value, list) or not all(_is(each, number) for each in value):
            raise ValueError(f"{key} in [losses] must be a list of {what}, got {value!r}.")
    else:
        _check_argument(key, value, kind, "[losses]")


def _check_keys(found: Iterable[str], known: Iterable[str], where: str) -> None:
    """Refuse what is not known, and name what was probably meant."""
    known = list(known)
    for key in found:
        if key not in known:
            raise ValueError(unknown_key(key, known, where))


def _check_values(found: Mapping[str, Any], where: str) -> None:
    """Refuse what is of another type than it should be, before it is taken for something else."""
    for key, value in found.items():
        if key in _LISTS:
            kinds, what = _LISTS[key]
            if not isinstance(value, list) or not all(_is(each, kinds) for each in value):
                raise ValueError(f"{key} in {where} must be a list of {what}, got {value!r}.")
        elif key == "weights":
            if not isinstance(value, Mapping) or not all(_is(each, (int, float)) for each in value.values()):
                raise ValueError(f"weights in {where} must be numbers by data set, got {value!r}.")
        elif key == "shift":
            if not isinstance(value, bool):
                raise ValueError(f"shift in {where} must be true or false, got {value!r}.")
        elif not _is(value, (int, float) if key == "stride" else int):
            kind = "a number" if key == "stride" else "a whole number"
            raise ValueError(f"{key} in {where} must be {kind}, got {value!r}.")


def _check_argument(key: str, value: Any, kind: str, where: str) -> None:
    """Refuse an argument of another type than that of the class: symmetric = "no" would be true."""
    kinds = {"bool": (bool, "true or false"), "int": (int, "a whole number"), "str": (str, "a text")}
    kinds["float"] = (int, float), "a number"
    if kind in kinds and not (isinstance(value, bool) if kind == "bool" else _is(value, kinds[kind][0])):
        raise ValueError(f"{key} in {where} must be {kinds[kind][1]}, got {value!r}.")


def _is(value: Any, kinds: Any) -> bool:
    """Tell whether a value is of a type; TOML's true is no number."""
    return isinstance(value, kinds) and not isinstance(value, bool)


def with_training(recipe: Recipe, **changes: Any) -> Recipe:
    """Return the recipe with other training settings; ``None`` leaves one as it is."""
    given = {name: value for name, value in changes.items() if value is not None}
    return replace(recipe, training=replace(recipe.training, **given))
