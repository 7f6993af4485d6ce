"""Fine-tuning by presets: what is trained, and what comes out."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pytest
import torch
from braindecode import EEGClassifier
from sklearn.base import clone

from mne_labram import (
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
from tests.training.tuning import BODY, CHANNELS, epochs_of, every_preset, pretrained, small_tuner


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
    classifier = small_tuner(base, preset=preset).fit(X, y, groups=groups)
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
        classifier = small_tuner(base, preset=preset, module__drop_prob=0.5, max_epochs=1).fit(X, y, groups=groups)
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
    classifier = small_tuner(base, preset="full", lr=1e-3, max_epochs=1).fit(X, y, groups=groups)
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
    by_hand = small_tuner(base, preset="full", lr=1e-3, max_epochs=1, optimizer__param_groups=patterns)
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
    model = pretrained(qkv_bias=qkv_bias).eval()
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
        small_tuner(base, preset="lora").fit(*windows)


# -- what comes out ---------------------------------------------------------------------------------------------------
@every_preset
def test_estimator(base: LabramForMaskedModeling, windows: Any, preset: str, tmp_path: Path) -> None:
    """It clones, pickles, repeats itself, is saved, and goes wherever a model goes."""
    X, y, groups = windows
    state = torch.random.get_rng_state()
    classifier = small_tuner(base, preset=preset, class_names=["rest", "rhythm"], max_epochs=12).fit(
        X, y, groups=groups
    )
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
    raw = mne.io.RawArray(np.concatenate(list(epochs_of(X).get_data()), axis=1), epochs_of(X).info, verbose="error")
    np.testing.assert_allclose(
        labram_embed(raw, classifier, precision="float32"), labram_embed(raw, loaded, precision="float32"), atol=1e-5
    )
    _, scores = annotate_events(raw, classifier)
    assert scores.class_names == ["rest", "rhythm"]


def test_partial_fit_goes_on(base: LabramForMaskedModeling, windows: Any) -> None:
    """Training continues from where it ended, with new adapters too."""
    X, y, groups = windows
    for preset in ("linear", "lora"):
        classifier = small_tuner(base, preset=preset).fit(X, y, groups=groups)
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
    one = small_tuner(base, **options).fit(X, y, groups=groups)
    two = small_tuner(tmp_path / "base.safetensors", **options).fit(X, y, groups=groups)
    np.testing.assert_array_equal(one.predict_proba(X), two.predict_proba(X))

    trained = finetuned_model(small_tuner(base, class_names=["a", "b"], max_epochs=20).fit(X, y, groups=groups))
    kept = small_tuner(trained, lr=1e-12, max_epochs=1).fit(X, y, groups=groups)
    assert kept.module_.class_names == ["a", "b"]
    torch.testing.assert_close(kept.module_.final_layer.weight, trained.final_layer.weight, atol=1e-6, rtol=0)
    fresh = small_tuner(trained, n_outputs=3, lr=1e-12, max_epochs=1).fit(X, y, groups=groups)
    assert fresh.module_.final_layer.weight.shape == (3, 16)
    # The encoder may know more montages than the head.
    both = pretrained(contract={"montages": ["referential", "bipolar"], "h_freq": 40.0})
    tuned = finetuned_model(small_tuner(both, max_epochs=1).fit(X, y, groups=groups))
    assert both.contract.montages == ("referential", "bipolar")
    assert (tuned.contract.montages, tuned.contract.h_freq) == (("referential",), 40.0)
    # Arrays do not say their channels; a model that was bound by hand does.
    assert small_tuner(base, ch_names=None, max_epochs=1).fit(X, y, groups=groups).module_.ch_names == CHANNELS
    with pytest.raises(ContractError, match="does not say what its channels are; pass ch_names"):
        small_tuner(tmp_path / "base.safetensors", ch_names=None).fit(X, y)
    with pytest.raises(TypeError, match="one of mne_labram's models"):
        small_tuner(torch.nn.Linear(2, 2)).fit(X, y)
    with pytest.raises(ValueError, match="no weights yet"):
        finetuned_model(small_tuner(base))
    with pytest.raises(TypeError, match="not FineTuner; finetuned_model takes the model out of a classifier"):
        save_checkpoint(kept, tmp_path / "classifier.safetensors")


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
