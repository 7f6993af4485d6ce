"""The page for the reader: what is on it, what must not be, and how little of the recording is read for it."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from pathlib import Path

import mne
import numpy as np
import pytest

from mne_labram.decoding.scores import EventScores
from mne_labram.seizure.detected import SeizureDetection
from mne_labram.seizure.involvement import Involvement
from mne_labram.seizure.report import seizure_report
from mne_labram.signal.channels import ChannelMap, ChannelRow
from mne_labram.signal.contract import ContractError
from mne_labram.signal.events import EventParameters
from mne_labram.signal.report import ConformReport

TEN_TWENTY = ("Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T3", "C3", "Cz", "C4", "T4", "T5", "P3", "Pz", "P4", "T6")
TEN_TWENTY += ("O1", "O2")
DATE = datetime(2024, 3, 11, 21, 42, 13, tzinfo=UTC)
CARD = {
    "name": "made-up",
    "summary": "Experimental weights.",
    "class": "NeuroStorm",
    "n_parameters": 1234,
    "sha256": "ab" * 32,
    "licence": "BSD-3-Clause",
    "data": [{"name": "CHB-MIT, chb01", "subjects": 1, "hours": 0.1, "held_out": "nobody"}],
    "limits": ["Never use <it>."],
}
CALIBRATION = {
    "operating_points": [
        {"threshold": 0.5, "fp_per_day": 12.0, "sensitivity": 0.95},
        {"threshold": 0.8, "fp_per_day": 2.5, "sensitivity": 0.75},
    ],
    "hours": 31.5,
    "n_seizures": 18,
}


def detection_of(raw=None, events=((12, 10, 0.9),), seconds=None, *, unanalysed=(), meas_date=None, **kwargs):
    """Make a detection whose events are (onset, duration, probability)."""
    seconds = raw.n_times / raw.info["sfreq"] if seconds is None else seconds
    p = np.full(int(np.ceil(seconds)), 0.05)
    for onset, duration, height in events:
        p[onset : onset + duration] = height
    for start, stop in unanalysed:
        p[start:stop] = np.nan
    meas_date = meas_date if raw is None else raw.info["meas_date"]
    first_time = 0.0 if raw is None else raw.first_time
    parameters = EventParameters(threshold=0.5, smoothing=1, merge_gap=5, min_duration=3)
    report = kwargs.pop("report", None)
    scores = EventScores(np.stack([1 - p, p]), ["bckg", "sz"], 0, seconds, parameters, first_time, meas_date, report)
    return SeizureDetection(scores, kwargs.pop("model_name", "made-up"), raw=raw, **kwargs)


def html_of(report: mne.Report, tmp_path: Path) -> str:
    fname = tmp_path / "page.html"
    report.save(fname, open_browser=False, overwrite=True, verbose="error")
    return fname.read_text(encoding="utf8")


def body_of(html: str) -> str:
    """Return what is ours: behind MNE's scripts and styles, without the images' content."""
    body = html[html.index('<div class="container-fluid" id="container">') :]
    return re.sub(r"(data:image/\w+;base64,)[\w+/=]+", r"\1", body)


def n_images(html: str) -> int:
    return len(re.findall(r'<img src="data:image/', body_of(html)))


# -- what is on it ------------------------------------------------------------------------------------------------
def test_the_page_says_what_a_reader_needs(make_raw, tmp_path):
    raw = make_raw(120.0, names=TEN_TWENTY).set_meas_date(DATE)
    channel_map = ChannelMap(
        (
            ChannelRow(2, "F7", "F7", 25, "exact", None, (0.0,) * 6),
            ChannelRow(7, "T3", "T7", 40, "alias", None, (0.0,) * 6),
        ),
        (("Fz", "flat or missing throughout"), ("ECG", "no electrode")),
        "referential",
    )
    report = ConformReport(
        montage="referential", channel_map=channel_map, reasons={"s clipped": 8}, warnings=["Look out."]
    )
    involved = [Involvement(12, 22, ("F7", "T3"), (1.0, 0.9))]
    detection = detection_of(
        raw,
        [(12, 10, 0.9), (60, 20, 0.8)],
        unanalysed=[(100, 108)],
        report=report,
        card=CARD,
        calibration=CALIBRATION,
        involvement=involved,
    )
    text = body_of(html_of(seizure_report(detection), tmp_path))
    for wanted in (
        "For research use. Not a medical device",
        "11 March 2024, 21:42:13",
        "2 min",
        "referential, 2 channels used, 2 left out",
        "T3 &rarr; <b>T7</b> (other name)",
        "flat or missing throughout",
        "Look out.",
        "Why: clipped (8 s).",
        "experimental",
        "ab" * 32,
        "CHB-MIT, chb01",
        "Never use &lt;it&gt;.",
        "95 %",
        "12 false alarms a day",
        "31.5 h",
        "21:42:25",  # 12 s after the start
        "F7, T3",
        "8 s of 2 min (6.7 %)",
        "clipped (8 s)",
        "No event found is not the same as no seizure",
        "mne-labram ",
    ):
        assert wanted in text, wanted
    assert text.index('id="event-1"') < text.index('id="event-2"')
    # The strip, and the EEG of either event; an hour's burden says nothing about two minutes.
    assert n_images(html_of(seizure_report(detection), tmp_path)) == 3


def test_every_link_leads_somewhere(make_raw, tmp_path):
    detection = detection_of(make_raw(60.0), [(5, 5, 0.7), (20, 5, 0.9), (40, 5, 0.8)])
    text = body_of(html_of(seizure_report(detection, n_events=2), tmp_path))
    targets = set(re.findall(r'href="#((?:eeg|event)-\d+)"', text))
    assert targets == {"eeg-2", "eeg-3", "event-2", "event-3"}
    assert all(text.count(f'id="{target}"') == 1 for target in targets)
    assert "The EEG is shown for 2 of 3 events" in text


@pytest.mark.parametrize("n_events", [0, 2, 10])
def test_the_number_of_pictures_is_bounded(make_raw, tmp_path, n_events):
    events = [(10 * k, 5, 0.6 + 0.05 * k) for k in range(5)]
    detection = detection_of(make_raw(60.0), events)
    html = html_of(seizure_report(detection, n_events=n_events), tmp_path)
    assert n_images(html) == 1 + min(n_events, 5)
    assert len(re.findall(r'<tr id="event-\d+"', html)) == 5


def test_long_events_are_flagged(tmp_path):
    detection = detection_of(None, [(100, 301, 0.9), (1000, 300, 0.9)], 7200.0)
    text = body_of(html_of(seizure_report(detection), tmp_path))
    flagged = text[text.index("Longer than 5 minutes") :][:300]
    assert "event 1" in flagged
    assert "5 min 01 s" in flagged
    assert "event 2" not in flagged


def test_the_most_confident_are_marked(tmp_path):
    heights = [0.7, 0.95, 0.6, 0.9, 0.8, 0.85, 0.65]
    detection = detection_of(None, [(20 * k, 10, height) for k, height in enumerate(heights)], 200.0)
    text = body_of(html_of(seizure_report(detection), tmp_path))
    assert re.findall(r'<tr id="event-(\d+)" class=first>', text) == ["1", "2", "4", "5", "6"]


def test_seizures_per_hour_count_analysed_time_only(tmp_path):
    """30 s in half an hour of analysed time are a minute an hour; one hour was not analysed at all."""
    detection = detection_of(None, [(600, 30, 0.9)], 3 * 3600.0, unanalysed=[(1800, 7200)], meas_date=None)
    text = body_of(html_of(seizure_report(detection), tmp_path))
    assert "On average 20 s of seizure in an hour of analysed time; the most, 1 min, in the hour from 0:00:00" in text


# -- what must not be on it ---------------------------------------------------------------------------------------
HOSTILE = '<script>alert("x")</script>'


def test_what_comes_from_a_file_is_text(make_raw, tmp_path):
    names = [HOSTILE, "a$b_{", "<b>&amp;", "\u202ereversed", "F7", "T3"]
    raw = make_raw(60.0, names=names)
    channel_map = ChannelMap(
        (ChannelRow(0, HOSTILE, HOSTILE, None, "exact", None, (0.0,) * 6),), ((HOSTILE, HOSTILE),), HOSTILE
    )
    report = ConformReport(
        channel_map=channel_map,
        montage=HOSTILE,
        reasons={HOSTILE: 3},
        warnings=[HOSTILE],
        missing_channels=[HOSTILE],
        channel_seconds={HOSTILE: {HOSTILE: 3}},
        resampling=HOSTILE,
        unit="V, " + HOSTILE,
    )
    card = {**CARD, **{key: HOSTILE for key in ("name", "summary", "class", "sha256", "licence")}}
    card |= {"data": [{"name": HOSTILE, "subjects": HOSTILE}], "limits": [HOSTILE]}
    detection = detection_of(
        raw,
        report=report,
        unanalysed=[(50, 53)],
        card=card,
        model_name=HOSTILE,
        involvement=[Involvement(12, 22, (HOSTILE, "F7"), (1.0, 0.9))],
    )
    html = html_of(seizure_report(detection, title=HOSTILE), tmp_path)
    assert 'alert("x")' not in html
    assert "\u202e" not in html
    assert "&lt;script&gt;" in body_of(html)


@pytest.mark.parametrize("shown", [False, True])
def test_the_patient_is_on_it_only_if_asked_for(make_raw, tmp_path, shown):
    folder = tmp_path / "Hexagon, Jane 1970"
    folder.mkdir()
    fname = folder / "hexagon_night1_raw.fif"
    raw = make_raw(40.0)
    raw.info["subject_info"] = {
        "his_id": "MCH-0234567",
        "first_name": "Jane",
        "last_name": "Hexagon",
        "birthday": date(1970, 5, 17),
    }
    raw.save(fname, verbose="error")
    raw = mne.io.read_raw(fname, verbose="error")
    report = ConformReport(warnings=[f"While reading {fname}: Jane_Hexagon moved.", "Hexagonal is another word."])
    html = html_of(seizure_report(detection_of(raw, report=report), patient_name=shown), tmp_path)
    assert str(folder) not in html
    assert "1970" not in body_of(html)
    assert "Hexagonal is another word." in html
    names = re.findall(r"hexagon(?!al)|jane|0234567", body_of(html), re.IGNORECASE)
    if shown:
        assert "Jane Hexagon, number MCH-0234567" in html
    else:
        assert not names
        assert "***_night1_raw.fif" in html


def test_the_page_loads_nothing(make_raw, tmp_path):
    html = html_of(seizure_report(detection_of(make_raw(40.0))), tmp_path)
    # A link that is followed when it is clicked loads nothing; everything else that names an address does.
    for tag in re.findall(r"<(?:script|link|img|iframe|object|embed|source|video|audio)\b[^>]*>", html):
        assert not re.search(r"""(?:src|href|data)\s*=\s*["']?\s*(?:https?:)?//""", tag), tag[:200]
    assert not re.search(r"""url\(\s*["']?\s*(?:https?:)?//""", html)
    assert not re.search(r"""@import\s*(?:url|["']\s*(?:https?:)?//)""", html)


def test_figures_of_others_are_left_alone(make_raw):
    import matplotlib.pyplot as plt

    before = plt.get_fignums(), plt.rcParams["hatch.linewidth"]
    seizure_report(detection_of(make_raw(40.0)))
    assert (plt.get_fignums(), plt.rcParams["hatch.linewidth"]) == before


# -- how much is read ---------------------------------------------------------------------------------------------
def test_only_what_is_drawn_is_read(write_edf, monkeypatch):
    seconds, sfreq = 1200, 100
    raw = mne.io.read_raw_edf(write_edf(seconds=seconds, sfreq=sfreq, n_chans=8), verbose="error")
    read = []
    get_data = mne.io.BaseRaw.get_data

    def spy(inst, *args, **kwargs):
        read.append((kwargs["start"], kwargs["stop"]))
        return get_data(inst, *args, **kwargs)

    monkeypatch.setattr(mne.io.BaseRaw, "get_data", spy)
    detection = detection_of(raw, [(0, 20, 0.9), (500, 400, 0.8), (1190, 10, 0.7)])
    seizure_report(detection, n_events=3)
    # 30 s each, and 3 s on either side for the filters where there are any.
    assert [(start / sfreq, stop / sfreq) for start, stop in read] == [(0, 33), (487, 523), (1167, 1200)]
    assert not raw.preload


def test_a_recording_that_is_not_at_hand(tmp_path):
    detection = detection_of(None, seconds=100.0)
    html = html_of(seizure_report(detection), tmp_path)
    assert n_images(html) == 1
    assert "There is no EEG on this page" in html


def test_a_path_will_do(write_edf, tmp_path):
    fname = write_edf(seconds=40, n_chans=8)
    html = html_of(seizure_report(detection_of(None, seconds=40.0), fname), tmp_path)
    assert n_images(html) == 2
    assert "made.edf" in html


def test_another_recording_is_refused(make_raw):
    with pytest.raises(ValueError, match="pass the one that was analysed"):
        seizure_report(detection_of(None, seconds=100.0), make_raw(40.0))


def test_wrong_arguments_are_refused(make_raw, tmp_path):
    detection = detection_of(make_raw(40.0))
    with pytest.raises(TypeError, match="n_events must be an integer"):
        seizure_report(detection, n_events=2.5)
    with pytest.raises(ValueError, match="n_events must be 0 or more"):
        seizure_report(detection, n_events=-1)
    with pytest.raises(ValueError, match="scale must be a positive number"):
        seizure_report(detection, scale=0.0)
    with pytest.raises(ContractError, match="There is no file"):
        seizure_report(detection, tmp_path / "gone.edf")
    epochs = mne.EpochsArray(np.zeros((1, 1, 100)), mne.create_info(1, 100.0, "eeg"), verbose="error")
    with pytest.raises(TypeError, match="continuous recording"):
        seizure_report(detection, epochs)


# -- odd recordings -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("seconds", "events", "unanalysed"),
    [
        (40.0, [(0, 40, 0.9)], []),
        (8.5, [(5, 4, 0.9)], []),
        (1.5, [], []),
        (60.0, [], [(0, 60)]),
        (60.0, [], []),
        (400.0, [(0, 5, 0.9), (395, 5, 0.9)], [(5, 395)]),
    ],
    ids=["all seizure", "short", "shorter than a window", "nothing analysed", "nothing found", "either end"],
)
@pytest.mark.parametrize("meas_date", [None, DATE])
def test_odd_recordings_have_a_page(make_raw, tmp_path, seconds, events, unanalysed, meas_date):
    raw = make_raw(seconds).set_meas_date(meas_date)
    html = html_of(seizure_report(detection_of(raw, events, unanalysed=unanalysed)), tmp_path)
    text = body_of(html)
    assert n_images(html) == 1 + len(events)
    assert ("time not known" in text) == (meas_date is None)
    assert ("Nothing was analysed" in text) == (unanalysed == [(0, 60)])
    assert ("No event was found" in text) == (not events and not unanalysed)
    assert ("No event found is not the same as no seizure" in text) == (not events or bool(unanalysed))
    assert "nan" not in re.sub(r"<[^>]*>", " ", text).split()


@pytest.mark.parametrize(
    "names", [["C3"], ["x"], ["ECG"], [f"E{k}" for k in range(1, 65)]], ids=["one", "unnamed", "no EEG", "net"]
)
def test_odd_channels_have_a_picture(make_raw, tmp_path, names):
    html = html_of(seizure_report(detection_of(make_raw(40.0, names=names))), tmp_path)
    assert n_images(html) == 2


def test_missing_samples_and_flat_channels(make_raw, tmp_path):
    def damage(x):
        x[0, 1000:2000] = np.nan
        x[1] = np.nan
        x[2] = 0.0
        x[3] = 1e6

    raw = make_raw(40.0, edit=damage)
    assert n_images(html_of(seizure_report(detection_of(raw)), tmp_path)) == 2


def test_the_clock_jumps_at_a_gap(make_raw, tmp_path):
    report = ConformReport(gaps=[{"onset": 30.0, "missing": 600.0}])
    raw = make_raw(120.0).set_meas_date(DATE)
    detection = detection_of(raw, [(12, 10, 0.9), (60, 20, 0.8)], report=report)
    text = body_of(html_of(seizure_report(detection), tmp_path))
    assert "<td class=one>21:42:25</td>" in text
    assert "<td class=one>21:53:13</td>" in text  # 60 s of data and 10 min later
    assert "with 1 gap of 10 min in total" in text


def test_a_cropped_recording_keeps_its_clock(make_raw, tmp_path):
    raw = make_raw(120.0).set_meas_date(DATE).crop(60.0)
    text = body_of(html_of(seizure_report(detection_of(raw, [(10, 10, 0.9)])), tmp_path))
    assert "11 March 2024, 21:43:13" in text
    assert "<td class=one>21:43:23</td>" in text


def test_a_real_seizure(shared_data, tmp_path):
    raw = mne.io.read_raw_edf(shared_data / "chbmit" / "chb01_03_seizure_full.edf", verbose="error")
    html = html_of(seizure_report(detection_of(raw)), tmp_path)
    assert n_images(html) == 2
    assert "chb01_03_seizure_full.edf" in html
    assert not raw.preload
