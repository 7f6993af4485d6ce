"""A judge of spectrograms at several resolutions, and what is learned from its verdicts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mne_labram.nn.codec_losses import magnitudes
from mne_labram.nn.weight_norm import WeightNormConv2d

__all__ = [
    "SpectrogramDiscriminator",
    "Verdict",
    "adversarial_loss",
    "discriminator_loss",
    "feature_matching_loss",
]

# Kernel and stride over (frequency, time) of each layer (BrainCodec, models/discriminators.py; UnivNet, Jang et al.
# 2021, arXiv:2106.07889; Vocos, Siuzdak 2023, arXiv:2306.00814).
_LAYERS = (((7, 5), (2, 2)), ((5, 3), (2, 1)), ((5, 3), (2, 2)), ((3, 3), (2, 1)), ((3, 3), (2, 2)))
_SLOPE = 0.1

#: Of each resolution: scores, shape (batch, n_bands, n_frames), and the feature maps of all layers.
Verdict = list[tuple[Tensor, list[Tensor]]]


class _Resolution(nn.Module):
    """Convolutions over the magnitudes of one spectrogram."""

    def __init__(self, n_fft: int, width: int) -> None:
        super().__init__()
        self.n_fft = n_fft
        self.layers = nn.ModuleList(
            WeightNormConv2d(width if i else 1, width, kernel, stride, padding=(kernel[0] // 2, kernel[1] // 2))
            for i, (kernel, stride) in enumerate(_LAYERS)
        )
        self.last = WeightNormConv2d(width, 1, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        maps = []
        x = magnitudes(x, self.n_fft).unsqueeze(1)
        for layer in self.layers:
            x = F.leaky_relu(layer(x), _SLOPE)
            maps.append(x)
        scores = self.last(x)
        return scores.squeeze(1).float(), [*maps, scores]


class SpectrogramDiscriminator(nn.Module):
    """Tell true signals from reconstructed ones by their spectrograms.

    Parameters
    ----------
    n_ffts : sequence of int
        Window lengths in samples, one set of convolutions for each; the published ones by default.
    width : int
        Maps per layer.
    n_times : int | None
        Length of the signals; window lengths above it are left out.

    Attributes
    ----------
    n_ffts : tuple of int
        Window lengths in use.

    Raises
    ------
    ValueError
        If no window length is left, or one is below 16.

    Notes
    -----
    BrainCodec, models/discriminators.py: five layers of weight-normalised convolutions over magnitudes for each
    resolution, 1,000,330 parameters with the defaults.
    """

    def __init__(
        self, n_ffts: Sequence[int] = (2048, 1024, 512, 256, 128), *, width: int = 64, n_times: int | None = None
    ) -> None:
        super().__init__()
        self.n_ffts = tuple(int(n_fft) for n_fft in n_ffts if n_times is None or n_fft <= n_times)
        if not self.n_ffts or min(self.n_ffts) < 16:
            length = "" if n_times is None else f" for signals of {n_times} samples"
            raise ValueError(f"A discriminator needs windows of at least 16 samples{length}, got {tuple(n_ffts)}.")
        self.resolutions = nn.ModuleList(_Resolution(n_fft, width) for n_fft in self.n_ffts)

    def forward(self, x: Tensor) -> Verdict:
        """Judge signals.

        Parameters
        ----------
        x : Tensor, shape (batch, n_times)
            Signals, true or not.

        Returns
        -------
        verdict : list of tuple
            For each resolution scores, shape (batch, n_bands, n_frames), high for true signals, and feature maps, each
            of shape (batch, width, n_bands, n_frames).

        Raises
        ------
        ValueError
            If the signals are shorter than the longest window.
        """
        if x.shape[-1] < max(self.n_ffts):
            raise ValueError(
                f"Signals of {x.shape[-1]} samples are shorter than the longest window of the discriminator "
                f"({max(self.n_ffts)}); build it with n_times={x.shape[-1]}."
            )
        return [resolution(x) for resolution in self.resolutions]


def discriminator_loss(true: Verdict, false: Verdict) -> Tensor:
    """Compute what a discriminator learns from.

    Parameters
    ----------
    true, false : list of tuple
        Its verdicts on true and on reconstructed signals.

    Returns
    -------
    loss : Tensor, shape ()
        Sum over resolutions of ``mean(relu(1 - D(x))) + mean(relu(1 + D(x_hat)))``, the hinge loss (Lim and Ye 2017,
        arXiv:1705.02894; BrainCodec, utils/loss.py).
    """
    return sum(
        F.relu(1.0 - yes).mean() + F.relu(1.0 + no).mean() for (yes, _), (no, _) in zip(true, false, strict=True)
    )


def adversarial_loss(false: Verdict) -> Tensor:
    """Compute what a decoder learns from: to be taken for true.

    Parameters
    ----------
    false : list of tuple
        Verdict on reconstructed signals.

    Returns
    -------
    loss : Tensor, shape ()
        Sum over resolutions of ``mean(relu(1 - D(x_hat)))`` (BrainCodec, utils/loss.py).
    """
    return sum(F.relu(1.0 - scores).mean() for scores, _ in false)


def feature_matching_loss(true: Verdict, false: Verdict) -> Tensor:
    """Compute how different the discriminator finds two signals inside.

    Parameters
    ----------
    true, false : list of tuple
        Verdicts on true and on reconstructed signals; gradients go to the second only.

    Returns
    -------
    loss : Tensor, shape ()
        Mean over resolutions and layers of ``mean|f - f_hat| / mean|f|`` (EnCodec, Défossez et al. 2022,
        arXiv:2210.13438, equation 2).
    """
    terms = []
    for (_, wanted), (_, got) in zip(true, false, strict=True):
        for one, two in zip(wanted, got, strict=True):
            one = one.detach().float()
            terms.append((one - two.float()).abs().mean() / one.abs().mean().clamp_min(1e-9))
    return torch.stack(terms).mean()
