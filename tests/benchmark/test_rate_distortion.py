"""The table of bits and errors, and what is saved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from mne_labram.benchmark.rate_distortion import (
    CODEC_CONTRACT,
    BlockCodec,
    CodecRecording,
    Decoded,
    bits_saved,
    rate_distortion,
    read_for_codec,
)


def _recording(subject: str, n_times: int = 2000, seed: int = 0) -> CodecRecording:
    x = np.random.default_rng(seed).normal(size=(3, n_times)).astype(np.float32)
    return CodecRecording(subject, subject, "made up", x, 200.0, ["A", "B", "C"], np.ones(n_times // 800, dtype=bool))


class _Shrinking:
    """Loses a part of the signal that halves with every doubling of the rate."""

    name = "shrinking"

    def code(self, recordings: Sequence[CodecRecording], bitrate: float) -> list[Decoded]:
        return [
            Decoded(
                r.x * (1 - 32 / bitrate), bits=bitrate * r.x.size / r.sfreq, ideal_bits=bitrate * 0.99 * r.x.size / 200
            )
            for r in recordings
        ]


class _Int8Coder:
    """A byte per sample, whatever the budget."""

    name = "int8"

    def parameters(self) -> dict:
        return {"digits": list(range(100))}

    def encode(self, samples: np.ndarray, *, bits: int | None) -> bytes:
        return np.rint(samples * 20).clip(-128, 127).astype(np.int8).tobytes()

    def decode(self, payload: bytes, n_samples: int) -> np.ndarray:
        return np.frombuffer(payload, dtype=np.int8).reshape(-1, n_samples) / 20.0


def test_rows() -> None:
    seen: list = []
    rows = rate_distortion([_Shrinking()], [_recording("a"), _recording("b", seed=1)], (64, 128), progress=seen.append)
    assert rows == seen
    assert [row.bitrate for row in rows] == [64, 128]
    assert_allclose([row.bits for row in rows], [64, 128])
    assert_allclose([row.prd for row in rows], [50.0, 25.0], rtol=1e-5)
    assert rows[0].spread == pytest.approx(0.0, abs=1e-4)
    assert rows[0].r == pytest.approx(1.0)
    assert rows[0].prdn >= rows[0].prd
    assert_allclose(list(rows[0].bands.values()), 50.0, rtol=1e-4)
    assert rows[0].overhead == pytest.approx(100 / 0.99 - 100)
    assert rows[0].subjects == pytest.approx({"a": 50.0, "b": 50.0}, rel=1e-5)


def test_unusable_windows_are_not_scored() -> None:
    recording = _recording("a")
    recording.x[:, :800] = 1e4
    recording.usable[0] = False

    class Fails(_Shrinking):
        def code(self, recordings: Sequence[CodecRecording], bitrate: float) -> list[Decoded]:
            (decoded,) = super().code(recordings, bitrate)
            decoded.x[:, :800] = 0
            return [decoded]

    (row,) = rate_distortion([Fails()], [recording], (64,))
    assert row.prd == pytest.approx(50.0, rel=1e-5)
    assert np.isnan(row.spread)


def test_coders_of_blocks() -> None:
    """What counts is the length of the payloads, and blocks above their budget are counted."""
    (row,) = rate_distortion([BlockCodec(_Int8Coder(), seconds=3.0)], [_recording("a")], (800,))
    assert row.codec == "int8"
    assert row.bits == 1600.0
    assert 100 / 30 < row.header < 800 * 4 / 30  # bits over 10 s of 3 channels
    assert row.n_over == 3  # 2000 samples, 600 at a time and the last 200 with those before
    assert 0 < row.prd < 5
    (row,) = rate_distortion(
        [BlockCodec(lambda recording, bitrate, block_samples: _Int8Coder(), name="made")], [_recording("a")], (1600,)
    )
    assert row.codec == "made"
    assert row.n_over == 0


def test_bits_saved() -> None:
    """Exact where the logarithm of the error is linear in the bits, at any rates it was measured at."""
    rates = np.array([50.0, 70, 130, 250, 500, 1100])
    reference = {rate: 40.0 * 2 ** (-rate / 100) for rate in rates}
    better = {0.8 * rate: prd for rate, prd in reference.items()}
    assert bits_saved(better, reference) == pytest.approx({64: 0.2, 128: 0.2, 256: 0.2, 512: 0.2})
    assert bits_saved(reference, better) == pytest.approx({64: -0.25, 128: -0.25, 256: -0.25, 512: -0.25})
    saved = bits_saved({rate: better[rate] for rate in list(better)[:3]}, reference)
    assert saved[64] == pytest.approx(0.2)
    assert np.isnan(saved[512])
    with pytest.raises(ValueError, match="two rates"):
        bits_saved({64: 1.0}, reference)


def test_reading(shared_data: Path) -> None:
    folder = shared_data / "eegmat"
    recordings = read_for_codec([folder / "Subject20_2.edf", folder / "Subject21_2.edf"], dataset="eegmat")
    assert [r.subject for r in recordings] == ["Subject20", "Subject21"]
    assert recordings[0].ch_names == recordings[1].ch_names
    assert all(r.x.shape == (19, 800 * len(r.usable)) and r.sfreq == 200.0 for r in recordings)
    (uncut,) = read_for_codec([folder / "Subject20_2.edf"], dataset="eegmat", whole=False)
    assert uncut.x.shape[1] == 62 * 200
    (motor,) = read_for_codec([shared_data / "eegmmidb" / "S001R01.edf"], dataset="eegmmidb")
    assert motor.subject == "S001"
    assert motor.x.shape == (64, 15 * 800)
    assert CODEC_CONTRACT.h_freq == 75.0
