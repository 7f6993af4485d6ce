"""What was measured of restoration, in words and as JSON."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from mne_labram.benchmark.restoration import (
    TASKS,
    RestorationRow,
    RestorationTask,
    benchmark_restoration,
    read_restoration,
)
from mne_labram.benchmark.restoration_methods import (
    BAND_RIDGE,
    CALIBRATED,
    CALIBRATED_RIDGE,
    GRAM,
    GRAM_CALIBRATED,
    baseline_methods,
    gram_methods,
)

__all__ = ["better_in", "restoration_benchmark_page", "restoration_page"]

# Subjects of a quick run: training, scored.
_QUICK = (range(4), range(18, 20))


def restoration_benchmark_page(
    data: str | os.PathLike[str], *, model: str = "gram-tiny", draws: int = 4, seed: int = 0, quick: bool = False
) -> tuple[str, dict[str, Any]]:
    """Measure everything that restores.

    Parameters
    ----------
    data : path-like
        ``../shared/data``.
    model : str
        Weights of our rows: a checkpoint, or the name of one that ships.
    draws, seed : int
        See :func:`mne_labram.benchmark.restoration.score_method`.
    quick : bool
        Four training subjects, two that are scored, one draw: for trying it out.

    Returns
    -------
    page : str
        Tables in Markdown.
    found : dict
        The same as plain JSON values: ``"rows"``, ``"draws"``, ``"seed"``, ``"training"`` and ``"scored"``.

    Raises
    ------
    FileNotFoundError
        If there are no recordings.
    """
    read = read_restoration(data, *_QUICK) if quick else read_restoration(data)
    draws = 1 if quick else draws
    ours = gram_methods(model, seed=seed)
    methods = [*baseline_methods(read, TASKS), *ours]
    rows = benchmark_restoration(read, methods, TASKS, draws=draws, seed=seed)
    names = {part: [each.subject for each in getattr(read, part)] for part in ("training", "scored")}
    found = {"rows": [asdict(row) for row in rows], "draws": draws, "seed": seed, **names}
    header = (
        f"eegmat at rest, 0.1-75 Hz, 200 Hz, windows of 8 s, {draws} draw(s) of what is hidden for each window; fitted "
        f"to {len(read.training)} subjects, scored on {', '.join(names['scored'])}. Error: squared error over squared "
        "target, both in the reference to the mean of the visible channels; mean and standard deviation over subjects."
    )
    if not ours:
        header += f" Without {model}, which is not there."
    return f"{header}\n\n{restoration_page(rows)}", found


def restoration_page(rows: Sequence[RestorationRow], tasks: Sequence[RestorationTask] = TASKS) -> str:
    """Write what was measured in Markdown.

    Parameters
    ----------
    rows : sequence of RestorationRow
        From :func:`mne_labram.benchmark.restoration.benchmark_restoration`.
    tasks : sequence of RestorationTask
        In the order of the columns.

    Returns
    -------
    page : str
        A table of all windows for what is not calibrated, one of the second halves for everything, other measures of
        each, and whether goals are met.
    """
    parts = []
    for part, reference, title in (
        ("all", BAND_RIDGE, "All windows, not calibrated"),
        (
            "second half",
            CALIBRATED,
            "Second half of each recording; calibrated on the first, in which nothing is hidden",
        ),
    ):
        own = [row for row in rows if row.part == part]
        if own:
            parts += [f"## {title}", _error_table(own, tasks, reference), _measures(own, tasks)]
    parts += ["\n".join(_goals(rows, tasks))]
    return "\n\n".join(part for part in parts if part)


def better_in(row: RestorationRow, other: RestorationRow) -> int:
    """Count the subjects in which one method has a smaller error than another.

    Parameters
    ----------
    row, other : RestorationRow
        Of the same subjects.

    Returns
    -------
    n_subjects : int
        How many.

    Raises
    ------
    ValueError
        If they are not of the same subjects.
    """
    if row.subjects != other.subjects:
        raise ValueError("Rows of other subjects cannot be compared.")
    return sum(a < b for a, b in zip(row.error, other.error, strict=True))


def _table(rows: Sequence[RestorationRow]) -> dict[str, dict[str, RestorationRow]]:
    """Arrange rows by method and task."""
    found: dict[str, dict[str, RestorationRow]] = {}
    for row in rows:
        found.setdefault(row.method, {})[row.task] = row
    return found


def _error_table(rows: Sequence[RestorationRow], tasks: Sequence[RestorationTask], reference: str) -> str:
    """Write errors, and in how many subjects each is better than the reference."""
    found = _table(rows)
    names = [task.name for task in tasks if any(task.name in each for each in found.values())]
    lines = [
        f"Error; in brackets: subjects in which it is smaller than that of {reference}.",
        "",
        f"| method | {' | '.join(names)} |",
        f"|---{'|---' * len(names)}|",
    ]
    for method, own in found.items():
        cells = []
        for name in names:
            row = own.get(name)
            text = "-" if row is None else _mean(row.error)
            if row is not None and method != reference and name in found.get(reference, {}):
                text += f" ({better_in(row, found[reference][name])}/{len(row.subjects)})"
            cells.append(text)
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _measures(rows: Sequence[RestorationRow], tasks: Sequence[RestorationTask]) -> str:
    """Write the other measures: mean over windows of the error, correlation, amplitude, expected error, time."""
    found = _table(rows)
    names = [task.name for task in tasks if any(task.name in each for each in found.values())]
    lines = [
        "Mean over windows of the error / correlation / amplitude (root mean square, restored over true), and where a "
        "method expects an error, / expected over true.",
        "",
        f"| method | {' | '.join(names)} | ms per window |",
        f"|---{'|---' * len(names)}|---|",
    ]
    for method, own in found.items():
        cells = []
        for name in names:
            row = own.get(name)
            if row is None:
                cells.append("-")
                continue
            values = [row.window_error, row.correlation, row.amplitude]
            values += [row.foretold] if np.isfinite(row.foretold).all() else []
            cells.append(" / ".join(f"{np.mean(each):.2f}" for each in values))
        spent = float(np.mean([row.milliseconds for row in own.values()]))
        lines.append(f"| {method} | {' | '.join(cells)} | {spent:.1f} |")
    return "\n".join(lines)


def _goals(rows: Sequence[RestorationRow], tasks: Sequence[RestorationTask]) -> list[str]:
    """Say whether what issue 6 asks for is reached."""
    lines = []
    for part, method, references, kind in (
        ("all", GRAM, (BAND_RIDGE,), "goal"),
        ("second half", GRAM_CALIBRATED, (CALIBRATED_RIDGE, CALIBRATED), "calibrated"),
    ):
        found = _table([row for row in rows if row.part == part])
        for task in tasks:
            asked = getattr(task, kind)
            if asked is None or task.name not in found.get(method, {}):
                continue
            row = found[method][task.name]
            text = f"- {method}, {task.name}: {np.mean(row.error):.3f}, asked for {asked:.2f}"
            for reference in references:
                if task.name in found.get(reference, {}):
                    better = better_in(row, found[reference][task.name])
                    text += f"; better than {reference} in {better} of {len(row.subjects)} subjects"
            lines.append(f"{text}.")
    return lines


def _mean(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values):.3f}"
