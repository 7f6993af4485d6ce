"""``mne-labram simulate-sources``."""

from __future__ import annotations

import re

from typer.testing import CliRunner

from mne_labram.commands.main import app
from mne_labram.source.bank import WaveformBank


def test_a_bank_from_the_shell(tmp_path) -> None:
    path = tmp_path / "bank.npz"
    options = ["--regions", "12", "--spikes", "1", "--background", "2"]
    done = CliRunner().invoke(app, ["simulate-sources", str(path), *options, "--estimate"], catch_exceptions=False)
    assert done.exit_code == 0
    assert re.search(r"core-hours, 0\.0\d+ MB", done.stdout)
    bank = WaveformBank.load(path)
    assert bank.n_spikes > 6
    assert bank.background.shape == (2, 12, 500)
    assert f"{bank.n_spikes} spikes" in done.stdout
    again = CliRunner().invoke(app, ["simulate-sources", str(path), *options])
    assert isinstance(again.exception, OSError | ValueError)
    assert "--overwrite" in str(again.exception)


def test_only_the_costs(tmp_path) -> None:
    options = ["--regions", "12", "--spikes", "1", "--background", "0", "--quiet"]
    done = CliRunner().invoke(app, ["simulate-sources", *options], catch_exceptions=False)
    assert done.exit_code == 0
    assert len(done.stdout.strip().splitlines()) == 3
    assert not list(tmp_path.iterdir())


def test_nonsense_is_refused_before_anything_is_simulated(tmp_path) -> None:
    for arguments in ([str(tmp_path / "bank.fif")], [str(tmp_path / "bank.npz"), "--jobs", "0"], ["--regions", "0"]):
        done = CliRunner().invoke(app, ["simulate-sources", *arguments])
        assert isinstance(done.exception, ValueError), arguments
        assert "\n" not in str(done.exception)
