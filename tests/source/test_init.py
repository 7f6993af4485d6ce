"""Names of the room that users reach."""

from __future__ import annotations

import importlib

import pytest

import mne_labram.source


@pytest.mark.parametrize("name", mne_labram.source.__all__)
def test_names_are_found_where_they_live(name: str) -> None:
    value = getattr(mne_labram.source, name)
    assert value is getattr(importlib.import_module(value.__module__), name)
    assert value.__doc__
    assert name in dir(mne_labram.source)


def test_other_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'not_there'"):
        _ = mne_labram.source.not_there
