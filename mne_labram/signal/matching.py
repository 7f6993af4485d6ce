"""Electrodes whose names say nothing: the rows of the sites that they are nearest to."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from mne_labram.signal.positions import nearest_electrodes
from mne_labram.signal.template import template_positions
from mne_labram.signal.vocabulary import LABRAM_CHANNELS, LABRAM_N_ROWS

__all__ = ["MATCHED_BY_POSITION", "match_nearest"]

_TEN_TEN = re.compile(r"(?:FP|AF|F|FT|FC|T|C|TP|CP|P|PO|O|I)(?:Z|\d{1,2})")
_OTHER_NAMES = {"T1", "T2", "T3", "T4", "T5", "T6"}

#: Names whose rows may be given by position: the 86 sites of the 10-10 system, each under its present name. The ears
#: are no scalp sites, and the half steps (CFC1, FTT9h, ...) come from single small data sets of the pre-training.
MATCHED_BY_POSITION: tuple[str, ...] = tuple(
    name for name in LABRAM_CHANNELS[:LABRAM_N_ROWS] if _TEN_TEN.fullmatch(name) and name not in _OTHER_NAMES
)


def match_nearest(
    points: Mapping[int, np.ndarray], labels: Sequence[str], taken: Mapping[str, str], max_distance: float
) -> tuple[dict[int, tuple[str, float]], dict[int, str]]:
    """Give electrodes the names of the sites of the 10-10 system that they are nearest to.

    Parameters
    ----------
    points : mapping of int to ndarray, shape (3,)
        Place among the labels to position in metres, on the template's head.
    labels : sequence of str
        The recording's labels.
    taken : mapping of str to str
        Canonical names that are in use, and by which label.
    max_distance : float
        Farthest that an electrode may be from the site, metres.

    Returns
    -------
    matched : dict of int to tuple of (str, float)
        Place to canonical name and distance in mm. Of electrodes with the same nearest site the nearest gets it; none
        gets a site that is not its nearest.
    refused : dict of int to str
        Place to the reason why it gets none.
    """
    matched: dict[int, tuple[str, float]] = {}
    refused: dict[int, str] = {}
    if not points:
        return matched, refused
    template = template_positions()
    # T3 and T7 are one site, so a site is taken if any name of it is.
    holders = {tuple(template[name]): label for name, label in taken.items() if name in template}
    places = list(points)
    nearest, distances = nearest_electrodes(np.array(list(points.values())), MATCHED_BY_POSITION)
    for k in np.argsort(distances, kind="stable"):
        place, name, distance_mm = places[k], MATCHED_BY_POSITION[nearest[k]], 1e3 * float(distances[k])
        site = tuple(template[name])
        if distances[k] > max_distance:
            refused[place] = f"{distance_mm:.0f} mm from {name}, the nearest row"
        elif site in holders:
            refused[place] = f"{name}, the nearest row ({distance_mm:.0f} mm), is already taken by {holders[site]!r}"
        else:
            holders[site] = labels[place]
            matched[place] = name, round(distance_mm, 1)
    return matched, refused
