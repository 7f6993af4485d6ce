"""A compressed recording as a Raw that decodes what is read of it."""

from __future__ import annotations

import os
from itertools import groupby
from pathlib import Path
from typing import Any

import mne
import numpy as np
from mne.io import BaseRaw
from mne.utils import verbose, warn

from mne_labram.codec.blocks import DecodedBlocks
from mne_labram.codec.header import annotations_from, info_from, whole_number
from mne_labram.signal.contract import ContractError

__all__ = ["DAMAGED", "RawBrainCodec"]

#: Description of the annotations over blocks that could not be read.
DAMAGED = "BAD_damaged"


class RawBrainCodec(BaseRaw):
    """A recording that :func:`mne_labram.braincodec_compress` wrote.

    Parameters
    ----------
    fname : path-like
        The file.
    preload : bool | str
        Decode everything now, rather than what is read when it is read; a name of a file: into that file.
    strict : bool
        Refuse a file with a damaged block, rather than fill the block.
    n_jobs : int
        Blocks decoded at a time, each in a process of its own.
    verbose : bool | str | int | None
        Control verbosity of the logging output.

    Raises
    ------
    ContractError
        If the file is none of ours, of another version, damaged beyond use, or needs weights that are not installed.

    Notes
    -----
    All blocks are read, but not decoded, when the file is opened, and their checksums are compared. A damaged one is
    filled with NaN (0 in channels of triggers, so that :func:`mne.find_events` still works), annotated ``BAD_damaged``
    and named in a warning.
    """

    @verbose
    def __init__(
        self,
        fname: str | os.PathLike[str],
        preload: bool | str = False,
        *,
        strict: bool = False,
        n_jobs: int = 1,
        verbose: bool | str | int | None = None,
    ) -> None:
        path = Path(fname).expanduser()
        if not path.exists():
            raise ContractError(f"There is no file {path}; check the path.")
        if path.is_dir():
            raise ContractError(f"{path} is a folder; pass one file.")
        blocks = DecodedBlocks(path, n_jobs)
        info = info_from(blocks.header)
        annotations = annotations_from(blocks.header, info["meas_date"])
        first = whole_number(blocks.header, "first_samp", -(2**53))
        if len(info["chs"]) != blocks.layout.n_channels:
            raise ContractError(f"The header of {path.name} describes other channels than there are; get it again.")
        damaged = _damaged_stretches(blocks, info["sfreq"])
        if damaged and strict:
            raise ContractError(f"{path.name} is damaged: {_named(damaged)}; get the file again, or pass strict=False.")
        super().__init__(
            info,
            preload=False,
            first_samps=[first],
            last_samps=[first + blocks.n_times - 1],
            filenames=[path],
            raw_extras=[{"blocks": blocks, "first": first, "triggers": _triggers(info)}],
            orig_format="double",
            verbose=verbose,
        )
        for start, stop, _, _ in damaged:
            onset = start / info["sfreq"] + (0 if info["meas_date"] is None else self.first_time)
            # Without a date, onsets in a Raw count from sample 0 too (Raw.set_annotations adds the first sample).
            onset += self.first_time if info["meas_date"] is None else 0
            annotations.append(onset, (stop - start) / info["sfreq"], DAMAGED)
        # Not set_annotations: these came out of a Raw, and cropping them again would round them.
        self._annotations = annotations
        for note in blocks.notes:
            warn(f"{path.name} is damaged, but nothing is lost by it: {note}.")
        if damaged:
            warn(f"{path.name} is damaged: {_named(damaged)}; filled with NaN and annotated {DAMAGED}.")
        if preload:
            self._preload_data(preload)

    @property
    def compression(self) -> dict[str, Any]:
        """Header of the file: mode, coders and their parameters, and what the source was."""
        return self._raw_extras[0]["blocks"].header

    def _read_segment_file(
        self,
        data: np.ndarray,
        idx: slice | np.ndarray,
        fi: int,
        start: int,
        stop: int,
        cals: np.ndarray | None,
        mult: np.ndarray | None,
    ) -> None:
        extras = self._raw_extras[fi]
        blocks: DecodedBlocks = extras["blocks"]
        for low, high, samples in blocks.read(start - extras["first"], stop - extras["first"]):
            if extras["triggers"] and np.isnan(samples[extras["triggers"]]).any():
                samples = samples.copy()
                samples[extras["triggers"]] = np.nan_to_num(samples[extras["triggers"]])
            if mult is not None:
                data[:, low:high] = mult @ samples[idx]
            else:
                np.multiply(samples[idx], cals, out=data[:, low:high])


def _triggers(info: mne.Info) -> list[int]:
    return mne.pick_types(info, meg=False, stim=True, exclude=()).tolist()


def _damaged_stretches(blocks: DecodedBlocks, sfreq: float) -> list[tuple[int, int, str, str]]:
    """Return first sample, the one after the last, which and why, of damaged blocks; neighbours are joined."""
    out = []
    numbers = sorted(blocks.damage)
    runs = groupby(enumerate(numbers), key=lambda pair: (pair[1] - pair[0], blocks.damage[pair[1]]))
    for (_, reason), run in runs:
        members = [number for _, number in run]
        start, stop = blocks.bounds[members[0]][0], blocks.bounds[members[-1]][1]
        name = f"block {members[0]}" if len(members) == 1 else f"blocks {members[0]} to {members[-1]}"
        out.append((start, stop, f"{name} ({start / sfreq:.6g} to {stop / sfreq:.6g} s)", reason))
    return out


def _named(damaged: list[tuple[int, int, str, str]]) -> str:
    shown = [f"{what}: {why}" for _, _, what, why in damaged[:5]]
    more = f" and {len(damaged) - 5} more" if len(damaged) > 5 else ""
    return ", ".join(shown) + more
