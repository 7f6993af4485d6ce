"""The benchmark of codecs: its recordings, its page, windows classified after compression, and time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import mne
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from mne_labram.benchmark import codec_page as page_module
from mne_labram.benchmark.codec import BITRATES, CODECS, CodecBenchmark, benchmark_codecs, make_codec, read_benchmark
from mne_labram.benchmark.codec_classification import (
    ClassificationRow,
    classification_after,
    classification_table,
    classify_arithmetic,
    classify_seizures,
)
from mne_labram.benchmark.codec_page import codec_benchmark_page, codec_page, rows_to_json
from mne_labram.benchmark.codec_speed import (
    CodecSpeedRow,
    measure_codec_speed,
    run_here,
    speed_table,
    write_recorded_hours,
)
from mne_labram.benchmark.rate_distortion import CodecRecording, Decoded, RateDistortionRow, read_for_codec
from mne_labram.seizure.chbmit import read_excerpts


class Noisy:
    """Adds noise of a size relative to each channel."""

    name = "noisy"

    def __init__(self, level: float) -> None:
        self.level = level

    def code(self, recordings: Sequence[CodecRecording], bitrate: float) -> list[Decoded]:
        rng = np.random.default_rng(0)
        return [
            Decoded(
                r.x + self.level * r.x.std(axis=1, keepdims=True) * rng.normal(size=r.x.shape).astype(np.float32),
                bits=bitrate * r.x.size / r.sfreq,
            )
            for r in recordings
        ]


@pytest.fixture(scope="module")
def some_data(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two training subjects and those that are measured, and two runs of the other data set."""
    folder = tmp_path_factory.mktemp("data")
    for dataset, names in (
        ("eegmat", [f"Subject{number}_1.edf" for number in ("00", "01", "20", "21", "22", "23")]),
        ("eegmmidb", ["S001R01.edf", "S001R03.edf"]),
    ):
        (folder / dataset).mkdir()
        for name in names:
            (folder / dataset / name).symlink_to(shared_data / dataset / name)
    return folder


@pytest.fixture(scope="module")
def benchmarks(some_data: Path) -> list[CodecBenchmark]:
    """Read them."""
    return read_benchmark(some_data, n_training=2)


def test_nobody_is_on_both_sides(benchmarks: list[CodecBenchmark]) -> None:
    eegmat, motor = benchmarks
    assert [r.name for r in eegmat.validation] == [f"Subject{number}_1" for number in (20, 21, 22, 23)]
    assert not {r.subject for r in eegmat.validation} & {r.subject for r in eegmat.channels}
    assert [r.name for r in motor.validation] == ["S001R01"]
    assert [r.name for r in motor.montage] == ["S001R03"]
    assert all(r.ch_names == motor.validation[0].ch_names for r in motor.montage)


def test_codecs_are_made_for_a_data_set(benchmarks: list[CodecBenchmark]) -> None:
    eegmat, motor = benchmarks
    assert make_codec("klt", eegmat).transform.components.shape == (19, 19)
    assert make_codec("klt", replace(motor, montage=[])) is None
    assert make_codec("hybrid", eegmat).seconds == 60.0
    with pytest.raises(ValueError, match="no codec 'mp3'; there are dct"):
        make_codec("mp3", eegmat)


def test_a_coder_is_restored_from_what_a_file_says(
    benchmarks: list[CodecBenchmark], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What decodes is not what encoded; what the coder was made with arrives."""
    made = []

    class Coarse:
        name = "hybrid"

        def __init__(self, step: float) -> None:
            self.step, self.sent = step, False

        @classmethod
        def make(cls, **options: object) -> Coarse:
            made.append(options)
            return cls(2.0)

        def parameters(self) -> dict:
            return {"step": self.step}

        def encode(self, samples: np.ndarray, *, bits: int | None) -> bytes:
            self.sent = True
            return np.rint(samples / self.step).astype(np.int16).tobytes()

        def decode(self, payload: bytes, n_samples: int) -> np.ndarray:
            assert not self.sent
            return np.frombuffer(payload, dtype=np.int16).reshape(-1, n_samples) * self.step

    monkeypatch.setattr("mne_labram.codec.coders.coder_class", lambda name: Coarse)
    codec = make_codec("hybrid", benchmarks[0])
    recording = benchmarks[0].validation[0]
    (decoded,) = codec.code([recording], 3200.0)
    assert np.abs(decoded.x - recording.x).max() <= 1.0001
    assert decoded.n_over == 0
    assert (made[0]["sfreq"], made[0]["bitrate"], made[0]["block_samples"]) == (200.0, 3200.0, 12000)
    assert made[0]["ch_names"] == recording.ch_names


def test_any_codec_can_be_measured(some_data: Path) -> None:
    """Bitrate 48 comes with 64; a codec that cannot be made for a data set is left out there."""

    def for_eegmat(benchmark: CodecBenchmark) -> Noisy | None:
        return Noisy(0.1) if benchmark.dataset == "eegmat" else None

    rows = benchmark_codecs(some_data, {"noisy": for_eegmat}, (64,), n_training=1, verbose="error")
    assert [(row.dataset, row.bitrate) for row in rows] == [("eegmat", 48.0), ("eegmat", 64.0)]
    # A window's own size may be another than that of its recording.
    assert rows[0].prd == pytest.approx(10.0, rel=0.2)
    assert list(rows[0].subjects) == ["Subject20", "Subject21", "Subject22", "Subject23"]


def test_wrong_arguments(tmp_path: Path, shared_data: Path, some_data: Path) -> None:
    with pytest.raises(ValueError, match="no codec 'mp3'"):
        benchmark_codecs(shared_data, ["mp3"])
    with pytest.raises(ValueError, match="positive"):
        benchmark_codecs(shared_data, ["dct"], (0,))
    with pytest.raises(FileNotFoundError, match="give the folder that holds eegmat"):
        benchmark_codecs(tmp_path, ["dct"])
    with pytest.raises(FileNotFoundError, match="Subject02_1.edf is absent"):
        read_benchmark(some_data)
    with pytest.raises(FileNotFoundError, match="eegmat and chbmit"):
        classification_after({}, tmp_path)
    for options, match in (
        ({"codecs": ["mp3"]}, "no codec 'mp3'"),
        ({"speed": ["mp3"]}, "no mode 'mp3'"),
        ({"classify": ["klt"]}, "knows one montage"),
    ):
        with pytest.raises(ValueError, match=match):
            codec_benchmark_page(tmp_path, **options)
    with pytest.raises(ValueError, match="no mode 'mp3'"):
        measure_codec_speed(["mp3"])
    with pytest.raises(ValueError, match="hours and bitrate must be positive"):
        measure_codec_speed(hours=0)


def _rows(codec: str, factor: float, bits: float = 1.0) -> list[RateDistortionRow]:
    """Make a curve on which the error halves every 100 bits."""
    return [
        RateDistortionRow(
            codec, "eegmat", rate, bits * rate, factor * 40 * 2 ** (-rate / 100), 1.0, 10.0, 0.99, {"delta": 1.0}
        )
        for rate in (48.0, *map(float, BITRATES))
    ]


def test_page_says_what_is_saved_and_whether_goals_are_met() -> None:
    reference = _rows("KLT+DCT, variable", 1.0)
    # Four fifths of the bits of the reference at the same error.
    hybrid = [replace(row, codec="hybrid", bits=0.8 * row.bits) for row in reference]
    page = codec_page([*reference, *hybrid, *_rows("neural", 1.4)])
    assert "| hybrid | +20.0 % | +20.0 % | +20.0 % | +20.0 % |" in page
    assert "hybrid: 20.0 % of the bits saved against KLT+DCT at 64 bit/s (goal: 10 %, met)" in page
    prd = 1.4 * 40 * 2**-0.64
    assert f"neural, 64 bit/s: PRD {prd:.2f} % (goal: at most 38 %, met)" in page
    assert "(goal: at most 22 %, missed)" in page
    assert f"{40 * 2**-0.64:.1f} ± 1.0 (51.2)" in page
    assert "\n\n\n" not in page
    found = json.loads(json.dumps(rows_to_json([*reference, *hybrid]), allow_nan=False))
    assert found["saved"]["eegmat"]["KLT+DCT, variable"]["hybrid"]["256"] == pytest.approx(0.2)
    assert found["rows"][0]["overhead"] is None
    assert len(found["rows"]) == 12


def test_everything_on_one_page(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = _rows("DCT, hard", 1.0)
    monkeypatch.setattr(page_module, "benchmark_codecs", lambda data, codecs, bitrates: rows)
    page, found = codec_benchmark_page("nowhere", codecs=["dct"])
    assert page == codec_page(rows)
    assert found["classification"] == {}
    assert found["speed"] == []
    assert set(CODECS) >= {"dct", "klt", "neural", "hybrid"}


@pytest.fixture(scope="module")
def arithmetic(shared_data: Path) -> list[CodecRecording]:
    """Return a minute of rest and of arithmetic of three subjects."""
    names = [f"Subject0{number}_{task}.edf" for number in range(3) for task in (1, 2)]
    recordings = read_for_codec([shared_data / "eegmat" / name for name in names], dataset="eegmat")
    return [replace(r, x=r.x[:, :12000], usable=r.usable[:15]) for r in recordings]


def test_arithmetic(arithmetic: list[CodecRecording]) -> None:
    """What loses nothing changes nothing; a classifier of the original signal fails where noise is added."""
    rows = classify_arithmetic(Noisy(0.0), arithmetic, 512)
    assert len(rows) == 2
    for row in rows:
        assert row.original == row.decoded == row.transferred
        assert row.lost == 0
        assert row.bits == pytest.approx(512)
    destroyed = classify_arithmetic(Noisy(10.0), arithmetic, 512)
    assert [row.original for row in destroyed] == [row.original for row in rows]
    assert max(row.lost for row in destroyed) > 5


def test_seizures(shared_data: Path) -> None:
    folder = shared_data / "chbmit"
    names = [f"chb01_{record}_{kind}" for record in ("03", "04", "15") for kind in ("ictal", "preictal")]
    recordings = read_for_codec([folder / f"{name}.edf" for name in names], dataset="chbmit", whole=False)
    tables = {Path(name).stem: table for name, table in read_excerpts(folder / "segments.json").items()}
    for row in classify_seizures(Noisy(0.0), recordings, tables, 512):
        assert row.original == row.decoded == row.transferred > 75
    for row in classify_seizures(Noisy(3.0), recordings, tables, 512):
        assert row.transferred == pytest.approx(50, abs=10)
        assert row.lost > 20


def test_classification_table() -> None:
    rows = [ClassificationRow("a", 90.0, 89.2, 90.0, 512.0), ClassificationRow("b", 90.0, 90.0, 88.0, 512.0)]
    table = classification_table({"hybrid": rows})
    assert "| hybrid | 512 | a | 90.0 | 89.2 | 90.0 | met |" in table
    assert "| hybrid | 512 | b | 90.0 | 90.0 | 88.0 | missed |" in table


def test_recorded_hours(tmp_path: Path, shared_data: Path) -> None:
    """One recording after the other, no two parts alike; made-up EEG where there are none."""
    source = write_recorded_hours(tmp_path / "a.edf", 0.06, shared_data, sfreq=128.0)
    assert source == "recorded EEG (eegmat, 2 recordings)"
    raw = mne.io.read_raw_edf(tmp_path / "a.edf", verbose="error")
    assert len(raw.ch_names) == 19
    assert raw.times[-1] == pytest.approx(216, abs=1.5)
    assert 5 < 1e6 * raw.get_data().std() < 50
    assert write_recorded_hours(tmp_path / "b.edf", 0.1, tmp_path, sfreq=128.0) == "made-up EEG"
    assert (tmp_path / "b.edf").stat().st_size > 600 * 19 * 128 * 2


def test_one_mode(tmp_path: Path, shared_data: Path, capsys: pytest.CaptureFixture) -> None:
    """What is printed by the process that measures."""
    recording = str(shared_data / "chbmit" / "chb01_03_ictal.edf")
    run_here(recording, str(tmp_path / "a.bcz"), "lossless", 256.0, 1, torch.get_num_threads())
    row = CodecSpeedRow("lossless", **json.loads(capsys.readouterr().out.splitlines()[-1]))
    assert row.seconds == pytest.approx(10)
    assert row.prd < 1e-6
    assert 1.0 < row.ratio < 10
    assert row.peak > 50
    assert_allclose(row.real_time * (row.compress + row.decompress), 10)
    slow, fast = (
        replace(row, seconds=3600.0, compress=30.0, decompress=10.0),
        replace(row, seconds=3600.0, compress=1.0),
    )
    table = speed_table("made-up EEG", [slow, fast])
    assert "90 (missed)" in table
    assert table.count("(met)") == 1
