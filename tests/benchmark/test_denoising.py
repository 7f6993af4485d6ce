"""Artefacts simulated onto clean EEG: what is put there, and what is left of it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mne_labram import list_pretrained
from mne_labram.benchmark.denoising import KINDS, corrupted_windows, denoising_table, score_denoising
from mne_labram.benchmark.restoration import read_restoration
from mne_labram.restoration.gram_predictor import GramPredictor


@pytest.fixture(scope="module")
def data(shared_data):
    return read_restoration(shared_data, training=[0], scored=[8])


@pytest.mark.parametrize("kind", KINDS)
def test_windows_hold_the_artefact_and_say_where(data, kind):
    (recording,) = data.scored
    windows = corrupted_windows(recording, kind, seed=3, n_windows=2)
    for (clean, corrupted, doubtful), again in zip(
        windows, corrupted_windows(recording, kind, seed=3, n_windows=2), strict=True
    ):
        assert clean.shape == corrupted.shape == doubtful.shape == (19, round(8 * recording.sfreq))
        assert_array_equal(corrupted, again[1])
        rows = doubtful[:, 0]
        assert (doubtful == rows[:, None]).all()
        assert 1 <= rows.sum() <= 10
        size = np.square(corrupted - clean).mean(axis=1)
        assert size[rows].min() > 0
        assert rows[size.argmax()]


def test_scores_are_those_of_what_is_returned(data):
    rows = score_denoising(
        data.scored, {"nothing": lambda recording: lambda x, doubtful: x}, kinds=["muscle"], n_windows=2
    )
    as_it_is, nothing = rows
    assert_allclose(as_it_is.error, nothing.error)
    (first, second) = denoising_table(rows)
    assert first == {**second, "doubtful channels": "left as it is"}


@pytest.mark.skipif("gram-tiny" not in list_pretrained(), reason="gram-tiny does not ship yet")
def test_denoising_is_better_than_predicting_and_calibration_helps(data):
    """On a subject that the model was trained on; the six of the card are not for tests to choose by."""

    def way(keep: bool, calibrated: bool):
        def made(recording):
            predictor = GramPredictor(recording.ch_names, data.positions, recording.sfreq)
            if calibrated:
                x = recording.x[:, 2000:14000].astype(float)
                predictor.observe(x, np.zeros(x.shape, bool))
            return lambda x, doubtful: predictor.predict(x, doubtful, *([doubtful] if keep else []))[0]

        return made

    ways = {"predicted": way(False, False), "kept": way(True, False), "calibrated": way(True, True)}
    found = {}
    for row in score_denoising(data.scored, ways, kinds=["blinks", "chewing", "movement"], n_windows=2):
        found[row.name, row.kind] = row.error[0]
    for kind in ("blinks", "chewing", "movement"):
        assert found["kept", kind] < found["predicted", kind] < found["left as it is", kind]
        assert found["calibrated", kind] < 0.8
    # What the believed channels see is noticed.
    assert found["kept", "movement"] < 0.3 * found["predicted", "movement"]
