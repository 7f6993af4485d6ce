"""The table of simulations against a peer."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
from typer.testing import CliRunner

from mne_labram.benchmark.simulate import _with_edges, measure_simulate, virtual_brain
from mne_labram.commands.main import app
from mne_labram.source.connectome import synthetic_connectome
from mne_labram.source.jansen_rit import JansenRitParameters, simulate_jansen_rit

needs_peer = pytest.mark.skipif(find_spec("tvb") is None, reason="The Virtual Brain (extra tvb) is not installed.")


def test_there_are_as_many_connections_as_in_measured_networks() -> None:
    assert _with_edges(76).n_edges == pytest.approx(1560, rel=0.03)
    assert _with_edges(998).n_edges == pytest.approx(35730, rel=0.03)


def test_our_own_reference_is_the_peer_of_last_resort() -> None:
    (row,) = measure_simulate([12], n_trajectories=64, seconds=0.02, rounds=2, peer="numpy")
    assert (row.n_regions, row.peer) == (12, "numpy")
    assert row.difference < 0.02
    assert row.compared >= 0.05
    assert min(row.peer_seconds, row.seconds, row.ratio) > 0


@needs_peer
def test_the_virtual_brain_has_the_same_noise() -> None:
    # Not the same numbers: the same deviation after the same short time.
    network, initial = synthetic_connectome(60), np.zeros((60, 6))
    parameters = JansenRitParameters(noise=5.0)
    gains = np.full(60, 3.25)
    run = virtual_brain(network, parameters, gains, initial=initial, noise=True, seed=3)
    theirs = np.concatenate([run(0.01)[:, -1:], run(0.01)[:, -1:]], axis=1)
    ours = simulate_jansen_rit(network, 64, 0.02, parameters=parameters, initial=initial)[..., [19, 39]]
    quiet = simulate_jansen_rit(network, 1, 0.02, parameters=parameters, initial=initial, noise=False)[0][:, [19, 39]]
    expected = (ours - quiet).std(axis=(0, 1))
    # 60 numbers: their deviation is known to 9 %.
    np.testing.assert_allclose((theirs - quiet).std(axis=0), expected, rtol=0.35)


@needs_peer
def test_the_virtual_brain_is_the_peer_where_it_is() -> None:
    (row,) = measure_simulate([20], n_trajectories=1, seconds=0.05, rounds=1)
    assert row.peer == "tvb"
    assert row.difference < 1e-3


@pytest.mark.parametrize(
    ("regions", "options", "sentence"),
    [([], {}, "nothing to measure"), ([1], {}, "nothing to measure"), ([10], {"peer": "matlab"}, "peer must be")],
)
def test_what_cannot_be_measured_is_refused(regions: list[int], options: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        measure_simulate(regions, **options)


@pytest.mark.skipif(find_spec("tvb") is not None, reason="The Virtual Brain is installed.")
def test_a_peer_that_is_not_installed_is_refused() -> None:
    with pytest.raises(ValueError, match=r"install mne-labram\[tvb\]"):
        measure_simulate([10], peer="tvb")


def test_the_command_prints_the_table() -> None:
    arguments = ["--regions", "10", "--trajectories", "2", "--seconds", "0.02", "--rounds", "1"]
    found = CliRunner().invoke(app, ["benchmark", "simulate", *arguments])
    assert found.exit_code == 0, found.output
    assert "ratio" in found.output
    assert ("is not installed" in found.output) == (find_spec("tvb") is None)
