"""The published sizes have the published numbers of parameters."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mne_labram.models.gram import GramForClassification, GramForRestoration, GramTokenizer
from mne_labram.models.gram.sizes import default_out_indices, resolve_gram_size

NAMES = ["FP1", "CZ", "O2"]


def _build(cls: type[nn.Module], **options) -> nn.Module:
    with torch.device("meta"):
        return cls(ch_names=NAMES, **options)


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("size", "millions"), [("base", 6.00), ("medium", 47.19), ("large", 251.28)])
def test_encoders(size: str, millions: float) -> None:
    model = _build(GramForClassification, n_outputs=2, size=size)
    without_head = _count(model) - _count(model.final_layer)
    assert round(without_head / 1e6, 2) == millions


def test_pre_trained_model() -> None:
    model = _build(GramForRestoration)
    assert _count(model) == 11_582_182
    assert model.n_codes == 8196


def test_tokenizer() -> None:
    model = _build(GramTokenizer)
    unused = 2 * 200  # the CLS tokens of the official encoder and decoder, which are cut off before use
    assert _count(model) == 11_644_384 - unused
    assert _count(model.encoder) == 5_795_576 - 200
    assert model.quantizer.codebook.shape == (8196, 32)


def test_small_ones_fit_into_eight_megabytes() -> None:
    options = {"size": "small", "spatial": "coordinates", "patch_embed": "conv+spectrum"}
    tokenizer = _build(GramTokenizer, target="signal+spectrum", **options)
    model = _build(GramForRestoration, n_codes=512, mimic="log_amplitude", **options)
    n_bytes = 4 * sum(value.numel() for each in (tokenizer, model) for value in each.state_dict().values())
    assert n_bytes < 8e6


def test_blocks_that_are_fused() -> None:
    assert default_out_indices(12) == [0, 2, 4, 6, 8, 11]
    assert default_out_indices(24) == [0, 4, 8, 12, 16, 20, 23]
    assert default_out_indices(32) == [0, 4, 8, 12, 16, 20, 24, 28, 31]
    assert [default_out_indices(n) for n in (1, 2, 4)] == [[0], [0, 1], [0, 3]]
    for wrong in ([], [0, 1], [3, 0], [0, 0, 3], [-1, 3]):
        with pytest.raises(ValueError, match="out_indices must be rising numbers of blocks that end with the last, 3"):
            _build(GramForClassification, n_outputs=2, size="small", out_indices=wrong)


def test_unknown_size() -> None:
    with pytest.raises(ValueError, match="size must be one of 'small', 'base', 'medium', 'large', got 'huge'"):
        resolve_gram_size("huge")
