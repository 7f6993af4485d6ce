"""Noise that depends on nothing but where it is used."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from mne_labram.source.counter_normals import counter_normals, philox, seed_words
from mne_labram.source.jansen_rit_kernel import LANES, fill_normals


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        # The published answers: Random123, kat_vectors, philox4x32 of 10 rounds.
        ([0, 0, 0, 0], [0, 0], [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_words_are_the_published_ones(counter: list[int], key: list[int], words: list[int]) -> None:
    found = philox(np.array(counter, dtype=np.uint32), np.array(key, dtype=np.uint32))
    assert found.tolist() == words


def test_numbers_are_normal_and_independent() -> None:
    key = seed_words(1)
    x = np.stack([counter_normals(key, step, np.arange(50), 30) for step in range(40)])
    assert x.shape == (40, 50, 30)
    assert stats.kstest(x.ravel(), "norm").pvalue > 1e-3
    assert abs(stats.kurtosis(x.ravel())) < 0.06
    # Neither numbers nor their squares go together, of steps, of trajectories, of regions of a group.
    for values in (x, x**2 - 1):
        for pair in ((values[1:], values[:-1]), (values[:, 1:], values[:, :-1]), (values[..., 1:], values[..., :-1])):
            assert abs(np.mean(pair[0] * pair[1])) < 5 * 2 / np.sqrt(x.size)


def test_a_number_is_the_same_wherever_it_is_asked_for() -> None:
    key = seed_words(2**63 + 5)
    all_of_them = counter_normals(key, 17, np.arange(100), 11)
    assert np.array_equal(counter_normals(key, 17, np.array([70]), 6)[0], all_of_them[70, :6])
    assert not np.array_equal(counter_normals(seed_words(5), 17, np.arange(100), 11), all_of_them)


def test_the_compiled_numbers_are_the_same_ones() -> None:
    key = seed_words(1234567890123)
    words, normals = np.zeros((4, LANES), np.uint32), np.zeros((4, LANES), np.float32)
    expected, found = [], []
    for step in range(200):
        fill_normals(key, step, 3, 1000, words, normals)
        found.append(normals.T.copy())
        expected.append(counter_normals(key, step, 1000 + np.arange(LANES), 16)[:, 12:])
    assert np.abs(expected).max() > 3.5
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, True, "1", None])
def test_other_seeds_are_refused(seed: Any) -> None:
    with pytest.raises(ValueError, match="seed must be a whole number"):
        seed_words(seed)
