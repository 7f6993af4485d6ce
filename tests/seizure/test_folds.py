"""Who is trained on and who is tested."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import mne
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mne_labram.seizure.folds import Fold, persons_of, recording_names, subject_folds, time_series_folds
from tests.seizure.stubs import Recording, StubStore, clinic


def people(store: StubStore, files: tuple[int, ...]) -> set[str]:
    return {store.subject_of(file) for file in files}


@given(
    sizes=st.lists(st.tuples(st.integers(1, 3), st.booleans()), min_size=3, max_size=9),
    n_validation=st.one_of(st.none(), st.integers(0, 1)),
    n_folds=st.one_of(st.none(), st.integers(2, 3)),
    seed=st.integers(0, 5),
)
def test_nobody_is_in_two_parts(sizes, n_validation, n_folds, seed) -> None:
    store = StubStore(
        [
            Recording(f"s{i}", f"s{i}_{j}", 600.0, (100.0,) if ill and j == 0 else ())
            for i, (n, ill) in enumerate(sizes)
            for j in range(n)
        ]
    )
    try:
        folds = subject_folds(store, n_validation=n_validation, n_folds=n_folds, seed=seed)
    except ValueError as error:
        assert "no seizure left" in str(error) or "leave nobody to train on" in str(error)  # noqa: PT017
        return
    assert sorted(file for fold in folds for file in fold.test) == list(range(len(store)))
    for fold in folds:
        parts = [people(store, part) for part in (fold.train, fold.validation, fold.test)]
        assert sum(len(part) for part in parts) == len(sizes)
        assert set().union(*parts) == set(store.subjects)
        assert any(store.tables[file].events for file in fold.train)
        ill = {each.subject for each in store.made if each.onsets} - parts[2]
        if len(ill) > 1 and fold.validation:
            assert ill & parts[1]
        if n_validation is not None:
            assert len(parts[1]) == n_validation
    assert subject_folds(store, n_validation=n_validation, n_folds=n_folds, seed=seed) == folds


def test_the_seed_draws_validation() -> None:
    store = clinic(8)
    drawn = {tuple(fold.validation for fold in subject_folds(store, seed=seed)) for seed in range(4)}
    assert len(drawn) == 4
    assert [fold.name for fold in subject_folds(store)] == store.subjects
    assert {len(people(store, fold.validation)) for fold in subject_folds(store)} == {1}
    assert {len(people(store, fold.validation)) for fold in subject_folds(store, n_validation=3)} == {3}


@pytest.mark.parametrize(
    ("names", "dataset", "pairs"),
    [
        (["chb01", "chb02", "chb21"], "any", {"chb21": "chb01"}),
        (["sub-chb01", "sub-chb21"], "any", {"sub-chb21": "sub-chb01"}),
        (["CHB01", "CHB21"], "any", {"CHB21": "CHB01"}),
        (["01", "21", "24"], "CHB-MIT", {"21": "01"}),
        (["sub-01", "sub-21", "sub-24"], "chbmit", {"sub-21": "sub-01"}),
        # 23 subjects numbered anew: 21 is somebody else.
        (["01", "21", "23"], "chbmit", {}),
        (["01", "21", "24"], "siena", {}),
        (["chb02", "chb21"], "any", {}),
        (["S001", "S021", "chb121"], "any", {}),
    ],
)
def test_one_patient_with_two_names(names, dataset, pairs) -> None:
    store = StubStore([Recording(name, f"{name}.edf", dataset=dataset) for name in names])
    assert persons_of(store) == [pairs.get(name, name) for name in names]
    assert persons_of(store, {}) == names


def test_chb21_is_never_trained_on_to_test_chb01() -> None:
    store = StubStore(
        [Recording(name, f"{name}.edf", onsets=(100.0,)) for name in ("chb01", "chb02", "chb03", "chb21")]
    )
    folds = subject_folds(store, n_validation=1)
    assert [fold.name for fold in folds] == ["chb01", "chb02", "chb03"]
    assert folds[0].test == (0, 3)
    for fold in folds[1:]:
        parts = [people(store, part) for part in (fold.train, fold.validation, fold.test)]
        assert sum({"chb01", "chb21"} <= part for part in parts) == 1
    with pytest.raises(ValueError, match="no recording of that subject"):
        subject_folds(store, same_subject={"chb99": "chb01"})
    assert len(subject_folds(store, same_subject={"chb02": "chb03"})) == 3
    # Asked for by either name, all recordings of the person are tested.
    for name in ("chb01", "chb21"):
        (fold,) = subject_folds(store, subjects=[name])
        assert (fold.name, fold.test) == ("chb01", (0, 3))


def test_two_data_sets_with_one_name(capsys) -> None:
    store = StubStore([Recording("S001", "a.edf", dataset="one"), Recording("S001", "a.edf", dataset="two")])
    assert persons_of(store) == ["one/S001", "two/S001"]
    assert recording_names(store) == ["one/S001/a.edf", "two/S001/a.edf"]
    store.made.append(store.made[0])
    assert len(set(recording_names(store))) == 3
    # Whether they are one person only the user knows.
    store.made[:] = [*store.made[:2], Recording("S002", "b.edf", onsets=(5.0,), dataset="one")]
    assert len(subject_folds(store, subjects=["one/S001"])) == 1
    assert "S001 is in several data sets (one, two); they are" in " ".join(capsys.readouterr().out.split())
    (fold,) = subject_folds(store, subjects=["one/S001"], same_subject={"two/S001": "one/S001"})
    assert fold.test == (0, 1)
    assert "several data sets" not in capsys.readouterr().out


def test_some_subjects_recordings_or_groups() -> None:
    store = clinic(4)
    folds = subject_folds(store, subjects=["p01"])
    assert [fold.test for fold in folds] == [(2, 3)]
    assert len(folds[0].train) + len(folds[0].validation) == 6
    folds = subject_folds(store, groups="recording", subjects=["p01"], n_validation=2)
    assert [fold.test for fold in folds] == [(2,), (3,)]
    assert {(len(fold.train), len(fold.validation)) for fold in folds} == {(5, 2)}
    folds = subject_folds(store, groups=list("aabbccdd"), n_validation=1)
    assert [fold.name for fold in folds] == list("abcd")
    with pytest.raises(ValueError, match="names 2 recordings and there are 8"):
        subject_folds(store, groups=["a", "b"])
    with pytest.raises(ValueError, match="groups must be"):
        subject_folds(store, groups="day")
    with pytest.raises(TypeError, match="one string"):
        subject_folds(store, subjects="p01")
    with pytest.raises(ValueError, match="no recording of p77 in the store; there are those of p"):
        subject_folds(store, subjects=["p77"])
    with pytest.raises(ValueError, match="n_folds"):
        subject_folds(store, n_folds=5)
    with pytest.raises(ValueError, match="leave nobody"):
        subject_folds(store, n_validation=3)
    with pytest.raises(ValueError, match="0 or more"):
        subject_folds(store, n_validation=-1)
    with pytest.raises(ValueError, match="one subject"):
        subject_folds(clinic(1))
    with pytest.raises(ValueError, match="Without p00 there is no seizure"):
        subject_folds(StubStore([Recording("p00", "a", onsets=(10.0,)), Recording("p01", "b"), Recording("p02", "c")]))


def test_a_fold_is_checked() -> None:
    with pytest.raises(ValueError, match="two parts"):
        Fold("a", (1, 2), (), (2,))
    with pytest.raises(ValueError, match="needs recordings"):
        Fold("a", (1, 2), (3,), ())


BEGIN = datetime(2020, 1, 1)


def patient(hours: list[float], ill: set[int], duration: float = 1800.0) -> StubStore:
    """Return recordings that began at some hours, not in their order."""
    made = [
        Recording("a", f"{i}.edf", duration, (100.0,) if i in ill else (), BEGIN + timedelta(hours=hour))
        for i, hour in enumerate(hours)
    ]
    return StubStore([Recording("b", "b.edf"), *made[::-1]])


@given(
    hours=st.lists(st.integers(0, 40), min_size=2, max_size=12),
    ill=st.sets(st.integers(0, 11)),
    window=st.sampled_from(["expanding", "fixed"]),
    n_folds=st.integers(1, 4),
    validate=st.booleans(),
)
def test_training_ends_before_the_test_begins(hours, ill, window, n_folds, validate) -> None:
    store = patient([hour / 4 for hour in hours], ill)
    try:
        folds = time_series_folds(store, "a", n_folds=n_folds, window=window, validate=validate)
    except ValueError as error:
        assert "n_folds must" in str(error) or "No recording of a" in str(error)  # noqa: PT017
        return
    tested = [file for fold in folds for file in fold.test]
    assert len(set(tested)) == len(tested)
    for fold in folds:
        assert people(store, fold.train + fold.validation + fold.test) == {"a"}
        begin = min(store.made[file].date_time for file in fold.test)
        for file in fold.train + fold.validation:
            each = store.made[file]
            assert each.date_time + timedelta(seconds=each.duration) <= begin
        assert any(store.made[file].onsets for file in fold.train)
        if fold.validation:
            assert any(store.made[file].onsets for file in fold.validation)
            first = min(store.made[file].date_time for file in fold.validation)
            assert max(store.made[file].date_time for file in fold.train) <= first
        if window == "fixed":
            assert len(fold.train + fold.validation) <= -(-len(hours) // (n_folds + 1))


def test_time_series_in_full() -> None:
    store = patient([0, 1, 2, 3, 4, 5], {0, 1, 4})
    number = {file: 6 - file for file in range(1, 7)}  # by time

    def shown(**options):
        folds = time_series_folds(store, "a", **options)
        return [[sorted(number[file] for file in part) for part in (f.train, f.validation, f.test)] for f in folds]

    assert shown(n_folds=2) == [[[0], [1], [2, 3]], [[0], [1, 2, 3], [4, 5]]]
    assert shown(n_folds=2, validate=False) == [[[0, 1], [], [2, 3]], [[0, 1, 2, 3], [], [4, 5]]]
    # Of the last stretch before the test, 2 and 3, none has a seizure: that fold is left out.
    assert shown(n_folds=2, window="fixed") == [[[0], [1], [2, 3]]]
    for name in ("a", "b"):
        with pytest.raises(ValueError, match="n_folds must lie|does not say when"):
            time_series_folds(store, name, n_folds=6)
    with pytest.raises(ValueError, match="window must be"):
        time_series_folds(store, "a", window="sliding")
    store.made[1].date_time = store.made[1].date_time.replace(tzinfo=UTC)
    assert len(time_series_folds(store, "a", n_folds=2)) == 2
    store.made[2].date_time = None
    with pytest.raises(ValueError, match=r"4\.edf does not say when"):
        time_series_folds(store, "a", n_folds=2)


def test_the_header_says_when_where_labels_do_not(tmp_path) -> None:
    """CHB-MIT's and TUSZ's labels have no dates; their recordings have."""

    class Written(Recording):
        @property
        def path(self) -> Path:
            return tmp_path / self.name

    info = mne.create_info(["Fp1"], 100.0, "eeg")
    made = []
    for number, hour in enumerate((2, 0, 1)):
        each = Written("a", f"{number}_raw.fif", 20.0, (3.0,))
        raw = mne.io.RawArray(np.zeros((1, 2000)), info, verbose="error")
        raw.set_meas_date((BEGIN + timedelta(hours=hour)).replace(tzinfo=UTC)).save(each.path, verbose="error")
        made.append(each)
    folds = time_series_folds(StubStore(made), "a", n_folds=2)
    assert [(fold.train, fold.validation, fold.test) for fold in folds] == [((1,), (), (2,)), ((1,), (2,), (0,))]
    # Two clocks in one patient are no order.
    made[0].date_time = BEGIN
    with pytest.raises(ValueError, match=r"1_raw\.fif does not say when"):
        time_series_folds(StubStore(made), "a", n_folds=2)
