"""Which regions are connected, how strongly, and how far apart they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Connectome", "synthetic_connectome"]

#: How fast the number of connections falls with distance, per mm: 0.18 in man (Deco et al. 2021, Current Biology 31,
#: 4436-4448), 0.19 in the macaque (Ercsey-Ravasz et al. 2013, Neuron 80, 184-197).
DECAY = 0.18
#: Sum of the weights that a region receives. Ours: see `synthetic_connectome`.
IN_STRENGTH = 18.0


@dataclass(frozen=True)
class Connectome:
    """Regions and what connects them.

    Parameters
    ----------
    weights : array-like, shape (n_regions, n_regions)
        ``weights[i, j]``: how strongly region j acts on region i; 0: not at all. Need not be symmetric.
    tract_lengths : array-like, shape (n_regions, n_regions)
        Lengths of the fibres in mm.
    speed : float
        Of conduction, in mm/ms (m/s); ``inf``: no delays.
    labels : sequence of str | None
        Names of the regions.

    Raises
    ------
    ValueError
        If the matrices are not square and of one size, or hold anything but finite numbers from 0 up, or the speed is
        not above 0, or there are more or fewer labels than regions.
    """

    weights: np.ndarray
    tract_lengths: np.ndarray
    speed: float = 3.0
    labels: Sequence[str] | None = None

    def __post_init__(self) -> None:
        matrices = {}
        for name in ("weights", "tract_lengths"):
            try:
                matrix = np.array(getattr(self, name), dtype=np.float64)
            except (TypeError, ValueError):
                raise ValueError(f"{name} must be a matrix of numbers; give an array (n_regions, n_regions).") from None
            if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
                raise ValueError(f"{name} must be square, a row and a column per region, not {matrix.shape}.")
            if not np.isfinite(matrix).all() or matrix.min() < 0:
                raise ValueError(f"{name} must hold finite numbers from 0 up; set what is unknown to 0.")
            matrix.flags.writeable = False
            matrices[name] = matrix
            object.__setattr__(self, name, matrix)
        if matrices["weights"].shape != matrices["tract_lengths"].shape:
            raise ValueError(
                f"weights are of {len(self.weights)} regions and tract_lengths of {len(self.tract_lengths)}; give both "
                "for the same regions."
            )
        if not self.speed > 0:
            raise ValueError(f"speed must be above 0 mm/ms, not {self.speed}.")
        if self.labels is not None:
            labels = tuple(map(str, self.labels))
            if len(labels) != len(self.weights):
                raise ValueError(f"There are {len(labels)} labels and {len(self.weights)} regions; give one to each.")
            object.__setattr__(self, "labels", labels)

    def __repr__(self) -> str:
        return f"<Connectome | {self.n_regions} regions, {self.n_edges} connections, {self.speed:g} mm/ms>"

    @property
    def n_regions(self) -> int:
        """Number of regions."""
        return len(self.weights)

    @property
    def n_edges(self) -> int:
        """Number of connections that are not 0."""
        return int(np.count_nonzero(self.weights))

    def edges(self, dt: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return the connections, row by row.

        Parameters
        ----------
        dt : float
            Time step in ms.

        Returns
        -------
        starts : ndarray of int32, shape (n_regions + 1,)
            Where the connections to each region begin, and end.
        sources : ndarray of int32, shape (n_edges,)
            Where they come from.
        delays : ndarray of int32, shape (n_edges,)
            How many steps they take: length over speed, to the nearest whole step.
        weights : ndarray of float64, shape (n_edges,)
            How strong they are.

        Raises
        ------
        ValueError
            If a delay is longer than a minute of steps.
        """
        targets, sources = np.nonzero(self.weights)
        starts = np.searchsorted(targets, np.arange(self.n_regions + 1))
        delays = np.rint(self.tract_lengths[targets, sources] / self.speed / dt)
        if delays.size and delays.max() * dt > 60e3:
            raise ValueError("Fibres take longer than a minute; give tract_lengths in mm and speed in mm/ms.")
        weights = self.weights[targets, sources]
        return starts.astype(np.int32), sources.astype(np.int32), delays.astype(np.int32), weights


def synthetic_connectome(
    positions: Any,
    *,
    n_neighbours: int | None = None,
    decay: float = DECAY,
    dispersion: float = 1.0,
    in_strength: float = IN_STRENGTH,
    tortuosity: float = 1.3,
    speed: float = 3.0,
    symmetric: bool = True,
    seed: int = 0,
) -> Connectome:
    """Make a connectome up, from nothing but where regions are.

    Parameters
    ----------
    positions : array-like, shape (n_regions, 3) | int
        Centres of the regions in metres; or how many to spread over two half spheres of 70 mm.
    n_neighbours : int | None
        How many connections every region receives at least; the strongest are kept. ``None``: 20, as many as there are
        on average in connectomes of 76 to 998 regions (20 to 36).
    decay : float
        How fast strength falls with distance, per mm.
    dispersion : float
        Standard deviation of the logarithm (base e) of strengths about that rule.
    in_strength : float
        Sum of the weights that every region receives (with few neighbours, as nearly as symmetry allows).
    tortuosity : float
        Length of a fibre over the distance of its ends: an assumption, fibres are not straight.
    speed : float
        Of conduction, in mm/ms.
    symmetric : bool
        Whether connections are the same in both directions, as tractography has them.
    seed : int
        Of the dispersion.

    Returns
    -------
    connectome : Connectome
        Weights and lengths; a region is not connected with itself.

    Raises
    ------
    ValueError
        If the positions are not finite numbers of that shape, two are at one place, or a number is out of its range.

    Notes
    -----
    Strength falls exponentially with distance, and is distributed log-normally about that rule, as tracers show in the
    macaque (Ercsey-Ravasz et al. 2013, Neuron 80, 184-197); the constant for man is that of Deco et al. (2021, Current
    Biology 31, 4436-4448). What is left out: connections of the hemispheres across the corpus callosum and the rare
    long strong ones. Nobody's data are in it.

    Symmetric weights get their equal sums by a factor for each region (Sinkhorn & Knopp 1967, Pacific Journal of
    Mathematics 21, 343-348). Were the sums unequal, regions that receive much would spike by themselves before others
    do when excited. The default of 18 is ours: with DeepSIF's first setting an excited region has as many spikes per
    second as it has in DeepSIF's connectome of 998 regions, 0.8, and other regions hardly any
    (``doc/source_imaging.md``).
    """
    rng = np.random.default_rng(seed)
    places = _places(positions)
    n_regions = len(places)
    if not (decay >= 0 and dispersion >= 0 and in_strength >= 0 and tortuosity >= 1):
        raise ValueError("decay, dispersion and in_strength must be from 0 up, and tortuosity from 1 up.")
    if n_neighbours is not None and not n_neighbours >= 1:
        raise ValueError(f"n_neighbours must be at least 1, not {n_neighbours}.")
    distances = 1e3 * np.linalg.norm(places[:, None] - places[None], axis=-1)
    away = ~np.eye(n_regions, dtype=bool)
    if n_regions > 1 and distances[away].min() == 0:
        raise ValueError("Two regions are at the same place; give each its own.")
    # Logarithms first: e to the minus 30 is small, not 0.
    strengths = -decay * distances + dispersion * rng.standard_normal(distances.shape)
    if symmetric:
        strengths = np.triu(strengths, 1) + np.triu(strengths, 1).T
    strengths[~away] = -np.inf
    kept = np.zeros_like(away)
    n_kept = min(20 if n_neighbours is None else n_neighbours, n_regions - 1)
    strongest = np.argsort(-strengths, axis=1, kind="stable")[:, :n_kept]
    np.put_along_axis(kept, strongest, True, axis=1)
    if symmetric:
        kept |= kept.T
    weights = in_strength * _balanced(strengths, kept, symmetric)
    return Connectome(weights, tortuosity * distances, speed)


def _balanced(strengths: np.ndarray, kept: np.ndarray, symmetric: bool) -> np.ndarray:
    """Return weights whose rows add up to 1, from logarithms of what they are in proportion to."""
    # Whatever the distances, the strongest of a row is 1: e to the minus 1000 would be 0.
    highest = np.where(kept, strengths, -np.inf).max(axis=1, keepdims=True, initial=-1e300)
    if not symmetric:
        weights = np.where(kept, np.exp(strengths - highest), 0.0)
        return weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-300)
    weights = np.where(kept, np.exp(strengths - (highest + highest.T) / 2), 0.0)
    factors = np.ones(len(weights))
    for _ in range(500):
        received = factors * (weights @ factors)
        if np.abs(received - 1).max() < 1e-9:
            break
        factors /= np.sqrt(np.where(received > 0, received, 1.0))
    balanced = weights * factors[:, None] * factors
    # Where no factors do (a region between two that have no other neighbour): the mean is right, at least.
    return balanced / max(balanced.sum() / len(balanced), 1e-300)


def _places(positions: Any) -> np.ndarray:
    if isinstance(positions, int | np.integer) and not isinstance(positions, bool):
        if positions < 1:
            raise ValueError(f"There must be at least one region, not {positions}.")
        # Evenly over a sphere: equal steps in height, and golden angles about the axis (a Fibonacci lattice).
        heights = 1 - (2 * np.arange(positions) + 1) / positions
        angles = np.pi * (3 - np.sqrt(5)) * np.arange(positions)
        radii = np.sqrt(1 - heights**2)
        return 0.07 * np.stack([heights, radii * np.cos(angles), radii * np.sin(angles)], axis=1)
    try:
        places = np.asarray(positions, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError("positions must be numbers (n_regions, 3) in metres, or how many regions.") from None
    if places.ndim != 2 or places.shape[1] != 3 or not len(places) or not np.isfinite(places).all():
        raise ValueError(f"positions must be finite numbers (n_regions, 3) in metres, not of shape {places.shape}.")
    if np.ptp(places, axis=0).max() > 1:
        raise ValueError("positions lie more than a metre apart; give them in metres, not in millimetres.")
    return places
