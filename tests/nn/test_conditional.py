"""What visible channels tell of hidden ones, against formulas written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mne_labram.nn.conditional import conditional_weights, expected_covariance, visible_reference


def _covariance(n_chans: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    factors = torch.randn(n_chans, n_chans + 2, dtype=torch.float64, generator=generator)
    return factors @ factors.T


def _visible(n_chans: int, seed: int) -> torch.Tensor:
    visible = torch.ones(n_chans, dtype=torch.float64)
    visible[torch.randperm(n_chans, generator=torch.Generator().manual_seed(seed))[: max(1, n_chans // 3)]] = 0
    return visible


@given(st.integers(4, 9), st.integers(0, 50), st.floats(-3, 3))
def test_any_reference_gives_the_same(n_chans, seed, shift):
    covariance, visible = _covariance(n_chans, seed), _visible(n_chans, seed)
    weights, _ = conditional_weights(covariance, visible, ridge=1e-9)
    assert not weights[:, visible == 0].any()
    torch.testing.assert_close(weights.sum(dim=1), torch.zeros(n_chans, dtype=torch.float64), atol=1e-9, rtol=0)
    x = torch.randn(n_chans, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(weights @ (x + shift), weights @ x)
    # Another reference of the model: rows and columns moved by the same weights.
    other = torch.eye(n_chans, dtype=torch.float64) - torch.softmax(torch.arange(n_chans) / 3.0, dim=0).double()
    torch.testing.assert_close(
        conditional_weights(other @ covariance @ other.T, visible, ridge=1e-9)[0], weights, atol=1e-5, rtol=1e-5
    )


def test_it_is_the_conditional_mean_and_variance():
    covariance, visible = _covariance(6, 1), torch.tensor([1, 1, 0, 1, 0, 1], dtype=torch.float64)
    reference = visible_reference(visible)
    referenced = reference @ covariance @ reference.T
    seen, off = visible.bool(), ~visible.bool()
    # The visible channels add up to zero, so that their covariance has no inverse but a pseudo-inverse.
    wanted = referenced[off][:, seen] @ torch.linalg.pinv(referenced[seen][:, seen])
    weights, conditional = conditional_weights(covariance, visible, ridge=1e-10)
    torch.testing.assert_close(weights[off], wanted @ reference[seen], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(weights[seen], reference[seen])
    unknown = referenced[off][:, off] - wanted @ referenced[seen][:, off]
    torch.testing.assert_close(conditional[off][:, off], unknown, atol=1e-6, rtol=1e-6)
    assert float(conditional[seen].abs().max()) == 0


def test_no_linear_prediction_is_better():
    """On samples of the very distribution."""
    generator = torch.Generator().manual_seed(3)
    covariance, visible = _covariance(5, 3), torch.tensor([1, 1, 1, 1, 0], dtype=torch.float64)
    x = torch.linalg.cholesky(covariance) @ torch.randn(5, 20000, dtype=torch.float64, generator=generator)
    y = x - x[:4].mean(dim=0)
    weights, conditional = conditional_weights(covariance, visible)
    error = float((weights[4] @ x - y[4]).square().mean())
    assert error == pytest.approx(float(conditional[4, 4]), rel=0.05)
    for change in torch.randn(20, 4, dtype=torch.float64, generator=generator):
        other = weights[4].clone()
        other[:4] += 0.2 * (change - change.mean())
        assert float((other @ x - y[4]).square().mean()) > error


def test_hidden_rows_are_not_looked_at():
    covariance, visible, model = _covariance(6, 1), _visible(6, 4), _covariance(6, 2)
    changed = covariance.clone()
    changed[visible == 0] = 7e6
    changed[:, visible == 0] = -7e6
    torch.testing.assert_close(
        expected_covariance(changed, visible, model), expected_covariance(covariance, visible, model)
    )


def test_everything_visible_is_itself_in_the_average_reference():
    covariance = _covariance(5, 0)
    average = torch.eye(5, dtype=torch.float64) - 0.2
    torch.testing.assert_close(
        expected_covariance(covariance, torch.ones(5, dtype=torch.float64), _covariance(5, 9)),
        average @ covariance @ average.T,
    )


def test_em_finds_the_covariance_of_data_with_holes():
    """Channels that are visible in turns, two thirds of the time each, show how they go together."""
    generator = torch.Generator().manual_seed(0)
    truth = _covariance(6, 5)
    patterns = torch.ones(3, 6, dtype=torch.float64)
    for row in range(3):
        patterns[row, 2 * row : 2 * row + 2] = 0
    pieces = []
    for _ in patterns:
        x = torch.linalg.cholesky(truth) @ torch.randn(6, 5000, dtype=torch.float64, generator=generator)
        pieces.append(x @ x.T / x.shape[1])
    pieces, model = torch.stack(pieces), torch.eye(6, dtype=torch.float64)
    for _ in range(60):
        model = expected_covariance(pieces, patterns, model.expand(3, -1, -1)).mean(dim=0)
        model = model + 1e-9 * torch.eye(6)
    average = torch.eye(6, dtype=torch.float64) - 1 / 6
    wanted = average @ truth @ average
    assert float((model - wanted).norm() / wanted.norm()) < 0.1


def test_differences_of_electrodes_have_no_reference():
    """A channel that closes a loop is told by it, and what others share does not reach it."""
    rng = np.random.default_rng(0)
    electrodes = rng.standard_normal((4, 4))
    # Two differences, their sum, and two electrodes in a common reference.
    derive = np.array([[1, -1, 0, 0], [0, 1, -1, 0], [1, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], float)
    covariance = torch.from_numpy(derive @ electrodes @ electrodes.T @ derive.T)
    visible = torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0]).double()
    referential = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0]).double()
    weights, unknown = conditional_weights(covariance, visible, 1e-9, referential)
    x = torch.from_numpy(derive @ rng.standard_normal((4, 50)))
    np.testing.assert_allclose((weights @ x)[2], x[0] + x[1], atol=1e-4)
    assert unknown[2, 2] < 1e-5 * covariance[2, 2]
    moved = x + 10.0 * referential[:, None]
    np.testing.assert_allclose(weights @ moved, weights @ x, atol=1e-9)
    np.testing.assert_allclose((weights @ x)[:2], x[:2], atol=1e-12)
    np.testing.assert_allclose((weights @ x)[3], (x[3] - x[4]) / 2, atol=1e-12)
    completed = expected_covariance(covariance, visible, covariance, 1e-9, referential)
    np.testing.assert_allclose(completed[:3, :3], covariance[:3, :3], atol=1e-5)
