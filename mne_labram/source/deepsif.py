"""The template head that DeepSIF's authors publish, as a source model.

75 electrodes and 994 regions of fsaverage5's pial surface (https://github.com/bfinl/DeepSIF, ``anatomy/``; Sun et al.
2022, PNAS 119:e2201128119), to image the patients that they publish with the leadfield that they used.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import mne
import numpy as np
import scipy
from mne.transforms import apply_trans, invert_transform

from mne_labram.signal.contract import ContractError
from mne_labram.signal.template import canonical_electrode, template_positions
from mne_labram.source.head import SourceModel
from mne_labram.source.mesh import adjacency_of_triangles, edge_graph, vertex_normals
from mne_labram.source.surfaces import template_file

__all__ = ["deepsif_model"]

# Their unit, in µV per nAm at every vertex of a region. Nothing says what it is: measured against default_forward with
# 20484 sources, of which the leadfields of a region's vertices are added up. The ratio is 162 for the median region,
# and 135 to 208 for nine of ten; topographies correlate by 0.947.
_UNIT = 1 / 162.0
_N_PER_HEMISPHERE = 10242
#: FIFFV_COORD_HEAD.
_HEAD = 4


def _read(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    if not path.is_file():
        raise FileNotFoundError(f"There is no {name} in {str(folder)!r}; give the folder anatomy of DeepSIF.")
    return scipy.io.loadmat(path)


def _electrodes(table: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Names, and the places of their drawing, fitted to the template's by the names that the 10-05 system knows."""
    names = [str(row["labels"][0]) for row in table.ravel()]
    # EEGLAB's axes, in mm: to the nose, to the left ear, up.
    nose, left, up = (np.array([float(np.squeeze(row[axis])) for row in table.ravel()]) for axis in "XYZ")
    drawn = np.stack([-left, nose, up, np.full(len(names), 1000.0)], axis=1) / 1000
    sites = [canonical_electrode(name) for name in names]
    known = [index for index, site in enumerate(sites) if site is not None]
    there = np.array([template_positions()[sites[index]] for index in known])
    # An affine map: it leaves 3.8 mm (median). Their leadfield agrees better with these places than with the template's
    # own (0.947 against 0.933).
    return names, drawn @ np.linalg.lstsq(drawn[known], there, rcond=None)[0]


def deepsif_model(folder: str | os.PathLike[str]) -> tuple[SourceModel, np.ndarray]:
    """Read the template head that DeepSIF's authors publish.

    Parameters
    ----------
    folder : path-like
        Their folder ``anatomy``, with ``leadfield_75_20k.mat``, ``fs_cortex_20k.mat``,
        ``fs_cortex_20k_region_mapping.mat`` and ``electrode_75.mat``.

    Returns
    -------
    model : SourceModel
        75 channels and 994 sources, each of which stands for a region: its place is the vertex nearest to the middle
        of the region, its direction the mean normal of the pial surface, and 1 nAm is meant at *every vertex* of it.
        The scale is measured (see the comment at ``_UNIT``), not published. Sources are in the order of their vertices,
        the left hemisphere first, as MNE's estimates want them.
    regions : ndarray of int, shape (994,)
        Number of each source's region from 0, as in the region mapping and in the patients' resections.

    Raises
    ------
    ContractError
        If the files are not of one head.
    FileNotFoundError
        If one of them is not there.

    Notes
    -----
    The leadfield is taken as published. In 21 regions (about the insula and below the frontal lobe) its sign is the
    opposite of that of dipoles along the outward normal, both by the direction of the potential over the head and by
    :func:`~mne_labram.source.headmodel.default_forward` (correlation of topographies -0.83 to -0.98; elsewhere 0.947,
    median). Energies are not touched by that.
    """
    folder = Path(folder).expanduser()
    leadfield = np.asarray(_read(folder, "leadfield_75_20k.mat")["fwd"], dtype=float)
    cortex = _read(folder, "fs_cortex_20k.mat")
    region = np.asarray(_read(folder, "fs_cortex_20k_region_mapping.mat")["rm"]).ravel().astype(np.int64)
    names, electrodes = _electrodes(_read(folder, "electrode_75.mat")["eloc75"])
    rr = np.asarray(cortex["pos"], dtype=float) / 1000
    tris = np.asarray(cortex["tri"]).astype(np.int64) - 1
    n_regions = leadfield.shape[1]
    sizes = np.bincount(region, minlength=n_regions)
    if len(sizes) != n_regions or not sizes.all() or len(names) != len(leadfield) or len(region) != len(rr):
        raise ContractError(
            f"Leadfield {leadfield.shape}, {len(names)} electrodes and {len(sizes)} regions do not belong together; "
            "take all files from one version of DeepSIF."
        )
    middles = _means(rr, region, sizes)
    # Not the file's own ``ori``, which is in axes to the nose, to the left and up.
    normals = _means(vertex_normals(rr, tris), region, sizes)
    # The vertex of each region that is nearest to its middle: the first one after sorting by region and distance.
    order = np.lexsort((np.linalg.norm(rr - middles[region], axis=1), region))
    nodes = order[np.searchsorted(region[order], np.arange(n_regions))]
    by_vertex = np.argsort(nodes)
    nodes, normals = nodes[by_vertex], normals[by_vertex] / np.linalg.norm(normals[by_vertex], axis=1, keepdims=True)
    belongs = scipy.sparse.csr_array((np.ones(len(region)), (region, np.arange(len(region)))))
    touching = belongs @ adjacency_of_triangles(tris, len(rr)).astype(float) @ belongs.T
    touching = scipy.sparse.csr_array(touching[by_vertex][:, by_vertex])
    touching.setdiag(0)
    touching.eliminate_zeros()
    trans = mne.read_trans(template_file("fsaverage-trans.fif"))
    to_head = invert_transform(trans) if trans["from"] == _HEAD else trans
    positions = apply_trans(to_head, rr[nodes])
    left = nodes < _N_PER_HEMISPHERE
    model = SourceModel(
        ch_names=names,
        electrodes=electrodes,
        leadfield=leadfield[:, by_vertex] * _UNIT,
        positions=positions,
        normals=apply_trans(to_head, normals, move=False),
        vertices=[nodes[left], nodes[~left] - _N_PER_HEMISPHERE],
        neighbours=scipy.sparse.csr_array(touching, dtype=bool),
        depth=scipy.spatial.cKDTree(electrodes).query(positions)[0],
        graph=edge_graph(rr, tris),
        nodes=nodes,
        subject="fsaverage",
    )
    return model, by_vertex


def _means(values: np.ndarray, region: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    sums = np.zeros((len(sizes), values.shape[1]))
    np.add.at(sums, region, values)
    return sums / sizes[:, None]
