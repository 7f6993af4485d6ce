"""How the baseline DeepSIF is trained for the default head; nothing of it ships.

Run from the top of the repository; needs no recordings:

    python doc/weights/make_deepsif.py RUNS/deepsif --montage 64                  # the published size
    python doc/weights/make_deepsif.py RUNS/deepsif --montage 64 --lstm-dim 256   # one that a core can train
    python doc/weights/make_deepsif.py RUNS/deepsif --montage 64 --resume         # go on after Ctrl-C
    mne-labram benchmark source --montage 64 --model brainforge-tiny --model RUNS/deepsif/final.safetensors

The head is that of the benchmark, for its 19, 32 or 64 electrodes; a network serves one of them. On the same machine
the same numbers give the same weights.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mne
from mne.utils import logger

from mne_labram import load_checkpoint
from mne_labram.benchmark.source_windows import MONTAGES, SFREQ, imaging_head
from mne_labram.source.deepsif_training import fresh_deepsif, train_deepsif


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--montage", choices=list(MONTAGES), default="64")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--clip-grad", type=float, default=None)
    parser.add_argument("--hidden-dim", type=int, default=500)
    parser.add_argument("--lstm-dim", type=int, default=None)
    parser.add_argument("--num-layers", type=int, default=3)
    parser.add_argument("--start", type=Path, help="a checkpoint to begin with, of whatever size it is")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default=None)
    parser.add_argument("--resume", action="store_true")
    given = parser.parse_args()
    mne.set_log_level("info")
    head = imaging_head(MONTAGES[given.montage]).model
    sizes = {"hidden_dim": given.hidden_dim, "lstm_dim": given.lstm_dim, "num_layers": given.num_layers}
    if given.start is None:
        network = fresh_deepsif(head, sfreq=SFREQ, seed=given.seed, **sizes)
    else:
        network = load_checkpoint(given.start)
    done = train_deepsif(
        head, given.folder, network=network, steps=given.steps, batch_size=given.batch_size, lr=given.lr,
        clip_grad=given.clip_grad, seed=given.seed, resume=given.resume, device=given.device,
    )  # fmt: skip
    logger.info(f"{done.weights}: {done.metrics}")


if __name__ == "__main__":
    main()
