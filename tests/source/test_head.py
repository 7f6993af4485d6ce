"""What is taken from a forward, and what is wrong with some."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from pathlib import Path

import mne
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mne_labram.signal.contract import ContractError
from mne_labram.source.head import SourceModel, source_model
from mne_labram.source.headmodel import default_forward
from mne_labram.source.mesh import adjacency_of_triangles


@pytest.fixture(scope="module")
def free_forward(head_cache: Path, template_forward: mne.Forward) -> mne.Forward:
    """Return the same forward before its orientations were fixed."""
    return mne.convert_forward_solution(template_forward, surf_ori=False, force_fixed=False, verbose="ERROR")


def _cut(fwd: mne.Forward, keep: Callable[[np.ndarray], np.ndarray]) -> mne.Forward:
    """Drop sources from a fixed forward as MNE drops them: ``inuse`` changes and ``use_tris`` does not."""
    fwd = fwd.copy()
    kept = []
    for space in fwd["src"]:
        chosen = keep(space["rr"][space["vertno"]])
        kept.append(chosen)
        space["inuse"][space["vertno"][~chosen]] = 0
        space["vertno"] = space["vertno"][chosen]
        space["nuse"] = len(space["vertno"])
        space["patch_inds"] = None
    kept = np.concatenate(kept)
    fwd["sol"]["data"] = fwd["sol"]["data"][:, kept]
    fwd["source_nn"], fwd["source_rr"] = fwd["source_nn"][kept], fwd["source_rr"][kept]
    fwd["nsource"] = int(kept.sum())
    return fwd


def test_arrays_are_those_of_the_forward(template_forward: mne.Forward, template_model: SourceModel) -> None:
    model = template_model
    assert model.ch_names == template_forward["info"]["ch_names"]
    assert model.leadfield.dtype == np.float64
    np.testing.assert_allclose(model.leadfield, template_forward["sol"]["data"] * 1e-3, rtol=1e-6)
    np.testing.assert_allclose(model.positions, template_forward["source_rr"])
    np.testing.assert_allclose(model.normals, template_forward["source_nn"])
    np.testing.assert_allclose(np.linalg.norm(model.normals, axis=1), 1)
    np.testing.assert_allclose(model.electrodes, [ch["loc"][:3] for ch in template_forward["info"]["chs"]])
    assert [len(each) for each in model.vertices] == [642, 642]
    assert (model.n_channels, model.n_sources, model.subject) == (32, 1284, "fsaverage")
    assert "32 channels, 1284 sources" in repr(model)
    distance = np.linalg.norm(model.positions[:, None] - model.electrodes, axis=2).min(axis=1)
    np.testing.assert_allclose(model.depth, distance)


def test_everything_is_read_only(template_model: SourceModel) -> None:
    model = template_model
    for array in (model.leadfield, model.positions, model.vertices[0], model.neighbours.data, model.averaged):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    with pytest.raises(AttributeError):
        model.leadfield = model.leadfield


def test_a_copy_in_another_process_is_the_same(template_model: SourceModel) -> None:
    there = pickle.loads(pickle.dumps(template_model))
    assert there.digest == template_model.digest
    np.testing.assert_array_equal(there.leadfield, template_model.leadfield)


@pytest.mark.parametrize("surf_ori", [False, True])
def test_free_orientations_are_fixed_as_mne_does(
    free_forward: mne.Forward, template_model: SourceModel, surf_ori: bool
) -> None:
    free = mne.convert_forward_solution(free_forward, surf_ori=surf_ori, verbose="ERROR")
    assert free["sol"]["data"].shape[1] == 3 * 1284
    before = free["sol"]["data"].copy()
    model = source_model(free)
    # MNE rounds fixed forwards to single precision.
    scale = np.abs(template_model.leadfield).max()
    np.testing.assert_allclose(model.leadfield, template_model.leadfield, atol=1e-6 * scale)
    np.testing.assert_allclose(model.normals, template_model.normals, atol=1e-12)
    np.testing.assert_array_equal(free["sol"]["data"], before)


def test_forward_in_the_frame_of_the_mri(free_forward: mne.Forward, template_model: SourceModel) -> None:
    moved = free_forward.copy()
    to_mri = mne.transforms.invert_transform(moved["mri_head_t"])
    rotation = to_mri["trans"][:3, :3]
    for space in moved["src"]:
        mne.transforms.transform_surface_to(space, "mri", to_mri)
    by_axis = moved["sol"]["data"].reshape(32, -1, 3)
    moved["sol"]["data"] = np.einsum("csi,ji->csj", by_axis, rotation).reshape(32, -1)
    moved["coord_frame"] = 5
    model = source_model(moved)
    np.testing.assert_allclose(model.positions, template_model.positions, atol=1e-7)
    np.testing.assert_allclose(model.normals, template_model.normals, atol=1e-6)
    scale = np.abs(template_model.leadfield).max()
    np.testing.assert_allclose(model.leadfield, template_model.leadfield, atol=1e-6 * scale)


def test_averaged_is_free_of_any_reference(template_model: SourceModel) -> None:
    np.testing.assert_allclose(template_model.averaged.mean(axis=0), 0, atol=1e-15)
    difference = template_model.averaged - template_model.leadfield
    np.testing.assert_allclose(difference, np.tile(difference[0], (32, 1)), atol=1e-12)


def test_channels_follow_the_data(template_forward: mne.Forward, template_model: SourceModel) -> None:
    names = template_model.ch_names[20:5:-1]
    rows = [template_model.ch_names.index(name) for name in names]
    for model in (source_model(template_forward, names), template_model.pick(names)):
        assert model.ch_names == names
        np.testing.assert_array_equal(model.leadfield, template_model.leadfield[rows])
        np.testing.assert_array_equal(model.electrodes, template_model.electrodes[rows])
        # Depth is a matter of the head and not of the cap.
        np.testing.assert_array_equal(model.depth, template_model.depth)
        assert model.digest != template_model.digest


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["EEG 001", "EEG 002"], "no EEG channel in common"),
        (["Fp1", "AF3", "F7", "F3", "FC1", "FC5", "T7", "C3", "Fp3"], "has no EEG channel 'Fp3'"),
        (["Fp1", "AF3", "F7", "F3", "FC1", "FC5", "T7", "Fp1"], "'Fp1' were asked for more than once"),
        (["Fp1", "AF3", "F7", "F3", "FC1", "FC5", "T7"], "at least 8 EEG channels and there are 7"),
    ],
)
def test_channels_that_do_not_fit(template_forward: mne.Forward, names: list[str], sentence: str) -> None:
    for attempt in (lambda: source_model(template_forward, names), lambda: source_model(template_forward).pick(names)):
        with pytest.raises(ContractError, match=sentence) as caught:
            attempt()
        assert "\n" not in str(caught.value)
        assert str(caught.value).endswith(".")


def test_one_string_is_no_list(template_model: SourceModel) -> None:
    with pytest.raises(TypeError, match="got one string"):
        template_model.pick("Fp1")


def test_neighbours_are_those_of_the_icosahedron(template_model: SourceModel) -> None:
    neighbours = template_model.neighbours
    counts = np.diff(neighbours.indptr)
    # 12 corners of each icosahedron have five neighbours.
    assert sorted(np.bincount(counts)[5:]) == [24, 1260]
    assert (neighbours != neighbours.T).nnz == 0
    first, second = neighbours.nonzero()
    assert ((first < 642) == (second < 642)).all()
    assert np.linalg.norm(template_model.positions[first] - template_model.positions[second], axis=1).max() < 0.025


def test_distances_are_those_of_mne(template_forward: mne.Forward, template_model: SourceModel) -> None:
    found = template_model.distances(0.03)
    assert found is template_model.distances(0.03)
    src = template_forward["src"].copy()
    mne.add_source_space_distances(src, dist_limit=0.03, verbose="ERROR")
    vertices = src[0]["vertno"]
    theirs = src[0]["dist"][vertices][:, vertices].toarray()
    np.testing.assert_allclose(found[:642][:, :642].toarray(), theirs, atol=1e-6)
    assert found[:642][:, 642:].nnz == 0
    with pytest.raises(ValueError, match="limit must be positive"):
        template_model.distances(0.0)


def test_dropped_sources_leave_no_hole_in_distances(template_forward: mne.Forward, template_model: SourceModel) -> None:
    hole = template_model.positions[100]
    cut = _cut(template_forward, lambda rr: np.linalg.norm(rr - hole, axis=1) > 0.025)
    model = source_model(cut)
    kept = np.concatenate([np.isin(*each) for each in zip(template_model.vertices, model.vertices, strict=True)])
    assert 5 < (~kept).sum() < 60
    np.testing.assert_array_equal(model.leadfield, template_model.leadfield[:, kept])
    whole = template_model.distances(0.05).toarray()[np.ix_(kept, kept)]
    np.testing.assert_allclose(model.distances(0.05).toarray(), whole)
    neighbours = template_model.neighbours.toarray()[np.ix_(kept, kept)]
    np.testing.assert_array_equal(model.neighbours.toarray(), neighbours)


def test_a_source_without_neighbours_finds_those_beyond(
    template_forward: mne.Forward, template_model: SourceModel
) -> None:
    ring = template_model.positions[template_model.neighbours[[100]].indices]
    cut = _cut(template_forward, lambda rr: (np.linalg.norm(rr[:, None] - ring, axis=2) > 1e-6).all(axis=1))
    model = source_model(cut)
    alone = int(np.flatnonzero(model.vertices[0] == template_model.vertices[0][100])[0])
    beyond = model.neighbours[[alone]].indices
    assert len(beyond) >= 3
    assert np.linalg.norm(model.positions[beyond] - model.positions[alone], axis=1).max() < 0.06
    assert (model.neighbours != model.neighbours.T).nnz == 0
    assert (np.diff(model.neighbours.indptr) > 0).all()


def test_source_space_without_triangles_of_its_own(template_forward: mne.Forward, template_model: SourceModel) -> None:
    """Integer spacings and labels have none: cells that touch decide."""
    fwd = template_forward.copy()
    for space in fwd["src"]:
        space["use_tris"], space["nuse_tri"] = None, 0
    found = source_model(fwd).neighbours.toarray()
    wanted = template_model.neighbours.toarray()
    assert (found & wanted).sum() > 0.95 * wanted.sum()
    assert (found & ~wanted).sum() < 0.06 * wanted.sum()


def test_all_vertices_as_sources_are_neighbours_along_edges(template_forward: mne.Forward) -> None:
    fwd = template_forward.copy()
    space = fwd["src"][0]
    points, tris = space["rr"][space["vertno"]], np.searchsorted(space["vertno"], space["use_tris"])
    for each in fwd["src"]:
        each.update(rr=points, nn=space["nn"][:642], tris=tris, ntri=len(tris), np=642, use_tris=None, nuse_tri=0)
        each.update(vertno=np.arange(642), inuse=np.ones(642, int), nuse=642)
    found = source_model(fwd).neighbours[:642][:, :642].toarray()
    np.testing.assert_array_equal(found, adjacency_of_triangles(tris, 642).toarray())


def _volume(fwd: mne.Forward) -> None:
    fwd["src"][0]["type"] = "vol"


def _discrete(fwd: mne.Forward) -> None:
    for space in fwd["src"]:
        space["type"] = "discrete"


def _flat(fwd: mne.Forward) -> None:
    fwd["src"][1]["tris"] = np.zeros((0, 3), int)


def _nan_leadfield(fwd: mne.Forward) -> None:
    fwd["sol"]["data"][3, 7] = np.nan


def _nan_normal(fwd: mne.Forward) -> None:
    fwd["source_nn"][7] = np.nan


def _dead(fwd: mne.Forward) -> None:
    fwd["sol"]["data"][3] = 0


def _lost(fwd: mne.Forward) -> None:
    fwd["info"]["chs"][4]["loc"][:3] = np.nan


def _at_the_origin(fwd: mne.Forward) -> None:
    fwd["info"]["chs"][4]["loc"][:3] = 0


def _shifted(fwd: mne.Forward) -> None:
    fwd["src"][0]["vertno"] = fwd["src"][0]["vertno"][1:]


def _single(fwd: mne.Forward) -> None:
    for space, n_left in zip(fwd["src"], (1, 0), strict=True):
        space["vertno"], space["nuse"] = space["vertno"][:n_left], n_left


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_shifted, "1284 columns for 1283 sources"),
        (_single, "fewer than two sources"),
        (_volume, "volume source space"),
        (_discrete, "no source space on a surface"),
        (_flat, "has no triangles"),
        (_nan_leadfield, "leadfield of the forward contain NaN"),
        (_nan_normal, "source normals of the forward contain NaN"),
        (_dead, "leadfield of 'F3' is zero everywhere"),
        (_lost, "no position for 'FC1'"),
        (_at_the_origin, "no position for 'FC1'"),
    ],
)
def test_what_is_wrong_with_a_forward_is_one_sentence(
    template_forward: mne.Forward, spoil: Callable[[mne.Forward], None], sentence: str
) -> None:
    fwd = copy.deepcopy(template_forward)
    spoil(fwd)
    with pytest.raises(ContractError, match=sentence) as caught:
        source_model(fwd)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


def test_what_is_no_forward() -> None:
    with pytest.raises(TypeError, match="must be an mne.Forward, got str"):
        source_model("sample-fwd.fif")


def test_forward_without_eeg(template_forward: mne.Forward) -> None:
    fwd = template_forward.copy()
    with fwd["info"]._unlock():
        for ch in fwd["info"]["chs"]:
            ch["kind"] = 502  # FIFFV_MISC_CH
    with pytest.raises(ContractError, match="no EEG channels"):
        source_model(fwd)


def test_channels_of_other_kinds_are_passed_over(template_forward: mne.Forward, template_model: SourceModel) -> None:
    fwd = template_forward.copy()
    with fwd["info"]._unlock():
        for ch in fwd["info"]["chs"][3:7]:
            ch["kind"] = 502
    names = [name for index, name in enumerate(template_model.ch_names) if not 3 <= index < 7]
    model = source_model(fwd)
    assert model.ch_names == names
    np.testing.assert_array_equal(model.leadfield, template_model.pick(names).leadfield)
    assert (model.depth >= template_model.depth).all()


@given(st.data())
def test_picking_twice_is_picking_once(template_model: SourceModel, data: st.DataObject) -> None:
    names = template_model.ch_names
    first = data.draw(st.lists(st.sampled_from(names), min_size=8, unique=True))
    second = data.draw(st.lists(st.sampled_from(first), min_size=8, unique=True))
    once, twice = template_model.pick(second), template_model.pick(first).pick(second)
    assert once.digest == twice.digest
    assert once.ch_names == second
    np.testing.assert_array_equal(once.averaged, twice.averaged)
    np.testing.assert_allclose(once.averaged.mean(axis=0), 0, atol=1e-14)


def test_deep_points_take_part_with_their_own_direction(head_cache: Path) -> None:
    names = mne.channels.make_standard_montage("biosemi32").ch_names
    fwd = default_forward(mne.create_info(names, 250.0, "eeg"), deep=True, verbose="ERROR")
    model = source_model(fwd)
    n_deep = int(model.deep.sum())
    assert n_deep == sum(len(each) for each in model.vertices[2:]) > 80
    assert len(model.vertices) == 12
    np.testing.assert_array_equal(np.flatnonzero(model.deep), np.arange(1284, 1284 + n_deep))
    assert model.neighbours[1284:].nnz == 0
    assert model.distances(0.03)[1284:].nnz == 0
    # Up, in the frame of the MRI, which is tilted against that of the head.
    assert (model.normals[model.deep] @ (0, 0, 1) > 0.9).all()
    assert f"{n_deep} of them deep" in repr(model)
    assert np.median(model.depth[model.deep]) > np.median(model.depth[~model.deep])
    cartesian = mne.convert_forward_solution(fwd, surf_ori=False, verbose="ERROR")
    again = source_model(cartesian)
    np.testing.assert_allclose(again.leadfield, model.leadfield, atol=1e-9)
    assert again.digest == model.digest


def test_the_volume_grid_of_a_real_subject_is_refused(shared_data: Path, template_forward: mne.Forward) -> None:
    folder = shared_data / "mne_sample_evoked"
    evoked = mne.read_evokeds(folder / "test-ave.fif.gz", condition=0, verbose="ERROR")
    bem = mne.read_bem_solution(folder / "sample-320-320-320-bem-sol.fif", verbose="ERROR")
    src = mne.setup_volume_source_space(pos=30.0, bem=bem, mindist=10.0, verbose="ERROR")
    trans = folder / "sample_audvis_trunc-trans.fif"
    fwd = mne.make_forward_solution(evoked.info, trans, src, bem, meg=False, verbose="ERROR")
    with pytest.raises(ContractError, match="volume source space"):
        source_model(fwd)
    # Beside a cortex too.
    mixed = template_forward.copy()
    mixed["src"] += fwd["src"]
    with pytest.raises(ContractError, match="volume source space"):
        source_model(mixed)


def test_distances_are_measured_once_for_a_cortex(template_model: SourceModel) -> None:
    """Another head of the same sources takes them; one of other sources does not."""
    other = template_model.pick(template_model.ch_names[:12])
    other.share_distances(template_model)
    assert other.distances(0.02) is template_model.distances(0.02)
    assert template_model.pick(template_model.ch_names[:9]).distances(0.02) is template_model.distances(0.02)
    fewer = dataclasses.replace(
        template_model, nodes=np.where(np.arange(template_model.n_sources) == 5, -1, template_model.nodes)
    )
    with pytest.raises(ContractError, match="between heads of the same sources"):
        fewer.share_distances(template_model)
