"""The models that every test of this folder runs on; a new model adds a row."""

from __future__ import annotations

from typing import Any, NamedTuple

import mne
import pytest
import torch
from torch import nn

from mne_labram.models import (
    BrainCodec,
    BrainCodecForSeizure,
    BrainForge,
    DeepSIF,
    EEGFoundationForClassification,
    EEGFoundationForMaskedModeling,
    GramForClassification,
    GramForRestoration,
    GramTokenizer,
    LabramForClassification,
    LabramForMaskedModeling,
    LabramTokenizer,
    NeuroStorm,
)
from mne_labram.signal.positions import electrode_positions

CH_NAMES = ["FP1", "CZ", "T7", "O2"]
SFREQ, N_TIMES = 200.0, 600


class Row(NamedTuple):
    """A model to test."""

    cls: type[nn.Module]
    kwargs: dict[str, Any]  # small sizes
    output_shape: tuple[int, ...]  # for a batch of 2 windows of N_TIMES samples of CH_NAMES
    n_outputs: int | None = None  # None: not a classifier
    ch_names: list[str] = CH_NAMES
    # Parameters whose gradient is zero by construction: a constant added to every key cancels in the softmax, and at
    # this width every filter is a group of its own, whose mean GroupNorm takes away.
    no_gradient: tuple[str, ...] = ("k_norm.bias", "conv1.bias", "conv2.bias", "conv3.bias")
    fixed: bool = False  # The weights know the channels: it cannot be bound to others.


TINY = {"embed_dim": 16, "num_layers": 2, "num_heads": 2}
CODES = {"n_codes": 8, "code_dim": 4, "decoder_layers": 1}
_ENCODER_BIASES = tuple(f"encoder.patch_embed.conv{i}.bias" for i in (1, 2, 3))
_DECODER = {"decoder_dim": 16, "decoder_layers": 1, "decoder_heads": 2}
ROWS: dict[str, Row] = {
    "classification": Row(LabramForClassification, TINY, (2, 3), 3),
    "classification-cls": Row(LabramForClassification, {**TINY, "pooling": "cls"}, (2, 3), 3),
    "classification-coordinates": Row(
        LabramForClassification,
        {**TINY, "spatial": "coordinates", "patch_embed": "conv+spectrum", "input_scale": 10.0},
        (2, 3),
        3,
        ch_names=["FP1-F3", "F3-C3", "FZ", "FZ-CZ"],
    ),
    "neurostorm": Row(
        NeuroStorm,
        {**TINY, "spatial": "coordinates", "input_scale": 10.0},
        (2, 3),
        3,
        ch_names=["FP1-F3", "F3-C3", "FZ", "FZ-CZ"],
    ),
    "neurostorm-relative": Row(
        NeuroStorm,
        {**TINY, "amplitude": "relative", "spatial": "names", "patch_embed": "conv", "input_scale": 100.0},
        (2, 3),
        3,
    ),
    "masked": Row(LabramForMaskedModeling, {**TINY, "n_codes": 8}, (2, 12, 8)),
    "masked-repaired": Row(
        LabramForMaskedModeling, {**TINY, "n_codes": 8, "cls_position": "cls_row", "symmetric": False}, (2, 12, 8)
    ),
    "tokenizer": Row(LabramTokenizer, {**TINY, **CODES}, (2, 4, 3, 400)),
    "tokenizer-log": Row(
        LabramTokenizer, {**TINY, **CODES, "target": "log_amplitude", "kmeans_init": False}, (2, 4, 3, 45)
    ),
    "tokenizer-sincos": Row(LabramTokenizer, {**TINY, **CODES, "target": "amplitude+sincos"}, (2, 4, 3, 303)),
    "gram-classification": Row(GramForClassification, TINY, (2, 3), 3),
    "gram-classification-coordinates": Row(
        GramForClassification,
        {**TINY, "spatial": "coordinates", "patch_embed": "conv+spectrum", "input_scale": 10.0, "pooling": "mean"},
        (2, 3),
        3,
        ch_names=["FP1-F3", "F3-C3", "FZ", "FZ-CZ"],
    ),
    "gram-tokenizer": Row(GramTokenizer, {**TINY, **CODES}, (2, 4, 3, 200), no_gradient=_ENCODER_BIASES),
    "gram-tokenizer-spectrum": Row(
        GramTokenizer,
        {**TINY, **CODES, "target": "signal+spectrum", "kmeans_init": False},
        (2, 4, 3, 245),
        no_gradient=_ENCODER_BIASES,
    ),
    "gram-restoration": Row(GramForRestoration, {**TINY, **_DECODER, "n_codes": 8}, (2, 12, 8)),
    "gram-restoration-log": Row(
        GramForRestoration,
        {**TINY, **_DECODER, "n_codes": 8, "mimic": "log_amplitude", "masking": "mixed", "spatial": "coordinates"},
        (2, 12, 8),
        ch_names=["FP1-F3", "F3-C3", "FZ", "FZ-CZ"],
    ),
}
_CODEC = {"ratios": [2, 4], "n_filters": 2, "max_filters": 4, "dim": 8, "n_codebooks": 2, "codebook_size": 8}
# Those that have not LaBraM's tokens of one second; they promise less.
CODECS: dict[str, Row] = {
    "braincodec": Row(BrainCodec, {**_CODEC, "input_scale": 20.0, "dead_code_threshold": 0.0}, (2, 4, N_TIMES)),
    "braincodec-linear": Row(
        BrainCodec,
        {**_CODEC, "linear_path": True, "gain": True, "codebook_dim": 4, "cosine": True, "quantizer_dropout": 0.5},
        (2, 4, N_TIMES),
    ),
}
CODECS["braincodec-seizure"] = Row(
    BrainCodecForSeizure,
    {**{name: _CODEC[name] for name in ("ratios", "n_filters", "max_filters", "dim")}, "freeze_encoder": False},
    (2, 3),
    3,
)
CODECS |= {
    "eegfoundation-masked": Row(EEGFoundationForMaskedModeling, TINY, (2, 4, N_TIMES, 2006)),
    "eegfoundation-masked-patches": Row(
        EEGFoundationForMaskedModeling,
        {**TINY, "input": "patches", "amplitude": "mulaw", "masking": "span", "smoothing": 5.0, "fusion_layers": 1}
        | {"spectral_weight": 1.0},
        (2, 4, N_TIMES, 2006),
    ),
    "eegfoundation": Row(EEGFoundationForClassification, {**TINY, "head_dim": 16}, (2, 3), 3),
    "eegfoundation-names": Row(
        EEGFoundationForClassification,
        {
            **TINY,
            "head_dim": 16,
            "input": "patches",
            "amplitude": "robust",
            "spatial": "names",
            "pooling": "attention",
        },
        (2, 3),
        3,
    ),
}
CODECS["brainforge"] = Row(
    BrainForge, {"n_sources": 40, "embed_dim": 8, "time_dim": 8, "num_heads": 2}, (2, 40, N_TIMES)
)
CODECS |= {
    "deepsif": Row(DeepSIF, {"n_sources": 12, "hidden_dim": 8, "num_layers": 2}, (2, 12, N_TIMES), fixed=True),
    "deepsif-narrow": Row(
        DeepSIF, {"n_sources": 40, "hidden_dim": 8, "lstm_dim": 6, "num_layers": 1}, (2, 40, N_TIMES), fixed=True
    ),
}
CLASSIFIERS = {name: row for name, row in {**ROWS, **CODECS}.items() if row.n_outputs is not None}

every_model = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
all_models = pytest.mark.parametrize("row", [*ROWS.values(), *CODECS.values()], ids=[*ROWS, *CODECS])
bindable_models = pytest.mark.parametrize(
    "row",
    [row for row in (*ROWS.values(), *CODECS.values()) if not row.fixed],
    ids=[name for name, row in {**ROWS, **CODECS}.items() if not row.fixed],
)
every_classifier = pytest.mark.parametrize("row", CLASSIFIERS.values(), ids=CLASSIFIERS)


def build(row: Row, **changes: Any) -> nn.Module:
    torch.manual_seed(0)
    arguments = {"n_outputs": row.n_outputs, "ch_names": row.ch_names, "n_times": N_TIMES, **row.kwargs, **changes}
    return row.cls(**arguments)


def signal(n: int = 2, n_times: int = N_TIMES, n_chans: int = 4) -> torch.Tensor:
    return 30 * torch.randn(n, n_chans, n_times, generator=torch.Generator().manual_seed(1))


def compute_loss(row: Row, model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Compute what training minimises."""
    if row.n_outputs is not None:
        return nn.functional.cross_entropy(model(x), torch.arange(len(x)) % row.n_outputs)
    if isinstance(model, LabramForMaskedModeling | GramForRestoration):
        torch.manual_seed(0)
        cls = LabramTokenizer if isinstance(model, LabramForMaskedModeling) else GramTokenizer
        return model.training_step(x, tokenizer(row.ch_names, cls))["loss"]
    torch.manual_seed(0)
    if isinstance(model, BrainForge | DeepSIF):
        # A source that every window has, and what the electrodes see of it beside the signal.
        sources = torch.zeros(len(x), model.n_sources, x.shape[2])
        sources[:, 7] = 100 * torch.sin(torch.arange(x.shape[2]) / 5)
        leadfield = model.geometry.leadfield if isinstance(model, BrainForge) else torch.ones(4, model.n_sources)
        x = x + leadfield @ sources
        return model.training_step({"x": x, "sources": sources, "active": sources.any(dim=2)})["loss"]
    return model.training_step(x)["loss"]


def tokenizer(ch_names: list[str], cls: type[nn.Module] = LabramTokenizer) -> nn.Module:
    torch.manual_seed(3)
    return cls(ch_names=ch_names, spatial="coordinates", **TINY, **CODES)


def channel_info(ch_names: list[str]) -> list[dict]:
    info = mne.create_info([name.replace("CZ", "Cz") for name in ch_names], SFREQ, "eeg")
    for ch, position in zip(info["chs"], electrode_positions(ch_names), strict=True):
        ch["loc"][:3] = position[:3]
    return info["chs"]
