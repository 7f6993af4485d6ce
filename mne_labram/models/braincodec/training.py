"""What a codec is trained by: losses of the signal, a discriminator, and the say that each of them has."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mne_labram.models.braincodec.coding import CodecPass
from mne_labram.models.braincodec.model import BrainCodec
from mne_labram.models.labram.inputs import batch_signal
from mne_labram.nn.codec_losses import N_FFTS, line_length_loss, spectral_loss
from mne_labram.nn.gradient_balancer import GradientBalancer
from mne_labram.nn.kmeans import perplexity
from mne_labram.nn.rounding import BIT_WORTH, gaussian_bits, round_with_dead_zone
from mne_labram.nn.spectrogram_discriminator import (
    SpectrogramDiscriminator,
    adversarial_loss,
    discriminator_loss,
    feature_matching_loss,
)

__all__ = ["BrainCodecForPretraining"]

_SIGNAL = ("l1", "l2", "line_length", "spectral")
_ADVERSARIAL = ("adversarial", "features")


class BrainCodecForPretraining(nn.Module):
    """A codec together with all that it is trained by, for :func:`mne_labram.training.pretrain.pretrain`.

    Parameters
    ----------
    codec : BrainCodec
        Trained in place.
    weights : mapping of str to float | None
        What each loss counts: ``"l1"`` and ``"l2"`` (mean absolute and mean squared error), ``"line_length"``,
        ``"spectral"``, ``"adversarial"`` and ``"features"``; what is left out is 0. The last two make a discriminator
        be trained beside. ``None``: ``{"l1": 1, "line_length": 0.25, "spectral": 0.25}``; the published weights are
        unknown.
    balance : bool
        Weights are shares of the gradient, whatever the magnitudes of the losses. Otherwise, losses are multiplied by
        them and added up.
    decay : float
        Of the averages that balancing needs.
    commitment : float
        What the quantiser's own loss counts, outside the balance, where all others together count as much as
        ``"l1"`` would alone.
    n_ffts : sequence of int
        Window lengths of the spectral loss in samples; those that are longer than the signal are left out.
    n_times : int | None
        Samples in a window of the training; needed for a discriminator.
    discriminator_n_ffts : sequence of int
        Window lengths of the discriminator; those above ``n_times`` are left out.
    discriminator_width : int
        Maps per layer of the discriminator.
    discriminator_lr : float
        Learning rate of the discriminator, as a multiple of the codec's.
    discriminator_start : int
        Training steps before the codec hears of the discriminator, which learns from the beginning.
    refinement : float
        What it counts, relative to a reconstruction loss, that latents which are rounded one by one, as the neural mode
        of :mod:`mne_labram.codec` does, give the signal back for few bits (:mod:`mne_labram.nn.rounding`).
    refinement_octaves : tuple of float
        Smallest and largest step of that rounding, as powers of two of the unit inside; drawn for every channel.

    Attributes
    ----------
    exported : BrainCodec
        The codec: what weights are written of.
    objective : dict
        The arguments above, as plain values.
    learning_rate_scales : dict of str to float
        Multiple of the learning rate of the parameters whose names begin so; their gradient is clipped by itself.

    Raises
    ------
    ValueError
        If a weight is unknown or negative, no loss of the signal has one, a discriminator is asked for without
        ``n_times`` or with a learning rate of 0, or a refinement is negative or its octaves are no ascending pair.

    Notes
    -----
    Carzaniga et al. 2025 (BrainCodec, utils/loss.py and train.py), whose losses are those of EnCodec (Défossez et al.
    2022, arXiv:2210.13438, section 3.4), with line length for mel spectra. Losses are computed in the unit inside the
    codec. Codec and discriminator take their steps at the same time, from one backward pass, by the same optimiser:
    the discriminator's loss sees the reconstruction detached, and what it says to the codec is taken as a gradient with
    respect to the reconstruction, in which the discriminator's own parameters have no part. The authors let the
    discriminator go first, with an optimiser of its own; this way it judges two batches per step instead of four, and
    gradient accumulation, several processes and checkpoints need nothing special.
    """

    n_steps: Tensor

    def __init__(
        self,
        codec: BrainCodec,
        *,
        weights: Mapping[str, float] | None = None,
        balance: bool = True,
        decay: float = 0.999,
        commitment: float = 1.0,
        n_ffts: Sequence[int] = N_FFTS,
        n_times: int | None = None,
        discriminator_n_ffts: Sequence[int] = (2048, 1024, 512, 256, 128),
        discriminator_width: int = 64,
        discriminator_lr: float = 1.0,
        discriminator_start: int = 0,
        refinement: float = 0.0,
        refinement_octaves: tuple[float, float] = (-3.5, 1.5),
    ) -> None:
        super().__init__()
        weights = {"l1": 1.0, "line_length": 0.25, "spectral": 0.25} if weights is None else weights
        if unknown := sorted(set(weights) - {*_SIGNAL, *_ADVERSARIAL}):
            raise ValueError(f"There is no loss {unknown[0]!r}; losses are {', '.join((*_SIGNAL, *_ADVERSARIAL))}.")
        if not any(weights.get(name, 0) > 0 for name in _SIGNAL):
            raise ValueError(f"At least one loss of the signal must count: {', '.join(_SIGNAL)}; got {dict(weights)}.")
        if not discriminator_lr > 0:
            raise ValueError(f"discriminator_lr must be positive, got {discriminator_lr}.")
        self.codec = codec
        self.balancer = GradientBalancer(weights, decay=decay)
        self.weights = {name: weight for name, weight in self.balancer.weights.items() if weight}
        self.balance, self.commitment, self.n_ffts = balance, commitment, tuple(n_ffts)
        self.discriminator_start = discriminator_start
        self.discriminator: SpectrogramDiscriminator | None = None
        if any(name in self.weights for name in _ADVERSARIAL):
            if n_times is None:
                raise ValueError("A discriminator must know how long windows are; give n_times.")
            self.discriminator = SpectrogramDiscriminator(
                discriminator_n_ffts, width=discriminator_width, n_times=n_times
            )
        octaves = tuple(refinement_octaves)
        if not 0 <= refinement < math.inf or len(octaves) != 2 or not -math.inf < octaves[0] <= octaves[1] < math.inf:
            raise ValueError(
                f"refinement must not be negative and its octaves must be an ascending pair, got {refinement} and "
                f"{refinement_octaves}."
            )
        self.refinement, self.refinement_octaves = float(refinement), octaves
        self.register_buffer("n_steps", torch.zeros((), dtype=torch.long))
        self.objective = {
            "weights": dict(self.weights),
            "balance": balance,
            "decay": decay,
            "commitment": commitment,
            "n_ffts": list(self.n_ffts),
        }
        self.learning_rate_scales: dict[str, float] = {}
        if refinement:
            self.objective |= {"refinement": self.refinement, "refinement_octaves": list(self.refinement_octaves)}
        if self.discriminator is not None:
            self.learning_rate_scales["discriminator."] = float(discriminator_lr)
            self.objective |= {
                "discriminator_n_ffts": list(self.discriminator.n_ffts),
                "discriminator_width": discriminator_width,
                "discriminator_lr": discriminator_lr,
                "discriminator_start": discriminator_start,
            }

    @property
    def exported(self) -> BrainCodec:
        """The codec."""
        return self.codec

    @property
    def quantizer(self) -> nn.Module:
        """The codec's quantiser, whose usage the training watches."""
        return self.codec.quantizer

    def codebook_usage(self) -> list[dict[str, float]]:
        """Summarise how much of every codebook was used since the last ``quantizer.reset_usage()``.

        Returns
        -------
        usage : list of dict of str to float
            As :meth:`BrainCodec.codebook_usage`.
        """
        return self.codec.codebook_usage()

    def training_step(self, batch: Any) -> dict[str, Tensor]:
        """Compute the losses of a batch; in training mode, move codebooks and averages.

        Parameters
        ----------
        batch : Tensor | sequence | mapping
            As :meth:`BrainCodec.training_step`.

        Returns
        -------
        losses : dict of str to Tensor
            ``"loss"``: its gradient, in training mode, is the mixture of all that the codec learns from and, for its
            own parameters, the discriminator's; no number has this gradient when losses are balanced, so that its value
            is ``"prd" / 100``. ``"prd"``: percent root mean square difference in the unit inside, mean over channels.
            ``"<name>_loss"`` of each loss that counts, ``"commitment_loss"``, ``"discriminator_loss"``,
            ``"codebook_perplexity"`` and ``"codebook_used"`` (means over the codebooks, in this batch) and
            ``"codebook_initialized"``; all of these without gradient.

        Raises
        ------
        ValueError
            If the batch does not fit the codec or the discriminator.
        """
        done = self.codec._run(self.codec._checked(batch_signal(batch)[0]))
        # Every channel of every window is an item.
        given, wanted = (signal.flatten(0, 1).float() for signal in (done.given, done.wanted.detach()))
        learns = self.training and torch.is_grad_enabled()
        # Losses are differentiated up to here, and what is made of that goes on through the codec.
        at = given.detach().requires_grad_(learns)
        losses = self._signal_losses(at, wanted)
        total = self.commitment * done.quantized.loss
        out = {}
        if self.refinement:
            out["rounding_loss"] = self._rounding(done)
            # Its gradient counts the same whatever the step: the loss spans orders of magnitude.
            total = total + self.refinement * out["rounding_loss"] / out["rounding_loss"].detach().clamp_min(1e-6)
        if self.discriminator is not None:
            true, false = self.discriminator(wanted), self.discriminator(at)
            out["discriminator_loss"] = discriminator_loss(true, false)
            total = total + out["discriminator_loss"]
            losses |= {"adversarial": adversarial_loss(false), "features": feature_matching_loss(true, false)}
            losses = {name: loss for name, loss in losses.items() if name in self.weights}
        if learns:
            total = total + (given * self._gradient(losses, at)).sum()
            self.n_steps += 1
        with torch.no_grad():
            power = wanted.square().sum(dim=1).clamp_min(1e-6)
            prd = 100.0 * ((given - wanted).square().sum(dim=1) / power).sqrt().mean()
            usage = self._usage(done.quantized.codes)
        out |= {f"{name}_loss": loss for name, loss in losses.items()}
        out["commitment_loss"] = done.quantized.loss
        return {
            "loss": prd / 100.0 + (total - total.detach()),
            "prd": prd,
            **{name: loss.detach() for name, loss in out.items()},
            **usage,
            "codebook_initialized": self.quantizer.initialized.float(),
        }

    def _rounding(self, done: CodecPass) -> Tensor:
        """Round latents with steps that are drawn, and compare what is decoded."""
        low, high = self.refinement_octaves
        octaves = low + (high - low) * torch.rand(done.latents.shape[:2], device=done.latents.device)
        step = 2.0 ** octaves[..., None, None]
        latents = done.latents.float()
        rounded = latents + (round_with_dead_zone(latents / step) * step - latents).detach()
        given = self.codec._signal(rounded, done.wanted.shape[2]).float()
        error = (given - done.wanted.float()).square().sum(dim=2) / step[..., 0, 0].square()
        return ((error + BIT_WORTH * gaussian_bits(latents / step)) / done.wanted.shape[2]).mean()

    def _signal_losses(self, given: Tensor, wanted: Tensor) -> dict[str, Tensor]:
        """Compute those losses of two signals, shape (n, n_times), that count."""
        losses = {
            "l1": lambda: F.l1_loss(given, wanted),
            "l2": lambda: F.mse_loss(given, wanted),
            "line_length": lambda: line_length_loss(given, wanted),
            "spectral": lambda: spectral_loss(given, wanted, n_ffts=self.n_ffts),
        }
        return {name: loss() for name, loss in losses.items() if name in self.weights}

    def _gradient(self, losses: dict[str, Tensor], at: Tensor) -> Tensor:
        """Mix the gradients of losses with respect to the reconstruction."""
        if int(self.n_steps) < self.discriminator_start:
            losses = {name: loss for name, loss in losses.items() if name in _SIGNAL}
        if self.balance:
            # Together they pull as hard as a mean absolute error would alone, so that the quantiser's own loss has the
            # same say however long windows are.
            return self.balancer(losses, at) / math.sqrt(at.shape[1])
        weighted = sum(self.weights[name] * loss for name, loss in losses.items())
        return torch.autograd.grad(weighted, at, retain_graph=True)[0]

    def _usage(self, codes: Tensor) -> dict[str, Tensor]:
        """Average over codebooks how much of each a batch uses."""
        n_codes = self.quantizer.codebook_size
        counts = [torch.bincount(c[c >= 0], minlength=n_codes) for c in codes.flatten(0, -2).unbind(dim=-1)]
        return {
            "codebook_perplexity": torch.stack([perplexity(each) for each in counts]).mean(),
            "codebook_used": torch.stack([(each > 0).float().mean() for each in counts]).mean(),
        }

    def extra_repr(self) -> str:
        """Show the weights."""
        return f"weights={self.weights}, balance={self.balance}"
