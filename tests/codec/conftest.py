"""Simple coders in place of the real ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mne_labram.codec.coders import CODERS
from mne_labram.codec.layout import layout_from


@pytest.fixture
def stub_coders(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put the stubs into the registry, and forget what was made of them."""
    names = {"lossless": "PlainIntegers", "hybrid": "Rounded", "neural": "WithWeights"}
    for name, stub in names.items():
        monkeypatch.setitem(CODERS, name, f"tests.codec.stubs:{stub}")
    layout_from.cache_clear()
    yield
    layout_from.cache_clear()
