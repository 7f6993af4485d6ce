"""What Gram's encoder has to tell of the patches that it sees: their spectra."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mne_labram.nn.full_precision import without_autocast
from mne_labram.nn.spectra import SpectralTarget

__all__ = ["MIMICS", "MimicTarget"]

#: Accepted by ``mimic=``.
MIMICS = ("amplitude", "log_amplitude")
# Added to the variance in a z-score (Gram, model/modeling_Gram.py).
_EPS = 1e-5


class MimicTarget(nn.Module):
    """Spectra of patches as a target.

    Parameters
    ----------
    kind : {"amplitude", "log_amplitude"}
        ``"amplitude"``: magnitudes of the whole Fourier transform; they and the prediction are z-scored in each patch
        before they are compared, so that level does not count (Gram, model/modeling_Gram.py). ``"log_amplitude"``
        (ours): log magnitudes of 1-45 Hz, z-scored per bin with statistics of the training data.
    patch_size : int
        Samples in a patch.
    sfreq : float
        Sampling rate in Hz.
    input_scale : float
        Microvolts per unit of the magnitudes; officially 100. The z-score adds 1e-5 to a variance in this unit, so that
        patches that are all but flat count for little.
    """

    def __init__(
        self, kind: str = "amplitude", patch_size: int = 200, *, sfreq: float = 200.0, input_scale: float = 100.0
    ) -> None:
        super().__init__()
        if kind not in MIMICS:
            raise ValueError(f"mimic must be one of {', '.join(map(repr, MIMICS))}, got {kind!r}.")
        self.kind, self.input_scale = kind, float(input_scale)
        self.spectrum = None
        if kind == "log_amplitude":
            band = (1.0, min(45.0, sfreq / 2))
            self.spectrum = SpectralTarget("log_amplitude", patch_size, sfreq=sfreq, band=band)
        self.n_bins = patch_size if self.spectrum is None else self.spectrum.parts["log_amplitude"]

    @property
    def hidden_too(self) -> bool:
        """Whether the spectra of hidden patches are predicted too; ours are, because they hold the level."""
        return self.spectrum is not None

    def update(self, patches: Tensor) -> None:
        """Move the running statistics towards those of a batch.

        Parameters
        ----------
        patches : Tensor, shape (batch, n_chans, n_patches, patch_size)
            Signal in microvolts.
        """
        if self.spectrum is not None:
            self.spectrum.update(patches)

    @torch.no_grad()
    def forward(self, patches: Tensor) -> Tensor:
        """Compute the target.

        Parameters
        ----------
        patches : Tensor, shape (batch, n_chans, n_patches, patch_size)
            Signal in microvolts.

        Returns
        -------
        spectra : Tensor of float32, shape (batch, n_chans, n_patches, n_bins)
            Normalised.
        """
        if self.spectrum is not None:
            return self.spectrum(patches)["log_amplitude"]
        with without_autocast(patches.device):
            return _z_score(torch.fft.fft(patches.float() / self.input_scale, dim=-1).abs())

    def loss(self, predicted: Tensor, wanted: Tensor) -> Tensor:
        """Compare.

        Parameters
        ----------
        predicted, wanted : Tensor, shape (n, n_bins)
            Of a head, and of :meth:`forward`.

        Returns
        -------
        loss : Tensor, shape ()
            Mean squared error; 0 for no patch at all.
        """
        predicted = predicted.float() if self.spectrum is not None else _z_score(predicted.float())
        return F.mse_loss(predicted, wanted, reduction="sum") / max(wanted.numel(), 1)


def _z_score(values: Tensor) -> Tensor:
    """Z-score every row."""
    return F.layer_norm(values, values.shape[-1:], eps=_EPS)
