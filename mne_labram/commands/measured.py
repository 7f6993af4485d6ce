"""What benchmarks measured, as a JSON file."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from mne_labram._files import checked_ending, written_whole
from mne_labram.commands.files import check_writable

__all__ = ["check_json", "write_json"]


def check_json(fname: Path | None, overwrite: bool) -> None:
    """Refuse a bad name before anything is measured.

    Parameters
    ----------
    fname : Path | None
        Where it will go; ``None``: nowhere.
    overwrite : bool
        Whether a file may be replaced.

    Raises
    ------
    ValueError
        If the name does not end in .json, or the file exists and may not be replaced.
    OSError
        If the folder cannot be written to.
    """
    if fname is not None:
        checked_ending(fname, "The file of what was measured", ".json")
        check_writable(fname, overwrite)


def write_json(fname: Path | None, found: dict[str, Any], *, overwrite: bool = False) -> None:
    """Write what was measured; a number that is not known becomes ``null``, since JSON has no NaN.

    Parameters
    ----------
    fname : Path | None
        Where; ``None``: nowhere.
    found : dict
        Plain values.
    overwrite : bool
        Whether a file may be replaced.
    """
    if fname is not None:
        with written_whole(fname, overwrite=overwrite) as temporary:
            temporary.write_text(json.dumps(_plain(found), indent=1, allow_nan=False), encoding="utf8")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
