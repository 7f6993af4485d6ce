"""Hidden channels by Gram's spatial filter: contracts with any weights, and what it is worth with those that ship."""

from __future__ import annotations

import mne
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mne_labram import ContractError, gram_restore, list_pretrained
from mne_labram.models.gram import GramForRestoration
from mne_labram.restoration.gram_predictor import GramPredictor
from mne_labram.restoration.predictors import ChannelPredictor, SplinePredictor
from mne_labram.signal.positions import electrode_positions

NAMES = "Fp1 Fp2 F7 F3 Fz F4 F8 T7 C3 Cz C4 T8 P7 P3 Pz P4 P8 O1 O2".split()
SMALL = {"rank": 6, "embed_dim": 16, "num_layers": 1, "num_heads": 2}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return GramForRestoration(ch_names=NAMES, size="small", n_codes=16, spatial="coordinates", spatial_filter=SMALL)


def _predictor(model, names=NAMES, sfreq=100.0):
    return GramPredictor(names, electrode_positions(names)[:, :3], sfreq, model=model)


def _signal(n_chans=19, n_times=1000, seed=0):
    return 10 * np.random.default_rng(seed).standard_normal((n_chans, n_times))


@settings(max_examples=15)
@given(
    st.integers(1, 2500),
    st.sampled_from([50.0, 128.0, 500.0, 499.907]),
    st.integers(0, 1000),
    st.floats(-1e4, 1e4),
)
def test_only_what_is_hidden_changes(model, n_times, sfreq, seed, offset):
    rng = np.random.default_rng(seed)
    x, hidden = _signal(19, n_times, seed) + offset, np.zeros((19, n_times), bool)
    for _ in range(3):
        a, b = sorted(rng.integers(0, n_times + 1, 2))
        hidden[rng.permutation(19)[:4], a:b] = True
    before = x.copy()
    x[hidden] = np.nan
    restored, deviation = _predictor(model, sfreq=sfreq).predict(x, hidden)
    np.testing.assert_array_equal(restored[~hidden], before[~hidden])
    assert np.isfinite(restored).all()
    assert np.isfinite(deviation).all()
    assert (deviation[~hidden] == 0).all()
    np.testing.assert_array_equal(np.isnan(x), hidden)
    # Another offset of all channels together is another reference: the prediction goes along.
    moved, _ = _predictor(model, sfreq=sfreq).predict(np.where(hidden, 0, before) + 100.0, hidden)
    np.testing.assert_allclose(moved - 100.0, restored, atol=1e-2)


def test_it_is_a_predictor(model):
    assert isinstance(_predictor(model), ChannelPredictor)


def test_unit_and_scale(model):
    x, hidden = _signal(), np.zeros((19, 1000), bool)
    hidden[[3, 8], 200:700] = True
    one, spread = _predictor(model).predict(x, hidden)
    ten, wider = _predictor(model).predict(10 * x, hidden)
    np.testing.assert_allclose(ten, 10 * one, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(wider, 10 * spread, rtol=1e-3)


def test_long_stretches_are_those_of_short_ones(model):
    """Nothing jumps where windows meet."""
    t = np.arange(6000) / 100.0
    x = np.outer(np.linspace(-1, 2, 19), 20 * np.sin(2 * np.pi * 10 * t)) + 0.1 * _signal(19, 6000)
    hidden = np.zeros((19, 6000), bool)
    hidden[9] = True
    restored, _ = _predictor(model).predict(x, hidden)
    step = np.abs(np.diff(restored[9]))
    assert step.max() < 1.5 * np.quantile(step, 0.99)


def test_what_was_observed_is_used(model):
    x = _signal(19, 4000)
    x[9] = 2.0 * x[3] - x[12]
    hidden = np.zeros((19, 1000), bool)
    hidden[9] = True
    fresh, calibrated = _predictor(model), _predictor(model)
    calibrated.observe(x[:, :3000], np.zeros((19, 3000), bool))
    wanted = x[9, 3000:]
    errors = [np.square(p.predict(x[:, 3000:], hidden)[0][9] - wanted).mean() for p in (fresh, calibrated)]
    assert errors[1] < 0.3 * errors[0]


def test_of_a_doubtful_channel_what_agrees_is_kept(model):
    """A clean channel that is called doubtful stays nearly as it is; a pop goes, and what is far from it stays."""
    t = np.arange(4000) / 100.0
    x = np.outer(np.linspace(0.5, 1.5, 19), 20 * np.sin(2 * np.pi * 6 * t)) + 3 * _signal(19, 4000) / 10
    predictor = _predictor(model)
    predictor.observe(x, np.zeros(x.shape, bool))
    hidden = np.zeros((19, 1000), bool)
    hidden[7] = True
    clean = x[:, :1000]
    reference = np.delete(clean, 7, axis=0).mean(axis=0)
    told, _ = predictor.predict(clean, hidden)
    kept, deviation = predictor.predict(clean, hidden, hidden)
    assert np.square(kept - clean)[7].mean() < 0.5 * np.square(told - clean)[7].mean()
    assert (deviation[7] > 0).all()
    popped = clean.copy()
    popped[7, 500:600] += 400 * np.exp(-np.arange(100) / 20)
    repaired, _ = predictor.predict(popped, hidden, hidden)
    assert np.square(repaired - clean)[7].sum() < 0.05 * np.square(popped - clean)[7].sum()
    assert np.square(repaired - clean)[7, :300].mean() < 0.6 * np.square(told - clean)[7, :300].mean()
    np.testing.assert_array_equal(repaired[~hidden], clean[~hidden])
    assert np.square(clean[7] - reference).mean() > np.square(repaired - clean)[7].mean()
    popped[7, 3] = np.nan
    with pytest.raises(ContractError, match="A doubtful sample is not finite"):
        predictor.predict(popped, hidden, hidden)


def test_two_visible_channels_are_enough_and_one_is_not(model):
    x, hidden = _signal(4, 500), np.zeros((4, 500), bool)
    hidden[:2] = True
    restored, _ = _predictor(model, NAMES[:4]).predict(x, hidden)
    assert np.isfinite(restored).all()
    hidden[:3] = True
    with pytest.raises(ContractError, match="1 of 4 channels are visible at sample 0"):
        _predictor(model, NAMES[:4]).predict(x, hidden)


def test_what_is_refused(model):
    with pytest.raises(ContractError, match="needs a position"):
        GramPredictor(NAMES, np.full((19, 3), np.nan), 100.0, model=model)
    with pytest.raises(ContractError, match="The sampling rate must be positive"):
        _predictor(model, sfreq=0.0)
    plain = GramForRestoration(ch_names=NAMES, size="small", n_codes=16, spatial="coordinates")
    with pytest.raises(ContractError, match="GramForRestoration has no spatial filter"):
        _predictor(plain)
    bands = {**SMALL, "band_edges": [0.0, 10.0]}
    other = GramForRestoration(ch_names=NAMES, size="small", n_codes=16, spatial="coordinates", spatial_filter=bands)
    with pytest.raises(ContractError, match="has bands from .0.0, 10.0. Hz"):
        _predictor(other)
    with pytest.raises(ContractError, match="must both have the shape"):
        _predictor(model).predict(_signal(18), np.zeros((18, 1000), bool))
    x = _signal()
    x[3, 5] = np.inf
    with pytest.raises(ContractError, match="A visible sample is not finite"):
        _predictor(model).predict(x, np.zeros(x.shape, bool))


@pytest.mark.skipif("gram-tiny" not in list_pretrained(), reason="gram-tiny does not ship yet")
def test_better_than_splines_on_a_head_that_no_training_saw(shared_data):
    raw = mne.io.read_raw_edf(shared_data / "eegmat" / "Subject21_1.edf", preload=True, verbose="error")
    raw.pick([name for name in raw.ch_names if "A2" not in name and "ECG" not in name]).crop(0, 60)
    names = [name.removeprefix("EEG ") for name in raw.ch_names]
    x, sfreq = 1e6 * raw.get_data(), raw.info["sfreq"]
    place = electrode_positions(names)[:, :3]
    errors = {}
    for target in (3, 9, 15):
        hidden = np.zeros(x.shape, bool)
        hidden[target] = True
        reference = np.delete(x, target, axis=0).mean(axis=0)
        power = np.square(x[target] - reference).sum()
        for name, made in (
            ("spline", SplinePredictor(names, place, sfreq)),
            ("gram", GramPredictor(names, place, sfreq, model="gram-tiny")),
        ):
            restored, deviation = made.predict(x, hidden)
            errors.setdefault(name, []).append(np.square(restored - x)[target].sum() / power)
        expected = np.square(deviation[target]).sum() / power
        assert 0.2 < expected / errors["gram"][-1] < 5
    assert np.mean(errors["gram"]) < 0.8 * np.mean(errors["spline"])


def test_gram_restore_with_a_model(model, shared_data):
    """On a recording with a pop: only what is named changes, and the pop goes; denoised it is nearer still."""
    raw = mne.io.read_raw_edf(shared_data / "eegmat" / "Subject20_1.edf", preload=True, verbose="error")
    raw.pick([name for name in raw.ch_names if "A2" not in name and "ECG" not in name]).crop(0, 60)
    clean = raw.get_data()
    start, stop = round(20 * raw.info["sfreq"]), round(23 * raw.info["sfreq"])
    spoilt = raw.copy()
    spoilt._data[3, start + 500 : start + 700] += 3e-4 * np.exp(-np.arange(200) / 60)
    before = spoilt.get_data()
    segments = [(20.0, 3.0, [raw.ch_names[3]])]
    errors = {}
    for denoise in (False, True):
        out, report = gram_restore(
            spoilt, "all", segments, method="gram", model=model, denoise=denoise, return_report=True
        )
        changed = out.get_data()
        here = np.zeros(clean.shape, bool)
        here[3, start:stop] = True
        np.testing.assert_array_equal(changed[~here], before[~here])
        errors[denoise] = np.square(changed - clean)[3, start:stop].sum()
        assert np.nanmax(report.uncertainty) > 0
    assert errors[False] < np.square(before - clean)[3, start:stop].sum()
    assert errors[True] < errors[False]
    np.testing.assert_array_equal(spoilt.get_data(), before)
    with pytest.raises(ValueError, match="method='spline' predicts from other channels alone"):
        gram_restore(spoilt, "all", segments, method="spline", denoise=True)


def test_what_most_channels_see_is_taken_out_by_what_is_known_of_the_recording(model):
    """Movement in all channels: the believed ones mislead; what was observed before does not."""
    rng = np.random.default_rng(3)
    t = np.arange(4000) / 100.0
    x = np.outer(np.linspace(0.5, 1.5, 19), 20 * np.sin(2 * np.pi * 6 * t)) + 3 * _signal(19, 4000) / 10
    clean = x[:, 3000:]
    slow = np.cumsum(rng.standard_normal((2, 1000)), axis=1)
    slow -= slow.mean(axis=1, keepdims=True)
    artefact = rng.standard_normal((19, 2)) @ slow * 10
    artefact[:, :300] = 0
    hidden = np.zeros((19, 1000), bool)
    hidden[[4, 7]] = True
    predictor = _predictor(model)
    predictor.observe(x[:, :3000], np.zeros((19, 3000), bool))
    reference = clean[~hidden[:, 0]].mean(axis=0)
    shift = artefact[~hidden[:, 0]].mean(axis=0)
    told, _ = predictor.predict(clean + artefact, hidden)
    assert not predictor.in_most.any()
    kept, deviation = predictor.predict(clean + artefact, hidden, hidden)
    wanted = clean[[4, 7]]
    error = np.square(kept[[4, 7]] - shift - wanted)
    assert error.sum() < 0.1 * np.square(told[[4, 7]] - shift - wanted).sum()
    assert error.sum() < np.square(wanted - reference).sum()
    assert predictor.in_most[400:].mean() > 0.8
    assert not predictor.in_most[50:200].any()
    assert 0.1 < np.square(deviation[[4, 7]]).sum() / error.sum() < 10
    predictor.predict(clean, hidden, hidden)
    assert not predictor.in_most.any()


def test_nothing_overflows_where_the_others_are_flat(model):
    x, hidden = np.zeros((19, 1000)), np.zeros((19, 1000), bool)
    hidden[4] = True
    x[4] = 80 * np.sin(np.arange(1000) / 20)
    predictor = _predictor(model)
    for _ in range(2):
        restored, deviation = predictor.predict(x, hidden, hidden)
        assert np.isfinite(restored).all()
        assert np.isfinite(deviation).all()
        assert np.square(restored[4]).sum() < 0.1 * np.square(x[4]).sum()
        predictor.observe(np.zeros((19, 2000)), np.zeros((19, 2000), bool))


BIPOLAR = (
    "Fp1-F7 F7-T7 T7-P7 P7-O1 Fp1-F3 F3-C3 C3-P3 P3-O1 Fp2-F4 F4-C4 C4-P4 P4-O2 Fp2-F8 F8-T8 T8-P8 P8-O2 Fz-Cz Cz-Pz"
).split()


def _derived(x):
    """Derive channels from referential ones."""
    row = {name: index for index, name in enumerate(NAMES)}
    return np.stack([x[row[one]] - x[row[other]] for one, other in (name.split("-") for name in BIPOLAR)])


@pytest.mark.parametrize("observed", [False, True])
def test_bipolar_channels_that_close_a_loop_are_told_by_the_rest_of_it(model, observed):
    x = _derived(_signal(19, 2000))
    hidden = np.zeros((18, 1000), bool)
    hidden[[2, 9], 200:800] = True
    predictor = GramPredictor(BIPOLAR, electrode_positions(BIPOLAR), 100.0, model=model)
    if observed:
        predictor.observe(x[:, 1000:], np.zeros((18, 1000), bool))
    restored, deviation = predictor.predict(np.where(hidden, 0, x[:, :1000]), hidden)
    np.testing.assert_array_equal(restored[~hidden], x[:, :1000][~hidden])
    error = np.square(restored - x[:, :1000])[hidden].sum() / np.square(x[:, :1000][hidden]).sum()
    assert error < 0.01
    assert 0 < deviation[hidden].mean() < 0.2 * x.std()
    # Beyond a loop it is a guess, and known to be one.
    hidden[[0, 1, 16]] = True
    restored, wider = predictor.predict(np.where(hidden, 0, x[:, :1000]), hidden)
    assert wider[hidden].mean() > 3 * deviation[:, 200:800][[2, 9]].mean()


def test_bipolar_channels_have_no_reference_and_others_beside_them_do(model):
    x = _signal(19, 1000)
    both = np.vstack([_derived(x), x[:4]])
    names = BIPOLAR + NAMES[:4]
    predictor = GramPredictor(names, electrode_positions(names), 100.0, model=model)
    assert predictor.referential.tolist() == [False] * 18 + [True] * 4
    hidden = np.zeros(both.shape, bool)
    hidden[[1, 18]] = True
    restored, _ = predictor.predict(both, hidden)
    # A common signal in the reference of the four moves them alone. Fp1 is Fp2 and what lies between them.
    moved = both.copy()
    moved[18:] += 40 * np.sin(np.arange(1000) / 9)
    again, _ = predictor.predict(moved, hidden)
    np.testing.assert_allclose(again[1], restored[1], atol=0.1)
    np.testing.assert_allclose(again[18] - restored[18], (moved - both)[18], atol=0.1)
    assert np.square(restored[1] - both[1]).mean() < 0.02 * np.square(both[1]).mean()
    hidden[18:] = True
    with pytest.raises(ContractError, match="All channels that have a reference are hidden at once"):
        predictor.predict(both, hidden)


def test_bipolar_channels_are_denoised(model):
    x = _derived(_signal(19, 4000))
    hidden = np.zeros((18, 1000), bool)
    hidden[[4, 5]] = True
    predictor = GramPredictor(BIPOLAR, electrode_positions(BIPOLAR), 100.0, model=model)
    predictor.observe(x[:, 1000:], np.zeros((18, 3000), bool))
    clean, spoilt = x[:, :1000], x[:, :1000].copy()
    # A pop of F3, which both of them see.
    spoilt[4, 300:500] -= 500 * np.exp(-np.arange(200) / 40)
    spoilt[5, 300:500] += 500 * np.exp(-np.arange(200) / 40)
    told, _ = predictor.predict(spoilt, hidden)
    kept, _ = predictor.predict(spoilt, hidden, hidden)
    assert np.square(kept - clean).sum() < np.square(told - clean).sum()


@pytest.mark.skipif("gram-tiny" not in list_pretrained(), reason="gram-tiny does not ship yet")
def test_a_bipolar_recording_is_restored(shared_data):
    raw = mne.io.read_raw_edf(shared_data / "chbmit" / "chb01_03_preictal.edf", preload=True, verbose="error")
    raw.drop_channels(["P7-T7", "T8-P8-1"])
    spoilt = raw.copy()
    spoilt.info["bads"] = ["F7-T7", "C4-P4"]
    rows = [raw.ch_names.index(name) for name in spoilt.info["bads"]]
    spoilt._data[rows] = 0
    out, report = gram_restore(spoilt, return_report=True)
    error, power = (np.square(each).sum() for each in ((out.get_data() - raw.get_data())[rows], raw.get_data()[rows]))
    assert error < 0.25 * power
    expected = np.square(report.uncertainty).mean() * raw.n_times * 2
    assert 0.1 < expected / error < 10
    others = np.delete(np.arange(len(raw.ch_names)), rows)
    np.testing.assert_array_equal(out.get_data()[others], raw.get_data()[others])
    with pytest.raises(ContractError, match="restore them with method='gram'"):
        gram_restore(spoilt, method="spline")
