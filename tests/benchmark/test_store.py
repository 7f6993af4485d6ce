"""The table of the store is made, in small, and its memory is bounded."""

from __future__ import annotations

import pytest

from mne_labram.benchmark import store
from mne_labram.benchmark.store import StoreRow, measure_store, store_table


@pytest.fixture(scope="module")
def rows() -> dict[tuple[str, int], StoreRow]:
    """Return what one short run measures."""
    measured = measure_store(files=6, hours=1 / 6, seconds=0.05, rounds=2, fewer=(1,))
    return {(row.method, row.n_files): row for row in measured}


def test_every_way_is_measured(rows) -> None:
    ways = ["mne preload", "mne preload, same", "mne lazy", "mne reopen"]
    assert list(rows) == [*((way, 6) for way in ways), ("store", 1), ("store", 6), ("cache", 1), ("cache", 6)]
    assert rows["mne preload", 6].ratio == rows["mne preload, same", 6].ratio_same == 1.0
    for row in rows.values():
        assert row.windows_per_second > 0
        assert len(row.rates) == 2
        assert row.peak > row.growth >= 0
        assert row.open_seconds > 0


def test_memory_does_not_grow_with_the_number_of_files(rows) -> None:
    """Ten minutes of 19 channels at 256 Hz are 23 MB as float64, which MNE keeps with preload=True."""
    assert rows["mne preload", 6].growth > 6 * 23
    for method in ("store", "cache"):
        assert rows[method, 6].peak < rows[method, 1].peak + 10
        assert rows[method, 6].peak < rows["mne preload", 6].peak - 100


def test_the_table_says_all_of_it(rows, monkeypatch) -> None:
    monkeypatch.setattr(store, "measure_store", lambda **arguments: list(rows.values()))
    text = store_table(files=6, hours=1 / 6, seconds=0.05, rounds=2)
    assert all(len(line) <= 120 for line in text.splitlines())
    for title in store._TITLES.values():
        assert title in text
    assert "RecordingStore, 6 against 1 file(s): " in text
    assert "MB peak memory." in text.splitlines()[-1]


def test_arguments_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="At least one file"):
        measure_store(files=0)
