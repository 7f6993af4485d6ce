"""What the tests of fine-tuning share."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import mne
import numpy as np
import pytest

from mne_labram import LabramForMaskedModeling
from tests.training.tuning import pretrained


@pytest.fixture(scope="package")
def base() -> LabramForMaskedModeling:
    """Return a small pre-trained model, as far as this module is concerned."""
    return pretrained()


@pytest.fixture(scope="package")
def windows() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Six subjects, 12 windows each; in class 1 there is a rhythm, in a third of the windows."""
    rng = np.random.default_rng(0)
    y = (np.arange(72) % 3 == 0).astype(int)
    X = 20 * rng.normal(size=(72, 4, 400))
    X += y[:, None, None] * 40 * np.sin(2 * np.pi * 10 * np.arange(400) / 200)
    return X.astype(np.float32), y, np.repeat([f"s{i}" for i in range(6)], 12)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Listen to MNE's logger, which does not pass on what it says."""
    logger = logging.getLogger("mne")
    mne.set_log_level("info")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)
