"""Fit the network of integers that tells how coefficients are distributed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from mne.utils import logger
from torch import Tensor, nn

from mne_labram.codec.context import (
    FEATURES,
    N_CLASSES,
    N_LEVELS,
    ContextModel,
    Neighbours,
    component_classes,
)

__all__ = ["CoefficientSample", "collect_contexts", "fit_context_model", "magnitude_table", "millihertz_edges"]


def magnitude_table() -> np.ndarray:
    """Return the logarithmic scale of mean magnitudes, ``255 log(1 + m / 4) / log(1 + 4095 / 4)``.

    Returns
    -------
    table : array of uint8, shape (4096,)
        Of a mean magnitude in sixteenths of a step.
    """
    values = np.log1p(np.arange(4096) / 4)
    return np.round(255 * values / values[-1]).astype(np.uint8)


def millihertz_edges() -> np.ndarray:
    """Return borders between 40 classes of frequency, shape (39,), int64: every 0.5 Hz, then in equal ratios to 200 Hz.

    Returns
    -------
    edges : array of int64, shape (39,)
        In mHz.
    """
    low = np.arange(500, 8001, 500)
    high = np.round(np.geomspace(8000, 200_000, 24)[1:]).astype(np.int64)
    return np.concatenate([low, high])


class CoefficientSample(NamedTuple):
    """Quantised coefficients and what the decoder knows of them.

    Parameters
    ----------
    features : array of uint8, shape (n, n_features)
        From :meth:`mne_labram.codec.context.Neighbours.features`.
    frequency, component, level : array of uint8, shape (n,)
        Classes.
    magnitude : array of int32, shape (n,)
        What is to be coded.
    """

    features: np.ndarray
    frequency: np.ndarray
    component: np.ndarray
    level: np.ndarray
    magnitude: np.ndarray


def collect_contexts(
    blocks: Iterable[tuple[np.ndarray, np.ndarray, tuple[int, int], np.ndarray]],
    *,
    per_block: int = 20_000,
    seed: int = 0,
) -> CoefficientSample:
    """Draw coefficients from blocks, with their contexts.

    Parameters
    ----------
    blocks : iterable of tuple
        Magnitudes, int, shape (n_channels, n_frames, n_bins); exponents of the steps, shape (n_channels, n_frames);
        width of a bin in mHz, a fraction of two whole numbers; levels of frames, int, shape (n_channels, n_frames).
    per_block : int
        Coefficients that are drawn from a block.
    seed : int
        Of the drawing.

    Returns
    -------
    sample : CoefficientSample
        Of all blocks.
    """
    generator = np.random.default_rng(seed)
    table, edges = magnitude_table(), millihertz_edges()
    parts = []
    for magnitudes, exponents, (over, under), levels in blocks:
        n_channels, n_frames, n_bins = magnitudes.shape
        neighbours = Neighbours(exponents, n_bins)
        neighbours.fill(magnitudes)
        frequency = np.searchsorted(edges, (2 * np.arange(n_bins) + 1) * over // (2 * under))
        classes = component_classes(n_channels)
        size = n_frames * n_bins
        take = min(size, max(1, per_block // n_channels))
        for channel in range(n_channels):
            chosen = np.sort(generator.choice(size, take, replace=False))
            rows = neighbours.features(channel, table).reshape(size, -1)[chosen].astype(np.uint8)
            parts.append(
                CoefficientSample(
                    rows,
                    frequency[chosen % n_bins].astype(np.uint8),
                    np.full(take, classes[channel], np.uint8),
                    levels[channel][chosen // n_bins].astype(np.uint8),
                    magnitudes[channel].reshape(size)[chosen].astype(np.int32),
                )
            )
    return CoefficientSample(*(np.concatenate(field) for field in zip(*parts, strict=True)))


# Share of the gradient that units get which are clipped, so that none is lost for good.
_LEAK = 0.05


class _FloatModel(nn.Module):
    """The network while it is trained: the same arithmetic, with gradients."""

    def __init__(self, n_hidden: int, n_second: int, n_distributions: int, n_symbols: int, n_frequencies: int) -> None:
        super().__init__()
        self.hidden = nn.Parameter(torch.randn(len(FEATURES), n_hidden) * 0.15)
        self.frequency = nn.Parameter(torch.randn(n_frequencies, n_hidden) * 0.05 + 0.2)
        self.component = nn.Parameter(torch.zeros(N_CLASSES, n_hidden))
        self.level = nn.Parameter(torch.zeros(N_LEVELS, n_hidden))
        self.second = nn.Parameter(torch.randn(n_hidden, n_second) * 0.2)
        self.second_bias = nn.Parameter(torch.full((n_second,), 0.2))
        self.output = nn.Parameter(torch.rand(n_second) * 0.2)
        self.output_bias = nn.Parameter(torch.tensor(0.0))
        # Geometric distributions of rising mean to start from, of what is left of magnitudes after their shift.
        means = torch.logspace(math.log10(0.005), math.log10(700), n_distributions)
        self.register_buffer("shifts", (means / 8).log2().round().clamp_min(0).long())
        means = means / 2.0**self.shifts
        ratio = means / (1 + means)
        logits = torch.arange(n_symbols) * ratio.log()[:, None]
        logits[:, -1] -= (1 - ratio).log()
        self.logits = nn.Parameter(logits)

    @staticmethod
    def _rounded(values: Tensor, scale: float, limit: float) -> Tensor:
        """Round to what is stored, and let gradients through."""
        values = values.clamp(-limit, limit)
        return values + ((values * scale).round() / scale - values).detach()

    @staticmethod
    def _activation(values: Tensor) -> Tensor:
        """Clip and round down to 255ths; gradients do not see the rounding, and a little of them what is clipped."""
        clipped = values.clamp(0, 1)
        leaky = clipped + _LEAK * (values - clipped)
        return leaky + ((clipped * 255).floor() / 255 - leaky).detach()

    def position(self, features: Tensor, frequency: Tensor, component: Tensor, level: Tensor) -> Tensor:
        """Compute where in the row of distributions a coefficient belongs."""
        unit = 64 * 255
        bias = self.frequency[frequency] + self.component[component] + self.level[level]
        hidden = self._activation(features / 255 @ self._rounded(self.hidden, 64, 15) + self._rounded(bias, unit, 60))
        second = self._activation(
            hidden @ self._rounded(self.second, 64, 15) + self._rounded(self.second_bias, unit, 60)
        )
        return (second @ self.output + self.output_bias) * len(self.logits)

    def forward(self, features: Tensor, frequency: Tensor, component: Tensor, level: Tensor, size: Tensor) -> Tensor:
        """Compute the information of magnitudes in bits, without signs."""
        last = len(self.logits) - 1
        position = self.position(features, frequency, component, level)
        # Outside the row the gradient leads back in.
        position = position - (position - position.clamp(0, last)).detach()
        low = position.detach().floor().clamp(0, last - 1).long()
        weight = (position - low).clamp(1e-6, 1 - 1e-6)
        table = self.logits.log_softmax(1)

        def information(row: Tensor) -> Tensor:
            shift = self.shifts[row]
            rest, escape = size >> shift, self.logits.shape[1] - 1
            above = torch.where(rest >= escape, 2 * (rest - escape + 1).clamp_min(1).log2().floor() + 1, 0)
            return table[row, rest.clamp_max(escape)] - math.log(2) * (shift + above)

        share = torch.logaddexp((1 - weight).log() + information(low), weight.log() + information(low + 1))
        return -share / math.log(2)


def fit_context_model(
    sample: CoefficientSample,
    *,
    n_hidden: int = 32,
    n_second: int = 16,
    n_distributions: int = 96,
    n_symbols: int = 18,
    n_steps: int = 4000,
    batch: int = 8192,
    learning_rate: float = 4e-3,
    seed: int = 0,
) -> ContextModel:
    """Train the network and round it to integers.

    Parameters
    ----------
    sample : CoefficientSample
        Coefficients of training recordings.
    n_hidden, n_second : int
        Units of the two layers.
    n_distributions, n_symbols : int
        Rows and columns of the table of distributions.
    n_steps, batch : int
        Training steps, and coefficients in each.
    learning_rate : float
        Highest learning rate (one cycle of AdamW).
    seed : int
        Of initial weights and batches.

    Returns
    -------
    model : ContextModel
        Integers.
    """
    devices: list[int] = []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        edges = millihertz_edges()
        model = _FloatModel(n_hidden, n_second, n_distributions, n_symbols, len(edges) + 1)
    generator = np.random.default_rng(seed)
    network = [values for name, values in model.named_parameters() if name != "logits"]
    optimizer = torch.optim.AdamW([{"params": network}, {"params": [model.logits]}], learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [learning_rate, 0.3 * learning_rate], n_steps)
    # The network learns to tell the scale from distributions of known scale, which then take their shape: both at once,
    # it settles anywhere in the row.
    model.logits.requires_grad_(False)
    mean = 0.0
    for step in range(n_steps):
        if step == n_steps // 4:
            model.logits.requires_grad_(True)
        rows = generator.integers(len(sample.magnitude), size=batch)
        loss = model(
            torch.from_numpy(sample.features[rows]).float(),
            *(torch.from_numpy(field[rows]).long() for field in (sample.frequency, sample.component, sample.level)),
            torch.from_numpy(sample.magnitude[rows]).long(),
        ).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        mean += (loss.item() - mean) * max(0.005, 1 / (step + 1))
        if step % 500 == 499:
            logger.info("Step %d of %d: %.4f bits per magnitude", step + 1, n_steps, mean)
    return _as_integers(model, edges)


@torch.no_grad()
def _as_integers(model: _FloatModel, edges: np.ndarray) -> ContextModel:
    """Round the trained network."""

    def whole(values: Tensor, scale: float, dtype: type) -> np.ndarray:
        return (values.double() * scale).round().numpy().astype(dtype)

    unit, n = 64 * 255, len(model.logits)
    # Distances between neighbouring tables are one; the last layer's sum is divided by 256 and rounded to the nearest.
    scale = 256 * n / 255
    probabilities = (F.softmax(model.logits.double(), 1) * 2**16).round().clamp_min(1).numpy().astype(np.uint32)
    return ContextModel(
        table=magnitude_table(),
        edges=edges,
        hidden=whole(model.hidden.clamp(-15, 15), 64, np.int16),
        frequency=whole(model.frequency, unit, np.int32),
        component=whole(model.component, unit, np.int32),
        level=whole(model.level, unit, np.int32),
        second=whole(model.second.clamp(-15, 15), 64, np.int16),
        second_bias=whole(model.second_bias, unit, np.int32),
        output=whole(model.output, scale, np.int16),
        output_bias=round(float(model.output_bias) * 256 * n) + 128,
        probabilities=probabilities,
        shifts=model.shifts.numpy().astype(np.int64),
    )
