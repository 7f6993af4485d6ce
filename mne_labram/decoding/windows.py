"""The windows of anything (Raw, Epochs, Evoked, a file, an array), conformed, and one output per window."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mne import pick_types
from mne.io import BaseRaw
from mne.utils import logger
from torch import nn

from mne_labram.decoding.inference import ModelRunner
from mne_labram.decoding.progress import progress_bar
from mne_labram.signal.conform import ConformPlan, conform_array, conform_epochs_array, open_recording, plan_conform
from mne_labram.signal.contract import ContractError
from mne_labram.signal.interpret import detect_montage
from mne_labram.signal.report import ConformReport
from mne_labram.signal.vocabulary import DOUBLE_BANANA, TEN_TWENTY
from mne_labram.signal.windows import Windows, iter_windows, n_samples, window_length

__all__ = [
    "POOLINGS",
    "SignalOptions",
    "WindowSource",
    "plan_recording",
    "run_windows",
    "wanted_samples",
    "window_function",
    "window_source",
]

POOLINGS = ("mean", "cls", "channels", "tokens")

# A torch function of (module, x) that returns one row per window.
WindowFunction = Callable[[nn.Module, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class SignalOptions:
    """How a recording is read: the arguments every verb and estimator hands on to ``signal/``.

    Parameters
    ----------
    channels : {"recording", "model", "montage"}
        Every channel of the recording that has an embedding; only the channels the model was built with; or of a
        continuous recording the 19 electrodes of the 10-20 system, and of a bipolar one the 18 derivations of the
        double banana.
    match, assume_unit, line_freq, gaps
        See :func:`mne_labram.conform`.
    """

    channels: str = "recording"
    match: str = "name"
    assume_unit: str | None = None
    line_freq: float | None = None
    gaps: str = "raise"

    def for_model(self, module: nn.Module, raw: BaseRaw | None = None) -> dict[str, Any]:
        """Return the keyword arguments of :func:`mne_labram.conform` for a model, but for ``gaps``."""
        known = ("recording", "model") if raw is None else ("recording", "model", "montage")
        if self.channels not in known:
            raise ValueError(f"channels must be {' or '.join(map(repr, known))}, got {self.channels!r}.")
        ch_names = list(module.ch_names) if self.channels == "model" else None
        if self.channels == "montage":
            labels = [raw.ch_names[pick] for pick in pick_types(raw.info, meg=False, eeg=True)]
            montage = detect_montage(labels) if labels else None
            ch_names = {"referential": list(TEN_TWENTY), "bipolar": list(DOUBLE_BANANA)}.get(montage)
        return {
            "match": self.match,
            "assume_unit": self.assume_unit,
            "line_freq": self.line_freq,
            "ch_names": ch_names,
        }


@dataclass
class WindowSource:
    """Conformed windows of equal length, and how they came about.

    Parameters
    ----------
    report : ConformReport
        What was done to the signal.
    length : int
        Samples in a window.
    n_windows : int
        Windows in all.
    batches : callable
        ``batches(batch_size)`` yields :class:`~mne_labram.signal.windows.Windows`.
    """

    report: ConformReport
    length: int
    n_windows: int
    batches: Callable[[int], Iterator[Windows]]


def plan_recording(raw: BaseRaw, module: nn.Module, options: SignalOptions) -> ConformPlan:
    """Plan how a continuous recording is fed to a model.

    Parameters
    ----------
    raw : mne.io.BaseRaw
        The recording.
    module : torch.nn.Module
        The model.
    options : SignalOptions
        How the recording is read.

    Returns
    -------
    plan : ConformPlan
        What will be done, and its report.

    Raises
    ------
    ContractError
        If the recording cannot be made into what the model takes.
    """
    plan = plan_conform(raw, module.contract, gaps=options.gaps, **options.for_model(module, raw))
    _check_coverage(plan.report, module, options)
    return plan


def wanted_samples(module: nn.Module, window: float | None) -> int:
    """Return the samples in a window: as many as asked for, or as the model was built with.

    Parameters
    ----------
    module : torch.nn.Module
        The model.
    window : float | None
        Window length in seconds; ``None``: the model's.

    Returns
    -------
    n : int
        Samples at the model's rate.

    Raises
    ------
    TypeError, ValueError
        If ``window`` is no positive number, or there is none and the model was built without a window length.
    """
    if window is not None:
        return n_samples(window, module.contract.sfreq, "window")
    try:
        return module.n_times
    except ValueError:
        raise ValueError("The model was built without n_times, so pass window, its length in seconds.") from None


def _check_coverage(report: ConformReport, module: nn.Module, options: SignalOptions) -> None:
    """Refuse a recording that lacks more than half of the channels that a model was trained on."""
    missing = report.missing_channels
    if options.channels == "recording" or not missing:
        return
    if options.channels == "montage":
        wanted = len(TEN_TWENTY if report.montage == "referential" else DOUBLE_BANANA)
        if 2 * len(report.ch_names) < wanted:
            raise ContractError(
                f"The recording has {len(report.ch_names)} of the {wanted} channels of its montage; give it the "
                "others, or pass channels='recording' to use what is there, at your own risk."
            )
        return
    there, wanted = len(report.ch_names), len(module.ch_names)
    if 2 * there < wanted:
        raise ContractError(
            f"The recording has {there} of the {wanted} channels that the model was trained on; give it the others, or "
            "pass channels='recording' to use what is there, at your own risk."
        )
    logger.warning(f"{len(missing)} of the model's {wanted} channels are missing: {', '.join(missing)}.")


def window_source(
    inst: Any,
    module: nn.Module,
    options: SignalOptions,
    *,
    window: float | None = None,
    stride: float | None = None,
    ch_names: list[str] | None = None,
    sfreq: float | None = None,
) -> WindowSource:
    """Prepare the windows of a recording for a model; continuous recordings are read later, block by block.

    Parameters
    ----------
    inst : mne.io.Raw | mne.Epochs | mne.Evoked | str | Path | ndarray, shape (n_windows, n_chans, n_times)
        MNE objects in volts, arrays in microvolts.
    module : torch.nn.Module
        The model.
    options : SignalOptions
        How the signal is read.
    window, stride : float | None
        In seconds, for continuous recordings only; ``None``: the model's window, without overlap.
    ch_names, sfreq : list of str, float | None
        What an array holds.

    Returns
    -------
    source : WindowSource
        The windows.

    Raises
    ------
    ContractError
        If the recording cannot be made into what the model takes.
    ValueError
        If an argument makes no sense.
    """
    contract = module.contract
    is_array = not hasattr(inst, "info") and not isinstance(inst, str) and not hasattr(inst, "__fspath__")
    if not is_array:
        inst = open_recording(inst)
    if isinstance(inst, BaseRaw):
        wanted = wanted_samples(module, window)
        step = None if stride is None else n_samples(stride, contract.sfreq, "stride")
        plan = plan_recording(inst, module, options)
        length = window_length(contract, plan.n_times, wanted)
        step = length if step is None else step
        n_windows = (plan.n_times - length) // step + 1
        rest = plan.n_times - ((n_windows - 1) * step + length)
        if rest:
            plan.report.notes.append(f"The last {rest / plan.sfreq:.3g} s are left out: they do not fill a window.")
        return WindowSource(
            plan.report, length, n_windows, lambda size: iter_windows(plan, length, step, batch_size=size)
        )
    if window is not None or stride is not None:
        raise ValueError("window and stride are for continuous recordings; every epoch is one window.")
    if is_array:
        array = np.asarray(inst)
        if array.ndim != 3:
            raise ValueError(f"An array of shape (n_windows, n_chans, n_times) is needed, this has {array.ndim} axes.")
        if ch_names is None or sfreq is None:
            raise ValueError("An array does not say what it holds; pass its channel names and rate (ch_names, sfreq).")
        data, report = conform_array(array, list(ch_names), sfreq, contract, **options.for_model(module))
    else:
        data, report = conform_epochs_array(inst, contract, **options.for_model(module))
    _check_coverage(report, module, options)
    length = window_length(contract, data.shape[2], data.shape[2])
    if length < data.shape[2]:
        report.warnings.append(
            f"The last {(data.shape[2] - length) / contract.sfreq:.3g} s of every epoch are left out: a window is made "
            "of whole patches."
        )
    usable = report.usable_epochs

    def batches(size: int) -> Iterator[Windows]:
        for start in range(0, len(data), size):
            rows = slice(start, start + size)
            yield Windows(np.arange(len(data))[rows], data[rows, :, :length], usable[rows])

    return WindowSource(report, length, len(data), batches)


def window_function(module: nn.Module, kind: str, pooling: str = "mean") -> WindowFunction:
    """Return ``function(module, x)`` for a kind of output, after checking that the model has it.

    Parameters
    ----------
    module : torch.nn.Module
        The model.
    kind : {"embed", "tokenize"}
        Embeddings or codes.
    pooling : {"mean", "cls", "channels", "tokens"}
        For embeddings, see :func:`mne_labram.labram_embed`.

    Returns
    -------
    function : callable
        Takes the module and x, shape (batch, n_chans, n_times), in microvolts.

    Raises
    ------
    TypeError
        If the model cannot embed or has no codes.
    ValueError
        If ``pooling`` is unknown.
    """
    if kind == "tokenize":
        if not hasattr(module, "encode"):
            raise TypeError(
                f"{type(module).__name__} has no codes; give a LabramTokenizer, such as 'labram-tokenizer-tiny'."
            )
        if not bool(module.quantizer.initialized):
            logger.warning("The tokenizer's codebook was never trained: its codes are those of random vectors.")
        return lambda module, x: module.encode(x)
    if not hasattr(module, "embed"):
        raise TypeError(f"{type(module).__name__} has no embedding; use LabramForClassification.")
    if pooling not in POOLINGS:
        raise ValueError(f"pooling must be one of {', '.join(map(repr, POOLINGS))}, got {pooling!r}.")
    if pooling in ("mean", "cls"):
        return lambda module, x: module.embed(x, pooling=pooling)

    def tokens(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
        out = module.embed(x, pooling="tokens")
        out = out.reshape(x.shape[0], x.shape[1], -1, out.shape[-1])
        return out.mean(dim=2) if pooling == "channels" else out

    return tokens


def run_windows(source: WindowSource, runner: ModelRunner, function: WindowFunction) -> tuple[np.ndarray, np.ndarray]:
    """Run every usable window through a function.

    Parameters
    ----------
    source : WindowSource
        The windows.
    runner : ModelRunner
        The model, bound to ``source.report.ch_names``.
    function : callable
        From :func:`window_function`.

    Returns
    -------
    out : ndarray, shape (n_windows, ...)
        Rows of unusable windows hold NaN, or -1 where the output is integer.
    usable : ndarray of bool, shape (n_windows,)
        Which windows were run.
    """
    parts, flags = [], []
    with runner.running(), progress_bar(source.n_windows, "Windows") as progress:
        for batch in source.batches(runner.batch_size):
            some = batch.data[batch.usable]
            if len(some):
                parts.append(runner(some, function))
            flags.append(batch.usable)
            progress.update(len(batch.starts))
        # Shape and type are known even where nothing could be used.
        empty = runner(np.zeros((1, len(runner.ch_names), source.length), np.float32), function) if not parts else None
    usable = np.concatenate(flags)
    done = np.concatenate(parts) if parts else empty[:0]
    n_bad = int((~usable).sum())
    if not n_bad:
        return done, usable
    logger.warning(f"{n_bad} of {len(usable)} windows hold unusable seconds and were not analysed.")
    missing = -1 if np.issubdtype(done.dtype, np.integer) else np.nan
    out = np.full((len(usable), *done.shape[1:]), missing, dtype=done.dtype)
    out[usable] = done
    return out, usable
