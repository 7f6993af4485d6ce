"""Weights that come with the package: found by name, checked, and the default of every verb."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import mne
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import mne_labram
from mne_labram import (
    EEGEmbedding,
    EEGTokenizer,
    LabramForClassification,
    LabramForMaskedModeling,
    LabramTokenizer,
    annotate_events,
    labram_annotate,
    labram_embed,
    labram_tokenize,
    list_pretrained,
    load_checkpoint,
    load_pretrained,
    pretrained_card,
)
from mne_labram.commands.main import app, run
from mne_labram.signal.contract import ContractError
from mne_labram.weights import pretrained
from mne_labram.weights.cards import card_page, check_card
from mne_labram.weights.files import file_sha256
from mne_labram.weights.pretrained import SHIPPED, load_model, ship_weights

PAGES = Path(__file__).resolve().parents[2] / "doc" / "weights"
CHANNELS = ["FP1", "FP2", "C3", "C4", "O1", "O2"]
TINY = {"embed_dim": 16, "num_layers": 1, "num_heads": 2, "spatial": "coordinates", "patch_embed": "conv+spectrum"}
SIGNAL = {"ch_names": CHANNELS, "n_times": 800, "sfreq": 200}
CARD = {
    "summary": "Made for a test.",
    "licence": "BSD-3-Clause",
    "data": [
        {"name": "noise", "licence": "none", "cite": "nobody", "subjects": 3, "hours": 0.25, "held_out": ["s01", "s02"]}
    ],
    "hours": 0.25,
    "steps": 12000,
    "seed": 0,
    "command": "mne-labram pretrain masked tiny.toml",
    "measurements": {
        "Masked tokens": [{"model": "this", "accuracy": 0.123456}, {"model": "unigram", "accuracy": None}],
        "In words": "Nothing was learnt.",
    },
    "limits": ["Not for patients."],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write two small models with their cards."""
    folder = tmp_path_factory.mktemp("shipped")
    torch.manual_seed(0)
    masked = LabramForMaskedModeling(n_codes=8, cls_position="cls_row", **SIGNAL, **TINY)
    tokenizer = LabramTokenizer(n_codes=8, code_dim=4, decoder_layers=1, **SIGNAL, **TINY)
    # A trained tokenizer has looked at data, and one that has not says so.
    tokenizer.train()(30 * torch.randn(8, 6, 800))
    ship_weights(masked, "labram-tiny", CARD, folder=folder)
    ship_weights(tokenizer.eval(), "labram-tokenizer-tiny", CARD, folder=folder)
    return folder


@pytest.fixture
def shipped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the two small models in the place of the package's own."""
    monkeypatch.setattr(pretrained, "SHIPPED", folder)
    return folder


# -- the package's own ------------------------------------------------------------------------------------------------
def test_the_wheel_stays_small() -> None:
    assert sum(file.stat().st_size for file in SHIPPED.glob("*")) < 26e6
    assert {file.suffix for file in SHIPPED.glob("*")} <= {".json", ".safetensors"}
    assert {file.stem for file in SHIPPED.glob("*.safetensors")} == set(list_pretrained())
    assert {file.stem for file in SHIPPED.glob("*.json")} == set(list_pretrained())


@pytest.mark.parametrize("name", list_pretrained())
def test_cards_of_the_package(name: str) -> None:
    """Each card is that of the file beside it, and the page of the documentation is made of it."""
    card = pretrained_card(name)
    file = SHIPPED / f"{name}.safetensors"
    assert card["sha256"] == file_sha256(file)
    assert card["n_bytes"] == file.stat().st_size
    model = load_pretrained(name)
    assert type(model).__name__ == card["class"]
    assert model.contract.to_dict() == card["contract"]
    assert sum(parameter.numel() for parameter in model.parameters()) == card["n_parameters"]
    page = PAGES / f"{name}.md"
    assert page.read_text(encoding="utf8") == card_page(card), f"mne-labram info {name} > {page}"
    # Cited in full wherever the weights go: the data sets are open, and ask for it. BrainForge saw simulations only.
    assert all(row["cite"] and row["licence"] for row in card["data"])
    assert bool(card["data"]) != (card["class"] == "BrainForge")


def test_no_page_without_weights() -> None:
    assert {page.stem for page in PAGES.glob("*.md")} - {"index"} == set(list_pretrained())


@pytest.mark.skipif("labram-tiny" not in list_pretrained(), reason="labram-tiny is not trained yet")
@pytest.mark.parametrize(
    "fname",
    [
        "eegmat/Subject20_1.edf",
        "chbmit/chb01_16_preictal.edf",
        "eegmmidb/S001R01.edf",
        "mi_openbci",
        "uci_eeg",
    ],
)
def test_out_of_the_box_on_real_recordings(shared_data: Path, fname: str) -> None:
    """Referential or bipolar, continuous or epochs of one second, at any rate: no argument is needed."""
    path = shared_data / fname
    if path.is_dir():
        path = sorted(file for file in path.rglob("*") if file.suffix in (".fif", ".edf"))[0]
    is_epochs = path.name.endswith("-epo.fif")
    inst = mne.read_epochs(path, verbose="error") if is_epochs else mne.io.read_raw(path, verbose="error")
    if not is_epochs:
        inst.crop(0, min(20.0, inst.times[-1])).load_data(verbose="error")
    out = inst.pipe(labram_embed)
    assert out.ndim == 2
    assert len(out) > 1
    assert np.isfinite(out).any(axis=1).sum() > 1
    codes = inst.pipe(labram_tokenize)
    assert len(np.unique(codes[codes >= 0])) > 10


# -- loading by name --------------------------------------------------------------------------------------------------
def test_load(shipped: Path) -> None:
    """A name gives the model of its file, bound to other channels on request."""
    assert list_pretrained() == ["labram-tiny", "labram-tokenizer-tiny"]
    model = load_pretrained()
    assert isinstance(model, LabramForMaskedModeling)
    assert not model.training
    assert isinstance(load_pretrained("labram-tokenizer-tiny"), LabramTokenizer)
    bound = load_pretrained(ch_names=["Fp1-F7", "F7-T7"])
    assert bound.ch_names == ["FP1-F7", "F7-T7"]
    by_path = load_checkpoint(shipped / "labram-tiny.safetensors")
    for (name, one), (_, two) in zip(model.state_dict().items(), by_path.state_dict().items(), strict=True):
        assert torch.equal(one, two), name


def test_card(shipped: Path) -> None:
    """What is given is kept, and what the checkpoint says is added."""
    card = pretrained_card("labram-tiny")
    assert {key: card[key] for key in CARD} == CARD
    assert card["class"] == "LabramForMaskedModeling"
    assert card["sha256"] == file_sha256(shipped / "labram-tiny.safetensors")
    assert card["contract"]["sfreq"] == 200
    inside = mne_labram.weights.describe_checkpoint(shipped / "labram-tiny.safetensors")["card"]
    assert inside["data"] == CARD["data"]
    assert "measurements" not in inside


def test_page(shipped: Path) -> None:
    """Every value of the card is on the page, tables as Markdown tables."""
    page = card_page(pretrained_card("labram-tiny"))
    assert page.startswith("# labram-tiny\n\nMade for a test.\n")
    assert "| noise | none | 3 | 0.25 | s01, s02 |" in page
    assert "0.25 hours of recordings, 12,000 steps, seed 0" in page
    assert "| this | 0.1235 |\n| unigram | - |" in page
    assert "### In words\n\nNothing was learnt.\n" in page
    assert page.endswith("- Not for patients.\n")
    assert "- noise: nobody" in page
    for line in page.splitlines():
        assert line == line.rstrip()
    simulated = card_page({**pretrained_card("labram-tiny"), "data": [], "hours": 29.3})
    assert "29.3 hours of simulated signal, and no recordings, 12,000 steps, seed 0" in simulated
    assert "to be named" not in simulated
    assert "```\n\n## Measured\n" in simulated


@pytest.mark.parametrize(
    ("call", "error"),
    [(load_pretrained, ValueError), (pretrained_card, ValueError), (load_model, FileNotFoundError)],
)
def test_a_wrong_name_lists_the_right_ones(shipped: Path, call: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="of the name 'labram-huge'.*there are labram-tiny, labram-tokenizer-tiny") as said:
        call("labram-huge")
    assert "\n" not in str(said.value)
    with pytest.raises(ValueError, match="no weights of the name '../labram-tiny'"):
        load_pretrained("../labram-tiny")


def test_an_installation_without_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_raw) -> None:
    monkeypatch.setattr(pretrained, "SHIPPED", tmp_path)
    assert list_pretrained() == []
    with pytest.raises(FileNotFoundError, match="holds no weights at all, so give the path"):
        labram_embed(make_raw(10))


def test_a_file_goes_before_a_name(shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labram-tiny").write_bytes(b"something else")
    with pytest.raises(ValueError, match="is no safetensors file"):
        load_model("labram-tiny")
    (tmp_path / "labram-tiny").unlink()
    (tmp_path / "labram-tiny").mkdir()
    assert isinstance(load_model(Path("labram-tiny")), LabramForMaskedModeling)
    with pytest.raises(FileNotFoundError, match="no file 'missing.safetensors'"):
        load_model("missing.safetensors")


def test_a_changed_file_is_refused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SHA-256 of the card is compared, so that a damaged installation is noticed."""
    monkeypatch.setattr(pretrained, "SHIPPED", tmp_path)
    content = bytearray((folder / "labram-tiny.safetensors").read_bytes())
    card = json.loads((folder / "labram-tiny.json").read_text(encoding="utf8"))
    content[-1] ^= 1
    (tmp_path / "labram-tiny.safetensors").write_bytes(content)
    (tmp_path / "labram-tiny.json").write_text(json.dumps(card), encoding="utf8")
    with pytest.raises(ValueError, match="is not the expected file"):
        load_pretrained("labram-tiny")
    del card["licence"], card["sha256"]
    (tmp_path / "labram-tiny.json").write_text(json.dumps(card), encoding="utf8")
    with pytest.raises(ValueError, match="does not say: sha256, licence"):
        load_pretrained("labram-tiny")
    (tmp_path / "labram-tiny.json").write_text("{", encoding="utf8")
    with pytest.raises(ValueError, match="it is no JSON"):
        load_pretrained("labram-tiny")


def test_a_card_that_says_too_little(tmp_path: Path, shipped: Path) -> None:
    """Nothing is written then."""
    model = load_pretrained()
    with pytest.raises(ValueError, match="does not say: limits"):
        ship_weights(model, "x", {key: value for key, value in CARD.items() if key != "limits"}, folder=tmp_path)
    row = {key: value for key, value in CARD["data"][0].items() if key != "cite"}
    with pytest.raises(ValueError, match="does not say of its data: cite"):
        ship_weights(model, "x", {**CARD, "data": [row]}, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="is that of 'labram-tiny'"):
        check_card(pretrained_card(), "other")
    with pytest.raises(ValueError, match="must be a dict, got list"):
        check_card([], "other")


# -- the defaults -----------------------------------------------------------------------------------------------------
def test_the_verbs_need_no_model(shipped: Path, make_raw) -> None:
    raw = make_raw(20)
    out = raw.pipe(mne_labram.labram_embed)
    assert out.shape == (5, 16)
    np.testing.assert_array_equal(out, labram_embed(raw, load_pretrained("labram-tiny")))
    np.testing.assert_array_equal(out, labram_embed(raw, "labram-tiny"))
    codes = raw.pipe(mne_labram.labram_tokenize)
    assert codes.shape == (5, 8, 4)
    np.testing.assert_array_equal(codes, labram_tokenize(raw, shipped / "labram-tokenizer-tiny.safetensors"))
    np.testing.assert_allclose(EEGEmbedding().fit_transform(raw), out, atol=1e-6)
    np.testing.assert_array_equal(EEGTokenizer().fit_transform(raw).reshape(codes.shape), codes)
    with pytest.raises(TypeError, match="LabramForMaskedModeling has no codes"):
        labram_tokenize(raw, "labram-tiny")


@pytest.mark.parametrize("verb", [annotate_events, labram_annotate])
def test_annotating_needs_a_classifier(shipped: Path, make_raw, verb: object) -> None:
    raw = make_raw(20)
    with pytest.raises(ValueError, match=r"holds no weights of the seizure detector .*; pass a model") as said:
        verb(raw)
    assert "\n" not in str(said.value)
    with pytest.raises(ContractError, match="no classes"):
        verb(raw, "labram-tiny")


def test_command_line(
    shipped: Path, make_raw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """No --model where a default will do, a name where a path will, and the card instead of a description."""
    make_raw(20).save(tmp_path / "x_raw.fif", verbose="error")
    recording = str(tmp_path / "x_raw.fif")
    for arguments in (
        ["embed", recording, str(tmp_path / "e.npz"), "-q"],
        ["embed", recording, str(tmp_path / "named.npz"), "-q", "--model", "labram-tiny"],
        ["tokenize", recording, str(tmp_path / "t.npz"), "-q"],
    ):
        assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    with np.load(tmp_path / "e.npz") as one, np.load(tmp_path / "named.npz") as two, np.load(tmp_path / "t.npz") as t:
        np.testing.assert_array_equal(one["embedding"], two["embedding"])
        assert one["embedding"].shape == (5, 16)
        assert t["codes"].shape == (5, 8, 4)
    info = CliRunner().invoke(app, ["info", "labram-tiny"], catch_exceptions=False)
    assert info.output == card_page(pretrained_card("labram-tiny"))
    info = CliRunner().invoke(app, ["info", str(shipped / "labram-tiny.safetensors")], catch_exceptions=False)
    assert "LabramForMaskedModeling" in info.output
    info = CliRunner().invoke(app, ["info"], catch_exceptions=False)
    assert "labram-tiny, labram-tokenizer-tiny" in info.output
    for arguments, said in (
        (["embed", recording, str(tmp_path / "f.npz"), "--model", "labram-tny"], "there are labram-tiny, labram-tok"),
        (["annotate", recording, str(tmp_path / "f-annot.fif")], "holds no weights of the seizure detector"),
    ):
        monkeypatch.setattr(sys, "argv", ["mne-labram", *arguments])
        with pytest.raises(SystemExit):
            run()
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1


def test_a_head_on_top(shipped: Path) -> None:
    """What the documentation of load_pretrained promises."""
    model = LabramForClassification.from_encoder(load_pretrained(), n_outputs=3)
    with torch.inference_mode():
        assert model(30 * torch.randn(2, 6, 800)).shape == (2, 3)
