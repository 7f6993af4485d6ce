"""Who is next to whom on a triangulated surface, and how far away along it."""

from __future__ import annotations

import numpy as np
import scipy

__all__ = [
    "adjacency_of_triangles",
    "edge_graph",
    "geodesic_distances",
    "neighbours_along_surface",
    "vertex_normals",
]

# Sources whose cells touch are neighbours unless they are this many times as far apart as neighbours usually are:
# around a hole, or where a surface is covered in part, cells reach far.
_FARTHEST_NEIGHBOUR = 2.5
# Rows of distances that are held in memory at once, in numbers.
_HELD = 4_000_000


def _edges(tris: np.ndarray) -> np.ndarray:
    """Every edge of the triangles once, shape (n_edges, 2), the smaller index first."""
    pairs = np.concatenate([tris[:, [0, 1]], tris[:, [1, 2]], tris[:, [2, 0]]]).astype(np.int64)
    return np.unique(np.sort(pairs, axis=1), axis=0)


def adjacency_of_triangles(tris: np.ndarray, n_nodes: int) -> scipy.sparse.csr_array:
    """Return which nodes share an edge of a triangle.

    Parameters
    ----------
    tris : ndarray of int, shape (n_triangles, 3)
        Corners of the triangles.
    n_nodes : int
        How many nodes there are.

    Returns
    -------
    adjacency : scipy.sparse.csr_array of bool, shape (n_nodes, n_nodes)
        Symmetric, with an empty diagonal.
    """
    first, second = _edges(np.asarray(tris).reshape(-1, 3)).T
    apart = first != second
    return _symmetric(first[apart], second[apart], n_nodes)


def _symmetric(first: np.ndarray, second: np.ndarray, n_nodes: int) -> scipy.sparse.csr_array:
    rows, columns = np.concatenate([first, second]), np.concatenate([second, first])
    matrix = scipy.sparse.csr_array((np.ones(len(rows), bool), (rows, columns)), shape=(n_nodes, n_nodes))
    matrix.sum_duplicates()
    return matrix


def edge_graph(rr: np.ndarray, tris: np.ndarray) -> scipy.sparse.csr_array:
    """Return the lengths of the edges of a surface.

    Parameters
    ----------
    rr : ndarray, shape (n_nodes, 3)
        Positions.
    tris : ndarray of int, shape (n_triangles, 3)
        Corners of the triangles.

    Returns
    -------
    graph : scipy.sparse.csr_array, shape (n_nodes, n_nodes)
        Symmetric; in the unit of ``rr``.
    """
    first, second = _edges(np.asarray(tris)).T
    # A length of zero would be no edge at all.
    length = np.maximum(np.linalg.norm(rr[first] - rr[second], axis=1), 1e-9)
    rows, columns = np.concatenate([first, second]), np.concatenate([second, first])
    return scipy.sparse.csr_array((np.tile(length, 2), (rows, columns)), shape=(len(rr), len(rr)))


def vertex_normals(rr: np.ndarray, tris: np.ndarray) -> np.ndarray:
    """Return the directions in which a surface faces at its nodes.

    Parameters
    ----------
    rr : ndarray, shape (n_nodes, 3)
        Positions.
    tris : ndarray of int, shape (n_triangles, 3)
        Corners, counter-clockwise seen from outside; every node is one of some triangle.

    Returns
    -------
    normals : ndarray, shape (n_nodes, 3)
        Outwards, of length 1: the mean of the normals of the triangles around, each weighted by its area.
    """
    tris = np.asarray(tris)
    a, b, c = rr[tris].transpose(1, 0, 2)
    # Twice the area times the normal.
    facing = np.cross(b - a, c - a)
    sums = np.zeros_like(rr)
    for corner in tris.T:
        np.add.at(sums, corner, facing)
    return sums / np.linalg.norm(sums, axis=1, keepdims=True)


def neighbours_along_surface(graph: scipy.sparse.csr_array, nodes: np.ndarray) -> scipy.sparse.csr_array:
    """Return which of some nodes lie next to each other on a surface, whatever lies between them.

    Parameters
    ----------
    graph : scipy.sparse.csr_array, shape (n_nodes, n_nodes)
        Lengths of edges, see :func:`edge_graph`.
    nodes : ndarray of int, shape (n_sources,)
        The nodes that are sources.

    Returns
    -------
    neighbours : scipy.sparse.csr_array of bool, shape (n_sources, n_sources)
        Symmetric, with an empty diagonal.

    Notes
    -----
    Every node of the surface belongs to its nearest source, and sources whose cells share an edge are neighbours (the
    dual of the Voronoi diagram along the surface). With all nodes as sources these are the edges of the surface.
    """
    nodes = np.asarray(nodes)
    distance, _, owner = scipy.sparse.csgraph.dijkstra(graph, indices=nodes, min_only=True, return_predecessors=True)
    edges = graph.tocoo()
    rows, columns = edges.coords
    crossing = (owner[rows] >= 0) & (owner[columns] >= 0) & (owner[rows] != owner[columns])
    rows, columns, length = rows[crossing], columns[crossing], edges.data[crossing]
    apart = distance[rows] + length + distance[columns]
    index = np.full(graph.shape[0], -1)
    index[nodes] = np.arange(len(nodes))
    first, second = index[owner[rows]], index[owner[columns]]
    nearest = np.full(len(nodes), np.inf)
    np.minimum.at(nearest, first, apart)
    if not np.isfinite(nearest).any():
        return scipy.sparse.csr_array((len(nodes), len(nodes)), dtype=bool)
    # An edge of the surface itself makes neighbours however long it is.
    near = (apart <= _FARTHEST_NEIGHBOUR * np.median(nearest[np.isfinite(nearest)])) | (apart <= length)
    return _symmetric(first[near], second[near], len(nodes))


def geodesic_distances(graph: scipy.sparse.csr_array, nodes: np.ndarray, limit: float) -> scipy.sparse.csr_array:
    """Measure how far some nodes are from each other along the edges of a surface.

    Parameters
    ----------
    graph : scipy.sparse.csr_array, shape (n_nodes, n_nodes)
        Lengths of edges, see :func:`edge_graph`.
    nodes : ndarray of int, shape (n_sources,)
        The nodes that are sources; -1 for a source that is on no surface.
    limit : float
        Leave out what is farther, in the unit of the graph.

    Returns
    -------
    distances : scipy.sparse.csr_array, shape (n_sources, n_sources)
        Symmetric. What is not stored is farther than the limit, or the source itself: the diagonal is empty.

    Notes
    -----
    Dijkstra's shortest path over the edges of the full surface, as ``mne.add_source_space_distances`` has it; such
    paths zigzag, and are a few percent longer than the true geodesics.
    """
    nodes = np.asarray(nodes)
    on_surface = np.flatnonzero(nodes >= 0)
    rows, columns, lengths = [], [], []
    at_once = max(1, _HELD // max(graph.shape[0], 1))
    for start in range(0, len(on_surface), at_once):
        some = on_surface[start : start + at_once]
        distance = scipy.sparse.csgraph.dijkstra(graph, indices=nodes[some], limit=limit)[:, nodes[on_surface]]
        row, column = np.nonzero(np.isfinite(distance) & (distance > 0))
        rows.append(some[row])
        columns.append(on_surface[column])
        lengths.append(distance[row, column])
    shape = (len(nodes), len(nodes))
    if not rows:
        return scipy.sparse.csr_array(shape)
    coordinates = (np.concatenate(rows), np.concatenate(columns))
    return scipy.sparse.csr_array((np.concatenate(lengths), coordinates), shape=shape)
