"""How every model learns, by itself and through Braindecode."""

from __future__ import annotations

import pickle
from typing import Any

import mne
import numpy as np
import pytest
import torch
from braindecode import EEGClassifier
from braindecode.datasets import BaseConcatDataset, RawDataset
from braindecode.preprocessing import create_fixed_length_windows
from sklearn.base import clone

from mne_labram.models import (
    BrainCodecForSeizure,
)

from .rows import CH_NAMES, N_TIMES, SFREQ, Row, all_models, build, compute_loss, every_classifier, every_model, signal


def _epochs(n: int = 8) -> mne.EpochsArray:
    """Epochs in volts, with a difference between the classes that one pass over the data shows."""
    x = 20e-6 * np.random.default_rng(0).standard_normal((n, 4, N_TIMES))
    x[n // 2 :] *= 8
    events = np.column_stack([np.arange(n), np.zeros(n, int), np.repeat([1, 2], n // 2)])
    info = mne.create_info(["Fp1", "Cz", "T7", "O2"], SFREQ, "eeg")
    return mne.EpochsArray(x, info, events, event_id={"rest": 1, "task": 2}, verbose="error")


def _classifier(row: Row, **changes: Any) -> EEGClassifier:
    arguments = {f"module__{name}": value for name, value in row.kwargs.items()}
    return EEGClassifier(
        row.cls.__name__,
        **{**arguments, "max_epochs": 2, "batch_size": 4, "train_split": None, "verbose": 0, "lr": 1e-3, **changes},
    )


@every_model
def test_batch_of_one_in_training(row: Row) -> None:
    model = build(row, drop_prob=0.1, attn_drop_prob=0.1, drop_path_prob=0.1).train()
    assert torch.isfinite(compute_loss(row, model, signal(1)))
    assert model(signal(1)).shape == (1, *row.output_shape[1:])


@all_models
def test_gradient_reaches_every_parameter(row: Row) -> None:
    model = build(row).train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    compute_loss(row, model, signal()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        largest = float(parameter.grad.abs().max())
        if name.endswith(row.no_gradient):
            assert largest < 1e-5, name
        else:
            assert largest > 1e-9, name


@all_models
def test_training_lowers_the_loss(row: Row) -> None:
    model = build(row).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = compute_loss(row, model, signal(4))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) - 1e-3


@every_classifier
def test_trains_on_epochs(row: Row) -> None:
    torch.manual_seed(0)
    epochs = _epochs()
    net = _classifier(row).fit(epochs, y=epochs.events[:, 2] - 1)
    assert net.module_.ch_names == CH_NAMES
    assert net.module_.n_outputs == 2
    assert net.predict(epochs).shape == (8,)
    again = pickle.loads(pickle.dumps(net))
    np.testing.assert_array_equal(again.predict_proba(epochs), net.predict_proba(epochs))
    fresh = clone(net)
    assert not hasattr(fresh, "module_")
    fresh.fit(epochs, y=epochs.events[:, 2] - 1)
    assert np.isfinite(fresh.predict_proba(epochs)).all()


@every_classifier
def test_trains_on_arrays(row: Row) -> None:
    torch.manual_seed(0)
    epochs = _epochs()
    x = epochs.get_data(units="uV").astype(np.float32)
    y = epochs.events[:, 2] - 1
    net = _classifier(row, module__ch_names=CH_NAMES, classes=[0, 1]).fit(x, y)
    assert net.predict(x).shape == (8,)
    if row.cls is BrainCodecForSeizure:
        return  # reads any channels, and needs no names
    with pytest.raises(ValueError, match=r"module__ch_names=\[...\] for an EEGClassifier"):
        _classifier(row).fit(x, y)


# Braindecode 1.8.1 uses what pandas 3.1 deprecated.
@pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame:DeprecationWarning")
@every_classifier
def test_trains_on_windows(row: Row) -> None:
    torch.manual_seed(0)
    datasets = []
    for target in (0, 1):
        # Braindecode's datasets hand over what MNE holds, so a preprocessor has to make microvolts of it.
        raw = mne.io.RawArray(
            (8 if target else 1) * 20 * np.random.default_rng(target).standard_normal((4, 5 * N_TIMES)),
            mne.create_info(CH_NAMES, SFREQ, "eeg"),
            verbose="error",
        )
        datasets.append(RawDataset(raw, description={"subject": 0, "target": target}, target_name="target"))
    windows = create_fixed_length_windows(
        BaseConcatDataset(datasets), 0, None, N_TIMES, N_TIMES, on_last_window="drop", verbose="error"
    )
    net = _classifier(row, module__ch_names=CH_NAMES, module__n_outputs=2, classes=[0, 1]).fit(windows, y=None)
    assert net.predict(windows).shape == (10,)
