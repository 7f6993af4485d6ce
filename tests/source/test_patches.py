"""Patches grow along the surface, keep their extent, and stay apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

from mne_labram.source.patches import LARGEST_EXTENT_MM, PatchGrower, grow_patch


@pytest.fixture(scope="module")
def head(sphere_head):
    return sphere_head(800)


def _n_groups(head, members) -> int:
    return connected_components(head.neighbours[members][:, members], directed=False)[0]


def test_a_disc_is_what_is_near_along_the_surface(head) -> None:
    indices, weights = grow_patch(head, 17, 50.0, np.random.default_rng(0), irregularity=0.0)
    distance = head.distances(0.08)[[17]].toarray()[0]
    distance[(distance == 0.0)] = np.inf
    distance[17] = 0.0
    assert set(indices[weights >= 0.5]) == set(np.flatnonzero(distance <= 0.025))
    np.testing.assert_allclose(weights, 2.0 ** -((distance[indices] / 0.025) ** 2))
    assert distance[indices].max() <= 1.5 * 0.025
    assert weights.min() > 0.2


@settings(max_examples=40)
@given(st.integers(0, 799), st.floats(0.0, 80.0), st.integers(0, 2**32 - 1))
def test_an_irregular_patch_is_one_piece_of_the_size_of_the_disc(head, centre: int, extent: float, seed: int) -> None:
    indices, weights = grow_patch(head, centre, extent, np.random.default_rng(seed))
    disc, disc_weights = grow_patch(head, centre, extent, np.random.default_rng(seed), irregularity=0.0)
    active = indices[weights >= 0.5]
    assert (np.diff(indices) > 0).all()
    assert weights.max() == weights[indices == centre][0] == 1.0
    assert (weights > 0.2).all()
    assert _n_groups(head, active) == 1
    assert len(active) >= (disc_weights >= 0.5).sum()
    # Without holes: what is not active hangs together.
    rest = np.setdiff1d(np.arange(800), active)
    assert _n_groups(head, rest) == 1
    # Filled holes are few.
    assert len(active) <= 1.3 * (disc_weights >= 0.5).sum() + 3


def test_irregular_patches_are_no_discs_and_follow_from_the_generator(head) -> None:
    draws = [grow_patch(head, 5, 60.0, np.random.default_rng(seed))[0].tolist() for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_holes_are_filled(head) -> None:
    grower = PatchGrower(head)
    indices, weights = grower.grow(100, 60.0, np.random.default_rng(0))
    active = np.zeros(800, dtype=bool)
    active[indices[weights >= 0.5]] = True
    inner = [v for v in np.flatnonzero(active) if active[head.neighbours[[v]].indices].all()]
    active[inner[0]] = False
    (hole,) = grower._holes(active)
    assert hole.tolist() == [inner[0]]


def test_a_small_patch_and_a_deep_point_are_one_source(sphere_head) -> None:
    head = sphere_head(200, n_deep=3)
    for centre, extent in ((50, 0.0), (50, 5.0), (201, 40.0)):
        indices, weights = grow_patch(head, centre, extent, np.random.default_rng(0))
        assert indices.tolist() == [centre]
        assert weights.tolist() == [1.0]


@settings(max_examples=25)
@given(st.lists(st.floats(0.0, 45.0), min_size=2, max_size=4), st.integers(0, 2**32 - 1))
def test_patches_at_the_same_time_are_apart(head, extents: list[float], seed: int) -> None:
    grower = PatchGrower(head, irregularity=0.0)
    patches = grower.apart(extents, np.random.default_rng(seed), gap_mm=8.0)
    assert len(patches) == len(extents)
    active = [head.positions[p.indices[p.weights >= 0.5]] for p in patches]
    for i, first in enumerate(active):
        for second in active[:i]:
            assert np.linalg.norm(first[:, np.newaxis] - second, axis=2).min() >= 0.008 - 1e-12


def test_more_large_patches_than_there_is_room_for_get_smaller(head) -> None:
    patches = PatchGrower(head).apart([100.0] * 12, np.random.default_rng(0), gap_mm=5.0)
    sizes = [(p.weights >= 0.5).sum() for p in patches]
    assert len(patches) == 12
    assert sizes[0] > 3 * min(sizes)
    assert len({int(p.indices[p.weights.argmax()]) for p in patches}) == 12


def test_centres_may_be_given(head) -> None:
    patches = PatchGrower(head).apart([10.0, 30.0], np.random.default_rng(0), centres=[3, 4])
    assert [int(p.indices[p.weights.argmax()]) for p in patches] == [3, 4]


@pytest.mark.parametrize(
    ("centre", "extent", "match"),
    [(800, 10.0, "one of the 800"), (-1, 10.0, "one of the 800"), (0, -1.0, "extent_mm"), (0, np.nan, "extent_mm")],
)
def test_nonsense_is_refused(head, centre: int, extent: float, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        grow_patch(head, centre, extent, np.random.default_rng(0))
    with pytest.raises(ValueError, match="irregularity"):
        PatchGrower(head, irregularity=-1.0)
    assert LARGEST_EXTENT_MM > 100.0
