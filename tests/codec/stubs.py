"""Coders that are as simple as can be, to test what is around them."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from mne_labram.codec.coders import check_weights


def _unpacked(payload: bytes, dtype: str, shape: tuple[int, int]) -> np.ndarray:
    try:
        content = zlib.decompress(payload)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if len(content) != np.dtype(dtype).itemsize * shape[0] * shape[1]:
        raise ValueError("of another length")
    return np.frombuffer(content, dtype=dtype).reshape(shape)


class PlainIntegers:
    """Integers through zlib, as coarse as is allowed."""

    name = "lossless"

    def __init__(self, n_channels: int, max_error: int = 0) -> None:
        self.n_channels, self.max_error = n_channels, max_error

    @classmethod
    def make(cls, *, ch_names: list[str], max_error: int = 0, **_: Any) -> PlainIntegers:
        return cls(len(ch_names), max_error)

    def parameters(self) -> dict[str, Any]:
        return {"n_channels": self.n_channels, "max_error": self.max_error}

    def encode(self, digital: np.ndarray, *, bits: int | None) -> bytes:
        assert digital.dtype == np.int32
        assert bits is None
        coarse = np.rint(digital / (2 * self.max_error + 1))
        return zlib.compress(coarse.astype("<i4").tobytes(), 1)

    def decode(self, payload: bytes, n_samples: int) -> np.ndarray:
        coarse = _unpacked(payload, "<i4", (self.n_channels, n_samples)).astype(np.int32)
        return coarse * (2 * self.max_error + 1)


class Rounded(PlainIntegers):
    """Thirds of microvolts, rounded to float32."""

    name = "hybrid"

    def encode(self, samples: np.ndarray, *, bits: int | None) -> bytes:
        assert samples.dtype == np.float64
        assert np.isfinite(samples).all()
        assert bits > 0
        return zlib.compress((samples / 3).astype("<f4").tobytes(), 1)

    def decode(self, payload: bytes, n_samples: int) -> np.ndarray:
        return 3 * _unpacked(payload, "<f4", (self.n_channels, n_samples)).astype(float)


class WithWeights(Rounded):
    """One that needs weights."""

    name = "neural"
    weights = {"name": "braincodec-of-yesterday", "sha256": "ab" * 32}

    def __init__(self, n_channels: int, weights: dict[str, str] | None = None, **_: Any) -> None:
        super().__init__(n_channels)
        check_weights(weights or self.weights)

    def parameters(self) -> dict[str, Any]:
        return {"n_channels": self.n_channels, "weights": self.weights}
