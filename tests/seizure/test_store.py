"""Recordings with their tables of seizures."""

from __future__ import annotations

import pickle
from pathlib import Path

import mne
import numpy as np
import pytest

from mne_labram.seizure.chbmit import read_excerpts
from mne_labram.seizure.events import EventTable, SeizureEvent
from mne_labram.seizure.store import SeizureStore
from mne_labram.signal.contract import LABRAM_CONTRACT
from mne_labram.signal.store import RecordingStore


def _write(folder: Path, subject: str, name: str, seconds: float, events: str | None) -> Path:
    rng = np.random.default_rng(len(name))
    info = mne.create_info(["Fp1", "F3", "C3", "P3"], 200.0, "eeg")
    raw = mne.io.RawArray(20e-6 * rng.normal(size=(4, round(200 * seconds))), info, verbose="error")
    path = folder / subject / f"{name}_raw.fif"
    path.parent.mkdir(parents=True, exist_ok=True)
    raw.save(path, verbose="error")
    if events is not None:
        head = "onset\tduration\teventType\tconfidence\tchannels\tdateTime\trecordingDuration\n"
        path.with_name(f"{name}_raw_events.tsv").write_text(head + events)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four recordings of three subjects: a seizure of 10.4 s, none, nothing known, and labels that make no sense."""
    out = tmp_path_factory.mktemp("seizures")
    _write(out, "s1", "one", 40, "10.3\t10.4\tsz\tn/a\tn/a\tn/a\t40\n")
    _write(out, "s1", "two", 30, "0\t30\tbckg\tn/a\tn/a\tn/a\t30\n")
    _write(out, "s2", "three", 20, None)
    _write(out, "s3", "four", 20, "-5\t3\tsz\tn/a\tn/a\tn/a\t20\n")
    return out


def _subject(path: Path) -> str:
    return path.parent.name


def _open(folder: Path, **options) -> SeizureStore:
    return SeizureStore.open(folder, subject_of=_subject, **options)


def test_open(folder: Path) -> None:
    store = _open(folder)
    assert len(store) == 2
    assert store.subjects == ["s1"]
    assert store.n_seizures == 1
    assert store.n_hours == pytest.approx(70 / 3600)
    reasons = {Path(path).name: sentence for path, sentence in store.skipped}
    assert "Nothing is known about its seizures" in reasons["three_raw.fif"]
    assert "onset" in reasons["four_raw.fif"]
    whole = _open(folder, unlabelled="background")
    assert whole.subjects == ["s1", "s2"]
    assert [len(table) for table in whole.tables] == [1, 0, 0]
    with pytest.raises(ValueError, match=r"three_raw.fif: nothing is known"):
        _open(folder, unlabelled="raise")
    with pytest.raises(ValueError, match="onset"):
        _open(folder, errors="raise")
    with pytest.raises(ValueError, match="unlabelled must be one of"):
        _open(folder, unlabelled="no")
    with pytest.raises(ValueError, match="None of the 4 recordings has labels"):
        _open(folder, events_of=lambda path: None)


def test_labels(folder: Path) -> None:
    store = _open(folder)
    # 10.3 to 20.7 s: 0.7 of second 10, 0.7 of second 20.
    assert np.flatnonzero(store.labels(0)).tolist() == list(range(10, 21))
    assert store.labels(0).shape == store.unusable(0).shape == (40,)
    assert not store.labels(1).any()
    assert store.window_labels(0, 1800, 800).tolist() == [0, 1, 1, 1]
    # A window that begins at 9.7 s: 0.4 of its first second.
    assert store.window_labels(0, 1940, 800).tolist() == [0, 1, 1, 1]
    assert store.window_labels(0, 1980, 800).tolist() == [1, 1, 1, 1]
    file, start = np.array([0, 0, 0, 1]), np.array([0, 1860, 4140, 2000])
    assert store.has_seizure(file, start, 200).tolist() == [False, False, False, False]
    assert store.has_seizure(file, start, 220).tolist() == [False, True, False, False]
    mask = store.unusable(0)
    mask[:] = True
    assert not store.unusable(0).any()


def test_classes_of_seizures(folder: Path) -> None:
    """The most special class; a seizure of unknown type where there is none, or where two disagree."""
    store = _open(folder)
    kinds = {"sz_foc_ia": (0, 4), "sz_gen_m_tonic": (6, 2), "sz_uo": (10, 2), "sz_gen": (2, 3)}
    events = [SeizureEvent(onset, duration, kind) for kind, (onset, duration) in kinds.items()]
    store.tables[0] = EventTable(tuple(events), 40.0)
    classes = ["bckg", "sz_foc", "sz_gen", "sz_gen_m_tonic"]
    assert store.window_labels(0, 0, 2600, classes).tolist() == [1, 1, -2, -2, 2, 0, 3, 3, 0, 0, -2, -2, 0]
    assert store.window_labels(0, 0, 2600).tolist() == [1, 1, 1, 1, 1, 0, 1, 1, 0, 0, 1, 1, 0]


def test_select_and_pickle(folder: Path) -> None:
    store = _open(folder, unlabelled="background")
    some = store.select(exclude_subjects=["s2"])
    assert some.subjects == ["s1"]
    assert some.n_seizures == 1
    assert [store.subject_of(i) for i in range(3)] == ["s1", "s1", "s2"]
    assert store.select(files=[2]).subject_of(0) == "s2"
    again = pickle.loads(pickle.dumps(store))
    assert np.array_equal(again.labels(0), store.labels(0))
    assert np.array_equal(again.conformed.read(0, 0, 200), store.conformed.read(0, 0, 200))
    with pytest.raises(ValueError, match="s9"):
        store.select(subjects=["s9"])


def test_two_data_sets_with_one_name(folder: Path, tmp_path: Path) -> None:
    _write(tmp_path / "other", "s1", "one", 20, "0\t20\tbckg\tn/a\tn/a\tn/a\t20\n")
    store = _open([folder, tmp_path / "other"])
    assert store.subjects == sorted([f"{folder.name}/s1", "other/s1"])
    assert len(store.select(subjects=["other/s1"])) == 1
    assert store.select(subjects=["other/s1"]).subjects == ["other/s1"]


def test_wrong_tables(folder: Path) -> None:
    conformed = RecordingStore(folder, subject_of=_subject).conform(LABRAM_CONTRACT)
    lengths = [each.n_times / 200 for each in conformed.recordings]
    tables = [EventTable((SeizureEvent(1, 2),), length) for length in lengths]
    assert SeizureStore(conformed, tables).n_seizures == 4
    with pytest.raises(ValueError, match="4 recordings and 3 tables"):
        SeizureStore(conformed, tables[:3])
    with pytest.raises(ValueError, match="another recording's table"):
        SeizureStore(conformed, [EventTable((), 3600.0), *tables[1:]])


def test_a_table_of_another_length_costs_its_own_recording_only(folder: Path, tmp_path: Path) -> None:
    """One bad file of labels among thousands must not end everything."""
    _write(tmp_path, "s1", "one", 20, "5\t3\tsz\tn/a\tn/a\tn/a\t20\n")
    _write(tmp_path, "s2", "two", 20, "5\t3\tsz\tn/a\tn/a\tn/a\t3600\n")
    with pytest.warns(RuntimeWarning, match="see whether they belong together"):
        store = _open(tmp_path)
    assert [each.path.name for each in store.recordings] == ["one_raw.fif"]
    assert store.subjects == ["s1"]
    ((path, sentence),) = store.skipped
    assert path.endswith("two_raw.fif")
    assert "another recording's table" in sentence
    with pytest.raises(ValueError, match="another recording's table"):
        _open(tmp_path, errors="raise", events_of=lambda path: EventTable((), 3600.0))
    with pytest.raises(ValueError, match="No recording has labels of its own length"):
        _open(tmp_path, events_of=lambda path: EventTable((), 3600.0))


def test_real_seizures(shared_data: Path) -> None:
    tables = read_excerpts(shared_data / "chbmit" / "segments.json")
    store = SeizureStore.open(shared_data / "chbmit", events_of=lambda path: tables[path.name])
    assert len(store) == 18
    assert store.n_seizures == 11
    for i, recording in enumerate(store.recordings):
        assert store.labels(i).all() == ("preictal" not in recording.path.name)
        assert store.labels(i).any() == ("preictal" not in recording.path.name)
