"""Progress bars, only where there is time to look at one."""

from __future__ import annotations

import logging
import os

from mne.utils import logger
from tqdm import tqdm

__all__ = ["progress_bar"]

# Seconds before a bar appears: short runs print none.
_DELAY = 2.0


def progress_bar(total: int, description: str, unit: str = "window") -> tqdm:
    """Return a bar that appears after two seconds.

    Parameters
    ----------
    total : int
        Number of steps.
    description : str
        Shown before the bar.
    unit : str
        What is counted.

    Returns
    -------
    bar : tqdm.tqdm
        To be used in a ``with`` statement. Silent where MNE's logging is above "info" or ``MNE_TQDM=off``, as MNE's
        own bars are.
    """
    silent = logger.getEffectiveLevel() > logging.INFO or os.environ.get("MNE_TQDM", "").lower() == "off"
    return tqdm(total=total, desc=description, unit=unit, delay=_DELAY, disable=silent)
