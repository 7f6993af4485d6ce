"""An inverse on a small head: the same result however the data come, and one sentence where there is none."""

from __future__ import annotations

import mne
import numpy as np
import pytest
import torch

from mne_labram.models.brainforge import BrainForge
from mne_labram.signal.contract import ContractError
from mne_labram.source.head import SourceModel
from mne_labram.source.inverse import BrainForgeInverse, fresh_network
from mne_labram.source.simulate import SourceSimulator


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
def head(sphere_head) -> SourceModel:
    return sphere_head(150)


@pytest.fixture(scope="module")
def inverse(head, network) -> BrainForgeInverse:
    return BrainForgeInverse(head, model=network)


@pytest.fixture(scope="module")
def signal(head) -> np.ndarray:
    """Return 4 s of some sources in white noise, at 200 Hz; µV in the average reference."""
    drawn = SourceSimulator(head, seconds=4.0, sfreq=200.0, noise=("white",), none=0.0, channel_dropout=0.0)
    return drawn.draw(1, 3, n_sources=2, snr_db=15.0).x[0].astype(float)


def _info(head: SourceModel, sfreq: float = 200.0) -> mne.Info:
    return mne.create_info(list(head.ch_names), sfreq, "eeg")


def _evoked(head: SourceModel, x: np.ndarray, sfreq: float = 200.0, tmin: float = -0.1) -> mne.Evoked:
    return mne.EvokedArray(x * 1e-6, _info(head, sfreq), tmin=tmin)


def _raw(head: SourceModel, x: np.ndarray, sfreq: float = 200.0) -> mne.io.RawArray:
    return mne.io.RawArray(x * 1e-6, _info(head, sfreq), verbose="error")


def _difference(one, two) -> float:
    return float(np.abs(one.data - two.data).max() / np.abs(one.data).max())


def test_an_average_becomes_a_source_estimate_in_ampere_metres(inverse, head, signal):
    evoked = _evoked(head, signal[:, :160])
    before = evoked.data.copy()
    stc = inverse.apply(evoked)
    assert isinstance(stc, mne.SourceEstimate)
    assert stc.shape == (150, 160)
    assert stc.tmin == evoked.times[0]
    assert stc.tstep == pytest.approx(1 / 200)
    assert np.array_equal(stc.vertices[0], head.vertices[0])
    assert len(stc.vertices[1]) == 0
    assert np.array_equal(evoked.data, before)
    # What is found explains the signal, in its scale.
    explained = head.averaged @ (stc.data * 1e9)
    recorded = signal[:, :160] - signal[:, :160].mean(axis=0)
    assert np.square(recorded - explained).sum() < 0.5 * np.square(recorded).sum()


def test_reference_and_order_of_channels_do_not_matter(inverse, head, signal):
    evoked = _evoked(head, signal[:, :160])
    wanted = inverse.apply(evoked)
    assert _difference(wanted, inverse.apply(_evoked(head, signal[:, :160] - signal[5, :160]))) < 1e-3
    order = list(reversed(head.ch_names))
    assert _difference(wanted, inverse.apply(evoked.copy().reorder_channels(order))) < 1e-3


def test_bad_channels_are_left_out(inverse, head, signal):
    evoked = _evoked(head, signal[:, :160])
    dropped = inverse.apply(evoked.copy().drop_channels(head.ch_names[3:6]))
    evoked.data[3] = np.nan
    evoked.data[4] *= 1e4
    evoked.info["bads"] = head.ch_names[3:6]
    assert _difference(dropped, inverse.apply(evoked)) < 1e-6


def test_raw_epochs_and_averages_of_the_same_samples_agree(inverse, head, signal):
    raw = _raw(head, signal)
    part = inverse.apply(raw, start=1.0, stop=2.0)
    assert part.tmin == 1.0
    assert part.shape == (150, 200)
    events = np.array([[200, 0, 1], [500, 0, 1]])
    epochs = mne.Epochs(raw, events, tmin=0.0, tmax=0.995, baseline=None, preload=False, verbose="error")
    found = inverse.apply(epochs)
    assert isinstance(found, list)
    assert len(found) == 2
    assert _difference(part, found[0]) < 1e-4
    again = list(inverse.apply(epochs, return_generator=True))
    assert _difference(found[1], again[1]) == 0.0
    assert _difference(found[0], inverse.apply(_evoked(head, signal[:, 200:400], tmin=0.0))) < 1e-4


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_stream_of_pieces_is_the_whole(inverse, head, signal, batch_size):
    raw = _raw(head, signal)
    whole = inverse.apply(raw)
    pieces = list(inverse.apply(raw, return_generator=True, batch_size=batch_size))
    assert len(pieces) > 1
    assert np.allclose(np.concatenate([piece.times for piece in pieces]), whole.times)
    joined = np.concatenate([piece.data for piece in pieces], axis=1)
    assert np.abs(joined - whole.data).max() < 1e-3 * np.abs(whole.data).max()


@pytest.mark.parametrize("sfreq", [100.0, 5000.0, 50.0])
def test_the_rate_is_that_of_the_data(inverse, head, signal, sfreq):
    slow = mne.filter.resample(signal[:, :200], down=2.0, verbose="error")
    reference = inverse.apply(_evoked(head, slow, 100.0))
    x = slow if sfreq == 100.0 else mne.filter.resample(slow, up=sfreq, down=100.0, verbose="error")
    stc = inverse.apply(_evoked(head, x, sfreq))
    assert stc.data.shape[1] == x.shape[1]
    assert stc.tstep == pytest.approx(1 / sfreq)
    if sfreq == 5000.0:
        one, two = reference.data[:, 20:80], stc.data[:, 1000:4000:50]
        assert np.corrcoef(one.ravel(), two.ravel())[0, 1] > 0.95


def test_ten_samples_are_enough(inverse, head, signal):
    stc = inverse.apply(_evoked(head, signal[:, 100:110], 1000.0))
    assert stc.shape == (150, 10)
    assert np.isfinite(stc.data).all()
    assert stc.data.any()


def test_lost_rank_is_taken_out_of_the_leadfield(inverse, head, signal):
    x = signal.copy()
    # Channels that others were put together for: no new information, and none that it could contradict.
    x[4:12] = np.linspace(0.1, 0.8, 8)[:, None] * x[20] + x[21] / 3
    raw = _raw(head, x)
    with mne.utils.catch_logging() as log:
        stc = inverse.apply(raw, stop=1.0, verbose=True)
    assert "rank 24 of 31" in log.getvalue()
    assert np.isfinite(stc.data).all()
    assert stc.data.any()
    projected = raw.copy().set_eeg_reference(projection=True, verbose="error").apply_proj(verbose="error")
    assert _difference(stc, inverse.apply(projected, stop=1.0)) < 1e-2


def test_noise_covariance_is_scaled_by_the_trials_of_an_average(head, network, signal):
    variance = np.full(len(head.ch_names), 4e-12)
    single = mne.Covariance(np.diag(variance), head.ch_names, [], [], 100)
    averaged = mne.Covariance(variance / 25, head.ch_names[::-1], [], [], 100)
    evoked = _evoked(head, signal[:, :160])
    one = BrainForgeInverse(head, model=network, noise_cov=averaged).apply(evoked)
    evoked.nave = 25
    two = BrainForgeInverse(head, model=network, noise_cov=single).apply(evoked)
    assert _difference(one, two) < 1e-4
    evoked.nave = 1
    assert _difference(one, BrainForgeInverse(head, model=network, noise_cov=single).apply(evoked)) > 1e-2


def test_deep_points_make_it_mixed(sphere_head, network, signal):
    deep = sphere_head(150, n_deep=5)
    two = BrainForgeInverse(deep, model=network)
    stc = two.apply(_evoked(deep, signal[:, :160]))
    assert isinstance(stc, mne.MixedSourceEstimate)
    assert [len(each) for each in stc.vertices] == [150, 0, 5]
    assert stc.shape == (155, 160)


def test_what_is_saved_is_what_is_loaded(inverse, head, signal, tmp_path):
    evoked = _evoked(head, signal[:, :160])
    path = inverse.save(tmp_path / "inverse.safetensors")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        inverse.save(path)
    loaded = BrainForgeInverse.load(path)
    assert np.array_equal(loaded.apply(evoked).data, inverse.apply(evoked).data)
    assert loaded.head.digest == head.digest
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match="damaged"):
        BrainForgeInverse.load(path)
    with pytest.raises(ValueError, match=r"let the name end in \.safetensors"):
        inverse.save(tmp_path / "inverse.npz")


def test_where_says_where(inverse, head, signal):
    stc = inverse.apply(_evoked(head, signal[:, :160]))
    vertex, time = stc.get_peak(hemi="lh")
    assert f"left hemisphere, vertex {vertex} " in inverse.where(stc)
    assert f"at {time:.3f} s" in inverse.where(stc)


def test_fresh_weights_must_be_trained_first(head, signal):
    with pytest.raises(ContractError, match="call fit first"):
        BrainForgeInverse(head, model=None).apply(_evoked(head, signal))


def test_a_network_is_copied(head, network):
    assert BrainForgeInverse(head, model=network).base is not network
    with pytest.raises(TypeError, match="must be a BrainForge, a name, a path or None"):
        BrainForgeInverse(head, model=3)


def _spoiled(head, signal, how):
    x, names = signal[:, :400].copy(), list(head.ch_names)
    if how == "nan":
        x[2, 7] = np.nan
    elif how == "volts":
        x *= 1e6
    elif how == "constant":
        x[3:6] = 0.0
    elif how == "all constant":
        x[:] = 0.0
    elif how == "offsets":
        x += np.linspace(-5e4, 5e4, len(x))[:, None]
    elif how == "bipolar":
        names[0] = "F3-C3"
    elif how == "strange":
        names[0] = "E1"
    raw = mne.io.RawArray(x * 1e-6, mne.create_info(names, 200.0, "eeg"), verbose="error")
    if how == "few":
        raw.pick(names[:7])
    elif how == "no eeg":
        raw.set_channel_types(dict.fromkeys(names, "misc"), verbose="error")
    return raw


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("nan", "hold NaN or infinite samples in '"),
        ("volts", "if the numbers are in uV, pass assume_unit='uV'"),
        ("constant", "3 channels are constant .*; mark them as bad"),
        ("all constant", "nothing but constant channels"),
        ("offsets", "high-pass filter the data first"),
        ("bipolar", "'F3-C3' is a bipolar channel"),
        ("strange", "The forward has no EEG channel 'E1'"),
        ("few", "needs at least 8 EEG channels and there are 7"),
        ("no eeg", "no good EEG channels"),
    ],
)
def test_bad_data_are_refused_in_a_sentence(inverse, head, signal, how, sentence):
    with pytest.raises(ContractError, match=sentence) as error:
        inverse.apply(_spoiled(head, signal, how))
    assert str(error.value).endswith(".")
    assert ". " not in str(error.value)


def test_bad_arguments_are_refused(inverse, head, signal):
    evoked = _evoked(head, signal[:, :160])
    with pytest.raises(ValueError, match="window must be a positive number"):
        inverse.apply(evoked, window=0.0)
    with pytest.raises(ValueError, match="crop Epochs and Evoked"):
        inverse.apply(evoked, start=0.1)
    with pytest.raises(ValueError, match="within the recording of 4 s"):
        inverse.apply(_raw(head, signal), start=3.0, stop=9.0)
    with pytest.raises(TypeError, match="got ndarray"):
        inverse.apply(signal)
    with pytest.raises(ContractError, match="One sample"):
        inverse.apply(_evoked(head, signal[:, :1]))
    few = mne.Covariance(np.ones(3), head.ch_names[:3], [], [], 10)
    other = BrainForgeInverse(head, model=inverse.base, noise_cov=few)
    with pytest.raises(ContractError, match="noise covariance has no channel"):
        other.apply(evoked)


def test_too_much_at_once_is_refused(inverse, head, signal, monkeypatch):
    monkeypatch.setattr("mne_labram.source.inverse._LARGEST", 1000)
    with pytest.raises(ContractError, match="pass return_generator=True"):
        inverse.apply(_raw(head, signal))


def test_an_average_without_baseline_is_refused(inverse, head, signal):
    evoked = _evoked(head, signal[:, :160] + np.linspace(-300.0, 300.0, len(signal))[:, None])
    with pytest.raises(ContractError, match="take the baseline off first"):
        inverse.apply(evoked)
    assert np.isfinite(inverse.apply(evoked.apply_baseline((None, 0), verbose="error")).data).all()
