"""What every model makes of its channels: binding, order, contract."""

from __future__ import annotations

import itertools
import pickle

import pytest
import torch
from torch import nn

from mne_labram.models import (
    GramForClassification,
    GramForRestoration,
    GramTokenizer,
    LabramForMaskedModeling,
)
from mne_labram.signal.contract import SignalContract

from .rows import Row, bindable_models, build, every_model, signal


@every_model
def test_other_channels_at_forward(row: Row) -> None:
    model = build(row)
    with pytest.raises(ValueError, match=f"Input has 3 channels, but {row.cls.__name__} is bound to 4"):
        model(signal(n_chans=3))
    with pytest.raises(ValueError, match="Input must have the shape"):
        model(signal()[0])


@every_model
def test_tokens_are_channel_major(row: Row) -> None:
    """Without position embeddings and blocks, a token is a function of its own patch and the sample's statistics."""
    model = build(row, drop_prob=0.0).eval()
    model.encoder.blocks = nn.ModuleList()
    x = signal(1)
    # Statistics of the sample do not change when two patches are exchanged.
    swapped = x.clone()
    swapped[:, 1, 400:600], swapped[:, 2, 0:200] = x[:, 2, 0:200], x[:, 1, 400:600]
    with torch.no_grad():
        model.encoder.time_embed.zero_()
        for table in itertools.chain(model.encoder.spatial_embed.parameters(), model.encoder.spatial_embed.buffers()):
            table.zero_()
        before, after = model.embed(x, "tokens"), model.embed(swapped, "tokens")
    torch.testing.assert_close(after[:, 1, 2], before[:, 2, 0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(after[:, 2, 0], before[:, 1, 2], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(after[:, 3], before[:, 3], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(before[:, 1, 2], before[:, 2, 0], atol=1e-2)


@every_model
def test_contract(row: Row) -> None:
    model = build(row)
    contract = model.contract
    assert isinstance(contract, SignalContract)
    assert (contract.sfreq, contract.patch_samples, contract.max_patches) == (200.0, 200, 16)
    assert contract.scale == row.kwargs.get("input_scale", 100.0)
    coordinates = row.kwargs.get("spatial") == "coordinates"
    gram = issubclass(row.cls, GramTokenizer | GramForRestoration | GramForClassification)
    assert contract.vocabulary == (None if coordinates else "gram" if gram else "labram")
    assert contract.montages == (("referential", "bipolar") if coordinates else ("referential",))
    assert model.bind_channels(["T7-P7"]).contract.montages == ("bipolar",)
    assert build(row, contract=SignalContract(reference="average")).contract.reference == "average"
    with pytest.raises(ValueError, match="Unknown fields in a signal contract: lowpass"):
        build(row, contract={"lowpass": 1})


@bindable_models
def test_binding_shares_every_parameter(row: Row) -> None:
    model = build(row).eval()
    expected, config = model(signal()), model.get_config()
    bound = model.bind_channels(["Fp2", "EEG T7-REF"])
    assert bound.ch_names == ["FP2", "T7"]
    assert bound.n_chans == 2
    for (name, ours), (_, theirs) in zip(model.named_parameters(), bound.named_parameters(), strict=True):
        assert ours is theirs, name
    assert bound(signal(n_chans=2)).shape[0] == 2
    # The original is what it was; the copy says what it is, can be copied itself, and can be bound back.
    assert torch.equal(model(signal()), expected)
    assert model.get_config() == config
    assert model.ch_names == row.ch_names
    assert row.cls.from_config(bound.get_config()).ch_names == ["FP2", "T7"]
    assert pickle.loads(pickle.dumps(bound)).ch_names == ["FP2", "T7"]
    assert torch.equal(bound.bind_channels(row.ch_names)(signal()), expected)
    # Training the one trains the other.
    with torch.no_grad():
        for parameter in bound.encoder.parameters():
            nn.init.normal_(parameter)
    assert not torch.equal(model(signal()), expected)


@every_model
def test_order_of_channels_does_not_matter(row: Row) -> None:
    model = build(row).eval()
    order = [2, 0, 3, 1]
    permuted = model.bind_channels([row.ch_names[i] for i in order])
    if isinstance(model, LabramForMaskedModeling) and model.cls_position == "first_channel":
        # The official slip makes the CLS token, and through it everything, depend on which channel comes first.
        assert not torch.allclose(permuted.embed(signal()[:, order]), model.embed(signal()), rtol=1e-4, atol=1e-5)
        return
    torch.testing.assert_close(permuted.embed(signal()[:, order]), model.embed(signal()), rtol=1e-4, atol=1e-5)
