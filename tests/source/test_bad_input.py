"""Recordings as people have them, through heads as people make them: a right answer, or one sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mne
import numpy as np
import pytest
import torch

import mne_labram  # noqa: F401  (gives recordings their pipe)
from mne_labram import brainforge_localize
from mne_labram.models.brainforge import BrainForge
from mne_labram.signal.contract import ContractError
from mne_labram.source.figure import plot_sources
from mne_labram.source.headmodel import default_forward
from mne_labram.source.inverse import BrainForgeInverse, fresh_network
from mne_labram.source.localizable import noise_in_microvolts
from mne_labram.source.warp import warped_cortex


@pytest.fixture(scope="module")
def network() -> BrainForge:
    """Return a small network whose judgement is not the same everywhere."""
    small = fresh_network(0, embed_dim=16, num_layers=1, time_dim=16, time_layers=1, num_heads=2)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for stage in small.stages:
            stage.judge.weight.normal_(0.0, 0.3, generator=generator)
    return small.eval()


@pytest.fixture(scope="module")
def eegmat(shared_data: Path) -> mne.io.BaseRaw:
    """Return four seconds of rest: 19 electrodes, ears against each other and an ECG, all of them EEG to the file."""
    raw = mne.io.read_raw_edf(shared_data / "eegmat" / "Subject20_1.edf", verbose="error")
    return raw.crop(20.0, 24.0, include_tmax=False).load_data(verbose="error")


@pytest.fixture(scope="module")
def fwd(eegmat: mne.io.BaseRaw, head_cache: Path) -> mne.Forward:
    return default_forward(eegmat.info, spacing="ico2", cache=head_cache, verbose="ERROR")


@pytest.fixture(scope="module")
def found(eegmat: mne.io.BaseRaw, fwd: mne.Forward, network: BrainForge) -> mne.SourceEstimate:
    return eegmat.pipe(brainforge_localize, fwd, model=network)


@pytest.fixture(scope="module")
def sample(shared_data: Path, head_cache: Path) -> tuple[mne.Evoked, mne.Forward]:
    """Return MNE's sample subject: an average of MEG and EEG, and the forward of both through its own head."""
    folder = shared_data / "mne_sample_evoked"
    evoked = mne.read_evokeds(folder / "test-ave.fif.gz", condition="Left visual", verbose="ERROR")
    bem = mne.read_bem_solution(folder / "sample-320-320-320-bem-sol.fif", verbose="ERROR")
    trans = mne.read_trans(folder / "sample_audvis_trunc-trans.fif")
    src = warped_cortex(bem, trans, spacing="ico2", cache=head_cache, verbose="ERROR")
    # Two gradiometers and two magnetometers stand for all.
    info = mne.pick_info(evoked.info, [*range(4), *mne.pick_types(evoked.info, meg=False, eeg=True)])
    return evoked, mne.make_forward_solution(info, trans, src, bem, verbose="ERROR")


def _difference(one: mne.SourceEstimate, two: mne.SourceEstimate) -> float:
    return float(np.abs(one.data - two.data).max() / np.abs(one.data).max())


def _electrodes(raw: mne.io.BaseRaw) -> mne.io.BaseRaw:
    return raw.copy().pick(raw.ch_names[:19]).rename_channels(lambda name: name.removeprefix("EEG "))


def test_what_is_no_electrode_is_left_out_and_said_once(eegmat, fwd, network, found):
    assert found.shape == (fwd["nsource"], 2000)
    assert np.isfinite(found.data).all()
    assert found.tmin == 0.0
    with mne.utils.catch_logging() as log:
        eegmat.pipe(brainforge_localize, model=network, stop=0.5, verbose=True)
    assert log.getvalue().count("left out: EEG A2-A1, ECG ECG.") == 1


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: name,
        str.upper,
        lambda name: f"EEG {name}-REF",
        lambda name: f"{name}-LE",
        lambda name: {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}.get(name, name),
    ],
)
def test_names_of_electrodes_may_differ_from_the_forward(
    eegmat, fwd, network, found, rename: Callable[[str], str]
) -> None:
    raw = _electrodes(eegmat).rename_channels(rename)
    with mne.utils.catch_logging() as log:
        assert _difference(found, raw.pipe(brainforge_localize, fwd, model=network, verbose=True)) < 1e-6
    assert "Electrodes that the forward calls otherwise" in log.getvalue()
    covariance = mne.Covariance(np.arange(19.0) * 1e-12, [name.upper() for name in raw.ch_names], [], [], 10)
    there = [name.removesuffix("-REF") for name in raw.ch_names]
    assert np.allclose(np.diag(noise_in_microvolts(covariance, there)), np.arange(19))


def test_an_electrode_that_two_channels_could_be_is_not_guessed(eegmat, fwd, network):
    raw = _electrodes(eegmat)
    with pytest.raises(ContractError, match="has no EEG channel 'T7', 'T3'; drop"):
        raw.rename_channels({"T3": "T7", "T5": "T3"}).pipe(brainforge_localize, fwd, model=network)
    with pytest.raises(ContractError, match="has no EEG channel 'E7'; drop"):
        _electrodes(eegmat).rename_channels({"F3": "E7"}).pipe(brainforge_localize, fwd, model=network)


@pytest.mark.parametrize("reference", [["Cz"], "average", ["O1", "O2"]])
def test_no_reference_is_missing(eegmat, fwd, network, found, reference):
    raw = _electrodes(eegmat).set_eeg_reference(reference, verbose="error")
    assert _difference(found, raw.pipe(brainforge_localize, fwd, model=network)) < 1e-4


def test_a_bad_channel_is_one_that_is_not_there(eegmat, fwd, network, found, head_cache):
    """Marked as bad, dropped, or absent from the forward as well: the same sources."""
    raw = _electrodes(eegmat)
    dropped = raw.copy().drop_channels(["F3", "O1"])
    wanted = dropped.pipe(brainforge_localize, fwd, model=network)
    assert _difference(found, wanted) > 1e-3
    raw.info["bads"] = ["F3", "O1"]
    raw._data[raw.ch_names.index("O1")] = np.nan
    assert np.array_equal(wanted.data, raw.pipe(brainforge_localize, fwd, model=network).data)
    without = default_forward(dropped.info, spacing="ico2", cache=head_cache, verbose="ERROR")
    assert _difference(wanted, dropped.pipe(brainforge_localize, without, model=network)) < 1e-4


def test_eight_electrodes_are_enough_and_seven_are_not(eegmat, fwd, network):
    raw = _electrodes(eegmat).pick(["Fp1", "Fp2", "C3", "C4", "O1", "O2", "T3", "T4"])
    stc = raw.pipe(brainforge_localize, fwd, model=network)
    assert stc.shape == (fwd["nsource"], 2000)
    assert np.isfinite(stc.data).all()
    assert stc.data.any()
    raw.info["bads"] = ["T4"]
    with pytest.raises(ContractError, match="at least 8 EEG channels and there are 7"):
        raw.pipe(brainforge_localize, fwd, model=network)


def test_millivolts_are_noticed_and_understood(eegmat, fwd, network, found):
    raw = eegmat.copy().apply_function(lambda x: 1e3 * x, picks="eeg")
    with pytest.raises(ContractError, match="if the numbers are in mV, pass assume_unit='mV'"):
        raw.pipe(brainforge_localize, fwd, model=network)
    assert _difference(found, raw.pipe(brainforge_localize, fwd, model=network, assume_unit="mV")) < 1e-6
    with pytest.raises(ValueError, match="assume_unit must be one of"):
        raw.pipe(brainforge_localize, fwd, model=network, assume_unit="millivolt")


def test_a_bipolar_recording_is_refused(shared_data, network):
    raw = mne.io.read_raw_edf(shared_data / "chbmit" / "chb01_03_ictal.edf", verbose="error")
    with pytest.raises(ContractError, match="'FP1-F7' is a bipolar channel"):
        raw.pipe(brainforge_localize, model=network)


@pytest.mark.parametrize("sfreq", [100.0, 5000.0])
def test_rates_of_a_real_recording(eegmat, fwd, network, found, sfreq):
    raw = _electrodes(eegmat).resample(sfreq, verbose="error")
    stc = raw.pipe(brainforge_localize, fwd, model=network, stop=2.0)
    assert stc.shape == (fwd["nsource"], 2 * sfreq)
    assert stc.tstep == pytest.approx(1 / sfreq)
    slow = mne.filter.resample(found.data.astype(float), up=1, down=5, verbose="error")[:, 20:150]
    again = mne.filter.resample(stc.data.astype(float), up=100, down=sfreq, verbose="error")[:, 20:150]
    assert np.corrcoef(slow.ravel(), again.ravel())[0, 1] > 0.9


def test_ten_samples(eegmat, fwd, network, sample):
    raw = _electrodes(eegmat).crop(1.0, 1.018)
    assert len(raw.times) == 10
    for stc in (
        raw.pipe(brainforge_localize, fwd, model=network),
        mne.EvokedArray(raw.get_data(), raw.info).pipe(brainforge_localize, fwd, model=network),
        sample[0].copy().crop(0.15, 0.1651).pipe(brainforge_localize, sample[1], model=network),
    ):
        assert stc.data.shape[1] == 10
        assert np.isfinite(stc.data).all()
        assert stc.data.any()


def test_an_interpolated_channel_adds_no_rank(eegmat, fwd, network):
    raw = _electrodes(eegmat)
    raw.set_montage(mne.channels.make_standard_montage("colin27_1020"))
    raw.info["bads"] = ["F3"]
    wanted = raw.pipe(brainforge_localize, fwd, model=network)
    raw.interpolate_bads(verbose="error")
    with mne.utils.catch_logging() as log:
        stc = raw.pipe(brainforge_localize, fwd, model=network, verbose=True)
    assert "rank 17 of 18" in log.getvalue()
    # What was made of the others tells little that they did not.
    assert np.corrcoef(wanted.data.ravel(), stc.data.ravel())[0, 1] > 0.8


def test_a_forward_of_fewer_sources(eegmat, fwd, network):
    """Sources that MNE dropped near the skull, or a label of one hemisphere: vertices are those that are left."""
    src = fwd["src"]
    kept = [space["vertno"][::3] for space in src]
    few = mne.forward.restrict_forward_to_stc(fwd, mne.SourceEstimate(np.zeros((sum(map(len, kept)), 1)), kept, 0, 1))
    stc = eegmat.pipe(brainforge_localize, few, model=network)
    assert all(map(np.array_equal, stc.vertices, kept))
    assert np.isfinite(stc.data).all()
    left = [kept[0], np.zeros(0, int)]
    one = mne.forward.restrict_forward_to_stc(fwd, mne.SourceEstimate(np.zeros((len(kept[0]), 1)), left, 0, 1))
    stc = eegmat.pipe(brainforge_localize, one, model=network)
    assert [len(each) for each in stc.vertices] == [len(kept[0]), 0]


def test_free_orientation_meg_and_eeg_through_a_head_of_ones_own(sample, network):
    evoked, fwd = sample
    assert fwd["source_ori"] == 2
    with pytest.raises(ContractError, match="take the baseline off first"):
        evoked.pipe(brainforge_localize, fwd, model=network)
    evoked = evoked.copy().apply_baseline((None, 0), verbose="error")
    stc = evoked.pipe(brainforge_localize, fwd, model=network)
    assert stc.shape == (fwd["nsource"], len(evoked.times))
    fixed = mne.convert_forward_solution(fwd, surf_ori=True, force_fixed=True, verbose="error")
    assert _difference(stc, evoked.pipe(brainforge_localize, fixed, model=network)) < 5e-3
    only = mne.pick_types_forward(fwd, meg=True, eeg=False)
    with pytest.raises(ContractError, match="The forward has no EEG channels"):
        evoked.pipe(brainforge_localize, only, model=network)
    with pytest.raises(ContractError, match="no good EEG channels"):
        evoked.copy().pick("meg").pipe(brainforge_localize, fwd, model=network)
    with pytest.raises(TypeError, match="must be an mne.Forward, got str"):
        evoked.pipe(brainforge_localize, "sample-fwd.fif", model=network)


def test_unknown_weights_are_not_the_end(fwd):
    with pytest.raises(FileNotFoundError, match=r"model=None\)\.fit\(\) trains one without any weights\.$") as error:
        BrainForgeInverse(fwd, model="brainforge-of-nobody")
    assert "brainforge-of-nobody" in str(error.value)


def test_a_figure_of_something_else(fwd, found, eegmat):
    with pytest.raises(TypeError, match="One source estimate can be drawn, got list"):
        plot_sources([found], fwd, show=False)
    with pytest.raises(TypeError, match="evoked must be an mne.Evoked"):
        plot_sources(found, fwd, evoked=eegmat, show=False)
