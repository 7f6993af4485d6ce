"""Coupled Jansen-Rit populations: against scipy, published behaviour, the reference in NumPy, The Virtual Brain."""

from __future__ import annotations

import tracemalloc
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.integrate import solve_ivp
from scipy.signal import find_peaks, welch

from mne_labram.source.connectome import Connectome, synthetic_connectome
from mne_labram.source.jansen_rit import (
    ALPHA,
    DEEPSIF_SETTINGS,
    JansenRitParameters,
    JansenRitState,
    simulate_jansen_rit,
)

ALONE = Connectome([[0.0]], [[0.0]])
NETWORK = synthetic_connectome(13, n_neighbours=4, seed=1)


def _beginning(n_regions: int, seed: int = 0) -> np.ndarray:
    """Draw y0 to y5 as they are at rest and in spikes."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (n_regions, 6)) * [0.1, 5, 5, 0.01, 0.1, 0.1]


def _equations(t: float, y: np.ndarray, received: float = 0.0, A: float = 3.25, mu: float = 0.087) -> np.ndarray:
    """Write Jansen & Rit (1995), eq. 6, down once more, with numbers."""

    def rate(v: float) -> float:
        return 0.005 / (1 + np.exp(0.56 * (6 - v)))

    return np.array(
        [
            y[3],
            y[4],
            y[5],
            A * 0.1 * rate(y[1] - y[2]) - 0.2 * y[3] - 0.01 * y[0],
            A * 0.1 * (mu + received + 108 * rate(135 * y[0])) - 0.2 * y[4] - 0.01 * y[1],
            22 * 0.05 * (33.75 * rate(33.75 * y[0])) - 0.1 * y[5] - 0.0025 * y[2],
        ]
    )


def _exact(y0: np.ndarray, times: np.ndarray) -> np.ndarray:
    y = solve_ivp(_equations, (0, times[-1]), y0, "DOP853", times, rtol=1e-11, atol=1e-13).y
    return y[1] - y[2]


def test_one_population_is_what_scipy_finds_to_second_order() -> None:
    y0 = _beginning(1)
    errors = []
    for dt in (0.25, 0.125, 0.0625):
        found = simulate_jansen_rit(ALONE, 1, 0.5, dt=dt, noise=False, initial=y0, method="numpy")[0, 0]
        errors.append(np.abs(found - _exact(y0[0], dt * np.arange(1, len(found) + 1))).max())
    assert errors[0] < 0.05
    assert_allclose(np.array(errors[:-1]) / errors[1:], 4, rtol=0.2)


@pytest.mark.parametrize("method", ["numpy", "numba"])
def test_what_arrives_after_a_delay_is_what_was_sent(method: str) -> None:
    # Region 0 acts on region 1, 12 ms away; scipy gets region 0's signal as an input.
    network = Connectome([[0, 0], [9.0, 0]], [[0, 0], [36.0, 0]], speed=3.0)
    y0, dt = _beginning(2, 3), 0.05
    sent = solve_ivp(_equations, (0, 200), y0[0], "DOP853", rtol=1e-10, atol=1e-12, dense_output=True).sol

    def driven(t: float, y: np.ndarray) -> np.ndarray:
        before = y0[0] if t < 12 else sent(t - 12)
        return _equations(t, y, 9.0 * 0.005 / (1 + np.exp(0.56 * (6 - before[1] + before[2]))))

    times = dt * np.arange(1, 4001)
    # Not over the jump of the slope at 12 ms in one step.
    first = solve_ivp(driven, (0, 12), y0[1], "DOP853", times[:240], rtol=1e-10, atol=1e-12, max_step=0.5)
    then = solve_ivp(driven, (12, 200), first.y[:, -1], "DOP853", times[240:], rtol=1e-10, atol=1e-12, max_step=0.5)
    expected = np.concatenate([first.y[1] - first.y[2], then.y[1] - then.y[2]])
    found = simulate_jansen_rit(network, 1, 0.2, dt=dt, noise=False, initial=y0, method=method)[0]
    # Without the delay, or with one that is a step too long, it is ten times as far off.
    assert_allclose(found[1], expected, rtol=0, atol=2e-3)
    undelayed = Connectome(network.weights, network.tract_lengths, speed=np.inf)
    other = simulate_jansen_rit(undelayed, 1, 0.2, dt=dt, noise=False, initial=y0, method=method)[0]
    assert np.abs(other[1] - expected).max() > 2e-2


def test_coupling_without_delay_is_what_scipy_finds_to_first_order() -> None:
    network = Connectome([[0, 12.0], [7.0, 0]], np.zeros((2, 2)))
    y0 = _beginning(2, 5)

    def both(t: float, y: np.ndarray) -> np.ndarray:
        y = y.reshape(2, 6)
        rates = 0.005 / (1 + np.exp(0.56 * (6 - y[:, 1] + y[:, 2])))
        return np.concatenate([_equations(t, y[0], 12 * rates[1]), _equations(t, y[1], 7 * rates[0])])

    errors = []
    for dt in (0.25, 0.125):
        found = simulate_jansen_rit(network, 1, 0.3, dt=dt, noise=False, initial=y0, method="numpy")[0]
        times = dt * np.arange(1, found.shape[1] + 1)
        y = solve_ivp(both, (0, 300), y0.ravel(), "DOP853", times, rtol=1e-11, atol=1e-13).y.reshape(2, 6, -1)
        errors.append(np.abs(found - (y[:, 1] - y[:, 2])).max())
    assert errors[0] < 0.05
    assert 1.7 < errors[0] / errors[1] < 2.4


@pytest.mark.parametrize("method", ["numpy", "numba"])
def test_the_standard_input_gives_an_alpha_rhythm(method: str) -> None:
    # Jansen & Rit (1995), section 4, figure 3: 10 Hz or so, some millivolts.
    x = simulate_jansen_rit(ALONE, 1, 4.0, discard=1.0, parameters=ALPHA, noise=False, method=method)[0, 0]
    frequencies, power = welch(x, 2000, nperseg=4000, detrend="constant")
    assert 8 < frequencies[np.argmax(power)] < 12
    assert 2 < np.ptp(x) < 20


def test_an_excitable_region_spikes_and_the_others_do_not() -> None:
    network = synthetic_connectome(76)
    excited = np.linspace(0, 75, 64).astype(int)
    x = simulate_jansen_rit(network, 64, 3.0, discard=1.0, decimate=4, excited=excited, seed=2)
    spikes = np.array([[len(find_peaks(signal, height=8, distance=100)[0]) for signal in run] for run in x])
    own = spikes[np.arange(64), excited].sum()
    assert 0.4 < own / (64 * 3.0) < 1.4
    assert spikes.sum() - own < own / 4
    calm = simulate_jansen_rit(network, 64, 3.0, discard=1.0, decimate=4, seed=2)
    assert (calm > 8).any(axis=2).sum() < own / 4
    assert 0.1 < calm.std() < 1


@settings(deadline=None, max_examples=12)
@given(
    n=st.integers(1, 9),
    n_trajectories=st.integers(1, 3),
    reach=st.floats(0, 80),
    seed=st.integers(0, 2**64 - 1),
    kind=st.integers(0, 2),
)
def test_compiled_and_plain_are_the_same(n: int, n_trajectories: int, reach: float, seed: int, kind: int) -> None:
    rng = np.random.default_rng(seed)
    network = Connectome(rng.uniform(0, 6, (n, n)) * (rng.random((n, n)) < 0.5), reach * rng.random((n, n)))
    given = {"initial": _beginning(n, 1), "seed": seed, "parameters": DEEPSIF_SETTINGS[kind], "first_trajectory": 5}
    given |= {"excitability": rng.uniform(3, 3.6, (n_trajectories, n)), "decimate": 4}
    fast = simulate_jansen_rit(network, n_trajectories, 0.1, **given)
    plain = simulate_jansen_rit(network, n_trajectories, 0.1, method="numpy", **given)
    assert fast.dtype == np.float32
    assert plain.dtype == np.float64
    assert fast.shape == plain.shape == (n_trajectories, n, 50)
    assert_allclose(fast, plain, rtol=0, atol=5e-3)


def test_noise_has_the_intensity_of_the_settings() -> None:
    # Of a short time only: no force has had time to act on y4, which is then a random walk, and y1 its integral.
    x = simulate_jansen_rit(ALONE, 4096, 0.0005, seed=3, initial=np.zeros(6))[:, 0, 0]
    for setting, expected in zip(DEEPSIF_SETTINGS, (0.0195, 0.03315, 0.02925), strict=True):
        assert setting.sigma == pytest.approx(expected)
    # The first step moves y1 by half a step times the kick, of deviation 0.0195 sqrt(0.5).
    assert x.std() == pytest.approx(0.25 * 0.0195 * np.sqrt(0.5), rel=0.05)


def test_batches_threads_and_calls_change_nothing() -> None:
    given = {"initial": _beginning(13), "seed": 9, "excited": 4}
    whole = simulate_jansen_rit(NETWORK, 130, 0.1, **given)
    assert_array_equal(simulate_jansen_rit(NETWORK, 130, 0.1, n_jobs=2, **given), whole)
    assert_array_equal(simulate_jansen_rit(NETWORK, 3, 0.1, first_trajectory=100, **given), whole[100:103])
    assert_array_equal(simulate_jansen_rit(NETWORK, 130, 0.1, decimate=5, **given), whole[..., 4::5])
    later = simulate_jansen_rit(NETWORK, 130, 0.06, discard=0.04, **given)
    assert_array_equal(later, whole[..., 80:])
    assert not np.array_equal(simulate_jansen_rit(NETWORK, 130, 0.1, **{**given, "seed": 10}), whole)
    assert len(np.unique(whole[:, 0, -1])) == 130


@pytest.mark.parametrize("method", ["numpy", "numba"])
def test_a_run_goes_on_where_it_ended(method: str) -> None:
    given = {"seed": 9, "excited": [4, -1], "method": method}
    whole, end = simulate_jansen_rit(NETWORK, 2, 0.15, initial=_beginning(13), return_state=True, **given)
    first, state = simulate_jansen_rit(NETWORK, 2, 0.05, initial=_beginning(13), return_state=True, **given)
    before = state.y.copy()
    second, state_2 = simulate_jansen_rit(NETWORK, 2, 0.1, initial=state, return_state=True, **given)
    assert_array_equal(np.concatenate([first, second], axis=-1), whole)
    assert_array_equal(state.y, before)
    assert (state.step, state_2.step) == (100, end.step) == (100, 300)
    assert_array_equal(state_2.y, end.y)
    assert_array_equal(state_2.rates, end.rates)


def test_before_the_beginning_it_was_as_at_the_beginning() -> None:
    # Fibres so long that nothing but the past arrives: the same as a constant input.
    network = Connectome([[0, 0], [20.0, 0]], [[0, 0], [600.0, 0]])
    y0 = np.array([[0, 8.0, 0, 0, 0, 0], [0.05, 3, 2, 0, 0, 0]])
    found = simulate_jansen_rit(network, 1, 0.15, noise=False, initial=y0, method="numpy")[0, 1]
    arriving = JansenRitParameters(mu=0.087 + 20 * 0.005 / (1 + np.exp(0.56 * (6 - 8))))
    alone = simulate_jansen_rit(ALONE, 1, 0.15, noise=False, initial=y0[1], parameters=arriving, method="numpy")[0, 0]
    assert_allclose(found, alone, atol=1e-12)


def test_excitability_is_by_region_and_trajectory() -> None:
    gains = np.full((3, 13), 3.25)
    gains[0, 2], gains[2, 5] = 3.5, 3.5
    given = {"seed": 1, "initial": _beginning(13)}
    x = simulate_jansen_rit(NETWORK, 3, 0.1, excitability=gains, **given)
    assert_array_equal(simulate_jansen_rit(NETWORK, 3, 0.1, excited=[2, -1, 5], **given), x)
    plain = simulate_jansen_rit(NETWORK, 3, 0.1, **given)
    assert_array_equal(x[1], plain[1])
    assert np.abs(x[0, 2] - plain[0, 2]).max() > 0.02


def test_memory_holds_what_is_returned_and_little_more() -> None:
    given = {"discard": 0.5, "decimate": 40}
    simulate_jansen_rit(NETWORK, 1, 0.02, **given)
    tracemalloc.start()
    try:
        x = simulate_jansen_rit(NETWORK, 1000, 1.0, **given)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert x.nbytes == 1000 * 13 * 50 * 4
    # All steps would be 156 MB.
    assert peak < x.nbytes + 12e6


def test_inputs_are_not_modified() -> None:
    y0, gains = np.zeros((13, 6)), np.full(13, 3.25)
    simulate_jansen_rit(NETWORK, 2, 0.05, initial=y0, excitability=gains, excited=3)
    assert not y0.any()
    assert (gains == 3.25).all()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"n_trajectories": 0}, "n_trajectories must be a whole number from 1 up"),
        ({"n_trajectories": 1.5}, "n_trajectories must be a whole number from 1 up"),
        ({"seconds": 0}, "not a multiple of decimate=1 above 0"),
        ({"seconds": np.nan}, "must be finite"),
        ({"decimate": 7}, "not a multiple of decimate=7"),
        ({"discard": -1}, "discard from 0 up"),
        ({"dt": 0}, "dt must be above 0"),
        ({"dt": 10}, "dt must be above 0 and at most 5 ms"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"method": "torch"}, "method must be 'numba' or 'numpy'"),
        ({"excited": 13}, "excited must be from 0 to 12"),
        ({"excited": [1, 2, 3]}, "excited must be the number of a region, or 2 of them"),
        ({"excited": 1.5}, "excited must be the number of a region"),
        ({"excited": 1, "excited_A": -1}, "excited_A must be finite"),
        ({"excitability": np.ones(5)}, "excitability must be numbers of shape"),
        ({"excitability": np.full(13, np.nan)}, "excitability must be finite"),
        ({"initial": np.zeros((13, 5))}, "initial must be of shape"),
        ({"initial": np.full(6, np.inf)}, "initial must be finite"),
        ({"initial": JansenRitState(np.zeros((2, 13, 6)), np.zeros((2, 3, 13)), 0)}, "initial is the end of a run of"),
        ({"first_trajectory": -1}, "first_trajectory must be a whole number from 0 up"),
        ({"excitability": np.full(13, 1e38)}, "grew without bound"),
    ],
)
def test_bad_arguments_are_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    given = {"n_trajectories": 2, "seconds": 0.05, **changes}
    with pytest.raises(ValueError, match=sentence) as raised:
        simulate_jansen_rit(NETWORK, **given)
    assert str(raised.value).count(". ") == 0


def test_other_objects_are_refused() -> None:
    with pytest.raises(TypeError, match="connectome must be a Connectome"):
        simulate_jansen_rit(np.zeros((3, 3)))
    with pytest.raises(TypeError, match="parameters must be JansenRitParameters"):
        simulate_jansen_rit(NETWORK, parameters={"A": 3})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"A": np.nan}, "A must be a finite"),
        ({"r": 0}, "r must be above 0"),
        ({"noise": -1}, "noise must be from 0 up"),
    ],
)
def test_constants_are_checked(changes: dict[str, float], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        JansenRitParameters(**changes)


@pytest.fixture(scope="module")
def virtual_brain() -> tuple[Connectome, np.ndarray, np.ndarray, np.ndarray]:
    """Return The Virtual Brain's network, excitability, a beginning, and its signals without noise."""
    pytest.importorskip("tvb", reason="The Virtual Brain (extra tvb) is not installed.")
    pytest.importorskip("tvb_data", reason="The Virtual Brain's data (extra tvb) are not installed.")
    from mne_labram.benchmark.simulate import virtual_brain

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tvb.datatypes.connectivity import Connectivity

        theirs = Connectivity.from_file("connectivity_76.zip")
    network = Connectome(theirs.weights, theirs.tract_lengths, 3.0)
    assert network.n_regions == 76
    excitability = np.full(76, 3.25)
    excitability[10] = 3.5
    y0 = _beginning(76)
    run = virtual_brain(network, JansenRitParameters(), excitability, initial=y0)
    return network, excitability, y0, run(1.0)


@pytest.mark.parametrize(("method", "tolerance"), [("numpy", 1e-3), ("numba", 0.2)])
def test_it_is_what_the_virtual_brain_finds(virtual_brain: Any, method: str, tolerance: float) -> None:
    network, excitability, y0, expected = virtual_brain
    assert expected.max() > 10
    found = simulate_jansen_rit(network, 1, 1.0, noise=False, excitability=excitability, initial=y0, method=method)[0]
    assert found.shape == expected.shape == (76, 2000)
    assert np.abs(found - expected).max() < tolerance
