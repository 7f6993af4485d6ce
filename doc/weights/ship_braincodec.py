"""How braincodec-tiny was made: train, fit the contexts of its latents, measure, write file, card and page.

Run from the top of the repository; the recordings lie in ../shared/data (see the README there):

    mne-labram pretrain codec tiny --data ../shared/data/eegmat --data ../shared/data/mi_openbci --out RUNS/codec
    python doc/weights/ship_braincodec.py weights --codec RUNS/codec/final.safetensors
    python doc/weights/ship_braincodec.py contexts
    mne-labram benchmark codec --json RUNS/codec.json
    python doc/weights/ship_braincodec.py card --codec RUNS/codec/final.safetensors --measured RUNS/codec.json

The contexts of mode "hybrid" do not depend on these weights; make_braincodec.py fits them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mne
import numpy as np

from mne_labram.benchmark.rate_distortion import read_for_codec
from mne_labram.codec.context import ContextModel
from mne_labram.codec.context_files import context_model_path, load_context_model, save_context_model
from mne_labram.codec.context_training import collect_contexts, fit_context_model
from mne_labram.codec.neural import NeuralCoder
from mne_labram.weights import load_checkpoint, pretrained_card, ship_weights
from mne_labram.weights.cards import card_page

NAME = "braincodec-tiny"
PAGES = Path(__file__).parent
TRAINING = [f"Subject{i:02d}_{j}.edf" for i in range(20) for j in (1, 2)]
RATE_NAMES = {64: "64", 128: "128", 256: "256", 512: "512", 1024: "1024"}
# Fractions of the recordings' bits; seconds of a block; from all to a few channels.
RATES, LENGTHS, CHANNELS = (40.0, 900.0), (4, 12, 30, 60), (1, 2, 4, 8, 19, 19, 19)


def coefficients(
    data: Path, model: ContextModel | None, per_recording: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray, tuple[int, int], np.ndarray]]:
    """Code pieces of the training recordings at many rates."""
    generator = np.random.default_rng(seed)
    if model is None:
        # Contexts of another transform choose steps well enough to begin with.
        model = load_context_model("hybrid")
    for recording in read_for_codec([data / "eegmat" / name for name in TRAINING], dataset="eegmat", whole=False):
        for _ in range(per_recording):
            n_channels = int(generator.choice(CHANNELS))
            length = min(int(generator.choice(LENGTHS) * recording.sfreq), recording.x.shape[1])
            start = int(generator.integers(0, recording.x.shape[1] - length + 1))
            chosen = generator.permutation(len(recording.x))[:n_channels]
            piece = recording.x[chosen, start : start + length].astype(np.float64)
            coder = _coder(n_channels, recording.sfreq, model)
            bitrate = float(np.exp(generator.uniform(*np.log(RATES))))
            _, latents = coder._latents(piece - piece.mean(axis=1, keepdims=True))
            shares = coder._shares(latents.shape[1], bitrate * piece.size / recording.sfreq)
            indices = coder._fit(latents, shares)
            layout, integers, _ = coder._quantize(latents, indices)
            if layout.n_bins:
                yield np.abs(integers), layout.exponents, layout.bin_millihertz, layout.levels


def _coder(n_channels: int, sfreq: float, model: ContextModel) -> NeuralCoder:
    """Make the coder that is to get new contexts."""
    coder = NeuralCoder.__new__(NeuralCoder)
    weights = {"name": NAME, "sha256": pretrained_card(NAME)["sha256"]}
    hybrid = {"name": "hybrid", "sha256": load_context_model("hybrid").sha256}
    coder.__init__(n_channels=n_channels, sfreq=sfreq, bitrate=256, weights=weights, context=hybrid)
    coder.model = model
    return coder


def contexts(data: Path) -> None:
    """Fit the context model of mode "neural", twice: steps and integers follow what the first one says they cost."""
    model = None
    for turn, (per_recording, n_steps) in enumerate(((6, 2500), (12, 6000))):
        sample = collect_contexts(coefficients(data, model, per_recording, turn), per_block=8000, seed=turn)
        model = fit_context_model(sample, n_steps=n_steps)
    path = context_model_path("neural")
    path.unlink(missing_ok=True)
    save_context_model(model, path)


def about() -> dict[str, Any]:
    """Read what was written by hand about the weights."""
    return json.loads((PAGES / f"{NAME}.about.json").read_text(encoding="utf8"))


def weights(codec: Path) -> None:
    """Put the weights into the package, with a card that says nothing of quality yet."""
    ship_weights(load_checkpoint(codec), NAME, {**about(), "measurements": {}})


def measurements(benchmark: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Make tables for the card of what `mne-labram benchmark codec` wrote, and of what was added to it by hand."""
    tables: dict[str, list[dict[str, Any]]] = {}
    for dataset, title in (("eegmat", "EEGMAT, four subjects held out, at rest"), ("eegmmidb", "EEGMMIDB S001R01")):
        rows: dict[str, dict[str, Any]] = {}
        for row in benchmark["rows"]:
            if row["dataset"] == dataset and row["bitrate"] >= 60:
                spread = "" if row["spread"] is None or row["spread"] != row["spread"] else f" ± {row['spread']:.1f}"
                cells = rows.setdefault(row["codec"], {"PRD (%) at bit/s/channel": row["codec"]})
                cells[f"{RATE_NAMES[min(RATE_NAMES, key=lambda rate: abs(rate - row['bits']))]}"] = (
                    f"{row['prd']:.3g}{spread}"
                )
        tables[title] = list(rows.values())
    return {**tables, **benchmark.get("card", {})}


def card(codec: Path, measured: Path | None) -> None:
    """Write the card with what was measured, and its page."""
    tables = {} if measured is None else measurements(json.loads(measured.read_text(encoding="utf8")))
    ship_weights(load_checkpoint(codec), NAME, {**about(), "measurements": tables})
    (PAGES / f"{NAME}.md").write_text(card_page(pretrained_card(NAME)), encoding="utf8")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["weights", "contexts", "card"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--codec", type=Path, default=Path("runs/codec/final.safetensors"))
    parser.add_argument("--measured", type=Path, help="Tables for the card, JSON.")
    arguments = parser.parse_args()
    mne.set_log_level("INFO")
    if arguments.step == "weights":
        weights(arguments.codec)
    elif arguments.step == "contexts":
        contexts(arguments.data)
    else:
        card(arguments.codec, arguments.measured)


if __name__ == "__main__":
    main()
