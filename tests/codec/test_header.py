"""A Raw without its samples, to JSON and back."""

from __future__ import annotations

import datetime
import json

import mne
import numpy as np
import pytest

from mne_labram.codec.header import annotations_from, header_of, info_from, outside, whole_number
from mne_labram.signal.contract import ContractError

UTC = datetime.UTC


def through_json(raw):
    """Return info and annotations after they have been text."""
    header = json.loads(json.dumps(header_of(raw), allow_nan=False))
    info = info_from(header)
    return info, annotations_from(header, info["meas_date"])


@pytest.fixture
def full_raw(make_raw):
    """Make a Raw with everything that can be set."""
    names = ["Fp1", "Fp2", "C3", "C4", "O1", "EOG", "ECG ä", "STI 014", "resp"]
    raw = make_raw(names=names, types=["eeg"] * 5 + ["eog", "ecg", "stim", "misc"], sfreq=250.1, seconds=8)
    positions = dict(zip(names[:5], np.random.default_rng(0).standard_normal((5, 3)) / 10, strict=True))
    raw.set_montage(mne.channels.make_dig_montage(positions, nasion=(0, 0.1, 0), lpa=(-0.08, 0, 0), rpa=(0.08, 0, 0)))
    raw.set_meas_date(datetime.datetime(1999, 12, 31, 23, 59, 58, 123457, tzinfo=UTC))
    raw.info["bads"] = ["C3", "resp"]
    raw.info["subject_info"] = {
        "his_id": "P 01",
        "birthday": datetime.date(1960, 2, 29),
        "sex": 2,
        "hand": 1,
        "weight": 71.5,
        "last_name": "Ø",
    }
    raw.info["description"] = "Zeile 1\nline 2 \N{GREEK SMALL LETTER MU}"
    raw.info["experimenter"] = "x"
    raw.info["line_freq"] = 60.0
    raw.info["device_info"] = {"type": "cap", "model": "m", "serial": "1", "site": "here"}
    with raw.info._unlock():
        raw.info["highpass"], raw.info["lowpass"] = 0.1, 70.3
    raw.set_eeg_reference(["Fp1"], verbose="error")
    raw.crop(1.0, 7.0)
    raw.set_annotations(
        mne.Annotations(
            onset=[1.1, 2.3, 3.0],
            duration=[0.1, 0.0, 1 / 3],
            description=["sz", "BAD x", "é"],
            orig_time=raw.info["meas_date"],
            ch_names=[["Fp1", "C4"], [], []],
            extras=[{"confidence": 0.25, "n": 3, "note": "a", "none": None}, {}, {"x": float("nan")}],
        )
    )
    return raw


def test_everything_comes_back(full_raw):
    info, annotations = through_json(full_raw)
    assert mne.utils.object_diff(info, full_raw.info) == ""
    assert info.ch_names == full_raw.ch_names
    for ch, other in zip(info["chs"], full_raw.info["chs"], strict=True):
        np.testing.assert_array_equal(ch["loc"], other["loc"])
    assert info["dig"] == full_raw.info["dig"]
    assert info["subject_info"] == full_raw.info["subject_info"]
    assert info["meas_date"] == full_raw.info["meas_date"]
    assert info["custom_ref_applied"] == 1
    assert annotations.orig_time == full_raw.annotations.orig_time
    np.testing.assert_array_equal(annotations.onset, full_raw.annotations.onset)
    np.testing.assert_array_equal(annotations.duration, full_raw.annotations.duration)
    assert list(annotations.description) == list(full_raw.annotations.description)
    assert list(annotations.ch_names) == list(full_raw.annotations.ch_names)
    assert [dict(extras) for extras in annotations.extras[:2]] == [
        dict(extras) for extras in full_raw.annotations.extras[:2]
    ]
    assert np.isnan(annotations.extras[2]["x"])


@pytest.mark.parametrize("applied", [False, True])
def test_projectors(make_raw, applied):
    raw = make_raw()
    raw.set_eeg_reference(projection=True, verbose="error")
    if applied:
        raw.apply_proj(verbose="error")
    info, _ = through_json(raw)
    assert info["projs"] == raw.info["projs"]
    assert info["projs"][0]["active"] is applied


def test_transforms(make_raw):
    raw = make_raw()
    trans = np.eye(4)
    trans[:3, 3] = 0.1, 0.2, 0.3
    with raw.info._unlock():
        raw.info["dev_head_t"] = mne.transforms.Transform("meg", "head", trans)
    info, _ = through_json(raw)
    np.testing.assert_array_equal(info["dev_head_t"]["trans"], trans)


@pytest.mark.parametrize(
    "name",
    [
        "eegmat/Subject20_1.edf",
        "chbmit/chb01_03_ictal.edf",
        "mi_openbci/S02_S1R0_raw.fif",
        "clinical_formats/edf/test.edf",
        "clinical_formats/biosemi_bdf/eeglab_test.bdf",
        "clinical_formats/nihon_kohden/MB0400FU.EEG",
        "clinical_formats/brainvision/test.vhdr",
        "clinical_formats/eeglab_set/eeglab_data.set",
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_real_recordings(shared_data, name):
    raw = mne.io.read_raw(shared_data / name, verbose="error")
    info, annotations = through_json(raw)
    with info._unlock(), raw.info._unlock():
        for each in (info, raw.info):
            # How numbers were scaled in the source, and which machine wrote it.
            each["file_id"] = each["meas_id"] = None
            for ch in each["chs"]:
                ch["cal"] = ch["range"] = 1.0
    assert mne.utils.object_diff(info, raw.info) == ""
    assert annotations == raw.annotations


def test_compensation_is_refused(make_raw):
    raw = make_raw()
    with raw.info._unlock():
        raw.info["comps"] = [{}]
    with pytest.raises(ContractError, match="compensated gradiometers"):
        header_of(raw)


@pytest.mark.parametrize(
    "edit",
    [
        lambda h: h.pop("info"),
        lambda h: h.update(sfreq=0.0),
        lambda h: h.update(sfreq="fast"),
        lambda h: h["info"]["chs"][0].pop(),
        lambda h: h["info"]["chs"][0].__setitem__(-1, {"@array": [1.0], "shape": [1]}),
        lambda h: h["info"].update(meas_date="yesterday"),
        lambda h: h["info"].update(bads=["nobody"]),
        lambda h: h["info"].update(projs=[{}]),
        lambda h: h["info"].update(subject_info=[1]),
    ],
)
def test_headers_that_make_no_sense(make_raw, edit):
    header = header_of(make_raw())
    edit(header)
    with pytest.raises(ContractError, match=r"makes no sense \(.*\); get the file again"):
        info_from(header)


def test_annotations_that_make_no_sense(make_raw):
    header = header_of(make_raw())
    header["annotations"]["onset"] = [1.0]
    with pytest.raises(ContractError, match="make no sense"):
        annotations_from(header, None)


def test_whole_numbers():
    assert whole_number({"n": 3}, "n") == 3
    for wrong in (-1, 1.0, True, "3", None, 2**60):
        with pytest.raises(ContractError, match="The header says n="):
            whole_number({"n": wrong}, "n")


def test_outside(make_raw):
    raw = make_raw(seconds=4)
    raw.annotations.append([-1, 1, 3.9, 5], [0.5, 1, 2, 1], "x")
    assert outside(raw.annotations, raw) == [0, 3]
