"""Recordings in memory with the interface of a store, and a small tokenizer, for the tests of pre-training."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np

from mne_labram.models.labram import LabramTokenizer
from mne_labram.signal.contract import LABRAM_CONTRACT

THREE, FOUR = ("FP1", "CZ", "O2"), ("F3", "F4", "PZ", "T7")


@dataclass
class MemoryRecording:
    """What a ConformedRecording says."""

    ch_names: list[str]
    n_times: int
    dataset: str = "one"
    subject: str = "s1"
    positions: np.ndarray | None = None
    segments: list[tuple[int, int]] = field(default_factory=list)
    unusable: np.ndarray | None = None

    def __post_init__(self) -> None:
        self.segments = self.segments or [(0, self.n_times)]
        if self.unusable is None:
            self.unusable = np.zeros(-(-self.n_times // 200), dtype=bool)


class MemoryStore:
    """A ConformedStore of noise whose spectrum falls like that of EEG, in µV."""

    contract = LABRAM_CONTRACT

    def __init__(self, recordings: list[MemoryRecording], seed: int = 0) -> None:
        self.recordings = recordings
        self.n_hours = sum(each.n_times for each in recordings) / 200 / 3600
        self.n_read = 0
        rng = np.random.default_rng(seed)
        self._signals = []
        for each in recordings:
            steps = rng.standard_normal((len(each.ch_names), each.n_times)) * 4
            # Leaky integration of noise; every recording with another loudness and another rhythm.
            x = np.zeros_like(steps)
            for i in range(1, each.n_times):
                x[:, i] = 0.95 * x[:, i - 1] + steps[:, i]
            rhythm = np.sin(2 * np.pi * rng.uniform(6, 20) * np.arange(each.n_times) / 200)
            self._signals.append(((x + 15 * rhythm) * rng.uniform(0.5, 2)).astype(np.float32))

    def windows(self, seconds: float, *, stride: float | None = None) -> SimpleNamespace:
        length = round(200 * seconds)
        step = length if stride is None else round(200 * stride)
        file, start = [], []
        for i, each in enumerate(self.recordings):
            for first, stop in each.segments:
                for begin in range(first, stop - length + 1, step):
                    if not each.unusable[begin // 200 : -(-(begin + length) // 200)].any():
                        file.append(i)
                        start.append(begin)
        return SimpleNamespace(file=np.array(file, np.int32), start=np.array(start, np.int64), n_times=length)

    def read(self, file: int, start: int, n_times: int) -> np.ndarray:
        self.n_read += 1
        assert 0 <= start <= start + n_times <= self.recordings[file].n_times
        return self._signals[file][:, start : start + n_times]


def small_store(seed: int = 0) -> MemoryStore:
    """Three recordings of three channels and two of four, 16 to 24 s long, of two data sets."""
    return MemoryStore(
        [
            MemoryRecording(list(THREE), 200 * (16 + 2 * i), "one", f"s{i}")
            if i < 3
            else MemoryRecording(list(FOUR), 200 * (14 + 2 * i), "two", f"s{i}")
            for i in range(5)
        ],
        seed,
    )


def small_tokenizer(**options) -> LabramTokenizer:
    """Make a tokenizer of 2 + 1 blocks with 32 codes, which k-means finds in the second or third step."""
    return LabramTokenizer(
        **{
            "ch_names": list(THREE),
            "size": "small",
            "embed_dim": 32,
            "num_layers": 2,
            "num_heads": 2,
            "decoder_layers": 1,
            "n_codes": 32,
            "code_dim": 8,
            "target": "log_amplitude",
            "input_scale": 10.0,
            "patch_embed": "conv+spectrum",
            "revive_dead_codes": True,
            **options,
        }
    )
