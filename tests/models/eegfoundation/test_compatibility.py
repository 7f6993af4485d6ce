from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pytest
import torch
from sklearn.pipeline import make_pipeline

from mne_labram import EEGEmbedding, EEGFoundationForMaskedModeling, load_downstream_model
from mne_labram.models.eegfoundation.published import PublishedConfig, PublishedDownstream

# configs/BCIC_IV_2a_config.json of the authors, but for the numbers in SMALL.
PUBLISHED = {
    "seq_len": 800,
    "patch_size": 100,
    "stride": 100,
    "d_model": 512,
    "num_classes": 4,
    "num_channel": 22,
    "rms_norm": False,
    "embedding_dim": 512,
    "projection_embedding_dim": 512,
    "classification_dropout": 0.5,
    "classification_hidden_dim": 512,
    "learning_rate": 1e-4,
    "weight_decay": 0.1,
    "model_type": "eeg-foundation-downstream-classifier",
}
SMALL = {"num_channel": 3, "d_model": 16, "projection_embedding_dim": 16, "embedding_dim": 12} | {
    "classification_hidden_dim": 8
}


@pytest.fixture
def config(tmp_path: Path) -> Any:
    def write(**changes: Any) -> Path:
        path = tmp_path / "config.json"
        path.write_text(json.dumps({**PUBLISHED, **SMALL, **changes}))
        return path

    return write


def test_the_published_size() -> None:
    names = {name: value for name, value in PUBLISHED.items() if name not in ("learning_rate", "weight_decay")}
    names.pop("model_type")
    with torch.device("meta"):
        model = PublishedDownstream(PublishedConfig(**names))
    assert model.config.n_patches == 9
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(53.27e6, rel=1e-3)
    assert {name.split(".")[0] for name in model.state_dict()} == {
        *("in_layer", "basic_attn", "projection_embedding", "classification_head")
    }


def test_the_call_of_the_page(config: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = config()
    trained = load_downstream_model(None, path)
    for prefix in ("", "model.", "module."):
        weights = {prefix + name: value for name, value in trained.state_dict().items()}
        torch.save({"state_dict": weights} if prefix == "model." else weights, tmp_path / "model.pth")
        model = load_downstream_model(model_path=tmp_path / "model.pth", config_path=path)
        assert not model.training
        signal, embedding = 30 * torch.randn(2, 3, 800), torch.randn(2, 12)
        with torch.no_grad():
            out = model(input_ids=signal, embedding_data=embedding)
            assert out["logits"].shape == (2, 4)
            assert out["loss"] is None
            assert torch.equal(out["logits"], trained(signal, embedding)["logits"])
            # Normalised per channel, so that a gain does not matter.
            torch.testing.assert_close(
                model(1e3 * signal + 5, embedding)["logits"], out["logits"], rtol=1e-3, atol=1e-4
            )
            same = model(signal, embedding[:, None].expand(-1, 3, -1))["logits"]
            torch.testing.assert_close(same, out["logits"])
            labels = torch.tensor([0, 3])
            loss = model(signal, embedding, labels)["loss"]
            torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(out["logits"], labels))


def test_embeddings_of_ours(config: Any) -> None:
    masked = EEGFoundationForMaskedModeling(
        ch_names=["Fz", "Cz", "Pz"], embed_dim=12, num_layers=1, num_heads=2, input="patches"
    )
    x = 30 * torch.randn(2, 3, 800)
    embeddings = EEGEmbedding(masked, ch_names=["Fz", "Cz", "Pz"], sfreq=200.0).fit_transform(x.numpy())
    model = load_downstream_model(config_path=config(rms_norm=True))
    assert model(input_ids=x, embedding_data=torch.from_numpy(embeddings))["logits"].shape == (2, 4)


def test_channels_do_not_meet_before_the_last_matrices(config: Any) -> None:
    """What the published model lacks, and EEGFoundationForClassification has."""
    model = load_downstream_model(config_path=config())
    seen: list[torch.Tensor] = []
    model.classification_head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].unflatten(1, (3, -1))))
    x = torch.randn(1, 3, 800)
    changed = x.clone()
    changed[:, 0] *= -1
    for each in (x, changed):
        model(each, torch.zeros(1, 12))
    assert torch.equal(seen[0][:, 1:], seen[1][:, 1:])
    assert not torch.equal(seen[0][:, 0], seen[1][:, 0])


def test_bad_files(config: Any, tmp_path: Path) -> None:
    path = config()
    with pytest.raises(ValueError, match="pass config_path"):
        load_downstream_model(tmp_path / "model.pth")
    with pytest.raises(FileNotFoundError, match="There is no file"):
        load_downstream_model(None, tmp_path / "nowhere.json")
    with pytest.raises(FileNotFoundError, match="There is no file"):
        load_downstream_model(tmp_path / "nowhere.pth", path)
    weights = tmp_path / "model.pth"
    for content, words in (
        (b"no weights", "holds no plain state dict"),
        (b"", "holds no plain state dict"),
    ):
        weights.write_bytes(content)
        with pytest.raises(ValueError, match=words) as error:
            load_downstream_model(weights, path)
        assert "\n" not in str(error.value)
    torch.save({"a": Path("x")}, weights)
    with pytest.raises(ValueError, match="holds no plain state dict"):
        load_downstream_model(weights, path)
    torch.save([torch.ones(1)], weights)
    with pytest.raises(ValueError, match="save model.state_dict"):
        load_downstream_model(weights, path)
    # Of another size: 20 channels as in the page's example, with weights of 3.
    torch.save(load_downstream_model(None, path).state_dict(), weights)
    with pytest.raises(ValueError, match="'model.pth' does not fit PublishedDownstream: 1 tensor has another shape"):
        load_downstream_model(weights, config(num_channel=20))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dropout": 1}, "has 'dropout'"),
        ({"num_channel": 0}, "num_channel must be a whole number from 1, got 0"),
        ({"d_model": "wide"}, "d_model must be a whole number"),
        ({"d_model": 20}, "multiple of 8"),
        ({"d_model": 24}, "must be d_model"),
        ({"seq_len": 50}, "holds no patch of 100"),
        ({"rms_norm": "false"}, "rms_norm must be true or false, got 'false'"),
        ({"classification_dropout": 1.5}, "must lie in"),
        ({"classification_hidden_dim": -1}, "classification_hidden_dim must be a whole number"),
    ],
)
def test_bad_configurations(config: Any, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        load_downstream_model(None, config(**changes))
    assert "\n" not in str(error.value)


def test_what_is_no_configuration(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    for text, words in (("{", "not JSON"), ("[1]", "holds no table")):
        path.write_text(text)
        with pytest.raises(ValueError, match=words):
            load_downstream_model(None, path)


def test_bad_input(config: Any) -> None:
    model = load_downstream_model(config_path=config())
    x, embedding = torch.randn(2, 3, 800), torch.randn(2, 12)
    for signal, vectors, words in (
        # The page's own example: 20 channels of 2000 samples for a model of 22 of 800.
        (
            torch.randn(2, 20, 2000),
            embedding,
            r"input_ids must have the shape \(batch, 3, 800\), .* got \(2, 20, 2000\)",
        ),
        (x, embedding[:, :5], "embedding_data must have the shape"),
        (x, embedding * torch.nan, "embedding_data holds NaN"),
        (x * torch.inf, embedding, "input_ids holds NaN"),
    ):
        with pytest.raises(ValueError, match=words):
            model(input_ids=signal, embedding_data=vectors)
    with pytest.warns(UserWarning, match="it looks like volts, but PublishedDownstream takes microvolts"):
        model(input_ids=1e-5 * x, embedding_data=embedding)


def test_embeddings_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the docstring recommends for embedding_data: kept on the disk, and not computed again."""
    rng = np.random.default_rng(0)
    info = mne.create_info(["Fp1", "Fp2", "C3", "C4"], 200.0, "eeg")
    epochs = mne.EpochsArray(1e-5 * rng.standard_normal((3, 4, 400)), info, verbose="error")
    calls, fit_transform = [], EEGEmbedding.fit_transform

    def counted(self: EEGEmbedding, X: Any, y: Any = None) -> Any:
        calls.append(len(X))
        return fit_transform(self, X, y)

    monkeypatch.setattr(EEGEmbedding, "fit_transform", counted)
    kept = make_pipeline(EEGEmbedding("eegfoundation-tiny"), "passthrough", memory=str(tmp_path))
    first = kept.fit_transform(epochs)
    assert first.shape == (3, 128)
    np.testing.assert_array_equal(kept.fit_transform(epochs), first)
    assert calls == [3]
    other = epochs.copy()
    other._data[0, 0, 0] += 1e-6
    kept.fit_transform(other)
    assert calls == [3, 3]
