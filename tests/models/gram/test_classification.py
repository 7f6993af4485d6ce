"""The classifier, and where its encoder comes from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mne_labram.models.gram import GramForClassification, GramForRestoration, GramTokenizer
from mne_labram.models.labram import LabramTokenizer
from mne_labram.training.finetune import finetuned_model, finetuner

NAMES = ["FP1", "CZ", "T7", "O2"]
_TINY = {"embed_dim": 16, "num_layers": 3, "num_heads": 2, "ch_names": NAMES}


def _pretrained(**options) -> GramForRestoration:
    torch.manual_seed(0)
    decoder = {"decoder_dim": 16, "decoder_layers": 1, "decoder_heads": 2}
    return GramForRestoration(n_codes=8, **_TINY, **decoder, **options).eval()


def _x(n: int = 3) -> torch.Tensor:
    return 30 * torch.randn(n, 4, 600, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_encoder_is_that_of_the_pre_trained_model() -> None:
    for options in ({}, {"spatial": "coordinates", "patch_embed": "conv+spectrum", "out_indices": [1, 2]}):
        base = _pretrained(**options)
        model = GramForClassification.from_encoder(base, n_outputs=3).eval()
        for pooling in ("cls", "mean", "tokens"):
            torch.testing.assert_close(model.embed(_x(), pooling), base.embed(_x(), pooling))
        torch.testing.assert_close(model(_x()), model.final_layer(base.embed(_x(), "cls")))
        mean = GramForClassification.from_encoder(base, n_outputs=3, pooling="mean").eval()
        torch.testing.assert_close(mean(_x()), mean.final_layer(base.embed(_x())))
    for option, words in (
        (
            {"embed_dim": 32},
            r"embed_dim=32 makes another encoder than that of the GramForRestoration, which has 16",
        ),
        ({"num_heads": 4}, "num_heads=4 makes another encoder"),
        ({"spatial": "coordinates"}, "spatial='coordinates' makes another encoder"),
        ({"layer_scale": 0.0}, r"an encoder of another size; leave out those that shape it \(6 tensors are unknown"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            GramForClassification.from_encoder(_pretrained(), n_outputs=2, **option)
        assert "\n" not in str(error.value)
    for wrong in (GramTokenizer(**_TINY, n_codes=8), LabramTokenizer(**_TINY, n_codes=8)):
        with pytest.raises(TypeError, match="takes the encoder of a GramForRestoration or GramForClassification"):
            GramForClassification.from_encoder(wrong, n_outputs=2)


@pytest.mark.parametrize("preset", ["linear", "last-k", "full"])
def test_fine_tuning(preset: str) -> None:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 12)
    x = (rng.standard_normal((24, 4, 600)) * np.where(y, 60, 10)[:, None, None]).astype(np.float32)
    base = _pretrained(patch_embed="conv+spectrum")
    before = {name: value.clone() for name, value in base.state_dict().items()}
    net = finetuner(
        base, 2, preset=preset, ch_names=NAMES, max_epochs=4, batch_size=8, validation=None, lr=1e-2, verbose=0
    )
    net.fit(x, y)
    model = finetuned_model(net)
    assert type(model) is GramForClassification
    # A head on an untrained encoder of 16 numbers need not tell the classes apart; but it has moved.
    assert net.score(x, y) > 0.8 or preset == "linear"
    assert model.final_layer.weight.abs().max().item() > 1e-3
    assert all(torch.equal(value, before[name]) for name, value in base.state_dict().items())
    encoder = {name: value for name, value in model.encoder.state_dict().items()}
    same = [torch.equal(value, before[f"encoder.{name}"]) for name, value in encoder.items()]
    assert all(same) == (preset == "linear")
    if preset == "full":
        rates = {group["lr"] for group in net.optimizer_.param_groups}
        assert len(rates) == 5  # what makes tokens, three blocks, and what follows
