"""Labelled windows for fine-tuning, from a recording and its annotations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mne.io import BaseRaw

from mne_labram.signal.conform import open_recording, plan_conform
from mne_labram.signal.contract import LABRAM_CONTRACT, ContractError, SignalContract
from mne_labram.signal.windows import iter_windows, n_samples, window_length

__all__ = ["annotated_windows"]


def annotated_windows(
    inst: Any,
    descriptions: str | Sequence[str],
    contract: SignalContract = LABRAM_CONTRACT,
    *,
    window: float = 4.0,
    stride: float = 1.0,
    coverage: float = 0.5,
    ch_names: list[str] | None = None,
    match: str = "name",
    assume_unit: str | None = None,
    line_freq: float | None = None,
    gaps: str = "raise",
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Cut a recording into windows labelled by its annotations.

    Parameters
    ----------
    inst : mne.io.Raw | str | Path
        The recording, in volts as MNE holds it, or a file.
    descriptions : str | sequence of str
        Descriptions of the annotations that make a window positive: class 1, 2, ... in the order given; everything
        else is class 0.
    contract : SignalContract
        What the model to be trained takes.
    window, stride : float
        Window length and step in seconds.
    coverage : float
        Part of a window (more than 0, up to 1) that an annotation must cover to give it its class.
    ch_names : list of str | None
        Channels to keep, in order; ``None``: every channel that has an embedding.
    match, assume_unit, line_freq, gaps
        See :func:`mne_labram.conform`.

    Returns
    -------
    X : ndarray, shape (n_windows, n_chans, n_times)
        Microvolts, float32. Windows with unusable seconds are left out.
    y : ndarray of int64, shape (n_windows,)
        Classes.
    ch_names : list of str
        The channels of ``X``.

    Raises
    ------
    ContractError
        If the recording cannot be made into what the model takes, or no window is usable.
    ValueError
        If an argument makes no sense.
    TypeError
        If ``inst`` is not a Raw or a file of one.
    """
    if not 0 < coverage <= 1:
        raise ValueError(f"coverage must lie in (0, 1], got {coverage}.")
    wanted, step = n_samples(window, contract.sfreq, "window"), n_samples(stride, contract.sfreq, "stride")
    raw = open_recording(inst)
    if not isinstance(raw, BaseRaw):
        raise TypeError(f"A continuous recording is needed, got {type(raw).__name__}.")
    descriptions = [descriptions] if isinstance(descriptions, str) else list(descriptions)
    plan = plan_conform(
        raw, contract, ch_names=ch_names, match=match, assume_unit=assume_unit, line_freq=line_freq, gaps=gaps
    )
    length = window_length(contract, plan.n_times, wanted)
    # The plan's annotations are where their signal is, also in an EDF+D file. Onsets hold first_time once they are set,
    # with or without a measurement date.
    annotations = plan.annotations
    onsets = annotations.onset - raw.first_time
    ends = onsets + annotations.duration
    stretches = {}
    for description in descriptions:
        rows = annotations.description == description
        stretches[description] = _joined(onsets[rows], ends[rows])
    X, y = [], []
    for batch in iter_windows(plan, length, step, batch_size=64):
        start = batch.starts[batch.usable] / contract.sfreq
        labels = np.zeros(len(start), dtype=np.int64)
        for number, description in enumerate(descriptions, start=1):
            covered = np.zeros(len(start))
            for begin, end in stretches[description]:
                overlap = np.minimum(start + length / contract.sfreq, end) - np.maximum(start, begin)
                covered += np.maximum(overlap, 0)
            labels[covered >= coverage * length / contract.sfreq] = number
        X.append(batch.data[batch.usable])
        y.append(labels)
    if not sum(map(len, X)):
        raise ContractError("No window of this recording is usable; look at mne_labram.check of it.")
    return np.concatenate(X), np.concatenate(y), list(plan.report.ch_names)


def _joined(onsets: np.ndarray, ends: np.ndarray) -> list[tuple[float, float]]:
    """Join stretches that overlap, as two readers of a recording mark them, so that no second counts twice."""
    joined: list[tuple[float, float]] = []
    for begin, end in sorted(zip(onsets.tolist(), ends.tolist(), strict=True)):
        if joined and begin <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((begin, end))
    return joined
