"""``mne-labram localize`` and the verb behind it."""

from __future__ import annotations

import sys

import mne
import numpy as np
import pytest
from typer.testing import CliRunner

import mne_labram  # noqa: F401  (gives recordings their pipe)
from mne_labram import brainforge_localize
from mne_labram.commands.main import app, run
from mne_labram.source.head import source_model
from mne_labram.source.headmodel import default_forward
from mne_labram.source.inverse import BrainForgeInverse, fresh_network

NAMES = mne.channels.make_standard_montage("biosemi32").ch_names


@pytest.fixture(scope="module")
def small(request, tmp_path_factory):
    """Return a forward of few sources, a file of an inverse for it, and a recording in a file."""
    folder = tmp_path_factory.mktemp("localize")
    cache = request.config.cache.mkdir("mne_labram")
    fwd = default_forward(mne.create_info(NAMES, 100.0, "eeg"), spacing="ico1", cache=cache, verbose="ERROR")
    network = fresh_network(embed_dim=8, num_layers=1, time_dim=8, time_layers=1, num_heads=2)
    inverse = folder / "inverse.safetensors"
    BrainForgeInverse(fwd, model=network).save(inverse)
    rng = np.random.default_rng(0)
    model = source_model(fwd)
    x = np.outer(model.averaged[:, 5], 30 * np.sin(np.arange(200) / 5)) + rng.standard_normal((32, 200))
    raw = mne.io.RawArray(x * 1e-6, mne.create_info(NAMES, 100.0, "eeg"), verbose="error")
    raw.save(folder / "some_raw.fif", verbose="error")
    mne.EvokedArray(raw.get_data(), raw.info, comment="one").save(folder / "some-ave.fif", verbose="error")
    return folder, fwd, network, raw


def test_the_pair_is_what_the_verb_returns(small, tmp_path):
    folder, fwd, network, raw = small
    arguments = ["localize", str(folder / "some_raw.fif"), str(tmp_path / "out.stc"), "--stop", "1.5"]
    result = CliRunner().invoke(app, [*arguments, "--model", str(folder / "inverse.safetensors")])
    assert result.exception is None, result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out-lh.stc", "out-rh.stc"]
    assert "Largest in the " in result.output
    assert "nAm at " in result.output
    written = mne.read_source_estimate(tmp_path / "out")
    piped = raw.pipe(brainforge_localize, fwd, model=network, stop=1.5)
    assert np.allclose(written.data, piped.data, rtol=1e-4, atol=1e-12)
    assert all(map(np.array_equal, written.vertices, piped.vertices))


def test_an_average_is_one_of_its_file(small, tmp_path):
    folder, fwd, network, raw = small
    arguments = ["localize", str(folder / "some-ave.fif"), str(tmp_path / "out.stc"), "--condition", "one", "--quiet"]
    result = CliRunner().invoke(app, [*arguments, "--model", str(folder / "inverse.safetensors")])
    assert result.exception is None, result.output
    assert mne.read_source_estimate(tmp_path / "out").shape == (fwd["nsource"], 200)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("out.npz",), "written as .stc"),
        (("out.stc", "--model", "nothing-of-this-name"), "neither a file nor a pretrained model"),
    ],
)
def test_mistakes_are_one_sentence(small, tmp_path, capsys, monkeypatch, arguments, sentence):
    folder, fwd, network, raw = small
    mne.write_forward_solution(tmp_path / "small-fwd.fif", fwd, verbose="error")
    given = [str(folder / "some_raw.fif"), str(tmp_path / arguments[0]), *arguments[1:]]
    monkeypatch.setattr(sys, "argv", ["mne-labram", "localize", *given, "-f", str(tmp_path / "small-fwd.fif")])
    with pytest.raises(SystemExit) as stop:
        run()
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err.strip().splitlines()[-1]


def test_a_recording_without_eeg_is_refused_before_a_head_is_made(small):
    raw = small[3].copy().set_channel_types(dict.fromkeys(NAMES, "misc"), verbose="error")
    with pytest.raises(ValueError, match="no good EEG channels"):
        brainforge_localize(raw)
