"""The texts and tables of the seizure report, as HTML in which everything that came from a file is escaped."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

from mne_labram.seizure.double_banana import reader_name
from mne_labram.seizure.overview import LONG_SEIZURE, Overview
from mne_labram.signal.clock import Clock
from mne_labram.signal.labels import parse_channel_name
from mne_labram.signal.report import ConformReport

__all__ = [
    "NOTHING_FOUND",
    "RESEARCH_USE",
    "STYLE",
    "Veil",
    "channel_names",
    "channel_section",
    "definition_list",
    "event_table",
    "length_text",
    "model_section",
    "not_analysed_section",
    "notice",
    "tiles",
    "type_text",
]

RESEARCH_USE = (
    "For research use. Not a medical device; every event, and every stretch without one, is for a reader to judge."
)
NOTHING_FOUND = "No event found is not the same as no seizure"
#: Rows of the list of what was not analysed; more are summed up.
_MAX_STRETCHES = 40
_MAX_NAMES = 6
#: So many events are marked as those to look at first.
_FIRST = 5
_WORDS = {
    "sz": "", "foc": "focal", "gen": "generalized", "uo": "unknown onset", "a": "aware", "ia": "impaired awareness",
    "ua": "awareness unknown", "m": "motor", "nm": "non-motor", "um": "motor signs unknown",
    "f2b": "focal to bilateral tonic-clonic",
    "tonicClonic": "tonic-clonic", "myoTC": "myoclonic-tonic-clonic", "myoAtonic": "myoclonic-atonic",
}  # fmt: skip

STYLE = """
.sz { color: #24292f; font-size: 0.95rem; line-height: 1.45; max-width: 1320px; }
.sz h4 { font-size: 1rem; font-weight: 600; margin: 1.1rem 0 0.4rem; }
.sz .tiles { display: flex; flex-wrap: wrap; gap: 0.6rem; margin: 0.2rem 0 0.8rem; }
.sz .tile { border: 1px solid #d8dce1; border-radius: 6px; padding: 0.45rem 0.9rem; min-width: 8.5rem; }
.sz .tile b { display: block; font-size: 1.45rem; font-weight: 600; line-height: 1.25; }
.sz .tile span { color: #57606a; font-size: 0.85rem; }
.sz .notice { border-left: 4px solid #8c959f; background: #f6f8fa; padding: 0.45rem 0.8rem; margin: 0.45rem 0; }
.sz .notice.warn { border-color: #d55e00; background: #fff5ec; }
.sz dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.15rem 1.2rem; margin: 0.4rem 0; }
.sz dt { font-weight: 400; color: #57606a; }
.sz dd { margin: 0; overflow-wrap: anywhere; }
.sz table { border-collapse: collapse; margin: 0.3rem 0 0.6rem; font-variant-numeric: tabular-nums; }
.sz th, .sz td { padding: 0.22rem 0.8rem 0.22rem 0; text-align: left; border-bottom: 1px solid #e6e9ec;
  vertical-align: top; overflow-wrap: break-word; }
.sz td.one { white-space: nowrap; }
.sz thead th { color: #57606a; font-weight: 500; font-size: 0.85rem; border-bottom: 1px solid #8c959f; }
.sz td.n, .sz th.n { text-align: right; }
.sz tr.first td { background: #fff5ec; }
.sz tr:target td { background: #ddf0fb; }
.sz .bar { display: inline-block; width: 4.5rem; height: 0.55rem; background: #e6e9ec; margin-right: 0.5rem; }
.sz .bar i { display: block; height: 100%; background: #d55e00; }
.sz .badge-experimental { border: 1px solid #d55e00; color: #a34700; border-radius: 4px; padding: 0 0.4rem;
  font-size: 0.8rem; font-weight: 600; white-space: nowrap; }
.sz .map { columns: 13rem; column-gap: 1.6rem; margin: 0.2rem 0; padding: 0; list-style: none; }
.sz .map li { break-inside: avoid; overflow-wrap: anywhere; }
.sz .faint { color: #57606a; }
.sz img { display: block; width: 100%; height: auto; }
.sz code { color: inherit; overflow-wrap: anywhere; font-size: 0.85em; }
.sz .eeg { scroll-margin-top: 5rem; }
.sz tr[id] { scroll-margin-top: 6rem; }
#filter-by-tags-dropdown-menu { display: none; }
@page { margin: 12mm; }
@media print {
  body { padding: 0 !important; }
  nav.fixed-top, nav.fixed-bottom { position: static !important; box-shadow: none !important; }
  #toc, .accordion-button::after { display: none !important; }
  #content { width: 100% !important; margin: 0 !important; flex: 0 0 100%; max-width: 100%; }
  .accordion-item { border: 0; }
  .accordion-button { background: none !important; box-shadow: none !important; }
  .accordion-body { padding: 0.3rem 0 !important; }
  .accordion-header, .sz h4 { break-after: avoid; }
  .accordion-item .accordion-item { break-inside: avoid; }
  .sz { font-size: 8.5pt; max-width: none; }
  .sz .bar { width: 2.2rem; }
  .sz th, .sz td { padding-right: 0.5rem; }
  .sz .eeg, .sz tr, .sz .tile, .sz .notice { break-inside: avoid; }
  .sz * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""


class Veil:
    """Escapes texts, and takes out of them who the patient is and where the file lies.

    Parameters
    ----------
    names : iterable of str
        Names of the patient; nothing shorter than three letters is looked for.
    folders : iterable of str
        Folders, whose names often say more than the file's.
    """

    def __init__(self, names: Iterable[str] = (), folders: Iterable[str] = ()) -> None:
        words = {word for name in names for word in re.split(r"[\W_]+", name) if len(word) >= 3 and word.isalpha()}
        whole = "|".join(sorted(map(re.escape, words)))
        # An underscore separates words in file names and is none of the letters of a name.
        self._names = re.compile(rf"(?<![^\W\d_])(?:{whole})(?![^\W\d_])", re.IGNORECASE) if whole else None
        self._folders = sorted((folder.rstrip("/\\") for folder in folders if folder.strip("/\\.")), key=len)[::-1]

    def __call__(self, text: Any) -> str:
        """Return the text for the page."""
        text = str(text)
        for folder in self._folders:
            text = text.replace(f"{folder}/", "").replace(f"{folder}\\", "").replace(folder, "")
        if self._names is not None:
            text = self._names.sub("***", text)
        # Control characters have no meaning in HTML, and directional ones could reorder the line.
        return escape("".join(each if each.isprintable() else " " for each in text), quote=True)


# -- small things -------------------------------------------------------------------------------------------------
def length_text(seconds: float) -> str:
    """Write a length of time as a person would: ``"45 s"``, ``"6 min 10 s"``, ``"8 h 05 min"``."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.2g} s" if 0 < seconds < 1 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s" if whole % 60 else f"{whole // 60} min"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def share_text(part: float, whole: float) -> str:
    """Write a share in per cent, never rounding something to nothing or a part to the whole."""
    percent = 100 * part / whole if whole else 0.0
    if 0 < percent < 0.1:
        return "less than 0.1 %"
    if 99.9 < percent < 100:
        return "more than 99.9 %"
    return f"{percent:.1f} %" if percent < 10 and percent % 1 else f"{percent:.0f} %"


def type_text(event_type: str) -> str:
    """Write a type of SzCORE in words: ``"sz_foc_ia"`` becomes ``"focal impaired awareness seizure"``."""
    words = [_WORDS.get(part, part) for part in event_type.split("_")]
    return " ".join([*(word for word in words if word), "seizure"])


def notice(html: str, *, warn: bool = False) -> str:
    """Return a paragraph that stands out; the text is HTML already."""
    return f'<p class="notice{" warn" if warn else ""}">{html}</p>'


def tiles(values: Sequence[tuple[str, str]]) -> str:
    """Return large numbers with what they are."""
    each = (f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for value, name in values)
    return f'<div class="tiles">{"".join(each)}</div>'


def definition_list(rows: Iterable[tuple[str, str]]) -> str:
    """Return names and what they stand for (HTML already); rows without a text are left out."""
    return f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{html}</dd>' for name, html in rows if html)}</dl>"


def _table(head: Sequence[str], rows: Iterable[str], numeric: Iterable[int] = ()) -> str:
    numeric = set(numeric)
    cells = "".join(f"<th{' class=n' if i in numeric else ''}>{name}</th>" for i, name in enumerate(head))
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


# -- events -------------------------------------------------------------------------------------------------------
def event_table(overview: Overview, shown: set[int], veil: Callable[[Any], str]) -> str:
    """Return the table of events; those in ``shown`` (counted from 0) are linked to their picture."""
    many = len(overview.events) > _FIRST
    clock = overview.clock
    days = _Days(clock)
    rows = []
    for k, (event, rank) in enumerate(zip(overview.events, overview.ranks, strict=True)):
        number = k + 1
        confidence = "-"
        if event.confidence is not None:
            width = f"{100 * event.confidence:.0f}"
            confidence = f'<span class="bar"><i style="width:{width}%"></i></span>{event.confidence:.2f}'
        channels = channel_names(event.channels, veil) or "-"
        long = " (over 5 min)" if event.duration > LONG_SEIZURE else ""
        cells = [
            f"<td class=n><b>{number}</b></td>",
            *([] if clock.start is None else [f"<td class=one>{days(event.onset)}</td>"]),
            f"<td class=n>{_from_start(event.onset)}</td>",
            f"<td>{length_text(event.duration)}{long}</td>",
            f"<td class=one>{confidence}</td>",
            *([f"<td class=n>{rank}</td>"] if many else []),
            f"<td>{channels}</td>",
            f'<td title="{veil(event.event_type)}">{veil(type_text(event.event_type))}</td>',
            f'<td>{f"""<a href="#eeg-{number}">EEG</a>""" if k in shown else "-"}</td>',
        ]
        mark = " class=first" if many and rank <= _FIRST else ""
        rows.append(f'<tr id="event-{number}"{mark}>{"".join(cells)}</tr>')
    head = ["No.", *([] if clock.start is None else ["Time"]), "From start", "Duration", "Confidence"]
    head += [*(["Rank"] if many else []), "Channels", "Type", ""]
    hint = f"In order of time. The {_FIRST} most confident are shaded; rank 1 is the most confident." if many else ""
    numeric = [0, 1 if clock.start is None else 2, *([4 if clock.start is None else 5] if many else [])]
    return (f'<p class="faint">{hint}</p>' if hint else "") + _table(head, rows, numeric)


class _Days:
    """Writes times one after the other, with the day where it is not that of the one before."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.day = None if clock.start is None else clock.start.date()

    def __call__(self, seconds: float) -> str:
        time, text = self.clock.at(seconds), self.clock.text(seconds)
        if time is None or time.date() == self.day:
            return text
        self.day = time.date()
        return f'<span class="faint">{time.day} {time:%b}</span> {text}'


def channel_names(channels: Sequence[str], veil: Callable[[Any], str]) -> str:
    """Write channels in short, the first few of many."""
    names = []
    for channel in channels:
        parsed = parse_channel_name(channel)
        names.append(reader_name(parsed.name) if parsed.kind in ("electrode", "bipolar") else channel)
    names = list(dict.fromkeys(names))
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(map(veil, names[:_MAX_NAMES])) + more


def _from_start(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


# -- what was not analysed ----------------------------------------------------------------------------------------
def not_analysed_section(overview: Overview, veil: Callable[[Any], str]) -> str:
    """Return the stretches that were not analysed, their share, and why."""
    stretches, total = overview.not_analysed, overview.duration - overview.seconds_analysed
    if not stretches:
        return "<p>Every second was analysed.</p>"
    share = share_text(total, overview.duration)
    text = (
        f"{length_text(total)} of {length_text(overview.duration)} ({share}), in {_count(len(stretches), 'stretch')}."
    )
    report = overview.scores.report
    if report is not None and report.reasons:
        # "s at a seam" is written to stand behind a number.
        reasons = "; ".join(
            f"{veil(reason.removeprefix('s '))} ({length_text(n)})" for reason, n in report.reasons.items()
        )
        text += f" Why: {reasons}."
    longest = sorted(stretches, key=lambda each: each[0] - each[1])[:_MAX_STRETCHES]
    days = _Days(overview.clock)
    rows = [
        f"<tr><td>{days(a)}</td><td>{days(b)}</td><td class=n>{_from_start(a)}</td><td>{length_text(b - a)}</td></tr>"
        for a, b in sorted(longest)
    ]
    table = _table(["From", "To", "From start", "Length"], rows, [2])
    if len(stretches) > len(longest):
        rest = sum(b - a for a, b in stretches) - sum(b - a for a, b in longest)
        table += (
            f'<p class="faint">These are the {len(longest)} longest; {_count(len(stretches) - len(longest), "more")} '
            f"together last {length_text(rest)}.</p>"
        )
    return f"<p>{text}</p>{table}"


def _count(n: int, what: str) -> str:
    if what == "more":
        return f"{n} more"
    return f"{n} {what}" if n == 1 else f"{n} {what}{'es' if what.endswith('ch') else 's'}"


# -- recording ----------------------------------------------------------------------------------------------------
def channel_section(report: ConformReport | None, veil: Callable[[Any], str]) -> str:
    """Return which channel of the file was used as what, what was left out, and what was said of the signal."""
    if report is None:
        return "<p>The detection does not say what was done to the signal.</p>"
    rows = [] if report.channel_map is None else report.channel_map.rows
    entries = []
    for row in rows:
        how = {"alias": " (other name)", "position": " (by position)"}.get(row.how, "")
        how = f" ({row.distance_mm:.0f} mm away)" if row.how == "position" and row.distance_mm is not None else how
        entries.append(f"<li>{veil(row.label)} &rarr; <b>{veil(row.name)}</b>{how}</li>")
    parts = [
        f'<h4>Channels used ({len(rows)}): label in the file &rarr; name</h4><ul class="map">{"".join(entries)}</ul>'
    ]
    if report.dropped:
        by_reason: dict[str, list[str]] = {}
        for label, reason in report.dropped:
            by_reason.setdefault(reason, []).append(label)
        lines = [
            f"<tr><td>{', '.join(map(veil, labels))}</td><td>{veil(reason)}</td></tr>"
            for reason, labels in by_reason.items()
        ]
        parts.append(f"<h4>Channels left out ({len(report.dropped)})</h4>{_table(['Label', 'Why'], lines)}")
    if report.missing_channels:
        parts.append(f"<p>Not in the recording: {', '.join(map(veil, report.missing_channels))}.</p>")
    if report.channel_seconds:
        worst = sorted(report.channel_seconds.items(), key=lambda item: -sum(item[1].values()))[:12]
        lines = [
            f"<tr><td>{veil(name)}</td><td>"
            + ", ".join(f"{veil(problem)} {length_text(n)}" for problem, n in counts.items() if n)
            + "</td></tr>"
            for name, counts in worst
        ]
        parts.append(f"<h4>Channels that were bad for some time</h4>{_table(['Channel', 'What and how long'], lines)}")
    done = [
        ("Sampling rate", report.resampling),
        ("Unit", report.unit),
        ("Reference", report.reference),
        ("High-pass", report.high_pass),
        ("Low-pass", report.low_pass),
        ("Mains", report.notch),
    ]
    parts.append("<h4>What the model was given</h4>" + definition_list((name, veil(text)) for name, text in done))
    parts += [notice(veil(text), warn=True) for text in report.warnings]
    return "".join(parts)


# -- model --------------------------------------------------------------------------------------------------------
def model_section(name: str, card: Mapping[str, Any] | None, settings: str, veil: Callable[[Any], str]) -> str:
    """Return what is known of the model: its card as far as there is one, and how its scores became events."""
    if not card:
        text = "No card: what this model was trained on, and how well it works, is not known here."
        return f"<p><b>{veil(name)}</b></p>{notice(text, warn=True)}{settings}"
    badge = ' <span class="badge-experimental">experimental</span>' if is_experimental(card) else ""
    parts = [f"<p><b>{veil(card.get('name', name))}</b>{badge} {veil(card.get('summary', ''))}</p>"]
    size = f"{card['n_parameters']:,} parameters" if isinstance(card.get("n_parameters"), int) else ""
    rows = [
        ("Class", ", ".join(filter(None, [veil(card.get("class", "")), size]))),
        ("SHA-256", f"<code>{veil(card['sha256'])}</code>" if card.get("sha256") else ""),
        ("Licence", veil(card.get("licence", ""))),
    ]
    parts.append(definition_list(rows))
    parts.append(settings)
    data = [row for row in card.get("data", ()) if isinstance(row, Mapping)]
    if data:
        lines = [
            f"<tr><td>{veil(row.get('name', '-'))}</td><td class=n>{veil(row.get('subjects', '-'))}</td>"
            f"<td class=n>{veil(row.get('hours', '-'))}</td><td>{veil(row.get('held_out', '-'))}</td></tr>"
            for row in data
        ]
        parts.append(f"<h4>Trained on</h4>{_table(['Data', 'Subjects', 'Hours', 'Held out'], lines, [1, 2])}")
    limits = [str(sentence) for sentence in card.get("limits", ())]
    if limits:
        parts.append(f"<h4>Limits</h4><ul>{''.join(f'<li>{veil(sentence)}</li>' for sentence in limits)}</ul>")
    return "".join(parts)


def is_experimental(card: Mapping[str, Any] | None) -> bool:
    """Tell whether a card calls its weights experimental."""
    if not card:
        return False
    said = " ".join([str(card.get("summary", "")), *map(str, card.get("limits", ()))])
    return bool(card.get("experimental")) or "experimental" in said.casefold()
