"""Simulated artefacts: what distinguishes each. What they share with simulated seizures is tested with these."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import welch

from mne_labram.signal.artefacts import ARTEFACT_KINDS, add_artefact, simulate_artefact
from mne_labram.signal.vocabulary import DOUBLE_BANANA

ELECTRODES = "FP1 FP2 F3 F4 C3 C4 P3 P4 O1 O2 F7 F8 T7 T8 P7 P8 FZ CZ PZ".split()
SFREQ = 200.0


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _strongest(signal: np.ndarray) -> np.ndarray:
    return signal[np.argmax(signal.std(axis=1))]


def _artefact(kind: str, seed: int = 0, seconds: float = 20.0, channels=ELECTRODES) -> np.ndarray:
    return simulate_artefact(channels, int(seconds * SFREQ), SFREQ, _rng(seed), kind=kind).astype(float)


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [
        ("muscle", 18.0, 91.0),
        ("blinks", 0.0, 9.0),
        ("eye_movement", 0.0, 6.0),
        ("movement", 0.0, 8.5),
        ("tremor", 3.0, 14.0),
        ("alpha", 7.0, 14.0),
        ("spindles", 9.0, 18.0),
        ("mains", 49.0, 61.0),
        ("sweat", 0.0, 1.0),
        ("electrode_rhythm", 0.5, 25.0),
    ],
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_artefacts_lie_where_they_belong(kind: str, low: float, high: float, seed: int) -> None:
    trace = _strongest(_artefact(kind, seed))
    frequencies, power = welch(trace, SFREQ, nperseg=2000, detrend=False)
    assert power[(frequencies >= low) & (frequencies <= high)].sum() > 0.9 * power.sum()


@pytest.mark.parametrize(
    ("kind", "where"),
    [
        ("blinks", {"FP1", "FP2"}),
        ("alpha", {"O1", "O2"}),
        ("photic", {"O1", "O2"}),
        ("vertex_waves", {"CZ", "FZ"}),
        ("mu", {"C3", "C4"}),
        ("eye_movement", {"F7", "F8"}),
    ],
)
def test_artefacts_are_largest_where_they_come_from(kind: str, where: set[str]) -> None:
    for seed in range(3):
        assert ELECTRODES[int(np.argmax(_artefact(kind, seed).std(axis=1)))] in where


@pytest.mark.parametrize("kind", ["electrode_pop", "electrode_rhythm"])
def test_one_electrode_is_in_the_channels_that_share_it(kind: str) -> None:
    assert np.sum(_artefact(kind).any(axis=1)) == 1
    for seed in range(5):
        bipolar = _artefact(kind, seed, channels=DOUBLE_BANANA)
        seen = [DOUBLE_BANANA[row].split("-") for row in np.flatnonzero(bipolar.any(axis=1))]
        shared = set.intersection(*map(set, seen))
        assert shared
        total = sum(
            row * (1 if DOUBLE_BANANA[number].split("-")[0] in shared else -1)
            for number, row in enumerate(bipolar)
            if row.any()
        )
        assert np.abs(total).max() == pytest.approx(len(seen) * np.abs(bipolar).max(), rel=1e-5)


@pytest.mark.parametrize("kind", ARTEFACT_KINDS)
@settings(max_examples=12)
@given(seed=st.integers(0, 1000), n_times=st.integers(1, 1500), sfreq=st.sampled_from([50.0, 128.0, 256.0]))
def test_any_artefact_length_and_rate(kind: str, seed: int, n_times: int, sfreq: float) -> None:
    for channels in (["C3"], ["T7-P7", "P7-O1"], ELECTRODES):
        signal = simulate_artefact(channels, n_times, sfreq, _rng(seed), kind=kind)
        assert signal.shape == (len(channels), n_times)
        assert signal.dtype == np.float32
        assert np.isfinite(signal).all()
        level = np.sqrt((signal.astype(float) ** 2).mean(axis=1).max())
        assert level == pytest.approx(1.0, rel=1e-3) or level == 0.0


@pytest.mark.parametrize("kind", ARTEFACT_KINDS)
def test_artefacts_are_added_at_the_ratio_asked_for(kind: str) -> None:
    x = 20.0 * _rng(1).normal(size=(18, 3200)).astype(np.float32)
    mixed = add_artefact(x, DOUBLE_BANANA, SFREQ, _rng(2), snr_db=10.0, kind=kind)
    power = ((mixed - x).astype(float) ** 2).mean(axis=1).max()
    assert 10.0 * np.log10(power / np.median(x.var(axis=1))) == pytest.approx(10.0, abs=0.1)


def test_all_artefacts_are_drawn() -> None:
    x = np.ones((1, 50)) * np.arange(50)
    rng = _rng(0)
    assert len({add_artefact(x, ["C3"], SFREQ, rng, snr_db=0.0).tobytes() for _ in range(20)}) > 10


def test_a_kind_that_is_not_known() -> None:
    with pytest.raises(ValueError, match="kinds are"):
        simulate_artefact(["C3"], 100, SFREQ, _rng(), kind="seizure")
