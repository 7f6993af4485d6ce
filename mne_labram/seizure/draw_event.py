"""The EEG around one event with the score below it, drawn into a figure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from mne_labram.seizure.double_banana import is_involved
from mne_labram.seizure.draw_scores import EVENT, FAINT, FONT, INK, MISSING, calm, draw_steps
from mne_labram.seizure.excerpts import Excerpt
from mne_labram.seizure.overview import Overview

if TYPE_CHECKING:
    from mne_labram.seizure.events import SeizureEvent

__all__ = ["draw_event", "natural_scale"]

# Left and right chains in two dark colours, which differ in lightness too.
_SIDES = {"left": "#0b3d66", "right": "#8a2b06", "midline": "#24292f", "other": "#5c6470"}
# Not below 50: what a reader knows to be quiet must look quiet.
_SCALES = (50, 70, 100, 150, 200, 300, 500, 700, 1000, 2000)


def natural_scale(traces: np.ndarray) -> float:
    """Choose the microvolts between two traces from how large the traces are: a round number, 50 to 2000."""
    finite = np.where(np.isfinite(traces), np.abs(traces), 0.0)
    moving = finite[finite.any(axis=1)] if finite.size else finite
    if not moving.size:
        return 100.0
    wanted = 1.8 * np.quantile(np.quantile(moving, 0.95, axis=1), 0.75)
    return float(min(_SCALES, key=lambda scale: abs(math.log(scale / max(wanted, 1e-3)))))


def draw_event(
    figure: Any, excerpt: Excerpt, event: SeizureEvent, overview: Overview, *, scale: float | None = None
) -> float:
    """Draw the traces around an event, and the score below them, into an empty figure; return the scale in µV."""
    from matplotlib.collections import LineCollection

    scale = natural_scale(excerpt.traces) if scale is None else scale
    heights, gap = [], 0.0
    for k, each in enumerate(excerpt.derivations):
        if k and (each.side != excerpt.derivations[k - 1].side or _new_chain(excerpt.derivations[k - 1], each)):
            gap += 0.6
        heights.append(-(k + gap))
    n_lines = (len(heights) + gap if heights else 1) + (1.6 if excerpt.ecg is not None else 0)
    inches = max(1.5, 0.27 * n_lines + 0.2)
    head, strip, foot = 0.34, 0.5, 0.55
    height = head + inches + 0.12 + strip + foot
    figure.set_size_inches(12, height)
    ax = figure.add_axes((0.075, (foot + strip + 0.12) / height, 0.895, inches / height))
    below = figure.add_axes((0.075, foot / height, 0.895, strip / height), sharex=ax)
    lines, colours, widths = [], [], []
    for trace, each, level in zip(excerpt.traces, excerpt.derivations, heights, strict=True):
        involved = is_involved(each, event.channels)
        # A broken channel is cut off instead of covering the others.
        y = level + np.clip(trace / scale, -1.6, 1.6)
        lines.append(np.column_stack([excerpt.times(trace), y]))
        colours.append(_SIDES[each.side])
        widths.append(1.0 if involved else 0.65)
        style = (
            {"fontweight": "bold", "bbox": {"facecolor": "#fde3c8", "edgecolor": "none", "pad": 1.4}}
            if involved
            else {}
        )
        ax.annotate(
            _short(each.name), (0, level), xycoords=("axes fraction", "data"), xytext=(-6, 0),
            textcoords="offset points", ha="right", va="center", fontsize=FONT - 1, color=_SIDES[each.side], **style,
        )  # fmt: skip
    ax.add_collection(LineCollection(lines, colors=colours, linewidths=widths), autolim=False)
    lowest = heights[-1] if heights else 0.0
    if excerpt.ecg is not None:
        lowest -= 1.6
        _draw_ecg(ax, excerpt, lowest)
    if not heights:
        ax.text(0.5, 0.5, "no EEG channel to show", transform=ax.transAxes, ha="center", color=INK)
    ax.set(xlim=(excerpt.start, max(excerpt.stop, excerpt.start + 1e-3)), ylim=(lowest - 1.1, 1.1), yticks=[])
    _scale_bar(ax, excerpt, scale)
    low, high = int(excerpt.start), math.ceil(excerpt.stop)
    score = overview.smoothed[low:high]
    draw_steps(below, np.arange(low, low + len(score) + 1, dtype=float), score)
    below.axhline(overview.threshold, color=INK, linewidth=0.8, dashes=(5, 3))
    below.set(ylim=(0, 1.02), yticks=[0, 1])
    below.set_ylabel("score", fontsize=FONT - 1, color=INK, rotation=0, ha="right", va="center")
    for each in (ax, below):
        _mark(each, excerpt, event, overview)
        calm(each)
    ax.tick_params(axis="x", length=0, labelbottom=False)
    ax.spines[["left", "bottom"]].set_visible(False)
    _seconds_axis(below, excerpt, event, overview)
    return scale


def _new_chain(above: Any, below: Any) -> bool:
    """Tell whether two traces are not neighbours of one chain, which share an electrode."""
    return len(above.electrodes) == 2 == len(below.electrodes) and above.electrodes[1] != below.electrodes[0]


def _short(name: str, length: int = 16) -> str:
    """Make a label printable: one line, no mathematics (a dollar sign), not longer than the margin."""
    name = "".join(each if each.isprintable() else " " for each in name).replace("$", r"\$")
    return name if len(name) <= length else name[: length - 1] + "…"


def _mark(ax: Any, excerpt: Excerpt, event: SeizureEvent, overview: Overview) -> None:
    """Shade the event and what was not analysed; the lines in between are seconds."""
    if event.stop > excerpt.start and event.onset < excerpt.stop:
        ax.axvspan(max(event.onset, excerpt.start), min(event.stop, excerpt.stop), color=EVENT, alpha=0.1, linewidth=0)
    for edge in (event.onset, event.stop):
        if excerpt.start <= edge <= excerpt.stop:
            ax.axvline(edge, color=EVENT, linewidth=1.2)
    for a, b in overview.not_analysed:
        if a < excerpt.stop and b > excerpt.start:
            ax.axvspan(
                max(a, excerpt.start), min(b, excerpt.stop),
                facecolor="none", edgecolor=MISSING, hatch="////", linewidth=0, zorder=0,
            )  # fmt: skip
    seconds = np.arange(math.ceil(excerpt.start - event.onset), excerpt.stop - event.onset)
    bottom, top = ax.get_ylim()
    widths = np.where(seconds % 5 == 0, 0.9, 0.4)
    ax.vlines(event.onset + seconds, bottom, top, colors=FAINT, linewidths=widths, zorder=0)


def _seconds_axis(ax: Any, excerpt: Excerpt, event: SeizureEvent, overview: Overview) -> None:
    first = math.ceil((excerpt.start - event.onset) / 5) * 5
    seconds = [second for second in range(first, 10_000, 5) if event.onset + second <= excerpt.stop + 1e-6]
    labels = [
        f"{'onset' if second == 0 else f'{second:+d} s'}\n{overview.clock.text(event.onset + second)}"
        for second in seconds
    ]
    ax.set_xticks([event.onset + second for second in seconds], labels)


def _scale_bar(ax: Any, excerpt: Excerpt, scale: float) -> None:
    """Draw a second by the distance between two traces, above the traces on the right."""
    x = excerpt.stop - 0.002 * (excerpt.stop - excerpt.start)
    high = ax.get_ylim()[1]
    ax.plot([x, x], [high + 0.02, high + 1.02], color=INK, linewidth=1.6, clip_on=False, solid_capstyle="butt")
    ax.annotate(
        f"{scale:g} µV", (x, high + 0.52), xytext=(-5, 0), textcoords="offset points", ha="right", va="center",
        fontsize=FONT, color=INK, annotation_clip=False,
    )  # fmt: skip
    ax.annotate(
        f"{excerpt.montage}, {excerpt.band}", (0, 1), xycoords="axes fraction", xytext=(0, 12),
        textcoords="offset points", ha="left", va="center", fontsize=FONT, color="#57606a",
    )  # fmt: skip


def _draw_ecg(ax: Any, excerpt: Excerpt, level: float) -> None:
    ecg = np.asarray(excerpt.ecg, dtype=float)
    if not np.isfinite(ecg).any():
        return
    ecg = ecg - np.nanmedian(ecg)
    largest = np.nanquantile(np.abs(ecg), 0.999)
    ax.plot(excerpt.times(ecg), level + 0.7 * np.clip(ecg / max(largest, 1e-9), -1, 1), color="#6e7781", linewidth=0.7)
    ax.annotate(
        "ECG", (0, level), xycoords=("axes fraction", "data"), xytext=(-6, 0), textcoords="offset points",
        ha="right", va="center", fontsize=FONT - 1, color="#6e7781",
    )  # fmt: skip
