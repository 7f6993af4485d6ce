"""Normal numbers that depend on nothing but where they are used."""

from __future__ import annotations

import numpy as np

__all__ = ["counter_normals", "philox", "seed_words"]

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)


def seed_words(seed: int) -> np.ndarray:
    """Split a seed into the two words of a key.

    Parameters
    ----------
    seed : int
        From 0 to 2**64 - 1.

    Returns
    -------
    words : ndarray of uint32, shape (2,)
        Lower and upper half.

    Raises
    ------
    ValueError
        If the seed is something else.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= int(seed) < 2**64:
        raise ValueError(f"seed must be a whole number from 0 to 2**64 - 1, not {seed!r}.")
    return np.array([int(seed) & 0xFFFFFFFF, int(seed) >> 32], dtype=np.uint32)


def philox(counter: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Turn counters into random words by Philox4x32-10.

    Parameters
    ----------
    counter : ndarray of uint32, shape (..., 4)
        Counters.
    key : ndarray of uint32, shape (2,)
        Key.

    Returns
    -------
    words : ndarray of uint32, shape (..., 4)
        Random words.

    Notes
    -----
    Salmon, Moraes, Dror & Shaw (2011), "Parallel random numbers: as easy as 1, 2, 3", SC11, section 4.
    """
    c = [counter[..., k].astype(np.uint32) for k in range(4)]
    k0, k1 = (int(word) for word in key)
    for _ in range(10):
        p0, p1 = c[0].astype(np.uint64) * _MULTIPLIERS[0], c[2].astype(np.uint64) * _MULTIPLIERS[1]
        high0, high1 = ((p >> np.uint64(32)).astype(np.uint32) for p in (p0, p1))
        low0, low1 = ((p & np.uint64(0xFFFFFFFF)).astype(np.uint32) for p in (p0, p1))
        c = [high1 ^ c[1] ^ np.uint32(k0), low1, high0 ^ c[3] ^ np.uint32(k1), low0]
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack(c, axis=-1)


def counter_normals(key: np.ndarray, step: int, trajectories: np.ndarray, n_regions: int) -> np.ndarray:
    """Return the noise of one step.

    Parameters
    ----------
    key : ndarray of uint32, shape (2,)
        The seed.
    step : int
        Number of the step.
    trajectories : ndarray of int, shape (n_trajectories,)
        Numbers of the trajectories.
    n_regions : int
        Number of regions.

    Returns
    -------
    normals : ndarray of float64, shape (n_trajectories, n_regions)
        Normal numbers of mean 0 and deviation 1 (at most 5.8: the radius has 24 random bits).

    Notes
    -----
    The words of a counter (step, group of four regions, trajectory, 0) give the numbers of the four regions. Of each
    pair of words, the first is the radius, the second the angle, of a point of the plane (Box & Muller 1958): two of
    its bits are the signs, 22 the place in the quarter.
    """
    n_groups = -(-n_regions // 4)
    counter = np.zeros((len(trajectories), n_groups, 4), dtype=np.uint32)
    counter[..., 0], counter[..., 1], counter[..., 2] = step, np.arange(n_groups), np.asarray(trajectories)[:, None]
    words = philox(counter, key).reshape(len(trajectories), 2 * n_groups, 2)
    radius = np.sqrt(-2 * np.log(((words[..., 0] >> 8).astype(float) + 1) * 2.0**-24))
    place = ((words[..., 1] >> 8) & 0x3FFFFF).astype(float)
    angle = (place + 0.5) * (np.pi / 2 * 2.0**-22)
    signs = 1 - 2 * ((words[..., 1, None] >> np.array([30, 31], dtype=np.uint32)) & 1).astype(float)
    points = radius[..., None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1) * signs
    return points.reshape(len(trajectories), -1)[:, :n_regions]
