"""Fine-tuning by presets: what is trained, by which windows it stops, and what comes out."""

from __future__ import annotations

import logging
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import mne
import numpy as np
import pytest
import sklearn
import torch
from braindecode import EEGClassifier
from braindecode.datasets import BaseConcatDataset, RawDataset
from braindecode.preprocessing import create_fixed_length_windows
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, cross_val_score
from skorch.dataset import Dataset, ValidSplit
from skorch.helper import SliceDataset, predefined_split

from mne_labram import (
    EEGEmbedding,
    LabramForClassification,
    LabramForMaskedModeling,
    annotate_events,
    finetuned_model,
    finetuner,
    labram_embed,
    load_checkpoint,
    save_checkpoint,
)
from mne_labram.signal.contract import ContractError
from mne_labram.training import annotated_windows
from mne_labram.training.layer_decay import layer_decay_patterns
from mne_labram.training.lora import add_lora, has_lora, merge_lora
from mne_labram.training.optimization import layer_of, parameter_groups
from mne_labram.training.splits import HoldOut
from mne_labram.training.tuner import PRESETS

CHANNELS = ["FP1", "FP2", "C3", "C4"]
BODY = {"embed_dim": 16, "num_layers": 3, "num_heads": 2, "spatial": "coordinates", "patch_embed": "conv+spectrum"}
every_preset = pytest.mark.parametrize("preset", PRESETS)


def _base(**options: Any) -> LabramForMaskedModeling:
    torch.manual_seed(0)
    arguments = {"ch_names": CHANNELS, "n_times": 400, "sfreq": 200, "n_codes": 8, **BODY}
    return LabramForMaskedModeling(**{**arguments, **options})


@pytest.fixture(scope="module")
def base() -> LabramForMaskedModeling:
    """Return a small pre-trained model, as far as this module is concerned."""
    return _base()


@pytest.fixture(scope="module")
def windows() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Six subjects, 12 windows each; in class 1 there is a rhythm, in a third of the windows."""
    rng = np.random.default_rng(0)
    y = (np.arange(72) % 3 == 0).astype(int)
    X = 20 * rng.normal(size=(72, 4, 400))
    X += y[:, None, None] * 40 * np.sin(2 * np.pi * 10 * np.arange(400) / 200)
    return X.astype(np.float32), y, np.repeat([f"s{i}" for i in range(6)], 12)


def _tuner(model: Any, **options: Any) -> Any:
    arguments = {"ch_names": CHANNELS, "max_epochs": 4, "batch_size": 16, "verbose": 0, **options}
    return finetuner(model, **arguments)


def _epochs(X: np.ndarray) -> mne.EpochsArray:
    info = mne.create_info([name.title() for name in CHANNELS], 200.0, "eeg")
    return mne.EpochsArray(1e-6 * X, info, verbose="error")


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Listen to MNE's logger, which does not pass on what it says."""
    logger = logging.getLogger("mne")
    mne.set_log_level("info")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


# -- what is trained --------------------------------------------------------------------------------------------------
def _changed(classifier: Any, model: torch.nn.Module) -> set[str]:
    """Name the parameters of the encoder that are not those training started from."""
    start = dict(model.named_parameters())
    return {
        name
        for name, value in classifier.module_.named_parameters()
        if name.startswith("encoder.") and not torch.equal(value, start[name])
    }


@every_preset
def test_what_changes(base: LabramForMaskedModeling, windows: Any, preset: str) -> None:
    """Exactly what the preset names is trained; the model that was given stays as it was."""
    X, y, groups = windows
    before = {name: value.clone() for name, value in base.state_dict().items()}
    classifier = _tuner(base, preset=preset).fit(X, y, groups=groups)
    assert isinstance(classifier, EEGClassifier)
    encoder = {name for name, _ in base.named_parameters() if name.startswith("encoder.")}
    maps = ("attn.qkv.weight", "attn.proj.weight", "mlp.fc1.weight", "mlp.fc2.weight")
    expected = {
        "linear": set(),
        "last-k": {n for n in encoder if n.startswith(("encoder.blocks.1.", "encoder.blocks.2.", "encoder.norm."))},
        # Only the mean of patch tokens is classified, but CLS takes part in attention: everything has a gradient.
        "full": encoder,
        "lora": {n for n in encoder if n.endswith(maps)},
    }[preset]
    changed = _changed(classifier, base)
    # A constant added to every key cancels in the softmax, and one added to a filter in GroupNorm.
    idle = {n for n in encoder if n.endswith(("k_norm.bias", "conv1.bias", "conv2.bias", "conv3.bias"))}
    assert changed - idle == expected - idle
    assert changed <= expected
    assert classifier.module_.final_layer.weight.abs().max() > 1e-3
    for name, value in base.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert set(dict(classifier.module_.named_parameters())) == set(
        dict(LabramForClassification.from_encoder(base, n_outputs=2).named_parameters())
    )


def test_frozen_parts_are_in_evaluation_mode(base: LabramForMaskedModeling, windows: Any) -> None:
    """Dropout in frozen blocks would only blur what the head sees."""
    X, y, groups = windows
    for preset, trained in (("linear", set()), ("lora", set()), ("last-k", {1, 2}), ("full", {0, 1, 2})):
        classifier = _tuner(base, preset=preset, module__drop_prob=0.5, max_epochs=1).fit(X, y, groups=groups)
        classifier._set_training(True)
        encoder = classifier.module_.encoder
        assert {i for i, block in enumerate(encoder.blocks) if block.training} == trained
        assert encoder.pos_drop.training == (preset == "full")
        assert classifier.module_.final_layer.training
    classifier._set_training(False)
    assert not any(module.training for module in classifier.module_.modules())


def test_layer_decay_groups(base: LabramForMaskedModeling, windows: Any) -> None:
    """The learning rate falls from the head to the patches; vectors and tables do not decay."""
    X, y, groups = windows
    classifier = _tuner(base, preset="full", lr=1e-3, max_epochs=1).fit(X, y, groups=groups)
    rates = {}
    for group in classifier.optimizer_.param_groups:
        for parameter in group["params"]:
            rates[parameter] = group["lr"], group["weight_decay"]
    found = {name: rates[value] for name, value in classifier.module_.named_parameters()}
    assert found["final_layer.weight"] == pytest.approx((1e-3, 0.05))
    assert found["encoder.norm.weight"] == pytest.approx((1e-3, 0.0))
    assert found["encoder.blocks.2.attn.qkv.weight"] == pytest.approx((1e-3 * 0.65, 0.05))
    assert found["encoder.blocks.0.mlp.fc1.bias"] == pytest.approx((1e-3 * 0.65**3, 0.0))
    assert found["encoder.patch_embed.conv1.weight"] == pytest.approx((1e-3 * 0.65**4, 0.05))
    # The two position embeddings are added to each other, and learn alike.
    for name in ("encoder.time_embed", "encoder.cls_token"):
        assert found[name] == pytest.approx((1e-3 * 0.65**4, 0.0))
    assert found["encoder.spatial_embed.fc1.weight"] == pytest.approx((1e-3 * 0.65**4, 0.05))
    assert len(classifier.optimizer_.param_groups) <= 2 * 5
    # The same, as one would write it for skorch.
    patterns = layer_decay_patterns(classifier.module_, 1e-3)
    assert {name: (group["lr"], group["weight_decay"]) for name, group in patterns} == pytest.approx(found)
    by_hand = _tuner(base, preset="full", lr=1e-3, max_epochs=1, optimizer__param_groups=patterns)
    by_hand.fit(X, y, groups=groups)
    np.testing.assert_allclose(by_hand.predict_proba(X), classifier.predict_proba(X), atol=1e-5)


def test_layer_of_each_parameter() -> None:
    names = LabramForClassification(n_outputs=2, ch_names=CHANNELS, size="small", qkv_bias=True)
    layers = {name: layer_of(name, 4) for name, _ in names.named_parameters()}
    assert layers["encoder.spatial_embed.table"] == layers["encoder.time_embed"] == 0
    assert layers["encoder.blocks.3.gamma_1"] == 4
    assert layers["encoder.norm.bias"] == layers["final_layer.weight"] == 5
    plain = parameter_groups(names, weight_decay=0.1)
    assert {group["lr_scale"] for group in plain} == {1.0}


# -- LoRA -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("qkv_bias", [False, True])
def test_merging_adapters_changes_nothing(qkv_bias: bool) -> None:
    model = _base(qkv_bias=qkv_bias).eval()
    x = 30 * torch.randn(3, 4, 400)
    before, names = model.embed(x), set(model.state_dict())
    add_lora(model, rank=4)
    assert has_lora(model)
    assert torch.equal(model.embed(x), before)
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    assert all("lora_" in name for name in trained)
    assert any("attn.qkv" in name for name in trained) != qkv_bias
    torch.manual_seed(1)
    for name in trained:
        torch.nn.init.normal_(model.get_parameter(name), std=0.3)
    adapted = model.embed(x)
    assert (adapted - before).abs().max() > 1e-2
    with pytest.raises(ValueError, match="has adapters already"):
        add_lora(model)
    merge_lora(model)
    assert not has_lora(model)
    assert set(model.state_dict()) == names
    torch.testing.assert_close(model.embed(x), adapted, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="rank must be at least 1"):
        add_lora(model, rank=0)


def test_lora_without_peft(base: LabramForMaskedModeling, windows: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r"^preset='lora' needs peft; install it with pip install mne-labram\[lora\]"):
        _tuner(base, preset="lora").fit(*windows)


# -- what comes out ---------------------------------------------------------------------------------------------------
@every_preset
def test_estimator(base: LabramForMaskedModeling, windows: Any, preset: str, tmp_path: Path) -> None:
    """It clones, pickles, repeats itself, is saved, and goes wherever a model goes."""
    X, y, groups = windows
    state = torch.random.get_rng_state()
    classifier = _tuner(base, preset=preset, class_names=["rest", "rhythm"], max_epochs=12).fit(X, y, groups=groups)
    assert torch.equal(torch.random.get_rng_state(), state)
    probabilities = classifier.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(classifier)).predict_proba(X), probabilities)
    torch.manual_seed(99)
    again = clone(classifier).fit(X, y, groups=groups)
    np.testing.assert_array_equal(again.predict_proba(X), probabilities)
    other = clone(classifier).set_params(seed=5).fit(X, y, groups=groups)
    assert not np.array_equal(other.predict_proba(X), probabilities)
    assert (classifier.predict(X) == y).mean() > 0.9

    model = finetuned_model(classifier)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert (model.n_outputs, model.class_names, model.n_times) == (2, ["rest", "rhythm"], 400)
    save_checkpoint(model, tmp_path / "x.safetensors")
    loaded = load_checkpoint(tmp_path / "x.safetensors")
    with torch.inference_mode():
        np.testing.assert_allclose(loaded(torch.from_numpy(X)).softmax(1), probabilities, atol=1e-5)
    raw = mne.io.RawArray(np.concatenate(list(_epochs(X).get_data()), axis=1), _epochs(X).info, verbose="error")
    np.testing.assert_allclose(
        labram_embed(raw, classifier, precision="float32"), labram_embed(raw, loaded, precision="float32"), atol=1e-5
    )
    _, scores = annotate_events(raw, classifier)
    assert scores.class_names == ["rest", "rhythm"]


def test_partial_fit_goes_on(base: LabramForMaskedModeling, windows: Any) -> None:
    """Training continues from where it ended, with new adapters too."""
    X, y, groups = windows
    for preset in ("linear", "lora"):
        classifier = _tuner(base, preset=preset).fit(X, y, groups=groups)
        before = classifier.module_.final_layer.weight.clone()
        first = classifier.history[-1, "train_loss"]
        classifier.partial_fit(X, y, groups=groups)
        assert len(classifier.history) == 8
        assert not torch.equal(classifier.module_.final_layer.weight, before)
        assert classifier.history[-1, "train_loss"] < first
        assert not has_lora(classifier.module_)


def test_what_it_starts_from(base: LabramForMaskedModeling, windows: Any, tmp_path: Path) -> None:
    """A path, a masked model, or a classifier, whose head stays where no other is asked for."""
    X, y, groups = windows
    save_checkpoint(base, tmp_path / "base.safetensors")
    options = {"max_epochs": 1, "preset": "last-k"}
    one = _tuner(base, **options).fit(X, y, groups=groups)
    two = _tuner(tmp_path / "base.safetensors", **options).fit(X, y, groups=groups)
    np.testing.assert_array_equal(one.predict_proba(X), two.predict_proba(X))

    trained = finetuned_model(_tuner(base, class_names=["a", "b"], max_epochs=20).fit(X, y, groups=groups))
    kept = _tuner(trained, lr=1e-12, max_epochs=1).fit(X, y, groups=groups)
    assert kept.module_.class_names == ["a", "b"]
    torch.testing.assert_close(kept.module_.final_layer.weight, trained.final_layer.weight, atol=1e-6, rtol=0)
    fresh = _tuner(trained, n_outputs=3, lr=1e-12, max_epochs=1).fit(X, y, groups=groups)
    assert fresh.module_.final_layer.weight.shape == (3, 16)
    # The encoder may know more montages than the head.
    both = _base(contract={"montages": ["referential", "bipolar"], "h_freq": 40.0})
    tuned = finetuned_model(_tuner(both, max_epochs=1).fit(X, y, groups=groups))
    assert both.contract.montages == ("referential", "bipolar")
    assert (tuned.contract.montages, tuned.contract.h_freq) == (("referential",), 40.0)
    # Arrays do not say their channels; a model that was bound by hand does.
    assert _tuner(base, ch_names=None, max_epochs=1).fit(X, y, groups=groups).module_.ch_names == CHANNELS
    with pytest.raises(ContractError, match="does not say what its channels are; pass ch_names"):
        _tuner(tmp_path / "base.safetensors", ch_names=None).fit(X, y)
    with pytest.raises(TypeError, match="one of mne_labram's models"):
        _tuner(torch.nn.Linear(2, 2)).fit(X, y)
    with pytest.raises(ValueError, match="no weights yet"):
        finetuned_model(_tuner(base))
    with pytest.raises(TypeError, match="not FineTuner; finetuned_model takes the model out of a classifier"):
        save_checkpoint(kept, tmp_path / "classifier.safetensors")


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
    classifier = _tuner(base, max_epochs=30, lr=0.5, patience=3, seed=1)
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
    classifier = _tuner(base, max_epochs=1)
    classifier.fit(X, y)
    assert "No groups were given" in said.text
    rows = classifier.train_split.rows(y)
    for label in (0, 1):
        mine = rows[y == label]
        assert mine.mean() == pytest.approx(0.2, abs=0.05)
        # False, False, ..., True, True.
        assert np.count_nonzero(np.diff(mine.astype(int))) == 1
    said.clear()
    asked = _tuner(base, max_epochs=1, validation="blocks").fit(X, y, groups=groups)
    assert said.text == ""
    np.testing.assert_array_equal(asked.train_split.rows(y, groups), rows)
    said.clear()
    _tuner(base, max_epochs=1).fit(X, y, groups=np.repeat("only", 72))
    assert "All windows are of one group (only)" in said.text


def test_no_validation(base: LabramForMaskedModeling, windows: Any) -> None:
    """All windows are trained on, all passes are made."""
    X, y, groups = windows
    classifier = _tuner(base, validation=None, max_epochs=3).fit(X, y, groups=groups)
    assert len(classifier.history) == 3
    assert "valid_loss" not in classifier.history[-1]
    np.testing.assert_allclose(classifier.criterion_.weight, 72 / (2 * np.bincount(y)), rtol=1e-6)
    late = _tuner(base, early_stopping=False, patience=1, lr=0.5, max_epochs=6).fit(X, y, groups=groups)
    assert len(late.history) == 6


def test_splits_of_others(base: LabramForMaskedModeling, windows: Any) -> None:
    """Skorch's own splits work, with groups where they take them; class weights follow."""
    X, y, groups = windows
    spy = _Spy(ValidSplit(GroupKFold(3)))
    classifier = _tuner(base, max_epochs=1).set_params(train_split=spy).fit(X, y, groups=groups)
    held_out = np.asarray(spy.validation.indices)
    assert set(groups[held_out]).isdisjoint(groups[spy.train.indices])
    expected = len(spy.train) / (2 * np.bincount(y[spy.train.indices]))
    np.testing.assert_allclose(classifier.criterion_.weight, expected, rtol=1e-6)
    valid = Dataset(X[60:], y[60:])
    classifier = _tuner(base, max_epochs=1).set_params(train_split=predefined_split(valid)).fit(X[:60], y[:60])
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
    assert _tuner(base, class_weight=None, max_epochs=1).fit(X, y, groups=groups).criterion_.weight is None
    given = _tuner(base, class_weight=[1.0, 3.0], max_epochs=1).fit(X, y, groups=groups)
    assert given.criterion_.weight.tolist() == [1.0, 3.0]
    _tuner(base, n_outputs=3, max_epochs=1).fit(X, y, groups=groups)
    assert "No window that is trained on is of class 2." in said.text
    for wrong in ("even", [1.0], [1.0, np.nan], {0: 1.0, 1: 3.0}):
        with pytest.raises(ValueError, match="class_weight must be"):
            _tuner(base, class_weight=wrong).fit(X, y, groups=groups)


# -- what goes in -----------------------------------------------------------------------------------------------------
def test_epochs(base: LabramForMaskedModeling, windows: Any) -> None:
    """Epochs are prepared as the contract asks; channels come from them; cross-validation takes them apart."""
    X, y, groups = windows
    epochs = _epochs(X)
    before = epochs.get_data()
    classifier = _tuner(base, ch_names=None, max_epochs=12).fit(epochs, y, groups=groups)
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
    scores = cross_val_score(_tuner(base, ch_names=None), epochs, y, groups=groups, cv=GroupKFold(3))
    assert np.isfinite(scores).all()
    broken = epochs.copy()
    broken._data[3, :, 100:180] = np.nan
    with pytest.raises(ContractError, match="1 of 72 epochs hold unusable seconds"):
        _tuner(base, ch_names=None).fit(broken, y)


def test_cross_validation_hands_on_subjects(base: LabramForMaskedModeling, windows: Any, said: Any) -> None:
    """scikit-learn's metadata routing brings the subjects of the training folds to fit, without a request."""
    X, y, groups = windows
    with sklearn.config_context(enable_metadata_routing=True):
        scores = cross_val_score(_tuner(base, max_epochs=8), X, y, cv=GroupKFold(3), params={"groups": groups})
        # Under another name (MOABB says subjects) they reach fit, if it is asked for.
        renamed = _tuner(base, max_epochs=1).set_fit_request(groups="subjects")
        cross_val_score(renamed, X, y, cv=2, params={"subjects": groups})
    assert scores.mean() > 0.8
    assert said.text.count("stopping by") == 5
    assert "No groups" not in said.text
    assert cross_val_score(_tuner(base), X, y, groups=groups, cv=GroupKFold(3)).shape == (3,)
    assert said.text.count("No groups were given") == 3


def test_braindecode_windows(base: LabramForMaskedModeling, windows: Any, said: Any) -> None:
    """Classes, channels and subjects are read off the data set."""
    X, y, groups = windows
    recordings = []
    for subject in range(4):
        for label in (0, 1):
            data = np.concatenate(list(X[(groups == f"s{subject}") & (y == label)]), axis=1)
            raw = mne.io.RawArray(1e-6 * data, _epochs(X).info, verbose="error")
            raw.apply_function(lambda x: 1e6 * x, picks="eeg", channel_wise=False)
            recordings.append(RawDataset(raw, {"subject": subject, "label": label}, target_name="label"))
    dataset = create_fixed_length_windows(
        BaseConcatDataset(recordings), window_size_samples=400, window_stride_samples=400, on_last_window="drop"
    )
    classifier = _tuner(base, ch_names=None, max_epochs=10).fit(dataset)
    assert classifier.module_.ch_names == CHANNELS
    target = dataset.get_metadata()["target"].to_numpy()
    assert (classifier.predict(dataset) == target).mean() > 0.9
    sliced = _tuner(base, ch_names=None, max_epochs=10).fit(SliceDataset(dataset), target)
    assert said.text.count("Training on 3 groups, stopping by 1") == 2
    assert (sliced.predict(SliceDataset(dataset)) == target).mean() > 0.9

    volts = BaseConcatDataset(dataset.datasets)
    for each in volts.datasets:
        each.raw._data *= 1e-6
    with pytest.raises(ContractError, match=r"^The first windows reach .* look like volts"):
        _tuner(base, ch_names=None).fit(volts)


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
        _tuner(base, **options).fit(**arguments)
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
    classifier = _tuner(base, precision="bf16", max_epochs=12).fit(X, y, groups=groups)
    assert (classifier.predict(X) == y).mean() > 0.9
    assert classifier.module_.final_layer.weight.dtype == torch.float32


# -- real recordings --------------------------------------------------------------------------------------------------
def test_seizures_of_a_patient(shared_data: Path) -> None:
    """Ictal against pre-ictal windows of chb01, tested on seizures that were not trained on, then found in a whole one.

    One patient, so that this shows that the way from recordings to annotations works, and no more.
    """
    folder = shared_data / "chbmit"
    X, y, groups = [], [], []
    for kind, label in (("preictal", 0), ("ictal", 1)):
        for number, fname in enumerate(sorted(folder.glob(f"chb01_*_{kind}.edf"))):
            raw = mne.io.read_raw_edf(fname, verbose="error")
            windows, _, ch_names = annotated_windows(raw, "none", window=2.0, stride=1.0, line_freq=60.0)
            X.append(windows)
            y.append(np.full(len(windows), label))
            groups.append(np.full(len(windows), number))
    X, y, groups = np.concatenate(X), np.concatenate(y), np.concatenate(groups)
    torch.manual_seed(0)
    base = LabramForMaskedModeling(ch_names=ch_names, n_codes=8, **{**BODY, "embed_dim": 32})
    classifier = finetuner(
        base, preset="full", class_names=["background", "seizure"], lr=3e-3, max_epochs=15, batch_size=16, verbose=0
    )
    rest = groups >= 5
    classifier.fit(X[~rest], y[~rest], groups=groups[~rest])
    predicted = classifier.predict(X[rest])
    recall = [np.mean(predicted[y[rest] == label] == label) for label in (0, 1)]
    assert np.mean(recall) > 0.8, recall
    whole = mne.io.read_raw_edf(sorted(folder.glob("*_seizure_full.edf"))[-1], verbose="error")
    found, scores = annotate_events(whole, classifier, line_freq=60.0)
    assert scores.class_names == ["background", "seizure"]
    assert "seizure" in found.description
