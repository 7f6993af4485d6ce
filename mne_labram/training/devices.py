"""What a training needs from the machine: Accelerate, seeds, signals, memory."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist
from mne.utils import logger
from torch import Tensor, nn

from mne_labram.nn.distributed import several_processes
from mne_labram.training.settings import TrainingSettings

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = [
    "agree",
    "compiled_blocks",
    "first_process_first",
    "make_accelerator",
    "on_device",
    "own_random_state",
    "peak_memory",
    "resolve_training_precision",
    "seed_step",
    "stop_signals",
]


def resolve_training_precision(precision: str, device: str | None = None) -> str:
    """Turn ``"auto"`` into a precision that the device has, and refuse one that it has not.

    Parameters
    ----------
    precision : {"auto", "no", "bf16", "fp16"}
        Mixed precision.
    device : {"cpu", "cuda"} | None
        Where; ``None``: a GPU if there is one.

    Returns
    -------
    precision : {"no", "bf16", "fp16"}
        bf16 for ``"auto"`` on a GPU that has it.

    Raises
    ------
    ValueError
        If there is no such device, or it has not that precision.
    """
    if device not in (None, "cpu", "cuda"):
        raise ValueError(f"device must be 'cpu', 'cuda' or None, got {device!r}.")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("There is no GPU that torch can use; train with device='cpu'.")
    on_gpu = torch.cuda.is_available() and not _on_cpu(device)
    if precision == "auto":
        return "bf16" if on_gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    if precision == "fp16" and not on_gpu:
        raise ValueError("precision='fp16' needs a GPU; use 'bf16' or 'no' on the CPU.")
    return precision


def _on_cpu(device: str | None) -> bool:
    """Tell whether training is kept on the CPU, by an argument or by ``accelerate launch --cpu``."""
    return device == "cpu" or os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")


def make_accelerator(settings: TrainingSettings, device: str | None = None) -> Accelerator:
    """Make Accelerate's object for a device and a precision.

    Parameters
    ----------
    settings : TrainingSettings
        Says the precision.
    device : {"cpu", "cuda"} | None
        Where; ``None``: a GPU if there is one.

    Returns
    -------
    accelerator : accelerate.Accelerator
        Of one process, or of those that ``accelerate launch`` or ``torchrun`` started.

    Raises
    ------
    ValueError
        As :func:`resolve_training_precision`.
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState, PartialState

    precision = resolve_training_precision(settings.precision, device)
    # Accelerate remembers the precision and the device of its first object for as long as the process lives.
    AcceleratorState._reset_state(reset_partial_state=PartialState(cpu=_on_cpu(device)).num_processes == 1)
    accelerator = Accelerator(
        mixed_precision=precision,
        cpu=_on_cpu(device),
        kwargs_handlers=[
            # Buffers are the same everywhere, because codebook and statistics are moved by all processes together.
            DistributedDataParallelKwargs(
                broadcast_buffers=False, find_unused_parameters=settings.find_unused_parameters
            )
        ],
    )
    if accelerator.num_processes == 1 and "MASTER_ADDR" in os.environ and "RANK" not in os.environ:
        logger.warning(
            "accelerate launch --cpu --num_processes starts one process only; for several on the CPU, set "
            "ACCELERATE_USE_CPU=true and use accelerate launch --multi_gpu."
        )
    return accelerator


@contextmanager
def first_process_first() -> Iterator[None]:
    """Let the other processes wait until the first one is through, so that files are made once.

    Yields
    ------
    None
        Nothing.
    """
    from accelerate import PartialState

    with PartialState().main_process_first():
        yield


def agree(value: int, device: torch.device) -> int:
    """Return the largest value that any process has."""
    if not several_processes():
        return value
    largest = torch.tensor(value, device=device)
    dist.all_reduce(largest, op=dist.ReduceOp.MAX)
    return int(largest)


def on_device(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Move the tensors of a batch."""
    return {
        name: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
        for name, value in batch.items()
    }


def seed_step(*numbers: int) -> None:
    """Make everything random in a step a function of a few numbers.

    Parameters
    ----------
    *numbers : int
        Seed, step, batch, process: not negative.
    """
    (seed,) = np.random.SeedSequence(numbers).generate_state(1, np.uint32).tolist()
    # Not torch.manual_seed: without a GPU in use it notes, with a traceback, that one is to be seeded later.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (for models of others, which may still draw from it)


@contextmanager
def own_random_state() -> Iterator[None]:
    """Give the caller's random states back at the end."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Note SIGINT and SIGTERM instead of stopping at once; the second one stops.

    Yields
    ------
    received : list of int
        The signals that came.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def note(number: int, frame: Any) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def compiled_blocks(model: nn.Module, backend: bool | str) -> Iterator[None]:
    """Compile every block of a model for a while.

    Parameters
    ----------
    model : torch.nn.Module
        Each module in its module lists is compiled for itself, which takes seconds instead of minutes, works with any
        montage, and leaves the names of the weights as they are.
    backend : bool | str
        Whether to, or the backend of ``torch.compile``.

    Yields
    ------
    None
        Nothing.

    Raises
    ------
    ValueError
        If there is no such backend.
    """
    blocks = [block for each in model.modules() if isinstance(each, nn.ModuleList) for block in each] if backend else []
    if isinstance(backend, str) and backend not in torch._dynamo.list_backends(None):
        raise ValueError(
            f"compile must be true, false or one of {', '.join(torch._dynamo.list_backends(None))}, got {backend!r}."
        )
    for block in blocks:
        block.compile(backend=backend if isinstance(backend, str) else "inductor", dynamic=True)
    try:
        yield
    finally:
        for block in blocks:
            block._compiled_call_impl = None


def peak_memory(device: torch.device) -> float:
    """Return the largest memory taken so far, in megabytes: of the GPU, or else of this process."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    try:
        import resource
    except ImportError:
        # Windows.
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
