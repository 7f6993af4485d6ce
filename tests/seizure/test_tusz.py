"""Label files of TUSZ."""

from __future__ import annotations

from pathlib import Path

import pytest

from mne_labram.seizure.event_types import TUSZ_TYPES
from mne_labram.seizure.events import SeizureEvent
from mne_labram.seizure.tusz import read_tusz_csv

HEAD = """# version = csv_v1.0.0
# bname = aaaaaaac_s001_t000
# duration = 301.00 secs
# montage_file = $NEDC_NFC/lib/nedc_eas_default_montage.txt
#
channel,start_time,stop_time,label,confidence
"""


@pytest.fixture
def write(tmp_path: Path):
    """Return a function that writes rows under the header of TUSZ."""

    def write(*rows: str, head: str = HEAD, name: str = "aaaaaaac_s001_t000.csv") -> Path:
        fname = tmp_path / name
        fname.write_text(head + "\n".join((*rows, "")), encoding="utf8")
        return fname

    return write


def test_channels_become_events(write) -> None:
    table = read_tusz_csv(
        write(
            "FP1-F7,0.0000,36.8868,bckg,1.0000",
            "FP1-F7,36.8868,183.3055,cpsz,1.0000",
            "F7-T3,40.0000,150.0000,CPSZ,0.5000",
            "T3-T5,183.3055,190.0000,cpsz,0.9000",
            "FP1-F7,183.3055,301.0000,bckg,1.0000",
            "C3-CZ,250.0000,260.0000,cpsz,1.0000",
            "C3-CZ,120.0000,290.0000,gnsz,1.0000",
            "F8-T4,10.0000,20.0000,eyem_musc,1.0000",
            "F8-T4,10.0000,20.0000,nesz,1.0000",
        )
    )
    assert table.duration == 301
    first, second, third = table.events
    assert first == SeizureEvent(36.8868, 190.0 - 36.8868, "sz_foc_ia", first.confidence, ("FP1-F7", "F7-T3", "T3-T5"))
    assert first.confidence == pytest.approx(0.8)
    assert second == SeizureEvent(120, 170, "sz_gen", 1.0, ("C3-CZ",))
    assert third == SeizureEvent(250, 10, "sz_foc_ia", 1.0, ("C3-CZ",))


def test_one_within_another_does_not_end_it(write) -> None:
    table = read_tusz_csv(write("A,10,100,fnsz,1", "B,20,30,fnsz,1", "C,90,110,fnsz,1", "D,110.01,120,fnsz,1"))
    assert [(event.onset, event.stop) for event in table.events] == [(10, 110), (110.01, 120)]


def test_binary_file(write) -> None:
    table = read_tusz_csv(
        write(
            "TERM,0.0000,36.8868,bckg,1.0000",
            "TERM,36.8868,183.3055,seiz,1.0000",
            name="aaaaaaac_s001_t000.csv_bi",
        )
    )
    assert table.events == (SeizureEvent(36.8868, 183.3055 - 36.8868, "sz", 1.0),)
    assert len(read_tusz_csv(write("TERM,0.0000,301.0000,bckg,1.0000"))) == 0


@pytest.mark.parametrize("label", TUSZ_TYPES)
def test_every_type(write, label: str) -> None:
    (event,) = read_tusz_csv(write(f"FP1-F7,1,2,{label.lower()},1")).events
    assert event.event_type == TUSZ_TYPES[label]


def test_the_end_is_cut_at_the_recordings(write) -> None:
    with pytest.warns(
        RuntimeWarning, match=r"line 7: the seizure ends at 305 s; it was cut at the recording's 301 s\."
    ):
        table = read_tusz_csv(write("TERM,300,305,seiz,1"))
    assert table.events[0].stop == 301
    assert read_tusz_csv(write("TERM,300,301.0040,seiz,1")).events[0].stop == 301
    assert read_tusz_csv(write("TERM,300,305,seiz,1"), duration=400).duration == 400


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("TERM,10,20,sz,1", "line 7: 'sz' is no label of TUSZ; a seizure of unknown type is seiz."),
        ("TERM,10,20,eyem_seiz,1", "line 7: 'eyem_seiz' is no label"),
        ("TERM,20,10,seiz,1", "line 7: '20' to '10' is no stretch of time"),
        ("TERM,-1,10,seiz,1", "line 7: '-1' to '10' is no stretch of time"),
        ("TERM,nan,10,seiz,1", "line 7: 'nan' to '10' is no stretch of time"),
        ("TERM,=1+1,10,bckg,1", r"line 7: '=1\+1' to '10' is no stretch of time"),
        ("TERM,301,302,seiz,1", "line 7: the seizure begins at 301 s and the recording ends at 301 s."),
        ("TERM,1,2,seiz,1.5", "line 7: confidence must lie between 0 and 1, got '1.5'."),
        ("TERM,1,2,seiz", "line 7: there are 4 cells and the header names 5 columns."),
    ],
)
def test_wrong_rows(write, row: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^aaaaaaac_s001_t000\.csv, {message}"):
        read_tusz_csv(write(row))


def test_wrong_files(write) -> None:
    columns = HEAD.splitlines()[-1] + "\n"
    with pytest.raises(ValueError, match="does not say how long the recording is"):
        read_tusz_csv(write("TERM,1,2,seiz,1", head=columns))
    assert read_tusz_csv(write("TERM,1,2,seiz,1", head=columns), duration=10).duration == 10
    with pytest.raises(ValueError, match="line 1: 'ages' is no duration"):
        read_tusz_csv(write("TERM,1,2,seiz,1", head=f"# duration = ages secs\n{columns}"))
    for head in ("", "a,b\n", "# only\n# comments\n"):
        with pytest.raises(ValueError, match="no label file of TUSZ"):
            read_tusz_csv(write(head=head))
