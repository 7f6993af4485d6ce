"""Which regions are connected."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from mne_labram.source.connectome import Connectome, synthetic_connectome


@settings(deadline=None, max_examples=30)
@given(
    n=st.integers(2, 60),
    n_neighbours=st.integers(1, 70),
    symmetric=st.booleans(),
    decay=st.floats(0, 2),
    seed=st.integers(0, 9),
)
def test_synthetic_connectomes_are_sound(n: int, n_neighbours: int, symmetric: bool, decay: float, seed: int) -> None:
    found = synthetic_connectome(n, n_neighbours=n_neighbours, symmetric=symmetric, decay=decay, seed=seed)
    weights = found.weights
    assert_array_equal(np.diag(weights), 0)
    assert weights.sum() == pytest.approx(18 * n)
    assert ((weights > 0).sum(axis=1) >= min(n_neighbours, n - 1)).mean() > 0.99
    if symmetric:
        assert_allclose(weights, weights.T, rtol=1e-9)
    else:
        assert_allclose(weights.sum(axis=1), 18)
    lengths = found.tract_lengths
    assert_array_equal(lengths, lengths.T)
    assert 0 < lengths[~np.eye(n, dtype=bool)].min() <= lengths.max() <= 1.3 * 140


def test_strength_falls_with_distance_as_stated() -> None:
    found = synthetic_connectome(300, n_neighbours=299, symmetric=False, decay=0.05, dispersion=0.7, seed=3)
    away = ~np.eye(300, dtype=bool)
    distances, logarithms = found.tract_lengths / 1.3, np.log(found.weights, where=away, out=np.zeros((300, 300)))
    # Within each row: rows are scaled to the same sum.
    slopes, residuals = [], []
    for i in range(300):
        line = np.polynomial.Polynomial.fit(distances[i, away[i]], logarithms[i, away[i]], 1).convert()
        slopes.append(line.coef[1])
        residuals.append(logarithms[i, away[i]] - line(distances[i, away[i]]))
    assert np.mean(slopes) == pytest.approx(-0.05, rel=0.02)
    assert np.std(residuals) == pytest.approx(0.7, rel=0.02)


def test_every_region_receives_the_same() -> None:
    found = synthetic_connectome(200, in_strength=5.0)
    assert_allclose(found.weights.sum(axis=1), 5.0, rtol=1e-6)
    assert_allclose(found.weights, found.weights.T, rtol=1e-12)


def test_positions_decide_and_the_seed_too() -> None:
    places = np.random.default_rng(0).normal(0, 0.05, (40, 3))
    found = synthetic_connectome(places, seed=4)
    assert_allclose(found.tract_lengths[3, 7], 1300 * np.linalg.norm(places[3] - places[7]))
    assert_array_equal(found.weights, synthetic_connectome(places.copy(), seed=4).weights)
    assert not np.array_equal(found.weights, synthetic_connectome(places, seed=5).weights)


def test_one_region_is_connected_to_nothing() -> None:
    assert synthetic_connectome(1).n_edges == 0


def test_edges_go_row_by_row() -> None:
    weights = np.array([[0, 2.0, 0.5], [0, 0, 0], [1.0, 0, 3.0]])
    lengths = np.array([[0, 10.0, 4.4], [0, 0, 0], [7.0, 0, 0]])
    starts, sources, delays, values = Connectome(weights, lengths, speed=2.0).edges(0.5)
    assert starts.tolist() == [0, 2, 2, 4]
    assert sources.tolist() == [1, 2, 0, 2]
    assert delays.tolist() == [10, 4, 7, 0]
    assert values.tolist() == [2.0, 0.5, 1.0, 3.0]
    assert Connectome(weights, lengths, speed=np.inf).edges(0.5)[2].max() == 0


def test_what_was_given_is_copied() -> None:
    weights = np.ones((2, 2))
    found = Connectome(weights, weights, labels=["a", "b"])
    weights[0, 0] = np.nan
    assert found.weights[0, 0] == 1
    assert found.labels == ("a", "b")
    assert repr(found) == "<Connectome | 2 regions, 4 connections, 3 mm/ms>"
    with pytest.raises(ValueError, match="read-only"):
        found.weights[0, 0] = 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (([[1, 2]], np.ones((2, 2))), "weights must be square"),
        ((np.ones((2, 2)), np.ones((3, 3))), "weights are of 2 regions and tract_lengths of 3"),
        ((np.full((2, 2), np.nan), np.ones((2, 2))), "weights must hold finite numbers from 0 up"),
        ((np.ones((2, 2)), -np.ones((2, 2))), "tract_lengths must hold finite numbers from 0 up"),
        ((np.ones((0, 0)), np.ones((0, 0))), "weights must be square"),
        (("abc", np.ones((2, 2))), "weights must be a matrix of numbers"),
        ((np.ones((2, 2)), np.ones((2, 2)), 0.0), "speed must be above 0"),
        ((np.ones((2, 2)), np.ones((2, 2)), np.nan), "speed must be above 0"),
        ((np.ones((2, 2)), np.ones((2, 2)), 3.0, ["a"]), "There are 1 labels and 2 regions"),
    ],
)
def test_what_is_no_connectome_is_refused(arguments: tuple[Any, ...], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Connectome(*arguments)


def test_lengths_in_other_units_are_noticed() -> None:
    with pytest.raises(ValueError, match="longer than a minute"):
        Connectome(np.ones((2, 2)), np.full((2, 2), 5e5), speed=3.0).edges(0.5)


@pytest.mark.parametrize(
    ("positions", "options", "sentence"),
    [
        (0, {}, "at least one region"),
        (np.zeros((3, 2)), {}, "finite numbers"),
        ("head", {}, "positions must be numbers"),
        (np.full((3, 3), np.inf), {}, "finite numbers"),
        (np.zeros((3, 3)), {}, "at the same place"),
        (np.diag([100.0, 50, 20]), {}, "in metres, not in millimetres"),
        (5, {"n_neighbours": 0}, "n_neighbours must be at least 1"),
        (5, {"decay": -1}, "from 0 up"),
        (5, {"tortuosity": 0.5}, "tortuosity from 1 up"),
        (5, {"in_strength": np.nan}, "from 0 up"),
        (5, {"speed": -1}, "speed must be above 0"),
    ],
)
def test_what_cannot_be_made_up_is_refused(positions: Any, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        synthetic_connectome(positions, **options)
