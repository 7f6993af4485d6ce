"""The model of how channels go together: what it must do whatever its weights are, and that it learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mne_labram.models.gram import GramForRestoration
from mne_labram.models.gram.spatial_filter import MIN_CHANNELS, SpatialFilter, band_covariances
from mne_labram.nn.conditional import conditional_weights
from mne_labram.signal.positions import electrode_positions

NAMES = "Fp1 Fp2 F7 F3 Fz F4 F8 T7 C3 Cz C4 T8 P7 P3 Pz P4 P8 O1 O2".split()


def _positions(names=NAMES) -> torch.Tensor:
    return torch.from_numpy(electrode_positions(names)).float()


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = SpatialFilter(rank=6, embed_dim=16, num_layers=1, num_heads=2).eval()
    for layer in (model.loadings, model.noise):
        torch.nn.init.normal_(layer.weight, std=0.1)
    return model.requires_grad_(False)


def _pieces(n_chans: int, n_pieces: int = 1, batch: int = 2, seed: int = 0) -> torch.Tensor:
    x = torch.randn(batch, n_chans, 400 * n_pieces, generator=torch.Generator().manual_seed(seed))
    return band_covariances(x, 200.0, SpatialFilter().band_edges, n_pieces)


def test_bands_add_up_to_the_signal():
    x = torch.randn(2, 3, 800, dtype=torch.float64)
    covariances = band_covariances(x, 200.0, (0.0, 4.0, 8.0, 13.0, 20.0, 30.0), 1)
    centred = x - x.mean(dim=2, keepdim=True)
    # Bands of one window are orthogonal.
    torch.testing.assert_close(covariances.sum(dim=2)[:, 0], centred @ centred.transpose(1, 2) / 800)
    sine = torch.sin(2 * torch.pi * 10 * torch.arange(800, dtype=torch.float64) / 200).expand(1, 1, -1)
    power = band_covariances(sine, 200.0, (0.0, 4.0, 8.0, 13.0, 20.0, 30.0), 2)[0, :, :, 0, 0]
    torch.testing.assert_close(power, torch.tensor([[0, 0, 0.5, 0, 0, 0]] * 2, dtype=torch.float64))


def test_order_of_channels(model):
    order = torch.randperm(len(NAMES))
    covariances, visible, seconds = _pieces(19, 2), torch.ones(2, 2, 19), torch.tensor([4.0, 4.0])
    visible[0, :, 3], visible[1, 1, 7:12] = 0, 0
    out = model(covariances, visible, seconds, _positions())
    moved = model(
        covariances[..., order, :][..., order], visible[..., order], seconds, _positions([NAMES[i] for i in order])
    )
    torch.testing.assert_close(moved, out[..., order, :][..., order], atol=1e-5, rtol=1e-4)


def test_what_is_hidden_and_the_unit_change_nothing(model):
    covariances, visible, seconds = _pieces(19), torch.ones(2, 1, 19), torch.tensor([8.0])
    visible[:, :, [2, 9]] = 0
    out = model(covariances, visible, seconds, _positions())
    changed = covariances.clone()
    changed[..., [2, 9], :] = 50.0
    changed[..., [2, 9]] = -50.0
    torch.testing.assert_close(model(changed, visible, seconds, _positions()), out, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model(1e4 * covariances, visible, seconds, _positions()), out, atol=1e-5, rtol=1e-4)


def test_every_band_is_a_covariance_of_unit_trace(model):
    out = model(_pieces(19), torch.ones(2, 1, 19), torch.tensor([8.0]), _positions())
    torch.testing.assert_close(out.diagonal(dim1=2, dim2=3).sum(-1), torch.ones(2, 6))
    assert float(torch.linalg.eigvalsh(out.double()).min()) > -1e-6


def test_bipolar_channels_are_differences():
    """Of the prior, without noise: what three electrodes do, their differences do."""
    model = SpatialFilter()
    names, chain = ["Fp1", "F3", "C3"], ["Fp1-F3", "F3-C3", "Fp1-C3"]
    loadings, _ = model.prior(_positions(names))
    pairs, _ = model.prior(_positions(chain))
    torch.testing.assert_close(pairs[:, 0], loadings[:, 0] - loadings[:, 1])
    torch.testing.assert_close(pairs[:, 0] + pairs[:, 1], pairs[:, 2], atol=1e-5, rtol=1e-4)


def test_what_was_visible_before_is_used(model):
    """A channel that is a copy of another in one piece is predicted as such in the next."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, 19, 1600, generator=generator)
    x[:, 4] = -3.0 * x[:, 12]
    covariances = band_covariances(x, 200.0, model.band_edges, 2)
    errors = []
    for first_seen in (0.0, 1.0):
        visible = torch.ones(1, 2, 19)
        visible[0, :, 4] = torch.tensor([first_seen, 0.0])
        # Minutes of it: little is left of what is known of heads in general.
        out = model(covariances, visible, torch.tensor([300.0, 4.0]), _positions(), n_rounds=4)
        weights, _ = conditional_weights(out, visible[:, 1:].expand(-1, 6, -1))
        y = x[0] - x[0, visible[0, 1] > 0].mean(dim=0)
        # All bands are alike here.
        errors.append(float((weights[0, 3, 4] @ x[0] - y[4]).square().mean() / y[4].square().mean()))
    assert errors[0] > 0.9
    assert errors[1] < 0.25


def test_it_learns():
    """Sources that are seen by neighbours: hidden channels are told by them after a few steps."""
    torch.manual_seed(0)
    model, positions = SpatialFilter(rank=8, embed_dim=16, num_layers=1, num_heads=2), _positions()
    place = positions[:, :3] / positions[:, :3].norm(dim=1, keepdim=True)
    mixing = torch.exp(8 * (place @ place.T - 1))
    x = mixing @ torch.randn(8, 19, 800, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for step in range(40):
        loss = model.training_loss(x, positions, 200.0, 4, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    # Not to zero: up to nine of the channels are hidden at once.
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:3])
    assert all(each.grad is not None and bool(each.grad.abs().sum() > 0) for each in model.parameters())


def test_too_few_channels():
    x = torch.randn(1, MIN_CHANNELS - 1, 800)
    with pytest.raises(ValueError, match="at least 4 channels, got 3"):
        SpatialFilter().training_loss(x, _positions(NAMES[: MIN_CHANNELS - 1]), 200.0, 4)


def test_arguments_that_are_not_known():
    with pytest.raises(ValueError, match="spatial_filter must be a dict of arguments among band_edges") as found:
        GramForRestoration(ch_names=NAMES, size="small", n_codes=8, spatial="coordinates", spatial_filter={"ranks": 3})
    assert "\n" not in str(found.value)


def test_what_an_artefact_costs_is_what_it_adds_to_predictions(model):
    """By hand, on signals: the error of predicting the clean channel from channels with an artefact."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(1, 19, 1600, generator=generator, dtype=torch.float64)
    artefact = torch.zeros_like(x)
    artefact[:, 7] = 5.0 * torch.randn(1600, generator=generator, dtype=torch.float64)
    model, positions = model.double(), _positions().double()
    covariances, added = (band_covariances(each, 200.0, model.band_edges, 1) for each in (x, artefact))
    visible = torch.ones(1, 1, 19, dtype=torch.float64)
    visible[..., 3] = 0.0
    loss = model.covariance_loss(covariances, visible, positions, 8.0, added)
    weights, _ = conditional_weights(
        model(covariances + added, visible, torch.tensor([8.0], dtype=torch.float64), positions),
        visible.expand(-1, 6, -1),
    )
    spectrum, seen = torch.fft.rfft(x - x.mean(dim=2, keepdim=True)), torch.fft.rfft(artefact)
    frequencies = torch.fft.rfftfreq(1600, 1 / 200.0)
    error = power = 0.0
    for band, (low, high) in enumerate(zip(model.band_edges, [*model.band_edges[1:], 1e9], strict=True)):
        inside = ((frequencies >= low) & (frequencies < high)).double()
        clean, beside = (torch.fft.irfft(each[0] * inside, 1600) for each in (spectrum, seen))
        wanted = clean[3] - clean[visible[0, 0] > 0].mean(dim=0)
        error += float((weights[0, band, 3] @ clean - wanted).square().sum())
        error += float((weights[0, band, 3] @ (beside - beside.mean(dim=1, keepdim=True))).square().sum())
        power += float(wanted.square().sum())
    # Its logarithm, so that large artefacts do not drown everything else.
    assert float(loss) == pytest.approx(np.log1p(error / power), rel=1e-6)


def test_it_learns_to_mistrust_channels_with_artefacts():
    """Of two channels that show the same source one is corrupted in every window, which its power betrays."""
    torch.manual_seed(0)
    model, positions = SpatialFilter(rank=8, embed_dim=16, num_layers=1, num_heads=2), _positions()
    place = positions[:, :3] / positions[:, :3].norm(dim=1, keepdim=True)
    generator = torch.Generator().manual_seed(0)
    x = torch.exp(8 * (place @ place.T - 1)) @ torch.randn(16, 19, 800, generator=generator)
    artefact = torch.zeros_like(x)
    for window in artefact:
        rows = torch.randperm(19, generator=generator)[:4]
        window[rows] = 6.0 * torch.randn(4, 800, generator=generator) * x.std()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for step in range(60):
        drawn = torch.Generator().manual_seed(step)
        loss = model.training_loss(x, positions, 200.0, 4, n_draws=2, artefact=artefact, generator=drawn)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-10:]) < 0.75 * np.mean(losses[:5])


def test_without_an_artefact_nothing_is_different(model):
    x = torch.randn(6, 19, 800, generator=torch.Generator().manual_seed(0))
    losses = [
        model.training_loss(x, _positions(), 200.0, 4, artefact=artefact, generator=torch.Generator().manual_seed(1))
        for artefact in (None, torch.zeros_like(x))
    ]
    assert torch.equal(*losses)
