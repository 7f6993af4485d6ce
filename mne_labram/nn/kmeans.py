"""Nearest codes and k-means, in bounded memory."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["code_sums", "kmeans", "nearest_codes", "perplexity"]

# Similarities held in memory at once: 64 MiB of float32.
_MAX_SIMILARITIES = 2**24


@torch.no_grad()
def nearest_codes(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Find the nearest code of each vector.

    Parameters
    ----------
    vectors : Tensor, shape (n, dim)
        Any vectors.
    codebook : Tensor, shape (n_codes, dim)
        Codes.

    Returns
    -------
    codes : Tensor of int64, shape (n,)
        Index of the code at the smallest Euclidean distance; for codes of unit length, that of the largest cosine.

    Notes
    -----
    ``|v - c|^2 = |v|^2 - 2 (v.c - |c|^2 / 2)``, so the largest ``v.c - |c|^2 / 2`` is looked for, some thousand vectors
    at a time. The size of a piece does not depend on the number of threads.
    """
    bias = -0.5 * codebook.square().sum(dim=1)
    step = max(1, _MAX_SIMILARITIES // len(codebook))
    pieces = [torch.addmm(bias, piece, codebook.T).argmax(dim=1) for piece in vectors.split(step)]
    return torch.cat(pieces) if pieces else vectors.new_empty(0, dtype=torch.long)


@torch.no_grad()
def code_sums(vectors: Tensor, codes: Tensor, n_codes: int) -> tuple[Tensor, Tensor]:
    """Count the vectors of each code and add them up.

    Parameters
    ----------
    vectors : Tensor, shape (n, dim)
        Vectors.
    codes : Tensor of int64, shape (n,)
        Code of each.
    n_codes : int
        Size of the codebook.

    Returns
    -------
    counts : Tensor of float, shape (n_codes,)
        Vectors per code.
    sums : Tensor, shape (n_codes, dim)
        Their sum. Added in float64: a GPU adds in another order every time, and after rounding that does not show.
    """
    wide = torch.float32 if vectors.device.type == "mps" else torch.float64
    counts = torch.bincount(codes, minlength=n_codes).to(vectors.dtype)
    sums = torch.zeros(n_codes, vectors.shape[1], dtype=wide, device=vectors.device)
    sums.index_add_(0, codes, vectors.to(wide))
    return counts, sums.to(vectors.dtype)


def perplexity(counts: Tensor) -> Tensor:
    """Compute how many equally frequent codes would be as unpredictable as these: ``exp(-sum p log p)``.

    Parameters
    ----------
    counts : Tensor, shape (n_codes,)
        How often each code occurs.

    Returns
    -------
    perplexity : Tensor, shape ()
        Between 1 and ``n_codes``; 1 for no counts at all.
    """
    shares = counts.double() if counts.device.type != "mps" else counts.float()
    shares = shares / shares.sum().clamp_min(torch.finfo(shares.dtype).tiny)
    return torch.special.entr(shares).sum().exp().float()


@torch.no_grad()
def kmeans(
    vectors: Tensor,
    n_codes: int,
    *,
    n_iterations: int = 50,
    generator: torch.Generator | None = None,
    spherical: bool = False,
) -> tuple[Tensor, Tensor]:
    """Cluster vectors, or their directions.

    Parameters
    ----------
    vectors : Tensor, shape (n, dim)
        At least ``n_codes`` vectors; if spherical, their lengths do not matter.
    n_codes : int
        Number of clusters.
    n_iterations : int
        Number of assignments; 50 in EnCodec (core_vq.py), 10 in LaBraM (norm_ema_quantizer.py).
    generator : torch.Generator | None
        On the CPU; draws the vectors that the centres start at, and those that empty clusters restart at.
    spherical : bool
        Cluster directions: the centres have unit length.

    Returns
    -------
    centres : Tensor, shape (n_codes, dim)
        Means of the clusters; if spherical, scaled to unit length.
    counts : Tensor, shape (n_codes,)
        Vectors per cluster in the last assignment.

    Raises
    ------
    ValueError
        If there are fewer vectors than clusters.
    """
    if len(vectors) < n_codes:
        raise ValueError(f"k-means needs at least {n_codes} vectors for {n_codes} codes, got {len(vectors)}.")
    if spherical:
        vectors = F.normalize(vectors, dim=1)

    def draw(n: int) -> Tensor:
        return vectors[torch.randperm(len(vectors), generator=generator, device="cpu")[:n].to(vectors.device)]

    centres, counts = draw(n_codes), None
    for _ in range(n_iterations):
        counts, sums = code_sums(vectors, nearest_codes(vectors, centres), n_codes)
        empty = counts == 0
        sums[empty] = draw(int(empty.sum()))
        centres = F.normalize(sums, dim=1) if spherical else sums / counts.clamp_min(1.0).unsqueeze(1)
    return centres, counts
