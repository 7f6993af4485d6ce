"""Plan and carry out what a contract asks of a recording."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import mne
import numpy as np
from mne.utils import logger, verbose

from mne_labram.signal.blocks import Block, ConformPlan, with_progress
from mne_labram.signal.conform_epochs import conform_array, conform_epochs, conform_epochs_array
from mne_labram.signal.contract import LABRAM_CONTRACT, ContractError, SignalContract
from mne_labram.signal.inspection import no_usable_second
from mne_labram.signal.montage import conformed_info
from mne_labram.signal.opening import describe_source, open_recording
from mne_labram.signal.quality import QualityThresholds
from mne_labram.signal.raw_plan import inspect_raw
from mne_labram.signal.report import ConformReport

__all__ = [
    "Block",
    "ConformPlan",
    "conform",
    "conform_array",
    "conform_epochs_array",
    "open_recording",
    "plan_conform",
]


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

    Notes
    -----
    All filters are linear and without phase shift, and a recording is continued beyond its ends by its mirror image
    (:mod:`mne_labram.signal.filtering`). Nothing is filtered across a gap, an ``EDGE`` of concatenated recordings, an
    EEGLAB ``boundary`` or a BrainVision ``New Segment``; the seconds on either side are unusable. Samples that are
    not finite are replaced by the channel's median and their seconds are unusable.

    With ``gaps="split"`` times count the seconds of data in the file, as MNE does, so that events found can be set on
    the Raw at hand; the clock is ahead by the gaps before, which are in ``report.gaps`` and in the ``BAD_gap``
    annotations. The file's own annotations, which MNE leaves at the time of the clock, are moved to their signal.

    Nothing is guessed silently: unless ``line_freq`` is given, the notch is at ``info["line_freq"]``, or where the
    spectrum has a clear peak at 50 or 60 Hz, or left out, and the report says which.
    """
    notes: list[str] = []
    name = describe_source(inst)
    inst = open_recording(inst, notes=notes)
    common = {"match": match, "assume_unit": assume_unit, "line_freq": line_freq, "ch_names": ch_names}
    if not isinstance(inst, mne.io.BaseRaw):
        out, report = conform_epochs(
            inst, contract, keep_bads=keep_bads, thresholds=thresholds, reading_notes=notes, name=name, **common
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
        name=name,
        **common,
    )
    data = np.empty((len(plan.ch_names), plan.n_times))
    for block in with_progress(plan.iter_blocks(60), -(-plan.n_seconds // 60), "Filtering minute by minute"):
        np.multiply(block.data, 1e-6, out=data[:, block.start : block.start + block.data.shape[1]])
    if plan.report.unusable.all():
        raise ContractError(no_usable_second(plan.report))
    info = conformed_info(inst.info, plan.report, contract)
    out = mne.io.RawArray(data, info, first_samp=int(round(inst.first_time * contract.sfreq)), verbose="ERROR")
    _copy_annotations(inst, out, plan)
    return out, plan.report


def _copy_annotations(raw: mne.io.BaseRaw, out: mne.io.BaseRaw, plan: ConformPlan) -> None:
    annotations = plan.annotations.copy()
    for gap in plan.gaps:
        annotations.append(gap.onset + raw.first_time, 0.0, "BAD_gap", extras=[{"missing_seconds": gap.missing}])
    # Annotations of single channels name them as the source does; a channel that was dropped takes its own along.
    names = {row.label: row.name for row in plan.report.channel_map.rows}
    renamed = [tuple(names[each] for each in some if each in names) for some in annotations.ch_names]
    keep = [bool(new) or not old for old, new in zip(annotations.ch_names, renamed, strict=True)]
    if any(annotations.ch_names):
        annotations = mne.Annotations(
            annotations.onset[keep],
            annotations.duration[keep],
            annotations.description[keep],
            annotations.orig_time,
            ch_names=[new for new, kept in zip(renamed, keep, strict=True) if kept],
            extras=annotations[np.flatnonzero(keep)].extras,
        )
    if annotations.orig_time is None:
        # Without a date MNE counts from the first sample when annotations are set, and from zero once they are.
        annotations.onset -= raw.first_time
    out.set_annotations(annotations, emit_warning=False, verbose="ERROR")


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
    name: str | None = None,
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
    name : str | None
        What the recording is called in the report; ``None``: its file.
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
        name=name,
    )
    inspector.raise_first()
    for text in plan.report.warnings:
        logger.warning(text)
    return plan
