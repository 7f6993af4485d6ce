"""Strict loading: everything fits, or nothing is loaded."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mne_labram.nn.state import load_strict, state_differences


class _Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3, bias=False)
        self.second = nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight


def _model(seed: int = 0, width: int = 4) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Linear(width, 2))


def _copy(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_loads_every_value() -> None:
    source, target = _model(0), _model(1)
    load_strict(target, _copy(source), source="the file")
    for name, value in target.state_dict().items():
        torch.testing.assert_close(value, source.state_dict()[name], rtol=0, atol=0)


def test_casts_half_precision_but_not_kinds() -> None:
    state = {name: value.half() if value.is_floating_point() else value for name, value in _copy(_model(0)).items()}
    target = _model(1)
    load_strict(target, state, source="the file")
    assert target[0].weight.dtype == torch.float32
    torch.testing.assert_close(target[0].weight, state["0.weight"].float(), rtol=0, atol=0)
    state["0.weight"] = state["0.weight"].to(torch.int64)
    with pytest.raises(
        ValueError,
        match=r"1 tensor is of another kind \(0.weight is integer, not floating point\)",
    ):
        load_strict(target, state, source="the file")


def _without(state: dict) -> None:
    del state["0.bias"]


def _renamed(state: dict) -> None:
    state["0.beta"] = state.pop("0.bias")


def _nan(state: dict) -> None:
    state["2.weight"][0, 0] = torch.nan


def _infinite(state: dict) -> None:
    state["2.bias"][0] = -torch.inf


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_without, ["1 tensor is missing (0.bias)"]),
        (
            _renamed,
            [
                "1 tensor is missing (0.bias)",
                "1 tensor is unknown to the model (0.beta)",
            ],
        ),
        (_nan, ["1 tensor holds NaN or infinity (2.weight)"]),
        (_infinite, ["1 tensor holds NaN or infinity (2.bias)"]),
    ],
)
def test_refuses_and_leaves_the_model_alone(spoil, words) -> None:
    target, state = _model(1), _copy(_model(0))
    before = _copy(target)
    spoil(state)
    with pytest.raises(ValueError, match="does not fit Sequential") as error:
        load_strict(target, state, source="'a.pth'")
    message = str(error.value)
    assert message.startswith("'a.pth' ")
    assert all(word in message for word in words)
    assert "\n" not in message
    assert all(torch.equal(before[name], value) for name, value in target.state_dict().items())


def test_another_size_names_both_shapes() -> None:
    with pytest.raises(ValueError, match=r"\(0.weight is 8 x 3, not 4 x 3, ") as error:
        load_strict(_model(), _copy(_model(width=8)), source="the file")
    assert "7 tensors have another shape" in str(error.value)  # all but 2.bias and the number of batches seen
    assert str(error.value).count(", ...") == 1


def test_tied_names_must_agree() -> None:
    model = _Tied()
    state = _copy(model)
    load_strict(model, state, source="the file")
    state["second.weight"] = state["second.weight"] + 1
    with pytest.raises(ValueError, match=r"1 tied pair differs \(first.weight and second.weight\)"):
        load_strict(model, state, source="the file")


@pytest.mark.parametrize("state", [[("0.weight", 1)], {"0.weight": [1.0]}])
def test_only_mappings_of_tensors(state) -> None:
    with pytest.raises(TypeError, match="A state dict maps names to tensors"):
        load_strict(_model(), state, source="the file")


def test_state_differences_of_shapes() -> None:
    assert state_differences({"a": (1, 2), "b": ()}, {"b": (), "a": [1, 2]}) == []
    assert state_differences({"a": ()}, {"a": (3,)}) == ["1 tensor has another shape (a is 3, not scalar)"]
