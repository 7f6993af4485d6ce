"""Which number format a forward pass runs in, chosen by what the processor does well."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

__all__ = ["PRECISIONS", "autocast", "native_bf16", "resolve_precision"]

#: Accepted by every ``precision=`` argument. float16 is not: its range ends at 65504, which activations may pass.
PRECISIONS = ("auto", "float32", "bf16")


def native_bf16(device: torch.device | str = "cpu") -> str | None:
    """Name the unit of a processor that multiplies bfloat16 faster than float32.

    Parameters
    ----------
    device : torch.device | str
        Where a model runs.

    Returns
    -------
    unit : str | None
        ``"AVX512-BF16"`` or ``"AMX"`` on an x86-64 CPU, if torch was built with oneDNN, which uses them; ``"tensor
        cores"`` on a GPU of compute capability 8.0 or more; ``None`` elsewhere, also where bfloat16 works but is
        emulated, or has not been measured (Arm, Apple).

    Notes
    -----
    Found by capability flags, not by timing, so that the same machine always gives the same numbers. Measured with
    LaBraM base on an AMD EPYC with AVX512-BF16 (``mne-labram benchmark speed``): bf16 takes 0.6 of the time of
    float32.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return "tensor cores" if torch.cuda.get_device_capability(device) >= (8, 0) else None
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return None
    if hasattr(torch.cpu, "get_capabilities"):
        flags = torch.cpu.get_capabilities()
        amx, avx512 = flags.get("amx_bf16", False), flags.get("avx512_bf16", False)
    else:
        # Older releases of torch tell them one by one. Every processor with AMX tiles has them for bfloat16.
        amx, avx512 = (
            getattr(torch.cpu, name, bool)() for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
        )
    return "AMX" if amx else "AVX512-BF16" if avx512 else None


def resolve_precision(precision: str, device: torch.device | str = "cpu") -> str:
    """Turn ``"auto"`` into the format that is fast on this device.

    Parameters
    ----------
    precision : {"auto", "float32", "bf16"}
        ``"auto"`` takes bf16 where the processor multiplies it natively (:func:`native_bf16`) and float32 elsewhere.
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
    return "float32" if native_bf16(device) is None else "bf16"


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
