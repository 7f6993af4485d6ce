"""Windows in batches: which, in which order, and who reads them."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mne_labram.training.augment import Augmentation
from mne_labram.training.batches import WindowBatches

from .recordings import FOUR, THREE, MemoryRecording, MemoryStore, small_store


class NumberStore(MemoryStore):
    """Sample i of channel c of file f is 1000 f + i + c / 10, so that windows can be told apart."""

    def __init__(self, recordings: list[MemoryRecording]) -> None:
        self.recordings, self.n_read = recordings, 0
        self._signals = [
            (1e4 * i + np.arange(each.n_times) + 0.1 * np.arange(len(each.ch_names))[:, None]).astype(np.float64)
            for i, each in enumerate(recordings)
        ]


def _numbers(*seconds: float, **options) -> NumberStore:
    return NumberStore([MemoryRecording(list(THREE), round(200 * s), **options) for s in seconds])


def _firsts(batches: WindowBatches, epoch: int = 0, **options) -> list[float]:
    """First sample of every window of an epoch, in order."""
    return [float(x[0, 0]) for batch in batches.iterate(epoch, **options) for x in batch["x"]]


def _same(one: dict, two: dict) -> bool:
    return torch.equal(one["x"], two["x"]) and one["ch_names"] == two["ch_names"]


@pytest.fixture(scope="module")
def store() -> MemoryStore:
    return small_store()


def test_a_batch_is_one_montage_in_microvolts(store: MemoryStore) -> None:
    batches = WindowBatches(store, lengths=(2,), batch_size=4, shift=False)
    seen = Counter()
    for batch in batches:
        assert tuple(batch["ch_names"]) in (THREE, FOUR)
        assert batch["x"].dtype == torch.float32
        assert batch["x"].shape[1:] == (len(batch["ch_names"]), 400)
        assert 3 <= len(batch["x"]) == batch["n_windows"] <= 4  # equal parts: no batch of one or two
        assert batch["share"] == 1.0
        seen[tuple(batch["ch_names"])] += len(batch["x"])
    # 16 + 18 + 20 s, and 20 + 22 s, in windows of 2 s.
    assert seen == {THREE: 27, FOUR: 21}
    assert batches.n_windows == 48
    assert batches.montages == [(FOUR, 400, 21), (THREE, 400, 27)]
    assert batches.common_channels == list(THREE)
    np.testing.assert_array_equal(
        next(iter(WindowBatches(store, lengths=(2,), batch_size=99, shuffle=False)))["x"][1], store.read(3, 400, 400)
    )


def test_every_window_comes_once_in_an_order_of_seed_and_epoch() -> None:
    store = _numbers(20, 7, 12)
    batches = WindowBatches(store, lengths=(1,), batch_size=5, shift=False, seed=3)
    expected = sorted(1e4 * file + 200 * i for file, n in enumerate((20, 7, 12)) for i in range(n))
    assert sorted(_firsts(batches)) == expected
    assert _firsts(batches) == _firsts(WindowBatches(store, lengths=(1,), batch_size=5, shift=False, seed=3))
    orders = [_firsts(batches), _firsts(batches, 1)]
    orders.append(_firsts(WindowBatches(store, lengths=(1,), batch_size=5, shift=False, seed=4)))
    assert len({tuple(order) for order in (*orders, expected)}) == 4
    assert all(sorted(order) == expected for order in orders)


def test_montages_are_interleaved() -> None:
    recordings = [MemoryRecording(list(THREE), 200 * 320), MemoryRecording(list(FOUR), 200 * 80)]
    batches = WindowBatches(NumberStore(recordings), lengths=(1,), batch_size=4)
    assert len(batches) == 100
    for epoch in range(3):
        kinds = np.array([len(batch.bucket.ch_names) for batch in batches.plan(epoch)])
        # A fifth of every tenth of the epoch, give or take the two that lie across its borders.
        counts = (kinds == 4).reshape(10, 10).sum(axis=1)
        assert counts.sum() == 20
        assert counts.min() >= 1
        assert counts.max() <= 4


def test_shift_stays_in_usable_stretches() -> None:
    unusable = np.zeros(40, dtype=bool)
    unusable[[9, 30]] = True
    recording = MemoryRecording(list(THREE), 8000, segments=[(0, 4500), (4500, 8000)], unusable=unusable)
    batches = WindowBatches(NumberStore([recording]), lengths=(2,), batch_size=8)
    plain = WindowBatches(NumberStore([recording]), lengths=(2,), batch_size=8, shift=False)
    seen, count = set(), plain.n_windows
    for epoch in range(30):
        starts = np.array(_firsts(batches, epoch))
        assert len(starts) == count
        for start in starts:
            assert (start + 400 <= 4500) or start >= 4500
            assert start + 400 <= 8000
            for second in (9, 30):
                assert start + 400 <= 200 * second or start >= 200 * (second + 1)
        seen |= set(starts.tolist())
    assert len(seen) > 10 * count
    # Never a whole stride later: there is another window.
    base = np.array(sorted(_firsts(plain)))
    assert all((start - base[base <= start].max()) < 400 for start in seen)


@given(
    n=st.integers(1, 30),
    batch_size=st.integers(1, 9),
    n_processes=st.integers(1, 5),
    first=st.integers(0, 12),
    workers=st.integers(0, 2),
)
def test_processes_divide_every_batch(n: int, batch_size: int, n_processes: int, first: int, workers: int) -> None:
    store = _numbers(n)
    whole = list(WindowBatches(store, lengths=(1,), batch_size=batch_size, workers=0).iterate(2, first))
    batches = WindowBatches(store, lengths=(1,), batch_size=batch_size, workers=workers)
    assert len(whole) == max(0, len(batches) - first)
    parts = [list(batches.iterate(2, first, process=p, n_processes=n_processes)) for p in range(n_processes)]
    assert {len(part) for part in parts} == {len(whole)}
    for batch, *shares in zip(whole, *parts, strict=True):
        assert sum(share["share"] for share in shares) == pytest.approx(1.0)
        assert {share["n_windows"] for share in shares} == {len(batch["x"])}
        # The weighted mean over processes is the mean over the batch.
        mean = sum(share["share"] * share["x"].double().mean(dim=0) for share in shares)
        torch.testing.assert_close(mean, batch["x"].double().mean(dim=0))
        if len(batch["x"]) >= n_processes:
            assert torch.equal(torch.cat([share["x"] for share in shares]), batch["x"])


def test_going_on_in_the_middle(store: MemoryStore) -> None:
    for workers in (0, 3):
        batches = WindowBatches(store, lengths=(2,), batch_size=4, augment=Augmentation(), workers=workers)
        whole = list(batches.iterate(1))
        for first in (1, 5, len(whole)):
            rest = list(batches.iterate(1, first))
            assert len(rest) == len(whole) - first
            assert all(_same(one, two) for one, two in zip(whole[first:], rest, strict=True))


def test_reading_ahead_is_bounded_and_ends(store: MemoryStore) -> None:
    store = small_store()
    batches = WindowBatches(store, lengths=(2,), batch_size=1, workers=2)
    reading = batches.iterate()
    next(reading)
    reading.close()
    assert store.n_read <= 1 + 2 * 2 + 2
    assert len(list(batches.iterate())) == 48


def test_augmentation_sees_the_whole_batch(store: MemoryStore) -> None:
    calls = []

    def augment(batch: dict, generator: np.random.Generator) -> dict:
        calls.append((len(batch["x"]), float(generator.random())))
        gain = torch.from_numpy(generator.standard_normal((len(batch["x"]), 1, 1))).float()
        return {**batch, "x": batch["x"][:, :2] * gain, "ch_names": batch["ch_names"][:2]}

    batches = WindowBatches(store, lengths=(2,), batch_size=5, augment=augment, workers=0)
    whole = list(batches.iterate())
    drawn = list(calls)
    parts = [list(batches.iterate(process=p, n_processes=2)) for p in range(2)]
    assert calls == drawn * 3
    assert len(set(drawn)) == len(drawn)
    for batch, one, two in zip(whole, *parts, strict=True):
        assert torch.equal(torch.cat([one["x"], two["x"]]), batch["x"])
        assert one["ch_names"] == two["ch_names"] == batch["ch_names"]
    calls.clear()
    next(batches.iterate(1))
    assert calls[0][1] != drawn[0][1]
    bad = WindowBatches(store, batch_size=5, augment=lambda batch, generator: {**batch, "x": batch["x"][:1]}, workers=0)
    with pytest.raises(ValueError, match="must keep their number"):
        list(bad)


def test_weights_of_data_sets() -> None:
    recordings = [MemoryRecording(list(THREE), 4000, name) for name in ("a", "b", "c")]
    batches = WindowBatches(
        NumberStore(recordings), lengths=(1,), batch_size=6, weights={"a": 2.5, "b": 0.3, "c": 0}, shift=False
    )
    assert batches.n_windows == 50 + 6
    counts, seen = [], set()
    for epoch in range(6):
        firsts = _firsts(batches, epoch)
        counts.append(Counter(int(first // 1e4) for first in firsts))
        assert set(Counter(first for first in firsts if first < 1e4).values()) == {2, 3}
        seen |= {first for first in firsts if first > 1e4}
    assert counts == [{0: 50, 1: 6}] * 6
    assert len(seen) > 12  # other ones every time
    with pytest.raises(ValueError, match="no data set or group 'd' to weigh; there are a, b, c"):
        WindowBatches(NumberStore(recordings), batch_size=2, weights={"d": 1})
    with pytest.raises(ValueError, match="must not be negative"):
        WindowBatches(NumberStore(recordings), batch_size=2, weights={"a": -1})


def test_labels_and_groups_of_windows() -> None:
    """Classes go with their windows, however these are ordered and divided; rare ones can come more often."""
    numbers = _numbers(20, 20)

    def labels(file: int, start: int, n_times: int) -> np.ndarray:
        return 100 * file + start // 200 + np.arange(n_times // 200)

    def groups(file: np.ndarray, start: np.ndarray, n_times: int) -> np.ndarray:
        return np.where((file == 1) & (start >= 2000), "late", "early")

    options = {
        "lengths": (2, 4),
        "batch_size": 4,
        "labels": labels,
        "groups": groups,
        "weights": {"late": 3},
        "shift": False,
    }
    batches = WindowBatches(numbers, **options)
    n_late = 0
    for batch in batches:
        assert batch["y"].dtype == torch.int64
        assert batch["y"].shape == (len(batch["x"]), batch["x"].shape[2] // 200)
        for x, y in zip(batch["x"], batch["y"], strict=True):
            first = float(x[0, 0])
            assert y[0] == 100 * (first // 1e4) + first % 1e4 // 200
            n_late += bool(y[0] >= 110)
    assert n_late == 3 * (5 + 2)
    parts = [[batch["y"] for batch in batches.iterate(process=i, n_processes=2)] for i in range(2)]
    for one, two, whole in zip(*parts, [batch["y"] for batch in batches], strict=True):
        assert torch.equal(torch.cat([one, two]), whole)
    # An augmentation sees the classes, and may change them.
    changed = WindowBatches(numbers, **options, augment=lambda batch, rng: {**batch, "y": 0 * batch["y"]})
    halves = list(changed.iterate(process=1, n_processes=2))
    assert all(len(batch["x"]) == len(batch["y"]) and not batch["y"].any() for batch in halves)
    with pytest.raises(ValueError, match="no data set or group 'one' to weigh; there are early, late"):
        WindowBatches(numbers, batch_size=4, groups=groups, weights={"one": 1})


def test_tokens(store: MemoryStore) -> None:
    batches = WindowBatches(store, tokens_per_window=12, tokens_per_batch=30)
    # 12 // 3 and 12 // 4 patches; two windows of 12 tokens each.
    assert {(len(b["ch_names"]), b["x"].shape[2]) for b in batches} == {(3, 800), (4, 600)}
    assert max(len(b["x"]) for b in batches) == 2
    long = WindowBatches(store, tokens_per_window=256, batch_size=2)
    assert {b["x"].shape[2] for b in long} == {3200}
    assert {b["x"].shape[2] for b in WindowBatches(store, tokens_per_window=1, batch_size=2)} == {200}


def test_short_recordings_give_what_they_have() -> None:
    recordings = [
        MemoryRecording(list(THREE), 2000),
        MemoryRecording(list(FOUR), 1500, segments=[(i, i + 250) for i in range(0, 1500, 250)]),
        MemoryRecording(list(FOUR), 199),
    ]
    batches = WindowBatches(NumberStore(recordings), lengths=(4, 2), batch_size=99, shuffle=False)
    assert [(b["x"].shape[0], len(b["ch_names"]), b["x"].shape[2]) for b in batches] == [
        (6, 4, 200),
        (5, 3, 400),
        (2, 3, 800),
    ]
    with pytest.raises(ValueError, match="No window fits"):
        WindowBatches(NumberStore(recordings[2:]), batch_size=2)


def test_stride_gives_overlapping_windows() -> None:
    batches = WindowBatches(_numbers(10), lengths=(4,), stride=1, batch_size=3, shuffle=False)
    assert _firsts(batches) == [200.0 * i for i in range(7)]


def test_electrodes_at_other_places_make_other_batches() -> None:
    places = np.arange(18.0).reshape(3, 6) / 200
    recordings = [
        MemoryRecording(list(THREE), 2000),
        MemoryRecording(list(THREE), 2000, positions=places),
        MemoryRecording(list(THREE), 2000, positions=places + 1e-6),
        MemoryRecording(list(THREE), 2000, positions=places + 0.01),
    ]
    found = list(WindowBatches(NumberStore(recordings), lengths=(1,), batch_size=99, shuffle=False))
    assert sorted(len(batch["x"]) for batch in found) == [10, 10, 20]
    for batch in found:
        file = int(batch["x"][0, 0, 0] // 1e4)
        if file == 0:
            assert batch["positions"] is None
        else:
            np.testing.assert_array_equal(batch["positions"], recordings[file].positions)


def test_fingerprint_tells_data_apart(store: MemoryStore) -> None:
    def of(store: object, **options) -> dict:
        return WindowBatches(store, **{"lengths": (2,), "batch_size": 4, **options}).fingerprint()

    assert of(store) == of(small_store(seed=7))  # what windows there are, not what is in them
    others = [of(store, batch_size=5), of(store, stride=1.9), of(store, weights={"one": 2})]
    others.append(of(_numbers(20)))
    assert len({each["digest"] for each in (of(store), *others)}) == 5
    assert of(store)["n_windows"] == 48
    options = WindowBatches(store, batch_size=4, augment=Augmentation(), seed=5).options()
    assert options["seed"] == 5
    assert "gain_sd" in options["augment"]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({}, "batch_size or tokens_per_batch, one"),
        ({"batch_size": 2, "tokens_per_batch": 9}, "batch_size or tokens_per_batch, one"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"batch_size": 2, "workers": -1}, "workers must not be negative"),
        ({"batch_size": 2, "lengths": (2,), "tokens_per_window": 9}, "lengths or tokens_per_window"),
        ({"batch_size": 2, "lengths": ()}, "lengths is empty"),
        ({"batch_size": 2, "lengths": (1.5,)}, "whole patches of 1 s long, got 1.5 s"),
        ({"batch_size": 2, "lengths": (17,)}, "1 to 16 whole patches"),
        ({"batch_size": 2, "stride": -1}, "stride must be a positive number"),
    ],
)
def test_senseless_arguments(store: SimpleNamespace, options: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        WindowBatches(store, **options)
