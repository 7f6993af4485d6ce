"""Masks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mne_labram.nn.masking import block_mask, draw_mask, mixed_mask, random_mask


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


@given(n_chans=st.integers(1, 9), n_patches=st.integers(1, 6), ratio=st.floats(0.05, 0.95), seed=st.integers(0, 99))
def test_mixed_masks_hide_something_and_leave_something(n_chans: int, n_patches: int, ratio: float, seed: int) -> None:
    mask = mixed_mask(7, n_chans, n_patches, ratio, generator=torch.Generator().manual_seed(seed))
    assert mask.shape == (7, n_chans * n_patches)
    assert mask.any(dim=1).all()
    if n_chans * n_patches > 1:
        assert not mask.all(dim=1).any()


def test_mixed_masks_are_of_three_kinds_and_of_the_share_asked_for() -> None:
    mask = mixed_mask(900, 12, 8, 0.5, generator=torch.Generator().manual_seed(3)).view(900, 12, 8)
    channels = (mask == mask[:, :, :1]).flatten(1).all(dim=1)
    times = (mask == mask[:, :1]).flatten(1).all(dim=1)
    for kind in (channels, times, ~channels & ~times):
        assert 0.25 < float(kind.float().mean()) < 0.42
    assert abs(float(mask.float().mean()) - 0.5) < 0.02
    assert float(mask.float().mean(dim=(1, 2)).std()) > 0.05


def test_masks_by_name() -> None:
    for name, expected in (
        ("random", random_mask(2, 12, 0.4, generator=torch.Generator().manual_seed(0))),
        ("mixed", mixed_mask(2, 3, 4, 0.4, generator=torch.Generator().manual_seed(0))),
    ):
        assert torch.equal(draw_mask(name, 2, 3, 4, 0.4, generator=torch.Generator().manual_seed(0)), expected)
    with pytest.raises(ValueError, match="masking must be one of 'random', 'mixed', got 'blocks'"):
        draw_mask("blocks", 2, 3, 4, 0.4)
