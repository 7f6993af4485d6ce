"""What is never known exactly: where electrodes are, and how well tissues conduct."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mne_labram.signal.contract import ContractError

if TYPE_CHECKING:
    from mne_labram.source.head import SourceModel

__all__ = ["ElectrodeJitter", "LeadfieldSpread"]


class ElectrodeJitter:
    """Topographies as electrodes would see them that are some millimetres from where they should be.

    Parameters
    ----------
    electrodes : ndarray, shape (n_channels, 3)
        Positions in metres.
    jitter_mm : float
        Standard deviation of the displacement, along each of two directions in the scalp. Half of the variance is a
        shift of the whole cap, half is each electrode's own.

    Raises
    ------
    ValueError
        If ``jitter_mm`` is negative or not finite.

    Notes
    -----
    The potential between electrodes is interpolated by a polyharmonic spline (r³, with a linear trend; Duchon 1977,
    *Splines minimizing rotation-invariant semi-norms in Sobolev spaces*), and a topography is displaced by its gradient
    along the scalp times the displacement. No forward is computed, so this is an approximation: it knows nothing of
    what happens between electrodes, and with few of them it displaces too little (measured in
    ``doc/source_imaging.md``).
    """

    def __init__(self, electrodes: np.ndarray, jitter_mm: float) -> None:
        if not (math.isfinite(jitter_mm) and jitter_mm >= 0.0):
            raise ValueError(f"jitter_mm must be 0 or more, got {jitter_mm}.")
        self.jitter_mm = jitter_mm
        points = np.asarray(electrodes, dtype=float)
        n_channels = len(points)
        # In decimetres: a system of numbers of about 1.
        scaled = 10.0 * (points - points.mean(axis=0))
        offset = scaled[:, np.newaxis] - scaled
        distance = np.linalg.norm(offset, axis=2)
        trend = np.column_stack([np.ones(n_channels), scaled])
        system = np.block([[distance**3, trend], [trend.T, np.zeros((4, 4))]])
        # A pseudo-inverse: electrodes on one plane or at the same place have no unique trend.
        weights = np.linalg.pinv(system, rcond=1e-10, hermitian=True)[:, :n_channels]
        slopes = np.concatenate(
            [3.0 * distance[:, :, np.newaxis] * offset, np.broadcast_to(np.eye(4, 3, -1), (n_channels, 4, 3))], axis=1
        )
        # µV per metre in x, y, z at every electrode, out of all electrodes: (n_channels, 3, n_channels).
        self.gradient = 10.0 * np.einsum("ikd,kj->idj", slopes, weights)
        self.normals = _outwards(points)

    def displacements(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw where electrodes are instead: metres along the scalp, shape (n, n_channels, 3)."""
        n_channels = len(self.normals)
        shift = rng.standard_normal((n, 1, 3)) + rng.standard_normal((n, n_channels, 3))
        shift -= (shift * self.normals).sum(axis=2, keepdims=True) * self.normals
        return shift * (1e-3 * self.jitter_mm / math.sqrt(2.0))

    def apply(self, topographies: np.ndarray, displacements: np.ndarray) -> np.ndarray:
        """Displace electrodes.

        Parameters
        ----------
        topographies : ndarray, shape (n, n_channels, n_topographies)
            Potentials, in any reference.
        displacements : ndarray, shape (n, n_channels, 3)
            What :meth:`displacements` drew.

        Returns
        -------
        topographies : ndarray, shape (n, n_channels, n_topographies)
            The same sources, seen from beside.
        """
        n, n_channels, n_topographies = topographies.shape
        flat = topographies.transpose(1, 0, 2).reshape(n_channels, -1)
        slope = (self.gradient.reshape(-1, n_channels) @ flat).reshape(n_channels, 3, n, n_topographies)
        return topographies + np.einsum("cdnk,ncd->nck", slope, displacements)


def _outwards(points: np.ndarray) -> np.ndarray:
    """Directions out of the head: away from the middle of the sphere that fits the electrodes best."""
    system = np.column_stack([2.0 * points, np.ones(len(points))])
    centre = np.linalg.lstsq(system, (points**2).sum(axis=1), rcond=None)[0][:3]
    # Electrodes on one side of the head alone can put it anywhere; a head's middle is within it.
    if np.linalg.norm(centre - points.mean(axis=0)) > 0.1:
        centre = points.mean(axis=0) - np.array([0.0, 0.0, 0.05])
    away = points - centre
    return away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-12)


class LeadfieldSpread:
    """Topographies through a head that conducts a little differently: mixtures of leadfields that were computed.

    Parameters
    ----------
    model : SourceModel
        The head that is assumed.
    others : sequence of SourceModel
        The same sources and channels, through heads of other conductivities, other meshes or other electrodes.
    spread : float
        How far windows go from the assumed head to the others, between 0 (not at all) and 1 (up to them).

    Raises
    ------
    ContractError
        If the others have other channels or another number of sources.
    ValueError
        If ``spread`` is not between 0 and 1.

    Notes
    -----
    Every window has one leadfield, (1 - u) G + u Σ aₖ Gₖ, with u uniform up to ``spread`` and a uniform on the
    simplex. A mixture of solutions is not the solution for mixed conductivities; for skulls of half and twice the
    conductivity it is near it, see ``doc/source_imaging.md``. Amplitudes differ too, as they do between heads.
    """

    def __init__(self, model: SourceModel, others: Sequence[SourceModel], spread: float) -> None:
        if not 0.0 <= spread <= 1.0:
            raise ValueError(f"conductivity_spread must be between 0 and 1, got {spread}.")
        for other in others:
            if list(other.ch_names) != list(model.ch_names) or other.leadfield.shape != model.leadfield.shape:
                raise ContractError(
                    f"The other head has {len(other.ch_names)} channels and {other.leadfield.shape[1]} sources, the "
                    f"head to simulate with has {len(model.ch_names)} and {model.leadfield.shape[1]}; make all forwards"
                    " with the same info and source space, and pick the same channels."
                )
        self.spread = spread if others else 0.0
        every = [model, *others] if self.spread > 0.0 else [model]
        # Sources first: a patch takes some rows.
        self._leadfields = np.stack([np.asarray(each.leadfield, dtype=float).T for each in every])

    def mixtures(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw the share of each leadfield, shape (n, n_leadfields)."""
        n_others = len(self._leadfields) - 1
        if not n_others:
            return np.ones((n, 1))
        u = rng.uniform(0.0, self.spread, (n, 1))
        return np.column_stack([1.0 - u, u * rng.dirichlet(np.ones(n_others), n)])

    def topography(self, indices: np.ndarray, weights: np.ndarray, mixture: np.ndarray) -> np.ndarray:
        """Potential of a patch per nAm of its peak, µV, shape (n_channels,)."""
        if len(mixture) == 1:
            return weights @ self._leadfields[0, indices]
        return mixture @ (weights @ self._leadfields[:, indices])
