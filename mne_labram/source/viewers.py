"""The template's surfaces where MNE's viewers look for them."""

from __future__ import annotations

import os
from pathlib import Path

import mne
import numpy as np

from mne_labram._files import written_whole

__all__ = ["write_template_surfaces"]

#: FreeSurfer's name of a surface, and nilearn's. Registered to itself is registered.
_SURFACES = {
    "white": "white",
    "pial": "pial",
    "inflated": "infl",
    "sphere": "sphere",
    "sphere.reg": "sphere",
}
_HEMISPHERES = {"lh": "left", "rh": "right"}
# FreeSurfer's file of a value for every vertex begins with this.
_MORPHOMETRY = b"\xff\xff\xff"


def write_template_surfaces(subjects_dir: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write the template's cortex as MNE's viewers want it, so that they work without a download.

    Parameters
    ----------
    subjects_dir : path-like
        A folder, which is made if there is none; the subject in it is ``"fsaverage"``, of 10242 vertices a hemisphere:
        those by which estimates in :func:`~mne_labram.source.default_forward` are numbered.
    overwrite : bool
        Replace surfaces that are there; with those of FreeSurfer's own fsaverage, nothing is needed.

    Returns
    -------
    subjects_dir : Path
        For ``stc.plot(subjects_dir=subjects_dir)``; MNE's matplotlib viewer also wants ``spacing="ico5"``.

    Raises
    ------
    FileExistsError
        If a surface is there and ``overwrite`` is false.

    Notes
    -----
    White, pial, inflated, sphere and curvature of fsaverage5, from nilearn's wheel. The curvature has FreeSurfer's new
    format, of single big-endian numbers.
    """
    from nilearn.datasets import fetch_surf_fsaverage
    from nilearn.surface import load_surf_data, load_surf_mesh

    there = fetch_surf_fsaverage("fsaverage5")
    folder = Path(subjects_dir).expanduser() / "fsaverage" / "surf"
    names = [f"{hemisphere}.{name}" for hemisphere in _HEMISPHERES for name in (*_SURFACES, "curv")]
    found = [name for name in names if (folder / name).exists()]
    if found and not overwrite:
        raise FileExistsError(f"{folder / found[0]} exists; pass overwrite=True, or another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    for hemisphere, side in _HEMISPHERES.items():
        for name, called in _SURFACES.items():
            mesh = load_surf_mesh(there[f"{called}_{side}"])
            with written_whole(folder / f"{hemisphere}.{name}", overwrite=overwrite) as temporary:
                mne.write_surface(temporary, mesh.coordinates, mesh.faces, file_format="freesurfer", overwrite=True)
        curvature = np.asarray(load_surf_data(there[f"curv_{side}"]), dtype=">f4")
        sizes = np.array([len(curvature), len(mesh.faces), 1], dtype=">i4")
        with written_whole(folder / f"{hemisphere}.curv", overwrite=overwrite) as temporary:
            temporary.write_bytes(_MORPHOMETRY + sizes.tobytes() + curvature.tobytes())
    return folder.parent.parent
