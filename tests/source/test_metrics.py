"""How far an estimate is from the truth: what is perfect scores best, and nothing that says nothing scores well."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from mne_labram.signal.contract import ContractError
from mne_labram.source.head import SourceModel
from mne_labram.source.metrics import (
    area_under_curve,
    bootstrap_interval,
    center_of_mass_error,
    find_peaks,
    localization_error,
    otsu_threshold,
    precision_recall,
    source_amplitude,
    spatial_dispersion,
)


@pytest.fixture(scope="module")
def head(sphere_head: Callable[..., SourceModel]) -> SourceModel:
    return sphere_head(300, n_deep=2)


def _patch(head: SourceModel, centre: int) -> np.ndarray:
    """Amplitudes that fall off along the surface, 1 in the middle."""
    distance = np.linalg.norm(head.positions - head.positions[centre], axis=1)
    return np.where(distance < 0.03, np.exp(-((distance / 0.015) ** 2)), 0.0)


def _scores(head: SourceModel, amplitude: np.ndarray, true: np.ndarray, centres: list[int]) -> np.ndarray:
    active = true >= 0.5
    error = localization_error(amplitude, head.positions, head.neighbours, head.positions[centres])
    return np.array(
        [
            *error,
            center_of_mass_error(amplitude, head.positions, true, head.positions),
            spatial_dispersion(amplitude, head.positions, head.positions[active]),
            area_under_curve(amplitude, active),
            area_under_curve(amplitude, active, head.positions),
            *precision_recall(amplitude, active),
            *precision_recall(amplitude, active, "otsu"),
        ]
    )


@settings(max_examples=20)
@given(centre=st.integers(0, 299), other=st.integers(0, 299), scale=st.floats(1e-9, 1e9))
def test_the_truth_scores_best_whatever_its_scale(head: SourceModel, centre: int, other: int, scale: float) -> None:
    centres = [centre]
    if np.linalg.norm(head.positions[centre] - head.positions[other]) > 0.07:
        centres.append(other)
    true = sum(_patch(head, each) for each in centres)
    scores = _scores(head, true, true, centres)
    np.testing.assert_allclose(scores[:3], 0)
    assert scores[3] == len(centres)
    assert scores[4] < 1e-6
    # Members of less than half of the amplitude are not active.
    assert scores[5] < 10
    np.testing.assert_allclose(scores[6:11], 1)
    assert scores[12] == 1
    np.testing.assert_allclose(_scores(head, scale * true, true, centres), scores, atol=1e-6)


def test_what_is_shifted_is_as_far_as_it_is_shifted(head: SourceModel) -> None:
    true, found = _patch(head, 60), _patch(head, 100)
    shift = 1000 * np.linalg.norm(head.positions[60] - head.positions[100])
    assert shift > 25
    scores = _scores(head, found, true, [60])
    np.testing.assert_allclose(scores[:3], shift)
    assert scores[4] == pytest.approx(shift, rel=0.2)
    assert scores[5] == pytest.approx(shift, rel=0.5)
    assert max(scores[6:8]) < 0.6
    assert scores[8] == scores[9] == scores[10] == 0


def test_neither_many_peaks_nor_few_make_a_good_error(head: SourceModel) -> None:
    true = head.positions[[20, 250]]
    everywhere = localization_error(np.ones(302), head.positions, head.neighbours, true)
    assert everywhere.missed_mm == 0
    assert everywhere.n_peaks == 302
    assert everywhere.ghost_mm > 50
    assert everywhere.symmetric_mm == everywhere.ghost_mm / 2
    one = localization_error(_patch(head, 20), head.positions, head.neighbours, true)
    assert one.ghost_mm == 0
    assert one.n_peaks == 1
    assert one.symmetric_mm == one.missed_mm / 2 > 30
    both = localization_error(_patch(head, 20) + _patch(head, 250), head.positions, head.neighbours, true)
    assert both == (0, 0, 0, 2)


def test_zeros_are_flat(head: SourceModel) -> None:
    true = _patch(head, 60)
    flat, zeros = (_scores(head, value * np.ones(302), true, [60]) for value in (3.0, 0.0))
    np.testing.assert_array_equal(flat, zeros)
    assert flat[6] == flat[7] == 0.5
    assert flat[9] == 1
    assert flat[8] == pytest.approx((true >= 0.5).mean())


def test_nothing_is_near_to_nothing(head: SourceModel) -> None:
    error = localization_error(np.ones(302), head.positions, head.neighbours, np.zeros((0, 3)))
    assert np.isnan(error[:3]).all()
    nothing = np.zeros(302)
    assert np.isnan(center_of_mass_error(np.ones(302), head.positions, nothing, head.positions))
    assert np.isnan(spatial_dispersion(np.ones(302), head.positions, np.zeros((0, 3))))
    for threshold in (0.5, "otsu"):
        assert np.isnan(precision_recall(np.ones(302), nothing > 0, threshold)).all()
    for active in (nothing > 0, nothing == 0):
        assert np.isnan(area_under_curve(np.ones(302), active))
        assert np.isnan(area_under_curve(np.ones(302), active, head.positions))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_number_is_refused(head: SourceModel, bad: float) -> None:
    estimate = np.ones((302, 4))
    estimate[7, 2] = bad
    with pytest.raises(ContractError, match="NaN or infinity"):
        source_amplitude(estimate)
    with pytest.raises(ContractError, match="finite and not negative"):
        find_peaks(estimate[:, 2], head.neighbours)
    with pytest.raises(ContractError, match="has no position"):
        spatial_dispersion(np.ones(2), np.full((2, 3), bad), np.zeros((1, 3)))


def test_amplitudes() -> None:
    estimate = np.array([[3.0, -4.0], [0.0, 0.0]])
    np.testing.assert_allclose(source_amplitude(estimate), [np.sqrt(12.5), 0])
    np.testing.assert_allclose(source_amplitude(1e-300 * estimate), [1e-300 * np.sqrt(12.5), 0])
    np.testing.assert_allclose(source_amplitude(estimate[:, 1]), [4, 0])
    np.testing.assert_array_equal(source_amplitude(0 * estimate), 0)
    for shape in ((2, 3, 4), (0, 4), ()):
        with pytest.raises(ContractError, match="shape"):
            source_amplitude(np.zeros(shape))


def test_peaks_are_local_maxima_above_a_share(head: SourceModel) -> None:
    amplitude = _patch(head, 20) + 0.4 * _patch(head, 250)
    # A deep point has no neighbours.
    amplitude[301] = 0.6
    np.testing.assert_array_equal(find_peaks(amplitude, head.neighbours), [20, 301])
    np.testing.assert_array_equal(find_peaks(amplitude, head.neighbours, 0.3), [20, 250, 301])
    with pytest.raises(ValueError, match="share must be"):
        find_peaks(amplitude, head.neighbours, 1.5)
    with pytest.raises(ContractError, match="take both from one"):
        find_peaks(amplitude[:-1], head.neighbours)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), n_levels=st.integers(1, 6))
def test_area_is_the_rank_statistic(seed: int, n_levels: int) -> None:
    rng = np.random.default_rng(seed)
    amplitude, active = rng.integers(n_levels, size=40).astype(float), np.arange(40) < 7
    area = area_under_curve(amplitude, active)
    assert area == pytest.approx(mannwhitneyu(amplitude[active], amplitude[~active]).statistic / (7 * 33))
    positions = np.stack([np.arange(40.0), np.zeros(40), np.zeros(40)], axis=1)
    # A fifth of 40: those that follow on the line.
    close = mannwhitneyu(amplitude[:7], amplitude[7:15]).statistic / 56
    assert area_under_curve(amplitude, active, positions) == pytest.approx(close)


def test_otsu_parts_two_heaps() -> None:
    rng = np.random.default_rng(0)
    amplitude = np.concatenate([rng.uniform(0, 1, 200), rng.uniform(5, 6, 30)])
    assert amplitude[:200].max() <= otsu_threshold(amplitude) < amplitude[200:].min()
    assert otsu_threshold(np.ones(4)) == -np.inf
    assert precision_recall(amplitude, np.arange(230) >= 200, "otsu") == (1, 1, 1)
    assert precision_recall(amplitude, np.arange(230) >= 215) == (0.5, 1, 2 / 3)
    for bad in (1.5, -0.1, "li"):
        with pytest.raises(ValueError, match="threshold must be"):
            precision_recall(amplitude, amplitude > 1, bad)
    with pytest.raises(ContractError, match="active must be"):
        precision_recall(amplitude, amplitude)


def test_intervals_cover_the_mean() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(100):
        mean, low, high = bootstrap_interval(rng.normal(3.0, 1.0, 40), seed=seed, n_draws=300)
        assert low < mean < high
        covered += low < 3.0 < high
    assert 85 <= covered <= 100
    assert bootstrap_interval([1.0, np.nan, 5.0, 100.0], median=True)[0] == 5
    assert np.isnan(bootstrap_interval([np.nan])).all()
    assert bootstrap_interval([2.0])[0] == 2
    assert np.isnan(bootstrap_interval([2.0])[1])
    with pytest.raises(ValueError, match="between 0 and 1"):
        bootstrap_interval([1.0, 2.0], level=95)
