"""Covariance in the tangent space, as a seizure detector to beat."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mne_labram.benchmark.seizure_baselines import WindowDetector, all_derivations
from mne_labram.signal.vocabulary import DOUBLE_BANANA

__all__ = ["TangentSpace", "riemannian_mean"]

_RANK = 16
# Part of the mean variance that is added to every covariance, so that its logarithm exists; square microvolts that
# count as nothing.
_SHRINKAGE = 1e-3
_FLOOR = 1e-3
# Covariances that a mean is taken of.
_ENOUGH = 512


class TangentSpace(WindowDetector):
    """Covariance of the double banana at rank 16, in the tangent space at its mean, with a logistic regression.

    Parameters
    ----------
    window, stride, memo
        See :class:`WindowDetector`.

    Notes
    -----
    Barachant et al. 2012, IEEE Trans Biomed Eng 59:920-928. The 18 derivations of the double banana hold two loops, so
    their covariance has rank 16; it is projected on its 16 largest components before logarithms are taken. A recording
    without all 18 derivations is not analysed.
    """

    name = "tangent space, rank 16, + LR"
    penalty = 0.01

    def statistics(self, x: np.ndarray, ch_names: Sequence[str]) -> np.ndarray:  # noqa: D102
        bipolar = all_derivations(x, ch_names)
        if bipolar is None:
            return np.full((len(x), len(DOUBLE_BANANA), len(DOUBLE_BANANA)), np.nan)
        centred = bipolar - bipolar.mean(axis=2, keepdims=True)
        return (centred @ np.swapaxes(centred, 1, 2) / x.shape[2]).astype(float)

    def learn(self, statistics: np.ndarray) -> None:  # noqa: D102
        # Loud windows must not choose the components alone.
        level = np.maximum(np.trace(statistics, axis1=1, axis2=2), _FLOOR)
        self.projection_ = np.linalg.eigh((statistics / level[:, None, None]).mean(axis=0))[1][:, -_RANK:]
        # The mean of many windows needs no more than this many of them.
        some = statistics[:: max(1, len(statistics) // _ENOUGH)]
        self.whitening_ = _power(riemannian_mean(self._project(some)), -0.5)

    def features(self, statistics: np.ndarray) -> np.ndarray:  # noqa: D102
        white = self.whitening_ @ self._project(statistics) @ self.whitening_
        rows, columns = np.triu_indices(_RANK)
        # So that the length of a row is the distance to the mean.
        return _function(white, np.log)[:, rows, columns] * np.where(rows == columns, 1.0, np.sqrt(2.0))

    def _project(self, covariances: np.ndarray) -> np.ndarray:
        small = self.projection_.T @ covariances @ self.projection_
        variance = np.trace(small, axis1=1, axis2=2) / _RANK
        return small + (_SHRINKAGE * variance + _FLOOR)[:, None, None] * np.eye(_RANK)


def riemannian_mean(matrices: np.ndarray, *, tolerance: float = 1e-6, n_steps: int = 50) -> np.ndarray:
    """Geometric mean of positive definite matrices.

    Parameters
    ----------
    matrices : ndarray, shape (n, k, k)
        Symmetric and positive definite.
    tolerance : float
        Norm of a step at which to stop.
    n_steps : int
        Steps at most.

    Returns
    -------
    mean : ndarray, shape (k, k)
        With the least sum of squared distances to them.

    Notes
    -----
    Moakher 2005, SIAM J Matrix Anal Appl 26:735-747: gradient descent, with the mean of the logarithms at the present
    point as step.
    """
    mean = matrices.mean(axis=0)
    for _ in range(n_steps):
        root, inverse = _power(mean, 0.5), _power(mean, -0.5)
        step = _function(inverse @ matrices @ inverse, np.log).mean(axis=0)
        mean = root @ _function(step, np.exp) @ root
        if np.linalg.norm(step) < tolerance:
            break
    return mean


def _function(matrices: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrices)
    return (vectors * function(values)[..., None, :]) @ np.swapaxes(vectors, -1, -2)


def _power(matrix: np.ndarray, exponent: float) -> np.ndarray:
    return _function(matrix, lambda values: values**exponent)
