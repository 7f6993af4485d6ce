"""A network of integers: what it sees is decoded before, what it adds up is exact, and what it says can be coded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mne_labram.codec.context import (
    FEATURES,
    LARGEST,
    LEFT,
    MAX_EXPONENT,
    MEMORY,
    N_CLASSES,
    N_LEVELS,
    RIGHT,
    Neighbours,
    component_classes,
)
from mne_labram.codec.context_files import context_model_path, load_context_model, save_context_model
from mne_labram.codec.lanes import CoefficientLayout
from mne_labram.codec.wavefront import choose_distributions
from mne_labram.signal.contract import ContractError

MODELS = sorted(path.stem for path in context_model_path("hybrid").parent.glob("*.safetensors"))


@pytest.fixture(params=MODELS)
def model(request):
    return load_context_model(request.param)


def _magnitudes(shape, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.floor(rng.exponential(2.0 ** rng.uniform(-2, 4, shape))).astype(np.int64)


def _mean(row: np.ndarray, place: int, low: int, high: int) -> int:
    """Add up what lies in the row, and divide by all places asked for."""
    values = [int(row[k]) for k in range(place + low, place + high + 1) if 0 <= k < len(row)]
    return sum(values) // (high - low + 1)


def test_features_by_definition(model) -> None:
    shape = 3, 4, 11
    magnitudes, exponents = _magnitudes(shape, 0), np.random.default_rng(1).integers(0, MAX_EXPONENT + 1, shape[:2])
    magnitudes[0, 0, 0] = 10**7
    unit = [[round(2.0 ** (12 + e / 8)) for e in row] for row in exponents.tolist()]
    per_step = [[round(2.0 ** (16 - e / 8)) for e in row] for row in exponents.tolist()]
    values = np.minimum(magnitudes, LARGEST) * np.array(unit)[..., None]
    over_frames, over_channels = np.zeros_like(values), np.zeros_like(values)
    for c, t in np.ndindex(shape[:2]):
        before = over_frames[c, t - 1] if t else np.zeros(shape[2], int)
        over_frames[c, t] = before + (values[c, t] - before) // min(t + 1, MEMORY)
        before = over_channels[c - 1, t] if c else np.zeros(shape[2], int)
        over_channels[c, t] = before + (values[c, t] - before) // min(c + 1, MEMORY)
    nothing = np.zeros(shape[2], int)
    neighbours = Neighbours(exponents, shape[2])
    neighbours.fill(magnitudes)
    for c, t, k in np.ndindex(shape):
        rows = {
            "self": values[c, t],
            "frame": values[c, t - 1] if t else nothing,
            "older": values[c, t - 2] if t > 1 else nothing,
            "mean": over_frames[c, t - 1] if t else nothing,
            "channel": values[c - 1, t] if c else nothing,
            "channels": over_channels[c - 1, t] if c else nothing,
        }
        expected = [
            model.table[min(_mean(rows[source], k, low, high) * per_step[c][t] >> 24, len(model.table) - 1)]
            for source, low, high in FEATURES
        ]
        np.testing.assert_array_equal(neighbours.features(c, model.table)[t, k], expected)


@given(
    shape=st.tuples(st.integers(1, 70), st.integers(1, 5), st.integers(0, 45)).filter(lambda s: np.prod(s) < 4000),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40)
def test_the_compiled_way_is_the_same(shape, seed) -> None:
    """Number by number, everywhere and at single places."""
    model, rng = load_context_model("hybrid"), np.random.default_rng(seed)
    magnitudes, exponents = _magnitudes(shape, seed), rng.integers(0, MAX_EXPONENT + 1, shape[:2])
    layout = CoefficientLayout(exponents, rng.integers(0, N_LEVELS, shape[:2]), shape[2], (1000 + seed, 3))
    neighbours = Neighbours(exponents, shape[2])
    neighbours.fill(magnitudes)
    frequency = model.frequency_classes(shape[2], layout.bin_millihertz)
    expected = np.stack(
        [
            model.choose(
                neighbours.features(channel, model.table),
                model.bias(frequency, component, layout.levels[channel][:, None]),
            )
            for channel, component in enumerate(component_classes(shape[0]))
        ]
    )
    chosen = choose_distributions(model, magnitudes, layout)
    assert chosen.dtype == np.uint8
    np.testing.assert_array_equal(chosen, expected)
    places = np.flatnonzero(rng.random(chosen.size) < 0.3)
    np.testing.assert_array_equal(
        choose_distributions(model, magnitudes, layout, places=places), expected.reshape(-1)[places]
    )


def test_contexts_are_within_what_is_decoded() -> None:
    """Lags of three bins per channel and five per frame leave these neighbours."""
    reach = {"self": -1, "frame": 4, "older": 9, "mean": 4, "channel": 2, "channels": 2}
    for source, low, high in FEATURES:
        assert low <= high <= reach[source]
        assert -LEFT <= low
        assert high <= RIGHT


def test_sums_are_exact_in_float32(model) -> None:
    """Below 2 ** 24 in any order: all terms of one sign, at their largest."""

    def largest(weights: np.ndarray, *biases: np.ndarray) -> float:
        total = 255.0 * np.abs(weights.astype(np.float64)).sum(axis=0)
        return float((total + sum(np.abs(bias.astype(np.float64)).max(axis=0) for bias in biases)).max())

    assert largest(model.hidden, model.frequency, model.component, model.level) < 2**24
    assert largest(model.second, model.second_bias[None]) < 2**24
    assert largest(model.output[:, None], np.array([[model.output_bias]])) < 2**24


def test_distributions(model) -> None:
    """Every symbol can be coded, and every magnitude has a length close to its information."""
    assert model.probabilities.min() >= 1
    assert abs(model.probabilities.sum(axis=1).astype(int) - 2**16).max() < 64
    assert len(model.probabilities) <= 256
    assert model.shifts.shape == (len(model.probabilities),)
    assert 0 <= model.shifts.min()
    assert model.shifts.max() <= 16
    np.testing.assert_allclose((2.0**-model.code_lengths).sum(axis=1), 1, rtol=1e-5)
    assert model.table[0] == 0
    assert (np.diff(model.table.astype(int)) >= 0).all()
    assert (np.diff(model.edges) > 0).all()
    assert len(model.frequency) == len(model.edges) + 1
    assert len(model.component) == N_CLASSES
    assert len(model.level) == N_LEVELS


def test_classes(model) -> None:
    classes = component_classes(1000)
    np.testing.assert_array_equal(classes[:9], [0, 1, 2, 3, 4, 5, 6, 7, 8])
    assert classes[-1] == N_CLASSES - 1
    assert (np.diff(classes) >= 0).all()
    # The middle of a bin, in whole numbers: 100 bins of 1 / 3 Hz.
    middles = 1000 / 3 * (np.arange(100) + 0.5)
    np.testing.assert_array_equal(
        model.frequency_classes(100, (1000, 3)), np.searchsorted(model.edges, np.floor(middles), side="left")
    )


def test_files(model, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("mne_labram.codec.context_files._FOLDER", tmp_path)
    load_context_model.cache_clear()
    try:
        save_context_model(model, tmp_path / "a.safetensors")
        again = load_context_model("a", sha256=model.sha256)
        assert again.sha256 == model.sha256
        assert again.output_bias == model.output_bias
        assert isinstance(again.output_bias, int)
        assert replace(again, output_bias=again.output_bias + 1).sha256 != model.sha256
        with pytest.raises(ContractError, match=f"'a' of SHA-256 {'0' * 64}.*{model.sha256}"):
            load_context_model("a", sha256="0" * 64)
        for name in ("b", "../a", ""):
            with pytest.raises(ContractError, match="is not part of this version"):
                load_context_model(name, sha256="1" * 64)
        data = (tmp_path / "a.safetensors").read_bytes()
        for damaged in (data[:100], b"", data[: len(data) // 2], data.replace(b"output_bias", b"output_bass")):
            (tmp_path / "c.safetensors").write_bytes(damaged)
            load_context_model.cache_clear()
            with pytest.raises(ContractError, match="damaged"):
                load_context_model("c")
    finally:
        load_context_model.cache_clear()
