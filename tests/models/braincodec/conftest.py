"""Golden vectors of the authors' encoder and decoder, with the weights drawn again."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch


@pytest.fixture(scope="session")
def golden_codec(golden: Path) -> SimpleNamespace:
    """Golden vectors: ``state`` and ``codebooks`` under the authors' names, ``x``, ``ratios`` and ``outputs``."""
    with np.load(golden / "braincodec.npz") as vectors:
        rng = np.random.default_rng(int(vectors["seed"]))
        state = {}
        for key, shape, kind in zip(vectors["keys"], vectors["shapes"], vectors["kinds"], strict=True):
            size = tuple(int(n) for n in str(shape).split(","))
            factor = 0.05 if kind == "normal" else 1 / np.sqrt(np.prod(size[1:]))
            state[str(key)] = torch.tensor(factor * rng.standard_normal(size), dtype=torch.float32)
        codebooks = {}
        for i, codes in enumerate(torch.from_numpy(vectors["codebooks"])):
            name = f"quantizer.layers.{i}._codebook."
            codebooks[name + "embed"] = codes[None]
            codebooks[name + "embed_avg"] = 3 * codes[None]
            codebooks[name + "cluster_size"] = torch.full((1, len(codes)), 3.0)
            codebooks[name + "initted"] = torch.tensor([True])
        return SimpleNamespace(
            state=state,
            codebooks=codebooks,
            x=torch.from_numpy(vectors["x"]),
            ratios=vectors["ratios"].tolist(),
            outputs={key: vectors[key] for key in vectors.files},
        )
