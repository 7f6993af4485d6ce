"""The authors' weights give the authors' outputs; anything else is refused."""

from __future__ import annotations

from collections.abc import Callable

import mne
import numpy as np
import pytest
import torch

from mne_labram.models.labram import LabramForClassification, LabramForMaskedModeling, LabramTokenizer
from mne_labram.models.neurostorm import NeuroStorm

KINDS = {"finetune": LabramForClassification, "mem": LabramForMaskedModeling, "vqnsp": LabramTokenizer}


def _build(given, cls: type | None = None, **options):
    cls = cls or LabramForClassification
    return cls.from_official(given.state, ch_names=given.ch_names, n_times=given.n_times, **options).eval()


def _assert_close(value: torch.Tensor, expected: np.ndarray) -> None:
    """Agree within 1e-5 of the output's own scale; the golden vectors ask for 1e-4."""
    assert value.shape == expected.shape
    assert np.abs(value.numpy() - expected).max() < 1e-5 * np.abs(expected).max()


@torch.no_grad()
def test_classification(golden_model) -> None:
    given = golden_model("finetune")
    model = _build(given)
    assert (model.n_outputs, model.pooling) == (5, "mean")
    _assert_close(model(given.x), given.outputs["logits"])
    _assert_close(model.final_layer(model(given.x, return_features=True)["features"]), given.outputs["patch_tokens"])
    _assert_close(model.final_layer(model.embed(given.x, "tokens").flatten(1, 2)), given.outputs["patch_tokens"])
    torch.testing.assert_close(model.final_layer(model.embed(given.x)), model(given.x))


@torch.no_grad()
def test_seizure_head(golden_model) -> None:
    given = golden_model("finetune")
    model = _build(given, NeuroStorm)
    assert (model.n_outputs, model.spatial, model.input_scale) == (2, "names", 100.0)
    assert torch.equal(model.embed(given.x, "tokens"), _build(given).embed(given.x, "tokens"))


@torch.no_grad()
def test_masked(golden_model) -> None:
    given = golden_model("mem")
    model = _build(given, LabramForMaskedModeling)
    mask = torch.from_numpy(given.outputs["mask"])
    assert model.n_codes == 64
    _assert_close(model(given.x, mask=mask)[mask], given.outputs["logits_masked"])
    _assert_close(model(given.x, mask=~mask)[~mask], given.outputs["logits_visible"])


@torch.no_grad()
def test_tokenizer(golden_model) -> None:
    given = golden_model("vqnsp")
    model = _build(given, LabramTokenizer)
    expected = given.outputs
    codes = model.encode(given.x)
    assert codes.dtype == torch.int64
    assert np.array_equal(codes.flatten(1).numpy(), expected["codes"])
    out = model(given.x, return_features=True)
    assert torch.equal(out["codes"], codes)
    _assert_close(out["quantized"].permute(0, 3, 1, 2), expected["quantized"])
    for part in ("amplitude", "phase"):
        _assert_close(out[part].flatten(1, 2), expected[part])
        _assert_close(model.decode_spectra(codes)[part].flatten(1, 2), expected[part])
    assert torch.equal(model(given.x), torch.cat((out["amplitude"], out["phase"]), dim=-1))


def test_tokenizer_losses(golden_model) -> None:
    given = golden_model("vqnsp")
    losses = _build(given, LabramTokenizer).training_step(given.x)
    for ours, theirs in (
        ("loss", "loss"),
        ("amplitude_loss", "rec_loss"),
        ("phase_loss", "rec_angle_loss"),
        ("commitment_loss", "quant_loss"),
    ):
        assert losses[ours].item() == pytest.approx(float(given.outputs[theirs]), rel=1e-5)


def test_a_single_patch_is_tokenized(golden_model) -> None:
    given = golden_model("vqnsp")
    model = _build(given, LabramTokenizer)
    assert model.encode(given.x[..., :200]).shape == (2, 19, 1)
    assert torch.isfinite(model.training_step(given.x[..., :200])["loss"])


def test_student_weights_make_a_classifier(golden_model, capsys: pytest.CaptureFixture) -> None:
    given = golden_model("mem")
    with mne.use_log_level("info"):
        model = _build(given, n_outputs=3)
    log = capsys.readouterr().out
    assert "A fresh head for 3 classes was made." in log
    for name in ("lm_head.weight", "projection_head.0.bias", "student.mask_token", "student.lm_head.bias"):
        assert name in log
    masked = _build(given, LabramForMaskedModeling, cls_position="cls_row")
    torch.testing.assert_close(model.embed(given.x, "tokens"), masked.embed(given.x, "tokens"))
    assert torch.equal(model.encoder.norm.weight, given.state["student.norm.weight"])
    # Without the prefix, and with what the released checkpoint holds on top.
    bare = {key.removeprefix("student."): value for key, value in given.state.items() if key[:8] != "lm_head."}
    given.state = {"model": {**bare, "logit_scale": torch.tensor(2.66)}}
    assert torch.equal(_build(given, n_outputs=3).embed(given.x), model.embed(given.x))


@pytest.mark.parametrize("name", KINDS)
def test_prefixes(golden_model, name: str) -> None:
    given = golden_model(name)
    expected = _build(given, KINDS[name])(given.x)
    given.state = {f"module.{key}": value for key, value in given.state.items()}
    assert torch.equal(_build(given, KINDS[name])(given.x), expected)


def test_masked_from_the_student_alone(golden_model) -> None:
    given = golden_model("mem")
    bare = {key.removeprefix("student."): value for key, value in given.state.items() if key.startswith("student.")}
    given.state, student_head = bare, bare["lm_head.weight"]
    assert torch.equal(_build(given, LabramForMaskedModeling).final_layer.weight, student_head)


def test_cls_pooling_is_read_off_the_keys(golden_model) -> None:
    given = golden_model("finetune")
    mean = _build(given)
    for part in ("weight", "bias"):
        given.state[f"norm.{part}"] = given.state.pop(f"fc_norm.{part}")
    model = _build(given)
    assert model.pooling == "cls"
    expected = mean.final_layer(mean(given.x, return_features=True)["cls_token"])
    torch.testing.assert_close(model(given.x), expected)


def test_another_number_of_classes(golden_model, capsys: pytest.CaptureFixture) -> None:
    given = golden_model("finetune")
    with mne.use_log_level("info"):
        model = _build(given, n_outputs=2, drop_path_prob=0.1, class_names=["no", "yes"])
    assert "The official head is for 5 classes and was left out." in capsys.readouterr().out
    assert model(given.x).shape == (2, 2)
    assert model.class_names == ["no", "yes"]
    assert model.encoder.blocks[-1].drop_path.drop_prob == 0.1


def test_heads_are_read_off_the_query_norm(golden_model) -> None:
    given = golden_model("finetune")
    for i in range(2):
        for norm in ("q_norm", "k_norm"):
            for part in ("weight", "bias"):
                given.state[f"blocks.{i}.attn.{norm}.{part}"] = torch.ones(40)
    assert _build(given).encoder.blocks[0].attn.num_heads == 5
    with pytest.raises(ValueError, match="have 5 attention heads, not num_heads=4"):
        _build(given, num_heads=4)


def _drop(key: str) -> Callable[[dict], None]:
    return lambda state: state.pop(key)


def _put(key: str, value: torch.Tensor) -> Callable[[dict], None]:
    return lambda state: state.__setitem__(key, value)


@pytest.mark.parametrize(
    ("name", "spoil", "words"),
    [
        ("finetune", _drop("blocks.1.gamma_1"), "encoder.blocks.1.gamma_1"),
        ("finetune", _drop("cls_token"), "'cls_token' is missing"),
        ("finetune", _drop("fc_norm.bias"), "encoder.norm.bias"),
        ("finetune", _drop("head.bias"), "only 'head.weight' is there"),
        ("finetune", _put("blocks.5.gamma_1", torch.ones(200)), "without a gap"),
        ("finetune", _put("rel_pos_bias", torch.ones(3)), "rel_pos_bias"),
        ("finetune", _put("pos_embed", torch.ones(1, 137, 200)), "1 x 137 x 200"),
        ("finetune", _put("time_embed", torch.ones(16, 200)), "must have 3 axes"),
        ("finetune", _put("head.weight", torch.full((5, 200), torch.nan)), "NaN"),
        ("finetune", _put("epoch", 3), "no tensors: epoch"),
        ("mem", _drop("student.mask_token"), "mask_token"),
        ("mem", _drop("lm_head.bias"), "final_layer.bias"),
        ("mem", _put("student.norm.weight", torch.full((200,), torch.inf)), "NaN or infinity"),
        ("vqnsp", _drop("quantize.embedding.weight"), "'quantize.embedding.weight' is missing"),
        ("vqnsp", _drop("decoder.fc_norm.weight"), "decoder.norm.weight"),
        ("vqnsp", _drop("decode_task_layer_angle.2.bias"), "final_layer.phase.2.bias"),
        ("vqnsp", _put("encode_task_layer.4.bias", torch.ones(2)), "to_latent.4.bias"),
        ("vqnsp", _put("decoder.patch_embed.proj.weight", torch.ones(200, 32, 3, 1)), "1 x 1 convolution"),
    ],
)
def test_refuses(golden_model, name: str, spoil, words: str) -> None:
    given = golden_model(name)
    spoil(given.state)
    with pytest.raises(ValueError, match="official|tensors|convolution") as error:
        _build(given, KINDS[name])
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_refuses_the_wrong_kind(golden_model) -> None:
    wrong = {"vqnsp": LabramForClassification, "finetune": LabramTokenizer, "mem": LabramTokenizer}
    for name, cls in wrong.items():
        with pytest.raises(ValueError, match="no official LaBraM weights of the expected kind: .* is missing"):
            _build(golden_model(name), cls)
    given = golden_model("mem")
    with pytest.raises(ValueError, match="give n_outputs to get a fresh one"):
        _build(given)
    with pytest.raises(TypeError, match="maps names to tensors"):
        LabramTokenizer.from_official([1], ch_names=["CZ"], n_times=200)


def test_half_precision_files_are_cast(golden_model) -> None:
    given = golden_model("finetune")
    expected = _build(given)(given.x)
    given.state = {key: value.to(torch.float64) for key, value in given.state.items()}
    model = _build(given)
    assert model.encoder.cls_token.dtype == torch.float32
    assert torch.equal(model(given.x), expected)


def test_an_uninitialised_codebook_stays_so(golden_model) -> None:
    given = golden_model("vqnsp")
    given.state["quantize.embedding.initted"] = torch.zeros(1)
    assert not bool(_build(given, LabramTokenizer).quantizer.initialized)
