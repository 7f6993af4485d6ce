"""The detector on a codec's encoder: fitted to recordings, evaluated, used for detection; memory that does not grow."""

from __future__ import annotations

import gc
import pickle
import tracemalloc
from functools import partial
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pytest
import torch

from mne_labram.models import BrainCodec, BrainCodecForSeizure, NeuroStorm
from mne_labram.seizure.augmentation import SeizureAugmentation
from mne_labram.seizure.braincodec_detector import BrainCodecDetector, detector_class
from mne_labram.seizure.chbmit import read_excerpts
from mne_labram.seizure.detection import detect_seizures
from mne_labram.seizure.detector import NeuroStormDetector
from mne_labram.seizure.evaluation import leave_one_subject_out
from mne_labram.seizure.events import EventTable, SeizureEvent
from mne_labram.seizure.store import SeizureStore
from mne_labram.signal.contract import SignalContract
from mne_labram.signal.events import EventParameters
from mne_labram.signal.vocabulary import DOUBLE_BANANA
from tests.seizure.rhythms import CHANNELS, SEIZURE

SHORT = {"max_steps": 2, "warmup_steps": 1}


def _codec(**options: Any) -> BrainCodec:
    """Return the same small codec every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sizes = {"ratios": [2, 4], "n_filters": 2, "max_filters": 4, "dim": 8, "codebook_size": 4}
        return BrainCodec(**{**sizes, "linear_path": True, "gain": True, "contract": {"l_freq": 0.5}, **options})


def _detector(**options: Any) -> BrainCodecDetector:
    arguments = {
        "model": _codec(),
        "augmentation": None,
        "tokens_per_batch": 128,
        "settings": {"max_steps": 40, "warmup_steps": 5, "lr": 8e-3},
        "precision": "float32",
        **options,
    }
    return BrainCodecDetector(**arguments)


def _events(path: Path) -> EventTable:
    events = (SeizureEvent(SEIZURE[0], SEIZURE[1] - SEIZURE[0]),) if "seizure" in path.name else ()
    return EventTable(events, mne.io.read_raw_fif(path, verbose="error").n_times / 200)


def _open(folder: Path, n_subjects: int, contract: SignalContract, seconds: float = 40.0) -> SeizureStore:
    """Noise; in seizures, a loud rhythm. The last subject has none."""
    rng, info = np.random.default_rng(0), mne.create_info(CHANNELS, 200.0, "eeg")
    times = np.arange(2000, 6000) / 200
    for subject in range(n_subjects):
        for name in ("rest",) if subject == n_subjects - 1 else ("seizure", "rest"):
            x = 10e-6 * rng.normal(size=(4, round(200 * seconds)))
            if name == "seizure":
                x[:, 2000:6000] += 60e-6 * np.sin(2 * np.pi * 3 * times)
            path = folder / f"s{subject}" / f"{name}_raw.fif"
            path.parent.mkdir(exist_ok=True, parents=True)
            mne.io.RawArray(x, info, verbose="error").save(path, verbose="error")
    return SeizureStore.open(
        folder, contract, events_of=_events, subject_of=lambda path: path.parent.name, verbose="error"
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SeizureStore:
    """Three subjects with a seizure, and one without."""
    return _open(tmp_path_factory.mktemp("codec"), 4, _detector().contract)


@pytest.mark.parametrize(
    "options",
    [{}, {"fusion": "conv", "head": "window", "ch_names": CHANNELS}, {"n_outputs": 2, "freeze_encoder": False}],
    ids=["ours", "published", "trained"],
)
def test_it_learns(store: SeizureStore, tmp_path: Path, options: dict[str, Any]) -> None:
    train, rest = store.select(subjects=["s0", "s1"]), store.select(subjects=["s2", "s3"])
    detector = _detector(options=options)
    before = {name: value.clone() for name, value in detector._start.state_dict().items()}
    state = torch.random.get_rng_state()
    assert detector.fit(train, rest.select(subjects=["s3"]), folder=tmp_path, seed=1) is detector
    assert torch.equal(torch.random.get_rng_state(), state)
    assert isinstance(detector.model_, BrainCodecForSeizure)
    for i, recording in enumerate(rest.recordings):
        probabilities = detector.probabilities(rest, i)
        assert probabilities.shape == (40,)
        if "seizure" in recording.path.name:
            assert np.nanmin(probabilities[13:27]) > 0.5 > np.nanmax(probabilities[:7])
        else:
            assert np.nanmax(probabilities) < 0.5
    # The codec that was given is what it was, and a frozen encoder is the codec's.
    assert all(torch.equal(value, before[name]) for name, value in detector._start.state_dict().items())
    encoder = detector.model_.encoder.state_dict()
    same = all(torch.equal(value, before[f"encoder.{name}"]) for name, value in encoder.items())
    assert same == options.get("freeze_encoder", True)
    # 20 of 79 s in the training recordings are of seizures; windows with one are not repeated.
    assert detector.model_.class_weights[1] == pytest.approx((160 - 40) / 40)
    # What is there is not trained again.
    again = _detector(options=options).fit(train, rest.select(subjects=["s3"]), folder=tmp_path, seed=1)
    assert np.array_equal(again.probabilities(rest, 0), detector.probabilities(rest, 0))


def test_class_weights(store: SeizureStore) -> None:
    quiet, ictal = store.select(subjects=["s3"]), store.select(subjects=["s0"])
    assert _detector()._seizure_share(quiet) == 0.0
    assert _detector()._seizure_share(ictal) == pytest.approx(20 / 80)
    # With repetitions: both kinds of windows of the rare subjects make up their share.
    repeated = _detector(seizure_share=0.3)
    weights = repeated._weights({"seizure": 6, "interictal": 4 + 10, "background": 10})
    wanted = weights["seizure"] * 20 / (weights["seizure"] * 24 + 56 * weights.get("interictal", 1.0) + 40)
    assert repeated._seizure_share(store.select(subjects=["s0", "s3"])) == pytest.approx(wanted)
    for given, weight in (("balanced", 3.0), (None, None), ([1.0, 9.0], 9.0)):
        fitted = _detector(class_weights=given, settings=SHORT).fit(ictal).model_
        assert (fitted.class_weights is None) if weight is None else fitted.class_weights[1] == pytest.approx(weight)
    assert _detector(max_class_weight=2.0, settings=SHORT).fit(ictal).model_.class_weights == [1.0, 2.0]
    # Three in ten of the windows without a seizure get one that covers three quarters of them.
    mixing = _detector(augmentation=SeizureAugmentation(seizure=0.3))
    model = mixing._fresh_model(0)
    mixing._before_training(model, quiet)
    assert model.class_weights[1] == pytest.approx((1 - 0.225) / 0.225)


def test_simulated_seizures_at_any_rate(tmp_path: Path) -> None:
    """Recordings without a single seizure are enough to begin with; a convolution keeps its montage."""
    for sfreq in (200, 256):
        detector = _detector(
            model=_codec(sfreq=sfreq), augmentation=SeizureAugmentation(seizure=1.0, variation=None), settings=SHORT
        )
        store = _open(tmp_path / str(sfreq), 1, detector.contract)
        batch = next(iter(detector._batches(store, detector.augmentation, 0)))
        assert batch["x"].shape[2] == 4 * sfreq
        assert batch["y"].any()
        assert np.isfinite(detector.fit(store).probabilities(store, 0)).any()
    mixture = SeizureAugmentation()
    fixed = _detector(augmentation=mixture, options={"fusion": "conv", "ch_names": CHANNELS})
    assert fixed.augmentation.variation is None
    assert _detector(augmentation=mixture).augmentation is mixture


def test_every_subject_is_left_out(store: SeizureStore, tmp_path: Path) -> None:
    evaluation = leave_one_subject_out(
        store,
        partial(_detector, settings={"max_steps": 25, "warmup_steps": 3, "lr": 1e-2}),
        folder=tmp_path,
        parameters=EventParameters(smoothing=3.0, min_duration=3.0),
        n_validation_subjects=1,
        seed=1,
        detector="codec",
    )
    frame = evaluation.to_frame()
    assert frame.index.tolist() == store.subjects
    assert (frame.event_sensitivity.iloc[:3] == 1.0).all()
    assert (frame.auroc.iloc[:3] > 0.95).all()
    assert (frame.event_fp_per_day == 0.0).all()


@pytest.mark.parametrize("fusion", ["attention", "conv"])
def test_real_seizures(shared_data: Path, tmp_path: Path, fusion: str) -> None:
    """Excerpts of chb01, bipolar, with more channels than a convolution knows: fitted, scored, detected."""
    files = [
        shared_data / "chbmit" / f"chb01_{record}_{kind}.edf"
        for record in ("03", "04")
        for kind in ("seizure_full", "preictal")
    ]
    options = {"fusion": fusion} if fusion == "attention" else {"fusion": fusion, "ch_names": list(DOUBLE_BANANA)}
    detector = _detector(
        options=options, tokens_per_batch=608, settings={"max_steps": 20, "warmup_steps": 2, "lr": 1e-2}, stride=2.0
    )
    tables = read_excerpts(shared_data / "chbmit" / "segments.json")
    store = SeizureStore.open(files, detector.contract, events_of=lambda path: tables[path.name], verbose="error")
    names = [recording.path.name for recording in store.recordings]
    detector.fit(store.select(files=[names.index(file.name) for file in files[:2]]), seed=1)
    ictal, before = (names.index(file.name) for file in files[2:])
    scores, calm = detector.probabilities(store, ictal), detector.probabilities(store, before)
    assert store.labels(ictal).all()
    assert np.nanmean(scores) > np.nanmean(calm)
    found = detect_seizures(files[2], detector.model_, stride=2.0, precision="float32", verbose="error")
    assert np.array_equal(np.isfinite(scores), found.analysed)
    np.testing.assert_allclose(found.probability, scores, atol=0.02)
    assert found.table.events
    assert len(found.involvement) == len(found.table)
    assert all(len(each.ch_names) == 18 for each in found.involvement)


def test_memory_does_not_grow_with_subjects(tmp_path: Path) -> None:
    """Training and scoring read a batch of windows at a time, whatever there is."""
    detector = _detector(settings={"max_steps": 6, "warmup_steps": 1})
    peaks, reads = [], []
    for n_subjects in (2, 8):
        store = _open(tmp_path / str(n_subjects), n_subjects, detector.contract, seconds=150.0)
        read = store.conformed.read
        lengths: list[int] = []

        def counted(file: int, start: int, n_times: int, *args: Any, read: Any = read, **kwargs: Any) -> np.ndarray:
            lengths.append(n_times)  # noqa: B023
            return read(file, start, n_times, *args, **kwargs)

        object.__setattr__(store.conformed, "read", counted)
        gc.collect()
        tracemalloc.start()
        _detector(settings={"max_steps": 6, "warmup_steps": 1}).fit(store).probabilities(store, 0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        reads.append((max(lengths), len(lengths)))
    # 13 recordings more, of 150 s, 4 channels and 200 Hz: 6 MB as float32.
    assert peaks[1] - peaks[0] < 5e5
    assert [longest for longest, _ in reads] == [800, 800]
    assert reads[1][1] <= reads[0][1] * 1.5


def test_it_goes_to_other_processes(store: SeizureStore) -> None:
    detector = _detector(settings=SHORT).fit(store.select(subjects=["s0"]))
    other, there = pickle.loads(pickle.dumps((detector, store)))
    assert np.array_equal(other.probabilities(there, 1), detector.probabilities(store, 1))


def test_a_head_that_is_there_is_trained_on(store: SeizureStore) -> None:
    calibrated = BrainCodecForSeizure.from_encoder(_codec(), n_times=800, detection={"hours": 3.0})
    detector = _detector(model=calibrated, settings=SHORT).fit(store.select(subjects=["s0"]))
    assert detector.model_.detection is None
    assert calibrated.detection == {"hours": 3.0}
    with pytest.raises(ValueError, match="has a head already"):
        _detector(model=calibrated, options={"fusion": "conv"})


def test_the_detector_of_a_model() -> None:
    seizures = BrainCodecForSeizure.from_encoder(_codec(), n_times=800)
    other = NeuroStorm(ch_names=CHANNELS, embed_dim=16, num_layers=1, num_heads=2)
    assert detector_class(_codec()) is detector_class(seizures) is BrainCodecDetector
    assert detector_class(other) is detector_class("labram-tiny") is NeuroStormDetector


def test_wrong_use(store: SeizureStore) -> None:
    with pytest.raises(TypeError, match="encoder of a BrainCodec, not of NeuroStorm"):
        _detector(model=NeuroStorm(ch_names=CHANNELS, embed_dim=16, num_layers=1, num_heads=2))
    with pytest.raises(ValueError, match="class_weights must be 'balanced'"):
        _detector(class_weights="some")
    with pytest.raises(ValueError, match="max_class_weight must be at least 1"):
        _detector(max_class_weight=0.5)
    with pytest.raises(ValueError, match="has not been fitted"):
        _detector().probabilities(store, 0)
    with pytest.raises(ValueError, match="contract=detector.contract"):
        _detector(model=_codec(contract={"l_freq": 1.0})).fit(store)
