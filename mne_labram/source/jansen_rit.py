"""Coupled Jansen-Rit populations: many trajectories of a whole brain at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mne.utils import logger, verbose

from mne_labram.source.connectome import Connectome
from mne_labram.source.counter_normals import seed_words
from mne_labram.source.jansen_rit_parameters import ALPHA, DEEPSIF_SETTINGS, JansenRitParameters
from mne_labram.source.jansen_rit_reference import advance_reference, firing_rate

__all__ = ["ALPHA", "DEEPSIF_SETTINGS", "JansenRitParameters", "JansenRitState", "simulate_jansen_rit"]

#: Bytes of signals that wait to be sorted by trajectory.
_WAITING = 2**23


@dataclass(frozen=True)
class JansenRitState:
    """Where a simulation stands, and all that its future depends on.

    Parameters
    ----------
    y : ndarray, shape (n_trajectories, n_regions, 6)
        y0 to y2 in mV and their derivatives in mV/ms.
    rates : ndarray, shape (n_trajectories, n_slots, n_regions)
        Firing rates in 1/ms at the last steps, the newest last: as many as the longest delay needs.
    step : int
        Number of steps made since the beginning.
    """

    y: np.ndarray
    rates: np.ndarray
    step: int


@verbose
def simulate_jansen_rit(
    connectome: Connectome,
    n_trajectories: int = 1,
    seconds: float = 1.0,
    *,
    dt: float = 0.5,
    parameters: JansenRitParameters | None = None,
    excited: int | Sequence[int] | np.ndarray | None = None,
    excited_A: float = 3.5,
    excitability: Any = None,
    noise: bool = True,
    seed: int = 0,
    first_trajectory: int = 0,
    initial: np.ndarray | JansenRitState | None = None,
    discard: float = 0.0,
    decimate: int = 1,
    method: str = "numba",
    n_jobs: int = 1,
    return_state: bool = False,
    verbose: bool | str | int | None = None,
) -> np.ndarray | tuple[np.ndarray, JansenRitState]:
    """Simulate the potentials of the pyramidal cells of all regions.

    Parameters
    ----------
    connectome : Connectome
        The regions.
    n_trajectories : int
        How many independent runs. The compiled code makes 64 side by side: fewer take as long.
    seconds : float
        What is returned of each.
    dt : float
        Time step in ms.
    parameters : JansenRitParameters | None
        Constants; ``None``: DeepSIF's first setting.
    excited : int | sequence of int | None
        The region of each trajectory (or of all) whose A is `excited_A`; -1: none.
    excited_A : float
        Its A in mV. 3.5 in DeepSIF: spikes begin there.
    excitability : array-like | None
        A in mV of all regions, of shape (n_regions,) or (n_trajectories, n_regions); ``None``: that of `parameters`.
    noise : bool
        ``False``: none, whatever the parameters say.
    seed : int
        From 0 to 2**64 - 1.
    first_trajectory : int
        Number of the first trajectory; see Notes.
    initial : ndarray | JansenRitState | None
        Where to begin: y0 to y5 of shape (6,), (n_regions, 6) or (n_trajectories, n_regions, 6), held for all time
        before; or where another call ended, which goes on. ``None``: zeros, of which one second should be discarded.
    discard : float
        Seconds that are simulated first and not returned.
    decimate : int
        Of so many steps the last is returned; nothing is filtered (see Notes).
    method : "numba" | "numpy"
        Compiled, in single precision; or a plain reference in double precision, some hundred times slower.
    n_jobs : int
        Threads (of ``"numba"``), each of which takes 64 trajectories at a time; -1: all processors.
    return_state : bool
        Whether to return where it ended.
    verbose : bool | str | int | None
        Verbosity; see :func:`mne.verbose`.

    Returns
    -------
    signals : ndarray, shape (n_trajectories, n_regions, n_times)
        ``y1 - y2`` in mV, float32 (float64 of ``"numpy"``), after steps ``decimate``, ``2 * decimate`` and so on.
    state : JansenRitState
        Where it ended. Only returned if `return_state` is ``True``.

    Raises
    ------
    ValueError
        If an argument is out of its range or of another shape than the connectome asks for, or the solution grows
        without bound.
    TypeError
        If the connectome is none.

    Notes
    -----
    Equations of Jansen & Rit (1995); noise on y4 only; regions act on each other through their firing rates, after a
    delay (The Virtual Brain's SigmoidalJansenRit, whose sigmoid is that of the populations). Heun's method. Delays are
    rounded to whole steps. See ``doc/source_imaging.md``.

    The noise is a function of seed, number of the trajectory, region and step (a counter-based generator, Salmon et al.
    2011): trajectory 70 is the same, to the bit, in a run of 100, of 1000, alone with ``first_trajectory=70``, in any
    number of threads, in one call or two. Other processors may round differently.

    Memory: the result, and for each thread 256 bytes per region and step of the longest delay, and some megabytes. The
    power of these signals falls by 12 dB per octave: of DeepSIF's first setting a thousandth lies above 100 Hz and 6e-5
    above 250 Hz, so that decimation to 200 or 500 Hz folds back no more than that.
    """
    if not isinstance(connectome, Connectome):
        raise TypeError(f"connectome must be a Connectome, not a {type(connectome).__name__}.")
    parameters = JansenRitParameters() if parameters is None else parameters
    if not isinstance(parameters, JansenRitParameters):
        raise TypeError(f"parameters must be JansenRitParameters, not a {type(parameters).__name__}.")
    if method not in ("numba", "numpy"):
        raise ValueError(f"method must be 'numba' or 'numpy', not {method!r}.")
    for name, value, least in (
        ("n_trajectories", n_trajectories, 1),
        ("decimate", decimate, 1),
        ("first_trajectory", first_trajectory, 0),
    ):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or not least <= value < 2**31:
            raise ValueError(f"{name} must be a whole number from {least} up, not {value!r}.")
    if not 0 < dt <= 5:
        raise ValueError(f"dt must be above 0 and at most 5 ms, half of the fastest time constant, not {dt}.")
    if not (np.isfinite(seconds) and np.isfinite(discard) and discard >= 0):
        raise ValueError("seconds and discard must be finite, and discard from 0 up.")
    n_steps, n_discarded = round(1e3 * seconds / dt), round(1e3 * discard / dt)
    if n_steps < 1 or n_steps % decimate:
        raise ValueError(
            f"{seconds:g} s are {n_steps} steps, which is not a multiple of decimate={decimate} above 0; choose "
            "another length."
        )
    key = seed_words(seed)
    gains = _excitability(excitability, excited, excited_A, int(n_trajectories), connectome.n_regions, parameters)
    edges = connectome.edges(dt)
    # The present, what the longest delay looks back to, and a slot that is being written.
    n_slots = int(edges[2].max(initial=0)) + 2
    y, rates, step = _beginning(initial, int(n_trajectories), connectome.n_regions, n_slots, parameters)
    if step + n_discarded + n_steps >= 2**32:
        raise ValueError("There are more steps than the noise has numbers for; make the run shorter or dt longer.")
    problem = _Problem(
        gains, edges, parameters, float(dt), key if noise and parameters.noise > 0 else None, int(first_trajectory)
    )
    state = JansenRitState(y, rates, step)
    if method == "numpy":
        signals, end = _plain_run(problem, state, n_discarded, n_steps, int(decimate))
    else:
        signals, end = _compiled_run(problem, state, n_discarded, n_steps, int(decimate), n_jobs, return_state)
    return (signals, end) if return_state else signals


@dataclass(frozen=True)
class _Problem:
    """What does not change in a run."""

    gains: np.ndarray
    edges: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
    parameters: JansenRitParameters
    dt: float
    key: np.ndarray | None
    first_trajectory: int


def _excitability(
    excitability: Any, excited: Any, excited_A: float, n_trajectories: int, n_regions: int, parameters: Any
) -> np.ndarray:
    """Return A of all regions of all trajectories."""
    shape = (n_trajectories, n_regions)
    try:
        gains = np.asarray(parameters.A if excitability is None else excitability, dtype=np.float64)
        gains = np.broadcast_to(gains, shape).copy()
    except (TypeError, ValueError):
        raise ValueError(
            f"excitability must be numbers of shape ({n_regions},) or {shape}, not of {np.shape(excitability)}."
        ) from None
    if not np.isfinite(gains).all() or gains.min() < 0:
        raise ValueError("excitability must be finite and from 0 mV up.")
    if excited is not None:
        regions = np.asarray(excited)
        if regions.dtype.kind not in "iu" or regions.shape not in ((), (n_trajectories,)):
            raise ValueError(f"excited must be the number of a region, or {n_trajectories} of them.")
        if regions.min(initial=0) < -1 or regions.max(initial=-1) >= n_regions:
            raise ValueError(f"excited must be from 0 to {n_regions - 1}, or -1 for none.")
        if not (np.isfinite(excited_A) and excited_A >= 0):
            raise ValueError(f"excited_A must be finite and from 0 mV up, not {excited_A}.")
        regions = np.broadcast_to(regions, (n_trajectories,))
        which = np.flatnonzero(regions >= 0)
        gains[which, regions[which]] = excited_A
    return gains


def _beginning(
    initial: Any, n_trajectories: int, n_regions: int, n_slots: int, parameters: JansenRitParameters
) -> tuple[np.ndarray, np.ndarray, int]:
    shape = (n_trajectories, n_regions, 6)
    if isinstance(initial, JansenRitState):
        if initial.y.shape != shape or initial.rates.shape != (n_trajectories, n_slots, n_regions):
            raise ValueError(
                "initial is the end of a run of other trajectories, regions, delays or time steps; go on with the same."
            )
        return initial.y.astype(np.float64), initial.rates, int(initial.step)
    try:
        y = np.zeros(shape) if initial is None else np.broadcast_to(np.asarray(initial, dtype=np.float64), shape).copy()
    except (TypeError, ValueError):
        raise ValueError(f"initial must be of shape (6,), {shape[1:]} or {shape}, not {np.shape(initial)}.") from None
    if not np.isfinite(y).all():
        raise ValueError("initial must be finite.")
    rates = firing_rate(y[..., 1] - y[..., 2], parameters)
    # A view: of thousands of trajectories the past would fill memory.
    return y, np.broadcast_to(rates[:, None], (n_trajectories, n_slots, n_regions)), 0


def _check(y: np.ndarray) -> None:
    if not np.isfinite(y).all():
        raise ValueError("The solution grew without bound; choose a shorter dt, or parameters nearer to the defaults.")


def _plain_run(
    problem: _Problem, begin: JansenRitState, n_discarded: int, n_steps: int, decimate: int
) -> tuple[np.ndarray, JansenRitState]:
    p, y, rates, step = problem, begin.y, begin.rates, begin.step
    given = (p.gains, p.edges, p.parameters, p.dt, p.key, p.first_trajectory)
    if n_discarded:
        _, y, rates = advance_reference(y, rates, step, n_discarded, *given, n_discarded)
    signals, y, rates = advance_reference(y, rates, step + n_discarded, n_steps, *given, decimate)
    _check(y)
    return signals, JansenRitState(y, rates, step + n_discarded + n_steps)


def _compiled_run(
    problem: _Problem,
    begin: JansenRitState,
    n_discarded: int,
    n_steps: int,
    decimate: int,
    n_jobs: int,
    return_state: bool,
) -> tuple[np.ndarray, JansenRitState]:
    """Run the compiled code, so many trajectories at a time, and their signals piece by piece."""
    from joblib import Parallel, delayed
    from tqdm import tqdm

    from mne_labram.source.jansen_rit_kernel import LANES, advance, sort_out

    y, rates = begin.y, begin.rates
    n_trajectories, n_slots, n_regions = rates.shape
    packed, constants = _pack(problem.edges), _constants(problem)
    key = np.zeros(2, dtype=np.uint32) if problem.key is None else problem.key
    signals = np.empty((n_trajectories, n_regions, n_steps // decimate), dtype=np.float32)
    piece = max(1, _WAITING // (4 * LANES * n_regions)) * decimate
    nothing = np.zeros((0, n_regions, LANES), dtype=np.float32)
    last_y = np.empty(y.shape if return_state else 0, dtype=np.float32)
    last_rates = np.empty(rates.shape if return_state else 0, dtype=np.float32)

    def run(start: int) -> None:
        lanes = np.minimum(np.arange(start, start + LANES), n_trajectories - 1)
        stop = min(start + LANES, n_trajectories)
        state = np.ascontiguousarray(y[lanes].transpose(1, 2, 0), dtype=np.float32)
        ring = np.ascontiguousarray(rates[lanes].transpose(1, 2, 0), dtype=np.float32)
        gain = np.ascontiguousarray(problem.gains[lanes].T, dtype=np.float32)
        first = np.uint32(problem.first_trajectory + start)
        place, done = n_slots - 1, 0
        while done < n_discarded + n_steps:
            discarding = done < n_discarded
            n = min(1000, n_discarded - done) if discarding else min(piece, n_discarded + n_steps - done)
            out = nothing if discarding else np.empty((n // decimate, n_regions, LANES), dtype=np.float32)
            keep = n + 1 if discarding else decimate
            advance(state, ring, place, begin.step + done, n, gain, *packed, constants, key, first, keep, out)
            _check(state)
            if not discarding:
                sort_out(out, signals[start:stop], (done - n_discarded) // decimate)
            place, done = (place + n) % n_slots, done + n
            bar.update(n * (stop - start))
        if return_state:
            last_y[start:stop] = state.transpose(2, 0, 1)[: stop - start]
            # The newest last.
            last_rates[start:stop] = np.roll(ring, -(place + 1), axis=0).transpose(2, 0, 1)[: stop - start]

    total = (n_discarded + n_steps) * n_trajectories
    with tqdm(total=total, desc="Simulating", unit="step", unit_scale=True, delay=2, disable=logger.level > 20) as bar:
        tiles = range(0, n_trajectories, LANES)
        Parallel(n_jobs=n_jobs, backend="threading")(delayed(run)(start) for start in tiles)
    return signals, JansenRitState(last_y, last_rates, begin.step + n_discarded + n_steps)


def _pack(edges: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]) -> tuple[np.ndarray, ...]:
    """Fill the connections of every region up with some of weight 0, to a multiple of four."""
    starts, sources, delays, weights = edges
    counts = np.diff(starts)
    padded = np.concatenate([[0], np.cumsum(-(-counts // 4) * 4)])
    where = np.arange(len(sources)) + np.repeat(padded[:-1] - starts[:-1], counts)
    columns = []
    for values, dtype in ((sources, np.int32), (delays, np.int32), (weights, np.float32)):
        column = np.zeros(padded[-1], dtype=dtype)
        column[where] = values
        columns.append(column)
    return padded.astype(np.int32), *columns


def _constants(problem: _Problem) -> np.ndarray:
    """Pack what the compiled code needs, in its order."""
    p, dt = problem.parameters, problem.dt
    peak = 2 * p.nu_max
    return np.array(
        [dt, p.a, p.b, p.B, p.mu, p.r, p.v0, peak, p.a_1 * p.J, p.a_2 * p.J * peak, p.a_3 * p.J, p.a_4 * p.J * peak]
        + [p.coupling, 0.0 if problem.key is None else p.sigma * np.sqrt(dt)],
        dtype=np.float32,
    )
