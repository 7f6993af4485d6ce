"""Splines and ridge regression: exact where they can be, in any reference, for any pattern."""

from __future__ import annotations

import pickle

import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from mne_labram.restoration.bands import BandCovariances
from mne_labram.restoration.predictors import ChannelPredictor, RidgePredictor, SplinePredictor, spline_weights
from mne_labram.signal.contract import ContractError
from mne_labram.signal.positions import electrode_positions

NAMES = "FP1 FP2 F3 F4 C3 C4 P3 P4 O1 O2 F7 F8 T7 T8 P7 P8 FZ CZ PZ".split()
POSITIONS = electrode_positions(NAMES)[:, :3]
SFREQ = 100.0


def _signal(n_times: int = 3000, noise: float = 0.5, seed: int = 0) -> np.ndarray:
    """Five sources in 19 channels, µV."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(19, 5))
    return 10.0 * mixing @ rng.normal(size=(5, n_times)) + noise * rng.normal(size=(19, n_times))


def _hidden(x: np.ndarray, *rows: int, start: int = 0, stop: int | None = None) -> np.ndarray:
    hidden = np.zeros(x.shape, dtype=bool)
    hidden[list(rows), start:stop] = True
    return hidden


def _trained(cls: type = RidgePredictor, **options: float) -> ChannelPredictor:
    predictor = cls(NAMES, POSITIONS, SFREQ, **options)
    x = _signal(6000, seed=5)
    predictor.observe(x, np.zeros(x.shape, dtype=bool))
    return predictor


def test_splines_have_the_weights_of_mne() -> None:
    hidden = np.isin(NAMES, ["C3", "PZ"])
    info = mne.create_info(NAMES, SFREQ, "eeg")
    points = dict(zip(NAMES, POSITIONS, strict=True))
    info.set_montage(mne.channels.make_dig_montage(points, coord_frame="head"))
    x = _signal(50)
    evoked = mne.EvokedArray(x, info)
    evoked.info["bads"] = ["C3", "PZ"]
    evoked.interpolate_bads(reset_bads=False, method={"eeg": "spline"}, verbose="error")
    assert_allclose(spline_weights(POSITIONS, hidden) @ x[~hidden], evoked.data[hidden], atol=1e-9)
    # Weights that add up to one: the reference does not matter, and the predictor gives the same.
    restored, deviation = SplinePredictor(NAMES, POSITIONS, SFREQ).predict(x, np.tile(hidden[:, None], 50))
    assert_allclose(restored[hidden], evoked.data[hidden], atol=1e-8)
    assert np.isnan(deviation[hidden]).all()
    assert_array_equal(deviation[~hidden], 0.0)


@pytest.mark.parametrize("cls", [SplinePredictor, RidgePredictor])
@settings(max_examples=15)
@given(
    blocks=st.lists(st.tuples(st.integers(0, 18), st.integers(0, 380), st.integers(1, 400)), min_size=1, max_size=6),
    n_times=st.integers(1, 400),
)
def test_any_pattern_and_length(cls: type, blocks: list, n_times: int) -> None:
    x = _signal(n_times)
    hidden = np.zeros(x.shape, dtype=bool)
    for row, start, length in blocks:
        hidden[row, start : start + length] = True
    spoilt = np.where(hidden, np.nan, x)
    before = spoilt.copy()
    predictor = _TRAINED[cls]
    restored, deviation = predictor.predict(spoilt, hidden)
    assert_array_equal(spoilt, before)
    assert_array_equal(restored[~hidden], x[~hidden])
    assert np.isfinite(restored).all()
    assert_array_equal(deviation[~hidden], 0.0)
    assert (deviation[hidden] > 0).all()
    # In the recording's own reference, whatever it is.
    common = 1000.0 * np.random.default_rng(1).normal(size=n_times)
    shifted, same = predictor.predict(spoilt + common, hidden)
    assert_allclose(shifted, restored + common, atol=1e-7)
    assert_allclose(same, deviation, rtol=1e-4, atol=1e-6)


_TRAINED = {cls: _trained(cls) for cls in (SplinePredictor, RidgePredictor)}


def test_ridge_finds_what_sources_explain_and_says_how_well() -> None:
    x = _signal(3000)
    hidden = _hidden(x, 4, 18)
    restored, deviation = _trained(ridge=1e-4).predict(x, hidden)
    error = (restored - x)[hidden]
    assert error.var() < 0.02 * x[hidden].var()
    assert np.sqrt(np.mean(error**2)) == pytest.approx(np.sqrt(np.mean(deviation[hidden] ** 2)), rel=0.15)


def test_weights_may_differ_between_bands() -> None:
    """One channel is the sum of another's slow and of a third one's fast activity."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(19, 6000)) * 10.0
    spectrum, frequencies = np.fft.rfft(x[:2]), np.fft.rfftfreq(6000, 1 / SFREQ)
    x[4] = np.fft.irfft(np.where(frequencies < 12.9, spectrum[0], spectrum[1]))
    predictor = RidgePredictor(NAMES, POSITIONS, SFREQ, ridge=1e-3)
    predictor.observe(x[:, :4000], np.zeros((19, 4000), dtype=bool))
    test = x[:, 4000:]
    restored, _ = predictor.predict(test, _hidden(test, 4))
    assert np.var(restored[4] - test[4]) < 0.1 * np.var(test[4])
    # What is too short to be split has the weights of the broad band: half of each.
    short, _ = predictor.predict(test[:, :50], _hidden(test[:, :50], 4))
    assert np.var(short[4] - test[4, :50]) > 0.2 * np.var(test[4, :50])


def test_nothing_leaks_from_one_pattern_to_the_next() -> None:
    x = _signal(2000)
    hidden = _hidden(x, 4, start=500, stop=1000) | _hidden(x, 4, 5, 6, 7, start=1000, stop=1500)
    predictor = _trained()
    together, _ = predictor.predict(x, hidden)
    alone, _ = predictor.predict(x, _hidden(x, 4, start=500, stop=1000))
    difference = np.abs(together - alone)[4, 500:1000]
    # Filters of the bands see, across the seam, what was predicted there and not the truth: a small difference.
    assert difference.max() < 2.0 < 10.0 < x[4].std()
    assert_allclose(together[4, 500:800], alone[4, 500:800], atol=0.2)
    # An artefact under the mask does not reach what is beside it.
    spoilt = np.where(hidden, 1e6, x)
    assert_array_equal(predictor.predict(spoilt, hidden)[0], together)


def test_covariances_given_count_until_they_are_outweighed() -> None:
    x = _signal(6000, seed=5)
    others = BandCovariances(19, SFREQ)
    others.add(x, np.zeros(x.shape, dtype=bool))
    given_ones = 1e-12 * others.of(np.ones(19, dtype=bool))[1]  # in volts: the unit does not matter
    test = _signal(1000)
    hidden = _hidden(test, 3)
    predictor = RidgePredictor(NAMES, POSITIONS, SFREQ, covariances=given_ones)
    assert predictor.unseen == []
    restored, _ = predictor.predict(test, hidden)
    assert np.var((restored - test)[hidden]) < 0.02 * np.var(test[hidden])
    # A recording in which this channel is noise.
    rng = np.random.default_rng(2)
    own = _signal(20000, seed=7)
    own[3] = 30.0 * rng.normal(size=20000)
    predictor.observe(own, np.zeros(own.shape, dtype=bool))
    noisy, deviation = predictor.predict(own[:, :1000], _hidden(own[:, :1000], 3))
    assert noisy[3].std() < 15.0
    assert deviation[3].mean() == pytest.approx(30.0, rel=0.25)


def test_channels_that_were_seen_apart() -> None:
    """What was never seen together with all others is predicted from those it was seen with."""
    x = _signal(6000, seed=5)
    predictor = RidgePredictor(NAMES, POSITIONS, SFREQ, ridge=1e-4)
    predictor.observe(x[:, :3000], _hidden(x[:, :3000], 0, 1))
    predictor.observe(x[:, 3000:], _hidden(x[:, 3000:], 2, 1))
    assert predictor.unseen == ["FP2"]
    test = _signal(1000)
    for row in (0, 2):
        restored, deviation = predictor.predict(test, _hidden(test, row))
        assert np.var(restored[row] - test[row]) < 0.05 * np.var(test[row])
        assert (deviation[row] > 0).all() or np.isnan(deviation[row]).all()
    hidden = _hidden(test, 1)
    spline, _ = SplinePredictor(NAMES, POSITIONS, SFREQ).predict(test, hidden)
    assert_allclose(predictor.predict(test, hidden)[0], spline, atol=1e-8)


def test_predictors_travel() -> None:
    predictor = _TRAINED[RidgePredictor]
    x = _signal(500)
    again = pickle.loads(pickle.dumps(predictor))
    assert_array_equal(again.predict(x, _hidden(x, 1))[0], predictor.predict(x, _hidden(x, 1))[0])
    assert isinstance(again, ChannelPredictor)


def test_silent_recordings_are_predicted_silent() -> None:
    predictor = RidgePredictor(NAMES, POSITIONS, SFREQ)
    zeros = np.zeros((19, 3000))
    predictor.observe(zeros, np.zeros(zeros.shape, dtype=bool))
    restored, deviation = predictor.predict(zeros, _hidden(zeros, 2))
    assert_array_equal(restored, 0.0)
    assert_array_equal(deviation, 0.0)


@pytest.mark.parametrize("cls", [SplinePredictor, RidgePredictor])
def test_what_cannot_be_predicted(cls: type) -> None:
    with pytest.raises(ContractError, match="same name"):
        cls(["FZ", "FZ"], POSITIONS[:2], SFREQ)
    with pytest.raises(ContractError, match="position"):
        cls(NAMES, POSITIONS * np.nan, SFREQ)
    with pytest.raises(ContractError, match="sampling rate"):
        cls(NAMES, POSITIONS, 0.0)
    predictor = cls(NAMES, POSITIONS, SFREQ)
    x = _signal(10)
    with pytest.raises(ContractError, match="at least two"):
        predictor.predict(x, _hidden(x, *range(18)))
    with pytest.raises(ContractError, match="shape"):
        predictor.predict(x[:18], _hidden(x, 1))
    with pytest.raises(ContractError, match="not finite"):
        predictor.predict(np.where(_hidden(x, 3), np.inf, x), _hidden(x, 1))


def test_covariances_of_another_shape() -> None:
    with pytest.raises(ContractError, match="covariances"):
        RidgePredictor(NAMES, POSITIONS, SFREQ, covariances=np.eye(19))
    with pytest.raises(ContractError, match="positive"):
        RidgePredictor(NAMES, POSITIONS, SFREQ, ridge=0.0)
