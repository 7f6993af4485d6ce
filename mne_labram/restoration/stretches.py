"""Restore stretch after stretch of a signal: baselines, gain and offset, seams; in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from mne_labram.restoration.bands import constant_runs
from mne_labram.restoration.hidden import MIN_VISIBLE, Intervals
from mne_labram.restoration.predictors import ChannelPredictor
from mne_labram.signal.contract import ContractError

__all__ = ["SeamFit", "Signal", "observe_signal", "restore_signal"]

# Seconds. Slow baselines are medians of blocks; predictions are made of stretches with what is around them, and fade
# into the next; gain and offset are found in the neighbourhood of what is hidden.
_BLOCK, _CORE, _CONTEXT, _OVERLAP, _NEIGHBOURHOOD = 20.0, 60.0, 4.0, 1.0, 10.0
# Blocks on either side that a baseline may be taken over from, and the share of a block that a median needs.
_REACH, _SHARE = 3, 0.1
# Patterns of hidden channels that a neighbourhood may have before it is made smaller, and seconds that it keeps.
_MOST_PATTERNS, _LEAST_NEIGHBOURHOOD = 32, 1.0
# Intervals of a recording, and of each second of it, that are compared with their neighbourhoods: each takes a
# prediction of its own, and thousands would take hours. Where there are more, those of this many seconds at least
# come first, and of shorter ones the ends say nearly everything.
_MOST_COMPARED, _COMPARED_PER_SECOND, _WORTH_COMPARING = 64, 0.25, 0.5
# Seconds of neighbourhood that the gain 1 counts as, its bounds, and seconds that an offset needs.
_GAIN_PRIOR, _GAINS, _OFFSET_NEEDS = 4.0, (0.25, 4.0), 0.5
# µV; what is expected to be less is rounding.
_LEAST_ERROR = 1e-6


@dataclass(frozen=True)
class Signal:
    """Samples that can be read piece by piece, and what is known of them.

    Attributes
    ----------
    read : callable
        ``read(start, stop)`` returns new microvolts, shape (n_channels, stop - start).
    n_times : int
        Samples.
    sfreq : float
        Samples per second.
    targets : Intervals
        What to restore.
    distrusted : Intervals
        What not to believe either.
    avoided : Intervals
        Where nothing is to be learned.
    """

    read: Callable[[int, int], np.ndarray]
    n_times: int
    sfreq: float
    targets: Intervals
    distrusted: Intervals
    avoided: Intervals


@dataclass
class SeamFit:
    """How what was predicted is fitted to what is visible of the same channels around one interval.

    Attributes
    ----------
    start, stop : int
        Samples of the interval.
    rows : list of int
        Channels.
    gain : ndarray, shape (n_rows,)
        Factors.
    offset : ndarray, shape (n_rows, 2)
        µV at the beginning and at the end.
    seam : ndarray, shape (n_rows, 2)
        What the last visible sample before, and the first one after, differ by from what is predicted there, in µV.
    residual : ndarray, shape (n_rows,)
        Standard deviation of what is left, in µV; NaN where nothing is visible.
    surprise : ndarray, shape (n_rows,)
        What is left over what was expected to be left: the factor of the deviations expected in the interval.
    seconds : ndarray, shape (n_rows,)
        How much was visible.
    """

    start: int
    stop: int
    rows: list[int]
    gain: np.ndarray = field(init=False)
    offset: np.ndarray = field(init=False)
    seam: np.ndarray = field(init=False)
    residual: np.ndarray = field(init=False)
    surprise: np.ndarray = field(init=False)
    seconds: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        n = len(self.rows)
        self.gain, self.offset, self.seam = np.ones(n), np.zeros((n, 2)), np.zeros((n, 2))
        self.residual, self.surprise, self.seconds = np.full(n, np.nan), np.ones(n), np.zeros(n)

    def apply(self, predicted: np.ndarray, start: int, fade: int) -> np.ndarray:
        """Return predictions of samples ``start...`` of the interval, shape (n_rows, n), as they go into it."""
        at = np.arange(start, start + predicted.shape[1]) - self.start
        length = self.stop - self.start
        along = (at + 0.5) / length
        out = self.gain[:, None] * predicted + self.offset @ np.stack([1 - along, along])
        width = min(fade, length)
        if width == 0:
            return out
        # Raised cosines that begin at the visible sample on either side.
        for side, distance in enumerate((at + 1, length - at)):
            weight = 0.5 + 0.5 * np.cos(np.pi * np.minimum(distance / (width + 1), 1.0))
            out += self.seam[:, side : side + 1] * weight
        return out


class _Stretches:
    """Reads a signal without its slow baselines, which electrodes have each for itself."""

    def __init__(self, signal: Signal) -> None:
        self.signal = signal
        self.hidden = signal.targets.union(signal.distrusted)
        self.block = max(int(_BLOCK * signal.sfreq), 1)
        # At least half a block at the end, so that no median is of a few samples.
        self.n_blocks = max(int(round(signal.n_times / self.block)), 1)
        self.broken = self.non_finite = np.zeros((self.hidden.n_channels, 0), dtype=bool)
        self._medians = lru_cache(maxsize=64)(self._read_medians)

    def load(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return samples less their baselines, what is hidden of them, and the baseline of all channels together.

        What is not finite is hidden, and set in ``non_finite``; where nobody said that it would be, in ``broken`` too.
        """
        x = self.signal.read(start, stop)
        hidden = self.hidden.mask(start, stop)
        broken = ~np.isfinite(x)
        self.broken, self.non_finite = broken & ~hidden, broken
        hidden |= broken
        x[broken] = 0.0
        own, common = self.baseline(start, stop)
        return x - own, hidden, common

    def _read_medians(self, number: int) -> np.ndarray:
        start = number * self.block
        stop = self.signal.n_times if number == self.n_blocks - 1 else start + self.block
        x = self.signal.read(start, stop)
        x[self.hidden.mask(start, stop) | ~np.isfinite(x)] = np.nan
        out = np.full(len(x), np.nan)
        enough = np.isfinite(x).mean(axis=1) >= _SHARE
        if enough.any():
            out[enough] = np.nanmedian(x[enough], axis=1)
        return out

    def _filled(self, number: int) -> tuple[np.ndarray, float]:
        """Medians of a block, taken over from blocks nearby where there is none, and the median over channels."""
        medians = self._medians(number)
        common = float(np.nanmedian(medians)) if np.isfinite(medians).any() else 0.0
        out = medians.copy()
        for distance in range(1, _REACH + 1):
            if np.isfinite(out).all():
                break
            near = [n for n in (number - distance, number + distance) if 0 <= n < self.n_blocks]
            both = np.stack([self._medians(n) for n in near]) if near else np.full((1, len(out)), np.nan)
            count = np.isfinite(both).sum(axis=0)
            mean = np.divide(np.nansum(both, axis=0), count, out=np.full(len(out), np.nan), where=count > 0)
            out = np.where(np.isfinite(out), out, mean)
        return np.where(np.isfinite(out), out, common), common

    def baseline(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Return slow baselines of the channels, and that of all of them together."""
        first = int(np.clip(start / self.block - 0.5, 0, self.n_blocks - 1))
        last = int(np.clip(np.ceil(stop / self.block - 0.5), 0, self.n_blocks - 1))
        numbers = np.arange(first, last + 1)
        filled = [self._filled(int(number)) for number in numbers]
        place = np.arange(start, stop) / self.block - 0.5
        own = np.stack([np.interp(place, numbers, column) for column in np.stack([each for each, _ in filled]).T])
        return own, np.interp(place, numbers, [common for _, common in filled])


def observe_signal(signal: Signal, predictor: ChannelPredictor, seconds: float) -> float:
    """Show a predictor what a recording looks like where it is good.

    Parameters
    ----------
    signal : Signal
        The recording.
    predictor : ChannelPredictor
        What learns.
    seconds : float
        No more than this is read, in pieces spread over the recording.

    Returns
    -------
    seconds : float
        How much was shown.
    """
    stretches = _Stretches(signal)
    wanted = max(int(seconds * signal.sfreq) // stretches.block, 1)
    numbers = np.unique(np.linspace(0, stretches.n_blocks - 1, min(wanted, stretches.n_blocks)).round().astype(int))
    shown = 0
    for number in numbers.tolist():
        start = number * stretches.block
        stop = signal.n_times if number == stretches.n_blocks - 1 else start + stretches.block
        x, hidden, _ = stretches.load(start, stop)
        avoid = signal.avoided.mask(start, stop).any(axis=0) | ((~hidden).sum(axis=0) < MIN_VISIBLE)
        for low, high in _runs(~avoid):
            if high - low >= signal.sfreq:
                predictor.observe(x[:, low:high], hidden[:, low:high])
                shown += high - low
    return shown / signal.sfreq


def restore_signal(
    signal: Signal,
    predictor: ChannelPredictor,
    crossfade: float,
    progress: Callable[[int, int, list[tuple[int, int]]], None] = lambda samples, broken, in_most: None,
    denoise: bool = False,
) -> Iterator[tuple[SeamFit, int, np.ndarray, np.ndarray]]:
    """Yield what replaces the targets, stretch by stretch.

    Parameters
    ----------
    signal : Signal
        The recording.
    predictor : ChannelPredictor
        Calibrated if it can be.
    crossfade : float
        Seconds over which what was predicted leads over to what is visible.
    progress : callable
        Told how many samples were done, how many values among the visible channels were not finite, and from which
        samples to which most channels hold an artefact.
    denoise : bool
        Let the predictor keep what of the targets agrees with its prediction; gain, offset and seams are then the
        targets' own.

    Yields
    ------
    fit : SeamFit
        The interval that it belongs to.
    start : int
        First sample.
    samples : ndarray, shape (n_rows, n)
        µV.
    deviation : ndarray, shape (n_rows, n)
        Expected standard deviation of the error in µV, NaN where not known.

    Raises
    ------
    ContractError
        If too few channels are visible somewhere because samples are not finite.
    """
    stretches = _Stretches(signal)
    sfreq, n_times = signal.sfreq, signal.n_times
    context, overlap, core = int(_CONTEXT * sfreq), int(_OVERLAP * sfreq), max(int(_CORE * sfreq), 1)
    groups = signal.targets.groups()
    fits = [SeamFit(*group) for group in groups]
    joined: list[SeamFit] = []
    ends = Intervals(signal.targets.n_channels, n_times)
    if not denoise:
        most = max(_MOST_COMPARED, int(_COMPARED_PER_SECOND * n_times / sfreq))
        compared = set(range(len(groups)))
        if len(groups) > most:
            # The first of those that are equally long.
            longest = sorted(compared, key=lambda number: groups[number][0] - groups[number][1])[:most]
            compared = {n for n in longest if groups[n][1] - groups[n][0] >= _WORTH_COMPARING * sfreq}
        fits = [
            _fit(stretches, predictor, *group) if number in compared else _level(stretches, *group)
            for number, group in enumerate(groups)
        ]
        joined = [fit for number, fit in enumerate(fits) if number not in compared]
        for fit in joined:
            ends.add(fit.start - 1, fit.stop + 1, fit.rows)
    fade = int(round(crossfade * sfreq))
    for begin, end in _joined([(fit.start, fit.stop) for fit in fits], 2 * context):
        cuts = [*range(begin, end, core), end]
        if len(cuts) > 2 and cuts[-1] - cuts[-2] < overlap:
            del cuts[-2]
        tail = None
        for start, stop in zip(cuts[:-1], cuts[1:], strict=True):
            low, high = max(start - context, 0), min(stop + max(context, overlap), n_times)
            x, hidden, common = stretches.load(low, high)
            broken = int(stretches.broken[:, start - low : stop - low].sum())
            doubtful = signal.targets.mask(low, high) & ~stretches.non_finite if denoise else None
            visible = ~hidden
            if joined:
                beside = ends.mask(low, high)
                hidden |= beside & ((visible & ~beside).sum(axis=0) >= MIN_VISIBLE)
            restored, deviation = _predict(stretches, predictor, low, x, hidden, doubtful)
            _join(joined, low, x, visible & hidden, restored, stretches.baseline(low, high)[0] - common)
            here = restored[:, start - low : stop - low]
            if tail is not None:
                width = min(tail.shape[1], here.shape[1])
                weight = 0.5 - 0.5 * np.cos(np.pi * (np.arange(width) + 0.5) / width)
                here[:, :width] = (1 - weight) * tail[:, :width] + weight * here[:, :width]
            tail = restored[:, stop - low : stop - low + overlap].copy()
            for fit in fits:
                first, last = max(fit.start, start), min(fit.stop, stop)
                if first >= last:
                    continue
                samples = fit.apply(here[fit.rows, first - start : last - start], first, fade)
                samples += common[first - low : last - low]
                expected = fit.surprise[:, None] * deviation[fit.rows, first - low : last - low]
                expected = np.where(np.isfinite(expected), expected, fit.residual[:, None])
                # Of channels without any signal no error can be told, and it is not none.
                yield fit, first, samples, np.where(expected > _LEAST_ERROR, expected, np.nan)
            in_most = getattr(predictor, "in_most", None) if denoise else None
            spans = [] if in_most is None else _runs(in_most[start - low : stop - low])
            progress(stop - start, broken, [(start + first, start + last) for first, last in spans])


def _predict(
    stretches: _Stretches,
    predictor: ChannelPredictor,
    start: int,
    x: np.ndarray,
    hidden: np.ndarray,
    doubtful: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Predict what is hidden of a stretch; where nothing is asked for, too little may be visible."""
    few = (~hidden).sum(axis=0) < MIN_VISIBLE
    if few.any():
        lacking = few & stretches.signal.targets.mask(start, start + x.shape[1]).any(axis=0)
        if lacking.any():
            raise ContractError(
                f"At {(start + int(np.argmax(lacking))) / stretches.signal.sfreq:.6g} s fewer than {MIN_VISIBLE} "
                "channels hold numbers that can be restored from; leave that part out of the segments."
            )
        x = np.where(few, 0.0, x)
        hidden = hidden & ~few
    return predictor.predict(x, hidden) if doubtful is None else predictor.predict(x, hidden, doubtful & hidden)


def _fit(stretches: _Stretches, predictor: ChannelPredictor, start: int, stop: int, rows: list[int]) -> SeamFit:
    """Predict what is visible of the channels around an interval, too, and compare."""
    fit = SeamFit(start, stop, rows)
    sfreq, n_times = stretches.signal.sfreq, stretches.signal.n_times
    reach, context = int(_NEIGHBOURHOOD * sfreq), int(_CONTEXT * sfreq)
    # Where a great deal else is hidden nearby, each of whose patterns has weights of its own, a smaller one has to do.
    while reach > _LEAST_NEIGHBOURHOOD * sfreq and _many(stretches, max(start - reach, 0), min(stop + reach, n_times)):
        reach, context = reach // 2, context // 2
    low, high = max(start - reach, 0), min(stop + reach, n_times)
    pieces = [(max(low - context, 0), min(high + context, n_times))]
    if stop - start > 4 * reach:
        pieces = [(pieces[0][0], start + context), (stop - context, pieces[0][1])]
    sides: list[list[tuple[np.ndarray, ...]]] = [[], []]
    for first, last in pieces:
        more = np.zeros((stretches.hidden.n_channels, last - first), dtype=bool)
        more[rows, max(low - first, 0) : high - first] = True
        x, hidden, common = stretches.load(first, last)
        left, right = (max(low - first, 0), start - first), (stop - first, high - first)
        if not any(b > a >= 0 and (~hidden[rows, a:b]).any() for a, b in (left, right)):
            continue
        more |= hidden
        use = ~hidden[rows] & ((~more).sum(axis=0) >= MIN_VISIBLE)
        predicted, deviation = _predict(stretches, predictor, first, x, np.where(use.any(axis=0), more, hidden))
        level = x[rows] + stretches.baseline(first, last)[0][rows] - common
        for side, (a, b) in enumerate((left, right)):
            if a >= 0 and b > a:
                sides[side].append((level[:, a:b], predicted[rows, a:b], use[:, a:b], deviation[rows, a:b]))
    for row in range(len(rows)):
        _fit_row(fit, row, sides, sfreq)
    return fit


def _level(stretches: _Stretches, start: int, stop: int, rows: list[int]) -> SeamFit:
    """Take an interval to be as its slow baselines are; its ends are joined when it is predicted."""
    fit = SeamFit(start, stop, rows)
    own, common = stretches.baseline(start, stop)
    fit.offset[:] = (own[rows] - common)[:, [0, -1]]
    return fit


def _join(
    fits: Iterable[SeamFit], start: int, x: np.ndarray, known: np.ndarray, predicted: np.ndarray, level: np.ndarray
) -> None:
    """Compare the samples beside intervals, which were predicted with them, in a stretch that begins at ``start``."""
    for fit in fits:
        for side, edge in enumerate((fit.start - 1 - start, fit.stop - start)):
            if not 0 <= edge < x.shape[1]:
                continue
            for index, row in enumerate(fit.rows):
                if known[row, edge]:
                    fit.seam[index, side] = (
                        x[row, edge] - predicted[row, edge] + level[row, edge] - fit.offset[index, side]
                    )


def _many(stretches: _Stretches, start: int, stop: int) -> bool:
    return len(constant_runs(stretches.hidden.mask(start, stop))) > _MOST_PATTERNS


def _fit_row(fit: SeamFit, row: int, sides: list[list[tuple[np.ndarray, ...]]], sfreq: float) -> None:
    parts = [
        (side, *(np.concatenate([piece[kind][row] for piece in pieces]) for kind in range(4)))
        for side, pieces in enumerate(sides)
        if pieces
    ]
    seen = [(side, x[use], p[use], d[use]) for side, x, p, use, d in parts if use.sum() >= _OFFSET_NEEDS * sfreq]
    if seen:
        cross = sum((x - x.mean()) @ (p - p.mean()) for _, x, p, _ in seen)
        power = sum((p - p.mean()) @ (p - p.mean()) for _, _, p, _ in seen)
        fit.seconds[row] = sum(len(x) for _, x, _, _ in seen) / sfreq
        prior = _GAIN_PRIOR / fit.seconds[row]
        if power > 0:
            fit.gain[row] = np.clip((cross / power + prior) / (1 + prior), *_GAINS)
        offsets = {side: x.mean() - fit.gain[row] * p.mean() for side, x, p, _ in seen}
        fit.offset[row] = [offsets.get(0, offsets.get(1)), offsets.get(1, offsets.get(0))]
        rest = np.concatenate([x - fit.gain[row] * p - offsets[side] for side, x, p, _ in seen])
        expected = np.concatenate([d for _, _, _, d in seen])
        fit.residual[row] = np.sqrt(np.mean(rest**2))
        if np.isfinite(expected).all() and expected.any():
            ratio = np.mean(rest**2) / np.mean(expected**2)
            fit.surprise[row] = np.sqrt((ratio + prior) / (1 + prior))
    for side, x, p, use, _ in parts:
        edge = -1 if side == 0 else 0
        if use[edge]:
            fit.seam[row, side] = x[edge] - fit.gain[row] * p[edge] - fit.offset[row, side]


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _joined(intervals: list[tuple[int, int]], gap: int) -> list[tuple[int, int]]:
    """Join intervals that are no further apart than this."""
    out: list[list[int]] = []
    for start, stop in sorted(intervals):
        if out and start - out[-1][1] <= gap:
            out[-1][1] = max(out[-1][1], stop)
        else:
            out.append([start, stop])
    return [(start, stop) for start, stop in out]
