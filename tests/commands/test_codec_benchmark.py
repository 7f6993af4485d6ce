"""``mne-labram benchmark codec``: arguments to the library, its page to the shell, its numbers to a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mne_labram.benchmark import codec_page
from mne_labram.commands.main import app


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Remember what the library is asked for, instead of doing it."""
    kept: dict[str, Any] = {}

    def page(data: Path, **options: Any) -> tuple[str, dict[str, Any]]:
        kept.update(options, data=data)
        return "a table", {"rows": [1.5]}

    monkeypatch.setattr(codec_page, "codec_benchmark_page", page)
    return kept


def test_options(asked: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    arguments = "--data here --bitrates 64,256 --codecs dct,klt --classify dct --speed= --jobs 2 --quiet".split()
    done = CliRunner().invoke(app, ["benchmark", "codec", *arguments, "--json", str(out)])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-1] == "a table"
    assert asked["data"] == Path("here")
    assert asked["bitrates"] == [64.0, 256.0]
    assert asked["codecs"] == ["dct", "klt"]
    assert asked["classify"] == ["dct"]
    assert asked["speed"] == []
    assert asked["jobs"] == 2
    assert json.loads(out.read_text()) == {"rows": [1.5]}


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--bitrates", "64,many"], "--bitrates must be numbers"),
        (["--json", "found.txt"], "let the name end in .json"),
        (["--json", "there.json"], "--overwrite"),
    ],
)
def test_wrong_options(
    arguments: list[str], match: str, asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.json").touch()
    done = CliRunner().invoke(app, ["benchmark", "codec", *arguments])
    assert isinstance(done.exception, ValueError)
    assert match in str(done.exception)
    assert not asked
