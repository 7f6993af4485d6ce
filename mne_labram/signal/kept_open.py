"""Things that are kept open, a limited number of them, by each process for itself."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from typing import Any

__all__ = ["KeptOpen"]


class KeptOpen:
    """Holds what was used last; a forked process and a pickled copy begin with nothing.

    Parameters
    ----------
    limit : int
        How many are kept.

    Raises
    ------
    ValueError
        If ``limit`` is below 1.

    Notes
    -----
    After a fork the child must not use the parent's lock, which may have been held at that moment.
    """

    _open: OrderedDict[Any, Any]

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit}.")
        self.limit = limit
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._open = OrderedDict()

    def __getstate__(self) -> dict[str, int]:
        return {"limit": self.limit}

    def __setstate__(self, state: dict[str, int]) -> None:
        self.limit = state["limit"]
        self._start()

    def __len__(self) -> int:
        return len(self._open)
