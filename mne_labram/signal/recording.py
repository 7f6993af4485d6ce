"""What the header of a recording says, and the recording opened as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import mne

from mne_labram.signal.contract import ContractError
from mne_labram.signal.discovery import Found, open_found
from mne_labram.signal.edf import find_gaps, read_edf_header
from mne_labram.signal.edf_samples import EdfSamples, edf_samples
from mne_labram.signal.open_recordings import electrical_picks
from mne_labram.signal.opening import READING_ERRORS, reason_of
from mne_labram.signal.seams import annotation_seams

__all__ = ["Recording", "look_at", "open_native", "picks_of", "unreadable", "with_name"]

_EDF_SUFFIXES = (".edf", ".bdf", ".rec")


@dataclass(frozen=True)
class Recording:
    """What the header of a recording says.

    Attributes
    ----------
    path : Path
        The file; for an object in memory the file it came from, or a name.
    dataset, subject : str
        Which data set and which subject it belongs to.
    ch_names : list of str
        Channels in volts (EEG, EOG, ECG ...), as MNE calls them.
    sfreq : float
        Sampling rate in Hz.
    n_times : int
        Samples; those of epochs one after the other.
    segments : list of (int, int)
        Stretches without a gap: first sample and the one after the last. Each epoch is one.
    reader : {"pread", "mne"}
        Who reads the samples: this package, or MNE.
    notes : tuple of str
        What a user should know: a file that was cut short, channels that were left out.
    bids : bool
        Whether it is part of a BIDS data set.
    instance : mne.io.BaseRaw | mne.BaseEpochs | None
        The object itself, where the store was made of objects.
    parts : tuple of Path
        Files that hold its samples, where these are others than ``path``.
    """

    path: Path
    dataset: str
    subject: str
    ch_names: list[str]
    sfreq: float
    n_times: int
    segments: list[tuple[int, int]]
    reader: str
    notes: tuple[str, ...] = ()
    bids: bool = False
    instance: Any = field(default=None, repr=False, compare=False)
    parts: tuple[Path, ...] = ()


def look_at(found: Found) -> tuple[Recording, EdfSamples | None] | str:
    """Read the header of a file.

    Parameters
    ----------
    found : Found
        The file, or an object in memory.

    Returns
    -------
    result : tuple of (Recording, EdfSamples | None) | str
        What it says, and where the samples are if they can be read without MNE; one sentence if it cannot be read.
    """
    if found.problem is not None:
        return found.problem
    try:
        if found.instance is None and found.path.suffix.lower() in _EDF_SUFFIXES and found.path.is_file():
            recording, samples = _look_at_edf(found)
        else:
            recording, samples = _look_with_mne(found), None
    except ContractError as error:
        return str(error)
    except (*READING_ERRORS, MemoryError) as error:
        return unreadable(found.path, error)
    if not recording.n_times:
        return f"{found.path.name} holds no samples; get it again."
    if not recording.ch_names:
        return f"{found.path.name} has no EEG channels; there is nothing to read."
    return recording, samples


def _look_at_edf(found: Found) -> tuple[Recording, EdfSamples | None]:
    try:
        header = read_edf_header(found.path)
        samples = edf_samples(header)
    except ContractError as error:
        # MNE reads some headers that break the rules; what it says of others is less to the point.
        try:
            return _look_with_mne(found), None
        except ContractError:
            raise error from None
    gaps = [round(gap.onset * samples.sfreq) for gap in find_gaps(header)]
    notes = [] if header.truncation is None else [f"{header.truncation} What is there is used."]
    if samples.left_out:
        notes.append(
            f"{header.path.name} has channels at other rates than {samples.sfreq:g} Hz, which are left out: "
            f"{', '.join(samples.left_out)}."
        )
    recording = Recording(
        path=found.path,
        dataset=found.dataset,
        subject=found.subject,
        ch_names=list(samples.ch_names),
        sfreq=samples.sfreq,
        n_times=samples.n_times,
        segments=_between([0, *gaps, samples.n_times]),
        reader="pread",
        notes=tuple(notes),
        bids=found.bids,
    )
    return recording, samples


def _look_with_mne(found: Found) -> Recording:
    inst = open_found(replace(found, bids=False))
    if not isinstance(inst, mne.io.BaseRaw | mne.BaseEpochs):
        raise ContractError(f"{found.path.name} holds an average; pass recordings or epochs.")
    sfreq = float(inst.info["sfreq"])
    parts: list[Path] = []
    if isinstance(inst, mne.io.BaseRaw):
        # Of a FIF file that MNE has split, and of formats that keep samples beside the header.
        parts = [Path(name) for name in inst.filenames if name is not None]
        n_times = int(inst.n_times)
        segments = _between([0, *(round(seam * sfreq) for seam in annotation_seams(inst)), n_times])
    else:
        length = len(inst.times)
        n_times = length * len(inst)
        segments = [(first, first + length) for first in range(0, n_times, length)]
    return Recording(
        path=found.path,
        dataset=found.dataset,
        subject=found.subject,
        ch_names=[inst.ch_names[pick] for pick in electrical_picks(inst.info)],
        sfreq=sfreq,
        n_times=int(n_times),
        segments=segments,
        reader="mne",
        bids=found.bids,
        instance=found.instance,
        parts=tuple(part for part in parts if found.instance is None and part != found.path),
    )


def _between(bounds: Sequence[int]) -> list[tuple[int, int]]:
    bounds = sorted(set(bounds))
    return list(zip(bounds[:-1], bounds[1:], strict=True))


def open_native(recording: Recording) -> mne.io.BaseRaw | mne.BaseEpochs:
    """Open a recording with MNE as it is, at the rate that is read here.

    Parameters
    ----------
    recording : Recording
        The recording.

    Returns
    -------
    inst : mne.io.BaseRaw | mne.BaseEpochs
        Its file, not loaded if the format allows that, or the object itself.

    Raises
    ------
    ContractError
        If it cannot be read, or is not what it was when the store was made.
    """
    inst = recording.instance if recording.instance is not None else _open_native(recording)
    sfreq = float(inst.info["sfreq"])
    n_times = inst.n_times if isinstance(inst, mne.io.BaseRaw) else len(inst) * len(inst.times)
    if n_times != recording.n_times or abs(sfreq - recording.sfreq) > 1e-6 * sfreq:
        # Samples would be counted wrongly.
        raise ContractError(
            f"{recording.path.name} has {n_times} samples at {sfreq:g} Hz when MNE reads it, and {recording.n_times} "
            f"at {recording.sfreq:g} Hz when the store was made; make the store again, or pass it to conform()."
        )
    return inst


def _open_native(recording: Recording) -> mne.io.BaseRaw | mne.BaseEpochs:
    inst = open_found(replace(recording, bids=False), [])  # what MNE warns of, it says again when the file is conformed
    if not isinstance(inst, mne.io.BaseRaw) or len(set(recording.ch_names) & set(inst.ch_names)) == len(inst.ch_names):
        return inst
    arguments = dict(getattr(inst, "_init_kwargs", {}))
    if inst.info["sfreq"] == recording.sfreq or "include" not in arguments:
        return inst
    # Channels at other rates are left out, because MNE would resample. It chooses by the label in the file, so one that
    # occurs at several rates cannot be had.
    header = read_edf_header(recording.path)
    signals = [header.signal_index(name) for name in recording.ch_names]
    others = {label for i, label in enumerate(header.labels) if i not in signals}
    labels = {header.labels[signal] for signal in signals if signal is not None} - others
    arguments |= {"include": sorted(labels), "exclude": (), "preload": False, "verbose": "ERROR"}
    with mne.utils.use_log_level("ERROR"):
        return type(inst)(**arguments) if labels else inst


def picks_of(inst: Any, recording: Recording) -> list[int]:
    """Find a recording's channels in the opened object.

    Parameters
    ----------
    inst : mne.io.BaseRaw | mne.BaseEpochs
        The opened object.
    recording : Recording
        The recording.

    Returns
    -------
    picks : list of int
        Index of every channel.

    Raises
    ------
    ContractError
        If one is not there.
    """
    places = {name: i for i, name in enumerate(inst.ch_names)}
    missing = [name for name in recording.ch_names if name not in places]
    if missing:
        raise ContractError(
            f"{recording.path.name} has no channel {missing[0]!r} when MNE reads it; pass it to conform() on its own."
        )
    return [places[name] for name in recording.ch_names]


def unreadable(path: Path, error: BaseException) -> str:
    """Return a sentence about a file that cannot be read."""
    if isinstance(error, PermissionError):
        return f"{path.name} cannot be read ({error.strerror}); get permission to read it."
    return f"{path.name} cannot be read ({reason_of(error)}); it is damaged, get it again."


def with_name(path: Path, sentence: str) -> str:
    """Return a sentence that says which file it speaks of."""
    return sentence if path.name in sentence else f"{path.name}: {sentence}"
