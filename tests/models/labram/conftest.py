"""Golden vectors of the authors' code, with the weights drawn again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch


def _draw(vectors: np.lib.npyio.NpzFile) -> dict[str, torch.Tensor]:
    """Draw the weights as shared/golden/README.md says."""
    rng = np.random.default_rng(int(vectors["seed"]))
    state = {}
    for key, shape, kind in zip(vectors["keys"], vectors["shapes"], vectors["kinds"], strict=True):
        size = tuple(int(n) for n in str(shape).split(",") if n)
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


@pytest.fixture(scope="session")
def golden_model(golden: Path) -> Callable[[str], SimpleNamespace]:
    """Read golden vectors by name: ``state``, ``x`` in µV, ``ch_names``, ``n_times`` and the expected ``outputs``."""
    cache: dict[str, SimpleNamespace] = {}

    def read(name: str) -> SimpleNamespace:
        if name not in cache:
            with np.load(golden / f"labram_{name}.npz") as vectors:
                x = torch.from_numpy(vectors["x"])
                cache[name] = SimpleNamespace(
                    state=_draw(vectors),
                    x=100 * x.flatten(2),  # stored in units of 0.1 mV
                    ch_names=[str(name) for name in vectors["ch_names"]],
                    n_times=x.shape[2] * x.shape[3],
                    outputs={key: vectors[key] for key in vectors.files},
                )
        found = cache[name]
        return SimpleNamespace(**{**vars(found), "state": {key: v.clone() for key, v in found.state.items()}})

    return read
