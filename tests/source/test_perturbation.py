"""Electrodes that are moved see what electrodes at that place see."""

from __future__ import annotations

import numpy as np
import pytest

from mne_labram.signal.head_field import dipole_potentials
from mne_labram.source.perturbation import ElectrodeJitter, LeadfieldSpread


def _sphere(n: int, seed: int = 0) -> np.ndarray:
    """Electrodes on the upper part of a sphere, evenly apart."""
    height = 1 - 1.2 * (np.arange(n) + 0.5) / n
    angle = np.pi * (3 - np.sqrt(5)) * np.arange(n)
    around = np.sqrt(1 - height**2)
    return np.column_stack([around * np.cos(angle), around * np.sin(angle), height])


@pytest.mark.parametrize(("n_channels", "least"), [(64, 0.85), (32, 0.6), (19, 0.4)])
def test_the_change_is_that_of_electrodes_elsewhere(n_channels: int, least: float) -> None:
    rng = np.random.default_rng(0)
    directions = _sphere(n_channels)
    sources = _sphere(50)
    moments = rng.standard_normal((50, 3))
    jitter = ElectrodeJitter(0.09 * directions, 4.0)
    moved = jitter.displacements(1, rng)
    there = directions + moved[0] / 0.09
    there /= np.linalg.norm(there, axis=1, keepdims=True)
    before = dipole_potentials(directions, sources, moments)
    truth = dipole_potentials(there, sources, moments) - before
    change = jitter.apply(before[np.newaxis], moved)[0] - before
    explained = 1 - ((change - truth) ** 2).sum() / (truth**2).sum()
    assert explained > least
    # Too little rather than too much.
    assert 0.5 < np.linalg.norm(change) / np.linalg.norm(truth) < 1.1


def test_displacements_are_along_the_scalp_and_as_large_as_stated() -> None:
    directions = _sphere(64)
    jitter = ElectrodeJitter(0.09 * directions, 5.0)
    moved = jitter.displacements(500, np.random.default_rng(0))
    np.testing.assert_allclose((moved * directions).sum(axis=2), 0.0, atol=1e-6)
    np.testing.assert_allclose(np.sqrt((moved**2).sum(axis=2).mean() / 2), 5e-3, rtol=0.05)
    # Half of the variance is common to the cap.
    near = np.argsort(np.linalg.norm(directions - directions[0], axis=1))[1]
    common = (moved[:, 0] * moved[:, near]).sum(axis=1).mean() / (moved[:, 0] ** 2).sum(axis=1).mean()
    assert 0.3 < common < 0.6


def test_constants_do_not_change_and_flat_caps_are_no_problem() -> None:
    rng = np.random.default_rng(0)
    for points in (0.09 * _sphere(32), np.column_stack([rng.uniform(-0.1, 0.1, (8, 2)), np.zeros(8)])):
        jitter = ElectrodeJitter(points, 5.0)
        n_channels = len(points)
        flat = np.ones((2, n_channels, 1))
        np.testing.assert_allclose(jitter.apply(flat, jitter.displacements(2, rng)), flat, atol=1e-6)
        anything = rng.standard_normal((2, n_channels, 3))
        np.testing.assert_array_equal(jitter.apply(anything, np.zeros((2, n_channels, 3))), anything)
        assert np.isfinite(jitter.apply(anything, jitter.displacements(2, rng))).all()


def test_mixtures_reach_from_one_head_to_the_others(sphere_head) -> None:
    heads = [sphere_head(100, eccentricity=e) for e in (0.85, 0.7, 0.9)]
    spread = LeadfieldSpread(heads[0], heads[1:], 0.6)
    shares = spread.mixtures(500, np.random.default_rng(0))
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    assert shares.min() >= 0.0
    assert 0.4 <= shares[:, 0].min() < 0.45
    indices, weights = np.array([3, 9]), np.array([1.0, 0.5])
    expected = sum(a * h.leadfield[:, indices] @ weights for a, h in zip(shares[0], heads, strict=True))
    np.testing.assert_allclose(spread.topography(indices, weights, shares[0]), expected)
    alone = LeadfieldSpread(heads[0], heads[1:], 0.0)
    assert alone.mixtures(2, np.random.default_rng(0)).tolist() == [[1.0], [1.0]]
