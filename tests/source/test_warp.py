"""The template's cortex in another head."""

from __future__ import annotations

from pathlib import Path

import mne
import numpy as np
import pytest
import scipy
from mne.transforms import apply_trans, invert_transform

from mne_labram.signal.contract import ContractError
from mne_labram.source.head import SourceModel, source_model
from mne_labram.source.headmodel import bem_key, template_cortex
from mne_labram.source.surfaces import template_file
from mne_labram.source.warp import warped_cortex


@pytest.fixture(scope="module")
def sample(shared_data: Path) -> Path:
    return shared_data / "mne_sample_evoked"


@pytest.fixture(scope="module")
def bem(sample: Path) -> mne.bem.ConductorModel:
    return mne.read_bem_solution(sample / "sample-320-320-320-bem-sol.fif", verbose="ERROR")


@pytest.fixture(scope="module")
def trans(sample: Path) -> mne.transforms.Transform:
    return mne.read_trans(sample / "sample_audvis_trunc-trans.fif")


@pytest.fixture(scope="module")
def src(head_cache: Path, bem: mne.bem.ConductorModel, trans: mne.transforms.Transform) -> mne.SourceSpaces:
    return warped_cortex(bem, trans, cache=head_cache, verbose="ERROR")


def test_the_template_fits_into_itself(head_cache: Path, template_forward: mne.Forward) -> None:
    bem = mne.read_bem_solution(head_cache / f"head-{bem_key((0.3, 0.006, 0.3), 3)}-bem-sol.fif", verbose="ERROR")
    trans = mne.read_trans(template_file("fsaverage-trans.fif"))
    warped = warped_cortex(bem, trans, cache=head_cache, verbose="ERROR")
    for mine, original in zip(warped, template_cortex(cache=head_cache), strict=True):
        # The inner skull there is the coarser one of the boundary element model.
        assert np.median(np.linalg.norm(mine["rr"] - original["rr"], axis=1)) < 0.001
        assert np.median((mine["nn"] * original["nn"]).sum(axis=1)) > 0.99
        np.testing.assert_array_equal(mine["vertno"], original["vertno"])


def test_all_sources_lie_in_the_skull_of_the_subject(
    src: mne.SourceSpaces, sample: Path, bem: mne.bem.ConductorModel, trans: mne.transforms.Transform
) -> None:
    evoked = mne.read_evokeds(sample / "test-ave.fif.gz", condition=0, verbose="ERROR")
    fwd = mne.make_forward_solution(evoked.info, trans, src, bem, meg=False, verbose="ERROR")
    model = source_model(fwd)
    assert model.n_sources == 1284
    assert 0.3 < np.median(10 * np.abs(model.averaged).max(axis=0)) < 3
    head_to_mri = trans if trans["from"] == 4 else invert_transform(trans)
    skull = next(surface for surface in bem["surfs"] if surface["id"] == 1)
    distance = scipy.spatial.cKDTree(skull["rr"]).query(apply_trans(head_to_mri, model.positions))[0]
    assert distance.min() > 0.003
    # A brain and not a ball in its middle: half of all sources are within 3 cm of the skull.
    assert np.median(distance) < 0.03


def test_evoked_responses_lie_on_the_other_side(
    src: mne.SourceSpaces, sample: Path, bem: mne.bem.ConductorModel, trans: mne.transforms.Transform
) -> None:
    """Right and left ear and visual field of a real subject, by MNE's own eLORETA."""
    covariance = mne.read_cov(sample / "test-cov.fif", verbose="ERROR")
    left_share, posterior = {}, {}
    fwd = None
    for evoked in mne.read_evokeds(sample / "test-ave.fif.gz", baseline=(None, 0), verbose="ERROR"):
        evoked.pick("eeg", exclude=[]).set_eeg_reference(projection=True, verbose="ERROR")
        if fwd is None:
            fwd = mne.make_forward_solution(evoked.info, trans, src, bem, meg=False, verbose="ERROR")
            model: SourceModel = source_model(fwd)
        inverse = mne.minimum_norm.make_inverse_operator(evoked.info, fwd, covariance, verbose="ERROR")
        stc = mne.minimum_norm.apply_inverse(evoked, inverse, 1 / 9, "eLORETA", verbose="ERROR")
        energy = (stc.crop(0.075, 0.13).data ** 2).sum(axis=1)
        left_share[evoked.comment] = energy[:642].sum() / energy.sum()
        posterior[evoked.comment] = (energy @ model.positions[:, 1]) / energy.sum()
    assert left_share["Right Auditory"] > 0.6 > 0.5 > left_share["Left Auditory"]
    assert left_share["Right visual"] > 0.6 > 0.5 > left_share["Left visual"]
    assert max(posterior["Left visual"], posterior["Right visual"]) < min(
        posterior["Left Auditory"], posterior["Right Auditory"]
    )


def test_what_cannot_be_fitted(bem: mne.bem.ConductorModel, trans: mne.transforms.Transform, head_cache: Path) -> None:
    with pytest.raises(ContractError, match="has no inner skull"):
        warped_cortex(mne.make_sphere_model(verbose="ERROR"), trans, cache=head_cache)
    with pytest.raises(ValueError, match="from the MRI to the head"):
        warped_cortex(bem, mne.transforms.Transform("meg", "head"), cache=head_cache)
    with pytest.raises(ValueError, match="spacing must be"):
        warped_cortex(bem, trans, spacing="all", cache=head_cache)
