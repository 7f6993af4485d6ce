"""MNE's spherical head model: what goes wrong with it in MNE 1.13, and how to get a right forward from it.

With a sphere and a transform that is not the identity, MNE 1.13 (``_filter_source_spaces``) compares positions of
sources in the MRI's frame with a centre in the head's frame. Sources that lie well inside the sphere are then dropped
without a word: 290 of 1284 on fsaverage.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mne
import numpy as np
import scipy
from mne.transforms import apply_trans, invert_transform
from mne.utils import verbose

from mne_labram.signal.alignment import fit_sphere

__all__ = ["dropped_by_frame_defect", "sphere_forward"]

#: FIFFV_COORD_MRI and FIFFV_COORD_HEAD.
_MRI, _HEAD = 5, 4
# Fewer missing sources than this share are what lies near the skull in any head model.
_SUSPICIOUS = 0.02
# The centre of a sphere model is near that of a sphere through the electrodes; metres, along each axis.
_CENTRE_TOLERANCE = 0.025
_MAX_POINTS = 4000


def _chosen(space: dict[str, Any]) -> np.ndarray | None:
    """Vertices that were to be sources before any was dropped; None if nothing tells."""
    tris = space.get("use_tris")
    if space["type"] != "surf" or tris is None or len(tris) == 0:
        return None
    return np.unique(tris)


def dropped_by_frame_defect(fwd: mne.Forward, electrodes: np.ndarray) -> int:
    """Count the sources that MNE 1.13 dropped because it mixed up two coordinate frames.

    Parameters
    ----------
    fwd : mne.Forward
        With surface source spaces.
    electrodes : ndarray, shape (n_channels, 3)
        Metres, head frame.

    Returns
    -------
    n_dropped : int
        0 if no source is missing, or if the mix-up does not explain which are.

    Notes
    -----
    A forward does not say what head model it was made with. What tells is which sources are missing: all that lie
    outside some sphere and none inside, if positions in the MRI's frame are set against a centre where the electrodes'
    centre has its coordinates in the head's frame; while no such sphere in the head's frame does it. Whether there is
    a sphere that separates the two is a linear programme in its centre c and in r^2 - |c|^2. A source space that was
    cut down to a label is not mistaken for it.
    """
    to_head = fwd["mri_head_t"]
    if np.allclose(to_head["trans"], np.eye(4), atol=1e-6) or len(electrodes) < 4:
        return 0
    kept, dropped = [], []
    for space in fwd["src"]:
        chosen = _chosen(space)
        if chosen is None:
            continue
        is_kept = np.isin(chosen, space["vertno"])
        rr = space["rr"] if space["coord_frame"] == _HEAD else apply_trans(to_head["trans"], space["rr"])
        kept.append(rr[chosen[is_kept]])
        dropped.append(rr[chosen[~is_kept]])
    if not kept:
        return 0
    inside, outside = np.concatenate(kept), np.concatenate(dropped)
    if len(outside) < max(3, _SUSPICIOUS * (len(inside) + len(outside))):
        return 0
    try:
        centre, _ = fit_sphere(electrodes)
    except ValueError:
        return 0
    from_head = invert_transform(to_head)["trans"]
    wrong = _separable(apply_trans(from_head, inside), apply_trans(from_head, outside), centre)
    right = _separable(inside, outside, centre)
    return len(outside) if wrong and not right else 0


def _separable(inside: np.ndarray, outside: np.ndarray, centre: np.ndarray) -> bool:
    """Whether a sphere with about this centre has all of the one inside and all of the other outside."""
    rng = np.random.default_rng(0)
    inside, outside = (
        points if len(points) <= _MAX_POINTS else points[rng.choice(len(points), _MAX_POINTS, replace=False)]
        for points in (inside, outside)
    )
    # In centimetres and from the expected centre, so that all terms are of one size:
    # |p|^2 - 2 c.p - b is not above 0 inside and not below 0 outside, with b = r^2 - |c|^2.
    inside, outside = ((points - centre) * 100 for points in (inside, outside))
    left = np.concatenate(
        [
            np.column_stack([-2 * inside, -np.ones(len(inside))]),
            np.column_stack([2 * outside, np.ones(len(outside))]),
        ]
    )
    right = np.concatenate([-(inside**2).sum(axis=1), (outside**2).sum(axis=1)])
    reach = 100 * _CENTRE_TOLERANCE
    bounds = [(-reach, reach)] * 3 + [(None, None)]
    found = scipy.optimize.linprog(np.zeros(4), A_ub=left, b_ub=right, bounds=bounds)
    return found.status == 0


@verbose
def sphere_forward(
    info: mne.Info,
    src: mne.SourceSpaces,
    trans: mne.transforms.Transform,
    *,
    sphere: mne.bem.ConductorModel | Sequence[float] | str = "auto",
    mindist: float = 0.0,
    verbose: bool | str | int | None = None,
) -> mne.Forward:
    """Make a forward with a spherical head model, with all its sources.

    Parameters
    ----------
    info : mne.Info
        EEG channels with positions.
    src : mne.SourceSpaces
        Sources, in the MRI's or the head's frame; not modified.
    trans : mne.transforms.Transform
        From the head's frame to the MRI's, or back.
    sphere : mne.bem.ConductorModel | sequence of float | "auto"
        A sphere of ``mne.make_sphere_model``, its centre in metres, or ``"auto"``: fitted to the digitised points.
    mindist : float
        Leave out sources nearer than this to the innermost shell, in mm.
    verbose : bool | str | int | None
        Control verbosity of the logging output.

    Returns
    -------
    fwd : mne.Forward
        With free orientations; source spaces, electrodes and sphere are in the head's frame.

    Raises
    ------
    ValueError
        If ``trans`` is no transform between head and MRI.

    Notes
    -----
    The sources are moved to the head's frame first and the forward is made with the identity as the transform, so that
    MNE's mix-up of frames (see the top of this module) has nothing to mix up. The true transform is put into the
    forward afterwards.
    """
    frames = {trans["from"], trans["to"]}
    if frames != {_MRI, _HEAD}:
        raise ValueError(f"trans must lead from the MRI to the head or back, got {trans['from']} to {trans['to']}.")
    if not isinstance(sphere, mne.bem.ConductorModel):
        r0 = sphere if isinstance(sphere, str) else np.asarray(sphere, dtype=float)
        sphere = mne.make_sphere_model(r0=r0, head_radius="auto", info=info)
    to_head = trans if trans["from"] == _MRI else invert_transform(trans)
    moved = src.copy()
    for space in moved:
        mne.transforms.transform_surface_to(space, "head", to_head)
    identity = mne.transforms.Transform("head", "mri", np.eye(4))
    fwd = mne.make_forward_solution(info, identity, moved, sphere, meg=False, eeg=True, mindist=mindist)
    # MNE's figures want to know where the MRI is.
    fwd["mri_head_t"] = mne.transforms.Transform("mri", "head", to_head["trans"])
    with fwd["info"]._unlock():
        fwd["info"]["mri_head_t"] = fwd["mri_head_t"]
    return fwd
