"""Neighbours and distances along surfaces."""

from __future__ import annotations

import numpy as np
import pytest

from mne_labram.source.mesh import (
    adjacency_of_triangles,
    edge_graph,
    geodesic_distances,
    neighbours_along_surface,
    vertex_normals,
)
from mne_labram.source.surfaces import icosphere


@pytest.fixture(scope="module")
def sphere() -> tuple[np.ndarray, np.ndarray]:
    return icosphere(3)


def test_a_sphere_faces_outwards(sphere: tuple[np.ndarray, np.ndarray]) -> None:
    points, tris = sphere
    np.testing.assert_allclose(vertex_normals(0.3 * points + 1.0, tris), points, atol=0.02)
    np.testing.assert_allclose(vertex_normals(points, tris[:, ::-1]), -points, atol=0.02)


def test_triangles_say_who_is_next_to_whom() -> None:
    adjacency = adjacency_of_triangles(np.array([[0, 1, 2], [2, 1, 3]]), 5).toarray()
    pairs = {(0, 1), (0, 2), (1, 2), (1, 3), (2, 3)}
    assert {(a, b) for a, b in np.argwhere(adjacency).tolist() if a < b} == pairs
    np.testing.assert_array_equal(adjacency, adjacency.T)
    assert not adjacency.diagonal().any()


def test_with_every_vertex_a_source_neighbours_are_the_edges(sphere: tuple[np.ndarray, np.ndarray]) -> None:
    points, tris = sphere
    found = neighbours_along_surface(edge_graph(points, tris), np.arange(len(points)))
    np.testing.assert_array_equal(found.toarray(), adjacency_of_triangles(tris, len(points)).toarray())


def test_coarse_sources_on_a_fine_surface_find_their_ring(sphere: tuple[np.ndarray, np.ndarray]) -> None:
    points, tris = sphere
    # The first vertices are those of the coarser sphere.
    coarse, coarse_tris = icosphere(1)
    np.testing.assert_allclose(points[: len(coarse)], coarse)
    found = neighbours_along_surface(edge_graph(points, tris), np.arange(len(coarse))).toarray()
    wanted = adjacency_of_triangles(coarse_tris, len(coarse)).toarray()
    assert (wanted & ~found).sum() == 0
    np.testing.assert_array_equal(found, found.T)


def test_a_hole_does_not_make_far_sources_neighbours(sphere: tuple[np.ndarray, np.ndarray]) -> None:
    points, tris = sphere
    kept = np.flatnonzero(points[:, 2] < 0.3)
    found = neighbours_along_surface(edge_graph(points, tris), kept).tocoo()
    first, second = found.coords
    assert np.linalg.norm(points[kept][first] - points[kept][second], axis=1).max() < 0.45


def test_distances_are_those_on_the_sphere(sphere: tuple[np.ndarray, np.ndarray]) -> None:
    points, tris = sphere
    nodes = np.array([5, 100, -1, 300, 641, 12])
    distances = geodesic_distances(edge_graph(points, tris), nodes, 2.0).toarray()
    on_surface = [0, 1, 3, 4, 5]
    true = np.arccos(np.clip(points[nodes[on_surface]] @ points[nodes[on_surface]].T, -1, 1))
    there = distances[np.ix_(on_surface, on_surface)]
    np.testing.assert_allclose(there, there.T, rtol=1e-12)
    assert not distances[2].any()
    assert not distances[:, 2].any()
    near = (true > 1e-6) & (true < 1.6)
    assert near.sum() >= 8
    ratio = there[near] / true[near]
    assert ratio.min() > 0.98
    assert ratio.max() < 1.2
    assert not there[true > 2.0].any()
    assert there.max() <= 2.0
