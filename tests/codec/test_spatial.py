"""Components are an orthonormal basis in every band, whatever the file says, and are told in few bytes."""

from __future__ import annotations

import base64
import json
import zlib

import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mne_labram.codec.lapped import lapped_transform
from mne_labram.codec.spatial import BAND_EDGES, SpatialBasis, _completed, fit_spatial_basis


@pytest.fixture(scope="module")
def pieces(shared_data):
    """Two excerpts of twenty seconds, channels of equal power."""
    raw = mne.io.read_raw(shared_data / "eegmat" / "Subject22_1.edf", verbose="ERROR")
    out = []
    for start in (0, 40 * 500):
        x = raw.get_data(picks=range(19), start=start, stop=start + 20 * 500)
        x = x - x.mean(axis=1, keepdims=True)
        out.append(lapped_transform(x / x.std(axis=1, keepdims=True), 500))
    return out


def _random_basis(n_channels: int, edges: tuple[float, ...], bits: int, seed: int) -> SpatialBasis:
    rng = np.random.default_rng(seed)
    limit = 2 ** (bits - 1) - 1
    return SpatialBasis(
        edges, rng.integers(-limit, limit + 1, (len(edges) + 1, n_channels, n_channels)).astype(np.int8), bits
    )


@given(
    n_channels=st.integers(1, 12),
    n_bins=st.integers(1, 40),
    edges=st.sampled_from(BAND_EDGES),
    bits=st.integers(2, 8),
    seed=st.integers(0, 999),
)
@settings(max_examples=60)
def test_there_and_back(n_channels, n_bins, edges, bits, seed) -> None:
    """Through JSON too: the very same matrices."""
    basis = _random_basis(n_channels, edges, bits, seed)
    x = np.random.default_rng(seed).standard_normal((n_channels, 3, n_bins))
    components = basis.to_components(x, 0.9)
    np.testing.assert_allclose(basis.to_channels(components, 0.9), x, atol=1e-10)
    np.testing.assert_allclose(np.square(components).sum(), np.square(x).sum(), rtol=1e-10)
    again = SpatialBasis.from_dict(json.loads(json.dumps(basis.to_dict())), n_channels)
    assert (again.edges, again.bits) == (basis.edges, basis.bits)
    np.testing.assert_array_equal(again.entries, basis.entries)
    np.testing.assert_array_equal(again.matrices, basis.matrices)


def test_bands_are_turned_by_their_own_matrix() -> None:
    basis = _random_basis(4, (3.0, 7.0), 8, 0)
    x = np.random.default_rng(0).standard_normal((4, 2, 20))
    components = basis.to_components(x, 0.5)
    for band, matrix in zip((slice(0, 6), slice(6, 14), slice(14, 20)), basis.matrices, strict=True):
        np.testing.assert_allclose(components[..., band], np.einsum("cd,ctk->dtk", matrix, x[..., band]))


def test_fitted_to_eeg(pieces) -> None:
    """Fewer bits than channels, though the basis itself is counted; components of falling variance."""
    basis = fit_spatial_basis(pieces, 0.5, bits=256 * 19 * 40, weight=10)
    assert len(basis.entries)
    fine = basis.to_components(pieces[0], 0.5)
    step = 0.3

    def proxy(x: np.ndarray) -> float:
        return float(np.log2(1 + np.abs(x) / step).sum())

    assert proxy(fine) < 0.9 * proxy(pieces[0])
    power = np.square(fine[..., :14]).sum(axis=(1, 2))
    assert power[0] > 5 * power[9]
    assert power[:3].sum() > 0.5 * power.sum()
    kept = [piece.copy() for piece in pieces]
    again = fit_spatial_basis(pieces, 0.5, bits=256 * 19 * 40, weight=10)
    np.testing.assert_array_equal(again.entries, basis.entries)
    for piece, before in zip(pieces, kept, strict=True):
        np.testing.assert_array_equal(piece, before)


def test_a_basis_is_told_only_where_it_pays(pieces) -> None:
    assert not len(fit_spatial_basis([piece[:1] for piece in pieces], 0.5, bits=1e4, weight=100).entries)
    # Independent channels of equal power.
    noise = [np.random.default_rng(0).standard_normal((8, 20, 100))]
    assert not len(fit_spatial_basis(noise, 0.5, bits=3e4, weight=1).entries)
    short = fit_spatial_basis([pieces[0][:, :2]], 0.5, bits=64 * 19, weight=1)
    long = fit_spatial_basis(pieces, 0.5, bits=512 * 19 * 40, weight=1000)
    assert len(short.to_dict()["entries"]) < len(long.to_dict()["entries"])


@pytest.mark.parametrize("value", [0.0, 1e-3, 1e9])
def test_signals_without_components(value) -> None:
    """Silence, and a constant: any basis, but a basis."""
    basis = fit_spatial_basis([np.full((5, 3, 20), value)], 1.0, bits=1000, weight=5)
    x = np.random.default_rng(0).standard_normal((5, 2, 20))
    np.testing.assert_allclose(basis.to_channels(basis.to_components(x, 1.0), 1.0), x, atol=1e-10)


def test_no_basis() -> None:
    fields = SpatialBasis((), np.zeros((0, 3, 3), np.int8), 8).to_dict()
    assert fields["entries"] == ""
    basis = SpatialBasis.from_dict(fields, 3)
    x = np.ones((3, 2, 5))
    np.testing.assert_array_equal(basis.to_components(x, 1.0), x)


def test_damaged_json() -> None:
    good = _random_basis(6, (7.0,), 8, 0).to_dict()
    assert SpatialBasis.from_dict(good, 6).bits == 8
    packed = good["entries"]
    bomb = base64.b64encode(zlib.compress(bytes(10**8))).decode()
    for change in (
        {"entries": packed[:-5]},
        {"entries": packed[: len(packed) // 8 * 4]},
        {"entries": "?" + packed[1:]},
        {"entries": "ä" + packed[1:]},
        {"entries": bomb},
        {"entries": base64.b64encode(zlib.compress(bytes(71))).decode()},
        {"entries": 7},
        {"bits": 1},
        {"bits": 9},
        {"bits": "eight"},
        {"bits": None},
        {"edges": []},
        {"edges": [3.0, 7.0]},
        {"edges": 7.0},
        {"edges": ["low"]},
        {"edges": [float("nan")]},
        {"edges": [float("inf")]},
        {"edges": [-1.0]},
    ):
        with pytest.raises(ValueError, match="spatial basis"):
            SpatialBasis.from_dict(good | change, 6)
    with pytest.raises(ValueError, match="spatial basis in this file is not one for 5 channels"):
        SpatialBasis.from_dict(good, 5)
    for missing in good:
        with pytest.raises(ValueError, match="spatial basis"):
            SpatialBasis.from_dict({name: value for name, value in good.items() if name != missing}, 6)
    two = _random_basis(3, (3.0, 7.0), 8, 0).to_dict()
    with pytest.raises(ValueError, match="spatial basis"):
        SpatialBasis.from_dict(two | {"edges": [7.0, 3.0]}, 3)


def test_noise_decides_nothing() -> None:
    """Of a flat channel, libraries of linear algebra give zeros of either sign, or what is left of rounding."""
    vectors = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 2)))[0]
    found = []
    for zero in (0.0, -0.0, 1e-17, -1e-17):
        found.append(_completed(np.vstack([np.full((1, 2), zero), vectors])))
        assert np.allclose(found[-1].T @ found[-1], np.eye(5), atol=1e-12)
        assert np.allclose(found[-1], found[0], atol=1e-12)
