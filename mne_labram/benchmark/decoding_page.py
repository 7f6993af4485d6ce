"""What was measured of decoding, in words and as JSON."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch

from mne_labram.benchmark.decoders import BAND_POWER, baseline_decoders, model_decoders
from mne_labram.benchmark.decoding import (
    IMAGERY,
    DecodingRow,
    DecodingTask,
    arithmetic_task,
    benchmark_decoding,
    imagery_task,
)
from mne_labram.benchmark.probe import paired_difference

__all__ = ["MODELS", "decoding_benchmark_page", "decoding_page"]

#: Whose weights are compared; what does not ship is left out.
MODELS = ("labram-tiny", "eegfoundation-tiny", "gram-tiny")
# Subjects and folds of a quick run.
_QUICK = (range(18, 22), 2)


def decoding_benchmark_page(
    data: str | os.PathLike[str],
    *,
    models: Sequence[str] = MODELS,
    epochs: int = 3,
    eegnet_epochs: int = 30,
    n_folds: int = 6,
    n_twins: int = 1,
    fine_tune: bool = True,
    imagery: bool = True,
    seed: int = 0,
    threads: int = 2,
    quick: bool = False,
) -> tuple[str, dict[str, Any]]:
    """Measure what can be told apart.

    Parameters
    ----------
    data : path-like
        ``../shared/data``.
    models : sequence of str
        Names of weights that ship, or checkpoints.
    epochs, eegnet_epochs : int
        Passes of full fine-tuning, and of EEGNet.
    n_folds : int
        Groups of subjects of eegmat.
    n_twins : int
        Networks of fresh weights that are probed beside each model.
    fine_tune : bool
        Also train all weights of the models.
    imagery : bool
        Also imagined movements.
    seed : int
        Of what is random.
    threads : int
        Torch threads.
    quick : bool
        Four subjects, two folds, one pass: for trying it out.

    Returns
    -------
    page : str
        Tables in Markdown.
    found : dict
        The same as plain JSON values: ``"rows"``, ``"notes"``, ``"seed"``, ``"epochs"``.

    Raises
    ------
    FileNotFoundError
        If there are no recordings.
    ValueError
        If a number makes no sense.
    """
    if threads < 1 or epochs < 1 or eegnet_epochs < 1 or n_twins < 0:
        raise ValueError("threads and epochs must be at least 1, and n_twins at least 0.")
    subjects = None
    if quick:
        (subjects, n_folds), epochs, eegnet_epochs = _QUICK, 1, 1
    tasks = [arithmetic_task(data, n_folds=n_folds, subjects=subjects)]
    tasks += [imagery_task(data, what) for what in IMAGERY] if imagery else []
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        decoders = baseline_decoders(epochs=eegnet_epochs, seed=seed)
        ours, notes = model_decoders(models, epochs=epochs, seed=seed, fine_tune=fine_tune, n_twins=n_twins)
        rows = benchmark_decoding(tasks, [*decoders, *ours])
    finally:
        torch.set_num_threads(before)
    found = {"rows": [asdict(row) for row in rows], "notes": notes, "seed": seed, "epochs": epochs}
    return decoding_page(rows, tasks, notes), found


def decoding_page(rows: Sequence[DecodingRow], tasks: Sequence[DecodingTask], notes: Sequence[str] = ()) -> str:
    """Write what was measured in Markdown.

    Parameters
    ----------
    rows : sequence of DecodingRow
        From :func:`mne_labram.benchmark.decoding.benchmark_decoding`.
    tasks : sequence of DecodingTask
        What they are of.
    notes : sequence of str
        Sentences for the end.

    Returns
    -------
    page : str
        For each task, a table of all subjects, and one of those whom no training has seen.
    """
    parts = [
        "Every signal is low-passed at 45 Hz. Balanced accuracy and AUROC: mean and standard deviation over test "
        "subjects, or runs. Transductive: the unlabelled windows of the test subject set mean and scale, of features "
        "or of a network's judgements. Differences to band power are paired, with their standard errors. One seed: "
        "what lies within two standard errors is no difference."
    ]
    for task in tasks:
        own = [row for row in rows if row.task == task.name]
        if not own:
            continue
        parts.append(f"## {task.name[0].upper()}{task.name[1:]}")
        if task.note:
            parts.append(task.note)
        for label, subjects in {f"All {len(own[0].subjects)}": None, **task.subsets}.items():
            if task.subsets:
                parts.append(f"**{label}**" + ("" if subjects is None else f" ({len(subjects)} subjects)"))
            parts.append(_table(own, subjects))
    if notes:
        parts.append("\n".join(f"- {note}" for note in notes))
    return "\n\n".join(parts)


def _table(rows: Sequence[DecodingRow], subjects: Sequence[str] | None) -> str:
    """Write one table: both ways, each with its difference to band power."""
    columns = []
    for kind in ("inductive", "transductive"):
        columns += [f"accuracy, {kind}", "minus band power", f"AUROC, {kind}", "minus band power"]
    lines = [f"| | {' | '.join(columns)} |", f"|---{'|---' * len(columns)}|"]
    found: dict[str, dict[bool, DecodingRow]] = {}
    for row in rows:
        found.setdefault(row.decoder, {})[row.transductive] = row
    for decoder, both in found.items():
        cells = []
        for kind in (False, True):
            row, reference = both.get(kind), found.get(BAND_POWER, {}).get(kind)
            for what in ("balanced_accuracy", "auroc"):
                if row is None:
                    cells += ["-", "-"]
                    continue
                values = getattr(row.scores(subjects), what)
                cells.append(f"{values.mean():.3f} ± {values.std():.3f}")
                cells.append("")
                if reference is not None and decoder != BAND_POWER:
                    difference, error = paired_difference(values, getattr(reference.scores(subjects), what))
                    cells[-1] = f"{difference:+.3f} ± {error:.3f}"
        lines.append(f"| {decoder} | {' | '.join(cells)} |")
    return "\n".join(lines)
