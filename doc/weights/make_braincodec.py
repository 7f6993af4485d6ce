"""How the models of the codecs that ship were made.

Run from the top of the repository; the recordings lie in ../shared/data (see the README there):

    python doc/weights/make_braincodec.py context          # the hybrid codec's context model

``context`` reads the first twenty subjects of EEGMAT (mental arithmetic; 20 to 23 are what codecs are measured on), as
LaBraM's contract has them (200 Hz) and as they were recorded (500 Hz). It takes four minutes on one core; on the same
machine it gives the same bits each time.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import mne
import numpy as np
import torch
from mne.utils import logger

from mne_labram import conform
from mne_labram.codec.context import ContextModel
from mne_labram.codec.context_files import context_model_path, save_context_model
from mne_labram.codec.context_training import collect_contexts, fit_context_model
from mne_labram.codec.lanes import CoefficientLayout
from mne_labram.codec.lapped import lapped_transform
from mne_labram.codec.quantization import PROXY, level_class, trade_off
from mne_labram.codec.spatial import fit_spatial_basis

SUBJECTS = range(20)
N_CHANNELS = 19
#: First without a model, then with the integers that the first model makes cheap: blocks of a recording, and steps.
ROUNDS = ((2, 2500), (3, 6000))
PER_BLOCK = 25_000
# Blocks with larger coefficients are not what the model is for.
LARGEST = 3000

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


def context(data: Path, path: Path) -> None:
    """Fit the hybrid codec's context model and write it."""
    model = None
    for seed, (n_blocks, n_steps) in enumerate(ROUNDS):
        sample = collect_contexts(blocks(data, model, n_blocks, seed), per_block=PER_BLOCK)
        logger.info("%d coefficients", len(sample.magnitude))
        model = fit_context_model(sample, n_steps=n_steps)
    path.parent.mkdir(parents=True, exist_ok=True)
    logger.info("%s: SHA-256 %s", path, save_context_model(model, path))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["context"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, help="where the model goes; the one that ships by default")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    mne.set_log_level("info")
    context(options.data, options.out or context_model_path("hybrid"))


if __name__ == "__main__":
    main()
