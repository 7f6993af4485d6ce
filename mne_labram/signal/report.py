"""Everything that happened between a recording and what a model is fed, in one object."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from mne_labram.signal.channels import ChannelMap

__all__ = ["ConformReport"]

#: Why a second of a channel can be bad, in the order of the report's columns.
CHANNEL_PROBLEMS = ("missing", "flat", "clipped", "annotated")
_WIDTH = 100


@dataclass
class ConformReport:
    """What was found in a recording and what was done to it.

    Attributes
    ----------
    source : str
        File name, or what kind of object it was.
    kind : {"raw", "epochs", "evoked", "array"}
        Kind of recording.
    contract : str
        Name of the contract.
    n_seconds : float
        Length of the recording, or of one epoch, in seconds.
    n_epochs : int | None
        Number of epochs; ``None`` for a continuous recording.
    sfreq_in, sfreq_out : float
        Sampling rates in Hz.
    resampling : str
        How one came from the other.
    unit : str
        Unit the numbers were taken to be in.
    amplitude : float
        Median amplitude in µV (median over channels of the median absolute deviation within excerpts).
    montage : str
        ``"referential"``, ``"bipolar"`` or ``"mixed"``.
    channel_map : ChannelMap | None
        Labels, canonical names and rows of the channels kept, and what was dropped.
    missing_channels : list of str
        Channels that were asked for and are not there.
    reference : str
        What was done about the reference.
    high_pass, low_pass : str
        What was done at either end of the band.
    line_freq : float | None
        Mains frequency in Hz.
    notch : str
        What was done about it.
    gaps : list of dict
        ``onset`` (seconds of data in the file) and ``missing`` (seconds).
    channel_seconds : dict
        Canonical name to seconds that are ``missing``, ``flat``, ``clipped``, ``annotated``; channels without any are
        left out.
    unusable : ndarray of bool, shape (n_seconds,)
        Seconds that must not be analysed. For epochs, shape (n_epochs,).
    reasons : dict
        Reason to the number of seconds (epochs) it accounts for.
    decided : int
        Seconds judged so far: a file that is read lazily is judged while it streams by.
    warnings : list of str
        What a user should know.
    notes : list of str
        What a user may want to know.
    """

    source: str = ""
    kind: str = "raw"
    contract: str = ""
    n_seconds: float = 0.0
    n_epochs: int | None = None
    sfreq_in: float = 0.0
    sfreq_out: float = 0.0
    resampling: str = ""
    unit: str = ""
    amplitude: float = float("nan")
    montage: str = ""
    channel_map: ChannelMap | None = None
    missing_channels: list[str] = field(default_factory=list)
    reference: str = ""
    high_pass: str = ""
    low_pass: str = ""
    line_freq: float | None = None
    notch: str = ""
    gaps: list[dict[str, float]] = field(default_factory=list)
    channel_seconds: dict[str, dict[str, int]] = field(default_factory=dict)
    unusable: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    reasons: dict[str, int] = field(default_factory=dict)
    decided: int = 0
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ch_names(self) -> list[str]:
        """Canonical names of the channels kept, in the order of the data."""
        return [] if self.channel_map is None else list(self.channel_map.names)

    @property
    def dropped(self) -> list[tuple[str, str]]:
        """Label and reason of every channel that was left out."""
        return [] if self.channel_map is None else list(self.channel_map.dropped)

    @property
    def model_positions(self) -> np.ndarray | None:
        """Positions (n_chans, 6) in metres when channels were matched by position, else ``None``: names say it all."""
        if self.channel_map is None or all(row.how != "position" for row in self.channel_map.rows):
            return None
        return self.channel_map.positions

    @property
    def usable_epochs(self) -> np.ndarray:
        """Bool mask, shape (n_epochs,)."""
        if self.n_epochs is None:
            raise ValueError("This is the report of a continuous recording, it has no epochs.")
        return ~self.unusable

    @property
    def seconds_usable(self) -> float:
        """Usable seconds of those judged so far."""
        if self.n_epochs is not None:
            return float((~self.unusable).sum() * self.n_seconds)
        judged = ~self.unusable[: self.decided]
        seconds = float(judged.sum())
        # The last second of a recording may be a part of one.
        if self.decided == len(self.unusable) and len(judged) and judged[-1]:
            seconds -= len(judged) - self.n_seconds
        return seconds

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        out = {
            name: getattr(self, name)
            for name in self.__dataclass_fields__
            if name not in ("channel_map", "unusable", "amplitude")
        }
        out["amplitude_uv"] = None if np.isnan(self.amplitude) else float(self.amplitude)
        rows = [] if self.channel_map is None else self.channel_map.rows
        out["channels"] = [
            {"label": row.label, "name": row.name, "row": row.row, "how": row.how, "distance_mm": row.distance_mm}
            for row in rows
        ]
        out["dropped"] = [{"label": label, "reason": reason} for label, reason in self.dropped]
        out["seconds_usable"] = self.seconds_usable
        out["unusable"] = np.flatnonzero(self.unusable).tolist()
        return out

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def _wrap(label: str, text: str | list[str], indent: int = 14) -> list[str]:
    """Break a text at spaces, or a list between its items."""
    words, space = (text.split(), " ") if isinstance(text, str) else (text, "  ")
    lines, line = [], ""
    for word in words:
        if line and len(line) + len(space) + len(word) > _WIDTH - indent:
            lines.append(line)
            line = word
        else:
            line = f"{line}{space}{word}" if line else word
    lines.append(line)
    return [f"{label if i == 0 else '':<{indent}}{line}" for i, line in enumerate(lines)]


def _lines(report: ConformReport) -> list[str]:
    lines: list[str] = []
    length = (
        f"{report.n_seconds:.6g} s"
        if report.n_epochs is None
        else (f"{report.n_epochs} epochs of {report.n_seconds:.4g} s")
    )
    lines += _wrap("recording", f"{report.source}, {length}, for {report.contract}")
    lines += _wrap("rate", report.resampling or f"{report.sfreq_in:g} Hz")
    if report.unit:
        amplitude = "" if np.isnan(report.amplitude) else f", median amplitude {report.amplitude:.3g} µV"
        lines += _wrap("unit", report.unit + amplitude)
    if report.channel_map is not None:
        rows = report.channel_map.rows
        lines += _wrap("channels", f"{len(rows)} kept, {len(report.dropped)} dropped, {report.montage} montage")
        renamed = [
            row.name
            if row.label == row.name
            else f"{row.label}→{row.name}" + ("" if row.distance_mm is None else f" ({row.distance_mm:.0f} mm)")
            for row in rows
        ]
        lines += _wrap("", renamed)
        by_reason: dict[str, list[str]] = {}
        for label, reason in report.dropped:
            by_reason.setdefault(reason, []).append(label)
        for i, (reason, labels) in enumerate(by_reason.items()):
            more = f" and {len(labels) - 12} more" if len(labels) > 12 else ""
            lines += _wrap("dropped" if i == 0 else "", f"{', '.join(labels[:12])}{more}: {reason}")
    if report.missing_channels:
        lines += _wrap("not there", ", ".join(report.missing_channels))
    for label, text in (
        ("reference", report.reference),
        ("high-pass", report.high_pass),
        ("low-pass", report.low_pass),
        ("notch", report.notch),
    ):
        if text:
            lines += _wrap(label, text)
    for gap in report.gaps:
        lines += _wrap("gap", f"{gap['missing']:g} s are missing after {gap['onset']:g} s of data")
    lines += _usable_lines(report)
    for text in report.warnings:
        lines += _wrap("warning", text)
    for text in report.notes:
        lines += _wrap("note", text)
    return lines


def _usable_lines(report: ConformReport) -> list[str]:
    if not len(report.unusable):
        return []
    if report.n_epochs is not None:
        text = f"{int((~report.unusable).sum())} of {report.n_epochs} epochs"
    elif report.decided:
        judged = "" if report.decided >= len(report.unusable) else f" (judged so far: {report.decided} s)"
        text = f"{report.seconds_usable:.6g} of {report.n_seconds:.6g} s{judged}"
    else:
        text = "judged while the recording is read"
    if report.reasons:
        text += "; not usable: " + ", ".join(f"{n} {reason}" for reason, n in report.reasons.items())
    lines = _wrap("usable", text)
    worst = sorted(report.channel_seconds.items(), key=lambda item: -sum(item[1].values()))
    for i, (name, counts) in enumerate(worst[:6]):
        what = ", ".join(f"{seconds} s {problem}" for problem, seconds in counts.items() if seconds)
        lines += _wrap("bad channels" if i == 0 else "", f"{name}: {what}")
    if len(worst) > 6:
        lines += _wrap("", f"and {len(worst) - 6} more channels")
    return lines
