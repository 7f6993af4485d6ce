"""What comes in: channel information read from JSON, batches of a data loader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

__all__ = ["batch_artefact", "batch_signal", "with_arrays"]


def with_arrays(chs_info: Any) -> Any:
    """Turn positions that were read from JSON into arrays; Braindecode warns when it has to do so itself.

    Parameters
    ----------
    chs_info : list of dict | None
        ``info["chs"]`` or what ``get_config`` made of it; not changed.

    Returns
    -------
    chs_info : list of dict | None
        The same, with arrays.
    """
    if chs_info is None or not any(isinstance(ch.get("loc"), list) for ch in chs_info):
        return chs_info
    return [{**ch, "loc": np.asarray(ch["loc"])} if isinstance(ch.get("loc"), list) else ch for ch in chs_info]


def batch_signal(batch: Any) -> tuple[Tensor, list[str] | None, Any]:
    """Find the signal in what a data loader gives.

    Parameters
    ----------
    batch : Tensor | sequence | mapping
        The signal; a sequence that starts with it (Braindecode: ``(x, y, indices)``); or a mapping with ``"x"`` and
        perhaps ``"ch_names"`` and ``"positions"``.

    Returns
    -------
    x : Tensor, shape (batch, n_chans, n_times)
        Signal in microvolts.
    ch_names : list of str | None
        Channels of this batch, if it says so.
    positions : array-like, shape (n_chans, 3) or (n_chans, 6) | None
        Their positions in metres, where the names do not tell.

    Raises
    ------
    TypeError
        If there is no tensor in the batch.
    """
    ch_names = positions = None
    if isinstance(batch, Mapping):
        ch_names, positions = batch.get("ch_names"), batch.get("positions")
        batch = batch.get("x")
    elif isinstance(batch, Sequence) and len(batch):
        batch = batch[0]
    if not isinstance(batch, Tensor):
        raise TypeError(f"A batch must be or hold a tensor of signals, got {type(batch).__name__}.")
    return batch, None if ch_names is None else list(ch_names), positions


def batch_artefact(batch: Any, x: Tensor) -> Tensor | None:
    """Find the artefact that a batch has beside its signal, for models that learn to see through it.

    Parameters
    ----------
    batch : Tensor | sequence | mapping
        As for :func:`batch_signal`.
    x : Tensor, shape (batch, n_chans, n_times)
        The signal in it.

    Returns
    -------
    artefact : Tensor, shape (batch, n_chans, n_times) | None
        In microvolts; ``None`` if there is none.

    Raises
    ------
    ValueError
        If its shape is another one.
    """
    artefact = batch.get("artefact") if isinstance(batch, Mapping) else None
    if artefact is not None and artefact.shape != x.shape:
        raise ValueError(f"An artefact must have the shape of the signal, {tuple(x.shape)}, got {artefact.shape}.")
    return artefact
