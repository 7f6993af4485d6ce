"""Bring the electrodes of one head, or of one cap's drawing, onto the template's head."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy

from mne_labram.signal.contract import ContractError
from mne_labram.signal.template import canonical_electrode, montage_in_head_frame, template_positions

__all__ = ["align_to_template", "fit_sphere"]

# A manufacturer's drawing of a cap lies on an exact sphere (relative spread of the radii below 1e-4 in all of MNE's
# BioSemi, EasyCap and EGI_256 montages), a measured head does not (0.056 to 0.085 in the others).
_SPHERE_TOLERANCE = 0.005
_MIN_SPHERE_POINTS = 8
# A drawing whose centre and radius are this near to where the template has them was aligned before, metres.
_ALIGNED = 0.002
# What one head may differ from another by, as standard deviations: the priors of the fit below. Ours: the spread
# of size of adult heads, of the fiducials' placement, and of the shape around the template's smoothed surface.
_SCALE_SD = 0.08
_SHIFT_SD = 0.015
_SHAPE_SD = 0.004
_SHAPE_DEGREE = 4
# Median distance of the electrodes to the point between the ears, metres (0.11 on the template); newborns included.
_PLAUSIBLE_DISTANCE = (0.03, 0.25)


def fit_sphere(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Fit a sphere to points by linear least squares.

    Parameters
    ----------
    points : ndarray, shape (n, 3)
        At least four points that do not lie in one plane.

    Returns
    -------
    centre : ndarray, shape (3,)
        In the unit of ``points``, as the radius.
    radius : float
        Radius.

    Raises
    ------
    ValueError
        If the points lie in one plane.
    """
    points = np.asarray(points, dtype=float)
    offset = points.mean(axis=0)
    spread = np.abs(points - offset).max() or 1.0
    scaled = (points - offset) / spread
    # |p|^2 = 2 c.p + (r^2 - |c|^2) is linear in the centre c and in r^2 - |c|^2.
    design = np.column_stack([2 * scaled, np.ones(len(scaled))])
    solution, _, rank, _ = np.linalg.lstsq(design, (scaled**2).sum(axis=1), rcond=1e-6)
    if rank < 4:
        raise ValueError("The points lie in one plane, so no sphere can be fitted to them.")
    centre = solution[:3]
    return centre * spread + offset, float(np.sqrt(solution[3] + centre @ centre) * spread)


def _sphere_of(points: np.ndarray) -> tuple[np.ndarray, float] | None:
    """Centre and radius where the points lie exactly on a sphere, else None."""
    if len(points) < _MIN_SPHERE_POINTS:
        return None
    try:
        centre, radius = fit_sphere(points)
    except ValueError:
        return None
    error = np.linalg.norm(points - centre, axis=1) - radius
    return (centre, radius) if np.abs(error).max() < _SPHERE_TOLERANCE * radius else None


@lru_cache(maxsize=1)
def _sphere_to_template() -> tuple[np.ndarray, np.ndarray]:
    """Matrix and shift that take directions on a cap's sphere to the template's head.

    A drawing's "up" is its Cz and its equator runs through Fpz, T7 and Oz, while on the template's head the line from
    the nasion to the ears is horizontal: the two differ by 8 degrees of pitch, which alone would send POz to Oz. The
    similarity is estimated once (Umeyama 1991, IEEE PAMI 13:376-380) from the 64 names that MNE's ``biosemi64``
    drawing shares with the template; it leaves 6.7 mm on average between equal names.
    """
    drawing = montage_in_head_frame("biosemi64")
    source = np.array(list(drawing.values()))
    target = np.array([template_positions()[str(canonical_electrode(name))] for name in drawing])
    centre, radius = fit_sphere(source)
    source = (source - centre) / radius
    u, s, vt = np.linalg.svd((target - target.mean(0)).T @ (source - source.mean(0)))
    flip = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    scale = (s * flip).sum() / ((source - source.mean(0)) ** 2).sum()
    matrix = scale * (u * flip) @ vt
    return matrix, target.mean(0) - matrix @ source.mean(0)


def _monomials(directions: np.ndarray) -> np.ndarray:
    """All monomials up to the shape's degree; powers of z above one follow from x^2 + y^2 + z^2 = 1."""
    x, y, z = directions.T
    degrees = range(_SHAPE_DEGREE + 1)
    terms = [x**i * y**j * z**k for i in degrees for j in degrees for k in (0, 1) if i + j + k <= _SHAPE_DEGREE]
    return np.stack(terms, axis=1)


@lru_cache(maxsize=1)
def _template_shape() -> tuple[np.ndarray, np.ndarray]:
    """Centre of the template's head, and its radius as a polynomial of the direction (1.1 mm off on average)."""
    points = np.array(list(template_positions().values()))
    centre, _ = fit_sphere(points)
    radii = np.linalg.norm(points - centre, axis=1)
    coefficients = np.linalg.lstsq(_monomials((points - centre) / radii[:, None]), radii, rcond=None)[0]
    return centre, coefficients


def _misfit(parameters: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Residuals of log scale and shift: distance to the template's surface, and the two priors."""
    moved = np.exp(parameters[0]) * points + parameters[1:]
    radii = np.maximum(np.linalg.norm(moved, axis=1), 1e-6)
    surface = _monomials(moved / radii[:, None]) @ _template_shape()[1]
    return np.concatenate([(radii - surface) / _SHAPE_SD, parameters[:1] / _SCALE_SD, parameters[1:] / _SHIFT_SD])


def align_to_template(positions: np.ndarray) -> np.ndarray:
    """Bring electrode positions onto the template's head.

    Parameters
    ----------
    positions : ndarray, shape (n, 3)
        Metres, in MNE's head frame (x to the right ear, y to the nasion); NaN rows are unknown and stay so.

    Returns
    -------
    aligned : ndarray, shape (n, 3)
        Metres, on the head of :func:`~mne_labram.signal.template.template_positions`.

    Raises
    ------
    ContractError
        If the positions cannot be metres on a head.

    Notes
    -----
    Directions are kept as the head frame gives them; what is fitted depends on what the positions are:

    - at least eight points exactly on one sphere are a manufacturer's drawing (BioSemi, EasyCap, EEGLAB): the
      sphere, whatever its radius and centre, goes onto the template with the pitch between the two;
    - such a sphere where it belongs on the template was aligned before and stays;
    - anything else is a measured head: one scale and a shift are fitted so that the electrodes come to lie on the
      template's surface, with priors (8 % and 15 mm), so that few electrodes, or a patch of them, move little
      (parts of the template itself by 6 mm at most, by 4 mm if spread over the head).

    Measured on MNE's own montages with their names hidden (nearest of 86 electrodes of the 10-10 system): all names
    right on ``biosemi64`` and ``easycap-M1``; without any fit 25 % and 32 %. ``spherical_1005`` of MNE 1.13, whose
    equator runs through the nasion, is the one drawing that this cannot tell from the others.
    """
    positions = np.array(positions, dtype=float)
    valid = np.isfinite(positions).all(axis=1)
    if not valid.any():
        return positions
    sphere = _sphere_of(positions[valid])
    if sphere is not None:
        matrix, shift = _sphere_to_template()
        if np.linalg.norm(sphere[0] - shift) < _ALIGNED and abs(sphere[1] - np.cbrt(np.linalg.det(matrix))) < _ALIGNED:
            return positions
        return ((positions - sphere[0]) / sphere[1]) @ matrix.T + shift
    centre, _ = _template_shape()
    distance = float(np.median(np.linalg.norm(positions[valid], axis=1)))
    if not _PLAUSIBLE_DISTANCE[0] < distance < _PLAUSIBLE_DISTANCE[1]:
        raise ContractError(
            f"The electrodes lie {distance:.3g} m from the point between the ears, so their positions are not metres "
            "in the head frame; set a montage in the right unit or remove it with raw.set_montage(None)."
        )
    # Sensors on the cheeks and the neck lie off the template's surface, so large misfits count less.
    fitted = scipy.optimize.least_squares(_misfit, np.zeros(4), args=(positions[valid] - centre,), loss="soft_l1").x
    return np.exp(fitted[0]) * (positions - centre) + fitted[1:] + centre
