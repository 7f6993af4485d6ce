"""What the three Gram models have in common: names, longest windows, the encoder, the authors' weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Self

import numpy as np
from torch import Tensor, nn

from mne_labram.models.gram.channels import gram_rows, spatial_embedding
from mne_labram.models.gram.transformer import GramTransformer
from mne_labram.models.labram.base import SFREQ, LabramMixin
from mne_labram.models.labram.channels import ChannelBinding, resolve_channels
from mne_labram.models.labram.sizes import Size
from mne_labram.nn.patch_embedding import PatchEmbedding
from mne_labram.signal.contract import SignalContract

__all__ = ["GramMixin"]

# Patches of all channels in a window (Gram, config/*.yaml: 800 samples of 64 channels, 1600 of 32).
_MAX_TOKENS = 256


@lru_cache(maxsize=256)
def _find_places(names: tuple[str, ...], positions: tuple[tuple[float, ...], ...] | None) -> Tensor:
    """Positions of channels. A bound model lives for one batch in training, so that it could not remember them."""
    return resolve_channels(names, spatial="coordinates", positions=positions, model="Gram").positions


class GramMixin(LabramMixin):
    """Channels by name, input checks and the signal contract; used beside Braindecode's mixin."""

    encoder: GramTransformer
    _build_official: Callable[..., Any]
    _VOCABULARY = "gram"
    _rows = staticmethod(gram_rows)

    def _prepare(self, *, max_tokens: int | None, max_patches: int, spatial: str, **arguments: Any) -> ChannelBinding:
        """Check the signal arguments, and how long a window of these channels may be."""
        if max_tokens is not None and max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {max_tokens}.")
        # Set before the length of the window is looked at.
        self._max_tokens = _MAX_TOKENS if max_tokens is None and spatial == "names" else max_tokens
        self._n_times_rows = max_patches
        return super()._prepare(max_patches=max_patches, spatial=spatial, **arguments)

    def _n_patches(self, n_times: int) -> int:
        """Count the patches in a window, or refuse it."""
        self.max_patches = self._longest(len(self.ch_names))
        return super()._n_patches(n_times)

    def _longest(self, n_chans: int) -> int:
        """Longest window in patches: 256 tokens in all, as officially, or as many as there are times."""
        if self._max_tokens is None:
            return self._n_times_rows
        return min(self._n_times_rows, max(1, self._max_tokens // n_chans))

    def bind_channels(self, ch_names: Sequence[str], positions: Any = None) -> Self:
        """Return this model for other channels; see :meth:`LabramMixin.bind_channels`.

        Parameters
        ----------
        ch_names : sequence of str
            Channel names, in the order of the input.
        positions : array-like, shape (n_chans, 3) or (n_chans, 6) | None
            Positions in metres for channels that are not known by name (``spatial="coordinates"`` only).

        Returns
        -------
        model : same type
            Shares every parameter and every layer with this one. Its longest window follows from the number of its
            channels.

        Raises
        ------
        ValueError
            As at construction.
        """
        new = super().bind_channels(ch_names, positions=positions)
        new.max_patches = new._longest(len(new.ch_names))
        return new

    def _places(self) -> Tensor:
        """Both ends of every bound channel, shape (n_chans, 6), in metres; found once for each binding."""
        given = self._positions()
        if given is not None:
            given = tuple(map(tuple, np.asarray(given, dtype=float).tolist()))
        return _find_places(tuple(self.ch_names), given)

    def _positions(self) -> Any:
        """Positions of channels whose names alone do not tell them: as given, or as the recording has them."""
        remembered = self._braindecode_init_kwargs["ch_positions"]
        if remembered is not None or self._chs_info is None or self.spatial == "names":
            return remembered
        # Asked for in every step of training, and a head shape takes 16 ms to be brought onto the template.
        known = self.__dict__.get("_known_positions")
        if known is None or known[0] is not self._chs_info:
            binding = resolve_channels(self.ch_names, self._chs_info, spatial="coordinates", model=type(self).__name__)
            known = self._known_positions = (self._chs_info, binding.positions)
        return known[1]

    def _build_encoder(
        self,
        binding: ChannelBinding,
        size: Size,
        *,
        patch_embed: str,
        activation: type[nn.Module],
        **options: Any,
    ) -> GramTransformer:
        """Build the body with its patch embedding."""
        self.max_patches = self._longest(len(binding.names))
        return GramTransformer(
            PatchEmbedding(
                size.embed_dim,
                self.patch_size,
                kind=patch_embed,
                input_scale=self.input_scale,
                sfreq=SFREQ,
                activation=activation,
            ),
            spatial_embedding(binding, size.embed_dim, activation),
            size=size,
            max_patches=self._n_times_rows,
            activation=activation,
            **options,
        )

    def _encoder_arguments(self) -> dict[str, Any]:
        """Arguments with which a model of another kind gets the same encoder, channels and contract."""
        block, blocks, fusion = self.encoder.blocks[0], self.encoder.blocks, self.encoder.fusion
        remembered = self._braindecode_init_kwargs
        names = (
            *("ch_positions", "spatial", "input_scale", "patch_embed", "patch_size"),
            *("max_patches", "max_tokens", "activation"),
        )
        return {
            **{name: remembered[name] for name in names},
            "ch_names": list(self.ch_names),
            "chs_info": self._chs_info,
            "n_times": self._n_times,
            "sfreq": self._sfreq,
            "embed_dim": self.encoder.embed_dim,
            "num_layers": len(blocks),
            "num_heads": block.attn.num_heads,
            "out_indices": None if fusion is None else list(fusion.out_indices),
            "layer_scale": 0.0 if block.gamma_1 is None else 0.1,
            "contract": dict(self._contract_fields) or None,
        }

    @property
    def embed_dim(self) -> int:
        """Width of a token."""
        return self.encoder.embed_dim

    @property
    def contract(self) -> SignalContract:
        """The signal this model may be fed.

        Returns
        -------
        contract : SignalContract
            As for :class:`LabramMixin`; the longest window follows from the number of channels.

        Notes
        -----
        Of Gram's preparation only the unit and the rate are published, so the band is LaBraM's.
        """
        contract = super().contract
        return contract if "name" in self._contract_fields else replace(contract, name="Gram")

    def _embed_patches(self, patches: Tensor, n_patches: int, kept: Tensor | None = None) -> Tensor:
        """Tokens of patches, shape (batch, n_tokens, patch_size), CLS first, before the final norm."""
        return self.encoder(self.encoder.patch_embed(patches), n_patches, kept=kept)

    @classmethod
    def from_official(
        cls,
        state_dict: Mapping[str, Tensor],
        *,
        ch_names: Sequence[str],
        n_times: int,
        sfreq: float = 200,
        n_outputs: int | None = None,
        num_heads: int | None = None,
        **options: Any,
    ) -> Self:
        """Build the model from weights of the authors' code.

        Parameters
        ----------
        state_dict : mapping of str to Tensor
            Under the authors' names, or the dict of their training script around them (``{"model": ...}``). For the
            tokenizer ``VQKD``; for restoration the pre-trained ``Gram``, whose copy of the tokenizer (``vqgan.*``)
            becomes the one that gives the labels; for classification the pre-trained or a fine-tuned one. Width, depth
            and the number of codes are read off the shapes.
        ch_names : sequence of str
            Channels of the signal.
        n_times : int
            Samples in a window.
        sfreq : float
            Sampling rate in Hz.
        n_outputs : int | None
            Number of classes (classification only). ``None`` keeps the head of the file; where it has none, or one for
            another number, a fresh head is made for ``n_outputs`` and the log says so.
        num_heads : int | None
            Number of attention heads, which the weights do not tell; ``None``: that of the published size of this width
            (10 at 200, 16 at 400 and 800).
        **options : Any
            Further arguments of the class, e.g. ``drop_path_prob``; ``out_indices`` where the depth is not that of a
            published size.

        Returns
        -------
        model : same type
            In training mode, as a fresh one.

        Raises
        ------
        ValueError
            If a tensor is missing, unknown, of a wrong shape or not finite; if the sine and cosine tables in the file
            are others than ours; or, for classification, if there is neither a head nor ``n_outputs``.
        TypeError
            If ``state_dict`` does not map names to tensors.
        """
        return cls._build_official(
            cls,
            state_dict,
            ch_names=list(ch_names),
            n_times=n_times,
            sfreq=sfreq,
            n_outputs=n_outputs,
            num_heads=num_heads,
            **options,
        )
