"""From the labels of a recording to the channels a model knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np

from mne_labram.signal.contract import ContractError
from mne_labram.signal.labels import EARS, ParsedChannel, parse_channel_name
from mne_labram.signal.positions import electrode_positions
from mne_labram.signal.vocabulary import CHANNEL_ALIASES, LABRAM_CHANNELS, LABRAM_N_ROWS

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

_ROWS = {name: row for row, name in enumerate(LABRAM_CHANNELS, start=1)}


@dataclass(frozen=True)
class ChannelRow:
    index: int
    label: str
    name: str
    row: int | None
    how: str
    distance_mm: float | None = None
    position: tuple[float, ...] | None = None


@dataclass(frozen=True)
class ChannelMap:
    rows: tuple[ChannelRow, ...]
    dropped: tuple[tuple[str, str], ...]
    montage: str
    reference: str | None = None
    vocabulary: str | None = "labram"

    @property
    def kept(self) -> list[int]:
        return [row.index for row in self.rows]

    @property
    def names(self) -> list[str]:
        return [row.name for row in self.rows]

    @property
    def n(self) -> int:
        return len(self.rows)

    @property
    def positions(self) -> np.ndarray:
        return np.array([row.position for row in self.rows], dtype=float).reshape(-1, 6)


def interpret_labels(labels: Sequence[str]) -> tuple[str, list[ParsedChannel]]:
    parsed = [parse_channel_name(label) for label in labels]
    bipolar = [p for p in parsed if p.kind == "bipolar"]
    referential = [p for p in parsed if p.kind == "electrode"]
    cathodes = {p.cathode for p in bipolar}
    if len(bipolar) >= 3 and len(cathodes) == 1 and not referential:
        return "referential", [
            replace(p, cathode=None, reference=p.cathode) if p.kind == "bipolar" else p for p in parsed
        ]
    if bipolar and referential:
        return "mixed", parsed
    return ("bipolar" if bipolar else "referential"), parsed


def detect_montage(labels: Sequence[str]) -> str:
    return interpret_labels(labels)[0]


def _find_row(channel: ParsedChannel) -> tuple[str, int, str] | None:
    ends = [channel.anode] if channel.cathode is None else [channel.anode, channel.cathode]
    choices = [[end, CHANNEL_ALIASES[end]] if end in CHANNEL_ALIASES else [end] for end in ends]
    for combination in product(*choices):
        name = "-".join(combination)
        if name in _ROWS:
            return name, _ROWS[name], "exact" if name == channel.name else "alias"
    return None


def vocabulary_rows(names: Sequence[str], vocabulary: str = "labram") -> list[int]:
    rows, bad = [], []
    for name in names:
        found = _find_row(parse_channel_name(name))
        if found is None or found[1] > LABRAM_N_ROWS:
            bad.append(name)
        else:
            rows.append(found[1])
    if bad:
        raise ValueError(f"No row in the official table for {', '.join(bad)}; use spatial='coordinates'.")
    return rows


def map_channels(
    labels: Sequence[str],
    vocabulary: str | None = "labram",
    *,
    match: str = "name",
    positions: np.ndarray | None = None,
    montages: Sequence[str] = ("referential", "bipolar"),
) -> ChannelMap:
    montage, parsed = interpret_labels(labels)
    if montage not in montages:
        raise ContractError(f"The recording is {montage}, the model takes {' or '.join(montages)}; pick one kind.")
    rows: list[ChannelRow] = []
    dropped: list[tuple[str, str]] = []
    taken: dict[str, str] = {}
    for index, channel in enumerate(parsed):
        if channel.kind not in ("electrode", "bipolar"):
            dropped.append((channel.label, channel.kind))
            continue
        name, row, how = channel.name, None, "exact"
        if vocabulary is not None:
            found = _find_row(channel)
            if found is None or found[1] > LABRAM_N_ROWS:
                dropped.append((channel.label, "no row in the official table; use spatial='coordinates'"))
                continue
            name, row, how = found
        if name in taken:
            dropped.append((channel.label, f"{name} is already taken by {taken[name]!r}"))
            continue
        taken[name] = channel.label
        rows.append(ChannelRow(index, channel.label, name, row, how, None, tuple(electrode_positions([name])[0])))
    if not rows:
        raise ContractError("No channel has a known name.")
    return ChannelMap(tuple(rows), tuple(dropped), montage, None, vocabulary)
