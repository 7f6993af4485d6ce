"""Whatever a runner does to be fast, it returns what the model returns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mne.utils import catch_logging, use_log_level

from mne_labram.decoding import inference
from mne_labram.decoding.inference import ModelRunner, resolve_model
from mne_labram.models.labram import LabramForClassification, LabramForMaskedModeling, LabramTokenizer
from mne_labram.nn.fused import FusedBlocks

CHANNELS = ["FP1", "FP2", "CZ", "T7", "O2"]
BIPOLAR = ["FP1-F7", "F7-T7", "T8-P8"]
SMALL = {"embed_dim": 60, "num_layers": 3, "num_heads": 3}
#: How far a result may be from the plain float32 forward pass, in units of its largest value.
TOLERANCE = {"float32": 1e-5, "bf16": 1e-2}
POOLINGS = ("mean", "cls", "tokens")


def _randomise(model: torch.nn.Module) -> torch.nn.Module:
    """Give every parameter a value as after training: layer scales, norms and biases far from where they start."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            near_one = "norm" in name and name.endswith("weight")
            spread = 0.2 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
            parameter.copy_(near_one + spread * torch.randn(parameter.shape, generator=generator))
    return model


def _model(ch_names=CHANNELS, **options) -> LabramForClassification:
    return _randomise(LabramForClassification(n_outputs=3, ch_names=list(ch_names), **{**SMALL, **options})).eval()


def _windows(model, n_windows: int = 3, n_patches: int = 2, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (30 * rng.normal(size=(n_windows, len(model.ch_names), 200 * n_patches))).astype(np.float32)


def _run(model, windows: np.ndarray, function, precision: str, **options) -> np.ndarray:
    with ModelRunner(model, model.ch_names, precision=precision, **options).running() as runner:
        return runner(windows, function)


def _assert_close(found: np.ndarray, expected: torch.Tensor, precision: str) -> None:
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    scale = float(expected.abs().max())
    assert scale > 0.05
    assert np.abs(found - expected.numpy()).max() < TOLERANCE[precision] * scale


MODELS = {
    "names": {},
    "cls": {"pooling": "cls"},
    "bipolar": {"ch_names": BIPOLAR},
    "one channel": {"ch_names": ["CZ"]},
    "coordinates": {"spatial": "coordinates", "ch_names": [*CHANNELS, "FP1-F3"]},
    "spectrum": {"patch_embed": "conv+spectrum", "input_scale": 10.0},
    "no norm": {"qk_norm": False, "qkv_bias": True, "layer_scale": 0},
    "relu": {"activation": torch.nn.ReLU},
    "width 128": {"embed_dim": 128, "num_heads": 4},
}


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("options", MODELS.values(), ids=list(MODELS))
def test_logits_and_embeddings(options, precision):
    model = _model(**options)
    windows = _windows(model)
    with torch.inference_mode():
        x = torch.from_numpy(windows)
        _assert_close(_run(model, windows, lambda module, x: module(x), precision), model(x), precision)
        for pooling in POOLINGS:
            found = _run(model, windows, lambda module, x, pooling=pooling: module.embed(x, pooling=pooling), precision)
            _assert_close(found, model.embed(x, pooling), precision)
        features = _run(model, windows, lambda module, x: module(x, return_features=True)["features"], precision)
        _assert_close(features, model(x, return_features=True)["features"], precision)


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("n_patches", [1, 2, 5, 16])
def test_every_length(n_patches, precision):
    model = _model()
    windows = _windows(model, n_patches=n_patches)
    with torch.inference_mode():
        expected = model(torch.from_numpy(windows))
    _assert_close(_run(model, windows, lambda module, x: module(x), precision), expected, precision)


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("layer_scale", [1.0, 0.1])
def test_base_size(layer_scale, precision):
    """All twelve blocks, at the benchmark's shape; the official layer scale is 0.1."""
    names = "FP1 FP2 F7 F3 FZ F4 F8 T7 C3 CZ C4 T8 P7 P3 PZ P4 P8 O1 O2".split()
    model = _randomise(LabramForClassification(n_outputs=4, ch_names=names)).eval()
    with torch.inference_mode():
        for block in model.encoder.blocks:
            for gamma in (block.gamma_1, block.gamma_2):
                gamma.uniform_(0.7 * layer_scale, 1.3 * layer_scale, generator=torch.Generator().manual_seed(2))
        windows = _windows(model, 2, 4)
        expected = model(torch.from_numpy(windows))
    _assert_close(_run(model, windows, lambda module, x: module(x), precision), expected, precision)


@pytest.mark.parametrize("precision", TOLERANCE)
def test_golden_vectors(golden, precision):
    """The authors' own outputs, with weights drawn as shared/golden/README.md says."""
    with np.load(golden / "labram_finetune.npz") as vectors:
        rng, state = np.random.default_rng(int(vectors["seed"])), {}
        for key, shape, kind in zip(vectors["keys"], vectors["shapes"], vectors["kinds"], strict=True):
            draw = 0.05 * rng.standard_normal([int(n) for n in str(shape).split(",") if n])
            state[str(key)] = torch.tensor({"normal": 0.0, "normal+1": 1.0}[str(kind)] + draw, dtype=torch.float32)
        windows = 100 * vectors["x"].reshape(*vectors["x"].shape[:2], -1)
        names, expected = [str(name) for name in vectors["ch_names"]], torch.from_numpy(vectors["logits"])
    model = LabramForClassification.from_official(state, ch_names=names, n_times=windows.shape[2])
    _assert_close(_run(model, windows, lambda module, x: module(x), precision), expected, precision)


@pytest.mark.parametrize("precision", TOLERANCE)
def test_other_channels_batches_and_repetition(precision):
    """A model bound to other channels than it was built for; results do not depend on the cutting into batches."""
    model = _model()
    names = ["C3", "O1", "FP2"]
    bound = model.bind_channels(names)
    windows = _windows(bound, 5)
    with torch.inference_mode():
        expected = bound(torch.from_numpy(windows))
    for batch_size in (1, 2, 64):
        with ModelRunner(model, names, precision=precision, batch_size=batch_size).running() as runner:
            first = runner(windows, lambda module, x: module(x))
            assert np.array_equal(runner(windows, lambda module, x: module(x)), first)
        _assert_close(first, expected, precision)
    assert model.ch_names == CHANNELS


@pytest.mark.parametrize("precision", TOLERANCE)
def test_blocks_are_fused_while_running_and_only_then(precision):
    model = _model().train()
    modules, names = list(model.modules()), list(model.state_dict())
    seen = []

    def look(module, x):
        seen.append(any(isinstance(part, FusedBlocks) for part in module.modules()))
        seen.append(any(part.training for part in module.modules()))
        return module(x)

    _run(model, _windows(model), look, precision)
    assert seen == [True, False]
    assert list(model.modules()) == modules
    assert list(model.state_dict()) == names
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("precision", TOLERANCE)
def test_new_weights_are_used(precision):
    """Between two runs, through .data, which torch does not count; and within one."""
    model = _model()
    windows = _windows(model)
    runner = ModelRunner(model, CHANNELS, precision=precision)
    for _ in range(2):
        with runner.running():
            for step in range(2):
                with torch.inference_mode():
                    expected = model(torch.from_numpy(windows))
                _assert_close(runner(windows, lambda module, x: module(x)), expected, precision)
                if step == 0:
                    torch.nn.init.normal_(model.encoder.blocks[0].mlp.fc1.weight)
        model.encoder.blocks[1].attn.proj.weight.data.mul_(-2)


def test_a_hook_on_a_block_is_called():
    model, seen = _model(), []
    model.encoder.blocks[1].register_forward_hook(lambda module, args, out: seen.append(out.shape))
    for precision in TOLERANCE:
        out = _run(model, _windows(model), lambda module, x: module(x), precision)
        assert np.isfinite(out).all()
    assert seen == [(3, 11, 60), (3, 11, 60)]


def test_a_tokenizer_runs_as_it_is():
    """Codes are equal, not close."""
    model = _randomise(LabramTokenizer(ch_names=CHANNELS, n_codes=64, code_dim=8, **SMALL)).eval()
    windows = _windows(model, 40)
    expected = model.encode(torch.from_numpy(windows)).numpy()

    def encode(module, x):
        assert module is model
        return module.encode(x)

    assert np.array_equal(_run(model, windows, encode, "float32", batch_size=40), expected)
    assert len(np.unique(expected)) > 10
    in_bf16 = _run(model, windows, encode, "bf16", batch_size=40)
    assert in_bf16.dtype == np.int64
    assert np.mean(in_bf16 == expected) > 0.8


@pytest.mark.parametrize("precision", TOLERANCE)
def test_masked_modelling_embeds(precision):
    model = _randomise(LabramForMaskedModeling(ch_names=CHANNELS, n_codes=16, **SMALL)).eval()
    windows = _windows(model)
    with torch.inference_mode():
        expected = model.embed(torch.from_numpy(windows))
    _assert_close(_run(model, windows, lambda module, x: module.embed(x), precision), expected, precision)


@pytest.mark.parametrize(
    ("unit", "expected"), [("AMX", "in bf16 on cpu, which has AMX"), (None, "in float32 on cpu, which has no fast")]
)
def test_auto_says_what_it_took(unit, expected, monkeypatch):
    monkeypatch.setattr("mne_labram.nn.precision.native_bf16", lambda device: unit)
    monkeypatch.setattr(inference, "native_bf16", lambda device: unit)
    inference._say_once.cache_clear()
    model = _model()
    with use_log_level("INFO"), catch_logging() as log:
        ModelRunner(model, CHANNELS)
        ModelRunner(model, CHANNELS, precision="bf16")
        text = log.getvalue()
    assert expected in text
    assert text.count("Running") == 1


@pytest.mark.parametrize(("options", "match"), [({"batch_size": 0}, "at least 1"), ({"precision": "float16"}, "bf16")])
def test_wrong_arguments(options, match):
    with pytest.raises(ValueError, match=match):
        ModelRunner(_model(), CHANNELS, **options)


def test_resolve_model_refuses_strangers():
    with pytest.raises(TypeError, match="must be one of mne_labram's models"):
        resolve_model(torch.nn.Linear(2, 2))
