"""A model of another kind around the encoder of one that is trained."""

from __future__ import annotations

from typing import Any, TypeVar

from torch import nn

from mne_labram.nn.state import state_differences

__all__ = ["around_encoder"]

_Model = TypeVar("_Model", bound=nn.Module)

# What says which signal comes in, how long it may be, or how weights start that are replaced; all else shapes what the
# encoder computes.
_FREE = frozenset(
    {"ch_names", "chs_info", "ch_positions", "n_times", "sfreq", "contract", "max_patches", "max_tokens", "layer_scale"}
)


def around_encoder(cls: type[_Model], model: nn.Module, **options: Any) -> _Model:
    """Build a model around a copy of another one's encoder.

    Parameters
    ----------
    cls : type of nn.Module
        Class of the new model.
    model : torch.nn.Module
        One of ours, with an encoder of the same kind; not changed.
    **options : Any
        Arguments of the class, in addition to those that the encoder needs.

    Returns
    -------
    model : nn.Module
        In training mode, on the device and in the number format of the other.

    Raises
    ------
    ValueError
        If an option makes another encoder of it.
    """
    own = model._encoder_arguments()
    for name, value in own.items():
        if name in options and name not in _FREE and value is not None and not _same(options[name], value):
            raise ValueError(
                f"{name}={options[name]!r} makes another encoder than that of the {type(model).__name__}, which has "
                f"{value!r}; leave it out."
            )
    new = cls(**{**own, **options})
    state = model.encoder.state_dict()
    differences = state_differences(
        {name: value.shape for name, value in new.encoder.state_dict().items()},
        {name: value.shape for name, value in state.items()},
    )
    if differences or _heads(new) != _heads(model):
        why = "; ".join(differences) or "another number of attention heads"
        raise ValueError(f"These options make an encoder of another size; leave out those that shape it ({why}).")
    new.to(next(model.encoder.parameters()))
    new.encoder.load_state_dict(state)
    return new


def _same(given: Any, own: Any) -> bool:
    """Compare values, of which lists may have become tuples."""
    return (list(given) if isinstance(given, tuple) else given) == (list(own) if isinstance(own, tuple) else own)


def _heads(model: nn.Module) -> list[int]:
    """Attention heads of every block, which no shape tells."""
    return [block.attn.num_heads for block in model.encoder.blocks]
