"""A head for recordings without an MRI."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mne
import numpy as np
import pytest
import scipy

from mne_labram.signal.contract import ContractError
from mne_labram.signal.template import template_positions
from mne_labram.source.head import SourceModel, source_model
from mne_labram.source.headmodel import (
    bem_key,
    cortex_key,
    default_forward,
    electrodes_on_template,
    perturbed_forward,
)
from mne_labram.source.surfaces import template_file

NAMES = "Fp1 Fp2 F7 F3 Fz F4 F8 T7 C3 Cz C4 T8 P7 P3 Pz P4 P8 O1 O2".split()


@pytest.fixture
def info() -> mne.Info:
    return mne.create_info(NAMES, 250.0, "eeg")


@pytest.fixture(scope="module")
def model_19() -> Callable[..., SourceModel]:
    def make(**kwargs: object) -> SourceModel:
        return source_model(default_forward(mne.create_info(NAMES, 250.0, "eeg"), verbose="ERROR", **kwargs))

    return make


def _alike(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Correlation of topographies, shape (n_sources,)."""
    first, second = (each - each.mean(axis=0) for each in (first, second))
    return (first * second).sum(axis=0) / np.linalg.norm(first, axis=0) / np.linalg.norm(second, axis=0)


def test_it_is_what_mne_makes_of_the_same_surfaces(
    template_forward: mne.Forward, template_model: SourceModel, head_cache: Path
) -> None:
    assert template_forward["nsource"] == 1284
    assert not mne.pick_types(template_forward["info"], meg=True).size
    bem = head_cache / f"head-{bem_key((0.3, 0.006, 0.3), 3)}-bem-sol.fif"
    info = mne.create_info(template_model.ch_names, 250.0, "eeg")
    places = dict(zip(template_model.ch_names, template_model.electrodes, strict=True))
    info.set_montage(mne.channels.make_dig_montage(places, coord_frame="head"))
    src = mne.read_source_spaces(head_cache / f"cortex-{cortex_key('ico3')}-src.fif", verbose="ERROR")
    trans = template_file("fsaverage-trans.fif")
    theirs = mne.make_forward_solution(info, trans, src, bem, meg=False, verbose="ERROR")
    theirs = mne.convert_forward_solution(theirs, surf_ori=True, force_fixed=True, verbose="ERROR")
    scale = np.abs(theirs["sol"]["data"]).max()
    np.testing.assert_allclose(template_forward["sol"]["data"], theirs["sol"]["data"], atol=1e-5 * scale)


def test_ten_nanoampere_metres_make_about_a_microvolt(template_model: SourceModel) -> None:
    largest = 10 * np.abs(template_model.averaged).max(axis=0)
    assert 0.5 < np.median(largest) < 3
    assert largest.max() < 10
    # Near sources are seen better than far ones.
    depth = template_model.depth
    assert np.median(largest[depth < 0.025]) > 2 * np.median(largest[depth > 0.05])


def test_a_source_under_an_electrode_is_seen_there(template_model: SourceModel) -> None:
    """Dipoles that point to an electrode make it positive, and it is among those that see most of them."""
    towards = template_model.electrodes[:, None] - template_model.positions
    distance = np.linalg.norm(towards, axis=2)
    nearest = distance.argmin(axis=0)
    columns = np.arange(template_model.n_sources)
    cosine = (towards[nearest, columns] * template_model.normals).sum(axis=1) / distance[nearest, columns]
    clear = (cosine > 0.9) & (template_model.depth < 0.035)
    assert clear.sum() > 50
    there = template_model.averaged[nearest, columns][clear]
    assert (there > 0).all()
    assert np.median(there / np.abs(template_model.averaged[:, clear]).max(axis=0)) > 0.8


def test_left_is_left(template_model: SourceModel) -> None:
    assert (template_model.positions[:642, 0] < 0.005).all()
    assert (template_model.positions[642:, 0] > -0.005).all()
    assert template_model.electrodes[template_model.ch_names.index("C3"), 0] < -0.04


def test_names_and_montage_give_the_same_head(info: mne.Info, model_19: Callable[..., SourceModel]) -> None:
    by_name = model_19()
    with_montage = info.copy().set_montage("colin27_1005" if "colin27_1005" in _montages() else "standard_1005")
    assert source_model(default_forward(with_montage, verbose="ERROR")).digest == by_name.digest
    clinical = mne.create_info([f"EEG {name}-REF" for name in NAMES], 250.0, "eeg")
    names, positions = electrodes_on_template(clinical)
    assert names == clinical.ch_names
    np.testing.assert_allclose(positions, electrodes_on_template(info)[1])


def _montages() -> list[str]:
    return mne.channels.get_builtin_montages()


def test_digitised_head_is_brought_onto_the_template(info: mne.Info) -> None:
    """A larger head that sits elsewhere, with foreign names."""
    there = np.array([template_positions()[name.upper()] for name in NAMES])
    moved = 1.07 * there + (0.002, -0.006, 0.008)
    names = [f"E{index}" for index in range(19)]
    foreign = mne.create_info(names, 250.0, "eeg")
    foreign.set_montage(mne.channels.make_dig_montage(dict(zip(names, moved, strict=True)), coord_frame="head"))
    before = np.array([ch["loc"].copy() for ch in foreign["chs"]])
    found_names, found = electrodes_on_template(foreign)
    assert found_names == names
    assert np.linalg.norm(found - there, axis=1).max() < 0.01
    assert np.linalg.norm(moved - there, axis=1).min() > 0.005
    np.testing.assert_array_equal(before, [ch["loc"] for ch in foreign["chs"]])


def test_drawing_of_a_cap_is_brought_onto_the_template() -> None:
    drawn = mne.channels.make_standard_montage("biosemi64")
    info = mne.create_info(drawn.ch_names, 250.0, "eeg").set_montage(drawn)
    _, found = electrodes_on_template(info)
    by_name = np.array([template_positions()[name.upper()] for name in drawn.ch_names])
    assert np.median(np.linalg.norm(found - by_name, axis=1)) < 0.008


def test_bad_channels_and_others_beside_eeg(info: mne.Info) -> None:
    more = mne.create_info([*NAMES, "EOG", "Trigger"], 250.0, ["eeg"] * 19 + ["eog", "stim"])
    more["bads"] = ["Cz"]
    names, positions = electrodes_on_template(more)
    assert names == NAMES
    np.testing.assert_array_equal(positions, electrodes_on_template(info)[1])


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (NAMES[:7], "at least 8 EEG channels and there are 7"),
        ([*NAMES[:8], "Fp1-F7"], "'Fp1-F7' is a bipolar channel"),
        ([*NAMES[:8], "X7", "X8"], r"Nothing tells where the EEG channel 'X7' is \(one of 2\)"),
    ],
)
def test_electrodes_that_cannot_be_used(names: list[str], sentence: str) -> None:
    with pytest.raises(ContractError, match=sentence) as caught:
        default_forward(mne.create_info(names, 250.0, "eeg"))
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


def test_electrode_far_from_the_head(info: mne.Info) -> None:
    places = {name: template_positions()[name.upper()] for name in NAMES}
    places["O2"] = places["O2"] + (0, -0.1, 0)
    info.set_montage(mne.channels.make_dig_montage(places, coord_frame="head"))
    with pytest.raises(ContractError, match="'O2' lies .* cm off the template's head"):
        default_forward(info, verbose="ERROR")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"spacing": "ico6"}, "spacing must be"),
        ({"spacing": 7}, "spacing must be"),
        ({"bem_ico": 5}, "bem_ico must be"),
        ({"conductivity": (0.3, 0.006)}, "three positive numbers"),
        ({"conductivity": (0.3, -0.006, 0.3)}, "three positive numbers"),
        ({"conductivity": (0.3, np.nan, 0.3)}, "three positive numbers"),
    ],
)
def test_settings_without_meaning(info: mne.Info, settings: dict[str, object], sentence: str) -> None:
    for make in (default_forward, perturbed_forward):
        with pytest.raises(ValueError, match=sentence):
            make(info, **settings)
    with pytest.raises(ValueError, match="jitter_mm must not be negative"):
        perturbed_forward(info, jitter_mm=-1)


def test_what_is_no_info() -> None:
    with pytest.raises(TypeError, match="must be an mne.Info, got list"):
        default_forward(NAMES)


def test_it_says_that_the_outer_skull_is_made_up(info: mne.Info) -> None:
    with mne.utils.catch_logging() as log:
        default_forward(info, verbose="INFO")
    assert "outer skull is made up" in log.getvalue()


def test_spacing_changes_sources_only(model_19: Callable[..., SourceModel]) -> None:
    coarse, fine = model_19(spacing="ico2"), model_19()
    assert coarse.n_sources == 324
    kept = np.concatenate([np.isin(*each) for each in zip(fine.vertices, coarse.vertices, strict=True)])
    np.testing.assert_allclose(fine.positions[kept], coarse.positions, atol=1e-7)
    # A source of the coarser space stands for a larger patch, whose mean direction differs.
    assert np.median(_alike(fine.leadfield[:, kept], coarse.leadfield)) > 0.9


def test_conductivity_matters(tmp_path: Path, model_19: Callable[..., SourceModel]) -> None:
    """All conductivities twice as high: half the potential, and the same topography."""
    usual, twice = model_19(bem_ico=2), model_19(bem_ico=2, conductivity=(0.6, 0.012, 0.6))
    scale = np.abs(usual.leadfield).max()
    np.testing.assert_allclose(2 * twice.averaged, usual.averaged, atol=1e-4 * scale)
    leaky = model_19(bem_ico=2, conductivity=(0.3, 0.02, 0.3))
    sizes = [np.linalg.norm(each.averaged, axis=0) for each in (leaky, usual)]
    assert np.median(sizes[0] / sizes[1]) > 1.3
    assert np.median(_alike(leaky.leadfield, usual.leadfield)) > 0.95


def test_coarser_surfaces_agree(model_19: Callable[..., SourceModel]) -> None:
    alike = _alike(model_19(bem_ico=2).leadfield, model_19().leadfield)
    assert np.median(alike) > 0.99
    assert np.percentile(alike, 5) > 0.95


@pytest.mark.slow
def test_finer_surfaces_agree(model_19: Callable[..., SourceModel]) -> None:
    alike = _alike(model_19(bem_ico=4).leadfield, model_19().leadfield)
    assert np.median(alike) > 0.998
    assert np.percentile(alike, 5) > 0.99


def test_perturbed_head_has_the_same_sources_but_sees_them_otherwise(
    info: mne.Info, model_19: Callable[..., SourceModel]
) -> None:
    usual = model_19()
    moved = source_model(perturbed_forward(info, seed=3, bem_ico=2, verbose="ERROR"))
    assert moved.ch_names == usual.ch_names
    for mine, theirs in zip(moved.vertices, usual.vertices, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_allclose(moved.positions, usual.positions, atol=1e-7)
    off = 1000 * np.linalg.norm(moved.electrodes - usual.electrodes, axis=1)
    # The length of a vector of two normal numbers of deviation 3.
    assert 2 < np.sqrt((off**2).mean() / 2) < 4
    alike = _alike(moved.leadfield, usual.leadfield)
    assert 0.9 < np.median(alike) < 0.999
    again = source_model(perturbed_forward(info, seed=3, bem_ico=2, verbose="ERROR"))
    assert again.digest == moved.digest
    other = source_model(perturbed_forward(info, seed=4, bem_ico=2, verbose="ERROR"))
    assert other.digest != moved.digest


def test_a_cap_that_sits_otherwise(info: mne.Info, model_19: Callable[..., SourceModel]) -> None:
    usual = model_19(bem_ico=2)
    settings = {"jitter_mm": 0.0, "bem_ico": 2, "conductivity": (0.3, 0.006, 0.3), "verbose": "ERROR"}
    same = source_model(perturbed_forward(info, **settings))
    np.testing.assert_allclose(same.leadfield, usual.leadfield, rtol=1e-4, atol=1e-4 * np.abs(usual.leadfield).max())
    turned = perturbed_forward(info, turn_deg=10.0, seed=2, **settings)
    moved = source_model(turned).electrodes
    far = np.linalg.norm(moved - usual.electrodes, axis=1)
    apart = [scipy.spatial.distance.pdist(each) for each in (moved, usual.electrodes)]
    # All together, as a cap does: they stay where they are to each other.
    assert np.median(np.abs(apart[0] - apart[1])) < 0.25 * np.median(far)
    assert np.median(far) > 0.005
    alike = []
    for size in (0.0, 1.0, 2.0):
        other = perturbed_forward(
            info, turn_deg=4 * size, stretch=0.04 * size, shift_mm=4 * size, seed=1, **settings
        )  # fmt: skip
        alike.append(np.median(_alike(source_model(other).leadfield, usual.leadfield)))
    assert alike[0] > 0.9999 > alike[1] > alike[2] > 0.5
    for name in ("turn_deg", "stretch", "shift_mm"):
        with pytest.raises(ValueError, match=f"{name} must not be negative"):
            perturbed_forward(info, **{name: -0.1})


def test_kept_is_what_was_made_and_damage_is_repaired(info: mne.Info, tmp_path: Path) -> None:
    settings = {"bem_ico": 2, "spacing": "ico1", "verbose": "ERROR"}
    first = default_forward(info, cache=tmp_path, **settings)
    kinds = {re.sub("[0-9a-f]{20}", "", path.name) for path in tmp_path.iterdir()}
    assert kinds == {"cortex--src.fif", "head--bem-sol.fif", "head--fwd.fif"}
    without = default_forward(info, cache=False, **settings)
    np.testing.assert_array_equal(first["sol"]["data"], without["sol"]["data"])
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:1000])
    again = default_forward(info, cache=tmp_path, **settings)
    np.testing.assert_array_equal(first["sol"]["data"], again["sol"]["data"])
    assert len(list(tmp_path.iterdir())) == 3
    # Another montage needs no second solution.
    default_forward(mne.pick_info(info, range(12)), cache=tmp_path, **settings)
    assert len(list(tmp_path.glob("*bem-sol.fif"))) == 1
    assert len(list(tmp_path.glob("*fwd.fif"))) == 2


def test_two_processes_at_once(tmp_path: Path) -> None:
    code = f"""
import mne
from mne_labram.source.head import source_model
from mne_labram.source.headmodel import default_forward
info = mne.create_info({NAMES!r}, 250.0, "eeg")
print(source_model(default_forward(info, cache={str(tmp_path)!r}, bem_ico=2, spacing="ico1", verbose="ERROR")).digest)
"""
    env = {**os.environ, "PYTHONWARNINGS": "ignore"}
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=env) for _ in "ab"]
    digests = {process.communicate(timeout=200)[0].strip() for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert len(digests) == 1
    assert len(list(tmp_path.iterdir())) == 3


def test_sample_subject_on_the_template(shared_data: Path) -> None:
    """60 digitised electrodes with foreign names: the average of their head is the template's."""
    evoked = mne.read_evokeds(shared_data / "mne_sample_evoked" / "test-ave.fif.gz", condition=0, verbose="ERROR")
    fwd = default_forward(evoked.info, verbose="ERROR")
    eeg = [evoked.ch_names[pick] for pick in mne.pick_types(evoked.info, meg=False, eeg=True, exclude=[])]
    model = source_model(fwd, eeg)
    assert model.n_channels == len(eeg) >= 59
    table = template_positions()
    off = np.linalg.norm(model.electrodes[:, None] - np.array(list(table.values())), axis=2).min(axis=1)
    assert np.median(off) < 0.012
