"""Strict loading of a state dict: everything fits, or nothing is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

__all__ = ["load_strict", "state_differences"]

# How many names an error message spells out per kind of difference.
_N_NAMED = 3


def _some(names: Sequence[str]) -> str:
    """Spell out the first few names."""
    return ", ".join(names[:_N_NAMED]) + (", ..." if len(names) > _N_NAMED else "")


def _by(shape: Sequence[int]) -> str:
    """Write a shape as one writes it by hand: 1 x 129 x 200."""
    return " x ".join(str(int(n)) for n in shape) or "scalar"


def _counted(names: Sequence[str], singular: str, plural: str) -> str:
    """Say how many, and name the first few."""
    return f"{len(names)} {singular if len(names) == 1 else plural} ({_some(names)})"


def state_differences(expected: Mapping[str, Sequence[int]], given: Mapping[str, Sequence[int]]) -> list[str]:
    """Say how the names and shapes of two state dicts differ.

    Parameters
    ----------
    expected : mapping of str to shape
        What the model holds.
    given : mapping of str to shape
        What the file holds.

    Returns
    -------
    differences : list of str
        One phrase per kind of difference (missing, unknown, another shape), each with a count and the first few
        names. Empty if the two agree.
    """
    missing = [name for name in expected if name not in given]
    unknown = [name for name in given if name not in expected]
    reshaped = [
        f"{name} is {_by(given[name])}, not {_by(expected[name])}"
        for name in expected
        if name in given and tuple(given[name]) != tuple(expected[name])
    ]
    differences = []
    if missing:
        differences.append(_counted(missing, "tensor is missing", "tensors are missing"))
    if unknown:
        differences.append(
            _counted(
                unknown,
                "tensor is unknown to the model",
                "tensors are unknown to the model",
            )
        )
    if reshaped:
        differences.append(_counted(reshaped, "tensor has another shape", "tensors have another shape"))
    return differences


def _kind_of_number(dtype: torch.dtype) -> str:
    """Kinds between which no value is silently changed: floating to floating is a cast, the rest is a mistake."""
    if dtype.is_floating_point:
        return "floating point"
    if dtype.is_complex:
        return "complex"
    return "boolean" if dtype == torch.bool else "integer"


def load_strict(model: nn.Module, state_dict: Mapping[str, torch.Tensor], *, source: str) -> None:
    """Copy a state dict into a model if, and only if, every tensor fits.

    Every name must be matched on both sides, every shape and kind of number must be the model's, and every value must
    be finite. All is checked before the first value is copied, so after an error the model is what it was.

    Parameters
    ----------
    model : torch.nn.Module
        The model. Its parameters and persistent buffers are written in place.
    state_dict : mapping of str to Tensor
        The values; floating-point tensors of another precision are cast.
    source : str
        What the values come from, as the error message shall name it, e.g. ``"'labram-base.pth'"``.

    Raises
    ------
    ValueError
        If anything does not fit. The message is one sentence with a count and the first few names of what is missing,
        unknown, of another shape or kind of number, not finite, or contradictory where the model ties two names.
    TypeError
        If ``state_dict`` is not a mapping of names to tensors.
    """
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"A state dict maps names to tensors; {source} gives a {type(state_dict).__name__}.")
    strangers = [repr(name) for name, value in state_dict.items() if not isinstance(value, torch.Tensor)]
    if strangers:
        raise TypeError(f"A state dict maps names to tensors; in {source} these are none: {_some(strangers)}.")
    own = model.state_dict()
    problems = state_differences(
        {name: value.shape for name, value in own.items()},
        {name: value.shape for name, value in state_dict.items()},
    )
    kinds, infinite = [], []
    for name, value in state_dict.items():
        if name in own and _kind_of_number(value.dtype) != _kind_of_number(own[name].dtype):
            kinds.append(f"{name} is {_kind_of_number(value.dtype)}, not {_kind_of_number(own[name].dtype)}")
        if not value.is_meta and not bool(torch.isfinite(value).all()):
            infinite.append(name)
    if kinds:
        problems.append(_counted(kinds, "tensor is of another kind", "tensors are of another kind"))
    if infinite:
        problems.append(_counted(infinite, "tensor holds NaN or infinity", "tensors hold NaN or infinity"))
    if not problems:
        problems = _contradictions(own, state_dict)
    if problems:
        raise ValueError(f"{source} does not fit {type(model).__name__}: {'; '.join(problems)}; nothing was loaded.")
    # Not model.load_state_dict: Braindecode's renames keys on the way.
    nn.Module.load_state_dict(model, dict(state_dict), strict=True)


def _contradictions(own: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> list[str]:
    """Find names that are one tensor in the model but hold different values in the file: the last would win."""
    first: dict[tuple, str] = {}
    pairs = []
    for name, value in own.items():
        if value.is_meta or not value.numel():
            continue
        place = (
            value.device,
            value.data_ptr(),
            value.dtype,
            tuple(value.shape),
            value.stride(),
        )
        other = first.setdefault(place, name)
        if other != name and not torch.equal(given[name], given[other]):
            pairs.append(f"{other} and {name}")
    return [_counted(pairs, "tied pair differs", "tied pairs differ")] if pairs else []
