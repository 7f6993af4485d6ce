"""Where a channel is: a learned row per name, or a function of its electrodes' positions.

Both kinds are *bound* to the channels of a recording: they hold, in buffers that are not part of a checkpoint, the rows
or the position features of those channels. :meth:`rebound` gives a copy bound to other channels that shares every
parameter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mne_labram.nn.modules import share_parameters

__all__ = ["CoordinateEmbedding", "NameEmbedding", "position_features"]

#: Half a head: coordinates in metres are divided by it, so that scalp positions lie within about one unit.
HEAD_RADIUS = 0.1
# Wavelengths of 4, 2, 1 and 0.5 head radii: the shortest is about twice the spacing of the 10-10 system.
_N_OCTAVES = 4


class NameEmbedding(nn.Module):
    """A learned row per channel name, as in the official model.

    Parameters
    ----------
    embed_dim : int
        Width of a token.
    rows : sequence of int
        Row of each channel, 1 to ``n_rows``; row 0 belongs to the CLS token.
    n_rows : int
        Number of names that have a row.

    Notes
    -----
    ``table`` is the official ``pos_embed``, shape (1, 1 + 128, embed_dim) (LaBraM, modeling_finetune.py).
    """

    def __init__(self, embed_dim: int, rows: Sequence[int], n_rows: int = 128) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(1, 1 + n_rows, embed_dim))
        self.register_buffer("rows", self._checked(rows), persistent=False)

    def _checked(self, rows: Sequence[int]) -> Tensor:
        if not len(rows) or min(rows) < 1 or max(rows) >= self.table.shape[1]:
            raise ValueError(f"Rows must lie between 1 and {self.table.shape[1] - 1}, got {list(rows)}.")
        return torch.tensor(list(rows), dtype=torch.long, device=self.table.device)

    def rebound(self, rows: Sequence[int]) -> NameEmbedding:
        """Return a copy for other channels that shares the table.

        Parameters
        ----------
        rows : sequence of int
            Row of each channel.

        Returns
        -------
        embedding : NameEmbedding
            The copy.
        """
        new = share_parameters(self)
        new.rows = self._checked(rows)
        return new

    def forward(self) -> tuple[Tensor, Tensor]:
        """Look the bound channels up.

        Returns
        -------
        cls : Tensor, shape (embed_dim,)
            Row 0.
        channels : Tensor, shape (n_chans, embed_dim)
            Rows of the bound channels.
        """
        return self.table[0, 0], self.table[0].index_select(0, self.rows)


def position_features(positions: Tensor) -> Tensor:
    """Describe a derivation by where its electrodes are.

    Parameters
    ----------
    positions : Tensor, shape (n_chans, 6)
        Anode (columns 0-2) and cathode (3-5) in metres, head frame. For a referential channel the two are equal.

    Returns
    -------
    features : Tensor, shape (n_chans, 55)
        ``[(f(a) + f(c)) / 2, f(a) - f(c), bipolar]`` with ``f`` the coordinates and their sines and cosines at four
        octaves (Fourier features, Tancik et al. 2020, arXiv:2006.10739).

    Notes
    -----
    The two orders of a pair are the same place seen with the opposite sign: the first part says where and does not
    change when the electrodes are exchanged, the second says which way and changes its sign. For a referential channel
    the second part and the flag are zero, so it never looks like a bipolar one, however short.
    """
    scaled = positions.double() / HEAD_RADIUS
    octaves = 0.5 * math.pi * 2.0 ** torch.arange(_N_OCTAVES, dtype=torch.float64, device=positions.device)

    def encode(place: Tensor) -> Tensor:
        angles = (place.unsqueeze(-1) * octaves).flatten(1)
        return torch.cat((place, angles.sin(), angles.cos()), dim=1)

    anode, cathode = encode(scaled[:, :3]), encode(scaled[:, 3:])
    bipolar = (positions[:, :3] != positions[:, 3:]).any(dim=1, keepdim=True).double()
    return torch.cat(((anode + cathode) / 2, anode - cathode, bipolar), dim=1).float()


class CoordinateEmbedding(nn.Module):
    """A function of electrode positions: any electrode and any bipolar pair has an embedding.

    Parameters
    ----------
    embed_dim : int
        Width of a token.
    positions : Tensor, shape (n_chans, 6)
        Anode and cathode of each channel in metres (:func:`mne_labram.signal.positions.electrode_positions`).
    activation : type of nn.Module
        Class of the activation.

    Notes
    -----
    Ours: the official model knows channels by name only. The CLS token is at no place and has none.
    """

    def __init__(self, embed_dim: int, positions: Tensor, *, activation: type[nn.Module] = nn.GELU) -> None:
        super().__init__()
        features = self._checked(positions)
        self.fc1 = nn.Linear(features.shape[1], embed_dim)
        self.act = activation()
        self.fc2 = nn.Linear(embed_dim, embed_dim)
        self.register_buffer("features", features.to(self.fc1.weight.device), persistent=False)

    @staticmethod
    def _checked(positions: Tensor) -> Tensor:
        # On the CPU whatever the default device is: models are also built on "meta", where no value can be looked at.
        positions = torch.as_tensor(positions, dtype=torch.float64, device="cpu")
        if positions.ndim != 2 or positions.shape[1] != 6 or not len(positions):
            raise ValueError(f"Positions must have the shape (n_chans, 6), got {tuple(positions.shape)}.")
        if not bool(torch.isfinite(positions).all()):
            raise ValueError("Positions must be finite.")
        return position_features(positions)

    def rebound(self, positions: Tensor) -> CoordinateEmbedding:
        """Return a copy for other channels that shares all parameters.

        Parameters
        ----------
        positions : Tensor, shape (n_chans, 6)
            Anode and cathode of each channel in metres.

        Returns
        -------
        embedding : CoordinateEmbedding
            The copy.
        """
        new = share_parameters(self)
        new.features = self._checked(positions).to(self.features)
        return new

    def forward(self) -> tuple[None, Tensor]:
        """Compute the embedding of the bound channels.

        Returns
        -------
        cls : None
            The CLS token has no place.
        channels : Tensor, shape (n_chans, embed_dim)
            One row per bound channel.
        """
        return None, self.fc2(self.act(self.fc1(self.features)))
