"""Labelled windows for fine-tuning."""

from __future__ import annotations

import mne
import numpy as np
import pytest

from mne_labram.signal.contract import ContractError
from mne_labram.training import annotated_windows


def _annotated(raw, *events):
    onsets, durations, descriptions = zip(*events, strict=True)
    return raw.set_annotations(mne.Annotations(onsets, durations, descriptions))


def test_windows_and_labels(make_raw):
    """Windows are those of the conformed recording; the class is that of the annotation that covers half of one."""
    raw = _annotated(make_raw(20), (8.0, 4.0, "seizure"), (14.0, 1.0, "spike"), (16.0, 2.0, "other"))
    before = raw.get_data()
    X, y, ch_names = annotated_windows(raw, ["seizure", "spike"], window=2, stride=1)
    assert X.shape == (19, 8, 400)
    assert X.dtype == np.float32
    assert y.dtype == np.int64
    assert 5 < X.std() < 100  # microvolts
    assert ch_names == ["FP1", "FP2", "F3", "F4", "C3", "C4", "O1", "O2"]
    # Window i lasts from i to i + 2 s; 7 and 11 are covered by half, and so are 13 and 14 by the spike.
    np.testing.assert_array_equal(np.flatnonzero(y == 1), [7, 8, 9, 10, 11])
    np.testing.assert_array_equal(np.flatnonzero(y == 2), [13, 14])
    _, strict, _ = annotated_windows(raw, "seizure", window=2, stride=1, coverage=1.0)
    np.testing.assert_array_equal(np.flatnonzero(strict), [8, 9, 10])
    np.testing.assert_array_equal(raw.get_data(), before)


def test_what_two_readers_mark_counts_once(make_raw):
    """Half a second of a two-second window is a quarter of it, however often it is annotated."""
    raw = _annotated(make_raw(20), (8.0, 0.5, "seizure"), (8.0, 0.5, "seizure"), (8.1, 0.2, "seizure"))
    assert not annotated_windows(raw, "seizure", window=2, stride=1)[1].any()
    raw = _annotated(make_raw(20), (8.0, 0.5, "seizure"), (8.25, 0.75, "seizure"))
    assert np.flatnonzero(annotated_windows(raw, "seizure", window=2, stride=1)[1]).tolist() == [7, 8]


@pytest.mark.parametrize("dated", [False, True])
def test_onsets_count_from_the_first_sample(make_raw, dated):
    """A cropped recording keeps its annotations at their signal, with and without a measurement date."""
    raw = _annotated(make_raw(20), (8.0, 4.0, "seizure"))
    raw.set_meas_date(1_000_000 if dated else None)
    _, y, _ = annotated_windows(raw.crop(5.0), "seizure", window=2, stride=1)
    np.testing.assert_array_equal(np.flatnonzero(y), [2, 3, 4, 5, 6])


def test_labels_follow_the_signal_across_a_gap(write_edf):
    """MNE leaves annotations of an EDF+D file at the time of the clock while the signal closes up."""
    onsets = [*range(10), *range(40, 50)]
    fname = write_edf(seconds=20, kind="EDF+D", onsets=onsets, annotations={13: [(43.0, 4.0, "seizure")]})
    _, y, _ = annotated_windows(fname, "seizure", window=1, stride=1, gaps="split")
    # Seconds 9 and 10 touch the seam and are left out, so window i >= 9 begins i + 2 s into the data.
    np.testing.assert_array_equal(np.flatnonzero(y) + 2, [13, 14, 15, 16])


def test_unusable_windows_are_left_out(make_raw):
    """No window is made of seconds that cannot be analysed, and none at all is an error."""
    raw = make_raw(20, edit=lambda x: x.__setitem__((slice(None), slice(1000, 1250)), np.nan))
    X, y, _ = annotated_windows(raw, "seizure", window=1, stride=1)
    assert len(X) == len(y) == 19
    assert np.isfinite(X).all()
    raw.set_annotations(mne.Annotations([0.0], [20.0], ["BAD_all"]))
    with pytest.raises(ContractError, match="No window of this recording is usable"):
        annotated_windows(raw, "seizure", window=1)


def test_arguments(make_raw):
    """What makes no sense is said before anything is read."""
    raw = make_raw(5)
    for coverage in (0, 1.5, np.nan):
        with pytest.raises(ValueError, match="coverage must lie in"):
            annotated_windows(raw, "seizure", coverage=coverage)
    with pytest.raises(ValueError, match="stride must be a positive number"):
        annotated_windows(raw, "seizure", stride=0)
    with pytest.raises(ContractError, match="at most 16"):
        annotated_windows(make_raw(20), "seizure", window=17)
    with pytest.raises(TypeError, match="continuous recording"):
        annotated_windows(mne.EpochsArray(raw.get_data()[None], raw.info, verbose="error"), "seizure")
