"""How far the largest peaks of an estimate are from true sources, if one is told how many of these there are."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy

from mne_labram.signal.contract import ContractError
from mne_labram.source.metrics import find_peaks

__all__ = ["assigned_error"]

_MM = 1000.0


def assigned_error(amplitude: np.ndarray, positions: np.ndarray, neighbours: Any, true_positions: np.ndarray) -> float:
    """Measure how far as many of the largest peaks as there are true sources are from these.

    Parameters
    ----------
    amplitude : ndarray, shape (n_sources,)
        Of the estimate.
    positions : ndarray, shape (n_sources, 3)
        Metres.
    neighbours : scipy.sparse matrix of shape (n_sources, n_sources)
        See :func:`~mne_labram.source.metrics.find_peaks`.
    true_positions : ndarray, shape (n_true, 3)
        Metres; the middle of each source.

    Returns
    -------
    error : float
        Millimetres: mean distance of true sources to the largest peaks, each to one of its own, so that the sum is
        least; where there are fewer peaks, of those that go without to the nearest one. Of a flat estimate, the mean
        distance to anywhere; NaN without a true source.

    Raises
    ------
    ContractError
        If the shapes do not fit, or values are negative or not finite.

    Notes
    -----
    Further peaks cost nothing, whatever their height: the error by which blurred estimates look best. The assignment is
    Kuhn's (1955, Naval Research Logistics Quarterly 2:83-97).
    """
    positions = np.asarray(positions, float)
    true_positions = np.asarray(true_positions, float).reshape(-1, 3)
    if positions.shape != (len(amplitude), 3):
        raise ContractError(f"Positions must be one row of x, y, z for each source, got the shape {positions.shape}.")
    amplitude = np.asarray(amplitude, float)
    peaks = find_peaks(amplitude, neighbours, 0.0)
    if not len(true_positions):
        return float("nan")
    if np.ptp(amplitude) == 0.0:
        return float(scipy.spatial.distance.cdist(true_positions, positions).mean()) * _MM
    # Where nothing is, no neighbour is larger either.
    peaks = peaks[amplitude[peaks] > 0.0]
    peaks = peaks[np.argsort(-amplitude[peaks], kind="stable")[: len(true_positions)]]
    between = scipy.spatial.distance.cdist(true_positions, positions[peaks]) * _MM
    error = between.min(axis=1)
    rows, columns = scipy.optimize.linear_sum_assignment(between)
    error[rows] = between[rows, columns]
    return float(error.mean())
