"""``gram_restore``: bad channels and segments of a recording, from what is good of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import mne
import numpy as np
from mne.utils import logger, verbose

from mne_labram.decoding.progress import progress_bar
from mne_labram.restoration.hidden import EegChannels, Intervals, check_visible, eeg_channels
from mne_labram.restoration.overlay import Patches, RawRestored
from mne_labram.restoration.predictors import ChannelPredictor, RidgePredictor, SplinePredictor
from mne_labram.restoration.report import RestorationReport, RestoredSegment, note_in_most
from mne_labram.restoration.segments import distrusted_epochs, distrusted_raw, epochs_targets, raw_targets
from mne_labram.restoration.stretches import SeamFit, Signal, observe_signal, restore_signal
from mne_labram.signal.contract import ContractError
from mne_labram.signal.opening import open_recording
from mne_labram.signal.source import RawSource

__all__ = ["METHODS", "RESTORED", "calibrate_predictor", "gram_restore", "make_predictor"]

#: Description of the annotations over what was restored.
RESTORED = "restored"
# Seconds of a recording that are enough to know it by; a day-long one need not be read for one electrode pop.
_CALIBRATION = 600.0
_MICROVOLTS = 1e6
# µV; what varies by less, does not.
_FLAT = 1e-6
# Volts; an expected error above that is one of the unit.
_LARGEST_ERROR = 1e-3


def _gram(ch_names: Sequence[str], positions: np.ndarray, sfreq: float, model: Any) -> ChannelPredictor:
    from mne_labram.restoration.gram_predictor import GramPredictor  # torch is imported when it is needed

    return GramPredictor(ch_names, positions, sfreq, model=model)


#: What predicts hidden channels: made from names, positions (m), sampling rate (Hz) and a model.
METHODS: dict[str, Callable[[Sequence[str], np.ndarray, float, Any], ChannelPredictor]] = {
    "gram": _gram,
    "spline": lambda ch_names, positions, sfreq, model: SplinePredictor(ch_names, positions, sfreq),
    "ridge": lambda ch_names, positions, sfreq, model: RidgePredictor(ch_names, positions, sfreq),
}


@verbose
def gram_restore(
    inst: Any,
    picks: str | Sequence[str] = "bads",
    segments: Any = None,
    *,
    method: str | ChannelPredictor = "gram",
    model: Any = "gram-tiny",
    calibrate: bool = True,
    crossfade: float = 0.1,
    denoise: bool = False,
    reset_bads: bool = False,
    annotate: bool = True,
    return_report: bool = False,
    verbose: bool | str | int | None = None,
) -> Any:
    """Restore bad channels and segments from the channels that are good.

    Parameters
    ----------
    inst : mne.io.Raw | mne.Epochs | str | Path
        The recording, in volts as MNE holds it, or a file. Never modified. What is not loaded is read in pieces.
    picks : "bads" | "all" | str | list of str
        The channels to restore: those in ``info["bads"]``, or by name. ``"all"`` allows every channel, for segments
        that name their channels.
    segments : None | "bad annotations" | list of tuple | mne.Annotations | ndarray of bool
        What to restore of them. ``None``: everything. ``"bad annotations"``: annotations that begin with BAD.
        Tuples ``(onset, duration)`` or ``(onset, duration, ch_names)`` in seconds after the first sample; for Epochs
        ``(epoch, onset, duration)`` or ``(epoch, onset, duration, ch_names)``, epochs counted from 0, onsets on the
        axis of ``epochs.times``. For Epochs also a mask of shape ``(n_epochs, n_channels)``, as autoreject makes them.
        A segment that names channels is restored in these (in those also picked, where ``picks`` are names); one that
        does not, in those picked.
    method : {"gram", "spline", "ridge"} | ChannelPredictor
        ``"gram"``: a model of how channels go together on any head. ``"spline"``: spherical splines, as MNE's
        ``interpolate_bads``. ``"ridge"``: regression by frequency band on the recording's own good stretches.
        Or an object of yours with ``observe`` and ``predict``.
    model : GramForRestoration | str | Path
        For ``"gram"``: the model, a checkpoint file, or a name of :func:`mne_labram.list_pretrained`.
    calibrate : bool
        Learn first from what is good of the recording itself, from up to ten minutes spread over it.
    crossfade : float
        Seconds over which what is predicted leads over to what is visible, within the segment.
    denoise : bool
        What is restored holds the signal and an artefact (muscle, eyes, a pop): take out only what the others do not
        tell and is more than they may be wrong by, by a multichannel Wiener filter in each band, with
        ``method="gram"``. Name all channels that see the artefact. Leave it ``False`` where the electrode saw nothing.
    reset_bads : bool
        Take channels that were restored from end to end out of ``info["bads"]``, and remove the BAD annotations whose
        channels were all restored.
    annotate : bool
        Annotate what was restored as ``restored``, with its channels (Raw only).
    return_report : bool
        Also return the report, which has the uncertainty of every second.
    verbose : bool | str | int | None
        Control verbosity of the logging output.

    Returns
    -------
    restored : mne.io.Raw | mne.Epochs
        A copy with the same samples, to the last bit, but for the channels and segments named. Full band, the
        recording's own rate and reference, volts. What was not loaded is not loaded either: it is read from its file,
        which has to stay, with what was restored over it.
    report : RestorationReport
        Only with ``return_report=True``.

    Raises
    ------
    ContractError
        If nothing, or all but one channel, is to be restored; a channel is unknown, is no EEG, or has no position; a
        segment lies outside; ``"ridge"`` has nothing to be calibrated on.
    TypeError
        If ``inst`` is neither Raw nor Epochs nor a path, or ``segments`` of no known kind.
    ValueError
        If there is no such method, it cannot denoise, or ``crossfade`` is negative.

    Notes
    -----
    Channels are predicted in the reference of the mean of the visible ones, which is added back, after slow baselines
    (medians of 20 s) have been taken off. Where a channel is visible within 10 s of a segment, predictions are made
    there, too, and compared: gain and offset are estimated by least squares, and the last difference on either side
    fades out over ``crossfade``. Of more than 64 segments (or 15 for each minute, if that is more) only those of at
    least half a second, the longest first, are compared in this way; the others are joined at their ends.

    Other bad channels, and what annotations call BAD of named channels, are not believed. NaN and infinite samples are
    not either, wherever they are, and the report says how many; they are restored where a segment covers them.
    """
    if not (isinstance(crossfade, Real) and np.isfinite(crossfade) and crossfade >= 0):
        raise ValueError(f"crossfade must be a number of seconds, 0 or more, got {crossfade!r}.")
    if isinstance(method, str) and method not in METHODS:
        raise ValueError(f"There is no method {method!r}; use one of {', '.join(map(repr, METHODS))}.")
    if method == "ridge" and not calibrate:
        raise ContractError("method='ridge' knows nothing but the recording; leave calibrate=True, or use 'spline'.")
    if denoise and isinstance(method, str) and method != "gram":
        raise ValueError(f"method={method!r} predicts from other channels alone; use method='gram' to denoise.")
    notes: list[str] = []
    inst = open_recording(inst, notes=notes)
    if not isinstance(inst, (mne.io.BaseRaw, mne.BaseEpochs)):
        raise TypeError(f"Raw and Epochs are restored and this is {type(inst).__name__}; restore what it was made of.")
    # A predictor that was fitted to bipolar channels says which ones are not.
    bipolar = method == "gram" or not np.all(getattr(method, "referential", True))
    channels = eeg_channels(inst.info, bipolar=bipolar)
    notes += channels.notes
    sfreq = float(inst.info["sfreq"])
    if isinstance(inst, mne.io.BaseRaw):
        signals, found = _raw_signal(inst, channels, picks, segments)
        signals = [signals]
    else:
        inst = inst.copy().load_data()
        signals, found = _epoch_signals(inst, channels, picks, segments)
    notes += found
    predictor = make_predictor(method, channels, sfreq, model)
    calibrated = _calibrate(signals, predictor) if calibrate else 0.0
    unseen = sorted(set(getattr(predictor, "unseen", ())) & _touched(signals, channels), key=channels.names.index)
    if calibrate and unseen:
        notes.append(
            f"Nothing good was recorded of {', '.join(unseen)}, so that spherical splines were used; method='gram' "
            "can do without."
        )
    work = _Work(channels, sfreq, isinstance(inst, mne.BaseEpochs))
    if isinstance(inst, mne.io.BaseRaw) and not inst.preload:
        n_samples = sum(len(rows) * (stop - start) for start, stop, rows in signals[0].targets.groups())
        patches = Patches(n_samples)
        for pick, start, samples, _ in work.run(signals, predictor, crossfade, denoise):
            patches.add(pick, start, samples)
        out: Any = RawRestored(inst, patches, verbose="ERROR")
    elif isinstance(inst, mne.io.BaseRaw):
        out = inst.copy()
        for pick, start, samples, _ in work.run(signals, predictor, crossfade, denoise):
            out[pick, start : start + len(samples)] = samples
    else:
        out = inst
        data = out.get_data(copy=False)
        for pick, start, samples, epoch in list(work.run(signals, predictor, crossfade, denoise)):
            data[epoch, pick, start : start + len(samples)] = samples
    report = work.report(_name_of(method), signals, calibrated, notes)
    known = report.uncertainty[np.isfinite(report.uncertainty)]
    if known.size and np.median(known) > _LARGEST_ERROR:
        report.notes.append(
            f"The expected error is {1e3 * np.median(known):.3g} mV, which no EEG has: the unit of the recording is "
            "probably wrong, as mne_labram.check says."
        )
    if reset_bads:
        _reset_bads(out, signals, channels)
    if annotate and isinstance(out, mne.io.BaseRaw):
        _annotate(out, signals[0].targets, channels)
    for note in report.notes:
        logger.info(note)
    return (out, report) if return_report else out


def make_predictor(
    method: str | ChannelPredictor, channels: EegChannels, sfreq: float, model: Any = "gram-tiny"
) -> ChannelPredictor:
    """Make what predicts the channels of one recording.

    Parameters
    ----------
    method : str | ChannelPredictor
        A name of :data:`METHODS`, or a predictor, which is returned as it is.
    channels : EegChannels
        The channels.
    sfreq : float
        Samples per second.
    model : object
        For ``"gram"``.

    Returns
    -------
    predictor : ChannelPredictor
        Not calibrated, if it was made here.

    Raises
    ------
    TypeError
        If ``method`` has no ``observe`` and ``predict``.
    """
    if isinstance(method, str):
        # Splines are fitted to the head that was measured; models have seen the template's.
        positions = channels.aligned if method == "gram" else channels.positions
        return METHODS[method](channels.names, positions, sfreq, model)
    if isinstance(method, type) or not isinstance(method, ChannelPredictor):
        raise TypeError(
            f"method must be one of {', '.join(map(repr, METHODS))}, or an object with observe and predict, made for "
            f"these channels, got {method!r}."
        )
    return method


def calibrate_predictor(inst: Any, channels: EegChannels, predictor: ChannelPredictor) -> float:
    """Show a predictor what is good of a recording; nothing of it is restored.

    Parameters
    ----------
    inst : mne.io.Raw | mne.Epochs
        The recording.
    channels : EegChannels
        Its channels.
    predictor : ChannelPredictor
        Made for them.

    Returns
    -------
    seconds : float
        How much was shown.

    Raises
    ------
    TypeError
        If it is neither Raw nor Epochs.
    """
    n, sfreq = len(channels.names), float(inst.info["sfreq"])
    if isinstance(inst, mne.io.BaseRaw):
        nothing = Intervals(n, inst.n_times)
        read = RawSource.of(inst, channels.picks, _MICROVOLTS)
        return _calibrate([Signal(read, inst.n_times, sfreq, nothing, *distrusted_raw(inst, channels))], predictor)
    if not isinstance(inst, mne.BaseEpochs):
        raise TypeError(f"Raw and Epochs can be learned from and this is {type(inst).__name__}.")
    inst = inst.copy().load_data()
    data, n_times = inst.get_data(copy=False), len(inst.times)
    signals = [
        Signal(_reader(data, number, channels.picks), n_times, sfreq, Intervals(n, n_times), *bad)
        for number, bad in enumerate(distrusted_epochs(inst, channels))
    ]
    return _calibrate(signals, predictor)


@dataclass
class _Work:
    """Runs the stretches of all signals and remembers what came of them."""

    channels: EegChannels
    sfreq: float
    in_epochs: bool
    fits: list[tuple[int, SeamFit]] = field(default_factory=list)
    squares: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)
    counts: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)
    broken: int = 0
    flat: set[int] = field(default_factory=set)
    in_most: list[tuple[int, int, int]] = field(default_factory=list)

    def run(
        self, signals: Sequence[Signal], predictor: ChannelPredictor, crossfade: float, denoise: bool
    ) -> Iterator[tuple[int, int, np.ndarray, int]]:
        """Yield channel of the recording, first sample, volts, and number of the signal."""
        total = sum(stop - start for signal in signals for start, stop, _ in signal.targets.groups())
        with progress_bar(int(total / self.sfreq), "Restoring", unit="s") as bar:

            def done(samples: int, broken: int, in_most: list[tuple[int, int]]) -> None:
                self.broken += broken
                self.in_most += [(number, *span) for span in in_most]
                bar.update(int(samples / self.sfreq))

            for number, signal in enumerate(signals):
                seen: set[int] = set()
                for fit, start, samples, deviation in restore_signal(signal, predictor, crossfade, done, denoise):
                    if id(fit) not in seen:
                        seen.add(id(fit))
                        self.fits.append((number, fit))
                    for row, values, expected in zip(fit.rows, samples, deviation, strict=True):
                        self._rate(number, row, start, expected, signal.n_times)
                        if len(values) > 1 and not np.isfinite(expected).any() and np.ptp(values) < _FLAT:
                            self.flat.add(row)
                        yield self.channels.picks[row], start, values / _MICROVOLTS, number

    def _rate(self, number: int, row: int, start: int, deviation: np.ndarray, n_times: int) -> None:
        n_seconds = int(np.ceil(n_times / self.sfreq))
        squares = self.squares.setdefault((number, row), np.zeros(n_seconds))
        counts = self.counts.setdefault((number, row), np.zeros(n_seconds))
        second = np.minimum(((start + np.arange(len(deviation))) / self.sfreq).astype(int), n_seconds - 1)
        np.add.at(squares, second, deviation**2)
        np.add.at(counts, second, 1)

    def report(
        self, method: str, signals: Sequence[Signal], calibrated: float, notes: Sequence[str]
    ) -> RestorationReport:
        """Say what was done."""
        rows = sorted({row for _, row in self.squares})
        n_seconds = int(np.ceil(signals[0].n_times / self.sfreq))
        uncertainty = np.full((len(signals), len(rows), n_seconds), np.nan)
        for (number, row), squares in self.squares.items():
            counts = self.counts[number, row]
            mean = np.divide(squares, counts, out=np.full(n_seconds, np.nan), where=counts > 0)
            uncertainty[number, rows.index(row)] = np.sqrt(mean) / _MICROVOLTS
        segments = [
            RestoredSegment(
                self.channels.names[row],
                fit.start / self.sfreq,
                (fit.stop - fit.start) / self.sfreq,
                number if self.in_epochs else None,
                float(fit.gain[index]),
                float(fit.offset[index].mean()) / _MICROVOLTS,
                float(fit.seconds[index]),
            )
            for number, fit in self.fits
            for index, row in enumerate(fit.rows)
        ]
        notes = list(dict.fromkeys(notes))
        if self.broken:
            notes.append(
                f"{self.broken} values beside what was restored are NaN or infinite; they were not used and are as "
                "they were."
            )
        if self.in_most:
            notes.append(note_in_most(self.in_most, self.sfreq, self.in_epochs, calibrated > 0))
        if self.flat:
            flat = ", ".join(self.channels.names[row] for row in sorted(self.flat))
            notes.append(
                f"The channels that {flat} is restored from are flat at times, so that nothing is known of the error "
                "there; leave such stretches out."
            )
        always = set.intersection(*(_always_hidden(signal) for signal in signals))
        return RestorationReport(
            method,
            [self.channels.names[row] for row in rows],
            [name for row, name in enumerate(self.channels.names) if row not in always],
            segments,
            uncertainty if self.in_epochs else uncertainty[0],
            calibrated,
            notes,
        )


def _raw_signal(raw: mne.io.BaseRaw, channels: EegChannels, picks: Any, segments: Any) -> tuple[Signal, list[str]]:
    sfreq = float(raw.info["sfreq"])
    targets, notes = raw_targets(raw, channels, picks, segments)
    distrusted, avoided = distrusted_raw(raw, channels)
    signal = Signal(RawSource.of(raw, channels.picks, _MICROVOLTS), raw.n_times, sfreq, targets, distrusted, avoided)
    check_visible(targets, distrusted, channels.names, sfreq)
    return signal, notes


def _epoch_signals(
    epochs: mne.BaseEpochs, channels: EegChannels, picks: Any, segments: Any
) -> tuple[list[Signal], list[str]]:
    if len(epochs) == 0:
        raise ContractError("There is no epoch left to restore; all were dropped.")
    sfreq = float(epochs.info["sfreq"])
    targets, notes = epochs_targets(epochs, channels, picks, segments)
    data = epochs.get_data(copy=False)
    signals = []
    for number, (wanted, (distrusted, avoided)) in enumerate(
        zip(targets, distrusted_epochs(epochs, channels), strict=True)
    ):
        read = _reader(data, number, channels.picks)
        signals.append(Signal(read, data.shape[2], sfreq, wanted, distrusted, avoided))
        check_visible(wanted, distrusted, channels.names, sfreq, f" of epoch {number}")
    return signals, notes


def _reader(data: np.ndarray, epoch: int, picks: list[int]) -> Callable[[int, int], np.ndarray]:
    return lambda start, stop: _MICROVOLTS * data[epoch][picks, start:stop]


def _calibrate(signals: Sequence[Signal], predictor: ChannelPredictor) -> float:
    total = sum(signal.n_times / signal.sfreq for signal in signals)
    if len(signals) == 1:
        return observe_signal(signals[0], predictor, _CALIBRATION)
    every = max(int(np.ceil(total / _CALIBRATION)), 1)
    return sum(observe_signal(signal, predictor, _CALIBRATION) for signal in signals[::every])


def _touched(signals: Sequence[Signal], channels: EegChannels) -> set[str]:
    return {channels.names[row] for signal in signals for _, _, rows in signal.targets.groups() for row in rows}


def _always_hidden(signal: Signal) -> set[int]:
    both = signal.targets.union(signal.distrusted)
    return {row for row in range(both.n_channels) if both.of(row) == [(0, signal.n_times)]}


def _name_of(method: Any) -> str:
    return method if isinstance(method, str) else type(method).__name__


def _reset_bads(out: Any, signals: Sequence[Signal], channels: EegChannels) -> None:
    whole = {
        name
        for row, name in enumerate(channels.names)
        if all(signal.targets.of(row) == [(0, signal.n_times)] for signal in signals)
    }
    out.info["bads"] = [name for name in out.info["bads"] if name not in whole]
    if not isinstance(out, mne.io.BaseRaw):
        return
    targets, drop = signals[0].targets, []
    for number, annotation in enumerate(out.annotations):
        start = int(round((annotation["onset"] - out.first_time) * signals[0].sfreq))
        stop = int(round((annotation["onset"] - out.first_time + annotation["duration"]) * signals[0].sfreq))
        start, stop = max(start, 0), min(stop, out.n_times)
        names = annotation["ch_names"]
        if not (annotation["description"].upper().startswith("BAD") and names and set(names) <= set(channels.names)):
            continue
        if start < stop and targets.mask(start, stop)[[channels.names.index(name) for name in names]].all():
            drop.append(number)
    out.annotations.delete(drop)


def _annotate(out: mne.io.BaseRaw, targets: Intervals, channels: EegChannels) -> None:
    sfreq = float(out.info["sfreq"])
    groups = targets.groups()
    # All at once: MNE sorts after every call.
    out.annotations.append(
        [out.first_time + start / sfreq for start, _, _ in groups],
        [(stop - start) / sfreq for start, stop, _ in groups],
        [RESTORED] * len(groups),
        ch_names=[tuple(channels.names[row] for row in rows) for _, _, rows in groups],
    )
