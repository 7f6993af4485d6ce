"""Electrode positions: by name, from a recording, and nearest to a given point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mne_labram.signal.labels import parse_channel_name
from mne_labram.signal.template import template_positions

__all__ = ["electrode_positions", "nearest_electrodes", "positions_from_chs"]

# MNE's FIFFV_COORD_UNKNOWN and FIFFV_COORD_HEAD; 0 is what a channel without a digitised montage may carry.
_HEAD_FRAMES = (0, 4)
# No electrode is this near to the point between the ears, in metres; readers leave such values where nothing is known.
_NOT_A_POSITION = 0.001


def electrode_positions(names: Sequence[str]) -> np.ndarray:
    """Positions of both ends of channels, by name.

    Parameters
    ----------
    names : sequence of str
        Channel names, referential (``"FP1"``) or bipolar (``"FP1-F7"``); any label that
        :func:`~mne_labram.signal.labels.parse_channel_name` understands.

    Returns
    -------
    positions : ndarray, shape (n_chans, 6)
        Metres, in the head frame of MNE's 10-05 template (see
        :func:`~mne_labram.signal.template.template_positions`). Columns 0 to 2 hold the anode, 3 to 5 the cathode;
        both are the same point for a referential channel.

    Raises
    ------
    TypeError
        If ``names`` is one string.
    ValueError
        If a name is not an electrode, or a pair of electrodes, of the 10-05 system.
    """
    if isinstance(names, str):
        raise TypeError("names must be a sequence of channel names, got one string.")
    table = template_positions()
    parsed = [parse_channel_name(name) for name in names]
    unknown = [channel.label for channel in parsed if channel.kind in ("unknown", "auxiliary")]
    if unknown:
        raise ValueError(
            f"No position is known for {', '.join(map(repr, unknown))}; use names of the 10-05 system "
            "or give the positions themselves."
        )
    ends = [(channel.anode, channel.cathode or channel.anode) for channel in parsed]
    return np.array([[*table[anode], *table[cathode]] for anode, cathode in ends]).reshape(-1, 6)


def positions_from_chs(chs: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Electrode positions that a recording carries.

    Parameters
    ----------
    chs : sequence of mapping
        ``info["chs"]``, or Braindecode's ``chs_info``: ``"loc"`` and, where present, ``"coord_frame"`` are read.

    Returns
    -------
    positions : ndarray, shape (n_chans, 3)
        Metres, in MNE's head frame. A row is NaN where the position is unknown: no ``loc``, not finite, zero (as
        several readers leave it), or in another coordinate frame.
    """
    positions = np.full((len(chs), 3), np.nan)
    for row, ch in zip(positions, chs, strict=True):
        loc = ch.get("loc")
        if loc is None or int(ch.get("coord_frame", _HEAD_FRAMES[-1])) not in _HEAD_FRAMES:
            continue
        point = np.asarray(loc, dtype=float).ravel()[:3]
        if point.size == 3 and np.isfinite(point).all() and np.linalg.norm(point) > _NOT_A_POSITION:
            row[:] = point
    return positions


def nearest_electrodes(positions: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest of some electrodes.

    Parameters
    ----------
    positions : ndarray, shape (n, 3)
        Finite; metres, on the template's head (see :func:`~mne_labram.signal.alignment.align_to_template`).
    names : sequence of str
        The electrodes to choose from, by name.

    Returns
    -------
    index : ndarray of int, shape (n,)
        Index into ``names``.
    distance : ndarray, shape (n,)
        Metres.

    Raises
    ------
    ValueError
        If a position is not finite, or a name not known.
    """
    positions = np.asarray(positions, dtype=float).reshape(-1, 3)
    if not np.isfinite(positions).all():
        raise ValueError("Positions must be finite; leave out the electrodes whose position is unknown.")
    distances = np.linalg.norm(positions[:, None] - electrode_positions(names)[:, :3], axis=2)
    index = np.argmin(distances, axis=1)
    return index, distances[np.arange(len(index)), index]
