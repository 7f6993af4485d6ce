"""What the three LaBraM models have in common beside their body: arguments, channels, input checks, contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
from torch import Tensor, nn

from mne_labram.models.inputs import SignalMixin, contract_fields
from mne_labram.models.labram.channels import ChannelBinding, bind_module, resolve_channels
from mne_labram.models.labram.sizes import Size
from mne_labram.models.labram.transformer import LabramTransformer
from mne_labram.nn.modules import share_parameters
from mne_labram.nn.patch_embedding import PatchEmbedding
from mne_labram.signal.channels import vocabulary_rows
from mne_labram.signal.contract import LABRAM_CONTRACT, SignalContract

__all__ = ["POOLINGS", "SFREQ", "LabramMixin"]

#: Accepted by ``embed(pooling=)``.
POOLINGS = ("mean", "cls", "tokens")
# The rate of all official weights, and of ours.
SFREQ = LABRAM_CONTRACT.sfreq


class LabramMixin(SignalMixin):
    """Channels by name, input checks and the signal contract; used beside Braindecode's mixin."""

    encoder: LabramTransformer
    ch_names: list[str]
    # Reads the authors' weights; one function per class (mne_labram.models.labram.official).
    _build_official: Callable[..., Any]
    _SHORTEST_PATCH = 8
    # The model's table, as a contract calls it, and what finds channel names in it.
    _VOCABULARY = "labram"
    _rows: Callable[[Sequence[str]], list[int]] = staticmethod(vocabulary_rows)

    def _prepare(
        self,
        *,
        n_chans: int | None,
        chs_info: Any,
        ch_names: Sequence[str] | None,
        ch_positions: Any,
        spatial: str,
        patch_size: int,
        max_patches: int,
        input_scale: float,
        contract: SignalContract | Mapping[str, Any] | None,
    ) -> ChannelBinding:
        """Check the signal arguments, keep them in a form that JSON knows, and find the channels."""
        if patch_size < self._SHORTEST_PATCH or max_patches < 1:
            raise ValueError(
                f"patch_size must be at least {self._SHORTEST_PATCH} and max_patches at least 1, "
                f"got {patch_size} and {max_patches}."
            )
        model = type(self).__name__
        binding = resolve_channels(
            ch_names, chs_info, spatial=spatial, positions=ch_positions, model=model, rows=self._rows
        )
        if n_chans is not None and n_chans != len(binding.names):
            raise ValueError(f"{model} got {len(binding.names)} channel names for n_chans={n_chans} channels.")
        if self._n_chans is None:
            self._n_chans = len(binding.names)
        self.ch_names = list(binding.names)
        self._montages = binding.montages
        self.patch_size, self.max_patches, self.spatial = patch_size, max_patches, spatial
        self.input_scale = float(input_scale)
        self._check_signal_arguments()
        self._contract_fields = contract_fields(contract)
        recorded = {"ch_names": list(self.ch_names)}
        if ch_positions is not None:
            recorded["ch_positions"] = np.asarray(ch_positions, dtype=float).tolist()
        if contract is not None:
            recorded["contract"] = dict(self._contract_fields)
        self._record(**recorded)
        return binding

    def _check_signal_arguments(self) -> None:
        """Refuse another sampling rate and a window that is not made of whole patches."""
        try:
            sfreq = self.sfreq
        except ValueError:
            sfreq = None
        if sfreq is not None and abs(sfreq - SFREQ) > 1e-3:
            raise ValueError(
                f"{type(self).__name__} works at {SFREQ:g} Hz, not {sfreq:g} Hz; resample the recording first."
            )
        try:
            n_times = self.n_times
        except ValueError:
            return
        self._n_patches(n_times)

    def _n_patches(self, n_times: int) -> int:
        """Count the patches in a window, or refuse it."""
        n_patches, rest = divmod(n_times, self.patch_size)
        if n_patches < 1:
            raise ValueError(
                f"A window must hold at least one patch of {self.patch_size} samples, got {n_times} samples; "
                "take longer windows."
            )
        if rest:
            raise ValueError(
                f"A window must be a whole number of patches of {self.patch_size} samples, got {n_times} samples; "
                f"crop it to {n_patches * self.patch_size}."
            )
        if n_patches > self.max_patches:
            raise ValueError(
                f"A window holds at most {self.max_patches} patches ({self.max_patches * self.patch_size} samples), "
                f"got {n_patches} ({n_times} samples); cut it into shorter windows."
            )
        return n_patches

    def _build_encoder(
        self,
        binding: ChannelBinding,
        size: Size,
        *,
        patch_embed: str,
        layer_scale: float | None,
        activation: type[nn.Module],
        **options: Any,
    ) -> LabramTransformer:
        """Build the body with its patch embedding."""
        return LabramTransformer(
            PatchEmbedding(
                size.embed_dim,
                self.patch_size,
                kind=patch_embed,
                input_scale=self.input_scale,
                sfreq=SFREQ,
                activation=activation,
            ),
            binding.embedding(size.embed_dim, activation),
            size=size,
            max_patches=self.max_patches,
            layer_scale=layer_scale,
            activation=activation,
            **options,
        )

    def _encoder_arguments(self) -> dict[str, Any]:
        """Arguments with which a model of another kind gets the same encoder, channels and contract."""
        block, blocks = self.encoder.blocks[0], self.encoder.blocks
        remembered = self._braindecode_init_kwargs
        names = ("ch_positions", "spatial", "input_scale", "patch_embed", "patch_size", "max_patches", "activation")
        return {
            **{name: remembered[name] for name in names},
            "ch_names": list(self.ch_names),
            "chs_info": self._chs_info,
            "n_times": self._n_times,
            "sfreq": self._sfreq,
            "embed_dim": self.embed_dim,
            "num_layers": len(blocks),
            "num_heads": block.attn.num_heads,
            "qk_norm": block.attn.q_norm is not None,
            "qkv_bias": block.attn.q_bias is not None,
            "layer_scale": 0.0 if block.gamma_1 is None else 0.1,
            "contract": dict(self._contract_fields) or None,
        }

    @property
    def embed_dim(self) -> int:
        """Width of a token."""
        return self.encoder.cls_token.shape[-1]

    @property
    def contract(self) -> SignalContract:
        """The signal this model may be fed.

        Returns
        -------
        contract : SignalContract
            The official preparation, changed by the ``contract`` argument; scale, patch length, longest window and
            vocabulary are always the model's own, and so are the montages (those of its channels), but that a model
            that knows channels by position takes those of the ``contract`` argument.
        """
        return replace(
            LABRAM_CONTRACT,
            **{
                **self._contract_fields,
                "sfreq": SFREQ,
                "scale": self.input_scale,
                "patch_samples": self.patch_size,
                "max_patches": self.max_patches,
                "vocabulary": self._VOCABULARY if self.spatial == "names" else None,
                "montages": self._accepted_montages(),
            },
        )

    def _accepted_montages(self) -> tuple[str, ...]:
        """Say what the bound names are, or what a model that knows positions was trained on."""
        if self.spatial == "coordinates" and "montages" in self._contract_fields:
            return tuple(self._contract_fields["montages"])
        return self._montages

    def bind_channels(self, ch_names: Sequence[str], positions: Any = None) -> Self:
        """Return this model for other channels.

        Parameters
        ----------
        ch_names : sequence of str
            Channel names, in the order of the input.
        positions : array-like, shape (n_chans, 3) or (n_chans, 6) | None
            Positions in metres for channels that are not known by name (``spatial="coordinates"`` only; ignored by a
            model that knows channels by name).

        Returns
        -------
        model : same type
            Shares every parameter and every layer with this one (training one trains both, and ``train()``,
            ``eval()`` and ``to()`` reach both); only the channels are its own. This model is not changed.

        Raises
        ------
        ValueError
            As at construction.
        """
        if self.spatial == "names":
            positions = None
        binding = resolve_channels(
            ch_names, spatial=self.spatial, positions=positions, model=type(self).__name__, rows=self._rows
        )
        new = bind_module(self, binding)
        if new is self:  # a model that does not look at where channels are
            new = share_parameters(self)
        new.ch_names, new._montages = list(binding.names), binding.montages
        new._n_chans, new._chs_info, new._n_chans_for_jit = len(binding.names), None, len(binding.names)
        new._record(
            ch_names=list(binding.names),
            ch_positions=None if positions is None else np.asarray(positions, dtype=float).tolist(),
            n_chans=len(binding.names),
            chs_info=None,
        )
        return new

    def _checked(self, x: Tensor) -> Tensor:
        """Check a batch and return it in the model's number format."""
        if x.ndim != 3:
            raise ValueError(f"Input must have the shape (batch, n_chans, n_times), got {tuple(x.shape)}.")
        if x.shape[1] != len(self.ch_names):
            raise ValueError(
                f"Input has {x.shape[1]} channels, but {type(self).__name__} is bound to {len(self.ch_names)}; "
                "use bind_channels for another montage."
            )
        self._n_patches(x.shape[2])
        self._look_at(x)
        return x.to(self.encoder.norm.weight.dtype)

    def _split_patches(self, x: Tensor) -> Tensor:
        """Cut windows into patches: ``(batch, n_chans, n_times)`` to ``(batch, n_tokens, patch_size)``."""
        return x.reshape(x.shape[0], -1, self.patch_size)

    def _encode(self, x: Tensor) -> Tensor:
        """Tokens of checked input, CLS first, before the final norm."""
        return self.encoder(self.encoder.patch_embed(self._split_patches(x)), x.shape[2] // self.patch_size)

    def embed(self, x: Tensor, pooling: str = "mean") -> Tensor:
        """Compute embeddings.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts.
        pooling : {"mean", "cls", "tokens"}
            The normalised mean over patch tokens, the normalised CLS token, or every normalised patch token.

        Returns
        -------
        embedding : Tensor, shape (batch, embed_dim) or (batch, n_chans, n_patches, embed_dim)
            The latter for ``"tokens"``.

        Raises
        ------
        ValueError
            If ``pooling`` is none of the three, or the input is refused as in :meth:`forward`.
        """
        if pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {', '.join(map(repr, POOLINGS))}, got {pooling!r}.")
        x = self._checked(x)
        tokens = self._encode(x)
        if pooling == "tokens":
            return self.encoder.norm(tokens[:, 1:]).unflatten(1, (x.shape[1], -1))
        return self._pool(tokens, pooling)

    def _pool(self, tokens: Tensor, pooling: str) -> Tensor:
        """Reduce tokens to one vector per window, and normalise it."""
        return self.encoder.norm(tokens[:, 1:].mean(dim=1) if pooling == "mean" else tokens[:, 0])

    @classmethod
    def from_official(
        cls,
        state_dict: Mapping[str, Tensor],
        *,
        ch_names: Sequence[str],
        n_times: int,
        sfreq: float = 200,
        n_outputs: int | None = None,
        num_heads: int = 10,
        **options: Any,
    ) -> Self:
        """Build the model from weights of the authors' code.

        Parameters
        ----------
        state_dict : mapping of str to Tensor
            Under the authors' names. For classification: ``NeuralTransformer`` (fine-tuned), or
            ``NeuralTransformerForMEM`` (pre-trained), with or without ``student.``; for masked modelling the latter;
            for the tokenizer ``VQNSP``. Width, depth and the number of codes are read off the shapes.
        ch_names : sequence of str
            Channels of the signal.
        n_times : int
            Samples in a window.
        sfreq : float
            Sampling rate in Hz.
        n_outputs : int | None
            Number of classes (classification only). ``None`` keeps the head of the file; where it has none
            (pre-trained weights), or one for another number, a fresh head is made for ``n_outputs`` and the log says
            so.
        num_heads : int
            Number of attention heads; used only if the file has no query norm, whose shape tells it.
        **options : Any
            Further arguments of the class, e.g. ``drop_path_prob``.

        Returns
        -------
        model : same type
            In training mode, as a fresh one.

        Raises
        ------
        ValueError
            If a tensor is missing, unknown, of a wrong shape or not finite; or, for classification, if there is
            neither a head nor ``n_outputs``.
        TypeError
            If ``state_dict`` does not map names to tensors.

        Notes
        -----
        What the authors' own code does not use for the model at hand (``projection_head``, ``logit_scale``, copies
        inside the quantiser, the student's second ``lm_head``; for classification all that belongs to pre-training)
        is left out, and the log names it.

        ``student.norm`` of pre-trained weights becomes the classifier's final norm, as in urbansirca/labram-lora; the
        official fine-tuning code drops it and starts a fresh one.
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
