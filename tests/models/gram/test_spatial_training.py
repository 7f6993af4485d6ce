"""A spatial filter trained by itself: nothing else of the model moves, and what is written is the average."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mne_labram.models.gram import GramForRestoration
from mne_labram.models.gram.spatial_training import SpatialFilterTraining

NAMES = "Fp1 Fp2 F7 F3 Fz F4 F8 T7 C3 Cz C4 T8 P7 P3 Pz P4 P8 O1 O2".split()


def _model(**options) -> GramForRestoration:
    torch.manual_seed(0)
    body = {"embed_dim": 16, "num_layers": 2, "num_heads": 2, "decoder_dim": 16, "decoder_layers": 1}
    spatial_filter = {"rank": 6, "embed_dim": 16, "num_layers": 1, "num_heads": 2}
    options = {"spatial_filter": spatial_filter, "spatial": "coordinates", **options}
    return GramForRestoration(ch_names=NAMES, n_codes=8, decoder_heads=2, **body, **options)


def _x() -> torch.Tensor:
    mixing = torch.randn(19, 19, generator=torch.Generator().manual_seed(0))
    return mixing @ torch.randn(8, 19, 800, generator=torch.Generator().manual_seed(1))


def test_only_the_filter_is_trained_and_averaged() -> None:
    model = _model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    training = SpatialFilterTraining(model, decay=0.9).train()
    assert {name.split(".")[0] for name, each in training.named_parameters() if each.requires_grad} == {"learner"}
    optimizer = torch.optim.SGD([each for each in training.parameters() if each.requires_grad], 1e-2)
    # The average as written down: of where each step went.
    mean, count = training.learner.site_loadings.detach().clone(), 0
    for step in range(4):
        count += 1
        stays = min(0.9, count / (count + 10.0))
        mean = stays * mean + (1 - stays) * training.learner.site_loadings.detach()
        torch.manual_seed(step)
        training.training_step({"x": _x(), "ch_names": NAMES})["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert training.exported is model
    after = model.state_dict()
    torch.testing.assert_close(after["spatial_filter.site_loadings"], mean)
    moved = {name.split(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == {"spatial_filter"}
    assert int(training.n_steps) == 4


def test_the_average_is_what_is_judged() -> None:
    training = SpatialFilterTraining(_model()).eval()
    for parameter in training.learner.parameters():
        torch.nn.init.constant_(parameter, float("nan"))
    torch.manual_seed(0)
    with torch.no_grad():
        loss = training.training_step(_x())["loss"]
        torch.manual_seed(0)
        assert torch.equal(training.model.restoration_loss(_x(), n_draws=1), loss)
    assert np.isfinite(float(loss))
    # Looking is not a step.
    assert int(training.n_steps) == 0


def test_channels_of_a_batch() -> None:
    """Fewer channels, bipolar ones, and too few to hide any."""
    training = SpatialFilterTraining(_model()).train()
    pairs = ["Fp1-F3", "F3-C3", "C3-P3", "P3-O1", "Fp2-F4", "F4-C4"]
    for names in (NAMES[:5], pairs):
        loss = training.training_step({"x": _x()[:, : len(names)], "ch_names": names})["loss"]
        assert float(loss.detach()) > 0
    few = training.training_step({"x": _x()[:, :3], "ch_names": NAMES[:3]})["loss"]
    assert float(few.detach()) == 0
    few.backward()


def test_a_fresh_filter_is_built_like_the_old_one() -> None:
    model = _model()
    model.spatial_filter.doubt.fill_(0.5)
    old = {name: value.clone() for name, value in model.spatial_filter.state_dict().items()}
    training = SpatialFilterTraining(model, fresh=True)
    new = training.exported.spatial_filter.state_dict()
    assert {name: value.shape for name, value in old.items()} == {name: value.shape for name, value in new.items()}
    assert not torch.equal(new["site_loadings"], old["site_loadings"])
    assert torch.equal(new["doubt"], old["doubt"])
    assert torch.equal(training.learner.site_loadings, new["site_loadings"])


def test_what_cannot_be_trained_is_refused() -> None:
    with pytest.raises(ValueError, match="has no spatial filter to train"):
        SpatialFilterTraining(_model(spatial_filter=None))
    with pytest.raises(ValueError, match="decay must lie in"):
        SpatialFilterTraining(_model(), decay=1.0)
    with pytest.raises(ValueError, match="n_draws must be at least 1"):
        SpatialFilterTraining(_model(), n_draws=0)
