"""Packed linear maps are linear maps."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from torch import nn

from mne_labram.nn import packed
from mne_labram.nn.packed import PackedLinear, onednn_works

DTYPES = {torch.float32: 1e-6, torch.bfloat16: 1e-2}
KERNELS = [
    False,
    pytest.param(True, marks=pytest.mark.skipif(not onednn_works(torch.float32), reason="no oneDNN on this machine")),
]


def _draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected.double()).abs().max() / expected.abs().max())


@pytest.mark.parametrize("onednn", KERNELS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", [None, nn.GELU(), nn.GELU("tanh"), nn.ELU()], ids=str)
def test_it_maps(activation, bias, dtype, onednn):
    x, weight = _draw(77, 200), 0.1 * _draw(96, 200, seed=1)
    bias = _draw(96, seed=2) if bias else None
    linear = PackedLinear(weight, bias, dtype=dtype, activation=activation, onednn=onednn)
    expected = F.linear(x, weight, bias)
    if activation is not None:
        expected = activation(expected)
    y = linear(x.to(dtype))
    assert y.dtype == dtype
    assert _error(y, expected) < DTYPES[dtype]


@pytest.mark.parametrize("onednn", KERNELS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", [None, nn.GELU()], ids=str)
def test_it_adds_to_a_float32_stream(activation, dtype, onednn):
    x, weight, bias, stream = _draw(33, 64), 0.1 * _draw(64, 64, seed=1), _draw(64, seed=2), _draw(33, 64, seed=3)
    linear = PackedLinear(weight, bias, dtype=dtype, activation=activation, onednn=onednn)
    branch = F.linear(x, weight, bias)
    expected = stream + (branch if activation is None else activation(branch))
    y = linear.add_to(stream.clone(), x.to(dtype))
    assert y.dtype == torch.float32
    assert _error(y, expected) < DTYPES[dtype]


@given(n_rows=st.integers(1, 40), n_in=st.integers(1, 70), n_out=st.integers(1, 70))
def test_every_shape(n_rows, n_in, n_out):
    x, weight = _draw(n_rows, n_in), _draw(n_out, n_in, seed=1)
    onednn = onednn_works(torch.float32)
    y = PackedLinear(weight, None, dtype=torch.float32, activation=nn.GELU(), onednn=onednn)(x)
    assert torch.allclose(y, F.gelu(x @ weight.T), rtol=1e-4, atol=1e-5 * n_in)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_machine_without_onednn_is_found_out(dtype, monkeypatch):
    """Another architecture, a torch without it or without its operators, or one that computes something else."""
    ask = onednn_works.__wrapped__
    assert ask(dtype) == onednn_works(dtype)
    with monkeypatch.context() as patch:
        patch.setattr(packed.platform, "machine", lambda: "arm64")
        assert not ask(dtype)
    with monkeypatch.context() as patch:
        patch.setattr(packed, "_ONEDNN_OPERATORS", ("_no_such_operator",))
        assert not ask(dtype)
    with monkeypatch.context() as patch:
        patch.setattr(PackedLinear, "__call__", lambda self, x: x.new_zeros(len(x), self.n_out))
        assert not ask(dtype)

    def broken(self, x):
        raise RuntimeError("not supported on this processor")

    with monkeypatch.context() as patch:
        patch.setattr(PackedLinear, "__call__", broken)
        assert not ask(dtype)
