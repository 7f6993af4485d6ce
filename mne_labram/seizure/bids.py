"""SzCORE's BIDS data sets as MNE recordings whose annotations say what they are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mne import Annotations
from mne.io import BaseRaw
from mne.utils import logger, verbose

from mne_labram.seizure.event_types import BACKGROUND, known_type
from mne_labram.seizure.szcore import COLUMNS, parse_szcore
from mne_labram.seizure.text_files import number, read_lines
from mne_labram.signal.discovery import Found, open_found
from mne_labram.signal.opening import reason_of

if TYPE_CHECKING:
    from mne_bids import BIDSPath

__all__ = ["read_raw_szcore_bids"]

_NOT_GIVEN = "n/a"


@verbose
def read_raw_szcore_bids(
    bids_path: BIDSPath | str | os.PathLike[str],
    *,
    background: bool = False,
    verbose: bool | str | None = None,
) -> BaseRaw:
    """Read a recording of a SzCORE data set with annotations named by their type.

    :func:`mne_bids.read_raw_bids` calls all of them "n/a", since SzCORE writes ``eventType`` where BIDS has
    ``trial_type``.

    Parameters
    ----------
    bids_path : mne_bids.BIDSPath | path-like
        The recording, or its path in the data set.
    background : bool
        Also give an annotation for every row of type ``bckg``.
    verbose : bool | str | None
        See MNE.

    Returns
    -------
    raw : mne.io.Raw
        Not loaded. The description of an annotation is its ``eventType``, with underscores; ``extras`` keeps the other
        columns: ``confidence`` (a number, or None), ``channels`` and so on. Annotations of other columns
        (``trial_type``) stay as mne-bids gives them.

    Raises
    ------
    TypeError
        If ``bids_path`` is neither a BIDSPath nor a path.
    FileNotFoundError
        If there is no such recording.
    ValueError
        If the name is no BIDS name, or, in one sentence with the line, if ``events.tsv`` makes no sense.
    ContractError
        If mne-bids cannot read the recording.

    See Also
    --------
    mne_labram.seizure.readers.find_events : The seizures without the signal.

    Examples
    --------
    >>> raw = read_raw_szcore_bids("sub-01/ses-01/eeg/sub-01_ses-01_task-szMonitoring_run-00_eeg.edf")  # doctest: +SKIP
    >>> raw.annotations.description  # doctest: +SKIP
    array(['sz_foc_ia'], dtype='<U9')
    """
    path = _recording(bids_path)
    events = path.with_name(f"{path.name.removesuffix(path.suffix).removesuffix('_eeg')}_events.tsv")
    if events.is_file():
        name, lines = read_lines(events)
        if lines and set(COLUMNS) <= {cell.strip(" ") for cell in lines[0].split("\t")}:
            # mne-bids takes what it gets: what makes no sense is to be found here, with its line.
            parse_szcore(name, lines, other_rows=True)
    notes: list[str] = []
    raw = open_found(Found(path, path.parent.name, "", bids=True), notes)
    for note in notes:
        logger.info(f"{path.name}: {note}")
    _name(raw, background)
    return raw


def _recording(bids_path: BIDSPath | str | os.PathLike[str]) -> Path:
    from mne_bids import BIDSPath, get_bids_path_from_fname

    if isinstance(bids_path, BIDSPath):
        try:
            path = bids_path.copy().update(suffix=bids_path.suffix or "eeg", datatype=bids_path.datatype or "eeg").fpath
        except RuntimeError as error:  # more than one file matches
            raise ValueError(f"{bids_path.basename!r} is not one recording ({reason_of(error)}); say which.") from None
    elif isinstance(bids_path, (str, os.PathLike)):
        path = Path(bids_path).expanduser()
    else:
        raise TypeError(f"A mne_bids.BIDSPath or a path is needed, got {type(bids_path).__name__}.")
    if not path.exists():
        raise FileNotFoundError(f"There is no recording {str(path)!r}.")
    if path.suffix.lower() in (".tsv", ".json") or (path.is_dir() and not path.suffix):
        raise ValueError(f"{path.name} is no recording; pass the path of one (..._eeg.edf), or a BIDSPath.")
    # A relative path within the data set does not say where that begins.
    path = path.resolve()
    try:
        get_bids_path_from_fname(path, verbose="error")
    except (KeyError, RuntimeError, ValueError) as error:
        raise ValueError(f"{path.name} is no recording named by BIDS ({reason_of(error)}); rename it.") from None
    return path


def _name(raw: BaseRaw, background: bool) -> None:
    """Name the annotations of a raw by what mne-bids left in their extras, in place."""
    kept = []
    for each in raw.annotations:
        extras = dict(each.get("extras") or {})
        description = str(each["description"])
        if description == _NOT_GIVEN and (text := str(extras.pop("eventType", "")).strip()):
            level = known_type(text) or ("sz" if text.casefold().startswith("sz") else text)
            if level == BACKGROUND and not background:
                continue
            description = level
            extras["confidence"] = number(str(extras.get("confidence", "")))
        kept.append((each["onset"], each["duration"], description, each.get("ch_names", ()), extras))
    # Without a measurement date, setting annotations adds first_time to what has it already.
    offset = raw.first_time if raw.info["meas_date"] is None else 0.0
    raw.set_annotations(
        Annotations(
            onset=[each[0] - offset for each in kept],
            duration=[each[1] for each in kept],
            description=[each[2] for each in kept],
            orig_time=raw.info["meas_date"],
            ch_names=[each[3] for each in kept],
            extras=[each[4] for each in kept],
        ),
        verbose="error",
    )
