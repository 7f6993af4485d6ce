"""
Annotate a seizure in a recording
=================================

A small LaBraM is trained on ictal and pre-ictal ten-second excerpts of six records of one patient (CHB-MIT, chb01:
records 03, 04, 15, 18, 21, 26) and annotates two excerpts of a seventh record: ``chb01_16_seizure_full.edf``, a whole
seizure, and ``chb01_16_preictal.edf``, ten seconds that begin a minute before it.

The recordings are bipolar, 23 channels at 256 Hz. LaBraM's official table has rows for only eight of them; the small
model computes its spatial embedding from the positions of both electrodes of a channel and takes all.

One patient and 2 minutes of training: this shows how it is done. It says nothing about other patients, and CHB-MIT's
excerpts are nearly decided by amplitude, which is why a line-length baseline stands beside the model.
"""

# %%
# mne_labram comes first, so that Braindecode imports beside a torchaudio that does not load. The recordings are not
# part of the project; say where they are with ``MNE_LABRAM_SHARED``.
from mne_labram import EEGEmbedding, LabramForClassification, SignalContract, annotate_events, check, labram_annotate  # isort: skip  # noqa: E501

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

from mne_labram.decoding.page import plot_scores
from mne_labram.signal.events import EventParameters, SecondAccumulator, events_from_scores
from mne_labram.training import annotated_windows

mne.set_log_level("error")
shared = Path(os.environ.get("MNE_LABRAM_SHARED", "../shared" if Path("mne_labram").is_dir() else "../../shared"))
data = shared / "data" / "chbmit"
if not data.is_dir():
    raise SystemExit(f"{data} is absent: set MNE_LABRAM_SHARED to the folder that holds data/chbmit.")

# %%
# What would a model get from such a file? ``check`` says so without running one. Seizures show between 0.5 and 25 Hz
# (Shoeb & Guttag 2010 use that band on these recordings); what is above is mostly muscle.
contract = SignalContract(name="seizures", l_freq=0.5, h_freq=25.0, vocabulary=None)
report = check(data / "chb01_16_seizure_full.edf", contract, line_freq=60)


# %%
# Windows of 2 s every half second, in microvolts, filtered and resampled as the model wants them. Short windows keep an
# artefact of some seconds from looking like a long event.
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
            excerpt(record, kind), "seizure", contract, window=2, stride=0.5, line_freq=60
        )
        X.append(windows)
        y.append(labels)
        groups += [record] * len(labels)
X, y, groups = np.concatenate(X), np.concatenate(y), np.array(groups)
print(f"{len(y)} windows, {y.sum()} of them ictal, {len(ch_names)} channels")


# %%
# The model, and Braindecode's classifier around it.
architecture = {
    "size": "small",
    "spatial": "coordinates",
    "patch_embed": "conv+spectrum",
    "ch_names": ch_names,
    "sfreq": 200,
    "contract": contract.to_dict(),
}


def new_classifier(seed: int) -> EEGClassifier:
    """Make a classifier whose initial weights follow from the seed."""
    torch.manual_seed(seed)
    return EEGClassifier(
        "LabramForClassification",
        **{f"module__{name}": value for name, value in architecture.items()},
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
    untrained = LabramForClassification(n_outputs=2, n_times=400, **architecture)
    frozen = make_pipeline(
        EEGEmbedding(untrained, ch_names=ch_names, sfreq=200), StandardScaler(), LogisticRegression()
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
# Trained on all six records, it annotates the seventh, which no training saw. Seizures last: an event begins at 0.8,
# ends below 0.5 and is dropped if it is shorter than 10 s. ``annotate_events`` gives the annotations and the scores,
# which can be thresholded again without running the model. Three seeds, since one network is one draw; the baseline
# goes through the same rules.
options = {
    "class_names": ["background", "seizure"],
    "threshold": 0.8,
    "release": 0.5,
    "smoothing": 3.0,
    "min_duration": 10.0,
    "stride": 0.5,
    "line_freq": 60,
}
baseline = make_pipeline(StandardScaler(), LogisticRegression()).fit(line_length(X), y)
rules = EventParameters(threshold=0.8, release=0.5, smoothing=3.0, merge_gap=10.0, min_duration=10.0)
for kind in ("seizure_full", "preictal"):
    raw = mne.io.read_raw_edf(data / f"chb01_16_{kind}.edf", verbose="error")
    for seed in range(3):
        classifier = new_classifier(seed).fit(X, y)
        annotations, scores = annotate_events(raw, classifier, **options)
        durations = annotations.duration[annotations.description == "seizure"]
        print(
            f"chb01_16_{kind:12} {raw.times[-1]:3.0f} s  LaBraM small, seed {seed}: mean p(seizure) "
            f"{np.nanmean(scores.probabilities[1]):.2f}, {len(durations)} seizure(s), {durations.sum():.0f} s"
        )
        if seed == 0:
            plot_scores(scores, title=f"chb01_16_{kind}")
    windows, _, _ = annotated_windows(raw, "seizure", contract, window=2, stride=0.5, line_freq=60)
    # Every second of these excerpts is usable, so no window was left out and they begin every half second.
    seconds = SecondAccumulator(int(np.ceil(raw.times[-1])), 1)
    seconds.add(0.5 * np.arange(len(windows)), 2.0, baseline.predict_proba(line_length(windows))[:, 1:])
    events = events_from_scores(seconds.average()[0], rules)
    print(
        f"chb01_16_{kind:12} {raw.times[-1]:3.0f} s  line length + LR:     mean p(seizure) "
        f"{seconds.average().mean():.2f}, {len(events)} seizure(s), {sum(b - a for a, b, _ in events):.0f} s"
    )

# %%
# ``raw.pipe`` gives a copy of the recording with the annotations, ready to be looked at. The first is the file's own.
raw = mne.io.read_raw_edf(data / "chb01_16_seizure_full.edf", verbose="error")
annotated = raw.pipe(labram_annotate, model=classifier, **options)
for annotation in annotated.annotations:
    print(annotation["onset"], annotation["duration"], annotation["description"], annotation["extras"])
annotated.load_data().filter(1, 40).plot(duration=20, scalings={"eeg": 200e-6}, n_channels=23)
plt.show()
