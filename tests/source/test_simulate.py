"""Windows have exactly the SNR that was asked for, in the reference and channels that they say."""

from __future__ import annotations

import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mne_labram.signal.contract import ContractError
from mne_labram.source.bank import WaveformBank
from mne_labram.source.carried import carried_over
from mne_labram.source.noise import NoiseBank
from mne_labram.source.simulate import SourceSimulator

EXACT = {"jitter_mm": 0.0, "channel_dropout": 0.0}


@pytest.fixture(scope="module")
def head(sphere_head):
    return sphere_head(300)


@pytest.fixture(scope="module")
def bank() -> WaveformBank:
    rng = np.random.default_rng(0)
    spike = np.exp(-0.5 * ((np.arange(500) - 200) / 15) ** 2)
    return WaveformBank(
        spikes=np.tile(spike, (3, 1)).astype(np.float16),
        spike_regions=np.zeros(3, np.int16),
        background=rng.standard_normal((4, 20, 800)).astype(np.float16),
        positions=rng.standard_normal((20, 3)).astype(np.float32),
    )


@pytest.fixture(scope="module")
def recorded(head) -> NoiseBank:
    rng = np.random.default_rng(1)
    return NoiseBank(np.cumsum(rng.standard_normal((3, 32, 400)), axis=2), 200.0, head.ch_names)


def _seen(head, batch) -> np.ndarray:
    """Project the sources through the leadfield, in the average reference of the visible channels."""
    seen = np.einsum("cs,nst->nct", head.leadfield, batch.sources.astype(float))
    mask = batch.visible[:, :, np.newaxis]
    mean = np.where(mask, seen, 0.0).sum(axis=1, keepdims=True) / mask.sum(axis=1, keepdims=True)
    return np.where(mask, seen - mean, 0.0)


@settings(max_examples=25)
@given(
    st.floats(-10.0, 40.0),
    st.integers(1, 5),
    st.floats(0.0, 0.7),
    st.sampled_from(["white", "coloured", "real"]),
    st.floats(0.0, 1.0),
    st.integers(0, 2**32 - 1),
)
def test_the_snr_is_exactly_what_was_asked_for(
    head, bank, recorded, snr: float, k: int, dropout: float, kind: str, background: float, seed: int
) -> None:
    simulator = SourceSimulator(
        head,
        bank,
        noise=(kind,),
        real_noise=recorded,
        background=background,
        snr_db=snr,
        n_sources=k,
        none=0.0,
        jitter_mm=0.0,
        channel_dropout=dropout,
    )
    batch = simulator.draw(3, seed)
    signal = _seen(head, batch)
    noise = batch.x - signal
    found = 10 * np.log10((signal**2).sum(axis=(1, 2)) / (noise**2).sum(axis=(1, 2)))
    np.testing.assert_allclose(found, snr, atol=2e-3)
    np.testing.assert_allclose(batch.snr_db, snr)
    assert (batch.visible.sum(axis=1) >= 8).all()
    assert not batch.x[~batch.visible].any()
    scale = np.abs(batch.x).max()
    np.testing.assert_allclose(batch.x.sum(axis=1), 0.0, atol=1e-5 * scale * 32)
    power = (noise**2).sum(axis=(1, 2)) / batch.x.shape[2]
    np.testing.assert_allclose(np.trace(batch.noise_covariance, axis1=1, axis2=2), power, rtol=1e-2)
    assert not batch.noise_covariance[~batch.visible].any()


def test_what_a_batch_says_of_itself_is_true(head, bank) -> None:
    batch = SourceSimulator(head, bank, noise=("white",), n_sources=(1, 3), none=0.2).draw(60, 3)
    assert len(batch) == 60
    assert batch.x.dtype == batch.sources.dtype == np.float32
    assert batch.x.shape == (60, 32, 100)
    counts = np.array([len(each) for each in batch.patches])
    assert set(counts) == {0, 1, 2, 3}
    for window, patches in enumerate(batch.patches):
        rebuilt = np.zeros((300, 100))
        active = np.zeros(300, dtype=bool)
        for patch in patches:
            rebuilt[patch.indices] += np.outer(patch.weights, patch.waveform)
            active[patch.indices[patch.weights >= 0.5]] = True
        np.testing.assert_allclose(batch.sources[window], rebuilt, rtol=1e-5, atol=1e-4 * np.abs(rebuilt).max())
        assert (batch.active[window] == active).all()
    empty = counts == 0
    assert np.isneginf(batch.snr_db[empty]).all()
    assert not batch.sources[empty].any()
    assert batch.x[empty].any(axis=(1, 2)).all()


def test_everything_follows_from_the_generator(head, bank, recorded) -> None:
    draws = [SourceSimulator(head, bank, real_noise=recorded, seed=1).draw(12, 5) for _ in range(2)]
    for name in ("x", "visible", "sources", "active", "snr_db", "noise_covariance"):
        np.testing.assert_array_equal(getattr(draws[0], name), getattr(draws[1], name))
    assert draws[0].noise_kinds == draws[1].noise_kinds
    assert set(draws[0].noise_kinds) == {"white", "coloured", "real"}
    simulator = SourceSimulator(head, bank)
    first, second = simulator.draw(2), simulator.draw(2)
    assert (first.x != second.x).any()
    again = SourceSimulator(head, bank).draw(2)
    np.testing.assert_array_equal(first.x, again.x)
    generator = np.random.default_rng(5)
    np.testing.assert_array_equal(simulator.draw(2, generator).x, simulator.draw(2, 5).x)


def test_a_draw_may_ask_for_a_cell_of_a_benchmark(head) -> None:
    simulator = SourceSimulator(head, none=1.0, **EXACT)
    batch = simulator.draw(6, 0, n_sources=3, snr_db=5.0, extent_mm=(10.0, 20.0))
    assert [len(each) for each in batch.patches] == [3] * 6
    np.testing.assert_allclose(batch.snr_db, 5.0)
    batch = simulator.draw(2, 0, centres=[[4, 250], [9]])
    assert [[int(p.indices[p.weights.argmax()]) for p in each] for each in batch.patches] == [[4, 250], [9]]
    assert [len(each) for each in simulator.draw(3, 0).patches] == [0, 0, 0]


def test_windows_may_have_any_length_and_rate(head, bank, recorded) -> None:
    for sfreq, seconds, n_times in ((100.0, 0.1, 10), (5000.0, 0.2, 1000), (128.0, 7.0, 896)):
        simulator = SourceSimulator(head, bank, sfreq=sfreq, seconds=seconds, real_noise=recorded)
        batch = simulator.draw(8, 0)
        assert batch.x.shape == (8, 32, n_times)
        assert np.isfinite(batch.x).all()
        assert np.isfinite(batch.sources).all()


def test_the_noise_has_the_level_and_covariance_that_are_stated(head, bank) -> None:
    for kind, background in (("white", 0.0), ("coloured", 0.0), ("white", 1.0)):
        simulator = SourceSimulator(
            head, bank, noise=(kind,), background=background, noise_uv=3.0, none=1.0, seconds=20.0, **EXACT
        )
        batch = simulator.draw(4, 0)
        np.testing.assert_allclose(np.sqrt((batch.x**2).mean(axis=(1, 2))), 3.0, rtol=1e-4)
        for x, covariance in zip(batch.x, batch.noise_covariance, strict=True):
            found = x.astype(float) @ x.T / x.shape[1]
            norm = np.linalg.norm(found)
            similarity = (found * covariance).sum() / norm / np.linalg.norm(covariance)
            assert similarity > 0.9, kind
            if (kind, background) != ("white", 0.0):
                assert similarity > np.trace(found) / norm / np.sqrt(len(found)) + 0.1


def test_sources_are_about_equally_strong_at_the_sensors(head) -> None:
    simulator = SourceSimulator(head, n_sources=3, none=0.0, coherent=0.0, relative_db=6.0, **EXACT)
    for patches in simulator.draw(20, 0).patches:
        power = []
        for patch in patches:
            seen = head.leadfield[:, patch.indices] @ np.outer(patch.weights, patch.waveform)
            power.append(((seen - seen.mean(axis=0)) ** 2).sum())
        assert 10 * np.log10(max(power) / min(power)) <= 6.0 + 1e-3


def test_sources_may_follow_each_other(head) -> None:
    simulator = SourceSimulator(head, n_sources=2, none=0.0, coherent=1.0, kinds=("oscillation",), **EXACT)
    for first, second in simulator.draw(10, 0).patches:
        lags = [np.corrcoef(first.waveform[: 100 - lag], second.waveform[lag:])[0, 1] for lag in range(5)]
        assert max(lags) > 0.999
        assert lags.index(max(lags)) >= 1


def test_subsets_and_drop_out(head) -> None:
    few = mne.channels.make_standard_montage("biosemi16").ch_names
    few = [name for name in few if name in head.ch_names]
    simulator = SourceSimulator(head, subsets=[few], channel_dropout=0.0)
    counts = simulator.draw(60, 0).visible.sum(axis=1)
    assert set(counts) == {len(few), 32}
    simulator = SourceSimulator(head, channel_dropout=0.9)
    counts = simulator.draw(200, 0).visible.sum(axis=1)
    assert counts.min() == 8
    assert counts.max() >= 30


def test_electrodes_that_are_off_change_what_is_seen_and_nothing_else(head) -> None:
    options = {"none": 0.0, "snr_db": 60.0, "channel_dropout": 0.0, "noise": ("white",), "n_sources": 1}
    similarity = {}
    for jitter in (0.0, 3.0, 10.0):
        batch = SourceSimulator(head, jitter_mm=jitter, **options).draw(40, 0)
        seen = _seen(head, batch)
        similarity[jitter] = np.mean(
            [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(batch.x, seen, strict=True)]
        )
    assert similarity[0.0] > 0.99999
    assert 0.95 < similarity[3.0] < 0.9999
    assert similarity[10.0] < similarity[3.0]


def test_other_heads_are_mixed_in(head, sphere_head) -> None:
    other = sphere_head(300, eccentricity=0.7)
    options = {"none": 0.0, "snr_db": 60.0, "noise": ("white",), "n_sources": 1, **EXACT}
    batch = SourceSimulator(head, forwards=[other], conductivity_spread=1.0, **options).draw(20, 0)
    for x, own, others in zip(batch.x, _seen(head, batch), _seen(other, batch), strict=True):
        design = np.stack([own.ravel(), others.ravel()], axis=1)
        share, residual, *_ = np.linalg.lstsq(design, x.ravel(), rcond=None)
        assert residual[0] < 1e-4 * (x**2).sum()
        # Up to the one gain that the SNR asks for, which is in the sources.
        assert -0.01 < share[1] / share.sum() < 1.01
    with pytest.raises(ContractError, match="same info and source space"):
        SourceSimulator(head, forwards=[sphere_head(200)])


def test_the_truth_may_be_told_in_a_coarser_source_space(sphere_head) -> None:
    fine, coarse = sphere_head(1200), sphere_head(300)
    options = {"none": 0.0, "snr_db": 60.0, "noise": ("white",), "extent_mm": (5.0, 40.0), "seed": 3, **EXACT}
    own, told = (SourceSimulator(fine, **each, **options).draw(12, 5) for each in ({}, {"estimated": coarse}))
    np.testing.assert_array_equal(own.x, told.x)
    assert told.sources.shape[1] == told.active.shape[1] == 300
    carried = carried_over(fine, coarse)
    for window in range(12):
        np.testing.assert_allclose(
            told.sources[window], carried @ own.sources[window], atol=1e-4 * np.abs(own.sources[window]).max()
        )
        standing = carried[:, own.active[window]].nonzero()[0]
        np.testing.assert_array_equal(np.flatnonzero(told.active[window]), np.unique(standing))
        rebuilt = np.zeros_like(told.sources[window])
        for indices, weights, waveform in told.patches[window]:
            rebuilt[indices] += weights.astype(np.float32)[:, np.newaxis] * waveform
        np.testing.assert_array_equal(rebuilt, told.sources[window])
    # Seen through the coarse leadfield, it is still about what was recorded.
    pairs = zip(told.x, _seen(coarse, told), strict=True)
    assert np.median([np.corrcoef(x.ravel(), seen.ravel())[0, 1] for x, seen in pairs]) > 0.9
    with pytest.raises(ContractError, match="same channels"):
        SourceSimulator(fine, estimated=coarse.pick(coarse.ch_names[:16]))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"sfreq": 0.0}, "sfreq"),
        ({"seconds": 0.001}, "fewer than two samples"),
        ({"n_sources": (3, 1)}, "n_sources"),
        ({"n_sources": 1.5}, "whole numbers"),
        ({"extent_mm": (-1.0, 5.0)}, "extent_mm"),
        ({"snr_db": np.nan}, "snr_db"),
        ({"noise": ("pink",)}, "noise must be"),
        ({"noise": ("real",)}, "real_noise"),
        ({"noise": "white"}, "noise must be"),
        ({"kinds": ("ramp",)}, "Waveforms"),
        ({"none": 1.5}, "none"),
        ({"channel_dropout": 1.0}, "channel_dropout"),
        ({"background": 0.5}, "no background"),
        ({"jitter_mm": -1.0}, "jitter_mm"),
        ({"conductivity_spread": 2.0}, "conductivity_spread"),
        ({"subsets": [["Fp1", "Nose"]]}, "Nose"),
        ({"noise_uv": 0.0}, "noise_uv"),
    ],
)
def test_nonsense_is_refused_in_one_sentence(head, options: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        SourceSimulator(head, **options)
    assert "\n" not in str(caught.value)


def test_a_draw_refuses_nonsense(head) -> None:
    simulator = SourceSimulator(head)
    with pytest.raises(ValueError, match="n=0"):
        simulator.draw(0)
    with pytest.raises(ValueError, match="centres"):
        simulator.draw(2, centres=[[1]])
    with pytest.raises(ValueError, match="one of the 300"):
        simulator.draw(1, centres=[[300]])
    with pytest.raises(TypeError, match="WaveformBank"):
        SourceSimulator(head, bank="bank.npz")
    with pytest.raises(TypeError, match="source_model"):
        SourceSimulator("head-fwd.fif")


def test_deep_points_are_sources_of_their_own(sphere_head, bank) -> None:
    head = sphere_head(200, n_deep=4)
    batch = SourceSimulator(head, bank, none=0.0, n_sources=2).draw(3, 0, centres=[[201, 40]] * 3, snr_db=10.0)
    assert batch.sources.shape == (3, 204, 100)
    for patches, active in zip(batch.patches, batch.active, strict=True):
        assert patches[0].indices.tolist() == [201]
        assert active[200:].tolist() == [False, True, False, False]
    assert np.isfinite(batch.x).all()
