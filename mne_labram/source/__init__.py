"""Source imaging: head models, neural masses, simulated recordings, and what is trained on them."""

from __future__ import annotations

import importlib
from typing import Any

# What users reach as mne_labram.source.<name>; imported when it is first used.
_HOMES = {
    "BankRecipe": "bank_pieces",
    "BrainForgeInverse": "inverse",
    "NoiseBank": "noise",
    "SimulatedBatch": "simulate",
    "SourceModel": "head",
    "SourceSimulator": "simulate",
    "WaveformBank": "bank",
    "bank_cost": "bank_costs",
    "default_bank": "bank_making",
    "default_forward": "headmodel",
    "grow_patch": "patches",
    "make_bank": "bank_making",
    "perturbed_forward": "headmodel",
    "plot_sources": "figure",
    "source_model": "head",
    "sphere_forward": "sphere",
    "warped_cortex": "warp",
    "write_template_surfaces": "viewers",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
