"""MNE's spherical head, whose frames MNE 1.13 mixes up."""

from __future__ import annotations

from pathlib import Path

import mne
import numpy as np
import pytest

from mne_labram.signal.contract import ContractError
from mne_labram.source.head import SourceModel, source_model
from mne_labram.source.headmodel import cortex_key
from mne_labram.source.sphere import dropped_by_frame_defect, sphere_forward
from mne_labram.source.surfaces import template_file


@pytest.fixture(scope="module")
def trans() -> mne.transforms.Transform:
    return mne.read_trans(template_file("fsaverage-trans.fif"))


@pytest.fixture(scope="module")
def src(head_cache: Path, template_forward: mne.Forward) -> mne.SourceSpaces:
    return mne.read_source_spaces(head_cache / f"cortex-{cortex_key('ico3')}-src.fif", verbose="ERROR")


@pytest.fixture(scope="module")
def info(template_model: SourceModel) -> mne.Info:
    info = mne.create_info(template_model.ch_names, 250.0, "eeg")
    places = dict(zip(template_model.ch_names, template_model.electrodes, strict=True))
    return info.set_montage(mne.channels.make_dig_montage(places, coord_frame="head"))


@pytest.fixture(scope="module")
def sphere(info: mne.Info) -> mne.bem.ConductorModel:
    return mne.make_sphere_model("auto", "auto", info, verbose="ERROR")


@pytest.fixture(scope="module")
def defective(
    info: mne.Info, trans: mne.transforms.Transform, src: mne.SourceSpaces, sphere: mne.bem.ConductorModel
) -> mne.Forward:
    return mne.make_forward_solution(info, trans, src, sphere, meg=False, verbose="ERROR")


def test_mne_drops_sources_that_lie_inside_the_sphere(
    defective: mne.Forward, template_model: SourceModel, sphere: mne.bem.ConductorModel
) -> None:
    """The defect itself: when this fails, MNE is repaired, and so may be what goes round it."""
    radius = min(layer["rad"] for layer in sphere["layers"])
    inside = np.linalg.norm(template_model.positions - sphere["r0"], axis=1) < radius
    assert inside.sum() > 1270
    assert defective["nsource"] < 1100


def test_defect_is_recognised_and_refused(defective: mne.Forward, template_model: SourceModel) -> None:
    assert dropped_by_frame_defect(defective, template_model.electrodes) == 1284 - defective["nsource"]
    with pytest.raises(ContractError, match=r"make it anew with mne_labram\.source\.sphere_forward") as caught:
        source_model(defective)
    assert "\n" not in str(caught.value)


def test_repaired_forward_has_all_sources_and_looks_like_the_bem(
    info: mne.Info,
    trans: mne.transforms.Transform,
    src: mne.SourceSpaces,
    sphere: mne.bem.ConductorModel,
    defective: mne.Forward,
    template_model: SourceModel,
) -> None:
    before = src[0]["rr"].copy()
    fwd = sphere_forward(info, src, trans, sphere=sphere, verbose="ERROR")
    np.testing.assert_array_equal(src[0]["rr"], before)
    assert fwd["nsource"] >= 1275
    to_head = mne.transforms.invert_transform(trans) if trans["from"] == 4 else trans
    np.testing.assert_allclose(fwd["mri_head_t"]["trans"], to_head["trans"])
    assert (fwd["mri_head_t"]["from"], fwd["mri_head_t"]["to"]) == (5, 4)
    model = source_model(fwd)
    kept = np.concatenate([np.isin(*each) for each in zip(template_model.vertices, model.vertices, strict=True)])
    np.testing.assert_allclose(model.positions, template_model.positions[kept], atol=1e-6)
    bem = template_model.averaged[:, kept]
    alike = (bem * model.averaged).sum(axis=0)
    size = np.linalg.norm(model.averaged, axis=0) / np.linalg.norm(bem, axis=0)
    alike /= np.linalg.norm(bem, axis=0) * np.linalg.norm(model.averaged, axis=0)
    assert np.percentile(alike, 5) > 0.95
    assert np.median(alike) > 0.98
    assert 0.8 < np.percentile(size, 5) < np.percentile(size, 95) < 1.5
    # Where MNE kept a source, the leadfield is the same.
    theirs = mne.convert_forward_solution(defective, surf_ori=True, force_fixed=True, verbose="ERROR")
    vertices = [space["vertno"] for space in theirs["src"]]
    common = np.concatenate([np.isin(*each) for each in zip(model.vertices, vertices, strict=True)])
    scale = np.abs(model.leadfield).max()
    np.testing.assert_allclose(model.leadfield[:, common], theirs["sol"]["data"] * 1e-3, atol=1e-5 * scale)


@pytest.mark.parametrize("given", ["auto", (0.0, 0.0, 0.04), "head to MRI"])
def test_ways_to_give_a_sphere(
    info: mne.Info, trans: mne.transforms.Transform, src: mne.SourceSpaces, given: object
) -> None:
    if given == "head to MRI":
        given, trans = "auto", mne.transforms.invert_transform(trans)
    fwd = sphere_forward(info, src, trans, sphere=given, verbose="ERROR")
    assert fwd["nsource"] > 1150


def test_transforms_between_other_frames(info: mne.Info, src: mne.SourceSpaces) -> None:
    with pytest.raises(ValueError, match="from the MRI to the head"):
        sphere_forward(info, src, mne.transforms.Transform("meg", "head", np.eye(4)))


@pytest.mark.parametrize("radius", [0.04, 0.06, 0.08, 0.09, 0.1, 0.11])
@pytest.mark.parametrize("middle", [(0, -0.1, 0.05), (0, 0, 0.12), (0.07, 0, 0.04), (0, 0.02, 0.05)])
def test_source_spaces_cut_down_on_purpose_are_not_mistaken(
    template_forward: mne.Forward, template_model: SourceModel, middle: tuple[float, ...], radius: float
) -> None:
    cut = template_forward.copy()
    for space in cut["src"]:
        near = np.linalg.norm(space["rr"][space["vertno"]] - middle, axis=1) < radius
        space["vertno"] = space["vertno"][near]
    assert dropped_by_frame_defect(cut, template_model.electrodes) == 0


def test_whole_forwards_are_not_suspected(template_forward: mne.Forward, template_model: SourceModel) -> None:
    assert dropped_by_frame_defect(template_forward, template_model.electrodes) == 0
