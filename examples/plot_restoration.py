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
