"""A small head, and a model with weights that are not at their beginning."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mne_labram.models.brainforge import BrainForge

NAMES = "Fp1 Fp2 F7 F3 Fz F4 F8 T7 C3 Cz C4 T8 P7 P3 Pz P4 P8 O1 O2".split()


@pytest.fixture
def model() -> BrainForge:
    torch.manual_seed(0)
    model = BrainForge(ch_names=NAMES, n_sources=120, embed_dim=16, time_dim=16, num_heads=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval().requires_grad_(False)


@pytest.fixture
def window(model: BrainForge) -> torch.Tensor:
    """Two windows of a source each, in noise."""
    generator = torch.Generator().manual_seed(1)
    sources = torch.zeros(2, 120, 100)
    sources[0, 17] = 200 * torch.sin(torch.arange(100) / 3.0)
    sources[1, 60] = 300 * torch.exp(-((torch.arange(100) - 50.0) ** 2) / 50)
    return model.geometry.leadfield @ sources + torch.randn(2, len(NAMES), 100, generator=generator)


@pytest.fixture
def names() -> list[str]:
    return [name.upper() for name in NAMES]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
