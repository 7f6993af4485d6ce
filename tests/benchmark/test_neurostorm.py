"""The measurement of the shipped seizure detector: nobody is scored by what has seen them, or judged by themselves."""

from __future__ import annotations

from typing import Any

import mne
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mne_labram.benchmark.neurostorm import (
    fold_of,
    measure_folds,
    nested_parameters,
    out_of_fold,
    simulated_sensitivity,
)
from mne_labram.benchmark.seizure_baselines import BASELINE_CONTRACT, LineLength
from mne_labram.seizure.events import EventTable, SeizureEvent
from mne_labram.seizure.store import SeizureStore
from mne_labram.signal.events import EventParameters

CHANNELS = ["Fp1-F3", "F3-C3", "C3-P3", "P3-O1"]
RECORDS = ("03", "04", "15")
FREE = {"s1_a": 70, "s1_b": 70, "s2_a": 70, "s3_a": 70, "s4_a": 70, "s5_a": 30}
RULE = EventParameters(threshold=0.5, smoothing=1.0, min_duration=3.0)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SeizureStore:
    """Three records of a patient, with a loud seizure from 20 to 50 s and what came before, and five subjects."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    lengths = {f"chb01_{record}_{what}": 60 for record in RECORDS for what in ("seizure_full", "preictal")} | FREE
    info = mne.create_info(CHANNELS, 100.0, "eeg")
    for name, seconds in lengths.items():
        x = 10e-6 * rng.normal(size=(4, 100 * seconds))
        if name.endswith("full"):
            x[:, 2000:5000] += 80e-6 * np.sin(2 * np.pi * 4 * np.arange(3000) / 100)
        mne.io.RawArray(x, info, verbose="error").export(folder / f"{name}.edf", verbose="error")
    seizure = (SeizureEvent(20.0, 30.0),)
    return SeizureStore.open(
        folder,
        BASELINE_CONTRACT,
        events_of=lambda path: EventTable(seizure if "full" in path.stem else (), float(lengths[path.stem])),
        subject_of=lambda path: path.stem.split("_")[0],
        verbose="error",
    )


class Loud:
    """A second is a seizure if it is loud; remembers whom it was asked about."""

    def __init__(self, level: float = 30.0) -> None:
        self.level, self.asked = level, set()

    def probabilities(self, store: SeizureStore, file: int) -> np.ndarray:
        recording = store.recordings[file]
        self.asked.add(recording.path.stem)
        x = store.conformed.read(file, 0, recording.n_times)
        n = recording.n_times // 100
        rms = np.sqrt(np.square(x[:, : 100 * n].reshape(len(x), n, 100)).mean(axis=(0, 2)))
        return 1.0 / (1.0 + np.exp((self.level - rms) / 5.0))


def _names(store: SeizureStore) -> list[str]:
    return [each.path.stem for each in store.recordings]


def test_folds_are_records_and_whole_subjects(store: SeizureStore) -> None:
    folds = fold_of(store)
    assert folds.shape == (len(store),)
    by_name = dict(zip(_names(store), folds.tolist(), strict=True))
    for number, record in enumerate(RECORDS):
        assert by_name[f"chb01_{record}_preictal"] == by_name[f"chb01_{record}_seizure_full"] == number
    assert by_name["s1_a"] == by_name["s1_b"]
    # Dealt out evenly.
    subjects = [by_name[f"s{number}_a"] for number in range(1, 6)]
    assert sorted(np.bincount(subjects, minlength=3)) == [1, 2, 2]
    with pytest.raises(ValueError, match="no recording of chb02"):
        fold_of(store, patient="chb02")


def test_every_recording_is_scored_by_the_detector_of_its_fold(store: SeizureStore) -> None:
    folds, detectors = fold_of(store), [Loud(level) for level in (20.0, 30.0, 40.0)]
    scores = out_of_fold(detectors, store, folds)
    names = np.array(_names(store))
    for fold, detector in enumerate(detectors):
        assert detector.asked == set(names[folds == fold])
    for file, fold in enumerate(folds):
        np.testing.assert_array_equal(scores[file], Loud((20.0, 30.0, 40.0)[fold]).probabilities(store, file))


@given(fold=st.integers(0, 2), seed=st.integers(0, 1000), target=st.sampled_from([0.0, 24.0, 200.0]))
def test_the_threshold_of_a_fold_does_not_depend_on_its_own_scores(
    store: SeizureStore, fold: int, seed: int, target: float
) -> None:
    folds, rng = fold_of(store), np.random.default_rng(seed)
    scores = [rng.uniform(0.0, 1.0, store.n_seconds(file)) ** 3 for file in range(len(store))]
    before = nested_parameters(scores, store, folds, RULE, target_fp_per_day=target)
    assert len(before) == 3
    for changed in (0.0, 1.0, None, np.nan):
        others = [
            (rng.uniform(size=each.size) if changed is None else np.full(each.size, changed))
            if folds[file] == fold
            else each
            for file, each in enumerate(scores)
        ]
        after = nested_parameters(others, store, folds, RULE, target_fp_per_day=target)
        assert after[fold] == before[fold]


def test_the_threshold_of_a_fold_depends_on_all_others(store: SeizureStore) -> None:
    folds = fold_of(store)
    scores = [np.full(store.n_seconds(file), 0.01) for file in range(len(store))]
    for file, table in enumerate(store.tables):
        scores[file][20:50] = 0.9 if len(table) else 0.01
    names = _names(store)
    # One false alarm, in the first fold: the other folds' thresholds go above it, and that of the first does not.
    alarmed = next(file for file in range(len(store)) if folds[file] == 0 and names[file].startswith("s"))
    scores[alarmed][10:20] = 0.6
    quiet = nested_parameters(scores, store, folds, RULE, target_fp_per_day=0.0)
    with_alarm = [each.threshold for each in quiet]
    scores[alarmed][10:20] = 0.01
    without = [each.threshold for each in nested_parameters(scores, store, folds, RULE, target_fp_per_day=0.0)]
    assert with_alarm[0] == without[0]
    assert all(one > other for one, other in zip(with_alarm[1:], without[1:], strict=True))
    assert min(with_alarm[1:]) > 0.6
    with pytest.raises(ValueError, match="8 scores"):
        nested_parameters(scores[:8], store, folds, RULE, target_fp_per_day=0.0)
    with pytest.raises(ValueError, match="one fold"):
        nested_parameters(scores, store, np.zeros(len(store), int), RULE, target_fp_per_day=0.0)


def test_what_is_counted(store: SeizureStore) -> None:
    folds, detectors = fold_of(store), [Loud(45.0), Loud(45.0), Loud(45.0)]
    row, scores, calibration = measure_folds("loud", detectors, store, folds, RULE)
    assert (row.detector, row.n_found, row.n_seizures) == ("loud", 3, 3)
    assert (row.n_preictal_events, row.n_preictal, row.n_false_alarms) == (0, 3, 0)
    assert row.hours == pytest.approx(sum(FREE.values()) / 3600)
    assert row.windows["auroc"] == row.windows["auroc_by_record"] == 1.0
    assert row.windows["auroc_by_record_sd"] == 0.0
    # Windows of 4 s at steps of 1 s, of the patient only.
    assert row.windows["n_windows"] == row.unit_windows["n_windows"] == 6 * 57
    # All of one loudness, which this detector does not find loud.
    assert (row.windows["balanced_accuracy"], row.unit_windows["balanced_accuracy"]) == (1.0, 0.5)
    assert len(scores) == len(store)
    assert (calibration.n_recordings, calibration.n_seizures) == (len(store), 3)
    # One detector that calls everything a seizure costs its own fold only.
    row, _, _ = measure_folds("loud", [Loud(0.0), Loud(), Loud()], store, folds, RULE)
    names = _names(store)
    free = [name for name, fold in zip(names, folds, strict=True) if fold == 0 and name.startswith("s")]
    assert (row.n_found, row.n_preictal_events, row.n_false_alarms) == (3, 1, len(free))


def test_thresholds_are_chosen_where_a_target_is_given(store: SeizureStore) -> None:
    """Scores of background that pass a threshold of 0.5 everywhere."""
    folds, detectors = fold_of(store), [Loud(8.0), Loud(8.0), Loud(8.0)]
    settled, _, _ = measure_folds("loud", detectors, store, folds, RULE)
    assert settled.n_false_alarms == len(FREE)
    chosen, _, _ = measure_folds("loud", detectors, store, folds, RULE, target_fp_per_day=0.0)
    assert (chosen.n_false_alarms, chosen.n_found) == (0, 3)


def test_windows_that_are_not_analysed_are_no_seizures(store: SeizureStore) -> None:
    class Partial(Loud):
        def probabilities(self, store: SeizureStore, file: int) -> np.ndarray:
            scores = super().probabilities(store, file)
            return np.full_like(scores, np.nan) if scores.size == 4 and file % 3 == 0 else scores

    row, _, _ = measure_folds("partial", [Partial(), Partial(), Partial()], store, fold_of(store), RULE)
    assert row.windows["n_windows"] == 6 * 57
    assert 0.7 < row.windows["auroc"] < 1.0


def test_simulated_seizures_are_found_by_how_large_they_are(store: SeizureStore) -> None:
    folds, detectors = fold_of(store), [Loud(25.0), Loud(25.0), Loud(25.0)]
    before = store.conformed.read(0, 0, 1000)
    rows = simulated_sensitivity(detectors, store, folds, RULE, snr_db=(-20.0, 30.0), duration=20.0)
    assert [(row["snr_db"], row["sensitivity"]) for row in rows] == [(-20.0, 0.0), (30.0, 1.0)]
    # Without seizure, and 10 s longer than it at least.
    n_free = sum(not len(table) for table in store.tables)
    assert [row["n"] for row in rows] == [n_free] * 2
    names = np.array(_names(store))
    for fold, detector in enumerate(detectors):
        assert detector.asked <= set(names[folds == fold])
    assert simulated_sensitivity(detectors, store, folds, [RULE] * 3, snr_db=[30.0], duration=20.0) == rows[1:]
    np.testing.assert_array_equal(store.conformed.read(0, 0, 1000), before)
    (longer,) = simulated_sensitivity(detectors, store, folds, RULE, snr_db=[30.0], duration=55.0)
    assert longer["n"] == sum(seconds >= 65 for seconds in FREE.values())
    with pytest.raises(ValueError, match="10 s longer than a seizure of 600 s"):
        simulated_sensitivity(detectors, store, folds, RULE, duration=600.0)


def test_what_a_detector_remembers_of_a_recording_is_not_what_it_is_shown(store: SeizureStore) -> None:
    """A memo of statistics by recording does not serve for that recording with a seizure in it."""

    def found(memo: dict[Any, Any] | None) -> list[float]:
        detectors = [LineLength(memo=memo).fit(store) for _ in RECORDS]
        rows = simulated_sensitivity(detectors, store, fold_of(store), RULE, snr_db=(-20.0, 30.0), duration=20.0)
        return [row["sensitivity"] for row in rows]

    assert found({}) == found(None) == [0.0, 1.0]
