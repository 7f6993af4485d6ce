"""Heads of other sizes, and drawings of caps, come onto the template."""

from __future__ import annotations

import mne
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mne_labram.signal.alignment import align_to_template, fit_sphere
from mne_labram.signal.contract import ContractError
from mne_labram.signal.positions import positions_from_chs
from mne_labram.signal.template import canonical_electrode, montage_in_head_frame, template_positions

TEN_TWENTY = "FP1 FP2 F7 F3 FZ F4 F8 T7 C3 CZ C4 T8 P7 P3 PZ P4 P8 O1 O2".split()


def template(names: list[str]) -> np.ndarray:
    return np.array([template_positions()[name] for name in names])


def millimetres(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return 1e3 * np.linalg.norm(a - b, axis=1)


@given(st.floats(1e-3, 1e3), st.tuples(*[st.floats(-1, 1)] * 3), st.integers(5, 40), st.integers(0, 2**32 - 1))
def test_a_sphere_is_found(radius: float, centre: tuple, n: int, seed: int):
    directions = np.random.default_rng(seed).standard_normal((n, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    found_centre, found_radius = fit_sphere(radius * (directions + centre))
    assert found_radius == pytest.approx(radius, rel=1e-4)
    np.testing.assert_allclose(found_centre, radius * np.array(centre), atol=1e-4 * radius)


def test_a_plane_has_no_sphere():
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [2, 3, 0]])
    with pytest.raises(ValueError, match="plane"):
        fit_sphere(points)


@pytest.mark.parametrize("cap", ["biosemi32", "biosemi64", "easycap-M1"])
@pytest.mark.parametrize(("scale", "shift"), [(1.0, (0, 0, 0)), (10.5, (0, 0, -0.4)), (0.9, (0.02, -0.01, 0.03))])
def test_a_drawing_of_a_cap_lands_on_its_names(cap: str, scale: float, shift: tuple):
    drawing = {name: p for name, p in montage_in_head_frame(cap).items() if canonical_electrode(name)}
    aligned = align_to_template(scale * np.array(list(drawing.values())) + shift)
    error = millimetres(aligned, template([canonical_electrode(name) for name in drawing]))
    assert np.median(error) < 8
    assert error.max() < 16


def test_the_positions_of_an_eeglab_file_land_on_their_names(shared_data):
    raw = mne.io.read_raw(shared_data / "clinical_formats" / "eeglab_set" / "eeglab_data.set", verbose="ERROR")
    aligned = align_to_template(positions_from_chs(raw.info["chs"]))
    named = [i for i, name in enumerate(raw.ch_names) if canonical_electrode(name)]
    assert len(named) == 30
    error = millimetres(aligned[named], template([canonical_electrode(raw.ch_names[i]) for i in named]))
    assert error.max() < 13


@given(st.floats(0.88, 1.12), st.tuples(*[st.floats(-0.012, 0.012)] * 3))
def test_a_head_of_another_size_lands_on_the_template(scale: float, shift: tuple):
    points = template(TEN_TWENTY)
    moved = scale * (points - points.mean(0)) + points.mean(0) + shift
    assert millimetres(align_to_template(moved), points).max() < 4


def test_sensors_off_the_scalp_do_not_move_the_others():
    points = template(TEN_TWENTY)
    cheeks = np.array([[-0.05, 0.09, -0.06], [0.05, 0.09, -0.06], [0.0, 0.1, -0.09]])
    aligned = align_to_template(np.vstack([points, cheeks]))
    assert millimetres(aligned[:19], points).max() < 8.5


@given(st.lists(st.sampled_from(sorted(template_positions())), min_size=1, max_size=40, unique=True))
def test_the_template_stays_where_it_is(names: list[str]):
    points = template(names)
    aligned = align_to_template(points)
    assert millimetres(aligned, points).max() < 7
    assert millimetres(align_to_template(aligned), aligned).max() < 4


@pytest.mark.parametrize("cap", ["biosemi128", "EGI_256", "easycap-M10", "GSN-HydroCel-128"])
def test_aligning_twice_is_aligning_once(cap: str):
    once = align_to_template(np.array(list(montage_in_head_frame(cap).values())))
    assert millimetres(align_to_template(once), once).max() < 0.5


def test_another_head_template_of_mne_lands_within_a_centimetre_or_so():
    if "fsaverage_1010" not in mne.channels.get_builtin_montages():
        pytest.skip("MNE before 1.13 has no fsaverage montage.")
    head = {name: p for name, p in montage_in_head_frame("fsaverage_1010").items() if canonical_electrode(name)}
    points = np.array(list(head.values()))
    truth = template([canonical_electrode(name) for name in head])
    error = millimetres(align_to_template(points), truth)
    assert np.median(error) < 0.85 * np.median(millimetres(points, truth))
    assert error.max() < 22


def test_unknown_positions_stay_unknown_and_nothing_is_modified():
    points = template(TEN_TWENTY)
    points[3] = np.nan
    before = points.copy()
    aligned = align_to_template(points)
    np.testing.assert_array_equal(points, before)
    assert np.isnan(aligned[3]).all()
    assert np.isfinite(np.delete(aligned, 3, axis=0)).all()
    nothing = np.full((3, 3), np.nan)
    assert np.isnan(align_to_template(nothing)).all()
    assert align_to_template(np.empty((0, 3))).shape == (0, 3)


@pytest.mark.parametrize("factor", [1e3, 100.0, 1e-3])
def test_other_units_are_refused(factor: float):
    with pytest.raises(ContractError, match="metres"):
        align_to_template(factor * template(TEN_TWENTY))
