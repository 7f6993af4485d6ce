"""The equations of coupled Jansen-Rit populations, as plainly as they can be written: NumPy, double precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

from mne_labram.source.counter_normals import counter_normals

if TYPE_CHECKING:
    from mne_labram.source.jansen_rit import JansenRitParameters

__all__ = ["advance_reference", "firing_rate", "slopes"]


def firing_rate(v: np.ndarray, parameters: JansenRitParameters) -> np.ndarray:
    """Return the mean firing rate of a population.

    Parameters
    ----------
    v : ndarray
        Its mean potential in mV.
    parameters : JansenRitParameters
        Of the sigmoid.

    Returns
    -------
    rate : ndarray
        In 1/ms: ``2 nu_max / (1 + exp(r (v0 - v)))`` (Jansen & Rit 1995, eq. 2).
    """
    # Far below threshold exp would overflow; the rate is 0 long before.
    return 2 * parameters.nu_max / (1 + np.exp(np.minimum(parameters.r * (parameters.v0 - v), 700.0)))


def slopes(
    y: np.ndarray, received: np.ndarray, excitability: np.ndarray, parameters: JansenRitParameters
) -> np.ndarray:
    """Return the time derivatives of the six variables of all populations.

    Parameters
    ----------
    y : ndarray, shape (..., 6)
        y0 to y2 in mV and their derivatives y3 to y5 in mV/ms.
    received : ndarray, shape (...)
        Rates that arrive from other regions, weighted and summed, in 1/ms.
    excitability : ndarray, shape (...)
        A in mV.
    parameters : JansenRitParameters
        All other constants.

    Returns
    -------
    slopes : ndarray, shape (..., 6)
        In mV/ms and mV/ms².

    Notes
    -----
    Jansen & Rit (1995), Biological Cybernetics 73, 357-366, eq. 6, with the input p(t) = mu + what is received.
    """
    p, A = parameters, excitability
    y0, y1, y2, y3, y4, y5 = np.moveaxis(y, -1, 0)
    pyramidal = firing_rate(y1 - y2, p)
    excitatory = p.a_2 * p.J * firing_rate(p.a_1 * p.J * y0, p)
    inhibitory = p.a_4 * p.J * firing_rate(p.a_3 * p.J * y0, p)
    return np.stack(
        [
            y3,
            y4,
            y5,
            A * p.a * pyramidal - 2 * p.a * y3 - p.a**2 * y0,
            A * p.a * (p.mu + received + excitatory) - 2 * p.a * y4 - p.a**2 * y1,
            p.B * p.b * inhibitory - 2 * p.b * y5 - p.b**2 * y2,
        ],
        axis=-1,
    )


def advance_reference(
    y: np.ndarray,
    rates: np.ndarray,
    step: int,
    n_steps: int,
    excitability: np.ndarray,
    edges: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    parameters: JansenRitParameters,
    dt: float,
    key: np.ndarray | None,
    first: int,
    keep: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Carry trajectories on by Heun's method.

    Parameters
    ----------
    y : ndarray, shape (n_trajectories, n_regions, 6)
        Where they are, in mV and mV/ms.
    rates : ndarray, shape (n_trajectories, n_slots, n_regions)
        Firing rates in 1/ms at the steps before, the newest last.
    step, n_steps : int
        Number of steps made since the beginning, steps to make.
    excitability : ndarray, shape (n_trajectories, n_regions)
        A in mV.
    edges : tuple of ndarray
        As :meth:`~mne_labram.source.connectome.Connectome.edges` returns them.
    parameters : JansenRitParameters
        All constants.
    dt : float
        Time step in ms.
    key : ndarray of uint32, shape (2,) | None
        The seed; ``None``: no noise.
    first : int
        Number of the first trajectory.
    keep : int
        Every how many steps ``y1 - y2`` is kept.

    Returns
    -------
    signals : ndarray, shape (n_trajectories, n_regions, n_steps // keep)
        In mV.
    y, rates : ndarray
        Where they are now.

    Notes
    -----
    Heun's method for additive noise: Rüemelin (1982), SIAM Journal on Numerical Analysis 19, 604-613. What is received
    is that of the beginning of the step in both halves, as in The Virtual Brain.
    """
    starts, sources, delays, weights = edges
    n_trajectories, n_slots, n_regions = rates.shape
    collect = csr_array((weights, np.arange(len(weights)), starts), shape=(n_regions, len(weights)))
    ring = np.moveaxis(rates, 0, -1).astype(np.float64)
    trajectories = first + np.arange(n_trajectories)
    signals = np.empty((n_trajectories, n_regions, n_steps // keep))
    for k in range(n_steps):
        place = (n_slots - 1 + k) % n_slots
        received = parameters.coupling * (collect @ ring[(place - delays) % n_slots, sources]).T
        kick = np.zeros_like(y)
        if key is not None:
            normals = counter_normals(key, step + k, trajectories, n_regions)
            kick[..., 4] = parameters.sigma * np.sqrt(dt) * normals
        now = slopes(y, received, excitability, parameters)
        then = slopes(y + dt * now + kick, received, excitability, parameters)
        y = y + dt / 2 * (now + then) + kick
        potential = y[..., 1] - y[..., 2]
        ring[(place + 1) % n_slots] = firing_rate(potential, parameters).T
        if (k + 1) % keep == 0:
            signals[..., (k + 1) // keep - 1] = potential
    ring = np.roll(ring, -n_steps % n_slots, axis=0)
    return signals, y, np.moveaxis(ring, -1, 0).copy()
