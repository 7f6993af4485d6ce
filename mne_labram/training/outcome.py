"""What comes out of a training: weights with a card, or a reason why there are none."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from mne_labram.training.batches import WindowBatches
from mne_labram.weights.checkpoint import save_checkpoint
from mne_labram.weights.config import model_config

__all__ = ["CollapsedCodebookError", "DivergedError", "Pretraining", "describe_model", "write_weights"]


class DivergedError(ValueError):
    """A loss, a gradient or a weight is NaN or infinite."""


class CollapsedCodebookError(ValueError):
    """Hardly any code of a tokenizer is in use."""


@dataclass(frozen=True)
class Pretraining:
    """How a training ended.

    Attributes
    ----------
    folder : Path
        Its files.
    step : int
        Steps done.
    finished : bool
        False if the time was up before the last step.
    metrics : dict of str to float
        The last row of ``epochs.csv``, or the means so far of an epoch within which the time was up.
    weights : Path | None
        ``final.safetensors``; ``None`` for a model that is none of ours.
    is_main : bool
        Whether this process wrote the files; one does.
    """

    folder: Path
    step: int
    finished: bool
    metrics: dict[str, float]
    weights: Path | None
    is_main: bool = True


def describe_model(model: nn.Module) -> dict[str, Any]:
    """Say which model it is.

    Parameters
    ----------
    model : torch.nn.Module
        The model.

    Returns
    -------
    description : dict
        ``"class"``, and ``"arguments"`` if it is one of ours, or else ``"shapes"`` of its weights.
    """
    try:
        return {"class": type(model).__name__, "arguments": model_config(model)}
    except TypeError:
        shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
        return {"class": type(model).__name__, "shapes": shapes}


def write_weights(
    model: nn.Module,
    path: Path,
    batches: WindowBatches,
    *,
    steps: int,
    finished: bool,
    n_processes: int,
    config: Mapping[str, Any],
    metrics: Mapping[str, float],
    card: Mapping[str, Any],
) -> None:
    """Write weights for use, with a card that says where they come from.

    Parameters
    ----------
    model : torch.nn.Module
        One of ours.
    path : Path
        The file; replaced if it is there.
    batches : WindowBatches
        What the model was trained on.
    steps : int
        How many steps.
    finished : bool
        Whether these are all.
    n_processes : int
        How many processes trained it.
    config, metrics, card : mapping
        What it depends on, how it does, and what else the card shall say.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    store = batches.store
    hours = getattr(store, "n_hours", None)
    about = {
        "data": sorted({str(recording.dataset) for recording in store.recordings}),
        "n_recordings": len(store.recordings),
        "n_subjects": len({(each.dataset, each.subject) for each in store.recordings}),
        **({} if hours is None else {"hours": round(hours, 3)}),
        "steps": steps,
        "finished": finished,
        "n_processes": n_processes,
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "config": dict(config),
        "metrics": {name: value for name, value in metrics.items() if math.isfinite(value)},
        **card,
    }
    save_checkpoint(model, path, card=about, overwrite=True)
