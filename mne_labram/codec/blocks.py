"""Blocks coded, and decoded when they are asked for, here or in other processes."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from mne_labram.codec.body import NoGridError, decode_body, encode_body
from mne_labram.codec.container import ContainerReader
from mne_labram.codec.header import whole_number
from mne_labram.codec.layout import Layout, block_bounds, layout_from
from mne_labram.codec.quality import Quality
from mne_labram.signal.contract import ContractError

__all__ = ["DecodedBlocks", "encode_block", "in_order"]

# Decoded blocks that are kept: reading goes forwards, and around a border two are needed again and again.
_KEPT = 3


def in_order(function: Callable[..., Any], tasks: Iterable[tuple], n_jobs: int) -> Iterator[Any]:
    """Call a function many times, in processes if wanted, and yield what it returns in the order of the calls.

    Parameters
    ----------
    function : callable
        Must be importable by other processes.
    tasks : iterable of tuple
        Its arguments; drawn only a few calls ahead.
    n_jobs : int
        Processes, as joblib counts them; with 1 everything happens here.

    Yields
    ------
    result : object
        What the function returned.
    """
    if n_jobs == 1:
        for task in tasks:
            yield function(*task)
        return
    from joblib import Parallel, delayed, effective_n_jobs

    tasks = iter(tasks)
    at_once = 2 * effective_n_jobs(n_jobs)
    with Parallel(n_jobs=n_jobs) as pool:
        while batch := list(islice(tasks, at_once)):
            yield from pool(delayed(function)(*task) for task in batch)


def encode_block(
    storage: str, samples: np.ndarray, bits: int | None, sfreq: float, report: bool
) -> tuple[bytes, Quality | None, int | None]:
    """Code a block, in this process or another one, which for that imports no more than this module does.

    Parameters
    ----------
    storage : str
        How channels are kept, as JSON.
    samples : ndarray, shape (n_channels, n_samples)
        As MNE holds them.
    bits : int | None
        What the coder may spend.
    sfreq : float
        Sampling rate in Hz.
    report : bool
        Decode the block again and measure the error.

    Returns
    -------
    body : bytes
        The block.
    quality : Quality | None
        How good it is.
    lost : int | None
        The channel that lies on no grid though it should; the body is empty then.
    """
    layout = layout_from(storage)
    try:
        body = encode_body(layout, samples, bits)
    except NoGridError as error:
        return b"", None, error.args[1]
    if not report:
        return body, None, None
    decoded = decode_body(layout, body, samples.shape[1])
    quality = Quality(sfreq)
    quality.add(samples[layout.main] * 1e6, decoded[layout.main] * 1e6)
    if layout.integers and not layout.max_error:
        # Every integer was found again (encode_body refuses otherwise); what differs is the last bit of the floats.
        quality.largest = 0.0
    return body, quality, None


class DecodedBlocks:
    """Samples of a compressed file.

    Parameters
    ----------
    path : path-like
        The file.
    n_jobs : int
        Processes that decode; more than one are of use where many blocks are read one after the other.

    Attributes
    ----------
    header : dict
        Header of the file.
    layout : Layout
        How its channels are kept.
    n_times : int
        Samples.
    bounds : list of (int, int)
        Where each block begins and ends.
    damage : dict of int to str
        Blocks that cannot be read, and why.
    notes : list of str
        What is damaged without loss.

    Raises
    ------
    ContractError
        If the file is none of ours, of another version, damaged beyond use, or needs weights that are not there.
    OSError
        If it cannot be opened.
    """

    def __init__(self, path: Path, n_jobs: int = 1) -> None:
        self._container = ContainerReader(path)
        self.header = self._container.header
        self.notes = self._container.notes
        self.n_jobs = n_jobs
        self.n_times = whole_number(self.header, "n_times", 1)
        block_samples = whole_number(self.header, "block_samples", 1)
        # Every block has a head, so that a file cannot have more of them than bytes, unless most of it is gone.
        if self.n_times // block_samples > 2**24:
            raise ContractError(f"The header of {path.name} promises more than can be; get the file again.")
        self.bounds = block_bounds(self.n_times, block_samples)
        self._storage = json.dumps(self.header.get("storage"), sort_keys=True)
        self.layout: Layout = layout_from(self._storage)
        self.damage = self._container.damage(len(self.bounds))
        self._cache: OrderedDict[int, np.ndarray] = OrderedDict()
        self._last = -1

    def __getstate__(self) -> dict[str, Any]:
        # The layout may hold weights, and what was decoded is large; both are made again.
        return self.__dict__ | {"_cache": OrderedDict(), "layout": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self.layout = layout_from(self._storage)

    @property
    def path(self) -> Path:
        """The file."""
        return self._container.path

    def read(self, start: int, stop: int) -> Iterator[tuple[int, int, np.ndarray]]:
        """Read a stretch.

        Parameters
        ----------
        start, stop : int
            First sample and the one after the last.

        Yields
        ------
        low, high : int
            Where the piece lies in the stretch.
        samples : ndarray, shape (n_channels, high - low)
            As MNE holds them; a view that must not be changed. NaN in damaged blocks.
        """
        ends = [stop for _, stop in self.bounds]
        first = int(np.searchsorted(ends, start, side="right"))
        last = int(np.searchsorted(ends, stop, side="left"))
        for number, samples in self._decoded(first, last):
            begin, end = self.bounds[number]
            low, high = max(begin, start), min(end, stop)
            yield low - start, high - start, samples[:, low - begin : high - begin]

    def _decoded(self, first: int, last: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield blocks ``first`` to ``last``, both included; read ahead where blocks are read one after the other."""
        number = first
        while number <= last:
            if number in self._cache:
                self._cache.move_to_end(number)
                self._last = number
                yield number, self._cache[number]
                number += 1
                continue
            ahead = 1
            if self.n_jobs != 1 and (last > number or number == self._last + 1):
                from joblib import effective_n_jobs

                ahead = effective_n_jobs(self.n_jobs)
            wanted = [each for each in range(number, min(number + ahead, len(self.bounds))) if each not in self._cache]
            for each, samples in zip(wanted, self._decode(wanted), strict=True):
                self._cache[each] = samples
            while len(self._cache) > max(_KEPT, ahead + 1):
                self._cache.popitem(last=False)

    def _decode(self, numbers: list[int]) -> list[np.ndarray]:
        """Decode blocks; damaged ones are NaN, and 0 in channels of triggers (:meth:`missing`)."""
        whole = [number for number in numbers if number not in self.damage]
        tasks = ((self._storage, self._container.read(number), self._length(number)) for number in whole)
        n_jobs = self.n_jobs if len(whole) > 1 else 1
        found: dict[int, np.ndarray] = {}
        for number, (samples, problem) in zip(whole, in_order(_decode_block, tasks, n_jobs), strict=True):
            if problem:
                raise ContractError(
                    f"Block {number} of {self.path.name} is whole but cannot be decoded ({problem}); install the "
                    "mne_labram that wrote it."
                )
            found[number] = samples
        return [found[number] if number in found else self._missing(number) for number in numbers]

    def _missing(self, number: int) -> np.ndarray:
        return np.full((self.layout.n_channels, self._length(number)), np.nan)

    def _length(self, number: int) -> int:
        start, stop = self.bounds[number]
        return stop - start


def _decode_block(storage: str, body: bytes, n_samples: int) -> tuple[np.ndarray | None, str]:
    """Return the samples of a block, or why it cannot be decoded: exceptions of coders need not be picklable."""
    try:
        return decode_body(layout_from(storage), body, n_samples), ""
    except (ArithmeticError, LookupError, ValueError) as error:
        return None, str(error) or type(error).__name__
