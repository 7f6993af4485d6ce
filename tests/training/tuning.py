"""A small model and its tuner, for the tests of fine-tuning."""

from __future__ import annotations

from typing import Any

import mne
import numpy as np
import pytest
import torch

from mne_labram import (
    LabramForMaskedModeling,
    finetuner,
)
from mne_labram.training.tuner import PRESETS

CHANNELS = ["FP1", "FP2", "C3", "C4"]
BODY = {"embed_dim": 16, "num_layers": 3, "num_heads": 2, "spatial": "coordinates", "patch_embed": "conv+spectrum"}
every_preset = pytest.mark.parametrize("preset", PRESETS)


def pretrained(**options: Any) -> LabramForMaskedModeling:
    torch.manual_seed(0)
    arguments = {"ch_names": CHANNELS, "n_times": 400, "sfreq": 200, "n_codes": 8, **BODY}
    return LabramForMaskedModeling(**{**arguments, **options})


def small_tuner(model: Any, **options: Any) -> Any:
    arguments = {"ch_names": CHANNELS, "max_epochs": 4, "batch_size": 16, "verbose": 0, **options}
    return finetuner(model, **arguments)


def epochs_of(X: np.ndarray) -> mne.EpochsArray:
    info = mne.create_info([name.title() for name in CHANNELS], 200.0, "eeg")
    return mne.EpochsArray(1e-6 * X, info, verbose="error")
