"""Everything that the card of a tokenizer and of a masked model says of their quality, measured in one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed

from mne_labram.benchmark.codes import code_content, code_patches, masked_accuracy, reconstruction_error
from mne_labram.benchmark.probe import (
    ProbeScores,
    band_power,
    channel_embedding,
    eegmat_windows,
    paired_difference,
    probe,
    subject_folds,
)
from mne_labram.weights.config import build_model, model_config

__all__ = ["measure_codes", "measure_probe", "random_twin"]

# Above the band limit of the recordings (45 Hz): what is there is the file's, not the brain's.
_SIGNATURE_BANDS = ((46.0, 60.0), (60.0, 75.0))
_SIGNATURE = "band power above 45 Hz, recordings as they are"
_N_FOLDS = 6
_N_RANDOM = 3
Rows = list[dict[str, Any]]


def random_twin(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Build the same network with fresh weights.

    Parameters
    ----------
    model : torch.nn.Module
        One of our models.
    seed : int
        Of the weights; torch's global generator is left as it was.

    Returns
    -------
    twin : torch.nn.Module
        In evaluation mode.
    """
    state = torch.random.get_rng_state()
    try:
        torch.manual_seed(seed)
        shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        return build_model(type(model), model_config(model), label="The model", shapes=shapes).eval()
    finally:
        torch.random.set_rng_state(state)


def measure_codes(tokenizer: Any, model: Any | None, training: Any, held_out: Any, *, seed: int = 0) -> dict[str, Rows]:
    """Measure a tokenizer, and a model that guesses its codes, on recordings held out of training.

    Parameters
    ----------
    tokenizer : LabramTokenizer
        The tokenizer.
    model : LabramForMaskedModeling | None
        The model.
    training, held_out : ConformedStore
        Recordings that were trained on, and others.
    seed : int
        Of the masks.

    Returns
    -------
    tables : dict of str to list of dict
        For the card: title to rows.
    """
    known, asked = code_patches(tokenizer, training), code_patches(tokenizer, held_out)
    names = sorted(set(asked.dataset.tolist()))
    tables: dict[str, Rows] = {"Codes on held-out recordings": []}
    for name in ["all", *names]:
        part = asked if name == "all" else asked.of(name)
        found = code_content(known, part, tokenizer.n_codes)
        tables["Codes on held-out recordings"].append(
            {
                "data": name,
                "patches": found["n_patches"],
                "codes used": _percent(found["used"]),
                "perplexity": f"{found['perplexity']:.0f} ({_percent(found['perplexity_share'])})",
                "log amplitude explained": round(found["explained"], 3),
                "of the data's own variance": round(found["explained_own_mean"], 3),
                "bits on the recording": f"{found['recording_bits']:.2f} of {found['recording_bits_possible']:.2f}",
            }
        )
    title = "Reconstruction through the decoder, mean squared error of the z-scored target"
    tables[title] = []
    for name in ["all", *names]:
        files = [i for i, each in enumerate(held_out.recordings) if name in ("all", each.dataset)]
        errors = reconstruction_error(tokenizer, held_out.select(files=files))
        for part in tokenizer.target.parts:
            tables[title].append(
                {
                    "data": name,
                    "part": part,
                    "decoded": round(errors[part], 3),
                    "predicting the mean": round(errors[f"{part}_mean"], 3),
                }
            )
    if model is not None:
        title = "Codes of hidden patches (half of them, at random, in 4-s windows)"
        tables[title] = []
        for name in ["all", *names]:
            files = [i for i, each in enumerate(held_out.recordings) if name in ("all", each.dataset)]
            found = masked_accuracy(model, tokenizer, known, held_out.select(files=files), seed=seed)
            tables[title].append(
                {
                    "data": name,
                    "accuracy": _percent(found["accuracy"]),
                    "most frequent code of training": _percent(found["unigram"]),
                    "best constant guess": _percent(found["best_constant"]),
                    "times the best constant": round(found["ratio_best_constant"], 1),
                    "bits per code": round(float(found["cross_entropy"]), 2),
                    "bits without looking": round(float(found["unigram_cross_entropy"]), 2),
                }
            )
    return tables


def measure_probe(
    model: Any,
    folder: str | Path,
    *,
    fold_models: Mapping[int, Any] | None = None,
    n_random: int = _N_RANDOM,
    n_jobs: int | None = None,
) -> dict[str, Rows]:
    """Compare frozen embeddings with band power and with the same network at random initialisation.

    Parameters
    ----------
    model : LabramForMaskedModeling
        Trained without the subjects of the last fold.
    folder : path-like
        The EEGMAT recordings.
    fold_models : mapping of int to model | None
        For the other folds, models trained with the same recipe without the fold's subjects; ``None`` scores only the
        last fold.
    n_random : int
        Random initialisations.
    n_jobs : int | None
        Probes fitted in parallel, by joblib.

    Returns
    -------
    tables : dict of str to list of dict
        For the card: title to rows.
    """
    windows = eegmat_windows(folder, model.contract)
    folds = subject_folds(windows.subjects, _N_FOLDS)
    last = len(folds) - 1
    models = {last: model, **(fold_models or {})}
    tables: dict[str, Rows] = {}
    everywhere = set(models) == set(range(len(folds)))
    baseline = band_power(windows)
    # Where no brain activity is left in these recordings, from the signal before the model's low-pass.
    wide = eegmat_windows(folder, replace(model.contract, h_freq=None))
    twins = [channel_embedding(random_twin(model, seed), windows) for seed in range(n_random)]
    # Without models for the folds only the last fold is scored.
    used = list(range(len(folds))) if everywhere else [last]
    chosen = [folds[i] for i in used]
    embedded = [channel_embedding(models[i], windows) for i in used]
    features: dict[str, Any] = {
        "band power": baseline,
        "labram-tiny": embedded.__getitem__,
        "labram-tiny + band power": [(baseline, each) for each in embedded].__getitem__,
        **{f"random weights, seed {seed}": twin for seed, twin in enumerate(twins)},
        "random weights + band power (seed 0)": (baseline, twins[0]),
        _SIGNATURE: band_power(wide, _SIGNATURE_BANDS),
    }
    keys = [(name, standardize) for name in features for standardize in (False, True)]
    found = Parallel(n_jobs=n_jobs)(
        delayed(probe)(features[name], wide if name == _SIGNATURE else windows, chosen, standardize=standardize)
        for name, standardize in keys
    )
    scores: dict[str, dict[bool, ProbeScores]] = {}
    for (name, standardize), each in zip(keys, found, strict=True):
        scores.setdefault(name, {})[standardize] = each
    scores["random weights, mean of seeds"] = _mean_scores(
        [scores.pop(f"random weights, seed {seed}") for seed in range(n_random)]
    )
    subjects = {f"{len(chosen) * len(folds[0])} subjects, {len(chosen)} folds": None} if everywhere else {}
    subjects[f"{folds[last][0]} to {folds[last][-1]}"] = folds[last]
    for label, names in subjects.items():
        for standardize in (False, True):
            kind = "z-scored by subject" if standardize else "inductive"
            tables[f"Rest or arithmetic (EEGMAT), {label}, {kind}"] = _rows(scores, standardize, names)
    return tables


def _rows(scores: Mapping[str, Mapping[bool, ProbeScores]], standardize: bool, subjects: Sequence[str] | None) -> Rows:
    """Write the rows of one table, each compared with band power and with random weights."""
    picked = {
        name: both[standardize] if subjects is None else both[standardize].of(subjects) for name, both in scores.items()
    }
    rows = []
    for name, row in picked.items():
        cells: dict[str, Any] = {
            "features": name,
            "balanced accuracy": f"{row.balanced_accuracy.mean():.3f} ± {row.balanced_accuracy.std():.3f}",
            "AUROC": f"{row.auroc.mean():.3f} ± {row.auroc.std():.3f}",
        }
        for other in ("band power", "random weights, mean of seeds"):
            for what, of in (("AUROC", "auroc"), ("accuracy", "balanced_accuracy")):
                difference, error = paired_difference(getattr(row, of), getattr(picked[other], of))
                text = "" if name == other else f"{difference:+.3f} ± {error:.3f}"
                cells[f"{what} minus {other.split(',')[0]}"] = text
        rows.append(cells)
    return rows


def _mean_scores(seeds: Sequence[Mapping[bool, ProbeScores]]) -> dict[bool, ProbeScores]:
    """Average the scores of every subject over random initialisations."""
    return {
        key: ProbeScores(
            seeds[0][key].subjects,
            np.mean([each[key].balanced_accuracy for each in seeds], axis=0),
            np.mean([each[key].auroc for each in seeds], axis=0),
        )
        for key in (False, True)
    }


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"
