"""DeepSIF learns where sources are, by the engine of all trainings."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mne_labram.models.deepsif import DeepSIF
from mne_labram.signal.contract import ContractError
from mne_labram.source.deepsif_training import fresh_deepsif, train_deepsif
from mne_labram.source.head import SourceModel
from mne_labram.source.simulate import SourceSimulator
from mne_labram.weights import load_checkpoint

SMALL = {"hidden_dim": 32, "num_layers": 1}


@pytest.fixture(scope="module")
def head(sphere_head) -> SourceModel:
    return sphere_head(80)


@pytest.fixture(scope="module")
def simulator(head: SourceModel) -> SourceSimulator:
    return SourceSimulator(
        head, noise=("white",), seconds=0.2, n_sources=1, snr_db=(10.0, 20.0), none=0.0, channel_dropout=0.0
    )


def _weights(network: DeepSIF) -> torch.Tensor:
    return torch.cat([value.flatten() for value in network.parameters()]).detach()


def _peak_error(network: DeepSIF, head: SourceModel, batch) -> float:
    """Return the mean distance of the largest source from the middle of the patch, in mm."""
    with torch.inference_mode():
        found = network.eval()(torch.from_numpy(batch.x)).square().sum(dim=2).argmax(dim=1).numpy()
    middles = [patches[0].indices[np.argmax(patches[0].weights)] for patches in batch.patches]
    return 1e3 * float(np.linalg.norm(head.positions[found] - head.positions[middles], axis=1).mean())


def test_it_learns_where_sources_are(head, simulator, tmp_path):
    held_out = simulator.draw(64, 12345)
    batch = {"x": torch.from_numpy(held_out.x), "sources": torch.from_numpy(held_out.sources)}
    network = fresh_deepsif(head, lstm_dim=48, **SMALL)
    with torch.no_grad():
        before = {name: float(value) for name, value in network.training_step(batch).items()}
    lost = _peak_error(network, head, held_out)
    done = train_deepsif(
        head, tmp_path, network=network, simulator=simulator, steps=140, batch_size=32, lr=1e-2, device="cpu"
    )
    with torch.no_grad():
        after = {name: float(value) for name, value in network.training_step(batch).items()}
    assert after["loss"] < before["loss"]
    assert after["error"] < 0.95
    found = _peak_error(network, head, held_out)
    assert found < 0.4 * lost
    # What was written is what was trained, with the head's leadfield: moments in nAm, of about the right size.
    loaded = load_checkpoint(done.weights)
    loaded.check_head(head.leadfield, head.ch_names)
    with torch.inference_mode():
        estimate = loaded(batch["x"])
        assert torch.equal(estimate, network(batch["x"]))
    shown = np.einsum("cs,nst->nct", head.averaged, estimate.double().numpy())
    window = held_out.x - held_out.x.mean(axis=2, keepdims=True)
    left = (window - shown + shown.mean(axis=2, keepdims=True)) ** 2
    assert np.median(left.sum(axis=(1, 2)) / (window**2).sum(axis=(1, 2))) < 0.5


def test_training_goes_on_to_the_same_weights(head, simulator, tmp_path, monkeypatch):
    options = {"simulator": simulator, "steps": 6, "batch_size": 4, "seed": 3, "lr": 1e-3, "device": "cpu"}
    whole, broken, again = (fresh_deepsif(head, seed=3, **SMALL) for _ in range(3))
    fresh = _weights(whole)
    assert torch.equal(fresh, _weights(broken))
    train_deepsif(head, tmp_path / "whole", network=whole, **options)
    assert not torch.equal(_weights(whole), fresh)
    step, count = DeepSIF.training_step, []

    def stop(self, batch):
        count.append(1)
        if len(count) == 5:
            raise KeyboardInterrupt
        return step(self, batch)

    monkeypatch.setattr("mne_labram.source.simulated_batches.TrainingSettings", _often)
    monkeypatch.setattr(DeepSIF, "training_step", stop)
    with pytest.raises(KeyboardInterrupt):
        train_deepsif(head, tmp_path / "parts", network=broken, **options)
    monkeypatch.setattr(DeepSIF, "training_step", step)
    with pytest.raises(FileExistsError):
        train_deepsif(head, tmp_path / "parts", network=again, **options)
    done = train_deepsif(head, tmp_path / "parts", network=again, resume=True, **options)
    assert done.step == 6
    assert torch.allclose(_weights(again), _weights(whole), atol=1e-6)


def _often(**numbers):
    """Write a checkpoint after every other step."""
    from mne_labram.training.settings import TrainingSettings

    return TrainingSettings(**numbers, checkpoint_every=2)


def test_fresh_weights_follow_from_the_seed(head):
    state = torch.get_rng_state()
    one, same, other = (fresh_deepsif(head, seed=seed, **SMALL) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(_weights(one), _weights(same))
    assert not torch.equal(_weights(one), _weights(other))
    assert one.has_scale
    assert one.n_sources == 80
    assert one.temporal.dim == 80


def test_what_does_not_fit(head, sphere_head, simulator, tmp_path):
    other = sphere_head(60)
    for changes, words in (
        ({"simulator": SourceSimulator(other)}, "another head than the network is for"),
        ({"simulator": simulator, "network": fresh_deepsif(other, **SMALL)}, "for 60 sources and the head has 80"),
    ):
        with pytest.raises(ContractError, match=words):
            train_deepsif(head, tmp_path, **changes)
    with pytest.raises(TypeError, match="must be a SourceModel"):
        train_deepsif(None, tmp_path)
    with pytest.raises(ValueError, match="steps must be a whole number"):
        train_deepsif(head, tmp_path, simulator=simulator, steps=0)
    assert not list(tmp_path.iterdir())
