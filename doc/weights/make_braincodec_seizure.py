"""How the classifier on BrainCodec's encoder was measured: train in folds, measure, print the table.

Run from the top of the repository; the recordings lie in ../shared/data (see the README there). The folds, the seconds
that are scored and the rules of events are those of make_neurostorm.py. Nothing ships.

    python doc/weights/make_braincodec_seizure.py heads              # seven heads on the trained encoder as it is
    python doc/weights/make_braincodec_seizure.py heads --encoder random   # on an encoder that was never trained
    python doc/weights/make_braincodec_seizure.py heads --seed 1           # other random numbers
    python doc/weights/make_braincodec_seizure.py train --encoder tuned    # seven detectors, the encoder trained on
    python doc/weights/make_braincodec_seizure.py measure            # what has been trained so far, in one table

What an encoder that is not trained makes of a window is the same in every fold. So "heads" mixes and encodes windows
once, each part of the recordings by itself, and trains the heads of all folds on that; "train" calls the detector's
own fit, which draws windows anew in every epoch.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import mne
import numpy as np
import torch
import torch.nn.functional as F
from make_neurostorm import CACHE, N_FOLDS, PARAMETERS, SEED, TARGET_FP_PER_DAY, by_record, by_seed
from torch import Tensor

from mne_labram import load_checkpoint, save_checkpoint
from mne_labram.benchmark.neurostorm import fold_of, measure_folds
from mne_labram.benchmark.seizures import open_benchmark, seizure_table
from mne_labram.benchmark.weights import random_twin
from mne_labram.decoding.inference import resolve_model
from mne_labram.models.neurostorm import UNKNOWN
from mne_labram.seizure.augmentation import SeizureAugmentation
from mne_labram.seizure.braincodec_detector import BrainCodecDetector
from mne_labram.seizure.store import SeizureStore

#: What is done to the encoder, and how the table calls it.
ENCODERS = {
    "frozen": "BrainCodec, encoder as trained for coding",
    "tuned": "BrainCodec, encoder trained on",
    "random": "BrainCodec, untrained encoder",
}
# Simulated seizures and artefacts, and how often recorded seizures come, as for NeuroStorm; windows of 4 s as
# published. The rate was chosen by looking at two of the folds, 2 and 3 (chb01_15 and chb01_16).
SETTINGS: dict[str, Any] = {"max_steps": 450, "warmup_steps": 30, "lr": 3e-3, "precision": "bf16"}
DETECTOR: dict[str, Any] = {"seizure_share": 0.08, "tokens_per_batch": 304}
# Batches of each part that are encoded for heads, steps of a head, and batches in a step.
N_BATCHES, HEAD_STEPS, PER_STEP = 200, 1500, 4
# What is trained already is changed with more care than a fresh head.
TUNED_SETTINGS: dict[str, Any] = {"lr": 1e-3, "max_steps": 900}


def detector(codec: str, encoder: str, seed: int = SEED, **changes: Any) -> BrainCodecDetector:
    """Return what is trained."""
    start, _ = resolve_model(codec)
    if encoder == "random":
        start = random_twin(start, seed=seed)
    settings = {**SETTINGS, **(TUNED_SETTINGS if encoder == "tuned" else {}), **changes.pop("settings", {})}
    options = {"freeze_encoder": encoder != "tuned", **changes.pop("options", {})}
    values = {"augmentation": SeizureAugmentation(), **DETECTOR, **changes}
    return BrainCodecDetector(start, settings=settings, options=options, **values)


def folder_of(runs: Path, encoder: str, seed: int, fold: int | None) -> Path:
    """Where a fold's model goes."""
    return runs / f"{encoder}-seed{seed}" / ("everything" if fold is None else f"fold{fold}")


def train(
    store: SeizureStore, codec: str, runs: Path, encoder: str, seed: int, folds: list[int | None], **changes: Any
) -> None:
    """Train what is not there yet."""
    of = fold_of(store)
    for fold in folds:
        folder = folder_of(runs, encoder, seed, fold)
        if (folder / "final.safetensors").is_file():
            continue
        part = store if fold is None else store.select(files=np.flatnonzero(of != fold))
        detector(codec, encoder, seed, **changes).fit(part, folder=folder, seed=seed)


def encoded_parts(store: SeizureStore, detector: BrainCodecDetector, seed: int) -> list[list[tuple[Tensor, ...]]]:
    """Mix and encode windows of every part; in each, latents, levels and classes by batch."""
    of, model, parts = fold_of(store), detector._fresh_model(seed).eval(), []
    for part in range(N_FOLDS):
        batches = detector._batches(store.select(files=np.flatnonzero(of == part)), detector.augmentation, seed + part)
        kept = []
        for batch in islice(batches, N_BATCHES):
            with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
                latents, levels = model.bind_channels(batch["ch_names"])._encoded(batch["x"])
            kept.append((latents.half(), levels, batch["y"]))
        parts.append(kept)
    return parts


def train_heads(store: SeizureStore, codec: str, runs: Path, encoder: str, seed: int) -> None:
    """Train the head of every fold on windows that are encoded once."""
    start = detector(codec, encoder, seed)
    parts = encoded_parts(store, start, seed)
    for fold in range(N_FOLDS):
        torch.manual_seed(seed + 100 * fold)
        model = start._fresh_model(seed).train()
        data = [batch for part, kept in enumerate(parts) if part != fold for batch in kept]
        share = float(np.mean([float((y > 0).float().mean()) for *_, y in data]))
        model.class_weights = [1.0, max(1.0, (1.0 - share) / share)]
        weights = torch.tensor(model.class_weights)
        parameters = [each for each in model.parameters() if each.requires_grad]
        optimizer = torch.optim.AdamW(parameters, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=HEAD_STEPS, pct_start=0.1)
        rng = np.random.default_rng(seed + fold)
        order = chain.from_iterable(rng.permutation(len(data)).tolist() for _ in count())
        for _ in range(HEAD_STEPS):
            for i in islice(order, PER_STEP):
                latents, levels, y = data[i]
                logits = model._classify(latents.float(), levels, y.shape[1])[..., 0]
                weight = weights[(y > 0).long()] * (y != UNKNOWN)
                errors = F.binary_cross_entropy_with_logits(logits, (y > 0).float(), reduction="none")
                ((errors * weight).sum() / weight.sum().clamp_min(1.0) / PER_STEP).backward()
            torch.nn.utils.clip_grad_norm_(parameters, 3.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        folder = folder_of(runs, encoder, seed, fold)
        folder.mkdir(parents=True, exist_ok=True)
        save_checkpoint(model.eval(), folder / "final.safetensors")


def measure(store: SeizureStore, codec: str, runs: Path, folds: list[int], **changes: Any) -> dict[str, Any]:
    """Measure every kind of encoder and seed of which all the folds are there."""
    of, rows, found = fold_of(store), [], {"by_record": [], "by_seed": []}
    part = np.flatnonzero(np.isin(of, folds))
    part, of = store.select(files=part), of[part]
    for encoder, title in ENCODERS.items():
        of_seeds = []
        for folder in sorted(runs.glob(f"{encoder}-seed*")):
            paths = {fold: folder / f"fold{fold}" / "final.safetensors" for fold in folds}
            if not all(path.is_file() for path in paths.values()):
                continue
            detectors = [None] * N_FOLDS
            for fold, path in paths.items():
                detectors[fold] = detector(codec, encoder, **changes)
                detectors[fold].model_ = load_checkpoint(path)
            name = f"{title}, seed {folder.name.rpartition('seed')[2]}"
            row, scores, _ = measure_folds(f"{name}, threshold 0.8", detectors, part, of, PARAMETERS)
            of_seeds.append(row)
            rows.append(row)
            found["by_record"].append(by_record(row))
            if len(folds) == N_FOLDS:
                chosen = f"{name}, threshold chosen on the other folds"
                options = {"target_fp_per_day": TARGET_FP_PER_DAY, "scores": scores}
                rows.append(measure_folds(chosen, detectors, part, of, PARAMETERS, **options)[0])
        if len(of_seeds) > 1:
            found["by_seed"].append(by_seed(title, of_seeds))
    found["table"] = seizure_table(rows)
    return found


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["heads", "train", "measure"])
    parser.add_argument("--codec", default="braincodec-tiny", help="a name or a checkpoint")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--runs", type=Path, default=Path("../runs-braincodec-seizure"))
    parser.add_argument("--encoder", choices=ENCODERS, default="frozen")
    parser.add_argument("--folds", type=int, nargs="+", choices=range(N_FOLDS), default=list(range(N_FOLDS)))
    parser.add_argument("--everything", action="store_true", help="one detector on all recordings, instead of folds")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--changes", type=json.loads, default={}, help="arguments of the detector, as JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    mne.set_log_level("info")
    contract = detector(options.codec, options.encoder).contract
    store = open_benchmark(options.data, contract, cache=options.runs.parent / CACHE)
    if options.what == "heads":
        train_heads(store, options.codec, options.runs, options.encoder, options.seed)
        return
    if options.what == "train":
        folds = [None] if options.everything else options.folds
        train(store, options.codec, options.runs, options.encoder, options.seed, folds, **options.changes)
        return
    found = measure(store, options.codec, options.runs, options.folds, **options.changes)
    sys.stdout.write(found.pop("table") + "\n\n")
    sys.stdout.write(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
