"""A codebook of directions that follows what it codes."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mne_labram.nn.codebook import Codebook, check_codes, code_usage
from mne_labram.nn.distributed import broadcast, gather_rows, sum_over_processes
from mne_labram.nn.full_precision import without_autocast
from mne_labram.nn.kmeans import code_sums, kmeans, nearest_codes

__all__ = ["Quantized", "VectorQuantizer"]

# A code that no latent was nearest to for so many updates counts as dead.
_DEAD_AFTER = 50


class Quantized(NamedTuple):
    """What :class:`VectorQuantizer` returns.

    Parameters
    ----------
    vectors : Tensor of float32, shape (..., dim)
        Codes' vectors, with the gradient of the latents (straight through).
    codes : Tensor of int64, shape (...)
        Index of the nearest code.
    loss : Tensor, shape ()
        Commitment loss.
    """

    vectors: Tensor
    codes: Tensor
    loss: Tensor


class VectorQuantizer(Codebook):
    """Replace latents by the nearest of ``n_codes`` unit vectors.

    Parameters
    ----------
    n_codes, dim : int
        Size of the codebook.
    decay : float
        Weight of a code's old direction when it moves towards the mean of the latents that it codes.
    commitment : float
        Weight of the loss that keeps latents near their code.
    kmeans_init : bool
        Start from k-means on the first ``10 * n_codes`` latents seen in training. Until then latents pass unquantised.
        Otherwise, codes start as random directions.
    kmeans_iterations : int
        Iterations of k-means.
    warmup_steps : int
        Training steps before latents are collected for k-means, for an encoder that starts from nothing.
    revive_dead_codes : bool
        Replace a code that was not used for 50 updates by a latent of the current batch. The official code does not.
    seed : int
        Of the initial codes, k-means and revival.

    Attributes
    ----------
    codebook : Tensor, shape (n_codes, dim)
        Unit vectors. A buffer: it moves by averages, not by gradients.
    cluster_size : Tensor, shape (n_codes,)
        Exponential average of how many latents a code takes per batch.
    initialized : Tensor of bool, shape ()
        Whether codes are in use.

    Notes
    -----
    ``NormEMAVectorQuantizer`` of LaBraM, norm_ema_quantizer.py (Jiang et al. 2024, equations 7-9; van den Oord et al.
    2017, arXiv:1711.00937): latents and codes are scaled to unit length; the loss is ``commitment * mse(sg(c), z)``;
    a code that is hit moves to ``normalize(decay * c + (1 - decay) * normalize(mean(z)))``, one that is not stays.

    Everything happens in float32, under autocast and in a model of half precision too. Under torch.distributed, k-means
    and revival see the latents of all processes, in the order of the processes, and counts and sums are added over
    them. So a batch moves the codebook in the same way, however many processes share its windows.
    """

    codebook: Tensor
    cluster_size: Tensor
    initialized: Tensor
    steps_unused: Tensor
    n_steps: Tensor

    def __init__(
        self,
        n_codes: int,
        dim: int,
        *,
        decay: float = 0.99,
        commitment: float = 1.0,
        kmeans_init: bool = True,
        kmeans_iterations: int = 10,
        warmup_steps: int = 0,
        revive_dead_codes: bool = False,
        seed: int = 0,
    ) -> None:
        if n_codes < 2 or dim < 1:
            raise ValueError(f"A codebook needs at least 2 codes of 1 number, got {n_codes} of {dim}.")
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay must lie in [0, 1), got {decay}.")
        super().__init__(n_codes, seed=seed)
        self.dim = dim
        self.decay, self.commitment = decay, commitment
        self.kmeans_iterations, self.warmup_steps = kmeans_iterations, warmup_steps
        self.revive_dead_codes = revive_dead_codes
        codebook = F.normalize(torch.randn(n_codes, dim, generator=self._generator(0), device="cpu"), dim=1)
        self.register_buffer("codebook", codebook.to(torch.get_default_device()))
        self.register_buffer("cluster_size", torch.zeros(n_codes))
        self.register_buffer("initialized", torch.tensor(not kmeans_init))
        self.register_buffer("steps_unused", torch.zeros(n_codes, dtype=torch.long))
        self.register_buffer("n_steps", torch.zeros((), dtype=torch.long))

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the vectors of codes.

        Parameters
        ----------
        codes : Tensor of int, shape (...)
            Indices.

        Returns
        -------
        vectors : Tensor of float32, shape (..., dim)
            Unit vectors.

        Raises
        ------
        TypeError
            If the codes are not integers.
        ValueError
            If one is not in the codebook.
        """
        check_codes(codes, self.n_codes)
        return F.embedding(codes.long(), self.codebook)

    def forward(self, latents: Tensor) -> Quantized:
        """Quantise latents, and in training mode move the codebook.

        Parameters
        ----------
        latents : Tensor, shape (..., dim)
            Output of an encoder.

        Returns
        -------
        quantized : Quantized
            Vectors, codes and loss.
        """
        with without_autocast(latents.device):
            z = F.normalize(latents.float(), dim=-1)
            flat = z.detach().reshape(-1, self.dim)
            if self.training and not self._start(flat):
                codes = nearest_codes(flat, self.codebook).view(z.shape[:-1])
                return Quantized(z, codes, z.new_zeros(()))
            codes = nearest_codes(flat, self.codebook)
            vectors = F.embedding(codes, self.codebook).view_as(z)
            loss = self.commitment * F.mse_loss(z, vectors)
            if self.training:
                self._follow(flat, codes)
            return Quantized(z + (vectors - z).detach(), codes.view(z.shape[:-1]), loss)

    @torch.no_grad()
    def _start(self, latents: Tensor) -> bool:
        """Collect latents until k-means can be run; tell whether codes are in use."""
        if bool(self.initialized):
            return True
        self.n_steps += 1
        if int(self.n_steps) <= self.warmup_steps:
            return False
        collected = self._collect(latents)
        if collected is None:
            return False
        centres, counts = kmeans(
            collected, self.n_codes, n_iterations=self.kmeans_iterations, generator=self._generator(1), spherical=True
        )
        # The same latents gave the same centres everywhere, but for the order in which processors add.
        broadcast(centres, counts)
        self.codebook.copy_(centres)
        self.cluster_size.copy_(counts)
        self.steps_unused.zero_()
        self.initialized.fill_(True)
        return True

    @torch.no_grad()
    def _follow(self, latents: Tensor, codes: Tensor) -> None:
        """Move codes towards the latents that they coded."""
        self.n_steps += 1
        counts, sums = code_sums(latents, codes, self.n_codes)
        sum_over_processes(counts, sums)
        self.cluster_size.lerp_(counts, 1.0 - self.decay)
        moved = F.normalize(self.decay * self.codebook + (1.0 - self.decay) * F.normalize(sums, dim=1), dim=1)
        used = counts > 0
        self.codebook.copy_(torch.where(used.unsqueeze(1), moved, self.codebook))
        self.steps_unused.add_(1).masked_fill_(used, 0)
        if self.revive_dead_codes:
            self._revive(latents)

    def _revive(self, latents: Tensor) -> None:
        """Put codes that nothing was nearest to for long onto latents of this batch."""
        dead = torch.nonzero(self.steps_unused >= _DEAD_AFTER).flatten()
        # The same in all processes, so all of them gather, or none does.
        if not len(dead):
            return
        latents = gather_rows(latents)
        dead = dead[: len(latents)]
        chosen = torch.randperm(len(latents), generator=self._generator(int(self.n_steps) + 1))[: len(dead)]
        self.codebook[dead] = latents[chosen.to(latents.device)]
        broadcast(self.codebook)
        self.steps_unused[dead] = 0

    def usage(self, codes: Tensor | None = None) -> dict[str, float]:
        """Summarise how much of the codebook is used.

        Parameters
        ----------
        codes : Tensor of int | None
            Codes of a data set. ``None``: the running average over training batches since :meth:`reset_usage`.

        Returns
        -------
        usage : dict of str to float
            ``"n_codes"``, ``"n_used"`` (codes that occur), ``"fraction"`` (of the codebook) and ``"perplexity"``.
        """
        if codes is None:
            counts = self.cluster_size
        else:
            counts = torch.bincount(codes.flatten().long(), minlength=self.n_codes)
        return code_usage(counts)

    def reset_usage(self) -> None:
        """Forget which codes were used, as the official training does every epoch."""
        self.cluster_size.zero_()

    def extra_repr(self) -> str:
        """Show the size."""
        return f"n_codes={self.n_codes}, dim={self.dim}"
