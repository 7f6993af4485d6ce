"""What a covariance tells of sources."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mne_labram.models.brainforge.statistics import (
    N_GLOBAL,
    N_STATISTICS,
    white_noise_level,
    whitener,
    window_statistics,
)


def _noise(n_chans: int, seed: int) -> torch.Tensor:
    root = torch.randn(2, n_chans, n_chans + 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return root @ root.transpose(1, 2)


@given(seed=st.integers(0, 1000), hidden=st.integers(0, 4))
def test_whitened_noise_is_white(seed: int, hidden: int) -> None:
    """Of unit variance in every direction but the mean, and nothing of channels that are not visible."""
    noise, visible = _noise(12, seed), torch.ones(2, 12, dtype=torch.float64)
    visible[:, :hidden] = 0
    whiten = whitener(noise, visible, regularization=0.0)
    white = whiten @ noise @ whiten
    values = torch.linalg.eigvalsh(white)
    expected = torch.zeros(2, 12, dtype=torch.float64)
    expected[:, hidden + 1 :] = 1.0
    torch.testing.assert_close(values, expected, atol=1e-6, rtol=0)
    assert float(whiten[:, :hidden].abs().max() if hidden else 0.0) < 1e-9
    assert float((whiten @ visible.unsqueeze(2)).abs().max()) < 1e-8


@pytest.mark.parametrize(("n_chans", "n_times"), [(19, 100), (32, 50), (64, 100), (64, 1000), (64, 10)])
def test_noise_level_of_white_noise(n_chans: int, n_times: int) -> None:
    x = 3 * torch.randn(20, n_chans, n_times, generator=torch.Generator().manual_seed(0))
    visible = torch.ones(20, n_chans)
    visible[:, :3] = 0
    x = x * visible.unsqueeze(2)
    x = (x - x.sum(dim=1, keepdim=True) / visible.sum(dim=1)[:, None, None]) * visible.unsqueeze(2)
    found = white_noise_level(x, visible)
    assert float(found.mean()) == pytest.approx(9.0, rel=0.1)
    # Two sources of a hundred times its power change little.
    field = torch.randn(20, n_chans, 2, generator=torch.Generator().manual_seed(1)) * visible.unsqueeze(2)
    field = field - field.sum(dim=1, keepdim=True) / visible.sum(dim=1)[:, None, None] * visible.unsqueeze(2)
    louder = white_noise_level(x + 30 * field @ torch.randn(20, 2, n_times), visible)
    if n_times > 20:
        assert float(louder.mean()) == pytest.approx(9.0, rel=0.3)


def test_a_window_without_noise_has_some() -> None:
    """One rhythm in all channels: nothing else is there, and nothing may be divided by nothing."""
    x = torch.linspace(-1.0, 1.0, 12)[:, None] * torch.sin(torch.arange(200) / 7.0)
    level = white_noise_level(50.0 * x[None], torch.ones(1, 12))
    torch.testing.assert_close(level, 1e-3 * (50.0 * x).square().sum()[None] / (11 * 200))


def test_every_statistic_knows_where_a_source_is() -> None:
    generator = torch.Generator().manual_seed(0)
    gain = torch.randn(3, 16, 50, generator=generator)
    place = torch.tensor([4, 22, 49])
    waves = torch.randn(3, 1, 200, generator=generator)
    y = 3 * gain[torch.arange(3), :, place].unsqueeze(2) @ waves + torch.randn(3, 16, 200, generator=generator)
    found = window_statistics(y, gain)
    assert found.sources.shape == (3, 50, N_STATISTICS)
    assert found.window.shape == (3, N_GLOBAL)
    # Share in the first component, weighted share, and the three powers; what lies outside is least there.
    for column in (0, 6, 9, 10, 11):
        assert torch.equal(found.sources[:, :, column].argmax(dim=1), place), column
    assert torch.equal(found.sources[:, :, 7].argmin(dim=1), place)
    # One component stands out, and what is above noise has about unit variance.
    assert float(found.window[:, 0].min()) > float(found.window[:, 1].max())
    assert float(found.window[:, 1].max()) < 0.3


def test_channels_that_are_not_there_tell_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    gain, y = torch.randn(1, 10, 30, generator=generator), torch.randn(1, 10, 90, generator=generator)
    padded = window_statistics(
        torch.cat((y, torch.zeros(1, 4, 90)), dim=1), torch.cat((gain, torch.zeros(1, 4, 30)), dim=1)
    )
    alone = window_statistics(y, gain)
    # Minimum-norm maps know the mean gain of a channel, which is smaller then; all else is the same.
    torch.testing.assert_close(padded.sources[..., :10], alone.sources[..., :10], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(padded.window, alone.window, atol=1e-4, rtol=1e-3)


def test_most_channels_missing() -> None:
    """Of 64 channels 18 are there: single precision does not converge on such matrices, or gives NaN."""
    generator = torch.Generator().manual_seed(0)
    field = torch.randn(40, 64, 3, generator=generator)
    y = 5 * field @ torch.randn(40, 3, 100, generator=generator) + torch.randn(40, 64, 100, generator=generator)
    visible = torch.zeros(40, 64)
    visible[:, torch.randperm(64, generator=generator)[:18]] = 1
    y = y * visible.unsqueeze(2)
    gain = torch.randn(40, 64, 30, generator=generator) * visible.unsqueeze(2)
    found = window_statistics(y, gain)
    assert torch.isfinite(found.sources).all()
    assert torch.isfinite(found.window).all()
    assert torch.isfinite(white_noise_level(y, visible)).all()
