"""Windows of many recordings in batches of one montage and one length, in an order that a seed decides."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, is_dataclass
from typing import Any

import numpy as np
import torch

from mne_labram.signal.windows import n_samples

__all__ = ["WindowBatches"]

# Independent streams of random numbers from one seed.
_ORDER, _AUGMENTATION = 1, 2

Augment = Callable[[dict[str, Any], np.random.Generator], Mapping[str, Any]]


@dataclass(frozen=True)
class _Bucket:
    """All windows of one montage and one length."""

    ch_names: tuple[str, ...]
    positions: np.ndarray | None
    n_times: int
    batch_size: int
    file: np.ndarray
    start: np.ndarray
    # How many samples later each window may begin without leaving what is usable.
    room: np.ndarray
    group: np.ndarray
    # How often the windows of each group come in an epoch.
    weights: tuple[float, ...]

    def n_windows(self) -> int:
        """Count the windows of an epoch."""
        counts = np.bincount(self.group, minlength=len(self.weights))
        return sum(_times(int(count), weight) for count, weight in zip(counts, self.weights, strict=True))

    def n_batches(self) -> int:
        """Count the batches of an epoch."""
        return math.ceil(self.n_windows() / self.batch_size)

    def rows(self, rng: np.random.Generator | None) -> np.ndarray:
        """Choose the windows of an epoch, in order or shuffled."""
        chosen = []
        for group, weight in enumerate(self.weights):
            own = np.flatnonzero(self.group == group)
            whole, rest = divmod(_times(len(own), weight), max(1, len(own)))
            part = own[:rest] if rng is None else rng.permutation(own)[:rest]
            chosen += [own] * whole + [part]
        rows = np.concatenate(chosen)
        return rows if rng is None else rng.permutation(rows)


@dataclass(frozen=True)
class _Batch:
    """Which windows a batch is made of."""

    bucket: _Bucket
    file: np.ndarray
    start: np.ndarray


def _times(count: int, weight: float) -> int:
    """Windows of an epoch from a group of ``count`` windows."""
    return max(1, round(count * weight)) if count and weight > 0 else 0


class WindowBatches:
    """Cut recordings into windows, and windows into batches.

    Parameters
    ----------
    store : ConformedStore
        The recordings, or anything with ``contract``, ``recordings``, ``windows()`` and ``read()`` like it.
    lengths : sequence of float | None
        Window lengths in seconds. Every stretch of signal is cut into windows of each length; a recording (or epoch)
        that is shorter gives windows of all the whole patches it has. ``None``: 4 s, or as ``tokens_per_window`` says.
    tokens_per_window : int | None
        Instead of ``lengths``: each recording gets windows of so many tokens (channels times patches), in whole
        patches, between one and the longest that the contract allows. Jiang et al. (2024), appendix D, take 256.
    batch_size : int | None
        Windows per batch, over all processes together.
    tokens_per_batch : int | None
        Instead of ``batch_size``: as many windows as have this many tokens, so that batches of few channels and of
        many cost about the same.
    stride : float | None
        Seconds between the starts of windows; ``None``: windows lie side by side.
    shift : bool
        Let every window begin up to one stride later, by another amount in every epoch, where the signal allows it.
    weights : dict of str to float | None
        How often the windows of a data set (or of one of the ``groups``) come in an epoch, by its name; 0.5 takes
        another half each time. What is not named comes once.
    groups : callable | None
        ``groups(file, start, n_times)``, of two arrays and a number of samples, returns an array with the name of the
        group that each window belongs to. ``None``: the data sets.
    labels : callable | None
        ``labels(file, start, n_times)`` returns an integer array for one window, as long for all windows of a length;
        batches then have ``"y"``.
    augment : callable | None
        ``augment(batch, generator)`` returns the batch that is trained on, with as many windows. The NumPy generator
        depends on the seed, the epoch and the place of the batch in it only.
    shuffle : bool
        Take windows in random order, with the batches of all montages interleaved evenly. Otherwise, montage after
        montage, without shift: for validation.
    workers : int
        Threads that read ahead; 0 reads when a batch is asked for. The batches are the same.
    seed : int
        Seed of order, shift and augmentation.

    Raises
    ------
    ValueError
        If an argument makes no sense, a data set in ``weights`` is not there, or no window fits.

    Notes
    -----
    A batch holds one montage (the same channels in the same order, at the same places) and one length. An epoch has
    the same number of batches every time, and its order is a function of seed and epoch, so a training can be resumed
    at any batch. A montage with few windows makes smaller batches, never none.
    """

    def __init__(
        self,
        store: Any,
        *,
        lengths: Sequence[float] | None = None,
        tokens_per_window: int | None = None,
        batch_size: int | None = None,
        tokens_per_batch: int | None = None,
        stride: float | None = None,
        shift: bool = True,
        weights: Mapping[str, float] | None = None,
        groups: Callable[[np.ndarray, np.ndarray, int], np.ndarray] | None = None,
        labels: Callable[[int, int, int], np.ndarray] | None = None,
        augment: Augment | None = None,
        shuffle: bool = True,
        workers: int = 1,
        seed: int = 0,
    ) -> None:
        if lengths is not None and tokens_per_window is not None:
            raise ValueError("Give lengths or tokens_per_window, not both.")
        if lengths is not None and not len(lengths):
            raise ValueError("lengths is empty; give one window length in seconds or more.")
        if (batch_size is None) == (tokens_per_batch is None):
            raise ValueError("Give batch_size or tokens_per_batch, one of the two.")
        for name, value in (
            ("tokens_per_window", tokens_per_window),
            ("batch_size", batch_size),
            ("tokens_per_batch", tokens_per_batch),
        ):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        if workers < 0:
            raise ValueError(f"workers must not be negative, got {workers}.")
        self.store, self.seed, self.shuffle, self.shift = store, seed, shuffle, shift
        self.augment, self.workers = augment, workers
        self._size = batch_size, tokens_per_batch
        self._groups, self._labels = groups or _by_dataset(store), labels
        self._weights = _checked_weights(weights)
        named: set[str] = set()
        contract = store.contract
        self._patch, self._sfreq = contract.patch_samples, contract.sfreq
        asked = [n_samples(seconds, self._sfreq, "lengths") for seconds in lengths or (4.0,)]
        for n_times in asked:
            self._check_length(n_times)
        wanted: dict[int, set[int]] = {}
        for i, recording in enumerate(store.recordings):
            own = asked
            if tokens_per_window is not None:
                own = [min(contract.max_patches, max(1, tokens_per_window // len(recording.ch_names))) * self._patch]
            # Whole patches of the longest stretch without a gap: all there is of a short recording.
            longest = max((stop - first for first, stop in recording.segments), default=0) // self._patch * self._patch
            for n_times in own:
                if longest:
                    wanted.setdefault(min(n_times, longest), set()).add(i)
        self._buckets: list[_Bucket] = []
        for n_times, files in sorted(wanted.items()):
            named |= self._add_buckets(n_times, stride, sorted(files))
        if self._buckets and (unknown := sorted(set(self._weights) - named)):
            raise ValueError(
                f"There is no data set or group {unknown[0]!r} to weigh; there are {', '.join(sorted(named))}."
            )
        if not self._buckets:
            raise ValueError(
                f"No window fits into the usable signal of the {len(store.recordings)} recording(s); take shorter "
                "windows or other recordings."
            )

    def _check_length(self, n_times: int) -> None:
        """Refuse what is not made of whole patches, or of too many."""
        most = self.store.contract.max_patches
        if n_times % self._patch or not 1 <= n_times // self._patch <= most:
            raise ValueError(
                f"A window is 1 to {most} whole patches of {self._patch / self._sfreq:g} s long, "
                f"got {n_times / self._sfreq:g} s."
            )

    def _add_buckets(self, n_times: int, stride: float | None, files: list[int]) -> set[str]:
        """Sort the windows of one length by montage; return the groups that they belong to."""
        seconds = n_times / self._sfreq
        table = self.store.windows(seconds, stride=stride)
        step = n_times if stride is None else n_samples(stride, self._sfreq, "stride")
        file, start = np.asarray(table.file), np.asarray(table.start)
        kept = np.isin(file, files)
        file, start = file[kept], start[kept]
        if not len(file):
            return set()
        recordings = self.store.recordings
        names, group = np.unique(np.asarray(self._groups(file, start, n_times), dtype=str), return_inverse=True)
        room = _room(self.store, file, start, n_times, step)
        montages: dict[tuple, list[int]] = {}
        for i in np.unique(file).tolist():
            montages.setdefault(_montage(recordings[i]), []).append(i)
        # By name, not by the order of files, so that a renamed folder does not change the order of montages.
        keys = sorted(montages, key=repr)
        number = np.zeros(len(recordings), dtype=np.int32)
        for k, key in enumerate(keys):
            number[montages[key]] = k
        order = np.argsort(number[file], kind="stable")
        parts = np.split(order, np.cumsum(np.bincount(number[file], minlength=len(keys)))[:-1])
        for key, mine in zip(keys, parts, strict=True):
            first = recordings[montages[key][0]]
            batch_size, tokens = self._size
            if batch_size is None:
                batch_size = max(1, tokens // (len(first.ch_names) * (n_times // self._patch)))
            bucket = _Bucket(
                tuple(first.ch_names),
                None if first.positions is None else np.asarray(first.positions),
                n_times,
                batch_size,
                file[mine],
                start[mine],
                room[mine],
                group[mine].astype(np.int16),
                tuple(self._weights.get(name, 1.0) for name in names.tolist()),
            )
            if bucket.n_batches():
                self._buckets.append(bucket)
        return set(names.tolist())

    def __len__(self) -> int:
        """Count the batches of an epoch."""
        return sum(bucket.n_batches() for bucket in self._buckets)

    @property
    def n_windows(self) -> int:
        """Windows of an epoch."""
        return sum(bucket.n_windows() for bucket in self._buckets)

    @property
    def montages(self) -> list[tuple[tuple[str, ...], int, int]]:
        """Channel names, samples per window and windows per epoch of everything that makes batches of its own."""
        return [(bucket.ch_names, bucket.n_times, bucket.n_windows()) for bucket in self._buckets]

    @property
    def common_channels(self) -> list[str]:
        """Channel names of the montage with the most windows."""
        return list(max(self._buckets, key=lambda bucket: bucket.n_windows()).ch_names)

    def fingerprint(self) -> dict[str, Any]:
        """Describe the data in a few words, to tell whether a resumed training gets the same.

        Returns
        -------
        fingerprint : dict
            ``"n_recordings"``, ``"n_windows"``, ``"n_batches"`` and ``"digest"`` of what the windows are.
        """
        digest = hashlib.sha256()
        for bucket in self._buckets:
            digest.update(repr((bucket.ch_names, bucket.n_times, bucket.batch_size, bucket.weights)).encode())
            for array in (bucket.file, bucket.start, bucket.room):
                digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
        return {
            "n_recordings": len(self.store.recordings),
            "n_windows": self.n_windows,
            "n_batches": len(self),
            "digest": digest.hexdigest()[:16],
        }

    def options(self) -> dict[str, Any]:
        """Return what decides on order and augmentation, as plain JSON values."""
        augment = self.augment
        name = None if augment is None else repr(augment) if is_dataclass(augment) else _name_of(augment)
        return {"seed": self.seed, "shuffle": self.shuffle, "shift": self.shift, "augment": name}

    def plan(self, epoch: int) -> list[_Batch]:
        """Decide which windows the batches of an epoch are made of.

        Parameters
        ----------
        epoch : int
            Number of the epoch, from 0.

        Returns
        -------
        batches : list
            In order; nothing has been read.
        """
        rng = np.random.default_rng([self.seed, _ORDER, epoch]) if self.shuffle else None
        batches, keys = [], []
        for bucket in self._buckets:
            rows = bucket.rows(rng)
            file, start = bucket.file[rows], bucket.start[rows]
            if rng is not None and self.shift:
                start = start + (rng.random(len(rows)) * (bucket.room[rows] + 1)).astype(np.int64)
            n = bucket.n_batches()
            # Equal parts, not full batches and a small rest: a step on few windows would be a noisy one.
            for part in np.array_split(np.arange(len(rows)), n):
                batches.append(_Batch(bucket, file[part], start[part]))
            # Spread evenly over the epoch, so that no montage is forgotten while others follow one another.
            keys.append((np.arange(n) + (0.5 if rng is None else rng.random(n))) / n)
        if rng is None:
            return batches
        return [batches[i] for i in np.argsort(np.concatenate(keys), kind="stable")]

    def iterate(self, epoch: int = 0, first: int = 0, *, process: int = 0, n_processes: int = 1) -> Iterator[dict]:
        """Read the batches of an epoch.

        Parameters
        ----------
        epoch : int
            Number of the epoch, from 0.
        first : int
            Batch to begin with.
        process, n_processes : int
            Which of how many processes asks. Every batch is divided between all of them; a process gets the windows
            that follow those of the process before it.

        Yields
        ------
        batch : dict
            ``"x"``, float32 tensor, shape (batch, n_chans, n_times), microvolts; ``"ch_names"``; ``"positions"``,
            array of shape (n_chans, 6) in metres, or ``None``; ``"y"``, an int64 tensor, if there are ``labels``;
            ``"n_windows"``, of all processes together; and
            ``"share"``, the weight of this process's mean in that of the whole batch. A batch of fewer windows than
            processes has one of them on several.
        """
        plan = self.plan(epoch)

        def load(index: int) -> dict[str, Any]:
            return self._load(plan[index], epoch, index, process, n_processes)

        if not self.workers:
            yield from map(load, range(first, len(plan)))
            return
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="window-batches")
        try:
            ahead: list[Future] = []
            for index in range(first, len(plan)):
                ahead.append(pool.submit(load, index))
                if len(ahead) > 2 * self.workers:
                    yield ahead.pop(0).result()
            while ahead:
                yield ahead.pop(0).result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def __iter__(self) -> Iterator[dict]:
        """Read the batches of epoch 0."""
        return self.iterate()

    def _load(self, batch: _Batch, epoch: int, index: int, process: int, n_processes: int) -> dict[str, Any]:
        """Read this process's windows of a batch."""
        n = len(batch.file)
        if n >= n_processes:
            own = np.array_split(np.arange(n), n_processes)[process]
            share = len(own) / n
        else:
            own = np.array([process % n])
            share = 1.0 / (n * len(range(process % n, n_processes, n)))
        # An augmentation sees the whole batch: what it draws must not depend on the number of processes.
        rows = own if self.augment is None else np.arange(n)
        bucket = batch.bucket
        x = np.empty((len(rows), len(bucket.ch_names), bucket.n_times), dtype=np.float32)
        for out, row in zip(x, rows, strict=True):
            out[...] = self.store.read(int(batch.file[row]), int(batch.start[row]), bucket.n_times)
        signal = {"x": torch.from_numpy(x), "ch_names": list(bucket.ch_names), "positions": bucket.positions}
        if self._labels is not None:
            y = [self._labels(int(batch.file[row]), int(batch.start[row]), bucket.n_times) for row in rows]
            signal["y"] = torch.from_numpy(np.stack(y).astype(np.int64))
        if self.augment is not None:
            generator = np.random.default_rng([self.seed, _AUGMENTATION, epoch, index])
            signal = dict(self.augment(signal, generator))
            if len(signal["x"]) != n:
                raise ValueError(f"The augmentation made {len(signal['x'])} windows of {n}; it must keep their number.")
            for name in {"x", "y", "artefact"} & set(signal):
                signal[name] = signal[name][int(own[0]) : int(own[-1]) + 1]
        return {**signal, "n_windows": n, "share": share}


def _name_of(function: Any) -> str:
    """Name a function; its address, which ``repr`` would show, is another one every time."""
    return getattr(function, "__qualname__", type(function).__qualname__)


def _montage(recording: Any) -> tuple:
    """Return what the windows of a batch have in common: the channels, in order, and their places."""
    if recording.positions is None:
        return tuple(recording.ch_names), None
    # To the tenth of a millimetre.
    places = np.round(np.asarray(recording.positions, dtype=float), 4) + 0.0
    return tuple(recording.ch_names), places.tobytes()


def _by_dataset(store: Any) -> Callable[[np.ndarray, np.ndarray, int], np.ndarray]:
    """Group windows by the data set they are from."""
    names = np.array([str(recording.dataset) for recording in store.recordings])
    return lambda file, start, n_times: names[file]


def _checked_weights(weights: Mapping[str, float] | None) -> dict[str, float]:
    """Refuse weights that are negative."""
    weights = {} if weights is None else {str(name): float(weight) for name, weight in weights.items()}
    for name, weight in weights.items():
        if not (math.isfinite(weight) and weight >= 0):
            raise ValueError(f"The weight of {name!r} must not be negative, got {weight}.")
    return weights


def _room(store: Any, file: np.ndarray, start: np.ndarray, n_times: int, stride: int) -> np.ndarray:
    """Count the samples by which windows can be moved towards later times, within stretch and usable seconds."""
    sfreq = store.contract.sfreq
    room = np.zeros(len(file), dtype=np.int32)
    # Tables are in order of files, so each file is one piece.
    numbers, firsts = np.unique(file, return_index=True)
    for i, first, stop in zip(numbers.tolist(), firsts, [*firsts[1:], len(file)], strict=True):
        recording, begins = store.recordings[i], start[first:stop]
        segments = np.array(recording.segments, dtype=np.int64).reshape(-1, 2)
        segments = segments[np.argsort(segments[:, 0], kind="stable")]
        stops = segments[np.searchsorted(segments[:, 0], begins, side="right") - 1, 1]
        bad = np.flatnonzero(recording.unusable) * sfreq
        # The next unusable second after the window, if there is one.
        following = np.searchsorted(bad, begins + n_times)
        stops = np.minimum(stops, np.append(bad, np.inf)[following])
        room[first:stop] = np.clip(np.floor(stops) - n_times - begins, 0, stride - 1)
    return room
