"""Which number format a forward pass runs in, chosen by what the processor does well."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

__all__ = ["PRECISIONS", "autocast", "resolve_precision"]

#: Accepted by every ``precision=`` argument.
PRECISIONS = ("auto", "float32", "bf16")


def resolve_precision(precision: str, device: torch.device | str = "cpu") -> str:
    """Turn ``"auto"`` into the format that is fast on this device.

    Parameters
    ----------
    precision : {"auto", "float32", "bf16"}
        ``"auto"`` takes bf16 where the processor multiplies it natively (AVX512-BF16 or AMX on a CPU, compute
        capability 8.0 on a GPU) and float32 elsewhere.
    device : torch.device | str
        Where the model runs.

    Returns
    -------
    precision : {"float32", "bf16"}
        The format to use.

    Raises
    ------
    ValueError
        If ``precision`` is none of the three.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(map(repr, PRECISIONS))}, got {precision!r}.")
    if precision != "auto":
        return precision
    device = torch.device(device)
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
    elif device.type == "cpu":
        capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        native = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    else:
        native = False
    return "bf16" if native else "float32"


def autocast(precision: str, device: torch.device | str = "cpu") -> AbstractContextManager:
    """Return the context in which a forward pass runs at a resolved precision.

    Parameters
    ----------
    precision : {"float32", "bf16"}
        From :func:`resolve_precision`.
    device : torch.device | str
        Where the model runs.

    Returns
    -------
    context : context manager
        ``torch.autocast`` for bf16; nothing for float32.
    """
    if precision == "bf16":
        return torch.autocast(torch.device(device).type, dtype=torch.bfloat16)
    return nullcontext()
