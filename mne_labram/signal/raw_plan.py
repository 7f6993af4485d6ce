"""Look at a continuous recording and decide how it becomes what a contract asks."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import mne
import numpy as np

from mne_labram.signal.blocks import ConformPlan
from mne_labram.signal.channels import ChannelMap, parse_channel_name
from mne_labram.signal.contract import ContractError, SignalContract
from mne_labram.signal.edf import MNE_UNITS
from mne_labram.signal.inspection import BROKEN, FLAT, Inspector, check_line_freq
from mne_labram.signal.opening import describe_source, open_recording
from mne_labram.signal.probe import Probe, take_probe
from mne_labram.signal.quality import QualityThresholds, SecondQuality
from mne_labram.signal.report import ConformReport
from mne_labram.signal.seams import (
    FileGap,
    annotation_seams,
    annotations_in_data_time,
    bad_annotations,
    file_gaps,
    gap_sentence,
)
from mne_labram.signal.source import EdfPart, RawSource, edf_parts, signals_of, single_rate
from mne_labram.signal.units import unit_factor

__all__ = ["inspect_raw"]

#: What MNE says of a file that was cut short; said by us in one place for files and for Raw objects.
_SAID_BY_US = "Number of records from the header does not match"


def inspect_raw(
    raw: mne.io.BaseRaw | str | os.PathLike[str],
    contract: SignalContract,
    *,
    match: str = "name",
    assume_unit: str | None = None,
    line_freq: float | None = None,
    gaps: str = "raise",
    ch_names: Sequence[str] | None = None,
    keep_bads: bool = False,
    reject_by_annotation: bool = True,
    thresholds: QualityThresholds | None = None,
    reading_notes: Sequence[str] = (),
    name: str | None = None,
) -> tuple[ConformPlan | None, Inspector]:
    """Plan how a continuous recording becomes what a contract asks.

    Parameters
    ----------
    raw, contract, match, assume_unit, line_freq, gaps, ch_names, keep_bads, reject_by_annotation, thresholds
        See :func:`mne_labram.conform`.
    reading_notes : sequence of str
        What was said while the file was opened.
    name : str | None
        What the recording is called in the report; ``None``: its file.

    Returns
    -------
    plan : ConformPlan | None
        ``None`` where there can be none.
    inspector : Inspector
        Holds the report and every problem found.

    Raises
    ------
    TypeError, ValueError
        If an argument makes no sense.
    """
    notes = list(reading_notes)
    name = describe_source(raw) if name is None else name
    raw = open_recording(raw, notes=notes)
    if not isinstance(raw, mne.io.BaseRaw):
        raise TypeError(f"A continuous recording is needed, got {type(raw).__name__}; use conform_epochs_array.")
    check_line_freq(line_freq)
    factor = unit_factor(assume_unit, "V")
    if gaps not in ("raise", "split"):
        raise ValueError(f"gaps must be 'raise' or 'split', got {gaps!r}.")
    thresholds = QualityThresholds() if thresholds is None else thresholds
    report = ConformReport(kind="raw", source=name)
    inspector = Inspector(contract, report)
    report.n_seconds, report.sfreq_in = raw.n_times / raw.info["sfreq"], float(raw.info["sfreq"])
    report.unit = "V, as MNE reads it" if assume_unit is None else f"{assume_unit}, as assume_unit says"
    report.notes += [f"While reading: {text}" for text in notes if not text.startswith(_SAID_BY_US)]
    parts, unread = edf_parts(raw)
    report.warnings += unread + [part.header.truncation for part in parts if part.header.truncation]

    found_gaps = _look_for_gaps(raw, parts, gaps, inspector)
    picks, dropped = inspector.pick_eeg(raw.info, keep_bads)
    if not picks:
        if inspector.rate_is_possible(report.sfreq_in):
            _judge_length(report.sfreq_in, raw.n_times, inspector)
        return None, inspector
    channels = _Channels(raw, picks, match, inspector)
    try:
        source, note = single_rate(raw, [picks[i] for i in channels.wanted], factor, parts)
        if not inspector.rate_is_possible(source.sfreq):
            return None, inspector
        _judge_length(source.sfreq, source.n_times, inspector)
        if not source.n_times:
            return None, inspector
        probe = take_probe(source, len(source.picks), source.n_times, source.sfreq)
        dead = _dead_channels(source, probe.quiet(thresholds), thresholds)
    except ContractError as error:
        inspector.problems.append(str(error))
        return None, inspector
    if note is not None:
        report.warnings.append(note)
    units = _OddUnits(raw, parts, [picks[i] for i in channels.wanted])
    channel_map = _choose_channels(
        channels, dropped, dead, probe, units, inspector, factor, assume_unit is not None, thresholds
    )
    if channel_map is not None:
        channel_map = inspector.restrict(channel_map, ch_names)
    inspector.band_warnings(raw.info["highpass"], raw.info["lowpass"], source.sfreq)
    inspector.projections(raw.info)
    line = inspector.find_line_freq(line_freq, raw.info["line_freq"], probe)
    if channel_map is None:
        return None, inspector
    rows = channels.positions(channel_map)
    raw_picks = [picks[channels.wanted[i]] for i in rows]
    # The map speaks of the labels it was given; in the report, indices are the recording's.
    report.channel_map = replace(
        channel_map, rows=tuple(replace(row, index=i) for row, i in zip(channel_map.rows, raw_picks, strict=True))
    )
    report.montage = channel_map.montage
    report.reference = inspector.reference(channel_map)
    if units.say(rows) and assume_unit is None and not inspector.unit_refused:
        report.warnings.append(f"Of the channels kept, {units.say(rows)}; their amplitude is plausible all the same.")
    annotations, note = raw.annotations.copy(), None
    if found_gaps:
        annotations, note = annotations_in_data_time(raw, parts, found_gaps)
        report.notes.append(note)
    joins = annotation_seams(raw)
    if joins:
        places = "1 place" if len(joins) == 1 else f"{len(joins)} places"
        report.notes.append(f"Annotations say that pieces were joined at {places}; nothing was filtered across.")
    plan = ConformPlan(
        raw=raw,
        contract=contract,
        report=report,
        chain=inspector.design(source.sfreq, line),
        source=source.pick(rows),
        constants=probe.constants[rows],
        limits=_physical_limits(raw, parts, raw_picks, factor),
        thresholds=thresholds,
        annotations=annotations,
        gaps=found_gaps,
        seams=_samples([*joins, *(gap.onset for gap in found_gaps)], source),
        annotated=bad_annotations(raw, annotations, raw_picks) if reject_by_annotation else [],
    )
    report.unusable = np.zeros(plan.n_seconds, dtype=bool)
    return plan, inspector


class _Channels:
    """The EEG channels of a recording on their way to a channel map.

    Names are mapped before the data are looked at, so that only channels with a place in the model are read, and again
    after some turned out to be dead, so that a duplicate or an alias can step in.
    """

    def __init__(self, raw: mne.io.BaseRaw, picks: Sequence[int], match: str, inspector: Inspector) -> None:
        self.labels = [raw.ch_names[pick] for pick in picks]
        self.chs = [raw.info["chs"][pick] for pick in picks]
        self.match, self.inspector = match, inspector
        first = inspector.map_names(self.labels, [], match=match, chs=self.chs)
        self.known = first is not None
        named = {i for i, each in enumerate(self.labels) if parse_channel_name(each).kind in ("electrode", "bipolar")}
        candidates = set(range(len(picks))) if first is None else named.union(first.kept)
        #: Index into ``picks`` of the channels that are read.
        self.wanted = sorted(candidates)
        self.out = np.zeros(len(self.wanted), dtype=bool)

    def drop(self, which: np.ndarray, reason: str, dropped: list[tuple[str, str]]) -> None:
        """Leave channels out from now on."""
        dropped += [(self.labels[self.wanted[i]], reason) for i in np.flatnonzero(which)]
        self.out |= which

    def map(self, dropped: list[tuple[str, str]]) -> ChannelMap | None:
        """Map what is left; problems of the names themselves were reported the first time."""
        if not self.known:
            return None
        gone = {self.wanted[i] for i in np.flatnonzero(self.out)}
        self.left = [i for i in range(len(self.labels)) if i not in gone]
        return self.inspector.map_names(
            [self.labels[i] for i in self.left], dropped, match=self.match, chs=[self.chs[i] for i in self.left]
        )

    def positions(self, channel_map: ChannelMap) -> np.ndarray:
        """Return, for the rows of the latest map, the index into ``wanted``."""
        place = {index: at for at, index in enumerate(self.wanted)}
        return np.array([place[self.left[index]] for index in channel_map.kept], dtype=int)


def _choose_channels(
    channels: _Channels,
    dropped: list[tuple[str, str]],
    dead: np.ndarray,
    probe: Probe,
    units: _OddUnits,
    inspector: Inspector,
    factor: float,
    vouched: bool,
    thresholds: QualityThresholds,
) -> ChannelMap | None:
    """Leave out dead and broken channels, judge the unit, and map the rest."""
    channels.drop(dead, FLAT, dropped)
    channel_map = channels.map(dropped) if not dead.all() else None
    # Numbers in a wrong unit can look flat, so the unit is judged first, on whatever moves.
    judged = np.arange(len(dead)) if channel_map is None else channels.positions(channel_map)
    broken = inspector.judge_amplitude(probe.amplitude[judged], factor=factor, vouched=vouched, hint=units.say(judged))
    if dead.all() and not inspector.unit_refused:
        inspector.problems.append(inspector.all_flat(len(dead), thresholds))
    if channel_map is not None and broken.any():
        gone = np.zeros(len(dead), dtype=bool)
        gone[judged[broken]] = True
        channels.drop(gone, BROKEN, dropped)
        channel_map = channels.map(dropped)
    return channel_map


def _judge_length(sfreq: float, n_times: int, inspector: Inspector) -> None:
    chain = inspector.design(sfreq, None)
    inspector.too_short(chain.n_out(n_times) if n_times else 0)


def _look_for_gaps(raw: mne.io.BaseRaw, parts: Sequence[EdfPart], gaps: str, inspector: Inspector) -> list[FileGap]:
    try:
        found = file_gaps(raw, parts)
    except ContractError as error:
        inspector.problems.append(str(error))
        return []
    inspector.report.gaps = [{"onset": gap.onset, "missing": gap.missing} for gap in found]
    if found and gaps == "raise":
        inspector.problems.append(gap_sentence(found))
    elif found:
        inspector.report.notes.append(
            "Times count the seconds of data in the file, as MNE does; the clock is ahead by what is missing before."
        )
    return found


def _samples(seconds: Sequence[float], source: RawSource) -> list[int]:
    samples = {int(round(second * source.sfreq)) for second in seconds}
    return sorted(sample for sample in samples if 0 < sample < source.n_times)


class _OddUnits:
    """Physical dimensions in a file that MNE does not know and takes for volts."""

    def __init__(self, raw: mne.io.BaseRaw, parts: Sequence[EdfPart], picks: Sequence[int]) -> None:
        self.odd: list[str | None] = [None] * len(picks)
        if len(parts) == 1:
            units, signals = parts[0].header.units, signals_of(raw, parts[0].header)
            mine = [None if signals[pick] is None else units[signals[pick]] for pick in picks]
            self.odd = [None if unit in MNE_UNITS else unit for unit in mine]

    def say(self, rows: Sequence[int] | np.ndarray) -> str:
        """Say which there are among some of the channels; empty if there are none."""
        counts = Counter(self.odd[row] for row in rows if self.odd[row] is not None)
        return ", ".join(
            f"the file gives {f'the unit {unit!r}' if unit else 'no unit'} for {n} of {len(rows)} channels, which MNE "
            "takes for volts"
            for unit, n in counts.items()
        )


def _physical_limits(raw: mne.io.BaseRaw, parts: Sequence[EdfPart], picks: Sequence[int], factor: float) -> np.ndarray:
    limits = np.full((len(picks), 2), np.nan)
    if len(parts) != 1:
        return limits
    header = parts[0].header
    signals = signals_of(raw, header)
    for row, pick in zip(limits, picks, strict=True):
        if signals[pick] is not None:
            low, high, quantum = header.limits_in_volts(signals[pick])
            if high > low:
                row[:] = (low + quantum / 2) * factor, (high - quantum / 2) * factor
    return limits


def _dead_channels(source: RawSource, suspects: np.ndarray, thresholds: QualityThresholds) -> np.ndarray:
    """Return which suspects are dead; where the data are in memory every second is looked at."""
    if not source.raw.preload or not suspects.any():
        return suspects
    rows = np.flatnonzero(suspects)
    some = source.pick(rows)
    quality = SecondQuality(len(rows), source.sfreq, source.n_times, None, thresholds)
    step = int(60 * source.sfreq)
    for start in range(0, source.n_times, step):
        quality.feed(start, some(start, min(start + step, source.n_times)))
    dead = suspects.copy()
    dead[rows] = (quality.flat | quality.missing).all(axis=0)
    return dead
