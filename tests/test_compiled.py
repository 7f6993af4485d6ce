"""Compiled loops, where nothing can be kept on the disk too."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from mne_labram._compiled import compiled


def test_without_a_place_for_a_cache_it_is_compiled_all_the_same() -> None:
    # Numba finds no place for what has no file, as for a file in a read-only installation without a home.
    names: dict = {}
    exec("def total(values):\n    out = 0\n    for value in values:\n        out += value\n    return out", names)  # noqa: S102
    with pytest.raises(RuntimeError, match="no locator"):
        njit(cache=True)(names["total"])
    assert compiled(names["total"])(np.arange(5)) == 10
