"""Directions over channels in which a recording is coded, band by band."""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mne_labram.codec.quantization import PROXY

__all__ = ["BAND_EDGES", "SpatialBasis", "fit_spatial_basis"]

#: Borders of bands in Hz, for a basis of each: rhythms have other sources than drifts. Fewer bands take fewer bits.
BAND_EDGES: tuple[tuple[float, ...], ...] = ((), (7.0,), (3.0, 7.0, 14.0), (3.0, 7.0, 14.0, 30.0))
# Entries of a basis are told in so many bits.
_BITS = (5, 8)


@dataclass(frozen=True)
class SpatialBasis:
    """An orthonormal basis over channels for each band.

    Parameters
    ----------
    edges : tuple of float
        Borders between bands in Hz.
    entries : array of int8, shape (n_bands, n_channels, n_channels)
        Bases, one component per column, in units of ``2 ** (1 - bits)``; empty for none: channels are coded as they
        are.
    bits : int
        Of an entry.
    """

    edges: tuple[float, ...]
    entries: np.ndarray
    bits: int

    @cached_property
    def matrices(self) -> np.ndarray:
        """The nearest orthonormal matrices, shape (n_bands, n_channels, n_channels)."""
        left, _, right = np.linalg.svd(self.entries.astype(np.float64), full_matrices=False)
        return np.stack([_completed(vectors) for vectors in left @ right])

    def _bands(self, n_bins: int, hertz_per_bin: float) -> list[slice]:
        borders = [0, *(min(n_bins, round(edge / hertz_per_bin)) for edge in self.edges), n_bins]
        return [slice(a, b) for a, b in zip(borders[:-1], borders[1:], strict=True)]

    def to_components(self, coefficients: np.ndarray, hertz_per_bin: float) -> np.ndarray:
        """Turn channels into components.

        Parameters
        ----------
        coefficients : array of float, shape (n_channels, n_frames, n_bins)
            Of channels.
        hertz_per_bin : float
            Width of a bin.

        Returns
        -------
        coefficients : array of float64, shape (n_channels, n_frames, n_bins)
            Of components, of falling variance in the recording as a whole.
        """
        return self._apply(coefficients, hertz_per_bin, transpose=True)

    def to_channels(self, coefficients: np.ndarray, hertz_per_bin: float) -> np.ndarray:
        """Turn components into channels.

        Parameters
        ----------
        coefficients : array of float, shape (n_channels, n_frames, n_bins)
            Of components.
        hertz_per_bin : float
            Width of a bin.

        Returns
        -------
        coefficients : array of float64, shape (n_channels, n_frames, n_bins)
            Of channels.
        """
        return self._apply(coefficients, hertz_per_bin, transpose=False)

    def _apply(self, coefficients: np.ndarray, hertz_per_bin: float, transpose: bool) -> np.ndarray:
        if not len(self.entries):
            return coefficients
        out = np.empty(coefficients.shape)
        for matrix, band in zip(self.matrices, self._bands(coefficients.shape[2], hertz_per_bin), strict=True):
            matrix = matrix.T if transpose else matrix
            piece = coefficients[..., band]
            out[..., band] = (matrix @ piece.reshape(len(piece), -1)).reshape(piece.shape)
        return out

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        packed = base64.b64encode(zlib.compress(np.ascontiguousarray(self.entries).tobytes(), 9)).decode()
        return {
            "edges": list(self.edges),
            "n_components": self.entries.shape[2],
            "bits": self.bits,
            "entries": packed if len(self.entries) else "",
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any], n_channels: int) -> SpatialBasis:
        """Undo :meth:`to_dict`.

        Parameters
        ----------
        fields : dict
            From :meth:`to_dict`.
        n_channels : int
            Of the recording.

        Returns
        -------
        basis : SpatialBasis
            The same.

        Raises
        ------
        ValueError
            If this is no basis for so many channels.
        """
        try:
            edges, bits = tuple(float(edge) for edge in fields["edges"]), int(fields["bits"])
            if not fields["entries"]:
                return cls((), np.zeros((0, n_channels, n_channels), np.int8), bits)
            # No more than there can be, so that no more is unpacked.
            n_components = min(max(int(fields["n_components"]), 0), n_channels + 1)
            size = (len(edges) + 1) * n_channels * n_components
            raw = zlib.decompressobj().decompress(base64.b64decode(fields["entries"], validate=True), size + 1)
        except (KeyError, TypeError, ValueError, zlib.error) as error:
            raise ValueError("The spatial basis in this file is damaged.") from error
        ascending = all(a < b for a, b in zip((0.0, *edges), (*edges, math.inf), strict=True))
        if len(raw) != size or not 0 < n_components <= n_channels or not 2 <= bits <= 8 or not ascending:
            raise ValueError(f"The spatial basis in this file is not one for {n_channels} channels.")
        return cls(edges, np.frombuffer(raw, np.int8).reshape(len(edges) + 1, n_channels, -1), bits)


def _without(n_channels: int) -> SpatialBasis:
    return SpatialBasis((), np.zeros((0, n_channels, n_channels), np.int8), 8)


def _completed(vectors: np.ndarray) -> np.ndarray:
    """Add columns to orthonormal ones until the matrix is square, by Householder's reflections.

    Written out, so that encoder and decoder find the same columns, whatever library of linear algebra they have.
    """
    n_channels, n_components = vectors.shape
    if n_components == n_channels:
        return vectors
    left, whole = vectors.copy(), np.eye(n_channels)
    for index in range(n_components):
        mirror = left[index:, index].copy()
        norm = np.linalg.norm(mirror)
        # A channel that lies flat gives zeros here, whose sign is noise: it must not decide.
        mirror[0] += norm if mirror[0] > -1e-6 else -norm
        mirror /= np.linalg.norm(mirror)
        left[index:] -= 2 * np.outer(mirror, mirror @ left[index:])
        whole[:, index:] -= 2 * np.outer(whole[:, index:] @ mirror, mirror)
    whole[:, :n_components] = vectors
    return whole


def _fitted(
    pieces: Sequence[np.ndarray], hertz_per_bin: float, edges: tuple[float, ...], bits: int, rank: int
) -> SpatialBasis:
    """Take principal components of every band."""
    probe = SpatialBasis(edges, np.zeros((0, 0, 0), np.int8), bits)
    entries = []
    for band in probe._bands(pieces[0].shape[2], hertz_per_bin):
        rows = np.concatenate([piece[..., band].reshape(len(piece), -1) for piece in pieces], axis=1)
        _, vectors = np.linalg.eigh(rows @ rows.T)
        vectors = vectors[:, ::-1][:, :rank]
        # The sign of an eigenvector is not determined; the largest entry shall be positive.
        largest = np.abs(vectors).argmax(axis=0)
        vectors = vectors * np.sign(vectors[largest, np.arange(rank)])
        limit = 2 ** (bits - 1) - 1
        entries.append(np.clip(np.round(vectors * 2 ** (bits - 1)), -limit, limit).astype(np.int8))
    return SpatialBasis(edges, np.stack(entries), bits)


def fit_spatial_basis(
    pieces: Sequence[np.ndarray], hertz_per_bin: float, *, bits: float, weight: float
) -> SpatialBasis:
    """Choose the basis that takes the fewest bits, its own included.

    Parameters
    ----------
    pieces : sequence of array of float, shape (n_channels, n_frames, n_bins)
        Coefficients of excerpts of the recording, in the unit in which errors of channels count alike.
    hertz_per_bin : float
        Width of a bin.
    bits : float
        What the coefficients of these excerpts are going to take.
    weight : float
        How much more the whole recording holds than the excerpts.

    Returns
    -------
    basis : SpatialBasis
        Principal components of each band (Karhunen-Loeve transform), or none.
    """
    n_channels = len(pieces[0])
    best = _without(n_channels)
    if n_channels == 1:
        return best

    def proxy(coefficients: Sequence[np.ndarray], step: float) -> float:
        return PROXY * sum(float(np.log2(1 + np.abs(each) / step).sum()) for each in coefficients)

    fine = _fitted(pieces, hertz_per_bin, BAND_EDGES[-1], 8, n_channels)
    decorrelated = [fine.to_components(piece, hertz_per_bin) for piece in pieces]
    # The step at which the recording would be coded.
    low, high = -60.0, 60.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (low, middle) if proxy(decorrelated, 2.0**middle) <= bits else (middle, high)
    step = 2.0**high

    def total(basis: SpatialBasis) -> float:
        coded = [basis.to_components(piece, hertz_per_bin) for piece in pieces]
        # Base64 writes six bits as eight; the file's header is compressed once more.
        return weight * proxy(coded, step) + 6.0 * len(basis.to_dict()["entries"])

    ranks = sorted({max(1, n_channels // part) for part in (1, 2, 4, 8)})
    # Bands first, then what they are told with: all together would take long with many channels.
    first = [_fitted(pieces, hertz_per_bin, edges, 8, ranks[-1]) for edges in BAND_EDGES]
    edges = min(first, key=total).edges
    candidates = [
        _fitted(pieces, hertz_per_bin, borders, precision, rank)
        for borders in dict.fromkeys(((), edges))
        for precision in _BITS
        for rank in ranks
    ]
    return min([best, *candidates], key=total)
