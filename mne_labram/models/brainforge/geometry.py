"""Where sources and electrodes are, and which sources are neighbours, as a network needs it."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy
import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["SourceGeometry", "scalp_image_weights"]

# Steps along the surface that activity is averaged over, beside single steps.
_FAR = 3
# Metres that positions are divided by.
_HEAD = 0.1


def scalp_image_weights(electrodes: np.ndarray, size: int) -> np.ndarray:
    """Return how near each electrode is to each pixel of an image of the scalp.

    Parameters
    ----------
    electrodes : ndarray, shape (n_chans, 3)
        Positions in metres, head frame.
    size : int
        Pixels on a side.

    Returns
    -------
    nearness : ndarray, shape (size ** 2, n_chans)
        Values of Gaussian bumps; an image is ``nearness @ (x * visible) / (nearness @ visible)``, a linear map of the
        signal that any electrodes may be missing from.

    Notes
    -----
    Azimuthal equidistant projection from the centre of the head upwards, as maps of the scalp are drawn; the image
    reaches down to 20 degrees below the equator. The bumps are a pixel and a half wide (kernel regression: Nadaraya
    1964, Theory Probab Appl 9:141-142).
    """
    centre = np.array([0.0, 0.016, 0.045])
    direction = electrodes - centre
    direction = direction / np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-9)
    angle = np.arccos(np.clip(direction[:, 2], -1, 1)) / math.radians(110.0)
    azimuth = np.arctan2(direction[:, 1], direction[:, 0])
    place = np.stack([angle * np.cos(azimuth), angle * np.sin(azimuth)], axis=1)
    axis = (np.arange(size) + 0.5) / size * 2 - 1
    pixels = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    distance = np.square(pixels[:, None] - place[None]).sum(axis=2)
    width = 1.5 * 2.0 / size
    return np.exp(-distance / (2 * width**2)) + 1e-6


class SourceGeometry(nn.Module):
    """A head: its leadfield, places, and neighbours; no parameters, and no part of a checkpoint.

    Parameters
    ----------
    leadfield : array-like, shape (n_chans, n_sources)
        µV per nAm, in any reference.
    positions, normals : array-like, shape (n_sources, 3)
        Metres in the head frame; directions of length 1.
    neighbours : scipy.sparse matrix of shape (n_sources, n_sources)
        Which sources lie next to each other.
    electrodes : array-like, shape (n_chans, 3)
        Metres, head frame.
    image_size : int
        Pixels on a side of the image of the scalp.
    """

    def __init__(
        self,
        leadfield: Any,
        positions: Any,
        normals: Any,
        neighbours: Any,
        electrodes: Any,
        image_size: int = 16,
    ) -> None:
        super().__init__()
        positions, normals = np.asarray(positions, float), np.asarray(normals, float)
        matrix = neighbours.tocsr().astype(float)
        degree = np.asarray(matrix.sum(axis=1)).ravel()
        matrix.data = matrix.data / np.maximum(degree, 1.0)[np.repeat(np.arange(len(degree)), np.diff(matrix.indptr))]
        far = matrix
        for _ in range(_FAR - 1):
            far = far @ matrix
        self._keep("leadfield", leadfield)
        self._keep("positions", np.column_stack([positions, normals]))
        self._keep("image_weights", scalp_image_weights(np.asarray(electrodes, float), image_size))
        for name, each in (("near", matrix), ("far", far.tocsr())):
            index, weights = _padded(each)
            self._keep(f"{name}_weights", weights)
            self._keep(f"{name}_index", index)

    def _keep(self, name: str, values: Any) -> None:
        kind = np.int64 if name.endswith("_index") else np.float32
        # Computed on the CPU, and kept where the parameters are made.
        values = torch.from_numpy(np.array(values, dtype=kind)).to(torch.get_default_device())
        self.register_buffer(name, values, persistent=False)

    @property
    def n_sources(self) -> int:
        """Number of sources."""
        return self.leadfield.shape[1]

    def picked(self, channels: Sequence[int]) -> SourceGeometry:
        """Return the same head with some of the electrodes.

        Parameters
        ----------
        channels : sequence of int
            Which, in their new order.

        Returns
        -------
        geometry : SourceGeometry
            Another one.
        """
        new = copy.copy(self)
        new._buffers = dict(self._buffers)
        channels = list(channels)
        new.leadfield, new.image_weights = self.leadfield[channels], self.image_weights[:, channels]
        return new

    def places(self) -> Tensor:
        """Describe sources by where they are, which way they point, and how well they are seen.

        Returns
        -------
        places : Tensor, shape (n_sources, 7)
            Position in decimetres, normal, and the logarithm of the gain against the mean.
        """
        norm = (self.leadfield - self.leadfield.mean(dim=0)).square().sum(dim=0).sqrt()
        gain = (norm / norm.mean() + 1e-6).log()
        scale = self.positions.new_tensor([1 / _HEAD] * 3 + [1.0] * 3)
        return torch.cat((self.positions * scale, gain.unsqueeze(1)), dim=1)

    def averaged(self, h: Tensor, which: str) -> Tensor:
        """Average over neighbours.

        Parameters
        ----------
        h : Tensor, shape (batch, n_sources, dim)
            Values of sources.
        which : {"near", "far"}
            Over direct neighbours, or along three steps.

        Returns
        -------
        mean : Tensor, shape (batch, n_sources, dim)
            Zero for sources without neighbours.
        """
        batch, n_sources, dim = h.shape
        flat = h.transpose(0, 1).reshape(n_sources, batch * dim)
        index, weights = getattr(self, f"{which}_index"), getattr(self, f"{which}_weights").to(h.dtype)
        out = F.embedding_bag(index, flat, mode="sum", per_sample_weights=weights)
        return out.view(n_sources, batch, dim).transpose(0, 1)


def _padded(matrix: scipy.sparse.csr_array) -> tuple[np.ndarray, np.ndarray]:
    """Turn the rows of a sparse matrix into as many columns each, with weights of zero where there are fewer."""
    counts = np.diff(matrix.indptr)
    width = max(1, int(counts.max(initial=0)))
    place = np.arange(matrix.nnz) - np.repeat(matrix.indptr[:-1], counts)
    rows = np.repeat(np.arange(len(counts)), counts)
    index, weights = np.zeros((len(counts), width), np.int64), np.zeros((len(counts), width))
    index[rows, place], weights[rows, place] = matrix.indices, matrix.data
    return index, weights
