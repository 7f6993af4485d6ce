"""A store of recordings with seizures that anything can learn, and a detector that learns them in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mne
import numpy as np
import torch

from mne_labram.models import NeuroStorm
from mne_labram.seizure.detector import NeuroStormDetector
from mne_labram.seizure.events import EventTable, SeizureEvent
from mne_labram.seizure.store import SeizureStore

CHANNELS = ["Fp1", "F3", "C3", "P3"]
BODY = {"embed_dim": 16, "num_layers": 2, "num_heads": 2, "spatial": "coordinates"}
# Seconds of the seizure in the first recording of every subject.
SEIZURE = (10.0, 30.0)


def open_rhythms(folder: Path, n_subjects: int = 4) -> SeizureStore:
    """Noise; in seizures, a loud rhythm. The last subject has none, and a recording that is interrupted for 3 s."""
    rng, info = np.random.default_rng(0), mne.create_info(CHANNELS, 200.0, "eeg")
    for subject in range(n_subjects):
        last = subject == n_subjects - 1
        for name in ("rest",) if last else ("seizure", "rest"):
            x = 10e-6 * rng.normal(size=(4, 8000))
            if name == "seizure":
                times = np.arange(2000, 6000) / 200
                x[:, 2000:6000] += 60e-6 * np.sin(2 * np.pi * 3 * times)
            if last:
                x[:, 4000:4600] = 0.0
            path = folder / f"s{subject}" / f"{name}_raw.fif"
            path.parent.mkdir(exist_ok=True)
            mne.io.RawArray(x, info, verbose="error").save(path, verbose="error")
    return SeizureStore.open(
        folder, small_model().contract, events_of=_events, subject_of=lambda path: path.parent.name, verbose="error"
    )


def _events(path: Path) -> EventTable:
    events = (SeizureEvent(SEIZURE[0], SEIZURE[1] - SEIZURE[0]),) if "seizure" in path.name else ()
    return EventTable(events, 40.0)


def small_model(**options: Any) -> NeuroStorm:
    """Return the same small model every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return NeuroStorm(ch_names=CHANNELS, n_times=800, **BODY, **options)


def small_detector(**options: Any) -> NeuroStormDetector:
    """Return an unfitted detector."""
    arguments = {
        "lengths": (4.0,),
        "window": 4.0,
        "stride": 2.0,
        "augmentation": None,
        "tokens_per_batch": 128,
        "settings": {"max_steps": 60, "warmup_steps": 5, "lr": 5e-3},
        "precision": "float32",
        **options,
    }
    return NeuroStormDetector(small_model(), **arguments)
