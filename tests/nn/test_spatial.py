"""Rows by name and functions of position."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mne_labram.nn.spatial import CoordinateEmbedding, NameEmbedding, position_features

_PLACE = st.lists(st.floats(-0.12, 0.12), min_size=3, max_size=3)


def _random_positions(n: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(n, 6, generator=torch.Generator().manual_seed(seed)).double()


def test_names_look_rows_up() -> None:
    embedding = NameEmbedding(4, [5, 2, 128])
    nn.init.normal_(embedding.table)
    cls, channels = embedding()
    assert torch.equal(cls, embedding.table[0, 0])
    assert torch.equal(channels, embedding.table[0, [5, 2, 128]])
    assert set(embedding.state_dict()) == {"table"}


@pytest.mark.parametrize("rows", [[], [0], [129], [3, -1]])
def test_rows_out_of_the_table(rows: list[int]) -> None:
    with pytest.raises(ValueError, match="Rows must lie between 1 and 128"):
        NameEmbedding(4, rows)


@pytest.mark.parametrize("kind", [NameEmbedding, CoordinateEmbedding])
def test_rebound_shares_parameters_only(kind) -> None:
    one = kind(4, [1, 2] if kind is NameEmbedding else _random_positions(2))
    other = [3] if isinstance(one, NameEmbedding) else _random_positions(1, seed=1)
    two = one.rebound(other)
    before = one()[1].detach().clone()
    assert two()[1].shape == (1, 4)
    assert one()[1].shape == (2, 4)
    for (name, a), (_, b) in zip(one.named_parameters(), two.named_parameters(), strict=True):
        assert a is b, name
    two()[1].sum().backward()
    assert all(parameter.grad is not None for parameter in one.parameters())
    with torch.no_grad():
        for parameter in two.parameters():
            parameter.add_(1.0)
    assert not torch.equal(one()[1], before)
    # Moving the copy's buffers leaves the original's alone, and copies of copies work.
    assert copy.deepcopy(two)()[1].shape == pickle.loads(pickle.dumps(two))()[1].shape == (1, 4)


@given(anode=_PLACE, cathode=_PLACE)
def test_exchanging_the_ends_changes_one_sign(anode: list[float], cathode: list[float]) -> None:
    forth, back = position_features(torch.tensor([anode + cathode, cathode + anode], dtype=torch.float64))
    assert forth.shape == (55,)
    torch.testing.assert_close(forth[:27], back[:27])
    torch.testing.assert_close(forth[27:54], -back[27:54])
    assert forth[54] == back[54] == float(anode != cathode)


def test_referential_is_told_from_bipolar() -> None:
    place = torch.tensor([0.05, 0.02, 0.08], dtype=torch.float64)
    near = place + 1e-9
    referential, bipolar = position_features(torch.stack((torch.cat((place, place)), torch.cat((place, near)))))
    assert not referential[27:].any()
    assert bipolar[54] == 1.0


def test_neighbours_are_told_apart() -> None:
    # Two electrodes of the 10-10 system, 3 cm apart, and a pair against its reverse.
    positions = torch.tensor([[0.0, 0.0, 0.1] * 2, [0.03, 0.0, 0.095] * 2], dtype=torch.float64)
    pair = torch.cat((positions[:1, :3], positions[1:, :3]), dim=1)
    features = position_features(torch.cat((positions, pair, pair.roll(3, dims=1))))
    assert float(torch.pdist(features).min()) > 0.5


@pytest.mark.parametrize("positions", [torch.zeros(2, 3), torch.zeros(0, 6), torch.full((1, 6), torch.nan)])
def test_bad_positions(positions: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="Positions must"):
        CoordinateEmbedding(4, positions)


def test_cls_has_no_place() -> None:
    assert CoordinateEmbedding(4, _random_positions(3))()[0] is None
