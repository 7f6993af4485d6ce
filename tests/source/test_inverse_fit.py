"""Training an inverse: on its own head, stopped and gone on with."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
import torch

from mne_labram.signal.contract import ContractError
from mne_labram.source.inverse import BrainForgeInverse, fresh_network
from mne_labram.source.simulate import SourceSimulator
from mne_labram.source.simulated_batches import SimulatedBatches, emphasis_of

SMALL = {"embed_dim": 12, "num_layers": 1, "time_dim": 8, "time_layers": 1, "num_heads": 2}


@pytest.fixture(scope="module")
def head(sphere_head):
    return sphere_head(100)


@pytest.fixture
def simulator(head) -> SourceSimulator:
    return SourceSimulator(head, noise=("white",), seconds=0.4)


def _inverse(head) -> BrainForgeInverse:
    return BrainForgeInverse(head, model=fresh_network(0, **SMALL))


def _weights(inverse) -> torch.Tensor:
    return torch.cat([value.flatten() for value in inverse.base.state_dict().values()])


def test_batches_are_a_function_of_seed_epoch_and_place(simulator):
    batches = SimulatedBatches(simulator, n_batches=3, batch_size=4, seed=5)
    simulator.draw(2)
    one, two = list(batches.iterate(1)), list(batches.iterate(1, 2))
    assert len(one) == len(batches) == 3
    assert len(two) == 1
    assert batches.n_windows == 12
    assert torch.equal(one[2]["x"], two[0]["x"])
    assert torch.equal(one[2]["sources"], two[0]["sources"])
    assert not torch.equal(one[0]["x"], next(batches.iterate(0))["x"])
    assert {batch["noise_covariance"] is None for batch in batches.iterate(0)} <= {True, False}


def test_processes_share_a_batch(simulator):
    batches = SimulatedBatches(simulator, n_batches=1, batch_size=5, known_noise=1.0)
    (whole,) = batches
    parts = [next(batches.iterate(0, process=process, n_processes=2)) for process in (0, 1)]
    assert torch.equal(torch.cat([part["x"] for part in parts]), whole["x"])
    assert torch.equal(torch.cat([part["noise_covariance"] for part in parts]), whole["noise_covariance"])
    assert sum(part["share"] for part in parts) == pytest.approx(1.0)
    one = SimulatedBatches(simulator, n_batches=1, batch_size=1)
    alone = [next(one.iterate(process=process, n_processes=3)) for process in (0, 2)]
    assert alone[0]["share"] == alone[1]["share"] == pytest.approx(1 / 3)


def test_batches_of_several_simulators(head, simulator, sphere_head):
    longer = SourceSimulator(head, noise=("white",), seconds=0.7)
    batches = SimulatedBatches([simulator, longer], n_batches=12, batch_size=2)
    lengths = [batch["x"].shape[2] for batch in batches]
    assert set(lengths) == {40, 70}
    assert lengths == [batch["x"].shape[2] for batch in batches]
    assert batches.fingerprint()["digest"] != SimulatedBatches(longer, n_batches=12).fingerprint()["digest"]
    finer = SourceSimulator(sphere_head(400), noise=("white",), estimated=head)
    assert next(iter(SimulatedBatches(finer, n_batches=1, batch_size=2)))["sources"].shape == (2, 100, 100)
    with pytest.raises(ContractError, match="different heads"):
        SimulatedBatches([simulator, SourceSimulator(sphere_head(50), noise=("white",))], n_batches=1)
    with pytest.raises(TypeError, match="or several"):
        SimulatedBatches([], n_batches=1)


def test_small_patches_count_more(sphere_head):
    fine = sphere_head(600)
    drawn = SourceSimulator(fine, noise=("white",), n_sources=(1, 2), extent_mm=(5.0, 60.0), none=0.3).draw(30, 0)
    emphasis = emphasis_of(drawn)
    assert (emphasis[~drawn.active] == 1).all()
    sizes = set()
    for row, active, patches in zip(emphasis, drawn.active, drawn.patches, strict=True):
        for patch in patches:
            members = patch.indices[active[patch.indices]]
            sizes.add(len(members))
            # Where patches overlap, the smaller one decides.
            assert (row[members] >= np.sqrt(10 / len(members)) - 1e-9).all()
        if len(patches) == 1:
            np.testing.assert_allclose(row[members], np.sqrt(10 / len(members)))
    assert min(sizes) < 3
    assert max(sizes) > 6


def test_the_fingerprint_tells_simulators_apart(head, simulator):
    one = SimulatedBatches(simulator, n_batches=2).fingerprint()
    assert one == SimulatedBatches(simulator, n_batches=2).fingerprint()
    other = SourceSimulator(head, noise=("white",), seconds=0.4, snr_db=(0.0, 10.0))
    assert one["digest"] != SimulatedBatches(other, n_batches=2).fingerprint()["digest"]
    assert one["head"] == head.digest


def test_numbers_that_make_no_sense(simulator, head):
    with pytest.raises(TypeError, match="must be a SourceSimulator"):
        SimulatedBatches(head, n_batches=1)
    with pytest.raises(ValueError, match="n_batches must be a whole number"):
        SimulatedBatches(simulator, n_batches=0)
    with pytest.raises(ValueError, match="known_noise"):
        SimulatedBatches(simulator, n_batches=1, known_noise=2.0)


def test_training_goes_on_to_the_same_weights(head, simulator, tmp_path, monkeypatch):
    options = {"steps": 6, "batch_size": 4, "seed": 3, "lr": 1e-3, "device": "cpu"}
    whole = _inverse(head)
    fresh = _weights(whole).clone()
    assert whole.fit(simulator, **options) is whole
    assert not torch.equal(_weights(whole), fresh)
    assert whole.trained["steps"] == 6
    assert "trained for 6 steps" in repr(whole)
    # Stopped after the fourth step, as Ctrl-C would.
    broken, draws = _inverse(head), []
    iterate = SimulatedBatches.iterate

    def stop(self, *args, **kwargs):
        for batch in iterate(self, *args, **kwargs):
            draws.append(1)
            if len(draws) == 4:
                os.kill(os.getpid(), signal.SIGINT)
            yield batch

    monkeypatch.setattr(SimulatedBatches, "iterate", stop)
    with pytest.raises(KeyboardInterrupt, match="after step 4 of 6"):
        broken.fit(simulator, folder=tmp_path, **options)
    monkeypatch.undo()
    again = _inverse(head).fit(simulator, folder=tmp_path, resume=True, **options)
    assert torch.allclose(_weights(again), _weights(whole), atol=1e-6)
    assert torch.equal(again.network.final_layer.weight, again.base.final_layer.weight)
    # The weights in the folder are a checkpoint like any other.
    loaded = BrainForgeInverse(head, model=tmp_path / "final.safetensors")
    assert torch.equal(_weights(loaded), _weights(again))


def test_training_lowers_the_loss(head, simulator):
    inverse = _inverse(head)
    batch = next(SimulatedBatches(simulator, n_batches=1, batch_size=16, seed=99, known_noise=1.0).iterate())

    def loss() -> float:
        with torch.no_grad():
            return float(inverse.network.training_step(batch)["loss"])

    before = loss()
    inverse.fit(simulator, steps=25, batch_size=8, lr=3e-3, device="cpu")
    assert loss() < 0.98 * before


def test_what_cannot_be_trained(head, sphere_head):
    inverse = _inverse(head)
    with pytest.raises(ContractError, match="another head"):
        inverse.fit(SourceSimulator(sphere_head(120), noise=("white",)), steps=1)
    with pytest.raises(ValueError, match="give folder"):
        inverse.fit(resume=True)
    with pytest.raises(ValueError, match="steps must be a whole number"):
        inverse.fit(steps=0)
    assert np.isfinite(_weights(inverse).numpy()).all()
