"""The 130 channel names that Gram knows, and their rows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from torch import nn

from mne_labram.models.labram.channels import ChannelBinding
from mne_labram.nn.sinusoidal import FixedNameEmbedding
from mne_labram.nn.spatial import CoordinateEmbedding, NameEmbedding
from mne_labram.signal.vocabulary import CHANNEL_ALIASES, GRAM_CHANNELS

__all__ = ["GRAM_CHANNELS", "SINUSOID_BASE", "gram_rows", "spatial_embedding"]

# Row 0 of the embedding belongs to the CLS token.
_ROWS = {name: row for row, name in enumerate(GRAM_CHANNELS, start=1)}
#: Of the sines and cosines of channels and of times (Gram, model/pos_embed.py; 10000 is usual, and not meant here).
SINUSOID_BASE = 1000.0


def gram_rows(names: Sequence[str]) -> list[int]:
    """Rows of Gram's table for canonical channel names.

    Parameters
    ----------
    names : sequence of str
        Names as :func:`mne_labram.signal.interpret.interpret_labels` gives them.

    Returns
    -------
    rows : list of int
        1 to 130. The exact name first; the old or new name of the same electrode (T3/T7, T4/T8, T5/P7, T6/P8) only
        where the exact one has no row, as in ``F7-T3``.

    Raises
    ------
    ValueError
        If names have no row, or two share one.
    """
    rows: list[int | None] = []
    for name in names:
        ends = [[end, CHANNEL_ALIASES[end]] if end in CHANNEL_ALIASES else [end] for end in name.split("-")]
        found = ("-".join(combination) for combination in product(*ends))
        rows.append(next((_ROWS[each] for each in found if each in _ROWS), None))
    unknown = [name for name, row in zip(names, rows, strict=True) if row is None]
    if unknown:
        raise ValueError(
            f"{', '.join(map(repr, unknown))}: not among the 130 names that Gram knows; rename or leave out, or take a "
            "model with spatial='coordinates'."
        )
    if len(set(rows)) < len(rows):
        shared = [name for name, row in zip(names, rows, strict=True) if rows.count(row) > 1]
        raise ValueError(f"{', '.join(map(repr, shared))}: the same channel more than once; keep one of each.")
    return [row for row in rows if row is not None]


def spatial_embedding(
    binding: ChannelBinding, embed_dim: int, activation: type[nn.Module]
) -> NameEmbedding | CoordinateEmbedding:
    """Build a spatial embedding bound to channels.

    Parameters
    ----------
    binding : ChannelBinding
        The channels; rows are those of :func:`gram_rows`.
    embed_dim : int
        Width of a token.
    activation : type of nn.Module
        Class of the activation.

    Returns
    -------
    embedding : FixedNameEmbedding | CoordinateEmbedding
        The official table, which has no parameters; or a function of positions with fresh ones.
    """
    if binding.rows is not None:
        return FixedNameEmbedding(embed_dim, binding.rows, len(GRAM_CHANNELS), base=SINUSOID_BASE)
    return CoordinateEmbedding(embed_dim, binding.positions, activation=activation)
