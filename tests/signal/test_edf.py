"""EDF and BDF headers, gaps and annotations, against hand-made files and against MNE."""

import mne
import numpy as np
import pytest

from mne_labram.signal.contract import ContractError
from mne_labram.signal.edf import find_gaps, read_edf_annotations, read_edf_header, record_onsets


@pytest.mark.parametrize("kind", ["EDF", "EDF+C", "EDF+D", "BDF", "BDF+D"])
def test_header_says_what_mne_says(write_edf, kind, make_eeg):
    x = make_eeg(3, 1000, 100)
    fname = write_edf(f"a.{kind[:3].lower()}", signals=list(x), kind=kind)
    header = read_edf_header(fname)
    raw = mne.io.read_raw(fname, verbose="ERROR")
    assert header.kind == kind
    assert header.discontinuous == kind.endswith("+D")
    assert list(header.labels[:3]) == raw.ch_names
    assert header.n_records == header.n_records_declared == 10
    assert header.truncation is None
    assert header.n_samples[0] / header.record_seconds == raw.info["sfreq"]
    quantum = 1000 / (2 ** (24 if kind.startswith("BDF") else 16) - 1)
    np.testing.assert_allclose(raw.get_data(units="uV"), x, atol=quantum)
    np.testing.assert_allclose(header.limits_in_volts(0), (-500e-6, 500e-6, quantum * 1e-6))


def test_duplicate_labels_are_found_under_mne_s_numbers(write_edf):
    fname = write_edf(labels=["T8-P8", "C3-P3", "T8-P8"])
    header = read_edf_header(fname)
    with pytest.warns(RuntimeWarning, match="not unique"):
        names = mne.io.read_raw(fname, verbose="WARNING").ch_names
    assert names == ["T8-P8-0", "C3-P3", "T8-P8-1"]
    assert [header.signal_index(name) for name in names] == [0, 1, 2]
    assert header.signal_index("C3-P3-0") is None
    assert header.signal_index("P3") is None


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"cut_bytes": 2500}, "declares 20 data records and 15 are there"),
        ({"declared": -1}, "not closed"),
        ({"declared": 500}, "declares 500 data records and 20 are there"),
        ({"declared": 19, "cut_bytes": 10}, "ends within a data record"),
    ],
)
def test_truncated(write_edf, kwargs, words):
    header = read_edf_header(write_edf(n_chans=3, **kwargs))
    assert words in header.truncation


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"",
        lambda data: data[:100],
        lambda data: data[:400],
        lambda data: b"RIFF" + data[4:],
        lambda data: data[:252] + b"9999" + data[256:],
        lambda data: data[:252] + b"abcd" + data[256:],
        lambda data: data[:184] + b"77777777" + data[192:],
        lambda data: data[:244] + b"nan     " + data[252:],
    ],
)
def test_damaged_header_is_one_sentence(write_edf, spoil):
    fname = write_edf()
    fname.write_bytes(spoil(fname.read_bytes()))
    with pytest.raises(ContractError, match=r"^[^\n]*made\.edf[^\n]*\.$"):
        read_edf_header(fname)


def test_contiguous_edf_d_has_no_gap(write_edf):
    header = read_edf_header(write_edf(kind="EDF+D"))
    assert find_gaps(header) == []
    np.testing.assert_array_equal(record_onsets(header), np.arange(20))


@pytest.mark.parametrize("first", [0.0, 0.25])
@pytest.mark.parametrize("kind", ["EDF+D", "BDF+D"])
def test_gaps(write_edf, kind, first):
    onsets = np.arange(20) + first
    onsets[7:] += 97
    onsets[15:] += 0.5
    header = read_edf_header(write_edf(f"gaps.{kind[:3].lower()}", kind=kind, onsets=onsets))
    gaps = find_gaps(header)
    assert [gap.onset for gap in gaps] == [7, 15]
    np.testing.assert_allclose([gap.missing for gap in gaps], [97, 0.5])


def test_gaps_of_a_continuous_file_are_not_looked_for(write_edf):
    onsets = np.arange(20) * 3.0
    assert find_gaps(read_edf_header(write_edf(kind="EDF+C", onsets=onsets))) == []
    assert record_onsets(read_edf_header(write_edf("plain.edf"))) is None


def test_illegible_time_stamps_are_refused(write_edf):
    fname = write_edf(kind="EDF+D", onsets=np.arange(20.0))
    fname.write_bytes(fname.read_bytes().replace(b"+13\x14\x14", b"+1x\x14\x14"))
    with pytest.raises(ContractError, match="no legible time stamps"):
        find_gaps(read_edf_header(fname))


@pytest.mark.parametrize("kind", ["EDF+C", "BDF+C"])
def test_annotations_are_mne_s(write_edf, kind):
    told = {2: [(2.5, 1.5, "spike")], 4: [(4.25, 0, "näher"), (4.75, 3, "arousal")], 5: [(5.5, 0, "eye@@EEG Fp1-REF")]}
    fname = write_edf(f"a.{kind[:3].lower()}", kind=kind, annotations=told, onsets=np.arange(20) + 0.25)
    raw = mne.io.read_raw(fname, verbose="ERROR")
    found = read_edf_annotations(read_edf_header(fname))
    assert len(found) == len(raw.annotations) == 4
    for (onset, duration, text), theirs in zip(found, raw.annotations, strict=True):
        assert onset == pytest.approx(theirs["onset"])
        assert duration == theirs["duration"]
        assert text == theirs["description"]


def test_real_headers(shared_data):
    """The unit, rate and length of every real EDF and BDF file agree with MNE."""
    files = sorted(shared_data.rglob("*.edf"))[::7] + sorted(shared_data.rglob("*.bdf"))
    assert len(files) > 8
    for fname in files:
        header = read_edf_header(fname)
        raw = mne.io.read_raw(fname, verbose="ERROR")
        most = max(n for n, label in zip(header.n_samples, header.labels, strict=True) if "Annotations" not in label)
        assert raw.info["sfreq"] == pytest.approx(most / header.record_seconds)
        assert raw.n_times == most * header.n_records
        assert find_gaps(header) == []
        assert all(header.signal_index(name) is not None for name in raw.ch_names)
