"""Short pieces of signal (epochs, averages, arrays) made into what a contract asks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import mne
import numpy as np
from mne.utils import verbose

from mne_labram.signal.contract import LABRAM_CONTRACT, ContractError, SignalContract
from mne_labram.signal.inspection import BROKEN, FLAT, Inspector, check_line_freq
from mne_labram.signal.montage import conformed_info
from mne_labram.signal.opening import READING_ERRORS, describe_source, open_recording, reason_of
from mne_labram.signal.probe import probe_of
from mne_labram.signal.quality import QualityThresholds
from mne_labram.signal.report import ConformReport
from mne_labram.signal.short_signals import filter_windows
from mne_labram.signal.units import unit_factor

__all__ = ["conform_array", "conform_epochs", "conform_epochs_array"]

#: Epochs looked at for unit, offset and mains frequency.
_N_PROBED = 64
#: An average of many epochs can be flat within half a microvolt; only a constant is certain to be nothing.
_AVERAGE_THRESHOLDS = QualityThresholds(flat_uv=1e-6)


@verbose
def conform_epochs_array(
    inst: mne.BaseEpochs | mne.Evoked | str | os.PathLike[str],
    contract: SignalContract = LABRAM_CONTRACT,
    *,
    match: str = "name",
    assume_unit: str | None = None,
    line_freq: float | None = None,
    ch_names: Sequence[str] | None = None,
    keep_bads: bool = False,
    thresholds: QualityThresholds | None = None,
    verbose: bool | str | int | None = None,
) -> tuple[np.ndarray, ConformReport]:
    """Make Epochs or an Evoked into the array a model is fed.

    Parameters
    ----------
    inst : mne.Epochs | mne.Evoked | path-like
        The epochs, in volts as MNE holds them, or a file. Never modified.
    contract, match, assume_unit, line_freq, ch_names, keep_bads, thresholds
        See :func:`mne_labram.conform`.
    verbose : bool | str | int | None
        Control verbosity of the logging output.

    Returns
    -------
    data : ndarray of float32, shape (n_epochs, n_chans, n_times)
        Microvolts at ``contract.sfreq``; an Evoked is one epoch.
    report : ConformReport
        ``report.usable_epochs`` says which epochs may be analysed.

    Raises
    ------
    ContractError
        If the epochs cannot be made into that.
    TypeError
        If ``inst`` is a continuous recording.

    Notes
    -----
    Epochs are continued by their mirror image, like recordings; see :mod:`mne_labram.signal.short_signals` for what
    stands in for the high-pass and the notch where an epoch is too short for them. Both are in the report.
    """
    data, inspector, _ = inspect_epochs(
        inst,
        contract,
        match=match,
        assume_unit=assume_unit,
        line_freq=line_freq,
        ch_names=ch_names,
        keep_bads=keep_bads,
        thresholds=thresholds,
    )
    inspector.raise_first()
    return data, inspector.report


def conform_epochs(
    inst: mne.BaseEpochs | mne.Evoked,
    contract: SignalContract,
    *,
    match: str = "name",
    assume_unit: str | None = None,
    line_freq: float | None = None,
    ch_names: Sequence[str] | None = None,
    keep_bads: bool = False,
    thresholds: QualityThresholds | None = None,
    reading_notes: Sequence[str] = (),
    name: str | None = None,
) -> tuple[mne.EpochsArray | mne.EvokedArray, ConformReport]:
    """Do the same as :func:`conform_epochs_array`, returning an MNE object in volts."""
    data, inspector, inst = inspect_epochs(
        inst,
        contract,
        match=match,
        assume_unit=assume_unit,
        line_freq=line_freq,
        ch_names=ch_names,
        keep_bads=keep_bads,
        thresholds=thresholds,
        reading_notes=reading_notes,
        name=name,
    )
    inspector.raise_first()
    report = inspector.report
    info = conformed_info(inst.info, report, contract)
    volts = data.astype(np.float64) * 1e-6
    if isinstance(inst, mne.Evoked):
        out = mne.EvokedArray(volts[0], info, tmin=inst.times[0], comment=inst.comment, nave=inst.nave, kind=inst.kind)
        return out, report
    out = mne.EpochsArray(
        volts,
        info,
        events=inst.events.copy(),
        tmin=inst.tmin,
        event_id=dict(inst.event_id),
        metadata=None if inst.metadata is None else inst.metadata.copy(),
        selection=inst.selection.copy(),
        drop_log=inst.drop_log,
        verbose="ERROR",
    )
    return out, report


@verbose
def conform_array(
    x: np.ndarray,
    labels: Sequence[str],
    sfreq: float,
    contract: SignalContract = LABRAM_CONTRACT,
    *,
    match: str = "name",
    assume_unit: str | None = None,
    line_freq: float | None = None,
    ch_names: Sequence[str] | None = None,
    positions: np.ndarray | None = None,
    thresholds: QualityThresholds | None = None,
    verbose: bool | str | int | None = None,
) -> tuple[np.ndarray, ConformReport]:
    """Make an array of epochs into the array a model is fed.

    Parameters
    ----------
    x : ndarray, shape (n_epochs, n_chans, n_times)
        Microvolts. Never modified.
    labels : sequence of str
        Channel labels, one per row.
    sfreq : float
        Sampling rate in Hz.
    contract : SignalContract
        What is asked.
    match : {"name", "position"}
        ``"position"`` gives electrodes with ``positions`` but foreign names the nearest row.
    assume_unit : {"V", "mV", "uV", "nV"} | None
        Unit of ``x``; ``None``: microvolts.
    line_freq : float | None
        Mains frequency in Hz; 0 for no notch; ``None``: the peak at 50 or 60 Hz if one stands out.
    ch_names : list of str | None
        Canonical names of the channels wanted, in that order; ``None``: all.
    positions : ndarray, shape (n_chans, 3) | None
        Electrode positions in metres (head frame), for ``match="position"``.
    thresholds : QualityThresholds | None
        What counts as flat and clipped.
    verbose : bool | str | int | None
        Control verbosity of the logging output.

    Returns
    -------
    data : ndarray of float32, shape (n_epochs, n_chans, n_times)
        Microvolts at ``contract.sfreq``.
    report : ConformReport
        ``report.usable_epochs`` says which epochs may be analysed.

    Raises
    ------
    ContractError
        If the array cannot be made into that.
    ValueError
        If its shape and the labels do not fit.
    TypeError
        If it holds no real numbers.
    """
    x = np.asarray(x)
    if x.dtype.kind not in "fiu":
        raise TypeError(f"An array of real numbers is needed, got {x.dtype}.")
    if x.ndim != 3:
        raise ValueError(f"An array of shape (n_epochs, n_chans, n_times) is needed, got {x.shape}.")
    if isinstance(labels, str) or len(labels) != x.shape[1]:
        raise ValueError(f"The array has {x.shape[1]} channels and {len(labels)} channel names were given.")
    if not (np.isfinite(float(sfreq)) and float(sfreq) > 0):
        raise ValueError(f"sfreq must be the sampling rate in Hz, got {sfreq}.")
    report = ConformReport(kind="array", source=f"array {x.shape}")
    inspector = Inspector(contract, report)
    if not len(labels):
        raise ContractError("The array has no channels; there is nothing to analyse.")
    chs = None
    if positions is not None:
        chs = [{"loc": np.asarray(row, dtype=float)} for row in positions]
    factor = unit_factor(assume_unit, "uV")
    report.unit = "µV" if assume_unit is None else f"{assume_unit}, as assume_unit says"
    data = _conform_windows(
        x,
        list(labels),
        float(sfreq),
        inspector,
        dropped=[],
        chs=chs,
        match=match,
        factor=factor,
        vouched=assume_unit is not None,
        line_freq=line_freq,
        info_line=None,
        high_passed=0.0,
        ch_names=ch_names,
        thresholds=QualityThresholds() if thresholds is None else thresholds,
    )
    inspector.raise_first()
    return data, report


def inspect_epochs(
    inst: Any,
    contract: SignalContract,
    *,
    match: str = "name",
    assume_unit: str | None = None,
    line_freq: float | None = None,
    ch_names: Sequence[str] | None = None,
    keep_bads: bool = False,
    thresholds: QualityThresholds | None = None,
    reading_notes: Sequence[str] = (),
    name: str | None = None,
) -> tuple[np.ndarray | None, Inspector, Any]:
    """Return the conformed array (``None`` where there can be none), the inspector and the opened object."""
    notes = list(reading_notes)
    name = describe_source(inst) if name is None else name
    inst = open_recording(inst, notes=notes)
    if not isinstance(inst, (mne.BaseEpochs, mne.Evoked)):
        raise TypeError(f"Epochs or an Evoked are needed, got {type(inst).__name__}.")
    average = isinstance(inst, mne.Evoked)
    report = ConformReport(kind="evoked" if average else "epochs", source=name)
    inspector = Inspector(contract, report)
    report.notes += [f"While reading: {text}" for text in notes]
    factor = unit_factor(assume_unit, "V")
    report.unit = "V, as MNE reads it" if assume_unit is None else f"{assume_unit}, as assume_unit says"
    if not average and not inst.preload:
        inst = inst.copy()  # reading epochs drops the bad ones from the object itself; the data are not copied
    picks, dropped = inspector.pick_eeg(inst.info, keep_bads)
    if thresholds is None:
        thresholds = _AVERAGE_THRESHOLDS if average else QualityThresholds()
    if not picks:
        return None, inspector, inst
    inspector.band_warnings(inst.info["highpass"], inst.info["lowpass"], inst.info["sfreq"])
    inspector.projections(inst.info)
    try:
        x = inst.get_data(picks=picks)[None] if average else inst.get_data(picks=picks, copy=True, verbose="ERROR")
    except READING_ERRORS as error:
        inspector.problems.append(
            f"{report.source} cannot be read ({reason_of(error)}); it is damaged or was cut short, get it again."
        )
        return None, inspector, inst
    data = _conform_windows(
        x,
        [inst.ch_names[i] for i in picks],
        float(inst.info["sfreq"]),
        inspector,
        dropped=dropped,
        chs=[inst.info["chs"][i] for i in picks],
        match=match,
        factor=factor,
        vouched=assume_unit is not None,
        line_freq=line_freq,
        info_line=inst.info["line_freq"],
        high_passed=float(inst.info["highpass"] or 0.0),
        ch_names=ch_names,
        thresholds=thresholds,
    )
    if report.channel_map is not None:
        # The map speaks of the channels it was given; in the report, indices are the recording's.
        rows = tuple(replace(row, index=picks[row.index]) for row in report.channel_map.rows)
        report.channel_map = replace(report.channel_map, rows=rows)
    return data, inspector, inst


def _conform_windows(
    x: np.ndarray,
    labels: list[str],
    sfreq: float,
    inspector: Inspector,
    *,
    dropped: list[tuple[str, str]],
    chs: Sequence[dict[str, Any]] | None,
    match: str,
    factor: float,
    vouched: bool,
    line_freq: float | None,
    info_line: float | None,
    high_passed: float,
    ch_names: Sequence[str] | None,
    thresholds: QualityThresholds,
) -> np.ndarray | None:
    check_line_freq(line_freq)
    report = inspector.report
    n_epochs, _, n_times = x.shape
    report.n_epochs, report.n_seconds = n_epochs, n_times / sfreq
    report.unusable = np.zeros(n_epochs, dtype=bool)
    what = "The array" if report.kind == "array" else "The recording"
    if not n_epochs:
        inspector.problems.append(f"{what} holds no epochs; there is nothing to analyse.")
    possible = inspector.rate_is_possible(sfreq)
    if possible:
        inspector.too_short(inspector.design(sfreq, None).n_out(n_times) if n_times else 0, "An epoch")
    if not (n_epochs and n_times and possible):
        return None
    which = np.unique(np.linspace(0, n_epochs - 1, min(_N_PROBED, n_epochs)).round().astype(int))
    probe = probe_of([np.asarray(x[i], dtype=np.float64) * factor for i in which], sfreq, len(which) == n_epochs)
    dead = probe.quiet(thresholds)
    dropped = dropped + [(labels[i], FLAT) for i in np.flatnonzero(dead)]
    chosen = np.flatnonzero(~dead)
    channel_map = inspector.map_channels_of(labels, chosen, dropped, match=match, chs=chs) if len(chosen) else None
    rows = chosen if channel_map is None else chosen[channel_map.kept]
    # Numbers in a wrong unit can look flat, so the unit is judged first, on whatever moves.
    judged = rows if len(rows) else np.arange(len(dead))
    broken = inspector.judge_amplitude(probe.amplitude[judged], factor=factor, vouched=vouched, what=what)
    if not len(chosen) and not inspector.unit_refused:
        inspector.problems.append(inspector.all_flat(len(dead), thresholds))
    if channel_map is not None and broken.any():
        gone = rows[broken]
        dropped = dropped + [(labels[i], BROKEN) for i in gone]
        chosen = np.setdiff1d(chosen, gone)
        channel_map = inspector.map_channels_of(labels, chosen, dropped, match=match, chs=chs)
    if channel_map is not None:
        channel_map = inspector.restrict(channel_map, ch_names)
    line = inspector.find_line_freq(line_freq, info_line, probe)
    if channel_map is None or inspector.problems:
        return None
    rows = chosen[channel_map.kept]
    in_labels = tuple(replace(row, index=int(i)) for row, i in zip(channel_map.rows, rows, strict=True))
    report.channel_map, report.montage = replace(channel_map, rows=in_labels), channel_map.montage
    report.reference = inspector.reference(channel_map)
    return filter_windows(x, rows, sfreq, inspector, probe.constants[rows], factor, line, high_passed, thresholds)
