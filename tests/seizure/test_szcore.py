"""HED-SCORE TSV."""

from __future__ import annotations

import os
import re
import string
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mne_labram.seizure.event_types import EVENT_TYPES
from mne_labram.seizure.events import EventTable, SeizureEvent
from mne_labram.seizure.labels import second_labels
from mne_labram.seizure.szcore import COLUMNS, read_szcore_tsv, szcore_rows, write_szcore_tsv

HEADER = "\t".join(COLUMNS)
DATE = "2016-11-06 13:43:04"
GOOD = f"2996.0\t40.0\tsz\tn/a\tn/a\t{DATE}\t3600.00"


@pytest.fixture
def write(tmp_path: Path):
    """Return a function that writes rows, or the whole content, into a file."""

    def write(*rows: str, content: bytes | None = None, header: str = HEADER) -> Path:
        fname = tmp_path / "x_events.tsv"
        fname.write_bytes("\n".join((header, *rows, "")).encode() if content is None else content)
        return fname

    return write


def test_file_of_szcore(write) -> None:
    fname = write(
        f"296.00\t40.50\tsz_foc_ia\t0.75\tFp1,F7-T3\t{DATE}\t3600.00",
        f"12\t3e1\tsz_gen_m_tonicClonic\tn/a\tall\t{DATE}\t3600.00",
    )
    table = read_szcore_tsv(fname)
    assert table.duration == 3600
    assert table.date_time == datetime(2016, 11, 6, 13, 43, 4)
    assert table.events == (
        SeizureEvent(12, 30, "sz_gen_m_tonicClonic", None, ("all",)),
        SeizureEvent(296, 40.5, "sz_foc_ia", 0.75, ("Fp1", "F7-T3")),
    )


def test_what_epilepsy2bids_makes_of_its_own_file(write) -> None:
    """A confidence that is not given is "nan" after it was read by pandas and written again."""
    table = read_szcore_tsv(write(f"30.00\t5.00\tsz\tnan\tnan\t{DATE}\t3599.50"))
    assert table.events == (SeizureEvent(30, 5),)


def test_background_row_says_that_there_is_none(write, tmp_path: Path) -> None:
    table = read_szcore_tsv(write(f"0.00\t3600.00\tbckg\tn/a\tn/a\t{DATE}\t3600.00"))
    assert len(table) == 0
    written = write_szcore_tsv(table, tmp_path / "out.tsv")
    assert written.read_text() == f"{HEADER}\n0\t3600\tbckg\tn/a\tn/a\t{DATE}\t3600\n"
    assert read_szcore_tsv(written) == table


@pytest.mark.parametrize(
    "content",
    [
        f"\ufeff{HEADER}\r\n{GOOD}\r\n".encode(),
        f"{HEADER}\r{GOOD}".encode(),
        f"{HEADER}\n{GOOD}\n\n  \n".encode(),
        f"{HEADER}\r\n{GOOD}\n".encode(),
    ],
    ids=["mark", "old Mac", "empty lines at the end", "mixed"],
)
def test_ways_to_write_lines(write, content: bytes) -> None:
    assert read_szcore_tsv(write(content=content)).events == (SeizureEvent(2996, 40),)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("=cmd|' /C calc'!A0\t40\tsz\tn/a\tn/a\tn/a\t3600", 'line 3: onset must be a number of seconds, got "=cmd'),
        ("1\t=1+1\tsz\tn/a\tn/a\tn/a\t3600", "line 3: duration must be a number of seconds, got '=1+1'."),
        ("1\t4\t=cmd|x\tn/a\tn/a\tn/a\t3600", "line 3: '=cmd|x' is none of SzCORE's event types"),
        ("1\t4\tsz\t@A1\tn/a\tn/a\t3600", "line 3: confidence must be n/a or a number between 0 and 1, got '@A1'."),
        ("1\t4\tsz\tn/a\tn/a\t=NOW()\t3600", "line 3: dateTime must be n/a or like 2024-12-31 23:59:59, got '=NOW()'."),
        ("1\t4\tsz\tn/a\tn/a\tn/a\t+A", "line 3: recordingDuration must be a number of seconds, got '+A'."),
        ("-1\t4\tsz\tn/a\tn/a\tn/a\t3600", "line 3: the onset '-1' lies before the recording's first sample."),
        ("-1\t4\tbckg\tn/a\tn/a\tn/a\t3600", "line 3: the onset '-1' lies before the recording's first sample."),
        ("1\t0\tsz\tn/a\tn/a\tn/a\t3600", "line 3: duration must be more than 0 seconds, got '0'."),
        ("1\t-4\tsz\tn/a\tn/a\tn/a\t3600", "line 3: duration must be more than 0 seconds, got '-4'."),
        ("1\tn/a\tsz\tn/a\tn/a\tn/a\t3600", "line 3: duration must be a number of seconds, got 'n/a'."),
        ("nan\t4\tsz\tn/a\tn/a\tn/a\t3600", "line 3: onset must be a number of seconds, got 'nan'."),
        ("1e999\t4\tsz\tn/a\tn/a\tn/a\t3600", "line 3: onset must be a number of seconds, got '1e999'."),
        ("1_0\t4\tsz\tn/a\tn/a\tn/a\t3600", "line 3: onset must be a number of seconds, got '1_0'."),
        ("\u0661\t4\tsz\tn/a\tn/a\tn/a\t3600", "line 3: onset must be a number of seconds"),
        ("\t4\tsz\tn/a\tn/a\tn/a\t3600", "line 3: onset must be a number of seconds, got ''."),
        ("3600\t4\tsz\tn/a\tn/a\tn/a\t3600", "line 3: the seizure begins at 3600 s and the recording ends at 3600 s."),
        ("1\t4\tseizure\tn/a\tn/a\tn/a\t3600", "line 3: 'seizure' is none of SzCORE's event types"),
        ("1\t4\tn/a\tn/a\tn/a\tn/a\t3600", "line 3: 'n/a' is none of SzCORE's event types"),
        ("1\t4\tsz\t1.01\tn/a\tn/a\t3600", "line 3: confidence must be n/a or a number between 0 and 1, got '1.01'."),
        ("1\t4\tsz\tn/a\tn/a\tn/a\t0", "line 3: recordingDuration must be more than 0 seconds, got '0'."),
        ("1\t4\tsz\tn/a\tn/a\tn/a\t1e12", "line 3: no recording lasts 1e+12 s, more than a year."),
        ("1\t4\tsz\tn/a\tn/a\tn/a\t3601", "line 3: recordingDuration '3601' is not that of the rows above"),
        (f"1\t4\tsz\tn/a\tn/a\t{DATE}\t3600", f"line 3: dateTime '{DATE}' is not that of the rows above"),
        ("1\t4\tsz\tn/a\tn/a\t06.11.2016\t3600", "line 3: dateTime must be n/a or like 2024-12-31 23:59:59"),
        ("1\t4\tsz\tn/a\tn/a\tn/a", "line 3: there are 6 cells and the header names 7 columns."),
        ("1\t4\tsz\tn/a\tn/a\tn/a\t3600\tx", "line 3: there are 8 cells and the header names 7 columns."),
        ("", "line 3: there are 1 cells and the header names 7 columns."),
    ],
)
def test_wrong_rows_are_refused_in_one_sentence(write, row: str, message: str) -> None:
    fname = write("0\t1\tsz\tn/a\tn/a\tn/a\t3600", row, "0\t1\tsz\tn/a\tn/a\tn/a\t3600")
    with pytest.raises(ValueError, match=r"^x_events\.tsv, " + re.escape(message)) as caught:
        read_szcore_tsv(fname)
    _is_one_sentence(str(caught.value))


def _is_one_sentence(text: str) -> None:
    assert text.endswith(".")
    assert len(text) < 300
    assert text.isprintable()


rng = np.random.default_rng(0)
JUNK = {
    "bytes": bytes(rng.integers(1, 256, 71_000, dtype=np.uint8)),
    "one line": b"x" * 71_000,
    "tabs": b"\t" * 71_000,
    "lines": b"\n" * 71_000,
    "NUL": HEADER.encode() + b"\n1\t2\x00\n",
    "NUL at once": bytes(71_000),
    "UTF-16": HEADER.encode("utf-16"),
    "Latin-1": HEADER.encode() + "\n1\t4\tsz\tn/a\tF\u00fc\tn/a\t9\n".encode("latin-1"),
    "empty": b"",
    "header only": HEADER.encode() + b"\n",
    "commas": HEADER.replace("\t", ",").encode() + b"\n1,4,sz,n/a,n/a,n/a,3600\n",
    "another order": "\t".join(reversed(COLUMNS)).encode(),
    "one more column": f"{HEADER}\tx\n".encode(),
    "one column twice": HEADER.replace("duration", "onset").encode(),
    "BIDS": b"onset\tduration\ttrial_type\n1\t2\tsz\n",
    "channels": b"name\ttype\tunits\nFp1\tEEG\tuV\n",
    "wide": HEADER.encode() + b"\n" + b"9" * 71_000 + b"\t4\tsz\tn/a\tn/a\tn/a\t3600\n",
    "too large": HEADER.encode() + b"\n" * 10_000_000,
    "long type": HEADER.encode() + b"\n1\t4\t" + b"=" * 71_000 + b"\tn/a\tn/a\tn/a\t3600\n",
}


@pytest.mark.parametrize("kind", JUNK)
def test_junk_is_refused_in_one_sentence(write, kind: str) -> None:
    with pytest.raises(ValueError, match=r"^x_events\.tsv") as caught:
        read_szcore_tsv(write(content=JUNK[kind]))
    _is_one_sentence(str(caught.value))


def test_what_spreadsheets_call_unicode_is_named(write) -> None:
    with pytest.raises(ValueError, match="UTF-16 text, as spreadsheets write it; save the file as UTF-8"):
        read_szcore_tsv(write(content=JUNK["UTF-16"]))


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read(tmp_path_factory, content: bytes) -> None:
    fname = tmp_path_factory.getbasetemp() / "any.tsv"
    fname.write_bytes(HEADER.encode() + b"\n" + content)
    with pytest.raises(ValueError, match=r"^any\.tsv") as caught:
        read_szcore_tsv(fname)
    _is_one_sentence(str(caught.value))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a file of labels"):
        read_szcore_tsv(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="not a file of labels"):
        read_szcore_tsv(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError, match=r"There is no file '.*absent\.tsv'\."):
        read_szcore_tsv(tmp_path / "absent.tsv")


@pytest.mark.parametrize(
    ("given_type", "read_type"), [("sz_unknown", "sz"), ("sz-foc-ia", "sz_foc_ia"), ("SZ_FOC", "sz_foc")]
)
def test_unknown_seizures_are_seizures(write, given_type: str, read_type: str) -> None:
    row = f"1\t4\t{given_type}\tn/a\tn/a\tn/a\t3600"
    with pytest.warns(RuntimeWarning, match=f"line 2: '{given_type}' .* read as {read_type}") as warned:
        table = read_szcore_tsv(write(row, row))
    assert len(warned) == 1
    assert [event.event_type for event in table.events] == [read_type] * 2


def test_the_end_is_cut_at_the_recordings(write) -> None:
    with pytest.warns(RuntimeWarning, match="line 2: the seizure ends at 3640 s; it was cut"):
        table = read_szcore_tsv(write("3590\t50\tsz\tn/a\tn/a\tn/a\t3600"))
    assert table.events == (SeizureEvent(3590, 10),)
    # Rounding to two decimals is nobody's fault.
    table = read_szcore_tsv(write("3590.01\t10.00\tsz\tn/a\tn/a\tn/a\t3600.00"))
    assert table.events[0].stop <= 3600


def test_events_are_written_on_whole_seconds(tmp_path: Path) -> None:
    table = EventTable(
        (
            SeizureEvent(10.9, 4.0, "sz_foc", 0.5, ("Fp1",)),
            SeizureEvent(15.2, 0.3, "sz_foc", 0.8, ("F7", "Fp1")),
            SeizureEvent(14.7, 0.1, "sz_foc", None),
            SeizureEvent(14.7, 0.2, "sz_gen", 0.25),
            SeizureEvent(20.000000001, 2.0),
            SeizureEvent(3599.2, 0.3),
            SeizureEvent(3590.0, 100.0, "sz_foc"),
        ),
        3599.5,
        datetime(2020, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    )
    before = repr(table)
    assert szcore_rows(table) == [
        ("10", "5", "sz_foc", "0.5", "Fp1", "2020-01-02 03:04:05", "3599.5"),
        ("14", "1", "sz_gen", "0.25", "n/a", "2020-01-02 03:04:05", "3599.5"),
        ("15", "1", "sz_foc", "0.8", "F7,Fp1", "2020-01-02 03:04:05", "3599.5"),
        ("20", "2", "sz", "n/a", "n/a", "2020-01-02 03:04:05", "3599.5"),
        ("3590", "9.5", "sz_foc", "n/a", "n/a", "2020-01-02 03:04:05", "3599.5"),
        ("3599", "0.5", "sz", "n/a", "n/a", "2020-01-02 03:04:05", "3599.5"),
    ]
    assert repr(table) == before


@pytest.mark.parametrize("duration", [100.0000004, 100.0000006, 100.000002, 100.00001, 1.0000006, 0.3])
def test_an_event_at_the_very_end_is_not_lost(tmp_path: Path, duration: float) -> None:
    onset = float(np.nextafter(duration, 0))
    fname = write_szcore_tsv(EventTable((SeizureEvent(onset, 5),), duration), tmp_path / "x.tsv")
    (event,) = read_szcore_tsv(fname).events
    assert event.stop == pytest.approx(duration, abs=2e-6)


seconds = st.floats(0, 100, exclude_max=True)
events = st.builds(
    SeizureEvent,
    onset=seconds,
    duration=st.floats(1e-9, 100),
    event_type=st.sampled_from([name for name in EVENT_TYPES if name != "bckg"]),
    confidence=st.none() | st.floats(0, 1),
    channels=st.lists(st.text(st.sampled_from(string.printable + "\u00e9\uff1d\u2028"), max_size=5), max_size=3).map(
        tuple
    ),
)


@settings(max_examples=50)
@pytest.mark.filterwarnings("ignore:Characters that a TSV cannot hold")
@given(st.lists(events, max_size=5), st.floats(100, 1000))
def test_what_is_written_is_read(tmp_path_factory, listed: list[SeizureEvent], duration: float) -> None:
    table = EventTable(tuple(listed), duration)
    fname = write_szcore_tsv(table, tmp_path_factory.getbasetemp() / "round.tsv", overwrite=True)
    read = read_szcore_tsv(fname)
    assert abs(read.duration - duration) <= 1e-6
    assert {event.event_type for event in read.events} == {event.event_type for event in table.events}
    # Nothing that was covered is lost, and each end moves by less than a second.
    n_seconds = int(duration) + 1
    covered = second_labels(table, n_seconds, fraction=1e-5)
    now = second_labels(read, n_seconds, fraction=0)
    assert not (covered & ~now).any()
    assert now.sum() <= covered.sum() + 2 * len(table)
    # Twice makes no difference, and no cell is a formula.
    again = write_szcore_tsv(read, fname, overwrite=True)
    assert read_szcore_tsv(again) == read
    for line in fname.read_text(encoding="utf8").split("\n")[:-1]:
        assert len(line.split("\t")) == 7
        assert not any(name.startswith(tuple("=+-@\uff1d")) for cell in line.split("\t") for name in cell.split(","))


def test_channels_that_look_like_formulas_come_back(tmp_path: Path) -> None:
    table = EventTable((SeizureEvent(1, 4, channels=("=cmd|' /C calc'!A0", "-", "Fp1")),), 100)
    fname = write_szcore_tsv(table, tmp_path / "x.tsv")
    assert "\t'=cmd|' /C calc'!A0,'-,Fp1\t" in fname.read_text()
    assert read_szcore_tsv(fname) == table
    odd = EventTable((SeizureEvent(1, 4, channels=("a\tb\n", 'c"d', "e,f")),), 100)
    with pytest.warns(RuntimeWarning, match="became _"):
        fname = write_szcore_tsv(odd, tmp_path / "y.tsv")
    assert read_szcore_tsv(fname).events[0].channels == ("a_b_", "c_d", "e_f")


def test_nothing_is_written_half(tmp_path: Path) -> None:
    fname = tmp_path / "x.tsv"
    good = EventTable((SeizureEvent(1, 4),), 100)
    write_szcore_tsv(good, fname)
    before = fname.read_bytes()
    for event_type in ("seizure", "bckg", "sz-foc"):
        with pytest.raises(ValueError, match="bckg|none of SzCORE's"):
            write_szcore_tsv(EventTable((SeizureEvent(1, 4, event_type),), 100), fname, overwrite=True)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write_szcore_tsv(good, fname)
    with pytest.raises(FileNotFoundError, match="make it first"):
        write_szcore_tsv(good, tmp_path / "absent" / "x.tsv")
    with pytest.raises(TypeError, match="EventTable"):
        write_szcore_tsv([(1, 4)], fname, overwrite=True)
    assert fname.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["x.tsv"]


def test_scores_of_what_was_written_are_those_of_the_labels(tmp_path: Path) -> None:
    """As SzCORE's tools read it: pandas, and times cut to whole samples."""
    pandas = pytest.importorskip("pandas")
    table = EventTable((SeizureEvent(10.2, 0.6), SeizureEvent(30.9, 4.0, "sz_foc")), 60.7, datetime(2020, 1, 2))
    frame = pandas.read_csv(write_szcore_tsv(table, tmp_path / "x.tsv"), delimiter="\t")
    assert tuple(frame.columns) == COLUMNS
    assert (pandas.to_datetime(frame["dateTime"], format="%Y-%m-%d %H:%M:%S") == datetime(2020, 1, 2)).all()
    mask = np.zeros(int(frame["recordingDuration"][0]), dtype=bool)
    for onset, duration in zip(frame["onset"], frame["duration"], strict=True):
        mask[int(onset) : int(onset + duration)] = True
    assert np.flatnonzero(mask).tolist() == [10, 30, 31, 32, 33, 34]
