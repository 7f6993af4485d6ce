"""How gram-tokenizer-tiny, gram-tiny and eegfoundation-tiny were made: train, fit, measure, write files, cards, pages.

Run from the top of the repository; the recordings lie in ../shared/data (see the README there). DATA is
"--data ../shared/data/eegmat --data ../shared/data/mi_openbci --data ../shared/data/uci_eeg
--data ../shared/data/eegmmidb --data ../shared/data/chbmit", of which the recipes leave out the last two data sets'
subjects and validate on eight of the others:

    mne-labram pretrain gram-tokenizer tiny DATA --out RUNS/gram-tokenizer
    mne-labram pretrain gram tiny DATA --tokenizer RUNS/gram-tokenizer --out RUNS/gram
    mne-labram pretrain spatial-filter tiny DATA --start RUNS/gram --out RUNS/filter
    mne-labram pretrain amplitude tiny DATA --out RUNS/amplitude
    python doc/weights/make_gram.py doubt --runs RUNS        # what is kept of doubtful channels: two numbers
    python doc/weights/make_gram.py ship --runs RUNS         # into the package, with cards of what is in RUNS/measured
    mne-labram benchmark restoration --json RUNS/measured/restoration.json
    mne-labram benchmark decoding --json RUNS/measured/decoding.json
    python doc/weights/make_gram.py denoising --runs RUNS    # artefacts simulated onto the six subjects held out
    python doc/weights/make_gram.py ship --runs RUNS         # once more, with what was measured
"""

from __future__ import annotations

import argparse
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
    "gram-tiny": "filter/with_doubt.safetensors",
    "eegfoundation-tiny": "amplitude/final.safetensors",
}
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
    model = load_checkpoint(runs / "filter" / "final.safetensors")
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
    save_checkpoint(model, runs / "filter" / "with_doubt.safetensors", overwrite=True)


def measure_denoising(data: Path, runs: Path) -> None:
    """Measure on the six subjects that were held out."""
    found = read_restoration(data, training=[0])
    table = denoising_table(score_denoising(found.scored, ways(found, "gram-tiny")))
    folder = runs / "measured"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "denoising.json").write_text(json.dumps(table, indent=1), encoding="utf8")
    for row in table:
        logger.info(json.dumps(row, ensure_ascii=False))


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
    parser.add_argument("step", choices=["doubt", "denoising", "ship"])
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
    else:
        ship(arguments.runs, arguments.names)


if __name__ == "__main__":
    main()
