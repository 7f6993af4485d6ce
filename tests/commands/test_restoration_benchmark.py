"""``mne-labram benchmark restoration``: arguments to the library, its page to the shell, its numbers to a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mne_labram.benchmark import restoration_page
from mne_labram.commands.main import app


def test_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def page(data: Path, **options: Any) -> tuple[str, dict[str, Any]]:
        asked.update(options, data=data)
        return "a table", {"rows": [{"error": (1.5, float("nan"))}]}

    monkeypatch.setattr(restoration_page, "restoration_benchmark_page", page)
    out = tmp_path / "found.json"
    arguments = ["--data", "here", "--draws", "2", "--quick", "--quiet", "--json", str(out)]
    done = CliRunner().invoke(app, ["benchmark", "restoration", *arguments])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-1] == "a table"
    assert asked == {"data": Path("here"), "model": "gram-tiny", "draws": 2, "seed": 0, "quick": True}
    assert json.loads(out.read_text()) == {"rows": [{"error": [1.5, None]}]}
    asked.clear()
    done = CliRunner().invoke(app, ["benchmark", "restoration", "--json", str(out)])
    assert "--overwrite" in str(done.exception)
    done = CliRunner().invoke(app, ["benchmark", "restoration", "--json", str(tmp_path / "found.txt")])
    assert "let the name end in .json" in str(done.exception)
    assert not asked
