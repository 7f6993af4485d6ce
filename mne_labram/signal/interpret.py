"""What all the labels of a recording say together: referential or bipolar, and whose names they are."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from mne_labram.signal.labels import EARS, ParsedChannel, parse_channel_name

__all__ = ["CAP_PREFIX", "detect_montage", "interpret_labels"]

#: Begins the name of a numbered contact, so that ``cap A1`` is not taken for the ear again.
CAP_PREFIX = "cap "

# "A12", "B3", or a bare number: the way caps and intracranial leads number their contacts.
_NUMBERED = re.compile(r"(?:EEG |POL )?([A-Z]?)(\d{1,3})(?: ?- ?[A-Z]+)?", re.IGNORECASE)
# Fewer channels with one common cathode may as well be two neighbours of a bipolar chain (P3-O1 and P7-O1).
_MIN_COMMON_CATHODE = 3


def _numbered_by_the_cap(parsed: Sequence[ParsedChannel]) -> set[int]:
    """Find labels that look like electrodes but number the contacts of a cap.

    BioSemi's caps name their electrodes A1 to A32, B1 to B32 and so on, intracranial leads likewise, and some files
    number their channels 01, 02, 03. Among them are A1, C3, F7, P4 and 01, which are not those of the 10-05 system.
    Labels with one letter (or none) are a series of the cap's own if at least two of them are no electrode (A3, C7,
    B12). If the recording names no electrode in another way (Fp1, Cz), one such series is enough to doubt all.
    """
    series: dict[str, list[int]] = defaultdict(list)
    strange: Counter[str] = Counter()
    named_otherwise = False
    for index, channel in enumerate(parsed):
        found = _NUMBERED.fullmatch(" ".join(channel.label.split()))
        if found and channel.kind != "bipolar":
            letter = found[1].upper()
            series[letter].append(index)
            strange[letter] += channel.kind != "electrode"
        elif channel.kind in ("electrode", "bipolar"):
            named_otherwise = True
    own = {letter for letter, count in strange.items() if count >= 2}
    if own and not named_otherwise:
        own = set(series)
    return {index for letter in own for index in series[letter]}


def interpret_labels(labels: Sequence[str]) -> tuple[str, list[ParsedChannel]]:
    """Read all labels of a recording, each in the light of the others.

    Parameters
    ----------
    labels : sequence of str
        Channel labels, auxiliary channels included or not.

    Returns
    -------
    montage : {"referential", "bipolar", "mixed"}
        How the recording's electrodes were derived. ``"referential"`` where no label names an electrode.
    parsed : list of ParsedChannel
        One per label. They differ from :func:`~mne_labram.signal.labels.parse_channel_name` in three cases:

        - three or more derivations that all have the same cathode (``Fp1-Cz``, ``F3-Cz``, ...) are electrodes
          referenced to it, not bipolar;
        - an electrode against an ear (``T4-A2``) is a bipolar derivation if the recording is bipolar otherwise, as
          the end of a transverse chain;
        - numbered contacts of a cap (BioSemi ``A1`` to ``B32``; ``01``, ``02``, ``03``) are not electrodes, even
          where one of them reads like one; their ``name`` becomes ``"cap A1"``.

    Raises
    ------
    TypeError
        If ``labels`` is one string, or a label is not a string.
    """
    if isinstance(labels, str):
        raise TypeError("labels must be a sequence of channel labels, got one string.")
    parsed = [parse_channel_name(label) for label in labels]
    for index in _numbered_by_the_cap(parsed):
        label = parsed[index].label
        parsed[index] = ParsedChannel(label, CAP_PREFIX + " ".join(label.split()))

    derivations = [channel for channel in parsed if channel.kind == "bipolar"]
    electrodes = [channel for channel in parsed if channel.kind == "electrode"]
    if not derivations:
        return "referential", parsed

    cathodes = {channel.cathode for channel in derivations}
    if (
        len(derivations) >= _MIN_COMMON_CATHODE
        and len(cathodes) == 1
        and all(channel.anode in cathodes for channel in electrodes)
    ):
        return "referential", [
            replace(channel, cathode=None, reference=channel.cathode) if channel.kind == "bipolar" else channel
            for channel in parsed
        ]

    to_ear = [channel for channel in electrodes if channel.reference in EARS]
    if len(to_ear) < len(electrodes) or len(to_ear) > len(derivations):
        return "mixed", parsed
    return "bipolar", [
        replace(channel, cathode=channel.reference, reference=None) if channel.kind == "electrode" else channel
        for channel in parsed
    ]


def detect_montage(labels: Sequence[str]) -> str:
    """Tell how the channels of a recording were derived.

    Parameters
    ----------
    labels : sequence of str
        Channel labels.

    Returns
    -------
    montage : {"referential", "bipolar", "mixed"}
        ``"referential"``: each channel is an electrode against one reference, also a common scalp electrode
        (``-Cz`` in all labels). ``"bipolar"``: differences of two scalp electrodes. ``"mixed"``: both.

    Raises
    ------
    TypeError
        If ``labels`` is one string, or a label is not a string.

    See Also
    --------
    interpret_labels : The same, with what each label was taken for.
    """
    return interpret_labels(labels)[0]
