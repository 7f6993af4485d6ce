from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import hypothesis.strategies as st
import mne
import numpy as np
import pytest
import torch
from braindecode.models.util import models_dict, non_classification_models
from hypothesis import given
from hypothesis.extra.numpy import arrays

from mne_labram import AmplitudeTokenizer, EEGTokenizer, load_checkpoint, save_checkpoint
from mne_labram.models.eegfoundation import round_trip_prd
from mne_labram.models.eegfoundation.levels import AMPLITUDES, N_CODES, N_LEVELS

every_amplitude = pytest.mark.parametrize("amplitude", AMPLITUDES)


def _x(n: int = 2, n_times: int = 400) -> torch.Tensor:
    return 20 * torch.randn(n, 3, n_times, generator=torch.Generator().manual_seed(0))


def _eegmat(shared_data: Path) -> torch.Tensor:
    raw = mne.io.read_raw_edf(shared_data / "eegmat" / "Subject20_1.edf", verbose="error")
    x = raw.get_data(start=0, stop=20 * 1000, units="uV")[:19]
    return torch.from_numpy(x[:, : x.shape[1] // 2000 * 2000]).unflatten(1, (-1, 2000)).transpose(0, 1)


def test_the_published_formula() -> None:
    x = _x().double()
    low, high = x.amin(2, keepdim=True), x.amax(2, keepdim=True)
    wanted = ((x - low) / (high - low) * 1999).round().long()
    codes = AmplitudeTokenizer().encode(x)
    assert codes.dtype == torch.int64
    assert torch.equal(codes, wanted)
    assert (int(codes.min()), int(codes.max())) == (0, N_LEVELS - 1)


@every_amplitude
def test_there_and_back(amplitude: str) -> None:
    tokenizer = AmplitudeTokenizer(amplitude=amplitude)
    x = _x()
    codes, scale, offset = tokenizer.codes(x)
    assert codes.shape == x.shape
    assert scale.shape == offset.shape == x.shape[:2]
    back = tokenizer.decode(codes, scale=scale, offset=offset)
    # Half a level, of which those of µ-law are the widest; robust may clip 1 % of the samples.
    error = (back - x).abs()
    assert float(error.quantile(0.98)) < 0.3
    assert torch.equal(back, tokenizer(x))
    torch.testing.assert_close(tokenizer.decode(codes, 100, scale=scale, offset=offset), back[:, :, :100])


@every_amplitude
def test_encoding_what_was_decoded_changes_nothing(amplitude: str) -> None:
    tokenizer = AmplitudeTokenizer(amplitude=amplitude)
    codes, scale, offset = tokenizer.codes(_x().double())
    back = tokenizer.decode(codes, scale=scale, offset=offset)
    assert torch.equal(tokenizer.quantizer.quantize(back, scale, offset), codes)


@every_amplitude
@given(
    x=arrays(
        np.float32,
        (1, 2, 40),
        elements=st.floats(-1e6, 1e6, width=32, allow_nan=False) | st.sampled_from([0.0, 1e5, -3e38, 3e38]),
    )
)
def test_whatever_comes_in_is_a_level(amplitude: str, x: np.ndarray) -> None:
    tokenizer = AmplitudeTokenizer(amplitude=amplitude)
    tokenizer._warned_of_volts = True
    codes, scale, offset = tokenizer.codes(torch.from_numpy(x).double())
    assert 0 <= int(codes.min())
    assert int(codes.max()) < N_LEVELS
    assert torch.isfinite(scale).all()
    assert torch.isfinite(offset).all()


@every_amplitude
@pytest.mark.parametrize("value", [0.0, 12.5, -1e5])
def test_a_flat_channel_has_one_level(amplitude: str, value: float) -> None:
    tokenizer = AmplitudeTokenizer(amplitude=amplitude)
    x = _x()
    x[:, 1] = value
    codes, scale, offset = tokenizer.codes(x)
    assert len(codes[:, 1].unique()) == 1
    if amplitude in ("minmax", "robust"):
        assert int(codes[0, 1, 0]) == 0
        assert torch.equal(tokenizer.decode(codes, scale=scale, offset=offset)[:, 1], x[:, 1])
    assert torch.equal(codes[:, 0], tokenizer.encode(_x())[:, 0])


def test_an_artefact_does_not_take_the_levels_away() -> None:
    x = _x(1, 2000)
    bad = x.clone()
    bad[0, 0, 777] = 2000.0
    used = {
        amplitude: [len(AmplitudeTokenizer(amplitude=amplitude).encode(y)[0, 0].unique()) for y in (x, bad)]
        for amplitude in AMPLITUDES
    }
    assert used["minmax"][1] < used["minmax"][0] / 4
    for amplitude in ("robust", "mulaw", "absolute"):
        assert used[amplitude][1] > 0.9 * used[amplitude][0]


def test_absolute_levels_keep_the_amplitude() -> None:
    x = _x()
    for amplitude in ("mulaw", "absolute"):
        tokenizer = AmplitudeTokenizer(amplitude=amplitude)
        assert not torch.equal(tokenizer.encode(x), tokenizer.encode(2 * x))
        torch.testing.assert_close(tokenizer.decode(tokenizer.encode(x)), x, rtol=0.01, atol=0.3)
    assert torch.equal(AmplitudeTokenizer().encode(x), AmplitudeTokenizer().encode(2 * x))


def test_round_trip_of_a_recording(shared_data: Path) -> None:
    x = _eegmat(shared_data)
    assert x.shape[1:] == (19, 2000)
    prd = round_trip_prd(x, verbose="error")
    assert list(prd) == list(AMPLITUDES)
    assert prd["minmax"] < 0.2
    assert prd["mulaw"] < 1.0
    assert prd["absolute"] < 3.0
    assert prd["robust"] < 3.0
    assert prd["minmax"] < prd["absolute"]


def test_round_trip_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    round_trip_prd(_x(), ["minmax"], verbose="info")
    printed = capsys.readouterr()
    assert "Round trip through 2000 levels, minmax: PRD 0." in printed.out + printed.err


def test_bad_input() -> None:
    tokenizer = AmplitudeTokenizer()
    for value in (torch.nan, torch.inf):
        x = _x()
        x[1, 2, 3] = value
        for _ in range(2):
            with pytest.raises(ValueError, match="Input holds NaN or infinite values"):
                tokenizer.encode(x)
    for shape in ((3, 4), (1, 0, 5), (1, 3, 0)):
        with pytest.raises(ValueError, match="must have the shape"):
            tokenizer.encode(torch.zeros(shape))
    for options, words in (
        ({"amplitude": "zscore"}, "amplitude must be one of"),
        ({"limit": 0.0}, "limit must be a positive number"),
        ({"ch_names": ["Cz"], "n_chans": 2}, "1 channel names for n_chans=2"),
    ):
        with pytest.raises(ValueError, match=words):
            AmplitudeTokenizer(**options)
    with pytest.raises(TypeError, match="got one string"):
        AmplitudeTokenizer(ch_names="Cz")
    with pytest.raises(TypeError, match="no classification head"):
        tokenizer.reset_head(2)
    with pytest.raises(ValueError, match="Input has 3 channels, but AmplitudeTokenizer is bound to 2"):
        AmplitudeTokenizer(ch_names=["Fz", "Cz"]).encode(_x())


def test_bad_codes() -> None:
    tokenizer = AmplitudeTokenizer()
    codes, scale, offset = tokenizer.codes(_x())
    # What the published tokenizer gave a flat channel, a special code, and a larger vocabulary.
    for wrong in (-2147483648, 2001, 8191):
        bad = codes.clone()
        bad[0, 0, 0] = wrong
        with pytest.raises(ValueError, match=f"lie between 0 and 1999, got .*{wrong}") as error:
            tokenizer.decode(bad, scale=scale, offset=offset)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="pass the scale that codes"):
        tokenizer.decode(codes)
    with pytest.raises(ValueError, match="pass the offset"):
        tokenizer.decode(codes, scale=scale)
    with pytest.raises(ValueError, match=r"scale must have the shape \(2, 3\)"):
        tokenizer.decode(codes, scale=scale[:1], offset=offset)
    with pytest.raises(ValueError, match="offset must be finite"):
        tokenizer.decode(codes, scale=scale, offset=offset * torch.nan)
    with pytest.raises(ValueError, match="scale is the width of a range .* must not be negative"):
        tokenizer.decode(codes, scale=-scale, offset=offset)
    with pytest.raises(TypeError, match="whole numbers, got torch.float32"):
        tokenizer.decode(codes.float(), scale=scale, offset=offset)
    with pytest.raises(ValueError, match="Codes must have the shape"):
        tokenizer.decode(codes[0], scale=scale, offset=offset)
    with pytest.raises(ValueError, match="not n_times=401"):
        tokenizer.decode(codes, 401, scale=scale, offset=offset)


def test_a_model_of_braindecode(tmp_path: Path) -> None:
    assert models_dict["AmplitudeTokenizer"] is AmplitudeTokenizer
    assert "AmplitudeTokenizer" in non_classification_models
    tokenizer = AmplitudeTokenizer(ch_names=["Fp1", "F3-C3", "Cz"], amplitude="mulaw", contract={"h_freq": 45.0})
    assert tokenizer.ch_names == ["FP1", "F3-C3", "CZ"]
    assert tokenizer.n_chans == 3
    assert (tokenizer.n_codes, tokenizer.n_levels, tokenizer.amplitude) == (N_CODES, N_LEVELS, "mulaw")
    assert (tokenizer.contract.sfreq, tokenizer.contract.h_freq, tokenizer.contract.scale) == (200.0, 45.0, 1.0)
    again = AmplitudeTokenizer.from_config(json.loads(json.dumps(tokenizer.get_config())))
    path = save_checkpoint(tokenizer, tmp_path / "amplitude.safetensors")
    for twin in (again, copy.deepcopy(tokenizer), pickle.loads(pickle.dumps(tokenizer)), load_checkpoint(path)):
        assert torch.equal(twin.encode(_x()), tokenizer.encode(_x()))
        assert twin.ch_names == tokenizer.ch_names
        assert twin.contract == tokenizer.contract
    bound = tokenizer.bind_channels(["T7"])
    assert (bound.ch_names, bound.n_chans, tokenizer.ch_names[0]) == (["T7"], 1, "FP1")
    features = tokenizer(_x(), return_features=True)
    assert torch.equal(features["features"], tokenizer.encode(_x()))
    assert torch.equal(features["reconstruction"], tokenizer(_x()))


@every_amplitude
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_formats_stay_in_the_vocabulary(amplitude: str, dtype: torch.dtype) -> None:
    """1999 is not among the numbers of bfloat16; 2000, its neighbour, is no level."""
    tokenizer = AmplitudeTokenizer(amplitude=amplitude)
    x = _x().to(dtype)
    codes, scale, offset = tokenizer.codes(x)
    assert int(codes.max()) < N_LEVELS
    assert torch.equal(codes, tokenizer.encode(x.float()))
    assert torch.equal(tokenizer.decode(codes, scale=scale, offset=offset), tokenizer(x.float()))


def test_another_rate() -> None:
    assert AmplitudeTokenizer(sfreq=512.0).contract.sfreq == 512.0
    assert AmplitudeTokenizer(contract={"sfreq": 256.0}).contract.sfreq == 256.0


@pytest.mark.parametrize("output", ["codes", "histogram"])
def test_as_a_transformer(output: str) -> None:
    x = _x().numpy()
    # Arrays are prepared as a recording is, which would be seen in the codes.
    tokenizer = AmplitudeTokenizer(contract={"l_freq": None, "h_freq": None, "notch": False})
    transformer = EEGTokenizer(tokenizer, output=output, ch_names=["Fz", "Cz", "Pz"], sfreq=200.0)
    out = transformer.fit_transform(x)
    codes = AmplitudeTokenizer().encode(torch.from_numpy(x))
    if output == "codes":
        np.testing.assert_array_equal(out.reshape(2, 3, -1), codes)
    else:
        assert out.shape == (2, N_CODES)
        np.testing.assert_allclose(out.sum(1), 1.0)
        assert out[0, int(codes[0, 0, 0])] > 0
