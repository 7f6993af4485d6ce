"""The head that DeepSIF's authors publish, against ours."""

from __future__ import annotations

import shutil
from pathlib import Path

import mne
import numpy as np
import pytest
import scipy

from mne_labram.signal.contract import ContractError
from mne_labram.source.deepsif import deepsif_model
from mne_labram.source.head import SourceModel, source_model
from mne_labram.source.headmodel import default_forward

FILES = ("leadfield_75_20k.mat", "fs_cortex_20k.mat", "fs_cortex_20k_region_mapping.mat", "electrode_75.mat")


@pytest.fixture(scope="module")
def anatomy(shared_data: Path) -> Path:
    return shared_data / "deepsif_ictal" / "anatomy"


@pytest.fixture(scope="module")
def published(anatomy: Path) -> tuple[SourceModel, np.ndarray]:
    return deepsif_model(anatomy)


def test_sources_are_regions(anatomy: Path, published: tuple[SourceModel, np.ndarray]) -> None:
    model, regions = published
    assert (model.n_channels, model.n_sources) == (75, 994)
    np.testing.assert_array_equal(np.sort(regions), np.arange(994))
    leadfield = scipy.io.loadmat(anatomy / FILES[0])["fwd"]
    ratio = leadfield[:, regions] / model.leadfield
    np.testing.assert_allclose(ratio, ratio[0, 0])
    mapping = scipy.io.loadmat(anatomy / FILES[2])["rm"].ravel()
    np.testing.assert_array_equal(mapping[model.nodes], regions)
    # What MNE asks of an estimate.
    mne.SourceEstimate(np.zeros((994, 1)), model.vertices, 0, 1)
    assert sum(map(len, model.vertices)) == 994
    np.testing.assert_array_equal(np.concatenate([model.vertices[0], model.vertices[1] + 10242]), model.nodes)


def test_regions_that_touch_are_neighbours(anatomy: Path, published: tuple[SourceModel, np.ndarray]) -> None:
    model, regions = published
    counts = np.diff(model.neighbours.indptr)
    assert counts.min() >= 2
    assert np.median(counts) == 6
    assert (model.neighbours != model.neighbours.T).nnz == 0
    theirs = np.zeros((994, 994), bool)
    for region, others in enumerate(scipy.io.loadmat(anatomy / FILES[2])["nbs"].ravel()):
        # Regions are counted from 1 there, and from 0 in the mapping.
        theirs[region, others.ravel().astype(int) - 1] = True
    theirs = (theirs | theirs.T)[np.ix_(regions, regions)]
    assert (theirs & model.neighbours.toarray()).sum() > 0.9 * model.neighbours.nnz
    assert 500 < model.distances(0.03).nnz / 20 < 2000


def test_leadfield_agrees_with_ours(published: tuple[SourceModel, np.ndarray], anatomy: Path) -> None:
    model, regions = published
    info = mne.create_info(model.ch_names, 250.0, "eeg")
    for ch, position in zip(info["chs"], model.electrodes, strict=True):
        ch["loc"][:3], ch["loc"][3:], ch["coord_frame"] = position, 0, 4
    ours = source_model(default_forward(info, spacing="ico5", verbose="ERROR"))
    vertices = np.concatenate([ours.vertices[0], ours.vertices[1] + 10242])
    mapping = scipy.io.loadmat(anatomy / FILES[2])["rm"].ravel()
    summed = np.zeros((994, 75))
    np.add.at(summed, mapping[vertices], ours.leadfield.T)
    summed = summed[regions].T
    summed -= summed.mean(axis=0)
    sizes = np.linalg.norm(model.averaged, axis=0) / np.linalg.norm(summed, axis=0)
    alike = (model.averaged * summed).sum(axis=0)
    alike /= np.linalg.norm(model.averaged, axis=0) * np.linalg.norm(summed, axis=0)
    assert np.median(alike) > 0.93
    assert np.percentile(np.abs(alike), 5) > 0.85
    assert 0.9 < np.median(sizes) < 1.1
    assert np.percentile(sizes, 95) < 1.5 * np.percentile(sizes, 5) * 1.3
    # A reversed sign in 21 regions, which also lie the wrong way about their own normals.
    assert (alike < 0).sum() == 21
    place = model.electrodes - model.electrodes.mean(axis=0)
    direction = model.averaged.T @ place
    along = (direction * model.normals).sum(axis=1) / np.linalg.norm(direction, axis=1)
    np.testing.assert_array_equal(along < 0, alike < 0)


def test_missing_and_mixed_files(anatomy: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="There is no leadfield_75_20k.mat"):
        deepsif_model(tmp_path)
    for name in FILES[1:]:
        shutil.copy(anatomy / name, tmp_path / name)
    leadfield = scipy.io.loadmat(anatomy / FILES[0])["fwd"]
    scipy.io.savemat(tmp_path / FILES[0], {"fwd": leadfield[:, :500]})
    with pytest.raises(ContractError, match="do not belong together"):
        deepsif_model(tmp_path)
