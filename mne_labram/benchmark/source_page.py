"""What was measured of source imaging, in words and as JSON."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mne.utils import logger

from mne_labram.benchmark.source import GRID, PEAK_SHARE, SourceMethod, SourceRow, benchmark_source, rounded
from mne_labram.benchmark.source_methods import classical_methods, fitted_methods, network_methods
from mne_labram.benchmark.source_real import deepsif_patient, real_page, sample_heads, score_ictal, score_sides
from mne_labram.benchmark.source_silence import SilenceRow, score_silence, silence_page
from mne_labram.benchmark.source_windows import (
    CASES,
    DEPTHS,
    MONTAGES,
    another_head,
    draw_windows,
    imaging_head,
    true_heads,
)
from mne_labram.source.bank_making import default_bank
from mne_labram.source.metrics import bootstrap_interval
from mne_labram.source.noise import NoiseBank

__all__ = ["Comparison", "compare", "source_benchmark_page", "source_page"]

#: What methods are compared by, and whether more of it is better.
COMPARED = {
    "localization_mm": False,
    "peak_mm": False,
    "assigned_mm": False,
    "missed_mm": False,
    "ghost_mm": False,
    "center_of_mass_mm": False,
    "dispersion_mm": False,
    "auc": True,
    "auc_close": True,
    "precision": True,
    "recall": True,
    "f1": True,
    "precision_otsu": True,
    "recall_otsu": True,
    "f1_otsu": True,
    "correlation": True,
}
_TITLES = {
    "localization_mm": "localisation, mm",
    "peak_mm": "largest peak, mm",
    "assigned_mm": "as many peaks as sources, mm",
    "missed_mm": "source to peak",
    "ghost_mm": "peak to source",
    "n_peaks": "peaks",
    "center_of_mass_mm": "centre of mass, mm",
    "dispersion_mm": "dispersion, mm",
    "auc": "AUC",
    "auc_close": "AUC, close",
    "precision": "precision, 50 %",
    "recall": "recall, 50 %",
    "f1": "F1, 50 %",
    "precision_otsu": "precision, Otsu",
    "recall_otsu": "recall, Otsu",
    "f1_otsu": "F1, Otsu",
    "correlation": "r",
    "amplitude_db": "amplitude, dB",
}
#: A person of whose head the estimates know nothing.
ANOTHER = "another person's skull"
_QUICK_CASES = tuple(case for case in CASES if case.snr_db in (5.0, 20.0) and case.n_sources < 3)


class Comparison(NamedTuple):
    """One method beside another, on the same windows of one case.

    Attributes
    ----------
    method, other, montage : str
        Which.
    n_sources : int
        Sources.
    snr_db : float
        Signal-to-noise ratio.
    measure : str
        By what.
    better, low, high : float
        How much better the method is than the other (negative: worse), mean over windows, and its 95 % interval.
    """

    method: str
    other: str
    montage: str
    n_sources: int
    snr_db: float
    measure: str
    better: float
    low: float
    high: float

    @property
    def loses(self) -> bool:
        """Whether the method is worse, beyond doubt of windows."""
        return self.high < 0


def source_benchmark_page(
    data: str | os.PathLike[str],
    *,
    model: str | Sequence[str] | None = None,
    montages: Sequence[str] = tuple(MONTAGES),
    n_windows: int = 20,
    n_heads: int = 2,
    spacing: str = "ico4",
    seed: int = 0,
    quick: bool = False,
    sparse: bool = True,
    fit_steps: int = 0,
    extra: Sequence[SourceMethod] = (),
) -> tuple[str, dict[str, Any]]:
    """Measure everything that images sources.

    Parameters
    ----------
    data : path-like
        ``../shared/data``; recordings that are absent are left out.
    model : str | sequence of str | None
        BrainForge or DeepSIF: a checkpoint, or the name of one; or several, of which others are compared with the
        first.
    montages : sequence of str
        Of ``"19"``, ``"32"``, ``"64"``.
    n_windows : int
        Of each case.
    n_heads, spacing : int, str
        See :func:`~mne_labram.benchmark.source_windows.true_heads`.
    seed : int
        Of windows and heads.
    quick : bool
        19 electrodes, four cases, four windows, no recordings: for trying it out.
    sparse : bool
        With MxNE, which takes longest.
    fit_steps : int
        Also fit BrainForge to the heads of the recordings, in so many steps each; 0: do not.
    extra : sequence of SourceMethod
        More rows.

    Returns
    -------
    page : str
        Tables in Markdown.
    found : dict
        The same as plain JSON values.

    Raises
    ------
    ContractError
        If a model is for another head than one of the montages has.
    ValueError
        If a montage is not known.
    FileNotFoundError
        If there is no such folder.
    """
    unknown = [name for name in montages if name not in MONTAGES]
    if unknown or not montages:
        raise ValueError(f"There is no montage {(unknown or [''])[0]!r}; choose of {', '.join(MONTAGES)}.")
    if not quick and not Path(data).is_dir():
        raise FileNotFoundError(f"There is no folder {os.fspath(data)!r}; say where the recordings are (--data).")
    cases = _QUICK_CASES if quick else CASES
    if quick:
        montages, n_windows, n_heads, spacing, sparse = ["19"], 4, 1, "ico3", False
    methods = [*network_methods(model, seed=seed), *extra, *classical_methods(sparse=sparse)]
    known = {montage: imaging_head(MONTAGES[montage]) for montage in montages}
    for method in methods:
        if not method.any_head:
            # Before hours of work, and not after them.
            for head in known.values():
                method.make(head, 0.0)
    folder = Path(data) / "deepsif_ictal" / "anatomy"
    noise = NoiseBank.from_deepsif(folder) if not quick and folder.is_dir() else None
    # Other neural masses than those that networks are trained with.
    bank = default_bank(seed=seed + 1)
    # The largest montage holds all others.
    everywhere = true_heads(MONTAGES["64"], n_heads=n_heads, spacing=spacing, bem_ico=3 if quick else 4, seed=seed)
    simulated = [(montage, montage, everywhere) for montage in montages]
    if not quick:
        try:
            person = another_head(data, MONTAGES["64"], spacing=spacing)
            person.share_distances(everywhere[0])
            simulated += [(f"{montages[-1]}, {ANOTHER}", montages[-1], [person])]
        except FileNotFoundError as error:
            logger.info(str(error))
    rows: list[SourceRow] = []
    silence: list[SilenceRow] = []
    kinds = ("white", "coloured", "real") if noise else ("white", "coloured")
    for called, montage, heads in simulated:
        head = known[montage]
        models = [each.pick(MONTAGES[montage]) for each in heads]
        windows = draw_windows(
            head, models, cases, n_windows=n_windows, bank=bank, real_noise=noise, noise=kinds, seed=seed
        )
        rows += benchmark_source(head, windows, methods, montage=called)
        if heads is everywhere:
            silence += score_silence(
                head, models[0], methods, n_windows=n_windows, noise=kinds, real_noise=noise, montage=called, seed=seed
            )
    applied = [method for method in methods if method.any_head]
    if fit_steps:
        applied[1:1] = fitted_methods(methods, fit_steps, seed=seed)
    ictal, sides = ([], []) if quick else _recordings(data, applied)
    header = (
        f"{n_windows} windows of 1 s at 100 Hz for each case, simulated through {n_heads} head(s) with {spacing} "
        "sources, other conductivities, a finer boundary element model and electrodes 3 mm off; imaged with the "
        f"default head (ico3). Noise is {', '.join(kinds)}, its covariance is known to all, the SNR to MNE's. 95 % "
        "intervals by bootstrap over windows. Localisation: mean of the distances from sources to peaks and from peaks "
        f"to sources, of all peaks above {PEAK_SHARE:.0%} of the largest."
    )
    page = f"{header}\n\n{source_page(rows)}\n\n{silence_page(silence)}"
    if ictal or sides:
        page += f"\n\n{real_page(ictal, sides)}"
    found = {
        "rows": [rounded(row) for row in rows],
        "silence": [asdict(row) for row in silence],
        "ictal": [asdict(row) for row in ictal],
        "sides": [asdict(row) for row in sides],
        "n_windows": n_windows,
        "n_heads": n_heads,
        "spacing": spacing,
        "seed": seed,
        "fit_steps": fit_steps,
    }
    return page, found


def _recordings(data: str | os.PathLike[str], methods: Sequence[SourceMethod]) -> tuple[list, list]:
    ictal, sides = [], []
    try:
        ictal = score_ictal(deepsif_patient(data), methods)
    except FileNotFoundError as error:
        logger.info(str(error))
    try:
        sides = score_sides(*sample_heads(data), methods)
    except FileNotFoundError as error:
        logger.info(str(error))
    return ictal, sides


def source_page(rows: Sequence[SourceRow]) -> str:
    """Write what was measured in Markdown.

    Parameters
    ----------
    rows : sequence of SourceRow
        From :func:`~mne_labram.benchmark.source.benchmark_source`; the first method is the one that others are compared
        with.

    Returns
    -------
    page : str
        For each montage: localisation by case, all measures, depth, and where the first method loses.
    """
    parts = []
    for montage in dict.fromkeys(row.montage for row in rows):
        own = [row for row in rows if row.montage == montage]
        number, _, whose = montage.partition(", ")
        title = f"## {number} electrodes{f', simulated through {whose}' if whose else ''}"
        parts += [title, _by_case(own), _all_measures(own), _by_depth(own), _losses(own)]
    return "\n\n".join(part for part in parts if part)


def compare(rows: Sequence[SourceRow], method: str, others: Sequence[str] | None = None) -> list[Comparison]:
    """Compare a method with others, window by window.

    Parameters
    ----------
    rows : sequence of SourceRow
        All of the same windows.
    method : str
        Which.
    others : sequence of str | None
        With which; ``None``: with all but the truth.

    Returns
    -------
    found : list of Comparison
        For each case and measure.

    Raises
    ------
    ValueError
        If the method has no rows.
    """
    mine = [row for row in rows if row.method == method]
    if not mine:
        raise ValueError(f"There are no rows of {method!r}; methods are {sorted({row.method for row in rows})}.")
    if others is None:
        others = [name for name in dict.fromkeys(row.method for row in rows) if name not in (method, GRID)]
    found = []
    for row in mine:
        key = (row.montage, row.n_sources, row.snr_db)
        for other in rows:
            if other.method not in others or (other.montage, other.n_sources, other.snr_db) != key:
                continue
            for measure, more in COMPARED.items():
                difference = np.array(row.values[measure]) - np.array(other.values[measure])
                found.append(
                    Comparison(
                        method, other.method, *key, measure, *bootstrap_interval(difference if more else -difference)
                    )
                )
    return found


def _by_case(rows: Sequence[SourceRow]) -> str:
    cases = list(dict.fromkeys((row.n_sources, row.snr_db) for row in rows))
    lines = [
        "Localisation in mm, with 95 % interval; columns: sources, SNR.",
        "",
        f"| method | {' | '.join(f'{n}, {snr:g} dB' for n, snr in cases)} |",
        f"|---{'|---' * len(cases)}|",
    ]
    for method in dict.fromkeys(row.method for row in rows):
        found = {(row.n_sources, row.snr_db): row for row in rows if row.method == method}
        cells = [_interval(found[case].values["localization_mm"]) if case in found else "-" for case in cases]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _all_measures(rows: Sequence[SourceRow]) -> str:
    lines = [
        "All measures, means over all SNR (amplitude: median).",
        "",
        f"| method | sources | {' | '.join(_TITLES.values())} | ms |",
        f"|---|---{'|---' * len(_TITLES)}|---|",
    ]
    for n_sources in dict.fromkeys(row.n_sources for row in rows):
        for method in dict.fromkeys(row.method for row in rows):
            own = [row for row in rows if row.method == method and row.n_sources == n_sources]
            if own:
                cells = [_mean((each for row in own for each in row.values[name]), name) for name in _TITLES]
                spent = np.mean([row.milliseconds for row in own])
                lines.append(f"| {method} | {n_sources} | {' | '.join(cells)} | {spent:.0f} |")
    return "\n".join(lines)


def _by_depth(rows: Sequence[SourceRow]) -> str:
    own = [row for row in rows if row.n_sources == 1 and row.snr_db >= 5]
    if not own:
        return ""
    shown = ("localization_mm", "peak_mm", "dispersion_mm")
    lines = [
        f"One source at 5 dB and more, by depth: {' / '.join(_TITLES[name] for name in shown)}.",
        "",
        f"| method | {' | '.join(DEPTHS)} |",
        f"|---{'|---' * len(DEPTHS)}|",
    ]
    for method in dict.fromkeys(row.method for row in own):
        cells = []
        for third in range(len(DEPTHS)):
            each = [
                [
                    value
                    for row in own
                    if row.method == method
                    for value, depth in zip(row.values[name], row.depth, strict=True)
                    if depth == third
                ]
                for name in shown
            ]
            cells.append(" / ".join(_mean(values, name) for values, name in zip(each, shown, strict=True)))
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _losses(rows: Sequence[SourceRow]) -> str:
    """Say where the first method is worse than another."""
    first = rows[0].method
    compared = compare(rows, first)
    if not compared:
        return ""
    lines = []
    for other in dict.fromkeys(each.other for each in compared):
        against = [each for each in compared if each.other == other]
        lost = [each for each in against if each.loses]
        won = sum(each.low > 0 for each in against)
        text = f"- {first} against {other}: better in {won} and worse in {len(lost)} of {len(against)} comparisons"
        cells = [
            f"{_TITLES[each.measure]} at {each.n_sources}, {each.snr_db:g} dB ({each.better:+.3g})" for each in lost
        ]
        lines.append(f"{text}{': worse in ' + '; '.join(cells) if cells else ''}.")
    return "Cases and measures in which the 95 % interval of the difference leaves out 0.\n\n" + "\n".join(lines)


def _interval(values: Sequence[float]) -> str:
    mean, low, high = bootstrap_interval(values)
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]"


def _mean(values: Iterable[float], name: str) -> str:
    known = np.array([value for value in values if np.isfinite(value)])
    if not len(known):
        return "-"
    digits = 1 if name.endswith(("_mm", "_db", "peaks")) else 2
    return f"{np.median(known) if name == 'amplitude_db' else known.mean():.{digits}f}"
