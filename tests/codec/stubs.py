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
    """Integers through zlib."""

    name = "lossless"

    def __init__(self, n_channels: int) -> None:
        self.n_channels = n_channels

    @classmethod
    def make(cls, *, ch_names: list[str], **_: Any) -> PlainIntegers:
        return cls(len(ch_names))

    def parameters(self) -> dict[str, Any]:
        return {"n_channels": self.n_channels}

    def encode(self, digital: np.ndarray, *, bits: int | None) -> bytes:
        assert digital.dtype == np.int32
        assert bits is None
        return zlib.compress(digital.astype("<i4").tobytes(), 1)

    def decode(self, payload: bytes, n_samples: int) -> np.ndarray:
        return _unpacked(payload, "<i4", (self.n_channels, n_samples)).astype(np.int32)


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

    def __init__(self, n_channels: int, weights: dict[str, str] | None = None) -> None:
        super().__init__(n_channels)
        check_weights(weights or self.weights)

    def parameters(self) -> dict[str, Any]:
        return {"n_channels": self.n_channels, "weights": self.weights}
