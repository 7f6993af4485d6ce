"""Which channels a model is bound to, found once when it is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mne_labram.nn.modules import share_parameters
from mne_labram.nn.spatial import CoordinateEmbedding, NameEmbedding
from mne_labram.signal.alignment import align_to_template
from mne_labram.signal.channels import vocabulary_rows
from mne_labram.signal.interpret import interpret_labels
from mne_labram.signal.positions import electrode_positions, positions_from_chs
from mne_labram.signal.vocabulary import LABRAM_N_ROWS

__all__ = ["SPATIAL_EMBEDDINGS", "ChannelBinding", "bind_module", "resolve_channels"]

#: Accepted by ``spatial=``.
SPATIAL_EMBEDDINGS = ("names", "coordinates")


@dataclass(frozen=True)
class ChannelBinding:
    """Channels as a model sees them.

    Parameters
    ----------
    names : list of str
        Canonical names, in the order of the input.
    montages : tuple of str
        ``"referential"``, ``"bipolar"`` or both, as the names are.
    rows : list of int | None
        Rows of the official table (``spatial="names"``).
    positions : Tensor, shape (n_chans, 6) | None
        Anode and cathode in metres (``spatial="coordinates"``).
    """

    names: list[str]
    montages: tuple[str, ...]
    rows: list[int] | None = None
    positions: Tensor | None = None

    def embedding(self, embed_dim: int, activation: type[nn.Module]) -> NameEmbedding | CoordinateEmbedding:
        """Build a spatial embedding bound to these channels.

        Parameters
        ----------
        embed_dim : int
            Width of a token.
        activation : type of nn.Module
            Class of the activation.

        Returns
        -------
        embedding : NameEmbedding | CoordinateEmbedding
            With fresh parameters.
        """
        if self.rows is not None:
            return NameEmbedding(embed_dim, self.rows, LABRAM_N_ROWS)
        return CoordinateEmbedding(embed_dim, self.positions, activation=activation)


def bind_module(module: nn.Module, binding: ChannelBinding) -> nn.Module:
    """Copy a module, bound to other channels, without copying its parameters.

    Parameters
    ----------
    module : torch.nn.Module
        Anything that holds spatial embeddings.
    binding : ChannelBinding
        The other channels.

    Returns
    -------
    module : torch.nn.Module
        What lies on the way to a spatial embedding is new; all else, and every parameter, is shared.
    """
    if isinstance(module, NameEmbedding):
        return module.rebound(binding.rows)
    if isinstance(module, CoordinateEmbedding):
        return module.rebound(binding.positions)
    if not any(isinstance(child, NameEmbedding | CoordinateEmbedding) for child in module.modules()):
        return module
    new = share_parameters(module)
    for name, child in module._modules.items():
        if child is not None:
            new._modules[name] = bind_module(child, binding)
    return new


def resolve_channels(
    ch_names: Sequence[str] | None,
    chs_info: Sequence[Mapping[str, Any]] | None = None,
    *,
    spatial: str = "names",
    positions: Any = None,
    model: str = "The model",
    rows: Callable[[Sequence[str]], list[int]] = vocabulary_rows,
) -> ChannelBinding:
    """Find the embedding rows or the positions of channels.

    Parameters
    ----------
    ch_names : sequence of str | None
        Labels, in the order of the input; they are parsed (``"EEG Fp1-REF"`` is FP1).
    chs_info : sequence of mapping | None
        ``info["chs"]``: the names if ``ch_names`` is None, and the positions of electrodes that no template knows.
    spatial : {"names", "coordinates"}
        What is needed: rows or positions.
    positions : array-like, shape (n_chans, 3) or (n_chans, 6) | None
        Positions in metres on the head of MNE's 10-05 template, instead of those that the names have. Three columns
        mean a referential channel.
    model : str
        Name for error messages.
    rows : callable
        Finds the rows of names in the table of the model at hand.

    Returns
    -------
    binding : ChannelBinding
        The channels.

    Raises
    ------
    ValueError
        If no names are given, two channels have the same one, a name has no row (or no position), or the number of
        channels is not the same everywhere.
    TypeError
        If ``ch_names`` is a single string.
    """
    if spatial not in SPATIAL_EMBEDDINGS:
        raise ValueError(f"spatial must be one of {', '.join(map(repr, SPATIAL_EMBEDDINGS))}, got {spatial!r}.")
    if isinstance(ch_names, str):
        raise TypeError("ch_names must be a sequence of channel names, got one string.")
    if ch_names is None and chs_info is None:
        raise ValueError(
            f"{model} must know its channels: pass ch_names=[...] or chs_info=info['chs'] "
            "(module__ch_names=[...] for an EEGClassifier that is given arrays or windows)."
        )
    labels = [str(ch["ch_name"]) for ch in chs_info] if ch_names is None else [str(name) for name in ch_names]
    if not labels:
        raise ValueError(f"{model} needs at least one channel.")
    for what, other in (("chs_info", chs_info), ("positions", positions)):
        if other is not None and len(other) != len(labels):
            raise ValueError(f"There are {len(labels)} channel names, but {what} is of {len(other)} channels.")
    _, parsed = interpret_labels(labels)
    names = [channel.name for channel in parsed]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} occurs more than once among the channels; keep one of each.")
    bipolar = {channel.cathode is not None for channel in parsed}
    montages = tuple(kind for kind, flag in (("referential", False), ("bipolar", True)) if flag in bipolar)
    if spatial == "names":
        return ChannelBinding(names, montages, rows=rows(names))
    if positions is not None:
        return ChannelBinding(names, montages, positions=_given_positions(positions))
    return ChannelBinding(names, montages, positions=_known_positions(names, chs_info))


def _given_positions(positions: Any) -> Tensor:
    """Take positions as they were given; three columns are both ends at once."""
    array = np.asarray(positions, dtype=float)
    if array.ndim == 2 and array.shape[1] == 3:
        array = np.hstack([array, array])
    if array.ndim != 2 or array.shape[1] != 6 or not np.isfinite(array).all():
        raise ValueError(f"positions must be finite, of shape (n_chans, 3) or (n_chans, 6), got {array.shape}.")
    return torch.from_numpy(array)


def _known_positions(names: list[str], chs_info: Sequence[Mapping[str, Any]] | None) -> Tensor:
    """Take the template's positions; for names that it does not know, those that the recording carries."""
    if chs_info is None:
        return torch.from_numpy(electrode_positions(names))
    measured = align_to_template(positions_from_chs(chs_info))
    out = np.empty((len(names), 6))
    for i, name in enumerate(names):
        try:
            out[i] = electrode_positions([name])[0]
        except ValueError:
            if not np.isfinite(measured[i]).all():
                raise
            out[i] = np.tile(measured[i], 2)
    return torch.from_numpy(out)
