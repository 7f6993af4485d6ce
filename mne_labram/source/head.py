"""What source imaging takes from a forward solution."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import mne
import numpy as np
import scipy
from mne.transforms import apply_trans
from mne.utils import logger

from mne_labram.signal.contract import ContractError
from mne_labram.source.mesh import adjacency_of_triangles, edge_graph, geodesic_distances, neighbours_along_surface
from mne_labram.source.sphere import dropped_by_frame_defect

__all__ = ["MIN_CHANNELS", "SourceModel", "source_model"]

#: Fewer channels than this say next to nothing about where activity is.
MIN_CHANNELS = 8
#: FIFFV_MNE_FIXED_ORI, FIFFV_COORD_MRI and FIFFV_COORD_HEAD.
_FIXED, _MRI, _HEAD = 1, 5, 4
#: V per Am to µV per nAm.
_UNIT = 1e-3
# No electrode is this near to the point between the ears, in metres; readers leave such values where nothing is known.
_NOT_A_POSITION = 0.001
_SHOWN = 5


@dataclass(frozen=True, eq=False)
class SourceModel:
    """Sources, electrodes, and what every electrode sees of every source.

    Made by :func:`source_model` from a forward; all arrays are read-only.

    Parameters
    ----------
    ch_names : list of str
        The EEG channels.
    electrodes : ndarray, shape (n_channels, 3)
        Their positions in metres, head frame.
    leadfield : ndarray of float64, shape (n_channels, n_sources)
        µV per nAm, against infinity: in the reference of the forward, *not* averaged.
    positions, normals : ndarray, shape (n_sources, 3)
        Metres, head frame; the direction of a positive dipole moment, of length 1.
    vertices : list of ndarray of int
        Vertex numbers, one array per source space, as ``mne.SourceEstimate`` takes them.
    neighbours : scipy.sparse.csr_array of bool, shape (n_sources, n_sources)
        Which sources lie next to each other on the surface; deep points have no neighbours.
    depth : ndarray, shape (n_sources,)
        Metres to the nearest EEG electrode of the forward, also after :meth:`pick`.
    graph : scipy.sparse.csr_array, shape (n_nodes, n_nodes)
        Lengths in metres of the edges of the full surfaces that the sources are vertices of.
    nodes : ndarray of int, shape (n_sources,)
        Which vertices of all surfaces together; -1 for deep points.
    subject : str | None
        Name that the source space has for the head.
    """

    ch_names: list[str]
    electrodes: np.ndarray
    leadfield: np.ndarray
    positions: np.ndarray
    normals: np.ndarray
    vertices: list[np.ndarray]
    neighbours: scipy.sparse.csr_array
    depth: np.ndarray
    graph: scipy.sparse.csr_array
    nodes: np.ndarray
    subject: str | None = None

    def __post_init__(self) -> None:
        for name in ("electrodes", "leadfield", "positions", "normals", "depth", "nodes"):
            object.__setattr__(self, name, _read_only(getattr(self, name)))
        object.__setattr__(self, "vertices", [_read_only(each) for each in self.vertices])
        for name in ("neighbours", "graph"):
            object.__setattr__(self, name, _read_only_sparse(getattr(self, name)))

    def __repr__(self) -> str:
        """Say how large it is; the arrays are many pages."""
        deep = f", {n_deep} of them deep" if (n_deep := int(self.deep.sum())) else ""
        return f"<SourceModel | {len(self.ch_names)} channels, {len(self.positions)} sources{deep}>"

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return len(self.ch_names)

    @property
    def n_sources(self) -> int:
        """Number of sources."""
        return len(self.positions)

    @cached_property
    def deep(self) -> np.ndarray:
        """Which sources are points on no surface, shape (n_sources,)."""
        return _read_only(self.nodes < 0)

    @cached_property
    def averaged(self) -> np.ndarray:
        """The leadfield in the average reference of these channels, µV per nAm, shape (n_channels, n_sources)."""
        return _read_only(self.leadfield - self.leadfield.mean(axis=0))

    @cached_property
    def digest(self) -> str:
        """A name for this head: 16 hexadecimal digits that change with channels, leadfield and positions.

        Equal names mean equal heads. The same forward solved on another machine may differ in the last digits, and so
        get another name.

        Returns
        -------
        digest : str
            That name.
        """
        content = hashlib.sha256("\0".join(self.ch_names).encode())
        for array in (self.leadfield, self.positions, self.normals):
            # What a file keeps: MNE stores forwards in single precision.
            content.update(np.ascontiguousarray(array, dtype="<f4").tobytes())
        return content.hexdigest()[:16]

    @cached_property
    def _distances(self) -> dict[float, scipy.sparse.csr_array]:
        return {}

    def distances(self, limit: float = 0.08) -> scipy.sparse.csr_array:
        """Measure how far sources are from each other along the surface.

        Parameters
        ----------
        limit : float
            Leave out what is farther, in metres.

        Returns
        -------
        distances : scipy.sparse.csr_array, shape (n_sources, n_sources)
            Metres. What is not stored is farther than the limit, on another hemisphere, deep, or the source itself.
            Kept for the next call with the same limit.

        Raises
        ------
        ValueError
            If the limit is not positive.

        Notes
        -----
        The shortest way along the edges of the full surface, over vertices that are no sources too, so that a source
        that was dropped from the forward leaves no hole. 4 s for 1284 sources on two surfaces of 10242 vertices.
        """
        if not limit > 0:
            raise ValueError(f"limit must be positive, got {limit}.")
        if limit not in self._distances:
            self._distances[limit] = geodesic_distances(self.graph, self.nodes, float(limit))
        return self._distances[limit]

    def share_distances(self, other: SourceModel) -> None:
        """Take the distances that were measured for another head of the same cortex, now and later.

        Parameters
        ----------
        other : SourceModel
            The same sources, seen by other electrodes or through another skull.

        Raises
        ------
        ContractError
            If its sources are others.
        """
        if not np.array_equal(self.nodes, other.nodes) or self.graph.shape != other.graph.shape:
            raise ContractError("Distances are shared between heads of the same sources; these have others.")
        object.__setattr__(self, "_distances", other._distances)

    def pick(self, ch_names: Sequence[str]) -> SourceModel:
        """Keep some channels, in a given order.

        Parameters
        ----------
        ch_names : sequence of str
            Which.

        Returns
        -------
        model : SourceModel
            The same sources seen by these channels; distances between them are measured once for both.

        Raises
        ------
        ContractError
            If a channel is not there or there twice, or if they are fewer than eight.
        """
        ch_names = _checked_names(ch_names, self.ch_names)
        rows = [self.ch_names.index(name) for name in ch_names]
        picked = dataclasses.replace(
            self, ch_names=ch_names, electrodes=self.electrodes[rows], leadfield=self.leadfield[rows]
        )
        picked.share_distances(self)
        return picked


def _read_only(array: np.ndarray) -> np.ndarray:
    array = np.array(array)
    array.setflags(write=False)
    return array


def _read_only_sparse(matrix: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    if not matrix.data.flags.writeable:
        return matrix
    matrix = matrix.copy()
    matrix.sort_indices()
    for array in (matrix.data, matrix.indices, matrix.indptr):
        array.setflags(write=False)
    return matrix


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more


def _checked_names(wanted: Sequence[str], available: Sequence[str]) -> list[str]:
    if isinstance(wanted, str):
        raise TypeError("ch_names must be a sequence of channel names, got one string.")
    wanted = [str(name) for name in wanted]
    known = set(available)
    missing = [name for name in wanted if name not in known]
    if missing and len(missing) == len(wanted):
        raise ContractError(
            f"The data and the forward have no EEG channel in common (data: {_listed(wanted)}; forward: "
            f"{_listed(list(available))}); rename one of them or make the forward from the info of the data."
        )
    if missing:
        raise ContractError(
            f"The forward has no EEG channel {_listed(missing)}; drop these channels from the data or make the forward "
            "from the info of the data."
        )
    if len(set(wanted)) < len(wanted):
        twice = sorted({name for name in wanted if wanted.count(name) > 1})
        raise ContractError(f"The channels {_listed(twice)} were asked for more than once; name every channel once.")
    if len(wanted) < MIN_CHANNELS:
        raise ContractError(
            f"Source imaging needs at least {MIN_CHANNELS} EEG channels and there are {len(wanted)}; "
            "use a recording with more electrodes."
        )
    return wanted


def source_model(fwd: mne.Forward, ch_names: Sequence[str] | None = None) -> SourceModel:
    """Take from a forward what source imaging needs, and check it.

    Parameters
    ----------
    fwd : mne.Forward
        With EEG and surface source spaces, in fixed or free orientation; not modified. Sources of a free orientation
        are turned along the surface normal as ``mne.convert_forward_solution(fwd, surf_ori=True, force_fixed=True)``
        does (the mean normal of the patch of cortex, where the source space has patches). Discrete source spaces, as
        those of the deep points of :func:`~mne_labram.source.headmodel.default_forward`, take part with the
        orientations that they state.
    ch_names : sequence of str | None
        The EEG channels of the data, in their order; ``None``: those of the forward. EEG channels that only the
        forward has are left out.

    Returns
    -------
    model : SourceModel
        Everything in the head's frame, µV, nAm and metres.

    Raises
    ------
    ContractError
        If the forward has no EEG, a volume grid, a channel too few, sources without a surface, numbers that are not
        finite, or if MNE dropped sources by the frame defect of its spherical model
        (:mod:`mne_labram.source.sphere`).
    TypeError
        If ``fwd`` is no forward.
    """
    if not isinstance(fwd, mne.Forward):
        raise TypeError(
            f"fwd must be an mne.Forward, got {type(fwd).__name__}; read it with mne.read_forward_solution."
        )
    rows = {
        fwd["info"]["ch_names"][pick]: pick for pick in mne.pick_types(fwd["info"], meg=False, eeg=True, exclude=[])
    }
    if not rows:
        raise ContractError("The forward has no EEG channels; make it with mne.make_forward_solution(..., eeg=True).")
    names = _checked_names(list(rows) if ch_names is None else ch_names, list(rows))
    _check_spaces(fwd)
    all_electrodes = _electrode_positions(fwd["info"], list(rows.values()))
    dropped = dropped_by_frame_defect(fwd, all_electrodes)
    if dropped:
        raise ContractError(
            f"{dropped} sources are missing from the forward because MNE compares MRI with head coordinates for a "
            "spherical head model; make it anew with mne_labram.source.sphere_forward, or with a BEM."
        )
    index = {name: row for row, name in enumerate(fwd["sol"]["row_names"])}
    leadfield, normals = _fixed(fwd, np.array([index[name] for name in names]))
    positions = np.concatenate([space["rr"][space["vertno"]] for space in fwd["src"]])
    if fwd["coord_frame"] == _MRI:
        positions = apply_trans(fwd["mri_head_t"], positions)
        normals = apply_trans(fwd["mri_head_t"], normals, move=False)
    for what, array in (("leadfield", leadfield), ("source positions", positions), ("source normals", normals)):
        if not np.isfinite(array).all():
            raise ContractError(f"The {what} of the forward contain NaN or infinite values; compute the forward anew.")
    unseen = [name for name, row in zip(names, leadfield, strict=True) if not row.any()]
    if unseen:
        raise ContractError(f"The leadfield of {_listed(unseen)} is zero everywhere; compute the forward anew.")
    graph, nodes, neighbours = _surfaces(fwd["src"])
    tree = scipy.spatial.cKDTree(all_electrodes)
    left_out = len(rows) - len(names)
    if left_out:
        logger.info(f"{left_out} of {len(rows)} EEG channels of the forward are not in the data and are left out.")
    order = {name: row for row, name in enumerate(rows)}
    return SourceModel(
        ch_names=names,
        electrodes=all_electrodes[[order[name] for name in names]],
        leadfield=leadfield,
        positions=positions,
        normals=normals,
        vertices=[np.array(space["vertno"], dtype=np.int64) for space in fwd["src"]],
        neighbours=neighbours,
        depth=tree.query(positions)[0],
        graph=graph,
        nodes=nodes,
        subject=fwd["src"][0].get("subject_his_id"),
    )


def _check_spaces(fwd: mne.Forward) -> None:
    """Refuse what has no orientation, no surface, or no source."""
    kinds = [space["type"] for space in fwd["src"]]
    # MNE calls a grid that was made without an MRI discrete, and gives it normals that mean nothing.
    if "vol" in kinds or any("neighbor_vert" in space for space in fwd["src"] if space["type"] == "discrete"):
        raise ContractError(
            "The forward has a volume source space, whose dipoles have no known direction; make it with surface "
            "source spaces (mne.setup_source_space), deep points as a discrete source space with normals."
        )
    if "surf" not in kinds:
        raise ContractError(
            "The forward has no source space on a surface; make it with surface source spaces (mne.setup_source_space)."
        )
    if any(space["type"] == "surf" and not len(space.get("tris", ())) for space in fwd["src"]):
        raise ContractError(
            "A source space of the forward has no triangles, so nothing tells which sources are neighbours; "
            "make it with mne.setup_source_space."
        )
    if sum(int(space["nuse"]) for space in fwd["src"] if space["type"] == "surf") < 2:
        raise ContractError("The forward has fewer than two sources on the cortex; make it with a denser source space.")
    n_sources = sum(len(space["vertno"]) for space in fwd["src"])
    n_columns = np.shape(fwd["sol"]["data"])[1]
    if n_columns != n_sources * (1 if fwd["source_ori"] == _FIXED else 3):
        raise ContractError(
            f"The leadfield has {n_columns} columns for {n_sources} sources, so the two do not belong together; "
            "compute the forward anew."
        )


def _electrode_positions(info: mne.Info, picks: Sequence[int]) -> np.ndarray:
    positions = np.array([info["chs"][pick]["loc"][:3] for pick in picks], dtype=float)
    with np.errstate(invalid="ignore"):
        known = np.isfinite(positions).all(axis=1) & (np.linalg.norm(positions, axis=1) > _NOT_A_POSITION)
    if not known.all():
        unknown = [info["ch_names"][pick] for pick, is_known in zip(picks, known, strict=True) if not is_known]
        raise ContractError(
            f"The forward has no position for {_listed(unknown)}; set a montage and compute the forward anew."
        )
    return positions


def _normals(space: dict[str, Any]) -> np.ndarray:
    """Directions of the sources: the mean over the patch of cortex that each stands for, where patches are known."""
    patches, members = space.get("patch_inds"), space.get("pinfo")
    if space["type"] != "surf" or patches is None or members is None:
        return np.array(space["nn"][space["vertno"]], dtype=float)
    mean = np.array([space["nn"][members[patch]].mean(axis=0) for patch in patches], dtype=float)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def _fixed(fwd: mne.Forward, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leadfield in µV per nAm and directions, in the frame of the forward."""
    data = np.asarray(fwd["sol"]["data"], dtype=float)[rows] * _UNIT
    if fwd["source_ori"] == _FIXED:
        return data, np.array(fwd["source_nn"], dtype=float)
    normals = np.concatenate([_normals(space) for space in fwd["src"]])
    n_sources = len(normals)
    axes = np.asarray(fwd["source_nn"], dtype=float).reshape(n_sources, 3, 3)
    # A dipole along the normal, in the three axes that the forward holds per source: x, y, z or those of the surface.
    along = np.einsum("ikj,ij->ik", axes, normals)
    return np.einsum("cik,ik->ci", data.reshape(len(rows), n_sources, 3), along), normals


def _surfaces(
    src: mne.SourceSpaces,
) -> tuple[scipy.sparse.csr_array, np.ndarray, scipy.sparse.csr_array]:
    """Edges of all surfaces, which of their vertices are sources, and which sources are neighbours."""
    graphs, nodes, neighbours, offset = [], [], [], 0
    for space in src:
        vertices = np.asarray(space["vertno"], dtype=np.int64)
        if space["type"] != "surf":
            nodes.append(np.full(len(vertices), -1))
            neighbours.append(scipy.sparse.csr_array((len(vertices), len(vertices)), dtype=bool))
            continue
        graph = edge_graph(space["rr"], space["tris"])
        graphs.append(graph)
        nodes.append(vertices + offset)
        neighbours.append(_neighbours(space, vertices, graph))
        offset += graph.shape[0]
    joined = scipy.sparse.block_diag(neighbours, format="csr", dtype=bool)
    return (
        scipy.sparse.csr_array(scipy.sparse.block_diag(graphs, format="csr")),
        np.concatenate(nodes),
        scipy.sparse.csr_array(joined),
    )


def _neighbours(space: dict[str, Any], vertices: np.ndarray, graph: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    """Edges of the source space's own triangulation between sources that are left.

    Where there is none (all vertices, every n-th vertex), and for sources that lost all their neighbours, cells that
    touch on the full surface decide.
    """
    tris = space.get("use_tris")
    if tris is None or not len(tris) or not np.isin(vertices, tris).all():
        return neighbours_along_surface(graph, vertices)
    adjacency = adjacency_of_triangles(tris, graph.shape[0])[vertices][:, vertices]
    alone = np.diff(adjacency.indptr) == 0
    if alone.any() and len(vertices) > 1:
        touching = neighbours_along_surface(graph, vertices).tocoo()
        first, second = touching.coords
        bridge = alone[first] | alone[second]
        values = (np.ones(int(bridge.sum()), bool), (first[bridge], second[bridge]))
        adjacency = adjacency + scipy.sparse.csr_array(values, shape=adjacency.shape)
    return scipy.sparse.csr_array(adjacency, dtype=bool)
