"""Sources as MNE has them: which vertices in which order, and in Am."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mne
import numpy as np

from mne_labram.signal.contract import ContractError
from mne_labram.source.head import SourceModel

__all__ = ["SourceLayout", "source_layout"]

_NAM = 1e-9
_SURFACES = ("lh", "rh")


@dataclass(frozen=True, eq=False)
class SourceLayout:
    """How the sources of a head become a source estimate.

    Parameters
    ----------
    spaces : tuple of str
        ``"lh"``, ``"rh"`` or ``"deep"`` for every source space.
    vertices : list of ndarray of int
        Vertex numbers of each.
    subject : str | None
        Name of the head.
    """

    spaces: tuple[str, ...]
    vertices: list[np.ndarray]
    subject: str | None

    def __post_init__(self) -> None:
        surfaces = [space for space in self.spaces if space in _SURFACES]
        if len(set(surfaces)) < len(surfaces) or set(self.spaces) - {*_SURFACES, "deep"}:
            raise ContractError(
                f"The forward has the source spaces {', '.join(self.spaces)}; a source estimate has one surface for "
                "each hemisphere at most."
            )

    def estimate(self, moments: np.ndarray, tmin: float, tstep: float) -> mne.SourceEstimate | mne.MixedSourceEstimate:
        """Make a source estimate.

        Parameters
        ----------
        moments : ndarray, shape (n_sources, n_times)
            nAm, in the order of the source spaces.
        tmin, tstep : float
            First time and distance of samples in seconds.

        Returns
        -------
        stc : mne.SourceEstimate | mne.MixedSourceEstimate
            In Am; mixed where there are deep points.
        """
        numbers = self._numbers()
        none = np.zeros(0, int)
        vertices = [none if number is None else np.array(self.vertices[number]) for number in numbers]
        kind = mne.MixedSourceEstimate if "deep" in self.spaces else mne.SourceEstimate
        moments = self.ordered(moments) * np.asarray(_NAM, moments.dtype)
        return kind(moments, vertices, tmin, tstep, subject=self.subject)

    def ordered(self, values: np.ndarray) -> np.ndarray:
        """Bring values of sources from the order of the source spaces to that of source estimates.

        Parameters
        ----------
        values : ndarray, shape (n_sources, ...)
            One row for each source.

        Returns
        -------
        values : ndarray, shape (n_sources, ...)
            Left hemisphere, right hemisphere, deep points.
        """
        numbers = [number for number in self._numbers() if number is not None]
        if numbers == list(range(len(numbers))):
            return values
        bounds = np.cumsum([0, *map(len, self.vertices)])
        return np.concatenate([values[bounds[number] : bounds[number + 1]] for number in numbers])

    def _numbers(self) -> list[int | None]:
        """Source spaces in the order of source estimates; None for a hemisphere that there is none of."""
        sides = [self.spaces.index(side) if side in self.spaces else None for side in _SURFACES]
        return [*sides, *(number for number, space in enumerate(self.spaces) if space == "deep")]


def source_layout(fwd: mne.Forward | SourceModel, model: SourceModel) -> SourceLayout:
    """Read off a forward which of its source spaces is which.

    Parameters
    ----------
    fwd : mne.Forward | SourceModel
        A forward, or a head whose surfaces are the left and the right hemisphere, in this order.
    model : SourceModel
        What was taken from it.

    Returns
    -------
    layout : SourceLayout
        For source estimates.

    Raises
    ------
    ContractError
        If there is more than one surface for a hemisphere.
    """
    if isinstance(fwd, mne.Forward):
        return SourceLayout(_spaces(fwd["src"]), list(model.vertices), model.subject)
    bounds = np.cumsum([0, *map(len, model.vertices)])
    deep = [bool(model.deep[a:b].all()) and b > a for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
    sides = iter([*_SURFACES, *["surface"] * len(deep)])
    return SourceLayout(tuple("deep" if d else next(sides) for d in deep), list(model.vertices), model.subject)


def _spaces(src: Sequence[dict]) -> tuple[str, ...]:
    """Name source spaces by FIFFV_MNE_SURF_LEFT_HEMI (101) and FIFFV_MNE_SURF_RIGHT_HEMI (102)."""
    sides = {101: "lh", 102: "rh"}
    return tuple("deep" if space["type"] != "surf" else sides.get(int(space.get("id", 0)), "surface") for space in src)
