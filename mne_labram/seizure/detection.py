"""Find seizures in a recording."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mne.io import BaseRaw
from mne.utils import logger, verbose
from torch import nn

from mne_labram.decoding.inference import ModelRunner, resolve_model
from mne_labram.decoding.scores import EventScores
from mne_labram.decoding.second_scores import checked_class_names, second_scores
from mne_labram.decoding.windows import SignalOptions, plan_recording, wanted_samples
from mne_labram.models.registry import NON_CLASSIFICATION_MODELS
from mne_labram.seizure.detected import SeizureDetection
from mne_labram.seizure.event_types import BACKGROUND, known_type
from mne_labram.seizure.involvement import channel_involvement
from mne_labram.seizure.operating_points import choose_parameters, describe_point
from mne_labram.signal.conform import open_recording
from mne_labram.signal.contract import ContractError
from mne_labram.signal.events import EventParameters
from mne_labram.signal.inspection import no_usable_second
from mne_labram.signal.windows import n_samples, window_length
from mne_labram.weights.pretrained import DEFAULT_DETECTOR, list_pretrained, pretrained_card

__all__ = ["SeizureDetection", "detect_seizures", "model_or_default"]


@verbose
def detect_seizures(
    inst: BaseRaw | str | os.PathLike,
    model: Any = None,
    target_fp_per_day: float | None = None,
    threshold: float | None = None,
    *,
    parameters: EventParameters | None = None,
    window: float | None = None,
    stride: float | None = None,
    channels: str | None = None,
    match: str = "name",
    assume_unit: str | None = None,
    line_freq: float | None = None,
    gaps: str = "raise",
    involvement: bool = True,
    batch_size: int = 32,
    precision: str = "auto",
    device: str | None = None,
    verbose: bool | str | int | None = None,
) -> SeizureDetection:
    """Find seizures in a recording of any length.

    Parameters
    ----------
    inst : mne.io.Raw | str | Path
        The recording, in volts as MNE holds it, or a file. Read in blocks: memory does not grow with its length.
    model : NeuroStorm | LabramForClassification | EEGClassifier | str | Path | None
        The detector: a model that gives probabilities for every second, or a classifier of windows; a checkpoint, or
        a name of :func:`mne_labram.list_pretrained`. ``None``: the detector that comes with the package.
    target_fp_per_day : float | None
        False alarms a day that are accepted. The threshold is the lowest at which there were no more on the
        recordings that the detector was calibrated on; on others there may be more.
    threshold : float | None
        Probability that a seizure must reach. ``None``, and no target either: the detector's own.
    parameters : EventParameters | None
        Smoothing, release, merging and shortest duration. ``None``: the detector's own.
    window : float | None
        Window length in seconds; ``None``: the model's. A recording that is shorter is one window.
    stride : float | None
        Step between windows in seconds; ``None``: half a window.
    channels : {"montage", "model", "recording"} | None
        Which channels are read: the 19 electrodes of the 10-20 system or, of a bipolar recording, the 18 derivations
        of the double banana; those the model was built with; or all that it has an embedding for. ``None``: the
        montage's for a model that tells seconds apart, which reads both kinds, and the model's for others.
    match : {"name", "position"}
        How channels find their embedding, see :func:`mne_labram.conform`.
    assume_unit : str | None
        Unit of the numbers in ``inst`` where the file's unit is wrong, see :func:`mne_labram.conform`.
    line_freq : float | None
        50 or 60 Hz; ``None`` takes ``info["line_freq"]``.
    gaps : {"raise", "split"}
        What to do with an EDF+D file, see :func:`mne_labram.conform`.
    involvement : bool
        Say for each seizure which channels it was found by; takes some seconds of computing, of which the recording's
        length is no part.
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
    detection : SeizureDetection
        ``detection.annotations`` for MNE, ``detection.to_tsv(fname)`` for SzCORE, ``detection.rethreshold(0.7)``
        for another threshold without running the model again.

    Raises
    ------
    ContractError
        If the recording cannot be made into what the model takes, or no second of it can be used.
    TypeError
        If ``inst`` is not a Raw or a file of one, or the model is none.
    ValueError
        If an argument makes no sense, or both a threshold and a target are given.

    Notes
    -----
    Windows that overlap are averaged to one probability per second; these are smoothed; a seizure is a stretch at or
    above the release level that reaches the threshold; seizures close together are merged and short ones dropped
    (:class:`~mne_labram.signal.events.EventParameters`). Seconds that only windows with an unusable second cover are
    not analysed, which is not the same as no seizure. For research; not a medical device.
    """
    module, names, name, card = _resolve(model)
    calibration = getattr(module, "detection", None)
    if calibration is not None and not isinstance(calibration, Mapping):
        raise ValueError(f"The model's detection is damaged: it is a {type(calibration).__name__} and no mapping.")
    chosen = choose_parameters(
        calibration, threshold=threshold, target_fp_per_day=target_fp_per_day, parameters=parameters
    )
    wanted = wanted_samples(module, window)
    step = max(1, wanted // 2) if stride is None else n_samples(stride, module.contract.sfreq, "stride")
    if step > wanted:
        raise ValueError(
            f"stride ({stride:g} s) is longer than the window ({wanted / module.contract.sfreq:g} s), so that seconds "
            "in between would have no score; pass a stride of the window's length or less."
        )
    raw = open_recording(inst)
    if not isinstance(raw, BaseRaw):
        raise TypeError(f"Seizures are found in continuous recordings and this is {type(raw).__name__}.")
    if channels is None:
        channels = "montage" if hasattr(module, "second_probabilities") else "model"
    plan = plan_recording(raw, module, SignalOptions(channels, match, assume_unit, line_freq, gaps))
    report = plan.report
    runner = ModelRunner(module, report.ch_names, report.model_positions, precision, batch_size, device)
    length = window_length(module.contract, plan.n_times, wanted)
    background = next((i for i, each in enumerate(names) if known_type(each) == BACKGROUND), 0)
    detection = SeizureDetection(
        EventScores(
            second_scores(plan, runner, len(names), length=length, stride=step, label="Looking for seizures"),
            names,
            background,
            duration=plan.n_times / plan.sfreq,
            parameters=chosen,
            first_time=raw.first_time,
            meas_date=raw.info["meas_date"],
            report=report,
            existing=plan.annotations if report.gaps else None,
        ),
        model_name=name,
        card=card,
        calibration=None if calibration is None else dict(calibration),
        raw=raw,
    )
    if not detection.analysed.any():
        raise ContractError(no_usable_second(report))
    if involvement:
        detection.involvement = channel_involvement(
            plan,
            module,
            detection.spans,
            length=length,
            background=background,
            batch_size=batch_size,
            device=device,
        )
    _say(detection)
    return detection


def model_or_default(model: Any) -> Any:
    """Return a model, or the name of the detector that comes with the package.

    Parameters
    ----------
    model : object | None
        What a user gave.

    Returns
    -------
    model : object
        The same, or a name.

    Raises
    ------
    ValueError
        If there is none and the weights are missing.
    """
    if model is not None:
        return model
    if DEFAULT_DETECTOR not in list_pretrained():
        raise ValueError(
            f"This installation holds no weights of the seizure detector {DEFAULT_DETECTOR!r}; pass a model, or the "
            "path of a checkpoint."
        )
    return DEFAULT_DETECTOR


def _resolve(model: Any) -> tuple[nn.Module, list[str], str, dict[str, Any]]:
    """Return the detector, its classes, what it is called and what is known of it."""
    model = model_or_default(model)
    module, names = resolve_model(model)
    if isinstance(module, NON_CLASSIFICATION_MODELS):
        raise ContractError(
            "This model has no classes; find seizures with a NeuroStorm, or with a classifier that was trained to."
        )
    names = checked_class_names(names, module.n_outputs)
    card: dict[str, Any] = {}
    name = type(module).__name__
    if isinstance(model, (str, os.PathLike)):
        path = Path(model).expanduser()
        name = path.name
        if path.is_file():
            from mne_labram.weights import describe_checkpoint

            described = describe_checkpoint(path)
            card = {key: described[key] for key in ("class", "n_parameters", "sha256", "contract", "versions")}
            card |= described["card"]
        else:
            card = pretrained_card(os.fspath(model))
    return module, names, name, card


def _say(detection: SeizureDetection) -> None:
    """Log what was found, what it is worth, and what was not looked at."""
    missing = int((~detection.analysed).sum())
    if missing:
        logger.warning(f"{missing} of {len(detection.analysed)} seconds could not be analysed.")
    n, seconds = len(detection.table), detection.duration
    length = f"{seconds / 3600:.3g} h" if seconds >= 3600 else f"{seconds:.4g} s"
    logger.info(f"{n or 'No'} seizure{'' if n == 1 else 's'} in {length} at the threshold {detection.threshold:.3g}.")
    point = detection.operating_point
    if point is not None:
        logger.info(describe_point(detection.calibration, point))
    elif not (detection.calibration or {}).get("operating_points"):
        logger.warning("The model was never calibrated: how many false alarms to expect is not known.")
