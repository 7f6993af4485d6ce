"""``mne-labram cache`` and ``mne-labram benchmark store``."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from mne_labram.commands.main import app


def _run(*arguments) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_cache(write_edf, make_eeg, tmp_path) -> None:
    (tmp_path / "data").mkdir()
    for number in range(2):
        write_edf(f"data/p{number}_1.edf", signals=list(make_eeg(3, 1200, 100, seed=number)))
    (tmp_path / "data" / "empty.edf").write_bytes(b"")
    cache = tmp_path / "cache"
    code, text = _run("cache", tmp_path / "data", "--cache", cache, "--line-freq", 60)
    assert code == 0
    assert "2 recordings, 0.00667 h, 1 skipped" in text
    about = [json.loads(path.read_text()) for path in cache.glob("*/recording.json")]
    assert [each["report"]["line_freq"] for each in about] == [60, 60]
    code, text = _run(
        "cache", tmp_path / "data" / "p0_1.edf", tmp_path / "data" / "p1_1.edf", "-c", cache, "-q", "-j", 2
    )
    assert (code, text) == (0, "")
    with pytest.raises(ValueError, match=r"empty\.edf"):
        _run("cache", tmp_path / "data", "--cache", cache, "--strict")


def test_benchmark_store(monkeypatch) -> None:
    asked = {}

    def table(**arguments) -> str:
        asked.update(arguments)
        return "the table"

    monkeypatch.setattr("mne_labram.benchmark.store.store_table", table)
    code, text = _run("benchmark", "store", "--files", 3, "--hours", 0.5)
    assert (code, text) == (0, "the table\n")
    assert asked == {"files": 3, "hours": 0.5, "seconds": 0.25, "rounds": 12}
