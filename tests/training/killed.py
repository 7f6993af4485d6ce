"""A script: train once undisturbed, and once killed again and again, each time going on from the last checkpoint.

Run with a folder; it makes ``whole`` and ``killed`` in it and prints how often the second training was killed. The
processes are forked from one that has imported everything, since that takes longer than the training.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import accelerate  # noqa: F401  (here, so that every forked process has it)
import mne
import torch
import torch.distributed.tensor
from recordings import small_store, small_tokenizer

from mne_labram.training.augment import Augmentation
from mne_labram.training.batches import WindowBatches
from mne_labram.training.pretrain import pretrain

KILLS = 3


def train(folder: Path) -> None:
    torch.manual_seed(0)
    model = small_tokenizer(warmup_steps=5, spatial="coordinates", drop_prob=0.1)
    batches = WindowBatches(small_store(), lengths=(2,), batch_size=5, augment=Augmentation())
    settings = {"epochs": 3, "lr": 1e-3, "warmup_epochs": 1, "log_every": 3, "checkpoint_every": 4, "clip_grad": 1.0}
    held_out = WindowBatches(small_store(1), lengths=(2,), batch_size=9, shuffle=False)
    pretrain(model, batches, folder, settings=settings, validation=held_out, resume=True, device="cpu")


def forked(folder: Path, seconds: float | None) -> bool:
    """Train in a process of its own, kill it after a while, and tell whether it was done before."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            train(folder)
            status = 0
        finally:
            os._exit(status)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    if not os.WIFSIGNALED(status) and os.WEXITSTATUS(status):
        sys.exit("The training failed.")
    return not os.WIFSIGNALED(status)


if __name__ == "__main__":
    mne.set_log_level("error")
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    began = time.monotonic()
    assert forked(folder / "whole", None)
    needed = time.monotonic() - began
    delays = random.Random(int(sys.argv[2]))
    kills = 0
    for _ in range(KILLS):
        if forked(folder / "killed", delays.uniform(0.1, 0.5) * needed):
            break
        kills += 1
    else:
        assert forked(folder / "killed", None)
    print(kills, needed)
