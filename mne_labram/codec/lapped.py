"""A lapped transform of a block: orthonormal, complete, and without an edge inside."""

from __future__ import annotations

import numpy as np
from scipy.fft import dct

__all__ = ["lapped_inverse", "lapped_transform"]


def _angles(n_bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rotations of samples left and right of a border, shape (n_bins // 2,)."""
    half = n_bins // 2
    angle = np.pi / 4 * (1 - (np.arange(half) + 0.5) / max(half, 1))
    return np.cos(angle), np.sin(angle)


def lapped_transform(signals: np.ndarray, n_bins: int) -> np.ndarray:
    """Compute the modified discrete cosine transform with a sine window.

    Parameters
    ----------
    signals : array of float, shape (n_channels, n_frames * n_bins)
        Whole frames.
    n_bins : int
        Samples in a frame, and coefficients.

    Returns
    -------
    coefficients : array of float64, shape (n_channels, n_frames, n_bins)
        Bin k lies at ``(k + 1 / 2) sfreq / (2 n_bins)`` Hz.

    Notes
    -----
    Time-domain aliasing cancellation (Princen & Bradley 1986) written as rotations of the samples on both sides of a
    border, followed by a DCT-IV of each frame (Malvar 1992, "Signal Processing with Lapped Transforms"). The first and
    the last frame have nothing to overlap with: there the border is hard, and the transform stays orthonormal.
    """
    n_channels, n_samples = signals.shape
    frames = np.array(signals, np.float64).reshape(n_channels, n_samples // n_bins, n_bins)
    cos, sin = _angles(n_bins)
    half = len(cos)
    if half and frames.shape[1] > 1:
        before = frames[:, :-1, ::-1][..., :half].copy()
        after = frames[:, 1:, :half].copy()
        frames[:, 1:, :half] = cos * after + sin * before
        frames[:, :-1, n_bins - half :] = (cos * before - sin * after)[..., ::-1]
    return dct(frames, type=4, norm="ortho")


def lapped_inverse(coefficients: np.ndarray) -> np.ndarray:
    """Undo :func:`lapped_transform`.

    Parameters
    ----------
    coefficients : array of float, shape (n_channels, n_frames, n_bins)
        Coefficients.

    Returns
    -------
    signals : array of float64, shape (n_channels, n_frames * n_bins)
        Samples.
    """
    frames = dct(np.asarray(coefficients, np.float64), type=4, norm="ortho")
    n_channels, n_frames, n_bins = frames.shape
    cos, sin = _angles(n_bins)
    half = len(cos)
    if half and n_frames > 1:
        before = frames[:, :-1, ::-1][..., :half].copy()
        after = frames[:, 1:, :half].copy()
        frames[:, 1:, :half] = cos * after - sin * before
        frames[:, :-1, n_bins - half :] = (cos * before + sin * after)[..., ::-1]
    return frames.reshape(n_channels, n_frames * n_bins)
