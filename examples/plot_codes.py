"""
A recording as codes, and as a small file
=========================================

A neural codec turns each channel of EEG into a few integers per frame, which are tokens for sequence models. A
compressed file holds more: the finer numbers behind them, or those of a transform. This example looks at the codes of
``braincodec-tiny`` over time, and then at a recording that was compressed at three bitrates. What was measured of both
is on the card (:doc:`/weights/braincodec-tiny`).

It needs no file: where ``eegmat`` (PhysioNet) is at hand, the recording is of a subject that the weights were not
trained on, and otherwise it is made up.
"""

# %%
# A minute of rest.
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import mne
import numpy as np

import mne_labram
from mne_labram.benchmark.synthetic import simulate_recording
from mne_labram.decoding.code_figure import plot_codes

mne.set_log_level("warning")
shared = Path(os.environ.get("MNE_LABRAM_SHARED", "../shared" if Path("mne_labram").is_dir() else "../../shared"))
file = shared / "data" / "eegmat" / "Subject21_1.edf"
if file.is_file():
    raw = mne.io.read_raw_edf(file)
    raw.pick([name for name in raw.ch_names if name.startswith("EEG") and "A2" not in name]).crop(0, 60)
    raw.rename_channels(lambda name: name.removeprefix("EEG "))
else:
    raw = simulate_recording(60.0, seizures=())

# %%
# Codes: one for each channel, frame and stage. The first stage is the coarsest; each further one says what those before
# it left over, so that any number of them, from the first on, can be decoded.
tokenizer = mne_labram.EEGTokenizer("braincodec-tiny")
flat = tokenizer.fit_transform(raw)
codec = tokenizer.module_
codes = flat.reshape(len(flat), len(tokenizer.ch_names_), -1, codec.n_codebooks)
print("windows, channels, frames, stages:", codes.shape)
print(f"{codec.n_codes} codes in a stage, {codec.sfreq / codec.stride:g} frames a second")

# %%
# Ten seconds of them. The darker, the more frequent: what stands out is rare. Neighbouring electrodes see much the
# same, and yet rarely have the same code, which is why a file that knows of all channels together can be smaller.
frames = round(10 * codec.sfreq / codec.stride)
joined = codes.transpose(1, 0, 2, 3).reshape(codes.shape[1], -1, codes.shape[3])
figure = plot_codes(
    joined[:, :frames],
    n_codes=codec.n_codes,
    seconds=frames * codec.stride / codec.sfreq,
    ch_names=tokenizer.ch_names_,
    stages=2,
)

# %%
# How evenly codes are used over the whole minute, stage by stage.
for stage in range(codec.n_codebooks):
    shares = np.bincount(joined[:, :, stage].ravel(), minlength=codec.n_codes) / joined[:, :, stage].size
    entropy = -(shares[shares > 0] * np.log2(shares[shares > 0])).sum()
    print(f"stage {stage + 1}: {(shares > 0).sum()} codes used, {entropy:.2f} of {np.log2(codec.n_codes):g} bits each")

# %%
# Compressed and back. The default mode is not the neural codec alone, but what takes the fewest bits for the same
# error; ``mode="lossless"`` gives every sample back exactly.
decoded = {}
with tempfile.TemporaryDirectory() as folder:
    for bitrate in (64, 128, 256):
        report = mne_labram.braincodec_compress(raw, Path(folder) / f"{bitrate}.bcz", bitrate=bitrate)
        print(f"\n{report}")
        back = mne_labram.braincodec_decompress(Path(folder) / f"{bitrate}.bcz")
        decoded[bitrate] = back.get_data(units="uV")

# %%
# Four seconds of one channel, before and after.
pick = raw.ch_names.index("O1")
original = raw.get_data(picks=[pick], units="uV")[0]
times = raw.times
shown = (times >= 20) & (times < 24)
fig, axes = plt.subplots(len(decoded), 1, figsize=(11, 7), sharex=True, sharey=True, layout="constrained")
for ax, (bitrate, x) in zip(axes, decoded.items(), strict=True):
    ax.plot(times[shown], original[shown], color="0.6", linewidth=2.0, label="original")
    ax.plot(times[shown], x[pick, shown], color="C3", linewidth=1.0, label=f"{bitrate} bit/s/channel")
    ax.legend(loc="upper right", frameon=False, ncols=2)
    ax.set_ylabel("O1 (µV)")
    ax.spines[["top", "right"]].set_visible(False)
axes[-1].set_xlabel("time (s)")

# %%
# And as spectra: what is given up first is what is weak.
fig, ax = plt.subplots(figsize=(11, 4), layout="constrained")
for label, x in {"original": raw.get_data(units="uV"), **decoded}.items():
    power, frequencies = mne.time_frequency.psd_array_welch(
        x, raw.info["sfreq"], fmin=0.5, fmax=70, n_fft=2048, verbose="error"
    )
    name = label if label == "original" else f"{label} bit/s/channel"
    ax.semilogy(frequencies, np.median(power, axis=0), label=name, color="k" if label == "original" else None)
ax.set(xlabel="Hz", ylabel="µV²/Hz, median over channels", xlim=(0.5, 70))
ax.legend(frameon=False)
plt.show()
