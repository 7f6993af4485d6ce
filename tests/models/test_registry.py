"""Our models in Braindecode's tables."""

from __future__ import annotations

import pytest
import torch
from braindecode.models import util
from torch import nn

from mne_labram.models.registry import MODELS, NON_CLASSIFICATION_MODELS, register


def test_everything_is_registered() -> None:
    for model in MODELS:
        assert util.models_dict[model.__name__] is model
        assert (model.__name__ in util.non_classification_models) == (model in NON_CLASSIFICATION_MODELS)


def test_again_changes_nothing() -> None:
    before = dict(util.models_dict), list(util.non_classification_models)
    register()
    assert (dict(util.models_dict), list(util.non_classification_models)) == before


@pytest.mark.parametrize("table", ["models_dict", "interpolated_models_dict"])
def test_never_over_an_upstream_name(monkeypatch: pytest.MonkeyPatch, table: str) -> None:
    name = MODELS[0].__name__
    monkeypatch.delitem(util.models_dict, name)
    monkeypatch.setitem(getattr(util, table), name, nn.Identity)
    with pytest.warns(UserWarning, match=f"another model of the name '{name}'; give the class mne_labram.models"):
        register()
    assert getattr(util, table)[name] is nn.Identity
    assert util.models_dict.get(name, nn.Identity) is nn.Identity
    assert util.models_dict[MODELS[1].__name__] is MODELS[1]


def test_found_by_name() -> None:
    model = util._get_model_class("LabramForClassification")(n_outputs=2, ch_names=["CZ"], size="small")
    assert model(torch.randn(1, 1, 200)).shape == (1, 2)
