"""LaBraM's masked modelling: predict the codes of hidden patches."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from braindecode.models.base import EEGModuleMixin
from torch import Tensor, nn

from mne_labram.models.labram.base import SFREQ, LabramMixin
from mne_labram.models.labram.inputs import batch_signal, with_arrays
from mne_labram.models.labram.official import official_masked
from mne_labram.models.labram.sizes import resolve_size
from mne_labram.models.labram.tokenizer import LabramTokenizer
from mne_labram.nn.initialization import INIT_STD, initialize_weights
from mne_labram.nn.masking import MASKINGS, draw_mask
from mne_labram.nn.spectra import SpectralTarget

__all__ = ["CLS_POSITIONS", "LabramForMaskedModeling"]

#: Accepted by ``cls_position=``.
CLS_POSITIONS = ("first_channel", "cls_row")


class LabramForMaskedModeling(LabramMixin, EEGModuleMixin, nn.Module):
    r"""LaBraM for masked modelling, from Jiang et al. (2024) [labram]_.

    :bdg-danger:`Foundation Model` :bdg-info:`Attention/Transformer`

    Half of the patches are hidden, and the model predicts the codes that a frozen :class:`LabramTokenizer` gives them;
    then the other half (*symmetric masking*). With the default options and official weights it is the official
    ``NeuralTransformerForMEM`` (LaBraM, modeling_pretrain.py) to float precision.

    Parameters
    ----------
    n_outputs : None
        Not used; the outputs are ``n_codes`` per patch.
    n_chans : int | None
        Number of channels; only checked against the names.
    chs_info : list of dict | None
        ``info["chs"]``: the channels, if ``ch_names`` is None.
    n_times : int | None
        Samples in a window. The model takes any number of whole patches up to ``max_patches``, whatever this is.
    input_window_seconds : float | None
        Length of a window in seconds.
    sfreq : float | None
        Sampling rate in Hz; must be 200 if given.
    ch_names : list of str | None
        Channels, in the order of the input, parsed as labels of a recording are.
    size : {"base", "large", "huge", "small"}
        Configuration; see :class:`LabramForClassification`.
    embed_dim, num_layers, num_heads : int | None
        Replace a number of the configuration.
    n_codes : int | None
        Size of the tokenizer's codebook; ``None``: that of ``tokenizer``, or the official 8192.
    tokenizer : LabramTokenizer | None
        Gives the labels in :meth:`training_step`. It is put into evaluation mode, is no part of the state dict or of
        the configuration, and does not follow ``to()``; it is moved when it is needed.
    mask_ratio : float
        Share of hidden patches.
    symmetric : bool
        Train on the complement of each mask too.
    masking : {"random", "mixed"}
        Hide single patches, as officially, or in some windows whole channels and in others whole seconds
        (:func:`mne_labram.nn.masking.mixed_mask`; ours).
    spectral_weight : float
        Weight of a second loss: the log amplitude of every patch, hidden or not, from 1 to 45 Hz, is read off its token
        by a linear map (ours; on visible patches after the spectral loss of Gram, whose encoder sees only those). The
        official loss is on hidden patches only, and what the model then makes of the others is of no concern to it.
        0 has no such map.
    cls_position : {"first_channel", "cls_row"}
        Position embedding of the CLS token. ``"first_channel"`` repeats a slip of the official pre-training code,
        which gives it that of the first channel; row 0 of the table is then never trained, although the official
        fine-tuning code adds it. ``"cls_row"`` repairs it and is what new pre-training should use.
    spatial : {"names", "coordinates"}
        See :class:`LabramForClassification`.
    ch_positions : list of list of float | None
        See :class:`LabramForClassification`.
    input_scale : float
        Microvolts per unit inside; officially 100.
    patch_embed : {"conv", "conv+spectrum", "conv+periodogram"}
        See :class:`LabramForClassification`.
    patch_size : int
        Samples in a patch; official weights need 200.
    max_patches : int
        Longest window in patches.
    qk_norm, qkv_bias : bool
        Normalise queries and keys; learn a bias of queries and values.
    layer_scale : float | None
        Initial residual gain; ``None`` takes the configuration's, 0 has none.
    drop_prob, attn_drop_prob, drop_path_prob : float
        Dropout of tokens and branch outputs, of attention weights, and of whole branches (in the last block).
    activation : type of nn.Module
        Class of the activation in convolutions and feed-forward layers.
    contract : SignalContract | dict | None
        How the signal was prepared, where it differs from the official preparation.

    Raises
    ------
    ValueError
        As :class:`LabramForClassification`, or if ``n_codes`` is not that of ``tokenizer``.

    References
    ----------
    .. [labram] Jiang, W., Zhao, L., & Lu, B. L. (2024). Large Brain Model for Learning Generic Representations with
       Tremendous EEG Data in BCI. The Twelfth International Conference on Learning Representations.
       https://github.com/935963004/LaBraM

    Examples
    --------
    >>> import torch
    >>> from mne_labram.models.labram import LabramForMaskedModeling, LabramTokenizer
    >>> names = ["Fp1", "Fp2", "Cz"]
    >>> tokenizer = LabramTokenizer(ch_names=names, size="small")
    >>> model = LabramForMaskedModeling(ch_names=names, size="small", tokenizer=tokenizer)
    >>> losses = model.training_step(torch.randn(2, 3, 800))
    >>> sorted(losses)
    ['accuracy', 'loss', 'masked_loss', 'symmetric_loss']
    """

    _build_official = staticmethod(official_masked)

    def __init__(
        self,
        n_outputs: int | None = None,
        n_chans: int | None = None,
        chs_info: list[dict] | None = None,
        n_times: int | None = None,
        input_window_seconds: float | None = None,
        sfreq: float | None = None,
        ch_names: list[str] | None = None,
        size: str = "base",
        embed_dim: int | None = None,
        num_layers: int | None = None,
        num_heads: int | None = None,
        n_codes: int | None = None,
        tokenizer: Any = None,
        mask_ratio: float = 0.5,
        symmetric: bool = True,
        masking: str = "random",
        spectral_weight: float = 0.0,
        cls_position: str = "first_channel",
        spatial: str = "names",
        ch_positions: list[list[float]] | None = None,
        input_scale: float = 100.0,
        patch_embed: str = "conv",
        patch_size: int = 200,
        max_patches: int = 16,
        qk_norm: bool = True,
        qkv_bias: bool = False,
        layer_scale: float | None = None,
        drop_prob: float = 0.0,
        attn_drop_prob: float = 0.0,
        drop_path_prob: float = 0.0,
        activation: type[nn.Module] = nn.GELU,
        contract: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            n_outputs=n_outputs,
            n_chans=n_chans,
            chs_info=with_arrays(chs_info),
            n_times=n_times,
            input_window_seconds=input_window_seconds,
            sfreq=sfreq,
        )
        binding = self._prepare(
            n_chans=n_chans,
            chs_info=chs_info,
            ch_names=ch_names,
            ch_positions=ch_positions,
            spatial=spatial,
            patch_size=patch_size,
            max_patches=max_patches,
            input_scale=input_scale,
            contract=contract,
        )
        if cls_position not in CLS_POSITIONS:
            raise ValueError(
                f"cls_position must be one of {', '.join(map(repr, CLS_POSITIONS))}, got {cls_position!r}."
            )
        if not 0.0 < mask_ratio < 1.0:
            raise ValueError(f"mask_ratio must lie between 0 and 1, got {mask_ratio}.")
        if masking not in MASKINGS:
            raise ValueError(f"masking must be one of {', '.join(map(repr, MASKINGS))}, got {masking!r}.")
        if not spectral_weight >= 0.0:
            raise ValueError(f"spectral_weight must not be negative, got {spectral_weight}.")
        self.mask_ratio, self.symmetric, self.cls_position = mask_ratio, symmetric, cls_position
        self.masking, self.spectral_weight = masking, float(spectral_weight)
        if n_codes is None:
            n_codes = 8192 if tokenizer is None else tokenizer.n_codes
        numbers = resolve_size(size, embed_dim=embed_dim, num_layers=num_layers, num_heads=num_heads)
        self.encoder = self._build_encoder(
            binding,
            numbers,
            patch_embed=patch_embed,
            layer_scale=numbers.layer_scale if layer_scale is None else layer_scale,
            qkv_bias=qkv_bias,
            qk_norm=qk_norm,
            drop_prob=drop_prob,
            attn_drop_prob=attn_drop_prob,
            drop_path_prob=drop_path_prob,
            activation=activation,
            pretraining=True,
        )
        self.mask_token = nn.Parameter(torch.zeros(1, 1, numbers.embed_dim))
        nn.init.trunc_normal_(self.mask_token, std=INIT_STD, a=-INIT_STD, b=INIT_STD)
        self.final_layer = nn.Linear(numbers.embed_dim, n_codes)
        initialize_weights(self.final_layer, pretraining=True)
        self.spectral_target = self.spectral_head = None
        if spectral_weight > 0.0:
            self.spectral_target = SpectralTarget("log_amplitude", patch_size, sfreq=SFREQ)
            self.spectral_head = nn.Linear(numbers.embed_dim, self.spectral_target.parts["log_amplitude"])
            initialize_weights(self.spectral_head, pretraining=True)
        self._record(n_codes=n_codes, tokenizer=None)
        self._tokenizer: list[LabramTokenizer] = []
        if tokenizer is not None:
            self.set_tokenizer(tokenizer)

    @property
    def n_codes(self) -> int:
        """Number of codes of the tokenizer whose labels are predicted."""
        return self.final_layer.out_features

    def set_tokenizer(self, tokenizer: LabramTokenizer) -> None:
        """Choose the tokenizer that gives the labels.

        Parameters
        ----------
        tokenizer : LabramTokenizer
            Is put into evaluation mode.

        Raises
        ------
        ValueError
            If its number of codes or the length of its patches is not the model's.
        """
        for name in ("n_codes", "patch_size"):
            if getattr(tokenizer, name) != getattr(self, name):
                raise ValueError(
                    f"The tokenizer has {name}={getattr(tokenizer, name)}, the model {name}={getattr(self, name)}."
                )
        tokenizer.eval()
        # In a list, so that torch does not make it a part of this model.
        self._tokenizer = [tokenizer]

    def _hide(self, patches: Tensor, mask: Tensor) -> Tensor:
        """Replace hidden embedded patches by the mask token."""
        return torch.where(mask.unsqueeze(-1), self.mask_token.to(patches.dtype), patches)

    def _encode(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Tokens of checked input, CLS first, before the final norm."""
        patches = self.encoder.patch_embed(self._split_patches(x))
        if mask is not None:
            patches = self._hide(patches, mask)
        return self.encoder(patches, x.shape[2] // self.patch_size, cls_position=self.cls_position)

    def _checked_mask(self, mask: Tensor, x: Tensor) -> Tensor:
        """Bring a mask into the shape (batch, n_tokens)."""
        n_patches = x.shape[2] // self.patch_size
        if mask.ndim == 3 and mask.shape[1:] == (x.shape[1], n_patches):
            mask = mask.flatten(1)
        if mask.dtype != torch.bool or mask.shape != (len(x), x.shape[1] * n_patches):
            raise ValueError(
                f"A mask must be boolean, of the shape {(len(x), x.shape[1] * n_patches)} or "
                f"{(len(x), x.shape[1], n_patches)}, got {tuple(mask.shape)} of {mask.dtype}."
            )
        return mask.to(x.device)

    def forward(
        self, x: Tensor, return_features: bool = False, *, mask: Tensor | None = None
    ) -> Tensor | dict[str, Tensor]:
        """Predict the codes of patches.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts at 200 Hz; 1 to ``max_patches`` whole patches.
        return_features : bool
            Return tokens instead of logits.
        mask : Tensor of bool, shape (batch, n_chans * n_patches) or (batch, n_chans, n_patches) | None
            True where a patch is hidden; ``None`` hides none.

        Returns
        -------
        logits : Tensor, shape (batch, n_chans * n_patches, n_codes)
            In channel-major order.
        features : dict
            If ``return_features``: ``"features"``, normalised patch tokens, shape (batch, n_chans * n_patches,
            embed_dim), and ``"cls_token"``, shape (batch, embed_dim).

        Raises
        ------
        ValueError
            If the shape is not that of the bound channels and whole patches, the mask does not fit, or values are not
            finite.
        """
        x = self._checked(x)
        tokens = self.encoder.norm(self._encode(x, None if mask is None else self._checked_mask(mask, x)))
        if return_features:
            return {"features": tokens[:, 1:], "cls_token": tokens[:, 0]}
        return self.final_layer(tokens[:, 1:])

    def training_step(
        self,
        batch: Any,
        tokenizer: LabramTokenizer | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Compute the loss of a batch.

        Parameters
        ----------
        batch : Tensor | sequence | mapping
            Signal in microvolts, shape (batch, n_chans, n_times); or a sequence that starts with it; or a mapping with
            ``"x"`` and, if the batch has other channels than the model, ``"ch_names"`` and, where the names do not
            tell where they are, ``"positions"``.
        tokenizer : LabramTokenizer | None
            Gives the labels; ``None``: the one given at construction.
        mask : Tensor of bool, shape (batch, n_chans * n_patches) or (batch, n_chans, n_patches) | None
            True where a patch is hidden; ``None`` draws one.
        generator : torch.Generator | None
            Source of the mask, on the CPU; ``None`` is torch's global one.

        Returns
        -------
        losses : dict of str to Tensor
            ``"loss"`` (the sum), ``"masked_loss"``, ``"symmetric_loss"`` (if ``symmetric``), each a mean cross-entropy
            over the hidden patches, ``"hidden_spectrum_loss"`` and ``"visible_spectrum_loss"`` (if
            ``spectral_weight`` is positive, and with that weight), each a mean squared error, and, without gradient,
            ``"accuracy"``.

        Raises
        ------
        ValueError
            If there is no tokenizer, the batch or the mask does not fit the model, or a pass would hide no patch at
            all: its loss would be NaN.
        """
        if tokenizer is not None:
            self.set_tokenizer(tokenizer)
        if not self._tokenizer:
            raise ValueError("Masked modelling needs a tokenizer: give it at construction or to training_step.")
        x, ch_names, positions = batch_signal(batch)
        model = self if ch_names is None else self.bind_channels(ch_names, positions=positions)
        x = model._checked(x)
        labels = model._labels(x)
        n_patches = x.shape[2] // self.patch_size
        if mask is None:
            mask = draw_mask(
                self.masking, len(x), x.shape[1], n_patches, self.mask_ratio, generator=generator, device=x.device
            )
        else:
            mask = model._checked_mask(mask, x)
        patches = model.encoder.patch_embed(model._split_patches(x))
        masks = {"masked_loss": mask, "symmetric_loss": ~mask} if self.symmetric else {"masked_loss": mask}
        if not all(bool(m.any()) for m in masks.values()):
            raise ValueError(
                f"The mask hides {int(mask.sum())} of {mask.numel()} patches, which leaves nothing to predict in one "
                "of the passes; take windows with more patches, or another mask_ratio."
            )
        # The patches are embedded once, and both halves go through the blocks in one batch.
        hidden = torch.cat([model._hide(patches, m) for m in masks.values()])
        tokens = model.encoder.norm(model.encoder(hidden, n_patches, cls_position=self.cls_position))
        out: dict[str, Tensor] = {}
        n_right = 0
        for (name, m), part in zip(masks.items(), tokens[:, 1:].chunk(len(masks)), strict=True):
            logits = model.final_layer(part[m])
            out[name] = F.cross_entropy(logits.float(), labels[m])
            n_right = n_right + (logits.detach().argmax(dim=-1) == labels[m]).sum()
        if self.spectral_head is not None:
            out |= model._spectral_losses(x, tokens[:, 1:], torch.cat(list(masks.values())))
        return {
            "loss": torch.stack(list(out.values())).sum(),
            **out,
            "accuracy": n_right / sum(m.sum() for m in masks.values()),
        }

    def _spectral_losses(self, x: Tensor, tokens: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Compare what tokens of every pass say of the log amplitude with what it is."""
        patches = x.detach().unflatten(2, (-1, self.patch_size))
        if self.training:
            self.spectral_target.update(patches)
        wanted = self.spectral_target(patches)["log_amplitude"].flatten(1, 2)
        error = (self.spectral_head(tokens).float() - wanted.repeat(len(mask) // len(x), 1, 1)).square().mean(dim=-1)
        # Sums, because windows of one patch without the complementary pass leave nothing visible.
        return {
            f"{name}_spectrum_loss": self.spectral_weight * error[rows].sum() / rows.sum().clamp_min(1)
            for name, rows in (("hidden", mask), ("visible", ~mask))
        }

    def _labels(self, x: Tensor) -> Tensor:
        """Codes of the patches, shape (batch, n_tokens)."""
        tokenizer = self._tokenizer[0]
        if tokenizer.ch_names != self.ch_names:
            positions = self._braindecode_init_kwargs["ch_positions"]
            tokenizer = tokenizer.bind_channels(self.ch_names, positions=positions)
        return tokenizer.to(x.device).encode(x).flatten(1)

    def reset_head(self, n_outputs: int) -> None:
        """Refuse: masked modelling has no classes.

        Parameters
        ----------
        n_outputs : int
            Not used.

        Raises
        ------
        TypeError
            Always.
        """
        raise TypeError(
            "LabramForMaskedModeling has no classification head; use LabramForClassification.from_encoder instead."
        )
