"""Where nothing is, whoever finds nothing is right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mne_labram.benchmark.source import SourceMethod
from mne_labram.benchmark.source_methods import classical_methods
from mne_labram.benchmark.source_silence import score_silence, silence_page
from mne_labram.benchmark.source_windows import MONTAGES, ImagingHead, imaging_head
from mne_labram.signal.contract import ContractError


class _Made:
    def __init__(self, estimate: Callable) -> None:
        self.estimate = estimate


@pytest.fixture(scope="module")
def head(request: pytest.FixtureRequest) -> ImagingHead:
    cache = Path(request.config.cache.mkdir("mne_labram"))
    return imaging_head(MONTAGES["19"], spacing="ico1", cache=cache)


def test_what_is_found_in_noise_counts(head: ImagingHead) -> None:
    gain = head.model.averaged
    told: list[np.ndarray | None] = []

    def everything(x: np.ndarray, covariance: np.ndarray | None) -> np.ndarray:
        told.append(covariance)
        np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-4)
        return np.linalg.pinv(gain) @ x

    def nothing(x: np.ndarray, covariance: np.ndarray | None) -> np.ndarray:
        return np.zeros((head.model.n_sources, x.shape[1]))

    methods = [
        SourceMethod("all", lambda head, snr_db: _Made(everything), needs_noise=False),
        SourceMethod("half", lambda head, snr_db: _Made(lambda x, c: 0.5 * everything(x, c))),
        SourceMethod("none", lambda head, snr_db: _Made(nothing), needs_noise=False),
        SourceMethod("statistics", lambda head, snr_db: _Made(everything), moments=False),
        classical_methods()[0],
    ]
    rows = score_silence(head, head.model, methods, n_windows=3, montage="19", seed=2)
    assert [(row.method, row.known, row.noise) for row in rows] == [
        (name, known, kind)
        for name, ways in (("all", (True, False)), ("half", (True,)), ("none", (True, False)), ("eLORETA", (True,)))
        for known in ways
        for kind in ("white", "coloured")
    ]
    for row in rows:
        assert len(row.shares) == 3
        wanted = {"all": 1.0, "half": 0.25, "none": 0.0}.get(row.method)
        if wanted is not None:
            np.testing.assert_allclose(row.shares, wanted, atol=1e-5)
        else:
            assert 0.01 < min(row.shares) < max(row.shares) < 1.0
    assert [covariance is None for covariance in told] == [False] * 6 + [True] * 6 + [False] * 6
    np.testing.assert_allclose(told[0], np.trace(told[0]) / 18 * (np.eye(19) - 1 / 19), atol=1e-4)
    page = silence_page(rows)
    assert "| all | not known | 100.0% [100.0%, 100.0%] | 100.0% [100.0%, 100.0%] |" in page
    assert "| half | known | 25.0%" in page
    assert "| none | known | 0.0%" in page
    assert "statistics" not in page


def test_noise_is_that_of_the_channels(head: ImagingHead) -> None:
    with pytest.raises(ContractError, match="other channels"):
        score_silence(head, head.model.pick(MONTAGES["19"][:12]), classical_methods())
    with pytest.raises(ValueError, match="n=0"):
        score_silence(head, head.model, classical_methods(), n_windows=0)
