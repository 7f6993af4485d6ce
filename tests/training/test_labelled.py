"""What fine-tuning takes, and by which windows it stops."""

from __future__ import annotations

from typing import Any

import hypothesis
import hypothesis.strategies as st
import mne
import numpy as np
import pytest
import sklearn
import torch
from braindecode.datasets import BaseConcatDataset, RawDataset
from braindecode.preprocessing import create_fixed_length_windows
from sklearn.model_selection import GroupKFold, cross_val_score
from skorch.dataset import Dataset, ValidSplit
from skorch.helper import SliceDataset, predefined_split

from mne_labram import (
    EEGEmbedding,
    LabramForMaskedModeling,
    finetuner,
)
from mne_labram.signal.contract import ContractError
from mne_labram.training.splits import HoldOut
from tests.training.tuning import CHANNELS, epochs_of, small_tuner


# -- by which windows it stops ----------------------------------------------------------------------------------------
class _Spy:
    """Note what a split gave."""

    def __init__(self, split: Any) -> None:
        self.split = split

    def __call__(self, dataset: Any, y: Any, **kwargs: Any) -> Any:
        self.train, self.validation = self.split(dataset, y, **kwargs)
        return self.train, self.validation


def test_stopping_by_whole_subjects(base: LabramForMaskedModeling, windows: Any, said: Any) -> None:
    """No subject is on both sides; class weights come from those that are trained on; the best pass is kept."""
    X, y, groups = windows
    # One subject has many more windows of class 1 than the others: the weights show whether it was looked at.
    y = y.copy()
    y[groups == "s5"] = 1
    classifier = small_tuner(base, max_epochs=30, lr=0.5, patience=3, seed=1)
    rows = classifier.train_split.rows(y, groups)
    assert set(groups[rows]).isdisjoint(groups[~rows])
    assert 0.1 < rows.mean() < 0.4
    classifier.fit(X, y, groups=groups)
    counts = np.bincount(y[~rows])
    np.testing.assert_allclose(classifier.criterion_.weight, (~rows).sum() / (2 * counts), rtol=1e-6)
    assert "stopping by" in said.text
    losses = classifier.history[:, "valid_loss"]
    # At this learning rate the loss soon gets worse.
    assert len(losses) < 30
    best = int(np.argmin(losses))
    assert best < len(losses) - 1
    with torch.inference_mode():
        logits = classifier.module_.eval()(torch.from_numpy(X[rows]))
    weight = classifier.criterion_.weight
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(y[rows]), weight=weight)
    # skorch averages over batches, of which there is one here.
    assert rows.sum() <= 16
    assert float(loss) == pytest.approx(losses[best], abs=1e-4)


def test_without_groups(base: LabramForMaskedModeling, windows: Any, said: Any) -> None:
    """The log says so, and windows are split in blocks rather than at random."""
    X, y, groups = windows
    classifier = small_tuner(base, max_epochs=1)
    classifier.fit(X, y)
    assert "No groups were given" in said.text
    rows = classifier.train_split.rows(y)
    for label in (0, 1):
        mine = rows[y == label]
        assert mine.mean() == pytest.approx(0.2, abs=0.05)
        # False, False, ..., True, True.
        assert np.count_nonzero(np.diff(mine.astype(int))) == 1
    said.clear()
    asked = small_tuner(base, max_epochs=1, validation="blocks").fit(X, y, groups=groups)
    assert said.text == ""
    np.testing.assert_array_equal(asked.train_split.rows(y, groups), rows)
    said.clear()
    small_tuner(base, max_epochs=1).fit(X, y, groups=np.repeat("only", 72))
    assert "All windows are of one group (only)" in said.text


def test_no_validation(base: LabramForMaskedModeling, windows: Any) -> None:
    """All windows are trained on, all passes are made."""
    X, y, groups = windows
    classifier = small_tuner(base, validation=None, max_epochs=3).fit(X, y, groups=groups)
    assert len(classifier.history) == 3
    assert "valid_loss" not in classifier.history[-1]
    np.testing.assert_allclose(classifier.criterion_.weight, 72 / (2 * np.bincount(y)), rtol=1e-6)
    late = small_tuner(base, early_stopping=False, patience=1, lr=0.5, max_epochs=6).fit(X, y, groups=groups)
    assert len(late.history) == 6


def test_splits_of_others(base: LabramForMaskedModeling, windows: Any) -> None:
    """Skorch's own splits work, with groups where they take them; class weights follow."""
    X, y, groups = windows
    spy = _Spy(ValidSplit(GroupKFold(3)))
    classifier = small_tuner(base, max_epochs=1).set_params(train_split=spy).fit(X, y, groups=groups)
    held_out = np.asarray(spy.validation.indices)
    assert set(groups[held_out]).isdisjoint(groups[spy.train.indices])
    expected = len(spy.train) / (2 * np.bincount(y[spy.train.indices]))
    np.testing.assert_allclose(classifier.criterion_.weight, expected, rtol=1e-6)
    valid = Dataset(X[60:], y[60:])
    classifier = small_tuner(base, max_epochs=1).set_params(train_split=predefined_split(valid)).fit(X[:60], y[:60])
    np.testing.assert_allclose(classifier.criterion_.weight, 60 / (2 * np.bincount(y[:60])), rtol=1e-6)


@hypothesis.settings(max_examples=50)
@hypothesis.given(
    windows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=2, max_size=60),
    fraction=st.sampled_from([0.1, 0.2, 0.34, 0.5]),
    seed=st.integers(0, 3),
)
def test_hold_out(windows: list[tuple[int, int]], fraction: float, seed: int) -> None:
    """Both sides hold windows, no group is on both, and training keeps every class wherever that is possible."""
    groups, y = (np.array(column) for column in zip(*windows, strict=True))
    split = HoldOut(fraction, seed=seed)
    rows = split.rows(y, groups)
    assert 0 < rows.sum() < len(y)
    np.testing.assert_array_equal(split.rows(y, groups), rows)
    names = np.unique(groups)
    if len(names) > 1:
        assert set(groups[rows]).isdisjoint(groups[~rows])
        if any(set(y[groups != name]) == set(y) for name in names):
            assert set(y[~rows]) == set(y)
    blocks = HoldOut(fraction, "blocks", seed).rows(y, groups)
    assert 0 < blocks.sum() < len(y)
    for label in set(y) if len(set(y)) < len(y) else ():
        # Training first, then validation.
        assert np.all(np.diff(blocks[y == label].astype(int)) >= 0)
        assert not blocks[y == label].all()


def test_hold_out_of_a_class_in_few_subjects() -> None:
    """The only subject with a class is trained on; with two such subjects, one is on each side."""
    groups = np.repeat(np.arange(5), 10)
    for seed in range(5):
        split = HoldOut(0.3, seed=seed)
        assert not split.rows((groups == 2).astype(int), groups)[groups == 2].any()
        two = np.isin(groups, [1, 2]).astype(int)
        rows = split.rows(two, groups)
        assert set(two[rows]) == set(two[~rows]) == {0, 1}
    y = np.zeros(10, dtype=int)
    with pytest.raises(ValueError, match="one group per window"):
        HoldOut().rows(y, groups)
    with pytest.raises(ValueError, match="cannot be split"):
        HoldOut().rows(y[:1])
    with pytest.raises(ValueError, match="must lie in"):
        HoldOut(0.7).rows(y)
    with pytest.raises(ValueError, match="by 'subjects' or 'blocks'"):
        HoldOut(by="chance").rows(y)


# -- class weights ----------------------------------------------------------------------------------------------------
def test_class_weights(base: LabramForMaskedModeling, windows: Any, said: Any) -> None:
    X, y, groups = windows
    assert small_tuner(base, class_weight=None, max_epochs=1).fit(X, y, groups=groups).criterion_.weight is None
    given = small_tuner(base, class_weight=[1.0, 3.0], max_epochs=1).fit(X, y, groups=groups)
    assert given.criterion_.weight.tolist() == [1.0, 3.0]
    small_tuner(base, n_outputs=3, max_epochs=1).fit(X, y, groups=groups)
    assert "No window that is trained on is of class 2." in said.text
    for wrong in ("even", [1.0], [1.0, np.nan], {0: 1.0, 1: 3.0}):
        with pytest.raises(ValueError, match="class_weight must be"):
            small_tuner(base, class_weight=wrong).fit(X, y, groups=groups)


# -- what goes in -----------------------------------------------------------------------------------------------------
def test_epochs(base: LabramForMaskedModeling, windows: Any) -> None:
    """Epochs are prepared as the contract asks; channels come from them; cross-validation takes them apart."""
    X, y, groups = windows
    epochs = epochs_of(X)
    before = epochs.get_data()
    classifier = small_tuner(base, ch_names=None, max_epochs=12).fit(epochs, y, groups=groups)
    assert classifier.module_.ch_names == CHANNELS
    assert (classifier.predict(epochs) == y).mean() > 0.9
    np.testing.assert_array_equal(epochs.get_data(), before)
    embedded = EEGEmbedding(classifier, precision="float32").fit_transform(epochs)
    head = classifier.module_.final_layer
    logits = torch.from_numpy(embedded) @ head.weight.T + head.bias
    np.testing.assert_allclose(logits.softmax(1).detach(), classifier.predict_proba(epochs), atol=1e-4)
    # Another order and a channel more are the same; one less is not.
    info = mne.create_info(["C4", "Pz", "Fp1", "C3", "Fp2"], 200.0, "eeg")
    more = mne.EpochsArray(1e-6 * X[:, [3, 0, 0, 2, 1]], info, verbose="error")
    np.testing.assert_allclose(classifier.predict_proba(more), classifier.predict_proba(epochs), atol=1e-3)
    with pytest.raises(ContractError, match="lack 1 of the 4 channels"):
        classifier.predict(epochs.copy().drop_channels("C3"))
    scores = cross_val_score(small_tuner(base, ch_names=None), epochs, y, groups=groups, cv=GroupKFold(3))
    assert np.isfinite(scores).all()
    broken = epochs.copy()
    broken._data[3, :, 100:180] = np.nan
    with pytest.raises(ContractError, match="1 of 72 epochs hold unusable seconds"):
        small_tuner(base, ch_names=None).fit(broken, y)


def test_cross_validation_hands_on_subjects(base: LabramForMaskedModeling, windows: Any, said: Any) -> None:
    """scikit-learn's metadata routing brings the subjects of the training folds to fit, without a request."""
    X, y, groups = windows
    with sklearn.config_context(enable_metadata_routing=True):
        scores = cross_val_score(small_tuner(base, max_epochs=8), X, y, cv=GroupKFold(3), params={"groups": groups})
        # Under another name (MOABB says subjects) they reach fit, if it is asked for.
        renamed = small_tuner(base, max_epochs=1).set_fit_request(groups="subjects")
        cross_val_score(renamed, X, y, cv=2, params={"subjects": groups})
    assert scores.mean() > 0.8
    assert said.text.count("stopping by") == 5
    assert "No groups" not in said.text
    assert cross_val_score(small_tuner(base), X, y, groups=groups, cv=GroupKFold(3)).shape == (3,)
    assert said.text.count("No groups were given") == 3


def test_braindecode_windows(base: LabramForMaskedModeling, windows: Any, said: Any) -> None:
    """Classes, channels and subjects are read off the data set."""
    X, y, groups = windows
    recordings = []
    for subject in range(4):
        for label in (0, 1):
            data = np.concatenate(list(X[(groups == f"s{subject}") & (y == label)]), axis=1)
            raw = mne.io.RawArray(1e-6 * data, epochs_of(X).info, verbose="error")
            raw.apply_function(lambda x: 1e6 * x, picks="eeg", channel_wise=False)
            recordings.append(RawDataset(raw, {"subject": subject, "label": label}, target_name="label"))
    dataset = create_fixed_length_windows(
        BaseConcatDataset(recordings), window_size_samples=400, window_stride_samples=400, on_last_window="drop"
    )
    classifier = small_tuner(base, ch_names=None, max_epochs=10).fit(dataset)
    assert classifier.module_.ch_names == CHANNELS
    target = dataset.get_metadata()["target"].to_numpy()
    assert (classifier.predict(dataset) == target).mean() > 0.9
    sliced = small_tuner(base, ch_names=None, max_epochs=10).fit(SliceDataset(dataset), target)
    assert said.text.count("Training on 3 groups, stopping by 1") == 2
    assert (sliced.predict(SliceDataset(dataset)) == target).mean() > 0.9

    volts = BaseConcatDataset(dataset.datasets)
    for each in volts.datasets:
        each.raw._data *= 1e-6
    with pytest.raises(ContractError, match=r"^The first windows reach .* look like volts"):
        small_tuner(base, ch_names=None).fit(volts)


@pytest.mark.parametrize(
    ("options", "change", "error", "match"),
    [
        ({"preset": "half"}, {}, ValueError, "preset must be one of"),
        ({"preset": "last-k", "last_k": 4}, {}, ValueError, "last_k must lie between 1 and 3"),
        ({"ch_names": CHANNELS[:3]}, {}, ContractError, "3 channel names for windows of 4"),
        ({"n_outputs": 1}, {}, ValueError, "two classes or more"),
        ({}, {"y": np.zeros(72, dtype=int)}, ValueError, "two classes or more"),
        # Class 1 alone is one class, although its number asks for two outputs.
        ({}, {"y": np.ones(72, dtype=int)}, ValueError, "two classes or more"),
        ({}, {"y": np.where(np.arange(72) == 5, np.nan, 1.0)}, ValueError, r"classes are missing \(NaN\)"),
        ({}, {"y": np.array([0, 1, None] * 24)}, TypeError, "LabelEncoder"),
        ({"max_epochs": 0}, {}, ValueError, "max_epochs must be at least 1, got 0"),
        ({"class_names": ["a", "b"]}, {"y": np.arange(72) % 3}, ValueError, "Classes must be 0 to 1, got 0 to 2"),
        ({}, {"y": np.array(["a", "b"] * 36)}, TypeError, "LabelEncoder"),
        ({}, {"y": np.zeros(5, dtype=int)}, ValueError, "one class per window"),
        ({}, {"y": None}, ValueError, "classes are missing"),
        ({}, {"groups": np.zeros(5)}, ValueError, "one group per window"),
        ({}, {"X": np.zeros((72, 400))}, ValueError, "must have the shape"),
        ({}, {"X": np.zeros((0, 4, 400))}, ValueError, "must have the shape"),
        ({}, {"X": "recording.edf"}, TypeError, "annotated_windows"),
        ({}, {"X": np.full((72, 4, 400), 1e-5)}, ContractError, "look like volts"),
        ({"precision": "fp8"}, {}, ValueError, "precision must be"),
        ({"layer_decay": 1.5, "preset": "full"}, {}, ValueError, "layer_decay must lie"),
    ],
)
def test_wrong_arguments(
    base: LabramForMaskedModeling, windows: Any, options: dict, change: dict, error: type, match: str
) -> None:
    """Each is one sentence, and nothing is left of it in the random numbers."""
    arguments = {**dict(zip(("X", "y", "groups"), windows, strict=True)), **change}
    with pytest.raises(error, match=match) as caught:
        small_tuner(base, **options).fit(**arguments)
    assert "\n" not in str(caught.value)


def test_numbers_of_numpy_and_names_in_one_text(base: LabramForMaskedModeling) -> None:
    """As in n_outputs=y.max() + 1."""
    assert finetuner(base, n_outputs=np.int64(3)).get_params()["module__n_outputs"] == 3
    for name in ("class_names", "ch_names"):
        with pytest.raises(ValueError, match=f"{name} must be a list of names, got 'Cz'"):
            finetuner(base, **{name: "Cz"})


def test_devices_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert finetuner().device == "cpu"
    with pytest.raises(ValueError, match="^There is no GPU that torch can use; fine-tune with device='cpu'"):
        finetuner(device="cuda:1")
    with pytest.raises(ValueError, match="^device must be one of torch's, as 'cpu' or 'cuda', got 'gpu'") as caught:
        finetuner(device="gpu")
    assert "\n" not in str(caught.value)


def test_wrong_validation() -> None:
    with pytest.raises(ValueError, match="validation must be"):
        finetuner(validation="random")


def test_bf16(base: LabramForMaskedModeling, windows: Any) -> None:
    """The forward pass at half precision trains as well."""
    X, y, groups = windows
    classifier = small_tuner(base, precision="bf16", max_epochs=12).fit(X, y, groups=groups)
    assert (classifier.predict(X) == y).mean() > 0.9
    assert classifier.module_.final_layer.weight.dtype == torch.float32
