"""Recordings in any format of MNE, kept open between reads."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import mne
import numpy as np

from mne_labram.signal.contract import ContractError
from mne_labram.signal.kept_open import KeptOpen
from mne_labram.signal.opening import READING_ERRORS, describe_source, reason_of

__all__ = ["OpenRecordings", "electrical_picks", "read_samples"]


def electrical_picks(info: mne.Info) -> list[int]:
    """Return the channels that are in volts: EEG, intracranial, EOG, ECG, EMG; bad ones too."""
    wanted = dict.fromkeys(("eeg", "seeg", "ecog", "dbs", "eog", "ecg", "emg", "bio"), True)
    return mne.pick_types(info, meg=False, exclude=(), **wanted).tolist()


def read_samples(inst: Any, start: int, n_times: int, picks: Sequence[int]) -> np.ndarray:
    """Read a piece of a recording.

    Parameters
    ----------
    inst : mne.io.BaseRaw | mne.BaseEpochs
        The recording; the samples of epochs are counted through.
    start, n_times : int
        First sample and number of samples.
    picks : sequence of int
        Channels.

    Returns
    -------
    x : ndarray of float32, shape (n_chans, n_times)
        Microvolts.

    Raises
    ------
    ContractError
        If the file turns out to be damaged: MNE opens many formats without looking at the data.
    """
    try:
        if isinstance(inst, mne.io.BaseRaw):
            data = inst.get_data(picks=list(picks), start=start, stop=start + n_times, verbose="ERROR")
        else:
            length = len(inst.times)
            first, last = start // length, -(-(start + n_times) // length)
            some = inst.get_data(picks=list(picks), item=slice(first, last), copy=False, verbose="ERROR")
            data = np.concatenate(list(some), axis=1)[:, start - first * length :][:, :n_times]
    except READING_ERRORS as error:
        raise ContractError(
            f"{describe_source(inst)} cannot be read after sample {start} ({reason_of(error)}); it is damaged or was "
            "cut short, get it again."
        ) from error
    return (data * 1e6).astype(np.float32)


@dataclass
class _Entry:
    inst: Any
    lock: threading.Lock = field(default_factory=threading.Lock)


class OpenRecordings(KeptOpen):
    """The recordings read last, open.

    Parameters
    ----------
    limit : int
        How many are kept. MNE holds no samples of most formats; of epochs and of a few formats it holds all.

    Notes
    -----
    Reading is guarded by a lock for each recording, because not every reader of MNE may be used by two threads at once.
    Pickled copies and forked processes open their own.
    """

    def __init__(self, limit: int = 8) -> None:
        super().__init__(limit)

    def read(
        self,
        key: Any,
        opener: Callable[[], Any],
        start: int,
        n_times: int,
        choose: Callable[[Any], Sequence[int]],
    ) -> np.ndarray:
        """Read a piece of a recording, opening it if it is not open.

        Parameters
        ----------
        key : hashable
            Which recording.
        opener : callable
            Opens it.
        start, n_times : int
            First sample and number of samples.
        choose : callable
            Takes the opened recording and returns the channels wanted.

        Returns
        -------
        x : ndarray of float32, shape (n_chans, n_times)
            Microvolts.
        """
        if self._process != os.getpid():
            self._start()
        with self._lock:
            entry = self._open.get(key)
            if entry is not None:
                self._open.move_to_end(key)
        if entry is None:
            entry = _Entry(opener())
            with self._lock:
                entry = self._open.setdefault(key, entry)
                if len(self._open) > self.limit:
                    self._open.popitem(last=False)
        with entry.lock:
            return read_samples(entry.inst, start, n_times, choose(entry.inst))
