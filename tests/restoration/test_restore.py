"""``gram_restore``: what is named changes and nothing else; what it changes into is close to what was there."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from mne_labram.restoration.hidden import eeg_channels
from mne_labram.restoration.predictors import ChannelPredictor, SplinePredictor
from mne_labram.restoration.restore import RESTORED, gram_restore
from mne_labram.signal.contract import ContractError

EIGHT = ("Fp1", "Fp2", "F3", "F4", "C3", "C4", "O1", "O2")


@pytest.fixture(scope="module")
def recording(shared_data: Path) -> mne.io.BaseRaw:
    """Subject 20 of eegmat at rest: 19 electrodes, 182 s at 500 Hz; loaded."""
    raw = mne.io.read_raw(shared_data / "eegmat" / "Subject20_1.edf", preload=True, verbose="error")
    return raw.drop_channels(["EEG A2-A1", "ECG ECG"])


def _error(restored: np.ndarray, raw: mne.io.BaseRaw, name: str, mask: np.ndarray) -> tuple[float, float]:
    """Normalised squared error and ratio of amplitudes, in the reference of the mean of the other channels."""
    pick = raw.ch_names.index(name)
    data = raw.get_data()
    reference = np.delete(data, pick, axis=0).mean(axis=0)
    truth, guess = (data[pick] - reference)[mask], (restored - reference)[mask]
    truth, guess = truth - truth.mean(), guess - guess.mean()
    return ((guess - truth) ** 2).sum() / (truth**2).sum(), guess.std() / truth.std()


def _mask(raw: mne.io.BaseRaw, segments: list[tuple]) -> np.ndarray:
    mask = np.zeros(raw.n_times, dtype=bool)
    for onset, duration, *_ in segments:
        mask[int(round(onset * raw.info["sfreq"])) : int(round((onset + duration) * raw.info["sfreq"]))] = True
    return mask


SEGMENTS = [(20.0 + 12 * number, 2.0) for number in range(12)]


def test_the_calibrated_ridge_beats_splines_and_knows_how_well(recording: mne.io.BaseRaw) -> None:
    name = "EEG F3"
    spoilt = recording.copy()
    mask = _mask(recording, SEGMENTS)
    spoilt[name, :] = np.where(mask, 5e-3, recording.get_data(picks=name))
    found = {}
    for method in ("spline", "ridge"):
        out, report = gram_restore(spoilt, name, SEGMENTS, method=method, return_report=True)
        error, ratio = found[method] = _error(out.get_data(picks=name)[0], recording, name, mask)
        rms = np.sqrt(np.mean((out.get_data(picks=name)[0] - recording.get_data(picks=name)[0])[mask] ** 2))
        expected = np.sqrt(np.nanmean(report.uncertainty**2))
        assert rms / 1.3 < expected < 1.3 * rms
    assert found["ridge"][0] < 0.4 < 0.8 < found["spline"][0]
    # The best guess of what is known up to an error e has the amplitude sqrt(1 - e): no more, and not much less.
    error, ratio = found["ridge"]
    assert ratio == pytest.approx(np.sqrt(1 - error), abs=0.1)


def test_a_channel_that_was_never_good_is_what_mne_interpolates(recording: mne.io.BaseRaw) -> None:
    raw = recording.copy().filter(1.0, None, verbose="error")
    mne.rename_channels(raw.info, {name: name.removeprefix("EEG ") for name in raw.ch_names})
    raw.set_montage("colin27_1020" if "colin27_1020" in mne.channels.get_builtin_montages() else "standard_1020")
    raw.info["bads"] = ["Pz", "C3"]
    # Where the mean of the good channels is the reference, there is nothing to settle between the two.
    good = [name for name in raw.ch_names if name not in raw.info["bads"]]
    raw.set_eeg_reference(good, verbose="error")
    out, report = gram_restore(raw, method="spline", calibrate=False, return_report=True)
    theirs = raw.copy().interpolate_bads(reset_bads=False, method={"eeg": "spline"}, verbose="error")
    for name in ("Pz", "C3"):
        ours, mnes = out.get_data(picks=name)[0], theirs.get_data(picks=name)[0]
        assert np.corrcoef(ours, mnes)[0, 1] > 0.999
        # Medians of 20 s are taken off the channels before.
        assert np.std(ours - mnes) < 0.03 * np.std(mnes)
    assert np.isnan(report.uncertainty).all()
    ridge, report = gram_restore(raw, method="ridge", return_report=True)
    assert_allclose(ridge.get_data(picks="Pz"), out.get_data(picks="Pz"), atol=1e-9)
    assert any("Nothing good was recorded of C3, Pz" in note or "Pz, C3" in note for note in report.notes)


def _simulated(n_seconds: float = 30.0, seed: int = 0) -> mne.io.RawArray:
    """Eight electrodes over three sources and noise of their own."""
    rng = np.random.default_rng(seed)
    n_times = int(100 * n_seconds)
    sources = np.cumsum(rng.normal(size=(3, n_times)), axis=1)
    sources -= np.linspace(0, 1, n_times) * sources[:, -1:]
    x = rng.normal(size=(8, 3)) @ sources + 2.0 * rng.normal(size=(8, n_times))
    return mne.io.RawArray(1e-6 * x, mne.create_info(list(EIGHT), 100.0, "eeg"), verbose="error")


def _bits(inst: mne.io.BaseRaw | mne.BaseEpochs) -> np.ndarray:
    return np.ascontiguousarray(inst.get_data()).view(np.int64)


@settings(max_examples=15)
@given(
    segments=st.lists(
        st.tuples(
            st.floats(0.0, 27.0),
            st.floats(0.02, 3.0),
            st.lists(st.sampled_from(EIGHT), min_size=1, max_size=2, unique=True),
        ),
        min_size=1,
        max_size=3,
    ),
    method=st.sampled_from(["spline", "ridge"]),
    crossfade=st.sampled_from([0.0, 0.2]),
    broken=st.booleans(),
)
def test_nothing_changes_but_what_is_named(segments: list, method: str, crossfade: float, broken: bool) -> None:
    raw = _simulated()
    touched = np.zeros((8, raw.n_times), dtype=bool)
    for onset, duration, names in segments:
        touched[[EIGHT.index(name) for name in names]] |= _mask(raw, [(onset, duration)])
    if broken:
        raw._data[touched] = np.nan
        raw._data[7, 1000:1100] = np.nan
    before = _bits(raw)
    out, report = gram_restore(raw, "all", segments, method=method, crossfade=crossfade, return_report=True)
    assert_array_equal(_bits(raw), before)
    assert len(raw.annotations) == 0
    assert_array_equal(_bits(out)[~touched], before[~touched])
    assert np.isfinite(out.get_data()[touched]).all()
    assert touched.sum() == 0 or (_bits(out)[touched] != before[touched]).mean() > 0.99
    assert report.seconds == pytest.approx(touched.sum() / 100.0)
    covered = np.zeros_like(touched)
    for each in out.annotations:
        assert each["description"] == RESTORED
        rows = [EIGHT.index(name) for name in each["ch_names"]]
        covered[rows] |= _mask(raw, [(each["onset"], each["duration"])])
    assert_array_equal(covered, touched)


def test_reading_from_the_disk_gives_the_same_and_loads_nothing(tmp_path: Path) -> None:
    raw = _simulated(150.0)
    raw.info["bads"] = ["C3"]
    raw.save(tmp_path / "a_raw.fif", fmt="double", verbose="error")
    segments = [(10.0, 3.0, ["F3"]), (40.0, 100.0, ["Fp1", "O2"])]
    loaded = mne.io.read_raw(tmp_path / "a_raw.fif", preload=True, verbose="error")
    expected = gram_restore(loaded, "bads", segments, method="ridge")
    out = gram_restore(tmp_path / "a_raw.fif", "bads", segments, method="ridge")
    assert not out.preload
    assert_array_equal(out.get_data(), expected.get_data())
    assert_array_equal(
        out.get_data(picks=["O2", "F3"], start=3950, stop=4200), expected.get_data(["O2", "F3"], 3950, 4200)
    )
    assert out.annotations == expected.annotations
    # What MNE does with a Raw works on it.
    cropped = out.copy().crop(35.0, 60.0).pick(["O1", "O2", "C4"])
    assert_array_equal(cropped.get_data(), expected.copy().crop(35.0, 60.0).pick(["O1", "O2", "C4"]).get_data())
    out.save(tmp_path / "b_raw.fif", fmt="double", verbose="error")
    again = mne.io.read_raw(tmp_path / "b_raw.fif", verbose="error")
    assert_allclose(again.get_data(), expected.get_data(), rtol=1e-12)
    assert list(again.annotations.ch_names) == list(expected.annotations.ch_names)
    projected = out.copy().set_eeg_reference("average", projection=True, verbose="error").apply_proj(verbose="error")
    wanted = expected.copy().set_eeg_reference("average", projection=True, verbose="error").apply_proj(verbose="error")
    assert_allclose(projected.get_data(), wanted.get_data(), atol=1e-15)


def test_two_hours_are_not_loaded(tmp_path: Path) -> None:
    n_seconds = 7200
    piece = _simulated(60.0).get_data()
    info = mne.create_info(list(EIGHT), 100.0, "eeg")
    raw = mne.io.RawArray(np.tile(piece, n_seconds // 60), info, verbose="error")
    raw.save(tmp_path / "long_raw.fif", verbose="error")
    size = raw.get_data().nbytes
    del raw
    # Once before, for what is imported and kept.
    gram_restore(_simulated(60.0), ["O1"], method="ridge")
    tracemalloc.start()
    try:
        out = gram_restore(tmp_path / "long_raw.fif", ["O1"], method="ridge", segments=[(60.0, 1200.0)])
        assert tracemalloc.get_traced_memory()[1] < size / 2
    finally:
        tracemalloc.stop()
    assert not out.preload
    assert np.isfinite(out.get_data("O1", 0, 10000)).all()


def test_long_stretches_have_no_seams_inside(recording: mne.io.BaseRaw) -> None:
    """A restoration in pieces is that of the whole."""
    name = "EEG F3"
    bad = recording.copy()
    bad.info["bads"] = [name]
    whole = gram_restore(bad, method="spline").get_data(picks=name)
    part = gram_restore(bad.copy().crop(30.0, 100.0), method="spline").get_data(picks=name)
    sfreq = int(recording.info["sfreq"])
    assert_allclose(whole[:, 35 * sfreq : 95 * sfreq], part[:, 5 * sfreq : 65 * sfreq], atol=3e-6)


def test_seams_are_continuous(recording: mne.io.BaseRaw) -> None:
    name = "EEG F3"
    offset = recording.copy()
    # An electrode with an offset and half of the gain of what is predicted.
    x = offset.get_data(picks=name)
    offset[name, :] = 0.5 * x + 1e-3
    out, report = gram_restore(offset, name, SEGMENTS, method="spline", return_report=True)
    y = out.get_data(picks=name)[0]
    steps = np.abs(np.diff(y))
    for onset, duration in SEGMENTS:
        for edge in (int(500 * onset), int(500 * (onset + duration))):
            assert steps[edge - 1] < 3 * np.quantile(np.abs(np.diff(x[0])), 0.99)
    mask = _mask(recording, SEGMENTS)
    assert y[mask].mean() == pytest.approx(1e-3, abs=5e-6)
    whole = gram_restore(recording, name, SEGMENTS, method="spline", return_report=True)[1]
    gains = [np.median([segment.gain for segment in each.segments]) for each in (report, whole)]
    assert gains[0] < 0.75 * gains[1]


def test_offsets_of_electrodes_do_not_leak(recording: mne.io.BaseRaw) -> None:
    """Amplifiers that record direct current have offsets a thousand times as large as EEG."""
    name, mask = "EEG C4", _mask(recording, SEGMENTS)
    shifted = recording.copy()
    offsets = np.random.default_rng(1).normal(0, 2e-2, len(shifted.ch_names))
    shifted._data += offsets[:, None]
    plain = gram_restore(recording, name, SEGMENTS, method="ridge").get_data(picks=name)[0][mask]
    other = gram_restore(shifted, name, SEGMENTS, method="ridge").get_data(picks=name)[0][mask]
    assert_allclose(other - offsets[recording.ch_names.index(name)], plain, atol=5e-7)


def test_bad_annotations_and_what_they_name() -> None:
    raw = _simulated()
    raw.set_annotations(
        mne.Annotations(
            [2, 5, 8, 12], [1, 1, 1, 1], ["BAD_pop", "BAD_", "blink", "bad"], ch_names=[["F3"], [], [], ["O1", "O2"]]
        )
    )
    out, report = gram_restore(raw, segments="bad annotations", method="ridge", return_report=True)
    assert sorted((segment.ch_name, segment.onset) for segment in report.segments) == [
        ("F3", 2),
        ("O1", 12),
        ("O2", 12),
    ]
    assert any("5 s was left as it is" in note for note in report.notes)
    assert list(out.annotations.description).count(RESTORED) == 2
    raw.info["bads"] = ["C4"]
    _, report = gram_restore(raw, segments="bad annotations", method="spline", return_report=True)
    assert ("C4", 5.0) in {(segment.ch_name, segment.onset) for segment in report.segments}
    _, report = gram_restore(raw, ["O1"], "bad annotations", method="spline", return_report=True)
    assert {(segment.ch_name, segment.onset) for segment in report.segments} == {("O1", 5.0), ("O1", 12.0)}
    again = gram_restore(raw, segments="bad annotations", method="spline", reset_bads=True)
    assert "BAD_pop" not in again.annotations.description
    assert again.info["bads"] == ["C4"]
    assert gram_restore(raw, method="spline", reset_bads=True).info["bads"] == []
    assert gram_restore(raw, method="spline").info["bads"] == raw.info["bads"] == ["C4"]
    assert RESTORED not in gram_restore(raw, method="spline", annotate=False).annotations.description


@pytest.mark.parametrize("dated", [False, True])
def test_times_count_from_the_first_sample(dated: bool) -> None:
    raw = _simulated()
    if dated:
        raw.set_meas_date(1_000_000_000)
    raw.crop(10.0)
    plain = gram_restore(raw, "F3", [(5.0, 1.0)], method="spline")
    assert_array_equal(plain.get_data()[2, 500:600] != raw.get_data()[2, 500:600], True)
    annotations = mne.Annotations(5.0, 1.0, "mine", ch_names=[["F3"]])
    assert_array_equal(gram_restore(raw, "F3", annotations, method="spline").get_data(), plain.get_data())
    raw.set_annotations(mne.Annotations(5.0, 1.0, "BAD", ch_names=[["F3"]]))
    marked = gram_restore(raw, segments="bad annotations", method="spline")
    assert_array_equal(marked.get_data(), plain.get_data())
    by_restored = marked.annotations[marked.annotations.description == RESTORED]
    assert by_restored.onset[0] == pytest.approx(marked.annotations.onset[0])
    if dated:
        assert_array_equal(gram_restore(raw, "F3", raw.annotations, method="spline").get_data(), plain.get_data())


def test_hundreds_of_segments(recording: mne.io.BaseRaw) -> None:
    segments = [(1.0 + 0.04 * number, 0.02, [recording.ch_names[number % 19]]) for number in range(100)]
    out, report = gram_restore(recording, segments=segments, method="ridge", return_report=True)
    assert len(report.segments) == 100
    changed = _bits(out) != _bits(recording)
    assert changed.sum() == pytest.approx(100 * 10, abs=20)
    error = np.sum((out.get_data() - recording.get_data())[changed] ** 2) / np.sum(recording.get_data()[changed] ** 2)
    assert error < 0.3


def test_thousands_of_segments_are_joined_without_a_prediction_for_each(recording: mne.io.BaseRaw) -> None:
    class Counting(SplinePredictor):
        calls = 0

        def predict(self, x: np.ndarray, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            self.calls += 1
            return super().predict(x, hidden)

    raw = recording.copy().crop(0, 60)
    raw["EEG F3", :] = raw["EEG F3", :][0] + 3e-4  # an offset of its own, as electrodes have
    channels = eeg_channels(raw.info)
    few, many = (
        [(1.0 + 0.4 * number, 0.1, ["EEG F3"] if number % 2 else ["EEG F3", "EEG O1"]) for number in range(count)]
        for count in (30, 140)
    )
    pick, errors = raw.ch_names.index("EEG F3"), []
    truth = raw.get_data()[pick]
    for segments in (few, many):
        predictor = Counting(channels.names, channels.positions, raw.info["sfreq"])
        out, report = gram_restore(raw, segments=segments, method=predictor, return_report=True)
        assert len(report.segments) == 1.5 * len(segments)
        changed = _mask(raw, few)
        errors.append(np.sqrt(np.mean((out.get_data()[pick] - truth)[changed] ** 2)))
        # From one sample to the next it is no rougher where it is joined than EEG is.
        steps = np.abs(np.diff(out.get_data()[pick]))[np.flatnonzero(np.diff(changed.astype(int)))]
        assert np.median(steps) < 2 * np.median(np.abs(np.diff(truth)))
    assert predictor.calls <= 2
    assert errors[1] < 1.3 * errors[0]


def test_epochs(recording: mne.io.BaseRaw) -> None:
    epochs = mne.make_fixed_length_epochs(recording, 8.0, preload=True, verbose="error")
    before = _bits(epochs)
    mask = np.zeros((len(epochs), len(epochs.ch_names)), dtype=bool)
    mask[3, 2] = mask[7, [0, 5]] = True
    out, report = gram_restore(epochs, "all", mask, method="ridge", return_report=True)
    assert_array_equal(_bits(epochs), before)
    assert_array_equal((_bits(out) != before).any(axis=2), mask)
    assert report.uncertainty.shape == (len(epochs), 3, 8)
    assert_array_equal(np.isfinite(report.uncertainty).any(axis=2).sum(), 3)
    error = [
        np.sum((out.get_data()[e, c] - epochs.get_data()[e, c]) ** 2) / np.sum(epochs.get_data()[e, c] ** 2)
        for e, c in zip(*np.nonzero(mask), strict=True)
    ]
    assert np.mean(error) < 0.35
    out = gram_restore(epochs, segments=[(2, 1.0, 2.0, ["EEG F3"])], method="ridge")
    changed = _bits(out) != before
    assert changed[2, epochs.ch_names.index("EEG F3"), 500:1500].mean() > 0.99
    assert changed.sum() == changed[2, epochs.ch_names.index("EEG F3"), 500:1500].sum()


def test_annotations_of_epochs() -> None:
    raw = _simulated()
    raw.set_annotations(mne.Annotations([2.5, 11.0], [1.0, 2.0], ["BAD_pop", "BAD"], ch_names=[["F3"], ["O1"]]))
    epochs = mne.make_fixed_length_epochs(raw, 4.0, reject_by_annotation=False, preload=True, verbose="error")
    out = gram_restore(epochs, segments="bad annotations", method="spline")
    changed = _bits(out) != _bits(epochs)
    where = np.zeros_like(changed)
    where[0, 2, 250:350] = where[2, 6, 300:400] = where[3, 6, 0:100] = True
    assert_array_equal(changed & ~where, False)
    assert changed[where].mean() > 0.99


def test_a_predictor_of_ones_own() -> None:
    class Zeros:
        def observe(self, x: np.ndarray, hidden: np.ndarray) -> None:
            self.seen = x.shape

        def predict(self, x: np.ndarray, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return np.where(hidden, 0.0, x), np.where(hidden, 2.0, 0.0)

    predictor = Zeros()
    assert isinstance(predictor, ChannelPredictor)
    raw = _simulated()
    out, report = gram_restore(raw, "F3", method=predictor, return_report=True)
    assert report.method == "Zeros"
    assert predictor.seen[0] == 8
    assert_allclose(report.uncertainty, 2e-6)
    assert_allclose(out.get_data("F3"), np.median(raw.get_data().ravel()), atol=1e-4)


def _other_types(*names: str) -> mne.io.BaseRaw:
    return _simulated().set_channel_types({name: "eog" for name in names}, verbose="error", on_unit_change="ignore")


def _renamed(*names: str) -> mne.io.BaseRaw:
    return _simulated().rename_channels({name: f"E{number}" for number, name in enumerate(names)})


def _bipolar() -> mne.io.BaseRaw:
    pairs = [("Fp1", "F3"), ("F3", "C3"), ("C3", "O1"), ("Fp2", "F4"), ("F4", "C4"), ("C4", "O2")]
    x = _simulated().get_data()
    data = np.stack([x[EIGHT.index(one)] - x[EIGHT.index(other)] for one, other in pairs])
    info = mne.create_info([f"{one}-{other}" for one, other in pairs], 100.0, "eeg")
    return mne.io.RawArray(data, info, verbose="error")


def _bad(*names: str) -> mne.io.BaseRaw:
    raw = _simulated()
    raw.info["bads"] = list(names)
    return raw


def _nan(rows: slice) -> mne.io.BaseRaw:
    raw = _simulated()
    raw._data[rows, 1000:1010] = np.nan
    return raw


@pytest.mark.parametrize(
    ("raw", "arguments", "match"),
    [
        (_bad(*EIGHT), {}, "no channel is visible"),
        (_bad(*EIGHT[1:]), {}, "one channel is visible"),
        (_bad(), {}, "No channel is marked bad"),
        (_bad(), {"picks": "Fz"}, "no channel 'Fz'"),
        (_bad(), {"picks": []}, "names no channel"),
        (_bad(), {"picks": "all"}, "at once"),
        (_other_types("Fp1"), {"picks": "Fp1"}, "type 'eog'"),
        (_other_types(*EIGHT), {}, "no EEG channel"),
        (_renamed(*EIGHT), {"picks": "E1"}, "known position"),
        (_renamed("Fp1"), {"picks": "E0"}, "known position"),
        (_bipolar(), {"picks": "F3-C3"}, "bipolar montage"),
        (_bad("O1"), {"segments": [(29.0, 2.0)]}, "outside the recording"),
        (_bad("O1"), {"segments": [(-1.0, 2.0)]}, "outside the recording"),
        (_bad("O1"), {"segments": [(5.0, 0.0)]}, "above 0"),
        (_bad("O1"), {"segments": [(float("nan"), 1.0)]}, "finite"),
        (_bad("O1"), {"segments": []}, "segments is empty"),
        (_bad("O1"), {"segments": "bad annotations"}, "no annotation that begins with BAD"),
        (_bad("O1"), {"segments": "blinks"}, "got 'blinks'"),
        (_bad(), {"segments": [(5.0, 1.0)]}, "none is picked"),
        (_bad(), {"segments": [(5.0, 1.0, ["X1"])]}, "no channel 'X1'"),
        (_bad(), {"picks": ["O1"], "segments": [(5.0, 1.0, ["O2"])]}, "picks does not"),
        (_bad("O1"), {"method": "ridge", "calibrate": False}, "knows nothing but"),
        (_bad("O1"), {"method": "kriging"}, "no method"),
        (_bad("O1"), {"crossfade": -0.1}, "crossfade"),
        (_nan(slice(0, 7)), {"picks": "O2"}, "fewer than 2 channels hold numbers"),
    ],
)
def test_bad_input_is_one_sentence(raw: mne.io.BaseRaw, arguments: dict, match: str) -> None:
    before, bads = _bits(raw), list(raw.info["bads"])
    with pytest.raises(ValueError, match=match) as caught:
        gram_restore(raw, **({"method": "spline"} | arguments))
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
    assert_array_equal(_bits(raw), before)
    assert raw.info["bads"] == bads


def test_what_is_no_recording() -> None:
    with pytest.raises(TypeError, match="Evoked"):
        gram_restore(mne.EvokedArray(_simulated().get_data(), _simulated().info), "O1", method="spline")
    with pytest.raises(ContractError, match="no file"):
        gram_restore("nowhere.edf", "O1", method="spline")
    with pytest.raises(TypeError, match="observe and predict"):
        gram_restore(_simulated(), "O1", method=SplinePredictor)
    with pytest.raises(TypeError, match="tuple"):
        gram_restore(_simulated(), "O1", [5.0])
    epochs = mne.make_fixed_length_epochs(_simulated(), 4.0, preload=True, verbose="error")
    with pytest.raises(ContractError, match="no epoch 9"):
        gram_restore(epochs, "O1", [(9, 0.0, 1.0)], method="spline")
    with pytest.raises(ContractError, match="outside epoch 1"):
        gram_restore(epochs, "O1", [(1, 3.5, 1.0)], method="spline")
    with pytest.raises(ContractError, match="shape"):
        gram_restore(epochs, "O1", np.zeros((2, 8), dtype=bool), method="spline")
    with pytest.raises(TypeError, match="set_annotations"):
        gram_restore(epochs, "O1", mne.Annotations(1.0, 1.0, "BAD"), method="spline")
    with pytest.raises(ContractError, match="of epoch 0"):
        gram_restore(epochs, EIGHT, method="spline")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"picks": None}, TypeError, "picks must be 'bads', 'all' or names of channels, got None"),
        ({"picks": 3}, TypeError, "picks must be 'bads', 'all' or names of channels, got 3"),
        ({"picks": "eeg"}, ContractError, "picks='all' means every EEG channel"),
        ({"picks": ["C3"], "crossfade": "a"}, ValueError, "crossfade must be a number of seconds, 0 or more, got 'a'"),
        ({"picks": ["C3"], "segments": [("a", "b")]}, TypeError, "a tuple .onset, duration. of numbers"),
    ],
)
def test_arguments_of_a_wrong_kind(options: dict, error: type, words: str) -> None:
    info = mne.create_info(list(EIGHT), 100.0, "eeg")
    raw = mne.io.RawArray(1e-5 * np.random.default_rng(0).standard_normal((8, 1000)), info, verbose="error")
    with pytest.raises(error, match=words) as found:
        gram_restore(raw, method="ridge", **options)
    assert "\n" not in str(found.value)


def test_masks_of_epochs_and_a_wrong_unit() -> None:
    info = mne.create_info(list(EIGHT), 100.0, "eeg")
    x = np.random.default_rng(0).standard_normal((3, 8, 400))
    epochs = mne.EpochsArray(1e-5 * x, info, verbose="error")
    with pytest.raises(ContractError, match="the mask marks no channel of any epoch"):
        gram_restore(epochs, "all", np.zeros((3, 8), bool), method="ridge")
    with pytest.raises(TypeError, match="must be of bool, got int64"):
        gram_restore(epochs, "all", np.zeros((3, 8), int), method="ridge")
    raw = mne.io.RawArray(10.0 * np.concatenate(list(x), axis=1), info, verbose="error")
    _, report = gram_restore(raw, "all", [(5.0, 2.0, ["C3"])], method="ridge", return_report=True)
    assert any("the unit of the recording is probably wrong" in note for note in report.notes)
    _, fine = gram_restore(
        mne.io.RawArray(1e-5 * np.concatenate(list(x), axis=1), info, verbose="error"),
        "all",
        [(5.0, 2.0, ["C3"])],
        method="ridge",
        return_report=True,
    )
    assert not any("unit" in note for note in fine.notes)


@pytest.mark.parametrize("method", ["spline", "ridge", "gram"])
def test_nothing_is_known_of_the_error_where_the_recording_is_flat(method: str) -> None:
    info = mne.create_info(list(EIGHT), 100.0, "eeg")
    raw = mne.io.RawArray(np.full((8, 3000), 2e-5), info, verbose="error")
    raw.set_montage("standard_1020")
    out, report = gram_restore(raw, "C3", [(10.0, 4.0)], method=method, return_report=True)
    assert_allclose(out.get_data(), 2e-5, rtol=1e-6)
    assert np.isnan(report.uncertainty).all()
    assert any("The channels that C3 is restored from are flat at times" in note for note in report.notes)
    assert "expected error" not in str(report).split("Note")[0]


def test_heads_of_another_size_and_place_are_brought_onto_the_template(recording: mne.io.BaseRaw) -> None:
    raw = recording.copy().crop(0, 10)
    mne.rename_channels(raw.info, {name: name.removeprefix("EEG ") for name in raw.ch_names})
    raw.set_montage("colin27_1020" if "colin27_1020" in mne.channels.get_builtin_montages() else "standard_1020")
    # Names must not tell where the electrodes are.
    mne.rename_channels(raw.info, {name: f"E{row}" for row, name in enumerate(raw.ch_names)})
    other = raw.copy()
    for each in other.info["chs"]:
        each["loc"][:3] = 0.9 * each["loc"][:3] + [0.0, 0.02, 0.0]
    outs = {}
    for key, each in (("own", raw), ("other", other)):
        outs[key] = gram_restore(each, ["E8"], calibrate=False).get_data("E8")[0]
        channels = eeg_channels(each.info)
        assert_allclose(channels.positions, [ch["loc"][:3] for ch in each.info["chs"]])
        outs[key, "place"] = channels.aligned
    away = [
        np.linalg.norm(ch["loc"][:3] - one["loc"][:3])
        for ch, one in zip(raw.info["chs"], other.info["chs"], strict=True)
    ]
    apart = np.linalg.norm(outs["own", "place"] - outs["other", "place"], axis=1)
    assert np.mean(apart) < 0.35 * np.mean(away)
    power = np.square(outs["own"] - outs["own"].mean()).mean()
    assert np.square(outs["own"] - outs["other"]).mean() < 0.02 * power
    for each in other.info["chs"]:
        each["loc"][:3] *= 1000.0
    with pytest.raises(ContractError, match="positions are not metres"):
        gram_restore(other, ["E8"], calibrate=False)


def test_an_artefact_in_most_channels_is_reported(recording: mne.io.BaseRaw) -> None:
    raw = recording.copy().crop(0, 60)
    start, stop = int(30 * raw.info["sfreq"]), int(34 * raw.info["sfreq"])
    rng = np.random.default_rng(0)
    slow = np.cumsum(rng.standard_normal((2, stop - start)), axis=1)
    raw._data[:, start:stop] += 2e-5 * rng.standard_normal((19, 2)) @ (slow - slow.mean(axis=1, keepdims=True))
    _, report = gram_restore(raw, "all", [(29.0, 6.0, raw.ch_names[:2])], denoise=True, return_report=True)
    (note,) = [note for note in report.notes if note.startswith("Artefact in most channels between ")]
    numbers = note.removeprefix("Artefact in most channels between ").split(" s")[0].split(" and ")
    assert_allclose([float(number) for number in numbers], [30.0, 34.0], atol=1.0)
    assert "what was good of the recording" in note
    _, report = gram_restore(recording, "all", [(29.0, 6.0, raw.ch_names[:2])], denoise=True, return_report=True)
    assert not any(note.startswith("Artefact in most") for note in report.notes)
