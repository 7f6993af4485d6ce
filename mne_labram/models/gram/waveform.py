"""What a tokenizer of waveforms reconstructs of a patch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mne_labram.nn.spectra import SpectralTarget

__all__ = ["PATCH_TARGETS", "PatchTarget"]

#: Accepted by ``target=``.
PATCH_TARGETS = ("signal", "signal+spectrum", "log_amplitude")
# Smallest divisor of a normalisation.
_TINY = 1e-6


class PatchTarget(nn.Module):
    """The patch's waveform up to its amplitude, its log spectrum with the amplitude, or both.

    Parameters
    ----------
    kind : {"signal", "signal+spectrum", "log_amplitude"}
        ``"signal"`` is official: the direction of the patch as a vector, so that amplitude is not represented (Gram,
        model/modeling_vqkd.py, rec_loss cosine). ``"signal+spectrum"`` adds the log magnitudes within ``band``, in
        microvolts, and so the amplitude. ``"log_amplitude"`` has these alone: they say more of the state of the brain
        than the waveform does, but no signal can be computed from them.
    patch_size : int
        Samples in a patch.
    sfreq : float
        Sampling rate in Hz.
    band : tuple of float
        Lowest and highest frequency of the log magnitudes in Hz.

    Attributes
    ----------
    parts : dict of str to int
        Name and number of values of each part, in the order of the model's output.
    """

    def __init__(
        self, kind: str = "signal", patch_size: int = 200, *, sfreq: float = 200.0, band: tuple[float, float]
    ) -> None:
        super().__init__()
        if kind not in PATCH_TARGETS:
            raise ValueError(f"target must be one of {', '.join(map(repr, PATCH_TARGETS))}, got {kind!r}.")
        self.kind, self.patch_size = kind, patch_size
        self.parts = {} if kind == "log_amplitude" else {"signal": patch_size}
        self.spectrum = None
        if kind != "signal":
            self.spectrum = SpectralTarget("log_amplitude", patch_size, sfreq=sfreq, band=band)
            self.parts |= self.spectrum.parts

    def must_hold_signal(self) -> None:
        """Refuse to compute a signal from what holds none.

        Raises
        ------
        ValueError
            If the target is ``"log_amplitude"``.
        """
        if "signal" not in self.parts:
            raise ValueError(
                f"Codes trained on {self.kind!r} hold no waveform, so no signal can be computed from them; train with "
                "target='signal' or 'signal+spectrum' to decode."
            )

    def update(self, patches: Tensor) -> None:
        """Move the running statistics towards those of a batch.

        Parameters
        ----------
        patches : Tensor, shape (batch, n_chans, n_patches, patch_size)
            Signal in microvolts.
        """
        if self.spectrum is not None:
            self.spectrum.update(patches)

    def losses(self, parts: dict[str, Tensor], patches: Tensor) -> dict[str, Tensor]:
        """Compare a reconstruction with what it should be.

        Parameters
        ----------
        parts : dict of str to Tensor, shape (batch, n_chans, n_patches, n_values)
            What a model put out.
        patches : Tensor, shape (batch, n_chans, n_patches, patch_size)
            Signal in microvolts.

        Returns
        -------
        losses : dict of str to Tensor
            ``"signal_loss"``: 1 - cosine; ``"log_amplitude_loss"``: mean squared error.
        """
        losses = {}
        if "signal" in self.parts:
            losses["signal_loss"] = 1.0 - F.cosine_similarity(parts["signal"].float(), patches.float(), dim=-1).mean()
        if self.spectrum is not None:
            wanted = self.spectrum(patches)["log_amplitude"]
            losses["log_amplitude_loss"] = F.mse_loss(parts["log_amplitude"].float(), wanted)
        return losses

    def invert(self, parts: dict[str, Tensor], gain: Tensor | None = None) -> Tensor:
        """Compute the signal.

        Parameters
        ----------
        parts : dict of str to Tensor, shape (batch, n_chans, n_patches, n_values)
            What a model put out.
        gain : Tensor, shape (batch, n_chans) or (batch, n_chans, n_patches) | None
            Root mean square of the patches in microvolts.

        Returns
        -------
        patches : Tensor of float32, shape (batch, n_chans, n_patches, patch_size)
            In microvolts; without ``gain`` and spectrum as the model put them out.

        Raises
        ------
        ValueError
            If the target holds no waveform.
        """
        self.must_hold_signal()
        shape = parts["signal"].float()
        if gain is None and self.spectrum is None:
            return shape
        if gain is None:
            gain = self._level(parts["log_amplitude"].float())
        elif gain.ndim == 2:
            gain = gain.unsqueeze(2)
        rms = shape.square().mean(dim=-1, keepdim=True).sqrt()
        return shape * (gain.to(shape).unsqueeze(-1) / rms.clamp_min(_TINY))

    def _level(self, spectrum: Tensor) -> Tensor:
        """Root mean square in microvolts of the signal that has these magnitudes.

        By Parseval's theorem: every bin stands for two conjugate ones, and what is outside the band counts as nothing.
        """
        magnitudes = torch.exp(spectrum * self.spectrum.std + self.spectrum.mean)
        return (2.0 * magnitudes.square().sum(dim=-1)).sqrt() / self.patch_size
