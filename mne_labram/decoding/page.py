"""One HTML page that shows what was found in a recording, and what could not be analysed."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
from mne import Annotations, Report
from mne.io import BaseRaw
from mne.viz import use_browser_backend
from mne.viz.utils import plt_show

from mne_labram.decoding.scores import NOT_ANALYSED, EventScores, add_annotations
from mne_labram.signal.clock import elapsed

__all__ = ["annotation_report", "plot_scores"]


def plot_scores(
    scores: EventScores, *, truth: Annotations | None = None, title: str | None = None, show: bool = True
) -> Any:
    """Plot the class probabilities over time with the events found.

    Parameters
    ----------
    scores : EventScores
        From :func:`mne_labram.annotate_events`.
    truth : mne.Annotations | None
        Events known beforehand, with onsets in seconds after the first sample, drawn above the scores.
    title : str | None
        Title of the figure.
    show : bool
        Show the figure.

    Returns
    -------
    figure : matplotlib.figure.Figure
        The figure.
    """
    import matplotlib.pyplot as plt

    shown = [i for i in range(len(scores.class_names)) if i != scores.background]
    figure = plt.figure(figsize=(10, 1.2 + 1.8 * len(shown)), layout="constrained")
    axes = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    found = scores.annotations()
    offset = 0.0 if scores.meas_date is None else scores.first_time
    long = scores.duration > 3 * 3600
    unit, name = (3600.0, "h") if long else (1.0, "s")
    for ax, row in zip(axes, shown, strict=True):
        ax.step(scores.times / unit, scores.probabilities[row], where="post", color="C0", linewidth=1)
        ax.axhline(scores.parameters.threshold, color="0.4", linestyle="--", linewidth=1, label="threshold")
        _spans(ax, found, scores.class_names[row], unit, offset, label="found", color="C3", ymax=0.9, alpha=0.3)
        _spans(ax, found, NOT_ANALYSED, unit, offset, label=NOT_ANALYSED, color="0.7", ymax=1.0, alpha=0.6)
        if truth is not None:
            description = scores.class_names[row]
            _spans(ax, truth, description, unit, 0.0, label="annotated before", color="C2", ymin=0.92, alpha=0.8)
        ax.set(ylim=(0, 1.12), xlim=(0, scores.duration / unit), ylabel=f"p({scores.class_names[row]})")
        ax.set_yticks([0, 0.5, 1])
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    axes[-1].set_xlabel(f"Time after the first sample ({name})")
    if title:
        figure.suptitle(title)
    plt_show(show)
    return figure


def _spans(
    ax: Any,
    annotations: Annotations,
    description: str,
    unit: float,
    offset: float,
    *,
    label: str,
    ymin: float = 0.0,
    ymax: float = 1.0,
    **style: Any,
) -> None:
    """Shade annotations of one description; only the first has a label, for the legend."""
    for k in np.flatnonzero(annotations.description == description):
        start = (annotations.onset[k] - offset) / unit
        ax.axvspan(start, start + annotations.duration[k] / unit, ymin, ymax, label=label, linewidth=0, **style)
        label = "_nolegend_"


def annotation_report(
    raw: BaseRaw,
    scores: EventScores,
    *,
    title: str = "Annotations",
    truth: Annotations | None = None,
    details: dict[str, str] | None = None,
    n_examples: int = 5,
) -> Report:
    """Make a page of the scores, a table of the events, and the signal around the first of them.

    Parameters
    ----------
    raw : mne.io.Raw
        The recording that was scored.
    scores : EventScores
        From :func:`mne_labram.annotate_events`.
    title : str
        Title of the page.
    truth : mne.Annotations | None
        Events known beforehand, with onsets in seconds after the first sample.
    details : dict of str
        Further texts (plain, shown as they are) by title.
    n_examples : int
        For how many events, by falling confidence, the signal is shown.

    Returns
    -------
    report : mne.Report
        The page; ``report.save(fname)`` writes it.
    """
    import matplotlib.pyplot as plt

    page = Report(title=title, verbose="error")
    figure = plot_scores(scores, truth=truth, show=False)
    page.add_figure(figure, title="Scores over time", caption=_caption(scores))
    plt.close(figure)
    page.add_html(_event_table(scores), title="Events")
    found = scores.annotations(mark_not_analysed=False)
    # Only what was found: other annotations, often of every trial, would cover it.
    shown = raw.copy().set_annotations(None)
    add_annotations(shown, scores.annotations())
    offset = 0.0 if scores.meas_date is None else scores.first_time
    order = np.argsort([-extras["confidence"] for extras in found.extras], kind="stable")[:n_examples]
    for k in sorted(order):
        start = max(0.0, found.onset[k] - offset - 5.0)
        stop = min(raw.times[-1], start + min(30.0, found.duration[k] + 10.0))
        with use_browser_backend("matplotlib"):
            figure = (
                shown.copy()
                .crop(start, stop)
                .pick("eeg")
                .load_data(verbose="error")
                .apply_function(_filled, verbose="error")
                .filter(0.5, None, method="iir", verbose="error")
                .plot(
                    duration=stop - start,
                    n_channels=32,
                    scalings={"eeg": 75e-6},
                    show=False,
                    show_scrollbars=False,
                    verbose="error",
                )
            )
        page.add_figure(figure, title=f"{found.description[k]} at {elapsed(found.onset[k] - offset)}", section="Signal")
        plt.close(figure)
    for name, text in (details or {}).items():
        page.add_html(f"<pre>{escape(text)}</pre>", title=name)
    page.add_sys_info(title="Versions")
    return page


def _filled(x: np.ndarray) -> np.ndarray:
    """Put the median where samples are missing: one of them would make the whole filtered channel missing."""
    finite = np.isfinite(x)
    return np.where(finite, x, np.median(x[finite]) if finite.any() else 0.0)


def _caption(scores: EventScores) -> str:
    parameters = scores.parameters
    missing = int((~scores.analysed).sum())
    return (
        f"One score per second. Events: threshold {parameters.threshold:g}, release {parameters.release_level:g}, "
        f"smoothing {parameters.smoothing:g} s, merged below {parameters.merge_gap:g} s, at least "
        f"{parameters.min_duration:g} s. Not analysed: {missing} of {len(scores.analysed)} s. "
        "For research; not a medical device."
    )


def _event_table(scores: EventScores) -> str:
    found = scores.annotations()
    offset = 0.0 if scores.meas_date is None else scores.first_time
    rows = []
    for onset, duration, description, extras in zip(
        found.onset, found.duration, found.description, found.extras, strict=True
    ):
        confidence = f"{extras['confidence']:.2f}" if "confidence" in extras else ""
        cells = (elapsed(onset - offset), f"{duration:.0f} s", escape(description), confidence)
        rows.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    if not rows:
        return "<p>No event reaches the threshold.</p>"
    head = "<tr><th>Onset</th><th>Duration</th><th>Description</th><th>Confidence</th></tr>"
    return f'<table class="table table-sm w-auto"><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table>'
