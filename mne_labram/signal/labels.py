"""From a channel label, as some amplifier wrote it, to the electrodes it names."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from mne_labram.signal.template import canonical_electrode

__all__ = ["EARS", "ParsedChannel", "parse_channel_name"]

#: Ear lobes and mastoids. As the second name of a label they are the reference, not a scalp electrode.
EARS = frozenset({"A1", "A2", "M1", "M2"})

# References that are no electrode of the 10-05 system, and how they are reported.
_REFERENCES = {
    **{word: word for word in ("REF", "LE", "AR", "CAR", "LM", "COM", "VREF", "GND", "NOSE", "NZ", "CS2")},
    **{word: "AVG" for word in ("AVG", "AV", "AVE", "AVERAGE", "AVGREF")},
    **{word: "REF" for word in ("REFERENCE", "COMMON")},
    **{word: "LE" for word in ("A1A2", "LINKEDEARS")},
    **{word: "LM" for word in ("M1M2", "LINKEDMASTOIDS")},
}

# A zero typed for the letter O.
_ZERO_FOR_O = {"01": "O1", "02": "O2", "0Z": "OZ"}

# Hyphens, dashes and the minus sign of Unicode; a NUL pads labels in some files.
_DASHES = {**dict.fromkeys(range(0x2010, 0x2016), "-"), 0x2212: "-", 0: " "}
_PREFIX = re.compile(r"^(?:EEG|POL)(?:\s*[-_:]\s*|\s+)", re.IGNORECASE)
_SEPARATOR = re.compile(r"\s*[-_:/]\s*|\s+")
# MNE tells equal labels apart by "-0", "-1", ...; "01" is O1 with a zero instead.
_RUNNING_NUMBER = re.compile(r"-(?:\d|[1-9]\d+)$")
_LINKED = re.compile(r"\(?\b([AM])1\s*\+\s*\1\s*2\)?(?:\s*/\s*2)?$", re.IGNORECASE)
_AUXILIARY = re.compile(
    r"(?:[HV]?EOG|[HV]EO|ECG|EKG|EMG|LOC|ROC|PHOTIC|RESP|PLETH|SPO2|OSAT|PULSE|SNORE|FLOW|STATUS|STI|TRIG|TRIGGER|"
    r"ERGO|GSR|TEMP|ACC|MARK|EVENT|DC|IBI|BURSTS|SUPPR|VNS|CHIN|EXG|AUX)[LRUDHVXYZ]?\d*",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class ParsedChannel:
    """What a channel label says.

    Parameters
    ----------
    label : str
        The label as given.
    anode : str
        Canonical electrode name: upper case, half steps as ``FTT9h``. The label itself, with its white space
        tidied, when it names no electrode.
    cathode : str | None
        Second electrode of a bipolar derivation, else None.
    reference : str | None
        Reference written in the label (``"REF"``, ``"LE"``, ``"AVG"``, ``"A1"`` ...), None if it states none.
    """

    label: str
    anode: str
    cathode: str | None = None
    reference: str | None = None

    @property
    def name(self) -> str:
        """Canonical name: ``"FP1"``, or ``"FP1-F7"`` for a bipolar derivation."""
        return self.anode if self.cathode is None else f"{self.anode}-{self.cathode}"

    @property
    def kind(self) -> str:
        """One of ``"electrode"``, ``"bipolar"``, ``"ears"`` (A2-A1), ``"auxiliary"`` (ECG ...), ``"unknown"``."""
        if self.cathode is not None:
            return "ears" if {self.anode, self.cathode} <= EARS else "bipolar"
        if canonical_electrode(self.anode) == self.anode:
            return "electrode"
        words = _SEPARATOR.split(_PREFIX.sub("", self.anode))
        return "auxiliary" if _AUXILIARY.fullmatch(words[0]) else "unknown"


def _electrode(token: str) -> str | None:
    token = token.rstrip(".")
    return canonical_electrode(_ZERO_FOR_O.get(token.upper(), token))


def _parse_parts(text: str) -> tuple[str, str | None, str | None] | None:
    parts = _SEPARATOR.split(text)
    if not 1 <= len(parts) <= 2:
        return None
    anode = _electrode(parts[0])
    if anode is None:
        return None
    if len(parts) == 1:
        return anode, None, None
    reference = _REFERENCES.get(parts[1].rstrip(".").upper())
    if reference is not None:
        return anode, None, reference
    cathode = _electrode(parts[1])
    if cathode is None or cathode == anode:
        return None
    if cathode in EARS and anode not in EARS:
        return anode, None, cathode
    return anode, cathode, None


def parse_channel_name(label: str) -> ParsedChannel:
    """Read the electrode, or the two electrodes, that a channel label names.

    Whole tokens are compared, in any case; nothing is recognised by the beginning of a label. Understood are the
    prefixes ``EEG`` and ``POL``, padding dots (``Fc5.``), a reference (``-REF``, ``-LE``, ``-Avg``, ``-A2``,
    ``-(A1+A2)/2``), ``01`` for ``O1``, every kind of dash, and the running number that MNE gives to equal labels
    (``T8-P8-0``).

    Parameters
    ----------
    label : str
        Channel label.

    Returns
    -------
    parsed : ParsedChannel
        With ``kind`` ``"unknown"`` or ``"auxiliary"`` where the label names no electrode of the 10-05 system.

    Raises
    ------
    TypeError
        If ``label`` is not a string.

    Notes
    -----
    A label alone cannot tell everything: ``A1`` is an ear, or the first electrode of a BioSemi cap. What needs all
    the labels of a recording is decided by :func:`~mne_labram.signal.channels.interpret_labels`.

    Examples
    --------
    >>> parse_channel_name("EEG Fp1-REF").name
    'FP1'
    >>> parse_channel_name("T8-P8-0").name
    'T8-P8'
    """
    if not isinstance(label, str):
        raise TypeError(f"A channel label must be a string, got {type(label).__name__}.")
    tidy = " ".join(unicodedata.normalize("NFKC", label).translate(_DASHES).split())
    text = _LINKED.sub(lambda found: f"{found[1]}1{found[1]}2", _PREFIX.sub("", tidy))
    parsed = _parse_parts(text)
    if parsed is None:
        parsed = _parse_parts(_RUNNING_NUMBER.sub("", text))
    if parsed is None:
        return ParsedChannel(label, tidy)
    return ParsedChannel(label, *parsed)
