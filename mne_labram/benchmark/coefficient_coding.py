"""Coefficients of a transform to bits and back: dead-zone quantiser, static histograms in context, range coder.

What a coefficient costs depends on its group (of frequencies), on its two predecessors and on the step; histograms are
counted on training recordings and never change, so that windows are coded independently of one another.
"""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["CoefficientCoder"]

#: What is less than this many steps becomes zero (shared/reference/baselines.md).
DEAD_ZONE = 0.6
#: Lower edges of the levels of 2|q[k-1]| + |q[k-2]|; the number of levels, 12, is that of baselines.md.
CONTEXT_EDGES = (0, 1, 2, 3, 4, 6, 9, 14, 22, 40, 90, 250)
# Magnitudes below this are symbols of their own; above, a symbol is a quarter of an octave and plain bits follow.
_DIRECT = 16
_OCTAVES = range(4, 15)
_LARGEST = 2**15 - 1
N_SYMBOLS = _DIRECT + 4 * len(_OCTAVES)
# Histograms are counted at two steps an octave, from the coarsest on.
COARSEST, TABLES_PER_OCTAVE, N_TABLES = 3.0, 2, 24
# What a histogram is believed to have seen before anything was counted: so many symbols of the histogram of all groups.
_PRIOR = 8.0
_FLOOR = 1e-5
# Centroids: magnitudes with one of their own, and how many of the mean of all groups are mixed in.
_CENTROIDS = 8


def _symbol_tables() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the symbol and the number of plain bits of each magnitude, and the first magnitude of each symbol."""
    magnitudes = np.arange(_LARGEST + 1)
    octave = np.floor(np.log2(np.maximum(magnitudes, 1))).astype(int)
    quarter = (magnitudes >> np.maximum(octave - 2, 0)) & 3
    symbol = np.where(magnitudes < _DIRECT, magnitudes, _DIRECT + 4 * (octave - _OCTAVES[0]) + quarter)
    plain = np.where(magnitudes < _DIRECT, 0, octave - 2)
    first = np.zeros(N_SYMBOLS, dtype=int)
    first[symbol[::-1]] = magnitudes[::-1]
    return symbol, plain, first


_SYMBOL, _PLAIN_BITS, _FIRST = _symbol_tables()
_CONTEXT = np.searchsorted(CONTEXT_EDGES, np.arange(CONTEXT_EDGES[-1] + 1), side="right") - 1


class CoefficientCoder:
    """Quantise and code rows of coefficients.

    Parameters
    ----------
    groups : array-like of int, shape (n_coefs,)
        The group of each coefficient, from 0.
    row_groups : int
        How many kinds of rows there are, each with histograms of its own.

    Notes
    -----
    Coefficients are divided by the scale of their window before they come here, and steps are relative to that scale.
    The quantiser, the number of contexts and their form are those of shared/reference/baselines.md; a magnitude of 16
    or more is coded as its quarter of an octave and plain bits, and so are signs.
    """

    def __init__(self, groups: ArrayLike, row_groups: int = 1) -> None:
        self.groups = np.asarray(groups)
        self.row_groups = row_groups
        self._shape = (N_TABLES, row_groups, int(self.groups.max()) + 1, len(CONTEXT_EDGES), N_SYMBOLS)

    def fit(self, coefficients: np.ndarray, kinds: ArrayLike = 0) -> Self:
        """Count histograms and centroids at every step of the tables.

        Parameters
        ----------
        coefficients : ndarray, shape (n_rows, n_coefs)
            Of training recordings, relative to the scale of their windows.
        kinds : array-like of int, shape (n_rows,)
            Kind of each row.

        Returns
        -------
        self : CoefficientCoder
            Fitted.
        """
        kinds = np.broadcast_to(kinds, len(coefficients))
        n_groups = self._shape[2]
        counts = np.zeros(self._shape, dtype=np.float64)
        self.centroids = np.zeros((N_TABLES, n_groups, _CENTROIDS))
        groups = np.broadcast_to(self.groups, coefficients.shape).ravel()
        for table in range(N_TABLES):
            steps = np.full(len(coefficients), 2.0 ** (COARSEST - table / TABLES_PER_OCTAVE))
            q = self.quantize(coefficients, steps)
            rows = np.full(len(coefficients), table)
            counts += np.bincount(self._cells(q, rows, kinds).ravel(), minlength=counts.size).reshape(counts.shape)
            magnitude = np.abs(q).ravel()
            small = (magnitude > 0) & (magnitude < _CENTROIDS)
            cell = groups[small] * _CENTROIDS + magnitude[small]
            excess = (np.abs(coefficients) / steps[:, None]).ravel()[small] - magnitude[small]
            size = n_groups * _CENTROIDS
            number = np.bincount(cell, minlength=size).reshape(n_groups, -1)
            total = np.bincount(cell, weights=excess, minlength=size).reshape(n_groups, -1)
            overall = total.sum(axis=0) / np.maximum(number.sum(axis=0), 1)
            self.centroids[table] = (total + _PRIOR * overall) / (number + _PRIOR)
        # A context that was hardly seen in one group takes after the same context in all groups.
        parent = counts.sum(axis=(1, 2), keepdims=True) + _FLOOR
        parent = parent + _PRIOR * parent.sum(axis=3, keepdims=True) / parent.sum(axis=(3, 4), keepdims=True)
        parent /= parent.sum(axis=4, keepdims=True)
        shares = counts + _PRIOR * parent + _FLOOR
        shares /= shares.sum(axis=4, keepdims=True)
        self.probabilities = shares.astype(np.float32)
        self.costs = -np.log2(shares).astype(np.float32).ravel()
        return self

    @staticmethod
    def table(steps: ArrayLike) -> np.ndarray:
        """Return the number of the histograms that are used at a step.

        Parameters
        ----------
        steps : array-like
            Relative steps.

        Returns
        -------
        table : ndarray of int
            0 is the coarsest.
        """
        number = np.rint(TABLES_PER_OCTAVE * (COARSEST - np.log2(np.asarray(steps, dtype=float)))).astype(int)
        return np.clip(number, 0, N_TABLES - 1)

    @staticmethod
    def quantize(coefficients: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Quantise with a dead zone.

        Parameters
        ----------
        coefficients : ndarray, shape (n_rows, n_coefs)
            Relative coefficients.
        steps : ndarray, shape (n_rows,)
            Relative steps.

        Returns
        -------
        q : ndarray of int32, shape (n_rows, n_coefs)
            Zero below 0.6 steps, 1 from there to 1.6 and so on.
        """
        ratio = coefficients / np.asarray(steps, dtype=coefficients.dtype)[:, None]
        magnitude = np.minimum(np.floor(np.abs(ratio) + (1.0 - DEAD_ZONE)), _LARGEST)
        return np.copysign(magnitude, ratio).astype(np.int32)

    def dequantize(self, q: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Put centroids in the place of numbers of steps.

        Parameters
        ----------
        q : ndarray of int, shape (n_rows, n_coefs)
            From :meth:`quantize`.
        steps : ndarray, shape (n_rows,)
            Relative steps.

        Returns
        -------
        coefficients : ndarray of float64, shape (n_rows, n_coefs)
            Relative coefficients.
        """
        magnitude = np.abs(q)
        small = np.minimum(magnitude, _CENTROIDS - 1)
        excess = self.centroids[self.table(steps)[:, None], self.groups[None, :], small]
        excess = np.where(magnitude >= _CENTROIDS, DEAD_ZONE - 0.5, excess)
        return np.sign(q) * (magnitude + excess) * np.asarray(steps)[:, None]

    def bits(self, q: np.ndarray, steps: np.ndarray, kinds: ArrayLike = 0) -> np.ndarray:
        """Tell the information content of rows.

        Parameters
        ----------
        q : ndarray of int, shape (n_rows, n_coefs)
            From :meth:`quantize`.
        steps : ndarray, shape (n_rows,)
            Relative steps.
        kinds : array-like of int, shape (n_rows,)
            Kind of each row.

        Returns
        -------
        bits : ndarray, shape (n_rows,)
            Negative binary logarithm of the probabilities, and one for each sign and plain bit.
        """
        kinds = np.broadcast_to(kinds, len(q))
        cost = self.costs[self._cells(q, self.table(steps), kinds)].sum(axis=1, dtype=np.float64)
        return cost + np.count_nonzero(q, axis=1) + _PLAIN_BITS[np.abs(q)].sum(axis=1)

    def _cells(self, q: np.ndarray, tables: np.ndarray, kinds: np.ndarray) -> np.ndarray:
        """Return where in the flattened histograms each coefficient is counted."""
        _, n_kinds, n_groups, n_contexts, n_symbols = self._shape
        magnitude = np.abs(q)
        context = np.zeros(q.shape, dtype=np.int64)
        context[:, 1:] = 2 * magnitude[:, :-1]
        context[:, 2:] += magnitude[:, :-2]
        level = _CONTEXT[np.minimum(context, CONTEXT_EDGES[-1])]
        first = (np.asarray(tables) * n_kinds + kinds)[:, None] * n_groups + self.groups[None, :]
        return (first * n_contexts + level) * n_symbols + _SYMBOL[magnitude]

    def encode(self, q: np.ndarray, steps: np.ndarray, kinds: ArrayLike = 0) -> np.ndarray:
        """Write rows into one stream with a range coder.

        Parameters
        ----------
        q : ndarray of int, shape (n_rows, n_coefs)
            From :meth:`quantize`.
        steps : ndarray, shape (n_rows,)
            Relative steps.
        kinds : array-like of int, shape (n_rows,)
            Kind of each row.

        Returns
        -------
        words : ndarray of uint32, shape (n_words,)
            The stream: coefficient by coefficient, of all rows at a time.
        """
        import constriction

        model, queue = constriction.stream.model, constriction.stream.queue
        kinds = np.broadcast_to(kinds, len(q))
        cells = self._cells(q, self.table(steps), kinds)
        shares = self.probabilities.reshape(-1, N_SYMBOLS)
        family, coder = model.Categorical(perfect=False), queue.RangeEncoder()
        symbols = (cells % N_SYMBOLS).astype(np.int32)
        magnitude = np.abs(q)
        for k in range(q.shape[1]):
            coder.encode(symbols[:, k].copy(), family, shares[cells[:, k] // N_SYMBOLS])
            there = magnitude[:, k] > 0
            if not there.any():
                continue
            coder.encode((q[there, k] < 0).astype(np.int32), model.Uniform(2))
            n_plain = _PLAIN_BITS[magnitude[:, k]]
            for row in np.flatnonzero(n_plain):
                rest = magnitude[row, k] - _FIRST[symbols[row, k]]
                coder.encode(np.array([rest], dtype=np.int32), model.Uniform(1 << int(n_plain[row])))
        return coder.get_compressed()

    def decode(self, words: np.ndarray, steps: np.ndarray, kinds: ArrayLike = 0) -> np.ndarray:
        """Read rows from a stream.

        Parameters
        ----------
        words : ndarray of uint32, shape (n_words,)
            From :meth:`encode`.
        steps : ndarray, shape (n_rows,)
            Relative steps.
        kinds : array-like of int, shape (n_rows,)
            Kind of each row.

        Returns
        -------
        q : ndarray of int32, shape (n_rows, n_coefs)
            What was encoded.
        """
        import constriction

        model, queue = constriction.stream.model, constriction.stream.queue
        tables, n_rows = self.table(steps), len(steps)
        kinds = np.broadcast_to(kinds, n_rows)
        q = np.zeros((n_rows, len(self.groups)), dtype=np.int32)
        magnitude = np.zeros((n_rows, len(self.groups) + 2), dtype=np.int64)
        family, coder = model.Categorical(perfect=False), queue.RangeDecoder(words)
        for k, group in enumerate(self.groups):
            context = 2 * magnitude[:, k + 1] + magnitude[:, k]
            level = _CONTEXT[np.minimum(context, CONTEXT_EDGES[-1])]
            symbols = coder.decode(family, self.probabilities[tables, kinds, group, level])
            there = symbols > 0
            if not there.any():
                continue
            negative = coder.decode(model.Uniform(2), int(there.sum()))
            found = _FIRST[symbols]
            n_plain = _PLAIN_BITS[found]
            for row in np.flatnonzero(n_plain):
                found[row] += coder.decode(model.Uniform(1 << int(n_plain[row])), 1)[0]
            magnitude[:, k + 2] = found
            q[:, k] = found
            q[there, k] *= 1 - 2 * negative.astype(np.int32)
        return q
