"""Recordings of which one knows where their activity is: the published baselines come out again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mne_labram.benchmark.source import SourceMethod
from mne_labram.benchmark.source_methods import classical_methods
from mne_labram.benchmark.source_real import (
    Resection,
    deepsif_patient,
    ictal_energy,
    real_page,
    sample_heads,
    score_ictal,
    score_resection,
    score_sides,
)
from mne_labram.benchmark.source_windows import ImagingHead
from mne_labram.signal.contract import ContractError


@pytest.fixture(scope="module")
def cache(request: pytest.FixtureRequest) -> Path:
    """Where the heads of the tests of source/ are kept too."""
    return Path(request.config.cache.mkdir("mne_labram"))


@pytest.fixture(scope="module")
def patient(shared_data: Path, cache: Path) -> Resection:
    return deepsif_patient(shared_data, cache=cache)


def _method(name: str) -> SourceMethod:
    return next(method for method in classical_methods() if method.name == name)


def test_the_published_baseline_comes_out(patient: Resection) -> None:
    """``shared/reference/baselines.md``: eLORETA 16.5 mm, 45 mm, 20 %, 78 %."""
    assert patient.inside.sum() == 26
    assert [x.shape for x in patient.segments] == [(75, 500)] * 3
    row, truth = score_ictal(patient, [_method("eLORETA")])
    assert truth.inside == 1
    assert row.center_of_mass_mm == pytest.approx(16.5, abs=0.3)
    assert row.spread_mm == pytest.approx(45, abs=0.6)
    assert row.inside == pytest.approx(0.20, abs=0.01)
    assert row.inside_above_half == pytest.approx(0.78, abs=0.02)
    assert "| eLORETA | 16.5 |" in real_page([row, truth], [])


def test_what_is_resected_scores_best(patient: Resection) -> None:
    inside, others = patient.inside / 26, ~patient.inside / 968
    best = score_resection(inside, patient)
    assert best.spread_mm == 0
    assert best.inside == best.inside_above_half == pytest.approx(1)
    # The middle of a bent surface lies off it: nothing is asked for that the truth does not reach.
    assert best.center_of_mass_mm == pytest.approx(10.3, abs=0.1)
    worst = score_resection(others, patient)
    assert worst.inside == worst.inside_above_half == 0
    assert worst.spread_mm > 50
    both = score_resection(0.5 * inside + 0.5 * others, patient)
    assert both.inside == pytest.approx(0.5)
    assert both.spread_mm == pytest.approx(worst.spread_mm / np.sqrt(2))
    # Per region, what was resected is the larger.
    assert both.inside_above_half == pytest.approx(1)
    with pytest.raises(ContractError, match="994 regions"):
        score_resection(inside[:5], patient)


class _Silent:
    def __init__(self, head: ImagingHead, told: bool) -> None:
        self.n_sources, self.told = head.model.n_sources, told

    def estimate(self, x: np.ndarray, noise_covariance: np.ndarray | None) -> np.ndarray:
        assert (noise_covariance is not None) == self.told
        if self.told:
            np.testing.assert_allclose(np.trace(noise_covariance) * 9, (x**2).sum() / x.shape[1] * 74 / 75)
        return np.zeros((self.n_sources, x.shape[1]))


@pytest.mark.parametrize("told", [True, False])
def test_silence_is_flat(patient: Resection, told: bool) -> None:
    method = SourceMethod("silent", lambda head, snr_db: _Silent(head, told), needs_noise=told)
    np.testing.assert_allclose(ictal_energy(patient, method), 1 / 994)


def test_recordings_that_are_absent(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds deepsif_ictal"):
        deepsif_patient(tmp_path)
    with pytest.raises(FileNotFoundError, match="holds mne_sample_evoked"):
        sample_heads(tmp_path)


def test_responses_lie_on_the_other_side(shared_data: Path, cache: Path) -> None:
    heads, evokeds, covariance = sample_heads(shared_data, cache=cache)
    assert len(heads) == 2
    assert [evoked.comment for evoked in evokeds] == [
        "Left Auditory", "Right Auditory", "Left visual", "Right visual"
    ]  # fmt: skip
    np.testing.assert_allclose(covariance.sum(axis=0), 0, atol=1e-9 * np.trace(covariance))
    # Single epochs have microvolts of noise.
    assert 1 < np.sqrt(np.diag(covariance).mean()) < 30
    rows = score_sides(heads, evokeds, covariance, [_method("eLORETA")])
    assert [row.head for row in rows] == list(heads)
    own = rows[0].shares
    assert min(own["Right Auditory"], own["Right visual"]) > 0.6
    assert min(own.values()) > 0.5
    assert np.mean(list(rows[1].shares.values())) > 0.55
    assert real_page([], rows).count("| eLORETA |") == 2
