"""What a compression came to, in numbers that say what they are relative to."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["CompressionReport"]

#: What BrainCodec's authors count from: 32-bit floats at 512 Hz.
_PAPER_BITS, _PAPER_RATE = 32, 512.0


@dataclass
class CompressionReport:
    """What :func:`mne_labram.braincodec_compress` made of a recording.

    Attributes
    ----------
    fname : Path
        The file.
    mode : str
        What its EEG channels were coded with.
    seconds : float
        Length of the recording.
    sfreq : float
        Sampling rate in Hz.
    n_channels, n_coded : int
        Channels of the recording, and those among them that were coded by ``mode``; the others were kept exactly.
    n_bytes : int
        Size of the file.
    coded_bytes : int
        Bytes of the coded channels in it.
    source_bits : float
        Bits of one sample in the source, mean over channels.
    n_missing : int
        Samples that were NaN, which they are again after decompression.
    bitrate : float | None
        Bits per second and channel that were asked for.
    max_error : float | None
        Largest error in µV that was allowed.
    quality : dict
        ``prd``, ``prdn`` (percent, mean over channels and windows of 4 s), ``prd_overall``, ``prdn_overall``
        (percent), ``pearson``, ``band_errors`` (percent), ``largest_error`` (µV) of the coded channels; empty without
        ``report=True``.
    notes : list of str
        What a user should know.
    """

    fname: Path
    mode: str
    seconds: float
    sfreq: float
    n_channels: int
    n_coded: int
    n_bytes: int
    coded_bytes: int
    source_bits: float
    n_missing: int = 0
    bitrate: float | None = None
    max_error: float | None = None
    quality: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def bits_per_second(self) -> float:
        """Bits per second and channel that the coded channels took; NaN if there are none."""
        return 8 * self.coded_bytes / (self.seconds * self.n_coded) if self.n_coded else math.nan

    @property
    def file_bits_per_second(self) -> float:
        """Bits per second and channel of the whole file: all channels, header, annotations and checksums."""
        return 8 * self.n_bytes / (self.seconds * self.n_channels)

    @property
    def ratio(self) -> float:
        """How many times smaller the file is than the source's own numbers at its own rate."""
        return self.source_bits * self.n_channels * self.sfreq * self.seconds / (8 * self.n_bytes)

    @property
    def paper_ratio(self) -> float:
        """How many times smaller the file is than 32-bit floats at 512 Hz, as BrainCodec's authors count."""
        return _PAPER_BITS * self.n_channels * _PAPER_RATE * self.seconds / (8 * self.n_bytes)

    def to_dict(self) -> dict[str, Any]:
        """Return everything, for JSON.

        Returns
        -------
        report : dict
            Attributes and ratios; ``None`` for what could not be computed.
        """
        names = ("mode", "seconds", "sfreq", "n_channels", "n_coded", "n_bytes", "coded_bytes", "source_bits")
        out = {"fname": str(self.fname)} | {name: getattr(self, name) for name in names}
        out |= {"n_missing": self.n_missing, "bitrate": self.bitrate, "max_error": self.max_error}
        names = ("bits_per_second", "file_bits_per_second", "ratio", "paper_ratio")
        out |= {name: getattr(self, name) for name in names}
        out |= {"quality": dict(self.quality), "notes": list(self.notes)}
        return _without_nan(out)

    def __str__(self) -> str:
        source = f"{self.source_bits:.3g} bits at {self.sfreq:g} Hz"
        others = self.n_channels - self.n_coded
        rows = [
            ("File", f"{self.fname.name}, {_size(self.n_bytes)}"),
            ("Recording", f"{_time(self.seconds)}, {self.n_channels} channels, {self.sfreq:g} Hz"),
            ("Mode", self._mode()),
        ]
        if self.n_coded:
            rows.append(("Bit rate", f"{self.bits_per_second:.4g} bit/s/channel for the {self.n_coded} coded channels"))
        if others:
            rows.append(("Kept exactly", f"{others} other channel{'s' if others > 1 else ''}"))
        rows += [
            ("Size", f"{self.file_bits_per_second:.4g} bit/s/channel with all that is in the file"),
            ("", f"{self.ratio:.3g} times smaller than the source's own numbers ({source})"),
            (
                "",
                f"{self.paper_ratio:.3g} times smaller than 32-bit floats at 512 Hz (as the BrainCodec paper counts)",
            ),
        ]
        rows += self._quality_rows()
        if self.n_missing:
            rows.append(("Missing", f"{self.n_missing} samples are NaN, as in the source"))
        rows += [("Note", note) for note in self.notes]
        return "\n".join(f"{name:<14}{text}" for name, text in rows)

    def _mode(self) -> str:
        if self.max_error is not None:
            return f"{self.mode}, " + (f"error at most {self.max_error:g} µV" if self.max_error else "exact")
        return f"{self.mode}, {self.bitrate:g} bit/s/channel asked for" if self.bitrate is not None else self.mode

    def _quality_rows(self) -> list[tuple[str, str]]:
        q = self.quality
        if not q:
            return []
        if q["largest_error"] == 0:
            return [("Error", "none: every sample is as it was")]
        if math.isnan(q["prd"]):
            return [("Error", f"largest {_number(q['largest_error'])} µV; all windows are constant or have NaN")]
        bands = ", ".join(f"{name} {_number(error)} %" for name, error in q["band_errors"].items())
        return [
            ("Error", f"PRD {_number(q['prd'])} %, PRDN {_number(q['prdn'])} % (mean of 4-s windows of each channel)"),
            ("", f"PRD {_number(q['prd_overall'])} %, PRDN {_number(q['prdn_overall'])} % (all samples together)"),
            ("", f"Pearson r {q['pearson']:.4f}, largest error {_number(q['largest_error'])} µV"),
            ("By band", f"PRDN: {bands}"),
        ]


def _number(value: float) -> str:
    return f"{value:.3g}"


def _size(n_bytes: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= size:
            return f"{n_bytes / size:.3g} {unit}"
    return f"{n_bytes} bytes"


def _time(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.4g} {unit}"
    return f"{seconds:.4g} s"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
