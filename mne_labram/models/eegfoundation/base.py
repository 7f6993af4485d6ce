"""What EEGFoundation's masked model and classifier have in common beside their body."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from mne_labram.models.eegfoundation.encoder import AmplitudeEncoder, resolve_size
from mne_labram.models.eegfoundation.levels import AmplitudeQuantizer
from mne_labram.models.eegfoundation.tokenizer import CONTRACT
from mne_labram.models.labram.base import POOLINGS, SFREQ, LabramMixin
from mne_labram.models.labram.channels import ChannelBinding
from mne_labram.signal.contract import SignalContract

__all__ = ["INPUTS", "EEGFoundationMixin"]

#: Accepted by ``input=``.
INPUTS = ("samples", "patches")
# Samples of the longest window: positions of the published model (RoFormerConfig: max_position_embeddings), and 16 s.
_LONGEST = {"samples": 2000, "patches": 3200}
_DEFAULT_PATCH = 50
# Arguments that shape the encoder, as both classes have them.
_SHAPING = (
    *("spatial", "ch_positions", "amplitude", "limit", "input", "patch_size", "max_patches", "size", "embed_dim"),
    *("num_layers", "num_heads", "hidden_dim", "fusion_layers", "activation"),
)


class EEGFoundationMixin(LabramMixin):
    """Codes, tokens and embeddings; used beside Braindecode's mixin."""

    encoder: AmplitudeEncoder
    quantizer: AmplitudeQuantizer
    # A token may be one sample.
    _SHORTEST_PATCH = 1

    def _build_body(
        self,
        *,
        input: str,  # noqa: A002
        patch_size: int | None,
        max_patches: int | None,
        amplitude: str,
        limit: float,
        size: str,
        numbers: dict[str, int | None],
        fusion_layers: int,
        activation: type[nn.Module],
        signal: dict[str, Any],
        dropout: dict[str, float],
    ) -> ChannelBinding:
        """Check the arguments that both classes have, find the channels, and build quantiser and encoder."""
        if input not in INPUTS:
            raise ValueError(f"input must be one of {', '.join(map(repr, INPUTS))}, got {input!r}.")
        if input == "samples" and patch_size not in (None, 1):
            raise ValueError(f"With input='samples' a token is one sample, not patch_size={patch_size}.")
        if patch_size is None:
            patch_size = 1 if input == "samples" else _DEFAULT_PATCH
        if input == "patches" and patch_size < 2:
            raise ValueError(f"With input='patches' patch_size must be at least 2, got {patch_size}.")
        if fusion_layers < 0:
            raise ValueError(f"fusion_layers must not be negative, got {fusion_layers}.")
        if max_patches is None:
            max_patches = max(1, _LONGEST[input] // patch_size)
        self.input = input
        binding = self._prepare(patch_size=patch_size, max_patches=max_patches, input_scale=1.0, **signal)
        self.quantizer = AmplitudeQuantizer(amplitude, limit=limit)
        self.encoder = AmplitudeEncoder(
            resolve_size(size, **numbers),
            patch_size=patch_size,
            binding=binding,
            fusion_layers=fusion_layers,
            activation=activation,
            **dropout,
        )
        return binding

    def _encoder_arguments(self) -> dict[str, Any]:
        """Arguments with which a model of another kind gets the same encoder, channels and contract."""
        remembered = self._braindecode_init_kwargs
        return {
            **{name: remembered[name] for name in _SHAPING},
            "ch_names": list(self.ch_names),
            "chs_info": self._chs_info,
            "n_times": self._n_times,
            "sfreq": self._sfreq,
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
            The published preparation, changed by the ``contract`` argument; patch length, longest window and vocabulary
            are always the model's own.
        """
        return replace(
            CONTRACT,
            **{
                **self._contract_fields,
                "sfreq": SFREQ,
                "patch_samples": self.patch_size,
                "max_patches": self.max_patches,
                "vocabulary": self._VOCABULARY if self.spatial == "names" else None,
                "montages": self._accepted_montages(),
            },
        )

    def bind_channels(self, ch_names: Sequence[str], positions: Any = None) -> Self:
        """Return this model for other channels; see :meth:`LabramMixin.bind_channels`."""
        return super().bind_channels(ch_names, positions)

    def _checked(self, x: Tensor) -> Tensor:
        """Check a batch and return it in float32, in which codes are computed whatever the model's format is."""
        if x.ndim != 3:
            raise ValueError(f"Input must have the shape (batch, n_chans, n_times), got {tuple(x.shape)}.")
        if x.shape[1] != len(self.ch_names):
            raise ValueError(
                f"Input has {x.shape[1]} channels, but {type(self).__name__} is bound to {len(self.ch_names)}; "
                "use bind_channels for another montage."
            )
        self._n_patches(x.shape[2])
        # In every batch, on every device: NaN would become an amplitude, and nothing behind it would show.
        self._input_was_checked = False
        self._look_at(x)
        return x.float()

    @torch.no_grad()
    def _codes(self, x: Tensor) -> Tensor:
        """Codes of checked input, shape (batch, n_chans, n_tokens, patch_size)."""
        return self.quantizer.encode(x).unflatten(2, (-1, self.patch_size))

    def embed(self, x: Tensor, pooling: str = "mean") -> Tensor:
        """Compute embeddings.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts.
        pooling : {"mean", "cls", "tokens"}
            The mean over all tokens; the mean over channels of what becomes of a ``[CLS]`` token before each of them,
            as the published extraction has it, although no published training ever saw one; or every token.

        Returns
        -------
        embedding : Tensor, shape (batch, embed_dim) or (batch, n_chans, n_tokens, embed_dim)
            The latter for ``"tokens"``.

        Raises
        ------
        ValueError
            If ``pooling`` is none of the three, or the input is refused as in :meth:`forward`.
        """
        if pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {', '.join(map(repr, POOLINGS))}, got {pooling!r}.")
        codes = self._codes(self._checked(x))
        if pooling == "cls":
            return self.encoder(codes, cls=True)[:, :, 0].mean(dim=1)
        tokens = self.encoder(codes)
        return tokens if pooling == "tokens" else tokens.mean(dim=(1, 2))

    @property
    def classifier_class(self) -> type[nn.Module]:
        """The class that puts a head onto this encoder; fine-tuning asks for it."""
        from mne_labram.models.eegfoundation.classification import EEGFoundationForClassification

        return EEGFoundationForClassification
