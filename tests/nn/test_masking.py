"""Masks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mne_labram.nn.masking import block_mask, random_mask


@given(n=st.integers(1, 6), n_tokens=st.integers(2, 60), ratio=st.floats(0.05, 0.95))
def test_every_sample_hides_as_many(n: int, n_tokens: int, ratio: float) -> None:
    mask = random_mask(n, n_tokens, ratio, generator=torch.Generator().manual_seed(0))
    assert mask.dtype == torch.bool
    assert mask.shape == (n, n_tokens)
    assert (mask.sum(1) == n_tokens - int(n_tokens * (1 - ratio))).all()


def test_random_masks_differ_between_samples_and_repeat_with_the_seed() -> None:
    masks = [random_mask(8, 76, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
    assert len({tuple(row.tolist()) for row in masks[0]}) == 8
    many = random_mask(4000, 10, generator=torch.Generator().manual_seed(0)).float().mean(0)
    torch.testing.assert_close(many, torch.full((10,), 0.5), rtol=0, atol=0.04)


@pytest.mark.parametrize("axis", ["time", "channels"])
def test_blocks_are_whole(axis: str) -> None:
    mask = block_mask(5, 6, 4, 0.5, axis=axis, generator=torch.Generator().manual_seed(0)).unflatten(1, (6, 4))
    if axis == "time":
        assert (mask == mask[:, :1]).all()
        assert (mask[:, 0].sum(1) == 2).all()
    else:
        assert (mask == mask[:, :, :1]).all()
        assert (mask[:, :, 0].sum(1) == 3).all()
    with pytest.raises(ValueError, match="axis must be"):
        block_mask(1, 2, 2, axis="space")


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.1])
def test_share_must_leave_something(ratio: float) -> None:
    with pytest.raises(ValueError, match="masked share"):
        random_mask(1, 4, ratio)
