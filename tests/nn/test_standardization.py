"""Running standardisation: the statistics of everything seen, the same result in training and afterwards."""

from __future__ import annotations

import torch

from mne_labram.nn.standardization import RunningStandardization


def test_statistics_of_all_batches() -> None:
    """Batches that differ from one another: mean and variance are those of their union."""
    generator = torch.Generator().manual_seed(0)
    batches = [
        level + scale * torch.randn(5, 7, 3, generator=generator)
        for level, scale in ((0.0, 1.0), (5.0, 2.0), (-3.0, 0.1), (100.0, 1.0))
    ]
    layer = RunningStandardization(3).train()
    for batch in batches:
        layer(batch)
    rows = torch.cat(batches).flatten(0, 1)
    torch.testing.assert_close(layer.mean, rows.mean(dim=0))
    torch.testing.assert_close(layer.variance, rows.var(dim=0, correction=0), rtol=1e-4, atol=1e-4)
    out = layer.eval()(torch.cat(batches)).flatten(0, 1)
    torch.testing.assert_close(out.mean(dim=0), torch.zeros(3), rtol=0, atol=1e-4)
    torch.testing.assert_close(out.std(dim=0), torch.ones(3), rtol=1e-2, atol=0)


def test_evaluation_changes_nothing() -> None:
    layer = RunningStandardization(2)
    x = torch.randn(4, 2)
    trained = layer(x)
    assert torch.equal(layer.eval()(x), trained)
    layer(10 * x)
    assert int(layer.n_batches) == 1
    assert torch.equal(layer(x[:1]), trained[:1])


def test_constant_features_and_single_rows() -> None:
    layer = RunningStandardization(2)
    assert torch.equal(layer(torch.tensor([[3.0, -5.0]])), torch.zeros(1, 2))
    x = torch.tensor([[3.0, -5.0], [3.0, 1.0]])
    out = layer(x)
    assert float(out[:, 0].abs().max()) == 0.0
    assert bool(torch.isfinite(out).all())
    layer(torch.zeros(0, 2))
    assert int(layer.n_batches) == 2


def test_gradient_is_that_of_a_constant_scale() -> None:
    layer = RunningStandardization(1)
    x = torch.tensor([[1.0], [3.0]], requires_grad=True)
    layer(x).sum().backward()
    torch.testing.assert_close(x.grad, torch.ones(2, 1))
