"""Ellipsoids deep in the template's head."""

from __future__ import annotations

import mne
import numpy as np
import pytest

from mne_labram.source.deep_points import DEEP_STRUCTURES, deep_source_spaces
from mne_labram.source.surfaces import cast_rays, head_surfaces


@pytest.fixture(scope="module")
def src() -> mne.SourceSpaces:
    return deep_source_spaces()


def test_one_space_per_structure_and_side(src: mne.SourceSpaces) -> None:
    assert len(src) == 2 * len(DEEP_STRUCTURES) == 10
    for index, structure in enumerate(DEEP_STRUCTURES):
        left, right = src[2 * index : 2 * index + 2]
        assert left["type"] == right["type"] == "discrete"
        assert left["nuse"] == right["nuse"] >= 5
        np.testing.assert_allclose(np.sort(left["rr"] * (-1, 1, 1), axis=0), np.sort(right["rr"], axis=0))
        assert (right["rr"][:, 0] > 0).all()
        inside = ((1000 * right["rr"] - structure.centre) / structure.half_axes) ** 2
        assert inside.sum(axis=1).max() <= 1 + 1e-9
        np.testing.assert_allclose(1000 * right["rr"].mean(axis=0), structure.centre, atol=0.1)


def test_they_do_not_overlap_and_lie_well_inside_the_skull(src: mne.SourceSpaces) -> None:
    rr = np.concatenate([space["rr"] for space in src])
    apart = np.linalg.norm(rr[:, None] - rr, axis=2) + np.eye(len(rr))
    assert apart.min() > 0.002
    surfaces = head_surfaces(3)
    away = rr - surfaces.centre
    distance = np.linalg.norm(away, axis=1)
    skull = cast_rays(surfaces.centre, away / distance[:, None], surfaces.positions("inner_skull"), surfaces.tris)
    assert (skull - distance).min() > 0.015
