"""Windows of a continuous recording, cut while it streams by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mne_labram.signal.contract import ContractError, SignalContract

if TYPE_CHECKING:
    from mne_labram.signal.conform import ConformPlan

__all__ = ["Windows", "iter_windows", "n_samples", "window_length"]


def n_samples(seconds: float, sfreq: float, name: str) -> int:
    """Return a length in seconds as a number of samples.

    Parameters
    ----------
    seconds : float
        The length.
    sfreq : float
        Sampling rate in Hz.
    name : str
        What the argument is called, for the error message.

    Returns
    -------
    n : int
        At least 1.

    Raises
    ------
    TypeError
        If it is no number.
    ValueError
        If it is not positive and finite, or shorter than half a sample.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be a number of seconds, got {type(seconds).__name__}.")
    if not (np.isfinite(seconds) and round(seconds * sfreq) >= 1):
        raise ValueError(f"{name} must be a positive number of seconds, got {seconds}.")
    return round(seconds * sfreq)


def window_length(contract: SignalContract, n_times: int, wanted: int) -> int:
    """Return the window length in samples: ``wanted``, or all whole patches of a shorter recording.

    Parameters
    ----------
    contract : SignalContract
        Says how long a patch is and how many of them a model takes.
    n_times : int
        Samples in the recording at the contract's rate.
    wanted : int
        Samples in the window that was asked for.

    Returns
    -------
    length : int
        A whole number of patches.

    Raises
    ------
    ContractError
        If not even one patch fits, or the window holds more patches than the model has positions for.
    """
    patch = contract.patch_samples
    longest = contract.max_patches * patch
    # What is beyond the last whole patch is left out, so that epochs from 0 to 16 s, whose end MNE includes, fit.
    if wanted // patch > contract.max_patches:
        raise ContractError(
            f"A window of {wanted / contract.sfreq:g} s has {wanted // patch} patches and the model takes at most "
            f"{contract.max_patches}; use windows of {longest / contract.sfreq:g} s or less."
        )
    length = min(wanted, n_times) // patch * patch
    if length < patch:
        raise ContractError(
            f"There are {min(wanted, n_times) / contract.sfreq:.3g} s of signal and one patch of the model is "
            f"{contract.patch_seconds:g} s; give it a longer window."
        )
    return length


@dataclass
class Windows:
    """A batch of windows.

    Parameters
    ----------
    starts : ndarray, shape (n_windows,)
        First sample of each window at the contract's rate.
    data : ndarray, shape (n_windows, n_chans, n_times)
        Microvolts, float32.
    usable : ndarray of bool, shape (n_windows,)
        False where a window touches a second that cannot be used.
    """

    starts: np.ndarray
    data: np.ndarray
    usable: np.ndarray


def iter_windows(
    plan: ConformPlan, length: int, stride: int, *, batch_size: int, cover_end: bool = False
) -> Iterator[Windows]:
    """Cut a recording into windows while it streams by.

    Only one block, one window and one batch are in memory at a time.

    Parameters
    ----------
    plan : ConformPlan
        From :func:`~mne_labram.signal.conform.plan_conform`.
    length, stride : int
        Window length and step in samples at the contract's rate.
    batch_size : int
        Windows per batch; the last batch may be smaller.
    cover_end : bool
        Add one window that ends with the last sample when the regular ones do not reach it.

    Yields
    ------
    windows : Windows
        In order of time.
    """
    sfreq = plan.sfreq
    carry = np.empty((len(plan.ch_names), 0), dtype=np.float32)
    carry_start, next_start = 0, 0
    unusable = np.zeros(int(np.ceil(plan.n_times / sfreq)), dtype=bool)

    def cut(starts: np.ndarray) -> Windows:
        data = np.stack([carry[:, s - carry_start : s - carry_start + length] for s in starts])
        seconds = [unusable[int(s // sfreq) : int(np.ceil((s + length) / sfreq))] for s in starts]
        return Windows(starts, data, np.array([not second.any() for second in seconds]))

    for block in plan.iter_blocks():
        first = int(block.start // sfreq)
        flags = unusable[first : first + len(block.unusable)]
        flags |= block.unusable[: len(flags)]
        carry = np.concatenate([carry, block.data], axis=1)
        available = carry_start + carry.shape[1]
        starts = np.arange(next_start, available - length + 1, stride)
        for i in range(0, len(starts), batch_size):
            yield cut(starts[i : i + batch_size])
        if len(starts):
            next_start = int(starts[-1]) + stride
        # What a later window can still reach; cover_end looks back one full window.
        keep = min(next_start, available - length) if cover_end else next_start
        drop = max(0, min(keep, available) - carry_start)
        carry = carry[:, drop:].copy()
        carry_start += drop
    last = plan.n_times - length
    if cover_end and next_start - stride < last:
        yield cut(np.array([last]))
