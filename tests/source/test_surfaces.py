"""The surfaces of the template's head."""

from __future__ import annotations

import dataclasses

import mne
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mne_labram.signal.contract import ContractError
from mne_labram.source.surfaces import HeadSurfaces, cast_rays, head_surfaces, icosphere, template_file


@pytest.fixture(scope="module")
def surfaces() -> HeadSurfaces:
    return head_surfaces(3)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_icosphere_is_closed_round_and_faces_outwards(n: int) -> None:
    points, tris = icosphere(n)
    assert len(points) == 10 * 4**n + 2
    assert len(tris) == 20 * 4**n
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1)
    assert len(np.unique(np.round(points, 9), axis=0)) == len(points)
    edges = np.concatenate([tris[:, [0, 1]], tris[:, [1, 2]], tris[:, [2, 0]]])
    # Every edge is run through once in either direction.
    assert len(np.unique(edges, axis=0)) == len(edges)
    assert {tuple(edge) for edge in edges.tolist()} == {tuple(edge[::-1]) for edge in edges.tolist()}
    a, b, c = points[tris].transpose(1, 0, 2)
    assert (np.einsum("ij,ij->i", np.cross(b - a, c - a), a) > 0).all()


@given(st.integers(0, 10_000))
def test_rays_meet_a_sphere_where_it_is(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points, tris = icosphere(3)
    directions = rng.standard_normal((20, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    centre = rng.uniform(-0.3, 0.3, 3)
    # From c along d to the unit sphere: t = -c.d + sqrt((c.d)^2 + 1 - |c|^2).
    along = directions @ centre
    true = -along + np.sqrt(along**2 + 1 - centre @ centre)
    found = cast_rays(centre, directions, points, tris)
    assert (found <= true + 1e-9).all()
    np.testing.assert_allclose(found, true, rtol=0.02)


def test_rays_take_the_farthest_hit_and_know_misses() -> None:
    points, tris = icosphere(2)
    both = np.concatenate([points, 2 * points])
    found = cast_rays(np.zeros(3), points, both, np.concatenate([tris, tris + len(points)]))
    np.testing.assert_allclose(found, 2, rtol=1e-9)
    one = tris[:1]
    middle = points[one[0]].mean(axis=0)
    middle /= np.linalg.norm(middle)
    found = cast_rays(np.zeros(3), np.stack([middle, -middle]), points, one)
    assert 0.9 < found[0] <= 1
    assert np.isnan(found[1])


def test_measured_surfaces_are_kept(surfaces: HeadSurfaces) -> None:
    (inner,) = mne.read_bem_surfaces(template_file("fsaverage-inner_skull-bem.fif"), verbose="ERROR")
    (head,) = mne.read_bem_surfaces(template_file("fsaverage-head.fif"), verbose="ERROR")
    above = surfaces.directions[:, 2] > 0
    for name, surface in (("inner_skull", inner), ("scalp", head)):
        vertices = surfaces.positions(name)[above]
        # The nearest vertex is at most an edge of the original surface away.
        away = np.linalg.norm(vertices[:, None] - surface["rr"][None], axis=2).min(axis=1)
        corners = surface["rr"][surface["tris"]]
        longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max()
        assert away.max() < longest
        assert np.median(away) < longest / 3


def test_surfaces_lie_around_one_another(surfaces: HeadSurfaces) -> None:
    skull = surfaces.outer_skull - surfaces.inner_skull
    assert 0.003 <= skull.min()
    assert skull.max() <= 0.008 + 1e-9
    assert (surfaces.scalp - surfaces.outer_skull).min() >= 0.002
    # Also away from the vertices: rays through the middle of triangles.
    middle = surfaces.directions[surfaces.tris].mean(axis=1)
    middle /= np.linalg.norm(middle, axis=1, keepdims=True)
    inner, outer, scalp = (
        cast_rays(surfaces.centre, middle, surfaces.positions(name), surfaces.tris)
        for name in ("inner_skull", "outer_skull", "scalp")
    )
    assert (inner < outer).all()
    assert (outer < scalp).all()


@pytest.mark.parametrize(("name", "factor"), [("outer_skull", 0.9), ("scalp", 0.5)])
def test_surfaces_that_touch_are_refused(surfaces: HeadSurfaces, name: str, factor: float) -> None:
    with pytest.raises(ContractError, match="touches"):
        dataclasses.replace(surfaces, **{name: getattr(surfaces, name) * factor})


def test_what_mne_does_not_ship_is_said() -> None:
    with pytest.raises(FileNotFoundError, match=r"does not ship nothing\.fif"):
        template_file("nothing.fif")
