"""From the labels of a recording to the channels that a model knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from mne_labram.signal.alignment import align_to_template
from mne_labram.signal.contract import ContractError
from mne_labram.signal.interpret import CAP_PREFIX, detect_montage, interpret_labels
from mne_labram.signal.labels import EARS, ParsedChannel, parse_channel_name
from mne_labram.signal.matching import match_nearest
from mne_labram.signal.positions import electrode_positions
from mne_labram.signal.template import template_positions
from mne_labram.signal.vocabulary import CHANNEL_ALIASES, LABRAM_CHANNELS, LABRAM_N_ROWS, VOCABULARIES

__all__ = [
    "ChannelMap",
    "ChannelRow",
    "ParsedChannel",
    "detect_montage",
    "interpret_labels",
    "map_channels",
    "parse_channel_name",
    "vocabulary_rows",
]

_ROWS = {
    vocabulary: {name: row for row, name in enumerate(names, start=1)} for vocabulary, names in VOCABULARIES.items()
}
_WITHOUT_ROW = frozenset(LABRAM_CHANNELS[LABRAM_N_ROWS:])

_NO_ROW = "no row in the official table; use spatial='coordinates'"


@dataclass(frozen=True)
class ChannelRow:
    """One channel that is kept.

    Parameters
    ----------
    index : int
        Place among the recording's labels.
    label : str
        The recording's label.
    name : str
        Canonical name, as the model binds it.
    row : int | None
        Row of the vocabulary's table, from 1 (``pos_embed`` has 128 for LaBraM's); None without a vocabulary.
    how : {"exact", "alias", "position"}
        By its own name, by the other name of the same electrode (T3 for T7), or by its position.
    distance_mm : float | None
        Distance to the electrode whose row it got by position, in mm on the template's head.
    position : tuple of float
        Anode and cathode (the same point unless bipolar), metres, on the template's head: by name from the template,
        otherwise the recording's own, brought onto it.
    """

    index: int
    label: str
    name: str
    row: int | None
    how: str
    distance_mm: float | None
    position: tuple[float, ...]


@dataclass(frozen=True)
class ChannelMap:
    """Which channels of a recording a model gets, and why the others not.

    Parameters
    ----------
    rows : tuple of ChannelRow
        The kept channels, in the recording's order.
    dropped : tuple of (str, str)
        Label and reason.
    montage : {"referential", "bipolar"}
        How the kept channels were derived.
    reference : str | None
        The reference that the labels state; several are joined by ``/``.
    vocabulary : {"labram", "gram"} | None
        What the names were matched to.
    """

    rows: tuple[ChannelRow, ...]
    dropped: tuple[tuple[str, str], ...]
    montage: str
    reference: str | None = None
    vocabulary: str | None = "labram"

    @property
    def kept(self) -> list[int]:
        """Places of the kept channels among the recording's labels."""
        return [row.index for row in self.rows]

    @property
    def names(self) -> list[str]:
        """Canonical names of the kept channels."""
        return [row.name for row in self.rows]

    @property
    def n(self) -> int:
        """Number of kept channels."""
        return len(self.rows)

    @property
    def positions(self) -> np.ndarray:
        """Positions of the kept channels, shape (n, 6), metres, on the template's head (see ChannelRow)."""
        return np.array([row.position for row in self.rows], dtype=float).reshape(-1, 6)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        kept = ("label", "name", "row", "how", "distance_mm")
        return {
            "vocabulary": self.vocabulary,
            "montage": self.montage,
            "reference": self.reference,
            "kept": [{field: getattr(row, field) for field in kept} for row in self.rows],
            "dropped": [{"label": label, "reason": reason} for label, reason in self.dropped],
        }


def _find_row(channel: ParsedChannel, vocabulary: str) -> tuple[str, int, str] | None:
    """Name and row of the exact name, else of an alias of either end."""
    ends = [channel.anode] if channel.cathode is None else [channel.anode, channel.cathode]
    for combination in product(*([end, CHANNEL_ALIASES[end]] if end in CHANNEL_ALIASES else [end] for end in ends)):
        name = "-".join(combination)
        if name in _ROWS[vocabulary]:
            return name, _ROWS[vocabulary][name], "exact" if name == channel.name else "alias"
    return None


def _why_no_row(channel: ParsedChannel, vocabulary: str) -> str:
    """Say why an electrode or a derivation has no row."""
    if vocabulary == "labram" and channel.name in _WITHOUT_ROW:
        return f"{_NO_ROW} (the last 8 of its 136 names lie beyond its 128 rows)"
    if channel.cathode is not None:
        reverse = _find_row(ParsedChannel(channel.label, channel.cathode, channel.anode), vocabulary)
        if reverse is not None:
            return f"{_NO_ROW} (it is {reverse[0]} with the opposite sign: invert it to use that row)"
    return _NO_ROW


def vocabulary_rows(names: Sequence[str], vocabulary: str = "labram") -> list[int]:
    """Rows of the embedding table for channel names.

    Parameters
    ----------
    names : sequence of str
        Channel names; labels that :func:`parse_channel_name` understands will do.
    vocabulary : {"labram", "gram"}
        The table.

    Returns
    -------
    rows : list of int
        Rows of the table, 1 to 128 or, for Gram, 130 (row 0 is CLS). The exact name first; the old or new name of the
        same electrode (T3/T7, T4/T8, T5/P7, T6/P8) only where the exact one has no row, as in ``F7-T3``.

    Raises
    ------
    TypeError
        If ``names`` is one string.
    ValueError
        If names are unknown, have no row (in LaBraM's table all 8 parasagittal pairs, among others), or share one.
    """
    if isinstance(names, str):
        raise TypeError("names must be a sequence of channel names, got one string.")
    if vocabulary not in VOCABULARIES:
        raise ValueError(f"vocabulary must be {' or '.join(map(repr, VOCABULARIES))}, got {vocabulary!r}.")
    rows: list[int] = []
    unknown: list[str] = []
    rowless: list[str] = []
    for name in names:
        channel = parse_channel_name(name)
        found = _find_row(channel, vocabulary)
        if found is not None:
            rows.append(found[1])
        elif channel.kind in ("electrode", "bipolar"):
            rowless.append(name)
        else:
            unknown.append(name)
    if unknown:
        raise ValueError(
            f"{', '.join(map(repr, unknown))}: no name of an electrode of the 10-05 system; rename or leave out."
        )
    if rowless:
        raise ValueError(f"{', '.join(map(repr, rowless))}: {_NO_ROW} or leave out.")
    if len(set(rows)) < len(rows):
        shared = [name for name, row in zip(names, rows, strict=True) if rows.count(row) > 1]
        raise ValueError(f"{', '.join(map(repr, shared))}: the same channel more than once; keep one of each.")
    return rows


def _shorten(labels: Sequence[str], n: int = 4) -> str:
    return ", ".join(labels[:n]) + (", ..." if len(labels) > n else "")


def _check_montage(montage: str, parsed: Sequence[ParsedChannel], accepted: Sequence[str]) -> None:
    derivations = [channel.label for channel in parsed if channel.kind == "bipolar"]
    electrodes = [channel.label for channel in parsed if channel.kind == "electrode"]
    if montage == "mixed":
        raise ContractError(
            f"The recording mixes {len(electrodes)} referential channels ({_shorten(electrodes)}) and "
            f"{len(derivations)} bipolar derivations ({_shorten(derivations)}); keep one kind with raw.pick()."
        )
    if montage not in accepted and derivations + electrodes:
        raise ContractError(
            f"The channels are {montage} ({_shorten(derivations or electrodes)}) and the model takes "
            f"{' or '.join(accepted)} ones only; export the recording that way or use another model."
        )


def _known(positions: np.ndarray, n_labels: int) -> np.ndarray:
    """Mask of the positions that are neither NaN nor zero."""
    positions = np.asarray(positions, dtype=float)
    if positions.shape != (n_labels, 3):
        raise ValueError(f"positions must have shape ({n_labels}, 3), one row per label, got {positions.shape}.")
    return np.isfinite(positions).all(axis=1) & positions.any(axis=1)


def _own_positions(parsed: Sequence[ParsedChannel], positions: np.ndarray | None) -> np.ndarray:
    """Bring the recording's electrode positions onto the template's head; NaN where there is none."""
    own = np.full((len(parsed), 3), np.nan)
    if positions is None:
        return own
    usable = _known(positions, len(parsed)) & [channel.kind in ("electrode", "unknown") for channel in parsed]
    own[usable] = np.asarray(positions)[usable]
    return align_to_template(own)


def _points_of(rest: Sequence[int], parsed: Sequence[ParsedChannel], own: np.ndarray) -> dict[int, np.ndarray]:
    """Give the positions of the channels without a row: the recording's own, else the template's for their name."""
    template = template_positions()
    points = {}
    for index in rest:
        if np.isfinite(own[index]).all():
            points[index] = own[index]
        elif parsed[index].kind == "electrode":
            points[index] = template[parsed[index].name]
    return points


def _by_name(channel: ParsedChannel, vocabulary: str | None) -> tuple[str, int | None, str] | str:
    """Name, row and how it was found, or else the reason why the channel has none."""
    if channel.kind == "auxiliary":
        return "an auxiliary channel, not EEG"
    if channel.kind == "ears":
        return "ear against ear, a reference channel"
    if channel.cathode in EARS:
        # In a list of canonical names "T4-A2" would be read as T4 with A2 as its reference.
        return "the ear as cathode of a derivation, which its name cannot say"
    if channel.name.startswith(CAP_PREFIX):
        return "numbered by the recorder, not an electrode of the 10-05 system"
    if channel.kind == "unknown":
        return "not the name of an electrode of the 10-05 system"
    if vocabulary is None:
        return channel.name, None, "exact"
    return _find_row(channel, vocabulary) or _why_no_row(channel, vocabulary)


def map_channels(
    labels: Sequence[str],
    vocabulary: str | None = "labram",
    *,
    match: str = "name",
    positions: np.ndarray | None = None,
    montages: Sequence[str] = ("referential", "bipolar"),
    max_distance: float = 0.025,
) -> ChannelMap:
    """Choose the channels of a recording that a model takes.

    Parameters
    ----------
    labels : sequence of str
        The recording's channel labels. Auxiliary channels among them are recognised and dropped.
    vocabulary : {"labram", "gram"} | None
        Each channel needs a row of the official table of LaBraM or of Gram. ``None``, for models that compute their
        spatial embedding from coordinates: each channel needs a known position, of both ends if it is bipolar; where
        the name gives none, the recording's own.
    match : {"name", "position"}
        ``"position"`` gives electrodes whose name has no row (EGI ``E1``, BioSemi ``A1`` to ``B32``, ``EEG 001``,
        ``FFC3h``) the row of the nearest electrode of the 10-10 system. Names that have a row go first. Without a
        vocabulary there are no rows, and it changes nothing.
    positions : ndarray, shape (n, 3) | None
        Electrode positions of the recording, metres, head frame, one row per label
        (:func:`~mne_labram.signal.positions.positions_from_chs`). NaN or zero rows are unknown. They are brought
        onto the template's head first (:func:`~mne_labram.signal.alignment.align_to_template`).
    montages : sequence of {"referential", "bipolar"}
        What the model accepts.
    max_distance : float
        Farthest that an electrode may be from the row it gets by position, metres. The default is the farthest a
        point inside the 10-10 grid can be from its sites: half the diagonal of a mesh of 36 mm, a tenth of a nasion
        to inion line of 36 cm. Electrodes beyond it are on the face or the neck.

    Returns
    -------
    channel_map : ChannelMap
        Kept channels, in the recording's order, and dropped ones with the reason.

    Raises
    ------
    ContractError
        If the montage is not accepted, referential and bipolar channels are mixed, no channel can be used, or
        ``positions`` cannot be metres on a head.
    TypeError
        If ``labels`` is one string, or a label is not a string.
    ValueError
        If an argument is not one of the values above, or ``positions`` has another shape.

    Notes
    -----
    Of channels with the same name the first is kept. Of electrodes with the same nearest row the nearest gets it and
    the others are dropped: none gets a row that is not its nearest.

    A recording that holds both referential channels and bipolar derivations is refused rather than reduced to the
    larger part, because one of the two would be dropped without the user having said which. Auxiliary channels, ear
    against ear (``A2-A1``) and labels that name no electrode do not make a recording mixed.
    """
    if vocabulary is not None and vocabulary not in VOCABULARIES:
        raise ValueError(f"vocabulary must be {', '.join(map(repr, VOCABULARIES))} or None, got {vocabulary!r}.")
    if match not in ("name", "position"):
        raise ValueError(f"match must be 'name' or 'position', got {match!r}.")
    montage, parsed = interpret_labels(labels)
    if not parsed:
        raise ContractError("The recording has no EEG channels; check the channel types with raw.get_channel_types().")
    _check_montage(montage, parsed, montages)
    # A foreign name can only be taken for an electrode against the reference, never for a derivation.
    may_use_position = montage == "referential" and "referential" in montages
    use_position = may_use_position and (vocabulary is None or match == "position")
    own = _own_positions(parsed, positions if use_position else None)

    kept: dict[int, ChannelRow] = {}
    reasons: dict[int, str] = {}
    taken: dict[str, str] = {}

    def keep(index: int, name: str, row: int | None, how: str, distance_mm: float | None, position: np.ndarray) -> None:
        if name in taken:
            reasons[index] = f"{name} is already taken by {taken[name]!r}"
        else:
            taken[name] = parsed[index].label
            kept[index] = ChannelRow(index, taken[name], name, row, how, distance_mm, tuple(position.tolist()))

    rest: list[int] = []
    for index, channel in enumerate(parsed):
        found = _by_name(channel, vocabulary)
        if not isinstance(found, str):
            keep(index, *found, None, electrode_positions([found[0]])[0])
            continue
        reasons[index] = found
        if channel.kind in ("electrode", "unknown") and channel.name:
            rest.append(index)

    if use_position:
        points = _points_of(rest, parsed, own)
        reasons |= {index: f"{reasons[index]}, and its position is unknown" for index in rest if index not in points}
        if vocabulary is None:
            for index, point in points.items():
                keep(index, parsed[index].name, None, "position", None, np.tile(point, 2))
        else:
            matched, refused = match_nearest(points, labels, taken, max_distance)
            reasons |= refused
            for index, (name, distance_mm) in matched.items():
                keep(index, name, _ROWS[vocabulary][name], "position", distance_mm, np.tile(points[index], 2))
    elif may_use_position and positions is not None:
        known = _known(positions, len(parsed))
        reasons |= {i: f"{reasons[i]}; it has a position, so match='position' can place it" for i in rest if known[i]}

    dropped = tuple((channel.label, reasons[index]) for index, channel in enumerate(parsed) if index not in kept)
    if not kept:
        advice = "; rename them with raw.rename_channels(), or set a montage and use match='position'"
        if all(channel.kind != "unknown" for channel in parsed):
            advice = ""
        raise ContractError(
            f"None of the {len(parsed)} channels can be used ({_shorten(list(labels))}): {dropped[0][1]}{advice}."
        )
    rows = tuple(kept[index] for index in sorted(kept))
    references = dict.fromkeys(parsed[row.index].reference for row in rows)
    return ChannelMap(
        rows=rows,
        dropped=dropped,
        montage=montage,
        reference="/".join(name for name in references if name is not None) or None,
        vocabulary=vocabulary,
    )
