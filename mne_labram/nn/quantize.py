"""Residual vector quantisation: each codebook codes what those before it have left over."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mne_labram.nn.codebook import Codebook, check_codes, code_usage
from mne_labram.nn.distributed import broadcast, gather_rows, rows_before, sum_over_processes
from mne_labram.nn.full_precision import without_autocast
from mne_labram.nn.kmeans import code_sums, kmeans, nearest_codes
from mne_labram.nn.residual_search import search_codes
from mne_labram.nn.weight_norm import WeightNormLinear

__all__ = ["ResidualQuantized", "ResidualVectorQuantizer"]

# Laplace smoothing of cluster sizes (EnCodec, core_vq.py).
_SMOOTHING = 1e-5
# A code is not dead while it takes this part of an equal share. In a small batch every code takes less than any
# absolute threshold, and all would be replaced all the time.
_SHARE_OF_THE_LIVING = 0.25


class ResidualQuantized(NamedTuple):
    """What :class:`ResidualVectorQuantizer` returns.

    Parameters
    ----------
    vectors : Tensor of float32, shape (..., dim)
        Sum of the codes' vectors, with the gradient of the latents (straight through).
    codes : Tensor of int64, shape (..., n_codebooks)
        One code per codebook; -1 where drop-out left a codebook out.
    loss : Tensor, shape ()
        Mean of ``losses``.
    losses : Tensor, shape (n_codebooks,)
        Weighted commitment loss of each codebook, and in the factorised variant the codebook's own.
    """

    vectors: Tensor
    codes: Tensor
    loss: Tensor
    losses: Tensor


class ResidualVectorQuantizer(Codebook):
    """Replace latents by a sum of codes, one of each codebook.

    Parameters
    ----------
    dim : int
        Size of the latents.
    n_codebooks : int
        Codebooks, that is, stages.
    codebook_size : int
        Codes in each.
    codebook_dim : int | None
        ``None``: codes live in the space of the latents and follow them by moving averages, as in EnCodec. A number:
        every codebook has its own projections, with weight normalisation, into and out of a space of so few
        dimensions, and its codes are learned by gradient, as in DAC.
    cosine : bool
        Look codes up by direction; only with ``codebook_dim``.
    decay : float
        Of the moving averages.
    commitment : float | None
        Weight of the loss that keeps latents near their codes. ``None``: 1, or 0.25 with ``codebook_dim``.
    kmeans_init : bool
        Start from k-means on the first ``10 * codebook_size`` latents seen in training, each codebook on what the one
        before has left over. Until then latents pass unquantised. Otherwise, codes start at random.
    kmeans_iterations : int
        Iterations of k-means.
    dead_code_threshold : float
        Codes that take fewer latents per batch than this (by the moving average) are put onto latents of the batch. It
        is capped at a quarter of an equal share of the batch. 0: never.
    quantizer_dropout : float
        Share of the samples of a training batch that use a random number of codebooks, so that the first few make sense
        alone. A sample is a row of the first dimension.
    seed : int
        Of the initial codes, k-means, revival and drop-out.

    Attributes
    ----------
    codebooks : Tensor, shape (n_codebooks, codebook_size, codebook_dim or dim)
        Codes: a buffer that moves by averages, or with ``codebook_dim`` a parameter.
    cluster_size : Tensor, shape (n_codebooks, codebook_size)
        Moving average of how many latents a code takes per batch.
    code_totals : Tensor, shape of ``codebooks``
        Moving average of the sum of these latents; not with ``codebook_dim``.
    counts : Tensor of int64, shape (n_codebooks, codebook_size)
        How often each code was used in training since :meth:`reset_usage`.
    initialized : Tensor of bool, shape ()
        Whether codes are in use.
    n_steps : Tensor of int64, shape ()
        Training steps so far.

    Raises
    ------
    ValueError
        If a size or a share is out of range, or ``cosine`` comes without ``codebook_dim``.

    Notes
    -----
    Plain: EnCodec's quantiser (Défossez et al. 2022, arXiv:2210.13438, section 3.2; core_vq.py). The codes are
    ``code_totals / smoothed``, where cluster sizes are smoothed by Laplace's rule with 1e-5; the loss of a codebook is
    ``mse(residual, sg(code))``. Two things differ. The residual is detached from the gradient, so that every codebook
    has a commitment loss (there, all but the first have gradient 0); and a revived code takes its average with it
    (there, the next update moves it back).

    Factorised: DAC's (Kumar et al. 2023, arXiv:2306.06546, section 3.2; quantize.py): the loss is
    ``0.25 * mse(projected, sg(code)) + mse(sg(projected), code)``. DAC adds the losses of codebooks up; here, as in
    EnCodec, the mean is taken. Drop-out of codebooks is DAC's too.

    A code's vector is its row of :meth:`tables`; :meth:`forward`, :meth:`encode` and :meth:`lookup` all add up the same
    rows in the same order. Everything happens in float32, under autocast and in a model of half precision too. Under
    torch.distributed, a batch moves the codebooks in the same way however many processes share it: k-means, revival
    and drop-out see the samples of all, in the order of the processes, and counts and sums are added over them.
    """

    codebooks: Tensor
    cluster_size: Tensor
    code_totals: Tensor
    counts: Tensor
    n_steps: Tensor

    def __init__(
        self,
        dim: int,
        *,
        n_codebooks: int = 4,
        codebook_size: int = 256,
        codebook_dim: int | None = None,
        cosine: bool = False,
        decay: float = 0.99,
        commitment: float | None = None,
        kmeans_init: bool = True,
        kmeans_iterations: int = 50,
        dead_code_threshold: float = 2.0,
        quantizer_dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        if dim < 1 or n_codebooks < 1 or codebook_size < 2 or (codebook_dim is not None and codebook_dim < 1):
            raise ValueError(
                "A residual quantiser needs at least 1 codebook of 2 codes of 1 number, got "
                f"{n_codebooks} of {codebook_size} of {dim if codebook_dim is None else codebook_dim}."
            )
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay must lie in [0, 1), got {decay}.")
        if not 0.0 <= quantizer_dropout <= 1.0:
            raise ValueError(f"quantizer_dropout must lie in [0, 1], got {quantizer_dropout}.")
        if cosine and codebook_dim is None:
            raise ValueError("cosine looks codes up by direction, which loses their length; give codebook_dim too.")
        super().__init__(codebook_size, seed=seed)
        self.dim, self.n_codebooks, self.codebook_size = dim, n_codebooks, codebook_size
        self.codebook_dim, self.cosine, self.decay = codebook_dim, cosine, decay
        self.commitment = (1.0 if codebook_dim is None else 0.25) if commitment is None else commitment
        self.kmeans_iterations, self.dead_code_threshold = kmeans_iterations, dead_code_threshold
        self.quantizer_dropout = quantizer_dropout
        shape = (n_codebooks, codebook_size, dim if codebook_dim is None else codebook_dim)
        codebooks = torch.randn(shape, generator=self._generator(0), device="cpu").to(torch.get_default_device())
        if codebook_dim is None:
            self.register_buffer("codebooks", codebooks)
            self.register_buffer("code_totals", codebooks.clone())
        else:
            self.codebooks = nn.Parameter(codebooks)
            self.project_in = nn.ModuleList(WeightNormLinear(dim, codebook_dim) for _ in range(n_codebooks))
            self.project_out = nn.ModuleList(WeightNormLinear(codebook_dim, dim) for _ in range(n_codebooks))
        self.register_buffer("cluster_size", torch.ones(shape[:2]))
        self.register_buffer("counts", torch.zeros(shape[:2], dtype=torch.long))
        self.register_buffer("initialized", torch.tensor(not kmeans_init))
        self.register_buffer("n_steps", torch.zeros((), dtype=torch.long))

    def tables(self) -> list[Tensor]:
        """Return what each code adds.

        Returns
        -------
        tables : list of Tensor, each of shape (codebook_size, dim)
            One per codebook.
        """
        if self.codebook_dim is None:
            return list(self.codebooks)
        with without_autocast(self.codebooks.device):
            # Of a copy: codes are revived before the backward pass, which still needs those of the forward pass.
            return [project(codes) for project, codes in zip(self.project_out, self.codebooks.clone(), strict=True)]

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the sum of the codes' vectors.

        Parameters
        ----------
        codes : Tensor of int, shape (..., n)
            Codes of the first ``n`` codebooks.

        Returns
        -------
        vectors : Tensor of float32, shape (..., dim)
            Their sum.

        Raises
        ------
        TypeError
            If the codes are not integers.
        ValueError
            If one is not in its codebook, or there are more than there are codebooks.
        """
        if codes.ndim < 1:
            raise ValueError("Codes need a last dimension, of one code per codebook, but these have none.")
        n_codebooks = self._checked(codes.shape[-1])
        check_codes(codes, self.codebook_size)
        tables = self.tables()
        return sum(F.embedding(codes[..., i].long(), tables[i]) for i in range(n_codebooks))

    @torch.no_grad()
    def encode(self, latents: Tensor, n_codebooks: int | None = None, *, n_candidates: int = 1) -> Tensor:
        """Code latents; changes nothing, in training mode either.

        Parameters
        ----------
        latents : Tensor, shape (..., dim)
            Output of an encoder.
        n_codebooks : int | None
            Codebooks to use, the first ones. ``None``: all.
        n_candidates : int
            1: each codebook in turn takes its nearest code, so that codes of fewer codebooks are a prefix of those of
            more. More: so many of the best sums are kept from codebook to codebook (beam search), and the best is
            taken at the end; its squared error is never above that of 1, but its prefixes may be poor.

        Returns
        -------
        codes : Tensor of int64, shape (..., n_codebooks)
            One code per codebook.

        Raises
        ------
        ValueError
            If the latents have another size, there are fewer codebooks than asked for, or no candidates.
        """
        n_codebooks = self._checked(n_codebooks)
        if n_candidates < 1:
            raise ValueError(f"n_candidates must be at least 1, got {n_candidates}.")
        with without_autocast(latents.device):
            z = self._rows(latents)
            tables = self.tables()[:n_codebooks]
            residual, greedy = z, []
            for i, table in enumerate(tables):
                greedy.append(self._nearest(self._inside(i, residual), i))
                residual = residual - F.embedding(greedy[-1], table)
            codes = torch.stack(greedy, dim=1)
            if n_candidates > 1:
                codes = search_codes(z, torch.stack(tables), codes, n_candidates=n_candidates)
            return codes.view(*latents.shape[:-1], n_codebooks)

    def forward(self, latents: Tensor, n_codebooks: int | None = None) -> ResidualQuantized:
        """Quantise latents, and in training mode move the codebooks.

        Parameters
        ----------
        latents : Tensor, shape (..., dim)
            Output of an encoder.
        n_codebooks : int | None
            Codebooks to use, the first ones. ``None``: all, but for drop-out in training.

        Returns
        -------
        quantized : ResidualQuantized
            Vectors, codes and losses.

        Raises
        ------
        ValueError
            If the latents have another size, or there are fewer codebooks than asked for.
        """
        n_used = self._checked(n_codebooks)
        with without_autocast(latents.device):
            z = self._rows(latents)
            if self.training:
                self.n_steps += 1
                if not self._start(z.detach()):
                    codes = self.encode(z, n_used).view(*latents.shape[:-1], n_used)
                    losses = z.new_zeros(n_used)
                    return ResidualQuantized(z.view(latents.shape), codes, losses.sum(), losses)
            depths = self._draw_depths(latents) if self.training and n_codebooks is None else None
            vectors, codes, losses = self._quantize(z, n_used, depths)
            return ResidualQuantized(
                vectors.view(latents.shape), codes.view(*latents.shape[:-1], n_used), losses.mean(), losses
            )

    def _rows(self, latents: Tensor) -> Tensor:
        """Return latents as float32, shape (n, dim)."""
        if latents.shape[-1:] != (self.dim,):
            raise ValueError(f"Latents must have {self.dim} numbers in the last dimension, got {tuple(latents.shape)}.")
        return latents.float().reshape(-1, self.dim)

    def _checked(self, n_codebooks: int | None) -> int:
        if n_codebooks is None:
            return self.n_codebooks
        if not 1 <= n_codebooks <= self.n_codebooks:
            raise ValueError(
                f"There are {self.n_codebooks} codebooks: use between 1 and all of them, not {n_codebooks}."
            )
        return int(n_codebooks)

    def _inside(self, stage: int, vectors: Tensor) -> Tensor:
        """Bring vectors, shape (n, dim), into the space of a codebook."""
        return vectors if self.codebook_dim is None else self.project_in[stage](vectors)

    def _nearest(self, inside: Tensor, stage: int) -> Tensor:
        """Find the nearest codes, shape (n,), of vectors in the space of a codebook."""
        codes = self.codebooks[stage].detach()
        # Among unit vectors the nearest is the one of the largest cosine, whatever the length of what is coded.
        return nearest_codes(inside.detach(), F.normalize(codes, dim=1) if self.cosine else codes)

    def _draw_depths(self, latents: Tensor) -> Tensor | None:
        """Draw how many codebooks each row of the latents uses, shape (n,); None: all use all."""
        if not self.quantizer_dropout:
            return None
        n_samples = len(latents) if latents.ndim > 1 else 1
        first, n_all = rows_before(n_samples, latents.device)
        generator = self._generator(self._draw(0))
        fewer = torch.rand(n_all, generator=generator, device="cpu") < self.quantizer_dropout
        depths = torch.randint(1, self.n_codebooks + 1, (n_all,), generator=generator, device="cpu")
        depths = torch.where(fewer, depths, self.n_codebooks)[first : first + n_samples].to(latents.device)
        n_rows = latents.numel() // self.dim
        return depths.repeat_interleave(n_rows // n_samples) if n_samples else depths

    def _draw(self, purpose: int) -> int:
        """Tell apart what is drawn in a step: 0 is the drop-out, 1 and on are the codebooks."""
        return int(self.n_steps) * (self.n_codebooks + 1) + purpose

    def _quantize(self, z: Tensor, n_used: int, depths: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Go through the codebooks: sum, shape (n, dim), codes, shape (n, n_used), and losses, shape (n_used,)."""
        tables = self.tables()[:n_used]
        total, residual = torch.zeros_like(z), z
        all_codes, losses = [], []
        for i, table in enumerate(tables):
            inside = self._inside(i, residual)
            codes = self._nearest(inside, i)
            chosen, added = F.embedding(codes, self.codebooks[i]), F.embedding(codes, table)
            error = self.commitment * (inside - chosen.detach()).square()
            if self.codebook_dim is not None:
                error = error + (inside.detach() - chosen).square()
                # Adds exactly zero, and gives the projection inwards the gradient of the code that it chose.
                added = added + F.linear(inside - inside.detach(), self.project_out[i].normalized())
            present = None if depths is None else depths > i
            if present is not None:
                error, added = error * present.unsqueeze(1), added * present.unsqueeze(1)
            # The mean over all rows, so that a row weighs the same in every codebook that it uses.
            losses.append(error.sum() / max(1, error.numel()))
            total = total + added
            # Without this detachment the gradients of all losses but the first would cancel.
            residual = residual - added.detach()
            all_codes.append(codes if present is None else torch.where(present, codes, -1))
            if self.training:
                seen = inside.detach() if present is None else inside.detach()[present]
                self._follow(i, seen, codes if present is None else codes[present])
        if self.codebook_dim is None:
            total = total + (z - z.detach())
        return total, torch.stack(all_codes, dim=1), torch.stack(losses)

    @torch.no_grad()
    def _start(self, latents: Tensor) -> bool:
        """Collect latents until k-means can be run; tell whether codes are in use."""
        if bool(self.initialized):
            return True
        n_now = torch.full((), float(len(latents)), device=latents.device)
        sum_over_processes(n_now)
        residual = self._collect(latents)
        if residual is None:
            return False
        for i in range(self.n_codebooks):
            inside = self._inside(i, residual)
            centres, counts = kmeans(
                inside,
                self.codebook_size,
                n_iterations=self.kmeans_iterations,
                generator=self._generator(self._draw(1 + i)),
            )
            # The same latents gave the same centres everywhere, but for the order in which processors add.
            broadcast(centres, counts)
            self.codebooks[i] = centres
            # Counts as a batch of this size would have had; 0 where an empty cluster has just begun anew.
            self.cluster_size[i] = (counts * (n_now / len(inside))).clamp_min(1e-3)
            if self.codebook_dim is None:
                self.code_totals[i] = centres * self.cluster_size[i].unsqueeze(1)
            residual = residual - F.embedding(self._nearest(inside, i), self.tables()[i])
        self.counts.zero_()
        self.initialized.fill_(True)
        return True

    @torch.no_grad()
    def _follow(self, stage: int, inside: Tensor, codes: Tensor) -> None:
        """Move the codes of a codebook towards the latents that they coded."""
        counts, sums = code_sums(inside, codes, self.codebook_size)
        sum_over_processes(counts, sums)
        self.counts[stage] += counts.long()
        size = self.cluster_size[stage].lerp_(counts, 1.0 - self.decay)
        if self.codebook_dim is None:
            self.code_totals[stage].lerp_(sums, 1.0 - self.decay)
            n = size.sum()
            smoothed = (size + _SMOOTHING) / (n + self.codebook_size * _SMOOTHING) * n
            self.codebooks[stage] = self.code_totals[stage] / smoothed.unsqueeze(1)
        self._revive(stage, inside)

    def _revive(self, stage: int, inside: Tensor) -> None:
        """Put codes that take too few latents onto latents of this batch."""
        size = self.cluster_size[stage]
        threshold = torch.clamp(size.mean() * _SHARE_OF_THE_LIVING, max=self.dead_code_threshold)
        dead = torch.nonzero(size < threshold).flatten()
        # The same in all processes, so all of them gather, or none does.
        if not len(dead):
            return
        rows = gather_rows(inside)
        dead = dead[: len(rows)]
        order = torch.randperm(len(rows), generator=self._generator(self._draw(1 + stage)), device="cpu")
        rows = rows[order[: len(dead)].to(rows.device)]
        broadcast(rows)
        self.codebooks[stage, dead] = rows
        # A code begins with the size at which it would just have stayed.
        size[dead] = threshold
        if self.codebook_dim is None:
            self.code_totals[stage, dead] = rows * threshold

    @torch.no_grad()
    def usage(self, codes: Tensor | None = None) -> list[dict[str, float]]:
        """Summarise how much of each codebook is used.

        Parameters
        ----------
        codes : Tensor of int, shape (..., n) | None
            Codes of a data set; -1 does not count. ``None``: those of training since :meth:`reset_usage`.

        Returns
        -------
        usage : list of dict of str to float
            Per codebook ``"n_codes"``, ``"n_used"`` (codes that occur), ``"fraction"`` (of the codebook) and
            ``"perplexity"``.
        """
        if codes is None:
            return [code_usage(counts) for counts in self.counts]
        columns = codes.reshape(-1, codes.shape[-1]).long().unbind(dim=1)
        return [code_usage(torch.bincount(c[c >= 0], minlength=self.codebook_size)) for c in columns]

    def reset_usage(self) -> None:
        """Forget which codes were used."""
        self.counts.zero_()

    def extra_repr(self) -> str:
        """Show the size."""
        inside = "" if self.codebook_dim is None else f", codebook_dim={self.codebook_dim}"
        return f"dim={self.dim}, n_codebooks={self.n_codebooks}, codebook_size={self.codebook_size}{inside}"
