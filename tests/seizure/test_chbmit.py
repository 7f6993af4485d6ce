"""Label files of CHB-MIT, the originals among them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mne_labram.seizure.chbmit import read_chbmit_seizures, read_chbmit_summary, read_excerpts, summary_table

#: From the summary of chb01 on PhysioNet.
SEIZURES = {
    "chb01_03.edf": (2996, 3036),
    "chb01_04.edf": (1467, 1494),
    "chb01_15.edf": (1732, 1772),
    "chb01_16.edf": (1015, 1066),
    "chb01_18.edf": (1720, 1810),
    "chb01_21.edf": (327, 420),
    "chb01_26.edf": (1862, 1963),
}
#: chb01_03.edf.seizures.
ORIGINAL = bytes.fromhex(
    "005817fc23232074696d65207265736f6c7574696f6e3a203235360000ecffffffff010000ec0b0000b4008000ec0000002800840000"
)


def test_originals(shared_data: Path) -> None:
    folder = shared_data / "chbmit"
    summary = read_chbmit_summary(folder / "chb01-summary.txt")
    assert len(summary) == 42
    assert {name: table.intervals for name, table in summary.items() if len(table)} == {
        name: [times] for name, times in SEIZURES.items()
    }
    assert summary["chb01_01.edf"].duration == 3600
    assert summary["chb01_26.edf"].duration == 38 * 60 + 45
    for name, table in summary.items():
        if name in SEIZURES:
            assert read_chbmit_seizures(folder / f"{name}.seizures", table.duration) == table


def test_originals_as_wfdb_reads_them(shared_data: Path) -> None:
    wfdb = pytest.importorskip("wfdb")
    for name, times in SEIZURES.items():
        annotation = wfdb.rdann(str(shared_data / "chbmit" / name), "seizures")
        assert [sample / annotation.fs for sample in annotation.sample] == list(times)


def test_the_length_comes_from_the_recording_beside(tmp_path: Path, write_edf) -> None:
    fname = tmp_path / "chb01_03.edf.seizures"
    fname.write_bytes(ORIGINAL)
    assert read_chbmit_seizures(fname, 3600.5).duration == 3600.5
    with pytest.raises(ValueError, match="does not say how long the recording is; pass duration"):
        read_chbmit_seizures(fname)
    write_edf("chb01_03.edf", seconds=20)
    with pytest.raises(ValueError, match="a seizure begins at 2996 s and the recording ends at 20 s"):
        read_chbmit_seizures(fname)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cut short"),
        (ORIGINAL[:-2], "cut short"),
        (ORIGINAL[:-6], "cut short"),
        (ORIGINAL[:-4] + b"\x00\x00", "a beginning and an end"),
        (ORIGINAL.replace(b"256", b"000"), "cut short"),
        (ORIGINAL.replace(bytes.fromhex("00000028"), bytes.fromhex("ffff00f0")), "end before they begin"),
        (b"not an annotation file at all", "cut short"),
    ],
)
def test_damaged_files(tmp_path: Path, content: bytes, message: str) -> None:
    fname = tmp_path / "x.edf.seizures"
    fname.write_bytes(content)
    with pytest.raises(ValueError, match=rf"^x\.edf\.seizures .*{message}.*\.$"):
        read_chbmit_seizures(fname, 3600)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content: bytes) -> None:
    fname = tmp_path_factory.getbasetemp() / "any.seizures"
    fname.write_bytes(content)
    try:
        table = read_chbmit_seizures(fname, 1e5)
    except ValueError as error:
        assert str(error).startswith("any.seizures")  # noqa: PT017 (both outcomes are right)
    else:
        assert all(start < stop for start, stop in table.intervals)


SUMMARY = """Data Sampling Rate: 256 Hz
File Name: chb24_01.edf
Number of Seizures in File: 2
Seizure 1 Start Time: 480 seconds
Seizure 1 End Time: 505 seconds
Seizure 2 Start Time: 2451 seconds
Seizure 2 End Time: 2476 seconds

File Name: chb24_02.edf
File Start Time: 23:30:00
File End Time: 24:30:10
Number of Seizures in File: 0

File Name: chb24_03.edf
File Start Time: 23:30:00
File End Time: 0:30:00
Number of Seizures in File: 0
"""


def test_summary_without_times_and_over_midnight(tmp_path: Path) -> None:
    fname = tmp_path / "chb24-summary.txt"
    fname.write_text(SUMMARY)
    with pytest.raises(ValueError, match=r"does not say how long chb24_01\.edf is"):
        read_chbmit_summary(fname)
    tables = read_chbmit_summary(fname, {"chb24_01.edf": 3600.25})
    assert tables["chb24_01.edf"].intervals == [(480, 505), (2451, 2476)]
    assert [table.duration for table in tables.values()] == [3600.25, 3610, 3600]
    assert summary_table(fname, "chb24_02.edf").duration == 3610
    assert summary_table(fname, "chb24_02.edf", 7.5).duration == 7.5
    assert summary_table(fname, "chb24_04.edf") is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("File: 2", "File: 1", r"line 2: chb24_01\.edf should have 1 seizures, and 2 have"),
        ("File: 2", "File: two", "line 3: 'two' is no number of seizures"),
        ("505 seconds", "400 seconds", "line 5: a seizure ends at 400 s and did not begin before"),
        ("505 seconds", "=cmd", "line 5: '=cmd' is no number of seconds"),
        ("Seizure 2 End Time: 2476 seconds\n", "", r"line 2: chb24_01\.edf should have 2 seizures, and 1 have"),
        ("chb24_02", "chb24_01", r"line 9: 'chb24_01\.edf' is there twice"),
        ("24:30:10", "late", "line 11: 'late' is no time of day"),
        (SUMMARY, "Dear all", "names no file"),
    ],
)
def test_wrong_summaries(tmp_path: Path, old: str, new: str, message: str) -> None:
    fname = tmp_path / "chb24-summary.txt"
    assert old in SUMMARY
    fname.write_text(SUMMARY.replace(old, new))
    with pytest.raises(ValueError, match=rf"^chb24-summary\.txt.*{message}"):
        read_chbmit_summary(fname)


def test_excerpts(shared_data: Path) -> None:
    tables = read_excerpts(shared_data / "chbmit" / "segments.json")
    assert len(tables) == 18
    for name, table in tables.items():
        assert table.intervals == ([] if "preictal" in name else [(0, table.duration)])
    assert tables["chb01_16_seizure_full.edf"].duration == 51


@pytest.mark.parametrize(
    "entry",
    [
        {},
        7,
        {"file": "a.edf", "t0_s": 0, "dur_s": 0, "seizure_s": None},
        {"file": "a.edf", "t0_s": "x", "dur_s": 10, "seizure_s": None},
        {"file": "a.edf", "t0_s": float("nan"), "dur_s": 10, "seizure_s": [1, 2]},
        {"file": "a.edf", "t0_s": 0, "dur_s": 10, "seizure_s": [1, float("inf")]},
        {"file": 1, "t0_s": 0, "dur_s": 10, "seizure_s": None},
        {"file": "a.edf", "t0_s": 0, "dur_s": 10, "seizure_s": [1]},
        {"file": "b.edf", "t0_s": 0, "dur_s": 10, "seizure_s": []},
    ],
)
def test_wrong_excerpts(tmp_path: Path, entry: object) -> None:
    fname = tmp_path / "segments.json"
    good = {"file": "b.edf", "t0_s": 100, "dur_s": 10, "seizure_s": [95, 104]}
    fname.write_text(json.dumps([good]))
    assert read_excerpts(fname)["b.edf"].intervals == [(0, 4)]
    fname.write_text(json.dumps([good, entry]))
    with pytest.raises(ValueError, match=r"segments\.json, entry 2"):
        read_excerpts(fname)
    for text in ("{", "{}", "[" * 100_000):
        fname.write_text(text)
        with pytest.raises(ValueError, match=r"segments\.json is no"):
            read_excerpts(fname)
