"""Filters for epochs, which are often shorter than a filter.

High-pass: the mirrored continuation of an epoch of ``T`` seconds is periodic in ``2 T``, so below ``l_freq`` it holds
nothing but its mean as long as ``T < 1 / (2 l_freq)``, 5 s for 0.1 Hz. The mean of shorter epochs is removed, which is
what the filter would come to. Where ``info["highpass"]`` says that the recording was high-passed before it was cut,
neither is done: the mean of an epoch is then signal.

Notch: the filter is 6.6 s long. From shorter epochs the sinusoid at the mains frequency that fits best is subtracted.
That takes out a band of about ``1 / T``, for a second as much as the notch does, and needs no signal around the epoch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mne_labram.signal.filtering import NOTCH_SECONDS
from mne_labram.signal.inspection import Inspector
from mne_labram.signal.quality import QualityThresholds, SecondQuality
from mne_labram.signal.report import CHANNEL_PROBLEMS, ConformReport

__all__ = ["filter_windows", "subtract_sinusoids"]

#: Bytes of epochs that are filtered at a time.
_BATCH_BYTES = 64 * 2**20


def subtract_sinusoids(x: np.ndarray, sfreq: float, freqs: Sequence[float]) -> np.ndarray:
    """Subtract the sinusoids that fit best.

    Parameters
    ----------
    x : ndarray, shape (..., n_times)
        Signal without NaN.
    sfreq : float
        Sampling rate in Hz.
    freqs : sequence of float
        Frequencies in Hz.

    Returns
    -------
    y : ndarray, shape (..., n_times)
        What is left.

    Notes
    -----
    Ordinary least squares over the whole epoch, together with a constant and a slope, which are left in.
    """
    n_times = x.shape[-1]
    times = (np.arange(n_times) - (n_times - 1) / 2) / sfreq
    waves = [wave(2 * np.pi * freq * times) for freq in freqs for wave in (np.cos, np.sin)]
    basis = np.stack([np.ones(n_times), times / max(times[-1], 1e-12), *waves])
    weights = np.linalg.pinv(basis)[:, 2:]
    return x - (x @ weights) @ basis[2:]


def filter_windows(
    x: np.ndarray,
    rows: np.ndarray,
    sfreq: float,
    inspector: Inspector,
    constants: np.ndarray,
    factor: float,
    line: float | None,
    high_passed: float,
    thresholds: QualityThresholds,
) -> np.ndarray:
    """Filter, resample and judge epochs, batch by batch.

    Parameters
    ----------
    x : ndarray, shape (n_epochs, n_chans, n_times)
        Epochs in any unit; not modified.
    rows : ndarray of int
        Channels wanted, in order.
    sfreq : float
        Their sampling rate in Hz.
    inspector : Inspector
        Holds the contract; its report is filled in.
    constants : ndarray, shape (n_rows,)
        What stands for an absent sample, in µV.
    factor : float
        Microvolts per number.
    line : float | None
        Mains frequency in Hz.
    high_passed : float
        Edge of the high-pass the recording went through before it was cut, in Hz; 0 for none.
    thresholds : QualityThresholds
        What counts as unusable.

    Returns
    -------
    out : ndarray of float32, shape (n_epochs, n_rows, n_out)
        Microvolts at the contract's rate.
    """
    contract, report = inspector.contract, inspector.report
    n_epochs, _, n_times = x.shape
    seconds = n_times / sfreq
    already = contract.l_freq is not None and high_passed >= contract.l_freq
    long_enough = contract.l_freq is not None and seconds >= 1 / (2 * contract.l_freq)
    chain = inspector.design(sfreq, line, high_pass=long_enough and not already)
    hum: tuple[float, ...] = ()
    if chain.notch_freqs and seconds < NOTCH_SECONDS:
        hum = chain.notch_freqs
        chain = inspector.design(sfreq, None, high_pass=long_enough and not already)
        report.notch += f"; as a sinusoid fitted to each epoch, {NOTCH_SECONDS:g} s being needed for the filter"
    remove_mean = contract.l_freq is not None and not already and not long_enough
    if already:
        report.high_pass = f"none: the recording was high-passed at {high_passed:g} Hz before it was cut"
    elif remove_mean:
        report.high_pass = f"mean of each epoch removed, too short for {contract.l_freq:g} Hz"
    out = np.empty((n_epochs, len(rows), chain.n_out(n_times)), dtype=np.float32)
    step = max(1, _BATCH_BYTES // (8 * max(1, len(rows) * n_times)))
    average = contract.reference == "average" and report.montage == "referential"
    totals = np.zeros((len(CHANNEL_PROBLEMS), len(rows)), dtype=int)
    for start in range(0, n_epochs, step):
        part = x[start : start + step, rows].astype(np.float64)
        part *= factor
        part -= constants[:, None]
        _judge_epochs(part, sfreq, thresholds, report, start, totals)
        part[~np.isfinite(part)] = 0.0
        if chain.l_freq is None and not remove_mean:
            part += constants[:, None]
        done = chain.apply(subtract_sinusoids(part, sfreq, hum) if hum else part)
        if remove_mean:
            done -= done.mean(axis=-1, keepdims=True)
        if average:
            done -= done.mean(axis=1, keepdims=True)
        out[start : start + step] = done
    for channel, name in enumerate(report.ch_names):
        if totals[:, channel].any():
            report.channel_seconds[name] = dict(zip(CHANNEL_PROBLEMS, totals[:, channel].tolist(), strict=True))
    return out


def _judge_epochs(
    part: np.ndarray, sfreq: float, thresholds: QualityThresholds, report: ConformReport, first: int, totals: np.ndarray
) -> None:
    """Judge every second of a batch; an epoch with one unusable second is unusable."""
    for index, epoch in enumerate(part):
        quality = SecondQuality(epoch.shape[0], sfreq, epoch.shape[1], None, thresholds)
        quality.feed(0, epoch)
        masks = (quality.missing, quality.flat, quality.clipped)
        report.unusable[first + index] = (np.logical_or.reduce(masks).mean(axis=1) > thresholds.bad_share).any()
        for row, (problem, mask) in enumerate(zip(CHANNEL_PROBLEMS, masks, strict=False)):
            totals[row] += mask.sum(axis=0)
            if (mask.mean(axis=1) > thresholds.bad_share).any():
                reason = f"epochs {problem}"
                report.reasons[reason] = report.reasons.get(reason, 0) + 1
