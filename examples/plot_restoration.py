"""
Restoring a channel
===================

An electrode pops, another one carries muscle for a second. This example spoils two channels of a recording, restores
them from the others with :func:`mne_labram.gram_restore`, and compares with what had been there.

It needs no file: where ``eegmat`` (PhysioNet) is at hand, the recording is a minute of rest; otherwise it is made up.
"""

# %%
# A minute of rest, and what goes wrong with it.
import os
from pathlib import Path

import mne
import numpy as np

import mne_labram
from mne_labram.benchmark.synthetic import simulate_recording
from mne_labram.signal.artefacts import simulate_artefact

mne.set_log_level("warning")
shared = Path(os.environ.get("MNE_LABRAM_SHARED", "../shared" if Path("mne_labram").is_dir() else "../../shared"))
file = shared / "data" / "eegmat" / "Subject21_1.edf"
if file.is_file():
    raw = mne.io.read_raw_edf(file)
    raw.pick([name for name in raw.ch_names if name.startswith("EEG") and "A2" not in name]).crop(0, 60)
    raw.rename_channels(lambda name: name.removeprefix("EEG "))
else:
    raw = simulate_recording(60.0, seizures=())
raw.load_data()

rng = np.random.default_rng(0)
sfreq = raw.info["sfreq"]
spoilt = raw.copy()
mishaps = [("F3", 20.0, 3.0, "electrode_pop", 80.0), ("P4", 21.5, 1.0, "muscle", 30.0)]
for name, onset, duration, kind, microvolts in mishaps:
    start, n_times = int(onset * sfreq), int(duration * sfreq)
    artefact = simulate_artefact([name], n_times, sfreq, rng, kind=kind)[0]
    spoilt[name, start : start + n_times] = spoilt[name, start : start + n_times][0] + 1e-6 * microvolts * artefact
    spoilt.annotations.append(onset, duration, f"BAD_{kind}", ch_names=[(name,)])

# %%
# Restored. The annotations say when, and in which channels. ``"ridge"`` learns from the rest of the minute how these
# channels go with the others, in each frequency band.
restored, report = mne_labram.gram_restore(spoilt, segments="bad annotations", method="ridge", return_report=True)
print(report)
print(restored.annotations.to_data_frame(time_format=None)[["onset", "duration", "description", "ch_names"]])

# %%
# Before and after. The truth is expected in the band nineteen times of twenty.
mne_labram.plot_restoration(spoilt, restored, report)

# %%
# What had been there is known here: the squared error, over the power of the channel, both in the reference of the mean
# of the channels that were visible. Splines know where electrodes are, and nothing of the recording: they have several
# times as much.
visible = raw.copy().pick([name for name in raw.ch_names if name not in ("F3", "P4")]).get_data().mean(axis=0)
for method in ("spline", "ridge"):
    guess = mne_labram.gram_restore(spoilt, segments="bad annotations", method=method)
    for segment in report.segments:
        part = slice(int(segment.onset * sfreq), int((segment.onset + segment.duration) * sfreq))
        truth = raw.get_data(segment.ch_name)[0, part] - visible[part]
        error = guess.get_data(segment.ch_name)[0, part] - visible[part] - truth
        print(f"{method:6} {segment.ch_name}: {np.sum(error**2) / np.sum(truth**2):.2f}")

# %%
# And nothing else has changed.
changed = (restored.get_data() != spoilt.get_data()).sum(axis=1)
print({name: int(n) for name, n in zip(raw.ch_names, changed, strict=True) if n})

# %%
# In a pipeline. :class:`mne_labram.EEGRestorer` calibrates on training epochs and restores those of the test as well,
# so that none has to be dropped: rest against mental arithmetic in one subject, by LaBraM's embeddings. F3 pops in
# every third epoch; the folds are stretches of time. One channel of nineteen does not mislead the classifier here.
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, cross_val_score
from sklearn.pipeline import make_pipeline

from mne_labram import EEGEmbedding, EEGRestorer


def with_pops(path: Path) -> mne.io.BaseRaw:
    """Read a minute, with a pop of 300 microvolts in F3 every 12 s."""
    raw = mne.io.read_raw_edf(path, preload=True)
    raw.pick([name for name in raw.ch_names if name.startswith("EEG") and "A2" not in name])
    raw.crop(0, 60, include_tmax=False).rename_channels(lambda name: name.removeprefix("EEG "))
    for onset in range(0, 60, 12):
        start, n_times = int(onset * raw.info["sfreq"]), int(4 * raw.info["sfreq"])
        pop = simulate_artefact(["F3"], n_times, raw.info["sfreq"], rng, kind="electrode_pop")[0]
        raw["F3", start : start + n_times] = raw["F3", start : start + n_times][0] + 3e-4 * pop
        raw.annotations.append(onset, 4.0, "BAD_pop", ch_names=[("F3",)])
    return raw


if file.is_file():
    both = mne.concatenate_raws([with_pops(file), with_pops(file.with_name("Subject21_2.edf"))])
    events = mne.make_fixed_length_events(both, duration=4.0)
    tmax = 4.0 - 1 / both.info["sfreq"]
    epochs = mne.Epochs(both, events, tmin=0, tmax=tmax, baseline=None, preload=True, reject_by_annotation=False)
    arithmetic = np.repeat([0, 1], len(epochs) // 2)
    # Rest and arithmetic in turns, so that each fold is a stretch of both.
    order = np.argsort(np.arange(len(epochs)) % (len(epochs) // 2), kind="stable")
    epochs, arithmetic = epochs[order], arithmetic[order]
    for name, first in (("spoilt", []), ("restored", [EEGRestorer("ridge", segments="bad annotations")])):
        pipeline = make_pipeline(*first, EEGEmbedding("labram-tiny"), LogisticRegression(max_iter=1000))
        scores = cross_val_score(pipeline, epochs, arithmetic, cv=KFold(5))
        print(f"{name}: {scores.mean():.2f} of {len(epochs)} epochs right")
    restored = EEGRestorer("ridge", segments="bad annotations").fit(epochs[:20]).transform(epochs[20:])
    changed = (restored.get_data() != epochs[20:].get_data()).any(axis=2)
    print(
        "restored in the test:",
        {name: int(n) for name, n in zip(epochs.ch_names, changed.sum(axis=0), strict=True) if n},
    )
