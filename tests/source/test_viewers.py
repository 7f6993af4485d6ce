"""MNE's own viewers show estimates in the template's head, without a download."""

from __future__ import annotations

from pathlib import Path

import mne
import numpy as np
import pytest

from mne_labram.source.headmodel import template_cortex
from mne_labram.source.viewers import write_template_surfaces


@pytest.fixture(scope="module")
def subjects_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_template_surfaces(tmp_path_factory.mktemp("subjects") / "new")


def test_vertices_are_where_sources_are(subjects_dir: Path, request: pytest.FixtureRequest) -> None:
    src = template_cortex(cache=request.config.cache.mkdir("mne_labram"))
    for hemisphere, space in zip(("lh", "rh"), src, strict=True):
        folder = subjects_dir / "fsaverage" / "surf"
        rr, tris = mne.read_surface(folder / f"{hemisphere}.white")
        assert rr.shape == (10242, 3)
        np.testing.assert_allclose(rr[space["vertno"]] / 1000, space["rr"][space["vertno"]], atol=1e-6)
        inflated, same = mne.read_surface(folder / f"{hemisphere}.inflated")
        np.testing.assert_array_equal(same, tris)
        assert np.ptp(inflated[:, 1]) > 100


# The only one of MNE's viewers that needs no OpenGL, until 1.15.
@pytest.mark.filterwarnings("ignore:Plotting source estimates with the matplotlib 3D backend:FutureWarning")
def test_an_estimate_is_drawn_where_it_is(subjects_dir: Path, request: pytest.FixtureRequest) -> None:
    src = template_cortex(cache=request.config.cache.mkdir("mne_labram"))
    vertices = [space["vertno"] for space in src]
    places = src[1]["rr"][vertices[1]]
    active = np.argsort(places[:, 1])[:30]
    data = np.zeros((sum(map(len, vertices)), 1))
    data[len(vertices[0]) + active] = 10e-9
    stc = mne.SourceEstimate(data, vertices, 0.0, 1.0, "fsaverage")
    figure = stc.plot(
        subjects_dir=subjects_dir, hemi="rh", views="lat", backend="matplotlib", spacing="ico5", surface="white",
        clim={"kind": "value", "lims": [1e-9, 4e-9, 9e-9]}, colorbar=False, background="white", time_viewer=False,
    )  # fmt: skip
    figure.canvas.draw()
    red, green, blue = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(float).transpose(2, 0, 1)
    coloured = np.argwhere(np.maximum(red - blue, 0) + np.maximum(green - blue, 0) > 60)
    brain = np.argwhere(np.abs(red - 255) + np.abs(blue - 255) > 20)
    # From the side, the back of the right hemisphere is at the left.
    assert len(coloured) > 50
    assert coloured[:, 1].mean() < np.quantile(brain[:, 1], 0.3)


def test_surfaces_that_are_there_are_left_alone(subjects_dir: Path) -> None:
    file = subjects_dir / "fsaverage" / "surf" / "lh.pial"
    before = file.read_bytes()
    with pytest.raises(FileExistsError, match="exists; pass overwrite=True"):
        write_template_surfaces(subjects_dir)
    file.write_bytes(b"old")
    write_template_surfaces(subjects_dir, overwrite=True)
    assert file.read_bytes() == before
