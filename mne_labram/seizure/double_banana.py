"""The longitudinal bipolar montage ("double banana") in which seizures are read, from whatever was recorded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mne_labram.signal.channels import interpret_labels, parse_channel_name
from mne_labram.signal.vocabulary import CHANNEL_ALIASES, DOUBLE_BANANA

__all__ = ["Derivation", "double_banana", "is_involved", "reader_name"]

#: Old names of the four temporal electrodes to the new ones, in which the montage is written.
_NEW_NAMES = {old: CHANNEL_ALIASES[old] for old in ("T3", "T4", "T5", "T6")}
#: A montage of fewer derivations than this says less than the channels as they were recorded.
_MIN_DERIVATIONS = 3
_MAX_OTHERS = 32


def _chains() -> list[tuple[str, list[str]]]:
    """Return the chains of :data:`DOUBLE_BANANA` as electrodes, each with its side."""
    chains: list[list[str]] = []
    for name in DOUBLE_BANANA:
        anode, cathode = name.split("-")
        if chains and chains[-1][-1] == anode:
            chains[-1].append(cathode)
        else:
            chains.append([anode, cathode])
    return [(_side(chain), chain) for chain in chains]


def _side(electrodes: Iterable[str]) -> str:
    """Tell the side by the 10-20 rule: odd numbers left, even right, z in the middle."""
    last = {name[-1] for name in electrodes}
    if last <= set("13579"):
        return "left"
    if last <= set("02468"):
        return "right"
    return "midline" if last <= {"Z", "z"} else "other"


@dataclass(frozen=True)
class Derivation:
    """One trace of the picture.

    Parameters
    ----------
    name : str
        As a reader writes it, with the recording's own names of the electrodes: ``"Fp1-F7"``, ``"F7-T3"``.
    anode : int
        Row of the recorded channel.
    cathode : int | None
        Row of the recorded channel that is subtracted; ``None``: shown as recorded.
    side : {"left", "right", "midline", "other"}
        Where it lies.
    electrodes : tuple of str
        Canonical names, new 10-20 names; empty where the label names none.
    """

    name: str
    anode: int
    cathode: int | None
    side: str
    electrodes: tuple[str, ...]


def reader_name(name: str) -> str:
    """Write a canonical name as readers do: ``"FP1-FZ"`` becomes ``"Fp1-Fz"``.

    Parameters
    ----------
    name : str
        Electrode or derivation.

    Returns
    -------
    name : str
        The same with a small p and z.
    """
    return "-".join(re.sub(r"^FP", "Fp", re.sub(r"Z$", "z", end)) for end in name.split("-"))


def _new(electrode: str) -> str:
    return _NEW_NAMES.get(electrode, electrode)


def double_banana(labels: Sequence[str]) -> tuple[str, list[Derivation]]:
    """Arrange the channels of a recording as a double banana.

    Parameters
    ----------
    labels : sequence of str
        Labels of the EEG channels, as in the file.

    Returns
    -------
    montage : str
        One clause for the caption: what the traces are.
    derivations : list of Derivation
        From the top: left temporal, right temporal, left parasagittal, right parasagittal, midline, then other
        derivations that were recorded. Referential recordings are made bipolar by differences; where an electrode of a
        chain is missing, its neighbours are joined. Recordings with too few electrodes for that are shown as they are.

    Notes
    -----
    The chains are those of :data:`mne_labram.signal.DOUBLE_BANANA`. A channel that was recorded twice is shown once.
    """
    montage, parsed = interpret_labels(labels)
    rows: dict[str, int] = {}
    for row, channel in enumerate(parsed):
        if channel.kind in ("electrode", "bipolar"):
            rows.setdefault("-".join(map(_new, channel.name.split("-"))), row)
    own = {new: parsed[row].name for new, row in rows.items()}
    if montage == "bipolar":
        ordered = [name for name in DOUBLE_BANANA if name in rows]
        others = [name for name in rows if name not in DOUBLE_BANANA]
        found = [_recorded(own[name], rows[name]) for name in (*ordered, *others[:_MAX_OTHERS])]
        return "bipolar as recorded, in the order of the double banana", found
    if montage == "referential":
        found = _differences(rows, own)
        if len(found) >= _MIN_DERIVATIONS:
            wide = any(f"{one}-{other}" not in DOUBLE_BANANA for one, other in (each.electrodes for each in found))
            note = "; neighbours are joined where an electrode is missing" if wide else ""
            return f"double banana, computed from the referential channels{note}", found
    shown = [
        _recorded(channel.name, row) if channel.kind in ("electrode", "bipolar") else _unnamed(channel.label, row)
        for row, channel in enumerate(parsed)
        if channel.kind != "auxiliary"
    ]
    return "channels as recorded", shown[:_MAX_OTHERS]


def _recorded(name: str, row: int) -> Derivation:
    electrodes = tuple(map(_new, name.split("-")))
    return Derivation(reader_name(name), row, None, _side(electrodes), electrodes)


def _unnamed(label: str, row: int) -> Derivation:
    return Derivation(label, row, None, "other", ())


def _differences(rows: dict[str, int], own: dict[str, str]) -> list[Derivation]:
    found = []
    for side, chain in _chains():
        there = [name for name in chain if name in rows]
        # The two temporal and parasagittal chains of a side share their ends: those alone are no chain.
        if not set(there) - {"FP1", "FP2", "O1", "O2"}:
            continue
        found += [
            Derivation(reader_name(f"{own[one]}-{own[other]}"), rows[one], rows[other], side, (one, other))
            for one, other in zip(there[:-1], there[1:], strict=True)
        ]
    return found


def is_involved(derivation: Derivation, channels: Iterable[str]) -> bool:
    """Tell whether a trace shows one of the channels in which an event is seen.

    Parameters
    ----------
    derivation : Derivation
        The trace.
    channels : iterable of str
        ``SeizureEvent.channels``: labels or canonical names of electrodes or derivations, or ``"all"``.

    Returns
    -------
    involved : bool
        For an electrode: the traces on both sides of it.
    """
    mine = set(derivation.electrodes)
    for channel in channels:
        if channel == "all":
            return True
        parsed = parse_channel_name(channel)
        if parsed.kind in ("electrode", "bipolar"):
            theirs = {_new(end) for end in parsed.name.split("-")}
            if mine == theirs or (len(theirs) == 1 and theirs <= mine):
                return True
        elif channel == derivation.name:
            return True
    return False
