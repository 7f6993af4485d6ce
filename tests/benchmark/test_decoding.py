"""Decoding in one table: who is judged is not learnt from, and an effect is found where there is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from mne_labram.benchmark.decoders import (
    BAND_POWER,
    BASELINE_CONTRACT,
    FeatureDecoder,
    NetworkDecoder,
    TangentDecoder,
    baseline_decoders,
    fit_eegnet,
    fit_finetuner,
    model_decoders,
)
from mne_labram.benchmark.decoding import (
    IMAGERY,
    DecodingRow,
    DecodingTask,
    arithmetic_task,
    benchmark_decoding,
    imagery_task,
    imagery_windows,
    low_passed,
    wilson_interval,
)
from mne_labram.benchmark.decoding_page import decoding_benchmark_page, decoding_page
from mne_labram.benchmark.probe import LabelledWindows, band_power, subject_folds
from mne_labram.models.labram import LabramForMaskedModeling
from mne_labram.signal.contract import SignalContract
from mne_labram.weights import save_checkpoint

NAMES = ["FP1", "C3", "CZ", "C4", "O1"]
SMALL = {"embed_dim": 40, "num_layers": 1, "num_heads": 2, "patch_embed": "conv+spectrum"}


def _windows(alpha: float = 15.0, n_subjects: int = 6, n_each: int = 20) -> LabelledWindows:
    """Class 1 has an alpha rhythm in the second channel; subjects differ in level."""
    rng = np.random.default_rng(0)
    time = np.arange(400) / 200
    x, y, subjects = [], [], []
    for subject in range(n_subjects):
        labels = np.arange(n_each) % 2
        signal = rng.standard_normal((n_each, len(NAMES), 400)) * 10
        phase = rng.uniform(0, 2 * np.pi, (n_each, 1))
        signal[:, 1] += alpha * labels[:, None] * np.sin(2 * np.pi * 10 * time + phase)
        x.append(signal * np.exp(rng.standard_normal() / 2))
        y.append(labels)
        subjects += [f"S{subject}"] * n_each
    data = np.concatenate(x).astype(np.float32)
    return LabelledWindows(data, np.concatenate(y), np.array(subjects), NAMES, 200.0)


def _task(windows: LabelledWindows, **options: object) -> DecodingTask:
    return DecodingTask("made up", lambda contract: windows, subject_folds(windows.subjects, 3), **options)


@pytest.mark.parametrize(
    "decoder", [FeatureDecoder(BAND_POWER, BASELINE_CONTRACT, band_power), TangentDecoder(floor=0.1)]
)
def test_an_effect_is_found_in_unseen_subjects(decoder: FeatureDecoder | TangentDecoder) -> None:
    rows = benchmark_decoding([_task(_windows())], [decoder], verbose="error")
    assert [row.transductive for row in rows] == [False, True]
    for row in rows:
        assert row.subjects == [f"S{i}" for i in range(6)]
        assert np.mean(row.auroc) > 0.9
    assert np.mean(rows[1].balanced_accuracy) > 0.85
    decoder = (
        type(decoder)() if isinstance(decoder, TangentDecoder) else FeatureDecoder("b", BASELINE_CONTRACT, band_power)
    )
    rows = benchmark_decoding([_task(_windows(alpha=0.0))], [decoder], verbose="error")
    assert abs(np.mean(rows[0].auroc) - 0.5) < 0.15


def test_who_is_judged_is_not_learnt_from() -> None:
    windows, seen = _windows(), []

    def fit(training: LabelledWindows, seed: int):  # noqa: ANN202
        seen.append(sorted(set(training.subjects)))
        assert len(training.x) == len(training.y) == len(training.subjects) == 80
        assert seed == 5
        # Judges by the level of a window, and by its class as if it knew: levels of subjects are in the way.
        truth = {row.tobytes(): label for row, label in zip(windows.x, windows.y, strict=True)}
        return lambda x: np.array([10 * each.std() + truth[each.tobytes()] for each in x])

    task = _task(windows)
    rows = benchmark_decoding([task], [NetworkDecoder("level", BASELINE_CONTRACT, fit, seed=5)], verbose="error")
    for fold, training in zip(task.folds, seen, strict=True):
        assert not set(fold) & set(training)
        assert set(fold) | set(training) == {f"S{i}" for i in range(6)}
    # The order of windows within a subject is the same; the threshold is not.
    np.testing.assert_array_equal(rows[0].auroc, rows[1].auroc)
    assert np.mean(rows[0].balanced_accuracy) == 0.5
    assert np.mean(rows[1].balanced_accuracy) > 0.6


def test_networks_learn() -> None:
    windows = _windows(alpha=40.0, n_subjects=4, n_each=30)
    training = LabelledWindows(windows.x[:90], windows.y[:90], windows.subjects[:90], NAMES, 200.0)
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    model = LabramForMaskedModeling(ch_names=NAMES, n_times=400, **SMALL)
    torch.random.set_rng_state(state)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fits = (
        lambda: fit_eegnet(training, 0, epochs=8, min_steps=40, batch_size=16),
        lambda: fit_finetuner(model, training, 0, epochs=6, max_windows=60, layer_decay=1.0, batch_size=16),
    )
    for fit in fits:
        judge = fit()
        # Training leaves torch's random numbers as they were.
        assert torch.equal(torch.random.get_rng_state(), state)
        values = judge(windows.x[90:])
        assert values.shape == (30,)
        assert values[windows.y[90:] == 1].mean() > values[windows.y[90:] == 0].mean()
        np.testing.assert_array_equal(judge(windows.x[90:]), values)
        torch.random.set_rng_state(state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_groups_of_trials_hold_both_classes() -> None:
    windows = _windows(n_subjects=2, n_each=15)
    task = DecodingTask("runs", lambda contract: windows, [["S0"], ["S1"]], by_subject=False)
    groups = task.groups(windows)
    for run in ("S0", "S1"):
        for part in range(3):
            rows = (windows.subjects == run) & (groups == part)
            assert set(windows.y[rows]) == {0, 1}
    assert list(_task(windows if False else _windows()).groups(windows)) == list(windows.subjects)


def test_everything_is_low_passed() -> None:
    asked = []
    windows = _windows()

    def read(contract: SignalContract) -> LabelledWindows:
        asked.append(contract)
        return windows

    task = DecodingTask("any", read, [["S0"], ["S1"]])
    for contract in (
        SignalContract(h_freq=None),
        SignalContract(h_freq=75.0, name="other"),
        SignalContract(h_freq=30.0),
        SignalContract(),
    ):
        assert task.windows(contract) is windows
        assert low_passed(contract).h_freq == min(contract.h_freq or 99.0, 45.0)
    # Names do not make a signal another one.
    assert [each.h_freq for each in asked] == [45.0, 30.0]


def test_imagery(shared_data: Path) -> None:
    files = [shared_data / "eegmmidb" / f"{run}.edf" for run in IMAGERY["fists or feet"]]
    windows = imagery_windows(files, BASELINE_CONTRACT)
    assert windows.x.shape == (30, 64, 800)
    assert np.bincount(windows.y).min() >= 14
    assert sorted(set(windows.subjects)) == ["S001R06", "S001R10"]
    task = imagery_task(shared_data, "fists or feet")
    assert task.folds == [["S001R06"], ["S001R10"]]
    assert set(task.band_channels) <= set(windows.ch_names)
    assert "0.45 to 0.87" in task.note
    rows = benchmark_decoding([task], [TangentDecoder()], verbose="error")
    # One of the easiest tasks that there are (shared/reference/baselines.md: 0.93 to 1.0).
    assert np.mean(rows[0].auroc) > 0.85


def test_interval() -> None:
    """Wilson's interval of 7 in 10: 0.397 to 0.892 (Newcombe 1998, Stat Med 17:857-872, has the formula)."""
    assert wilson_interval(0.7, 10) == pytest.approx((0.3968, 0.8922), abs=1e-3)
    assert wilson_interval(0.0, 10)[0] == pytest.approx(0.0, abs=1e-9)


def test_page() -> None:
    subjects = [f"Subject{i:02d}" for i in range(4)]
    rows = [
        DecodingRow("t", name, kind, subjects, [0.5 + shift, 0.6, 0.7, 0.8], [0.9 + shift] * 4, 1.0)
        for name, shift in ((BAND_POWER, 0.0), ("ours", 0.04))
        for kind in (False, True)
    ]
    rows = [row for row in rows if row.decoder != "ours" or not row.transductive]
    task = DecodingTask("t", lambda contract: _windows(), [subjects], {"the last": subjects[2:]}, note="A note.")
    page = decoding_page(rows, [task], ["Without gram-tiny."])
    assert "| ours | 0.660 ± 0.099 | +0.010 ± 0.010 | 0.940 ± 0.000 | +0.040 ± 0.000 | - | - | - | - |" in page
    assert "**the last** (2 subjects)" in page
    assert "| ours | 0.750 ± 0.050 | +0.000 ± 0.000 |" in page
    assert "A note." in page
    assert page.endswith("- Without gram-tiny.")


def test_bad_input(shared_data: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no EEGMAT recordings"):
        arithmetic_task(tmp_path)
    with pytest.raises(FileNotFoundError, match="give the folder that holds eegmmidb"):
        imagery_task(tmp_path)
    with pytest.raises(ValueError, match="There is no task 'tongue'"):
        imagery_task(shared_data, "tongue")
    with pytest.raises(ValueError, match="1 subjects cannot be split into 6 folds"):
        arithmetic_task(shared_data, subjects=[3])
    with pytest.raises(ValueError, match="must hold trials of both kinds"):
        imagery_windows([shared_data / "eegmmidb" / "S001R01.edf"], BASELINE_CONTRACT)
    with pytest.raises(ValueError, match="epochs must be at least 1"):
        decoding_benchmark_page(shared_data, epochs=0)
    windows = _windows()
    one = LabelledWindows(windows.x, np.where(windows.subjects == "S3", 0, windows.y), windows.subjects, NAMES, 200.0)
    with pytest.raises(ValueError, match="S3 has windows of one class only"):
        benchmark_decoding([_task(one)], [_Guess()])


class _Guess:
    name = "guess"
    contract = BASELINE_CONTRACT

    def decide(self, task: DecodingTask, test: Sequence[str]) -> Mapping[bool, np.ndarray]:
        return {False: np.ones(int(np.isin(task.windows(self.contract).subjects, test).sum()))}


def test_our_rows(tmp_path: Path) -> None:
    model = LabramForMaskedModeling(ch_names=NAMES, n_times=400, contract={"h_freq": 60.0}, **SMALL)
    file = tmp_path / "small.safetensors"
    save_checkpoint(model, file)
    decoders, notes = model_decoders([str(file), "no-such-model"], n_twins=2)
    assert [decoder.name.removeprefix(str(file)) for decoder in decoders] == [
        ": probe",
        ", fresh weights (seed 0): probe",
        ", fresh weights (seed 1): probe",
        ": fine-tuned",
        ", fresh weights: fine-tuned",
    ]
    assert "trained on up to 60 Hz" in notes[0]
    assert notes[1].startswith("Without no-such-model: ")
    assert model_decoders(["no-such-model"])[0] == []
    task = _task(_windows(alpha=5.0, n_subjects=3))
    rows = benchmark_decoding([task], decoders[:2], verbose="error")
    assert rows[0].auroc != rows[2].auroc
    assert [each.name for each in baseline_decoders()][0] == BAND_POWER


def test_real_recordings(shared_data: Path) -> None:
    page, found = decoding_benchmark_page(
        shared_data, models=["labram-tiny"], quick=True, fine_tune=False, imagery=False, n_twins=0, threads=1
    )
    assert {row["decoder"] for row in found["rows"]} == {
        BAND_POWER,
        "Riemannian tangent space + LR",
        "Riemannian tangent space + LR, floor of 0.1",
        "EEGNet",
        "labram-tiny: probe",
    }
    assert all(row["subjects"] == [f"Subject{i}" for i in range(18, 22)] for row in found["rows"])
    assert "## Rest or arithmetic (eegmat)" in page
    assert "4 subjects in 2 folds" in page
