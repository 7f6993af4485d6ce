"""How a model does on windows that it is not trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from mne_labram.nn.codebook import code_usage, least_used
from mne_labram.nn.distributed import sum_over_processes
from mne_labram.training.batches import WindowBatches
from mne_labram.training.devices import on_device, seed_step
from mne_labram.training.means import Means, Pending, scalars

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Validation", "validate"]

#: Held-out batches, or a function of the model.
Validation = WindowBatches | Callable[[nn.Module], Mapping[str, float]]

# Apart from the seeds of training steps, which count from 0.
_STREAM = 2**31


def validate(
    step: nn.Module,
    validation: Validation,
    *,
    accelerator: Accelerator,
    seed: int = 0,
) -> dict[str, float]:
    """Average what a training step returns over held-out windows, in evaluation mode.

    Parameters
    ----------
    step : torch.nn.Module
        Its ``model`` is the model, and calling it with a batch does a training step.
    validation : WindowBatches | callable
        The windows, or a function of the model that returns numbers.
    accelerator : accelerate.Accelerator
        Of the training.
    seed : int
        Of the masks, which are the same every time.

    Returns
    -------
    metrics : dict of str to float
        Means over windows; for a tokenizer also ``"codebook_usage"`` and ``"codebook_perplexity"`` over all of them
        (of the codebook that is used least, if it has several).
    """
    model = step.model
    was_training = model.training
    model.eval()
    try:
        if not isinstance(validation, WindowBatches):
            return {name: float(value) for name, value in validation(model).items()}
        with torch.no_grad():
            return _average(step, validation, accelerator, seed)
    finally:
        model.train(was_training)


def _average(step: nn.Module, batches: WindowBatches, accelerator: Accelerator, seed: int) -> dict[str, float]:
    model, process = step.model, accelerator.process_index
    pending, n_codes = Pending(), getattr(model, "n_codes", None)
    # Only a tokenizer has codes of its own.
    has_codes = n_codes is not None and hasattr(model, "encode") and hasattr(model, "codebook_usage")
    # Several codes for every token, as a residual quantiser has them, are in the last dimension.
    n_codebooks = getattr(model, "n_codebooks", 1)
    counts = torch.zeros(n_codebooks, n_codes if has_codes else 1, dtype=torch.long, device=accelerator.device)
    for i, batch in enumerate(batches.iterate(process=process, n_processes=accelerator.num_processes)):
        seed_step(seed, _STREAM, i, process)
        batch = on_device(batch, accelerator.device)
        pending.add(scalars(step(batch)), batch["share"], float(batch["n_windows"]))
        if has_codes:
            with accelerator.autocast():
                codes = _bound(model, batch).encode(batch["x"])
            for count, column in zip(counts, codes.reshape(-1, n_codebooks).T, strict=True):
                count += torch.bincount(column, minlength=n_codes)
    means = Means()
    means.add(pending.drain(accelerator.device))
    out = means.values()
    if has_codes:
        sum_over_processes(counts)
        usage = least_used([code_usage(count) for count in counts])
        out |= {"codebook_usage": usage["fraction"], "codebook_perplexity": usage["perplexity"]}
    return out


def _bound(model: Any, batch: Mapping[str, Any]) -> Any:
    return model.bind_channels(batch["ch_names"], batch["positions"])
