"""What users pipe: embed, tokenise, annotate. Thin, and back to what MNE users already know."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mne import Annotations, Forward
from mne.io import BaseRaw
from mne.utils import logger, use_log_level, verbose

from mne_labram.decoding.inference import ModelRunner, resolve_model
from mne_labram.decoding.scores import EventScores, add_annotations
from mne_labram.decoding.second_scores import background_index, checked_class_names, second_scores
from mne_labram.decoding.windows import (
    SignalOptions,
    plan_recording,
    run_windows,
    wanted_samples,
    window_function,
    window_source,
)
from mne_labram.models.registry import NON_CLASSIFICATION_MODELS
from mne_labram.seizure.detection import detect_seizures, model_or_default
from mne_labram.seizure.operating_points import choose_parameters
from mne_labram.signal.conform import open_recording
from mne_labram.signal.contract import ContractError
from mne_labram.signal.windows import n_samples, window_length

__all__ = ["annotate_events", "brainforge_localize", "labram_annotate", "labram_embed", "labram_tokenize"]


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
    model : LabramTokenizer | BrainCodec | str | Path
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
        Channels in the order of those kept; -1 for a window that touches an unusable second. With a codec, of shape
        (n_windows, n_chans, n_frames, n_codebooks).
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
    threshold: float | None = None,
    *,
    release: float | None = None,
    smoothing: float | None = None,
    merge_gap: float | None = None,
    min_duration: float | None = None,
    class_names: list[str] | None = None,
    background: int | str = 0,
    window: float | None = None,
    stride: float | None = None,
    channels: str | None = None,
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
    model : NeuroStorm | LabramForClassification | EEGClassifier | str | Path | None
        The model, a fitted classifier around it, a checkpoint or a name; ``None``: the seizure detector that comes
        with the package. One output is the logit of the event; of several, one is the background.
    threshold : float | None
        Probability at which an event begins; ``None``: a seizure detector's own, 0.5 for others.
    release : float | None
        Probability below which it ends; ``None``: a seizure detector's own, or 0.625 of the threshold.
    smoothing, merge_gap, min_duration : float | None
        Moving average; events closer than the gap are merged, shorter ones dropped; in seconds. ``None``: a seizure
        detector's own; 5, 10 and 5 s for others.
    class_names : list of str | None
        Descriptions of the annotations, one per output (two for a model with one output: background and event).
        ``None`` takes the model's own.
    background : int | str
        Index or name of the class that is not annotated.
    window : float | None
        Window length in seconds; ``None``: the model's.
    stride : float | None
        Step between windows in seconds; ``None``: half a window for a seizure detector, 1 s for others.
    channels : {"model", "recording", "montage"} | None
        Score the channels the model was trained on, all channels of the recording it has an embedding for, or those
        of the 10-20 system or double banana; ``None``: the last for a seizure detector, the first for others.
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
        Description is the class name, ``extras`` holds ``confidence``; those of a seizure detector are
        :meth:`SeizureDetection.to_annotations <mne_labram.SeizureDetection.to_annotations>`'s.
    scores : EventScores
        Probabilities per second; ``scores.annotations(0.7)`` applies another threshold without running the model.

    Raises
    ------
    ContractError
        If the recording cannot be made into what the model takes.
    TypeError
        If ``inst`` is not a Raw or a file of one.
    ValueError
        If an argument makes no sense.
    """
    module, known_names = resolve_model(model_or_default(model))
    if isinstance(module, NON_CLASSIFICATION_MODELS):
        raise ContractError("This model has no classes; annotate with a fine-tuned LabramForClassification.")
    is_detector = hasattr(module, "second_probabilities")
    given = {"release": release, "smoothing": smoothing, "merge_gap": merge_gap, "min_duration": min_duration}
    parameters = choose_parameters(getattr(module, "detection", None), threshold=threshold)
    parameters = replace(parameters, **{name: value for name, value in given.items() if value is not None})
    running = {"batch_size": batch_size, "precision": precision, "device": device}
    if is_detector and class_names is None and background == 0:
        reading = {"match": match, "assume_unit": assume_unit, "line_freq": line_freq, "gaps": gaps}
        shape = {"window": window, "stride": stride, "channels": channels}
        detection = detect_seizures(
            inst, module, parameters=parameters, involvement=False, **shape, **reading, **running
        )
        return detection.to_annotations(mark_not_analysed=mark_not_analysed), detection.scores
    names = checked_class_names(class_names or known_names, module.n_outputs)
    background = background_index(background, names)
    stride = 1.0 if stride is None else stride
    wanted, step = wanted_samples(module, window), n_samples(stride, module.contract.sfreq, "stride")
    raw = open_recording(inst)
    if not isinstance(raw, BaseRaw):
        raise TypeError(
            f"Events are found in continuous recordings and this is {type(raw).__name__}; use labram_embed or the "
            "classifier's predict for epochs."
        )
    if channels is None:
        channels = "montage" if is_detector else "model"
    plan = plan_recording(raw, module, SignalOptions(channels, match, assume_unit, line_freq, gaps))
    runner = ModelRunner(module, plan.report.ch_names, plan.report.model_positions, **running)
    length = window_length(module.contract, plan.n_times, wanted)
    if step > wanted:
        raise ValueError(
            f"stride ({stride:g} s) is longer than the window ({wanted / module.contract.sfreq:g} s), so that seconds "
            "in between would have no score; pass a stride of the window's length or less."
        )
    scores = EventScores(
        second_scores(plan, runner, len(names), length=length, stride=step),
        names,
        background,
        duration=plan.n_times / plan.sfreq,
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
    threshold: float | None = None,
    *,
    release: float | None = None,
    smoothing: float | None = None,
    merge_gap: float | None = None,
    min_duration: float | None = None,
    class_names: list[str] | None = None,
    background: int | str = 0,
    window: float | None = None,
    stride: float | None = None,
    channels: str | None = None,
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
    model : NeuroStorm | LabramForClassification | EEGClassifier | str | Path | None
        The model, a fitted classifier around it, a checkpoint or a name; ``None``: the seizure detector that comes
        with the package.
    threshold : float | None
        Probability at which an event begins; ``None``: a seizure detector's own, 0.5 for others.
    release : float | None
        Probability below which it ends; ``None``: a seizure detector's own, or 0.625 of the threshold.
    smoothing, merge_gap, min_duration : float | None
        Moving average; events closer than the gap are merged, shorter ones dropped; in seconds. ``None``: a seizure
        detector's own; 5, 10 and 5 s for others.
    class_names : list of str | None
        Descriptions of the annotations, one per output; ``None`` takes the model's own.
    background : int | str
        Index or name of the class that is not annotated.
    window : float | None
        Window length in seconds; ``None``: the model's.
    stride : float | None
        Step between windows in seconds; ``None``: half a window for a seizure detector, 1 s for others.
    channels : {"model", "recording", "montage"} | None
        Score the channels the model was trained on, all channels of the recording it has an embedding for, or those
        of the 10-20 system or double banana; ``None``: the last for a seizure detector, the first for others.
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
    model = model_or_default(model)
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


@verbose
def brainforge_localize(
    inst: Any,
    fwd: Forward | None = None,
    *,
    model: Any = "brainforge-tiny",
    noise_cov: Any = None,
    verbose: bool | str | int | None = None,
    **kwargs: Any,
) -> Any:
    """Find the sources of a recording.

    Parameters
    ----------
    inst : mne.io.Raw | mne.Epochs | mne.Evoked | str | Path
        The recording, in volts as MNE holds it, or a file.
    fwd : mne.Forward | None
        The head; ``None``: the template's (:func:`mne_labram.source.default_forward`), which the log says.
    model : str | Path | BrainForge
        The network, see :class:`mne_labram.BrainForgeInverse`.
    noise_cov : mne.Covariance | None
        Of the noise in single trials; ``None``: white, of a strength that is estimated in each window.
    verbose : bool | str | int | None
        Control verbosity of the logging output.
    **kwargs : object
        Passed to :meth:`mne_labram.BrainForgeInverse.apply`: ``window``, ``start``, ``stop``, ``return_generator``.

    Returns
    -------
    stc : mne.SourceEstimate | mne.MixedSourceEstimate | list | generator
        Dipole moments in Am; a list for Epochs.

    Raises
    ------
    ContractError
        If the recording or the forward cannot be used.
    TypeError
        If the model is none.
    """
    from mne_labram.source.headmodel import default_forward
    from mne_labram.source.inverse import BrainForgeInverse
    from mne_labram.source.localizable import eeg_channels

    inst = open_recording(inst)
    # Before a head is made; what is left out is said by apply.
    with use_log_level("ERROR"):
        eeg_channels(inst)
    if fwd is None:
        logger.info("No forward was given: sources are found in the template's head (default_forward).")
        fwd = default_forward(inst.info)
    return BrainForgeInverse(fwd, model=model, noise_cov=noise_cov).apply(inst, **kwargs)
