"""One HTML page for the person who reads the EEG: what was found, where to look first, and what was not looked at."""

from __future__ import annotations

import base64
import importlib.metadata
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mne import Report
from mne.io import BaseRaw
from mne.utils import logger, verbose

from mne_labram.seizure.draw_event import draw_event
from mne_labram.seizure.draw_scores import draw_burden, draw_scores
from mne_labram.seizure.excerpts import ExcerptReader
from mne_labram.seizure.figures import open_reader, window_of
from mne_labram.seizure.operating_points import describe_point
from mne_labram.seizure.overview import LONG_SEIZURE, Overview
from mne_labram.seizure.page_parts import (
    NOTHING_FOUND,
    RESEARCH_USE,
    STYLE,
    Veil,
    channel_names,
    channel_section,
    definition_list,
    event_table,
    is_experimental,
    length_text,
    model_section,
    not_analysed_section,
    notice,
    share_text,
    tiles,
    type_text,
)

if TYPE_CHECKING:
    from mne_labram.seizure.detected import SeizureDetection

__all__ = ["seizure_report"]

_DPI = 110
#: Distributions whose versions a result depends on.
_VERSIONS = ("mne-labram", "mne", "torch", "braindecode", "numpy", "scipy")


@verbose
def seizure_report(
    detection: SeizureDetection,
    raw: BaseRaw | str | os.PathLike | None = None,
    *,
    title: str | None = None,
    patient_name: bool = False,
    n_events: int = 20,
    scale: float | None = None,
    verbose: Any = None,
) -> Report:
    """Make a page of a detection: the whole recording at a glance, every event, and the EEG of the most confident ones.

    Parameters
    ----------
    detection : SeizureDetection
        From :func:`mne_labram.detect_seizures`.
    raw : mne.io.Raw | path-like | None
        The recording, for the pictures of its EEG; ``None``: ``detection.raw``. Where neither is there, the page has
        no EEG. Only the stretches shown are read.
    title : str | None
        Title of the page; ``None``: "EEG: possible seizures".
    patient_name : bool
        Show the name and number of the patient in the recording's header. Unless this is asked for, neither is on the
        page, and names in the header are taken out of the file name.
    n_events : int
        For how many events, by falling confidence, the EEG is shown. The table has them all.
    scale : float | None
        Microvolts between two traces of EEG; ``None``: chosen for each picture.
    verbose : bool | str | int | None
        Control verbosity of the logging output.

    Returns
    -------
    report : mne.Report
        The page; ``report.save(fname)`` writes it as one HTML file that loads nothing from anywhere.

    Raises
    ------
    ContractError
        If the recording cannot be read.
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If ``n_events`` is negative, ``scale`` is not positive, or the recording is not the one that was analysed.
    """
    import matplotlib

    if isinstance(n_events, bool) or not isinstance(n_events, int):
        raise TypeError(f"n_events must be an integer, got {type(n_events).__name__}.")
    if n_events < 0:
        raise ValueError(f"n_events must be 0 or more, got {n_events}.")
    if scale is not None and not scale > 0:
        raise ValueError(f"scale must be a positive number of microvolts, got {scale}.")
    reader = open_reader(detection, raw)
    overview = Overview.of(detection)
    veil = _veil(detection, reader, patient_name)
    shown = {k for k, rank in enumerate(overview.ranks) if rank <= n_events} if reader is not None else set()

    page = Report(title=title or "EEG: possible seizures", verbose="error")
    page.add_custom_css(STYLE)

    def add(html: str, name: str, section: str | None = None) -> None:
        page.add_html(f'<div class="sz">{html}</div>', title=name, section=section, tags=())

    # The page looks the same whatever style the session's figures have.
    with matplotlib.rc_context({**_plain_style(), "hatch.linewidth": 0.6}):
        add(_summary(detection, overview, reader, veil, patient_name), "Summary")
        add(_picture(lambda figure: draw_scores(figure, overview), _strip_text(overview)), "Probability over time")
        if overview.events:
            add(_events(overview, shown, reader is not None, veil), "Events")
            if overview.duration > 3600:
                add(_picture(lambda figure: draw_burden(figure, overview), _burden_text(overview)), "Seizure burden")
        for k in sorted(shown):
            add(_event_picture(overview, k, reader, scale, veil), _event_title(overview, k), "EEG of the events")
    add(not_analysed_section(overview, veil), "Not analysed")
    add(channel_section(detection.scores.report, veil), "Recording and channels")
    add(
        model_section(detection.model_name, detection.card, _settings(detection, overview), veil), "Model and threshold"
    )
    add(f"{notice(RESEARCH_USE)}<p>{_versions()}</p>", "About this page")
    logger.info(f"The page shows {len(overview.events)} event(s), {len(shown)} with their EEG.")
    return page


def _plain_style() -> dict[str, Any]:
    from matplotlib import rcParamsDefault

    wanted = ("figure.facecolor", "axes.facecolor", "savefig.facecolor", "font.family", "font.size", "lines.linewidth")
    wanted += (
        "axes.grid",
        "text.usetex",
        "axes.edgecolor",
        "text.color",
        "path.sketch",
        "axes.xmargin",
        "axes.ymargin",
    )
    return {key: rcParamsDefault[key] for key in wanted}


def _veil(detection: SeizureDetection, reader: ExcerptReader | None, patient_name: bool) -> Veil:
    inst = detection.raw if reader is None else reader.raw
    files = [] if inst is None else [Path(name) for name in inst.filenames if name is not None]
    folders = {str(folder) for file in files for folder in (file.parent, file.absolute().parent, file.resolve().parent)}
    subject = {} if inst is None else (inst.info["subject_info"] or {})
    # A plain EDF header has one field for the patient: MNE takes its first word for the number.
    names = (
        [] if patient_name else [subject.get(key) or "" for key in ("first_name", "middle_name", "last_name", "his_id")]
    )
    return Veil(map(str, names), folders)


def _picture(draw: Callable[[Any], object], description: str) -> str:
    """Draw into a new figure, which no one else sees, and return it as an image with a description below it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure()
    FigureCanvasAgg(figure)
    draw(figure)
    file, kind = io.BytesIO(), "webp"
    try:
        # Without loss, half the size of PNG in the same time.
        figure.savefig(file, format=kind, dpi=_DPI, pil_kwargs={"lossless": True, "method": 1, "quality": 50})
    except (KeyError, OSError):  # a Pillow that was built without WebP
        file, kind = io.BytesIO(), "png"
        figure.savefig(file, format=kind, dpi=_DPI)
    image = base64.b64encode(file.getvalue()).decode("ascii")
    # What was drawn is held in circles, and would wait for the garbage collector.
    figure.clear()
    return f'<img src="data:image/{kind};base64,{image}" alt=""><p class="faint">{description}</p>'


# -- sections -----------------------------------------------------------------------------------------------------
def _summary(
    detection: SeizureDetection,
    overview: Overview,
    reader: ExcerptReader | None,
    veil: Callable[[Any], str],
    patient_name: bool,
) -> str:
    duration, analysed = overview.duration, overview.seconds_analysed
    lost = duration - analysed
    parts = [notice(RESEARCH_USE)]
    if analysed <= 0:
        parts.append(notice(f"<b>Nothing was analysed.</b> {NOTHING_FOUND}: see what was left out below.", warn=True))
    else:
        n, longest = len(overview.events), overview.longest
        numbers = [(str(n), "event" if n == 1 else "events")]
        if longest is None:
            numbers.append((f"{np.nanmax(overview.smoothed):.2f}", "highest probability"))
        else:
            numbers += [
                (length_text(overview.seizure_seconds), "within events"),
                (length_text(longest.duration), "longest event"),
            ]
        parts.append(tiles([*numbers, (share_text(lost, duration), "not analysed")]))
        if not overview.events:
            parts.append(notice(f"<b>No event was found at the threshold {overview.threshold:.3g}.</b>"))
        if lost > 0:
            text = f"{length_text(lost)} of {length_text(duration)} ({share_text(lost, duration)}) were not analysed."
            parts.append(notice(f"{text} {NOTHING_FOUND}.", warn=True))
        elif not overview.events:
            parts.append(notice(f"{NOTHING_FOUND}: what to expect at this threshold is said below."))
    parts += [_long_events(overview)] if any(event.duration > LONG_SEIZURE for event in overview.events) else []
    report = detection.scores.report
    start = overview.clock.start
    badge = ' <span class="badge-experimental">experimental</span>' if is_experimental(detection.card) else ""
    rows = [
        ("File", veil(_file_name(detection, reader))),
        *([("Patient", _patient(reader, veil))] if patient_name else []),
        ("Recorded", "time not known" if start is None else f"{start.day} {start:%B %Y, %H:%M:%S}"),
        ("Length", length_text(duration) + _gap_text(overview)),
        ("Montage", "" if report is None else veil(_montage_text(report))),
        ("Model", veil(detection.model_name) + badge),
        ("Threshold", f"{overview.threshold:.3g}"),
        ("Expected", veil(_expected(detection))),
    ]
    return "".join(parts) + definition_list(rows)


def _file_name(detection: SeizureDetection, reader: ExcerptReader | None) -> str:
    if reader is not None:
        return reader.name
    return "" if detection.scores.report is None else Path(detection.scores.report.source).name


def _patient(reader: ExcerptReader | None, veil: Callable[[Any], str]) -> str:
    subject = {} if reader is None else (reader.raw.info["subject_info"] or {})
    name = " ".join(str(subject[key]) for key in ("first_name", "middle_name", "last_name") if subject.get(key))
    number = f"number {subject['his_id']}" if subject.get("his_id") else ""
    return veil(", ".join(filter(None, [name, number])) or "not stated in the recording")


def _gap_text(overview: Overview) -> str:
    gaps = overview.clock.gaps
    if not gaps:
        return ""
    missing = sum(missing for _, missing in gaps)
    return f" of data, with {len(gaps)} gap{'s' if len(gaps) > 1 else ''} of {length_text(missing)} in total"


def _montage_text(report: Any) -> str:
    used, left = len(report.ch_names), len(report.dropped)
    out = f", {left} left out" if left else ""
    return f"{report.montage}, {used} channel{'' if used == 1 else 's'} used{out}"


def _expected(detection: SeizureDetection) -> str:
    point = detection.operating_point
    if point is None:
        return "not measured for this model at this threshold and with these settings"
    return describe_point(detection.calibration or {}, point)


def _long_events(overview: Overview) -> str:
    links = ", ".join(
        f'<a href="#event-{k + 1}">event {k + 1}</a> ({length_text(event.duration)})'
        for k, event in enumerate(overview.events)
        if event.duration > LONG_SEIZURE
    )
    text = (
        f"<b>Longer than 5 minutes: {links}.</b> A seizure of this length may be status epilepticus; look here first. "
        "SzCORE's scoring counts such an event in pieces of 5 minutes."
    )
    return notice(text, warn=True)


def _strip_text(overview: Overview) -> str:
    smoothing = overview.scores.parameters.smoothing
    how = (
        f"averaged over {smoothing:g} s, as it is compared with the threshold" if smoothing > 1 else "second by second"
    )
    kinds = len(overview.scores.class_names) > 2
    return f"Probability of a seizure{' of any type' if kinds else ''} {how}."


def _burden_text(overview: Overview) -> str:
    per_hour = 3600 * overview.seizure_seconds / overview.seconds_analysed
    hours = [hour for hour in overview.hours() if hour.per_hour is not None]
    worst = max(hours, key=lambda hour: hour.per_hour, default=None)
    text = f"On average {length_text(per_hour)} of seizure in an hour of analysed time"
    if worst is not None and worst.per_hour:
        text += f"; the most, {length_text(worst.per_hour)}, in the hour from {overview.clock.text(worst.start)}"
    return f"{text}. Hours of which too little was analysed are hatched."


def _events(overview: Overview, shown: set[int], has_eeg: bool, veil: Callable[[Any], str]) -> str:
    text = ""
    if not has_eeg:
        text = "<p>There is no EEG on this page, because the recording was not at hand when it was made.</p>"
    elif len(shown) < len(overview.events):
        text = f"<p>The EEG is shown for {_of_all(len(shown), len(overview.events))}, by falling confidence.</p>"
    return text + event_table(overview, shown, veil)


def _of_all(n: int, total: int) -> str:
    return f"{n} of {total} events"


def _event_picture(
    overview: Overview, k: int, reader: ExcerptReader, scale: float | None, veil: Callable[[Any], str]
) -> str:
    event, number = overview.events[k], k + 1
    excerpt = reader.read(*window_of(event, overview.duration))
    text = "" if not event.channels else f"Found by {channel_names(event.channels, veil)} (labels marked). "
    if event.stop > excerpt.stop:
        text += f"It goes on for {length_text(event.stop - excerpt.stop)} after this picture. "
    text += f'<a href="#event-{number}">Back to the table</a>'
    picture = _picture(lambda figure: draw_event(figure, excerpt, event, overview, scale=scale), text)
    return f'<div class="eeg" id="eeg-{number}">{picture}</div>'


def _event_title(overview: Overview, k: int) -> str:
    event = overview.events[k]
    facts = [f"Event {k + 1}", overview.clock.text(event.onset), length_text(event.duration)]
    facts += [] if event.confidence is None else [f"confidence {event.confidence:.2f}"]
    return " · ".join([*facts, type_text(event.event_type)])


def _settings(detection: SeizureDetection, overview: Overview) -> str:
    parameters = overview.scores.parameters
    rows = [
        (
            "Threshold",
            f"{parameters.threshold:.3g} must be reached; an event goes on, to both sides, down to "
            f"{parameters.release_level:.3g}",
        ),
        ("Smoothing", f"{parameters.smoothing:g} s"),
        ("Merged", f"events less than {parameters.merge_gap:g} s apart"),
        ("Dropped", f"events shorter than {parameters.min_duration:g} s"),
        ("Expected", _expected(detection)),
    ]
    return f"<h4>From scores to events</h4>{definition_list(rows)}"


def _versions() -> str:
    found = []
    for name in _VERSIONS:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return f"Made with {', '.join(found)}."
