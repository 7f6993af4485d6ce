"""Stretches of a signal that sources are judged in, and how what is found fades from one to the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import mne
import numpy as np

__all__ = ["JUDGED_SFREQ", "at_judged_rate", "faded_windows", "window_starts"]

#: Samples per second that the network has seen.
JUDGED_SFREQ = 100.0
# A stretch that has so many samples keeps as many, at whatever rate that is.
_FEWEST = 16


def at_judged_rate(x: np.ndarray, sfreq: float) -> np.ndarray:
    """Resample windows to the rate that sources are judged at.

    Parameters
    ----------
    x : ndarray, shape (..., n_times)
        Windows.
    sfreq : float
        Their samples per second.

    Returns
    -------
    x : ndarray, shape (..., n_judged)
        At 100 Hz; of very short windows at whatever rate leaves 16 samples, or as they are if they have no more.
    """
    n_times = x.shape[-1]
    wanted = max(round(n_times * JUDGED_SFREQ / sfreq), min(n_times, _FEWEST))
    if wanted == n_times:
        return x
    return mne.filter.resample(x, up=wanted, down=n_times, npad="auto", pad="reflect_limited", verbose="ERROR")


def window_starts(n_times: int, length: int) -> np.ndarray:
    """Return where windows begin: half of one apart, the last at the end.

    Parameters
    ----------
    n_times : int
        Samples of the signal.
    length : int
        Samples of a window.

    Returns
    -------
    starts : ndarray of int
        One window, of all there is, for a signal that is no longer.
    """
    if n_times <= length:
        return np.zeros(1, dtype=int)
    hop = max(1, length // 2)
    starts = np.arange(0, n_times - length + 1, hop)
    return starts if starts[-1] == n_times - length else np.append(starts, n_times - length)


def faded_windows(
    read: Callable[[int, int], np.ndarray],
    operators: Callable[[np.ndarray], np.ndarray],
    n_times: int,
    length: int,
    batch_size: int = 8,
) -> Iterator[tuple[int, np.ndarray]]:
    """Apply an operator of its own to every window, and fade between windows that overlap.

    Parameters
    ----------
    read : callable
        ``read(start, stop)`` returns signal, shape (n_chans, stop - start).
    operators : callable
        ``operators(windows)``, of an array of shape (batch, n_chans, length), returns one of shape
        (batch, n_sources, n_chans).
    n_times : int
        Samples of the signal.
    length : int
        Samples of a window.
    batch_size : int
        Windows that are judged together.

    Yields
    ------
    start : int
        First sample of a piece.
    sources : ndarray of float32, shape (n_sources, n_piece)
        All pieces together are the whole signal, each sample once. What a sample gets depends on the windows that it
        lies in only, not on how windows are put together.

    Notes
    -----
    Weights rise and fall linearly and are divided by their sum, so that an operator that is the same everywhere gives
    what it would without windows. Memory holds ``batch_size`` windows, however long the signal is.
    """
    starts = window_starts(n_times, length)
    length = min(length, n_times)
    ramp = np.minimum(np.arange(1, length + 1), np.arange(length, 0, -1)).astype(np.float32)
    done, held, weight = 0, None, None
    for first in range(0, len(starts), batch_size):
        some = starts[first : first + batch_size]
        signal = read(int(some[0]), int(some[-1]) + length)
        windows = np.stack([signal[:, start - some[0] : start - some[0] + length] for start in some])
        found = operators(windows)
        end = int(some[-1]) + length
        out = np.zeros((found.shape[1], end - done), np.float32)
        total = np.zeros(end - done, np.float32)
        if held is not None:
            out[:, : held.shape[1]] += held
            total[: len(weight)] += weight
        for start, operator, window in zip(some - done, found, windows, strict=True):
            out[:, start : start + length] += operator.astype(np.float32) @ window.astype(np.float32) * ramp
            total[start : start + length] += ramp
        last = first + batch_size >= len(starts)
        ready = out.shape[1] if last else int(starts[first + batch_size]) - done
        yield done, out[:, :ready] / total[:ready]
        held, weight = out[:, ready:].copy(), total[ready:].copy()
        done += ready
