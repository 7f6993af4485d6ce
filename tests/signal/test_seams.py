"""Interrupted recordings: nothing is filtered across a seam, and annotations are where their signal is."""

import mne
import numpy as np
import pytest

from mne_labram import conform
from mne_labram.signal.conform import plan_conform
from mne_labram.signal.contract import ContractError

NAMES = ["EEG Fp1-REF", "EEG Fp2-REF", "EEG F3-REF"]


def gap_onsets(n_records, *gaps):
    """Return time stamps of one-second records with (record, missing seconds) gaps."""
    onsets = np.arange(n_records, dtype=float)
    for record, missing in gaps:
        onsets[record:] += missing
    return onsets


@pytest.fixture
def gappy(write_edf):
    """Return a file of 60 s with gaps after 20 s (97 s missing) and 45 s (5.5 s missing)."""
    return write_edf(
        "gappy.edf",
        seconds=60,
        kind="EDF+D",
        onsets=gap_onsets(60, (20, 97), (45, 5.5)),
        annotations={
            3: [(3.5, 2, "before")],
            19: [(19, 110, "across"), (50, 10, "within the gap")],
            30: [(127, 3, "after"), (19.5, 0.2, "seizure")],
            50: [(50 + 102.5, 4, "last")],
        },
    )


def test_gaps_are_refused_unless_split(gappy):
    with pytest.raises(
        ContractError,
        match=r"gappy\.edf is discontinuous: 97 s are missing after 20 s of data \(the first of 2 gaps\); "
        r"pass gaps='split'",
    ):
        conform(gappy)
    raw = mne.io.read_raw(gappy, preload=True, verbose="ERROR")
    with pytest.raises(ContractError, match="97 s are missing"):
        conform(raw)
    # Before the first gap there is nothing to refuse.
    _, report = conform(raw.copy().crop(0, 19.5))
    assert report.gaps == []
    _, report = conform(raw.copy().crop(21, 44))
    assert report.gaps == []
    with pytest.raises(ContractError, match=r"5\.5 s are missing after 45 s of data; pass"):
        conform(raw.copy().crop(21, 50))


def test_split_filters_the_parts_on_their_own(gappy):
    raw = mne.io.read_raw(gappy, preload=True, verbose="ERROR")
    out, report = conform(raw, gaps="split")
    assert report.gaps == [{"onset": 20.0, "missing": 97.0}, {"onset": 45.0, "missing": 5.5}]
    assert np.flatnonzero(report.unusable).tolist() == [19, 20, 44, 45]
    assert report.reasons == {"s at a seam": 4}
    assert out.n_times == 60 * 200
    for start, stop in ((0, 20), (20, 45), (45, 60)):
        # A copy without a file behind it; the constant that is subtracted is the whole recording's.
        alone = mne.io.RawArray(raw.get_data(start=start * 100, stop=stop * 100), raw.info, verbose="ERROR")
        expected, _ = conform(alone)
        np.testing.assert_allclose(out.get_data()[:, start * 200 : stop * 200], expected.get_data(), atol=1e-9)


def test_split_moves_the_file_s_annotations(gappy):
    out, report = conform(gappy, gaps="split")
    found = {
        each["description"]: (round(each["onset"], 6), round(each["duration"], 6))
        for each in out.annotations
        if each["description"] != "BAD_gap"
    }
    assert found == {
        "before": (3.5, 2),
        "across": (19, 13),  # 1 s before the gap and 12 s after it
        "seizure": (19.5, 0.2),
        "after": (30, 3),
        "last": (50, 4),
    }
    seams = out.annotations[out.annotations.description == "BAD_gap"]
    assert seams.onset.tolist() == [20, 45]
    assert [extra["missing_seconds"] for extra in seams.extras] == [97, 5.5]
    assert any("moved to where their signal is" in note for note in report.notes)
    # MNE's reject_by_annotation leaves out what crosses a seam.
    events = mne.make_fixed_length_events(out, duration=4, start=0)
    epochs = mne.Epochs(out, events, tmin=0, tmax=3.995, baseline=None, preload=True, verbose="ERROR")
    assert len(epochs) == 15 - 1
    raw = mne.io.read_raw(gappy, preload=True, verbose="ERROR")
    raw.annotations.append(33, 1, "mine")
    raw.annotations.delete(np.flatnonzero(raw.annotations.description == "before"))
    out, _ = conform(raw, gaps="split")
    assert "before" not in out.annotations.description
    assert out.annotations.onset[out.annotations.description == "mine"] == 33


def test_bad_stretches_after_a_gap_are_where_their_signal_is(write_edf):
    annotations = {30: [(127.2, 1.5, "BAD_cough"), (52.1, 3, "bad, in the gap")]}
    fname = write_edf(seconds=60, kind="EDF+D", onsets=gap_onsets(60, (20, 97)), annotations=annotations)
    _, report = conform(fname, gaps="split")
    assert np.flatnonzero(report.unusable).tolist() == [19, 20, 30, 31]
    assert report.reasons == {"s at a seam": 2, "s annotated": 2}


def test_annotations_of_a_cropped_recording_are_left_alone(gappy):
    raw = mne.io.read_raw(gappy, preload=True, verbose="ERROR").crop(2, 50)
    out, report = conform(raw, gaps="split")
    kept = out.annotations[out.annotations.description != "BAD_gap"]
    np.testing.assert_array_equal(kept.onset, raw.annotations.onset)
    assert any("left at the time of the clock" in note for note in report.notes)
    assert report.gaps[0]["onset"] == 18.0


def test_a_clock_that_jumps_back(write_edf):
    fname = write_edf(kind="EDF+D", onsets=gap_onsets(20, (10, -4)))
    with pytest.raises(ContractError, match="clock jumps back by 4 s after 10 s of data"):
        conform(fname)
    _, report = conform(fname, gaps="split")
    assert np.flatnonzero(report.unusable).tolist() == [9, 10]


def test_contiguous_edf_d_is_taken(write_edf):
    _, report = conform(write_edf(kind="EDF+D"))
    assert report.gaps == []
    assert report.seconds_usable == 20


def test_files_joined_in_memory(write_edf):
    """Gaps are found in each of the files behind a concatenated Raw, and nothing is filtered across the join."""
    first = mne.io.read_raw(write_edf("a.edf", seconds=30), preload=False, verbose="ERROR")
    second = mne.io.read_raw(
        write_edf("b.edf", seconds=40, kind="EDF+D", onsets=gap_onsets(40, (25, 3))), preload=False, verbose="ERROR"
    )
    joined = mne.concatenate_raws([first.copy().crop(5, None), second.copy().crop(10, None)], verbose="ERROR")
    with pytest.raises(ContractError, match=r"b\.edf is discontinuous: 3 s are missing after 25 s"):
        conform(joined)
    out, report = conform(joined, gaps="split")
    assert report.gaps == [{"onset": 25.0 + 15.0, "missing": 3.0}]
    assert np.flatnonzero(report.unusable).tolist() == [24, 25, 39, 40]
    alone, _ = conform(first.copy().crop(5, None))
    np.testing.assert_allclose(out.get_data()[:, : 25 * 200], alone.get_data(), atol=1e-9)


@pytest.mark.parametrize("description", ["boundary", "New Segment/", "EDGE boundary", "edge"])
def test_joins_of_other_formats(make_raw, description):
    raw = make_raw(30)
    raw._data[:, 250 * 12 :] += 500e-6
    raw.set_annotations(mne.Annotations([0, 12.004], [0, 0], [description] * 2))
    out, report = conform(raw)
    bad = [12] if description.upper().startswith(("BOUNDARY", "NEW")) else [0, 12]
    assert np.flatnonzero(report.unusable).tolist() == bad
    assert any("joined at 1 place" in note for note in report.notes)
    plain, _ = conform(make_raw(30))
    # The step at the join does not reach into the part before it.
    np.testing.assert_allclose(out.get_data()[:, : 11 * 200].std(), plain.get_data()[:, : 11 * 200].std(), rtol=0.05)


def test_skips_of_fif_files(make_raw):
    """MNE fills the skips of an acquisition with zeros and marks them."""
    raw = make_raw(30)
    raw._data[:, 250 * 10 : 250 * 14] = 0
    raw.set_annotations(mne.Annotations([10], [4], ["BAD_ACQ_SKIP"]))
    plan = plan_conform(raw)
    assert plan.seams == [2500, 3500]
    plan.judge()
    assert np.flatnonzero(plan.report.unusable).tolist() == [9, 10, 11, 12, 13, 14]
