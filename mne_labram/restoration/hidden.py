"""What is to be restored, and what is not to be believed: intervals of samples for each channel."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import mne
import numpy as np

from mne_labram.signal.alignment import align_to_template
from mne_labram.signal.contract import ContractError
from mne_labram.signal.labels import parse_channel_name
from mne_labram.signal.positions import electrode_positions, positions_from_chs
from mne_labram.signal.template import template_positions

__all__ = ["EegChannels", "Intervals", "check_visible", "eeg_channels"]

#: Fewer visible channels than this say nothing: the mean of them is the reference.
MIN_VISIBLE = 2


@dataclass(frozen=True)
class EegChannels:
    """The EEG channels of a recording that have a place on the head.

    Attributes
    ----------
    picks : list of int
        Their indices in the recording.
    names : list of str
        Their names there.
    positions : ndarray, shape (n_channels, 3)
        Head coordinates in metres; of the anode, where a channel is bipolar.
    aligned : ndarray, shape (n_channels, 6)
        Of anode and cathode, which are the same where a channel is not bipolar, on the template's head (see
        :func:`~mne_labram.signal.alignment.align_to_template`): what models know.
    notes : list of str
        What was left out, and where positions come from.
    """

    picks: list[int]
    names: list[str]
    positions: np.ndarray
    aligned: np.ndarray
    notes: list[str] = field(default_factory=list)


def eeg_channels(info: mne.Info, *, bipolar: bool = False) -> EegChannels:
    """Find the EEG channels of a recording and where they are.

    Parameters
    ----------
    info : mne.Info
        Of the recording.
    bipolar : bool
        Whether differences of two electrodes of the 10-05 system, by their names, are channels too, if there are at
        least as many as others.

    Returns
    -------
    channels : EegChannels
        At their own positions where all have one, else at those of their names on MNE's 10-05 template. Channels that
        are EEG only by the file's word (mastoids against each other, an ECG) are left out, with a note.

    Raises
    ------
    ContractError
        If there are fewer than two such channels, or positions cannot be metres on a head.
    """
    picks = mne.pick_types(info, meg=False, eeg=True, exclude=()).tolist()
    if not picks:
        raise ContractError("There is no EEG channel to restore; set channel types with inst.set_channel_types.")
    parsed = [parse_channel_name(info["ch_names"][pick]) for pick in picks]
    # The difference of two electrodes is at neither of them, and not in the reference of the others.
    single = [each.kind in ("electrode", "unknown") for each in parsed]
    named = [each.kind == "electrode" for each in parsed]
    own = positions_from_chs([info["chs"][pick] for pick in picks])
    placed = [ok and bool(np.isfinite(point).all()) for ok, point in zip(single, own, strict=True)]
    notes = []
    if sum(placed) >= sum(named):
        keep, positions = placed, own
        aligned = np.full((len(picks), 3), np.nan)
        aligned[np.array(placed)] = align_to_template(own[np.array(placed)])
    else:
        keep = named
        positions = np.full((len(picks), 3), np.nan)
        names = [info["ch_names"][pick] for pick, ok in zip(picks, named, strict=True) if ok]
        aligned = positions
        positions[np.array(named)] = electrode_positions(names)[:, :3]
        notes.append("Electrodes were taken to be where MNE's 10-05 template has their names.")
    aligned = np.hstack([aligned, aligned])
    if bipolar:
        known = template_positions().keys()
        rows = [
            row for row, each in enumerate(parsed) if each.kind == "bipolar" and {each.anode, each.cathode} <= known
        ]
        # A few of them beside a referential montage tell little, and would cost what is known of its reference.
        for row in rows if len(rows) >= sum(keep) else ():
            keep[row] = True
            aligned[row] = electrode_positions([parsed[row].name])[0]
            positions[row] = aligned[row, :3]
    rows = np.flatnonzero(keep)
    others = [info["ch_names"][pick] for pick, ok in zip(picks, keep, strict=True) if not ok]
    if len(rows) < MIN_VISIBLE and sum(each.kind == "bipolar" for each in parsed) > len(parsed) / 2:
        raise ContractError(
            "These channels are differences of electrodes (a bipolar montage), which have no place on the head; "
            "restore them with method='gram', which needs names of the 10-05 system, or restore the referential "
            "recording that they were made of."
        )
    if len(rows) < MIN_VISIBLE:
        raise ContractError(
            f"{len(rows)} of {len(picks)} EEG channels are single electrodes with a known position "
            f"({_listed(others)} are not), and it takes at least {MIN_VISIBLE + 1} to restore one; set a montage, or "
            "rename the channels to names of the 10-05 system."
        )
    if others:
        notes.append(
            f"{_listed(others)}: not used, for want of a position or because they are differences of electrodes."
        )
    chosen = [picks[row] for row in rows]
    return EegChannels(chosen, [info["ch_names"][pick] for pick in chosen], positions[rows], aligned[rows], notes)


class Intervals:
    """Samples marked for each channel, as sorted intervals that do not touch.

    Parameters
    ----------
    n_channels : int
        Channels.
    n_times : int
        Samples of the recording; intervals are cut to it.
    """

    def __init__(self, n_channels: int, n_times: int) -> None:
        self.n_channels, self.n_times = n_channels, n_times
        self._rows: list[list[tuple[int, int]]] = [[] for _ in range(n_channels)]

    def add(self, start: int, stop: int, rows: Iterable[int]) -> None:
        """Mark samples ``start..stop-1`` of some channels."""
        start, stop = max(int(start), 0), min(int(stop), self.n_times)
        if start >= stop:
            return
        for row in rows:
            apart = [each for each in self._rows[row] if each[1] < start or each[0] > stop]
            touching = [each for each in self._rows[row] if not (each[1] < start or each[0] > stop)]
            low = min([start, *(each[0] for each in touching)])
            high = max([stop, *(each[1] for each in touching)])
            self._rows[row] = sorted([*apart, (low, high)])

    def of(self, row: int) -> list[tuple[int, int]]:
        """Return the intervals of a channel."""
        return list(self._rows[row])

    def __bool__(self) -> bool:
        return any(self._rows)

    def mask(self, start: int, stop: int) -> np.ndarray:
        """Return what is marked of samples ``start..stop-1``, bool of shape (n_channels, stop - start)."""
        out = np.zeros((self.n_channels, stop - start), dtype=bool)
        for row, intervals in enumerate(self._rows):
            # They are sorted and apart: the first that may reach in is the one before the first that begins within.
            first = max(bisect_left(intervals, (start, start)) - 1, 0)
            for low, high in intervals[first : bisect_left(intervals, (stop, stop))]:
                if high > start:
                    out[row, max(low - start, 0) : high - start] = True
        return out

    def groups(self) -> list[tuple[int, int, list[int]]]:
        """Return (start, stop, rows) of intervals, with the channels that share one together, by start."""
        shared = defaultdict(list)
        for row, intervals in enumerate(self._rows):
            for interval in intervals:
                shared[interval].append(row)
        return [(*interval, rows) for interval, rows in sorted(shared.items())]

    def union(self, other: Intervals) -> Intervals:
        """Return what is marked in either."""
        out = Intervals(self.n_channels, self.n_times)
        for each in (self, other):
            for row, intervals in enumerate(each._rows):
                for interval in intervals:
                    out.add(*interval, [row])
        return out

    def least_unmarked(self, within: Intervals) -> tuple[int, int]:
        """Return how few channels are unmarked while others mark any, at least, and the first sample where it is so."""
        changes: dict[int, list[int]] = defaultdict(lambda: [0, 0])
        for which, each in enumerate((self, within)):
            for low, high in (interval for intervals in each._rows for interval in intervals):
                changes[low][which] += 1
                changes[high][which] -= 1
        marked, inside, most, where = 0, 0, 0, 0
        for sample in sorted(changes):
            marked, inside = marked + changes[sample][0], inside + changes[sample][1]
            if inside and marked > most:
                most, where = marked, sample
        return self.n_channels - most, where


def check_visible(
    targets: Intervals, distrusted: Intervals, channels: Sequence[str], sfreq: float, where: str = ""
) -> None:
    """Refuse what leaves too little to restore from.

    Parameters
    ----------
    targets : Intervals
        What is to be restored.
    distrusted : Intervals
        What is not to be believed; all of it may be bad where nothing is to be restored.
    channels : sequence of str
        Names.
    sfreq : float
        Samples per second.
    where : str
        What to say of the place, such as ``" of epoch 3"``.

    Raises
    ------
    ContractError
        If fewer than two channels are visible while others are to be restored.
    """
    visible, sample = targets.union(distrusted).least_unmarked(targets)
    if visible >= MIN_VISIBLE:
        return
    left = "no channel is" if visible == 0 else "one channel is"
    raise ContractError(
        f"Of the {len(channels)} EEG channels all, or all but one, are bad or to be restored at {sample / sfreq:.6g} s"
        f"{where}: {left} visible and at least {MIN_VISIBLE} are needed; restore fewer channels at a time."
    )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:8]))
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")
