"""The linear probe across subjects."""

from __future__ import annotations

import numpy as np
import pytest

from mne_labram.benchmark.probe import (
    LabelledWindows,
    band_power,
    channel_embedding,
    eegmat_windows,
    paired_difference,
    probe,
    standardized_by_subject,
    subject_folds,
    table_row,
)
from mne_labram.models.labram import LabramForMaskedModeling
from mne_labram.signal.contract import SignalContract

CONTRACT = SignalContract(l_freq=0.5, h_freq=45.0)


def _windows(n_subjects: int = 6, n_each: int = 24, alpha: float = 12.0) -> LabelledWindows:
    """Class 1 has an alpha rhythm in the second channel; subjects differ in level."""
    rng = np.random.default_rng(0)
    time = np.arange(400) / 200
    x, y, subjects = [], [], []
    for subject in range(n_subjects):
        labels = np.arange(n_each) % 2
        noise = rng.standard_normal((n_each, 3, 400)) * 10
        phase = rng.uniform(0, 2 * np.pi, (n_each, 1))
        noise[:, 1] += alpha * labels[:, None] * np.sin(2 * np.pi * 10 * time + phase)
        x.append(noise * np.exp(rng.standard_normal()))
        y.append(labels)
        subjects += [f"S{subject}"] * n_each
    data = np.concatenate(x).astype(np.float32)
    return LabelledWindows(data, np.concatenate(y), np.array(subjects), ["FP1", "CZ", "O1"], 200.0)


def test_folds_hold_every_subject_once() -> None:
    folds = subject_folds([f"S{i % 7}" for i in range(50)], 3)
    assert sorted(sum(folds, [])) == [f"S{i}" for i in range(7)]
    with pytest.raises(ValueError, match="2 subjects cannot be split into 3 folds"):
        subject_folds(["a", "b"], 3)


def test_an_effect_is_found_in_unseen_subjects_and_chance_is_chance() -> None:
    windows = _windows()
    folds = subject_folds(windows.subjects, 3)
    scores = probe(band_power(windows), windows, folds)
    assert scores.subjects == [f"S{i}" for i in range(6)]
    assert scores.auroc.min() > 0.9
    # Levels of subjects are in the features; z-scored within subjects the threshold fits everybody.
    standardized = probe(band_power(windows), windows, folds, standardize=True)
    assert standardized.balanced_accuracy.min() > 0.85
    nothing = _windows(alpha=0.0)
    assert abs(probe(band_power(nothing), nothing, folds).auroc.mean() - 0.5) < 0.15
    assert scores.of(["S4"]).auroc.tolist() == [scores.auroc[4]]


def test_features_may_depend_on_the_fold() -> None:
    windows = _windows()
    folds = subject_folds(windows.subjects, 3)
    baseline, asked = band_power(windows), []

    def features(number: int) -> np.ndarray:
        asked.append(number)
        return baseline

    np.testing.assert_array_equal(probe(features, windows, folds).auroc, probe(baseline, windows, folds).auroc)
    assert asked == [0, 1, 2]


def test_many_features_are_reduced() -> None:
    windows = _windows()
    rng = np.random.default_rng(1)
    wide = band_power(windows) @ rng.standard_normal((18, 700))
    assert probe(wide, windows, subject_folds(windows.subjects, 2), standardize=True).auroc.mean() > 0.85


def test_two_kinds_together_lose_nothing_of_the_better_one() -> None:
    windows = _windows()
    folds = subject_folds(windows.subjects, 3)
    noise = np.random.default_rng(2).standard_normal((len(windows.x), 40))
    alone = probe(noise, windows, folds).auroc.mean()
    both = probe((band_power(windows), noise), windows, folds).auroc
    assert alone < 0.7
    assert both.min() > 0.85


def test_z_scores_are_within_subjects() -> None:
    windows = _windows()
    features = band_power(windows)
    before = features.copy()
    out = standardized_by_subject(features, windows.subjects)
    np.testing.assert_array_equal(features, before)
    for subject in np.unique(windows.subjects):
        rows = out[windows.subjects == subject]
        np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-9)
        np.testing.assert_allclose(rows.std(axis=0), 1, atol=1e-6)


def test_paired_differences_and_rows() -> None:
    difference, error = paired_difference(np.array([0.6, 0.8, 0.7]), np.array([0.5, 0.6, 0.7]))
    assert difference == pytest.approx(0.1)
    assert error == pytest.approx(0.1 / np.sqrt(3))
    windows = _windows()
    folds = subject_folds(windows.subjects, 2)
    both = {key: probe(band_power(windows), windows, folds, standardize=key) for key in (False, True)}
    assert len(table_row(both)) == 4
    assert table_row(both, both)[2] == "+0.000 ± 0.000"


def test_embeddings_have_one_vector_per_channel() -> None:
    windows = _windows(2, 4)
    model = LabramForMaskedModeling(ch_names=["FP1", "CZ", "O1", "O2"], embed_dim=16, num_layers=1, num_heads=2)
    assert channel_embedding(model, windows).shape == (8, 3 * 16)


def test_real_recordings(shared_data, tmp_path) -> None:
    for name in ("Subject03_1.edf", "Subject03_2.edf", "Subject11_2.edf"):
        (tmp_path / name).symlink_to(shared_data / "eegmat" / name)
    windows = eegmat_windows(tmp_path, CONTRACT)
    assert windows.x.shape[1:] == (19, 800)
    assert windows.x.dtype == np.float32
    assert set(windows.subjects) == {"Subject03", "Subject11"}
    assert 40 <= (windows.y == 0).sum() <= 46
    referred = eegmat_windows(tmp_path, CONTRACT, average=True)
    np.testing.assert_allclose(referred.x.mean(axis=1), 0, atol=1e-4)
    with pytest.raises(FileNotFoundError, match="no EEGMAT recordings"):
        eegmat_windows(tmp_path / "none", CONTRACT)
