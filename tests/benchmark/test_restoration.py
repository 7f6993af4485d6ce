"""Restoration in one table: what is hidden stays hidden, and baselines are what they are said to be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mne_labram.benchmark.rate_distortion import CodecRecording
from mne_labram.benchmark.restoration import (
    TASKS,
    RestorationData,
    RestorationMethod,
    RestorationTask,
    benchmark_restoration,
    hidden_samples,
    read_restoration,
    score_method,
)
from mne_labram.benchmark.restoration_baselines import (
    CovariancePredictor,
    NearestPredictor,
    SplineBaseline,
    band_covariances,
    ridge_weights,
)
from mne_labram.benchmark.restoration_methods import baseline_methods, gram_methods, tune
from mne_labram.benchmark.restoration_page import better_in, restoration_benchmark_page, restoration_page
from mne_labram.models.gram import GramForRestoration
from mne_labram.signal.positions import electrode_positions
from mne_labram.weights import save_checkpoint

NAMES = "FP1 FP2 F3 F4 C3 C4 P3 P4 O1 O2 F7 F8 FZ CZ PZ".split()
POSITIONS = electrode_positions(NAMES)[:, :3]
SFREQ = 100.0


def _recording(number: int, seconds: int = 48, n_sources: int = 4) -> CodecRecording:
    """Make a subject whose channels are mixtures of a few sources, the mixture nearly that of all others."""
    rng = np.random.default_rng(number)
    sources = rng.normal(size=(n_sources, seconds * int(SFREQ)))
    centres = POSITIONS[[2, 5, 8, 11]][:n_sources] + 0.01 * rng.normal(size=(n_sources, 3))
    distances = np.linalg.norm(POSITIONS[:, None] - centres, axis=2)
    x = np.exp(-distances / 0.08) @ sources * 50 + rng.normal(size=(len(NAMES), sources.shape[1]))
    return CodecRecording(
        f"Subject{number:02d}_1", f"Subject{number:02d}", "made up", x.astype(np.float32), SFREQ, NAMES,
        np.ones(seconds // 4, dtype=bool),
    )  # fmt: skip


@pytest.fixture(scope="module")
def data() -> RestorationData:
    return RestorationData([_recording(i) for i in range(4)], [_recording(i) for i in (18, 19, 20)], POSITIONS)


class _Oracle:
    """Knows the truth by a factor, and remembers what it was shown."""

    def __init__(self, data: RestorationData, factor: float) -> None:
        self.data, self.factor, self.seen, self.observed = data, factor, [], 0

    def observe(self, x: np.ndarray, hidden: np.ndarray) -> None:
        assert not hidden.any()
        self.observed += x.shape[1]

    def predict(self, x: np.ndarray, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert not x[hidden].any()
        self.seen.append(hidden)
        n = x.shape[1]
        for recording in self.data.scored:
            for start in range(0, recording.x.shape[1] - n + 1, n):
                true = recording.x[:, start : start + n].astype(float)
                if np.array_equal(true[~hidden], x[~hidden]):
                    mean = np.where(hidden, 0, true).sum(axis=0) / (~hidden).sum(axis=0)
                    restored = np.where(hidden, self.factor * (true - mean) + mean, true)
                    return restored, np.where(hidden, np.abs(restored - true), 0.0)
        raise AssertionError("Nobody has such a window.")


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_measures(data: RestorationData, task: RestorationTask) -> None:
    made = []

    def make(*arguments: Any) -> _Oracle:
        made.append(_Oracle(data, 0.5))
        return made[-1]

    rows = score_method(RestorationMethod("half", make), task, data, draws=2)
    assert [row.part for row in rows] == ["all", "second half"]
    for row in rows:
        assert row.subjects == ["Subject18", "Subject19", "Subject20"]
        for values, expected in (
            (row.error, 0.25),
            (row.window_error, 0.25),
            (row.correlation, 1),
            (row.amplitude, 0.5),
        ):
            np.testing.assert_allclose(values, expected, rtol=1e-5)
        np.testing.assert_allclose(row.foretold, 1.0, rtol=1e-5)
    # Six windows, two draws each; nothing was observed.
    assert [len(each.seen) for each in made] == [12] * 3
    assert [each.observed for each in made] == [0] * 3
    first = made[0].seen
    made.clear()
    rows = score_method(RestorationMethod("half", make, calibrated=True), task, data, draws=2)
    assert [row.part for row in rows] == ["second half"]
    assert [len(each.seen) for each in made] == [6] * 3
    assert [each.observed for each in made] == [24 * 100] * 3
    # Whoever is asked, the same is hidden in the same windows.
    np.testing.assert_array_equal(made[0].seen, first[6:])
    assert not np.array_equal(first[0], first[1])


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 20), st.integers(1, 900), st.integers(0, 2**32), st.sampled_from([None, 1, 3]))
def test_what_is_hidden(n_channels: int, n_times: int, seed: int, n_hidden: int | None) -> None:
    task = RestorationTask("any", n_hidden)
    rng = np.random.default_rng(seed)
    if n_hidden is not None and n_hidden >= n_channels:
        with pytest.raises(ValueError, match="cannot be hidden; leave some"):
            hidden_samples(task, n_channels, n_times, 100.0, rng)
        return
    hidden = hidden_samples(task, n_channels, n_times, 100.0, rng)
    assert hidden.shape == (n_channels, n_times)
    assert not hidden.all(axis=0).any()
    if n_hidden is None:
        for start in range(0, n_times, 100):
            assert (hidden[:, start : start + 100] == hidden[:, start : start + 1]).all()
        if n_channels > 3:
            assert (~hidden).sum(axis=0).min() >= 2
        if n_times % 100 == 0:
            assert hidden.sum() == 100 * (n_channels * (n_times // 100) // 2)
    else:
        assert (hidden == hidden[:, :1]).all()
        assert hidden[:, 0].sum() == n_hidden


def test_splines_are_those_of_mne() -> None:
    x = _recording(0).x[:, :200].astype(float)
    hidden = np.zeros(x.shape, dtype=bool)
    hidden[[1, 4], :120] = hidden[[4, 7], 120:] = True
    restored, deviation = SplineBaseline(NAMES, POSITIONS, SFREQ).predict(np.where(hidden, np.nan, x), hidden)
    for bads, piece in (((1, 4), slice(0, 120)), ((4, 7), slice(120, 200))):
        raw = mne.io.RawArray(x[:, piece] * 1e-6, mne.create_info(NAMES, SFREQ, "eeg"), verbose="error")
        raw.set_montage(mne.channels.make_dig_montage(dict(zip(NAMES, POSITIONS, strict=True)), coord_frame="head"))
        raw.info["bads"] = [NAMES[i] for i in bads]
        expected = raw.interpolate_bads(verbose="error").get_data() * 1e6
        np.testing.assert_allclose(restored[:, piece], expected, atol=1e-6)
    assert np.isnan(deviation[hidden]).all()
    assert (deviation[~hidden] == 0).all()


def test_the_nearest() -> None:
    x = _recording(0).x[:, :10].astype(float)
    hidden = np.zeros(x.shape, dtype=bool)
    hidden[NAMES.index("CZ")] = True
    restored, _ = NearestPredictor(NAMES, POSITIONS, SFREQ).predict(x, hidden)
    nearest = np.argsort(np.linalg.norm(POSITIONS - POSITIONS[NAMES.index("CZ")], axis=1))[1:4]
    np.testing.assert_allclose(restored[hidden], x[nearest].mean(axis=0))
    np.testing.assert_array_equal(restored[~hidden], x[~hidden])


def test_regression_is_that_of_the_normal_equations() -> None:
    x = _recording(0).x.astype(float)
    x -= x.mean(axis=1, keepdims=True)
    gone = np.zeros(len(x), dtype=bool)
    gone[[2, 6]] = True
    y = x - x[~gone].mean(axis=0)
    # Without the mean: one of the visible ones follows from the others, so a little ridge is needed for a solution.
    expected = np.linalg.lstsq(y[~gone].T, y[gone].T, rcond=1e-6)[0].T
    covariances = band_covariances(x, SFREQ).sum(axis=0, keepdims=True)
    found = ridge_weights(covariances, gone, 1e-9)[0]
    np.testing.assert_allclose(found @ y[~gone], expected @ y[~gone], atol=0.05 * y[gone].std())
    strong = ridge_weights(covariances, gone, 1e6)[0]
    assert np.abs(strong @ y[~gone]).max() < 1e-3 * np.abs(y[gone]).max()


def test_covariances_add_up() -> None:
    x = _recording(0, seconds=16).x.astype(float)
    pieces = x.reshape(len(x), 2, 800)
    centred = pieces - pieces.mean(axis=2, keepdims=True)
    expected = np.einsum("ipt,jpt->ij", centred, centred)
    np.testing.assert_allclose(band_covariances(x, SFREQ).sum(axis=0), expected, rtol=1e-6, atol=1e-3)
    slow = np.sin(2 * np.pi * 10 * np.arange(800) / SFREQ)[None] * np.ones((2, 1))
    power = np.trace(band_covariances(slow, SFREQ), axis1=1, axis2=2)
    assert power[2] > 0.999 * power.sum()


def test_baselines_stand_in_the_right_order(data: RestorationData) -> None:
    tasks = (RestorationTask("3 channels", 3), RestorationTask("patches", None))
    methods = baseline_methods(data, tasks)
    rows = benchmark_restoration(data, methods, tasks, draws=1, verbose="error")
    errors = {(row.method, row.task): np.mean(row.error) for row in rows if row.part == "second half"}
    for task in ("3 channels", "patches"):
        assert errors["band ridge", task] < errors["mean of 3 nearest", task]
        assert errors["band ridge, calibrated, tuned", task] < errors["band ridge, calibrated", task]
        # Who knows the recording knows more than who knows others.
        assert errors["band ridge, calibrated, tuned", task] < errors["band ridge", task]
        assert errors["MNE spherical splines", task] < 1.5
    page = restoration_page(rows, tasks)
    assert "| band ridge, calibrated, tuned |" in page
    assert "(3/3)" in page
    assert page.count("## ") == 2


def test_tuning_finds_what_is_best() -> None:
    """Noise that other subjects do not have asks for a strong ridge, a signal without noise for a weak one."""
    task = RestorationTask("2 channels", 2)
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(8, 3))
    clean = (mixing @ mixing.T)[None]
    found = tune(np.array([clean] * 3), [(clean, clean)] * 3, task, by_band=True)
    assert found == {"regularization": 0.001}
    others = [(lambda m: m @ m.T)(rng.normal(size=(8, 3)))[None] for _ in range(3)]
    found = tune(np.array(others), [(each, each) for each in others], task, by_band=True, calibrated=False)
    assert found["regularization"] >= 0.3
    found = tune(
        np.array(others),
        [(each, each) for each in others],
        task,
        by_band=True,
        calibrated=True,
        prior_weights=(0.05, 0.4),
    )
    assert found == {"regularization": 0.001, "prior_weight": 0.05}


def test_calibration_needs_something_to_learn_from() -> None:
    predictor = CovariancePredictor(NAMES, POSITIONS, SFREQ, prior=None, calibrated=True)
    x = _recording(0).x[:, :100].astype(float)
    hidden = np.zeros(x.shape, dtype=bool)
    hidden[0] = True
    with pytest.raises(ValueError, match="call observe first"):
        predictor.predict(x, hidden)
    predictor.observe(x, hidden)
    with pytest.raises(ValueError, match="call observe first"):
        predictor.predict(x, hidden)
    predictor.observe(x, np.zeros_like(hidden))
    assert np.isfinite(predictor.predict(x, hidden)[0]).all()


def test_bad_input(data: RestorationData, shared_data: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="give the folder that holds eegmat"):
        read_restoration(tmp_path)
    with pytest.raises(ValueError, match="Subject 3 is in training and scored"):
        read_restoration(shared_data, (1, 3), (3, 4))
    with pytest.raises(ValueError, match="draws of at least 1"):
        benchmark_restoration(data, [RestorationMethod("none", lambda *_: None)], draws=0)
    rows = score_method(
        RestorationMethod("spline", lambda task, *other: SplineBaseline(*other)), TASKS[0], data, draws=1
    )
    two = RestorationData(data.training, data.scored[:2], data.positions)
    fewer = score_method(
        RestorationMethod("spline", lambda task, *other: SplineBaseline(*other)), TASKS[0], two, draws=1
    )
    with pytest.raises(ValueError, match="other subjects"):
        better_in(rows[0], fewer[0])
    assert better_in(rows[0], rows[0]) == 0


def test_without_a_model_there_are_no_rows_of_it() -> None:
    assert gram_methods("no-such-model") == []


def test_our_rows(data: RestorationData, tmp_path: Path) -> None:
    model = GramForRestoration(
        ch_names=NAMES, size="small", embed_dim=32, num_layers=2, num_heads=2, spatial="coordinates", spatial_filter={}
    )
    file = tmp_path / "small.safetensors"
    save_checkpoint(model, file)
    methods = gram_methods(str(file))
    assert [(each.name, each.calibrated) for each in methods] == [
        ("gram", False),
        ("gram, fresh weights", False),
        ("gram, calibrated", True),
        ("gram, fresh weights, calibrated", True),
    ]
    few = RestorationData(data.training, data.scored[:1], data.positions)
    tasks = (TASKS[1], TASKS[3])
    rows = benchmark_restoration(few, [methods[0], methods[2]], tasks, draws=1, verbose="error")
    assert all(np.isfinite(row.error).all() and row.error[0] < 5.0 for row in rows)
    assert all(np.isfinite(row.foretold).all() for row in rows)
    page = restoration_page(rows, tasks)
    assert "- gram, 3 channels: " in page
    assert "asked for 0.40" in page
    assert "- gram, calibrated, 3 channels: " in page


def test_real_recordings(shared_data: Path) -> None:
    page, found = restoration_benchmark_page(shared_data, model="no-such-model", quick=True)
    assert found["scored"] == ["Subject18", "Subject19"]
    assert found["training"] == ["Subject00", "Subject01", "Subject02", "Subject03"]
    errors = {(row["method"], row["task"]): np.mean(row["error"]) for row in found["rows"] if row["part"] == "all"}
    for task in TASKS:
        assert errors["band ridge", task.name] < errors["MNE spherical splines", task.name]
        assert 0.2 < errors["band ridge", task.name] < 0.9
    assert "| MNE spherical splines |" in page
    assert "Subject18, Subject19" in page
    assert "Without no-such-model, which is not there." in page
