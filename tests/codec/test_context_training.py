"""What the network of integers is fitted to, and that fitting it twice gives the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mne_labram.codec.context import FEATURES, N_LEVELS, Neighbours, component_classes
from mne_labram.codec.context_training import (
    collect_contexts,
    fit_context_model,
    magnitude_table,
    millihertz_edges,
)
from mne_labram.codec.wavefront import (
    CoefficientLayout,
    choose_distributions,
    decode_coefficients,
    encode_coefficients,
    magnitude_bits,
)

BIN = (1000, 2)


def _blocks(n: int = 6) -> list[tuple[np.ndarray, np.ndarray, tuple[int, int], np.ndarray]]:
    """Make blocks whose magnitudes fall with frequency and change from frame to frame."""
    out = []
    for seed in range(n):
        rng = np.random.default_rng(seed)
        scale = 6 * np.exp(-np.arange(40) / 10) * np.exp(rng.standard_normal((3, 8, 1)))
        magnitudes = np.floor(rng.exponential(scale)).astype(np.int64)
        levels = rng.integers(10, 20, (3, 8))
        out.append((magnitudes, np.zeros((3, 8), int), BIN, levels))
    return out


@pytest.fixture(scope="module")
def sample():
    return collect_contexts(_blocks(), per_block=900, seed=3)


def test_tables() -> None:
    table, edges = magnitude_table(), millihertz_edges()
    assert (table.dtype, table[0], table[-1], len(table)) == (np.uint8, 0, 255, 4096)
    assert (np.diff(table.astype(int)) >= 0).all()
    assert (np.diff(edges) > 0).all()
    assert (edges[0], edges[-1], len(edges)) == (500, 200_000, 39)


def test_contexts_that_are_drawn(sample) -> None:
    """Each is that of its coefficient, and no coefficient comes twice."""
    assert len(sample.magnitude) == 6 * 900
    assert sample.features.shape == (6 * 900, len(FEATURES))
    again = collect_contexts(_blocks(), per_block=900, seed=3)
    for one, other in zip(sample, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert (collect_contexts(_blocks(), per_block=900, seed=4).magnitude != sample.magnitude).any()
    # All of a block: in order, so that every field can be told.
    magnitudes, exponents, _, levels = _blocks(1)[0]
    whole = collect_contexts(_blocks(1), per_block=10**6)
    np.testing.assert_array_equal(whole.magnitude, magnitudes.ravel())
    np.testing.assert_array_equal(whole.level, np.repeat(levels.ravel(), 40))
    np.testing.assert_array_equal(whole.component, np.repeat(component_classes(3), 8 * 40))
    middles = np.arange(40) * 500 + 250
    np.testing.assert_array_equal(whole.frequency, np.tile(np.searchsorted(millihertz_edges(), middles), 24))
    neighbours = Neighbours(exponents, 40)
    neighbours.fill(magnitudes)
    features = np.stack([neighbours.features(channel, magnitude_table()) for channel in range(3)])
    np.testing.assert_array_equal(whole.features, features.reshape(-1, len(FEATURES)))


def test_fitting(sample) -> None:
    """The same twice, whatever torch's own generator; better than without contexts; and a coder works with it."""
    options = {"n_hidden": 8, "n_second": 4, "n_distributions": 24, "n_steps": 400, "batch": 512, "seed": 1}
    torch.manual_seed(0)
    model = fit_context_model(sample, **options)
    state = torch.random.get_rng_state()
    assert fit_context_model(sample, **options).sha256 == model.sha256
    assert torch.equal(torch.random.get_rng_state(), state)
    assert fit_context_model(sample, **options | {"seed": 2, "n_steps": 2}).sha256 != model.sha256
    assert model.hidden.shape == (len(FEATURES), 8)
    assert model.level.shape == (N_LEVELS, 8)
    assert model.probabilities.shape == (24, 18)
    assert model.probabilities.min() >= 1
    bits, shares = 0.0, np.zeros(10_000)
    for magnitudes, exponents, bin_millihertz, levels in _blocks(9)[6:]:
        layout = CoefficientLayout(exponents, levels, 40, bin_millihertz)
        signed = np.where(np.arange(40) % 2, magnitudes, -magnitudes)
        np.testing.assert_array_equal(
            decode_coefficients(model, encode_coefficients(model, signed, layout), layout), signed
        )
        chosen = choose_distributions(model, magnitudes, layout)
        bits += float((magnitude_bits(model, magnitudes, chosen) - (magnitudes > 0)).sum())
        shares += np.bincount(magnitudes.ravel(), minlength=len(shares))
    found = shares[shares > 0]
    entropy = -(found * np.log2(found / found.sum())).sum()
    assert bits < 0.85 * entropy
