"""What is known of a coefficient before it is decoded: a small network of integers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

__all__ = ["FEATURES", "LEFT", "N_CLASSES", "N_LEVELS", "RIGHT", "ContextModel", "Neighbours", "component_classes"]

#: Larger magnitudes count as this one, in contexts only.
LARGEST = 1023
#: Quantisation steps are powers of the eighth root of two; within a block they span at most so many of them.
MAX_EXPONENT = 80
# Magnitudes are added up in units that all steps of a block have in common: a magnitude of one with exponent e counts
# round(2 ** (12 + e / 8)), and a mean is turned into sixteenths of a step by round(2 ** (16 - e / 8)) / 2 ** 24.
_COMMON = np.round(2.0 ** (12 + np.arange(MAX_EXPONENT + 1) / 8)).astype(np.int64)
_SIXTEENTHS = np.round(2.0 ** (16 - np.arange(MAX_EXPONENT + 1) / 8)).astype(np.int64)
#: See above.
SHIFT = 24
#: A context looks at most so many coefficients below and above its own.
LEFT, RIGHT = 32, 4
#: Classes of components (or channels), and of the signal's level above the quantisation step.
N_CLASSES, N_LEVELS = 16, 32


class Feature(NamedTuple):
    """Sum of magnitudes over neighbours of a coefficient.

    Parameters
    ----------
    source : {"self", "frame", "older", "mean", "channel", "channels"}
        Where the neighbours lie: in the same frame, the last, the one before it, the running mean of frames before,
        the channel before, the running mean of channels before.
    low, high : int
        First and last neighbour, relative to the coefficient's own place in frequency.
    """

    source: str
    low: int
    high: int


#: What the network sees. All of it is decoded before the coefficient: see :mod:`mne_labram.codec.wavefront`.
FEATURES = (
    Feature("self", -1, -1),
    Feature("self", -2, -2),
    Feature("self", -4, -3),
    Feature("self", -8, -5),
    Feature("self", -16, -9),
    Feature("self", -32, -17),
    Feature("frame", 0, 0),
    Feature("frame", -1, 1),
    Feature("frame", -4, 4),
    Feature("frame", -12, 4),
    Feature("older", -1, 1),
    Feature("older", -4, 4),
    Feature("mean", 0, 0),
    Feature("mean", -4, 4),
    Feature("channel", 0, 0),
    Feature("channel", -2, 2),
    Feature("channels", 0, 0),
    Feature("channels", -6, 2),
)
#: Running means forget with this time constant, in frames or channels.
MEMORY = 8


def component_classes(n_components: int) -> np.ndarray:
    """Put components (or channels) into classes: the first eight alone, then by halves of octaves.

    Parameters
    ----------
    n_components : int
        Number of components.

    Returns
    -------
    classes : array of int64, shape (n_components,)
        Below ``N_CLASSES``.
    """
    edges = np.array([1, 2, 3, 4, 5, 6, 7, 8, 11, 16, 23, 32, 45, 64, 128])
    return np.searchsorted(edges, np.arange(n_components), side="right")


class Neighbours:
    """Sums of magnitudes, kept as cumulative sums along frequency.

    Parameters
    ----------
    exponents : array of int, shape (n_channels, n_frames)
        Quantisation step of each frame, in eighths of an octave above the block's smallest.
    n_bins : int
        Coefficients in a frame.

    Attributes
    ----------
    sums : array of int64, shape (3, n_channels + 1, n_frames + 2, n_bins + 1)
        Cumulative sums of the magnitudes, of their running mean over frames, and over channels. One channel and two
        frames of zeros come first.
    unit, per_step : array of int64, shape (n_channels, n_frames)
        What a magnitude of one adds to the sums, and what turns a mean into sixteenths of a step times ``2 ** 24``.
    """

    def __init__(self, exponents: np.ndarray, n_bins: int) -> None:
        self.shape = (*exponents.shape, n_bins)
        self.unit, self.per_step = _COMMON[exponents], _SIXTEENTHS[exponents]
        self.sums = np.zeros((3, self.shape[0] + 1, self.shape[1] + 2, n_bins + 1), np.int64)

    def fill(self, magnitudes: np.ndarray) -> None:
        """Take the magnitudes of a whole block.

        Parameters
        ----------
        magnitudes : array of int, shape (n_channels, n_frames, n_bins)
            Absolute values of quantised coefficients.
        """
        values = np.minimum(magnitudes, LARGEST).astype(np.int64) * self.unit[..., None]
        inner = self.sums[:, 1:, 2:, 1:]
        np.cumsum(values, axis=2, out=inner[0])
        mean = np.zeros_like(values[:, 0])
        for frame in range(self.shape[1]):
            mean += (values[:, frame] - mean) // min(frame + 1, MEMORY)
            np.cumsum(mean, axis=1, out=inner[1][:, frame])
        mean = np.zeros_like(values[0])
        for channel in range(self.shape[0]):
            mean += (values[channel] - mean) // min(channel + 1, MEMORY)
            np.cumsum(mean, axis=1, out=inner[2][channel])

    def features(self, channel: int, table: np.ndarray) -> np.ndarray:
        """Compute the features of one channel's coefficients.

        Parameters
        ----------
        channel : int
            Index.
        table : array of uint8, shape (n,)
            What a mean magnitude, in sixteenths of a step, becomes.

        Returns
        -------
        features : array of float32, shape (n_frames, n_bins, n_features)
            Whole numbers from 0 to 255.
        """
        _, n_frames, n_bins = self.shape
        rows = self._rows(channel)
        out = np.empty((n_frames, n_bins, len(FEATURES)), np.float32)
        padded = {name: np.pad(row, ((0, 0), (LEFT, RIGHT + 1)), mode="edge") for name, row in rows.items()}
        for index, (source, low, high) in enumerate(FEATURES):
            row = padded[source]
            upper = row[:, LEFT + high + 1 : LEFT + high + 1 + n_bins]
            lower = row[:, LEFT + low : LEFT + low + n_bins]
            mean = ((upper - lower) // (high - low + 1) * self.per_step[channel][:, None]) >> SHIFT
            out[..., index] = table[np.minimum(mean, len(table) - 1)]
        return out

    def _rows(self, channel: int) -> dict[str, np.ndarray]:
        """Name the cumulative sums that a channel's contexts are taken from."""
        magnitudes, frames, channels = self.sums
        return {
            "self": magnitudes[channel + 1, 2:],
            "frame": magnitudes[channel + 1, 1:-1],
            "older": magnitudes[channel + 1, :-2],
            "mean": frames[channel + 1, 1:-1],
            "channel": magnitudes[channel, 2:],
            "channels": channels[channel, 2:],
        }


@dataclass(frozen=True)
class ContextModel:
    """Tell how a coefficient is distributed from what was decoded before.

    Parameters
    ----------
    table : array of uint8, shape (n,)
        Logarithmic scale: what a mean magnitude, in sixteenths of a step, becomes.
    edges : array of int64, shape (n_frequencies - 1,)
        Borders between classes of frequency, in mHz.
    hidden : array of int16, shape (n_features, n_hidden)
        First layer, in 64ths.
    frequency : array of int32, shape (n_frequencies, n_hidden)
        What a coefficient's frequency adds to the first layer, in 64ths.
    component : array of int32, shape (N_CLASSES, n_hidden)
        What its component adds.
    level : array of int32, shape (N_LEVELS, n_hidden)
        What the signal's level adds.
    second : array of int16, shape (n_hidden, n_second)
        Second layer, in 64ths.
    second_bias : array of int32, shape (n_second,)
        Its bias.
    output : array of int16, shape (n_second,)
        Last layer, in 64ths.
    output_bias : int
        Its bias.
    probabilities : array of uint32, shape (n_distributions, n_symbols)
        Distributions in ``2 ** -16`` of what is left of a magnitude after its lowest bits are taken off; the last
        symbol announces more.
    shifts : array of int64, shape (n_distributions,)
        How many bits are taken off; they are written as they are.

    Notes
    -----
    A decoder must find the very probabilities that the encoder used, on any machine and with any number of threads. So
    all numbers here are integers, below 2 ** 24 at every step, which float32 adds exactly in any order: the products
    may be computed by any BLAS. Activations are clipped to 0-255, as in the networks of chess programs (Nasu 2018,
    "Efficiently updatable neural-network-based evaluation functions").
    """

    table: np.ndarray
    edges: np.ndarray
    hidden: np.ndarray
    frequency: np.ndarray
    component: np.ndarray
    level: np.ndarray
    second: np.ndarray
    second_bias: np.ndarray
    output: np.ndarray
    output_bias: int
    probabilities: np.ndarray
    shifts: np.ndarray

    @property
    def n_symbols(self) -> int:
        """Number of symbols; the last one announces a larger magnitude."""
        return self.probabilities.shape[1]

    @cached_property
    def distributions(self) -> np.ndarray:
        """Distributions as the entropy coder takes them, shape (n_distributions, n_symbols), float32."""
        return (self.probabilities / np.float64(2**16)).astype(np.float32)

    @cached_property
    def code_lengths(self) -> np.ndarray:
        """Bits of each symbol in each distribution, without signs, float32."""
        shares = self.probabilities / self.probabilities.sum(axis=1, keepdims=True)
        return -np.log2(shares).astype(np.float32)

    @cached_property
    def sha256(self) -> str:
        """Checksum of all numbers."""
        digest = hashlib.sha256()
        for name, values in sorted(self.arrays().items()):
            digest.update(f"{name} {values.dtype.str} {values.shape} ".encode())
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all numbers by name, as they are written: every array has at least one dimension."""
        return {name: np.atleast_1d(getattr(self, name)) for name in self.__dataclass_fields__}

    def frequency_classes(self, n_bins: int, bin_millihertz: tuple[int, int]) -> np.ndarray:
        """Put bins into classes of frequency.

        Parameters
        ----------
        n_bins : int
            Number of bins.
        bin_millihertz : tuple of int
            Width of a bin in mHz, as a fraction of whole numbers.

        Returns
        -------
        classes : array of int64, shape (n_bins,)
            Of the middle of each bin.
        """
        over, under = bin_millihertz
        return np.searchsorted(self.edges, (2 * np.arange(n_bins, dtype=np.int64) + 1) * over // (2 * under))

    def bias(self, frequency_classes: np.ndarray, component_class: np.ndarray, level: np.ndarray) -> np.ndarray:
        """Add up what does not depend on neighbours.

        Parameters
        ----------
        frequency_classes, component_class, level : array of int
            Of the same shape, or shapes that broadcast.

        Returns
        -------
        bias : array of float32, shape (..., n_hidden)
            Whole numbers.
        """
        return (self.frequency[frequency_classes] + self.component[component_class] + self.level[level]).astype(
            np.float32
        )

    @cached_property
    def layers(self) -> tuple[np.ndarray, ...]:
        """First layer, second layer, its bias, and last layer as float32, for matrix products."""
        return tuple(np.asarray(a, np.float32) for a in (self.hidden, self.second, self.second_bias, self.output))

    def choose(self, features: np.ndarray, bias: np.ndarray) -> np.ndarray:
        """Choose a distribution for each coefficient.

        Parameters
        ----------
        features : array of float32, shape (..., n_features)
            From :meth:`Neighbours.features`.
        bias : array of float32, shape (..., n_hidden)
            From :meth:`bias`.

        Returns
        -------
        chosen : array of int64, shape (...)
            Row of :attr:`distributions`.
        """
        hidden, second, second_bias, output = self.layers
        activations = np.clip(np.floor((features @ hidden + bias) / 64), 0, 255)
        activations = np.clip(np.floor((activations @ second + second_bias) / 64), 0, 255)
        return self.rows(activations @ output).astype(np.int64)

    def rows(self, sums: np.ndarray) -> np.ndarray:
        """Turn sums of the last layer, without its bias, into rows of :attr:`distributions`.

        Parameters
        ----------
        sums : array of float32
            Whole numbers.

        Returns
        -------
        rows : array of float32
            Of the same shape.
        """
        return np.clip(np.floor((sums + np.float32(self.output_bias)) / 256), 0, len(self.probabilities) - 1)
