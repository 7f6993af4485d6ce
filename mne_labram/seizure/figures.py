"""Figures of a detection for use on their own: the score over the whole recording, the EEG of one event."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from mne.io import BaseRaw
from mne.viz.utils import plt_show

from mne_labram.seizure.draw_event import draw_event
from mne_labram.seizure.draw_scores import FONT, INK, draw_scores
from mne_labram.seizure.excerpts import ExcerptReader
from mne_labram.seizure.overview import Overview

if TYPE_CHECKING:
    from mne_labram.seizure.detected import SeizureDetection
    from mne_labram.seizure.events import SeizureEvent

__all__ = ["open_reader", "plot_detection", "plot_event", "window_of"]


def plot_detection(detection: SeizureDetection, *, title: str | None = None, show: bool = True) -> Any:
    """Plot the probability of a seizure over the whole recording, with the events found.

    Parameters
    ----------
    detection : SeizureDetection
        From :func:`mne_labram.detect_seizures`.
    title : str | None
        Title of the figure.
    show : bool
        Show the figure.

    Returns
    -------
    figure : matplotlib.figure.Figure
        Rows of some hours each, with the time of day where it is known. The score is smoothed as the threshold sees
        it; every pixel shows the highest second in it, so that nothing is too short to be seen.
    """
    import matplotlib.pyplot as plt

    figure = plt.figure()
    draw_scores(figure, Overview.of(detection), title=title)
    plt_show(show)
    return figure


def plot_event(
    detection: SeizureDetection,
    event: int | SeizureEvent,
    raw: BaseRaw | str | os.PathLike | None = None,
    *,
    before: float = 10.0,
    seconds: float = 30.0,
    l_freq: float = 1.0,
    h_freq: float = 40.0,
    scale: float | None = None,
    title: str | None = None,
    show: bool = True,
) -> Any:
    """Plot the EEG around an event as a double banana.

    Parameters
    ----------
    detection : SeizureDetection
        From :func:`mne_labram.detect_seizures`.
    event : int | SeizureEvent
        The event, or its number in ``detection.table``, counted from 0 in order of time.
    raw : mne.io.Raw | path-like | None
        The recording; ``None``: ``detection.raw``. Only the stretch shown is read.
    before : float
        Seconds shown before the onset.
    seconds : float
        Seconds shown in total.
    l_freq, h_freq : float
        Band shown, in Hz.
    scale : float | None
        Microvolts between two traces; ``None``: chosen from the signal.
    title : str | None
        Title of the figure.
    show : bool
        Show the figure.

    Returns
    -------
    figure : matplotlib.figure.Figure
        Referential recordings are made bipolar by differences, bipolar ones are shown as they are.

    Raises
    ------
    ContractError
        If the recording cannot be read.
    IndexError
        If there is no event of this number.
    ValueError
        If there is no recording to show, or it is not the one that was analysed.
    """
    import matplotlib.pyplot as plt

    overview = Overview.of(detection)
    if not hasattr(event, "onset"):
        if not -len(overview.events) <= event < len(overview.events):
            raise IndexError(f"There is no event {event}; the detection has {len(overview.events)}, counted from 0.")
        event = overview.events[event]
    reader = open_reader(detection, raw, l_freq=l_freq, h_freq=h_freq)
    if reader is None:
        raise ValueError("The detection does not hold its recording; pass the recording as raw.")
    figure = plt.figure()
    draw_event(figure, reader.read(*window_of(event, overview.duration, before, seconds)), event, overview, scale=scale)
    if title:
        figure.suptitle(title, fontsize=FONT + 2, color=INK)
    plt_show(show)
    return figure


def open_reader(
    detection: SeizureDetection, raw: BaseRaw | str | os.PathLike | None, **band: float
) -> ExcerptReader | None:
    """Open the recording of a detection, None where it is not known; raise ValueError where it is another one."""
    source = detection.raw if raw is None else raw
    if source is None:
        return None
    reader = ExcerptReader(source, detection.scores.report, **band)
    if abs(reader.duration - detection.scores.duration) > 1.0:
        raise ValueError(
            f"{reader.name} lasts {reader.duration:.6g} s and the recording that was analysed "
            f"{detection.scores.duration:.6g} s; pass the one that was analysed."
        )
    return reader


def window_of(event: SeizureEvent, duration: float, before: float = 10.0, seconds: float = 30.0) -> tuple[float, float]:
    """Return what is shown of an event: moved, not shortened, where the recording begins or ends."""
    start = max(0.0, min(event.onset - before, duration - seconds))
    return start, min(start + seconds, duration)
