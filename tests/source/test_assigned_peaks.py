"""Told how many sources there are, further peaks cost nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from mne_labram.signal.contract import ContractError
from mne_labram.source.assigned_peaks import assigned_error
from mne_labram.source.head import SourceModel


def test_peaks_are_given_to_sources(sphere_head: Callable[..., SourceModel]) -> None:
    head = sphere_head(300)
    true = head.positions[[20, 250]]
    apart = 1000 * np.linalg.norm(head.positions[:, None] - true, axis=2)

    def peaks(**heights: float) -> np.ndarray:
        amplitude = np.zeros(300)
        for name, height in heights.items():
            amplitude[int(name[1:])] = height
        return amplitude

    def error(amplitude: np.ndarray) -> float:
        return assigned_error(amplitude, head.positions, head.neighbours, true)

    assert error(peaks(s20=1.0, s250=0.1)) == 0
    assert error(peaks(s20=1.0, s250=0.1, s120=0.05, s160=0.04)) == 0
    assert error(7 * peaks(s20=1.0, s250=0.1, s120=0.05)) == 0
    # The second largest is elsewhere.
    assert error(peaks(s20=1.0, s250=0.1, s120=0.5)) == pytest.approx(apart[120, 1] / 2)
    # Two peaks near one source: each source has one of its own.
    nearer = int(np.argsort(apart[:, 0])[30])
    assert apart[nearer, 0] < apart[nearer, 1]
    assert error(peaks(**{"s20": 1.0, f"s{nearer}": 0.5})) == pytest.approx(apart[nearer, 1] / 2)
    # One peak for both.
    assert error(peaks(s20=1.0)) == pytest.approx(apart[20, 1] / 2)
    # Nothing is as good as anything.
    assert error(np.zeros(300)) == error(np.ones(300)) == pytest.approx(apart.mean())
    assert np.isnan(assigned_error(np.ones(300), head.positions, head.neighbours, np.zeros((0, 3))))
    with pytest.raises(ContractError, match="one row of x, y, z"):
        assigned_error(np.ones(300), head.positions[:5], head.neighbours, true)
    with pytest.raises(ContractError, match="finite and not negative"):
        assigned_error(-np.ones(300), head.positions, head.neighbours, true)
