"""A recording as a stream of blocks: the same signal as in one piece, in memory that does not grow."""

import tracemalloc

import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mne_labram import conform
from mne_labram.signal import blocks as blocks_module
from mne_labram.signal.blocks import _recut
from mne_labram.signal.conform import plan_conform
from mne_labram.signal.contract import SignalContract


@pytest.mark.parametrize("sfreq", [125.0, 200.0, 249.75, 512.0])
@pytest.mark.parametrize("block_seconds", [1, 7, 60])
def test_blocks_tile_the_recording(make_raw, monkeypatch, sfreq, block_seconds):
    monkeypatch.setattr(blocks_module, "_BLOCK_BYTES", 8 * 8 * 1500)

    def edit(x):
        x[:, int(20 * sfreq) : int(22.5 * sfreq)] = 0
        x[:6, int(41.3 * sfreq)] = np.nan

    raw = make_raw(64.3, sfreq, edit=edit)
    plan = plan_conform(raw, line_freq=50)
    whole, _ = conform(raw, line_freq=50)
    blocks = list(plan.iter_blocks(block_seconds))
    starts = [block.start for block in blocks]
    assert starts == list(range(0, plan.n_times, 200 * block_seconds))
    assert all(block.data.dtype == np.float32 for block in blocks)
    assert all(len(block.unusable) == int(np.ceil(block.data.shape[1] / 200)) for block in blocks)
    data = np.concatenate([block.data for block in blocks], axis=1)
    np.testing.assert_allclose(data, whole.get_data() * 1e6, atol=1e-4)
    unusable = np.concatenate([block.unusable for block in blocks])
    assert np.flatnonzero(unusable).tolist() == [20, 21, 22, 41]
    np.testing.assert_array_equal(unusable, plan.report.unusable)


def test_the_report_fills_in_while_blocks_stream(make_raw):
    raw = make_raw(30, edit=lambda x: x.__setitem__((slice(None), slice(250 * 25, 250 * 27)), 0.0))
    plan = plan_conform(raw)
    stream = plan.iter_blocks(10)
    assert plan.report.decided == 0
    assert plan.report.seconds_usable == 0
    next(stream)
    assert plan.report.decided == 10
    assert plan.report.seconds_usable == 10
    list(stream)
    assert plan.report.seconds_usable == 28
    assert plan.report.reasons == {"s flat": 2}
    # A second run starts from nothing, and judging alone comes to the same.
    list(plan.iter_blocks(4))
    assert plan.report.reasons == {"s flat": 2}
    streamed = plan.report.to_dict()
    plan.judge()
    assert plan.report.to_dict() == streamed


def test_blocks_judge_even_where_nothing_is_filtered(make_raw):
    """Without filters there is no look-ahead, and the seconds are judged all the same."""
    contract = SignalContract(l_freq=None, h_freq=None, notch=False)
    raw = make_raw(12, 200.0, edit=lambda x: x.__setitem__((slice(None), slice(800, 1200)), 0.0))
    unusable = [block.unusable.tolist() for block in plan_conform(raw, contract).iter_blocks(3)]
    assert np.flatnonzero(np.concatenate(unusable)).tolist() == [4, 5]


def test_block_length_must_be_whole_seconds(make_raw):
    plan = plan_conform(make_raw(5))
    for wrong in (0, -1, 2.5):
        with pytest.raises(ValueError, match="whole number of seconds"):
            next(plan.iter_blocks(wrong))


def test_plan_says_what_it_will_make(make_raw):
    raw = make_raw(20, 512.0).crop(5, None)
    plan = plan_conform(raw)
    assert plan.sfreq == 200.0
    assert plan.first_time == 5.0
    assert plan.n_times == sum(block.data.shape[1] for block in plan.iter_blocks(2))
    assert plan.n_seconds == 15
    assert plan.montage == "referential"
    assert plan.ch_names == plan.report.ch_names


@settings(max_examples=50)
@given(
    lengths=st.lists(st.integers(0, 50), min_size=1, max_size=8),
    fractions=st.lists(st.floats(0, 1), max_size=6),
)
def test_recut(lengths, fractions):
    total = sum(lengths)
    cuts = sorted({0, total, *(int(fraction * total) for fraction in fractions)})
    x = np.arange(total)[None]
    pieces = np.split(x, np.cumsum(lengths)[:-1], axis=1)
    out = list(_recut(pieces, cuts))
    assert [start for start, _ in out] == cuts[:-1]
    assert [piece.shape[1] for _, piece in out] == np.diff(cuts).tolist()
    if out:
        np.testing.assert_array_equal(np.concatenate([piece for _, piece in out], axis=1), x)


def test_memory_does_not_grow_with_length(write_edf, make_eeg):
    """What is allocated while an hour streams by is what twenty minutes need."""
    piece = make_eeg(8, 256 * 60, 256)
    peaks = []
    for minutes in (20, 60):
        fname = write_edf(f"{minutes}.edf", sfreq=256, signals=list(np.tile(piece, minutes)))
        raw = mne.io.read_raw(fname, preload=False, verbose="ERROR")
        tracemalloc.start()
        seconds = 0
        for block in plan_conform(raw).iter_blocks():
            seconds += len(block.unusable)
        peaks.append(tracemalloc.get_traced_memory()[1] / 2**20)
        tracemalloc.stop()
        assert seconds == minutes * 60
    assert peaks[1] < peaks[0] + 2
    assert peaks[1] < 60
