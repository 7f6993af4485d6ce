"""Multichannel Wiener filters, and levels that EEG should have."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from mne_labram.restoration.denoising import TYPICAL_LEVELS, expected_level, typical_levels, visible_power, wiener


def _wieners(excess: np.ndarray) -> np.ndarray:
    return np.minimum(1.0, 1.0 / np.maximum(excess, 1e-9))


def _signals(n_times: int = 4000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((5, 5))
    wanted = mixing @ rng.standard_normal((5, n_times))
    # One topography, as of a blink: half a second in every four.
    blink = np.where(np.arange(n_times) % 400 < 50, 40.0, 0.0) * rng.standard_normal(n_times)
    return mixing @ mixing.T, wanted, np.outer([1.0, 1.0, 0.5, 0.2, 0.0], blink)


def test_an_artefact_of_one_topography_goes_and_the_rest_stays() -> None:
    expected, wanted, artefact = _signals()
    mixing, amplitudes, variance = wiener(expected, wanted + artefact, 100.0, _wieners)
    error = np.square(mixing @ amplitudes - wanted).sum(axis=1)
    # A filter for each channel alone cannot tell it apart.
    alone = wanted + artefact
    power = np.stack([np.convolve(row**2, np.ones(50) / 50, "same") for row in alone])
    alone = alone * _wieners(power / expected.diagonal()[:, None])
    assert (error[:2] < 0.3 * np.square(alone - wanted).sum(axis=1)[:2]).all()
    assert (error < 0.2 * np.square(wanted).sum(axis=1)).all()
    # The error that is expected is about that which there is, and largest where the artefact is.
    told = np.square(mixing) @ variance
    assert 0.5 < told.sum() / error.sum() < 4
    during = np.arange(4000) % 400 < 50
    assert told[:2, during].mean() > 1.2 * told[:2, ~during].mean()


def test_what_is_as_expected_is_kept() -> None:
    expected, wanted, _ = _signals()
    mixing, amplitudes, _ = wiener(expected, wanted, 100.0, lambda excess: np.ones_like(excess))
    assert_allclose(mixing @ amplitudes, wanted, atol=1e-9)
    mixing, amplitudes, _ = wiener(expected, wanted, 100.0, _wieners)
    assert np.square(mixing @ amplitudes - wanted).sum() < 0.03 * np.square(wanted).sum()


def test_bands_of_little_power_say_how_large_eeg_is() -> None:
    usual = 5.0 * np.exp(TYPICAL_LEVELS)
    spoilt = usual * [300.0, 40.0, 1.0, 1.0, 1.0, 2.0]
    found = typical_levels(spoilt)
    assert_allclose(found / found[0], usual / usual[0])
    assert (np.abs(np.log(found / usual)) < 0.3).all()
    assert typical_levels(usual[:2]).shape == (2,)


@pytest.mark.parametrize("offset", [0.0, 50.0])
def test_the_level_of_a_model_is_that_of_what_was_observed(offset: float) -> None:
    expected, _, _ = _signals()
    model = np.stack([expected, 2.0 * expected])
    visible = [np.array([True] * 5), np.array([True, True, True, False, False])]
    # In any reference.
    observed = [7.0 * model + offset, np.where(np.outer(visible[1], visible[1]), 7.0 * model, 0.0)]
    assert_allclose(expected_level(model, observed, visible, [10.0, 3.0]), 7.0)
    centred = np.eye(5) - 0.2
    assert_allclose(visible_power(expected, visible[0]), np.trace(centred @ expected @ centred))
