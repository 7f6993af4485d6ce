"""``mne-labram benchmark source``: where simulated activity is found, by us and by the classical inverses.

The windows are simulated through other heads than the one that everything is imaged with: four times as many sources,
other conductivities, a finer boundary element model, electrodes some millimetres from where they are thought to be. All
methods see the same windows, with the covariance of their noise and their signal-to-noise ratio.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import scipy
from mne.utils import logger, verbose

from mne_labram.benchmark.source_windows import ImagingHead, SourceCase, SourceWindow
from mne_labram.signal.contract import ContractError
from mne_labram.source.assigned_peaks import assigned_error
from mne_labram.source.head import SourceModel
from mne_labram.source.metrics import (
    area_under_curve,
    center_of_mass_error,
    localization_error,
    precision_recall,
    source_amplitude,
    spatial_dispersion,
)
from mne_labram.source.waveform_metrics import amplitude_error_db, temporal_correlation

__all__ = [
    "MEASURES",
    "SourceMethod",
    "SourceRow",
    "GRID",
    "benchmark_source",
    "rounded",
    "score_estimate",
]

#: What is measured of every window; of distances and dispersion less is better, of the rest but the last more.
MEASURES = (
    "localization_mm",
    "peak_mm",
    "assigned_mm",
    "missed_mm",
    "ghost_mm",
    "n_peaks",
    "center_of_mass_mm",
    "dispersion_mm",
    "auc",
    "auc_close",
    "precision",
    "recall",
    "f1",
    "precision_otsu",
    "recall_otsu",
    "f1_otsu",
    "correlation",
    "amplitude_db",
)


class SourceEstimator(Protocol):
    """What estimates sources."""

    def estimate(self, x: np.ndarray, noise_covariance: np.ndarray) -> np.ndarray:
        """Return (n_sources, n_times) for a signal in µV, average reference, and its noise's covariance in µV²."""


#: A peak has this share of the largest amplitude. Sources that are as strong at the electrodes differ in amplitude: of
#: half as much, the truth itself often has one peak where there are two sources.
PEAK_SHARE = 0.3


@dataclass(frozen=True)
class SourceMethod:
    """A row of the table.

    Attributes
    ----------
    name : str
        What it is called.
    make : callable
        ``make(head, snr_db)`` makes a :class:`SourceEstimator`.
    moments : bool
        Whether it returns dipole moments in nAm, and not statistics.
    any_head : bool
        Whether it images with any head, or only with one, and ``make`` refuses others.
    needs_noise : bool
        Whether it has to be told the covariance of the noise; others take ``None`` where nobody knows it.
    network : torch.nn.Module | None
        What may be fitted to a head.
    """

    name: str
    make: Callable[[ImagingHead, float], SourceEstimator]
    moments: bool = True
    any_head: bool = True
    needs_noise: bool = True
    network: Any = None


@dataclass(frozen=True)
class SourceRow:
    """What was measured of one method in one case.

    Attributes
    ----------
    method, montage : str
        Which.
    n_sources : int
        Sources that are active.
    snr_db : float
        Signal-to-noise ratio.
    depth : list of int
        Third by depth of every window.
    values : dict of list of float
        Of each of :data:`MEASURES`, one number for every window; NaN where there is none.
    milliseconds : float
        Mean time of a window, without what is made once for a head.
    """

    method: str
    montage: str
    n_sources: int
    snr_db: float
    depth: list[int]
    values: dict[str, list[float]]
    milliseconds: float


def score_estimate(
    window: SourceWindow, estimate: np.ndarray, model: SourceModel, *, moments: bool = True
) -> dict[str, float]:
    """Measure one estimate.

    Parameters
    ----------
    window : SourceWindow
        What is true.
    estimate : ndarray, shape (n_sources, n_times)
        Of the signal.
    model : SourceModel
        Where its sources are.
    moments : bool
        Whether it is in nAm; otherwise it has no amplitude that could be compared.

    Returns
    -------
    values : dict of float
        :data:`MEASURES`.

    Raises
    ------
    ContractError
        If the estimate is not finite, or of another shape.
    """
    estimate = np.asarray(estimate)
    if estimate.shape != (model.n_sources, window.x.shape[1]):
        raise ContractError(
            f"The estimate must have the shape {(model.n_sources, window.x.shape[1])}, got {estimate.shape}."
        )
    amplitude = source_amplitude(estimate)
    near = localization_error(amplitude, model.positions, model.neighbours, window.centres, share=PEAK_SHARE)
    largest = model.positions[amplitude == amplitude.max()]
    peak = 1e3 * scipy.spatial.cKDTree(window.centres).query(largest)[0].mean()
    half, otsu = (precision_recall(amplitude, window.active, threshold) for threshold in (0.5, "otsu"))
    mass = center_of_mass_error(amplitude, model.positions, window.true_amplitude, window.true_positions)
    level = amplitude_error_db(estimate, window.weights, window.waveforms).mean() if moments else np.nan
    values = (
        near.symmetric_mm,
        peak,
        assigned_error(amplitude, model.positions, model.neighbours, window.centres),
        near.missed_mm,
        near.ghost_mm,
        near.n_peaks,
        mass,
        spatial_dispersion(amplitude, model.positions, window.active_positions),
        area_under_curve(amplitude, window.active),
        area_under_curve(amplitude, window.active, model.positions),
        *half,
        *otsu,
        temporal_correlation(estimate, window.weights, window.waveforms).mean(),
        level,
    )
    return {name: float(value) for name, value in zip(MEASURES, values, strict=True)}


@verbose
def benchmark_source(
    head: ImagingHead,
    windows: Sequence[SourceWindow],
    methods: Sequence[SourceMethod],
    *,
    montage: str = "",
    verbose: bool | str | int | None = None,
) -> list[SourceRow]:
    """Measure methods in all cases.

    Parameters
    ----------
    head : ImagingHead
        What is imaged with.
    windows : sequence of SourceWindow
        From :func:`draw_windows`.
    methods : sequence of SourceMethod
        What is compared.
    montage : str
        What the electrodes are called.
    verbose : bool | str | int | None
        Control verbosity of the logging output.

    Returns
    -------
    rows : list of SourceRow
        Method by method, case by case.

    Raises
    ------
    ValueError
        If there is nothing to compare.
    """
    if not windows or not methods:
        raise ValueError("There is nothing to measure; give windows and methods.")
    cases = list(dict.fromkeys(window.case for window in windows))
    rows = []
    for method in methods:
        for case in cases:
            estimator = method.make(head, case.snr_db)
            own = [window for window in windows if window.case == case]
            found, spent = [], 0.0
            for window in own:
                began = perf_counter()
                estimate = estimator.estimate(window.x, window.noise_covariance)
                spent += perf_counter() - began
                found.append(score_estimate(window, estimate, head.model, moments=method.moments))
            rows.append(_row(method.name, montage, case, own, found, spent))
            error = np.mean(rows[-1].values["localization_mm"])
            logger.info(f"{montage}, {case.n_sources} at {case.snr_db:g} dB, {method.name}: {error:.1f} mm.")
    # What there would be to see if everything was known but where sources may be.
    for case in cases:
        own = [window for window in windows if window.case == case]
        rows.append(_row(GRID, montage, case, own, [score_estimate(each, each.truth, head.model) for each in own], 0.0))
    return rows


#: The row of the truth itself, in the source space of the estimates.
GRID = "the truth"


def _row(
    method: str,
    montage: str,
    case: SourceCase,
    windows: Sequence[SourceWindow],
    found: Sequence[dict[str, float]],
    seconds: float,
) -> SourceRow:
    values = {name: [each[name] for each in found] for name in MEASURES}
    depth = [window.depth for window in windows]
    spent = 1e3 * seconds / len(windows)
    return SourceRow(method, montage, case.n_sources, case.snr_db, depth, values, spent)


def rounded(row: SourceRow) -> dict[str, Any]:
    """Return a row as plain values with four decimals, for a file."""
    plain = dataclasses.asdict(row)
    plain["values"] = {name: [round(each, 4) for each in values] for name, values in row.values.items()}
    return plain
