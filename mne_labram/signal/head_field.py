"""What a source in the head looks like in the channels of a montage.

Electrodes are taken to a sphere, every channel is a difference of electrodes, and a current dipole is seen by all of
them at once. A referential and a bipolar recording of the same source are therefore consistent to the last digit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mne_labram.signal.positions import electrode_positions
from mne_labram.signal.template import template_positions

__all__ = ["HEAD_RADIUS", "Montage", "direction_of", "dipole_potentials", "montage_of", "nearness"]

#: Radius of the sphere in metres, that of MNE's ``make_sphere_model``.
HEAD_RADIUS = 0.09

# In a head with a skull, a dipole looks as it would in a homogeneous sphere at 0.6 of its eccentricity (Ary, Klein &
# Fender 1981, IEEE Trans Biomed Eng 28:447-452). tests/seizure/test_simulation.py compares with MNE's four shells.
_EQUIVALENT_ECCENTRICITY = 0.6
_SPHERE_FIT = "FP1 FP2 F3 F4 C3 C4 P3 P4 O1 O2 F7 F8 T7 T8 P7 P8 FZ CZ PZ FPZ OZ".split()


@dataclass(frozen=True)
class Montage:
    """The electrodes of some channels, and which differences of them the channels are.

    Parameters
    ----------
    electrodes : ndarray, shape (n_electrodes, 3)
        Directions from the middle of the head, of length 1.
    derivation : ndarray, shape (n_chans, n_electrodes)
        Channels out of electrodes: 1 at the anode, -1 at the cathode of a bipolar channel.
    """

    electrodes: np.ndarray
    derivation: np.ndarray

    @property
    def bipolar(self) -> np.ndarray:
        """Which channels are a difference of two electrodes, shape (n_chans,)."""
        return (self.derivation < 0).any(axis=1)

    def channels(self, electrodes: np.ndarray) -> np.ndarray:
        """Take signals, or weights, of electrodes to those of channels.

        Parameters
        ----------
        electrodes : ndarray, shape (n_electrodes, ...)
            What the electrodes pick up.

        Returns
        -------
        channels : ndarray, shape (n_chans, ...)
            What the channels show.
        """
        return np.tensordot(self.derivation, electrodes, axes=1)


@lru_cache(maxsize=1)
def _centre() -> np.ndarray:
    """Middle of the sphere through the template's 10-20 electrodes, by least squares."""
    points = np.array([template_positions()[name] for name in _SPHERE_FIT])
    # |p - c|^2 = r^2 is linear in c and r^2 - |c|^2.
    system = np.column_stack([2 * points, np.ones(len(points))])
    centre = np.linalg.lstsq(system, (points**2).sum(axis=1), rcond=None)[0][:3]
    centre.setflags(write=False)
    return centre


def direction_of(name: str) -> np.ndarray:
    """Direction of an electrode from the middle of the head.

    Parameters
    ----------
    name : str
        Name of the 10-05 system.

    Returns
    -------
    direction : ndarray, shape (3,)
        Length 1; right, front, up.

    Raises
    ------
    ValueError
        If there is no such electrode.
    """
    direction = electrode_positions([name])[0, :3] - _centre()
    return direction / np.linalg.norm(direction)


def montage_of(channels: Sequence[str] | np.ndarray) -> Montage:
    """Find the electrodes of channels and their differences.

    Parameters
    ----------
    channels : sequence of str | ndarray, shape (n_chans, 3) or (n_chans, 6)
        Names, referential or bipolar, or positions in metres on the template's head (both ends in six columns), see
        :func:`~mne_labram.signal.positions.electrode_positions`.

    Returns
    -------
    montage : Montage
        In the order of the channels.

    Raises
    ------
    TypeError
        If ``channels`` is one string.
    ValueError
        If a name has no position, a position is not finite, or the array has another shape.
    """
    if isinstance(channels, np.ndarray) and channels.dtype.kind in "fiu":
        if channels.ndim != 2 or channels.shape[1] not in (3, 6) or not len(channels):
            raise ValueError(f"Positions must have the shape (n_chans, 3) or (n_chans, 6), got {channels.shape}.")
        ends = np.asarray(channels, dtype=float)
        return _montage(ends.tobytes(), ends.shape[1])
    if isinstance(channels, str):
        raise TypeError("channels must be a sequence of channel names, got one string.")
    return _named_montage(tuple(str(name) for name in channels))


@lru_cache(maxsize=64)
def _named_montage(names: tuple[str, ...]) -> Montage:
    if not names:
        raise ValueError("At least one channel is needed.")
    return _montage(electrode_positions(names).tobytes(), 6)


@lru_cache(maxsize=64)
def _montage(content: bytes, width: int) -> Montage:
    ends = np.frombuffer(content).reshape(-1, width)
    if not np.isfinite(ends).all():
        raise ValueError("Positions must be finite; leave out the channels whose position is unknown.")
    anode, cathode = ends[:, :3], ends[:, -3:]
    # By tenths of a millimetre: the two ends of two channels that share an electrode are one electrode.
    points, index = np.unique(np.round(np.concatenate([anode, cathode]), 4), axis=0, return_inverse=True)
    index = index.ravel()
    derivation = np.zeros((len(ends), len(points)))
    rows = np.arange(len(ends))
    derivation[rows, index[: len(ends)]] = 1.0
    bipolar = index[: len(ends)] != index[len(ends) :]
    derivation[rows[bipolar], index[len(ends) :][bipolar]] = -1.0
    directions = points - _centre()
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    for array in (directions, derivation):
        array.setflags(write=False)
    return Montage(directions, derivation)


def dipole_potentials(
    electrodes: np.ndarray, directions: np.ndarray, moments: np.ndarray, eccentricity: float = 0.85
) -> np.ndarray:
    """Potentials of current dipoles at electrodes, seen through a skull.

    Parameters
    ----------
    electrodes : ndarray, shape (n_electrodes, 3)
        Directions of length 1.
    directions : ndarray, shape (n_sources, 3)
        Where the sources are, directions of length 1.
    moments : ndarray, shape (n_sources, 3)
        Their moments, in any unit.
    eccentricity : float
        Distance of the sources from the middle of the head, as a part of its radius: 0.85 is the cortex under the
        skull, 0.5 mesial.

    Returns
    -------
    potentials : ndarray, shape (n_electrodes, n_sources)
        Against a point at infinity, in units of moment / (4 pi sigma r²).

    Notes
    -----
    The closed form for a homogeneous sphere (Brody, Terry & Ideker 1973, IEEE Trans Biomed Eng 20:141-143; in the
    notation of Mosher, Leahy & Lewis 1999, IEEE Trans Biomed Eng 46:245-259), with the source moved inwards for the
    skull (Ary et al. 1981).
    """
    b = _EQUIVALENT_ECCENTRICITY * eccentricity
    cosine = electrodes @ directions.T
    along = b * cosine  # electrode . source
    distance = np.sqrt(1.0 - 2.0 * along + b * b)
    c1 = (2.0 * (along - b * b) / distance**3 + 1.0 / distance - 1.0) / b**2
    c2 = (2.0 / distance**3 + (distance + 1.0) / (distance * (distance + 1.0 - along))) / b**2
    radial = b * (directions * moments).sum(axis=1)
    return (c1 - c2 * along) * radial + c2 * b**2 * (electrodes @ moments.T)


def nearness(electrodes: np.ndarray, directions: np.ndarray, width: float) -> np.ndarray:
    """How near electrodes are to the nearest of some points on the head.

    Parameters
    ----------
    electrodes : ndarray, shape (n_electrodes, 3)
        Directions of length 1.
    directions : ndarray, shape (n_points, 3)
        Directions of length 1.
    width : float
        Angle in radians at which the weight has fallen to 0.6.

    Returns
    -------
    weights : ndarray, shape (n_electrodes,)
        1 at a point, falling as a Gaussian of the angle.
    """
    angle = np.arccos(np.clip(electrodes @ np.atleast_2d(directions).T, -1.0, 1.0)).min(axis=1)
    return np.exp(-0.5 * (angle / width) ** 2)
