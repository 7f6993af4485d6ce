"""Whether windows can still be told apart after they were compressed: seizures of chb01, mental arithmetic of eegmat.

Each classifier is trained and tested on the original signal; on the decoded one; and trained on the original and tested
on the decoded one, as one who is sent a compressed recording would. Nobody is on both sides.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mne
import numpy as np
from mne.utils import logger, verbose

from mne_labram.benchmark.probe import LabelledWindows, band_power, probe, subject_folds
from mne_labram.benchmark.rate_distortion import Codec, CodecRecording, read_for_codec
from mne_labram.benchmark.seizure_baselines import BASELINE_CONTRACT, BandPower, LineLength
from mne_labram.benchmark.seizure_windows import record_of, window_metrics, window_scores, window_store
from mne_labram.seizure.chbmit import read_excerpts
from mne_labram.seizure.store import SeizureStore

__all__ = [
    "ClassificationRow",
    "classification_after",
    "classification_table",
    "classify_arithmetic",
    "classify_seizures",
]

#: What decoding may cost, in points of balanced accuracy.
GOAL = 1.0
_N_FOLDS = 6
_WINDOW = 4.0


@dataclass(frozen=True)
class ClassificationRow:
    """Balanced accuracies of one task.

    Attributes
    ----------
    task : str
        What is told apart, and by what.
    original, decoded : float
        Trained and tested on the same signal, in percent.
    transferred : float
        Trained on the original signal, tested on the decoded one.
    bits : float
        Bits per second and channel that were used.
    """

    task: str
    original: float
    decoded: float
    transferred: float
    bits: float

    @property
    def lost(self) -> float:
        """Points lost by decoding, the larger of both ways."""
        return self.original - min(self.decoded, self.transferred)


def _coded(codec: Codec, recordings: Sequence[CodecRecording], bitrate: float) -> tuple[list[CodecRecording], float]:
    """Return the recordings after compression, and the bits per second and channel."""
    decoded = codec.code(recordings, bitrate)
    seconds = sum(each.x.size / each.sfreq for each in recordings)
    after = [replace(before, x=each.x) for before, each in zip(recordings, decoded, strict=True)]
    return after, sum(each.bits for each in decoded) / seconds


def classify_arithmetic(codec: Codec, recordings: Sequence[CodecRecording], bitrate: float) -> list[ClassificationRow]:
    """Tell rest from mental arithmetic, of subjects that the classifier has not seen.

    Parameters
    ----------
    codec : Codec
        What compresses.
    recordings : sequence of CodecRecording
        Of eegmat: ``Subject00_1`` (rest), ``Subject00_2`` (arithmetic) and so on.
    bitrate : float
        Bits per second and channel.

    Returns
    -------
    rows : list of ClassificationRow
        Log band power with a logistic regression: as it is, and z-scored within each subject.
    """
    after, bits = _coded(codec, recordings, bitrate)
    windows = _labelled(recordings)
    features, coded = band_power(windows), band_power(_labelled(after))
    folds = subject_folds(windows.subjects, min(_N_FOLDS, len(np.unique(windows.subjects))))
    rows = []
    for standardize in (False, True):

        def accuracy(values: Any, standardize: bool = standardize) -> float:
            return 100.0 * float(probe(values, windows, folds, standardize=standardize).balanced_accuracy.mean())

        def transferred(number: int) -> np.ndarray:
            return np.where(np.isin(windows.subjects, folds[number])[:, None], coded, features)

        task = f"rest or arithmetic, band power{' z-scored by subject' if standardize else ''} + LR"
        rows.append(ClassificationRow(task, accuracy(features), accuracy(coded), accuracy(transferred), bits))
    return rows


def _labelled(recordings: Sequence[CodecRecording]) -> LabelledWindows:
    x, y, subjects = [], [], []
    for each in recordings:
        length = round(_WINDOW * each.sfreq)
        n_windows = len(each.usable)
        windows = each.x[:, : n_windows * length].reshape(len(each.x), n_windows, length).swapaxes(0, 1)[each.usable]
        x.append(windows)
        y += [int(each.name.endswith("_2"))] * len(windows)
        subjects += [each.subject] * len(windows)
    return LabelledWindows(
        np.concatenate(x), np.array(y), np.array(subjects), recordings[0].ch_names, recordings[0].sfreq
    )


def classify_seizures(
    codec: Codec,
    recordings: Sequence[CodecRecording],
    tables: dict[str, Any],
    bitrate: float,
    *,
    detectors: Sequence[Callable[[], Any]] = (BandPower, LineLength),
) -> list[ClassificationRow]:
    """Tell seizures from what was before, in records that the classifier has not seen.

    Parameters
    ----------
    codec : Codec
        What compresses.
    recordings : sequence of CodecRecording
        Excerpts whose names begin with their record.
    tables : dict of str to EventTable
        What is known of each, by name without ending.
    bitrate : float
        Bits per second and channel.
    detectors : sequence of callable
        What makes classifiers of windows.

    Returns
    -------
    rows : list of ClassificationRow
        One for each classifier.

    Notes
    -----
    4-s windows every second of a double banana between 1 and 40 Hz, one record left out at a time, as in
    :func:`mne_labram.benchmark.seizure_windows.window_table`.
    """
    after, bits = _coded(codec, recordings, bitrate)
    with tempfile.TemporaryDirectory() as folder:
        before_store = _store(recordings, tables, Path(folder) / "original")
        after_store = _store(after, tables, Path(folder) / "decoded")
        rows = []
        for factory in detectors:
            scores = [
                _leave_records_out(factory, train, test)
                for train, test in (
                    (before_store, before_store),
                    (after_store, after_store),
                    (before_store, after_store),
                )
            ]
            rows.append(ClassificationRow(f"seizure or not, {factory().name}", *scores, bits))
    return rows


def _store(recordings: Sequence[CodecRecording], tables: dict[str, Any], folder: Path) -> SeizureStore:
    """Write recordings to a folder and open them as the classifiers want them."""
    folder.mkdir()
    names = {}
    for each in recordings:
        raw = mne.io.RawArray(1e-6 * each.x, mne.create_info(list(each.ch_names), each.sfreq, "eeg"), verbose="error")
        path = folder / f"{each.name}_raw.fif"
        raw.save(path, verbose="error")
        names[path.name] = each.name
    return SeizureStore.open(
        folder, BASELINE_CONTRACT, events_of=lambda path: tables.get(names[Path(path).name]), verbose="error"
    )


def _leave_records_out(factory: Callable[[], Any], train: SeizureStore, test: SeizureStore) -> float:
    """Return the balanced accuracy in percent over all windows."""
    train, test = window_store(train, window=_WINDOW), window_store(test, window=_WINDOW)
    of_train, of_test = (np.array([record_of(each.path) for each in some.recordings]) for some in (train, test))
    scores = np.full(len(test), np.nan)
    for record in np.unique(of_test).tolist():
        rows = np.flatnonzero(of_test == record)
        detector = factory().fit(train.select(files=np.flatnonzero(of_train != record)))
        scores[rows] = window_scores(detector, test.select(files=rows))
    return 100.0 * window_metrics(np.array([len(table) > 0 for table in test.tables]), scores)["balanced_accuracy"]


@verbose
def classification_after(
    codecs: dict[str, Codec],
    data: str | os.PathLike[str],
    bitrate: float = 512.0,
    *,
    verbose: bool | str | int | None = None,
) -> dict[str, list[ClassificationRow]]:
    """Compare classification before and after compression.

    Parameters
    ----------
    codecs : dict of str to Codec
        By name; each has to take referential and bipolar recordings of any number of channels.
    data : path-like
        ``../shared/data``.
    bitrate : float
        Bits per second and channel.
    verbose : bool | str | int | None
        Control verbosity of the logging output.

    Returns
    -------
    rows : dict of str to list of ClassificationRow
        By name of the codec.

    Raises
    ------
    FileNotFoundError
        If there are no recordings.
    """
    data = Path(data)
    arithmetic, excerpts = sorted((data / "eegmat").glob("Subject*_[12].edf")), data / "chbmit" / "segments.json"
    if not arithmetic or not excerpts.is_file():
        raise FileNotFoundError(f"{data} does not hold eegmat and chbmit; give the folder of the recordings.")
    of_eegmat = read_for_codec(arithmetic, dataset="eegmat", whole=False)
    tables = {Path(name).stem: table for name, table in read_excerpts(excerpts).items()}
    paths = [path for path in sorted((data / "chbmit").glob("*.edf")) if path.stem in tables]
    of_chbmit = read_for_codec(paths, dataset="chbmit", whole=False)
    found = {}
    for name, codec in codecs.items():
        found[name] = classify_seizures(codec, of_chbmit, tables, bitrate)
        found[name] += classify_arithmetic(codec, of_eegmat, bitrate)
        for row in found[name]:
            logger.info(f"{name}, {row.task}: {row.lost:+.1f} points lost.")
    return found


def classification_table(rows: dict[str, Sequence[ClassificationRow]]) -> str:
    """Write what was measured as a Markdown table.

    Parameters
    ----------
    rows : dict of str to sequence of ClassificationRow
        From :func:`classification_after`.

    Returns
    -------
    table : str
        One line for each codec and task.
    """
    lines = [
        f"Balanced accuracy (%) of windows; decoding may cost {GOAL:g} point.",
        "",
        "| codec | bit/s/channel | task | original | decoded | original, then decoded | |",
        "|---|---|---|---|---|---|---|",
    ]
    for codec, some in rows.items():
        for row in some:
            verdict = "met" if row.lost <= GOAL else "missed"
            lines.append(
                f"| {codec} | {row.bits:.0f} | {row.task} | {row.original:.1f} | {row.decoded:.1f} | "
                f"{row.transferred:.1f} | {verdict} |"
            )
    return "\n".join(lines)
