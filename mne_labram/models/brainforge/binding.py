"""Heads and channels that a model is bound to, whose weights know of neither."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from mne_labram.models.brainforge.geometry import SourceGeometry
from mne_labram.models.brainforge.spherical_head import spherical_head
from mne_labram.models.labram.channels import resolve_channels

__all__ = ["HeadBindingMixin", "referential_electrodes"]


class HeadBindingMixin:
    """Bind a model to a head, or to channels; a plain class, see :class:`mne_labram.models.inputs.SignalMixin`."""

    geometry: SourceGeometry
    ch_names: list[str]
    image_size: int
    _own_head: bool

    @property
    def n_sources(self) -> int:
        """Number of sources of the head that it is bound to."""
        return self.geometry.n_sources

    def bind_head(
        self,
        leadfield: np.ndarray,
        positions: np.ndarray,
        normals: np.ndarray,
        neighbours: Any,
        electrodes: np.ndarray,
        ch_names: Sequence[str],
    ) -> Self:
        """Return the model for another head; it shares the weights.

        Parameters
        ----------
        leadfield : ndarray, shape (n_chans, n_sources)
            µV per nAm, in any reference.
        positions, normals : ndarray, shape (n_sources, 3)
            Metres in the head frame; directions of length 1.
        neighbours : scipy.sparse matrix of shape (n_sources, n_sources)
            Which sources lie next to each other.
        electrodes : ndarray, shape (n_chans, 3)
            Metres, head frame.
        ch_names : sequence of str
            Their names.

        Returns
        -------
        model : BrainForge
            Another object; this one is not changed.

        Raises
        ------
        ValueError
            If the shapes do not fit each other.
        """
        leadfield = np.asarray(leadfield, float)
        n_chans, n_sources = leadfield.shape
        if len(ch_names) != n_chans or np.shape(electrodes) != (n_chans, 3):
            raise ValueError(
                f"The leadfield has {n_chans} channels; it needs as many names and positions, got {len(ch_names)} and "
                f"{np.shape(electrodes)}."
            )
        if not np.shape(positions) == np.shape(normals) == (n_sources, 3) or neighbours.shape != (n_sources,) * 2:
            raise ValueError(
                f"The leadfield has {n_sources} sources; positions and normals must be of the shape ({n_sources}, 3) "
                f"and neighbours ({n_sources}, {n_sources})."
            )
        geometry = SourceGeometry(leadfield, positions, normals, neighbours, electrodes, self.image_size)
        return self._with_head(geometry, ch_names, own=True)

    def bind_channels(self, ch_names: Sequence[str], positions: Any = None) -> Self:
        """Return the model for other channels; it shares the weights.

        Parameters
        ----------
        ch_names : sequence of str
            Channels, in the order of the input. Of a head that :meth:`bind_head` gave, some of its own; otherwise any
            of the 10-05 system.
        positions : array-like, shape (n_chans, 3) or (n_chans, 6) | None
            Where they are, in metres, if the names do not tell.

        Returns
        -------
        model : BrainForge
            Another object; this one is not changed.

        Raises
        ------
        ValueError
            If the head has no such channel, or the channel no position.
        """
        ch_names = list(ch_names)
        if self._own_head:
            missing = [name for name in ch_names if name not in self.ch_names]
            if missing:
                raise ValueError(
                    f"The head that the model is bound to has no channel {missing[0]!r}; bind it to a forward that has."
                )
            picked = self.geometry.picked([self.ch_names.index(name) for name in ch_names])
            return self._with_head(picked, ch_names, own=True)
        names, electrodes = referential_electrodes(ch_names, positions=positions)
        head = spherical_head(electrodes, self.n_sources)
        return self._with_head(SourceGeometry(*head, self.image_size), names, own=False)

    def _with_head(self, geometry: SourceGeometry, ch_names: Sequence[str], *, own: bool) -> Self:
        new = copy.copy(self)
        new._modules = dict(self._modules)
        new.geometry = geometry.to(self.final_layer.weight)
        new.ch_names, new._n_chans, new._own_head, new._chs_info = list(ch_names), len(ch_names), own, None
        # What Braindecode remembers is of this object alone.
        for name in ("_braindecode_init_kwargs", "_hub_mixin_config"):
            if getattr(self, name, None) is not None:
                setattr(new, name, dict(getattr(self, name)))
        new._record(ch_names=list(ch_names), n_chans=None, chs_info=None)
        return new


def referential_electrodes(
    ch_names: Sequence[str] | None, chs_info: Any = None, positions: Any = None
) -> tuple[list[str], np.ndarray]:
    """Find names and positions of electrodes.

    Parameters
    ----------
    ch_names : sequence of str | None
        Labels of channels.
    chs_info : list of dict | None
        ``info["chs"]``: the names if there are none, and positions that no template knows.
    positions : array-like, shape (n_chans, 3) or (n_chans, 6) | None
        In metres, if the names do not tell.

    Returns
    -------
    names : list of str
        Canonical ones.
    electrodes : ndarray, shape (n_chans, 3)
        Metres, head frame.

    Raises
    ------
    ValueError
        If a channel is bipolar or has no position.
    """
    binding = resolve_channels(ch_names, chs_info, spatial="coordinates", positions=positions, model="BrainForge")
    places = binding.positions.cpu().numpy()
    if not np.array_equal(places[:, :3], places[:, 3:]):
        raise ValueError("BrainForge takes referential channels; bipolar ones have no place of their own.")
    return list(binding.names), places[:, :3]
