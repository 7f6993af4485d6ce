"""Which channels of a recording are coded and which are kept exactly, and on which digital grid they lie."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from mne.io import BaseRaw

from mne_labram.codec.coders import BlockCoder, make_coder, restore_coder
from mne_labram.codec.grid import Grid, bounded_grid, find_grid, steps_within
from mne_labram.signal.contract import ContractError
from mne_labram.signal.edf import MNE_UNITS
from mne_labram.signal.source import EdfPart, RawSource, signals_of

__all__ = ["CODED_TYPES", "Layout", "block_bounds", "layout_from", "plan_storage"]

#: Types of channels that a lossy coder is made for. All others (ECG, triggers, respiration, ...) are kept exactly.
CODED_TYPES = ("eeg", "seeg", "ecog", "dbs", "eog", "emg")
# Excerpts on which a grid is looked for; that it holds everywhere is verified block by block.
_EXCERPT, _N_EXCERPTS = 2.0, 3
# What a coder may learn from: so many seconds in all, in pieces of so many, and no more values than this.
_CODER_EXCERPTS, _CODER_EXCERPT, _CODER_VALUES = 240.0, 8.0, 6e6
# Steps that near-lossless coding may be off by, where they are ours to choose.
_STEPS = 8
_FORMAT_BITS = {"short": 16, "int": 32, "single": 32}


@dataclass(frozen=True)
class Layout:
    """How the channels of a recording are kept.

    Attributes
    ----------
    main, exact : list of int
        Channels that go to ``coder``, and those that go to ``exact_coder`` or are kept as the floats they are.
    coder, exact_coder : BlockCoder | None
        ``None`` where there are no such channels.
    grids : list of (Grid | None)
        Of every channel that is kept as integers, as far as it is known beforehand.
    integers : bool
        Whether ``coder`` takes integers on a grid rather than microvolts.
    max_error : float
        With ``integers``: what a sample may differ by, in volts.
    steps : int
        By how many steps of the grid ``coder`` makes a sample differ.
    """

    main: list[int]
    exact: list[int]
    coder: BlockCoder | None
    exact_coder: BlockCoder | None
    grids: list[Grid | None]
    integers: bool = False
    max_error: float = 0.0
    steps: int = 0

    @property
    def n_channels(self) -> int:
        """Channels of the recording."""
        return len(self.main) + len(self.exact)


def block_bounds(n_times: int, block_samples: int) -> list[tuple[int, int]]:
    """Cut a recording into blocks.

    Parameters
    ----------
    n_times : int
        Its samples.
    block_samples : int
        Samples of a block.

    Returns
    -------
    bounds : list of (int, int)
        First sample and the one after the last. A rest of less than half a block belongs to the block before it,
        because very short blocks cannot be coded well.
    """
    n_blocks = max(1, (2 * n_times + block_samples) // (2 * block_samples))
    starts = [number * block_samples for number in range(n_blocks)]
    return list(zip(starts, [*starts[1:], n_times], strict=True))


@lru_cache(maxsize=4)
def layout_from(storage: str) -> Layout:
    """Make the layout that a header describes.

    Parameters
    ----------
    storage : str
        What :func:`plan_storage` returned, as JSON: text, so that the coders, which may hold weights, are made once in
        every process.

    Returns
    -------
    layout : Layout
        The layout.

    Raises
    ------
    ContractError
        If it makes no sense, or needs a coder or weights that are not installed.
    """
    try:
        return _layout(json.loads(storage))
    except ContractError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ContractError(f"The header makes no sense ({error}); get the file again.") from error


def _layout(storage: Mapping[str, Any]) -> Layout:
    groups = []
    for name in ("main", "exact"):
        group = storage[name]
        if group is None:
            groups.append(([], None))
        else:
            coder = restore_coder(group["coder"], group["parameters"])
            groups.append(([int(channel) for channel in group["channels"]], coder))
    (main, coder), (exact, exact_coder) = groups
    grids = [None if row is None else Grid(float(row[0]), float(row[1])) for row in storage["grids"]]
    if sorted(main + exact) != list(range(len(grids))) or not grids:
        raise ValueError("channels that are not each there once")
    error, steps = float(storage["max_error"]), int(storage["steps"])
    return Layout(main, exact, coder, exact_coder, grids, bool(storage["integers"]), error, steps)


def plan_storage(
    raw: BaseRaw,
    source: RawSource,
    parts: Sequence[EdfPart],
    *,
    mode: str,
    max_error: float,
    block_samples: int,
    lossless_channels: Sequence[str],
    **options: Any,
) -> dict[str, Any]:
    """Decide how the channels of a recording are kept.

    Parameters
    ----------
    raw : mne.io.BaseRaw
        The recording.
    source : RawSource
        Reads all its channels, in its own units.
    parts : sequence of EdfPart
        EDF files behind it.
    mode : str
        Coder of the EEG channels.
    max_error : float
        What a sample may differ by in mode "lossless", in µV.
    block_samples : int
        Samples of a block.
    lossless_channels : sequence of str
        Channels to be kept exactly whatever their type.
    **options : object
        For the coder.

    Returns
    -------
    storage : dict
        JSON, for the header of the file and for :func:`layout_from`. ``"source"`` holds of every channel offset
        and step in the source, bits of a sample, and the limits that an EDF file gives (in µV, and as integers).

    Raises
    ------
    ContractError
        If a channel is not there, or one that shall be exact lies on no grid.
    """
    types = raw.get_channel_types()
    exact = [
        i
        for i, (name, kind) in enumerate(zip(raw.ch_names, types, strict=True))
        if kind not in CODED_TYPES or name in lossless_channels
    ]
    main = [i for i in range(len(types)) if i not in exact]
    grids, bits = _source_grids(raw, source, parts)
    limits = _edf_limits(raw, parts)
    integers = mode == "lossless"
    if integers and not max_error:
        without = [raw.ch_names[i] for i in main if grids[i] is None]
        if without:
            raise ContractError(no_grid_sentence(without[0]))
    made = {"sfreq": float(raw.info["sfreq"]), "block_samples": block_samples}
    if main and not integers:
        options |= {"excerpts": _main_excerpts(source, main), "n_samples": source.n_times}
    used, steps = list(grids), 0
    if integers and max_error:
        known, steps = _bounded_grids([grids[i] for i in main], max_error * 1e-6)
        for i, grid in zip(main, known, strict=True):
            used[i] = grid
        options = {"max_error": steps}
    elif integers:
        options = {}
    else:
        for i in main:
            used[i] = None
    names = raw.ch_names
    return {
        "main": _group(mode, main, [names[i] for i in main], made | options),
        "exact": _group("lossless", exact, [names[i] for i in exact], made),
        "grids": [None if grid is None else [grid.offset, grid.step] for grid in used],
        "integers": integers,
        "max_error": max_error * 1e-6,
        "steps": steps,
        "source": [
            [None if grid is None else [grid.offset, grid.step], n, each]
            for grid, n, each in zip(grids, bits, limits, strict=True)
        ],
    }


def _bounded_grids(grids: Sequence[Grid | None], allowed: float) -> tuple[list[Grid | None], int]:
    """Return grids on which samples may differ by an amount, and how many steps of them that is.

    The recorder's own grid wastes nothing where a few of its steps are allowed in every channel. Otherwise, finer grids
    than the error asks for are better than coarse ones without an error: the coder predicts more exactly (eegmat, 0.5
    and 2 µV: 13 and 27 % fewer bytes).
    """
    own = {None if grid is None else steps_within(grid, allowed) for grid in grids}
    if len(own) == 1 and (steps := own.pop()) is not None and steps <= _STEPS:
        return list(grids), steps
    return [bounded_grid(allowed, _STEPS)] * len(grids), _STEPS


def no_grid_sentence(name: str, where: str = "", max_error: float = 0.0) -> str:
    """Say that a channel cannot be kept as integers, exactly or with an error in µV."""
    if max_error:
        return (
            f"Channel {name!r} is too large{where} to be kept to within {max_error:g} µV; allow more (max_error), or "
            "drop it if it is no EEG."
        )
    return (
        f"Channel {name!r} does not lie on a digital grid{where}, as after filtering, re-referencing or resampling, so "
        "it cannot be kept bit-exact as integers; pass max_error=0.1 (µV), or whatever error you accept."
    )


def _group(coder: str, channels: list[int], names: list[str], made: Mapping[str, Any]) -> dict[str, Any] | None:
    if not channels:
        return None
    parameters = make_coder(coder, ch_names=names, **made).parameters()
    return {"coder": coder, "channels": channels, "parameters": parameters}


def _source_grids(raw: BaseRaw, source: RawSource, parts: Sequence[EdfPart]) -> tuple[list[Grid | None], list[int]]:
    """Return the grid and the bits of every channel in the source."""
    excerpts = _excerpts(source)
    signals = signals_of(raw, parts[0].header) if parts else [None] * len(raw.ch_names)
    # How MNE scales what it reads from formats with integers (BrainVision, FIF): no public name.
    scales = getattr(raw, "_cals", np.ones(len(raw.ch_names)))
    grids, bits = [], []
    types = raw.get_channel_types()
    for i, signal in enumerate(signals):
        x = excerpts[i][np.isfinite(excerpts[i])]
        known = [Grid(0.0, 1.0)] if types[i] == "stim" else []
        if signal is not None:
            known.insert(0, _edf_grid(parts[0], signal))
        if np.isfinite(scales[i]) and scales[i] not in (0.0, 1.0):
            known.append(Grid(0.0, abs(float(scales[i]))))
        fitting = (grid for grid in known if grid is not None and len(x) and grid.digital(x) is not None)
        # A channel without a sample is put on any grid; where it has some after all, one is looked for in the block.
        grid = next(fitting, None) or (find_grid(x) if len(x) else Grid(0.0, 1.0))
        grids.append(grid)
        bits.append(_bits(raw, parts[0] if signal is not None else None, grid, x))
    return grids, bits


def _excerpts(source: RawSource) -> np.ndarray:
    length = min(source.n_times, max(1, round(_EXCERPT * source.sfreq)))
    starts = np.unique(np.linspace(0, source.n_times - length, _N_EXCERPTS).round().astype(int))
    return np.concatenate([source(int(start), int(start) + length) for start in starts], axis=1)


def _main_excerpts(source: RawSource, channels: Sequence[int]) -> list[np.ndarray]:
    """Return pieces of channels in µV, spread over the recording, from which a coder may learn what it is like."""
    total = min(source.n_times, _CODER_EXCERPTS * source.sfreq, max(_CODER_VALUES / len(channels), source.sfreq))
    length = round(min(total, max(_CODER_EXCERPT * source.sfreq, 1)))
    count = max(1, round(total / max(length, 1)))
    if total >= source.n_times:
        length, count = source.n_times, 1
    starts = np.linspace(0, source.n_times - length, count).round().astype(int)
    pieces = [source(start, start + length)[list(channels)] * 1e6 for start in np.unique(starts).tolist()]
    # What is not a number is masked when it is coded; here it counts as nothing.
    return [np.nan_to_num(piece, posinf=0.0, neginf=0.0) for piece in pieces]


def _edf_grid(part: EdfPart, signal: int) -> Grid | None:
    """Return the grid that the header of an EDF or BDF file declares, in volts."""
    header = part.header
    low, high, step = header.limits_in_volts(signal)
    if not (step > 0 and np.isfinite([low, high, step]).all()):
        return None
    # A converter may have been wired upside down: then the integers here are the file's with the other sign.
    upside_down = header.physical_max[signal] < header.physical_min[signal]
    offset = high + header.digital_min[signal] * step if upside_down else low - header.digital_min[signal] * step
    return Grid(offset, step)


def _edf_limits(raw: BaseRaw, parts: Sequence[EdfPart]) -> list[list[float] | None]:
    """Return physical limits in µV and digital limits of every channel that comes from an EDF or BDF file."""
    if not parts:
        return [None] * len(raw.ch_names)
    header = parts[0].header
    out: list[list[float] | None] = []
    for signal in signals_of(raw, header):
        if signal is None or header.units[signal] not in MNE_UNITS:
            out.append(None)
            continue
        factor = MNE_UNITS[header.units[signal]]
        physical = [factor * each[signal] for each in (header.physical_min, header.physical_max)]
        digital = [each[signal] for each in (header.digital_min, header.digital_max)]
        # In µV; the rounding takes off what the factors put on.
        values = [float(f"{1e6 * value:.10g}") for value in physical] + digital
        out.append(values if np.isfinite(values).all() else None)
    return out


def _bits(raw: BaseRaw, part: EdfPart | None, grid: Grid | None, x: np.ndarray) -> int:
    """Return the bits that a sample takes in the source."""
    if part is not None:
        return 8 * part.header.sample_bytes
    if raw.orig_format in _FORMAT_BITS and raw.filenames[0] is not None:
        return _FORMAT_BITS[raw.orig_format]
    if grid is None or not len(x):
        return 32
    # In memory there are only float64: what a file of integers would take.
    return 16 if np.abs(grid.nearest(x)).max() < 2**15 else 24
