"""labram_embed, labram_tokenize, labram_annotate and annotate_events."""

import tracemalloc
from datetime import UTC, datetime

import mne
import numpy as np
import pytest
import torch
from braindecode.datasets import BaseConcatDataset, RawDataset
from braindecode.preprocessing import Preprocessor, preprocess
from torch import nn

from mne_labram import (
    LabramForClassification,
    LabramTokenizer,
    annotate_events,
    labram_annotate,
    labram_embed,
    labram_tokenize,
    save_checkpoint,
)
from mne_labram.benchmark.synthetic import simulate_recording
from mne_labram.decoding.scores import NOT_ANALYSED
from mne_labram.signal.contract import ContractError

SMALL = {"embed_dim": 40, "num_layers": 1, "num_heads": 2}
CHANNELS = "FP1 FP2 F7 F3 FZ F4 F8 T7 C3 CZ C4 T8 P7 P3 PZ P4 P8 O1 O2".split()


class LoudDetector(LabramForClassification):
    """A classifier whose answer is known: the event's probability is high where the signal is large."""

    def forward(self, x, return_features=False):
        """Return the logit of the event, shape (batch, 1): positive above 60 µV."""
        return (x.std(dim=(1, 2), unbiased=False)[:, np.newaxis] - 60.0) / 2.0


def _detector(ch_names=CHANNELS, **kwargs):
    torch.manual_seed(0)
    return LoudDetector(ch_names=list(ch_names), n_times=800, sfreq=200, n_outputs=1, **SMALL, **kwargs)


@pytest.fixture(scope="module")
def model():
    """Return a tiny classifier with random weights."""
    torch.manual_seed(0)
    return LabramForClassification(ch_names=CHANNELS, n_times=800, sfreq=200, n_outputs=2, **SMALL)


@pytest.fixture(scope="module")
def tokenizer():
    """Return a tiny tokenizer with random weights."""
    torch.manual_seed(0)
    return LabramTokenizer(ch_names=CHANNELS, n_times=800, sfreq=200, n_codes=32, code_dim=8, **SMALL)


@pytest.fixture
def loud():
    """Two minutes, quiet but for 40 to 60 s, with a first sample and an annotation of its own."""
    rng = np.random.default_rng(0)
    raw = mne.io.RawArray(
        1e-6 * 20 * rng.normal(size=(19, 150 * 200)),
        mne.create_info([name.title() for name in CHANNELS], 200.0, "eeg"),
        verbose="error",
    )
    raw._data[:, 70 * 200 : 90 * 200] *= 8
    raw.set_meas_date(datetime(2024, 5, 1, 12, tzinfo=UTC))
    raw.crop(30, None)
    return raw.set_annotations(mne.Annotations(raw.first_time + 5, 2.0, "before", orig_time=raw.info["meas_date"]))


def _snapshot(raw):
    return raw.get_data(), [dict(a) for a in raw.annotations], list(raw.ch_names), raw.first_samp, raw.info["bads"]


def test_annotate_finds_the_event_where_it_is(loud):
    """Right onset with a first sample; old annotations stay; the input is untouched; confidence is a probability."""
    before = _snapshot(loud)
    annotated = labram_annotate(loud, _detector(), class_names=["background", "seizure"], smoothing=1)
    onset = {a["description"]: a["onset"] - loud.first_time for a in annotated.annotations}
    assert set(onset) == {"before", "seizure"}
    assert onset["before"] == pytest.approx(5.0)
    # Four-second windows blur an edge by at most their length.
    assert onset["seizure"] == pytest.approx(40.0, abs=4.0)
    seizure = annotated.annotations[1]
    assert seizure["duration"] == pytest.approx(20.0, abs=4.0)
    assert 0.5 < seizure["extras"]["confidence"] <= 1
    assert annotated.annotations.orig_time == loud.info["meas_date"]
    after = _snapshot(loud)
    np.testing.assert_array_equal(before[0], after[0])
    assert before[1:] == after[1:]
    np.testing.assert_array_equal(annotated.get_data(), before[0])


def test_without_a_measurement_date(loud):
    """The same seconds are found, and nothing moves."""
    dated = labram_annotate(loud, _detector(), smoothing=1)
    loud.set_annotations(None)
    loud.set_meas_date(None)
    loud.set_annotations(mne.Annotations(5.0, 2.0, "before"))
    undated = labram_annotate(loud, _detector(), smoothing=1)
    np.testing.assert_allclose(
        undated.annotations.onset - undated.first_time, dated.annotations.onset - dated.first_time, atol=1e-6
    )
    # And once more: annotating twice keeps the first.
    twice = labram_annotate(undated, _detector(), smoothing=1, class_names=["background", "again"])
    first = dict(zip(undated.annotations.description, undated.annotations.onset, strict=True))
    second = dict(zip(twice.annotations.description, twice.annotations.onset, strict=True))
    assert {name: second[name] for name in first} == pytest.approx(first)


# braindecode 1.8.1, datautil/serialization.py: an argument that pandas 3.1 deprecates, and files left to be closed.
@pytest.mark.filterwarnings("ignore:The 'convert_dates' keyword in read_json")
@pytest.mark.filterwarnings("ignore:Exception ignored in. <_io:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_pipe_and_preprocessor(loud, model, tmp_path):
    """The same annotations by .pipe and by Braindecode's Preprocessor, surviving a save and a lazy reload."""
    direct = labram_annotate(loud, _detector())
    piped = loud.pipe(labram_annotate, model=_detector())
    np.testing.assert_allclose(piped.annotations.onset, direct.annotations.onset)
    dataset = BaseConcatDataset([RawDataset(loud.copy(), {"subject": 1})])
    preprocess(dataset, [Preprocessor(labram_annotate, apply_on_array=False, model=_detector())])
    np.testing.assert_allclose(dataset.datasets[0].raw.annotations.onset, direct.annotations.onset)

    # Braindecode writes the arguments as JSON beside what it saves: the model is given by its file.
    checkpoint = str(tmp_path / "model.safetensors")
    save_checkpoint(model.eval(), checkpoint)
    step = Preprocessor(labram_annotate, apply_on_array=False, model=checkpoint, threshold=0.4)
    direct = labram_annotate(loud, checkpoint, threshold=0.4)
    assert "event" in direct.annotations.description
    dataset = BaseConcatDataset([RawDataset(loud.copy(), {"subject": 1})])
    saved = preprocess(dataset, [step], save_dir=str(tmp_path / "saved"), overwrite=True)
    reloaded = saved.datasets[0].raw
    assert not reloaded.preload
    np.testing.assert_allclose(reloaded.annotations.onset, direct.annotations.onset, atol=1e-3)
    confidences = [[extras.get("confidence") for extras in raw.annotations.extras] for raw in (reloaded, direct)]
    assert confidences[0] == pytest.approx(confidences[1], abs=1e-5)


def test_a_detector_needs_half_of_its_channels(loud):
    """Some channels may be missing; most may not, unless the user says so."""
    _, scores = annotate_events(loud.copy().pick(loud.ch_names[:12]), _detector())
    assert scores.report.missing_channels == CHANNELS[12:]
    few = loud.copy().pick(loud.ch_names[:9])
    with pytest.raises(ContractError, match="9 of the 19 channels"):
        annotate_events(few, _detector())
    assert annotate_events(few, _detector(), channels="recording")[1].analysed.all()


def test_annotations_of_a_file_with_gaps_are_kept_at_their_signal(write_edf):
    """MNE leaves annotations of an EDF+D file at the time of the clock, and drops those beyond the data."""
    own = {2: [(2.0, 1.0, "early")], 13: [(43.0, 4.0, "late")]}
    fname = write_edf(seconds=20, kind="EDF+D", onsets=[*range(10), *range(40, 50)], annotations=own)
    annotated = labram_annotate(fname, _detector(), channels="recording", gaps="split")
    again = labram_annotate(annotated, _detector(), channels="recording", gaps="split")
    for raw in (annotated, again):
        kept = [(a["description"], a["onset"], a["duration"]) for a in raw.annotations if not a["extras"]]
        assert [row for row in kept if row[0] != NOT_ANALYSED] == [("early", 2.0, 1.0), ("late", 13.0, 4.0)]


def test_scores_can_be_thresholded_again(loud):
    """``annotate_events`` follows MNE's idiom, and a threshold needs no model."""
    annotations, scores = annotate_events(loud, _detector(), smoothing=1)
    assert isinstance(annotations, mne.Annotations)
    assert np.asarray(scores).shape == (2, 120)
    np.testing.assert_allclose(np.asarray(scores).sum(axis=0), 1, atol=1e-6)
    again = labram_annotate(loud, _detector(), 0.9, smoothing=1).annotations
    np.testing.assert_allclose(scores.annotations(0.9, smoothing=1).onset, again.onset[again.description == "event"])


def test_unusable_seconds_are_not_analysed(loud):
    """NaN in the middle of the event splits it; the seconds are marked and have no score."""
    loud._data[:, 50 * 200 : 52 * 200] = np.nan
    annotated = labram_annotate(loud, _detector(), smoothing=1)
    _, scores = annotate_events(loud, _detector(), smoothing=1)
    assert np.isnan(scores.probabilities[:, 50:52]).all()
    missing = annotated.annotations[annotated.annotations.description == NOT_ANALYSED]
    covered = [(a["onset"] - loud.first_time, a["duration"]) for a in missing]
    assert any(start <= 50 and start + length >= 52 for start, length in covered)
    assert (annotated.annotations.description == "event").sum() == 2


def test_lazy_file_equals_preloaded(loud, tmp_path):
    """A file read in blocks gives the scores of the recording in memory."""
    loud.save(tmp_path / "x_raw.fif", fmt="double", verbose="error")
    lazy = mne.io.read_raw_fif(tmp_path / "x_raw.fif", preload=False, verbose="error")
    _, one = annotate_events(lazy, _detector())
    _, two = annotate_events(tmp_path / "x_raw.fif", _detector())
    _, three = annotate_events(loud, _detector())
    np.testing.assert_allclose(one.probabilities, three.probabilities, atol=1e-5)
    np.testing.assert_allclose(two.probabilities, three.probabilities, atol=1e-5)
    assert not lazy.preload


def test_embed_shapes(model, loud):
    """Shapes per pooling; a missing channel is no obstacle; overlapping windows on request."""
    assert labram_embed(loud, model).shape == (30, 40)
    assert labram_embed(loud, model, "cls").shape == (30, 40)
    assert labram_embed(loud, model, "channels", window=2).shape == (60, 19, 40)
    _, report = labram_embed(loud.copy().crop(0, 59.5), model, return_report=True)
    assert any("last 3.5 s" in note for note in report.notes)
    fewer = loud.copy().drop_channels(["Cz", "Pz"])
    out, report = labram_embed(fewer, model, "tokens", stride=2, return_report=True)
    assert out.shape == (59, 17, 4, 40)
    assert report.ch_names == [name for name in CHANNELS if name not in ("CZ", "PZ")]


def test_tokenize(tokenizer, loud):
    """Codes per window, channel and patch; the same on one thread and two; -1 where the signal is unusable."""
    codes = labram_tokenize(loud, tokenizer)
    assert codes.shape == (30, 19, 4)
    assert codes.dtype == np.int64
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if threads > 1 else 2)
        np.testing.assert_array_equal(labram_tokenize(loud, tokenizer), codes)
    finally:
        torch.set_num_threads(threads)
    loud._data[:, 8 * 200 : 9 * 200] = np.nan
    missing = labram_tokenize(loud, tokenizer)
    assert np.flatnonzero((missing == -1).all(axis=(1, 2))).tolist() == [2]
    assert (missing == -1).sum() == 19 * 4
    # A tokenizer is used on channels and not on their order.
    shuffled = loud.copy().reorder_channels(loud.ch_names[::-1])
    again = labram_tokenize(shuffled, tokenizer, channels="model")
    np.testing.assert_array_equal(again, missing)


def test_epochs_and_evoked(model, tokenizer, loud):
    """Every epoch is one window; the last part of a patch is left out and reported."""
    epochs = mne.make_fixed_length_epochs(loud, 2.5, preload=True, verbose="error")
    out, report = labram_embed(epochs, model, return_report=True)
    assert out.shape == (48, 40)
    assert any("0.5 s" in line for line in report.warnings)
    assert epochs.pipe(labram_tokenize, tokenizer).shape == (48, 19, 2)
    assert epochs.average(picks="eeg").pipe(labram_embed, model).shape == (1, 40)


def test_a_bipolar_recording_is_not_fed_to_a_referential_model(model, shared_data):
    """The montages are told apart; the sentence says so."""
    raw = mne.io.read_raw_edf(shared_data / "chbmit" / "chb01_16_preictal.edf", verbose="error")
    with pytest.raises(ContractError, match="bipolar"):
        labram_embed(raw, model)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"threshold": 1.5}, "threshold"),
        ({"stride": 0}, "stride must be a positive number"),
        ({"stride": np.inf}, "stride must be a positive number"),
        ({"stride": 5.0, "window": 4.0}, r"^stride \(5 s\) is longer than the window \(4 s\)"),
        ({"window": np.nan}, "window must be a positive number"),
        ({"device": "nowhere"}, "device='nowhere' cannot be used"),
        ({"class_names": ["a", "a"]}, "differ from each other"),
        ({"class_names": ["a"]}, "1 names"),
        ({"background": "x"}, "background"),
        ({"background": 2}, "background"),
        ({"precision": "fp8"}, "precision"),
        ({"channels": "some"}, "channels"),
        ({"window": 17.0}, "at most 16"),
        ({"window": 0.5}, "one patch"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_wrong_arguments(loud, change, match):
    """Each is one sentence, before work starts."""
    with pytest.raises(ValueError, match=match) as error:
        labram_annotate(loud, _detector(), **change)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"stride": "1"}, "stride must be a number"),
        ({"class_names": "ab"}, "got one string"),
        ({"background": 0.5}, "background must be the index or the name"),
        ({"batch_size": 2.5}, "batch_size must be a whole number"),
    ],
)
def test_wrong_types(loud, change, match):
    """Nothing is rounded or taken apart to make it fit."""
    with pytest.raises(TypeError, match=match):
        labram_annotate(loud, _detector(), **change)


def test_a_model_without_a_window_needs_one(loud):
    """The window length is Braindecode's n_times, which may be left open."""
    torch.manual_seed(0)
    model = LabramForClassification(ch_names=CHANNELS, n_outputs=2, **SMALL)
    for verb in (labram_embed, labram_annotate):
        with pytest.raises(ValueError, match="pass window, its length in seconds"):
            verb(loud, model)
    assert labram_embed(loud, model, window=3).shape == (40, 40)


def test_wrong_objects(model, tokenizer, loud):
    """Epochs cannot be annotated, a tokenizer has no classes, a plain module is no model."""
    with pytest.raises(TypeError, match="path is needed, got ndarray"):
        labram_embed(loud.get_data(), model)
    epochs = mne.make_fixed_length_epochs(loud, 4, preload=True, verbose="error")
    with pytest.raises(TypeError, match="continuous"):
        labram_annotate(epochs, _detector())
    with pytest.raises(TypeError, match="EEGClassifier"):
        labram_embed(loud, nn.Linear(2, 2))
    with pytest.raises(ContractError, match="no classes"):
        labram_annotate(loud, tokenizer)
    with pytest.raises(TypeError, match="no codes"):
        labram_tokenize(loud, model)
    with pytest.raises(ContractError, match="one patch"):
        labram_embed(loud.copy().crop(0, 0.5), model)


def test_deterministic_on_one_and_two_threads(model, loud):
    """Same input, weights and precision: same numbers."""
    threads = torch.get_num_threads()
    _, first = annotate_events(loud, model, precision="float32")
    try:
        torch.set_num_threads(1 if threads > 1 else 2)
        _, second = annotate_events(loud, model, precision="float32")
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_allclose(first.probabilities, second.probabilities, atol=1e-6)
    assert list(first.annotations().onset) == list(second.annotations().onset)


def test_memory_does_not_grow_with_the_recording(tmp_path):
    """The peak of NumPy's memory over 40 minutes is that over 10 minutes, for a file read lazily."""
    peaks = []
    for minutes in (10, 40):
        raw = simulate_recording(60.0 * minutes, [], sfreq=200.0)
        fname = tmp_path / f"{minutes}_raw.fif"
        raw.save(fname, verbose="error")
        del raw
        tracemalloc.start()
        annotate_events(fname, _detector(), stride=4.0)
        peaks.append(tracemalloc.get_traced_memory()[1] / 1e6)
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 10, peaks
