"""Opening files: whatever MNE reads, and one sentence for whatever it does not."""

import configparser
import zlib
from xml.etree.ElementTree import ParseError

import mne
import numpy as np
import pytest
from scipy.io import savemat

from mne_labram import check
from mne_labram.signal.conform import conform_epochs_array, plan_conform
from mne_labram.signal.contract import ContractError
from mne_labram.signal.opening import open_recording


@pytest.fixture
def epochs(make_raw):
    raw = make_raw(20)
    return mne.Epochs(raw, mne.make_fixed_length_events(raw, duration=2), tmax=1.996, baseline=None, verbose="ERROR")


def test_objects_are_returned_as_they_are(make_raw, epochs):
    raw = make_raw(2)
    assert open_recording(raw) is raw
    assert open_recording(epochs) is epochs
    average = epochs.average()
    assert open_recording(average) is average


@pytest.mark.parametrize("name", ["x-epo.fif", "x_epo.fif.gz", "x-ave.fif", "x_raw.fif", "x.edf"])
def test_formats(tmp_path, write_edf, make_raw, epochs, name, capsys):
    fname = tmp_path / name
    if "epo" in name:
        epochs.save(fname, verbose="ERROR")
    elif "ave" in name:
        epochs.average().save(fname, verbose="ERROR")
    elif name.endswith("edf"):
        write_edf(name)
    else:
        make_raw(5).save(fname, verbose="ERROR")
    inst = open_recording(str(fname))
    kind = mne.BaseEpochs if "epo" in name else mne.Evoked if "ave" in name else mne.io.BaseRaw
    assert isinstance(inst, kind)
    if kind is mne.io.BaseRaw:
        assert not inst.preload
    elif kind is mne.BaseEpochs:
        assert len(inst) == len(epochs)
    assert capsys.readouterr().out == ""


def test_several_averages(tmp_path, epochs):
    averages = [epochs[:5].average(), epochs[5:].average()]
    averages[0].comment, averages[1].comment = "left", "right"
    fname = tmp_path / "two-ave.fif"
    mne.write_evokeds(fname, averages, verbose="ERROR")
    with pytest.raises(ContractError, match=r"holds 2 averages \('left', 'right'\); pass one of mne.read_evokeds"):
        open_recording(fname)


def write_set_file(fname, x, sfreq, names):
    """Write epochs (n_epochs, n_chans, n_times) in µV as EEGLAB stores them."""
    n_epochs, n_chans, n_times = x.shape
    locations = np.zeros(n_chans, dtype=[(field, object) for field in ("labels", "X", "Y", "Z")])
    events = np.zeros(n_epochs, dtype=[(field, object) for field in ("type", "latency", "epoch")])
    epochs = np.zeros(n_epochs, dtype=[(field, object) for field in ("event", "eventtype", "eventlatency")])
    for i, name in enumerate(names):
        locations[i] = (name, [], [], [])
    for i in range(n_epochs):
        events[i], epochs[i] = ("stim", i * n_times + 1.0, i + 1), (i + 1, "stim", 0.0)
    nothing = np.zeros((0, 0))
    fields = {"setname": "x", "nbchan": n_chans, "trials": n_epochs, "pnts": n_times, "srate": sfreq, "xmin": 0.0}
    fields |= {"xmax": (n_times - 1) / sfreq, "data": x.transpose(1, 2, 0), "chanlocs": locations, "event": events}
    fields |= {"epoch": epochs, "ref": "common", "chaninfo": {"nosedir": "+X"}, "urchanlocs": nothing}
    fields |= {"icawinv": nothing, "icasphere": nothing, "icaweights": nothing, "icaact": nothing}
    savemat(fname, {"EEG": fields}, oned_as="row")


def test_eeglab_epochs(tmp_path, make_eeg):
    """MNE refuses to read a .set file with epochs as Raw."""
    x = make_eeg(12, 500, 250.0).reshape(4, 3, 500)
    write_set_file(tmp_path / "x.set", x, 250.0, ["Fp1", "Fp2", "Cz"])
    inst = open_recording(tmp_path / "x.set")
    assert isinstance(inst, mne.BaseEpochs)
    np.testing.assert_allclose(inst.get_data(copy=False) * 1e6, x, atol=1e-3)


def test_matlab_files_do_not_say_what_they_hold(tmp_path):
    savemat(tmp_path / "x.mat", {"data": np.zeros((3, 10))})
    with pytest.raises(ContractError, match=r"^x\.mat is a MATLAB file.* mne\.io\.RawArray"):
        open_recording(tmp_path / "x.mat")


def test_annotations_that_are_not_utf_8(write_edf):
    """MNE raises the bare Exception class for them."""
    fname = write_edf(kind="EDF+C", annotations={3: [(3, 1, "Augen auf: OEffnen")]})
    fname.write_bytes(fname.read_bytes().replace(b"OEffnen", b"\xd6ffnen!"))
    notes = []
    raw = open_recording(fname, notes=notes)
    assert raw.annotations.description.tolist() == ["Augen auf: \xd6ffnen!"]
    assert any("not UTF-8" in note for note in notes)


def test_real_files(shared_data):
    folder = shared_data / "clinical_formats"
    for name in ("eeglab_set/eeglab_data.set", "brainvision/test.vhdr", "nihon_kohden/MB0400FU.EEG"):
        inst = open_recording(folder / name)
        assert isinstance(inst, mne.io.BaseRaw)
        assert not inst.preload


def test_the_data_of_brainvision_recordings_are_opened_by_their_header(shared_data, tmp_path):
    with pytest.raises(ContractError, match=r"^test.eeg is one of the three files .* recording; pass test.vhdr.$"):
        open_recording(shared_data / "clinical_formats" / "brainvision" / "test.eeg")
    (tmp_path / "header.vhdr").write_text("[Common Infos]\nDataFile=data.eeg\nMarkerFile=marks.vmrk\n")
    for name in ("data.eeg", "marks.vmrk", "other.eeg"):
        (tmp_path / name).write_bytes(b"\x9f\x00" * 50)
    for name in ("data.eeg", "marks.vmrk"):
        with pytest.raises(ContractError, match="pass header.vhdr"):
            open_recording(tmp_path / name)
    with pytest.raises(ContractError, match="other.eeg cannot be read as an EEG recording"):
        open_recording(tmp_path / "other.eeg")


def test_what_mne_warns_of_is_kept(write_edf):
    notes = []
    open_recording(write_edf(labels=["T8-P8", "T8-P8", "Cz"], declared=5), notes=notes)
    assert any("not unique" in note for note in notes)
    assert any("does not match the file size" in note for note in notes)
    assert all("\n" not in note for note in notes)


def _damage(tmp_path, write_edf, make_raw, kind):
    if kind == "missing":
        return tmp_path / "none.edf"
    if kind == "folder":
        return tmp_path
    if kind == "empty":
        (tmp_path / "empty.edf").touch()
        return tmp_path / "empty.edf"
    if kind == "text":
        (tmp_path / "notes.txt").write_text("no EEG")
        return tmp_path / "notes.txt"
    if kind == "junk":
        (tmp_path / "junk.edf").write_bytes(np.random.default_rng(0).bytes(5000))
        return tmp_path / "junk.edf"
    if kind == "header only":
        fname = write_edf()
        fname.write_bytes(fname.read_bytes()[:300])
        return fname
    if kind == "fif":
        fname = tmp_path / "x_raw.fif"
        make_raw(2).save(fname, verbose="ERROR")
        fname.write_bytes(fname.read_bytes()[:700])
        return fname
    fname = tmp_path / f"broken{kind}"
    fname.write_bytes(b"\x00\x01 nothing of the kind")
    return fname


@pytest.mark.parametrize(
    "kind",
    ["missing", "folder", "empty", "text", "junk", "header only", "fif", ".vhdr", ".set", ".bdf", ".gdf", ".cnt"]
    + [".eeg", "-epo.fif", "-ave.fif", ".mff", ".xyz"],
)
def test_damaged_files_are_one_sentence(tmp_path, write_edf, make_raw, kind):
    fname = _damage(tmp_path, write_edf, make_raw, kind)
    with pytest.raises(ContractError) as caught:
        open_recording(fname)
    sentence = str(caught.value)
    assert fname.name in sentence
    assert "\n" not in sentence
    assert len(sentence) < 400
    assert sentence.endswith(".")


@pytest.mark.parametrize(
    "error",
    [
        configparser.NoSectionError("Common infos"),  # BrainVision, MNE 1.11
        ParseError("not well-formed"),  # XML of EGI and others
        zlib.error("invalid block type"),  # a damaged .fif.gz
        MemoryError("Unable to allocate 3. TiB"),  # a damaged number of samples
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_reader_raises_is_one_sentence(write_edf, monkeypatch, error):
    def read_raw(*args, **kwargs):
        raise error

    monkeypatch.setattr(mne.io, "read_raw", read_raw)
    fname = write_edf()
    with pytest.raises(
        ContractError, match=r"made.edf cannot be read as an EEG recording \(.+\); give a whole file, .+\.$"
    ):
        open_recording(fname)
    assert not check(fname, print_report=False).ok


@pytest.mark.parametrize("kept", [2000, 9000, 60_000])
def test_files_that_open_but_cannot_be_read(tmp_path, make_raw, kept):
    """MNE opens a FIF file that was cut short and fails when the data are asked for."""
    fname = tmp_path / "x_raw.fif"
    make_raw(60, names=["Fp1", "Fp2"]).save(fname, verbose="ERROR")
    fname.write_bytes(fname.read_bytes()[:kept])
    report = check(fname, print_report=False)
    assert not report.ok
    assert "it is damaged or was cut short" in report.problems[0]
    with pytest.raises(ContractError, match=r"x_raw\.fif cannot be read after \d+ s"):
        for _ in plan_conform(fname).iter_blocks():
            pass


def test_epochs_that_open_but_cannot_be_read(tmp_path, epochs):
    fname = tmp_path / "x-epo.fif"
    epochs.save(fname, verbose="ERROR")
    content = fname.read_bytes()
    fname.write_bytes(content[: len(content) // 2])
    report = check(fname, print_report=False)
    assert not report.ok
    with pytest.raises(ContractError, match="cannot be read"):
        conform_epochs_array(fname)


@pytest.mark.parametrize("wrong", [None, 3, np.zeros(3), ["a.edf"], b"a.edf"])
def test_other_objects(wrong):
    with pytest.raises(TypeError, match="Raw, Epochs, Evoked or a path is needed, got"):
        open_recording(wrong)


def test_a_compressed_recording_is_to_be_decompressed_first(tmp_path) -> None:
    (tmp_path / "night.bcz").write_bytes(b"anything")
    with pytest.raises(ContractError, match=r"^night\.bcz is a compressed recording.*mne-labram decompress"):
        open_recording(tmp_path / "night.bcz")
