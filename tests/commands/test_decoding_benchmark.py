"""``mne-labram benchmark decoding``: arguments to the library, its page to the shell, its numbers to a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mne_labram.benchmark import decoding_page
from mne_labram.commands.main import app


def test_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def page(data: Path, **options: Any) -> tuple[str, dict[str, Any]]:
        asked.update(options, data=data)
        return "a table", {"rows": [1.5]}

    monkeypatch.setattr(decoding_page, "decoding_benchmark_page", page)
    out = tmp_path / "found.json"
    arguments = "--data here --models a,b --epochs 2 --no-fine-tune --no-imagery --folds 3 --quiet --json".split()
    done = CliRunner().invoke(app, ["benchmark", "decoding", *arguments, str(out)])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-1] == "a table"
    assert asked["data"] == Path("here")
    assert asked["models"] == ["a", "b"]
    assert (asked["epochs"], asked["n_folds"], asked["fine_tune"], asked["imagery"]) == (2, 3, False, False)
    assert json.loads(out.read_text()) == {"rows": [1.5]}
    asked.clear()
    done = CliRunner().invoke(app, ["benchmark", "decoding", "--json", str(out)])
    assert "--overwrite" in str(done.exception)
    assert not asked
