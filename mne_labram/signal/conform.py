"""Plan and carry out what a contract asks of a recording."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import mne
import numpy as np
from mne.utils import logger, verbose

from mne_labram.signal.blocks import Block, ConformPlan, RawSource
from mne_labram.signal.conform_epochs import conform_array, conform_epochs, conform_epochs_array
from mne_labram.signal.contract import LABRAM_CONTRACT, ContractError, SignalContract
from mne_labram.signal.edf import EdfHeader, Gap, find_gaps, read_edf_header
from mne_labram.signal.inspection import Inspector, check_line_freq, describe_source
from mne_labram.signal.montage import conformed_info
from mne_labram.signal.opening import open_recording
from mne_labram.signal.probe import take_probe
from mne_labram.signal.quality import QualityThresholds, SecondQuality
from mne_labram.signal.report import ConformReport
from mne_labram.signal.units import unit_factor

__all__ = [
    "Block",
    "ConformPlan",
    "conform",
    "conform_array",
    "conform_epochs_array",
    "open_recording",
    "plan_conform",
]

_EDF_SUFFIXES = (".edf", ".bdf", ".rec")


@verbose
def conform(
    inst: mne.io.BaseRaw | mne.BaseEpochs | mne.Evoked | str | os.PathLike[str],
    contract: SignalContract = LABRAM_CONTRACT,
    *,
    match: str = "name",
    assume_unit: str | None = None,
    line_freq: float | None = None,
    gaps: str = "raise",
    ch_names: Sequence[str] | None = None,
    keep_bads: bool = False,
    reject_by_annotation: bool = True,
    thresholds: QualityThresholds | None = None,
    verbose: bool | str | int | None = None,
) -> tuple[Any, ConformReport]:
    """Make a recording into what a contract asks, in a new object.

    Parameters
    ----------
    inst : mne.io.Raw | mne.Epochs | mne.Evoked | path-like
        The recording, in volts as MNE holds it, or a file. Never modified.
    contract : SignalContract
        What is asked.
    match : {"name", "position"}
        ``"position"`` gives electrodes with coordinates but foreign names the nearest row.
    assume_unit : {"V", "mV", "uV", "nV"} | None
        The numbers in ``inst`` (what ``inst.get_data()`` returns) are in this unit, whatever its header says. ``None``:
        volts, as MNE has it.
    line_freq : float | None
        Mains frequency in Hz; 0 for no notch; ``None``: ``info["line_freq"]``, else the peak at 50 or 60 Hz if one
        stands out.
    gaps : {"raise", "split"}
        ``"raise"`` refuses an EDF+D file with gaps. ``"split"`` leaves the data concatenated as MNE reads them, filters
        no gap, and marks each seam with ``BAD_gap``.
    ch_names : list of str | None
        Canonical names of the channels wanted, in that order; those absent are reported. ``None``: all.
    keep_bads : bool
        Keep channels in ``info["bads"]``.
    reject_by_annotation : bool
        Seconds under annotations that begin with BAD or EDGE are unusable.
    thresholds : QualityThresholds | None
        What counts as flat and clipped.
    verbose : bool | str | int | None
        Control verbosity of the logging output.

    Returns
    -------
    inst : mne.io.RawArray | mne.EpochsArray | mne.EvokedArray
        In volts at ``contract.sfreq``, channels under their canonical names with positions; annotations, events,
        ``first_time`` and ``meas_date`` are kept.
    report : ConformReport
        Everything that was dropped, renamed, referenced, filtered and found.

    Raises
    ------
    ContractError
        If the recording cannot be made into that.
    """
    notes: list[str] = []
    inst = open_recording(inst, notes=notes)
    common = {"match": match, "assume_unit": assume_unit, "line_freq": line_freq, "ch_names": ch_names}
    if not isinstance(inst, mne.io.BaseRaw):
        out, report = conform_epochs(
            inst, contract, keep_bads=keep_bads, thresholds=thresholds, reading_notes=notes, **common
        )
        return out, report
    plan = plan_conform(
        inst,
        contract,
        gaps=gaps,
        keep_bads=keep_bads,
        reject_by_annotation=reject_by_annotation,
        thresholds=thresholds,
        reading_notes=notes,
        **common,
    )
    data = np.empty((len(plan.ch_names), plan.n_times))
    for block in plan.iter_blocks():
        np.multiply(block.data, 1e-6, out=data[:, block.start : block.start + block.data.shape[1]])
    info = conformed_info(inst.info, plan.report, contract)
    out = mne.io.RawArray(data, info, first_samp=int(round(inst.first_time * contract.sfreq)), verbose="ERROR")
    _copy_annotations(inst, out, plan)
    return out, plan.report


def _copy_annotations(raw: mne.io.BaseRaw, out: mne.io.BaseRaw, plan: ConformPlan) -> None:
    annotations = raw.annotations.copy()
    # Channel-specific annotations name channels as the source does; those dropped leave the annotation behind.
    names = {row.label: row.name for row in plan.report.channel_map.rows}
    if len(annotations) and any(annotations.ch_names):
        annotations.ch_names = np.array(
            [tuple(names[each] for each in some if each in names) for some in annotations.ch_names] + [()], dtype=object
        )[:-1]
    if plan.gap_samples:
        start = raw.first_time if raw.info["meas_date"] is not None else 0.0
        onsets = [sample / raw.info["sfreq"] + start for sample in plan.gap_samples]
        annotations.append(onsets, [0.0] * len(onsets), ["BAD_gap"] * len(onsets))
    with mne.utils.use_log_level("ERROR"):
        out.set_annotations(annotations, emit_warning=False)


@verbose
def plan_conform(
    raw: mne.io.BaseRaw | str | os.PathLike[str],
    contract: SignalContract = LABRAM_CONTRACT,
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
    verbose: bool | str | int | None = None,
) -> ConformPlan:
    """Decide how a continuous recording becomes what a contract asks, reading only excerpts of it.

    Parameters
    ----------
    raw : mne.io.BaseRaw | path-like
        The recording. Never modified.
    contract, match, assume_unit, line_freq, gaps, ch_names, keep_bads, reject_by_annotation, thresholds
        See :func:`conform`.
    reading_notes : sequence of str
        What was said while the file was opened; goes into the report.
    verbose : bool | str | int | None
        Control verbosity of the logging output.

    Returns
    -------
    plan : ConformPlan
        ``plan.iter_blocks()`` does the work.

    Raises
    ------
    ContractError
        If the recording cannot be made into that.
    """
    plan, inspector = inspect_raw(
        raw,
        contract,
        match=match,
        assume_unit=assume_unit,
        line_freq=line_freq,
        gaps=gaps,
        ch_names=ch_names,
        keep_bads=keep_bads,
        reject_by_annotation=reject_by_annotation,
        thresholds=thresholds,
        reading_notes=reading_notes,
    )
    inspector.raise_first()
    for text in plan.report.warnings:
        logger.info(text)
    return plan


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
) -> tuple[ConformPlan | None, Inspector]:
    """Return the plan (``None`` where there can be none) and the inspector that holds report and problems."""
    report = ConformReport(kind="raw")
    notes = list(reading_notes)
    raw = open_recording(raw, notes=notes)
    if not isinstance(raw, mne.io.BaseRaw):
        raise TypeError(f"A continuous recording is needed, got {type(raw).__name__}.")
    check_line_freq(line_freq)
    factor = unit_factor(assume_unit, "V")
    if gaps not in ("raise", "split"):
        raise ValueError(f"gaps must be 'raise' or 'split', got {gaps!r}.")
    thresholds = QualityThresholds() if thresholds is None else thresholds
    inspector = Inspector(contract, report)
    sfreq = float(raw.info["sfreq"])
    report.source, report.n_seconds = describe_source(raw), raw.n_times / sfreq
    report.sfreq_in = sfreq
    report.unit = "V, as MNE reads it" if assume_unit is None else f"{assume_unit}, as assume_unit says"
    report.warnings += [f"While reading: {text}" for text in notes]
    chain = inspector.design(sfreq, None)
    inspector.too_short(chain.n_out(raw.n_times))
    header = _edf_header(raw)
    found_gaps = _gap_samples(raw, header, gaps, inspector)
    if header is not None:
        _unit_notes(header, raw, inspector, assume_unit)
    picks, dropped = inspector.pick_eeg(raw.info, keep_bads)
    if not picks:
        return None, inspector
    probe = take_probe(RawSource(raw, picks, factor), raw.n_times, sfreq)
    dead = _dead_channels(raw, picks, factor, probe.quiet(thresholds.flat_uv), probe.whole, thresholds)
    labels = [raw.ch_names[i] for i in picks]
    dropped += [(labels[i], "flat or missing throughout") for i in np.flatnonzero(dead)]
    alive = np.flatnonzero(~dead)
    if not len(alive):
        inspector.judge_amplitude(np.zeros(1), factor=factor, vouched=False, what="The recording")
        return None, inspector
    channel_map = inspector.map_names(
        [labels[i] for i in alive], dropped, match=match, chs=[raw.info["chs"][picks[i]] for i in alive]
    )
    chosen = alive if channel_map is None else alive[channel_map.kept]
    broken = inspector.judge_amplitude(
        probe.amplitude[chosen], factor=factor, vouched=assume_unit is not None, what="The recording"
    )
    if broken.any():
        gone = chosen[broken]
        dropped += [(labels[i], f"median amplitude {probe.amplitude[i]:.3g} µV, far from the others'") for i in gone]
        alive = np.setdiff1d(alive, gone)
        channel_map = inspector.map_names(
            [labels[i] for i in alive], dropped, match=match, chs=[raw.info["chs"][picks[i]] for i in alive]
        )
    if channel_map is not None:
        channel_map = inspector.restrict(channel_map, ch_names)
    inspector.source_band(raw.info)
    line = inspector.find_line_freq(line_freq, raw.info["line_freq"], probe)
    report.warnings = list(dict.fromkeys(report.warnings))
    if channel_map is None:
        return None, inspector
    n_warnings = len(report.warnings)
    chain = inspector.design(sfreq, line)
    del report.warnings[n_warnings:]
    kept = alive[channel_map.kept]
    # The map speaks of the labels it was given; in the report, indices are the recording's.
    channel_map = replace(
        channel_map,
        rows=tuple(replace(row, index=picks[i]) for row, i in zip(channel_map.rows, kept, strict=True)),
    )
    report.channel_map, report.montage = channel_map, channel_map.montage
    report.reference = inspector.reference(channel_map)
    if raw.info["projs"]:
        report.warnings.append("Projections in the recording were not applied.")
    source = RawSource(raw, [picks[i] for i in kept], factor)
    limits = _physical_limits(header, raw, source.picks, factor)
    plan = ConformPlan(
        raw=raw,
        contract=contract,
        report=report,
        chain=chain,
        source=source,
        constants=probe.constants[kept],
        limits=limits,
        thresholds=thresholds,
        seams=sorted(set(found_gaps)),
        gap_samples=found_gaps,
    )
    if reject_by_annotation:
        plan.annotated = _bad_annotations(raw, source.picks)
    plan.report.unusable = np.zeros(plan.n_seconds, dtype=bool)
    return plan, inspector


def _edf_header(raw: mne.io.BaseRaw) -> EdfHeader | None:
    """Return the header of the one EDF or BDF file a Raw was read from."""
    names = [name for name in raw.filenames if name is not None]
    if len(names) != 1 or names[0].suffix.lower() not in _EDF_SUFFIXES or not names[0].is_file():
        return None
    return read_edf_header(names[0])


def _gap_samples(raw: mne.io.BaseRaw, header: EdfHeader | None, gaps: str, inspector: Inspector) -> list[int]:
    if header is None:
        return []
    try:
        found: list[Gap] = find_gaps(header)
    except ContractError as error:
        inspector.problems.append(str(error))
        return []
    sfreq, first = raw.info["sfreq"], raw.first_samp
    inside = [(gap, int(round(gap.onset * sfreq)) - first) for gap in found]
    inside = [(gap, sample) for gap, sample in inside if 0 < sample < raw.n_times]
    inspector.report.gaps = [{"onset": sample / sfreq, "missing": gap.missing} for gap, sample in inside]
    if inside and gaps == "raise":
        gap = inside[0][0]
        inspector.problems.append(
            f"{header.path.name} is discontinuous: {gap.missing:g} s are missing after {gap.onset:g} s of data"
            + (f" (the first of {len(inside)} gaps)" if len(inside) > 1 else "")
            + "; pass gaps='split' to treat the parts separately."
        )
    return [sample for _, sample in inside]


def _unit_notes(header: EdfHeader, raw: mne.io.BaseRaw, inspector: Inspector, assume_unit: str | None) -> None:
    from mne_labram.signal.edf import MNE_UNITS

    odd: dict[str, list[str]] = {}
    for name in raw.ch_names:
        signal = header.signal_index(name)
        if signal is not None and header.units[signal] not in MNE_UNITS:
            odd.setdefault(header.units[signal], []).append(name)
    for unit, names in odd.items():
        if len(names) > len(raw.ch_names) / 2:
            inspector.report.warnings.append(
                f"The file gives the unit {unit!r} for {len(names)} channels, which MNE takes for volts."
            )


def _physical_limits(header: EdfHeader | None, raw: mne.io.BaseRaw, picks: Sequence[int], factor: float) -> np.ndarray:
    limits = np.full((len(picks), 2), np.nan)
    if header is None:
        return limits
    for row, pick in zip(limits, picks, strict=True):
        signal = header.signal_index(raw.ch_names[pick])
        if signal is not None:
            low, high, quantum = header.limits_in_volts(signal)
            row[:] = (low + quantum / 2) * factor, (high - quantum / 2) * factor
    return limits


def _dead_channels(
    raw: mne.io.BaseRaw,
    picks: Sequence[int],
    factor: float,
    suspects: np.ndarray,
    whole: bool,
    thresholds: QualityThresholds,
) -> np.ndarray:
    """Return which suspects are dead; where the data are in memory every second is looked at."""
    if whole or not raw.preload or not suspects.any():
        return suspects
    dead = suspects.copy()
    for i in np.flatnonzero(suspects):
        quality = SecondQuality(1, raw.info["sfreq"], raw.n_times, None, thresholds)
        source = RawSource(raw, [picks[i]], factor)
        step = int(60 * raw.info["sfreq"])
        for start in range(0, raw.n_times, step):
            quality.feed(start, source(start, min(start + step, raw.n_times)))
        dead[i] = bool((quality.flat | quality.missing).all())
    return dead


def _bad_annotations(raw: mne.io.BaseRaw, picks: Sequence[int]) -> list[tuple[int, int, np.ndarray]]:
    start = raw.first_time if raw.annotations.orig_time is not None else 0.0
    out = []
    for onset, duration, description, names in zip(
        raw.annotations.onset,
        raw.annotations.duration,
        raw.annotations.description,
        raw.annotations.ch_names,
        strict=True,
    ):
        if not description.upper().startswith(("BAD", "EDGE")):
            continue
        channels = np.array([not names or raw.ch_names[pick] in names for pick in picks])
        first = int(np.floor((onset - start) * raw.info["sfreq"] + 1e-6))
        last = int(np.ceil((onset - start + duration) * raw.info["sfreq"] - 1e-6))
        if channels.any() and last >= 0 and first < raw.n_times:
            out.append((max(0, first), min(max(last, first + 1), raw.n_times), channels))
    return out
