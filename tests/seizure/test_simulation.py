"""Simulated seizures: rhythms that evolve, spread, and are the same in every montage."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.signal import welch

from mne_labram.seizure.patterns import SEIZURE_KINDS, draw_pattern
from mne_labram.seizure.simulation import add_seizure, simulate_seizure
from mne_labram.signal.artefacts import add_artefact, has_average_reference, simulate_artefact
from mne_labram.signal.head_field import direction_of, montage_of
from mne_labram.signal.positions import electrode_positions
from mne_labram.signal.vocabulary import DOUBLE_BANANA

ELECTRODES = "FP1 FP2 F3 F4 C3 C4 P3 P4 O1 O2 F7 F8 T7 T8 P7 P8 FZ CZ PZ".split()
SFREQ = 200.0


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _whole(kind: str, seed: int, duration: float = 40.0, channels=ELECTRODES):
    """Simulate a whole seizure of a kind, without irregularity of its rate."""
    pattern = replace(draw_pattern(_rng(seed), kind=kind), duration=duration, rate_noise=0.0, polymorphic=0.0)
    return pattern, simulate_seizure(
        channels, int(duration * SFREQ), SFREQ, _rng(), pattern=pattern, onset=0.0, normalize=False
    )[0].astype(float)


def _strongest(signal: np.ndarray) -> np.ndarray:
    return signal[np.argmax(signal.std(axis=1))]


def _peak(part: np.ndarray, low: float = 0.5) -> float:
    frequencies, power = welch(part, SFREQ, nperseg=min(len(part), 800))
    keep = frequencies >= low
    return float(frequencies[keep][np.argmax(power[keep])])


def _part(x: np.ndarray, begin: float, end: float) -> np.ndarray:
    return x[..., int(begin * x.shape[-1]) : int(end * x.shape[-1])]


# The rates that the literature gives, at the beginning and at the end of a seizure.
@pytest.mark.parametrize(
    ("kind", "first", "last"),
    [
        ("focal_rhythmic", (2.4, 11.0), (0.9, 7.0)),
        ("focal_fast", (9.0, 30.5), (1.2, 5.0)),
        ("spike_wave", (2.4, 4.3), (2.3, 4.2)),
        ("tonic_clonic", (8.0, 25.0), (0.5, 8.0)),
        ("electrodecrement", (12.0, 30.5), (0.9, 7.1)),
        ("rhythmic_delta", (1.5, 5.0), (0.9, 4.0)),
    ],
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_kind_has_its_rates_and_evolves(kind: str, first: tuple, last: tuple, seed: int) -> None:
    pattern, signal = _whole(kind, seed)
    pattern_only = replace(pattern, spikes=(0.0,) * len(pattern.knots), fast=(0.0,) * len(pattern.knots))
    signal = simulate_seizure(ELECTRODES, 8000, SFREQ, _rng(), pattern=pattern_only, onset=0.0, normalize=False)[
        0
    ].astype(float)
    trace = _strongest(signal)
    begin, end = _peak(_part(trace, 0.02, 0.12)), _peak(_part(trace, 0.85, 0.98))
    assert first[0] <= begin <= first[1]
    assert last[0] <= end <= last[1]
    if kind in ("focal_fast", "tonic_clonic", "electrodecrement"):
        assert begin > 2.0 * end


def test_rates_are_those_of_the_pattern() -> None:
    pattern = replace(
        draw_pattern(_rng(1), kind="focal_rhythmic"),
        duration=60.0,
        rate_noise=0.0,
        polymorphic=0.0,
        frequencies=(8.0, 4.0, 2.0),
        spikes=(0.0, 0.0, 0.0),
        sharpness=(0.0, 0.0, 0.0),
    )
    trace = _strongest(simulate_seizure(["T7"], 12000, SFREQ, _rng(), pattern=pattern, onset=0.0)[0].astype(float))
    for middle in (0.1, 0.35, 0.6, 0.9):
        expected = np.exp(np.interp(middle, pattern.knots, np.log(pattern.frequencies)))
        assert _peak(_part(trace, middle - 0.04, middle + 0.04)) == pytest.approx(expected, abs=0.5)


def test_spikes_and_waves_have_harmonics_that_sinusoids_lack() -> None:
    def above(spike: float) -> float:
        pattern = replace(
            draw_pattern(_rng(3), kind="spike_wave"),
            duration=20.0,
            rate_noise=0.0,
            polymorphic=0.0,
            spikes=(spike,) * 3,
        )
        signal = simulate_seizure(ELECTRODES, 4000, SFREQ, _rng(), pattern=pattern, onset=0.0)[0]
        frequencies, power = welch(_strongest(signal.astype(float)), SFREQ, nperseg=800)
        return power[frequencies > 7.0].sum() / power.sum()

    assert above(0.0) < 0.1 * above(1.2)


def test_clonic_discharges_become_rarer_with_silence_between() -> None:
    _, signal = _whole("tonic_clonic", 0, duration=80.0)
    late, tonic = (
        np.abs(part - np.median(part))
        for part in (_part(_strongest(signal), *span) for span in ((0.9, 0.99), (0.1, 0.2)))
    )
    assert np.mean(late < 0.1 * late.max()) > 0.4
    assert np.mean(tonic < 0.1 * tonic.max()) < 0.3


def test_focal_seizures_begin_at_the_focus_and_spread() -> None:
    pattern = replace(
        draw_pattern(_rng(0), kind="focal_rhythmic"),
        duration=60.0,
        focus=tuple(direction_of("T7")),
        eccentricity=0.85,
        tilt=0.0,
        spread_speed=0.004,
        extent=1.2,
        crossing=15.0,
    )
    signal, _ = simulate_seizure(ELECTRODES, 12000, SFREQ, _rng(), pattern=pattern, onset=0.0)
    begin, end = _part(signal, 0.02, 0.08).std(axis=1), _part(signal, 0.7, 0.9).std(axis=1)
    assert ELECTRODES[int(np.argmax(begin))] == "T7"
    right, left = ELECTRODES.index("T8"), ELECTRODES.index("T7")
    assert begin[right] < 0.25 * begin[left]
    assert end[right] / end[left] > 2.0 * begin[right] / begin[left]
    assert np.sum(end > 0.3 * end.max()) > np.sum(begin > 0.3 * begin.max())


def test_without_crossing_the_other_hemisphere_stays_out() -> None:
    base = replace(
        draw_pattern(_rng(0), kind="focal_rhythmic"),
        duration=60.0,
        focus=tuple(direction_of("T7")),
        extent=0.5,
        eccentricity=0.85,
        tilt=0.0,
    )
    ends = []
    for crossing in (None, 5.0):
        pattern = replace(base, crossing=crossing)
        signal = simulate_seizure(["T7", "T8"], 12000, SFREQ, _rng(), pattern=pattern, onset=0.0)[0]
        spread = _part(signal, 0.7, 0.9).std(axis=1)
        ends.append(spread[1] / spread[0])
    assert ends[1] > 1.5 * ends[0]


def test_generalised_seizures_are_everywhere_and_largest_in_front() -> None:
    _, signal = _whole("spike_wave", 5, duration=10.0)
    level = dict(zip(ELECTRODES, signal.std(axis=1), strict=True))
    assert min(level["FZ"], level["F3"], level["F4"]) > max(level["O1"], level["O2"])
    assert level["F3"] == pytest.approx(level["F4"], rel=0.5)


@pytest.mark.parametrize("kind", SEIZURE_KINDS)
def test_a_bipolar_channel_is_the_difference_of_its_ends(kind: str) -> None:
    pattern = draw_pattern(_rng(4), kind=kind)
    options = {"pattern": pattern, "onset": -3.0, "duration": 30.0, "normalize": False}
    referential, active = simulate_seizure(ELECTRODES, 2000, SFREQ, _rng(), **options)
    bipolar, same = simulate_seizure(DOUBLE_BANANA, 2000, SFREQ, _rng(), **options)
    rows = {name: row for name, row in zip(ELECTRODES, referential, strict=True)}
    difference = np.stack([np.subtract(*(rows[end] for end in name.split("-"))) for name in DOUBLE_BANANA])
    assert_allclose(bipolar, difference, atol=1e-5 * np.abs(referential).max())
    assert np.abs(bipolar).max() > 0.05 * np.abs(referential).max()
    assert_array_equal(active, same)
    # The average reference changes nothing about differences.
    average, _ = simulate_seizure(ELECTRODES, 2000, SFREQ, _rng(), average_reference=True, **options)
    assert_allclose(average.mean(axis=0), 0.0, atol=1e-5 * np.abs(average).max())
    index = {name: number for number, name in enumerate(ELECTRODES)}
    again = [average[index[a]] - average[index[b]] for a, b in (name.split("-") for name in DOUBLE_BANANA)]
    assert_allclose(bipolar, again, atol=1e-5 * np.abs(referential).max())


def test_positions_do_as_well_as_names() -> None:
    pattern = draw_pattern(_rng(2), kind="focal_rhythmic")
    named, _ = simulate_seizure(ELECTRODES, 1000, SFREQ, _rng(), pattern=pattern, onset=-4.0)
    positions = electrode_positions(ELECTRODES)
    for array in (positions, positions[:, :3]):
        assert_array_equal(simulate_seizure(array, 1000, SFREQ, _rng(), pattern=pattern, onset=-4.0)[0], named)


def test_windows_of_a_pattern_are_windows_of_one_seizure() -> None:
    pattern = replace(draw_pattern(_rng(6), kind="focal_fast"), duration=50.0)
    options = {"pattern": pattern, "normalize": False}
    whole, active = simulate_seizure(ELECTRODES, 12000, SFREQ, _rng(), onset=5.0, **options)
    for start in (0.0, 3.0, 17.5, 50.0):
        window, labels = simulate_seizure(ELECTRODES, 1600, SFREQ, _rng(99), onset=5.0 - start, **options)
        first = int(start * SFREQ)
        assert_allclose(window, whole[:, first : first + 1600], atol=1e-4 * np.abs(whole).max())
        assert_array_equal(labels, active[first : first + 1600])


def test_rates_of_sampling_agree() -> None:
    pattern = replace(draw_pattern(_rng(6), kind="focal_rhythmic"), duration=20.0)
    options = {"pattern": pattern, "onset": 2.0, "normalize": False}
    fine, _ = simulate_seizure(ELECTRODES, 16000, 800.0, _rng(), **options)
    coarse, _ = simulate_seizure(ELECTRODES, 4000, 200.0, _rng(), **options)
    # A delay is a whole number of samples, so a wave may come half a sample earlier or later.
    error = np.sqrt(np.mean((fine[:, ::4] - coarse) ** 2) / np.mean(coarse**2))
    assert error < 0.1


def test_labels_say_where_the_seizure_is() -> None:
    signal, active = simulate_seizure(ELECTRODES, 3000, SFREQ, _rng(), onset=4.0, duration=6.0)
    assert_array_equal(np.flatnonzero(active), np.arange(800, 2000))
    assert np.all(signal[:, ~active] == 0.0)
    assert np.abs(signal[:, active]).sum(axis=0).astype(bool).mean() > 0.9
    nothing, none = simulate_seizure(ELECTRODES, 3000, SFREQ, _rng(), onset=100.0)
    assert not none.any()
    assert not nothing.any()


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from(list(SEIZURE_KINDS)), st.integers(100, 3200), st.floats(0.5, 8.0))
def test_as_much_seizure_as_asked_for(seed: int, kind: str, n_times: int, overlap: float) -> None:
    rng = _rng(seed)
    pattern = draw_pattern(rng, kind=kind)
    _, active = simulate_seizure(["C3"], n_times, SFREQ, rng, pattern=pattern, min_overlap=overlap)
    least = min(overlap, n_times / SFREQ, pattern.duration)
    assert active.sum() >= int(least * SFREQ) - 1


@given(
    st.integers(0, 10_000),
    st.sampled_from(list(SEIZURE_KINDS)),
    st.integers(1, 2000),
    st.sampled_from([50.0, 100.0, 128.0, 200.0, 256.0, 500.0]),
    st.lists(st.sampled_from([*ELECTRODES, *DOUBLE_BANANA, "A1", "FT9"]), min_size=1, max_size=30),
)
def test_any_length_rate_and_channels(seed: int, kind: str, n_times: int, sfreq: float, names: list[str]) -> None:
    rng = _rng(seed)
    signal, active = simulate_seizure(names, n_times, sfreq, rng, pattern=draw_pattern(rng, kind=kind))
    assert signal.shape == (len(names), n_times)
    assert signal.dtype == np.float32
    assert active.shape == (n_times,)
    assert active.any()
    assert np.isfinite(signal).all()
    power = (signal.astype(float) ** 2).sum(axis=1) / active.sum()
    if power.any():
        taking_part = power >= 0.0625 * power.max()
        # Float32 can move a channel that lies on the border to the other side.
        assert np.sqrt(power[taking_part].mean()) == pytest.approx(1.0, rel=0.35)
        assert power.max() >= 0.999


@pytest.mark.parametrize("kind", [None, *SEIZURE_KINDS])
def test_everything_follows_from_the_generator(kind: str | None) -> None:
    assert draw_pattern(_rng(3), kind=kind) == draw_pattern(_rng(3), kind=kind)
    assert draw_pattern(_rng(3), kind=kind) != draw_pattern(_rng(4), kind=kind)
    x = _rng(1).normal(size=(19, 1000)).astype(np.float32)
    for ratio in (3.0, (0.0, 3.0), [0.0, 3.0]):
        first, second = (add_seizure(x, ELECTRODES, SFREQ, _rng(5), snr_db=ratio)[0] for _ in range(2))
        assert_array_equal(first, second)


def test_all_kinds_are_drawn() -> None:
    rng = _rng(0)
    assert {draw_pattern(rng).kind for _ in range(200)} == set(SEIZURE_KINDS)
    assert sum(SEIZURE_KINDS.values()) == pytest.approx(1.0)


@pytest.mark.parametrize("channels", [ELECTRODES, list(DOUBLE_BANANA)])
@pytest.mark.parametrize("ratio", [-6.0, 0.0, 12.0])
def test_the_ratio_is_that_of_the_window(channels: list[str], ratio: float) -> None:
    x = 20.0 * _rng(1).normal(size=(len(channels), 3200)).astype(np.float32)
    kept = x.copy()
    pattern = replace(draw_pattern(_rng(2), kind="focal_rhythmic"), duration=60.0, attenuation=0.0)
    mixed, labels = add_seizure(x, channels, SFREQ, _rng(), snr_db=ratio, muscle=0.0, pattern=pattern, onset=-5.0)
    assert_array_equal(x, kept)
    assert labels.all()
    power = ((mixed - x).astype(float) ** 2).mean(axis=1)
    seizure = power[power >= 0.0625 * power.max()].mean()
    assert 10.0 * np.log10(seizure / np.median(x.var(axis=1))) == pytest.approx(ratio, abs=0.1)


def test_background_flattens_where_the_pattern_says_so() -> None:
    x = 20.0 * _rng(1).normal(size=(19, 6000)).astype(np.float32)
    pattern = replace(
        draw_pattern(_rng(2), kind="electrodecrement"), duration=25.0, attenuation=0.9, attenuation_seconds=6.0
    )
    mixed, labels = add_seizure(x, ELECTRODES, SFREQ, _rng(), snr_db=-60.0, pattern=pattern, onset=2.0)
    assert_allclose(mixed[:, :400], x[:, :400])
    assert mixed[:, 500:1500].std() < 0.15 * x.std()
    assert mixed[:, 2100:].std() == pytest.approx(x[:, 2100:].std(), rel=0.05)
    assert labels.sum() == 5000


def test_muscle_covers_a_part_of_the_seizure_only() -> None:
    x = 20.0 * _rng(1).normal(size=(18, 3200)).astype(np.float32)
    pattern = replace(draw_pattern(_rng(2), kind="rhythmic_delta"), attenuation=0.0)
    faster = 0
    for seed in range(6):
        clean, labels = add_seizure(x, DOUBLE_BANANA, SFREQ, _rng(seed), muscle=0.0, pattern=pattern, onset=5.0)
        covered, same = add_seizure(x, DOUBLE_BANANA, SFREQ, _rng(seed), muscle=1.0, pattern=pattern, onset=5.0)
        assert_array_equal(labels, same)
        difference = (covered - clean).astype(float)
        assert not difference[:, ~labels].any()
        assert difference[:, labels].any()
        faster += _peak(_strongest(difference)[1000:]) > 15.0
    assert faster >= 3


def test_places_may_have_rhythms_of_their_own() -> None:
    def coherence(polymorphic: float) -> float:
        pattern = replace(draw_pattern(_rng(1), kind="spike_wave"), duration=30.0, polymorphic=polymorphic)
        signal = simulate_seizure(["F3", "P4"], 6000, SFREQ, _rng(), pattern=pattern, onset=0.0)[0]
        return abs(np.corrcoef(signal)[0, 1])

    assert coherence(0.8) < coherence(0.0)


def test_the_average_reference_is_kept() -> None:
    x = 20.0 * _rng(1).normal(size=(19, 1600))
    average = x - x.mean(axis=0)
    assert has_average_reference(average, montage_of(ELECTRODES))
    assert not has_average_reference(x, montage_of(ELECTRODES))
    assert not has_average_reference(average[:18] - average[:18].mean(axis=0), montage_of(DOUBLE_BANANA))
    for mixed in (
        add_seizure(average, ELECTRODES, SFREQ, _rng())[0],
        add_artefact(average, ELECTRODES, SFREQ, _rng(), kind="alpha"),
    ):
        assert np.abs(mixed.mean(axis=0)).max() < 1e-4 * mixed.std()
        assert np.abs(mixed - average).max() > 1.0


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"frequencies": (5.0, 0.0, 2.0)}, "positive"),
        ({"frequencies": (5.0, 2.0)}, "each of the 3 knots"),
        ({"knots": (0.0, 0.0, 1.0)}, "rise from 0 to 1"),
        ({"duration": float("nan")}, "duration"),
        ({"rate_noise": 0.5}, "rate_noise"),
        ({"attenuation": 2.0}, "attenuation"),
        ({"polymorphic": -0.1}, "polymorphic"),
        ({"eccentricity": 0.0}, "eccentricity"),
        ({"focus": (0.0, 0.0, 0.0)}, "direction"),
    ],
)
def test_patterns_that_make_no_sense(change: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        replace(draw_pattern(_rng(0), kind="focal_rhythmic"), **change)


def test_windows_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="kinds are"):
        draw_pattern(_rng(), kind="absence")
    for simulate in (simulate_seizure, simulate_artefact):
        with pytest.raises(ValueError, match="at least one sample"):
            simulate(["C3"], 0, SFREQ, _rng())
        with pytest.raises(ValueError, match="positive"):
            simulate(["C3"], 100, -1.0, _rng())
        with pytest.raises(TypeError, match="sequence"):
            simulate("C3", 100, SFREQ, _rng())
        with pytest.raises(ValueError, match="No position"):
            simulate(["ECG"], 100, SFREQ, _rng())
        with pytest.raises(ValueError, match="finite"):
            simulate(np.full((2, 3), np.nan), 100, SFREQ, _rng())
        with pytest.raises(ValueError, match="shape"):
            simulate(np.zeros((2, 4)), 100, SFREQ, _rng())
        with pytest.raises(ValueError, match="At least one channel"):
            simulate([], 100, SFREQ, _rng())
    with pytest.raises(ValueError, match="onset"):
        simulate_seizure(["C3"], 100, SFREQ, _rng(), onset=float("nan"))
    for add in (add_seizure, add_artefact):
        with pytest.raises(ValueError, match="one row for each"):
            add(np.zeros((2, 100)), ["C3"], SFREQ, _rng())
