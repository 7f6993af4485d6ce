"""Source imaging in one table: windows are what they are said to be, and methods get what they are told they get."""

from __future__ import annotations

from pathlib import Path

import mne
import numpy as np
import pytest
import torch

from mne_labram.benchmark import source_page as module
from mne_labram.benchmark.source import (
    GRID,
    MEASURES,
    SourceMethod,
    SourceRow,
    benchmark_source,
    rounded,
    score_estimate,
)
from mne_labram.benchmark.source_methods import (
    MinimumNorm,
    MixedNorm,
    NetworkEstimator,
    classical_methods,
    fitted_methods,
    network_methods,
)
from mne_labram.benchmark.source_page import compare, source_benchmark_page, source_page
from mne_labram.benchmark.source_windows import (
    MONTAGES,
    ImagingHead,
    SourceCase,
    SourceWindow,
    draw_windows,
    imaging_head,
    true_heads,
)
from mne_labram.models import BrainForge, DeepSIF, LabramTokenizer
from mne_labram.signal.contract import ContractError
from mne_labram.source.bank import WaveformBank
from mne_labram.source.deepsif_training import fresh_deepsif
from mne_labram.source.head import SourceModel, source_model
from mne_labram.source.headmodel import perturbed_forward
from mne_labram.source.inverse import BrainForgeInverse, fresh_network
from mne_labram.source.noise import ColouredNoise
from mne_labram.weights import save_checkpoint

CASES = (SourceCase(1, 20.0), SourceCase(2, 5.0))


@pytest.fixture(scope="module")
def cache(request: pytest.FixtureRequest) -> Path:
    """Where the heads of the tests of source/ are kept too."""
    return Path(request.config.cache.mkdir("mne_labram"))


@pytest.fixture(scope="module")
def head(cache: Path) -> ImagingHead:
    return imaging_head(MONTAGES["19"], spacing="ico2", cache=cache)


@pytest.fixture(scope="module")
def true(cache: Path) -> list[SourceModel]:
    return true_heads(MONTAGES["19"], n_heads=2, spacing="ico3", bem_ico=2, cache=cache)


@pytest.fixture(scope="module")
def windows(head: ImagingHead, true: list[SourceModel]) -> list[SourceWindow]:
    return draw_windows(head, true, CASES, n_windows=5)


def test_montages_are_parts_of_the_largest() -> None:
    assert [len(names) for names in MONTAGES.values()] == [19, 32, 64]
    assert set(MONTAGES["19"]) | set(MONTAGES["32"]) <= set(MONTAGES["64"])


def test_true_heads_are_other_heads(head: ImagingHead, true: list[SourceModel], cache: Path) -> None:
    one, two = true
    assert one.n_sources == two.n_sources == 1284 > head.model.n_sources == 324
    np.testing.assert_array_equal(one.positions, two.positions)
    alike = (one.averaged * two.averaged).sum(axis=0)
    alike /= np.linalg.norm(one.averaged, axis=0) * np.linalg.norm(two.averaged, axis=0)
    assert 0.9 < np.percentile(alike, 5) < np.median(alike) < 0.9999
    again = true_heads(MONTAGES["19"], n_heads=1, spacing="ico3", bem_ico=2, cache=cache)[0]
    np.testing.assert_array_equal(again.leadfield, one.leadfield)
    with pytest.raises(ValueError, match="At least one head"):
        true_heads(MONTAGES["19"], n_heads=0)


def test_windows_are_what_they_are_said_to_be(head: ImagingHead, windows: list[SourceWindow]) -> None:
    assert [window.case for window in windows] == [case for case in CASES for _ in range(5)]
    for window in windows:
        assert window.x.shape == (19, 100)
        np.testing.assert_allclose(window.x.mean(axis=0), 0, atol=1e-4)
        assert len(window.centres) == len(window.waveforms) == window.case.n_sources
        assert window.weights.shape == (window.case.n_sources, 324)
        np.testing.assert_allclose(window.noise_covariance.sum(axis=0), 0, atol=1e-3)
        power = (window.x**2).sum(axis=0).mean()
        # Signal and noise are not quite orthogonal.
        snr = 10 * np.log10(power / np.trace(window.noise_covariance) - 1)
        assert snr == pytest.approx(window.case.snr_db, abs=3)
        # What is true explains the signal, through a head that is a little off and much coarser.
        explained = head.model.averaged @ window.truth
        if window.case.snr_db == 20:
            assert np.corrcoef(explained.ravel(), window.x.ravel())[0, 1] > 0.6
    assert len({window.depth for window in windows}) > 1


def test_nothing_is_drawn_that_a_training_draws(head: ImagingHead, true: list[SourceModel], cache: Path) -> None:
    """Of the same seed 0: neither where electrodes are nor where the brain is busy."""
    info = mne.create_info(MONTAGES["19"], 100.0, "eeg")
    thought = head.model.electrodes
    for number, model in enumerate(true):
        rng = np.random.default_rng((0, number))
        seen = source_model(perturbed_forward(info, seed=rng, spacing="ico1", bem_ico=2, cache=cache))
        here, there = (each.electrodes - thought for each in (model, seen))
        assert np.sqrt(np.square(here).mean()) > 1e-3
        assert abs(np.corrcoef(here.ravel(), there.ravel())[0, 1]) < 0.5
    centring = np.eye(19) - 1 / 19
    drawn = draw_windows(head, true[:1], [SourceCase(1, 0.0)], n_windows=8, noise=("coloured",))
    for seed in (0, *range(1, 4)):
        for state in centring @ ColouredNoise(true[0], seed=seed).covariances @ centring:
            for window in drawn:
                unit = window.noise_covariance / np.trace(window.noise_covariance)
                assert np.abs(unit - state).max() > 1e-4


def test_windows_follow_from_the_seed(head: ImagingHead, true: list[SourceModel], windows: list[SourceWindow]) -> None:
    alone = draw_windows(head, true, CASES[1:], n_windows=5)
    for one, other in zip(alone, windows[5:], strict=True):
        np.testing.assert_array_equal(one.x, other.x)
    other = draw_windows(head, true, CASES[1:], n_windows=1, seed=1)[0]
    assert np.abs(other.x - alone[0].x).max() > 0.1
    with pytest.raises(ValueError, match="nothing to simulate"):
        draw_windows(head, true, CASES, n_windows=0)
    with pytest.raises(ContractError, match="other channels"):
        draw_windows(head, [true[0].pick(MONTAGES["19"][:12])], CASES)
    with pytest.raises(ContractError, match="these have others"):
        draw_windows(head, [true[0], head.model], CASES, n_windows=2)


def test_the_truth_scores_best(head: ImagingHead, windows: list[SourceWindow]) -> None:
    for window in windows[:5]:
        values = score_estimate(window, window.truth, head.model)
        assert tuple(values) == MEASURES
        # Half of the distance between sources of the coarse head.
        assert values["peak_mm"] < 20
        assert values["dispersion_mm"] < 20
        assert values["correlation"] > 0.99
        assert values["auc"] > 0.95
        assert values["amplitude_db"] == pytest.approx(0, abs=1e-6)
        turned = score_estimate(window, -0.1 * window.truth, head.model)
        assert turned["correlation"] < -0.99
        assert turned["amplitude_db"] == pytest.approx(-20)
        assert turned["auc"] == values["auc"]
        assert np.isnan(score_estimate(window, window.truth, head.model, moments=False)["amplitude_db"])
    with pytest.raises(ContractError, match="must have the shape"):
        score_estimate(windows[0], windows[0].truth[:5], head.model)
    with pytest.raises(ContractError, match="NaN"):
        score_estimate(windows[0], np.nan * windows[0].truth, head.model)


@pytest.mark.parametrize("method", ["MNE", "eLORETA", "sLORETA", "dSPM"])
def test_inverses_are_those_of_mne(head: ImagingHead, windows: list[SourceWindow], method: str) -> None:
    window = windows[0]
    found = MinimumNorm(head, method, 10.0).estimate(window.x, window.noise_covariance)
    assert found.shape == (324, 100)
    info = mne.create_info(head.model.ch_names, 100.0, "eeg")
    evoked = mne.EvokedArray(1e-6 * window.x, info, verbose="ERROR")
    evoked.set_eeg_reference(projection=True, verbose="ERROR")
    covariance = mne.Covariance(1e-12 * window.noise_covariance, info["ch_names"], [], [], nfree=10_000)
    made = mne.minimum_norm.make_inverse_operator(
        evoked.info, head.fwd, covariance, loose=0.0, depth=0.8, verbose="ERROR"
    )
    theirs = mne.minimum_norm.apply_inverse(evoked, made, 0.1, method, verbose="ERROR").data
    moments = method in ("MNE", "eLORETA")
    np.testing.assert_allclose(found, theirs * (1e9 if moments else 1), rtol=1e-3, atol=1e-3 * np.abs(found).max())
    # Ten times as much of everything is ten times as much, or just as significant.
    larger = MinimumNorm(head, method, 10.0).estimate(10 * window.x, 100 * window.noise_covariance)
    np.testing.assert_allclose(larger, (10 if moments else 1) * found, rtol=1e-6, atol=1e-9 * np.abs(found).max())


def test_inverses_want_the_noise_of_their_channels(head: ImagingHead, windows: list[SourceWindow]) -> None:
    with pytest.raises(ContractError, match="must have 19 channels"):
        MinimumNorm(head, "MNE", 10.0).estimate(windows[0].x, np.eye(4))


def test_mixed_norm_finds_a_dipole(head: ImagingHead) -> None:
    rng = np.random.default_rng(0)
    waveform = 100 * np.sin(np.arange(100) / 5)
    x = head.model.averaged[:, [200]] * waveform + 0.05 * rng.standard_normal((19, 100))
    found = MixedNorm(head).estimate(x - x.mean(axis=0), 0.05**2 * (np.eye(19) - 1 / 19))
    active = np.flatnonzero(np.abs(found).max(axis=1))
    assert 1 <= len(active) <= 6
    assert 200 in active
    assert np.corrcoef(found[200], waveform)[0, 1] > 0.9
    assert 0.2 < np.linalg.norm(found[200]) / np.linalg.norm(waveform) < 1.1


class _Stub(torch.nn.Module):
    """The transposed leadfield, scaled by the noise it is told of."""

    def bind_head(self, leadfield, positions, normals, neighbours, electrodes, ch_names):  # noqa: ANN001, ANN202
        assert leadfield.shape == (len(ch_names), len(positions)) == (len(electrodes), neighbours.shape[0])
        bound = _Stub()
        bound.leadfield = torch.as_tensor(np.array(leadfield), dtype=torch.float32)
        return bound

    def forward(self, x: torch.Tensor, noise_covariance: torch.Tensor | None = None) -> torch.Tensor:
        return (1.0 if noise_covariance is None else noise_covariance.trace()) * self.leadfield.T @ x


def test_networks_are_bound_and_told(head: ImagingHead, windows: list[SourceWindow]) -> None:
    window = windows[0]
    plain = head.model.leadfield.T @ window.x
    found = NetworkEstimator(_Stub(), head).estimate(window.x, window.noise_covariance)
    np.testing.assert_allclose(found, np.trace(window.noise_covariance) * plain, rtol=1e-3, atol=1e-2)
    deaf = NetworkEstimator(_Stub(), head, knows_noise=False).estimate(window.x, window.noise_covariance)
    np.testing.assert_allclose(deaf, plain, rtol=1e-3, atol=1e-3)
    nobody_knows = NetworkEstimator(_Stub(), head).estimate(window.x, None)
    np.testing.assert_allclose(nobody_knows, plain, rtol=1e-3, atol=1e-3)


def test_networks_are_measured_as_they_are_applied(head: ImagingHead) -> None:
    """At another rate and length: what a user gets who applies the same network to the same signal."""
    rng = np.random.default_rng(0)
    x = np.cumsum(rng.standard_normal((19, 700)), axis=1) * 3.0
    x -= x.mean(axis=1, keepdims=True)
    network = fresh_network(1)
    estimator = NetworkEstimator(network, ImagingHead(head.model, head.fwd, 300.0))
    info = mne.create_info(head.model.ch_names, 300.0, "eeg")
    inverse = BrainForgeInverse(head.model, model=network)
    applied = inverse.apply(mne.EvokedArray(1e-6 * x, info)).data * 1e9
    found = estimator.estimate(x - x.mean(axis=0), None)
    assert found.shape == (324, 700)
    np.testing.assert_allclose(found, applied, atol=1e-3 * np.abs(applied).max())


def test_networks_may_be_fitted_to_a_head_first(
    head: ImagingHead, windows: list[SourceWindow], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mne_labram.source.inverse.default_bank", WaveformBank)
    network = fresh_network(1, embed_dim=12, num_layers=1, time_dim=8, time_layers=1, num_heads=2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    own, control = network_methods(network)
    (fitted,) = fitted_methods([own, control, *classical_methods(sparse=False)], 2)
    assert fitted.name == "BrainForge, fitted in 2 steps"
    assert not fitted.needs_noise
    x = windows[0].x
    plain, other = (method.make(head, 5.0).estimate(x, None) for method in (own, fitted))
    assert np.abs(other - plain).max() > 1e-3 * np.abs(plain).max()
    # Once for a head, whatever the signal-to-noise ratio; and the network is left as it is.
    np.testing.assert_array_equal(fitted.make(head, 0.0).estimate(x, None), other)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


class _Knows:
    """Knows the truth, or something that is not."""

    def __init__(self, windows: list[SourceWindow], right: bool) -> None:
        self.windows, self.right = windows, right

    def estimate(self, x: np.ndarray, noise_covariance: np.ndarray) -> np.ndarray:
        (window,) = (each for each in self.windows if each.x is x)
        assert noise_covariance is window.noise_covariance
        return window.truth if self.right else np.roll(window.truth, 150, axis=0)


@pytest.fixture(scope="module")
def rows(head: ImagingHead, windows: list[SourceWindow]) -> list[SourceRow]:
    snr: list[float] = []

    def make(right: bool):  # noqa: ANN202
        def made(told: ImagingHead, snr_db: float) -> _Knows:
            assert told is head
            snr.append(snr_db)
            return _Knows(windows, right)

        return made

    found = benchmark_source(
        head, windows, [SourceMethod("wrong", make(False)), SourceMethod("right", make(True), moments=False)],
        montage="19",
    )  # fmt: skip
    assert snr == [20.0, 5.0] * 2
    return found


def test_rows_hold_every_window(rows: list[SourceRow]) -> None:
    assert [(row.method, row.n_sources) for row in rows] == [
        (name, n) for name in ("wrong", "right", GRID) for n in (1, 2)
    ]
    for row in rows:
        assert set(row.values) == set(MEASURES)
        assert {len(values) for values in row.values.values()} == {5} == {len(row.depth)}
    for right, grid in zip(rows[2:4], rows[4:], strict=True):
        assert right.values["localization_mm"] == grid.values["localization_mm"]
        assert np.isnan(right.values["amplitude_db"]).all()
    assert rounded(rows[0])["values"]["auc"] == [round(each, 4) for each in rows[0].values["auc"]]


def test_it_is_said_where_a_method_loses(rows: list[SourceRow]) -> None:
    lost = compare(rows, "wrong")
    assert {each.other for each in lost} == {"right"}
    worse = {(each.n_sources, each.measure) for each in lost if each.loses}
    assert {(1, "peak_mm"), (1, "dispersion_mm"), (1, "auc"), (1, "correlation"), (1, "recall")} <= worse
    # All that is in the table but how many peaks there are, and amplitudes, which some methods do not have.
    assert {each.measure for each in lost} == set(MEASURES) - {"n_peaks", "amplitude_db"}
    won = compare(rows, "right", ["wrong"])
    assert not any(each.loses for each in won)
    for one, other in zip(lost, won, strict=True):
        assert one.better == pytest.approx(-other.better)
    page = source_page(rows)
    (deepest,) = {
        line for line in page.split("by depth:")[1].split("Cases")[0].splitlines() if line.startswith(f"| {GRID}")
    }
    one = rows[4]
    for third, cell in enumerate(deepest.split("|")[2:5]):
        for name, text in zip(("localization_mm", "peak_mm", "dispersion_mm"), cell.split(" / "), strict=True):
            known = [value for value, depth in zip(one.values[name], one.depth, strict=True) if depth == third]
            assert text.strip() == (f"{np.mean(known):.1f}" if known else "-")
    assert "## 19 electrodes" in page
    assert "wrong against right: better in 0 and worse in" in page
    assert "largest peak, mm at 1, 20 dB (-" in page
    assert page.count("| the truth |") == 4
    with pytest.raises(ValueError, match="no rows of 'nobody'"):
        compare(rows, "nobody")


def test_the_page_of_everything(
    head: ImagingHead, true: list[SourceModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, banks = {}, []

    def heads(ch_names: list[str], **settings: object) -> list[SourceModel]:
        asked.update(settings)
        return true[:1]

    network = SourceMethod("network", lambda told, snr_db: NetworkEstimator(_Stub(), told))
    monkeypatch.setattr(module, "true_heads", heads)
    monkeypatch.setattr(module, "imaging_head", lambda ch_names: head)
    monkeypatch.setattr(module, "default_bank", lambda seed: banks.append(seed) or WaveformBank())
    monkeypatch.setattr(module, "network_methods", lambda model, seed: [network])
    page, found = source_benchmark_page(tmp_path, seed=3, quick=True)
    assert asked == {"n_heads": 1, "spacing": "ico3", "bem_ico": 3, "seed": 3}
    assert banks == [4]
    names = ["network", "eLORETA", "sLORETA", "dSPM", "MNE", GRID]
    assert [row["method"] for row in found["rows"][::4]] == names
    for name in names:
        assert f"| {name} |" in page
    assert "network against eLORETA" in page
    assert "## Nothing but noise" in page
    assert [(row["method"], row["known"]) for row in found["silence"][::2]] == [
        ("network", True), ("eLORETA", True), ("MNE", True)
    ]  # fmt: skip
    assert found["ictal"] == found["sides"] == []
    # A method that knows physics and noise beats a transposed leadfield.
    errors = {row["method"]: np.mean(row["values"]["dispersion_mm"]) for row in found["rows"]}
    assert errors[GRID] < errors["eLORETA"]


def test_what_cannot_be_compared(head: ImagingHead, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to measure"):
        benchmark_source(head, [], classical_methods())
    with pytest.raises(ValueError, match="no montage '18'; choose of 19, 32, 64"):
        source_benchmark_page(tmp_path, montages=["18"])
    with pytest.raises(FileNotFoundError, match="There is no folder .*nowhere"):
        source_benchmark_page(tmp_path / "nowhere")
    assert [method.name for method in classical_methods()] == ["eLORETA", "sLORETA", "dSPM", "MNE", "MxNE"]


@pytest.fixture(scope="module")
def deepsif(head: ImagingHead) -> torch.nn.Module:
    return fresh_deepsif(head.model, hidden_dim=8, lstm_dim=8, num_layers=1)


def test_networks_of_one_head_are_for_that_head(
    head: ImagingHead, windows: list[SourceWindow], deepsif: torch.nn.Module, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    one, two = (save_checkpoint(deepsif, tmp_path / name) for name in ("one.safetensors", "run/final.safetensors"))
    forge = BrainForge(ch_names=MONTAGES["19"], embed_dim=8, time_dim=8, num_heads=2)
    methods = network_methods([forge, one, two, str(one)])
    assert [method.name for method in methods] == [
        "BrainForge", "DeepSIF, one", "DeepSIF, run", "DeepSIF, one (4)", "BrainForge, random weights",
    ]  # fmt: skip
    assert [method.any_head for method in methods] == [True, False, False, False, True]
    assert all(method.moments for method in methods)
    assert [method.name for method in network_methods(deepsif)] == ["DeepSIF", "BrainForge, random weights"]
    window = windows[0]
    found = methods[1].make(head, 5.0).estimate(window.x, window.noise_covariance)
    with torch.inference_mode():
        expected = deepsif(torch.as_tensor(window.x[None], dtype=torch.float32))[0].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    other = ImagingHead(head.model.pick(MONTAGES["19"][:12]), head.fwd)
    with pytest.raises(ContractError, match=r"for 19 channels \(FP1, FP2, F7, ...\) in their order, and got 12"):
        methods[1].make(other, 5.0)
    # Without a leadfield it finds no moments.
    plain = DeepSIF(ch_names=MONTAGES["19"], n_sources=324, hidden_dim=8, lstm_dim=8)
    assert not network_methods(plain)[0].moments


def test_what_finds_no_sources_is_no_method(tmp_path: Path) -> None:
    path = save_checkpoint(
        LabramTokenizer(ch_names=["CZ"], embed_dim=16, num_layers=1, num_heads=2), tmp_path / "a.safetensors"
    )
    with pytest.raises(ContractError, match=r"a.safetensors' holds a LabramTokenizer, which finds no sources"):
        network_methods([path])


def test_a_network_of_another_head_is_refused_before_work(
    head: ImagingHead, deepsif: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "imaging_head", lambda ch_names: ImagingHead(head.model.pick(ch_names[:12]), head.fwd))
    monkeypatch.setattr(module, "true_heads", None)
    with pytest.raises(ContractError, match="image with the head that it was trained for"):
        source_benchmark_page(tmp_path, model=[deepsif], montages=["19"])
