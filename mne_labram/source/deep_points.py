"""Points deep in the template's head, where no cortical surface is. Experimental.

The structures are ellipsoids about approximate centres in MNI space, and their dipoles all point up. Neither is a
segmentation, and neither knows that the cells of thalamus and hippocampus are arranged so that their fields nearly
cancel outside: a real source there is far weaker on the scalp than this model says.
"""

from __future__ import annotations

from dataclasses import dataclass

import mne
import numpy as np

__all__ = ["DEEP_STRUCTURES", "DeepStructure", "deep_source_spaces"]

# Distance of the points, mm.
_SPACING = 6.0


@dataclass(frozen=True)
class DeepStructure:
    """An ellipsoid on the right side of the brain, and its mirror image.

    Parameters
    ----------
    name : str
        What it stands for.
    centre : tuple of float
        MNI coordinates, mm: right, anterior, superior.
    half_axes : tuple of float
        In mm, along the same axes.
    """

    name: str
    centre: tuple[float, float, float]
    half_axes: tuple[float, float, float]


#: Centres and sizes read off atlases of the MNI brain by eye: right to about half a centimetre.
DEEP_STRUCTURES = (
    DeepStructure("thalamus", (11, -18, 8), (8, 12, 8)),
    DeepStructure("hippocampus", (28, -22, -14), (6, 16, 6)),
    DeepStructure("amygdala", (24, -4, -19), (7, 7, 7)),
    DeepStructure("caudate", (13, 12, 10), (5, 13, 9)),
    DeepStructure("putamen", (26, 3, 1), (6, 14, 8)),
)


def _points(structure: DeepStructure, side: int) -> np.ndarray:
    half = np.array(structure.half_axes)
    steps = [np.arange(-np.floor(extent / _SPACING), np.floor(extent / _SPACING) + 1) * _SPACING for extent in half]
    grid = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 3)
    grid = grid[((grid / half) ** 2).sum(axis=1) <= 1] + structure.centre
    return grid * (side, 1, 1)


def deep_source_spaces() -> mne.SourceSpaces:
    """Return the deep points as source spaces.

    Returns
    -------
    src : mne.SourceSpaces
        One discrete source space per structure of :data:`DEEP_STRUCTURES` and side, left before right, in the MRI
        frame of fsaverage; normals point up. MNI coordinates are taken as they are: fsaverage's frame differs from them
        by less than the centres are known to.
    """
    spaces = []
    for structure in DEEP_STRUCTURES:
        for side in (-1, 1):
            rr = _points(structure, side) / 1000
            pos = {"rr": rr, "nn": np.tile([0.0, 0.0, 1.0], (len(rr), 1))}
            spaces += mne.setup_volume_source_space("fsaverage", pos=pos, verbose="ERROR")
    return mne.SourceSpaces(spaces)
