"""
Where an evoked response comes from
===================================

Something flashes in the left half of what a person sees, and a tenth of a second later the right occipital cortex
answers. This example finds it from 60 electrodes, without an MRI, by :class:`mne_labram.BrainForgeInverse`, and beside
it by MNE's eLORETA.

It needs no network. Where MNE's sample subject is at hand, the average is real; otherwise it is made up.
"""

# %%
# An average of six flashes, and the covariance of the noise in single trials.
import os
from pathlib import Path

import matplotlib.pyplot as plt
import mne
import numpy as np

import mne_labram
from mne_labram import BrainForgeInverse, plot_sources
from mne_labram.source import default_forward, source_model, warped_cortex

mne.set_log_level("warning")
shared = Path(os.environ.get("MNE_LABRAM_SHARED", "../shared" if Path("mne_labram").is_dir() else "../../shared"))
sample = shared / "data" / "mne_sample_evoked"
if sample.is_dir():
    evoked = mne.read_evokeds(sample / "test-ave.fif.gz", condition="Left visual", baseline=(None, 0))
    noise_cov = mne.read_cov(sample / "test-cov.fif")
    evoked.pick("eeg")
else:
    names = mne.channels.make_standard_montage("biosemi64").ch_names
    info = mne.create_info(names, 250.0, "eeg")
    head = source_model(default_forward(info))
    # Half a centimetre of cortex at the back on the right, a wave of 50 nAm after 150 ms.
    centre = int(np.linalg.norm(head.positions - [0.03, -0.075, 0.06], axis=1).argmin())
    active = np.append(head.neighbours[[centre]].indices, centre)
    wave = 50 * np.exp(-(((np.arange(175) / 250 - 0.35) / 0.02) ** 2))
    x = head.averaged[:, active].mean(axis=1, keepdims=True) * wave
    x += np.random.default_rng(0).standard_normal(x.shape)
    evoked = mne.EvokedArray(1e-6 * x, info, tmin=-0.2, comment="made up", nave=6)
    noise_cov = mne.Covariance(np.full(64, 6e-12), names, [], [], 1000)
    evoked.set_montage("colin27_1005").set_eeg_reference(projection=True)

# %%
# A head. There is no MRI here, so it is the template's, with these electrodes on it: 1284 sources, each along the
# normal of its piece of cortex. :ref:`Where there is one <source-head>`, give MNE's forward of the subject instead.
fwd = default_forward(evoked.info)
print(fwd)

# %%
# The sources. Any reference would do, and bad channels are left out. What comes back is MNE's ``SourceEstimate``, in
# ampere metres, with everything that MNE does with one.
inverse = BrainForgeInverse(fwd, noise_cov=noise_cov)
stc = inverse.apply(evoked)
print(stc)
print(inverse.where(stc.copy().crop(0.1, 0.2)))

# %%
# On paper. Beside what was recorded is what these sources make at the electrodes, in the same scale: what is left over
# is noise, or was not found.
peak = stc.times[np.abs(stc.copy().crop(0.1, 0.2).data).max(axis=0).argmax() + np.searchsorted(stc.times, 0.1 - 1e-6)]
plot_sources(stc, fwd, peak, evoked=evoked, title=f"BrainForge, {1e3 * peak:.0f} ms")

# %%
# The same by eLORETA, which wants the average reference as a projection, and is told how strong signals are against
# noise; 3 is MNE's default.
operator = mne.minimum_norm.make_inverse_operator(evoked.info, fwd, noise_cov, fixed=True, depth=None)
eloreta = mne.minimum_norm.apply_inverse(evoked, operator, lambda2=1 / 9, method="eLORETA")
plot_sources(eloreta, fwd, peak, evoked=evoked, title=f"eLORETA, {1e3 * peak:.0f} ms")


# %%
# In numbers, between 100 and 200 ms: how far the energy is from where it is largest (root mean square), and how much of
# it is in the right hemisphere. One average proves nothing; :doc:`the guide </source_imaging>` has what was measured.
def describe(found: mne.SourceEstimate, head: mne.Forward) -> str:
    """Say how wide, and on which side."""
    positions = 1e3 * source_model(head).positions
    energy = np.square(found.copy().crop(0.1, 0.2).data).sum(axis=1)
    squared = np.square(positions - positions[energy.argmax()]).sum(axis=1)
    right = energy[len(found.vertices[0]) :].sum() / energy.sum()
    return f"{np.sqrt(energy @ squared / energy.sum()):.0f} mm wide, {right:.0%} on the right"


for name, found in (("BrainForge", stc), ("eLORETA", eloreta)):
    print(f"{name}: {describe(found, fwd)}")

# %%
# When: the strongest source of either.
fig, ax = plt.subplots(figsize=(7, 3), layout="constrained")
for name, found in (("BrainForge", stc), ("eLORETA", eloreta)):
    row = int(np.abs(found.copy().crop(0.1, 0.2).data).max(axis=1).argmax())
    largest = np.abs(found.data[row]).max()
    ax.plot(1e3 * found.times, found.data[row] / largest, label=f"{name} ({1e9 * largest:.2g} nAm)")
ax.set(xlabel="ms", ylabel="moment, of its largest")
ax.axvline(0, color="0.7", lw=1)
ax.legend(frameon=False)

# %%
# A subject with a head of its own: a boundary element model and the transform to it, but no cortex that was segmented.
# The template's is fitted into this inner skull; the same weights work on it, and ``inverse.fit(steps=300)`` would
# adjust them in minutes.
if sample.is_dir():
    bem = mne.read_bem_solution(sample / "sample-320-320-320-bem-sol.fif")
    trans = mne.read_trans(sample / "sample_audvis_trunc-trans.fif")
    own = mne.make_forward_solution(evoked.info, trans, warped_cortex(bem, trans), bem, meg=False)
    stc = BrainForgeInverse(own, noise_cov=noise_cov).apply(evoked)
    print(f"BrainForge, own skull: {describe(stc, own)}")
    plot_sources(stc, own, peak, evoked=evoked, title="BrainForge, own skull")

# %%
# A recording of any length, in pieces, so that memory does not grow. Nineteen electrodes under the names of their file,
# an ear and an ECG among them, which are left out; ten seconds of rest at 500 Hz, eyes closed, and how much of the
# energy is in the back third of the head.
file = shared / "data" / "eegmat" / "Subject20_1.edf"
if file.is_file():
    raw = mne.io.read_raw_edf(file)
    pieces = raw.pipe(mne_labram.brainforge_localize, start=20, stop=30, return_generator=True)
    energy = sum(np.square(piece.data).sum(axis=1) for piece in pieces)
    front_to_back = source_model(default_forward(raw.info)).positions[:, 1]
    back = front_to_back < np.quantile(front_to_back, 1 / 3)
    print(f"{energy[back].sum() / energy.sum():.0%} of the energy in the back third")
