"""What a compression came to, as a table and as JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from mne_labram.codec.report import CompressionReport

QUALITY = {
    "prd": 9.1234,
    "prdn": 9.2,
    "prd_overall": 8.0,
    "prdn_overall": 8.1,
    "pearson": 0.99512,
    "band_errors": {"delta": 3.0, "gamma": 41.0},
    "largest_error": 21.26,
    "n_windows": 90,
}


def made(**changes) -> CompressionReport:
    """Describe an hour of 20 channels at 250 Hz, in a megabyte."""
    arguments = {
        "fname": Path("night.bcz"),
        "mode": "hybrid",
        "seconds": 3600.0,
        "sfreq": 250.0,
        "n_channels": 20,
        "n_coded": 19,
        "n_bytes": 1_000_000,
        "coded_bytes": 855_000,
        "source_bits": 16.0,
        "bitrate": 100,
        "quality": QUALITY,
    }
    return CompressionReport(**arguments | changes)


def test_numbers():
    report = made()
    assert report.bits_per_second == pytest.approx(100)
    assert report.file_bits_per_second == pytest.approx(8e6 / 72_000)
    # 20 channels of 250 times 2 bytes, or 512 times 4.
    assert report.ratio == pytest.approx(36.0)
    assert report.paper_ratio == pytest.approx(147.456)


def test_table():
    assert str(made(notes=["Samples are NaN."], n_missing=3)).splitlines() == [
        "File          night.bcz, 1 MB",
        "Recording     60 min, 20 channels, 250 Hz",
        "Mode          hybrid, 100 bit/s/channel asked for",
        "Bit rate      100 bit/s/channel for the 19 coded channels",
        "Kept exactly  1 other channel",
        "Size          111.1 bit/s/channel with all that is in the file",
        "              36 times smaller than the source's own numbers (16 bits at 250 Hz)",
        "              147 times smaller than 32-bit floats at 512 Hz (as the BrainCodec paper counts)",
        "Error         PRD 9.12 %, PRDN 9.2 % (mean of 4-s windows of each channel)",
        "              PRD 8 %, PRDN 8.1 % (all samples together)",
        "              Pearson r 0.9951, largest error 21.3 µV",
        "By band       PRDN: delta 3 %, gamma 41 %",
        "Missing       3 samples are NaN, as in the source",
        "Note          Samples are NaN.",
    ]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"mode": "lossless", "bitrate": None, "max_error": 0.0}, "Mode          lossless, exact"),
        ({"mode": "lossless", "bitrate": None, "max_error": 0.5}, "Mode          lossless, error at most 0.5 µV"),
        ({"quality": QUALITY | {"largest_error": 0}}, "Error         none: every sample is as it was"),
        (
            {"quality": QUALITY | {"prd": math.nan}},
            "Error         largest 21.3 µV; all windows are constant or have NaN",
        ),
        ({"n_bytes": 900}, "File          night.bcz, 900 bytes"),
        ({"seconds": 90_000.0}, "Recording     25 h, 20 channels, 250 Hz"),
        ({"seconds": 0.5}, "Recording     0.5 s, 20 channels, 250 Hz"),
    ],
)
def test_lines(changes, line):
    assert line in str(made(**changes)).splitlines()


def test_without_measures_and_without_coded_channels():
    assert "Error" not in str(made(quality={}))
    report = made(n_coded=0, coded_bytes=0, quality={})
    assert "Bit rate" not in str(report)
    assert "20 other channels" in str(report)


def test_json():
    out = json.loads(json.dumps(made(n_coded=0, quality=QUALITY | {"prd": math.nan}).to_dict(), allow_nan=False))
    assert out["fname"] == "night.bcz"
    assert out["bits_per_second"] is None
    assert out["quality"]["prd"] is None
    assert out["quality"]["band_errors"] == {"delta": 3.0, "gamma": 41.0}
    assert out["ratio"] == pytest.approx(36.0)
