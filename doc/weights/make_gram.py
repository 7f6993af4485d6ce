"""How gram-tokenizer-tiny, gram-tiny and eegfoundation-tiny were made: train, fit, measure, write files, cards, pages.

Run from the top of the repository; the recordings lie in ../shared/data (see the README there). DATA is
"--data ../shared/data/eegmat --data ../shared/data/mi_openbci --data ../shared/data/uci_eeg
--data ../shared/data/eegmmidb --data ../shared/data/chbmit", of which the recipes leave out the last two data sets'
subjects and validate on eight of the others:

    mne-labram pretrain gram-tokenizer tiny DATA --out RUNS/gram-tokenizer
    mne-labram pretrain gram tiny DATA --tokenizer RUNS/gram-tokenizer --out RUNS/gram
    mne-labram pretrain amplitude tiny DATA --out RUNS/amplitude
    python doc/weights/make_gram.py doubt --runs RUNS        # what is kept of doubtful channels: two numbers
    python doc/weights/make_gram.py ship --runs RUNS         # into the package, with cards of what is in RUNS/measured
    mne-labram benchmark restoration --json RUNS/measured/restoration.json
    mne-labram benchmark decoding --json RUNS/measured/decoding.json
    python doc/weights/make_gram.py denoising --runs RUNS    # artefacts simulated onto the six subjects held out
    python doc/weights/make_gram.py cards --runs RUNS        # what was measured, as tables
    python doc/weights/make_gram.py ship --runs RUNS         # once more, with these
"""

from __future__ import annotations

import argparse
import csv
import json
from itertools import product
from pathlib import Path
from typing import Any

import mne
import numpy as np
import torch
from mne.utils import logger

from mne_labram import load_checkpoint
from mne_labram.benchmark.denoising import denoising_table, score_denoising
from mne_labram.benchmark.restoration import read_restoration
from mne_labram.restoration.gram_predictor import GramPredictor
from mne_labram.restoration.predictors import SplinePredictor
from mne_labram.weights import pretrained_card, save_checkpoint, ship_weights
from mne_labram.weights.cards import card_page

PAGES = Path(__file__).parent
#: Names of weights, and where their training leaves them.
SHIPPED = {
    "gram-tokenizer-tiny": "gram-tokenizer/final.safetensors",
    "gram-tiny": "gram/with_doubt.safetensors",
    "eegfoundation-tiny": "amplitude/final.safetensors",
}
# What stands on the cards of restoration, and of decoding beside each model.
METHODS = ("MNE spherical splines", "ridge", "band ridge", "gram", "gram, fresh weights")
CALIBRATED = (
    *("band ridge", "ridge, calibrated", "band ridge, calibrated", "band ridge, calibrated, tuned"),
    *("gram", "gram, calibrated", "gram, fresh weights, calibrated"),
)
BASELINES = (
    *("log band power + LR", "Riemannian tangent space + LR", "Riemannian tangent space + LR, floor of 0.1"),
    "EEGNet",
)
# Offsets and slopes that are tried, on three of the subjects that models are trained on.
OFFSETS, SLOPES, SUBJECTS = (-3.0, -2.5, -2.0, -1.5, -1.0), (1.0, 1.25, 1.5), (2, 8, 14)


def ways(data: Any, model: Any, **models: Any) -> dict[str, Any]:
    """Return ways to treat doubtful channels: by the model, with and without what they hold themselves."""

    def by(predictor: Any, keep: bool) -> Any:
        def treat(corrupted: np.ndarray, doubtful: np.ndarray) -> np.ndarray:
            return predictor.predict(corrupted, doubtful, *([doubtful] if keep else []))[0]

        return treat

    def made(model: Any, keep: bool) -> Any:
        return lambda recording: by(
            GramPredictor(recording.ch_names, data.positions, recording.sfreq, model=model), keep
        )

    return {
        "splines": lambda recording: by(SplinePredictor(recording.ch_names, data.positions, recording.sfreq), False),
        "gram, predicted only": made(model, False),
        "gram, what agrees is kept": made(model, True),
        **{name: made(each, True) for name, each in models.items()},
    }


def fit_doubt(data: Path, runs: Path) -> None:
    """Choose how much is kept of doubtful channels, on subjects that the model was trained on."""
    model = load_checkpoint(runs / "gram" / "final.safetensors")
    found = read_restoration(data, scored=SUBJECTS, training=[18])
    results = {}
    for offset, slope in product(OFFSETS, SLOPES):
        model.spatial_filter.doubt.copy_(torch.tensor([[offset, slope]]).expand_as(model.spatial_filter.doubt))
        treat = {"kept": ways(found, model)["gram, what agrees is kept"]}
        rows = score_denoising(found.scored, treat, seed=1, n_windows=2)
        # The geometric mean: kinds differ in how much can be done.
        errors = [np.log(np.mean(row.error)) for row in rows if row.name == "kept"]
        results[offset, slope] = float(np.exp(np.mean(errors)))
        logger.info("offset %g, slope %g: %.4f", offset, slope, results[offset, slope])
    best = min(results, key=results.__getitem__)
    logger.info("offset %g, slope %g", *best)
    model.spatial_filter.doubt.copy_(torch.tensor([best]).expand_as(model.spatial_filter.doubt))
    save_checkpoint(model, runs / "gram" / "with_doubt.safetensors", overwrite=True)


def measure_denoising(data: Path, runs: Path) -> None:
    """Measure on the six subjects that were held out."""
    found = read_restoration(data, training=[0])
    table = denoising_table(score_denoising(found.scored, ways(found, "gram-tiny")))
    folder = runs / "measured"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "denoising.json").write_text(json.dumps(table, indent=1), encoding="utf8")
    for row in table:
        logger.info(json.dumps(row, ensure_ascii=False))


def restoration_tables(path: Path) -> dict[str, Any]:
    """Put what ``benchmark restoration`` wrote into the tables of a card."""
    rows = json.loads(path.read_text(encoding="utf8"))["rows"]
    errors = {(row["method"], row["part"], row["task"]): np.array(row["error"]) for row in rows}
    tasks = list(dict.fromkeys(task for _, _, task in errors))

    def table(part: str, methods: tuple[str, ...]) -> list[dict[str, str]]:
        return [
            {"error (squared, normalised)": name, **{task: spread(errors[name, part, task]) for task in tasks}}
            for name in methods
            if (name, part, tasks[0]) in errors
        ]

    def better(part: str, one: str, other: str) -> str:
        counts = [int((errors[one, part, task] < errors[other, part, task]).sum()) for task in tasks]
        return ", ".join(map(str, counts))

    where = "eegmat at rest, Subject18 to Subject23, windows of 8 s, four draws, reference of the visible channels"
    return {
        f"Hidden channels ({where}); nothing else of the recording is known": table("all", METHODS),
        "The same, second half of each recording, calibrated on the first": table("second half", CALIBRATED),
        "Reading them": (
            f"Of six subjects, gram is better than band ridge in {better('all', 'gram', 'band ridge')} (the four "
            "tasks); calibrated, than the calibrated band ridge in "
            f"{better('second half', 'gram, calibrated', 'band ridge, calibrated')}, and than the tuned one in "
            f"{better('second half', 'gram, calibrated', 'band ridge, calibrated, tuned')}. Calibrated, untrained "
            "weights do about as well: what was learned from other heads then adds little or nothing. EEGMAT was "
            "cleaned by ICA, which leaves directions without signal: one channel is then told by the others nearly "
            "exactly, once they were seen together."
        ),
    }


def decoding_tables(path: Path, model: str) -> dict[str, Any]:
    """Put what ``benchmark decoding`` wrote of one model into the tables of its card."""
    rows = json.loads(path.read_text(encoding="utf8"))["rows"]
    tables: dict[str, Any] = {}
    seen = "eegmat: all 24 subjects in six folds, 18 of them seen without labels"
    for part, subjects in ((seen, None), ("Subject18 to Subject23, seen by no training", range(18, 24))):
        chosen = [row for row in rows if "eegmat" in row["task"]]
        tables[f"Rest or arithmetic, AUROC ({part})"] = _decoding_table(chosen, model, subjects)
    for task in dict.fromkeys(row["task"] for row in rows if "eegmat" not in row["task"]):
        chosen = [row for row in rows if row["task"] == task]
        tables[f"{task[0].upper()}{task[1:]}: AUROC, mean and spread over runs"] = _decoding_table(chosen, model, None)
    return tables


def _decoding_table(rows: list[dict[str, Any]], model: str, numbers: range | None) -> list[dict[str, str]]:
    out: dict[str, dict[str, str]] = {}
    base: dict[bool, np.ndarray] = {}
    for row in rows:
        name, kind = row["decoder"], row["transductive"]
        if name not in BASELINES and not name.startswith(model):
            continue
        picked = [numbers is None or int(subject[-2:]) in numbers for subject in row["subjects"]]
        auroc = np.array(row["auroc"])[picked]
        base.setdefault(kind, auroc)
        column = "z-scored within subjects" if kind else "inductive"
        entry = out.setdefault(name, {"decoder": name})
        entry[column] = spread(auroc)
        entry[f"{column}, minus band power"] = "" if name == BASELINES[0] else _difference(auroc - base[kind])
    return list(out.values())


def _difference(values: np.ndarray) -> str:
    return f"{values.mean():+.3f} ± {values.std(ddof=1) / np.sqrt(len(values)):.3f}"


def spread(values: np.ndarray) -> str:
    """Write mean and standard deviation over subjects, as the benchmarks do."""
    return f"{values.mean():.3f} ± {values.std():.3f}"


def cards(runs: Path) -> None:
    """Collect what was measured for the cards."""
    folder = runs / "measured"

    def write(name: str, measured: dict[str, Any]) -> None:
        (folder / f"{name}.json").write_text(json.dumps(measured, indent=1, ensure_ascii=False), encoding="utf8")

    denoising = json.loads((folder / "denoising.json").read_text(encoding="utf8"))
    epoch = last_row(runs / "gram" / "epochs.csv")
    write(
        "gram-tiny",
        {
            **restoration_tables(folder / "restoration.json"),
            "Artefacts simulated onto the same subjects (make_gram.py denoising): squared error over squared signal in "
            "the channels that see them": denoising,
            "Validation at the end of training (eight subjects)": [
                {
                    "accuracy of hidden codes (of 512)": f"{100 * epoch['validation_accuracy']:.1f} %",
                    "restoration loss of mixed masks and montages": f"{epoch['validation_restoration_loss']:.3f}",
                }
            ],
            **decoding_tables(folder / "decoding.json", "gram-tiny"),
        },
    )
    own = json.loads((folder / "eegfoundation-tiny.json").read_text(encoding="utf8"))
    validation = {name: value for name, value in own.items() if name.startswith("Validation")}
    write("eegfoundation-tiny", {**validation, **decoding_tables(folder / "decoding.json", "eegfoundation-tiny")})


def last_row(path: Path) -> dict[str, float]:
    """Return the last row of a table."""
    with path.open(encoding="utf8", newline="") as file:
        return {name: float(value) for name, value in list(csv.DictReader(file))[-1].items()}


def ship(runs: Path, names: list[str]) -> None:
    """Put weights into the package, with cards and pages of what was measured."""
    for name in names:
        about = json.loads((PAGES / f"{name}.about.json").read_text(encoding="utf8"))
        path = runs / "measured" / f"{name}.json"
        measured = json.loads(path.read_text(encoding="utf8")) if path.is_file() else {}
        ship_weights(load_checkpoint(runs / SHIPPED[name]), name, {**about, "measurements": measured})
        (PAGES / f"{name}.md").write_text(card_page(pretrained_card(name)), encoding="utf8")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["doubt", "denoising", "cards", "ship"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--runs", type=Path, default=Path("../runs-gram"))
    parser.add_argument("--names", nargs="+", choices=SHIPPED, default=list(SHIPPED))
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    mne.set_log_level("info")
    if arguments.step == "doubt":
        fit_doubt(arguments.data, arguments.runs)
    elif arguments.step == "denoising":
        measure_denoising(arguments.data, arguments.runs)
    elif arguments.step == "cards":
        cards(arguments.runs)
    else:
        ship(arguments.runs, arguments.names)


if __name__ == "__main__":
    main()
