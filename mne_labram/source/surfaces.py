"""Scalp, outer and inner skull of the template's head: measured, or made up where nothing ships.

MNE's wheel holds fsaverage's inner skull and its head, both measured by MRI. It holds no outer skull. The one made here
lies in the middle between the two, but 3 to 8 mm from the inner skull: plausible, and invented.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import mne
import numpy as np
import scipy

from mne_labram.signal.contract import ContractError

__all__ = ["HeadSurfaces", "cast_rays", "head_surfaces", "icosphere", "template_file"]

# Thickness of the skull, metres: half of what lies between brain and skin, within these bounds. Adult skulls are 5 to
# 8 mm thick on average and 2 mm at the temples.
_SKULL = (0.003, 0.008)
# Skin is at least this thick, and brain and skin are at least as far apart; metres.
_SKIN = 0.002
_BRAIN_TO_SKIN = 0.006
# Currents in the neck matter little for electrodes on the head: it is cut this far below the lowest point of the inner
# skull, metres. Directions that point down no steeper than this are left as they are.
_NECK = 0.035
_DOWNWARDS = -0.2
_BRAIN_TO_CUT = 0.010
_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class HeadSurfaces:
    """Three closed surfaces around one another, with the same triangles.

    Parameters
    ----------
    centre : ndarray, shape (3,)
        Every vertex lies on a ray from here; metres, in the MRI frame of fsaverage, as all positions.
    directions : ndarray, shape (n_vertices, 3)
        Those rays, of length 1.
    tris : ndarray of int, shape (n_triangles, 3)
        Corners, counter-clockwise seen from outside.
    inner_skull, outer_skull, scalp : ndarray, shape (n_vertices,)
        Distances from the centre.

    Notes
    -----
    Where one distance is smaller than another at all corners, it is so everywhere: along a ray through a triangle, one
    over the distance is a weighted mean of one over those at the corners. So the surfaces do not touch if their
    vertices are in order.
    """

    centre: np.ndarray
    directions: np.ndarray
    tris: np.ndarray
    inner_skull: np.ndarray
    outer_skull: np.ndarray
    scalp: np.ndarray

    def __post_init__(self) -> None:
        if not ((0 < self.inner_skull) & (self.inner_skull < self.outer_skull)).all():
            raise ContractError("The outer skull touches the inner skull; the surfaces must lie around one another.")
        if not (self.outer_skull < self.scalp).all():
            raise ContractError("The scalp touches the outer skull; the surfaces must lie around one another.")

    def positions(self, name: str) -> np.ndarray:
        """Vertices of ``"inner_skull"``, ``"outer_skull"`` or ``"scalp"``, metres, shape (n_vertices, 3)."""
        return self.centre + self.directions * getattr(self, name)[:, None]


def template_file(name: str) -> Path:
    """Path of one of the files on fsaverage in MNE's wheel.

    Parameters
    ----------
    name : str
        For example ``"fsaverage-trans.fif"``.

    Returns
    -------
    path : Path
        Where it is.

    Raises
    ------
    FileNotFoundError
        If this version of MNE does not ship it.
    """
    path = Path(mne.__file__).parent / "data" / "fsaverage" / name
    if not path.is_file():
        raise FileNotFoundError(f"MNE {mne.__version__} does not ship {name}; install mne 1.11 or later.")
    return path


def icosphere(n_subdivisions: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a sphere of triangles that are about equal.

    Parameters
    ----------
    n_subdivisions : int
        How often the 20 triangles of an icosahedron are each cut into four.

    Returns
    -------
    points : ndarray, shape (10 * 4**n_subdivisions + 2, 3)
        Of length 1.
    tris : ndarray of int, shape (20 * 4**n_subdivisions, 3)
        Corners, counter-clockwise seen from outside.
    """
    golden = (1 + np.sqrt(5)) / 2
    points = np.array([(0, a, b * golden) for a in (-1, 1) for b in (-1, 1)])
    points = np.concatenate([np.roll(points, shift, axis=1) for shift in range(3)])
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    tris = scipy.spatial.ConvexHull(points).simplices
    for _ in range(n_subdivisions):
        edges = np.sort(np.concatenate([tris[:, [0, 1]], tris[:, [1, 2]], tris[:, [2, 0]]]), axis=1)
        edges, which = np.unique(edges, axis=0, return_inverse=True)
        middle = points[edges].sum(axis=1)
        new = (len(points) + which.reshape(3, -1)).T
        a, b, c = tris.T
        ab, bc, ca = new.T
        tris = np.concatenate([np.stack(some, axis=1) for some in ((a, ab, ca), (b, bc, ab), (c, ca, bc), new.T)])
        points = np.concatenate([points, middle / np.linalg.norm(middle, axis=1, keepdims=True)])
    corners = points[tris]
    inwards = np.einsum("ij,ij->i", np.cross(corners[:, 0], corners[:, 1]), corners[:, 2]) < 0
    tris[inwards] = tris[inwards][:, ::-1]
    return points, tris


def cast_rays(centre: np.ndarray, directions: np.ndarray, rr: np.ndarray, tris: np.ndarray) -> np.ndarray:
    """Measure how far a surface is from a point in given directions.

    Parameters
    ----------
    centre : ndarray, shape (3,)
        The point.
    directions : ndarray, shape (n_rays, 3)
        Of length 1.
    rr : ndarray, shape (n_vertices, 3)
        Vertices of the surface.
    tris : ndarray of int, shape (n_triangles, 3)
        Its triangles.

    Returns
    -------
    distances : ndarray, shape (n_rays,)
        To the farthest place where the ray meets the surface, in the unit of ``rr``; NaN where it does not.

    Notes
    -----
    The intersection of Möller and Trumbore (1997, J Graphics Tools 2:21-28), for the triangles whose middle is seen
    from the centre in about the direction of the ray.
    """
    corners = rr[tris] - centre
    unit = corners / np.linalg.norm(corners, axis=2, keepdims=True)
    middle = unit.sum(axis=1)
    middle /= np.maximum(np.linalg.norm(middle, axis=1, keepdims=True), 1e-12)
    reach = np.linalg.norm(unit - middle[:, None], axis=2).max(axis=1)
    distances = np.full(len(directions), -np.inf)
    rays = scipy.spatial.cKDTree(directions)
    # Triangles of about one size together: a few large ones shall not make candidates of everything.
    order = np.argsort(reach)
    for some in np.array_split(order, 16):
        if not len(some):
            continue
        candidates = rays.query_ball_point(middle[some], reach[some].max() + _TOLERANCE)
        triangle = np.repeat(some, [len(each) for each in candidates])
        ray = np.array([index for each in candidates for index in each], dtype=np.int64)
        if not len(ray):
            continue
        a, b, c = corners[triangle].transpose(1, 0, 2)
        d = directions[ray]
        p = np.cross(d, c - a)
        determinant = np.einsum("ij,ij->i", b - a, p)
        flat = np.abs(determinant) < 1e-14
        inverse = 1 / np.where(flat, 1.0, determinant)
        u = -np.einsum("ij,ij->i", a, p) * inverse
        q = np.cross(-a, b - a)
        v = np.einsum("ij,ij->i", d, q) * inverse
        t = np.einsum("ij,ij->i", c - a, q) * inverse
        hit = ~flat & (u >= -_TOLERANCE) & (v >= -_TOLERANCE) & (u + v <= 1 + _TOLERANCE) & (t > 0)
        np.maximum.at(distances, ray[hit], t[hit])
    return np.where(np.isfinite(distances), distances, np.nan)


def head_surfaces(n_subdivisions: int = 3) -> HeadSurfaces:
    """Return the three surfaces of the template's head.

    Parameters
    ----------
    n_subdivisions : int
        Of the icosahedron: 3 for 642 vertices per surface, 4 for 2562.

    Returns
    -------
    surfaces : HeadSurfaces
        Inner skull and scalp are those of fsaverage in MNE's wheel, resampled along rays from the middle of the inner
        skull; the neck is cut off 35 mm below the brain. The outer skull is made up (see the top of this module).

    Raises
    ------
    FileNotFoundError
        If MNE does not ship the surfaces.
    """
    (inner,) = mne.read_bem_surfaces(template_file("fsaverage-inner_skull-bem.fif"), verbose="ERROR")
    (head,) = mne.read_bem_surfaces(template_file("fsaverage-head.fif"), verbose="ERROR")
    directions, tris = icosphere(n_subdivisions)
    centre = inner["rr"].mean(axis=0)
    inner_skull = cast_rays(centre, directions, inner["rr"], inner["tris"])
    scalp = cast_rays(centre, directions, head["rr"], head["tris"])
    down = directions[:, 2] < _DOWNWARDS
    cut = (inner["rr"][:, 2].min() - _NECK - centre[2]) / directions[down, 2]
    scalp[down] = np.minimum(scalp[down], np.maximum(cut, inner_skull[down] + _BRAIN_TO_CUT))
    scalp = np.maximum(scalp, inner_skull + _BRAIN_TO_SKIN)
    outer_skull = inner_skull + np.clip((scalp - inner_skull) / 2, *_SKULL)
    outer_skull = np.minimum(outer_skull, scalp - _SKIN)
    return HeadSurfaces(centre, directions, tris, inner_skull, outer_skull, scalp)
