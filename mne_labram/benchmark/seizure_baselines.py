"""Detectors that a seizure model has to beat: line length, band power, covariance.

All of them see 4-s windows of a double banana between 1 and 40 Hz, in microvolts. Bipolar recordings are taken as they
are; referential ones are made bipolar by differences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from mne_labram.benchmark.seizure_windows import covered_seconds
from mne_labram.seizure.double_banana import double_banana
from mne_labram.signal.conformed_store import ConformedStore
from mne_labram.signal.contract import SignalContract
from mne_labram.signal.events import SecondAccumulator
from mne_labram.signal.vocabulary import DOUBLE_BANANA

__all__ = [
    "BASELINE_CONTRACT",
    "BandPower",
    "LineLength",
    "LineLengthAgainstBaseline",
    "WindowDetector",
    "as_double_banana",
    "all_derivations",
]

#: 1-40 Hz as in the reference measurements; 100 Hz hold that band.
BASELINE_CONTRACT = SignalContract(
    name="seizure baselines",
    sfreq=100.0,
    l_freq=1.0,
    h_freq=40.0,
    notch=False,
    patch_samples=100,
    vocabulary=None,
)
#: Edges of the bands in Hz: delta, theta, alpha, low beta, high beta, low gamma.
BANDS = ((1.0, 4.0), (4.0, 8.0), (8.0, 13.0), (13.0, 20.0), (20.0, 30.0), (30.0, 40.0))
# Quantiles over channels: what is common to all, and what only some channels show.
_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
# Square microvolts, and microvolts per second, that count as nothing.
_FLOOR = 1e-3
_BASELINE_SECONDS = 60.0
_LEAST_SPREAD = 0.05
_BATCH = 512


def as_double_banana(x: np.ndarray, ch_names: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Make windows bipolar.

    Parameters
    ----------
    x : ndarray, shape (n_windows, n_chans, n_times)
        Windows.
    ch_names : sequence of str
        Their channels.

    Returns
    -------
    x : ndarray, shape (n_windows, n_derivations, n_times)
        The derivations of :func:`mne_labram.seizure.double_banana.double_banana`: as recorded where they were bipolar.
    names : list of str
        With new 10-20 names: ``"F7-T7"``.
    """
    _, derivations = double_banana(ch_names)
    anodes = x[:, [each.anode for each in derivations]]
    cathodes = [each.cathode for each in derivations]
    if any(row is not None for row in cathodes):
        anodes = anodes - x[:, [0 if row is None else row for row in cathodes]] * np.array(
            [[0.0 if row is None else 1.0] for row in cathodes], dtype=x.dtype
        )
    return anodes, ["-".join(each.electrodes) for each in derivations]


class WindowDetector:
    """A logistic regression on features of windows, as a detector.

    Parameters
    ----------
    window : float
        Length of a window in seconds.
    stride : float
        Step between windows in seconds, in training and in detection.
    memo : dict | None
        Where what does not depend on training is kept, so that detectors of one kind that are fitted one after the
        other to parts of the same recordings compute it once.

    Attributes
    ----------
    contract : SignalContract
        What a store must be conformed to: :data:`BASELINE_CONTRACT`.

    Notes
    -----
    The weight of a class is the inverse of its part of the windows. A window is ictal if more than half of it is.
    """

    name = "window detector"
    contract = BASELINE_CONTRACT
    #: Inverse strength of the regularisation; chosen on chb01, leaving one record out.
    penalty = 1.0

    def __init__(self, window: float = 4.0, stride: float = 1.0, *, memo: dict | None = None) -> None:
        self.window, self.stride, self.memo = float(window), float(stride), memo

    def statistics(self, x: np.ndarray, ch_names: Sequence[str]) -> np.ndarray:
        """Compute what windows say by themselves.

        Parameters
        ----------
        x : ndarray, shape (n_windows, n_chans, n_times)
            Microvolts at the contract's rate.
        ch_names : sequence of str
            Channels.

        Returns
        -------
        statistics : ndarray, shape (n_windows, ...)
            Of one shape whatever the channels are; NaN where these channels do not do.
        """
        raise NotImplementedError

    def learn(self, statistics: np.ndarray) -> None:
        """Learn how features are made of statistics; most need nothing.

        Parameters
        ----------
        statistics : ndarray, shape (n_windows, ...)
            Of all training windows.
        """

    def features(self, statistics: np.ndarray) -> np.ndarray:
        """Make what the regression sees.

        Parameters
        ----------
        statistics : ndarray, shape (n_windows, ...)
            See :meth:`statistics`.

        Returns
        -------
        features : ndarray, shape (n_windows, n_features)
            NaN where a statistic is.
        """
        return statistics.reshape(len(statistics), -1)

    def fit(self, train: Any, validation: Any = None, *, folder: Path | None = None, seed: int = 0) -> Self:
        """Fit to recordings.

        Parameters
        ----------
        train : SeizureStore
            Recordings.
        validation : SeizureStore | None
            Not used.
        folder : Path | None
            Not used.
        seed : int
            Not used; nothing here is random.

        Returns
        -------
        self : WindowDetector
            Fitted.

        Raises
        ------
        ValueError
            If there are no windows with, or without, a seizure.
        """
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        statistics = np.concatenate([self.of_recording(train, file) for file in range(len(train))])
        y = np.concatenate([self._labels(train, file) for file in range(len(train))])
        good = np.isfinite(statistics).reshape(len(y), -1).all(axis=1)
        if len(np.unique(y[good])) < 2:
            raise ValueError(
                f"Training the detector {self.name!r} takes windows with and windows without a seizure, in channels "
                "that it can use."
            )
        self.learn(statistics[good])
        regression = LogisticRegression(C=self.penalty, class_weight="balanced", max_iter=2000)
        self.regression_ = make_pipeline(StandardScaler(), regression)
        self.regression_.fit(self.features(statistics[good]), y[good])
        return self

    def probabilities(self, store: Any, file: int) -> np.ndarray:
        """Return the probability of a seizure in each second.

        Parameters
        ----------
        store : SeizureStore
            Recordings.
        file : int
            Which one.

        Returns
        -------
        probabilities : ndarray of float64, shape (n_seconds,)
            Averages of the windows that cover a second; NaN where no usable one does.
        """
        seconds = SecondAccumulator(store.n_seconds(file), 1)
        statistics = self.of_recording(store, file)
        good = np.isfinite(statistics).reshape(len(statistics), -1).all(axis=1)
        if good.any():
            scores = self.regression_.predict_proba(self.features(statistics[good]))[:, 1:]
            starts, length = self._starts(store, file)
            seconds.add(starts[good] / self.contract.sfreq, length / self.contract.sfreq, scores)
        return seconds.average()[0]

    def of_recording(self, store: Any, file: int) -> np.ndarray:
        """Compute the statistics of a recording's usable windows, or remember them.

        Parameters
        ----------
        store : SeizureStore
            Recordings.
        file : int
            Which one.

        Returns
        -------
        statistics : ndarray, shape (n_windows, ...)
            See :meth:`statistics`.
        """
        recording = store.recordings[file]
        piece = recording.samples
        key = (recording.path, recording.n_times, getattr(piece, "first", 0), getattr(piece, "gain", 1.0))
        memo = self.memo if getattr(piece, "memorable", True) else None
        if memo is not None and key in memo:
            return memo[key]
        starts, length = self._starts(store, file)
        whole = store.conformed.read(file, 0, recording.n_times)
        parts = [
            self.statistics(np.stack([whole[:, start : start + length] for start in some]), recording.ch_names)
            for some in np.array_split(starts, max(1, len(starts) // _BATCH))
            if len(some)
        ]
        # The shape of nothing is that of a window which says nothing.
        empty = self.statistics(whole[None, :, :length], recording.ch_names)[:0]
        statistics = np.concatenate([empty, *parts])
        if memo is not None:
            memo[key] = statistics
        return statistics

    def _starts(self, store: Any, file: int) -> tuple[np.ndarray, int]:
        """Return first samples of windows that touch no unusable second, and how long these are."""
        sfreq, recording = self.contract.sfreq, store.recordings[file]
        length = min(round(self.window * sfreq), recording.n_times)
        alone = ConformedStore(self.contract, [recording], [])
        table = alone.windows(length / sfreq, stride=self.stride)
        return table.start, length

    def _labels(self, store: Any, file: int) -> np.ndarray:
        starts, length = self._starts(store, file)
        begins = starts / self.contract.sfreq
        ends = begins + length / self.contract.sfreq
        return covered_seconds(store.tables[file], begins, ends) > 0.5 * (ends - begins)


class LineLength(WindowDetector):
    """Log line length, median over channels, through a logistic curve.

    Parameters
    ----------
    window, stride, memo
        See :class:`WindowDetector`.

    Notes
    -----
    Line length: Esteller et al. 2001, Proc IEEE EMBS 23:1707-1710.
    """

    name = "line length"

    def statistics(self, x: np.ndarray, ch_names: Sequence[str]) -> np.ndarray:  # noqa: D102
        bipolar, _ = as_double_banana(x, ch_names)
        length = np.abs(np.diff(bipolar, axis=2)).mean(axis=2) * self.contract.sfreq
        return np.median(np.log(length + _FLOOR), axis=1)[:, None].astype(float)


class LineLengthAgainstBaseline(LineLength):
    """Line length as z-score against the first 60 s of the recording, through a logistic curve.

    Parameters
    ----------
    window, stride
        See :class:`WindowDetector`.
    baseline_of : callable | None
        ``baseline_of(store, file)`` returns the numbers of recordings that are the baseline, as a whole; or ``None``,
        and the first 60 s of the recording itself are. For excerpts that begin with a seizure.
    memo : dict | None
        See :class:`WindowDetector`.
    """

    name = "line length against the first 60 s"

    def __init__(
        self,
        window: float = 4.0,
        stride: float = 1.0,
        *,
        baseline_of: Callable[[Any, int], Sequence[int] | None] | None = None,
        memo: dict | None = None,
    ) -> None:
        super().__init__(window, stride, memo=memo)
        self.baseline_of = baseline_of

    def of_recording(self, store: Any, file: int) -> np.ndarray:  # noqa: D102
        own = super().of_recording(store, file)
        others = None if self.baseline_of is None else self.baseline_of(store, file)
        if others is None:
            starts, length = self._starts(store, file)
            # A recording that is shorter than a window is its own baseline.
            baseline = own[starts + length <= max(_BASELINE_SECONDS * self.contract.sfreq, length)]
        else:
            baseline = np.concatenate([own[:0], *(LineLength.of_recording(self, store, each) for each in others)])
        if not len(baseline):
            return np.full_like(own, np.nan)
        return (own - baseline.mean(axis=0)) / np.maximum(baseline.std(axis=0), _LEAST_SPREAD)


class BandPower(WindowDetector):
    """Log band power with a logistic regression.

    Parameters
    ----------
    window, stride
        See :class:`WindowDetector`.
    by : {"derivation", "quantile"}
        Take the power of each of the 18 derivations of the double banana, which knows the side that a patient's
        seizures are on, or quantiles over whatever derivations there are, which do not depend on the montage. A
        recording without all 18 is not analysed by derivation.
    memo : dict | None
        See :class:`WindowDetector`.

    Raises
    ------
    ValueError
        If ``by`` is neither.
    """

    penalty = 0.01

    def __init__(
        self, window: float = 4.0, stride: float = 1.0, *, by: str = "derivation", memo: dict | None = None
    ) -> None:
        super().__init__(window, stride, memo=memo)
        if by not in ("derivation", "quantile"):
            raise ValueError(f"by must be 'derivation' or 'quantile', got {by!r}.")
        self.by = by

    @property
    def name(self) -> str:
        """What it is called in a table."""
        return f"band power by {self.by} + LR"

    def statistics(self, x: np.ndarray, ch_names: Sequence[str]) -> np.ndarray:  # noqa: D102
        if self.by == "derivation":
            bipolar = all_derivations(x, ch_names)
            if bipolar is None:
                return np.full((len(x), len(DOUBLE_BANANA), len(BANDS)), np.nan)
        else:
            bipolar, _ = as_double_banana(x, ch_names)
        n_times = x.shape[2]
        taper = np.hanning(n_times).astype(np.float32)
        spectrum = np.abs(np.fft.rfft(bipolar * taper, axis=2)) ** 2 / max((taper**2).sum(), 1.0) / self.contract.sfreq
        frequencies = np.fft.rfftfreq(n_times, 1.0 / self.contract.sfreq)
        bands = []
        for low, high in BANDS:
            inside = (frequencies >= low) & (frequencies < high)
            # A window may be too short to tell the lowest band.
            power = spectrum[:, :, inside].mean(axis=2) if inside.any() else np.zeros(spectrum.shape[:2])
            bands.append(np.log(power + _FLOOR))
        powers = np.stack(bands, axis=2).astype(float)
        return powers if self.by == "derivation" else np.moveaxis(np.quantile(powers, _QUANTILES, axis=1), 0, 1)


def all_derivations(x: np.ndarray, ch_names: Sequence[str]) -> np.ndarray | None:
    """Return the 18 derivations of the double banana, in its order.

    Parameters
    ----------
    x : ndarray, shape (n_windows, n_chans, n_times)
        Windows.
    ch_names : sequence of str
        Their channels.

    Returns
    -------
    x : ndarray, shape (n_windows, 18, n_times) | None
        ``None`` where a derivation is missing.
    """
    bipolar, names = as_double_banana(x, ch_names)
    rows = {name: row for row, name in enumerate(names)}
    if not set(DOUBLE_BANANA) <= set(rows):
        return None
    return bipolar[:, [rows[name] for name in DOUBLE_BANANA]]
