"""Channel involvement by occlusion."""

import numpy as np
import pytest

from mne_labram.decoding.windows import SignalOptions, plan_recording
from mne_labram.seizure.involvement import Involvement, channel_involvement
from mne_labram.signal.windows import iter_windows
from tests.seizure.loud import loud_detector, loud_raw


def _plan(edit=None):
    """Return the plan of the loud recording, judged to its end."""
    detector = loud_detector()
    plan = plan_recording(loud_raw(edit), detector, SignalOptions("montage"))
    plan.judge()
    return plan, detector


def test_channels_that_matter_come_first():
    """Without F7 or T7 the loud recording is less loud; without any other channel it is louder."""
    plan, detector = _plan()
    (one,) = channel_involvement(plan, detector, [(40, 60, 0.9)], length=800)
    assert (one.start, one.stop) == (40.0, 60.0)
    assert set(one.channels) == {"F7", "T7"}
    drop = dict(zip(one.ch_names, one.drop, strict=True))
    assert all(value < 0 for name, value in drop.items() if name not in one.channels)
    assert one.relative.max() == pytest.approx(1.0)
    assert one.relative.min() == 0.0


@pytest.mark.parametrize(
    ("drop", "channels"),
    [
        ((2.0, 1.0, 0.9, -3.0), ("a", "b")),
        ((1.0, 2.0, 1.5, 0.0), ("b", "c", "a")),
        ((0.09, 0.08, 0.0, 0.0), ()),
        ((-1.0, -2.0, -1.0, -1.0), ()),
    ],
)
def test_the_rule(drop, channels):
    """At least half of the largest drop, largest first; none where nothing changes the odds by a tenth."""
    assert Involvement(0.0, 1.0, ("a", "b", "c", "d"), drop).channels == channels


def test_the_cost_is_bounded(monkeypatch):
    """So many windows an event, so many events, the most confident ones."""
    plan, detector = _plan()
    read = []
    whole = plan.read
    monkeypatch.setattr(plan, "read", lambda start, stop: read.append((start, stop)) or whole(start, stop))
    events = [(4 * k, 4 * k + 4, k / 30) for k in range(30)]
    out = channel_involvement(plan, detector, events, length=800, max_events=5, n_windows=2)
    assert [each.start for each in out] == [100.0, 104.0, 108.0, 112.0, 116.0]
    assert len(read) == 5
    assert all(stop - start == 800 for start, stop in read)


def test_windows_that_cannot_be_used_are_left_out():
    """An event that consists of them has no involvement; a window may not reach over the end."""

    def edit(x):
        x[:, 10 * 200 : 20 * 200] = np.nan

    plan, detector = _plan(edit)
    out = channel_involvement(plan, detector, [(11, 19, 0.9), (118, 120, 0.5)], length=800)
    assert [each.start for each in out] == [118.0]
    assert channel_involvement(plan, detector, [(11, 19, 0.9)], length=800) == []
    assert channel_involvement(plan, detector, [], length=800) == []


def test_a_stretch_is_read_as_it_streams_by():
    """Random access gives the samples of the stream, across its blocks too."""
    plan, _ = _plan()
    stream = np.concatenate([batch.data[0] for batch in iter_windows(plan, 800, 800, batch_size=1)], axis=1)
    scale = np.abs(stream).max()
    for start, stop in ((0, 10), (37 * 200 + 3, 43 * 200), (119 * 200, 120 * 200)):
        np.testing.assert_allclose(plan.read(start, stop), stream[:, start:stop], atol=1e-5 * scale)
    for start, stop in ((-1, 5), (5, 5), (0, 120 * 200 + 1)):
        with pytest.raises(ValueError, match="do not lie within"):
            plan.read(start, stop)
