"""Our estimators in MOABB's evaluations, offline, on a data set with something to learn."""

import numpy as np
import pytest
import torch
from braindecode import EEGClassifier
from moabb.datasets.fake import FakeDataset
from moabb.evaluations import CrossSubjectEvaluation, WithinSessionEvaluation
from moabb.paradigms import LeftRightImagery
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mne_labram import EEGEmbedding, LabramForClassification, save_checkpoint

CHANNELS = ["C3", "Cz", "C4"]
SMALL = {"embed_dim": 40, "num_layers": 1, "num_heads": 2, "patch_embed": "conv+spectrum"}

pytestmark = [
    # moabb 1.7.2, datasets/fake.py, asks MNE for a montage by its old name.
    pytest.mark.filterwarnings("ignore:Montage name 'standard_1005' is deprecated:FutureWarning"),
    # moabb 1.7.2, analysis/results.py, makes HDF5 data sets without a type.
    pytest.mark.filterwarnings("ignore:Creating a dataset without passing data or dtype"),
]


class LearnableDataset(FakeDataset):
    """MOABB's noise with a 10-Hz rhythm at C3 after every event of the first class."""

    def _generate_raw(self, n_events, duration):
        raw = super()._generate_raw(n_events, duration)
        stim = raw.get_data()[-1]
        for sample in np.flatnonzero(stim == 1):
            stop = min(sample + 3 * self.sfreq, raw.n_times)
            raw._data[0, sample:stop] += 2e-5 * np.sin(2 * np.pi * 10 * np.arange(stop - sample) / self.sfreq)
        return raw


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Write a tiny model with random weights."""
    torch.manual_seed(0)
    model = LabramForClassification(ch_names=CHANNELS, n_times=600, sfreq=200, n_outputs=2, **SMALL)
    fname = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_checkpoint(model.eval(), fname)
    return str(fname)


def _embedding(checkpoint, return_epochs):
    arrays = {} if return_epochs else {"ch_names": CHANNELS, "sfreq": 200.0}
    return make_pipeline(
        EEGEmbedding(checkpoint, pooling="channels", **arrays), StandardScaler(), LogisticRegression(max_iter=1000)
    )


def _classifier():
    return make_pipeline(
        EEGClassifier(
            "LabramForClassification",
            **{f"module__{name}": value for name, value in SMALL.items()},
            module__ch_names=CHANNELS,
            module__sfreq=200,
            optimizer=torch.optim.AdamW,
            lr=3e-3,
            max_epochs=6,
            batch_size=8,
            train_split=None,
            verbose=0,
        )
    )


@pytest.mark.parametrize("return_epochs", [False, True])
@pytest.mark.parametrize("evaluation_class", [WithinSessionEvaluation, CrossSubjectEvaluation])
def test_pipelines_learn(checkpoint, evaluation_class, return_epochs, tmp_path):
    """Both pipelines tell the classes apart, from arrays with channel names given and from Epochs."""
    np.random.seed(0)  # noqa: NPY002  (MOABB's FakeDataset draws from it)
    torch.manual_seed(0)
    dataset = LearnableDataset(
        ["left_hand", "right_hand"], 1, 1, 2, code="LearnableDataset", seed=0, n_events=24, duration=96
    )
    evaluation = evaluation_class(
        paradigm=LeftRightImagery(fmin=1, fmax=45, resample=200, tmax=2.995),
        datasets=[dataset],
        hdf5_path=str(tmp_path),
        return_epochs=return_epochs,
        overwrite=True,
        random_state=0,
    )
    results = evaluation.process({"embedding": _embedding(checkpoint, return_epochs), "fine-tuning": _classifier()})
    scores = results.groupby("pipeline")["score"].mean()
    assert set(results.subject) == {"1", "2"}
    assert scores["embedding"] > 0.9, scores
    assert scores["fine-tuning"] > 0.75, scores
