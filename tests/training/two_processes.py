"""A script for ``accelerate launch``: train a small tokenizer or codec into a folder, and write down what it is."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import mne
import torch
from recordings import small_store, small_tokenizer

from mne_labram.models.braincodec import BrainCodec
from mne_labram.models.braincodec.training import BrainCodecForPretraining
from mne_labram.training.augment import Augmentation
from mne_labram.training.batches import WindowBatches
from mne_labram.training.pretrain import Pretraining, pretrain


def train(folder: Path) -> None:
    """Batches of 5, 6 and 7 windows: odd ones too."""
    # What the second process begins with does not matter.
    torch.manual_seed(int(os.environ.get("RANK", 0)))
    model = small_tokenizer(warmup_steps=2, spatial="coordinates")
    model.quantizer.codebook.add_(torch.rand(()) * int(os.environ.get("RANK", 0)))
    batches = WindowBatches(small_store(), lengths=(2,), batch_size=7, augment=Augmentation(), weights={"one": 0.7})
    held_out = WindowBatches(small_store(1), lengths=(2,), batch_size=5, shuffle=False)
    settings = {"epochs": 4, "lr": 1e-3, "warmup_epochs": 1, "log_every": 3, "accumulate": 2, "clip_grad": 1.0}
    done = pretrain(model, batches, folder, settings=settings, validation=held_out, device="cpu")
    _write_down(model, done, folder)


def train_codec(folder: Path) -> None:
    """Balance a codec and its discriminator; codebooks are left out at random."""
    torch.manual_seed(int(os.environ.get("RANK", 0)))
    codec = BrainCodec(
        n_filters=4, max_filters=8, dim=8, ratios=(2, 2, 2), codebook_size=16, n_codebooks=2, quantizer_dropout=0.5
    )
    model = BrainCodecForPretraining(
        codec, weights={"l1": 1, "l2": 2, "adversarial": 1}, n_times=400, discriminator_width=4, discriminator_lr=0.5
    )
    batches = WindowBatches(small_store(), lengths=(2,), batch_size=7)
    settings = {"epochs": 2, "lr": 1e-3, "log_every": 1, "accumulate": 2, "clip_grad": 1.0}
    done = pretrain(model, batches, folder, settings=settings, device="cpu")
    _write_down(model, done, folder)


def _write_down(model: torch.nn.Module, done: Pretraining, folder: Path) -> None:
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    torch.save(model.state_dict(), folder / f"{rank}.pt")
    print("main" if done.is_main else "other", done.step, flush=True)


if __name__ == "__main__":
    mne.set_log_level("error")
    torch.set_num_threads(1)
    {"tokenizer": train, "codec": train_codec}[sys.argv[2]](Path(sys.argv[1]))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
