"""The detectors to beat, and the table they stand in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mne
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mne_labram.benchmark.seizure_baselines import (
    BASELINE_CONTRACT,
    BandPower,
    LineLength,
    LineLengthAgainstBaseline,
    all_derivations,
    as_double_banana,
)
from mne_labram.benchmark.seizure_tangent import TangentSpace, riemannian_mean
from mne_labram.benchmark.seizure_windows import (
    UNIT,
    covered_seconds,
    preictal_of,
    record_of,
    window_store,
    window_table,
)
from mne_labram.benchmark.seizures import SeizureRow, baselines, benchmark_seizures, open_benchmark, seizure_table
from mne_labram.seizure.events import EventTable, SeizureEvent
from mne_labram.seizure.simulation import add_seizure, draw_pattern
from mne_labram.seizure.store import SeizureStore
from mne_labram.signal.vocabulary import DOUBLE_BANANA

ELECTRODES = "FP1 FP2 F3 F4 C3 C4 P3 P4 O1 O2 F7 F8 T7 T8 P7 P8 FZ CZ PZ".split()
SFREQ = 100.0
DETECTORS: list[Callable] = [
    LineLength,
    LineLengthAgainstBaseline,
    BandPower,
    lambda: BandPower(by="quantile"),
    TangentSpace,
]


def _background(seconds: float, seed: int, n_chans: int = 19) -> np.ndarray:
    rng = np.random.default_rng(seed)
    noise = np.cumsum(rng.normal(size=(n_chans, int(seconds * SFREQ))), axis=1)
    noise -= noise.mean(axis=1, keepdims=True)
    return 20.0 * noise / noise.std(axis=1, keepdims=True) + 10.0 * rng.normal(size=noise.shape)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SeizureStore:
    """Three subjects with a simulated seizure from 90 to 110 s each, two of them bipolar, and one without a seizure."""
    folder = tmp_path_factory.mktemp("recordings")
    tables = {}
    for number, (seizure, bipolar) in enumerate([(True, False), (True, True), (True, True), (False, False)]):
        x = _background(140.0, number)
        if seizure:
            rng = np.random.default_rng(10)
            pattern = draw_pattern(rng, kind="focal_rhythmic")
            x, _ = add_seizure(x, ELECTRODES, SFREQ, rng, snr_db=14.0, pattern=pattern, onset=90.0, duration=20.0)
        names = ELECTRODES
        if bipolar:
            names = list(DOUBLE_BANANA)
            ends = [[ELECTRODES.index(end) for end in name.split("-")] for name in names]
            x = np.stack([x[a] - x[b] for a, b in ends])
        raw = mne.io.RawArray(x * 1e-6, mne.create_info(names, SFREQ, "eeg"), verbose="error")
        file = folder / f"S{number}_raw.fif"
        raw.save(file, verbose="error")
        tables[file.name] = EventTable((SeizureEvent(90.0, 20.0),) if seizure else (), 140.0)
    return SeizureStore.open(
        folder,
        BASELINE_CONTRACT,
        events_of=lambda path: tables[Path(path).name],
        subject_of=lambda path: Path(path).name[:2],
        cache=tmp_path_factory.mktemp("cache"),
        verbose="error",
    )


@pytest.mark.parametrize("factory", DETECTORS)
def test_detectors_find_what_they_were_shown_elsewhere(store: SeizureStore, factory: Callable) -> None:
    detector = factory().fit(store.select(files=[0, 1, 3]))
    scores = detector.probabilities(store, 2)
    assert scores.shape == (140,)
    assert np.isfinite(scores).all()
    assert scores.min() >= 0.0
    assert scores.max() <= 1.0
    inside, outside = scores[94:108], np.concatenate([scores[:84], scores[116:]])
    assert np.mean(inside > np.quantile(outside, 0.9)) > 0.7
    assert inside.mean() > 0.5 > outside.mean()


@pytest.mark.parametrize("factory", DETECTORS)
def test_a_memo_changes_nothing(store: SeizureStore, factory: Callable) -> None:
    plain, memo = factory(), factory()
    memo.memo = {}
    for _ in range(2):
        expected = plain.fit(store).probabilities(store, 1)
        assert_array_equal(memo.fit(store).probabilities(store, 1), expected)
    assert len(memo.memo) == 4


def test_montages_meet_in_the_double_banana() -> None:
    x = _background(4.0, 0)[None]
    bipolar, names = as_double_banana(x, ELECTRODES)
    assert set(names) == set(DOUBLE_BANANA)
    again, same = as_double_banana(bipolar, names)
    rows = [names.index(name) for name in same]
    assert_allclose(again, bipolar[:, rows])
    for detector in (LineLength(), BandPower(), BandPower(by="quantile"), TangentSpace()):
        assert_allclose(detector.statistics(x, ELECTRODES), detector.statistics(bipolar, names), rtol=1e-9)
    # Old names are the same electrodes.
    old = [{"T7": "T3", "T8": "T4", "P7": "T5", "P8": "T6"}.get(name, name) for name in ELECTRODES]
    assert_allclose(all_derivations(x, old), all_derivations(x, ELECTRODES))


def test_what_needs_all_derivations_says_nothing_without_them() -> None:
    x = _background(4.0, 0)[None]
    fewer = [name for name in ELECTRODES if name not in ("O1", "O2")]
    for detector in (BandPower(), TangentSpace()):
        assert np.isnan(detector.statistics(x[:, : len(fewer)], fewer)).all()
    for detector in (LineLength(), BandPower(by="quantile")):
        assert np.isfinite(detector.statistics(x[:, : len(fewer)], fewer)).all()


def test_line_length_is_that_of_a_known_wave() -> None:
    time = np.arange(400) / SFREQ
    x = np.zeros((1, len(DOUBLE_BANANA), 400))
    x[0] = 10.0 * np.sin(2.0 * np.pi * 2.0 * time)
    # A sinusoid of amplitude a goes 4 a up and down in each cycle.
    assert np.exp(LineLength().statistics(x, DOUBLE_BANANA)[0, 0]) == pytest.approx(4 * 10.0 * 2.0, rel=0.02)


def test_line_length_refers_to_the_first_minute(store: SeizureStore) -> None:
    detector = LineLengthAgainstBaseline()
    z = detector.of_recording(store, 0)[:, 0]
    starts, length = detector._starts(store, 0)
    first = z[starts + length <= 6000]
    assert abs(first.mean()) < 1e-9
    assert first.std() == pytest.approx(1.0, abs=0.01) or first.std() < 1.0
    assert z[92:104].mean() > 3.0
    # Elsewhere when told so.
    other = LineLengthAgainstBaseline(baseline_of=lambda store, file: [3])
    absolute, baseline = LineLength().of_recording(store, 0), LineLength().of_recording(store, 3)
    expected = (absolute - baseline.mean()) / max(baseline.std(), 0.05)
    assert_allclose(other.of_recording(store, 0), expected)
    nothing = LineLengthAgainstBaseline(baseline_of=lambda store, file: [])
    assert np.isnan(nothing.of_recording(store, 0)).all()


def test_bands_see_their_rhythms() -> None:
    time = np.arange(400) / SFREQ
    for band, frequency in enumerate((2.0, 6.0, 10.0, 16.0, 25.0, 35.0)):
        x = np.broadcast_to(np.sin(2.0 * np.pi * frequency * time), (1, len(DOUBLE_BANANA), 400))
        powers = BandPower().statistics(x, DOUBLE_BANANA)
        assert_array_equal(powers[0].argmax(axis=1), np.full(len(DOUBLE_BANANA), band))
    with pytest.raises(ValueError, match="by must be"):
        BandPower(by="channel")


def _definite(n: int, k: int, seed: int) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(n, k, 3 * k))
    return x @ np.swapaxes(x, 1, 2) / (3 * k)


def test_the_mean_of_matrices_is_the_geometric_one() -> None:
    diagonal = np.stack([np.diag(row) for row in ([1.0, 4.0], [9.0, 16.0])])
    assert_allclose(riemannian_mean(diagonal), np.diag([3.0, 8.0]), rtol=1e-6)
    matrices = _definite(30, 5, 0)
    inverse = riemannian_mean(np.linalg.inv(matrices))
    assert_allclose(np.linalg.inv(inverse), riemannian_mean(matrices), rtol=1e-4)


def test_the_tangent_space_is_pyriemanns() -> None:
    tangentspace = pytest.importorskip("pyriemann.tangentspace")
    x = np.stack([_background(4.0, seed) * (1 + seed % 3) for seed in range(12)])
    detector = TangentSpace()
    covariances = detector.statistics(x, ELECTRODES)
    detector.learn(covariances)
    ours = detector.features(covariances)
    small = detector._project(covariances)
    theirs = tangentspace.TangentSpace(metric="riemann").fit(small).transform(small)
    # A rotation of the tangent space changes no distance.
    assert ours.shape == (12, 16 * 17 // 2)
    assert_allclose(ours @ ours.T, theirs @ theirs.T, rtol=1e-4, atol=1e-4)


def test_the_double_banana_has_rank_16() -> None:
    covariance = TangentSpace().statistics(_background(60.0, 0)[None], ELECTRODES)[0]
    values = np.linalg.eigvalsh(covariance)
    assert values[1] < 1e-9 * values[-1] < values[2]


def test_training_takes_both_classes(store: SeizureStore) -> None:
    with pytest.raises(ValueError, match="with and windows without"):
        LineLength().fit(store.select(files=[3]))


def test_what_cannot_be_used_is_not_analysed(store: SeizureStore) -> None:
    detector = LineLength().fit(store)
    store = store.select(files=[0])
    recording = store.recordings[0]
    unusable = recording.unusable.copy()
    unusable[20:30] = True
    store.conformed.recordings[0] = replace(recording, unusable=unusable)
    scores = detector.probabilities(store, 0)
    assert np.isnan(scores[20:30]).all()
    assert np.isfinite(scores[:20]).all()
    assert np.isfinite(scores[30:]).all()


# Windows as recordings.


def test_windows_are_recordings(store: SeizureStore) -> None:
    windows = window_store(store, window=4.0, stride=2.0)
    assert len(windows) == 4 * 69
    assert sum(map(len, windows.tables)) == 3 * len(range(90, 108, 2))
    expected = store.conformed.read(1, 200, 400)
    rows = [row for row, each in enumerate(windows.recordings) if each.path == store.recordings[1].path]
    assert_array_equal(windows.conformed.read(rows[1], 0, 400), expected)
    assert_array_equal(windows.conformed.read(rows[1], 100, 50), expected[:, 100:150])
    assert_array_equal(windows.labels(rows[0]), np.zeros(4, bool))
    scaled = window_store(store, window=4.0, stride=2.0, unit_rms=True)
    for row in (0, 45, 100):
        x = scaled.conformed.read(row, 0, 400)
        assert np.sqrt(np.mean(x.astype(float) ** 2)) == pytest.approx(UNIT, rel=1e-4)
        original = windows.conformed.read(row, 0, 400)
        assert np.corrcoef(x.ravel(), original.ravel())[0, 1] == pytest.approx(1.0)


def test_seizures_that_overlap_cover_a_window_once(store: SeizureStore) -> None:
    """Two readers of one seizure do not make it twice as long."""
    table = EventTable((SeizureEvent(90.0, 1.5), SeizureEvent(90.0, 1.0), SeizureEvent(95.0, 5.0)), 140.0)
    assert covered_seconds(table, [88.0, 91.0, 97.0, 120.0], [92.0, 95.5, 101.0, 124.0]).tolist() == [
        1.5,
        1.0,
        3.0,
        0.0,
    ]
    some = store.select(files=[0])
    some.tables[0] = table
    windows = window_store(some, window=4.0, stride=4.0)
    assert [number for number, each in enumerate(windows.tables) if len(each)] == [24]
    labels = LineLength(stride=4.0)._labels(some, 0)
    assert np.flatnonzero(labels).tolist() == [24]


def test_windows_of_a_record_are_scored_by_the_others(store: SeizureStore) -> None:
    seen: list[tuple[set, set]] = []

    class Remembers(LineLength):
        def fit(self, train, validation=None, *, folder=None, seed=0):
            self.train = {each.path for each in train.recordings}
            return super().fit(train)

        def probabilities(self, store, file):
            seen.append((self.train, {store.recordings[file].path}))
            return super().probabilities(store, file)

    scores = window_table(Remembers, store, stride=4.0)
    assert all(not train & test for train, test in seen)
    assert len(seen) == scores["n_windows"] == 4 * 35
    assert scores["auroc"] > 0.9
    assert scores["auc_pr"] > 0.6
    assert scores["balanced_accuracy"] > 0.7


def test_folds_have_folders(store: SeizureStore, tmp_path: Path) -> None:
    folders = []

    class Keeps(LineLength):
        def fit(self, train, validation=None, *, folder=None, seed=0):
            folders.append(folder)
            return super().fit(train)

    window_table(Keeps, store, stride=10.0, folder=tmp_path)
    assert len(set(folders)) == 4
    assert all(each.is_dir() and each.parent == tmp_path for each in folders)


def test_names_of_records() -> None:
    assert record_of("/data/chb01_03_seizure_full.edf") == "chb01_03"


# The real thing.


@pytest.fixture(scope="module")
def excerpts(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> SeizureStore:
    """Excerpts of chb01 alone."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "chbmit").symlink_to(shared_data / "chbmit")
    return open_benchmark(folder, BASELINE_CONTRACT, cache=tmp_path_factory.mktemp("cache"))


def test_excerpts_are_opened_with_their_seizures(excerpts: SeizureStore) -> None:
    assert (len(excerpts), excerpts.n_seizures) == (18, 11)
    names = [each.path.stem for each in excerpts.recordings]
    assert excerpts.tables[names.index("chb01_16_seizure_full")].intervals == [(0.0, 51.0)]
    assert [names[file] for file in preictal_of(excerpts, names.index("chb01_16_seizure_full"))] == [
        "chb01_16_preictal"
    ]


def test_amplitude_decides_and_tangent_space_does_not_need_it(excerpts: SeizureStore) -> None:
    """The second trap of the reference: at unit root mean square, line length has nothing left."""
    line_length = [window_table(LineLength, excerpts, stride=3.0, unit_rms=unit)["auroc"] for unit in (False, True)]
    tangent = [window_table(TangentSpace, excerpts, stride=3.0, unit_rms=unit)["auroc"] for unit in (False, True)]
    assert line_length[0] > 0.9
    assert line_length[1] < 0.7
    assert tangent[0] > 0.97
    assert tangent[1] > 0.85


def test_the_benchmark(shared_data: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name, files in (("chbmit", "chb01_0[34]*"), ("eegmat", "Subject0[0-3]_2.edf")):
        (data / name).mkdir(parents=True)
        for file in (shared_data / name).glob(files):
            (data / name / file.name).symlink_to(file)
    (data / "chbmit" / "segments.json").symlink_to(shared_data / "chbmit" / "segments.json")
    some = {name: factory for name, factory in baselines().items() if name.startswith(("line length", "tangent"))}
    rows = benchmark_seizures(data, some, cache=tmp_path / "cache", folder=tmp_path / "kept")
    assert [row.detector for row in rows] == list(some)
    for row in rows:
        assert (row.n_seizures, row.n_preictal) == (2, 2)
        assert row.hours == pytest.approx(4 * 62 / 3600, rel=0.03)
        assert row.windows["auroc"] > 0.7
    table = seizure_table(rows)
    assert len(table.splitlines()) == 2 + len(rows)
    assert (tmp_path / "kept" / "line length" / "record-chb01_03").is_dir()


def test_a_detector_that_knows_its_threshold_keeps_it(shared_data: Path, tmp_path: Path) -> None:
    data = tmp_path / "data" / "chbmit"
    data.mkdir(parents=True)
    for file in [*(shared_data / "chbmit").glob("chb01_0[34]*"), shared_data / "chbmit" / "segments.json"]:
        (data / file.name).symlink_to(file)

    class Always(LineLength):
        detection = {"parameters": {"threshold": 0.9, "min_duration": 0.0}}

        def probabilities(self, store, file):
            return np.full(store.n_seconds(file), 0.95)

    class Never(Always):
        def probabilities(self, store, file):
            return np.full(store.n_seconds(file), 0.85)

    rows = benchmark_seizures(data.parent, {"always": Always, "never": Never}, cache=tmp_path / "cache")
    assert [(row.n_found, row.n_preictal_events) for row in rows] == [(2, 2), (0, 0)]
    assert all(np.isnan(row.false_alarms_per_hour) for row in rows)


def test_tables_are_readable() -> None:
    scores = {"auroc": 0.91, "auc_pr": 0.8, "balanced_accuracy": 0.7, "n_windows": 10.0}
    row = SeizureRow("line length", scores, scores, 3, 4, 0, 7, 2, 4.0)
    assert row.false_alarms_per_hour == 0.5
    assert seizure_table([row]).splitlines()[-1] == (
        "| line length | 0.910 / 0.800 / 0.70 | 0.910 / 0.800 / 0.70 | 3 of 4 | 0 of 7 | 0.50 in 4.00 h |"
    )
    with pytest.raises(FileNotFoundError, match="absent"):
        open_benchmark("/nowhere", BASELINE_CONTRACT)
