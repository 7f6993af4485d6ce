"""A cortex for a head that has a boundary element model but no segmented cortex: the template's, made to fit."""

from __future__ import annotations

import os

import mne
import numpy as np
from mne.transforms import apply_trans, invert_transform
from mne.utils import logger, verbose

from mne_labram.signal.contract import ContractError
from mne_labram.source.headmodel import template_cortex
from mne_labram.source.mesh import vertex_normals
from mne_labram.source.surfaces import cast_rays, template_file

__all__ = ["warped_cortex"]

#: FIFFV_BEM_SURF_ID_BRAIN, FIFFV_COORD_MRI and FIFFV_COORD_HEAD.
_BRAIN, _MRI, _HEAD = 1, 5, 4


def _middle(rr: np.ndarray, tris: np.ndarray) -> np.ndarray:
    """Centre of what a closed surface encloses."""
    a, b, c = rr[tris].transpose(1, 0, 2)
    # Tetrahedra from the origin, whose volumes have signs.
    volume = np.einsum("ij,ij->i", np.cross(a, b), c)
    return ((a + b + c) / 4 * volume[:, None]).sum(axis=0) / volume.sum()


def _to_head(trans: mne.transforms.Transform) -> mne.transforms.Transform:
    if {int(trans["from"]), int(trans["to"])} != {_MRI, _HEAD}:
        raise ValueError(f"trans must lead from the MRI to the head or back, got {trans['from']} to {trans['to']}.")
    return trans if trans["from"] == _MRI else invert_transform(trans)


@verbose
def warped_cortex(
    bem: mne.bem.ConductorModel,
    trans: mne.transforms.Transform,
    *,
    spacing: str = "ico3",
    cache: str | os.PathLike[str] | bool | None = None,
    verbose: bool | str | int | None = None,
) -> mne.SourceSpaces:
    """Fit the template's cortex into the inner skull of a subject.

    Parameters
    ----------
    bem : mne.bem.ConductorModel
        Of the subject, in its MRI frame.
    trans : mne.transforms.Transform
        Between the MRI and the head of the subject.
    spacing : str
        How dense sources are, as for :func:`~mne_labram.source.headmodel.default_forward`.
    cache : path-like | bool | None
        As there.
    verbose : bool | str | int | None
        Control verbosity of the logging output.

    Returns
    -------
    src : mne.SourceSpaces
        In the MRI frame of the subject, for ``mne.make_forward_solution``. Vertices are numbered as those of
        fsaverage, which they also name as the subject.

    Raises
    ------
    ContractError
        If the model has no inner skull, or one that is not star-shaped about its middle.
    ValueError
        If ``trans`` is no transform between head and MRI.

    Notes
    -----
    Both heads are laid over one another by their fiducials and the middles of their inner skulls. Every vertex keeps
    its direction from there, and its depth in proportion to the skull's distance in that direction. The folds are the
    template's, not the subject's: good for lobes, and no better than the template for single gyri.
    """
    to_head = _to_head(trans)
    inner = [surface for surface in bem["surfs"] if int(surface["id"]) == _BRAIN] if not bem["is_sphere"] else []
    if not inner:
        raise ContractError("The head model has no inner skull; make it with mne.make_bem_model, not as a sphere.")
    skull = apply_trans(to_head, inner[0]["rr"])
    tris = np.asarray(inner[0]["tris"])
    (surface,) = mne.read_bem_surfaces(template_file("fsaverage-inner_skull-bem.fif"), verbose="ERROR")
    template_to_head = _to_head(mne.read_trans(template_file("fsaverage-trans.fif")))
    template_skull = apply_trans(template_to_head, surface["rr"])
    middle, template_middle = _middle(skull, tris), _middle(template_skull, surface["tris"])
    src = template_cortex(spacing, cache=cache)
    back = invert_transform(to_head)
    for space in src:
        away = apply_trans(template_to_head, space["rr"]) - template_middle
        directions = away / np.linalg.norm(away, axis=1, keepdims=True)
        there = cast_rays(middle, directions, skull, tris)
        if not np.isfinite(there).all():
            raise ContractError("The inner skull of the head model has holes; make it with mne.make_bem_model.")
        here = cast_rays(template_middle, directions, template_skull, surface["tris"])
        space["rr"] = apply_trans(back, middle + away * (there / here)[:, None])
        space["nn"] = vertex_normals(space["rr"], space["tris"])
        space.update(dist=None, dist_limit=None)
    logger.info("The template's cortex was fitted into the inner skull; its folds are not those of the subject.")
    return src
