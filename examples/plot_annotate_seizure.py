"""
Annotate a seizure in a recording
=================================

A small LaBraM is trained on ictal and pre-ictal ten-second excerpts of six records of one patient (CHB-MIT, chb01:
records 03, 04, 15, 18, 21, 26) and annotates two excerpts of a seventh record: ``chb01_16_seizure_full.edf``, a whole
seizure, and ``chb01_16_preictal.edf``, ten seconds before it.

The recordings are bipolar, 23 channels at 256 Hz. LaBraM's official table has rows for only eight of them; the small
model computes its spatial embedding from the positions of both electrodes of a channel and takes all.

One patient and 2 minutes of training: this shows how it is done. It says nothing about other patients, and CHB-MIT's
excerpts are nearly decided by amplitude, which is why a line-length baseline stands beside the model.
"""

# %%
# The recordings are not part of the project; say where they are with ``MNE_LABRAM_SHARED``.
import os
from pathlib import Path

import matplotlib.pyplot as plt
import mne
import numpy as np
import torch
from braindecode import EEGClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mne_labram import EEGEmbedding, LabramForClassification, annotate_events, check, labram_annotate
from mne_labram.decoding.page import plot_scores
from mne_labram.training import annotated_windows

mne.set_log_level("error")
shared = Path(os.environ.get("MNE_LABRAM_SHARED", "../shared" if Path("mne_labram").is_dir() else "../../shared"))
data = shared / "data" / "chbmit"
if not data.is_dir():
    raise SystemExit(f"{data} is absent: set MNE_LABRAM_SHARED to the folder that holds data/chbmit.")

# %%
# What would a model get from such a file? ``check`` says so without running one.
contract = LabramForClassification(ch_names=["FP1-F7"], n_times=800, n_outputs=2, spatial="coordinates").contract
report = check(data / "chb01_16_seizure_full.edf", contract, line_freq=60)


# %%
# Windows of 4 s every half second, in microvolts, filtered and resampled as the model wants them.
def excerpt(record: str, kind: str) -> mne.io.BaseRaw:
    """Read ten seconds; the whole of an ictal excerpt is annotated."""
    raw = mne.io.read_raw_edf(data / f"chb01_{record}_{kind}.edf", verbose="error")
    if kind == "ictal":
        raw.set_annotations(mne.Annotations(0, raw.times[-1], "seizure"))
    return raw


records = ["03", "04", "15", "18", "21", "26"]
X, y, groups = [], [], []
for record in records:
    for kind in ("preictal", "ictal"):
        windows, labels, ch_names = annotated_windows(
            excerpt(record, kind), "seizure", contract, window=4, stride=0.5, line_freq=60
        )
        X.append(windows)
        y.append(labels)
        groups += [record] * len(labels)
X, y, groups = np.concatenate(X), np.concatenate(y), np.array(groups)
print(f"{len(y)} windows, {y.sum()} of them ictal, {len(ch_names)} channels")


# %%
# The model, through Braindecode's classifier.
def new_classifier(seed: int) -> EEGClassifier:
    """Build a small model with its own random weights."""
    torch.manual_seed(seed)
    return EEGClassifier(
        "LabramForClassification",
        module__size="small",
        module__spatial="coordinates",
        module__patch_embed="conv+spectrum",
        module__ch_names=ch_names,
        module__sfreq=200,
        optimizer=torch.optim.AdamW,
        optimizer__weight_decay=0.05,
        lr=1e-3,
        batch_size=32,
        max_epochs=10,
        train_split=None,
        verbose=0,
    )


def line_length(windows: np.ndarray) -> np.ndarray:
    """Log line length per channel, shape (n_windows, n_chans): the baseline."""
    return np.log(np.abs(np.diff(windows, axis=-1)).mean(axis=-1))


# %%
# Leaving one record out, beside the baseline and beside the same network with random weights and a linear classifier.
rows = {"LaBraM small, trained": [], "same, random weights + LR": [], "line length + LR": []}
for record in records:
    train, test = groups != record, groups == record
    classifier = new_classifier(seed=0)
    classifier.initialize()
    frozen = make_pipeline(
        EEGEmbedding(classifier.module_, ch_names=ch_names, sfreq=200), StandardScaler(), LogisticRegression()
    )
    baseline = make_pipeline(StandardScaler(), LogisticRegression())
    frozen.fit(X[train], y[train])
    rows["same, random weights + LR"].append(frozen.predict_proba(X[test])[:, 1])
    rows["line length + LR"].append(
        baseline.fit(line_length(X[train]), y[train]).predict_proba(line_length(X[test]))[:, 1]
    )
    rows["LaBraM small, trained"].append(classifier.fit(X[train], y[train]).predict_proba(X[test])[:, 1])
print("Leave one record out (one patient):   balanced accuracy   AUROC   (mean and spread over records)")
for name, probabilities in rows.items():
    accuracy = [balanced_accuracy_score(y[groups == r], p > 0.5) for r, p in zip(records, probabilities, strict=True)]
    auroc = [roc_auc_score(y[groups == r], p) for r, p in zip(records, probabilities, strict=True)]
    print(
        f"{name:36}  {np.mean(accuracy):.2f} ± {np.std(accuracy):.2f}        {np.mean(auroc):.2f} ± {np.std(auroc):.2f}"
    )

# %%
# Trained on all six, it annotates the seventh. ``raw.pipe`` gives a copy with annotations; ``annotate_events`` gives
# the scores as well, which can be thresholded again without running the model.
classifier = new_classifier(seed=0).fit(X, y)
options = {"class_names": ["background", "seizure"], "line_freq": 60}
figures = []
for kind in ("seizure_full", "preictal"):
    raw = mne.io.read_raw_edf(data / f"chb01_16_{kind}.edf", verbose="error")
    annotated = raw.pipe(labram_annotate, model=classifier, **options)
    annotations, scores = annotate_events(raw, classifier, **options)
    print(
        f"chb01_16_{kind}: {raw.times[-1]:.0f} s, mean p(seizure) {np.nanmean(scores.probabilities[1]):.2f}, "
        f"{np.sum(annotations.description == 'seizure')} seizure(s) annotated, "
        f"{annotations.duration[annotations.description == 'seizure'].sum():.0f} s in all"
    )
    for annotation in annotated.annotations:
        print("   ", annotation["onset"], annotation["duration"], annotation["description"], annotation["extras"])
    plot_scores(scores, title=f"chb01_16_{kind}")

# %%
# The seizure as MNE shows it, with its annotation.
raw = mne.io.read_raw_edf(data / "chb01_16_seizure_full.edf", verbose="error")
annotated = raw.pipe(labram_annotate, model=classifier, **options)
annotated.load_data().filter(1, 40).plot(duration=20, scalings={"eeg": 200e-6}, n_channels=23)
plt.show()
