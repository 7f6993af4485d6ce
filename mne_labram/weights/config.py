"""A model's constructor arguments as JSON, and back: what a checkpoint says of the model it holds.

What is read back comes from a file, so it is checked before anything is built from it: only our own classes, only their
own arguments, only plain values of a sane size. A class among the values (an activation) is looked up in
:mod:`torch.nn` and nowhere else; Braindecode's ``from_config`` would import any module that the file names.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from mne_labram.weights.files import shown

__all__ = ["build_model", "model_class", "model_config"]

# Bounds on what a file may say. The largest honest values are a few thousand samples and 128 channels.
_LARGEST_NUMBER = 1_000_000
_LARGEST_OF = {"patch_size": 10_000, "seed": 2**63, "warmup_steps": 2**63}
_LONGEST_LIST = 4_096
_LONGEST_TEXT = 300
_DEEPEST = 4
_ACTIVATIONS = "torch.nn.modules.activation."

# What a constructor raises when its arguments make no model.
_UNBUILDABLE = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def _model_classes() -> dict[str, type[nn.Module]]:
    """Every model class that this package exports; imported late, because Braindecode takes seconds."""
    from mne_labram import models

    exported = {name: getattr(models, name) for name in models.__all__}
    return {name: value for name, value in exported.items() if isinstance(value, type) and issubclass(value, nn.Module)}


def model_class(name: Any, label: str) -> type[nn.Module]:
    """Return one of our own model classes by its name.

    Parameters
    ----------
    name : str
        Name of the class.
    label : str
        The file, for the error message.

    Returns
    -------
    cls : type of nn.Module
        The class.

    Raises
    ------
    ValueError
        If it is no class of this package.
    """
    classes = _model_classes()
    if not isinstance(name, str) or name not in classes:
        raise ValueError(
            f"{label} holds a {shown(str(name), 60)!r}, which this version of mne_labram does not know; it knows "
            f"{', '.join(sorted(classes))}."
        )
    return classes[name]


def model_config(model: nn.Module) -> dict[str, Any]:
    """Return the constructor arguments of a model as plain JSON values.

    Parameters
    ----------
    model : Braindecode model
        One of our models.

    Returns
    -------
    config : dict
        Every argument of the constructor.

    Raises
    ------
    TypeError
        If the model is not exactly one of our classes.
    ValueError
        If an argument cannot be written as JSON.
    """
    cls = type(model)
    if _model_classes().get(cls.__name__) is not cls:
        raise TypeError(
            f"Only models of mne_labram can be saved ({', '.join(sorted(_model_classes()))}), not {cls.__name__}; "
            "finetuned_model takes the model out of a classifier."
        )
    config = dict(model.get_config())
    config.pop("braindecode_version", None)
    # Braindecode leaves out, silently, what JSON cannot hold; it would come back as the default.
    given = getattr(model, "_braindecode_init_kwargs", {})
    for name, parameter in inspect.signature(cls).parameters.items():
        value = given.get(name, parameter.default)
        if name not in config and value is not None and value is not parameter.default:
            raise ValueError(f"{cls.__name__} cannot be saved: its argument {name} is a {type(value).__name__}.")
    # Names may be given to the outputs of a model that exists already.
    if "class_names" in config and getattr(model, "class_names", None) is not None:
        config["class_names"] = list(model.class_names)
    return _to_json(config, cls.__name__)


def _to_json(value: Any, where: str) -> Any:
    """Turn NumPy values and tuples into JSON's, and the NaN of unknown positions into null."""
    if isinstance(value, Mapping):
        return {str(key): _to_json(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_to_json(item, where) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"{where} is a {type(value).__name__}, which JSON cannot hold.")


def _check_value(value: Any, name: str, label: str, depth: int = 0) -> None:
    """Refuse numbers, texts and lists that no honest checkpoint holds."""
    if depth > _DEEPEST:
        raise ValueError(f"{label} is not usable: its argument {name} is nested too deeply.")
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, int | float):
        if not abs(value) <= _LARGEST_OF.get(name, _LARGEST_NUMBER):
            shown = f"{value:.3g}" if isinstance(value, float) or abs(value) < 1e300 else "enormous"
            raise ValueError(f"{label} is not usable: its argument {name} is {shown}, beyond every sane size.")
        return
    if len(value) > (_LONGEST_TEXT if isinstance(value, str) else _LONGEST_LIST):
        raise ValueError(
            f"{label} is not usable: its argument {name} has {len(value)} entries, beyond every sane size."
        )
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            _check_value(item, name, label, depth + 1)


def _arguments(cls: type[nn.Module], config: Any, label: str, shapes: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Check what a file says, and turn it into constructor arguments."""
    if not isinstance(config, dict):
        raise ValueError(f"{label} is not usable: its configuration is a {type(config).__name__}, not a table.")
    parameters = inspect.signature(cls).parameters
    unknown = [shown(name, 40) for name in config if name not in parameters]
    if unknown:
        raise ValueError(
            f"{label} was written by another version: {cls.__name__} has no argument {', '.join(unknown[:3])}."
        )
    arguments = {}
    for name, value in config.items():
        _check_value(value, name, label)
        # Every layer has tensors of its own, so there are at most as many; and building them takes time even where
        # no memory is taken.
        is_depth = "layers" in name or "depth" in name
        if name == "n_codebooks":
            is_depth = config.get("codebook_dim") is not None
        elif name == "ratios" and isinstance(value, list):
            is_depth, value = True, len(value)
        if isinstance(value, int) and is_depth and value > len(shapes):
            raise ValueError(f"{label} is not usable: it claims {name}={value} but holds {len(shapes)} tensors.")
        value = config[name]
        if isinstance(parameters[name].default, type):
            value = _activation(value, name, label)
        elif name == "chs_info" and isinstance(value, list):
            value = [_channel(item, label) for item in value]
        arguments[name] = value
    # A codebook is drawn on the CPU, on whatever device the model is built.
    codes = [config.get(name) for name in ("n_codes", "code_dim")]
    n_codes, code_dim = (number if isinstance(number, int) else 1 for number in codes)
    n_values = sum(math.prod(shape) for shape in shapes.values())
    # Of a residual quantiser: several codebooks, of codes as wide as the latents unless they say otherwise.
    if isinstance(config.get("codebook_size"), int):
        widths = [config.get(name) for name in ("codebook_dim", "dim")]
        code_dim = next((number for number in widths if isinstance(number, int)), 1)
        stages = config.get("n_codebooks")
        n_codes = config["codebook_size"] * (stages if isinstance(stages, int) else 1)
    # A tokenizer of amplitudes holds none at all.
    if n_codes * code_dim > max(1, n_values):
        raise ValueError(f"{label} is not usable: it claims {n_codes} x {code_dim} codes but holds {n_values} values.")
    return arguments


def _activation(value: Any, name: str, label: str) -> type[nn.Module]:
    """Look an activation up by its full name, in torch.nn only."""
    cls = getattr(nn, value.removeprefix(_ACTIVATIONS), None) if isinstance(value, str) else None
    if not isinstance(cls, type) or f"{cls.__module__}.{cls.__qualname__}" != value:
        raise ValueError(
            f"{label} is not usable: its argument {name} must be an activation of torch.nn, "
            f"got {shown(str(value), 60)!r}."
        )
    return cls


def _channel(item: Any, label: str) -> dict[str, Any]:
    """Turn one entry of chs_info back: positions are arrays, unknown ones NaN."""
    if not isinstance(item, dict):
        raise ValueError(f"{label} is not usable: chs_info holds a {type(item).__name__}, not a channel.")
    item = dict(item)
    if isinstance(item.get("loc"), list):
        item["loc"] = np.array([np.nan if number is None else number for number in item["loc"]], dtype=float)
    return item


def build_model(
    cls: type[nn.Module],
    config: Any,
    *,
    label: str,
    shapes: Mapping[str, Sequence[int]],
    device: str | torch.device = "cpu",
) -> nn.Module:
    """Build a model from what a file says of it.

    Parameters
    ----------
    cls : type of nn.Module
        One of our classes, from :func:`model_class`.
    config : dict
        Constructor arguments as :func:`model_config` writes them; not trusted.
    label : str
        The file, for error messages.
    shapes : mapping of str to sequence of int
        Shapes of the tensors in the file: no honest argument goes beyond them.
    device : str | torch.device
        ``"meta"`` builds without taking memory, to compare shapes.

    Returns
    -------
    model : nn.Module
        In training mode, with initial weights. The state of torch's random generator is left as it was.

    Raises
    ------
    ValueError
        If the arguments are unknown, of absurd size, or make no model.
    """
    arguments = _arguments(cls, config, label, shapes)
    try:
        with torch.random.fork_rng(devices=[]), torch.device(device):
            return cls(**arguments)
    except _UNBUILDABLE as error:
        reason = shown(" ".join(str(error).split()), 200).rstrip(".")
        raise ValueError(f"{label} describes a {cls.__name__} that cannot be built: {reason}.") from None
