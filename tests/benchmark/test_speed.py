"""The speed table is made, compares equal functions, and leaves torch as it was."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from mne_labram.benchmark import speed
from mne_labram.benchmark.speed import measure_speed, speed_table

TINY = {"threads": 1, "batch_size": 1, "seconds": 0.01}


@pytest.fixture
def torch_as_it_was():
    """Check that neither the number of threads nor the random numbers of others changed."""
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    yield
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.usefixtures("torch_as_it_was")
def test_rows():
    rows = measure_speed(**TINY)
    assert [row.name for row in rows] == [
        "Braindecode Labram, float32",
        "Braindecode Labram, bf16 autocast",
        "LabramForClassification, float32",
        "ModelRunner, precision='float32'",
        "ModelRunner, precision='bf16'",
    ]
    assert rows[0].ratio == 1.0
    assert rows[0].difference == 0.0
    for row in rows:
        assert np.isfinite(row.windows_per_second)
        assert row.windows_per_second > 0
        assert row.ratio > 0
        is_bf16 = "bf16" in row.name
        assert row.difference < (1e-2 if is_bf16 else 1e-5)
        assert (row.difference > 1e-5) == is_bf16, "a row did not run in the format it names"


@pytest.mark.usefixtures("torch_as_it_was")
def test_table(monkeypatch):
    monkeypatch.setattr(speed, "native_bf16", lambda device: "AVX512-BF16")
    monkeypatch.setattr(speed, "resolve_precision", lambda precision, device: "bf16")
    table = speed_table(**TINY)
    assert "19 channels x 4 s, batches of 1," in table
    assert f"1 of {speed.os.cpu_count()} threads" in table
    assert f"torch {torch.__version__.split('+')[0]}" in table
    assert "precision='auto' is bf16 here (AVX512-BF16)" in table
    numbers = re.findall(r"^(\S.*?) {2,}([\d.]+) +([\d.]+) +([\d.e+-]+)$", table, flags=re.MULTILINE)
    assert len(numbers) == 5
    assert max(len(line) for line in table.splitlines()) <= 120


@pytest.mark.usefixtures("torch_as_it_was")
def test_different_functions_are_not_compared(monkeypatch):
    make = speed._model

    def with_other_weights():
        model = make()
        convert = model.to_braindecode

        def to_braindecode(**options):
            labram = convert(**options)
            torch.nn.init.zeros_(labram.blocks[3].mlp[0].weight)
            return labram

        model.to_braindecode = to_braindecode
        return model

    monkeypatch.setattr(speed, "_model", with_other_weights)
    with pytest.raises(ValueError, match="not the same function"):
        measure_speed(**TINY)


@pytest.mark.parametrize("options", [{"threads": 0}, {"batch_size": 0}, {"seconds": 0.0}, {"seconds": float("nan")}])
def test_wrong_numbers(options):
    with pytest.raises(ValueError, match="at least 1 and seconds positive"):
        measure_speed(**{**TINY, **options})


def test_wrong_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for device in ("cuda", "mps"):
        with pytest.raises(ValueError, match="'cuda' where torch finds a GPU"):
            measure_speed(**TINY, device=device)
