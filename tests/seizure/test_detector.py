"""A detector that is fitted to recordings: what it is shown, what it keeps, and what it says of a recording."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import mne
import numpy as np
import pytest
import torch

from mne_labram.models import LabramForClassification
from mne_labram.seizure.augmentation import SeizureAugmentation
from mne_labram.seizure.detection import detect_seizures
from mne_labram.seizure.detector import NeuroStormDetector, store_probabilities
from mne_labram.seizure.events import EventTable, SeizureEvent
from mne_labram.seizure.store import SeizureStore
from tests.seizure.rhythms import BODY, CHANNELS, open_rhythms, small_detector, small_model


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SeizureStore:
    """Three subjects with a seizure, and one without."""
    return open_rhythms(tmp_path_factory.mktemp("detector"))


def test_it_learns(store: SeizureStore, tmp_path: Path) -> None:
    train, rest = store.select(subjects=["s0", "s1"]), store.select(subjects=["s2", "s3"])
    detector = small_detector()
    before = {name: value.clone() for name, value in detector._start.state_dict().items()}
    state = torch.random.get_rng_state()
    assert detector.fit(train, rest.select(subjects=["s3"]), folder=tmp_path, seed=1) is detector
    assert torch.equal(torch.random.get_rng_state(), state)
    for i, recording in enumerate(rest.recordings):
        probabilities = detector.probabilities(rest, i)
        assert probabilities.shape == (40,)
        finite = np.isfinite(probabilities)
        assert finite.sum() >= 30
        if "seizure" in recording.path.name:
            assert probabilities[13:27].min() > 0.5 > probabilities[:7].max()
        else:
            assert np.nanmax(probabilities) < 0.5
    # The model that was given is what it was.
    assert all(torch.equal(value, before[name]) for name, value in detector._start.state_dict().items())
    assert (tmp_path / "best.safetensors").is_file()
    # What is there is not trained again.
    again = small_detector().fit(train, rest.select(subjects=["s3"]), folder=tmp_path, seed=1)
    assert np.array_equal(again.probabilities(rest, 0), detector.probabilities(rest, 0))


def test_unusable_seconds_are_not_scored(store: SeizureStore) -> None:
    quiet = store.select(subjects=["s3"])
    probabilities = store_probabilities(small_model().eval(), quiet, 0, window=4.0, stride=1.0, precision="float32")
    unusable = quiet.unusable(0)
    assert unusable[20:23].all()
    assert np.isnan(probabilities[unusable]).all()
    assert np.isfinite(probabilities[~unusable]).all()
    # Two threads, another batch size: the same.
    other = store_probabilities(
        small_model().eval(), quiet, 0, window=4.0, stride=1.0, precision="float32", batch_size=5
    )
    np.testing.assert_allclose(other, probabilities, atol=1e-6)


def test_the_same_as_detection(tmp_path: Path) -> None:
    """A threshold that was chosen on a store is used in detection: the seconds and their scores must be the same."""
    rng = np.random.default_rng(0)
    channels = ["Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2", "Fz", "Cz"]
    x = 20e-6 * rng.normal(size=(12, 9460))
    raw = mne.io.RawArray(x, mne.create_info(channels, 200.0, "eeg"), verbose="error")
    gap = mne.Annotations([20.35], [3.0], ["BAD_acq_skip"])
    for name, each in (
        ("whole", raw),
        ("gap", raw.copy().set_annotations(gap)),
        ("short", raw.copy().crop(0, 5.4)),
    ):
        each.save(tmp_path / f"{name}_raw.fif", verbose="error")
    model = small_model().eval()
    with torch.no_grad():
        model.final_layer.weight.normal_(generator=torch.Generator().manual_seed(0))
    store = SeizureStore.open(tmp_path, model.contract, unlabelled="background", verbose="error")
    for file, recording in enumerate(store.recordings):
        ours = store_probabilities(model, store, file, window=8.0, stride=4.0, precision="float32")
        found = detect_seizures(
            recording.path, model, window=8.0, stride=4.0, precision="float32", involvement=False, verbose="error"
        )
        assert np.array_equal(np.isfinite(ours), found.analysed)
        # A store keeps 16 bits.
        np.testing.assert_allclose(ours, found.probability, atol=0.01)
        assert np.nanstd(ours) > 0.02


def test_channels_of_the_standard_montage(tmp_path: Path) -> None:
    """The channels that detect_seizures would read, in their order; what else there is changes nothing."""
    rng = np.random.default_rng(0)
    standard = ["Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2", "Fz", "Cz"]
    x = 20e-6 * rng.normal(size=(14, 2000))
    for name, channels in (("some", standard), ("more", [*standard, "AF3", "PO4"])):
        raw = mne.io.RawArray(x[: len(channels)], mne.create_info(channels, 200.0, "eeg"), verbose="error")
        raw.save(tmp_path / f"{name}_raw.fif", verbose="error")
    store = SeizureStore.open(tmp_path, small_model().contract, unlabelled="background")
    more, some = (store_probabilities(small_model().eval(), store, i, precision="float32") for i in range(2))
    np.testing.assert_allclose(more, some, atol=1e-6)


def test_rare_windows_come_more_often(store: SeizureStore) -> None:
    """A fifth each for seizures and for the rest of those who have them; in validation, everything once."""
    detector = small_detector(seizure_share=0.2)
    batches = detector._batches(store, None, 0)
    counts = {"seizure": 0, "interictal": 0, "background": 0}
    for batch in batches:
        for y in batch["y"]:
            counts["seizure" if y.any() else "other"] = counts.get("seizure" if y.any() else "other", 0) + 1
    assert counts["seizure"] / batches.n_windows >= 0.15
    plain = detector._batches(store, None, 0, training=False)
    assert plain.n_windows == 10 * len(store) - 1
    assert detector._weights({"seizure": 10, "interictal": 0, "background": 600}) == {"seizure": 20.0}
    assert detector._weights({"seizure": 10, "interictal": 400, "background": 0}) == {"seizure": 10.0}
    weights = detector._weights({"seizure": 100, "interictal": 50, "background": 600})
    assert weights == {"seizure": 2.0, "interictal": 4.0}
    assert detector._weights({"seizure": 0, "interictal": 0, "background": 600}) == {}


def test_augmentation(store: SeizureStore) -> None:
    """Labels go with what was mixed in; windows of a batch keep their number; everything follows from the generator."""
    batch = next(iter(small_detector()._batches(store.select(subjects=["s3"]), None, 0)))
    batch = {**batch, "x": batch["x"][:1].repeat(40, 1, 1), "y": batch["y"][:1].repeat(40, 1)}
    plain = SeizureAugmentation(seizure=1.0, artefact=0.0, snr_db=(20.0, 20.0), log_gain_sd=0.0, variation=None)
    out = plain(batch, np.random.default_rng(3))
    assert out["x"].shape == batch["x"].shape
    assert out["x"].dtype == torch.float32
    assert set(out["y"].unique().tolist()) == {0, 1}
    louder = out["x"].unflatten(2, (-1, 200)).std(dim=(1, 3)) / batch["x"].unflatten(2, (-1, 200)).std(dim=(1, 3))
    assert louder[out["y"] == 1].median() > 2 > 1.2 > louder[out["y"] == 0].median()
    again = plain(batch, np.random.default_rng(3))
    assert torch.equal(again["x"], out["x"])
    assert not batch["y"].any()
    # Where there is a seizure already none is added; an artefact changes no label.
    ictal = {**batch, "y": torch.ones_like(batch["y"])}
    assert torch.equal(plain(ictal, np.random.default_rng(3))["x"], batch["x"])
    dirty = SeizureAugmentation(seizure=0.0, artefact=1.0, artefact_db=(20.0, 20.0), log_gain_sd=0.0, variation=None)
    out = dirty(batch, np.random.default_rng(4))
    assert not out["y"].any()
    assert not torch.equal(out["x"], batch["x"])
    # Half of the windows change their amplitude.
    gains = SeizureAugmentation(seizure=0.0, artefact=0.0, log_gain_sd=1.0, variation=None)
    many = {**batch, "x": batch["x"][:1].repeat(200, 1, 1), "y": batch["y"][:1].repeat(200, 1)}
    ratio = (gains(many, np.random.default_rng(5))["x"].std(dim=(1, 2)) / many["x"].std(dim=(1, 2))).log()
    assert 0.35 < (ratio.abs() > 1e-4).float().mean() < 0.65
    calm = SeizureAugmentation.for_validation(SeizureAugmentation(seizure=0.4))
    assert (calm.seizure, calm.log_gain_sd, calm.variation) == (0.4, 0.0, None)
    for options, words in (
        ({"seizure": 1.5}, "probability"),
        ({"snr_db": (3.0, 1.0)}, "smaller number first"),
        ({"log_gain_sd": -1.0}, "negative"),
    ):
        with pytest.raises(ValueError, match=words):
            SeizureAugmentation(**options)


def test_simulated_seizures_alone(store: SeizureStore) -> None:
    """Recordings without a single seizure are enough to begin with."""
    quiet = store.select(subjects=["s3"])
    settings = {"max_steps": 2, "warmup_steps": 1}
    detector = small_detector(augmentation=SeizureAugmentation(variation=None), settings=settings).fit(quiet)
    assert np.isfinite(detector.probabilities(quiet, 0)).any()
    with pytest.raises(ValueError, match="no seizure to learn from"):
        small_detector().fit(quiet)


def test_types_of_seizures(store: SeizureStore) -> None:
    """Recorded seizures have a class each; simulated ones are of unknown type."""
    typed = store.select(subjects=["s0", "s1", "s3"])
    for i, kind in enumerate(("sz_foc", "sz_gen")):
        file = [j for j, table in enumerate(typed.tables) if len(table)][i]
        typed.tables[file] = EventTable((SeizureEvent(10.0, 20.0, kind),), 40.0)
    settings = {"max_steps": 3, "warmup_steps": 1}
    names = ["bckg", "sz_foc", "sz_gen"]
    encoder = LabramForClassification(ch_names=CHANNELS, n_outputs=2, n_times=800, input_scale=10.0, **BODY)
    detector = NeuroStormDetector(
        encoder,
        lengths=(4.0,),
        window=4.0,
        stride=4.0,
        augmentation=SeizureAugmentation(seizure=1.0, variation=None),
        tokens_per_batch=128,
        settings=settings,
        options={"class_names": names},
    )
    labels = {int(label) for batch in detector._batches(typed, None, 0, names) for label in batch["y"].unique()}
    assert labels == {0, 1, 2}
    detector.fit(typed)
    assert detector.model_.class_names == names
    assert np.isfinite(detector.probabilities(typed, 0)).all()
    strange = NeuroStormDetector(encoder, augmentation=None, options={"class_names": ["a", "b", "c"]})
    with pytest.raises(ValueError, match="named as SzCORE names"):
        strange.fit(typed)


def test_wrong_use(store: SeizureStore) -> None:
    with pytest.raises(ValueError, match="has not been fitted"):
        small_detector().probabilities(store, 0)
    with pytest.raises(ValueError, match="s1 is in training and validation"):
        small_detector().fit(store.select(subjects=["s0", "s1"]), store.select(subjects=["s1"]))
    other = NeuroStormDetector(small_model(contract={"h_freq": 30.0}), augmentation=None)
    with pytest.raises(ValueError, match="contract=detector.contract"):
        other.fit(store)
    with pytest.raises(ValueError, match="seizure_share"):
        small_detector(seizure_share=0.5)
    with pytest.raises(ValueError, match="NeuroStorm already"):
        small_detector(options={"amplitude": "relative"}).fit(store.select(subjects=["s0"]))


def test_what_was_measured_of_other_weights_is_forgotten(store: SeizureStore) -> None:
    """Operating points of the weights that a training began with are none of those that it ends with."""
    calibrated = small_model(detection={"parameters": {"threshold": 0.7}, "operating_points": [], "hours": 3.0})
    detector = small_detector(settings={"max_steps": 2, "warmup_steps": 1})
    begun = NeuroStormDetector(calibrated, **{name: getattr(detector, name) for name in ("lengths", "settings")})
    begun.augmentation = None
    assert begun.fit(store.select(subjects=["s0"])).model_.detection is None
    assert calibrated.detection["hours"] == 3.0


def test_a_training_on_other_labels_or_people_is_not_gone_on_with(store: SeizureStore, tmp_path: Path) -> None:
    """Their windows lie at the same places, and the weights that are there were made for something else."""
    settings = {"max_steps": 2, "warmup_steps": 1}
    train = store.select(subjects=["s0"])
    small_detector(settings=settings).fit(train, folder=tmp_path)
    small_detector(settings=settings).fit(store.select(subjects=["s0"]), folder=tmp_path)
    corrected = store.select(subjects=["s0"])
    corrected.tables = [EventTable(tuple(replace(e, onset=9.0) for e in table.events), 40.0) for table in train.tables]
    for other in (corrected, store.select(subjects=["s1"])):
        with pytest.raises(ValueError, match="of another training.*recordings"):
            small_detector(settings=settings).fit(other, folder=tmp_path)
    with pytest.raises(ValueError, match="of another training.*validation"):
        small_detector(settings=settings).fit(train, store.select(subjects=["s2"]), folder=tmp_path)


def test_a_training_without_time_for_an_epoch(store: SeizureStore, tmp_path: Path) -> None:
    """What was never validated has no best weights; the last ones are better than none."""
    detector = small_detector(settings={"max_steps": 60, "max_minutes": 1e-9, "warmup_steps": 1})
    detector.fit(store.select(subjects=["s0", "s1"]), store.select(subjects=["s2"]), folder=tmp_path)
    assert not (tmp_path / "best.safetensors").exists()
    assert np.isfinite(detector.probabilities(store, 0)).any()


def test_it_goes_to_other_processes(store: SeizureStore) -> None:
    detector = small_detector(settings={"max_steps": 2, "warmup_steps": 1}).fit(store.select(subjects=["s0"]))
    other, there = pickle.loads(pickle.dumps((detector, store)))
    assert np.array_equal(other.probabilities(there, 1), detector.probabilities(store, 1))
    unfitted = pickle.loads(pickle.dumps(small_detector()))
    assert unfitted.contract == detector.contract
