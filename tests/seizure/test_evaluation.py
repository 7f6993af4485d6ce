"""Evaluation by subject: nobody is tested on what was learned from them, nothing is done twice, nothing piles up."""

from __future__ import annotations

import functools
import gc
import json
import weakref
from collections import defaultdict
from datetime import datetime, timedelta
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from dask.distributed import Client, LocalCluster
from sklearn.metrics import average_precision_score, roc_auc_score

from mne_labram.seizure.evaluation import leave_one_subject_out, personalised_evaluation
from mne_labram.seizure.events import EventTable, SeizureEvent
from mne_labram.seizure.fold_results import read_result
from mne_labram.seizure.scoring import score_tables
from mne_labram.signal.events import EventParameters, events_from_scores
from tests.seizure.stubs import OracleDetector, Recording, StubStore, clinic


def calls(folder: Path) -> dict[str, dict[str, list[str]]]:
    """Return the recordings that each fold's detector was shown, by method."""
    out = {}
    for fname in sorted(folder.glob("fold-*/calls.txt")):
        seen = defaultdict(list)
        for line in fname.read_text().splitlines():
            what, _, name = json.loads(line)
            seen[what].append(name)
        out[fname.parent.name.removeprefix("fold-")] = seen
    return out


def test_the_tested_subject_is_seen_by_the_test_only(tmp_path) -> None:
    store = clinic(6)
    evaluation = leave_one_subject_out(store, OracleDetector, folder=tmp_path)
    seen = calls(tmp_path)
    assert list(seen) == store.subjects
    for fold in evaluation.folds:
        own = [each.name for each in store.made if each.subject == fold.name]
        fitted, scored = seen[fold.name]["fit"], seen[fold.name]["probabilities"]
        assert sorted(fitted + own) == sorted(each.name for each in store.made)
        # First those that choose the threshold, which are no test recordings, then the test, each once.
        assert [name.split("/")[-1] for name in fold.validation] + own == scored
        assert not set(own) & set(scored[: len(fold.validation)])
        assert fold.calibrated_on == "validation"
        assert set(fold.train).isdisjoint(fold.validation)


def test_the_numbers_are_those_of_the_parts(tmp_path) -> None:
    """Everything again by hand: threshold, events, scores."""
    store = clinic(5)
    evaluation = leave_one_subject_out(store, OracleDetector, folder=tmp_path, seed=3)
    frame = evaluation.to_frame()
    assert frame.index.tolist() == store.subjects
    reference, hypothesis, subjects = [], [], []
    for fold in evaluation.folds:
        detector = OracleDetector().fit(StubStore(), None, folder=tmp_path, seed=3)
        parameters = fold.calibration.parameters
        for file, each in enumerate(store.made):
            if each.subject != fold.name:
                continue
            events = events_from_scores(detector.probabilities(store, file), parameters)
            reference.append(each.table)
            hypothesis.append(EventTable(tuple(SeizureEvent(a, b - a) for a, b, _ in events), each.duration))
            subjects.append(each.subject)
            (kept,) = (row for row in fold.detections if row["recording"] == each.name)
            assert [[a, b] for a, b, _ in kept["detected"]] == [[a, b - a] for a, b, _ in events]
            assert kept["true"] == [[onset, 40.0] for onset in each.onsets]
        assert frame.loc[fold.name, "threshold"] == parameters.threshold
        own = [file for file, each in enumerate(store.made) if each.subject == fold.name]
        labels = np.concatenate([store.labels(file) for file in own])
        probabilities = np.concatenate([detector.probabilities(store, file) for file in own])
        assert fold.auroc == pytest.approx(roc_auc_score(labels, probabilities))
        assert fold.average_precision == pytest.approx(average_precision_score(labels, probabilities))
    scores = score_tables(reference, hypothesis, subjects)
    assert evaluation.scores == scores
    pd.testing.assert_series_equal(frame.event_f1, scores.to_frame().event_f1, check_names=False)
    pd.testing.assert_series_equal(frame.sample_sensitivity, scores.to_frame().sample_sensitivity, check_names=False)
    assert scores.pooled().sensitivity == 0.8
    text = str(evaluation)
    assert text.splitlines()[1].startswith("p00 ")
    assert str(scores) in text
    written = json.loads((tmp_path / "evaluation.json").read_text())
    assert written["scores"]["event"]["mean"]["f1"] == pytest.approx(scores.mean()["f1"])
    assert set(written["folds"]) == set(store.subjects)
    assert read_result(tmp_path / "fold-p00.json") == evaluation.folds[0]


def test_finished_folds_are_not_run_again(tmp_path) -> None:
    store, runs = clinic(4), []

    class Failing(OracleDetector):
        def fit(self, train, validation=None, *, folder, seed=0):
            runs.append(folder.name)
            if len(runs) == 3:
                raise ValueError("The power went off.")
            return super().fit(train, validation, folder=folder, seed=seed)

    with pytest.raises(ValueError, match="power"):
        leave_one_subject_out(store, Failing, folder=tmp_path)
    names = sorted(path.name for path in tmp_path.glob("*.json"))
    assert names == ["fold-p00.json", "fold-p01.json", "settings.json"]
    before = {name: (tmp_path / name).read_bytes() for name in names}
    again = leave_one_subject_out(store, Failing, folder=tmp_path)
    assert runs == ["fold-p00", "fold-p01", "fold-p02", "fold-p02", "fold-p03"]
    assert {name: (tmp_path / name).read_bytes() for name in names} == before
    whole = leave_one_subject_out(store, OracleDetector, folder=tmp_path / "whole")
    assert again.scores == whole.scores
    # A file that was damaged counts as none.
    (tmp_path / "fold-p01.json").write_text("{")
    assert leave_one_subject_out(store, Failing, folder=tmp_path).scores == whole.scores
    assert runs[5:] == ["fold-p01"]
    leave_one_subject_out(store, Failing, folder=tmp_path, resume=False)
    assert len(runs) == 10
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seed": 1}, "seed: 0 there, 1 here"),
        ({"target_fp_per_day": 5.0}, "target_fp_per_day: None there, 5.0 here"),
        ({"parameters": EventParameters(smoothing=9.0)}, "parameters"),
        ({"n_validation_subjects": 2}, "who is trained on"),
        ({"detector": "another"}, "detector: OracleDetector there, another here"),
        ({"store": clinic(3)}, "recordings and their seizures"),
        ({"store": StubStore([*clinic(4).made[:-1], Recording("p03", "p03_9.edf")])}, "recordings and their seizures"),
    ],
)
def test_other_settings_are_refused(tmp_path, options, words) -> None:
    leave_one_subject_out(clinic(4), OracleDetector, folder=tmp_path)
    store = options.pop("store", clinic(4))
    before = (tmp_path / "settings.json").read_bytes()
    with pytest.raises(ValueError, match=words) as error:
        leave_one_subject_out(store, OracleDetector, folder=tmp_path, **options)
    assert "resume=False" in str(error.value)
    assert (tmp_path / "settings.json").read_bytes() == before
    (tmp_path / "settings.json").unlink()
    with pytest.raises(ValueError, match=r"no settings\.json"):
        leave_one_subject_out(clinic(4), OracleDetector, folder=tmp_path)


def test_folds_of_other_types_of_seizures_are_refused(tmp_path) -> None:
    """A detector that tells types apart learns something else from them."""

    class Typed(Recording):
        @property
        def table(self) -> EventTable:
            return EventTable(tuple(SeizureEvent(onset, 40.0, "sz_foc") for onset in self.onsets), self.duration)

    leave_one_subject_out(clinic(3), OracleDetector, folder=tmp_path)
    typed = StubStore([Typed(each.subject, each.name, each.duration, each.onsets) for each in clinic(3).made])
    with pytest.raises(ValueError, match="recordings and their seizures"):
        leave_one_subject_out(typed, OracleDetector, folder=tmp_path)


def test_what_is_remembered_of_a_factory(tmp_path) -> None:
    factory = functools.partial(OracleDetector, 0.1, false_alarms=0.0)
    evaluation = leave_one_subject_out(clinic(3), factory, folder=tmp_path)
    assert evaluation.settings["detector"] == "OracleDetector(0.1, false_alarms=0.0)"
    assert evaluation.scores.pooled().n_fp == 0
    with pytest.raises(TypeError, match="model_factory"):
        leave_one_subject_out(clinic(3), OracleDetector(), folder=tmp_path / "other")


def test_a_target(tmp_path) -> None:
    """Twenty minutes cannot show 20 false alarms a day, hours can; both are done, and it is said."""
    few = leave_one_subject_out(clinic(4), OracleDetector, folder=tmp_path / "few", target_fp_per_day=20.0)
    assert all("from so little data" in note for fold in few.folds for note in fold.notes)
    assert "from so little data" in str(few)
    many = leave_one_subject_out(
        clinic(4, 15), OracleDetector, folder=tmp_path / "many", target_fp_per_day=20.0, n_validation_subjects=2
    )
    assert [fold.notes for fold in many.folds] == [()] * 4
    assert (many.to_frame().validation_fp_per_day <= 20.0).all()
    assert {fold.calibration.target_fp_per_day for fold in many.folds} == {20.0}


def test_the_threshold_comes_from_training_where_nobody_else_has_a_seizure(tmp_path) -> None:
    made = clinic(4).made
    for each in made:
        each.onsets = each.onsets if each.subject in ("p00", "p01") else ()
    evaluation = leave_one_subject_out(StubStore(made), OracleDetector, folder=tmp_path)
    frame = evaluation.to_frame()
    sources = {fold.name: fold.calibrated_on for fold in evaluation.folds}
    assert sources == {"p00": "training", "p01": "training", "p02": "validation", "p03": "validation"}
    assert np.isnan(frame.loc["p02", "auroc"])
    assert np.isnan(frame.loc["p02", "event_sensitivity"])
    assert "chosen on training recordings" in str(evaluation)
    for name, seen in calls(tmp_path).items():
        own = {each.name for each in made if each.subject == name}
        assert own.isdisjoint(seen["fit"])
        assert own.isdisjoint(seen["probabilities"][: -len(own)])
        assert set(seen["probabilities"][-len(own) :]) == own


def test_the_threshold_comes_from_training_where_validation_cannot_be_analysed(tmp_path) -> None:
    """One recording without a usable second must not end the evaluation of all others."""

    class Blind(OracleDetector):
        def fit(self, *args, **kwargs):
            self.__dict__.update(super().fit(*args, **kwargs).__dict__)
            return self

        def probabilities(self, store, file):
            scores = super().probabilities(store, file)
            return np.full_like(scores, np.nan) if store.made[file].subject == "p01" else scores

    evaluation = leave_one_subject_out(clinic(4), Blind, folder=tmp_path, n_validation_subjects=1, seed=1)
    frame = evaluation.to_frame()
    blind = [fold.name for fold in evaluation.folds if fold.calibrated_on == "training"]
    assert blind == [fold.name for fold in evaluation.folds if "p01_0.edf" in fold.validation]
    assert 0 < len(blind) < 4
    assert frame.loc["p01", "event_sensitivity"] == 0.0
    assert np.isnan(frame.loc["p01", "auroc"])
    assert frame.n_not_analysed["p01"] > 2000
    assert (frame.event_sensitivity[["p02", "p03"]] == 1.0).all()


def test_bad_scores_are_refused(tmp_path) -> None:
    class Short(OracleDetector):
        def fit(self, *args, **kwargs):
            return self

        def probabilities(self, store, file):
            return np.zeros(7)

    with pytest.raises(ValueError, match=r"scores of shape \(7,\) for"):
        leave_one_subject_out(clinic(3), Short, folder=tmp_path)
    assert not list(tmp_path.glob("fold-*.json"))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"target_fp_per_day": -1.0}, ValueError),
        ({"target_fp_per_day": "5"}, TypeError),
        ({"parameters": []}, ValueError),
        ({"parameters": [{"threshold": 0.5}]}, TypeError),
    ],
)
def test_a_choice_that_cannot_be_made_is_refused_before_anything_is_trained(tmp_path, options, error) -> None:
    def factory():
        raise AssertionError("A detector was made.")

    with pytest.raises(error, match=next(iter(options))):
        leave_one_subject_out(clinic(3), factory, folder=tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_memory_does_not_grow_with_subjects(tmp_path) -> None:
    """Neither detectors nor scores live longer than their fold."""
    alive: list[weakref.ref] = []
    most = 0

    class Tracked(OracleDetector):
        def fit(self, train, validation=None, *, folder, seed=0):
            nonlocal most
            most = max(most, sum(each() is not None for each in alive))
            self.fitted, self.folder, self.seed = True, folder, seed
            self.weights = np.zeros(1000)
            alive.extend([weakref.ref(self), weakref.ref(self.weights), weakref.ref(train)])
            return self

        def probabilities(self, store, file):
            scores = super().probabilities(store, file)
            alive.append(weakref.ref(scores))
            return scores

    evaluation = leave_one_subject_out(clinic(12), Tracked, folder=tmp_path)
    assert len(evaluation.folds) == 12
    assert len(alive) > 12 * 5
    assert most == 0
    gc.collect()
    assert not [each for each in alive if each() is not None]


@pytest.mark.filterwarnings("ignore::DeprecationWarning:distributed")
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_on_a_cluster(tmp_path, monkeypatch) -> None:
    # Workers must be able to import the stubs.
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    store = clinic(4)
    serial = leave_one_subject_out(store, OracleDetector, folder=tmp_path / "serial")
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            local_directory=str(tmp_path / "dask"),
        ) as cluster,
        Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        spread = leave_one_subject_out(store, OracleDetector, folder=tmp_path / "cluster")
    assert spread.scores == serial.scores
    assert [fold.calibration for fold in spread.folds] == [fold.calibration for fold in serial.folds]
    assert calls(tmp_path / "cluster") == calls(tmp_path / "serial")


def test_recordings_of_one_patient(tmp_path) -> None:
    """Those of somebody who is trained on choose the threshold and do not stop the training."""
    made = [Recording("p", f"p_{i}.edf", 1200.0, (300.0 + i,)) for i in range(5)]
    store = StubStore([*made, *(Recording(f"q{i}", f"q{i}.edf") for i in range(3))])
    evaluation = leave_one_subject_out(
        store, OracleDetector, folder=tmp_path, groups="recording", subjects=["p"], n_validation_subjects=4
    )
    assert len(evaluation.folds) == 5
    seen = calls(tmp_path)
    for fold in evaluation.folds:
        assert fold.calibrated_on == "validation"
        fitted = set(seen[fold.name]["fit"])
        assert set(fold.train) <= fitted
        assert {name for name in fitted - set(fold.train)} == {name for name in fold.validation if name[0] == "q"}
        assert any(name[0] == "p" for name in fold.validation)
        assert fold.test[0] not in fitted
        assert seen[fold.name]["probabilities"] == [*fold.validation, *fold.test]


def test_in_threads(tmp_path) -> None:
    store = clinic(4)
    with joblib.parallel_config(backend="threading"):
        several = leave_one_subject_out(store, OracleDetector, folder=tmp_path / "two", n_jobs=2)
        target = leave_one_subject_out(
            store, OracleDetector, folder=tmp_path / "target", n_jobs=4, target_fp_per_day=20.0
        )
    assert several.scores == leave_one_subject_out(store, OracleDetector, folder=tmp_path / "one").scores
    # What a fold has to say stands in its own result, and in it only.
    assert [len(fold.notes) for fold in target.folds] == [1] * 4


def test_a_patient_over_time(tmp_path) -> None:
    begin = datetime(2020, 1, 1)
    made = [
        Recording("p", f"{i}.edf", 1200.0, (300.0,) if i in (0, 2, 3, 5) else (), begin + timedelta(hours=i))
        for i in range(8)
    ]
    store = StubStore([*made[::-1], Recording("q", "q.edf", onsets=(5.0,))])
    evaluation = personalised_evaluation(store, "p", OracleDetector, folder=tmp_path, n_folds=3)
    assert [fold.test for fold in evaluation.folds] == [("3.edf", "2.edf"), ("5.edf", "4.edf"), ("7.edf", "6.edf")]
    assert [fold.train for fold in evaluation.folds] == [
        ("1.edf", "0.edf"),
        ("2.edf", "1.edf", "0.edf"),
        ("4.edf", "3.edf", "2.edf", "1.edf", "0.edf"),
    ]
    assert [fold.calibrated_on for fold in evaluation.folds] == ["training", "validation", "validation"]
    scores = evaluation.scores
    assert (scores.n_subjects, scores.n_recordings, scores.n_seizures) == (1, 6, 3)
