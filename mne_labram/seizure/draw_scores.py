"""The score over the whole recording and the burden per hour, drawn into a figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mne_labram.seizure.overview import Overview
from mne_labram.signal.clock import elapsed

if TYPE_CHECKING:
    from mne_labram.seizure.events import SeizureEvent

__all__ = ["draw_burden", "draw_scores", "highest_of_each"]

# Colours that the common forms of colour blindness tell apart (Okabe and Ito 2008), and that differ in grey.
SCORE, EVENT, MISSING, INK, FAINT = "#0072b2", "#d55e00", "#b8bcc2", "#24292f", "#d8dce1"
#: Pixels across a row: more maxima than that could not be told apart.
COLUMNS = 1200
_MAX_ROWS = 12
_SPANS = (1, 2, 4, 6, 8, 12, 24)
FONT = 9


def highest_of_each(values: np.ndarray, n_columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Reduce values to columns by the maximum; return the edges in values, and the columns (NaN where all are)."""
    if len(values) <= n_columns:
        return np.arange(len(values) + 1), values
    edges = np.linspace(0, len(values), n_columns + 1).astype(int)
    return edges, np.fmax.reduceat(values, edges[:-1])


def _rows(overview: Overview) -> tuple[list[float], float]:
    """Return where the rows begin, and how long they are: whole hours of the clock if there are several."""
    hours = overview.duration / 3600
    if hours <= 2.0:
        return [0.0], overview.duration
    span = next((each for each in _SPANS if hours / each <= _MAX_ROWS), 24 * math.ceil(hours / 24 / _MAX_ROWS))
    span = max(span, 4 if hours > 12 else span) * 3600.0
    start = overview.clock.start
    early = 0.0 if start is None else start.minute * 60 + start.second + start.microsecond * 1e-6
    return [float(each) for each in np.arange(-early, overview.duration, span)], span


def draw_scores(figure: Any, overview: Overview, *, title: str | None = None) -> None:
    """Draw the score over the whole recording into an empty figure, and give it its size."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    starts, span = _rows(overview)
    row_height, head, foot = (1.6 if len(starts) == 1 else 0.62), 0.62 + 0.3 * bool(title), 0.45
    pitch = row_height + 0.48
    height = head + len(starts) * pitch - 0.48 + foot
    figure.set_size_inches(12, height)
    score = overview.smoothed
    for k, start in enumerate(starts):
        bottom = (height - head - k * pitch - row_height) / height
        ax = figure.add_axes((0.045, bottom, 0.925, row_height / height))
        _draw_row(ax, overview, score, start, start + span)
    handles = [
        Line2D([], [], color=SCORE, label="probability, highest second of each pixel"),
        Line2D([], [], color=INK, linestyle=(0, (4, 3)), linewidth=1, label=f"threshold {overview.threshold:.3g}"),
        Patch(facecolor=EVENT, alpha=0.45, label="event, with its number"),
        Patch(facecolor="#eef0f2", edgecolor=MISSING, hatch="////", linewidth=0, label="not analysed"),
    ]
    if overview.clock.gaps:
        handles.append(Line2D([], [], color=INK, linewidth=1, linestyle=":", label="gap in the file"))
    legend_top = 1 - (0.3 * bool(title)) / height
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.04, legend_top),
        ncols=5,
        frameon=False,
        fontsize=FONT,
        labelcolor=INK,
        borderaxespad=0,
    )
    if title:
        figure.suptitle(title, x=0.045, y=1 - 0.06 / height, ha="left", va="top", fontsize=FONT + 3, color=INK)


def _draw_row(ax: Any, overview: Overview, score: np.ndarray, start: float, stop: float) -> None:
    span = stop - start
    low, high = max(0, int(start)), min(len(score), math.ceil(stop))
    edges, columns = highest_of_each(score[low:high], COLUMNS)
    draw_steps(ax, np.minimum(low + edges, overview.duration), columns)
    for a, b in overview.not_analysed:
        if a < stop and b > start:
            b = max(b, a + span / COLUMNS)
            ax.axvspan(a, b, facecolor="#eef0f2", edgecolor=MISSING, hatch="////", linewidth=0)
    ax.plot(
        [max(0, start), min(stop, overview.duration)], [overview.threshold] * 2, color=INK, linewidth=0.8, dashes=(5, 3)
    )
    for onset, _ in overview.clock.gaps:
        if start <= onset < stop:
            ax.axvline(onset, color=INK, linewidth=1, linestyle=":")
    for event in overview.events:
        if event.onset < stop and event.stop > start:
            # An event of a few seconds must not be lost in a row of hours.
            ax.axvspan(
                event.onset, max(event.stop, event.onset + 3 * span / COLUMNS), color=EVENT, alpha=0.45, linewidth=0
            )
    for middle, text in _numbers(overview.events, start, stop):
        ax.text(middle, 1.04, text, ha="center", va="bottom", fontsize=FONT - 1, color="#a34700", fontweight="bold")
    time_axis(ax, overview, start, stop)
    ax.set(xlim=(start, stop), ylim=(0, 1.02), yticks=[0, 0.5, 1])
    ax.set_yticklabels(["0", "", "1"])
    calm(ax)


def draw_steps(ax: Any, edges: np.ndarray, values: np.ndarray) -> None:
    """Draw a score as steps, nothing where it is NaN."""
    if len(values):
        ax.stairs(values, edges, fill=True, color=SCORE, alpha=0.22, linewidth=0)
        ax.stairs(values, edges, baseline=None, color=SCORE, linewidth=0.9)


def _numbers(events: Sequence[SeizureEvent], start: float, stop: float) -> list[tuple[float, str]]:
    """Place the numbers of events; those of events too close for two numbers become one: "4-6"."""
    groups: list[list[tuple[float, int]]] = []
    for number, event in enumerate(events, start=1):
        # The number stands where the event begins, once.
        if start <= event.onset < stop:
            if groups and event.onset - groups[-1][-1][0] < 0.018 * (stop - start):
                groups[-1].append((event.onset, number))
            else:
                groups.append([(event.onset, number)])
    return [
        ((group[0][0] + group[-1][0]) / 2, f"{group[0][1]}-{group[-1][1]}" if len(group) > 1 else f"{group[0][1]}")
        for group in groups
    ]


def time_axis(ax: Any, overview: Overview, start: float, stop: float) -> None:
    """Write the time of day, or the time after the first sample, at round times."""
    span = stop - start
    steps = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 21600, 43200, 86400)
    step = next((each for each in steps if span / each <= 13), 86400 * math.ceil(span / 86400 / 13))
    begin, end = max(start, 0.0), min(stop, overview.duration)
    marks = overview.clock.marks(begin, end, step)
    labels = []
    for k, (_, time) in enumerate(marks):
        if isinstance(time, float):
            labels.append(elapsed(time)[: -3 if step >= 3600 else None])
        else:
            text = f"{time:%H:%M}" if step >= 60 else f"{time:%H:%M:%S}"
            first = k == 0 and start <= 0 and span > 2 * 3600
            midnight = time.hour == time.minute == time.second == 0
            labels.append(f"{text}\n{time.day} {time:%b}" if first or midnight else text)
    ax.set_xticks([place for place, _ in marks], labels)


def calm(ax: Any) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(MISSING)
    ax.tick_params(colors=INK, labelsize=FONT - 1, width=0.6, length=3)


def draw_burden(figure: Any, overview: Overview) -> None:
    """Draw the seizure seconds in every hour as bars into an empty figure, and give it its size."""
    hours = overview.hours()
    figure.set_size_inches(12, 2.3)
    ax = figure.add_axes((0.055, 0.24, 0.915, 0.66))
    for hour in hours:
        width = hour.stop - hour.start
        if hour.per_hour is None:
            ax.axvspan(hour.start, hour.stop, facecolor="#eef0f2", edgecolor=MISSING, hatch="////", linewidth=0)
        else:
            ax.bar(hour.start + width / 2, hour.per_hour / 60, width=0.86 * width, color=EVENT, alpha=0.8)
    highest = max([hour.per_hour / 60 for hour in hours if hour.per_hour is not None], default=0.0)
    ax.set(xlim=(hours[0].start, hours[-1].stop), ylim=(0, max(1.1 * highest, 0.1)))
    ax.set_ylabel("min of seizure\nper hour analysed", fontsize=FONT - 1, color=INK)
    time_axis(ax, overview, hours[0].start, hours[-1].stop)
    calm(ax)
