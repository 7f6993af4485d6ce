"""Named configurations."""

from __future__ import annotations

import pytest
import torch

from mne_labram.models.labram import LabramForClassification, LabramForMaskedModeling, LabramTokenizer
from mne_labram.models.labram.sizes import SIZES, Size, resolve_size


def _n_parameters(cls, **kwargs) -> int:
    with torch.device("meta"):
        model = cls(ch_names=["FP1", "CZ"], **kwargs)
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("size", "n"), [("base", 5_820_137), ("large", 46_259_121), ("huge", 369_236_513)])
def test_parameters_of_the_official_sizes(size: str, n: int) -> None:
    assert _n_parameters(LabramForClassification, n_outputs=1, size=size) == n


def test_small_is_small() -> None:
    assert _n_parameters(LabramForClassification, n_outputs=2, size="small") < 1_000_000
    assert _n_parameters(LabramForClassification, n_outputs=2, size="small", spatial="coordinates") < 1_000_000


def test_parameters_of_the_official_tokenizer() -> None:
    with torch.device("meta"):
        model = LabramTokenizer(ch_names=["CZ"])
    assert sum(parameter.numel() for parameter in model.parameters()) == 7_522_640
    assert sum(parameter.numel() for parameter in model.encoder.parameters()) == 5_818_976
    assert model.quantizer.codebook.shape == (8192, 64)
    assert len(model.decoder.blocks) == 3


def test_parameters_of_official_masked_modelling() -> None:
    # 9,153,520 with the second head (200 x 8192 + 8192) and the projection (200 x 200 + 200) that nobody uses.
    unused = 200 * 8192 + 8192 + 200 * 200 + 200
    assert _n_parameters(LabramForMaskedModeling) == 9_153_520 - unused


def test_layer_scale_follows_the_size() -> None:
    for size in ("base", "large", "huge"):
        assert SIZES[size].layer_scale == {"base": 0.1, "large": 1e-5, "huge": 1e-6}[size]
    model = LabramForClassification(n_outputs=2, ch_names=["CZ"], size="small", layer_scale=0.3)
    assert torch.equal(model.encoder.blocks[0].gamma_1, torch.full((128,), 0.3))


def test_replacements() -> None:
    assert resolve_size("base") == Size(200, 12, 10, 0.1)
    assert resolve_size("base", embed_dim=128, num_layers=2) == Size(128, 2, 8, 0.1)
    assert resolve_size("base", embed_dim=24, num_heads=3) == Size(24, 12, 3, 0.1)
    assert resolve_size("base", embed_dim=7).num_heads == 7
    for change in ({"embed_dim": 0}, {"num_layers": 0}, {"num_heads": -1}):
        with pytest.raises(ValueError, match="must be at least 1"):
            resolve_size("base", **change)
