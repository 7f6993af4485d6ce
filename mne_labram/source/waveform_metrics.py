"""What an estimate does at the true sources: when, with which sign, and how much."""

from __future__ import annotations

import numpy as np

from mne_labram.signal.contract import ContractError

__all__ = ["amplitude_error_db", "temporal_correlation"]

# Less than this is silence, decibels: what is lower counts as this, so that a mean can be taken.
_SILENCE = -100.0


def temporal_correlation(estimate: np.ndarray, weights: np.ndarray, waveforms: np.ndarray) -> np.ndarray:
    """Compare what an estimate does at true patches with what they do.

    Parameters
    ----------
    estimate : ndarray, shape (n_sources, n_times)
        Signed dipole moments along the normals, in any unit.
    weights : ndarray, shape (n_patches, n_sources)
        How much each source takes part in a patch.
    waveforms : ndarray, shape (n_patches, n_times)
        What each patch does.

    Returns
    -------
    correlation : ndarray, shape (n_patches,)
        Pearson's, between a patch's waveform and the weighted sum of the estimate. Its sign matters: a source that
        points the other way is -1. 0 where nothing is estimated.

    Raises
    ------
    ContractError
        If the shapes do not fit, or values are not finite.

    Notes
    -----
    DeepSIF (Sun et al. 2022, PNAS 119:e2201128119) and its follow-ups correlate at the regions that were found, which
    leaves out the sources that were not; here every true patch counts.
    """
    there, waveforms = _at_patches(estimate, weights, waveforms)
    there = there - there.mean(axis=1, keepdims=True)
    waveforms = waveforms - waveforms.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(there, axis=1) * np.linalg.norm(waveforms, axis=1)
    products = (there * waveforms).sum(axis=1)
    return np.divide(products, norms, out=np.zeros(len(norms)), where=norms > 0).clip(-1.0, 1.0)


def amplitude_error_db(estimate: np.ndarray, weights: np.ndarray, waveforms: np.ndarray) -> np.ndarray:
    """Compare amplitudes at true patches.

    Parameters
    ----------
    estimate, weights, waveforms : ndarray
        As for :func:`temporal_correlation`; moments in the unit of the waveforms.

    Returns
    -------
    error : ndarray, shape (n_patches,)
        20 log10 of the root mean square of the estimate, projected onto the patch's weights, over that of its waveform:
        0 where the scale is right, -20 where a tenth of it is found, -100 at least (nothing).

    Raises
    ------
    ContractError
        If the shapes do not fit, or values are not finite.

    Notes
    -----
    The projection is w·j / w·w, the waveform that explains the estimate best if it were the patch's: of an estimate
    that is spread out, only what lies in the patch counts.
    """
    there, waveforms = _at_patches(estimate, weights, waveforms)
    there = there / np.maximum((np.asarray(weights, float) ** 2).sum(axis=1), 1e-300)[:, np.newaxis]
    found, true = (np.sqrt((each**2).mean(axis=1)) for each in (there, waveforms))
    ratio = np.divide(found, true, out=np.full(len(true), np.nan), where=true > 0)
    return 20 * np.log10(np.maximum(ratio, 10 ** (_SILENCE / 20)))


def _at_patches(estimate: np.ndarray, weights: np.ndarray, waveforms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum an estimate over patches; (n_patches, n_times) twice."""
    estimate, weights, waveforms = (np.asarray(each, float) for each in (estimate, weights, waveforms))
    fits = estimate.ndim == weights.ndim == waveforms.ndim == 2
    if not fits or (*weights.shape, estimate.shape[1]) != (len(waveforms), len(estimate), waveforms.shape[1]):
        raise ContractError(
            f"The shapes (n_sources, n_times), (n_patches, n_sources) and (n_patches, n_times) are expected, got "
            f"{estimate.shape}, {weights.shape} and {waveforms.shape}."
        )
    if not all(np.isfinite(each).all() for each in (estimate, weights, waveforms)):
        raise ContractError("Estimate, weights or waveforms hold NaN or infinity; score what is finite.")
    return weights @ estimate, waveforms
