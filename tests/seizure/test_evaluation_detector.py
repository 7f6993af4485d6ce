"""The detector itself, on recordings that are there, left out subject by subject: best weights, a power cut, memory."""

from __future__ import annotations

import copy
import functools
import gc
import json
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mne_labram.models import NeuroStorm
from mne_labram.seizure.detector import NeuroStormDetector
from mne_labram.seizure.evaluation import leave_one_subject_out
from mne_labram.seizure.store import SeizureStore
from mne_labram.signal.events import EventParameters
from mne_labram.training import trainer
from mne_labram.weights import load_checkpoint
from tests.seizure.rhythms import open_rhythms, small_detector, small_model

SHORT = {"max_steps": 4, "warmup_steps": 1, "lr": 5e-3}
RULE = EventParameters(smoothing=3.0, min_duration=3.0)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SeizureStore:
    """Four subjects with a seizure, and one without."""
    return open_rhythms(tmp_path_factory.mktemp("rhythms"), 5)


def _short() -> NeuroStormDetector:
    return small_detector(settings=SHORT)


def _evaluate(store: SeizureStore, folder: Path, factory: Any = _short, **options: Any) -> Any:
    return leave_one_subject_out(
        store, factory, folder=folder, parameters=RULE, n_validation_subjects=1, detector="small", **options
    )


def test_every_subject_is_left_out(store: SeizureStore, tmp_path: Path) -> None:
    """With training enough, what was learned from others is found; the table says it by events and by seconds."""
    settings = {"max_steps": 40, "warmup_steps": 5, "lr": 5e-3}
    evaluation = _evaluate(store, tmp_path, lambda: small_detector(settings=settings), seed=1)
    frame = evaluation.to_frame()
    assert frame.index.tolist() == store.subjects
    assert frame.n_test.tolist() == [2, 2, 2, 2, 1]
    # Of whoever has none, nothing can be found.
    assert (frame.event_sensitivity.iloc[:4] == 1.0).all()
    assert (frame.sample_sensitivity.iloc[:4] > 0.8).all()
    assert frame.loc["s4", ["event_sensitivity", "sample_sensitivity", "auroc"]].isna().all()
    assert (frame.event_fp_per_day == 0.0).all()
    assert (frame.auroc.iloc[:4] > 0.95).all()
    # The three seconds without signal are not analysed.
    assert frame.n_not_analysed.iloc[4] >= 3
    for fold in evaluation.folds:
        subjects = [{name.split("/")[0] for name in part} for part in (fold.train, fold.validation, fold.test)]
        assert not subjects[0] & subjects[1]
        assert subjects[2] == {fold.name}
        assert not subjects[2] & (subjects[0] | subjects[1])


def test_the_best_weights_are_tested_and_not_the_last(
    store: SeizureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training that is best after its first epoch, and tested with what it was then."""
    losses: list[float] = []

    def worse_and_worse(*args: Any, **options: Any) -> dict[str, float]:
        losses.append(1.0 + len(losses))
        return {"loss": losses[-1]}

    monkeypatch.setattr(trainer, "validate", worse_and_worse)
    used = []

    class Watched(NeuroStormDetector):
        def probabilities(self, store: SeizureStore, file: int) -> np.ndarray:
            used.append({name: value.clone() for name, value in self.model_.state_dict().items()})
            return super().probabilities(store, file)

    detector = small_detector(settings={"max_steps": 8, "warmup_steps": 1, "lr": 5e-3}, tokens_per_batch=1600)
    options = {name: getattr(detector, name) for name in ("lengths", "window", "stride", "tokens_per_batch")}

    def factory() -> Watched:
        return Watched(detector.model, augmentation=None, settings=detector.settings, precision="float32", **options)

    _evaluate(store, tmp_path, factory, subjects=["s0"])
    assert len(losses) > 1
    best, last = (load_checkpoint(tmp_path / f"fold-s0/{name}.safetensors") for name in ("best", "final"))
    assert any(not torch.equal(value, last.state_dict()[name]) for name, value in best.state_dict().items())
    for state in used:
        assert all(torch.equal(value, state[name]) for name, value in best.state_dict().items())


def test_finished_folds_of_other_weights_are_not_taken_for_these(store: SeizureStore, tmp_path: Path) -> None:
    """Two encoders of one architecture look alike, and a fold of one is none of the other."""
    first, second = small_model(), small_model()
    with torch.no_grad():
        second.encoder.cls_token.add_(0.1)
    options = {"lengths": (4.0,), "window": 4.0, "augmentation": None, "settings": SHORT}

    def evaluate(model: NeuroStorm) -> Any:
        factory = functools.partial(NeuroStormDetector, model, **options)
        return leave_one_subject_out(store, factory, folder=tmp_path, parameters=RULE, subjects=["s0"])

    done = evaluate(first)
    assert evaluate(copy.deepcopy(first)).folds == done.folds
    assert len(done.settings["detector"]) < 300
    with pytest.raises(ValueError, match="made with other settings .detector"):
        evaluate(second)


def test_a_power_cut_within_a_training(store: SeizureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fold goes on from its last checkpoint and ends as if nothing had happened."""
    settings = {**SHORT, "max_steps": 6, "checkpoint_every": 2}

    def factory() -> NeuroStormDetector:
        return small_detector(settings=settings)

    whole = _evaluate(store, tmp_path / "whole", factory, subjects=["s0", "s1"])
    step, steps = NeuroStorm.training_step, []

    def failing(self: NeuroStorm, batch: Any) -> Any:
        if self.training:
            steps.append(len(steps))
            if len(steps) == 11:
                raise OSError("The power went off.")
        return step(self, batch)

    monkeypatch.setattr(NeuroStorm, "training_step", failing)
    with pytest.raises(OSError, match="power"):
        _evaluate(store, tmp_path / "cut", factory, subjects=["s0", "s1"])
    assert (tmp_path / "cut" / "fold-s0.json").is_file()
    assert not (tmp_path / "cut" / "fold-s1.json").exists()
    again = _evaluate(store, tmp_path / "cut", factory, subjects=["s0", "s1"])
    # Six steps of the first fold, four and the one that failed, and the two that were left.
    assert len(steps) == 6 + 5 + 2
    for one, other in zip(again.folds, whole.folds, strict=True):
        assert (one.detections, one.calibration) == (other.detections, other.calibration)
    assert again.scores == whole.scores


def test_memory_is_that_of_one_fold(store: SeizureStore, tmp_path: Path) -> None:
    """No model outlives its fold, and after the first folds a process does not grow."""
    alive: list[weakref.ref] = []
    resident: list[float] = []

    class Watched(NeuroStormDetector):
        def fit(self, *args: Any, **options: Any) -> Any:
            gc.collect()
            assert not [each for each in alive if each() is not None]
            resident.append(_resident_mb())
            super().fit(*args, **options)
            alive.extend([weakref.ref(self), weakref.ref(self.model_), weakref.ref(next(self.model_.parameters()))])
            return self

    detector = _short()

    def factory() -> Watched:
        return Watched(detector.model, lengths=(4.0,), window=4.0, augmentation=None, settings=SHORT)

    for part in range(4):
        _evaluate(store, tmp_path / str(part), factory, seed=part)
    assert len(resident) == 20
    # The first folds fill what is filled once: threads, caches of names, allocator.
    assert resident[-1] - resident[5] < 30.0
    kept = [json.loads(path.read_text()) for path in tmp_path.glob("*/fold-*.json")]
    assert len(kept) == 20


def _resident_mb() -> float:
    """Return the memory of this process in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise AssertionError("The system does not tell.")
