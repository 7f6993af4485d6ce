"""Layers of normalised weights, against torch's own."""

from __future__ import annotations

import copy
import pickle

import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from mne_labram.nn.weight_norm import WeightNormConv2d, WeightNormLinear


def _both(ours: nn.Module, plain: nn.Module) -> tuple[nn.Module, nn.Module]:
    plain.load_state_dict({name: value for name, value in ours.state_dict().items() if name != "gain"})
    return ours, weight_norm(plain)


def test_as_torch_does_it() -> None:
    torch.manual_seed(0)
    for ours, theirs, shape in (
        (*_both(WeightNormLinear(5, 3), nn.Linear(5, 3)), (4, 5)),
        (
            *_both(
                WeightNormConv2d(2, 6, (5, 3), (2, 1), padding=(2, 1)),
                nn.Conv2d(2, 6, (5, 3), (2, 1), padding=(2, 1)),
            ),
            (3, 2, 9, 7),
        ),
    ):
        x = torch.randn(shape)
        # Begins as the plain layer does.
        torch.testing.assert_close(ours(x), type(ours).__mro__[1].forward(ours, x))
        optimizers = [torch.optim.SGD(each.parameters(), lr=0.1) for each in (ours, theirs)]
        for _ in range(5):
            for layer, optimizer in zip((ours, theirs), optimizers, strict=True):
                optimizer.zero_grad()
                layer(x).square().sum().mul(0.01).backward()
                optimizer.step()
        torch.testing.assert_close(ours(x), theirs(x))
        torch.testing.assert_close(ours.gain, theirs.parametrizations.weight.original0.flatten())
        assert torch.equal(pickle.loads(pickle.dumps(ours))(x), ours(x))
        assert torch.equal(copy.deepcopy(ours)(x), ours(x))
        # The length of the direction does not matter.
        with torch.no_grad():
            before = ours(x)
            ours.weight *= 7.0
            torch.testing.assert_close(ours(x), before)
