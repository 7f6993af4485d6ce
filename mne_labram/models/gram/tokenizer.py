"""Gram's first stage: one code per patch, and a signal back from codes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from braindecode.models.base import EEGModuleMixin
from torch import Tensor, nn

from mne_labram.models.gram.base import GramMixin
from mne_labram.models.gram.channels import spatial_embedding
from mne_labram.models.gram.official import official_tokenizer
from mne_labram.models.gram.sizes import GRAM_TOKENIZER_SIZES
from mne_labram.models.gram.transformer import GramTransformer
from mne_labram.models.gram.waveform import PatchTarget
from mne_labram.models.labram.base import SFREQ
from mne_labram.models.labram.inputs import batch_signal, with_arrays
from mne_labram.models.labram.sizes import replace_numbers
from mne_labram.nn.full_precision import without_autocast
from mne_labram.nn.initialization import initialize_bottleneck, initialize_spread
from mne_labram.nn.kmeans import perplexity
from mne_labram.nn.modules import evaluating
from mne_labram.nn.patch_embedding import TemporalConv
from mne_labram.nn.quantizer import Quantized, VectorQuantizer

__all__ = ["GramTokenizer"]


class _Pass(NamedTuple):
    """Everything that one pass through the tokenizer computes."""

    tokens: Tensor
    quantized: Quantized
    parts: dict[str, Tensor]


class GramTokenizer(GramMixin, EEGModuleMixin, nn.Module):
    r"""Gram's tokenizer (base class quantization, VQ-KD), from Li et al. (2025) [gram]_.

    :bdg-danger:`Foundation Model` :bdg-info:`Attention/Transformer`

    An encoder turns every one-second patch into a latent, the latent is replaced by the nearest vector of a codebook,
    and a decoder makes patches of signal from those vectors. The index of the vector is the patch's token. With the
    default options and official weights it is the official ``VQKD`` (Gram, model/modeling_vqkd.py) to float precision.

    Parameters
    ----------
    n_outputs : None
        Not used; a tokenizer has no classes.
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
    size : {"base", "small"}
        Configuration: 200 x 12 x 10 (width, blocks, heads) and 12 blocks to decode, with a codebook of 8196 x 32; or
        ours for small machines, 128 x 2 x 4 and 1 block to decode, with 512 x 32.
    embed_dim, num_layers, num_heads, decoder_layers, n_codes, code_dim : int | None
        Replace a number of the configuration.
    target : {"signal", "signal+spectrum", "log_amplitude"}
        What is reconstructed; see :class:`mne_labram.models.gram.waveform.PatchTarget`. The first is the official one,
        which holds the shape of a patch and not its amplitude; the others, ours, hold the amplitude too.
    target_band : list of float
        Lowest and highest frequency of the spectrum in Hz.
    spatial : {"names", "coordinates"}
        ``"names"``: sines and cosines of the place in the official list of 130 names. ``"coordinates"``: a function of
        electrode positions, of both ends for a bipolar channel (ours), which knows every montage.
    ch_positions : list of list of float | None
        Positions in metres, (n_chans, 3) or (n_chans, 6), instead of those of the names; ``"coordinates"`` only.
    input_scale : float
        Microvolts per unit inside; officially 100.
    patch_embed : {"conv", "conv+spectrum", "conv+periodogram"}
        See :class:`mne_labram.nn.patch_embedding.PatchEmbedding`.
    patch_size : int
        Samples in a patch; official weights need 200.
    max_patches : int
        Rows of the temporal embedding: longest window in patches.
    max_tokens : int | None
        Most patches of all channels in a window; ``None``: 256 for ``spatial="names"``, as officially, so that 64
        channels have windows of 4 s, and without limit for coordinates.
    layer_scale : float | None
        Initial residual gain; ``None`` takes the configuration's, which is 0: none.
    drop_prob, attn_drop_prob, drop_path_prob : float
        Dropout of tokens and branch outputs, of attention weights, and of whole branches (in the last block);
        officially 0.1, 0.1 and 0.
    activation : type of nn.Module
        Class of the activation in convolutions and feed-forward layers.
    decay, commitment : float
        See :class:`mne_labram.nn.quantizer.VectorQuantizer`.
    kmeans_init : bool
        Start the codebook from k-means on the first ``10 * n_codes`` latents of training, which pass unquantised until
        then.
    warmup_steps : int
        Training steps without quantisation before those latents are collected.
    revive_dead_codes : bool
        Replace codes that are not used any more.
    seed : int
        Of the initial codebook, k-means and revival.
    contract : SignalContract | dict | None
        How the signal was prepared, where it differs from the official preparation.

    Raises
    ------
    ValueError
        If no channel names are known, a name is not in the list, the window is not made of whole patches or too long,
        the sampling rate is not 200 Hz, or an option has a value that is not listed.

    References
    ----------
    .. [gram] Li, Z., Zheng, W. L., & Lu, B. L. (2025). Gram: A Large-Scale General EEG Model for Raw Data
       Classification and Restoration Tasks. https://github.com/iiieeeve/Gram

    Examples
    --------
    >>> import torch
    >>> from mne_labram.models.gram import GramTokenizer
    >>> tokenizer = GramTokenizer(ch_names=["Fp1", "Fp2", "Cz"], n_times=800, size="small")
    >>> codes = tokenizer.encode(torch.randn(1, 3, 800))
    >>> codes.shape, tokenizer.decode(codes).shape
    (torch.Size([1, 3, 4]), torch.Size([1, 3, 800]))
    """

    _build_official = staticmethod(official_tokenizer)

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
        decoder_layers: int | None = None,
        n_codes: int | None = None,
        code_dim: int | None = None,
        target: str = "signal",
        target_band: list[float] | tuple[float, float] = (1.0, 45.0),
        spatial: str = "names",
        ch_positions: list[list[float]] | None = None,
        input_scale: float = 100.0,
        patch_embed: str = "conv",
        patch_size: int = 200,
        max_patches: int = 16,
        max_tokens: int | None = None,
        layer_scale: float | None = None,
        drop_prob: float = 0.1,
        attn_drop_prob: float = 0.1,
        drop_path_prob: float = 0.0,
        activation: type[nn.Module] = nn.GELU,
        decay: float = 0.99,
        commitment: float = 1.0,
        kmeans_init: bool = True,
        warmup_steps: int = 0,
        revive_dead_codes: bool = False,
        seed: int = 0,
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
        if size not in GRAM_TOKENIZER_SIZES:
            raise ValueError(f"size must be one of {', '.join(map(repr, GRAM_TOKENIZER_SIZES))}, got {size!r}.")
        named = GRAM_TOKENIZER_SIZES[size]
        numbers = replace_numbers(named.encoder, embed_dim=embed_dim, num_layers=num_layers, num_heads=num_heads)
        n_blocks = named.decoder_layers if decoder_layers is None else decoder_layers
        if n_blocks < 0:
            raise ValueError(f"decoder_layers must be at least 0, got {n_blocks}.")
        width, code_dim = numbers.embed_dim, named.code_dim if code_dim is None else code_dim
        if code_dim < 1:
            raise ValueError(f"code_dim must be at least 1, got {code_dim}.")
        self.target = PatchTarget(target, patch_size, sfreq=SFREQ, band=(target_band[0], target_band[1]))
        self._record(target_band=[float(edge) for edge in target_band])
        options = {
            "learn_time": True,
            # The official modules hold a CLS token, which is cut off before the blocks.
            "cls_token": False,
            "layer_scale": numbers.layer_scale if layer_scale is None else layer_scale,
            "embed_drop_prob": drop_prob,
            "drop_prob": drop_prob,
            "attn_drop_prob": attn_drop_prob,
            "drop_path_prob": drop_path_prob,
            "activation": activation,
        }
        self.encoder = self._build_encoder(binding, numbers, patch_embed=patch_embed, **options)
        self.to_latent = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, code_dim))
        self.quantizer = VectorQuantizer(
            named.n_codes if n_codes is None else n_codes,
            code_dim,
            decay=decay,
            commitment=commitment,
            kmeans_init=kmeans_init,
            warmup_steps=warmup_steps,
            revive_dead_codes=revive_dead_codes,
            seed=seed,
        )
        self.decoder = GramTransformer(
            nn.Linear(code_dim, width),
            spatial_embedding(binding, width, activation),
            size=replace(numbers, num_layers=n_blocks),
            max_patches=max_patches,
            **options,
        )
        # Officially the decoder ends with the encoder's convolution, for which a token of 200 numbers is a signal.
        self.decoder.norm = nn.Identity()
        heads: dict[str, nn.Module] = {}
        for name, n_numbers in self.target.parts.items():
            if name == "signal":
                conv = TemporalConv(n_numbers, width, input_scale=1.0, activation=activation)
                heads[name] = nn.Sequential(conv, nn.LayerNorm(n_numbers))
            else:
                heads[name] = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, n_numbers))
        self.final_layer = nn.ModuleDict(heads)
        initialize_bottleneck(self.to_latent, self.decoder.patch_embed, nn.ModuleList())
        initialize_spread(self.final_layer)

    @property
    def n_codes(self) -> int:
        """Number of codes."""
        return self.quantizer.n_codes

    def _encode(self, x: Tensor) -> Tensor:
        """Tokens of checked input before the final norm, their mean first: it stands in for a CLS token."""
        tokens = self._embed_patches(self._split_patches(x), x.shape[2] // self.patch_size)
        return torch.cat((tokens.mean(dim=1, keepdim=True), tokens), dim=1)

    def _latents(self, tokens: Tensor) -> Tensor:
        """Map normalised patch tokens to latents, in float32 under autocast too, as officially."""
        weight = self.to_latent[0].weight
        with without_autocast(tokens.device):
            return self.to_latent(tokens.to(weight.dtype))

    def _reconstruct(self, vectors: Tensor, n_patches: int) -> dict[str, Tensor]:
        """Decode codes' vectors, shape (batch, n_tokens, code_dim), into the parts of the target."""
        embedded = self.decoder.patch_embed(vectors.to(self.decoder.time_embed.dtype))
        tokens = self.decoder(embedded, n_patches)
        return {name: head(tokens).unflatten(1, (-1, n_patches)) for name, head in self.final_layer.items()}

    def _run(self, x: Tensor) -> _Pass:
        """Encode, quantise and decode checked input."""
        tokens = self.encoder.norm(self._encode(x))
        quantized = self.quantizer(self._latents(tokens[:, 1:]))
        return _Pass(tokens, quantized, self._reconstruct(quantized.vectors, x.shape[2] // self.patch_size))

    def forward(self, x: Tensor, return_features: bool = False) -> Tensor | dict[str, Tensor]:
        """Reconstruct patches from their codes.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts at 200 Hz; whole patches, up to the longest window.
        return_features : bool
            Return everything else too.

        Returns
        -------
        reconstruction : Tensor, shape (batch, n_chans, n_patches, n_numbers)
            The parts of the target one after the other along the last axis (``model.target.parts``), normalised:
            officially a patch of signal without its amplitude.
        features : dict
            If ``return_features``: ``"features"`` (batch, n_chans * n_patches, embed_dim) of the encoder, and as
            ``"cls_token"`` (batch, embed_dim) their mean, because this encoder has no CLS token; ``"codes"``
            (batch, n_chans, n_patches), ``"quantized"``
            (batch, n_chans, n_patches, code_dim) and one entry per part of the target.

        Raises
        ------
        ValueError
            If the shape is not that of the bound channels and whole patches, or values are not finite.

        Notes
        -----
        In training mode every pass moves the codebook.
        """
        x = self._checked(x)
        tokens, quantized, parts = self._run(x)
        if not return_features:
            return torch.cat(list(parts.values()), dim=-1)
        shape = (x.shape[1], -1)
        return {
            "features": tokens[:, 1:],
            "cls_token": tokens[:, 0],
            "codes": quantized.codes.unflatten(1, shape),
            "quantized": quantized.vectors.unflatten(1, shape),
            **parts,
        }

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Turn every patch into a code.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts at 200 Hz; whole patches, up to the longest window.

        Returns
        -------
        codes : Tensor of int64, shape (batch, n_chans, n_patches)
            Between 0 and ``n_codes - 1``; officially they are in the order (n_patches, n_chans).

        Raises
        ------
        ValueError
            If the shape is not that of the bound channels and whole patches, or values are not finite.

        Notes
        -----
        Dropout is off and the codebook stays as it is, in training mode too.
        """
        x = self._checked(x)
        with evaluating(self):
            latents = self._latents(self.encoder.norm(self._encode(x)[:, 1:]))
            return self.quantizer(latents).codes.unflatten(1, (x.shape[1], -1))

    @torch.no_grad()
    def decode_parts(self, codes: Tensor) -> dict[str, Tensor]:
        """Turn codes into the parts of the target.

        Parameters
        ----------
        codes : Tensor of int, shape (batch, n_chans, n_patches)
            From :meth:`encode`.

        Returns
        -------
        parts : dict of str to Tensor, shape (batch, n_chans, n_patches, n_numbers)
            Normalised.

        Raises
        ------
        ValueError
            If the shape does not fit the bound channels, or a code is not in the codebook.
        TypeError
            If the codes are not integers.
        """
        longest = self._longest(len(self.ch_names))
        if codes.ndim != 3 or codes.shape[1] != len(self.ch_names) or not 1 <= codes.shape[2] <= longest:
            raise ValueError(
                f"Codes must have the shape (batch, {len(self.ch_names)} channels, 1 to {longest} patches), "
                f"got {tuple(codes.shape)}."
            )
        with evaluating(self):
            return self._reconstruct(self.quantizer.lookup(codes.flatten(1)), codes.shape[2])

    def decode(self, codes: Tensor, n_times: int | None = None, *, gain: Tensor | None = None) -> Tensor:
        """Turn codes into a signal.

        Parameters
        ----------
        codes : Tensor of int, shape (batch, n_chans, n_patches)
            From :meth:`encode`.
        n_times : int | None
            Samples to return; ``None`` returns whole patches.
        gain : Tensor, shape (batch, n_chans) or (batch, n_chans, n_patches) | None
            Root mean square in microvolts that the patches shall have, e.g. that of patches of the same channel that
            are visible.

        Returns
        -------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts: of the given ``gain``; or else of the level that the codes hold
            (``target="signal+spectrum"``). Officially codes hold none, and without ``gain`` every patch has about
            the root mean square 1. Patches are not blended.

        Raises
        ------
        ValueError
            If the target holds no signal (``"log_amplitude"``), or codes, ``n_times`` or ``gain`` do not fit.
        TypeError
            If the codes are not integers.
        """
        self.target.must_hold_signal()
        longest = codes.shape[-1] * self.patch_size
        n_times = longest if n_times is None else n_times
        if not longest - self.patch_size < n_times <= longest:
            raise ValueError(f"{codes.shape[-1]} patches hold {longest} samples, not n_times={n_times}.")
        if gain is not None and tuple(gain.shape) not in (tuple(codes.shape[:2]), tuple(codes.shape)):
            raise ValueError(
                f"A gain is one per channel or per patch, got {tuple(gain.shape)} for {tuple(codes.shape)}."
            )
        parts = self.decode_parts(codes)
        return self.target.invert(parts, gain).flatten(2)[..., :n_times]

    def training_step(self, batch: Any) -> dict[str, Tensor]:
        """Compute the loss of a batch; in training mode, move the codebook and the target's statistics.

        Parameters
        ----------
        batch : Tensor | sequence | mapping
            Signal in microvolts, shape (batch, n_chans, n_times); or a sequence that starts with it; or a mapping with
            ``"x"`` and, if the batch has other channels than the model, ``"ch_names"`` and, where the names do not
            tell where they are, ``"positions"``.

        Returns
        -------
        losses : dict of str to Tensor
            ``"loss"`` (their sum), one loss per part of the target (``"signal_loss"``: 1 - cosine, the mean over
            patches), ``"commitment_loss"``, and, without gradient, ``"codebook_perplexity"``, ``"codebook_used"``
            (share of the codebook in this batch) and ``"codebook_initialized"``.

        Raises
        ------
        ValueError
            If the batch does not fit the model.
        """
        x, ch_names, positions = batch_signal(batch)
        model = self if ch_names is None else self.bind_channels(ch_names, positions=positions)
        x = model._checked(x)
        patches = x.detach().unflatten(2, (-1, self.patch_size))
        if self.training:
            self.target.update(patches)
        _, quantized, parts = model._run(x)
        losses = self.target.losses(parts, patches)
        losses["commitment_loss"] = quantized.loss
        counts = torch.bincount(quantized.codes.flatten(), minlength=self.n_codes)
        return {
            "loss": torch.stack(list(losses.values())).sum(),
            **losses,
            "codebook_perplexity": perplexity(counts),
            "codebook_used": (counts > 0).float().mean(),
            "codebook_initialized": self.quantizer.initialized.float(),
        }

    def codebook_usage(self, codes: Tensor | None = None) -> dict[str, float]:
        """Summarise how much of the codebook is used.

        Parameters
        ----------
        codes : Tensor of int | None
            Codes of a data set; ``None``: those of training since the last ``model.quantizer.reset_usage()``.

        Returns
        -------
        usage : dict of str to float
            ``"n_codes"``, ``"n_used"``, ``"fraction"`` and ``"perplexity"``.
        """
        return self.quantizer.usage(codes)

    def reset_head(self, n_outputs: int) -> None:
        """Refuse: a tokenizer has no classes.

        Parameters
        ----------
        n_outputs : int
            Not used.

        Raises
        ------
        TypeError
            Always.
        """
        raise TypeError("GramTokenizer has no classification head; build a GramForClassification instead.")
