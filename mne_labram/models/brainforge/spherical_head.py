"""A head that needs nothing but the electrodes: a sphere, with radial sources under its surface."""

from __future__ import annotations

import math

import numpy as np
import scipy

from mne_labram.signal.head_field import dipole_potentials

__all__ = ["spherical_head"]

# Centre of the sphere through the 10-20 electrodes of MNE's template, its radius in metres, where the sources lie as a
# share of it, and the conductivity of the brain in S/m (0.33: Geddes & Baker 1967, Med Biol Eng 5:271-293).
_CENTRE, _RADIUS, _ECCENTRICITY, _CONDUCTIVITY = np.array([0.0, 0.016, 0.045]), 0.09, 0.85, 0.33
_N_NEIGHBOURS = 6


def spherical_head(
    electrodes: np.ndarray, n_sources: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, scipy.sparse.csr_array, np.ndarray]:
    """Make a head for a model that has not been bound to one.

    Parameters
    ----------
    electrodes : ndarray, shape (n_chans, 3)
        Metres, head frame.
    n_sources : int
        How many sources, along a golden spiral over the sphere.

    Returns
    -------
    leadfield : ndarray, shape (n_chans, n_sources)
        µV per nAm.
    positions, normals : ndarray, shape (n_sources, 3)
        Metres; outwards.
    neighbours : scipy.sparse.csr_array, shape (n_sources, n_sources)
        The six nearest, either way.
    electrodes : ndarray, shape (n_chans, 3)
        As given.
    """
    index = np.arange(n_sources) + 0.5
    height = 1 - 1.6 * index / n_sources
    around = math.pi * (1 + math.sqrt(5)) * index
    radius = np.sqrt(1 - height**2)
    normals = np.column_stack([radius * np.cos(around), radius * np.sin(around), height])
    directions = electrodes - _CENTRE
    directions = directions / np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-9)
    # nAm to Am, V to µV.
    unit = 1e-9 / (4 * math.pi * _CONDUCTIVITY * _RADIUS**2) * 1e6
    leadfield = unit * dipole_potentials(directions, normals, normals, _ECCENTRICITY)
    count = min(_N_NEIGHBOURS, n_sources - 1)
    nearest = scipy.spatial.cKDTree(normals).query(normals, count + 1)[1][:, 1:] if count else np.zeros((n_sources, 0))
    rows = np.repeat(np.arange(n_sources), count)
    matrix = scipy.sparse.coo_array((np.ones(len(rows)), (rows, nearest.ravel().astype(int))), shape=(n_sources,) * 2)
    matrix = matrix.tocsr()
    neighbours = ((matrix + matrix.T) > 0).tocsr()
    return leadfield, _CENTRE + _ECCENTRICITY * _RADIUS * normals, normals, neighbours, electrodes
