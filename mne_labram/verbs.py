"""What users pipe: embed, tokenise, annotate. Thin, and back to what MNE users already know."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mne import Annotations
from mne.io import BaseRaw
from mne.utils import logger, verbose
from torch import nn

from mne_labram.decoding.inference import ModelRunner, resolve_model
from mne_labram.decoding.progress import progress_bar
from mne_labram.decoding.scores import EventScores, add_annotations
from mne_labram.decoding.windows import (
    SignalOptions,
    plan_recording,
    run_windows,
    wanted_samples,
    window_function,
    window_source,
)
from mne_labram.models.registry import NON_CLASSIFICATION_MODELS
from mne_labram.signal.conform import open_recording
from mne_labram.signal.contract import ContractError
from mne_labram.signal.events import EventParameters, SecondAccumulator
from mne_labram.signal.windows import iter_windows, n_samples, window_length

__all__ = ["annotate_events", "labram_annotate", "labram_embed", "labram_tokenize"]


@verbose
def labram_embed(
    inst: Any,
    model: Any = "labram-tiny",
    pooling: str = "mean",
    *,
    window: float | None = None,
    stride: float | None = None,
    channels: str = "recording",
    match: str = "name",
    assume_unit: str | None = None,
    line_freq: float | None = None,
    gaps: str = "raise",
    batch_size: int = 32,
    precision: str = "auto",
    device: str | None = None,
    return_report: bool = False,
    verbose: bool | str | int | None = None,
) -> Any:
    """Embed a recording.

    Parameters
    ----------
    inst : mne.io.Raw | mne.Epochs | mne.Evoked | str | Path
        The recording, in volts as MNE holds it, or a file.
    model : LabramForMaskedModeling | LabramForClassification | EEGClassifier | str | Path
        The model, a fitted classifier around one, a checkpoint file, or a name of
        :func:`mne_labram.list_pretrained`.
    pooling : {"mean", "cls", "channels", "tokens"}
        ``"mean"`` over all patch tokens, the ``"cls"`` token, the mean over time of each of the ``"channels"``, or
        all ``"tokens"``.
    window : float | None
        Window length in seconds for Raw; ``None`` takes the model's. Epochs are one window each.
    stride : float | None
        Step between windows in seconds for Raw; ``None``: the window length.
    channels : {"recording", "model"}
        Embed every channel of the recording that the model has an embedding for, or only the channels the model was
        built with.
    match : {"name", "position"}
        How channels find their embedding, see :func:`mne_labram.conform`.
    assume_unit : str | None
        Unit of the numbers in ``inst`` where the file's unit is wrong, see :func:`mne_labram.conform`.
    line_freq : float | None
        50 or 60 Hz; ``None`` takes ``info["line_freq"]``.
    gaps : {"raise", "split"}
        What to do with an EDF+D file, see :func:`mne_labram.conform`.
    batch_size : int
        Windows per forward pass.
    precision : {"auto", "float32", "bf16"}
        Number format; ``"auto"`` picks what the processor does well and logs it.
    device : str | None
        ``None``: where the model is.
    return_report : bool
        Also return the :class:`~mne_labram.signal.report.ConformReport`.
    verbose : bool | str | int | None
        Control verbosity of the logging output.

    Returns
    -------
    embedding : ndarray, shape (n_windows, ...)
        float32. ``(n_windows, embed_dim)`` for "mean" and "cls", ``(n_windows, n_chans, embed_dim)`` for "channels",
        ``(n_windows, n_chans, n_patches, embed_dim)`` for "tokens". NaN for a window that touches an unusable second.
    report : ConformReport
        What was done to the signal; only with ``return_report=True``.

    Raises
    ------
    ContractError
        If the recording cannot be made into what the model takes.
    """
    module, _ = resolve_model(model)
    function = window_function(module, "embed", pooling)
    options = SignalOptions(channels, match, assume_unit, line_freq, gaps)
    source = window_source(open_recording(inst), module, options, window=window, stride=stride)
    runner = ModelRunner(module, source.report.ch_names, source.report.model_positions, precision, batch_size, device)
    out, _ = run_windows(source, runner, function)
    return (out, source.report) if return_report else out


@verbose
def labram_tokenize(
    inst: Any,
    model: Any = "labram-tokenizer-tiny",
    *,
    window: float | None = None,
    stride: float | None = None,
    channels: str = "recording",
    match: str = "name",
    assume_unit: str | None = None,
    line_freq: float | None = None,
    gaps: str = "raise",
    batch_size: int = 32,
    precision: str = "float32",
    device: str | None = None,
    return_report: bool = False,
    verbose: bool | str | int | None = None,
) -> Any:
    """Turn a recording into integer codes.

    Parameters
    ----------
    inst : mne.io.Raw | mne.Epochs | mne.Evoked | str | Path
        The recording, in volts as MNE holds it, or a file.
    model : LabramTokenizer | str | Path
        The tokenizer, a checkpoint file, or a name of :func:`mne_labram.list_pretrained`.
    window, stride : float | None
        Window length and step in seconds for Raw; ``None``: the model's window, without overlap.
    channels : {"recording", "model"}
        Every channel that the model has an embedding for, or only those it was built with.
    match : {"name", "position"}
        How channels find their embedding, see :func:`mne_labram.conform`.
    assume_unit : str | None
        Unit of the numbers in ``inst`` where the file's unit is wrong, see :func:`mne_labram.conform`.
    line_freq : float | None
        50 or 60 Hz; ``None`` takes ``info["line_freq"]``.
    gaps : {"raise", "split"}
        What to do with an EDF+D file, see :func:`mne_labram.conform`.
    batch_size : int
        Windows per forward pass.
    precision : {"float32", "bf16", "auto"}
        Codes are compared between machines, so float32 is the default here.
    device : str | None
        ``None``: where the model is.
    return_report : bool
        Also return the :class:`~mne_labram.signal.report.ConformReport`; ``report.ch_names`` names the channels.
    verbose : bool | str | int | None
        Control verbosity of the logging output.

    Returns
    -------
    codes : ndarray of int64, shape (n_windows, n_chans, n_patches)
        Channels in the order of those kept; -1 for a window that touches an unusable second.
    report : ConformReport
        Only with ``return_report=True``.

    Raises
    ------
    ContractError
        If the recording cannot be made into what the model takes.
    TypeError
        If the model has no codes.
    """
    module, _ = resolve_model(model)
    function = window_function(module, "tokenize")
    options = SignalOptions(channels, match, assume_unit, line_freq, gaps)
    source = window_source(open_recording(inst), module, options, window=window, stride=stride)
    runner = ModelRunner(module, source.report.ch_names, source.report.model_positions, precision, batch_size, device)
    out, _ = run_windows(source, runner, function)
    return (out, source.report) if return_report else out


@verbose
def annotate_events(
    inst: Any,
    model: Any = None,
    threshold: float = 0.5,
    *,
    release: float | None = None,
    smoothing: float = 5.0,
    merge_gap: float = 10.0,
    min_duration: float = 5.0,
    class_names: list[str] | None = None,
    background: int | str = 0,
    window: float | None = None,
    stride: float = 1.0,
    channels: str = "model",
    match: str = "name",
    assume_unit: str | None = None,
    line_freq: float | None = None,
    gaps: str = "raise",
    mark_not_analysed: bool = True,
    batch_size: int = 32,
    precision: str = "auto",
    device: str | None = None,
    verbose: bool | str | int | None = None,
) -> tuple[Annotations, EventScores]:
    """Find events in a recording with a fine-tuned classifier.

    Overlapping windows are scored, averaged to one score per second, smoothed, thresholded with hysteresis, merged,
    and short events are dropped. The recording is read in blocks; memory does not grow with its length.

    Parameters
    ----------
    inst : mne.io.Raw | str | Path
        The recording, in volts as MNE holds it, or a file.
    model : LabramForClassification | EEGClassifier | str | Path
        The model, a fitted classifier around it, or a checkpoint file; no classifier comes with the package. One
        output is the logit of the event; of several, one is the background.
    threshold : float
        Probability at which an event begins.
    release : float | None
        Probability below which it ends; ``None``: 0.625 of the threshold.
    smoothing : float
        Moving average in seconds.
    merge_gap : float
        Events closer than this many seconds are merged.
    min_duration : float
        Shortest event in seconds.
    class_names : list of str | None
        Descriptions of the annotations, one per output (two for a model with one output: background and event).
        ``None`` takes the model's own.
    background : int | str
        Index or name of the class that is not annotated.
    window : float | None
        Window length in seconds; ``None``: the model's.
    stride : float
        Step between windows in seconds.
    channels : {"model", "recording"}
        Score the channels the model was trained on, or all channels of the recording it has an embedding for.
    match : {"name", "position"}
        How channels find their embedding, see :func:`mne_labram.conform`.
    assume_unit : str | None
        Unit of the numbers in ``inst`` where the file's unit is wrong, see :func:`mne_labram.conform`.
    line_freq : float | None
        50 or 60 Hz; ``None`` takes ``info["line_freq"]``.
    gaps : {"raise", "split"}
        What to do with an EDF+D file, see :func:`mne_labram.conform`.
    mark_not_analysed : bool
        Also annotate what could not be analysed: silence there does not mean that nothing happened.
    batch_size : int
        Windows per forward pass.
    precision : {"auto", "float32", "bf16"}
        Number format; ``"auto"`` picks what the processor does well and logs it.
    device : str | None
        ``None``: where the model is.
    verbose : bool | str | int | None
        Control verbosity of the logging output.

    Returns
    -------
    annotations : mne.Annotations
        Description is the class name, ``extras`` holds ``confidence``.
    scores : EventScores
        Probabilities per second; ``scores.annotations(0.7)`` applies another threshold without running the model.

    Raises
    ------
    ContractError
        If the recording cannot be made into what the model takes.
    TypeError
        If ``inst`` is not a Raw or a file of one.
    ValueError
        If no model is given.
    """
    _need_classifier(model)
    parameters = EventParameters(threshold, release, smoothing, merge_gap, min_duration)
    module, known_names = resolve_model(model)
    if isinstance(module, NON_CLASSIFICATION_MODELS):
        raise ContractError("This model has no classes; annotate with a fine-tuned LabramForClassification.")
    names = _class_names(class_names or known_names, module.n_outputs)
    background_index = _background_index(background, names)
    wanted, step = wanted_samples(module, window), n_samples(stride, module.contract.sfreq, "stride")
    raw = open_recording(inst)
    if not isinstance(raw, BaseRaw):
        raise TypeError(
            f"Events are found in continuous recordings and this is {type(raw).__name__}; use labram_embed or the "
            "classifier's predict for epochs."
        )
    options = SignalOptions(channels, match, assume_unit, line_freq, gaps)
    plan = plan_recording(raw, module, options)
    runner = ModelRunner(module, plan.report.ch_names, plan.report.model_positions, precision, batch_size, device)
    sfreq = plan.sfreq
    length = window_length(module.contract, plan.n_times, wanted)
    if step > wanted:
        raise ValueError(
            f"stride ({stride:g} s) is longer than the window ({wanted / module.contract.sfreq:g} s), so that seconds "
            "in between would have no score; pass a stride of the window's length or less."
        )
    accumulator = SecondAccumulator(int(np.ceil(plan.n_times / sfreq)), len(names))
    # Rounded up: one more window covers the end where the regular ones do not reach it.
    n_windows = -(-(plan.n_times - length) // step) + 1
    windows = iter_windows(plan, length, step, batch_size=batch_size, cover_end=True)
    with runner.running(), progress_bar(n_windows, "Annotating") as progress:
        for batch in windows:
            progress.update(len(batch.starts))
            if batch.usable.any():
                probabilities = runner(batch.data[batch.usable], _probabilities)
                accumulator.add(batch.starts[batch.usable] / sfreq, length / sfreq, probabilities)
    scores = EventScores(
        accumulator.average(),
        names,
        background_index,
        duration=plan.n_times / sfreq,
        parameters=parameters,
        first_time=raw.first_time,
        meas_date=raw.info["meas_date"],
        report=plan.report,
        existing=plan.annotations if plan.report.gaps else None,
    )
    missing = int((~scores.analysed).sum())
    if missing:
        logger.warning(f"{missing} of {len(scores.analysed)} seconds could not be analysed.")
    return scores.annotations(mark_not_analysed=mark_not_analysed), scores


@verbose
def labram_annotate(
    inst: Any,
    model: Any = None,
    threshold: float = 0.5,
    *,
    release: float | None = None,
    smoothing: float = 5.0,
    merge_gap: float = 10.0,
    min_duration: float = 5.0,
    class_names: list[str] | None = None,
    background: int | str = 0,
    window: float | None = None,
    stride: float = 1.0,
    channels: str = "model",
    match: str = "name",
    assume_unit: str | None = None,
    line_freq: float | None = None,
    gaps: str = "raise",
    mark_not_analysed: bool = True,
    batch_size: int = 32,
    precision: str = "auto",
    device: str | None = None,
    verbose: bool | str | int | None = None,
) -> BaseRaw:
    """Return a copy of a recording with the events that a classifier found added to its annotations.

    Parameters
    ----------
    inst : mne.io.Raw | str | Path
        The recording, in volts as MNE holds it, or a file. It is not modified.
    model : LabramForClassification | EEGClassifier | str | Path
        The model, a fitted classifier around it, or a checkpoint file; no classifier comes with the package.
    threshold : float
        Probability at which an event begins.
    release : float | None
        Probability below which it ends; ``None``: 0.625 of the threshold.
    smoothing : float
        Moving average in seconds.
    merge_gap : float
        Events closer than this many seconds are merged.
    min_duration : float
        Shortest event in seconds.
    class_names : list of str | None
        Descriptions of the annotations, one per output; ``None`` takes the model's own.
    background : int | str
        Index or name of the class that is not annotated.
    window : float | None
        Window length in seconds; ``None``: the model's.
    stride : float
        Step between windows in seconds.
    channels : {"model", "recording"}
        Score the channels the model was trained on, or all channels of the recording it has an embedding for.
    match : {"name", "position"}
        How channels find their embedding, see :func:`mne_labram.conform`.
    assume_unit : str | None
        Unit of the numbers in ``inst`` where the file's unit is wrong, see :func:`mne_labram.conform`.
    line_freq : float | None
        50 or 60 Hz; ``None`` takes ``info["line_freq"]``.
    gaps : {"raise", "split"}
        What to do with an EDF+D file, see :func:`mne_labram.conform`.
    mark_not_analysed : bool
        Also annotate what could not be analysed.
    batch_size : int
        Windows per forward pass.
    precision : {"auto", "float32", "bf16"}
        Number format; ``"auto"`` picks what the processor does well and logs it.
    device : str | None
        ``None``: where the model is.
    verbose : bool | str | int | None
        Control verbosity of the logging output.

    Returns
    -------
    annotated : mne.io.Raw
        A copy with the data as they were; existing annotations are kept, those of an earlier call too, and new ones
        carry the class name and, in ``extras``, the ``confidence``: the mean probability within the event, which may
        lie a little below the threshold, since an event lasts until the release level.

    Raises
    ------
    ContractError
        If the recording cannot be made into what the model takes.

    See Also
    --------
    annotate_events : Returns the annotations and the scores instead.
    """
    _need_classifier(model)
    raw = open_recording(inst)
    annotations, scores = annotate_events(
        raw,
        model,
        threshold,
        release=release,
        smoothing=smoothing,
        merge_gap=merge_gap,
        min_duration=min_duration,
        class_names=class_names,
        background=background,
        window=window,
        stride=stride,
        channels=channels,
        match=match,
        assume_unit=assume_unit,
        line_freq=line_freq,
        gaps=gaps,
        mark_not_analysed=mark_not_analysed,
        batch_size=batch_size,
        precision=precision,
        device=device,
    )
    annotated = raw.copy()
    add_annotations(annotated, annotations, scores.existing)
    return annotated


def _probabilities(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return class probabilities, shape (batch, n_classes); one output becomes background and event."""
    logits = module(x).float()
    if logits.shape[1] == 1:
        event = torch.sigmoid(logits)
        return torch.cat([1 - event, event], dim=1)
    return torch.softmax(logits, dim=1)


def _need_classifier(model: Any) -> None:
    """Say where a classifier comes from; a wrong one by default would be worse than none."""
    if model is None:
        raise ValueError(
            "No seizure classifier comes with mne_labram yet; fine-tune one on labelled recordings with "
            "mne_labram.finetuner(n_outputs=2) and pass it, or the path of a checkpoint, as model."
        )


def _class_names(names: list[str] | None, n_outputs: int) -> list[str]:
    """Check the names against the number of outputs, or make some up."""
    n_classes = max(2, n_outputs)
    if names is None:
        return ["background", "event"] if n_classes == 2 else [f"class {i}" for i in range(n_classes)]
    if isinstance(names, str):
        raise TypeError("class_names must be a list of names, got one string.")
    if len(names) != n_classes:
        raise ValueError(f"class_names has {len(names)} names and the model tells {n_classes} classes apart.")
    if len(set(names)) < n_classes:
        raise ValueError(f"class_names must differ from each other, got {', '.join(map(repr, names))}.")
    return [str(name) for name in names]


def _background_index(background: int | str, names: list[str]) -> int:
    if isinstance(background, str):
        if background not in names:
            raise ValueError(f"background={background!r} is none of the classes {', '.join(names)}.")
        return names.index(background)
    if not isinstance(background, (int, np.integer)):
        raise TypeError(f"background must be the index or the name of a class, got {type(background).__name__}.")
    if not 0 <= background < len(names):
        raise ValueError(f"background={background} is no index into the {len(names)} classes.")
    return int(background)
