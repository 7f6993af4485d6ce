"""Golden vectors of the authors' code, with the weights drawn again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mne_labram.models.gram.channels import SINUSOID_BASE
from mne_labram.nn.sinusoidal import sinusoidal_table


def _draw(vectors: np.lib.npyio.NpzFile) -> dict[str, torch.Tensor]:
    """Draw the weights as shared/golden/README.md says; what is kept is a table, or stored beside."""
    rng = np.random.default_rng(int(vectors["seed"]))
    state = {}
    for key, shape, kind in zip(vectors["keys"], vectors["shapes"], vectors["kinds"], strict=True):
        size = tuple(int(n) for n in str(shape).split(",") if n)
        stored = str(key).replace(".", "_")
        if kind == "kept":
            if stored.endswith("time_emb") and stored in vectors:
                state[str(key)] = torch.from_numpy(vectors[stored]).unsqueeze(0)
            else:
                state[str(key)] = sinusoidal_table(size[1], size[2], SINUSOID_BASE).unsqueeze(0)
            continue
        if kind in ("zero", "one"):
            value = np.full(size, float(kind == "one"))
        else:
            value = 0.05 * rng.standard_normal(size)
            if kind == "normal+1":
                value = 1 + value
            elif kind == "normal,l2":
                value = value / np.linalg.norm(value, axis=-1, keepdims=True)
        state[str(key)] = torch.tensor(value, dtype=torch.float32)
    return state


def _channel_major(tokens: torch.Tensor, n_chans: int = 19) -> torch.Tensor:
    """Bring tokens (batch, n_patches * n_chans, ...) into the shape (batch, n_chans, n_patches, ...)."""
    return tokens.unflatten(1, (-1, n_chans)).transpose(1, 2)


@pytest.fixture(scope="session")
def golden_gram(golden: Path) -> Callable[[int], SimpleNamespace]:
    """Read golden vectors of a stage.

    ``state``, ``x`` in µV, ``ch_names``, ``n_times``, the expected ``outputs``, and ``ours``, which brings tokens of
    the authors' order into the shape (batch, n_chans, n_patches, ...).
    """
    cache: dict[int, SimpleNamespace] = {}

    def read(stage: int) -> SimpleNamespace:
        if stage not in cache:
            with np.load(golden / f"gram_stage{stage}.npz") as vectors:
                ch_names = [str(name) for name in vectors["ch_names"]]
                x = _channel_major(torch.from_numpy(vectors["x"]), len(ch_names)).flatten(2)
                cache[stage] = SimpleNamespace(
                    state=_draw(vectors),
                    x=100 * x,  # stored in units of 0.1 mV
                    ch_names=ch_names,
                    n_times=x.shape[2],
                    ours=_channel_major,
                    outputs={key: torch.from_numpy(vectors[key]) for key in vectors if vectors[key].dtype.kind in "fi"},
                )
        found = cache[stage]
        return SimpleNamespace(**{**vars(found), "state": {key: v.clone() for key, v in found.state.items()}})

    return read
