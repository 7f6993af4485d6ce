"""Electrode positions: by name, from a recording, and nearest to a given point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mne_labram.signal.labels import parse_channel_name
from mne_labram.signal.template import template_positions, template_sphere

__all__ = ["align_to_template", "electrode_positions", "fit_sphere", "nearest_electrodes", "positions_from_chs"]

# FIFFV_COORD_UNKNOWN and FIFFV_COORD_HEAD; frame 0 is what a channel without a digitised montage may carry.
_FRAMES = (0, 4)
# Fewer electrodes, or electrodes along a line, do not determine a sphere.
_MIN_SPHERE_POINTS = 12


def electrode_positions(names: Sequence[str]) -> np.ndarray:
    """Positions of both ends of channels, by name.

    Parameters
    ----------
    names : sequence of str
        Channel names, referential (``"FP1"``) or bipolar (``"FP1-F7"``); any label that
        :func:`~mne_labram.signal.channels.parse_channel_name` understands.

    Returns
    -------
    positions : ndarray, shape (n_chans, 6)
        Metres, in the head frame of MNE's 10-05 template (see
        :func:`~mne_labram.signal.template.template_positions`). Columns 0 to 2 hold the anode, 3 to 5 the cathode;
        both are the same point for a referential channel.

    Raises
    ------
    TypeError
        If ``names`` is a single string.
    ValueError
        If a name is not an electrode, or a pair of electrodes, of the 10-05 system.
    """
    if isinstance(names, str):
        raise TypeError("names must be a sequence of channel names, got one string.")
    table = template_positions()
    parsed = [parse_channel_name(name) for name in names]
    unknown = [channel.label for channel in parsed if channel.kind in ("unknown", "auxiliary")]
    if unknown:
        raise ValueError(
            f"No position is known for {', '.join(map(repr, unknown))}; give names of the 10-05 system "
            "or the positions themselves."
        )
    ends = [(channel.anode, channel.cathode or channel.anode) for channel in parsed]
    return np.array([np.concatenate([table[a], table[c]]) for a, c in ends]).reshape(-1, 6)


def positions_from_chs(chs: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Electrode positions that a recording carries.

    Parameters
    ----------
    chs : sequence of mapping
        ``info["chs"]``, or Braindecode's ``chs_info``: what counts is ``"loc"`` and, if present, ``"coord_frame"``.

    Returns
    -------
    positions : ndarray, shape (n_chans, 3)
        Metres, head frame. A row is NaN where the position is unknown: no ``loc``, not finite, all zero (as several
        readers leave it), or in another coordinate frame.
    """
    positions = np.full((len(chs), 3), np.nan)
    for row, ch in zip(positions, chs, strict=True):
        loc = ch.get("loc")
        if loc is None or int(ch.get("coord_frame", _FRAMES[1])) not in _FRAMES:
            continue
        loc = np.asarray(loc, dtype=float).ravel()[:3]
        if loc.size == 3 and np.isfinite(loc).all() and loc.any():
            row[:] = loc
    return positions


def fit_sphere(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Fit a sphere to points by linear least squares.

    Parameters
    ----------
    points : ndarray, shape (n, 3)
        At least four points that do not lie in one plane.

    Returns
    -------
    centre : ndarray, shape (3,)
    radius : float

    Raises
    ------
    ValueError
        If the points do not determine a sphere.
    """
    points = np.asarray(points, dtype=float)
    offset = points.mean(axis=0)
    spread = np.abs(points - offset).max() or 1.0
    scaled = (points - offset) / spread
    # |p|^2 = 2 c.p + (r^2 - |c|^2) is linear in the centre c and in r^2 - |c|^2.
    design = np.column_stack([2 * scaled, np.ones(len(scaled))])
    solution, _, rank, _ = np.linalg.lstsq(design, (scaled**2).sum(axis=1), rcond=1e-6)
    if rank < 4:
        raise ValueError("The points lie in one plane, so they do not determine a sphere.")
    centre = solution[:3]
    return centre * spread + offset, float(np.sqrt(solution[3] + centre @ centre) * spread)


def align_to_template(positions: np.ndarray) -> np.ndarray:
    """Bring the positions of one head onto the template's head.

    Parameters
    ----------
    positions : ndarray, shape (n, 3)
        Metres, head frame; NaN rows are unknown.

    Returns
    -------
    aligned : ndarray, shape (n, 3)
    """
    positions = np.asarray(positions, dtype=float)
    valid = np.isfinite(positions).all(axis=1)
    if valid.sum() < _MIN_SPHERE_POINTS:
        return positions.copy()
    centre, radius = fit_sphere(positions[valid])
    template_centre, template_radius = template_sphere()
    return (positions - centre) * (template_radius / radius) + template_centre


def nearest_electrodes(positions: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest of some electrodes.

    Parameters
    ----------
    positions : ndarray, shape (n, 3)
        Metres, on the template's head.
    names : sequence of str
        Candidates.

    Returns
    -------
    index : ndarray of int, shape (n,)
        Index into ``names``.
    distance : ndarray, shape (n,)
        Metres; NaN where the position is.
    """
    sites = electrode_positions(names)[:, :3]
    distances = np.linalg.norm(np.asarray(positions, dtype=float)[:, None] - sites, axis=2)
    index = np.argmin(distances, axis=1)
    return index, distances[np.arange(len(index)), index]
