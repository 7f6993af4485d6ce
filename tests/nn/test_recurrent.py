"""Our LSTM is torch's, and open to the compiler."""

from __future__ import annotations

import torch
from torch import nn

from mne_labram.nn.recurrent import LongShortTermMemory


def test_it_is_the_lstm_of_torch() -> None:
    torch.manual_seed(0)
    theirs = nn.LSTM(5, 7, num_layers=3, batch_first=True)
    torch.manual_seed(0)
    ours = LongShortTermMemory(5, 7, 3)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    x = torch.randn(2, 11, 5)
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name
    torch.testing.assert_close(ours(x), theirs(x)[0])
    assert ours(x).abs().max() < 1
    empty = LongShortTermMemory(5, 7, 3).to("meta")(torch.empty(2, 11, 5, device="meta"))
    assert empty.is_meta
    assert empty.shape == ours(x).shape


def test_it_knows_only_the_past() -> None:
    torch.manual_seed(0)
    model = LongShortTermMemory(3, 4, 2)
    x = torch.randn(1, 20, 3)
    changed = x.clone()
    changed[:, 12:] += 1.0
    before, after = model(x), model(changed)
    assert torch.equal(before[:, :12], after[:, :12])
    assert not torch.allclose(before[:, 12:], after[:, 12:])


def test_dropout_is_for_training() -> None:
    torch.manual_seed(0)
    model = LongShortTermMemory(3, 4, 2, drop_prob=0.5)
    x = torch.randn(2, 9, 3)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


def test_it_is_one_graph() -> None:
    model = LongShortTermMemory(3, 4, 2).eval()
    x = torch.randn(2, 9, 3)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), model(x))
