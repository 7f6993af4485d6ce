"""Thousands of conformed recordings, read window by window."""

from __future__ import annotations

import json
import os
import shutil
import sys
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mne_labram.signal.collection import RecordingCollection
from mne_labram.signal.contract import ContractError, SignalContract
from mne_labram.signal.open_files import OpenFiles
from mne_labram.signal.window_cache import CachedSamples
from mne_labram.signal.window_table import WindowTable, tile_segments
from mne_labram.signal.windows import n_samples

__all__ = ["ConformedRecording", "ConformedStore", "TemporaryFolder", "open_conformed"]


@dataclass(frozen=True, eq=False)
class ConformedRecording:
    """A recording as a contract asks for it.

    Attributes
    ----------
    path : Path
        The file it was made of.
    dataset, subject : str
        Which data set and which subject it belongs to.
    ch_names : list of str
        Canonical names, in the order of the data.
    positions : ndarray, shape (n_chans, 6) | None
        Anode and cathode in metres where channels were matched by position; ``None``: the names say it all.
    montage : str
        ``"referential"``, ``"bipolar"`` or ``"mixed"``.
    n_times : int
        Samples at the contract's rate.
    segments : list of (int, int)
        Stretches without a gap: first sample and the one after the last. Each epoch is one.
    unusable : ndarray of bool, shape (n_seconds,)
        Seconds that must not be analysed; where the recording is made of epochs, those an unusable epoch touches.
    unusable_segments : ndarray of bool, shape (n_segments,)
        Epochs that must not be analysed.
    samples : CachedSamples
        Where the samples are.
    """

    path: Path
    dataset: str
    subject: str
    ch_names: list[str]
    positions: np.ndarray | None
    montage: str
    n_times: int
    segments: list[tuple[int, int]]
    unusable: np.ndarray
    unusable_segments: np.ndarray
    samples: CachedSamples = field(repr=False)


def open_conformed(folder: Path, recording: Any) -> ConformedRecording:
    """Open a recording in a cache.

    Parameters
    ----------
    folder : Path
        Its folder.
    recording : Recording
        The recording it was made of.

    Returns
    -------
    conformed : ConformedRecording
        Without samples.
    """
    about = json.loads((folder / "recording.json").read_text(encoding="utf8"))
    unusable = np.zeros(about["n_seconds"], dtype=bool)
    unusable[about["unusable"]] = True
    unusable_segments = np.zeros(len(about["segments"]), dtype=bool)
    unusable_segments[about["unusable_segments"]] = True
    return ConformedRecording(
        path=recording.path,
        dataset=recording.dataset,
        subject=recording.subject,
        ch_names=[sys.intern(name) for name in about["ch_names"]],  # thousands of recordings have the same
        positions=None if about["positions"] is None else np.array(about["positions"]),
        montage=about["montage"],
        n_times=about["n_times"],
        segments=[(first, stop) for first, stop in about["segments"]],
        unusable=unusable,
        unusable_segments=unusable_segments,
        samples=CachedSamples(folder, about["n_chans"], about["n_times"], about["centred"]),
    )


class TemporaryFolder:
    """A folder that is removed when nobody holds this object any more, by the process that made it.

    Parameters
    ----------
    path : Path
        The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        weakref.finalize(self, _remove, path, os.getpid())


def _remove(path: Path, process: int) -> None:
    if os.getpid() == process:
        shutil.rmtree(path, ignore_errors=True)


class ConformedStore(RecordingCollection):
    """Recordings at a contract's rate, filtered, under canonical names. Made by :meth:`RecordingStore.conform`.

    Parameters
    ----------
    contract : SignalContract
        What the recordings were made into.
    recordings : list of ConformedRecording
        What can be read.
    skipped : list of (str, str)
        Path and one sentence for every file that cannot.
    owner : TemporaryFolder | None
        Keeps a temporary cache alive.

    Attributes
    ----------
    contract, recordings, skipped
        As above.

    Notes
    -----
    Samples are 16-bit on the disk (the error is given in :mod:`mne_labram.signal.window_cache`) and are read by
    :func:`os.pread`, so memory does not grow with the number or length of recordings. A store can be pickled and used
    in threads, forked processes and DataLoader workers. A pickled copy does not keep a temporary cache alive.
    """

    def __init__(
        self,
        contract: SignalContract,
        recordings: list[ConformedRecording],
        skipped: list[tuple[str, str]],
        owner: TemporaryFolder | None = None,
    ) -> None:
        self.contract, self.recordings, self.skipped = contract, recordings, skipped
        self._owner = owner
        self._files = OpenFiles()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_owner": None}

    def __repr__(self) -> str:
        return (
            f"<ConformedStore | {len(self)} recordings, {self.n_hours:.3g} h, {len(self.skipped)} skipped, for "
            f"{self.contract.name}>"
        )

    @property
    def sfreq(self) -> float:
        """Sampling rate in Hz: the contract's."""
        return float(self.contract.sfreq)

    @property
    def n_seconds(self) -> float:
        """Seconds of signal, unusable ones too."""
        return float(sum(each.n_times for each in self.recordings) / self.sfreq)

    def windows(self, seconds: float, *, stride: float | None = None, usable_only: bool = True) -> WindowTable:
        """Tile all recordings with windows; none crosses a gap or the border between two epochs.

        Parameters
        ----------
        seconds : float
            Length of a window.
        stride : float | None
            Step between windows in seconds; ``None``: one after the other.
        usable_only : bool
            Leave out windows that touch an unusable second, or are of an unusable epoch.

        Returns
        -------
        table : WindowTable
            In order of file and time.

        Raises
        ------
        TypeError, ValueError
            If ``seconds`` or ``stride`` is not a positive number.
        """
        length = n_samples(seconds, self.sfreq, "seconds")
        step = length if stride is None else n_samples(stride, self.sfreq, "stride")
        starts = []
        for each in self.recordings:
            segments = each.segments
            by_epoch = each.unusable_segments.any()
            if usable_only and by_epoch:
                segments = [segment for segment, bad in zip(segments, each.unusable_segments, strict=True) if not bad]
            some = tile_segments(segments, length, step)
            if usable_only and not by_epoch and each.unusable.any():
                # Number of unusable seconds before each second, so that those within a window are a difference.
                before = np.concatenate([[0], np.cumsum(each.unusable)])
                first = (some / self.sfreq + 1e-9).astype(np.int64)
                last = ((some + length - 1) / self.sfreq + 1e-9).astype(np.int64)
                some = some[before[last + 1] == before[first]]
            starts.append(some)
        return WindowTable.of_files(starts, length)

    def read(self, file: int, start: int, n_times: int) -> np.ndarray:
        """Read a piece of a recording.

        Parameters
        ----------
        file : int
            Number of the recording.
        start, n_times : int
            First sample and number of samples, at the contract's rate.

        Returns
        -------
        x : ndarray of float32, shape (n_chans, n_times)
            Microvolts.

        Raises
        ------
        ContractError
            If the cache has been removed or damaged.
        ValueError
            If the piece does not lie within the recording.
        """
        recording = self.recordings[file]
        start, n_times = int(start), int(n_times)
        if not (0 <= start and 0 < n_times and start + n_times <= recording.n_times):
            raise ValueError(
                f"Samples {start} to {start + n_times} do not lie within the {recording.n_times} samples of "
                f"{recording.path.name}."
            )
        return recording.samples.read(self._files, start, n_times)

    def report(self, file: int) -> dict[str, Any]:
        """Return what was found in a recording and done to it.

        Parameters
        ----------
        file : int
            Number of the recording.

        Returns
        -------
        report : dict
            :meth:`mne_labram.signal.ConformReport.to_dict`.

        Raises
        ------
        ContractError
            If the cache has been removed.
        """
        path = self.recordings[file].samples.folder / "recording.json"
        try:
            return json.loads(path.read_text(encoding="utf8"))["report"]
        except OSError as error:
            raise ContractError(f"{path} is gone; make the store again.") from error
