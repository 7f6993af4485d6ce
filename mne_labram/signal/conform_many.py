"""Conform thousands of recordings into a cache, one after the other, in many processes or on a cluster."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import mne
import numpy as np
from mne.utils import logger

from mne_labram.signal.blocks import with_progress
from mne_labram.signal.conform import plan_conform
from mne_labram.signal.conform_epochs import inspect_epochs
from mne_labram.signal.conformed_store import ConformedStore, TemporaryFolder, open_conformed
from mne_labram.signal.content import Content, ContentIndex, content_of, is_unchanged
from mne_labram.signal.contract import ContractError, SignalContract
from mne_labram.signal.discovery import open_found
from mne_labram.signal.inspection import check_line_freq, no_usable_second
from mne_labram.signal.opening import READING_ERRORS, reason_of
from mne_labram.signal.quality import n_seconds
from mne_labram.signal.recording import Recording, unreadable, with_name
from mne_labram.signal.report import ConformReport
from mne_labram.signal.units import unit_factor
from mne_labram.signal.window_cache import (
    FORMAT,
    CacheWriteError,
    estimated_bytes,
    is_whole,
    remove_unfinished,
    write_recording,
)

__all__ = ["build_store"]

#: Seconds that are in memory at a time.
_BLOCK_SECONDS = 60
#: Seconds between two times that hashes are written down.
_SAVE_SECONDS = 60
#: Share of the free disk space that may be used.
_MOST_OF_DISK = 0.95


def build_store(
    store: Any,
    contract: SignalContract,
    *,
    cache: str | os.PathLike[str] | None,
    options: dict[str, Any],
    n_jobs: int | None,
    errors: str,
) -> ConformedStore:
    """Do what :meth:`mne_labram.signal.store.RecordingStore.conform` says.

    Parameters
    ----------
    store : RecordingStore
        The recordings.
    contract : SignalContract
        What is asked.
    cache : path-like | None
        Where to keep them; ``None``: a temporary folder.
    options : dict
        ``match``, ``assume_unit``, ``line_freq``, ``gaps``.
    n_jobs : int | None
        Processes.
    errors : {"skip", "raise"}
        What to do with a recording that cannot be conformed.

    Returns
    -------
    store : ConformedStore
        The conformed recordings.
    """
    if not isinstance(contract, SignalContract):
        raise TypeError(f"contract must be a SignalContract, got {type(contract).__name__}.")
    _check_options(options, errors)
    line_freq = options["line_freq"]
    options = {**options, "line_freq": None if line_freq is None else float(line_freq)}  # 50 and 50.0 are one option
    if not store.recordings:
        first = f"; the first: {with_name(Path(store.skipped[0][0]), store.skipped[0][1])}" if store.skipped else "."
        raise ContractError(f"There is no recording that can be read{first}")
    owner = None
    if cache is None:
        owner = TemporaryFolder(Path(tempfile.mkdtemp(prefix="mne-labram-")))
        folder = owner.path
    else:
        folder = Path(cache).expanduser().absolute()
        _make_folder(folder)
        remove_unfinished(folder)
    recordings: Sequence[Recording] = store.recordings
    problems: dict[int, str] = {}

    def fail(number: int, sentence: str) -> None:
        named = with_name(recordings[number].path, sentence)
        if errors == "raise":
            raise ContractError(named)
        problems[number] = sentence
        logger.warning(f"Skipped: {named}")

    contents = _hash_all(recordings, folder if owner is None else None, n_jobs, fail)
    targets = {
        number: folder / _key(content, recordings[number], contract, options) for number, content in contents.items()
    }
    # Copies of a recording share a place in the cache.
    todo = {target: number for number, target in reversed(targets.items()) if not is_whole(target)}
    todo = dict(sorted(todo.items(), key=lambda item: item[1]))
    if todo:
        _announce(folder, [recordings[number] for number in todo.values()], contract)
        jobs = [(recordings[number], contents[number], contract, options, target) for target, number in todo.items()]
        failed = {}
        results = _in_parallel(_conform_one, jobs, n_jobs, "Conforming recordings")
        for (target, number), sentence in zip(todo.items(), results, strict=True):
            if sentence is not None:
                failed[target] = sentence
                fail(number, sentence)
        for number, target in targets.items():
            if target in failed and number not in problems:
                fail(number, failed[target])
    done = [number for number in targets if number not in problems]
    if not done:
        first = with_name(recordings[min(problems)].path, problems[min(problems)])
        raise ContractError(f"Of {_recordings(len(recordings))} none can be conformed; the first: {first}")
    skipped = [*store.skipped, *((str(recordings[number].path), problems[number]) for number in sorted(problems))]
    conformed = [open_conformed(targets[number], recordings[number]) for number in done]
    return ConformedStore(contract, conformed, skipped, owner)


def _check_options(options: dict[str, Any], errors: str) -> None:
    """Raise for an argument that makes no sense, which would otherwise be every recording's fault."""
    if errors not in ("skip", "raise"):
        raise ValueError(f"errors must be 'skip' or 'raise', got {errors!r}.")
    if options["match"] not in ("name", "position"):
        raise ValueError(f"match must be 'name' or 'position', got {options['match']!r}.")
    if options["gaps"] not in ("raise", "split"):
        raise ValueError(f"gaps must be 'raise' or 'split', got {options['gaps']!r}.")
    unit_factor(options["assume_unit"], "V")
    check_line_freq(options["line_freq"])


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CacheWriteError(
            f"The cache {folder} cannot be made ({error.strerror or error}); choose another folder."
        ) from error


def _key(content: Content, recording: Recording, contract: SignalContract, options: dict[str, Any]) -> str:
    """Name a conformed recording by what it is made of and how, not by where that is kept."""
    parts = {
        "format": FORMAT,
        "content": [digest for _, _, digest in content.values()],
        "bids": recording.bids,
        "suffix": "".join(recording.path.suffixes[-1:]).lower(),
        "contract": contract.to_dict(),
        "options": options,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:40]


def _hash_all(
    recordings: Sequence[Recording], folder: Path | None, n_jobs: int | None, fail: Callable[[int, str], None]
) -> dict[int, Content]:
    index = None if folder is None else ContentIndex(folder)
    contents = {} if index is None else {i: index.lookup(each) for i, each in enumerate(recordings)}
    new = [i for i in range(len(recordings)) if contents.get(i) is None]
    results = _in_parallel(_hash_one, [(recordings[i],) for i in new], n_jobs, "Looking at files")
    saved = time.monotonic()
    for number, content in zip(new, results, strict=True):
        if isinstance(content, str):
            fail(number, content)
            continue
        contents[number] = content
        if index is not None:
            index.remember(content)
            # Thousands of files take hours; what is known is kept if that is interrupted.
            if time.monotonic() - saved > _SAVE_SECONDS:
                index.save()
                saved = time.monotonic()
    if index is not None and new:
        index.save()
    return {i: contents[i] for i in sorted(contents) if contents[i] is not None}


def _hash_one(recording: Recording) -> Content | str:
    try:
        return content_of(recording)
    except ContractError as error:
        return str(error)
    except READING_ERRORS as error:
        return unreadable(recording.path, error)


def _in_parallel(
    function: Callable[..., Any], jobs: Sequence[tuple], n_jobs: int | None, message: str
) -> Iterator[Any]:
    """Yield the results of jobs in order, by joblib, whose backend the caller may choose."""
    if not jobs:
        return
    from joblib import Parallel, delayed

    # One after the other where nobody asked for more; joblib.parallel_config, of the caller, may.
    results = Parallel(n_jobs=n_jobs, return_as="generator")(delayed(function)(*job) for job in jobs)
    yield from with_progress(results, len(jobs), message)


def _announce(folder: Path, recordings: Sequence[Recording], contract: SignalContract) -> None:
    """Say how much will be written; raise if it does not fit."""
    seconds = sum(each.n_times / each.sfreq for each in recordings)
    needed = sum(
        estimated_bytes(len(each.ch_names), round(each.n_times / each.sfreq * contract.sfreq)) for each in recordings
    )
    free = shutil.disk_usage(folder).free
    logger.info(
        f"Conforming {_recordings(len(recordings))} ({seconds / 3600:.3g} h): at most {_size(needed)} in {folder}, "
        f"where {_size(free)} are free."
    )
    if needed > _MOST_OF_DISK * free:
        raise CacheWriteError(
            f"{_recordings(len(recordings))} may take {_size(needed)} in {folder} and {_size(free)} are free; make "
            "room, choose another folder or select() fewer of them."
        )


def _recordings(n: int) -> str:
    return "1 recording" if n == 1 else f"{n} recordings"


def _size(n_bytes: float) -> str:
    for unit in ("kB", "MB", "GB"):
        n_bytes /= 1000
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
    return f"{n_bytes / 1000:.3g} TB"


def _conform_one(
    recording: Recording, content: Content, contract: SignalContract, options: dict[str, Any], target: Path
) -> str | None:
    """Write one recording into the cache; return a sentence if it cannot be conformed."""
    if is_whole(target):
        return None

    def check() -> None:
        # Else the recording would be kept under the name of what it was before.
        if not is_unchanged(content):
            raise ContractError(
                f"{recording.path.name} changed while it was read; wait until it is finished and run this again."
            )

    try:
        notes: list[str] = []
        inst = open_found(recording, notes)
        if isinstance(inst, mne.io.BaseRaw):
            _write_raw(inst, recording.path.name, notes, contract, options, target, check)
        else:
            _write_epochs(inst, recording.path.name, notes, contract, options, target, check)
    except CacheWriteError:
        raise
    except ContractError as error:
        return str(error)
    except (*READING_ERRORS, MemoryError) as error:
        return f"{recording.path.name} cannot be conformed ({type(error).__name__}: {reason_of(error)}); leave it out."
    return None


def _write_raw(
    raw: mne.io.BaseRaw,
    name: str,
    notes: Sequence[str],
    contract: SignalContract,
    options: dict[str, Any],
    target: Path,
    check: Callable[[], None],
) -> None:
    plan = plan_conform(raw, contract, reading_notes=notes, name=name, verbose="ERROR", **options)
    seams = {plan.chain.first_out(sample) for sample in plan.seams}
    bounds = sorted({0, plan.n_times, *(seam for seam in seams if seam < plan.n_times)})

    def about() -> dict[str, Any]:
        check()
        if plan.report.unusable.all():
            raise ContractError(no_usable_second(plan.report))
        segments = list(zip(bounds[:-1], bounds[1:], strict=True))
        return _about(plan.report, segments, plan.report.unusable, np.zeros(0, dtype=int))

    pieces = (block.data for block in plan.iter_blocks(_BLOCK_SECONDS))
    write_recording(target, pieces, len(plan.ch_names), plan.n_times, about, centred=contract.l_freq is not None)


def _write_epochs(
    inst: Any,
    name: str,
    notes: Sequence[str],
    contract: SignalContract,
    options: dict[str, Any],
    target: Path,
    check: Callable[[], None],
) -> None:
    options = {name: value for name, value in options.items() if name != "gaps"}
    with mne.utils.use_log_level("ERROR"):
        data, inspector, _ = inspect_epochs(inst, contract, reading_notes=notes, name=name, **options)
    inspector.raise_first()
    report = inspector.report
    n_epochs, n_chans, length = data.shape
    segments = [(i * length, (i + 1) * length) for i in range(n_epochs)]
    if report.unusable.all():
        raise ContractError(f"{report.source} has no usable epoch; look at the recording.")
    unusable = np.zeros(n_seconds(n_epochs * length, contract.sfreq), dtype=bool)
    for first, stop in np.array(segments)[report.unusable]:
        unusable[int(first / contract.sfreq) : int((stop - 1) / contract.sfreq) + 1] = True

    def about() -> dict[str, Any]:
        check()
        return _about(report, segments, unusable, np.flatnonzero(report.unusable))

    write_recording(target, iter(data), n_chans, n_epochs * length, about, centred=contract.l_freq is not None)


def _about(
    report: ConformReport, segments: list[tuple[int, int]], unusable: np.ndarray, unusable_segments: np.ndarray
) -> dict[str, Any]:
    positions = report.model_positions
    return {
        "ch_names": report.ch_names,
        "positions": None if positions is None else positions.tolist(),
        "montage": report.montage,
        "segments": segments,
        "n_seconds": len(unusable),
        "unusable": np.flatnonzero(unusable).tolist(),
        "unusable_segments": unusable_segments.tolist(),
        "report": report.to_dict(),
    }
