"""EEGRestorer as a scikit-learn transformer."""

from __future__ import annotations

import pickle

import mne
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from mne_labram.restoration.estimator import EEGRestorer
from mne_labram.restoration.restore import gram_restore
from mne_labram.signal.contract import ContractError

NAMES = ["Fp1", "Fp2", "F3", "F4", "C3", "C4", "O1", "O2"]


def _windows(n_windows: int = 12, seed: int = 0) -> np.ndarray:
    """Three sources in eight channels, µV; the mixture is always the same."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(9).normal(size=(8, 3))
    return 10.0 * mixing @ rng.normal(size=(n_windows, 3, 400)) + 0.3 * rng.normal(size=(n_windows, 8, 400))


def _epochs(n_windows: int = 12, seed: int = 0, bads: tuple[str, ...] = ()) -> mne.EpochsArray:
    info = mne.create_info(NAMES, 100.0, "eeg")
    epochs = mne.EpochsArray(1e-6 * _windows(n_windows, seed), info, verbose="error")
    epochs.info["bads"] = list(bads)
    return epochs


def test_what_is_learned_in_fit_restores_in_transform() -> None:
    restorer = EEGRestorer("ridge").fit(_epochs())
    assert restorer.calibrated_ == pytest.approx(48.0)
    assert restorer.n_features_in_ == 8
    # C3 is bad in all of the new data: only what was seen in fit can tell what it looks like.
    new = _epochs(4, seed=1, bads=("C3",))
    truth = new.get_data()
    new._data[:, 4] = 1e-3
    out = restorer.transform(new)
    assert np.mean((out.get_data()[:, 4] - truth[:, 4]) ** 2) < 0.05 * np.mean(truth[:, 4] ** 2)
    assert_array_equal(np.delete(out.get_data(), 4, axis=1), np.delete(truth, 4, axis=1))
    # What is transformed teaches nothing.
    assert_array_equal(restorer.transform(new).get_data(), out.get_data())
    own = gram_restore(new, method="ridge").get_data()[:, 4]
    assert np.mean((own - truth[:, 4]) ** 2) > 0.1 * np.mean(truth[:, 4] ** 2)


def test_it_can_be_cloned_pickled_and_put_into_a_pipeline() -> None:
    epochs = _epochs(bads=("O1",))
    pipeline = make_pipeline(
        EEGRestorer("spline", reset_bads=True), FunctionTransformer(lambda each: each.info["bads"])
    )
    assert pipeline.fit_transform(epochs) == []
    restorer = clone(pipeline[0])
    assert restorer.get_params() == pipeline[0].get_params()
    out = restorer.fit_transform(epochs)
    again = pickle.loads(pickle.dumps(restorer)).transform(epochs)
    assert_array_equal(again.get_data(), out.get_data())
    for train, test in KFold(3).split(np.zeros(len(epochs))):
        assert len(restorer.fit(epochs[train]).transform(epochs[test])) == len(test)
    assert len(restorer.fit([epochs[0], epochs[1]]).transform([epochs[2]])) == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_are_restored_where_they_are_nan(dtype: type) -> None:
    X = _windows().astype(dtype)
    restorer = EEGRestorer("ridge", ch_names=NAMES, sfreq=100.0).fit(X)
    spoilt = X.copy()
    spoilt[2, 3, 100:200] = spoilt[5, [0, 6]] = np.nan
    before = spoilt.copy()
    out = restorer.transform(spoilt)
    lacking = np.isnan(spoilt)
    assert_array_equal(spoilt, before)
    assert out.dtype == dtype
    assert_array_equal(out[~lacking], X[~lacking])
    assert np.mean((out[lacking] - X[lacking]) ** 2) < 0.1 * np.mean(X[lacking] ** 2)
    unchanged = restorer.transform(X)
    assert_array_equal(unchanged, X)
    assert unchanged is not X
    named = EEGRestorer("ridge", picks=["C3"], ch_names=NAMES, sfreq=100.0).fit(X)
    assert named.calibrated_ > 0
    assert_array_equal((named.transform(X) != X).any(axis=(0, 2)), np.isin(NAMES, ["C3"]))


def test_raw_and_good_data() -> None:
    raw = mne.io.RawArray(1e-6 * np.hstack(_windows()), mne.create_info(NAMES, 100.0, "eeg"), verbose="error")
    restorer = EEGRestorer("ridge").fit(raw)
    assert restorer.transform(raw) is raw
    other = EEGRestorer("ridge", segments="bad annotations").fit(raw)
    assert other.transform(raw) is raw
    marked = raw.copy().set_annotations(mne.Annotations(3.0, 1.0, "BAD", ch_names=[["F4"]]))
    out = other.transform(marked)
    assert_allclose(out.get_data("F4", 300, 400), raw.get_data("F4", 300, 400), atol=1e-5)
    assert (out.get_data() != raw.get_data()).sum() == 100


def test_bad_input_is_one_sentence() -> None:
    X = _windows()
    with pytest.raises(ValueError, match="no method"):
        EEGRestorer("kriging").fit(_epochs())
    with pytest.raises(ContractError, match="fitted to"):
        EEGRestorer("ridge", calibrate=False).fit(_epochs())
    with pytest.raises(ContractError, match="pass ch_names and sfreq"):
        EEGRestorer("spline").fit(X)
    with pytest.raises(ContractError, match="2 names for 8"):
        EEGRestorer("spline", ch_names=NAMES[:2], sfreq=100.0).fit(X)
    with pytest.raises(TypeError, match="shape"):
        EEGRestorer("spline", ch_names=NAMES, sfreq=100.0).fit(X[0])
    with pytest.raises(ContractError, match="no channel 'Pz'"):
        EEGRestorer("spline", picks=["Pz"], ch_names=NAMES, sfreq=100.0).fit(X)
    fitted = EEGRestorer("spline").fit(_epochs())
    with pytest.raises(ContractError, match="fitted to 8"):
        fitted.transform(_epochs().pick(NAMES[:6]))
    with pytest.raises(ContractError, match="one channel is visible"):
        fitted.transform(_epochs(bads=tuple(NAMES[1:])))
