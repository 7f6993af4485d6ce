"""``mne-labram benchmark source``: what it hands on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mne_labram.benchmark import source_page
from mne_labram.commands.main import app


@pytest.mark.parametrize(
    ("options", "models"), [([], None), (["-m", "a"], ["a"]), (["--model", "b", "--model", "a"], ["b", "a"])]
)
def test_models_may_be_several(
    options: list[str], models: list[str] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}

    def page(data: Path, **settings: object) -> tuple[str, dict]:
        asked.update(settings, data=data)
        return "the page", {"rows": []}

    monkeypatch.setattr(source_page, "source_benchmark_page", page)
    to = tmp_path / "found.json"
    arguments = ["benchmark", "source", *options, "--montage", "64", "--windows", "3", "--json", str(to)]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert "the page" in done.stdout
    assert json.loads(to.read_text()) == {"rows": []}
    assert asked["model"] == models
    assert (asked["montages"], asked["n_windows"]) == (["64"], 3)


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["benchmark", "source", "--quick", "--model", str(tmp_path / "no.safetensors")])
    assert done.exit_code != 0
    assert isinstance(done.exception, FileNotFoundError)
