"""
Seizures that are made up
=========================

The recordings that come with this project hold the seizures of one patient. A detector that is trained on them alone
learns that patient. So it is also shown seizures that were drawn at random, mixed into real seizure-free background:
rhythmic discharges that evolve in frequency, shape and place, which is what the ACNS calls a seizure; and, unlabelled,
what must not be called one.

This example draws some of both and looks at them. It needs no file: where ``eegmat`` (PhysioNet) is at hand, a piece of
it is the background, and otherwise a made-up one.
"""

# %%
# Background first: ten-twenty electrodes against their average, in microvolts, and the same as a double banana. The
# same seizure is going to be seen through both.
import os
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import mne
import numpy as np
from scipy.signal import spectrogram

from mne_labram.benchmark.synthetic import TEN_TWENTY, simulate_recording
from mne_labram.seizure.patterns import SEIZURE_KINDS, draw_pattern
from mne_labram.seizure.simulation import add_seizure, simulate_seizure
from mne_labram.signal.artefacts import ARTEFACT_KINDS, simulate_artefact
from mne_labram.signal.vocabulary import DOUBLE_BANANA

mne.set_log_level("error")
shared = Path(os.environ.get("MNE_LABRAM_SHARED", "../shared" if Path("mne_labram").is_dir() else "../../shared"))
file = shared / "data" / "eegmat" / "Subject05_1.edf"
if file.is_file():
    raw = mne.io.read_raw_edf(file, preload=True)
    raw.rename_channels(lambda name: name.removeprefix("EEG "))
    raw.rename_channels({"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}).pick(list(TEN_TWENTY))
else:
    raw = simulate_recording(60.0, seizures=())
raw.crop(0, 50).set_eeg_reference("average").filter(0.5, 70).resample(200)
ch_names = [name.upper() for name in raw.ch_names]
background = raw.get_data() * 1e6
sfreq = raw.info["sfreq"]
rows = {name: row for row, name in enumerate(ch_names)}


def banana(x: np.ndarray) -> np.ndarray:
    """Take referential channels to the double banana."""
    return np.stack([x[rows[a]] - x[rows[b]] for a, b in (name.split("-") for name in DOUBLE_BANANA)])


def traces(ax, x: np.ndarray, names, title: str, height: float) -> None:
    """Draw channels one above the other."""
    ax.plot(np.arange(x.shape[1]) / sfreq, x.T / height - np.arange(len(x)), color="k", linewidth=0.4)
    ax.set(title=title, xlim=(0, x.shape[1] / sfreq), ylim=(-len(x), 1), xlabel="time (s)")
    ax.set_yticks(-np.arange(len(x)), names, fontsize=7)


# %%
# A pattern is a handful of numbers: how fast, how sharp, how large at which part of the seizure, where it begins and
# how it spreads.
rng = np.random.default_rng(11)
pattern = replace(draw_pattern(rng, kind="focal_rhythmic"), duration=32.0)
print(pattern)

# %%
# Mixed into the background, in the referential recording and in the double banana. The bipolar seizure is exactly the
# difference of the referential one.
options = {"snr_db": 6.0, "muscle": 0.0, "pattern": pattern, "onset": 10.0}
mixed, labels = add_seizure(background, ch_names, sfreq, rng, **options)
fig, axes = plt.subplots(1, 2, figsize=(15, 7), layout="constrained")
traces(axes[0], mixed, ch_names, "referential, average reference", 120)
traces(axes[1], banana(mixed), DOUBLE_BANANA, "double banana", 120)
for ax in axes:
    ax.axvspan(10, 10 + labels.sum() / sfreq, color="tab:orange", alpha=0.15)

unscaled = {"pattern": pattern, "onset": 10.0, "normalize": False}
referential, _ = simulate_seizure(ch_names, 4000, sfreq, rng, **unscaled)
bipolar, _ = simulate_seizure(DOUBLE_BANANA, 4000, sfreq, rng, **unscaled)
print(f"largest difference between the montages: {np.abs(banana(referential) - bipolar).max():.1e}")

# %%
# The kinds, each without background, in the channel where it is largest, and as a spectrogram: the rhythm slows down
# while it grows.
fig, axes = plt.subplots(len(SEIZURE_KINDS), 2, figsize=(14, 13), layout="constrained")
for (left, right), kind in zip(axes, SEIZURE_KINDS, strict=True):
    pattern = replace(draw_pattern(rng, kind=kind), duration=30.0)
    signal, _ = simulate_seizure(DOUBLE_BANANA, int(30 * sfreq), sfreq, rng, pattern=pattern, onset=0.0)
    largest = int(np.argmax(signal.std(axis=1)))
    left.plot(np.arange(signal.shape[1]) / sfreq, signal[largest], color="k", linewidth=0.5)
    left.set(title=f"{kind}, {DOUBLE_BANANA[largest]}", xlim=(0, 30))
    frequencies, times, power = spectrogram(signal[largest], sfreq, nperseg=400, noverlap=350)
    shown = frequencies <= 30
    right.pcolormesh(times, frequencies[shown], 10 * np.log10(power[shown] + 1e-5), vmin=-35, vmax=5)
    right.set(ylabel="Hz", xlim=(0, 30))
    left.label_outer()
    if kind != list(SEIZURE_KINDS)[-1]:
        right.tick_params(labelbottom=False)
axes[-1, 0].set_xlabel("time (s)")
axes[-1, 1].set_xlabel("time (s)")

# %%
# What must not be called a seizure. Some of it is rhythmic (tremor, flutter of the eyelids, photic driving), some is
# large (movement, chewing), some is sharp (vertex waves, electrodes that pop); none of it evolves like a seizure.
fig, axes = plt.subplots(4, 4, figsize=(16, 15), layout="constrained")
for ax, kind in zip(axes.ravel(), ARTEFACT_KINDS, strict=True):
    signal = simulate_artefact(DOUBLE_BANANA, int(10 * sfreq), sfreq, rng, kind=kind)
    traces(ax, signal, DOUBLE_BANANA if ax in axes[:, 0] else [""] * len(DOUBLE_BANANA), kind.replace("_", " "), 5)
    ax.label_outer()
plt.show()
