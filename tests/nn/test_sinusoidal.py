"""Sines and cosines as embeddings."""

from __future__ import annotations

import math

import pytest
import torch

from mne_labram.nn.sinusoidal import FixedNameEmbedding, sinusoidal_table


def test_table() -> None:
    table = sinusoidal_table(130, 8, base=1000.0)
    assert table.shape == (130, 8)
    assert table.dtype == torch.float32
    for row, i in ((0, 0), (1, 1), (7, 2), (129, 3)):
        angle = row / 1000.0 ** (2 * i / 8)
        assert table[row, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
        assert table[row, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)
    assert sinusoidal_table(3, 5).shape == (3, 5)


def test_embedding_has_no_parameters_and_is_not_saved() -> None:
    embedding = FixedNameEmbedding(6, [3, 1], 4, base=1000.0)
    assert not list(embedding.parameters())
    assert not embedding.state_dict()
    cls, channels = embedding()
    table = sinusoidal_table(4, 6, 1000.0)
    assert not cls.any()
    assert torch.equal(channels, table[[2, 0]])
    other = embedding.rebound([4])
    assert torch.equal(other()[1], table[[3]])
    assert torch.equal(embedding()[1], channels)
    with pytest.raises(ValueError, match="Rows must lie between 1 and 4"):
        embedding.rebound([5])


def test_meta_device() -> None:
    with torch.device("meta"):
        assert FixedNameEmbedding(6, [1], 4)()[1].is_meta
