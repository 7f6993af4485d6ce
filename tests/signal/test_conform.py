"""Continuous recordings made into what a contract asks."""

import hashlib
from datetime import UTC, datetime

import mne
import numpy as np
import pytest

from mne_labram import conform
from mne_labram.signal.conform import plan_conform
from mne_labram.signal.contract import LABRAM_CONTRACT, ContractError, SignalContract
from mne_labram.signal.positions import electrode_positions
from mne_labram.signal.quality import QualityThresholds

REFERENTIAL = SignalContract(name="scalp", montages=("referential",))
AVERAGE = SignalContract(reference="average")
BANANA = ["Fp1-F7", "F7-T7", "T7-P7", "P7-O1", "Fp2-F8", "F8-T8"]


def fingerprint(inst) -> str:
    """Return a hash of everything an instance holds."""
    digest = hashlib.sha256(inst.get_data().tobytes())
    digest.update(repr(mne.utils.object_hash(dict(inst.info))).encode())
    if isinstance(inst, mne.io.BaseRaw):
        table = inst.annotations
        digest.update(
            repr([*zip(table.onset, table.duration, table.description, table.ch_names, strict=True)]).encode()
        )
    return digest.hexdigest()


# -- what comes out ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sfreq", [100.0, 125.0, 200.0, 250.0, 499.907, 1024.0])
def test_what_comes_out(make_raw, sfreq):
    raw = make_raw(40, sfreq)
    out, report = conform(raw, line_freq=50)
    assert isinstance(out, mne.io.RawArray)
    assert out.info["sfreq"] == 200.0
    assert out.ch_names == ["FP1", "FP2", "F3", "F4", "C3", "C4", "O1", "O2"] == report.ch_names
    assert out.get_channel_types(unique=True) == ["eeg"]
    assert abs(out.n_times - 8000) <= 1
    assert out.info["highpass"] == 0.1
    assert out.info["lowpass"] == min(75.0, sfreq / 2)
    assert out.info["line_freq"] == 50.0
    # In volts: as large as the source in the band both have.
    ratio = out.copy().filter(1, 30, verbose="ERROR").get_data().std()
    ratio /= raw.copy().filter(1, 30, verbose="ERROR").get_data().std()
    assert ratio == pytest.approx(1, rel=0.02)
    assert report.seconds_usable == pytest.approx(report.n_seconds)
    np.testing.assert_allclose(
        [ch["loc"][:3] for ch in out.info["chs"]], electrode_positions(out.ch_names)[:, :3], atol=1e-6
    )
    assert ("not resampled" in report.resampling) == (sfreq == 200.0)
    assert any("is missing" in text for text in report.warnings) == (sfreq <= 150)


@pytest.mark.parametrize(
    "contract",
    [
        SignalContract(sfreq=256.0, patch_samples=256, h_freq=100.0, l_freq=0.5),
        SignalContract(sfreq=100.0, patch_samples=100, h_freq=None, l_freq=None, notch=False),
        SignalContract(sfreq=128.0, patch_samples=64, h_freq=40.0, vocabulary=None),
    ],
)
def test_other_contracts(make_raw, contract):
    raw = make_raw(20, 250.0)
    out, report = conform(raw, contract, line_freq=50)
    assert out.info["sfreq"] == contract.sfreq
    assert out.n_times == 20 * contract.sfreq
    assert out.info["highpass"] == (contract.l_freq or 0.0)
    assert out.info["lowpass"] == (contract.h_freq or contract.sfreq / 2)
    assert report.high_pass == ("" if contract.l_freq is None else f"{contract.l_freq:g} Hz")
    offset = raw.get_data().mean(axis=1)
    if contract.l_freq is None:
        np.testing.assert_allclose(out.get_data().mean(axis=1), offset, atol=2e-7)


def test_resampling_is_only_done_where_rates_differ(make_raw):
    """At the contract's rate and without a band, the numbers are the source's to float32."""
    contract = SignalContract(l_freq=None, h_freq=None, notch=False)
    raw = make_raw(10, 200.0)
    out, _ = conform(raw, contract)
    np.testing.assert_allclose(out.get_data(), raw.get_data(), rtol=1e-6, atol=1e-11)


def test_inputs_are_never_modified(make_raw):
    raw = make_raw(12, edit=lambda x: x.__setitem__((0, slice(500, 600)), np.nan))
    raw.info["bads"] = ["O2"]
    raw.set_annotations(mne.Annotations([1, 3], [1, 2], ["BAD_x", "seen"], ch_names=[("C3",), ()]))
    before = fingerprint(raw)
    out, _ = conform(raw, AVERAGE, line_freq=50)
    out._data[:] = 0
    out.annotations.delete([0])
    assert fingerprint(raw) == before


def test_annotations_stay_where_they_are(make_raw):
    """Same absolute time, with and without a date, in a cropped recording."""
    for date in (None, datetime(2020, 5, 17, 12, 0, 0, 250_000, tzinfo=UTC)):
        raw = make_raw(60, 250.0)
        pulse = int(31.2 * 250)
        raw._data[:, pulse : pulse + 25] += 800e-6
        raw.set_meas_date(date)
        raw.set_annotations(mne.Annotations([31.2, 2.0, 58.0], [0.1, 1.0, 1.5], ["pulse", "early", "late"]))
        raw.annotations.append(40.0, 1.0, "one channel", ch_names=[("C3",)])
        raw.crop(10, 55)
        out, _ = conform(raw)
        assert out.info["meas_date"] == date
        assert out.first_time == raw.first_time == 10.0
        assert out.annotations.orig_time == raw.annotations.orig_time
        np.testing.assert_array_equal(out.annotations.onset, raw.annotations.onset)
        assert out.annotations.description.tolist() == raw.annotations.description.tolist() == ["pulse", "one channel"]
        assert out.annotations.ch_names.tolist() == [(), ("C3",)]
        events, _ = mne.events_from_annotations(out, {"pulse": 1}, verbose="ERROR")
        found = out.get_data()[:, events[0, 0] - out.first_samp :][:, :20].mean()
        assert found > 600e-6
        assert out.get_data()[:, events[0, 0] - out.first_samp - 30 :][:, :20].mean() < 100e-6


def test_annotations_of_dropped_channels_go_with_them(make_raw):
    raw = make_raw(10, names=["EEG Fp1-REF", "ECG", "C3"])
    raw.set_annotations(
        mne.Annotations([1, 2, 3], [1, 1, 1], ["a", "b", "c"], ch_names=[("ECG",), ("EEG Fp1-REF", "ECG"), ()])
    )
    out, _ = conform(raw)
    assert out.annotations.description.tolist() == ["b", "c"]
    assert out.annotations.ch_names.tolist() == [("FP1",), ()]


def test_bipolar_channels_have_two_ends(make_raw):
    out, report = conform(make_raw(10, names=BANANA), AVERAGE)
    assert report.montage == "bipolar"
    assert "never re-referenced" in report.reference
    ends = np.array([np.concatenate([ch["loc"][:3], ch["loc"][3:6]]) for ch in out.info["chs"]])
    np.testing.assert_allclose(ends, electrode_positions(out.ch_names), atol=1e-6)
    assert not np.allclose(ends[:, :3], ends[:, 3:])


def test_average_reference(make_raw):
    raw = make_raw(10)
    raw._data += np.random.default_rng(1).standard_normal(raw.n_times) * 40e-6
    raw.info["bads"] = ["F3"]
    plain, _ = conform(raw)
    out, report = conform(raw, AVERAGE)
    assert "average of the 7 kept channels" in report.reference
    np.testing.assert_allclose(out.get_data().mean(axis=0), 0, atol=1e-11)
    np.testing.assert_allclose(out.get_data(), plain.get_data() - plain.get_data().mean(axis=0), atol=1e-11)


# -- channels ----------------------------------------------------------------------------------------------------------


def test_bads_projections_and_other_types(make_raw):
    names = ["Fp1", "Fp2", "F3", "EOG", "STI", "C3"]
    raw = make_raw(10, names=names, types=["eeg", "eeg", "eeg", "eog", "stim", "eeg"])
    raw.info["bads"] = ["Fp2", "EOG"]
    raw.set_eeg_reference("average", projection=True, verbose="ERROR")
    out, report = conform(raw)
    assert out.ch_names == ["FP1", "F3", "C3"]
    assert ("Fp2", "marked bad in the recording") in report.dropped
    assert ("EOG", "marked as eog, not EEG") in report.dropped
    assert any("1 projection of the recording" in text and "not applied" in text for text in report.warnings)
    assert not out.info["projs"]
    out, report = conform(raw, keep_bads=True)
    assert out.ch_names == ["FP1", "FP2", "F3", "C3"]
    assert any("marked bad are used" in text for text in report.notes)


def test_ch_names_orders_and_reports(make_raw):
    raw = make_raw(10)
    out, report = conform(raw, ch_names=["O1", "PZ", "FP1"])
    assert out.ch_names == ["O1", "FP1"]
    assert report.missing_channels == ["PZ"]
    assert any("PZ" in text for text in report.warnings)
    assert ("C3", "not asked for") in report.dropped
    everything, _ = conform(raw)
    np.testing.assert_array_equal(out.get_data(), everything.get_data(["O1", "FP1"]))
    with pytest.raises(ContractError, match="None of the 2 channels asked for"):
        conform(raw, ch_names=["PZ", "OZ"])
    with pytest.raises(TypeError, match="ch_names"):
        conform(raw, ch_names="PZ")


def test_a_dead_duplicate_makes_room(make_raw):
    """T8-P8 comes twice in CHB-MIT files; when the first is dead the second is taken."""

    def unplug(x):
        x[1] = 0.0

    raw = make_raw(10, names=["F8-T8", "T8-P8-0", "P8-O2", "T8-P8-1"], edit=unplug)
    out, report = conform(raw)
    rows = {row.name: row for row in report.channel_map.rows}
    assert rows["T8-P8"].label == "T8-P8-1"
    assert rows["T8-P8"].index == 3
    assert ("T8-P8-0", "flat or missing throughout") in report.dropped
    np.testing.assert_allclose(out.get_data("T8-P8").std(), raw.get_data("T8-P8-1").std(), rtol=0.1)


@pytest.mark.parametrize("value", [0.0, 5000.0, np.nan])
def test_dead_channels_are_dropped(make_raw, value):
    raw = make_raw(200, edit=lambda x: x.__setitem__(2, value))
    out, report = conform(raw)
    assert "F3" not in out.ch_names
    assert ("F3", "flat or missing throughout") in report.dropped


def test_a_channel_that_lives_between_the_excerpts_is_kept(make_raw):
    """In memory, every second is looked at before a channel is called dead."""

    def edit(x):
        alive = x[2, 250 * 700 : 250 * 703].copy()
        x[2] = 0
        x[2, 250 * 700 : 250 * 703] = alive

    raw = make_raw(1200, names=["Fp1", "Fp2", "F3"], edit=edit)
    plan = plan_conform(raw)
    plan.judge()
    assert plan.ch_names == ["FP1", "FP2", "F3"]
    assert 1195 < plan.report.channel_seconds["F3"]["flat"] < 1200
    assert not plan.report.unusable.any()


def test_one_channel_in_another_unit_is_dropped(make_raw):
    out, report = conform(make_raw(10, edit=lambda x: x.__setitem__(5, x[5] * 1e6)))
    assert "C4" not in out.ch_names
    assert ("C4", "median amplitude above 10 mV, which no EEG has") in report.dropped


# -- refused -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"unit": 1.0}, r"median amplitude of .*\+07 µV .*pass assume_unit='uV'"),
        ({"unit": 1e-12}, r"median amplitude of .*e-05 µV .* if the file holds V and says µV, .* by 1e6"),
        ({"names": ["A", "B", "C"]}, "can be used"),
        ({"names": ["MEG 0113", "MEG 0112"], "types": "grad", "unit": 1e-13}, "MEG .*takes scalp EEG"),
        ({"names": ["LA1", "LA2"], "types": "seeg"}, "intracranial .*takes scalp EEG"),
        ({"names": ["G1", "G2"], "types": "ecog"}, "intracranial"),
        ({"names": ["Fz", "Cz"], "types": "misc"}, "No channel is marked as EEG .*set_channel_types"),
        ({"names": ["STI"], "types": "stim"}, "No channel is marked as EEG"),
        ({"seconds": 0.9}, r"lasts 0\.9 s and one patch"),
        ({"edit": lambda x: x.fill(0)}, "constant"),
        ({"edit": lambda x: x.fill(np.nan)}, "constant"),
        ({"names": BANANA}, "bipolar"),
    ],
)
def test_refused_in_one_sentence(make_raw, kwargs, words):
    raw = make_raw(**{"seconds": 6, **kwargs})
    before = fingerprint(raw)
    with pytest.raises(ContractError, match=words) as caught:
        conform(raw, REFERENTIAL)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    assert ". " not in sentence
    assert fingerprint(raw) == before


def test_flat_but_moving_is_called_flat(make_raw):
    """One value per second, as a broken export holds it (clinical_formats/edf/eeglab_test.edf)."""
    raw = make_raw(30, 256.0, edit=lambda x: x.__setitem__(slice(None), np.repeat(np.round(x[:, ::256]), 256, axis=1)))
    with pytest.raises(ContractError, match="All 8 EEG channels are flat"):
        conform(raw)


def test_no_channels():
    raw = mne.io.RawArray(np.zeros((1, 1000)), mne.create_info(["x"], 200.0, "stim"), verbose="ERROR")
    with pytest.raises(ContractError, match="No channel is marked as EEG"):
        conform(raw)


@pytest.mark.parametrize(
    ("kwargs", "error", "words"),
    [
        ({"assume_unit": "volt"}, ValueError, "assume_unit must be"),
        ({"line_freq": "50"}, TypeError, "line_freq must be"),
        ({"line_freq": True}, TypeError, "line_freq must be"),
        ({"line_freq": -50}, ValueError, "line_freq must be"),
        ({"line_freq": np.nan}, ValueError, "line_freq must be"),
        ({"gaps": "ignore"}, ValueError, "gaps must be"),
        ({"match": "nearest"}, ValueError, "match must be"),
    ],
)
def test_bad_arguments(make_raw, kwargs, error, words):
    with pytest.raises(error, match=words):
        conform(make_raw(5), **kwargs)


def test_wrong_objects(tmp_path):
    for wrong in (np.zeros((3, 4)), None, 3, mne.create_info(1, 1.0)):
        with pytest.raises(TypeError, match="Raw, Epochs, Evoked or a path"):
            conform(wrong)
    with pytest.raises(ContractError, match="no file"):
        conform(tmp_path / "none.edf")


# -- units -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("unit", "factor"), [("uV", 1.0), ("mV", 1e-3), ("nV", 1e3)])
def test_assume_unit_is_the_unit_of_the_numbers(make_raw, unit, factor):
    truth, _ = conform(make_raw(10))
    raw = make_raw(10, unit=factor)  # the numbers that get_data() returns are in this unit
    with pytest.raises(ContractError, match="median amplitude"):
        conform(raw)
    out, report = conform(raw, assume_unit=unit)
    np.testing.assert_allclose(out.get_data(), truth.get_data(), atol=1e-10)
    assert unit in report.unit


def test_assume_unit_that_is_wrong_is_refused(make_raw):
    with pytest.raises(ContractError, match="assume_unit is wrong"):
        conform(make_raw(10), assume_unit="uV")


# -- band --------------------------------------------------------------------------------------------------------------


def test_line_frequency(make_raw):
    def hum(freq):
        return lambda x: x.__iadd__(60 * np.sin(2 * np.pi * freq * np.arange(x.shape[1]) / 250.0))

    def power(out, freq):
        spectrum = out.compute_psd(fmin=freq - 3, fmax=freq + 3, verbose="ERROR", n_fft=1000)
        data, freqs = spectrum.get_data(return_freqs=True)
        return data[:, np.abs(freqs - freq) < 0.3].max() / np.median(data)

    found, report = conform(make_raw(40, edit=hum(60)))
    assert report.line_freq == 60
    assert "found in the spectrum" in report.notch
    assert power(found, 60) < 3
    kept, report = conform(make_raw(40, edit=hum(60)), line_freq=0)
    assert "line_freq=0" in report.notch
    assert power(kept, 60) > 100
    given, report = conform(make_raw(40, edit=hum(60)), line_freq=50)
    assert report.line_freq == 50
    assert power(given, 60) > 100
    raw = make_raw(40, edit=hum(50))
    raw.info["line_freq"] = 60
    from_info, report = conform(raw)
    assert "info['line_freq']" in report.notch
    assert power(from_info, 50) > 100
    _, report = conform(make_raw(40))
    assert report.line_freq is None
    assert "no peak stands out" in report.notch
    _, report = conform(make_raw(40, edit=hum(60)), SignalContract(notch=False))
    assert report.notch == "none asked for"


def test_filters_of_the_recording_are_told(make_raw):
    raw = make_raw(10)
    with raw.info._unlock():
        raw.info["lowpass"], raw.info["highpass"] = 40.0, 1.0
    out, report = conform(raw)
    assert any("content above 40 Hz is missing" in text for text in report.warnings)
    assert any("content below 1 Hz is missing" in text for text in report.warnings)
    assert (out.info["highpass"], out.info["lowpass"]) == (1.0, 40.0)
    assert conform(make_raw(10))[1].warnings == []


# -- seconds -----------------------------------------------------------------------------------------------------------


def test_unusable_seconds(make_raw):
    def edit(x):
        x[:5, 250 * 3 + 10] = np.nan
        x[:4, 250 * 5 : 250 * 6] = np.nan  # only half of the channels
        x[:, 250 * 8 : 250 * 10] = 1.0
        x[0, 250 * 12 : 250 * 14] = 0.0

    raw = make_raw(20.5, edit=edit)
    raw.set_annotations(
        mne.Annotations([15.2, 17, 18], [0.2, 1, 1], ["bad_muscle", "BAD_one", "seizure"], ch_names=[(), ("C3",), ()])
    )
    out, report = conform(raw)
    assert np.isfinite(out.get_data()).all()
    assert np.flatnonzero(report.unusable).tolist() == [3, 8, 9, 15]
    assert len(report.unusable) == 21
    assert report.seconds_usable == pytest.approx(16.5)
    assert report.reasons == {"s missing": 1, "s flat": 2, "s annotated": 1}
    assert report.channel_seconds["FP1"] == {"missing": 2, "flat": 4, "clipped": 0, "annotated": 1}
    assert report.channel_seconds["C3"]["annotated"] == 2
    _, report = conform(raw, reject_by_annotation=False)
    assert np.flatnonzero(report.unusable).tolist() == [3, 8, 9]
    _, report = conform(raw, thresholds=QualityThresholds(bad_share=0.4))
    assert np.flatnonzero(report.unusable).tolist() == [3, 5, 8, 9, 15]


def test_missing_samples_do_not_depend_on_what_stands_in_for_them(make_raw):
    """An absent sample is the channel's constant, so the rest of the channel is as if it rested there."""
    offset = np.arange(8)[:, None] * 3000.0
    calm = make_raw(20, edit=lambda x: (x.__iadd__(offset), x.__setitem__((1, slice(1000, 1250)), np.median(x[1]))))
    gone = make_raw(20, edit=lambda x: (x.__iadd__(offset), x.__setitem__((1, slice(1000, 1250)), np.nan)))
    np.testing.assert_allclose(conform(gone)[0].get_data(), conform(calm)[0].get_data(), atol=1e-6)


def test_nothing_usable(make_raw):
    raw = make_raw(10)
    raw.set_annotations(mne.Annotations([0], [10], ["BAD_all"]))
    with pytest.raises(ContractError, match=r"No second of RawArray can be used \(10 s annotated\)"):
        conform(raw)


def test_the_default_contract_is_labram_s(make_raw):
    _, report = conform(make_raw(5))
    assert report.contract == LABRAM_CONTRACT.name
    assert report.to_dict()["sfreq_out"] == 200.0
