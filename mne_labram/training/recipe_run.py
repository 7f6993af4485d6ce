"""Carry a recipe out: recordings, model, training."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from mne.utils import logger

from mne_labram.signal.contract import SignalContract
from mne_labram.signal.store import RecordingStore
from mne_labram.training.batches import WindowBatches
from mne_labram.training.devices import first_process_first, own_random_state, resolve_training_precision
from mne_labram.training.pretrain import Pretraining, pretrain
from mne_labram.training.recipes import KINDS, Recipe
from mne_labram.training.start import load_weights
from mne_labram.training.trainer import refuse_other_training

__all__ = ["divide_recordings", "run_recipe"]


def run_recipe(
    recipe: Recipe,
    folder: str | os.PathLike[str],
    *,
    data: Sequence[str | os.PathLike[str]] | None = None,
    tokenizer: str | os.PathLike[str] | None = None,
    start: str | os.PathLike[str] | None = None,
    exclude_subjects: Iterable[str] = (),
    validation_subjects: Iterable[str] = (),
    cache: str | os.PathLike[str] | None = None,
    n_jobs: int | None = None,
    resume: bool = False,
    device: str | None = None,
) -> Pretraining:
    """Pre-train what a recipe says.

    Parameters
    ----------
    recipe : Recipe
        From :func:`mne_labram.training.recipes.load_recipe`.
    folder : path-like
        Gets the weights and the logs; see :func:`mne_labram.training.pretrain.pretrain`.
    data : sequence of path-like | None
        Folders, BIDS data sets or files; ``None``: those of the recipe.
    tokenizer : path-like | None
        For kinds that learn from codes, instead of the recipe's: a checkpoint, the folder of a pre-training, or a
        name.
    start : path-like | None
        The weights that training begins with, likewise, instead of the recipe's; of the same class and size.
    exclude_subjects, validation_subjects : iterable of str
        Subjects to leave out, or to validate on, beside those of the recipe: ``"S001"`` or ``"dataset/S001"``.
    cache : path-like | None
        Where the conformed recordings are kept, for other trainings too; ``None``: ``cache`` in ``folder``.
    n_jobs : int | None
        Recordings conformed in parallel.
    resume : bool
        Go on from the newest checkpoint in ``folder``; begin if there is none.
    device : {"cpu", "cuda"} | None
        Where; ``None``: a GPU if there is one.

    Returns
    -------
    pretraining : Pretraining
        How it ended.

    Raises
    ------
    ValueError
        If the recipe does not fit the data, or a subject is not there; and as :func:`pretrain`.
    """
    folder = Path(folder).expanduser()
    # Before the recordings are looked at, which may take long.
    refuse_other_training(folder, resume)
    resolve_training_precision(recipe.training.precision, device)
    sources = list(data) if data else [Path(each).expanduser() for each in recipe.data.get("folders", ())]
    if not sources:
        raise ValueError(f"The recipe {recipe.name} names no recordings; say where they are with data (--data).")
    config: dict[str, Any] = {"kind": recipe.kind}
    teacher = None
    with own_random_state():
        if KINDS[recipe.kind].needs_tokenizer:
            teacher, config["tokenizer"] = _tokenizer(tokenizer or recipe.tokenizer, recipe)
        begun = None
        if source := start or recipe.start:
            begun, config["start"] = load_weights(source)
        torch.manual_seed(recipe.seed)
        model = recipe.build_model(teacher, begun)
    contract = getattr(model, "exported", model).contract
    if KINDS[recipe.kind].own_signal:
        contract = replace(contract, **{key: value for key, value in recipe.contract_fields().items() if key != "name"})
    training, held_out = divide_recordings(
        recipe,
        # A model says which montage its channels are of; what it can be bound to is asked for here.
        replace(contract, montages=("referential", "bipolar")),
        sources,
        folder / "cache" if cache is None else Path(cache).expanduser(),
        excluded=exclude_subjects,
        validated=validation_subjects,
        n_jobs=n_jobs,
    )
    windows = {"lengths": None, "batch_size": None, **recipe.windows}
    if windows["batch_size"] is None and "tokens_per_batch" not in windows:
        windows["batch_size"] = 32
    common = {"workers": recipe.training.workers, "seed": recipe.seed}
    batches = WindowBatches(training, **windows, **common, weights=recipe.data.get("weights"), augment=recipe.augment)
    validation = None
    if held_out is not None:
        # Windows side by side, as they are.
        plain = {name: value for name, value in windows.items() if name not in ("stride", "shift")}
        validation = WindowBatches(held_out, **plain, **common, shuffle=False, shift=False)
    _announce(recipe, model, training, batches, validation)
    return pretrain(
        model,
        batches,
        folder,
        settings=recipe.training,
        seed=recipe.seed,
        validation=validation,
        resume=resume,
        device=device,
        config=config,
        card={"recipe": recipe.name, "seed": recipe.seed, **{key: config[key] for key in ("start",) if key in config}},
    )


def _tokenizer(source: Any, recipe: Recipe) -> tuple[Any, dict[str, str]]:
    """Load the tokenizer of a recipe; say which one it is."""
    if source is None:
        raise ValueError(f"The recipe {recipe.name} needs a tokenizer: set tokenizer = 'FILE' (--tokenizer).")
    model, description = load_weights(source)
    if not (hasattr(model, "codebook_usage") and hasattr(model, "quantizer")):
        raise ValueError(f"{source} is a {type(model).__name__}, not a tokenizer.")
    if not bool(model.quantizer.initialized):
        raise ValueError(
            f"The codebook of {source} has not begun (its training was shorter than warmup_steps and k-means need), so "
            "its codes mean nothing; train the tokenizer for more steps."
        )
    return model, description


def divide_recordings(
    recipe: Recipe,
    contract: SignalContract,
    sources: Sequence[Any],
    cache: Path,
    *,
    excluded: Iterable[str] = (),
    validated: Iterable[str] = (),
    n_jobs: int | None = None,
) -> tuple[Any, Any]:
    """Conform the recordings and divide them into those to train on and those to validate on.

    Parameters
    ----------
    recipe : Recipe
        Says which are left out and which are for validation.
    contract : SignalContract
        What the recordings are made into.
    sources : sequence of path-like
        Folders, BIDS data sets or files.
    cache : Path
        Where the conformed recordings are kept.
    excluded, validated : iterable of str
        Subjects to leave out, or to validate on, beside those of the recipe.
    n_jobs : int | None
        Recordings conformed in parallel.

    Returns
    -------
    training : ConformedStore
        To train on.
    validation : ConformedStore | None
        ``None`` if there are none.

    Raises
    ------
    ValueError
        If a subject is not there, or nothing is left to train on.
    """
    excluded, validated = set(excluded), set(validated)
    store = RecordingStore(sources[0] if len(sources) == 1 else sources, n_jobs=n_jobs)
    if not store.recordings:
        raise ValueError("No recording was found that can be read; give folders or files of EEG with data (--data).")
    # Names given here must be there; a recipe also names those of data sets that one may not have.
    store.select(subjects=excluded | validated or None)
    excluded |= set(recipe.data.get("exclude_subjects", ()))
    validated |= set(recipe.data.get("validation_subjects", ()))
    patterns = {name: recipe.data.get(f"{name}_files", ()) for name in ("exclude", "validation")}
    kept = [
        i
        for i, each in enumerate(store.recordings)
        if not _is_one_of(each, excluded) and not _matches(each, patterns["exclude"])
    ]
    _report_absent(recipe, store.recordings)
    if not kept:
        raise ValueError("All recordings are excluded; leave some to train on.")
    cache.mkdir(parents=True, exist_ok=True)
    with first_process_first():
        conformed = store.select(files=kept).conform(contract, cache=cache, n_jobs=n_jobs, **recipe.conform_options())
    held_out = [
        i
        for i, each in enumerate(conformed.recordings)
        if _is_one_of(each, validated) or _matches(each, patterns["validation"])
    ]
    rest = sorted(set(range(len(conformed.recordings))) - set(held_out))
    if not rest:
        raise ValueError("All recordings are for validation; leave some to train on.")
    return conformed.select(files=rest), conformed.select(files=held_out) if held_out else None


def _report_absent(recipe: Recipe, recordings: Sequence[Any]) -> None:
    """Name what the recipe leaves out or validates on that is not there: a slip of the pen would train on it."""
    datasets, absent = {str(each.dataset) for each in recordings}, []
    for key in ("exclude_subjects", "validation_subjects"):
        for name in recipe.data.get(key, ()):
            # A recipe may name data sets that one has not.
            elsewhere = "/" in name and name.split("/")[0] not in datasets
            if not elsewhere and not any(_is_one_of(each, {name}) for each in recordings):
                absent.append(name)
    for key in ("exclude_files", "validation_files"):
        absent += [name for name in recipe.data.get(key, ()) if not any(_matches(each, [name]) for each in recordings)]
    if absent:
        logger.info(f"Of what [data] in {recipe.name} leaves out or validates on, not there: {', '.join(absent)}.")


def _is_one_of(recording: Any, subjects: set[str]) -> bool:
    return bool({recording.subject, f"{recording.dataset}/{recording.subject}"} & subjects)


def _matches(recording: Any, patterns: Sequence[str]) -> bool:
    path = Path(recording.path).as_posix()
    return any(fnmatch(path, pattern) or fnmatch(Path(path).name, pattern) for pattern in patterns)


def _announce(
    recipe: Recipe, model: torch.nn.Module, store: Any, batches: WindowBatches, validation: WindowBatches | None
) -> None:
    """Say what will be trained on what."""
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    subjects = {(each.dataset, each.subject) for each in store.recordings}
    logger.info(
        f"{recipe.name}: {type(model).__name__} of {n_parameters / 1e6:.2f} million parameters; "
        f"{len(store.recordings)} recordings of {len(subjects)} subjects, {store.n_hours:.2f} h, "
        f"{batches.n_windows} windows in {len(batches)} batches per epoch, {len(batches.montages)} kinds of them"
        + ("." if validation is None else f"; {validation.n_windows} windows to validate on.")
    )
