"""Seizure detectors in one table: windows, whole seizures, and false alarms on recordings without any.

The recordings are those of ``../shared/data``: excerpts of seven records of one patient (CHB-MIT, chb01), and
seizure-free recordings of others (eegmat, eegmmidb, mi_openbci). A record of chb01 is never on both sides, and neither
is a subject without seizures.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mne.utils import logger, verbose

from mne_labram.benchmark.seizure_baselines import (
    BandPower,
    LineLength,
    LineLengthAgainstBaseline,
)
from mne_labram.benchmark.seizure_tangent import TangentSpace
from mne_labram.benchmark.seizure_windows import fold_folder, preictal_of, record_of, window_table
from mne_labram.seizure.calibration import calibration_and_problem
from mne_labram.seizure.chbmit import read_excerpts
from mne_labram.seizure.store import SeizureStore
from mne_labram.signal.contract import SignalContract
from mne_labram.signal.events import EventParameters, events_from_scores

__all__ = [
    "SeizureRow",
    "baselines",
    "benchmark_seizures",
    "open_benchmark",
    "seizure_table",
]

#: What holds no seizure, by folder.
SEIZURE_FREE = ("eegmat", "eegmmidb", "mi_openbci")
# One false alarm per hour, in training.
_TARGET_FP_PER_DAY = 24.0
_N_PARTS = 2


@dataclass(frozen=True)
class SeizureRow:
    """What was measured of one detector.

    Attributes
    ----------
    detector : str
        Its name.
    windows, unit_windows : dict of str to float
        AUROC, area under the precision-recall curve and balanced accuracy at 0.5 of windows of records it had not
        seen: as they are, and scaled to one root mean square.
    n_found, n_seizures : int
        Whole seizures that overlap with an event, and all of them.
    n_preictal_events, n_preictal : int
        Pre-ictal excerpts with an event, and all of them.
    n_false_alarms : int
        Events in seizure-free recordings of subjects it had not seen.
    hours : float
        Hours of these that were analysed.
    """

    detector: str
    windows: dict[str, float]
    unit_windows: dict[str, float]
    n_found: int
    n_seizures: int
    n_preictal_events: int
    n_preictal: int
    n_false_alarms: int
    hours: float

    @property
    def false_alarms_per_hour(self) -> float:
        """False alarms in an analysed hour, NaN if there was none."""
        return self.n_false_alarms / self.hours if self.hours else float("nan")


def baselines() -> dict[str, Callable[[], Any]]:
    """Return the detectors that have to be beaten.

    Returns
    -------
    detectors : dict of str to callable
        By name; each call gives a new detector.
    """
    memos: list[dict] = [{} for _ in range(5)]
    factories: list[Callable[[], Any]] = [
        lambda: LineLength(memo=memos[0]),
        lambda: LineLengthAgainstBaseline(baseline_of=preictal_of, memo=memos[1]),
        lambda: BandPower(memo=memos[2]),
        lambda: BandPower(by="quantile", memo=memos[3]),
        lambda: TangentSpace(memo=memos[4]),
    ]
    return {factory().name: factory for factory in factories}


def open_benchmark(
    data: str | os.PathLike[str], contract: SignalContract, *, cache: str | os.PathLike[str] | None = None
) -> SeizureStore:
    """Open the recordings of the benchmark.

    Parameters
    ----------
    data : path-like
        ``../shared/data``.
    contract : SignalContract
        What they are made into.
    cache : path-like | None
        Where conformed recordings are kept.

    Returns
    -------
    store : SeizureStore
        The excerpts of chb01, and what is there of :data:`SEIZURE_FREE`.

    Raises
    ------
    FileNotFoundError
        If there are no excerpts.
    """
    data = Path(data)
    excerpts = data / "chbmit" / "segments.json"
    if not excerpts.is_file():
        raise FileNotFoundError(f"{excerpts} is absent; give the folder that holds chbmit, eegmat and eegmmidb.")
    tables = read_excerpts(excerpts)
    folders = [data / name for name in ("chbmit", *SEIZURE_FREE) if (data / name).is_dir()]
    return SeizureStore.open(
        folders, contract, events_of=lambda path: tables.get(path.name), unlabelled="background", cache=cache
    )


@verbose
def benchmark_seizures(
    data: str | os.PathLike[str],
    detectors: Mapping[str, Callable[[], Any]] | None = None,
    *,
    parameters: EventParameters | None = None,
    target_fp_per_day: float = _TARGET_FP_PER_DAY,
    cache: str | os.PathLike[str] | None = None,
    folder: str | os.PathLike[str] | None = None,
    verbose: bool | str | int | None = None,
) -> list[SeizureRow]:
    """Measure detectors on the same recordings, by the same rules.

    Parameters
    ----------
    data : path-like
        ``../shared/data``.
    detectors : mapping of str to callable | None
        Factories by name; ``None``: :func:`baselines`.
    parameters : EventParameters | None
        How scores become events, but for the threshold.
    target_fp_per_day : float
        What the threshold is chosen for, in training. A detector whose attribute ``detection`` is not ``None`` keeps
        the parameters that it holds.
    cache : path-like | None
        Where conformed recordings are kept.
    folder : path-like | None
        Where detectors may keep files; each fit has a folder of its own.
    verbose : bool | str | int | None
        Control verbosity of the logging output.

    Returns
    -------
    rows : list of SeizureRow
        In the order of ``detectors``; :func:`seizure_table` prints them.

    Raises
    ------
    FileNotFoundError
        If there are no recordings.

    Notes
    -----
    Windows: see :func:`window_table`. Events: for each record of chb01, a detector is fitted, and its threshold chosen,
    on the other records and on every second seizure-free subject; it is tested on the whole seizure and the pre-ictal
    excerpt. False alarms: fitted on all of chb01 and one half of the seizure-free subjects, tested on the other, and
    the other way round. In training a detector has seen what its threshold is chosen on; that holds for all of them.
    """
    detectors = baselines() if detectors is None else detectors
    folder = None if folder is None else Path(folder)
    stores: dict[str, SeizureStore] = {}
    rows = []
    for name, factory in detectors.items():
        contract = factory().contract
        key = json.dumps(contract.to_dict(), sort_keys=True)
        if key not in stores:
            stores[key] = open_benchmark(data, contract, cache=cache)
        own = None if folder is None else folder / name.replace("/", "-")
        rows.append(_measure(name, factory, stores[key], parameters or EventParameters(), target_fp_per_day, own))
        logger.info(f"{name}: done.")
    return rows


def _measure(
    name: str,
    factory: Callable[[], Any],
    store: SeizureStore,
    parameters: EventParameters,
    target_fp_per_day: float,
    folder: Path | None,
) -> SeizureRow:
    ictal = [file for file, each in enumerate(store.recordings) if each.path.name.startswith("chb")]
    free = sorted(set(range(len(store))) - set(ictal))
    subjects = sorted({store.subject_of(file) for file in free})
    halves = [[file for file in free if subjects.index(store.subject_of(file)) % _N_PARTS == part] for part in (0, 1)]
    excerpts = store.select(files=ictal)
    rows = [window_table(factory, excerpts, unit_rms=unit, folder=folder) for unit in (False, True)]

    def fitted(files: Sequence[int], fold: str) -> tuple[Any, EventParameters]:
        train = store.select(files=files)
        detector = factory().fit(train, folder=fold_folder(folder, fold))
        return detector, _rules(detector, train, parameters, target_fp_per_day)

    found, alarmed = [], []
    for record in sorted({record_of(store.recordings[file].path) for file in ictal}):
        test = [file for file in ictal if record_of(store.recordings[file].path) == record]
        detector, rules = fitted([*sorted(set(ictal) - set(test)), *halves[0]], f"record-{record}")
        held_out = store.select(files=test)
        for file, each in enumerate(held_out.recordings):
            if not each.path.stem.endswith(("seizure_full", "preictal")):
                continue
            events = events_from_scores(detector.probabilities(held_out, file), rules)
            (alarmed if each.path.stem.endswith("preictal") else found).append(len(events) > 0)
    alarms, seconds = 0, 0
    for part in range(_N_PARTS if all(halves) else 0):
        detector, rules = fitted([*ictal, *halves[1 - part]], f"subjects-{part}")
        held_out = store.select(files=halves[part])
        for file in range(len(held_out)):
            scores = detector.probabilities(held_out, file)
            alarms += len(events_from_scores(scores, rules))
            seconds += int(np.isfinite(scores).sum())
    return SeizureRow(
        name, rows[0], rows[1], sum(found), len(found), sum(alarmed), len(alarmed), alarms, seconds / 3600.0
    )


def _rules(
    detector: Any, train: SeizureStore, parameters: EventParameters, target_fp_per_day: float
) -> EventParameters:
    """Say how its scores become events: as the detector says, or by a threshold chosen in training."""
    known = getattr(detector, "detection", None)
    if known is not None:
        return EventParameters(**known["parameters"])
    scores = [detector.probabilities(train, file) for file in range(len(train))]
    # That an hour is too little to choose a threshold by is known, and true for all detectors alike.
    chosen, _ = calibration_and_problem(
        scores, train.tables, parameters=parameters, target_fp_per_day=target_fp_per_day
    )
    return chosen.parameters


def seizure_table(rows: Sequence[SeizureRow]) -> str:
    """Write what was measured as a Markdown table.

    Parameters
    ----------
    rows : sequence of SeizureRow
        From :func:`benchmark_seizures`.

    Returns
    -------
    table : str
        One line per detector. Windows: AUROC / area under precision and recall / balanced accuracy.
    """
    lines = [
        "| detector | windows as they are | windows at unit RMS | seizures found | pre-ictal alarms | false alarms/h |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        windows = [
            f"{scores['auroc']:.3f} / {scores['auc_pr']:.3f} / {scores['balanced_accuracy']:.2f}"
            for scores in (row.windows, row.unit_windows)
        ]
        lines.append(
            f"| {row.detector} | {windows[0]} | {windows[1]} | {row.n_found} of {row.n_seizures} | "
            f"{row.n_preictal_events} of {row.n_preictal} | {row.false_alarms_per_hour:.2f} in {row.hours:.2f} h |"
        )
    return "\n".join(lines)
