"""Time per simulated second of coupled neural masses, against The Virtual Brain in the same run."""

from __future__ import annotations

import logging
import platform
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np
from mne.utils import ProgressBar

from mne_labram.source.connectome import Connectome, synthetic_connectome
from mne_labram.source.jansen_rit import JansenRitParameters, simulate_jansen_rit

__all__ = ["SimulateRow", "measure_simulate", "simulate_table", "virtual_brain"]

#: Connections per region in DeepSIF's connectome of 998 regions and in the one of 76: 35 730 / 998 and 1560 / 76.
_DEGREES = {76: 1560 / 76, 998: 35730 / 998}
#: A stretch of the peer takes about so many seconds.
_TURN_SECONDS = 2.0
_EXCITED = 3
#: Every fourth step is kept, as DeepSIF does.
_DECIMATE = 4


@dataclass(frozen=True)
class SimulateRow:
    """One size of the network.

    Parameters
    ----------
    n_regions, n_edges : int
        Regions, and connections of them.
    peer : str
        Who is compared with.
    peer_seconds, seconds : float
        Seconds of processor time for each simulated second of one trajectory, of the peer and of ours: medians over
        rounds.
    ratio : float
        Median over rounds of the quotient.
    difference : float
        Largest difference in mV between the two without noise from the same beginning.
    compared : float
        Over so many seconds.
    """

    n_regions: int
    n_edges: int
    peer: str
    peer_seconds: float
    seconds: float
    ratio: float
    difference: float
    compared: float


@contextmanager
def _quiet() -> Any:
    """Hear nothing of what The Virtual Brain says of itself."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def virtual_brain(
    connectome: Connectome,
    parameters: JansenRitParameters,
    excitability: np.ndarray,
    *,
    initial: np.ndarray,
    dt: float = 0.5,
    noise: bool = False,
    seed: int = 0,
) -> Callable[[float], np.ndarray]:
    """Set The Virtual Brain to the same problem.

    Parameters
    ----------
    connectome : Connectome
        The regions.
    parameters : JansenRitParameters
        Constants.
    excitability : ndarray, shape (n_regions,)
        A in mV.
    initial : ndarray, shape (n_regions, 6)
        Where it begins, and was before.
    dt : float
        Time step in ms.
    noise : bool
        Whether there is noise on y4.
    seed : int
        Of the noise.

    Returns
    -------
    run : callable
        From seconds to the potentials ``y1 - y2`` in mV, of shape (n_regions, n_times); called again, it goes on.

    Raises
    ------
    ImportError
        If The Virtual Brain is not installed.
    """
    with _quiet():
        from tvb.datatypes.connectivity import Connectivity
        from tvb.simulator import coupling, integrators, models, monitors, simulator
        from tvb.simulator import noise as noises

        p, n = parameters, connectome.n_regions
        names = ("B", "a", "b", "v0", "nu_max", "r", "J", "a_1", "a_2", "a_3", "a_4", "mu")
        constants = {name: np.array([getattr(p, name)], dtype=np.float64) for name in names}
        model = models.JansenRit(A=np.array(excitability), variables_of_interest=["y1", "y2"], **constants)
        connectivity = Connectivity(
            weights=connectome.weights.copy(),
            tract_lengths=connectome.tract_lengths.copy(),
            region_labels=np.array([str(k) for k in range(n)]),
            centres=np.zeros((n, 3)),
            speed=np.array([float(connectome.speed)]),
        )
        connectivity.configure()
        sigmoid = coupling.SigmoidalJansenRit(
            a=np.array([p.coupling]),
            cmin=np.array([0.0]),
            # Between nothing and all that a population can fire.
            cmax=np.array([2 * p.nu_max]),
            midpoint=np.array([p.v0]),
            r=np.array([p.r]),
        )
        if noise:
            intensity = np.zeros((6, n, 1))
            intensity[4] = p.sigma**2 / 2
            additive = noises.Additive(nsig=intensity, noise_seed=seed)
            integrator = integrators.HeunStochastic(dt=dt, noise=additive)
        else:
            integrator = integrators.HeunDeterministic(dt=dt)
        n_slots = int(connectome.edges(dt)[2].max(initial=0)) + 2
        simulation = simulator.Simulator(
            model=model,
            connectivity=connectivity,
            coupling=sigmoid,
            integrator=integrator,
            monitors=(monitors.Raw(),),
            initial_conditions=np.tile(np.asarray(initial, dtype=np.float64).T[None, :, :, None], (n_slots, 1, 1, 1)),
        )
        simulation.configure()

    def run(seconds: float) -> np.ndarray:
        with _quiet():
            ((_, found),) = simulation.run(simulation_length=1e3 * seconds)
        return (found[:, 0, :, 0] - found[:, 1, :, 0]).T

    return run


def _with_edges(n_regions: int) -> Connectome:
    """Make up a connectome of as many connections as measured ones have."""
    degree = _DEGREES.get(n_regions, _DEGREES[76] if n_regions < 300 else _DEGREES[998])
    # Of a symmetric network a few more are kept than were asked for.
    asked = max(1, round(0.95 * degree))
    return synthetic_connectome(n_regions, n_neighbours=asked)


def measure_simulate(
    regions: Sequence[int] = (76, 998),
    *,
    n_trajectories: int = 64,
    seconds: float = 1.0,
    rounds: int = 3,
    peer: str | None = None,
    seed: int = 0,
) -> list[SimulateRow]:
    """Measure, in turns, how long a simulated second takes.

    Parameters
    ----------
    regions : sequence of int
        Sizes of the networks.
    n_trajectories : int
        Trajectories of ours, side by side.
    seconds : float
        Length of each.
    rounds : int
        Turns of each.
    peer : "tvb" | "numpy" | None
        The Virtual Brain, or our own reference; ``None``: the former where it is installed.
    seed : int
        Of the noise.

    Returns
    -------
    rows : list of SimulateRow
        One for each size.

    Raises
    ------
    ValueError
        If there is nothing to measure, or the peer is unknown or not installed.
    """
    if not regions or min(regions) < 2 or rounds < 1 or n_trajectories < 1 or not seconds > 0:
        raise ValueError("There is nothing to measure; give sizes from 2 regions up, trajectories, seconds and rounds.")
    installed = find_spec("tvb") is not None
    peer = peer or ("tvb" if installed else "numpy")
    if peer not in ("tvb", "numpy"):
        raise ValueError(f"peer must be 'tvb' or 'numpy', not {peer!r}.")
    if peer == "tvb" and not installed:
        raise ValueError("The Virtual Brain is not installed; install mne-labram[tvb], or compare with peer='numpy'.")
    rows = []
    for n in ProgressBar(list(regions), mesg="Simulating", delay=2.0):
        rows.append(_measure(_with_edges(n), n_trajectories, seconds, rounds, peer, seed))
    return rows


def _measure(
    connectome: Connectome, n_trajectories: int, seconds: float, rounds: int, peer: str, seed: int
) -> SimulateRow:
    parameters, dt = JansenRitParameters(), 0.5
    excitability = np.full(connectome.n_regions, parameters.A)
    excitability[min(_EXCITED, connectome.n_regions - 1)] = 3.5
    initial = np.zeros((connectome.n_regions, 6))
    shared = {"excitability": excitability, "verbose": False}

    def start(noise: bool) -> Callable[[float], np.ndarray]:
        if peer == "tvb":
            return virtual_brain(connectome, parameters, excitability, initial=initial, noise=noise, seed=seed)
        return lambda s: simulate_jansen_rit(connectome, 1, s, noise=noise, seed=seed, method="numpy", **shared)[0]

    # What is compiled, is compiled here; and how long a stretch the peer makes in a turn.
    first, measured = start(True), 20 * dt / 1e3
    first(measured)
    spent = _timed(lambda: first(measured))
    stretch = float(np.clip(round(measured * _TURN_SECONDS / spent / 0.05) * 0.05, 0.05, 1.0))
    ours = simulate_jansen_rit(connectome, 1, stretch, noise=False, initial=initial, **shared)[0]
    difference = float(np.abs(ours - start(False)(stretch)).max())
    times = []
    for k in range(rounds):
        there = _timed(lambda: first(stretch)) / stretch
        own = {"seed": seed, "first_trajectory": k, "decimate": _DECIMATE, **shared}
        here = _timed(partial(simulate_jansen_rit, connectome, n_trajectories, seconds, **own))
        times.append((there, here / (seconds * n_trajectories)))
    there, here = np.array(times).T
    return SimulateRow(
        connectome.n_regions,
        connectome.n_edges,
        peer,
        float(np.median(there)),
        float(np.median(here)),
        float(np.median(there / here)),
        difference,
        stretch,
    )


def _timed(run: Callable[[], Any]) -> float:
    # Processor time: neither uses more than one core, and others may be at work on the machine.
    before = time.process_time()
    run()
    return time.process_time() - before


def simulate_table(
    regions: Sequence[int] = (76, 998), *, n_trajectories: int = 64, seconds: float = 1.0, rounds: int = 3
) -> str:
    """Write the measurements as a table.

    Parameters
    ----------
    regions : sequence of int
        Sizes of the networks.
    n_trajectories : int
        Trajectories of ours, side by side.
    seconds : float
        Length of each.
    rounds : int
        Turns of each.

    Returns
    -------
    table : str
        Several lines.

    Raises
    ------
    ValueError
        If there is nothing to measure.
    """
    rows = measure_simulate(regions, n_trajectories=n_trajectories, seconds=seconds, rounds=rounds)
    with_peer = rows[0].peer == "tvb"
    name = f"TVB {version('tvb-library')}" if with_peer else "NumPy, ours"
    lines = [
        f"Jansen-Rit populations with delays and noise, dt 0.5 ms; mne_labram: {n_trajectories} trajectories of "
        f"{seconds:g} s side by side, float32, every {_DECIMATE}th step kept; {platform.machine()}, one core",
        "Processor seconds for one second of one trajectory, medians of "
        f"{rounds} rounds in turns; compiling is not counted",
        "",
        f"{'regions':>8}{'connections':>13}{name:>18}{'mne_labram':>13}{'ratio':>9}   largest difference, no noise",
    ]
    for row in rows:
        lines.append(
            f"{row.n_regions:>8}{row.n_edges:>13}{row.peer_seconds:>18.3g}{row.seconds:>13.3g}{row.ratio:>8.0f}x"
            f"   {row.difference:.2g} mV over {row.compared:.2g} s"
        )
    if not with_peer:
        lines += ["", "The Virtual Brain is not installed (extra mne-labram[tvb]); compared with our own reference."]
    return "\n".join(lines)
