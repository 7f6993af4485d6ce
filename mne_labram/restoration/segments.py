"""Picks and segments, as users write them, to samples of channels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

import mne
import numpy as np

from mne_labram.restoration.hidden import EegChannels, Intervals
from mne_labram.signal.contract import ContractError

__all__ = ["distrusted_epochs", "distrusted_raw", "epochs_targets", "raw_targets"]

# Rounding of onsets that were written in seconds: this share of a sample is not outside.
_TOLERANCE = 0.51


def raw_targets(
    raw: mne.io.BaseRaw, channels: EegChannels, picks: str | Sequence[str], segments: Any
) -> tuple[Intervals, list[str]]:
    """Return what is to be restored of a continuous recording.

    Parameters
    ----------
    raw : mne.io.Raw
        The recording.
    channels : EegChannels
        Its channels.
    picks, segments : object
        See :func:`~mne_labram.restoration.restore.gram_restore`.

    Returns
    -------
    targets : Intervals
        Samples of channels.
    notes : list of str
        What was left as it is.

    Raises
    ------
    ContractError
        If nothing, or something that is not there, is asked for.
    TypeError
        If ``segments`` is of no known kind.
    """
    n_times, sfreq = raw.n_times, raw.info["sfreq"]
    targets, notes = Intervals(len(channels.names), n_times), []
    rows, named = _picked(raw.info, channels, picks)
    if segments is None:
        targets.add(0, n_times, _required(rows, picks, len(channels.names)))
        return targets, notes
    for onset, duration, names, clip, what in _continuous_segments(raw, segments):
        start, stop = int(round(onset * sfreq)), int(round((onset + duration) * sfreq))
        if clip:
            start, stop = max(start, 0), min(stop, n_times)
            if start >= stop and duration > 0:
                continue
        elif onset * sfreq < -_TOLERANCE or (onset + duration) * sfreq > n_times + _TOLERANCE:
            raise ContractError(
                f"The {what} ({onset:g} to {onset + duration:g} s) lies outside the recording, which has "
                f"{n_times / sfreq:g} s; onsets are seconds after the first sample."
            )
        if stop <= start:
            notes.append(f"The {what} at {onset:g} s is shorter than a sample.")
            continue
        chosen = _of_segment(raw.info, channels, names, rows, named, what, onset, notes, strict=not clip)
        targets.add(start, stop, chosen)
    if not targets:
        raise ContractError(_nothing(segments, notes))
    return targets, notes


def epochs_targets(
    epochs: mne.BaseEpochs, channels: EegChannels, picks: str | Sequence[str], segments: Any
) -> tuple[list[Intervals], list[str]]:
    """Return what is to be restored of each epoch.

    Parameters
    ----------
    epochs : mne.Epochs
        Loaded.
    channels : EegChannels
        Their channels.
    picks, segments : object
        See :func:`~mne_labram.restoration.restore.gram_restore`.

    Returns
    -------
    targets : list of Intervals
        For each epoch, samples counted from its first one.
    notes : list of str
        What was left as it is.

    Raises
    ------
    ContractError
        If nothing, or something that is not there, is asked for.
    TypeError
        If ``segments`` is of no known kind.
    """
    n_times, sfreq = len(epochs.times), epochs.info["sfreq"]
    targets = [Intervals(len(channels.names), n_times) for _ in range(len(epochs))]
    notes: list[str] = []
    rows, named = _picked(epochs.info, channels, picks)
    if segments is None:
        for each in targets:
            each.add(0, n_times, _required(rows, picks, len(channels.names)))
        return targets, notes
    if isinstance(segments, np.ndarray) and segments.shape == (len(epochs), len(epochs.ch_names)):
        if segments.dtype != bool:
            raise TypeError(f"A mask of bad channels must be of bool, got {segments.dtype}; use mask.astype(bool).")
    if isinstance(segments, np.ndarray) and segments.dtype == bool:
        if segments.shape != (len(epochs), len(epochs.ch_names)):
            raise ContractError(
                f"A mask of bad channels in each epoch needs the shape {(len(epochs), len(epochs.ch_names))}, got "
                f"{segments.shape}."
            )
        allowed = set(rows) if named else set(range(len(channels.names)))
        for each, bad in zip(targets, segments, strict=True):
            each.add(0, n_times, [row for row in np.flatnonzero(bad[channels.picks]).tolist() if row in allowed])
    else:
        for epoch, onset, duration, names, clip, what in _epoch_segments(epochs, segments):
            start = int(round((onset - epochs.tmin) * sfreq))
            stop = int(round((onset + duration - epochs.tmin) * sfreq))
            if not clip and (start < 0 or stop > n_times):
                raise ContractError(
                    f"The {what} ({onset:g} to {onset + duration:g} s) lies outside epoch {epoch}, which has "
                    f"{epochs.times[0]:g} to {epochs.times[-1] + 1 / sfreq:g} s."
                )
            chosen = _of_segment(epochs.info, channels, names, rows, named, what, onset, notes, strict=not clip)
            targets[epoch].add(start, stop, chosen)
    if not any(targets):
        raise ContractError(_nothing(segments, notes))
    return targets, notes


def distrusted_raw(raw: mne.io.BaseRaw, channels: EegChannels) -> tuple[Intervals, Intervals]:
    """Return what a recording itself says is bad.

    Parameters
    ----------
    raw : mne.io.Raw
        The recording.
    channels : EegChannels
        Its channels.

    Returns
    -------
    distrusted : Intervals
        Bad channels, and annotations that begin with BAD and name their channels.
    avoided : Intervals
        Annotations that begin with BAD or EDGE and name none: nothing is learned there.
    """
    sfreq, n = raw.info["sfreq"], len(channels.names)
    distrusted, avoided = Intervals(n, raw.n_times), Intervals(n, raw.n_times)
    distrusted.add(0, raw.n_times, _rows_of(channels, raw.info["bads"]))
    for onset, duration, names, text in _annotated(raw.annotations, raw.first_time):
        start, stop = int(np.floor(onset * sfreq)), int(np.ceil((onset + duration) * sfreq))
        if text.upper().startswith("BAD") and names:
            distrusted.add(start, stop, _rows_of(channels, names))
        elif text.upper().startswith(("BAD", "EDGE")):
            avoided.add(start, max(stop, start + 1), range(n))
    return distrusted, avoided


def distrusted_epochs(epochs: mne.BaseEpochs, channels: EegChannels) -> list[tuple[Intervals, Intervals]]:
    """Return, for each epoch, what :func:`distrusted_raw` returns of a recording."""
    sfreq, n, n_times = epochs.info["sfreq"], len(channels.names), len(epochs.times)
    out = []
    for _ in range(len(epochs)):
        distrusted, avoided = Intervals(n, n_times), Intervals(n, n_times)
        distrusted.add(0, n_times, _rows_of(channels, epochs.info["bads"]))
        out.append((distrusted, avoided))
    for epoch, onset, duration, names, text in _epoch_annotations(epochs):
        start = int(np.floor((onset - epochs.tmin) * sfreq))
        stop = int(np.ceil((onset + duration - epochs.tmin) * sfreq))
        if text.upper().startswith("BAD"):
            out[epoch][0 if names else 1].add(start, stop, _rows_of(channels, names) if names else range(n))
    return out


def _picked(info: mne.Info, channels: EegChannels, picks: Any) -> tuple[list[int], bool]:
    """Return rows, and whether the user named them."""
    if isinstance(picks, str) and picks in ("bads", "all"):
        if picks == "all":
            return list(range(len(channels.names))), False
        unplaced = _unplaced(info, channels, info["bads"], eeg_only=True)
        if unplaced:
            raise ContractError(
                f"The bad channel {unplaced[0]!r} has no known position on the head, or is a difference of "
                "electrodes; set a montage, or name the channels to restore with picks."
            )
        return _rows_of(channels, info["bads"]), False
    if not isinstance(picks, (str, Sequence, np.ndarray)) or not all(isinstance(each, str) for each in picks):
        raise TypeError(f"picks must be 'bads', 'all' or names of channels, got {picks!r}.")
    names = [picks] if isinstance(picks, str) else list(picks)
    if names == ["eeg"] and "eeg" not in info["ch_names"]:
        raise ContractError("There is no channel 'eeg'; picks='all' means every EEG channel, for segments of them.")
    _refuse_unknown(info, channels, names)
    if not names:
        raise ContractError("picks names no channel; name those to restore, or pass picks='bads'.")
    return _rows_of(channels, names), True


def _refuse_unknown(info: mne.Info, channels: EegChannels, names: Sequence[str]) -> None:
    for name in names:
        if name not in info["ch_names"]:
            raise ContractError(f"There is no channel {name!r}; the channels are {', '.join(info['ch_names'][:40])}.")
        kind = mne.channel_type(info, info["ch_names"].index(name))
        if kind != "eeg":
            raise ContractError(f"{name!r} is a channel of type {kind!r}, and only EEG is restored; leave it out.")
    unplaced = _unplaced(info, channels, names)
    if unplaced:
        raise ContractError(
            f"{unplaced[0]!r} has no known position on the head, or is a difference of electrodes; set a montage, or "
            "leave it out."
        )


def _unplaced(info: mne.Info, channels: EegChannels, names: Iterable[str], eeg_only: bool = False) -> list[str]:
    out = [name for name in names if name not in channels.names]
    if eeg_only:
        out = [name for name in out if mne.channel_type(info, info["ch_names"].index(name)) == "eeg"]
    return out


def _required(rows: list[int], picks: Any, n_channels: int) -> list[int]:
    if isinstance(picks, str) and picks == "all":
        raise ContractError("All channels cannot be restored at once; pass segments, or name the channels with picks.")
    if not rows:
        raise ContractError("No channel is marked bad; fill inst.info['bads'], or name the channels with picks.")
    return rows


def _rows_of(channels: EegChannels, names: Iterable[str]) -> list[int]:
    return [channels.names.index(name) for name in names if name in channels.names]


def _of_segment(
    info: mne.Info,
    channels: EegChannels,
    names: Sequence[str],
    rows: list[int],
    named: bool,
    what: str,
    onset: float,
    notes: list[str],
    strict: bool,
) -> list[int]:
    """Choose the channels of one segment: its own where it names some, else those picked."""
    if not names:
        if not rows or len(rows) == len(channels.names):
            text = "names no channel and none is picked; add ch_names to it, or name the channels with picks"
            if strict:
                raise ContractError(f"The {what} at {onset:g} s {text}.")
            notes.append(f"The {what} at {onset:g} s was left as it is: it {text}.")
            return []
        return rows
    if strict:
        _refuse_unknown(info, channels, names)
    own = _rows_of(channels, names)
    chosen = [row for row in own if row in rows] if named else own
    if named and strict and len(chosen) < len(own):
        raise ContractError(
            f"The {what} at {onset:g} s names {', '.join(map(repr, names))}, and picks does not; let picks name them "
            "too, or leave picks out."
        )
    return chosen


def _continuous_segments(raw: mne.io.BaseRaw, segments: Any) -> list[tuple[float, float, tuple[str, ...], bool, str]]:
    """Return (onset, duration, names, whether it may be cut to the recording, what it is) of each."""
    if isinstance(segments, str):
        _known(segments)
        return [
            (onset, duration, names, True, f"annotation {text!r}")
            for onset, duration, names, text in _annotated(raw.annotations, raw.first_time)
            if text.upper().startswith("BAD")
        ]
    if isinstance(segments, mne.Annotations):
        shift = 0.0
        if segments.orig_time is not None:
            if raw.info["meas_date"] is None:
                raise ContractError(
                    "The segments have a date (orig_time) and the recording has none; make them with orig_time=None."
                )
            shift = (raw.info["meas_date"] - segments.orig_time).total_seconds() + raw.first_time
        return [
            (onset, duration, names, False, f"segment {text!r}")
            for onset, duration, names, text in _annotated(segments, shift)
        ]
    return [(onset, duration, names, False, "segment") for onset, duration, names in _tuples(segments, 2)]


def _epoch_segments(
    epochs: mne.BaseEpochs, segments: Any
) -> list[tuple[int, float, float, tuple[str, ...], bool, str]]:
    if isinstance(segments, str):
        _known(segments)
        return [
            (epoch, onset, duration, names, True, f"annotation {text!r}")
            for epoch, onset, duration, names, text in _epoch_annotations(epochs)
            if text.upper().startswith("BAD")
        ]
    if isinstance(segments, mne.Annotations):
        raise TypeError(
            "Segments of Epochs are tuples (epoch, onset, duration) or a mask of shape (n_epochs, n_channels), not "
            "Annotations; set those with epochs.set_annotations and pass segments='bad annotations'."
        )
    out = []
    for epoch, onset, duration, names in _tuples(segments, 3):
        if epoch != int(epoch) or not 0 <= epoch < len(epochs):
            raise ContractError(f"There is no epoch {epoch:g}; there are {len(epochs)}, counted from 0.")
        out.append((int(epoch), onset, duration, names, False, "segment"))
    return out


def _known(segments: str) -> None:
    if segments != "bad annotations":
        raise ContractError(
            f"segments must be None, 'bad annotations', tuples (onset, duration) or Annotations, got {segments!r}."
        )


def _tuples(segments: Any, n_numbers: int) -> list[Any]:
    form = "(onset, duration)" if n_numbers == 2 else "(epoch, onset, duration)"
    if not isinstance(segments, Iterable):
        raise TypeError(f"segments must be tuples {form}, with or without a list of channels, got {segments!r}.")
    out = []
    for each in segments:
        if not isinstance(each, (tuple, list)) or len(each) not in (n_numbers, n_numbers + 1):
            raise TypeError(f"Each segment must be a tuple {form}, with or without a list of channels, got {each!r}.")
        if not all(isinstance(number, Real) for number in each[:n_numbers]):
            raise TypeError(f"Each segment must be a tuple {form} of numbers, got {each!r}.")
        numbers = [float(number) for number in each[:n_numbers]]
        if not np.isfinite(numbers).all() or numbers[-1] <= 0:
            raise ContractError(f"A segment needs finite numbers and a duration above 0, got {each!r}.")
        names = each[n_numbers] if len(each) > n_numbers else ()
        out.append((*numbers, (names,) if isinstance(names, str) else tuple(names)))
    return out


def _annotated(annotations: mne.Annotations, shift: float) -> list[tuple[float, float, tuple[str, ...], str]]:
    """Return onset in seconds of data, duration, channels and description of each annotation."""
    return [
        (float(onset) - shift, float(duration), tuple(names), str(text))
        for onset, duration, text, names in zip(
            annotations.onset, annotations.duration, annotations.description, annotations.ch_names, strict=True
        )
    ]


def _epoch_annotations(epochs: mne.BaseEpochs) -> list[tuple[int, float, float, tuple[str, ...], str]]:
    """Return epoch, onset on the epoch's own time axis, duration, channels and description of each annotation."""
    annotations = epochs.annotations
    if annotations is None or not len(annotations):
        return []
    # What MNE tells of the annotations of an epoch does not name their channels: their numbers find these again.
    numbers = [str(number) for number in range(len(annotations))]
    numbered = mne.Annotations(annotations.onset, annotations.duration, numbers, annotations.orig_time)
    light = epochs.copy().pick(epochs.ch_names[:1], verbose="ERROR")
    light.set_annotations(numbered)
    return [
        (
            epoch,
            float(onset),
            float(duration),
            tuple(annotations.ch_names[int(number)]),
            annotations.description[int(number)],
        )
        for epoch, each in enumerate(light.get_annotations_per_epoch())
        for onset, duration, number in (entry[:3] for entry in each)
    ]


def _nothing(segments: Any, notes: list[str]) -> str:
    if notes:
        return f"There is nothing to restore: {notes[0][0].lower()}{notes[0][1:]}"
    if isinstance(segments, str):
        return "There is no annotation that begins with BAD; annotate what is to be restored, or pass segments."
    if isinstance(segments, np.ndarray) and segments.dtype == bool:
        return "There is nothing to restore: the mask marks no channel of any epoch that picks allows."
    return "There is nothing to restore: segments is empty."
