"""Gram's second stage: a masked auto-encoder that predicts the codes of hidden patches from the visible ones."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from braindecode.models.base import EEGModuleMixin
from torch import Tensor, nn

from mne_labram.models.gram.base import GramMixin
from mne_labram.models.gram.channels import spatial_embedding
from mne_labram.models.gram.masks import check_mask, draw_equal_mask, rows_by_count
from mne_labram.models.gram.mimic import MimicTarget
from mne_labram.models.gram.official import official_restoration
from mne_labram.models.gram.restoring import RestoringMixin, check_tokenizer
from mne_labram.models.gram.sizes import default_out_indices, resolve_gram_size
from mne_labram.models.gram.spatial_filter import MIN_CHANNELS, SpatialFilter
from mne_labram.models.gram.tokenizer import GramTokenizer
from mne_labram.models.gram.transformer import GramTransformer
from mne_labram.models.labram.base import SFREQ
from mne_labram.models.labram.inputs import batch_artefact, batch_signal, with_arrays
from mne_labram.models.labram.sizes import replace_numbers
from mne_labram.nn.full_precision import without_autocast
from mne_labram.nn.initialization import initialize_weights
from mne_labram.nn.masking import MASKINGS

__all__ = ["GramForRestoration"]

# A patch is corrupted if the artefact in it has at least this share of the EEG's standard deviation.
_CORRUPTED = 0.3


class GramForRestoration(RestoringMixin, GramMixin, EEGModuleMixin, nn.Module):
    r"""Gram for restoration and pre-training, from Li et al. (2025) [gram]_.

    :bdg-danger:`Foundation Model` :bdg-info:`Attention/Transformer`

    A masked auto-encoder. The encoder sees the visible patches alone, behind a CLS token, and fuses the outputs of
    several of its blocks; the decoder sees them all, the encoded CLS token standing where a patch is hidden, and
    predicts the code that a frozen :class:`GramTokenizer` gives each hidden patch. From visible tokens the magnitudes
    of their patch's spectrum are predicted (the *mimic* loss). With the default options and official weights it is the
    official ``Gram`` (model/modeling_Gram.py) to float precision. Unlike it, it hides the patches that it is told to
    hide: officially every call draws a mask of its own.

    Parameters
    ----------
    n_outputs : None
        Not used; the outputs are ``n_codes`` per patch.
    n_chans : int | None
        Number of channels; only checked against the names.
    chs_info : list of dict | None
        ``info["chs"]``: the channels, if ``ch_names`` is None.
    n_times : int | None
        Samples in a window. The model takes any number of whole patches up to its longest window, whatever this is.
    input_window_seconds : float | None
        Length of a window in seconds.
    sfreq : float | None
        Sampling rate in Hz; must be 200 if given.
    ch_names : list of str | None
        Channels, in the order of the input, parsed as labels of a recording are.
    size : {"base", "medium", "large", "small"}
        Configuration: Gram-B, 200 x 12 x 10 (width, blocks, heads); Gram-M, 400 x 24 x 16; Gram-L, 800 x 32 x 16; each
        with a decoder of 200 x 8 x 10; or ours for small machines, 128 x 4 x 4 and 96 x 1 x 4.
    embed_dim, num_layers, num_heads : int | None
        Replace a number of the encoder.
    decoder_dim, decoder_layers, decoder_heads : int | None
        Replace a number of the decoder.
    out_indices : list of int | None
        Blocks whose outputs are fused, the last among them; ``None``: those of the published sizes, or by their rule.
    n_codes : int | None
        Size of the tokenizer's codebook; ``None``: that of ``tokenizer``, or the official 8196.
    tokenizer : GramTokenizer | None
        Gives the labels in :meth:`training_step` and makes signals of codes. It is put into evaluation mode, is no part
        of the state dict or of the configuration, and does not follow ``to()``; it is moved when it is needed.
    mask_ratio : float
        Share of hidden patches in training.
    masking : {"random", "mixed"}
        ``"random"``: single patches. ``"mixed"`` (ours): in some batches single patches, in others whole channels, or
        all channels at some times.
    mimic : {"amplitude", "log_amplitude"}
        ``"amplitude"``: the magnitudes of all Fourier bins, z-scored in each patch, as officially.
        ``"log_amplitude"`` (ours): log magnitudes of 1-45 Hz in microvolts, so that level is learnt too, and from the
        decoder's tokens those of hidden patches as well.
    mimic_weight : float
        Weight of that loss; the cross-entropy has what is missing to 1. Officially 0.5.
    spatial : {"names", "coordinates"}
        See :class:`GramTokenizer`.
    ch_positions : list of list of float | None
        See :class:`GramTokenizer`.
    input_scale : float
        Microvolts per unit inside; officially 100.
    patch_embed : {"conv", "conv+spectrum", "conv+periodogram"}
        See :class:`mne_labram.nn.patch_embedding.PatchEmbedding`.
    patch_size : int
        Samples in a patch; official weights need 200.
    max_patches : int
        Rows of the temporal embedding: longest window in patches.
    max_tokens : int | None
        See :class:`GramTokenizer`.
    layer_scale : float | None
        Initial residual gain; ``None`` takes the configuration's, 0 has none.
    drop_prob, attn_drop_prob, drop_path_prob : float
        Dropout of branch outputs, of attention weights, and of whole branches (in the encoder's last block); officially
        0.05, 0.05 and 0.
    activation : type of nn.Module
        Class of the activation in convolutions and feed-forward layers.
    spatial_filter : dict | None
        Arguments of a predictor of hidden channels from the visible ones, which is trained and saved with the model as
        ``model.spatial_filter``; ``None``: without.
    contract : SignalContract | dict | None
        How the signal was prepared, where it differs from the official preparation.

    Raises
    ------
    ValueError
        As :class:`GramTokenizer`, or if ``n_codes`` is not that of ``tokenizer``.
    TypeError
        If ``tokenizer`` is no GramTokenizer.

    References
    ----------
    .. [gram] Li, Z., Zheng, W. L., & Lu, B. L. (2025). Gram: A Large-Scale General EEG Model for Raw Data
       Classification and Restoration Tasks. https://github.com/iiieeeve/Gram

    Examples
    --------
    >>> import torch
    >>> from mne_labram.models.gram import GramForRestoration, GramTokenizer
    >>> names = ["Fp1", "Fp2", "Cz"]
    >>> tokenizer = GramTokenizer(ch_names=names, size="small")
    >>> model = GramForRestoration(ch_names=names, size="small", tokenizer=tokenizer)
    >>> sorted(model.training_step(torch.randn(2, 3, 800)))
    ['accuracy', 'code_loss', 'loss', 'mimic_loss']
    """

    _build_official = staticmethod(official_restoration)

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
        decoder_dim: int | None = None,
        decoder_layers: int | None = None,
        decoder_heads: int | None = None,
        out_indices: list[int] | None = None,
        n_codes: int | None = None,
        tokenizer: Any = None,
        mask_ratio: float = 0.5,
        masking: str = "random",
        mimic: str = "amplitude",
        mimic_weight: float = 0.5,
        spatial: str = "names",
        ch_positions: list[list[float]] | None = None,
        input_scale: float = 100.0,
        patch_embed: str = "conv",
        patch_size: int = 200,
        max_patches: int = 16,
        max_tokens: int | None = None,
        layer_scale: float | None = None,
        drop_prob: float = 0.05,
        attn_drop_prob: float = 0.05,
        drop_path_prob: float = 0.0,
        activation: type[nn.Module] = nn.GELU,
        spatial_filter: dict[str, Any] | None = None,
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
            max_tokens=max_tokens,
            input_scale=input_scale,
            contract=contract,
        )
        if not 0.0 < mask_ratio < 1.0:
            raise ValueError(f"mask_ratio must lie between 0 and 1, got {mask_ratio}.")
        if masking not in MASKINGS:
            raise ValueError(f"masking must be one of {', '.join(map(repr, MASKINGS))}, got {masking!r}.")
        if not 0.0 <= mimic_weight < 1.0:
            raise ValueError(f"mimic_weight must lie in [0, 1), got {mimic_weight}.")
        self.mask_ratio, self.masking, self.mimic_weight = mask_ratio, masking, float(mimic_weight)
        if tokenizer is not None:
            check_tokenizer(tokenizer)
        if n_codes is None:
            n_codes = 8196 if tokenizer is None else tokenizer.n_codes
        numbers = resolve_gram_size(size, embed_dim=embed_dim, num_layers=num_layers, num_heads=num_heads)
        body = replace_numbers(
            numbers.decoder, embed_dim=decoder_dim, num_layers=decoder_layers, num_heads=decoder_heads
        )
        if out_indices is None:
            out_indices = default_out_indices(numbers.encoder.num_layers)
        options = {"drop_prob": drop_prob, "attn_drop_prob": attn_drop_prob, "activation": activation}
        self.encoder = self._build_encoder(
            binding,
            numbers.encoder,
            patch_embed=patch_embed,
            out_indices=out_indices,
            layer_scale=numbers.encoder.layer_scale if layer_scale is None else layer_scale,
            drop_path_prob=drop_path_prob,
            **options,
        )
        width = numbers.encoder.embed_dim
        self.mimic_target = MimicTarget(mimic, patch_size, sfreq=SFREQ, input_scale=input_scale)
        self.mimic_head = self._mimic_head(width)
        self.spatial_filter = None
        if spatial_filter is not None:
            known = set(inspect.signature(SpatialFilter.__init__).parameters) - {"self"}
            if not isinstance(spatial_filter, dict) or not set(spatial_filter) <= known:
                raise ValueError(
                    f"spatial_filter must be a dict of arguments among {', '.join(sorted(known))}, got "
                    f"{spatial_filter!r}."
                )
            self.spatial_filter = SpatialFilter(**spatial_filter)
            # It shares nothing with the rest, and its gradient is clipped by itself.
            self.learning_rate_scales = {"spatial_filter.": 2.0}
        self.decoder = GramTransformer(
            nn.Linear(width, body.embed_dim),
            spatial_embedding(binding, body.embed_dim, activation),
            size=replace(body, layer_scale=0.0),
            max_patches=max_patches,
            cls_token=False,
            layer_scale=body.layer_scale if layer_scale is None else layer_scale,
            **options,
        )
        self.hidden_head = self._mimic_head(body.embed_dim) if self.mimic_target.hidden_too else None
        self.final_layer = nn.Linear(body.embed_dim, n_codes, bias=False)
        initialize_weights(self.final_layer)
        self._record(n_codes=n_codes, tokenizer=None, out_indices=list(out_indices))
        self._tokenizer: list[GramTokenizer] = []
        if tokenizer is not None:
            self.set_tokenizer(tokenizer)

    def _mimic_head(self, width: int) -> nn.Linear:
        head = nn.Linear(width, self.mimic_target.n_bins)
        initialize_weights(head)
        return head

    @property
    def n_codes(self) -> int:
        """Number of codes of the tokenizer whose labels are predicted."""
        return self.final_layer.out_features

    def encode_visible(self, x: Tensor, mask: Tensor) -> Tensor:
        """Encode the visible patches.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts at 200 Hz; whole patches. What hidden patches hold changes nothing, but it must be
            finite.
        mask : Tensor of bool, shape (batch, n_chans * n_patches) or (batch, n_chans, n_patches)
            True where a patch is hidden.

        Returns
        -------
        tokens : Tensor, shape (batch, 1 + n_chans * n_patches, embed_dim)
            Fused and normalised: CLS first, then in channel-major order the tokens of visible patches, and the CLS
            token where a patch is hidden.

        Raises
        ------
        ValueError
            If the input or the mask does not fit the model, or a window has no visible patch.
        """
        x = self._checked(x)
        return self._encode_visible(x, check_mask(mask, x, x.shape[2] // self.patch_size))

    def _encode_visible(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Encode checked input; without a mask all of it."""
        if mask is None:
            return self.encoder.norm(self._encode(x))
        patches, n_patches = self._split_patches(x), x.shape[2] // self.patch_size
        parts, order = [], []
        for rows, kept in rows_by_count(mask):
            visible = patches[rows].gather(1, kept.unsqueeze(2).expand(-1, -1, self.patch_size))
            tokens = self.encoder.norm(self._embed_patches(visible, n_patches, kept))
            whole = tokens[:, :1].expand(-1, patches.shape[1], -1)
            whole = whole.scatter(1, kept.unsqueeze(2).expand(-1, -1, tokens.shape[2]), tokens[:, 1:])
            parts.append(torch.cat((tokens[:, :1], whole), dim=1))
            order.append(rows)
        if len(parts) == 1:
            return parts[0]
        return torch.cat(parts)[torch.cat(order).argsort()]

    def _decode_tokens(self, tokens: Tensor, n_patches: int) -> Tensor:
        """Run encoded tokens, CLS first, through the decoder; shape (batch, n_tokens, decoder_dim)."""
        embedded = self.decoder.patch_embed(tokens)
        return self.decoder.norm(self.decoder(embedded[:, 1:], n_patches, cls=embedded[:, :1])[:, 1:])

    def forward(
        self, x: Tensor, return_features: bool = False, *, mask: Tensor | None = None
    ) -> Tensor | dict[str, Tensor]:
        """Predict the codes of patches.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts at 200 Hz; whole patches, up to the longest window.
        return_features : bool
            Return the encoder's tokens instead of logits.
        mask : Tensor of bool, shape (batch, n_chans * n_patches) or (batch, n_chans, n_patches) | None
            True where a patch is hidden; ``None`` hides none.

        Returns
        -------
        logits : Tensor, shape (batch, n_chans * n_patches, n_codes)
            In channel-major order, of hidden and visible patches.
        features : dict
            If ``return_features``: ``"features"``, normalised patch tokens, shape (batch, n_chans * n_patches,
            embed_dim), and ``"cls_token"``, shape (batch, embed_dim), which stands for hidden patches too.

        Raises
        ------
        ValueError
            If the shape is not that of the bound channels and whole patches, the mask does not fit or hides all of a
            window, or values are not finite.
        """
        x = self._checked(x)
        n_patches = x.shape[2] // self.patch_size
        tokens = self._encode_visible(x, None if mask is None else check_mask(mask, x, n_patches))
        if return_features:
            return {"features": tokens[:, 1:], "cls_token": tokens[:, 0]}
        return self.final_layer(self._decode_tokens(tokens, n_patches))

    def training_step(
        self,
        batch: Any,
        tokenizer: GramTokenizer | None = None,
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
            tell where they are, ``"positions"``; and perhaps ``"artefact"``, of the shape of ``"x"``: the model sees
            both together, and is to tell the codes of ``"x"``, where patches are hidden and where an artefact is.
        tokenizer : GramTokenizer | None
            Gives the labels; ``None``: the one given at construction.
        mask : Tensor of bool, shape (batch, n_chans * n_patches) or (batch, n_chans, n_patches) | None
            True where a patch is hidden; ``None`` draws one.
        generator : torch.Generator | None
            Source of the mask, on the CPU; ``None`` is torch's global one.

        Returns
        -------
        losses : dict of str to Tensor
            ``"loss"`` (the sum), ``"code_loss"``, the mean cross-entropy over hidden patches, and ``"mimic_loss"``, the
            mean squared error of spectra (with ``mimic="log_amplitude"`` also ``"hidden_mimic_loss"``), each with its
            weight; and, without gradient, ``"accuracy"``.

        Raises
        ------
        ValueError
            If there is no tokenizer, the batch or the mask does not fit the model, or no patch is hidden, or all are.
        """
        if tokenizer is not None:
            self.set_tokenizer(tokenizer)
        x, ch_names, positions = batch_signal(batch)
        model = self if ch_names is None else self.bind_channels(ch_names, positions=positions)
        x = model._checked(x)
        labels = model._bound_tokenizer(x.device).encode(x).flatten(1)
        n_patches = x.shape[2] // self.patch_size
        if mask is None:
            shape = (len(x), x.shape[1], n_patches)
            mask = draw_equal_mask(self.masking, *shape, self.mask_ratio, generator=generator, device=x.device)
        mask = check_mask(mask, x, n_patches)
        if not bool(mask.any()):
            raise ValueError("The mask hides no patch, so there is nothing to predict; hide at least one.")
        artefact = batch_artefact(batch, x)
        seen = x if artefact is None else x + artefact
        tokens = model._encode_visible(seen, mask)
        hidden, mask = mask, mask if artefact is None else mask | self._corrupted(x, artefact)
        decoded = model._decode_tokens(tokens, n_patches)[mask]
        logits = model.final_layer(decoded).float()
        out = {"code_loss": (1.0 - self.mimic_weight) * F.cross_entropy(logits, labels[mask])}
        patches = x.detach().unflatten(2, (-1, self.patch_size))
        if self.training:
            self.mimic_target.update(patches)
        wanted = self.mimic_target(patches).flatten(1, 2)
        out["mimic_loss"] = self.mimic_weight * self.mimic_target.loss(
            model.mimic_head(tokens[:, 1:][~hidden]), wanted[~hidden]
        )
        if model.hidden_head is not None:
            out["hidden_mimic_loss"] = self.mimic_weight * self.mimic_target.loss(
                model.hidden_head(decoded), wanted[mask]
            )
        if model.spatial_filter is not None:
            out["restoration_loss"] = model.restoration_loss(x, artefact=artefact, generator=generator)
        accuracy = (logits.detach().argmax(dim=1) == labels[mask]).float().mean()
        return {"loss": torch.stack(list(out.values())).sum(), **out, "accuracy": accuracy}

    def _corrupted(self, x: Tensor, artefact: Tensor) -> Tensor:
        """Tell which patches an artefact changes, shape (batch, n_tokens)."""
        levels = [each.unflatten(2, (-1, self.patch_size)).std(dim=3, correction=0) for each in (x, artefact)]
        return (levels[1] > _CORRUPTED * levels[0]).flatten(1)

    def restoration_loss(
        self,
        x: Tensor,
        *,
        artefact: Tensor | None = None,
        spatial_filter: SpatialFilter | None = None,
        n_draws: int = 8,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Hide channels, and compute what a spatial filter misses of them.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts at 200 Hz, of the bound channels; whole patches.
        artefact : Tensor, shape (batch, n_chans, n_times) | None
            What is added before the filter sees the signal.
        spatial_filter : SpatialFilter | None
            Another filter than that of the model.
        n_draws : int
            Masks of each window.
        generator : torch.Generator | None
            Source of what is random, see :meth:`~mne_labram.models.gram.spatial_filter.SpatialFilter.training_loss`.

        Returns
        -------
        error : Tensor, shape ()
            Squared errors by squared signal; zero where there are too few channels to hide any.
        """
        spatial_filter = self.spatial_filter if spatial_filter is None else spatial_filter
        if x.shape[1] < MIN_CHANNELS:
            return 0.0 * torch.stack([each.sum() for each in spatial_filter.parameters()]).sum()
        n_patches = x.shape[2] // self.patch_size
        positions = self._places().to(device=x.device, dtype=spatial_filter.log_noise.dtype)
        with without_autocast(x.device):
            return spatial_filter.training_loss(
                x, positions, SFREQ, n_patches, n_draws=n_draws, artefact=artefact, generator=generator
            )

    @property
    def classifier_class(self) -> type[nn.Module]:
        """What the encoder becomes when it is fine-tuned."""
        from mne_labram.models.gram.classification import GramForClassification

        return GramForClassification

    def reset_head(self, n_outputs: int) -> None:
        """Refuse: restoration has no classes.

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
            "GramForRestoration has no classification head; use GramForClassification.from_encoder instead."
        )
