"""Two heads: spheres, made in milliseconds, and the template's, solved once and kept beside pytest's own cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import mne
import numpy as np
import pytest
from scipy.spatial import ConvexHull

from mne_labram.signal.head_field import dipole_potentials
from mne_labram.signal.positions import electrode_positions
from mne_labram.source.head import SourceModel, source_model
from mne_labram.source.headmodel import default_forward
from mne_labram.source.mesh import adjacency_of_triangles, edge_graph


@pytest.fixture(scope="session")
def sphere_head() -> Callable[..., SourceModel]:
    """Make a ``SourceModel``: sources on the upper part of a sphere, 10-20 names, optional deep points."""

    def make(
        n_sources: int = 300, ch_names: Sequence[str] | None = None, n_deep: int = 0, eccentricity: float = 0.85
    ) -> SourceModel:
        names = list(ch_names or mne.channels.make_standard_montage("biosemi32").ch_names)
        electrodes = electrode_positions(names)[:, :3]
        system = np.column_stack([2 * electrodes, np.ones(len(names))])
        centre = np.linalg.lstsq(system, (electrodes**2).sum(axis=1), rcond=None)[0][:3]
        directions = electrodes - centre
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        # Points of a Fibonacci lattice are almost evenly apart.
        height = 1 - 2 * (np.arange(n_sources) + 0.5) / n_sources
        angle = np.pi * (3 - np.sqrt(5)) * np.arange(n_sources)
        around = np.sqrt(1 - height**2)
        outwards = np.column_stack([around * np.cos(angle), around * np.sin(angle), height])
        tris = ConvexHull(outwards).simplices
        neighbours = adjacency_of_triangles(tris, n_sources)
        graph = edge_graph(0.08 * outwards, tris)
        # Normals along the surface in part, as in the walls of sulci.
        tangent = np.cross(outwards, np.roll(outwards, 1, axis=1))
        normals = outwards + 0.5 * tangent
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        scale = 1e-3 / (4 * np.pi * 0.33 * 0.09**2)
        leadfield = scale * dipole_potentials(directions, outwards, normals, eccentricity)
        positions = 0.08 * outwards
        nodes = np.arange(n_sources)
        vertices = [np.arange(n_sources)]
        if n_deep:
            deep = np.column_stack([np.linspace(-0.02, 0.02, n_deep), np.zeros(n_deep), np.zeros(n_deep)])
            up = np.tile([0.0, 0.0, 1.0], (n_deep, 1))
            outside = scale * dipole_potentials(directions, up, up, 0.2)
            leadfield = np.column_stack([leadfield, outside])
            positions, normals = np.concatenate([positions, deep]), np.concatenate([normals, up])
            nodes = np.concatenate([nodes, np.full(n_deep, -1)])
            vertices.append(np.arange(n_deep))
            larger = neighbours.tocoo()
            shape = (n_sources + n_deep,) * 2
            neighbours = type(neighbours)((larger.data, larger.coords), shape=shape)
        placed = 0.09 * directions
        depth = np.linalg.norm(positions[:, np.newaxis] - placed, axis=2).min(axis=1)
        return SourceModel(names, placed, leadfield, positions, normals, vertices, neighbours, depth, graph, nodes)

    return make


@pytest.fixture(scope="session")
def head_cache(request: pytest.FixtureRequest) -> Path:
    """Folder where solved head models stay from one run to the next: beside pytest's own cache, not at home."""
    return Path(request.config.cache.mkdir("mne_labram"))


@pytest.fixture(autouse=True)
def _cache_of_tests(head_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNE_LABRAM_CACHE", str(head_cache))


@pytest.fixture(scope="session")
def template_forward(head_cache: Path) -> mne.Forward:
    """Return the default forward of 32 electrodes; not to be modified."""
    names = mne.channels.make_standard_montage("biosemi32").ch_names
    return default_forward(mne.create_info(names, 250.0, "eeg"), cache=head_cache, verbose="ERROR")


@pytest.fixture(scope="session")
def template_model(template_forward: mne.Forward) -> SourceModel:
    """Return what is taken from it."""
    return source_model(template_forward)
