"""Samples of a Raw in microvolts, read piece by piece from wherever they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import mne
import numpy as np

from mne_labram.signal.contract import ContractError
from mne_labram.signal.edf import EdfHeader, read_edf_header
from mne_labram.signal.opening import READING_ERRORS, describe_source, reason_of

__all__ = ["EdfPart", "RawSource", "edf_parts", "signals_of", "single_rate"]

_EDF_SUFFIXES = (".edf", ".bdf", ".rec")


@dataclass(frozen=True)
class RawSource:
    """Channels of a Raw in µV.

    Attributes
    ----------
    raw : mne.io.BaseRaw
        Where the samples come from; never modified.
    picks : list of int
        Its channels.
    factor : float
        Microvolts per number.
    sfreq : float
        Sampling rate in Hz.
    n_times : int
        Samples.
    offset : int
        Sample of ``raw`` that is sample 0 here.
    """

    raw: mne.io.BaseRaw
    picks: list[int]
    factor: float
    sfreq: float
    n_times: int
    offset: int = 0

    def __call__(self, start: int, stop: int) -> np.ndarray:
        """Return samples ``start..stop-1`` as a new array, shape (n_chans, stop - start).

        Raises ContractError where the file turns out to be damaged: MNE opens many formats without looking at the data.
        """
        start, stop = start + self.offset, stop + self.offset
        try:
            data = self.raw.get_data(picks=self.picks, start=start, stop=stop, verbose="ERROR")
        except READING_ERRORS as error:
            raise ContractError(
                f"{describe_source(self.raw)} cannot be read after {start / self.sfreq:.0f} s ({reason_of(error)}); it "
                "is damaged or was cut short, get it again."
            ) from error
        data *= self.factor
        return data

    def pick(self, rows: Sequence[int]) -> RawSource:
        """Return the same for some of the channels."""
        return replace(self, picks=[self.picks[row] for row in rows])

    @classmethod
    def of(cls, raw: mne.io.BaseRaw, picks: Sequence[int], factor: float) -> RawSource:
        """Return the source that reads a Raw as it is."""
        return cls(raw, list(picks), factor, float(raw.info["sfreq"]), raw.n_times)


@dataclass(frozen=True)
class EdfPart:
    """An EDF or BDF file that a Raw, or a stretch of it, was read from.

    Attributes
    ----------
    header : EdfHeader
        Header of the file.
    start, stop : int
        Samples of the Raw that come from it.
    first : int
        Sample of the file at which they begin, at the Raw's rate.
    """

    header: EdfHeader
    start: int
    stop: int
    first: int


def edf_parts(raw: mne.io.BaseRaw) -> tuple[list[EdfPart], list[str]]:
    """Find the EDF or BDF files behind a Raw.

    Parameters
    ----------
    raw : mne.io.BaseRaw
        The recording.

    Returns
    -------
    parts : list of EdfPart
        One per file, in order.
    notes : list of str
        What could not be read of them.

    Notes
    -----
    A Raw may have been cropped, and several may have been concatenated; MNE keeps both in ``_first_samps`` and
    ``_last_samps`` (no public name), which hold one entry per file.
    """
    parts, notes, start = [], [], 0
    firsts, lasts = raw._first_samps, raw._last_samps
    for name, first, last in zip(raw.filenames, firsts, lasts, strict=False):
        stop = start + int(last) - int(first) + 1
        if name is not None and name.suffix.lower() in _EDF_SUFFIXES and name.is_file():
            try:
                parts.append(EdfPart(read_edf_header(name), start, stop, int(first)))
            except ContractError as error:
                notes.append(f"Gaps could not be looked for: {error}")
        start = stop
    return parts, notes


def signals_of(raw: mne.io.BaseRaw, header: EdfHeader) -> list[int | None]:
    """Tell which signal of an EDF file each channel of a Raw is.

    Parameters
    ----------
    raw : mne.io.BaseRaw
        The recording.
    header : EdfHeader
        Header of the file behind it.

    Returns
    -------
    signals : list of (int | None)
        Index of the signal for every channel, ``None`` where that cannot be told.

    Notes
    -----
    Channels may have been dropped, reordered and renamed since. MNE knows what each one was (``_read_picks`` and
    ``_raw_extras``, no public names) as long as the data are not in memory; otherwise the name has to do.
    """
    by_name = [header.signal_index(name) for name in raw.ch_names]
    read_picks, extras = getattr(raw, "_read_picks", None), getattr(raw, "_raw_extras", None)
    if raw.preload or not read_picks or not extras or "sel" not in extras[0]:
        return by_name
    sel = np.asarray(extras[0]["sel"])
    picks = np.asarray(read_picks[0])
    if len(picks) != len(raw.ch_names) or picks.max(initial=-1) >= len(sel):
        return by_name
    return [int(signal) for signal in sel[picks]]


def single_rate(
    raw: mne.io.BaseRaw, picks: Sequence[int], factor: float, parts: Sequence[EdfPart]
) -> tuple[RawSource, str | None]:
    """Make a source whose channels are read at the rate they were recorded at.

    Parameters
    ----------
    raw : mne.io.BaseRaw
        The recording.
    picks : sequence of int
        Channels wanted.
    factor : float
        Microvolts per number.
    parts : sequence of EdfPart
        EDF files behind the recording.

    Returns
    -------
    source : RawSource
        The channels wanted, in order.
    note : str | None
        What had to be done for it, where it was costly.

    Notes
    -----
    Where the channels of an EDF file have different rates, MNE resamples the slower ones to the fastest, and does so
    separately for every piece it reads: the pieces do not join (https://github.com/mne-tools/mne-python/issues/10635;
    measured: errors as large as the signal). The channels wanted are therefore read on their own.
    """
    plain = RawSource.of(raw, picks, factor)
    if raw.preload or not parts:
        return plain, None
    headers = [part.header for part in parts]
    signals = signals_of(raw, headers[0])
    rates = {headers[0].n_samples[signal] for signal in signals if signal is not None}
    wanted = [signals[pick] for pick in picks]
    if len(rates) < 2 or any(signal is None for signal in wanted):
        return plain, None
    own = {headers[0].n_samples[signal] for signal in wanted}
    if len(own) == 1 and len(parts) == 1 and not any(proj["active"] for proj in raw.info["projs"]):
        reopened = _reopen(raw, headers[0], wanted)
        if reopened is not None:
            return _aligned(raw, reopened, wanted, headers[0], factor), None
    try:
        loaded = raw.copy().pick([raw.ch_names[pick] for pick in picks]).load_data(verbose="ERROR")
    except READING_ERRORS as error:
        raise ContractError(
            f"{describe_source(raw)} cannot be read ({reason_of(error)}); it is damaged, get it again."
        ) from error
    text = "Channels have different sampling rates, so the recording was read into memory at the highest of them."
    order = [loaded.ch_names.index(raw.ch_names[pick]) for pick in picks]
    return RawSource.of(loaded, order, factor), text


def _reopen(raw: mne.io.BaseRaw, header: EdfHeader, signals: Sequence[int]) -> mne.io.BaseRaw | None:
    arguments = dict(getattr(raw, "_init_kwargs", {}))
    if not arguments or arguments.get("infer_types") or arguments.get("exclude_after_unique"):
        return None
    labels = [header.labels[signal] for signal in signals]
    both = Counter(label for label in header.labels if label in labels)
    if any(
        header.n_samples[i] != header.n_samples[signals[0]] for i, label in enumerate(header.labels) if label in both
    ):
        return None
    arguments |= {"include": sorted(both), "exclude": (), "preload": False, "stim_channel": None, "verbose": "ERROR"}
    with mne.utils.use_log_level("ERROR"):
        return type(raw)(**arguments)


def _aligned(
    raw: mne.io.BaseRaw, reopened: mne.io.BaseRaw, wanted: Sequence[int], header: EdfHeader, factor: float
) -> RawSource:
    signals = signals_of(reopened, header)
    sfreq = float(reopened.info["sfreq"])
    offset = int(round(raw.first_samp / raw.info["sfreq"] * sfreq))
    n_times = min(int(round(raw.n_times / raw.info["sfreq"] * sfreq)), reopened.n_times - offset)
    return RawSource(reopened, [signals.index(signal) for signal in wanted], factor, sfreq, n_times, offset)
