"""check(): what would become of a recording, without a model and without torch."""

import json
import subprocess
import sys

import mne
import numpy as np
import pytest

from mne_labram import check, conform
from mne_labram.signal.check import CheckReport
from mne_labram.signal.contract import ContractError, SignalContract

BIPOLAR_ONLY = SignalContract(name="banana", montages=("bipolar",))


def test_what_is_printed(make_raw, capsys):
    report = check(make_raw(10))
    printed = capsys.readouterr().out
    assert isinstance(report, CheckReport)
    assert report.ok
    assert report.problems == []
    assert printed.startswith("RawArray can be analysed.\n")
    assert "usable        10 of 10 s" in printed
    assert printed.strip() == str(report)
    assert check(make_raw(10), print_report=False).to_dict() == report.to_dict()
    assert capsys.readouterr().out == ""
    assert json.loads(json.dumps(report.to_dict()))["ok"] is True


def test_every_problem_is_told(write_edf, make_eeg, capsys):
    """A gap, a wrong unit and a wrong montage at once."""
    onsets = np.arange(20.0)
    onsets[10:] += 5
    fname = write_edf(units="", kind="EDF+D", onsets=onsets)
    report = check(fname, BIPOLAR_ONLY)
    assert not report.ok
    assert len(report.problems) == 3
    assert "5 s are missing after 10 s" in report.problems[0]
    assert any("bipolar" in problem for problem in report.problems)
    assert any("assume_unit='uV'" in problem for problem in report.problems)
    printed = capsys.readouterr().out
    assert printed.startswith("made.edf cannot be analysed.\n")
    assert all(problem in printed for problem in report.problems)
    assert all("\n" not in problem and problem.endswith(".") for problem in report.problems)
    repaired = check(fname, gaps="split", assume_unit="uV", print_report=False)
    assert repaired.ok
    assert repaired.report.seconds_usable == 18


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"names": ["Fz"], "types": "misc"}, "No channel is marked as EEG"),
        ({"names": ["a", "b"]}, "can be used"),
        ({"unit": 1.0}, "assume_unit='uV'"),
        ({"seconds": 0.5}, "one patch"),
        ({"edit": lambda x: x.fill(4.0)}, "constant"),
    ],
)
def test_refused(make_raw, kwargs, words):
    report = check(make_raw(**{"seconds": 5, **kwargs}), print_report=False)
    assert not report.ok
    assert any(words in problem for problem in report.problems)
    assert str(report)
    json.dumps(report.to_dict())


def test_no_second_is_usable(make_raw):
    raw = make_raw(10)
    raw.set_annotations(mne.Annotations([0], [10], ["bad"]))
    report = check(raw, print_report=False)
    assert report.problems == [
        "No second of RawArray can be used (10 s annotated); look at the signal, or pass other thresholds."
    ]


def test_missing_file(tmp_path):
    report = check(tmp_path / "none.edf", print_report=False)
    assert not report.ok
    assert "There is no file" in report.problems[0]
    assert str(report).startswith("none.edf cannot be analysed.")


def test_bad_arguments_raise(make_raw):
    with pytest.raises(TypeError, match="path is needed"):
        check(3, print_report=False)
    with pytest.raises(ValueError, match="assume_unit"):
        check(make_raw(5), assume_unit="x", print_report=False)


def test_nothing_is_modified(make_raw):
    raw = make_raw(10)
    before, info = raw.get_data(), mne.utils.object_hash(dict(raw.info))
    check(raw, SignalContract(reference="average"), print_report=False)
    np.testing.assert_array_equal(raw.get_data(), before)
    assert mne.utils.object_hash(dict(raw.info)) == info


def test_epochs_and_averages(make_raw):
    raw = make_raw(20)
    events = mne.make_fixed_length_events(raw, duration=2)
    epochs = mne.Epochs(raw, events, tmin=0, tmax=1.996, baseline=None, preload=True, verbose="ERROR")
    report = check(epochs, print_report=False)
    assert report.ok
    assert report.report.n_epochs == 10
    assert check(epochs.average(), print_report=False).ok
    short = epochs.copy().crop(0, 0.5)
    assert "one patch" in check(short, print_report=False).problems[0]
    strange = epochs.copy().rename_channels(lambda name: f"x{name}x")
    assert not check(strange, print_report=False).ok
    long = mne.Epochs(raw, events[:1], tmin=0, tmax=17, baseline=None, preload=True, verbose="ERROR")
    assert "has 17 patches and the model takes at most 16" in check(long, print_report=False).problems[0]
    # MNE includes the last sample: these are 16 patches and one sample.
    assert check(long.copy().crop(0, 16), print_report=False).ok
    volts = mne.EpochsArray(epochs.get_data(copy=True) * 1e6, epochs.info, verbose="ERROR")
    assert "assume_unit='uV'" in check(volts, print_report=False).problems[0]


def test_torch_is_not_needed(tmp_path, write_edf):
    """In a fresh interpreter, neither torch nor Braindecode is imported."""
    fname = write_edf()
    code = (
        "import sys; from mne_labram import check; "
        f"assert check({str(fname)!r}).ok; "
        "assert not {'torch', 'braindecode', 'skorch', 'sklearn'} & set(sys.modules), 'heavy'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "made.edf can be analysed." in done.stdout


@pytest.mark.parametrize("seed", range(40))
def test_damaged_anywhere(write_edf, seed):
    """Whatever bytes of a file are wrong, check and conform agree, and nothing but a sentence comes out."""
    rng = np.random.default_rng(seed)
    kind = ("EDF", "EDF+C", "EDF+D", "BDF")[seed % 4]
    fname = write_edf(f"x.{kind[:3].lower()}", kind=kind)
    content = bytearray(fname.read_bytes())
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(0, 1100))
        content[at : at + int(rng.integers(1, 8))] = rng.choice([b"", b"-", b" ", b"9", b"\x00", rng.bytes(5)])
    if seed % 3 == 0:
        content = content[: rng.integers(1, len(content))]
    fname.write_bytes(content)
    report = check(fname, print_report=False)
    assert all("\n" not in problem and len(problem) < 500 for problem in report.problems)
    if report.ok:
        assert np.isfinite(conform(fname)[0].get_data()).all()
    else:
        with pytest.raises(ContractError):
            conform(fname)


# -- real recordings ---------------------------------------------------------------------------------------------------

REFUSED = {
    "edf/test.edf": "can be used",
    "edf/eeglab_test.edf": "All 16 EEG channels are flat",
    "biosemi_bdf/eeglab_test.bdf": "can be used",
}


@pytest.mark.parametrize(
    "name",
    [
        "edf/test.edf",
        "edf/eeglab_test.edf",
        "biosemi_bdf/eeglab_test.bdf",
        "nihon_kohden/MB0400FU.EEG",
        "nihon_kohden/MB0400FU.EDF",
        "brainvision/test.vhdr",
        "eeglab_set/eeglab_data.set",
    ],
)
def test_clinical_formats(shared_data, name):
    report = check(shared_data / "clinical_formats" / name, print_report=False)
    if name in REFUSED:
        assert len(report.problems) == 1
        assert REFUSED[name] in report.problems[0]
        return
    assert report.ok, report.problems
    assert report.report.seconds_usable == pytest.approx(report.report.n_seconds)
    assert len(report.report.ch_names) == {"MB0400FU.EEG": 21, "MB0400FU.EDF": 21, "test.vhdr": 26}.get(
        name.split("/")[1], 30
    )


def test_both_exports_of_one_recording_are_the_same(shared_data):
    """Nihon Kohden's own file and its export to EDF."""
    folder = shared_data / "clinical_formats" / "nihon_kohden"
    reports = [check(folder / name, print_report=False).report for name in ("MB0400FU.EEG", "MB0400FU.EDF")]
    assert reports[0].ch_names == reports[1].ch_names
    assert reports[0].amplitude == pytest.approx(reports[1].amplitude, rel=1e-3)


@pytest.mark.parametrize(
    ("pattern", "n_files", "n_channels", "words"),
    [
        ("eegmat/*.edf", 48, 19, ""),
        ("eegmmidb/*.edf", 7, 64, None),
        ("mi_openbci/*_raw.fif", 5, 15, "content above 62.5 Hz is missing"),
        ("uci_eeg/*-epo.fif", 14, 61, None),
        ("chbmit/*.edf", 18, 8, None),
    ],
)
def test_data_sets(shared_data, pattern, n_files, n_channels, words):
    """Every recording goes through: all channels with a row are kept, and next to nothing is unusable."""
    files = sorted(shared_data.glob(pattern))
    assert len(files) == n_files
    for fname in files[:: max(1, n_files // 6)]:
        found = check(fname, print_report=False)
        assert found.ok, (fname, found.problems)
        report = found.report
        assert len(report.ch_names) == n_channels, fname
        assert 1 < report.amplitude < 200, fname
        whole = report.n_seconds * (report.n_epochs or 1)
        assert report.seconds_usable > 0.95 * whole, (fname, report.reasons)
        if words is None:
            assert report.warnings == [], fname
        elif words:
            assert any(words in text for text in report.warnings), fname
