"""A restoration on paper: what was there, what stands there now, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mne
import numpy as np
from mne.viz.utils import plt_show

from mne_labram.restoration.report import RestorationReport
from mne_labram.restoration.restore import RESTORED
from mne_labram.signal.contract import ContractError

__all__ = ["plot_restoration"]

# Rows of a figure, seconds around what was restored, seconds shown at most, and points per row.
_MAX_CHANNELS, _AROUND, _LONGEST, _POINTS = 8, 1.0, 10.0, 4000


def plot_restoration(
    before: mne.io.BaseRaw | mne.BaseEpochs,
    after: mne.io.BaseRaw | mne.BaseEpochs,
    report: RestorationReport | None = None,
    *,
    picks: str | Sequence[str] | None = None,
    start: float | None = None,
    duration: float | None = None,
    epoch: int | None = None,
    title: str | None = None,
    show: bool = True,
) -> Any:
    """Plot channels before and after they were restored.

    Parameters
    ----------
    before, after : mne.io.Raw | mne.Epochs
        What :func:`mne_labram.gram_restore` was given and what it returned.
    report : RestorationReport | None
        From ``return_report=True``: adds a band of twice the expected standard deviation of the error on either side.
    picks : str | list of str | None
        Channels to show; ``None``: those that were changed in what is shown, the first eight. The title says which
        others were.
    start, duration : float | None
        Seconds to show, counted from the first sample (of the epoch); ``None``: the first that was restored, with a
        second around it, ten seconds at most.
    epoch : int | None
        Which of the epochs; ``None``: the first that was changed.
    title : str | None
        Title of the figure.
    show : bool
        Show the figure.

    Returns
    -------
    figure : matplotlib.figure.Figure
        One row for each channel.

    Raises
    ------
    ContractError
        If the two are not the same recording before and after, nothing was restored in it or in the stretch, or a
        channel or a stretch is not there.
    TypeError
        If one is Raw and the other Epochs.

    Notes
    -----
    The scale of a row is that of what stands there now: an artefact that was replaced may leave the picture.
    """
    import matplotlib.pyplot as plt

    in_epochs = isinstance(after, mne.BaseEpochs)
    if isinstance(before, mne.BaseEpochs) != in_epochs:
        raise TypeError("before and after must both be Raw, or both Epochs.")
    if before.ch_names != after.ch_names or len(before.times) != len(after.times):
        raise ContractError("before and after differ in channels or length; pass a recording and its restoration.")
    sfreq, n_times = float(after.info["sfreq"]), len(after.times)
    spans = _restored_spans(before, after, report, epoch)
    if not spans:
        raise ContractError("Nothing was restored in this recording; pass the one that gram_restore returned.")
    epoch = spans[0][0]
    spans = [span for span in spans if span[0] == epoch]
    asked = _asked(after, picks)
    low, high = _window(spans, asked, sfreq, n_times, start, duration)
    names, left_out = _names(after, asked, spans, low, high)
    rows = [after.ch_names.index(name) for name in names]
    x, y = (_read(inst, epoch, rows, low, high) for inst in (before, after))
    times = np.arange(low, high) / sfreq + (after.times[0] if in_epochs else 0.0)
    figure = plt.figure(figsize=(11, 0.9 + 1.5 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    step = max(1, (high - low) // _POINTS)
    for ax, name, old, new in zip(axes, names, x, y, strict=True):
        changed = ~((old == new) | (np.isnan(old) & np.isnan(new)))
        ax.plot(
            times[::step], np.where(changed, old, np.nan)[::step], color="C3", alpha=0.45, linewidth=0.7, label="before"
        )
        ax.plot(times[::step], new[::step], color="0.35", linewidth=0.8, label="as it was")
        ax.plot(times[::step], np.where(changed, new, np.nan)[::step], color="C0", linewidth=1.1, label="restored")
        band = _deviation(report, name, epoch, low, high, sfreq)
        if band is not None and np.isfinite(band).any():
            wide = 2 * np.where(changed, band, np.nan)
            ax.fill_between(
                times[::step],
                (new - wide)[::step],
                (new + wide)[::step],
                color="C0",
                alpha=0.2,
                linewidth=0,
                label="± 2 expected deviations",
            )
            reach = np.nanmax(np.abs(new - np.nanmedian(new)) + np.nan_to_num(wide))
        else:
            reach = np.nanmax(np.abs(new - np.nanmedian(new)))
        middle = float(np.nanmedian(new))
        reach = 1.1 * float(reach) or 1.0
        for _, onset, stop, channel in spans:
            if channel == name:
                shift = after.times[0] if in_epochs else 0.0
                ax.axvspan(onset / sfreq + shift, stop / sfreq + shift, color="0.93", linewidth=0, zorder=0)
        ax.set(ylim=(middle - reach, middle + reach), ylabel=f"{name} (µV)")
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_xlim(times[0], times[-1])
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=4, frameon=False)
    axes[-1].set_xlabel("time (s)" if not in_epochs else f"time in epoch {epoch} (s)")
    heading = "\n".join(text for text in (title, left_out) if text)
    if heading:
        figure.suptitle(heading, x=0.02, ha="left", fontsize="medium")
    plt_show(show)
    return figure


def _restored_spans(
    before: Any, after: Any, report: RestorationReport | None, epoch: int | None
) -> list[tuple[int | None, int, int, str]]:
    """Return (epoch, first sample, the one after the last, channel), by time."""
    sfreq = float(after.info["sfreq"])
    found: list[tuple[int | None, int, int, str]] = []
    if report is not None:
        for each in report.segments:
            first = int(round(each.onset * sfreq))
            found.append((each.epoch, first, first + int(round(each.duration * sfreq)), each.ch_name))
    elif isinstance(after, mne.io.BaseRaw):
        for each in after.annotations:
            if each["description"] == RESTORED:
                first = int(round((each["onset"] - after.first_time) * sfreq))
                stop = first + int(round(each["duration"] * sfreq))
                found += [(None, first, stop, name) for name in each["ch_names"]]
    else:
        changed = before.get_data(copy=False) != after.get_data(copy=False)
        for number, row in zip(*np.nonzero(changed.any(axis=2)), strict=True):
            where = np.flatnonzero(changed[number, row])
            found.append((int(number), int(where[0]), int(where[-1]) + 1, after.ch_names[row]))
    found = [span for span in found if epoch is None or span[0] == epoch]
    return sorted(found, key=lambda span: (span[0] or 0, span[1]))


def _asked(after: Any, picks: str | Sequence[str] | None) -> list[str] | None:
    if picks is None:
        return None
    names = [picks] if isinstance(picks, str) else list(picks)
    unknown = [name for name in names if name not in after.ch_names]
    if unknown or not names:
        raise ContractError(f"There is no channel {unknown[0]!r}." if unknown else "picks names no channel.")
    return names


def _names(
    after: Any, asked: list[str] | None, spans: list[tuple], low: int, high: int
) -> tuple[list[str], str | None]:
    """Choose the channels to draw, and say which ones that were restored are not there."""
    if asked is not None:
        return asked, None
    here = {span[3] for span in spans if span[1] < high and span[2] > low}
    elsewhere = [name for name in after.ch_names if name in {span[3] for span in spans} - here]
    names = [name for name in after.ch_names if name in here]
    if not names:
        raise ContractError(
            "Nothing was restored in this stretch; choose start and duration so that they meet a segment, or name "
            "channels with picks."
        )
    parts = []
    if names[_MAX_CHANNELS:]:
        parts.append(f"{_listed(names[_MAX_CHANNELS:])} beyond the first {_MAX_CHANNELS}")
    if elsewhere:
        parts.append(f"{_listed(elsewhere)} at other times")
    return names[:_MAX_CHANNELS], f"Also restored, not shown: {'; '.join(parts)}." if parts else None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_MAX_CHANNELS]) + (
        f" and {len(names) - _MAX_CHANNELS} more" if len(names) > _MAX_CHANNELS else ""
    )


def _window(
    spans: list[tuple], names: list[str] | None, sfreq: float, n_times: int, start: float | None, duration: float | None
) -> tuple[int, int]:
    wanted = (span for span in spans if names is None or span[3] in names)
    first = min(wanted, default=spans[0], key=lambda span: span[1])
    low = max(first[1] - int(_AROUND * sfreq), 0) if start is None else int(round(start * sfreq))
    if duration is None:
        high = min(first[2] + int(_AROUND * sfreq), low + int(_LONGEST * sfreq), n_times)
        high = high if high > low else min(low + int(_LONGEST * sfreq), n_times)
    else:
        high = low + int(round(duration * sfreq))
    if not 0 <= low < high <= n_times:
        raise ContractError(
            f"The stretch from {low / sfreq:g} to {high / sfreq:g} s lies outside what there is, {n_times / sfreq:g} s."
        )
    return low, high


def _read(inst: Any, epoch: int | None, rows: list[int], low: int, high: int) -> np.ndarray:
    if epoch is None:
        return 1e6 * inst.get_data(picks=rows, start=low, stop=high, verbose="error")
    return 1e6 * inst.get_data(item=[epoch], picks=rows, verbose="error")[0][:, low:high]


def _deviation(
    report: RestorationReport | None, name: str, epoch: int | None, low: int, high: int, sfreq: float
) -> np.ndarray | None:
    """Return the expected deviation of each sample in µV: that of its second."""
    if report is None or name not in report.ch_names:
        return None
    row = report.ch_names.index(name)
    seconds = report.uncertainty[row] if epoch is None else report.uncertainty[epoch, row]
    return 1e6 * seconds[np.minimum((np.arange(low, high) / sfreq).astype(int), len(seconds) - 1)]
