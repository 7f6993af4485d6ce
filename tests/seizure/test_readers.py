"""What lies beside a recording, or in it."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mne_labram.seizure.events import EventTable, SeizureEvent
from mne_labram.seizure.readers import (
    events_from_annotations,
    find_events,
    read_events_tsv,
    read_excerpts,
    recording_duration,
)
from mne_labram.seizure.szcore import COLUMNS, write_szcore_tsv
from mne_labram.signal.contract import ContractError

TUSZ = "# duration = 20.00 secs\nchannel,start_time,stop_time,label,confidence\n"
SEIZURES = bytes.fromhex(
    "0058 17fc2323 2074696d65207265736f6c7574696f6e3a2032353600 00ec00000005 0080 00ec00000005 0084 0000"
)
SUMMARY = (
    "File Name: chb01_01.edf\nNumber of Seizures in File: 0\nFile Name: chb01_02.edf\nNumber of Seizures in File: 1\n"
)
SUMMARY += "Seizure Start Time: 7 seconds\nSeizure End Time: 9 seconds\n"


def _table(*rows: str, columns: str = "onset\tduration\ttrial_type") -> str:
    return "\n".join((columns, *rows, ""))


def test_nothing_known_is_not_no_seizures(write_edf, tmp_path: Path) -> None:
    path = write_edf("rec.edf")
    assert find_events(path) is None
    # None of these speaks of seizures.
    (tmp_path / "rec_events.tsv").write_text(_table("1\t2\tT1", "3\t0\tT2"))
    (tmp_path / "rec.csv").write_text("name,age\nx,3\n")
    assert find_events(path) is None
    (tmp_path / "rec_events.tsv").write_text(_table("1\t2\tT1", "0\t20\tbckg"))
    assert find_events(path) == EventTable((), 20)


def test_order_of_what_is_beside(write_edf, tmp_path: Path) -> None:
    path = write_edf("chb01_02.edf")
    assert recording_duration(path) == 20
    found = []
    for name, content in (
        ("chb01-summary.txt", SUMMARY.encode()),
        ("chb01_02.edf.seizures", SEIZURES),
        ("chb01_02.csv_bi", f"{TUSZ}TERM,3,4,seiz,1\n".encode()),
        ("chb01_02.csv", f"{TUSZ}FP1-F7,3,4,cpsz,1\n".encode()),
        ("chb01_02_events.tsv", _table("1\t2\tseizure").encode()),
    ):
        (tmp_path / name).write_bytes(content)
        found.append(find_events(os.fspath(path)))
    assert [(event.onset, event.stop, event.event_type) for table in found for event in table.events] == [
        (7, 9, "sz"),
        (5, 10, "sz"),
        (3, 4, "sz"),
        (3, 4, "sz_foc_ia"),
        (1, 3, "sz"),
    ]
    assert {table.duration for table in found} == {20}


def test_only_the_summary_knows_of_recordings_without_seizures(write_edf, tmp_path: Path) -> None:
    (tmp_path / "chb01-summary.txt").write_text(SUMMARY)
    assert find_events(write_edf("chb01_01.edf")) == EventTable((), 20)
    assert find_events(write_edf("chb01_03.edf")) is None


def test_events_beside_a_bids_name(write_edf, tmp_path: Path) -> None:
    path = write_edf("sub-01_task-szMonitoring_run-00_eeg.edf")
    table = EventTable((SeizureEvent(2, 5, "sz_gen", 0.5, ("Fp1",)),), 20, datetime(2020, 3, 2, 10, 11, 12))
    write_szcore_tsv(table, tmp_path / "sub-01_task-szMonitoring_run-00_events.tsv")
    assert find_events(path) == table
    with pytest.warns(RuntimeWarning, match=r"is about a recording of 20 s and the one beside it has 30 s"):
        find_events(path, duration=30)


def test_damaged_labels_are_an_error_and_not_silence(write_edf, tmp_path: Path) -> None:
    path = write_edf("chb01_02.edf")
    for name, content in (
        ("chb01_02.edf.seizures", b"\x01"),
        ("chb01_02.csv", f"{TUSZ}TERM,3,4,what,1\n".encode()),
        ("chb01_02_events.tsv", b"\x00"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"^{name}"):
            find_events(path)
        (tmp_path / name).unlink()
    with pytest.raises(ContractError):
        recording_duration(tmp_path / "absent.edf")


def test_annotations_in_the_file(write_edf, shared_data: Path) -> None:
    marks = {1: [(1.0, 4.0, "Seizure 1"), (3.0, 0.5, "eye blink")], 6: [(6.25, 100.0, "fnsz")]}
    path = write_edf("marked.edf", kind="EDF+C", annotations=marks)
    table = find_events(path)
    assert table == EventTable((SeizureEvent(1, 4), SeizureEvent(6.25, 13.75, "sz_foc")), 20)
    assert events_from_annotations(mne.io.read_raw_edf(path, verbose="error")).events == table.events
    # The clock goes on in a gap and the data do not; and other words are no seizures.
    onsets = [*range(10), *range(30, 40)]
    assert find_events(write_edf("gap.edf", kind="EDF+D", onsets=onsets, annotations=marks)) is None
    assert find_events(write_edf("other.edf", kind="EDF+C", annotations={0: [(1.0, 2.0, "no seizure")]})) is None
    # The real excerpts: as the list that lies with them says.
    folder = shared_data / "chbmit"
    for name, table in read_excerpts(folder / "segments.json").items():
        assert find_events(folder / name) == (table if len(table) else None)
        raw = mne.io.read_raw_edf(folder / name, verbose="error")
        assert events_from_annotations(raw).intervals == table.intervals


def test_events_of_other_data_sets(tmp_path: Path) -> None:
    fname = tmp_path / "events.tsv"
    columns = "\t".join((*COLUMNS[:3], "lateralization", *COLUMNS[3:]))
    rows = ("0\t5\timpd\tn/a\tn/a\tn/a\tn/a\t100", "30\t45\tsz_foc_ia_m\tleft\t0.5\tall\tn/a\t100")
    fname.write_text(_table(*rows, columns=columns))  # SeizeIT2
    table = read_events_tsv(fname)
    assert table == EventTable((SeizureEvent(30, 45, "sz_foc_ia_m", 0.5, ("all",)),), 100)
    fname.write_text(_table("-1\t0\tstart", "5\t1e3\tCPSZ", "7\t1\tsz-what", "8\tn/a\tblink"))
    assert read_events_tsv(fname, duration=50).events == (
        SeizureEvent(5, 45, "sz_foc_ia"),
        SeizureEvent(7, 1, "sz"),
    )
    with pytest.raises(ValueError, match="does not say how long the recording is; pass duration"):
        read_events_tsv(fname)
    fname.write_text(_table("5\t2\tsz\t50", columns="onset\tduration\ttrial_type\trecordingDuration"))
    assert read_events_tsv(fname).duration == 50


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("-1\t2\tsz", "line 2: onset '-1' and duration '2' are no stretch of a recording of 20 s"),
        ("20\t2\tsz", "line 2: onset '20'"),
        ("1\tn/a\tsz", "line 2: onset '1' and duration 'n/a'"),
        ("=1\t1\tsz", "line 2: onset '=1'"),
        ("1\t2\tspike", "names neither a seizure nor bckg"),
        ("1\t2", "line 2: there are 2 cells"),
    ],
)
def test_wrong_events(tmp_path: Path, row: str, message: str) -> None:
    fname = tmp_path / "events.tsv"
    fname.write_text(_table(row))
    with pytest.raises(ValueError, match=rf"^events\.tsv.*{message}"):
        read_events_tsv(fname, duration=20)


@settings(max_examples=20)
@given(
    st.integers(0, 10_000),
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 500)), max_size=4),
    st.sampled_from([100.0, 128.0, 256.0, 500.0]),
)
def test_onsets_count_from_the_first_sample(first_samp, dated, in_samples, sfreq) -> None:
    """Whatever MNE's first_time and date are, also after cropping."""
    raw = mne.io.RawArray(np.zeros((1, 2600)), mne.create_info(["Fp1"], sfreq, "eeg"), first_samp, verbose="error")
    raw.set_meas_date(datetime(2020, 1, 1, tzinfo=UTC) if dated else None)
    onsets, durations = ([pair[column] / sfreq for pair in in_samples] for column in (0, 1))
    raw.set_annotations(mne.Annotations(onsets, durations, ["sz"] * len(onsets)))
    for skipped in (0, 600):
        if skipped:
            raw.crop(skipped / sfreq, verbose="error")
        table = events_from_annotations(raw)
        expected = sorted(
            (max(start - skipped, 0) / sfreq, (start + length - skipped) / sfreq)
            for start, length in in_samples
            if start + length > skipped + bool(skipped)
        )
        found = [event for event in table.events if event.duration > 1.5 / sfreq or not skipped]
        expected = [pair for pair in expected if pair[1] - pair[0] > 1.5 / sfreq or not skipped]
        np.testing.assert_allclose([(event.onset, event.stop) for event in found], expected, atol=2e-6, rtol=0)
        assert table.duration == (2600 - skipped) / sfreq
        assert (table.date_time is None) != dated


def _marked(*descriptions: str, duration: float = 1.0, **kwargs) -> mne.io.RawArray:
    raw = mne.io.RawArray(np.zeros((2, 1000)), mne.create_info(["Fp1", "Fp2"], 100.0, "eeg"), verbose="error")
    n = len(descriptions)
    return raw.set_annotations(mne.Annotations(np.arange(n), [duration] * n, list(descriptions), **kwargs))


@pytest.mark.parametrize(
    ("description", "event_type"),
    [
        ("seizure", "sz"),
        ("SEIZURE", "sz"),
        (" Sz ", "sz"),
        ("seizure p=0.93", "sz"),
        ("Seizure #2", "sz"),
        ("sz (3)", "sz"),
        ("sz_foc_ia", "sz_foc_ia"),
        ("sz-foc-ia 12", "sz_foc_ia"),
        ("sz_foc_who", "sz"),
        ("CPSZ", "sz_foc_ia"),
        ("fnsz", "sz_foc"),
        ("bckg", None),
        ("no seizure", None),
        ("pre-seizure", None),
        ("seizure end", None),
        ("seizures", None),
        ("preictal", None),
        ("BAD_ seizure", None),
        ("T0", None),
    ],
)
def test_descriptions(description: str, event_type: str | None) -> None:
    events = events_from_annotations(_marked(description)).events
    assert [event.event_type for event in events] == ([] if event_type is None else [event_type])


def test_own_descriptions() -> None:
    raw = _marked("Anfall", "CRISE", "seizure", "Anfall 2")
    assert len(events_from_annotations(raw, "anfall")) == 2
    events = events_from_annotations(raw, {"anfall": "sz_gen", "crise": "sz_foc"}).events
    assert [event.event_type for event in events] == ["sz_gen", "sz_foc", "sz_gen"]
    assert [event.event_type for event in events_from_annotations(raw, ["seizure", "crise"]).events] == ["sz", "sz"]
    for wrong in ([], {}, {"anfall": "bckg"}, {"anfall": "Anfall"}, ["bckg"]):
        with pytest.raises(ValueError, match="descriptions|description|event types"):
            events_from_annotations(raw, wrong)
    with pytest.raises(TypeError, match="Raw"):
        events_from_annotations("x.edf")


@pytest.mark.parametrize(
    ("description", "confidence"),
    [
        ("seizure p=0.93", 0.93),
        ("sz_foc (p = .5)", 0.5),
        ("seizure p=1.00", 1.0),
        ("seizure 2", None),
        ("sz p=7", None),
    ],
)
def test_confidence_in_the_description(tmp_path: Path, description: str, confidence: float | None) -> None:
    """EDF keeps nothing else of an annotation."""
    raw = _marked(description)
    assert events_from_annotations(raw).events[0].confidence == confidence
    raw.export(tmp_path / "x.edf", verbose="error")
    for table in (events_from_annotations(mne.io.read_raw(tmp_path / "x.edf")), find_events(tmp_path / "x.edf")):
        assert [event.confidence for event in table.events] == [confidence]
    own = _marked(description, extras=[{"confidence": 0.25}])
    assert events_from_annotations(own).events[0].confidence == 0.25


def test_extras_and_channels_are_kept() -> None:
    raw = _marked("sz", "sz", extras=[{"confidence": 0.5, "channels": "Fp1, Fp2"}, {"confidence": "n/a"}])
    first, second = events_from_annotations(raw).events
    assert (first.confidence, first.channels) == (0.5, ("Fp1", "Fp2"))
    assert (second.confidence, second.channels) == (None, ())
    raw = _marked("sz", ch_names=[("Fp2",)])
    assert events_from_annotations(raw).events[0].channels == ("Fp2",)


def test_a_mark_without_duration_is_no_event() -> None:
    with pytest.warns(RuntimeWarning, match="2 annotations of seizures without duration, which were left out"):
        assert len(events_from_annotations(_marked("sz", "seizure", duration=0.0))) == 0


@pytest.mark.parametrize(
    "text",
    ["sz" + "_" * 50_000 + "!", "sz " + "9" * 50_000 + "x", "sz" + " " * 50_000 + "x", "sz " + "9." * 25_000 + "!"],
    ids=["underscores", "digits", "spaces", "points"],
)
def test_long_words_take_no_time(text: str, tmp_path: Path) -> None:
    """Patterns that can match in many ways would take hours here."""
    assert len(events_from_annotations(_marked(text))) == 0
    fname = tmp_path / "events.tsv"
    fname.write_text(_table(f"{text[2:].strip()}\t1\tsz"))
    with pytest.raises(ValueError, match="no stretch of a recording"):
        read_events_tsv(fname, duration=20)
