"""detect_seizures and SeizureDetection."""

from datetime import UTC, datetime

import mne
import numpy as np
import pytest
import torch

from mne_labram import LabramForClassification, LabramTokenizer, SeizureDetection, detect_seizures, labram_annotate
from mne_labram.decoding.inference import ModelRunner
from mne_labram.decoding.scores import NOT_ANALYSED
from mne_labram.seizure.detection import model_or_default
from mne_labram.seizure.szcore import read_szcore_tsv
from mne_labram.signal.contract import ContractError
from mne_labram.signal.events import EventParameters
from mne_labram.signal.vocabulary import DOUBLE_BANANA, TEN_TWENTY
from mne_labram.weights import list_pretrained
from mne_labram.weights.pretrained import DEFAULT_DETECTOR
from tests.seizure.loud import SMALL, loud_detector, loud_raw

SHARP = EventParameters(smoothing=1.0)
#: SzCORE's channels, in its order.
SZCORE = "Fp1 F3 C3 P3 O1 F7 T3 T5 Fz Cz Pz Fp2 F4 C4 P4 O2 F8 T4 T6".split()


@pytest.fixture(scope="module")
def detector():
    """Return a detector whose answer is known."""
    return loud_detector()


@pytest.fixture(scope="module")
def found(detector):
    """Return what it finds in the loud recording."""
    return detect_seizures(loud_raw(), detector, parameters=SHARP)


def test_the_seizure_is_found_where_it_is(found):
    """On whole seconds after the first sample, and where raw.set_annotations puts it."""
    assert isinstance(found, SeizureDetection)
    (event,) = found.table.events
    assert (event.onset, event.stop) == (40.0, 60.0)
    assert event.event_type == "sz"
    assert 0.9 < event.confidence <= 1.0
    # F7 and T7 were made louder than the others.
    assert set(event.channels) == {"F7", "T7"}
    assert found.table.duration == 120.0
    assert found.table.date_time == datetime(2024, 5, 1, 12, 0, 30, tzinfo=UTC)
    assert found.probability.shape == (120,)
    assert found.analysed.all()
    assert "1 seizure(s) in 120 s" in repr(found)


@pytest.mark.parametrize("dated", [True, False])
def test_annotations_lie_on_the_signal(detector, dated):
    """With and without a date; the recording is not changed; confidence survives where only descriptions do."""
    raw = loud_raw(dated=dated)
    before = raw.get_data()
    found = detect_seizures(raw, detector, parameters=SHARP)
    np.testing.assert_array_equal(raw.get_data(), before)
    assert len(raw.annotations) == 0
    annotated = raw.copy().set_annotations(found.annotations)
    (one,) = annotated.annotations
    assert one["onset"] - raw.first_time == pytest.approx(40.0)
    assert one["duration"] == pytest.approx(20.0)
    assert one["description"] == f"seizure p={found.table.events[0].confidence:.2f}"
    assert one["extras"]["eventType"] == "sz"
    assert one["extras"]["confidence"] == found.table.events[0].confidence
    assert set(one["extras"]["channels"].split(",")) == {"F7", "T7"}


def test_another_threshold_needs_no_model(found, monkeypatch):
    """A new object; the old one is as it was; channels go along with the seizure they belong to."""
    monkeypatch.setattr(ModelRunner, "__call__", None)
    assert len(found.rethreshold(1.0).table) == 0
    lower = found.rethreshold(0.3)
    assert lower.threshold == 0.3
    assert found.threshold == 0.5
    assert set(lower.table.events[0].channels) == {"F7", "T7"}
    assert len(found.rethreshold(parameters=EventParameters(min_duration=30.0)).table) == 0
    with pytest.raises(ValueError, match="Pass a threshold"):
        found.rethreshold()
    with pytest.raises(ValueError, match="never measured"):
        found.rethreshold(target_fp_per_day=1.0)


def test_what_leaves_the_program(found, tmp_path):
    """SzCORE's table reads back; the frame has a clock; burden is seizure per time analysed."""
    path = found.to_tsv(tmp_path / "a.tsv")
    again = read_szcore_tsv(path)
    assert again.intervals == found.table.intervals
    assert again.events[0].channels == found.table.events[0].channels
    with pytest.raises(FileExistsError):
        found.to_tsv(path)
    frame = found.to_frame()
    assert frame.loc[0, ["onset", "duration", "event_type"]].tolist() == [40.0, 20.0, "sz"]
    assert frame.loc[0, "clock_time"].isoformat() == "2024-05-01T12:01:10+00:00"
    assert found.burden == pytest.approx(20 / 120)
    hours = found.burden_by_hour()
    assert hours.to_dict("list") == {
        "hour": [0],
        "n_seizures": [1],
        "seizure_seconds": [20.0],
        "analysed_seconds": [120.0],
    }
    none = found.rethreshold(1.0)
    assert none.to_frame().empty
    assert none.to_tsv(tmp_path / "none.tsv").read_text().splitlines()[1].split("\t")[2] == "bckg"


def test_the_page_is_written_whole(found, tmp_path):
    """An HTML file under the name asked for, and nothing beside it."""
    path = found.report(tmp_path / "page.html", n_events=0)
    assert "<html" in path.read_text(encoding="utf8")[:1000].lower()
    assert [each.name for each in tmp_path.iterdir()] == ["page.html"]


def test_types(detector):
    """The type of an event is the one that is most probable within it, in SzCORE's words."""
    three = loud_detector(n_outputs=3, class_names=["bckg", "FNSZ", "gnsz"])

    def frontal(x):
        x[0, 40 * 200 : 60 * 200] *= 3

    types = [
        detect_seizures(loud_raw(edit), three, involvement=False).table.events[0].event_type for edit in (None, frontal)
    ]
    assert types == ["sz_foc", "sz_gen"]
    description = detect_seizures(loud_raw(frontal), three, involvement=False).annotations.description[0]
    assert description.startswith("sz_gen p=")


def test_what_is_unusable_is_not_analysed(detector):
    """Seconds without a number have no score, split the seizure, and are marked; the others near them have one."""

    def edit(x):
        x[:, 50 * 200 : 51 * 200] = np.nan

    found = detect_seizures(loud_raw(edit), detector, parameters=SHARP, involvement=False)
    assert found.not_analysed == [(50.0, 52.0)]
    assert np.isnan(found.probability[50:52]).all()
    assert [(event.onset, event.stop) for event in found.table.events] == [(40.0, 50.0), (52.0, 60.0)]
    marked = found.annotations[found.annotations.description == NOT_ANALYSED]
    assert (marked.onset - 30).tolist() == [50.0]
    assert marked.duration.tolist() == [2.0]
    assert NOT_ANALYSED not in found.to_annotations(mark_not_analysed=False).description
    assert found.burden == pytest.approx(18 / 118)


def test_nothing_usable_is_an_error(detector):
    """A recording of which no window can be used must not look like one without seizures."""

    def edit(x):
        x[:, 100::400] = np.nan

    with pytest.raises(ContractError, match="No second"):
        detect_seizures(loud_raw(edit), detector)


@pytest.mark.parametrize(
    "labels",
    [
        [f"{name}-Avg" for name in SZCORE],
        [f"{name.upper()}-Avg" for name in SZCORE],
        [f"EEG {name}-REF" for name in TEN_TWENTY],
    ],
)
@pytest.mark.parametrize("seconds", [1, 2, 5])
def test_short_files_and_spellings(write_edf, make_eeg, detector, labels, seconds):
    """SzCORE's own test files last two seconds and come in both spellings."""
    signals = list(make_eeg(19, 256 * seconds, 256))
    fname = write_edf(signals=signals, labels=labels, sfreq=256)
    found = detect_seizures(fname, detector, involvement=False)
    assert found.duration == seconds
    assert found.probability.shape == (seconds,)
    assert found.analysed.all()
    assert found.scores.report.ch_names == list(TEN_TWENTY)


def test_the_end_of_a_recording(detector):
    """What is no whole second has a score, and no event ends after the recording."""
    raw = loud_raw().crop(0, 52.7 - 1 / 200)
    found = detect_seizures(raw, detector, parameters=SHARP, involvement=False)
    assert found.duration == pytest.approx(52.7)
    assert found.analysed.sum() == 53
    assert [(event.onset, event.stop) for event in found.table.events] == [(40.0, 52.0)]


def test_less_than_one_patch_is_refused(detector):
    """There is nothing a model of seconds could look at."""
    with pytest.raises(ContractError, match=r"0\.5 s"):
        detect_seizures(loud_raw().crop(0, 0.495), detector)


def test_montages_are_read_as_they_are(shared_data, detector):
    """CHB-MIT's 23 derivations are the double banana, 64 electrodes the 10-20 system."""
    bipolar = detect_seizures(shared_data / "chbmit" / "chb01_16_seizure_full.edf", detector, involvement=False)
    assert bipolar.scores.report.ch_names == list(DOUBLE_BANANA)
    assert bipolar.scores.report.montage == "bipolar"
    assert bipolar.duration == 51.0
    name = sorted((shared_data / "eegmmidb").rglob("*R01.edf"))[0]
    raw = mne.io.read_raw_edf(name, verbose="error").crop(0, 10)
    referential = detect_seizures(raw, detector, involvement=False)
    assert referential.scores.report.ch_names == list(TEN_TWENTY)
    everything = detect_seizures(raw, detector, involvement=False, channels="recording")
    assert len(everything.scores.report.ch_names) == 64


def test_most_of_the_montage_must_be_there(detector):
    """Some channels may be missing; half of them may not, unless the user says so."""
    raw = loud_raw()
    assert len(detect_seizures(raw.copy().pick(raw.ch_names[:12]), detector, involvement=False).table) == 1
    few = raw.copy().pick(raw.ch_names[:9])
    with pytest.raises(ContractError, match="9 of the 19 channels of its montage"):
        detect_seizures(few, detector)
    assert len(detect_seizures(few, detector, channels="recording", involvement=False).table) == 1


def test_a_file_is_read_as_the_recording_in_memory(detector, tmp_path):
    """And windows and threads make no difference beyond rounding."""
    raw = loud_raw()
    raw.save(tmp_path / "x_raw.fif", fmt="double", verbose="error")
    options = {"involvement": False, "precision": "float32"}
    one = detect_seizures(raw, detector, **options)
    two = detect_seizures(tmp_path / "x_raw.fif", detector, batch_size=7, **options)
    np.testing.assert_allclose(one.probability, two.probability, atol=1e-5)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if threads > 1 else 2)
        three = detect_seizures(raw, detector, **options)
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_allclose(one.probability, three.probability, atol=1e-6)
    assert one.table.intervals == three.table.intervals


def test_a_classifier_of_windows_will_do(found):
    """Its answer holds for every second of a window."""

    class Loud(LabramForClassification):
        def forward(self, x, return_features=False):
            return (x.std(dim=(1, 2), unbiased=False)[:, None] - 60.0) / 4.0

    model = Loud(ch_names=list(TEN_TWENTY), n_times=800, sfreq=200, n_outputs=1, **SMALL)
    windows = detect_seizures(loud_raw(), model, parameters=SHARP, involvement=False)
    ((start, stop),) = windows.table.intervals
    # Windows of 4 s blur what seconds do not.
    assert abs(start - 40) <= 4
    assert abs(stop - 60) <= 4


CALIBRATION = {
    "parameters": {"threshold": 0.4, "smoothing": 1.0},
    "operating_points": [
        {"threshold": 0.4, "fp_per_day": 9.0, "sensitivity": 0.9},
        {"threshold": 0.6, "fp_per_day": 3.0, "sensitivity": 0.7},
    ],
    "hours": 200.0,
    "n_seizures": 7,
}


def test_the_threshold_of_a_target(capsys):
    """The model's own parameters hold unless others are given, and what was measured is said."""
    model = loud_detector(detection=CALIBRATION)
    own = detect_seizures(loud_raw(), model, involvement=False, verbose="info")
    assert own.parameters == EventParameters(threshold=0.4, smoothing=1.0)
    text = " ".join(capsys.readouterr().out.split())
    assert "threshold 0.4 there were 90 % of 7 seizures and 9 false alarms a day on 200 h" in text
    strict = detect_seizures(loud_raw(), model, 5.0, involvement=False)
    assert strict.threshold == 0.6
    assert strict.operating_point["sensitivity"] == 0.7
    assert strict.measured_on == {"hours": 200.0, "n_seizures": 7}
    assert own.rethreshold(target_fp_per_day=3.0).threshold == 0.6
    other = detect_seizures(loud_raw(), model, threshold=0.5, parameters=EventParameters(), involvement=False)
    assert other.operating_points == []
    assert other.operating_point is None


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"threshold": 0.5, "target_fp_per_day": 1.0}, "pass one of them"),
        ({"target_fp_per_day": 1.0}, "never measured"),
        ({"threshold": 1.5}, "threshold must lie"),
        ({"stride": 5.0}, "longer than the window"),
        ({"channels": "some"}, "'recording' or 'model' or 'montage'"),
        ({"window": 17.0}, "at most 16"),
        ({"gaps": "x"}, "gaps must be"),
    ],
)
def test_wrong_arguments(detector, change, match):
    """One sentence each."""
    with pytest.raises(ValueError, match=match) as error:
        detect_seizures(loud_raw(), detector, **change)
    assert "\n" not in str(error.value)


def test_wrong_objects(detector):
    """Epochs are not continuous, a tokenizer has no classes, a damaged calibration is said to be one."""
    epochs = mne.make_fixed_length_epochs(loud_raw(), 4, preload=True, verbose="error")
    with pytest.raises(TypeError, match="continuous"):
        detect_seizures(epochs, detector)
    tokenizer = LabramTokenizer(ch_names=list(TEN_TWENTY), n_times=800, sfreq=200, n_codes=8, code_dim=8, **SMALL)
    with pytest.raises(ContractError, match="no classes"):
        detect_seizures(loud_raw(), tokenizer)
    with pytest.raises(TypeError, match="EventParameters"):
        detect_seizures(loud_raw(), detector, parameters={"threshold": 0.5})
    for detection in ({"parameters": {"level": 1}}, {"operating_points": [{"threshold": 1}]}):
        with pytest.raises(ValueError, match="damaged"):
            detect_seizures(loud_raw(), loud_detector(detection=detection))


def test_the_detector_that_comes_with_the_package():
    """By its name where its weights are; elsewhere one sentence says that they are missing."""
    if DEFAULT_DETECTOR in list_pretrained():
        assert model_or_default(None) == DEFAULT_DETECTOR
    else:
        with pytest.raises(ValueError, match="no weights of the seizure detector"):
            detect_seizures(loud_raw())


def test_labram_annotate_is_the_same_detector(detector, monkeypatch):
    """Without a model it takes the one that ships; its other arguments hold, and names of classes may be given."""
    monkeypatch.setattr("mne_labram.verbs.model_or_default", lambda model: detector if model is None else model)
    raw = loud_raw()
    annotated = labram_annotate(raw, smoothing=1.0)
    direct = detect_seizures(raw, detector, parameters=SHARP, involvement=False).annotations
    assert annotated.annotations.description.tolist() == direct.description.tolist()
    np.testing.assert_allclose(annotated.annotations.onset, direct.onset)
    assert len(labram_annotate(raw, None, 0.999999999).annotations) == 0
    named = labram_annotate(raw, smoothing=1.0, class_names=["quiet", "loud"])
    assert named.annotations.description.tolist() == ["loud"]
