"""What an estimate does at the true sources."""

from __future__ import annotations

import numpy as np
import pytest

from mne_labram.signal.contract import ContractError
from mne_labram.source.waveform_metrics import amplitude_error_db, temporal_correlation


def test_time_courses_have_a_sign_and_a_scale() -> None:
    rng = np.random.default_rng(0)
    waveforms = rng.standard_normal((2, 100))
    weights = np.zeros((2, 20))
    weights[0, :5], weights[1, 10:14] = [1, 0.8, 0.6, 0.4, 0.2], 1
    sources = weights.T @ waveforms
    np.testing.assert_allclose(temporal_correlation(sources, weights, waveforms), 1)
    np.testing.assert_allclose(amplitude_error_db(sources, weights, waveforms), 0, atol=1e-9)
    sources[10:14] *= -0.1
    np.testing.assert_allclose(temporal_correlation(sources, weights, waveforms), [1, -1])
    np.testing.assert_allclose(amplitude_error_db(sources, weights, waveforms), [0, -20], atol=1e-9)
    nothing = np.zeros((20, 100))
    np.testing.assert_array_equal(temporal_correlation(nothing, weights, waveforms), 0)
    np.testing.assert_allclose(amplitude_error_db(nothing, weights, waveforms), -100)
    assert temporal_correlation(nothing, weights[:0], waveforms[:0]).shape == (0,)
    with pytest.raises(ContractError, match="shapes"):
        temporal_correlation(sources, weights[:1], waveforms)
    sources[3, 7] = np.nan
    for measure in (temporal_correlation, amplitude_error_db):
        with pytest.raises(ContractError, match="NaN or infinity"):
            measure(sources, weights, waveforms)
