"""The number format follows the processor."""

from __future__ import annotations

import pytest
import torch

from mne_labram.nn.precision import PRECISIONS, autocast, native_bf16, resolve_precision


@pytest.fixture
def processor(monkeypatch):
    """Make a CPU with given capabilities, as torch tells them."""

    def make(**flags: bool) -> None:
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags, raising=False)

    return make


def test_native_bf16_by_flags(processor):
    processor(avx512_bf16=True, amx_bf16=False)
    assert native_bf16() == "AVX512-BF16"
    processor(avx512_bf16=True, amx_bf16=True)
    assert native_bf16("cpu") == "AMX"
    processor(avx2=True, avx512_f=True)
    assert native_bf16() is None
    processor(neon=True, bf16=True)  # Arm has other flags
    assert native_bf16() is None


def test_torch_without_get_capabilities(processor, monkeypatch):
    processor()
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    assert native_bf16() == "AVX512-BF16"
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert native_bf16() == "AMX"
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    assert native_bf16() is None


def test_without_onednn_nothing_uses_the_unit(processor, monkeypatch):
    processor(avx512_bf16=True)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert native_bf16() is None


def test_other_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert native_bf16("cuda") is None
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert native_bf16("cuda:0") == "tensor cores"
    assert native_bf16("mps") is None


def test_auto_takes_what_the_processor_does_well(processor):
    processor(avx512_bf16=True)
    assert resolve_precision("auto") == "bf16"
    processor()
    assert resolve_precision("auto") == "float32"


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_choice_is_a_choice(precision, processor):
    for flags in ({}, {"avx512_bf16": True}):
        processor(**flags)
        assert resolve_precision(precision) == precision


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "", "BF16"])
def test_others_are_refused(precision):
    assert precision not in PRECISIONS
    with pytest.raises(ValueError, match=r"precision must be one of 'auto', 'float32', 'bf16'"):
        resolve_precision(precision)


def test_autocast():
    x, weight = torch.ones(2, 3), torch.ones(3, 2)
    with autocast("bf16"):
        assert (x @ weight).dtype == torch.bfloat16
    with autocast("float32"):
        assert (x @ weight).dtype == torch.float32
