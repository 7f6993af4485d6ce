"""Compilation of loops that no array operation can express."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

__all__ = ["compiled"]


def compiled(
    function: Callable[..., Any], *, error_model: str = "python", contract: bool = False
) -> Callable[..., Any]:
    """Compile a function, and keep the result on the disk where there is a place for it.

    Parameters
    ----------
    function : callable
        Of numbers and arrays, as numba knows them.
    error_model : {"python", "numpy"}
        What a division by zero does: raise, or give what NumPy gives (faster).
    contract : bool
        Whether a product and a sum may be rounded once instead of twice (faster, where the processor can do both in
        one instruction).

    Returns
    -------
    compiled : callable
        The same, faster; threads may run it side by side.

    Notes
    -----
    In a container the package may be read-only and the user without a home. Numba then refuses to cache, already when
    the module is imported; each process compiles anew instead, which takes some seconds.
    """
    options = {"nogil": True, "error_model": error_model, "fastmath": {"contract"} if contract else False}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:
        return njit(**options)(function)
