"""``mne-labram localize`` and the verb behind it."""

from __future__ import annotations

import importlib.util
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
    # Three times the same: before 0 there is nothing; all channels off by as much; the latter under another name.
    data = np.where(np.arange(200) < 50, 1.0, 1.0 + 9 * np.sin(np.arange(200) / 5)) * raw.get_data()
    apart = data + 1e-4 * np.arange(32)[:, np.newaxis]
    averages = [
        mne.EvokedArray(each, raw.info, tmin=-0.5, comment=comment)
        for each, comment in ((data, "one"), (apart, "two"), (apart, "three"))
    ]
    mne.write_evokeds(folder / "some-ave.fif", averages, verbose="error")
    return folder, fwd, network, raw


def test_the_pair_is_what_the_verb_returns(small, tmp_path):
    folder, fwd, network, raw = small
    arguments = ["localize", str(folder / "some_raw.fif"), str(tmp_path / "out.stc"), "--stop", "1.5"]
    result = CliRunner().invoke(app, [*arguments, "--model", str(folder / "inverse.safetensors")])
    assert result.exception is None, result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out-lh.stc", "out-rh.stc"]
    assert "Largest in the " in result.output
    assert f"Written: {tmp_path / 'out-lh.stc'}, {tmp_path / 'out-rh.stc'}" in result.output
    assert "nAm at " in result.output
    written = mne.read_source_estimate(tmp_path / "out")
    piped = raw.pipe(brainforge_localize, fwd, model=network, stop=1.5)
    assert np.allclose(written.data, piped.data, rtol=1e-4, atol=1e-12)
    assert all(map(np.array_equal, written.vertices, piped.vertices))


def _run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["localize", *map(str, arguments)])
    if result.exception is not None:
        raise result.exception
    return result.output


def test_an_average_is_one_of_its_file(small, tmp_path):
    folder, fwd, network, raw = small
    arguments = folder / "some-ave.fif", tmp_path / "out.stc", "--model", folder / "inverse.safetensors"
    assert _run(*arguments, "--condition", "one", "--quiet") == ""
    one = mne.read_source_estimate(tmp_path / "out")
    assert one.shape == (fwd["nsource"], 200)
    assert one.tmin == -0.5
    assert "one (0 of 0 to 2). Largest in" in _run(*arguments, "--overwrite")
    assert np.array_equal(mne.read_source_estimate(tmp_path / "out").data, one.data)


def test_a_baseline_is_taken_off_where_one_asks_for_it(small, tmp_path):
    folder, fwd, network, raw = small
    arguments = folder / "some-ave.fif", tmp_path / "out.stc", "--model", folder / "inverse.safetensors"
    with pytest.raises(ValueError, match="or --baseline"):
        _run(*arguments, "--condition", "two")
    assert "three (2 of 0 to 2). " in _run(*arguments, "--condition", "2", "--baseline")
    evoked = mne.read_evokeds(folder / "some-ave.fif", condition=2, baseline=(None, 0), verbose="error")
    wanted = evoked.pipe(brainforge_localize, fwd, model=network)
    assert np.allclose(mne.read_source_estimate(tmp_path / "out").data, wanted.data, rtol=1e-4, atol=1e-12)


def test_a_recording_is_filtered_where_one_asks_for_it(small, tmp_path):
    folder, fwd, network, raw = small
    offset = raw.copy().apply_function(lambda x: x + 0.001 * np.arange(32)[:, np.newaxis], channel_wise=False)
    offset.save(tmp_path / "some_raw.fif", verbose="error")
    arguments = tmp_path / "some_raw.fif", tmp_path / "out.stc", "--model", folder / "inverse.safetensors"
    with pytest.raises(ValueError, match="or --high-pass 1"):
        _run(*arguments)
    _run(*arguments, "--high-pass", 1.0)
    wanted = offset.filter(1.0, None, verbose="error").pipe(brainforge_localize, fwd, model=network)
    # Files keep single precision, offsets included.
    assert np.abs(mne.read_source_estimate(tmp_path / "out").data - wanted.data).max() < 0.01 * wanted.data.max()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("some-ave.fif", "out.stc", "--condition", "four"), "no average 'four'; it has 0 'one', 1 'two', 2 'three'"),
        (("some-ave.fif", "out.stc", "--condition", "3"), "has no average '3'; it has 0 'one'"),
        (("some-ave.fif", "out.stc", "--high-pass", "1"), "--high-pass is for recordings"),
        (("some_raw.fif", "out.stc", "--baseline"), "--baseline is for averages"),
        (("some_raw.fif", "out.stc", "--high-pass", "50"), "--high-pass must lie between 0 and 50 Hz"),
        (("cut-ave.fif", "out.stc"), "cut-ave.fif cannot be read"),
        (("some_raw.fif", "out.stc", "--figure", "out.png"), "other sources than the forward that the figure"),
        (("some_raw.fif", "out.stc", "--figure", "out.gif"), "let the name end in .png"),
    ],
)
def test_what_does_not_go_together(small, tmp_path, arguments, sentence):
    folder = small[0]
    (folder / "cut-ave.fif").write_bytes((folder / "some-ave.fif").read_bytes()[:5000])
    name, output, *options = [tmp_path / each if each.startswith("out.") else each for each in arguments]
    with pytest.raises(ValueError, match=sentence) as error:
        _run(folder / name, output, *options, "--model", folder / "inverse.safetensors")
    assert ". " not in str(error.value).replace("ave.fif cannot", "")
    assert not list(tmp_path.iterdir())


def test_hdf5_is_written_where_it_can_be(small, tmp_path, monkeypatch):
    folder, fwd, network, raw = small
    arguments = folder / "some_raw.fif", tmp_path / "out-stc.h5", "--model", folder / "inverse.safetensors"
    if importlib.util.find_spec("h5io") is not None:
        assert "out-stc.h5" in _run(*arguments)
        assert mne.read_source_estimate(tmp_path / "out-stc.h5").shape == (fwd["nsource"], 200)
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "h5io" else find_spec(name))
    with pytest.raises(ValueError, match="pip install h5io, or let the name end in .stc"):
        _run(*arguments)


def test_deep_points_do_not_fit_into_stc(small, tmp_path, request):
    folder, fwd, network, raw = small
    cache = request.config.cache.mkdir("mne_labram")
    deep = default_forward(raw.info, spacing="ico1", deep=True, cache=cache, verbose="ERROR")
    path = BrainForgeInverse(deep, model=network).save(tmp_path / "deep.safetensors")
    with pytest.raises(ValueError, match="deep points are not written as .stc"):
        _run(folder / "some_raw.fif", tmp_path / "out.stc", "--model", path)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("out.npz",), "written as .stc"),
        (("out.stc", "--model", "nothing-of-this-name"), "neither a file nor a pretrained model"),
        (("out.stc", "--noise", __file__), "test_localize.py cannot be read"),
        (("out.stc", "--noise", "nowhere-cov.fif"), "There is no file nowhere-cov.fif"),
        (("out.stc", "--forward", __file__), "give a whole file of a forward solution (*-fwd.fif)"),
    ],
)
def test_mistakes_are_one_sentence(small, tmp_path, capsys, monkeypatch, arguments, sentence):
    folder, fwd, network, raw = small
    mne.write_forward_solution(tmp_path / "small-fwd.fif", fwd, verbose="error")
    given = [str(folder / "some_raw.fif"), str(tmp_path / arguments[0]), *arguments[1:]]
    forward = [] if "--forward" in arguments else ["-f", str(tmp_path / "small-fwd.fif")]
    monkeypatch.setattr(sys, "argv", ["mne-labram", "localize", *given, *forward])
    with pytest.raises(SystemExit) as stop:
        run()
    assert stop.value.code == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("mne-labram: ")
    assert sentence in said


def test_a_recording_without_eeg_is_refused_before_a_head_is_made(small):
    raw = small[3].copy().set_channel_types(dict.fromkeys(NAMES, "misc"), verbose="error")
    with pytest.raises(ValueError, match="no good EEG channels"):
        brainforge_localize(raw)
