"""The table of a day of detection."""

import numpy as np
import pytest

from mne_labram.benchmark import detect
from mne_labram.benchmark.detect import STAGES, DetectRun, _Watch, measure_detect
from mne_labram.benchmark.memory import write_long_edf
from mne_labram.signal.edf import read_edf_header


def test_time_goes_to_one_stage_at_a_time(monkeypatch):
    """Stages add up to the whole; what is measured inside a stage counts there only, but for involvement."""
    clock = iter([(t, t / 2) for t in range(1, 100)])
    monkeypatch.setattr(_Watch, "now", staticmethod(lambda: next(clock)))
    watch = _Watch((0.0, 0.0))
    model = watch.watching(lambda: None, "model")
    involvement = watch.watching(lambda: (model(), model()), "involvement")
    watch.enter("read")  # at 1
    model()  # from 2 to 3
    involvement()  # from 4 to 5
    watch.enter("page")  # at 6
    watch.enter("page")  # at 7
    assert watch.seconds == {"import": 1, "read": 3, "model": 1, "involvement": 1, "table": 0, "page": 1}
    assert watch.cpu_seconds == {name: value / 2 for name, value in watch.seconds.items()}


def test_the_table_says_whether_goals_are_met(monkeypatch):
    """Each goal has its verdict."""
    some = dict.fromkeys(STAGES, 10.0)
    runs = [
        DetectRun(24.0, 840.0, "model", 3, some, {name: 20.0 for name in some}, 700.0),
        DetectRun(1.0, 35.0, "model", 3, some, some, 1700.0),
    ]
    monkeypatch.setattr(detect, "measure_detect", lambda **_: runs.pop(0))
    day = detect.detect_table()
    assert "1440 x real time (goal for a day: 500, met); 720 x" in " ".join(day.split())
    assert "700 MB highest resident memory (goal: below 1000, met)" in day
    hour = detect.detect_table(hours=1.0)
    assert "60 x real time (goal for a day: 500, missed)" in hour
    assert "below 1000, missed" in hour


@pytest.mark.parametrize(
    ("change", "match"),
    [({"hours": 0.0}, "hours must be positive"), ({"threads": 0}, "threads"), ({"channels": 9}, "between 10 and 19")],
)
def test_wrong_arguments(change, match):
    """One sentence each, before a file is written."""
    with pytest.raises(ValueError, match=match):
        measure_detect(**change)


def test_the_recording(tmp_path):
    """As many records as asked for, of other channels and another rate too."""
    write_long_edf(tmp_path / "a.edf", 0.5, sfreq=128.0, n_channels=12)
    header = read_edf_header(tmp_path / "a.edf")
    assert header.n_records * header.record_seconds == pytest.approx(1800.0)
    # EDF+ has one more for annotations.
    assert len(header.labels) == 13
    assert np.unique(header.n_samples[:12]).tolist() == [128 * header.record_seconds]
