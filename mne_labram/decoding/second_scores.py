"""Class probabilities at 1 Hz: every window of a recording through a classifier, averaged where windows overlap."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from mne_labram.decoding.inference import ModelRunner
from mne_labram.decoding.progress import progress_bar
from mne_labram.signal.blocks import ConformPlan
from mne_labram.signal.events import SecondAccumulator
from mne_labram.signal.windows import iter_windows

__all__ = ["background_index", "checked_class_names", "class_probabilities", "second_scores"]


def class_probabilities(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return class probabilities of windows, or of every second of them where the model tells seconds apart.

    Parameters
    ----------
    module : torch.nn.Module
        A classifier. One output is the logit of the event, and becomes two classes: background and event.
    x : Tensor, shape (batch, n_chans, n_times)
        Microvolts.

    Returns
    -------
    probabilities : Tensor, shape (batch, n_classes) or (batch, n_seconds, n_classes)
        The latter from a model with ``second_probabilities``.
    """
    if hasattr(module, "second_probabilities"):
        return module.second_probabilities(x)
    logits = module(x).float()
    if logits.shape[1] == 1:
        event = torch.sigmoid(logits)
        return torch.cat([1 - event, event], dim=1)
    return torch.softmax(logits, dim=1)


def second_scores(
    plan: ConformPlan, runner: ModelRunner, n_classes: int, *, length: int, stride: int, label: str = "Annotating"
) -> np.ndarray:
    """Score a recording while it streams by.

    Parameters
    ----------
    plan : ConformPlan
        The recording.
    runner : ModelRunner
        A classifier bound to ``plan.ch_names``.
    n_classes : int
        Probabilities per window or second.
    length, stride : int
        Window length and step in samples at the contract's rate, the step not longer than the window (but for a
        recording that is shorter than one).
    label : str
        Shown before the progress bar.

    Returns
    -------
    scores : ndarray, shape (n_classes, n_seconds)
        Means over all windows that cover a second, weighted by how much of it they cover; NaN where there is none,
        because every window that covers it touches an unusable second.

    Notes
    -----
    Beside the result, one block of signal and one batch of windows are in memory.
    """
    sfreq = plan.sfreq
    accumulator = SecondAccumulator(int(np.ceil(plan.n_times / sfreq)), n_classes)
    # Rounded up: one more window covers the end where the regular ones do not reach it.
    n_windows = -(-(plan.n_times - length) // stride) + 1
    windows = iter_windows(plan, length, stride, batch_size=runner.batch_size, cover_end=True)
    with runner.running(), progress_bar(n_windows, label) as progress:
        for batch in windows:
            progress.update(len(batch.starts))
            if not batch.usable.any():
                continue
            out = runner(batch.data[batch.usable], class_probabilities)
            starts, duration = batch.starts[batch.usable] / sfreq, length / sfreq
            if out.ndim == 3:
                duration /= out.shape[1]
                starts = (starts[:, np.newaxis] + duration * np.arange(out.shape[1])).ravel()
                out = out.reshape(-1, n_classes)
            accumulator.add(starts, duration, out)
    return accumulator.average()


def checked_class_names(names: list[str] | None, n_outputs: int) -> list[str]:
    """Check the names of classes against the number of outputs, or make some up.

    Parameters
    ----------
    names : list of str | None
        One per class.
    n_outputs : int
        Outputs of the model; one output tells two classes apart.

    Returns
    -------
    names : list of str
        One per class.

    Raises
    ------
    TypeError
        If the names are one string.
    ValueError
        If there are not as many as classes, or two are equal.
    """
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


def background_index(background: int | str, names: list[str]) -> int:
    """Return which class is not annotated.

    Parameters
    ----------
    background : int | str
        Its index or name.
    names : list of str
        The classes.

    Returns
    -------
    index : int
        Its index.

    Raises
    ------
    TypeError, ValueError
        If it is neither an index nor a name of a class.
    """
    if isinstance(background, str):
        if background not in names:
            raise ValueError(f"background={background!r} is none of the classes {', '.join(names)}.")
        return names.index(background)
    if not isinstance(background, (int, np.integer)):
        raise TypeError(f"background must be the index or the name of a class, got {type(background).__name__}.")
    if not 0 <= background < len(names):
        raise ValueError(f"background={background} is no index into the {len(names)} classes.")
    return int(background)
