"""
A foundation model in a MOABB benchmark
=======================================

Two pipelines run through MOABB's evaluations offline: frozen embeddings with a linear classifier, and fine-tuning with
Braindecode's ``EEGClassifier``. Each takes arrays (channel names given as a parameter) and MNE Epochs.

The data set is MOABB's ``FakeDataset``: noise without any class, so that every score should lie near chance, 0.5 in
ROC AUC. What is shown is that the parts fit together. Both start from the weights that ship; the path of a checkpoint
of your own, or of the authors' (``mne-labram convert``), may stand in their place.
"""

# %%
# Weights given by name, or by path, keep the pipelines small to clone, and are part of the name under which MOABB
# stores the results.
# First, so that Braindecode imports beside a torchaudio that does not load.
from mne_labram import EEGEmbedding, finetuner  # isort: skip

import tempfile
import warnings
from pathlib import Path

import mne
import moabb
from moabb.datasets.fake import FakeDataset
from moabb.evaluations import CrossSubjectEvaluation, WithinSessionEvaluation
from moabb.paradigms import LeftRightImagery
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

mne.set_log_level("error")
moabb.set_log_level("error")
warnings.filterwarnings("ignore", "Montage name .* is deprecated", FutureWarning)  # MOABB asks for the old name

folder = Path(tempfile.mkdtemp())
channels = ["C3", "CZ", "C4"]

# %%
# ``resample=200`` has MOABB hand over what the model takes. Arrays are in microvolts and do not say which channels they
# hold; Epochs do, so nothing needs to be said.
dataset = FakeDataset(["left_hand", "right_hand"], n_sessions=2, n_runs=1, n_subjects=3, seed=0, n_events=20)
paradigm = LeftRightImagery(fmin=1, fmax=45, resample=200, tmax=2.995)

options = {"preset": "last-k", "max_epochs": 2, "batch_size": 8, "validation": None, "verbose": 0}
on_arrays = {
    "embedding": make_pipeline(
        EEGEmbedding("labram-tiny", pooling="channels", ch_names=channels, sfreq=200.0),
        StandardScaler(),
        LogisticRegression(),
    ),
    "fine-tuning": make_pipeline(finetuner("labram-tiny", n_outputs=2, ch_names=channels, **options)),
}
on_epochs = {
    "embedding, epochs": make_pipeline(
        EEGEmbedding("labram-tiny", pooling="channels"), StandardScaler(), LogisticRegression()
    ),
    "fine-tuning, epochs": make_pipeline(finetuner("labram-tiny", n_outputs=2, **options)),
}

# %%
# Four evaluations, all offline.
for evaluation_class in (WithinSessionEvaluation, CrossSubjectEvaluation):
    for pipelines, return_epochs in ((on_arrays, False), (on_epochs, True)):
        evaluation = evaluation_class(
            paradigm=paradigm,
            datasets=[dataset],
            hdf5_path=str(folder),
            return_epochs=return_epochs,
            overwrite=True,
            random_state=0,
        )
        results = evaluation.process(pipelines)
        table = results.groupby("pipeline")["score"].agg(["mean", "std", "count"]).round(3)
        print(f"{evaluation_class.__name__}, {'Epochs' if return_epochs else 'arrays'}\n{table}\n")
