"""Contexts of single coefficients, compiled: what a decoder needs at every step, and an encoder for all at once."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np

from mne_labram._compiled import compiled
from mne_labram.codec.context import FEATURES, LARGEST, MEMORY, SHIFT, ContextModel, Neighbours, component_classes

__all__ = ["CoefficientLayout", "Lanes"]

# So many coefficients at a time stay in the processor's cache.
_TILE = 2048
_LOW = np.array([feature.low for feature in FEATURES], np.int64)
_HIGH = np.array([feature.high + 1 for feature in FEATURES], np.int64)
_RANGES = _LOW, _HIGH, 1.0 / (_HIGH - _LOW)


class CoefficientLayout(NamedTuple):
    """What the decoder knows of a block of coefficients.

    Parameters
    ----------
    exponents : array of int, shape (n_channels, n_frames)
        Quantisation steps, in eighths of an octave above the smallest of the block.
    levels : array of int, shape (n_channels, n_frames)
        Level of the signal above the step, a class.
    n_bins : int
        Coefficients of a frame; those above are zero.
    bin_millihertz : tuple of int
        Width of a bin in mHz, a fraction of whole numbers.
    """

    exponents: np.ndarray
    levels: np.ndarray
    n_bins: int
    bin_millihertz: tuple[int, int]


@partial(compiled, error_model="numpy")
def _features(sums, starts, per_step, low, high, share, table, n_bins, lanes, bins, out):
    """Do what :meth:`Neighbours.features` does, for some coefficients."""
    last = table.size - 1
    for row in range(lanes.size):
        lane, place = lanes[row], bins[row]
        for feature in range(low.size):
            start = starts[lane, feature]
            total = (
                sums[start + max(min(place + high[feature], n_bins), 0)] - sums[start + max(place + low[feature], 0)]
            )
            # Below 2 ** 37, of at most 17 coefficients: half a unit more outweighs all errors of rounding, so that this
            # is the whole quotient.
            mean = (np.int64((total + 0.5) * share[feature]) * per_step[lane]) >> SHIFT
            out[row, feature] = table[min(mean, last)]


@partial(compiled, error_model="numpy")
def _activate(values, by_lane, by_bin, lanes, bins):
    """Add biases, divide by 64, round down and clip, in place."""
    for row in range(lanes.size):
        lane, place = lanes[row], bins[row]
        for unit in range(values.shape[1]):
            value = values[row, unit] + (by_lane[lane, unit] + by_bin[place, unit])
            values[row, unit] = min(max(np.floor(value * np.float32(1 / 64)), np.float32(0)), np.float32(255))


@compiled
def _note(sums, own, mean_places, memories, lanes, bins, values):
    """Continue the cumulative sums of magnitudes and of their two running means by one bin."""
    for row in range(lanes.size):
        lane, place = lanes[row], bins[row]
        here = own[lane] + place
        sums[here + 1] = sums[here] + values[row]
        for kind in range(2):
            here, old = mean_places[kind, 0, lane] + place, mean_places[kind, 1, lane] + place
            mean = sums[old + 1] - sums[old]
            sums[here + 1] = sums[here] + mean + (values[row] - mean) // memories[kind, lane]


class Lanes:
    """Choose distributions of coefficients by lane and bin; a lane is ``channel * n_frames + frame``.

    Parameters
    ----------
    model : ContextModel
        Of the coder.
    layout : CoefficientLayout
        What the decoder knows.

    Notes
    -----
    Choices are those of :meth:`ContextModel.choose` on :meth:`Neighbours.features`, number by number.
    """

    def __init__(self, model: ContextModel, layout: CoefficientLayout) -> None:
        self.model, self.n_bins = model, layout.n_bins
        self.neighbours = Neighbours(layout.exponents, layout.n_bins)
        self._sums = self.neighbours.sums.reshape(-1)
        _, n_channels, n_frames, n_sums = self.neighbours.sums.shape
        channels, frames = (each.ravel() for each in np.indices(layout.exponents.shape))
        frequency = model.frequency_classes(layout.n_bins, layout.bin_millihertz)
        self._by_bin = model.frequency[frequency].astype(np.float32)
        classes = component_classes(len(layout.exponents))
        self._by_lane = (model.component[classes[channels]] + model.level[layout.levels.ravel()]).astype(np.float32)
        self._unit, self._per_step = self.neighbours.unit.ravel(), self.neighbours.per_step.ravel()

        def row(kind: int, channel: np.ndarray, frame: np.ndarray) -> np.ndarray:
            return ((kind * n_channels + channel) * n_frames + frame) * n_sums

        starts = {
            "self": row(0, channels + 1, frames + 2),
            "frame": row(0, channels + 1, frames + 1),
            "older": row(0, channels + 1, frames),
            "mean": row(1, channels + 1, frames + 1),
            "channel": row(0, channels, frames + 2),
            "channels": row(2, channels, frames + 2),
        }
        self._starts = np.stack([starts[feature.source] for feature in FEATURES], axis=1)
        self._own = starts["self"]
        self._means = np.array(
            [
                [row(1, channels + 1, frames + 2), starts["mean"]],
                [row(2, channels + 1, frames + 2), starts["channels"]],
            ]
        )
        self._memories = np.minimum(np.stack([frames, channels]) + 1, MEMORY)
        n_hidden, n_second = model.second.shape
        self._buffers = [np.empty((_TILE, n), np.float32) for n in (len(FEATURES), n_hidden, n_second)]
        self._second_bias = model.second_bias.astype(np.float32)[None]

    def choose(self, lanes: np.ndarray, bins: np.ndarray) -> np.ndarray:
        """Choose the distributions of some coefficients from what is known.

        Parameters
        ----------
        lanes, bins : array of int64, shape (n,)
            Which.

        Returns
        -------
        chosen : array of uint8, shape (n,)
            Rows of ``model.distributions``.
        """
        hidden, second, _, output = self.model.layers
        table = self.model.table
        chosen = np.empty(len(lanes), np.uint8)
        nowhere = np.zeros(_TILE, np.int64)
        for first in range(0, len(lanes), _TILE):
            lane, place = lanes[first : first + _TILE], bins[first : first + _TILE]
            features, middle, last = (buffer[: len(lane)] for buffer in self._buffers)
            _features(self._sums, self._starts, self._per_step, *_RANGES, table, self.n_bins, lane, place, features)
            np.matmul(features, hidden, out=middle)
            _activate(middle, self._by_lane, self._by_bin, lane, place)
            np.matmul(middle, second, out=last)
            none = nowhere[: len(lane)]
            _activate(last, self._second_bias, np.zeros_like(self._second_bias), none, none)
            chosen[first : first + _TILE] = self.model.rows(last @ output)
        return chosen

    def note(self, lanes: np.ndarray, bins: np.ndarray, magnitudes: np.ndarray) -> None:
        """Take coefficients that were decoded; in every lane, those below are known.

        Parameters
        ----------
        lanes, bins : array of int64, shape (n,)
            Which.
        magnitudes : array of int64, shape (n,)
            Absolute values.
        """
        values = np.minimum(magnitudes, LARGEST) * self._unit[lanes]
        _note(self._sums, self._own, self._means, self._memories, lanes, bins, values)
