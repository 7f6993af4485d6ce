"""
From a recording to reviewed, scored seizures
=============================================

Find seizures, look at them, move the threshold, and score what was found, in a recording that is made up: ten minutes,
three events. It was made by another generator than the seizures that ``neurostorm-tiny`` was trained with, but it is no
patient's. What the detector does on recordings is on its card (:doc:`/weights/neurostorm-tiny`).
"""

# %%
# A recording of 19 channels with an occipital rhythm, blinks and chewing. It could be a path: recordings are read block
# by block, and a day takes no more memory than an hour.
import mne

import mne_labram
from mne_labram.benchmark.synthetic import simulate_recording
from mne_labram.seizure.events import EventTable
from mne_labram.seizure.figures import plot_detection, plot_event
from mne_labram.seizure.readers import events_from_annotations
from mne_labram.seizure.scoring import score_tables

mne.set_log_level("warning")
raw = simulate_recording(600.0)
truth = events_from_annotations(raw)
_ = raw.set_annotations(None)

# %%
# One call. The threshold is that of the weights; what was measured at it, and on how little, goes with it.
found = mne_labram.detect_seizures(raw)
print(found)
print(found.to_frame())
point, seen = found.operating_point, found.measured_on
print(f"{point['fp_per_day']:.1f} false alarms a day and {point['sensitivity']:.0%} of {seen['n_seizures']} seizures")
print(f"on {seen['hours']:.1f} h of recordings")

# %%
# The whole recording: probability of a seizure, the threshold, the events.
figure = plot_detection(found)

# %%
# One of them as it is read in a clinic, thirty seconds in double banana. ``found.report("night.html")`` makes a page of
# all this, and of what was not analysed.
figure = plot_event(found, 0)

# %%
# Another threshold needs no model. Confidence is the mean probability within an event.
for threshold in (0.5, 0.7, 0.8, 0.9, 0.95):
    table = found.rethreshold(threshold).table
    print(threshold, [(event.onset, event.duration, event.confidence) for event in table.events])

# %%
# Scores by SzCORE's rules, here of one recording; ``mne_labram.score`` does it for two folders.
reference = EventTable(truth.events, found.duration)
print(score_tables([reference], [found.table], ["made-up"]))

# %%
# Back to MNE: annotations that say how sure the detector is, in their place in the recording.
annotated = raw.pipe(mne_labram.labram_annotate)
for annotation in annotated.annotations:
    print(f"{annotation['onset']:6.1f} s  {annotation['duration']:5.1f} s  {annotation['description']}")
