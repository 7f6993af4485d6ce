"""Thousands of recordings as one store: headers are read, samples when they are asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from mne.utils import ProgressBar, logger, verbose

from mne_labram.signal.collection import RecordingCollection
from mne_labram.signal.conformed_store import ConformedRecording, ConformedStore
from mne_labram.signal.contract import LABRAM_CONTRACT, ContractError, SignalContract
from mne_labram.signal.discovery import Found, find_recordings
from mne_labram.signal.edf_samples import EdfSamples
from mne_labram.signal.open_files import OpenFiles
from mne_labram.signal.open_recordings import OpenRecordings, read_samples
from mne_labram.signal.recording import Recording, look_at, open_native, picks_of, with_name
from mne_labram.signal.window_table import WindowTable, tile_segments
from mne_labram.signal.windows import n_samples

__all__ = ["ConformedRecording", "ConformedStore", "Recording", "RecordingStore", "WindowTable"]


class RecordingStore(RecordingCollection):
    """Recordings as they are: their own rate, unfiltered, all channels that are in volts.

    Parameters
    ----------
    source : path-like | sequence of path-like | braindecode.datasets.BaseConcatDataset
        A folder (and all folders in it), a BIDS data set, a file, a list of these, or Braindecode's recordings.
    subject_of : callable | None
        Takes a path and returns whose recording it is; ``None``:
        :func:`~mne_labram.signal.discovery.subject_of_path`.
    errors : {"skip", "raise"}
        What to do with a file that cannot be read: log it once and list it in ``skipped``, or raise.
    n_jobs : int | None
        Files looked at in parallel, by joblib; ``None``: one after the other, unless a ``joblib.parallel_config`` says
        otherwise.
    verbose : bool | str | int | None
        Control verbosity of the logging output.

    Attributes
    ----------
    recordings : list of Recording
        What can be read.
    skipped : list of (str, str)
        Path and one sentence for every file that cannot.

    Raises
    ------
    ContractError
        If there are no recordings at all, or one cannot be read and ``errors="raise"``.
    TypeError, ValueError
        If an argument makes no sense.

    Notes
    -----
    Only headers are read to make a store (of EDF+D files also the time stamps, to find gaps). Samples of EDF and BDF
    files are read by one :func:`os.pread` of the data records that hold them; when a file is read for the first time in
    a process, its first and last second are compared with MNE's, and if they differ MNE reads that file from then on.
    All other formats are read by MNE, with the recordings used last kept open.

    A store can be pickled and used in threads, forked processes and DataLoader workers. Memory does not grow with the
    number or length of files.
    """

    @verbose
    def __init__(
        self,
        source: Any,
        *,
        subject_of: Callable[[Path], str] | None = None,
        errors: str = "skip",
        n_jobs: int | None = None,
        verbose: bool | str | int | None = None,
    ) -> None:
        if errors not in ("skip", "raise"):
            raise ValueError(f"errors must be 'skip' or 'raise', got {errors!r}.")
        self.errors = errors
        self.recordings: list[Recording] = []
        self.skipped: list[tuple[str, str]] = []
        self._samples: list[EdfSamples | None] = []
        found = list(find_recordings(source, subject_of))
        if not found:
            raise ContractError(f"There is no recording in {source}; check the path, or pass the files themselves.")
        for each, result in zip(found, _look_at_all(found, n_jobs), strict=True):
            if isinstance(result, str):
                self._skip(each.path, result)
                continue
            recording, samples = result
            for note in recording.notes:
                logger.warning(note)
            self.recordings.append(recording)
            self._samples.append(samples)
        self._verified: set[int] = set()
        self._files, self._open = OpenFiles(), OpenRecordings()

    def _skip(self, path: Path, sentence: str) -> None:
        named = with_name(path, sentence)
        if self.errors == "raise":
            raise ContractError(named)
        self.skipped.append((str(path), sentence))
        logger.warning(f"Skipped: {named}")

    def __repr__(self) -> str:
        return f"<RecordingStore | {len(self)} recordings, {self.n_hours:.3g} h, {len(self.skipped)} skipped>"

    @property
    def n_seconds(self) -> float:
        """Seconds of signal in all recordings."""
        return float(sum(each.n_times / each.sfreq for each in self.recordings))

    def _of(self, chosen: list[int]) -> RecordingStore:
        out = super()._of(chosen)
        out._samples = [self._samples[i] for i in chosen]
        out._verified = {new for new, old in enumerate(chosen) if old in self._verified}
        return out

    def windows(self, seconds: float, *, stride: float | None = None) -> WindowTable:
        """Tile all recordings with windows; none crosses a gap.

        Parameters
        ----------
        seconds : float
            Length of a window.
        stride : float | None
            Step between windows in seconds; ``None``: one after the other.

        Returns
        -------
        table : WindowTable
            In order of file and time.

        Raises
        ------
        ContractError
            If the recordings have different sampling rates, so that windows would have different lengths.
        """
        rates = {each.sfreq for each in self.recordings} or {1.0}
        if len(rates) > 1:
            raise ContractError(
                f"The recordings have different sampling rates ({', '.join(f'{rate:g}' for rate in sorted(rates))} "
                "Hz); conform() the store first, or select() those of one rate."
            )
        sfreq = rates.pop()
        length = n_samples(seconds, sfreq, "seconds")
        step = length if stride is None else n_samples(stride, sfreq, "stride")
        return WindowTable.of_files([tile_segments(each.segments, length, step) for each in self.recordings], length)

    def read(self, file: int, start: int, n_times: int, picks: Sequence[int | str] | None = None) -> np.ndarray:
        """Read a piece of a recording.

        Parameters
        ----------
        file : int
            Number of the recording.
        start, n_times : int
            First sample and number of samples.
        picks : sequence of int or str | None
            Channels wanted, in that order; ``None``: all.

        Returns
        -------
        x : ndarray of float32, shape (n_chans, n_times)
            Microvolts.

        Raises
        ------
        ContractError
            If the file turns out to be damaged, or has changed.
        ValueError
            If the piece does not lie within the recording, or there is no such channel.
        """
        recording = self.recordings[file]
        if not (0 <= start and 0 < n_times and start + n_times <= recording.n_times):
            raise ValueError(
                f"Samples {start} to {start + n_times} do not lie within the {recording.n_times} samples of "
                f"{recording.path.name}."
            )
        rows = None if picks is None else _rows(recording, picks)
        samples = self._samples[file]
        if samples is not None and file not in self._verified:
            samples = self._verify(file)
        if samples is not None:
            return samples.read(self._files, int(start), int(n_times), rows)
        return self._read_with_mne(file, int(start), int(n_times), rows)

    def _read_with_mne(self, file: int, start: int, n_times: int, rows: Sequence[int] | None) -> np.ndarray:
        recording = self.recordings[file]

        def choose(inst: Any) -> list[int]:
            picks = picks_of(inst, recording)
            return picks if rows is None else [picks[row] for row in rows]

        return self._open.read(_key(recording), lambda: open_native(recording), start, n_times, choose)

    def _verify(self, file: int) -> EdfSamples | None:
        """Compare the first and the last second with MNE's; where they differ MNE reads the file from now on."""
        samples, recording = self._samples[file], self.recordings[file]
        n_times = min(max(1, round(recording.sfreq)), recording.n_times)
        # Read here first: a file that is gone or was cut is no matter of who reads it.
        own = {
            start: samples.read(self._files, start, n_times)
            for start in dict.fromkeys((0, recording.n_times - n_times))
        }
        differs = None
        try:
            inst = open_native(recording)
            # A label that occurs at several rates cannot be read by MNE on its own; then the others have to do.
            known = [name for name in recording.ch_names if name in inst.ch_names or not samples.left_out]
            names = known or recording.ch_names
            rows = [recording.ch_names.index(name) for name in names]
            picks = picks_of(inst, replace(recording, ch_names=names))
        except ContractError as error:
            differs = f"MNE says: {error}"
        for start, got in own.items() if differs is None else ():
            expected = read_samples(inst, start, n_times, picks)
            # One rounding of float32 at the largest digital value.
            if not (np.abs(got[rows] - expected) <= samples.rounding[rows, None]).all():
                differs = "values"
        if differs is not None:
            logger.info(f"{recording.path.name} is read by MNE, because this package reads it otherwise ({differs}).")
            self._samples[file] = None
            self.recordings[file] = replace(recording, reader="mne")
        self._verified.add(file)
        return self._samples[file]

    @verbose
    def conform(
        self,
        contract: SignalContract = LABRAM_CONTRACT,
        *,
        cache: str | os.PathLike[str] | None = None,
        match: str = "name",
        assume_unit: str | None = None,
        line_freq: float | None = None,
        gaps: str = "split",
        n_jobs: int | None = None,
        errors: str | None = None,
        verbose: bool | str | int | None = None,
    ) -> ConformedStore:
        """Make all recordings into what a contract asks, once.

        Parameters
        ----------
        contract : SignalContract
            What is asked.
        cache : path-like | None
            Folder in which the conformed recordings are kept; it is made if it is not there. What is in it already is
            not made again. ``None``: a temporary folder, removed when the store is no longer used: the same disk space
            (two bytes per sample) and the same time, every time.
        match, assume_unit, line_freq
            See :func:`mne_labram.conform`.
        gaps : {"split", "raise"}
            Recordings with gaps are read in segments, which no window and no filter crosses, or are refused.
        n_jobs : int | None
            Recordings conformed in parallel, by joblib; ``None``: one after the other, unless a
            ``joblib.parallel_config`` says otherwise, for example ``backend="dask"`` for a cluster.
        errors : {"skip", "raise"} | None
            What to do with a recording that cannot be conformed; ``None``: as for this store.
        verbose : bool | str | int | None
            Control verbosity of the logging output.

        Returns
        -------
        store : ConformedStore
            The conformed recordings.

        Raises
        ------
        ContractError
            If a recording cannot be conformed and ``errors="raise"``, or none can.
        OSError
            If the cache does not fit on the disk, or cannot be written.
        TypeError, ValueError
            If an argument makes no sense.
        """
        from mne_labram.signal.conform_many import build_store

        return build_store(
            self,
            contract,
            cache=cache,
            options={"match": match, "assume_unit": assume_unit, "line_freq": line_freq, "gaps": gaps},
            n_jobs=n_jobs,
            errors=self.errors if errors is None else errors,
        )


def _look_at_all(found: Sequence[Found], n_jobs: int | None) -> list[Any]:
    files = [each for each in found if each.instance is None]
    # Where joblib was not imported there is no joblib.parallel_config either, and it takes 8 MB.
    if n_jobs == 1 or (n_jobs is None and "joblib" not in sys.modules) or len(files) < 2:
        results: Iterable[Any] = map(look_at, files)
    else:
        from joblib import Parallel, delayed

        # One after the other where nobody asked for more; joblib.parallel_config, of the caller, may.
        results = Parallel(n_jobs=n_jobs, return_as="generator")(delayed(look_at)(each) for each in files)
    # To its end, so that the bar is closed.
    looked = iter(list(ProgressBar(results, max_value=len(files), mesg="Reading headers", delay=2.0)))
    # Objects in memory stay here: from another process a copy would come back.
    return [next(looked) if each.instance is None else look_at(each) for each in found]


def _rows(recording: Recording, picks: Sequence[int | str]) -> list[int]:
    if isinstance(picks, str):
        raise TypeError("picks must be a list of channels, got one string.")
    names = {name: row for row, name in enumerate(recording.ch_names)}
    rows = [names.get(pick, -1) if isinstance(pick, str) else int(pick) for pick in picks]
    for pick, row in zip(picks, rows, strict=True):
        if not 0 <= row < len(names):
            raise ValueError(f"{recording.path.name} has no channel {pick!r}.")
    return rows


def _key(recording: Recording) -> Any:
    return recording.path if recording.instance is None else id(recording.instance)
