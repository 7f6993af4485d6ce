"""How braincodec-tiny and the contexts of both lossy modes were made: train, fit, measure, write files, card and page.

Run from the top of the repository; the recordings lie in ../shared/data (see the README there):

    mne-labram pretrain codec tiny --data ../shared/data/eegmat --data ../shared/data/mi_openbci --out RUNS/codec
    python doc/weights/make_braincodec.py weights --codec RUNS/codec/final.safetensors
    python doc/weights/make_braincodec.py hybrid-contexts   # mode "hybrid", which needs no weights
    python doc/weights/make_braincodec.py contexts          # mode "neural", of these weights' latents
    mne-labram benchmark codec --json RUNS/codec.json
    python doc/weights/make_braincodec.py card --codec RUNS/codec/final.safetensors --measured RUNS/codec.json

Contexts are fitted to the first twenty subjects of EEGMAT (mental arithmetic; 20 to 23 are what codecs are measured
on): those of mode "hybrid" as LaBraM's contract has them (200 Hz) and as they were recorded (500 Hz), four minutes on
one core. On the same machine both give the same bits each time.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import mne
import numpy as np
import torch
from mne.utils import logger

from mne_labram import conform
from mne_labram.benchmark.rate_distortion import read_for_codec
from mne_labram.codec.context import ContextModel
from mne_labram.codec.context_files import context_model_path, load_context_model, save_context_model
from mne_labram.codec.context_training import collect_contexts, fit_context_model
from mne_labram.codec.lanes import CoefficientLayout
from mne_labram.codec.lapped import lapped_transform
from mne_labram.codec.neural import NeuralCoder
from mne_labram.codec.quantization import PROXY, level_class, trade_off
from mne_labram.codec.spatial import fit_spatial_basis
from mne_labram.weights import load_checkpoint, pretrained_card, ship_weights
from mne_labram.weights.cards import card_page

SUBJECTS = range(20)
N_CHANNELS = 19
# Mode "hybrid": blocks of a recording, and steps; first without a model, then with the integers that it makes cheap.
ROUNDS = ((2, 2500), (3, 6000))
PER_BLOCK = 25_000
# Blocks with larger coefficients are not what the model is for.
LARGEST = 3000

NAME = "braincodec-tiny"
PAGES = Path(__file__).parent
TRAINING = [f"Subject{i:02d}_{j}.edf" for i in SUBJECTS for j in (1, 2)]
NOMINAL_RATES = (64, 128, 256, 512, 1024)
# Mode "neural": bits per second and channel, seconds of a block, and how many channels.
RATES, LENGTHS, CHANNELS = (40.0, 900.0), (4, 12, 30, 60), (1, 2, 4, 8, 19, 19, 19)

Block = tuple[np.ndarray, np.ndarray, tuple[int, int], np.ndarray]


def recordings(data: Path) -> Iterator[tuple[np.ndarray, float]]:
    """Yield µV, shape (n_channels, n_times), and rates: rest and task at 200 Hz, rest at 500 Hz."""
    for subject in SUBJECTS:
        paths = [data / "eegmat" / f"Subject{subject:02d}_{part}.edf" for part in (1, 2)]
        for path in paths:
            raw, _ = conform(mne.io.read_raw(path, verbose="error"), verbose="error")
            yield 1e6 * raw.get_data(), raw.info["sfreq"]
        raw = mne.io.read_raw(paths[0], verbose="error")
        yield 1e6 * raw.get_data(picks=range(N_CHANNELS)), raw.info["sfreq"]


def whole_frames(x: np.ndarray, n_bins: int) -> np.ndarray:
    """Take whole seconds, at unit power in quarters of an octave as the codec does, through the lapped transform."""
    x = x[:, : x.shape[1] // n_bins * n_bins]
    x = x - x.mean(axis=1, keepdims=True)
    scale = np.round(4 * np.log2(np.sqrt(np.square(x).mean(axis=1, keepdims=True)))) / 4
    return lapped_transform(x / 2.0**scale, n_bins)


def step_for(components: np.ndarray, bits: float) -> float:
    """Return the step at which coefficients take about so many bits."""
    low, high = -20.0, 20.0
    for _ in range(15):
        middle = (low + high) / 2
        enough = PROXY * np.log2(1 + np.abs(components) / 2**middle).sum() <= bits
        low, high = (low, middle) if enough else (middle, high)
    return 2.0**high


def quantized(scaled: np.ndarray, sfreq: float, model: ContextModel | None) -> Block:
    """Turn coefficients in steps into what a model is fitted to."""
    n_frame = scaled.shape[2]
    used = np.flatnonzero((np.abs(scaled) >= 0.5).any(axis=(0, 1)))
    levels = np.full(scaled.shape[:2], level_class(scaled))
    scaled = scaled[..., : int(used[-1]) + 1 if len(used) else 1]
    exponents = np.zeros(scaled.shape[:2], int)
    width = Fraction(sfreq).limit_denominator(1000) * 1000 / (2 * n_frame)
    bin_millihertz = width.numerator, width.denominator
    if model is None:
        size = np.abs(scaled)
        magnitudes = np.where(size < 0.62, 0, np.floor(size + 0.38)).astype(np.int64)
    else:
        layout = CoefficientLayout(exponents, levels, scaled.shape[2], bin_millihertz)
        magnitudes = np.abs(trade_off(model, scaled, layout))
    return magnitudes, exponents, bin_millihertz, levels


def blocks(data: Path, model: ContextModel | None, n_blocks: int, seed: int) -> Iterator[Block]:
    """Draw blocks of any rate, length and number of channels from all recordings."""
    generator = np.random.default_rng(seed)
    for x, sfreq in recordings(data):
        n_bins = round(sfreq)
        chosen = generator.permutation(len(x))[: int(generator.choice([1, 2, 4, 8, 19, 19, 19]))]
        frames = whole_frames(x[chosen], n_bins)
        n_frames = frames.shape[1]
        for _ in range(n_blocks):
            # Bits per second and channel.
            rate = 2 ** generator.uniform(5.0, 9.8)
            n_bits = rate * len(chosen) * n_frames
            weight = float(generator.choice([1, 20]))
            basis = fit_spatial_basis([frames], sfreq / 2 / n_bins, bits=n_bits, weight=weight)
            components = basis.to_components(frames, sfreq / 2 / n_bins)
            length = int(min(n_frames, generator.choice([1, 4, 8, 30, 60])))
            start = int(generator.integers(0, n_frames - length + 1))
            components = components[:, start : start + length]
            scaled = components / step_for(components, rate * components.shape[0] * length)
            if np.abs(scaled).max() <= LARGEST:
                yield quantized(scaled, sfreq, model)


def hybrid_contexts(data: Path) -> None:
    """Fit the context model of mode "hybrid" and write it."""
    model = None
    for seed, (n_blocks, n_steps) in enumerate(ROUNDS):
        sample = collect_contexts(blocks(data, model, n_blocks, seed), per_block=PER_BLOCK)
        logger.info("%d coefficients", len(sample.magnitude))
        model = fit_context_model(sample, n_steps=n_steps)
    write_contexts(model, "hybrid")


def write_contexts(model: ContextModel, name: str) -> None:
    """Write contexts where they ship, in place of those that are there."""
    path = context_model_path(name)
    path.unlink(missing_ok=True)
    logger.info("%s: SHA-256 %s", path, save_context_model(model, path))


def latents(data: Path, model: ContextModel | None, per_recording: int, seed: int) -> Iterator[Block]:
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
            _, values = coder._latents(piece - piece.mean(axis=1, keepdims=True))
            shares = coder._shares(values.shape[1], bitrate * piece.size / recording.sfreq)
            indices = coder._fit(values, shares)
            layout, integers, _ = coder._quantize(values, indices)
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
        sample = collect_contexts(latents(data, model, per_recording, turn), per_block=8000, seed=turn)
        model = fit_context_model(sample, n_steps=n_steps)
    write_contexts(model, "neural")


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
                nominal = min(NOMINAL_RATES, key=lambda rate: abs(rate - row["bits"]))
                cells[f"{nominal}"] = f"{row['prd']:.3g}{spread}"
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
    parser.add_argument("step", choices=["weights", "hybrid-contexts", "contexts", "card"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--codec", type=Path, default=Path("runs/codec/final.safetensors"))
    parser.add_argument("--measured", type=Path, help="tables for the card, JSON")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    mne.set_log_level("info")
    if arguments.step == "weights":
        weights(arguments.codec)
    elif arguments.step == "hybrid-contexts":
        hybrid_contexts(arguments.data)
    elif arguments.step == "contexts":
        contexts(arguments.data)
    else:
        card(arguments.codec, arguments.measured)


if __name__ == "__main__":
    main()
