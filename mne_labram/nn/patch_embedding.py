"""From one-second patches of signal to tokens: the temporal convolution, and optionally the patch's spectrum."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mne_labram.nn.spectra import LogSpectrum

__all__ = ["PATCH_EMBEDDINGS", "PatchEmbedding", "TemporalConv"]

#: Accepted by ``patch_embed=``.
PATCH_EMBEDDINGS = ("conv", "conv+spectrum", "conv+periodogram")

# Kernel, stride and padding of the first convolution, and groups of every GroupNorm (LaBraM, modeling_finetune.py,
# class TemporalConv; Jiang et al. 2024, section 2.2).
_KERNEL, _STRIDE, _PADDING, _N_GROUPS = 15, 8, 7, 4


class TemporalConv(nn.Module):
    """Three convolutions over the samples of each patch, each followed by GroupNorm and the activation.

    Parameters
    ----------
    embed_dim : int
        Width of a token.
    patch_size : int
        Samples in a patch.
    input_scale : float
        Microvolts per unit inside: the signal is divided by it. Officially 100.
    activation : type of nn.Module
        Class of the activation.

    Notes
    -----
    The number of filters is the smallest multiple of 4 (GroupNorm's groups) for which filters x output samples reach
    ``embed_dim``: 8, 16 and 32 for the official widths 200, 400 and 800, where the two are equal and the concatenated
    output is the token. At any other width a linear map follows.

    GroupNorm's statistics go over all channels and patches of a sample, as they do officially: leaving out a channel
    changes every token a little.
    """

    def __init__(
        self,
        embed_dim: int,
        patch_size: int = 200,
        *,
        input_scale: float = 100.0,
        activation: type[nn.Module] = nn.GELU,
    ) -> None:
        super().__init__()
        if not input_scale > 0:
            raise ValueError(f"input_scale must be positive, got {input_scale}.")
        n_out = (patch_size + 2 * _PADDING - _KERNEL) // _STRIDE + 1
        n_filters = _N_GROUPS * -(-embed_dim // (_N_GROUPS * n_out))
        self.input_scale = float(input_scale)
        self.conv1 = nn.Conv2d(1, n_filters, (1, _KERNEL), stride=(1, _STRIDE), padding=(0, _PADDING))
        self.norm1 = nn.GroupNorm(_N_GROUPS, n_filters)
        self.conv2 = nn.Conv2d(n_filters, n_filters, (1, 3), padding=(0, 1))
        self.norm2 = nn.GroupNorm(_N_GROUPS, n_filters)
        self.conv3 = nn.Conv2d(n_filters, n_filters, (1, 3), padding=(0, 1))
        self.norm3 = nn.GroupNorm(_N_GROUPS, n_filters)
        self.act = activation()
        self.proj = None if n_filters * n_out == embed_dim else nn.Linear(n_filters * n_out, embed_dim)

    def forward(self, patches: Tensor) -> Tensor:
        """Embed patches.

        Parameters
        ----------
        patches : Tensor, shape (batch, n_tokens, patch_size)
            Signal in microvolts.

        Returns
        -------
        tokens : Tensor, shape (batch, n_tokens, embed_dim)
            Tokens.
        """
        # Scaling 15 weights per filter is the same as scaling the signal, without a pass over it.
        weight = self.conv1.weight / self.input_scale
        x = F.conv2d(patches.unsqueeze(1), weight, self.conv1.bias, stride=(1, _STRIDE), padding=(0, _PADDING))
        x = self.act(self.norm1(x))
        x = self.act(self.norm2(self.conv2(x)))
        x = self.act(self.norm3(self.conv3(x)))
        # Filters vary fastest within a token: "batch filters tokens times -> batch tokens (times filters)".
        x = x.permute(0, 2, 3, 1).flatten(2)
        return x if self.proj is None else self.proj(x)


class PatchEmbedding(TemporalConv):
    """The temporal convolution, plus a linear map of the patch's log power spectrum where asked for.

    Parameters
    ----------
    embed_dim, patch_size : int
        Width of a token, samples in a patch.
    kind : {"conv", "conv+spectrum", "conv+periodogram"}
        ``"conv"`` is the official embedding. ``"conv+spectrum"`` is ours: with the spectrum at hand even an untrained
        encoder keeps band power, where the convolution alone loses most of it. ``"conv+periodogram"`` takes the
        spectrum without the Hann window: for a tokenizer, whose target is the plain transform, and whose codes can tell
        no more of it than the encoder sees.
    input_scale : float
        Microvolts per unit inside the convolution; the spectrum does not depend on it.
    sfreq : float
        Sampling rate in Hz, for the spectrum.
    band : tuple of float
        Lowest and highest frequency of the spectrum in Hz.
    activation : type of nn.Module
        Class of the activation.
    """

    def __init__(
        self,
        embed_dim: int,
        patch_size: int = 200,
        *,
        kind: str = "conv",
        input_scale: float = 100.0,
        sfreq: float = 200.0,
        band: tuple[float, float] = (1.0, 45.0),
        activation: type[nn.Module] = nn.GELU,
    ) -> None:
        if kind not in PATCH_EMBEDDINGS:
            raise ValueError(f"patch_embed must be one of {', '.join(map(repr, PATCH_EMBEDDINGS))}, got {kind!r}.")
        super().__init__(embed_dim, patch_size, input_scale=input_scale, activation=activation)
        self.spectrum = None
        if kind != "conv":
            self.spectrum = LogSpectrum(patch_size, sfreq, band, taper=kind == "conv+spectrum")
            self.spectrum_proj = nn.Linear(self.spectrum.n_bins, embed_dim)

    def forward(self, patches: Tensor) -> Tensor:
        """Embed patches.

        Parameters
        ----------
        patches : Tensor, shape (batch, n_tokens, patch_size)
            Signal in microvolts.

        Returns
        -------
        tokens : Tensor, shape (batch, n_tokens, embed_dim)
            Tokens.
        """
        tokens = super().forward(patches)
        if self.spectrum is not None:
            tokens = tokens + self.spectrum_proj(self.spectrum(patches).to(self.spectrum_proj.weight.dtype))
        return tokens
