"""The digital grid of a channel: sample = offset + step x integer, as the recorder's converter made it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Grid", "bounded_grid", "find_grid", "steps_within"]

#: Integers beyond this are no longer what a converter gives, and coders that predict from neighbours need room.
MAX_INTEGER = 2**28
#: A sample lies on a grid if it is this near, in steps ...
_NEAR = 1e-6
#: ... or as near as the rounding of numbers that went through float32 (two roundings of 2**-24), but then not further
#: than this, or any float32 would lie on some grid.
_ROUNDING, _NEAR_ENOUGH = 2.0**-23, 0.02


@dataclass(frozen=True)
class Grid:
    """A digital grid.

    Attributes
    ----------
    offset, step : float
        In the units of the samples; a sample is ``offset + step * integer``.
    """

    offset: float
    step: float

    def digital(self, samples: np.ndarray) -> np.ndarray | None:
        """Return the integers behind samples.

        Parameters
        ----------
        samples : ndarray of float, shape (n_samples,)
            Finite samples of one channel.

        Returns
        -------
        integers : ndarray of int32, shape (n_samples,) | None
            None if not every sample lies on the grid, within a millionth of a step or the rounding of float32.
        """
        integers = self.nearest(samples)
        if integers is None:
            return None
        distance = np.abs(samples - self.physical(integers))
        near = np.maximum(_NEAR * self.step, np.minimum(_ROUNDING * np.abs(samples), _NEAR_ENOUGH * self.step))
        return integers if (distance <= near).all() else None

    def nearest(self, samples: np.ndarray) -> np.ndarray | None:
        """Return the nearest integers, int32; None where they would be too large."""
        integers = np.rint((samples - self.offset) / self.step)
        if not (np.abs(integers) <= MAX_INTEGER).all():
            return None
        return integers.astype(np.int32)

    def physical(self, integers: np.ndarray) -> np.ndarray:
        """Return the samples behind integers, float64."""
        return self.offset + self.step * integers


def find_grid(samples: np.ndarray) -> Grid | None:
    """Find the coarsest grid on which all samples lie.

    Parameters
    ----------
    samples : ndarray of float, shape (n_samples,)
        Finite samples of one channel.

    Returns
    -------
    grid : Grid | None
        None if there is none. A constant channel lies on a grid of any step.

    Notes
    -----
    Differences of neighbouring values are whole multiples of the step: their greatest common divisor, by Euclid's
    algorithm on numbers with rounding errors, is refined by least squares.
    """
    values = np.unique(samples)
    if not len(values):
        return None
    if len(values) == 1:
        return Grid(float(values[0]), abs(float(values[0])) * 1e-3 or 1.0)
    differences = np.diff(values)
    largest = np.abs(values).max()
    smallest_step = max(np.ptp(values) / MAX_INTEGER, _ROUNDING / 64 * largest / MAX_INTEGER)
    # The smallest ones first: a step is known to a fraction, so that many steps cannot be counted before it is refined.
    differences.sort()
    step = differences[0]
    for _ in range(40):
        if step < smallest_step:
            return None
        within = differences[: max(16, np.searchsorted(differences, 20.5 * step))]
        counts = np.rint(within / step)
        rest = np.abs(within - counts * step)
        off = rest > 0.1 * step
        if off.any():
            step = rest[off].min()
            continue
        step = (within * counts).sum() / (counts**2).sum()
        break
    else:
        return None
    counts = np.concatenate([[0.0], np.cumsum(np.rint(np.diff(values) / step))])
    if counts[-1] > 2 * MAX_INTEGER:
        return None
    centred = counts - counts.mean()
    step = float((values * centred).sum() / (centred**2).sum())
    offset = float(np.mean(values - step * counts))
    fitting = [grid for grid in _candidates(offset, step, values) if grid.digital(values) is not None]
    return min(fitting, key=lambda grid: _distance(grid, values), default=None)


def bounded_grid(allowed: float, steps: int) -> Grid:
    """Return a grid for samples that may differ by an amount, coded with an error of at most so many steps.

    Parameters
    ----------
    allowed : float
        What a sample may differ by, above 0.
    steps : int
        What a coder of integers makes use of.

    Returns
    -------
    grid : Grid
        Rounding to it takes half a step, and the coder the rest.
    """
    return Grid(0.0, allowed / (steps + 0.5))


def steps_within(grid: Grid, allowed: float) -> int:
    """Return how many steps of a grid a sample may be off."""
    return int(np.floor(allowed / grid.step * (1 + 1e-9)))


def _distance(grid: Grid, values: np.ndarray) -> float:
    return float(np.abs(grid.physical(grid.nearest(values)) - values).max())


def _candidates(offset: float, step: float, values: np.ndarray) -> list[Grid]:
    """Return grids to try, the plainest first: of few decimal digits, through 0, with the phase alone, as found."""
    phase = offset - step * round(offset / step)
    plain = step
    integers = np.rint(values / step)
    if integers.any():
        # Through 0, the least squares have one number less to find.
        plain = float((values * integers).sum() / (integers**2).sum())
    return [Grid(0.0, float(f"{plain:.6g}")), Grid(0.0, plain), Grid(float(phase), step), Grid(offset, step)]
