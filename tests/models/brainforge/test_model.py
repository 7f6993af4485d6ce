"""Physics that holds whatever the weights are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mne_labram.models.brainforge import BrainForge
from mne_labram.models.brainforge.spherical_head import spherical_head


def test_moments_are_the_conditional_mean(model: BrainForge, window: torch.Tensor) -> None:
    """By hand, in double precision, from the prior variances that the network gives."""
    noise = torch.eye(19) * 1.3
    posterior = model.posterior(window, noise_covariance=noise)
    reference = np.eye(19) - 1 / 19
    gain = reference @ model.geometry.leadfield.double().numpy()
    covariance = reference @ (1.3 * np.eye(19)) @ reference
    # As whitening has it: five hundredths of the mean variance are added.
    covariance = covariance + 0.05 * np.trace(covariance) / 19 * reference
    variance = posterior.variance[0].double().numpy()
    modelled = gain * variance @ gain.T + covariance
    expected = variance[:, None] * gain.T @ np.linalg.pinv(modelled, rcond=1e-9) @ reference
    found = posterior.operator[0].double().numpy()
    assert np.abs(found - expected).max() < 2e-3 * np.abs(expected).max()
    torch.testing.assert_close(
        model(window, noise_covariance=noise)[0],
        posterior.operator[0] @ (window[0] - window[0].mean(dim=0)),
        atol=1e-2,
        rtol=1e-3,
    )


@pytest.mark.parametrize("known", [False, True])
def test_the_unit_does_not_matter(model: BrainForge, window: torch.Tensor, known: bool) -> None:
    """Ten times the signal, and a hundred times the noise's variance, are ten times the moments."""
    noise = torch.eye(19) if known else None
    once = model(window, noise_covariance=noise)
    tenfold = model(10 * window, noise_covariance=None if noise is None else 100 * noise)
    torch.testing.assert_close(tenfold, 10 * once, atol=1e-2 * float(once.abs().max()), rtol=1e-3)


def test_the_reference_does_not_matter(model: BrainForge, window: torch.Tensor) -> None:
    other = window - window[:, 7:8] + 50.0
    torch.testing.assert_close(model(other), model(window), atol=1e-2, rtol=1e-3)


def test_what_is_not_visible_is_not_looked_at(model: BrainForge, window: torch.Tensor) -> None:
    visible = torch.ones(2, 19)
    visible[:, [2, 11]] = 0
    spoiled = window.clone()
    spoiled[:, [2, 11]] = 1e4
    torch.testing.assert_close(model(spoiled, visible=visible), model(window, visible=visible))
    assert not torch.allclose(model(window, visible=visible), model(window), rtol=1e-2)


def test_the_order_of_channels_does_not_matter(model: BrainForge, window: torch.Tensor, names: list[str]) -> None:
    order = torch.randperm(19, generator=torch.Generator().manual_seed(0))
    moved = model.bind_channels([names[i] for i in order])
    torch.testing.assert_close(moved(window[:, order]), model(window), atol=2e-2, rtol=5e-3)


def test_channels_that_are_left_out_are_as_if_not_visible(
    model: BrainForge, window: torch.Tensor, names: list[str]
) -> None:
    """But for the gains of sources, which are compared with the mean over those electrodes."""
    head = spherical_head(_places(names), 120)
    own = model.bind_head(*head, names)
    kept = list(range(16))
    visible = torch.ones(2, 19)
    visible[:, 16:] = 0
    fewer = own.bind_channels([names[i] for i in kept])
    a, b = fewer(window[:, :16]), own(window, visible=visible)
    correlation = float((a * b).sum() / (a.norm() * b.norm()))
    assert correlation > 0.98
    with pytest.raises(ValueError, match="The head that the model is bound to has no channel 'AF3'"):
        own.bind_channels([*names[:5], "AF3"])


def _places(names: list[str]) -> np.ndarray:
    from mne_labram.signal.positions import electrode_positions

    return electrode_positions(names)[:, :3]


def test_another_head(model: BrainForge, names: list[str]) -> None:
    """Its number of sources is its own; weights are shared; the first model is what it was."""
    head = spherical_head(_places(names[:12]), 77)
    other = model.bind_head(*head, names[:12])
    assert (other.n_sources, model.n_sources) == (77, 120)
    assert all(a is b for a, b in zip(other.parameters(), model.parameters(), strict=True))
    assert other(torch.randn(1, 12, 50)).shape == (1, 77, 50)
    with pytest.raises(ValueError, match="The leadfield has 12 channels; it needs as many names"):
        model.bind_head(*head, names[:11])
    with pytest.raises(ValueError, match="The leadfield has 77 sources"):
        model.bind_head(head[0], head[1][:5], *head[2:], names[:12])


@settings(max_examples=15)
@given(n_times=st.integers(1, 260))
def test_any_length(n_times: int) -> None:
    torch.manual_seed(0)
    model = BrainForge(ch_names=["Fz", "Cz", "Pz", "C3", "C4"], n_sources=30, embed_dim=8, time_dim=8, num_heads=2)
    with torch.no_grad():
        out = model.eval()(torch.randn(2, 5, n_times))
    assert out.shape == (2, 30, n_times)
    assert torch.isfinite(out).all()


def test_a_window_of_nothing() -> None:
    model = BrainForge(ch_names=["Fz", "Cz", "Pz", "C3", "C4"], n_sources=30, embed_dim=8, time_dim=8, num_heads=2)
    out = model.eval()(torch.zeros(1, 5, 50))
    assert float(out.detach().abs().max()) == 0.0


def test_training_step(model: BrainForge, window: torch.Tensor) -> None:
    sources, active = torch.zeros(2, 120, 100), torch.zeros(2, 120)
    sources[0, 17], active[0, 17] = 200 * torch.sin(torch.arange(100) / 3.0), 1
    batch = {"x": window, "sources": sources, "active": active, "noise_covariance": torch.eye(19).expand(2, -1, -1)}
    out = model.train().training_step(batch)
    assert set(out) == {"loss", "error", "detection"}
    found = model(window, noise_covariance=torch.eye(19))
    weight = (model.geometry.leadfield - model.geometry.leadfield.mean(dim=0)).square().sum(dim=0)[:, None]
    error = ((found[0] - sources[0]).square() * weight).sum() / (sources[0].square() * weight).sum()
    # The second window is said to have no source: what is found counts against the signal.
    centred = window[1] - window[1].mean(dim=0)
    none = (found[1].square() * weight).sum() / centred.square().sum()
    torch.testing.assert_close(out["error"], (error + none) / 2, atol=1e-4, rtol=1e-3)
    # What an active source counts may be said; of those that are not active nothing changes.
    louder = model.training_step({**batch, "emphasis": 3.0 * torch.ones(2, 120)})
    torch.testing.assert_close(louder["error"], out["error"])
    only = model.training_step({**batch, "emphasis": torch.where(active > 0, 3.0, 7.0)})
    torch.testing.assert_close(only["detection"], louder["detection"])
    assert louder["detection"] > out["detection"]
    with pytest.raises(ValueError, match="is trained on windows whose sources are known"):
        model.training_step({"x": window})


def test_it_learns_where_sources_are() -> None:
    """On one head of few sources, within seconds: the right one is the most active."""
    torch.manual_seed(0)
    names = ["Fp1", "Fp2", "F7", "F8", "Fz", "C3", "Cz", "C4", "T7", "T8", "P7", "P8", "Pz", "O1", "O2"]
    model = BrainForge(ch_names=names, n_sources=40, embed_dim=16, time_dim=8, num_heads=2, num_layers=1, num_stages=1)
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)

    def draw(seed: int) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        place = torch.randint(40, (16,), generator=generator)
        sources = torch.zeros(16, 40, 40)
        sources[torch.arange(16), place] = 300 * torch.randn(16, 40, generator=generator)
        noise = torch.randn(16, 15, 40, generator=generator)
        return {"x": model.geometry.leadfield @ sources + noise, "sources": sources, "active": sources.any(dim=2)}

    for step in range(60):
        loss = model.training_step(draw(step))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    batch = draw(10_000)
    with torch.no_grad():
        found = model.eval().posterior(batch["x"]).active.argmax(dim=1)
    assert float((found == batch["active"].float().argmax(dim=1)).float().mean()) >= 0.8


def test_bad_input() -> None:
    model = BrainForge(ch_names=["Fz", "Cz", "Pz"], n_sources=20, embed_dim=8, time_dim=8, num_heads=2)
    with pytest.raises(ValueError, match=r"Input must have the shape \(batch, 3, n_times\)"):
        model(torch.zeros(1, 4, 50))
    with pytest.raises(ValueError, match="visible must have the shape"):
        model(torch.zeros(1, 3, 50), visible=torch.ones(1, 4))
    with pytest.raises(ValueError, match="bipolar ones have no place of their own"):
        BrainForge(ch_names=["Fp1-F3", "F3-C3"])
    with pytest.raises(TypeError, match="has no classification head"):
        model.reset_head(2)
