"""What the commands write. Formats are chosen by the ending, checked before work starts, and written whole."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from mne import Report
from mne.io import BaseRaw

from mne_labram._files import written_whole
from mne_labram.decoding.scores import NOT_ANALYSED, EventScores
from mne_labram.signal.report import ConformReport

__all__ = ["check_writable", "write_annotations", "write_arrays", "write_page"]

_RAW_ENDINGS = ("raw.fif", "raw.fif.gz", "eeg.fif", "eeg.fif.gz")
_ANNOTATION_ENDINGS = ("annot.fif", "annot.fif.gz", ".tsv", ".csv", ".txt", *_RAW_ENDINGS)


def check_writable(fname: Path, overwrite: bool, *, annotations: bool = False, arrays: bool = False) -> None:
    """Refuse a bad name before any work is done.

    Parameters
    ----------
    fname : Path
        Where the output will go.
    overwrite : bool
        Whether a file may be replaced.
    annotations, arrays : bool
        What will be written.

    Raises
    ------
    ValueError
        If the ending is none that can be written.
    OSError
        If the folder does not exist or the file does and may not be replaced.
    """
    name = fname.name.lower()
    if annotations and not name.endswith(_ANNOTATION_ENDINGS):
        raise ValueError(
            f"Annotations cannot be written to {fname.name!r}; let the name end in -annot.fif, .tsv, .csv, .txt or, "
            "for the signal with its annotations, _raw.fif."
        )
    if arrays and not name.endswith(".npz"):
        raise ValueError(f"Arrays are written as .npz and not to {fname.name!r}; let the name end in .npz.")
    if not fname.parent.is_dir():
        raise ValueError(f"The folder {fname.parent} does not exist; make it first.")
    if fname.is_dir():
        raise IsADirectoryError(f"{fname} is a folder; give the name of a file.")
    if fname.exists() and not overwrite:
        raise ValueError(f"{fname} exists; pass --overwrite to replace it.")
    if not os.access(fname.parent, os.W_OK | os.X_OK):
        raise PermissionError(f"The folder {fname.parent} cannot be written to; choose another one for {fname.name}.")


def write_annotations(annotated: BaseRaw, scores: EventScores, fname: Path, *, overwrite: bool = False) -> None:
    """Write annotations in the format of the ending.

    ``.tsv`` and ``.csv`` are ours, with onsets in seconds after the first sample: MNE's csv counts from the first
    annotation (measured with MNE 1.13), which loses where the events are.

    Parameters
    ----------
    annotated : mne.io.Raw
        The recording with all its annotations.
    scores : EventScores
        What was found.
    fname : Path
        Ends in annot.fif, .tsv, .csv, .txt or raw.fif.
    overwrite : bool
        Whether a file may be replaced.
    """
    name = fname.name.lower()
    with written_whole(fname, overwrite=overwrite) as temporary:
        if name.endswith(_RAW_ENDINGS):
            annotated.save(temporary, verbose="error")
        elif name.endswith((".tsv", ".csv")):
            separator = "\t" if name.endswith(".tsv") else ","
            temporary.write_text(_table(annotated, separator), encoding="utf-8")
        else:
            annotated.annotations.save(temporary, verbose="error")


def _table(annotated: BaseRaw, separator: str) -> str:
    """Rows of onset, duration, description and confidence, as text."""
    annotations = annotated.annotations
    lines = [separator.join(("onset", "duration", "description", "confidence"))]
    for onset, duration, description, extras in zip(
        annotations.onset, annotations.duration, annotations.description, annotations.extras, strict=True
    ):
        confidence = f"{extras['confidence']:.4f}" if extras and "confidence" in extras else "n/a"
        # A description read from a file may hold anything; a separator in it must not make a column, nor may a
        # spreadsheet take it for a formula.
        text = " ".join(description.replace(separator, " ").replace('"', "'").split())
        text = f"'{text}" if text[:1] in ("=", "+", "-", "@") else text
        lines.append(separator.join((f"{onset - annotated.first_time:.3f}", f"{duration:.3f}", text, confidence)))
    return "\n".join(lines) + "\n"


def write_arrays(fname: Path, report: ConformReport, *, overwrite: bool = False, **arrays: np.ndarray) -> None:
    """Write arrays with the channel names and the report (JSON) beside them.

    Parameters
    ----------
    fname : Path
        Ends in .npz.
    report : ConformReport
        What was done to the signal.
    overwrite : bool
        Whether a file may be replaced.
    **arrays : ndarray
        Arrays by name.
    """
    with written_whole(fname, overwrite=overwrite) as temporary:
        np.savez_compressed(
            temporary,
            ch_names=np.array(report.ch_names),
            report=np.array(json.dumps(report.to_dict())),
            **arrays,
        )


def write_page(page: Report, fname: Path, *, overwrite: bool = False) -> None:
    """Write an HTML page.

    Parameters
    ----------
    page : mne.Report
        The page.
    fname : Path
        Where.
    overwrite : bool
        Whether a file may be replaced.
    """
    with written_whole(fname, overwrite=overwrite) as temporary:
        page.save(temporary.with_suffix(".html"), open_browser=False, verbose="error")
        if temporary.suffix != ".html":
            temporary.with_suffix(".html").rename(temporary)


def event_lines(scores: EventScores) -> list[str]:
    """Return one line per event, with times after the first sample.

    Parameters
    ----------
    scores : EventScores
        From :func:`mne_labram.annotate_events`.

    Returns
    -------
    lines : list of str
        Onset, end, description and confidence.
    """
    found: Any = scores.annotations()
    offset = 0.0 if scores.meas_date is None else scores.first_time
    return [
        f"{onset - offset:8.0f} s to {onset - offset + duration:6.0f} s  {description}"
        + ("" if description == NOT_ANALYSED else f"  (confidence {extras['confidence']:.2f})")
        for onset, duration, description, extras in zip(
            found.onset, found.duration, found.description, found.extras, strict=True
        )
    ]
