"""Shared parameters and borrowed modes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mne_labram.nn.modules import evaluating, share_parameters


def test_share_parameters_has_its_own_dictionaries() -> None:
    layer = nn.BatchNorm1d(3)
    new = share_parameters(layer)
    new.running_mean = torch.ones(3)
    assert torch.equal(layer.running_mean, torch.zeros(3))
    assert new.weight is layer.weight


def test_evaluating_gives_every_mode_back() -> None:
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout(), nn.Dropout()))
    model.eval()
    model[1][0].train()
    before = [module.training for module in model.modules()]
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == before
    with pytest.raises(KeyError), evaluating(model):
        raise KeyError
    assert [module.training for module in model.modules()] == before
    assert any(before)
