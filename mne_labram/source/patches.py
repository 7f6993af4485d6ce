"""Active patches of cortex: regions that grow along the surface from a centre, several at a time and apart.

Region growing and the Gaussian fall-off follow DeepSIF (Sun, Sohrabpour, Worrell & He 2022, PNAS 119:e2201128119).
There a patch is a centre, its ring of neighbours and a random part of the next rings; here it is what a front reaches
that is slower in some places than in others, so that it has the same meaning on a surface of any resolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components, dijkstra

if TYPE_CHECKING:
    from mne_labram.source.head import SourceModel

__all__ = ["Patch", "PatchGrower", "grow_patch"]

#: How far a patch reaches, in radii of its active part: there a Gaussian has fallen to 2 ** -(1.5 ** 2) = 0.21.
_REACH = 1.5
#: Distances along the surface are known up to here, in metres: the default of ``SourceModel.distances``.
_FARTHEST = 0.08
#: The largest extent whose reach is known, in millimetres.
LARGEST_EXTENT_MM = 1e3 * 2.0 * _FARTHEST / _REACH


class Patch(NamedTuple):
    """Sources that are active together.

    Parameters
    ----------
    indices : ndarray of int, shape (n_members,)
        Which sources, ascending.
    weights : ndarray, shape (n_members,)
        Their amplitudes, 1 at the largest; from 0.5 on a source counts as active.
    """

    indices: np.ndarray
    weights: np.ndarray


class PatchGrower:
    """Grow patches on a source space.

    Parameters
    ----------
    model : SourceModel
        Positions of the sources, in metres, and which are neighbours on the surface.
    irregularity : float
        Logarithmic standard deviation of how slow the growing front is at a source: 0 grows discs, 0.5 a shape of which
        one can tell that it is no disc.

    Raises
    ------
    ValueError
        If ``irregularity`` is negative or not finite.

    Notes
    -----
    A source without neighbours (a deep point) is a patch of its own.
    """

    def __init__(self, model: SourceModel, *, irregularity: float = 0.4) -> None:
        if not (math.isfinite(irregularity) and irregularity >= 0.0):
            raise ValueError(f"irregularity must be 0 or more, got {irregularity}.")
        self.irregularity = irregularity
        self.positions = np.asarray(model.positions, dtype=float)
        self._distances = model.distances(_FARTHEST)
        graph = sparse.csr_matrix(model.neighbours)
        graph.sort_indices()
        rows = np.repeat(np.arange(graph.shape[0]), np.diff(graph.indptr))
        chords = np.linalg.norm(self.positions[rows] - self.positions[graph.indices], axis=1)
        self._graph = sparse.csr_matrix((chords, graph.indices, graph.indptr), shape=graph.shape)
        self._rows = rows

    def grow(self, centre: int, extent_mm: float, rng: np.random.Generator) -> Patch:
        """Grow one patch; see :func:`grow_patch`."""
        n_sources = len(self.positions)
        if not 0 <= centre < n_sources:
            raise ValueError(f"centre must be one of the {n_sources} sources, 0 to {n_sources - 1}, got {centre}.")
        if not 0.0 <= extent_mm <= LARGEST_EXTENT_MM:
            raise ValueError(f"extent_mm must be 0 to {LARGEST_EXTENT_MM:.0f} millimetres, got {extent_mm}.")
        radius = 0.5e-3 * extent_mm
        graph = self._graph
        distance = np.full(n_sources, np.inf)
        row = slice(*self._distances.indptr[centre : centre + 2])
        distance[self._distances.indices[row]] = self._distances.data[row]
        distance[centre] = 0.0
        n_active = int((distance <= radius).sum())
        if self.irregularity > 0.0 and n_active > 1:
            slowness = np.exp(self.irregularity * rng.standard_normal(n_sources))
            scale = 0.5 * (slowness[self._rows] + slowness[graph.indices])
            slowed = sparse.csr_matrix((graph.data * scale, graph.indices, graph.indptr), shape=graph.shape)
            # Far enough, as a rule, to meet as many sources as the disc has, at one and a half times their radius.
            front = dijkstra(slowed, indices=centre, limit=3.0 * _REACH * radius)
            order = np.sort(front)
            # Neighbours may not lead there, where sources were dropped: then it is a disc.
            if math.isfinite(order[n_active - 1]):
                # As many active sources as the disc has: the extent stays what was asked for.
                distance, radius = front, float(order[n_active - 1])
                if n_active < n_sources and math.isfinite(order[n_active]):
                    radius = 0.5 * (radius + float(order[n_active]))
        weights = np.zeros(n_sources)
        near = distance <= _REACH * radius if radius > 0.0 else distance == 0.0
        weights[near] = np.exp2(-((distance[near] / radius) ** 2)) if radius > 0.0 else 1.0
        weights[centre] = 1.0
        for hole in self._holes(weights >= 0.5):
            # What the front went round is as active as the weakest source around it.
            around = np.unique(graph[hole].indices)
            around = around[weights[around] >= 0.5]
            weights[hole] = np.maximum(weights[hole], weights[around].min())
        indices = np.flatnonzero(weights)
        return Patch(indices, weights[indices])

    def _holes(self, active: np.ndarray) -> list[np.ndarray]:
        """Find the groups of inactive sources that are enclosed by active ones."""
        if active.sum() < 3:
            return []
        graph = self._graph
        members = np.flatnonzero(active)
        # Only groups that touch the patch can be enclosed by it; the surface outside is the largest of them.
        outside = np.flatnonzero(~active)
        n_groups, label = connected_components(graph[outside][:, outside], directed=False)
        if n_groups == 1:
            return []
        touched = np.zeros(len(active), dtype=bool)
        touched[graph[members].indices] = True
        size = np.bincount(label)
        candidates = [g for g in np.unique(label[touched[outside]]) if size[g] < len(members)]
        return [outside[label == g] for g in candidates]

    def apart(
        self,
        extents_mm: Sequence[float],
        rng: np.random.Generator,
        *,
        gap_mm: float = 10.0,
        centres: Sequence[int] | None = None,
    ) -> list[Patch]:
        """Grow several patches that are apart from each other.

        Parameters
        ----------
        extents_mm : sequence of float
            Diameter of the active part of each.
        rng : numpy.random.Generator
            Where everything is drawn from.
        gap_mm : float
            What lies between two discs of these diameters at least, in a straight line: electrodes see through sulci.
        centres : sequence of int | None
            Where they are; ``None`` draws them, all sources alike, among those that leave the gap. Where none is left,
            the patch is halved until there is one, and if a point would not fit either, the place farthest away is
            taken.

        Returns
        -------
        patches : list of Patch
            In the order of ``extents_mm``.

        Raises
        ------
        ValueError
            If an extent is negative, or a centre is no source.
        """
        extents = [float(extent) for extent in extents_mm]
        if centres is None:
            centres, extents = self._places(extents, rng, gap_mm)
        return [self.grow(centre, extent, rng) for centre, extent in zip(centres, extents, strict=True)]

    def _places(
        self, extents: Sequence[float], rng: np.random.Generator, gap_mm: float
    ) -> tuple[list[int], list[float]]:
        centres: list[int] = []
        taken: list[float] = []
        free = np.full(len(self.positions), np.inf)  # metres to the nearest disc
        for extent in extents:
            while centres:
                allowed = np.flatnonzero(free >= 1e-3 * (gap_mm + 0.5 * extent))
                if len(allowed) or extent < 1.0:
                    break
                extent *= 0.5
            else:
                allowed = np.arange(len(self.positions))
            place = int(rng.choice(allowed)) if len(allowed) else int(free.argmax())
            centres.append(place)
            taken.append(extent)
            edge = np.linalg.norm(self.positions - self.positions[place], axis=1) - 0.5e-3 * extent
            free = np.minimum(free, edge)
        return centres, taken


def grow_patch(
    model: SourceModel,
    centre: int,
    extent_mm: float,
    rng: np.random.Generator,
    *,
    irregularity: float = 0.4,
) -> tuple[np.ndarray, np.ndarray]:
    """Grow a patch along the cortex.

    Parameters
    ----------
    model : SourceModel
        Positions of the sources and which are neighbours on the surface.
    centre : int
        The source that it grows from.
    extent_mm : float
        Diameter, along the surface, of the part that is active: where the amplitude is half of the largest or more. An
        irregular patch has as many active sources as a disc of this diameter has (holes that were filled not counted).
    rng : numpy.random.Generator
        Where its shape is drawn from.
    irregularity : float
        See :class:`PatchGrower`; 0 grows a disc.

    Returns
    -------
    indices : ndarray of int, shape (n_members,)
        The sources, ascending. They are connected along the surface, and those that are active have no holes.
    weights : ndarray, shape (n_members,)
        Their amplitudes: a Gaussian of the distance from the centre, where it is 1, cut off at 1.5 radii (0.21).

    Raises
    ------
    ValueError
        If there is no such source, or a number makes no sense.
    """
    patch = PatchGrower(model, irregularity=irregularity).grow(centre, extent_mm, rng)
    return patch.indices, patch.weights
