"""A conformed recording as a stream of blocks with bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import mne
import numpy as np

from mne_labram.signal.contract import SignalContract
from mne_labram.signal.filtering import FilterChain
from mne_labram.signal.quality import QualityThresholds, SecondQuality, n_seconds, second_edges, unusable_seconds
from mne_labram.signal.report import ConformReport
from mne_labram.signal.seams import FileGap
from mne_labram.signal.source import RawSource

__all__ = ["Block", "ConformPlan", "with_progress"]

_Piece = TypeVar("_Piece")

#: Bytes of one filtered block inside the stream; larger ones are slower (they leave the cache) and cost memory.
_BLOCK_BYTES = 6 * 2**20


@dataclass(frozen=True)
class Block:
    """A piece of a conformed recording.

    Attributes
    ----------
    start : int
        First sample at the contract's rate, counted from the beginning of the recording.
    data : ndarray of float32, shape (n_chans, n_times)
        Microvolts.
    unusable : ndarray of bool, shape (n_seconds,)
        Seconds that must not be analysed; the block begins with the first of them.
    """

    start: int
    data: np.ndarray
    unusable: np.ndarray


@dataclass
class ConformPlan:
    """How a continuous recording becomes what a contract asks. Made by :func:`~mne_labram.signal.conform.plan_conform`.

    Attributes
    ----------
    raw : mne.io.BaseRaw
        The recording.
    contract : SignalContract
        What is asked.
    report : ConformReport
        What was found and decided; the seconds fill in while blocks are read.
    chain : FilterChain
        The filters.
    source : RawSource
        Channels kept, in order.
    constants : ndarray, shape (n_chans,)
        Value in µV that stands for an absent sample, and is subtracted where there is a high-pass.
    limits : ndarray, shape (n_chans, 2)
        Lowest and highest value in µV that can be recorded, NaN where not known.
    thresholds : QualityThresholds
        What counts as unusable.
    gaps : list of FileGap
        Gaps of an EDF+D file.
    seams : list of int
        Source samples at which a new segment begins; nothing is filtered across, and the seconds on either side are
        unusable.
    annotations : mne.Annotations
        The recording's annotations, those of an EDF+D file moved to where their signal is.
    annotated : list of (float, float, ndarray of bool)
        Start and end in seconds of what an annotation calls bad, and the channels it concerns.
    """

    raw: mne.io.BaseRaw
    contract: SignalContract
    report: ConformReport
    chain: FilterChain
    source: RawSource
    constants: np.ndarray
    limits: np.ndarray
    thresholds: QualityThresholds
    annotations: mne.Annotations
    gaps: list[FileGap] = field(default_factory=list)
    seams: list[int] = field(default_factory=list)
    annotated: list[tuple[float, float, np.ndarray]] = field(default_factory=list)

    @property
    def ch_names(self) -> list[str]:
        """Canonical names, in the order of the data."""
        return self.report.ch_names

    @property
    def sfreq(self) -> float:
        """Sampling rate in Hz: the contract's."""
        return float(self.contract.sfreq)

    @property
    def n_times(self) -> int:
        """Samples at the contract's rate."""
        return self.chain.n_out(self.source.n_times)

    @property
    def montage(self) -> str:
        """``"referential"``, ``"bipolar"`` or ``"mixed"``."""
        return self.report.montage

    @property
    def first_time(self) -> float:
        """Seconds between the start of the measurement and the first sample, as in MNE."""
        return float(self.raw.first_time)

    @property
    def n_seconds(self) -> int:
        """Seconds at the contract's rate, the last perhaps a part of one."""
        return n_seconds(self.n_times, self.sfreq)

    def iter_blocks(self, block_seconds: float = 300.0) -> Iterator[Block]:
        """Read, filter and judge the recording block by block.

        Parameters
        ----------
        block_seconds : float
            Length of a block in whole seconds; the last may be shorter. The signal does not depend on it.

        Yields
        ------
        block : Block
            Blocks tile the recording without overlap. Memory does not grow with the length of the recording.
        """
        length = int(block_seconds)
        if length < 1 or length != block_seconds:
            raise ValueError(f"block_seconds must be a whole number of seconds, got {block_seconds}.")
        tracker = self._start_judging()
        edges = second_edges(0, self.n_seconds, self.sfreq, self.n_times)
        cuts = [*edges[:-1:length].tolist(), self.n_times]
        pieces = self._segments(tracker)
        for index, (start, data) in enumerate(_recut(pieces, cuts)):
            data = self._referenced(data)
            first = index * length
            last = min(first + length, self.n_seconds)
            self._judge_until(tracker, last)
            yield Block(start, data.astype(np.float32), self.report.unusable[first:last].copy())

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read and filter a stretch of the recording, without judging it.

        Parameters
        ----------
        start, stop : int
            First sample at the contract's rate, and the one after the last.

        Returns
        -------
        data : ndarray of float32, shape (n_chans, stop - start)
            Microvolts: what :meth:`iter_blocks` gives there, to rounding.

        Raises
        ------
        ValueError
            If the stretch is empty or does not lie within the recording.
        """
        if not 0 <= start < stop <= self.n_times:
            raise ValueError(f"Samples {start} to {stop} do not lie within the {self.n_times} of the recording.")
        data = np.concatenate(list(self._segments(None, start, stop)), axis=1)
        return self._referenced(data).astype(np.float32)

    def judge(self) -> None:
        """Judge every second without filtering, so that the report is complete."""
        tracker = self._start_judging()
        minutes = range(60, self.n_seconds + 60, 60)
        for last in with_progress(minutes, len(minutes), "Looking at every minute"):
            self._judge_until(tracker, last)

    # -- signal --------------------------------------------------------------------------------------------------
    def _referenced(self, data: np.ndarray) -> np.ndarray:
        if self.contract.reference == "average" and self.montage == "referential":
            return data - data.mean(axis=0, keepdims=True)
        return data

    def _read(self, tracker: SecondQuality | None, start: int, stop: int) -> np.ndarray:
        data = self.source(start, stop)
        data -= self.constants[:, None]
        if tracker is not None and start <= tracker.end:
            tracker.feed(start, data)
        data[~np.isfinite(data)] = 0.0
        if self.chain.l_freq is None:
            data += self.constants[:, None]
        return data

    def _segments(self, tracker: SecondQuality | None, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        n_in = self.source.n_times
        block = min(60_000, max(4096, int(_BLOCK_BYTES / 8 / max(1, len(self.constants)))))
        bounds = [0, *self.seams, n_in]
        for a, b in zip(bounds[:-1], bounds[1:], strict=True):
            first = max(start, self.chain.first_out(a))
            last = self.n_times if b == n_in else min(self.chain.first_out(b), self.n_times)
            last = last if stop is None else min(last, stop)
            if first >= last:
                continue
            stream = self.chain.stream(
                lambda i, j, a=a: self._read(tracker, a + i, a + j), b - a, start=first, stop=last, grid=a, block=block
            )
            for _, data in stream:
                yield data

    # -- seconds -------------------------------------------------------------------------------------------------
    def _start_judging(self) -> SecondQuality:
        report = self.report
        report.decided = 0
        report.channel_seconds = {}
        report.reasons = {}
        report.unusable = np.zeros(self.n_seconds, dtype=bool)
        limits = self.limits - self.constants[:, None]
        return SecondQuality(len(self.constants), self.source.sfreq, self.source.n_times, limits, self.thresholds)

    def _judge_until(self, tracker: SecondQuality, last: int) -> None:
        last = min(last, self.n_seconds)
        step = max(int(tracker.sfreq) + 1, min(int(60 * tracker.sfreq), _BLOCK_BYTES // (8 * len(self.constants))))
        while tracker.n_done < min(last, tracker.n_seconds):
            a = tracker.end
            self._read(tracker, a, min(a + step, self.source.n_times))
        first = self.report.decided
        if last <= first:
            return
        found = min(last, tracker.n_seconds)
        masks = {
            "missing": tracker.missing[first:found],
            "flat": tracker.flat[first:found],
            "clipped": tracker.clipped[first:found],
            "annotated": self._annotated_seconds(first, found),
        }
        share = self.thresholds.bad_share
        seam = self._seam_seconds(first, found)
        bad = seam | unusable_seconds(list(masks.values()), share)
        reasons = self.report.reasons
        for reason, seconds in (("at a seam", seam), *((r, m.mean(axis=1) > share) for r, m in masks.items())):
            if seconds.any():
                reasons[f"s {reason}"] = reasons.get(f"s {reason}", 0) + int(seconds.sum())
        for channel, name in enumerate(self.ch_names):
            counts = {problem: int(mask[:, channel].sum()) for problem, mask in masks.items()}
            if any(counts.values()):
                known = self.report.channel_seconds.setdefault(name, dict.fromkeys(masks, 0))
                for problem, n in counts.items():
                    known[problem] += n
        self.report.unusable[first:found] = bad
        self.report.decided = last

    def _annotated_seconds(self, first: int, last: int) -> np.ndarray:
        out = np.zeros((last - first, len(self.constants)), dtype=bool)
        for start, stop, channels in self.annotated:
            a = int(np.floor(start + 1e-6))
            b = max(int(np.ceil(stop - 1e-6)), a + 1)
            out[max(0, a - first) : max(0, b - first)] |= channels
        return out

    def _seam_seconds(self, first: int, last: int) -> np.ndarray:
        out = np.zeros(last - first, dtype=bool)
        for sample in self.seams:
            for each in (sample - 1, sample):
                second = int(each / self.source.sfreq) - first
                if 0 <= second < len(out):
                    out[second] = True
        return out


def with_progress(pieces: Iterable[_Piece], n_pieces: int, message: str) -> Iterable[_Piece]:
    """Show a bar while pieces of a recording go by, once that has taken two seconds."""
    return mne.utils.ProgressBar(pieces, max_value=n_pieces, mesg=message, delay=2.0)


def _recut(pieces: Iterable[np.ndarray], cuts: list[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Cut a stream of arrays at the samples ``cuts``, which begin with 0 and end with the last sample."""
    pieces = iter(pieces)
    rest: list[np.ndarray] = []
    n_rest = 0
    for start, stop in zip(cuts[:-1], cuts[1:], strict=True):
        while n_rest < stop - start:
            rest.append(next(pieces))
            n_rest += rest[-1].shape[1]
        joined = rest[0] if len(rest) == 1 else np.concatenate(rest, axis=1)
        yield start, joined[:, : stop - start]
        rest = [joined[:, stop - start :]]
        n_rest = rest[0].shape[1]
