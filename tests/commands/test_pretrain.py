"""``mne-labram pretrain`` as a user types it."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mne_labram import LabramTokenizer, load_checkpoint, save_checkpoint
from mne_labram.benchmark.synthetic import simulate_recording
from mne_labram.commands.main import app, run
from mne_labram.training.logbook import Table
from mne_labram.weights import describe_checkpoint

_MODEL = """
[model]
size = "small"
embed_dim = 24
num_layers = 1
num_heads = 2
spatial = "coordinates"
{model}
[signal]
h_freq = 45.0
[data]
validation_subjects = ["anna", "nobody", "data/somebody", "elsewhere/anna"]
validation_files = ["*doris*"]
[windows]
lengths = [2.0]
batch_size = 6
[training]
lr = 1e-3
epochs = 2
log_every = 1
[augment]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write five recordings and two recipes."""
    folder = tmp_path_factory.mktemp("pretrain")
    (folder / "data").mkdir()
    for i, name in enumerate(("anna", "bert", "carl", "doris", "emil")):
        raw = simulate_recording(14.0 + i, [], seed=i)
        raw.save(folder / "data" / f"{name}_raw.fif", verbose="error")
    tokenizer = (
        "n_codes = 16\ncode_dim = 8\ndecoder_layers = 1\ntarget = 'log_amplitude'\npatch_embed = 'conv+spectrum'"
    )
    (folder / "tok.toml").write_text('kind = "tokenizer"' + _MODEL.format(model=tokenizer))
    (folder / "mem.toml").write_text('kind = "masked"' + _MODEL.format(model="mask_ratio = 0.4"))
    return folder


def _run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["pretrain", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_from_recordings_to_a_model(folder: Path) -> None:
    options = ("--data", folder / "data", "--cache", folder / "cache", "--device", "cpu")
    out = folder / "tok"
    text = _run("tokenizer", folder / "tok.toml", *options, "--out", out, "--exclude-subjects", "emil")
    assert f"{out / 'final.safetensors'}" in text
    assert "validation_loss" in text
    tokenizer = load_checkpoint(out / "final.safetensors")
    assert tokenizer.n_codes == 16
    assert tokenizer.contract.h_freq == 45.0
    card = describe_checkpoint(out / "final.safetensors")["card"]
    # Two subjects for training; two for validation, one of them by the name of the file; one left out.
    assert (card["n_subjects"], card["n_recordings"], card["recipe"]) == (2, 2, "tok")
    assert card["hours"] == pytest.approx(31 / 3600, abs=1e-3)
    assert card["config"]["data"]["n_windows"] == 7 + 8
    rows = Table(out / "log.csv").rows()
    assert len(rows) == 2 * 3
    assert len(Table(out / "epochs.csv").rows()) == 2
    masked = ("masked", folder / "mem.toml", *options, "--out", folder / "mem", "--tokenizer", out)
    text = _run(*masked, "--max-steps", 2, "--threads", 1)
    assert "2 step(s)" in text
    assert "accuracy" in text
    model = load_checkpoint(folder / "mem" / "final.safetensors")
    assert (model.n_codes, model.mask_ratio) == (16, 0.4)
    # Going on with what is done does nothing.
    assert "2 step(s)" in _run(*masked, "--max-steps", 2, "--resume")
    assert _run(*masked, "--max-steps", 2, "--resume", "--quiet") == ""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("encoder", "tiny"), "masked, codec, gram-tokenizer, gram, spatial-filter, amplitude, got 'encoder'."),
        (("tokenizer", "nothing.toml"), "There is no file 'nothing.toml'; the recipes that ship are"),
        (("tokenizer", "{}/mem.toml"), "The recipe mem is for masked, not for tokenizer."),
        (("tokenizer", "{}/tok.toml", "--data", "{}/tok.toml"), "No recording was found that can be read"),
        (("tokenizer", "{}/tok.toml"), "names no recordings; say where they are with data (--data)."),
        (("masked", "{}/mem.toml", "--data", "{}/data"), "The recipe mem needs a tokenizer"),
        (("tokenizer", "{}/tok.toml", "--data", "{}/data", "--exclude-subjects", "fred"), "no recording of fred"),
        (
            ("tokenizer", "{}/tok.toml", "--data", "{}/data", "--exclude-subjects", "anna,bert,carl,doris,emil"),
            "All recordings are excluded",
        ),
        (
            ("tokenizer", "{}/tok.toml", "--data", "{}/data", "--validation-subjects", "bert, carl, emil"),
            "All recordings are for validation",
        ),
        (
            ("tokenizer", "{}/tok.toml", "--data", "{}/data", "--device", "cuda:7"),
            "device must be 'cpu', 'cuda' or None",
        ),
        (("tokenizer", "{}/tok.toml", "--data", "{}/data", "--threads", "0"), "threads must be at least 1, got 0."),
        (("tokenizer", "{}/tok.toml", "--data", "{}/data", "--max-steps", "0"), "max_steps must be a whole number"),
    ],
)
def test_errors_are_one_sentence(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    sentence: str,
) -> None:
    filled = [argument.format(folder) for argument in arguments]
    out = ["--out", tmp_path / "out", "--cache", folder / "cache", "--quiet"]
    monkeypatch.setattr(sys, "argv", ["mne-labram", "pretrain", *filled, *map(str, out)])
    with pytest.raises(SystemExit) as stop:
        run()
    assert stop.value.code == 2
    errors = capsys.readouterr().err
    assert sentence in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "out" / "log.csv").exists()


def test_a_folder_in_use_is_refused_before_anything_is_read(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-000000007.safetensors").write_bytes(b"")
    with pytest.raises(FileExistsError, match="holds a training of 7 steps; go on with it with resume=True"):
        _run("tokenizer", folder / "tok.toml", "--data", tmp_path / "not there", "--out", tmp_path)


def test_what_the_recipe_names_and_is_not_there_is_told(folder: Path, tmp_path: Path) -> None:
    """A slip of the pen in validation_subjects would otherwise train on whom it meant."""
    command = ("tokenizer", folder / "tok.toml", "--data", folder / "data", "--cache", folder / "cache")
    text = _run(*command, "--out", tmp_path, "--max-steps", 1, "--device", "cpu")
    assert "Of what [data] in tok leaves out or validates on, not there: nobody, data/somebody." in text


def test_codes_of_a_codebook_that_has_not_begun_are_no_labels(folder: Path, tmp_path: Path) -> None:
    model = LabramTokenizer(ch_names=["Cz"], size="small", contract={"h_freq": 45.0})
    save_checkpoint(model, tmp_path / "fresh.safetensors")
    command = ("masked", folder / "mem.toml", "--data", folder / "data", "--tokenizer", tmp_path / "fresh.safetensors")
    with pytest.raises(ValueError, match="has not begun .* its codes mean nothing; train the tokenizer for more"):
        _run(*command, "--out", tmp_path / "out")


def test_interrupted_it_says_how_to_go_on(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: LabramTokenizer, batch: dict) -> None:
        signal.raise_signal(signal.SIGTERM)
        return step(self, batch)

    step = LabramTokenizer.training_step
    monkeypatch.setattr(LabramTokenizer, "training_step", interrupted)
    command = ("tokenizer", folder / "tok.toml", "--data", folder / "data", "--cache", folder / "cache")
    result = CliRunner().invoke(app, ["pretrain", *map(str, command), "--out", str(tmp_path), "--device", "cpu"])
    assert result.exit_code == 130
    assert "Stopped after step 1 of 8; go on with resume=True (--resume)." in result.output
    monkeypatch.undo()
    assert "8 step(s)" in _run(*command, "--out", tmp_path, "--device", "cpu", "--resume")


def test_the_shipped_recipe_on_real_recordings(shared_data: Path, tmp_path: Path) -> None:
    """Four recordings of 19 channels and one of bipolar ones; a subject named in the recipe is for validation."""
    data = [shared_data / "eegmat" / f"Subject{number}.edf" for number in ("00_2", "01_2", "20_2", "21_2")]
    data.append(sorted((shared_data / "chbmit").rglob("*_seizure_full.edf"))[0])
    options = [text for path in data for text in ("--data", path)]
    # A file has no data set but the folder that it lies in.
    text = _run("tokenizer", "tiny", *options, "--out", tmp_path, "--max-steps", 2, "--device", "cpu")
    assert "2 step(s)" in text
    card = describe_checkpoint(tmp_path / "final.safetensors")["card"]
    assert card["data"] == ["chbmit", "eegmat"]
    assert (card["n_recordings"], card["steps"]) == (3, 2)
    assert "validation_loss" in card["metrics"]
