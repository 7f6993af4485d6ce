"""Train a model on windows, without labels, so that it can be stopped and gone on with at any moment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mne.utils import verbose
from torch import nn

from mne_labram.training.batches import WindowBatches
from mne_labram.training.devices import compiled_blocks, own_random_state, stop_signals
from mne_labram.training.logbook import check_tensorboard
from mne_labram.training.outcome import CollapsedCodebookError, DivergedError, Pretraining
from mne_labram.training.settings import TrainingSettings
from mne_labram.training.trainer import Trainer
from mne_labram.training.validation import Validation

__all__ = ["CollapsedCodebookError", "DivergedError", "Pretraining", "pretrain"]


@verbose
def pretrain(
    model: nn.Module,
    batches: WindowBatches,
    folder: str | os.PathLike[str],
    *,
    settings: TrainingSettings | Mapping[str, Any] | None = None,
    seed: int = 0,
    validation: Validation | None = None,
    resume: bool = False,
    device: str | None = None,
    config: Mapping[str, Any] | None = None,
    card: Mapping[str, Any] | None = None,
    verbose: bool | str | int | None = None,
) -> Pretraining:
    """Train a model that has ``training_step``.

    Parameters
    ----------
    model : torch.nn.Module
        ``model.training_step(batch)`` returns a mapping with ``"loss"``, a mean over the windows of the batch, and any
        other numbers, which are logged. The model is trained in place and left in evaluation mode. It may hold the
        model that is wanted as ``exported``, beside what only training needs; say in ``objective``, as plain values,
        how it trains that; and give parts of itself, by the beginnings of their parameters' names, another learning
        rate in ``learning_rate_scales``, as :class:`mne_labram.models.braincodec.training.BrainCodecForPretraining`
        does for its discriminator.
    batches : WindowBatches
        What it is trained on.
    folder : path-like
        Gets ``log.csv``, ``epochs.csv``, ``checkpoints/``, ``best.safetensors`` (with ``validation``) and
        ``final.safetensors``.
    settings : TrainingSettings | mapping | None
        How; ``None`` takes the defaults.
    seed : int
        Of everything random in a step: masks, dropout. Order and augmentation follow ``batches.seed``.
    validation : WindowBatches | callable | None
        After every epoch: held-out batches, on which ``training_step`` is evaluated with the same masks every time, or
        a function of the model that returns numbers, among them perhaps ``"loss"``.
    resume : bool
        Go on from the newest checkpoint in ``folder``; begin if there is none.
    device : {"cpu", "cuda"} | None
        Where; ``None`` leaves it to Accelerate: a GPU if there is one.
    config : mapping | None
        What else must be the same when the training is gone on with, as plain JSON values.
    card : mapping | None
        What else the card of the weights shall say.
    verbose : bool | str | int | None
        Control verbosity of the logging output.

    Returns
    -------
    pretraining : Pretraining
        How it ended.

    Raises
    ------
    ValueError
        If a setting makes no sense, precision is not available, or the checkpoint is of another configuration.
    FileExistsError
        If there are checkpoints in ``folder`` and ``resume`` is false, or final weights but no checkpoint.
    DivergedError
        If a loss, a gradient or a weight is NaN or infinite. The checkpoint before that is kept.
    CollapsedCodebookError
        If less than ``settings.smallest_usage`` of the codebook (or of the tokens, if they are fewer) was used in a
        whole epoch.
    KeyboardInterrupt
        After SIGINT (Ctrl-C) or SIGTERM; the step is finished and a checkpoint written first.
    OSError
        If a file cannot be written, for example because the disk is full. The last good checkpoint is kept.
    ImportError
        If TensorBoard is asked for but not installed.

    Notes
    -----
    Runs in one process, or in several (``accelerate launch``, ``torchrun``) that divide every batch between them: with
    the same seed the same batches and the same codebook, to rounding, however many there are. Masks and dropout follow
    from the seed, the number of the step and the process, so that no random state has to be kept, but another number of
    processes draws others. The caller's random state is left as it was.

    The codebook of a tokenizer is float32 under mixed precision too.
    """
    if not hasattr(model, "training_step"):
        raise TypeError(f"{type(model).__name__} has no training_step, so it cannot be pre-trained.")
    if not isinstance(settings, TrainingSettings):
        settings = TrainingSettings.from_dict(settings or {})
    if settings.tensorboard:
        check_tensorboard()
    folder = Path(folder).expanduser()
    with own_random_state():
        trainer = Trainer(model, batches, folder, settings, seed, validation, device, config or {}, card or {})
        trainer.prepare(resume)
        with stop_signals() as trainer.received, compiled_blocks(model, settings.compile):
            return trainer.run()
