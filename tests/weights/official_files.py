"""Files as the official scripts write them, with the weights of the golden vectors."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch


def golden_weights(vectors: np.lib.npyio.NpzFile) -> dict[str, torch.Tensor]:
    """Draw the weights of a golden file again (../shared/golden/README.md)."""
    rng = np.random.default_rng(int(vectors["seed"]))
    state = {}
    for name, shape, kind in zip(vectors["keys"], vectors["shapes"], vectors["kinds"], strict=True):
        shape = tuple(int(n) for n in str(shape).split(",") if n)
        if kind in ("zero", "one"):
            value = np.full(shape, float(kind == "one"))
        else:
            value = 0.05 * rng.standard_normal(shape)
            if kind == "normal+1":
                value = 1 + value
            elif kind == "normal,l2":
                value = value / np.linalg.norm(value, axis=1, keepdims=True)
        state[str(name)] = torch.from_numpy(np.asarray(value, dtype=np.float32))
    return state


def training_dict(state: dict[str, torch.Tensor]) -> dict:
    """Put weights into the dict of LaBraM's save_model, with all that is in it after an epoch of training."""
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([parameter], lr=5e-4)
    parameter.sum().backward()
    optimizer.step()
    # The official schedules are NumPy arrays, so the saved rates are NumPy scalars.
    optimizer.param_groups[0]["lr"] = np.linspace(5e-4, 1e-6, 10)[3]
    optimizer.param_groups[0]["weight_decay"] = np.float64(0.05)
    return {
        "model": state,
        "optimizer": optimizer.state_dict(),
        "epoch": 49,
        "scaler": torch.amp.GradScaler("cpu").state_dict(),
        "args": argparse.Namespace(model="labram_base_patch200_200", lr=5e-4, window_size=(1, 16), resume="", gpu=None),
    }


def write_official(
    path: Path, state: dict[str, torch.Tensor], *, layout: str = "training", zipped: bool = True
) -> Path:
    """Write weights as an official file: inside the training dict, under another key, or bare."""
    content = training_dict(state) if layout == "training" else state if layout == "bare" else {layout: state}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path
