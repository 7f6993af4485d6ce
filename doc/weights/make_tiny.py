"""How the weights that ship were made: train, measure, write files, cards and pages.

Run from the top of the repository; the recordings lie in ../shared/data (see the README there):

    python doc/weights/make_tiny.py train            # the weights that ship
    python doc/weights/make_tiny.py train --fold 0   # the same without subjects 00-03 of EEGMAT, and so on to 4
    python doc/weights/make_tiny.py ship             # measure all of them; write files, cards and pages

Training the weights that ship is nothing but

    mne-labram pretrain tokenizer tiny --data ../shared/data/eegmat ... --out RUNS/tokenizer
    mne-labram pretrain masked tiny --data ../shared/data/eegmat ... --tokenizer RUNS/tokenizer --out RUNS/masked

The encoders of the folds are needed for the linear probe alone: nobody is tested with an encoder that has seen them.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import mne
import torch

from mne_labram.benchmark.probe import subject_folds
from mne_labram.benchmark.weights import measure_codes, measure_probe
from mne_labram.training.recipe_run import divide_recordings, run_recipe
from mne_labram.training.recipes import Recipe, load_recipe
from mne_labram.weights import describe_checkpoint, load_checkpoint, pretrained_card, ship_weights
from mne_labram.weights.cards import card_page

DATASETS = ("eegmat", "eegmmidb", "uci_eeg", "mi_openbci", "chbmit")
SUBJECTS = [f"Subject{i:02d}" for i in range(24)]
N_FOLDS = 6
_GOLDBERGER = "Goldberger et al. (2000), Circulation 101:e215"
ABOUT: dict[str, dict[str, str]] = {
    "eegmat": {
        "name": "EEG During Mental Arithmetic Tasks 1.0.0 (PhysioNet)",
        "licence": "ODC-By 1.0",
        "cite": f"Zyma et al. (2019), Data 4:14; {_GOLDBERGER}; https://physionet.org/content/eegmat/1.0.0/",
        "held_out": "Subject20 to Subject23",
    },
    "eegmmidb": {
        "name": "EEG Motor Movement/Imagery Dataset 1.0.0 (PhysioNet), subject S001",
        "licence": "ODC-By 1.0",
        "cite": f"Schalk et al. (2004), IEEE TBME 51:1034; {_GOLDBERGER}; https://physionet.org/content/eegmmidb/1.0.0/",
        "held_out": "run 8 of the same subject",
    },
    "uci_eeg": {
        "name": "EEG Database (UCI, Begleiter)",
        "licence": "CC BY 4.0",
        "cite": "Begleiter, H. (1999), EEG Database, UCI Machine Learning Repository, https://doi.org/10.24432/C5TS3D",
        "held_out": "co2a0000372, co2c0000344",
    },
    "mi_openbci": {
        "name": "Motor imagery with OpenBCI, run 0 of five subjects",
        "licence": "MIT",
        "cite": "Peterson et al. (2020), A feasibility study of a complete low-cost consumer-grade brain-computer "
        "interface system, Heliyon 6:e03425",
        "held_out": "nobody",
    },
    "chbmit": {
        "name": "CHB-MIT Scalp EEG Database 1.0.0 (PhysioNet), excerpts of chb01",
        "licence": "ODC-By 1.0",
        "cite": f"Shoeb (2009), PhD thesis, MIT; {_GOLDBERGER}; https://physionet.org/content/chbmit/1.0.0/",
        "held_out": "nobody",
    },
}

PROBE = """\
Logistic regression on frozen features of 4-s windows, scored on subjects that neither it nor the encoder has seen; mean
and spread over subjects, paired differences with their standard errors. Features of the model: 19 channels x 128, the
mean over time of a channel's tokens. Band power: six bands, 1 to 45 Hz, 19 channels. All of it is computed from the
signal that the model gets, low-passed at 45 Hz, but for the row that says otherwise: what lies above in these
recordings, which were cut at 45 Hz, tells recordings apart and not what the subject did. "Inductive": nothing is known
of a test subject; "z-scored by subject": the mean and the spread of its unlabelled windows are.
""".replace("\n", " ").strip()


def recipe_of(kind: str, fold: int | None) -> Recipe:
    """Take the recipe that ships; for a fold, hold its subjects out instead of the last four."""
    recipe = load_recipe("tiny", kind)
    if fold is None:
        return recipe
    others = [name for name in recipe.data["validation_subjects"] if not name.startswith("eegmat/")]
    held_out = [f"eegmat/{name}" for name in subject_folds(SUBJECTS, N_FOLDS)[fold]]
    return replace(recipe, data={**recipe.data, "validation_subjects": held_out + others})


def folder_of(runs: Path, fold: int | None) -> Path:
    """Where a fold's models go."""
    return runs / ("ship" if fold is None else f"fold{fold}")


def train(data: Path, runs: Path, fold: int | None) -> None:
    """Train the tokenizer, then the model."""
    folder = folder_of(runs, fold)
    options: dict[str, Any] = {"data": [data / name for name in DATASETS], "cache": runs / "cache", "resume": True}
    folder.mkdir(parents=True, exist_ok=True)
    run_recipe(recipe_of("tokenizer", fold), folder / "tokenizer", **options)
    run_recipe(recipe_of("masked", fold), folder / "masked", tokenizer=folder / "tokenizer", **options)


def about_data(training: Any) -> list[dict[str, Any]]:
    """Count what was trained on."""
    rows = []
    for name in DATASETS:
        files = [i for i, each in enumerate(training.recordings) if each.dataset == name]
        part = training.select(files=files)
        subjects = {training.recordings[i].subject for i in files}
        rows.append({**ABOUT[name], "subjects": len(subjects), "hours": round(part.n_hours, 3)})
    return rows


def ship(data: Path, runs: Path, measured: Path | None) -> None:
    """Measure, write files, cards and pages."""
    tokenizer, model = (
        load_checkpoint(folder_of(runs, None) / kind / "final.safetensors") for kind in ("tokenizer", "masked")
    )
    recipe = recipe_of("tokenizer", None)
    sources = [data / name for name in DATASETS]
    contract = replace(tokenizer.contract, montages=("referential", "bipolar"))
    training, held_out = divide_recordings(recipe, contract, sources, runs / "cache")
    if measured is not None and measured.is_file():
        tables = json.loads(measured.read_text(encoding="utf8"))
    else:
        folds = {}
        for fold in range(N_FOLDS - 1):
            path = folder_of(runs, fold) / "masked" / "final.safetensors"
            if path.is_file():
                folds[fold] = load_checkpoint(path)
        tables: dict[str, Any] = {"codes": measure_codes(tokenizer, model, training, held_out)}
        complete = len(folds) == N_FOLDS - 1
        tables["probe"] = measure_probe(model, data / "eegmat", fold_models=folds if complete else None, n_jobs=2)
        if measured is not None:
            measured.write_text(json.dumps(tables, indent=1, ensure_ascii=False), encoding="utf8")
    codes = dict(tables["codes"])
    hidden = {title: codes.pop(title) for title in list(codes) if title.startswith("Codes of hidden")}
    for name, kind, measurements in (
        ("labram-tokenizer-tiny", "tokenizer", codes),
        ("labram-tiny", "masked", {**hidden, "The probe": PROBE, **tables["probe"]}),
    ):
        folder = folder_of(runs, None) / kind
        own = describe_checkpoint(folder / "final.safetensors")["card"]
        card = {
            **json.loads((Path(__file__).parent / f"{name}.about.json").read_text(encoding="utf8")),
            "licence": "BSD-3-Clause",
            "data": about_data(training),
            "hours": round(training.n_hours, 2),
            "steps": own["steps"],
            "seed": own["seed"],
            "command": "python doc/weights/make_tiny.py train",
        }
        card["measurements"] = {**measurements, **card.get("measurements", {})}
        ship_weights(load_checkpoint(folder / "final.safetensors"), name, card)
        page = Path(__file__).parent / f"{name}.md"
        page.write_text(card_page(pretrained_card(name)), encoding="utf8")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "ship"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--runs", type=Path, default=Path("../runs"))
    parser.add_argument("--fold", type=int, choices=range(N_FOLDS - 1))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--measured", type=Path, help="JSON of the measurements, read if it is there")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    mne.set_log_level("info")
    if options.what == "train":
        train(options.data, options.runs, options.fold)
    else:
        ship(options.data, options.runs, options.measured)


if __name__ == "__main__":
    main()
